//! One NBD connection: brings a client's bytes to the protocol ([`crate::nbd`]) and its answers to the socket.
//!
//! Decides when to listen: not to a client that has too much under way, or does not take its answers. Data of large
//! writes is received where the disk will take it from; small requests are received many at a time.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::buffers::{Buffer, Pool};
use crate::inbox::Inbox;
use crate::nbd::negotiate::{Negotiation, NegotiationError, Offer, Step, greeting};
use crate::nbd::transmit::{Command, Failure, REQUEST_BYTES, Request, RequestError, reply};
use crate::outbox::Outbox;
use crate::poll::Interest;

/// Requests of one connection under way at once: deeper than queues of clients are (the kernel's and qemu's have 128
/// and 16).
pub const REQUESTS_MAX: usize = 256;
/// Answers that a client may leave lying, and ask for, before it is not listened to any more, in bytes. One request may
/// go beyond it.
const UNSENT_BYTES_MAX: usize = 8 << 20;
/// What is received in one turn before others have theirs, in bytes.
const TURN_BYTES_MAX: usize = 4 << 20;

/// A request that was received whole.
#[derive(Debug)]
pub struct Incoming {
    /// By which the client knows its reply.
    pub cookie: u64,
    /// What to do.
    pub command: Command,
    /// What to write, when it is a write.
    pub data: Option<Buffer>,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client has ended it.
    #[error("the client has closed the connection")]
    Closed,
    /// The system says so.
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    /// The handshake cannot go on.
    #[error("{0}")]
    Negotiation(#[from] NegotiationError),
    /// Requests cannot go on.
    #[error("{0}")]
    Request(#[from] RequestError),
}

#[derive(Debug)]
enum Phase {
    Negotiating(Negotiation),
    Serving,
    /// The client has said good-bye: what is under way is answered, then it ends.
    Leaving,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    phase: Phase,
    inbox: Inbox<Request>,
    outbox: Outbox,
    under_way: usize,
    /// What of them is to be read, in bytes.
    reading_bytes: usize,
    /// Requests may be there that were received and not looked at, as enough was under way.
    is_held_back: bool,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    /// Greets somebody who has connected.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let mut outbox = Outbox::default();
        outbox.push(&greeting());
        Ok(Self {
            socket,
            phase: Phase::Negotiating(Negotiation::default()),
            inbox: Inbox::default(),
            outbox,
            under_way: 0,
            reading_bytes: 0,
            is_held_back: false,
        })
    }

    /// What it waits for. Without `room` for another request it is not listened to.
    #[must_use]
    pub fn interest(&self, room: usize) -> Interest {
        let read = self.room(room) > 0 && !matches!(self.phase, Phase::Leaving);
        Interest { read, write: self.outbox.bytes() > 0 }
    }

    /// Whether it has something to say that was received already, and there is room for it.
    #[must_use]
    pub fn is_held_back(&self, room: usize) -> bool {
        self.is_held_back && self.interest(room).read
    }

    fn room(&self, room: usize) -> usize {
        if self.has_asked_enough() { 0 } else { room.min(REQUESTS_MAX - self.under_way) }
    }

    fn has_asked_enough(&self) -> bool {
        self.outbox.bytes() + self.reading_bytes > UNSENT_BYTES_MAX
    }

    /// Memory that is in use until the client itself goes on: answers that it does not take, and a request whose data it
    /// has not sent. In bytes.
    #[must_use]
    pub fn idle_bytes(&self) -> usize {
        self.outbox.data_bytes() + self.inbox.filling_bytes()
    }

    /// Whether it is still being agreed what it gets.
    #[must_use]
    pub fn is_negotiating(&self) -> bool {
        matches!(self.phase, Phase::Negotiating(_))
    }

    /// Whether nothing is left to be done for it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Leaving) && self.under_way == 0 && self.outbox.bytes() == 0
    }

