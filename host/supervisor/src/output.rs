//! What a command prints: two regular files that are kept short.
//!
//! Files, not pipes. A process that writes into a pipe dies of SIGPIPE once its reader has died; and a pipe ends only
//! when the last child that holds it has closed it, which for an application in the background is never.
//!
//! Decides, from the files' sizes, when the oldest bytes are cut off. The program is never slowed down or stopped,
//! and nothing runs while nothing is written: the kernel tells of the first write after a quiet time, and from then
//! on the sizes are looked at every [`LOOK_MS`].
//!
//! Where the file system can (ext4, XFS), the front of the file is cut off in one step, and no byte of the rest is
//! lost. Elsewhere the newest bytes are copied aside and the file is emptied; what is written in between, in
//! microseconds unless the machine is very busy, is lost.
//!
//! A program that opens `/dev/stdout` anew without appending (`> /dev/stderr` in a script, where `>&2` is right)
//! empties the file: it is a file. Nothing but what it printed until then is lost.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Gid, Uid};

use crate::folder::Folder;
use crate::sys;

/// Time between two looks while something is written, in ms. What a disk takes in that time may be on it too much:
/// 40 MB at 2 GB/s.
const LOOK_MS: u64 = 20;
/// The same right after bytes had to be cut off: it may be a flood.
const LOOK_IN_FLOOD_MS: u64 = 2;
/// The same where the kernel cannot tell of writes, and nothing was written lately.
const LOOK_UNTOLD_MS: u64 = 100;
/// How much a file may grow beyond what is kept before it is cut, in bytes: cutting each time would cost more than
/// it saves. At least as much as is kept, so that the work stays in proportion to what is written.
const SLACK_BYTES_MIN: u64 = 1 << 20;
/// How far copying the newest bytes aside may run after a program that writes faster, in multiples of what is kept.
const CHASE_MAX: u64 = 8;

/// One of the two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn live(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn older(self) -> String {
        format!("{}.older", self.live())
    }

    fn last(self) -> String {
        format!("{}.final", self.live())
    }
}

/// The output files of a command, kept short by whoever calls [`Output::tend`].
#[derive(Debug)]
pub(crate) struct Output {
    folder: Folder,
    dir: File,
    files: [Kept; 2],
    /// The kernel may be asked to tell of writes: the caller expects a SIGIO.
    tells: bool,
    /// It was asked to tell of the next one.
    told: bool,
    look_at: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    stream: Stream,
    file: File,
    kept_bytes: u64,
    size: u64,
    was_cut: bool,
    /// The file system cannot cut the front off.
    by_copy: bool,
}

impl Output {
    /// Makes the files, for appending. `owner`: the user who may open them anew through `/dev/stdout`. `tells`: this
    /// process blocks SIGIO and calls [`Output::was_told`] for each; unblocked, it would die of it.
    pub(crate) fn create(folder: &Folder, kept_bytes: u32, owner: Option<(Uid, Gid)>, tells: bool) -> io::Result<Self> {
        let output = Self::with(OpenOptions::new().create_new(true), folder, kept_bytes, tells)?;
        if let Some((uid, gid)) = owner {
            for kept in &output.files {
                nix::unistd::fchown(&kept.file, Some(uid), Some(gid))?;
            }
        }
        Ok(output)
    }

    /// Takes over the files of a supervisor that was killed.
    pub(crate) fn take_over(folder: &Folder, kept_bytes: u32) -> io::Result<Self> {
        Self::with(&mut OpenOptions::new(), folder, kept_bytes, true)
    }

    fn with(options: &mut OpenOptions, folder: &Folder, kept_bytes: u32, tells: bool) -> io::Result<Self> {
        options.read(true).append(true).mode(0o600);
        let kept = |stream: Stream| -> io::Result<Kept> {
            let file = options.open(folder.file(stream.live()))?;
            Ok(Kept { stream, file, kept_bytes: kept_bytes.into(), size: 0, was_cut: false, by_copy: false })
        };
        let files = [kept(Stream::Stdout)?, kept(Stream::Stderr)?];
        let dir = File::open(folder.path())?;
        let mut output = Self { folder: folder.clone(), dir, files, tells, told: false, look_at: None };
        output.rest(Instant::now());
        Ok(output)
    }

    pub(crate) fn file(&self, stream: Stream) -> &File {
        match stream {
            Stream::Stdout => &self.files[0].file,
            Stream::Stderr => &self.files[1].file,
        }
    }

