//! What peers are told, and when; and who is heard.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::io::{Output, RecordNumber};
use super::peers::Change;
use super::timers::{HierarchyIndex, Timer};
use super::{GOSSIP, Node, REFRESH, WITHOUT_SESSION_LONG};
use crate::claim::LINEAGE_MAX;
use crate::message::{Heartbeat, HierarchySummary, OwnershipSummary, PeerMessage, PeerRequest, PeerState};
use crate::names::NodeName;
use crate::planted::{self, Bug};
use crate::state::{FAILOVERS_KEPT, Intent, Record, StandingKind};
use crate::status::{EventSeverity, PathState, Reach, WAITING_FOR_OPERATOR, What};

/// Every so many refreshes say everything; the others leave out the resources.
const FULL_REFRESH: u64 = 6;

/// Alarms that a peer is told of, at the most: for people who look there.
const ALARMS_TOLD_MAX: usize = 50;

/// What has changed that peers have not been told.
#[derive(Debug, Default)]
pub(super) struct Tell {
    /// Who owns what, who is ready: at once.
    ownership: bool,
    /// States of resources: soon, many at a time.
    resources: bool,
    /// The time to tell of resources has come.
    resources_now: bool,
    /// These peers have to be told everything.
    fully: BTreeSet<usize>,
}

impl Tell {
    pub(super) fn ownership(&mut self) {
        self.ownership = true;
    }

    pub(super) fn resources(&mut self) {
        self.resources = true;
    }

    pub(super) fn now(&mut self) {
        self.resources_now = true;
    }
}

impl Node {
    /// Sends what has to be sent. The last thing done with every input.
    pub(super) fn gossip(&mut self) {
        let tell = core::mem::take(&mut self.tell);
        if tell.resources && !tell.resources_now {
            self.tell.resources = true;
            if self.timers.get(Timer::Gossip).is_none() {
                self.timers.set(Timer::Gossip, self.now.monotonic + GOSSIP);
            }
        }
        let with_resources = tell.resources_now && tell.resources;
        if with_resources || tell.ownership {
            for peer in (0..self.peers.len()).filter(|peer| !tell.fully.contains(peer)) {
                self.send_state(peer, with_resources);
            }
        }
        for peer in tell.fully {
            self.send_state(peer, true);
        }
    }

    pub(super) fn refresh(&mut self) {
        self.timers.set(Timer::Refresh, self.now.monotonic + REFRESH);
        self.refreshes += 1;
        // What only time changes is looked at again.
        self.touch_all();
        for peer in 0..self.peers.len() {
            if self.peers[peer].reach().is_silence() {
                (0..self.paths.len()).for_each(|path| self.knock(peer, path));
            }
        }
        self.tell.ownership = true;
        if self.refreshes.is_multiple_of(FULL_REFRESH) {
            self.tell.fully.extend(0..self.peers.len());
        }
    }

    fn send_state(&mut self, peer: usize, with_resources: bool) {
        if !self.peers[peer].session {
            return;
        }
        self.messages += 1;
        let hierarchies = self.members().into_iter().map(|h| self.summary(h, with_resources)).collect();
        let alarms = self.alarms().into_iter().take(ALARMS_TOLD_MAX).collect();
        let config_parts = (self.same_config(peer) == Some(false)).then(|| self.config_parts.clone());
        let peer = &self.peers[peer];
        let state = PeerState {
            cluster: self.cluster.clone(),
            from: self.me.clone(),
            incarnation: self.state.incarnation,
            version: self.messages,
            heard: peer.incarnation,
            config_hash: self.config_hash.clone(),
            config_parts,
            software: self.software.clone(),
            kits: self.kits.clone(),
            examines: true,
            hierarchies,
            alarms,
        };
        let after = if planted::is(Bug::TellsBeforeRecords) { RecordNumber(0) } else { self.recorded };
        self.outputs.push_back(Output::Send(after, peer.name.clone(), PeerMessage::State(state)));
    }

    fn summary(&self, h: HierarchyIndex, with_resources: bool) -> HierarchySummary {
        let durable = self.durable(h);
        let local = self.local(h);
        let ownership = (!durable.unknown).then(|| OwnershipSummary {
            claim: durable.claim.clone(),
            standing: durable.standing.clone(),
            failovers: durable.failovers.clone(),
        });
        let resources = with_resources.then(|| {
            let row = |r| {
                (local.hierarchy.tag(r).clone(), local.resources[crate::hierarchy::ResourceIndex::at(r)].view.clone())
            };
            local.hierarchy.resources().map(row).collect()
        });
        HierarchySummary {
            name: local.hierarchy.name.clone(),
            ownership,
            maintenance: durable.maintenance.clone(),
            declined: durable.declined.clone(),
            occupied: self.is_occupied(h),
            offers: self.offers(h),
            looked: self.has_looked(h),
            not_ready: self.not_ready(h),
            activity: self.activity(h),
            resources,
        }
    }

