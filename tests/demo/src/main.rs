//! The demo: two real nodes on this machine, a small real application kept in service by the GenApp kit, its name by the
//! DNS kit in a real name server, and a client that asks all the while.
//!
//! It drives the `mainstay` binary from outside, as an operator does, and judges by what the client gets. It needs no
//! root and no packages, leaves nothing running, and touches nothing outside its own folder for temporary files.

mod client;
mod config;
mod events;
mod http;
mod lookup;
mod name_server;
mod node;
mod operator;
mod play;
mod programs;
mod report;
mod shop;
mod stage;
mod stop;
mod story;
mod timeline;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use shop::ShopCommand;
use stage::{Stage, Tools};
use timeline::Timeline;
use trouble::Trouble;

/// Two real nodes on this machine: in service, local recovery, failover, power cord, failback.
#[derive(Debug, Parser)]
#[command(name = "mainstay-demo", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Its files are in TMPDIR, or else in /tmp, from where it must be possible to execute programs.")]
struct Cli {
    #[command(flatten)]
    demo: DemoArgs,
    #[command(subcommand)]
    command: Option<DemoCommand>,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// Leave everything running afterwards, to play with, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Write the figures to a file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The mainstay binary [default: the one beside this program].
    #[arg(long, value_name = "FILE")]
    mainstay: Option<PathBuf>,
    /// The directory of kits [default: `kits` above this program's folder, where `just kits` puts them].
    #[arg(long, value_name = "DIR")]
    kits: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum DemoCommand {
    /// The application that the demo protects.
    #[command(subcommand)]
    Shop(ShopCommand),
    /// Ask once, as the demo's client does all the while.
    Ask(client::Once),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(DemoCommand::Shop(command)) => shop::run(&command),
        Some(DemoCommand::Ask(once)) => once.ask(),
        None => match demo(&cli.demo) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Trouble::Stopped(signal)) => {
                eprintln!("\nThe demo was stopped by signal {signal}. Nothing is left running.");
                ExitCode::from(u8::try_from(stop::exit_code(signal)).unwrap_or(u8::MAX))
            }
            Err(trouble) => {
                eprintln!("\nThe demo failed. {trouble}\nNothing is left running.");
                ExitCode::FAILURE
            }
        },
    }
}

/// Everything that was started is ended when this returns, or panics.
fn demo(args: &DemoArgs) -> Result<(), Trouble> {
    let tools = tools(args)?;
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Trouble::system("start a thread for the name server"))?;
    tokio.block_on(async { stop::listen() }).map_err(Trouble::system("listen for signals"))?;
    let (timeline, _printer) = Timeline::start();
    let mut stage = Stage::set(&tools, timeline.clone(), &tokio)?;
    timeline.text(&opening(&stage));
    match story::play(&mut stage) {
        Ok(figures) => {
            timeline.heading("Summary");
            timeline.text(&report::summary(&figures));
            if let Some(path) = &args.json {
                report::write_json(path, &figures)?;
            }
            if args.keep {
                play::play(&mut stage, &tools.demo)?;
            }
            drop(stage);
            timeline.text("\nNothing is left running.\n");
            Ok(())
        }
        Err(trouble @ Trouble::Stopped(_)) => Err(trouble),
        Err(trouble) => {
            timeline.text("");
            eprintln!("\n{}", report::state_of_affairs(&stage));
            for path in report::keep_logs(&stage)? {
                eprintln!("kept for you: {}", path.display());
            }
            Err(trouble)
        }
    }
}

fn opening(stage: &Stage) -> String {
    let name = stage.target().name.to_utf8();
    format!(
        "
Two nodes, ex01 and ex02, on this machine, each with a daemon, a state directory and a small web
shop. The GenApp kit keeps the shop in service on one of them; the DNS kit keeps its name pointing
there, {name}, in a name server that runs here too. A client looks the name up and
fetches the page all the while, and {count} things happen. It takes about twenty seconds.

Everything is in {folder}; to play with it afterwards: just demo --keep
",
        name = name.trim_end_matches('.'),
        count = story::STEPS_COUNT,
        folder = stage.folder().display(),
    )
}

fn tools(args: &DemoArgs) -> Result<Tools, Trouble> {
    let demo = std::env::current_exe().map_err(Trouble::system("find out where this program is"))?;
    let beside = demo.parent().unwrap_or(Path::new("/"));
    let mainstay = match &args.mainstay {
        Some(path) => absolute(path)?,
        None => beside.join("mainstay"),
    };
    if !mainstay.is_file() {
        let hint = "build it (cargo build -p mainstay-cli), or say where it is (--mainstay)";
        return Err(Trouble::Missing { what: "the mainstay binary", path: mainstay, hint });
    }
    let kits = match &args.kits {
        Some(path) => absolute(path)?,
        None => beside.parent().unwrap_or(Path::new("/")).join("kits"),
    };
    if !kits.is_dir() {
        let hint = "build them (just kits), or say where they are (--kits)";
        return Err(Trouble::Missing { what: "the directory of kits", path: kits, hint });
    }
    Ok(Tools { mainstay, kits, demo })
}

fn absolute(path: &Path) -> Result<PathBuf, Trouble> {
    std::path::absolute(path).map_err(Trouble::file("find", path))
}
