//! The process of one copy of a volume: one thread that waits for everything at once.
//!
//! Decides nothing: what clients, the peer, the disk and the daemon say goes into the core, and what the core says is
//! carried out ([`carry`]). Nothing is ever waited for but in [`Poll`]; a disk that hangs holds up nobody but those who
//! asked for it.
//!
//! It depends on nobody's life: neither on the daemon's nor on a client's. It ends by SIGTERM, or asked on the control
//! socket, in order: it becomes a target first, so that the other copy is known to have everything.

mod carry;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};
use mainstay_volume_core::io::{
    Config as CoreConfig, ConnectionId, Data, Input, OperatorId, OperatorRequest, ReceivedId, RequestId, RequestKind,
    Token,
};
use mainstay_volume_core::status::Role;
use mainstay_volume_core::types::Extent;
use mainstay_volume_core::volume::{OpenError, REQUESTS_MAX, Volume};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};

use crate::buffers::{Buffer, Pool};
use crate::client::{Incoming, read_bytes};
use crate::clients::Clients;
use crate::config::{Config, ConfigError};
use crate::control::wire::{Ask, Outcome, Reply, Said};
use crate::control::{Asker, Control};
use crate::disk::{self, Disk, EngineError};
use crate::files::{self, Files, FilesError};
use crate::link::credentials::{Credentials, CredentialsError};
use crate::link::{Happening, Link};
use crate::nbd::Export;
use crate::nbd::negotiate::Offer;
use crate::nbd::transmit::Command;
use crate::poll::{Interest, Poll, Ready};
use crate::slab::Slab;
use crate::view::{self, ServerView};

use carry::{Operation, Question, Writing};

/// Memory for data on its way, in bytes: above it nobody is listened to until some is free again. Two of the longest
/// requests, or the deepest queue of 4 KiB writes many times over. What only a client itself can free, by taking its
/// answers or sending the rest of a request, does not count, so that one that stands still stops nobody else; it is
/// bounded for each.
const BUFFERS_BYTES_MAX: usize = 64 << 20;
/// How often it is looked whether the backing is still what it was.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How much longer than the stall time a process may take to end in order: after that it ends anyway.
const STOP_EXTRA: Duration = Duration::from_secs(5);
/// How long the process, once it has ended its work, tries to send what is still to be sent.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Between two tries.
const LAST_WORDS_PAUSE: Duration = Duration::from_millis(5);
/// A piece of memory just below the most that glibc's limit grows to (32 MiB), in bytes.
const GROW_BYTES: usize = 31 << 20;
/// Zeroes that are written at once where a file system has no other way, in bytes.
const ZEROES_BYTES: usize = 1 << 20;

/// When calls are handed to a kernel again that has just taken none.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);

/// Keys of those that there is one of.
mod key {
    pub(super) const DISK: u64 = 1;
    pub(super) const SIGNALS: u64 = 2;
}

