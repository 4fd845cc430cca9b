//! The mirrored volumes of the host, as far as kits reach them: what the daemon implements and `capability/volume.rs`
//! asks, after `grants.rs` has said that this volume is granted.
//!
//! Nothing here decides who may write or on what a promotion rests: that is the daemon's, and so is everything that
//! outlives a call.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

/// What a [`Volumes`] answers, in its time.
pub type VolumeAnswer<'a, T> = Pin<Box<dyn Future<Output = Result<T, VolumeTrouble>> + Send + 'a>>;

/// The volumes that one resource's calls may come to ask for. Every function is idempotent, and knows a volume by the name
/// that a grant has.
///
/// The answer is awaited no longer than the call has, and dropped then: whoever implements this sees to it that what was
/// begun comes to an end by itself or is found by the next one who asks, and does one thing at a time to one volume.
pub trait Volumes: Send + Sync + fmt::Debug {
    /// How it is. Changes nothing, and answers soon: checks wait for it.
    fn status<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, VolumeStatus>;
    /// Makes this node's copy the source, on the right that the daemon holds for it.
    fn promote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()>;
    /// This node's copy is the source no more, and what was written is durable.
    fn demote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()>;
    /// As a block device; its path. Replaces a dead attachment that nothing is mounted from.
    fn attach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, PathBuf>;
    /// The block device is gone.
    fn detach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()>;
    /// The block device as which it is attached, also one that is dead; none: it is not. Answers soon, and also when the
    /// volume's process does not.
    fn device_of<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, Option<PathBuf>>;
}

/// `source` or `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeRole {
    /// What writes to the volume writes here.
    Source,
    /// It follows the other copy, or waits for somebody to be promoted.
    Target,
}

/// What a copy is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeCopy {
    /// It has everything.
    UpToDate,
    /// Whole when contact was lost.
    LastKnownGood,
    /// The other copy went on without it.
    Outdated,
    /// In the middle of a resync, or never filled.
    Inconsistent,
    /// Its disk does not work.
    Failed,
}

/// How it stands with the other copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeMirror {
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
    /// Nothing is copied until an operator names the survivor.
    SplitBrain,
    /// One does not let the other in.
    Refused,
    /// There is no other copy.
    None,
}

/// The volume as a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeAttachment {
    /// Its path.
    pub device: PathBuf,
    /// False: what stood behind it is gone.
    pub works: bool,
}

/// How a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeStatus {
    /// What this node's copy is now.
    pub role: VolumeRole,
    /// What it is worth.
    pub copy: VolumeCopy,
    /// How it stands with the other one.
    pub mirror: VolumeMirror,
    /// Whether the source goes on without the other copy.
    pub alone: bool,
    /// None: it is no block device here.
    pub attachment: Option<VolumeAttachment>,
    /// Of the volume, in bytes.
    pub size_bytes: u64,
    /// What the other copy may have otherwise, in bytes.
    pub dirty_bytes: u64,
    /// Of a resync that goes on, 0 to 100.
    pub resync_percent: Option<u32>,
    /// A sentence for people.
    pub summary: String,
    /// Named extras.
    pub details: Vec<(String, String)>,
}

/// Why a volume did not do what it was asked. Each has the text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeTrouble {
    /// This node has no volume of that name.
    #[error("{0}")]
    NoSuchVolume(String),
    /// Its process does not run, or does not answer. What was asked has not happened.
    #[error("{0}")]
    Unavailable(String),
    /// It was asked, and what came of it is not known.
    #[error("{0}")]
    Lost(String),
    /// The daemon holds no right to write for it: another node owns it, or nobody knows who does.
    #[error("{0}")]
    NoRight(String),
    /// The copy is not good enough to become the source without force.
    #[error("{0}")]
    NotPromotable(String),
    /// Something uses it: attached for `demote`, open or mounted for `attach` and `detach`.
    #[error("{0}")]
    Busy(String),
    /// It did not become a block device, or does not stop being one.
    #[error("{0}")]
    Attachment(String),
    /// The volume itself says no: its disk, its other copy.
    #[error("{0}")]
    Failed(String),
}

/// A host without volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoVolumes;

impl NoVolumes {
    fn answer<'a, T: Send + 'a>(name: &str) -> VolumeAnswer<'a, T> {
        let trouble = VolumeTrouble::Unavailable(format!("there is no volume {name}: this host runs none"));
        Box::pin(std::future::ready(Err(trouble)))
    }
}

impl Volumes for NoVolumes {
    fn status<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, VolumeStatus> {
        Self::answer(name)
    }

    fn promote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        Self::answer(name)
    }

    fn demote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        Self::answer(name)
    }

    fn attach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, PathBuf> {
        Self::answer(name)
    }

    fn detach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        Self::answer(name)
    }

    fn device_of<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, Option<PathBuf>> {
        Self::answer(name)
    }
}
