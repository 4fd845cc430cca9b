//! The application that the demo protects: a shop whose only page says which node serves it.
//!
//! Like any daemon it knows nothing of mainstay. Its home is a folder, one on each node:
//!
//! ```text
//! address      where it listens, host:port
//! data/page    what its page says, read for every request: without it there is no shop
//! shop.pid     the process that serves
//! shop.log     what it says
//! ```

mod control;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::http::HttpError;

/// What the demo's start and stop programs call.
#[derive(Debug, Subcommand)]
pub(crate) enum ShopCommand {
    /// Serve, in the foreground.
    Serve(Home),
    /// Start it in the background, and return when it answers.
    Start(Home),
    /// Stop it, if it runs.
    Stop(Home),
    /// Does it answer as it should?
    Check(Home),
}

/// Which shop.
#[derive(Debug, clap::Args)]
pub(crate) struct Home {
    /// Its home folder.
    #[arg(long, value_name = "DIR")]
    home: PathBuf,
}

/// Does it, and says on standard error what is wrong.
pub(crate) fn run(command: &ShopCommand) -> ExitCode {
    let done = match command {
        ShopCommand::Serve(it) => serve::serve(&Shop::at(&it.home)),
        ShopCommand::Start(it) => control::start(&Shop::at(&it.home)),
        ShopCommand::Stop(it) => control::stop(&Shop::at(&it.home)),
        ShopCommand::Check(it) => control::check(&Shop::at(&it.home)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Why the shop does not do what it is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShopError {
    /// A file of its home.
    #[error("the shop cannot {doing} {}: {source}", .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The address in its home is none.
    #[error("{} holds no address: {text:?}", .path.display())]
    Address {
        /// The file.
        path: PathBuf,
        /// What is in it.
        text: String,
    },
    /// It cannot listen.
    #[error("the shop cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be started.
    #[error("the shop's process cannot be started: {0}")]
    Spawn(io::Error),
    /// It ended at once.
    #[error("the shop ended as soon as it was started: {0}")]
    Ended(String),
    /// It started, and does not answer.
    #[error("the shop was started and does not answer on {address} within {seconds} s: {last}")]
    Mute {
        /// Where.
        address: SocketAddr,
        /// The limit.
        seconds: u64,
        /// What came instead.
        last: HttpError,
    },
    /// It is asked, and something is wrong.
    #[error("the shop on {address} does not serve: {source}")]
    NotServing {
        /// Where.
        address: SocketAddr,
        /// What came instead.
        source: HttpError,
    },
    /// It does not end.
    #[error("process {pid} of the shop is still there {seconds} s after SIGKILL")]
    Undying {
        /// Which.
        pid: i32,
        /// The limit.
        seconds: u64,
    },
}

/// A shop's home.
#[derive(Clone, Debug)]
pub(crate) struct Shop {
    home: PathBuf,
}

impl Shop {
    /// The shop whose home this is.
    pub(crate) fn at(home: &Path) -> Self {
        Self { home: home.to_owned() }
    }

    /// Fits it out: where it listens, and what its page says.
    pub(crate) fn furnish(&self, address: SocketAddr, page: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.data())?;
        std::fs::write(self.home.join("address"), format!("{address}\n"))?;
        std::fs::write(self.page(), format!("{page}\n"))
    }

    /// Its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn page(&self) -> PathBuf {
        self.data().join("page")
    }

    /// What it says.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("shop.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.home.join("shop.pid")
    }

    fn address(&self) -> Result<SocketAddr, ShopError> {
        let path = self.home.join("address");
        let text = std::fs::read_to_string(&path).map_err(|source| ShopError::File {
            doing: "read",
            path: path.clone(),
            source,
        })?;
        text.trim().parse().map_err(|_| ShopError::Address { path, text })
    }

    /// The process that serves, if one does: the number in its file, if that is still a shop of this home.
    pub(crate) fn process(&self) -> Option<i32> {
        let pid: i32 = std::fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        // Of a process that is dead and not yet waited for, this is empty.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        let home = self.home.as_os_str().as_encoded_bytes();
        (arguments.contains(&b"serve".as_slice()) && arguments.contains(&home)).then_some(pid)
    }
}
