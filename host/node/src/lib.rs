//! The daemon: gathers what happens, drives the core, carries out what it says.
//!
//! The one place where the host's rooms meet. It decides nothing itself: [`driver`] tells the core what happens and does
//! what it is told; [`links`] carries heartbeats and messages, [`journal`] makes records durable, [`kits`] calls kits,
//! [`api`] lets people look and ask.

pub mod api;
pub mod arbiter;
pub mod certificates;
pub mod clock;
pub mod config;
pub mod driver;
pub mod events;
pub mod fence;
#[doc(hidden)]
pub mod fuzz;
pub mod guardian;
pub mod happening;
pub mod host_status;
pub mod journal;
pub mod kits;
mod leftovers;
pub mod links;
pub mod measures;
mod room;
pub mod state_dir;
pub mod survey;
pub mod volumes;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use mainstay_core::names::NodeName;
use mainstay_core::node::{Config as CoreConfig, Input, Node};
use mainstay_core::spec::FailoverMode;
use mainstay_runtime::{KitChange, KitDirectory, Limits, Runtime, RuntimeConfig};
use mainstay_supervisor::{Commands, SupervisorExe};
use tokio::sync::mpsc;

use api::Api;
use arbiter::Arbiter;
use certificates::Store;
use clock::Clock;
use config::Config;
use driver::Driver;
use events::Events;
use fence::Fences;
use guardian::{Guardian, GuardianExe};
use happening::{HAPPENINGS_MAX, Happening};
use host_status::HostView;
use journal::{Journal, JournalFile};
use kits::{Calls, Places};
use links::Links;
use links::knock::Knocker;
use measures::Measures;
use state_dir::{NodeFile, StateDir};
use survey::Surveyor;
use volumes::{VolumeExe, Volumes};

/// Of mainstay: nodes show each other's.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a daemon is told on its command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// The config file.
    pub config: PathBuf,
    /// Which of its nodes this is; none: the one with the machine's name.
    pub node: Option<String>,
    /// The state directory.
    pub state: PathBuf,
    /// What is executed to supervise commands.
    pub supervisor: SupervisorExe,
    /// What is executed to fence this node in time.
    pub guardian: GuardianExe,
    /// What is executed to serve a volume.
    pub volume: VolumeExe,
}