    /// Whether something of it is or may be here: by the journal, or because a check found it.
    pub(super) fn is_occupied(&self, h: HierarchyIndex) -> bool {
        self.durable(h).is_occupied()
            || self.local(h).resources.iter().any(|resource| resource.violation.is_some() || resource.leftover)
    }

    /// Whether who is offered it may take it: see [`HierarchySummary::offers`].
    fn offers(&self, h: HierarchyIndex) -> bool {
        let durable = self.durable(h);
        let ours = durable.claim.as_ref().is_some_and(|claim| claim.id.claimant == self.me);
        let offered = matches!(durable.standing.kind, StandingKind::Offered(_));
        ours && offered && !durable.unknown && self.local(h).proven && !self.is_occupied(h)
    }

    /// Whether this daemon has looked at everything of it that should not be here. What a check could not tell counts.
    fn has_looked(&self, h: HierarchyIndex) -> bool {
        let local = self.local(h);
        local
            .hierarchy
            .resources()
            .zip(&local.resources)
            .all(|(r, resource)| resource.looked || self.durable_resource(h, r).presence != crate::plan::Presence::Out)
    }

    /// Why this node could not restore it now.
    pub(super) fn not_ready(&self, h: HierarchyIndex) -> Vec<String> {
        let local = self.local(h);
        let mut reasons = self.unusable_here(h);
        if self.state.drained {
            reasons.push("the node is drained".into());
        }
        reasons.extend(self.hindered.iter().cloned());
        for (r, resource) in local.hierarchy.resources().zip(&local.resources) {
            let blocking = self.blocking(h, r);
            reasons.extend(blocking.map(|finding| alloc::format!("{}: {}", local.hierarchy.tag(r), finding.summary)));
            if let Some(found) = &resource.violation {
                reasons.push(alloc::format!(
                    "{} is running here although it should not be: {found}",
                    local.hierarchy.tag(r)
                ));
            }
        }
        if !self.is_owner(h) && self.durable(h).is_occupied() {
            reasons.push("something of it is left here".into());
        }
        reasons
    }

    /// What is wrong with kits, params and grants here: it could not even be tried.
    pub(super) fn unusable_here(&self, h: HierarchyIndex) -> Vec<String> {
        let local = self.local(h);
        let problem = |(r, resource): (crate::hierarchy::ResourceIndex, &super::local::LocalResource)| {
            resource.unusable.as_ref().map(|problem| alloc::format!("{}: {problem}", local.hierarchy.tag(r)))
        };
        local.hierarchy.resources().zip(&local.resources).filter_map(problem).collect()
    }

    pub(super) fn activity(&self, h: HierarchyIndex) -> Option<String> {
        let local = self.local(h);
        if let Some(running) = &local.running {
            let (done, of) = running.sequence.progress();
            let what = match running.goal {
                crate::plan::Goal::InService => "bringing it in service",
                crate::plan::Goal::OutOfService => "taking it out of service",
                crate::plan::Goal::Without(_) => "taking a part out of service",
                crate::plan::Goal::DependentsRestarted(_) => "restarting what depends on a repaired resource",
            };
            return Some(alloc::format!("{what} ({}): {done} of {of} steps done", running.cause));
        }
        match &self.durable(h).intent {
            Intent::Halt(_) => Some(WAITING_FOR_OPERATOR.into()),
            Intent::Serve(_) if self.is_owner(h) => self.seen_to(h),
            Intent::Rest | Intent::Serve(_) | Intent::Leave(..) => None,
        }
    }

    /// What is being seen to, because a check was bad: not known yet what comes of it.
    fn seen_to(&self, h: HierarchyIndex) -> Option<String> {
        let local = self.local(h);
        let dealt_with = |(_, resource): &(_, &super::local::LocalResource)| resource.ladder.is_dealt_with();
        let mut tags = local.hierarchy.resources().zip(&local.resources).filter(dealt_with).map(|(r, _)| r);
        let first = local.hierarchy.tag(tags.next()?);
        Some(match tags.count() {
            0 => alloc::format!("seeing to {first}, of which a check was bad"),
            more => alloc::format!("seeing to {first} and {more} more, of which checks were bad"),
        })
    }

