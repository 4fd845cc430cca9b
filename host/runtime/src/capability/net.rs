//! `net`: TCP and UDP client sockets to what is granted.
//!
//! The host resolves names, so that a kit cannot be led elsewhere by an answer of its own; the grant is for
//! exactly this host and port. A socket belongs to its call and is closed with it at the latest. What the host
//! holds for a kit is bounded: sockets, bytes per read and write, name look-ups at once.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::client::TlsStream;
use wasmtime::component::Resource;

use crate::bindings::mainstay::kit::net::{Host, HostTcp, HostUdp, Tls};
use crate::capability::tls::{self, Security};
use crate::capability::{CallState, Fault, FaultKind, blocked, fault};
use crate::grants::NetGrant;
use crate::limits::contract::DATAGRAM_BYTES_MAX;

/// Addresses of one name that are tried: the rest of a long list is not worth the time.
const ADDRESSES_MAX: usize = 8;

/// A TCP connection of one call.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Tcp {
    peer: String,
    stream: Stream,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// After a fault.
    Dead,
}

/// A UDP socket of one call.
#[allow(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Udp {
    peer: String,
    socket: UdpSocket,
}

impl CallState {
    /// Grant, number of sockets, and addresses.
    async fn addresses(
        &mut self,
        protocol: &str,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> Result<Vec<SocketAddr>, Fault> {
        self.services.grants.net(&self.asker, protocol, host, port)?;
        let sockets_max = self.host.limits.sockets_max;
        if self.sockets >= sockets_max {
            return Err(fault(
                FaultKind::Limit,
                "too-many-sockets",
                format!("this call holds {sockets_max} sockets already, as many as it may; close one"),
            ));
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let name = host.to_owned();
        let found = self.host.lookup(limit, move || (name.as_str(), port).to_socket_addrs()).await;
        let found = found.map_err(|error| blocked(&format!("looking up {host}"), error))?;
        let mut addresses: Vec<_> = found.map_err(|error| lookup_fault(host, &error))?.collect();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            return Err(fault(FaultKind::NotFound, "no-such-host", format!("{host} has no address")));
        }
        Ok(addresses)
    }

    async fn open_tcp(&mut self, host: String, port: u16, timeout_ms: u32) -> Result<Resource<Tcp>, Fault> {
        let limit = self.limit(Some(timeout_ms));
        let deadline = Instant::now() + limit;
        let addresses = self.addresses("tcp", &host, port, limit).await?;
        let peer = NetGrant { host, port }.to_string();
        let stream = connect(&peer, &addresses, deadline).await?;
        // A kit writes whole messages: waiting for more to send would only cost time.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "TCP_NODELAY cannot be set");
        }
        let tcp = self.table.push(Tcp { peer, stream: Stream::Plain(stream) });
        let tcp = tcp.map_err(|error| fault(FaultKind::Limit, "too-many-handles", error.to_string()))?;
        self.sockets += 1;
        Ok(tcp)
    }

    async fn open_udp(&mut self, host: String, port: u16) -> Result<Resource<Udp>, Fault> {
        let addresses = self.addresses("udp", &host, port, self.limit(None)).await?;
        let peer = NetGrant { host, port }.to_string();
        let mut said = String::new();
        for address in addresses {
            let any: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let opened = async {
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(address).await?;
                Ok::<_, io::Error>(socket)
            };
            match opened.await {
                Ok(socket) => {
                    let udp = self.table.push(Udp { peer, socket });
                    let udp = udp.map_err(|error| fault(FaultKind::Limit, "too-many-handles", error.to_string()))?;
                    self.sockets += 1;
                    return Ok(udp);
                }
                Err(error) => note(&mut said, address, &error.to_string()),
            }
        }
        Err(fault(FaultKind::Unavailable, "unreachable", format!("no way to {peer}: {said}")))
    }

    /// What secures a connection, with every secret granted and read.
    async fn security(&mut self, tls: Tls) -> Result<Security, Fault> {
        let mut read = [None, None];
        for (index, (why, name)) in [("TLS trust", tls.trust), ("TLS identity", tls.identity)].into_iter().enumerate() {
            if let Some(name) = name {
                let pem = self.secret(why, &name).await?;
                read[index] = Some((name, pem));
            }
        }
        let [trust, identity] = read;
        Ok(Security { server_name: tls.server_name, trust, identity })
    }

    async fn upgrade(&mut self, stream: TcpStream, peer: &str, tls: Tls, limit: Duration) -> Result<Stream, Fault> {
        let deadline = Instant::now() + limit;
        let security = self.security(tls).await?;
        let roots = match &security.trust {
            Some(pem) => tls::trust(pem)?,
            None => {
                let roots = self.host.roots(limit).await;
                roots.map_err(|error| blocked("reading the system's certificate authorities", error))?
            }
        };
        let (config, name) = tls::settings(&security, roots)?;
        match timeout_at(deadline, tls::handshake(stream, config, name)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(tls::handshake_fault(peer, &security, &error)),
            Err(_) => Err(late("setting up TLS", peer, limit)),
        }
    }
}

