//! mainstay's own share of a move: the time in which it moved nothing but itself.
//!
//! A move goes from what set it off to the hierarchy being in service. While a kit operation runs, the application's
//! programs and the kit are at work; the rest is mainstay's: deciding, writing down, agreeing between the nodes. Each
//! daemon's events carry a monotonic time of its own. Between two daemons only the wall clock counts, in whole ms, and
//! that is one step of a move: the message from the node that gives to the one that takes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Event, Seen, What};
use crate::trouble::Trouble;

/// A way from a failure or a request to being in service.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Move {
    /// Claimed at the start, on this node.
    Start(&'static str),
    /// A resource is repaired on this node: from the end of the failing check to the beginning of the repair.
    Repair {
        /// Where.
        node: &'static str,
        /// Which resource.
        tag: &'static str,
    },
    /// A failed repair on the first node moves it to the second.
    Failover(&'static str, &'static str),
    /// An operator's word on this node brings it in service there.
    Confirmed(&'static str),
    /// An operator's word moves it from the first node to the second.
    Switchover(&'static str, &'static str),
}

impl Move {
    /// mainstay's own share of it, from the events since it was set off.
    pub(crate) fn own_share(self, events: &[Seen]) -> Result<Duration, Trouble> {
        let of = |node| -> Vec<&Seen> { events.iter().filter(|seen| seen.node == node).collect() };
        match self {
            Self::Start(node) => between(&of(node), "a claim", |what| *what == What::Claimed {}, &IN_SERVICE),
            Self::Confirmed(node) => between(&of(node), "the request", |what| *what == What::Request {}, &IN_SERVICE),
            Self::Repair { node, tag } => repair(&of(node), tag),
            Self::Failover(from, to) => {
                let failed = |what: &What| matches!(what, What::OperationEnded { operation, ok: false } if operation == "recover");
                handed_over(&of(from), &of(to), "the failed recover", failed)
            }
            Self::Switchover(from, to) => {
                handed_over(&of(from), &of(to), "the request", |what| *what == What::Request {})
            }
        }
    }
}

/// An event that ends a stretch.
struct End {
    name: &'static str,
    what: What,
}

const IN_SERVICE: End = End { name: "that it is in service", what: What::InService };
const RELEASED: End = End { name: "a release", what: What::Released {} };

fn repair(events: &[&Seen], tag: &str) -> Result<Duration, Trouble> {
    let about = |seen: &Seen| seen.event.tag.as_deref() == Some(tag);
    let began = events.iter().position(|seen| about(seen) && is_recover(&seen.event));
    let began = began.ok_or(Trouble::NoEvent { what: "the beginning of recover" })?;
    let checked = events[..began].iter().rev().find(|seen| about(seen) && seen.event.what == What::BadCheck {});
    let checked = checked.ok_or(Trouble::NoEvent { what: "a bad check before recover" })?;
    Ok(micros(&checked.event, &events[began].event))
}

fn is_recover(event: &Event) -> bool {
    matches!(&event.what, What::OperationBegan { operation } if operation == "recover")
}

fn handed_over(
    giver: &[&Seen],
    taker: &[&Seen],
    start: &'static str,
    starts: impl Fn(&What) -> bool,
) -> Result<Duration, Trouble> {
    let gives = between(giver, start, starts, &RELEASED)?;
    // What a taker learns first after the release is that it was released.
    let released = giver.iter().find(|seen| seen.event.what == What::Released {});
    let released_at = released.map_or(0, |seen| seen.event.at);
    let learned = |seen: &&&Seen| seen.event.what == What::Learned {} && seen.event.at >= released_at;
    let learned = taker.iter().find(learned).ok_or(Trouble::NoEvent { what: "that the release was learned of" })?;
    let from = learned.event.number;
    let takes: Vec<&Seen> = taker.iter().filter(|seen| seen.event.number >= from).copied().collect();
    let takes = between(&takes, "what was learned", |what| *what == What::Learned {}, &IN_SERVICE)?;
    Ok(gives + Duration::from_millis(learned.event.at - released_at) + takes)
}

/// From the first event that starts it to the first end after that, less the time in which a kit operation runs.
fn between(
    events: &[&Seen],
    start: &'static str,
    starts: impl Fn(&What) -> bool,
    end: &End,
) -> Result<Duration, Trouble> {
    let first = events.iter().position(|seen| starts(&seen.event.what)).ok_or(Trouble::NoEvent { what: start })?;
    let stretch = &events[first..];
    let last = stretch.iter().position(|seen| seen.event.what == end.what);
    let stretch = &stretch[..=last.ok_or(Trouble::NoEvent { what: end.name })?];
    let daemon = stretch[0].daemon;
    if stretch.iter().any(|seen| seen.daemon != daemon) {
        return Err(Trouble::NoEvent { what: "it in one daemon: the daemon was started again in between" });
    }
    let mut running = BTreeSet::new();
    let mut own = Duration::ZERO;
    for pair in stretch.windows(2) {
        let tag = pair[0].event.tag.as_deref().unwrap_or_default();
        match pair[0].event.what {
            What::OperationBegan { .. } => {
                running.insert(tag);
            }
            What::OperationEnded { .. } => {
                running.remove(tag);
            }
            What::BadCheck {}
            | What::Claimed {}
            | What::Released {}
            | What::Learned {}
            | What::Declined {}
            | What::InService
            | What::Request {}
            | What::AlarmRaised { .. }
            | What::AlarmCleared {}
            | What::Node { .. }
            | What::JournalDamaged
            | What::OwnGap {}
            | What::Other => {}
        }
        if running.is_empty() {
            own += micros(&pair[0].event, &pair[1].event);
        }
    }
    Ok(own)
}

fn micros(from: &Event, to: &Event) -> Duration {
    Duration::from_micros(to.since_start_us.saturating_sub(from.since_start_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `node time what [tag]`, one a line; the time in ms, of one clock for all.
    fn events(story: &str) -> Vec<Seen> {
        let mut seen = Vec::new();
        for (number, line) in (1..).zip(story.lines().map(str::trim).filter(|line| !line.is_empty())) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let node = if words[0] == "a" { "a" } else { "b" };
            let ms: u64 = words[1].parse().unwrap();
            let operation = || words[2].trim_start_matches(['+', '-', '!']).to_owned();
            let what = match words[2] {
                "bad" => What::BadCheck {},
                "claimed" => What::Claimed {},
                "released" => What::Released {},
                "learned" => What::Learned {},
                "serves" => What::InService,
                "request" => What::Request {},
                it if it.starts_with('+') => What::OperationBegan { operation: operation() },
                it if it.starts_with('-') => What::OperationEnded { operation: operation(), ok: true },
                it if it.starts_with('!') => What::OperationEnded { operation: operation(), ok: false },
                it => panic!("{it}"),
            };
            let tag = words.get(3).map(|tag| (*tag).to_owned());
            let since_start_us = ms * 1_000 + if node == "a" { 0 } else { 1_000_000 };
            let event = Event { number, since_start_us, text: String::new(), at: ms, tag, what };
            seen.push(Seen { node, daemon: u32::from(node == "b"), event });
        }
        seen
    }

    #[track_caller]
    fn share(which: Move, story: &str, ms: u64) {
        assert_eq!(which.own_share(&events(story)).unwrap(), Duration::from_millis(ms));
    }

    #[test]
    fn a_repair_counts_from_the_last_bad_check_of_that_resource() {
        let story = "
            a 100 bad shop
            a 120 bad shop
            a 121 bad name
            a 123 +recover shop
            a 190 -recover shop";
        share(Move::Repair { node: "a", tag: "shop" }, story, 3);
    }

    #[test]
    fn time_in_which_a_kit_works_is_not_mainstays() {
        let story = "
            b 0 claimed
            a 10 claimed
            a 12 +restore name
            a 13 +restore log
            a 30 -restore log
            a 50 -restore name
            a 51 +restore shop
            a 80 -restore shop
            a 82 serves
            a 99 serves";
        share(Move::Start("a"), story, 2 + 1 + 2);
    }

    #[test]
    fn a_failover_is_the_givers_part_the_message_and_the_takers_part() {
        let story = "
            b 1 learned
            a 100 +recover shop
            a 150 !recover shop
            a 151 +remove shop
            a 171 -remove shop
            a 173 released
            b 177 learned
            b 178 claimed
            b 180 +restore shop
            b 190 -restore shop
            b 191 serves";
        share(Move::Failover("a", "b"), story, 1 + 2 + 4 + 3 + 1);
    }

    #[test]
    fn a_switchover_counts_from_the_request() {
        let story = "
            a 10 request
            a 11 +remove shop
            a 20 -remove shop
            a 21 released
            b 22 learned
            b 23 +restore shop
            b 30 -restore shop
            b 32 serves";
        share(Move::Switchover("a", "b"), story, 1 + 1 + 1 + 1 + 2);
        share(Move::Confirmed("b"), "b 5 request\nb 6 +restore shop\nb 8 -restore shop\nb 9 serves", 2);
    }

    #[test]
    fn what_is_not_told_is_not_guessed() {
        let error = Move::Start("a").own_share(&events("a 1 claimed")).unwrap_err().to_string();
        assert!(error.contains("the events do not show that it is in service"), "{error}");
        assert!(Move::Repair { node: "a", tag: "shop" }.own_share(&events("a 1 +recover shop")).is_err());
        assert!(Move::Switchover("a", "b").own_share(&events("a 1 request\na 2 released")).is_err());
    }
}
