//! What the host knows besides the core: which kits are loaded, which files are not, where it listens, what troubles it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_runtime::KitDirectory;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostStatus {
    /// Where it listens, by comm path.
    pub listening: BTreeMap<String, String>,
    /// The kits that are loaded.
    pub kits: Vec<KitStatus>,
    /// Files in the kit directory that could not be loaded.
    pub refused: Vec<RefusedStatus>,
    /// Everything else that a person should know.
    pub troubles: Vec<String>,
}

/// A kit that is loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KitStatus {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its file.
    pub file: String,
    /// Of the file.
    pub sha256: String,
}

/// A file that could not be loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RefusedStatus {
    /// Which.
    pub file: String,
    /// Why not, and what to do.
    pub error: String,
    /// The version that serves instead, if there is one.
    pub serving: Option<String>,
}

/// Shared between whoever finds something out and whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct HostView(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    status: HostStatus,
    /// What troubles the certificates, beside what troubles the kits.
    certificates: Vec<String>,
}

impl HostView {
    /// Changes what is shown.
    pub fn change(&self, change: impl FnOnce(&mut HostStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).status);
    }

    /// Shows what troubles this node's certificates.
    pub fn show_certificates(&self, troubles: Vec<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).certificates = troubles;
    }

    /// Shows the kits as they are now.
    pub fn show_kits(&self, directory: &KitDirectory, trouble: Option<String>) {
        let kits = directory
            .kits()
            .values()
            .map(|kit| KitStatus {
                name: kit.name().into(),
                version: kit.version().to_string(),
                file: kit.path().display().to_string(),
                sha256: kit.sha256().into(),
            })
            .collect();
        let refused = directory
            .refused()
            .iter()
            .map(|refused| RefusedStatus {
                file: refused.file.display().to_string(),
                error: refused.error.to_string(),
                serving: refused.serving.as_ref().map(|kit| format!("{} {}", kit.name(), kit.version())),
            })
            .collect();
        self.change(|status| {
            status.kits = kits;
            status.refused = refused;
            status.troubles = trouble.into_iter().collect();
        });
    }

    /// What is shown, without what troubles certificates and driver.
    #[must_use]
    pub fn of_kits(&self) -> HostStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).status.clone()
    }

    /// What is shown, with what troubles the driver.
    #[must_use]
    pub fn status(&self, troubles: Vec<String>) -> HostStatus {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut status = shown.status.clone();
        status.troubles.extend(shown.certificates.iter().cloned().chain(troubles));
        status
    }
}
