//! `secret`: the content of a file, by a name that is granted. Never logged, never in an error.
//!
//! A file that others may read is no secret: it is refused with the command that mends it.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::bindings::mainstay::kit::secret::Host;
use crate::capability::{CallState, Fault, FaultKind, blocked, fault};
use crate::grants;

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("there is no secret {name}: {path} does not exist")]
    Missing { name: String, path: PathBuf },
    #[error("no folder of secrets is configured on this node, so there is no secret {name}")]
    NoFolder { name: String },
    #[error("`{name}`: {problem}")]
    Name { name: String, problem: &'static str },
    #[error("{path} may be read or written by others (mode {mode:04o}), so it is no secret: chmod 0600 {path}")]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{path} belongs to user {uid}, who can change it; it has to belong to root or to the daemon's user {own}: chown it"
    )]
    Foreign { path: PathBuf, uid: u32, own: u32 },
    #[error("{path} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("{path} has more than {bytes_max} bytes: is it the right file?")]
    TooLarge { path: PathBuf, bytes_max: u64 },
    #[error("cannot read {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl From<SecretError> for Fault {
    fn from(error: SecretError) -> Self {
        let (kind, code) = match &error {
            SecretError::Missing { .. } | SecretError::NoFolder { .. } => (FaultKind::NotFound, "no-such-secret"),
            SecretError::Name { .. } => (FaultKind::Invalid, "secret-name"),
            SecretError::TooLarge { .. } => (FaultKind::Limit, "secret-too-large"),
            SecretError::Open { .. }
            | SecretError::Foreign { .. }
            | SecretError::NotAFile { .. }
            | SecretError::Io { .. } => (FaultKind::Failed, "secret-unreadable"),
        };
        fault(kind, code, error.to_string())
    }
}

/// The content, one trailing newline removed. Blocks.
pub(crate) fn read(dir: Option<&Path>, name: &str, bytes_max: u64) -> Result<Vec<u8>, SecretError> {
    if let Some(problem) = grants::secret_name_problem(name) {
        return Err(SecretError::Name { name: crate::text::one_line(name, 80), problem });
    }
    let Some(dir) = dir else { return Err(SecretError::NoFolder { name: name.to_owned() }) };
    let path = dir.join(name);
    let io = |source| SecretError::Io { path: path.clone(), source };
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SecretError::Missing { name: name.to_owned(), path });
        }
        Err(error) => return Err(io(error)),
    };
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile { path });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(SecretError::Open { path, mode: metadata.mode() & 0o7777 });
    }
    let own = nix::unistd::geteuid().as_raw();
    if ![0, own].contains(&metadata.uid()) {
        return Err(SecretError::Foreign { path, uid: metadata.uid(), own });
    }
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > bytes_max {
        return Err(SecretError::TooLarge { path, bytes_max });
    }
    if content.last() == Some(&b'\n') {
        content.pop();
        // As editors on other systems write it.
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    Ok(content)
}

impl CallState {
    /// A secret that is granted; `why` is for the audit line.
    pub(crate) async fn secret(&mut self, why: &'static str, name: &str) -> Result<Vec<u8>, Fault> {
        self.services.grants.secret(&self.asker, why, name)?;
        let (dir, name, bytes_max) =
            (self.services.secrets_dir.clone(), name.to_owned(), self.host.limits.secret_bytes_max);
        let done = self.host.file_operation(self.limit(None), move || read(dir.as_deref(), &name, bytes_max)).await;
        Ok(done.map_err(|error| blocked("secret.get", error))??)
    }
}

impl Host for CallState {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let _entered = self.enter("secret.get", name.as_str());
        Ok(self.secret("itself", &name).await)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret(dir: &Path, name: &str, content: &[u8], mode: u32) {
        fs::write(dir.join(name), content).unwrap();
        fs::set_permissions(dir.join(name), Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn one_trailing_newline_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [
            (&b"key\n"[..], &b"key"[..]),
            (b"key", b"key"),
            (b"key\n\n", b"key\n"),
            (b"key\r\n", b"key"),
            (b" key ", b" key "),
            (b"", b""),
        ] {
            secret(dir.path(), "a", content, 0o600);
            assert_eq!(read(Some(dir.path()), "a", 100).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            secret(dir.path(), "a", b"key", mode);
            let error = read(Some(dir.path()), "a", 100).unwrap_err().to_string();
            assert!(error.contains("chmod 0600") && !error.contains("key"), "{error}");
        }
        secret(dir.path(), "a", b"key", 0o400);
        read(Some(dir.path()), "a", 100).unwrap();
    }

    #[test]
    fn each_reason_has_its_kind() {
        let dir = tempfile::tempdir().unwrap();
        secret(dir.path(), "large", &[0; 101], 0o600);
        fs::create_dir(dir.path().join("folder")).unwrap();
        let kind = |dir, name| Fault::from(read(dir, name, 100).unwrap_err()).kind;
        assert_eq!(kind(Some(dir.path()), "none"), FaultKind::NotFound);
        assert_eq!(kind(None, "none"), FaultKind::NotFound);
        assert_eq!(kind(Some(dir.path()), "../x"), FaultKind::Invalid);
        assert_eq!(kind(Some(dir.path()), "large"), FaultKind::Limit);
        assert_eq!(kind(Some(dir.path()), "folder"), FaultKind::Failed);
    }
}
