//! TLS by the host, against real servers with certificates made for the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::sync::Arc;

use common::{House, call, outcome, report};
use mainstay_runtime::{Kit, Operation, ResourceServices};
use mainstay_test_support::kits::{Target, test_kit};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for `name`.
fn certificate(by: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, by).unwrap(), key)
}

/// A server that answers one connection with what it heard, or ends it when the client does not fit.
async fn server(name: &str, by: &Authority, client_authority: Option<&Authority>) -> u16 {
    let (certificate, key) = certificate(by, name);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that does not trust it breaks off; that is the client's test.
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut heard = [0; 5];
        if stream.read_exact(&mut heard).await.is_ok() {
            let subject = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
            let _ = stream.write_all(format!("{} {subject}", String::from_utf8_lossy(&heard)).as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

struct Client {
    _house: House,
    kit: Arc<Kit>,
    resource: Arc<ResourceServices>,
}

impl Client {
    async fn new(port: u16, secrets: &[(&str, &[u8])]) -> Self {
        let house = House::new();
        for (name, content) in secrets {
            house.secret(name, content);
        }
        let names: Vec<_> = secrets.iter().map(|(name, _)| *name).chain(["none"]).collect();
        let grants = json!({"net": [format!("127.0.0.1:{port}")], "secret": names, "command": ["/x"]});
        let kit = house.load(&test_kit("mainstay-test-probe-kit", Target::Unknown)).await;
        let resource = house.resource("probe", grants);
        Self { _house: house, kit, resource }
    }

    async fn talk(&self, port: u16, name: &str, more: Value) -> (String, String) {
        let mut talk =
            json!({"host": "127.0.0.1", "port": port, "tls-name": name, "write": "hello", "timeout-ms": 40_000});
        for (key, value) in more.as_object().unwrap() {
            talk[key] = value.clone();
        }
        let params = json!({"steps": [{"do": "tcp", "talk": talk}]});
        let mut details =
            report(&outcome(&self.kit, call(Operation::QuickCheck, "probe", &params, &self.resource)).await).details;
        details.pop().unwrap()
    }
}

#[tokio::test]
async fn a_server_that_proves_its_name_by_the_granted_authority_is_spoken_to() {
    let authority = authority();
    let port = server("mail.example.org", &authority, None).await;
    let client = Client::new(port, &[("ca", authority.pem().as_bytes())]).await;
    let said = client.talk(port, "mail.example.org", json!({"trust": "ca"})).await;
    assert_eq!(said, ("ok".to_owned(), "hello 0".to_owned()));
}

#[tokio::test]
async fn another_name_or_another_authority_is_refused() {
    let (right, wrong) = (authority(), authority());
    for (name, trust, words) in [
        ("other.example.org", json!({"trust": "right"}), "the authority in the secret right"),
        ("mail.example.org", json!({"trust": "wrong"}), "the authority in the secret wrong"),
        ("mail.example.org", json!({}), "this system's authorities"),
    ] {
        let port = server("mail.example.org", &right, None).await;
        let client = Client::new(port, &[("right", right.pem().as_bytes()), ("wrong", wrong.pem().as_bytes())]).await;
        let (how, said) = client.talk(port, name, trust).await;
        assert_eq!(how, "fault", "{said}");
        assert!(said.starts_with("Failed tls-certificate") && said.contains(words) && said.contains(name), "{said}");
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_when_it_has_one() {
    let authority = authority();
    let (certificate, key) = certificate(&authority, "ex01");
    let identity = format!("{}{}", certificate.pem(), key.serialize_pem());
    let secrets = [("ca", authority.pem().into_bytes()), ("me", identity.into_bytes())];
    let secrets = secrets.each_ref().map(|(name, content)| (*name, content.as_slice()));

    let port = server("mail.example.org", &authority, Some(&authority)).await;
    let client = Client::new(port, &secrets).await;
    let said = client.talk(port, "mail.example.org", json!({"trust": "ca", "identity": "me"})).await;
    assert_eq!(said, ("ok".to_owned(), "hello 1".to_owned()));

    let port = server("mail.example.org", &authority, Some(&authority)).await;
    let client = Client::new(port, &secrets).await;
    let (how, said) = client.talk(port, "mail.example.org", json!({"trust": "ca"})).await;
    assert_eq!(how, "fault", "without a certificate: {said}");
}

#[tokio::test]
async fn secrets_that_are_no_certificates_are_told_without_their_content() {
    let authority = authority();
    let port = server("mail.example.org", &authority, None).await;
    let client = Client::new(port, &[("text", b"hunter2 is no certificate"), ("ca", authority.pem().as_bytes())]).await;
    let (how, said) = client.talk(port, "mail.example.org", json!({"trust": "text"})).await;
    assert!(how == "fault" && said.starts_with("Failed tls-trust") && !said.contains("hunter2"), "{said}");
    let port = server("mail.example.org", &authority, None).await;
    let client = Client::new(port, &[("text", b"hunter2 is no certificate"), ("ca", authority.pem().as_bytes())]).await;
    let (how, said) = client.talk(port, "mail.example.org", json!({"trust": "ca", "identity": "text"})).await;
    assert!(how == "fault" && said.starts_with("Failed tls-identity") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn secrets_for_tls_have_to_be_granted_and_names_have_to_be_names() {
    let authority = authority();
    let port = server("mail.example.org", &authority, None).await;
    let client = Client::new(port, &[]).await;
    let (how, said) = client.talk(port, "mail.example.org", json!({"trust": "ca"})).await;
    assert!(how == "fault" && said.starts_with("Denied not-granted"), "{said}");
    let port = server("mail.example.org", &authority, None).await;
    let client = Client::new(port, &[]).await;
    let (how, said) = client.talk(port, "no name", json!({})).await;
    assert!(how == "fault" && said.starts_with("Invalid server-name"), "{said}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example.org ESMTP\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    });
    let client = Client::new(port, &[]).await;
    let (how, said) = client.talk(port, "mail.example.org", json!({})).await;
    assert!(how == "fault" && said.starts_with("Failed tls:"), "{said}");
}