    // Who is heard.

    pub(super) fn beat(&mut self, path: usize) {
        self.timers.set(Timer::Heartbeat { path }, self.now.monotonic + self.paths[path].1.heartbeat_interval);
        if !self.stopped {
            (0..self.peers.len()).for_each(|peer| self.beat_to(peer, path, false));
        }
    }

    fn beat_to(&mut self, peer: usize, path: usize, asks: bool) {
        self.outputs.push_back(Output::Heartbeat(Heartbeat {
            cluster: self.cluster.clone(),
            from: self.me.clone(),
            to: self.peers[peer].name.clone(),
            path: self.paths[path].0.clone(),
            incarnation: self.state.incarnation,
            asks,
        }));
    }

    /// This process was late (O6): it may not have listened, and blames nobody until it has.
    pub(super) fn notice_own_gap(&mut self) {
        let Some(interval) = self.paths.iter().map(|(_, path)| path.heartbeat_interval).min() else { return };
        let Some((due, _)) = self.timers.first() else { return };
        let late = self.now.monotonic.since(due);
        if late < interval || self.peers.is_empty() || planted::is(Bug::OwnGapIgnored) {
            return;
        }
        for peer in &mut self.peers {
            peer.listen_again(self.now);
        }
        let dead_time = self.paths.iter().map(|(_, path)| path.dead_time()).max().unwrap_or_default();
        self.listens_until = self.now.monotonic + dead_time;
        self.event(EventSeverity::Warning, None, None, What::OwnGap { late_ms: late.0 });
    }

    pub(super) fn heartbeat(&mut self, heartbeat: &Heartbeat) {
        if heartbeat.cluster != self.cluster || heartbeat.to != self.me {
            return;
        }
        let Some(peer) = self.peer_index(&heartbeat.from) else { return };
        let Some(path) = self.paths.iter().position(|(name, _)| *name == heartbeat.path) else { return };
        let known = &self.peers[peer];
        // Late, from a daemon that is no more, or from one that has said that it goes.
        if heartbeat.incarnation < known.incarnation
            || (heartbeat.incarnation == known.incarnation && known.hold_until.is_some())
        {
            return;
        }
        if heartbeat.incarnation > known.incarnation {
            self.new_daemon(peer, heartbeat.incarnation);
        }
        let change = self.peers[peer].heard(path, &self.paths[path].1, self.now);
        self.watch_path(peer, path);
        self.peer_changed(peer, Some(path), change);
        if heartbeat.asks && !self.stopped {
            self.beat_to(peer, path, false);
        }
    }

    /// A peer's daemon is a new one. It waits for an answer that knows of it (O3).
    fn new_daemon(&mut self, peer: usize, incarnation: u64) {
        let change = self.peers[peer].new_daemon(incarnation, self.now);
        self.tell.fully.insert(peer);
        self.peer_changed(peer, None, change);
    }

    pub(super) fn watch_path(&mut self, peer: usize, path: usize) {
        if let Some(at) = self.peers[peer].dead_at(path, self.paths[path].1.dead_time()) {
            self.timers.set(Timer::PathDead { peer, path }, at);
        }
        if let Some(at) = self.peers[peer].overdue_at(path, self.paths[path].1.heartbeat_interval) {
            self.timers.set(Timer::Overdue { peer, path }, at);
        }
    }

    /// A heartbeat is missed: it is asked for, until one comes or the path is dead, so that loss does not look like
    /// death (O5); and somebody knocks, so that a daemon that is gone does not look like a machine that is (O7).
    pub(super) fn overdue(&mut self, peer: usize, path: usize) {
        let interval = self.paths[path].1.heartbeat_interval;
        match self.peers[peer].overdue_at(path, interval) {
            Some(at) if at > self.now.monotonic => self.timers.set(Timer::Overdue { peer, path }, at),
            Some(_) => {
                let change = self.peers[peer].is_overdue(path, self.now);
                self.peer_changed(peer, Some(path), change);
                if !self.stopped {
                    self.beat_to(peer, path, true);
                }
                self.knock(peer, path);
                let again = self.now.monotonic + super::peers::asks_again_after(interval);
                self.timers.set(Timer::Overdue { peer, path }, again);
            }
            None => {}
        }
    }

