//! The mirror link: one connection to the node that has the other copy.
//!
//! One side listens and the other connects, so that there are never two at once. Decides when to connect, who is let in
//! ([`credentials`]) and when a connection is over; what is said on it is the core's. A connection that comes while there
//! is one takes its place: the peer would not make it if the old one still served.

pub mod credentials;
pub mod frame;
pub mod stream;

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_volume_core::io::LinkId;
use mainstay_volume_core::message::Message;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::buffers::{Buffer, Pool};
use crate::inbox::Inbox;
use crate::outbox::Outbox;
use crate::poll::{Interest, Poll, Ready};
use credentials::{Credentials, StrangerError};
use frame::FrameError;
use stream::Stream;

/// What a connection may take until it is known who is at its other end: a packet that is lost is sent again after 1 s
/// and 2 s more (RFC 6298 §2).
const INTRODUCTION: Duration = Duration::from_secs(5);
/// How soon a new connection is tried, at first.
const AGAIN_MIN: Duration = Duration::from_millis(250);
/// And at last, where none lasts.
const AGAIN_MAX: Duration = Duration::from_secs(4);
/// One that has lasted for so long was good.
const GOOD: Duration = Duration::from_secs(10);
/// Strangers, at one time. For a further one the one that has taken longest has to go: who only connects, and says
/// nothing, keeps nobody out.
const STRANGERS_MAX: usize = 8;
/// What is received in one turn before others have theirs, in bytes.
const TURN_BYTES_MAX: usize = 4 << 20;

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer connects to here.
    Listens(SocketAddr),
    /// It listens there.
    Connects(SocketAddr),
}