/// Tries each address in turn; one that does not answer leaves time for those after it.
async fn connect(peer: &str, addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Fault> {
    let mut said = String::new();
    let mut late = 0;
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => note(&mut said, *address, &error.to_string()),
            Err(_) => {
                late += 1;
                note(&mut said, *address, &format!("no answer within {} ms", share.as_millis()));
            }
        }
    }
    let (kind, code) =
        if late == addresses.len() { (FaultKind::Timeout, "timeout") } else { (FaultKind::Unavailable, "unreachable") };
    Err(fault(kind, code, format!("cannot connect to {peer}: {said}")))
}

fn note(said: &mut String, address: SocketAddr, what: &str) {
    let gap = if said.is_empty() { "" } else { "; " };
    let _ = write!(said, "{gap}{address}: {what}"); // a String takes everything
}

fn lookup_fault(host: &str, error: &io::Error) -> Fault {
    let text = error.to_string();
    // The resolver's own words for "ask again later"; the error has no other mark.
    if text.contains("Temporary failure") {
        return fault(
            FaultKind::Unavailable,
            "resolver",
            format!("looking up {host}: {text}; are this node's name servers up?"),
        );
    }
    fault(FaultKind::NotFound, "no-such-host", format!("looking up {host}: {text}"))
}

fn late(doing: &str, peer: &str, limit: Duration) -> Fault {
    fault(FaultKind::Timeout, "timeout", format!("{doing} with {peer} took longer than {} ms", limit.as_millis()))
}

fn dead(peer: &str) -> Fault {
    fault(FaultKind::Closed, "dead", format!("the connection to {peer} failed before and cannot be used any more"))
}

fn io_fault(doing: &str, peer: &str, error: &io::Error) -> Fault {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        NotConnected, UnexpectedEof,
    };
    let kind = error.kind();
    if matches!(kind, ConnectionRefused | HostUnreachable | NetworkUnreachable) {
        return fault(FaultKind::Unavailable, "unreachable", format!("{doing} {peer}: {error}"));
    }
    let broken = matches!(kind, ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected | UnexpectedEof);
    let kind = if broken { FaultKind::Closed } else { FaultKind::Failed };
    fault(kind, "broken", format!("{doing} {peer}: {error}"))
}

impl Stream {
    async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(data).await,
            Self::Tls(stream) => {
                stream.write_all(data).await?;
                stream.flush().await
            }
            Self::Dead => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer).await,
            Self::Tls(stream) => stream.read(buffer).await,
            Self::Dead => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
            Self::Dead => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Tcp {
    fn alive(&self) -> Result<(), Fault> {
        match self.stream {
            Stream::Plain(_) | Stream::Tls(_) => Ok(()),
            Stream::Dead => Err(dead(&self.peer)),
        }
    }

    async fn write(&mut self, data: &[u8], bytes_max: usize, limit: Duration) -> Result<(), Fault> {
        self.alive()?;
        let done = if data.len() > bytes_max {
            Err(fault(
                FaultKind::Limit,
                "write-too-large",
                format!("{} bytes at once to {}; {bytes_max} are allowed", data.len(), self.peer),
            ))
        } else {
            match timeout(limit, self.stream.write(data)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(io_fault("writing to", &self.peer, &error)),
                Err(_) => Err(late("writing", &self.peer, limit)),
            }
        };
        if done.is_err() {
            self.stream = Stream::Dead;
        }
        done
    }

    async fn read(&mut self, bytes_max: u32, limit: Duration) -> Result<Vec<u8>, Fault> {
        self.alive()?;
        let mut buffer = vec![0; bytes_max as usize];
        match timeout(limit, self.stream.read(&mut buffer)).await {
            Ok(Ok(length)) => {
                buffer.truncate(length);
                Ok(buffer)
            }
            Ok(Err(error)) => {
                self.stream = Stream::Dead;
                Err(io_fault("reading from", &self.peer, &error))
            }
            // Nothing was lost: it may be tried again.
            Err(_) => Err(late("reading", &self.peer, limit)),
        }
    }
}

