//! The two files of a copy as the core wants them: the label at the end of the backing, and the intent log.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use mainstay_core::time::UnixMs;
use mainstay_volume_core::io::Block;
use mainstay_volume_core::label::{LABEL_BYTES, Label, LabelError};
use mainstay_volume_core::types::{REGION_BYTES, Side, VOLUME_BYTES_MAX, VolumeId};
use mainstay_volume_core::volume::{self, CreateError};

use crate::buffers::{ALIGN_BYTES, Pool};
use crate::disk::{OpenError, Volume};

/// The longest log there is, in bytes: that of the largest volume, one sector of 512 bytes for 3840 regions, and room.
const LOG_BYTES_MAX: u64 = VOLUME_BYTES_MAX / REGION_BYTES / 3840 * 512 + (1 << 20);

/// What is looked at to see whether there is anything, in bytes.
const BEGINNING_BYTES: u64 = 1 << 20;

/// Why the files of a copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// See there.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// They cannot be read or written.
    #[error("{path} cannot be {action}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// There is no room for a label and data.
    #[error("{path} has {bytes} bytes; a copy needs {LABEL_BYTES} for its label and {REGION_BYTES} for data at least")]
    Small {
        /// Which file.
        path: PathBuf,
        /// What it has.
        bytes: u64,
    },
    /// The volume is larger than its backing.
    #[error("{path} has room for {room} bytes of data beside the label, and the volume is to have {wanted}")]
    Size {
        /// Which file.
        path: PathBuf,
        /// What there is.
        room: u64,
        /// What is wanted.
        wanted: u64,
    },
    /// There is a copy already.
    #[error(
        "{path} has the label of volume {found} already; if it is not needed any more, remove the label first (its last {LABEL_BYTES} bytes)"
    )]
    Labelled {
        /// Which file.
        path: PathBuf,
        /// Of which volume.
        found: VolumeId,
    },
    /// What is there would be lost.
    #[error(
        "{path} is not empty, and what is in it would be replaced by what the other copy has; if nothing in it is needed: --overwrite"
    )]
    NotEmpty {
        /// Which file.
        path: PathBuf,
    },
    /// See there.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// The files of a copy, and what they say.
#[derive(Debug)]
pub struct Files {
    /// Open.
    pub volume: Volume,
    /// The label's bytes.
    pub label: Vec<u8>,
    /// The log's, as many as there are.
    pub log: Vec<u8>,
    /// Where the label begins: data ends before it.
    pub label_offset: u64,
}

/// Opens both and reads what they say.
///
/// # Errors
/// With which file, and what to do.
pub fn open(backing: &Path, log: &Path) -> Result<Files, FilesError> {
    let volume = Volume::open(backing, log)?;
    let label_offset = label_offset(backing, volume.size_bytes)?;
    // The log may be on another file system with other rules: it is read as any file, before anything else has it.
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FilesError::Io { path, action: "read", source }
    };
    let log_bytes = match fs::metadata(log) {
        Ok(found) if found.len() <= LOG_BYTES_MAX => fs::read(log).map_err(failed(log))?,
        // It is none of ours; the core says that nothing in it is believed.
        Ok(_) => Vec::new(),
        Err(source) => return Err(failed(log)(source)),
    };
    let mut label = vec![0; LABEL_BYTES];
    fs::File::open(backing).and_then(|file| file.read_exact_at(&mut label, label_offset)).map_err(failed(backing))?;
    Ok(Files { volume, label, log: log_bytes, label_offset })
}

/// Where the label is: at the end, on a boundary that suits every disk.
fn label_offset(backing: &Path, bytes: u64) -> Result<u64, FilesError> {
    let whole = bytes - bytes % ALIGN_BYTES as u64;
    whole
        .checked_sub(LABEL_BYTES as u64)
        .filter(|offset| *offset >= REGION_BYTES)
        .ok_or_else(|| FilesError::Small { path: backing.to_owned(), bytes })
}

/// Whether there is a copy: a label, even if it is damaged.
///
/// # Errors
/// When that cannot be found out.
pub fn is_made(backing: &Path) -> Result<bool, FilesError> {
    let failed = |source| FilesError::Io { path: backing.to_owned(), action: "read", source };
    let mut file = fs::File::open(backing).map_err(failed)?;
    let label_offset = label_offset(backing, file.seek(SeekFrom::End(0)).map_err(failed)?)?;
    let mut label = vec![0; LABEL_BYTES];
    file.read_exact_at(&mut label, label_offset).map_err(failed)?;
    Ok(!matches!(Label::decode(&label), Err(LabelError::None)))
}

/// Whether the beginning, where file systems and partition tables are, is nothing but zeroes.
///
/// # Errors
/// When it cannot be read.
pub fn is_empty(backing: &Path) -> Result<bool, FilesError> {
    let failed = |source| FilesError::Io { path: backing.to_owned(), action: "read", source };
    let mut beginning = Vec::new();
    fs::File::open(backing).and_then(|file| file.take(BEGINNING_BYTES).read_to_end(&mut beginning)).map_err(failed)?;
    Ok(beginning.iter().all(|byte| *byte == 0))
}

/// Makes a backing and a file for the log into a copy of a new volume. With `first`, what is on the backing is the
/// volume's data, and the other copy will be made like it. Gives the volume's size; without `size_bytes` it is all
/// that there is room for.
///
/// # Errors
/// When there is a copy already, or it does not do.
pub fn create(
    backing: &Path,
    log: &Path,
    (volume, side): (VolumeId, Side),
    first: bool,
    size_bytes: Option<u64>,
    now: UnixMs,
) -> Result<u64, FilesError> {
    let Files { volume: opened, label, label_offset, .. } = open(backing, log)?;
    match Label::decode(&label) {
        Ok(label) => return Err(FilesError::Labelled { path: backing.to_owned(), found: label.volume }),
        // A damaged one was one; nothing can be said of what it was of.
        Err(LabelError::None | LabelError::Damaged) => {}
    }
    let size = size_bytes.unwrap_or(label_offset);
    if size > label_offset {
        return Err(FilesError::Size { path: backing.to_owned(), room: label_offset, wanted: size });
    }
    let (label, blocks) = volume::create(volume, side, size, first, now)?;
    // The log first: a label without a log is a copy, a log without a label is none.
    let put = |path: &Path, base: u64, blocks: &[Block]| {
        let file = opened.file_of(path == backing);
        let pool = Pool::default();
        let written = blocks.iter().try_for_each(|block| {
            let mut bytes = pool.take(block.bytes.len());
            bytes.copy_from_slice(&block.bytes);
            file.write_all_at(&bytes, base + block.offset)
        });
        written.and_then(|()| file.sync_all()).map_err(|source| FilesError::Io {
            path: path.to_owned(),
            action: "written",
            source,
        })
    };
    put(log, 0, &blocks)?;
    put(backing, label_offset, &label)?;
    Ok(size)
}
