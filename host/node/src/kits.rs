//! Kits and the resources that use them: what is loaded, what is wrong with it for which resource, and calling it.
//!
//! Nothing here knows what a kit does. A resource whose kit is not there, or does not take its params, or lacks a grant,
//! is unusable: the core is told, and nothing is brought in service that could not be. A new version that a resource
//! does not fit leaves the one that serves it serving.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::hierarchy::{Hierarchy, ResourceIndex};
use mainstay_core::names::{KitName, NodeName, Tag};
use mainstay_core::node::{
    Abilities, Call, CallId, CheckReport, FaultKind, Finding, Health, HierarchyIndex, Operation, Outcome, RetryWhere,
    Verdict, Weight,
};
use mainstay_core::spec::{Grants, ResourceSpec};
use mainstay_core::time::Millis;
use mainstay_runtime::{self as runtime, Kit, ResourceServices};
use mainstay_supervisor::Commands;
use tokio::sync::{mpsc, oneshot};

use crate::happening::Happening;

/// A resource as calls need it.
#[derive(Debug)]
struct Resource {
    tag: Arc<str>,
    kit: String,
    params: Arc<str>,
    value: serde_json::Value,
    services: Arc<ResourceServices>,
}

/// Where things are that calls need.
#[derive(Clone, Debug)]
pub struct Places {
    /// One folder for each resource's small values.
    pub store: PathBuf,
    /// The secrets.
    pub secrets: Option<PathBuf>,
    /// The commands.
    pub commands: Commands,
    /// The volumes of this node.
    pub volumes: crate::volumes::Volumes,
}

/// The kits that are loaded, by name.
pub type Loaded = BTreeMap<String, Arc<Kit>>;

/// Calls kits for this node's resources.
#[derive(Debug)]
pub struct Calls {
    node: Arc<str>,
    resources: HashMap<(HierarchyIndex, ResourceIndex), Arc<Resource>>,
    secrets: Option<PathBuf>,
    /// What serves each resource.
    serving: HashMap<(HierarchyIndex, ResourceIndex), Arc<Kit>>,
    /// Resources that a version before the newest one serves: which, and why.
    held_back: Vec<String>,
    happenings: mpsc::Sender<Happening>,
    running: HashMap<CallId, oneshot::Sender<()>>,
}

/// So many hexadecimal digits of a kit's hash are shown: enough to tell two builds of one version apart.
const HASH_SHOWN: usize = 12;

