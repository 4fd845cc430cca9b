//! Everything the core waits for, in one enum, each with what it is for.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;

use crate::hierarchy::ResourceIndex;
use crate::time::Monotonic;

/// A hierarchy's place in the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HierarchyIndex(pub u32);

impl HierarchyIndex {
    /// As an index into a slice.
    #[must_use]
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The next heartbeat on a comm path is due.
    Heartbeat {
        /// Which path, by its place in the config.
        path: usize,
    },
    /// A peer was not heard on a comm path for the path's dead time.
    PathDead {
        /// Which peer.
        peer: usize,
        /// On which path.
        path: usize,
    },
    /// A heartbeat of a peer is missed on a comm path: it is asked for.
    Overdue {
        /// Which peer.
        peer: usize,
        /// On which path.
        path: usize,
    },
    /// The hold time of a peer that left with its resources in service has passed (O9).
    Hold {
        /// Which peer.
        peer: usize,
    },
    /// A silent peer is fenced, or fenced again.
    Fence {
        /// Which peer.
        peer: usize,
    },
    /// The lease at the arbiter is renewed.
    Renew,
    /// The right to act on a hierarchy has to be given up unless it was renewed (O13).
    Right {
        /// Of which hierarchy.
        hierarchy: HierarchyIndex,
    },
    /// What peers know of this node is sent again, in case a message was lost.
    Refresh,
    /// Changes of resources' states are sent together.
    Gossip,
    /// A question to a peer was not answered.
    Ask {
        /// Which question.
        id: u64,
    },
    /// What is not known of a node by now is told as such.
    Examination {
        /// Which.
        id: u64,
    },
    /// The next check of a resource is due.
    Check {
        /// Of which hierarchy.
        hierarchy: HierarchyIndex,
        /// Which resource.
        resource: ResourceIndex,
    },
    /// What could not be brought in service, and nowhere else either, is tried again.
    Again {
        /// Of which hierarchy.
        hierarchy: HierarchyIndex,
    },
    /// An operation that failed is tried again.
    Retry {
        /// Of which hierarchy.
        hierarchy: HierarchyIndex,
        /// Which resource.
        resource: ResourceIndex,
    },
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Heartbeat { .. } => "a heartbeat is due",
            Self::PathDead { .. } => "a comm path is dead unless a heartbeat comes",
            Self::Overdue { .. } => "a heartbeat is missed and asked for",
            Self::Hold { .. } => "a peer's hold time ends",
            Self::Fence { .. } => "a silent peer is fenced",
            Self::Renew => "the lease at the arbiter is renewed",
            Self::Right { .. } => "a right to act ends",
            Self::Refresh => "peers are told everything again",
            Self::Gossip => "peers are told of changed states",
            Self::Ask { .. } => "a peer should have answered",
            Self::Examination { .. } => "a health check ends",
            Self::Check { .. } => "a check is due",
            Self::Again { .. } => "what failed is tried again",
            Self::Retry { .. } => "an operation is tried again",
        })
    }
}

/// The timers that are set, each at most once.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Monotonic, Timer)>,
    at: BTreeMap<Timer, Monotonic>,
}

impl Timers {
    /// Sets a timer, in place of an earlier setting.
    pub(super) fn set(&mut self, timer: Timer, at: Monotonic) {
        if let Some(before) = self.at.insert(timer, at) {
            self.due.remove(&(before, timer));
        }
        self.due.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(before) = self.at.remove(&timer) {
            self.due.remove(&(before, timer));
        }
    }

    /// When a timer is due, if it is set.
    pub(super) fn get(&self, timer: Timer) -> Option<Monotonic> {
        self.at.get(&timer).copied()
    }

    /// The first to be due.
    pub(super) fn first(&self) -> Option<(Monotonic, Timer)> {
        self.due.first().copied()
    }

    /// Takes one that is due by `now`.
    pub(super) fn take_due(&mut self, now: Monotonic) -> Option<(Monotonic, Timer)> {
        let (at, timer) = self.first().filter(|(at, _)| *at <= now)?;
        self.clear(timer);
        Some((at, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    #[test]
    fn a_timer_is_set_once_and_taken_when_due() {
        let mut timers = Timers::default();
        let start = Monotonic(100);
        timers.set(Timer::Refresh, start + Millis(50));
        timers.set(Timer::Gossip, start + Millis(10));
        timers.set(Timer::Refresh, start + Millis(5));
        assert_eq!(timers.first(), Some((Monotonic(105), Timer::Refresh)));
        assert_eq!(timers.take_due(Monotonic(104)), None);
        assert_eq!(timers.take_due(Monotonic(200)), Some((Monotonic(105), Timer::Refresh)));
        assert_eq!(timers.take_due(Monotonic(200)), Some((Monotonic(110), Timer::Gossip)));
        assert_eq!(timers.take_due(Monotonic(200)), None);
    }
}
