//! The peers: qemu-nbd alone, and qemu-storage-daemon as a synchronous mirror in the two ways that it has.
//!
//! The other copy is served by qemu-nbd. All of them with `cache.direct`, as mainstay has it, and Linux's own asynchronous
//! I/O, which was the quicker one of those that they offer.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_test_support::{Guard, Port};
use serde_json::{Value, json};

use super::keys::NODES;
use super::{Line, SOON_S, Served, backing, installed, wait_for};
use crate::trouble::Trouble;

/// How they are had. Before version 8.1 qemu's server does not set TCP_NODELAY, and Nagle's algorithm holds back every answer
/// that follows another one until that is acknowledged: with sixteen writes under way it does 600 a second instead of 7000.
/// Nothing is gained by being quicker than that.
const INSTALL: &str = "qemu-nbd and qemu-storage-daemon 8.1 or later: apt-get install -t bookworm-backports qemu-utils";
/// The first version that is compared with.
const VERSION_MIN: (u32, u32) = (8, 1);
/// How long the first copy of all may take, in s.
const MIRRORED_S_MAX: u64 = 300;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `qemu-nbd -f raw --cache=none --aio=native`, without another copy.
    Alone,
    /// `blockdev-mirror` with `copy-mode=write-blocking`, once it is ready.
    Mirror,
    /// The driver `quorum` of two children: it writes to both and reads from the first.
    Quorum,
}

/// A peer that serves; it ends with this.
#[derive(Debug)]
pub struct Qemu {
    socket: PathBuf,
    // The source first, so that it does not see its other copy go.
    _processes: Vec<Guard>,
    _port: Option<Port>,
    /// A job lives as long as somebody may ask for it.
    _monitor: Option<Monitor>,
}

const PROGRAMS: [&str; 2] = ["qemu-nbd", "qemu-storage-daemon"];

/// Whether they are installed, in whatever version.
#[must_use]
pub fn is_installed() -> bool {
    PROGRAMS.into_iter().all(|program| installed(program).is_some())
}

/// What is said of them when they are not there as they have to be; none: they are.
#[must_use]
pub fn missing() -> Option<String> {
    if !is_installed() {
        return Some(INSTALL.to_owned());
    }
    for program in PROGRAMS {
        let said = Command::new(program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        if version(&said).is_none_or(|version| version < VERSION_MIN) {
            return Some(format!(
                "{INSTALL}; here is {}",
                said.lines().next().unwrap_or("one that does not tell its version")
            ));
        }
    }
    None
}

/// `qemu-nbd 10.0.2 (Debian ...)`, `qemu-storage-daemon version 10.0.2 (...)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut parts = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Qemu {
    /// Starts one in a new folder.
    ///
    /// # Errors
    /// When something does not go as it should.
    pub fn start(folder: &Path, size: u64, way: Way, line: Line<'_>) -> Result<Self, Trouble> {
        fs::create_dir_all(folder).map_err(Trouble::file("make", folder))?;
        let socket = folder.join("nbd");
        let [a, b] = ["a.img", "b.img"].map(|name| folder.join(name));
        backing(&a, size, 0, false)?;
        let qemu_nbd = || {
            let mut command = Command::new("qemu-nbd");
            command.args(["-f", "raw", "--cache=none", "--aio=native", "-t", "-e", "8"]);
            command
        };
        if way == Way::Alone {
            let mut command = qemu_nbd();
            command.arg("-k").arg(&socket).arg(&a);
            let process = Guard::start("qemu-nbd", &mut command)?;
            let served = Self { socket, _processes: vec![process], _port: None, _monitor: None };
            return served.wait();
        }
        backing(&b, size, 0, false)?;
        let port = Port::reserve();
        let mut command = qemu_nbd();
        if let Line::Tls(keys) = line {
            command.arg("--object").arg(credentials(&keys.of(NODES[1]), "server")).args(["--tls-creds", "tls0"]);
        }
        command.args(["-b", "127.0.0.1", "-p", &port.number().to_string()]).arg(&b);
        let other = Guard::start("qemu-nbd", &mut command)?;
        wait_for("qemu-nbd to listen", SOON_S, || Ok(std::net::TcpStream::connect(port.address()).ok().map(drop)))?;
        let control = folder.join("control");
        let mut command = Command::new("qemu-storage-daemon");
        if let Line::Tls(keys) = line {
            command.arg("--object").arg(credentials(&keys.of(NODES[0]), "client"));
        }
        command.args(["--chardev", &format!("socket,id=c,path={},server=on,wait=off", control.display())]);
        command.args(["--monitor", "c", "--blockdev"]);
        command.arg(format!("driver=file,node-name=file0,filename={},cache.direct=on,aio=native", a.display()));
        command.args(["--blockdev", "driver=raw,node-name=disk0,file=file0,cache.direct=on"]);
        let node = if way == Way::Quorum {
            let creds = if matches!(line, Line::Tls(_)) { ",tls-creds=tls0" } else { "" };
            let number = port.number();
            command.arg("--blockdev").arg(format!(
                "driver=nbd,node-name=peer0,server.type=inet,server.host=127.0.0.1,server.port={number},export={creds}"
            ));
            let quorum = "driver=quorum,node-name=both,vote-threshold=1,read-pattern=fifo";
            command.arg("--blockdev").arg(format!("{quorum},children.0=disk0,children.1=peer0"));
            "both"
        } else {
            "disk0"
        };
        command.args(["--nbd-server", &format!("addr.type=unix,addr.path={},max-connections=8", socket.display())]);
        command.args(["--export", &format!("type=nbd,id=e0,node-name={node},name=mail,writable=on")]);
        let process = Guard::start("qemu-storage-daemon", &mut command)?;
        let monitor = if way == Way::Mirror { Some(mirror(&control, &port, line)?) } else { None };
        Self { socket, _processes: vec![process, other], _port: Some(port), _monitor: monitor }.wait()
    }

    fn wait(self) -> Result<Self, Trouble> {
        wait_for("a peer to listen", SOON_S, || Ok(UnixStream::connect(&self.socket).ok().map(drop)))?;
        Ok(self)
    }
}

