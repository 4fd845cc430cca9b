//! Has somebody asked the demo to stop? Signals only set a flag, which every wait looks at: the demo then unwinds and
//! ends what it started. A second signal does not wait for that, and the shell that cleans up after a killed test does.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

use tokio::signal::unix::{SignalKind, signal};

/// The signal that came first; 0: none.
static ASKED: AtomicI32 = AtomicI32::new(0);
/// What a shell adds to a signal's number for an exit code.
const SIGNAL_EXIT_CODE: i32 = 128;

/// From now on SIGINT, SIGTERM and SIGHUP (the terminal is closed) are listened to. To be called on a tokio runtime.
pub(crate) fn listen() -> io::Result<()> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind)?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if asked().is_some() {
                    std::process::exit(exit_code(kind.as_raw_value()));
                }
                ask(kind.as_raw_value());
            }
        });
    }
    Ok(())
}

/// Asks the demo to stop, as if this signal had come.
pub(crate) fn ask(signal: i32) {
    // The first one counts: it says why.
    let _ = ASKED.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
}

/// The signal that asked, if any did.
pub(crate) fn asked() -> Option<i32> {
    match ASKED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// What a process ends with that a signal has ended.
pub(crate) fn exit_code(signal: i32) -> i32 {
    SIGNAL_EXIT_CODE + signal
}
