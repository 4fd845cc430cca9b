//! The intent log on disk: one bit for each region, set durably before a write to that region starts on either copy
//! (V5), and cleared when both copies have flushed since.
//!
//! # Layout
//!
//! A file of its own, little endian. Everything is written in blocks of 4096 bytes.
//!
//! ```text
//!    0  header slot 0     4096   the two are written in turn; the one with the higher sequence number counts
//! 4096  header slot 1     4096
//! 8192  bits                     one sector of 512 bytes for every 3840 regions (240 MiB)
//!
//! header:   0  magic "mainstay intent 1\n"  24
//!          24  sequence                      8
//!          32  volume id                    16
//!          48  size of the volume            8
//!          56  stamp                         8   has to fit to the label's: see `label`
//!          64  generation, as in the label  24
//!          88  checksum                      8   XXH3 of the 88 bytes before it
//!
//! sector:   0  checksum                      8   XXH3 of the other 504 bytes, XOR both halves of the volume id
//!           8  sector number                 8   one that was written to the wrong place is not believed
//!          16  zeroes                       16
//!          32  bits                        480   lowest region first, lowest bit first
//! ```
//!
//! # Why so
//!
//! *Sectors that stand for themselves.* A crash tears a block only between sectors, and each sector is then its old or
//! its new self. Both are right: a bit that is not durable yet belongs to a write that has not begun, and one that is not
//! yet cleared costs a copy of a region that needed none. So bits are written in place, in any order, with no slots and
//! no journal, and a region that gets hot costs one write.
//!
//! *A checksum on each.* A sector that cannot be read, is cut off, was trimmed (all zeroes) or has a flipped bit is never
//! an empty set: all of its regions count as set (V6), and no others. *The volume id in it* makes one of another log
//! unreadable.
//!
//! *A header of its own.* A log from before the last opening or the last change of generation has every sector whole and
//! lacks bits; only its stamp gives it away. Then all regions count as set. Two slots, because a header says two things
//! that must change together, and a volume whose header is torn would have to be copied as a whole.

use alloc::vec;
use alloc::vec::Vec;

use mainstay_core::time::UnixMs;

use crate::bitmap::Bitmap;
use crate::io::Block;
use crate::label::Label;
use crate::types::{Generation, Region, Side, VolumeId, checksum};

/// Bytes of what is written at once.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Regions whose bits are in one sector.
pub const SECTOR_REGIONS: u32 = ((SECTOR - BITS) * 8) as u32;
/// Regions whose bits are in one block.
pub const BLOCK_REGIONS: u32 = SECTOR_REGIONS * (BLOCK_BYTES / SECTOR) as u32;

const BITS: usize = 32;
const HEADERS_BYTES: u64 = 2 * BLOCK_BYTES as u64;
const MAGIC: &[u8; 24] = b"mainstay intent 1\n\0\0\0\0\0\0";
const HEADER_CHECKSUM: usize = 88;

/// Bytes of the log of a volume of `size` bytes.
#[must_use]
pub fn log_bytes(size: u64) -> u64 {
    HEADERS_BYTES + u64::from(Region::count(size).div_ceil(BLOCK_REGIONS)) * BLOCK_BYTES as u64
}

/// What a log says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Grows with every write of it.
    pub sequence: u64,
    /// Which volume.
    pub volume: VolumeId,
    /// Bytes of the volume.
    pub size: u64,
    /// Has to fit to the label's.
    pub stamp: u64,
    /// The copy's, when this was written.
    pub generation: Generation,
}

/// Why a log is not believed at all (V6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// There is none, or its header cannot be read.
    #[error("the intent log is missing, or its header cannot be read")]
    Unreadable,
    /// It is of another volume, or of another size.
    #[error("the intent log belongs to volume {0}")]
    Foreign(VolumeId),
    /// It is not the one that was written last.
    #[error("the intent log has stamp {log}, the label of the backing asks for {label}")]
    Stale {
        /// The log's.
        log: u64,
        /// The label's.
        label: u64,
    },
}

