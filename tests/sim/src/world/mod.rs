//! Machines, disks, links and time. The world decides nothing: it carries out what the nodes put out.
//!
//! `machine` is what is done to a machine, `links` what goes between two, `outside` arbiter, guardian and fences,
//! `calls` what becomes of what a node puts out.

mod calls;
mod links;
mod machine;
mod outside;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterId, ArbiterRequest};
use mainstay_core::health::HealthReport;
use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::message::Heartbeat;
use mainstay_core::names::{HierarchyName, NodeName, PathName, Tag};
use mainstay_core::node::{CallId, Input, Node, Operation, Outcome, RecordNumber, Reply, Request, RequestId};
use mainstay_core::spec::Spec;
use mainstay_core::time::{Millis, Monotonic};
use mainstay_core::volume::ToVolume;

use crate::checks::Checks;
use crate::coverage::Coverage;
use crate::etcd::Etcd;
use crate::network::{Network, Quality};
use crate::random::Random;

pub use links::Kind;
pub use machine::{Clock, Machine, UNIX};
pub use outside::{ArbiterWay, FenceManner};

/// One way over a link, when nothing is wrong with it.
const LINK: Millis = Millis(1);
/// From a write to its being durable.
const SYNC: Millis = Millis(1);
/// How long a peer that lost its session takes to make a new one.
const RECONNECT: Millis = Millis(200);
/// How long what arrives at a paused process waits, before it is looked whether it goes on.
const PAUSED: Millis = Millis(50);
/// Steps of one run, at the most: a world that never comes to rest is a bug.
const STEPS_MAX: usize = 5_000_000;

/// How the world treats connections, and who stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// A broken connection is noticed at once, and heartbeats for a paused process are lost: a story is short so.
    Prompt,
    /// As on real machines: noticed late or never, and a kernel keeps what it has got.
    Real,
}

/// Something that happens at a time.
#[derive(Debug)]
enum Happening {
    Heartbeat { to: NodeName, heartbeat: Heartbeat },
    Arrives { session: u64, lane: usize },
    Resend { session: u64, lane: usize },
    Unacknowledged { session: u64, lane: usize },
    Connect { a: NodeName, b: NodeName, tried: bool },
    SessionLost { node: NodeName, peer: NodeName, session: u64 },
    Synced { node: NodeName, life: u64, number: RecordNumber },
    Outcome { node: NodeName, life: u64, call: CallId, outcome: Outcome },
    LeftoverGone { node: NodeName, life: u64, tag: Tag },
    Input { node: NodeName, life: u64, input: Box<Input> },
    ArbiterAsked { node: NodeName, life: u64, id: ArbiterId, request: ArbiterRequest },
    ArbiterAnswers { node: NodeName, life: u64, id: ArbiterId, answer: ArbiterAnswer },
    ArbiterUnanswered { node: NodeName, life: u64, id: ArbiterId },
    LeasesDue,
    GuardDue { node: NodeName, boot: u64, deadline: Monotonic },
    Fenced { node: NodeName, boot: Option<u64> },
    PowerOn { node: NodeName, boot: u64 },
}

impl Happening {
    /// Whose process has to run for it to happen.
    fn whose(&self) -> Option<&NodeName> {
        match self {
            Self::SessionLost { node, .. }
            | Self::Synced { node, .. }
            | Self::Outcome { node, .. }
            | Self::LeftoverGone { node, .. }
            | Self::Input { node, .. }
            | Self::ArbiterAnswers { node, .. }
            | Self::ArbiterUnanswered { node, .. } => Some(node),
            Self::Heartbeat { .. }
            | Self::Arrives { .. }
            | Self::Resend { .. }
            | Self::Unacknowledged { .. }
            | Self::Connect { .. }
            | Self::ArbiterAsked { .. }
            | Self::LeasesDue
            | Self::GuardDue { .. }
            | Self::Fenced { .. }
            | Self::PowerOn { .. } => None,
        }
    }
}

/// A line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Monotonic,
    /// On which node.
    pub node: NodeName,
    /// What.
    pub text: String,
}

