//! Mirrored volumes that the host runs on this node: those granted, and only those.
//!
//! The host decides who may write and on what a promotion rests; a kit asks for it. What the words mean is told in
//! `docs/concepts/volume.md`. Every function may be called again after it failed: it finds out what is there and goes on.
//!
//! ```no_run
//! # fn main() -> Result<(), mainstay_sdk::Fault> {
//! use mainstay_sdk::volume;
//! volume::promote("store")?;
//! let device = volume::attach("store")?;
//! # Ok(()) }
//! ```

use crate::{Details, Fault, seam};

/// What this node's copy is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What writes to the volume writes here.
    Source,
    /// It follows the other copy, or waits for somebody to be promoted.
    Target,
}

/// What this node's copy is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// It has everything.
    UpToDate,
    /// Whole when contact with the other copy was lost; nothing was heard since.
    LastKnownGood,
    /// The other copy went on without it.
    Outdated,
    /// In the middle of a resync, or never filled.
    Inconsistent,
    /// Its disk does not work.
    Failed,
}

/// How it stands with the other copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorState {
    /// In contact; what is written here is written there.
    Connected,
    /// In contact; what differs is being copied.
    Resync,
    /// In contact; neither copy is the source.
    Idle,
    /// The two are getting together.
    Greeting,
    /// No contact.
    Broken,
    /// An operator has stopped it.
    Paused,
    /// Both copies have what the other lacks; nothing is copied until an operator names the survivor.
    SplitBrain,
    /// The other side is not let in, or does not let this one in.
    Refused,
    /// There is no other copy.
    None,
}

/// The volume as a block device of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its path.
    pub device: String,
    /// False: what stood behind it is gone, and every use of it is an error. [`attach`] replaces it.
    pub works: bool,
}

/// How a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What this node's copy is now.
    pub role: Role,
    /// What it is worth.
    pub copy: CopyState,
    /// How it stands with the other one.
    pub mirror: MirrorState,
    /// Whether the source goes on without the other copy.
    pub alone: bool,
    /// None: it is no block device here.
    pub attachment: Option<Attachment>,
    /// Of the volume, in bytes.
    pub size_bytes: u64,
    /// What the other copy may have otherwise, in bytes.
    pub dirty_bytes: u64,
    /// Of a resync that goes on, 0 to 100.
    pub resync_percent: Option<u32>,
    /// A sentence for people.
    pub summary: String,
    /// Named extras.
    pub details: Details,
}

/// How the volume is. Changes nothing.
///
/// # Errors
/// `denied` when it is not granted, `not-found` when the host has none of that name, `unavailable` when it does not answer.
pub fn status(name: &str) -> Result<Standing, Fault> {
    seam::volume_status(name)
}

/// Makes this node's copy the source, on the right to write that the host has handed over.
///
/// # Errors
/// Code `no-right` without one, `not-promotable` when the copy is not good enough; else as [`status`].
pub fn promote(name: &str) -> Result<(), Fault> {
    seam::volume_promote(name)
}

/// This node's copy is the source no more; what was written is durable.
///
/// # Errors
/// Code `busy` while it is attached; else as [`status`].
pub fn demote(name: &str) -> Result<(), Fault> {
    seam::volume_demote(name)
}

/// The volume as a block device; its path. A dead attachment is replaced.
///
/// # Errors
/// Code `busy` when a file system on a dead attachment is still mounted, `attachment` when it cannot be made; else as
/// [`status`].
pub fn attach(name: &str) -> Result<String, Fault> {
    seam::volume_attach(name)
}

/// The block device is gone.
///
/// # Errors
/// Code `busy` while something uses it; else as [`status`].
pub fn detach(name: &str) -> Result<(), Fault> {
    seam::volume_detach(name)
}
