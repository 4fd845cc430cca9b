//! What can only be found out by measuring, when this node is examined: its disk, certificates, kits and grants; names,
//! comm paths and the arbiter as they are reached from here.
//!
//! Changes nothing, and decides nothing but how bad a thing is by itself. Everything is looked at side by side and has one
//! time limit: what is not known by then is a finding like any other. What hangs holds a thread, of which there are few.

mod network;
mod node;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::health::{Finding, Survey};
use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_core::node::{SurveyId, Weight};
use mainstay_core::spec::{FailoverMode, HierarchySpec, Spec};
use mainstay_core::time::Millis;
use tokio::sync::{Semaphore, mpsc};

use crate::certificates::Store;
use crate::happening::Happening;
use crate::host_status::HostView;
use crate::kits::Fit;

/// Threads that look at disks and names, at the most: a disk that hangs holds those that look at it, and other work needs
/// some as well.
const THREADS_MAX: usize = 16;
/// This part of the time is left for the answer to be put together.
const FOR_THE_ANSWER: u32 = 10;

/// Measures when it is asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Surveyor {
    ground: Arc<Ground>,
    happenings: mpsc::Sender<Happening>,
}

/// What there is to be looked at.
#[derive(Debug)]
struct Ground {
    me: NodeName,
    spec: Spec,
    state: PathBuf,
    certificates: Option<Store>,
    host: HostView,
    threads: Arc<Semaphore>,
}

impl Surveyor {
    /// Of this node.
    #[must_use]
    pub fn new(
        spec: &Spec,
        me: &NodeName,
        state: &Path,
        certificates: Option<Store>,
        host: &HostView,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let ground = Ground {
            me: me.clone(),
            spec: spec.clone(),
            state: state.to_owned(),
            certificates,
            host: host.clone(),
            threads: Arc::new(Semaphore::new(THREADS_MAX)),
        };
        Self { ground: Arc::new(ground), happenings }
    }

    /// Measures for that hierarchy, or for all; what is found comes as a happening. `fits`: the resources of this node's
    /// config; `held_back`: those that an older version of a kit serves, and why.
    pub fn start(
        &self,
        id: SurveyId,
        hierarchy: Option<HierarchyName>,
        within: Millis,
        fits: Vec<Fit>,
        held_back: Vec<String>,
    ) {
        let Self { ground, happenings } = self.clone();
        let within = Duration::from_millis(within.0);
        tokio::spawn(async move {
            let scope = Scope { hierarchy, limit: within - within / FOR_THE_ANSWER };
            let findings = ground.survey(scope, fits, held_back).await;
            let survey = Survey {
                contract: mainstay_runtime::contract::VERSION.to_string(),
                system: std::env::consts::OS.to_owned(),
                findings,
            };
            // Without a driver there is nobody to tell: the daemon stops.
            let _ = happenings.send(Happening::Surveyed(id, survey)).await;
        });
    }
}

/// What is looked at, and how long that may take.
#[derive(Clone, Debug)]
struct Scope {
    hierarchy: Option<HierarchyName>,
    limit: Duration,
}

impl Ground {
    async fn survey(self: Arc<Self>, scope: Scope, fits: Vec<Fit>, held_back: Vec<String>) -> Vec<Finding> {
        let found = tokio::join!(
            self.in_time(&scope, "its disk", self.clone().on_thread(Self::disk)),
            self.in_time(&scope, "its certificates", self.clone().on_thread(Self::certificates)),
            self.in_time(&scope, "its resources", self.clone().resources(&scope, fits)),
            self.in_time(&scope, "what fences", self.clone().on_thread(Self::fences)),
            self.in_time(&scope, "names", self.clone().names(&scope)),
            self.in_time(&scope, "the comm paths", self.paths(&scope)),
            self.in_time(&scope, "the arbiter", self.arbiter()),
        );
        let (disk, certificates, resources, fences, names, paths, arbiter) = found;
        let mut findings = self.kit_files(&held_back);
        findings.extend(self.mirrors(&scope));
        for found in [disk, certificates, resources, fences, names, paths, arbiter] {
            findings.extend(found);
        }
        findings
    }

    /// What has not come to an end in time is told as such.
    async fn in_time(
        &self,
        scope: &Scope,
        what: &str,
        measured: impl Future<Output = Option<Vec<Finding>>>,
    ) -> Vec<Finding> {
        let limit = scope.limit.as_secs_f32();
        let why = match tokio::time::timeout(scope.limit, measured).await {
            Ok(Some(found)) => return found,
            // Its thread has panicked, or was not started because the daemon stops.
            Ok(None) => "looking has failed, see the log".to_owned(),
            Err(_) => format!("not within {limit} s"),
        };
        let summary = format!("{what} could not be looked at: {why}");
        let advice = "A disk or a name server may hang, or the machine be too busy: see to that, or give the health check more time (--timeout)";
        vec![self.finding(Weight::Blocking, "not-measured", summary, advice)]
    }

    /// Looks at what may block, on a thread, as soon as there is one.
    async fn on_thread<T: Send + 'static>(
        self: Arc<Self>,
        look: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        // Never closed; given back when the thread has ended, whoever still waits for it.
        let turn = self.threads.clone().acquire_owned().await.ok()?;
        let looked = tokio::task::spawn_blocking(move || {
            let found = look(&self);
            drop(turn);
            found
        });
        looked.await.ok()
    }

    fn finding(&self, weight: Weight, code: &str, summary: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(weight, code, &self.me, summary, advice)
    }

    /// The hierarchies that are looked at and that this node may own, by their place in the config.
    fn hierarchies<'a>(
        &'a self,
        scope: &'a Scope,
    ) -> impl Iterator<Item = (u32, &'a HierarchyName, &'a HierarchySpec)> {
        let numbered = (0..).zip(&self.spec.hierarchies).map(|(number, (name, spec))| (number, name, spec));
        numbered.filter(|(_, name, spec)| {
            spec.nodes.contains(&self.me) && scope.hierarchy.as_ref().is_none_or(|only| only == *name)
        })
    }

    /// The other nodes that matter to what is looked at.
    fn peers(&self, scope: &Scope) -> Vec<&NodeName> {
        let only = scope.hierarchy.as_ref().and_then(|name| self.spec.hierarchies.get(name));
        let among = |node: &&NodeName| only.is_none_or(|only| only.nodes.contains(*node));
        self.spec.nodes.keys().filter(|node| **node != self.me).filter(among).collect()
    }

    /// Whether the arbiter decides anything on this node.
    fn is_arbitrated(&self) -> bool {
        let by_arbiter = |hierarchy: &HierarchySpec| {
            hierarchy.failover == FailoverMode::Arbiter && hierarchy.nodes.contains(&self.me)
        };
        self.spec.hierarchies.values().any(by_arbiter)
    }
}
