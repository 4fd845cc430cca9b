//! Judges what a peer shows: whether the cluster's authority has signed it, whether it counts now, and whom it speaks
//! for. Both ends of a session do, by TLS 1.3 and nothing older.

use std::fmt;
use std::sync::Arc;

use mainstay_core::names::NodeName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::{Identity, facts};

/// The one implementation of cryptography in this program (see deny.toml).
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What a node needs to make a session, and to judge one that it made.
#[derive(Clone)]
pub struct Credentials {
    cluster: String,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Of the cluster's authority and a node's own certificate and key.
    ///
    /// # Errors
    /// When key and certificate do not belong together, or the authority is none.
    pub(super) fn new(
        cluster: String,
        authority: CertificateDer<'static>,
        own: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority)?;
        let made = Self { cluster, roots: Arc::new(roots), chain: vec![own], key: Arc::new(key) };
        // Now rather than when somebody connects.
        made.to_accept()?;
        Ok(made)
    }

    /// For connecting to a peer, which has to be this one.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn to_connect(&self, peer: &NodeName) -> Result<Arc<ClientConfig>, Error> {
        let verifier = Peers { credentials: self.clone(), expected: Some(peer.clone()), clients: self.clients()? };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        // Every session shows its certificates anew.
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// For whoever connects.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn to_accept(&self) -> Result<Arc<ServerConfig>, Error> {
        let verifier = Peers { credentials: self.clone(), expected: None, clients: self.clients()? };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn clients(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|error| Error::General(error.to_string()))
    }
}

/// Judges both who connects and who is connected to.
#[derive(Debug)]
struct Peers {
    credentials: Credentials,
    /// Who it has to be; none: any node of the cluster.
    expected: Option<NodeName>,
    /// rustls's own judge of those who connect, but for whom they speak for.
    clients: Arc<dyn ClientCertVerifier>,
}

impl Peers {
    /// To be asked after the authority's signature was found good.
    fn speaks_for(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let wrong =
            |why: String| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Foreign(why)))));
        let Identity { cluster, node } = facts(certificate).map_err(wrong)?.identity;
        let Some(node) = node else { return Err(wrong("it is an authority's certificate, and no node's".into())) };
        if cluster != self.credentials.cluster {
            return Err(wrong(format!(
                "it is the certificate of {node} of the cluster {cluster}, and this cluster is {}",
                self.credentials.cluster
            )));
        }
        match &self.expected {
            Some(expected) if *expected != node => Err(wrong(format!(
                "it is the certificate of {node}, and not of {expected}: is an address in the config wrong?"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &provider().signature_verification_algorithms)
    }
}

/// A certificate by the right authority that speaks for somebody else.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Foreign(String);

const NO_TLS12: &str = "TLS 1.2 is not spoken here";

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_chain(end_entity, intermediates, &self.credentials.roots, now)?;
        self.speaks_for(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Peers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Nothing is told to strangers about whom this node believes; a node has one certificate to show anyway.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.clients.verify_client_cert(end_entity, intermediates, now)?;
        self.speaks_for(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Whether `roots` have signed a certificate that counts at `now` (RFC 5280 §6).
pub(super) fn check_chain(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
}
