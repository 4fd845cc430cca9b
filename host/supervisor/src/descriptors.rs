//! How many descriptors the daemon may have, and how many its programs.
//!
//! The daemon needs many: two for each command that runs. Programs get the limit that the daemon was started with: some
//! close every descriptor up to theirs when they start, and some cannot cope with numbers above 1023 (select(2)).

use std::io;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How the daemon tells a supervisor the limit for the program.
pub(crate) const VARIABLE: &str = "MAINSTAY_DESCRIPTORS";

static STARTED_WITH: OnceLock<u64> = OnceLock::new();

/// Raises this process's limit as far as it may. Programs are started with the limit of before.
///
/// # Errors
/// When the system refuses; the limit is as before then.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    // Raised twice, it is still the first that counts.
    let _ = STARTED_WITH.set(soft);
    Ok(())
}

/// In the daemon: the limit that programs get, if it is another than the daemon's.
pub(crate) fn for_programs() -> Option<u64> {
    STARTED_WITH.get().copied()
}

/// In a supervisor: what the daemon has told.
pub(crate) fn told() -> Option<u64> {
    std::env::var(VARIABLE).ok()?.parse().ok()
}
