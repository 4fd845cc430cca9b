//! Who is there: comm paths and the nodes at their ends (O5, O6, O9).
//!
//! Decides when a path is dead and a node silent, from heartbeats and the clock alone. A session that breaks,
//! a connection that is refused, a message that does not come: none of it counts.

use alloc::vec::Vec;

use super::REFRESH;
use super::io::Paths;
use crate::message::{HierarchySummary, PeerState};
use crate::names::{HierarchyName, NodeName};
use crate::status::Reach;
use crate::time::{Millis, Monotonic, Now, UnixMs};

/// A message shows for so long that a node is there: it sends one every REFRESH, and one may be late.
const MESSAGE_COUNTS: Millis = Millis(2 * REFRESH.0);

/// One comm path to one peer.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Silence is counted from here: the last heartbeat, or when this node began to listen.
    listening_since: Monotonic,
    pub(super) last_heard: Option<UnixMs>,
    pub(super) alive: bool,
    /// Declared dead: no heartbeat for the dead time.
    dead: bool,
}

/// Another node.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) name: NodeName,
    /// The newest of its daemons that was heard of, by heartbeat or message.
    pub(super) incarnation: u64,
    pub(super) links: Vec<Link>,
    /// Messages go through.
    pub(super) session: bool,
    /// Since when they do, or do not.
    pub(super) session_since: Monotonic,
    /// It said that its daemon stops; until then nobody worries.
    pub(super) hold_until: Option<Monotonic>,
    /// The last it told.
    pub(super) state: Option<PeerState>,
    /// Whether it has told knowing of this daemon (O3).
    pub(super) answered: bool,
    /// When its last message came.
    last_message: Option<Monotonic>,
    reach: Reach,
    /// Since when it is that.
    pub(super) reach_since: Monotonic,
}

/// What a heartbeat, or its lack, has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// A path came alive or died.
    pub(super) path: Option<bool>,
    /// The node's reach changed to this.
    pub(super) reach: Option<Reach>,
}

impl Peer {
    pub(super) fn new(name: NodeName, paths: &Paths, now: Now) -> Self {
        let link = Link { listening_since: now.monotonic, last_heard: None, alive: false, dead: false };
        Self {
            name,
            incarnation: 0,
            links: alloc::vec![link; paths.len()],
            session: false,
            session_since: now.monotonic,
            hold_until: None,
            state: None,
            answered: false,
            last_message: None,
            reach: Reach::NotMet,
            reach_since: now.monotonic,
        }
    }

    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    pub(super) fn is_alive(&self) -> bool {
        self.reach == Reach::Alive
    }

    /// Alive, messages go through, and it knows this daemon.
    pub(super) fn is_talking(&self) -> bool {
        self.is_alive() && self.session && self.answered
    }

    /// How long it has been reached as it is, and messages have gone through or not.
    pub(super) fn since_change(&self, now: Monotonic) -> Millis {
        now.since(self.session_since.max(self.reach_since))
    }

    /// A message of it has come.
    pub(super) fn told(&mut self, now: Monotonic) {
        self.last_message = Some(now);
    }

    /// It is there, although no heartbeats come: a message came when one was overdue. That there is a session says
    /// nothing: it breaks late, or never, when the other machine has lost its power or the link is cut.
    pub(super) fn answers(&self, heartbeat_interval: Millis, now: Monotonic) -> bool {
        let beats_until = self.links.iter().map(|link| link.listening_since).max().unwrap_or(now);
        self.session
            && self.answered
            && self
                .last_message
                .is_some_and(|at| at > beats_until + heartbeat_interval && now.since(at) <= MESSAGE_COUNTS)
    }

    pub(super) fn last_heard(&self) -> Option<UnixMs> {
        self.links.iter().filter_map(|link| link.last_heard).max()
    }

    /// What it last told of a hierarchy.
    pub(super) fn summary(&self, hierarchy: &HierarchyName) -> Option<&HierarchySummary> {
        self.state.as_ref()?.hierarchies.iter().find(|summary| summary.name == *hierarchy)
    }

    /// A heartbeat has come on `path`.
    pub(super) fn heard(&mut self, path: usize, now: Now) -> Change {
        let link = &mut self.links[path];
        link.listening_since = now.monotonic;
        link.last_heard = Some(now.unix);
        link.dead = false;
        let came_alive = !core::mem::replace(&mut link.alive, true);
        Change { path: came_alive.then_some(true), reach: self.update(now) }
    }

    /// When `path` is dead unless a heartbeat comes; none when it is.
    pub(super) fn dead_at(&self, path: usize, dead_time: Millis) -> Option<Monotonic> {
        let link = &self.links[path];
        (!link.dead).then(|| link.listening_since + dead_time)
    }

