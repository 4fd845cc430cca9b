//! `store`: small values of one resource on this node, durable and atomic.
//!
//! One file per key in the resource's own folder, written beside its place, flushed, and moved there, so that a
//! crash leaves the old value or the new one. Files that are not values are left alone, but for those that a
//! crash left half written. A value that somebody else made too large is an error, never a wrong answer.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bindings::mainstay::kit::store::Host;
use crate::capability::{CallState, Fault, FaultKind, blocked, fault};
use crate::limits::contract::{STORE_BYTES_MAX, STORE_KEY_BYTES_MAX};

/// In front of a key in its file's name: `.` and `..` are keys too.
const VALUE: &str = "v-";
/// In front of the name of a file that is being written.
const UNFINISHED: &str = "unfinished-";

/// The folder of one resource.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    /// Sizes are added up and then a file is written: one at a time. A call that timed out may still be at it.
    one_at_a_time: Mutex<()>,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("a key has 1 to {STORE_KEY_BYTES_MAX} characters of a-z, 0-9, - and .; this is {0:?}")]
    Key(String),
    #[error("the store would hold {bytes} bytes, keys included; {STORE_BYTES_MAX} are allowed")]
    Full { bytes: usize },
    #[error(
        "a value in {0} has more than {STORE_BYTES_MAX} bytes, which no kit can have written; is the folder damaged?"
    )]
    TooLarge(PathBuf),
    #[error("cannot {doing} {path}: {source}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        let (kind, code) = match &error {
            StoreError::Key(_) => (FaultKind::Invalid, "key"),
            StoreError::Full { .. } => (FaultKind::Limit, "store-full"),
            StoreError::TooLarge(_) => (FaultKind::Failed, "store-damaged"),
            StoreError::Io { .. } => (FaultKind::Failed, "store"),
        };
        fault(kind, code, error.to_string())
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

