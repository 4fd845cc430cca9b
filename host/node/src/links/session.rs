//! Sessions: one connection to each peer that carries messages in order.
//!
//! Decides who is let in: a node of the config whose certificate says the same as it does. How a session begins: TLS,
//! a [`Hello`] of the one that connected, one of the other, and the first one's word that it has come. Only then do both
//! know that the other has the keys for heartbeats, and seal with them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_core::names::{NodeName, PathName};
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsStream;

use super::dropped::Reason;
use super::tls::{self, LinkError, Secured};
use super::wire::{FRAME_BYTES_MAX, Frame, HELLO_BYTES_MAX, Hello, PROTOCOL, read, write};
use super::{Ground, Session, WAITING_MAX};
use crate::happening::Happening;

/// What connecting and introducing oneself may take.
pub(super) const HELLO: Duration = Duration::from_secs(3);
/// Between tries to connect: a peer that comes back is found soon.
pub(super) const AGAIN: Duration = Duration::from_millis(300);
/// A peer that does not acknowledge what is sent (TCP_USER_TIMEOUT in tcp(7)) or take it for so long is not reached on
/// this path; there may be another.
const SILENT: Duration = Duration::from_secs(8);
/// So long the other end may take to read the last that was written.
const GOODBYE: Duration = Duration::from_millis(500);
/// Connections that have not introduced themselves yet, on one comm path, at the most.
const STRANGERS_MAX: usize = 64;

static COUNT: AtomicU64 = AtomicU64::new(1);

/// Lets peers connect.
pub(super) async fn accept(ground: Ground, path: PathName, listener: TcpListener) {
    let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The process has no descriptor left, most likely: the session there is goes on.
            Err(error) => {
                tracing::warn!("comm path {path}: cannot accept a connection: {error}");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let turned_away = |reason, why: &dyn std::fmt::Display| {
            ground.dropped.drop(reason, || format!("comm path {path}: {from} is turned away: {why}"));
        };
        let Ok(stranger) = strangers.clone().try_acquire_owned() else {
            turned_away(Reason::Unauthenticated, &"too many connections have not said who they are");
            continue;
        };
        let (ground, path) = (ground.clone(), path.clone());
        tasks.spawn(async move {
            let met = tokio::time::timeout(HELLO, welcome(&ground, &path, stream)).await;
            drop(stranger);
            let error = match met {
                Ok(Ok((peer, stream))) => {
                    let (going_on, over) = watch::channel(());
                    serve(&ground, peer, stream, going_on, over).await;
                    return;
                }
                Ok(Err(error)) => error,
                Err(_) => LinkError::Stranger(HELLO.as_secs_f32()),
            };
            let Some((reason, why)) = error.blame() else {
                // It has gone, or this node has nothing to show, which is said elsewhere.
                return tracing::debug!("comm path {path}: {from} is turned away: {error}");
            };
            ground.dropped.drop(reason, || format!("comm path {path}: {from} is turned away: {why}"));
        });
    }
}

/// Hears who connects, and says who is here.
async fn welcome(
    ground: &Ground,
    path: &PathName,
    stream: TcpStream,
) -> Result<(NodeName, TlsStream<TcpStream>), LinkError> {
    let me = &ground.me;
    prepare(&stream)?;
    let Secured { mut stream, peer, keys } = tls::accept(&ground.certificates, stream).await?;
    let Frame::Hello(hello) = read(&mut stream, HELLO_BYTES_MAX).await? else { return Err(LinkError::NoHello) };
    let refuse = if hello.protocol != PROTOCOL {
        Some(format!("it speaks version {} of the protocol between nodes, and this node {PROTOCOL}", hello.protocol))
    } else if hello.cluster != me.cluster {
        Some(format!("it belongs to the cluster {}, and this node to {}", hello.cluster, me.cluster))
    } else if hello.from != peer {
        Some(format!("it says that it is {}, and its certificate is that of {peer}", hello.from))
    } else if hello.to != me.name {
        Some(format!("it looks for {}, and this is {}: is an address in the config wrong?", hello.to, me.name))
    } else if hello.from == me.name {
        Some(format!("it says that it is {}, as this node is", me.name))
    } else if !me.peers.contains(&peer) {
        Some(format!("it is {peer}, and the config of {} has no such node", me.name))
    } else {
        None
    };
    if let Some(why) = refuse {
        // Whether it hears why makes no difference here.
        let _ = write(&mut stream, &Frame::Bye(why.clone())).await;
        let _ = stream.shutdown().await;
        return Err(LinkError::Foreign(why));
    }
    let id = keys.id();
    ground.keys.expect(&peer, keys);
    write(&mut stream, &Frame::Hello(hello_to(ground, &peer, path))).await?;
    let Frame::Agreed = read(&mut stream, HELLO_BYTES_MAX).await? else { return Err(LinkError::NoHello) };
    ground.keys.settle(&peer, id);
    Ok((peer, stream))
}

