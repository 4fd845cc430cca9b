//! System services of this node: those that are granted, by name. Units of systemd on Linux, services of the service control
//! manager on Windows.
//!
//! In which order they are started and stopped is the kit's to know. Every function may be called again: it finds out how the
//! service is and goes on. A time of none is what is left of the call, less a second to answer.
//!
//! ```no_run
//! # fn main() -> Result<(), mainstay_sdk::Fault> {
//! use std::time::Duration;
//! use mainstay_sdk::service;
//! for name in ["MSExchangeADTopology", "MSExchangeIS"] {
//!     service::start(name, Some(Duration::from_secs(60)))?;
//! }
//! assert!(service::query("MSExchangeIS")?.runs());
//! # Ok(()) }
//! ```

use std::fmt;
use std::time::Duration;

use crate::{Details, Fault, seam};

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Does not run: it ended in order, or never ran.
    Stopped,
    /// On its way to running.
    StartPending,
    /// Runs.
    Running,
    /// On its way to being stopped.
    StopPending,
    /// Holds still, until somebody lets it go on (Windows).
    Paused,
    /// Does not run and ought to: it ended by itself, it was killed, or its process is gone although it is called running.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::StartPending => "start-pending",
            Self::Running => "running",
            Self::StopPending => "stop-pending",
            Self::Paused => "paused",
            Self::Failed => "failed",
        })
    }
}

/// How a service comes up by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartType {
    /// With the node.
    Automatic,
    /// When somebody starts it, or something that needs it.
    Manual,
    /// Not at all: a start is refused.
    Disabled,
    /// Otherwise; the details tell.
    Other,
}

/// What is known of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How it is.
    pub state: State,
    /// Its main process, where there is one.
    pub pid: Option<u32>,
    /// How it comes up by itself.
    pub start_type: StartType,
    /// A sentence for people: how it is, and for [`State::Failed`] why.
    pub summary: String,
    /// The system's own words; their keys are listed in `wit/README.md`.
    pub details: Details,
}

impl Standing {
    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.state == State::Running
    }

    /// Whether nothing of it runs and nothing is about to: it is stopped or has failed.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Stopped | State::Failed)
    }
}

/// How it is. Changes nothing.
///
/// # Errors
/// `denied` when it is not granted; code `no-such-service` when it is not installed, here and everywhere;
/// `service-manager` when who knows of services does not answer.
pub fn query(name: &str) -> Result<Standing, Fault> {
    seam::service_query(name)
}

/// Runs when this returns. False: it ran already.
///
/// # Errors
/// Code `service-disabled`; `service-failed` when it ended again, and the message says how; `timeout`, and the message says
/// in which state it hangs, and its pid; `service-denied` when the host may not start it.
pub fn start(name: &str, time: Option<Duration>) -> Result<bool, Fault> {
    seam::service_start(name, time.map(crate::ms))
}

/// Does not run when this returns, and is not started again by the system. False: it did not run. Where the system can forget
/// that it had failed, it counts as stopped from then on.
///
/// # Errors
/// `timeout` when it does not stop: the message has the pid, and [`end_processes`] would end it; `service-denied` when the host
/// may not stop it.
pub fn stop(name: &str, time: Option<Duration>) -> Result<bool, Fault> {
    seam::service_stop(name, time.map(crate::ms))
}

/// Waits until it is in this state; how it is then.
///
/// # Errors
/// `timeout` when that does not come; the message says how it is.
pub fn wait(name: &str, state: State, time: Option<Duration>) -> Result<Standing, Fault> {
    seam::service_wait(name, state, time.map(crate::ms))
}

/// Ends all its processes at once, for one that does not stop: it is asked for nothing and cannot refuse. Does not run when
/// this returns. False: there were none.
///
/// # Errors
/// Code `shared-process` when another service would be ended with it; `timeout` when they are not gone.
pub fn end_processes(name: &str, time: Option<Duration>) -> Result<bool, Fault> {
    seam::service_end_processes(name, time.map(crate::ms))
}
