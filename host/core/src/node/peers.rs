//! Who is there: comm paths and the nodes at their ends (O5, O6, O9).
//!
//! Decides when a path is dead and a node silent, from heartbeats and the clock alone. A session that breaks,
//! a connection that is refused, a message that does not come: none of it counts.

use alloc::vec::Vec;

use super::REFRESH;
use super::io::Paths;
use super::takeover::Fencing;
use crate::message::{HierarchySummary, PeerState};
use crate::names::{HierarchyName, NodeName};
use crate::spec::PathSpec;
use crate::status::{PathState, Reach};
use crate::time::{Millis, Monotonic, Now, UnixMs};
use crate::volume::Silence;

/// A message shows for so long that a node is there: it sends one every REFRESH, and one may be late.
const MESSAGE_COUNTS: Millis = Millis(2 * REFRESH.0);

/// One comm path to one peer.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Silence is counted from here: the last heartbeat, or when this node began to listen.
    listening_since: Monotonic,
    /// When the last heartbeat came.
    heard_at: Option<Monotonic>,
    /// The last heartbeat may have waited for this process, nobody knows for how long.
    waited: bool,
    pub(super) last_heard: Option<UnixMs>,
    pub(super) state: PathState,
    /// Yellow since the last heartbeat that was missed.
    unsteady_since: Monotonic,
    /// Declared dead: no heartbeat for the dead time.
    dead: bool,
    /// The kernel at the other end has answered since the last heartbeat (O7)...
    kernel_answers: bool,
    /// ...or has not, so many times in a row.
    knocks_missed: u32,
}

/// A heartbeat is missed, and asked for, when it is late by half an interval.
pub(super) fn overdue_after(interval: Millis) -> Millis {
    Millis(interval.0 + interval.0 / 2)
}

/// One that is missed is asked for so often in an interval: with 30 % of the datagrams lost, none of the answers of
/// a whole dead time comes through once in a hundred thousand times.
const ASKS_IN_INTERVAL: u64 = 5;

/// How long after one question the next is asked.
pub(super) fn asks_again_after(interval: Millis) -> Millis {
    Millis((interval.0 / ASKS_IN_INTERVAL).max(1))
}

/// A kernel that has answered once is believed to be gone after so many knocks in a row without an answer.
const KNOCKS_MISSED_MAX: u32 = 2;

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
    /// It said that its daemon stops; until then nobody worries, if its resources stay.
    pub(super) hold_until: Option<Monotonic>,
    /// It said that nothing is in service there.
    released: bool,
    /// The last it told.
    pub(super) state: Option<PeerState>,
    /// Whether it has told knowing of this daemon (O3).
    pub(super) answered: bool,
    /// When its last message came.
    last_message: Option<Monotonic>,
    /// When this process was late, the last time.
    late_at: Option<Monotonic>,
    /// Its kernel has answered since its daemon fell silent (O7).
    pub(super) hung: bool,
    /// How far its fencing has come.
    pub(super) fencing: Fencing,
    /// Its daemon was stopped with its resources in service, and was not heard since (O9).
    pub(super) left: bool,
    /// A heartbeat came on one path after another was declared dead (O8).
    pub(super) jeopardy: bool,
    reach: Reach,
    /// Since when it is that.
    pub(super) reach_since: Monotonic,
}

/// What a heartbeat, or its lack, has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The path's state changed to this.
    pub(super) path: Option<PathState>,
    /// Jeopardy began or ended.
    pub(super) jeopardy: Option<bool>,
    /// The node's reach changed to this.
    pub(super) reach: Option<Reach>,
}

