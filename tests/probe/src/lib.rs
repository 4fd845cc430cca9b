//! A kit that does what its params say, step by step, through the contract's capabilities, and answers what
//! each step gave. Only for tests of the host: it protects nothing and decides nothing.
//!
//! The answer is a report whose details hold one entry per step: `ok` with what came back, or `fault` with its
//! kind, code and message. A fault ends nothing: the next step is taken.

use std::hint::black_box;
use std::time::Duration;

use mainstay_sdk::command::{Ending, Request};
use mainstay_sdk::mount::Source;
use mainstay_sdk::net::{Tcp, Tls, Udp};
use mainstay_sdk::prelude::*;
use mainstay_sdk::service::State;
use mainstay_sdk::{log::Level, random, store};
use serde::Deserialize;

/// What to do.
#[derive(Debug, Deserialize, Params)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// One after the other.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One use of one capability.
#[derive(Debug, Deserialize, Params)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Answers the context of the call.
    Context {},
    /// Reads the clocks.
    Clock {},
    /// Sleeps.
    Sleep {
        /// How long, in ms.
        ms: u32,
    },
    /// Writes a line to the log, with a field.
    Log {
        /// debug, info, warn or error.
        level: String,
        /// What.
        message: String,
        /// The field's value.
        field: String,
    },
    /// Asks for random bytes.
    Random {
        /// How many.
        bytes: u32,
    },
    /// Reads a value of the store.
    StoreGet {
        /// Its key.
        key: String,
    },
    /// Writes a value of the store.
    StorePut {
        /// Its key.
        key: String,
        /// The value.
        value: String,
    },
    /// Forgets a value of the store.
    StoreDelete {
        /// Its key.
        key: String,
    },
    /// Lists the store.
    StoreKeys {},
    /// Reads a secret.
    Secret {
        /// Its name.
        name: String,
    },
    /// Runs a program.
    Run {
        /// Which, and how.
        command: Run,
    },
    /// Writes lines to the log, as fast as it can.
    LogLines {
        /// How many.
        count: u32,
    },
    /// Writes a line to standard output, which only a target with WASI has.
    Print {
        /// What.
        text: String,
    },
    /// Answers what can be seen of the outside past the contract: environment, arguments, files, sockets.
    LookAround {},
    /// Computes for ever.
    Spin {},
    /// Takes memory until there is none.
    Grow {},
    /// Calls itself without end.
    Recurse {},
    /// Panics.
    Panic {
        /// With this text.
        text: String,
    },
    /// Ends the program.
    Exit {
        /// With this code.
        code: i32,
    },
    /// Talks to a server over TCP.
    Tcp {
        /// How.
        talk: Talk,
    },
    /// Asks something of a volume.
    Volume {
        /// status, promote, demote, attach or detach.
        ask: String,
        /// Which.
        name: String,
    },
    /// Asks something of a mount point, or of what may be mounted.
    Mount {
        /// How.
        ask: Mount,
    },
    /// Asks something of a service.
    Service {
        /// query, start, stop, wait or end-processes.
        ask: String,
        /// Which.
        name: String,
        /// Waited for.
        state: Option<String>,
        /// How long it may take.
        ms: Option<u32>,
    },
    /// Sends a datagram and waits for one.
    Udp {
        /// Where.
        host: String,
        /// The port.
        port: u16,
        /// What is sent.
        send: String,
        /// How long an answer may be.
        max: u32,
        /// How long it is waited for.
        timeout_ms: u32,
    },
}

/// A program and how it is run.
#[derive(Debug, Deserialize, Params)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Run {
    /// Its path.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// As whom.
    pub user: Option<String>,
    /// What it is given to read.
    #[serde(default)]
    pub stdin: String,
    /// When it is ended.
    pub timeout_ms: Option<u32>,
    /// Whether what it leaves behind lives on.
    #[serde(default)]
    pub keep_children: bool,
}

/// Something asked of a mount point, or of what may be mounted.
#[derive(Debug, Deserialize, Params)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mount {
    /// The function's name in the contract.
    pub function: String,
    /// Of this volume.
    pub volume: Option<String>,
    /// Of this device.
    pub device: Option<String>,
    /// Where.
    #[serde(default)]
    pub point: String,
    /// Of what sort.
    #[serde(default)]
    pub file_system: String,
    /// How it is mounted.
    #[serde(default)]
    pub options: Vec<String>,
    /// How long it may take.
    #[serde(default)]
    pub ms: u32,
}

/// A conversation over TCP: connect, secure, write, finish, read to the end.
#[derive(Debug, Deserialize, Params)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Talk {
    /// Where.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name the server has to prove; none: no TLS.
    pub tls_name: Option<String>,
    /// Name of the secret with the authority.
    pub trust: Option<String>,
    /// Name of the secret with the client's certificate.
    pub identity: Option<String>,
    /// What is written.
    #[serde(default)]
    pub write: String,
    /// Whether the end of what is written is told.
    #[serde(default)]
    pub finish: bool,
    /// How long each part may take.
    pub timeout_ms: u32,
}

