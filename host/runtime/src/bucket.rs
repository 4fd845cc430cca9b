//! How many lines of one sort are written: some in a row, then some per second, the rest counted.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: lines in a row, then lines per second.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Thousandths of a line that may still be written; none: never used, so full.
    left_milli: Option<u64>,
    filled: Option<Instant>,
    dropped: u64,
}

impl Bucket {
    /// May a line be written now? `Some(dropped)`: yes, and so many were dropped before it.
    pub(crate) fn take(&mut self, now: Instant, burst_max: u32, per_s_max: u32) -> Option<u64> {
        let full = u64::from(burst_max) * 1000;
        let since = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        let gained = u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_mul(per_s_max.into());
        let left = self.left_milli.unwrap_or(full).saturating_add(gained).min(full);
        // A time too short to gain anything by adds up with the next.
        if gained > 0 || self.filled.is_none() {
            self.filled = Some(now);
        }
        if left < 1000 {
            self.left_milli = Some(left);
            self.dropped += 1;
            return None;
        }
        self.left_milli = Some(left - 1000);
        Some(self.take_dropped())
    }

    /// How many were dropped since this was last told.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_dropped_and_counted_and_time_heals() {
        let mut bucket = Bucket::default();
        let passed = (0..1000).filter(|_| bucket.take(Instant::now(), 10, 2).is_some()).count();
        assert_eq!(passed, 10);
        tokio::time::advance(Duration::from_millis(1000)).await;
        assert_eq!(bucket.take(Instant::now(), 10, 2), Some(990), "the next line tells how many were dropped");
        assert_eq!(bucket.take(Instant::now(), 10, 2), Some(0));
        assert_eq!(bucket.take(Instant::now(), 10, 2), None);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let passed = (0..1000).filter(|_| bucket.take(Instant::now(), 10, 2).is_some()).count();
        assert_eq!(passed, 10, "never more than the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn through_a_flood_some_get_through() {
        let mut bucket = Bucket::default();
        let mut passed = 0;
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_micros(200)).await;
            passed += usize::from(bucket.take(Instant::now(), 10, 5).is_some());
        }
        assert!((19..=21).contains(&passed), "10 in a row and 5 in each of two seconds: {passed}");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_drips_add_up() {
        let mut bucket = Bucket::default();
        while bucket.take(Instant::now(), 1, 1).is_some() {}
        for _ in 0..9 {
            tokio::time::advance(Duration::from_millis(100)).await;
            assert!(bucket.take(Instant::now(), 1, 1).is_none());
        }
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(bucket.take(Instant::now(), 1, 1).is_some());
    }
}
