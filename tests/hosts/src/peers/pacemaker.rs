//! Pacemaker and Corosync: two hosts with systemd of their own, knet over both comm paths, the application and its address
//! as a group.
//!
//! The system that they run in is made once by `root.sh`, outside the clone; each host has a layer of its own on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, binary, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Missing, Peer};
use crate::host::child_of;
use crate::names;
use crate::net::{APP_PORT, LINKS, Link, Net, PATHS};
use crate::prober::Prober;

/// A system boots, and a cluster forms, in some tens of seconds on a busy machine.
const READY_S_MAX: u64 = 180;
/// How long a token may take, in ms.
const TOKEN_MS: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub struct Pacemaker {
    // In this order: who asks, what runs, where.
    prober: Prober,
    machines: Vec<Machine>,
    net: Net,
}

#[derive(Debug)]
struct Machine {
    name: &'static str,
    /// systemd-nspawn; its child is the first process of the host. None: it is off.
    nspawn: Option<Guard>,
    /// Its layer.
    folder: TempDir,
    cgroups: Vec<PathBuf>,
}

/// Where `root.sh` puts the system.
fn root() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_else(|| "/var/cache".into()).join("mainstay/pacemaker-root")
}

impl Pacemaker {
    /// Two hosts that form a cluster, in which `a` serves.
    ///
    /// # Errors
    /// When the system was not made, or namespaces cannot be made here.
    pub fn new() -> Result<Self, Missing> {
        let missing = || Missing("Pacemaker and Corosync: just bench-peers".into());
        let nspawn = Command::new("systemd-nspawn").arg("--version").output();
        if !root().is_dir() || !nspawn.is_ok_and(|output| output.status.success()) {
            return Err(missing());
        }
        let net = Net::new(&["a", "b"]).ok_or_else(missing)?;
        let prober = Prober::of_address(&net, (net.moving_address(Link::Out), APP_PORT).into());
        let machines = ["a", "b"].map(|name| Machine::new(name, &net)).into();
        let mut peer = Self { prober, machines, net };
        for machine in &mut peer.machines {
            machine.boot(&peer.net);
        }
        peer.machines.iter().for_each(Machine::join);
        peer.wait_until_online("a");
        peer.machine("a").must(&configure(&peer.net));
        peer.prober.wait_until_served_by(Duration::from_secs(READY_S_MAX), &["a"]);
        Ok(peer)
    }

    fn machine(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name == name).unwrap_or_else(|| panic!("no host {name}"))
    }

    fn wait_until_online(&self, seen_from: &str) {
        wait_until(Duration::from_secs(READY_S_MAX), "both nodes to be online", || {
            self.machine(seen_from).run("crm_mon -1").is_some_and(|said| said.contains("Online: [ a b ]"))
        });
    }
}

impl Peer for Pacemaker {
    fn prober(&self) -> &Prober {
        &self.prober
    }

    fn power_off(&mut self, host: &str) {
        self.net.carrier(host, &LINKS, false);
        let machine = self.machines.iter_mut().find(|machine| machine.name == host);
        machine.unwrap_or_else(|| panic!("no host {host}")).power_off();
    }

    fn power_on(&mut self, host: &str) {
        self.net.carrier(host, &LINKS, true);
        self.net.address_anew(host);
        let net = self.net.clone();
        let machine = self.machines.iter_mut().find(|machine| machine.name == host);
        machine.unwrap_or_else(|| panic!("no host {host}")).boot(&net);
        self.machine(host).join();
        let other = if host == "a" { "b" } else { "a" };
        self.wait_until_online(other);
        self.prober.wait_until_served_by(WAIT_LIMIT, &[other]);
    }
}

impl Machine {
    fn new(name: &'static str, net: &Net) -> Self {
        let folder = TempDir::new();
        for part in ["up", "work", "root"] {
            folder.folder(part);
        }
        // systemd and its services run as several users.
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        for part in ["", "up", "root"] {
            std::fs::set_permissions(folder.join(part), open.clone()).expect("it was just made");
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            root().display(),
            folder.join("up").display(),
            folder.join("work").display()
        );
        let mut mount = Command::new("mount");
        let done =
            mount.args(["-t", "overlay", &names::disk_source(), "-o", &layers]).arg(folder.join("root")).output();
        assert!(done.as_ref().is_ok_and(|output| output.status.success()), "{mount:?}: {done:?}");
        folder.write("root/etc/hostname", format!("{name}\n"));
        folder.write("root/etc/corosync/corosync.conf", corosync(net));
        Self { name, nspawn: None, folder, cgroups: Vec::new() }
    }

