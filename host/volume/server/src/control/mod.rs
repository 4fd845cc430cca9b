//! The control socket: how the daemon, and an operator through it, speaks with the process of a volume.
//!
//! Lines of JSON on a Unix socket. Whoever connects asks, each line `{"id": N, "ask": ...}` with an [`Ask`], and gets a
//! line [`Said::Reply`] with that `id`. One that has asked to *follow* also gets what happens, and the questions that
//! only the daemon can answer ([`Said::MarkPeer`], [`Said::MarkArbiter`]); questions wait for a daemon that is being
//! restarted. The process does not depend on anybody being there.

pub mod wire;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::clients::listen;
use crate::outbox::Outbox;
use crate::poll::{Interest, Poll, Ready};
use wire::{Ask, Line, Reply, Said};

/// Connections at one time: a daemon, and some operators. Further ones are closed.
const CONNECTIONS_MAX: usize = 16;
/// The longest line that is taken, in bytes: an ask has some numbers.
const LINE_BYTES_MAX: usize = 16 << 10;
/// What somebody may leave lying before they are not spoken to any more, in bytes.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// Who asked, and by what they know the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    key: u64,
    id: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    connections: BTreeMap<u64, Connection>,
    next_key: u64,
}

#[derive(Debug)]
struct Connection {
    socket: UnixStream,
    received: Vec<u8>,
    outbox: Outbox,
    follows: bool,
    interest: Interest,
}

impl Control {
    /// Keys for [`Poll`] that are this one's, up to the clients'.
    pub const KEYS_FROM: u64 = 1 << 8;

    /// Begins to listen.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new(socket: &Path, poll: &Poll) -> io::Result<Self> {
        let listener = listen(socket)?;
        poll.add(&listener, Self::KEYS_FROM, Interest { read: true, write: false })?;
        Ok(Self { listener, connections: BTreeMap::new(), next_key: Self::KEYS_FROM + 1 })
    }

    /// Lets somebody in.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn accept(&mut self, poll: &Poll) -> io::Result<()> {
        let Ok((socket, _)) = self.listener.accept() else { return Ok(()) };
        // Keys of earlier connections never come again; there are more of them than a process can use up.
        if self.connections.len() >= CONNECTIONS_MAX || self.next_key >= crate::clients::Clients::KEYS_FROM {
            tracing::warn!("more than {CONNECTIONS_MAX} control connections: a further one is closed");
            return Ok(());
        }
        socket.set_nonblocking(true)?;
        let interest = Interest { read: true, write: false };
        poll.add(&socket, self.next_key, interest)?;
        let (received, outbox) = (Vec::new(), Outbox::default());
        self.connections.insert(self.next_key, Connection { socket, received, outbox, follows: false, interest });
        self.next_key += 1;
        Ok(())
    }

    /// Somebody can go on: adds what they ask.
    pub fn ready(&mut self, ready: Ready, asked: &mut Vec<(Asker, Ask)>) {
        let Some(connection) = self.connections.get_mut(&ready.key) else { return };
        if connection.receive(ready.key, asked).is_err() || ready.gone {
            self.connections.remove(&ready.key);
        }
    }

    /// From now on this one is told what happens.
    pub fn follow(&mut self, asker: Asker) {
        if let Some(connection) = self.connections.get_mut(&asker.key) {
            connection.follows = true;
        }
    }

    /// Answers.
    pub fn reply(&mut self, asker: Asker, reply: Reply) {
        if let Some(connection) = self.connections.get_mut(&asker.key) {
            connection.say(&Said::Reply { id: asker.id, reply });
        }
    }

    /// Tells everybody who follows.
    pub fn tell(&mut self, said: &Said) {
        for connection in self.connections.values_mut().filter(|connection| connection.follows) {
            connection.say(said);
        }
    }

    /// Tells one who has just begun to follow.
    pub fn tell_one(&mut self, asker: Asker, said: &Said) {
        if let Some(connection) = self.connections.get_mut(&asker.key) {
            connection.say(said);
        }
    }

    /// Sends what can be sent, and says what is waited for.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn flush(&mut self, poll: &Poll) -> io::Result<()> {
        let mut over = Vec::new();
        for (key, connection) in &mut self.connections {
            let sent = connection.outbox.send(&mut connection.socket);
            if sent.is_err() || connection.outbox.bytes() > UNSENT_BYTES_MAX {
                over.push(*key);
                continue;
            }
            let wanted = Interest { read: true, write: connection.outbox.bytes() > 0 };
            if wanted != connection.interest {
                poll.change(&connection.socket, *key, wanted)?;
                connection.interest = wanted;
            }
        }
        for key in over {
            self.connections.remove(&key);
        }
        Ok(())
    }
}

impl Connection {
    fn say(&mut self, said: &Said) {
        let mut line = match serde_json::to_vec(said) {
            Ok(line) => line,
            Err(error) => unreachable!("plain values can be written: {error}"),
        };
        line.push(b'\n');
        self.outbox.push(&line);
    }

    fn receive(&mut self, key: u64, asked: &mut Vec<(Asker, Ask)>) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let count = match self.socket.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.received.extend_from_slice(&bytes[..count]);
            while let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                match wire::parse(&line[..end]) {
                    Ok(Line { id, ask }) => asked.push((Asker { key, id }, ask)),
                    Err(error) => {
                        let reply = Reply::Error(format!("this is no ask: {error}"));
                        self.say(&Said::Reply { id: wire::id_of(&line[..end]), reply });
                    }
                }
            }
            if self.received.len() > LINE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}
