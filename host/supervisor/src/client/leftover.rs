//! Commands that an earlier daemon left: found, awaited, ended (O23).
//!
//! Decides from each folder what its command is now; the table is in `folder.rs`. Whoever can take the lock of a
//! folder knows that no supervisor cares for it, and none that comes late can start its program.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::collect::{self, Collected};
use super::running::{LATE_MS, blocking, end_orphans};
use super::{FolderError, Inner, OutcomeError, care};
use crate::folder::{COLLECTED, End, Folder, PROCESSES, ProcessesRecord, REQUEST, RequestRecord};
use crate::orphans::Orphans;
use crate::tree::GRACE_MS;
use crate::types::{Evidence, LaunchFailure, Outcome, Owner, Request};

/// How often to look at a program whose supervisor was killed, in ms.
const LOOK_MS: u64 = 200;
/// How long a supervisor that was just started may take to say which process it is, in ms.
const IDENTITY_MS_MAX: u64 = 10_000;
/// How often to look for that, in ms.
const IDENTITY_LOOK_MS: u64 = 20;

/// A command of an earlier daemon.
#[derive(Debug)]
pub struct Leftover {
    inner: Arc<Inner>,
    folder: Folder,
    request: Request,
    state: LeftoverState,
}

/// What a leftover was found as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftoverState {
    /// It runs, under its supervisor.
    Running,
    /// It runs, and its supervisor was killed.
    Orphaned,
    /// It is over, and its outcome is there. With `keep_children` its application may live on; that is no running
    /// operation.
    Ended,
    /// Its supervisor was killed or the machine went down, and its program does not run. How it ended is not known.
    Lost,
}

impl LeftoverState {
    /// Has something to be awaited or ended before the next operation?
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Orphaned)
    }
}

/// How a leftover ended.
#[derive(Debug)]
pub enum LeftoverEnd {
    /// As any other command.
    Outcome(Outcome),
    /// Its program could not be started.
    NotStarted(LaunchFailure),
    /// Its supervisor was killed or the machine went down: what it did is not known. The program does not run any
    /// more. The evidence is there if something had to be ended.
    Unknown(Option<Evidence>),
}

impl Leftover {
    /// The command's id.
    pub fn id(&self) -> String {
        self.folder.id()
    }

    /// Whose it is.
    pub fn owner(&self) -> &Owner {
        &self.request.owner
    }

    /// What was asked for. Standard input is not kept and empty.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What it was found as.
    pub fn state(&self) -> LeftoverState {
        self.state
    }

    /// Waits for its end, at the latest at its deadline, takes its outcome and removes its folder. What an ended
    /// program left in the background lives on if `keep_children` said so, and is ended if not.
    pub async fn await_end(&self) -> Result<LeftoverEnd, OutcomeError> {
        let late = Duration::from_millis(self.request.timeout_ms + GRACE_MS + LATE_MS);
        let over = match tokio::time::timeout(late, collect::wait(&self.folder)).await {
            Ok(over) => over?,
            // It was stopped, most likely: asked again, it goes on.
            Err(_) => {
                self.cancel().await?;
                collect::wait(&self.folder).await?
            }
        };
        match over {
            Some(over) => self.take(over.end).await,
            None => self.await_orphans().await,
        }
    }

    /// Ends it, whole tree, takes its outcome and removes its folder. What is over stays as it is: an application
    /// that was left running is not touched.
    pub async fn end(&self) -> Result<LeftoverEnd, OutcomeError> {
        self.cancel().await?;
        match collect::wait(&self.folder).await? {
            Some(over) => self.take(over.end).await,
            None => self.end_orphans().await,
        }
    }

