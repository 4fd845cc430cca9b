//! Bugs that are planted in the core, one at a time, each a cargo feature of `mainstay-core` (`host/core/src/planted.rs`):
//! the simulation has to find every one of them within so many seeds. What it would not find it does not test.

/// A planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// The cargo feature.
    pub feature: &'static str,
    /// It is found within so many seeds, from 0.
    pub seeds: u64,
}

const fn bug(feature: &'static str, seeds: u64) -> Bug {
    Bug { feature, seeds }
}

/// All of them.
pub const PLANTED: &[Bug] = &[
    bug("bug-calls-before-records", 100),
    bug("bug-tells-before-records", 100),
    bug("bug-no-proof-at-start", 200),
    bug("bug-takes-any-offer", 5_000),
    bug("bug-takes-back-at-once", 1_000),
    bug("bug-remove-may-fail", 1_000),
    bug("bug-stale-owner-stays", 1_000),
    bug("bug-hangs-is-dead", 1_000),
    bug("bug-jeopardy-ignored", 1_000),
    bug("bug-fence-always-proves", 1_000),
    bug("bug-permit-from-answer", 10_000),
    bug("bug-lease-is-a-permit", 1_000),
    bug("bug-promise-not-kept", 10_000),
    bug("bug-confirms-anything", 2_000),
    bug("bug-guardian-not-told", 1_000),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_that_is_planted_is_looked_for() {
        let manifest = include_str!("../../../host/core/Cargo.toml");
        let mut planted: Vec<&str> = manifest
            .lines()
            .filter(|line| line.starts_with("bug-"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let mut looked_for: Vec<&str> = PLANTED.iter().map(|bug| bug.feature).collect();
        planted.sort_unstable();
        looked_for.sort_unstable();
        assert_eq!(planted, looked_for);
    }
}
