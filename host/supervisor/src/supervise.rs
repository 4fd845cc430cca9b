//! The supervisor process: runs the one program whose request lies in its folder, and tells what became of it.
//!
//! Decides, from the request, the monotonic clock, its children's ends and SIGTERM, when the command is over and what
//! of it is ended. It reads and writes its folder, `/proc` and its control group, nothing else. It has one thread and
//! no runtime, and never waits for the daemon: what it tells goes into a pipe, and if nobody reads, the folder says
//! it all.
//!
//! ```text
//!   running --- program ended ---------------> winding up --- nothing is left ---> over, gone
//!      |                                        ^     |
//!      +--- deadline, SIGTERM: take evidence ---+     +--- keep_children and ---> over, lingering --> gone
//!                                                          children live on             nothing is left
//! ```
//! SIGTERM means cancel while running. Later it means nothing, so that nobody who ends every mainstay process of a
//! node ends an application with them. SIGKILL leaves the program running; the daemon finds it by its marker.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::cgroup::Cgroup;
use crate::events::{Events, take_signals};
use crate::evidence;
use crate::folder::{
    COLLECTED, End, FORMAT, Folder, OUTCOME, OutcomeRecord, PROCESSES, ProcessesRecord, REQUEST, RequestRecord, STDIN,
    Told,
};
use crate::launch::{Gated, Launched, RunAs, failure, open_stdin};
use crate::orphans::Orphans;
use crate::output::{Output, Stream};
use crate::process::{Identity, Stat, Table, describe};
use crate::tree::{self, Tree};
use crate::types::{Ending, LaunchFailure, Request, Stage};

/// Longest wait for the daemon to make room in the pipe, in ms. It reads at once; a stopped one must not stop us.
const TELL_MS_MAX: u16 = 5_000;
/// What a pipe takes without waiting once it says that it takes something, in bytes (PIPE_BUF).
const TELL_BYTES_MAX: usize = 4096;
/// How often writing the outcome is tried again while the disk is full, in ms.
const SAVE_AGAIN_MS: u64 = 1_000;
/// How often a supervisor that took over looks whether anything is left, in ms. Nothing waits for the answer.
const LOOK_FOR_CHILDREN_MS: u64 = 30_000;
/// How long a child that could not execute its program may take to end, in ms. It has nothing left to do.
const FAILED_CHILD_MS_MAX: u64 = 1_000;

