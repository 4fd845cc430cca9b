//! What can go wrong between the daemon and its supervisors.

use std::io;
use std::path::{Path, PathBuf};

use crate::types::{Evidence, LaunchFailure};

/// Something in the folder of commands could not be done.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", .path.display())]
pub struct FolderError {
    /// What was tried, as in "cannot ... PATH".
    pub doing: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What happened.
    pub source: io::Error,
}

impl FolderError {
    /// Made for `map_err`.
    pub(crate) fn of(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }
}

/// Why a command does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The request cannot be carried out by anybody.
    #[error("the request to run {} is refused: {what}", .program.display())]
    Invalid {
        /// The program of the request.
        program: PathBuf,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// The request could not be written down. Nothing was started.
    #[error("{0}; the command was not started")]
    Folder(#[from] FolderError),
    /// The supervisor itself could not be started.
    #[error("the supervisor {} could not be started: {source}; the command was not started", .exe.display())]
    Supervisor {
        /// Its executable.
        exe: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The supervisor ended before it had started the program.
    #[error("the supervisor of command {id} ended before the program was started{}", said(.log))]
    SupervisorGone {
        /// The command's id.
        id: String,
        /// The end of what it had to say.
        log: String,
    },
    /// The program could not be started.
    #[error(transparent)]
    Program(#[from] LaunchFailure),
    /// The tokio runtime is being shut down.
    #[error("mainstay is ending; the command was not started, or is cancelled")]
    Ending,
}

/// Why the outcome of a command that ran is not known.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// The supervisor was killed. What the command had started was found and ended.
    #[error(
        "the supervisor of command {id} was killed, so how the command ended is not known; \
         what was left of it was ended, whole tree ({})",
        .evidence.summary()
    )]
    SupervisorLost {
        /// The command's id.
        id: String,
        /// What was seen.
        evidence: Box<Evidence>,
    },
    /// Its files could not be read.
    #[error("{0}; how the command ended is not known")]
    Folder(#[from] FolderError),
    /// It was taken by an earlier call, or the tokio runtime is being shut down.
    #[error("the outcome of command {id} was taken before, or mainstay is ending")]
    Gone {
        /// The command's id.
        id: String,
    },
}

fn said(log: &str) -> String {
    match log.trim() {
        "" => String::new(),
        log => format!(": {log}"),
    }
}
