//! The peers that run programs: resource-agents' `ocf:heartbeat:Dummy`, and a program alone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_test_support::TempDir;

use crate::sample::Samples;
use crate::summary::Report;
use crate::trouble::Trouble;

/// Where Debian's package resource-agents has it.
const AGENT: &str = "/usr/lib/ocf/resource.d/heartbeat/Dummy";
/// The root of the agents.
const OCF_ROOT: &str = "/usr/lib/ocf";
/// How it is had.
const INSTALL: &str = "apt-get install resource-agents";

/// The agent with one resource started; stopped when it is dropped.
#[derive(Debug)]
pub struct Dummy {
    folder: TempDir,
}

impl Dummy {
    /// What it is called.
    pub const NAME: &'static str = "ocf:heartbeat:Dummy monitor";

    /// The line about an agent that is not installed.
    #[must_use]
    pub fn missing() -> String {
        format!("{}: {INSTALL}", Self::NAME)
    }

    /// Says in a report how long its monitor took, or that it is missing.
    pub fn tell(times: Option<&Samples>, report: &mut Report) {
        match times {
            Some(times) => report.notes.push(format!("{}, us: {times}", Self::NAME)),
            None => report.missing.push(Self::missing()),
        }
    }

    /// Starts a resource; `None` when the agent is not installed.
    ///
    /// # Errors
    /// When it is installed and does not work.
    pub fn start() -> Result<Option<Self>, Trouble> {
        if !Path::new(AGENT).exists() {
            return Ok(None);
        }
        let dummy = Self { folder: TempDir::new() };
        dummy.call("start")?;
        Ok(Some(dummy))
    }

    /// One monitor; the time it took.
    ///
    /// # Errors
    /// When it does not say that the resource runs.
    pub fn monitor(&self) -> Result<Duration, Trouble> {
        self.call("monitor")
    }

    fn call(&self, action: &str) -> Result<Duration, Trouble> {
        let mut command = Command::new(AGENT);
        command.arg(action).env("OCF_ROOT", OCF_ROOT).env("OCF_RESOURCE_INSTANCE", "bench");
        // It remembers in a file that it was started, and keeps it where it says by these.
        command.env("OCF_RESKEY_state", self.folder.join("state")).env("HA_RSCTMP", self.folder.path());
        run(&mut command)
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        // All that it leaves is a file in a folder that goes with this.
        let _ = self.call("stop");
    }
}

/// Starts a program and waits for its end; the time from one to the other.
///
/// # Errors
/// When it does not exit with 0.
pub fn run(command: &mut Command) -> Result<Duration, Trouble> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let began = Instant::now();
    let status = command.status().map_err(Trouble::system("run a program"))?;
    let took = began.elapsed();
    if status.success() {
        return Ok(took);
    }
    let (program, ending) = (format!("{command:?}"), status.to_string());
    Err(Trouble::Program { program, ending, said: "(what it says is not kept)".into() })
}