/// Supervises the command whose folder is `dir`, and returns when nothing of it is left to supervise.
///
/// For a process of its own, as the first thing it does, before it has a second thread: it closes every descriptor
/// that was handed down, changes the process's session, signals and working directory, and forks.
pub fn supervise(dir: &Path) -> ExitCode {
    let folder = Folder::new(dir.to_owned());
    match run(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            folder.complain(&format!("the supervisor gave up: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Folder) -> io::Result<()> {
    let (signals, mut daemon) = become_supervisor(folder)?;
    // Held until this process ends: by it others know that somebody cares for this command.
    let Some(_lock) = claim(folder)? else {
        return Ok(());
    };
    let record: RequestRecord = folder.read(REQUEST)?;
    // A request is carried out once, whatever became of it.
    if folder.has(PROCESSES) {
        return tend(folder, &record.request, signals);
    }
    match Command::prepare(folder, &record, signals) {
        Ok((command, gated)) => command.supervise(gated, &mut daemon),
        Err(failure) => {
            let over = OutcomeRecord { format: FORMAT, end: End::NotStarted(failure) };
            daemon.tell(&Told::Over(over.clone()));
            save(folder, &over, record.request.durable, &mut |until| {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            });
        }
    }
    Ok(())
}

/// Leaves everything that ties this process to the daemon but the pipe.
fn become_supervisor(folder: &Folder) -> io::Result<(SignalFd, Daemon)> {
    crate::sys::close_inherited()?;
    match nix::unistd::setsid() {
        // Started by hand from a shell it leads a group already; every signal is blocked, so that does no harm.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let signals = take_signals()?;
    let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    // Not to hold a file system that somebody wants to unmount.
    std::env::set_current_dir("/")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    nix::sys::prctl::set_name(c"mainstay-super")?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let log = folder.clone();
    std::panic::set_hook(Box::new(move |panic| log.complain(&panic.to_string())));
    Ok((signals, Daemon { pipe: Some(pipe) }))
}

/// Takes the lock of the command. `None`: somebody else cares for it, or has found it abandoned and removed it.
fn claim(folder: &Folder) -> io::Result<Option<Flock<File>>> {
    use std::os::unix::fs::MetadataExt;
    let lock = match folder.lock() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        lock => lock?,
    };
    Ok(match lock {
        Some(lock) if lock.metadata()?.nlink() > 0 => Some(lock),
        Some(_) | None => None,
    })
}

/// Does what is left to do for a supervisor that was killed while its application lived on: keeps the output of the
/// children that live on short, and cleans up after the last. They are not this process's children, so it looks for
/// them every so often.
fn tend(folder: &Folder, request: &Request, signals: SignalFd) -> io::Result<()> {
    let output = Output::take_over(folder, request.output_bytes_max)?;
    let mut events = Events::new(signals, output, None);
    let tree = Orphans::of(folder)?;
    while !tree.members()?.is_empty() {
        let look_again = Instant::now() + Duration::from_millis(LOOK_FOR_CHILDREN_MS);
        while Instant::now() < look_again {
            events.wait(Some(look_again), None);
        }
    }
    leave(folder, tree.cgroup());
    Ok(())
}

/// Nothing is left of the command: removes what nobody needs any more.
fn leave(folder: &Folder, cgroup: Option<&Cgroup>) {
    remove(cgroup);
    if folder.has(COLLECTED)
        && let Err(error) = folder.remove()
    {
        folder.complain(&format!("this folder could not be removed: {error}"));
    }
}

/// Makes the outcome durable, however long the disk is full, unless the daemon has taken it and removed the folder.
fn save(folder: &Folder, over: &OutcomeRecord, durable: bool, wait: &mut dyn FnMut(Instant)) {
    let mut said = false;
    loop {
        match folder.put(OUTCOME, over, durable) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(_) if folder.has(COLLECTED) => return,
            Err(error) if !said => {
                said = true;
                folder.complain(&format!("the outcome cannot be written, and is tried again: {error}"));
            }
            Err(_) => {}
        }
        wait(Instant::now() + Duration::from_millis(SAVE_AGAIN_MS));
    }
}

/// The way to the daemon that started us, as long as it listens.
struct Daemon {
    pipe: Option<File>,
}

impl Daemon {
    fn tell(&mut self, told: &Told) {
        let Some(pipe) = &self.pipe else {
            return;
        };
        // What is torn off here is in the folder.
        if write_line(pipe, told).is_err() {
            self.pipe = None;
        }
    }
}

fn write_line(mut pipe: &File, told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told).map_err(io::Error::other)?;
    line.push(b'\n');
    for piece in line.chunks(TELL_BYTES_MAX) {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, PollTimeout::from(TELL_MS_MAX))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        pipe.write_all(piece)?;
    }
    Ok(())
}

/// The command of this process.
struct Command<'a> {
    folder: &'a Folder,
    request: &'a Request,
    events: Events,
    cgroup: Option<Cgroup>,
    own: Identity,
}

impl<'a> Command<'a> {
    /// Makes the program's process, and writes down which it is, before it is the program.
    fn prepare(
        folder: &'a Folder,
        record: &'a RequestRecord,
        signals: SignalFd,
    ) -> Result<(Self, Gated), LaunchFailure> {
        let RequestRecord { request, boot_id, .. } = record;
        let files = |error: io::Error| failure(request, Stage::Files, error.raw_os_error().unwrap_or(0));
        let id = folder.id();
        let run_as = RunAs::find(request)?;
        let owner = run_as.as_ref().and_then(RunAs::owner);
        let output = Output::create(folder, request.output_bytes_max, owner, true).map_err(files)?;
        let stdin = open_stdin(folder, owner).map_err(files)?;
        let own = Identity::of(std::process::id().cast_signed()).map_err(files)?;
        let cgroup = Cgroup::make(&id);
        let door = cgroup.as_ref().and_then(Cgroup::door);
        let streams = [&stdin, output.file(Stream::Stdout), output.file(Stream::Stderr)];
        let gated = Gated::fork(request, run_as.as_ref(), streams, door.as_ref(), &id)
            .inspect_err(|_| remove(cgroup.as_ref()))?;
        let written = Identity::of(gated.pid).and_then(|program| {
            let cgroup = cgroup.as_ref().map(|cgroup| cgroup.path().to_owned());
            let boot_id = boot_id.clone();
            let record = ProcessesRecord { format: FORMAT, boot_id, supervisor: own, program, cgroup };
            folder.put(PROCESSES, &record, false)
        });
        let events = Events::new(signals, output, Some(gated.pid));
        let mut command = Self { folder, request, events, cgroup, own };
        if let Err(error) = written {
            // Behind a gate that is never opened, the child ends.
            drop(gated);
            command.wait_for_failed_child();
            return Err(files(error));
        }
        Ok((command, gated))
    }

