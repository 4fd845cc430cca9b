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

    /// How many operations are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.engine.under_way()
    }
}

/// What is held of an open file.
pub(crate) type Shared = Arc<File>;
