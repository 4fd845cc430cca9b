//! Requests and replies ("Transmission phase"): what a request asks for, and whether it may be asked.
//!
//! Decides from 28 bytes and the export what a request is. Replies are simple ones; in what order they go is free.

use super::{Export, REQUEST_BYTES_MAX, Reader};

/// The length of a request without its data, in bytes.
pub const REQUEST_BYTES: usize = 28;
/// The length of a reply without its data, in bytes.
pub const REPLY_BYTES: usize = 16;

const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// `NBD_CMD_FLAG_*`.
mod flag {
    pub(super) const FUA: u16 = 1 << 0;
    pub(super) const NO_HOLE: u16 = 1 << 1;
}

mod command {
    pub(super) const READ: u16 = 0;
    pub(super) const WRITE: u16 = 1;
    pub(super) const DISCONNECT: u16 = 2;
    pub(super) const FLUSH: u16 = 3;
    pub(super) const TRIM: u16 = 4;
    pub(super) const WRITE_ZEROES: u16 = 6;
}

/// What is answered with a failure, by the numbers of the protocol ("Error values").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Failure {
    /// This copy may not be written now.
    Permission = 1,
    /// The disk, or the right to write it, does not let it be done.
    Io = 5,
    /// The request is wrong.
    Invalid = 22,
    /// The disk is full, or the request goes past the end of the volume.
    NoSpace = 28,
    /// The server does not do this.
    Unsupported = 95,
    /// The volume is being closed.
    Shutdown = 108,
}

/// What is asked for. Offsets and lengths are in bytes, lie in the volume and are multiples of its block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read.
    Read {
        /// From where.
        offset: u64,
        /// How much.
        length: u32,
    },
    /// Write what follows the request.
    Write {
        /// Where to.
        offset: u64,
        /// How much.
        length: u32,
        /// To be durable before it is answered.
        fua: bool,
    },
    /// Make durable what was answered.
    Flush,
    /// Read as zeroes from now on, which is what TRIM is taken for, too (V9).
    Zero {
        /// From where.
        offset: u64,
        /// How much.
        length: u32,
        /// To be durable before it is answered.
        fua: bool,
        /// Whether the space may be given back.
        may_free: bool,
    },
    /// End the connection, once all requests are answered.
    Disconnect,
}

/// A request. When it is a write, `data_bytes` of data follow, whether it may be done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// By which the client knows its reply.
    pub cookie: u64,
    /// What to do, or how to answer at once.
    pub command: Result<Command, Failure>,
    /// How many bytes of data follow.
    pub data_bytes: u32,
}

/// Why a connection ends at once: where the next request begins is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no request.
    #[error("a request begins with {0:#x}")]
    Magic(u32),
    /// More data than is ever taken.
    #[error("a write of {0} bytes is too long, {REQUEST_BYTES_MAX} are taken")]
    TooLong(u32),
}

impl Request {
    /// Reads a request for `export`.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn parse(bytes: &[u8; REQUEST_BYTES], export: &Export) -> Result<Self, RequestError> {
        let mut reader = Reader(bytes);
        let (Some(magic), Some(flags), Some(kind), Some(cookie), Some(offset), Some(length)) =
            (reader.u32(), reader.u16(), reader.u16(), reader.u64(), reader.u64(), reader.u32())
        else {
            unreachable!("{REQUEST_BYTES} bytes are exactly these fields");
        };
        if magic != REQUEST_MAGIC {
            return Err(RequestError::Magic(magic));
        }
        let data_bytes = if kind == command::WRITE { length } else { 0 };
        if data_bytes > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong(length));
        }
        Ok(Self { cookie, command: judge(flags, kind, offset, length, export), data_bytes })
    }
}

