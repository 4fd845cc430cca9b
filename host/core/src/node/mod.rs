//! A node: everything the daemon decides.
//!
//! # Driving it
//!
//! ```text
//! let mut node = Node::new(config, recovered_state, now);
//! loop {
//!     while let Some(output) = node.poll_output() { carry it out }
//!     let (when, why) = node.poll_timeout();
//!     wait for an input, until `when` at the most (then Input::Tick)
//!     node.handle(input, now);
//! }
//! ```
//!
//! `handle` is synchronous and never fails; time comes only from its argument, which never goes back. Outputs come
//! in order. [`Output::Persist`] is written to the journal in order; whatever names a record is carried out
//! only once that record is durable, in whatever thread that is found out. The state in memory may be ahead of
//! the journal; nothing that depends on it has left then.
//!
//! Each file decides one thing: [`peers`](self) who is there, `ownership` who may act, `serve` what is done in which
//! order, `calls` what an outcome means for an operation, `checks` what a check means, `operator` what a person may
//! ask for, `views` what is shown, `examine` whether nodes are fit.

mod alarms;
mod arbiter;
mod calls;
mod checks;
mod compare;
mod examine;
mod explain;
mod gossip;
mod io;
mod local;
mod operator;
mod ownership;
mod peers;
mod promises;
mod serve;
mod takeover;
mod timers;
mod upkeep;
mod views;
mod volumes;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

pub use io::{
    Abilities, Call, CallId, CheckReport, Failure, FaultKind, FenceId, Finding, Health, Input, Operation, Outcome,
    Output, RecordNumber, Reply, Request, RequestId, RetryWhere, SurveyId, Verdict, Weight,
};
pub use timers::{HierarchyIndex, Timer};

use crate::arbiter::ArbiterId;
use crate::hierarchy::{Hierarchy, ResourceIndex};
use crate::names::{HierarchyName, KitName, NodeName, Tag};
use crate::plan::Presence;
use crate::spec::{FailoverMode, FenceSpec, HierarchySpec, Spec};
use crate::state::{Ended, HierarchyState, Record, ResourceState, State};
use crate::status::{Event, EventSeverity, What};
use crate::time::{Millis, Monotonic, Now};

use alarms::{Alarms, Scope};
use arbiter::Arbiter;
use io::Paths;
use local::{ActiveCall, LocalHierarchy, LocalResource};
use peers::Peer;
use timers::Timers;

/// Peers are told everything they need to decide this often, whether it has changed or not: a lost message costs no
/// more than this.
const REFRESH: Millis = Millis::from_secs(5);
/// Changes of resources' states are collected this long before peers are told: they are for people.
const GOSSIP: Millis = Millis(200);
/// A peer that beats and has no session for so long has a network in its way, or a daemon that hangs.
const WITHOUT_SESSION_LONG: Millis = Millis::from_secs(15);
/// A peer that has not answered a question for this long is not going to.
const ASK: Millis = Millis::from_secs(10);
/// Nothing has to be done sooner than this when nothing at all is waited for.
const IDLE: Millis = Millis::from_mins(60);

