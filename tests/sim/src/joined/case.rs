//! A case: a cluster with a volume, how its application works, and what goes wrong when.

use mainstay_core::time::Millis;

use crate::random::Random;
use crate::scenario::{Fault, Hierarchy, Lan, Mode, Scenario};
use crate::volume::world::{Pace, Setting};

/// Before it nothing is wrong: the cluster starts, and the copies get together.
const CALM: u64 = 9_000;
/// The modes of failover that a volume may be under.
pub const MODES: [Mode; 6] = Mode::ALL;

/// A world and its trouble.
///
/// Faults are those of [`crate::faults`], and of the volume:
///
/// | words | what |
/// |---|---|
/// | `mirror noticed`, `mirror silent` | the mirror link is cut, and its ends notice at once or not |
/// | `process A` | the process of the volume is killed |
/// | `data-slow A MS`, `data-fails A` | the disk with the copy |
/// | `data-lost A` | it is replaced by an empty one, if the other copy has everything |
/// | `volume pause`, `volume verify`, `volume invalidate` | an operator of the volume |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The cluster and its trouble.
    pub scenario: Scenario,
    /// The volume and its application.
    pub setting: Setting,
    /// The first fault begins only after so many steps of the volume; none: by its time.
    pub at_step: Option<u64>,
}

struct Dice {
    random: Random,
    mode: Mode,
    paths: usize,
    hasty: bool,
}

impl Case {
    /// The case of a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::of(seed, 11);
        let mode = random.pick(&MODES);
        let needs_two = matches!(mode, Mode::ConfirmInTime | Mode::Automatic | Mode::Fence);
        let paths = if needs_two { 2 } else { 1 + random.below(2) as usize };
        let is_async = random.chance(150);
        let mut case = Self::calm(seed, mode, paths, is_async);
        case.scenario.lan = random.pick(&[Lan::Good, Lan::Busy, Lan::Busy, Lan::Far]);
        (case.scenario.heartbeat, case.scenario.misses) =
            random.pick(&[(Millis(500), 4), (Millis(250), 8), (Millis(1000), 5)]);
        if mode.has_arbiter() && random.chance(200) {
            case.scenario.granted_longer = random.between(Millis(500), Millis(4000));
        }
        case.setting.depth = 1 + random.below(6);
        case.setting.disk_ms = 1 + random.below(6);
        case.setting.rate = if random.chance(250) { 500_000 } else { 0 };
        case.setting.hot = if random.chance(500) { 5 } else { 64 };
        let hasty = random.chance(150);
        let mut dice = Dice { random, mode, paths, hasty };
        case.scenario.faults = dice.faults();
        case
    }

    /// Two nodes and a volume, and no trouble.
    #[must_use]
    pub fn calm(seed: u64, mode: Mode, paths: usize, is_async: bool) -> Self {
        let hierarchy = Hierarchy { mode, first: 0, switches_back: false, tree: vec![0, 1] };
        let scenario = Scenario {
            seed,
            nodes: 2,
            paths,
            lan: Lan::Good,
            heartbeat: Millis(500),
            misses: 4,
            remove_violations: false,
            granted_longer: Millis(0),
            hierarchies: vec![hierarchy],
            faults: Vec::new(),
        };
        let setting = Setting {
            seed,
            is_async,
            arbiter: mode.has_arbiter(),
            depth: 3,
            requests: u64::MAX,
            begins: 0,
            rate: 0,
            disk_ms: 2,
            hot: 16,
            pace: Pace::CLUSTER,
        };
        Self { scenario, setting, at_step: None }
    }

    /// The end of a mark is late on its way to the arbiter when the target has to be marked again; then the source dies, and
    /// the other node takes over by what the arbiter shows.
    #[must_use]
    pub fn late_mark(seed: u64) -> Self {
        let mut dice = Random::of(seed, 12);
        let mut case = Self::calm(seed, Mode::Arbiter, 1, false);
        let slow = 600 + dice.below(1_500);
        let again = CALM + 1_000 + dice.below(1_500);
        let dies = again + 1_500 + dice.below(4_000);
        let mut add = |at: u64, lasts: u64, what: String| {
            case.scenario.faults.push(Fault { at: Millis(at), lasts: Millis(lasts), what });
        };
        add(CALM, 8_000, format!("arbiter-slow a {}", Millis(slow)));
        add(CALM + 200, 300, "mirror noticed".into());
        add(again, 30_000, "mirror noticed".into());
        add(again, 30_000, "apart a b".into());
        add(dies, 25_000, "power-off a 0".into());
        case
    }

    /// A word that the arbiter is not told, and a later daemon of the node that heard it.
    #[must_use]
    pub fn old_word(seed: u64) -> Self {
        let mut dice = Random::of(seed, 13);
        let mut case = Self::calm(seed, Mode::Arbiter, 1, false);
        let faults = &mut case.scenario.faults;
        old_word(CALM, "a", "b", &mut dice, &mut |at, lasts, what| {
            faults.push(Fault { at: Millis(at), lasts: Millis(lasts), what });
        });
        case
    }

    /// Both nodes lose their journals, without an arbiter: nobody knows any more how far claims have come but the labels.
    #[must_use]
    pub fn lost_journals(seed: u64) -> Self {
        let mut dice = Random::of(seed, 14);
        let mode = dice.pick(&[Mode::Confirm, Mode::ConfirmInTime, Mode::Automatic, Mode::Fence]);
        let mut case = Self::calm(seed, mode, if mode == Mode::Confirm { 1 } else { 2 }, false);
        let (lost, second) = (CALM + 2_000 + dice.below(3_000), dice.below(6_000));
        let mut add = |at: u64, lasts: u64, what: &str| {
            case.scenario.faults.push(Fault { at: Millis(at), lasts: Millis(lasts), what: what.into() });
        };
        if dice.chance(700) {
            add(CALM, 0, "ask a switchover h b");
        }
        let (first, other) = dice.pick(&[("a", "b"), ("b", "a")]);
        add(lost, second + 1_000 + dice.below(6_000), &format!("lose-disk {first}"));
        add(lost + second, 1_000 + dice.below(6_000), &format!("lose-disk {other}"));
        case
    }

    /// A small workload while all is well, and each of a few things at each `stride`-th step of it, from the `first`.
    #[must_use]
    pub fn every_point(seed: u64, mode: Mode, first: u64, stride: u64) -> Vec<Self> {
        let ends: [&[(u64, u64, &str)]; 6] = [
            &[(0, 14_000, "power-off a 0"), (7_000, 0, "take")],
            &[(0, 1_500, "power-off a 9")],
            &[(0, 3_000, "power-off b 0")],
            &[(0, 700, "process a")],
            &[(0, 9_000, "apart a b"), (0, 9_000, "mirror silent"), (4_000, 6_000, "power-off a 1")],
            &[(0, 0, "ask a switchover h b")],
        ];
        let mut cases = Vec::new();
        let paths = if mode.fits(2, 1, &[]) { 1 } else { 2 };
        for step in (first..first + POINTS).step_by(stride as usize) {
            for end in ends {
                let mut case = Self::calm(seed, mode, paths, false);
                case.at_step = Some(step);
                case.scenario.faults = end
                    .iter()
                    .map(|(at, lasts, what)| {
                        // Where no one takes over by itself, an operator who has looked does.
                        let what = if *what == "take" { "ask b confirm" } else { what };
                        Fault { at: Millis(*at), lasts: Millis(*lasts), what: what.to_owned() }
                    })
                    .collect();
                cases.push(case);
            }
        }
        cases
    }
}

