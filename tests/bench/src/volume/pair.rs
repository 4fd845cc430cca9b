//! mainstay's volume: the processes of both copies, or of one that has no other.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_test_support::{Guard, Port, binary};
use serde_json::{Value, json};

use super::keys::NODES;
use super::{Line, SOON_S, Served, backing, wait_for};
use crate::trouble::Trouble;

/// What is kept behind a copy's data, in bytes.
const LABEL_BYTES: u64 = 8192;
/// How long two copies may take until they have the same, in s.
const CONNECTED_S_MAX: u64 = 300;
/// How long a region stays in the log that is not written to, and a good while more, in s.
const COLD_S_MAX: u64 = 60;
/// The other copy is gone after so many ms of silence, and the source goes on after so many more.
const LOST_MS: [u64; 2] = [1000, 200];
const SIDES: [&str; 2] = ["A", "B"];

/// Which copies there are.
#[derive(Clone, Copy, Debug)]
pub enum Copies<'a> {
    /// Two, with this line between them.
    Two(Line<'a>),
    /// One alone.
    One,
}

/// A resync that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Resync {
    /// From its beginning to its end.
    pub took: Duration,
    /// Regions that it was about.
    pub regions: u64,
    /// Bytes that were sent.
    pub sent: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Pair {
    folder: PathBuf,
    processes: Vec<Option<Guard>>,
    program: PathBuf,
    _port: Option<Port>,
}

impl Pair {
    /// Makes the copies in a new folder; the source serves, and the other copy has everything. The first resync comes
    /// with it, if there is another copy.
    ///
    /// # Errors
    /// When something does not go as it should.
    ///
    /// # Panics
    /// When the program cannot be built.
    pub fn start(
        folder: PathBuf,
        size: u64,
        sparse: bool,
        copies: Copies<'_>,
    ) -> Result<(Self, Option<Resync>), Trouble> {
        fs::create_dir_all(&folder).map_err(Trouble::file("make", &folder))?;
        let count = if matches!(copies, Copies::Two(_)) { 2 } else { 1 };
        let port = matches!(copies, Copies::Two(_)).then(Port::reserve);
        let processes = (0..count).map(|_| None).collect();
        let mut pair = Self { folder, processes, program: binary("mainstay-volume"), _port: None };
        for (side, letter) in SIDES.iter().enumerate().take(count) {
            backing(&pair.at(side, "img"), size, LABEL_BYTES, sparse)?;
            let mut config = json!({
                "name": "mail", "volume": "0123456789abcdef0123456789abcdef", "side": letter,
                "backing": pair.at(side, "img"), "log": pair.at(side, "log"), "nbd": pair.at(side, "nbd"),
                "control": pair.at(side, "control"), "peer-timeout-ms": LOST_MS[0], "alone-after-ms": LOST_MS[1],
            });
            if let (Copies::Two(line), Some(port)) = (copies, &port) {
                config["link"] = link(side, port, line);
            }
            let path = pair.at(side, "json");
            fs::write(&path, config.to_string()).map_err(Trouble::file("write", &path))?;
            pair.create(side)?;
        }
        pair._port = port;
        (0..count).rev().try_for_each(|side| pair.serve(side))?;
        let events = Events::follow(&pair.at(0, "control"))?;
        if count == 2 {
            pair.wait_for_link("idle", SOON_S)?;
        }
        let right = json!({ "right": { "epoch": { "counter": 1, "side": "A" }, "until-boot-ms": null } });
        pair.ask(0, &right)?;
        wait_for("the source to be promoted", SOON_S, || {
            // Nobody can say what another copy has: without one it takes force.
            let basis = if count == 2 { "free" } else { "force" };
            Ok((pair.ask(0, &json!({ "promote": basis }))? == json!("done")).then_some(()))
        })?;
        let first = if count == 2 { Some(pair.resynced(events)?) } else { None };
        Ok((pair, first))
    }

    fn at(&self, side: usize, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", SIDES[side]))
    }

    fn create(&self, side: usize) -> Result<(), Trouble> {
        let mut command = Command::new(&self.program);
        command.arg("create").arg(self.at(side, "json")).args((side == 0).then_some("--first"));
        let made = command.output().map_err(Trouble::system("run mainstay-volume"))?;
        if made.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        Err(Trouble::Program { program: "mainstay-volume create".into(), ending: made.status.to_string(), said })
    }

    fn serve(&mut self, side: usize) -> Result<(), Trouble> {
        let mut command = Command::new(&self.program);
        command.arg("serve").arg(self.at(side, "json"));
        self.processes[side] = Some(Guard::start(SIDES[side], &mut command)?);
        wait_for("a copy to be served", SOON_S, || Ok(self.ask(side, &json!("status")).ok().map(drop)))
    }

