//! Whether a session with a peer could be made on a comm path: tried when this node is examined, and at no other time.
//!
//! As far as a session goes without being one: TCP, and TLS with both certificates. Nothing is said, so the peer turns it
//! away as one that has gone, and the session that is there goes on.

use std::time::Duration;

use mainstay_core::names::NodeName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::session::HELLO;
use super::tls;
use crate::certificates::Store;

/// What a TCP connection may take: the first packet is sent again after a second (RFC 6298 §2), and one may be lost.
const CONNECT: Duration = Duration::from_secs(2);
/// What a peer that refuses this node's certificate may take to say so: TLS 1.3 has a client go on before that (RFC 8446
/// §4.4.4). One that has nothing against it says nothing for longer.
const REFUSAL: Duration = Duration::from_secs(1);

/// Tries it.
///
/// # Errors
/// With what stands in the way, in words.
pub(crate) async fn probe(certificates: &Store, peer: &NodeName, address: &str) -> Result<(), String> {
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no connection within {} s", CONNECT.as_secs())),
    };
    let words = |error: &tls::LinkError| error.blame().map_or_else(|| error.to_string(), |(_, why)| why);
    let mut stream = match timeout(HELLO, tls::connect(certificates, peer, stream)).await {
        Ok(Ok(secured)) => secured.stream,
        Ok(Err(error)) => return Err(words(&error)),
        Err(_) => return Err(format!("no answer within {} s", HELLO.as_secs())),
    };
    // That it goes is said in order, so that the peer has no reason to wait for more.
    if let Err(error) = stream.shutdown().await {
        return Err(words(&error.into()));
    }
    match timeout(REFUSAL, stream.read(&mut [0; 1])).await {
        Ok(Err(error)) => {
            // That it closes without a word is as good as one.
            let error = tls::LinkError::from(error);
            error.blame().map_or(Ok(()), |(_, why)| Err(why))
        }
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
