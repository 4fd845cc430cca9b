//! The journal: what a node has to know again after a crash, on disk before anything depends on it (OWNERSHIP O2, O4).
//!
//! # Layout
//!
//! ```text
//! 0     magic "mainstay journal 1\n"
//! 1024  slot 0 \  how much was acknowledged: sequence u64, length u64, CRC-32 of both, little endian.
//! 2048  slot 1 /  The valid one with the higher sequence counts; they are written in turn.
//! 4096  frames:   length u32, CRC-32 of the payload u32, payload (a record as JSON)
//! ```
//!
//! A batch of frames is written and synced; then a slot is written that covers them, and synced; only then are they
//! acknowledged. In this order, because then a slot never covers a frame that is not on disk, and whatever lies
//! beyond the slot was never acknowledged: nothing depends on it, and it is dropped quietly when the journal is opened.
//! Whatever the slot covers and cannot be read is damage: who owns what is then not known. With the slots alone, no
//! tail that was lost after it was acknowledged can pass for one that never was.
//!
//! The slots lie a sector apart from each other and from the frames, so that a torn write of one harms nothing else.

mod file;
mod writer;

use std::path::PathBuf;

use mainstay_core::state::State;

pub use file::{JournalFile, Opened};
pub use writer::{Journal, Told};

/// The longest payload, in bytes: the snapshot of a state with tens of thousands of resources has a few MB.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Why a journal cannot be used at all. Damage is not among it: see [`Opened`].
#[derive(Debug, thiserror::Error)]
#[error("the journal {path}: cannot {doing}: {source}")]
pub struct JournalError {
    /// Which.
    pub path: PathBuf,
    /// What was tried.
    pub doing: &'static str,
    /// Why not.
    pub source: std::io::Error,
}

/// What the bytes of a journal's file give.
///
/// # Errors
/// When they are damaged, with what is.
pub fn examine(bytes: &[u8]) -> Result<State, String> {
    file::read(bytes).map(|reading| reading.state).map_err(|damage| damage.what)
}

/// The bytes of a journal's file with one acknowledged record, of this payload.
#[must_use]
pub fn file_of(payload: &[u8]) -> Vec<u8> {
    file::bytes_of(payload)
}
