//! Client sockets to granted host:port pairs. The host resolves names and checks the grant, not the kit.

use std::time::Duration;

use crate::{Fault, FaultKind, seam};

/// A host and a port, as they are granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address without brackets.
    pub host: String,
    /// Of TCP or UDP.
    pub port: u16,
}

impl Address {
    /// Reads `host`, `host:port`, an IPv6 address as it is, or one in brackets with or without a port. None: it is nothing of
    /// that sort.
    #[must_use]
    pub fn read(text: &str, default_port: u16) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        } else {
            match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                Some(_) | None => (text, None),
            }
        };
        let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|port| *port > 0))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
        (!host.is_empty() && host.chars().all(plain)).then(|| Self { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How a connection is secured. All three are names, none is a secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The name the server's certificate must carry.
    pub server_name: String,
    /// Name of the secret that holds a CA in PEM; none means the system's roots.
    pub trust: Option<String>,
    /// Name of the secret that holds a client certificate and key in PEM.
    pub identity: Option<String>,
}

impl Tls {
    /// The system's roots, no client certificate.
    pub fn new(server_name: impl Into<String>) -> Self {
        Self { server_name: server_name.into(), trust: None, identity: None }
    }

    /// Trusts the CA in this secret, and only it.
    #[must_use]
    pub fn trust(mut self, secret: impl Into<String>) -> Self {
        self.trust = Some(secret.into());
        self
    }

    /// Shows the client certificate in this secret.
    #[must_use]
    pub fn identity(mut self, secret: impl Into<String>) -> Self {
        self.identity = Some(secret.into());
        self
    }
}

/// A TCP connection; dropped, it is closed.
#[derive(Debug)]
pub struct Tcp(seam::Tcp);

impl Tcp {
    /// Connects. `host` and `port` exactly as granted.
    ///
    /// # Errors
    /// `denied` when it is not granted, `not-found` when the name does not resolve, `unavailable` when it is
    /// refused, `timeout`.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, Fault> {
        seam::Tcp::connect(host, port, crate::ms(timeout)).map(Self)
    }

    /// Goes on through TLS.
    ///
    /// # Errors
    /// `failed` when the other side is not who it should be, `not-found` and `denied` for the secrets,
    /// `timeout`, `closed`. The socket is dead then.
    pub fn start_tls(&self, tls: &Tls, timeout: Duration) -> Result<(), Fault> {
        self.0.start_tls(tls, crate::ms(timeout))
    }

    /// Sends all of `data`.
    ///
    /// # Errors
    /// `timeout`, `closed`. The socket is dead then, and a part may have been sent.
    pub fn write(&self, data: &[u8], timeout: Duration) -> Result<(), Fault> {
        self.0.write(data, crate::ms(timeout))
    }

    /// At most `max` bytes, as soon as there are any. Empty: the peer closed.
    ///
    /// # Errors
    /// `timeout`, `closed`.
    pub fn read(&self, max: u32, timeout: Duration) -> Result<Vec<u8>, Fault> {
        self.0.read(max, crate::ms(timeout))
    }

    /// Exactly `count` bytes. `timeout` holds for each piece that arrives, the call's budget for the whole.
    ///
    /// # Errors
    /// As [`Tcp::read`]; `closed` also when the peer closes before all has arrived.
    pub fn read_exact(&self, count: usize, timeout: Duration) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::with_capacity(count.min(64 * 1024));
        while out.len() < count {
            let wanted = u32::try_from(count - out.len()).unwrap_or(u32::MAX);
            let piece = self.read(wanted, timeout)?;
            if piece.is_empty() {
                return Err(Fault::new(
                    FaultKind::Closed,
                    "closed-early",
                    format!("the peer closed the connection after {} of {count} bytes", out.len()),
                ));
            }
            out.extend_from_slice(&piece);
        }
        Ok(out)
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    /// `closed`.
    pub fn finish(&self) -> Result<(), Fault> {
        self.0.finish()
    }
}

/// A UDP socket that talks to one peer.
#[derive(Debug)]
pub struct Udp(seam::Udp);

impl Udp {
    /// Opens a socket. `host` and `port` exactly as granted.
    ///
    /// # Errors
    /// `denied` when it is not granted, `not-found` when the name does not resolve.
    pub fn connect(host: &str, port: u16) -> Result<Self, Fault> {
        seam::Udp::connect(host, port).map(Self)
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// `unavailable` when the peer's machine said that nobody listens, `limit` when it is too long.
    pub fn send(&self, data: &[u8]) -> Result<(), Fault> {
        self.0.send(data)
    }

    /// One datagram.
    ///
    /// # Errors
    /// `timeout`; `limit` for one longer than `max`; `unavailable` when nobody listens.
    pub fn receive(&self, max: u32, timeout: Duration) -> Result<Vec<u8>, Fault> {
        self.0.receive(max, crate::ms(timeout))
    }
}
