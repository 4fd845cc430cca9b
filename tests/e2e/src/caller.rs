//! A node as far as a kit sees one: the shipped component in the real runtime, with grants, secrets and a store of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_runtime::{
    Call, Done, Failure, Grants, Kit, KitError, Limits, Operation, Outcome, RecoveryResult, Report, ResourceServices,
    Runtime, RuntimeConfig,
};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::TempDir;
use serde_json::Value;

/// What a [`Caller`] is made of.
#[derive(Debug)]
pub struct Called<'a> {
    /// The kit's file.
    pub kit: &'a Path,
    /// The resource's tag.
    pub tag: &'a str,
    /// What it may reach, but for the secrets.
    pub grants: Grants,
    /// Its secrets, each by its name.
    pub secrets: &'a [(&'a str, String)],
    /// The system bus on which its services are; none: this machine's.
    pub bus: Option<&'a str>,
    /// A folder beside the other build output (`CARGO_TARGET_TMPDIR`): compiled code is kept there from test to test.
    pub scratch: &'a Path,
    /// What a call may take, unless a test says otherwise: far more than it needs on a busy machine.
    pub budget: Duration,
}

/// A node that runs one kit for one resource, and waits for each call.
#[derive(Debug)]
pub struct Caller {
    tokio: tokio::runtime::Runtime,
    /// The kit, as it is shipped.
    pub kit: Arc<Kit>,
    services: Arc<ResourceServices>,
    tag: String,
    budget: Duration,
    _folder: TempDir,
}

impl Caller {
    /// Loads the kit.
    #[must_use]
    pub fn new(of: Called<'_>) -> Self {
        let Called { kit, tag, mut grants, secrets, bus, scratch, budget } = of;
        let folder = TempDir::new();
        let secrets_dir = folder.folder("secrets");
        for (name, secret) in secrets {
            let file = folder.write(format!("secrets/{name}"), secret);
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("the file was just made");
            grants.secret.push((*name).to_owned());
        }
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let tokio = tokio.expect("a tokio runtime");
        let entered = tokio.enter();
        let runtime = Runtime::new(RuntimeConfig { cache_dir: scratch.join("compiled"), limits: Limits::default() });
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        if let Some(bus) = bus {
            runtime.use_system_bus(bus);
        }
        let kit = tokio.block_on(runtime.load(kit)).unwrap_or_else(|error| panic!("{error}"));
        let commands = Commands::open(&folder.folder("commands"), SupervisorExe::own());
        let commands = commands.unwrap_or_else(|error| panic!("{error}"));
        let services = Arc::new(ResourceServices::new(grants, folder.join("store"), Some(secrets_dir), commands));
        drop(entered);
        Self { tokio, kit, services, tag: tag.to_owned(), budget, _folder: folder }
    }

    /// Calls the kit, as the host does: with params that fit its schema.
    pub fn call(&self, operation: Operation, params: &Value, budget: Duration) -> Outcome {
        let problems = self.kit.check_params(params);
        assert!(problems.is_empty(), "{problems:?}");
        let call = Call {
            operation,
            tag: self.tag.as_str().into(),
            node: "ex01".into(),
            params: params.to_string().into(),
            operation_id: "operation-1".into(),
            attempt: 1,
            epoch: 1,
            budget,
            hints: Vec::new(),
            resource: Arc::clone(&self.services),
        };
        self.tokio.block_on(self.kit.call(call, std::future::pending()))
    }

    #[track_caller]
    fn done(&self, operation: Operation, params: &Value) -> Done {
        let outcome = self.call(operation, params, self.budget);
        let Outcome::Done(done) = outcome else { panic!("expected it to be done, got {outcome:?}") };
        done
    }

    /// restore that has to work.
    #[track_caller]
    pub fn restore(&self, params: &Value) -> Done {
        self.done(Operation::Restore, params)
    }

    /// remove that has to work.
    #[track_caller]
    pub fn remove(&self, params: &Value) -> Done {
        self.done(Operation::Remove, params)
    }

    #[track_caller]
    fn report(&self, operation: Operation, params: &Value) -> Report {
        let outcome = self.call(operation, params, self.budget);
        let Outcome::Report(report) = outcome else { panic!("expected a report, got {outcome:?}") };
        report
    }

    /// quick-check that has to answer.
    #[track_caller]
    pub fn check(&self, params: &Value) -> Report {
        self.report(Operation::QuickCheck, params)
    }

    /// quick-check that has to answer, and how long it took.
    #[track_caller]
    pub fn timed_check(&self, params: &Value) -> (Report, Duration) {
        let began = Instant::now();
        (self.check(params), began.elapsed())
    }

    /// deep-check that has to answer.
    #[track_caller]
    pub fn deep_check(&self, params: &Value) -> Report {
        self.report(Operation::DeepCheck, params)
    }

    /// recover that has to answer.
    #[track_caller]
    pub fn recover(&self, params: &Value) -> RecoveryResult {
        let why = Failure { found_by: "quick-check".into(), report: None, bad_checks: 1, details: Vec::new() };
        let outcome = self.call(Operation::Recover(why), params, self.budget);
        let Outcome::Recovery(result) = outcome else { panic!("expected a verdict, got {outcome:?}") };
        result
    }

    /// An operation the kit has to say no to.
    #[track_caller]
    pub fn error(&self, operation: Operation, params: &Value) -> KitError {
        let outcome = self.call(operation, params, self.budget);
        let Outcome::Error(error) = outcome else { panic!("expected an error, got {outcome:?}") };
        error
    }
}
