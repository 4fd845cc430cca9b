//! `log`: a kit's lines in the host's log, and a WASI kit's output with them.
//!
//! Never fails and never waits. What is too long is cut, what comes too fast is dropped and counted, and the
//! count is told with the next line that gets through, or at the end of the call: a kit that floods costs a
//! bounded number of lines and nobody else any.

use std::fmt::Write;
use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

use crate::bindings::mainstay::kit::log::{Host, Level};
use crate::bindings::mainstay::kit::types::Details;
use crate::capability::CallState;
use crate::grants::Asker;
use crate::limits::Limits;
use crate::services::ResourceServices;
use crate::text::one_line;

/// The tracing target of kits' own lines.
pub const KIT_LOG: &str = "mainstay::kit";

/// Where one call's lines go.
#[derive(Clone)]
pub(crate) struct Sink {
    services: Arc<ResourceServices>,
    asker: Asker,
    operation: &'static str,
    line_bytes_max: usize,
    burst_max: u32,
    per_s_max: u32,
}

impl Sink {
    pub(crate) fn new(services: Arc<ResourceServices>, asker: Asker, operation: &'static str, limits: &Limits) -> Self {
        Self {
            services,
            asker,
            operation,
            line_bytes_max: limits.log_line_bytes_max,
            burst_max: limits.log_lines_burst_max,
            per_s_max: limits.log_lines_per_s_max,
        }
    }

    /// What a line may have; more is cut.
    pub(crate) fn line_bytes_max(&self) -> usize {
        self.line_bytes_max
    }

    /// One line.
    pub(crate) fn line(&self, level: Level, message: &str, fields: &str) {
        let taken = {
            let mut bucket = self.services.log.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(Instant::now(), self.burst_max, self.per_s_max)
        };
        let Some(dropped) = taken else { return };
        self.tell_dropped(dropped);
        let (tag, kit, operation) = (&*self.asker.tag, &*self.asker.kit, self.operation);
        // One line each, or a kit could forge lines of others.
        let message = one_line(message, self.line_bytes_max);
        match level {
            Level::Debug => tracing::debug!(target: KIT_LOG, tag, kit, operation, fields, "{message}"),
            Level::Info => tracing::info!(target: KIT_LOG, tag, kit, operation, fields, "{message}"),
            Level::Warn => tracing::warn!(target: KIT_LOG, tag, kit, operation, fields, "{message}"),
            Level::Error => tracing::error!(target: KIT_LOG, tag, kit, operation, fields, "{message}"),
        }
    }

    /// Tells what was dropped since it was last told.
    pub(crate) fn end(&self) {
        let dropped = {
            let mut bucket = self.services.log.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take_dropped()
        };
        self.tell_dropped(dropped);
    }

    fn tell_dropped(&self, dropped: u64) {
        if dropped > 0 {
            let (tag, kit, operation) = (&*self.asker.tag, &*self.asker.kit, self.operation);
            let (burst_max, per_s_max) = (self.burst_max, self.per_s_max);
            tracing::warn!(
                target: KIT_LOG, tag, kit, operation, dropped,
                "{dropped} lines of this kit were dropped: more than {burst_max} in a row and {per_s_max} per second"
            );
        }
    }
}

impl CallState {
    /// Where this call's lines go.
    pub(crate) fn sink(&self) -> Sink {
        Sink::new(Arc::clone(&self.services), self.asker.clone(), self.operation, &self.host.limits)
    }
}

impl Host for CallState {
    fn emit(&mut self, level: Level, message: String, fields: Details) -> wasmtime::Result<()> {
        let sink = self.sink();
        let mut line = String::new();
        for (key, value) in fields {
            let room = sink.line_bytes_max.saturating_sub(message.len().saturating_add(line.len()));
            if room == 0 {
                break;
            }
            let gap = if line.is_empty() { "" } else { " " };
            // A String takes everything.
            let _ = write!(line, "{gap}{}={}", one_line(&key, room.min(100)), one_line(&value, room));
        }
        sink.line(level, &message, &line);
        Ok(())
    }
}
