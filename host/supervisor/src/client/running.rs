//! A command of this daemon, from its start to the removal of its folder.
//!
//! One task watches each supervisor. It is the only one that reads the supervisor's pipe and waits for its process;
//! whoever started the command talks to the task, and may go away at any time.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::care;
use super::collect::{self, Collected};
use super::spawn::{self, Spawned};
use super::{FolderError, Inner, OutcomeError, StartError};
use crate::folder::{Folder, LOG, LOG_BYTES_MAX, Told};
use crate::orphans::Orphans;
use crate::tree::GRACE_MS;
use crate::types::{Evidence, Outcome, Request};

/// Beyond deadline and grace time, when a supervisor is late, in ms: then it was stopped, or its tree does not die. On
/// a busy machine it may be, a little.
pub(super) const LATE_MS: u64 = 30_000;

/// A command that runs. Dropped, it is cancelled in the background.
#[derive(Debug)]
pub struct Running {
    id: String,
    /// Its end asks the task to cancel.
    cancel: Option<oneshot::Sender<()>>,
    outcome: Option<oneshot::Receiver<Result<Outcome, OutcomeError>>>,
}

impl Running {
    /// The command's id: the name of its folder, and the value of its marker.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits for the program's end; without `keep_children`, for that of the whole tree. The future may be dropped
    /// and made anew; once it has given the outcome, the command is over and there is no other.
    pub async fn outcome(&mut self) -> Result<Outcome, OutcomeError> {
        let gone = || OutcomeError::Gone { id: self.id.clone() };
        let receiver = self.outcome.as_mut().ok_or_else(gone)?;
        let outcome = receiver.await.unwrap_or_else(|_| Err(gone()));
        self.outcome = None;
        outcome
    }

    /// Ends the whole tree and waits until it is gone. A command that had ended by itself before says how.
    pub async fn cancel(mut self) -> Result<Outcome, OutcomeError> {
        self.cancel = None;
        self.outcome().await
    }
}

/// Starts a command, and the task that watches it.
pub(super) async fn start(inner: Arc<Inner>, request: Request) -> Result<Running, StartError> {
    spawn::check(&request)?;
    let id = spawn::new_id()?;
    let (cancel, cancelled) = oneshot::channel();
    let (started_to, started) = oneshot::channel();
    let (outcome_to, outcome) = oneshot::channel();
    // From here on the caller may go away; the task cannot be left half way.
    tokio::spawn(watch(inner, id.clone(), request, cancelled, started_to, outcome_to));
    started.await.unwrap_or(Err(StartError::Ending))?;
    Ok(Running { id, cancel: Some(cancel), outcome: Some(outcome) })
}

type StartedTo = oneshot::Sender<Result<(), StartError>>;
type OutcomeTo = oneshot::Sender<Result<Outcome, OutcomeError>>;

async fn watch(
    inner: Arc<Inner>,
    id: String,
    request: Request,
    cancelled: oneshot::Receiver<()>,
    started: StartedTo,
    outcome: OutcomeTo,
) {
    inner.own().insert(id.clone());
    if let Some(watched) = spawned(&inner, &id, request, started).await {
        watched.see_off(inner.clone(), cancelled, outcome).await;
    }
    inner.own().remove(&id);
}

/// Starts the supervisor, in a thread that may wait for the disk.
async fn spawned(inner: &Arc<Inner>, id: &str, request: Request, started: StartedTo) -> Option<Watched> {
    // Closed only when the runtime goes, and then nobody listens.
    let turn = inner.starts.clone().acquire_owned().await.ok()?;
    if started.is_closed() {
        return None;
    }
    let (inner, id) = (inner.clone(), id.to_owned());
    let spawning = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let spawned = spawn::spawn(&inner.dir, &inner.exe, &inner.boot_id, &id, &request);
        (spawned, request)
    });
    let (spawned, request) = spawning.await.ok()?;
    match spawned {
        Ok(Spawned { folder, mut child }) => {
            let stdout = child.stdout.take().expect("its standard output was set to a pipe, and nobody else takes it");
            let told = BufReader::new(stdout).lines();
            Some(Watched { folder, request, child, told, started: Some(started) })
        }
        Err(error) => {
            // If nobody listens any more, nobody wants the command.
            drop(started.send(Err(error)));
            None
        }
    }
}

struct Watched {
    folder: Folder,
    request: Request,
    child: Child,
    told: Lines<BufReader<ChildStdout>>,
    /// Who waits for the start; `None` when told.
    started: Option<StartedTo>,
}

impl Watched {
    async fn see_off(mut self, inner: Arc<Inner>, cancelled: oneshot::Receiver<()>, outcome: OutcomeTo) {
        let lingers = match self.until_over(cancelled).await {
            Ok(Some(Collected::Ran { outcome: ran, lingers })) => {
                self.say_started(Ok(()));
                // If nobody listens any more, it was dropped, and so was the interest in its outcome.
                drop(outcome.send(Ok(ran)));
                lingers
            }
            Ok(Some(Collected::NotStarted(failure))) => {
                self.say_started(Err(failure.into()));
                false
            }
            Ok(None) => {
                self.supervisor_lost(outcome).await;
                false
            }
            Err(error) => {
                self.say_started(Ok(()));
                drop(outcome.send(Err(error.into())));
                false
            }
        };
        self.clean_up(inner, lingers).await;
    }

