//! Memory for data on its way: aligned as direct I/O wants it, used again, and counted.
//!
//! Decides where a request's bytes lie, and says how many are in use; whoever takes requests in stops at a limit.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What memory begins at a multiple of, in bytes. No disk's direct I/O asks for more (`statx(2)`, `stx_dio_mem_align`).
pub const ALIGN_BYTES: usize = 4096;
/// Powers of two that a buffer may be long: none has 2 GiB.
const SIZES: usize = 32;
/// How much that is not in use is kept for the next request, in bytes: what a few clients with deep queues move.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Where buffers come from and go back to.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By the power of two that they are long.
    free: [Vec<Vec<u8>>; SIZES],
    free_bytes: usize,
    used_bytes: usize,
}

impl Pool {
    /// A buffer of this length; what it holds is what somebody left there.
    #[must_use]
    pub fn take(&self, length: usize) -> Buffer {
        let room = length.max(ALIGN_BYTES).next_power_of_two();
        let kept = {
            let mut pool = self.lock();
            pool.used_bytes += room;
            let found = pool.free[room.trailing_zeros() as usize].pop();
            pool.free_bytes -= found.as_ref().map_or(0, |_| room);
            found
        };
        let memory = kept.unwrap_or_else(|| vec![0; room + ALIGN_BYTES]);
        let start = memory.as_ptr().align_offset(ALIGN_BYTES);
        Buffer { memory, start, length, room, pool: self.clone() }
    }

    /// How many bytes are in use.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.lock().used_bytes
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in there panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes in aligned memory, which goes back where it came from.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
    room: usize,
    pool: Pool,
}

impl Buffer {
    /// The memory that it takes, in bytes: what [`Pool::used_bytes`] counts of it.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.room
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut pool = self.pool.lock();
        pool.used_bytes -= self.room;
        if pool.free_bytes + self.room <= KEPT_BYTES_MAX {
            pool.free_bytes += self.room;
            pool.free[self.room.trailing_zeros() as usize].push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_counted_and_used_again() {
        let pool = Pool::default();
        let (mut a, b) = (pool.take(512), pool.take(5000));
        assert_eq!((a.len(), b.len(), pool.used_bytes()), (512, 5000, 4096 + 8192));
        for buffer in [&a, &b] {
            assert!((buffer.as_ptr() as usize).is_multiple_of(ALIGN_BYTES));
        }
        a.fill(7);
        let place = a.as_ptr();
        drop(a);
        let again = pool.take(4096);
        assert_eq!((again.as_ptr(), again[0]), (place, 7));
        drop((again, b));
        assert_eq!(pool.used_bytes(), 0);
    }

    #[test]
    fn what_is_not_in_use_is_bounded() {
        let pool = Pool::default();
        let many: Vec<Buffer> = (0..4).map(|_| pool.take(16 << 20)).collect();
        drop(many);
        assert!(pool.lock().free_bytes <= KEPT_BYTES_MAX);
    }
}
