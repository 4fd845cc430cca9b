//! What the tests of this crate share: a state directory whose processes are all gone when a test ends.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_supervisor::{Commands, Outcome, Owner, Request, SupervisorExe};
use mainstay_test_support::{Guard, TempDir};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Variable in the environment of every program a test runs.
pub(crate) const ROOM: &str = "MAINSTAY_TEST_ROOM";
/// How long a room may take to be emptied.
const EMPTY_LIMIT: Duration = Duration::from_secs(20);

/// A state directory, and all that runs from it.
pub(crate) struct Room {
    pub(crate) folder: TempDir,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.join("commands")
    }

    pub(crate) fn commands(&self) -> Commands {
        Commands::open(&self.dir(), exe()).unwrap()
    }

    /// Runs `body` as a shell script. All tests' programs come from here, so that none outlives its room.
    pub(crate) fn sh(&self, body: &str) -> Request {
        sh_in(self.folder.path(), body)
    }

    /// What of this room runs, supervisors first.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut found: Vec<Process> = all().into_iter().filter(|process| process.is_of(self.folder.path())).collect();
        found.sort_by_key(|process| !process.is_supervisor());
        found
    }

    pub(crate) fn supervisors(&self) -> Vec<Process> {
        self.processes().into_iter().filter(Process::is_supervisor).collect()
    }

    /// The processes of programs whose command line holds `words`.
    pub(crate) fn programs(&self, words: &str) -> Vec<Process> {
        let programs = self.processes().into_iter().filter(|process| !process.is_supervisor());
        programs.filter(|process| process.command_line.contains(words)).collect()
    }

    /// The folders of commands that are there.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let since = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for process in &left {
                // Gone meanwhile, at worst.
                let _ = process.signal(Signal::SIGKILL);
            }
            if since.elapsed() > EMPTY_LIMIT {
                eprintln!("left running: {left:?}");
                assert!(std::thread::panicking(), "something of the test still runs");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where a role finds what it is to do: the state directory, and the requests as JSON.
const ROLE_ROOM: &str = "MAINSTAY_TEST_ROLE_ROOM";
const ROLE_REQUESTS: &str = "MAINSTAY_TEST_ROLE_REQUESTS";

/// Another process of this test binary, as the daemon: it starts the requests, prints `started ID` for each and
/// `outcome ID JSON` when it has one, and then waits to be killed. `role` names a test that calls [`act_as_daemon`].
pub(crate) fn daemon(room: &Room, role: &str, requests: &[Request]) -> Guard {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_daemon(&mut command, room, role, requests);
    Guard::start("daemon", &mut command).unwrap().claim(&room.folder)
}

/// Makes `command`, which runs this test binary, that process.
pub(crate) fn as_daemon(command: &mut Command, room: &Room, role: &str, requests: &[Request]) {
    command
        .args(["--exact", role, "--nocapture"])
        .env(ROLE_ROOM, room.folder.path())
        .env(ROLE_REQUESTS, serde_json::to_string(requests).unwrap());
}

/// What [`daemon`] starts. In a run of the tests nobody asks for it, and it does nothing.
pub(crate) async fn act_as_daemon() {
    let Some(room) = std::env::var_os(ROLE_ROOM) else {
        return;
    };
    let requests: Vec<Request> = serde_json::from_str(&std::env::var(ROLE_REQUESTS).unwrap()).unwrap();
    let commands = Commands::open(&Path::new(&room).join("commands"), exe()).unwrap();
    for request in requests {
        let mut running = commands.start(request).await.unwrap();
        println!("started {}", running.id());
        tokio::spawn(async move {
            let outcome = running.outcome().await;
            let said = outcome.map_or_else(|error| error.to_string(), |it| serde_json::to_string(&it).unwrap());
            println!("outcome {} {said}", running.id());
        });
    }
    std::future::pending().await
}

pub(crate) fn exe() -> SupervisorExe {
    SupervisorExe::alone(env!("CARGO_BIN_EXE_mainstay-supervise"))
}

pub(crate) fn owner(operation_id: &str) -> Owner {
    Owner { tag: "mail".to_owned(), operation: "restore".to_owned(), operation_id: operation_id.to_owned() }
}

pub(crate) fn sh_in(room: &Path, body: &str) -> Request {
    let mut request = Request::new(owner("op-1"), "/bin/sh");
    request.args = vec!["-c".to_owned(), body.to_owned()];
    request.env = vec![(ROOM.to_owned(), room.to_str().unwrap().to_owned())];
    request
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) async fn run(commands: &Commands, request: Request) -> Outcome {
    commands.start(request).await.unwrap().outcome().await.unwrap()
}

/// A process that lives.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) command_line: String,
    environ: Vec<u8>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ");
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, command_line, environ })
    }

    fn is_of(&self, room: &Path) -> bool {
        let variable = format!("{ROOM}={}", room.display());
        let is_program = self.environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes());
        is_program || self.is_supervisor() && self.command_line.contains(&room.display().to_string())
    }

    pub(crate) fn is_supervisor(&self) -> bool {
        self.command_line.starts_with("mainstay ")
    }

    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        kill(Pid::from_raw(self.pid), signal)
    }
}

pub(crate) fn lives(pid: i32) -> bool {
    Process::read(pid).is_some()
}

fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}
