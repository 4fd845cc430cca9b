//! What the nodes tell of what happens: the lines of `mainstay events --json`, kept in one log.
//!
//! Only what the demo looks at is read; whatever else there is is left alone.

mod share;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

pub(crate) use share::Move;

use crate::timeline::{Look, Timeline, Who};

/// Events that are kept: a demo has some hundreds; one that is left running to play with forgets the oldest.
const KEPT_MAX: usize = 20_000;

/// One event.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Event {
    /// From 1, without gaps, within one daemon.
    pub(crate) number: u64,
    /// When it was told, in µs since the daemon started.
    pub(crate) since_start_us: u64,
    /// As people read it.
    pub(crate) text: String,
    /// When it happened, in ms since 1970.
    pub(crate) at: u64,
    /// About which resource.
    pub(crate) tag: Option<String>,
    /// What.
    pub(crate) what: What,
}

/// What has happened, as far as the demo looks at it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum What {
    /// A kit begins to do something.
    OperationBegan {
        /// What.
        operation: String,
    },
    /// It has ended.
    OperationEnded {
        /// What.
        operation: String,
        /// Did it do what it is for?
        ok: bool,
    },
    /// A check was bad.
    BadCheck {},
    /// The node has claimed.
    Claimed {},
    /// The node gives it away.
    Released {},
    /// Another node has claimed, or released.
    Learned {},
    /// The node does not take what it was offered.
    Declined {},
    /// All of it is in service on the node.
    InService,
    /// An operator has asked for something.
    Request {},
    /// An alarm.
    AlarmRaised {
        /// What it says.
        text: String,
    },
    /// An alarm is over.
    AlarmCleared {},
    /// A node is there or is not.
    Node {
        /// Is it there?
        reach: String,
    },
    /// The journal was damaged.
    JournalDamaged,
    /// The daemon was late.
    OwnGap {},
    /// Everything else.
    #[serde(other)]
    Other,
}

/// An event of a node.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Whose.
    pub(crate) node: &'static str,
    /// Of which of its daemons: the process.
    pub(crate) daemon: u32,
    /// What.
    pub(crate) event: Event,
}

/// Everything that was told, in the order in which it came. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct EventLog {
    timeline: Timeline,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    forgotten: usize,
    events: Vec<Seen>,
}

/// A moment in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

impl EventLog {
    /// One that shows what matters on this timeline.
    pub(crate) fn new(timeline: Timeline) -> Self {
        Self { timeline, kept: Arc::default() }
    }

    /// A node tells an event.
    pub(crate) fn tell(&self, seen: Seen) {
        if let Some(look) = look(&seen.event.what) {
            self.timeline.line_at(seen.event.at, Who::Node(seen.node), look, &seen.event.text);
        }
        let mut kept = self.lock();
        if kept.events.len() == KEPT_MAX {
            // By halves, so that it is not done for every event.
            kept.events.drain(..KEPT_MAX / 2);
            kept.forgotten += KEPT_MAX / 2;
        }
        kept.events.push(seen);
    }

    /// Now.
    pub(crate) fn mark(&self) -> Mark {
        let kept = self.lock();
        Mark(kept.forgotten + kept.events.len())
    }

    /// What came after that moment.
    pub(crate) fn since(&self, mark: Mark) -> Vec<Seen> {
        let kept = self.lock();
        kept.events.iter().skip(mark.0.saturating_sub(kept.forgotten)).cloned().collect()
    }

    /// The first event of a node after that moment that is of this kind.
    pub(crate) fn find(&self, mark: Mark, node: &str, is: impl Fn(&Event) -> bool) -> Option<Event> {
        self.since(mark)
            .into_iter()
            .map(|seen| (seen.node, seen.event))
            .find_map(|(of, event)| (of == node && is(&event)).then_some(event))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an event looks on the timeline; none: it would only hide the others.
fn look(what: &What) -> Option<Look> {
    match what {
        What::OperationEnded { ok: false, .. }
        | What::BadCheck {}
        | What::Declined {}
        | What::AlarmRaised { .. }
        | What::JournalDamaged
        | What::OwnGap {} => Some(Look::Bad),
        What::Node { reach } => Some(if reach == "alive" { Look::Plain } else { Look::Bad }),
        What::InService => Some(Look::Good),
        What::OperationBegan { operation } if operation == "recover" => Some(Look::Plain),
        What::OperationEnded { .. }
        | What::Claimed {}
        | What::Released {}
        | What::Request {}
        | What::AlarmCleared {} => Some(Look::Plain),
        What::OperationBegan { .. } | What::Learned {} | What::Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_binary_is_read_and_unknown_kinds_are_let_be() {
        let line = r#"{"number":7,"since_start_us":1250,"text":"web/shop: recover begins (failed-check)","at":1700000000000,
            "severity":"info","hierarchy":"web","tag":"shop",
            "what":{"kind":"operation-began","operation":"recover","attempt":1,"cause":"failed-check"}}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.what, What::OperationBegan { operation: "recover".into() });
        assert_eq!((event.number, event.since_start_us, event.tag.as_deref()), (7, 1250, Some("shop")));
        for (kind, what) in [
            (r#"{"kind":"in-service"}"#, What::InService),
            (r#"{"kind":"claimed","claim":{"counter":1},"cause":"start"}"#, What::Claimed {}),
            (r#"{"kind":"plan","cause":"start","steps":[]}"#, What::Other),
            (r#"{"kind":"of-a-later-version","more":[1,2]}"#, What::Other),
        ] {
            assert_eq!(serde_json::from_str::<What>(kind).unwrap(), what, "{kind}");
        }
    }
}
