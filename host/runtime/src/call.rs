//! One call of a kit, from the slot it runs in to what is gone before it returns.
//!
//! A fresh store for every call. The call ends by an answer, a trap, its processor time, its budget or the word
//! of the caller; in every case the store is dropped and whatever the kit had started is ended and awaited
//! before the outcome is given. What the call was doing when it was stopped is kept as evidence.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use wasmtime::Store;
use wasmtime::component::ResourceTable;

use crate::bindings::exports::mainstay::kit::recovery::Context;
use crate::capability::log::Sink;
use crate::capability::{CallState, Watch, ms};
use crate::convert;
use crate::fault::{self, Stopped};
use crate::grants::Asker;
use crate::kit::{Kit, Placement};
use crate::limiter::{Allowance, Limiter};
use crate::meter::{Meter, Metered, Panicked};
use crate::outcome::{Details, Evidence, Fault, FaultKind, Operation, Outcome};
use crate::services::ResourceServices;

/// What is asked of a kit.
#[derive(Debug, Clone)]
pub struct Call {
    /// What to do.
    pub operation: Operation,
    /// Of the resource.
    pub tag: Arc<str>,
    /// This node.
    pub node: Arc<str>,
    /// The resource's params on this node, as JSON, checked against the kit's schema before.
    pub params: Arc<str>,
    /// The same for all attempts of one operation.
    pub operation_id: Arc<str>,
    /// 1 for the first.
    pub attempt: u32,
    /// The hierarchy's ownership epoch.
    pub epoch: u64,
    /// For everything: waiting for a slot, starting, running; at most 30 days. When it is over the call is dropped.
    pub budget: Duration,
    /// `cause`, `force`, ...
    pub hints: Details,
    /// What the resource may reach. The caller makes one call for it at a time.
    pub resource: Arc<ResourceServices>,
}

/// The longest budget: longer is a slip of the pen, and times are added to it.
const BUDGET_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// How the work of a call ended.
#[allow(clippy::large_enum_variant, reason = "there is one per call, on the stack; a box would only cost time")]
enum End {
    Answer(Outcome),
    /// It broke by itself.
    Broke(fault::Broke),
    /// The host stopped it.
    Stopped(Stopped),
    /// The host itself broke down over it, with these words.
    Panicked(String),
}

impl Kit {
    /// Makes one call, and returns when nothing of it is left. `cancelled` takes it back. Has to run on a tokio runtime.
    ///
    /// If the future is dropped, what the call had started is ended in the background.
    pub async fn call(&self, call: Call, cancelled: impl Future<Output = ()> + Send) -> Outcome {
        let began = Instant::now();
        if let Some(outcome) = self.refuse(&call) {
            return outcome;
        }
        let limits = &self.runtime.host.limits;
        let turns = Arc::clone(&self.runtime.host.turns);
        let watch = Arc::new(Watch::new(Meter::new(limits.cpu_ms_max, turns)));
        let started = AtomicBool::new(false);
        let deadline = began + call.budget.min(BUDGET_MAX);
        let (end, inside) = {
            let work = std::pin::pin!(self.work(&call, &watch, &started, began, deadline));
            let work = Metered { future: work, meter: &watch.meter };
            tokio::select! {
                biased;
                end = work => (end.unwrap_or_else(|Panicked(words)| End::Panicked(words)), None),
                () = cancelled => (End::Stopped(Stopped::Cancelled), watch.is_inside()),
                () = sleep_until(deadline) => (End::Stopped(Stopped::Late), watch.is_inside()),
            }
        };
        // The store is gone, and with it every socket and every wait. What the kit ran may not be.
        let command = watch.command.end(Duration::from_millis(limits.command_end_ms_max)).await;
        if self.logs() {
            self.sink(&call).end();
        }
        self.asker(&call).end();
        let evidence = || Evidence {
            started: started.load(Ordering::Relaxed),
            wall_ms: ms(began.elapsed()),
            cpu_ms: watch.meter.used_ms(),
            inside,
            command,
            backtrace: Vec::new(),
        };
        match end {
            End::Answer(outcome) => outcome,
            End::Broke(broke) => Outcome::Fault(fault::broke(self, &call, broke, evidence())),
            End::Panicked(words) => Outcome::Fault(fault::panicked(self, &call, &words, evidence())),
            End::Stopped(stopped) => Outcome::Fault(fault::stopped(self, &call, stopped, evidence())),
        }
    }

    /// What is known before anything is started.
    fn refuse(&self, call: &Call) -> Option<Outcome> {
        let (kind, message) = if let Some(missing) = self.ungranted(&call.resource.grants) {
            (FaultKind::Denied, missing)
        } else if call.params.len() > self.runtime.host.limits.params_bytes_max {
            let (bytes, bytes_max) = (call.params.len(), self.runtime.host.limits.params_bytes_max);
            (
                FaultKind::Unavailable,
                format!("its params have {bytes} bytes as JSON, {bytes_max} are allowed; shorten them"),
            )
        } else {
            return None;
        };
        let message = format!("{}: {message}", fault::what(self, call));
        Some(Outcome::Fault(Fault { kind, message, evidence: Evidence::default() }))
    }