/// Says who is here to a peer that was connected to, and hears who it is.
pub(super) async fn introduce(
    ground: &Ground,
    path: &PathName,
    secured: Secured,
) -> Result<TlsStream<TcpStream>, LinkError> {
    let Secured { mut stream, peer, keys } = secured;
    let id = keys.id();
    // Before it can have them: it may seal with them as soon as it has heard the last word.
    ground.keys.expect(&peer, keys);
    write(&mut stream, &Frame::Hello(hello_to(ground, &peer, path))).await?;
    match read(&mut stream, HELLO_BYTES_MAX).await? {
        Frame::Hello(hello) if hello.from == peer && hello.cluster == ground.me.cluster => {}
        Frame::Hello(hello) => {
            return Err(LinkError::Foreign(format!("there is {} of the cluster {}", hello.from, hello.cluster)));
        }
        Frame::Bye(why) => return Err(LinkError::Refused(why)),
        Frame::Agreed | Frame::Message(_) => return Err(LinkError::NoHello),
    }
    ground.keys.settle(&peer, id);
    write(&mut stream, &Frame::Agreed).await?;
    Ok(stream)
}

fn hello_to(ground: &Ground, peer: &NodeName, path: &PathName) -> Hello {
    Hello {
        protocol: PROTOCOL,
        cluster: ground.me.cluster.clone(),
        from: ground.me.name.clone(),
        to: peer.clone(),
        path: path.clone(),
    }
}

/// Carries messages both ways until the connection breaks or another one takes its place. `going_on` is held until the
/// end.
pub(super) async fn serve(
    ground: &Ground,
    peer: NodeName,
    stream: TlsStream<TcpStream>,
    going_on: watch::Sender<()>,
    over: watch::Receiver<()>,
) {
    let Ground { sessions, happenings, .. } = ground;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (queue, mut waiting) = mpsc::channel(WAITING_MAX);
    // A newer session takes the place of an older: its end may not have been noticed here yet.
    sessions.with(|sessions| sessions.insert(peer.clone(), Session { number, queue, over }));
    if happenings.send(Happening::SessionUp(peer.clone(), number)).await.is_err() {
        return;
    }
    let (mut reading, mut writing) = tokio::io::split(stream);
    let ended: LinkError = tokio::select! {
        ended = async {
            while let Some(message) = waiting.recv().await {
                match tokio::time::timeout(SILENT, write(&mut writing, &Frame::Message(Box::new(message)))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return LinkError::NoAnswer(SILENT.as_secs_f32()),
                }
            }
            LinkError::Replaced
        } => ended,
        ended = async {
            loop {
                match read::<Frame>(&mut reading, FRAME_BYTES_MAX).await {
                    Ok(Frame::Message(message)) => {
                        if happenings.send(Happening::Message(peer.clone(), number, *message)).await.is_err() {
                            return LinkError::Stopping;
                        }
                    }
                    Ok(Frame::Bye(why)) => return LinkError::Refused(why),
                    Ok(Frame::Hello(_) | Frame::Agreed) => {
                        return LinkError::Foreign(format!("{peer} introduces itself twice"));
                    }
                    Err(error) => return error.into(),
                }
            }
        } => ended,
    };
    match ended.blame() {
        Some((reason, why)) => {
            ground.dropped.drop(reason, || format!("the session with {peer} ends: {why}"));
        }
        None => tracing::debug!("session with {peer} ends: {ended}"),
    }
    // Whoever is at the other end learns of it at once, if it still can. A peer that takes nothing is not waited for.
    let _ = tokio::time::timeout(GOODBYE, writing.shutdown()).await;
    sessions.with(|sessions| {
        if sessions.get(&peer).is_some_and(|newest| newest.number == number) {
            sessions.remove(&peer);
        }
    });
    // Without a daemon there is nobody to tell.
    let _ = happenings.send(Happening::SessionLost(peer, number)).await;
    // To close a connection with something unread in it would take from the other end what it has not read yet.
    let _ = tokio::time::timeout(GOODBYE, tokio::io::copy(&mut reading, &mut tokio::io::sink())).await;
    drop(going_on);
}

/// Sets up a connection that was just made.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(SILENT))
}
