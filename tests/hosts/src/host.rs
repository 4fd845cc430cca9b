//! One host: its disk, its power, and the daemon that runs on it.
//!
//! A host that is on is a process namespace, with a mount, a host name and an IPC namespace of its own, in its network
//! namespace. It has a boot id of its own, and cannot reach what would restart the machine that the test runs on. Its
//! disk is a folder, which stays when the power goes: what was written is not lost, also if it was not synced.
//!
//! It decides nothing about when what happens; links are [`crate::net`]'s.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_test_e2e::{Said, Status, api, cli, node};
use mainstay_test_support::guard::Signal;
use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, binary, poll_until, wait_for, wait_until};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::names;
use crate::net::{LINKS, Net};
use crate::volume::Loops;

/// Between two questions to a daemon, in ms.
const ASK_MS: u64 = 20;
/// What a host's first process runs: the files by which the whole machine would be restarted are out of its reach.
const BOOT: &str = "mount --bind \"$1\" /proc/sys/kernel/random/boot_id\n\
                    [ ! -e /proc/sysrq-trigger ] || mount --bind /dev/null /proc/sysrq-trigger\n\
                    hostname \"$2\"\nexec \"$3\" init";

/// See the module.
#[derive(Debug)]
pub struct Host {
    name: String,
    net: Net,
    /// None: it is off. Locked for moments only, so that the power strip can always have it.
    machine: Mutex<Option<Machine>>,
    boots: AtomicU32,
    small_disk: bool,
    // Dropped last: what was started from it is ended before.
    folder: TempDir,
}

/// A host that is on.
#[derive(Debug)]
struct Machine {
    /// The daemon: the child of a shell that this one has entered the host's namespaces for.
    daemon: Option<Guard>,
    /// Those before. What they started lives on.
    earlier: Vec<Guard>,
    /// The first process of the host, as the test sees it: the child of `power`.
    init: Pid,
    power: Guard,
}

