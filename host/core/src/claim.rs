//! Claims: who may own a hierarchy, and which claim goes before which (OWNERSHIP O1).

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::names::NodeName;

/// How many of a claim's ancestors are remembered. A node that was away for more changes of owner than this
/// cannot be told to be in conflict; it is told that it is not known.
pub const LINEAGE_MAX: usize = 32;

/// The number that grows with every change of owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What names a claim. Ordered by counter, then claimant: the holder of a lower one removes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClaimId {
    /// Grows with every claim.
    pub epoch: Epoch,
    /// Who made it.
    pub claimant: NodeName,
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of {}", self.epoch, self.claimant)
    }
}

/// A claim with those it follows, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What names it.
    pub id: ClaimId,
    /// The claims it follows: the first directly, at most [`LINEAGE_MAX`].
    pub lineage: Vec<ClaimId>,
}

/// How two claims on one hierarchy stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Same,
    /// The first is known to follow the second, directly or not.
    Follows,
    /// The second is known to follow the first.
    Precedes,
    /// Neither follows the other, though one of them goes before: two nodes took over from the same owner.
    Conflict {
        /// Whether the first one goes before the second.
        first_wins: bool,
    },
}

impl Claim {
    /// The claim of `claimant` that follows `before`.
    #[must_use]
    pub fn following(before: Option<&Claim>, claimant: NodeName) -> Self {
        let lineage = before
            .into_iter()
            .flat_map(|before| core::iter::once(&before.id).chain(&before.lineage))
            .take(LINEAGE_MAX)
            .cloned()
            .collect();
        let epoch = Epoch(before.map_or(0, |before| before.id.epoch.0).saturating_add(1));
        Self { id: ClaimId { epoch, claimant }, lineage }
    }

    /// How it stands to `other`. One so far back that the lineage does not reach it is taken to be followed.
    #[must_use]
    pub fn relation(&self, other: &Self) -> Relation {
        if self.id == other.id {
            return Relation::Same;
        }
        let first_wins = self.id > other.id;
        let (newer, older) = if first_wins { (self, other) } else { (other, self) };
        let reaches_back = newer.lineage.len() < LINEAGE_MAX
            || newer.lineage.last().is_some_and(|oldest| oldest.epoch <= older.id.epoch);
        match (newer.lineage.contains(&older.id) || !reaches_back, first_wins) {
            (true, true) => Relation::Follows,
            (true, false) => Relation::Precedes,
            (false, first_wins) => Relation::Conflict { first_wins },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(before: Option<&Claim>, claimant: &str) -> Claim {
        Claim::following(before, claimant.into())
    }

    #[test]
    fn claims_in_one_line_follow_each_other() {
        let first = claim(None, "a");
        let second = claim(Some(&first), "b");
        let third = claim(Some(&second), "a");
        assert_eq!(third.id.epoch, Epoch(3));
        assert_eq!(third.relation(&first), Relation::Follows);
        assert_eq!(first.relation(&third), Relation::Precedes);
        assert_eq!(first.relation(&first), Relation::Same);
    }

    #[test]
    fn two_that_follow_the_same_are_in_conflict_whatever_their_counters() {
        let first = claim(None, "a");
        let ours = claim(Some(&first), "a");
        let theirs = claim(Some(&first), "b");
        assert_eq!(ours.relation(&theirs), Relation::Conflict { first_wins: false });
        let ours_later = claim(Some(&ours), "a");
        assert_eq!(ours_later.relation(&theirs), Relation::Conflict { first_wins: true });
        assert_eq!(theirs.relation(&ours_later), Relation::Conflict { first_wins: false });
        assert_eq!(claim(None, "a").relation(&claim(None, "b")), Relation::Conflict { first_wins: false });
    }

    #[test]
    fn a_long_line_is_remembered_only_so_far() {
        let mut line = alloc::vec![claim(None, "a")];
        for round in 0..2 * LINEAGE_MAX {
            let next = claim(line.last(), if round % 2 == 0 { "b" } else { "a" });
            line.push(next);
        }
        let newest = line.last().unwrap();
        assert_eq!(newest.lineage.len(), LINEAGE_MAX);
        assert!(line[..line.len() - 1].iter().all(|older| newest.relation(older) == Relation::Follows));
        let stray = claim(line.get(line.len() - 5), "c");
        assert_eq!(newest.relation(&stray), Relation::Conflict { first_wins: true });
    }
}
