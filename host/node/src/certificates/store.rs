//! A node's own certificate: read anew for every session, so that a new one counts without a restart.
//!
//! Decides whether the files in the directory can be used, and what a person has to know of them. Files that cannot be
//! read, or do not fit together, leave the last good ones in use: they may be in the middle of being replaced.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use mainstay_core::names::NodeName;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::verify::{Credentials, check_chain};
use super::{AUTHORITY_FILE, FILE_BYTES_MAX, Facts, Identity, NODE_FILE, NODE_KEY_FILE, date, facts};
use crate::host_status::HostView;

/// People are warned for so long before a certificate expires: a new one takes them minutes, and they may be away.
pub(crate) const WARN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The files are looked at this often, for people: a session reads them itself.
const LOOK: Duration = Duration::from_secs(60);
/// What is still wrong is said again so often.
const SAY_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a node has nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}; {}", what_to_do(.node))]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// For which node.
        node: NodeName,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {why}; {}", what_to_do(.node))]
    Wrong {
        /// Which.
        path: PathBuf,
        /// For which node.
        node: NodeName,
        /// What is wrong with it.
        why: String,
    },
    /// It counts no longer.
    #[error("{path} has expired on {}; {}", date(*.at), what_to_do(.node))]
    Expired {
        /// Which.
        path: PathBuf,
        /// For which node.
        node: NodeName,
        /// When.
        at: SystemTime,
    },
    /// It does not count yet.
    #[error("{path} counts from {} on only: is the clock of this machine right?", date(*.at))]
    NotYet {
        /// Which.
        path: PathBuf,
        /// From when.
        at: SystemTime,
    },
}

fn what_to_do(node: &NodeName) -> String {
    format!(
        "where the cluster's authority is, `mainstay node add {node} --dir DIR --out NEW` makes new files: copy \
         {AUTHORITY_FILE}, {NODE_FILE} and {NODE_KEY_FILE} here, which needs no restart"
    )
}

/// What was read, and can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it shows and judges by.
    pub credentials: Credentials,
    /// What is said of itself.
    facts: Facts,
    authority: Facts,
    dir: PathBuf,
    node: NodeName,
}

impl Loaded {
    /// Until when this node is believed: its certificate counts no longer then, or the authority does not.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.facts.expires_at.min(self.authority.expires_at)
    }

    /// Whether it counts at this time.
    ///
    /// # Errors
    /// When it does not, with what to do.
    pub fn counts(&self, now: SystemTime) -> Result<(), CertificatesError> {
        for (facts, file) in [(&self.facts, NODE_FILE), (&self.authority, AUTHORITY_FILE)] {
            let (path, node) = (self.dir.join(file), self.node.clone());
            if now > facts.expires_at {
                return Err(CertificatesError::Expired { path, node, at: facts.expires_at });
            }
            if now < facts.valid_from {
                return Err(CertificatesError::NotYet { path, at: facts.valid_from });
            }
        }
        Ok(())
    }

    /// What a person should know, although it can be used.
    #[must_use]
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Ok(left) = self.expires_at().duration_since(now)
            && left <= WARN
        {
            let file = if self.facts.expires_at <= self.authority.expires_at { NODE_FILE } else { AUTHORITY_FILE };
            let days = left.as_secs() / (24 * 60 * 60);
            let path = self.dir.join(file);
            warnings.push(format!(
                "{} expires on {}, in {days} days, and then no node believes this one; {}",
                path.display(),
                date(self.expires_at()),
                what_to_do(&self.node)
            ));
        }
        let key = self.dir.join(NODE_KEY_FILE);
        if let Ok(metadata) = key.metadata() {
            let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
            if mode & 0o077 != 0 || (owner != 0 && owner != nix::unistd::Uid::effective().as_raw()) {
                warnings.push(format!(
                    "{0} has mode {mode:03o} and the owner {owner}: whoever reads it can speak as this node; chown it \
                     to the user that mainstay runs as, and chmod 600 {0}",
                    key.display()
                ));
            }
        }
        warnings
    }
}

/// Where a node's own files are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    own: Identity,
    node: NodeName,
    last: Arc<Mutex<Option<Arc<Loaded>>>>,
}

impl Store {
    /// The files of a node in a directory; nothing is read yet.
    #[must_use]
    pub fn new(dir: PathBuf, cluster: String, node: NodeName) -> Self {
        Self { dir, own: Identity { cluster, node: Some(node.clone()) }, node, last: Arc::default() }
    }

