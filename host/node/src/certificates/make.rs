//! Makes certificates: the cluster's authority, and what each node shows.
//!
//! Decides what stands in them, how long they count, and who may read their files. Never writes over a file: whoever
//! wants a new one says where, or removes the old one.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_core::names::{self, NodeName};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{
    AUTHORITY_FILE, AUTHORITY_KEY_FILE, FILE_BYTES_MAX, Identity, NODE_FILE, NODE_KEY_FILE, date, facts, store,
};

/// An authority counts for ten years, in days: to change it every node needs new files.
pub const AUTHORITY_DAYS: u32 = 3650;
/// A node's certificate counts for two years, in days.
pub const NODE_DAYS: u32 = 730;
/// No certificate counts for longer, in days: a century is a mistake.
pub const DAYS_MAX: u32 = 36_500;
/// What is made counts already for a node whose clock is behind by so much.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// From when until when a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: SystemTime,
    /// Not after.
    pub until: SystemTime,
}

impl Validity {
    /// From now on, for so many days.
    #[must_use]
    pub fn days(days: u32) -> Self {
        let now = SystemTime::now();
        Self { from: now - CLOCK_SKEW, until: now + DAY * days }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Who it speaks for.
    pub identity: Identity,
    /// The files, each with its whole path.
    pub files: Vec<PathBuf>,
    /// Until when it counts.
    pub expires_at: SystemTime,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Not a name of a cluster or a node.
    #[error("`{name}` is no name for a {what}: {problem}")]
    Name {
        /// A cluster or a node.
        what: &'static str,
        /// As given.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file is there.
    #[error("{0} is there already, and is not written over: say another directory, or move it away")]
    Exists(PathBuf),
    /// The file system refuses.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The authority is not to be used.
    #[error("{path}: {why}; `mainstay cluster init` makes an authority, and --dir says where it is")]
    Authority {
        /// Its certificate or key.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A certificate cannot be put together or signed.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Makes the authority of a cluster: `ca.pem` and `ca.key` in `dir`.
///
/// # Errors
/// See [`MakeError`]; nothing is made then, or the file it names is in part.
pub fn authority(dir: &Path, cluster: &str, validity: Validity) -> Result<Made, MakeError> {
    name("cluster", cluster)?;
    let identity = Identity { cluster: cluster.to_owned(), node: None };
    let mut params = params(&identity, &format!("mainstay cluster {cluster}"), validity)?;
    // Nothing below it may sign anything.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let files =
        write(dir, &[(AUTHORITY_KEY_FILE, key.serialize_pem(), true), (AUTHORITY_FILE, certificate.pem(), false)])?;
    Ok(Made { identity, files, expires_at: validity.until })
}

/// Makes what a node shows: `ca.pem`, `node.pem` and `node.key` in `out`, by the authority in `dir`. It counts no longer
/// than the authority does.
///
/// # Errors
/// See [`MakeError`]; nothing is made then, or the file it names is in part.
pub fn node(dir: &Path, out: &Path, node: &str, validity: Validity) -> Result<Made, MakeError> {
    name("node", node)?;
    let (at, key_at) = (dir.join(AUTHORITY_FILE), dir.join(AUTHORITY_KEY_FILE));
    let wrong = |path: &Path, why: String| MakeError::Authority { path: path.to_owned(), why };
    let read = |path: &Path| store::read(path).map_err(|error| wrong(path, format!("it cannot be read: {error}")));
    let (pem, key_pem) = (read(&at)?, read(&key_at)?);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| wrong(&at, error.to_string()))?;
    let authority = facts(&der).map_err(|why| wrong(&at, why))?;
    let Identity { cluster, node: None } = authority.identity else {
        return Err(wrong(&at, format!("it is the certificate of {}, and no authority", authority.identity)));
    };
    if authority.expires_at <= SystemTime::now() {
        return Err(wrong(&at, format!("the authority has expired on {}", date(authority.expires_at))));
    }
    let key = KeyPair::from_pem(&key_pem).map_err(|error| wrong(&key_at, format!("it is no key: {error}")))?;
    let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| wrong(&at, error.to_string()))?;

    let identity = Identity { cluster, node: Some(NodeName::new(node)) };
    let validity = Validity { until: validity.until.min(authority.expires_at), ..validity };
    let mut params = params(&identity, node, validity)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Of two nodes either may be the one that connects.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    store::signed_by(certificate.der(), &der, validity.until)
        .map_err(|why| wrong(&key_at, format!("it is not the key of {}: {why}", at.display())))?;
    let files = write(
        out,
        &[
            (NODE_KEY_FILE, key.serialize_pem(), true),
            (NODE_FILE, certificate.pem(), false),
            (AUTHORITY_FILE, pem, false),
        ],
    )?;
    Ok(Made { identity, files, expires_at: validity.until })
}

fn name(what: &'static str, name: &str) -> Result<(), MakeError> {
    names::problem(name).map_or(Ok(()), |problem| Err(MakeError::Name { what, name: name.to_owned(), problem }))
}

fn params(identity: &Identity, title: &str, validity: Validity) -> Result<CertificateParams, MakeError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, title);
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (params.not_before, params.not_after) = (epoch + since(validity.from), epoch + since(validity.until));
    Ok(params)
}

