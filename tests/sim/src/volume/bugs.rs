//! Bugs that are planted in a volume, one after the other (`mainstay_volume_core::planted`): the simulation has to find
//! every one of them within so many seeds.

use mainstay_volume_core::planted::Bug;

use super::run::Case;

/// What is tried after the seeds: every point of going alone and coming back.
pub fn points() -> impl Iterator<Item = Case> {
    [(6, true), (7, false), (8, false)].into_iter().flat_map(|(seed, arbiter)| Case::every_point_alone(seed, arbiter))
}

/// Within how many seeds, from 0, a bug has to be found. After them [`points`] are tried.
#[must_use]
pub const fn seeds(bug: Bug) -> u64 {
    match bug {
        Bug::BitLate
        | Bug::DivergedIgnored
        | Bug::NoExclusion
        | Bug::NoMark
        | Bug::NoOrder
        | Bug::OutdatedPromoted
        | Bug::OwnBitsOnly
        | Bug::StillExclusive => 200,
        Bug::ClearedEarly | Bug::FlushHere | Bug::GoodInResync | Bug::LogBelieved | Bug::PermitIgnored => 1_000,
        // It takes a crash within the few ms in which the generation is being written, where nobody can be marked.
        Bug::GenerationLate => 5_000,
        // It takes a crash between the end of a resync and the next flush, of which there is one before most of what follows.
        Bug::WholeUnflushed => 5_000,
    }
}
