//! What fuzzers begin from (`tests/fuzz/corpus`): the same files, and changed variants of them, in every test run.
//!
//! The files are made of real values, written by the tests with `MAINSTAY_BLESS=1`; others may lie beside them, such as
//! what a fuzzer once found.

use std::fs;

use crate::root;

/// Bytes that look like nothing, the same in every run (splitmix64).
struct Noise(u64);

impl Noise {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % most.max(1) as u64) as usize
    }

    /// Turned over, cut, doubled or filled in, here and there.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.below(256) as u8),
                2 => bytes.extend_from_within(at..),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
    }
}

/// Writes the seeds if asked to, and gives every file there is to the function, and so many changed variants of it. Of a
/// seed it is said whether the function takes it.
///
/// # Panics
/// When a file is not there or not as the seed says, or the function answers otherwise.
#[track_caller]
pub fn hold(name: &str, variants: u64, seeds: Vec<(&str, Vec<u8>, bool)>, function: impl Fn(&[u8]) -> bool) {
    let folder = root().join("tests/fuzz/corpus").join(name);
    let failed = |error: std::io::Error| panic!("{}: {error}", folder.display());
    if std::env::var_os("MAINSTAY_BLESS").is_some_and(|value| value == "1") {
        fs::create_dir_all(&folder).unwrap_or_else(failed);
        for (seed, bytes, _) in &seeds {
            fs::write(folder.join(seed), bytes).unwrap_or_else(failed);
        }
    }
    for (seed, bytes, good) in &seeds {
        let there = fs::read(folder.join(seed)).unwrap_or_else(|error| panic!("{name}/{seed}: {error}"));
        assert!(there == *bytes, "{name}/{seed} is of another shape: MAINSTAY_BLESS=1 writes it anew");
        assert_eq!(function(bytes), *good, "{name}/{seed}");
    }
    let mut noise = Noise(7);
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let bytes = entry.and_then(|entry| fs::read(entry.path())).unwrap_or_else(|error| panic!("{name}: {error}"));
        function(&bytes);
        for _ in 0..variants {
            let mut changed = bytes.clone();
            noise.change(&mut changed);
            function(&changed);
        }
    }
}
