//! A node as far as the Exchange kit sees one: the shipped component in the real runtime, with grants and secrets, and the
//! services of a test's systemd.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_runtime::{
    Call, Done, Failure, Grants, Kit, KitError, Limits, Operation, Outcome, RecoveryResult, Report, ResourceServices,
    Runtime, RuntimeConfig,
};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::{TempDir, kit};
use serde_json::Value;

use crate::stack::{DOVECOT, PASSWORD, POSTFIX, Stack};

/// What a call may take, unless a test says otherwise: far more than it needs on a busy machine.
const BUDGET: Duration = Duration::from_secs(120);

/// A node that runs the Exchange kit.
pub(crate) struct Node {
    tokio: tokio::runtime::Runtime,
    kit: Arc<Kit>,
    services: Arc<ResourceServices>,
    _folder: TempDir,
}

impl Node {
    /// One on which this stack's services are, and which may reach it and these addresses besides.
    pub(crate) fn of(stack: &Stack, more: &[String]) -> Self {
        let folder = TempDir::new();
        let secrets = folder.folder("secrets");
        let all = [("probe", PASSWORD), ("wrong", "not it"), ("ca", &stack.authority), ("stranger", &stack.stranger)];
        for (name, secret) in all {
            let file = folder.write(format!("secrets/{name}"), secret);
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("the file was just made");
        }
        let addresses = stack.addresses();
        let grants = Grants {
            net: addresses.iter().chain(more).map(|address| address.parse().expect("host:port")).collect(),
            secret: all.iter().map(|(name, _)| (*name).to_owned()).collect(),
            service: vec![POSTFIX.to_owned(), DOVECOT.to_owned()],
            ..Grants::default()
        };
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let tokio = tokio.expect("a tokio runtime");
        // Compiled code is kept from test to test, beside the other build output.
        let cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let entered = tokio.enter();
        let runtime = Runtime::new(RuntimeConfig { cache_dir, limits: Limits::default() });
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        runtime.use_system_bus(stack.systemd.address());
        let kit = tokio.block_on(runtime.load(&kit("exchange"))).unwrap_or_else(|error| panic!("{error}"));
        let commands = Commands::open(&folder.folder("commands"), SupervisorExe::own());
        let commands = commands.unwrap_or_else(|error| panic!("{error}"));
        let services = Arc::new(ResourceServices::new(grants, folder.join("store"), Some(secrets), commands));
        drop(entered);
        Self { tokio, kit, services, _folder: folder }
    }

    /// Calls the kit, as the host does: with params that fit its schema.
    pub(crate) fn call(&self, operation: Operation, params: &Value, budget: Duration) -> Outcome {
        let problems = self.kit.check_params(params);
        assert!(problems.is_empty(), "{problems:?}");
        let call = Call {
            operation,
            tag: "exchange".into(),
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
        let outcome = self.call(operation, params, BUDGET);
        let Outcome::Done(done) = outcome else { panic!("expected it to be done, got {outcome:?}") };
        done
    }

    /// restore that has to work.
    #[track_caller]
    pub(crate) fn restore(&self, params: &Value) -> Done {
        self.done(Operation::Restore, params)
    }

    /// remove that has to work.
    #[track_caller]
    pub(crate) fn remove(&self, params: &Value) -> Done {
        self.done(Operation::Remove, params)
    }

    /// A check that has to answer, and how long it took.
    #[track_caller]
    fn report(&self, operation: Operation, params: &Value) -> (Report, Duration) {
        let began = Instant::now();
        let outcome = self.call(operation, params, BUDGET);
        let Outcome::Report(report) = outcome else { panic!("expected a report, got {outcome:?}") };
        (report, began.elapsed())
    }

    /// quick-check that has to answer.
    #[track_caller]
    pub(crate) fn check(&self, params: &Value) -> Report {
        self.report(Operation::QuickCheck, params).0
    }

    /// quick-check that has to answer, and how long it took.
    #[track_caller]
    pub(crate) fn timed_check(&self, params: &Value) -> (Report, Duration) {
        self.report(Operation::QuickCheck, params)
    }

    /// deep-check that has to answer.
    #[track_caller]
    pub(crate) fn deep_check(&self, params: &Value) -> Report {
        self.report(Operation::DeepCheck, params).0
    }

    /// recover that has to answer.
    #[track_caller]
    pub(crate) fn recover(&self, params: &Value) -> RecoveryResult {
        let why = Failure { found_by: "quick-check".into(), report: None, bad_checks: 1, details: Vec::new() };
        let outcome = self.call(Operation::Recover(why), params, BUDGET);
        let Outcome::Recovery(result) = outcome else { panic!("expected a verdict, got {outcome:?}") };
        result
    }

    /// An operation the kit has to say no to.
    #[track_caller]
    pub(crate) fn error(&self, operation: Operation, params: &Value) -> KitError {
        let outcome = self.call(operation, params, BUDGET);
        let Outcome::Error(error) = outcome else { panic!("expected an error, got {outcome:?}") };
        error
    }
}
