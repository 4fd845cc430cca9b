//! Two copies of a volume on one machine, with certificates, as their daemons would start them.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod model;
pub(crate) mod under;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mainstay_test_support::{Guard, Port, Relay, TempDir, WAIT_LIMIT, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

/// Data of a copy, in bytes; the label comes on top.
pub(crate) const SIZE: u64 = 64 << 20;
pub(crate) const LABEL: u64 = 8192;
const VOLUME: &str = "0123456789abcdef0123456789abcdef";

/// The two copies, which may be served or not.
pub(crate) struct Pair {
    folder: TempDir,
    served: [Option<Guard>; 2],
    /// Where their data is, if not in a file beside all the others.
    disks: [Option<PathBuf>; 2],
    port: Port,
    /// What the mirror link goes through, if anything.
    relay: Option<Relay>,
}

/// Which copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    A = 0,
    B = 1,
}
pub(crate) use Half::{A, B};

impl Half {
    pub(crate) fn other(self) -> Self {
        [B, A][self as usize]
    }

    pub(crate) fn name(self) -> &'static str {
        ["A", "B"][self as usize]
    }

    fn nodes(self) -> (&'static str, &'static str) {
        [("ex01", "ex02"), ("ex02", "ex01")][self as usize]
    }
}

impl Pair {
    /// Makes both; `A` is the one with the data.
    pub(crate) fn new() -> Self {
        Self::with(&json!({}))
    }

    /// The same, with further lines in both configs.
    pub(crate) fn with(more: &Value) -> Self {
        Self::on([None, None], more)
    }

    /// The same, with their data on these.
    pub(crate) fn on(disks: [Option<PathBuf>; 2], more: &Value) -> Self {
        Self::make(disks, more, |_| None)
    }

    /// The same, and the mirror link can be cut.
    pub(crate) fn relayed(disks: [Option<PathBuf>; 2], more: &Value) -> Self {
        Self::make(disks, more, |target| Some(Relay::to(target).unwrap()))
    }

    fn make(
        disks: [Option<PathBuf>; 2],
        more: &Value,
        relay: impl FnOnce(std::net::SocketAddr) -> Option<Relay>,
    ) -> Self {
        let port = Port::reserve();
        let relay = relay(port.address());
        let pair = Self { folder: TempDir::new(), served: [None, None], disks, port, relay };
        let authority = authority();
        fs::write(pair.folder.join("ca.pem"), &authority.1).unwrap();
        for node in ["ex01", "ex02"] {
            pair.certify(&authority.0, node, node);
        }
        for copy in [A, B] {
            let (node, peer) = copy.nodes();
            let (end, address) = match (copy, &pair.relay) {
                (A, Some(relay)) => ("connect", relay.address()),
                (A, None) => ("connect", pair.port.address()),
                (B, _) => ("listen", pair.port.address()),
            };
            let path = |name: &str| pair.folder.join(name);
            let mut config = json!({
                "name": "mail", "volume": VOLUME, "side": copy.name(), "backing": pair.backing(copy),
                "log": pair.log(copy), "nbd": pair.nbd(copy), "control": pair.control(copy),
                "link": { end: address, "tls": {
                    "cluster": "mail", "peer": peer, "authority": path("ca.pem"),
                    "certificate": path(&format!("{node}.pem")), "key": path(&format!("{node}.key")) } },
            });
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            fs::write(pair.config(copy), config.to_string()).unwrap();
            if pair.disks[copy as usize].is_none() {
                fs::File::create(pair.backing(copy)).unwrap().set_len(SIZE + LABEL).unwrap();
            }
            let args: &[&str] = if copy == A { &["--first"] } else { &[] };
            let made = Command::new(PROGRAM).arg("create").arg(pair.config(copy)).args(args).output().unwrap();
            assert!(made.status.success(), "{made:?}");
        }
        pair
    }

    /// Gives a node's files a certificate that speaks for `name`, by another authority if it is another one.
    pub(crate) fn certify(&self, issuer: &Issuer<'_, KeyPair>, node: &str, name: &str) {
        let (pem, key) = certificate(issuer, name);
        fs::write(self.folder.join(format!("{node}.pem")), pem).unwrap();
        fs::write(self.folder.join(format!("{node}.key")), key).unwrap();
    }

    pub(crate) fn backing(&self, copy: Half) -> PathBuf {
        self.disks[copy as usize].clone().unwrap_or_else(|| self.folder.join(format!("{}.img", copy.name())))
    }

    pub(crate) fn log(&self, copy: Half) -> PathBuf {
        self.folder.join(format!("{}.log", copy.name()))
    }

