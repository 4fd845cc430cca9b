//! What is counted: how many checks, and how late they begin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_core::time::Monotonic;
use serde::{Deserialize, Serialize};

/// Buckets of lateness, in ms: the last one holds all that is later.
const BUCKETS_MS: [u64; 15] = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, u64::MAX];

/// Counts of one daemon. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Measures(Arc<Mutex<Counts>>);

/// What was counted since the daemon started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Checks that have begun.
    pub checks_begun: u64,
    /// Calls that have ended.
    pub calls_ended: u64,
    /// How many checks began at most so many ms after they were due, each bucket without the ones before it.
    pub check_lateness_ms: Vec<(u64, u64)>,
    /// The latest, in ms.
    pub check_lateness_ms_max: u64,
    /// What came from outside over the links and was dropped, by reason.
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
}

impl Measures {
    /// A check begins that was due at `due`.
    pub fn check_begins(&self, due: Monotonic, now: Monotonic) {
        let late = now.since(due).0;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.checks_begun += 1;
        counts.check_lateness_ms_max = counts.check_lateness_ms_max.max(late);
        if counts.check_lateness_ms.is_empty() {
            counts.check_lateness_ms = BUCKETS_MS.iter().map(|most| (*most, 0)).collect();
        }
        if let Some((_, count)) = counts.check_lateness_ms.iter_mut().find(|(most, _)| late <= *most) {
            *count += 1;
        }
    }

    /// A call has ended.
    pub fn ended(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).calls_ended += 1;
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_goes_into_its_bucket() {
        let measures = Measures::default();
        for late in [0, 3, 3, 60_000] {
            measures.check_begins(Monotonic(100), Monotonic(100 + late));
        }
        let counts = measures.counts();
        let in_bucket =
            |most: u64| counts.check_lateness_ms.iter().find(|(at, _)| *at == most).map(|(_, count)| *count);
        assert_eq!((in_bucket(0), in_bucket(5), in_bucket(u64::MAX)), (Some(1), Some(2), Some(1)));
        assert_eq!(counts.check_lateness_ms_max, 60_000);
    }
}
