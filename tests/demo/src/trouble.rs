//! What can go wrong with the demo, in words for the person who runs it.

use std::io;
use std::path::PathBuf;

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It was asked to stop.
    #[error("stopped by signal {0}")]
    Stopped(i32),
    /// A step of the story.
    #[error("Step {number}, {title}: {trouble}")]
    Step {
        /// Which, counted from 1.
        number: usize,
        /// What it was to show.
        title: &'static str,
        /// What happened.
        trouble: Box<Trouble>,
    },
    /// Something did not come true.
    #[error("waited {seconds} s for this, in vain: {what}")]
    InVain {
        /// What was waited for.
        what: String,
        /// The limit.
        seconds: u64,
    },
    /// A daemon ended by itself.
    #[error("the daemon of {node} has ended by itself ({status}); it said at the end:\n{said}")]
    DaemonEnded {
        /// Whose.
        node: &'static str,
        /// How.
        status: String,
        /// The end of its log.
        said: String,
    },
    /// There is no process of the shop to be killed.
    #[error("the shop does not run on {node}, though mainstay says that it serves there")]
    NoShop {
        /// Where.
        node: &'static str,
    },
    /// A command of an operator failed.
    #[error("`{command}` failed ({status}):\n{said}")]
    Command {
        /// What was called.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
    /// A command gave something else than it should.
    #[error("`{command}` gave something that cannot be read: {source}")]
    Answer {
        /// What was called.
        command: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The thread that asks all the while is gone.
    #[error("the client of the demo has ended: its thread panicked")]
    ClientEnded,
    /// The events of the nodes do not show what has to be in them.
    #[error("the events do not show {what}, so mainstay's own share cannot be told")]
    NoEvent {
        /// What is missing.
        what: &'static str,
    },
    /// Nothing to run.
    #[error("{what} is not at {}: {hint}", .path.display())]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// A path that a config cannot hold.
    #[error("{} cannot be written into a config, as it is not UTF-8: build and run the demo elsewhere", .0.display())]
    NotUtf8(PathBuf),
    /// A file or folder.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// Anything else of the system.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// The name server.
    #[error("the demo's name server cannot start: {0}")]
    NameServer(#[from] crate::name_server::NameServerError),
    /// A process.
    #[error("{0}")]
    Start(#[from] mainstay_test_support::guard::StartError),
}

impl Trouble {
    /// The same, in a step of the story; that somebody wants an end has nothing to do with it.
    pub(crate) fn in_step(self, number: usize, title: &'static str) -> Self {
        if matches!(self, Self::Stopped(_)) { self } else { Self::Step { number, title, trouble: Box::new(self) } }
    }

    /// An error of the system while `doing` something.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }

    /// An error with a file while `doing` something with it.
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
