//! One operation: the system calls it comes to, and what each result means for it.
//!
//! A task owns the memory of its operation until it is over, so that a call that is under way always has it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::{Done, Which};
use crate::buffers::Buffer;

/// Something to be done with a file. Offsets and lengths are multiples of the file's block size.
#[derive(Debug)]
pub enum Op {
    /// Fill the buffer from the backing.
    Read {
        /// From which file.
        which: Which,
        /// From where, in bytes.
        offset: u64,
        /// Its length is how much.
        buffer: Buffer,
    },
    /// Write.
    Write {
        /// To which file.
        which: Which,
        /// Where to, in bytes.
        offset: u64,
        /// What.
        data: Arc<Buffer>,
        /// Whether it is durable when done.
        durable: bool,
    },
    /// Make durable what was done before this began.
    Sync {
        /// In which file.
        which: Which,
    },
    /// Make a range of the backing read as zeroes.
    Zero {
        /// From where, in bytes.
        offset: u64,
        /// How much, in bytes.
        length: u64,
        /// Whether its space may be given back.
        may_free: bool,
        /// Zeroes, to be written where the file system has no other way.
        zeroes: Arc<Buffer>,
    },
}

impl Op {
    pub(super) fn which(&self) -> Which {
        match self {
            Self::Read { which, .. } | Self::Write { which, .. } | Self::Sync { which } => *which,
            Self::Zero { .. } => Which::Backing,
        }
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The system says so.
    #[error("{path}: cannot {action} {length} bytes at {offset}: {source}")]
    Io {
        /// Of which file.
        path: PathBuf,
        /// Doing what.
        action: &'static str,
        /// From where, in bytes.
        offset: u64,
        /// How much, in bytes.
        length: u64,
        /// What it says.
        source: io::Error,
    },
    /// The file ends where there was data.
    #[error("{path}: it ends before {offset}: it was cut, or its device has shrunk")]
    Shrunk {
        /// Of which file.
        path: PathBuf,
        /// What was read, in bytes.
        offset: u64,
    },
}

impl DiskError {
    /// As a number of the system.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Io { source, .. } => source.raw_os_error().unwrap_or(Errno::EIO as i32),
            Self::Shrunk { .. } => Errno::EIO as i32,
        }
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct File {
    pub(super) file: fs::File,
    pub(super) path: PathBuf,
    /// Whether a write can be asked to be durable (`RWF_DSYNC`, `pwritev2(2)`). Where that is not certain, a sync follows.
    pub(super) keeps_dsync: bool,
    /// The number of the first way of [`Way::ALL`] that has not been refused.
    pub(super) way: AtomicU8,
}

/// Ways of making a range read as zeroes, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Give the space back.
    Punch,
    /// Have it marked.
    Mark,
    /// Write zeroes.
    Write,
}

impl Way {
    const ALL: [Self; 3] = [Self::Punch, Self::Mark, Self::Write];
}

/// What one system call does. The memory belongs to the task.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Read { to: *mut u8, length: usize, offset: u64 },
    Write { from: *const u8, length: usize, offset: u64, durable: bool },
    Sync,
    Allocate { mode: FallocateFlags, offset: u64, length: u64 },
}

/// Whether a task is over.
pub(super) enum Progress {
    Again,
    Over(Result<(), DiskError>),
}

#[derive(Debug)]
pub(super) struct Task {
    token: u64,
    op: Op,
    file: Arc<File>,
    /// How far it has come, in bytes.
    at: usize,
    /// All is written, and is made durable.
    syncs: bool,
}

impl Task {
    pub(super) fn new(token: u64, op: Op, file: Arc<File>) -> Self {
        Self { token, op, file, at: 0, syncs: false }
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.file.file.as_raw_fd()
    }

    fn way(&self) -> Way {
        let Op::Zero { may_free, .. } = self.op else { return Way::Write };
        let first = self.file.way.load(Ordering::Relaxed).max(u8::from(!may_free));
        Way::ALL.get(usize::from(first)).copied().unwrap_or(Way::Write)
    }

