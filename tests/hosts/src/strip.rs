//! The power strip: what a fence command talks to, over a wire that has nothing to do with the links.
//!
//! It switches a host off as [`Host::power_off`] does, and says that it is done when everything that ran on the host is
//! gone. It can be told to fail.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::host::Host;

/// A question is one line, and comes at once.
const QUESTION_S_MAX: u64 = 5;

/// Hosts that a test and its power strip share.
pub(crate) type Hosts = Arc<Vec<Host>>;

/// See the module. It ends when this is dropped.
#[derive(Debug)]
pub struct Strip {
    socket: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    broken: AtomicBool,
    done: AtomicU32,
}

impl Strip {
    /// A strip that all these hosts hang on.
    pub(crate) fn new(socket: &Path, hosts: &Hosts) -> Self {
        let listener = UnixListener::bind(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()));
        let shared = Arc::new(Shared::default());
        let (of_thread, hosts) = (Arc::clone(&shared), Arc::clone(hosts));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stop.load(Ordering::Relaxed) {
                    return;
                }
                match stream {
                    Ok(stream) => of_thread.answer(stream, &hosts),
                    Err(error) => eprintln!("the power strip's socket: {error}"),
                }
            }
        });
        Self { socket: socket.to_owned(), shared, thread: Some(thread) }
    }

    /// From now on it refuses, or works again.
    pub fn set_broken(&self, broken: bool) {
        self.shared.broken.store(broken, Ordering::Relaxed);
    }

    /// How often it has switched a host off that was asked to be, on or not.
    #[must_use]
    pub fn times(&self) -> u32 {
        self.shared.done.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn answer(&self, mut stream: UnixStream, hosts: &Hosts) {
        let mut question = String::new();
        let read = stream
            .set_read_timeout(Some(Duration::from_secs(QUESTION_S_MAX)))
            .and_then(|()| BufReader::new(&stream).read_line(&mut question));
        let answer = match (read, question.trim_end().split_once(' ')) {
            _ if self.broken.load(Ordering::Relaxed) => "it does not answer".to_owned(),
            (Ok(_), Some(("off", name))) => match hosts.iter().find(|host| host.name() == name) {
                Some(host) => {
                    host.power_off();
                    self.done.fetch_add(1, Ordering::Relaxed);
                    "done".to_owned()
                }
                None => format!("no host {name}"),
            },
            (Ok(_), _) => format!("not understood: {question:?}"),
            (Err(error), _) => error.to_string(),
        };
        // Who asked may have been on that host.
        let _ = writeln!(stream, "{answer}");
    }
}

impl Drop for Strip {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes it; it looks at `stop` first.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            // It panics only if a host could not be switched off, which was told.
            let _ = thread.join();
        }
    }
}
