//! The state behind a [`super::FakeHost`], and what each capability does to it.
//!
//! It keeps to the contract where a kit could lean on a difference: limits, keys, denied by default, the codes
//! of faults, a connection that is dead after one; a sleep beyond the budget ends the call (here: a panic, as
//! there is no call to drop).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::refusals::{self, dead, denied};
use super::{Answer, Call, Clock, Disks, FakeService, Line, Operation, Services, Took};
use crate::command::{Completed, Request};
use crate::net::Tls;
use crate::{Fault, FaultKind};

/// What the store holds at most, keys and values together, in bytes (`wit/store.wit`).
const STORE_BYTES_MAX: usize = 64 * 1024;
/// The most random bytes one call gives (`wit/random.wit`); more is a trap.
const RANDOM_BYTES_MAX: u32 = 64 * 1024;
/// What a call may take unless the test says otherwise, in ms.
const BUDGET_MS: u64 = 60_000;
/// Where the wall clock starts, in ms since 1970: a date that is neither now nor zero.
const UNIX_MS: u64 = 1_700_000_000_000;
/// What a call to the host leaves of the budget, so that the kit can answer, in ms (`wit/command.wit`).
const ANSWER_MS: u64 = 1_000;

type Shared<T> = Rc<RefCell<Box<T>>>;
type Program = dyn FnMut(&Request) -> Result<Completed, Fault>;
type TcpPeer = dyn FnMut(&mut Vec<u8>) -> Answer;
type UdpPeer = dyn FnMut(&[u8]) -> Answer;

struct TcpListener {
    greeting: Answer,
    peer: Shared<TcpPeer>,
}

struct TcpConnection {
    peer: Shared<TcpPeer>,
    written: Vec<u8>,
    readable: VecDeque<u8>,
    /// By the peer.
    closed: bool,
    /// By the kit, for writing.
    finished: bool,
    secured: bool,
    dead: bool,
    fault: Option<Fault>,
}

impl TcpConnection {
    fn take(&mut self, answer: Answer) {
        self.readable.extend(answer.pieces.into_iter().flatten());
        self.closed |= answer.close;
        self.fault = answer.fault.or(self.fault.take());
    }
}

struct UdpSocket {
    peer: Shared<UdpPeer>,
    readable: VecDeque<Vec<u8>>,
    fault: Option<Fault>,
}

struct State {
    calls: Vec<Call>,
    injected: Vec<(Operation, Fault)>,
    programs: BTreeMap<String, Shared<Program>>,
    tcp_peers: BTreeMap<(String, u16), TcpListener>,
    udp_peers: BTreeMap<(String, u16), Shared<UdpPeer>>,
    tcp: Vec<TcpConnection>,
    udp: Vec<UdpSocket>,
    sockets_open: usize,
    tcp_read_max: usize,
    tcp_read_ms: u64,
    secrets: BTreeMap<String, Vec<u8>>,
    store: BTreeMap<String, Vec<u8>>,
    unix_ms: u64,
    monotonic_ms: u64,
    deadline_ms: u64,
    random: u64,
}

/// The fake host itself. Shared by the guard the test holds and by open sockets.
pub(crate) struct Host {
    state: RefCell<State>,
    disks: RefCell<Disks>,
    services: RefCell<Services>,
}

impl Host {
    pub(super) fn new() -> Self {
        Self {
            state: RefCell::new(State {
                calls: Vec::new(),
                injected: Vec::new(),
                programs: BTreeMap::new(),
                tcp_peers: BTreeMap::new(),
                udp_peers: BTreeMap::new(),
                tcp: Vec::new(),
                udp: Vec::new(),
                sockets_open: 0,
                tcp_read_max: usize::MAX,
                tcp_read_ms: 0,
                secrets: BTreeMap::new(),
                store: BTreeMap::new(),
                unix_ms: UNIX_MS,
                monotonic_ms: 0,
                deadline_ms: BUDGET_MS,
                random: 1,
            }),
            disks: RefCell::default(),
            services: RefCell::default(),
        }
    }

    /// Notes the call; gives the fault the test has put in its way, if any.
    pub(crate) fn record(&self, call: Call) -> Result<(), Fault> {
        let operation = call.operation();
        let mut state = self.state.borrow_mut();
        state.calls.push(call);
        match state.injected.iter().position(|(at, _)| *at == operation) {
            Some(index) => Err(state.injected.remove(index).1),
            None => Ok(()),
        }
    }

