//! The shop's process: listens, and answers every request with what its data says at that moment.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Shop, ShopError};
use crate::http;

/// Requests that are answered at once; above, a connection is closed unanswered.
const REQUESTS_MAX: usize = 64;
/// How long whoever asks may take to say what for, and to take the answer, in s.
const CLIENT_S_MAX: u64 = 5;
/// After a connection that could not be accepted, in ms: a lasting error must not spin.
const AFTER_ERROR_MS: u64 = 50;

/// Serves until the process is ended. Without its data it does not begin.
pub(super) fn serve(shop: &Shop) -> Result<(), ShopError> {
    let file = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| ShopError::File { doing, path, source }
    };
    let page = shop.page();
    std::fs::read_to_string(&page).map_err(file("read its page", &page))?;
    let address = shop.address()?;
    let listener = TcpListener::bind(address).map_err(|source| ShopError::Listen { address, source })?;
    let pid = std::process::id();
    write_whole(&shop.pid_file(), &format!("{pid}\n")).map_err(file("write", &shop.pid_file()))?;
    println!("process {pid} serves on {address}");
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        match stream {
            Ok(stream) if busy.load(Ordering::Relaxed) < REQUESTS_MAX => {
                let (busy, page) = (Arc::clone(&busy), page.clone());
                busy.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || {
                    if let Err(error) = answer(stream, &page) {
                        println!("a request was not answered: {error}");
                    }
                    busy.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Ok(_) => println!("more than {REQUESTS_MAX} requests at once: one is turned away"),
            Err(error) => {
                println!("a connection could not be accepted: {error}");
                std::thread::sleep(Duration::from_millis(AFTER_ERROR_MS));
            }
        }
    }
    Ok(())
}

fn answer(mut stream: TcpStream, page: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(CLIENT_S_MAX)))?;
    stream.set_write_timeout(Some(Duration::from_secs(CLIENT_S_MAX)))?;
    let mut asked = Vec::new();
    let mut buffer = [0; 1024];
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        if read == 0 || asked.len() as u64 > http::MESSAGE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        asked.extend_from_slice(&buffer[..read]);
    }
    let answer = match std::fs::read_to_string(page) {
        Ok(text) => http::answer("200 OK", &text),
        Err(error) => http::answer("500 Internal Server Error", &format!("its data cannot be read: {error}\n")),
    };
    stream.write_all(answer.as_bytes())
}

/// Nobody ever reads half of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}
