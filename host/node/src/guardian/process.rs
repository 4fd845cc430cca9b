//! The guardian's own process: one thread that waits for daemons and for the time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::plan::{Fenced, Plan};
use super::{LINE_BYTES_MAX, Said, Say, nanos, since_boot, socket};

/// A daemon that has started a guardian has this long to say something to it.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// A fence that has failed is tried again after this, until it succeeds or a daemon says that all is well: a node that
/// ought to be fenced and is not, is what this process is there to prevent.
const AGAIN: Duration = Duration::from_secs(1);
/// While a fence command runs, its end is looked for this often.
const LOOK: Duration = Duration::from_millis(20);
/// Connections at once, at the most: a daemon has two, and the next one may come before the last one is gone.
const CONNECTIONS_MAX: usize = 16;
/// An answer that a daemon does not take for so long is not for it.
const ANSWER: Duration = Duration::from_millis(100);
/// The log is begun anew above this, in bytes: a guardian writes a line when it begins and when it fences.
const LOG_BYTES_MAX: u64 = 256 << 10;
/// Above all ordinary processes and below the kernel's own threads.
const PRIORITY: i32 = 50;

/// Guards this node until there is nothing to guard and no daemon. Returns at once if there is a guardian already.
pub fn guard(state: &Path) -> ExitCode {
    let mut log = match Log::open(state) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("mainstay guardian: its log in {} cannot be written: {error}", state.display());
            return ExitCode::FAILURE;
        }
    };
    match begin(state, &mut log) {
        Ok(Some(process)) => {
            let socket = process.socket.clone();
            let ended = process.run(log);
            // The lock is still held: nobody else's socket is there.
            let _ = std::fs::remove_file(socket);
            drop(ended);
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            log.say(&format!("cannot begin: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn begin(state: &Path, log: &mut Log) -> io::Result<Option<Process>> {
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(state.join("guardian.lock"))?;
    let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    ignore_signals();
    for what in hold_on() {
        log.say(&what);
    }
    let socket = socket(state);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    listener.set_nonblocking(true)?;
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    log.say(&format!("guards the node whose state is in {}", state.display()));
    Ok(Some(Process {
        socket,
        _lock: lock,
        listener,
        timer,
        connections: Vec::new(),
        plan: None,
        until: None,
        fencing: None,
        began: since_boot()?,
        met: false,
    }))
}

/// Nobody ends it by asking: a service manager that stops the daemon's process group among them.
fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: this process has one thread, and no handler is put in.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Stays in memory and goes before ordinary processes, as far as it may. What it may not, it says.
fn hold_on() -> Vec<String> {
    let mut lacks = Vec::new();
    let last = || io::Error::last_os_error();
    // Of all that is mapped, the binary with its WebAssembly engine, only what is touched is kept.
    // SAFETY: takes an integer.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) } != 0 {
        lacks.push(format!("may be swapped out: {}; it is late when memory is short (CAP_IPC_LOCK)", last()));
    }
    let parameter = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the structure is read, and ours.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameter) } != 0 {
        lacks.push(format!("has no realtime priority: {}; it is late when the machine is busy (CAP_SYS_NICE)", last()));
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        lacks.push(format!("may be ended when memory is short: {error} (CAP_SYS_RESOURCE)"));
    }
    lacks
}

struct Process {
    socket: PathBuf,
    _lock: Flock<File>,
    listener: UnixListener,
    timer: TimerFd,
    connections: Vec<Connection>,
    plan: Option<Plan>,
    /// In ns since the machine was started.
    until: Option<u64>,
    fencing: Option<Fencing>,
    began: Duration,
    /// A daemon was there.
    met: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Fencing {
    /// The command runs.
    Goes,
    /// It takes its course.
    LeftAlone,
    /// It is tried again then.
    Again(Duration),
}

struct Connection {
    stream: UnixStream,
    said: Vec<u8>,
    closed: bool,
}

impl Process {
    fn run(mut self, mut log: Log) -> Flock<File> {
        loop {
            let now = since_boot().unwrap_or(self.began);
            if self.until.is_some_and(|until| nanos(now) >= until) {
                self.fence(now, &mut log);
            } else if let Some(watchdog) = self.plan.as_mut().and_then(Plan::watchdog)
                && let Err(error) = watchdog.keep_quiet()
            {
                log.say(&format!("the watchdog does not take it: {error}"));
            }
            self.look_after_fence(now, &mut log);
            if self.is_done(now) {
                log.say("ends: there is nothing to guard, and no daemon");
                return self._lock;
            }
            self.wait(now, &mut log);
        }
    }

