//! Compiled kits, kept by the host so that a restart need not compile.
//!
//! What lies here is run as machine code, so it is trusted only when the folder belongs to the host alone and
//! the file is, byte for byte, what this host wrote: a file's name holds the hash of the kit, of everything the
//! compiler's output depends on, and of the file's own content. A damaged file is dropped and the kit compiled
//! again. Nothing is ever taken from here by a name that a kit chose.

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

use crate::error::RuntimeError;
use crate::inspect::hex;
use crate::limits::Limits;

/// How compiled kits end.
const EXTENSION: &str = "cwasm";
/// How a file begins that is still being written.
const UNFINISHED: &str = "unfinished-";
/// After this time an unfinished file was left by a crash: writing one takes a moment.
const UNFINISHED_FOR: Duration = Duration::from_secs(3600);

/// The folder of compiled kits.
pub(crate) struct Cache {
    dir: PathBuf,
    /// What the compiler's output depends on beside the kit: wasmtime's version, the processor, the settings.
    compatibility: String,
    entries_max: usize,
    bytes_max: u64,
}

impl Cache {
    pub(crate) fn open(dir: &Path, engine: &Engine, limits: &Limits) -> Result<Self, RuntimeError> {
        prepare(dir).map_err(|problem| RuntimeError::CacheDir { dir: dir.to_owned(), problem })?;
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = hex(&hasher.0.finalize().into())[..16].to_owned();
        Ok(Self {
            dir: dir.to_owned(),
            compatibility,
            entries_max: limits.cache_entries_max,
            bytes_max: limits.cache_bytes_max,
        })
    }

    /// The compiled kit with this hash, if there is one that is what this host wrote.
    pub(crate) fn take(&self, kit: &[u8; 32]) -> Option<Vec<u8>> {
        let prefix = self.prefix(kit);
        for path in self.files() {
            let name = file_name(&path);
            let Some(hash) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(&format!(".{EXTENSION}")))
            else {
                continue;
            };
            match fs::read(&path) {
                Ok(bytes) if hex(&Sha256::digest(&bytes).into()) == hash => {
                    mark_used(&path);
                    return Some(bytes);
                }
                Ok(_) => {
                    tracing::warn!(file = %path.display(), "a compiled kit is damaged; it is dropped and the kit compiled again")
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a compiled kit cannot be read; the kit is compiled again")
                }
            }
            remove(&path);
        }
        None
    }

    /// Keeps a compiled kit. That it cannot be kept costs time at the next start and nothing else.
    pub(crate) fn keep(&self, kit: &[u8; 32], compiled: &[u8]) {
        let path = self.dir.join(format!("{}{}.{EXTENSION}", self.prefix(kit), hex(&Sha256::digest(compiled).into())));
        match write(&self.dir, &path, compiled) {
            Ok(()) => self.trim(&path),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "a compiled kit cannot be kept; it will be compiled again at the next start");
            }
        }
    }

    fn prefix(&self, kit: &[u8; 32]) -> String {
        format!("{}-{}-", hex(kit), self.compatibility)
    }

    /// Drops what is too much, the longest unused first, and what crashes have left.
    fn trim(&self, new: &Path) {
        let mut kept = Vec::new();
        for path in self.files() {
            let Ok(metadata) = fs::metadata(&path) else { continue }; // gone meanwhile
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if file_name(&path).starts_with(UNFINISHED) {
                if used.elapsed().is_ok_and(|age| age > UNFINISHED_FOR) {
                    remove(&path);
                }
            } else if path.extension().is_some_and(|extension| extension == EXTENSION) {
                kept.push((path != new, used, metadata.len(), path));
            }
        }
        // The new one first, then by how lately they were used.
        kept.sort_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        let mut bytes = 0;
        for (index, (old, _, size, path)) in kept.iter().enumerate() {
            bytes += size;
            if *old && (index >= self.entries_max || bytes > self.bytes_max) {
                remove(path);
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        match fs::read_dir(&self.dir) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the folder of compiled kits cannot be listed");
                Vec::new()
            }
        }
    }
}

