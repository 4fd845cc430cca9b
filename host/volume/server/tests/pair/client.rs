//! An NBD client of our own, so that it is known exactly what was asked and what was acknowledged.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// An answer that takes longer is none: twice what a volume may hold a request for.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A read is done in pieces of so many bytes.
const READ_BYTES: usize = 4 << 20;

const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const FUA: u16 = 1;

/// What is asked of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    Zero = 6,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    size: u64,
}

impl Client {
    /// Connects and chooses an export.
    pub(crate) fn connect(socket: &Path, export: &str) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting)?;
        if &greeting[..16] != b"NBDMAGICIHAVEOPT" {
            return Err(io::Error::other("no NBD server"));
        }
        // Fixed newstyle, and no 124 zeroes at the end.
        let mut asked = 3u32.to_be_bytes().to_vec();
        asked.extend(b"IHAVEOPT");
        asked.extend(OPT_GO.to_be_bytes());
        asked.extend((4 + export.len() as u32 + 4).to_be_bytes());
        asked.extend((export.len() as u32).to_be_bytes());
        asked.extend(export.as_bytes());
        // One thing is to be told: which blocks it takes (NBD_INFO_BLOCK_SIZE).
        asked.extend([1u16.to_be_bytes(), 3u16.to_be_bytes()].concat());
        stream.write_all(&asked)?;
        let mut size = None;
        loop {
            let mut header = [0; 20];
            stream.read_exact(&mut header)?;
            let (kind, length) = (number(&header[12..16]), number(&header[16..20]));
            let mut data = vec![0; length as usize];
            stream.read_exact(&mut data)?;
            match kind as u32 {
                REP_INFO if data[..2] == [0, 0] => size = Some(number(&data[2..10])),
                REP_INFO => {}
                REP_ACK => break,
                other => {
                    return Err(io::Error::other(format!("refused: {other:x} {}", String::from_utf8_lossy(&data))));
                }
            }
        }
        let size = size.ok_or_else(|| io::Error::other("the server says no size"))?;
        Ok(Self { stream, size })
    }

    /// Asks, and does not wait for the answer.
    pub(crate) fn ask(
        &mut self,
        command: Command,
        fua: bool,
        cookie: u64,
        (offset, length): (u64, u32),
        data: &[u8],
    ) -> io::Result<()> {
        let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
        bytes.extend((if fua { FUA } else { 0 }).to_be_bytes());
        bytes.extend((command as u16).to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        self.stream.write_all(&bytes)
    }

    /// The next answer to anything but a read: an error number, and to what.
    pub(crate) fn answer(&mut self) -> io::Result<(u32, u64)> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        assert_eq!(number(&reply[..4]), 0x6744_6698, "it is a simple reply");
        Ok((number(&reply[4..8]) as u32, number(&reply[8..16])))
    }

    /// Asks for one thing, and waits for the answer: an error number.
    pub(crate) fn once(&mut self, command: Command, fua: bool, at: (u64, u32), data: &[u8]) -> io::Result<u32> {
        self.ask(command, fua, 0, at, data)?;
        Ok(self.answer()?.0)
    }

    /// Reads `length` bytes from the beginning on.
    pub(crate) fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        self.read_at(0, length)
    }

    /// Reads `length` bytes from there on.
    pub(crate) fn read_at(&mut self, from: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut data = vec![0; length];
        for (at, piece) in data.chunks_mut(READ_BYTES).enumerate() {
            self.ask(Command::Read, false, 0, (from + (at * READ_BYTES) as u64, piece.len() as u32), &[])?;
            match self.answer()? {
                (0, _) => self.stream.read_exact(piece)?,
                (error, _) => return Err(io::Error::other(format!("a read gives error {error}"))),
            }
        }
        Ok(data)
    }

    /// What it says and hears, byte by byte.
    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }

    /// Is gone at once, without a word.
    pub(crate) fn vanish(self) {
        // It may be gone already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Whoever is gone does not mind.
        let _ = self.ask(Command::Disconnect, false, 0, (0, 0), &[]);
    }
}

/// All bytes of an export, or an error.
pub(crate) fn read_all(socket: &Path, export: &str) -> io::Result<Vec<u8>> {
    let mut client = Client::connect(socket, export)?;
    let length = client.size() as usize;
    client.read(length)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