/// The other node has it by a word that the arbiter is not told, and ends; then this one comes back, and is given a permit; and
/// then the other one, which cannot hear it.
fn old_word(at: u64, node: &str, other: &str, random: &mut Random, add: &mut dyn FnMut(u64, u64, String)) {
    let said = at + 13_000 + random.below(3_000);
    let ends = said + 200 + random.below(3_000);
    let back = ends + 200 + random.below(6_000);
    let returns = back + random.below(25_000);
    add(at, returns - at, format!("arbiter-cut {other}"));
    add(at, back - at, format!("power-off {node} 0"));
    add(said, 0, format!("ask {other} force h"));
    let ended = if random.chance(500) { "power-off {} 0" } else { "kill {}" };
    add(ends, returns - ends, ended.replace("{}", other));
    add(ends, returns + 15_000 - ends, "apart a b".into());
    if random.chance(500) {
        add(ends, returns + 15_000 - ends, "mirror silent".into());
    }
}

/// Steps of the volume that a small workload takes: about forty requests.
pub const POINTS: u64 = 400;

impl Dice {
    fn faults(&mut self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut at = CALM;
        for _ in 0..1 + self.random.below(3) {
            // A cluster of faults, then a while of nothing.
            for _ in 0..1 + self.random.below(4) {
                self.one(at, &mut faults);
                at += self.gap();
            }
            at += 1_000 + self.random.below(20_000);
        }
        faults
    }

    fn gap(&mut self) -> u64 {
        let most = self.random.pick(&[20, 400, 1_500, 6_000]);
        self.random.below(most)
    }