impl Served for Qemu {
    fn uri(&self) -> String {
        // qemu-nbd has one export, and takes any name that is empty for it; the daemon's has a name.
        let name = if self._port.is_some() { "mail" } else { "" };
        format!("nbd+unix:///{name}?socket={}", self.socket.display())
    }
}

fn credentials(folder: &Path, end: &str) -> String {
    format!("tls-creds-x509,id=tls0,dir={},endpoint={end},verify-peer=yes", folder.display())
}

/// Begins the mirror, and waits until both have the same.
fn mirror(control: &Path, port: &Port, line: Line<'_>) -> Result<Monitor, Trouble> {
    let mut monitor = Monitor::open(control)?;
    let number = port.number().to_string();
    let mut peer = json!({
        "driver": "nbd", "node-name": "peer0", "export": "",
        "server": { "type": "inet", "host": "127.0.0.1", "port": number },
    });
    if matches!(line, Line::Tls(_)) {
        peer["tls-creds"] = json!("tls0");
    }
    monitor.ask("blockdev-add", &peer)?;
    let job = json!({
        "job-id": "m0", "device": "disk0", "target": "peer0", "sync": "full", "copy-mode": "write-blocking",
    });
    monitor.ask("blockdev-mirror", &job)?;
    wait_for("qemu's mirror to be ready", MIRRORED_S_MAX, || {
        let jobs = monitor.ask("query-block-jobs", &json!({}))?;
        // Before version 8.2 it does not say whether it also writes to both by now; it does so as soon as it is ready.
        Ok((jobs[0]["ready"] == json!(true) && jobs[0]["actively-synced"] != json!(false)).then_some(()))
    })?;
    Ok(monitor)
}

/// A connection by which the daemon is told what to do (QMP).
#[derive(Debug)]
struct Monitor {
    lines: BufReader<UnixStream>,
    path: PathBuf,
}

impl Monitor {
    fn open(path: &Path) -> Result<Self, Trouble> {
        let stream = wait_for("qemu's monitor", SOON_S, || Ok(UnixStream::connect(path).ok()))?;
        let limit = Some(Duration::from_secs(SOON_S));
        stream.set_read_timeout(limit).map_err(Trouble::file("set up", path))?;
        let mut monitor = Self { lines: BufReader::new(stream), path: path.to_owned() };
        monitor.line()?;
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn line(&mut self) -> Result<Value, Trouble> {
        let mut line = String::new();
        self.lines.read_line(&mut line).map_err(Trouble::file("read from", &self.path))?;
        serde_json::from_str(&line).map_err(|_| Trouble::Answer { what: "on QMP".into(), answer: line })
    }

    fn ask(&mut self, what: &str, arguments: &Value) -> Result<Value, Trouble> {
        let line = json!({ "execute": what, "arguments": arguments }).to_string() + "\n";
        self.lines.get_mut().write_all(line.as_bytes()).map_err(Trouble::file("write to", &self.path))?;
        loop {
            let mut said = self.line()?;
            if said["return"] != Value::Null {
                return Ok(said["return"].take());
            }
            if said["error"] != Value::Null {
                return Err(Trouble::Answer { what: what.to_owned(), answer: said.to_string() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_qemu_says_of_itself() {
        assert_eq!(version("qemu-nbd 10.0.2 (Debian 1:10.0.2+ds-2)\n"), Some((10, 0)));
        assert_eq!(version("qemu-storage-daemon version 7.2.22 (Debian 1:7.2+dfsg-7)"), Some((7, 2)));
        assert_eq!(version("command not found"), None);
        assert!((8, 0) < VERSION_MIN && (10, 0) >= VERSION_MIN);
    }
}
