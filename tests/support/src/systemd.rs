//! A real systemd with a bus that it runs itself, beside whatever runs on this machine: its user instance, which has the same
//! services, the same words and the same interface on the bus as the system's own.
//!
//! It sees the units of the test and no others, lives in control groups of its own, and is gone with all it started when it is
//! dropped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::guard::{Guard, Signal};
use crate::needs::{require_or_skip, skip};
use crate::temp::TempDir;
use crate::wait::{WAIT_LIMIT, poll_until, wait_until};

/// Where the program is, which is in no folder for programs.
const PROGRAM: &str = "/lib/systemd/systemd";
/// The units without which systemd does not come up, and services of a user cannot be had. The bus is its own: to another it
/// does not go.
const UNITS: [(&str, &str); 4] = [
    ("mainstay-test.target", "[Unit]\nDescription=What the test wants\nRequires=dbus.socket\nAfter=dbus.socket\n"),
    ("basic.target", "[Unit]\nDescription=Before every service\n"),
    ("shutdown.target", "[Unit]\nDescription=The end\nDefaultDependencies=no\n"),
    ("dbus.socket", "[Socket]\nListenStream=%t/bus\n"),
];
/// What becomes systemd. It puts itself into its control groups, and finds the folder by which it knows that the machine was
/// booted with systemd, which may not be so: in a mount namespace of its own, which nobody else sees.
const BOOT: &str = "for group in \"$@\"; do echo $$ > \"$group/cgroup.procs\" || exit; done\n\
                    mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system || exit\n\
                    exec \"$PROGRAM\" --user --unit=mainstay-test.target --log-target=console";
/// How long the folders of control groups may take to be empty once their processes are gone, in s.
const GROUPS_S_MAX: u64 = 10;

/// See the module.
#[derive(Debug)]
pub struct Systemd {
    // Dropped in this order.
    manager: Guard,
    _groups: Groups,
    folder: TempDir,
}

