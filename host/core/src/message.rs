//! What nodes tell each other.
//!
//! Everything is said as a state, not as a change: a message that is lost, doubled or late does no harm, because
//! the next one says it again and an older one is recognised (incarnation, then version).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::claim::{Claim, ClaimId};
use crate::health::NodeReport;
use crate::names::{HierarchyName, KitName, NodeName, PathName, Tag, VolumeName};
use crate::state::{Maintenance, Standing};
use crate::status::{Alarm, ResourceView};
use crate::time::{Millis, UnixMs};
use crate::volume::{Marked, Question};

/// A sign of life. Small, and complete in itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Of which cluster.
    pub cluster: String,
    /// Who lives.
    pub from: NodeName,
    /// Who is told.
    pub to: NodeName,
    /// On which comm path.
    pub path: PathName,
    /// Of which daemon of that node.
    pub incarnation: u64,
    /// The sender misses heartbeats on this path and wants one at once: one that was lost is no sign of death.
    #[serde(default)]
    pub asks: bool,
}

/// A message to one peer, in order within a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerMessage {
    /// What the sender knows and is.
    State(PeerState),
    /// A request that this peer has to carry out.
    Ask {
        /// Comes back with the answer.
        id: u64,
        /// Which of the sender's daemons asks: comes back, too.
        asker: u64,
        /// What.
        request: PeerRequest,
    },
    /// What became of a request.
    Answer {
        /// Of which.
        id: u64,
        /// Which daemon had asked.
        asker: u64,
        /// Accepted, and what happens now; or why not.
        result: Result<String, String>,
    },
    /// The sender's copy of a volume is about to go on alone: the receiver's has to be marked outdated (VOLUME V3).
    MarkOutdated {
        /// Of which volume.
        volume: VolumeName,
        /// Comes back with the answer.
        question: Question,
        /// On which claim the sender's copy is the source.
        claim: ClaimId,
        /// From which generation it goes on, as its process says it.
        generation: String,
    },
    /// What became of it.
    Marked {
        /// Of which volume.
        volume: VolumeName,
        /// Which question.
        question: Question,
        /// What.
        outcome: Marked,
    },
    /// The receiver is to examine itself. Asked only of one that says that it can ([`PeerState::examines`]): to another it
    /// would be no message at all.
    Examine {
        /// Comes back with the answer.
        id: u64,
        /// Which of the sender's daemons asks: comes back, too.
        asker: u64,
        /// What is examined; none: everything.
        hierarchy: Option<HierarchyName>,
        /// What is not known by then is left out.
        within: Millis,
    },
    /// What was found.
    Examined {
        /// Of which question.
        id: u64,
        /// Which daemon had asked.
        asker: u64,
        /// What it says of itself.
        report: NodeReport,
    },
    /// The sender's daemon stops (O9).
    Leave {
        /// Which of its daemons.
        incarnation: u64,
        /// Its resources stay in service, for so long at most until its next daemon is there.
        hold: Millis,
        /// Nothing is in service there: nobody has to worry.
        #[serde(default)]
        released: bool,
    },
}

/// What an operator asked of one node and another has to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerRequest {
    /// Bring in service what the owner has taken out.
    InService {
        /// What.
        hierarchy: HierarchyName,
        /// One resource, and what it depends on.
        tag: Option<Tag>,
    },
    /// Take out of service.
    OutOfService {
        /// What.
        hierarchy: HierarchyName,
        /// One resource, and what depends on it.
        tag: Option<Tag>,
    },
    /// Move.
    Switchover {
        /// What.
        hierarchy: HierarchyName,
        /// Where to.
        to: NodeName,
    },
    /// Decline the offer, if it was not taken: the giver wants it back (O18).
    TakeBack {
        /// What.
        hierarchy: HierarchyName,
        /// Under which claim it was offered.
        claim: ClaimId,
        /// In which revision.
        revision: u32,
    },
    /// Have nothing in service there, or let it be there again.
    Drain {
        /// Begins, or ends.
        on: bool,
    },
    /// Promise not to claim what the asker owns: the arbiter does not answer it (O12).
    Promise {
        /// What.
        hierarchy: HierarchyName,
        /// The asker's claim.
        claim: ClaimId,
        /// For how long.
        lasts: Millis,
    },
}

/// What a node knows and is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Of which cluster.
    pub cluster: String,
    /// Whose.
    pub from: NodeName,
    /// Of which of its daemons.
    pub incarnation: u64,
    /// Grows with every message of one daemon.
    pub version: u64,
    /// The newest daemon of the receiver that the sender has heard of: with the receiver's own incarnation this
    /// is an answer to it (O3).
    pub heard: u64,
    /// Of its config.
    pub config_hash: String,
    /// Of each part of its config, told when the whole is another than the receiver's.
    #[serde(default)]
    pub config_parts: Option<BTreeMap<String, String>>,
    /// Of mainstay.
    pub software: String,
    /// The version of each of its kits.
    #[serde(default)]
    pub kits: BTreeMap<KitName, String>,
    /// It understands [`PeerMessage::Examine`].
    #[serde(default)]
    pub examines: bool,
    /// What it knows of each hierarchy.
    pub hierarchies: Vec<HierarchySummary>,
    /// Its alarms, the oldest, at most so many as people can read.
    pub alarms: Vec<Alarm>,
}

/// What a node knows of a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HierarchySummary {
    /// Which.
    pub name: HierarchyName,
    /// Who may own it; none when the node does not know.
    pub ownership: Option<OwnershipSummary>,
    /// Whether it is in maintenance.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// The offer it has declined.
    pub declined: Option<(ClaimId, u32)>,
    /// Whether something of it is or may be on that node.
    pub occupied: bool,
    /// Whether it is that node's, offered, and may be taken: nothing of it is left there, and the daemon that says so has
    /// proof that it is its node's to give (O3, O18).
    pub offers: bool,
    /// Whether its daemon has looked at everything of it that should not be there, since it started.
    pub looked: bool,
    /// Why it could not restore it now; empty when it could.
    pub not_ready: Vec<String>,
    /// What it is doing with it.
    pub activity: Option<String>,
    /// Its resources there; none when nothing has changed since the last time this daemon told.
    pub resources: Option<Vec<(Tag, ResourceView)>>,
}

/// A claim with what its claimant says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnershipSummary {
    /// The newest claim known.
    pub claim: Option<Claim>,
    /// What its claimant says of it.
    pub standing: Standing,
    /// When it failed over.
    pub failovers: Vec<UnixMs>,
}

/// The nodes in it, for people.
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a NodeName>) -> String {
    let names: BTreeSet<&str> = names.into_iter().map(NodeName::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}