/// What has happened.
#[derive(Debug)]
pub enum Happening {
    /// There is a connection, and the peer at its other end.
    Up(LinkId),
    /// There is no more.
    Down(LinkId),
    /// The peer has said something.
    Said(LinkId, Message, Option<Buffer>),
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("{0}")]
    Connection(#[from] io::Error),
    #[error("the other end has closed it")]
    Closed,
    #[error("it has not shown who it is within {} s", INTRODUCTION.as_secs())]
    Slow,
    #[error("{0}")]
    Stranger(#[from] StrangerError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("a new connection takes its place")]
    Replaced,
    #[error("it has not shown who it is, and there are too many who have not")]
    Crowded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// TCP is not there yet.
    Connecting,
    /// Both ends show who they are.
    Introducing,
    Up(LinkId),
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    address: SocketAddr,
    phase: Phase,
    since: Instant,
    interest: Interest,
    inbox: Inbox<Message>,
    outbox: Outbox,
    /// Something was received and not looked at: it is in this process, and no poll tells of it.
    is_held_back: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Link {
    end: End,
    /// None: nobody shows who they are.
    credentials: Option<Credentials>,
    listener: Option<TcpListener>,
    connections: BTreeMap<u64, Connection>,
    next_key: u64,
    next_id: u64,
    /// When to connect.
    connect_at: Option<Instant>,
    again: Duration,
    /// What was last said of a connection that failed: it is said once.
    last_failure: String,
}

impl Link {
    /// Keys for [`Poll`] that are this one's, from here on.
    pub const KEYS_FROM: u64 = 1 << 32;

    /// Begins to listen, or to connect.
    ///
    /// # Errors
    /// When the address cannot be listened at.
    pub fn new(end: End, credentials: Option<Credentials>, poll: &Poll) -> io::Result<Self> {
        let listener = match end {
            End::Connects(_) => None,
            End::Listens(address) => {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                poll.add(&listener, Self::KEYS_FROM, Interest { read: true, write: false })?;
                Some(listener)
            }
        };
        Ok(Self {
            end,
            credentials,
            connect_at: listener.is_none().then(Instant::now),
            listener,
            connections: BTreeMap::new(),
            next_key: Self::KEYS_FROM + 1,
            next_id: 1,
            again: AGAIN_MIN,
            last_failure: String::new(),
        })
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let strangers = self.connections.values().filter(|connection| !matches!(connection.phase, Phase::Up(_)));
        strangers.map(|connection| connection.since + INTRODUCTION).chain(self.connect_at).min()
    }

    /// Does what it is time for.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn tick(&mut self, poll: &Poll, happenings: &mut Vec<Happening>) -> io::Result<()> {
        let now = Instant::now();
        let slow: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, one)| !matches!(one.phase, Phase::Up(_)) && now >= one.since + INTRODUCTION)
            .map(|(key, _)| *key)
            .collect();
        for key in slow {
            self.end(key, &Over::Slow, happenings);
        }
        if self.connect_at.is_some_and(|at| now >= at)
            && let End::Connects(address) = self.end
        {
            self.connect_at = None;
            if let Err(error) = self.connect(address, poll) {
                self.failed(address, &error.into());
                self.connect_later();
            }
        }
        Ok(())
    }

    fn connect(&mut self, address: SocketAddr, poll: &Poll) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => return Err(error),
        }
        let session = self.credentials.as_ref().map(Credentials::connect).transpose().map_err(io::Error::other)?;
        self.add(Stream::new(socket.into(), session), address, Phase::Connecting, poll)
    }

    fn add(&mut self, stream: Stream, address: SocketAddr, phase: Phase, poll: &Poll) -> io::Result<()> {
        // Frames are short, and each is waited for.
        stream.socket().set_nodelay(true)?;
        let interest = Interest { read: true, write: true };
        poll.add(&stream, self.next_key, interest)?;
        let connection = Connection {
            stream,
            address,
            phase,
            since: Instant::now(),
            interest,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            is_held_back: false,
        };
        self.connections.insert(self.next_key, connection);
        self.next_key += 1;
        Ok(())
    }

    /// Somebody of this one's keys can go on.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn ready(&mut self, ready: Ready, pool: &Pool, poll: &Poll, happenings: &mut Vec<Happening>) -> io::Result<()> {
        if ready.key == Self::KEYS_FROM {
            return self.accept(poll, happenings);
        }
        let Some(connection) = self.connections.get_mut(&ready.key) else { return Ok(()) };
        if connection.phase == Phase::Connecting {
            let connected = connection.stream.socket().take_error();
            if let Some(error) = connected.unwrap_or_else(Some) {
                self.end(ready.key, &error.into(), happenings);
                return Ok(());
            }
            connection.phase = Phase::Introducing;
        }
        if connection.phase == Phase::Introducing {
            match connection.introduce(self.credentials.as_ref()) {
                Ok(false) => return Ok(()),
                Ok(true) => self.up(ready.key, happenings),
                Err(over) => {
                    self.end(ready.key, &over, happenings);
                    return Ok(());
                }
            }
        }
        if ready.read {
            self.receive(ready.key, pool, happenings);
        }
        Ok(())
    }

    fn accept(&mut self, poll: &Poll, happenings: &mut Vec<Happening>) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        match listener.accept() {
            Ok((socket, address)) => {
                let strangers = self.connections.iter().filter(|(_, one)| one.phase == Phase::Introducing);
                let strangers: Vec<u64> = strangers.map(|(key, _)| *key).collect();
                if let Some(oldest) = strangers.first().filter(|_| strangers.len() >= STRANGERS_MAX) {
                    self.end(*oldest, &Over::Crowded, happenings);
                }
                socket.set_nonblocking(true)?;
                let session =
                    self.credentials.as_ref().map(Credentials::accept).transpose().map_err(io::Error::other)?;
                self.add(Stream::new(socket, session), address, Phase::Introducing, poll)
            }
            // Who was there is gone already (accept(2)), or it is not this process's fault. It is tried again.
            Err(error) => {
                tracing::debug!("nobody could be accepted at the mirror link: {error}");
                Ok(())
            }
        }
    }

    fn up(&mut self, key: u64, happenings: &mut Vec<Happening>) {
        let older: Vec<u64> =
            self.connections.iter().filter(|(_, one)| matches!(one.phase, Phase::Up(_))).map(|(key, _)| *key).collect();
        for key in older {
            self.end(key, &Over::Replaced, happenings);
        }
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let id = LinkId(self.next_id);
        self.next_id += 1;
        connection.phase = Phase::Up(id);
        connection.since = Instant::now();
        self.last_failure.clear();
        happenings.push(Happening::Up(id));
    }

    fn receive(&mut self, key: u64, pool: &Pool, happenings: &mut Vec<Happening>) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let Phase::Up(id) = connection.phase else { return };
        if let Err(over) = connection.receive(id, pool, happenings) {
            self.end(key, &over, happenings);
        }
    }

    /// Whether something was received that was not looked at, and no poll tells of it.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.connections.values().any(|connection| connection.is_held_back)
    }

    /// Looks at what was held back.
    pub fn go_on(&mut self, pool: &Pool, happenings: &mut Vec<Happening>) {
        let held: Vec<u64> = self.connections.iter().filter(|(_, one)| one.is_held_back).map(|(key, _)| *key).collect();
        for key in held {
            self.receive(key, pool, happenings);
        }
    }

    /// Tells the peer something, if this connection is still there.
    pub fn say(&mut self, link: LinkId, message: &Message, data: Option<Arc<Buffer>>) {
        if let Some(connection) = self.of(link).and_then(|key| self.connections.get_mut(&key)) {
            connection.outbox.push(&frame::head(message));
            if let Some(data) = data {
                connection.outbox.push_data(data);
            }
        }
    }

    /// Ends a connection from here, without a [`Happening::Down`]. What was said on it before is still tried to be sent.
    pub fn close(&mut self, link: LinkId, at_once_again: bool) {
        let Some(key) = self.of(link) else { return };
        let Some(mut connection) = self.connections.remove(&key) else { return };
        // The peer finds out anyway that the connection is gone; why, only by what arrives.
        let _ = connection.send();
        if at_once_again {
            self.again = AGAIN_MIN;
        } else {
            self.consider(&connection);
        }
        self.connect_later();
    }

    /// Whether the peer has not got something yet that was said.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.connections.values().any(|one| matches!(one.phase, Phase::Up(_)) && one.wants(true).write)
    }

    /// Sends what can be sent, and says what is waited for. With `is_full` nothing more is received.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn flush(&mut self, is_full: bool, poll: &Poll, happenings: &mut Vec<Happening>) -> io::Result<()> {
        let mut over = Vec::new();
        for (key, connection) in &mut self.connections {
            if let Err(error) = connection.send() {
                over.push((*key, error));
                continue;
            }
            let wanted = connection.wants(is_full);
            if wanted != connection.interest {
                poll.change(&connection.stream, *key, wanted)?;
                connection.interest = wanted;
            }
        }
        for (key, error) in over {
            self.end(key, &error.into(), happenings);
        }
        Ok(())
    }

    fn of(&self, link: LinkId) -> Option<u64> {
        self.connections.iter().find(|(_, one)| one.phase == Phase::Up(link)).map(|(key, _)| *key)
    }

    fn end(&mut self, key: u64, why: &Over, happenings: &mut Vec<Happening>) {
        let Some(connection) = self.connections.remove(&key) else { return };
        match connection.phase {
            Phase::Up(id) => {
                tracing::info!("mirror link to {}: {why}", connection.address);
                self.consider(&connection);
                happenings.push(Happening::Down(id));
            }
            Phase::Connecting | Phase::Introducing => {
                self.failed(connection.address, why);
                self.again = (self.again * 2).min(AGAIN_MAX);
            }
        }
        self.connect_later();
    }

    /// One that was not good makes the next wait longer.
    fn consider(&mut self, connection: &Connection) {
        let was_good = connection.since.elapsed() >= GOOD;
        self.again = if was_good { AGAIN_MIN } else { (self.again * 2).min(AGAIN_MAX) };
    }

    fn connect_later(&mut self) {
        if self.listener.is_none() && self.connections.is_empty() {
            self.connect_at = Some(Instant::now() + self.again);
        }
    }

    fn failed(&mut self, address: SocketAddr, why: &Over) {
        let said = format!("no mirror link with {}: {why}", address.ip());
        if said != self.last_failure {
            tracing::warn!("{said}");
            self.last_failure = said;
        }
    }
}

