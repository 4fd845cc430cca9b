//! A node as far as a kit sees one: the shipped component in the real runtime, with grants, secrets and a
//! store of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_runtime::{
    Call, Done, Failure, Grants, Kit, KitError, Limits, Operation, Outcome, RecoveryResult, Report, ResourceServices,
    Runtime, RuntimeConfig,
};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::{TempDir, kit};
use serde_json::{Value, json};

use crate::servers::{KEYS, NameServer, POWERLESS_KEY, ZONE};

/// What a call may take, unless a test says otherwise: far more than it needs on a busy machine.
const BUDGET: Duration = Duration::from_secs(60);
/// Names the kit's file, for a node in a process of its own: what is built is not asked of cargo there.
pub(crate) const KIT_VARIABLE: &str = "MAINSTAY_TEST_DNS_KIT";
/// The secret that is no server's.
pub(crate) const WRONG_SECRET: &str = "wrong";

/// A node that runs the DNS kit.
pub(crate) struct Node {
    tokio: tokio::runtime::Runtime,
    /// The kit, as it is shipped.
    pub(crate) kit: Arc<Kit>,
    services: Arc<ResourceServices>,
    _folder: TempDir,
}

impl Node {
    /// One that may reach these servers, and has every key's secret under the key's name.
    pub(crate) fn granted(addresses: &[String]) -> Self {
        let folder = TempDir::new();
        let secrets = folder.folder("secrets");
        let keys = KEYS.into_iter().chain([POWERLESS_KEY]).map(|(name, _, secret)| (name, secret));
        let keys: Vec<_> = keys.chain([(WRONG_SECRET, "b25lIHRoYXQgbm8gc2VydmVyIGtub3dz")]).collect();
        for (name, secret) in &keys {
            let file = folder.write(format!("secrets/{name}"), format!("{secret}\n"));
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("the file was just made");
        }
        let grants = Grants {
            net: addresses.iter().map(|address| address.parse().expect("host:port")).collect(),
            secret: keys.iter().map(|(name, _)| (*name).to_owned()).collect(),
            ..Grants::default()
        };
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let tokio = tokio.expect("a tokio runtime");
        // Compiled code is kept from test to test, beside the other build output.
        let cache_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
        let _entered = tokio.enter();
        let runtime = Runtime::new(RuntimeConfig { cache_dir, limits: Limits::default() });
        let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
        let file = std::env::var_os(KIT_VARIABLE).map_or_else(|| kit("dns"), PathBuf::from);
        let kit = tokio.block_on(runtime.load(&file)).unwrap_or_else(|error| panic!("{error}"));
        // The kit runs no programs.
        let commands = Commands::open(&folder.folder("commands"), SupervisorExe::own());
        let commands = commands.unwrap_or_else(|error| panic!("{error}"));
        let services = Arc::new(ResourceServices::new(grants, folder.join("store"), Some(secrets), commands));
        drop(_entered);
        Self { tokio, kit, services, _folder: folder }
    }

    /// One that may reach this server.
    pub(crate) fn for_server(server: &NameServer) -> Self {
        Self::granted(&[server.address()])
    }

    /// Calls the kit, as the host does: with params that fit its schema.
    pub(crate) fn call(&self, operation: Operation, params: &Value, budget: Duration) -> Outcome {
        let problems = self.kit.check_params(params);
        assert!(problems.is_empty(), "{problems:?}");
        let call = Call {
            operation,
            tag: "name".into(),
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

    /// restore or remove that has to work.
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

    /// quick-check that has to answer.
    #[track_caller]
    pub(crate) fn check(&self, params: &Value) -> Report {
        let outcome = self.call(Operation::QuickCheck, params, BUDGET);
        let Outcome::Report(report) = outcome else { panic!("expected a report, got {outcome:?}") };
        report
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

/// Params for the server at this address: the first key, one address, and others in their place or besides; null takes one away.
pub(crate) fn params_at(address: &str, more: Value) -> Value {
    let (key, ..) = KEYS[0];
    let mut params = json!({
        "zone": ZONE, "servers": [address], "key": { "name": key, "secret": key }, "on-remove": "delete",
        "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } },
    });
    for (key, value) in more.as_object().expect("a table") {
        if value.is_null() {
            params.as_object_mut().expect("a table").remove(key);
        } else {
            params[key] = value.clone();
        }
    }
    params
}

/// Params for this server, likewise.
pub(crate) fn params(server: &NameServer, more: Value) -> Value {
    params_at(&server.address(), more)
}
