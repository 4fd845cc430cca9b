//! What one resource has, over all its calls: its grants, its store, its secrets, its share of the log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use mainstay_supervisor::Commands;
use tokio::sync::Semaphore;

use crate::bucket::Bucket;
use crate::capability::store::Folder;
use crate::grants::Grants;
use crate::volumes::{NoVolumes, Volumes};

/// What the calls of one resource reach. Made once per resource and shared by its calls, which come one at a time.
#[derive(Debug)]
pub struct ResourceServices {
    pub(crate) grants: Grants,
    pub(crate) store: Arc<Folder>,
    pub(crate) secrets_dir: Option<PathBuf>,
    pub(crate) commands: Commands,
    pub(crate) volumes: Arc<dyn Volumes>,
    /// Whoever touches a file system or device that may never come back: one at a time, also after its call is over.
    pub(crate) touching: Arc<Semaphore>,
    pub(crate) log: Mutex<Bucket>,
    pub(crate) audit: Arc<Mutex<Bucket>>,
}

impl ResourceServices {
    /// `store_dir` belongs to this resource alone and is made when it is first written to; `secrets_dir` holds one
    /// file per secret; `commands` runs its programs.
    #[must_use]
    pub fn new(grants: Grants, store_dir: PathBuf, secrets_dir: Option<PathBuf>, commands: Commands) -> Self {
        Self {
            grants,
            store: Arc::new(Folder::new(store_dir)),
            secrets_dir,
            commands,
            volumes: Arc::new(NoVolumes),
            touching: Arc::new(Semaphore::new(1)),
            log: Mutex::default(),
            audit: Arc::default(),
        }
    }

    /// With volumes: without, every volume is unavailable.
    #[must_use]
    pub fn with_volumes(self, volumes: Arc<dyn Volumes>) -> Self {
        Self { volumes, ..self }
    }

    /// What it is granted.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }
}
