//! Machines, disks, links and time. The world decides nothing: it carries out what the nodes put out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::message::{Heartbeat, PeerMessage};
use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::node::{
    Call, CallId, Config, FaultKind, Input, Node, Outcome, Output, RecordNumber, Reply, Request, RequestId,
};
use mainstay_core::spec::Spec;
use mainstay_core::state::{Record, State};
use mainstay_core::status::Event;
use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};

use crate::checks::Checks;
use crate::kits::{App, fault};

/// One way over a link.
const LINK: Millis = Millis(1);
/// From a write to its being durable.
const SYNC: Millis = Millis(1);
/// From cancelling a call to everything of it being gone.
const CANCEL: Millis = Millis(20);
/// How long a peer that lost its session takes to make a new one.
const RECONNECT: Millis = Millis(200);
/// How long what arrives at a paused process waits, before it is looked whether it goes on.
const PAUSED: Millis = Millis(50);
/// Steps of one run, at the most: a world that never comes to rest is a bug.
const STEPS_MAX: usize = 5_000_000;
/// Where the wall clock starts, in ms since 1970.
const UNIX: u64 = 1_700_000_000_000;

/// Something that happens at a time.
#[derive(Debug)]
enum Happening {
    Heartbeat { to: NodeName, heartbeat: Heartbeat },
    Message { from: NodeName, to: NodeName, session: u64, message: PeerMessage },
    Connect { a: NodeName, b: NodeName },
    SessionLost { node: NodeName, peer: NodeName, session: u64 },
    Synced { node: NodeName, life: u64, number: RecordNumber },
    Outcome { node: NodeName, life: u64, call: CallId, outcome: Outcome },
    LeftoverGone { node: NodeName, life: u64, tag: Tag },
}

/// A machine with its disk and its daemon.
#[derive(Debug)]
pub struct Machine {
    /// The daemon, if it lives.
    pub node: Option<Node>,
    /// Counts daemons, so that what belongs to a dead one is recognised.
    life: u64,
    /// The daemon is stopped (SIGSTOP), and time goes on.
    paused: bool,
    /// It has no power.
    off: bool,
    /// How many records can be read before the damage; half of them, if not said.
    pub readable: Option<usize>,
    /// How far its wall clock is from the true time, in ms.
    pub clock_off: i64,
    /// Counts the machine's starts.
    boot: u64,
    /// On disk.
    pub journal: Vec<Record>,
    /// Written, and not yet durable.
    unsynced: VecDeque<(RecordNumber, Record)>,
    durable: RecordNumber,
    /// The disk does not answer.
    pub disk_stuck: bool,
    /// The journal cannot be read back.
    pub damaged: bool,
    /// The config is another.
    pub other_config: bool,
    held_back: VecDeque<(RecordNumber, Output)>,
    calls: BTreeMap<CallId, Running>,
    /// The applications of this machine.
    pub apps: BTreeMap<Tag, App>,
    /// What calls of a dead daemon still do, until when.
    leftovers: BTreeMap<Tag, Monotonic>,
    /// What is wrong with resources here.
    pub unusable: BTreeMap<Tag, String>,
    /// By peer; both ends have the same number.
    sessions: BTreeMap<NodeName, u64>,
}

/// A call that goes on.
#[derive(Debug)]
struct Running {
    hierarchy: HierarchyName,
    tag: Tag,
    /// What the application will be when it has ended: running, broken.
    becomes: (bool, bool),
}

/// What goes over a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Datagrams.
    Heartbeats,
    /// What sessions carry.
    Messages,
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
    now: Monotonic,
    sequence: u64,
    sessions: u64,
    queue: BTreeMap<(Monotonic, u64), Happening>,
    /// The machines, by name.
    pub machines: BTreeMap<NodeName, Machine>,
    cut: BTreeSet<(NodeName, NodeName)>,
    /// Only heartbeats do not come through, or only messages do not.
    pub blocked: BTreeSet<(NodeName, Kind)>,
    /// What happened, for people.
    pub timeline: Vec<Line>,
    /// Answers to operators.
    pub replies: BTreeMap<RequestId, Reply>,
    /// What must hold.
    pub checks: Checks,
    next_request: u64,
    seed: u64,
}

