//! A link between two loopback ports that can fall silent as if its cable was cut.
//!
//! What arrives at the relay's port, TCP or UDP, goes on to its target, and what comes back goes back.
//! [`Relay::cut`] stops that *without closing anything*: datagrams are lost, bytes of a connection wait, a
//! new connection gets no answer, and that one side closed is not told to the other. [`Relay::resume`] lets
//! everything go on. Nothing else is like a pulled cable on one machine: a killed process closes its sockets.
//!
//! It differs from a cable in this: the kernel goes on acknowledging what was sent to the relay, so a sender
//! sees silence but no unacknowledged data; and that nobody listens at the target shows as a connection
//! closed at once (TCP) or as a lost datagram (UDP), not as a refusal.

mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often a thread that waits for the network looks whether it should end, in ms. Data is never delayed by it.
const LOOK_MS: u64 = 50;
/// Ports tried until one is free for both TCP and UDP.
const BINDS_MAX: u32 = 100;

/// A way through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whoever connected to the target.
    ToTarget,
    /// From the target to whoever connected.
    ToClient,
}

/// The link; everything through it ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// A port on 127.0.0.1, the same number for TCP and UDP, that leads nowhere yet: until
    /// [`Relay::set_target`] it behaves as if cut.
    ///
    /// # Errors
    /// When no port is free for both.
    pub fn new() -> io::Result<Self> {
        let (listener, socket) = bind_both()?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        socket.set_read_timeout(Some(Duration::from_millis(LOOK_MS)))?;
        let shared = Arc::new(Shared::default());
        let for_tcp = Arc::clone(&shared);
        let for_udp = Arc::clone(&shared);
        let threads = vec![
            thread::spawn(move || tcp::serve(&for_tcp, &listener)),
            thread::spawn(move || udp::serve(&for_udp, socket)),
        ];
        Ok(Self { shared, address, threads })
    }

    /// A relay that leads to `target`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn to(target: SocketAddr) -> io::Result<Self> {
        let relay = Self::new()?;
        relay.set_target(target);
        Ok(relay)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads from now on; connections that exist stay where they are.
    pub fn set_target(&self, target: SocketAddr) {
        self.shared.change(|state| state.target = Some(target));
    }

    /// Silence, both ways.
    pub fn cut(&self) {
        self.shared.change(|state| (state.cut_to_target, state.cut_to_client) = (true, true));
    }

    /// Silence, one way. No new TCP connection gets through either: that takes both.
    pub fn cut_one_way(&self, direction: Direction) {
        self.shared.change(|state| *state.cut_mut(direction) = true);
    }

    /// Everything goes on.
    pub fn resume(&self) {
        self.shared.change(|state| (state.cut_to_target, state.cut_to_client) = (false, false));
    }

    /// Closes every TCP connection, cut or not, at both ends.
    pub fn drop_connections(&self) {
        self.shared.change(State::close_all);
    }

    /// Bytes that went on in this direction so far, TCP and UDP.
    #[must_use]
    pub fn carried_bytes(&self, direction: Direction) -> u64 {
        self.shared.carried(direction).load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.ends = true;
            state.close_all();
        });
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("relay {}: one of its threads panicked", self.address);
            }
        }
    }
}

fn bind_both() -> io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match UdpSocket::bind(listener.local_addr()?) {
            Ok(socket) => return Ok((listener, socket)),
            Err(error) if tries == BINDS_MAX => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

/// What the threads have in common.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    to_target_bytes: AtomicU64,
    to_client_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    target: Option<SocketAddr>,
    cut_to_target: bool,
    cut_to_client: bool,
    ends: bool,
    /// Both ends of every TCP connection.
    connections: BTreeMap<u64, [TcpStream; 2]>,
}