impl Calls {
    /// For the resources of these hierarchies, with no kit loaded yet.
    pub fn new<'a>(
        node: &NodeName,
        hierarchies: impl Iterator<Item = &'a Hierarchy>,
        places: &Places,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let mut resources = HashMap::new();
        for (h, hierarchy) in (0..).map(HierarchyIndex).zip(hierarchies) {
            for r in hierarchy.resources() {
                let (tag, spec) = (hierarchy.tag(r), hierarchy.resource(r));
                resources.insert((h, r), Arc::new(Resource::new(node, tag, spec, places)));
            }
        }
        Self {
            node: node.as_str().into(),
            resources,
            secrets: places.secrets.clone(),
            serving: HashMap::new(),
            held_back: Vec::new(),
            happenings,
            running: HashMap::new(),
        }
    }

    /// These kits are loaded from now on. What is wrong for which resource, by tag.
    pub fn load(&mut self, loaded: &Loaded) -> BTreeMap<Tag, String> {
        let mut unusable = BTreeMap::new();
        self.held_back.clear();
        for (index, resource) in &self.resources {
            let problem = match loaded.get(&resource.kit) {
                None => {
                    self.serving.remove(index);
                    format!("its kit `{}` is not loaded", resource.kit)
                }
                Some(kit) => {
                    let fits = |kit: &Kit| {
                        problems(kit, &resource.value, resource.services.grants(), self.secrets.as_deref()).join("; ")
                    };
                    let problem = fits(kit);
                    let old = self.serving.get(index).filter(|old| old.sha256() != kit.sha256());
                    match old.filter(|old| !problem.is_empty() && fits(old).is_empty()) {
                        Some(old) => {
                            let (name, new, old) = (kit.name(), kit.version(), old.version());
                            self.held_back.push(format!(
                                "{}: kit {name} {new} does not fit it, and {old} goes on serving it until this daemon ends: {problem}",
                                resource.tag
                            ));
                            continue;
                        }
                        None => {
                            self.serving.insert(*index, Arc::clone(kit));
                            problem
                        }
                    }
                }
            };
            if !problem.is_empty() {
                unusable.insert(Tag::new(&*resource.tag), problem);
            }
        }
        self.held_back.sort();
        self.held_back.iter().for_each(|what| tracing::error!("{what}"));
        unusable
    }

    /// What the kits of resources can do beside `recovery`.
    #[must_use]
    pub fn abilities(&self) -> BTreeMap<Tag, Abilities> {
        let of = |kit: &Kit| Abilities { readiness: kit.has_readiness(), deep_check: kit.has_deep_check() };
        let able = self.serving.iter().map(|(index, kit)| (index, of(kit)));
        able.filter_map(|(index, able)| Some((Tag::new(&*self.resources.get(index)?.tag), able))).collect()
    }

    /// The version of each kit that serves, and the beginning of its hash: for comparing it with other nodes'.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<KitName, String> {
        self.serving
            .values()
            .map(|kit| {
                let hash = kit.sha256().get(..HASH_SHOWN).unwrap_or(kit.sha256());
                (KitName::new(kit.name()), format!("{} ({hash})", kit.version()))
            })
            .collect()
    }

    /// Resources that a version before the newest one serves: which, and why.
    #[must_use]
    pub fn held_back(&self) -> &[String] {
        &self.held_back
    }

    /// Makes a call; its outcome comes as a happening.
    pub fn start(&mut self, call: Call) {
        let happenings = self.happenings.clone();
        let id = call.id;
        let (cancel, cancelled) = oneshot::channel::<()>();
        self.running.insert(id, cancel);
        let resource = self.resources.get(&(call.hierarchy, call.resource)).cloned();
        let kit = self.serving.get(&(call.hierarchy, call.resource)).cloned();
        let node = Arc::clone(&self.node);
        tokio::spawn(async move {
            let outcome = match (resource, kit) {
                (Some(resource), Some(kit)) => {
                    // Dropped with the daemon's driver, the sender cancels nothing: what runs goes on (O22).
                    let cancelled = async {
                        if cancelled.await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    };
                    outcome(kit.call(runtime_call(call, &resource, node), cancelled).await)
                }
                (resource, _) => Outcome::Fault {
                    kind: FaultKind::NotMade,
                    message: resource.map_or_else(
                        || "there is no such resource".into(),
                        |resource| format!("its kit `{}` is not loaded", resource.kit),
                    ),
                },
            };
            // Without a driver there is nobody to tell: the daemon stops.
            let _ = happenings.send(Happening::Outcome(id, outcome)).await;
        });
    }

    /// Ends a call; its outcome comes all the same, once everything it started is gone.
    pub fn cancel(&mut self, id: CallId) {
        if let Some(cancel) = self.running.remove(&id) {
            let _ = cancel.send(());
        }
    }

    /// A call has ended.
    pub fn ended(&mut self, id: CallId) {
        self.running.remove(&id);
    }

    /// How many calls go on.
    #[must_use]
    pub fn going_on(&self) -> usize {
        self.running.len()
    }
}

impl Resource {
    fn new(node: &NodeName, tag: &Tag, spec: &ResourceSpec, places: &Places) -> Self {
        let value = spec.params_for(node);
        let services = ResourceServices::new(
            grants(&spec.grants),
            places.store.join(tag.as_str()),
            places.secrets.clone(),
            places.commands.clone(),
        )
        .with_volumes(Arc::new(places.volumes.clone()));
        Self {
            tag: tag.as_str().into(),
            kit: spec.kit.to_string(),
            params: value.to_string().into(),
            value,
            services: Arc::new(services),
        }
    }
}

/// What the operator granted, as the runtime holds it.
#[must_use]
pub fn grants(grants: &Grants) -> runtime::Grants {
    runtime::Grants {
        command: grants
            .command
            .iter()
            .map(|grant| runtime::CommandGrant { program: (&grant.program).into(), user: grant.user.clone() })
            .collect(),
        net: grants.net.iter().map(|grant| runtime::NetGrant { host: grant.host.clone(), port: grant.port }).collect(),
        secret: grants.secret.clone(),
        volume: grants.volume.clone(),
        mount: grants
            .mount
            .iter()
            .map(|grant| runtime::MountGrant { point: grant.point.clone(), device: grant.device.clone() })
            .collect(),
        service: grants.service.clone(),
    }
}

/// A param as people write it: `/key/name` is `params.key.name`.
#[must_use]
pub fn param(pointer: &str) -> String {
    // RFC 6901, section 4.
    format!("params{}", pointer.replace('/', ".").replace("~1", "/").replace("~0", "~"))
}

/// What keeps a kit from being used with these params and grants.
fn problems(kit: &Kit, params: &serde_json::Value, grants: &runtime::Grants, secrets: Option<&Path>) -> Vec<String> {
    let params =
        kit.check_params(params).into_iter().map(|problem| format!("{}: {}", param(&problem.pointer), problem.message));
    let grants = kit.check_grants(grants, secrets).into_iter();
    let grants = grants.filter(|problem| problem.severity == runtime::Severity::Error).map(|problem| problem.message);
    params.chain(grants).collect()
}

