//! A connection to the peer that never waits, secured or not.
//!
//! Reading and writing are those of the system's sockets: what cannot be done now is [`io::ErrorKind::WouldBlock`].

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustls::Connection;

/// What is received in one call and not yet decrypted, in bytes: some records of 16 KiB (RFC 8446 §5.1).
const ARRIVED_BYTES: usize = 256 << 10;
/// What is encrypted and not yet sent, in bytes: as much as sockets take at once.
const SEALED_BYTES_MAX: usize = 512 << 10;

/// A connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    /// Without security: the last call gave less than there was room for, and another one now would give nothing.
    is_drained: bool,
    secured: Option<Box<Secured>>,
}

#[derive(Debug)]
struct Secured {
    session: Connection,
    arrived: Vec<u8>,
    held: std::ops::Range<usize>,
    /// The peer, or its machine, has closed the connection.
    is_over: bool,
    /// The last call gave less than there was room for: another one now would give nothing.
    is_drained: bool,
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Stream {
    /// Of a socket that does not block; with a session it is secured by that.
    #[must_use]
    pub fn new(socket: TcpStream, session: Option<Connection>) -> Self {
        let secured = session.map(|mut session| {
            session.set_buffer_limit(Some(SEALED_BYTES_MAX));
            Box::new(Secured {
                session,
                arrived: vec![0; ARRIVED_BYTES],
                held: 0..0,
                is_over: false,
                is_drained: false,
            })
        });
        Self { socket, is_drained: false, secured }
    }

    /// The socket, before anything has gone over it.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The session, if it is secured.
    #[must_use]
    pub fn session(&self) -> Option<&Connection> {
        self.secured.as_deref().map(|secured| &secured.session)
    }

    /// Goes on with the handshake. Says whether it is done.
    ///
    /// # Errors
    /// When it fails.
    pub fn shake_hands(&mut self) -> io::Result<bool> {
        let Some(secured) = &mut self.secured else { return Ok(true) };
        loop {
            secured.send(&mut self.socket)?;
            if !secured.session.is_handshaking() {
                return Ok(true);
            }
            if let Err(error) = secured.receive(&mut self.socket) {
                if error.kind() == io::ErrorKind::WouldBlock {
                    return Ok(false);
                }
                // What is wrong is told the other end, too, if that still goes.
                let _ = secured.send(&mut self.socket);
                return Err(error);
            }
            if secured.is_over && secured.session.is_handshaking() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Whether something is encrypted and not yet sent.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.secured.as_ref().is_some_and(|secured| secured.session.wants_write())
    }
}

impl Secured {
    /// Decrypts something, of what has arrived or arrives now.
    fn receive(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        if self.held.is_empty() {
            // Poll tells of what comes after.
            if std::mem::take(&mut self.is_drained) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = socket.read(&mut self.arrived)?;
            self.held = 0..count;
            self.is_over = count == 0;
            self.is_drained = count > 0 && count < self.arrived.len();
        }
        let mut rest = &self.arrived[self.held.clone()];
        let count = self.session.read_tls(&mut rest)?;
        self.held.start += count;
        self.session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(())
    }

    /// Sends what is encrypted, as far as that goes now.
    fn send(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(secured) = &mut self.secured else {
            // Poll tells of what comes after.
            if std::mem::take(&mut self.is_drained) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = self.socket.read(to)?;
            self.is_drained = count > 0 && count < to.len();
            return Ok(count);
        };
        loop {
            match secured.session.reader().read(to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !secured.is_over => {}
                // Without a word of good-bye (RFC 8446 §6.1): frames say themselves where they end.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::UnexpectedEof) => {
                    return Ok(0);
                }
                other => return other,
            }
            secured.receive(&mut self.socket)?;
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(secured) = &mut self.secured else { return self.socket.write_vectored(slices) };
        let count = secured.session.writer().write_vectored(slices)?;
        secured.send(&mut self.socket)?;
        if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.secured {
            Some(secured) => secured.send(&mut self.socket),
            None => Ok(()),
        }
    }
}
