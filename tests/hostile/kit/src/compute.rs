//! Misbehaviour that needs a processor, memory, or patience.

use std::hint::black_box;
use std::time::Duration;

use mainstay_sdk::prelude::*;

use crate::Answer;

/// A piece of memory to take, in bytes.
const PIECE_BYTES: usize = 1 << 20;

pub(crate) fn spin() -> ! {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

pub(crate) fn tiny_calls() -> ! {
    loop {
        black_box(clock::monotonic());
    }
}

pub(crate) fn random_forever() -> ! {
    loop {
        black_box(random::bytes(random::RANDOM_BYTES_MAX));
    }
}

/// The end comes from outside, so that the compiler cannot see that there is none. Each frame holds something
/// for after the return, so that it is no loop, and nothing whose address is taken: the engine's stack fills up.
pub(crate) fn recurse() -> Answer {
    #[inline(never)]
    fn deeper(depth: u64, end: u64) -> u64 {
        if depth == end { 1 } else { deeper(depth + 1, end).wrapping_mul(31) ^ depth }
    }
    Answer::new(format!("came back with {}", deeper(0, black_box(u64::MAX))))
}

/// The same with arrays in each frame, which a compiler keeps in linear memory: the kit's own stack runs over.
pub(crate) fn recurse_in_memory() -> Answer {
    #[inline(never)]
    fn deeper(depth: u64) -> u64 {
        let here = black_box([depth; 16]);
        if here[3] == u64::MAX { 0 } else { deeper(depth + 1).wrapping_add(black_box(here)[5]) }
    }
    Answer::new(format!("came back with {}", deeper(black_box(0))))
}

pub(crate) fn wild_read() -> Answer {
    let outside = black_box(usize::MAX - 0xffff) as *const u8;
    // SAFETY: there is none: the address lies above any memory a kit is given, which is what is tried. In
    // WebAssembly that is a trap. Nothing native calls this.
    let byte = unsafe { outside.read_volatile() };
    Answer::new(format!("read {byte}"))
}

/// An allocation that fails ends a Rust program.
pub(crate) fn grow() -> ! {
    let mut pieces = Vec::new();
    loop {
        pieces.push(black_box(vec![1_u8; PIECE_BYTES]));
    }
}

pub(crate) fn grow_at_once(bytes: u32) -> Answer {
    let all = black_box(vec![1_u8; bytes as usize]);
    Answer::new(format!("got {} bytes", all.len()))
}

pub(crate) fn grow_politely() -> Answer {
    let mut pieces: Vec<Vec<u8>> = Vec::with_capacity(1 << 12);
    loop {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(PIECE_BYTES).is_err() {
            let got = pieces.len();
            drop(pieces);
            return Answer::new(format!("was refused after {got} MiB"));
        }
        pieces.push(black_box(piece));
    }
}

pub(crate) fn sleep(ms: u32) -> Answer {
    clock::sleep(Duration::from_millis(u64::from(ms)));
    Answer::new("awake")
}

pub(crate) fn sleep_forever() -> ! {
    loop {
        clock::sleep(Duration::from_millis(1));
    }
}