impl Peer {
    pub(super) fn new(name: NodeName, paths: &Paths, now: Now) -> Self {
        let link = Link {
            listening_since: now.monotonic,
            heard_at: None,
            waited: false,
            last_heard: None,
            state: PathState::NotHeard,
            unsteady_since: now.monotonic,
            dead: false,
            kernel_answers: false,
            knocks_missed: 0,
        };
        Self {
            name,
            incarnation: 0,
            links: alloc::vec![link; paths.len()],
            session: false,
            session_since: now.monotonic,
            hold_until: None,
            released: false,
            state: None,
            answered: false,
            last_message: None,
            late_at: None,
            hung: false,
            fencing: Fencing::None,
            left: false,
            jeopardy: false,
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
    pub(super) fn heard(&mut self, path: usize, spec: &PathSpec, now: Now) -> Change {
        let link = &mut self.links[path];
        let late = now.monotonic.since(link.listening_since) > overdue_after(spec.heartbeat_interval);
        link.listening_since = now.monotonic;
        link.heard_at = Some(now.monotonic);
        link.waited = self.late_at.is_some_and(|at| now.monotonic.since(at) <= spec.heartbeat_interval);
        link.last_heard = Some(now.unix);
        link.dead = false;
        link.kernel_answers = false;
        link.knocks_missed = 0;
        let state = match link.state {
            PathState::NotHeard => PathState::Green,
            PathState::Red => PathState::Yellow,
            PathState::Green | PathState::Yellow if late => PathState::Yellow,
            PathState::Yellow if now.monotonic.since(link.unsteady_since) >= spec.hysteresis => PathState::Green,
            state @ (PathState::Green | PathState::Yellow) => state,
        };
        if late || link.state == PathState::Red {
            link.unsteady_since = now.monotonic;
        }
        let path = (core::mem::replace(&mut link.state, state) != state).then_some(state);
        // It is not off, whatever was done to it; a command that still runs is not waited for.
        self.fencing = Fencing::None;
        self.left = false;
        self.hung = false;
        // O8.
        let jeopardy = if self.links.iter().any(|link| link.dead) {
            true
        } else {
            let green = self.links.iter().filter(|link| link.state == PathState::Green).count();
            self.jeopardy && green < 2
        };
        let jeopardy = (core::mem::replace(&mut self.jeopardy, jeopardy) != jeopardy).then_some(jeopardy);
        Change { path, jeopardy, reach: self.update(now) }
    }

    /// When `path` is dead unless a heartbeat comes; none when it is.
    pub(super) fn dead_at(&self, path: usize, dead_time: Millis) -> Option<Monotonic> {
        let link = &self.links[path];
        (!link.dead).then(|| link.listening_since + dead_time)
    }

    /// When the next heartbeat on `path` is overdue; none when the path is dead.
    pub(super) fn overdue_at(&self, path: usize, interval: Millis) -> Option<Monotonic> {
        let link = &self.links[path];
        (!link.dead).then(|| link.listening_since + overdue_after(interval))
    }

    /// A heartbeat on `path` is overdue.
    pub(super) fn is_overdue(&mut self, path: usize, now: Now) -> Change {
        let link = &mut self.links[path];
        link.unsteady_since = now.monotonic;
        let was_green = link.state == PathState::Green;
        if was_green {
            link.state = PathState::Yellow;
        }
        Change { path: was_green.then_some(PathState::Yellow), jeopardy: None, reach: None }
    }

    /// The dead time of `path` has passed.
    pub(super) fn path_died(&mut self, path: usize, now: Now) -> Change {
        let link = &mut self.links[path];
        link.dead = true;
        let was = core::mem::replace(&mut link.state, PathState::Red);
        Change { path: (was != PathState::Red).then_some(PathState::Red), jeopardy: None, reach: self.update(now) }
    }

    /// The kernel at the other end of `path` has answered a knock, or has not.
    pub(super) fn knocked(&mut self, path: usize, answered: bool, now: Now) -> Change {
        let link = &mut self.links[path];
        link.knocks_missed = if answered { 0 } else { link.knocks_missed.saturating_add(1) };
        link.kernel_answers = answered || (link.kernel_answers && link.knocks_missed < KNOCKS_MISSED_MAX);
        Change { path: None, jeopardy: None, reach: self.update(now) }
    }

    /// Whether its last heartbeats came within one dead time of each other, on every path there is, and there are two at
    /// least (O11).
    pub(super) fn fell_silent_at_once(&self, paths: &Paths) -> bool {
        let dead_time = paths.iter().map(|(_, path)| path.dead_time()).max().unwrap_or_default();
        let heard: Option<Vec<Monotonic>> = self.links.iter().map(|link| link.heard_at).collect();
        let Some(heard) = heard.filter(|heard| heard.len() >= 2) else { return false };
        let (Some(first), Some(last)) = (heard.iter().min(), heard.iter().max()) else { return false };
        last.since(*first) <= dead_time
    }

    /// When its paths fell silent, if each was ever heard.
    pub(super) fn silence(&self, paths: &Paths, now: Now) -> Option<Silence> {
        let within = paths.iter().map(|(_, path)| path.dead_time()).max()?;
        let heard: Option<Vec<Monotonic>> = self.links.iter().map(|link| link.heard_at).collect();
        let heard = heard?;
        Some(Silence { first: now.wall(*heard.iter().min()?), last: now.wall(*heard.iter().max()?), within })
    }

    /// Whether this daemon has ever heard it.
    pub(super) fn is_met(&self) -> bool {
        self.links.iter().any(|link| link.heard_at.is_some())
    }

    /// This process was late, so it has not listened: silence counts from now (O6).
    pub(super) fn listen_again(&mut self, now: Now) {
        self.late_at = Some(now.monotonic);
        for link in &mut self.links {
            link.listening_since = now.monotonic;
        }
    }

    /// Whether it is unknown when a path was heard last: a kernel keeps what comes for a process that stands still (O6).
    pub(super) fn waited(&self) -> bool {
        self.links.iter().any(|link| link.waited)
    }

    /// It said that it leaves.
    pub(super) fn left(&mut self, until: Monotonic, released: bool, now: Now) -> Change {
        self.hold_until = Some(until);
        self.released = released;
        self.left = true;
        self.answered = false;
        Change { path: None, jeopardy: None, reach: self.update(now) }
    }

    /// The hold time has passed.
    pub(super) fn hold_over(&mut self, now: Now) -> Change {
        self.hold_until = None;
        Change { path: None, jeopardy: None, reach: self.update(now) }
    }

    /// A new daemon of it was heard of: what the old one said of itself counts no more.
    pub(super) fn new_daemon(&mut self, incarnation: u64, now: Now) -> Change {
        self.incarnation = incarnation;
        self.answered = false;
        self.hold_until = None;
        Change { path: None, jeopardy: None, reach: self.update(now) }
    }

    fn update(&mut self, now: Now) -> Option<Reach> {
        let reach = if self.hold_until.is_some() {
            if self.released { Reach::Released } else { Reach::Left }
        } else if self.links.iter().any(|link| !link.dead && link.heard_at.is_some()) {
            Reach::Alive
        } else if self.links.iter().all(|link| link.dead) {
            // O7: a kernel that answers is no machine without power.
            if self.links.iter().any(|link| link.kernel_answers) { Reach::Hangs } else { Reach::Silent }
        } else {
            self.reach
        };
        self.hung |= reach == Reach::Hangs;
        let changed = reach != self.reach;
        // With a session it goes on answering, although its heartbeats do not come through.
        self.answered &= !reach.is_silence() || self.session;
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

    fn now(ms: u64) -> Now {
        Now { monotonic: Monotonic(ms), unix: UnixMs(1_000_000 + ms) }
    }

    const PATH: PathSpec =
        PathSpec { priority: 1, heartbeat_interval: Millis(1000), dead_after_misses: 5, hysteresis: Millis(10_000) };

    fn paths() -> Paths {
        alloc::vec![("one".into(), PATH), ("two".into(), PathSpec { priority: 2, ..PATH })]
    }

    fn peer() -> Peer {
        Peer::new("b".into(), &paths(), now(0))
    }

    fn heard(peer: &mut Peer, path: usize, ms: u64) -> Change {
        peer.heard(path, &PATH, now(ms))
    }

    const NOTHING: Change = Change { path: None, jeopardy: None, reach: None };

    #[test]
    fn a_node_is_silent_when_all_its_paths_are_dead() {
        let mut peer = peer();
        assert_eq!(peer.reach(), Reach::NotMet);
        let green = Some(PathState::Green);
        assert_eq!(heard(&mut peer, 0, 100), Change { path: green, reach: Some(Reach::Alive), ..NOTHING });
        assert_eq!(heard(&mut peer, 1, 100), Change { path: green, ..NOTHING });
        assert_eq!(peer.dead_at(0, Millis(5000)), Some(Monotonic(5100)));
        let red = Some(PathState::Red);
        assert_eq!(peer.path_died(0, now(5000)), Change { path: red, ..NOTHING });
        assert_eq!(peer.path_died(1, now(5000)), Change { path: red, reach: Some(Reach::Silent), ..NOTHING });
        assert_eq!(peer.dead_at(1, Millis(5000)), None);
        assert!(peer.fell_silent_at_once(&paths()));
        assert_eq!(heard(&mut peer, 1, 9000).reach, Some(Reach::Alive));
    }

    #[test]
    fn one_that_was_never_heard_is_silent_after_the_dead_time_too() {
        let mut peer = peer();
        assert_eq!(peer.path_died(0, now(5000)).reach, None);
        assert_eq!(peer.path_died(1, now(5000)).reach, Some(Reach::Silent));
        assert!(!peer.is_met() && !peer.fell_silent_at_once(&paths()));
    }

    #[test]
    fn jeopardy_begins_with_a_heartbeat_after_another_path_died_and_ends_with_two_green_ones() {
        let mut peer = peer();
        heard(&mut peer, 0, 0);
        heard(&mut peer, 1, 0);
        peer.path_died(0, now(5000));
        assert!(!peer.jeopardy, "the other path may die with it: a power cut is no jeopardy");
        assert_eq!(heard(&mut peer, 1, 5100).jeopardy, Some(true));
        // Red, yellow, and green again only after the hysteresis.
        assert_eq!(heard(&mut peer, 0, 6000).path, Some(PathState::Yellow));
        for second in 7..16 {
            heard(&mut peer, 0, second * 1000);
            heard(&mut peer, 1, second * 1000);
        }
        assert!(peer.jeopardy);
        assert_eq!(heard(&mut peer, 0, 16_000).path, Some(PathState::Green));
        for second in 16..18 {
            heard(&mut peer, 0, second * 1000);
            heard(&mut peer, 1, second * 1000);
        }
        assert!(!peer.jeopardy);
    }

    #[test]
    fn a_path_that_misses_a_heartbeat_is_yellow_for_the_hysteresis_time() {
        let mut peer = peer();
        heard(&mut peer, 0, 0);
        assert_eq!(peer.overdue_at(0, Millis(1000)), Some(Monotonic(1500)));
        assert_eq!(peer.is_overdue(0, now(1500)).path, Some(PathState::Yellow));
        assert_eq!(peer.is_overdue(0, now(1700)).path, None);
        for second in 2..12 {
            assert_eq!(heard(&mut peer, 0, second * 1000).path, None, "after {second} s");
        }
        assert_eq!(heard(&mut peer, 0, 12_000).path, Some(PathState::Green));
    }

    #[test]
    fn a_machine_whose_kernel_answers_hangs_and_is_not_silent() {
        let mut peer = peer();
        heard(&mut peer, 0, 0);
        peer.knocked(0, true, now(4000));
        peer.path_died(0, now(5000));
        assert_eq!(peer.path_died(1, now(5000)).reach, Some(Reach::Hangs));
        assert_eq!(peer.knocked(0, false, now(6000)).reach, None, "one that was lost says nothing");
        assert_eq!(peer.knocked(0, false, now(7000)).reach, Some(Reach::Silent));
        assert!(peer.hung, "it had its power when its daemon fell silent");
        heard(&mut peer, 0, 8000);
        assert!(!peer.hung);
    }

    #[test]
    fn what_waited_for_a_late_process_says_nothing_of_when_it_was_sent() {
        let mut peer = peer();
        heard(&mut peer, 0, 0);
        peer.listen_again(now(20_000));
        heard(&mut peer, 0, 20_001);
        heard(&mut peer, 1, 22_000);
        assert!(peer.waited());
        heard(&mut peer, 0, 22_000);
        assert!(!peer.waited());
    }

    #[test]
    fn paths_that_fell_silent_one_after_the_other_were_no_power_cut() {
        let mut peer = peer();
        heard(&mut peer, 0, 0);
        heard(&mut peer, 1, 5001);
        assert!(!peer.fell_silent_at_once(&paths()));
    }

    #[test]
    fn a_silent_node_answers_only_if_a_message_came_when_a_heartbeat_was_overdue() {
        let interval = Millis(1000);
        let mut peer = peer();
        heard(&mut peer, 0, 1000);
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
        heard(&mut peer, 0, 0);
        assert_eq!(peer.left(Monotonic(60_000), false, now(0)).reach, Some(Reach::Left));
        peer.path_died(0, now(5000));
        assert_eq!(peer.path_died(1, now(5000)).reach, None);
        assert_eq!(peer.hold_over(now(60_000)).reach, Some(Reach::Silent));
    }
}
