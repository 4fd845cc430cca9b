//! What nodes have outside of themselves: the arbiter, the guardian, and the fences of other machines.

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterId, ArbiterRequest};
use mainstay_core::names::NodeName;
use mainstay_core::node::{FenceId, Input};
use mainstay_core::spec::SelfFence;
use mainstay_core::time::{Millis, Monotonic};

use super::{Happening, World};

/// A request that nobody answers, without an arbiter in the config to say otherwise.
const REQUEST: Millis = Millis::from_secs(1);
/// A fence command may take so long, without a fence in the config to say otherwise.
const FENCE: Millis = Millis::from_secs(20);

/// How the fence of a machine behaves. It never lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FenceManner {
    /// The machine is off after a while, and this is told.
    #[default]
    Works,
    /// Nothing is done, and this is told.
    Fails,
    /// Nothing is done, and nothing is told.
    Hangs,
    /// The machine is off after a while, and nothing is told.
    SaysNothing,
    /// The machine is off after a while, and failure is told.
    SaysItFailed,
}

impl FenceManner {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Works, Self::Fails, Self::Hangs, Self::SaysNothing, Self::SaysItFailed];

    /// As a case file says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "fails",
            Self::Hangs => "hangs",
            Self::SaysNothing => "says-nothing",
            Self::SaysItFailed => "says-it-failed",
        }
    }
}

/// How the way to the arbiter is.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArbiterWay {
    /// So many faults keep this node from it.
    pub cuts: u32,
    /// One way takes so much longer, at the most.
    pub slow: Millis,
    /// So many of a thousand requests, answers and notices are lost.
    pub loss: u64,
}

impl World {
    // The arbiter.

    fn arbiter_takes(&mut self, name: &NodeName) -> Option<Millis> {
        let way = self.arbiter_ways.get(name).copied().unwrap_or_default();
        if way.cuts > 0 || self.arbiter_away > 0 || (way.loss > 0 && self.random.chance(way.loss)) {
            return None;
        }
        Some(if way.slow.0 == 0 { Millis(2) } else { self.random.between(Millis(2), way.slow) })
    }

    pub(super) fn ask_arbiter(&mut self, name: &NodeName, id: ArbiterId, request: ArbiterRequest) {
        let timeout = self.spec.arbiter.as_ref().map_or(REQUEST, |arbiter| arbiter.request_timeout);
        let life = self.machines[name].life;
        self.machine(name).asked.insert(id);
        self.at(timeout, Happening::ArbiterUnanswered { node: name.clone(), life, id });
        match self.arbiter_takes(name) {
            Some(after) => self.at(after, Happening::ArbiterAsked { node: name.clone(), life, id, request }),
            None => self.coverage.count("arbiter: request lost"),
        }
    }

    pub(super) fn arbiter_asked(&mut self, node: NodeName, life: u64, id: ArbiterId, request: &ArbiterRequest) {
        if self.arbiter_away > 0 {
            return;
        }
        let before = self.etcd.revision();
        let answer = self.etcd.handle(self.now, &node, request);
        let kind = match (request, &answer) {
            (ArbiterRequest::Renew, _) => "arbiter: renewed",
            (ArbiterRequest::Take { .. }, ArbiterAnswer::Done { done: true, .. }) => "arbiter: taken",
            (ArbiterRequest::Take { .. }, _) => "arbiter: take refused",
            (ArbiterRequest::Give { .. }, ArbiterAnswer::Done { done: true, .. }) => "arbiter: given",
            (ArbiterRequest::Give { .. }, _) => "arbiter: give refused",
            (ArbiterRequest::Mark { .. }, ArbiterAnswer::Done { done: true, .. }) => "arbiter: marked",
            (ArbiterRequest::Mark { .. }, _) => "arbiter: mark refused",
        };
        self.coverage.count(kind);
        if !self.machines[&node].asked.contains(&id) {
            self.coverage.count("arbiter: done after it was given up");
        }
        match self.arbiter_takes(&node) {
            Some(after) => self.at(after, Happening::ArbiterAnswers { node, life, id, answer }),
            None => self.coverage.count("arbiter: answer lost"),
        }
        self.arbiter_may_have_changed(before);
        self.watch_leases();
    }

    pub(super) fn arbiter_answers(&mut self, node: &NodeName, life: u64, id: ArbiterId, answer: ArbiterAnswer) {
        if self.machines[node].life == life && self.machine(node).asked.remove(&id) {
            self.input(node, Input::Arbiter(id, answer));
        }
    }

    pub(super) fn arbiter_unanswered(&mut self, node: &NodeName, life: u64, id: ArbiterId) {
        self.arbiter_answers(node, life, id, ArbiterAnswer::Failed("no answer in time".into()));
    }

    /// Tells everybody who watches, unless the notice is lost.
    pub fn arbiter_may_have_changed(&mut self, before: u64) {
        if self.etcd.revision() == before {
            return;
        }
        let names: Vec<NodeName> = self.machines.keys().cloned().collect();
        for name in names {
            if self.machines[&name].node.is_none() {
                continue;
            }
            match self.arbiter_takes(&name) {
                Some(after) => {
                    let input = Box::new(Input::ArbiterChanged(self.etcd.view(&name)));
                    let life = self.machines[&name].life;
                    self.at(after, Happening::Input { node: name, life, input });
                }
                None => self.coverage.count("arbiter: notice lost"),
            }
        }
    }

