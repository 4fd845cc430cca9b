//! A real daemon, started for a measurement and gone with it, asked over its own socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_core::status::ResourceStatus;
use mainstay_node::api::FullStatus;
use mainstay_node::measures::Counts;
use mainstay_test_support::{Guard, TempDir, binary, kit};
use serde::de::DeserializeOwned;

use crate::machine::{self, Memory};
use crate::trouble::Trouble;

/// How long a daemon may take to answer for the first time, in s: it reads its config and compiles its kits before.
const START_S_MAX: u64 = 120;
/// How long it may take to answer, in s: the status of ten thousand resources is a few MB.
const ANSWER_S_MAX: u64 = 30;
/// Between two questions, in ms: what they cost the daemon is no part of what is measured.
const ASK_MS: u64 = 250;
/// How much of what it said is shown when something is wrong, in lines.
const SHOWN_LINES_MAX: usize = 20;
/// What its own environment could change.
const VARIABLES: [&str; 3] = ["MAINSTAY_STATE", "MAINSTAY_LOG", "RUST_LOG"];

/// See the module. When it is dropped the daemon is ended, and all that it has started.
#[derive(Debug)]
pub struct Daemon {
    guard: Guard,
    state: PathBuf,
    _folder: TempDir,
}

impl Daemon {
    /// Starts the daemon of the node `n` of a config whose kit directory is `kits`, with these kits in it.
    ///
    /// # Errors
    /// When it does not start.
    ///
    /// # Panics
    /// When the program or a kit cannot be built.
    pub fn start(config: &str, kits: &[&str]) -> Result<Self, Trouble> {
        let folder = TempDir::new();
        let kit_dir = folder.folder("kits");
        for name in kits {
            let to = kit_dir.join(format!("{name}.wasm"));
            std::fs::copy(kit(name), &to).map_err(Trouble::file("put a kit to", &to))?;
        }
        let config = folder.write("mainstay.toml", config);
        let state = folder.join("state");
        let mut command = Command::new(binary("mainstay"));
        // Without the events of each resource: writing tens of thousands of lines is no part of what is measured.
        command.args(["run", "--node", "n", "--log", "warn", "--config"]).arg(config).arg("--state").arg(&state);
        for name in VARIABLES {
            command.env_remove(name);
        }
        let guard = Guard::start("the daemon", &mut command)?.claim(&folder);
        let mut daemon = Self { guard, state, _folder: folder };
        daemon.wait("the daemon to answer", START_S_MAX, |daemon| Ok(daemon.counts().is_ok()))?;
        Ok(daemon)
    }

    /// What it has counted.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counts(&self) -> Result<Counts, Trouble> {
        self.get("/v1/measures")
    }

    /// Waits until everything is in service; ends at once when an alarm says that it will not be.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn wait_until_in_service(&mut self, seconds_max: u64) -> Result<(), Trouble> {
        self.wait("everything to be in service", seconds_max, |daemon| {
            let FullStatus { status, .. } = daemon.get("/v1/status")?;
            let mut shown = status.hierarchies.iter().flat_map(|hierarchy| &hierarchy.resources);
            Ok(shown.all(|row| row.on.values().any(|view| view.status == ResourceStatus::Isp)))
        })
    }

    /// The processor time it has used, without that of the programs it has run.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> Result<Duration, Trouble> {
        machine::cpu_time(self.guard.pid())
    }

    /// What it has in memory.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<Memory, Trouble> {
        machine::memory(self.guard.pid())
    }

    fn wait(
        &mut self,
        what: &str,
        seconds_max: u64,
        mut is: impl FnMut(&Self) -> Result<bool, Trouble>,
    ) -> Result<(), Trouble> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.guard.status() {
                let ending = status.to_string();
                return Err(Trouble::Program { program: "the daemon".into(), ending, said: self.said() });
            }
            // In this order: a last look comes after the limit.
            let late = began.elapsed() > Duration::from_secs(seconds_max);
            if is(self)? {
                return Ok(());
            }
            if late {
                let what = format!("{what}; the daemon said at the end:\n{}", self.said());
                return Err(Trouble::InVain { what, seconds: seconds_max });
            }
            std::thread::sleep(Duration::from_millis(ASK_MS));
        }
    }

    fn said(&self) -> String {
        let output = self.guard.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..].join("\n")
    }

    fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T, Trouble> {
        let socket = self.state.join("api.sock");
        let file = |doing| Trouble::file(doing, &socket);
        let mut stream = UnixStream::connect(&socket).map_err(file("connect to"))?;
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S_MAX))).map_err(file("set up"))?;
        let request = format!("GET {what} HTTP/1.1\r\nhost: mainstay\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(file("write to"))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(file("read from"))?;
        let body = answer.split_once("\r\n\r\n").filter(|(head, _)| head.starts_with("HTTP/1.1 200 "));
        body.and_then(|(_, body)| serde_json::from_str(body).ok())
            .ok_or_else(|| Trouble::Answer { what: what.to_owned(), answer: answer.chars().take(400).collect() })
    }
}