    fn fence(&mut self, now: Duration, log: &mut Log) {
        let Some(plan) = &mut self.plan else { return };
        let until = self.until.take().unwrap_or_default();
        let fenced = plan.fence();
        let late = nanos(now).saturating_sub(until) / 1000;
        log.say(&format!("nobody has said that all is well: this node is fenced, {late} us after it was due"));
        self.fenced(fenced, now, log);
    }

    fn fenced(&mut self, fenced: Fenced, now: Duration, log: &mut Log) {
        self.fencing = Some(match fenced {
            Fenced::Begun => Fencing::Goes,
            Fenced::LeftAlone => Fencing::LeftAlone,
            Fenced::Failed(why) => {
                log.say(&format!("fencing has failed, and is tried again: {why}"));
                Fencing::Again(now + AGAIN)
            }
        });
    }

    fn look_after_fence(&mut self, now: Duration, log: &mut Log) {
        let Some(plan) = &mut self.plan else { return };
        match &self.fencing {
            None | Some(Fencing::LeftAlone) => {}
            Some(Fencing::Goes) => match plan.ended() {
                None => {}
                Some(Ok(())) => {
                    log.say("the fence command has done its work");
                    self.fencing = None;
                }
                Some(Err(why)) => {
                    self.fenced(Fenced::Failed(format!("the fence command: {why}")), now, log);
                }
            },
            Some(Fencing::Again(when)) if *when <= now => {
                let fenced = match plan.arm(&log.file) {
                    Ok(()) => plan.fence(),
                    Err(why) => Fenced::Failed(why),
                };
                self.fenced(fenced, now, log);
            }
            Some(Fencing::Again(_)) => {}
        }
    }

    /// With a watchdog that cannot be stopped it is never done.
    fn is_done(&mut self, now: Duration) -> bool {
        let idle = self.until.is_none()
            && self.fencing.is_none()
            && self.connections.is_empty()
            && self.plan.as_mut().is_none_or(|plan| plan.watchdog().is_none());
        idle && (self.met || now.saturating_sub(self.began) > FIRST_WORDS)
    }

    /// Until somebody says something, the time comes, or something has to be looked at.
    fn wait(&mut self, now: Duration, log: &mut Log) {
        let mut wait = FIRST_WORDS;
        match &self.fencing {
            Some(Fencing::Goes) => wait = LOOK,
            Some(Fencing::Again(when)) => wait = when.saturating_sub(now),
            Some(Fencing::LeftAlone) | None => {}
        }
        if let Some(interval) = self.plan.as_mut().and_then(Plan::watchdog).and_then(|watchdog| watchdog.interval()) {
            wait = wait.min(interval);
        }
        let mut ready = vec![
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        ready.extend(self.connections.iter().map(|of| PollFd::new(of.stream.as_fd(), PollFlags::POLLIN)));
        let wait = PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        if let Err(error) = poll(&mut ready, wait)
            && error != nix::errno::Errno::EINTR
        {
            log.say(&format!("cannot wait: {error}"));
            std::thread::sleep(LOOK);
            return;
        }
        let said = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let due = said(&ready[0]);
        let (comes, says): (bool, Vec<bool>) = (said(&ready[1]), ready[2..].iter().map(said).collect());
        if due {
            // First things first: what is said now is heard in the next round. Read, so that it does not come again at
            // once and for ever; only this reads it, so it cannot be gone already.
            let _ = self.timer.wait();
            if let Some(until) = self.until
                && let Err(error) = self.set_timer(until)
            {
                log.say(&format!("the timer cannot be set: {error}"));
            }
            return;
        }
        if comes {
            self.accept();
        }
        for (at, _) in says.into_iter().enumerate().filter(|(_, says)| *says) {
            self.hear(at, log);
        }
        self.connections.retain(|connection| !connection.closed);
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let prepared = stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(ANSWER))).is_ok();
        if prepared && self.connections.len() < CONNECTIONS_MAX {
            self.met = true;
            self.connections.push(Connection { stream, said: Vec::new(), closed: false });
        }
    }

