//! The runtime: engines, cache, and loading.
//!
//! Loading goes: examine the bytes (`inspect.rs`), take the compiled kit from the cache or compile it, link what
//! it imports, compare types. One kit at a time, on a thread that may block: compiling is the one thing here
//! whose time a hostile file can choose.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker};

use crate::bindings::{KitIndices, deep::DeepKitIndices, mainstay::kit as wit, ready::ReadyKitIndices};
use crate::cache::Cache;
use crate::capability::CallState;
use crate::engine::Engines;
use crate::error::{LoadError, RuntimeError, Subject};
use crate::fit;
use crate::host::Host;
use crate::inspect::{Examined, examine, hex};
use crate::interfaces::{DEEP_CHECK, READINESS, exports};
use crate::kit::{Kit, Linked, Placement};
use crate::limits::{Limits, RuntimeConfig, contract};
use crate::meter;
use crate::slots::Slots;
use crate::wasi;

/// In what linear memory is counted.
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Loads kits and lends them what they run on. Cheap to clone; a loaded [`Kit`] keeps it alive.
///
/// Calls need a tokio runtime with time and I/O enabled, of more than one thread unless only one kit computes.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) engines: Engines,
    pub(crate) host: Arc<Host>,
    pub(crate) slots: Slots,
    cache: Cache,
    /// One kit is compiled at a time.
    compiling: Mutex<()>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("limits", &self.0.host.limits).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Sets up the engines and opens the cache.
    ///
    /// # Errors
    /// When there is not enough address space for the limits, or the cache folder is not the host's own.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let RuntimeConfig { cache_dir, limits } = config;
        let engines = Engines::new(&limits)?;
        let cache = Cache::open(&cache_dir, &engines.pooled, &limits)?;
        let slots = Slots::new(&limits);
        Ok(Self(Arc::new(Shared {
            engines,
            slots,
            cache,
            compiling: Mutex::new(()),
            host: Arc::new(Host::new(limits)),
        })))
    }

    /// Loads the kit in `file`. Once begun it goes on if the future is dropped; then what it compiled is in the cache.
    ///
    /// # Errors
    /// One for each reason not to; see [`LoadError`].
    pub async fn load(&self, file: &Path) -> Result<Arc<Kit>, LoadError> {
        let (runtime, file) = (Arc::clone(&self.0), file.to_owned());
        let subject = Subject { file: file.clone(), kit: None };
        match tokio::task::spawn_blocking(move || runtime.load(&file)).await {
            Ok(loaded) => loaded,
            Err(panic) => Err(LoadError::CompilerPanic { subject, problem: last_words(panic) }),
        }
    }

    /// From now on it asks systemd over the bus at this address, and not over the system's own or that of the variable
    /// `DBUS_SYSTEM_BUS_ADDRESS`.
    #[cfg(unix)]
    pub fn use_system_bus(&self, address: impl Into<String>) {
        self.0.host.system.use_bus(address.into());
    }

    /// The limits it was made with.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.host.limits
    }

    /// The engine that most kits run on, for a benchmark that compares with bare wasmtime on equal terms.
    #[doc(hidden)]
    #[must_use]
    pub fn pooled_engine(&self) -> &Engine {
        &self.0.engines.pooled
    }
}

fn last_words(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => meter::last_words(panic.as_ref()),
        Err(_) => "the host is shutting down".to_owned(),
    }
}

impl Shared {
    fn load(self: &Arc<Self>, file: &Path) -> Result<Arc<Kit>, LoadError> {
        let examined = examine(file, &self.host.limits)?;
        let (component, placement, from_cache) = self.component(&examined)?;
        let engine = match placement {
            Placement::Pooled => &self.engines.pooled,
            Placement::OnDemand { .. } => &self.engines.on_demand,
        };
        let linked = link(engine, &component, &examined).map_err(|error| mismatch(&examined.subject, &error))?;
        if let Placement::OnDemand { why } = &placement {
            tracing::info!(file = %file.display(), %why, "this kit does not fit the pool: its calls cost more");
        }
        Ok(Arc::new(Kit::new(Arc::clone(self), examined, linked, placement, from_cache)))
    }

    /// From the cache, or compiled; on the pooled engine if it fits there.
    fn component(&self, examined: &Examined) -> Result<(Component, Placement, bool), LoadError> {
        if let Some(compiled) = self.cache.take(&examined.sha256) {
            match self.place(&compiled, &examined.subject) {
                Ok((component, placement)) => return Ok((component, placement, true)),
                Err(error) => tracing::warn!(%error, "a compiled kit cannot be used; it is compiled again"),
            }
        }
        let compiled = {
            let _one_at_a_time = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
            self.engines.pooled.precompile_component(&examined.bytes)
        };
        let compiled = compiled
            .map_err(|error| LoadError::Compile { subject: examined.subject.clone(), problem: format!("{error:#}") })?;
        let (component, placement) = self.place(&compiled, &examined.subject)?;
        self.cache.keep(&examined.sha256, &compiled);
        Ok((component, placement, false))
    }

