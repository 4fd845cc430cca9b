//! What a node knows of its hierarchies only while its daemon lives. Plain data; lost with the daemon, and found
//! out again.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::arbiter::Taking;
use super::io::{Abilities, CallId, CheckReport, Finding};
use crate::claim::ClaimId;
use crate::hierarchy::{Hierarchy, ResourceIndex};
use crate::ladder::Ladder;
use crate::names::{NodeName, VolumeName};
use crate::plan::Goal;
use crate::sequence::Sequence;
use crate::state::Cause;
use crate::status::{ResourceStatus, ResourceView};
use crate::time::Monotonic;
use crate::volume::{Silence, ToVolume};

/// A hierarchy, while the daemon lives.
#[derive(Debug)]
pub(super) struct LocalHierarchy {
    pub(super) hierarchy: Hierarchy,
    /// Whether this node may own it.
    pub(super) member: bool,
    /// This daemon has proof that its node is the owner, if it is (O3).
    pub(super) proven: bool,
    /// A plan for what the node is about has been carried out as far as it goes; another one only for a reason.
    pub(super) attempted: bool,
    /// The plan being carried out.
    pub(super) running: Option<Running>,
    /// Why a failure could not lead to a failover, the last time it was looked into.
    pub(super) stranded: Option<String>,
    /// This daemon has made a claim that the arbiter was not told of. The word for it was said to this one: none after it
    /// knows what has been since (O3).
    pub(super) spoken: bool,
    /// When the newest claim was made or heard of.
    pub(super) claim_known_at: Monotonic,
    /// A claim that is being made at the arbiter (O12).
    pub(super) taking: Option<Taking>,
    /// Since when nobody has a permit, as the arbiter shows it.
    pub(super) free_since: Option<Monotonic>,
    /// Since when the arbiter knows an older claim than this node, or none any more.
    pub(super) gone_back: Option<Monotonic>,
    /// Who has promised not to claim: until when, and when that was asked for.
    pub(super) promised_by: BTreeMap<NodeName, (Monotonic, Monotonic)>,
    /// This node has promised not to claim until then.
    pub(super) promised_until: Option<Monotonic>,
    /// A node of higher priority that could take it, and since when.
    pub(super) better: Option<(NodeName, Monotonic)>,
    /// When the paths to the owner that it was taken over from fell silent: the first and the last of them, and how far
    /// apart they may be.
    pub(super) silence: Option<Silence>,
    /// What the process of each volume was told last of its right to write.
    pub(super) rights: BTreeMap<VolumeName, ToVolume>,
    /// The newest claim that the label of each volume's copy knows, as its process has told this daemon.
    pub(super) labels: BTreeMap<VolumeName, ClaimId>,
    pub(super) resources: Vec<LocalResource>,
}

/// A plan being carried out.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) goal: Goal,
    pub(super) cause: Cause,
    pub(super) sequence: Sequence,
}

/// A resource, while the daemon lives.
#[derive(Debug)]
pub(super) struct LocalResource {
    /// The call that is going on.
    pub(super) call: Option<CallId>,
    /// What an earlier daemon started is still there (O23).
    pub(super) leftover: bool,
    /// The step of the running plan that waits for this resource, or that it is at.
    pub(super) step: Option<usize>,
    pub(super) ladder: Ladder,
    /// Its repair waits for something it depends on.
    pub(super) held: bool,
    /// Why nobody knows how the last attempt of an operation ended.
    pub(super) last_fault: Option<String>,
    /// It was looked at since the daemon started, or brought in service by it.
    pub(super) looked: bool,
    /// What the last check said.
    pub(super) report: Option<CheckReport>,
    /// What a check found running here, although another node owns it (O21).
    pub(super) violation: Option<String>,
    /// What is wrong with its kit, params or grants on this node.
    pub(super) unusable: Option<String>,
    /// What its kit can do beside the four operations.
    pub(super) able: Abilities,
    /// When it is looked at thoroughly next, while it is in service here.
    pub(super) deep_check_at: Monotonic,
    /// What the last thorough look came to.
    pub(super) deep: Deep,
    /// What the kit found about that, the last time it could tell since this node was not the owner.
    pub(super) findings: Vec<Finding>,
    /// What is shown of it.
    pub(super) view: ResourceView,
}

/// What a thorough look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deep {
    /// It was well, or there was none yet.
    Well,
    /// It was bad or took too long: all looks are thorough until one finds it well.
    Doubt,
    /// It could not tell: what quick-check says counts.
    Blind,
}

/// A call that is going on.
#[derive(Clone, Debug)]
pub(super) struct ActiveCall {
    pub(super) hierarchy: super::timers::HierarchyIndex,
    pub(super) resource: ResourceIndex,
    pub(super) purpose: Purpose,
    pub(super) cancelled: bool,
    pub(super) began: Monotonic,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A check of what is in service here: the ladder is told.
    Check,
    /// The same, thoroughly.
    DeepCheck,
    /// A check of what should not be in service here (O21).
    StandbyCheck,
    /// Whether this node is ready to bring in service what it does not own.
    Assess,
    /// A look at what an operation with unknown outcome has left, before it is tried again.
    Look,
    /// restore, remove or recover.
    Operation,
}

impl LocalHierarchy {
    pub(super) fn new(hierarchy: Hierarchy, member: bool) -> Self {
        let resource = || LocalResource {
            call: None,
            leftover: false,
            step: None,
            ladder: Ladder::default(),
            held: false,
            last_fault: None,
            looked: false,
            report: None,
            violation: None,
            unusable: None,
            able: Abilities::default(),
            deep_check_at: Monotonic::default(),
            deep: Deep::Well,
            findings: Vec::new(),
            view: ResourceView::new(ResourceStatus::IllState, "the daemon has just started"),
        };
        let resources = hierarchy.resources().map(|_| resource()).collect();
        Self {
            hierarchy,
            member,
            proven: false,
            attempted: false,
            running: None,
            stranded: None,
            spoken: false,
            claim_known_at: Monotonic::default(),
            taking: None,
            free_since: None,
            gone_back: None,
            promised_by: BTreeMap::new(),
            promised_until: None,
            better: None,
            silence: None,
            rights: BTreeMap::new(),
            labels: BTreeMap::new(),
            resources,
        }
    }
}
