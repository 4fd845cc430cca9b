//! The intent log in memory: which regions are durable in it, which are hot, and which have to be copied (V5).
//!
//! ```text
//!             not in the log ──want──> asked for ──durable──> hot ──under way──> hot
//!                   ^                                          │ both flushed since   │ peer lost
//!                   └────────────── cleared ───────────────────┘                      v
//!                                                     hot <──copied── away (to be copied)
//! ```
//! A region that is *hot* is the same on both copies but for what is under way or not flushed. It stays in the log as
//! long as there is room and it is in use, so that a write to it needs no write of the log.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use mainstay_core::time::{Millis, Monotonic};

use crate::bitmap::Bitmap;
use crate::io::Block;
use crate::log::{BLOCK_REGIONS, encode_block};
use crate::planted::{self, Bug};
use crate::types::{Region, VolumeId};

/// Blocks of the log in one write: 256 KiB, so that a large volume's first log is no single long write.
const BLOCKS_AT_ONCE: usize = 64;

#[derive(Debug, Default)]
struct Hot {
    under_way: u32,
    /// The number of the last write to it that was done.
    last: u64,
    /// When that was.
    at: Monotonic,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Intent {
    volume: VolumeId,
    hot_max: u32,
    /// Certainly on disk.
    durable: Bitmap,
    /// What the next write of the log says.
    image: Bitmap,
    /// To be copied; all of them are in `image`.
    away: Bitmap,
    hot: BTreeMap<Region, Hot>,
    /// Counts writes that are done on all copies that there are.
    done: u64,
    /// Those up to here are durable on both.
    covered: u64,
    blocks: BTreeSet<u32>,
    set: Vec<Region>,
    writing: Vec<Region>,
    is_writing: bool,
    /// Counts changes of `image`, and says up to which they are durable.
    changes: u64,
    taken: u64,
    settled: u64,
}

impl Intent {
    pub(super) fn new(volume: VolumeId, dirty: Bitmap, damaged: &[u32], hot_max: u32) -> Self {
        let regions = dirty.regions();
        let mut durable = dirty.clone();
        for block in damaged {
            for region in block * BLOCK_REGIONS..((block + 1) * BLOCK_REGIONS).min(regions) {
                durable.clear(Region(region));
            }
        }
        let set = dirty.iter().filter(|region| !durable.has(*region)).collect();
        Self {
            volume,
            hot_max,
            durable,
            away: dirty.clone(),
            image: dirty,
            hot: BTreeMap::new(),
            done: 0,
            covered: 0,
            blocks: damaged.iter().copied().collect(),
            set,
            writing: Vec::new(),
            is_writing: false,
            changes: u64::from(!damaged.is_empty()),
            taken: 0,
            settled: 0,
        }
    }

    /// What is in the log or about to be.
    pub(super) fn dirty(&self) -> &Bitmap {
        &self.image
    }

    /// What has to be copied.
    pub(super) fn away(&self) -> &Bitmap {
        &self.away
    }

    /// How many are only hot.
    pub(super) fn hot_count(&self) -> u32 {
        self.image.count() - self.away.count()
    }

    /// Whether a write to it may start (V5). If not, it is asked for, and if there is no room, not even that. While
    /// there is no peer there is no bound: nothing is cleared then.
    pub(super) fn want(&mut self, region: Region, mirrored: bool, now: Monotonic) -> bool {
        if self.durable.has(region) || planted::is(Bug::BitLate) && self.image.has(region) {
            return true;
        }
        if !self.image.has(region) {
            if mirrored && self.hot_count() >= self.hot_max {
                return false;
            }
            self.put(region);
            self.hot.entry(region).or_default().at = now;
            let done = self.done;
            self.hot.entry(region).or_default().last = done;
        }
        planted::is(Bug::BitLate)
    }

    fn put(&mut self, region: Region) {
        if self.image.set(region) {
            self.set.push(region);
            self.blocks.insert(region.0 / BLOCK_REGIONS);
            self.changes += 1;
        }
    }

    fn take_out(&mut self, region: Region) {
        if self.image.clear(region) {
            // From now on it is not certain what is on disk.
            self.durable.clear(region);
            self.blocks.insert(region.0 / BLOCK_REGIONS);
            self.changes += 1;
        }
    }

    /// A write to it starts; on this copy only, or on both.
    pub(super) fn begin(&mut self, region: Region, mirrored: bool) {
        self.hot.entry(region).or_default().under_way += 1;
        if !mirrored {
            self.away.set(region);
        }
    }

    /// A write is done on all copies that there are; its regions follow.
    pub(super) fn count(&mut self) {
        self.done += 1;
    }

    /// One of its regions.
    pub(super) fn end(&mut self, region: Region, now: Monotonic) {
        let Some(hot) = self.hot.get_mut(&region) else { return };
        hot.under_way = hot.under_way.saturating_sub(1);
        (hot.last, hot.at) = (self.done, now);
        if hot.under_way == 0 && self.away.has(region) {
            self.hot.remove(&region);
        }
    }

