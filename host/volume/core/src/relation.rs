//! How two copies stand to each other, by what they durably say of themselves. Pure tables (V4, V11, V13).

use crate::io::{Basis, Misfit};
use crate::label::DurableState;
use crate::message::{Identity, VERSION};
use crate::status::CopyState;
use crate::types::Generation;

/// Seen from the first of two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// One generation: neither has acknowledged anything without the other. The one that is promoted is the source.
    Same,
    /// The first one went on where the second one ended: the second one is brought up to date.
    Ahead,
    /// The other way round.
    Behind,
    /// Both went on: split brain.
    Diverged,
}

impl Relation {
    /// Seen from the second one.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::Ahead => Self::Behind,
            Self::Behind => Self::Ahead,
            Self::Same | Self::Diverged => self,
        }
    }
}

/// Whether they are two copies of one volume at all.
///
/// # Errors
/// What does not fit, with both values.
pub fn fits(mine: &Identity, theirs: &Identity) -> Result<(), Misfit> {
    if theirs.version != VERSION {
        return Err(Misfit::Version { ours: VERSION, theirs: theirs.version });
    }
    if theirs.volume != mine.volume {
        return Err(Misfit::Volume { ours: mine.volume, theirs: theirs.volume });
    }
    if theirs.side == mine.side {
        return Err(Misfit::Side(mine.side));
    }
    if theirs.size != mine.size {
        return Err(Misfit::Size { ours: mine.size, theirs: theirs.size });
    }
    Ok(())
}

/// How they stand to each other.
#[must_use]
pub fn compare(mine: &Identity, theirs: &Identity) -> Relation {
    let knows =
        |one: &Identity, generation: &Generation| one.generation == *generation || one.history.contains(generation);
    if mine.generation == theirs.generation {
        return Relation::Same;
    }
    // The operator has said who survives, and that copy is still what it was, or went on from there.
    if mine.gives_up_for.is_some_and(|survivor| knows(theirs, &survivor)) {
        return Relation::Behind;
    }
    if theirs.gives_up_for.is_some_and(|survivor| knows(mine, &survivor)) {
        return Relation::Ahead;
    }
    if theirs.generation == Generation::BLANK || mine.history.contains(&theirs.generation) {
        return Relation::Ahead;
    }
    if mine.generation == Generation::BLANK || theirs.history.contains(&mine.generation) {
        return Relation::Behind;
    }
    Relation::Diverged
}

/// Whether a copy may be promoted on this basis (V4); if not, what it would take.
///
/// # Errors
/// What it would take, in words.
pub fn may_promote(copy: CopyState, basis: Basis) -> Result<(), &'static str> {
    match (copy, basis) {
        (CopyState::Failed, _) => Err("its backing has to work again first"),
        (CopyState::UpToDate, _) | (_, Basis::Force) | (CopyState::LastKnownGood { .. }, Basis::Confirmed) => Ok(()),
        (CopyState::LastKnownGood { .. }, Basis::Arbiter { marked: false } | Basis::Automatic { together: true }) => {
            Ok(())
        }
        (CopyState::LastKnownGood { .. }, Basis::Arbiter { marked: true }) => {
            Err("the arbiter says that it is outdated: only force promotes it")
        }
        (CopyState::LastKnownGood { .. }, Basis::Automatic { together: false }) => {
            Err("the mirror link and the comm paths did not fall silent at once: it takes the operator's word")
        }
        (CopyState::LastKnownGood { .. }, Basis::Free) => Err("it takes contact, the arbiter, or the operator's word"),
        (CopyState::Outdated | CopyState::Inconsistent, _) => Err("only force promotes it"),
    }
}

/// What a copy is worth, by its label and by whom it is in contact with.
#[must_use]
pub fn worth(state: DurableState, contact: Option<Relation>, last: mainstay_core::time::UnixMs) -> CopyState {
    match (state, contact) {
        (DurableState::Outdated, _) => CopyState::Outdated,
        (DurableState::Inconsistent, _) => CopyState::Inconsistent,
        (DurableState::Good, Some(Relation::Same | Relation::Ahead)) => CopyState::UpToDate,
        (DurableState::Good, Some(Relation::Behind)) => CopyState::Outdated,
        (DurableState::Good, Some(Relation::Diverged) | None) => CopyState::LastKnownGood { since: last },
    }
}
