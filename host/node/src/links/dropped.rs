//! What came from outside and was dropped: counted by reason, and told of now and then.
//!
//! Whoever can reach a port can send what they like, as fast as the network carries it: the log gets one line for each
//! reason in a while, with how many there were.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line for each reason in so long, at the most: a flood is seen, and fills no disk.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Why something was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No datagram, no frame, no TLS.
    Malformed,
    /// Nobody knows who has sent it: the key is not known, the tag is wrong, there is no certificate or one that does not
    /// count now.
    Unauthenticated,
    /// It was heard before, or something newer was.
    Replayed,
    /// Of another cluster, or of a node that it should not be of, or for another node or comm path.
    Foreign,
    /// Longer than anything that a node sends.
    TooLong,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Malformed, Self::Unauthenticated, Self::Replayed, Self::Foreign, Self::TooLong];

    /// Its name among the measures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::Replayed => "replayed",
            Self::Foreign => "foreign",
            Self::TooLong => "too-long",
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Malformed => 0,
            Self::Unauthenticated => 1,
            Self::Replayed => 2,
            Self::Foreign => 3,
            Self::TooLong => 4,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not understood",
            Self::Unauthenticated => "from nobody known (a few are normal while a session is made)",
            Self::Replayed => "heard before",
            Self::Foreign => "of another cluster or node",
            Self::TooLong => "too long",
        })
    }
}

/// The counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Dropped(Arc<Mutex<[Count; Reason::ALL.len()]>>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: u64,
    told: u64,
    told_at: Option<Instant>,
}

impl Dropped {
    /// How many were dropped for this reason.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[reason.place()].all
    }

    /// One was; `what` says which, if it is to be told. Says whether it was.
    pub fn drop(&self, reason: Reason, what: impl FnOnce() -> String) -> bool {
        // Every change is a few numbers: they are whole whatever panicked.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut counts[reason.place()];
        count.all += 1;
        if count.told_at.is_some_and(|at| at.elapsed() < SAY_AGAIN) {
            return false;
        }
        let new = count.all - count.told;
        (count.told, count.told_at) = (count.all, Some(Instant::now()));
        drop(counts);
        tracing::warn!("dropped {new} from outside, {reason}; the last: {}", what());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_are_told() {
        let dropped = Dropped::default();
        let told = (0..1000).filter(|_| dropped.drop(Reason::Replayed, String::new)).count();
        assert_eq!((told, dropped.count(Reason::Replayed)), (1, 1000));
        // Each reason has a line of its own.
        assert!(dropped.drop(Reason::Foreign, String::new));
        assert_eq!(Reason::ALL.map(|reason| dropped.count(reason)), [0, 0, 1000, 1, 0]);
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.place(), place);
        }
    }
}