    /// Listens to it no more: what is under way is answered, then it ends.
    pub fn leave(&mut self) {
        self.phase = Phase::Leaving;
    }

    /// Receives what has come, and adds whole requests to `incoming`, at most `room`.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn receive(
        &mut self,
        offer: Offer<'_>,
        pool: &Pool,
        room: usize,
        incoming: &mut Vec<Incoming>,
    ) -> Result<(), ClientError> {
        let most = incoming.len() + self.room(room);
        let mut received = 0;
        loop {
            self.understand(offer, pool, most, incoming)?;
            if self.is_held_back || received >= TURN_BYTES_MAX || matches!(self.phase, Phase::Leaving) {
                return Ok(());
            }
            let to = self.inbox.room();
            let asked = to.len();
            match self.socket.read(to) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => {
                    received += count;
                    self.inbox.received(count);
                    if count < asked {
                        // There is no more now.
                        return self.understand(offer, pool, most, incoming);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Looks at what was received, until there are `most` requests.
    fn understand(
        &mut self,
        offer: Offer<'_>,
        pool: &Pool,
        most: usize,
        incoming: &mut Vec<Incoming>,
    ) -> Result<(), ClientError> {
        while let Phase::Negotiating(negotiation) = &mut self.phase {
            let mut answer = Vec::new();
            let (took, step) = negotiation.take(self.inbox.bytes(), offer, &mut answer)?;
            self.inbox.take(took);
            self.outbox.push(&answer);
            match step {
                Step::More => return Ok(()),
                Step::Next => {}
                Step::Transmission => self.phase = Phase::Serving,
                Step::Close => self.phase = Phase::Leaving,
            }
        }
        let (Offer::Open(export) | Offer::Closed(export, _)) = offer;
        while matches!(self.phase, Phase::Serving) {
            self.is_held_back = incoming.len() >= most || self.has_asked_enough();
            if self.is_held_back {
                return Ok(());
            }
            if let Some((request, data)) = self.inbox.filled() {
                self.judge(request, Some(data), incoming);
                continue;
            }
            if self.inbox.is_filling() {
                return Ok(());
            }
            let Some(head) = self.inbox.bytes().first_chunk::<REQUEST_BYTES>() else { return Ok(()) };
            let request = Request::parse(head, export)?;
            self.inbox.take(REQUEST_BYTES);
            match request.data_bytes {
                0 => self.judge(request, None, incoming),
                length => self.inbox.fill(request, pool.take(length as usize)),
            }
        }
        Ok(())
    }

    fn judge(&mut self, request: Request, data: Option<Buffer>, incoming: &mut Vec<Incoming>) {
        match request.command {
            Ok(Command::Disconnect) => self.phase = Phase::Leaving,
            Ok(command) => {
                self.under_way += 1;
                self.reading_bytes += read_bytes(command);
                incoming.push(Incoming { cookie: request.cookie, command, data });
            }
            Err(failure) => self.outbox.push(&reply(request.cookie, Err(failure))),
        }
    }

    /// Answers a request; with data, when it was a read of so many bytes.
    pub fn answer(&mut self, cookie: u64, read_bytes: usize, result: Result<Option<Buffer>, Failure>) {
        self.under_way -= 1;
        self.reading_bytes -= read_bytes;
        self.outbox.push(&reply(cookie, result.as_ref().map(|_| ()).map_err(|failure| *failure)));
        if let Ok(Some(data)) = result {
            self.outbox.push_data(Arc::new(data));
        }
    }

    /// Sends what can be sent.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self) -> Result<(), ClientError> {
        Ok(self.outbox.send(&mut self.socket)?)
    }
}

/// How many bytes are read for this.
#[must_use]
pub fn read_bytes(command: Command) -> usize {
    match command {
        Command::Read { length, .. } => length as usize,
        Command::Write { .. } | Command::Flush | Command::Zero { .. } | Command::Disconnect => 0,
    }
}
