//! A kit that misbehaves as its params say, whichever operation is called.
//!
//! It decides nothing about a resource. Where a misbehaviour is refused politely (a fault of a capability) it
//! answers with that fault; where it is let through it says what it got. What ends the call from outside
//! (a trap, a limit, a deadline) leaves no answer, and the test looks at what the host says.

mod compute;
mod outside;
mod reach;
mod say;

use mainstay_sdk::prelude::*;
use serde::Deserialize;

/// What it does.
#[derive(Deserialize, Params)]
#[serde(tag = "does", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Misbehaviour {
    /// Nothing wrong: answers at once.
    Nothing {},
    /// Computes for ever.
    Spin {},
    /// Makes the smallest host call there is, for ever.
    TinyCalls {},
    /// Asks for random bytes for ever, as many at once as are allowed.
    RandomForever {},
    /// Overwrites a value in its store for ever.
    StoreForever {},
    /// Writes log lines for ever.
    LogForever {},
    /// Calls itself without end.
    Recurse {},
    /// Calls itself without end, with much in its own memory each time.
    RecurseInMemory {},
    /// Panics, with a text this long.
    Panic {
        /// Bytes of text.
        text_bytes: u32,
    },
    /// Aborts without a word.
    Abort {},
    /// Reads memory that it does not have.
    WildRead {},

    /// Takes memory piece by piece until it gets none, and does not look whether it got it.
    Grow {},
    /// Takes this much memory at once.
    GrowAtOnce {
        /// How much.
        bytes: u32,
    },
    /// Takes memory until it is refused, gives it back, and answers how much it was.
    GrowPolitely {},

    /// Answers with texts this long.
    Say {
        /// Of the summary.
        summary_bytes: u32,
        /// How many details.
        details: u32,
        /// Of each detail's value.
        detail_bytes: u32,
    },
    /// Answers with an error, with texts this long.
    Fail {
        /// Of the message.
        message_bytes: u32,
        /// Of the code.
        code_bytes: u32,
        /// How many details.
        details: u32,
    },
    /// Answers with bytes that are no text.
    SayNoText {},
    /// Answers with a text that lies outside its memory.
    SayFromNowhere {},
    /// Answers with line breaks, escape sequences and other control characters.
    SayControl {},
    /// Logs one line this long, with a field this long.
    LogLine {
        /// Of the message, and of the field.
        bytes: u32,
    },
    /// Logs this many lines, then answers.
    LogLines {
        /// How many.
        count: u32,
    },
    /// Logs bytes that are no text.
    LogNoText {},

    /// Logs line breaks and escape sequences, as if there were further lines.
    LogControl {},

    /// Sleeps once.
    Sleep {
        /// How long, in ms.
        ms: u32,
    },
    /// Sleeps a moment, for ever.
    SleepForever {},

    /// Runs a program and answers what came of it.
    Run {
        /// Its path.
        program: String,
        /// Its arguments.
        #[serde(default)]
        args: Vec<String>,
        /// As whom.
        #[serde(default)]
        user: Option<String>,
        /// How much it is given to read.
        #[serde(default)]
        stdin_bytes: u32,
        /// How much of its output is wanted.
        #[serde(default = "output_bytes_default")]
        output_bytes_max: u32,
        /// Its deadline; none leaves it to the host.
        #[serde(default)]
        timeout_ms: Option<u32>,
    },
    /// Runs a program again and again, for ever.
    RunForever {
        /// Its path.
        program: String,
    },

    /// Opens a TCP connection.
    Connect {
        /// Where.
        host: String,
        /// The port.
        port: u16,
    },
    /// Opens TCP connections for ever.
    ConnectForever {
        /// Where.
        host: String,
        /// The port.
        port: u16,
    },
    /// Sends a datagram.
    Datagram {
        /// Where.
        host: String,
        /// The port.
        port: u16,
    },
    /// Connects, and waits as long as it can for an answer that does not come.
    Listen {
        /// Where.
        host: String,
        /// The port.
        port: u16,
    },
    /// Connects, and asks for as much at once as it can.
    ReadMuch {
        /// Where.
        host: String,
        /// The port.
        port: u16,
    },
    /// Connects, and writes this much at once.
    WriteMuch {
        /// Where.
        host: String,
        /// The port.
        port: u16,
        /// How much.
        bytes: u32,
    },
    /// Opens datagram sockets and never closes one; answers how many it got.
    HoldSockets {
        /// Where.
        host: String,
        /// The port.
        port: u16,
        /// How many it tries.
        count: u32,
    },

    /// Uses these as keys of its store, one after the other, each by every function.
    StoreKeys {
        /// The keys.
        keys: Vec<String>,
    },
    /// Stores values until it is refused, then answers how many there are.
    StoreMuch {
        /// The size of each.
        bytes: u32,
        /// How many it tries.
        count: u32,
    },
    /// Reads a secret and answers how long it is.
    Secret {
        /// Its name.
        name: String,
    },
    /// Asks how a volume is.
    Volume {
        /// Its name.
        name: String,
    },
    /// Mounts a device.
    Mount {
        /// Its path.
        device: String,
        /// Where.
        point: String,
    },
    /// Looks at a mount point.
    MountLook {
        /// Where.
        point: String,
    },
    /// Asks how a service is.
    Service {
        /// Its name.
        name: String,
    },
    /// Stops a service.
    ServiceStop {
        /// Its name.
        name: String,
    },
    /// Asks for this many random bytes at once.
    Random {
        /// How many.
        bytes: u32,
    },

    /// Past the contract, through what its target offers: reads a file.
    ReadFile {
        /// Which.
        path: String,
    },
    /// Past the contract: answers its environment and its arguments.
    Environment {},
    /// Past the contract: opens a TCP connection.
    StdConnect {
        /// Where, as host:port.
        address: String,
    },
    /// Past the contract: writes to its standard output for ever.
    PrintForever {},
    /// Past the contract: writes these lines to its standard output and error.
    Print {
        /// How many.
        lines: u32,
    },
    /// Past the contract: ends its process.
    Exit {
        /// With this.
        code: i32,
    },
}