impl Machine {
    /// The disk with the journal is replaced by an empty one, while the daemon does not run.
    pub fn wipe(&mut self) {
        self.journal.clear();
    }

    /// How many records are written and not yet durable.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.unsynced.len()
    }
}

impl World {
    /// Machines that are off, with everything in order.
    ///
    /// # Panics
    /// When the config has an error: a test's own mistake.
    pub fn new(config: &str, seed: u64) -> Self {
        let (spec, diagnostics) = Spec::read("config", config);
        let spec = spec.unwrap_or_else(|| panic!("{:#?}", diagnostics.into_sorted()));
        let hierarchies: BTreeMap<_, _> = spec
            .hierarchies
            .iter()
            .map(|(name, spec)| (name.clone(), Hierarchy::new(name.clone(), spec.clone())))
            .collect();
        let tags: Vec<Tag> =
            spec.hierarchies.values().flat_map(|hierarchy| hierarchy.resources.keys().cloned()).collect();
        let machine = || Machine {
            node: None,
            life: 0,
            paused: false,
            off: false,
            clock_off: 0,
            readable: None,
            boot: 1,
            journal: Vec::new(),
            unsynced: VecDeque::new(),
            durable: RecordNumber(0),
            disk_stuck: false,
            damaged: false,
            other_config: false,
            held_back: VecDeque::new(),
            calls: BTreeMap::new(),
            apps: tags.iter().map(|tag| (tag.clone(), App::default())).collect(),
            leftovers: BTreeMap::new(),
            unusable: BTreeMap::new(),
            sessions: BTreeMap::new(),
        };
        let machines = spec.nodes.keys().map(|name| (name.clone(), machine())).collect();
        Self {
            spec,
            hierarchies,
            now: Monotonic(0),
            sequence: 0,
            sessions: 0,
            queue: BTreeMap::new(),
            machines,
            cut: BTreeSet::new(),
            blocked: BTreeSet::new(),
            timeline: Vec::new(),
            replies: BTreeMap::new(),
            checks: Checks::default(),
            next_request: 0,
            seed,
        }
    }

    /// Now.
    pub fn now(&self) -> Monotonic {
        self.now
    }

    /// The machine of this name.
    ///
    /// # Panics
    /// When there is none: a test's own mistake.
    pub fn machine(&mut self, name: &NodeName) -> &mut Machine {
        self.machines.get_mut(name).unwrap_or_else(|| panic!("there is no machine {name}"))
    }

    fn both_clocks(&self, name: &NodeName) -> Now {
        let unix = (UNIX + self.now.0).saturating_add_signed(self.machines[name].clock_off);
        Now { monotonic: self.now, unix: UnixMs(unix) }
    }

