//! Whether the nodes are fit for what they are to protect: what was found, where, how bad it is and what to do.
//!
//! Decides what follows from what nodes say of themselves, and never asks or measures: a node is examined by
//! [`node`](crate::node), and what can only be measured comes from the driver as a [`Survey`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::names::{HierarchyName, KitName, NodeName, Tag};
use crate::node::Weight;
use crate::time::{Millis, Now, UnixMs};

/// Findings of one node that are told, at the most; the rest is counted. Nobody reads more, and a message has to end.
pub const FINDINGS_MAX: usize = 500;
/// The longest text of a finding, in characters: what a program said is not told twice over.
pub const TEXT_CHARS_MAX: usize = 1_000;
/// Clocks further apart than this make logs of two nodes hard to lay side by side, and the times of files lie.
pub const CLOCKS_APART_WARNING: Millis = Millis::from_secs(5);
/// Clocks further apart than this break what is signed with the time: DNS updates (the fudge of RFC 8945 §10 is 300 s)
/// and Kerberos (5 minutes, RFC 4120 §8.2).
pub const CLOCKS_APART_BLOCKING: Millis = Millis::from_secs(300);
/// A health check may take this long at least, so that one question can be answered at all,
pub const WITHIN_MIN: Millis = Millis::from_secs(1);
/// and this long at the most: whoever waits longer has forgotten it.
pub const WITHIN_MAX: Millis = Millis::from_mins(10);

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// For programs: what sort of thing.
    pub code: String,
    /// On which node.
    pub node: NodeName,
    /// In which hierarchy, if in one.
    pub hierarchy: Option<HierarchyName>,
    /// Of which resource, if of one.
    pub tag: Option<Tag>,
    /// What was found, for people.
    pub summary: String,
    /// What to do about it.
    pub advice: String,
}

impl Finding {
    /// Of a whole node.
    pub fn new(
        weight: Weight,
        code: &str,
        node: &NodeName,
        summary: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (summary, advice) = (summary.into(), advice.into());
        Self { weight, code: code.into(), node: node.clone(), hierarchy: None, tag: None, summary, advice }
    }

    /// The same, of a resource.
    #[must_use]
    pub fn of(self, hierarchy: &HierarchyName, tag: &Tag) -> Self {
        Self { hierarchy: Some(hierarchy.clone()), tag: Some(tag.clone()), ..self }
    }

    /// The same, of a hierarchy.
    #[must_use]
    pub fn in_hierarchy(self, hierarchy: &HierarchyName) -> Self {
        Self { hierarchy: Some(hierarchy.clone()), ..self }
    }
}

/// What a driver has measured on its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The version of the contract with kits that is served.
    pub contract: String,
    /// The operating system.
    pub system: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// What a node says of itself when it is examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Whose.
    pub node: NodeName,
    /// Of mainstay.
    pub software: String,
    /// The version of the contract with kits that it serves; empty when that was not found out in time.
    pub contract: String,
    /// Its operating system; empty likewise.
    pub system: String,
    /// The version of each of its kits.
    pub kits: BTreeMap<KitName, String>,
    /// What its wall clock showed when the question came.
    pub clock: UnixMs,
    /// From then to this answer.
    pub held: Millis,
    /// What was found, what matters most first.
    pub findings: Vec<Finding>,
    /// So many more were found.
    #[serde(default)]
    pub left_off: u32,
}

impl NodeReport {
    /// As it is told: what matters most first, no more and no longer than anybody reads. What comes from a peer is made so
    /// again, and it speaks for itself alone.
    #[must_use]
    pub fn bounded(mut self, node: &NodeName) -> Self {
        self.node = node.clone();
        self.findings.sort_by(order);
        let more = self.findings.len().saturating_sub(FINDINGS_MAX);
        self.left_off = self.left_off.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.findings.truncate(FINDINGS_MAX);
        for finding in &mut self.findings {
            finding.node = node.clone();
            for text in [&mut finding.code, &mut finding.summary, &mut finding.advice] {
                clip(text);
            }
        }
        [&mut self.software, &mut self.contract, &mut self.system].into_iter().for_each(clip);
        self
    }
}

/// The whole health check, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The cluster's name.
    pub cluster: String,
    /// The node that was asked.
    pub node: NodeName,
    /// When.
    pub at: UnixMs,
    /// What it was about; none: everything.
    pub hierarchy: Option<HierarchyName>,
    /// Each node it is about.
    pub nodes: Vec<NodeFacts>,
    /// All that was found, what matters most first.
    pub findings: Vec<Finding>,
}

