//! A real etcd cluster on loopback, with ports and folders of its own, gone when dropped.
//!
//! Seen from outside by `etcdctl`, which is not what is tested.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::Signal;

use crate::{Guard, Port, TempDir, WAIT_LIMIT, require_or_skip, wait_for, wait_until};

/// Members of one cluster.
#[derive(Debug)]
pub struct Etcd {
    server: PathBuf,
    client: PathBuf,
    members: Vec<Member>,
    /// The directory with `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`; none: not encrypted.
    certificates: Option<PathBuf>,
    /// After the members: they end first.
    folder: TempDir,
}

#[derive(Debug)]
struct Member {
    process: Option<Guard>,
    client: Port,
    peer: Port,
}

impl Etcd {
    /// Starts so many members and waits until they have a leader; none when etcd is not installed, and then the test is
    /// skipped.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn start(members: usize) -> Option<Self> {
        Self::start_with(members, None)
    }

    /// The same with TLS: clients have to show a certificate of the authority in `ca.pem`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn start_with(members: usize, certificates: Option<&Path>) -> Option<Self> {
        let server = require_or_skip("etcd", "apt-get install etcd-server")?;
        let client = require_or_skip("etcdctl", "apt-get install etcd-client")?;
        let members = (0..members)
            .map(|_| Member { process: None, client: Port::reserve(), peer: Port::reserve() })
            .collect::<Vec<_>>();
        let certificates = certificates.map(Path::to_owned);
        let mut etcd = Self { server, client, members, certificates, folder: TempDir::new() };
        for at in 0..etcd.members.len() {
            etcd.spawn(at);
        }
        etcd.wait_for_leader();
        Some(etcd)
    }

    /// Where clients find each member.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|at| self.endpoint(at)).collect()
    }

    /// Where clients find this one.
    #[must_use]
    pub fn endpoint(&self, at: usize) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.members[at].client.address())
    }

    fn spawn(&mut self, at: usize) {
        let peers: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(at, member)| format!("m{at}=http://{}", member.peer.address()))
            .collect();
        let member = &self.members[at];
        let peer = format!("http://{}", member.peer.address());
        let endpoint = self.endpoint(at);
        let mut command = Command::new(&self.server);
        command
            .args(["--name", &format!("m{at}"), "--initial-cluster", &peers.join(",")])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--logger", "zap", "--log-level", "warn", "--data-dir"])
            .arg(self.data(at));
        if let Some(certificates) = &self.certificates {
            command.arg("--client-cert-auth");
            for (option, file) in
                [("--trusted-ca-file", "ca.pem"), ("--cert-file", "server.pem"), ("--key-file", "server.key")]
            {
                command.arg(option).arg(certificates.join(file));
            }
        }
        let name = format!("etcd m{at} at {endpoint}");
        let process = Guard::start(&name, &mut command).unwrap_or_else(|error| panic!("{error}"));
        self.members[at].process = Some(process);
    }

    /// Starts a member again.
    #[track_caller]
    pub fn run(&mut self, at: usize) {
        assert!(self.members[at].process.is_none(), "m{at} runs already");
        self.spawn(at);
        self.wait_for_leader();
    }

    /// Kills a member with SIGKILL.
    pub fn kill(&mut self, at: usize) {
        if let Some(process) = self.members[at].process.take() {
            process.end();
        }
    }

    /// Pauses or resumes a member, or whatever the signal does.
    pub fn signal(&mut self, at: usize, signal: Signal) {
        if let Some(process) = &mut self.members[at].process {
            process.signal(signal);
        }
    }

    /// Kills all members and throws away what they had stored; [`Self::run_all`] starts them anew.
    ///
    /// # Panics
    /// When it cannot be thrown away.
    #[track_caller]
    pub fn wipe(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
            let data = self.data(at);
            std::fs::remove_dir_all(&data).unwrap_or_else(|error| panic!("{}: {error}", data.display()));
        }
    }

    /// Starts all members that do not run.
    #[track_caller]
    pub fn run_all(&mut self) {
        for at in 0..self.members.len() {
            if self.members[at].process.is_none() {
                self.spawn(at);
            }
        }
        self.wait_for_leader();
    }

    /// The member that leads, as it says itself.
    ///
    /// # Panics
    /// When none does.
    #[must_use]
    #[track_caller]
    pub fn leader(&self) -> usize {
        wait_for(WAIT_LIMIT, "etcd to have a leader", || self.find_leader())
    }

    fn find_leader(&self) -> Option<usize> {
        (0..self.members.len()).filter(|at| self.members[*at].process.is_some()).find(|at| {
            let said = self.ctl_at(*at, &["endpoint", "status", "--write-out=json"]);
            let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
            let status = &said[0]["Status"];
            status["leader"].is_u64() && status["leader"] == status["header"]["member_id"]
        })
    }

    /// Waits until a majority answers.
    #[track_caller]
    fn wait_for_leader(&mut self) {
        let at = (0..self.members.len()).rev().find(|at| self.members[*at].process.is_some()).expect("one was started");
        wait_until(WAIT_LIMIT, "etcd to answer", || {
            for member in &mut self.members {
                if let Some(process) = &mut member.process
                    && let Some(status) = process.status()
                {
                    panic!("etcd has ended with {status}: {}", process.output());
                }
            }
            self.ctl_at(at, &["get", "x"]).status.success()
        });
    }

    /// What `etcdctl` says, asked at all members.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ctl(&self, args: &[&str]) -> String {
        let output = self.ctl_to(&self.endpoints().join(","), args);
        assert!(output.status.success(), "etcdctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn ctl_at(&self, at: usize, args: &[&str]) -> Output {
        self.ctl_to(&self.endpoint(at), args)
    }

    fn ctl_to(&self, endpoints: &str, args: &[&str]) -> Output {
        let mut command = Command::new(&self.client);
        command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints, "--command-timeout=2s", "--dial-timeout=2s"]);
        if let Some(certificates) = &self.certificates {
            for (option, file) in [("--cacert", "ca.pem"), ("--cert", "client.pem"), ("--key", "client.key")] {
                command.arg(option).arg(certificates.join(file));
            }
        }
        command.args(args).output().expect("it was just found")
    }

    fn data(&self, at: usize) -> PathBuf {
        self.folder.join(format!("m{at}"))
    }
}
