//! Taking over from a silent owner without asking anybody (O10, O11, O15).
//!
//! Decides from what was heard, and when: whether the silence of an owner is its death as far as the mode of the
//! hierarchy goes; and whether it has to be fenced first. In arbiter mode it is the arbiter's to say (`arbiter`). Whoever
//! is not taken over from by itself is a question to the operator (`alarms`), with the reason found here.

use alloc::collections::BTreeSet;
use alloc::string::String;

use super::Node;
use super::io::{FenceId, Output};
use super::timers::{HierarchyIndex, Timer};
use crate::planted::{self, Bug};
use crate::spec::FailoverMode;
use crate::state::{Cause, StandingKind};
use crate::status::{EventSeverity, Reach, What};
use crate::time::{Millis, Monotonic};

/// A fence command that failed is tried again after so long: what it talks to may be away for a while.
const FENCE_AGAIN: Millis = Millis::from_secs(30);

/// How far the fencing of a silent peer has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Fencing {
    /// Nobody wants it.
    #[default]
    None,
    /// Its delay runs (O15: delays differ by node, so that two do not shoot each other).
    Waits(Monotonic),
    /// The command runs.
    Runs(FenceId),
    /// It is off for certain, until it is heard again.
    Proven,
    /// The command failed, which proves nothing. It is tried again at this time.
    Failed(Monotonic, String),
}

impl Node {
    /// The owner may be silent, and this node next: takes over if the mode of the hierarchy lets it.
    pub(super) fn consider_takeover(&mut self, h: HierarchyIndex) {
        let Some(owner) = self.silent_owner(h) else { return };
        if self.takes_over_by_paths(h, owner) && self.stands_in_the_way(h, owner).is_none() {
            match self.fenced(owner) {
                Ok(()) => {
                    let silence = self.peers[owner].silence(&self.paths, self.now);
                    self.local_mut(h).silence = silence;
                    self.claim(h, Cause::Failover, BTreeSet::new());
                }
                Err(_) => self.fence(owner),
            }
        }
    }

    /// The peer that owns it, if that peer is silent.
    fn silent_owner(&self, h: HierarchyIndex) -> Option<usize> {
        let owner = self.durable(h).owner().filter(|owner| **owner != self.me)?;
        self.peer_index(owner).filter(|peer| self.peers[*peer].reach().is_silence())
    }

    /// Whether silence on the comm paths may be enough (O11): in `automatic`; in `confirm` if nobody has confirmed within
    /// the time that the config gives (O10).
    fn takes_over_by_paths(&self, h: HierarchyIndex, owner: usize) -> bool {
        let spec = &self.local(h).hierarchy.spec;
        match spec.failover {
            FailoverMode::Automatic => true,
            FailoverMode::Arbiter => false,
            FailoverMode::Confirm => spec
                .confirm_timeout
                .is_some_and(|timeout| self.now.monotonic.since(self.peers[owner].reach_since) >= timeout),
        }
    }

    /// Why a silent owner is not taken over from by itself now, although the mode would let it; none: nothing does. All
    /// but the fence, which is the last thing to be tried.
    fn stands_in_the_way(&self, h: HierarchyIndex, owner: usize) -> Option<String> {
        let peer = &self.peers[owner];
        let name = &peer.name;
        if peer.reach() == Reach::Hangs && !planted::is(Bug::HangsIsDead) {
            return Some(alloc::format!(
                "the machine of {name} answers, so it has its power, and may have it in service (O7)"
            ));
        }
        // A fence that succeeds is proof, whatever the silence means.
        if peer.hung && self.fence_spec(owner).is_none() && !planted::is(Bug::HangsIsDead) {
            return Some(alloc::format!(
                "the machine of {name} still answered when its daemon was silent already, so what it has in service may run on, and the silence of the machine may be that of a link (O7)"
            ));
        }
        if self.answers(peer) {
            return Some(alloc::format!("{name} answers, although its heartbeats do not come"));
        }
        if !peer.is_met() {
            return Some(alloc::format!("{name} was not heard since this daemon started (O15)"));
        }
        if peer.left {
            return Some(alloc::format!("the daemon of {name} was stopped, and its resources stayed in service (O9)"));
        }
        if self.now.monotonic < self.listens_until {
            return Some("this process was late, and has not listened for long enough since (O6)".into());
        }
        // A fence that succeeds is proof, whatever the silence means.
        if peer.waited() && self.fence_spec(owner).is_none() {
            return Some(alloc::format!(
                "this process was late, and what it last heard of {name} may have waited for it: when its comm paths fell silent is not known (O6)"
            ));
        }
        if peer.jeopardy && !planted::is(Bug::JeopardyIgnored) {
            return Some(alloc::format!("one comm path to {name} was dead while another still beat: jeopardy (O8)"));
        }
        if !peer.fell_silent_at_once(&self.paths) && !planted::is(Bug::JeopardyIgnored) {
            return Some(alloc::format!("the comm paths to {name} did not fall silent at the same time (O11)"));
        }
        self.not_the_next_owner(h, owner).or_else(|| self.takeover_refused(h))
    }

