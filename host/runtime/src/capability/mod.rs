//! The contract's capabilities, one module each, and what they stand on: the state of one call.
//!
//! Every function here that may wait is entered through [`CallState::enter`], so that it is known where a call
//! hangs, and has a deadline of its own that lies before the call's. Whether something is allowed is asked of
//! `grants.rs` and decided nowhere else.

mod clock;
pub(crate) mod command;
pub(crate) mod log;
pub(crate) mod mount;
pub(crate) mod net;
mod random;
mod secret;
pub(crate) mod service;
pub(crate) mod store;
mod tls;
mod volume;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::WasiCtx;

use crate::bindings::mainstay::kit::types;
use crate::grants::{Asker, NotGranted};
use crate::host::{Blocked, Host};
use crate::limiter::Limiter;
use crate::limits::contract;
use crate::meter::Meter;
use crate::outcome::Inside;
use crate::services::ResourceServices;

pub(crate) use secret::read as read_secret;
pub(crate) use service::name_problem as service_name_problem;
pub(crate) use types::{Fault, FaultKind};

/// How much is kept of what a host function is doing, in bytes: a command line.
const DOING_BYTES_MAX: usize = 500;

/// The data of one call's store.
pub(crate) struct CallState {
    pub(crate) watch: Arc<Watch>,
    pub(crate) asker: Asker,
    pub(crate) operation: &'static str,
    pub(crate) operation_id: Arc<str>,
    pub(crate) services: Arc<ResourceServices>,
    pub(crate) host: Arc<Host>,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) sockets: usize,
    /// Made when a kit first uses WASI.
    pub(crate) wasi: Option<Box<WasiCtx>>,
}

impl CallState {
    /// What is left until the call is dropped.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How long a host function may take: as asked, and never so long that the kit could not answer any more.
    pub(crate) fn limit(&self, asked_ms: Option<u32>) -> Duration {
        let remaining = self.remaining();
        let answer = Duration::from_millis(contract::ANSWER_MS);
        let limit = remaining.saturating_sub(answer).max(remaining / 2);
        asked_ms.map_or(limit, |ms| limit.min(Duration::from_millis(ms.into())))
    }

    /// Notes that the call is inside `function`, until what is returned is dropped.
    pub(crate) fn enter(&self, function: &'static str, doing: impl Into<String>) -> Entered {
        *self.watch.inside() = Some(Activity { function, doing: doing.into(), since: Instant::now() });
        Entered(Arc::clone(&self.watch))
    }
}

/// What is seen of a call from outside of it.
pub(crate) struct Watch {
    pub(crate) meter: Arc<Meter>,
    pub(crate) command: command::Slot,
    inside: Mutex<Option<Activity>>,
}

struct Activity {
    function: &'static str,
    doing: String,
    since: Instant,
}

impl Watch {
    pub(crate) fn new(meter: Meter) -> Self {
        Self { meter: Arc::new(meter), command: command::Slot::default(), inside: Mutex::new(None) }
    }

    /// Where the call is now.
    pub(crate) fn is_inside(&self) -> Option<Inside> {
        self.inside().as_ref().map(|activity| Inside {
            function: activity.function,
            doing: crate::text::one_line(&activity.doing, DOING_BYTES_MAX),
            for_ms: ms(activity.since.elapsed()),
        })
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Option<Activity>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Being inside a host function.
pub(crate) struct Entered(Arc<Watch>);

impl Drop for Entered {
    fn drop(&mut self) {
        *self.0.inside() = None;
    }
}

/// Whole milliseconds.
pub(crate) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A fault for the kit.
pub(crate) fn fault(kind: FaultKind, code: &str, message: impl Into<String>) -> Fault {
    Fault { kind, code: code.to_owned(), message: message.into() }
}

impl From<NotGranted> for Fault {
    fn from(refused: NotGranted) -> Self {
        fault(FaultKind::Denied, "not-granted", refused.0)
    }
}

/// What blocked a thread did not come back.
pub(crate) fn blocked(what: &str, blocked: Blocked) -> Fault {
    let (kind, code) = match blocked {
        Blocked::Timeout => (FaultKind::Timeout, "timeout"),
        Blocked::Panic => (FaultKind::Failed, "host"),
    };
    fault(kind, code, format!("{what}: {blocked}"))
}

impl types::Host for CallState {}
