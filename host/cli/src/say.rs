//! Words for whoever asked, on standard output.
//!
//! That nobody reads them any more, as behind `| head`, ends the command without a word; that they cannot be written, as
//! to a full disk, is an error like any other. Neither is a panic.

use std::fmt;
use std::io::{self, Write as _};

/// A line for standard output.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}
pub(crate) use say;

/// The exit code of a command whose reader has gone: what a shell shows for one that SIGPIPE ended.
pub(crate) const NOBODY_READS: i32 = 141;

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {0}")]
pub(crate) struct Unwritten(#[source] io::Error);

/// Writes a line.
pub(crate) fn line(words: fmt::Arguments<'_>) -> Result<(), Unwritten> {
    io::stdout().lock().write_fmt(format_args!("{words}\n")).map_err(Unwritten)
}

/// Writes a text with colours, for those who can see them.
pub(crate) fn styled(text: &str) -> Result<(), Unwritten> {
    let mut out = anstream::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Unwritten)
}

/// Whether a command failed for nothing but that its reader has gone.
pub(crate) fn is_nobody_reads(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unwritten>().is_some_and(|Unwritten(error)| error.kind() == io::ErrorKind::BrokenPipe)
}
