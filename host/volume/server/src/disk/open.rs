//! Opening the volume's files: what they are, how large, in which blocks, and that nobody else has them.
//!
//! The backing is a regular file or a block device, read and written past the page cache where its file system lets it
//! be done (`O_DIRECT`, `open(2)`): otherwise everything would be in memory twice, and a disk's error would be met only
//! by a flush.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use nix::fcntl::OFlag;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs};

use super::Shared;
use super::task::File;
use crate::buffers::Pool;

/// The least that a disk can be asked for, in bytes; some want more.
const BLOCK_BYTES_MIN: u32 = 512;
/// The most that a disk may want, in bytes: that of disks with native blocks of 4 KiB.
const BLOCK_BYTES_MAX: u32 = 4096;

/// Why a volume's files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system does not let it be opened or looked at.
    #[error("{path} cannot be opened: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Neither a file nor a disk.
    #[error("{0} is neither a regular file nor a block device")]
    Kind(PathBuf),
    /// Somebody has it.
    #[error("{0} is in use by another process: is this volume served already?")]
    InUse(PathBuf),
    /// There is no room for anything in it.
    #[error(
        "{path} has {bytes} bytes, less than one block of {block_bytes}; give it the volume's size first (truncate, fallocate, lvcreate)"
    )]
    Empty {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The size of its blocks.
        block_bytes: u32,
    },
    /// It takes no blocks of a usual size.
    #[error("{path} cannot be read in blocks of {BLOCK_BYTES_MIN} or {BLOCK_BYTES_MAX} bytes: {source}")]
    Blocks {
        /// Which file.
        path: PathBuf,
        /// What the system says to the larger.
        source: io::Error,
    },
    /// It is another one now, or none.
    #[error("{0} was removed or replaced while it was in use")]
    Vanished(PathBuf),
    /// It was cut.
    #[error("{path} had {was_bytes} bytes and has {bytes} now: it was cut, or its device has shrunk")]
    Shrunk {
        /// Which file.
        path: PathBuf,
        /// What there was.
        was_bytes: u64,
        /// What there is.
        bytes: u64,
    },
}

/// The open files of a volume.
#[derive(Debug)]
pub struct Volume {
    pub(super) backing: Shared,
    pub(super) metadata: Shared,
    /// The backing's size, in whole blocks, in bytes.
    pub size_bytes: u64,
    /// What every offset and length in the backing is a multiple of, in bytes.
    pub block_bytes: u32,
    /// Whether the page cache is passed by.
    pub is_direct: bool,
}

impl Volume {
    /// Opens both; the metadata is made where there is none.
    ///
    /// # Errors
    /// With what to do about it.
    pub fn open(backing: &Path, metadata: &Path) -> Result<Self, OpenError> {
        let (data, is_direct) = open(backing, false)?;
        let size = size_of(&data, backing)?;
        let block_bytes = if is_direct { block_bytes(&data, backing)? } else { BLOCK_BYTES_MIN };
        let size_bytes = size - size % u64::from(block_bytes);
        if size_bytes == 0 {
            return Err(OpenError::Empty { path: backing.to_owned(), bytes: size, block_bytes });
        }
        let (beside, _) = open(metadata, true)?;
        let shared = |file, path: &Path| {
            let (keeps_dsync, way) = (keeps_dsync(&file), AtomicU8::new(first_way(&file)));
            Arc::new(File { file, path: path.to_owned(), keeps_dsync, way })
        };
        Ok(Self {
            backing: shared(data, backing),
            metadata: shared(beside, metadata),
            size_bytes,
            block_bytes,
            is_direct,
        })
    }

    /// The backing's file, or the metadata's: for what is done before anything else has them.
    #[must_use]
    pub fn file_of(&self, is_backing: bool) -> &fs::File {
        if is_backing { &self.backing.file } else { &self.metadata.file }
    }

    /// Whether the backing is still there and as large as it was: a file that was removed takes writes as before, and
    /// loses them.
    ///
    /// # Errors
    /// With what became of it.
    pub fn check(&self) -> Result<(), OpenError> {
        let (file, path) = (&self.backing.file, &self.backing.path);
        let failed = |source| OpenError::Open { path: path.clone(), source };
        let held = file.metadata().map_err(failed)?;
        match fs::metadata(path) {
            Ok(there) if there.dev() == held.dev() && there.ino() == held.ino() => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(_) | Err(_) => return Err(OpenError::Vanished(path.clone())),
        }
        let bytes = size_of(file, path)?;
        if bytes < self.size_bytes {
            return Err(OpenError::Shrunk { path: path.clone(), was_bytes: self.size_bytes, bytes });
        }
        Ok(())
    }
}

