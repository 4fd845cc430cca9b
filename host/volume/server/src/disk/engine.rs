//! Who carries out system calls: the kernel by one io_uring (`io_uring(7)`), or threads that wait for them.
//!
//! io_uring is the faster by far (docs/decisions/0014-one-thread-for-a-volume.md has the figures). Containers often do
//! not permit it; then threads do the same, and the volume's status says so.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Done;
use super::task::{Call, Progress, Task};

/// Calls that are handed to the kernel at once; more wait in the process.
const RING_ENTRIES: u32 = 256;
/// Calls that the kernel has at once, at the most: as many as there are places for what is done (twice the entries,
/// io_uring_setup(2)). What found no place would be told only by a call that asks for it.
const CALLS_MAX: usize = 2 * RING_ENTRIES as usize;
/// Threads where there is no io_uring: as many calls go on at once. Disks gain little from more.
const THREADS: usize = 16;

/// Which of them is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring where it is permitted, else threads.
    #[default]
    Best,
    /// io_uring, or an error.
    Uring,
    /// Threads.
    Threads,
}

/// Why there is nobody to carry out calls.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel, or a container's seccomp profile, does not let it be used.
    #[error(
        "io_uring cannot be used here ({0}): permit io_uring_setup, io_uring_enter and io_uring_register in the \
         container's seccomp profile and set kernel.io_uring_disabled to 0, or let threads be used"
    )]
    Refused(io::Error),
    /// The system has no more of something.
    #[error("the system gives no thread or descriptor for disk operations: {0}")]
    System(#[from] io::Error),
}

/// Carries out tasks.
pub(super) enum Engine {
    Uring(Box<Uring>),
    Threads(Threads, Option<io::Error>),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uring(_) => f.write_str("io_uring"),
            Self::Threads(_, None) => write!(f, "{THREADS} threads"),
            Self::Threads(_, Some(why)) => write!(f, "{THREADS} threads, as io_uring is not permitted here ({why})"),
        }
    }
}

impl Engine {
    pub(super) fn new(kind: EngineKind) -> Result<Self, EngineError> {
        let why = match kind {
            EngineKind::Threads => None,
            EngineKind::Best | EngineKind::Uring => match Uring::new() {
                Ok(uring) => return Ok(Self::Uring(Box::new(uring))),
                Err(error) if kind == EngineKind::Uring => return Err(EngineError::Refused(error)),
                Err(error) => Some(error),
            },
        };
        Ok(Self::Threads(Threads::new()?, why))
    }

    pub(super) fn readiness(&self) -> BorrowedFd<'_> {
        match self {
            // SAFETY: the ring is open as long as it is borrowed.
            Self::Uring(uring) => unsafe { BorrowedFd::borrow_raw(uring.ring.as_raw_fd()) },
            Self::Threads(threads, _) => threads.results.ready.as_fd(),
        }
    }

    pub(super) fn submit(&mut self, task: Task) {
        match self {
            Self::Uring(uring) => uring.take(task),
            Self::Threads(threads, _) => threads.take(task),
        }
    }

    pub(super) fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::Uring(uring) => uring.begin(),
            Self::Threads(..) => Ok(()),
        }
    }

    pub(super) fn reap(&mut self, done: &mut VecDeque<Done>) {
        match self {
            Self::Uring(uring) => uring.reap(done),
            Self::Threads(threads, _) => threads.reap(done),
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        match self {
            Self::Uring(uring) => uring.is_refused,
            Self::Threads(..) => false,
        }
    }

    pub(super) fn under_way(&self) -> usize {
        match self {
            Self::Uring(uring) => uring.tasks.len() - uring.free.len(),
            Self::Threads(threads, _) => threads.under_way,
        }
    }
}

/// The kernel does it. The ring itself can be polled: it is ready while something done is not looked at. An event file
/// would cost two more system calls for each operation.
pub(super) struct Uring {
    ring: IoUring,
    is_refused: bool,
    /// By the number that the kernel knows each call by. A task is here as long as the kernel may touch its memory.
    tasks: Vec<Option<Task>>,
    free: Vec<usize>,
    /// Numbers of tasks whose next call is not handed over yet.
    waiting: VecDeque<usize>,
    /// Calls that are handed over and not done.
    calls: usize,
}

impl Uring {
    fn new() -> io::Result<Self> {
        // The flags, of Linux 5.19 and 6.0, only make it faster.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(RING_ENTRIES)
            .or_else(|_| IoUring::builder().build(RING_ENTRIES))?;
        Ok(Self { ring, is_refused: false, tasks: Vec::new(), free: Vec::new(), waiting: VecDeque::new(), calls: 0 })
    }

