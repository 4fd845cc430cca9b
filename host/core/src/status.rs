//! What a node shows of itself: states, alarms, events. Plain data with words for people; decides nothing.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::claim::{ClaimId, Epoch};
use crate::names::{HierarchyName, KitName, NodeName, PathName, Tag};
use crate::state::{Cause, OperationKind};
use crate::time::UnixMs;

/// A resource's state on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ResourceStatus {
    /// In service, protected.
    Isp,
    /// In service, but locally unprotected.
    Isu,
    /// Out of service, unimpaired.
    Osu,
    /// Out of service, failed.
    Osf,
    /// Not known.
    IllState,
}

impl fmt::Display for ResourceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Isp => "ISP",
            Self::Isu => "ISU",
            Self::Osu => "OSU",
            Self::Osf => "OSF",
            Self::IllState => "ILLSTATE",
        })
    }
}

/// A resource's state on one node, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceView {
    /// The state.
    pub status: ResourceStatus,
    /// It serves, but a person should look.
    pub degraded: bool,
    /// Why it is in this state.
    pub reason: String,
}

impl ResourceView {
    /// A state with its reason.
    pub fn new(status: ResourceStatus, reason: impl Into<String>) -> Self {
        Self { status, degraded: false, reason: reason.into() }
    }
}

impl fmt::Display for ResourceView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.status, if self.degraded { " (degraded)" } else { "" }, self.reason)
    }
}

/// What one node knows of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// It is the node that tells.
    Itself,
    /// Not heard yet since this daemon started.
    NotMet,
    /// Heard.
    Alive,
    /// All comm paths to it are dead.
    Silent,
    /// No heartbeats come, and its kernel answers: the machine is on, its daemon is not there or hangs (O7).
    Hangs,
    /// Its daemon stopped and said so; its resources stay in service.
    Left,
    /// Its daemon stopped and said so, with nothing in service there.
    Released,
}

impl Reach {
    /// Whether no heartbeats come, whatever that means.
    #[must_use]
    pub fn is_silence(self) -> bool {
        matches!(self, Self::Silent | Self::Hangs)
    }
}

/// One comm path to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathState {
    /// No heartbeat yet since this daemon started.
    NotHeard,
    /// Every heartbeat came.
    Green,
    /// It beats, and missed a heartbeat within the hysteresis time.
    Yellow,
    /// Dead: no heartbeat for the dead time.
    Red,
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NotHeard => "not heard yet",
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        })
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Itself => "this node",
            Self::NotMet => "not met yet",
            Self::Alive => "alive",
            Self::Silent => "silent",
            Self::Hangs => "silent, although its machine answers",
            Self::Left => "left, its resources stay",
            Self::Released => "left, with nothing in service there",
        })
    }
}

/// Something a person has to know, for as long as it is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Names this alarm; a new one for the same trouble has another.
    pub id: String,
    /// Which hierarchy it is about.
    pub hierarchy: Option<HierarchyName>,
    /// What is so, and what to do.
    pub text: String,
    /// Since when.
    pub since: UnixMs,
    /// What a confirmation of it answers: an owner that is silent (O10).
    pub confirms: Option<ClaimId>,
}

/// Everything at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// The node that tells.
    pub node: NodeName,
    /// Of mainstay.
    pub software: String,
    /// When.
    pub at: UnixMs,
    /// Every node of the cluster.
    pub nodes: Vec<NodeStatus>,
    /// Every hierarchy.
    pub hierarchies: Vec<HierarchyStatus>,
    /// What a person has to know, oldest first.
    pub alarms: Vec<Alarm>,
}

/// One node as the telling one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Which.
    pub name: NodeName,
    /// Is it there?
    pub reach: Reach,
    /// When it was last heard.
    pub last_heard: Option<UnixMs>,
    /// Whether its config is the same; none: not known.
    pub same_config: Option<bool>,
    /// Each comm path to it.
    pub paths: Vec<PathStatus>,
    /// The alarms that it has told of. This node's own are [`Status::alarms`].
    pub alarms: Vec<Alarm>,
}

/// One comm path to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// Which.
    pub name: PathName,
    /// How it does.
    pub state: PathState,
    /// When it last did.
    pub last_heard: Option<UnixMs>,
}

