//! Bugs that are planted in a volume, one after the other (`mainstay_volume_core::planted`): the simulation has to find
//! every one of them within so many seeds.

use mainstay_volume_core::planted::Bug;

/// Within how many seeds, from 0, a bug has to be found.
#[must_use]
pub const fn seeds(bug: Bug) -> u64 {
    match bug {
        Bug::NoMark
        | Bug::GenerationLate
        | Bug::ClearedEarly
        | Bug::BitLate
        | Bug::AnyEpoch
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
