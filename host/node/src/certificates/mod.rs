//! What nodes show each other to be believed: a certificate each, of one authority for the cluster.
//!
//! A node has three files in one directory: `ca.pem`, the authority that it believes; `node.pem` and `node.key`, what
//! it shows itself. Who a certificate speaks for is a URI in its subject alternative name (RFC 5280 §4.2.1.6):
//! `mainstay://CLUSTER/NODE`, and `mainstay://CLUSTER` for the authority. A URI, because names of mainstay may hold what
//! a host name may not, and because a certificate of anything else never has one by chance.
//!
//! [`make`] makes them, [`store`] reads a node's own, [`verify`] judges those of others. Nothing here knows of links.

pub mod make;
pub mod store;
pub mod verify;

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_core::names::NodeName;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

pub use store::{CertificatesError, Loaded, Store};

/// The authority's certificate: on every node the same.
pub const AUTHORITY_FILE: &str = "ca.pem";
/// The authority's key. It stays where certificates are made, and is on no node.
pub const AUTHORITY_KEY_FILE: &str = "ca.key";
/// A node's certificate.
pub const NODE_FILE: &str = "node.pem";
/// A node's key.
pub const NODE_KEY_FILE: &str = "node.key";
/// A longer file of these is none, in bytes: a certificate has about 1 KiB, and an authority may hand over to another.
pub const FILE_BYTES_MAX: u64 = 64 << 10;

const SCHEME: &str = "mainstay://";

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of which cluster.
    pub cluster: String,
    /// Which node; none: the authority of all of them.
    pub node: Option<NodeName>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Some(node) => write!(f, "{SCHEME}{}/{node}", self.cluster),
            None => write!(f, "{SCHEME}{}", self.cluster),
        }
    }
}

impl Identity {
    fn parse(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix(SCHEME)?;
        let (cluster, node) = rest.split_once('/').map_or((rest, None), |(cluster, node)| (cluster, Some(node)));
        let names = [Some(cluster), node];
        names
            .into_iter()
            .flatten()
            .all(|name| mainstay_core::names::problem(name).is_none())
            .then(|| Self { cluster: cluster.to_owned(), node: node.map(NodeName::new) })
    }
}

/// What is read from a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who it speaks for.
    pub identity: Identity,
    /// From when on.
    pub valid_from: SystemTime,
    /// Until when.
    pub expires_at: SystemTime,
}

/// Reads a certificate (DER); without an identity of mainstay's, or with several, it is none of ours.
///
/// # Errors
/// With what it is not.
pub fn facts(der: &[u8]) -> Result<Facts, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "it is no certificate".to_owned())?;
    let names = certificate.subject_alternative_name().map_err(|error| format!("its names cannot be read: {error}"))?;
    let mut identities = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Identity::parse(uri),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::DNSName(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    });
    let (Some(identity), None) = (identities.next(), identities.next()) else {
        return Err("it is no certificate of mainstay's: it does not name one cluster or one node".to_owned());
    };
    let validity = certificate.validity();
    Ok(Facts {
        identity,
        valid_from: time(validity.not_before.timestamp()),
        expires_at: time(validity.not_after.timestamp()),
    })
}

/// Until when a certificate counts, of whatever it is: that by which a node is known to the arbiter, say.
///
/// # Errors
/// With why it cannot be read.
pub fn expires_at(file: &Path) -> Result<SystemTime, String> {
    let pem = store::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let none = |error: &dyn fmt::Display| format!("{} is no certificate: {error}", file.display());
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| none(&error))?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| none(&error))?;
    Ok(time(certificate.validity().not_after.timestamp()))
}

/// A certificate's time. One before 1970 is as good as 1970.
fn time(unix_s: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_s).unwrap_or(0))
}

/// For people: the day and the time, UTC.
#[must_use]
pub fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_when_any_certificate_counts_is_read() {
        let dir = tempfile::tempdir().unwrap();
        make::authority(dir.path(), "mail", make::Validity::days(10)).unwrap();
        let left = expires_at(&dir.path().join(AUTHORITY_FILE)).unwrap().duration_since(SystemTime::now()).unwrap();
        assert_eq!(left.as_secs() / 86_400, 9);
        assert!(expires_at(&dir.path().join(AUTHORITY_KEY_FILE)).unwrap_err().contains("ca.key is no certificate"));
        assert!(expires_at(Path::new("/nonexistent.pem")).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn an_identity_reads_as_it_is_written() {
        let ours = |uri: &str| Identity::parse(uri).map(|identity| identity.to_string());
        for uri in ["mainstay://mail/ex01", "mainstay://mail", "mainstay://a_b.c-d/E.f"] {
            assert_eq!(ours(uri).as_deref(), Some(uri));
        }
        for uri in ["https://mail/ex01", "mainstay://", "mainstay:///a", "mainstay://mail/", "mainstay://mail/a/b", ""]
        {
            assert_eq!(ours(uri), None, "{uri}");
        }
    }
}