    /// Where the files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the files.
    ///
    /// # Errors
    /// When they are not there, are not this node's, do not fit together, or do not count now.
    pub fn load(&self) -> Result<Loaded, CertificatesError> {
        let loaded = self.load_any()?;
        loaded.counts(SystemTime::now())?;
        Ok(loaded)
    }

    /// The same for the next session, on a thread that may wait for a disk: what cannot be used now leaves what was used
    /// last in use, as long as that counts.
    ///
    /// # Errors
    /// When there is neither.
    pub async fn for_session(&self) -> Result<Arc<Loaded>, CertificatesError> {
        let store = self.clone();
        let read = tokio::task::spawn_blocking(move || store.load()).await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, &*last) {
            (Ok(Ok(loaded)), _) => Ok(last.insert(Arc::new(loaded)).clone()),
            (Ok(Err(error)), Some(before)) if before.counts(SystemTime::now()).is_ok() => {
                tracing::debug!("{error}; what was read before is used");
                Ok(before.clone())
            }
            (Ok(Err(error)), _) => Err(error),
            // The thread was not started because the daemon stops.
            (Err(stopped), _) => Err(CertificatesError::Unreadable {
                path: self.dir.clone(),
                node: self.node.clone(),
                source: io::Error::other(stopped),
            }),
        }
    }

    /// Says what is wrong with the files, in the log and in what the node shows, until the daemon ends.
    pub async fn watch(self, host: HostView) {
        let mut said: Option<(Vec<String>, Instant)> = None;
        loop {
            let store = self.clone();
            // It fails when the daemon stops.
            let Ok(found) = tokio::task::spawn_blocking(move || store.troubles()).await else { return };
            let new = said.as_ref().is_none_or(|(before, at)| *before != found || at.elapsed() >= SAY_AGAIN);
            if new {
                found.iter().for_each(|trouble| tracing::warn!("{trouble}"));
                if found.is_empty() && said.is_some() {
                    tracing::info!("the certificates in {} are in order", self.dir.display());
                }
                host.show_certificates(found.clone());
                said = Some((found, Instant::now()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Everything that a person should know of the files now.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        match self.load() {
            Ok(loaded) => loaded.warnings(SystemTime::now()),
            Err(error) => vec![format!("no session with another node can be made: {error}")],
        }
    }

    /// Whether it counts now or not.
    fn load_any(&self) -> Result<Loaded, CertificatesError> {
        let wrong = |file: &str, why: String| CertificatesError::Wrong {
            path: self.dir.join(file),
            node: self.node.clone(),
            why,
        };
        let read = |file: &str| {
            let path = self.dir.join(file);
            read(&path).map_err(|source| CertificatesError::Unreadable { path, node: self.node.clone(), source })
        };
        let certificate = |file: &str| {
            let der = CertificateDer::from_pem_slice(read(file)?.as_bytes())
                .map_err(|error| wrong(file, format!("it is no certificate: {error}")))?;
            let facts = facts(&der).map_err(|why| wrong(file, why))?;
            Ok((der, facts))
        };
        let (authority, authority_facts) = certificate(AUTHORITY_FILE)?;
        let (own, own_facts) = certificate(NODE_FILE)?;
        let key = PrivateKeyDer::from_pem_slice(read(NODE_KEY_FILE)?.as_bytes())
            .map_err(|error| wrong(NODE_KEY_FILE, format!("it is no key: {error}")))?;
        if own_facts.identity != self.own {
            return Err(wrong(NODE_FILE, format!("it speaks for {}, and this is {}", own_facts.identity, self.own)));
        }
        signed_by(&own, &authority, own_facts.expires_at)
            .map_err(|why| wrong(NODE_FILE, format!("it is not of the authority in {AUTHORITY_FILE}: {why}")))?;
        let credentials = Credentials::new(self.own.cluster.clone(), authority, own, key)
            .map_err(|error| wrong(NODE_KEY_FILE, format!("it is not the key of {NODE_FILE}: {error}")))?;
        Ok(Loaded {
            credentials,
            facts: own_facts,
            authority: authority_facts,
            dir: self.dir.clone(),
            node: self.node.clone(),
        })
    }
}

/// Which node the certificate in a directory speaks for, if there is one that can be read.
#[must_use]
pub fn whose(dir: &Path) -> Option<NodeName> {
    let der = CertificateDer::from_pem_slice(read(&dir.join(NODE_FILE)).ok()?.as_bytes()).ok()?;
    facts(&der).ok()?.identity.node
}

/// Whether the authority has signed the certificate, whatever the time is: as seen when it is about to expire.
pub(super) fn signed_by(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    expires_at: SystemTime,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).map_err(|error| error.to_string())?;
    let at = expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A certificate counts to the second, and not beyond.
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.as_secs()));
    check_chain(certificate, &[], &roots, at).map_err(|error| error.to_string())
}

