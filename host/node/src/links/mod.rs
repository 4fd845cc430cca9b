//! The comm paths: heartbeats as datagrams, messages over one session to each peer.
//!
//! Decides nothing about who is alive: that is the core's, from heartbeats alone. A session is TLS, and both ends have
//! shown their certificates; heartbeats are sealed with keys of the session, so before the first session with a peer
//! none is sent to it, and none of it is believed. A session that breaks is made anew, on the comm path of the best
//! priority that lets it through; of two nodes the one whose name comes first connects.

pub mod beats;
mod connect;
pub mod dropped;
pub mod keys;
pub mod knock;
pub(crate) mod probe;
mod session;
mod tls;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_core::message::{Heartbeat, PeerMessage};
use mainstay_core::names::{NodeName, PathName};
use mainstay_core::spec::Spec;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::certificates::Store;
use crate::happening::Happening;
use connect::Way;
use dropped::Dropped;
use keys::Keys;

/// Messages to one peer that wait to be sent, at the most. A peer that does not take them for so long gets the newest
/// state when it has a session again; the ones in between say nothing more.
const WAITING_MAX: usize = 256;
/// Tries to find a port that is free for both TCP and UDP, when the system chooses.
const PORT_TRIES_MAX: u32 = 50;

/// Who this node is, for the others, and who they are.
#[derive(Clone, Debug)]
pub struct Me {
    /// Of which cluster.
    pub cluster: String,
    /// Which node.
    pub name: NodeName,
    /// All others of the config.
    pub peers: BTreeSet<NodeName>,
}

/// What everything that listens or connects stands on. Cheap to clone, but for the names.
#[derive(Clone, Debug)]
struct Ground {
    me: Me,
    certificates: Store,
    keys: Arc<Keys>,
    dropped: Dropped,
    sessions: Sessions,
    happenings: mpsc::Sender<Happening>,
}

/// One comm path as this node sees it.
#[derive(Debug)]
struct Path {
    name: PathName,
    heartbeat_interval: Duration,
    udp: Arc<UdpSocket>,
    /// Where each peer is found on it, as the config says.
    peers: BTreeMap<NodeName, String>,
}

/// A session as whoever sends sees it.
#[derive(Debug)]
struct Session {
    number: u64,
    queue: mpsc::Sender<PeerMessage>,
    /// Closed when everything that was sent is written, and the session is over.
    over: watch::Receiver<()>,
}

/// Where messages to each peer go, while it has a session.
#[derive(Clone, Debug, Default)]
struct Sessions(Arc<Mutex<BTreeMap<NodeName, Session>>>);

impl Sessions {
    fn with<T>(&self, look: impl FnOnce(&mut BTreeMap<NodeName, Session>) -> T) -> T {
        // Every change is one insertion or removal: the map is whole whatever panicked.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Everything that listens and connects, until it is dropped.
#[derive(Debug)]
pub struct Links {
    beats: beats::Beats,
    sessions: Sessions,
    dropped: Dropped,
    listening: BTreeMap<PathName, SocketAddr>,
    _tasks: JoinSet<()>,
}

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("comm path {path}: cannot listen on {address} (listen.{path}, or else address.{path}, of this node): {source}")]
pub struct ListenError {
    path: PathName,
    address: String,
    source: io::Error,
}

impl Links {
    /// Listens on every comm path, and connects to every peer, from now on. Without `certificates` there is nobody to
    /// talk to, as in a cluster of one node, and nothing is listened to.
    ///
    /// # Errors
    /// When this node cannot listen on one of them.
    pub async fn open(
        spec: &Spec,
        me: &NodeName,
        certificates: Option<Store>,
        happenings: mpsc::Sender<Happening>,
    ) -> Result<Self, ListenError> {
        let mut tasks = JoinSet::new();
        let peers = spec.nodes.keys().filter(|name| *name != me).cloned().collect();
        let me = Me { cluster: spec.cluster.clone(), name: me.clone(), peers };
        let (keys, dropped, sessions) = (Arc::new(Keys::new(me.clone())), Dropped::default(), Sessions::default());
        let mut paths: Vec<_> = spec.paths.iter().collect();
        paths.sort_by_key(|(_, path)| path.priority);
        let mut listening = BTreeMap::new();
        let mut opened = Vec::new();
        let mut accepting = Vec::new();
        for (name, path) in paths.into_iter().filter(|_| certificates.is_some()) {
            let Some(address) =
                spec.nodes.get(&me.name).and_then(|node| node.listen.get(name).or_else(|| node.address.get(name)))
            else {
                continue;
            };
            let (tcp, udp) = listen(address).await.map_err(|source| ListenError {
                path: name.clone(),
                address: address.clone(),
                source,
            })?;
            if let Ok(at) = tcp.local_addr() {
                listening.insert(name.clone(), at);
            }
            let others = spec.nodes.iter().filter(|(peer, _)| me.peers.contains(*peer));
            let peers =
                others.filter_map(|(peer, node)| Some((peer.clone(), node.address.get(name)?.clone()))).collect();
            let heartbeat_interval = Duration::from_millis(path.heartbeat_interval.0);
            opened.push(Path { name: name.clone(), heartbeat_interval, udp: Arc::new(udp), peers });
            accepting.push((name.clone(), tcp));
        }
        if let Some(certificates) = certificates {
            let ground = Ground {
                me,
                certificates,
                keys: keys.clone(),
                dropped: dropped.clone(),
                sessions: sessions.clone(),
                happenings,
            };
            ground.begin(&opened, accepting, &mut tasks);
        }
        let beats = beats::Beats::new(opened, keys, &mut tasks);
        Ok(Self { beats, sessions, dropped, listening, _tasks: tasks })
    }