impl Connection {
    /// Whether it is known by now who is at the other end.
    fn introduce(&mut self, credentials: Option<&Credentials>) -> Result<bool, Over> {
        if !self.stream.shake_hands()? {
            return Ok(false);
        }
        if let (Some(credentials), Some(session)) = (credentials, self.stream.session()) {
            credentials.judge(session)?;
        }
        Ok(true)
    }

    fn receive(&mut self, id: LinkId, pool: &Pool, happenings: &mut Vec<Happening>) -> Result<(), Over> {
        let mut received = 0;
        self.is_held_back = false;
        while received < TURN_BYTES_MAX {
            match self.stream.read(self.inbox.room()) {
                Ok(0) => return Err(Over::Closed),
                Ok(count) => {
                    received += count;
                    self.inbox.received(count);
                    while let Some((message, data)) = frame::next(&mut self.inbox, pool)? {
                        happenings.push(Happening::Said(id, message, data));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.is_held_back = true;
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.phase == Phase::Connecting {
            return Ok(());
        }
        self.stream.flush()?;
        self.outbox.send(&mut self.stream)
    }

    fn wants(&self, is_full: bool) -> Interest {
        let write = self.phase == Phase::Connecting || self.outbox.bytes() > 0 || self.stream.wants_write();
        // Who is at the other end is wanted to be known at any time.
        Interest { read: !is_full || !matches!(self.phase, Phase::Up(_)), write }
    }
}
