//! The measurements, each in a file of its own that says what it measures and how.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::effort::Effort;
use crate::summary::Report;
use crate::trouble::Trouble;

mod check;
mod daemon;
mod failover;
mod journal;
mod load;
mod moves;
mod plan;
mod program;
mod volume;

/// A measurement.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures, for people.
    pub title: &'static str,
    run: fn(Effort) -> Result<Report, Trouble>,
}

/// All of them. Those that load every core for long come last.
pub const ALL: [Measurement; 9] = [
    Measurement { name: "check", title: "One quick-check of the null kit, the whole path", run: check::run },
    Measurement { name: "program", title: "One quick-check that runs a program", run: program::run },
    Measurement { name: "load", title: "Loading each kit, cold and from the cache", run: load::run },
    Measurement { name: "plan", title: "Planning large hierarchies", run: plan::run },
    Measurement { name: "journal", title: "Making a record durable", run: journal::run },
    Measurement { name: "moves", title: "mainstay's own share of repairs and moves, in the demo", run: moves::run },
    Measurement { name: "failover", title: "A power cut at the owner, seen from outside", run: failover::run },
    Measurement { name: "volume", title: "A mirrored volume, beside qemu's mirrors", run: volume::run },
    Measurement { name: "daemon", title: "10,000 resources checked every 5 s by a real daemon", run: daemon::run },
];

impl Measurement {
    /// Measures. To be called outside of any tokio runtime.
    ///
    /// # Errors
    /// When it could not be measured.
    pub fn run(&self, effort: Effort) -> Result<Report, Trouble> {
        // What builds programs and kits for tests panics when it cannot; the other measurements go on.
        catch_unwind(AssertUnwindSafe(|| (self.run)(effort))).unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            Err(Trouble::Panicked(words.unwrap_or_else(|| "it panicked without a word".to_owned())))
        })
    }
}

/// Threads as the daemon has them.
fn tokio() -> Result<tokio::runtime::Runtime, Trouble> {
    /// `host/cli/src/main.rs` says why.
    const EVENT_INTERVAL: u32 = 5;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.event_interval(EVENT_INTERVAL).enable_all().build().map_err(Trouble::system("start threads"))
}

/// A folder on a disk: not where temporary files are, which may be memory, and no daemon has its state there.
fn disk_folder(prefix: &str) -> Result<tempfile::TempDir, Trouble> {
    let below = std::env::current_exe().map_err(Trouble::system("find out where this program is"))?;
    let below = below.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(prefix).tempdir_in(below).map_err(Trouble::file("make a folder in", below))
}

/// Runs a future to its end on a worker thread, where the daemon's kit calls run too.
fn on_worker<T: Send + 'static>(
    tokio: &tokio::runtime::Runtime,
    future: impl Future<Output = Result<T, Trouble>> + Send + 'static,
) -> Result<T, Trouble> {
    match tokio.block_on(tokio.spawn(future)) {
        Ok(result) => result,
        Err(error) => Err(Trouble::Panicked(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_panic_is_a_measurement_that_failed() {
        let bad = Measurement { name: "x", title: "x", run: |_| panic!("no {}", "compiler") };
        assert_eq!(bad.run(Effort::Tiny).unwrap_err().to_string(), "no compiler");
    }

    #[test]
    fn names_are_told_apart() {
        let names: BTreeSet<&str> = ALL.iter().map(|measurement| measurement.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
