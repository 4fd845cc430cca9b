//! Cryptographically secure randomness. Needs no grant.

use crate::seam;

/// The most bytes one request to the host may ask for (`wit/random.wit`).
pub const RANDOM_BYTES_MAX: usize = 64 * 1024;

/// `count` random bytes.
#[must_use]
pub fn bytes(count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(count);
    while out.len() < count {
        let step = (count - out.len()).min(RANDOM_BYTES_MAX);
        out.extend_from_slice(&seam::random_bytes(step as u32));
    }
    out
}

/// `N` random bytes.
#[must_use]
pub fn array<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes(N));
    out
}