impl HealthReport {
    /// How bad the worst is; none: nothing was found.
    #[must_use]
    pub fn worst(&self) -> Option<Weight> {
        self.findings.iter().map(|finding| finding.weight).max()
    }
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// Which.
    pub node: NodeName,
    /// Whether it has answered: of one that has not, nothing else is known.
    pub answered: bool,
    /// Of mainstay.
    pub software: String,
    /// The version of the contract with kits that it serves.
    pub contract: String,
    /// Its operating system.
    pub system: String,
    /// The version of each of its kits.
    pub kits: BTreeMap<KitName, String>,
    /// How far its clock is ahead of that of the node that was asked, in ms; it is behind when less than nothing.
    pub clock_ahead_ms: i64,
}

impl NodeFacts {
    /// Of a node that has answered.
    #[must_use]
    pub fn of(report: &NodeReport, clock: Option<ClockSeen>) -> Self {
        Self {
            node: report.node.clone(),
            answered: true,
            software: report.software.clone(),
            contract: report.contract.clone(),
            system: report.system.clone(),
            kits: report.kits.clone(),
            clock_ahead_ms: clock.map_or(0, |clock| clock.ahead_ms),
        }
    }

    /// Of one that has not.
    #[must_use]
    pub fn unanswered(node: &NodeName) -> Self {
        Self {
            node: node.clone(),
            answered: false,
            software: String::new(),
            contract: String::new(),
            system: String::new(),
            kits: BTreeMap::new(),
            clock_ahead_ms: 0,
        }
    }
}

/// A peer's clock as it is seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSeen {
    /// How far it is ahead, in ms; behind when less than nothing.
    pub ahead_ms: i64,
    /// How far that may be wrong: half of the time that question and answer were on their way.
    pub wrong_by: Millis,
}

impl ClockSeen {
    /// From when the question was asked and its answer heard, both here.
    #[must_use]
    pub fn from(asked: Now, heard: Now, report: &NodeReport) -> Self {
        let on_the_way = heard.monotonic.since(asked.monotonic).0.saturating_sub(report.held.0);
        let half = on_the_way / 2;
        let here = i128::from(asked.unix.0) + i128::from(half);
        let ahead = (i128::from(report.clock.0) - here).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Self { ahead_ms: i64::try_from(ahead).unwrap_or(i64::MAX), wrong_by: Millis(half) }
    }

    /// How far the clocks are apart for certain.
    fn apart(self) -> Millis {
        Millis(self.ahead_ms.unsigned_abs().saturating_sub(self.wrong_by.0))
    }
}

/// What differs between two nodes and should not, told of the one there.
#[must_use]
pub fn compare(here: &NodeReport, there: &NodeReport, clock: ClockSeen) -> Vec<Finding> {
    let mut found = Vec::new();
    let (me, node) = (&here.node, &there.node);
    let mut differs = |code: &str, what: &str, ours: &str, theirs: &str, advice: &str| {
        if ours != theirs && !ours.is_empty() && !theirs.is_empty() {
            let summary = alloc::format!("{what} is {theirs}, and {ours} on {me}");
            found.push(Finding::new(Weight::Warning, code, node, summary, advice));
        }
    };
    differs(
        "mainstay-differs",
        "mainstay",
        &here.software,
        &there.software,
        "Put the same version on all nodes, one after the other, the standby first",
    );
    differs(
        "contract-differs",
        "the contract with kits",
        &here.contract,
        &there.contract,
        "A kit built for the newer one is refused where the older one is served: upgrade mainstay there first",
    );
    found.extend(apart(me, node, clock));
    found
}

/// Which of these kits, those of a hierarchy, differ between the nodes that it may run on.
#[must_use]
pub fn compare_kits(hierarchy: &HierarchyName, kits: &BTreeSet<&KitName>, nodes: &[&NodeReport]) -> Vec<Finding> {
    let mut found = Vec::new();
    for kit in kits {
        // A node that lacks one tells it itself.
        let mut having = nodes.iter().filter_map(|report| Some((&report.node, report.kits.get(*kit)?)));
        let Some((first, version)) = having.next() else { continue };
        for (node, theirs) in having.filter(|(_, theirs)| *theirs != version) {
            let summary = alloc::format!("kit {kit} is {theirs}, and {version} on {first}");
            let advice = "Put the same file into the kit directories of all nodes: until then it does not fail over between them by itself";
            found.push(Finding::new(Weight::Blocking, "kit-differs", node, summary, advice).in_hierarchy(hierarchy));
        }
    }
    found
}