/// One hierarchy as the telling node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HierarchyStatus {
    /// Which.
    pub name: HierarchyName,
    /// Who may have it in service.
    pub owner: Option<NodeName>,
    /// Of the newest claim known.
    pub epoch: Option<Epoch>,
    /// In words: who has it, or why nobody does.
    pub ownership: String,
    /// Each of its nodes, in order of priority.
    pub nodes: Vec<HierarchyOnNode>,
    /// Its resources, each after all that depends on it; drawn as a tree by their depth.
    pub resources: Vec<ResourceRow>,
}

/// What a node is doing with a hierarchy that only an operator can take further.
pub const WAITING_FOR_OPERATOR: &str = "waiting for the operator";

/// A hierarchy on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HierarchyOnNode {
    /// Which node.
    pub node: NodeName,
    /// What it is doing with it.
    pub activity: Option<String>,
    /// Why it could not restore it now; none: it is not known whether it could.
    pub not_ready: Option<Vec<String>>,
}

/// A resource on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRow {
    /// Which.
    pub tag: Tag,
    /// Its kit.
    pub kit: KitName,
    /// What it depends on.
    pub depends_on: Vec<Tag>,
    /// Its state on each node that has told.
    pub on: BTreeMap<NodeName, ResourceView>,
}

/// Why a resource is in its state, and what comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which.
    pub tag: Tag,
    /// In which hierarchy.
    pub hierarchy: HierarchyName,
    /// On which node.
    pub node: NodeName,
    /// Its state there.
    pub view: ResourceView,
    /// How it came to be so, one sentence each.
    pub because: Vec<String>,
    /// What comes next, one sentence each.
    pub next: Vec<String>,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventSeverity {
    /// As it should be.
    Info,
    /// A person should look some time.
    Warning,
    /// A person should look now.
    Alarm,
}

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: UnixMs,
    /// How much it matters.
    pub severity: EventSeverity,
    /// To which hierarchy.
    pub hierarchy: Option<HierarchyName>,
    /// To which resource.
    pub tag: Option<Tag>,
    /// What.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum What {
    /// A daemon has started.
    Started {
        /// Above that of every earlier daemon of this node.
        incarnation: u64,
    },
    /// Peers hear another daemon that calls itself as this node does.
    Doubled {
        /// Who hears it.
        teller: NodeName,
    },
    /// The journal was damaged.
    JournalDamaged,
    /// This process was late: it was stopped, or the machine was too busy (O6).
    OwnGap {
        /// By how much.
        late_ms: u64,
    },
    /// The state of a comm path to a node has changed.
    Path {
        /// Which node.
        node: NodeName,
        /// Which path.
        path: PathName,
        /// To this.
        state: PathState,
    },
    /// One comm path to a node was dead while another was not: nothing is taken over from it by itself (O8); or that is
    /// over.
    Jeopardy {
        /// Which node.
        node: NodeName,
        /// Does it begin?
        begins: bool,
    },
    /// The fence command for a silent node is run (O15).
    Fencing {
        /// Which.
        node: NodeName,
    },
    /// It has ended.
    Fenced {
        /// Which.
        node: NodeName,
        /// Is it off for certain?
        ok: bool,
        /// What the command said.
        text: String,
    },
    /// A node is there or is not.
    Node {
        /// Which.
        node: NodeName,
        /// Is it there?
        reach: Reach,
    },
    /// What is going to be done, step by step.
    Plan {
        /// Why.
        cause: Cause,
        /// Each step with its reason.
        steps: Vec<String>,
    },
    /// A kit is asked to do something.
    OperationBegan {
        /// What.
        operation: OperationKind,
        /// From 1.
        attempt: u32,
        /// Why.
        cause: Cause,
    },
    /// It has ended.
    OperationEnded {
        /// What.
        operation: OperationKind,
        /// Did it do what it is for?
        ok: bool,
        /// How it ended.
        text: String,
        /// How long it took.
        took_ms: u64,
    },
    /// A check was bad.
    BadCheck {
        /// What it said.
        text: String,
        /// What is done about it.
        then: String,
    },
    /// A resource's state here has changed.
    State {
        /// What it was.
        from: ResourceStatus,
        /// What it is.
        to: ResourceView,
    },
    /// This node has claimed.
    Claimed {
        /// The claim.
        claim: ClaimId,
        /// Why.
        cause: Cause,
    },
    /// Another node has claimed, or released.
    Learned {
        /// In words.
        text: String,
    },
    /// This node gives it away.
    Released {
        /// To whom; none: to nobody.
        to: Option<NodeName>,
    },
    /// This node does not take what it was offered.
    Declined {
        /// Why.
        why: String,
    },
    /// Maintenance begins or ends.
    Maintenance {
        /// Begins?
        on: bool,
    },
    /// Everything that is wanted is in service here.
    InService,
    /// A request of an operator, and what becomes of it.
    Request {
        /// What was asked.
        request: String,
        /// Accepted or refused, and why.
        answer: String,
    },
    /// An alarm.
    AlarmRaised {
        /// Its name.
        id: String,
        /// What it says.
        text: String,
    },
    /// An alarm is over.
    AlarmCleared {
        /// Its name.
        id: String,
        /// What it said.
        text: String,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { .. } => f.write_str("the daemon of this node has started"),
            Self::Doubled { teller } => write!(
                f,
                "{teller} hears another daemon that calls itself as this node does: is a node name used twice, or a machine cloned? Stop one of them at once: both may bring the same in service"
            ),
            Self::JournalDamaged => {
                f.write_str("the journal is damaged: who owns what is not known until the others answer")
            }
            Self::OwnGap { late_ms } => write!(
                f,
                "this process was {late_ms} ms late; nobody is blamed for silence until it has listened again"
            ),
            Self::Path { node, path, state } => write!(f, "comm path {path} to {node} is {state}"),
            Self::Jeopardy { node, begins: true } => {
                write!(
                    f,
                    "jeopardy: one comm path to {node} was dead while another beats; nothing is taken over from it by itself (O8)"
                )
            }
            Self::Jeopardy { node, begins: false } => {
                write!(f, "jeopardy of {node} is over: two comm paths to it are green")
            }
            Self::Fencing { node } => write!(f, "fencing {node}"),
            Self::Fenced { node, ok: true, text } => write!(f, "{node} is fenced, so it is off for certain: {text}"),
            Self::Fenced { node, ok: false, text } => {
                write!(f, "fencing {node} failed, which says nothing of it: {text}")
            }
            Self::Node { node, reach } => write!(f, "node {node}: {reach}"),
            Self::Plan { cause, steps } => {
                write!(f, "plan ({cause}), {} step{}", steps.len(), if steps.len() == 1 { "" } else { "s" })?;
                steps.iter().take(PLAN_LINES_MAX).try_for_each(|step| write!(f, "\n    {step}"))?;
                if steps.len() > PLAN_LINES_MAX {
                    write!(f, "\n    ... and {} more", steps.len() - PLAN_LINES_MAX)?;
                }
                Ok(())
            }
            Self::OperationBegan { operation, attempt: 1, cause } => write!(f, "{operation} begins ({cause})"),
            Self::OperationBegan { operation, attempt, cause } => {
                write!(f, "{operation} begins, attempt {attempt} ({cause})")
            }
            Self::OperationEnded { operation, ok, text, took_ms } => {
                write!(f, "{operation} {} after {took_ms} ms: {text}", if *ok { "succeeded" } else { "failed" })
            }
            Self::BadCheck { text, then } => write!(f, "check: {text}; {then}"),
            Self::State { from, to } => write!(f, "{from} -> {to}"),
            Self::Claimed { claim, cause } => write!(f, "claimed ({cause}): {claim}"),
            Self::Learned { text } => f.write_str(text),
            Self::Released { to: Some(to) } => write!(f, "released, and offered to {to}"),
            Self::Released { to: None } => f.write_str("released, and offered to nobody"),
            Self::Declined { why } => write!(f, "declined: {why}"),
            Self::Maintenance { on: true } => f.write_str("in maintenance: checks go on, and nothing is done"),
            Self::Maintenance { on: false } => f.write_str("not in maintenance any more"),
            Self::InService => f.write_str("in service"),
            Self::Request { request, answer } => write!(f, "{request}: {answer}"),
            Self::AlarmRaised { id, text } => write!(f, "ALARM {id}: {text}"),
            Self::AlarmCleared { id, text } => {
                // What was to be done about it need not be said again.
                let first_sentence = text.split_inclusive(". ").next().unwrap_or(text).trim_end();
                write!(f, "alarm {id} is over: {first_sentence}")
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hierarchy, &self.tag) {
            (Some(hierarchy), Some(tag)) => write!(f, "{hierarchy}/{tag}: {}", self.what),
            (Some(hierarchy), None) => write!(f, "{hierarchy}: {}", self.what),
            (None, Some(tag)) => write!(f, "{tag}: {}", self.what),
            (None, None) => self.what.fmt(f),
        }
    }
}

/// How many steps of a plan are printed; the rest is counted. Enough to read, not to scroll through.
const PLAN_LINES_MAX: usize = 40;
