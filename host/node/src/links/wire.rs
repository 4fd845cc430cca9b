//! What goes over a session: frames.
//!
//! A frame is its length (u32, big endian) and JSON. A session begins with one [`Hello`] from each side, and a word of
//! the one that connected that it has heard the other. Everything that comes in is bounded, and what cannot be
//! understood ends the session with a word that says what it was. (Datagrams are those of [`super::keys`].)

use std::io;

use mainstay_core::message::PeerMessage;
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
    /// The second of the one that connected: the other's Hello has come, and the session begins.
    Agreed,
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

/// Why what came is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It would be too long.
    #[error("it claims a frame of {claimed} bytes, and at most {most} are listened to")]
    TooLong {
        /// What it claims.
        claimed: usize,
        /// The limit.
        most: usize,
    },
    /// It is none of this version.
    #[error("it does not speak as a mainstay node of this version: {0}")]
    Malformed(#[from] serde_json::Error),
    /// There is more to come, or was.
    #[error("it ends in the middle of a frame, or the connection does: {0}")]
    Connection(#[from] io::Error),
}

/// Reads a frame of at most `bytes_max`.
///
/// # Errors
/// When the connection is gone, or what comes is not a frame.
pub async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<T, FrameError> {
    let claimed = stream.read_u32().await? as usize;
    if claimed > bytes_max {
        return Err(FrameError::TooLong { claimed, most: bytes_max });
    }
    // Grows with what really comes, not with what is claimed.
    let mut payload = Vec::new();
    let got = stream.take(claimed as u64).read_to_end(&mut payload).await?;
    if got < claimed {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_slice(&payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(read::<Frame>(&mut short.as_slice(), 100).await, Err(FrameError::Connection(_))));
        let garbage = [0, 0, 0, 2, b'{', b'}'];
        assert!(read::<Frame>(&mut garbage.as_slice(), 100).await.unwrap_err().to_string().contains("does not speak"));
    }
}