fn output_bytes_default() -> u32 {
    command::OUTPUT_BYTES_DEFAULT
}

/// What an operation answers.
#[derive(Default)]
struct Answer {
    summary: String,
    details: Vec<(String, String)>,
}

impl Answer {
    fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), details: Vec::new() }
    }
}

struct Hostile;

impl Kit for Hostile {
    type Params = Misbehaviour;

    fn restore(ctx: &Context<Misbehaviour>) -> Result<Done, Error> {
        let Answer { summary, details } = act(&ctx.params)?;
        Ok(Done { changed: true, summary, details })
    }

    fn remove(ctx: &Context<Misbehaviour>) -> Result<Done, Error> {
        let Answer { summary, details } = act(&ctx.params)?;
        Ok(Done { changed: true, summary, details })
    }

    fn quick_check(ctx: &Context<Misbehaviour>) -> Result<Report, Error> {
        let Answer { summary, details } = act(&ctx.params)?;
        Ok(Report { health: Health::Healthy, code: "hostile".to_owned(), summary, details })
    }

    fn recover(ctx: &Context<Misbehaviour>, _: &Failure) -> Result<RecoveryResult, Error> {
        let Answer { summary, details } = act(&ctx.params)?;
        Ok(RecoveryResult { verdict: Verdict::Recovered, summary, details })
    }
}