/// Why a volume is not served, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// See there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// See there.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// See there.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// See there.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The copy is not what it should be.
    #[error("{backing}: {source}")]
    Copy {
        /// Of which copy.
        backing: String,
        /// What the core says.
        source: OpenError,
    },
    /// A socket cannot be made.
    #[error("cannot listen at {at}: {source}")]
    Listen {
        /// Where.
        at: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not let the process go on.
    #[error("the system has no more of something that this process needs: {0}")]
    System(#[from] io::Error),
}

/// A request of a client.
#[derive(Debug)]
struct Request {
    client: u64,
    cookie: u64,
    /// To be written.
    data: Option<Arc<Buffer>>,
    /// How much is to be read.
    read_bytes: usize,
    /// What was read.
    read: Option<Buffer>,
}

/// See the module's documentation.
#[derive(Debug)]
struct Server {
    name: String,
    core: Volume,
    poll: Poll,
    pool: Pool,
    disk: Disk,
    label_offset: u64,
    zeroes: Arc<Buffer>,
    export: Export,
    clients: Clients,
    control: Control,
    link: Option<Link>,
    link_secured: &'static str,
    stall_time: Duration,
    mark_timeout: Duration,

    requests: Slab<Request>,
    received: HashMap<ReceivedId, Arc<Buffer>>,
    next_received: u64,
    /// What was read for a resync.
    read: HashMap<u64, Arc<Buffer>>,
    operations: Slab<Operation>,
    writings: Slab<Writing>,
    operators: BTreeMap<u64, Option<Asker>>,
    next_operator: u64,
    markings: BTreeMap<u64, Asker>,
    next_marking: u64,
    questions: BTreeMap<u64, Question>,

    is_source: bool,
    /// The role may be another one by now.
    look_at_role: bool,
    check_at: Instant,
    /// Why nothing is read or written any more.
    backing_failure: Option<String>,
    /// What was last said of the disk: it is said once in a while.
    last_disk_failure: Option<Instant>,
    /// When the process ends, if it was asked to; until then it becomes a target.
    stop_at: Option<Instant>,
    stopped: bool,
}

/// Serves a copy of a volume until it is told to end.
///
/// # Errors
/// When it cannot begin, with what to do, or the system does not let it go on.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    // Before anything else, so that no thread has it otherwise.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(io::Error::from)?;
    let signals =
        SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(io::Error::from)?;
    keep_memory();
    let mut server = Server::new(config)?;
    server.poll.add(&signals, key::SIGNALS, Interest { read: true, write: false })?;
    tracing::info!("volume {} is open: {}", server.name, server.disk.engine());
    server.run(&signals)
}

/// Has the C library keep freed memory: else each burst of requests gives it back to the system, and the next one takes
/// it again page by page, a tenth of the CPU. glibc's limits grow with the largest piece that was ever freed
/// (mallopt(3), `M_MMAP_THRESHOLD`); elsewhere it does nothing.
fn keep_memory() {
    drop(std::hint::black_box(vec![0u8; GROW_BYTES]));
}

/// Both clocks. The monotonic one goes on while the machine is suspended, and is the same in all processes.
fn now() -> Now {
    // Linux has this clock since 2.6.39.
    let monotonic = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Now { monotonic: Monotonic(ms(monotonic)), unix: UnixMs(ms(unix)) }
}

impl Server {
    fn new(config: &Config) -> Result<Self, ServeError> {
        let end = config.end()?;
        let Files { volume: opened, label, log, label_offset } = files::open(&config.backing, &config.log)?;
        let core_config: CoreConfig = config.for_core(label_offset)?;
        let (stall_time, mark_timeout) = (length(core_config.stall_time), length(core_config.mark_timeout));
        let core = Volume::open(core_config, &label, &log, now())
            .map_err(|source| ServeError::Copy { backing: config.backing.display().to_string(), source })?;
        let block_bytes = opened.block_bytes;
        let export = Export { name: config.name.clone(), size_bytes: core.status().size, block_bytes_min: block_bytes };
        let (disk, poll, pool) = (Disk::new(opened, config.disk.into())?, Poll::new()?, Pool::default());
        poll.add(disk.readiness(), key::DISK, Interest { read: true, write: false })?;
        let listening = |at: &std::path::Path, source| ServeError::Listen { at: at.display().to_string(), source };
        let clients = Clients::new(&config.nbd, &poll).map_err(|source| listening(&config.nbd, source))?;
        let control = Control::new(&config.control, &poll).map_err(|source| listening(&config.control, source))?;
        let files = config.link.as_ref().and_then(|link| link.tls.as_ref());
        let credentials = files.map(Credentials::load).transpose()?;
        let link_secured = match (end, &credentials) {
            (None, _) => "there is no other copy in the config",
            (Some(_), Some(_)) => "mutual TLS 1.3",
            (Some(_), None) => "INSECURE: for benchmarks only",
        };
        if end.is_some() && credentials.is_none() {
            tracing::warn!("the mirror link is INSECURE: whoever reaches its address can read and write this volume");
        }
        let listening = |source| ServeError::Listen { at: format!("{end:?}"), source };
        let link = end.map(|end| Link::new(end, credentials, &poll)).transpose().map_err(listening)?;
        let mut zeroes = pool.take(ZEROES_BYTES);
        zeroes.fill(0);
        Ok(Self {
            name: config.name.clone(),
            core,
            poll,
            pool,
            disk,
            label_offset,
            zeroes: Arc::new(zeroes),
            export,
            clients,
            control,
            link,
            link_secured,
            stall_time,
            mark_timeout,
            requests: Slab::default(),
            received: HashMap::new(),
            next_received: 0,
            read: HashMap::new(),
            operations: Slab::default(),
            writings: Slab::default(),
            operators: BTreeMap::new(),
            next_operator: 0,
            markings: BTreeMap::new(),
            next_marking: 0,
            questions: BTreeMap::new(),
            is_source: false,
            look_at_role: true,
            check_at: Instant::now() + CHECK_EVERY,
            backing_failure: None,
            last_disk_failure: None,
            stop_at: None,
            stopped: false,
        })
    }

