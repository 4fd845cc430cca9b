//! What people are shown of a volume, and what they are told when it happens.

use alloc::string::String;
use core::fmt;

use mainstay_core::time::UnixMs;

use crate::io::{DiskError, LinkEnd, Marked};
use crate::log::LogError;
use crate::types::{Epoch, Generation, REGION_BYTES, Region, Side};

/// What a copy is worth (V4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// In contact, and it has everything.
    UpToDate,
    /// It had everything when contact was lost, and nothing was heard since.
    LastKnownGood {
        /// When that was.
        since: UnixMs,
    },
    /// The source has gone on without it.
    Outdated,
    /// In the middle of a resync, or created empty.
    Inconsistent,
    /// Its backing has failed (V10).
    Failed,
}

impl fmt::Display for CopyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpToDate => "up to date",
            Self::LastKnownGood { .. } => "last known good",
            Self::Outdated => "outdated",
            Self::Inconsistent => "inconsistent",
            Self::Failed => "failed",
        })
    }
}

/// Whether a copy serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It serves the application.
    Source,
    /// It does not.
    Target,
}

/// How far something is that goes over many regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Regions that are done.
    pub done: u32,
    /// Of so many.
    pub of: u32,
}

impl Progress {
    /// In per cent, rounded down.
    #[must_use]
    pub fn percent(self) -> u32 {
        u64::from(self.done).saturating_mul(100).checked_div(u64::from(self.of)).map_or(100, |it| it.min(100) as u32)
    }
}

/// What a resync or a verify could not read on this copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// How many regions.
    pub regions: u32,
    /// The first of them.
    pub first: Region,
    /// What came of it.
    pub error: DiskError,
}

impl Unread {
    /// By how many there are.
    #[must_use]
    pub fn max(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let regions = |unread: Option<Self>| unread.map_or(0, |unread| unread.regions);
        if regions(one) >= regions(other) { one } else { other }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DiskError::Errno(errno) = self.error;
        let (regions, offset) = (self.regions, self.first.offset());
        write!(f, "{regions} regions of this copy cannot be read, the first at byte {offset} (error {errno})")
    }
}

/// How it stands with the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// No contact.
    Broken,
    /// Greeting, or comparing the logs.
    Greeting,
    /// In contact; nobody is the source, so nothing is mirrored.
    Idle,
    /// What is written goes to both copies, and both have everything.
    Connected,
    /// The target is being brought up to date.
    Resync(Progress),
    /// By an operator.
    Paused,
    /// V11: an operator has to name the survivor.
    SplitBrain(SplitBrain),
    /// The peer's copy does not fit.
    Refused(String),
}

/// Both copies went on without the other. What either side would lose (V11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitBrain {
    /// Regions this copy has written, at the most.
    pub my_regions: u32,
    /// Since when this copy went on its own.
    pub mine: Generation,
    /// Regions the peer's copy has written, at the most.
    pub their_regions: u32,
    /// Since when it went on its own.
    pub theirs: Generation,
}

impl fmt::Display for SplitBrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |regions: u32| u64::from(regions) * REGION_BYTES;
        write!(
            f,
            "this copy has up to {} bytes in {} regions of its own, since {}; the peer's has up to {} bytes in {} \
             regions, since {}",
            bytes(self.my_regions),
            self.my_regions,
            self.mine.began,
            bytes(self.their_regions),
            self.their_regions,
            self.theirs.began
        )
    }
}

/// What it takes to promote this copy (V4), and what may be lost by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// Nothing.
    Free,
    /// The operator's word, or what [`crate::io::Basis`] has in its place. What is lost: what the source acknowledged
    /// since then, if it went on alone.
    Confirm {
        /// When the peer was last heard.
        since: UnixMs,
    },
    /// Force. What is lost is said.
    Force(String),
    /// Nothing helps.
    Never(String),
}