/// The world.
#[derive(Debug)]
pub struct World {
    spec: Spec,
    hierarchies: BTreeMap<HierarchyName, Hierarchy>,
    manners: Manners,
    now: Monotonic,
    sequence: u64,
    session_count: u64,
    sessions: BTreeMap<u64, links::Session>,
    queue: BTreeMap<(Monotonic, u64), Happening>,
    /// The place of each node in the network.
    index: BTreeMap<NodeName, usize>,
    /// The comm paths, in order of priority.
    pub paths: Vec<PathName>,
    /// The ways between the nodes.
    pub network: Network,
    random: Random,
    /// The machines, by name.
    pub machines: BTreeMap<NodeName, Machine>,
    /// Only heartbeats do not come through, or only messages do not.
    pub blocked: BTreeSet<(NodeName, Kind)>,
    /// The arbiter's store.
    pub etcd: Etcd,
    /// How each node reaches it.
    pub arbiter_ways: BTreeMap<NodeName, ArbiterWay>,
    /// So many faults keep it away from all.
    pub arbiter_away: u32,
    leases_looked_at: Option<Monotonic>,
    /// What happened, for people.
    pub timeline: Vec<Line>,
    /// Whether the timeline is kept: most runs of many seeds are never read.
    pub quiet: bool,
    /// Answers to operators.
    pub replies: BTreeMap<RequestId, Reply>,
    /// Answers to those who asked for a health check.
    pub health_reports: BTreeMap<RequestId, Result<HealthReport, String>>,
    /// What must hold.
    pub checks: Checks,
    /// What has occurred, and how often.
    pub coverage: Coverage,
    /// These are not the simulated applications: who asks looks after their kits ([`Self::asked_of_kits`]).
    pub outside: BTreeSet<Tag>,
    /// What their kits were asked.
    pub asked_of_kits: VecDeque<KitCall>,
    /// What the processes of volumes were told.
    pub told_to_volumes: VecDeque<(NodeName, ToVolume)>,
    /// Somebody asks every node so often for a health check.
    pub examined_every: Option<Millis>,
    next_request: u64,
    seed: u64,
}

/// A call of a kit that this world does not play.
#[derive(Clone, Debug)]
pub struct KitCall {
    /// Where.
    pub node: NodeName,
    /// By which of its daemons.
    pub life: u64,
    /// Which call.
    pub id: CallId,
    /// What.
    pub operation: Operation,
    /// What it may take.
    pub budget: Millis,
}

impl World {
    /// Machines that are off, with everything in order: the world of stories.
    ///
    /// # Panics
    /// When the config has an error: a test's own mistake.
    pub fn new(config: &str, seed: u64) -> Self {
        Self::with(config, seed, Manners::Prompt, Quality::PERFECT, Millis(0))
    }

    /// As [`Self::new`], with these manners, over such a network; the arbiter grants leases so much longer than asked.
    ///
    /// # Panics
    /// When the config has an error: a test's own mistake.
    pub fn with(config: &str, seed: u64, manners: Manners, usual: Quality, granted_longer: Millis) -> Self {
        let (spec, diagnostics) = Spec::read("config", config);
        let spec = spec.unwrap_or_else(|| panic!("{:#?}", diagnostics.into_sorted()));
        let hierarchies: BTreeMap<_, _> = spec
            .hierarchies
            .iter()
            .map(|(name, spec)| (name.clone(), Hierarchy::new(name.clone(), spec.clone())))
            .collect();
        let tags: Vec<Tag> =
            spec.hierarchies.values().flat_map(|hierarchy| hierarchy.resources.keys().cloned()).collect();
        let machines = spec.nodes.keys().map(|name| (name.clone(), Machine::new(&tags))).collect();
        let index: BTreeMap<_, _> = spec.nodes.keys().cloned().zip(0..).collect();
        let mut paths: Vec<_> = spec.paths.iter().map(|(name, path)| (path.priority, name.clone())).collect();
        paths.sort();
        let paths: Vec<PathName> = paths.into_iter().map(|(_, name)| name).collect();
        let lease = spec.arbiter.as_ref().map_or(Millis::from_secs(10), |arbiter| arbiter.lease);
        Self {
            network: Network::new(index.len(), paths.len(), usual, seed),
            checks: Checks::new(&spec),
            spec,
            hierarchies,
            manners,
            now: Monotonic(0),
            sequence: 0,
            session_count: 0,
            sessions: BTreeMap::new(),
            queue: BTreeMap::new(),
            index,
            paths,
            random: Random::of(seed, 2),
            machines,
            blocked: BTreeSet::new(),
            etcd: Etcd::new(Millis(lease.0 + granted_longer.0)),
            arbiter_ways: BTreeMap::new(),
            arbiter_away: 0,
            leases_looked_at: None,
            timeline: Vec::new(),
            quiet: false,
            replies: BTreeMap::new(),
            health_reports: BTreeMap::new(),
            coverage: Coverage::default(),
            outside: BTreeSet::new(),
            asked_of_kits: VecDeque::new(),
            told_to_volumes: VecDeque::new(),
            examined_every: None,
            next_request: 0,
            seed,
        }
    }

