//! Cases of misbehaviour: how one is written down, called, and judged.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mainstay_runtime::{CommandGrant, ErrorKind, FaultKind, Kit, Operation, Outcome};
use mainstay_test_hostile::house::{BUDGET, House};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Cases that are tried at once: more than there are processors, so that they are in each other's way.
const AT_ONCE: usize = 6;
/// How long a call may take beyond its budget: its command is ended, and the machine may be busy.
const BEYOND: Duration = Duration::from_secs(60);

/// One misbehaviour and what is to come of it.
pub(crate) struct Case {
    /// What it does.
    pub(crate) name: &'static str,
    params: Value,
    expect: Expect,
    words: &'static [&'static str],
    budget: Duration,
    program: Option<&'static str>,
    writable: bool,
    server: Option<Server>,
}

/// What is to come of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// One of these faults.
    Fault(&'static [FaultKind]),
    /// The kit answers with an error whose code contains this.
    Error(ErrorKind, &'static str),
    /// The kit answers, and its summary contains this.
    Says(&'static str),
}

/// Whom it talks to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server {
    /// Accepts, and neither says nor reads anything.
    Silent,
    /// Accepts, and never stops talking.
    Flood,
}

/// Exactly this fault.
pub(crate) fn fault(kind: FaultKind) -> Expect {
    Expect::Fault(match kind {
        FaultKind::Trap => &[FaultKind::Trap],
        FaultKind::WallTimeout => &[FaultKind::WallTimeout],
        FaultKind::CpuTimeout => &[FaultKind::CpuTimeout],
        FaultKind::OutOfMemory => &[FaultKind::OutOfMemory],
        FaultKind::Denied => &[FaultKind::Denied],
        FaultKind::Unavailable => &[FaultKind::Unavailable],
        FaultKind::Cancelled => &[FaultKind::Cancelled],
    })
}

/// An answer whose summary contains this.
pub(crate) fn says(words: &'static str) -> Expect {
    Expect::Says(words)
}

impl Case {
    /// With the usual budget, nothing to run and nobody to talk to.
    pub(crate) fn new(name: &'static str, params: Value, expect: Expect, words: &'static [&'static str]) -> Self {
        Self { name, params, expect, words, budget: BUDGET, program: None, writable: false, server: None }
    }

    /// With this budget.
    pub(crate) fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// With a shell script that is granted, as the params' `program`. What it starts is known by its environment.
    pub(crate) fn program(mut self, body: &'static str) -> Self {
        self.program = Some(body);
        self
    }

    /// Others may write the script.
    pub(crate) fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// With a server that is granted, as the params' `port`.
    pub(crate) fn server(mut self, server: Server) -> Self {
        self.server = Some(server);
        self
    }
}

/// Tries all of them, several at once, and tells all that went wrong.
#[track_caller]
pub(crate) fn run_all(house: &Arc<House>, kit: &Arc<Kit>, cases: Vec<Case>) -> impl Future<Output = ()> + use<> {
    let (house, kit) = (Arc::clone(house), Arc::clone(kit));
    async move {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut running = JoinSet::new();
        for case in cases {
            let (house, kit, turns) = (Arc::clone(&house), Arc::clone(&kit), Arc::clone(&turns));
            running.spawn(async move {
                let _turn = turns.acquire().await.expect("it is never closed");
                run(&house, &kit, case).await
            });
        }
        let mut wrong = Vec::new();
        while let Some(result) = running.join_next().await {
            wrong.extend(result.expect("the host does not panic").err());
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}

/// Tries one; then the same kit has to answer as if nothing had been.
pub(crate) async fn run(house: &House, kit: &Arc<Kit>, case: Case) -> Result<(), String> {
    let mut asked = house.asked(Operation::QuickCheck, &case.params);
    asked.budget = case.budget;
    if let Some(body) = case.program {
        let script = house.folder().script(&asked.tag, &format!("export PLACE=\"$0\"\n{body}"));
        if case.writable {
            let by_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            std::fs::set_permissions(&script, by_all).expect("it was just written");
        }
        asked.params["program"] = json!(script);
        asked.grants.command.push(CommandGrant { program: script, user: None });
    }
    let server = case.server.map(serve);
    if let Some(address) = server {
        asked.params["port"] = json!(address.port());
        asked.grants.net.push(address.to_string().parse().expect("it is an address"));
    }
    let began = Instant::now();
    let limit = case.budget + BEYOND;
    let Ok(outcome) = tokio::time::timeout(limit, house.call_as(kit, asked)).await else {
        return Err(format!("{}: did not end within {limit:?}", case.name));
    };
    judge(&case, &outcome, began.elapsed())?;
    let after = house.call(kit, Operation::QuickCheck, &json!({ "does": "nothing" })).await;
    if text(&after).contains("behaved") { Ok(()) } else { Err(format!("{}: and then: {after:?}", case.name)) }
}

fn judge(case: &Case, outcome: &Outcome, took: Duration) -> Result<(), String> {
    let text = text(outcome);
    let as_expected = match (&case.expect, outcome) {
        (Expect::Fault(kinds), Outcome::Fault(fault)) => {
            kinds.contains(&fault.kind) && fault.message.contains("hostile 0.1.0")
        }
        (Expect::Error(kind, code), Outcome::Error(error)) => error.kind == *kind && error.code.contains(code),
        (Expect::Says(words), Outcome::Report(report)) => report.summary.contains(words),
        _ => false,
    };
    let missing: Vec<_> = case.words.iter().filter(|words| !text.contains(**words)).collect();
    if as_expected && missing.is_empty() && is_bounded(outcome) && is_harmless(&text) {
        return Ok(());
    }
    let shown: String = format!("{outcome:?}").chars().take(2000).collect();
    Err(format!("{} (after {took:?}):\n  expected {:?}, missing {missing:?}\n  got {shown}", case.name, case.expect))
}

/// Everything an outcome says, one item a line.
pub(crate) fn text(outcome: &Outcome) -> String {
    let all = |first: &str, details: &[(String, String)]| {
        let details = details.iter().map(|(key, value)| format!("\n{key}: {value} [{value}]"));
        format!("{first}{}", details.collect::<String>())
    };
    match outcome {
        Outcome::Done(done) => all(&done.summary, &done.details),
        Outcome::Report(report) => all(&report.summary, &report.details),
        Outcome::Recovery(result) => all(&result.summary, &result.details),
        Outcome::Findings(found) => {
            found.iter().map(|it| all(&format!("{} {}", it.summary, it.advice), &it.details)).collect()
        }
        Outcome::Error(error) => all(&format!("{} ({})", error.message, error.code), &error.details),
        Outcome::Fault(fault) => fault.message.clone(),
    }
}

/// What a kit says is kept in many places, so none of it is long.
fn is_bounded(outcome: &Outcome) -> bool {
    // 64 details of 4 KiB with their keys, and a summary, as JSON that escapes a little.
    const OUTCOME_BYTES_MAX: usize = 400_000;
    serde_json::to_string(outcome).is_ok_and(|json| json.len() <= OUTCOME_BYTES_MAX)
}

/// Nothing in it moves a cursor, changes a colour or the direction of writing.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t' || ('\u{202a}'..='\u{202e}').contains(&c))
}

/// Serves until the process ends; UDP on the same port is there too, and silent.
fn serve(server: Server) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let socket = UdpSocket::bind(address);
    thread::spawn(move || {
        let _socket = socket;
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            match server {
                Server::Silent => held.push(stream),
                Server::Flood => {
                    let mut stream = stream;
                    thread::spawn(move || while stream.write_all(&[b'x'; 65_536]).is_ok() {});
                }
            }
        }
    });
    address
}
