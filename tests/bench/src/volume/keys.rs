//! Certificates by which both ends of a mirror know each other: the same for mainstay and for qemu.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

use crate::trouble::Trouble;

/// An authority and what it has certified, in a folder.
#[derive(Debug)]
pub struct Keys(PathBuf);

/// The two nodes, in the order of the sides A and B.
pub const NODES: [&str; 2] = ["ex01", "ex02"];

impl Keys {
    /// Makes all of them in a new folder.
    ///
    /// # Errors
    /// When they cannot be made or written.
    pub fn new(folder: PathBuf) -> Result<Self, Trouble> {
        let failed = |error: rcgen::Error| Trouble::Unexpected("making certificates", error.to_string());
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().map_err(failed)?;
        let authority = params.self_signed(&key).map_err(failed)?.pem();
        let issuer = Issuer::new(params, key);
        let keys = Self(folder);
        for node in NODES {
            let mut params = CertificateParams::default();
            let name = format!("mainstay://mail/{node}").try_into().map_err(failed)?;
            // qemu looks for the address that it connects to, mainstay for the node's name.
            params.subject_alt_names = vec![SanType::URI(name), SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
            // qemu refuses a key that may not encipher keys, though TLS 1.3 never asks it to.
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
            let key = KeyPair::generate().map_err(failed)?;
            let certificate = params.signed_by(&key, &issuer).map_err(failed)?.pem();
            let folder = keys.of(node);
            fs::create_dir_all(&folder).map_err(Trouble::file("make", &folder))?;
            // By the names that qemu looks for.
            for (file, text) in [
                ("ca-cert.pem", &authority),
                ("server-cert.pem", &certificate),
                ("client-cert.pem", &certificate),
                ("server-key.pem", &key.serialize_pem()),
                ("client-key.pem", &key.serialize_pem()),
            ] {
                let path = folder.join(file);
                fs::write(&path, text).map_err(Trouble::file("write", &path))?;
            }
        }
        Ok(keys)
    }

    /// The folder of a node's files, as qemu wants it.
    #[must_use]
    pub fn of(&self, node: &str) -> PathBuf {
        let folder: &Path = &self.0;
        folder.join(node)
    }
}
