//! The core's words as those of a volume's process, and back.

use mainstay_core::claim::{ClaimId, Epoch as CoreEpoch};
use mainstay_core::time::UnixMs;
use mainstay_core::volume::{Basis as CoreBasis, Marked};
use mainstay_volume::control::wire::{Basis, Outcome};
use mainstay_volume_core::types::Epoch;

use super::place::Place;

/// None: the claim is of a node that has no copy.
pub(super) fn epoch(place: &Place, claim: &ClaimId) -> Option<Epoch> {
    place.side_of(&claim.claimant).map(|side| Epoch { counter: claim.epoch.0, side })
}

pub(super) fn claim(place: &Place, epoch: Epoch) -> ClaimId {
    ClaimId { epoch: CoreEpoch(epoch.counter), claimant: place.node(epoch.side).clone() }
}

/// `since`: when the other copy was last heard, if it is not heard now.
pub(super) fn basis(basis: &CoreBasis, since: Option<UnixMs>) -> Basis {
    match basis {
        CoreBasis::Free => Basis::Free,
        CoreBasis::Word => Basis::Confirmed,
        CoreBasis::Silence(silence) => {
            Basis::Automatic { together: since.is_some_and(|since| silence.together(since)) }
        }
        CoreBasis::Arbiter { marked } => Basis::Arbiter { marked: *marked },
    }
}

/// What an operator allows for a copy is in place of how this node came by its claim. But against a mark in the arbiter only
/// force counts: who gave his word for a copy was not told of it (V4).
pub(super) fn allowed(basis: Basis, allowed: Option<Basis>) -> Basis {
    match (basis, allowed) {
        (Basis::Arbiter { marked: true }, Some(Basis::Force)) => Basis::Force,
        (Basis::Arbiter { marked: true }, _) | (_, None) => basis,
        (_, Some(allowed)) => allowed,
    }
}

/// None: it is superseded by a claim of a node that has no copy.
pub(super) fn outcome(place: &Place, marked: &Marked) -> Option<Outcome> {
    Some(match marked {
        Marked::Done => Outcome::Done,
        Marked::Unreachable => Outcome::Unreachable,
        Marked::InContact => Outcome::InContact,
        Marked::Superseded(newer) => Outcome::Superseded(epoch(place, newer)?),
    })
}

pub(super) fn marked(place: &Place, outcome: Outcome) -> Marked {
    match outcome {
        Outcome::Done => Marked::Done,
        Outcome::Unreachable => Marked::Unreachable,
        Outcome::InContact => Marked::InContact,
        Outcome::Superseded(epoch) => Marked::Superseded(claim(place, epoch)),
    }
}
