//! Waits for a condition, never for a time: a busy machine makes a test slower, not red.
//!
//! Every wait has a limit, and says what it waited for when the limit is reached.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that takes well under a second on an idle machine. Two cores that
/// compile something else have been seen to stretch it by a factor of thirty.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks, in ms: short against anything a person notices, long against what a look costs.
const POLL_INTERVAL_MS: u64 = 10;

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within `limit`; the text says `what` was waited for.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(limit, what, || condition().then_some(()));
}

/// Waits until `look` finds something, and gives it back.
///
/// # Panics
/// When it does not within `limit`; the text says `what` was waited for.
#[track_caller]
pub fn wait_for<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    // A closure around the panic would lose the caller's line.
    match look_until(limit, look) {
        Some(found) => found,
        None => panic!("waited {:.1} s for this, in vain: {what}", limit.as_secs_f64()),
    }
}

/// Waits until `condition` holds; false when it does not within `limit`.
#[must_use]
pub fn poll_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    look_until(limit, || condition().then_some(())).is_some()
}

fn look_until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        // A last look comes after the limit, so that a paused machine is not taken for a failure.
        if began.elapsed() >= limit {
            return look();
        }
        thread::sleep(Duration::from_millis(POLL_INTERVAL_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_true_is_found() {
        let mut looks = 0;
        let found = wait_for(WAIT_LIMIT, "the third look", || {
            looks += 1;
            (looks == 3).then_some("there")
        });
        assert_eq!((found, looks), ("there", 3));
        assert!(poll_until(Duration::ZERO, || true));
    }

    #[test]
    fn what_never_comes_true_ends_at_the_limit_and_says_what_it_was() {
        assert!(!poll_until(Duration::from_millis(30), || false));
        let panic = std::panic::catch_unwind(|| wait_until(Duration::from_millis(30), "pigs to fly", || false));
        let text = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("pigs to fly") && text.contains("0.0 s"), "{text}");
    }
}
