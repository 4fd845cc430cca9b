//! Small servers on loopback that do what a broken one does: they are slow by bytes, say nothing, say what is wrong, hang up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// A byte of a greeting every tenth of a second, so that each read goes well and the whole is late.
    Slowly,
    Nothing,
    /// What is no greeting of any protocol.
    Wrongly,
    /// It closes at once.
    Goodbye,
    /// A line that does not end.
    Endlessly,
    /// HTTP: Outlook's health page, and nothing else.
    Http,
}

/// A server; gone when dropped.
pub(crate) struct Server {
    port: u16,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(how: Speaks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                let (stream, seen) = (stream.expect("a connection"), Arc::clone(&seen));
                std::thread::spawn(move || speak(how, stream, &seen));
            }
        });
        Self { port, over, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Its wait for a connection ends with one.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server on port {} broke down", self.port);
        }
    }
}

/// What is written to a client that is gone is of no matter.
fn speak(how: Speaks, mut stream: TcpStream, over: &AtomicBool) {
    match how {
        Speaks::Slowly => {
            for byte in b"HTTP/1.1 200 and a reason that takes its time \r\n".iter().cycle() {
                std::thread::sleep(Duration::from_millis(100));
                // Never the end of a line: it would be the wrong greeting of most protocols.
                if over.load(Ordering::Relaxed) || *byte != b'\n' && stream.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        }
        Speaks::Nothing => hold(&mut stream),
        Speaks::Wrongly => {
            drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n"));
            hold(&mut stream);
        }
        Speaks::Goodbye => {}
        Speaks::Endlessly => while !over.load(Ordering::Relaxed) && stream.write_all(&[b'x'; 4_096]).is_ok() {},
        Speaks::Http => {
            let mut request = Vec::new();
            let mut piece = [0; 1_024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(0) | Err(_) => return,
                    Ok(count) => request.extend_from_slice(&piece[..count]),
                }
            }
            let status =
                if request.starts_with(b"GET /owa/healthcheck.htm HTTP/1.1\r\n") { "200 OK" } else { "404 Not Found" };
            drop(
                stream.write_all(
                    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").as_bytes(),
                ),
            );
        }
    }
}

/// Keeps the connection open until the client closes it.
fn hold(stream: &mut TcpStream) {
    let mut piece = [0; 1_024];
    while stream.read(&mut piece).is_ok_and(|count| count > 0) {}
}