/// Opens a file for this process alone. Says whether it goes past the page cache.
fn open(path: &Path, create: bool) -> Result<(fs::File, bool), OpenError> {
    let failed = |source| OpenError::Open { path: path.to_owned(), source };
    let is_device = match fs::metadata(path) {
        Ok(found) if found.file_type().is_block_device() => true,
        Ok(found) if found.is_file() => false,
        Ok(_) => return Err(OpenError::Kind(path.to_owned())),
        Err(error) if create && error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed(error)),
    };
    let attempt = |flags: OFlag| {
        // On a block device O_EXCL asks that nothing has it mounted (open(2)); on a file it would ask that there is none.
        let flags = if is_device { flags | OFlag::O_EXCL } else { flags };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create && !is_device).mode(0o600).custom_flags(flags.bits());
        options.open(path)
    };
    let (file, is_direct) = match attempt(OFlag::O_DIRECT) {
        Ok(file) => (file, true),
        // tmpfs before Linux 6.6, and some file systems of user space.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => (attempt(OFlag::empty()).map_err(failed)?, false),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(OpenError::InUse(path.to_owned())),
        Err(error) => return Err(failed(error)),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    if create && !is_device {
        // Its name has to be durable too, or a crash loses the log with all that was made durable in it.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok((file, is_direct))
}

fn size_of(file: &fs::File, path: &Path) -> Result<u64, OpenError> {
    // The length in the metadata of a device is 0. Nothing reads or writes where this leaves the file.
    let mut file = file;
    file.seek(SeekFrom::End(0)).map_err(|source| OpenError::Open { path: path.to_owned(), source })
}

/// Whether a write that is asked to be durable is, by itself. Linux's own file systems and block devices see to it; one
/// of user space is told (FUSE), and many do not look.
fn keeps_dsync(file: &fs::File) -> bool {
    let is_device = file.metadata().is_ok_and(|found| found.file_type().is_block_device());
    let own = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC];
    is_device || fstatfs(file).is_ok_and(|found| own.contains(&found.filesystem_type()))
}

/// Of the ways of `Way::ALL`, the first that gives zeroes for certain. Linux's own file systems read as zeroes where a
/// hole was punched (fallocate(2)); one of user space may pass it on as advice: nbdfuse makes it a trim of NBD, after
/// which anything may be read.
fn first_way(file: &fs::File) -> u8 {
    fstatfs(file).map_or(1, |found| u8::from(found.filesystem_type() == FUSE_SUPER_MAGIC))
}

/// The smallest block that direct I/O takes here: tried, as older kernels do not tell.
fn block_bytes(file: &fs::File, path: &Path) -> Result<u32, OpenError> {
    let pool = Pool::default();
    let attempt = |bytes: u32| {
        // Not at the front, where a smaller block could be aligned by chance.
        file.read_at(&mut pool.take(bytes as usize), u64::from(bytes)).map(|_| bytes)
    };
    attempt(BLOCK_BYTES_MIN)
        .or_else(|_| attempt(BLOCK_BYTES_MAX))
        .map_err(|source| OpenError::Blocks { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_file_is_used_in_whole_blocks_by_one_process() {
        let folder = folder();
        let (backing, metadata) = (folder.path().join("backing"), folder.path().join("metadata"));
        fs::write(&backing, vec![0; 10_000]).unwrap();
        let volume = Volume::open(&backing, &metadata).unwrap();
        assert_eq!(volume.size_bytes, 10_000 - 10_000 % u64::from(volume.block_bytes));
        assert!(matches!(Volume::open(&backing, &metadata), Err(OpenError::InUse(path)) if path == backing));
        drop(volume);
        Volume::open(&backing, &metadata).unwrap();
    }

    #[test]
    fn what_cannot_be_a_volume_is_refused() {
        let folder = folder();
        let (backing, metadata) = (folder.path().join("backing"), folder.path().join("metadata"));
        let error = || Volume::open(&backing, &metadata).unwrap_err();
        assert!(
            error().to_string().ends_with("cannot be opened: No such file or directory (os error 2)"),
            "{}",
            error()
        );
        fs::write(&backing, b"short").unwrap();
        assert!(error().to_string().contains("has 5 bytes, less than one block"), "{}", error());
        assert!(matches!(Volume::open(folder.path(), &metadata), Err(OpenError::Kind(_))));
    }

    #[test]
    fn what_becomes_of_a_backing_is_seen() {
        let folder = folder();
        let (backing, metadata) = (folder.path().join("backing"), folder.path().join("metadata"));
        fs::write(&backing, vec![0; 8192]).unwrap();
        let volume = Volume::open(&backing, &metadata).unwrap();
        volume.check().unwrap();
        fs::File::options().write(true).open(&backing).unwrap().set_len(4096).unwrap();
        assert!(matches!(volume.check(), Err(OpenError::Shrunk { was_bytes: 8192, bytes: 4096, .. })));
        fs::remove_file(&backing).unwrap();
        assert!(matches!(volume.check(), Err(OpenError::Vanished(_))));
        fs::write(&backing, vec![0; 8192]).unwrap();
        assert!(matches!(volume.check(), Err(OpenError::Vanished(_))));
    }
}
