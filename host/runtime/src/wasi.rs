//! WASI 0.2, closed down: what a component of another language finds when it looks around.
//!
//! No files, no environment, no arguments, no sockets, an empty standard input; clocks and randomness as usual;
//! output goes to the log, line by line, under the limits of the log; exit ends the call as a trap. It reaches
//! nothing that would have to be granted, so a kit need not declare it. Which interfaces there are is a fixed
//! list in `interfaces.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::AsyncWrite;
use wasmtime::component::Linker;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::bytes::Bytes;
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamResult};

use crate::bindings::mainstay::kit::log::Level;
use crate::capability::CallState;
use crate::capability::log::Sink;
use crate::limits::contract::RANDOM_BYTES_MAX;

/// How much a kit may write at once to its output: wasmtime's own usual figure.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Adds every interface of the list; a kit is linked with those that it imports.
pub(crate) fn add_to_linker(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        if self.wasi.is_none() {
            self.wasi = Some(Box::new(closed_down(self.sink())));
        }
        let ctx = self.wasi.as_mut().expect("made just now if it was not there");
        WasiCtxView { ctx, table: &mut self.table }
    }
}

fn closed_down(sink: Sink) -> WasiCtx {
    let mut builder = WasiCtx::builder();
    builder
        .stdout(Output::new(sink.clone(), Level::Info))
        .stderr(Output::new(sink, Level::Warn))
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .max_random_size(RANDOM_BYTES_MAX.into());
    builder.build()
}

/// Standard output or error: cuts what is written into lines.
#[derive(Clone)]
struct Output(Arc<Mutex<Lines>>);

struct Lines {
    sink: Sink,
    level: Level,
    unfinished: Vec<u8>,
    line_bytes_max: usize,
}

impl Output {
    fn new(sink: Sink, level: Level) -> Self {
        let line_bytes_max = sink.line_bytes_max();
        Self(Arc::new(Mutex::new(Lines { sink, level, unfinished: Vec::new(), line_bytes_max })))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            // What is longer than a line is cut by the sink; a little more is kept so that it says so.
            let room = (self.line_bytes_max + 1).saturating_sub(self.unfinished.len());
            self.unfinished.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.unfinished);
        if !line.is_empty() {
            self.sink.line(self.level, &String::from_utf8_lossy(&line), "");
        }
    }
}

impl Drop for Lines {
    /// The last line need not end with a line break, least of all that of a kit that broke.
    fn drop(&mut self) {
        self.end_line();
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    /// For WASI 0.3, which is not linked: nothing is ever written there.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lock().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