/// The kit.
#[derive(Debug)]
pub struct Probe;

impl Kit for Probe {
    type Params = Script;

    fn restore(ctx: &Context<Script>) -> Result<Done, Error> {
        Ok(Done { details: details(ctx), ..Done::changed("done") })
    }

    fn remove(ctx: &Context<Script>) -> Result<Done, Error> {
        Ok(Done { details: details(ctx), ..Done::changed("done") })
    }

    fn quick_check(ctx: &Context<Script>) -> Result<Report, Error> {
        Ok(Report { details: details(ctx), ..Report::healthy("done") })
    }

    fn recover(ctx: &Context<Script>, why: &Failure) -> Result<RecoveryResult, Error> {
        let mut details = details(ctx);
        details.push(("why".to_owned(), format!("{} {} {:?}", why.found_by, why.bad_checks, why.details)));
        Ok(RecoveryResult { details, ..RecoveryResult::recovered("done") })
    }
}

impl Readiness for Probe {
    /// A note for a step that went well, something blocking for one that did not.
    fn assess(ctx: &Context<Script>) -> Result<Vec<Finding>, Error> {
        let finding = |(outcome, text): (String, String)| match outcome.as_str() {
            "ok" => Finding::note("ok", text, ""),
            _ => Finding::blocking(outcome, text, "take another step"),
        };
        Ok(details(ctx).into_iter().map(finding).collect())
    }
}

impl DeepCheck for Probe {
    /// Healthy if each step went well.
    fn deep_check(ctx: &Context<Script>) -> Result<Report, Error> {
        let details = details(ctx);
        let well = details.iter().all(|(outcome, _)| outcome == "ok");
        let report = if well { Report::healthy("thorough") } else { Report::failed("step", "thorough") };
        Ok(Report { details, ..report })
    }
}

fn details(ctx: &Context<Script>) -> Vec<(String, String)> {
    ctx.params
        .steps
        .iter()
        .map(|step| match take(ctx, step) {
            Ok(text) => ("ok".to_owned(), text),
            Err(fault) => ("fault".to_owned(), format!("{:?} {}: {}", fault.kind, fault.code, fault.message)),
        })
        .collect()
}