    /// When [`Output::tend`] wants to be called, if not told of a write before.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// The kernel told of a write.
    pub(crate) fn was_told(&mut self, now: Instant) {
        self.told = false;
        self.look_at.get_or_insert(now);
    }

    /// Cuts what is too long, if it is time to look.
    pub(crate) fn tend(&mut self, now: Instant) {
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        let mut grew = false;
        let mut flood = false;
        for kept in &mut self.files {
            match kept.look(&self.folder) {
                Ok(Look::Same) => {}
                Ok(Look::Grew) => grew = true,
                Ok(Look::Cut) => flood = true,
                Err(error) => {
                    grew = true;
                    self.folder.complain(&format!("{} cannot be kept short: {error}", kept.stream.live()));
                }
            }
        }
        let look_ms = if flood { LOOK_IN_FLOOD_MS } else { LOOK_MS };
        if flood || grew {
            self.look_at = Some(now + Duration::from_millis(look_ms));
        } else {
            self.rest(now);
        }
    }

    /// Nothing is being written: let the kernel tell of the next write.
    fn rest(&mut self, now: Instant) {
        self.told = self.told || self.tells && sys::notify_once_modified(&self.dir).is_ok();
        // A write since the last look may have come before the kernel was asked.
        let missed = self.files.iter().any(|kept| kept.file.metadata().is_ok_and(|file| file.len() != kept.size));
        self.look_at = if missed {
            Some(now + Duration::from_millis(LOOK_MS))
        } else if self.told {
            None
        } else {
            Some(now + Duration::from_millis(LOOK_UNTOLD_MS))
        };
    }

    /// Was anything dropped so far, or would be when it is read?
    pub(crate) fn is_truncated(&self) -> bool {
        self.files
            .iter()
            .any(|kept| kept.was_cut || kept.file.metadata().is_ok_and(|metadata| metadata.len() > kept.kept_bytes))
    }

    /// Keeps the newest bytes as they are now, whatever is written later.
    pub(crate) fn keep_final(&self) -> io::Result<()> {
        for kept in &self.files {
            let bytes = newest(&self.folder, kept.stream, kept.kept_bytes)?;
            self.folder.create(&kept.stream.last())?.write_all(&bytes)?;
        }
        Ok(())
    }
}

enum Look {
    Same,
    Grew,
    Cut,
}

impl Kept {
    fn look(&mut self, folder: &Folder) -> io::Result<Look> {
        let metadata = self.file.metadata()?;
        let (before, size) = (self.size, metadata.len());
        self.size = size;
        if size <= self.kept_bytes + self.kept_bytes.max(SLACK_BYTES_MIN) {
            return Ok(if size == before { Look::Same } else { Look::Grew });
        }
        self.was_cut = true;
        if !self.by_copy {
            self.by_copy = !self.cut_front(size, metadata.blksize())?;
        }
        if self.by_copy {
            self.cut_by_copy(folder, size)?;
        }
        self.size = self.file.metadata()?.len();
        Ok(Look::Cut)
    }