impl State {
    fn is_cut(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToTarget => self.cut_to_target,
            Direction::ToClient => self.cut_to_client,
        }
    }

    fn cut_mut(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::ToTarget => &mut self.cut_to_target,
            Direction::ToClient => &mut self.cut_to_client,
        }
    }

    /// Wakes the threads of every connection, which then end.
    fn close_all(&mut self) {
        for stream in std::mem::take(&mut self.connections).into_values().flatten() {
            // Closed by its peer already: nothing is left to close.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn ends(&self) -> bool {
        self.lock().ends
    }

    fn carried(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToTarget => &self.to_target_bytes,
            Direction::ToClient => &self.to_client_bytes,
        }
    }

    /// Waits until a new connection may go through; `None` when the relay ends.
    fn wait_for_target(&self) -> Option<SocketAddr> {
        let mut state = self.lock();
        loop {
            match state.target {
                _ if state.ends => return None,
                Some(target) if !state.cut_to_target && !state.cut_to_client => return Some(target),
                _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits until connection `id` may go on in this direction; false when it or the relay ends.
    fn wait_open(&self, id: u64, direction: Direction) -> bool {
        let mut state = self.lock();
        loop {
            if state.ends || !state.connections.contains_key(&id) {
                return false;
            }
            if !state.is_cut(direction) {
                return true;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WAIT_LIMIT;
    use std::io::{ErrorKind, Read, Write};

    /// Long enough that something which gets through has got through.
    const SILENCE: Duration = Duration::from_millis(300);

    /// Answers each TCP connection and each datagram with what it got, until its process ends.
    fn echo() -> SocketAddr {
        let (listener, socket) = bind_both().unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        address
    }

    fn connect(relay: &Relay) -> TcpStream {
        let stream = TcpStream::connect(relay.address()).unwrap();
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        stream
    }

    fn answer(stream: &mut TcpStream, sent: &[u8]) -> Vec<u8> {
        stream.write_all(sent).unwrap();
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).unwrap();
        got
    }

    #[track_caller]
    fn silent(stream: &mut TcpStream) {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let error = stream.read(&mut [0; 16]).expect_err("neither data nor an end");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
    }

    fn datagrams(relay: &Relay) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(relay.address()).unwrap();
        socket
    }

    /// Does an answer come?
    fn echoes(socket: &UdpSocket, limit: Duration) -> bool {
        socket.set_read_timeout(Some(limit)).unwrap();
        socket.send(b"ping").unwrap();
        socket.recv(&mut [0; 16]).is_ok()
    }

    #[test]
    fn a_connection_is_carried_both_ways_and_so_is_its_end() {
        let relay = Relay::to(echo()).unwrap();
        let mut stream = connect(&relay);
        assert_eq!(answer(&mut stream, b"hello"), b"hello");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the other side closed in turn");
        assert_eq!(relay.carried_bytes(Direction::ToTarget), 5);
        assert_eq!(relay.carried_bytes(Direction::ToClient), 5);
    }

    #[test]
    fn much_is_carried_whole_and_in_order() {
        let relay = Relay::to(echo()).unwrap();
        let mut stream = connect(&relay);
        let mut writer = stream.try_clone().unwrap();
        let sent: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
        let copy = sent.clone();
        let thread = thread::spawn(move || writer.write_all(&copy));
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).unwrap();
        thread.join().unwrap().unwrap();
        assert!(got == sent);
    }

    #[test]
    fn a_cut_connection_is_silent_not_closed_and_goes_on_later() {
        let relay = Relay::to(echo()).unwrap();
        let mut stream = connect(&relay);
        answer(&mut stream, b"before");
        relay.cut();
        stream.write_all(b"during").unwrap();
        silent(&mut stream);
        relay.resume();
        let mut got = [0; 6];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"during");
    }

    #[test]
    fn that_the_other_side_died_is_not_seen_through_a_cut() {
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::to(target.local_addr().unwrap()).unwrap();
        let mut stream = connect(&relay);
        let (far, _) = target.accept().unwrap();
        relay.cut();
        drop(far);
        silent(&mut stream);
        relay.resume();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_new_connection_through_a_cut_gets_no_answer_until_it_is_mended() {
        let relay = Relay::to(echo()).unwrap();
        relay.cut_one_way(Direction::ToClient);
        let mut stream = connect(&relay);
        stream.write_all(b"hello").unwrap();
        silent(&mut stream);
        relay.resume();
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
    }

    #[test]
    fn without_a_target_it_waits_for_one() {
        let relay = Relay::new().unwrap();
        let mut stream = connect(&relay);
        stream.write_all(b"hello").unwrap();
        silent(&mut stream);
        relay.set_target(echo());
        stream.read_exact(&mut [0; 5]).unwrap();
    }

    #[test]
    fn one_way_means_the_other_way_still_works() {
        let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::to(target.local_addr().unwrap()).unwrap();
        let mut near = connect(&relay);
        let (mut far, _) = target.accept().unwrap();
        far.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        relay.cut_one_way(Direction::ToClient);
        near.write_all(b"there").unwrap();
        far.read_exact(&mut [0; 5]).unwrap();
        far.write_all(b"back").unwrap();
        silent(&mut near);
    }

    #[test]
    fn dropped_connections_are_closed_even_while_cut() {
        let relay = Relay::to(echo()).unwrap();
        let mut stream = connect(&relay);
        answer(&mut stream, b"hello");
        relay.cut();
        relay.drop_connections();
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
        relay.resume();
        assert_eq!(answer(&mut connect(&relay), b"again"), b"again");
    }

    #[test]
    fn nobody_at_the_target_is_a_closed_connection() {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let relay = Relay::to(nobody).unwrap();
        assert_eq!(connect(&relay).read(&mut [0; 1]).unwrap_or(0), 0);
    }

    #[test]
    fn datagrams_are_carried_and_lost_while_cut() {
        let relay = Relay::to(echo()).unwrap();
        let (one, two) = (datagrams(&relay), datagrams(&relay));
        assert!(echoes(&one, WAIT_LIMIT) && echoes(&two, WAIT_LIMIT));
        relay.cut();
        assert!(!echoes(&one, SILENCE));
        relay.resume();
        // What was sent meanwhile is lost, not late.
        one.set_read_timeout(Some(SILENCE)).unwrap();
        assert!(one.recv(&mut [0; 16]).is_err());
        assert!(echoes(&one, WAIT_LIMIT));
        for direction in [Direction::ToTarget, Direction::ToClient] {
            relay.cut_one_way(direction);
            assert!(!echoes(&two, SILENCE), "{direction:?}");
            relay.resume();
        }
    }

    #[test]
    fn datagrams_follow_the_target() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::to(silent.local_addr().unwrap()).unwrap();
        let socket = datagrams(&relay);
        assert!(!echoes(&socket, SILENCE));
        relay.set_target(echo());
        assert!(echoes(&socket, WAIT_LIMIT));
    }

    #[test]
    fn dropped_it_closes_everything_and_gives_its_port_back() {
        let relay = Relay::to(echo()).unwrap();
        let address = relay.address();
        let mut stream = connect(&relay);
        answer(&mut stream, b"hello");
        relay.cut();
        drop(relay);
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
        UdpSocket::bind(address).unwrap();
        assert!(TcpStream::connect(address).is_err());
    }
}