fn take(ctx: &Context<Script>, step: &Step) -> Result<String, Fault> {
    Ok(match step {
        Step::Context {} => format!(
            "{} {} {} attempt {} epoch {} budget {} {:?}",
            ctx.tag, ctx.node, ctx.operation_id, ctx.attempt, ctx.epoch, ctx.budget_ms, ctx.hints
        ),
        Step::Clock {} => {
            let remaining = clock::remaining().as_millis();
            format!("{} {} {remaining}", clock::unix_ms(), clock::monotonic().as_millis())
        }
        Step::Sleep { ms } => {
            clock::sleep(Duration::from_millis(u64::from(*ms)));
            "awake".to_owned()
        }
        Step::Log { level, message, field } => {
            let level = match level.as_str() {
                "debug" => Level::Debug,
                "info" => Level::Info,
                "warn" => Level::Warn,
                _ => Level::Error,
            };
            log::emit(level, message, &vec![("field".to_owned(), field.clone())]);
            "logged".to_owned()
        }
        Step::Random { bytes } => random::bytes(*bytes as usize).len().to_string(),
        Step::StoreGet { key } => match store::get(key)? {
            Some(value) => text(&value),
            None => "(none)".to_owned(),
        },
        Step::StorePut { key, value } => {
            store::put(key, value.as_bytes())?;
            "stored".to_owned()
        }
        Step::StoreDelete { key } => {
            store::delete(key)?;
            "deleted".to_owned()
        }
        Step::StoreKeys {} => store::keys()?.join(" "),
        Step::Secret { name } => text(mainstay_sdk::secret::get(name)?.expose()),
        Step::Run { command } => run(command)?,
        Step::Tcp { talk } => self::talk(talk)?,
        Step::LogLines { count } => {
            (0..*count).for_each(|line| log::emit(Level::Info, &format!("line {line}"), &Vec::new()));
            "logged".to_owned()
        }
        Step::Volume { ask, name } => volume_step(ask, name)?,
        Step::Mount { ask } => mount_step(ask)?,
        Step::Service { ask, name, state, ms } => service_step(ask, name, state.as_deref(), *ms)?,
        Step::Print { text } => {
            println!("{text}");
            "printed".to_owned()
        }
        Step::LookAround {} => look_around(),
        Step::Spin {} => loop {
            black_box(0);
        },
        Step::Grow {} => {
            let mut pieces = Vec::new();
            loop {
                pieces.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        Step::Recurse {} => recurse(0).to_string(),
        Step::Panic { text } => panic!("{text}"),
        Step::Exit { code } => std::process::exit(*code),
        Step::Udp { host, port, send, max, timeout_ms } => {
            let socket = Udp::connect(host, *port)?;
            socket.send(send.as_bytes())?;
            text(&socket.receive(*max, Duration::from_millis(u64::from(*timeout_ms)))?)
        }
    })
}

fn run(run: &Run) -> Result<String, Fault> {
    let mut request = Request::new(&run.program).args(&run.args).stdin(run.stdin.as_bytes());
    request.user.clone_from(&run.user);
    request.timeout_ms = run.timeout_ms;
    request.keep_children = run.keep_children;
    let completed = request.run()?;
    let ending = match completed.ending {
        Ending::Exited(code) => format!("exited {code}"),
        Ending::Signalled(signal) => format!("signalled {signal}"),
        Ending::TimedOut => "timed out".to_owned(),
    };
    Ok(format!(
        "{ending} out={} err={} truncated={}",
        text(&completed.stdout),
        text(&completed.stderr),
        completed.truncated
    ))
}

fn volume_step(ask: &str, name: &str) -> Result<String, Fault> {
    match ask {
        "promote" => volume::promote(name).map(|()| "promoted".to_owned()),
        "demote" => volume::demote(name).map(|()| "demoted".to_owned()),
        "attach" => volume::attach(name),
        "detach" => volume::detach(name).map(|()| "detached".to_owned()),
        _ => volume::status(name).map(|standing| format!("{standing:?}")),
    }
}

fn mount_step(ask: &Mount) -> Result<String, Fault> {
    let source = match (&ask.volume, &ask.device) {
        (Some(name), _) => Source::Volume(name.clone()),
        (None, device) => Source::Device(device.clone().unwrap_or_default()),
    };
    let (point, file_system, time) = (&ask.point, &ask.file_system, Duration::from_millis(ask.ms.into()));
    Ok(match ask.function.as_str() {
        "look" => format!("{:?}", mount::look(point)?),
        "probe" => format!("{:?}", mount::probe(&source)?),
        "make-file-system" => format!("{:?}", mount::make_file_system(&source, file_system)?),
        "check" => format!("{:?}", mount::check(&source, file_system)?),
        "mount" => format!("{:?}", mount::mount(&source, point, file_system, &ask.options)?),
        "unmount" => format!("{:?}", mount::unmount(&source, point)?),
        "users" => format!("{:?}", mount::users(&source, point)?),
        "end-users" => format!("{:?}", mount::end_users(&source, point, time)?),
        "write-marker" => format!("{:?}", mount::write_marker(&source, point, time)?),
        _ => format!("{:?}", mount::missing_programs(file_system)?),
    })
}

fn service_step(ask: &str, name: &str, state: Option<&str>, ms: Option<u32>) -> Result<String, Fault> {
    let time = ms.map(|ms| Duration::from_millis(ms.into()));
    Ok(match ask {
        "start" => service::start(name, time)?.to_string(),
        "stop" => service::stop(name, time)?.to_string(),
        "end-processes" => service::end_processes(name, time)?.to_string(),
        "wait" => {
            let state = match state {
                Some("running") => State::Running,
                Some("failed") => State::Failed,
                Some("start-pending") => State::StartPending,
                Some("stop-pending") => State::StopPending,
                Some("paused") => State::Paused,
                Some(_) | None => State::Stopped,
            };
            format!("{:?}", service::wait(name, state, time)?)
        }
        _ => format!("{:?}", service::query(name)?),
    })
}

fn talk(talk: &Talk) -> Result<String, Fault> {
    let timeout = Duration::from_millis(u64::from(talk.timeout_ms));
    let socket = Tcp::connect(&talk.host, talk.port, timeout)?;
    if let Some(name) = &talk.tls_name {
        let tls = Tls { server_name: name.clone(), trust: talk.trust.clone(), identity: talk.identity.clone() };
        socket.start_tls(&tls, timeout)?;
    }
    socket.write(talk.write.as_bytes(), timeout)?;
    if talk.finish {
        socket.finish()?;
    }
    let mut heard = Vec::new();
    loop {
        let piece = socket.read(4096, timeout)?;
        if piece.is_empty() {
            return Ok(text(&heard));
        }
        heard.extend_from_slice(&piece);
    }
}

fn look_around() -> String {
    let file = std::fs::read_dir("/").err().map(|error| error.kind());
    let socket = std::net::TcpStream::connect("127.0.0.1:1").err().map(|error| error.kind());
    let (variables, arguments) = (std::env::vars().count(), std::env::args().count());
    format!("{variables} variables, {arguments} arguments, files: {file:?}, sockets: {socket:?}")
}

/// The compiler cannot see that it never ends.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let here = black_box([depth; 16]);
    if here[3] == u64::MAX { 0 } else { recurse(depth + 1).wrapping_add(black_box(here)[5]) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

mainstay_sdk::export_kit!(Probe, abilities: [readiness, deep_check], needs: [
    log: "writes what it is told to",
    clock: "reads the clock and sleeps",
    random: "asks for random bytes",
    command: "runs what it is told to",
    net: "connects where it is told to",
    store: "keeps what it is told to",
    secret: "reads what it is told to",
], optional: [
    volume: "asks what it is told to",
    mount: "mounts what it is told to",
    service: "starts and stops what it is told to",
]);
