//! `random`: bytes from the operating system.

use crate::bindings::mainstay::kit::random::Host;
use crate::capability::CallState;
use crate::limits::contract::RANDOM_BYTES_MAX;

/// The kit asked for more than the contract allows at once.
#[derive(Debug, thiserror::Error)]
#[error("the kit asked for {count} random bytes at once; the contract allows {RANDOM_BYTES_MAX}")]
pub(crate) struct TooMany {
    count: u32,
}

impl Host for CallState {
    fn bytes(&mut self, count: u32) -> wasmtime::Result<Vec<u8>> {
        if count > RANDOM_BYTES_MAX {
            return Err(TooMany { count }.into());
        }
        let mut bytes = vec![0; count as usize];
        getrandom::fill(&mut bytes)
            .map_err(|error| wasmtime::format_err!("the operating system has no randomness: {error}"))?;
        Ok(bytes)
    }
}
