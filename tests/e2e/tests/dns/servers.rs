//! Real name servers on loopback, each with its own folder, port and keys, and nothing of the system's.
//!
//! BIND and Knot are set up alike: the zones below, one key of each algorithm that may change them, or any
//! address where a test is about updates without a key. They are seen by `dig` and `kdig`, never by the kit.

use std::path::PathBuf;
use std::process::Command;

use mainstay_test_support::{Guard, Port, TempDir, WAIT_LIMIT, require_or_skip, wait_until};

/// The forward zone.
pub(crate) const ZONE: &str = "example.org";
/// The reverse zone, of 192.0.2.0/24.
pub(crate) const REVERSE: &str = "2.0.192.in-addr.arpa";
/// The keys that every server knows: name, algorithm, secret.
pub(crate) const KEYS: [(&str, &str, &str); 3] = [
    ("ms-key", "hmac-sha256", "bWFpbnN0YXktdGVzdC1rZXktb2YtMzItYnl0ZXMtMDE="),
    ("ms-key-384", "hmac-sha384", "bWFpbnN0YXktdGVzdC1rZXktb2YtNDgtYnl0ZXMtMDEyMzQ1Njc4OWFiY2RlZmdo"),
    (
        "ms-key-512",
        "hmac-sha512",
        "bWFpbnN0YXktdGVzdC1rZXktb2YtNjQtYnl0ZXMtMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eA==",
    ),
];
/// A key that every server knows and that may change nothing.
pub(crate) const POWERLESS_KEY: (&str, &str, &str) =
    ("powerless", "hmac-sha256", "bWFpbnN0YXktdGVzdC1rZXktb2YtMzItYnl0ZXMtMDI=");

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// BIND 9's named.
    Bind,
    /// Knot DNS's knotd.
    Knot,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bind => "BIND",
            Self::Knot => "Knot",
        })
    }
}

/// Whose updates it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Those signed by one of the keys.
    Signed,
    /// Those from this machine.
    Local,
}

/// A running name server; gone with its folder when dropped.
pub(crate) struct NameServer {
    kind: Kind,
    program: PathBuf,
    client: PathBuf,
    config: PathBuf,
    // Before the folder and the port: the process ends first.
    process: Option<Guard>,
    _folder: TempDir,
    port: Port,
}

impl NameServer {
    /// Starts one; none when it, or the program that asks it, is missing, and then the test is skipped.
    pub(crate) fn start(kind: Kind, takes: Takes) -> Option<Self> {
        let (program, client) = match kind {
            Kind::Bind => (
                require_or_skip("named", "apt-get install bind9")?,
                require_or_skip("dig", "apt-get install bind9-dnsutils")?,
            ),
            Kind::Knot => (
                require_or_skip("knotd", "apt-get install knot")?,
                require_or_skip("kdig", "apt-get install knot-dnsutils")?,
            ),
        };
        let folder = TempDir::new();
        let port = Port::reserve();
        for zone in [ZONE, REVERSE] {
            folder.write(format!("{zone}.zone"), zone_file(zone));
        }
        folder.folder("db");
        let path = folder.path().display();
        let config = match kind {
            Kind::Bind => folder.write("named.conf", bind_config(&path.to_string(), port.number(), takes)),
            Kind::Knot => folder.write("knot.conf", knot_config(&path.to_string(), port.number(), takes)),
        };
        let mut server = Self { kind, program, client, config, process: None, _folder: folder, port };
        server.run();
        Some(server)
    }

