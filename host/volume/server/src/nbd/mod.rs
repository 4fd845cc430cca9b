//! The NBD protocol, the server's half, as functions of bytes: nothing here reads a socket or a disk.
//!
//! What is spoken is the fixed newstyle handshake and simple replies of the protocol's specification
//! (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>; sections are named by their headings).
//! [`negotiate`] is its handshake phase, [`transmit`] its transmission phase, [`Export`] what both say of a volume.
//! TLS is not spoken: the socket is a Unix socket that only the daemon's own user can open.

pub mod negotiate;
pub mod transmit;

/// The longest read or write that is taken, in bytes: what clients keep to that do not ask for it
/// ("Block size constraints"), and a limit on what one request makes the server hold.
pub const REQUEST_BYTES_MAX: u32 = 32 << 20;
/// What is best done at once, in bytes: a page of the machine, and a block of most file systems.
pub const BLOCK_BYTES_PREFERRED: u32 = 4096;

/// `NBD_FLAG_*`: what an export can do ("Transmission flags").
mod flag {
    pub(super) const HAS_FLAGS: u16 = 1 << 0;
    pub(super) const SEND_FLUSH: u16 = 1 << 2;
    pub(super) const SEND_FUA: u16 = 1 << 3;
    pub(super) const SEND_TRIM: u16 = 1 << 5;
    pub(super) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub(super) const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// What a client is told of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name. A client that names none gets it too.
    pub name: String,
    /// Its size, in bytes: a multiple of `block_bytes_min`.
    pub size_bytes: u64,
    /// What every offset and length has to be a multiple of, in bytes: a power of two from 512 on.
    pub block_bytes_min: u32,
}

impl Export {
    /// What it can do. Several connections may be used as one: a flush covers what was completed before it on any of
    /// them (V8).
    #[must_use]
    pub fn flags(&self) -> u16 {
        use flag::{CAN_MULTI_CONN, HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES};
        HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES | CAN_MULTI_CONN
    }
}

/// Reads numbers off the front of bytes, big endian, as the protocol has them.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }
}
