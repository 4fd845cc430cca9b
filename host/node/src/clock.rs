//! The clocks that the core is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_core::time::{Monotonic, Now, UnixMs};
use nix::time::{ClockId, clock_gettime};

/// Counts from when the daemon started, and goes on while the machine is suspended (CLOCK_BOOTTIME, clock_gettime(2)): a
/// machine that wakes up notices that it was away, and blames nobody for its own silence (OWNERSHIP O6).
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Duration,
}

impl Clock {
    /// Counts from now.
    ///
    /// # Errors
    /// When the system has no such clock: Linux has, since 2.6.39.
    pub fn start() -> std::io::Result<Self> {
        Ok(Self { started: since_boot()? })
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        // The clock that was there at the start is there.
        let monotonic = since_boot().unwrap_or(self.started).saturating_sub(self.started).as_millis();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let ms = |ms| u64::try_from(ms).unwrap_or(u64::MAX);
        Now { monotonic: Monotonic(ms(monotonic)), unix: UnixMs(ms(unix)) }
    }

    /// A time of the core as the machine counts it, since it was started: what other processes understand.
    #[must_use]
    pub fn since_boot(&self, at: Monotonic) -> Duration {
        self.started.saturating_add(Duration::from_millis(at.0))
    }
}

fn since_boot() -> std::io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME)?.into())
}
