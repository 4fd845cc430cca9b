//! What goes into a node and what comes out of it. All of it is plain data.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::timers::HierarchyIndex;
use crate::arbiter::{ArbiterAnswer, ArbiterId, ArbiterRequest, ArbiterView};
use crate::claim::{ClaimId, Epoch};
use crate::health::{HealthReport, Survey};
use crate::hierarchy::ResourceIndex;
use crate::message::{Heartbeat, PeerMessage};
use crate::names::{HierarchyName, KitName, NodeName, PathName, Tag, VolumeName};
use crate::state::{Cause, Record};
use crate::status::Event;
use crate::time::{Millis, Monotonic};
use crate::volume::{FromVolume, ToVolume};

/// What happens to a node. A closed set: nothing else can change what it decides.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed; see [`super::Node::poll_timeout`].
    Tick,
    /// A heartbeat has arrived.
    Heartbeat(Heartbeat),
    /// Messages to and from this peer go through from now on, in order, until [`Input::SessionLost`].
    SessionUp(NodeName),
    /// They do not any more. Says nothing about the peer.
    SessionLost(NodeName),
    /// A message has arrived.
    Message(NodeName, PeerMessage),
    /// A kit call has ended, and what it started is gone.
    Outcome(CallId, Outcome),
    /// What a call of an earlier daemon had left running for this resource is gone (O23).
    LeftoverGone(Tag),
    /// What is wrong with the kits, params and grants of resources on this node, by tag; replaces what was.
    Unusable(BTreeMap<Tag, String>),
    /// What the kits of resources can do beside the four operations, by tag; replaces what was.
    Abilities(BTreeMap<Tag, Abilities>),
    /// What keeps this node from bringing anything in service, whatever it is, in words; replaces what was.
    Hindered(Vec<String>),
    /// The version of each kit here; replaces what was.
    Kits(BTreeMap<KitName, String>),
    /// The arbiter has answered.
    Arbiter(ArbiterId, ArbiterAnswer),
    /// Something has changed at the arbiter, unasked: what was seen then. May be late, and may not come at all.
    ArbiterChanged(ArbiterView),
    /// A fence command has ended: with success, which is proof that the node cannot act, or not, which proves nothing (O15).
    FenceEnded(FenceId, Result<String, String>),
    /// What came of [`Output::Knock`]: whether the node's kernel has answered, by taking the connection or refusing it (O7).
    Knocked {
        /// Whose.
        node: NodeName,
        /// On which comm path.
        path: PathName,
        /// Whether it has.
        answered: bool,
    },
    /// The guardian, which would fence this node in time, is not there any more (O13), or is there again.
    Guardian {
        /// Whether it is there.
        there: bool,
    },
    /// The process of a volume says something.
    Volume(VolumeName, FromVolume),
    /// An operator asks for something.
    Request(RequestId, Request),
    /// Somebody wants to know whether the nodes are fit.
    Examine {
        /// Comes back with the answer.
        id: RequestId,
        /// For what; none: for everything.
        hierarchy: Option<HierarchyName>,
        /// What is not known by then is told as such.
        within: Millis,
    },
    /// What was measured on this node.
    Surveyed(SurveyId, Survey),
    /// The daemon is about to stop; resources stay in service.
    Stop,
}

/// What a node wants done. In this order; what must follow a record being durable names it.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write this to the journal, after all before it.
    Persist(RecordNumber, Record),
    /// Send a heartbeat. Depends on no record.
    Heartbeat(Heartbeat),
    /// Send a message once the record is durable. Without a session it is lost, which does no harm.
    Send(RecordNumber, NodeName, PeerMessage),
    /// Call a kit once the record is durable.
    CallKit(RecordNumber, Call),
    /// Ask the arbiter once the record is durable.
    Arbiter(RecordNumber, ArbiterId, ArbiterRequest),
    /// Run the fence command of this node's config for that peer, once the record is durable (O15).
    Fence(RecordNumber, FenceId, NodeName),
    /// Try to connect to this peer on this path, only to see whether its kernel answers (O7). Depends on no record.
    Knock(NodeName, PathName),
    /// The guardian fences this node at that time unless told a later one; none: there is nothing to guard (O13). Depends
    /// on no record, and is carried out before anything that comes after it.
    Guard(Option<Monotonic>),
    /// Tell the process of a volume, once the record is durable. What it was told before about the right to write is void.
    Volume(RecordNumber, VolumeName, ToVolume),
    /// End a call. Its outcome still comes, when everything it started is gone. One that still waits for its record is not
    /// begun any more: what it was for is over.
    CancelKit(CallId),
    /// Tell whoever watches, once the record is durable.
    Report(RecordNumber, Event),
    /// Answer a request, once the record is durable.
    Reply(RecordNumber, RequestId, Reply),
    /// Measure what can only be measured on this node, for that hierarchy or for all, in so long. Depends on no record: a
    /// node whose disk hangs is to be examined, too.
    Survey(SurveyId, Option<HierarchyName>, Millis),
    /// Tell whoever asked whether the nodes are fit, or why that was not looked into. Depends on no record.
    Examined(RequestId, Result<HealthReport, String>),
}

/// The place of a record in the journal of this daemon, from 1; 0 names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordNumber(pub u64);

/// Names a kit call of this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a run of a fence command, of this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FenceId(pub u64);

/// Names a measurement of this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SurveyId(pub u64);

/// Names a request of an operator to this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a kit can do beside the four operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Say whether this node is ready: [`Operation::Assess`].
    pub readiness: bool,
    /// Check thoroughly: [`Operation::DeepCheck`].
    pub deep_check: bool,
}