    /// What came from outside and was dropped.
    #[must_use]
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Where this node listens, really.
    #[must_use]
    pub fn listening(&self) -> &BTreeMap<PathName, SocketAddr> {
        &self.listening
    }

    /// Ends every session, once all that was given to [`Self::send`] is written.
    pub async fn close(&self, limit: Duration) {
        let sessions = self.sessions.with(std::mem::take);
        // Without their queues they write what is left, and end.
        let ending: Vec<_> = sessions.into_values().map(|session| session.over).collect();
        let all = async {
            for mut over in ending {
                // Nothing is ever sent on it: it ends with the session.
                let _ = over.changed().await;
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("not every node has taken the last words of this one within {} s", limit.as_secs_f64());
        }
    }

    /// Sends a heartbeat, if the system takes it at once.
    pub fn beat(&self, heartbeat: &Heartbeat) {
        self.beats.send(heartbeat);
    }

    /// Sends a message, if there is a session.
    pub fn send(&self, to: &NodeName, message: PeerMessage) {
        self.sessions.with(|sessions| {
            let Some(session) = sessions.get(to) else { return };
            if session.queue.try_send(message).is_err() {
                // It does not take any: without its queue the session ends, and the next one begins with everything.
                tracing::warn!("{to} does not take messages: its session ends");
                sessions.remove(to);
            }
        });
    }
}

impl Ground {
    /// Begins to listen and to connect.
    fn begin(&self, paths: &[Path], accepting: Vec<(PathName, TcpListener)>, tasks: &mut JoinSet<()>) {
        for (path, listener) in accepting {
            tasks.spawn(session::accept(self.clone(), path, listener));
        }
        for path in paths {
            let inbox =
                beats::Inbox::new(path.name.clone(), self.keys.clone(), self.dropped.clone(), self.happenings.clone());
            tasks.spawn(beats::listen(path.udp.clone(), inbox));
        }
        for peer in self.me.peers.iter().filter(|peer| self.me.name < **peer) {
            let ways = paths.iter().filter_map(|path| {
                let address = path.peers.get(peer)?.clone();
                Some(Way { path: path.name.clone(), address, heartbeat_interval: path.heartbeat_interval })
            });
            tasks.spawn(connect::keep(self.clone(), peer.clone(), ways.collect()));
        }
    }
}

/// Both sockets of a comm path on the same port, which is the system's choice if it is 0.
async fn listen(address: &str) -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(address).await?;
        let at = tcp.local_addr()?;
        match UdpSocket::bind(at).await {
            Ok(udp) => return Ok((tcp, udp)),
            // Somebody has the UDP port of the TCP port that the system chose.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && address.ends_with(":0") && tries < PORT_TRIES_MAX =>
            {
                tries += 1
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
