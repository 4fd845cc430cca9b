//! Runs a case: calm, trouble, then all is mended and has to settle: one copy serves, both are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mainstay_core::names::NodeName;
use mainstay_core::time::{Millis, Monotonic};
use mainstay_volume_core::io::OperatorRequest;
use mainstay_volume_core::status::LinkState;

use super::case::Case;
use super::operator::Operator;
use super::world::Joined;
use crate::checks::{Trouble, rest};
use crate::faults::{self, Aside};
use crate::run::{Turn, all_is_mended, look_after, turns};
use crate::volume::run as volume;

/// Everything has to have settled so long after the last trouble, in ms: longer than dead times, leases, retries, timeouts
/// and people together.
const SETTLE: u64 = 240_000;
/// People look this often then.
const LOOK: u64 = 4_000;
/// A small workload begins when the copies are together and have been for so long.
const TOGETHER: u64 = 300;
/// A machine that was fenced comes back after this.
const RETURNS: Millis = Millis::from_secs(15);
/// The last requests of the application, after all is mended.
const LAST_REQUESTS: u64 = 40;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Which rule was broken, and how.
    pub broken: Option<String>,
    /// How often what occurred.
    pub counts: BTreeMap<String, u64>,
    /// What happened, if wanted.
    pub told: Vec<String>,
    /// How much time has passed in the world.
    pub simulated: Millis,
    /// Steps of the volume.
    pub steps: u64,
}

impl Outcome {
    /// The first words of what was broken: what two failures have in common.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.broken.as_ref().and_then(|text| text.split(':').next())
    }
}

impl Case {
    /// Runs it; with `tell`, what happens is told. A panic is a rule that was broken.
    #[must_use]
    pub fn run(&self, tell: bool) -> Outcome {
        let mut joined = Joined::new(&self.scenario, self.setting.clone());
        joined.cluster.quiet = !tell;
        joined.volume.told = tell.then(Vec::new);
        let ran = catch_unwind(AssertUnwindSafe(|| live(&mut joined, self)));
        let panicked = ran.err().map(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("panic: {}", text.unwrap_or_default())
        });
        let mut counts = std::mem::take(&mut joined.volume.counts);
        for what in COUNTED {
            counts.insert(format!("cluster {what}"), joined.cluster.coverage.times(what));
        }
        counts.retain(|_, count| *count > 0);
        Outcome {
            broken: panicked.or_else(|| joined.broken()),
            counts,
            told: joined.told(),
            simulated: joined.simulated(),
            steps: joined.volume.steps,
        }
    }

    /// The smallest case that fails in the same way, found by leaving out.
    #[must_use]
    pub fn shrink(&self, rule: &str) -> Self {
        let mut best = self.clone();
        let mut at = 0;
        while at < best.scenario.faults.len() {
            let mut candidate = best.clone();
            candidate.scenario.faults.remove(at);
            if candidate.run(false).rule() == Some(rule) { best = candidate } else { at += 1 }
        }
        best
    }
}

/// What of the cluster's own coverage is counted with the volume's.
const COUNTED: [&str; 14] = [
    "claim: failover",
    "claim: switchover",
    "claim: operator",
    "claim: undo",
    "claim: permit-lost",
    "word: true",
    "word: hasty",
    "arbiter: marked",
    "arbiter: mark refused",
    "arbiter: lease ran out",
    "guardian: fenced",
    "guardian: watchdog fired",
    "event: Fenced true",
    "plan: stale-owner",
];

fn live(joined: &mut Joined, case: &Case) {
    joined.cluster.checks.nothing_is_wrong_yet();
    for name in joined.names.clone() {
        joined.cluster.machine(&name).returns_after = Some(RETURNS);
        joined.cluster.start(&name);
    }
    let offset = begins(joined, case);
    let mut begun = BTreeSet::new();
    let mut answered = BTreeSet::new();
    let mut aside = Aside::default();
    for (at, turn) in turns(&case.scenario) {
        if at > case.scenario.trouble_ends() {
            break;
        }
        joined.run_until(offset + at.0, |_| false);
        if joined.broken().is_some() {
            return;
        }
        match turn {
            Turn::Begins(number) | Turn::Ends(number) => {
                let begins = matches!(turn, Turn::Begins(_));
                // A flap ends what has begun, and no more.
                if begins == begun.insert(number) {
                    fault(joined, &mut aside, case, number, begins);
                    if !begins || case.scenario.faults[number].lasts.0 == 0 {
                        joined.cluster.checks.trouble_over(number as u64, joined.cluster.now());
                    }
                }
                if !begins {
                    begun.remove(&number);
                }
            }
            Turn::Round => look_after(&mut joined.cluster, &case.scenario, &mut answered),
        }
        joined.exchange();
    }
    settle(joined, case);
}

/// When the trouble begins: at its times, or at a step of the small workload.
fn begins(joined: &mut Joined, case: &Case) -> u64 {
    let Some(step) = case.at_step else { return 0 };
    // Nothing is wrong yet, so this ends soon.
    let together = |joined: &Joined| (0..2).all(|m| joined.volume.link_state(m) == Some(LinkState::Connected));
    joined.run_until(60_000, together);
    let connected = joined.now();
    joined.run_until(connected + TOGETHER, |_| false);
    let first = joined.volume.steps;
    joined.run_until(connected + 60_000, |joined| joined.volume.steps >= first + step);
    joined.now()
}

