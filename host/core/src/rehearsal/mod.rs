//! What would happen if: the nodes themselves, played through with what is known of them.
//!
//! A [`Snapshot`] is what one node knows of the cluster. [`rehearse`] makes a [`Node`] for every node of it, lets them
//! meet over links on which nothing is lost, lets something happen, and gives what they say until nothing more is done. The
//! steps and their reasons come from the same code that would run. Kits do as they are told, at once; so the times
//! are those of waiting and deciding, not of applications.

mod stage;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::names::{HierarchyName, KitName, NodeName, PathName, Tag};
use crate::spec::Spec;
use crate::state::State;
use crate::status::{Event, What};
use crate::time::{Millis, UnixMs};
use stage::Stage;

/// How long the nodes have to come to rest before anything happens.
const MEETING: Millis = Millis::from_secs(60);
/// How long it is watched what comes of it, at the most.
const WATCHED: Millis = Millis::from_mins(60);
/// When for so long nothing is said, nothing more is going to be.
const QUIET: Millis = Millis::from_mins(15);

/// What one node knows of its cluster: enough to play through what would happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version of this.
    pub version: u32,
    /// Whose knowledge it is.
    pub node: NodeName,
    /// When.
    pub at: UnixMs,
    /// The config, as text.
    pub config: String,
    /// What is known of each node.
    pub nodes: BTreeMap<NodeName, NodeSnapshot>,
}

/// The version of [`Snapshot`] that this code writes and reads.
pub const SNAPSHOT_VERSION: u32 = 1;

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSnapshot {
    /// It is heard; one that is not is taken to be off.
    pub alive: bool,
    /// Its durable state: its own, or what it has told.
    pub state: State,
    /// What is wrong with resources there, by tag.
    pub unusable: BTreeMap<Tag, String>,
    /// Its kits.
    pub kits: BTreeMap<KitName, String>,
}

/// What happens in a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhatIf {
    /// A node loses its power.
    NodeDies(NodeName),
    /// A comm path carries nothing any more.
    PathBreaks(PathName),
    /// A resource fails where it is in service, and local recovery does not help.
    TagFails(Tag),
}

impl WhatIf {
    /// Reads `node NAME dies`, `path NAME breaks`, `TAG fails`.
    ///
    /// # Errors
    /// When it is none of these, with what can be said.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["node", name, "dies"] => Ok(Self::NodeDies(name.into())),
            ["path", name, "breaks"] => Ok(Self::PathBreaks(name.into())),
            [tag, "fails"] => Ok(Self::TagFails(tag.into())),
            _ => Err(alloc::format!(
                "`{text}` is nothing that can be played through: say \"node NAME dies\", \"path NAME breaks\" or \"TAG fails\""
            )),
        }
    }
}

impl fmt::Display for WhatIf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeDies(name) => write!(f, "node {name} dies"),
            Self::PathBreaks(name) => write!(f, "path {name} breaks"),
            Self::TagFails(tag) => write!(f, "{tag} fails"),
        }
    }
}

/// Something that is said in a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// So long after it happened, in ms.
    pub after_ms: u64,
    /// By whom.
    pub node: NodeName,
    /// What.
    pub event: Event,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// What was said, in order.
    pub said: Vec<Said>,
    /// Where each hierarchy is in service afterwards, as far as every resource of it runs; by name.
    pub serving: BTreeMap<HierarchyName, Vec<NodeName>>,
}

/// Plays through what would happen.
///
/// # Errors
/// When the snapshot cannot be read, or what is to happen is about nothing in it.
pub fn rehearse(snapshot: &Snapshot, what: &WhatIf) -> Result<Rehearsed, String> {
    if snapshot.version != SNAPSHOT_VERSION {
        return Err(alloc::format!(
            "the snapshot is of version {}, and this mainstay reads {SNAPSHOT_VERSION}: make one with the mainstay that is to play it through",
            snapshot.version
        ));
    }
    let (spec, diagnostics) = Spec::read("the snapshot's config", &snapshot.config);
    let Some(spec) = spec else {
        let all: Vec<String> = diagnostics.into_sorted().iter().map(ToString::to_string).collect();
        return Err(all.join("\n"));
    };
    check(&spec, what)?;
    let mut stage = Stage::new(snapshot, spec);
    stage.run(MEETING, MEETING);
    stage.said.clear();
    let began = stage.now;
    stage.happen(what)?;
    stage.run(WATCHED, QUIET);
    let said = core::mem::take(&mut stage.said)
        .into_iter()
        .map(|(at, node, event)| Said { after_ms: at.since(began).0, node, event })
        .collect();
    Ok(Rehearsed { said, serving: stage.serving() })
}

fn check(spec: &Spec, what: &WhatIf) -> Result<(), String> {
    let known = match what {
        WhatIf::NodeDies(name) => spec.nodes.contains_key(name),
        WhatIf::PathBreaks(name) => spec.paths.contains_key(name),
        WhatIf::TagFails(tag) => spec.hierarchies.values().any(|hierarchy| hierarchy.resources.contains_key(tag)),
    };
    if known { Ok(()) } else { Err(alloc::format!("\"{what}\": there is no such thing in the config")) }
}