    /// Follows what the supervisor tells until the command is over. `None`: the supervisor died without a word.
    async fn until_over(&mut self, mut cancelled: oneshot::Receiver<()>) -> Result<Option<Collected>, FolderError> {
        let late_ms = self.request.timeout_ms + GRACE_MS + LATE_MS;
        let late = tokio::time::sleep_until(Instant::now() + Duration::from_millis(late_ms));
        tokio::pin!(late);
        let (mut is_cancelled, mut is_late, mut is_mute) = (false, false, false);
        let over = loop {
            let started_closed = async {
                match &mut self.started {
                    Some(started) => started.closed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                line = self.told.next_line(), if !is_mute => match line.ok().flatten().map(|line| serde_json::from_str(&line)) {
                    Some(Ok(Told::Started)) => self.say_started(Ok(())),
                    Some(Ok(Told::Stuck(processes))) => self.warn_of_stuck(&processes),
                    Some(Ok(Told::Over(over))) => break Some(over),
                    // Torn, or the end: the folder says what there is to say.
                    Some(Err(_)) | None => is_mute = true,
                },
                over = collect::wait(&self.folder), if is_mute => break over?,
                _ = &mut cancelled, if !is_cancelled => {
                    is_cancelled = true;
                    self.cancel();
                }
                () = started_closed, if !is_cancelled => {
                    is_cancelled = true;
                    self.cancel();
                }
                () = &mut late, if !is_late => {
                    is_late = true;
                    tracing::warn!(
                        command = self.folder.id(), tag = self.request.owner.tag,
                        "the supervisor of {} should have ended it {} s ago; it is asked again",
                        self.request.program.display(), LATE_MS / 1000,
                    );
                    self.cancel();
                }
            }
        };
        let Some(over) = over else {
            return Ok(None);
        };
        let (folder, request) = (self.folder.clone(), self.request.clone());
        blocking("read the outcome in", self.folder.clone(), move || collect::read(&folder, &request, over.end))
            .await
            .map(Some)
    }

    /// SIGTERM means cancel; a supervisor that was stopped takes it only when it goes on.
    fn cancel(&self) {
        // Only this task waits for the child, and has not yet: the number is still its own, also if it has died.
        let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return;
        };
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            if let Err(errno) = kill(Pid::from_raw(pid), signal) {
                tracing::warn!(command = self.folder.id(), "its supervisor could not be signalled: {errno}");
            }
        }
    }

    fn say_started(&mut self, result: Result<(), StartError>) {
        if let Some(started) = self.started.take() {
            // If nobody listens any more, that is seen as a cancel.
            drop(started.send(result));
        }
    }

    fn warn_of_stuck(&self, processes: &[crate::types::ProcessInfo]) {
        let names: Vec<String> = processes.iter().map(ToString::to_string).collect();
        tracing::warn!(
            command = self.folder.id(),
            tag = self.request.owner.tag,
            "processes of {} were killed and are still there: {}; the resource has to wait for them",
            self.request.program.display(),
            names.join(", ")
        );
    }

    /// Ends what the supervisor left behind: nobody bounds its time and its output any more.
    async fn supervisor_lost(&mut self, outcome: OutcomeTo) {
        let (folder, request) = (self.folder.clone(), self.request.clone());
        let ended = blocking("end what runs of", self.folder.clone(), move || end_orphans(&folder, &request)).await;
        let id = self.folder.id();
        if self.started.is_some() {
            let log = self.log();
            self.say_started(Err(StartError::SupervisorGone { id: id.clone(), log }));
        }
        let error = match ended {
            Ok(evidence) => OutcomeError::SupervisorLost { id, evidence: Box::new(evidence.unwrap_or_default()) },
            Err(error) => error.into(),
        };
        tracing::warn!(tag = self.request.owner.tag, "{error}");
        drop(outcome.send(Err(error)));
    }

    fn log(&self) -> String {
        use std::io::Read;
        let mut log = String::new();
        // Most often there is none.
        if let Ok(file) = std::fs::File::open(self.folder.file(LOG)) {
            drop(file.take(LOG_BYTES_MAX).read_to_string(&mut log));
        }
        log
    }

    /// Sees the supervisor off, and its folder, however long the application lives.
    async fn clean_up(mut self, inner: Arc<Inner>, lingers: bool) {
        let folder = self.folder.clone();
        let first =
            tokio::task::spawn_blocking(
                move || {
                    if lingers { collect::mark(&folder) } else { collect::remove(&folder) }
                },
            );
        drop(first.await);
        if lingers {
            care::care(inner, self.folder, Some(self.child)).await;
        } else if let Err(error) = self.child.wait().await {
            tracing::warn!(command = self.folder.id(), "the supervisor could not be waited for: {error}");
        }
    }
}

/// `None`: the program was never executed.
pub(super) fn end_orphans(folder: &Folder, request: &Request) -> Result<Option<Evidence>, FolderError> {
    let orphans = match Orphans::of(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        orphans => orphans.map_err(FolderError::of("read the processes in", folder.path()))?,
    };
    orphans.end(request).map(Some).map_err(FolderError::of("read", std::path::Path::new("/proc")))
}

/// Runs it in a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    folder: Folder,
    run: impl FnOnce() -> Result<T, FolderError> + Send + 'static,
) -> Result<T, FolderError> {
    tokio::task::spawn_blocking(run)
        .await
        .unwrap_or_else(|panic| Err(FolderError::of(doing, folder.path())(std::io::Error::other(panic))))
}
