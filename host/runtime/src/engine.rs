//! The two engines, how they are limited, and the thread that counts time for them.
//!
//! Both compile alike, so one compiled kit serves either. The *pooled* engine takes memories, tables and stacks
//! from a pool that was reserved at the start, which makes a call cheap; the *on-demand* engine is for kits that
//! do not fit the pool. Which one a kit gets is decided once, when it is loaded; types of the two never mix.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use wasmtime::wasmparser::WasmFeatures;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::error::RuntimeError;
use crate::limits::{Limits, contract};

/// Address space after each linear memory that may not be touched: wasmtime's own default for 64 bits. With it
/// the compiler leaves out many bounds checks.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;
/// Beside what WebAssembly may use of a stack: room for the host functions it calls.
const HOST_STACK_BYTES: usize = 1 << 20;
/// Memory that a slot of the pool keeps for the next call of the same kit instead of giving it back: a small
/// kit's whole working set. Resetting it costs less than new pages; for the slots that are ever used at once
/// this is what an idle runtime holds.
const KEEP_RESIDENT_BYTES: usize = 128 << 10;
/// Frames of a trap's backtrace: a page.
const BACKTRACE_FRAMES_MAX: usize = 20;
/// Memories of a pooled kit. A kit with more runs on demand.
const POOLED_MEMORIES_MAX: u32 = 1;
/// Tables of a pooled kit: a component made from one module has its own and one of wiring.
const POOLED_TABLES_MAX: u32 = 2;

/// The engines of one runtime.
pub(crate) struct Engines {
    pub(crate) pooled: Engine,
    pub(crate) on_demand: Engine,
    _ticker: Ticker,
}

impl Engines {
    pub(crate) fn new(limits: &Limits) -> Result<Self, RuntimeError> {
        let error = |error: wasmtime::Error| RuntimeError::Engine {
            calls_max: limits.calls_max,
            memory_bytes_max: limits.memory_bytes_max,
            problem: format!("{error:#}"),
        };
        let pooled = Engine::new(config(limits).allocation_strategy(pool(limits))).map_err(error)?;
        let on_demand =
            Engine::new(config(limits).allocation_strategy(InstanceAllocationStrategy::OnDemand)).map_err(error)?;
        let ticker = Ticker::start([pooled.weak(), on_demand.weak()]).map_err(RuntimeError::Ticker)?;
        Ok(Self { pooled, on_demand, _ticker: ticker })
    }
}

/// What of WebAssembly a kit may use; no limit changes it.
pub(crate) fn features() -> WasmFeatures {
    static FEATURES: LazyLock<WasmFeatures> = LazyLock::new(|| {
        let engine = Engine::new(&config(&Limits::default()));
        engine.expect("the default limits make an engine, as a test holds").get_wasm_features()
    });
    *FEATURES
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_memory64(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        // A kit that arrives while the node runs is compiled on one thread: the others are for checks.
        .parallel_compilation(false)
        .memory_reservation(limits.memory_bytes_max as u64)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .max_wasm_stack(limits.wasm_stack_bytes_max)
        .async_stack_size(limits.wasm_stack_bytes_max + HOST_STACK_BYTES)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
    config
}

fn pool(limits: &Limits) -> InstanceAllocationStrategy {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let calls = count(limits.calls_max);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_stacks(calls)
        .total_core_instances(calls.saturating_mul(count(limits.instances_max)))
        .total_memories(calls.saturating_mul(POOLED_MEMORIES_MAX))
        .total_tables(calls.saturating_mul(POOLED_TABLES_MAX))
        .max_core_instances_per_component(count(limits.instances_max))
        .max_memories_per_component(POOLED_MEMORIES_MAX)
        .max_tables_per_component(POOLED_TABLES_MAX)
        .max_memory_size(limits.memory_bytes_max)
        .table_elements(limits.table_elements_max)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    InstanceAllocationStrategy::Pooling(pool)
}

/// Advances the engines' epochs. A plain thread: it has to go on when every thread of the async runtime is busy.
struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    fn start(engines: [EngineWeak; 2]) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new().name("kit-ticks".to_owned()).stack_size(64 << 10).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(contract::TICK_MS));
                for engine in &engines {
                    if let Some(engine) = engine.upgrade() {
                        engine.increment_epoch();
                    }
                }
            }
        })?;
        Ok(Self { stop })
    }
}

impl Drop for Ticker {
    /// It ends within a tick; nobody has to wait for that.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hash, Hasher};

    use super::*;

    #[test]
    fn one_compiled_kit_serves_either_engine() {
        let engines = Engines::new(&Limits { calls_max: 2, ..Limits::default() }).unwrap();
        let hash = |engine: &Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(&engines.pooled), hash(&engines.on_demand));
    }

    #[test]
    fn the_default_pool_fits_into_the_address_space() {
        Engines::new(&Limits::default()).unwrap();
    }

    #[test]
    fn limits_that_cannot_be_met_are_an_error_with_advice() {
        let limits = Limits { wasm_stack_bytes_max: 0, ..Limits::default() };
        let error = Engines::new(&limits).err().unwrap().to_string();
        assert!(error.contains("Lower the limits"), "{error}");
    }
}
