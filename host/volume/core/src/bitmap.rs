//! A set of regions, and its run lengths.

use alloc::vec;
use alloc::vec::Vec;

use crate::types::Region;

/// A set of the regions of one volume. Knows how many are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    regions: u32,
    count: u32,
}

impl Bitmap {
    /// Of a volume with so many regions: none of them is in it.
    #[must_use]
    pub fn empty(regions: u32) -> Self {
        Self { words: vec![0; regions.div_ceil(64) as usize], regions, count: 0 }
    }

    /// All are.
    #[must_use]
    pub fn full(regions: u32) -> Self {
        let mut all = Self::empty(regions);
        all.set_range(0, regions);
        all
    }

    /// How many regions the volume has.
    #[must_use]
    pub fn regions(&self) -> u32 {
        self.regions
    }

    /// How many are in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether it is in.
    #[must_use]
    pub fn has(&self, region: Region) -> bool {
        self.words.get(region.0 as usize / 64).is_some_and(|word| word & (1 << (region.0 % 64)) != 0)
    }

    /// Puts it in; whether it was not. Beyond the volume there is nothing to put in.
    pub fn set(&mut self, region: Region) -> bool {
        if region.0 >= self.regions || self.has(region) {
            return false;
        }
        self.words[region.0 as usize / 64] |= 1 << (region.0 % 64);
        self.count += 1;
        true
    }

    /// Takes it out; whether it was in.
    pub fn clear(&mut self, region: Region) -> bool {
        if !self.has(region) {
            return false;
        }
        self.words[region.0 as usize / 64] &= !(1 << (region.0 % 64));
        self.count -= 1;
        true
    }

    /// Puts in those from `from` up to, not including, `to`.
    pub fn set_range(&mut self, from: u32, to: u32) {
        let to = to.min(self.regions);
        let mut at = from;
        while at < to {
            let word = &mut self.words[at as usize / 64];
            let here = (64 - at % 64).min(to - at);
            let mask = (u64::MAX >> (64 - here)) << (at % 64);
            self.count += (mask & !*word).count_ones();
            *word |= mask;
            at += here;
        }
    }

    /// Takes all out.
    pub fn clear_all(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }

    /// Puts in what the other one has.
    pub fn unite(&mut self, other: &Self) {
        for (word, others) in self.words.iter_mut().zip(&other.words) {
            self.count += (others & !*word).count_ones();
            *word |= others;
        }
    }

    /// The first one in it that is not below `from`.
    #[must_use]
    pub fn next(&self, from: Region) -> Option<Region> {
        let mut index = from.0 as usize / 64;
        let mut word = self.words.get(index)? & (u64::MAX << (from.0 % 64));
        while word == 0 {
            index += 1;
            word = *self.words.get(index)?;
        }
        u32::try_from(index).ok().map(|index| Region(index * 64 + word.trailing_zeros()))
    }

    /// All that are in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = Region> {
        let mut from = Some(Region(0));
        core::iter::from_fn(move || {
            let found = self.next(from?)?;
            from = found.0.checked_add(1).map(Region);
            Some(found)
        })
    }

    /// Lengths of runs of clear and set bits in turn, clear ones first; what is clear at the end is left out.
    #[must_use]
    pub fn runs(&self) -> Vec<u32> {
        let mut runs = Vec::new();
        let mut at = 0;
        while let Some(Region(first)) = self.next(Region(at)) {
            let end = self.next_clear(first);
            runs.push(first - at);
            runs.push(end - first);
            at = end;
        }
        runs
    }

    fn next_clear(&self, from: u32) -> u32 {
        let mut at = from;
        while at < self.regions {
            // Ones beyond the word's end count as clear, so that a run ends at a word's end at the latest.
            let ones = (self.words[at as usize / 64] >> (at % 64)).trailing_ones();
            at += ones;
            if !at.is_multiple_of(64) || ones == 0 {
                break;
            }
        }
        at.min(self.regions)
    }

    /// 8 bytes of it: the bits of the regions from 64 × `index` on.
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or_default()
    }

    /// Puts in what this word says: see [`Self::word`].
    pub fn unite_word(&mut self, index: usize, word: u64) {
        let beyond = u64::from(self.regions).saturating_sub(index as u64 * 64).min(64);
        let mask = if beyond == 64 { u64::MAX } else { (1 << beyond) - 1 };
        if let Some(mine) = self.words.get_mut(index) {
            self.count += (word & mask & !*mine).count_ones();
            *mine |= word & mask;
        }
    }
}

/// Puts run lengths that come in parts back together.
#[derive(Clone, Debug)]
pub struct Runs {
    set: Bitmap,
    at: u32,
    ones: bool,
}

impl Runs {
    /// For a volume with so many regions.
    #[must_use]
    pub fn new(regions: u32) -> Self {
        Self { set: Bitmap::empty(regions), at: 0, ones: false }
    }

    /// One part more; whether all of it lies within the volume.
    #[must_use]
    pub fn add(&mut self, runs: &[u32]) -> bool {
        for length in runs {
            let Some(end) = self.at.checked_add(*length).filter(|end| *end <= self.set.regions) else {
                return false;
            };
            if self.ones {
                self.set.set_range(self.at, end);
            }
            (self.at, self.ones) = (end, !self.ones);
        }
        true
    }

    /// What came together.
    #[must_use]
    pub fn finish(self) -> Bitmap {
        self.set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_bitmap_is_a_set(regions in 1u32..300, ops in proptest::collection::vec((0u32..300, 0u32..300, 0u8..4), 0..40)) {
            let (mut bits, mut set) = (Bitmap::empty(regions), BTreeSet::new());
            for (a, b, op) in ops {
                match op {
                    0 => prop_assert_eq!(bits.set(Region(a)), a < regions && set.insert(a)),
                    1 => prop_assert_eq!(bits.clear(Region(a)), set.remove(&a)),
                    2 => {
                        bits.set_range(a.min(b), a.max(b));
                        set.extend(a.min(b)..a.max(b).min(regions));
                    }
                    _ => {
                        let mut other = Bitmap::empty(regions);
                        other.set(Region(a));
                        bits.unite(&other);
                        if a < regions { set.insert(a); }
                    }
                }
            }
            prop_assert_eq!(bits.count() as usize, set.len());
            prop_assert_eq!(bits.iter().map(|region| region.0).collect::<BTreeSet<_>>(), set);
        }

        #[test]
        fn runs_come_back_whole_in_any_parts(regions in 1u32..400, set in proptest::collection::vec(0u32..400, 0..200), part in 1usize..9) {
            let mut bits = Bitmap::empty(regions);
            for region in set {
                bits.set(Region(region));
            }
            let mut back = Runs::new(regions);
            for runs in bits.runs().chunks(part) {
                prop_assert!(back.add(runs));
            }
            prop_assert_eq!(back.finish(), bits);
        }
    }

    #[test]
    fn runs_are_short() {
        assert_eq!(Bitmap::full(1_000_000).runs(), [0, 1_000_000]);
        assert_eq!(Bitmap::empty(1_000_000).runs(), [0; 0]);
        let mut back = Runs::new(100);
        assert!(!back.add(&[0, 101]));
    }
}
