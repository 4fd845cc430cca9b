//! One copy of a volume: everything its process decides.
//!
//! # Driving it
//!
//! ```text
//! let mut volume = Volume::open(config, label bytes, log bytes, now)?;
//! loop {
//!     while let Some(output) = volume.poll_output() { begin it }
//!     let (when, why) = volume.poll_timeout();
//!     wait for an input, until `when` at the most (then Input::Tick)
//!     volume.handle(input, now);
//! }
//! ```
//!
//! `handle` is synchronous and never fails; time comes only from its argument, which never goes back. Outputs come in
//! order, and each is begun at once: nothing has to be held until something else is durable, because what rests on
//! something durable comes out only when [`Input::Written`] or [`Input::Disk`] has said so. Many disk operations may be
//! under way; none overlaps one that writes.
//!
//! A driver takes no more requests from clients than [`REQUESTS_MAX`] at a time. When the process ends, nothing has to be
//! done: every moment is one at which it may be killed. In order, it is demoted first ([`OperatorRequest::Demote`]).

use alloc::vec::Vec;

use mainstay_core::time::UnixMs;

use crate::bitmap::Bitmap;
use crate::io::Block;
use crate::label::{Label, LabelError};
use crate::log;
use crate::types::{REGION_BYTES, Region, SECTOR_BYTES, Side, VOLUME_BYTES_MAX, VolumeId};

/// Requests of clients at one time: 16 connections with 64 each, and the kernel's 128 twice over. Beyond, they are
/// answered with an error, because a driver that lets them in has no limit of its own.
pub const REQUESTS_MAX: usize = 1280;

/// Why a copy cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// See there.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// It is another volume's.
    #[error("this backing is a copy of volume {found}, not of {wanted}")]
    Volume {
        /// By the label.
        found: VolumeId,
        /// By the config.
        wanted: VolumeId,
    },
    /// It is the other copy.
    #[error("this backing is the copy of side {found}, not of side {wanted}")]
    Side {
        /// By the label.
        found: Side,
        /// By the config.
        wanted: Side,
    },
    /// V13.
    #[error("the backing has {backing} bytes left for data, the volume has {size}")]
    Small {
        /// Without the label.
        backing: u64,
        /// By the label.
        size: u64,
    },
}

/// Why a volume cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The size does not do.
    #[error(
        "a volume of {0} bytes: it has to be a multiple of {SECTOR_BYTES}, at least {REGION_BYTES} and at most {VOLUME_BYTES_MAX}"
    )]
    Size(u64),
}

/// What has to be written for a new copy: the blocks of the label, and those of the log, in order, the header last.
///
/// `first` is the copy that holds the data, if any is there already; the other one is created empty. The log says that
/// everything differs: the first resync copies all but zeroes.
///
/// # Errors
/// If a volume cannot have this size.
pub fn create(
    volume: VolumeId,
    side: Side,
    size: u64,
    first: bool,
    now: UnixMs,
) -> Result<(Vec<Block>, Vec<Block>), CreateError> {
    if !(REGION_BYTES..=VOLUME_BYTES_MAX).contains(&size) || size % SECTOR_BYTES != 0 {
        return Err(CreateError::Size(size));
    }
    let label = Label::new(volume, side, size, first, now);
    let dirty = Bitmap::full(Region::count(size));
    // Both slots, so that nothing of an older label is left that a torn write would bring back.
    let older = Label { sequence: 1, ..label.clone() };
    let newer = Label { sequence: 2, ..label };
    let log = log::encode(&dirty, &newer, 1);
    Ok((alloc::vec![older.encode(), newer.encode()], log))
}
