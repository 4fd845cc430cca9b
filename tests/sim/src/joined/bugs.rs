//! Bugs that are planted in what the core says to volumes, and in the volumes, are looked for in the joined world as well.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::case::Case;

/// What is tried after the seeds, so often: see [`Case::late_mark`] and [`Case::old_word`].
const EACH: u64 = 500;

/// Tries seeds from 0, so many at the most, on so many cores; how many were tried, and what the lowest that failed showed.
#[must_use]
pub fn find(seeds: u64, jobs: usize) -> (u64, Option<String>) {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let found: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let case = match seed.checked_sub(seeds) {
                        None => Case::from_seed(seed),
                        Some(number) if number < EACH => Case::late_mark(number),
                        Some(number) if number < 2 * EACH => Case::old_word(number - EACH),
                        Some(_) => return,
                    };
                    if let Some(why) = case.run(false).broken {
                        enough.store(true, Ordering::Relaxed);
                        if let Ok(mut found) = found.lock() {
                            found.push((seed, why));
                        }
                    }
                }
            });
        }
    });
    let first = found.into_inner().unwrap_or_default().into_iter().min();
    (next.into_inner().min(seeds + 2 * EACH), first.map(|(_, why)| why))
}