    /// Asks the supervisor to end it, if there is one and it is not over.
    async fn cancel(&self) -> Result<(), FolderError> {
        let looks_max = IDENTITY_MS_MAX / IDENTITY_LOOK_MS;
        for _ in 0..looks_max {
            if !collect::is_supervised(&self.folder)? || collect::over(&self.folder)?.is_some() {
                return Ok(());
            }
            match self.folder.read::<ProcessesRecord>(PROCESSES) {
                Ok(record) => {
                    let signalled = [Signal::SIGTERM, Signal::SIGCONT].map(|signal| record.supervisor.signal(signal));
                    return signalled
                        .into_iter()
                        .try_for_each(|sent| sent.map(drop))
                        .map_err(FolderError::of("cancel the command of", self.folder.path()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(FolderError::of("read", &self.folder.file(PROCESSES))(error)),
            }
            tokio::time::sleep(Duration::from_millis(IDENTITY_LOOK_MS)).await;
        }
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(FolderError::of("find the supervisor of", self.folder.path())(late))
    }

    async fn take(&self, end: End) -> Result<LeftoverEnd, OutcomeError> {
        let (folder, request) = (self.folder.clone(), self.request.clone());
        let collected = blocking("read the outcome in", self.folder.clone(), move || {
            let collected = collect::read(&folder, &request, end)?;
            match &collected {
                Collected::Ran { lingers: true, .. } => collect::mark(&folder),
                Collected::Ran { lingers: false, .. } | Collected::NotStarted(_) => collect::remove(&folder),
            }
            Ok(collected)
        });
        Ok(match collected.await? {
            Collected::NotStarted(failure) => LeftoverEnd::NotStarted(failure),
            Collected::Ran { outcome, lingers } => {
                if lingers {
                    look_after(self.inner.clone(), self.folder.clone());
                }
                LeftoverEnd::Outcome(outcome)
            }
        })
    }

    /// The program of a supervisor that was killed: its end is seen, its exit code is not.
    async fn await_orphans(&self) -> Result<LeftoverEnd, OutcomeError> {
        let orphans = match Orphans::of(&self.folder) {
            // Never executed, or before the machine was started anew.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.forget(None).await,
            orphans => orphans.map_err(FolderError::of("read the processes in", self.folder.path()))?,
        };
        while orphans.program_runs() {
            if orphans.is_overdue(&self.request) {
                return self.end_orphans().await;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        if self.request.keep_children {
            return self.let_live().await;
        }
        self.end_orphans().await
    }

    /// What the program left in the background is an application, if it is anything.
    async fn let_live(&self) -> Result<LeftoverEnd, OutcomeError> {
        let folder = self.folder.clone();
        blocking("mark", self.folder.clone(), move || {
            collect::mark(&folder);
            Ok(())
        })
        .await?;
        look_after(self.inner.clone(), self.folder.clone());
        Ok(LeftoverEnd::Unknown(None))
    }

    async fn end_orphans(&self) -> Result<LeftoverEnd, OutcomeError> {
        let (folder, request) = (self.folder.clone(), self.request.clone());
        let ended = blocking("end what runs of", self.folder.clone(), move || end_orphans(&folder, &request));
        let evidence = ended.await?.filter(|evidence| !evidence.processes.is_empty());
        self.forget(evidence).await
    }

    async fn forget(&self, evidence: Option<Evidence>) -> Result<LeftoverEnd, OutcomeError> {
        let folder = self.folder.clone();
        blocking("remove", self.folder.clone(), move || {
            collect::remove(&folder);
            Ok(())
        })
        .await?;
        Ok(LeftoverEnd::Unknown(evidence))
    }
}

/// Looks through the folder of commands. Blocking. Gives too the folders of applications that live on.
pub(super) fn find(inner: &Arc<Inner>) -> Result<(Vec<Leftover>, Vec<Folder>), FolderError> {
    let failed = || FolderError::of("read the folder", &inner.dir);
    let (mut leftovers, mut applications) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(&inner.dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let folder = Folder::new(path);
        if inner.own().contains(&folder.id()) {
            continue;
        }
        match classify(inner, &folder)? {
            Found::Leftover(request, state) => {
                leftovers.push(Leftover { inner: inner.clone(), folder, request: *request, state });
            }
            Found::Application => applications.push(folder),
            Found::Nothing => {}
        }
    }
    Ok((leftovers, applications))
}

/// Keeps an eye on an application in the background.
pub(super) fn look_after(inner: Arc<Inner>, folder: Folder) {
    let id = folder.id();
    if inner.own().insert(id.clone()) {
        tokio::spawn(async move {
            care::care(inner.clone(), folder, None).await;
            inner.own().remove(&id);
        });
    }
}

enum Found {
    Leftover(Box<Request>, LeftoverState),
    /// Its outcome was taken, and what it left running may still run.
    Application,
    /// Nothing to be awaited or ended.
    Nothing,
}

fn classify(inner: &Inner, folder: &Folder) -> Result<Found, FolderError> {
    use std::io::ErrorKind::{InvalidData, NotADirectory, NotFound};
    // Held to the end of this function: a supervisor that comes late finds it taken, and starts nothing.
    let lock = match folder.lock() {
        Ok(lock) => lock,
        Err(error) if error.kind() == NotFound => return Ok(abandoned(folder)),
        Err(error) if error.kind() == NotADirectory => {
            tracing::warn!("{} is no folder of a command and is left alone", folder.path().display());
            return Ok(Found::Nothing);
        }
        Err(error) => return Err(FolderError::of("lock", folder.path())(error)),
    };
    let record: RequestRecord = match folder.read(REQUEST) {
        Ok(record) => record,
        Err(error) if error.kind() == InvalidData && lock.is_some() => return Ok(abandoned(folder)),
        Err(error) => return Err(FolderError::of("read", &folder.file(REQUEST))(error)),
    };
    if folder.has(COLLECTED) {
        return Ok(Found::Application);
    }
    let state = if collect::over(folder)?.is_some() {
        LeftoverState::Ended
    } else if lock.is_none() {
        LeftoverState::Running
    } else if record.boot_id != inner.boot_id {
        LeftoverState::Lost
    } else {
        match Orphans::of(folder) {
            // Behind a gate that was never opened, the program was never executed.
            Err(error) if error.kind() == NotFound => return Ok(abandoned(folder)),
            Err(error) => return Err(FolderError::of("read", &folder.file(PROCESSES))(error)),
            Ok(orphans) => without_supervisor(&orphans, record.request.keep_children)?,
        }
    };
    Ok(Found::Leftover(Box::new(record.request), state))
}

/// With `keep_children`, what a program that has ended left behind is an application, not a running operation.
fn without_supervisor(orphans: &Orphans, keep_children: bool) -> Result<LeftoverState, FolderError> {
    let runs = if orphans.program_runs() {
        true
    } else if keep_children {
        false
    } else {
        !orphans.members().map_err(FolderError::of("read", Path::new("/proc")))?.is_empty()
    };
    Ok(if runs { LeftoverState::Orphaned } else { LeftoverState::Lost })
}

/// A folder whose command was never started: a daemon died while it wrote it, the disk was full, the power went.
fn abandoned(folder: &Folder) -> Found {
    // It would take a damaged disk for something of it to run.
    let running = Orphans::of(folder).and_then(|orphans| orphans.members()).map_or(0, |members| members.len());
    let path = folder.path().display();
    if running > 0 {
        tracing::error!("{path}: its request cannot be read, yet {running} processes of it run; it is left alone");
    } else {
        tracing::info!("{path} was left before its command was started; it is removed");
        collect::remove(folder);
    }
    Found::Nothing
}
