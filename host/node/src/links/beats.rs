//! Heartbeats: one datagram to each peer on each comm path, sealed with the keys of the session with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_core::message::Heartbeat;
use mainstay_core::names::{NodeName, PathName};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Path;
use super::dropped::Dropped;
use super::keys::{DATAGRAM_BYTES_MAX, Keys};
use crate::happening::Happening;

/// Names of peers are looked up anew this often: an address may change while the daemon lives.
const LOOK_UP: Duration = Duration::from_secs(30);
/// And this often as long as a name is not found.
const LOOK_UP_SOON: Duration = Duration::from_secs(2);
/// After an error on the socket, so that a lasting one does not spin.
const AFTER_ERROR: Duration = Duration::from_millis(50);

type Addresses = Arc<Mutex<BTreeMap<(PathName, NodeName), SocketAddr>>>;

#[derive(Debug)]
pub(super) struct Beats {
    sockets: BTreeMap<PathName, Arc<UdpSocket>>,
    keys: Arc<Keys>,
    addresses: Addresses,
}

impl Beats {
    pub(super) fn new(paths: Vec<Path>, keys: Arc<Keys>, tasks: &mut JoinSet<()>) -> Self {
        let addresses = Addresses::default();
        let sockets = paths.iter().map(|path| (path.name.clone(), path.udp.clone())).collect();
        for path in paths {
            for (peer, address) in path.peers {
                // An address needs no looking up, and its first heartbeat no waiting for it.
                if let Ok(known) = address.parse() {
                    set(&addresses, (path.name.clone(), peer), known);
                } else {
                    tasks.spawn(look_up((path.name.clone(), peer), address, addresses.clone()));
                }
            }
        }
        Self { sockets, keys, addresses }
    }

    pub(super) fn send(&self, heartbeat: &Heartbeat) {
        let key = (heartbeat.path.clone(), heartbeat.to.clone());
        let address = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        let (Some(socket), Some(address)) = (self.sockets.get(&heartbeat.path), address) else { return };
        // Without keys there has been no session yet, and the peer would not believe it.
        let Some(datagram) = self.keys.seal(heartbeat) else { return };
        // One that the system does not take at once is as good as lost on the way, and the next one comes soon.
        if let Err(error) = socket.try_send_to(&datagram, address) {
            tracing::debug!("heartbeat to {} on {}: {error}", heartbeat.to, heartbeat.path);
        }
    }
}

fn set(addresses: &Addresses, key: (PathName, NodeName), address: SocketAddr) {
    addresses.lock().unwrap_or_else(PoisonError::into_inner).insert(key, address);
}

async fn look_up(key: (PathName, NodeName), name: String, addresses: Addresses) {
    loop {
        let wait = match tokio::net::lookup_host(&name).await.map(|mut found| found.next()) {
            Ok(Some(address)) => {
                set(&addresses, key.clone(), address);
                LOOK_UP
            }
            Ok(None) => LOOK_UP_SOON,
            Err(error) => {
                tracing::warn!("the address {name} of {} on comm path {} cannot be looked up: {error}", key.1, key.0);
                LOOK_UP_SOON
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What comes in on one comm path.
#[derive(Debug)]
pub struct Inbox {
    path: PathName,
    keys: Arc<Keys>,
    dropped: Dropped,
    happenings: mpsc::Sender<Happening>,
}

impl Inbox {
    /// Of a comm path.
    #[must_use]
    pub fn new(path: PathName, keys: Arc<Keys>, dropped: Dropped, happenings: mpsc::Sender<Happening>) -> Self {
        Self { path, keys, dropped, happenings }
    }

    /// Takes a datagram: it goes to the core if it is a heartbeat that counts, and is counted if not.
    pub fn take(&self, datagram: &[u8], from: SocketAddr) {
        match self.keys.open(&self.path, datagram) {
            // Waiting here would make heartbeats old; one that finds no room is as good as lost on the way.
            Ok(heartbeat) => drop(self.happenings.try_send(Happening::Heartbeat(heartbeat))),
            Err(reason) => {
                let length = datagram.len();
                self.dropped
                    .drop(reason, || format!("a datagram of {length} bytes from {from} on comm path {}", self.path));
            }
        }
    }
}

pub(super) async fn listen(socket: Arc<UdpSocket>, inbox: Inbox) {
    // One more than the most: what is longer is cut off by the system, and seen to be.
    let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => inbox.take(&buffer[..length], from),
            // An earlier datagram found nobody at its end (ECONNREFUSED), or worse; the socket lives on.
            Err(error) => {
                tracing::debug!("listening for heartbeats: {error}");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}
