//! A node of the demo: a machine as far as one can be had on another one.
//!
//! It has a folder (everything that a machine's disk would have), a cable (the relay, which stands in the config in its
//! place), and processes (the daemon, what supervises commands, the application), all known by that folder. Its power
//! can be cut, and come back.

mod follower;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_test_support::{Guard, Relay, TempDir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use crate::config::{self, PATH};
use crate::events::EventLog;
use crate::shop::Shop;
use crate::trouble::Trouble;
use follower::Follower;

/// How much of the end of a log is shown when something went wrong, in lines.
const SHOWN_LINES_MAX: usize = 15;

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    name: &'static str,
    address: Ipv4Addr,
    folder: PathBuf,
    relay: Relay,
    // In this order: what follows the daemon's events ends before it.
    follower: Option<Follower>,
    daemon: Option<Guard>,
}

/// What is needed of `node.json` in the state directory.
#[derive(Debug, Deserialize)]
struct NodeFile {
    pid: u32,
    listening: std::collections::BTreeMap<String, SocketAddr>,
}

impl Node {
    /// A machine that is off, with its shop installed; the shop's address is `address`, with `port`.
    pub(crate) fn new(name: &'static str, address: Ipv4Addr, port: u16, below: &TempDir) -> Result<Self, Trouble> {
        let folder = below.folder(name);
        let relay = Relay::new().map_err(Trouble::system("find a free port for the link between the nodes"))?;
        let node = Self { name, address, folder, relay, follower: None, daemon: None };
        let furnished = node.shop().furnish(SocketAddr::from((address, port)), &crate::client::page_of(name));
        furnished.map_err(Trouble::file("furnish the shop in", &node.folder))?;
        Ok(node)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where its shop listens.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where other nodes find it.
    pub(crate) fn link(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Its shop.
    pub(crate) fn shop(&self) -> Shop {
        Shop::at(&self.folder)
    }

    /// The daemon's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its config: the same text as that of the other.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("mainstay.toml")
    }

    /// What it shows the other: where the config says, as seen from where the config is.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.folder.join(config::CERTIFICATES)
    }

    /// What its processes say.
    pub(crate) fn logs(&self) -> [PathBuf; 2] {
        [self.log(), self.shop().log()]
    }

    fn log(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }

    /// Starts the daemon. It listens some time later, see [`Node::connect`].
    pub(crate) fn power_on(&mut self, mainstay: &Path, log: &EventLog) -> Result<(), Trouble> {
        // A shell only for the sake of the log: what it executes takes its place.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"exec "$0" "$@" >> "$LOG" 2>&1"#]).arg(mainstay).arg("run");
        command.arg("--config").arg(self.config()).args(["--node", self.name]).arg("--state").arg(self.state());
        command.env("LOG", self.log()).current_dir(&self.folder);
        // What the person who runs the demo has set for daemons of their own.
        command.env_remove("MAINSTAY_STATE").env_remove("MAINSTAY_LOG");
        let daemon = Guard::start(self.name, &mut command)?.claim(&self.folder);
        self.daemon = Some(daemon);
        self.follower = Some(Follower::start(self.name, mainstay, &self.state(), &self.folder, log.clone()));
        Ok(())
    }

    /// Leads the cable to where the running daemon really listens; false as long as that is not known.
    pub(crate) fn connect(&self) -> bool {
        let Some(file) = self.node_file() else { return false };
        let is_of_this_daemon = self.daemon.as_ref().is_none_or(|daemon| daemon.pid() == file.pid);
        match file.listening.get(PATH) {
            Some(target) if is_of_this_daemon => {
                self.relay.set_target(*target);
                true
            }
            _ => false,
        }
    }

    /// Leads it to whatever daemon listens with this node's state directory: somebody may have started one by hand.
    pub(crate) fn connect_any(&self) {
        if let Some(target) = self.node_file().as_ref().and_then(|file| file.listening.get(PATH)) {
            self.relay.set_target(*target);
        }
    }

    /// Has it power?
    pub(crate) fn is_on(&self) -> bool {
        self.daemon.is_some()
    }

    fn node_file(&self) -> Option<NodeFile> {
        // Not there yet, or of a daemon that was killed while it wrote it: looked at again.
        serde_json::from_slice(&std::fs::read(self.state().join("node.json")).ok()?).ok()
    }

    /// Nothing goes over its cable any more, and nobody is told.
    pub(crate) fn cut(&self) {
        self.relay.cut();
    }

    /// Its cable carries again.
    pub(crate) fn mend(&self) {
        self.relay.resume();
    }

    /// How many processes run on it.
    pub(crate) fn processes(&self) -> usize {
        self.daemon.as_ref().map_or(0, |daemon| daemon.living().len())
    }

    /// Every process of it is killed, at once.
    pub(crate) fn power_off(&mut self) {
        // First, as it is one of the processes, and would be started again.
        if let Some(follower) = &self.follower {
            follower.forget();
        }
        if let Some(daemon) = self.daemon.take() {
            daemon.end();
        }
        self.follower = None;
    }

    /// Kills the shop, and nothing else; its process.
    pub(crate) fn kill_shop(&self) -> Option<i32> {
        let pid = self.shop().process()?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok()?;
        Some(pid)
    }

    /// Takes the shop's data away, as a disk does that breaks.
    pub(crate) fn break_disk(&self) -> Result<(), Trouble> {
        let data = self.shop().data();
        std::fs::rename(&data, self.broken()).map_err(Trouble::file("take away", data))
    }

    /// Brings them back.
    pub(crate) fn mend_disk(&self) -> Result<(), Trouble> {
        std::fs::rename(self.broken(), self.shop().data()).map_err(Trouble::file("bring back", self.shop().data()))
    }

    /// Where the data are while the disk is broken.
    pub(crate) fn broken(&self) -> PathBuf {
        self.folder.join("data.broken")
    }

    /// Has the daemon ended, though its power is on?
    pub(crate) fn trouble(&mut self) -> Option<Trouble> {
        let status = self.daemon.as_mut()?.status()?;
        Some(Trouble::DaemonEnded { node: self.name, status: status.to_string(), said: self.said() })
    }

    /// The end of what the daemon said.
    pub(crate) fn said(&self) -> String {
        let text = match std::fs::read(self.log()) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("({}: {error})", self.log().display()),
        };
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..].join("\n")
    }
}
