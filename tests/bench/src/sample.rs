//! Many measured values of one thing, and what is said of them: least, median, p99.
//!
//! Never a mean: on a machine that does other things too, a mean tells how often it did.

use std::fmt;
use std::time::Duration;

/// Measured values, in one unit.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// One more time, in µs.
    pub fn push_us(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e6);
    }

    /// One more time, in ms.
    pub fn push_ms(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e3);
    }

    /// All of another's, too.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which this share of all values lies (nearest rank); NaN without values.
    #[must_use]
    pub fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        // Of 1 to len, so that with few values a high share is the greatest and not the one before it.
        let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
        sorted.get(rank.min(sorted.len()).saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// As many are above it as below.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// One in a hundred is above it.
    #[must_use]
    pub fn p99(&self) -> f64 {
        self.at(0.99)
    }

    /// The least.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.at(0.0)
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [min, median, p99] = [self.min(), self.median(), self.p99()].map(crate::summary::in_digits);
        write!(f, "min {min}, median {median}, p99 {p99} of {}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_value_that_was_measured() {
        let mut samples = Samples::new();
        assert!(samples.median().is_nan());
        for value in [3.0, 1.0, 2.0] {
            samples.push(value);
        }
        assert_eq!((samples.min(), samples.median(), samples.p99()), (1.0, 2.0, 3.0));
        for value in 4..=100 {
            samples.push(f64::from(value));
        }
        assert_eq!((samples.median(), samples.p99(), samples.at(1.0)), (50.0, 99.0, 100.0));
        assert_eq!(samples.to_string(), "min 1, median 50, p99 99 of 100");
    }

    #[test]
    fn times_are_told_in_their_unit() {
        let mut samples = Samples::new();
        samples.push_us(Duration::from_millis(2));
        samples.push_ms(Duration::from_millis(2));
        assert_eq!((samples.min(), samples.at(1.0)), (2.0, 2_000.0));
    }
}
