//! The `mainstay` binary: the daemon, what operators ask of it, and kits by hand.
//!
//! Thin: every command turns its arguments into a question or a request, and the answer into text and an exit code: 0
//! done, 1 refused or failed, 2 used wrongly; and 3 of a health check that found nothing worse than warnings.

mod args;
mod certificates;
mod client;
mod config;
mod daemon;
mod events;
mod health;
mod kit;
mod log;
mod operate;
mod params;
mod plan;
mod say;
mod status;
mod tree;
mod volume;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, ClusterCommand, Command, ConfigCommand, NodeCommand};

/// After so many polls of tasks, timers and sockets are looked at. A kit may compute for 10 ms in one poll, so that with
/// tokio's own 61 a few of them could make everybody else's timers half a second late.
const EVENT_INTERVAL: u32 = 5;

fn main() -> ExitCode {
    // Before anything else: a supervisor is started for every command of a kit and has no time for the rest.
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(first), Some(folder), None) = (arguments.next(), arguments.next(), arguments.next()) {
        if first == OsStr::new("supervise") {
            return mainstay_supervisor::supervise(Path::new(&folder));
        }
        // It outlives the daemon, and is not to hold more memory than it needs.
        if first == OsStr::new("guardian") {
            return mainstay_node::guardian::guard(Path::new(&folder));
        }
    }
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).take(4).collect();
    if let [volume, serve, config] = arguments.as_slice()
        && volume == OsStr::new("volume")
        && serve == OsStr::new("serve")
    {
        return volume::serve(Path::new(config));
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().event_interval(EVENT_INTERVAL).enable_all().build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mainstay: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) if say::is_nobody_reads(&error) => say::NOBODY_READS,
        Err(error) => {
            eprintln!("mainstay: {error:#}");
            1
        }
    };
    // Not by returning: dropping the runtime would drop kit calls, and with them end what they have started.
    std::process::exit(code);
}

async fn run(cli: Cli) -> anyhow::Result<i32> {
    match cli.command {
        Command::Run(run) => daemon::run(run, cli.state).await,
        Command::Status(asked) => status::status(&cli.state, &asked).await,
        Command::Health(asked) => health::health(&cli.state, &asked).await,
        Command::InService(asked) => operate::in_service(&cli.state, asked).await,
        Command::OutOfService(asked) => operate::out_of_service(&cli.state, asked).await,
        Command::Switchover(asked) => operate::switchover(&cli.state, asked).await,
        Command::Confirm(asked) => operate::confirm(&cli.state, asked).await,
        Command::Maintenance(asked) => operate::maintenance(&cli.state, asked).await,
        Command::Drain(asked) => operate::drain(&cli.state, asked).await,
        Command::Events(asked) => events::events(&cli.state, &asked).await,
        Command::Explain(asked) => status::explain(&cli.state, &asked).await,
        Command::Plan(asked) => plan::plan(&cli.state, asked).await,
        Command::Config(ConfigCommand::Check(asked)) => config::check(&asked).await,
        Command::Cluster(ClusterCommand::Init(asked)) => certificates::cluster_init(&asked),
        Command::Node(NodeCommand::Add(asked)) => certificates::node_add(&asked),
        Command::Volume(command) => volume::run(&cli.state, command).await,
        Command::Kit(command) => kit::kit(&cli.state, command).await,
    }
}
