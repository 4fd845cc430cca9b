//! TLS: who may reach etcd, and what is told to one who may not.

use std::path::PathBuf;

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterRequest};
use mainstay_core::spec::ArbiterSpec;
use mainstay_core::time::Millis;
use mainstay_test_support::{Etcd, TempDir};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::client::{Client, spec};

/// `ca.pem`, and a server's and a client's certificate of it.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let folder = TempDir::new();
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        folder.write("ca.pem", ca.self_signed(&key).expect("a certificate").pem());
        let issuer = Issuer::new(ca, key);
        for (name, purpose) in
            [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
        {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
            // A member connects to itself as a client, for its HTTP gateway.
            params.extended_key_usages = vec![purpose, ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().expect("a key");
            folder.write(format!("{name}.pem"), params.signed_by(&key, &issuer).expect("a certificate").pem());
            folder.write(format!("{name}.key"), key.serialize_pem());
        }
        Self(folder)
    }

    fn copy(&self, file: &str, to: &Self) {
        std::fs::copy(self.path().join(file), to.path().join(file)).expect("it was written");
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

fn with(endpoints: Vec<String>, certificates: &Certificates) -> ArbiterSpec {
    ArbiterSpec { certificates: Some(certificates.path().display().to_string()), ..spec(endpoints, Millis(10_000)) }
}

async fn refused(spec: &ArbiterSpec) -> String {
    match Client::new("a", spec).ask(ArbiterRequest::Renew).await {
        ArbiterAnswer::Failed(why) => why,
        other @ (ArbiterAnswer::Renewed { .. } | ArbiterAnswer::Done { .. }) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_right_certificates_are_let_in_and_no_others() {
    let certificates = Certificates::new();
    let Some(etcd) = Etcd::start_with(1, Some(&certificates.path())) else { return };
    let mut a = Client::new("a", &with(etcd.endpoints(), &certificates));
    assert!(a.take(0, 1).await.0);

    // A server that somebody else vouches for: not trusted.
    let others = Certificates::new();
    let why = refused(&with(etcd.endpoints(), &others)).await;
    assert!(why.contains("certificate"), "{why}");

    // A client that somebody else vouches for: turned away by etcd.
    certificates.copy("ca.pem", &others);
    let why = refused(&with(etcd.endpoints(), &others)).await;
    assert!(why.contains("certificate") || why.contains("alert"), "{why}");

    // Certificates are read for every connection: with the right ones in place it is let in without a restart.
    let mut late = Client::new("b", &with(etcd.endpoints(), &others));
    assert!(matches!(late.ask(ArbiterRequest::Renew).await, ArbiterAnswer::Failed(_)));
    certificates.copy("client.pem", &others);
    certificates.copy("client.key", &others);
    late.renew().await;

    // Files that are not there are named.
    std::fs::remove_file(others.path().join("client.key")).unwrap();
    let why = refused(&with(etcd.endpoints(), &others)).await;
    assert!(why.contains("client.key"), "{why}");

    // Without TLS to a member that wants it.
    let plain: Vec<String> = etcd.endpoints().iter().map(|endpoint| endpoint.replace("https", "http")).collect();
    refused(&spec(plain, Millis(10_000))).await;
}
