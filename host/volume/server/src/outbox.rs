//! What is still to be sent on a connection: bytes made here, and data that lies in buffers and is not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use crate::buffers::Buffer;

/// Pieces handed to the system in one call.
const PIECES_MAX: usize = 64;
/// Made bytes are joined up to here, in bytes, so that many short messages are few pieces.
const JOINED_BYTES_MAX: usize = 16 << 10;

#[derive(Debug)]
enum Piece {
    Made(Vec<u8>),
    Data(Arc<Buffer>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Made(bytes) => bytes,
            Self::Data(buffer) => buffer,
        }
    }
}

/// What is to be sent, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// How much of the first is sent.
    sent: usize,
    bytes: usize,
    /// The memory of the data in it.
    data_bytes: usize,
}

impl Outbox {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        match self.pieces.back_mut() {
            Some(Piece::Made(last)) if last.len() + bytes.len() <= JOINED_BYTES_MAX => last.extend_from_slice(bytes),
            _ => self.pieces.push_back(Piece::Made(bytes.to_vec())),
        }
    }

    /// Adds data.
    pub fn push_data(&mut self, data: Arc<Buffer>) {
        if !data.is_empty() {
            self.bytes += data.len();
            self.data_bytes += data.room_bytes();
            self.pieces.push_back(Piece::Data(data));
        }
    }

    /// How much is left, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory that the data in it takes, in bytes.
    #[must_use]
    pub fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Sends what can be sent without waiting.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while !self.pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> = self
                .pieces
                .iter()
                .take(PIECES_MAX)
                .enumerate()
                .map(|(index, piece)| IoSlice::new(&piece.bytes()[if index == 0 { self.sent } else { 0 }..]))
                .collect();
            match socket.write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.took(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn took(&mut self, count: usize) {
        self.bytes -= count;
        self.sent += count;
        while let Some(first) = self.pieces.front() {
            let length = first.bytes().len();
            if self.sent < length {
                break;
            }
            self.sent -= length;
            if let Some(Piece::Data(data)) = self.pieces.pop_front() {
                self.data_bytes -= data.room_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Pool;

    /// Takes so many bytes at a time, and then none.
    struct Narrow {
        each: usize,
        left: usize,
        got: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.each).min(self.left);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.got.extend_from_slice(&bytes[..count]);
            self.left -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_no_piece() {
        let mut outbox = Outbox::default();
        outbox.push(b"");
        outbox.push_data(Arc::new(Pool::default().take(0)));
        outbox.send(&mut Narrow { each: 0, left: 0, got: Vec::new() }).unwrap();
        assert!(outbox.pieces.is_empty());
    }

    #[test]
    fn everything_goes_out_once_and_in_order() {
        let mut data = Pool::default().take(4);
        data.copy_from_slice(b"data");
        let mut outbox = Outbox::default();
        outbox.push(b"one ");
        outbox.push(b"two ");
        outbox.push_data(Arc::new(data));
        outbox.push(b" end");
        assert_eq!(outbox.pieces.len(), 3);
        let mut narrow = Narrow { each: 3, left: 0, got: Vec::new() };
        while outbox.bytes() > 0 {
            narrow.left = 5;
            outbox.send(&mut narrow).unwrap();
        }
        assert_eq!(narrow.got, b"one two data end");
        assert!(outbox.pieces.is_empty() && outbox.sent == 0 && outbox.data_bytes() == 0);
    }
}