    /// Why what the silent owner has told does not make this node the next: it may know more than it has said.
    fn not_the_next_owner(&self, h: HierarchyIndex, owner: usize) -> Option<String> {
        let peer = &self.peers[owner];
        let name = &peer.name;
        let told = peer.state.as_ref().filter(|state| state.incarnation == peer.incarnation);
        let Some(ownership) = told.and_then(|_| peer.summary(self.name(h))?.ownership.as_ref()) else {
            return Some(alloc::format!("{name} has not told what it owns since its daemon started"));
        };
        let known = self.durable(h).claim.as_ref().map(|claim| &claim.id);
        if ownership.claim.as_ref().map(|claim| &claim.id) != known || ownership.standing.kind != StandingKind::Held {
            return Some(alloc::format!("what {name} has told of its claim is not what this node knows"));
        }
        None
    }

    /// Why this node does not take it over by itself now, whoever the owner is and however sure it is that it is gone.
    pub(super) fn takeover_refused(&self, h: HierarchyIndex) -> Option<String> {
        if self.durable(h).maintenance.on {
            return Some("the hierarchy is in maintenance".into());
        }
        if let Some(why) = self.not_ready(h).first() {
            return Some(alloc::format!("this node is not ready: {why}"));
        }
        let owner = self.durable(h).owner().and_then(|owner| self.peer_index(owner));
        let differs = owner.and_then(|owner| {
            let other_config = self.same_config(owner) == Some(false);
            let name = &self.peers[owner].name;
            other_config
                .then(|| alloc::format!("the config of {name} is another"))
                .or_else(|| self.kits_differ(owner, h))
        });
        differs.filter(|_| !planted::is(Bug::DifferencesIgnored)).or_else(|| self.failovers_exhausted(h))
    }

    /// In words, for the alarm that asks the operator.
    pub(super) fn why_not_taken_over(&self, h: HierarchyIndex, owner: usize) -> Option<String> {
        let spec = &self.local(h).hierarchy.spec;
        match spec.failover {
            FailoverMode::Arbiter => self.why_arbiter_waits(h),
            FailoverMode::Automatic | FailoverMode::Confirm if self.takes_over_by_paths(h, owner) => {
                self.stands_in_the_way(h, owner).or_else(|| self.fenced(owner).err())
            }
            FailoverMode::Automatic | FailoverMode::Confirm => None,
        }
    }

    // Fencing.

    fn fence_spec(&self, peer: usize) -> Option<&crate::spec::FenceSpec> {
        self.fences.get(&self.peers[peer].name)
    }

    /// Whether the peer is off for certain, or need not be for this takeover; else what is being done about it.
    fn fenced(&self, peer: usize) -> Result<(), String> {
        let name = &self.peers[peer].name;
        if self.fence_spec(peer).is_none() {
            // The config check has seen to it that the operator accepts what may come of it (O11).
            return Ok(());
        }
        match &self.peers[peer].fencing {
            Fencing::Proven => Ok(()),
            Fencing::None => Err(alloc::format!("{name} has to be fenced first")),
            Fencing::Waits(_) => Err(alloc::format!("{name} is about to be fenced")),
            Fencing::Runs(_) => Err(alloc::format!("{name} is being fenced")),
            Fencing::Failed(_, why) => {
                Err(alloc::format!("fencing {name} failed, which says nothing of it (O15): {why}; it is tried again"))
            }
        }
    }

    /// Goes on with fencing a silent peer.
    fn fence(&mut self, peer: usize) {
        let Some(delay) = self.fence_spec(peer).map(|fence| fence.delay) else { return };
        match &self.peers[peer].fencing {
            Fencing::None => {
                let at = self.now.monotonic + delay;
                self.peers[peer].fencing = Fencing::Waits(at);
                self.timers.set(Timer::Fence { peer }, at);
            }
            Fencing::Waits(at) | Fencing::Failed(at, _) if *at <= self.now.monotonic => {
                self.next_fence += 1;
                let id = FenceId(self.next_fence);
                let node = self.peers[peer].name.clone();
                self.peers[peer].fencing = Fencing::Runs(id);
                self.event(EventSeverity::Warning, None, None, What::Fencing { node: node.clone() });
                self.outputs.push_back(Output::Fence(self.recorded, id, node));
            }
            Fencing::Waits(_) | Fencing::Failed(..) | Fencing::Runs(_) | Fencing::Proven => {}
        }
    }

    pub(super) fn fence_ended(&mut self, id: FenceId, result: Result<String, String>) {
        let Some(peer) = (0..self.peers.len()).find(|peer| self.peers[*peer].fencing == Fencing::Runs(id)) else {
            return;
        };
        let node = self.peers[peer].name.clone();
        let (ok, text) = match result {
            Ok(text) => (true, text),
            Err(why) => (false, why),
        };
        self.peers[peer].fencing = if ok || planted::is(Bug::FenceAlwaysProves) {
            Fencing::Proven
        } else {
            let again = self.now.monotonic + FENCE_AGAIN;
            self.timers.set(Timer::Fence { peer }, again);
            Fencing::Failed(again, text.clone())
        };
        let severity = if ok { EventSeverity::Info } else { EventSeverity::Warning };
        self.event(severity, None, None, What::Fenced { node, ok, text });
        self.touch_all();
    }
}