/// What is wrong with a peer's clock.
fn apart(me: &NodeName, node: &NodeName, clock: ClockSeen) -> Option<Finding> {
    let weight = match clock.apart() {
        apart if apart < CLOCKS_APART_WARNING => return None,
        apart if apart < CLOCKS_APART_BLOCKING => Weight::Warning,
        _ => Weight::Blocking,
    };
    let seconds = clock.ahead_ms.unsigned_abs() / 1000;
    let side = if clock.ahead_ms < 0 { "behind" } else { "ahead of" };
    let summary = alloc::format!("its clock is {seconds} s {side} that of {me}");
    let advice = "Set both by the same time servers (NTP): DNS updates and Kerberos are refused when a clock is 300 s wrong, and certificates count by it";
    Some(Finding::new(weight, "clock-differs", node, summary, advice))
}

/// What matters most first, and then by place: the same findings are always in the same order.
#[must_use]
pub fn order(one: &Finding, other: &Finding) -> core::cmp::Ordering {
    let key = |it: &Finding| (core::cmp::Reverse(it.weight), it.node.clone(), it.hierarchy.clone(), it.tag.clone());
    key(one).cmp(&key(other)).then_with(|| (&one.code, &one.summary).cmp(&(&other.code, &other.summary)))
}

/// Some findings are not told.
#[must_use]
pub fn left_off(node: &NodeName, count: u32) -> Option<Finding> {
    let summary = alloc::format!("{count} more were found on it, none of them worse than those told");
    let advice = "See to those first, and ask again";
    (count > 0).then(|| Finding::new(Weight::Note, "left-off", node, summary, advice))
}

fn clip(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(at);
        text.push_str("...");
    }
}

