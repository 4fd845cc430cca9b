//! The nodes of a rehearsal, and as little of a world as they need: links on which nothing is lost, kits that do as they are
//! told, an arbiter that always answers, guardians and fences that work.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Snapshot, WhatIf};
use crate::arbiter::{ArbiterAnswer, ArbiterEntry, ArbiterId, ArbiterRequest, ArbiterView, Permit};
use crate::hierarchy::Hierarchy;
use crate::message::{Heartbeat, OwnershipSummary, PeerMessage};
use crate::names::{HierarchyName, NodeName, PathName, Tag};
use crate::node::{
    Call, CallId, CheckReport, Config, FenceId, Health, Input, Node, Operation, Outcome, Output, Verdict,
};
use crate::plan::Presence;
use crate::spec::{FailoverMode, Spec};
use crate::status::Event;
use crate::time::{Millis, Monotonic, Now, UnixMs};

/// How many inputs a rehearsal takes, at the most: a world that never comes to rest is a bug.
const STEPS_MAX: usize = 2_000_000;

/// Something on its way.
#[derive(Debug)]
enum OnItsWay {
    Heartbeat(Heartbeat),
    Input(Input),
}

/// The nodes, and as little of a world as they need.
#[derive(Debug)]
pub(super) struct Stage {
    hierarchies: Vec<Hierarchy>,
    nodes: BTreeMap<NodeName, Node>,
    pub(super) now: Monotonic,
    unix: UnixMs,
    broken_paths: BTreeSet<PathName>,
    paths: usize,
    failing: BTreeSet<Tag>,
    running: BTreeSet<(NodeName, Tag)>,
    queue: VecDeque<(NodeName, OnItsWay)>,
    records: BTreeMap<HierarchyName, ArbiterEntry>,
    /// The permits' leases: until when, by node.
    leases: BTreeMap<NodeName, Monotonic>,
    lease: Millis,
    guards: BTreeMap<NodeName, Monotonic>,
    pub(super) said: Vec<(Monotonic, NodeName, Event)>,
}

impl Stage {
    pub(super) fn new(snapshot: &Snapshot, spec: Spec) -> Self {
        let hierarchies: Vec<Hierarchy> =
            spec.hierarchies.iter().map(|(name, spec)| Hierarchy::new(name.clone(), spec.clone())).collect();
        let lease = spec.arbiter.as_ref().map_or(Millis(0), |arbiter| arbiter.lease);
        let mut stage = Self {
            hierarchies,
            nodes: BTreeMap::new(),
            now: Monotonic(0),
            unix: snapshot.at,
            broken_paths: BTreeSet::new(),
            paths: spec.paths.len(),
            failing: BTreeSet::new(),
            running: BTreeSet::new(),
            queue: VecDeque::new(),
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            lease,
            guards: BTreeMap::new(),
            said: Vec::new(),
        };
        for (name, known) in &snapshot.nodes {
            if !known.alive || !spec.nodes.contains_key(name) {
                continue;
            }
            for hierarchy in known.state.hierarchies.values() {
                let here = hierarchy.resources.iter().filter(|(_, resource)| resource.presence != Presence::Out);
                stage.running.extend(here.map(|(tag, _)| (name.clone(), tag.clone())));
            }
            let config = Config {
                me: name.clone(),
                spec: spec.clone(),
                config_hash: "rehearsed".into(),
                config_parts: BTreeMap::new(),
                software: "rehearsed".into(),
                boot: known.state.boot.clone(),
                damaged: false,
                leftovers: BTreeSet::new(),
                unusable: known.unusable.clone(),
                kits: known.kits.clone(),
                seed: 0,
            };
            stage.nodes.insert(name.clone(), Node::new(config, known.state.clone(), stage.both_clocks()));
        }
        stage.set_arbiter(snapshot);
        for name in stage.nodes.keys() {
            stage.queue.push_back((name.clone(), OnItsWay::Input(Input::Guardian { there: true })));
        }
        let names: Vec<NodeName> = stage.nodes.keys().cloned().collect();
        for name in &names {
            for peer in names.iter().filter(|peer| *peer != name) {
                stage.queue.push_back((name.clone(), OnItsWay::Input(Input::SessionUp(peer.clone()))));
            }
        }
        stage
    }

    /// What the arbiter has, as far as the nodes know: the newest claim on each hierarchy, and a permit for who owns it.
    fn set_arbiter(&mut self, snapshot: &Snapshot) {
        for hierarchy in self.hierarchies.iter().filter(|it| it.spec.failover == FailoverMode::Arbiter) {
            let known = snapshot.nodes.values().filter_map(|node| node.state.hierarchies.get(&hierarchy.name));
            let newest = known
                .filter(|known| known.arbitrated && known.claim.is_some())
                .max_by_key(|known| (known.claim.as_ref().map(|claim| claim.id.clone()), known.standing.revision));
            let Some(newest) = newest else { continue };
            let owner = newest.owner().filter(|owner| self.nodes.contains_key(*owner)).cloned();
            let epoch = newest.claim.as_ref().map_or_else(Default::default, |claim| claim.id.epoch);
            if let Some(owner) = &owner {
                self.leases.insert(owner.clone(), self.now + self.lease);
            }
            let record = OwnershipSummary {
                claim: newest.claim.clone(),
                standing: newest.standing.clone(),
                failovers: newest.failovers.clone(),
            };
            let permit = owner.map(|node| Permit { node, epoch, ours: false });
            let entry = ArbiterEntry { record: Some(record), version: 1, permit, ..ArbiterEntry::default() };
            self.records.insert(hierarchy.name.clone(), entry);
        }
    }

