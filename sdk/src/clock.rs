//! Time. Needs no grant.

use std::time::Duration;

use crate::seam;

/// The wall clock, in ms since 1970-01-01 UTC. May jump.
#[must_use]
pub fn unix_ms() -> u64 {
    seam::unix_ms()
}

/// A monotonic clock, comparable within one call only.
#[must_use]
pub fn monotonic() -> Duration {
    Duration::from_millis(seam::monotonic_ms())
}

/// What is left until the host drops this call.
#[must_use]
pub fn remaining() -> Duration {
    Duration::from_millis(u64::from(seam::remaining_ms()))
}

/// Waits. Costs wall time, not CPU budget; ends early, together with the call, at the deadline.
pub fn sleep(time: Duration) {
    seam::sleep_ms(crate::ms(time));
}
