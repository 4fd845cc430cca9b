//! A runtime with a place for what its kits leave behind, and with hands that call them.
//!
//! Nothing of it is outside its temporary folder, and nothing is left of it: a test that wants to know whether a
//! call left something looks here.

use std::future::{Future, pending};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_runtime::{
    Call, CommandGrant, Failure, Grants, Kit, Limits, MountGrant, Operation, Outcome, ResourceServices, Runtime,
    RuntimeConfig,
};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::kits::{Target, test_kit};
use mainstay_test_support::{TempDir, WAIT_LIMIT, binary, kit, poll_until};
use serde_json::{Value, json};

/// Processor time of a call in these tests, in ms: enough for whatever is well behaved, and there are many calls
/// that use all of it.
pub const CPU_MS_MAX: u64 = 300;
/// The budget of a call that ends by itself or by another limit.
pub const BUDGET: Duration = Duration::from_secs(60);
/// The name of the only secret that is granted.
pub const SECRET: &str = "own-secret";
/// The address that is granted when a case says nothing else; nobody listens there.
pub const NOBODY: &str = "127.0.0.1:9";

/// A runtime and its folders.
#[derive(Debug)]
pub struct House {
    folder: TempDir,
    runtime: Runtime,
    commands: Commands,
    /// A program that is always granted and does nothing.
    idle: PathBuf,
}

/// One call, with everything that may differ.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The resource's tag.
    pub tag: String,
    /// What is called.
    pub operation: Operation,
    /// The kit's params.
    pub params: Value,
    /// What the resource is granted.
    pub grants: Grants,
    /// The call's budget.
    pub budget: Duration,
}

impl House {
    /// A house with the limits of production, but for less processor time.
    ///
    /// # Panics
    /// When something cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = TempDir::new();
        let limits = Limits { cpu_ms_max: CPU_MS_MAX, ..Limits::default() };
        let runtime = Runtime::new(RuntimeConfig { cache_dir: folder.join("cache"), limits })
            .unwrap_or_else(|error| panic!("no runtime: {error}"));
        let supervisor = SupervisorExe::alone(binary("mainstay-supervise"));
        let commands = Commands::open(&folder.join("commands"), supervisor)
            .unwrap_or_else(|error| panic!("no folder for commands: {error}"));
        folder.folder("kits");
        folder.folder("secrets");
        let secret = folder.write(format!("secrets/{SECRET}"), "seven\n");
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(secret, owner_only).expect("the file was just made");
        let idle = folder.script("idle", ":");
        Self { folder, runtime, commands, idle }
    }

    /// Its runtime.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Everything it has on disk.
    #[must_use]
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// Where kits may be put.
    #[must_use]
    pub fn kits(&self) -> PathBuf {
        self.folder.join("kits")
    }

    /// The smallest kit, as it is shipped.
    pub async fn null(&self) -> Arc<Kit> {
        self.load(kit("null")).await
    }

    /// The kit that misbehaves.
    pub async fn hostile(&self) -> Arc<Kit> {
        self.load(test_kit("mainstay-test-hostile-kit", Target::Unknown)).await
    }

    /// The same, built for WASI.
    pub async fn hostile_wasi(&self) -> Arc<Kit> {
        self.load(test_kit("mainstay-test-hostile-kit", Target::Wasip2)).await
    }

    /// A kit from its bytes.
    ///
    /// # Panics
    /// When it is not loaded.
    pub async fn load_bytes(&self, name: &str, bytes: &[u8]) -> Arc<Kit> {
        let path = self.folder.write(format!("kits/{name}.wasm"), bytes);
        self.load(path).await
    }

    async fn load(&self, path: PathBuf) -> Arc<Kit> {
        self.runtime.load(&path).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// One grant of each sort, of something harmless: what a kit with every need has to have to be called.
    #[must_use]
    pub fn grants(&self) -> Grants {
        Grants {
            command: vec![CommandGrant { program: self.idle.clone(), user: None }],
            net: vec![NOBODY.parse().expect("it is an address")],
            secret: vec![SECRET.to_owned()],
            volume: vec!["own-volume".to_owned()],
            mount: vec![MountGrant { point: "/nonexistent/point".to_owned(), device: None }],
            service: vec!["mainstay-nobody.service".to_owned()],
        }
    }

    /// A call with [`House::grants`], the usual budget, and a tag of its own.
    #[must_use]
    pub fn asked(&self, operation: Operation, params: &Value) -> Asked {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let tag = format!("resource-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Asked { tag, operation, params: params.clone(), grants: self.grants(), budget: BUDGET }
    }

    /// Calls, as asked.
    pub async fn call_as(&self, kit: &Arc<Kit>, asked: Asked) -> Outcome {
        self.call_until(kit, asked, pending()).await
    }

    /// Calls with everything as usual.
    pub async fn call(&self, kit: &Arc<Kit>, operation: Operation, params: &Value) -> Outcome {
        self.call_as(kit, self.asked(operation, params)).await
    }

    /// Calls, and takes the call back when `cancelled` is ready.
    pub async fn call_until(
        &self,
        kit: &Arc<Kit>,
        asked: Asked,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Outcome {
        let Asked { tag, operation, params, grants, budget } = asked;
        let services =
            ResourceServices::new(grants, self.store(&tag), Some(self.folder.join("secrets")), self.commands.clone());
        let call = Call {
            operation,
            operation_id: format!("{tag}-1").into(),
            tag: tag.into(),
            node: "ex01".into(),
            params: params.to_string().into(),
            attempt: 1,
            epoch: 1,
            budget,
            hints: Vec::new(),
            resource: Arc::new(services),
        };
        kit.call(call, cancelled).await
    }

    /// The folder of a resource's store.
    #[must_use]
    pub fn store(&self, tag: &str) -> PathBuf {
        self.folder.join(format!("stores/{tag}"))
    }

    /// The smallest kit is loaded and answers.
    ///
    /// # Panics
    /// When not.
    pub async fn null_still_works(&self) {
        let null = self.null().await;
        let outcome = self.call(&null, Operation::QuickCheck, &json!({})).await;
        assert!(matches!(outcome, Outcome::Report(_)), "the null kit is not well: {outcome:?}");
    }

    /// Nothing that was started from here runs any more.
    ///
    /// # Panics
    /// When something does, after a while.
    pub fn nothing_runs(&self) {
        // A supervisor may still be writing its last words when its outcome is known.
        let gone = poll_until(WAIT_LIMIT, || self.folder.running().is_empty());
        assert!(gone, "left behind: {:?}", self.folder.running());
    }
}

impl Default for House {
    fn default() -> Self {
        Self::new()
    }
}

/// Each of the four operations.
#[must_use]
pub fn operations() -> [Operation; 4] {
    let failure = Failure { found_by: "quick-check".to_owned(), report: None, bad_checks: 1, details: Vec::new() };
    [Operation::Restore, Operation::Remove, Operation::QuickCheck, Operation::Recover(failure)]
}

/// Memory of this process that is in use, in bytes.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it tells the resident set");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("it is a number");
    kib * 1024
}

/// Files and sockets that this process has open.
///
/// # Panics
/// Where there is no `/proc`.
#[must_use]
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has /proc").count()
}