    /// Looks again when the next lease runs out.
    pub fn watch_leases(&mut self) {
        if let Some(at) = self.etcd.next_expiry() {
            // One look for each time is enough.
            if self.leases_looked_at != Some(at) {
                self.leases_looked_at = Some(at);
                self.at(at.since(self.now), Happening::LeasesDue);
            }
        }
    }

    pub(super) fn leases_due(&mut self) {
        let before = self.etcd.revision();
        if self.etcd.expire(self.now) {
            self.coverage.count("arbiter: lease ran out");
        }
        self.arbiter_may_have_changed(before);
        self.watch_leases();
    }

    // The guardian.

    fn has_watchdog(&self) -> bool {
        self.spec.self_fence.as_ref().is_some_and(|fence| matches!(fence.by, SelfFence::Watchdog(_)))
    }

    pub(super) fn guard(&mut self, name: &NodeName, deadline: Option<Monotonic>) {
        if self.spec.self_fence.is_none() || !self.machines[name].guardian {
            return;
        }
        let machine = self.machine(name);
        machine.guard = deadline;
        machine.guard_lost = false;
        let (boot, clock) = (machine.boot, machine.clock);
        if let Some(deadline) = deadline {
            let after = clock.when(deadline).since(self.now);
            self.at(after, Happening::GuardDue { node: name.clone(), boot, deadline });
        }
    }

    /// The guardian dies, or is there again.
    pub fn set_guardian(&mut self, name: &NodeName, there: bool) {
        let watchdog = self.has_watchdog();
        let machine = self.machine(name);
        if machine.guardian == there {
            return;
        }
        machine.guardian = there;
        if !watchdog {
            machine.guard = None;
            machine.guard_lost |= !there;
        }
        self.input_when_it_goes_on(name, Input::Guardian { there });
    }

    pub(super) fn guard_due(&mut self, node: NodeName, boot: u64, deadline: Monotonic) {
        let watchdog = self.has_watchdog();
        let machine = self.machine(&node);
        if machine.boot != boot || machine.guard != Some(deadline) {
            return;
        }
        if machine.suspended && !watchdog {
            machine.frozen.push_back(Happening::GuardDue { node, boot, deadline });
            return;
        }
        self.coverage.count(if watchdog { "guardian: watchdog fired" } else { "guardian: fenced" });
        self.note(&node, "(the guardian fences this machine)");
        let takes = self.spec.self_fence.as_ref().map_or(Millis(0), |fence| fence.takes);
        self.at(takes, Happening::Fenced { node, boot: Some(boot) });
    }

    /// A machine is fenced: it has no power from now on. Who fences itself does so in one life of the machine; another's
    /// device cuts the power whatever runs by then.
    pub(super) fn fenced(&mut self, node: &NodeName, boot: Option<u64>) {
        let machine = &self.machines[node];
        if boot.is_some_and(|boot| machine.boot != boot) || machine.off {
            return;
        }
        self.note(node, "(it is off: fenced)");
        self.power_off(node);
        let boot = self.machines[node].boot;
        if let Some(after) = self.machines[node].returns_after {
            self.at(after, Happening::PowerOn { node: node.clone(), boot });
        }
    }

    pub(super) fn power_on(&mut self, node: &NodeName, boot: u64) {
        let machine = &self.machines[node];
        if machine.off && machine.boot == boot {
            self.start(node);
        }
    }

    // Fences of other machines.

    pub(super) fn fence(&mut self, name: &NodeName, id: FenceId, target: NodeName) {
        let timeout =
            self.spec.nodes.get(&target).and_then(|node| node.fence.as_ref()).map_or(FENCE, |fence| fence.timeout);
        let machine = &self.machines[&target];
        let manner = machine.fence;
        self.coverage.count(match manner {
            FenceManner::Works => "fence: works",
            FenceManner::Fails => "fence: fails",
            FenceManner::Hangs => "fence: hangs",
            FenceManner::SaysNothing => "fence: works and says nothing",
            FenceManner::SaysItFailed => "fence: works and says it failed",
        });
        self.note(name, &format!("(fences {target}, which {})", manner.as_str()));
        let takes = self.random.between(Millis(500), Millis(timeout.0.saturating_sub(1000).max(500)));
        let shoots = matches!(manner, FenceManner::Works | FenceManner::SaysNothing | FenceManner::SaysItFailed);
        if shoots {
            self.at(takes, Happening::Fenced { node: target, boot: None });
        }
        let (after, told) = match manner {
            FenceManner::Works => (Millis(takes.0 + 10), Ok("it is off".to_owned())),
            FenceManner::Fails | FenceManner::SaysItFailed => (takes, Err("the device does not answer".to_owned())),
            FenceManner::Hangs | FenceManner::SaysNothing => (timeout, Err("no answer in time".to_owned())),
        };
        let life = self.machines[name].life;
        let input = Box::new(Input::FenceEnded(id, told));
        self.at(after, Happening::Input { node: name.clone(), life, input });
    }
}