impl Folder {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, one_at_a_time: Mutex::new(()) }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("open", &path)(error)),
        };
        let mut value = Vec::new();
        file.take(STORE_BYTES_MAX as u64 + 1).read_to_end(&mut value).map_err(io("read", &path))?;
        if value.len() > STORE_BYTES_MAX {
            return Err(StoreError::TooLarge(path));
        }
        Ok(Some(value))
    }

    fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = key.len() + value.len();
        for (name, size) in self.values()? {
            if name != key {
                bytes = bytes.saturating_add(name.len()).saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            }
        }
        if bytes > STORE_BYTES_MAX {
            return Err(StoreError::Full { bytes });
        }
        self.make()?;
        self.sweep()?;
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.dir)?;
            file.write_all(value)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(io("write", &path))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::remove_file(&path) {
            Ok(()) => File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io("flush", &self.dir)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io("remove", &path)(error)),
        }
    }

    fn keys(&self) -> Result<Vec<String>, StoreError> {
        let mut keys: Vec<_> = self.values()?.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        Ok(keys)
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        if !is_key(key) {
            return Err(StoreError::Key(crate::text::one_line(key, 80)));
        }
        Ok(self.dir.join(format!("{VALUE}{key}")))
    }

    /// Every key with the size of its value.
    fn values(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("list", &self.dir)(error)),
        };
        let mut values = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io("list", &self.dir))?;
            let name = entry.file_name();
            let Some(key) = name.to_str().and_then(|name| name.strip_prefix(VALUE)).filter(|key| is_key(key)) else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => values.push((key.to_owned(), metadata.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io("look at", &entry.path())(error)),
            }
        }
        Ok(values)
    }

    /// Makes the folder, if this is the first value, so that it survives a power cut with the value in it.
    fn make(&self) -> Result<(), StoreError> {
        if self.dir.is_dir() {
            return Ok(());
        }
        DirBuilder::new().mode(0o700).recursive(true).create(&self.dir).map_err(io("make", &self.dir))?;
        match self.dir.parent() {
            Some(parent) => File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("flush", parent)),
            None => Ok(()),
        }
    }

    /// Removes what a crash left half written. Nobody else is writing now.
    fn sweep(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.dir).map_err(io("list", &self.dir))? {
            let entry = entry.map_err(io("list", &self.dir))?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path()).map_err(io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

fn is_key(key: &str) -> bool {
    (1..=STORE_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

impl CallState {
    async fn in_store<T: Send + 'static>(
        &mut self,
        function: &'static str,
        key: &str,
        operation: impl FnOnce(&Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Fault> {
        let _entered = self.enter(function, key);
        let folder = Arc::clone(&self.services.store);
        let done = self.host.file_operation(self.limit(None), move || operation(&folder)).await;
        Ok(done.map_err(|error| blocked(function, error))??)
    }
}

impl Host for CallState {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Fault>> {
        Ok(self.in_store("store.get", &key.clone(), move |folder| folder.get(&key)).await)
    }

    async fn put(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Fault>> {
        Ok(self.in_store("store.put", &key.clone(), move |folder| folder.put(&key, &value)).await)
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Fault>> {
        Ok(self.in_store("store.delete", &key.clone(), move |folder| folder.delete(&key)).await)
    }

    async fn keys(&mut self) -> wasmtime::Result<Result<Vec<String>, Fault>> {
        Ok(self.in_store("store.keys", "", Folder::keys).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("stores/mail"));
        (dir, folder)
    }

    fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> FaultKind {
        Fault::from(result.unwrap_err()).kind
    }

    #[test]
    fn values_are_kept_and_forgotten() {
        let (_dir, folder) = folder();
        assert_eq!(folder.get("a").unwrap(), None);
        assert_eq!(folder.keys().unwrap(), [] as [&str; 0]);
        folder.delete("a").unwrap();
        folder.put("b", b"2").unwrap();
        folder.put("a", b"1").unwrap();
        folder.put("a", b"one").unwrap();
        let again = Folder::new(folder.dir.clone());
        assert_eq!(again.get("a").unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(again.keys().unwrap(), ["a", "b"]);
        again.delete("a").unwrap();
        assert_eq!(again.keys().unwrap(), ["b"]);
    }

    #[test]
    fn hostile_keys_stay_in_the_folder() {
        let (dir, folder) = folder();
        let longest = "k".repeat(STORE_KEY_BYTES_MAX);
        for key in [".", "..", "...", "-", longest.as_str()] {
            folder.put(key, key.as_bytes()).unwrap();
            assert_eq!(folder.get(key).unwrap().as_deref(), Some(key.as_bytes()));
        }
        assert_eq!(folder.keys().unwrap().len(), 5);
        for key in ["", "/", "../x", "a/b", "A", "ü", "a\0", "a b", &"k".repeat(65)] {
            assert_eq!(kind(folder.put(key, b"")), FaultKind::Invalid, "{key:?}");
            assert_eq!(kind(folder.get(key)), FaultKind::Invalid, "{key:?}");
            assert_eq!(kind(folder.delete(key)), FaultKind::Invalid, "{key:?}");
        }
        let outside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside, ["stores"]);
    }

    #[test]
    fn all_together_are_bounded_and_a_value_can_be_replaced_in_a_full_store() {
        let (_dir, folder) = folder();
        let half = vec![0; STORE_BYTES_MAX / 2 - 1];
        folder.put("a", &half).unwrap();
        folder.put("b", &half).unwrap();
        assert_eq!(kind(folder.put("c", b"")), FaultKind::Limit);
        folder.put("a", &half).unwrap();
        assert_eq!(kind(folder.put("a", &vec![0; STORE_BYTES_MAX / 2])), FaultKind::Limit);
        assert_eq!(folder.get("a").unwrap().unwrap().len(), half.len(), "a refused put leaves the old value");
        folder.delete("b").unwrap();
        folder.put("c", b"").unwrap();
    }

    #[test]
    fn what_a_crash_left_is_no_value_and_goes() {
        let (_dir, folder) = folder();
        folder.put("a", b"1").unwrap();
        let left = folder.dir.join("unfinished-xyz");
        fs::write(&left, vec![0; STORE_BYTES_MAX]).unwrap();
        fs::write(folder.dir.join("README"), b"by somebody").unwrap();
        assert_eq!(folder.keys().unwrap(), ["a"]);
        folder.put("b", b"2").unwrap();
        assert!(!left.exists() && folder.dir.join("README").exists());
    }

    #[test]
    fn a_value_that_somebody_blew_up_is_an_error() {
        let (_dir, folder) = folder();
        folder.put("a", b"1").unwrap();
        fs::write(folder.dir.join("v-a"), vec![0; STORE_BYTES_MAX + 1]).unwrap();
        assert_eq!(kind(folder.get("a")), FaultKind::Failed);
    }

    #[test]
    fn a_store_that_cannot_be_written_says_where() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        let folder = Folder::new(dir.path().join("file/mail"));
        let fault = Fault::from(folder.put("a", b"1").unwrap_err());
        assert!(fault.kind == FaultKind::Failed && fault.message.contains("file/mail"), "{fault:?}");
    }
}