    pub(crate) fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("it is a relayed pair")
    }

    pub(crate) fn nbd(&self, copy: Half) -> PathBuf {
        self.folder.join(format!("{}.nbd", copy.name()))
    }

    pub(crate) fn control(&self, copy: Half) -> PathBuf {
        self.folder.join(format!("{}.ctl", copy.name()))
    }

    pub(crate) fn link(&self) -> std::net::SocketAddr {
        self.port.address()
    }

    pub(crate) fn config(&self, copy: Half) -> PathBuf {
        self.folder.join(format!("{}.json", copy.name()))
    }

    /// Changes one line of a copy's config.
    pub(crate) fn set(&self, copy: Half, key: &str, value: Value) {
        let mut config: Value = serde_json::from_slice(&fs::read(self.config(copy)).unwrap()).unwrap();
        config[key] = value;
        fs::write(self.config(copy), config.to_string()).unwrap();
    }

    /// What the process of a copy says that cannot be served.
    pub(crate) fn serve_in_vain(&self, copy: Half) -> String {
        let output =
            limited(Path::new(PROGRAM), &["serve", &self.config(copy).display().to_string()]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// As NBD clients name it.
    pub(crate) fn uri(&self, copy: Half) -> String {
        format!("nbd+unix:///mail?socket={}", self.nbd(copy).display())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the process of a copy.
    pub(crate) fn serve(&mut self, copy: Half) {
        self.serve_with(copy, |_| {});
    }

    /// The same, in other circumstances.
    pub(crate) fn serve_with(&mut self, copy: Half, circumstances: impl FnOnce(&mut Command)) {
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(self.config(copy));
        circumstances(&mut command);
        let guard = Guard::start(copy.name(), &mut command).unwrap();
        self.served[copy as usize] = Some(guard);
        wait_until(WAIT_LIMIT, "the control socket answers", || self.try_ask(copy, &json!("status")).is_some());
    }

    /// The process of a copy.
    pub(crate) fn process(&mut self, copy: Half) -> &mut Guard {
        self.served[copy as usize].as_mut().expect("it is served")
    }

    /// As a power cord that is pulled, but for the page cache.
    pub(crate) fn kill(&mut self, copy: Half) {
        self.process(copy).kill_alone();
        self.served[copy as usize] = None;
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self, copy: Half) {
        assert!(self.process(copy).signal(nix::sys::signal::Signal::SIGTERM));
        let status = self.process(copy).wait(WAIT_LIMIT).expect("it ends");
        assert!(status.success(), "{status}: {}", self.process(copy).output());
        self.served[copy as usize] = None;
    }

    pub(crate) fn is_served(&self, copy: Half) -> bool {
        self.served[copy as usize].is_some()
    }

    fn try_ask(&self, copy: Half, ask: &Value) -> Option<Value> {
        try_ask(&self.control(copy), ask)
    }

    pub(crate) fn ask(&self, copy: Half, ask: &Value) -> Value {
        self.try_ask(copy, ask).unwrap_or_else(|| panic!("no answer to {ask}"))
    }

    pub(crate) fn status(&self, copy: Half) -> Value {
        self.ask(copy, &json!("status"))["status"].clone()
    }

    /// Gives the right, by a claim of this number, and promotes.
    pub(crate) fn promote(&self, copy: Half, epoch: u64, basis: &str) {
        let right = json!({ "right": { "epoch": { "counter": epoch, "side": copy.name() }, "until-boot-ms": null } });
        assert_eq!(self.ask(copy, &right), json!("done"));
        wait_until(WAIT_LIMIT, "it is promoted", || self.ask(copy, &json!({ "promote": basis })) == json!("done"));
    }

    /// Ends both in order; then the two backings have to be the same.
    pub(crate) fn stop_the_same(&mut self) {
        self.stop(A);
        self.stop(B);
        self.assert_same();
    }

    /// Waits until the source and its target have the same.
    pub(crate) fn wait_connected(&self, copy: Half) {
        wait_until(WAIT_LIMIT * 2, "both copies are up to date", || self.status(copy)["link"] == json!("connected"));
    }

    /// Both serve, `A` is the source, `B` has everything.
    pub(crate) fn start(&mut self) {
        self.start_again(1);
    }

    /// The same after both have ended, by a claim of this number.
    pub(crate) fn start_again(&mut self, epoch: u64) {
        self.serve(B);
        self.serve(A);
        wait_until(WAIT_LIMIT, "they are in contact", || self.status(A)["link"] == json!("idle"));
        self.promote(A, epoch, "free");
        self.wait_connected(A);
    }

    /// That the data of both files is the same. Neither may be written now.
    pub(crate) fn assert_same(&self) {
        let [a, b] = [A, B].map(|copy| fs::read(self.backing(copy)).unwrap());
        let different = a.chunks(65536).zip(b.chunks(65536)).take((SIZE / 65536) as usize).position(|(a, b)| a != b);
        assert_eq!(different, None, "a region differs");
    }
}

/// Asks on a control socket; none if nobody answers there.
pub(crate) fn try_ask(control: &Path, ask: &Value) -> Option<Value> {
    let mut stream = UnixStream::connect(control).ok()?;
    stream.set_read_timeout(Some(WAIT_LIMIT)).ok()?;
    stream.write_all(format!("{}\n", json!({ "id": 1, "ask": ask })).as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str::<Value>(&line).ok().map(|value| value["reply"].clone())
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mainstay-volume");

/// A program with a time limit; its output when it succeeds.
#[track_caller]
pub(crate) fn run(program: &Path, args: &[&str]) -> String {
    let output = attempt(program, args);
    assert!(output.status.success(), "{} {args:?}: {output:?}", program.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same, however it ends.
pub(crate) fn attempt(program: &Path, args: &[&str]) -> Output {
    limited(program, args).output().unwrap()
}

/// A program that ends after two minutes at the latest.
pub(crate) fn limited(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.arg("120").arg(program).args(args);
    // nbdsh calls `python3`, and the module that it needs belongs to the system's.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("/usr/bin:/bin:{path}"));
    command
}

/// An authority, and its certificate as PEM.
pub(crate) fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn certificate(issuer: &Issuer<'_, KeyPair>, name: &str) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(format!("mainstay://mail/{name}").try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}
