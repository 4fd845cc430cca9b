//! What is said between the core and the process of a mirrored volume: who may write, on what a promotion may rest, and
//! whether the other copy is marked. Plain data. What the process does with it is decided in `host/volume/core`; the
//! rules are V1 to V13.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::claim::ClaimId;
use crate::names::NodeName;
use crate::time::{Millis, Monotonic, UnixMs};

/// What the process of a volume is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToVolume {
    /// It has the right to write (V1).
    Right {
        /// By this claim of this node.
        claim: ClaimId,
        /// Which daemon of this node has entered it in the journal: the same claim of another one is another claim, made, or
        /// heard of, after a journal was lost.
        entered: u64,
        /// Until then; none: until another claim is seen.
        until: Option<Monotonic>,
        /// On what a promotion of its copy may rest (V4).
        basis: Basis,
    },
    /// It has none.
    RightEnded,
    /// Its copy is to be marked outdated: the peer's source goes on alone. Answered by [`FromVolume::Marked`].
    MarkOutdated {
        /// Which peer asks.
        peer: NodeName,
        /// For the answer.
        question: Question,
        /// On which claim the peer's copy is the source.
        claim: ClaimId,
        /// From which generation it goes on, as its process says it.
        generation: String,
    },
    /// What became of [`FromVolume::MarkPeer`] or [`FromVolume::MarkArbiter`].
    Marked {
        /// The process's number of the question.
        number: u64,
        /// What.
        outcome: Marked,
    },
}

/// What the process of a volume says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromVolume {
    /// It goes on alone: the other copy is to mark itself outdated, over any comm path (V3).
    MarkPeer {
        /// Its number of the question.
        number: u64,
        /// The claim by which it is the source.
        claim: ClaimId,
        /// From which generation it goes on.
        generation: String,
    },
    /// The arbiter is to note that the other copy is outdated, or that it is not any more (V3).
    MarkArbiter {
        /// Its number of the question.
        number: u64,
        /// The claim by which it is the source.
        claim: ClaimId,
        /// Whether the other copy is.
        outdated: bool,
    },
    /// The newest claim that the label of its copy knows. Claims are made above it: a journal that was lost begins anew, a
    /// label does not (V2).
    Knows(ClaimId),
    /// What became of [`ToVolume::MarkOutdated`].
    Marked {
        /// Which peer has asked.
        peer: NodeName,
        /// Which question.
        question: Question,
        /// What.
        outcome: Marked,
    },
}

/// Names a question of a process to the other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The process's number.
    pub number: u64,
    /// Which daemon of its node has passed it on.
    pub asker: u64,
}

/// Whether a copy was marked outdated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Marked {
    /// It is durable.
    Done,
    /// Nobody could be asked, or nobody answered.
    Unreachable,
    /// There is a newer claim: who asks may not go on.
    Superseded(ClaimId),
    /// The copy that was to be marked is in contact with the one that asks, or has more than that one.
    InContact,
}

/// On what a promotion may rest (V4): how this node came by its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Nothing: a planned move, or a start.
    Free,
    /// The operator's word.
    Word,
    /// The owner's silence on the comm paths alone.
    Silence(Silence),
    /// The arbiter's permit, and whether it has a mark against this node's copy.
    Arbiter {
        /// It has.
        marked: bool,
    },
}

/// When the comm paths to an owner that was taken over from fell silent, by the wall clock as it is set now: it is told anew
/// when that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// The first of them.
    pub first: UnixMs,
    /// The last of them.
    pub last: UnixMs,
    /// How far apart they and the mirror link may be to count as at once: the dead time.
    pub within: Millis,
}

impl Silence {
    /// Whether a mirror link that was last heard then, by the wall clock as it is set now, fell silent at once with all comm paths (V4).
    #[must_use]
    pub fn together(&self, mirror: UnixMs) -> bool {
        self.first.min(mirror).distance(self.last.max(mirror)) <= self.within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_at_once_is_within_one_dead_time_whichever_was_first() {
        let silence = Silence { first: UnixMs(10_000), last: UnixMs(12_000), within: Millis(5000) };
        for (mirror, together) in [(10_000, true), (7_000, true), (15_000, true), (6_999, false), (15_001, false)] {
            assert_eq!(silence.together(UnixMs(mirror)), together, "{mirror}");
        }
    }
}
