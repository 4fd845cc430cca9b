//! The daemon's side of the guardian: sees to it that there is one, and tells it until when all is well.
//!
//! [`Guardian::until`] is answered before it returns: what is done after it is guarded. A guardian that has ended, or does
//! not answer, is told to the core at once, ended if need be, and replaced; the new one is told what the old one knew
//! before the core hears of it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_core::names::NodeName;
use mainstay_core::spec::SelfFenceSpec;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use tokio::sync::{Notify, mpsc};

use super::{By, Said, Say, nanos, socket};
use crate::happening::Happening;

/// An answer takes 50 us. One that takes this long is as good as none, and the driver does not wait longer.
const ANSWER: Duration = Duration::from_millis(100);
/// The first answer: the guardian prepares the fence, which may have to read a program from a disk.
const FIRST_ANSWER: Duration = Duration::from_secs(2);
/// A guardian that was started is there within this, also on a busy machine.
const START: Duration = Duration::from_secs(5);
/// Between two looks whether it is there by now.
const LOOK: Duration = Duration::from_millis(5);
/// Whether it is there is looked at this often, besides hearing at once when its process ends.
const PING: Duration = Duration::from_secs(1);
/// After a failure it is tried again this often, for ever: without a guardian this node may own nothing that it guards.
const AGAIN: Duration = Duration::from_secs(1);

/// What is executed to be the guardian; `guardian` and the state directory are appended.
#[derive(Clone, Debug)]
pub struct GuardianExe(PathBuf);

impl GuardianExe {
    /// The running binary, also after its file was replaced by an upgrade.
    #[must_use]
    pub fn own() -> Self {
        Self("/proc/self/exe".into())
    }

    /// Another file of the same binary: for who drives a guardian without being `mainstay`.
    pub fn binary(program: impl Into<PathBuf>) -> Self {
        Self(program.into())
    }
}

/// Why there is no guardian.
#[derive(Debug, thiserror::Error)]
enum GuardianError {
    #[error("{0} cannot be started: {1}")]
    Start(PathBuf, io::Error),
    #[error("the guardian does not answer at {0}: {1}; its log is guardian.log beside it")]
    Talk(PathBuf, io::Error),
    #[error("{0}")]
    Cannot(String),
}

/// The way to the guardian of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guardian {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: PathBuf,
    exe: GuardianExe,
    hello: Say,
    talk: Mutex<Talk>,
    /// The connection broke, or is there.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Talk {
    stream: Option<BufReader<UnixStream>>,
    /// What it has to be told; none: nothing was said by this daemon, and what it knows stays.
    order: Option<Option<Duration>>,
}

impl Guardian {
    /// Finds the guardian of an earlier daemon or starts one, and sees to it from now on that there is one. Whether there
    /// is one is told as a happening, now and whenever that changes.
    pub fn start(
        exe: GuardianExe,
        state: &Path,
        spec: &SelfFenceSpec,
        node: &NodeName,
        cluster: &str,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let hello = Say::Hello {
            by: By::from(&spec.by),
            takes_ms: spec.takes.0,
            node: node.to_string(),
            cluster: cluster.to_owned(),
        };
        let shared =
            Arc::new(Shared { state: state.to_owned(), exe, hello, talk: Mutex::default(), changed: Notify::new() });
        tokio::spawn(see_to(shared.clone(), happenings));
        Self { shared }
    }

    /// The guardian fences this node then, a time since the machine was started, unless it is told another; none: there is
    /// nothing to guard. When this returns, it knows, or is known not to be there, which the core is told.
    pub fn until(&self, when: Option<Duration>) {
        let mut talk = self.shared.talk();
        talk.order = Some(when);
        let Some(stream) = &mut talk.stream else { return };
        if let Err(error) = order(stream, when) {
            tracing::error!("{error}");
            talk.stream = None;
            drop(talk);
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn talk(&self) -> std::sync::MutexGuard<'_, Talk> {
        // What is in it is replaced as a whole.
        self.talk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> PathBuf {
        socket(&self.state)
    }

    /// Connects, starts one if there is none, and tells it what there is to be told. May wait for seconds.
    fn meet(&self) -> Result<UnixStream, GuardianError> {
        let until = Instant::now() + START;
        let mut started = None;
        let stream = loop {
            match UnixStream::connect(self.path()) {
                Ok(stream) => match self.greet(stream) {
                    Ok(Some(stream)) => break stream,
                    // It was of another version, and has ended; or was about to end.
                    Ok(None) if Instant::now() < until => {}
                    Ok(None) => return Err(self.silent(io::ErrorKind::TimedOut.into())),
                    Err(error) => return Err(error),
                },
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    match &mut started {
                        None => started = Some(self.spawn()?),
                        Some(child) => {
                            if child.try_wait().is_ok_and(|status| status.is_some()) {
                                // It has found another one, which was about to end.
                                started = None;
                            }
                        }
                    }
                    if Instant::now() > until {
                        return Err(self.silent(error));
                    }
                }
                Err(error) => return Err(self.silent(error)),
            }
            std::thread::sleep(LOOK);
        };
        if let Some(mut child) = started {
            // Waits for its end, so that it does not stay behind as a zombie; with the daemon this thread ends.
            std::thread::spawn(move || child.wait());
        }
        let watching = UnixStream::connect(self.path()).map_err(|error| self.silent(error))?;
        let mut talk = self.talk();
        let mut stream = stream;
        if let Some(when) = talk.order {
            order(&mut stream, when)?;
        }
        talk.stream = Some(stream);
        Ok(watching)
    }

    /// None: it is gone, or was ended, and another one has to be started.
    fn greet(&self, stream: UnixStream) -> Result<Option<BufReader<UnixStream>>, GuardianError> {
        let peer = getsockopt(&stream, PeerCredentials).map(|peer| Pid::from_raw(peer.pid()));
        let mut stream = BufReader::new(stream);
        let said = match ask(&mut stream, &self.hello, FIRST_ANSWER) {
            Ok(said) => said,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if let Ok(peer) = peer {
                    // Our connection to it is open, so the number is still its own.
                    tracing::error!(
                        "the guardian, process {peer}, does not answer: it is ended, and another one started"
                    );
                    let _ = kill(peer, Signal::SIGKILL);
                }
                return Ok(None);
            }
            // It was about to end.
            Err(_) => return Ok(None),
        };
        if let Some(why) = said.cannot {
            return Err(GuardianError::Cannot(why));
        }
        if said.software != crate::VERSION && !said.armed {
            tracing::info!("the guardian is of mainstay {}: another one takes its place", said.software);
            // Whether it has heard it is seen when the next one is started.
            let _ = ask(&mut stream, &Say::Quit, ANSWER);
            return Ok(None);
        }
        Ok(Some(stream))
    }