    fn both_clocks(&self) -> Now {
        Now { monotonic: self.now, unix: UnixMs(self.unix.0 + self.now.0) }
    }

    pub(super) fn happen(&mut self, what: &WhatIf) -> Result<(), String> {
        match what {
            WhatIf::NodeDies(name) => {
                if !self.nodes.contains_key(name) {
                    return Err(alloc::format!("{name} is not heard: it may be off already"));
                }
                self.power_off(name);
            }
            WhatIf::PathBreaks(name) => {
                self.broken_paths.insert(name.clone());
                if self.broken_paths.len() == self.paths {
                    self.queue.retain(|(_, it)| !matches!(it, OnItsWay::Input(Input::Message(..))));
                }
            }
            WhatIf::TagFails(tag) => {
                if !self.running.iter().any(|(_, running)| running == tag) {
                    return Err(alloc::format!("{tag} is in service nowhere"));
                }
                self.failing.insert(tag.clone());
            }
        }
        Ok(())
    }

    fn power_off(&mut self, name: &NodeName) {
        self.nodes.remove(name);
        self.guards.remove(name);
        self.running.retain(|(node, _)| node != name);
        self.queue.retain(|(node, _)| node != name);
    }

    /// Lets time pass until nothing was said for `quiet`, or `most` is over.
    pub(super) fn run(&mut self, most: Millis, quiet: Millis) {
        let until = self.now + most;
        let mut last_word = (self.now, self.said.len());
        for _ in 0..STEPS_MAX {
            self.deliver();
            if last_word.1 != self.said.len() {
                last_word = (self.now, self.said.len());
            }
            let timer = self.nodes.iter().map(|(name, node)| (node.poll_timeout().0, Some(name.clone()))).min();
            let guard = self.guards.iter().map(|(name, at)| (*at, name.clone())).min();
            let lease = self.leases.values().filter(|at| **at > self.now).min().copied();
            let next = [timer.as_ref().map(|(at, _)| *at), guard.as_ref().map(|(at, _)| *at), lease]
                .into_iter()
                .flatten()
                .min();
            let Some(at) = next.filter(|at| *at <= until && at.since(last_word.0) <= quiet) else {
                return;
            };
            self.now = self.now.max(at);
            if let Some((at, name)) = guard
                && at <= self.now
            {
                // The guardian does what it is for.
                self.power_off(&name);
                continue;
            }
            if let Some((at, Some(name))) = timer
                && at <= self.now
            {
                self.input(&name, Input::Tick);
            }
        }
    }

