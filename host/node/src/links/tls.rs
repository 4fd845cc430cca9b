//! A connection made secure: both ends have shown a certificate that the other believes, before a word is said.
//!
//! TLS 1.3 (RFC 8446), each end with its own certificate. Says who is at the other end, and takes from the handshake the
//! keys that its heartbeats will be sealed with.

use std::io;

use mainstay_core::names::NodeName;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, Error, OtherError};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::dropped::Reason;
use super::keys::{EXPORTER_LABEL, SECRET_BYTES, SessionKeys, Side};
use super::wire::FrameError;
use crate::certificates::{CertificatesError, Store, facts};

/// What a ServerName has to be, and nobody looks at: who is meant is judged by the certificate's own name.
const NOBODY: &str = "node.mainstay.invalid";

/// A connection of which it is known who is at its other end.
#[derive(Debug)]
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    /// Whose certificate was shown.
    pub(super) peer: NodeName,
    pub(super) keys: SessionKeys,
}

/// Why there is no session, or none any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{0}")]
    Own(#[from] CertificatesError),
    #[error("{0}")]
    Connection(#[from] io::Error),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("it says: {0}")]
    Refused(String),
    #[error("{0}")]
    Foreign(String),
    #[error("it has not said who it is")]
    NoHello,
    #[error("it has not said who it is within {0} s")]
    Stranger(f32),
    #[error("no answer within {0} s")]
    NoAnswer(f32),
    #[error("another session takes its place")]
    Replaced,
    #[error("this daemon stops")]
    Stopping,
}

impl LinkError {
    /// What the other end has done wrong, if it has: connections that break, and what this node lacks, are not that.
    pub(super) fn blame(&self) -> Option<(Reason, String)> {
        let broken = |error: &io::Error| {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())?;
            Some(judge(tls))
        };
        match self {
            Self::Connection(error) | Self::Frame(FrameError::Connection(error)) => broken(error),
            Self::Frame(error @ FrameError::TooLong { .. }) => Some((Reason::TooLong, error.to_string())),
            Self::Frame(error @ FrameError::Malformed(_)) => Some((Reason::Malformed, error.to_string())),
            Self::Foreign(why) => Some((Reason::Foreign, why.clone())),
            Self::NoHello => Some((Reason::Malformed, self.to_string())),
            Self::Stranger(_) => Some((Reason::Unauthenticated, self.to_string())),
            Self::Own(_) | Self::Setup(_) | Self::Refused(_) | Self::NoAnswer(_) | Self::Replaced | Self::Stopping => {
                None
            }
        }
    }
}

/// Makes a connection to this peer secure; with anybody else at its end, nothing is said.
pub(super) async fn connect(certificates: &Store, peer: &NodeName, stream: TcpStream) -> Result<Secured, LinkError> {
    let config = certificates.for_session().await?.credentials.to_connect(peer)?;
    let name = ServerName::try_from(NOBODY).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    secured(stream.into(), Side::Connected)
}

/// Makes a connection secure that somebody has made, a node of this cluster.
pub(super) async fn accept(certificates: &Store, stream: TcpStream) -> Result<Secured, LinkError> {
    let config = certificates.for_session().await?.credentials.to_accept()?;
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    secured(stream.into(), Side::Accepted)
}

fn secured(stream: TlsStream<TcpStream>, side: Side) -> Result<Secured, LinkError> {
    let (_, state) = stream.get_ref();
    let shown = state.peer_certificates().and_then(|chain| chain.first()).map(|certificate| facts(certificate));
    let Some(Ok(facts)) = shown else { return Err(LinkError::NoHello) };
    let Some(peer) = facts.identity.node else { return Err(LinkError::NoHello) };
    let secret = match &stream {
        TlsStream::Client(stream) => export(|out| stream.get_ref().1.export_keying_material(out, EXPORTER_LABEL, None)),
        TlsStream::Server(stream) => export(|out| stream.get_ref().1.export_keying_material(out, EXPORTER_LABEL, None)),
    }?;
    Ok(Secured { peer, keys: SessionKeys::new(&secret, side), stream })
}

fn export(
    from: impl FnOnce([u8; SECRET_BYTES]) -> Result<[u8; SECRET_BYTES], rustls::Error>,
) -> Result<[u8; SECRET_BYTES], rustls::Error> {
    from([0; SECRET_BYTES])
}

/// What a failed handshake is counted as, and in words for people.
#[allow(clippy::wildcard_enum_match_arm, reason = "rustls has many errors, and will have more")]
fn judge(error: &Error) -> (Reason, String) {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(foreign))) => {
            (Reason::Foreign, foreign.to_string())
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            let what =
                "its certificate has expired: `mainstay node add` makes a new one; or this node's clock is wrong";
            (Reason::Unauthenticated, what.into())
        }
        Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            (Reason::Unauthenticated, "its certificate does not count yet: a clock is wrong, of either node".into())
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            (Reason::Foreign, "its certificate is not of this cluster's authority (ca.pem)".into())
        }
        Error::NoCertificatesPresented => (Reason::Unauthenticated, "it shows no certificate".into()),
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            (Reason::Foreign, "it does not believe this node's certificate: are both of one authority (ca.pem)?".into())
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            (Reason::Unauthenticated, "it says that this node's certificate has expired, or its clock is wrong".into())
        }
        Error::AlertReceived(alert) => (Reason::Foreign, format!("it refuses this node's certificate: {alert:?}")),
        Error::InvalidCertificate(why) => (Reason::Foreign, format!("its certificate is refused: {why:?}")),
        other => (Reason::Malformed, format!("it does not speak TLS 1.3 as a node does: {other}")),
    }
}