/// What a node is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name, one of the spec's.
    pub me: NodeName,
    /// What the operator wrote.
    pub spec: Spec,
    /// Of the spec: compared with the other nodes'.
    pub config_hash: String,
    /// Of each part of it ([`Spec::parts`]): so that nodes can say what differs.
    pub config_parts: BTreeMap<String, String>,
    /// Of mainstay: shown to the other nodes.
    pub software: String,
    /// Names the machine's start.
    pub boot: String,
    /// Whether something in the journal could not be read (O4), which the recovered state knows: this is told.
    pub damaged: bool,
    /// What an earlier daemon started and what still runs, by tag (O23).
    pub leftovers: BTreeSet<Tag>,
    /// What is wrong with the kits, params and grants of resources on this node, by tag.
    pub unusable: BTreeMap<Tag, String>,
    /// The version of each kit, as it is compared with the other nodes'.
    pub kits: BTreeMap<KitName, String>,
    /// The same seed, state and inputs give the same outputs.
    pub seed: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Node {
    me: NodeName,
    cluster: String,
    config_hash: String,
    software: String,
    hold_time: Millis,
    node_names: Vec<NodeName>,
    paths: Paths,
    /// How each node is fenced by the others, if it can be.
    fences: BTreeMap<NodeName, FenceSpec>,
    config_parts: BTreeMap<String, String>,
    kits: BTreeMap<KitName, String>,
    /// What keeps this node from bringing anything in service.
    hindered: Vec<String>,
    seed: u64,
    now: Now,
    stopped: bool,
    /// It had to count from higher up, because peers knew of a newer daemon.
    caught_up: bool,
    /// Peers know of a newer daemon again: another one calls itself as this node does.
    doubled: bool,
    /// This process was late, and has listened again for long enough only then (O6).
    listens_until: Monotonic,

    state: State,
    recorded: RecordNumber,
    hierarchies: Vec<LocalHierarchy>,
    by_name: BTreeMap<HierarchyName, HierarchyIndex>,
    by_tag: BTreeMap<Tag, (HierarchyIndex, ResourceIndex)>,
    peers: Vec<Peer>,
    calls: BTreeMap<CallId, ActiveCall>,
    alarms: Alarms,
    arbiter: Option<Arbiter>,
    /// Promises asked for.
    promises_asked: BTreeMap<u64, promises::Asked>,
    /// The hierarchies with mirrored volumes, as far as this node may own them.
    with_volumes: Vec<HierarchyIndex>,
    /// Marks asked of the arbiter.
    marks_asked: BTreeMap<ArbiterId, volumes::Marking>,
    /// What was asked of which peer.
    asks: BTreeMap<u64, (RequestId, NodeName)>,
    examinations: examine::Examinations,
    timers: Timers,
    outputs: VecDeque<Output>,

    next_call: u64,
    next_operation: u64,
    next_ask: u64,
    next_fence: u64,
    messages: u64,
    refreshes: u64,
    tell: gossip::Tell,
    /// Hierarchies in which something has happened that may lead to something.
    touched: BTreeSet<HierarchyIndex>,
    /// Hierarchies of which something shown may have changed.
    changed: BTreeSet<HierarchyIndex>,
    /// Resources of which something shown may have changed.
    changed_resources: BTreeSet<(HierarchyIndex, ResourceIndex)>,
}

