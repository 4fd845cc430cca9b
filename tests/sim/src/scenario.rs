//! A scenario: a cluster, its settings, and the trouble it gets into. All of it is plain data that a case file can hold;
//! [`Scenario::from_seed`] makes one from a seed alone.

use std::fmt::Write as _;

use mainstay_core::names::NodeName;
use mainstay_core::time::Millis;

use crate::network::Quality;

/// The nodes that a cluster may have, and which come first.
pub const NODES: [&str; 4] = ["a", "b", "c", "d"];
/// The comm paths, in order of priority.
pub const PATHS: [&str; 3] = ["one", "two", "three"];
/// The hierarchies that a cluster may have, and what the tags of their resources begin with.
pub const HIERARCHIES: [(&str, char); 3] = [("h", 'r'), ("i", 's'), ("j", 't')];
/// How long a node of higher priority has to be ready before a hierarchy goes back to it.
const SWITCHBACK_DELAY: Millis = Millis::from_secs(20);
/// Fences of two nodes differ by so much: longer than a fence command may take.
const FENCE_DELAY_EACH: u64 = 6;

/// How an owner that falls silent is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By an operator's word.
    Confirm,
    /// By an operator's word, or after a while over comm paths alone.
    ConfirmInTime,
    /// Over comm paths alone.
    Automatic,
    /// By a fence.
    Fence,
    /// By a permit, with a guardian.
    Arbiter,
    /// By a permit, with a watchdog.
    Watchdog,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Confirm, Self::ConfirmInTime, Self::Automatic, Self::Fence, Self::Arbiter, Self::Watchdog];

    /// As a case file says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::ConfirmInTime => "confirm-in-time",
            Self::Automatic => "automatic",
            Self::Fence => "fence",
            Self::Arbiter => "arbiter",
            Self::Watchdog => "watchdog",
        }
    }

    /// Whether there is an arbiter.
    #[must_use]
    pub fn has_arbiter(self) -> bool {
        matches!(self, Self::Arbiter | Self::Watchdog)
    }

    /// Whether a hierarchy may have it in a cluster of so many nodes and comm paths, beside these: the config check asks the
    /// same, and a node fences itself in one way.
    #[must_use]
    pub fn fits(self, nodes: usize, paths: usize, others: &[Hierarchy]) -> bool {
        match self {
            Self::Confirm => true,
            Self::ConfirmInTime | Self::Automatic | Self::Fence => nodes == 2 && paths >= 2,
            Self::Arbiter | Self::Watchdog => others.iter().all(|it| it.mode == self || !it.mode.has_arbiter()),
        }
    }
}

/// One of the hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// How an owner is replaced.
    pub mode: Mode,
    /// The node of highest priority; the others follow in their order, and then those before it.
    pub first: usize,
    /// It goes back by itself after a failover.
    pub switches_back: bool,
    /// For each resource, on which of the earlier ones it depends, as bits.
    pub tree: Vec<u8>,
}

/// What the network is like when nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lan {
    /// A switch.
    Good,
    /// A busy switch: jitter, a lost packet now and then.
    Busy,
    /// Two houses.
    Far,
}

impl Lan {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Good, Self::Busy, Self::Far];

    /// As a case file says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Far => "far",
        }
    }

    /// What that means.
    #[must_use]
    pub fn quality(self) -> Quality {
        match self {
            Self::Good => Quality { delay: Millis(1), jitter: Millis(1), loss: 0, doubled: 0, spikes: 0 },
            Self::Busy => Quality { delay: Millis(1), jitter: Millis(8), loss: 5, doubled: 2, spikes: 5 },
            Self::Far => Quality { delay: Millis(12), jitter: Millis(6), loss: 10, doubled: 1, spikes: 2 },
        }
    }
}

/// Something that is wrong for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From when on, since the cluster was started.
    pub at: Millis,
    /// For how long; nothing: it happens once.
    pub lasts: Millis,
    /// What, in words: see [`crate::faults`].
    pub what: String,
}

/// A cluster and its trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Of all dice that are thrown while it runs.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many comm paths.
    pub paths: usize,
    /// What the network is like.
    pub lan: Lan,
    /// A heartbeat this often.
    pub heartbeat: Millis,
    /// A path is dead after so many without one.
    pub misses: u32,
    /// What is found running where it is not owned is removed.
    pub remove_violations: bool,
    /// The arbiter grants leases so much longer than asked.
    pub granted_longer: Millis,
    /// The hierarchies, one at least.
    pub hierarchies: Vec<Hierarchy>,
    /// What is wrong, and when.
    pub faults: Vec<Fault>,
}

impl Scenario {
    /// The nodes' names.
    #[must_use]
    pub fn node_names(&self) -> Vec<NodeName> {
        NODES[..self.nodes].iter().map(|name| NodeName::from(*name)).collect()
    }

    /// Whether one of the hierarchies has such a mode.
    #[must_use]
    pub fn any(&self, mode: impl Fn(Mode) -> bool) -> bool {
        self.hierarchies.iter().any(|it| mode(it.mode))
    }