    fn boot(&mut self, net: &Net) {
        // A hierarchy of its own: otherwise all such hosts land in the same one.
        let unique = net.file(self.name);
        let unique = unique.file_name().unwrap_or_default();
        self.cgroups = ["systemd", "unified"].map(|it| Path::new("/sys/fs/cgroup").join(it)).into();
        self.cgroups.retain(|root| root.is_dir());
        if self.cgroups.is_empty() {
            self.cgroups.push("/sys/fs/cgroup".into());
        }
        for group in &mut self.cgroups {
            group.push(unique);
            std::fs::create_dir_all(&*group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
        }
        let program = binary("mainstay-host");
        let mut command = Command::new("/bin/sh");
        let enter = "for group in $1; do echo $$ > \"$group/cgroup.procs\"; done; shift; exec \"$@\"";
        let groups: Vec<String> = self.cgroups.iter().map(|group| group.display().to_string()).collect();
        command.args(["-euc", enter, "sh", &groups.join(" "), "systemd-nspawn", "-q", "--boot", "--register=no"]);
        command
            .args(["--keep-unit", "--console=pipe", "--capability=all", "--directory"])
            .arg(self.folder.join("root"));
        command.arg(format!("--network-namespace-path={}", net.file(self.name).display()));
        command.arg(format!("--machine={}", self.name));
        command.arg(format!("--bind-ro={}:/usr/local/bin/mainstay-host", program.display()));
        let guard = Guard::start(&format!("the host {}", self.name), &mut command);
        self.nspawn = Some(guard.unwrap_or_else(|error| panic!("{error}")).claim(&self.folder));
        wait_until(Duration::from_secs(READY_S_MAX), "systemd to be up", || {
            let state = self.run("systemctl is-system-running || true").unwrap_or_default();
            ["running", "degraded"].contains(&state.trim())
        });
    }

    fn join(&self) {
        self.must("systemctl start corosync pacemaker");
    }

    fn first_process(&self) -> Option<Pid> {
        child_of(self.nspawn.as_ref()?.pid())
    }

    /// What a shell on the host says; `None` when it fails.
    fn run(&self, script: &str) -> Option<String> {
        let leader = self.first_process()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &leader, "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--"]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "/bin/sh", "-c", script]);
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[track_caller]
    fn must(&self, script: &str) {
        assert!(self.run(script).is_some(), "this failed on {}:\n{script}", self.name);
    }

    fn power_off(&mut self) {
        let Some(mut nspawn) = self.nspawn.take() else { return };
        let first = child_of(nspawn.pid());
        for pid in first.into_iter().chain(i32::try_from(nspawn.pid()).ok().map(Pid::from_raw)) {
            // Gone by itself already is as good.
            let _ = kill(pid, Signal::SIGKILL);
        }
        assert!(nspawn.wait(WAIT_LIMIT).is_some(), "{} goes on without power", self.name);
        // The first process is gone some time after what it ran.
        wait_until(WAIT_LIMIT, "the host to be gone", || first.is_none_or(|pid| kill(pid, None).is_err()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_off();
        let unmounted = Command::new("umount").arg("-l").arg(self.folder.join("root")).output();
        if !unmounted.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("the layer of {} could not be unmounted: {unmounted:?}", self.name);
        }
        for group in &self.cgroups {
            names::remove_groups(group, 0);
        }
    }
}

fn corosync(net: &Net) -> String {
    let mut text = format!(
        "totem {{\n  version: 2\n  cluster_name: bench\n  transport: knet\n  crypto_cipher: none\n  \
         crypto_hash: none\n  token: {TOKEN_MS}\n}}\nnodelist {{\n"
    );
    for (host, id) in net.hosts().iter().zip(1..) {
        text += &format!("  node {{\n    name: {host}\n    nodeid: {id}\n");
        for (path, ring) in PATHS.iter().zip(0..) {
            text += &format!("    ring{ring}_addr: {}\n", net.address(host, *path));
        }
        text += "  }\n";
    }
    // It may not have real-time scheduling here, and need not: the machine is not short of processors while it is measured.
    text + "}\nquorum {\n  provider: corosync_votequorum\n  two_node: 1\n  wait_for_all: 0\n}\nlogging {\n  \
            to_stderr: no\n  to_syslog: no\n  to_logfile: yes\n  logfile: /var/log/corosync/corosync.log\n}\n\
            system {\n  move_to_root_cgroup: no\n  sched_rr: no\n}\n"
}

/// No fence, as with mainstay over paths: what is measured is how soon the other one serves.
fn configure(net: &Net) -> String {
    let address = net.moving_address(Link::Out);
    format!(
        "set -e\n\
         crm configure property stonith-enabled=false no-quorum-policy=ignore\n\
         crm configure rsc_defaults resource-stickiness=100\n\
         crm configure primitive vip ocf:heartbeat:IPaddr2 params ip={address} cidr_netmask=24 nic=out \
         op monitor interval=1s timeout=20s\n\
         crm configure primitive web ocf:heartbeat:anything params binfile=/usr/local/bin/mainstay-host \
         cmdline_options='serve - 0.0.0.0:{APP_PORT}' pidfile=/run/web.pid op monitor interval=1s timeout=20s\n\
         crm configure group shop vip web\n\
         crm configure location first shop 50: a\n"
    )
}