/// What a log gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Regions that may differ: all of them, if the log is not believed.
    pub dirty: Bitmap,
    /// The header's sequence number; 0 if there is none.
    pub sequence: u64,
    /// Why it is not believed.
    pub error: Option<LogError>,
    /// Sectors of which nothing is believed: all of their regions are dirty.
    pub sectors_damaged: u32,
    /// Blocks that have to be written anew.
    pub blocks_damaged: Vec<u32>,
}

/// The regions that may differ, by the whole of the log's bytes (as many as there are) and the label.
#[must_use]
pub fn replay(bytes: &[u8], label: &Label) -> Replay {
    let regions = Region::count(label.size);
    let (header, error) = match believe(bytes, label) {
        Ok(header) => (Some(header), None),
        Err((header, error)) => (header, Some(error)),
    };
    let sequence = header.map_or(0, |header| header.sequence);
    if error.is_some() {
        let blocks_damaged = (0..regions.div_ceil(BLOCK_REGIONS)).collect();
        return Replay { dirty: Bitmap::full(regions), sequence, error, sectors_damaged: 0, blocks_damaged };
    }
    let mut dirty = Bitmap::empty(regions);
    let (mut sectors_damaged, mut blocks_damaged) = (0, Vec::new());
    for sector in 0..regions.div_ceil(SECTOR_REGIONS) {
        let at = HEADERS_BYTES as usize + sector as usize * SECTOR;
        match bytes.get(at..at + SECTOR).filter(|bytes| is_sector(bytes, sector, label.volume)) {
            Some(bytes) => {
                for (index, word) in bytes[BITS..].chunks_exact(8).enumerate() {
                    let word = word.try_into().map_or(u64::MAX, u64::from_le_bytes);
                    if word != 0 {
                        dirty.unite_word(sector as usize * (SECTOR_REGIONS / 64) as usize + index, word);
                    }
                }
            }
            None => {
                dirty.set_range(sector * SECTOR_REGIONS, (sector + 1).saturating_mul(SECTOR_REGIONS));
                sectors_damaged += 1;
                let block = sector * SECTOR as u32 / BLOCK_BYTES as u32;
                if blocks_damaged.last() != Some(&block) {
                    blocks_damaged.push(block);
                }
            }
        }
    }
    Replay { dirty, sequence, error: None, sectors_damaged, blocks_damaged }
}

/// Whether the log belongs to the label.
fn believe(bytes: &[u8], label: &Label) -> Result<Header, (Option<Header>, LogError)> {
    let slots = bytes.chunks_exact(BLOCK_BYTES).take(2);
    let header = slots.filter_map(Header::decode).max_by_key(|header| header.sequence);
    let header = header.ok_or((None, LogError::Unreadable))?;
    if (header.volume, header.size) != (label.volume, label.size) {
        return Err((Some(header), LogError::Foreign(header.volume)));
    }
    let this = header.stamp == label.stamp && header.generation == label.generation;
    let before = !label.settled && header.stamp + 1 == label.stamp;
    if this || before {
        Ok(header)
    } else {
        Err((Some(header), LogError::Stale { log: header.stamp, label: label.stamp }))
    }
}

fn is_sector(bytes: &[u8], sector: u32, volume: VolumeId) -> bool {
    let u64_at = |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    u64_at(0) == Some(sector_checksum(&bytes[8..], volume)) && u64_at(8) == Some(u64::from(sector))
}

fn sector_checksum(bytes: &[u8], VolumeId(volume): VolumeId) -> u64 {
    checksum(bytes) ^ (volume as u64) ^ ((volume >> 64) as u64)
}

/// The block of a log that has the bits of the regions from `number` × [`BLOCK_REGIONS`] on.
#[must_use]
pub fn encode_block(dirty: &Bitmap, number: u32, volume: VolumeId) -> Block {
    let mut bytes = vec![0; BLOCK_BYTES];
    let sectors = (BLOCK_BYTES / SECTOR) as u32;
    for (sector, bytes) in (number * sectors..).zip(bytes.chunks_exact_mut(SECTOR)) {
        bytes[8..16].copy_from_slice(&u64::from(sector).to_le_bytes());
        let first = sector as usize * (SECTOR_REGIONS / 64) as usize;
        for (index, chunk) in bytes[BITS..].chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&dirty.word(first + index).to_le_bytes());
        }
        let sum = sector_checksum(&bytes[8..], volume);
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
    }
    Block { offset: HEADERS_BYTES + u64::from(number) * BLOCK_BYTES as u64, bytes }
}

