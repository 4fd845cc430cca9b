//! One node without its daemon: core, runtime and what lies between, driven as `host/node/src/driver.rs` drives them.
//!
//! Its clock is set, not read: it stands at what the core waits for next, so that checks follow each other without a
//! pause. There is no disk: a record counts as durable at once, which no check of a healthy resource has to do with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::node::{Config, Health, Input, Node, Outcome, Output};
use mainstay_core::spec::Spec;
use mainstay_core::state::State;
use mainstay_core::status::What;
use mainstay_core::time::{Monotonic, Now, UnixMs};
use mainstay_node::happening::Happening;
use mainstay_node::kits::{Calls, Loaded, Places};
use mainstay_supervisor::Commands;
use tokio::sync::mpsc;

use crate::trouble::Trouble;

/// What may wait to be told to the core.
const HAPPENINGS_MAX: usize = 64;
/// How long a kit call may take here, in s: that of a program on a busy machine.
const CALL_S_MAX: u64 = 60;
/// Times that come before a check is due, at the most: right after the start others are waited for too.
const TIMERS_MAX: usize = 10;
/// Steps until all is in service, at the most: each is an outcome or a time that came.
const STEPS_MAX: usize = 1_000;

/// See the module.
pub struct WholePath {
    node: Node,
    calls: Calls,
    happenings: mpsc::Receiver<Happening>,
    now: Now,
    in_service: bool,
}

impl WholePath {
    /// The one node `n` of a config, with everything in service.
    ///
    /// # Errors
    /// When the config is wrong, kits do not fit it, or something does not come in service.
    pub async fn new(config: &str, kits: Loaded, folder: &Path, commands: Commands) -> Result<Self, Trouble> {
        let (spec, diagnostics) = Spec::read("bench", config);
        let Some(spec) = spec else { return Err(Trouble::Config(diagnostics.into_sorted())) };
        let hierarchies: Vec<Hierarchy> =
            spec.hierarchies.iter().map(|(name, spec)| Hierarchy::new(name.clone(), spec.clone())).collect();
        let (sender, happenings) = mpsc::channel(HAPPENINGS_MAX);
        let places = Places {
            store: folder.join("store"),
            secrets: None,
            commands,
            volumes: mainstay_node::volumes::Volumes::default(),
        };
        let mut calls = Calls::new(&"n".into(), hierarchies.iter(), &places, sender);
        let unusable = calls.load(&kits);
        if let Some((tag, problem)) = unusable.first_key_value() {
            return Err(Trouble::Unusable(format!("{tag}: {problem}")));
        }
        let core = Config {
            me: "n".into(),
            spec,
            config_hash: String::new(),
            software: "bench".into(),
            boot: "boot".into(),
            damaged: false,
            leftovers: BTreeSet::new(),
            unusable: BTreeMap::new(),
            kits: BTreeMap::new(),
            config_parts: BTreeMap::new(),
            seed: 1,
        };
        let now = Now { monotonic: Monotonic(0), unix: UnixMs(1) };
        let node = Node::new(core, State::default(), now);
        let mut path = Self { node, calls, happenings, now, in_service: false };
        path.bring_in_service().await?;
        Ok(path)
    }

    async fn bring_in_service(&mut self) -> Result<(), Trouble> {
        for _ in 0..STEPS_MAX {
            self.carry_out();
            if self.calls.going_on() > 0 {
                self.hear().await?;
            } else if self.in_service {
                return Ok(());
            } else {
                self.next_due();
            }
        }
        Err(Trouble::Unexpected("bringing all in service", "it never was".into()))
    }

    /// One check, from the moment it is due until everything that follows from its outcome is carried out; the time it
    /// took.
    ///
    /// # Errors
    /// When nothing was checked, or it is not healthy.
    pub async fn check(&mut self) -> Result<Duration, Trouble> {
        let began = Instant::now();
        for _ in 0..TIMERS_MAX {
            self.next_due();
            self.carry_out();
            if self.calls.going_on() > 0 {
                break;
            }
        }
        let healthy = self.hear().await?;
        self.carry_out();
        let took = began.elapsed();
        if !healthy || self.calls.going_on() > 0 {
            return Err(Trouble::Unexpected("a quick-check", "it is not healthy, or was looked at again".into()));
        }
        Ok(took)
    }

    /// Goes to the time at which the core wants to come back.
    fn next_due(&mut self) {
        let (due, _) = self.node.poll_timeout();
        let passed = due.since(self.now.monotonic);
        self.now = Now { monotonic: due, unix: UnixMs(self.now.unix.0 + passed.0) };
        self.node.handle(Input::Tick, self.now);
    }

    /// Waits for the outcome of a call, and tells it; says whether it was a check that found all well.
    async fn hear(&mut self) -> Result<bool, Trouble> {
        let what = || "a kit call to end".to_owned();
        let limit = Duration::from_secs(CALL_S_MAX);
        let heard = if self.calls.going_on() == 0 {
            return Err(Trouble::Unexpected("a check", "none was made when it was due".into()));
        } else if let Ok(happening) = self.happenings.try_recv() {
            Some(happening)
        } else {
            let waited = tokio::time::timeout(limit, self.happenings.recv()).await;
            waited.map_err(|_| Trouble::InVain { what: what(), seconds: CALL_S_MAX })?
        };
        match heard {
            Some(Happening::Outcome(id, outcome)) => {
                let healthy = matches!(&outcome, Outcome::Report(report) if report.health == Health::Healthy);
                let done = matches!(outcome, Outcome::Done { .. });
                if !healthy && !done {
                    return Err(Trouble::Unexpected("a kit call", format!("{outcome:?}")));
                }
                self.calls.ended(id);
                self.node.handle(Input::Outcome(id, outcome), self.now);
                Ok(healthy)
            }
            other => Err(Trouble::Unexpected("a kit call", format!("{other:?}"))),
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::CallKit(_, call) => self.calls.start(call),
                Output::CancelKit(id) => self.calls.cancel(id),
                Output::Report(_, event) => self.in_service |= matches!(event.what, What::InService),
                Output::Persist(..)
                | Output::Heartbeat(_)
                | Output::Send(..)
                | Output::Reply(..)
                | Output::Arbiter(..)
                | Output::Fence(..)
                | Output::Knock(..)
                | Output::Volume(..)
                | Output::Survey(..)
                | Output::Examined(..)
                | Output::Guard(_) => {}
            }
        }
    }
}