    fn run(&mut self, signals: &SignalFd) -> Result<(), ServeError> {
        let (mut ready, mut done) = (Vec::new(), VecDeque::new());
        let mut happenings = Vec::new();
        self.carry_out();
        while !self.stopped {
            self.flush(&mut happenings)?;
            self.poll.wait(self.wait(), &mut ready)?;
            for one in &ready {
                self.turn_to(*one, signals, &mut happenings)?;
            }
            self.disk.done(&mut done);
            for one in done.drain(..) {
                self.disk_done(one);
            }
            self.go_on(&mut happenings)?;
            self.on_time(&mut happenings)?;
            for happening in happenings.drain(..) {
                self.happened(happening);
            }
            self.core_on_time();
        }
        self.say_the_last(&mut happenings)
    }

    /// What was said last still goes out: to the peer that this copy is no source any more, and to clients what became
    /// of their requests.
    fn say_the_last(&mut self, happenings: &mut Vec<Happening>) -> Result<(), ServeError> {
        let until = Instant::now() + LAST_WORDS;
        let mut ready = Vec::new();
        loop {
            self.flush(happenings)?;
            let unsent = self.clients.has_unsent() || self.link.as_ref().is_some_and(Link::has_unsent);
            let left = until.saturating_duration_since(Instant::now());
            if !unsent || left.is_zero() {
                return Ok(());
            }
            self.poll.wait(left.min(LAST_WORDS_PAUSE), &mut ready)?;
            // Whoever still speaks is not answered: nothing is done for them any more. It only must not be a busy loop.
            if !ready.is_empty() {
                std::thread::sleep(LAST_WORDS_PAUSE);
            }
        }
    }

    /// How long nothing has to be done.
    fn wait(&self) -> Duration {
        let room = self.room();
        let held_back = self.link.as_ref().is_some_and(Link::is_held_back) && !self.is_full();
        if held_back || !self.clients.held_back(room).is_empty() {
            return Duration::ZERO;
        }
        if self.disk.is_refused() {
            return REFUSED_PAUSE;
        }
        let (at, _) = self.core.poll_timeout();
        let core = length(at.since(now().monotonic));
        let ours = [
            Some(self.check_at),
            self.stop_at,
            self.clients.deadline(),
            self.link.as_ref().and_then(Link::deadline),
            self.questions.values().map(|question| question.until).min(),
        ];
        let ours = ours.into_iter().flatten().min().map_or(core, |at| at.saturating_duration_since(Instant::now()));
        core.min(ours)
    }

    /// Whether enough data is on its way.
    fn is_full(&self) -> bool {
        self.pool.used_bytes().saturating_sub(self.clients.idle_bytes()) > BUFFERS_BYTES_MAX
    }

    /// How many requests may be taken from clients now.
    fn room(&self) -> usize {
        if self.is_full() { 0 } else { REQUESTS_MAX.saturating_sub(self.requests.len()) }
    }