    /// Now, in true time.
    pub fn now(&self) -> Monotonic {
        self.now
    }

    /// What the operators wrote.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The machine of this name.
    ///
    /// # Panics
    /// When there is none: a test's own mistake.
    pub fn machine(&mut self, name: &NodeName) -> &mut Machine {
        self.machines.get_mut(name).unwrap_or_else(|| panic!("there is no machine {name}"))
    }

    fn at(&mut self, after: Millis, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), happening);
    }

    /// Something that the world does, for the timeline.
    pub fn note(&mut self, node: &NodeName, text: &str) {
        if !self.quiet {
            self.timeline.push(Line { at: self.now, node: node.clone(), text: text.to_owned() });
        }
    }

    /// An operator asks.
    pub fn ask(&mut self, name: &NodeName, request: Request) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.input_when_it_goes_on(name, Input::Request(id, request));
        id
    }

    /// Somebody wants to know whether the nodes are fit.
    pub fn examine(&mut self, name: &NodeName, hierarchy: Option<HierarchyName>, within: Millis) -> RequestId {
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.input_when_it_goes_on(name, Input::Examine { id, hierarchy, within });
        id
    }

    /// By some requests an operator states something, and it may not be so.
    fn hear_the_word(&mut self, name: &NodeName, request: &Request) {
        let hierarchy = match request {
            Request::InService { target, force: true } => Some(HierarchyName::from(target.as_str())),
            Request::Confirm { alarm, .. } => {
                let status = self.machines[name].node.as_ref().map(Node::status);
                status
                    .and_then(|status| status.alarms.into_iter().find(|it| it.id == *alarm))
                    .and_then(|it| it.hierarchy)
            }
            Request::InService { .. }
            | Request::OutOfService { .. }
            | Request::Switchover { .. }
            | Request::Maintenance { .. }
            | Request::Drain { .. } => None,
        };
        if let Some(hierarchy) = hierarchy {
            let (checks, machines) = (&mut self.checks, &mut self.machines);
            let permit = self.etcd.permit(self.now, &hierarchy);
            let true_word = checks.word(&hierarchy, name, machines, permit.as_ref());
            self.coverage.count(if true_word { "word: true" } else { "word: hasty" });
        }
    }

    // Time.

    /// Lets time pass.
    ///
    /// # Panics
    /// When the world never comes to rest.
    pub fn run(&mut self, length: Millis) {
        let until = self.now + length;
        for _ in 0..STEPS_MAX {
            if self.next_at().is_none_or(|at| at > until) {
                self.now = until;
                self.look();
                return;
            }
            self.step();
        }
        panic!("the world does not come to rest: {:#?}", self.timeline.iter().rev().take(20).collect::<Vec<_>>());
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Monotonic> {
        let happening = self.queue.keys().next().map(|(at, _)| *at);
        let timer = self.next_timer().map(|(at, _)| at);
        Some([happening, timer].into_iter().flatten().min()?.max(self.now))
    }

    /// Time has passed, and nothing has happened.
    pub fn pass_to(&mut self, at: Monotonic) {
        self.now = self.now.max(at);
    }

    /// What is looked at whenever nothing happens at that moment.
    pub fn look(&mut self) {
        self.checks.look(self.now, &self.machines);
        self.check_replay();
    }

    /// The next thing happens.
    pub fn step(&mut self) {
        let happening = self.queue.keys().next().map(|(at, _)| *at);
        let timer = self.next_timer().map(|(at, name)| (at, name.clone()));
        let Some(at) = [happening, timer.as_ref().map(|(at, _)| *at)].into_iter().flatten().min() else { return };
        self.now = self.now.max(at);
        if happening == Some(at) {
            if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        } else if let Some((_, name)) = timer {
            self.input(&name, Input::Tick);
        }
    }

    /// Something outside of this world tells a daemon something, which arrives after a while, if the daemon lives then.
    pub fn tell(&mut self, name: &NodeName, after: Millis, input: Input) {
        let life = self.machines[name].life;
        self.at(after, Happening::Input { node: name.clone(), life, input: Box::new(input) });
    }

    /// What came of one of [`Self::asked_of_kits`].
    pub fn answer_call(&mut self, call: &KitCall, outcome: Outcome) {
        let KitCall { node, life, id, .. } = call.clone();
        self.at(Millis(1), Happening::Outcome { node, life, call: id, outcome });
    }

    fn next_timer(&self) -> Option<(Monotonic, &NodeName)> {
        self.machines
            .iter()
            .filter(|(_, machine)| !machine.paused && !machine.suspended)
            .filter_map(|(name, machine)| {
                let node = machine.node.as_ref()?;
                Some((machine.clock.when(node.poll_timeout().0), name))
            })
            .min()
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(name) = happening.whose()
            && self.machines[name].stands_still(self.manners)
        {
            let name = name.clone();
            self.machine(&name).frozen.push_back(happening);
            return;
        }
        match happening {
            Happening::Heartbeat { to, heartbeat } => self.heartbeat_arrives(to, heartbeat),
            Happening::Arrives { session, lane } => self.arrives(session, lane),
            Happening::Resend { session, lane } => self.resend(session, lane),
            Happening::Unacknowledged { session, lane } => self.unacknowledged(session, lane),
            Happening::Connect { a, b, tried } => self.connect(&a, &b, tried),
            Happening::SessionLost { node, peer, session } => self.session_lost(node, peer, session),
            Happening::Synced { node, life, number } => self.synced(&node, life, number),
            Happening::Outcome { node, life, call, outcome } => {
                if self.machine(&node).life == life {
                    if self.machine(&node).paused {
                        self.at(PAUSED, Happening::Outcome { node, life, call, outcome });
                    } else {
                        self.call_ended(&node, call, outcome);
                    }
                }
            }
            Happening::LeftoverGone { node, life, tag } => {
                if self.machine(&node).paused && self.machine(&node).life == life {
                    self.at(PAUSED, Happening::LeftoverGone { node, life, tag });
                } else if self.machine(&node).life == life {
                    self.machine(&node).leftovers.remove(&tag);
                    self.input(&node, Input::LeftoverGone(tag));
                }
            }
            Happening::Input { node, life, input } => {
                if self.machine(&node).life == life {
                    self.input_when_it_goes_on(&node, *input);
                }
            }
            Happening::ArbiterAsked { node, life, id, request } => self.arbiter_asked(node, life, id, &request),
            Happening::ArbiterAnswers { node, life, id, answer } => self.arbiter_answers(&node, life, id, answer),
            Happening::ArbiterUnanswered { node, life, id } => self.arbiter_unanswered(&node, life, id),
            Happening::LeasesDue => self.leases_due(),
            Happening::GuardDue { node, boot, deadline } => self.guard_due(node, boot, deadline),
            Happening::Fenced { node, boot } => self.fenced(&node, boot),
            Happening::PowerOn { node, boot } => self.power_on(&node, boot),
        }
    }

    /// Now, or when who stands still goes on.
    fn input_when_it_goes_on(&mut self, name: &NodeName, input: Input) {
        let machine = self.machine(name);
        if !machine.stands_still(Manners::Real) {
            self.input(name, input);
        } else if machine.node.is_some() {
            let life = machine.life;
            machine.frozen.push_back(Happening::Input { node: name.clone(), life, input: Box::new(input) });
        }
    }

    fn input(&mut self, name: &NodeName, input: Input) {
        let now = self.both_clocks(name);
        // What was said to who stood still is heard when it goes on, and may not be so any more.
        if let Input::Request(_, request) = &input {
            self.hear_the_word(name, request);
        }
        let Some(machine) = self.machines.get_mut(name) else { return };
        if let Some(node) = machine.node.as_mut() {
            if let Input::Message(from, message) = &input {
                self.checks.answered(self.now, name, machine.life, from, message, node.state().incarnation);
            }
            node.handle(input, now);
            self.carry_out(name);
        }
    }
}