    fn deliver(&mut self) {
        // Nodes put out what they have to say when they are made, too.
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.carry_out(&name);
        }
        while let Some((to, it)) = self.queue.pop_front() {
            match it {
                OnItsWay::Heartbeat(heartbeat) => self.input(&to, Input::Heartbeat(heartbeat)),
                OnItsWay::Input(input) => self.input(&to, input),
            }
        }
    }

    fn input(&mut self, name: &NodeName, input: Input) {
        let now = self.both_clocks();
        if let Some(node) = self.nodes.get_mut(name) {
            node.handle(input, now);
        }
        self.carry_out(name);
    }

    fn carry_out(&mut self, name: &NodeName) {
        while let Some(output) = self.nodes.get_mut(name).and_then(Node::poll_output) {
            match output {
                // What a volume's process makes of it is not rehearsed.
                Output::Persist(..)
                | Output::Reply(..)
                | Output::CancelKit(_)
                | Output::Volume(..)
                | Output::Survey(..)
                | Output::Examined(..) => {}
                Output::Heartbeat(heartbeat) => {
                    if !self.broken_paths.contains(&heartbeat.path) && self.nodes.contains_key(&heartbeat.to) {
                        self.queue.push_back((heartbeat.to.clone(), OnItsWay::Heartbeat(heartbeat)));
                    }
                }
                Output::Send(_, to, message) => self.send(name, to, message),
                Output::CallKit(_, call) => {
                    let (id, outcome) = self.call(name, &call);
                    self.queue.push_back((name.clone(), OnItsWay::Input(Input::Outcome(id, outcome))));
                }
                Output::Report(_, event) => self.said.push((self.now, name.clone(), event)),
                Output::Arbiter(_, id, request) => self.arbiter(name, id, request),
                Output::Fence(_, id, node) => self.fence(name, id, &node),
                Output::Knock(node, path) => {
                    let answered = self.nodes.contains_key(&node) && !self.broken_paths.contains(&path);
                    let knocked = Input::Knocked { node, path, answered };
                    self.queue.push_back((name.clone(), OnItsWay::Input(knocked)));
                }
                Output::Guard(Some(at)) => {
                    self.guards.insert(name.clone(), at);
                }
                Output::Guard(None) => {
                    self.guards.remove(name);
                }
            }
        }
    }

    fn send(&mut self, from: &NodeName, to: NodeName, message: PeerMessage) {
        if self.broken_paths.len() < self.paths && self.nodes.contains_key(&to) {
            self.queue.push_back((to, OnItsWay::Input(Input::Message(from.clone(), message))));
        }
    }

    fn fence(&mut self, name: &NodeName, id: FenceId, node: &NodeName) {
        self.power_off(node);
        let ended = Input::FenceEnded(id, Ok("rehearsed".into()));
        self.queue.push_back((name.clone(), OnItsWay::Input(ended)));
    }

    fn call(&mut self, name: &NodeName, call: &Call) -> (CallId, Outcome) {
        let tag = self.hierarchies[call.hierarchy.at()].tag(call.resource).clone();
        let here = (name.clone(), tag.clone());
        let done = |summary: &str| Outcome::Done { summary: summary.to_string() };
        let outcome = match call.operation {
            Operation::Restore => {
                self.running.insert(here);
                // What failed where it was is taken to be well elsewhere.
                self.failing.remove(&tag);
                done("restored")
            }
            Operation::Remove => {
                self.running.remove(&here);
                done("removed")
            }
            Operation::QuickCheck | Operation::DeepCheck => Outcome::Report(self.look(&here)),
            Operation::Assess => Outcome::Findings(alloc::vec::Vec::new()),
            Operation::Recover(_) => {
                Outcome::Recovery { verdict: Verdict::GiveUp, summary: "local recovery is taken not to help".into() }
            }
        };
        (call.id, outcome)
    }

    fn look(&self, here: &(NodeName, Tag)) -> CheckReport {
        let (health, summary) = match (self.running.contains(here), self.failing.contains(&here.1)) {
            (true, false) => (Health::Healthy, "serves"),
            (true, true) => (Health::Failed, "fails, as was asked for"),
            (false, _) => (Health::Stopped, "does not run"),
        };
        CheckReport {
            health,
            code: "rehearsed".into(),
            summary: summary.into(),
            unmonitored: false,
            concurrent: false,
            timed_out: false,
        }
    }

    // An arbiter that always answers, at once.

    fn arbiter(&mut self, name: &NodeName, id: ArbiterId, request: ArbiterRequest) {
        let now = self.now;
        let over: Vec<NodeName> =
            self.leases.iter().filter(|(_, until)| **until <= now).map(|(node, _)| node.clone()).collect();
        for node in over {
            self.leases.remove(&node);
            for entry in self.records.values_mut() {
                entry.permit.take_if(|permit| permit.node == node);
            }
        }
        let answer = match request {
            ArbiterRequest::Renew => {
                self.leases.insert(name.clone(), now + self.lease);
                ArbiterAnswer::Renewed { lease: self.lease, view: self.view(name) }
            }
            ArbiterRequest::Take { hierarchy, expected, record, force } => {
                let epoch = record.claim.as_ref().map_or_else(Default::default, |claim| claim.id.epoch);
                let entry = self.records.entry(hierarchy).or_default();
                let free = force || entry.permit.as_ref().is_none_or(|permit| permit.node == *name);
                let done = entry.version == expected && free;
                if done {
                    entry.record = Some(record);
                    entry.version += 1;
                    entry.permit = Some(Permit { node: name.clone(), epoch, ours: false });
                }
                ArbiterAnswer::Done { done, view: self.view(name) }
            }
            ArbiterRequest::Give { hierarchy, record } => {
                let entry = self.records.entry(hierarchy).or_default();
                let done = entry.permit.as_ref().is_some_and(|permit| permit.node == *name);
                if done {
                    entry.record = Some(record);
                    entry.version += 1;
                    entry.permit = None;
                }
                ArbiterAnswer::Done { done, view: self.view(name) }
            }
            ArbiterRequest::Mark { .. } => ArbiterAnswer::Done { done: false, view: self.view(name) },
        };
        self.queue.push_back((name.clone(), OnItsWay::Input(Input::Arbiter(id, answer))));
    }

    fn view(&self, name: &NodeName) -> ArbiterView {
        let mut hierarchies = self.records.clone();
        for permit in hierarchies.values_mut().filter_map(|entry| entry.permit.as_mut()) {
            permit.ours = permit.node == *name;
        }
        ArbiterView { hierarchies }
    }

    pub(super) fn serving(&self) -> BTreeMap<HierarchyName, Vec<NodeName>> {
        self.hierarchies
            .iter()
            .map(|hierarchy| {
                let whole = |node: &NodeName| {
                    hierarchy.resources().all(|r| self.running.contains(&(node.clone(), hierarchy.tag(r).clone())))
                };
                let nodes = hierarchy.spec.nodes.iter().filter(|node| whole(node)).cloned().collect();
                (hierarchy.name.clone(), nodes)
            })
            .collect()
    }
}