fn runtime_call(call: Call, resource: &Resource, node: Arc<str>) -> runtime::Call {
    let operation = match call.operation {
        Operation::Restore => runtime::Operation::Restore,
        Operation::Remove => runtime::Operation::Remove,
        Operation::QuickCheck => runtime::Operation::QuickCheck,
        Operation::DeepCheck => runtime::Operation::DeepCheck,
        Operation::Assess => runtime::Operation::Assess,
        Operation::Recover(failure) => runtime::Operation::Recover(runtime::Failure {
            found_by: failure.found_by.into(),
            report: failure.report.map(report),
            bad_checks: failure.bad_checks,
            details: Vec::new(),
        }),
    };
    runtime::Call {
        operation,
        tag: Arc::clone(&resource.tag),
        node,
        params: Arc::clone(&resource.params),
        operation_id: call.operation_id.into(),
        attempt: call.attempt,
        epoch: call.epoch.0,
        budget: Duration::from_millis(call.budget.0),
        hints: call.cause.map(|cause| ("cause".to_owned(), cause.to_string())).into_iter().collect(),
        resource: Arc::clone(&resource.services),
    }
}

fn report(report: CheckReport) -> runtime::Report {
    let health = match report.health {
        Health::Healthy => runtime::Health::Healthy,
        Health::Degraded => runtime::Health::Degraded,
        Health::Stopped => runtime::Health::Stopped,
        Health::Failed => runtime::Health::Failed,
        Health::Unknown => runtime::Health::Unknown,
    };
    runtime::Report { health, code: report.code, summary: report.summary, details: Vec::new() }
}

fn finding(finding: runtime::Finding) -> Finding {
    let weight = match finding.weight {
        runtime::Weight::Note => Weight::Note,
        runtime::Weight::Warning => Weight::Warning,
        runtime::Weight::Blocking => Weight::Blocking,
    };
    Finding { weight, code: finding.code, summary: finding.summary, advice: finding.advice }
}

/// What came of a call, as the core knows it.
fn outcome(outcome: runtime::Outcome) -> Outcome {
    match outcome {
        runtime::Outcome::Done(done) => Outcome::Done { summary: done.summary },
        runtime::Outcome::Report(report) => {
            let health = match report.health {
                runtime::Health::Healthy => Health::Healthy,
                runtime::Health::Degraded => Health::Degraded,
                runtime::Health::Stopped => Health::Stopped,
                runtime::Health::Failed => Health::Failed,
                runtime::Health::Unknown => Health::Unknown,
            };
            // The keys are the contract's (wit/README.md).
            let says = |key: &str, value: &str| report.details.iter().any(|(name, said)| name == key && said == value);
            Outcome::Report(CheckReport {
                health,
                unmonitored: says("monitored", "false"),
                concurrent: says("concurrent", "true"),
                timed_out: says("timed-out", "true"),
                code: report.code,
                summary: report.summary,
            })
        }
        runtime::Outcome::Recovery(result) => {
            let verdict = match result.verdict {
                runtime::Verdict::Recovered => Verdict::Recovered,
                runtime::Verdict::RestartDependents => Verdict::RestartDependents,
                runtime::Verdict::GiveUp => Verdict::GiveUp,
            };
            Outcome::Recovery { verdict, summary: result.summary }
        }
        runtime::Outcome::Findings(found) => Outcome::Findings(found.into_iter().map(finding).collect()),
        runtime::Outcome::Error(error) => {
            let retry = match error.retry {
                runtime::Retry::Here => RetryWhere::Here,
                runtime::Retry::Elsewhere => RetryWhere::Elsewhere,
                runtime::Retry::Nowhere => RetryWhere::Nowhere,
            };
            let retry_after = error.retry_after_ms.map(|ms| Millis(ms.into()));
            Outcome::Error { code: error.code, message: error.message, retry, retry_after }
        }
        runtime::Outcome::Fault(fault) => {
            let kind = match fault.kind {
                runtime::FaultKind::Trap => FaultKind::Trap,
                runtime::FaultKind::WallTimeout | runtime::FaultKind::CpuTimeout => FaultKind::Timeout,
                runtime::FaultKind::OutOfMemory => FaultKind::OutOfMemory,
                runtime::FaultKind::Denied | runtime::FaultKind::Unavailable => FaultKind::NotMade,
                runtime::FaultKind::Cancelled => FaultKind::Cancelled,
            };
            tracing::warn!(evidence = ?fault.evidence, "{}", fault.message);
            Outcome::Fault { kind, message: fault.message }
        }
    }
}
