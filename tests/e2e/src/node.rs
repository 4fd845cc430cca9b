//! One node: its folder, its daemon, and what it says of itself.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use mainstay_test_support::guard::Signal;
use mainstay_test_support::{Guard, TempDir, binary, kit, poll_until, wait_for};
use serde_json::Value;

use crate::cli::{self, Said};
use crate::status::Status;
use crate::{LIMIT, api};

/// Between two questions to a daemon, in ms: a question costs it a millisecond or two.
const ASK_MS: u64 = 50;
/// The kits that a node has from the start.
pub const KITS: [&str; 2] = ["genapp", "null"];

/// A node, on or off.
#[derive(Debug)]
pub struct Node {
    name: String,
    // Dropped before the folder: what they started is ended by its marks, and only then the folder goes.
    daemon: Option<Guard>,
    /// Earlier daemons. What they started lives on, until the power goes.
    earlier: Vec<Guard>,
    folder: TempDir,
}

impl Node {
    /// A machine with kits, without a config, off.
    pub(crate) fn new(name: &str) -> Self {
        let folder = TempDir::new();
        folder.folder("kits");
        for kit in KITS {
            put_kit(&folder.join("kits"), kit);
        }
        Self { name: name.to_owned(), daemon: None, earlier: Vec::new(), folder }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything it has on disk.
    #[must_use]
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Its kit directory.
    #[must_use]
    pub fn kits(&self) -> PathBuf {
        self.folder.join("kits")
    }

    /// Where its certificates are.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("tls")
    }

    /// Its config.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("mainstay.toml")
    }

    /// The socket of its daemon.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state().join("api.sock")
    }

    /// Writes its config.
    pub fn configure(&self, text: &str) {
        self.folder.write("mainstay.toml", text);
    }

    /// The command that runs its daemon.
    #[must_use]
    pub fn run_command(&self) -> std::process::Command {
        let mut command = cli::command(["--state"]);
        command.arg(self.state()).args(["run", "--node", &self.name, "--config"]).arg(self.config());
        // Every program run is a line of the audit, and nothing else would be seen in a failed test's report.
        command.args(["--log", "info,mainstay::audit=warn"]);
        command
    }

    /// Starts its daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_with(&mut self.run_command());
    }

    /// The same with a command of the caller's.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_with(&mut self, command: &mut std::process::Command) {
        assert!(self.daemon.is_none(), "{} is on already", self.name);
        warm(&self.folder);
        let name = format!("the daemon of {}", self.name);
        let daemon = Guard::start(&name, command).unwrap_or_else(|error| panic!("{error}"));
        let pid = daemon.pid();
        let daemon = self.daemon.insert(daemon.claim(&self.folder));
        let (state, socket) = (self.folder.join("state"), self.folder.join("state/api.sock"));
        let mut ended = None;
        let up = poll_until(LIMIT, || {
            ended = daemon.status();
            ended.is_some() || (pid_in(&state) == Some(pid) && api::get(&socket, "/v1/measures").is_ok())
        });
        assert!(up && ended.is_none(), "{name} did not come up ({ended:?})");
    }

    /// Is its daemon there?
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.daemon.is_some()
    }

    /// Its daemon.
    ///
    /// # Panics
    /// When it is off.
    #[must_use]
    #[track_caller]
    pub fn daemon(&self) -> &Guard {
        self.daemon.as_ref().unwrap_or_else(|| panic!("{} is off", self.name))
    }

    /// Has its daemon ended by itself?
    pub fn has_ended(&mut self) -> bool {
        self.daemon.as_mut().is_none_or(|daemon| daemon.status().is_some())
    }

    /// Kills its daemon with SIGKILL, and nothing else of it.
    ///
    /// # Panics
    /// When it is off.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("{} is off", self.name));
        assert!(daemon.status().is_none(), "the daemon of {} had ended by itself: {:?}", self.name, daemon.status());
        daemon.kill_alone();
        self.earlier.push(daemon);
    }

    /// Kills whatever runs the binary: the daemon and every supervisor, as `killall -9 mainstay` does.
    ///
    /// # Panics
    /// When it is off.
    #[track_caller]
    pub fn kill_all_of_mainstay(&mut self) {
        let living = self.daemon().living();
        // The daemon first, so that it sees none of the others go.
        self.kill();
        let binary = binary("mainstay").canonicalize().expect("it was just built");
        for pid in living {
            if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary) {
                // Gone by itself since: as good.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Asks its daemon to stop, and waits until it has, well.
    ///
    /// # Panics
    /// When it does not, or is off.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("{} is off", self.name));
        daemon.signal(Signal::SIGTERM);
        let status = daemon.wait(LIMIT);
        assert!(
            status.is_some_and(|status| status.success()),
            "asked to stop, the daemon of {} ended with {status:?}",
            self.name
        );
        self.earlier.push(daemon);
    }

    /// Pauses or resumes the daemon, or whatever the signal does.
    ///
    /// # Panics
    /// When it is off.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        let daemon = self.daemon.as_mut().unwrap_or_else(|| panic!("{} is off", self.name));
        assert!(daemon.signal(signal), "the daemon of {} has ended", self.name);
    }

    /// Everything that runs on it is gone at once.
    pub fn power_off(&mut self) {
        self.end();
        assert_eq!(self.folder.running(), Vec::<String>::new(), "left running on {}", self.name);
        // The machine starts anew: what the journal says is from before (a boot of its own would say so).
        let _ = fs::remove_file(self.socket());
    }

    /// Ends everything that runs on it.
    pub fn end(&mut self) {
        if let Some(daemon) = self.daemon.as_mut() {
            daemon.kill_alone();
        }
        // Each ends what it started, and what was started from the node's folder.
        self.daemon.take();
        self.earlier.clear();
    }

    /// Where its daemon listens.
    #[must_use]
    pub fn listens(&self) -> Option<SocketAddr> {
        let node: Value = serde_json::from_slice(&fs::read(self.state().join("node.json")).ok()?).ok()?;
        node["listening"]["lan"].as_str()?.parse().ok()
    }

    /// Runs the binary with this node's state directory.
    #[track_caller]
    pub fn mainstay(&self, args: &[&str]) -> Said {
        let state = self.state();
        let state = state.to_string_lossy();
        cli::mainstay(["--state", &*state].iter().chain(args))
    }

    /// What its daemon says of itself, if it answers.
    #[must_use]
    pub fn try_status(&self) -> Option<Status> {
        let answer = api::get(&self.socket(), "/v1/status").ok()?;
        (answer.code == 200).then(|| Status(answer.json()))
    }

    /// What its daemon says of itself.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|| panic!("the daemon of {} does not answer", self.name))
    }

    /// Waits until it says what `is` looks for.
    ///
    /// # Panics
    /// When it does not; the text holds what it said last.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut is: impl FnMut(&Status) -> bool) -> Status {
        let mut last = None;
        let found = poll_until(LIMIT, || {
            let Some(status) = self.try_status() else { return false };
            let found = is(&status);
            last = Some(status);
            if !found {
                std::thread::sleep(Duration::from_millis(ASK_MS));
            }
            found
        });
        match last {
            Some(status) if found => status,
            last => {
                panic!("waited {} s for {}: {what}, in vain. It last said: {:#?}", LIMIT.as_secs(), self.name, last)
            }
        }
    }

    /// What its daemon has logged since it started.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon().output()
    }

    /// Waits until its daemon has logged a line with these words.
    #[track_caller]
    pub fn wait_for_log(&self, words: &str) -> String {
        wait_for(LIMIT, &format!("{} to log {words:?}", self.name), || self.daemon().line(words))
    }
}

