//! The loop around the core: what happens goes in, what it decides is carried out.
//!
//! Everything that changes the core goes through one queue, so that it is told one thing at a time. What has to follow a
//! record waits here until the record is durable; everything else is carried out at once. The loop never waits for a
//! disk, a link or a kit.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mainstay_core::arbiter::ArbiterAnswer;
use mainstay_core::health::HealthReport;
use mainstay_core::names::NodeName;
use mainstay_core::node::{CallId, FaultKind, Input, Node, Operation, Outcome, Output, RecordNumber, Reply, RequestId};
use mainstay_core::state::Record;
use tokio::sync::{mpsc, oneshot};

use crate::arbiter::Arbiter;
use crate::clock::Clock;
use crate::events::Events;
use crate::fence::Fences;
use crate::guardian::Guardian;
use crate::happening::Happening;
use crate::journal::{Journal, Told};
use crate::kits::Calls;
use crate::links::Links;
use crate::links::knock::Knocker;
use crate::measures::Measures;
use crate::survey::Surveyor;
use crate::volumes::Volumes;

/// How many are told before what the core says is carried out: a flood of one kind delays nothing else for long.
const AT_ONCE_MAX: usize = 64;
/// What waits for a record to be durable, at the most: hours of what is said while a disk does not answer.
const HELD_MAX: usize = 100_000;
/// When the daemon stops, its last words have this long to become durable and be sent.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The loop's own state.
#[derive(Debug)]
pub struct Driver {
    /// The config as it was read, for snapshots.
    pub config_text: Box<str>,
    /// The core.
    pub node: Node,
    /// Where records go.
    pub journal: Journal,
    /// What the journal tells.
    pub told: mpsc::UnboundedReceiver<Told>,
    /// Where messages go.
    pub links: Links,
    /// Who calls kits.
    pub calls: Calls,
    /// The way to the arbiter, if it decides anything on this node.
    pub arbiter: Option<Arbiter>,
    /// What fences this node in time, if the arbiter decides anything on it.
    pub guardian: Option<Guardian>,
    /// Who fences peers.
    pub fences: Fences,
    /// Who knocks at peers.
    pub knocker: Knocker,
    /// Who measures when this node is examined.
    pub surveyor: Surveyor,
    /// The volumes of this node.
    pub volumes: Volumes,
    /// Who is told.
    pub events: Events,
    /// What is counted.
    pub measures: Measures,
    /// The core's time.
    pub clock: Clock,
    /// What happens.
    pub happenings: mpsc::Receiver<Happening>,
}

/// What the loop needs besides.
#[derive(Debug, Default)]
struct Waiting {
    durable: RecordNumber,
    held: VecDeque<(RecordNumber, Output)>,
    sessions: BTreeMap<NodeName, u64>,
    asked: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    examining: BTreeMap<RequestId, oneshot::Sender<Result<HealthReport, String>>>,
    requests: u64,
    /// With the journal.
    trouble: Option<String>,
    /// With the room on its disk.
    no_room: Option<String>,
    stopping: Option<Instant>,
}

impl Waiting {
    /// What keeps this node from bringing anything in service.
    fn hindered(&self) -> Input {
        Input::Hindered(self.trouble.iter().chain(&self.no_room).cloned().collect())
    }

    /// A call that waits for its record is not begun any more; whether it did wait.
    fn take_back(&mut self, call: CallId) -> bool {
        let waits = |(_, output): &(RecordNumber, Output)| matches!(output, Output::CallKit(_, it) if it.id == call);
        let at = self.held.iter().position(waits);
        at.is_some_and(|at| self.held.remove(at).is_some())
    }
}

