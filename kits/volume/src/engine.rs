//! What mirrors a volume, as the operations see it: the host's own volumes, or DRBD.
//!
//! Neither is ever asked to overwrite or to force anything: what a copy is worth, and who may write, is for the host or for
//! DRBD to say.

use mainstay_sdk::prelude::*;
use mainstay_sdk::volume::{Attachment, CopyState, MirrorState, Role, Standing};

use crate::drbd::Drbd;

/// What mirrors a volume.
pub(crate) enum Engine {
    /// The host.
    Mainstay {
        /// The volume's name.
        name: String,
    },
    /// DRBD.
    Drbd(Drbd),
}

/// Whether the volume is a block device here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    No,
    Works,
    /// There is one, and what stood behind it is gone.
    Dead,
}

/// Something about the mirror that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) code: &'static str,
    pub(crate) summary: String,
}

/// How a volume is on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) is_source: bool,
    pub(crate) copy: CopyState,
    pub(crate) attached: Attached,
    /// None: the other copy gets everything.
    pub(crate) trouble: Option<Trouble>,
    /// In the engine's own words.
    pub(crate) summary: String,
    /// What the engine calls it.
    pub(crate) mirror: String,
}

impl Engine {
    pub(crate) fn view(&self) -> Result<View, Error> {
        match self {
            Self::Mainstay { name } => Ok(view(name, volume::status(name)?)),
            Self::Drbd(drbd) => drbd.view(),
        }
    }

    /// Whether it is set up so that it must not be used.
    pub(crate) fn refuse(&self) -> Result<(), Error> {
        match self {
            Self::Mainstay { .. } => Ok(()),
            Self::Drbd(drbd) => drbd.refuse_two_primaries(),
        }
    }

    /// This node's copy becomes the source. It is so already: ok.
    pub(crate) fn promote(&self) -> Result<(), Error> {
        match self {
            Self::Mainstay { name } => {
                volume::promote(name).map_err(|fault| Error::from(fault).doing(format_args!("promote {self}")))
            }
            Self::Drbd(drbd) => drbd.promote(),
        }
    }

    /// The volume becomes a block device. It is so already: ok.
    pub(crate) fn attach(&self) -> Result<(), Error> {
        match self {
            Self::Mainstay { name } => volume::attach(name)
                .map(drop)
                .map_err(|fault| Error::from(fault).doing(format_args!("attach {self} as a block device"))),
            // Its device is there as long as the resource is up.
            Self::Drbd(_) => Ok(()),
        }
    }

    /// It is no block device any more. It is not one: ok.
    pub(crate) fn detach(&self) -> Result<(), Error> {
        match self {
            Self::Mainstay { name } => absent_is_fine(volume::detach(name))
                .map_err(|fault| Error::from(fault).doing(format_args!("detach {self}"))),
            Self::Drbd(_) => Ok(()),
        }
    }

    /// This node's copy is the source no more. It is not: ok.
    pub(crate) fn demote(&self) -> Result<(), Error> {
        match self {
            Self::Mainstay { name } => absent_is_fine(volume::demote(name))
                .map_err(|fault| Error::from(fault).doing(format_args!("demote {self}"))),
            Self::Drbd(drbd) => drbd.demote(),
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mainstay { name } => write!(f, "the volume {name}"),
            Self::Drbd(drbd) => write!(f, "the DRBD resource {}", drbd.resource),
        }
    }
}

/// Whether this says that the volume is not there at all on this node.
pub(crate) fn is_absent(error: &Error) -> bool {
    matches!(error.code.as_str(), "no-such-volume" | "drbd-down")
}

/// A volume that this node does not have is neither attached nor the source here.
fn absent_is_fine(done: Result<(), Fault>) -> Result<(), Fault> {
    match done {
        Err(fault) if fault.code == "no-such-volume" => Ok(()),
        other => other,
    }
}

fn view(name: &str, standing: Standing) -> View {
    let Standing { role, copy, mirror, alone, attachment, resync_percent, summary, .. } = standing;
    let trouble = |code, summary: String| Some(Trouble { code, summary });
    let of = |what: &str| format!("the volume {name} {what}: {summary}");
    let trouble = match mirror {
        MirrorState::SplitBrain => trouble("split-brain", of("is split: both copies have what the other lacks")),
        MirrorState::Refused => trouble("mirror-refused", of("is not mirrored: one side refuses the other")),
        MirrorState::Paused => trouble("mirror-paused", of("is not mirrored: its mirror is paused")),
        MirrorState::Broken => trouble("mirror-broken", of("is not mirrored: there is no contact with the other copy")),
        MirrorState::Resync => {
            let percent = resync_percent.map_or_else(String::new, |percent| format!(" ({percent} %)"));
            trouble("mirror-resync", of(&format!("is being copied{percent}")))
        }
        MirrorState::None => trouble("no-mirror", of("has no other copy")),
        MirrorState::Connected | MirrorState::Idle | MirrorState::Greeting if alone => {
            trouble("alone", of("goes on without the other copy"))
        }
        MirrorState::Greeting => {
            trouble("mirror-greeting", of("is not mirrored yet: the two copies are getting together"))
        }
        MirrorState::Connected | MirrorState::Idle => None,
    };
    View {
        is_source: role == Role::Source,
        copy,
        attached: match attachment {
            None => Attached::No,
            Some(Attachment { works: true, .. }) => Attached::Works,
            Some(Attachment { works: false, .. }) => Attached::Dead,
        },
        trouble,
        summary,
        mirror: word(mirror).to_owned(),
    }
}

fn word(mirror: MirrorState) -> &'static str {
    match mirror {
        MirrorState::Connected => "connected",
        MirrorState::Resync => "resync",
        MirrorState::Idle => "idle",
        MirrorState::Greeting => "greeting",
        MirrorState::Broken => "broken",
        MirrorState::Paused => "paused",
        MirrorState::SplitBrain => "split-brain",
        MirrorState::Refused => "refused",
        MirrorState::None => "none",
    }
}

/// What a copy is worth, in a word.
pub(crate) fn worth(copy: CopyState) -> &'static str {
    match copy {
        CopyState::UpToDate => "up-to-date",
        CopyState::LastKnownGood => "last-known-good",
        CopyState::Outdated => "outdated",
        CopyState::Inconsistent => "inconsistent",
        CopyState::Failed => "failed",
    }
}
