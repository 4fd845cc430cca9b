//! Talking to the daemon on its Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use mainstay_node::api::{AcceptedBody, ErrorBody, FullStatus};
use mainstay_node::state_dir::StateDir;
use mainstay_node::volumes::VolumeRequest;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long the daemon may take to answer; it has a shorter limit of its own for most.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);

/// A name as a part of a URL's path: whatever an operator has typed is asked for, and found not to be there.
pub(crate) fn in_path(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let encode = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

/// The daemon of one node.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// What the daemon answers.
pub(crate) enum Answer<T> {
    Ok(T),
    Refused(String),
}

impl Client {
    pub(crate) fn new(state: &Path) -> Self {
        Self { socket: StateDir::socket(state) }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.get_within(ANSWER, path).await
    }

    /// The same, of what may take longer.
    pub(crate) async fn get_within<T: DeserializeOwned>(&self, limit: Duration, path: &str) -> anyhow::Result<T> {
        match self.ask(limit, Method::GET, path, Bytes::new()).await? {
            Answer::Ok(answer) => Ok(answer),
            Answer::Refused(why) => bail!("{why}"),
        }
    }

    pub(crate) async fn status(&self) -> anyhow::Result<FullStatus> {
        self.get("/v1/status").await
    }

    /// What happens now, or why the request is refused.
    pub(crate) async fn request(&self, request: &mainstay_core::node::Request) -> anyhow::Result<Answer<String>> {
        self.post("/v1/requests", serde_json::to_vec(request)?).await
    }

    /// What was done with a volume, or why the request is refused.
    pub(crate) async fn volume_request(&self, name: &str, request: &VolumeRequest) -> anyhow::Result<Answer<String>> {
        self.post(&format!("/v1/volumes/{name}"), serde_json::to_vec(request)?).await
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Answer<String>> {
        Ok(match self.ask::<AcceptedBody>(ANSWER, Method::POST, path, body.into()).await? {
            Answer::Ok(body) => Answer::Ok(body.accepted),
            Answer::Refused(why) => Answer::Refused(why),
        })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Answer<T>> {
        match tokio::time::timeout(limit, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => bail!("the daemon at {} has not answered within {} s", self.socket.display(), limit.as_secs()),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Answer<T>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "no daemon answers at {}: does it run, and with this state directory (--state)? May this user open the socket?",
                self.socket.display()
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the exchange; what goes wrong with it shows in the answer.
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "mainstay")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await.context("the daemon ended while it was asked")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the daemon's answer broke off: {error}"))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(Answer::Ok(
                serde_json::from_slice(&body).context("the daemon is of another version than this command")?,
            ));
        }
        let why = serde_json::from_slice::<ErrorBody>(&body)
            .map_or_else(|_| format!("the daemon answers {status}"), |body| body.error);
        Ok(Answer::Refused(why))
    }
}