    /// Ends the process of the other copy as a power cord would, and has it served again after `meanwhile`; the resync
    /// that follows.
    ///
    /// # Errors
    /// When something does not go as it should.
    pub fn break_and_mend(&mut self, meanwhile: impl FnOnce(&Self) -> Result<(), Trouble>) -> Result<Resync, Trouble> {
        // What was copied or written a moment ago is in the log until it is cold, and would be copied again.
        wait_for(
            "the log to be clear",
            COLD_S_MAX,
            || Ok((self.status()?["dirty-regions"] == json!(0)).then_some(())),
        )?;
        if let Some(mut process) = self.processes[1].take() {
            process.kill_alone();
        }
        meanwhile(self)?;
        let events = Events::follow(&self.at(0, "control"))?;
        self.serve(1)?;
        self.resynced(events)
    }

    fn resynced(&self, events: Events) -> Result<Resync, Trouble> {
        let before = self.status()?["resync-bytes"].as_u64().unwrap_or_default();
        let (took, regions) = events.resync()?;
        self.wait_for_link("connected", SOON_S)?;
        let then = self.status()?["resync-bytes"].as_u64().unwrap_or_default();
        Ok(Resync { took, regions, sent: then.saturating_sub(before) })
    }

    fn wait_for_link(&self, state: &str, seconds: u64) -> Result<(), Trouble> {
        let what = format!("the link to be {state}");
        wait_for(&what, seconds, || Ok((self.status()?["link"] == json!(state)).then_some(())))
    }

    /// The source's status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Value, Trouble> {
        Ok(self.ask(0, &json!("status"))?["status"].take())
    }

    fn ask(&self, side: usize, ask: &Value) -> Result<Value, Trouble> {
        let mut lines = Events::connect(&self.at(side, "control"), ask)?;
        let mut said = lines.next()?;
        Ok(said["reply"].take())
    }
}

impl Served for Pair {
    fn uri(&self) -> String {
        format!("nbd+unix:///mail?socket={}", self.at(0, "nbd").display())
    }
}

fn link(side: usize, port: &Port, line: Line<'_>) -> Value {
    let mut link = json!({ (if side == 0 { "connect" } else { "listen" }): port.address() });
    match line {
        Line::Tls(keys) => {
            let file = |name: &str| keys.of(NODES[side]).join(name);
            link["tls"] = json!({
                "cluster": "mail", "peer": NODES[1 - side], "authority": file("ca-cert.pem"),
                "certificate": file("server-cert.pem"), "key": file("server-key.pem"),
            });
        }
        Line::Plain => link["insecure-for-benchmarks-only"] = json!(true),
    }
    link
}

/// What a copy says on its control socket.
#[derive(Debug)]
struct Events {
    lines: BufReader<UnixStream>,
    path: PathBuf,
}

impl Events {
    fn follow(control: &Path) -> Result<Self, Trouble> {
        let mut events = Self::connect(control, &json!("follow"))?;
        events.next()?;
        Ok(events)
    }

    fn connect(control: &Path, ask: &Value) -> Result<Self, Trouble> {
        let file = |doing| Trouble::file(doing, control);
        let mut stream = UnixStream::connect(control).map_err(file("connect to"))?;
        stream.set_read_timeout(Some(Duration::from_secs(CONNECTED_S_MAX))).map_err(file("set up"))?;
        let line = json!({ "id": 1, "ask": ask }).to_string() + "\n";
        stream.write_all(line.as_bytes()).map_err(file("write to"))?;
        Ok(Self { lines: BufReader::new(stream), path: control.to_owned() })
    }

    fn next(&mut self) -> Result<Value, Trouble> {
        let mut line = String::new();
        self.lines.read_line(&mut line).map_err(Trouble::file("read from", &self.path))?;
        serde_json::from_str(&line).map_err(|_| Trouble::Answer { what: "a question".into(), answer: line })
    }

    /// Waits for a whole resync; how long it took, and how many regions it was about.
    fn resync(mut self) -> Result<(Duration, u64), Trouble> {
        let until = Instant::now() + Duration::from_secs(CONNECTED_S_MAX);
        let mut began = None;
        while Instant::now() < until {
            let said = self.next()?;
            let text = said["event"].as_str().unwrap_or_default();
            let regions = text.strip_prefix("resync of ").and_then(|rest| rest.split(' ').next()?.parse().ok());
            if let Some(regions) = regions {
                began = Some((Instant::now(), regions));
            } else if let Some((at, regions)) = began.filter(|_| text.starts_with("resync is done")) {
                return Ok((at.elapsed(), regions));
            }
        }
        Err(Trouble::InVain { what: "a resync to be done".into(), seconds: CONNECTED_S_MAX })
    }
}