    async fn work(
        &self,
        call: &Call,
        watch: &Arc<Watch>,
        started: &AtomicBool,
        began: Instant,
        deadline: Instant,
    ) -> End {
        let _slot = self.slot(&call.operation).await;
        let mut store = self.store(call, watch, began, deadline);
        started.store(true, Ordering::Relaxed);
        match self.enter(&mut store, call).await {
            Ok(outcome) => End::Answer(outcome),
            Err(error) => End::Broke(fault::Broke { error, refused: store.data().limiter.refused() }),
        }
    }

    fn store(&self, call: &Call, watch: &Arc<Watch>, began: Instant, deadline: Instant) -> Store<CallState> {
        let limits = &self.runtime.host.limits;
        let (memory_bytes_max, table_elements_max) = match self.placement() {
            Placement::Pooled => (limits.memory_bytes_max, limits.table_elements_max),
            Placement::OnDemand { .. } => (limits.big_memory_bytes_max, limits.big_table_elements_max),
        };
        let allowance = Allowance {
            memory_bytes_max,
            table_elements_max,
            instances_max: limits.instances_max,
            memories_max: limits.memories_max,
            tables_max: limits.tables_max,
        };
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles_max);
        let state = CallState {
            watch: Arc::clone(watch),
            asker: self.asker(call),
            operation: call.operation.name(),
            operation_id: Arc::clone(&call.operation_id),
            services: Arc::clone(&call.resource),
            host: Arc::clone(&self.runtime.host),
            started: began,
            deadline,
            table,
            limiter: Limiter::new(&allowance),
            sockets: 0,
            wasi: None,
        };
        let mut store = Store::new(self.linked.pre.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.hostcall_bytes_max);
        store.set_max_component_handles(limits.handles_max);
        // Before anything is instantiated: a start function is guest code too.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| Ok(store.data().watch.meter.tick()?));
        store
    }

    /// Instantiates and calls.
    async fn enter(&self, store: &mut Store<CallState>, call: &Call) -> wasmtime::Result<Outcome> {
        let limits = &self.runtime.host.limits;
        let instance = self.linked.pre.instantiate_async(&mut *store).await?;
        let context = Context {
            tag: call.tag.to_string(),
            node: call.node.to_string(),
            params: call.params.to_string(),
            operation_id: call.operation_id.to_string(),
            attempt: call.attempt,
            epoch: call.epoch,
            budget_ms: u32::try_from(ms(store.data().remaining())).unwrap_or(u32::MAX),
            hints: call.hints.clone(),
        };
        let kit = self.linked.recovery.load(&mut *store, &instance)?;
        let kit = kit.mainstay_kit_recovery();
        let outcome = match &call.operation {
            Operation::Restore => {
                kit.call_restore(&mut *store, &context).await?.map(|done| Outcome::Done(convert::done(done, limits)))
            }
            Operation::Remove => {
                kit.call_remove(&mut *store, &context).await?.map(|done| Outcome::Done(convert::done(done, limits)))
            }
            Operation::QuickCheck => kit
                .call_quick_check(&mut *store, &context)
                .await?
                .map(|report| Outcome::Report(convert::report(report, limits))),
            Operation::Recover(failure) => kit
                .call_recover(&mut *store, &context, &convert::failure(failure))
                .await?
                .map(|result| Outcome::Recovery(convert::recovery_result(result, limits))),
            Operation::DeepCheck => {
                let Some(deep_check) = &self.linked.deep_check else {
                    wasmtime::bail!("{} has no ability `deep-check`", self.title)
                };
                let deep = deep_check.load(&mut *store, &instance)?;
                deep.mainstay_kit_deep_check()
                    .call_deep_check(&mut *store, &context)
                    .await?
                    .map(|report| Outcome::Report(convert::report(report, limits)))
            }
            Operation::Assess => {
                let Some(readiness) = &self.linked.readiness else {
                    wasmtime::bail!("{} has no ability `readiness`", self.title)
                };
                let ready = readiness.load(&mut *store, &instance)?;
                ready
                    .mainstay_kit_readiness()
                    .call_assess(&mut *store, &context)
                    .await?
                    .map(|found| Outcome::Findings(convert::findings(found, limits)))
            }
        };
        Ok(outcome.unwrap_or_else(|error| Outcome::Error(convert::error(error, limits))))
    }

    fn asker(&self, call: &Call) -> Asker {
        Asker {
            tag: Arc::clone(&call.tag),
            kit: Arc::clone(&self.title),
            operation: call.operation.name(),
            audit: Arc::clone(&call.resource.audit),
        }
    }

    fn sink(&self, call: &Call) -> Sink {
        Sink::new(Arc::clone(&call.resource), self.asker(call), call.operation.name(), &self.runtime.host.limits)
    }
}
