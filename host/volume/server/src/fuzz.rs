//! The doors through which bytes come in that nobody vouches for, each as one function of bytes alone.
//!
//! A fuzzer calls them (`tests/fuzz`), and so does a test with what the fuzzer began from
//! (`host/volume/server/tests/corpus.rs`). Whatever the bytes are: nothing panics, however they are cut they mean the
//! same, and what is understood lies in the volume.

use mainstay_volume_core::message::Message;

use crate::buffers::Pool;
use crate::control::wire;
use crate::inbox::Inbox;
use crate::link::frame;
use crate::nbd::Export;
use crate::nbd::negotiate::{Negotiation, Offer, Step};
use crate::nbd::transmit::{Command, REQUEST_BYTES, Request};

/// The volume that clients are offered, in bytes.
const SIZE_BYTES: u64 = 1 << 20;

/// What an NBD client says: the handshake, then requests. Says whether it got as far as a request that may be done.
///
/// # Panics
/// When a request is let through that does not lie in the volume.
pub fn client(bytes: &[u8]) -> bool {
    let export = Export { name: "mail".into(), size_bytes: SIZE_BYTES, block_bytes_min: 512 };
    let (mut negotiation, mut answers, mut rest) = (Negotiation::default(), Vec::new(), bytes);
    loop {
        match negotiation.take(rest, Offer::Open(&export), &mut answers) {
            Ok((took, Step::Next)) => rest = &rest[took..],
            Ok((took, Step::Transmission)) => {
                rest = &rest[took..];
                break;
            }
            Ok((_, Step::More | Step::Close)) | Err(_) => return false,
        }
    }
    let mut understood = false;
    while let Some((head, after)) = rest.split_first_chunk::<REQUEST_BYTES>() {
        let Ok(request) = Request::parse(head, &export) else { return understood };
        let Some(after) = after.get(request.data_bytes as usize..) else { return understood };
        rest = after;
        match request.command {
            Ok(Command::Disconnect) => return understood,
            Ok(Command::Flush) => understood = true,
            Ok(
                Command::Read { offset, length }
                | Command::Write { offset, length, .. }
                | Command::Zero { offset, length, .. },
            ) => {
                assert!(length > 0 && offset + u64::from(length) <= SIZE_BYTES, "{request:?}");
                assert!(offset.is_multiple_of(512) && length.is_multiple_of(512), "{request:?}");
                understood = true;
            }
            Err(_) => {}
        }
    }
    understood
}

/// What a peer says over the mirror link. Says how many frames there are until one is none.
///
/// # Panics
/// When a message is not the same after it was written and read again, or how the bytes are cut makes a difference.
pub fn frames(bytes: &[u8]) -> usize {
    let whole = cut(bytes, usize::MAX);
    assert_eq!(cut(bytes, 7), whole, "how bytes are cut makes no difference");
    whole
}

fn cut(bytes: &[u8], at_most: usize) -> usize {
    let (pool, mut inbox, mut count, mut rest) = (Pool::default(), Inbox::default(), 0, bytes);
    while !rest.is_empty() {
        let room = inbox.room();
        let some = room.len().min(rest.len()).min(at_most);
        room[..some].copy_from_slice(&rest[..some]);
        rest = &rest[some..];
        inbox.received(some);
        loop {
            match frame::next(&mut inbox, &pool) {
                Ok(None) => break,
                Ok(Some((message, data))) => {
                    assert_eq!(data.map_or(0, |data| data.len()), message.data_bytes() as usize);
                    let again = Message::decode(&frame::head(&message)[4..]);
                    assert_eq!(again.as_ref(), Ok(&message));
                    count += 1;
                }
                Err(_) => return count,
            }
        }
    }
    count
}

/// A line on the control socket. Says whether it is an ask.
///
/// # Panics
/// When an ask is not the same after it was written and read again.
pub fn control(bytes: &[u8]) -> bool {
    match wire::parse(bytes) {
        Ok(line) => {
            let again = serde_json::to_vec(&line).expect("plain values can be written");
            assert_eq!(wire::parse(&again).ok(), Some(line));
            true
        }
        Err(_) => {
            let _id = wire::id_of(bytes);
            false
        }
    }
}
