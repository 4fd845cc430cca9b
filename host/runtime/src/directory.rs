//! The kit directory: every `.wasm` file in it is a kit, also those that come, change or go while the host runs.
//!
//! It is looked at every half second rather than watched: that also works on a network file system and behind a
//! bind mount, loses nothing when much happens at once, and a file has to be looked at twice anyway to know that
//! whoever writes it has finished. A file that cannot be loaded never takes the place of one that could: what
//! was loaded goes on serving. A directory that cannot be read is an error, not an empty directory.

mod scan;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{LoadError, Subject};
use crate::kit::Kit;
use crate::runtime::Runtime;
use scan::{Fingerprint, Looked, scan};

/// How often the directory is looked at, in ms: a change is known after two looks, and loading comes after that.
const LOOK_MS: u64 = 500;
/// Files looked at: more than anyone has kits. What is beyond, by name, is left alone with a word in the log.
const FILES_MAX: usize = 500;
/// Changes kept for a reader that is busy; beyond, looking waits for the reader.
const CHANGES_MAX: usize = 64;

/// What happened in the directory.
#[derive(Debug, Clone)]
pub enum KitChange {
    /// A kit that was not there before.
    Added(Arc<Kit>),
    /// A new version took the place of one that was loaded. Whoever still holds the old one may go on using it.
    Replaced {
        /// What was loaded.
        old: Arc<Kit>,
        /// What is loaded.
        new: Arc<Kit>,
    },
    /// Its file is gone. Whoever still holds it may go on using it.
    Removed(Arc<Kit>),
    /// A file that cannot be loaded.
    Refused(Refused),
    /// A file that could not be loaded is gone.
    Withdrawn {
        /// The file.
        file: PathBuf,
    },
    /// The directory itself cannot be read. What is loaded stays; told once, until it can be read again.
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// What was tried, what happened, what to do.
        problem: String,
    },
    /// The directory can be read again.
    Readable {
        /// The directory.
        dir: PathBuf,
    },
}

/// A file that cannot be loaded.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub error: Arc<LoadError>,
    /// The version that was loaded from this file before and goes on serving.
    pub serving: Option<Arc<Kit>>,
}

/// The kits of a directory, kept up to date until this is dropped.
#[derive(Debug)]
pub struct KitDirectory {
    shared: Arc<Mutex<Kits>>,
    changes: mpsc::Receiver<KitChange>,
    watcher: JoinHandle<()>,
}

/// Why the directory cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("the kit directory {dir} cannot be read: {problem}")]
pub struct DirectoryError {
    /// The directory.
    pub dir: PathBuf,
    /// What the system says, and what to do.
    pub problem: String,
}

impl Drop for KitDirectory {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl KitDirectory {
    /// Loads every kit that is there, and watches from then on. What cannot be loaded is in [`KitDirectory::refused`].
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn open(runtime: Runtime, dir: &Path) -> Result<Self, DirectoryError> {
        let mut watcher = Watcher {
            runtime,
            dir: dir.to_owned(),
            shared: Arc::new(Mutex::new(Kits::default())),
            seen: BTreeMap::new(),
            readable: true,
            left_out: 0,
        };
        // What is there at the start is loaded at once; a file that is still being written is told as damaged and
        // looked at again when it has changed.
        let looked = look(dir).await?;
        let seen = watcher.notice(looked);
        watcher.seen = seen.clone();
        // Nobody has been told anything yet: these are not changes.
        drop(watcher.follow(seen).await);
        let shared = Arc::clone(&watcher.shared);
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let watcher = tokio::spawn(watcher.run(sender));
        Ok(Self { shared, changes, watcher })
    }

    /// Waits until something has changed. May be dropped and called again without losing anything.
    pub async fn changed(&mut self) -> Vec<KitChange> {
        let mut changes = Vec::new();
        if self.changes.recv_many(&mut changes, CHANGES_MAX).await == 0 {
            // The watcher is gone, which only a panic in it explains; a caller that waits must not spin.
            tracing::error!("the kit directory is no longer watched; restart mainstay to load new kits");
            std::future::pending::<()>().await;
        }
        changes
    }

