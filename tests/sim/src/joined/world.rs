//! Both worlds under one clock: whatever is due first happens, and what one of them has for the other is passed on at
//! once. Power, clocks and machines that stand still are the cluster's; the copies follow. What both show together is
//! judged here: that nobody acknowledges a write where another one may.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::state::{StandingKind, State};
use mainstay_core::time::{Millis, Monotonic};
use mainstay_core::volume::ToVolume;
use mainstay_volume_core::io::{Basis, OperatorId};

use super::daemon::Daemon;
use super::kit::Asking;
use crate::checks::Promise;
use crate::network::Quality;
use crate::scenario::Scenario;
use crate::volume::world::{self as volume, Setting};
use crate::world::{self as cluster, Manners};

/// The hierarchy with the volume.
pub const HIERARCHY: &str = "h";
/// The resource that is the volume, of which its kit looks after it.
pub const RESOURCE: &str = "r0";
/// The volume.
pub const VOLUME: &str = "v";
/// The daemons look after their processes, and kits try again, this often, in ms.
const ROUND: u64 = 150;
/// Who takes over on silence does so this long after it, in ms: what a confirmation is waited for, and a fence takes.
const SILENCE: u64 = 40_000;
/// Steps of one run, at the most: a world that never comes to rest is a bug.
const STEPS_MAX: u64 = 3_000_000;

/// See the module's documentation.
#[derive(Debug)]
pub struct Joined {
    /// Nodes, comm paths, arbiter.
    pub cluster: cluster::World,
    /// Copies, disks, mirror link, application.
    pub volume: volume::World,
    /// The nodes: the first has side A.
    pub names: [NodeName; 2],
    /// So many faults cut the mirror link.
    pub mirror_cuts: u32,
    pub(super) daemons: [Daemon; 2],
    /// Calls of the kit that wait for a process, by its number of the question.
    pub(super) askings: BTreeMap<(usize, OperatorId), Asking>,
    /// Those that try again, and when.
    pub(super) later: Vec<(u64, usize, Asking)>,
    /// Of questions that daemons pass on.
    pub(super) numbers: u64,
    dead_time: u64,
    round_at: u64,
    steps: u64,
}

impl Joined {
    /// Two machines that are off, with everything in order.
    #[must_use]
    pub fn new(scenario: &Scenario, setting: Setting) -> Self {
        let config = config(scenario);
        let quality: Quality = scenario.lan.quality();
        let longer = scenario.granted_longer;
        let mut cluster = cluster::World::with(&config, scenario.seed, Manners::Real, quality, longer);
        cluster.outside = BTreeSet::from([Tag::from(RESOURCE)]);
        let names: Vec<NodeName> = scenario.node_names();
        let mut volume = volume::World::new(setting);
        volume.said = Some(std::collections::VecDeque::new());
        // Their daemons start the processes.
        for m in 0..2 {
            volume.end(m, false);
        }
        Self {
            cluster,
            volume,
            names: [names[0].clone(), names[1].clone()],
            mirror_cuts: 0,
            daemons: [Daemon::default(), Daemon::default()],
            askings: BTreeMap::new(),
            later: Vec::new(),
            numbers: 0,
            dead_time: scenario.dead_time().0,
            round_at: 0,
            steps: 0,
        }
    }

