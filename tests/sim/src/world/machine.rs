//! A machine: its power, its clock, its disk, its daemon. What is done to it from outside is here; what it does is not.
//!
//! A machine has one disk yet, with the journal. The disks of volumes belong beside it: the pure part of a volume is
//! driven by the same clock, network and power as the daemon.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_core::arbiter::ArbiterId;
use mainstay_core::health::Survey;
use mainstay_core::names::{HierarchyName, KitName, NodeName, Tag};
use mainstay_core::node::{Abilities, CallId, Config, Input, Node, Output, RecordNumber};
use mainstay_core::state::{Record, State};
use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};

use super::outside::FenceManner;
use super::{Happening, LINK, Manners, SYNC, World};
use crate::kits::App;

/// Where the wall clock starts, in ms since 1970.
pub const UNIX: u64 = 1_700_000_000_000;
/// What calls of a dead daemon still do takes so long.
const LEFTOVER: Millis = Millis(500);
/// What the older config says of checks.
const OLDER_INTERVAL: Millis = Millis::from_secs(2);
/// Heartbeats that wait for a paused process, at the most: a socket's buffer has an end.
pub(super) const BEATS_WAITING_MAX: usize = 64;

/// A machine's own clock, which goes on while the machine is suspended (CLOCK_BOOTTIME).
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// So many parts of a million faster than true time.
    ppm: i64,
    from: u64,
    shows: u64,
}

impl Clock {
    /// What it shows at a true time.
    #[must_use]
    pub fn at(&self, now: Monotonic) -> Monotonic {
        let rate = 1_000_000u64.saturating_add_signed(self.ppm);
        Monotonic(self.shows + now.0.saturating_sub(self.from) * rate / 1_000_000)
    }

    /// From when on it shows at least this.
    #[must_use]
    pub fn when(&self, shown: Monotonic) -> Monotonic {
        let rate = 1_000_000u64.saturating_add_signed(self.ppm);
        let ahead = shown.0.saturating_sub(self.shows);
        Monotonic(self.from.saturating_add(ahead.saturating_mul(1_000_000).div_ceil(rate)))
    }

    /// From now on it runs so much faster.
    pub fn set_ppm(&mut self, now: Monotonic, ppm: i64) {
        *self = Self { ppm, from: now.0, shows: self.at(now).0 };
    }
}

/// A machine with its disk and its daemon.
#[derive(Debug)]
pub struct Machine {
    /// The daemon, if it lives.
    pub node: Option<Node>,
    /// Counts daemons, so that what belongs to a dead one is recognised.
    pub(super) life: u64,
    /// The daemon is stopped (SIGSTOP), and time goes on.
    pub paused: bool,
    /// The whole machine stands still, and time goes on.
    pub suspended: bool,
    /// It has no power.
    pub off: bool,
    /// What happens to who stands still waits here.
    pub(super) frozen: VecDeque<Happening>,
    /// How many records can be read before the damage; half of them, if not said.
    pub readable: Option<usize>,
    /// How far its wall clock is from the true time, in ms.
    pub clock_off: i64,
    /// What its deadlines are counted by.
    pub clock: Clock,
    /// Counts the machine's starts.
    pub(super) boot: u64,
    /// On disk.
    pub journal: Vec<Record>,
    /// What the journal says, kept up to its first so many records.
    replayed: (usize, State),
    /// Written, and not yet durable.
    pub(super) unsynced: VecDeque<(RecordNumber, Record)>,
    pub(super) durable: RecordNumber,
    /// The disk does not answer.
    pub disk_stuck: bool,
    /// From a write to its being durable.
    pub disk_takes: Millis,
    /// The journal cannot be read back.
    pub damaged: bool,
    /// The config is another.
    pub other_config: bool,
    /// Its daemon starts with the config before the last change.
    older_config: bool,
    /// Its kits are those before the last upgrade.
    older_kit: bool,
    /// Since when its kits are as they are.
    kit_since: Monotonic,
    pub(super) held_back: VecDeque<(RecordNumber, Output)>,
    pub(super) calls: BTreeMap<CallId, Running>,
    /// The applications of this machine.
    pub apps: BTreeMap<Tag, App>,
    /// What calls of a dead daemon still do, until when.
    pub(super) leftovers: BTreeMap<Tag, Monotonic>,
    /// What is wrong with resources here.
    pub unusable: BTreeMap<Tag, String>,
    /// Of mainstay.
    pub software: String,
    /// Its mainstay is from before nodes could be asked to examine themselves.
    pub before_health: bool,
    /// What would be measured on it; none: nothing is, in time.
    pub survey: Option<Survey>,
    /// By peer; both ends have the same number.
    pub(super) sessions: BTreeMap<NodeName, u64>,
    /// Requests to the arbiter that are waited for.
    pub(super) asked: BTreeSet<ArbiterId>,
    /// When the guardian fences this machine, by the machine's clock.
    pub(super) guard: Option<Monotonic>,
    /// The guardian lives.
    pub guardian: bool,
    /// It died, and nobody has told it a time since.
    pub(super) guard_lost: bool,
    /// How others fare who fence this machine.
    pub fence: FenceManner,
    /// It comes back so long after it was fenced; none: not by itself.
    pub returns_after: Option<Millis>,
}

