//! Disks. A crash leaves of what was not synced any of its sectors, whole (VOLUME, the promise).

use mainstay_volume_core::types::{Extent, SECTOR_BYTES};

use crate::random::Random;

/// What is in a sector of the volume: the number of the write that put it there; 0 for zeroes.
pub type Stamp = u64;

/// The sectors of an extent.
#[must_use]
pub fn sectors(extent: Extent) -> std::ops::Range<usize> {
    (extent.offset / SECTOR_BYTES) as usize..(extent.end() / SECTOR_BYTES) as usize
}

/// The backing of a copy.
#[derive(Clone, Debug)]
pub struct DataDisk {
    /// What is read.
    pub now: Vec<Stamp>,
    synced: Vec<Stamp>,
    /// What was written since, in order.
    unsynced: Vec<(usize, Stamp)>,
    writes: u64,
}

impl DataDisk {
    /// Zeroes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        let count = (size / SECTOR_BYTES) as usize;
        Self { now: vec![0; count], synced: vec![0; count], unsynced: Vec::new(), writes: 0 }
    }

    /// A write is done; with `fua` it is durable.
    pub fn write(&mut self, extent: Extent, stamps: &[Stamp], fua: bool) {
        for (sector, stamp) in sectors(extent).zip(stamps) {
            self.now[sector] = *stamp;
            self.unsynced.push((sector, *stamp));
            if fua {
                self.synced[sector] = *stamp;
                self.unsynced.retain(|(other, _)| *other != sector);
            }
        }
        self.writes += 1;
    }

    /// What a flush that begins now will cover.
    #[must_use]
    pub fn flush_begins(&self) -> Vec<(usize, Stamp)> {
        self.unsynced.clone()
    }

    /// It is done.
    pub fn flush(&mut self, covers: &[(usize, Stamp)]) {
        for entry in covers {
            if let Some(at) = self.unsynced.iter().position(|other| other == entry) {
                self.synced[entry.0] = entry.1;
                self.unsynced.remove(at);
            }
        }
    }

    /// What a sector may be read as, now and after a crash.
    #[must_use]
    pub fn possible(&self, sector: usize) -> Vec<Stamp> {
        let unsynced = self.unsynced.iter().filter(|(other, _)| *other == sector).map(|(_, stamp)| *stamp);
        [self.synced[sector], self.now[sector]].into_iter().chain(unsynced).collect()
    }

    /// The power is gone: of what was not synced, and of what was being written, each sector is on disk or not.
    pub fn crash(&mut self, being_written: &[(Extent, Vec<Stamp>)], dice: &mut Random) {
        let writing = being_written.iter().flat_map(|(extent, stamps)| sectors(*extent).zip(stamps.iter().copied()));
        let all: Vec<(usize, Stamp)> = self.unsynced.drain(..).chain(writing).collect();
        // Mostly much is lost, or little.
        let keep = [0, 100, 500, 900, 1000][dice.below(5) as usize];
        for (sector, stamp) in all {
            if dice.chance(keep) {
                self.synced[sector] = stamp;
            }
        }
        self.now.clone_from(&self.synced);
    }
}

/// The label or the log: its writes are durable when they are done.
#[derive(Clone, Debug, Default)]
pub struct ByteDisk {
    /// What is on it.
    pub bytes: Vec<u8>,
}

impl ByteDisk {
    /// A write is done.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if self.bytes.len() < to {
            self.bytes.resize(to, 0);
        }
        self.bytes[from..to].copy_from_slice(bytes);
    }

    /// It was under way when the machine or the process ended: each sector is on disk or not.
    pub fn tear(&mut self, offset: u64, bytes: &[u8], dice: &mut Random) {
        let keep = [0, 500, 1000][dice.below(3) as usize];
        for (number, sector) in (0u64..).zip(bytes.chunks(SECTOR_BYTES as usize)) {
            if dice.chance(keep) {
                self.write(offset + number * SECTOR_BYTES, sector);
            }
        }
    }
}