/// Writes files that are not there yet, each with its name and whether it is secret.
fn write(dir: &Path, files: &[(&str, String, bool)]) -> Result<Vec<PathBuf>, MakeError> {
    let paths: Vec<PathBuf> = files.iter().map(|(name, ..)| dir.join(name)).collect();
    // Before the first is made, so that there is not half of a set.
    if let Some(there) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(MakeError::Exists(there.clone()));
    }
    let error = |path: &Path, doing| {
        let path = path.to_owned();
        move |source| MakeError::Io { path, doing, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(error(dir, "make"))?;
    for ((_, text, secret), path) in files.iter().zip(&paths) {
        debug_assert!((text.len() as u64) < FILE_BYTES_MAX);
        let mode = if *secret { 0o600 } else { 0o644 };
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
            Ok(file) => file,
            Err(there) if there.kind() == io::ErrorKind::AlreadyExists => return Err(MakeError::Exists(path.clone())),
            Err(source) => return Err(error(path, "make")(source)),
        };
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(error(path, "write"))?;
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_says_who_and_until_when_and_its_keys_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority(dir.path(), "mail", Validity::days(30)).unwrap();
        assert_eq!(ca.identity.to_string(), "mainstay://mail");
        assert_eq!(mode(&dir.path().join(AUTHORITY_KEY_FILE)), 0o600);
        let out = dir.path().join("ex01");
        let made = node(dir.path(), &out, "ex01", Validity::days(10)).unwrap();
        assert_eq!(made.identity.to_string(), "mainstay://mail/ex01");
        assert_eq!((mode(&out), mode(&out.join(NODE_KEY_FILE)), mode(&out.join(NODE_FILE))), (0o700, 0o600, 0o644));
        let pem = std::fs::read(out.join(NODE_FILE)).unwrap();
        let facts = facts(&CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        assert_eq!(facts.identity, made.identity);
        assert!(made.expires_at.duration_since(facts.expires_at).unwrap() < Duration::from_secs(1));
        assert!(facts.valid_from < SystemTime::now());
    }

    #[test]
    fn a_node_does_not_outlive_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        let ca = authority(dir.path(), "mail", Validity::days(30)).unwrap();
        let made = node(dir.path(), &dir.path().join("a"), "a", Validity::days(60)).unwrap();
        assert!(made.expires_at <= ca.expires_at);
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        authority(dir.path(), "mail", Validity::days(30)).unwrap();
        let before = std::fs::read(dir.path().join(AUTHORITY_KEY_FILE)).unwrap();
        let again = authority(dir.path(), "mail", Validity::days(30)).unwrap_err();
        assert!(matches!(&again, MakeError::Exists(path) if path.ends_with("ca.key")), "{again}");
        assert_eq!(std::fs::read(dir.path().join(AUTHORITY_KEY_FILE)).unwrap(), before);
        let out = dir.path().join("a");
        node(dir.path(), &out, "a", Validity::days(1)).unwrap();
        std::fs::remove_file(out.join(NODE_KEY_FILE)).unwrap();
        // One of the three is enough, and the others are not made beside it.
        assert!(matches!(node(dir.path(), &out, "a", Validity::days(1)), Err(MakeError::Exists(_))));
        assert!(!out.join(NODE_KEY_FILE).exists());
    }

    #[test]
    fn what_is_no_authority_or_no_name_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let one_day = Validity::days(1);
        let refused = |made: Result<Made, MakeError>, words: &str| {
            let error = made.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        refused(node(dir.path(), &dir.path().join("a"), "a", one_day), "mainstay cluster init");
        refused(authority(dir.path(), "no name", one_day), "`no name` is no name for a cluster");
        authority(dir.path(), "mail", one_day).unwrap();
        refused(node(dir.path(), &dir.path().join("a"), "a/b", one_day), "`a/b` is no name for a node");
        let a = dir.path().join("a");
        node(dir.path(), &a, "a", one_day).unwrap();
        // A node's files are no authority's.
        std::fs::copy(a.join(NODE_KEY_FILE), a.join(AUTHORITY_KEY_FILE)).unwrap();
        std::fs::copy(a.join(NODE_FILE), a.join(AUTHORITY_FILE)).unwrap();
        refused(node(&a, &dir.path().join("b"), "b", one_day), "and no authority");
        // Nor is another key the authority's.
        std::fs::copy(dir.path().join(AUTHORITY_FILE), a.join(AUTHORITY_FILE)).unwrap();
        refused(node(&a, &dir.path().join("b"), "b", one_day), "it is not the key of");
        assert!(!dir.path().join("b").exists());
        let old = tempfile::tempdir().unwrap();
        let past = SystemTime::now() - DAY;
        authority(old.path(), "mail", Validity { from: past - DAY, until: past }).unwrap();
        refused(node(old.path(), &old.path().join("a"), "a", one_day), "the authority has expired on");
    }
}
