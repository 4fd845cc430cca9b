//! What goes over the links: datagrams for heartbeats, frames for messages.
//!
//! A frame is its length (u32, big endian) and JSON. A session begins with one [`Hello`] from each side. Everything that
//! comes in is bounded, and what cannot be understood ends the session with a word that says what it was.

use std::io;

use mainstay_core::message::{Heartbeat, PeerMessage};
use mainstay_core::names::{NodeName, PathName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The version of all this. Nodes of another version are told so.
pub const PROTOCOL: u32 = 1;
/// The longest frame, in bytes: the state of tens of thousands of resources has a few MB.
pub const FRAME_BYTES_MAX: usize = 32 << 20;
/// The longest Hello, in bytes: before it is known who speaks, little is listened to.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// The longest datagram, in bytes: it fits into one packet everywhere.
pub const DATAGRAM_BYTES_MAX: usize = 1200;
/// So that a stray datagram is not taken for a heartbeat.
const DATAGRAM_MAGIC: &[u8] = b"mainstay-beat-1\n";

/// Who speaks, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// See [`PROTOCOL`].
    pub protocol: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Who speaks.
    pub from: NodeName,
    /// Who is spoken to.
    pub to: NodeName,
    /// On which comm path.
    pub path: PathName,
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frame {
    /// The first in each direction.
    Hello(Hello),
    /// The last: why the session ends.
    Bye(String),
    /// All others.
    Message(Box<PeerMessage>),
}

/// Writes a frame.
///
/// # Errors
/// When the connection is gone, or the frame is too long.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let payload = serde_json::to_vec(frame)?;
    if payload.len() > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {} bytes is too long", payload.len())));
    }
    let mut bytes = Vec::with_capacity(4 + payload.len());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(&payload);
    stream.write_all(&bytes).await
}

/// Reads a frame of at most `bytes_max`.
///
/// # Errors
/// When the connection is gone, or what comes is not a frame.
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<T> {
    let length = stream.read_u32().await? as usize;
    if length > bytes_max {
        return Err(io::Error::other(format!(
            "it claims a frame of {length} bytes, and at most {bytes_max} are listened to"
        )));
    }
    // Grows with what really comes, not with what is claimed.
    let mut payload = Vec::new();
    let got = stream.take(length as u64).read_to_end(&mut payload).await?;
    if got < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&payload)
        .map_err(|error| io::Error::other(format!("it does not speak as a mainstay node of this version: {error}")))
}

/// A heartbeat as a datagram.
#[must_use]
pub fn datagram(heartbeat: &Heartbeat) -> Vec<u8> {
    let mut bytes = DATAGRAM_MAGIC.to_vec();
    // A heartbeat is names and a number: it can always be written.
    bytes.extend(serde_json::to_vec(heartbeat).unwrap_or_default());
    bytes
}

/// A datagram as a heartbeat, if it is one.
#[must_use]
pub fn heartbeat(datagram: &[u8]) -> Option<Heartbeat> {
    serde_json::from_slice(datagram.strip_prefix(DATAGRAM_MAGIC)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello { protocol: PROTOCOL, cluster: "c".into(), from: "a".into(), to: "b".into(), path: "lan".into() }
    }

    #[tokio::test]
    async fn a_frame_comes_out_as_it_went_in() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Frame::Hello(hello())).await.unwrap();
        assert_eq!(read::<Frame>(&mut bytes.as_slice(), HELLO_BYTES_MAX).await.unwrap(), Frame::Hello(hello()));
    }

    #[tokio::test]
    async fn what_is_too_long_cut_off_or_no_frame_is_refused() {
        let long = [0xff; 8];
        assert!(read::<Frame>(&mut long.as_slice(), 100).await.unwrap_err().to_string().contains("at most 100"));
        let short = [0, 0, 0, 9, b'"'];
        assert_eq!(read::<Frame>(&mut short.as_slice(), 100).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let garbage = [0, 0, 0, 2, b'{', b'}'];
        assert!(read::<Frame>(&mut garbage.as_slice(), 100).await.unwrap_err().to_string().contains("does not speak"));
    }

    #[test]
    fn heartbeats_fit_into_a_packet_whatever_the_names() {
        let name = "x".repeat(mainstay_core::names::NAME_BYTES_MAX);
        let beat = Heartbeat {
            cluster: name.clone(),
            from: name.as_str().into(),
            to: name.as_str().into(),
            path: name.as_str().into(),
            incarnation: u64::MAX,
            asks: true,
        };
        let bytes = datagram(&beat);
        assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
        assert_eq!(heartbeat(&bytes), Some(beat));
    }

    proptest! {
        #[test]
        fn stray_datagrams_are_no_heartbeats(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(heartbeat(&bytes), None);
        }
    }
}