impl Systemd {
    /// It runs, and answers on its bus. None, made known, where that cannot be had.
    #[must_use]
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::with_policy("")
    }

    /// The same, with rules for what may be said on its bus, such as
    /// `<deny send_interface="org.freedesktop.systemd1.Manager" send_member="StopUnit"/>`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn with_policy(policy: &str) -> Option<Self> {
        require_or_skip(PROGRAM, "apt-get install systemd")?;
        require_or_skip("systemctl", "apt-get install systemd")?;
        require_or_skip("busctl", "apt-get install systemd")?;
        let dbus_daemon = require_or_skip("dbus-daemon", "apt-get install dbus-daemon")?;
        let Some(groups) = Groups::new() else {
            skip("needs control groups that it may make folders in", "run the tests as root");
            return None;
        };
        let folder = TempDir::new();
        fs::set_permissions(folder.folder("run"), fs::Permissions::from_mode(0o700)).expect("it is the test's own");
        folder.folder("units");
        for (name, text) in UNITS {
            folder.write(format!("units/{name}"), text);
        }
        let config = folder.write("bus.conf", bus_config(&address(folder.path()), policy));
        folder.write("units/dbus.service", bus_unit(&dbus_daemon, &config));
        let mut command = Command::new("unshare");
        command.args(["--mount", "/bin/sh", "-c", BOOT, "systemd"]);
        command.args(&groups.0).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("PROGRAM", PROGRAM);
        command.env("HOME", folder.path()).env("XDG_CONFIG_HOME", folder.join("config"));
        command.env("XDG_RUNTIME_DIR", folder.join("run")).env("SYSTEMD_UNIT_PATH", folder.join("units"));
        let manager = Guard::start("systemd", &mut command).unwrap_or_else(|error| panic!("{error}"));
        let manager = manager.claim(folder.path());
        let systemd = Self { manager, _groups: groups, folder };
        wait_until(WAIT_LIMIT, "systemd to be up", || {
            systemd.try_systemctl(&["is-active", "mainstay-test.target"]).stdout == b"active\n"
        });
        systemd.start_bus();
        Some(systemd)
    }

    /// Where its bus is, as `DBUS_SYSTEM_BUS_ADDRESS` has it.
    #[must_use]
    pub fn address(&self) -> String {
        address(self.folder.path())
    }

    /// The test's folder: for what its units run.
    #[must_use]
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// A unit, or another text for one.
    pub fn unit(&self, name: &str, text: &str) {
        self.folder.write(format!("units/{name}"), text);
        self.systemctl(&["daemon-reload"]);
    }

    /// From now on nobody can start it.
    ///
    /// # Panics
    /// When there is no such unit.
    pub fn mask(&self, name: &str) {
        let file = self.folder.join(format!("units/{name}"));
        fs::remove_file(&file)
            .and_then(|()| symlink("/dev/null", &file))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        self.systemctl(&["daemon-reload"]);
    }

    /// `systemctl`, which does not need the bus. What it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn systemctl(&self, args: &[&str]) -> String {
        let output = self.try_systemctl(args);
        assert!(output.status.success(), "systemctl {args:?}: {output:?}\n{}", self.manager.output());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn try_systemctl(&self, args: &[&str]) -> Output {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(args).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.folder.join("run")).env("SYSTEMD_UNIT_PATH", self.folder.join("units"));
        command.output().unwrap_or_else(|error| panic!("systemctl: {error}"))
    }

    /// The main process of a unit.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    #[track_caller]
    pub fn main_pid(&self, unit: &str) -> i32 {
        let said = self.systemctl(&["show", "--property=MainPID", "--value", unit]);
        let pid = said.trim().parse().unwrap_or_default();
        assert!(pid > 0, "{unit} has no main process: {said}");
        pid
    }

    /// Stops the process of the bus where it stands: it takes what is said, and answers nothing.
    pub fn freeze_bus(&self) {
        self.signal_bus(Signal::SIGSTOP);
    }

    /// It goes on.
    pub fn thaw_bus(&self) {
        self.signal_bus(Signal::SIGCONT);
    }

    /// The bus is gone, as when its process crashes, and does not come again. systemd and its services go on.
    pub fn kill_bus(&self) {
        // Else the next who wants to speak there would start it.
        self.systemctl(&["stop", "dbus.socket"]);
        self.signal_bus(Signal::SIGKILL);
        wait_until(WAIT_LIMIT, "the bus to be gone", || {
            self.try_systemctl(&["is-active", "dbus.service"]).stdout == b"failed\n"
        });
    }

    /// There is a bus, and systemd on it.
    #[track_caller]
    pub fn start_bus(&self) {
        self.systemctl(&["start", "dbus.socket", "dbus.service"]);
        let on_bus = || {
            let mut command = Command::new("busctl");
            command.arg(format!("--address={}", self.address())).stdin(Stdio::null()).env_clear();
            command.args(["call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"]);
            command.args(["NameHasOwner", "s", "org.freedesktop.systemd1"]).env("PATH", "/usr/bin:/bin");
            command.output().is_ok_and(|output| output.stdout == b"b true\n")
        };
        assert!(poll_until(WAIT_LIMIT, on_bus), "systemd did not come to its bus: {}", self.manager.output());
    }

    fn signal_bus(&self, signal: Signal) {
        let pid = self.main_pid("dbus.service");
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("the bus (pid {pid}): {error}"));
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Else it would start again what is killed beneath it.
        self.manager.kill_alone();
    }
}

fn address(folder: &Path) -> String {
    format!("unix:path={}", folder.join("run/bus").display())
}

fn bus_unit(dbus_daemon: &Path, config: &Path) -> String {
    format!(
        "[Service]\nType=notify\nExecStart={} --config-file={} --address=systemd: --nofork --nopidfile --nosyslog\n",
        dbus_daemon.display(),
        config.display()
    )
}

fn bus_config(listen: &str, policy: &str) -> String {
    format!(
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig>\n<type>session</type>\n\
         <listen>{listen}</listen>\n<auth>EXTERNAL</auth>\n<policy context=\"default\">\n\
         <allow send_destination=\"*\" eavesdrop=\"true\"/>\n<allow eavesdrop=\"true\"/>\n<allow own=\"*\"/>\n{policy}\n\
         </policy>\n</busconfig>\n"
    )
}

/// Control groups of its own, in each hierarchy that systemd uses.
#[derive(Debug)]
struct Groups(Vec<PathBuf>);

impl Groups {
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mainstay-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut groups = Self(Vec::new());
        for hierarchy in ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"] {
            let hierarchy = Path::new(hierarchy);
            if !hierarchy.join("cgroup.procs").exists() {
                continue;
            }
            let group = hierarchy.join(&name);
            fs::create_dir(&group).ok()?;
            groups.0.push(group);
        }
        (!groups.0.is_empty()).then_some(groups)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.0 {
            if !poll_until(Duration::from_secs(GROUPS_S_MAX), || remove_group(group)) {
                eprintln!("the control group {} could not be removed", group.display());
            }
        }
    }
}

/// Whether it is gone, after what is in it was killed. A control group is a folder whose files nobody can remove, and need not.
fn remove_group(group: &Path) -> bool {
    let inside = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in inside.lines().filter_map(|pid| pid.parse().ok()) {
        // It may have ended since.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