    /// Ok(false): this file system cannot.
    fn cut_front(&self, size: u64, block: u64) -> io::Result<bool> {
        use nix::errno::Errno;
        let block = block.max(1);
        // Whole blocks, and never up to the end: the kernel wants a truncation for that.
        let cut = (size - self.kept_bytes - 1) / block * block;
        let (Ok(cut), true) = (i64::try_from(cut), cut > 0) else {
            return Ok(false);
        };
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, cut) {
            Ok(()) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Copies the newest bytes aside, then empties the file. It is emptied even if they could not be copied: the
    /// disk is worth more than the output.
    fn cut_by_copy(&self, folder: &Folder, size: u64) -> io::Result<()> {
        let copied = self.copy_newest(folder, size);
        self.file.set_len(0)?;
        copied
    }

    fn copy_newest(&self, folder: &Folder, size: u64) -> io::Result<()> {
        let beside = folder.file(&format!("{}.new", self.stream.older()));
        let mut older = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let mut at = size - self.kept_bytes;
        let chase_to = size + CHASE_MAX * self.kept_bytes;
        let mut buffer = vec![0; 64 << 10];
        while at < chase_to {
            let length = self.file.read_at(&mut buffer, at)?;
            if length == 0 {
                break;
            }
            older.write_all(&buffer[..length])?;
            at += length as u64;
        }
        std::fs::rename(&beside, folder.file(&self.stream.older()))
    }
}

/// The newest bytes of a stream, at most `kept_bytes`, as they were at the program's end or else as they are now.
pub(crate) fn newest(folder: &Folder, stream: Stream, kept_bytes: u64) -> io::Result<Vec<u8>> {
    if let Some(bytes) = tail(folder, &stream.last(), kept_bytes)? {
        return Ok(bytes);
    }
    let mut bytes = tail(folder, stream.live(), kept_bytes)?.unwrap_or_default();
    let missing = kept_bytes - bytes.len() as u64;
    if missing > 0
        && let Some(mut older) = tail(folder, &stream.older(), missing)?
    {
        older.append(&mut bytes);
        return Ok(older);
    }
    Ok(bytes)
}

/// The end of a file, or `None` if there is no such file.
fn tail(folder: &Folder, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(folder.file(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    // Not more, though it may have grown meanwhile.
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT: u32 = 100_000;

    /// Writes numbered lines until `bytes` are written, tending as the supervisor does, and gives what was kept.
    fn flood(dir: &std::path::Path, bytes: usize, by_copy: bool) -> (Vec<u8>, u64, bool) {
        let folder = Folder::new(dir.to_owned());
        let mut output = Output::create(&folder, KEPT, None, false).unwrap();
        output.files[0].by_copy = by_copy;
        let mut writer = OpenOptions::new().append(true).open(folder.file("stdout")).unwrap();
        let (mut written, mut largest, mut line) = (0, 0, 0);
        let mut now = Instant::now();
        while written < bytes {
            let text = format!("{line:>98}\n").repeat(100);
            writer.write_all(text.as_bytes()).unwrap();
            written += text.len();
            line += 1;
            now += Duration::from_millis(LOOK_MS);
            output.was_told(now);
            output.tend(now);
            largest = largest.max(writer.metadata().unwrap().len());
        }
        (newest(&folder, Stream::Stdout, KEPT.into()).unwrap(), largest, output.is_truncated())
    }

    fn expected(bytes: usize) -> Vec<u8> {
        let lines = bytes.div_ceil(9900);
        let mut all: Vec<u8> = (0..lines).flat_map(|line| format!("{line:>98}\n").repeat(100).into_bytes()).collect();
        all.split_off(all.len() - KEPT as usize)
    }

    #[test]
    fn of_a_flood_the_newest_bytes_are_kept_and_the_file_stays_short() {
        let dir = tempfile::tempdir().unwrap();
        for by_copy in [false, true] {
            let dir = dir.path().join(by_copy.to_string());
            std::fs::create_dir(&dir).unwrap();
            let (kept, largest, truncated) = flood(&dir, 5_000_000, by_copy);
            assert_eq!(kept, expected(5_000_000), "by_copy = {by_copy}");
            assert!(largest < 2_000_000, "{largest}");
            assert!(truncated);
        }
    }

    #[test]
    fn little_output_is_kept_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        let output = Output::create(&folder, KEPT, None, false).unwrap();
        let mut stderr = output.file(Stream::Stderr);
        stderr.write_all(b"no such disk\n").unwrap();
        assert_eq!(newest(&folder, Stream::Stderr, KEPT.into()).unwrap(), b"no such disk\n");
        assert_eq!(newest(&folder, Stream::Stdout, KEPT.into()).unwrap(), b"");
        assert!(!output.is_truncated());
    }

    #[test]
    fn what_was_final_stays_whatever_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        let output = Output::create(&folder, 4, None, false).unwrap();
        let mut stdout = output.file(Stream::Stdout);
        stdout.write_all(b"123456").unwrap();
        assert!(output.is_truncated());
        output.keep_final().unwrap();
        stdout.write_all(b"789").unwrap();
        assert_eq!(newest(&folder, Stream::Stdout, 4).unwrap(), b"3456");
    }

    #[test]
    fn quiet_files_are_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned());
        let mut output = Output::create(&folder, 4, None, false).unwrap();
        // As after a request that the kernel has taken.
        (output.told, output.look_at) = (true, None);
        let mut now = Instant::now();
        output.was_told(now);
        output.file(Stream::Stdout).write_all(b"1").unwrap();
        output.tend(now);
        assert!(output.look_at().is_some(), "something was written: look again soon");
        now += Duration::from_millis(LOOK_MS);
        output.told = true;
        output.tend(now);
        assert_eq!(output.look_at(), None);
    }
}