    fn note(&self, call: Call) {
        self.state.borrow_mut().calls.push(call);
    }

    pub(super) fn inject(&self, operation: Operation, fault: Fault) {
        self.state.borrow_mut().injected.push((operation, fault));
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.state.borrow().calls.clone()
    }

    pub(super) fn forget_calls(&self) {
        self.state.borrow_mut().calls.clear();
    }

    pub(crate) fn log(&self, line: Line) {
        self.note(Call::LogEmit(line));
    }

    // Time.

    pub(crate) fn unix_ms(&self) -> u64 {
        self.note(Call::ClockUnixMs);
        self.state.borrow().unix_ms
    }

    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.note(Call::ClockMonotonicMs);
        self.state.borrow().monotonic_ms
    }

    pub(crate) fn remaining_ms(&self) -> u32 {
        self.note(Call::ClockRemainingMs);
        self.remaining_ms_quietly()
    }

    pub(super) fn remaining_ms_quietly(&self) -> u32 {
        let state = self.state.borrow();
        u32::try_from(state.deadline_ms.saturating_sub(state.monotonic_ms)).unwrap_or(u32::MAX)
    }

    pub(crate) fn sleep_ms(&self, ms: u32) {
        self.note(Call::ClockSleep { ms });
        self.advance_ms(u64::from(ms));
        assert!(
            self.remaining_ms_quietly() > 0,
            "the call's budget ran out while the kit slept for {ms} ms: a host drops the call here"
        );
    }

    pub(super) fn advance_ms(&self, ms: u64) {
        let mut state = self.state.borrow_mut();
        state.unix_ms += ms;
        state.monotonic_ms += ms;
    }

    pub(super) fn set_unix_ms(&self, unix_ms: u64) {
        self.state.borrow_mut().unix_ms = unix_ms;
    }

    pub(super) fn set_budget_ms(&self, ms: u64) {
        let mut state = self.state.borrow_mut();
        state.deadline_ms = state.monotonic_ms + ms;
    }

    // Randomness: splitmix64, so that a test sees the same bytes every time.

    pub(super) fn seed(&self, seed: u64) {
        self.state.borrow_mut().random = seed;
    }

    pub(crate) fn random(&self, count: u32) -> Vec<u8> {
        self.note(Call::RandomBytes { count });
        assert!(count <= RANDOM_BYTES_MAX, "{count} random bytes at once: a host traps above {RANDOM_BYTES_MAX}");
        let mut state = self.state.borrow_mut();
        let mut out = Vec::with_capacity(count as usize + 8);
        while out.len() < count as usize {
            state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state.random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
        }
        out.truncate(count as usize);
        out
    }

    // Programs.

    pub(super) fn define_program(&self, path: &str, program: Box<Program>) {
        self.state.borrow_mut().programs.insert(path.to_owned(), Rc::new(RefCell::new(program)));
    }

    pub(crate) fn run(&self, request: &Request) -> Result<Completed, Fault> {
        self.record(Call::CommandRun(request.clone()))?;
        refusals::command_size(request)?;
        let program = self.state.borrow().programs.get(&request.program).map(Rc::clone);
        let program = program.ok_or_else(|| denied(format_args!("the program {}", request.program)))?;
        refusals::command(request)?;
        let completed = (program.borrow_mut())(request)?;
        self.advance_ms(u64::from(completed.duration_ms));
        Ok(completed)
    }

    // Peers.

    pub(super) fn define_tcp(&self, host: &str, port: u16, greeting: Answer, peer: Box<TcpPeer>) {
        let listener = TcpListener { greeting, peer: Rc::new(RefCell::new(peer)) };
        self.state.borrow_mut().tcp_peers.insert((host.to_owned(), port), listener);
    }

    pub(super) fn define_udp(&self, host: &str, port: u16, peer: Box<UdpPeer>) {
        self.state.borrow_mut().udp_peers.insert((host.to_owned(), port), Rc::new(RefCell::new(peer)));
    }

    pub(super) fn set_tcp_read_max(&self, bytes: usize) {
        assert!(bytes > 0, "a read of nothing means that the peer closed");
        self.state.borrow_mut().tcp_read_max = bytes;
    }

    pub(super) fn set_tcp_read_ms(&self, ms: u64) {
        self.state.borrow_mut().tcp_read_ms = ms;
    }

    pub(crate) fn tcp_open(&self, host: &str, port: u16) -> Result<usize, Fault> {
        let mut state = self.state.borrow_mut();
        let listener = state.tcp_peers.get(&(host.to_owned(), port));
        let listener = listener.ok_or_else(|| denied(format_args!("TCP to {host}:{port}")))?;
        refusals::sockets(state.sockets_open)?;
        let mut connection = TcpConnection {
            peer: Rc::clone(&listener.peer),
            written: Vec::new(),
            readable: VecDeque::new(),
            closed: false,
            finished: false,
            secured: false,
            dead: false,
            fault: None,
        };
        connection.take(listener.greeting.clone());
        state.tcp.push(connection);
        state.sockets_open += 1;
        Ok(state.tcp.len() - 1)
    }

    /// After this fault the connection cannot be used any more.
    pub(crate) fn tcp_broke(&self, id: usize) {
        self.state.borrow_mut().tcp[id].dead = true;
    }

    pub(crate) fn tcp_start_tls(&self, id: usize, tls: &Tls) -> Result<(), Fault> {
        let mut state = self.state.borrow_mut();
        let connection = &mut state.tcp[id];
        if connection.dead {
            return Err(dead());
        }
        if std::mem::replace(&mut connection.secured, true) {
            return Err(refusals::tls_already());
        }
        for name in [&tls.trust, &tls.identity].into_iter().flatten() {
            let value = state.secrets.get(name).ok_or_else(|| denied(format_args!("the secret {name}")))?;
            refusals::secret(name, value)?;
        }
        refusals::server_name(&tls.server_name)
    }

    pub(crate) fn tcp_write(&self, id: usize, data: &[u8]) -> Result<(), Fault> {
        let (peer, mut written) = {
            let mut state = self.state.borrow_mut();
            let connection = &mut state.tcp[id];
            if connection.dead {
                return Err(dead());
            }
            refusals::write(data)?;
            if connection.closed || connection.finished {
                return Err(refusals::broken());
            }
            connection.written.extend_from_slice(data);
            (Rc::clone(&connection.peer), std::mem::take(&mut connection.written))
        };
        // The peer may look at the host, so nothing is borrowed while it thinks.
        let answer = (peer.borrow_mut())(&mut written);
        let mut state = self.state.borrow_mut();
        let connection = &mut state.tcp[id];
        connection.written = written;
        connection.take(answer);
        Ok(())
    }

    pub(crate) fn tcp_read(&self, id: usize, max: u32, timeout_ms: u32) -> Result<Vec<u8>, Fault> {
        refusals::read(max)?;
        let mut state = self.state.borrow_mut();
        let most = state.tcp_read_max.min(max.min(refusals::READ_BYTES_MAX) as usize);
        let takes_ms = state.tcp_read_ms;
        let connection = &mut state.tcp[id];
        if connection.dead {
            return Err(dead());
        }
        if !connection.readable.is_empty() && takes_ms <= u64::from(timeout_ms) {
            let count = most.min(connection.readable.len());
            let bytes = connection.readable.drain(..count).collect();
            drop(state);
            self.advance_ms(takes_ms);
            return Ok(bytes);
        }
        if connection.readable.is_empty() {
            if let Some(fault) = connection.fault.take() {
                return Err(fault);
            }
            if connection.closed {
                return Ok(Vec::new());
            }
        }
        drop(state);
        self.advance_ms(u64::from(timeout_ms));
        Err(refusals::timeout(timeout_ms))
    }

    pub(crate) fn tcp_finish(&self, id: usize) -> Result<(), Fault> {
        let connection = &mut self.state.borrow_mut().tcp[id];
        if connection.dead {
            return Err(dead());
        }
        connection.finished = true;
        Ok(())
    }

    pub(crate) fn udp_open(&self, host: &str, port: u16) -> Result<usize, Fault> {
        let mut state = self.state.borrow_mut();
        let peer = state.udp_peers.get(&(host.to_owned(), port)).map(Rc::clone);
        let peer = peer.ok_or_else(|| denied(format_args!("UDP to {host}:{port}")))?;
        refusals::sockets(state.sockets_open)?;
        state.udp.push(UdpSocket { peer, readable: VecDeque::new(), fault: None });
        state.sockets_open += 1;
        Ok(state.udp.len() - 1)
    }

    pub(crate) fn udp_send(&self, id: usize, data: &[u8]) -> Result<(), Fault> {
        refusals::datagram(data)?;
        let peer = Rc::clone(&self.state.borrow().udp[id].peer);
        let answer = (peer.borrow_mut())(data);
        let mut state = self.state.borrow_mut();
        let socket = &mut state.udp[id];
        socket.readable.extend(answer.pieces);
        socket.fault = answer.fault.or(socket.fault.take());
        Ok(())
    }

    pub(crate) fn udp_receive(&self, id: usize, max: u32, timeout_ms: u32) -> Result<Vec<u8>, Fault> {
        let mut state = self.state.borrow_mut();
        let socket = &mut state.udp[id];
        if let Some(datagram) = socket.readable.pop_front() {
            refusals::received(&datagram, max.min(refusals::DATAGRAM_BYTES_MAX))?;
            return Ok(datagram);
        }
        if let Some(fault) = socket.fault.take() {
            return Err(fault);
        }
        drop(state);
        self.advance_ms(u64::from(timeout_ms));
        Err(refusals::timeout(timeout_ms))
    }

    /// A socket was closed.
    pub(crate) fn close(&self) {
        self.state.borrow_mut().sockets_open -= 1;
    }

    /// The volumes, devices and mount points.
    pub(crate) fn disks<T>(&self, with: impl FnOnce(&mut Disks) -> T) -> T {
        with(&mut self.disks.borrow_mut())
    }

    // Services.

    pub(super) fn define_service(&self, name: &str, service: FakeService) {
        self.services.borrow_mut().define(name, service);
    }

    pub(super) fn service_now(&self, name: &str) -> Option<FakeService> {
        let now_ms = self.state.borrow().monotonic_ms;
        self.services.borrow_mut().now(name, now_ms)
    }

    pub(super) fn kill_service(&self, name: &str) -> bool {
        self.services.borrow_mut().kill(name)
    }

    /// Asks a service, and lets the time pass that it takes.
    pub(crate) fn services<T>(
        &self,
        asked_ms: Option<u32>,
        ask: impl FnOnce(&mut Services, Clock) -> Took<T>,
    ) -> Result<T, Fault> {
        let remaining_ms = u64::from(self.remaining_ms_quietly());
        let most_ms = remaining_ms.saturating_sub(ANSWER_MS).max(remaining_ms / 2);
        let limit_ms = asked_ms.map_or(most_ms, |asked_ms| most_ms.min(asked_ms.into()));
        let clock = Clock { now_ms: self.state.borrow().monotonic_ms, limit_ms };
        let (took_ms, result) = ask(&mut self.services.borrow_mut(), clock);
        self.advance_ms(took_ms);
        result
    }

    // Secrets and the store.

    pub(super) fn define_secret(&self, name: &str, value: Vec<u8>) {
        self.state.borrow_mut().secrets.insert(name.to_owned(), value);
    }

    pub(crate) fn secret(&self, name: &str) -> Result<Vec<u8>, Fault> {
        let value = self.state.borrow().secrets.get(name).cloned();
        let value = value.ok_or_else(|| denied(format_args!("the secret {name}")))?;
        refusals::secret(name, &value)?;
        Ok(value)
    }

    pub(super) fn define_stored(&self, key: &str, value: Vec<u8>) {
        self.state.borrow_mut().store.insert(key.to_owned(), value);
    }

    pub(super) fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.state.borrow().store.get(key).cloned()
    }

    pub(crate) fn store_get(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        refusals::key(key)?;
        Ok(self.stored(key))
    }

    pub(crate) fn store_put(&self, key: &str, value: &[u8]) -> Result<(), Fault> {
        refusals::key(key)?;
        let mut state = self.state.borrow_mut();
        let others: usize =
            state.store.iter().filter(|(name, _)| *name != key).map(|(name, value)| name.len() + value.len()).sum();
        let total = others + key.len() + value.len();
        if total > STORE_BYTES_MAX {
            return Err(Fault::new(
                FaultKind::Limit,
                "store-full",
                format!("the store would hold {total} bytes, at most {STORE_BYTES_MAX} are allowed"),
            ));
        }
        state.store.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    pub(crate) fn store_delete(&self, key: &str) -> Result<(), Fault> {
        refusals::key(key)?;
        self.state.borrow_mut().store.remove(key);
        Ok(())
    }

    pub(crate) fn store_keys(&self) -> Vec<String> {
        self.state.borrow().store.keys().cloned().collect()
    }
}