    fn turn_to(&mut self, ready: Ready, signals: &SignalFd, happenings: &mut Vec<Happening>) -> io::Result<()> {
        match ready.key {
            key::DISK => {}
            key::SIGNALS => {
                while let Ok(Some(_)) = signals.read_signal() {
                    self.stop();
                }
            }
            Control::KEYS_FROM => self.control.accept(&self.poll)?,
            Clients::KEYS_FROM => self.clients.accept(&self.poll)?,
            key if key >= Link::KEYS_FROM => {
                if let Some(link) = &mut self.link {
                    link.ready(ready, &self.pool, &self.poll, happenings)?;
                }
            }
            key if key >= Clients::KEYS_FROM => self.receive(ready),
            _ => {
                let mut asked = Vec::new();
                self.control.ready(ready, &mut asked);
                for (asker, ask) in asked {
                    self.asked(asker, ask);
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, ready: Ready) {
        let room = self.room();
        let offer = if self.is_source {
            Offer::Open(&self.export)
        } else {
            Offer::Closed(&self.export, "this copy is not the source: it serves nothing until it is promoted")
        };
        let mut incoming = Vec::new();
        self.clients.ready(ready, offer, &self.pool, room, &mut incoming);
        for Incoming { cookie, command, data } in incoming {
            let extent = |offset, length| Extent { offset, length };
            let kind = match command {
                Command::Read { offset, length } => RequestKind::Read(extent(offset, length)),
                Command::Write { offset, length, fua } => RequestKind::Write { extent: extent(offset, length), fua },
                Command::Flush => RequestKind::Flush,
                Command::Zero { offset, length, fua, may_free } => {
                    RequestKind::Zero { extent: extent(offset, length), fua, unmap: may_free }
                }
                Command::Disconnect => unreachable!("a client that says good-bye asks for nothing"),
            };
            let read_bytes = read_bytes(command);
            let request = Request { client: ready.key, cookie, data: data.map(Arc::new), read_bytes, read: None };
            let id = RequestId(self.requests.insert(request));
            self.tell(Input::Request { id, connection: ConnectionId(ready.key), kind });
        }
    }

    /// Looks at what was received before, and may be taken now.
    fn go_on(&mut self, happenings: &mut Vec<Happening>) -> io::Result<()> {
        for key in self.clients.held_back(self.room()) {
            self.receive(Ready { key, read: true, write: false, gone: false });
        }
        let is_full = self.is_full();
        if let Some(link) = &mut self.link
            && !is_full
        {
            link.go_on(&self.pool, happenings);
        }
        Ok(())
    }

    fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Up(link) => self.tell(Input::LinkUp(link)),
            Happening::Down(link) => self.tell(Input::LinkDown(link)),
            Happening::Said(link, message, data) => {
                let data = data.map(|data| {
                    let id = ReceivedId(self.next_received);
                    self.next_received += 1;
                    self.received.insert(id, Arc::new(data));
                    id
                });
                self.tell(Input::Received { link, message, data });
            }
        }
    }

    /// Something goes into the core, and what follows is carried out.
    fn tell(&mut self, input: Input) {
        self.core.handle(input, now());
        self.carry_out();
    }

    fn core_on_time(&mut self) {
        let (at, _) = self.core.poll_timeout();
        if now().monotonic >= at {
            self.tell(Input::Tick);
        }
        if std::mem::take(&mut self.look_at_role) {
            let is_source = self.core.status().role == Role::Source;
            if self.is_source && !is_source {
                self.clients.leave();
            }
            self.is_source = is_source;
        }
    }

    fn on_time(&mut self, happenings: &mut Vec<Happening>) -> io::Result<()> {
        let at = Instant::now();
        self.clients.tick();
        if let Some(link) = &mut self.link {
            link.tick(&self.poll, happenings)?;
        }
        if at >= self.check_at {
            self.check_at = at + CHECK_EVERY;
            if self.backing_failure.is_none()
                && let Err(error) = self.disk.volume().check()
            {
                tracing::error!("{error}: nothing is read or written any more");
                self.backing_failure = Some(error.to_string());
            }
        }
        let late: Vec<u64> =
            self.questions.iter().filter(|(_, question)| at >= question.until).map(|(token, _)| *token).collect();
        for token in late {
            self.answered(token, Outcome::Unreachable);
        }
        if self.stop_at.is_some_and(|stop_at| at >= stop_at) {
            tracing::warn!("the volume did not become a target in time; the process ends all the same");
            self.stopped = true;
        }
        Ok(())
    }

    fn asked(&mut self, asker: Asker, ask: Ask) {
        let operator = match ask {
            Ask::Status => {
                let status = Box::new(view::status(&self.name, &self.core.status(), self.view()));
                return self.control.reply(asker, Reply::Status(status));
            }
            Ask::Follow => {
                self.control.follow(asker);
                self.control.reply(asker, Reply::Done);
                for question in self.questions.values() {
                    self.control.tell_one(asker, &question.said);
                }
                return;
            }
            Ask::Right { epoch, entered, until_boot_ms } => {
                self.tell(Input::Right { epoch, entered, until: until_boot_ms.map(Monotonic) });
                return self.control.reply(asker, Reply::Done);
            }
            Ask::RightEnded => {
                self.tell(Input::RightEnded);
                return self.control.reply(asker, Reply::Done);
            }
            Ask::Marked { question, outcome } => {
                self.answered(question, outcome);
                return self.control.reply(asker, Reply::Done);
            }
            Ask::MarkOutdated { epoch, generation } => {
                let token = self.next_marking;
                self.next_marking += 1;
                self.markings.insert(token, asker);
                return self.tell(Input::AskedOutdated { token: Token(token), epoch, generation });
            }
            Ask::Stop => {
                self.control.reply(asker, Reply::Done);
                return self.stop();
            }
            Ask::Promote(basis) => OperatorRequest::Promote(basis.into()),
            Ask::Demote => OperatorRequest::Demote,
            Ask::Pause => OperatorRequest::Pause,
            Ask::Resume => OperatorRequest::Resume,
            Ask::Verify => OperatorRequest::Verify,
            Ask::Invalidate => OperatorRequest::Invalidate,
            Ask::Resolve(side) => OperatorRequest::Resolve(side),
        };
        self.operator(Some(asker), operator);
    }

    fn operator(&mut self, asker: Option<Asker>, request: OperatorRequest) {
        let id = self.next_operator;
        self.next_operator += 1;
        self.operators.insert(id, asker);
        self.tell(Input::Operator { id: OperatorId(id), request });
    }

    /// Ends in order; asked a second time, at once.
    fn stop(&mut self) {
        let is_source = self.core.status().role == Role::Source;
        if self.stop_at.is_some() || !is_source {
            self.stopped = true;
            return;
        }
        tracing::info!("told to end: this copy becomes a target first");
        self.stop_at = Some(Instant::now() + self.stall_time + STOP_EXTRA);
        self.operator(None, OperatorRequest::Demote);
    }

    /// An answer to a question has come, or never will.
    fn answered(&mut self, question: u64, outcome: Outcome) {
        if self.questions.remove(&question).is_some() {
            self.tell(Input::Marked { token: Token(question), outcome: outcome.into() });
        }
    }

    fn flush(&mut self, happenings: &mut Vec<Happening>) -> io::Result<()> {
        let (room, is_full) = (self.room(), self.is_full());
        // What goes to the other copy comes first: its way is the longest, and it is at it while this one hands over its
        // own.
        if let Some(link) = &mut self.link {
            link.flush(is_full, &self.poll, happenings)?;
        }
        self.disk.begin()?;
        self.clients.flush(room, &self.poll)?;
        self.control.flush(&self.poll)?;
        Ok(())
    }

    fn view(&self) -> ServerView {
        let files: &disk::Volume = self.disk.volume();
        ServerView {
            disk: self.disk.engine(),
            direct: files.is_direct,
            block_bytes: files.block_bytes,
            clients: self.clients.count(),
            buffers_bytes: self.pool.used_bytes(),
            link: self.link_secured.to_owned(),
            backing_failure: self.backing_failure.clone(),
        }
    }

    fn say(&mut self, said: &Said) {
        self.control.tell(said);
    }

    /// The bytes that the core names.
    fn bytes(&mut self, data: Data) -> Option<Arc<Buffer>> {
        match data {
            Data::Request(RequestId(id)) => self.requests.get_mut(id)?.data.clone(),
            Data::Received(id) => self.received.remove(&id),
            Data::Read(id) => self.read.remove(&id.0),
        }
    }
}

fn length(Millis(ms): Millis) -> Duration {
    Duration::from_millis(ms)
}
