//! What the core has to be told, or asked: the one queue into the driver.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterId, ArbiterView};
use mainstay_core::health::{HealthReport, Survey};
use mainstay_core::message::{Heartbeat, PeerMessage};
use mainstay_core::names::{HierarchyName, NodeName, PathName, Tag, VolumeName};
use mainstay_core::node::{CallId, FenceId, Outcome, Reply, Request, SurveyId};
use mainstay_core::rehearsal::Snapshot;
use mainstay_core::status::{Explanation, Status};
use mainstay_core::time::Millis;
use mainstay_core::volume::FromVolume;
use mainstay_runtime::Kit;
use tokio::sync::oneshot;

/// What waits to be told to the core, at the most. Links and calls wait for room; heartbeats that find none are lost.
pub const HAPPENINGS_MAX: usize = 4096;

/// Something that the core has to be told, or asked.
#[derive(Debug)]
pub enum Happening {
    /// A heartbeat has arrived.
    Heartbeat(Heartbeat),
    /// There is a session with a peer, of this number.
    SessionUp(NodeName, u64),
    /// There is not any more.
    SessionLost(NodeName, u64),
    /// A message has arrived in the session of this number.
    Message(NodeName, u64, PeerMessage),
    /// A kit call has ended.
    Outcome(CallId, Outcome),
    /// What an earlier daemon had left running for a resource is gone.
    LeftoverGone(Tag),
    /// The kits have changed: all that are loaded now, by name.
    Kits(BTreeMap<String, Arc<Kit>>),
    /// The arbiter has answered.
    Arbiter(ArbiterId, ArbiterAnswer),
    /// Something has changed at the arbiter.
    ArbiterChanged(ArbiterView),
    /// A fence command has ended.
    FenceEnded(FenceId, Result<String, String>),
    /// Whether a peer's kernel answers on a comm path.
    Knocked(NodeName, PathName, bool),
    /// What is wrong with the room on the disk of the state directory, if anything.
    Room(Option<String>),
    /// The process of a volume says something.
    Volume(VolumeName, FromVolume),
    /// Whether the guardian is there.
    Guardian(bool),
    /// An operator asks for something.
    Request(Request, oneshot::Sender<Reply>),
    /// Somebody wants to know whether the nodes are fit: for which hierarchy, and within what.
    Examine(Option<HierarchyName>, Millis, oneshot::Sender<Result<HealthReport, String>>),
    /// What was measured on this node.
    Surveyed(SurveyId, Survey),
    /// Somebody wants to see everything.
    Status(oneshot::Sender<(Status, Vec<String>)>),
    /// Somebody wants to know why.
    Explain(Tag, oneshot::Sender<Option<Explanation>>),
    /// Somebody wants what is known of the cluster, to play through what would happen.
    Snapshot(oneshot::Sender<Snapshot>),
    /// The daemon is to stop.
    Stop,
}