impl Driver {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When the disk has not taken a record for so long that going on makes no sense.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut waiting = Waiting::default();
        let mut batch = Vec::with_capacity(AT_ONCE_MAX);
        self.carry_out(&mut waiting)?;
        loop {
            if self.may_end(&waiting) {
                self.links.close(LAST_WORDS).await;
                return Ok(());
            }
            let (due, _) = self.node.poll_timeout();
            let now = self.clock.now();
            let mut wait = Duration::from_millis(due.since(now.monotonic).0);
            if waiting.stopping.is_some() {
                wait = wait.min(LAST_WORDS);
            }
            tokio::select! {
                biased;
                Some(told) = self.told.recv() => self.journal_told(told, &mut waiting),
                count = self.happenings.recv_many(&mut batch, AT_ONCE_MAX) => {
                    if count == 0 {
                        return Ok(());
                    }
                    for happening in batch.drain(..) {
                        self.happen(happening, &mut waiting);
                    }
                }
                () = tokio::time::sleep(wait) => self.node.handle(Input::Tick, self.clock.now()),
            }
            self.carry_out(&mut waiting)?;
        }
    }

    /// Stopping, it ends when everything it had to say is said, or takes too long.
    fn may_end(&self, waiting: &Waiting) -> bool {
        waiting.stopping.is_some_and(|since| waiting.held.is_empty() || since.elapsed() > LAST_WORDS)
    }

    fn happen(&mut self, happening: Happening, waiting: &mut Waiting) {
        let now = self.clock.now();
        let input = match happening {
            Happening::Heartbeat(heartbeat) => Input::Heartbeat(heartbeat),
            Happening::SessionUp(peer, number) => {
                if waiting.sessions.insert(peer.clone(), number).is_some() {
                    self.node.handle(Input::SessionLost(peer.clone()), now);
                }
                Input::SessionUp(peer)
            }
            Happening::SessionLost(peer, number) => {
                if waiting.sessions.get(&peer) != Some(&number) {
                    return;
                }
                waiting.sessions.remove(&peer);
                Input::SessionLost(peer)
            }
            Happening::Message(peer, number, message) => {
                if waiting.sessions.get(&peer) != Some(&number) {
                    return;
                }
                Input::Message(peer, message)
            }
            Happening::Outcome(call, outcome) => {
                self.calls.ended(call);
                self.measures.ended();
                Input::Outcome(call, outcome)
            }
            Happening::LeftoverGone(tag) => Input::LeftoverGone(tag),
            Happening::Kits(loaded) => {
                let unusable = self.calls.load(&loaded);
                self.node.handle(Input::Kits(self.calls.versions()), now);
                self.node.handle(Input::Abilities(self.calls.abilities()), now);
                Input::Unusable(unusable)
            }
            Happening::Arbiter(id, answer) => Input::Arbiter(id, answer),
            Happening::ArbiterChanged(view) => Input::ArbiterChanged(view),
            Happening::FenceEnded(id, ended) => Input::FenceEnded(id, ended),
            Happening::Knocked(node, path, answered) => Input::Knocked { node, path, answered },
            Happening::Room(trouble) => {
                waiting.no_room = trouble;
                waiting.hindered()
            }
            Happening::Volume(name, said) => Input::Volume(name, said),
            Happening::Guardian(there) => Input::Guardian { there },
            Happening::Request(request, reply) => {
                waiting.requests += 1;
                let id = RequestId(waiting.requests);
                waiting.asked.insert(id, reply);
                Input::Request(id, request)
            }
            Happening::Examine(hierarchy, within, reply) => {
                waiting.requests += 1;
                let id = RequestId(waiting.requests);
                waiting.examining.insert(id, reply);
                Input::Examine { id, hierarchy, within }
            }
            Happening::Surveyed(id, survey) => Input::Surveyed(id, survey),
            // Whoever asked may be gone by now, which is no reason for anything.
            Happening::Status(reply) => {
                let troubles = waiting.trouble.iter().chain(self.calls.held_back()).cloned().collect();
                let _ = reply.send((self.node.status(), troubles));
                return;
            }
            Happening::Explain(tag, reply) => {
                let _ = reply.send(self.node.explain(&tag));
                return;
            }
            Happening::Snapshot(reply) => {
                let _ = reply.send(self.node.snapshot(&self.config_text));
                return;
            }
            Happening::Stop => {
                waiting.stopping.get_or_insert_with(Instant::now);
                Input::Stop
            }
        };
        self.node.handle(input, now);
    }

    fn journal_told(&mut self, told: Told, waiting: &mut Waiting) {
        match told {
            Told::Durable(number) => {
                waiting.durable = waiting.durable.max(number);
                if waiting.trouble.take().is_none() {
                    return;
                }
            }
            Told::Trouble(what) => waiting.trouble = Some(what),
        }
        self.node.handle(waiting.hindered(), self.clock.now());
    }

    /// Carries out what the core says, and what has waited for records that are durable by now.
    fn carry_out(&mut self, waiting: &mut Waiting) -> anyhow::Result<()> {
        while let Some(output) = self.node.poll_output() {
            let after = match &output {
                Output::Persist(number, record) => {
                    self.journal.append(*number, record).context("the daemon ends; resources stay in service")?;
                    continue;
                }
                Output::Heartbeat(heartbeat) => {
                    self.links.beat(heartbeat);
                    continue;
                }
                Output::Knock(node, path) => {
                    self.knocker.knock(node.clone(), path.clone());
                    continue;
                }
                Output::Guard(when) => {
                    if let Some(guardian) = &self.guardian {
                        guardian.until(when.map(|when| self.clock.since_boot(when)));
                    }
                    continue;
                }
                Output::Survey(id, hierarchy, within) => {
                    let held_back = self.calls.held_back().to_vec();
                    self.surveyor.start(*id, hierarchy.clone(), *within, self.calls.fits(), held_back);
                    continue;
                }
                Output::Examined(id, report) => {
                    if let Some(asked) = waiting.examining.remove(id) {
                        // Whoever asked may be gone by now.
                        let _ = asked.send(report.clone());
                    }
                    continue;
                }
                Output::CancelKit(call) if waiting.take_back(*call) => {
                    let outcome = Outcome::Fault { kind: FaultKind::Cancelled, message: "it was not begun".to_owned() };
                    self.node.handle(Input::Outcome(*call, outcome), self.clock.now());
                    continue;
                }
                Output::CancelKit(_) => *waiting.held.back().map_or(&RecordNumber(0), |(after, _)| after),
                Output::Send(after, ..)
                | Output::Arbiter(after, ..)
                | Output::Fence(after, ..)
                | Output::CallKit(after, _)
                | Output::Report(after, _)
                | Output::Volume(after, ..)
                | Output::Reply(after, ..) => *after,
            };
            // In order: what needs no record still comes after what was said before it.
            waiting.held.push_back((after, output));
        }
        anyhow::ensure!(
            waiting.held.len() <= HELD_MAX || waiting.held.front().is_none_or(|(after, _)| *after <= waiting.durable),
            "{HELD_MAX} things wait for the journal: the disk does not answer; the daemon ends; resources stay in service"
        );
        while let Some((_, output)) = waiting.held.pop_front_if(|(after, _)| *after <= waiting.durable) {
            self.release(output, waiting);
        }
        if self.journal.wants_snapshot() {
            let record = Record::Snapshot(Box::new(self.node.state().clone()));
            self.journal.snapshot(&record).context("the daemon ends; resources stay in service")?;
        }
        Ok(())
    }

    fn release(&mut self, output: Output, waiting: &mut Waiting) {
        match output {
            Output::Send(_, to, message) => self.links.send(&to, message),
            Output::CallKit(_, call) => {
                if call.operation == Operation::QuickCheck {
                    self.measures.check_begins(call.due, self.clock.now().monotonic);
                }
                self.calls.start(call);
            }
            Output::CancelKit(call) => self.calls.cancel(call),
            Output::Report(_, event) => self.events.tell(event),
            Output::Reply(_, id, reply) => {
                if let Some(asked) = waiting.asked.remove(&id) {
                    // Whoever asked may be gone by now; what was asked is done all the same.
                    let _ = asked.send(reply);
                }
            }
            Output::Arbiter(_, id, request) => match &self.arbiter {
                Some(arbiter) => arbiter.ask(id, request),
                None => {
                    let why = "the arbiter decides nothing on this node".to_owned();
                    self.node.handle(Input::Arbiter(id, ArbiterAnswer::Failed(why)), self.clock.now());
                }
            },
            Output::Fence(_, id, node) => self.fences.start(id, node),
            Output::Volume(_, name, what) => self.volumes.tell(&name, what),
            Output::Persist(..)
            | Output::Heartbeat(_)
            | Output::Knock(..)
            | Output::Guard(_)
            | Output::Survey(..)
            | Output::Examined(..) => {}
        }
    }
}