    fn place(&self, compiled: &[u8], subject: &Subject) -> Result<(Component, Placement), LoadError> {
        let deserialize = |engine: &Engine| {
            // SAFETY: these bytes were made by `precompile_component` of an engine with the same settings: just now,
            // or they come from the cache, which gives back only what this host wrote (`cache.rs`).
            unsafe { Component::deserialize(engine, compiled) }
        };
        let why = match deserialize(&self.engines.pooled) {
            Ok(component) => return Ok((component, Placement::Pooled)),
            Err(error) => format!("{error:#}"),
        };
        let does_not_fit = |problem| LoadError::DoesNotFit { subject: subject.clone(), problem };
        let component = deserialize(&self.engines.on_demand).map_err(|error| does_not_fit(format!("{error:#}")))?;
        let limits = &self.host.limits;
        // The on-demand engine has no limits of its own until a call is made; what can be known is told now.
        if let Some(needed) = component.resources_required() {
            let memory_bytes = needed.max_initial_memory_size.unwrap_or(0).saturating_mul(WASM_PAGE_BYTES);
            for (what, needed, allowed) in [
                ("linear memories", u64::from(needed.num_memories), limits.memories_max),
                ("tables", u64::from(needed.num_tables), limits.tables_max),
                ("bytes of memory to begin with", memory_bytes, limits.big_memory_bytes_max),
                (
                    "elements in a table to begin with",
                    needed.max_initial_table_size.unwrap_or(0),
                    limits.big_table_elements_max,
                ),
            ] {
                let allowed = allowed as u64;
                if needed > allowed {
                    return Err(does_not_fit(format!("{needed} {what}, {allowed} are allowed")));
                }
            }
        }
        Ok((component, Placement::OnDemand { why }))
    }
}

/// Links what the kit imports, and compares the types of imports and exports.
fn link(engine: &Engine, component: &Component, examined: &Examined) -> wasmtime::Result<Linked> {
    type Own = HasSelf<CallState>;
    let mut linker = Linker::<CallState>::new(engine);
    let linker = &mut linker;
    wit::types::add_to_linker::<_, Own>(linker, |state| state)?;
    for capability in &examined.capabilities {
        match *capability {
            "log" => wit::log::add_to_linker::<_, Own>(linker, |state| state)?,
            "clock" => wit::clock::add_to_linker::<_, Own>(linker, |state| state)?,
            "random" => wit::random::add_to_linker::<_, Own>(linker, |state| state)?,
            "command" => wit::command::add_to_linker::<_, Own>(linker, |state| state)?,
            "net" => wit::net::add_to_linker::<_, Own>(linker, |state| state)?,
            "store" => wit::store::add_to_linker::<_, Own>(linker, |state| state)?,
            "secret" => wit::secret::add_to_linker::<_, Own>(linker, |state| state)?,
            "volume" => wit::volume::add_to_linker::<_, Own>(linker, |state| state)?,
            "mount" => wit::mount::add_to_linker::<_, Own>(linker, |state| state)?,
            "service" => wit::service::add_to_linker::<_, Own>(linker, |state| state)?,
            other => wasmtime::bail!("`{other}` is among the capabilities and is not implemented"),
        }
    }
    if examined.wasi {
        wasi::add_to_linker(linker)?;
    }
    let pre = linker.instantiate_pre(component)?;
    let recovery = KitIndices::new(&pre)?;
    fit::check(engine, component)?;
    let has = |ability| examined.abilities.iter().any(|name| exports(name, ability));
    let readiness = has(READINESS).then(|| ReadyKitIndices::new(&pre)).transpose()?;
    let deep_check = has(DEEP_CHECK).then(|| DeepKitIndices::new(&pre)).transpose()?;
    Ok(Linked { pre, recovery, readiness, deep_check })
}

fn mismatch(subject: &Subject, error: &wasmtime::Error) -> LoadError {
    LoadError::Mismatch {
        subject: subject.clone(),
        contract: contract::VERSION.to_string(),
        difference: crate::text::one_line(&format!("{error:#}"), 600),
    }
}

/// What a kit keeps of its file.
pub(crate) struct Origin {
    pub(crate) path: PathBuf,
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

impl Origin {
    pub(crate) fn of(examined: &Examined) -> Self {
        Self { path: examined.subject.file.clone(), sha256: hex(&examined.sha256), bytes: examined.bytes.len() as u64 }
    }
}