/// A call that goes on.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) hierarchy: HierarchyName,
    pub(super) tag: Tag,
    /// What the application will be when it has ended: running, broken.
    pub(super) becomes: Option<(bool, bool)>,
}

impl Machine {
    pub(super) fn new(tags: &[Tag]) -> Self {
        Self {
            node: None,
            life: 0,
            paused: false,
            suspended: false,
            off: false,
            frozen: VecDeque::new(),
            readable: None,
            clock_off: 0,
            clock: Clock::default(),
            boot: 1,
            journal: Vec::new(),
            replayed: (0, State::default()),
            unsynced: VecDeque::new(),
            durable: RecordNumber(0),
            disk_stuck: false,
            disk_takes: SYNC,
            damaged: false,
            other_config: false,
            older_config: false,
            older_kit: false,
            kit_since: Monotonic(0),
            held_back: VecDeque::new(),
            calls: BTreeMap::new(),
            apps: tags.iter().map(|tag| (tag.clone(), App::default())).collect(),
            leftovers: BTreeMap::new(),
            unusable: BTreeMap::new(),
            software: "sim".into(),
            before_health: false,
            survey: Some(Survey { contract: "0.1.0".into(), system: "sim".into(), findings: Vec::new() }),
            sessions: BTreeMap::new(),
            asked: BTreeSet::new(),
            guard: None,
            guardian: true,
            guard_lost: false,
            fence: FenceManner::default(),
            returns_after: None,
        }
    }

    /// The disk with the journal is replaced by an empty one, while the daemon does not run.
    pub fn wipe(&mut self) {
        self.journal.clear();
        self.replayed = (0, State::default());
    }

    /// How many records are written and not yet durable.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.unsynced.len()
    }

    /// Counts its daemons.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life
    }

    /// Names the config that a daemon would start with.
    #[must_use]
    pub fn config_hash(&self) -> &'static str {
        if self.other_config {
            "other"
        } else if self.older_config {
            "older"
        } else {
            "same"
        }
    }

    /// The kits it has, and their versions.
    #[must_use]
    pub fn kits(&self) -> BTreeMap<KitName, String> {
        let version = if self.older_kit { "1.0" } else { "1.1" };
        BTreeMap::from([("null".into(), version.into())])
    }

    /// Since when its kits are as they are.
    #[must_use]
    pub fn kit_since(&self) -> Monotonic {
        self.kit_since
    }

    /// Whether neither its daemon nor its guardian can end what runs here: both were lost, one after the other.
    #[must_use]
    pub fn is_unguarded(&self) -> bool {
        self.guard_lost && (self.node.is_none() || self.paused)
    }

    /// Whether a packet to it is taken by its kernel.
    #[must_use]
    pub fn has_kernel(&self) -> bool {
        !self.off && !self.suspended
    }

    /// Whether what happens to it has to wait until it goes on.
    pub(super) fn stands_still(&self, manners: Manners) -> bool {
        self.suspended || self.paused && manners == Manners::Real
    }

    /// What its disk says.
    pub fn durable_state(&mut self) -> &State {
        let (replayed, state) = &mut self.replayed;
        if *replayed > self.journal.len() {
            (*replayed, *state) = (0, State::default());
        }
        for record in &self.journal[*replayed..] {
            state.apply(record);
        }
        *replayed = self.journal.len();
        state
    }

    /// Reads the journal back, as a daemon does that starts. Says whether it was damaged.
    fn recover(&mut self) -> (State, bool) {
        if !core::mem::take(&mut self.damaged) {
            return (State::replay(&self.journal), false);
        }
        // What stands before the damage can still be read.
        let readable = self.readable.take().unwrap_or(self.journal.len() / 2).min(self.journal.len());
        let mut state = State::replay(&self.journal[..readable]);
        state.apply(&Record::Damaged);
        self.wipe();
        self.journal = vec![Record::Snapshot(Box::new(state.clone()))];
        (state, true)
    }
}

