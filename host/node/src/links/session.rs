//! Sessions: one connection to each peer that carries messages in order, made anew when it breaks.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_core::names::{NodeName, PathName};
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::wire::{FRAME_BYTES_MAX, Frame, HELLO_BYTES_MAX, Hello, PROTOCOL, read, write};
use super::{Me, Session, Sessions, WAITING_MAX};
use crate::happening::Happening;

/// What connecting and introducing oneself may take.
const HELLO: Duration = Duration::from_secs(3);
/// Between tries to connect: a peer that comes back is found soon.
const AGAIN: Duration = Duration::from_millis(300);
/// A peer that does not acknowledge what is sent (TCP_USER_TIMEOUT in tcp(7)) or take it for so long is not reached on
/// this path; there may be another.
const SILENT: Duration = Duration::from_secs(8);
/// So long the other end may take to read the last that was written.
const GOODBYE: Duration = Duration::from_millis(500);
/// Connections that have not introduced themselves yet, on one comm path, at the most.
const STRANGERS_MAX: usize = 64;

static COUNT: AtomicU64 = AtomicU64::new(1);

/// Lets peers connect.
pub(super) async fn accept(
    me: Me,
    path: PathName,
    listener: TcpListener,
    sessions: Sessions,
    happenings: mpsc::Sender<Happening>,
) {
    let strangers = std::sync::Arc::new(tokio::sync::Semaphore::new(STRANGERS_MAX));
    let mut tasks = tokio::task::JoinSet::new();
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
        let Ok(stranger) = strangers.clone().try_acquire_owned() else {
            tracing::warn!("comm path {path}: {from} is turned away, too many connections have not said who they are");
            continue;
        };
        let (me, path, sessions, happenings) = (me.clone(), path.clone(), sessions.clone(), happenings.clone());
        tasks.spawn(async move {
            let mut stream = stream;
            let met = tokio::time::timeout(HELLO, welcome(&me, &path, &mut stream)).await;
            drop(stranger);
            match met {
                Ok(Ok(peer)) => serve(peer, stream, &sessions, &happenings).await,
                Ok(Err(error)) => tracing::warn!("comm path {path}: {from} is turned away: {error}"),
                Err(_) => {
                    tracing::warn!("comm path {path}: {from} has not said who it is within {} s", HELLO.as_secs())
                }
            }
        });
    }
}

/// Connects to a peer again and again, on the comm path of the best priority that lets it through.
pub(super) async fn connect(
    me: Me,
    peer: NodeName,
    ways: Vec<(PathName, String)>,
    sessions: Sessions,
    happenings: mpsc::Sender<Happening>,
) {
    loop {
        for (path, address) in &ways {
            match tokio::time::timeout(HELLO, introduce(&me, &peer, path, address)).await {
                Ok(Ok(stream)) => {
                    serve(peer.clone(), stream, &sessions, &happenings).await;
                    break;
                }
                Ok(Err(error)) => tracing::debug!("comm path {path}: no session with {peer} at {address}: {error}"),
                Err(_) => tracing::debug!("comm path {path}: no session with {peer} at {address}: no answer"),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn introduce(me: &Me, peer: &NodeName, path: &PathName, address: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: me.cluster.clone(),
        from: me.name.clone(),
        to: peer.clone(),
        path: path.clone(),
    };
    write(&mut stream, &Frame::Hello(hello)).await?;
    match read(&mut stream, HELLO_BYTES_MAX).await? {
        Frame::Hello(hello) if hello.from == *peer && hello.cluster == me.cluster => Ok(stream),
        Frame::Hello(hello) => {
            Err(io::Error::other(format!("there is {} of the cluster {}", hello.from, hello.cluster)))
        }
        Frame::Bye(why) => Err(io::Error::other(format!("it says: {why}"))),
        Frame::Message(_) => Err(io::Error::other("it has not said who it is")),
    }
}

/// Hears who connects, and says who is here.
async fn welcome(me: &Me, path: &PathName, stream: &mut TcpStream) -> io::Result<NodeName> {
    let hello = match read(stream, HELLO_BYTES_MAX).await? {
        Frame::Hello(hello) => hello,
        Frame::Bye(_) | Frame::Message(_) => return Err(io::Error::other("it has not said who it is")),
    };
    let refuse = if hello.protocol != PROTOCOL {
        Some(format!("it speaks version {} of the protocol between nodes, and this node {PROTOCOL}", hello.protocol))
    } else if hello.cluster != me.cluster {
        Some(format!("it belongs to the cluster {}, and this node to {}", hello.cluster, me.cluster))
    } else if hello.to != me.name {
        Some(format!("it looks for {}, and this is {}: is an address in the config wrong?", hello.to, me.name))
    } else if hello.from == me.name {
        Some(format!("it says that it is {}, as this node is", me.name))
    } else {
        None
    };
    if let Some(why) = refuse {
        // Whether it hears why makes no difference here.
        let _ = write(stream, &Frame::Bye(why.clone())).await;
        return Err(io::Error::other(why));
    }
    let answer = Hello {
        protocol: PROTOCOL,
        cluster: me.cluster.clone(),
        from: me.name.clone(),
        to: hello.from.clone(),
        path: path.clone(),
    };
    write(stream, &Frame::Hello(answer)).await?;
    Ok(hello.from)
}

/// Carries messages both ways until the connection breaks or another one takes its place.
async fn serve(peer: NodeName, stream: TcpStream, sessions: &Sessions, happenings: &mpsc::Sender<Happening>) {
    if let Err(error) = prepare(&stream) {
        tracing::warn!("session with {peer}: {error}");
        return;
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (queue, mut waiting) = mpsc::channel(WAITING_MAX);
    // Dropped at the end of this function.
    let (_going_on, over) = watch::channel(());
    // A newer session takes the place of an older: its end may not have been noticed here yet.
    sessions.with(|sessions| sessions.insert(peer.clone(), Session { number, queue, over }));
    if happenings.send(Happening::SessionUp(peer.clone(), number)).await.is_err() {
        return;
    }
    let (mut reading, mut writing) = stream.into_split();
    let ended = tokio::select! {
        ended = async {
            while let Some(message) = waiting.recv().await {
                match tokio::time::timeout(SILENT, write(&mut writing, &Frame::Message(Box::new(message)))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return io::ErrorKind::TimedOut.into(),
                }
            }
            io::Error::other("another session takes its place")
        } => ended,
        ended = async {
            loop {
                match read::<Frame>(&mut reading, FRAME_BYTES_MAX).await {
                    Ok(Frame::Message(message)) => {
                        if happenings.send(Happening::Message(peer.clone(), number, *message)).await.is_err() {
                            return io::Error::other("this daemon stops");
                        }
                    }
                    Ok(Frame::Bye(why)) => return io::Error::other(format!("it says: {why}")),
                    Ok(Frame::Hello(_)) => return io::Error::other("it introduces itself twice"),
                    Err(error) => return error,
                }
            }
        } => ended,
    };
    tracing::debug!("session with {peer} ends: {ended}");
    // Whoever is at the other end learns of it at once, if it still can.
    let _ = writing.shutdown().await;
    sessions.with(|sessions| {
        if sessions.get(&peer).is_some_and(|newest| newest.number == number) {
            sessions.remove(&peer);
        }
    });
    // Without a daemon there is nobody to tell.
    let _ = happenings.send(Happening::SessionLost(peer, number)).await;
    // To close a connection with something unread in it would take from the other end what it has not read yet.
    let _ = tokio::time::timeout(GOODBYE, tokio::io::copy(&mut reading, &mut tokio::io::sink())).await;
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(SILENT))
}
