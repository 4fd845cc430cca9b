//! The dice of a run. Everything random in a simulated world comes from here, so that a seed is the whole run.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): a few lines, the same on every machine, and good enough to throw dice with.

use mainstay_core::time::Millis;

/// Dice with a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same throws.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of their own for one purpose: how often they are thrown changes nothing for another.
    #[must_use]
    pub fn of(seed: u64, purpose: u64) -> Self {
        let mut random = Self(seed ^ purpose.wrapping_mul(0xa076_1d64_78bd_642f));
        random.throw();
        random
    }

    /// Any number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is far below anything that is counted here.
        self.throw().checked_rem(bound).unwrap_or(0)
    }

    /// Whether something happens that happens in so many of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.below(1000) < permille
    }

    /// A length of time from `least` to `most`.
    pub fn between(&mut self, least: Millis, most: Millis) -> Millis {
        Millis(least.0 + self.below(most.0.saturating_sub(least.0) + 1))
    }

    /// One of several.
    ///
    /// # Panics
    /// When there is none to choose from.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_the_whole_sequence() {
        let throws = |seed| {
            let mut random = Random::new(seed);
            [random.throw(), random.throw(), random.throw()]
        };
        // The first throws of SplitMix64 from 0, as published.
        assert_eq!(throws(0), [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
        assert_ne!(throws(1), throws(2));
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut random = Random::new(7);
        let hits = (0..100_000).filter(|_| random.chance(300)).count();
        assert!((29_000..31_000).contains(&hits), "{hits}");
        assert!(!random.chance(0) && random.chance(1000));
        assert!((0..1000).map(|_| random.between(Millis(3), Millis(5)).0).all(|ms| (3..=5).contains(&ms)));
    }
}