impl World {
    pub(super) fn both_clocks(&self, name: &NodeName) -> Now {
        let machine = &self.machines[name];
        let unix = (UNIX + self.now.0).saturating_add_signed(machine.clock_off);
        Now { monotonic: machine.clock.at(self.now), unix: UnixMs(unix) }
    }

    /// Starts a daemon.
    ///
    /// # Panics
    /// When it runs already: a test's own mistake.
    pub fn start(&mut self, name: &NodeName) {
        let now = self.both_clocks(name);
        let (world_now, mut spec, seed) = (self.now, self.spec.clone(), self.seed);
        let machine = self.machine(name);
        assert!(machine.node.is_none(), "{name} runs already");
        machine.life += 1;
        machine.off = false;
        machine.durable = RecordNumber(0);
        let (state, damaged) = machine.recover();
        machine.leftovers.retain(|_, until| *until > world_now);
        if machine.older_config {
            let last = spec.hierarchies.values_mut().next_back();
            last.into_iter().flat_map(|it| it.resources.values_mut()).for_each(|it| it.check_interval = OLDER_INTERVAL);
        }
        let config = Config {
            me: name.clone(),
            spec,
            config_hash: machine.config_hash().into(),
            software: machine.software.clone(),
            boot: format!("boot-{}", machine.boot),
            damaged,
            leftovers: machine.leftovers.keys().cloned().collect(),
            unusable: machine.unusable.clone(),
            kits: machine.kits(),
            config_parts: BTreeMap::new(),
            seed,
        };
        let life = machine.life;
        let able = |tag: &str| Abilities { readiness: true, deep_check: tag.ends_with(['1', '3', '5']) };
        let abilities = machine.apps.keys().map(|tag| (Tag::new(tag.as_str()), able(tag.as_str()))).collect();
        let leftovers: Vec<(Tag, Monotonic)> =
            machine.leftovers.iter().map(|(tag, until)| (tag.clone(), *until)).collect();
        let guardian = machine.guardian;
        let found = state.hierarchies.iter();
        let found = found.map(|(name, it)| (name.clone(), it.claim.as_ref().map(|claim| claim.id.clone()))).collect();
        machine.node = Some(Node::new(config, state, now));
        self.checks.started(name, life, found);
        for (tag, until) in leftovers {
            self.at(until.since(self.now), Happening::LeftoverGone { node: name.clone(), life, tag });
        }
        self.carry_out(name);
        self.input(name, Input::Guardian { there: guardian });
        self.input(name, Input::Abilities(abilities));
        self.reconnect(name);
    }

