//! The state directory: what is where in it, and that only one daemon uses it.
//!
//! ```text
//! lock          held by the daemon that uses the directory
//! journal       what has to be known again after a crash (see journal/)
//! node.json     which node, which process, where it listens: for people and tools, written at each start
//! api.sock      the local API
//! guardian.*    lock, socket and log of the guardian (see guardian/), where the arbiter decides
//! commands/     commands that run, with what they said (mainstay-supervisor)
//! store/TAG/    small values that kits keep
//! volumes/NAME/ a mirrored volume (see volumes/)
//! compiled/     kits as machine code (mainstay-runtime)
//! ```

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// The longest path a Unix socket may have, in bytes (`sun_path` in unix(7), less the final 0).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A state directory that this process holds the lock of.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

/// What is in `node.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeFile {
    /// The node's name.
    pub node: String,
    /// The cluster's name.
    pub cluster: String,
    /// The daemon's process.
    pub pid: u32,
    /// Where it listens, by comm path.
    pub listening: std::collections::BTreeMap<String, String>,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It cannot be made or opened.
    #[error("the state directory {path}: cannot {doing}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another daemon uses it.
    #[error("the state directory {0} is in use by another mainstay daemon: each node needs its own (--state)")]
    InUse(PathBuf),
    /// Others may read or write it.
    #[error(
        "the state directory {path} has mode {mode:03o} or another owner: it holds what decides who may act, and has to belong to the user that mainstay runs as, and to nobody else: chown, and chmod 700 {path}"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The API's socket cannot have such a long path.
    #[error(
        "the state directory {0} has too long a path: the socket in it may have at most {SOCKET_PATH_BYTES_MAX} bytes"
    )]
    TooLong(PathBuf),
}

impl StateDir {
    /// Makes the directory if it is not there (0700), and takes its lock.
    ///
    /// # Errors
    /// See [`StateDirError`].
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let io = |doing| move |source| StateDirError::Io { path: path.to_owned(), doing, source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("make it"))?;
        let path = path.canonicalize().map_err(io("find it"))?;
        let metadata = path.metadata().map_err(io("look at it"))?;
        let mode = metadata.mode() & 0o777;
        if metadata.uid() != nix::unistd::Uid::effective().as_raw() || mode & 0o077 != 0 {
            return Err(StateDirError::Open { path, mode });
        }
        if path.join("api.sock").as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(StateDirError::TooLong(path));
        }
        let lock = File::create(path.join("lock")).map_err(io("make its lock"))?;
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StateDirError::InUse(path)),
            Err((_, errno)) => Err(StateDirError::Io { path, doing: "take its lock", source: errno.into() }),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The local API's socket of a node whose state is in `path`.
    #[must_use]
    pub fn socket(path: &Path) -> PathBuf {
        path.join("api.sock")
    }

    /// Writes `node.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn describe(&self, node: &NodeFile) -> io::Result<()> {
        let temporary = self.path.join("node.json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(node)?)?;
        std::fs::rename(temporary, self.path.join("node.json"))
    }
}

/// Names the machine's start: nothing that ran under another one runs any more. The start of process 1 is part of it,
/// so that a container that was started anew counts as a machine that was.
///
/// # Errors
/// When /proc cannot be read.
pub fn boot() -> io::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let stat = std::fs::read_to_string("/proc/1/stat")?;
    // Field 22 of proc_pid_stat(5); the second one may hold spaces and ends with the last `)`.
    let started = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)).unwrap_or("?");
    Ok(format!("{}-{started}", id.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let held = StateDir::open(&path).unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateDirError::InUse(_))));
        drop(held);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, StateDirError::Open { mode: 0o755, .. }), "{error}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(100));
        assert!(matches!(StateDir::open(&path), Err(StateDirError::TooLong(_))));
    }

    #[test]
    fn the_same_start_has_the_same_name() {
        assert_eq!(boot().unwrap(), boot().unwrap());
        assert!(boot().unwrap().len() > 36);
    }
}
