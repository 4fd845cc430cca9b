//! TLS for `net`: by the host, so that a kit never holds a key and cannot leave out a check.
//!
//! TLS 1.2 or later; the server has to prove the name that the kit gives, by the system's authorities or by the
//! one in a granted secret, and there is no way to switch that off.

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::capability::{Fault, FaultKind, fault};

/// How a connection is to be secured; secrets already read.
pub(crate) struct Security {
    pub(crate) server_name: String,
    /// Name and PEM of the only authority that is trusted; none: `roots`.
    pub(crate) trust: Option<(String, Vec<u8>)>,
    /// Name and PEM of a client certificate with its key.
    pub(crate) identity: Option<(String, Vec<u8>)>,
}

/// Whom to trust.
pub(crate) fn trust(pem: &(String, Vec<u8>)) -> Result<Arc<RootCertStore>, Fault> {
    let (name, pem) = pem;
    let unusable = |problem: String| {
        fault(
            FaultKind::Failed,
            "tls-trust",
            format!("the secret {name} cannot be used as a certificate authority: {problem}"),
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("there is no certificate in PEM in it".to_owned()));
    }
    Ok(Arc::new(roots))
}

/// The settings for one connection.
pub(crate) fn settings(
    security: &Security,
    roots: Arc<RootCertStore>,
) -> Result<(Arc<ClientConfig>, ServerName<'static>), Fault> {
    let name = ServerName::try_from(security.server_name.clone()).map_err(|_| {
        let name = crate::text::one_line(&security.server_name, 100);
        fault(
            FaultKind::Invalid,
            "server-name",
            format!("`{name}` is no name or address that a certificate could carry"),
        )
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(FaultKind::Failed, "tls", error.to_string()))?
        .with_root_certificates(roots);
    let Some((secret, pem)) = &security.identity else {
        return Ok((Arc::new(builder.with_no_client_auth()), name));
    };
    let unusable = |problem: String| {
        fault(
            FaultKind::Failed,
            "tls-identity",
            format!("the secret {secret} cannot be used as a client certificate: {problem}"),
        )
    };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(unusable("there is no certificate in PEM in it".to_owned()));
    }
    // What the parser says of a key is not repeated: it might hold a piece of it.
    let key =
        PrivateKeyDer::from_pem_slice(pem).map_err(|_| unusable("there is no private key in PEM in it".to_owned()))?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))?;
    Ok((Arc::new(config), name))
}

/// The handshake.
pub(crate) async fn handshake(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<TlsStream<TcpStream>, io::Error> {
    TlsConnector::from(config).connect(name, stream).await
}

/// What the kit is told when it failed.
pub(crate) fn handshake_fault(peer: &str, security: &Security, error: &io::Error) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let name = &security.server_name;
    match tls {
        Some(rustls::Error::InvalidCertificate(problem)) => {
            let by = match &security.trust {
                Some((secret, _)) => format!("the authority in the secret {secret}"),
                None => "this system's authorities".to_owned(),
            };
            fault(
                FaultKind::Failed,
                "tls-certificate",
                format!("{peer} does not prove to be {name}, checked by {by}: {problem}"),
            )
        }
        Some(other) => fault(FaultKind::Failed, "tls", format!("no TLS with {peer} as {name}: {other}")),
        None => fault(
            FaultKind::Closed,
            "tls-closed",
            format!("{peer} broke off while TLS was being set up: {error}; does it speak TLS on this port?"),
        ),
    }
}
