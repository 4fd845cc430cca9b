//! What is said to the arbiter, and what it says (O12, O13). Plain data; how it is said to etcd is the daemon's.
//!
//! The arbiter keeps two things of each hierarchy: a **record** without a lease (the newest claim and how it stands),
//! and a **permit** under the lease of one node (who may act). A permit is gone when its lease has run out. The
//! right to act is the node's own permit as the arbiter shows it, and ends with the lease, counted from when the
//! renewal was sent.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::claim::Epoch;
use crate::message::OwnershipSummary;
use crate::names::{HierarchyName, NodeName, VolumeName};
use crate::time::Millis;

/// Names a request to the arbiter, of this daemon. Never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArbiterId(pub u64);

/// What the arbiter is asked. Each is answered with [`ArbiterAnswer`], within the request timeout of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArbiterRequest {
    /// Keep this node's lease alive (the one its permits are under, even if an earlier daemon made it; a new one if there
    /// is none or it has run out), and then look. In this order.
    Renew,
    /// In one step: if the record of the hierarchy has this version and nobody has a permit for it, or this node
    /// itself has, or it is forced, write the record, and a permit for its epoch under this node's lease.
    Take {
        /// What.
        hierarchy: HierarchyName,
        /// The record's version as it was seen; 0: there was none.
        expected: u64,
        /// The new record: a claim of this node, held.
        record: OwnershipSummary,
        /// Whoever has a permit loses it: the operator has stated that all others are off.
        force: bool,
    },
    /// In one step: if this node has the permit, write the record and take the permit away.
    Give {
        /// What.
        hierarchy: HierarchyName,
        /// The new record: the claim of this node, released or offered.
        record: OwnershipSummary,
    },
    /// In one step: if the record of the hierarchy has this version, note that this node's copy of a volume is outdated, or
    /// that none is (VOLUME V3), and write the record again as it is, so that it has a new version: what was asked before this
    /// and comes later is refused.
    Mark {
        /// Of which hierarchy.
        hierarchy: HierarchyName,
        /// The record's version as it was seen, with this node's own claim in it.
        expected: u64,
        /// Which volume.
        volume: VolumeName,
        /// Whose copy is outdated; none: nobody's.
        outdated: Option<NodeName>,
    },
}

/// What the arbiter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArbiterAnswer {
    /// To [`ArbiterRequest::Renew`]: the lease is this long as granted, which may be longer than asked; and what was seen
    /// after that.
    Renewed {
        /// Counted by the arbiter from when it had the request, so not before it was sent.
        lease: Millis,
        /// Everything there is.
        view: ArbiterView,
    },
    /// To [`ArbiterRequest::Take`], [`ArbiterRequest::Give`] and [`ArbiterRequest::Mark`]: whether it was done, and what was seen after that.
    Done {
        /// It was.
        done: bool,
        /// Everything there is.
        view: ArbiterView,
    },
    /// Not reached, or no answer in time: nobody knows whether it was done.
    Failed(String),
}

/// Everything the arbiter has of this cluster, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArbiterView {
    /// Each hierarchy of which it has anything.
    pub hierarchies: BTreeMap<HierarchyName, ArbiterEntry>,
}

/// What it has of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArbiterEntry {
    /// The newest claim, and how it stands; none: nothing was ever written.
    pub record: Option<OwnershipSummary>,
    /// Grows with every change of the record; 0: there is none.
    pub version: u64,
    /// Who may act.
    pub permit: Option<Permit>,
    /// Whose copy of a volume is outdated (VOLUME V3).
    pub outdated: BTreeMap<VolumeName, NodeName>,
}

/// The right to act, as the arbiter shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    /// Whose.
    pub node: NodeName,
    /// Of which claim.
    pub epoch: Epoch,
    /// Whether it is under the lease that this node renews: a permit that bears this node's name and hangs on another
    /// lease is not kept alive by anybody.
    #[serde(skip)]
    pub ours: bool,
}