    fn knock(&mut self, peer: usize, path: usize) {
        let (peer, path) = (self.peers[peer].name.clone(), self.paths[path].0.clone());
        self.outputs.push_back(Output::Knock(peer, path));
    }

    pub(super) fn knocked(&mut self, name: &NodeName, path: &crate::names::PathName, answered: bool) {
        let Some(peer) = self.peer_index(name) else { return };
        let Some(path) = self.paths.iter().position(|(known, _)| known == path) else { return };
        let change = self.peers[peer].knocked(path, answered, self.now);
        self.peer_changed(peer, Some(path), change);
    }

    pub(super) fn path_due(&mut self, peer: usize, path: usize) {
        match self.peers[peer].dead_at(path, self.paths[path].1.dead_time()) {
            Some(at) if at > self.now.monotonic => self.timers.set(Timer::PathDead { peer, path }, at),
            Some(_) => {
                let change = self.peers[peer].path_died(path, self.now);
                self.peer_changed(peer, Some(path), change);
            }
            None => {}
        }
    }

    pub(super) fn hold_over(&mut self, peer: usize) {
        let change = self.peers[peer].hold_over(self.now);
        self.peer_changed(peer, None, change);
    }

    pub(super) fn peer_index(&self, name: &NodeName) -> Option<usize> {
        self.peers.iter().position(|peer| peer.name == *name)
    }

    fn peer_changed(&mut self, peer: usize, path: Option<usize>, change: Change) {
        let name = self.peers[peer].name.clone();
        if let (Some(state), Some(path)) = (change.path, path) {
            let severity = match state {
                PathState::NotHeard | PathState::Green => EventSeverity::Info,
                PathState::Yellow | PathState::Red => EventSeverity::Warning,
            };
            let what = What::Path { node: name.clone(), path: self.paths[path].0.clone(), state };
            self.event(severity, None, None, what);
        }
        if let Some(begins) = change.jeopardy {
            let severity = if begins { EventSeverity::Warning } else { EventSeverity::Info };
            self.event(severity, None, None, What::Jeopardy { node: name.clone(), begins });
            self.touch_all();
        }
        let Some(reach) = change.reach else { return };
        let severity = match reach {
            Reach::Itself | Reach::NotMet | Reach::Alive | Reach::Left | Reach::Released => EventSeverity::Info,
            Reach::Silent | Reach::Hangs => EventSeverity::Warning,
        };
        self.event(severity, None, None, What::Node { node: name, reach });
        self.touch_all();
    }

    pub(super) fn touch_all(&mut self) {
        for h in self.indices() {
            self.touch(h);
        }
    }

    pub(super) fn session(&mut self, name: &NodeName, up: bool) {
        let Some(peer) = self.peer_index(name) else { return };
        self.peers[peer].session = up;
        self.peers[peer].session_since = self.now.monotonic;
        // What it answered counts as long as it is heard; else the next session begins with everything.
        self.peers[peer].answered &= up || self.peers[peer].is_alive();
        if up {
            self.tell.fully.insert(peer);
            // A peer that hears of this node hears it beat, too.
            (0..self.paths.len()).for_each(|path| self.beat_to(peer, path, false));
        }
        self.touch_all();
    }

    pub(super) fn message(&mut self, from: &NodeName, message: PeerMessage) {
        let Some(peer) = self.peer_index(from) else { return };
        self.peers[peer].told(self.now.monotonic);
        match message {
            PeerMessage::State(state) => self.peer_state(peer, state),
            PeerMessage::Ask { id, asker, request } => {
                let result = if let PeerRequest::Promise { hierarchy, claim, lasts } = request {
                    self.promise(peer, &hierarchy, &claim, lasts)
                } else {
                    self.peer_request(peer, request)
                };
                let answer = PeerMessage::Answer { id, asker, result };
                self.outputs.push_back(Output::Send(self.recorded, from.clone(), answer));
            }
            PeerMessage::Answer { id, asker, result } => self.answered(peer, id, asker, result),
            PeerMessage::MarkOutdated { volume, question, claim, generation } => {
                self.peer_marks(peer, volume, question, claim, generation);
            }
            PeerMessage::Marked { volume, question, outcome } => self.peer_marked(peer, volume, question, outcome),
            PeerMessage::Examine { id, asker, hierarchy, within } => {
                self.examine_for_peer(peer, id, asker, hierarchy.as_ref(), within);
            }
            PeerMessage::Examined { id, asker, report } => self.peer_examined(peer, id, asker, report),
            // The last words of a daemon whose successor was heard already.
            PeerMessage::Leave { incarnation, .. } if incarnation < self.peers[peer].incarnation => {}
            PeerMessage::Leave { incarnation, hold, released } => {
                if incarnation > self.peers[peer].incarnation {
                    self.new_daemon(peer, incarnation);
                }
                let until = self.now.monotonic + hold;
                let change = self.peers[peer].left(until, released, self.now);
                if !released {
                    self.timers.set(Timer::Hold { peer }, until);
                }
                self.peer_changed(peer, None, change);
            }
        }
    }