/// A whole new log, in the order in which it has to be written: the header last.
#[must_use]
pub fn encode(dirty: &Bitmap, label: &Label, sequence: u64) -> Vec<Block> {
    let blocks = dirty.regions().div_ceil(BLOCK_REGIONS);
    let mut blocks: Vec<Block> = (0..blocks).map(|number| encode_block(dirty, number, label.volume)).collect();
    blocks.push(Header::of(label, sequence).encode());
    blocks
}

impl Header {
    /// Of the log that belongs to this label.
    #[must_use]
    pub fn of(label: &Label, sequence: u64) -> Self {
        Self { sequence, volume: label.volume, size: label.size, stamp: label.stamp, generation: label.generation }
    }

    /// The block that has to be written. The sequence number says which slot.
    #[must_use]
    pub fn encode(&self) -> Block {
        let mut bytes = vec![0; BLOCK_BYTES];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, MAGIC);
        put(24, &self.sequence.to_le_bytes());
        put(32, &self.volume.0.to_le_bytes());
        put(48, &self.size.to_le_bytes());
        put(56, &self.stamp.to_le_bytes());
        put(64, &self.generation.epoch.to_le_bytes());
        put(72, &self.generation.began.0.to_le_bytes());
        put(80, &[u8::from(self.generation.side == Side::B)]);
        let sum = checksum(&bytes[..HEADER_CHECKSUM]);
        bytes[HEADER_CHECKSUM..HEADER_CHECKSUM + 8].copy_from_slice(&sum.to_le_bytes());
        Block { offset: (self.sequence % 2) * BLOCK_BYTES as u64, bytes }
    }

    /// Reads a slot.
    #[must_use]
    pub fn decode(slot: &[u8]) -> Option<Self> {
        let u64_at = |at: usize| slot.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        if !slot.starts_with(MAGIC) || u64_at(HEADER_CHECKSUM)? != checksum(&slot[..HEADER_CHECKSUM]) {
            return None;
        }
        let side = if slot[80] == 0 { Side::A } else { Side::B };
        Some(Self {
            sequence: u64_at(24)?,
            volume: VolumeId(u128::from_le_bytes(slot.get(32..48)?.try_into().ok()?)),
            size: u64_at(48)?,
            stamp: u64_at(56)?,
            generation: Generation { epoch: u64_at(64)?, began: UnixMs(u64_at(72)?), side },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Large enough for a block and a sector of another one.
    const REGIONS: u32 = BLOCK_REGIONS + 100;
    const SIZE: u64 = REGIONS as u64 * 65_536;

    fn label() -> Label {
        let mut label = Label::new(VolumeId(0x1234_5678_9abc_def0 << 64 | 99), Side::A, SIZE, true, UnixMs(1));
        label.stamp = 8;
        label
    }

    fn bits(set: &[u32]) -> Bitmap {
        let mut bits = Bitmap::empty(REGIONS);
        for region in set {
            bits.set(Region(*region));
        }
        bits
    }

    fn disk(blocks: &[Block]) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(log_bytes(SIZE)).unwrap()];
        for block in blocks {
            let at = usize::try_from(block.offset).unwrap();
            bytes[at..at + block.bytes.len()].copy_from_slice(&block.bytes);
        }
        bytes
    }

    #[test]
    fn what_was_written_comes_back() {
        let set = bits(&[0, 63, 64, 3839, 3840, 9000, BLOCK_REGIONS - 1, BLOCK_REGIONS, REGIONS - 1]);
        let read = replay(&disk(&encode(&set, &label(), 3)), &label());
        assert_eq!((&read.dirty, read.sequence, read.error, read.sectors_damaged), (&set, 3, None, 0));
    }

    #[test]
    fn a_log_that_is_missing_foreign_older_or_unreadable_is_a_full_resync() {
        let check = |bytes: &[u8], label: &Label, error: LogError| {
            let read = replay(bytes, label);
            assert_eq!((read.error, read.dirty.count()), (Some(error), REGIONS), "V6");
        };
        let good = disk(&encode(&bits(&[5]), &label(), 3));
        check(&[], &label(), LogError::Unreadable);
        check(&vec![0; good.len()], &label(), LogError::Unreadable);
        let mut flipped = good.clone();
        flipped[BLOCK_BYTES + 60] ^= 4;
        check(&flipped, &label(), LogError::Unreadable);
        let other = Label { volume: VolumeId(1), ..label() };
        check(&good, &other, LogError::Foreign(label().volume));
        check(&good, &Label { size: SIZE - 1, ..label() }, LogError::Foreign(label().volume));
        check(&good, &Label { stamp: 9, ..label() }, LogError::Stale { log: 8, label: 9 });
        check(&good, &Label { stamp: 7, ..label() }, LogError::Stale { log: 8, label: 7 });
        check(&good, &Label { stamp: 10, settled: false, ..label() }, LogError::Stale { log: 8, label: 10 });
        let newer = Generation { epoch: 9, side: Side::A, began: UnixMs(3) };
        check(&good, &Label { generation: newer, ..label() }, LogError::Stale { log: 8, label: 8 });
    }

    #[test]
    fn a_label_that_is_not_settled_takes_this_log_and_the_one_before() {
        let good = disk(&encode(&bits(&[5]), &label(), 3));
        for stamp in [8, 9] {
            let read = replay(&good, &Label { stamp, settled: false, ..label() });
            assert_eq!((read.error, read.dirty), (None, bits(&[5])));
        }
    }

    #[test]
    fn a_sector_that_is_not_believed_is_never_an_empty_set() {
        let set = bits(&[5, 5000]);
        let good = disk(&encode(&set, &label(), 3));
        let second = HEADERS_BYTES as usize + SECTOR;
        // A flipped bit anywhere, zeroes (trimmed), a sector of another place, the file cut off.
        let mut broken: Vec<Vec<u8>> = (0..SECTOR)
            .map(|at| {
                let mut bytes = good.clone();
                bytes[second + at] ^= 1 << (at % 8);
                bytes
            })
            .collect();
        let mut zeroes = good.clone();
        zeroes[second..second + SECTOR].fill(0);
        let mut misplaced = good.clone();
        misplaced.copy_within(second - SECTOR..second, second);
        broken.extend([zeroes, misplaced]);
        for bytes in broken {
            let read = replay(&bytes, &label());
            assert_eq!((read.error, read.sectors_damaged, read.blocks_damaged), (None, 1, vec![0]), "V6");
            assert_eq!(read.dirty.count(), SECTOR_REGIONS + 1);
            assert!(read.dirty.has(Region(5)) && read.dirty.has(Region(SECTOR_REGIONS)));
        }
        let read = replay(&good[..second], &label());
        assert_eq!(read.dirty.count(), REGIONS - SECTOR_REGIONS + 1, "V6: cut off");
    }

    #[test]
    fn a_torn_block_has_what_was_durable_before() {
        let (before, after) = (bits(&[1, 4000, 8000]), bits(&[1, 2, 4000, 4001, 8001]));
        let (old, new) = (disk(&encode(&before, &label(), 3)), disk(&encode(&after, &label(), 3)));
        for sectors in 0..8usize {
            let mut torn = old.clone();
            for sector in (0..3).filter(|sector| sectors & (1 << sector) != 0) {
                let at = HEADERS_BYTES as usize + sector * SECTOR;
                torn[at..at + SECTOR].copy_from_slice(&new[at..at + SECTOR]);
            }
            let read = replay(&torn, &label());
            assert_eq!(read.sectors_damaged, 0);
            // What both have is there, whatever was torn.
            assert!([1, 4000].iter().all(|region| read.dirty.has(Region(*region))), "V5");
        }
    }
}
