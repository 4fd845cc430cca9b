//! Who is at the other end of the mirror link: mutual TLS 1.3 (RFC 8446) with the certificates of the cluster's nodes.
//!
//! A node's certificate names it by a URI in its subject alternative name, `mainstay://CLUSTER/NODE` (the daemon makes
//! them so). The peer has to be the one node that has the other copy, by the cluster's
//! authority; nobody else is spoken to, in either direction.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme,
};
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What both ends say they speak (RFC 7301): a connection that was meant for a daemon does not become a mirror.
const PROTOCOL: &[u8] = b"mainstay-volume/1";
/// A longer file of certificates is none, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Where the certificates are, and who the peer is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Files {
    /// The cluster's name.
    pub cluster: String,
    /// The name of the node that has the other copy.
    pub peer: String,
    /// The authority (`ca.pem`).
    pub authority: PathBuf,
    /// This node's certificate (`node.pem`).
    pub certificate: PathBuf,
    /// Its key (`node.key`).
    pub key: PathBuf,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file that cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is something else.
    #[error("{path} is no PEM file with what it should have: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not belong together.
    #[error("{certificate}, its key and the authority do not belong together: {source}")]
    Together {
        /// The certificate.
        certificate: PathBuf,
        /// Why.
        source: Error,
    },
}

/// Why a peer is not believed.
#[derive(Debug, thiserror::Error)]
pub enum StrangerError {
    /// No certificate, or none that names a node.
    #[error("it shows no certificate of a node: is it a mainstay node?")]
    Nobody,
    /// Somebody else.
    #[error("it shows the certificate of {found}, and not of {expected}: is an address in the config wrong?")]
    Other {
        /// Who it is.
        found: String,
        /// Who it should be.
        expected: String,
    },
    /// Something else.
    #[error("it does not speak the mirror's protocol: is an address in the config wrong?")]
    Protocol,
}

/// What is needed to make a session with the peer.
#[derive(Clone, Debug)]
pub struct Credentials {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    expected: String,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// With which file, and what is wrong with it.
    pub fn load(files: &Files) -> Result<Self, CredentialsError> {
        let authority = certificate(&files.authority)?;
        let own = certificate(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
            .map_err(|source| CredentialsError::Pem { path: files.key.clone(), source })?;
        let expected = format!("mainstay://{}/{}", files.cluster, files.peer);
        Self::new(authority, own, key, expected)
            .map_err(|source| CredentialsError::Together { certificate: files.certificate.clone(), source })
    }

    fn new(
        authority: CertificateDer<'static>,
        own: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        expected: String,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let roots = Arc::new(roots);
        let verifier = Arc::new(OfTheCluster { roots: Arc::clone(&roots) });
        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(vec![own.clone()], key.clone_key())?;
        // Every session shows its certificates anew.
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![own], key)?;
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { client: Arc::new(client), server: Arc::new(server), expected })
    }

    /// A session with whom this node has connected to.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn connect(&self) -> Result<Connection, Error> {
        // Nobody looks at the name: who is meant is judged by the certificate's own.
        let nobody =
            ServerName::try_from("node.mainstay.invalid").map_err(|error| Error::General(error.to_string()))?;
        Ok(ClientConnection::new(Arc::clone(&self.client), nobody)?.into())
    }

    /// A session with whoever has connected.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn accept(&self) -> Result<Connection, Error> {
        Ok(ServerConnection::new(Arc::clone(&self.server))?.into())
    }

    /// Whether the one at the other end of a session, whose certificate the authority has signed, is the peer.
    ///
    /// # Errors
    /// With who it is.
    pub fn judge(&self, session: &Connection) -> Result<(), StrangerError> {
        let shown = session.peer_certificates().and_then(|chain| chain.first()).ok_or(StrangerError::Nobody)?;
        let found = name(shown).ok_or(StrangerError::Nobody)?;
        if found != self.expected {
            return Err(StrangerError::Other { found, expected: self.expected.clone() });
        }
        if session.alpn_protocol() != Some(PROTOCOL) {
            return Err(StrangerError::Protocol);
        }
        Ok(())
    }
}

/// The one implementation of cryptography in this program (see deny.toml).
///
/// AES with 128 bits comes first: TLS 1.3 asks every implementation to have it (RFC 8446 §9.1), and it costs a quarter
/// less of what a mirror computes than the default's 256.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..ring::default_provider() })
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!("it has {bytes} bytes, and at most {FILE_BYTES_MAX} are read"))));
    }
    fs::read(path).map_err(failed)
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>, CredentialsError> {
    CertificateDer::from_pem_slice(&read(path)?)
        .map_err(|source| CredentialsError::Pem { path: path.to_owned(), source })
}

/// The one URI of mainstay's in a certificate. With several it speaks for nobody.
fn name(der: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut ours = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("mainstay://") => Some((*uri).to_owned()),
        GeneralName::URI(_)
        | GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::DNSName(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    });
    match (ours.next(), ours.next()) {
        (Some(name), None) => Some(name),
        (Some(_) | None, _) => None,
    }
}

/// Believes whom the authority has signed. Whom a certificate speaks for is judged after the handshake, alike in both
/// directions ([`Credentials::judge`]).
#[derive(Debug)]
struct OfTheCluster {
    roots: Arc<RootCertStore>,
}

impl ServerCertVerifier for OfTheCluster {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
