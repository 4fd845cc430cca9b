//! The intent log in memory: which regions are durable in it, which are hot, and which have to be copied (V5).
//!
//! ```text
//!             not in the log ──want──> asked for ──durable──> hot ──under way──> hot
//!                   ^                                          │ both flushed since   │ peer lost
//!                   └────────────── cleared ───────────────────┘                      v
//!                                                     hot <──copied── away (to be copied)
//! ```
//! More is asked for than what is written, so that fewer writes wait for the log: the neighbours of a region while there
//! is much room, the more the more regions are in use, and what lies before a writer that goes on where it was ([`Writer`]). As long as no write to them has
//! begun, such regions are the same on both copies, and are not copied when the peer is lost.
//!
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

/// Which part of the hot set is kept free: what a fast sequential writer uses up in a tenth of a second.
const ROOM_SHARE: u32 = 16;
/// Writers that are followed at a time: a file system's journal and a few large files.
const WRITERS: usize = 4;
/// Regions that are asked for ahead of a writer at the most: 4 MiB, a few milliseconds of a fast disk.
const AHEAD_MAX: u32 = 64;

/// Neighbours that are asked for together at the least: 1 MiB, at a boundary of it.
const NEIGHBOURS_MIN: u32 = 16;
/// And at the most, 8 MiB, by somebody who writes all over the volume.
const NEIGHBOURS_MAX: u32 = 128;
/// Which part of the regions that are in use as many neighbours may be.
const NEIGHBOURS_SHARE: u32 = 4;

/// Somebody who writes region after region.
#[derive(Clone, Copy, Debug, Default)]
struct Writer {
    /// The first region that was not asked for.
    next: u32,
    /// How many were, at one time.
    ahead: u32,
}

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
    /// Hot, and no write has begun since they were asked for.
    untouched: Bitmap,
    writers: [Writer; WRITERS],
    /// Whose place the next one takes.
    writer_oldest: usize,
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
            untouched: Bitmap::empty(regions),
            writers: [Writer::default(); WRITERS],
            writer_oldest: 0,
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
            self.ask(region, now);
            let Region(first) = region;
            let ahead = first..first.saturating_add(self.ahead(region));
            let neighbours = self.neighbours();
            let around = first & !neighbours.saturating_sub(1);
            let around = around..around.saturating_add(neighbours);
            ahead.chain(around).for_each(|region| self.ask(Region(region), now));
        }
        planted::is(Bug::BitLate)
    }

    /// How many regions are to be asked for from this one on, it included: more than one for a writer that goes on where
    /// it was, and only as far as there is room that nothing has to be cleared for.
    fn ahead(&mut self, region: Region) -> u32 {
        let room = self.hot_full().saturating_sub(self.hot_count()).max(1);
        let ahead = match self.writers.iter_mut().find(|writer| writer.ahead > 0 && writer.next == region.0) {
            Some(writer) => {
                writer.ahead = (writer.ahead * 2).min(AHEAD_MAX).min(room);
                writer.next = region.0.saturating_add(writer.ahead);
                writer.ahead
            }
            None => {
                self.writers[self.writer_oldest] = Writer { next: region.0.saturating_add(1), ahead: 1 };
                self.writer_oldest = (self.writer_oldest + 1) % WRITERS;
                1
            }
        };
        ahead.min(room)
    }

    /// From now on it is hot, if it was not.
    fn ask(&mut self, region: Region, now: Monotonic) {
        if region.0 < self.image.regions() && !self.image.has(region) {
            self.put(region);
            self.untouched.set(region);
            let last = self.done;
            let hot = self.hot.entry(region).or_default();
            (hot.last, hot.at) = (last, now);
        }
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
            self.untouched.clear(region);
            self.blocks.insert(region.0 / BLOCK_REGIONS);
            self.changes += 1;
        }
    }

    /// A write to it starts; on this copy only, or on both.
    pub(super) fn begin(&mut self, region: Region, mirrored: bool) {
        self.hot.entry(region).or_default().under_way += 1;
        self.untouched.clear(region);
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

    /// Whatever is in the log, and not only asked for, may be otherwise on the peer's copy from now on.
    pub(super) fn peer_lost(&mut self) {
        self.away.unite(&self.image);
        for region in self.untouched.iter() {
            self.away.clear(region);
        }
        let untouched = &self.untouched;
        self.hot.retain(|region, hot| hot.under_way > 0 || untouched.has(*region));
    }

    /// The peer's bits (V11): all that either has is to be copied.
    pub(super) fn merge(&mut self, theirs: &Bitmap) {
        if !planted::is(Bug::OwnBitsOnly) {
            for region in theirs.iter() {
                self.untouched.clear(region);
                self.put(region);
            }
        }
        self.peer_lost();
    }

    /// This one differs (verify).
    pub(super) fn differs(&mut self, region: Region) {
        self.untouched.clear(region);
        self.put(region);
        self.away.set(region);
    }

    /// All of them do.
    pub(super) fn all_differ(&mut self) {
        self.untouched.clear_all();
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
        self.untouched.clear_all();
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
        self.hot_count() > self.hot_full()
    }

    /// How many neighbours are asked for together: a power of two, or none where there is not much room. The more
    /// regions are in use the more, so that what a crash of the source has copied in vain stays in proportion to what was
    /// written, and somebody who writes all over a volume soon waits for the log no more.
    fn neighbours(&self) -> u32 {
        let in_use = self.hot_count() - self.untouched.count().min(self.hot_count());
        let share = (in_use / NEIGHBOURS_SHARE).clamp(NEIGHBOURS_MIN, NEIGHBOURS_MAX);
        let neighbours = 1 << share.ilog2();
        if self.hot_count() + neighbours <= self.hot_max - self.hot_max / 4 { neighbours } else { 0 }
    }

    /// Beyond that, room is short. What is left must do until both copies have flushed; what is cleared before it has to
    /// be is written to the log once more.
    fn hot_full(&self) -> u32 {
        self.hot_max - self.hot_max.div_ceil(ROOM_SHARE)
    }

    fn cools(&self, hot: &Hot, after: Millis, now: Monotonic) -> bool {
        hot.under_way == 0 && (hot.at + after <= now || self.is_full())
    }

    /// Whether a flush of both copies would let something be cleared that is not in use or in the way.
    pub(super) fn wants_flush(&self, after: Millis, now: Monotonic) -> bool {
        self.hot.values().any(|hot| hot.last > self.covered && self.cools(hot, after, now))
    }

    /// Clears what is covered by a flush of both and not in use: what was not written for so long, and when the hot set
    /// is nearly full as much of what is longest unused as was to be kept free.
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
            let short = (self.hot_count() - self.hot_full() + self.hot_max.div_ceil(ROOM_SHARE)) as usize;
            let aged = cold.iter().filter(|(_, region)| self.hot[region].at + after <= now).count();
            cold.truncate(short.max(aged));
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