    /// When the last trouble is over.
    #[must_use]
    pub fn trouble_ends(&self) -> Millis {
        Millis(self.faults.iter().map(|fault| fault.at.0 + fault.lasts.0).max().unwrap_or_default())
    }

    /// How long a path is silent before it is dead.
    #[must_use]
    pub fn dead_time(&self) -> Millis {
        Millis(self.heartbeat.0 * u64::from(self.misses))
    }

    /// The config of the cluster, as an operator would write it.
    #[must_use]
    pub fn config(&self) -> String {
        let mut text = String::from("cluster = \"c\"\nkits = \"/k\"\n");
        if self.any(Mode::has_arbiter) {
            text += "[arbiter]\netcd = [\"http://127.0.0.1:2379\"]\nlease = \"10s\"\nrenew-interval = \"2s\"\nrequest-timeout = \"1s\"\ntries = 3\n";
            let by = if self.any(|mode| mode == Mode::Watchdog) { "watchdog" } else { "reboot" };
            let _ = writeln!(text, "[self-fence]\nby = \"{by}\"\ntakes = \"1s\"");
        }
        for (priority, path) in PATHS[..self.paths].iter().enumerate() {
            let hysteresis = Millis(2 * self.dead_time().0);
            let _ = writeln!(
                text,
                "[path.{path}]\npriority = {}\nheartbeat-interval = \"{}\"\ndead-after-misses = {}\nhysteresis = \"{hysteresis}\"",
                priority + 1,
                self.heartbeat,
                self.misses
            );
        }
        let names = &NODES[..self.nodes];
        for (number, node) in names.iter().enumerate() {
            let _ = writeln!(text, "[node.{node}]");
            for (path, name) in PATHS[..self.paths].iter().enumerate() {
                let _ = writeln!(text, "address.{name} = \"127.0.0.1:{}\"", 7000 + 100 * path + number);
            }
            if self.any(|mode| mode == Mode::Fence) {
                let delay = number as u64 * FENCE_DELAY_EACH;
                let _ = writeln!(
                    text,
                    "[node.{node}.fence]\ncommand = [\"/fence\"]\ntimeout = \"5s\"\ndelay = \"{delay}s\""
                );
            }
        }
        for (number, hierarchy) in self.hierarchies.iter().enumerate() {
            self.describe(number, hierarchy, &mut text);
        }
        text
    }

    fn describe(&self, number: usize, hierarchy: &Hierarchy, text: &mut String) {
        let (name, letter) = HIERARCHIES[number];
        let mut nodes = NODES[..self.nodes].to_vec();
        nodes.rotate_left(hierarchy.first);
        let failover = match hierarchy.mode {
            Mode::Confirm => "failover = \"confirm\"",
            Mode::ConfirmInTime => "failover = \"confirm\"\nconfirm-timeout = \"20s\"\naccept-split-brain = true",
            Mode::Automatic => "failover = \"automatic\"\naccept-split-brain = true",
            Mode::Fence => "failover = \"automatic\"",
            Mode::Arbiter | Mode::Watchdog => "failover = \"arbiter\"",
        };
        let _ = writeln!(
            text,
            "[hierarchy.{name}]\nnodes = {nodes:?}\nremove-violations = {}\n{failover}",
            self.remove_violations
        );
        if hierarchy.switches_back {
            let _ = writeln!(text, "switchback = \"automatic\"\nswitchback-delay = \"{SWITCHBACK_DELAY}\"");
        }
        for (number, bits) in hierarchy.tree.iter().enumerate() {
            let children: Vec<String> = (0..number.min(8))
                .filter(|child| bits & (1 << child) != 0)
                .map(|child| format!("{letter}{child}"))
                .collect();
            let _ = writeln!(
                text,
                "[hierarchy.{name}.resource.{letter}{number}]\nkit = \"null\"\ndepends-on = {children:?}\ncheck-interval = \"1s\"\nstandby-check-interval = \"5s\"\ndeep-check-interval = \"7s\"\n\
                 timeouts = {{ restore = \"2s\", remove = \"2s\", recover = \"2s\", quick-check = \"1s\", deep-check = \"2s\" }}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::spec::Spec;

    #[test]
    fn every_config_is_one_that_the_daemon_takes() {
        for mode in Mode::ALL {
            let nodes = if Mode::fits(mode, 4, 2, &[]) { 4 } else { 2 };
            let hierarchy = Hierarchy { mode, first: 1, switches_back: true, tree: vec![0, 1, 3] };
            let scenario = Scenario {
                seed: 1,
                nodes,
                paths: 2,
                lan: Lan::Good,
                heartbeat: Millis(1000),
                misses: 5,
                remove_violations: true,
                granted_longer: Millis(0),
                hierarchies: vec![hierarchy],
                faults: Vec::new(),
            };
            is_taken(&scenario);
        }
        (0..500).for_each(|seed| is_taken(&Scenario::from_seed(seed)));
    }

    fn is_taken(scenario: &Scenario) {
        let (spec, diagnostics) = Spec::read("config", &scenario.config());
        assert!(spec.is_some(), "{:?}: {:#?}", scenario.hierarchies, diagnostics.into_sorted());
    }
}