    /// The dead time of `path` has passed.
    pub(super) fn path_died(&mut self, path: usize, now: Now) -> Change {
        let link = &mut self.links[path];
        link.dead = true;
        let was_alive = core::mem::replace(&mut link.alive, false);
        Change { path: was_alive.then_some(false), reach: self.update(now) }
    }

    /// This process was late, so it has not listened: silence counts from now (O6).
    pub(super) fn listen_again(&mut self, now: Now) {
        for link in &mut self.links {
            link.listening_since = now.monotonic;
        }
    }

    /// It said that it leaves.
    pub(super) fn left(&mut self, until: Monotonic, now: Now) -> Change {
        self.hold_until = Some(until);
        self.answered = false;
        Change { path: None, reach: self.update(now) }
    }

    /// The hold time has passed.
    pub(super) fn hold_over(&mut self, now: Now) -> Change {
        self.hold_until = None;
        Change { path: None, reach: self.update(now) }
    }

    /// A new daemon of it was heard of: what the old one said of itself counts no more.
    pub(super) fn new_daemon(&mut self, incarnation: u64, now: Now) -> Change {
        self.incarnation = incarnation;
        self.answered = false;
        self.hold_until = None;
        Change { path: None, reach: self.update(now) }
    }

    fn update(&mut self, now: Now) -> Option<Reach> {
        let reach = if self.hold_until.is_some() {
            Reach::Left
        } else if self.links.iter().any(|link| link.alive) {
            Reach::Alive
        } else if self.links.iter().all(|link| link.dead) {
            Reach::Silent
        } else {
            self.reach
        };
        let changed = reach != self.reach;
        // With a session it goes on answering, although its heartbeats do not come through.
        self.answered &= reach != Reach::Silent || self.session;
        if changed {
            self.reach_since = now.monotonic;
        }
        self.reach = reach;
        changed.then_some(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::PathSpec;

    fn now(ms: u64) -> Now {
        Now { monotonic: Monotonic(ms), unix: UnixMs(1_000_000 + ms) }
    }

    fn peer() -> Peer {
        let path = |priority| PathSpec {
            priority,
            heartbeat_interval: Millis(1000),
            dead_after_misses: 5,
            hysteresis: Millis(10_000),
        };
        Peer::new("b".into(), &alloc::vec![("one".into(), path(1)), ("two".into(), path(2))], now(0))
    }

    #[test]
    fn a_node_is_silent_when_all_its_paths_are_dead() {
        let mut peer = peer();
        assert_eq!(peer.reach(), Reach::NotMet);
        assert_eq!(peer.heard(0, now(100)), Change { path: Some(true), reach: Some(Reach::Alive) });
        assert_eq!(peer.heard(1, now(100)), Change { path: Some(true), reach: None });
        assert_eq!(peer.dead_at(0, Millis(5000)), Some(Monotonic(5100)));
        assert_eq!(peer.path_died(0, now(5000)), Change { path: Some(false), reach: None });
        assert_eq!(peer.path_died(1, now(5000)), Change { path: Some(false), reach: Some(Reach::Silent) });
        assert_eq!(peer.dead_at(1, Millis(5000)), None);
        assert_eq!(peer.heard(1, now(9000)).reach, Some(Reach::Alive));
    }

    #[test]
    fn one_that_was_never_heard_is_silent_after_the_dead_time_too() {
        let mut peer = peer();
        assert_eq!(peer.path_died(0, now(5000)).reach, None);
        assert_eq!(peer.path_died(1, now(5000)), Change { path: None, reach: Some(Reach::Silent) });
    }

    #[test]
    fn a_silent_node_answers_only_if_a_message_came_when_a_heartbeat_was_overdue() {
        let interval = Millis(1000);
        let mut peer = peer();
        peer.heard(0, now(1000));
        (peer.session, peer.answered) = (true, true);
        // Its power is cut right after this message: nothing tells, and the session is still there.
        peer.told(Monotonic(1900));
        assert!(!peer.answers(interval, Monotonic(6000)));
        peer.told(Monotonic(5100));
        assert!(peer.answers(interval, Monotonic(6000)));
        assert!(!peer.answers(interval, Monotonic(5101) + MESSAGE_COUNTS), "it said nothing for long");
        peer.session = false;
        assert!(!peer.answers(interval, Monotonic(6000)));
    }

    #[test]
    fn one_that_left_is_not_silent_until_its_hold_time_has_passed() {
        let mut peer = peer();
        peer.heard(0, now(0));
        assert_eq!(peer.left(Monotonic(60_000), now(0)).reach, Some(Reach::Left));
        peer.path_died(0, now(5000));
        assert_eq!(peer.path_died(1, now(5000)).reach, None);
        assert_eq!(peer.hold_over(now(60_000)).reach, Some(Reach::Silent));
    }
}