    /// Ends a daemon at once (SIGKILL): what it had written and not synced may still reach the disk, since the machine
    /// goes on; applications go on; its calls go on for a while.
    pub fn kill(&mut self, name: &NodeName) {
        self.end_daemon(name, true);
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
        self.end_daemon(name, false);
        let machine = self.machine(name);
        machine.unsynced.clear();
        machine.leftovers.clear();
        machine.frozen.clear();
        machine.suspended = false;
        machine.guard = None;
        machine.guard_lost = false;
        machine.boot += 1;
        machine.off = true;
        for app in machine.apps.values_mut() {
            app.become_(Some((false, false)));
            app.by_hand = false;
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

    fn end_daemon(&mut self, name: &NodeName, kernel_goes_on: bool) {
        let now = self.now;
        let machine = self.machine(name);
        machine.node = None;
        machine.paused = false;
        machine.held_back.clear();
        machine.asked.clear();
        let calls = core::mem::take(&mut machine.calls);
        for Running { tag, becomes, .. } in calls.into_values() {
            // What a call had begun goes on without the daemon, and takes effect.
            if let Some(app) = machine.apps.get_mut(&tag) {
                app.become_(becomes);
            }
            machine.leftovers.insert(tag, now + LEFTOVER);
        }
        let sessions = core::mem::take(&mut machine.sessions);
        for (node, session) in sessions {
            match (self.manners, kernel_goes_on) {
                // What was sent before still arrives first.
                (Manners::Prompt, _) => self.at(LINK, Happening::SessionLost { node, peer: name.clone(), session }),
                (Manners::Real, true) => self.send_end(session, name),
                (Manners::Real, false) => self.forget_unsent(session, name),
            }
        }
        if self.manners == Manners::Real && kernel_goes_on {
            self.thaw(name);
        }
    }

    /// Stops a process, and lets it go on (SIGSTOP, SIGCONT).
    pub fn pause(&mut self, name: &NodeName, paused: bool) {
        if self.machines[name].node.is_none() || self.machines[name].paused == paused {
            return;
        }
        self.machine(name).paused = paused;
        if !paused {
            self.input(name, Input::Tick);
            self.thaw(name);
        }
    }

    /// Lets a whole machine stand still, and go on.
    pub fn suspend(&mut self, name: &NodeName, suspended: bool) {
        let machine = self.machine(name);
        if machine.off || machine.suspended == suspended {
            return;
        }
        machine.suspended = suspended;
        if !suspended {
            self.checks.woke(name, self.now);
            self.thaw(name);
            if !self.machines[name].paused {
                self.input(name, Input::Tick);
            }
        }
    }

    /// What has waited happens now, in order.
    fn thaw(&mut self, name: &NodeName) {
        for happening in core::mem::take(&mut self.machine(name).frozen) {
            self.at(Millis(0), happening);
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

    /// From now on a machine has older kits than the others, or the same.
    pub fn set_older_kit(&mut self, name: &NodeName, older: bool) {
        let now = self.now;
        let machine = self.machine(name);
        if core::mem::replace(&mut machine.older_kit, older) != older {
            machine.kit_since = now;
            let kits = machine.kits();
            self.input_when_it_goes_on(name, Input::Kits(kits));
        }
    }

    /// From now on a machine has an older config than the others, or the same. A daemon that runs is started anew.
    pub fn set_older_config(&mut self, name: &NodeName, older: bool) {
        let machine = self.machine(name);
        if machine.suspended || core::mem::replace(&mut machine.older_config, older) == older || machine.node.is_none()
        {
            return;
        }
        if machine.paused {
            self.kill(name)
        } else {
            self.stop(name)
        }
        self.start(name);
    }

    /// What is wrong with resources on a machine.
    pub fn set_unusable(&mut self, name: &NodeName, unusable: BTreeMap<Tag, String>) {
        self.machine(name).unusable = unusable.clone();
        self.input(name, Input::Unusable(unusable));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_shows_what_was_waited_for_when_it_is_waited_for() {
        for ppm in [-5000, -1, 0, 1, 5000] {
            let mut clock = Clock::default();
            clock.set_ppm(Monotonic(1000), ppm);
            for wait in [0u64, 1, 7, 999, 1_000_000] {
                let shown = clock.at(Monotonic(50_000)) + Millis(wait);
                let when = clock.when(shown);
                assert!(clock.at(when) >= shown, "{ppm} {wait}");
                assert!(wait == 0 || clock.at(Monotonic(when.0 - 1)) < shown, "{ppm} {wait}: not too late");
            }
        }
        let mut fast = Clock::default();
        fast.set_ppm(Monotonic(0), 5000);
        assert_eq!(fast.at(Monotonic(1_000_000)), Monotonic(1_005_000));
    }
}
