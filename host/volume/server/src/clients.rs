//! All NBD clients of a volume, and the socket at which they connect.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::buffers::{Buffer, Pool};
use crate::client::{Client, ClientError, Incoming};
use crate::nbd::negotiate::Offer;
use crate::nbd::transmit::Failure;
use crate::poll::{Interest, Poll, Ready};

/// Connections at one time: what nbdcopy and the kernel open by default is 4. Further ones are closed at once.
pub const CLIENTS_MAX: usize = 16;
/// How long a client may take to say what it wants.
const NEGOTIATION: Duration = Duration::from_secs(10);

/// Makes a Unix socket that only this process's user can open; one that an earlier process left is removed. That there
/// is no other process is known by the lock on the backing.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Clients {
    listener: UnixListener,
    clients: BTreeMap<u64, Entry>,
    next_key: u64,
}

#[derive(Debug)]
struct Entry {
    client: Client,
    interest: Interest,
    since: Instant,
}

impl Clients {
    /// Keys for [`Poll`] that are this one's, up to the link's.
    pub const KEYS_FROM: u64 = 1 << 16;

    /// Begins to listen.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn new(socket: &Path, poll: &Poll) -> io::Result<Self> {
        let listener = listen(socket)?;
        poll.add(&listener, Self::KEYS_FROM, Interest { read: true, write: false })?;
        Ok(Self { listener, clients: BTreeMap::new(), next_key: Self::KEYS_FROM + 1 })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.clients.len()
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let slow = self.clients.values().filter(|entry| entry.client.is_negotiating());
        slow.map(|entry| entry.since + NEGOTIATION).min()
    }

    /// Ends those that have not said in time what they want.
    pub fn tick(&mut self) {
        self.clients.retain(|_, entry| !entry.client.is_negotiating() || entry.since.elapsed() < NEGOTIATION);
    }

    /// Lets somebody in.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn accept(&mut self, poll: &Poll) -> io::Result<()> {
        let socket = match self.listener.accept() {
            Ok((socket, _)) => socket,
            // Who was there is gone already, or it is tried again.
            Err(error) => {
                tracing::debug!("nobody could be accepted at the NBD socket: {error}");
                return Ok(());
            }
        };
        if self.clients.len() >= CLIENTS_MAX {
            tracing::warn!("more than {CLIENTS_MAX} NBD connections: a further one is closed");
            return Ok(());
        }
        let client = Client::new(socket)?;
        let interest = Interest { read: true, write: true };
        poll.add(&client, self.next_key, interest)?;
        self.clients.insert(self.next_key, Entry { client, interest, since: Instant::now() });
        self.next_key += 1;
        Ok(())
    }

    /// Somebody can go on: receives whole requests, at most `room`.
    pub fn ready(&mut self, ready: Ready, offer: Offer<'_>, pool: &Pool, room: usize, incoming: &mut Vec<Incoming>) {
        let Some(entry) = self.clients.get_mut(&ready.key) else { return };
        let result = if ready.read { entry.client.receive(offer, pool, room, incoming) } else { Ok(()) };
        match result {
            // What it has asked for cannot be answered any more.
            Ok(()) if ready.gone => {}
            Ok(()) => return,
            Err(ClientError::Closed) => {}
            Err(error) => tracing::warn!("an NBD connection was ended: {error}"),
        }
        self.clients.remove(&ready.key);
    }

    /// Those who have said something that was received and not looked at, and for which there is room now.
    #[must_use]
    pub fn held_back(&self, room: usize) -> Vec<u64> {
        self.clients.iter().filter(|(_, entry)| entry.client.is_held_back(room)).map(|(key, _)| *key).collect()
    }

    /// Answers a request of a client, if it is still there; see [`Client::answer`].
    pub fn answer(&mut self, key: u64, cookie: u64, read_bytes: usize, result: Result<Option<Buffer>, Failure>) {
        if let Some(entry) = self.clients.get_mut(&key) {
            entry.client.answer(cookie, read_bytes, result);
        }
    }

    /// Memory that is in use until clients go on by themselves, in bytes.
    #[must_use]
    pub fn idle_bytes(&self) -> usize {
        self.clients.values().map(|entry| entry.client.idle_bytes()).sum()
    }

    /// Listens to nobody any more: what is under way is answered.
    pub fn leave(&mut self) {
        for entry in self.clients.values_mut() {
            entry.client.leave();
        }
    }

    /// Whether somebody has not got an answer yet that is made already.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.clients.values().any(|entry| entry.client.interest(0).write)
    }

    /// Sends what can be sent, and says what is waited for.
    ///
    /// # Errors
    /// When the system has no more of something.
    pub fn flush(&mut self, room: usize, poll: &Poll) -> io::Result<()> {
        let mut over = Vec::new();
        for (key, entry) in &mut self.clients {
            if entry.client.send().is_err() || entry.client.is_over() {
                over.push(*key);
                continue;
            }
            let wanted = entry.client.interest(room);
            if wanted != entry.interest {
                poll.change(&entry.client, *key, wanted)?;
                entry.interest = wanted;
            }
        }
        for key in over {
            self.clients.remove(&key);
        }
        Ok(())
    }
}
