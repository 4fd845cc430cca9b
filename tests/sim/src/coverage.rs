//! What has occurred, and how often: faults, claims with their causes, moves, what was seen of peers, what became of
//! requests to the arbiter and of fences. A corpus in which something never occurs does not test it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mainstay_core::status::{Event, What};

/// What a corpus of fresh seeds has to have seen.
pub const REQUIRED: &[&str] = &[
    "alarm: config differs",
    "alarm: conflict",
    "alarm: kits differ",
    "alarm: no proof",
    "alarm: nobody took it",
    "alarm: offer pending",
    "alarm: only answers",
    "alarm: only beats",
    "alarm: ownership unknown",
    "alarm: silent owner",
    "alarm: violation",
    "arbiter: answer lost",
    "arbiter: done after it was given up",
    "arbiter: give refused",
    "arbiter: given",
    "arbiter: lease ran out",
    "arbiter: notice lost",
    "arbiter: renewed",
    "arbiter: request lost",
    "arbiter: take refused",
    "arbiter: taken",
    "claim: drain",
    "claim: failover",
    "claim: operator",
    "claim: permit-lost",
    "claim: start",
    "claim: switchback",
    "claim: switchover",
    "claim: undo",
    "event: AlarmCleared",
    "event: BadCheck",
    "event: Declined",
    "event: Fenced false",
    "event: Fenced true",
    "event: Fencing",
    "event: InService",
    "event: Jeopardy false",
    "event: Jeopardy true",
    "event: JournalDamaged",
    "event: Maintenance false",
    "event: Maintenance true",
    "event: OperationBegan",
    "event: OwnGap",
    "event: Request",
    "event: Started",
    "event: State",
    "fault: apart",
    "fault: app breaks",
    "fault: app dies",
    "fault: arbiter-away",
    "fault: arbiter-cut",
    "fault: arbiter-late",
    "fault: arbiter-leader",
    "fault: arbiter-lossy",
    "fault: arbiter-restore",
    "fault: arbiter-slow",
    "fault: arbiter-wipe",
    "fault: ask confirm",
    "fault: ask force",
    "fault: ask in-service",
    "fault: ask out-of-service",
    "fault: ask switchover",
    "fault: block",
    "fault: by-hand",
    "fault: clock",
    "fault: cut",
    "fault: damage",
    "fault: disk-slow",
    "fault: disk-stuck",
    "fault: drain",
    "fault: drift",
    "fault: fence fails",
    "fault: fence hangs",
    "fault: fence says-it-failed",
    "fault: fence says-nothing",
    "fault: fence works",
    "fault: flap",
    "fault: guardian",
    "fault: isolate",
    "fault: kill",
    "fault: kit check",
    "fault: kit deep-check",
    "fault: kit recover",
    "fault: kit assess",
    "fault: kit remove",
    "fault: kit restore",
    "fault: kit-slow",
    "fault: late-word",
    "fault: lose-disk",
    "fault: lossy",
    "fault: lossy-all",
    "fault: maintenance",
    "fault: older-config",
    "fault: older-kit",
    "fault: pause",
    "fault: power-off",
    "fault: slow",
    "fault: split",
    "fault: stop",
    "fault: suspend",
    "fault: true-word",
    "fault: unusable",
    "fence: fails",
    "fence: hangs",
    "fence: works",
    "fence: works and says it failed",
    "fence: works and says nothing",
    "guardian: fenced",
    "guardian: watchdog fired",
    "hierarchies: 1",
    "hierarchies: 2",
    "hierarchies: 3",
    "knock: answered",
    "knock: not answered",
    "network: datagram doubled",
    "node: alive",
    "node: left, its resources stay",
    "node: silent",
    "node: silent, although its machine answers",
    "offer: declined, told to the giver",
    "path: green",
    "path: red",
    "path: yellow",
    "plan: drain",
    "plan: failover",
    "plan: operator",
    "plan: permit-lost",
    "plan: restart-dependents",
    "plan: stale-owner",
    "plan: start",
    "plan: switchback",
    "plan: switchover",
    "plan: undo",
    "recover: failed",
    "recover: succeeded",
    "release: offered",
    "release: to nobody",
    "remove: failed",
    "remove: succeeded",
    "restore: failed",
    "restore: succeeded",
    "session: lost, nothing acknowledged",
    "session: lost, one way cut",
    "session: over another path",
    "session: stalled",
    "session: takes an older one's place",
    "withheld: another config",
    "withheld: another kit",
    "word: hasty",
    "word: true",
];

