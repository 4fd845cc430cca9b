//! The relay's datagrams: one socket towards the target for each client, so that answers find back.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Direction, LOOK_MS, Shared};

/// Clients at once; the one that came first is forgotten for a further one.
const CLIENTS_MAX: usize = 64;
/// The longest datagram there is, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;

struct Client {
    address: SocketAddr,
    target: SocketAddr,
    socket: Arc<UdpSocket>,
    forgotten: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Client {
    fn forget(self) {
        self.forgotten.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            eprintln!("relay: the thread of a UDP client panicked");
        }
    }
}

/// Carries datagrams until the relay ends. One that cannot be sent is lost, as datagrams may be.
pub(super) fn serve(shared: &Arc<Shared>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut clients: VecDeque<Client> = VecDeque::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !shared.ends() {
        // A timeout to look whether the relay ends; or the echo of an answer that found nobody.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let (target, is_cut) = {
            let state = shared.lock();
            (state.target, state.is_cut(Direction::ToTarget))
        };
        let Some(target) = target.filter(|_| !is_cut) else { continue };
        let sent = far_socket(shared, &mut clients, &socket, from, target).and_then(|far| far.send(&buffer[..length]));
        if sent.is_ok() {
            shared.carried(Direction::ToTarget).fetch_add(length as u64, Ordering::Relaxed);
        }
    }
    clients.into_iter().for_each(Client::forget);
}

/// The socket by which this client's datagrams go to the target.
fn far_socket(
    shared: &Arc<Shared>,
    clients: &mut VecDeque<Client>,
    near: &Arc<UdpSocket>,
    from: SocketAddr,
    target: SocketAddr,
) -> io::Result<Arc<UdpSocket>> {
    if let Some(at) = clients.iter().position(|client| client.address == from) {
        if clients[at].target == target {
            return Ok(Arc::clone(&clients[at].socket));
        }
        clients.remove(at).into_iter().for_each(Client::forget);
    }
    if clients.len() >= CLIENTS_MAX {
        clients.pop_front().into_iter().for_each(Client::forget);
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(LOOK_MS)))?;
    let socket = Arc::new(socket);
    let forgotten = Arc::new(AtomicBool::new(false));
    let thread = {
        let (shared, near, far, forgotten) =
            (Arc::clone(shared), Arc::clone(near), Arc::clone(&socket), Arc::clone(&forgotten));
        thread::spawn(move || answers(&shared, &near, &far, from, &forgotten))
    };
    clients.push_back(Client { address: from, target, socket: Arc::clone(&socket), forgotten, thread });
    Ok(socket)
}

/// Carries the target's answers back to one client.
fn answers(shared: &Shared, near: &UdpSocket, far: &UdpSocket, client: SocketAddr, forgotten: &AtomicBool) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !forgotten.load(Ordering::Relaxed) && !shared.ends() {
        // A timeout to look whether it is over; or word that nobody listens at the target.
        let Ok(length) = far.recv(&mut buffer) else { continue };
        if !shared.lock().is_cut(Direction::ToClient) && near.send_to(&buffer[..length], client).is_ok() {
            shared.carried(Direction::ToClient).fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}
