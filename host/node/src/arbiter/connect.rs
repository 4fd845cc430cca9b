//! From an address in the config to a connection to a member of etcd: TCP, and TLS for `https`.
//!
//! Certificates are read anew for every connection, so that new ones on the disk are used without a restart. Trusts the
//! authorities in `ca.pem` and nobody else.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connecting and agreeing on keys may take this long; longer than any request waits, so that a slow network still gets
/// a connection in the end.
const CONNECT: Duration = Duration::from_secs(5);
/// What was sent and is not acknowledged for so long breaks the connection (TCP_USER_TIMEOUT in tcp(7)), so that a new
/// one is tried.
const SILENT: Duration = Duration::from_secs(5);
/// An idle connection is tried after so long, and then as often, so that one which is gone is noticed.
const IDLE: Duration = Duration::from_secs(5);

/// Where a member is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    endpoint: String,
    authority: Authority,
    port: u16,
    /// The directory of the certificates; none: not encrypted.
    certificates: Option<PathBuf>,
}

/// Why the config's words are no place.
#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` in [arbiter] is no address of etcd: {why}; write http://host:port or https://host:port")]
pub struct PlaceError {
    endpoint: String,
    why: String,
}

/// etcd's port, where the config names none.
const PORT: u16 = 2379;

impl Place {
    /// Reads an address of the config.
    pub(super) fn read(endpoint: &str, certificates: Option<&Path>) -> Result<Self, PlaceError> {
        let wrong = |why: &str| PlaceError { endpoint: endpoint.to_owned(), why: why.to_owned() };
        let uri: Uri = endpoint.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?.clone();
        if uri.path() != "/" && !uri.path().is_empty() {
            return Err(wrong("there is a path after the port"));
        }
        let certificates = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => {
                Some(certificates.ok_or_else(|| wrong("it is encrypted, and there are no certificates"))?.to_owned())
            }
            _ => return Err(wrong("it begins with neither http:// nor https://")),
        };
        let port = match authority.port_u16() {
            Some(port) => port,
            None if authority.as_str() == authority.host() => PORT,
            None => return Err(wrong("what follows the host is no port")),
        };
        Ok(Self { endpoint: endpoint.to_owned(), authority, port, certificates })
    }

    /// As the config has it.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it can be connected to.
    pub(super) async fn try_out(&self) -> io::Result<()> {
        self.connect().await.map(drop)
    }

    async fn connect(&self) -> io::Result<TokioIo<Box<dyn Connection>>> {
        // An IPv6 address stands in brackets.
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, self.port)).await?;
        tcp.set_nodelay(true)?;
        let socket = SockRef::from(&tcp);
        socket.set_tcp_user_timeout(Some(SILENT))?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(IDLE))?;
        let Some(certificates) = &self.certificates else { return Ok(TokioIo::new(Box::new(tcp))) };
        let config = read_certificates(certificates).await?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        Ok(TokioIo::new(Box::new(tls)))
    }
}

/// Anything that bytes go through.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Connects to one place, again and again: the service that tonic asks for a connection.
#[derive(Clone, Debug)]
pub(super) struct Connector(Place);

impl Connector {
    pub(super) fn new(place: Place) -> Self {
        Self(place)
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Connection>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let place = self.0.clone();
        Box::pin(async move {
            tokio::time::timeout(CONNECT, place.connect()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }
}

/// What TLS needs, from `ca.pem`, `client.pem` and `client.key`.
async fn read_certificates(directory: &Path) -> io::Result<ClientConfig> {
    let ca = read(directory, "ca.pem").await?;
    let chain = read(directory, "client.pem").await?;
    let key = read(directory, "client.key").await?;
    let wrong = |name: &str, error: &dyn std::fmt::Display| {
        io::Error::other(format!("{}: {error}", directory.join(name).display()))
    };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&ca) {
        let authority = authority.map_err(|error| wrong("ca.pem", &error))?;
        roots.add(authority).map_err(|error| wrong("ca.pem", &error))?;
    }
    if roots.is_empty() {
        return Err(wrong("ca.pem", &"there is no certificate in it"));
    }
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong("client.pem", &error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong("client.key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong("client.key", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn read(directory: &Path, name: &str) -> io::Result<Vec<u8>> {
    let path = directory.join(name);
    tokio::fs::read(&path).await.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let place = |text: &str| Place::read(text, Some(Path::new("/etc/certificates")));
        assert_eq!(place("https://etcd1.example.org:2379").unwrap().port, 2379);
        assert_eq!(place("http://[2001:db8::1]:4001/").unwrap().port, 4001);
        assert_eq!(place("http://192.0.2.1").unwrap().port, PORT);
        assert!(place("http://192.0.2.1").unwrap().certificates.is_none());
        for wrong in ["192.0.2.1:2379", "ftp://a:1", "http://a:1/v3", "http://", "http://a:99999", "http://a b"] {
            let error = place(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(Place::read("https://a:1", None).is_err());
    }
}