/// Reads a file that is not longer than such files are.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64;
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::make::{self, Validity};
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// An authority, and the files of its node `a`.
    fn made(days: u32) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        make::authority(dir.path(), "mail", Validity::days(days)).unwrap();
        make::node(dir.path(), &dir.path().join("a"), "a", Validity::days(days)).unwrap();
        let store = Store::new(dir.path().join("a"), "mail".into(), "a".into());
        (dir, store)
    }

    #[track_caller]
    fn refused(store: &Store, words: &str) {
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn what_was_made_is_read() {
        let (_dir, store) = made(100);
        assert!(store.load().unwrap().expires_at() > SystemTime::now());
        assert_eq!(store.troubles(), [] as [&str; 0]);
    }

    #[test]
    fn what_cannot_be_used_is_told_with_the_file_and_what_to_do() {
        let (dir, store) = made(100);
        refused(&Store::new(dir.path().join("a"), "shop".into(), "a".into()), "speaks for mainstay://mail/a");
        refused(&Store::new(dir.path().join("a"), "mail".into(), "b".into()), "and this is mainstay://mail/b");
        let key = dir.path().join("a").join(NODE_KEY_FILE);
        let good = std::fs::read(&key).unwrap();
        std::fs::copy(dir.path().join("ca.key"), &key).unwrap();
        refused(&store, "node.key: it is not the key of node.pem");
        std::fs::write(&key, "nonsense").unwrap();
        refused(&store, "node.key: it is no key");
        std::fs::remove_file(&key).unwrap();
        refused(&store, "node.key cannot be read");
        refused(&store, "`mainstay node add a --dir DIR --out NEW`");
        std::fs::write(&key, good).unwrap();
        store.load().unwrap();
        // The authority of another cluster of the same name.
        let (other, _) = made(100);
        std::fs::copy(other.path().join("ca.pem"), dir.path().join("a").join("ca.pem")).unwrap();
        refused(&store, "node.pem: it is not of the authority in ca.pem");
        std::fs::write(dir.path().join("a").join("ca.pem"), vec![b'x'; 70_000]).unwrap();
        refused(&store, "ca.pem cannot be read: it has more than");
    }

    #[test]
    fn what_expires_is_told_of_ahead_and_what_has_expired_is_refused() {
        let (_dir, store) = made(10);
        let [warning] = &store.troubles()[..] else { panic!("one warning") };
        assert!(warning.contains("node.pem expires on") && warning.contains("in 9 days"), "{warning}");
        let dir = tempfile::tempdir().unwrap();
        make::authority(dir.path(), "mail", Validity::days(100)).unwrap();
        let now = SystemTime::now();
        let past = Validity { from: now - WARN, until: now - LOOK };
        make::node(dir.path(), &dir.path().join("a"), "a", past).unwrap();
        refused(&Store::new(dir.path().join("a"), "mail".into(), "a".into()), "node.pem has expired on");
        let future = Validity { from: now + LOOK, until: now + WARN };
        make::node(dir.path(), &dir.path().join("b"), "b", future).unwrap();
        refused(&Store::new(dir.path().join("b"), "mail".into(), "b".into()), "is the clock of this machine right?");
    }

    #[test]
    fn a_key_that_others_can_read_is_told_of() {
        let (dir, store) = made(100);
        let key = dir.path().join("a").join(NODE_KEY_FILE);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(store.troubles()[0].contains("node.key has mode 644"), "{:?}", store.troubles());
    }

    #[tokio::test]
    async fn new_files_count_for_the_next_session_and_half_of_them_do_no_harm() {
        let (dir, store) = made(50);
        let a = dir.path().join("a");
        let first = store.for_session().await.unwrap().expires_at();
        let new = dir.path().join("new");
        make::node(dir.path(), &new, "a", Validity::days(49)).unwrap();
        std::fs::copy(new.join(NODE_FILE), a.join(NODE_FILE)).unwrap();
        assert_eq!(store.for_session().await.unwrap().expires_at(), first);
        std::fs::copy(new.join(NODE_KEY_FILE), a.join(NODE_KEY_FILE)).unwrap();
        assert!(store.for_session().await.unwrap().expires_at() < first);
    }
}