fn fault(joined: &mut Joined, aside: &mut Aside, case: &Case, number: usize, begins: bool) {
    let what = &case.scenario.faults[number].what;
    let (mut nodes, arbiter) = faults::about(what);
    let words: Vec<&str> = what.split(' ').collect();
    let ours = matches!(words[0], "mirror" | "process" | "data-slow" | "data-fails" | "data-lost" | "volume");
    if ours {
        nodes = joined.names.to_vec();
    }
    if begins {
        let trouble = Trouble { from: Monotonic(joined.now()), until: None, nodes: nodes.clone(), arbiter };
        joined.cluster.checks.trouble(number as u64, trouble);
        let name = words
            .iter()
            .filter(|word| !["a", "b", "h"].contains(word) && !word.starts_with(|c: char| c.is_ascii_digit()));
        let name: Vec<&str> = name.take(2).copied().collect();
        joined.volume.count(&format!("fault {}", name.join(" ")));
    }
    let shown = nodes.first().cloned().unwrap_or_else(|| NodeName::from("-"));
    joined.cluster.note(&shown, &format!("** {what}{}", if begins { "" } else { " (over)" }));
    if ours {
        volume_fault(joined, &words, begins);
    } else if let Err(why) = faults::turn(&mut joined.cluster, aside, number as u64, what, begins) {
        joined.volume.fail(|| format!("case: {why}"));
    }
}

fn volume_fault(joined: &mut Joined, words: &[&str], begins: bool) {
    let m = usize::from(words.get(1) == Some(&"b"));
    match words {
        ["mirror", how] => joined.cut_mirror(begins, *how == "noticed"),
        // Its daemon starts it again, if it lives.
        ["process", _] if begins => joined.end(m, false),
        ["data-slow", _, ms] => {
            joined.volume.slow[m] = if begins { ms.parse().unwrap_or_default() } else { 0 };
        }
        ["data-fails", _] => {
            joined.volume.machines[m].broken = begins;
            if !begins {
                // Replaced, and the process is started with the new one.
                joined.end(m, false);
            }
        }
        ["data-lost", _] if begins => {
            // Where the other copy lacks something, that is gone whatever anybody does.
            let connected = (0..2).all(|m| joined.volume.link_state(m) == Some(LinkState::Connected));
            if connected || joined.volume.is_source(1 - m) && !joined.volume.is_source(m) {
                joined.volume.count("data lost");
                joined.end(m, false);
                let now = joined.volume.clock(m);
                joined.volume.machines[m].replace(now);
            }
        }
        ["volume", what] => {
            for m in 0..2 {
                let source = joined.volume.is_source(m);
                let request = match (*what, begins) {
                    ("pause", true) if source => OperatorRequest::Pause,
                    ("pause", false) => OperatorRequest::Resume,
                    ("verify", true) if source => OperatorRequest::Verify,
                    ("invalidate", true) if !source && joined.volume.is_source(1 - m) => OperatorRequest::Invalidate,
                    _ => continue,
                };
                joined.volume.operate(m, request);
            }
        }
        _ => {}
    }
}

fn settle(joined: &mut Joined, case: &Case) {
    let Some(name) = joined.names.first().cloned() else { return };
    joined.cluster.note(&name, "** all is mended");
    joined.mirror_cuts = 0;
    joined.volume.link_cut = false;
    joined.volume.slow = [0; 2];
    for m in 0..2 {
        if std::mem::take(&mut joined.volume.machines[m].broken) {
            joined.end(m, false);
        }
    }
    all_is_mended(&mut joined.cluster);
    joined.volume.want_requests(LAST_REQUESTS);
    let until = joined.now() + SETTLE;
    let mut operator = Operator::default();
    let mut answered = BTreeSet::new();
    while joined.broken().is_none() {
        let next = joined.now() + LOOK;
        if joined.run_until(next, volume_settled) && rest::at_rest(&joined.cluster).is_ok() {
            break;
        }
        // The cluster may need longer than the copies.
        joined.run_until(next, |_| false);
        operator.looks(joined);
        look_after(&mut joined.cluster, &case.scenario, &mut answered);
        if joined.now() >= until {
            let states: Vec<String> = (0..2)
                .map(|m| {
                    format!(
                        "{:?}",
                        joined.volume.machines[m].volume.as_ref().map(mainstay_volume_core::volume::Volume::status)
                    )
                })
                .collect();
            let cluster = rest::at_rest(&joined.cluster).err().unwrap_or_default();
            joined.volume.fail(|| format!("rest: nothing settles: {cluster} {}", states.join(" / ")));
        }
    }
    if joined.broken().is_none() {
        volume::judge_rest(&mut joined.volume);
    }
}

fn volume_settled(joined: &Joined) -> bool {
    volume::is_settled(&joined.volume)
}
