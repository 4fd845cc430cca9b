//! What was received on a connection: heads, which say what follows, and data, which goes straight to where the disk
//! takes it from.
//!
//! Small pieces are received many at a time into one staging area. Once a head has said how much data follows, what of
//! it has come already is copied, and the rest is received in its place.

use std::ops::Range;

use crate::buffers::Buffer;

/// The staging area, in bytes: some small writes, and the longest head (a message of the mirror of 64 KiB) twice.
pub const STAGING_BYTES: usize = 128 << 10;

/// Received bytes that are not taken yet; `H` is a head whose data is on its way.
#[derive(Debug)]
pub struct Inbox<H> {
    staging: Vec<u8>,
    held: Range<usize>,
    partial: Option<Partial<H>>,
}

#[derive(Debug)]
struct Partial<H> {
    head: H,
    data: Buffer,
    filled: usize,
}

impl<H> Default for Inbox<H> {
    fn default() -> Self {
        Self { staging: vec![0; STAGING_BYTES], held: 0..0, partial: None }
    }
}

impl<H> Inbox<H> {
    /// Where to receive to. It is empty only when the staging area is full of heads that nobody has taken.
    pub fn room(&mut self) -> &mut [u8] {
        match &mut self.partial {
            // What the staging area holds comes before what will be received.
            Some(partial) if self.held.is_empty() => &mut partial.data[partial.filled..],
            Some(_) | None => {
                if self.held.start > 0 {
                    self.staging.copy_within(self.held.clone(), 0);
                    self.held = 0..self.held.len();
                }
                &mut self.staging[self.held.end..]
            }
        }
    }

    /// So many bytes were received into [`Self::room`].
    pub fn received(&mut self, count: usize) {
        match &mut self.partial {
            Some(partial) if self.held.is_empty() => partial.filled += count,
            Some(_) | None => self.held.end += count,
        }
    }

    /// Bytes in which the next head is looked for.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.staging[self.held.clone()]
    }

    /// So many of them are understood.
    pub fn take(&mut self, count: usize) {
        self.held.start += count;
    }

    /// Whether there is a head whose data is on its way: what is received next is that.
    #[must_use]
    pub fn is_filling(&self) -> bool {
        self.partial.is_some()
    }

    /// The memory for that data, in bytes.
    #[must_use]
    pub fn filling_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.data.room_bytes())
    }

    /// A head was understood, and its data follows.
    pub fn fill(&mut self, head: H, data: Buffer) {
        self.partial = Some(Partial { head, data, filled: 0 });
    }

    /// The head, once all of its data has come.
    pub fn filled(&mut self) -> Option<(H, Buffer)> {
        let mut partial = self.partial.take()?;
        let count = (partial.data.len() - partial.filled).min(self.held.len());
        partial.data[partial.filled..][..count].copy_from_slice(&self.staging[self.held.start..][..count]);
        partial.filled += count;
        self.held.start += count;
        if partial.filled == partial.data.len() {
            return Some((partial.head, partial.data));
        }
        self.partial = Some(partial);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::Pool;

    /// Heads of one byte that say how many bytes of data follow.
    fn receive(mut bytes: &[u8], at_most: usize) -> Vec<(u8, Vec<u8>)> {
        let (pool, mut inbox, mut found) = (Pool::default(), Inbox::default(), Vec::new());
        while !bytes.is_empty() {
            let room = inbox.room();
            let count = room.len().min(at_most).min(bytes.len());
            assert!(count > 0);
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            inbox.received(count);
            loop {
                if let Some((head, data)) = inbox.filled() {
                    found.push((head, data.to_vec()));
                } else if inbox.is_filling() {
                    break;
                }
                let Some(head) = inbox.bytes().first().copied() else { break };
                inbox.take(1);
                inbox.fill(head, pool.take(head.into()));
            }
        }
        found
    }

    #[test]
    fn however_it_is_cut_it_is_the_same() {
        let heads: Vec<u8> = (1..=200).collect();
        let expected: Vec<(u8, Vec<u8>)> = heads.iter().map(|head| (*head, vec![!head; (*head).into()])).collect();
        let bytes: Vec<u8> = expected.iter().flat_map(|(head, data)| [vec![*head], data.clone()].concat()).collect();
        for at_most in [1, 2, 3, 100, 1000, bytes.len()] {
            assert!(receive(&bytes, at_most) == expected, "{at_most}");
        }
    }
}