/// Everything at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it serves.
    pub role: Role,
    /// What the copy is worth.
    pub copy: CopyState,
    /// How it stands with the peer.
    pub link: LinkState,
    /// What it takes to promote it.
    pub promotion: Promotion,
    /// Bytes of the volume.
    pub size: u64,
    /// The newest claim known.
    pub epoch: Epoch,
    /// Of the data.
    pub generation: Generation,
    /// Goes on without the peer (V3).
    pub alone: bool,
    /// Why it serves nothing though it is the source, if so.
    pub waits: Option<&'static str>,
    /// What a resync or a verify that runs could not read here.
    pub unread: Option<Unread>,
    /// Regions that the peer's copy may have otherwise.
    pub dirty_regions: u32,
    /// Of those, the ones that are only hot: written lately, and the same on both copies but for what is under way.
    pub hot_regions: u32,
    /// Verify, if it runs, and how many regions differ so far.
    pub verify: Option<(Progress, u32)>,
    /// Requests under way.
    pub requests: usize,
    /// Async mode: bytes sent and not yet applied.
    pub lag_bytes: u64,
    /// Bytes of resync data sent since this copy was opened, zero regions not counted.
    pub resync_bytes: u64,
}

/// Something that has happened, for people. `Display` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// V6.
    LogNotBelieved(LogError),
    /// V6.
    LogSectorsDamaged(u32),
    /// V4.
    Promoted(Epoch),
    /// V4: audited.
    Forced(String),
    /// In order.
    Demoted,
    /// V1, V2.
    RightLost(Epoch),
    /// V1.
    PermitEnded,
    /// V1.
    RightEnded,
    /// V4: a copy that was promoted and has not written anything yet meets one that has more.
    FoundBehind,
    /// V3.
    GoingAlone {
        /// What it is called from now on.
        generation: Generation,
        /// How the peer's copy was marked; none: it was not (no arbiter, no path).
        marked: bool,
    },
    /// V3: it may not.
    NotMarked(Marked),
    /// V3.
    MarkedOutdated,
    /// The link is there or gone.
    LinkEnded(LinkEnd),
    /// The driver's connection broke.
    LinkLost,
    /// Contact.
    Greeted,
    /// V11, V12.
    ResyncBegan {
        /// Regions to copy.
        regions: u32,
    },
    /// V11: this copy was the source, and gives up what it has in so many regions that the peer's copy may never have
    /// seen.
    GivesUp {
        /// How many.
        regions: u32,
        /// Since when.
        since: Generation,
    },
    /// V12.
    ResyncDone {
        /// Regions copied.
        regions: u32,
    },
    /// Both have everything.
    UpToDate,
    /// V11.
    SplitBrain(SplitBrain),
    /// V11.
    Resolved(Side),
    /// V11.
    ResolveRefused,
    /// V10.
    BackingFailed {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        error: DiskError,
    },
    /// V10: not more than one request's matter.
    ReadFailed(DiskError),
    /// V10.
    PeerFailed,
    /// Verify is over.
    Verified {
        /// Regions compared.
        regions: u32,
        /// Those that differed; a resync of them follows.
        different: u32,
        /// Those that could not be read here.
        unread: u32,
    },
    /// One of them.
    Different(Region),
    /// Source: what it cannot copy, once in a while.
    CopyUnread(Unread),
    /// Source: what it cannot compare, once.
    VerifyUnread(Unread),
    /// Target: a region that it was to compare.
    CheckUnread(Region, DiskError),
    /// Broken off.
    VerifyEnded,
    /// By the operator.
    Paused,
    /// By the operator.
    Resumed,
    /// By the operator.
    Invalidated,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogNotBelieved(why) => {
                write!(f, "{why}: every region counts as changed, and all of it will be copied")
            }
            Self::LogSectorsDamaged(count) => {
                write!(f, "{count} sectors of the intent log cannot be read: all of their regions count as changed")
            }
            Self::Promoted(epoch) => write!(f, "this copy is the source, by {epoch}"),
            Self::Forced(lost) => write!(f, "this copy was promoted by force: {lost}"),
            Self::Demoted => f.write_str("this copy is a target; everything is durable"),
            Self::RightLost(epoch) => write!(f, "{epoch} is newer than this copy's claim: requests get an error"),
            Self::PermitEnded => f.write_str("the permit to write has ended: requests get an error"),
            Self::RightEnded => f.write_str("the host has taken the right to write back: requests get an error"),
            Self::FoundBehind => f.write_str(
                "this copy was promoted, and the peer's has more: requests get an error; serve the other one",
            ),
            Self::GoingAlone { generation, marked: true } => {
                write!(f, "going on without the peer as {generation}; its copy is marked outdated")
            }
            Self::GoingAlone { generation, marked: false } => write!(
                f,
                "going on without the peer as {generation}; its copy could not be told, and does not know that it is outdated"
            ),
            Self::NotMarked(Marked::Unreachable) => {
                f.write_str("the peer is gone, and neither it nor the arbiter can be told: writers wait")
            }
            Self::NotMarked(Marked::Superseded(epoch)) => write!(f, "may not go on alone: there is {epoch}"),
            Self::NotMarked(Marked::InContact | Marked::Done) => {
                f.write_str("the peer's copy is in contact: waiting for the link")
            }
            Self::MarkedOutdated => f.write_str("this copy is outdated: the source goes on without it"),
            Self::LinkEnded(why) => write!(f, "the mirror link was ended: {why}"),
            Self::LinkLost => f.write_str("the mirror link is gone"),
            Self::Greeted => f.write_str("the peer is there"),
            Self::ResyncBegan { regions } => write!(f, "resync of {regions} regions begins"),
            Self::GivesUp { regions, since } => write!(
                f,
                "this copy was the source and gives up what it alone has: up to {regions} regions, since {}",
                since.began
            ),
            Self::ResyncDone { regions } => write!(f, "resync is done: {regions} regions copied"),
            Self::UpToDate => f.write_str("both copies are up to date"),
            Self::SplitBrain(split) => write!(
                f,
                "split brain: both copies were written without the other. Nothing is overwritten until the survivor is named: {split}"
            ),
            Self::Resolved(side) => write!(f, "split brain resolved: the data of side {side} survives"),
            Self::ResolveRefused => {
                f.write_str("the peer cannot give up its data: it serves it. Take it out of service first")
            }
            Self::BackingFailed { what, error: DiskError::Errno(errno) } => {
                write!(f, "the backing has failed (error {errno} when {what}): this copy serves nothing any more")
            }
            Self::ReadFailed(DiskError::Errno(errno)) => write!(f, "a read failed with error {errno}"),
            Self::PeerFailed => f.write_str("the backing of the peer's copy has failed: it drops out"),
            Self::Verified { regions, different: 0, unread: 0 } => {
                write!(f, "verify: all {regions} regions are the same")
            }
            Self::Verified { regions, different, unread: 0 } => {
                write!(f, "verify: {different} of {regions} regions differ, and are copied now")
            }
            Self::Verified { regions, different: 0, unread } => write!(
                f,
                "verify: {unread} of {regions} regions could not be read here, and are not compared; the others are the same"
            ),
            Self::Verified { regions, different, unread } => write!(
                f,
                "verify: {different} of {regions} regions differ, and are copied now; {unread} could not be read here, and are not compared"
            ),
            Self::CopyUnread(unread) => {
                write!(f, "{unread}: the target stays inconsistent, and it is tried again every few seconds")
            }
            Self::VerifyUnread(unread) => write!(f, "{unread}: what cannot be read is not compared"),
            Self::CheckUnread(region, DiskError::Errno(errno)) => write!(
                f,
                "verify: the region at byte {} cannot be read here (error {errno}), and is copied anew",
                region.offset()
            ),
            Self::Different(region) => write!(f, "verify: the region at byte {} differs", region.offset()),
            Self::VerifyEnded => f.write_str("verify was broken off"),
            Self::Paused => f.write_str("the mirror is paused"),
            Self::Resumed => f.write_str("the mirror is resumed"),
            Self::Invalidated => f.write_str("this copy is not believed any more: all of it will be copied"),
        }
    }
}