    /// Whether a write to it is under way.
    pub(super) fn is_under_way(&self, region: Region) -> bool {
        self.hot.get(&region).is_some_and(|hot| hot.under_way > 0)
    }

    /// It was copied: it is hot from now on, and cleared like any other.
    pub(super) fn copied(&mut self, region: Region, now: Monotonic) {
        self.done += 1;
        self.away.clear(region);
        let done = self.done;
        let hot = self.hot.entry(region).or_default();
        (hot.last, hot.at) = (done, now);
    }

    /// Whatever is in the log may be otherwise on the peer's copy from now on.
    pub(super) fn peer_lost(&mut self) {
        self.away.unite(&self.image);
        self.hot.retain(|_, hot| hot.under_way > 0);
    }

    /// The peer's bits (V11): all that either has is to be copied.
    pub(super) fn merge(&mut self, theirs: &Bitmap) {
        if !planted::is(Bug::OwnBitsOnly) {
            for region in theirs.iter() {
                self.put(region);
            }
        }
        self.peer_lost();
    }

    /// This one differs (verify).
    pub(super) fn differs(&mut self, region: Region) {
        self.put(region);
        self.away.set(region);
    }

    /// All of them do.
    pub(super) fn all_differ(&mut self) {
        for region in 0..self.image.regions() {
            self.put(Region(region));
        }
        self.peer_lost();
    }

    /// The source has all of it in its own log (V12).
    pub(super) fn hand_over(&mut self) {
        let all: Vec<Region> = self.image.iter().collect();
        for region in all {
            self.take_out(region);
        }
        self.away.clear_all();
        self.hot.clear();
    }

    /// What a flush that begins now covers.
    pub(super) fn flush_begins(&self) -> u64 {
        self.done
    }

    /// Both copies have completed a flush that began then.
    pub(super) fn flushed(&mut self, begun: u64) {
        self.covered = self.covered.max(begun);
    }

    /// Whether room for hot regions is short.
    pub(super) fn is_full(&self) -> bool {
        self.hot_count() > self.hot_max - self.hot_max / 4
    }

    fn cools(&self, hot: &Hot, after: Millis, now: Monotonic) -> bool {
        hot.under_way == 0 && (hot.at + after <= now || self.is_full())
    }

    /// Whether a flush of both copies would let something be cleared that is not in use or in the way.
    pub(super) fn wants_flush(&self, after: Millis, now: Monotonic) -> bool {
        self.hot.values().any(|hot| hot.last > self.covered && self.cools(hot, after, now))
    }

    /// Clears what is covered by a flush of both and not in use: what was not written for so long, and when the hot set
    /// is nearly full the longest unused quarter of it.
    pub(super) fn cool(&mut self, after: Millis, now: Monotonic) {
        let mut cold: Vec<(u64, Region)> = self
            .hot
            .iter()
            .filter(|(region, hot)| {
                hot.last <= self.covered && self.cools(hot, after, now) && self.durable.has(**region)
            })
            .map(|(region, hot)| (hot.last, *region))
            .collect();
        if self.is_full() {
            cold.sort_unstable();
            let quarter = (self.hot_max / 4).max(1) as usize;
            let aged = cold.iter().filter(|(_, region)| self.hot[region].at + after <= now).count();
            cold.truncate(quarter.max(aged));
        }
        for (_, region) in cold {
            if !self.away.has(region) {
                self.take_out(region);
            }
            self.hot.remove(&region);
        }
    }

    /// The next write of the log, if there is one to begin.
    pub(super) fn take_write(&mut self) -> Option<Vec<Block>> {
        if self.is_writing || self.blocks.is_empty() {
            return None;
        }
        self.is_writing = true;
        let now: Vec<u32> = self.blocks.iter().copied().take(BLOCKS_AT_ONCE).collect();
        let blocks = now.iter().map(|number| encode_block(&self.image, *number, self.volume)).collect();
        self.blocks.retain(|number| !now.contains(number));
        if self.blocks.is_empty() {
            self.writing = core::mem::take(&mut self.set);
            self.taken = self.changes;
        } else {
            let (taken, left) = self.set.iter().partition(|region| now.contains(&(region.0 / BLOCK_REGIONS)));
            (self.writing, self.set) = (taken, left);
        }
        Some(blocks)
    }

    /// It is durable.
    pub(super) fn written(&mut self) {
        self.is_writing = false;
        for region in core::mem::take(&mut self.writing) {
            if self.image.has(region) {
                self.durable.set(region);
            }
        }
        self.settled = self.taken;
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether all of the first so many are durable.
    pub(super) fn is_durable(&self, changes: u64) -> bool {
        self.settled >= changes
    }
}
