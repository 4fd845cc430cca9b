//! Folders of a test's own, short enough for Unix sockets in them.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{processes, reaper};

/// A folder's path is at most this long. A Unix socket's path is at most 107 bytes; this leaves room for a
/// node's folder, and a socket's name in it.
const PATH_BYTES_MAX: usize = 48;

/// A folder that only its owner may enter; gone, with all that is in it, when this is dropped. What still runs
/// from it then, known by its command line, is ended first, and named on standard error.
///
/// With `MAINSTAY_KEEP_TEMP=1` it is kept, and its path printed.
#[derive(Debug)]
pub struct TempDir {
    /// `None` only while it is dropped.
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl TempDir {
    /// Makes one, below the system's folder for temporary files or below `/tmp` where that is too long.
    ///
    /// # Panics
    /// When none can be made.
    #[must_use]
    pub fn new() -> Self {
        let made = Self::below(&std::env::temp_dir());
        let made = made.unwrap_or_else(|| Self::below(Path::new("/tmp")).expect("/tmp is short enough"));
        reaper::claim(&made.path);
        made
    }

    /// `None`: a path in there would be too long.
    fn below(parent: &Path) -> Option<Self> {
        const NAME_BYTES: usize = "/".len() + reaper::TEMP_PREFIX.len() + 6;
        if parent.as_os_str().len() + NAME_BYTES > PATH_BYTES_MAX {
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix(reaper::TEMP_PREFIX)
            .rand_bytes(6)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(parent)
            .unwrap_or_else(|error| panic!("a folder could not be made below {}: {error}", parent.display()));
        // Without links, so that it is found in the command lines of what runs from it.
        let path = folder.path().canonicalize().unwrap_or_else(|_| folder.path().to_owned());
        Some(Self { folder: Some(folder), path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in it; nothing is made there.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// What runs of it: the processes that name a path in it in their command line or their environment, as text.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        processes::naming(&self.path).iter().map(ToString::to_string).collect()
    }

    fn running_by_command(&self) -> Vec<String> {
        processes::started_from(&self.path).iter().map(ToString::to_string).collect()
    }

    /// Makes a folder in it, private as it is itself.
    ///
    /// # Panics
    /// When that fails.
    pub fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&path);
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Writes a file in it.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Writes a shell script in it that can be executed, and that nobody but its owner may write.
    ///
    /// # Panics
    /// When that fails.
    pub fn script(&self, name: impl AsRef<Path>, body: &str) -> PathBuf {
        // Written by a process of its own: were it open for writing here, a fork in another thread would have it
        // open too for a moment, and whoever executes it then gets "text file busy".
        let path = self.join(name);
        let mut writer = Command::new("/bin/sh")
            .args(["-c", r#"cat > "$1" && chmod 755 "$1""#, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("/bin/sh: {error}"));
        let written = writer.stdin.take().map(|mut stdin| write!(stdin, "#!/bin/sh\n{body}\n"));
        let ended = writer.wait();
        assert!(
            matches!((&written, &ended), (Some(Ok(())), Ok(status)) if status.success()),
            "{} could not be written: {written:?}, {ended:?}",
            path.display()
        );
        path
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl AsRef<Path> for TempDir {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let left = self.running_by_command();
        if !left.is_empty() {
            eprintln!("still running from {}, and ended now: {}", self.path.display(), left.join(", "));
            for process in processes::end_by_folder(&self.path) {
                eprintln!("could not be ended: {process}");
            }
        }
        reaper::disclaim(&self.path);
        let Some(folder) = self.folder.take() else { return };
        if std::env::var_os("MAINSTAY_KEEP_TEMP").is_some_and(|value| value == "1") {
            eprintln!("kept: {}", folder.keep().display());
        } else if let Err(error) = folder.close() {
            eprintln!("{} could not be removed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Guard, WAIT_LIMIT, wait_until};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_private_short_and_gone_afterwards() {
        let folder = TempDir::new();
        let path = folder.path().to_owned();
        assert!(path.as_os_str().len() <= PATH_BYTES_MAX);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        folder.write("file", "content");
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_long_parent_is_not_used() {
        assert!(TempDir::below(Path::new(&format!("/{}", "x".repeat(PATH_BYTES_MAX)))).is_none());
    }

    #[test]
    fn what_runs_from_it_is_seen() {
        let folder = TempDir::new();
        let script = folder.script("wait", "export PLACE=\"$0\"; exec sleep 100");
        let guard = Guard::start("wait", &mut Command::new(script)).unwrap();
        wait_until(WAIT_LIMIT, "the script to become a sleep", || {
            folder.running().iter().any(|it| it.contains("sleep"))
        });
        guard.end();
        assert_eq!(folder.running(), [] as [&str; 0]);
    }

    #[test]
    fn what_is_left_running_from_it_is_ended() {
        let folder = TempDir::new();
        let script = folder.script("wait", "while :; do sleep 1; done");
        let mut child = Command::new(script).spawn().unwrap();
        drop(folder);
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn a_script_runs() {
        let folder = TempDir::new();
        let script = folder.script("hello", "echo hello $1");
        let output = std::process::Command::new(script).arg("you").output().unwrap();
        assert_eq!(output.stdout, b"hello you\n");
    }
}