    /// What to do next. What it points to stays where it is as long as the task is kept.
    pub(super) fn call(&mut self) -> Call {
        if self.syncs {
            return Call::Sync;
        }
        let way = self.way();
        let done = self.at as u64;
        match &mut self.op {
            Op::Read { offset, buffer, .. } => {
                let rest = &mut buffer[self.at..];
                Call::Read { to: rest.as_mut_ptr(), length: rest.len(), offset: *offset + done }
            }
            Op::Write { offset, data, durable, .. } => {
                let rest = &data[self.at..];
                let durable = *durable && self.file.keeps_dsync;
                Call::Write { from: rest.as_ptr(), length: rest.len(), offset: *offset + done, durable }
            }
            Op::Sync { .. } => Call::Sync,
            Op::Zero { offset, length, zeroes, .. } => {
                let (offset, length) = (*offset + done, *length - done);
                let mode = match way {
                    Way::Punch => FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                    Way::Mark => FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                    Way::Write => {
                        let length = usize::try_from(length).map_or(zeroes.len(), |length| length.min(zeroes.len()));
                        return Call::Write { from: zeroes.as_ptr(), length, offset, durable: false };
                    }
                };
                Call::Allocate { mode, offset, length }
            }
        }
    }

    /// Takes what a call gave: a number of bytes, where it gives one.
    pub(super) fn advance(&mut self, result: io::Result<usize>) -> Progress {
        let count = match result {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Progress::Again,
            Err(error) => return self.failed(error),
        };
        let (length, wants_bytes) = match &self.op {
            Op::Read { buffer, .. } => (buffer.len() as u64, true),
            Op::Write { data, .. } => (data.len() as u64, true),
            Op::Sync { .. } => (0, false),
            Op::Zero { length, .. } => (*length, self.way() == Way::Write),
        };
        if !wants_bytes || self.syncs {
            return Progress::Over(Ok(()));
        }
        self.at += count;
        match (&self.op, count) {
            (Op::Write { durable: true, .. }, _) if self.at as u64 >= length && !self.file.keeps_dsync => {
                self.syncs = true;
                Progress::Again
            }
            _ if self.at as u64 >= length => Progress::Over(Ok(())),
            (Op::Read { offset, .. }, 0) => {
                let offset = *offset + self.at as u64;
                Progress::Over(Err(DiskError::Shrunk { path: self.file.path.clone(), offset }))
            }
            (Op::Write { .. } | Op::Sync { .. } | Op::Zero { .. }, 0) => {
                self.failed(io::Error::from(io::ErrorKind::WriteZero))
            }
            _ => Progress::Again,
        }
    }

    fn failed(&self, source: io::Error) -> Progress {
        let way = self.way();
        let refused = matches!(
            source.raw_os_error().map(Errno::from_raw),
            Some(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL)
        );
        if refused && matches!(self.op, Op::Zero { .. }) && way != Way::Write {
            // Where one way is refused, it is for this file; another task may have found out already.
            self.file.way.fetch_max(way as u8 + 1, Ordering::Relaxed);
            return Progress::Again;
        }
        let (action, offset, length) = match &self.op {
            Op::Read { offset, buffer, .. } => ("read", *offset, buffer.len() as u64),
            Op::Write { offset, data, .. } => ("write", *offset, data.len() as u64),
            Op::Sync { .. } => ("make durable", 0, 0),
            Op::Zero { offset, length, .. } => ("zero", *offset, *length),
        };
        Progress::Over(Err(DiskError::Io { path: self.file.path.clone(), action, offset, length, source }))
    }

    pub(super) fn over(self, result: Result<(), DiskError>) -> Done {
        let buffer = match self.op {
            Op::Read { buffer, .. } if result.is_ok() => Some(buffer),
            Op::Read { .. } | Op::Write { .. } | Op::Sync { .. } | Op::Zero { .. } => None,
        };
        Done { token: self.token, buffer, result }
    }

    /// Carries out all of it, waiting for each call.
    pub(super) fn perform(mut self) -> Done {
        loop {
            let result = self.wait();
            if let Progress::Over(result) = self.advance(result) {
                return self.over(result);
            }
        }
    }

    fn wait(&mut self) -> io::Result<usize> {
        let call = self.call();
        let file = &self.file.file;
        match (call, &mut self.op) {
            (Call::Sync, _) => file.sync_data().map(|()| 0),
            (Call::Read { offset, .. }, Op::Read { buffer, .. }) => file.read_at(&mut buffer[self.at..], offset),
            (Call::Write { offset, durable, .. }, Op::Write { data, .. }) => {
                let count = file.write_at(&data[self.at..], offset)?;
                if durable {
                    file.sync_data()?;
                }
                Ok(count)
            }
            (Call::Write { length, offset, .. }, Op::Zero { zeroes, .. }) => file.write_at(&zeroes[..length], offset),
            (Call::Allocate { mode, offset, length }, _) => {
                let [offset, length] = [offset, length].map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
                fallocate(file.as_fd(), mode, offset, length)?;
                Ok(0)
            }
            (Call::Read { .. } | Call::Write { .. }, _) => unreachable!("a call belongs to its operation"),
        }
    }
}