    /// Every kit that is loaded, by name.
    #[must_use]
    pub fn kits(&self) -> BTreeMap<String, Arc<Kit>> {
        let kits = lock(&self.shared);
        kits.files.values().filter_map(|file| file.serving.clone()).map(|kit| (kit.name().to_owned(), kit)).collect()
    }

    /// The kit of this name.
    #[must_use]
    pub fn kit(&self, name: &str) -> Option<Arc<Kit>> {
        let kits = lock(&self.shared);
        kits.files.values().filter_map(|file| file.serving.clone()).find(|kit| kit.name() == name)
    }

    /// Every file that cannot be loaded as it is now.
    #[must_use]
    pub fn refused(&self) -> Vec<Refused> {
        let kits = lock(&self.shared);
        kits.files.iter().filter_map(|(file, state)| state.refused(file)).collect()
    }
}

fn lock(kits: &Mutex<Kits>) -> std::sync::MutexGuard<'_, Kits> {
    kits.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(dir: &Path) -> Result<Looked, DirectoryError> {
    let at = dir.to_owned();
    let seen = tokio::task::spawn_blocking(move || scan(&at, FILES_MAX)).await;
    let problem = match seen {
        Ok(Ok(looked)) => return Ok(looked),
        Ok(Err(error)) => format!("{error}; it has to be a folder that the daemon's user may list"),
        Err(_) => "the host is shutting down".to_owned(),
    };
    Err(DirectoryError { dir: dir.to_owned(), problem })
}

/// What is loaded from the files.
#[derive(Debug, Default)]
struct Kits {
    files: BTreeMap<PathBuf, FileState>,
}

#[derive(Debug)]
struct FileState {
    /// What was loaded, or refused, last.
    fingerprint: Fingerprint,
    serving: Option<Arc<Kit>>,
    error: Option<Arc<LoadError>>,
}

impl FileState {
    fn refused(&self, file: &Path) -> Option<Refused> {
        let error = self.error.clone()?;
        Some(Refused { file: file.to_owned(), error, serving: self.serving.clone() })
    }
}

struct Watcher {
    runtime: Runtime,
    dir: PathBuf,
    shared: Arc<Mutex<Kits>>,
    /// What the last look saw: a file is loaded when two looks saw the same.
    seen: BTreeMap<PathBuf, Fingerprint>,
    readable: bool,
    /// Files beyond what is looked at, when last told.
    left_out: usize,
}

impl Watcher {
    /// Tells of files that are left alone, when their number changes.
    fn notice(&mut self, looked: Looked) -> BTreeMap<PathBuf, Fingerprint> {
        if looked.left_out != self.left_out {
            let (dir, left_out) = (self.dir.display(), looked.left_out);
            tracing::warn!(%dir, left_out, files_max = FILES_MAX, "too many kits: the last ones by name are left alone");
            self.left_out = left_out;
        }
        looked.files
    }

