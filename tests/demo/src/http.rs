//! As much of HTTP as the demo's shop and those who ask it need: one GET, one answer, the connection ends.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest request or answer, in bytes: a page has less than a hundred.
pub(crate) const MESSAGE_BYTES_MAX: u64 = 16 << 10;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody listens, or there is no way.
    #[error("no connection: {}", .0.kind())]
    Connect(io::Error),
    /// The connection broke, or nothing came in time.
    #[error("connected, and no answer: {}", .0.kind())]
    Exchange(io::Error),
    /// Another answer than the page.
    #[error("HTTP {status}: {body}")]
    Status {
        /// The status code.
        status: u16,
        /// What it says.
        body: String,
    },
    /// No HTTP.
    #[error("connected, and the answer is no HTTP")]
    Garbage,
}

/// Fetches the page at `address`; every step of it may take `limit`.
pub(crate) fn get(address: SocketAddr, host: &str, limit: Duration) -> Result<String, HttpError> {
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(HttpError::Connect)?;
    let answer = exchange(&mut stream, host, limit).map_err(HttpError::Exchange)?;
    read_answer(&answer)
}

fn exchange(stream: &mut TcpStream, host: &str, limit: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MESSAGE_BYTES_MAX).read_to_end(&mut answer)?;
    if answer.is_empty() {
        // It accepted the connection and ended.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

fn read_answer(answer: &[u8]) -> Result<String, HttpError> {
    let text = std::str::from_utf8(answer).map_err(|_| HttpError::Garbage)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(HttpError::Garbage)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    match status.ok_or(HttpError::Garbage)? {
        200 => Ok(body.trim_end().to_owned()),
        status => Err(HttpError::Status { status, body: body.trim_end().to_owned() }),
    }
}

/// An answer with this status and body.
pub(crate) fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let page = read_answer(answer("200 OK", "hello\n").as_bytes()).unwrap();
        assert_eq!(page, "hello");
        let error = read_answer(answer("500 Internal Server Error", "no data\n").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "HTTP 500: no data");
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for garbage in [&b"hello"[..], b"HTTP/1.1 \r\n\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n", b"\xff\xff\r\n\r\n"] {
            assert!(matches!(read_answer(garbage), Err(HttpError::Garbage)), "{garbage:?}");
        }
    }

    #[test]
    fn nobody_there_is_said_in_words() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = get(address, "shop", Duration::from_secs(20)).unwrap_err();
        assert_eq!(error.to_string(), "no connection: connection refused");
    }

    #[test]
    fn one_that_closes_at_once_has_not_answered() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let error = get(address, "shop", Duration::from_secs(20)).unwrap_err();
        assert!(matches!(error, HttpError::Exchange(_)), "{error}");
        thread.join().unwrap();
    }
}
