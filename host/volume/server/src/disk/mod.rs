//! The volume's files on this machine: the backing with the data, and the metadata beside it.
//!
//! Decides how an operation is carried out: in which system calls, again after a short transfer, by another way where a
//! file system cannot free space. [`Disk`] takes operations and gives them back done; who carries out the calls is
//! [`engine`]'s: one io_uring, or a few threads where that is not permitted. Operations are not ordered among each
//! other: whoever needs an order waits for the first.

mod engine;
mod open;
mod task;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::buffers::Buffer;

pub use engine::{EngineError, EngineKind};
pub use open::{OpenError, Volume};
pub use task::{DiskError, Op};

use engine::Engine;
use task::{File, Task};

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The data, as clients see it.
    Backing,
    /// The intent log and what is kept with it.
    Metadata,
}

/// An operation that is over.
#[derive(Debug)]
pub struct Done {
    /// What the caller knows it by.
    pub token: u64,
    /// For a read that succeeded: what was read.
    pub buffer: Option<Buffer>,
    /// How it ended.
    pub result: Result<(), DiskError>,
}

/// The open files, and what is under way in them.
#[derive(Debug)]
pub struct Disk {
    volume: Volume,
    engine: Engine,
}

impl Disk {
    /// For the files of a volume.
    ///
    /// # Errors
    /// When there is nobody to carry out calls.
    pub fn new(volume: Volume, kind: EngineKind) -> Result<Self, EngineError> {
        Ok(Self { volume, engine: Engine::new(kind)? })
    }

    /// What is known of the files.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Who carries out calls, for people.
    #[must_use]
    pub fn engine(&self) -> String {
        self.engine.to_string()
    }

    /// Becomes readable when something is done.
    #[must_use]
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.engine.readiness()
    }

    /// Takes an operation. It begins at the latest with [`Self::begin`].
    pub fn submit(&mut self, token: u64, op: Op) {
        let file = match op.which() {
            Which::Backing => &self.volume.backing,
            Which::Metadata => &self.volume.metadata,
        };
        self.engine.submit(Task::new(token, op, Arc::clone(file)));
    }

    /// Begins everything that was taken.
    ///
    /// # Errors
    /// When the kernel takes no calls any more; nothing that was taken is then ever done.
    pub fn begin(&mut self) -> io::Result<()> {
        self.engine.begin()
    }

    /// Adds to `done` what is over.
    pub fn done(&mut self, done: &mut VecDeque<Done>) {
        self.engine.reap(done);
    }

    /// Whether the kernel has taken no calls the last time, which [`Self::readiness`] does not tell: they are tried again
    /// by the next [`Self::begin`].
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.engine.is_refused()
    }

    /// How many operations are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.engine.under_way()
    }
}

/// What is held of an open file.
pub(crate) type Shared = Arc<File>;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::buffers::Pool;

    const BLOCKS: u64 = 1000;

    struct Bench {
        disk: Disk,
        pool: Pool,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new(kind: EngineKind) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (backing, metadata) = (folder.path().join("backing"), folder.path().join("metadata"));
            fs::File::create(&backing).unwrap().set_len(BLOCKS * 4096).unwrap();
            let disk = Disk::new(Volume::open(&backing, &metadata).unwrap(), kind).unwrap();
            Self { disk, pool: Pool::default(), _folder: folder }
        }

        fn filled(&self, length: usize, byte: u8) -> Arc<Buffer> {
            let mut buffer = self.pool.take(length);
            buffer.fill(byte);
            Arc::new(buffer)
        }

        /// All at once, and how each ended, by its place.
        fn carry_out(&mut self, ops: Vec<Op>) -> Vec<Result<Option<Buffer>, DiskError>> {
            let count = ops.len();
            for (token, op) in ops.into_iter().enumerate() {
                self.disk.submit(token as u64, op);
            }
            let (mut done, until) = (VecDeque::new(), Instant::now() + Duration::from_secs(60));
            while done.len() < count {
                self.disk.begin().unwrap();
                self.disk.done(&mut done);
                assert!(Instant::now() < until, "{} of {count} are done", done.len());
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(self.disk.under_way(), 0);
            let mut done: Vec<Done> = done.into();
            done.sort_by_key(|done| done.token);
            done.into_iter().map(|done| done.result.map(|()| done.buffer)).collect()
        }

        fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, DiskError> {
            let op = Op::Read { which: Which::Backing, offset, buffer: self.pool.take(length) };
            let read = self.carry_out(vec![op]).remove(0)?;
            Ok(read.expect("what was read").to_vec())
        }
    }

    fn both(check: impl Fn(Bench)) {
        for kind in [EngineKind::Best, EngineKind::Threads] {
            check(Bench::new(kind));
        }
    }

    #[test]
    fn more_at_once_than_are_handed_over_at_once() {
        both(|mut bench| {
            let write = |number: u64| Op::Write {
                which: Which::Backing,
                offset: number * 4096,
                data: bench.filled(4096, number as u8),
                durable: number.is_multiple_of(100),
            };
            let ops = (0..BLOCKS).map(write).collect();
            assert!(bench.carry_out(ops).iter().all(Result::is_ok));
            let read = bench.read(0, (BLOCKS * 4096) as usize).unwrap();
            assert!(read.chunks(4096).enumerate().all(|(number, block)| block == [number as u8; 4096]));
            assert!(bench.carry_out(vec![Op::Sync { which: Which::Metadata }])[0].is_ok());
        });
    }

    #[test]
    fn zeroes_are_zeroes_in_every_way() {
        both(|mut bench| {
            for (round, may_free) in [true, false, true].into_iter().enumerate() {
                if round == 2 {
                    // As where no file system knows how.
                    bench.disk.volume.backing.way.store(2, std::sync::atomic::Ordering::Relaxed);
                }
                let data = bench.filled(65536, 7);
                let write = Op::Write { which: Which::Backing, offset: 4096, data, durable: false };
                assert!(bench.carry_out(vec![write])[0].is_ok());
                let zeroes = bench.filled(4096, 0);
                let zero = Op::Zero { offset: 8192, length: 32768, may_free, zeroes };
                assert!(bench.carry_out(vec![zero])[0].is_ok());
                let read = bench.read(4096, 65536).unwrap();
                assert!(read[..4096] == [7; 4096] && read[4096..36864] == [0; 32768] && read[36864..] == [7; 28672]);
            }
        });
    }

    #[test]
    fn what_is_past_the_end_is_an_error() {
        both(|mut bench| {
            let error = bench.read(BLOCKS * 4096 - 4096, 8192).unwrap_err();
            assert!(matches!(error, DiskError::Shrunk { offset, .. } if offset == BLOCKS * 4096), "{error}");
        });
    }
}