impl Node {
    /// A node that starts with the state its journal gave.
    #[must_use]
    pub fn new(config: Config, recovered: State, now: Now) -> Self {
        let Config { me, spec, config_hash, config_parts, software, boot, damaged, leftovers, unusable, kits, seed } =
            config;
        let fences = spec.nodes.iter().filter_map(|(name, node)| Some((name.clone(), node.fence.clone()?))).collect();
        let by_arbiter =
            |hierarchy: &HierarchySpec| hierarchy.failover == FailoverMode::Arbiter && hierarchy.nodes.contains(&me);
        let arbiter = match (&spec.arbiter, &spec.self_fence) {
            (Some(arbiter), Some(fence)) if spec.hierarchies.values().any(by_arbiter) => {
                Some(Arbiter::new(arbiter.clone(), fence.takes, now.monotonic))
            }
            _ => None,
        };
        let mut paths: Paths = spec.paths.into_iter().collect();
        paths.sort_by_key(|(_, path)| path.priority);
        let node_names: Vec<NodeName> = spec.nodes.keys().cloned().collect();
        let hierarchies: Vec<LocalHierarchy> = spec
            .hierarchies
            .into_iter()
            .map(|(name, spec)| {
                let member = spec.nodes.contains(&me);
                LocalHierarchy::new(Hierarchy::new(name, spec), member)
            })
            .collect();
        let by_name: BTreeMap<_, _> = (0..)
            .map(HierarchyIndex)
            .zip(&hierarchies)
            .map(|(index, local)| (local.hierarchy.name.clone(), index))
            .collect();
        let with_volumes = (0..)
            .map(HierarchyIndex)
            .zip(&hierarchies)
            .filter(|(_, local)| local.member && !local.hierarchy.spec.volumes.is_empty())
            .map(|(index, _)| index)
            .collect();
        let mut by_tag = BTreeMap::new();
        for (index, local) in (0..).map(HierarchyIndex).zip(&hierarchies) {
            by_tag.extend(
                local.hierarchy.resources().map(|resource| (local.hierarchy.tag(resource).clone(), (index, resource))),
            );
        }
        let peers =
            node_names.iter().filter(|name| **name != me).map(|name| Peer::new(name.clone(), &paths, now)).collect();
        let mut node = Self {
            me,
            cluster: spec.cluster,
            config_hash,
            software,
            hold_time: spec.hold_time,
            node_names,
            paths,
            fences,
            config_parts,
            kits,
            hindered: Vec::new(),
            seed,
            now,
            stopped: false,
            caught_up: false,
            doubled: false,
            listens_until: now.monotonic,
            state: recovered,
            recorded: RecordNumber::default(),
            hierarchies,
            by_name,
            by_tag,
            peers,
            calls: BTreeMap::new(),
            alarms: Alarms::default(),
            arbiter,
            promises_asked: BTreeMap::new(),
            with_volumes,
            marks_asked: BTreeMap::new(),
            asks: BTreeMap::new(),
            examinations: examine::Examinations::default(),
            timers: Timers::default(),
            outputs: VecDeque::new(),
            next_call: 0,
            next_operation: 0,
            next_ask: 0,
            next_fence: 0,
            messages: 0,
            refreshes: 0,
            tell: gossip::Tell::default(),
            touched: BTreeSet::new(),
            changed: BTreeSet::new(),
            changed_resources: BTreeSet::new(),
        };
        node.begin(boot, damaged, &leftovers, unusable);
        node
    }

    fn begin(&mut self, boot: String, damaged: bool, leftovers: &BTreeSet<Tag>, unusable: BTreeMap<Tag, String>) {
        if damaged {
            self.event(EventSeverity::Alarm, None, None, What::JournalDamaged);
        }
        // Not below the wall clock, so that peers take this daemon for a newer one even if the journal was lost.
        let incarnation = (self.state.incarnation + 1).max(self.now.unix.0);
        self.record(Record::Started { incarnation, boot });
        self.event(EventSeverity::Info, None, None, What::Started { incarnation });
        self.forget_what_the_config_dropped();
        for h in self.indices() {
            self.configure(h);
        }
        for tag in leftovers {
            if let Some((h, r)) = self.by_tag.get(tag).copied() {
                self.resource_mut(h, r).leftover = true;
            }
        }
        self.end_what_is_gone();
        self.unusable(unusable);
        for path in 0..self.paths.len() {
            if !self.peers.is_empty() {
                self.timers.set(Timer::Heartbeat { path }, self.now.monotonic);
            }
            for peer in 0..self.peers.len() {
                self.watch_path(peer, path);
            }
        }
        if !self.peers.is_empty() {
            self.timers.set(Timer::Refresh, self.now.monotonic + REFRESH);
        }
        self.schedule_first_checks();
        self.keep_promises();
        self.renew();
        self.settle();
    }

    /// Operations of an earlier daemon of which nothing runs any more: nobody knows how they ended.
    fn end_what_is_gone(&mut self) {
        for h in self.members() {
            for r in self.local(h).hierarchy.resources() {
                let running = self.durable_resource(h, r).operation.as_ref().is_some_and(|operation| operation.running);
                if running && !self.resource(h, r).leftover {
                    self.end_operation(h, r, Ended::Unheard);
                }
            }
        }
    }