    fn node(&mut self) -> &'static str {
        self.random.pick(&["a", "a", "b"])
    }

    fn one(&mut self, at: u64, faults: &mut Vec<Fault>) {
        let lasts = match self.random.below(3) {
            0 => 50 + self.random.below(1_500),
            1 => 1_000 + self.random.below(6_000),
            _ => 5_000 + self.random.below(25_000),
        };
        let node = self.node();
        let other = if node == "a" { "b" } else { "a" };
        let mut add = |at: u64, lasts: u64, what: String| {
            faults.push(Fault { at: Millis(at), lasts: Millis(lasts), what });
        };
        let mirror = if self.random.chance(600) { "mirror noticed" } else { "mirror silent" };
        match self.random.below(23) {
            0 | 1 => add(at, lasts, mirror.into()),
            // Everything between the two is cut, at once or nearly.
            2 | 3 => {
                let apart = self.random.below(900);
                add(at, lasts, mirror.into());
                add(at + apart, lasts, format!("apart {node} {other}"));
            }
            // The same, and the owner dies alone.
            4 => {
                add(at, lasts + 8_000, "apart a b".into());
                add(at, lasts + 4_000 + self.random.below(8_000), mirror.into());
                add(at + 2_000 + self.random.below(lasts), 12_000, format!("power-off {node} 0"));
            }
            5 => add(at, lasts, format!("apart {node} {other}")),
            6 => {
                let path = self.random.pick(&crate::scenario::PATHS[..self.paths]);
                add(at, lasts, format!("split a b {path}"));
            }
            7 | 8 => add(at, lasts, format!("power-off {node} {}", self.random.below(4))),
            9 => add(at, lasts, format!("process {node}")),
            10 => add(at, lasts, format!("kill {node}")),
            11 => {
                add(at, lasts, format!("kill {node}"));
                add(at + self.random.below(1_500), 0, format!("process {node}"));
                if self.random.chance(500) {
                    add(at + self.random.below(1_500), lasts, mirror.into());
                }
            }
            12 => add(at, lasts, format!("{} {node}", self.random.pick(&["pause", "suspend", "stop"]))),
            13 | 14 => add(at, 0, format!("ask {node} switchover h {}", self.random.pick(&["a", "b"]))),
            15 => match self.random.below(4) {
                0 => add(at, lasts, format!("data-fails {node}")),
                1 => add(at, lasts, format!("data-slow {node} {}", 20 + self.random.below(600))),
                2 => add(at, lasts, format!("disk-slow {node} {}", Millis(20 + self.random.below(900)))),
                _ => add(at, lasts, format!("disk-stuck {node}")),
            },
            16 => {
                let what = self.random.pick(&["volume pause", "volume verify", "volume invalidate"]);
                add(at, if what == "volume pause" { lasts } else { 0 }, what.into());
            }
            17 if self.hasty => {
                add(at, lasts, mirror.into());
                add(at, lasts + 9_000, "apart a b".into());
                let what = self.random.pick(&["ask b force h", "ask a force h", "ask b confirm", "ask a confirm"]);
                add(at + 5_000 + self.random.below(5_000), 0, what.into());
            }
            18 => match self.random.below(3) {
                0 => add(at, lasts, format!("lose-disk {node}")),
                1 => add(at, lasts, format!("damage {node}")),
                _ => add(at, 0, format!("data-lost {node}")),
            },
            19 => {
                let minutes = self.random.pick(&[-2_000i64, -60, -1, -1, 1, 1, 60, 2_000]);
                add(at, 0, format!("clock {node} {minutes}"));
            }
            20 => {
                // The mirror link is lost, and the clock set back by as long as it takes until the owner dies.
                let minutes = 1 + self.random.below(2);
                let dies = at + minutes * 60_000 + self.random.below(1_000);
                add(at, minutes * 60_000 + 20_000, mirror.into());
                add(at + self.random.below(minutes * 60_000), 0, format!("clock {other} -{minutes}"));
                add(dies, 20_000, format!("power-off {node} 0"));
            }
            17 => add(at, 12_000, format!("true-word {node} {}", self.random.pick(&["confirm", "force"]))),
            _ => self.outside(at, lasts, node, mirror, &mut add),
        }
    }

    fn outside(&mut self, at: u64, lasts: u64, node: &str, mirror: &str, add: &mut dyn FnMut(u64, u64, String)) {
        if !self.mode.has_arbiter() {
            let path = self.random.pick(&crate::scenario::PATHS[..self.paths]);
            return add(at, lasts, format!("lossy a b {path} {}", 100 + self.random.below(400)));
        }
        let other = if node == "a" { "b" } else { "a" };
        match self.random.below(11) {
            8 => add(at, 0, "arbiter-wipe".into()),
            9 => add(at, lasts, "arbiter-restore".into()),
            10 => old_word(at, node, other, &mut self.random, add),
            0 => add(at, lasts, format!("arbiter-cut {node}")),
            1 => add(at, lasts, "arbiter-away".into()),
            2 => add(at, lasts, format!("arbiter-slow {node} {}", Millis(20 + self.random.below(2_500)))),
            3 => add(at, lasts, format!("arbiter-lossy {node} {}", 100 + self.random.below(600))),
            4 => add(at, 0, "arbiter-leader".into()),
            // The end of a mark is late on its way to the arbiter when it has to be marked again; then the source dies.
            5 | 6 => {
                let again = at + 700 + self.random.below(2_500);
                add(at, 20_000, format!("arbiter-slow {node} {}", Millis(900 + self.random.below(2_000))));
                add(at + 200, 300, "mirror noticed".into());
                add(again, 30_000, "mirror noticed".into());
                add(again, 30_000, "apart a b".into());
                add(again + 2_500 + self.random.below(5_000), 20_000, format!("power-off {node} 0"));
            }
            // It goes alone by the arbiter's mark, and the arbiter is hard to reach.
            _ => {
                add(at, lasts, format!("arbiter-slow {node} {}", Millis(200 + self.random.below(2_000))));
                add(at + 300, lasts + 2_000, mirror.into());
                add(at + 300, lasts + 3_000, "apart a b".into());
            }
        }
    }
}
