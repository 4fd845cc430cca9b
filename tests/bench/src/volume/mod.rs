//! Mirrored volumes for a measurement: mainstay's, and those of its peers, on the same disk, each with processes that are
//! gone with it.
//!
//! All sides have backings of their own that are written whole before, so that no file system allocates while it is
//! measured; all go past the page cache, answer a flush when the disk has flushed, and are asked over a Unix socket by the
//! same client.

pub mod fio;
pub mod keys;
pub mod pair;
pub mod qemu;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::trouble::Trouble;

/// How long something may take that has nothing to do with a volume's size, in s.
const SOON_S: u64 = 30;
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// What a backing is filled with, again and again: no byte of it is zero, so that no side takes it for a hole.
const PATTERN_BYTES: usize = 1 << 20;

/// Something that serves a disk by NBD.
pub trait Served {
    /// Where, as NBD clients name it.
    fn uri(&self) -> String;
}

/// Whether what is said is encrypted, and both ends show certificates.
#[derive(Clone, Copy, Debug)]
pub enum Line<'a> {
    /// TLS 1.3 both ways, by these.
    Tls(&'a keys::Keys),
    /// Neither.
    Plain,
}

/// Makes a file of `bytes`, written whole unless it is `sparse`, with `more` behind.
///
/// # Errors
/// When there is no room.
pub fn backing(path: &Path, bytes: u64, more: u64, sparse: bool) -> Result<(), Trouble> {
    let pattern: Vec<u8> = (0..PATTERN_BYTES).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 | 1).collect();
    let write = || {
        let mut file = File::create(path)?;
        if !sparse {
            for _ in 0..bytes / PATTERN_BYTES as u64 {
                file.write_all(&pattern)?;
            }
        }
        file.set_len(bytes + more)?;
        file.sync_all()
    };
    write().map_err(Trouble::file("fill", path))
}

/// A program's path, if it is installed.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Waits until something is there; what it is.
///
/// # Errors
/// When it is in vain, or looking fails.
fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Result<Option<T>, Trouble>) -> Result<T, Trouble> {
    let began = Instant::now();
    loop {
        let late = began.elapsed() > Duration::from_secs(seconds);
        if let Some(found) = look()? {
            return Ok(found);
        }
        if late {
            return Err(Trouble::InVain { what: what.to_owned(), seconds });
        }
        std::thread::sleep(LOOK);
    }
}