    /// Starts it again after [`NameServer::kill`].
    pub(crate) fn run(&mut self) {
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Bind => command.args(["-g", "-4", "-c"]).arg(&self.config),
            Kind::Knot => command.arg("-c").arg(&self.config),
        };
        let name = format!("{} at port {}", self.kind, self.port.number());
        let mut process = Guard::start(&name, &mut command).unwrap_or_else(|error| panic!("{error}"));
        wait_until(WAIT_LIMIT, &format!("{name} answers for both zones"), || {
            if let Some(status) = process.status() {
                panic!("{name} ended with {status}: {}", process.output());
            }
            [ZONE, REVERSE].iter().all(|zone| !self.ask(zone, "SOA").is_empty())
        });
        self.process = Some(process);
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.end();
        }
    }

    /// Where it listens, as params and grants have it.
    pub(crate) fn address(&self) -> String {
        self.port.address().to_string()
    }

    /// What the independent client is told: the records of one type at one name, as they are printed, sorted.
    pub(crate) fn ask(&self, name: &str, record_type: &str) -> Vec<String> {
        // dig and kdig understand the same words here.
        let output = Command::new(&self.client)
            .args([
                "@127.0.0.1",
                "-p",
                &self.port.number().to_string(),
                "+short",
                "+norecurse",
                "+timeout=2",
                "+retry=1",
            ])
            .args([name, record_type])
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.client.display()));
        let text = String::from_utf8_lossy(&output.stdout);
        // What is no answer is printed as a comment.
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with(';') && !line.is_empty()).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// How long others may remember the records, as the independent client is told, in s.
    pub(crate) fn ttl_s(&self, name: &str, record_type: &str) -> Option<u32> {
        let output = Command::new(&self.client)
            .args(["@127.0.0.1", "-p", &self.port.number().to_string(), "+noall", "+answer", "+norecurse"])
            .args([name, record_type])
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.client.display()));
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().find(|line| !line.starts_with(';'))?.split_whitespace().nth(1)?.parse().ok()
    }
}

fn zone_file(zone: &str) -> String {
    // Short negative caching and a serial that an update raises; `old` is a record of somebody else.
    let mut text = format!(
        "$ORIGIN {zone}.\n$TTL 300\n@ IN SOA ns.example.org. hostmaster.example.org. 1 3600 600 86400 5\n@ IN NS ns.example.org.\n"
    );
    if zone == ZONE {
        text.push_str("ns IN A 127.0.0.1\nold IN A 198.51.100.99\nalias IN CNAME old.example.org.\n");
    }
    text
}

fn bind_config(folder: &str, port: u16, takes: Takes) -> String {
    let mut text = format!(
        "options {{ directory \"{folder}\"; pid-file \"{folder}/named.pid\"; session-keyfile \"{folder}/session.key\";\n\
         managed-keys-directory \"{folder}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
         recursion no; dnssec-validation no; notify no; }};\ncontrols {{ }};\n"
    );
    for (name, algorithm, secret) in KEYS.into_iter().chain([POWERLESS_KEY]) {
        text.push_str(&format!("key \"{name}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};\n"));
    }
    let who = match takes {
        Takes::Signed => KEYS.iter().map(|(name, ..)| format!("key {name}; ")).collect::<String>(),
        Takes::Local => "127.0.0.1; ".to_owned(),
    };
    for zone in [ZONE, REVERSE] {
        text.push_str(&format!(
            "zone \"{zone}\" {{ type primary; file \"{folder}/{zone}.zone\"; allow-update {{ {who}}}; }};\n"
        ));
    }
    text
}

fn knot_config(folder: &str, port: u16, takes: Takes) -> String {
    let mut text = format!(
        "server:\n  rundir: \"{folder}\"\n  listen: \"127.0.0.1@{port}\"\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: \"{folder}/db\"\n  journal-db-max-size: 16M\nlog:\n  - target: stderr\n    any: info\nkey:\n"
    );
    for (name, algorithm, secret) in KEYS.into_iter().chain([POWERLESS_KEY]) {
        text.push_str(&format!("  - id: {name}\n    algorithm: {algorithm}\n    secret: {secret}\n"));
    }
    let who = match takes {
        Takes::Signed => format!("key: [{}]", KEYS.map(|(name, ..)| name).join(", ")),
        Takes::Local => "address: 127.0.0.1".to_owned(),
    };
    text.push_str(&format!("acl:\n  - id: updates\n    {who}\n    action: update\nzone:\n"));
    for zone in [ZONE, REVERSE] {
        text.push_str(&format!(
            "  - domain: {zone}\n    storage: \"{folder}\"\n    file: \"{zone}.zone\"\n    acl: updates\n"
        ));
    }
    text
}