fn act(misbehaviour: &Misbehaviour) -> Result<Answer, Error> {
    use Misbehaviour as M;
    match misbehaviour {
        M::Nothing {} => Ok(Answer::new("behaved")),
        M::Spin {} => compute::spin(),
        M::TinyCalls {} => compute::tiny_calls(),
        M::RandomForever {} => compute::random_forever(),
        M::StoreForever {} => reach::store_forever(),
        M::LogForever {} => say::log_forever(),
        M::Recurse {} => Ok(compute::recurse()),
        M::RecurseInMemory {} => Ok(compute::recurse_in_memory()),
        M::Panic { text_bytes } => panic!("{}", say::text(*text_bytes)),
        M::Abort {} => std::process::abort(),
        M::WildRead {} => Ok(compute::wild_read()),
        M::Grow {} => compute::grow(),
        M::GrowAtOnce { bytes } => Ok(compute::grow_at_once(*bytes)),
        M::GrowPolitely {} => Ok(compute::grow_politely()),
        M::Say { summary_bytes, details, detail_bytes } => Ok(say::answer(*summary_bytes, *details, *detail_bytes)),
        M::Fail { message_bytes, code_bytes, details } => Err(say::error(*message_bytes, *code_bytes, *details)),
        M::SayNoText {} => Ok(Answer::new(say::no_text())),
        M::SayFromNowhere {} => Ok(Answer::new(say::from_nowhere())),
        M::SayControl {} => Ok(Answer::new("one\ntwo\r\u{1b}[31mred\u{1b}[0m\0\u{7}\u{202e}end")),
        M::LogLine { bytes } => Ok(say::log_line(*bytes)),
        M::LogLines { count } => Ok(say::log_lines(*count)),
        M::LogNoText {} => Ok(say::log_no_text()),
        M::LogControl {} => Ok(say::log_control()),
        M::Sleep { ms } => Ok(compute::sleep(*ms)),
        M::SleepForever {} => compute::sleep_forever(),
        M::Run { program, args, user, stdin_bytes, output_bytes_max, timeout_ms } => {
            let mut request = command::Request::new(program).args(args.iter().cloned());
            request.user.clone_from(user);
            request.stdin = vec![b'x'; *stdin_bytes as usize];
            request.output_bytes_max = *output_bytes_max;
            request.timeout_ms = *timeout_ms;
            reach::run(&request)
        }
        M::RunForever { program } => reach::run_forever(program),
        M::Connect { host, port } => reach::connect(host, *port),
        M::ConnectForever { host, port } => reach::connect_forever(host, *port),
        M::Datagram { host, port } => reach::datagram(host, *port),
        M::Listen { host, port } => reach::listen(host, *port),
        M::ReadMuch { host, port } => reach::read_much(host, *port),
        M::WriteMuch { host, port, bytes } => reach::write_much(host, *port, *bytes),
        M::HoldSockets { host, port, count } => Ok(reach::hold_sockets(host, *port, *count)),
        M::StoreKeys { keys } => Ok(reach::store_keys(keys)),
        M::StoreMuch { bytes, count } => reach::store_much(*bytes, *count),
        M::Secret { name } => Ok(Answer::new(format!("{} bytes", secret::get(name)?.expose().len()))),
        M::Volume { name } => Ok(Answer::new(volume::status(name)?.summary)),
        M::Mount { device, point } => {
            let source = mount::Source::Device(device.clone());
            Ok(Answer::new(mount::mount(&source, point, "ext4", &[])?.to_string()))
        }
        M::MountLook { point } => Ok(Answer::new(format!("a folder: {}", mount::look(point)?.folder))),
        M::Service { name } => Ok(Answer::new(service::query(name)?.summary)),
        M::ServiceStop { name } => Ok(Answer::new(service::stop(name, None)?.to_string())),
        M::ReadFile { path } => outside::read_file(path),
        M::Environment {} => Ok(outside::environment()),
        M::StdConnect { address } => outside::connect(address),
        M::PrintForever {} => outside::print_forever(),
        M::Print { lines } => Ok(outside::print(*lines)),
        M::Exit { code } => std::process::exit(*code),
        M::Random { bytes } => Ok(Answer::new(format!("{} bytes", reach::random(*bytes).len()))),
    }
}

mainstay_sdk::export_kit!(Hostile, name: "hostile", needs: [
    log: "to flood it",
    clock: "to sleep through its budget",
    random: "to ask for too much of it",
    command: "to run what never ends",
    net: "to connect where it should not",
    store: "to leave its folder",
    secret: "to read those of others",
    volume: "to use those of others",
    mount: "to mount what it should not",
    service: "to stop those of others",
]);
