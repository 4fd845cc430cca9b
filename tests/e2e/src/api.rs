//! The daemon's socket, spoken to as HTTP is written on paper: so that also what no client would send can be sent.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::LIMIT;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// GET.
///
/// # Errors
/// When nobody answers.
pub fn get(socket: &Path, path: &str) -> io::Result<Answer> {
    send(socket, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

/// POST of a text that is said to be JSON.
///
/// # Errors
/// When nobody answers.
pub fn post(socket: &Path, path: &str, body: &str) -> io::Result<Answer> {
    let length = body.len();
    send(
        socket,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ),
    )
}

/// Sends these bytes and reads to the end.
///
/// # Errors
/// When nobody answers, or something that is no HTTP.
pub fn send(socket: &Path, bytes: &str) -> io::Result<Answer> {
    let mut stream = connect(socket)?;
    // One that is turned away early may close before it has heard all.
    let sent = stream.write_all(bytes.as_bytes());
    let answer = read(&mut stream);
    if answer.is_err() {
        sent?;
    }
    answer
}

/// A connection that is given up when nothing comes for long.
///
/// # Errors
/// When nobody listens.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Reads one answer, after which the connection has to be closed.
///
/// # Errors
/// When it breaks off, or is no HTTP.
pub fn read(stream: &mut UnixStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let no_http = || io::Error::other(format!("this is no HTTP: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(no_http)?;
    Ok(Answer { code, head: head.to_owned(), body: body.to_owned() })
}

impl Answer {
    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("this is not JSON ({error}): {self:#?}"))
    }

    /// What it says is wrong, as every answer that is not 200 does.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    #[must_use]
    pub fn error(&self) -> String {
        assert_ne!(self.code, 200, "{self:#?}");
        match self.json().get("error").and_then(Value::as_str) {
            Some(error) if !error.is_empty() => error.to_owned(),
            Some(_) | None => panic!("it says nothing of what is wrong: {self:#?}"),
        }
    }
}