/// Runs the daemon until it is told to stop by SIGTERM or SIGINT. To be called on a tokio runtime, which is not to be
/// dropped afterwards: dropping a kit call ends what it started, and a daemon that stops leaves everything running.
///
/// # Errors
/// When it cannot start, or cannot go on. Resources stay in service.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let clock = Clock::start().context("there is no clock that goes on while the machine is suspended")?;
    let config = Config::read(&options.config)?;
    if let Err(error) = mainstay_supervisor::raise_descriptor_limit() {
        tracing::warn!(
            "the limit of open files stays as it is: {error}; with hundreds of commands at once there may be too few"
        );
    }
    let me = which_node(&config, options.node.as_deref())?;
    let state_dir = StateDir::open(&options.state)?;
    let opened = JournalFile::open(state_dir.path())?;
    if let Some(damage) = &opened.damage {
        tracing::error!("the journal is damaged: {damage}");
    }
    if opened.unacknowledged_bytes > 0 {
        tracing::info!(
            "{} bytes at the end of the journal were never acknowledged, and are dropped",
            opened.unacknowledged_bytes
        );
    }
    let commands = Commands::open(&state_dir.path().join("commands"), options.supervisor)?;
    let (busy, left) = leftovers::find(&commands).await?;

    let runtime =
        Runtime::new(RuntimeConfig { cache_dir: state_dir.path().join("compiled"), limits: Limits::default() })?;
    let kits = KitDirectory::open(runtime, config.kits())
        .await
        .with_context(|| format!("the kits (`kits` in {})", options.config.display()))?;
    let (happenings, queue) = mpsc::channel(HAPPENINGS_MAX);
    let host = HostView::default();
    host.show_kits(&kits, None);

    let certificates = config
        .certificates()
        .filter(|_| config.spec.nodes.len() > 1)
        .map(|dir| Store::new(dir.to_owned(), config.spec.cluster.clone(), me.clone()));
    if let Some(certificates) = &certificates {
        tokio::spawn(certificates.clone().watch(host.clone()));
    }
    let volumes = Volumes::start(
        &config.spec,
        &me,
        state_dir.path(),
        &options.volume,
        certificates.as_ref(),
        clock,
        &happenings,
    )?;
    let surveyor = Surveyor::new(&config.spec, &me, &options.state, certificates.clone(), &host, happenings.clone());
    let links = Links::open(&config.spec, &me, certificates, happenings.clone()).await?;
    let listening = links.listening().iter().map(|(path, at)| (path.to_string(), at.to_string())).collect();
    host.change(|status| status.listening.clone_from(&listening));
    let node_file =
        NodeFile { node: me.to_string(), cluster: config.spec.cluster.clone(), pid: std::process::id(), listening };
    state_dir.describe(&node_file).context("node.json in the state directory cannot be written")?;

    let places = Places {
        store: state_dir.path().join("store"),
        secrets: config.secrets().map(ToOwned::to_owned),
        commands,
        volumes: volumes.clone(),
    };
    let boot = state_dir::boot().context("whether the machine was off cannot be found out")?;
    let spec = config.spec.clone();
    let core = |unusable, kits| CoreConfig {
        me: me.clone(),
        spec: spec.clone(),
        config_hash: config.hash.clone(),
        config_parts: config.parts.clone(),
        software: VERSION.into(),
        boot: boot.clone(),
        damaged: opened.damage.is_some(),
        leftovers: busy.clone(),
        unusable,
        kits,
        seed: seed(&me),
    };
    let hierarchies: Vec<_> = spec
        .hierarchies
        .iter()
        .map(|(name, spec)| mainstay_core::hierarchy::Hierarchy::new(name.clone(), spec.clone()))
        .collect();
    let decided_by_arbiter = spec
        .hierarchies
        .values()
        .any(|hierarchy| hierarchy.failover == FailoverMode::Arbiter && hierarchy.nodes.contains(&me));
    let fences = Fences::new(&spec, places.commands.clone(), happenings.clone());
    let knocker = Knocker::new(&spec, happenings.clone());
    let mut calls = Calls::new(&me, hierarchies.iter(), &places, happenings.clone());
    let unusable = calls.load(&kits.kits());
    let mut node = Node::new(core(unusable, calls.versions()), opened.state, clock.now());
    node.handle(Input::Abilities(calls.abilities()), clock.now());

    let config_text = config.text.clone();
    for diagnostic in config.check(std::slice::from_ref(&me), &kits.kits()) {
        match diagnostic.severity {
            mainstay_core::diagnostic::Severity::Error => tracing::error!("{diagnostic}"),
            mainstay_core::diagnostic::Severity::Warning => tracing::warn!("{diagnostic}"),
        }
    }
    let events = Events::new(node.state().incarnation, started);
    let measures = Measures::default();
    // Before the first question to the arbiter: what follows from its answers is guarded.
    let guardian = match &spec.self_fence {
        Some(by) if decided_by_arbiter => {
            Some(Guardian::start(options.guardian, state_dir.path(), by, &me, &spec.cluster, happenings.clone()))
        }
        _ => None,
    };
    let arbiter = match &spec.arbiter {
        Some(arbiter) if decided_by_arbiter => Some(Arbiter::start(arbiter, &spec.cluster, &me, happenings.clone())?),
        _ => None,
    };
    let (told, journal_told) = mpsc::unbounded_channel();
    let journal = Journal::start(opened.file, told).context("the journal's thread cannot be started")?;
    let api = Api {
        happenings: happenings.clone(),
        events: events.clone(),
        measures: measures.clone(),
        dropped: links.dropped().clone(),
        host: host.clone(),
        volumes: volumes.clone(),
    };
    let socket = StateDir::socket(state_dir.path());
    api::serve(&socket, api).with_context(|| format!("the local API at {}", socket.display()))?;
    leftovers::see_to(left, &happenings);
    tokio::spawn(follow_kits(kits, host, happenings.clone()));
    tokio::spawn(room::watch(state_dir.path().to_owned(), happenings.clone()));
    tokio::spawn(stop_on_signal(happenings));
    tracing::info!("node {me} of the cluster {}: state in {}", node_file.cluster, state_dir.path().display());
    let driver = Driver {
        config_text: config_text.into(),
        node,
        journal,
        told: journal_told,
        links,
        calls,
        arbiter,
        guardian,
        fences,
        knocker,
        surveyor,
        volumes,
        events,
        measures,
        clock,
        happenings: queue,
    };
    driver.run().await
}