    fn take(&mut self, task: Task) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() - 1
        });
        self.tasks[number] = Some(task);
        self.waiting.push_back(number);
    }

    fn begin(&mut self) -> io::Result<()> {
        self.is_refused = false;
        // Whoever waits goes on when something is done.
        while let Some(number) = self.waiting.front().copied().filter(|_| self.calls < CALLS_MAX) {
            let Some(task) = &mut self.tasks[number] else { unreachable!("a task waits until its call is over") };
            let entry = entry(task).user_data(number as u64);
            // SAFETY: the memory and the descriptor belong to the task, which stays in `tasks` until the kernel has
            // said that the call is over; `Drop` waits for that too.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                self.waiting.pop_front();
                self.calls += 1;
            } else if !self.hand_over()? {
                return Ok(());
            }
        }
        if !self.ring.submission().is_empty() {
            self.hand_over()?;
        }
        Ok(())
    }

    /// Whether the kernel has taken them; if not, it first wants what is done to be looked at.
    fn hand_over(&mut self) -> io::Result<bool> {
        match self.ring.submit() {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(
                    error.raw_os_error().map(Errno::from_raw),
                    Some(Errno::EBUSY | Errno::EAGAIN | Errno::EINTR)
                ) =>
            {
                self.is_refused = true;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn reap(&mut self, done: &mut VecDeque<Done>) {
        let completed: Vec<(u64, i32)> =
            self.ring.completion().map(|entry: cqueue::Entry| (entry.user_data(), entry.result())).collect();
        self.calls -= completed.len();
        for (number, result) in completed {
            let number = number as usize;
            let Some(mut task) = self.tasks.get_mut(number).and_then(Option::take) else {
                unreachable!("the kernel knows calls by the numbers it was given");
            };
            let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
            match task.advance(result) {
                Progress::Again => {
                    self.tasks[number] = Some(task);
                    self.waiting.push_back(number);
                }
                Progress::Over(result) => {
                    self.free.push(number);
                    done.push_back(task.over(result));
                }
            }
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Memory that the kernel may still write to must not be given back. A call that never ends, as on a disk that
        // hangs, keeps its memory for good: that is all a process at its end can do.
        self.waiting.clear();
        for task in std::mem::take(&mut self.tasks) {
            std::mem::forget(task);
        }
    }
}

fn entry(task: &mut Task) -> squeue::Entry {
    let file = types::Fd(task.descriptor());
    match task.call() {
        Call::Read { to, length, offset } => opcode::Read::new(file, to, short(length)).offset(offset).build(),
        Call::Write { from, length, offset, durable } => opcode::Write::new(file, from, short(length))
            .offset(offset)
            .rw_flags(if durable { nix::libc::RWF_DSYNC } else { 0 })
            .build(),
        Call::Sync => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
        Call::Allocate { mode, offset, length } => {
            opcode::Fallocate::new(file, length).offset(offset).mode(mode.bits()).build()
        }
    }
}

/// The rest follows, as after every short transfer. Whole blocks.
fn short(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(1 << 30)
}

/// Threads do it.
pub(super) struct Threads {
    tasks: Option<mpsc::Sender<Task>>,
    results: Arc<Results>,
    threads: Vec<JoinHandle<()>>,
    under_way: usize,
}

struct Results {
    done: Mutex<VecDeque<Done>>,
    ready: EventFd,
}

impl Threads {
    fn new() -> io::Result<Self> {
        let ready = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let results = Arc::new(Results { done: Mutex::default(), ready });
        // What waits is bounded by what the volume takes in.
        let (sender, receiver) = mpsc::channel::<Task>();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (receiver, results) = (Arc::clone(&receiver), Arc::clone(&results));
            threads.push(thread::Builder::new().name(format!("disk-{number}")).spawn(move || {
                loop {
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(task) = next else { return };
                    let done = task.perform();
                    results.done.lock().unwrap_or_else(PoisonError::into_inner).push_back(done);
                    // It fails only where 2^64 events have not been looked at.
                    let _ = results.ready.write(1);
                }
            })?);
        }
        Ok(Self { tasks: Some(sender), results, threads, under_way: 0 })
    }

    fn take(&mut self, task: Task) {
        let Some(tasks) = &self.tasks else { unreachable!("it is taken away when this ends") };
        assert!(tasks.send(task).is_ok(), "the threads live as long as this does");
        self.under_way += 1;
    }

    fn reap(&mut self, done: &mut VecDeque<Done>) {
        // Only empties it; there may have been nothing in it.
        let _ = self.results.ready.read();
        let mut results = self.results.done.lock().unwrap_or_else(PoisonError::into_inner);
        self.under_way -= results.len();
        done.append(&mut results);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.tasks = None;
        if self.under_way == 0 {
            for thread in self.threads.drain(..) {
                // One that panicked has said so.
                let _ = thread.join();
            }
        }
        // Where calls are under way, the disk may hang: the threads are left to it.
    }
}
