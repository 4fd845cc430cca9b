//! `service`: granted services of the system: units of systemd over D-Bus, services of the service control manager on Windows.
//!
//! It asks `grants.rs`, and gives what is done the time that the call has. `drive.rs` asks and waits, `look.rs` decides what a
//! look means, `unit.rs` and `scm.rs` what the words of their system come to; `systemd.rs` and `windows.rs` ask their system
//! and decide nothing. A manager of services that does not answer costs its callers their time, and nobody else anything.

mod drive;
mod look;
#[cfg(any(windows, test))]
mod scm;
#[cfg(unix)]
mod systemd;
#[cfg(any(unix, test))]
mod unit;
#[cfg(windows)]
mod windows;

use std::sync::Arc;

use crate::bindings::mainstay::kit::service::{Host, Standing, State};
use crate::capability::{CallState, Fault};
use drive::Drive;

#[cfg(windows)]
pub(crate) use scm::name_problem;
#[cfg(unix)]
pub(crate) use systemd::Systemd as System;
#[cfg(unix)]
pub(crate) use unit::name_problem;
#[cfg(windows)]
pub(crate) use windows::ControlManager as System;

/// What is passed on of the words of a system or a service, in bytes: a sentence, not a log.
const WORDS_BYTES_MAX: usize = 500;

impl CallState {
    /// A service that is granted, and the time that the call has for it.
    fn service<'a>(
        &self,
        doing: &'static str,
        name: &'a str,
        asked_ms: Option<u32>,
        system: &'a System,
    ) -> Result<Drive<'a, System>, Fault> {
        self.services.grants.service(&self.asker, doing, name)?;
        let limit = self.limit(asked_ms);
        let grace = self.remaining().saturating_sub(limit) / 2;
        Ok(Drive::new(system, name, limit, grace))
    }
}

impl Host for CallState {
    async fn query(&mut self, name: String) -> wasmtime::Result<Result<Standing, Fault>> {
        let _entered = self.enter("service.query", name.as_str());
        let host = Arc::clone(&self.host);
        Ok(match self.service("query", &name, None, &host.system) {
            Ok(drive) => drive.query().await.map_err(Fault::from),
            Err(fault) => Err(fault),
        })
    }

    async fn start(&mut self, name: String, timeout_ms: Option<u32>) -> wasmtime::Result<Result<bool, Fault>> {
        let _entered = self.enter("service.start", name.as_str());
        let host = Arc::clone(&self.host);
        Ok(match self.service("start", &name, timeout_ms, &host.system) {
            Ok(drive) => drive.start().await.map_err(Fault::from),
            Err(fault) => Err(fault),
        })
    }

    async fn stop(&mut self, name: String, timeout_ms: Option<u32>) -> wasmtime::Result<Result<bool, Fault>> {
        let _entered = self.enter("service.stop", name.as_str());
        let host = Arc::clone(&self.host);
        Ok(match self.service("stop", &name, timeout_ms, &host.system) {
            Ok(drive) => drive.stop().await.map_err(Fault::from),
            Err(fault) => Err(fault),
        })
    }

    async fn wait(
        &mut self,
        name: String,
        state: State,
        timeout_ms: Option<u32>,
    ) -> wasmtime::Result<Result<Standing, Fault>> {
        let _entered = self.enter("service.wait", name.as_str());
        let host = Arc::clone(&self.host);
        Ok(match self.service("wait for", &name, timeout_ms, &host.system) {
            Ok(drive) => drive.wait(state).await.map_err(Fault::from),
            Err(fault) => Err(fault),
        })
    }

    async fn end_processes(&mut self, name: String, timeout_ms: Option<u32>) -> wasmtime::Result<Result<bool, Fault>> {
        let _entered = self.enter("service.end-processes", name.as_str());
        let host = Arc::clone(&self.host);
        Ok(match self.service("end processes of", &name, timeout_ms, &host.system) {
            Ok(drive) => drive.end_processes().await.map_err(Fault::from),
            Err(fault) => Err(fault),
        })
    }
}
