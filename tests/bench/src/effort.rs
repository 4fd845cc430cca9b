//! How much is spent on a measurement. Decides nothing about what is measured or how: only how often.

/// How much is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// One round of each, to see that it works; its figures say nothing. For this crate's tests.
    Tiny,
    /// Short runs: the right order of magnitude.
    Quick,
    /// Enough for figures that come out alike on a machine that others use too.
    Full,
}

impl Effort {
    /// The one of three numbers that is meant.
    #[must_use]
    pub const fn pick<T: Copy>(self, tiny: T, quick: T, full: T) -> T {
        match self {
            Self::Tiny => tiny,
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}