impl Host {
    /// A host of the net, off, with kits and without a config.
    ///
    /// With `small_disk` its state directory is a file system of its own, of so many MiB.
    pub(crate) fn new(name: &str, net: &Net, small_disk: Option<u32>) -> Self {
        let folder = TempDir::new();
        folder.folder("kits");
        for kit in node::KITS {
            node::put_kit(&folder.join("kits"), kit);
        }
        let host = Self {
            name: name.to_owned(),
            net: net.clone(),
            machine: Mutex::default(),
            boots: 0.into(),
            small_disk: small_disk.is_some(),
            folder,
        };
        match small_disk {
            None => node::warm(&host.folder),
            Some(size) => {
                host.mount_disk(size);
                node::copy_compiled(&host.folder.folder("state/compiled"));
            }
        }
        host
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its disk.
    #[must_use]
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    fn mount_disk(&self, size_mib: u32) {
        let state = self.folder.folder("state");
        let options = format!("size={size_mib}m,mode=0700");
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &options]).arg(names::disk_source()).arg(&state).output();
        assert!(done.as_ref().is_ok_and(|output| output.status.success()), "{mount:?}: {done:?}");
    }

    // Power.

    /// Is it on?
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.machine().is_some()
    }

    /// What is on. A host that has switched itself off, as reboot(2) does it, is off.
    fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        if machine.as_mut().is_some_and(|machine| machine.power.status().is_some()) {
            machine.take();
        }
        machine
    }

    /// Looks at what is on.
    #[track_caller]
    fn on<T>(&self, look: impl FnOnce(&mut Machine) -> T) -> T {
        match self.machine().as_mut() {
            Some(machine) => look(machine),
            None => panic!("{} is off", self.name),
        }
    }

    /// Switches it on: its links have carrier, its addresses are its own and no others, nothing runs.
    ///
    /// # Panics
    /// When it is on, or does not boot.
    #[track_caller]
    pub fn power_on(&self) {
        let mut machine = self.machine();
        assert!(machine.is_none(), "{} is on", self.name);
        self.net.carrier(&self.name, &LINKS, true);
        self.net.address_anew(&self.name);
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        // As the kernel writes it; the test's process and the host's address make it this boot's.
        let (test, address) = (std::process::id(), self.net.address(&self.name, LINKS[0]).to_bits());
        let boot_id = self.folder.write("boot-id", format!("{test:08x}-{boot:04x}-4000-8000-{address:012x}\n"));
        let mut unshare = self.net.command(&self.name);
        unshare.args(["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--uts", "--ipc", "--"]);
        unshare.args(["/bin/sh", "-euc", BOOT, "sh"]).arg(boot_id).arg(&self.name).arg(binary("mainstay-host"));
        let power = Guard::start(&format!("the host {}", self.name), &mut unshare);
        let mut power = power.unwrap_or_else(|error| panic!("{error}")).claim(&self.folder);
        power.wait_for_line(WAIT_LIMIT, "the host is up");
        let init = child_of(power.pid()).unwrap_or_else(|| panic!("{} has no first process", self.name));
        *machine = Some(Machine { daemon: None, earlier: Vec::new(), init, power });
    }

    /// Pulls its power cord: its links fall silent first (a kernel that ends processes says goodbye for them), then all
    /// that runs is gone at once.
    ///
    /// # Panics
    /// When something of it goes on.
    #[track_caller]
    pub fn power_off(&self) {
        let mut on = self.machine();
        let Some(mut machine) = on.take() else { return };
        let loops = Loops::of(self.folder.path());
        self.net.carrier(&self.name, &LINKS, false);
        // Not waited for by `unshare` yet: that one lives, and ends with it.
        kill(machine.init, Signal::SIGKILL).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        // The kernel lets the first process of a namespace go when all others are gone.
        assert!(machine.power.wait(WAIT_LIMIT).is_some(), "{} goes on without power", self.name);
        for daemon in machine.daemon.iter_mut().chain(&mut machine.earlier) {
            assert!(daemon.wait(WAIT_LIMIT).is_some(), "a daemon of {} goes on without power", self.name);
        }
        loops.take_away();
    }

    /// A command that runs on the host.
    ///
    /// # Panics
    /// When it is off.
    #[must_use]
    #[track_caller]
    pub fn command(&self) -> Command {
        let mut command = self.net.command(&self.name);
        let init = self.on(|machine| machine.init.to_string());
        command.args(["nsenter", "--target", &init, "--pid", "--mount", "--uts", "--ipc", "--"]);
        command
    }

    /// A path as what runs on the host sees it, with what is mounted there.
    ///
    /// # Panics
    /// When it is off.
    #[must_use]
    #[track_caller]
    pub fn seen(&self, path: &Path) -> PathBuf {
        let init = self.on(|machine| machine.init.to_string());
        Path::new("/proc").join(init).join("root").join(path.strip_prefix("/").unwrap_or(path))
    }

    // The daemon.

    /// Writes its config.
    pub fn configure(&self, text: &str) {
        self.folder.write("mainstay.toml", text);
    }

    /// Starts its daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start(&self) {
        self.start_with(&[]);
    }

    /// The same with variables in its environment.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_with(&self, variables: &[(&str, &str)]) {
        let run = self.run_command();
        let mut command = self.command();
        // A shell between the two: what enters the namespaces stops itself when its child is stopped, and then does not
        // wait for it when the host is switched off.
        command.args(["/bin/sh", "-c", "\"$@\"; exit $?", "sh"]);
        command.arg("env").args(variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(run.get_program()).args(run.get_args());
        for (name, value) in run.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // Whoever still answers is the daemon of before.
        let _ = fs::remove_file(self.socket());
        let title = format!("the daemon of {}", self.name);
        let daemon = Guard::start(&title, &mut command).unwrap_or_else(|error| panic!("{error}")).claim(&self.folder);
        self.on(|machine| {
            assert!(machine.daemon.is_none(), "{title} runs");
            machine.daemon = Some(daemon);
        });
        let socket = self.socket();
        let mut ended = None;
        let up = poll_until(WAIT_LIMIT, || {
            ended = self.machine().as_mut().and_then(|machine| machine.daemon.as_mut()?.status());
            ended.is_some() || api::get(&socket, "/v1/measures").is_ok()
        });
        assert!(up && ended.is_none(), "{title} did not come up ({ended:?}):\n{}", self.log());
    }

    fn run_command(&self) -> Command {
        let mut command = cli::command(["--state"]);
        command
            .arg(self.state())
            .args(["run", "--node", &self.name, "--config"])
            .arg(self.folder.join("mainstay.toml"));
        // Every program run is a line of the audit, and nothing else would be seen in a failed test's report.
        command.args(["--log", "info,mainstay::audit=warn"]);
        command
    }

    fn socket(&self) -> PathBuf {
        self.state().join("api.sock")
    }

    /// Sends a signal to the daemon itself.
    #[track_caller]
    fn signal(&self, signal: Signal) {
        let sent = self.on(|machine| {
            let shell = machine.daemon.as_ref().and_then(|daemon| child_of(daemon.pid()));
            let pid = shell.and_then(|shell| child_of(shell.as_raw().unsigned_abs()));
            pid.is_some_and(|pid| kill(pid, signal).is_ok())
        });
        assert!(sent, "the daemon of {} does not run", self.name);
    }

    /// Kills its daemon with SIGKILL, and nothing else of it.
    ///
    /// # Panics
    /// When it is off.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.on(|machine| {
            if let Some(mut daemon) = machine.daemon.take() {
                assert!(daemon.wait(WAIT_LIMIT).is_some(), "the daemon of {} lives", self.name);
                machine.earlier.push(daemon);
            }
        });
    }

    /// Stops its daemon in its tracks: SIGSTOP.
    ///
    /// # Panics
    /// When it is off.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is off.
    #[track_caller]
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Runs the binary on the host, with its state directory.
    #[track_caller]
    pub fn mainstay(&self, args: &[&str]) -> Said {
        let state = self.state();
        cli::mainstay(["--state", &*state.to_string_lossy()].iter().chain(args))
    }

    /// What its daemon says of itself, if it answers.
    #[must_use]
    pub fn try_status(&self) -> Option<Status> {
        let answer = api::get(&self.socket(), "/v1/status").ok()?;
        (answer.code == 200).then(|| Status(answer.json()))
    }

    /// Waits until its daemon says what `is` looks for.
    ///
    /// # Panics
    /// When it does not; the text holds what it said last.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut is: impl FnMut(&Status) -> bool) -> Status {
        let mut last = None;
        let found = poll_until(WAIT_LIMIT, || {
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
                panic!("waited {} s for {}: {what}, in vain. It last said: {last:#?}", WAIT_LIMIT.as_secs(), self.name)
            }
        }
    }

    /// What its daemon has told in events since it started, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<serde_json::Value> {
        let answer = api::get(&self.socket(), "/v1/events?after=0&wait-ms=0");
        let answer = answer.ok().filter(|answer| answer.code == 200).map(|answer| answer.json());
        answer.and_then(|answer| answer["events"].as_array().cloned()).unwrap_or_default()
    }

    /// What its daemon has logged since it started.
    #[must_use]
    pub fn log(&self) -> String {
        self.machine().as_ref().and_then(|machine| Some(machine.daemon.as_ref()?.output())).unwrap_or_default()
    }

    /// Leaves not one byte free on its small disk.
    ///
    /// # Panics
    /// When it has none.
    pub fn fill_disk(&self) {
        use std::io::Write as _;
        assert!(self.small_disk, "{} has no small disk", self.name);
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(self.state().join("fill")).expect("the disk is there");
        for block in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![b'x'; block]).is_ok() {}
        }
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free_disk(&self) {
        fs::remove_file(self.state().join("fill")).expect("it was filled");
    }

    /// The path of a program on its disk that runs this, for a kit to be granted.
    #[must_use]
    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.folder.script(name, body);
        // Whatever the umask: what others may write is not granted.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it was just written");
        path
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} is {}", self.name, if self.is_on() { "on" } else { "off" });
        }
        // Ends all that runs on it, and tells what its daemons wrote if the test has failed.
        let loops = Loops::of(self.folder.path());
        self.machine().take();
        loops.take_away();
        if self.small_disk {
            // Lazily: whatever still had a file open has just been ended.
            let done = Command::new("umount").arg("-l").arg(self.state()).output();
            if !done.as_ref().is_ok_and(|output| output.status.success()) {
                eprintln!("{} could not be unmounted: {done:?}", self.state().display());
            }
        }
    }
}

/// The first child of a process. Not every kernel lists children, so it is found by its parent.
pub(crate) fn child_of(pid: u32) -> Option<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let child = pids.find(|child| {
        // One that has ended meanwhile is not there any more. The name in brackets may hold any character.
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parent == Some(pid)
    });
    child.map(Pid::from_raw)
}

/// Waits until `host` says that it is served by `owner`, and is content with its own part in that.
#[track_caller]
pub(crate) fn wait_until_owned(host: &Host, owner: &str) {
    host.wait_for(&format!("web to be in service on {owner}"), |status| {
        status.owner(crate::config::HIERARCHY) == Some(owner) && status.state(crate::config::APP, owner) == "ISP"
    });
}

/// Waits for a line in a host's log.
#[track_caller]
pub fn wait_for_log(host: &Host, words: &str) -> String {
    wait_for(WAIT_LIMIT, &format!("{} to log {words:?}", host.name), || {
        host.log().lines().find(|line| line.contains(words)).map(str::to_owned)
    })
}

/// Waits until something holds, with the suite's limit.
#[track_caller]
pub fn until(what: &str, is: impl FnMut() -> bool) {
    wait_until(WAIT_LIMIT, what, is);
}