/// Counts.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    fixed: BTreeMap<&'static str, u64>,
    named: BTreeMap<String, u64>,
}

impl Coverage {
    /// It has occurred once more.
    pub fn count(&mut self, what: &'static str) {
        *self.fixed.entry(what).or_default() += 1;
    }

    /// As [`Self::count`], of what is known by a name only.
    pub fn count_named(&mut self, what: String) {
        *self.named.entry(what).or_default() += 1;
    }

    /// A node has told something.
    pub fn event(&mut self, event: &Event) {
        let debug = format!("{:?}", event.what);
        let kind = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if let What::Claimed { cause, .. } = &event.what {
            self.count_named(format!("claim: {cause}"));
        } else if let What::Plan { cause, .. } = &event.what {
            self.count_named(format!("plan: {cause}"));
        } else if let What::OperationEnded { operation, ok, .. } = &event.what {
            self.count_named(format!("{operation}: {}", if *ok { "succeeded" } else { "failed" }));
        } else if let What::Node { reach, .. } = &event.what {
            self.count_named(format!("node: {reach}"));
        } else if let What::Path { state, .. } = &event.what {
            self.count_named(format!("path: {state}"));
        } else if let What::Jeopardy { .. } | What::Fenced { .. } | What::Maintenance { .. } = &event.what {
            let on = debug.contains("on: true") || debug.contains("begins: true") || debug.contains("ok: true");
            self.count_named(format!("event: {kind} {on}"));
        } else if let What::Released { to } = &event.what {
            self.count(if to.is_some() { "release: offered" } else { "release: to nobody" });
        } else if let What::Learned { text } = &event.what {
            if text.contains("declined") {
                self.count("offer: declined, told to the giver");
            }
        } else if let What::AlarmRaised { text, .. } = &event.what {
            self.count(alarm(text));
            if text.contains("not taken over by itself: the config of") {
                self.count("withheld: another config");
            } else if text.contains("not taken over by itself: kit") {
                self.count("withheld: another kit");
            }
        } else {
            self.count_named(format!("event: {kind}"));
        }
    }

    /// Adds what has occurred in another run.
    pub fn add(&mut self, other: &Self) {
        for (what, times) in other.all() {
            *self.named.entry(what.to_owned()).or_default() += times;
        }
    }

    fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        let named = self.named.iter().map(|(what, times)| (what.as_str(), *times));
        self.fixed.iter().map(|(what, times)| (*what, *times)).chain(named)
    }

    /// How often it has.
    #[must_use]
    pub fn times(&self, what: &str) -> u64 {
        self.all().filter(|(known, _)| *known == what).map(|(_, times)| times).sum()
    }

    /// Which of these have never occurred.
    #[must_use]
    pub fn missing<'a>(&self, wanted: &[&'a str]) -> Vec<&'a str> {
        wanted.iter().copied().filter(|what| self.times(what) == 0).collect()
    }

    /// As a table, for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (what, times) in self.all() {
            *sums.entry(what).or_default() += times;
        }
        let mut out = String::new();
        for (what, times) in sums {
            let _ = writeln!(out, "{times:>12}  {what}");
        }
        out
    }
}

/// Alarms by what they are about; their words are for people, and begin with names.
fn alarm(text: &str) -> &'static str {
    const KINDS: [(&str, &str); 11] = [
        ("is silent on every comm path", "alarm: silent owner"),
        ("is another than this node's", "alarm: config differs"),
        ("the nodes have different kits", "alarm: kits differ"),
        ("have taken over", "alarm: conflict"),
        ("the journal of this node was damaged", "alarm: ownership unknown"),
        ("may not bring it in service until all have answered", "alarm: no proof"),
        ("was released and offered to", "alarm: offer pending"),
        ("could be brought in service on no node", "alarm: nobody took it"),
        ("is running here", "alarm: violation"),
        ("no heartbeats come from", "alarm: only answers"),
        ("heartbeats come from", "alarm: only beats"),
    ];
    KINDS.iter().find(|(words, _)| text.contains(words)).map_or("alarm: other", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_occurred_is_missing() {
        let mut one = Coverage::default();
        one.count("path: dead");
        one.count_named("path: dead".into());
        let mut sum = Coverage::default();
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.times("path: dead"), 4);
        assert_eq!(sum.missing(&["path: dead", "path: alive"]), ["path: alive"]);
    }
}