    fn peer_state(&mut self, peer: usize, mut state: PeerState) {
        let known = &self.peers[peer];
        let theirs = state.cluster == self.cluster && state.from == known.name;
        if !theirs || state.incarnation < known.incarnation || says_too_much(&state) {
            return;
        }
        if state.incarnation > known.incarnation {
            self.new_daemon(peer, state.incarnation);
        }
        let known = &self.peers[peer];
        if let Some(before) = known.state.as_ref().filter(|before| before.incarnation == state.incarnation) {
            if state.version <= before.version {
                return;
            }
            for summary in state.hierarchies.iter_mut().filter(|summary| summary.resources.is_none()) {
                let earlier = before.hierarchies.iter().find(|earlier| earlier.name == summary.name);
                summary.resources = earlier.and_then(|earlier| earlier.resources.clone());
            }
        }
        if state.heard > self.state.incarnation {
            self.catch_up(peer, state.heard);
        }
        let knows_us = state.heard == self.state.incarnation;
        if !knows_us {
            // It has not heard of this daemon: telling it is how it comes to answer.
            self.tell.fully.insert(peer);
        }
        let summaries = state.hierarchies.clone();
        let known = &mut self.peers[peer];
        known.answered = knows_us && known.hold_until.is_none();
        known.state = Some(state);
        for summary in summaries {
            if let Some(h) = self.by_name.get(&summary.name).copied() {
                self.merge(peer, h, &summary);
                self.merge_maintenance(h, &summary.maintenance);
            }
        }
        self.touch_all();
    }

    /// A peer has heard of a daemon that this journal has lost, and that had a clock ahead of this one: it would take what
    /// this one says for stale for as long. When it is so again, another daemon calls itself as this node does.
    fn catch_up(&mut self, peer: usize, heard: u64) {
        if !core::mem::replace(&mut self.caught_up, true) {
            let boot = self.state.boot.clone();
            self.record(Record::Started { incarnation: heard.saturating_add(1), boot });
        } else if !core::mem::replace(&mut self.doubled, true) {
            let teller = self.peers[peer].name.clone();
            self.event(EventSeverity::Alarm, None, None, What::Doubled { teller });
        }
    }

    /// Whether the peer's config is the same; none: it has not told.
    pub(super) fn same_config(&self, peer: usize) -> Option<bool> {
        self.peers[peer].state.as_ref().map(|state| state.config_hash == self.config_hash)
    }

    /// Whether it is not known yet if the hierarchy could be handed to this peer: one of the two daemons has just
    /// started, or messages have just ceased to go through.
    pub(super) fn is_undecided(&self, peer: usize) -> bool {
        let known = &self.peers[peer];
        known.reach() == Reach::NotMet
            || (known.is_alive()
                && !known.is_talking()
                && known.since_change(self.now.monotonic) < WITHOUT_SESSION_LONG)
    }

    /// Why the hierarchy cannot be handed to this peer now.
    pub(super) fn peer_not_ready(&self, peer: usize, h: HierarchyIndex) -> Option<String> {
        let known = &self.peers[peer];
        if !known.is_alive() {
            return Some(known.reach().to_string());
        }
        if !known.is_talking() {
            return Some("it beats, but has not answered yet".into());
        }
        if self.same_config(peer) != Some(true) {
            return Some("its config is another".into());
        }
        let Some(summary) = known.summary(self.name(h)) else { return Some("it does not know the hierarchy".into()) };
        if !summary.not_ready.is_empty() {
            return Some(summary.not_ready.join("; "));
        }
        summary.occupied.then(|| "something of it is left there".into())
    }
}

/// Whether it is longer than anything a node says.
fn says_too_much(state: &PeerState) -> bool {
    state.hierarchies.iter().filter_map(|summary| summary.ownership.as_ref()).any(|ownership| {
        let lineage = ownership.claim.as_ref().map_or(0, |claim| claim.lineage.len());
        lineage > LINEAGE_MAX || ownership.failovers.len() > FAILOVERS_KEPT
    })
}