    fn at(&mut self, after: Millis, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), happening);
    }

    // What is done to machines and links.

    /// Starts a daemon.
    pub fn start(&mut self, name: &NodeName) {
        let now = self.both_clocks(name);
        let spec = self.spec.clone();
        let seed = self.seed;
        let machine = self.machine(name);
        assert!(machine.node.is_none(), "{name} runs already");
        machine.life += 1;
        machine.off = false;
        machine.durable = RecordNumber(0);
        let state = if core::mem::take(&mut machine.damaged) {
            // What stands before the damage can still be read.
            let readable = machine.readable.take().unwrap_or(machine.journal.len() / 2).min(machine.journal.len());
            let mut state = State::replay(&machine.journal[..readable]);
            state.apply(&Record::Damaged);
            machine.journal = vec![Record::Snapshot(Box::new(state.clone()))];
            (state, true)
        } else {
            (State::replay(&machine.journal), false)
        };
        machine.leftovers.retain(|_, until| *until > now.monotonic);
        let config = Config {
            me: name.clone(),
            spec,
            config_hash: if machine.other_config { "other".into() } else { "same".into() },
            config_parts: BTreeMap::new(),
            software: "sim".into(),
            boot: format!("boot-{}", machine.boot),
            damaged: state.1,
            leftovers: machine.leftovers.keys().cloned().collect(),
            unusable: machine.unusable.clone(),
            kits: BTreeMap::new(),
            seed,
        };
        let life = machine.life;
        let leftovers: Vec<(Tag, Monotonic)> =
            machine.leftovers.iter().map(|(tag, until)| (tag.clone(), *until)).collect();
        machine.node = Some(Node::new(config, state.0, now));
        for (tag, until) in leftovers {
            self.at(until.since(self.now), Happening::LeftoverGone { node: name.clone(), life, tag });
        }
        self.carry_out(name);
        self.reconnect(name);
    }

    /// Ends a daemon at once (SIGKILL): what it had written and not synced may still reach the disk, since the machine
    /// goes on; applications go on; its calls go on for a while.
    pub fn kill(&mut self, name: &NodeName) {
        self.end_daemon(name);
        let machine = self.machine(name);
        let written: Vec<Record> = machine.unsynced.drain(..).map(|(_, record)| record).collect();
        machine.journal.extend(written);
    }

    /// Stops a daemon in good order.
    pub fn stop(&mut self, name: &NodeName) {
        self.input(name, Input::Stop);
        // Long enough for its last words to be durable and said.
        self.run(Millis(5));
        self.kill(name);
    }

    /// Takes the power from a machine: nothing runs, what was not synced is lost.
    pub fn power_off(&mut self, name: &NodeName) {
        self.end_daemon(name);
        let machine = self.machine(name);
        machine.unsynced.clear();
        machine.leftovers.clear();
        machine.boot += 1;
        machine.off = true;
        for app in machine.apps.values_mut() {
            app.become_((false, false));
        }
        self.checks.power_off(name);
    }

    /// As [`Self::power_off`], but so many of the records that were not synced have reached the disk all the same.
    pub fn power_off_keeping(&mut self, name: &NodeName, records: usize) {
        let machine = self.machine(name);
        let kept: Vec<Record> = machine.unsynced.drain(..).take(records).map(|(_, record)| record).collect();
        machine.journal.extend(kept);
        self.power_off(name);
    }

    fn end_daemon(&mut self, name: &NodeName) {
        let now = self.now;
        let machine = self.machine(name);
        machine.node = None;
        machine.paused = false;
        machine.held_back.clear();
        let calls = core::mem::take(&mut machine.calls);
        for Running { tag, becomes, .. } in calls.into_values() {
            // What a call had begun goes on without the daemon, and takes effect.
            if let Some(app) = machine.apps.get_mut(&tag) {
                app.become_(becomes);
            }
            machine.leftovers.insert(tag, now + Millis(500));
        }
        let sessions = core::mem::take(&mut machine.sessions);
        for (node, session) in sessions {
            // What was sent before still arrives first.
            self.at(LINK, Happening::SessionLost { node, peer: name.clone(), session });
        }
    }

    /// Stops a process, and lets it go on (SIGSTOP, SIGCONT).
    pub fn pause(&mut self, name: &NodeName, paused: bool) {
        self.machine(name).paused = paused;
        if !paused {
            self.input(name, Input::Tick);
        }
    }

    /// Cuts the way from one node to another, without a word to either.
    pub fn cut(&mut self, from: &NodeName, to: &NodeName) {
        self.cut.insert((from.clone(), to.clone()));
    }

    /// Mends it. A session over it has broken meanwhile.
    pub fn heal(&mut self, from: &NodeName, to: &NodeName) {
        if !self.cut.remove(&(from.clone(), to.clone())) {
            return;
        }
        for (node, peer) in [(from.clone(), to.clone()), (to.clone(), from.clone())] {
            if let Some(session) = self.machine(&node).sessions.get(&peer).copied() {
                self.at(LINK, Happening::SessionLost { node, peer, session });
            }
        }
        self.reconnect(from);
    }

    /// From now on, only heartbeats of this node do not come through, or it makes no sessions.
    pub fn block(&mut self, name: &NodeName, kind: Kind) {
        self.blocked.insert((name.clone(), kind));
        if kind == Kind::Messages {
            for (peer, session) in self.machine(name).sessions.clone() {
                self.at(LINK, Happening::SessionLost { node: name.clone(), peer: peer.clone(), session });
                self.at(LINK, Happening::SessionLost { node: peer, peer: name.clone(), session });
            }
        }
    }

    /// The disk answers again.
    pub fn unstick_disk(&mut self, name: &NodeName) {
        let machine = self.machine(name);
        machine.disk_stuck = false;
        let life = machine.life;
        if let Some((number, _)) = machine.unsynced.back() {
            let number = *number;
            self.at(SYNC, Happening::Synced { node: name.clone(), life, number });
        }
    }

    /// What is wrong with resources on a machine.
    pub fn set_unusable(&mut self, name: &NodeName, unusable: BTreeMap<Tag, String>) {
        self.machine(name).unusable = unusable.clone();
        self.input(name, Input::Unusable(unusable));
    }

    /// An operator asks.
    pub fn ask(&mut self, name: &NodeName, request: Request) -> RequestId {
        match &request {
            Request::InService { target, force: true } => {
                let off = self.all_off_but(name);
                self.checks.stated_off(&HierarchyName::from(target.as_str()), off);
            }
            Request::Confirm { alarm, .. } => {
                let status = self.machine(name).node.as_ref().map(Node::status);
                let hierarchy = status
                    .and_then(|status| status.alarms.into_iter().find(|it| it.id == *alarm))
                    .and_then(|it| it.hierarchy);
                if let Some(hierarchy) = hierarchy {
                    let off = self.all_off_but(name);
                    self.checks.stated_off(&hierarchy, off);
                }
            }
            Request::InService { .. }
            | Request::OutOfService { .. }
            | Request::Switchover { .. }
            | Request::Maintenance { .. }
            | Request::Drain { .. } => {}
        }
        self.next_request += 1;
        let id = RequestId(self.next_request);
        self.input(name, Input::Request(id, request));
        id
    }

    fn all_off_but(&self, name: &NodeName) -> bool {
        self.machines.iter().all(|(other, machine)| other == name || machine.off)
    }

    fn reconnect(&mut self, name: &NodeName) {
        let others: Vec<NodeName> = self.machines.keys().filter(|other| *other != name).cloned().collect();
        for other in others {
            self.at(RECONNECT, Happening::Connect { a: name.clone(), b: other });
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
            let next_happening = self.queue.keys().next().map(|(at, _)| *at);
            let next_timer = self.next_timer();
            let at = [next_happening, next_timer.as_ref().map(|(at, _)| *at)].into_iter().flatten().min();
            let Some(at) = at.filter(|at| *at <= until) else {
                self.now = until;
                self.check_replay();
                return;
            };
            self.now = self.now.max(at);
            if next_happening == Some(at) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            } else if let Some((_, name)) = next_timer {
                self.input(&name, Input::Tick);
            }
        }
        panic!("the world does not come to rest: {:#?}", self.timeline.iter().rev().take(20).collect::<Vec<_>>());
    }

    fn next_timer(&self) -> Option<(Monotonic, NodeName)> {
        self.machines
            .iter()
            .filter(|(_, machine)| !machine.paused)
            .filter_map(|(name, machine)| machine.node.as_ref().map(|node| (node.poll_timeout().0, name.clone())))
            .min()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Heartbeat { to, heartbeat } => self.input_unless_paused(&to, Input::Heartbeat(heartbeat)),
            Happening::Message { from, to, session, message } => {
                if self.machine(&to).paused {
                    self.at(PAUSED, Happening::Message { from, to, session, message });
                } else if self.machine(&to).sessions.get(&from) == Some(&session) {
                    self.input(&to, Input::Message(from, message));
                }
            }
            Happening::Connect { a, b } => self.connect(&a, &b),
            Happening::SessionLost { node, peer, session } => {
                if self.machine(&node).paused {
                    self.at(PAUSED, Happening::SessionLost { node, peer, session });
                } else if self.machine(&node).sessions.get(&peer) == Some(&session) {
                    self.machine(&node).sessions.remove(&peer);
                    self.input(&node, Input::SessionLost(peer.clone()));
                    self.at(RECONNECT, Happening::Connect { a: node, b: peer });
                }
            }
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
        }
    }

    /// Makes a session between two daemons that can reach each other; tries again while they may come to.
    fn connect(&mut self, a: &NodeName, b: &NodeName) {
        let alive = [a, b].iter().all(|name| self.machines[*name].node.is_some());
        let cut = self.cut.contains(&(a.clone(), b.clone())) || self.cut.contains(&(b.clone(), a.clone()));
        if !alive || cut || self.machines[a].sessions.contains_key(b) {
            return;
        }
        if [a, b].iter().any(|name| self.blocked.contains(&((*name).clone(), Kind::Messages))) {
            self.at(RECONNECT, Happening::Connect { a: a.clone(), b: b.clone() });
            return;
        }
        let paused = [a, b].iter().any(|name| self.machines[*name].paused);
        // The other end may not have noticed yet that an old one is gone.
        if paused || self.machines[b].sessions.contains_key(a) {
            self.at(RECONNECT, Happening::Connect { a: a.clone(), b: b.clone() });
            return;
        }
        self.sessions += 1;
        let session = self.sessions;
        for (node, peer) in [(a, b), (b, a)] {
            self.machine(node).sessions.insert(peer.clone(), session);
        }
        self.input(a, Input::SessionUp(b.clone()));
        self.input(b, Input::SessionUp(a.clone()));
    }

    fn input_unless_paused(&mut self, name: &NodeName, input: Input) {
        if !self.machine(name).paused {
            self.input(name, input);
        }
    }

    fn input(&mut self, name: &NodeName, input: Input) {
        let now = self.both_clocks(name);
        if let Some(node) = &mut self.machine(name).node {
            node.handle(input, now);
        }
        self.carry_out(name);
    }

    // What nodes put out.

    fn carry_out(&mut self, name: &NodeName) {
        loop {
            let machine = self.machine(name);
            let Some(output) = machine.node.as_mut().and_then(Node::poll_output) else { return };
            let (after, output) = match output {
                Output::Persist(number, record) => {
                    machine.unsynced.push_back((number, record));
                    let (life, stuck) = (machine.life, machine.disk_stuck);
                    if !stuck {
                        self.at(SYNC, Happening::Synced { node: name.clone(), life, number });
                    }
                    continue;
                }
                Output::Heartbeat(heartbeat) => {
                    let to = heartbeat.to.clone();
                    let blocked = self.blocked.contains(&(name.clone(), Kind::Heartbeats));
                    if !blocked && !self.cut.contains(&(name.clone(), to.clone())) {
                        self.at(LINK, Happening::Heartbeat { to, heartbeat });
                    }
                    continue;
                }
                Output::CancelKit(call) => {
                    self.cancel(name, call);
                    continue;
                }
                Output::Knock(..) | Output::Guard(_) => continue,
                Output::Send(after, ..)
                | Output::Arbiter(after, ..)
                | Output::Fence(after, ..)
                | Output::CallKit(after, _)
                | Output::Report(after, _)
                | Output::Reply(after, ..) => (after, output),
            };
            // Each by its own number: a wrong one would not show behind others that wait.
            if after <= machine.durable {
                self.release(name, output);
            } else {
                machine.held_back.push_back((after, output));
            }
        }
    }

    fn synced(&mut self, name: &NodeName, life: u64, number: RecordNumber) {
        let machine = self.machine(name);
        if machine.life != life || machine.disk_stuck {
            return;
        }
        while let Some((at, record)) = machine.unsynced.pop_front() {
            if at > number {
                machine.unsynced.push_front((at, record));
                break;
            }
            machine.journal.push(record);
            machine.durable = at;
        }
        for (after, output) in core::mem::take(&mut self.machine(name).held_back) {
            if after > self.machine(name).durable {
                self.machine(name).held_back.push_back((after, output));
            } else {
                self.release(name, output);
            }
        }
    }

    fn release(&mut self, name: &NodeName, output: Output) {
        let durable = State::replay(&self.machines[name].journal);
        self.checks.leaves(name, &durable, &self.hierarchies, &output);
        match output {
            Output::Send(_, to, message) => {
                let cut = self.cut.contains(&(name.clone(), to.clone()));
                if let Some(session) = self.machine(name).sessions.get(&to).copied().filter(|_| !cut) {
                    self.at(LINK, Happening::Message { from: name.clone(), to, session, message });
                }
            }
            Output::CallKit(_, call) => self.call(name, call),
            Output::Report(_, event) => self.report(name, &event),
            Output::Reply(_, id, reply) => {
                self.replies.insert(id, reply);
            }
            Output::Arbiter(..) | Output::Fence(..) => {}
            Output::Persist(..)
            | Output::Heartbeat(_)
            | Output::CancelKit(_)
            | Output::Knock(..)
            | Output::Guard(_) => {
                unreachable!("carried out at once")
            }
        }
    }

    fn report(&mut self, name: &NodeName, event: &Event) {
        self.timeline.push(Line { at: self.now, node: name.clone(), text: event.to_string() });
    }

    fn call(&mut self, name: &NodeName, call: Call) {
        let Some(hierarchy) = self.hierarchies.values().nth(call.hierarchy.at()) else { return };
        let tag = hierarchy.tag(call.resource).clone();
        let machine = &self.machines[name];
        let alone = !machine.calls.values().any(|running| running.tag == tag) && !machine.leftovers.contains_key(&tag);
        self.checks.call(name, hierarchy, &call, &machine.apps, alone);
        let hierarchy = hierarchy.name.clone();
        let life = machine.life;
        let reaction = machine.apps[&tag].react(&call.operation);
        self.machine(name).calls.insert(call.id, Running { hierarchy, tag, becomes: reaction.becomes });
        let (after, outcome) = match reaction.takes.filter(|takes| *takes < call.budget) {
            Some(takes) => (takes, reaction.outcome),
            None => (call.budget, fault(FaultKind::Timeout, "no answer within the budget")),
        };
        self.at(after, Happening::Outcome { node: name.clone(), life, call: call.id, outcome });
    }

    fn cancel(&mut self, name: &NodeName, call: CallId) {
        let life = self.machine(name).life;
        let outcome = fault(FaultKind::Cancelled, "it was cancelled");
        self.at(CANCEL, Happening::Outcome { node: name.clone(), life, call, outcome });
    }

    fn call_ended(&mut self, name: &NodeName, call: CallId, outcome: Outcome) {
        let machine = self.machine(name);
        let Some(Running { hierarchy, tag, becomes }) = machine.calls.remove(&call) else { return };
        if let Some(app) = machine.apps.get_mut(&tag) {
            app.become_(becomes);
        }
        let runs = machine.apps.get(&tag).is_some_and(|app| app.running);
        if matches!(outcome, Outcome::Done { .. }) && !runs {
            self.checks.removed(name, &hierarchy, &tag);
        }
        self.input(name, Input::Outcome(call, outcome));
    }

    /// Replaying the journal gives the state, whenever everything is durable.
    fn check_replay(&mut self) {
        let mut broken = Vec::new();
        for (name, machine) in &self.machines {
            let Some(node) = &machine.node else { continue };
            if machine.unsynced.is_empty() && State::replay(&machine.journal) != *node.state() {
                broken.push(format!("{name}: replaying the journal gives another state"));
            }
        }
        self.checks.broken.extend(broken);
    }
}
