//! `clock`: what time it is, what is left of the call, and waiting.

use std::time::{Duration, SystemTime};

use crate::bindings::mainstay::kit::clock::Host;
use crate::capability::{CallState, ms};

impl Host for CallState {
    fn unix_ms(&mut self) -> wasmtime::Result<u64> {
        // A clock before 1970 is a dead battery, not a reason to trap.
        Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, ms))
    }

    fn monotonic_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(ms(self.started.elapsed()))
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u32> {
        Ok(u32::try_from(ms(self.remaining())).unwrap_or(u32::MAX))
    }

    async fn sleep(&mut self, time_ms: u32) -> wasmtime::Result<()> {
        let _entered = self.enter("clock.sleep", format!("{time_ms} ms"));
        // The call's own deadline ends it if it comes first.
        tokio::time::sleep(Duration::from_millis(time_ms.into())).await;
        Ok(())
    }
}
