//! Follows what a daemon tells, by `mainstay events --follow --json`, and puts it into the log.
//!
//! The command ends when the daemon does, and cannot begin before it listens; it is then started again, for as long as
//! the node has power. A daemon that was started anew counts its events from 1 and is followed from there.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;

use crate::events::{Event, EventLog, Seen};

/// Between two tries, in ms.
const AGAIN_MS: u64 = 50;

/// Ends with the daemon's power.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    node: &'static str,
    mainstay: PathBuf,
    state: PathBuf,
    /// What the command complains about.
    complaints: PathBuf,
    log: EventLog,
    ends: AtomicBool,
    /// The command that runs now.
    child: Mutex<Option<Child>>,
}

/// Which daemon it is.
#[derive(Deserialize)]
struct NodeFile {
    pid: u32,
}

impl Follower {
    /// Follows from now on.
    pub(super) fn start(node: &'static str, mainstay: &Path, state: &Path, folder: &Path, log: EventLog) -> Self {
        let shared = Arc::new(Shared {
            node,
            mainstay: mainstay.to_owned(),
            state: state.to_owned(),
            complaints: folder.join("events.log"),
            log,
            ends: AtomicBool::new(false),
            child: Mutex::new(None),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || for_thread.follow());
        Self { shared, thread: Some(thread) }
    }

    /// The daemon is about to be killed: it is not followed any further.
    pub(super) fn forget(&self) {
        self.shared.ends.store(true, Ordering::Relaxed);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.forget();
        if let Some(child) = self.shared.lock().as_mut() {
            // It may have ended with the daemon.
            let _ = child.kill();
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the thread that follows the events of {} panicked", self.shared.node);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self) {
        let mut daemon = 0;
        let mut after = 0;
        while !self.ends.load(Ordering::Relaxed) {
            if let Some(running) = self.daemon() {
                if running != daemon {
                    (daemon, after) = (running, 0);
                }
                if let Err(error) = self.follow_one(daemon, &mut after) {
                    self.complain(&error);
                }
            }
            thread::sleep(Duration::from_millis(AGAIN_MS));
        }
    }

    fn daemon(&self) -> Option<u32> {
        let file = std::fs::read(self.state.join("node.json")).ok()?;
        Some(serde_json::from_slice::<NodeFile>(&file).ok()?.pid)
    }

    /// Reads what one command tells until it ends.
    fn follow_one(&self, daemon: u32, after: &mut u64) -> io::Result<()> {
        let mut command = Command::new(&self.mainstay);
        command.arg("--state").arg(&self.state).args(["events", "--follow", "--json", "--after", &after.to_string()]);
        let complaints = OpenOptions::new().create(true).append(true).open(&self.complaints)?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(complaints).spawn()?;
        let stdout = child.stdout.take();
        *self.lock() = Some(child);
        if self.ends.load(Ordering::Relaxed)
            && let Some(child) = self.lock().as_mut()
        {
            // Whoever said so did not see this one.
            child.kill()?;
        }
        for line in stdout.map(BufReader::new).into_iter().flat_map(BufReader::lines) {
            match serde_json::from_str::<Event>(&line?) {
                Ok(event) => {
                    *after = event.number;
                    self.log.tell(Seen { node: self.node, daemon, event });
                }
                Err(error) => self.complain(&io::Error::other(format!("not an event: {error}"))),
            }
        }
        match self.lock().take() {
            Some(mut child) => child.wait().map(drop),
            None => Ok(()),
        }
    }

    /// Into the file that is shown when the demo fails; an event that does not come makes it fail.
    fn complain(&self, error: &io::Error) {
        let file = OpenOptions::new().create(true).append(true).open(&self.complaints);
        if let Err(error) = file.and_then(|mut file| io::Write::write_all(&mut file, format!("{error}\n").as_bytes())) {
            eprintln!("{}: {error}", self.complaints.display());
        }
    }
}
