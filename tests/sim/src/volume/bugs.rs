//! Bugs that are planted in a volume, one after the other (`mainstay_volume_core::planted`): the simulation has to find
//! every one of them within so many seeds.

use mainstay_volume_core::planted::Bug;

use super::run::Case;

/// What is tried after the seeds: every point of going alone and coming back.
#[must_use]
pub fn points() -> impl Iterator<Item = Case> {
    [(6, true), (7, false), (8, false)].into_iter().flat_map(|(seed, arbiter)| Case::every_point_alone(seed, arbiter))
}

/// Within how many seeds, from 0, a bug has to be found; with 0, only in [`points`].
#[must_use]
pub const fn seeds(bug: Bug) -> u64 {
    match bug {
        Bug::NoMark
        | Bug::GenerationLate
        | Bug::ClearedEarly
        | Bug::BitLate
        | Bug::OwnBitsOnly
        | Bug::GoodInResync
        | Bug::WholeUnflushed
        | Bug::FlushHere
        | Bug::NoExclusion
        | Bug::NoOrder
        | Bug::LogBelieved
        | Bug::DivergedIgnored
        | Bug::PermitIgnored
        | Bug::OutdatedPromoted
        | Bug::StillExclusive => 2_000,
    }
}
