//! From a seed to a scenario: which cluster, and what goes wrong when.
//!
//! A seed has one or a few themes, so that faults of one kind meet, and not a little of everything each time. Faults come
//! in clusters: what is worth trying happens while something else is not over yet.

use mainstay_core::time::Millis;

use crate::random::Random;
use crate::scenario::{Fault, HIERARCHIES, Hierarchy, Lan, Mode, NODES, PATHS, Scenario};
use crate::world::FenceManner;

/// Before it nothing is wrong: the cluster starts, and nothing may move.
const CALM: Millis = Millis::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    Network,
    Processes,
    Power,
    Disks,
    Kits,
    Operators,
    Outside,
    Clocks,
    Upgrades,
}

const THEMES: [Theme; 9] = [
    Theme::Network,
    Theme::Processes,
    Theme::Power,
    Theme::Disks,
    Theme::Kits,
    Theme::Operators,
    Theme::Outside,
    Theme::Clocks,
    Theme::Upgrades,
];

impl Scenario {
    /// The scenario of a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::of(seed, 3);
        let mode = random.pick(&Mode::ALL);
        let nodes = match mode {
            Mode::ConfirmInTime | Mode::Automatic | Mode::Fence => 2,
            Mode::Confirm | Mode::Arbiter | Mode::Watchdog => 2 + random.below(3).min(random.below(3)) as usize,
        };
        let paths = match mode {
            Mode::Confirm | Mode::Arbiter | Mode::Watchdog => 1 + random.below(3) as usize,
            Mode::ConfirmInTime | Mode::Automatic | Mode::Fence => 2 + random.below(2) as usize,
        };
        let (heartbeat, misses) = random.pick(&[(1000, 5), (1000, 5), (500, 6), (250, 8)]);
        let mut hierarchies = vec![hierarchy(&mut random, mode, 0, 4)];
        for _ in 0..random.pick(&[0, 0, 0, 1, 1, 2]) {
            let may: Vec<Mode> = Mode::ALL.into_iter().filter(|mode| mode.fits(nodes, paths, &hierarchies)).collect();
            let (mode, first) = (random.pick(&may), random.below(nodes as u64) as usize);
            hierarchies.push(hierarchy(&mut random, mode, first, 2));
        }
        let mut scenario = Self {
            seed,
            nodes,
            paths,
            lan: random.pick(&[Lan::Good, Lan::Busy, Lan::Busy, Lan::Far]),
            heartbeat: Millis(heartbeat),
            misses,
            remove_violations: random.chance(300),
            granted_longer: if random.chance(200) { random.between(Millis(1000), Millis(8000)) } else { Millis(0) },
            hierarchies,
            faults: Vec::new(),
        };
        scenario.faults = Trouble { random, scenario: &scenario, hasty: false }.faults();
        scenario
    }
}

fn hierarchy(random: &mut Random, mode: Mode, first: usize, resources_max: u64) -> Hierarchy {
    Hierarchy {
        mode,
        first,
        switches_back: random.chance(300),
        tree: (0..1 + random.below(resources_max)).map(|_| random.throw() as u8).collect(),
    }
}

struct Trouble<'a> {
    random: Random,
    scenario: &'a Scenario,
    /// Operators say what they have not looked at.
    hasty: bool,
}

