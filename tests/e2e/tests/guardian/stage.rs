//! A state directory with a guardian, a fence that leaves a trace, and daemons that are nothing but their way to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use mainstay_core::spec::{SelfFence, SelfFenceSpec};
use mainstay_core::time::Millis;
use mainstay_node::clock::Clock;
use mainstay_node::guardian::{Guardian, GuardianExe};
use mainstay_node::happening::Happening;
use mainstay_test_support::guard::Signal;
use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, binary, poll_until, wait_for, wait_until};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Names the folder of the stage to a process that is to be a daemon.
pub(crate) const BE_DAEMON: &str = "MAINSTAY_TEST_BE_DAEMON";

/// Names the program to it: it need not ask cargo again.
const PROGRAM: &str = "MAINSTAY_TEST_PROGRAM";

fn program() -> PathBuf {
    std::env::var_os(PROGRAM).map_or_else(|| binary("mainstay"), PathBuf::from)
}

/// See the file.
pub(crate) struct Stage {
    pub(crate) folder: TempDir,
}

impl Stage {
    /// The fence writes down that it was there.
    pub(crate) fn new() -> Self {
        // The time stamp of a file would be that of the kernel's last tick, of which some are late on a virtual machine.
        Self::with(
            "#!/bin/sh\n[ -e \"${0%/*}/at\" ] || date +%s%N > \"${0%/*}/at\"\n\
             echo fenced $MAINSTAY_NODE of $MAINSTAY_CLUSTER >> \"${0%/*}/fenced\"\n",
        )
    }

    /// With this script for a fence.
    pub(crate) fn with(script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = TempDir::new();
        folder.folder("state");
        let path = folder.write("fence", script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("it was just written");
        Self { folder }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    pub(crate) fn fenced(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("fenced")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    pub(crate) fn wait_until_fenced(&self) -> SystemTime {
        wait_until(WAIT_LIMIT, "the node to be fenced", || !self.fenced().is_empty());
        let at = fs::read_to_string(self.folder.join("at")).expect("it is written before");
        SystemTime::UNIX_EPOCH + Duration::from_nanos(at.trim().parse().expect("date tells nanoseconds"))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.state().join("guardian.log")).unwrap_or_default()
    }

    /// The guardians that run, without the processes that they hold ready.
    pub(crate) fn guardians(&self) -> Vec<i32> {
        let state = self.state().display().to_string();
        let all: Vec<(i32, i32)> = fs::read_dir("/proc")
            .expect("/proc is there")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter_map(|pid| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
                let is_it = line.split('\0').collect::<Vec<_>>().ends_with(&["guardian", &state, ""]);
                (is_it && fields[0] != "Z").then(|| (pid, fields[1].parse().expect("a number")))
            })
            .collect();
        all.iter().filter(|(_, parent)| !all.iter().any(|(pid, _)| pid == parent)).map(|(pid, _)| *pid).collect()
    }

    /// The one there is.
    #[track_caller]
    pub(crate) fn guardian(&self) -> i32 {
        let all = self.guardians();
        assert_eq!(all.len(), 1, "{all:?}\n{}", self.log());
        all[0]
    }

    /// The processor time it has used, in ticks of 10 ms (fields 14 and 15 of proc_pid_stat(5)).
    pub(crate) fn guardian_cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.guardian())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    #[track_caller]
    pub(crate) fn signal_guardian(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.guardian()), signal).expect("it runs");
    }

    #[track_caller]
    pub(crate) fn wait_until_no_guardian(&self) {
        wait_until(WAIT_LIMIT, "the guardian to end", || self.guardians().is_empty());
    }

    pub(crate) fn daemon(&self) -> Daemon {
        Daemon::new(self.folder.path())
    }

    /// A daemon in a process of its own, which arms the guardian for so long and then does nothing any more.
    pub(crate) fn daemon_process(&self, armed_ms: u64) -> Guard {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "be_a_daemon", "--nocapture"]);
        command.env(PROGRAM, program());
        command.env(BE_DAEMON, format!("{armed_ms} {}", self.folder.path().display()));
        let mut process = Guard::start("a daemon", &mut command).unwrap_or_else(|error| panic!("{error}"));
        process.wait_for_line(WAIT_LIMIT, "ARMED");
        process
    }
}

/// All of a daemon that has to do with its guardian. Dropped, its connections close as if it was killed.
pub(crate) struct Daemon {
    runtime: Option<Runtime>,
    guardian: Guardian,
    clock: Clock,
    happenings: mpsc::Receiver<Happening>,
}

impl Daemon {
    pub(crate) fn new(folder: &Path) -> Self {
        Self::fenced_by(folder, SelfFence::Command(vec![folder.join("fence").display().to_string()]))
    }

    pub(crate) fn fenced_by(folder: &Path, by: SelfFence) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads");
        let (sender, happenings) = mpsc::channel(100);
        let spec = SelfFenceSpec { by, takes: Millis(500) };
        let exe = GuardianExe::binary(program());
        let guardian = {
            let _on = runtime.enter();
            Guardian::start(exe, &folder.join("state"), &spec, &"a".into(), "lab", sender)
        };
        Self { runtime: Some(runtime), guardian, clock: Clock::start().expect("Linux has it"), happenings }
    }

    /// What it hears next of its guardian.
    #[track_caller]
    pub(crate) fn hears(&mut self) -> bool {
        wait_for(WAIT_LIMIT, "word of the guardian", || match self.happenings.try_recv() {
            Ok(Happening::Guardian(there)) => Some(there),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        })
    }

    #[track_caller]
    pub(crate) fn hears_nothing_for(&mut self, time: Duration) {
        let heard = poll_until(time, || self.happenings.try_recv().is_ok());
        assert!(!heard);
    }

    /// All is well for so long from now; says when that ends.
    pub(crate) fn until(&self, ms: u64) -> SystemTime {
        let when = self.clock.now().monotonic + Millis(ms);
        let at = SystemTime::now() + Duration::from_millis(ms);
        self.guardian.until(Some(self.clock.since_boot(when)));
        at
    }

    pub(crate) fn disarm(&self) {
        self.guardian.until(None);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}