impl Host for CallState {
    async fn connect_tcp(
        &mut self,
        host: String,
        port: u16,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Resource<Tcp>, Fault>> {
        let _entered = self.enter("net.connect-tcp", format!("{host}:{port}"));
        Ok(self.open_tcp(host, port, timeout_ms).await)
    }

    async fn connect_udp(&mut self, host: String, port: u16) -> wasmtime::Result<Result<Resource<Udp>, Fault>> {
        let _entered = self.enter("net.connect-udp", format!("{host}:{port}"));
        Ok(self.open_udp(host, port).await)
    }
}

impl HostTcp for CallState {
    async fn start_tls(
        &mut self,
        tcp: Resource<Tcp>,
        tls: Tls,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<(), Fault>> {
        let limit = self.limit(Some(timeout_ms));
        let connection = self.table.get_mut(&tcp)?;
        let peer = connection.peer.clone();
        // Whatever happens now, the plain connection is not to be used again.
        let stream = match std::mem::replace(&mut connection.stream, Stream::Dead) {
            Stream::Plain(stream) => stream,
            Stream::Dead => return Ok(Err(dead(&peer))),
            Stream::Tls(_) => {
                return Ok(Err(fault(FaultKind::Invalid, "tls-already", format!("{peer} is secured by TLS already"))));
            }
        };
        let _entered = self.enter("net.tcp.start-tls", peer.as_str());
        let upgraded = self.upgrade(stream, &peer, tls, limit).await;
        Ok(match upgraded {
            Ok(stream) => {
                self.table.get_mut(&tcp)?.stream = stream;
                Ok(())
            }
            Err(fault) => Err(fault),
        })
    }

    async fn write(
        &mut self,
        tcp: Resource<Tcp>,
        data: Vec<u8>,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<(), Fault>> {
        let (limit, bytes_max) = (self.limit(Some(timeout_ms)), self.host.limits.net_write_bytes_max);
        let _entered = self.enter("net.tcp.write", self.table.get(&tcp)?.peer.as_str());
        Ok(self.table.get_mut(&tcp)?.write(&data, bytes_max, limit).await)
    }

    async fn read(
        &mut self,
        tcp: Resource<Tcp>,
        max: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        if max == 0 {
            return Ok(Err(fault(FaultKind::Invalid, "read-nothing", "a read of 0 bytes would look like the end")));
        }
        let (limit, bytes_max) = (self.limit(Some(timeout_ms)), max.min(self.host.limits.net_read_bytes_max));
        let _entered = self.enter("net.tcp.read", self.table.get(&tcp)?.peer.as_str());
        Ok(self.table.get_mut(&tcp)?.read(bytes_max, limit).await)
    }

    async fn finish(&mut self, tcp: Resource<Tcp>) -> wasmtime::Result<Result<(), Fault>> {
        let limit = self.limit(None);
        let _entered = self.enter("net.tcp.finish", self.table.get(&tcp)?.peer.as_str());
        let connection = self.table.get_mut(&tcp)?;
        if let Err(fault) = connection.alive() {
            return Ok(Err(fault));
        }
        let done = match timeout(limit, connection.stream.finish()).await {
            Ok(Ok(())) => return Ok(Ok(())),
            Ok(Err(error)) => io_fault("finishing with", &connection.peer, &error),
            Err(_) => late("finishing", &connection.peer, limit),
        };
        connection.stream = Stream::Dead;
        Ok(Err(done))
    }

    async fn drop(&mut self, tcp: Resource<Tcp>) -> wasmtime::Result<()> {
        self.table.delete(tcp)?;
        self.sockets = self.sockets.saturating_sub(1);
        Ok(())
    }
}

impl HostUdp for CallState {
    async fn send(&mut self, udp: Resource<Udp>, data: Vec<u8>) -> wasmtime::Result<Result<(), Fault>> {
        let limit = self.limit(None);
        let _entered = self.enter("net.udp.send", self.table.get(&udp)?.peer.as_str());
        let Udp { peer, socket } = self.table.get(&udp)?;
        if data.len() > DATAGRAM_BYTES_MAX as usize {
            let message = format!("{} bytes do not fit into a datagram; {DATAGRAM_BYTES_MAX} do", data.len());
            return Ok(Err(fault(FaultKind::Limit, "datagram-too-large", message)));
        }
        Ok(match timeout(limit, socket.send(&data)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(io_fault("sending to", peer, &error)),
            Err(_) => Err(late("sending", peer, limit)),
        })
    }

    async fn receive(
        &mut self,
        udp: Resource<Udp>,
        max: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
        let limit = self.limit(Some(timeout_ms));
        let _entered = self.enter("net.udp.receive", self.table.get(&udp)?.peer.as_str());
        let Udp { peer, socket } = self.table.get(&udp)?;
        let max = max.min(DATAGRAM_BYTES_MAX) as usize;
        // One byte more than allowed tells a datagram that is too long from one that just fits.
        let mut buffer = vec![0; max + 1];
        Ok(match timeout(limit, socket.recv(&mut buffer)).await {
            Ok(Ok(length)) if length > max => Err(fault(
                FaultKind::Limit,
                "datagram-too-long",
                format!("a datagram from {peer} is longer than {max} bytes and was dropped"),
            )),
            Ok(Ok(length)) => {
                buffer.truncate(length);
                Ok(buffer)
            }
            Ok(Err(error)) => Err(io_fault("receiving from", peer, &error)),
            Err(_) => Err(late("receiving", peer, limit)),
        })
    }

    async fn drop(&mut self, udp: Resource<Udp>) -> wasmtime::Result<()> {
        self.table.delete(udp)?;
        self.sockets = self.sockets.saturating_sub(1);
        Ok(())
    }
}
