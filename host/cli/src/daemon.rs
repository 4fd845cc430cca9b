//! `mainstay run`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use mainstay_node::NoSuchNode;
use mainstay_node::config::ConfigError;
use mainstay_node::guardian::GuardianExe;
use mainstay_node::volumes::VolumeExe;
use mainstay_supervisor::SupervisorExe;
use tracing_subscriber::EnvFilter;

use crate::args::Run;
use crate::config;
use crate::log::Log;

pub(crate) async fn run(run: Run, state: PathBuf) -> anyhow::Result<i32> {
    let filter = match EnvFilter::try_new(&run.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("mainstay: --log {}: {error}", run.log);
            return Ok(2);
        }
    };
    let log = Log::to(std::io::stderr()).context("the thread that writes the log cannot be started")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(log.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let (file, node) = (run.config.clone(), run.node.clone());
    let options = mainstay_node::Options {
        config: run.config,
        node: run.node,
        state,
        supervisor: SupervisorExe::own(),
        guardian: GuardianExe::own(),
        volume: VolumeExe::own(),
    };
    let ended = mainstay_node::run(options).await;
    log.finish();
    match ended {
        Ok(()) => Ok(0),
        Err(error) if error.is::<ConfigError>() => {
            // The text is wrong; what else is, is told along with it.
            match config::everything_wrong(&file, node.as_deref()).await {
                Ok((diagnostics, refused)) => {
                    diagnostics.iter().for_each(|diagnostic| eprintln!("{diagnostic}"));
                    refused.iter().for_each(|refused| eprintln!("error: {refused}"));
                }
                Err(more) => eprintln!("{more:#}"),
            }
            Ok(2)
        }
        // Starting it again with the same arguments does not help either.
        Err(error) if error.is::<NoSuchNode>() => {
            eprintln!("mainstay: {error}");
            Ok(2)
        }
        Err(error) => Err(error),
    }
}