    async fn run(mut self, changes: mpsc::Sender<KitChange>) {
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
            for change in self.look_once().await {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn look_once(&mut self) -> Vec<KitChange> {
        let seen = match look(&self.dir).await {
            Ok(looked) => self.notice(looked),
            Err(error) => {
                let told = !std::mem::replace(&mut self.readable, false);
                let DirectoryError { dir, problem } = error;
                return if told { Vec::new() } else { vec![KitChange::Unreadable { dir, problem }] };
            }
        };
        let mut changes = Vec::new();
        if !std::mem::replace(&mut self.readable, true) {
            changes.push(KitChange::Readable { dir: self.dir.clone() });
        }
        let before = std::mem::replace(&mut self.seen, seen.clone());
        let settled = seen.into_iter().filter(|(file, fingerprint)| before.get(file) == Some(fingerprint)).collect();
        changes.extend(self.follow(settled).await);
        changes
    }

    /// Brings what is loaded in line with the files that have settled.
    async fn follow(&mut self, settled: BTreeMap<PathBuf, Fingerprint>) -> Vec<KitChange> {
        let mut changes = self.forget();
        for (file, fingerprint) in settled {
            if self.is_known(&file, &fingerprint) {
                continue;
            }
            let loaded = match changeable(&self.dir, &file) {
                Some(error) => Err(error),
                None => self.runtime.load(&file).await,
            };
            changes.extend(lock(&self.shared).enter(&file, fingerprint, loaded));
        }
        changes
    }

    /// Files that are gone. A kit that was refused because of one of them may now be loaded.
    fn forget(&mut self) -> Vec<KitChange> {
        let mut kits = lock(&self.shared);
        let gone: Vec<_> = kits.files.keys().filter(|file| !self.seen.contains_key(*file)).cloned().collect();
        let mut changes = Vec::new();
        for file in gone {
            match kits.files.remove(&file).and_then(|state| state.serving) {
                Some(kit) => changes.push(KitChange::Removed(kit)),
                None => changes.push(KitChange::Withdrawn { file }),
            }
        }
        changes
    }

    fn is_known(&self, file: &Path, fingerprint: &Fingerprint) -> bool {
        let kits = lock(&self.shared);
        let Some(state) = kits.files.get(file) else { return false };
        // Of two with one name the second is loaded when the first is gone.
        let waits = match state.error.as_deref() {
            Some(LoadError::DuplicateName { other, .. }) => !kits.serves_a_kit(other),
            _ => false,
        };
        state.fingerprint == *fingerprint && !waits
    }
}

impl Kits {
    fn serves_a_kit(&self, file: &Path) -> bool {
        self.files.get(file).is_some_and(|state| state.serving.is_some())
    }

    /// Takes what came of loading `file`.
    fn enter(&mut self, file: &Path, fingerprint: Fingerprint, loaded: Result<Arc<Kit>, LoadError>) -> Vec<KitChange> {
        let old = self.files.get(file).and_then(|state| state.serving.clone());
        let loaded = loaded.and_then(|kit| self.only_one(file, kit));
        let (serving, error, changes) = match loaded {
            Ok(new) => {
                let changes = match old {
                    Some(old) if old.name() == new.name() => vec![KitChange::Replaced { old, new: Arc::clone(&new) }],
                    Some(old) => vec![KitChange::Removed(old), KitChange::Added(Arc::clone(&new))],
                    None => vec![KitChange::Added(Arc::clone(&new))],
                };
                (Some(new), None, changes)
            }
            Err(error) => {
                let error = Arc::new(error);
                let refused = Refused { file: file.to_owned(), error: Arc::clone(&error), serving: old.clone() };
                (old, Some(error), vec![KitChange::Refused(refused)])
            }
        };
        self.files.insert(file.to_owned(), FileState { fingerprint, serving, error });
        changes
    }

    /// One name, one file: which of two is meant is not for the host to guess.
    fn only_one(&self, file: &Path, kit: Arc<Kit>) -> Result<Arc<Kit>, LoadError> {
        let same = |state: &FileState| state.serving.as_ref().is_some_and(|other| other.name() == kit.name());
        match self.files.iter().find(|(other, state)| *other != file && same(state)) {
            None => Ok(kit),
            Some((other, _)) => Err(LoadError::DuplicateName {
                subject: crate::error::Subject { file: file.to_owned(), kit: Some(kit.manifest().title()) },
                other: other.clone(),
            }),
        }
    }
}

/// Whoever may write a kit, or put another in its place, has it do what its resources are granted. What cannot be looked at
/// or is no file is for loading to tell.
fn changeable(dir: &Path, file: &Path) -> Option<LoadError> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let mode = |path: &Path, is_meant: fn(&Metadata) -> bool| {
        std::fs::metadata(path).ok().filter(is_meant).map_or(0, |metadata| metadata.permissions().mode())
    };
    let (of_file, of_dir) = (mode(file, Metadata::is_file), mode(dir, Metadata::is_dir));
    let at = if of_file & OTHERS_WRITE != 0 {
        file
    } else if of_dir & OTHERS_WRITE != 0 && of_dir & STICKY == 0 {
        dir
    } else {
        return None;
    };
    let subject = Subject { file: file.to_owned(), kit: None };
    Some(LoadError::Changeable { subject, at: at.to_owned() })
}
