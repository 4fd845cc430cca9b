//! What these tests share: a runtime with a cache of its own, a resource with grants, and a call of it.

#![allow(dead_code, reason = "each test binary uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_runtime::{
    Call, Evidence, Fault, FaultKind, Grants, Kit, Limits, Operation, Outcome, Report, ResourceServices, Runtime,
    RuntimeConfig,
};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::TempDir;
use serde_json::Value;

/// What a call gets when the test is not about its budget: more than a busy machine needs.
pub(crate) const BUDGET: Duration = Duration::from_secs(60);

/// A place for everything that a runtime and a resource write.
pub(crate) struct House {
    pub(crate) dir: TempDir,
    pub(crate) runtime: Runtime,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(Limits { calls_max: 64, calls_per_kit_max: 48, operations_per_kit_max: 40, ..Limits::default() })
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let dir = TempDir::new();
        let runtime = Runtime::new(RuntimeConfig { cache_dir: dir.path().join("compiled"), limits }).unwrap();
        Self { dir, runtime }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn kit(&self, name: &str) -> Arc<Kit> {
        self.load(&mainstay_test_support::kit(name)).await
    }

    pub(crate) async fn load(&self, file: &Path) -> Arc<Kit> {
        self.runtime.load(file).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A resource of this name with these grants.
    pub(crate) fn resource(&self, tag: &str, grants: Value) -> Arc<ResourceServices> {
        Arc::new(self.services(tag, grants))
    }

    /// The same, to be given more.
    pub(crate) fn services(&self, tag: &str, grants: Value) -> ResourceServices {
        let grants: Grants = serde_json::from_value(grants).unwrap();
        let exe = SupervisorExe::alone(mainstay_test_support::binary("mainstay-supervise"));
        let commands = Commands::open(&self.path("commands"), exe).unwrap();
        let secrets = self.path("secrets");
        ResourceServices::new(grants, self.path("stores").join(tag), Some(secrets), commands)
    }

    pub(crate) fn secret(&self, name: &str, content: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let secrets = self.path("secrets");
        std::fs::create_dir_all(&secrets).unwrap();
        std::fs::write(secrets.join(name), content).unwrap();
        std::fs::set_permissions(secrets.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// A call of `resource`, whose tag is `tag`.
pub(crate) fn call(operation: Operation, tag: &str, params: &Value, resource: &Arc<ResourceServices>) -> Call {
    Call {
        operation,
        tag: tag.into(),
        node: "ex01".into(),
        params: params.to_string().into(),
        operation_id: "op-1".into(),
        attempt: 1,
        epoch: 7,
        budget: BUDGET,
        hints: vec![("cause".to_owned(), "test".to_owned())],
        resource: Arc::clone(resource),
    }
}

/// The probe kit's params: these steps.
pub(crate) fn steps(steps: &Value) -> Value {
    serde_json::json!({ "steps": steps })
}

/// Grants of each sort, for what is not there: a kit that needs a capability of which nothing is granted is not
/// started at all.
pub(crate) fn granted() -> Value {
    serde_json::json!({"command": ["/nonexistent"], "net": ["192.0.2.1:9"], "secret": ["none"]})
}

/// Makes it and waits.
pub(crate) async fn outcome(kit: &Kit, call: Call) -> Outcome {
    kit.call(call, std::future::pending()).await
}

/// The report of a check that answered.
#[track_caller]
pub(crate) fn report(outcome: &Outcome) -> Report {
    let Outcome::Report(report) = outcome else { panic!("no report but {outcome:?}") };
    report.clone()
}

/// The fault, of this kind.
#[track_caller]
pub(crate) fn fault(outcome: &Outcome, kind: FaultKind) -> Fault {
    let Outcome::Fault(fault) = outcome else { panic!("no {kind} but {outcome:?}") };
    assert_eq!(fault.kind, kind, "{fault:?}");
    fault.clone()
}

/// Nothing was going on.
pub(crate) fn nothing(evidence: &Evidence) -> bool {
    evidence.inside.is_none() && evidence.command.is_none()
}