/// What of it is worth telling to somebody who wants to know what would happen.
#[must_use]
pub fn matters(event: &Event) -> bool {
    !matches!(event.what, What::Started { .. } | What::BadCheck { .. } | What::OperationBegan { .. })
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::claim::Claim;
    use crate::state::{Cause, Ended, OperationKind, OperationState, Record};

    const CONFIG: &str = r#"
cluster = "c"
kits = "/k"
[path.one]
priority = 1
[path.two]
priority = 2
[node.a]
address = { one = "127.0.0.1:1", two = "127.0.0.1:2" }
[node.b]
address = { one = "127.0.0.1:3", two = "127.0.0.1:4" }
[hierarchy.h]
nodes = ["a", "b"]
MODE
[hierarchy.h.resource.app]
kit = "null"
depends-on = ["disk"]
[hierarchy.h.resource.disk]
kit = "null"
"#;

    /// Two nodes that have met, the first has it in service.
    fn snapshot(mode: &str) -> Snapshot {
        let claim = Claim::following(None, "a".into());
        let tags: BTreeSet<Tag> = ["app".into(), "disk".into()].into();
        let start = [
            Record::Started { incarnation: 1, boot: "b".into() },
            Record::Configured { hierarchy: "h".into(), tags: tags.clone() },
        ];
        let claimed = Record::Claimed {
            hierarchy: "h".into(),
            claim: claim.clone(),
            cause: Cause::Start,
            tried: BTreeSet::new(),
            failover: None,
            forced: false,
            word: false,
        };
        let arbitrated = Record::Arbitrated { hierarchy: "h".into() };
        let restored = tags.into_iter().flat_map(|tag| {
            let operation = OperationState {
                id: "1".into(),
                kind: OperationKind::Restore,
                attempt: 1,
                cause: Cause::Start,
                running: true,
                unheard: 0,
            };
            let began = Record::Began { hierarchy: "h".into(), tag: tag.clone(), operation, at: UnixMs(1) };
            [began, Record::Ended { hierarchy: "h".into(), tag, ended: Ended::Well }]
        });
        let settled = Record::Settled { hierarchy: "h".into() };
        let owner: Vec<Record> = start
            .iter()
            .cloned()
            .chain([claimed.clone(), arbitrated.clone()])
            .chain(restored)
            .chain([settled])
            .collect();
        let learned = Record::Learned {
            hierarchy: "h".into(),
            claim: Some(claim),
            standing: crate::state::Standing::default(),
            failovers: Vec::new(),
            intent: crate::state::Intent::Rest,
        };
        let standby: Vec<Record> = start.into_iter().chain([learned, arbitrated]).collect();
        let node =
            |records: &[Record]| NodeSnapshot { alive: true, state: State::replay(records), ..Default::default() };
        Snapshot {
            version: SNAPSHOT_VERSION,
            node: "a".into(),
            at: UnixMs(1_700_000_000_000),
            config: CONFIG.replace("MODE", mode),
            nodes: [("a".into(), node(&owner)), ("b".into(), node(&standby))].into(),
        }
    }

    fn serves(mode: &str, what: &str) -> String {
        let rehearsed = rehearse(&snapshot(mode), &WhatIf::parse(what).unwrap()).unwrap();
        crate::message::list(&rehearsed.serving["h"])
    }

    #[test]
    fn a_node_that_dies_is_taken_over_from_as_the_mode_says() {
        assert_eq!(serves("", "node a dies"), "", "the operator is asked");
        assert_eq!(serves("failover = \"automatic\"\naccept-split-brain = true", "node a dies"), "b");
        let arbiter =
            "failover = \"arbiter\"\n[arbiter]\netcd = [\"http://127.0.0.1:2379\"]\n[self-fence]\nby = \"reboot\"";
        assert_eq!(serves(arbiter, "node a dies"), "b");
        assert_eq!(serves(arbiter, "node b dies"), "a");
    }

    #[test]
    fn what_fails_moves_and_a_path_that_breaks_moves_nothing() {
        assert_eq!(serves("", "disk fails"), "b");
        assert_eq!(serves("block-failover = true", "disk fails"), "a", "it stays where it is, failed");
        assert_eq!(serves("", "path one breaks"), "a");
    }

    #[test]
    fn what_cannot_be_played_through_is_said() {
        let rehearse = |what: &str| rehearse(&snapshot(""), &WhatIf::parse(what)?);
        assert!(rehearse("node c dies").unwrap_err().contains("no such thing"));
        assert!(rehearse("everything fails at once").unwrap_err().contains("node NAME dies"));
        let text =
            rehearse("node a dies").unwrap().said.iter().map(|it| it.event.to_string()).collect::<Vec<_>>().join("\n");
        assert!(text.contains("ALARM") && text.contains("mainstay confirm h"), "{text}");
    }
}