    fn spawn(&self) -> Result<std::process::Child, GuardianError> {
        let mut command = Command::new(&self.exe.0);
        command.arg("guardian").arg(&self.state).stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
        // SAFETY: setsid is async-signal-safe.
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
        }
        command.spawn().map_err(|error| GuardianError::Start(self.exe.0.clone(), error))
    }

    fn silent(&self, error: io::Error) -> GuardianError {
        GuardianError::Talk(self.path(), error)
    }
}

fn order(stream: &mut BufReader<UnixStream>, when: Option<Duration>) -> Result<(), GuardianError> {
    let say = when.map_or(Say::Disarm, |when| Say::Until { boot_ns: nanos(when) });
    let said = ask(stream, &say, ANSWER)
        .map_err(|error| GuardianError::Cannot(format!("the guardian does not answer: {error}")))?;
    said.cannot.map_or(Ok(()), |why| Err(GuardianError::Cannot(why)))
}

fn ask(stream: &mut BufReader<UnixStream>, say: &Say, limit: Duration) -> io::Result<Said> {
    let mut line = serde_json::to_vec(say)?;
    line.push(b'\n');
    stream.get_ref().set_write_timeout(Some(limit))?;
    stream.get_ref().set_read_timeout(Some(limit))?;
    stream.get_mut().write_all(&line)?;
    let mut answer = String::new();
    if stream.read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Sees to it that there is a guardian, for ever.
async fn see_to(shared: Arc<Shared>, happenings: mpsc::Sender<Happening>) {
    let mut there = None;
    let mut told = String::new();
    loop {
        let met = {
            let shared = shared.clone();
            tokio::task::spawn_blocking(move || shared.meet()).await
        };
        match met {
            Ok(Ok(watching)) => {
                told.clear();
                if there != Some(true) {
                    tracing::info!("the guardian is there");
                    there = Some(true);
                    if happenings.send(Happening::Guardian(true)).await.is_err() {
                        return;
                    }
                }
                let why = until_gone(&shared, watching).await;
                shared.talk().stream = None;
                tracing::error!("the guardian is not there any more ({why}): another one is started");
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                if error != told {
                    tracing::error!(
                        "there is no guardian, and nothing that it guards is brought in service here: {error}; it is tried again every {} s",
                        AGAIN.as_secs()
                    );
                    told = error;
                }
            }
            Err(_) => return,
        }
        if there != Some(false) {
            there = Some(false);
            if happenings.send(Happening::Guardian(false)).await.is_err() {
                return;
            }
        }
        if !told.is_empty() {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Returns when it has ended or does not answer any more.
async fn until_gone(shared: &Shared, watching: UnixStream) -> String {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
    let stream = watching.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(watching));
    let (reading, mut writing) = match stream {
        Ok(stream) => stream.into_split(),
        Err(error) => return error.to_string(),
    };
    let mut reading = tokio::io::BufReader::new(reading).lines();
    let ping = serde_json::to_string(&Say::Ping).unwrap_or_default() + "\n";
    loop {
        tokio::select! {
            () = shared.changed.notified() => {
                if shared.talk().stream.is_none() {
                    return "it did not take an order".to_owned();
                }
            }
            line = reading.next_line() => {
                if !matches!(line, Ok(Some(_))) {
                    return "its process has ended".to_owned();
                }
            }
            () = tokio::time::sleep(PING) => {
                if writing.write_all(ping.as_bytes()).await.is_err() {
                    return "its process has ended".to_owned();
                }
                match tokio::time::timeout(PING, reading.next_line()).await {
                    Ok(Ok(Some(_))) => {}
                    Ok(_) => return "its process has ended".to_owned(),
                    Err(_) => return "it does not answer".to_owned(),
                }
            }
        }
    }
}