    /// Runs the program to the end of the command, and stays until nothing is left of it.
    fn supervise(mut self, gated: Gated, daemon: &mut Daemon) {
        let since = Instant::now();
        let end = match self.run_program(gated.open(), since, daemon) {
            Ok(ending) => self.wind_up(ending, since, daemon),
            Err(failure) => {
                self.wait_for_failed_child();
                End::NotStarted(failure)
            }
        };
        let over = OutcomeRecord { format: FORMAT, end };
        daemon.tell(&Told::Over(over.clone()));
        daemon.pipe = None;
        let events = &mut self.events;
        save(self.folder, &over, self.request.durable, &mut |until| {
            events.wait(Some(until), None);
        });
        self.linger();
    }

    fn run_program(
        &mut self,
        launched: Launched,
        since: Instant,
        daemon: &mut Daemon,
    ) -> Result<Ending, LaunchFailure> {
        let deadline = since + Duration::from_millis(self.request.timeout_ms);
        let mut launched = Some(launched);
        let mut known = false;
        loop {
            if (known || self.events.ended.is_some())
                && let Some(launched) = launched.take()
            {
                launched.result(self.request)?;
                daemon.tell(&Told::Started);
                self.forget_stdin();
            }
            if let Some((ending, _)) = self.events.ended {
                return Ok(ending);
            }
            if self.events.cancelled {
                return Ok(Ending::Cancelled);
            }
            if Instant::now() >= deadline {
                return Ok(Ending::TimedOut);
            }
            known = self.events.wait(Some(deadline), launched.as_ref().map(|launched| launched.known().as_fd()));
        }
    }

    /// The program has it open. It may hold a secret, and the folder may stay for months.
    fn forget_stdin(&self) {
        match std::fs::remove_file(self.folder.file(STDIN)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.folder.complain(&format!("the standard input could not be removed: {error}")),
        }
    }

    /// Ends what is not to live on, and says how it was.
    fn wind_up(&mut self, ending: Ending, since: Instant, daemon: &mut Daemon) -> End {
        let keeps = matches!(ending, Ending::Exited(_)) && self.request.keep_children;
        let evidence = matches!(ending, Ending::TimedOut | Ending::Cancelled)
            .then(|| self.below(|tree| evidence::gather(self.folder, self.request, tree)));
        if !keeps && !self.events.childless {
            let mut whole = Whole { command: self, daemon };
            tree::end(&mut whole);
        }
        let lingers = !self.events.childless;
        if lingers && let Err(error) = self.events.output.keep_final() {
            self.folder.complain(&format!("the output at the program's end could not be kept: {error}"));
        }
        let ended_at = self.events.ended.map_or_else(Instant::now, |(_, at)| at);
        let duration_ms = u64::try_from((ended_at - since).as_millis()).unwrap_or(u64::MAX);
        End::Ran { ending, truncated: self.events.output.is_truncated(), duration_ms, evidence, lingers }
    }

    /// Makes something of the processes below this one. Nothing if `/proc` cannot be read just now.
    fn below<T: Default>(&self, of: impl FnOnce(&[&Stat]) -> T) -> T {
        match Table::read() {
            Ok(table) => of(&table.descendants(&[self.own.pid].into())),
            Err(error) => {
                self.folder.complain(&format!("/proc cannot be read: {error}"));
                T::default()
            }
        }
    }

    /// Keeps the output of what lives on short, until nothing does.
    fn linger(&mut self) {
        while !self.events.childless {
            self.events.wait(None, None);
        }
        leave(self.folder, self.cgroup.as_ref());
    }

    fn wait_for_failed_child(&mut self) {
        let until = Instant::now() + Duration::from_millis(FAILED_CHILD_MS_MAX);
        while !self.events.childless && Instant::now() < until {
            self.events.wait(Some(until), None);
        }
    }
}

fn remove(cgroup: Option<&Cgroup>) {
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
}

/// Everything below this process: the program and, since this is a subreaper, whatever it started and left.
struct Whole<'c, 'a, 'd> {
    command: &'c mut Command<'a>,
    daemon: &'d mut Daemon,
}

impl Tree for Whole<'_, '_, '_> {
    fn members(&mut self) -> Vec<Identity> {
        self.command.below(|stats| stats.iter().map(|stat| stat.identity()).collect())
    }

    fn is_gone(&mut self) -> bool {
        self.command.events.childless
    }

    fn wait(&mut self, until: Instant) {
        self.command.events.wait(Some(until), None);
    }

    fn is_stuck(&mut self) {
        let (processes, _) = self.command.below(describe);
        let names: Vec<String> = processes.iter().map(ToString::to_string).collect();
        self.command.folder.complain(&format!("killed, and still there: {}", names.join(", ")));
        self.daemon.tell(&Told::Stuck(processes));
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        self.command.cgroup.as_ref()
    }
}
