//! What the runtime adds to a call: a quick-check of the null kit through `Kit::call` beside bare wasmtime doing
//! the same (fresh store, pooled, async), turn by turn in one process; and how long loading takes.
//!
//! Prints a table; decides nothing. Run it with `cargo bench -p mainstay-runtime`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be set up has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_runtime::{Call, Grants, Kit, Limits, Operation, Outcome, ResourceServices, Runtime, RuntimeConfig};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::TempDir;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

mod bindings {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::wildcard_enum_match_arm, reason = "generated")]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "kit",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// Calls measured of each, after as many to warm up as a tenth of it.
const CALLS: usize = 20_000;
/// Loads measured from the cache.
const LOADS: usize = 200;
/// Calls of one side before it is the other's turn.
const TURN: usize = 100;

struct Bare;

impl bindings::mainstay::kit::types::Host for Bare {}

/// wasmtime as its documentation would have it for many short calls.
struct BareKit {
    pre: bindings::KitPre<Bare>,
    context: bindings::exports::mainstay::kit::recovery::Context,
}

impl BareKit {
    fn new(wasm: &[u8], strategy: InstanceAllocationStrategy) -> Self {
        let mut config = Config::new();
        config.epoch_interruption(true).allocation_strategy(strategy);
        let engine = Engine::new(&config).unwrap();
        let mut linker = Linker::<Bare>::new(&engine);
        bindings::mainstay::kit::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state).unwrap();
        let component = Component::new(&engine, wasm).unwrap();
        let pre = bindings::KitPre::new(linker.instantiate_pre(&component).unwrap()).unwrap();
        let context = bindings::exports::mainstay::kit::recovery::Context {
            tag: "tag".to_owned(),
            node: "node".to_owned(),
            params: "{}".to_owned(),
            operation_id: "1".to_owned(),
            attempt: 1,
            epoch: 1,
            budget_ms: 5000,
            hints: Vec::new(),
        };
        Self { pre, context }
    }

    async fn call(&self) {
        let mut store = Store::new(self.pre.engine(), Bare);
        store.set_epoch_deadline(1_000_000);
        let kit = self.pre.instantiate_async(&mut store).await.unwrap();
        let answer = kit.mainstay_kit_recovery().call_quick_check(&mut store, &self.context).await.unwrap();
        assert!(answer.is_ok());
    }
}

async fn ours(kit: &Kit, call: &Call) {
    let outcome = kit.call(call.clone(), std::future::pending()).await;
    assert!(matches!(outcome, Outcome::Report(_)), "{outcome:?}");
}

struct Times(Vec<Duration>);

impl Times {
    fn at(&mut self, share: f64) -> f64 {
        self.0.sort();
        let index = ((self.0.len() - 1) as f64 * share) as usize;
        self.0[index].as_secs_f64() * 1e6
    }

    fn print(&mut self, what: &str) -> f64 {
        let (median, p99) = (self.at(0.5), self.at(0.99));
        println!("{what:<44} {median:>10.1} {p99:>10.1}");
        median
    }
}

fn resource(dir: &TempDir) -> Arc<ResourceServices> {
    let exe = SupervisorExe::alone(mainstay_test_support::binary("mainstay-supervise"));
    let commands = Commands::open(&dir.path().join("commands"), exe).unwrap();
    Arc::new(ResourceServices::new(Grants::default(), dir.path().join("store"), None, commands))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let dir = TempDir::new();
    let file = mainstay_test_support::kit("null");
    let config = RuntimeConfig { cache_dir: dir.path().join("compiled"), limits: Limits::default() };
    let began = Instant::now();
    let runtime = Runtime::new(config).unwrap();
    println!("{:<44} {:>10} {:>10}", "us", "median", "p99");
    println!("{:<44} {:>10.1}", "a runtime", began.elapsed().as_secs_f64() * 1e6);

    let began = Instant::now();
    let kit = runtime.load(&file).await.unwrap();
    assert!(!kit.from_cache());
    println!("{:<44} {:>10.1}", "loading the null kit, cold", began.elapsed().as_secs_f64() * 1e6);
    for name in ["genapp", "dns"] {
        let file = mainstay_test_support::kit(name);
        let began = Instant::now();
        runtime.load(&file).await.unwrap();
        println!("{:<44} {:>10.1}", format!("loading the {name} kit, cold"), began.elapsed().as_secs_f64() * 1e6);
    }
    let mut loads = Times(Vec::new());
    for _ in 0..LOADS {
        let began = Instant::now();
        assert!(runtime.load(&file).await.unwrap().from_cache());
        loads.0.push(began.elapsed());
    }
    loads.print("loading the null kit from the cache");

    let call = Call {
        operation: Operation::QuickCheck,
        tag: "tag".into(),
        node: "node".into(),
        params: "{}".into(),
        operation_id: "1".into(),
        attempt: 1,
        epoch: 1,
        budget: Duration::from_secs(5),
        hints: Vec::new(),
        resource: resource(&dir),
    };
    let wasm = std::fs::read(&file).unwrap();
    // The laboratory's settings: the peer of the budget.
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(64)
        .total_core_instances(256)
        .total_memories(64)
        .total_tables(128)
        .total_stacks(64)
        .linear_memory_keep_resident(256 << 10);
    let pooled = BareKit::new(&wasm, InstanceAllocationStrategy::Pooling(pool));
    let on_demand = BareKit::new(&wasm, InstanceAllocationStrategy::OnDemand);
    // On a worker thread, as in the daemon.
    tokio::spawn(async move {
        let (mut ours_us, mut pooled_us, mut demand_us) = (Times(Vec::new()), Times(Vec::new()), Times(Vec::new()));
        for turn in 0..(CALLS + CALLS / 10) / TURN {
            let warm = turn * TURN >= CALLS / 10;
            for (side, times) in [&mut ours_us, &mut pooled_us, &mut demand_us].into_iter().enumerate() {
                for _ in 0..TURN {
                    let began = Instant::now();
                    match side {
                        0 => ours(&kit, &call).await,
                        1 => pooled.call().await,
                        _ => on_demand.call().await,
                    }
                    if warm {
                        times.0.push(began.elapsed());
                    }
                }
            }
        }
        let ours = ours_us.print("quick-check of the null kit, mainstay");
        let pooled = pooled_us.print("quick-check of the null kit, bare, pooled");
        let demand = demand_us.print("quick-check of the null kit, bare, on demand");
        println!("{:<44} {:>10.2}", "mainstay / bare, pooled", ours / pooled);
        println!("{:<44} {:>10.2}", "mainstay / bare, on demand", ours / demand);
    })
    .await
    .unwrap();
}
