//! Why something could not be measured. A goal that is missed is none of these.

use std::path::{Path, PathBuf};

use mainstay_core::diagnostic::Diagnostic;
use mainstay_runtime::{LoadError, RuntimeError};

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Something about a file.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Something that the operating system refused.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What happened.
        source: std::io::Error,
    },
    /// A text of the kernel's that is not as expected.
    #[error("{what} cannot be read from {}", path.display())]
    Unreadable {
        /// What was looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A daemon could not be started.
    #[error(transparent)]
    Start(#[from] mainstay_test_support::guard::StartError),
    /// The config that a measurement made is wrong.
    #[error("the config made for it is wrong:{}", lines(.0))]
    Config(Vec<Diagnostic>),
    /// The runtime could not be set up.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A kit was not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Bare wasmtime failed.
    #[error("bare wasmtime: {0:#}")]
    Bare(wasmtime::Error),
    /// The folder of commands.
    #[error(transparent)]
    Commands(#[from] mainstay_supervisor::FolderError),
    /// A kit does not take the params or grants it was given.
    #[error("the resources made for it cannot be used: {0}")]
    Unusable(String),
    /// Something happened that ends a measurement.
    #[error("{0} did not go as it should: {1}")]
    Unexpected(&'static str, String),
    /// A wait was in vain.
    #[error("waited {seconds} s for this, in vain: {what}")]
    InVain {
        /// For what.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A program failed.
    #[error("{program} ended with {ending}; it said at the end:\n{said}")]
    Program {
        /// Which.
        program: String,
        /// How.
        ending: String,
        /// Its last words.
        said: String,
    },
    /// A daemon answered something else than expected.
    #[error("the daemon answers {what} with: {answer}")]
    Answer {
        /// What it was asked.
        what: String,
        /// What it said.
        answer: String,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] mainstay_node::journal::JournalError),
    /// The journal's disk.
    #[error("the journal could not be written: {0}")]
    Disk(String),
    /// Something panicked; a build that failed does.
    #[error("{0}")]
    Panicked(String),
}

impl Trouble {
    /// For `map_err`, of what was tried on a file.
    pub fn file(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err`, of what was tried.
    pub fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("\n{diagnostic}")).collect()
}