    fn forget_what_the_config_dropped(&mut self) {
        let mut gone = Vec::new();
        for (name, hierarchy) in &self.state.hierarchies {
            let index = self.by_name.get(name).filter(|index| self.hierarchies[index.at()].member);
            let Some(index) = index else {
                gone.push((name.clone(), None, hierarchy.is_occupied()));
                continue;
            };
            for (tag, resource) in &hierarchy.resources {
                if self.hierarchies[index.at()].hierarchy.find(tag).is_none() {
                    gone.push((name.clone(), Some(tag.clone()), resource.presence != Presence::Out));
                }
            }
        }
        for (hierarchy, tag, here) in gone {
            if here {
                let text = "the config does not have it on this node any more, and something of it may still be in service here: nobody looks after it. Take it out by hand".into();
                self.event(EventSeverity::Alarm, Some(hierarchy.clone()), tag.clone(), What::Learned { text });
            }
            self.record(Record::Forgotten { hierarchy, tag });
        }
    }

    /// Makes the state know every member hierarchy of the config and its resources.
    fn configure(&mut self, h: HierarchyIndex) {
        self.touch(h);
        self.mark_all(h);
        let local = &self.hierarchies[h.at()];
        let name = local.hierarchy.name.clone();
        let known = self.state.hierarchies.get(&name);
        let tags: BTreeSet<Tag> = local
            .hierarchy
            .resources()
            .map(|resource| local.hierarchy.tag(resource))
            .filter(|tag| known.is_none_or(|known| !known.resources.contains_key(*tag)))
            .cloned()
            .collect();
        if !tags.is_empty() {
            self.record(Record::Configured { hierarchy: name.clone(), tags });
        }
        // What the config lets depend on something that the operator has taken out of service stays out with it.
        let local = &self.hierarchies[h.at()];
        let unwanted = &self.state.hierarchies[&name].unwanted;
        let out = local.hierarchy.resources().filter(|resource| unwanted.contains(local.hierarchy.tag(*resource)));
        let above = out.flat_map(|resource| local.hierarchy.with_ancestors(resource));
        let tags: BTreeSet<Tag> = above
            .map(|resource| local.hierarchy.tag(resource))
            .filter(|tag| !unwanted.contains(*tag))
            .cloned()
            .collect();
        if !tags.is_empty() {
            self.record(Record::Wanted { hierarchy: name, tags, wanted: false });
        }
    }