/// What a kit is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bring in service.
    Restore,
    /// Take out of service.
    Remove,
    /// Look.
    QuickCheck,
    /// Look thoroughly.
    DeepCheck,
    /// Repair.
    Recover(Failure),
    /// Say whether this node is ready to bring it in service.
    Assess,
}

/// Why a kit is asked to repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `quick-check`, `deep-check` or `timeout`.
    pub found_by: &'static str,
    /// What the last check said.
    pub report: Option<CheckReport>,
    /// Confirmed bad checks in a row.
    pub bad_checks: u32,
}

/// A kit call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Comes back with the outcome.
    pub id: CallId,
    /// Of which hierarchy.
    pub hierarchy: HierarchyIndex,
    /// Which resource.
    pub resource: ResourceIndex,
    /// What.
    pub operation: Operation,
    /// The same for every attempt.
    pub operation_id: String,
    /// From 1.
    pub attempt: u32,
    /// Of the hierarchy's ownership.
    pub epoch: Epoch,
    /// What the call may take.
    pub budget: Millis,
    /// Why, for the kit.
    pub cause: Option<Cause>,
    /// When a check was due: how late it starts is measured by it.
    pub due: Monotonic,
}

/// What a check saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Serves as it should.
    Healthy,
    /// Serves, but a person should look.
    Degraded,
    /// Does not run, nothing left behind.
    Stopped,
    /// Ought to serve and does not, or is half there.
    Failed,
    /// The check could not tell.
    Unknown,
}

/// What a check said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// What it saw.
    pub health: Health,
    /// For programs.
    pub code: String,
    /// For people.
    pub summary: String,
    /// The kit knows nothing of the resource's health: it is not monitored (`monitored = false` in the details).
    pub unmonitored: bool,
    /// Healthy here says nothing about being in service (`concurrent = true` in the details).
    pub concurrent: bool,
    /// What was looked at did not answer in time, so health is unknown: it counts as a check that timed out
    /// (`timed-out = true` in the details).
    pub timed_out: bool,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// A restore would succeed, but a person should look.
    Warning,
    /// A restore would fail here, or harm.
    Blocking,
}

/// One thing that a kit found about whether this node is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// For programs.
    pub code: String,
    /// What was found, for people.
    pub summary: String,
    /// What to do about it.
    pub advice: String,
}

/// What a recovery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In service again.
    Recovered,
    /// In service again, and what depends on it has to be restarted.
    RestartDependents,
    /// Not to be repaired here.
    GiveUp,
}

/// Where trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryWhere {
    /// On this node.
    Here,
    /// On another node.
    Elsewhere,
    /// Nowhere.
    Nowhere,
}

/// Why there is no answer of a kit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The kit trapped: its bug.
    Trap,
    /// The call took too long, or too much CPU.
    Timeout,
    /// It wanted more memory than it may have.
    OutOfMemory,
    /// It was never made: the kit is not there, or may not do what it needs.
    NotMade,
    /// It was ended by [`Output::CancelKit`].
    Cancelled,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// restore or remove did it.
    Done {
        /// One sentence.
        summary: String,
    },
    /// quick-check looked.
    Report(CheckReport),
    /// assess looked: what matters most comes first.
    Findings(Vec<Finding>),
    /// recover came to an end.
    Recovery {
        /// What it came to.
        verdict: Verdict,
        /// One sentence.
        summary: String,
    },
    /// The kit says that it failed.
    Error {
        /// For programs: kind and code.
        code: String,
        /// For people.
        message: String,
        /// Where trying again may help.
        retry: RetryWhere,
        /// When to try again.
        retry_after: Option<Millis>,
    },
    /// There is no answer of the kit.
    Fault {
        /// Why.
        kind: FaultKind,
        /// For people.
        message: String,
    },
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Bring in service: a hierarchy, or a resource with all it depends on.
    InService {
        /// A hierarchy's name or a tag.
        target: String,
        /// The operator states that no other node has it in service.
        #[serde(default)]
        force: bool,
    },
    /// Take out of service: a hierarchy, or a resource with all that depends on it.
    OutOfService {
        /// A hierarchy's name or a tag.
        target: String,
    },
    /// Move.
    Switchover {
        /// What.
        hierarchy: HierarchyName,
        /// Where to.
        to: NodeName,
    },
    /// Checks go on, and nothing is done; or things are done again.
    Maintenance {
        /// What.
        hierarchy: HierarchyName,
        /// Begins, or ends.
        on: bool,
    },
    /// Nothing is to be in service on a node, and nothing is brought there; or it may be again.
    Drain {
        /// Which.
        node: NodeName,
        /// Begins, or ends.
        on: bool,
    },
    /// The owner that this alarm is about is off.
    Confirm {
        /// The alarm.
        alarm: String,
        /// The owner and epoch that it is about, as the operator read them.
        answers: ClaimId,
    },
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InService { target, force: false } => write!(f, "in-service {target}"),
            Self::InService { target, force: true } => write!(f, "in-service {target} --force"),
            Self::OutOfService { target } => write!(f, "out-of-service {target}"),
            Self::Switchover { hierarchy, to } => write!(f, "switchover {hierarchy} {to}"),
            Self::Maintenance { hierarchy, on } => {
                write!(f, "maintenance {hierarchy} {}", if *on { "on" } else { "off" })
            }
            Self::Drain { node, on: true } => write!(f, "drain {node}"),
            Self::Drain { node, on: false } => write!(f, "drain {node} --end"),
            Self::Confirm { alarm, .. } => write!(f, "confirm {alarm}"),
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is carried out; what happens now.
    Accepted(String),
    /// It is not; why, and what to do.
    Refused(String),
}

/// A path with its settings, in the order of the config.
pub(super) type Paths = Vec<(PathName, crate::spec::PathSpec)>;
