//! From a command's record of its end to the outcome that the caller gets.

use std::time::Duration;

use super::FolderError;
use crate::folder::{COLLECTED, End, Folder, OUTCOME, OutcomeRecord};
use crate::output::{Stream, newest};
use crate::types::{LaunchFailure, Outcome, Request};

/// How often to look for the outcome of a supervisor that does not tell us, in ms. Only after a restart of the daemon.
const LOOK_MS: u64 = 50;

/// The end of a command, with what it printed.
#[derive(Debug)]
pub(super) enum Collected {
    NotStarted(LaunchFailure),
    Ran {
        outcome: Outcome,
        /// Children live on, and the supervisor with them.
        lingers: bool,
    },
}

/// Reads what belongs to the end of a command. Blocking.
pub(super) fn read(folder: &Folder, request: &Request, end: End) -> Result<Collected, FolderError> {
    match end {
        End::NotStarted(failure) => Ok(Collected::NotStarted(failure)),
        End::Ran { ending, truncated, duration_ms, evidence, lingers } => {
            let stream = |stream| {
                newest(folder, stream, request.output_bytes_max.into())
                    .map_err(FolderError::of("read the output in", folder.path()))
            };
            let (stdout, stderr) = (stream(Stream::Stdout)?, stream(Stream::Stderr)?);
            let outcome = Outcome { ending, stdout, stderr, truncated, duration_ms, evidence };
            Ok(Collected::Ran { outcome, lingers })
        }
    }
}

/// Notes that the outcome was taken: the supervisor may remove the folder after its last child. Blocking.
pub(super) fn mark(folder: &Folder) {
    match folder.create(COLLECTED) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        // Then we remove it ourselves when the supervisor has ended, or the next daemon takes the outcome again.
        Err(error) => tracing::warn!("{} could not be marked as taken: {error}", folder.path().display()),
    }
}

/// Removes a command's folder. Blocking.
pub(super) fn remove(folder: &Folder) {
    if let Err(error) = folder.remove() {
        tracing::warn!("{} could not be removed and is tried again after a restart: {error}", folder.path().display());
    }
}

/// The record of a command's end. `None`: there is none, or it was torn by a power cut. Blocking, but quick.
pub(super) fn over(folder: &Folder) -> Result<Option<OutcomeRecord>, FolderError> {
    use std::io::ErrorKind::{InvalidData, NotFound};
    match folder.read::<OutcomeRecord>(OUTCOME) {
        Ok(record) => Ok(Some(record)),
        Err(error) if matches!(error.kind(), NotFound | InvalidData) => Ok(None),
        Err(error) => Err(FolderError::of("read", &folder.file(OUTCOME))(error)),
    }
}

/// Waits for the end of a command whose supervisor does not tell us. `None`: its supervisor died without a word.
/// The supervisor bounds the wait: it ends the command at its deadline.
pub(super) async fn wait(folder: &Folder) -> Result<Option<OutcomeRecord>, FolderError> {
    loop {
        // In this order: a supervisor that has gone may have written its record a moment ago.
        let alive = is_supervised(folder)?;
        if let Some(record) = over(folder)? {
            return Ok(Some(record));
        }
        if !alive {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

/// Does a supervisor care for it?
pub(super) fn is_supervised(folder: &Folder) -> Result<bool, FolderError> {
    match folder.lock() {
        Ok(free) => Ok(free.is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FolderError::of("lock", folder.path())(error)),
    }
}
