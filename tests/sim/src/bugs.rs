//! Bugs that are planted in the core, one after the other (`mainstay_core::planted`): the simulation has to find every one
//! of them within so many seeds. What it would not find it does not test.

use mainstay_core::planted::Bug;

/// In which worlds a bug is looked for, and within how many seeds, from 0, it has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Clusters ([`crate::world`]).
    Clusters(u64),
    /// Clusters with a volume ([`crate::joined`]).
    Volumes(u64),
}

/// See [`Within`].
#[must_use]
pub const fn within(bug: Bug) -> Within {
    let clusters = match bug {
        Bug::CallsBeforeRecords => 100,
        Bug::TellsBeforeRecords => 100,
        Bug::NoProofAtStart => 200,
        Bug::TakesAnyOffer => 5_000,
        Bug::TakesBackFromSilent => 1_000,
        Bug::RemoveMayFail => 1_000,
        Bug::StaleOwnerStays => 1_000,
        Bug::HangsIsDead => 1_000,
        Bug::JeopardyIgnored => 1_000,
        Bug::FenceAlwaysProves => 1_000,
        Bug::PermitFromAnswer => 10_000,
        Bug::PromiseNotKept => 10_000,
        Bug::GuardianNotTold => 1_000,
        Bug::GoneBackBelieved => 1_000,
        Bug::OwnGapIgnored => 1_000,
        Bug::LateConfirmation => 1_000,
        Bug::DifferencesIgnored => 1_000,
        Bug::RightBeforeRecord
        | Bug::PermitEndNotTold
        | Bug::RightStays
        | Bug::MarkNotCompared
        | Bug::MarkNotAsked
        | Bug::BasisAlwaysWord
        | Bug::OldWordIsProof => return Within::Volumes(2_000),
    };
    Within::Clusters(clusters)
}
