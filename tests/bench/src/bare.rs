//! The peer of a kit call: wasmtime alone, called as its documentation would have it for many short calls.
//!
//! A fresh store for every call and the async call, as mainstay has it; no grants, no budget, no limits on what the
//! guest may take, no answer that is cleaned and bounded. What mainstay adds is what these leave out.

use std::num::NonZeroUsize;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

use crate::trouble::Trouble;

mod bindings {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::pedantic,
        clippy::wildcard_enum_match_arm,
        reason = "generated from wit/, where it is documented"
    )]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "kit",
        imports: { default: async | trappable },
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// Epochs until a call would be ended; none advances them here, so that the check costs what it costs and ends nothing.
const EPOCHS_MAX: u64 = 1_000_000;

struct State;

impl bindings::mainstay::kit::types::Host for State {}

/// A kit that imports nothing, on an engine.
pub struct BareKit {
    pre: bindings::KitPre<State>,
    context: bindings::exports::mainstay::kit::recovery::Context,
}

impl BareKit {
    /// Compiles the component for this engine.
    ///
    /// # Errors
    /// When it cannot be compiled, or imports something.
    pub fn new(engine: &Engine, wasm: &[u8]) -> Result<Self, Trouble> {
        let mut linker = Linker::<State>::new(engine);
        let linked = bindings::mainstay::kit::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state);
        let pre = linked
            .and_then(|()| Component::new(engine, wasm))
            .and_then(|component| linker.instantiate_pre(&component))
            .and_then(bindings::KitPre::new)
            .map_err(Trouble::Bare)?;
        let context = bindings::exports::mainstay::kit::recovery::Context {
            tag: "r0".to_owned(),
            node: "n".to_owned(),
            params: "{}".to_owned(),
            operation_id: "1".to_owned(),
            attempt: 1,
            epoch: 1,
            budget_ms: 30_000,
            hints: Vec::new(),
        };
        Ok(Self { pre, context })
    }

    /// One quick-check.
    ///
    /// # Errors
    /// When the kit traps or is not well.
    pub async fn quick_check(&self) -> Result<(), Trouble> {
        let mut store = Store::new(self.pre.engine(), State);
        store.set_epoch_deadline(EPOCHS_MAX);
        let kit = self.pre.instantiate_async(&mut store).await.map_err(Trouble::Bare)?;
        let answer = kit.mainstay_kit_recovery().call_quick_check(&mut store, &self.context).await;
        match answer.map_err(Trouble::Bare)? {
            Ok(_) => Ok(()),
            Err(error) => Err(Trouble::Unexpected("a bare quick-check", format!("{error:?}"))),
        }
    }
}

/// An engine for many short calls of small components: a pool of memories, tables and stacks that keeps what a small
/// guest touches, epochs, and little address space for each memory.
///
/// # Errors
/// When the pool finds no address space.
pub fn tuned_engine() -> Result<Engine, Trouble> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(64)
        .total_core_instances(256)
        .total_memories(64)
        .total_tables(128)
        .total_stacks(64)
        .max_memory_size(64 << 20)
        .max_memories_per_component(4)
        .max_core_instances_per_component(16)
        .linear_memory_keep_resident(256 << 10);
    engine(InstanceAllocationStrategy::Pooling(pool))
}

/// The same without a pool: everything is made for each call.
///
/// # Errors
/// When wasmtime refuses the settings.
pub fn on_demand_engine() -> Result<Engine, Trouble> {
    engine(InstanceAllocationStrategy::OnDemand)
}

fn engine(strategy: InstanceAllocationStrategy) -> Result<Engine, Trouble> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_memory64(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .memory_reservation(128 << 20)
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        .wasm_backtrace_max_frames(NonZeroUsize::new(20))
        .allocation_strategy(strategy);
    Engine::new(&config).map_err(Trouble::Bare)
}
