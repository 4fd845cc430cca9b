//! One NBD connection: brings a client's bytes to the protocol ([`crate::nbd`]) and its answers to the socket.
//!
//! Decides when to listen: not to a client that has too much under way, or does not take its answers. Data of large
//! writes is received where the disk will take it from; small requests are received many at a time.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::buffers::{Buffer, Pool};
use crate::nbd::negotiate::{Negotiation, NegotiationError, Offer, Step, greeting};
use crate::nbd::transmit::{Command, Failure, REQUEST_BYTES, Request, RequestError, reply};
use crate::outbox::Outbox;
use crate::poll::Interest;

/// Requests of one connection under way at once: deeper than queues of clients are (the kernel's and qemu's have 128
/// and 16).
pub const REQUESTS_MAX: usize = 256;
/// Answers that a client may leave lying before it is not listened to any more, in bytes.
const UNSENT_BYTES_MAX: usize = 8 << 20;
/// What is received at once where it is not known yet what it is, in bytes: some small writes.
const STAGING_BYTES: usize = 128 << 10;
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

/// A write whose data is being received.
#[derive(Debug)]
struct Partial {
    request: Request,
    data: Buffer,
    filled: usize,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    phase: Phase,
    staging: Vec<u8>,
    /// What of `staging` is received and not looked at.
    held: std::ops::Range<usize>,
    partial: Option<Partial>,
    outbox: Outbox,
    under_way: usize,
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
            staging: vec![0; STAGING_BYTES],
            held: 0..0,
            partial: None,
            outbox,
            under_way: 0,
        })
    }

    /// What it waits for. With `is_full` it is not listened to, as enough is under way in all.
    #[must_use]
    pub fn interest(&self, is_full: bool) -> Interest {
        let busy = is_full || self.under_way >= REQUESTS_MAX || self.outbox.bytes() > UNSENT_BYTES_MAX;
        Interest { read: !busy && !matches!(self.phase, Phase::Leaving), write: self.outbox.bytes() > 0 }
    }

    /// Whether it has its export.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving)
    }

    /// Whether nothing is left to be done for it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Leaving) && self.under_way == 0 && self.outbox.bytes() == 0
    }

    /// Says no more to it than what is under way.
    pub fn leave(&mut self) {
        self.phase = Phase::Leaving;
    }

    /// Receives what has come, and adds whole requests to `incoming`.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn receive(&mut self, offer: Offer<'_>, pool: &Pool, incoming: &mut Vec<Incoming>) -> Result<(), ClientError> {
        let mut received = 0;
        while received < TURN_BYTES_MAX {
            let room = match &mut self.partial {
                Some(partial) => &mut partial.data[partial.filled..],
                None => {
                    if self.held.start > 0 {
                        self.staging.copy_within(self.held.clone(), 0);
                        self.held = 0..self.held.len();
                    }
                    &mut self.staging[self.held.end..]
                }
            };
            let asked = room.len();
            let count = match self.socket.read(room) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            received += count;
            match &mut self.partial {
                Some(partial) => partial.filled += count,
                None => self.held.end += count,
            }
            self.understand(offer, pool, incoming)?;
            if self.under_way >= REQUESTS_MAX || count < asked || matches!(self.phase, Phase::Leaving) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Looks at everything received.
    fn understand(&mut self, offer: Offer<'_>, pool: &Pool, incoming: &mut Vec<Incoming>) -> Result<(), ClientError> {
        while let Phase::Negotiating(negotiation) = &mut self.phase {
            let mut answer = Vec::new();
            let (took, step) = negotiation.take(&self.staging[self.held.clone()], offer, &mut answer)?;
            self.held.start += took;
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
            if let Some(partial) = &mut self.partial {
                let missing = partial.data.len() - partial.filled;
                let count = missing.min(self.held.len());
                let from = self.held.start;
                partial.data[partial.filled..][..count].copy_from_slice(&self.staging[from..from + count]);
                partial.filled += count;
                self.held.start += count;
                if count < missing {
                    return Ok(());
                }
            }
            if let Some(Partial { request, data, .. }) = self.partial.take() {
                self.judge(request, Some(data), incoming);
                continue;
            }
            let Some(head) = self.staging[self.held.clone()].first_chunk::<REQUEST_BYTES>() else { return Ok(()) };
            let request = Request::parse(head, export)?;
            self.held.start += REQUEST_BYTES;
            match request.data_bytes {
                0 => self.judge(request, None, incoming),
                length => self.partial = Some(Partial { request, data: pool.take(length as usize), filled: 0 }),
            }
        }
        Ok(())
    }

    fn judge(&mut self, request: Request, data: Option<Buffer>, incoming: &mut Vec<Incoming>) {
        match request.command {
            Ok(Command::Disconnect) => self.phase = Phase::Leaving,
            Ok(command) => {
                self.under_way += 1;
                incoming.push(Incoming { cookie: request.cookie, command, data });
            }
            Err(failure) => self.outbox.push(&reply(request.cookie, Err(failure))),
        }
    }

    /// Answers a request; with data, when it was a read.
    pub fn answer(&mut self, cookie: u64, result: Result<Option<Buffer>, Failure>) {
        self.under_way -= 1;
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
