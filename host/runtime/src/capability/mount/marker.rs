//! The marker: a small hidden file in a mounted file system, written to the disk and read from there again. It shows what
//! no look from outside does, that the way to the disk and back works.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::OFlag;
use rustix::fs::{Advice, fadvise};

use super::table::Device;

/// Its name in the root of the file system.
const NAME: &str = ".mainstay-marker";
/// How much is written, in bytes: a block of a disk.
const BYTES: usize = 4096;

/// Why the marker did not come back.
#[derive(Debug, thiserror::Error)]
pub(super) enum MarkerError {
    #[error("the file system was not there any more when its marker was to be written")]
    Gone,
    #[error("{NAME} is no file of this host's making, and is left as it is; remove it if it is not yours")]
    NotOurs,
    #[error("cannot {doing} the marker: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("what was read of the marker is not what was written")]
    Different,
}

fn io(doing: &'static str) -> impl FnOnce(io::Error) -> MarkerError {
    move |source| MarkerError::Io { doing, source }
}

/// Writes and reads it in the file system of `device`, which is mounted at `point`.
pub(super) fn write_and_read(point: &Path, device: Device) -> Result<(), MarkerError> {
    let file = open(point)?;
    let metadata = file.metadata().map_err(io("look at"))?;
    let on = metadata.dev();
    if (Device { major: rustix::fs::major(on), minor: rustix::fs::minor(on) }) != device {
        return Err(MarkerError::Gone);
    }
    // Whoever may write to the root of the file system may have put anything there, such as a link to another file.
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(MarkerError::NotOurs);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut written = format!("Written by mainstay to see whether it can be, {} ms since 1970.\n", now.as_millis());
    written.extend(std::iter::repeat_n(' ', BYTES - 1 - written.len()));
    written.push('\n');
    file.write_all_at(written.as_bytes(), 0).map_err(io("write"))?;
    file.sync_all().map_err(io("flush"))?;
    // What is on the disk need not be in memory: the read then goes to the disk.
    fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from).map_err(io("drop from memory"))?;
    let mut read = vec![0; BYTES];
    file.read_exact_at(&mut read, 0).map_err(io("read"))?;
    if read == written.as_bytes() { Ok(()) } else { Err(MarkerError::Different) }
}

fn open(point: &Path) -> Result<File, MarkerError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(point.join(NAME));
    opened.map_err(|error| match rustix::io::Errno::from_io_error(&error) {
        // A symbolic link; a folder.
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::ISDIR) => MarkerError::NotOurs,
        Some(_) | None => MarkerError::Io { doing: "open", source: error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &Path) -> Device {
        let on = path.metadata().unwrap().dev();
        Device { major: rustix::fs::major(on), minor: rustix::fs::minor(on) }
    }

    #[test]
    fn it_is_written_again_and_again_and_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            write_and_read(dir.path(), of(dir.path())).unwrap();
        }
        let metadata = dir.path().join(NAME).metadata().unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (BYTES as u64, 0o600));
    }

    #[test]
    fn what_somebody_put_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (marker, victim) = (dir.path().join(NAME), dir.path().join("victim"));
        std::fs::write(&victim, "precious").unwrap();
        let refused = |what: &str| {
            let error = write_and_read(dir.path(), of(dir.path())).unwrap_err();
            assert!(matches!(error, MarkerError::NotOurs), "{what}: {error}");
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious", "{what}");
        };
        std::os::unix::fs::symlink(&victim, &marker).unwrap();
        refused("a symbolic link");
        std::fs::remove_file(&marker).unwrap();
        std::fs::hard_link(&victim, &marker).unwrap();
        refused("a hard link");
        std::fs::remove_file(&marker).unwrap();
        nix::unistd::mkfifo(&marker, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused("a pipe");
        std::fs::remove_file(&marker).unwrap();
        std::fs::create_dir(&marker).unwrap();
        refused("a folder");
    }

    #[test]
    fn another_file_system_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_and_read(dir.path(), Device { major: 7, minor: 999 }).unwrap_err();
        assert!(matches!(error, MarkerError::Gone), "{error}");
    }
}