    /// Takes an input. Time never goes back.
    pub fn handle(&mut self, input: Input, now: Now) {
        debug_assert!(now.monotonic >= self.now.monotonic, "time goes forward");
        self.notice_step(now);
        self.now = now;
        self.notice_own_gap();
        self.take(input);
        while let Some((due, timer)) = self.timers.take_due(self.now.monotonic) {
            self.fire(timer, due);
        }
        self.settle();
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => {}
            Input::Heartbeat(heartbeat) => self.heartbeat(&heartbeat),
            Input::SessionUp(name) => self.session(&name, true),
            Input::SessionLost(name) => self.session(&name, false),
            Input::Message(from, message) => self.message(&from, message),
            Input::Outcome(call, outcome) => self.outcome(call, outcome),
            Input::LeftoverGone(tag) => self.leftover_gone(&tag),
            Input::Unusable(unusable) => self.unusable(unusable),
            Input::Knocked { node, path, answered } => self.knocked(&node, &path, answered),
            Input::Abilities(able) => self.abilities(&able),
            Input::Hindered(reasons) => self.hindered(reasons),
            Input::Kits(kits) => self.kits_changed(kits),
            Input::Arbiter(id, answer) => self.arbiter_answered(id, answer),
            Input::ArbiterChanged(view) => self.arbiter_changed(&view),
            Input::FenceEnded(id, result) => self.fence_ended(id, result),
            Input::Guardian { there } => self.guardian(there),
            Input::Volume(name, said) => self.volume_says(name, said),
            Input::Request(id, request) => self.request(id, request),
            Input::Examine { id, hierarchy, within } => self.examine(id, hierarchy, within),
            Input::Surveyed(id, survey) => self.surveyed(id, survey),
            Input::Stop => self.stop(),
        }
    }

    fn fire(&mut self, timer: Timer, due: Monotonic) {
        match timer {
            Timer::Heartbeat { path } => self.beat(path),
            Timer::PathDead { peer, path } => self.path_due(peer, path),
            Timer::Overdue { peer, path } => self.overdue(peer, path),
            Timer::Hold { peer } => self.hold_over(peer),
            Timer::Refresh => self.refresh(),
            Timer::Fence { peer } => {
                if self.peers[peer].reach().is_silence() {
                    self.touch_all();
                }
            }
            Timer::Renew => self.renew(),
            Timer::Right { hierarchy } => self.touch(hierarchy),
            Timer::Gossip => self.tell.now(),
            Timer::Ask { id } => self.ask_unanswered(id),
            Timer::Examination { id } => self.examination_over(id),
            Timer::Check { hierarchy, resource } => self.check_due(hierarchy, resource, due),
            Timer::Again { hierarchy } => self.again_due(hierarchy),
            Timer::Retry { hierarchy, resource } => self.retry_due(hierarchy, resource),
        }
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with [`Input::Tick`] if nothing else happens, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> (Monotonic, Option<Timer>) {
        self.timers.first().map_or((self.now.monotonic + IDLE, None), |(at, timer)| (at, Some(timer)))
    }

    /// The durable state, as the records so far make it.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The record that [`Self::state`] is up to.
    #[must_use]
    pub fn recorded(&self) -> RecordNumber {
        self.recorded
    }

    /// The hierarchies, by index.
    pub fn hierarchies(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies.iter().map(|local| &local.hierarchy)
    }

    // What the other files of this module work with.

    fn indices(&self) -> impl Iterator<Item = HierarchyIndex> + use<> {
        (0..self.hierarchies.len() as u32).map(HierarchyIndex)
    }

    /// The hierarchies that this node may own.
    fn members(&self) -> Vec<HierarchyIndex> {
        self.indices().filter(|h| self.local(*h).member).collect()
    }

    fn local(&self, h: HierarchyIndex) -> &LocalHierarchy {
        &self.hierarchies[h.at()]
    }

    fn local_mut(&mut self, h: HierarchyIndex) -> &mut LocalHierarchy {
        &mut self.hierarchies[h.at()]
    }

    fn resource(&self, h: HierarchyIndex, r: ResourceIndex) -> &LocalResource {
        &self.hierarchies[h.at()].resources[r.at()]
    }

    fn resource_mut(&mut self, h: HierarchyIndex, r: ResourceIndex) -> &mut LocalResource {
        &mut self.hierarchies[h.at()].resources[r.at()]
    }

    fn name(&self, h: HierarchyIndex) -> &HierarchyName {
        &self.local(h).hierarchy.name
    }

    fn tag(&self, h: HierarchyIndex, r: ResourceIndex) -> &Tag {
        self.local(h).hierarchy.tag(r)
    }

    /// The durable state of a hierarchy. It is there: [`Self::configure`] has seen to it, and only what the config
    /// does not have is ever forgotten.
    fn durable(&self, h: HierarchyIndex) -> &HierarchyState {
        &self.state.hierarchies[self.name(h)]
    }

    fn durable_resource(&self, h: HierarchyIndex, r: ResourceIndex) -> &ResourceState {
        &self.durable(h).resources[self.tag(h, r)]
    }

    fn is_owner(&self, h: HierarchyIndex) -> bool {
        self.durable(h).is_owned_by(&self.me)
    }

    /// Something has happened that may lead to something.
    fn touch(&mut self, h: HierarchyIndex) {
        self.touched.insert(h);
        self.changed.insert(h);
    }

    /// What is shown of a resource may have changed.
    fn mark(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        self.changed_resources.insert((h, r));
    }

    /// What is shown of every resource of a hierarchy may have changed: its owner, or what is to be done with it.
    fn mark_all(&mut self, h: HierarchyIndex) {
        self.changed_resources.extend(self.local(h).hierarchy.resources().map(|r| (h, r)));
    }

    /// Changes the state. Whatever is put out from here on waits for the record to be durable.
    fn record(&mut self, record: Record) {
        self.state.apply(&record);
        self.recorded.0 += 1;
        self.outputs.push_back(Output::Persist(self.recorded, record));
    }

    fn event(&mut self, severity: EventSeverity, hierarchy: Option<HierarchyName>, tag: Option<Tag>, what: What) {
        let event = Event { at: self.now.unix, severity, hierarchy, tag, what };
        self.outputs.push_back(Output::Report(self.recorded, event));
    }

    fn event_of(&mut self, severity: EventSeverity, h: HierarchyIndex, r: Option<ResourceIndex>, what: What) {
        let tag = r.map(|r| self.tag(h, r).clone());
        self.event(severity, Some(self.name(h).clone()), tag, what);
    }

    /// Lets what has happened lead to what it leads to, until nothing more does.
    fn settle(&mut self) {
        if self.stopped {
            return;
        }
        while let Some(h) = self.touched.pop_first() {
            self.act(h);
        }
        while let Some((h, r)) = self.changed_resources.pop_first() {
            if self.local(h).member {
                self.refresh_view(h, r);
                self.refresh_alarms(Scope::Resource(h, r));
            }
        }
        if !self.changed.is_empty() {
            (0..self.peers.len()).for_each(|peer| self.refresh_alarms(Scope::Peer(peer)));
            self.refresh_alarms(Scope::Arbiter);
            self.refresh_alarms(Scope::Node);
        }
        while let Some(h) = self.changed.pop_first() {
            if self.local(h).member {
                self.refresh_alarms(Scope::Hierarchy(h));
            }
        }
        self.tell_examinations();
        self.tell_rights();
        self.gossip();
    }

    fn unusable(&mut self, mut unusable: BTreeMap<Tag, String>) {
        for h in self.indices() {
            let mut changed = false;
            for r in self.local(h).hierarchy.resources() {
                let tag = self.tag(h, r).clone();
                let problem = unusable.remove(&tag);
                self.mark(h, r);
                changed |= core::mem::replace(&mut self.resource_mut(h, r).unusable, problem.clone()) != problem;
            }
            if changed {
                // What could not be done may be possible now.
                self.local_mut(h).attempted = false;
                self.tell.ownership();
                self.touch(h);
            }
        }
    }

    fn abilities(&mut self, able: &BTreeMap<Tag, Abilities>) {
        for h in self.indices() {
            for r in self.local(h).hierarchy.resources() {
                let able = able.get(self.tag(h, r)).copied().unwrap_or_default();
                self.resource_mut(h, r).able = able;
                if !able.readiness {
                    self.found(h, r, Vec::new());
                }
            }
        }
    }

    fn hindered(&mut self, reasons: Vec<String>) {
        if self.hindered != reasons {
            self.hindered = reasons;
            self.tell.ownership();
            self.touch_all();
        }
    }

    fn stop(&mut self) {
        let mut hold = self.hold_time;
        // Resources that rest on a lease stay no longer than that: the guardian fences this node before it ends (O9).
        if let Some(arbiter) = &self.arbiter
            && self.members().into_iter().any(|h| self.by_arbiter(h) && self.is_occupied(h))
        {
            hold = hold.min(arbiter.spec.lease);
        }
        let released = self.members().into_iter().all(|h| !self.is_occupied(h));
        for peer in self.peers.iter().filter(|peer| peer.session) {
            let leave = crate::message::PeerMessage::Leave { incarnation: self.state.incarnation, hold, released };
            self.outputs.push_back(Output::Send(self.recorded, peer.name.clone(), leave));
        }
        self.stopped = true;
    }
}
