//! Lines in the host's log. Needs no grant. Never fails, never blocks: beyond the limits on rate and
//! size the host counts and drops lines.

use crate::{Details, seam};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the kit's author.
    Debug,
    /// Worth knowing.
    Info,
    /// A person should look some time.
    Warn,
    /// A person should look now.
    Error,
}

/// Writes a line with named fields. The macros [`crate::debug!`], [`crate::info!`], [`crate::warn!`] and
/// [`crate::error!`] are shorter.
pub fn emit(level: Level, message: &str, fields: &Details) {
    seam::log_emit(level, message, fields);
}

/// Writes a line at level debug, formatted like `format!`.
#[macro_export]
macro_rules! debug { ($($arg:tt)*) => { $crate::log::emit($crate::log::Level::Debug, &::std::format!($($arg)*), &::std::vec::Vec::new()) } }

/// Writes a line at level info, formatted like `format!`.
#[macro_export]
macro_rules! info { ($($arg:tt)*) => { $crate::log::emit($crate::log::Level::Info, &::std::format!($($arg)*), &::std::vec::Vec::new()) } }

/// Writes a line at level warn, formatted like `format!`.
#[macro_export]
macro_rules! warn { ($($arg:tt)*) => { $crate::log::emit($crate::log::Level::Warn, &::std::format!($($arg)*), &::std::vec::Vec::new()) } }

/// Writes a line at level error, formatted like `format!`.
#[macro_export]
macro_rules! error { ($($arg:tt)*) => { $crate::log::emit($crate::log::Level::Error, &::std::format!($($arg)*), &::std::vec::Vec::new()) } }
