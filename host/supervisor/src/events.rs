//! All that a supervisor waits for, in one place: its children's ends, a cancel, writes to the output, and time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::output::Output;
use crate::sys::{self, Reaped};
use crate::types::Ending;

/// Longest single wait, in ms: `poll` counts in 32 bits.
const WAIT_MS_MAX: u128 = 3_600_000;
/// Wait after a failure of the wait itself, in ms, so that it cannot become a busy loop.
const FAILED_WAIT_MS: u64 = 100;

/// Blocks every signal and gives the descriptor by which those that matter arrive. The others are lost, which is
/// right for a process that must outlive whoever sends them.
pub(crate) fn take_signals() -> io::Result<SignalFd> {
    SigSet::all().thread_block()?;
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGIO] {
        wanted.add(signal);
    }
    Ok(SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// What has happened so far.
#[derive(Debug)]
pub(crate) struct Events {
    signals: SignalFd,
    pub(crate) output: Output,
    program: Option<i32>,
    /// How and when the program ended.
    pub(crate) ended: Option<(Ending, Instant)>,
    /// Nothing is below this process.
    pub(crate) childless: bool,
    /// A cancel was asked for.
    pub(crate) cancelled: bool,
}

impl Events {
    /// `program`: the child whose end is to be noted, if there is one.
    pub(crate) fn new(signals: SignalFd, output: Output, program: Option<i32>) -> Self {
        Self { signals, output, program, ended: None, childless: program.is_none(), cancelled: false }
    }

    /// Waits until something has happened, `also` is readable, or `until` has come. True if `also` is readable.
    pub(crate) fn wait(&mut self, until: Option<Instant>, also: Option<BorrowedFd<'_>>) -> bool {
        let until = [until, self.output.look_at()].into_iter().flatten().min();
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(also.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut fds, timeout(until)) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Out of memory, at most.
            Err(_) => std::thread::sleep(Duration::from_millis(FAILED_WAIT_MS)),
        }
        let readable = fds.get(1).and_then(PollFd::any).unwrap_or(false);
        self.take_note();
        readable
    }

    fn take_note(&mut self) {
        let now = Instant::now();
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match Signal::try_from(signal.ssi_signo.cast_signed()) {
                Ok(Signal::SIGTERM) => self.cancelled = true,
                Ok(Signal::SIGCHLD) => self.reap(now),
                Ok(Signal::SIGIO) => self.output.was_told(now),
                // No other was asked for.
                Ok(_) | Err(_) => {}
            }
        }
        self.output.tend(now);
    }

    /// Collects every child that has ended: the program, and orphans of its tree.
    fn reap(&mut self, now: Instant) {
        loop {
            match sys::reap() {
                Ok(Reaped::Ended(pid, ending)) => {
                    if self.program == Some(pid) {
                        self.ended = Some((ending, now));
                    }
                }
                Ok(Reaped::NoChildren) => {
                    self.childless = true;
                    return;
                }
                // EINTR cannot be with every signal blocked; the next SIGCHLD comes here again.
                Ok(Reaped::Nobody) | Err(_) => return,
            }
        }
    }
}

fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    // Rounded up: woken a little early, we would ask again and again.
    let ms = until.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    PollTimeout::try_from(ms.min(WAIT_MS_MAX)).unwrap_or(PollTimeout::MAX)
}
