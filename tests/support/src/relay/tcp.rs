//! The relay's connections: two threads each, one a direction, that read, wait until the way is open, write.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Direction, LOOK_MS, Shared};

/// Connections at once; a further one is closed. A test that has more has lost count of them.
const CONNECTIONS_MAX: usize = 256;
/// How long the target may take to accept, in s: on loopback it accepts at once or is not there.
const CONNECT_S_MAX: u64 = 10;
/// What is read but not written yet of each connection and direction, in bytes.
const BUFFER_BYTES: usize = 16 << 10;

/// Accepts until the relay ends.
pub(super) fn serve(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut next_id = 0;
    // While cut, nobody accepts: the connection waits in the kernel, and gets no answer.
    while shared.wait_for_target().is_some() {
        threads.retain(|thread| !thread.is_finished());
        let Some(client) = accept(listener) else { continue };
        if threads.len() >= CONNECTIONS_MAX {
            eprintln!("relay: more than {CONNECTIONS_MAX} connections at once; closing a new one");
            continue;
        }
        let shared = Arc::clone(shared);
        let id = next_id;
        next_id += 1;
        threads.push(thread::spawn(move || carry(&shared, id, &client)));
    }
    for thread in threads {
        if thread.join().is_err() {
            eprintln!("relay: the thread of a connection panicked");
        }
    }
}

/// A connection, if one comes within the time between two looks.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let timeout = PollTimeout::try_from(Duration::from_millis(LOOK_MS)).unwrap_or(PollTimeout::ZERO);
    let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // Interrupted or timed out: the loop around this looks again.
    if !poll(&mut ready, timeout).is_ok_and(|count| count > 0) {
        return None;
    }
    match listener.accept() {
        Ok((stream, _)) => Some(stream),
        // Gone again before it was accepted.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => None,
        Err(error) => {
            eprintln!("relay: accept failed: {error}");
            thread::sleep(Duration::from_millis(LOOK_MS));
            None
        }
    }
}

/// One connection from its start to its end. A target that does not accept is told by closing.
fn carry(shared: &Arc<Shared>, id: u64, client: &TcpStream) {
    // It may have been cut while the accepting thread was waiting.
    let Some(target) = shared.wait_for_target() else { return };
    let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(CONNECT_S_MAX)) else { return };
    if let Err(error) = pump_both(shared, id, client, &far) {
        eprintln!("relay: a connection to {target} could not be carried: {error}");
    }
    shared.change(|state| drop(state.connections.remove(&id)));
}

fn pump_both(shared: &Arc<Shared>, id: u64, client: &TcpStream, far: &TcpStream) -> io::Result<()> {
    for stream in [client, far] {
        // What accept gave is non-blocking on some systems; small pieces are not held back.
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
    }
    let ends = [client.try_clone()?, far.try_clone()?];
    shared.change(|state| {
        // The relay may have ended while the target was being connected.
        if !state.ends {
            state.connections.insert(id, ends);
        }
    });
    thread::scope(|scope| {
        scope.spawn(|| pump(shared, id, Direction::ToTarget, client, far));
        pump(shared, id, Direction::ToClient, far, client);
    });
    Ok(())
}

/// Carries one direction until its end, which it passes on, or until the connection is dropped.
fn pump(shared: &Shared, id: u64, direction: Direction, mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer);
        // Also an end is news that does not get through a cut.
        if !shared.wait_open(id, direction) {
            close(from, to, Shutdown::Both);
            return;
        }
        match read {
            Ok(0) => {
                close(to, to, Shutdown::Write);
                return;
            }
            Ok(length) if to.write_all(&buffer[..length]).is_ok() => {
                shared.carried(direction).fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Reset by one of them: the other is told the only way there is.
            Ok(_) | Err(_) => {
                close(from, to, Shutdown::Both);
                return;
            }
        }
    }
}

fn close(one: &TcpStream, other: &TcpStream, how: Shutdown) {
    // Closed by its peer already: nothing is left to close.
    let _ = one.shutdown(how);
    let _ = other.shutdown(how);
}