    fn hear(&mut self, at: usize, log: &mut Log) {
        let mut buffer = [0; 4096];
        let connection = &mut self.connections[at];
        match connection.stream.read(&mut buffer) {
            Ok(0) | Err(_) => connection.closed = true,
            Ok(count) => connection.said.extend_from_slice(&buffer[..count]),
        }
        connection.closed |= connection.said.len() > LINE_BYTES_MAX;
        while let Some(end) = self.connections[at].said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.connections[at].said.drain(..=end).collect();
            let answer = match serde_json::from_slice(&line) {
                Ok(say) => self.answer(say, log),
                Err(error) => Err(format!("that is not understood: {error}")),
            };
            let said = Said {
                cannot: answer.err(),
                armed: self.until.is_some() || self.fencing.is_some(),
                software: crate::VERSION.to_owned(),
            };
            let mut text = serde_json::to_vec(&said).unwrap_or_default();
            text.push(b'\n');
            if self.connections[at].stream.write_all(&text).is_err() {
                self.connections[at].closed = true;
            }
        }
    }

    fn answer(&mut self, say: Say, log: &mut Log) -> Result<(), String> {
        match say {
            Say::Ping => Ok(()),
            Say::Hello { by, takes_ms, node, cluster } => {
                // The old one stays if the new one does not work.
                let mut plan = Plan::new(&by, Duration::from_millis(takes_ms), &node, &cluster, &log.file)?;
                if self.until.is_some() {
                    plan.arm(&log.file)?;
                }
                if let Some(mut old) = self.plan.replace(plan) {
                    old.disarm();
                }
                log.say(&format!("a daemon of {node} is there; this node is fenced by {by:?}"));
                log.leave_stderr();
                Ok(())
            }
            Say::Until { boot_ns } => {
                let plan = self.plan.as_mut().ok_or("no daemon has said how this node is fenced")?;
                if self.fencing != Some(Fencing::Goes) {
                    plan.arm(&log.file)?;
                    self.fencing = None;
                }
                self.until = Some(boot_ns);
                self.set_timer(boot_ns).map_err(|error| format!("the timer cannot be set: {error}"))
            }
            Say::Disarm => {
                self.until = None;
                if self.fencing != Some(Fencing::Goes) {
                    self.fencing = None;
                    if let Some(plan) = &mut self.plan {
                        plan.disarm();
                    }
                }
                self.timer.unset().map_err(|error| format!("the timer cannot be unset: {error}"))
            }
            Say::Quit if self.until.is_some() || self.fencing.is_some() => {
                Err("there is something to guard".to_owned())
            }
            Say::Quit => {
                self.connections.iter_mut().for_each(|connection| connection.closed = true);
                Ok(())
            }
        }
    }

    fn set_timer(&self, boot_ns: u64) -> nix::Result<()> {
        // A timer set to 0 never comes, one that is past comes at once (timerfd_create(2)).
        let when = Duration::from_nanos(boot_ns.max(1));
        self.timer.set(Expiration::OneShot(when.into()), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }
}

/// `guardian.log` in the state directory, and the daemon's standard error until the daemon is met.
struct Log {
    file: File,
    stderr: bool,
}

impl Log {
    fn open(state: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(state.join("guardian.log"))?;
        if file.seek(io::SeekFrom::End(0))? > LOG_BYTES_MAX {
            file.set_len(0)?;
        }
        Ok(Self { file, stderr: true })
    }

    fn say(&mut self, what: &str) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = format!("{}.{:03} guardian {}: {what}\n", at.as_secs(), at.subsec_millis(), std::process::id());
        // A disk that is full keeps nobody from being fenced.
        let _ = self.file.write_all(line.as_bytes());
        if self.stderr {
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }

    /// Whoever reads what the daemon writes waits for its end, and not for this process's.
    fn leave_stderr(&mut self) {
        if std::mem::take(&mut self.stderr)
            && let Ok(nothing) = OpenOptions::new().write(true).open("/dev/null")
        {
            // SAFETY: both descriptors are open, and nobody owns standard error.
            unsafe { libc::dup2(nothing.as_raw_fd(), 2) };
        }
    }
}
