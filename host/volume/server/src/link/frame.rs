//! What goes over the mirror link: frames, each a message of the core and the data that goes with it.
//!
//! ```text
//! length of the message   4   big endian
//! message                     as the core encodes it (`mainstay_volume_core::message`)
//! data                        as many bytes as the message says
//! ```
//!
//! Everything is bounded before memory is taken for it. Nothing is believed: what cannot be understood ends the link.

use mainstay_volume_core::message::{MESSAGE_BYTES_MAX, Malformed, Message};
use mainstay_volume_core::types::{REGION_BYTES, checksum};

use crate::buffers::{Buffer, Pool};
use crate::inbox::Inbox;
use crate::nbd::REQUEST_BYTES_MAX;

/// The length before a message, in bytes.
const LENGTH_BYTES: usize = 4;

/// Why what came is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than any message.
    #[error("it claims a message of {0} bytes, and at most {MESSAGE_BYTES_MAX} are listened to")]
    TooLong(u32),
    /// Not the core's.
    #[error("it does not speak as a mirror of this version: {0}")]
    Malformed(#[from] Malformed),
    /// More data than is ever sent.
    #[error(
        "it claims {0} bytes of data, and at most {REQUEST_BYTES_MAX} go with a write and {REGION_BYTES} with a copy"
    )]
    Data(u32),
    /// Data that has changed on the way, or before it was sent.
    #[error("the data of a copied region has checksum {found:#018x}, and was sent with {claimed:#018x}")]
    Checksum {
        /// As sent.
        claimed: u64,
        /// As received.
        found: u64,
    },
}

/// A message as its frame begins; its data, if there is any, follows.
#[must_use]
pub fn head(message: &Message) -> Vec<u8> {
    let mut bytes = message.encode(vec![0; LENGTH_BYTES]);
    let length = (bytes.len() - LENGTH_BYTES) as u32;
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// The next whole frame of what was received.
///
/// # Errors
/// When what came is none.
pub fn next(inbox: &mut Inbox<Message>, pool: &Pool) -> Result<Option<(Message, Option<Buffer>)>, FrameError> {
    if !inbox.is_filling() {
        let Some(length) = inbox.bytes().first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let claimed = u32::from_be_bytes(*length);
        let length = claimed as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLong(claimed));
        }
        let Some(bytes) = inbox.bytes().get(LENGTH_BYTES..LENGTH_BYTES + length) else { return Ok(None) };
        let message = Message::decode(bytes)?;
        inbox.take(LENGTH_BYTES + length);
        let data_bytes = message.data_bytes();
        if data_bytes == 0 {
            return Ok(Some((message, None)));
        }
        let most = if matches!(message, Message::Copy { .. }) { REGION_BYTES as u32 } else { REQUEST_BYTES_MAX };
        if data_bytes > most {
            return Err(FrameError::Data(data_bytes));
        }
        inbox.fill(message, pool.take(data_bytes as usize));
    }
    let Some((message, data)) = inbox.filled() else { return Ok(None) };
    if let Message::Copy { checksum: claimed, .. } = &message {
        let found = checksum(&data);
        if found != *claimed {
            return Err(FrameError::Checksum { claimed: *claimed, found });
        }
    }
    Ok(Some((message, Some(data))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_volume_core::message::Sent;
    use mainstay_volume_core::types::{Extent, Region};

    type Frames = Vec<(Message, Option<Vec<u8>>)>;

    fn receive(bytes: &[u8]) -> Result<Frames, FrameError> {
        let (pool, mut inbox, mut found) = (Pool::default(), Inbox::default(), Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = inbox.room();
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            inbox.received(count);
            while let Some((message, data)) = next(&mut inbox, &pool)? {
                found.push((message, data.map(|data| data.to_vec())));
            }
        }
        Ok(found)
    }

    fn write(length: u32) -> Message {
        Message::Write { id: Sent(7), extent: Extent { offset: 512, length }, fua: false, barrier: false }
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let data = vec![7; 1 << 20];
        let bytes = [head(&Message::Ping), head(&write(1 << 20)), data.clone(), head(&Message::End)].concat();
        assert!(receive(&bytes) == Ok(vec![(Message::Ping, None), (write(1 << 20), Some(data)), (Message::End, None)]));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(receive(b"GET / HTTP/1.1\r\n"), Err(FrameError::TooLong(u32::from_be_bytes(*b"GET "))));
        assert_eq!(receive(&[0, 0, 0, 1, 250]), Err(FrameError::Malformed(Malformed::Undecodable)));
        assert_eq!(receive(&[0, 0, 0, 0]), Err(FrameError::Malformed(Malformed::Undecodable)));
        let long = REQUEST_BYTES_MAX + 512;
        assert_eq!(receive(&head(&write(long))), Err(FrameError::Data(long)));
        let copy = Message::Copy { region: Region(1), length: 512, checksum: 7 };
        let received = receive(&[head(&copy), vec![0; 512]].concat());
        assert!(matches!(received, Err(FrameError::Checksum { claimed: 7, .. })), "{received:?}");
    }
}