    /// The time since the beginning, in ms.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.cluster.now().0.max(self.volume.now)
    }

    /// Both worlds are at the same time.
    fn agree(&mut self, at: u64) {
        self.cluster.pass_to(Monotonic(at));
        self.volume.now = self.volume.now.max(at);
    }

    /// Whether a rule was broken, and which.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.volume.broken.clone().or_else(|| self.cluster.checks.broken.first().cloned())
    }

    /// Lets time pass, or until a condition holds, or a rule is broken; whether the condition holds.
    ///
    /// # Panics
    /// If the world never comes to rest.
    pub fn run_until(&mut self, until: u64, mut enough: impl FnMut(&Self) -> bool) -> bool {
        self.exchange();
        while self.broken().is_none() {
            if enough(self) {
                return true;
            }
            let cluster = self.cluster.next_at().map_or(u64::MAX, |at| at.0);
            let volume = self.volume.next_at().unwrap_or(u64::MAX);
            let next = cluster.min(volume).min(self.round_at);
            if next > until {
                self.agree(until);
                self.cluster.look();
                return false;
            }
            self.agree(next);
            self.steps += 1;
            assert!(self.steps < STEPS_MAX, "the world does not come to rest");
            if self.round_at == next {
                self.round_at = next + ROUND;
                for m in 0..2 {
                    self.look_after_process(m);
                    self.judge_right(m);
                }
                self.kits_try_again();
            } else if volume == next {
                self.volume.step();
            } else {
                self.cluster.step();
            }
            self.exchange();
        }
        false
    }

    /// What one world has for the other is passed on, until there is no more.
    pub fn exchange(&mut self) {
        self.agree(self.now());
        for m in 0..2 {
            self.follow_machine(m);
            self.hear_untold_word(m);
        }
        loop {
            if let Some((node, told)) = self.cluster.told_to_volumes.pop_front() {
                let m = self.index(&node);
                self.core_says(m, told);
            } else if let Some(call) = self.cluster.asked_of_kits.pop_front() {
                let m = self.index(&call.node);
                self.kit_is_called(m, call);
            } else if let Some((m, said)) = self.volume.said.as_mut().and_then(std::collections::VecDeque::pop_front) {
                self.process_says(m, said);
            } else {
                break;
            }
        }
        (0..2).for_each(|m| self.show(m));
    }

    fn index(&self, node: &NodeName) -> usize {
        usize::from(*node != self.names[0])
    }

    /// A word that the arbiter was not told binds nobody who comes back and reaches only the arbiter: the others were to stay
    /// off until it is told (O12), and here they do not. Nothing can be done about that: who acts on the word cannot be reached
    /// by either. It is over with the daemon that heard it and what it has put in service: who starts after that asks first.
    fn hear_untold_word(&mut self, m: usize) {
        let hierarchy = HierarchyName::from(HIERARCHY);
        let (name, other) = (self.names[m].clone(), self.names[1 - m].clone());
        let serves = self.volume.is_source(m) || self.cluster.checks.may_be_on(&hierarchy, &name);
        let machine = self.cluster.machine(&name);
        let heard = machine.node.as_ref().is_some_and(|node| untold(node.state(), &hierarchy))
            && self.cluster.checks.has_a_word(&hierarchy, &name, self.cluster.machines[&name].life());
        let acts = heard || (serves && untold(self.cluster.machine(&name).durable_state(), &hierarchy));
        if acts && !self.cluster.machines[&other].off && self.cluster.checks.lied.insert(hierarchy) {
            self.volume.count("word: untold to the arbiter");
        }
    }

    /// Power, clock and standing still are the machine's.
    fn follow_machine(&mut self, m: usize) {
        self.follow_daemon(m);
        let machine = &self.cluster.machines[&self.names[m]];
        let (off, suspended) = (machine.off, machine.suspended);
        self.volume.machines[m].clock = machine.clock;
        self.volume.machines[m].clock_off = machine.clock_off + (cluster::UNIX - volume::UNIX) as i64;
        if off && self.volume.machines[m].power {
            self.end(m, true);
        } else if !off {
            self.volume.machines[m].power = true;
        }
        self.volume.stand_still(m, suspended);
    }

    /// A process ends, or its whole machine.
    pub fn end(&mut self, m: usize, power: bool) {
        if power || self.volume.machines[m].volume.is_some() {
            self.volume.end(m, power);
            self.kits_lose(m);
        }
    }

    /// What the checkers of the cluster see as the application is the copy's role.
    fn show(&mut self, m: usize) {
        let serves = self.volume.is_source(m);
        let name = self.names[m].clone();
        let Some(app) = self.cluster.machine(&name).apps.get_mut(&Tag::from(RESOURCE)) else { return };
        if app.running != serves {
            if serves {
                (app.running, app.crashed) = (true, false);
            } else {
                app.crash();
            }
        }
    }

    /// Whether an operator has said that a node is off which was not: then two may own it, and a copy knows only what it
    /// meets.
    fn lied(&self) -> bool {
        self.cluster.checks.lied.contains(&HierarchyName::from(HIERARCHY))
    }

    /// O16, V1: an application is answered that something is done. Where one owner is promised, nobody else may be the
    /// owner then; and nobody else may have been put in service since, whatever the mode.
    pub(super) fn judge_done(&mut self, m: usize, writes: bool, stale: bool) {
        let hierarchy = HierarchyName::from(HIERARCHY);
        let promise = self.cluster.checks.promise(&hierarchy);
        if stale && writes {
            self.volume.count("two acknowledge");
        }
        if self.lied() {
            return;
        }
        let names = self.names.clone();
        if stale && writes && promise != Promise::Paths {
            self.volume.fail(|| {
                format!("one source (O16): {} acknowledges, and {} was put in service since", names[m], names[1 - m])
            });
        }
        let permit = matches!(promise, Promise::Permit | Promise::PermitAndWatchdog);
        let holder = self.cluster.etcd.permit(Monotonic(self.now()), &hierarchy);
        if permit && holder.as_ref() == Some(&self.names[1 - m]) {
            self.volume.fail(|| {
                format!("right (V1): {} answers that something is done, and {} has the permit", names[m], names[1 - m])
            });
        }
    }

    /// Whether a promotion on this basis may lose what was acknowledged: where an operator has said so, or the mode rests on
    /// silence. What the node has told its process is not believed: its disk is asked.
    pub(super) fn may_lose(&mut self, m: usize, basis: Basis) -> bool {
        let hierarchy = HierarchyName::from(HIERARCHY);
        let name = self.names[m].clone();
        let by_arbiter = self.volume.setting.arbiter;
        let known = self.cluster.machine(&name).durable_state().hierarchies.get(&hierarchy).cloned();
        let word = known.is_some_and(|known| if by_arbiter { known.forced } else { known.word });
        let silence = basis == Basis::Automatic { together: true };
        word || silence || self.lied() || self.cluster.checks.promise(&hierarchy) == Promise::Paths
    }

    /// V4: what rests on silence alone rests on a mirror link that fell silent with the comm paths, in true time.
    pub(super) fn judge_together(&mut self, m: usize, basis: Basis) {
        let claimed = self.daemons[m].right_since;
        let heard = self.volume.heard[m];
        if basis == (Basis::Automatic { together: true }) && claimed > heard + 3 * self.dead_time + SILENCE {
            self.volume.fail(|| {
                format!("together (V4): {m} took over at {claimed}, and has not heard the other copy since {heard}")
            });
        }
    }

    /// V1: a process keeps no right by a claim that its daemon's disk knows to be over.
    fn judge_right(&mut self, m: usize) {
        let Some(ToVolume::Right { claim, .. }) = self.daemons[m].right.clone() else { return };
        let name = self.names[m].clone();
        let machine = self.cluster.machine(&name);
        if machine.node.is_none() || machine.paused || machine.suspended {
            return;
        }
        let Some(known) = machine.durable_state().hierarchies.get(&HierarchyName::from(HIERARCHY)) else { return };
        let Some(newest) = known.claim.as_ref().filter(|_| !known.unknown) else { return };
        let over = newest.id.claimant != name || known.standing.kind != StandingKind::Held;
        if over {
            let newest = newest.id.clone();
            self.volume.fail(|| {
                format!("right (V1): the process on {name} was told of {claim}, and its daemon knows of {newest}, or has given it away")
            });
        }
    }

    /// The mirror link is cut, or whole again, whatever else cuts it.
    pub fn cut_mirror(&mut self, begins: bool, noticed: bool) {
        if begins {
            self.mirror_cuts += 1;
            self.volume.cut_link(noticed);
        } else {
            self.mirror_cuts = self.mirror_cuts.saturating_sub(1);
            self.volume.link_cut = self.mirror_cuts > 0;
        }
    }

    /// For people: both timelines, in order.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let mut lines: Vec<(u64, String)> = Vec::new();
        for line in &self.cluster.timeline {
            lines.push((line.at.0, format!("{:>6} {}: {}", line.at.0, line.node, line.text.replace('\n', " "))));
        }
        for line in self.volume.told.iter().flatten() {
            let at = line.split_whitespace().next().and_then(|at| at.parse().ok()).unwrap_or_default();
            lines.push((at, line.clone()));
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// So long it has run.
    #[must_use]
    pub fn simulated(&self) -> Millis {
        Millis(self.now())
    }
}

/// Whether a node has it by a word that the arbiter was not told.
fn untold(state: &State, hierarchy: &HierarchyName) -> bool {
    state.hierarchies.get(hierarchy).is_some_and(|known| known.forced)
}

/// The cluster's config, with the volume.
#[must_use]
pub fn config(scenario: &Scenario) -> String {
    scenario.config()
        + &format!(
            "[hierarchy.{HIERARCHY}.volume.{VOLUME}]\nbacking = {{ a = \"/dev/v\", b = \"/dev/v\" }}\naddress = {{ b = \"127.0.0.1:7900\" }}\n"
        )
}
