//! One look at the directory: which files end in `.wasm`, and what tells one version of a file from another.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What changes when a file does. The inode tells a file that was moved here from the one that it replaced,
/// the time of the inode's own change one whose contents were put back to an older time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What one look saw.
pub(super) struct Looked {
    pub(super) files: BTreeMap<PathBuf, Fingerprint>,
    /// So many more are there than are looked at.
    pub(super) left_out: usize,
}

/// Every entry directly in `dir` that ends in `.wasm`, folders and other oddities included: they are refused with a
/// word rather than passed over.
pub(super) fn scan(dir: &Path, files_max: usize) -> io::Result<Looked> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        // A symbolic link is followed: what it leads to is the kit.
        match fs::metadata(&path) {
            Ok(metadata) => {
                files.insert(path, fingerprint(&metadata));
            }
            // Gone meanwhile, or a link to nothing: the next look, or the attempt to load it, tells.
            Err(_) => match fs::symlink_metadata(&path) {
                Ok(metadata) => {
                    files.insert(path, fingerprint(&metadata));
                }
                Err(error) => {
                    tracing::debug!(file = %path.display(), %error, "a file was gone before it was looked at")
                }
            },
        }
    }
    let left_out = files.len().saturating_sub(files_max);
    let files = if left_out == 0 { files } else { files.into_iter().take(files_max).collect() };
    Ok(Looked { files, left_out })
}

fn fingerprint(metadata: &fs::Metadata) -> Fingerprint {
    Fingerprint {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wasm_files_are_seen_and_no_more_than_allowed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.wasm", "a.wasm", "c.wasm", "a.wasm.bak", "README", ".wasm"] {
            fs::write(dir.path().join(name), b"x").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("link.wasm")).unwrap();
        let names = |looked: Looked| -> Vec<_> {
            looked.files.into_keys().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(scan(dir.path(), 10).unwrap()), ["a.wasm", "b.wasm", "c.wasm", "link.wasm"]);
        let few = scan(dir.path(), 3).unwrap();
        assert_eq!(few.left_out, 1);
        assert_eq!(names(few), ["a.wasm", "b.wasm", "c.wasm"]);
    }

    #[test]
    fn whatever_happens_to_a_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wasm");
        let look = || scan(dir.path(), 10).unwrap().files[&path];
        fs::write(&path, b"one").unwrap();
        let first = look();
        assert_eq!(look(), first);
        let other = dir.path().join("other");
        fs::write(&other, b"two").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(look(), first, "same size and time, another file");
    }
}
