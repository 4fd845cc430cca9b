//! What all calls of one runtime share beside the engines: limits, and the few things that would otherwise be
//! used without bound by many calls at once.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use tokio::sync::{OnceCell, Semaphore};

use crate::capability::service::System;
use crate::limits::Limits;

/// Shared by all calls of a runtime.
pub(crate) struct Host {
    pub(crate) limits: Limits,
    /// Name look-ups: each blocks a thread.
    lookups: Arc<Semaphore>,
    /// File operations: each blocks a thread.
    files: Arc<Semaphore>,
    /// Calls that compute.
    pub(crate) turns: Arc<Semaphore>,
    /// Who knows of the system's services.
    pub(crate) system: System,
    /// The system's certificate authorities, read when first needed.
    roots: OnceCell<Arc<RootCertStore>>,
}

/// Why something that blocks a thread did not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Blocked {
    /// It, or its turn, took longer than the call has.
    #[error("it did not come back in time")]
    Timeout,
    /// It panicked.
    #[error("it broke down inside the host")]
    Panic,
}

impl Host {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(limits.lookups_max)),
            files: Arc::new(Semaphore::new(limits.file_operations_max)),
            turns: Arc::new(Semaphore::new(limits.computing_calls_max.max(1))),
            system: System::new(),
            roots: OnceCell::new(),
            limits,
        }
    }

    /// Runs a file operation on a thread that may block. It goes on after a timeout; it cannot be taken back.
    pub(crate) async fn file_operation<T: Send + 'static>(
        &self,
        limit: Duration,
        operation: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Blocked> {
        blocking(&self.files, limit, operation).await
    }

    /// Runs a name look-up on a thread that may block.
    pub(crate) async fn lookup<T: Send + 'static>(
        &self,
        limit: Duration,
        operation: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Blocked> {
        blocking(&self.lookups, limit, operation).await
    }

    /// The system's certificate authorities.
    pub(crate) async fn roots(&self, limit: Duration) -> Result<Arc<RootCertStore>, Blocked> {
        let load = || self.file_operation(limit, load_roots);
        self.roots.get_or_try_init(load).await.cloned()
    }
}

/// The permit is held until the thread is really free, not until the caller gives up.
async fn blocking<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    limit: Duration,
    operation: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Blocked> {
    let work = async {
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| Blocked::Panic)?;
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            operation()
        });
        task.await.map_err(|_| Blocked::Panic)
    };
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Blocked::Timeout))
}

fn load_roots() -> Arc<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if unusable > 0 || !found.errors.is_empty() {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        tracing::debug!(unusable, ?errors, "some of the system's certificate authorities cannot be used");
    }
    Arc::new(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_blocks_does_not_hold_up_its_caller_and_keeps_its_permit() {
        let host = Host::new(Limits { file_operations_max: 1, ..Limits::default() });
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let slow = host.file_operation(Duration::from_millis(20), move || wait.recv().is_ok()).await;
        assert_eq!(slow, Err(Blocked::Timeout));
        assert_eq!(
            host.file_operation(Duration::from_millis(20), || 1).await,
            Err(Blocked::Timeout),
            "the only thread is taken"
        );
        release.send(()).unwrap();
        assert_eq!(host.file_operation(Duration::from_secs(30), || 1).await, Ok(1));
        assert_eq!(host.lookup(Duration::from_secs(30), || 2).await, Ok(2));
    }

    #[tokio::test]
    async fn a_panic_stays_where_it_is() {
        let host = Host::new(Limits::default());
        let broken = host.file_operation(Duration::from_secs(30), || -> u8 { panic!("meant to") }).await;
        assert_eq!(broken, Err(Blocked::Panic));
    }
}