/// The config has no such node. Starting again does not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoSuchNode(String);

fn which_node(config: &Config, given: Option<&str>) -> anyhow::Result<NodeName> {
    let nodes = || config.spec.nodes.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let name = match given {
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname()
            .context("the machine's name cannot be found out: say --node NAME")?
            .to_string_lossy()
            .into_owned(),
    };
    let found = config.spec.nodes.keys().find(|node| node.as_str() == name).cloned();
    found.ok_or_else(|| {
        let what = match given {
            Some(name) => format!("the config has no node `{name}`; its nodes are {}", nodes()),
            None => format!(
                "the config has no node with this machine's name, `{name}`; its nodes are {}: say --node NAME",
                nodes()
            ),
        };
        NoSuchNode(what).into()
    })
}

/// Spreads first checks; the same for the same node, so that runs can be compared.
fn seed(me: &NodeName) -> u64 {
    u64::from(crc32fast::hash(me.as_str().as_bytes()))
}

/// Tells the core and whoever looks when kits come, change and go.
async fn follow_kits(mut kits: KitDirectory, host: HostView, happenings: mpsc::Sender<Happening>) {
    let mut trouble = None;
    loop {
        for change in kits.changed().await {
            match change {
                KitChange::Added(kit) => tracing::info!("kit {} {} is loaded", kit.name(), kit.version()),
                KitChange::Replaced { old, new } => {
                    tracing::info!("kit {} {} takes the place of {}", new.name(), new.version(), old.version());
                }
                KitChange::Removed(kit) => {
                    tracing::warn!("the file of kit {} {} is gone: it is not used any more", kit.name(), kit.version());
                }
                KitChange::Refused(refused) => {
                    let serving = refused
                        .serving
                        .as_ref()
                        .map_or(String::new(), |kit| format!("; {} {} goes on serving", kit.name(), kit.version()));
                    tracing::error!("{}{serving}", refused.error);
                }
                KitChange::Withdrawn { file } => tracing::info!("{}, which was no kit, is gone", file.display()),
                KitChange::Unreadable { dir, problem } => {
                    let what =
                        format!("the kit directory {} cannot be read: {problem}; what is loaded stays", dir.display());
                    tracing::error!("{what}");
                    trouble = Some(what);
                }
                KitChange::Readable { dir } => {
                    tracing::info!("the kit directory {} can be read again", dir.display());
                    trouble = None;
                }
            }
        }
        host.show_kits(&kits, trouble.clone());
        if happenings.send(Happening::Kits(kits.kits())).await.is_err() {
            return;
        }
    }
}

async fn stop_on_signal(happenings: mpsc::Sender<Happening>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!(
            "SIGTERM and SIGINT cannot be listened for: they end the daemon at once, resources stay in service"
        );
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; resources stay in service");
    // Without a driver it stops already.
    let _ = happenings.send(Happening::Stop).await;
}
