//! An arbiter: members of an etcd cluster, each a machine of its own on the link `out`.
//!
//! Who leads is asked of etcd itself. It decides nothing; a member that is killed loses its processes, not its disk.

use std::process::Command;

use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, require_or_skip, wait_for, wait_until};

use crate::net::{Link, Net, STATIONS};

/// How long a permit lasts, in s.
pub const LEASE_S: u64 = 5;
/// A request of `etcdctl`, in s.
const ASK_S_MAX: u64 = 2;

/// See the module. Gone when it is dropped.
#[derive(Debug)]
pub struct Arbiter {
    net: Net,
    members: Vec<Option<Guard>>,
    // After the members: they end first.
    folder: TempDir,
}

impl Arbiter {
    /// Starts three members and waits until they have a leader; `None` when etcd is not installed, which is told.
    #[must_use]
    #[track_caller]
    pub fn start(net: &Net) -> Option<Self> {
        require_or_skip("etcd", "apt-get install etcd-server")?;
        require_or_skip("etcdctl", "apt-get install etcd-client")?;
        let mut arbiter = Self { net: net.clone(), members: Vec::new(), folder: TempDir::new() };
        for station in members() {
            let process = arbiter.run(station);
            arbiter.members.push(Some(process));
        }
        wait_until(WAIT_LIMIT, "etcd to answer", || arbiter.ctl(&["get", "x"]).is_some());
        Some(arbiter)
    }

    fn run(&self, station: &str) -> Guard {
        let url = |station: &str, port: u16| format!("http://{}:{port}", self.net.address(station, Link::Out));
        let peers: Vec<String> = members().map(|station| format!("{station}={}", url(station, 2380))).collect();
        let mut command = self.net.command(station);
        command.args(["etcd", "--name", station, "--initial-cluster", &peers.join(",")]);
        command.args(["--listen-peer-urls", &url(station, 2380), "--initial-advertise-peer-urls", &url(station, 2380)]);
        command.args(["--listen-client-urls", &url(station, 2379), "--advertise-client-urls", &url(station, 2379)]);
        command.args(["--logger", "zap", "--log-level", "error", "--data-dir"]).arg(self.folder.join(station));
        Guard::start(station, &mut command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where clients find the members of an arbiter on this net.
    #[must_use]
    pub fn endpoints(net: &Net) -> Vec<String> {
        members().map(|station| format!("http://{}:2379", net.address(station, Link::Out))).collect()
    }

    /// The members' stations.
    pub fn stations() -> impl Iterator<Item = &'static str> {
        members()
    }

    /// Kills the member that leads, with SIGKILL.
    #[track_caller]
    pub fn kill_leader(&mut self) {
        let leader = wait_for(WAIT_LIMIT, "etcd to have a leader", || self.leader());
        drop(self.members[leader].take());
    }

    /// Kills all members.
    pub fn kill_all(&mut self) {
        self.members.iter_mut().for_each(|member| drop(member.take()));
    }

    /// Starts all members that do not run, and waits until they answer.
    #[track_caller]
    pub fn run_all(&mut self) {
        for (at, station) in members().enumerate() {
            if self.members[at].is_none() {
                self.members[at] = Some(self.run(station));
            }
        }
        wait_until(WAIT_LIMIT, "etcd to answer", || self.ctl(&["get", "x"]).is_some());
    }

    fn leader(&self) -> Option<usize> {
        let endpoints = Self::endpoints(&self.net);
        let mut alive = (0..self.members.len()).filter(|at| self.members[*at].is_some());
        alive.find(|at| {
            let said = self.ctl_at(&endpoints[*at], &["endpoint", "status", "--write-out=json"]).unwrap_or_default();
            let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
            let status = &said[0]["Status"];
            status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
        })
    }

    fn ctl(&self, args: &[&str]) -> Option<String> {
        self.ctl_at(&Self::endpoints(&self.net).join(","), args)
    }

    /// What `etcdctl` says, asked where the prober is; `None` when it fails.
    fn ctl_at(&self, endpoints: &str, args: &[&str]) -> Option<String> {
        let limit = format!("{ASK_S_MAX}s");
        let mut command: Command = self.net.command("prober");
        command.env("ETCDCTL_API", "3").args(["etcdctl", "--endpoints", endpoints]);
        command.args(["--command-timeout", &limit, "--dial-timeout", &limit]).args(args);
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn members() -> impl Iterator<Item = &'static str> {
    STATIONS.into_iter().filter(|station| station.starts_with("etcd"))
}