/// Makes the folder, or checks that it is one that only this host writes.
fn prepare(dir: &Path) -> Result<(), String> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(dir);
            return made.map_err(|error| format!("it cannot be made: {error}"));
        }
        Err(error) => return Err(error.to_string()),
        Ok(metadata) => {
            let own = nix::unistd::geteuid().as_raw();
            if !metadata.is_dir() {
                return Err("it is not a folder (a symbolic link is not followed)".to_owned());
            }
            if metadata.uid() != own {
                return Err(format!(
                    "it belongs to user {}, the daemon runs as {own}; what lies in it is run as machine code, so it has \
                     to be the daemon's own: chown it or remove it",
                    metadata.uid()
                ));
            }
            if metadata.mode() & 0o022 != 0 {
                return Err(format!(
                    "others may write it (mode {:04o}), and what lies in it is run as machine code; empty it and chmod it to 0700",
                    metadata.mode() & 0o7777
                ));
            }
        }
    }
    Ok(())
}

fn write(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
    file.write_all(bytes)?;
    // No fsync: a file that a power cut tore is not what its name says, and is compiled again.
    file.persist(path)?;
    Ok(())
}

fn mark_used(path: &Path) {
    let marked = File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = marked {
        tracing::debug!(file = %path.display(), %error, "a compiled kit cannot be marked as used; it may be dropped early");
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "a file in the folder of compiled kits cannot be removed");
        }
        _ => {}
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// What is hashed with it comes out the same after a restart, which the standard library's does not promise.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash: [u8; 32] = self.0.clone().finalize().into();
        u64::from_le_bytes(hash[..8].try_into().expect("eight of 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache(dir: &Path, limits: &Limits) -> Cache {
        Cache::open(dir, &Engine::default(), limits).unwrap()
    }

    #[test]
    fn what_was_kept_comes_back_and_only_for_the_same_kit_and_compiler() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = cache(&dir.path().join("a/b"), &Limits::default());
        cache.keep(&[1; 32], b"code");
        assert_eq!(cache.take(&[1; 32]).as_deref(), Some(&b"code"[..]));
        assert_eq!(cache.take(&[2; 32]), None);
        cache.compatibility = "another wasmtime".to_owned();
        assert_eq!(cache.take(&[1; 32]), None);
        let mode = fs::metadata(dir.path().join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_damaged_file_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), &Limits::default());
        for damage in [&b"Code"[..], b"cod", b"", b"code and more"] {
            cache.keep(&[1; 32], b"code");
            let path = cache.files().pop().unwrap();
            fs::write(&path, damage).unwrap();
            assert_eq!(cache.take(&[1; 32]), None, "{damage:?}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn the_longest_unused_goes_first_and_the_new_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), &Limits { cache_entries_max: 2, ..Limits::default() });
        let age = |kit: u8, seconds| {
            let prefix = cache.prefix(&[kit; 32]);
            let path = cache.files().into_iter().find(|path| file_name(path).starts_with(&prefix)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(seconds);
            File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
        };
        cache.keep(&[1; 32], b"one");
        age(1, 100);
        cache.keep(&[2; 32], b"two");
        age(2, 200);
        assert!(cache.take(&[2; 32]).is_some(), "taking it marks it as used");
        cache.keep(&[3; 32], b"three");
        let there = |kit: u8| cache.take(&[kit; 32]).is_some();
        assert_eq!((there(1), there(2), there(3)), (false, true, true));
    }

    #[test]
    fn the_bytes_together_are_bounded_and_a_crash_leaves_nothing_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path(), &Limits { cache_bytes_max: 10, ..Limits::default() });
        let left = dir.path().join("unfinished-1");
        fs::write(&left, b"half").unwrap();
        let then = SystemTime::now() - 2 * UNFINISHED_FOR;
        File::options().write(true).open(&left).unwrap().set_modified(then).unwrap();
        cache.keep(&[1; 32], &[0; 8]);
        cache.keep(&[2; 32], &[0; 8]);
        assert!(cache.take(&[1; 32]).is_none() && cache.take(&[2; 32]).is_some() && !left.exists());
        cache.keep(&[3; 32], &[0; 100]);
        assert!(cache.take(&[3; 32]).is_some(), "one that is larger than all together may be is still kept");
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let error = Cache::open(dir.path(), &Engine::default(), &Limits::default()).err().unwrap().to_string();
        assert!(error.contains("mode 0770") && error.contains("chmod"), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Cache::open(&file, &Engine::default(), &Limits::default()).err().unwrap().to_string();
        assert!(error.contains("not a folder"), "{error}");
    }
}