/// Puts compiled kits where the daemon of a node's folder looks for them: otherwise each new node would spend a second of
/// processor time on compiling the same kits. A node that has a state directory already is left alone.
///
/// # Panics
/// When they cannot be copied.
pub fn warm(node: &TempDir) {
    if node.join("state").exists() {
        return;
    }
    for folder in ["state", "state/compiled"] {
        node.folder(folder);
    }
    copy_compiled(&node.join("state/compiled"));
}

/// Puts compiled kits into a folder.
///
/// # Panics
/// When they cannot be copied.
pub fn copy_compiled(to: &Path) {
    for file in fs::read_dir(COMPILED.path()).expect("it was just filled").flatten() {
        fs::copy(file.path(), to.join(file.file_name())).expect("a compiled kit is copied");
    }
}

fn pid_in(state: &Path) -> Option<u32> {
    let node: Value = serde_json::from_slice(&fs::read(state.join("node.json")).ok()?).ok()?;
    node["pid"].as_u64()?.try_into().ok()
}

/// Puts a kit of this repository into a kit directory, as an operator does: it appears there whole.
///
/// # Panics
/// When it cannot be copied.
pub fn put_kit(kits: &Path, name: &str) {
    put_file(kits, &format!("{name}.wasm"), &fs::read(kit(name)).expect("a kit that was built can be read"));
}

/// Puts a file into a kit directory; it appears there whole.
///
/// # Panics
/// When it cannot be written.
pub fn put_file(kits: &Path, name: &str, bytes: &[u8]) {
    let (new, file) = (kits.join(format!(".{name}.new")), kits.join(name));
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, &file)).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// The kits of [`KITS`], compiled by a daemon that ran for nothing else. Its name holds all that the content depends on,
/// so it may lie in any daemon's folder of compiled kits. Gone with this process.
static COMPILED: LazyLock<TempDir> = LazyLock::new(|| {
    let mut node = Node::new("a");
    node.folder.folder("state");
    node.configure("cluster = \"e2e\"\nkits = \"kits\"\n[node.a]\n");
    node.start();
    let out = TempDir::new();
    for file in fs::read_dir(node.state().join("compiled")).expect("the daemon made it").flatten() {
        fs::copy(file.path(), out.join(file.file_name())).expect("a compiled kit is copied");
    }
    out
});
