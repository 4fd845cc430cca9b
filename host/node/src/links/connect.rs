//! Keeps a session with one peer: on the comm path of the best priority that lets it through, made anew when it breaks.
//!
//! A comm path that is cut says nothing, so a session on it does not break by itself for a while. When the heartbeats of
//! its path fall silent the session is not ended, as that says nothing of the peer, but a new one is tried beside it,
//! over every path. It takes the old one's place once it is there.

use std::time::{Duration, Instant};

use mainstay_core::names::{NodeName, PathName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Ground;
use super::session::{AGAIN, HELLO, introduce, prepare, serve};
use super::tls::{self, LinkError, Secured};

/// What a TCP connection alone may take: the first packet is sent again after a second (RFC 6298 §2), and a new try is as
/// good as that.
const CONNECT: Duration = Duration::from_secs(1);
/// The next comm path is tried beside the one before after so long (as RFC 8305 §5 does with addresses).
const NEXT_WAY: Duration = Duration::from_millis(250);
/// A path whose heartbeats have not come for so many intervals may be cut: one may be lost, and one late.
const INTERVALS_SILENT: u32 = 2;

/// One way to a peer.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) path: PathName,
    pub(super) address: String,
    pub(super) heartbeat_interval: Duration,
}

/// A session as whoever keeps it sees it.
struct Kept {
    way: Way,
    since: Instant,
    over: watch::Receiver<()>,
}

/// Keeps a session with a peer over one of these ways, the best first.
pub(super) async fn keep(ground: Ground, peer: NodeName, ways: Vec<Way>) {
    let mut serving = JoinSet::new();
    let mut kept: Option<Kept> = None;
    loop {
        while serving.try_join_next().is_some() {}
        if let Some(session) = &mut kept {
            let ended = tokio::select! {
                // Nothing is ever sent on it: it ends with the session.
                _ = session.over.changed() => true,
                () = falls_silent(&ground, &peer, &session.way, session.since) => false,
            };
            if ended {
                kept = None;
                sleep(AGAIN).await;
            } else {
                tracing::debug!("comm path {}: no heartbeat of {peer} comes; trying every path", session.way.path);
            }
        }
        match reach(&ground, &peer, &ways).await {
            Ok((way, stream)) => {
                let (going_on, over) = watch::channel(());
                tracing::debug!("session with {peer} on comm path {}", way.path);
                let (ground, peer, seen) = (ground.clone(), peer.clone(), over.clone());
                serving.spawn(async move { serve(&ground, peer, stream, going_on, seen).await });
                kept = Some(Kept { way, since: Instant::now(), over });
            }
            Err(Unreached) => sleep(AGAIN).await,
        }
    }
}

/// No way has led to the peer; why is said already.
struct Unreached;

async fn reach(
    ground: &Ground,
    peer: &NodeName,
    ways: &[Way],
) -> Result<(Way, tokio_rustls::TlsStream<TcpStream>), Unreached> {
    let mut left = ways.to_vec();
    // Those first on which it is heard, each kind by priority.
    left.sort_by_key(|way| !is_heard(ground, peer, way));
    let mut left = left.into_iter();
    let mut trying = JoinSet::new();
    let mut more = true;
    loop {
        if more {
            match left.next() {
                Some(way) => {
                    let (ground, peer) = (ground.clone(), peer.clone());
                    trying.spawn(async move { (dial(&ground, &peer, &way).await, way) });
                }
                None => more = false,
            }
        }
        let (secured, way) = tokio::select! {
            tried = trying.join_next() => match tried {
                Some(Ok(tried)) => tried,
                // One that has panicked has failed.
                Some(Err(_)) => continue,
                None if more => continue,
                None => return Err(Unreached),
            },
            () = sleep(NEXT_WAY), if more => continue,
        };
        // One after the other from here: of two that are introduced, each end could keep another.
        let introduced = match secured {
            Ok(secured) => timeout(HELLO, introduce(ground, &way.path, secured))
                .await
                .unwrap_or(Err(LinkError::NoAnswer(HELLO.as_secs_f32()))),
            Err(error) => Err(error),
        };
        match introduced {
            Ok(stream) => return Ok((way, stream)),
            Err(error) => {
                let Way { path, address, .. } = &way;
                let line = |why: &str| format!("comm path {path}: no session with {peer} at {address}: {why}");
                match error.blame() {
                    Some((reason, why)) => {
                        ground.dropped.drop(reason, || line(&why));
                    }
                    None => tracing::debug!("{}", line(&error.to_string())),
                }
            }
        }
    }
}

/// Connects, and sees that it is the peer.
async fn dial(ground: &Ground, peer: &NodeName, way: &Way) -> Result<Secured, LinkError> {
    let stream = timeout(CONNECT, TcpStream::connect(&way.address))
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?;
    prepare(&stream)?;
    timeout(HELLO, tls::connect(&ground.certificates, peer, stream))
        .await
        .unwrap_or(Err(LinkError::NoAnswer(HELLO.as_secs_f32())))
}

fn is_heard(ground: &Ground, peer: &NodeName, way: &Way) -> bool {
    let silent = way.heartbeat_interval * INTERVALS_SILENT;
    ground.keys.heard(peer, &way.path).is_some_and(|at| at.elapsed() <= silent)
}

/// Ends when the peer was heard on the session's path and is not any more. Twice in a row, so that a process that was
/// late has taken what came meanwhile; and only if it was heard in this session, so that where datagrams do not come
/// through at all, sessions are not made again and again.
async fn falls_silent(ground: &Ground, peer: &NodeName, way: &Way, since: Instant) {
    let mut silent = false;
    loop {
        sleep(way.heartbeat_interval / 2).await;
        let was_heard = ground.keys.heard(peer, &way.path).is_some_and(|at| at > since);
        let silent_before = std::mem::replace(&mut silent, was_heard && !is_heard(ground, peer, way));
        if silent && silent_before {
            return;
        }
    }
}
