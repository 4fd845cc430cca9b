//! The daemon's side: starts supervisors, learns what became of their commands, and finds those that an earlier
//! daemon left.

mod care;
mod collect;
mod error;
mod leftover;
mod running;
mod spawn;

pub use error::{FolderError, OutcomeError, StartError};
pub use leftover::{Leftover, LeftoverEnd, LeftoverState};
pub use running::Running;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use crate::folder::boot_id;
use crate::types::Request;

/// Commands being written down and started at once; others wait their turn. Each holds a thread that waits for the
/// disk, and more would only make all of them slower.
const STARTS_MAX: usize = 16;

/// What is executed to supervise a command; the command's folder is appended as the last argument.
#[derive(Clone, Debug)]
pub struct SupervisorExe {
    program: PathBuf,
    args: Vec<OsString>,
}

impl SupervisorExe {
    /// The running binary, as `mainstay supervise DIR`. Right also after its file was replaced by an upgrade.
    pub fn own() -> Self {
        Self::binary("/proc/self/exe")
    }

    /// Another file of the same binary, as `PROGRAM supervise DIR`: for who drives commands without being `mainstay`.
    pub fn binary(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: vec!["supervise".into()] }
    }

    /// The supervisor as a program of its own, `mainstay-supervise DIR`.
    pub fn alone(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new() }
    }
}

/// The commands of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Commands {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    exe: SupervisorExe,
    boot_id: String,
    starts: Arc<Semaphore>,
    /// Ids that this daemon cares for already.
    own: Mutex<HashSet<String>>,
}

impl Inner {
    fn own(&self) -> MutexGuard<'_, HashSet<String>> {
        // A set is whole after every operation on it, so a panic elsewhere spoils nothing.
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Commands {
    /// Opens the folder of commands, which is made (0700) if it is missing. One daemon at a time may have it open: the
    /// caller holds a lock on the state directory that it is in. Blocking, but quick.
    pub fn open(dir: &Path, exe: SupervisorExe) -> Result<Self, FolderError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(FolderError::of("make the folder", dir))?;
        let dir = dir.canonicalize().map_err(FolderError::of("find the folder", dir))?;
        let metadata = dir.metadata().map_err(FolderError::of("look at", &dir))?;
        if metadata.uid() != nix::unistd::Uid::effective().as_raw() || metadata.mode() & 0o077 != 0 {
            let advice = "requests and output may hold secrets: it has to belong to mainstay's own user and be closed \
                          to all others (chown, chmod 700)";
            let error = io::Error::new(io::ErrorKind::PermissionDenied, advice);
            return Err(FolderError::of("use the folder", &dir)(error));
        }
        let boot_id = boot_id().map_err(FolderError::of("read the boot id from", Path::new("/proc")))?;
        let starts = Arc::new(Semaphore::new(STARTS_MAX));
        Ok(Self { inner: Arc::new(Inner { dir, exe, boot_id, starts, own: Mutex::default() }) })
    }

    /// Starts a command. Ok when the program runs: it was executed. To be called on a tokio runtime with I/O and time.
    /// If the future is dropped, the command is not started, or cancelled in the background.
    pub async fn start(&self, request: Request) -> Result<Running, StartError> {
        running::start(self.inner.clone(), request).await
    }

    /// What an earlier daemon left, to be awaited or ended before anything else is called on its resource (O23).
    ///
    /// Folders of commands that were never started are removed with a word in the log. Applications whose command is
    /// over are no leftovers: they live on, and are looked after in the background.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, FolderError> {
        let inner = self.inner.clone();
        let (leftovers, applications) =
            tokio::task::spawn_blocking(move || leftover::find(&inner)).await.unwrap_or_else(|panic| {
                Err(FolderError::of("read the folder", &self.inner.dir)(io::Error::other(panic)))
            })?;
        for folder in applications {
            leftover::look_after(self.inner.clone(), folder);
        }
        Ok(leftovers)
    }
}