fn judge(flags: u16, kind: u16, offset: u64, length: u32, export: &Export) -> Result<Command, Failure> {
    let allowed = match kind {
        command::READ | command::FLUSH | command::WRITE | command::TRIM => flag::FUA,
        command::WRITE_ZEROES => flag::FUA | flag::NO_HOLE,
        command::DISCONNECT => return Ok(Command::Disconnect),
        _ => return Err(Failure::Unsupported),
    };
    if flags & !allowed != 0 {
        return Err(Failure::Invalid);
    }
    if kind == command::FLUSH {
        return Ok(Command::Flush);
    }
    let block = u64::from(export.block_bytes_min);
    if length == 0 || !offset.is_multiple_of(block) || !u64::from(length).is_multiple_of(block) {
        return Err(Failure::Invalid);
    }
    let fits = offset.checked_add(u64::from(length)).is_some_and(|end| end <= export.size_bytes);
    let fua = flags & flag::FUA != 0;
    match kind {
        command::READ if !fits || length > REQUEST_BYTES_MAX => Err(Failure::Invalid),
        command::READ => Ok(Command::Read { offset, length }),
        _ if !fits => Err(Failure::NoSpace),
        command::WRITE => Ok(Command::Write { offset, length, fua }),
        _ => Ok(Command::Zero { offset, length, fua, may_free: flags & flag::NO_HOLE == 0 }),
    }
}

/// A reply; after one to a read that succeeded comes the data.
#[must_use]
pub fn reply(cookie: u64, result: Result<(), Failure>) -> [u8; REPLY_BYTES] {
    let error = result.err().map_or(0, |failure| failure as u32);
    let mut bytes = [0; REPLY_BYTES];
    bytes[..4].copy_from_slice(&REPLY_MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&error.to_be_bytes());
    bytes[8..].copy_from_slice(&cookie.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(flags: u16, kind: u16, offset: u64, length: u32) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&kind.to_be_bytes());
        bytes[8..16].copy_from_slice(&7u64.to_be_bytes());
        bytes[16..24].copy_from_slice(&offset.to_be_bytes());
        bytes[24..].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    #[test]
    fn a_request_is_understood_or_refused() {
        const SIZE: u64 = 1 << 20;
        let export = Export { name: String::new(), size_bytes: SIZE, block_bytes_min: 512 };
        let all = SIZE as u32;
        let cases = [
            ((0, 0, 512, 512), Ok(Command::Read { offset: 512, length: 512 })),
            ((1, 1, 0, 512), Ok(Command::Write { offset: 0, length: 512, fua: true })),
            ((0, 3, 0, 0), Ok(Command::Flush)),
            ((0, 4, 0, all), Ok(Command::Zero { offset: 0, length: all, fua: false, may_free: true })),
            ((3, 6, 0, all), Ok(Command::Zero { offset: 0, length: all, fua: true, may_free: false })),
            ((0, 2, 0, 0), Ok(Command::Disconnect)),
            // Past the end, by one block and by a number that does not fit 64 bits.
            ((0, 0, SIZE, 512), Err(Failure::Invalid)),
            ((0, 1, SIZE - 512, 1024), Err(Failure::NoSpace)),
            ((0, 4, u64::MAX - 511, 512), Err(Failure::NoSpace)),
            // Not whole blocks, nothing, flags that mean something else.
            ((0, 1, 1, 512), Err(Failure::Invalid)),
            ((0, 1, 0, 511), Err(Failure::Invalid)),
            ((0, 0, 0, 0), Err(Failure::Invalid)),
            ((4, 0, 0, 512), Err(Failure::Invalid)),
            ((2, 1, 0, 512), Err(Failure::Invalid)),
            ((0, 5, 0, 512), Err(Failure::Unsupported)),
            ((0, 99, 0, 512), Err(Failure::Unsupported)),
        ];
        for ((flags, kind, offset, length), expected) in cases {
            let parsed = Request::parse(&request(flags, kind, offset, length), &export).unwrap();
            assert_eq!((parsed.cookie, parsed.command), (7, expected), "{kind} {offset} {length}");
            assert_eq!(parsed.data_bytes, if kind == 1 { length } else { 0 });
        }
    }

    #[test]
    fn what_cannot_go_on_ends() {
        let export = Export { name: String::new(), size_bytes: u64::MAX - 511, block_bytes_min: 512 };
        let long = REQUEST_BYTES_MAX + 512;
        assert_eq!(Request::parse(&request(0, 1, 0, long), &export), Err(RequestError::TooLong(long)));
        assert_eq!(Request::parse(&[0; REQUEST_BYTES], &export), Err(RequestError::Magic(0)));
    }

    #[test]
    fn a_reply_names_its_request() {
        assert_eq!(reply(7, Ok(())), [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(reply(7, Err(Failure::NoSpace))[4..8], [0, 0, 0, 28]);
    }
}