impl Trouble<'_> {
    fn faults(&mut self) -> Vec<Fault> {
        self.hasty = self.random.chance(150);
        let themes: Vec<Theme> = (0..1 + self.random.below(3)).map(|_| self.random.pick(&THEMES)).collect();
        let mut faults = Vec::new();
        let mut at = CALM;
        if self.random.chance(100) {
            faults.extend(self.offer_meets_death(at));
            at.0 += 20_000;
        }
        if self.random.chance(50) {
            faults.extend(self.word_comes_late(at));
            at.0 += 20_000;
        }
        for _ in 0..1 + self.random.below(4) {
            // A cluster of faults, then a while of nothing.
            for _ in 0..1 + self.random.below(5) {
                let theme = if self.random.chance(150) { self.random.pick(&THEMES) } else { self.random.pick(&themes) };
                let what = self.what(theme);
                let lasts = self.lasts(&what);
                faults.extend(self.provoked(&what, at));
                faults.push(Fault { at, lasts, what });
                at.0 += self.gap().0;
            }
            at.0 += self.random.between(Millis(1_000), Millis(60_000)).0;
        }
        faults
    }

    /// The moment in which nobody has it: the receiver of an offer dies, is cut off, or both, while the offer is on its way.
    /// Then a word is said, and who was away comes back to what its journal says.
    fn offer_meets_death(&mut self, at: Millis) -> Vec<Fault> {
        let (giver, to) = self.two();
        let keeps = self.random.below(4);
        let takes = self.random.between(Millis(0), Millis(80));
        let fault = |at: u64, lasts: u64, what: String| Fault { at: Millis(at), lasts: Millis(lasts), what };
        let (asked, dies) = (at.0, at.0 + takes.0);
        let mut faults = vec![fault(asked, 0, format!("ask {giver} switchover {} {to}", self.name()))];
        if self.random.chance(700) {
            faults.push(fault(dies, 14_000, format!("power-off {to} {keeps}")));
            faults.push(fault(dies + 3_000, 8_000, format!("true-word {giver} force")));
        }
        if self.random.chance(700) {
            let begins = dies + self.random.below(2) * 12_000;
            faults.push(fault(begins, 30_000, format!("isolate {to}")));
        }
        faults
    }

    /// A node is cut off until an alarm asks for a word; the word is said when the node was heard again.
    fn word_comes_late(&mut self, at: Millis) -> [Fault; 2] {
        let (owner, to) = self.two();
        let read = at.0 + self.scenario.dead_time().0 + 3_000;
        let apart = Millis(read + 2_000 - at.0);
        let thinks = self.random.between(Millis(5_000), Millis(25_000));
        [
            Fault { at, lasts: apart, what: format!("isolate {owner}") },
            Fault { at: Millis(read), lasts: thinks, what: format!("late-word {to}") },
        ]
    }

    /// A kit whose manners are bad shows nothing of it until it is called.
    fn provoked(&mut self, what: &str, at: Millis) -> Option<Fault> {
        let words: Vec<&str> = what.split(' ').collect();
        if self.random.chance(300) {
            return None;
        }
        if let ["fence", node, _] = words[..] {
            // Nobody is fenced who is not silent.
            let what = format!("{} {node}", self.random.pick(&["isolate", "suspend"]));
            return Some(Fault { at: Millis(at.0 + self.gap().0), lasts: Millis::from_secs(40), what });
        }
        if let ["older-config" | "older-kit", _] = words[..] {
            // While they differ, an owner falls silent.
            let what = format!("{} {}", self.random.pick(&["isolate", "suspend"]), self.node());
            let later = self.random.between(Millis(1_000), Millis(10_000));
            return Some(Fault { at: Millis(at.0 + later.0), lasts: Millis::from_secs(30), what });
        }
        if let ["split", a, b, _] = words[..] {
            // First one comm path, and much later the others: that is no power cut (O8, O11).
            let later = self.random.between(Millis(3 * self.scenario.dead_time().0 + 3_000), Millis::from_secs(30));
            let what = format!("apart {a} {b}");
            return Some(Fault { at: Millis(at.0 + later.0), lasts: Millis::from_secs(40), what });
        }
        if let ["arbiter-slow", node, _] = words[..] {
            // How late an answer was matters only to who gets no other.
            let lasts = self.random.between(Millis::from_secs(12), Millis::from_secs(40));
            return Some(Fault { at: Millis(at.0 + self.gap().0), lasts, what: format!("pause {node}") });
        }
        let ["kit" | "kit-slow", node, tag, operation, ..] = words[..] else { return None };
        let of = HIERARCHIES.iter().find(|(_, letter)| tag.starts_with(*letter)).map(|(name, _)| *name)?;
        let what = match operation {
            "restore" => format!("ask {node} switchover {of} {node}"),
            "remove" => {
                let others: Vec<&str> =
                    NODES[..self.scenario.nodes].iter().filter(|other| **other != node).copied().collect();
                format!("ask {node} switchover {of} {}", self.random.pick(&others))
            }
            "recover" => format!("app {node} {tag} breaks"),
            _ => format!("app {node} {tag} dies"),
        };
        Some(Fault { at: Millis(at.0 + self.gap().0), lasts: Millis(0), what })
    }

    fn gap(&mut self) -> Millis {
        let most = self.random.pick(&[5, 50, 500, 4_000, 15_000]);
        self.random.between(Millis(0), Millis(most))
    }

    fn lasts(&mut self, what: &str) -> Millis {
        let once = ["ask", "app", "clock", "arbiter-wipe", "arbiter-leader"];
        let word = what.split(' ').next().unwrap_or_default();
        if once.contains(&word) {
            return Millis(0);
        }
        let dead = self.scenario.dead_time().0;
        let least = match word {
            // Until the others are silent.
            "true-word" => 3 * dead,
            // Until they have told each other, and something else has come of it.
            "older-config" | "older-kit" => 40_000,
            _ => 10,
        };
        let most = self.random.pick(&[dead / 2, dead, 2 * dead, 15_000, 40_000, 90_000]);
        self.random.between(Millis(least), Millis(most.max(least + 1)))
    }

    fn node(&mut self) -> &'static str {
        // The first is the owner at the start, and what happens to it matters most.
        if self.random.chance(300) { NODES[0] } else { self.random.pick(&NODES[..self.scenario.nodes]) }
    }

    fn two(&mut self) -> (&'static str, &'static str) {
        let a = self.node();
        loop {
            let b = self.random.pick(&NODES[..self.scenario.nodes]);
            if a != b {
                return (a, b);
            }
        }
    }

    fn path(&mut self) -> &'static str {
        self.random.pick(&PATHS[..self.scenario.paths])
    }

    /// Its name, what its tags begin with, and how many resources it has.
    fn hierarchy(&mut self) -> (&'static str, char, usize) {
        let number = self.random.below(self.scenario.hierarchies.len() as u64) as usize;
        let (name, letter) = HIERARCHIES[number];
        (name, letter, self.scenario.hierarchies[number].tree.len())
    }

    fn name(&mut self) -> &'static str {
        self.hierarchy().0
    }

    fn tag(&mut self) -> String {
        let (_, letter, resources) = self.hierarchy();
        format!("{letter}{}", self.random.below(resources as u64))
    }

    fn what(&mut self, theme: Theme) -> String {
        match theme {
            Theme::Network => self.network(),
            Theme::Processes => self.process(),
            Theme::Power => self.power(),
            Theme::Disks => self.disk(),
            Theme::Kits => self.kit(),
            Theme::Operators => self.operator(),
            Theme::Outside => self.outside(),
            Theme::Clocks => self.clock(),
            Theme::Upgrades => self.upgrade(),
        }
    }

    fn network(&mut self) -> String {
        let (a, b) = self.two();
        let path = self.path();
        match self.random.below(10) {
            0 => format!("cut {a} {b} {path}"),
            1 => format!("split {a} {b} {path}"),
            2 | 3 => format!("apart {a} {b}"),
            4 => format!("isolate {a}"),
            5 => format!("flap {a} {b} {path} {}", Millis(200 + self.random.below(8_000))),
            6 => format!("lossy {a} {b} {path} 300"),
            7 => format!("lossy-all {a} {b} {}", 100 + self.random.below(400)),
            8 => format!("slow {a} {b} {path} {}", Millis(20 + self.random.below(1_500))),
            _ => format!("block {a} {}", self.random.pick(&["heartbeats", "messages"])),
        }
    }

    fn process(&mut self) -> String {
        let node = self.node();
        match self.random.below(5) {
            0 => format!("kill {node}"),
            1 => format!("stop {node}"),
            2 | 3 => format!("pause {node}"),
            _ => format!("suspend {node}"),
        }
    }

    fn power(&mut self) -> String {
        let node = self.node();
        match self.random.below(4) {
            0 => format!("suspend {node}"),
            _ => format!("power-off {node} {}", self.random.below(4)),
        }
    }

    fn disk(&mut self) -> String {
        let node = self.node();
        match self.random.below(5) {
            0 => format!("disk-stuck {node}"),
            1 => format!("disk-slow {node} {}", Millis(5 + self.random.below(900))),
            2 => format!("lose-disk {node}"),
            3 => format!("damage {node}"),
            _ => format!("power-off {node} {}", self.random.below(4)),
        }
    }

    fn kit(&mut self) -> String {
        let (node, tag) = (self.node(), self.tag());
        match self.random.below(8) {
            0 => format!("app {node} {tag} breaks"),
            1 => format!("app {node} {tag} dies"),
            2 => format!("by-hand {node} {tag}"),
            3 => format!("kit-slow {node} {tag} {}", Millis(50 + self.random.below(3_000))),
            4 => format!("unusable {node} {tag}"),
            _ => {
                let (operation, answers): (&str, &[&str]) = self.random.pick(&[
                    ("restore", &["fails", "fails-half", "fails-for-now", "traps", "hangs"][..]),
                    ("remove", &["fails", "fails-for-now", "traps", "hangs"][..]),
                    ("check", &["cannot-tell", "hangs", "traps", "unmonitored"][..]),
                    ("deep-check", &["finds-fault", "cannot-tell", "hangs", "traps"][..]),
                    ("assess", &["not-ready", "hangs", "traps", "fails"][..]),
                    ("recover", &["lies", "gives-up", "restarts-dependents", "hangs", "fails"][..]),
                ]);
                format!("kit {node} {tag} {operation} {}", self.random.pick(answers))
            }
        }
    }

    fn operator(&mut self) -> String {
        let (node, to) = self.two();
        let name = self.name();
        match self.random.below(11) {
            9 => format!("maintenance {node} {name}"),
            10 => format!("drain {node} {to}"),
            0..=2 => format!("ask {node} switchover {name} {to}"),
            3 => format!("ask {node} switchover {name} {node}"),
            4 => format!("ask {node} in-service {name}"),
            5 if self.random.chance(500) => format!("ask {node} out-of-service {name}"),
            5 => format!("ask {node} out-of-service {}", self.tag()),
            6 if self.hasty => format!("ask {node} force {name}"),
            7 if self.hasty => format!("ask {node} confirm"),
            6 | 7 => format!("true-word {node} {}", self.random.pick(&["force", "confirm"])),
            _ => format!("app {node} {} dies", self.tag()),
        }
    }

    fn outside(&mut self) -> String {
        let node = self.node();
        let (fences, arbiter) = (self.scenario.any(|mode| mode == Mode::Fence), self.scenario.any(Mode::has_arbiter));
        if fences && !(arbiter && self.random.chance(500)) {
            let manner = self.random.pick(&FenceManner::ALL);
            return format!("fence {node} {}", manner.as_str());
        }
        if !arbiter {
            return self.network();
        }
        match self.random.below(12) {
            0 | 1 => format!("arbiter-cut {node}"),
            2 | 3 => "arbiter-away".into(),
            4 => format!("arbiter-slow {node} {}", Millis(20 + self.random.below(2_500))),
            5 => format!("arbiter-lossy {node} {}", 100 + self.random.below(600)),
            6 => "arbiter-wipe".into(),
            7 => "arbiter-restore".into(),
            8 => "arbiter-leader".into(),
            9 => format!("arbiter-late {}", Millis(100 + self.random.below(9_000))),
            10 => format!("guardian {node}"),
            _ => format!("pause {node}"),
        }
    }

    /// Nodes are upgraded one after the other, or one of them is put back.
    fn upgrade(&mut self) -> String {
        let node = self.node();
        match self.random.below(5) {
            0 | 1 => format!("older-config {node}"),
            2 | 3 => format!("older-kit {node}"),
            _ => format!("stop {node}"),
        }
    }

    fn clock(&mut self) -> String {
        let node = self.node();
        match self.random.below(3) {
            0 => {
                let minutes = self.random.below(2 * 2_000) as i64 - 2_000;
                format!("clock {node} {minutes}")
            }
            1 => {
                let ppm = self.random.below(2 * 5_000 + 1) as i64 - 5_000;
                format!("drift {node} {ppm}")
            }
            _ => format!("pause {node}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_whole_scenario() {
        assert_eq!(Scenario::from_seed(5), Scenario::from_seed(5));
        let seeds: Vec<Scenario> = (0..100).map(Scenario::from_seed).collect();
        assert!(Mode::ALL.iter().all(|mode| seeds.iter().any(|seed| seed.any(|it| it == *mode))));
        assert!((1..=3).all(|count| seeds.iter().any(|seed| seed.hierarchies.len() == count)));
    }
}