/// A text as people write them, `what is wrong; what to do`, as its two parts.
#[must_use]
pub fn what_and_what_to_do(text: &str) -> (String, String) {
    let (what, advice) = text.split_once("; ").unwrap_or((text, "See to it, and ask again"));
    (what.to_string(), advice.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Monotonic;

    fn report(node: &str) -> NodeReport {
        NodeReport {
            node: node.into(),
            software: "0.1.0".into(),
            contract: "0.1.0".into(),
            system: "linux".into(),
            kits: BTreeMap::from([("dns".into(), "0.1.0 (aa)".into()), ("null".into(), "0.1.0 (cc)".into())]),
            clock: UnixMs(1_000_000),
            held: Millis(0),
            findings: Vec::new(),
            left_off: 0,
        }
    }

    const TOGETHER: ClockSeen = ClockSeen { ahead_ms: 0, wrong_by: Millis(1) };

    #[track_caller]
    fn check(here: &NodeReport, there: &NodeReport, clock: ClockSeen, expected: &[(Weight, &str, &str)]) {
        let (name, kit) = ("mail".into(), "dns".into());
        let mut found = compare(here, there, clock);
        found.extend(compare_kits(&name, &BTreeSet::from([&kit]), &[here, there]));
        let found: Vec<_> = found.iter().map(|it| (it.weight, it.code.as_str(), it.summary.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn nodes_that_are_alike_have_nothing_to_tell() {
        check(&report("a"), &report("b"), TOGETHER, &[]);
    }

    #[test]
    fn what_differs_is_told_of_the_other_node() {
        let mut b = report("b");
        b.software = "0.2.0".into();
        b.contract = "0.1.1".into();
        b.kits.insert("dns".into(), "0.1.0 (bb)".into());
        b.kits.insert("null".into(), "0.1.0 (dd)".into());
        check(
            &report("a"),
            &b,
            TOGETHER,
            &[
                (Weight::Warning, "mainstay-differs", "mainstay is 0.2.0, and 0.1.0 on a"),
                (Weight::Warning, "contract-differs", "the contract with kits is 0.1.1, and 0.1.0 on a"),
                (Weight::Blocking, "kit-differs", "kit dns is 0.1.0 (bb), and 0.1.0 (aa) on a"),
            ],
        );
    }

    #[test]
    fn what_a_node_has_not_told_differs_from_nothing() {
        let mut b = report("b");
        b.contract = String::new();
        b.kits.clear();
        check(&report("a"), &b, TOGETHER, &[]);
    }

    #[test]
    fn clocks_may_be_as_far_apart_as_the_way_is_long() {
        let clock = |ahead_ms, wrong_by| ClockSeen { ahead_ms, wrong_by: Millis(wrong_by) };
        let (a, b) = (report("a"), report("b"));
        check(&a, &b, clock(4_999, 0), &[]);
        check(&a, &b, clock(9_000, 4_001), &[]);
        check(
            &a,
            &b,
            clock(9_000, 4_000),
            &[(Weight::Warning, "clock-differs", "its clock is 9 s ahead of that of a")],
        );
        check(&a, &b, clock(-299_000, 0), &[(Weight::Warning, "clock-differs", "its clock is 299 s behind that of a")]);
        check(
            &a,
            &b,
            clock(-300_000, 0),
            &[(Weight::Blocking, "clock-differs", "its clock is 300 s behind that of a")],
        );
        check(
            &a,
            &b,
            clock(i64::MIN, 0),
            &[(Weight::Blocking, "clock-differs", "its clock is 9223372036854775 s behind that of a")],
        );
    }

    #[test]
    fn a_clock_is_read_in_the_middle_of_the_way_and_not_of_the_wait() {
        let now = |ms: u64| Now { monotonic: Monotonic(ms), unix: UnixMs(50_000 + ms) };
        // 20 ms there and back, and 5 s of work in between: the question came at 110 of its clock's 70_110.
        let b = NodeReport { clock: UnixMs(70_110), held: Millis(5_000), ..report("b") };
        let seen = ClockSeen::from(now(100), now(5_120), &b);
        assert_eq!(seen, ClockSeen { ahead_ms: 20_000, wrong_by: Millis(10) });
        // Numbers at the end of their range.
        let b = NodeReport { clock: UnixMs(u64::MAX), held: Millis(u64::MAX), ..report("b") };
        assert_eq!(ClockSeen::from(now(100), now(100), &b).ahead_ms, i64::MAX);
    }

    #[test]
    fn what_is_told_has_an_end_and_the_worst_is_in_it() {
        let mut b = report("b");
        let long = "é".repeat(TEXT_CHARS_MAX + 1);
        for _ in 0..FINDINGS_MAX + 3 {
            b.findings.push(Finding::new(Weight::Note, "n", &"b".into(), long.as_str(), ""));
        }
        b.findings.push(Finding::new(Weight::Blocking, "worst", &"somebody-else".into(), "bad", "mend it"));
        let b = b.bounded(&"b".into());
        assert_eq!((b.findings.len(), b.left_off), (FINDINGS_MAX, 4));
        assert_eq!((b.findings[0].code.as_str(), b.findings[0].node.as_str()), ("worst", "b"));
        assert_eq!(b.findings[1].summary.chars().count(), TEXT_CHARS_MAX + 3);
        let again = b.clone().bounded(&"b".into());
        assert_eq!(again.left_off, 4, "what is bounded stays as it is");
        assert_eq!(
            left_off(&"b".into(), 4).unwrap().summary,
            "4 more were found on it, none of them worse than those told"
        );
        assert_eq!(left_off(&"b".into(), 0), None);
    }

    #[test]
    fn a_node_from_before_is_not_asked_and_one_from_later_is_understood() {
        let told = |more: &str| {
            let text = alloc::format!(
                r#"{{"cluster": "c", "from": "b", "incarnation": 1, "version": 1, "heard": 1, "config_hash": "x",
                    "software": "0.0.9", "hierarchies": [], "alarms": []{more}}}"#
            );
            serde_json::from_str::<crate::message::PeerState>(&text).expect("it can be read")
        };
        assert!(!told("").examines);
        assert!(told(r#", "examines": true, "from-later": 1"#).examines);
    }

    #[test]
    fn the_worst_comes_first() {
        let finding = |weight, node: &str| Finding::new(weight, "x", &node.into(), "", "");
        let mut found = [finding(Weight::Note, "a"), finding(Weight::Blocking, "b"), finding(Weight::Blocking, "a")];
        found.sort_by(order);
        let order: Vec<_> = found.iter().map(|it| (it.weight, it.node.as_str())).collect();
        assert_eq!(order, [(Weight::Blocking, "a"), (Weight::Blocking, "b"), (Weight::Note, "a")]);
    }
}
