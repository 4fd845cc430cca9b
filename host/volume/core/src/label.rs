//! The label: what a copy durably is. It is kept with the backing (the driver gives it the last 8192 bytes of the file
//! or device), so that a backing is never believed on the word of something that lies elsewhere.
//!
//! # Layout
//!
//! Two slots of 4096 bytes, written in turn. The one with the higher sequence number counts. Little endian:
//!
//! ```text
//!   0  magic "mainstay volume 1\n"   24   what it is, for people too; zeroes behind it
//!  24  sequence                       8   which slot counts
//!  32  volume id                     16
//!  48  size                           8   bytes of the volume
//!  56  stamp                          8   of the log that belongs to it (V6): see below
//!  64  epoch counter                  8   the newest claim known (V2)
//!  72  contact                        8   ms since 1970: when the peer was last heard
//!  80  epoch side, side, state, flags 4   one byte each
//!  84  generations                    4   how many follow; at most 17
//!  88  generations, newest first  17×24   epoch 8, began 8, side 1, zeroes 7; the first is the copy's own
//! 496  gives up for                  24   as a generation; only if its flag is set
//! 520  entered                        8   which daemon has entered the claim by which this copy was promoted
//! 528  checksum                       8   XXH3 of the 528 bytes before it: last, so that it covers all
//! ```
//!
//! All of it beyond 512 bytes may be torn off from the rest by a crash: then the checksum is wrong, and the other slot,
//! which was not being written, counts. What the lost one said was never acknowledged, so nothing rests on it.
//!
//! # The log's stamp
//!
//! The log is elsewhere, and may be missing, foreign or older (V6). So both carry a stamp, which is raised whenever the
//! volume is opened and whenever the generation changes: first the label, saying that the new stamp is not *settled*;
//! then the log; then the label, settled. A settled label takes the log with its own stamp and no other. One that is not
//! settled takes the one before as well: nothing was written to the volume in between.

use alloc::vec;
use alloc::vec::Vec;

use mainstay_core::time::UnixMs;
use serde::{Deserialize, Serialize};

use crate::io::Block;
use crate::types::{Epoch, Generation, Side, VolumeId, checksum};

/// Bytes of a slot: what is written at once. Devices with sectors of 4096 bytes take nothing less.
pub const SLOT_BYTES: usize = 4096;
/// Bytes of the label.
pub const LABEL_BYTES: usize = 2 * SLOT_BYTES;
/// Generations that are remembered besides the own one. A copy that was away for more of them is taken for diverged:
/// nothing is overwritten.
pub const HISTORY_MAX: usize = 16;

const MAGIC: &[u8; 24] = b"mainstay volume 1\n\0\0\0\0\0\0";
const GENERATIONS: usize = 88;
const GENERATION_BYTES: usize = 24;
const GIVES_UP: usize = GENERATIONS + (HISTORY_MAX + 1) * GENERATION_BYTES;
const ENTERED: usize = GIVES_UP + GENERATION_BYTES;
const CHECKSUM: usize = ENTERED + 8;

const SETTLED: u8 = 1;
const EXCLUSIVE: u8 = 2;
const PAUSED: u8 = 4;
const SERVED: u8 = 8;
const GIVES_UP_FLAG: u8 = 16;
const OWN: u8 = 32;

/// What a copy durably is. Whether it is *up to date* or only *last known good* is a matter of contact, and not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DurableState {
    /// It had everything when the peer was last heard.
    Good,
    /// The source has gone on without it, or may have (V3).
    Outdated,
    /// In the middle of a resync (V12), created empty, or no longer to be believed (V10).
    Inconsistent,
}

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Grows with every write of it.
    pub sequence: u64,
    /// Which volume.
    pub volume: VolumeId,
    /// Which copy of it.
    pub side: Side,
    /// Bytes of the volume.
    pub size: u64,
    /// Of the log.
    pub stamp: u64,
    /// Whether the log has that stamp for certain.
    pub settled: bool,
    /// The newest claim known (V2).
    pub epoch: Epoch,
    /// By that claim this copy was promoted, and not the other one: for whom it was made, nobody was since.
    pub own: bool,
    /// Which daemon had entered that claim in its journal: one of the same name that another one has may be another claim.
    pub entered: u64,
    /// What it is.
    pub state: DurableState,
    /// Of the data.
    pub generation: Generation,
    /// Those before it, newest first, at most [`HISTORY_MAX`].
    pub history: Vec<Generation>,
    /// The generation was begun here, alone, and no other copy has all of it. While this is so, what V3 asks for before
    /// going on alone has been done.
    pub exclusive: bool,
    /// It is the source, or was when it ended: it may have something that the other copy never saw (V11).
    pub served: bool,
    /// The operator has paused the mirror.
    pub paused: bool,
    /// The survivor, for which this copy gives up its data (V11).
    pub gives_up_for: Option<Generation>,
    /// When the peer was last heard, by this node's wall clock.
    pub contact: UnixMs,
}

/// Why there is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Neither slot begins as one does.
    #[error("this backing has no label of a mainstay volume")]
    None,
    /// At least one does, and none can be read.
    #[error("the label of this backing is damaged")]
    Damaged,
}

impl Label {
    /// Of a new copy: the one that holds the data, or an empty one.
    #[must_use]
    pub fn new(volume: VolumeId, side: Side, size: u64, first: bool, now: UnixMs) -> Self {
        Self {
            sequence: 0,
            volume,
            side,
            size,
            stamp: 1,
            settled: true,
            epoch: Epoch::NONE,
            own: false,
            entered: 0,
            state: if first { DurableState::Good } else { DurableState::Inconsistent },
            generation: if first { Generation { epoch: 0, side, began: now } } else { Generation::BLANK },
            history: Vec::new(),
            exclusive: first,
            served: false,
            paused: false,
            gives_up_for: None,
            contact: now,
        }
    }

    /// Begins a generation (V3): the one before becomes history.
    pub fn begin(&mut self, generation: Generation) {
        self.history.insert(0, self.generation);
        self.history.truncate(HISTORY_MAX);
        self.generation = generation;
    }

    /// The block that has to be written to make this the label. The sequence number says which slot.
    #[must_use]
    pub fn encode(&self) -> Block {
        let mut bytes = vec![0; SLOT_BYTES];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, MAGIC);
        put(24, &self.sequence.to_le_bytes());
        put(32, &self.volume.0.to_le_bytes());
        put(48, &self.size.to_le_bytes());
        put(56, &self.stamp.to_le_bytes());
        put(64, &self.epoch.counter.to_le_bytes());
        put(72, &self.contact.0.to_le_bytes());
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        let flags = flag(self.settled, SETTLED)
            | flag(self.exclusive, EXCLUSIVE)
            | flag(self.paused, PAUSED)
            | flag(self.served, SERVED)
            | flag(self.gives_up_for.is_some(), GIVES_UP_FLAG)
            | flag(self.own, OWN);
        put(80, &[side_byte(self.epoch.side), side_byte(self.side), state_byte(self.state), flags]);
        let mut put_generation = |at: usize, generation: &Generation| {
            bytes[at..at + 8].copy_from_slice(&generation.epoch.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&generation.began.0.to_le_bytes());
            bytes[at + 16] = side_byte(generation.side);
        };
        let mut count = 0u32;
        for generation in core::iter::once(&self.generation).chain(self.history.iter().take(HISTORY_MAX)) {
            put_generation(GENERATIONS + count as usize * GENERATION_BYTES, generation);
            count += 1;
        }
        if let Some(generation) = &self.gives_up_for {
            put_generation(GIVES_UP, generation);
        }
        bytes[ENTERED..ENTERED + 8].copy_from_slice(&self.entered.to_le_bytes());
        bytes[84..88].copy_from_slice(&count.to_le_bytes());
        let sum = checksum(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..CHECKSUM + 8].copy_from_slice(&sum.to_le_bytes());
        Block { offset: (self.sequence % 2) * SLOT_BYTES as u64, bytes }
    }

    /// Reads the label from its [`LABEL_BYTES`] bytes.
    ///
    /// # Errors
    /// If no slot can be read. That a slot is torn is no error: it was never acknowledged.
    pub fn decode(bytes: &[u8]) -> Result<Self, LabelError> {
        let slots: Vec<&[u8]> = bytes.chunks_exact(SLOT_BYTES).take(2).collect();
        let best = slots.iter().filter_map(|slot| decode_slot(slot)).max_by_key(|label| label.sequence);
        best.ok_or(if slots.iter().any(|slot| slot.starts_with(MAGIC)) {
            LabelError::Damaged
        } else {
            LabelError::None
        })
    }
}

fn decode_slot(slot: &[u8]) -> Option<Label> {
    let u64_at = |at: usize| slot.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
    if !slot.starts_with(MAGIC) || u64_at(CHECKSUM)? != checksum(slot.get(..CHECKSUM)?) {
        return None;
    }
    let [epoch_side, side, state, flags] = slot.get(80..84)?.try_into().ok()?;
    let generation_at = |at: usize| {
        Some(Generation { epoch: u64_at(at)?, began: UnixMs(u64_at(at + 8)?), side: side_of(*slot.get(at + 16)?)? })
    };
    let count = u32::from_le_bytes(slot.get(84..88)?.try_into().ok()?) as usize;
    if !(1..=HISTORY_MAX + 1).contains(&count) {
        return None;
    }
    let mut generations =
        (0..count).map(|number| generation_at(GENERATIONS + number * GENERATION_BYTES)).collect::<Option<Vec<_>>>()?;
    let generation = generations.remove(0);
    Some(Label {
        sequence: u64_at(24)?,
        volume: VolumeId(u128::from_le_bytes(slot.get(32..48)?.try_into().ok()?)),
        side: side_of(side)?,
        size: u64_at(48)?,
        stamp: u64_at(56)?,
        settled: flags & SETTLED != 0,
        epoch: Epoch { counter: u64_at(64)?, side: side_of(epoch_side)? },
        state: state_of(state)?,
        generation,
        history: generations,
        own: flags & OWN != 0,
        entered: u64_at(ENTERED)?,
        exclusive: flags & EXCLUSIVE != 0,
        served: flags & SERVED != 0,
        paused: flags & PAUSED != 0,
        gives_up_for: if flags & GIVES_UP_FLAG != 0 { Some(generation_at(GIVES_UP)?) } else { None },
        contact: UnixMs(u64_at(72)?),
    })
}

fn side_byte(side: Side) -> u8 {
    match side {
        Side::A => 0,
        Side::B => 1,
    }
}

fn side_of(byte: u8) -> Option<Side> {
    match byte {
        0 => Some(Side::A),
        1 => Some(Side::B),
        _ => None,
    }
}

fn state_byte(state: DurableState) -> u8 {
    match state {
        DurableState::Good => 0,
        DurableState::Outdated => 1,
        DurableState::Inconsistent => 2,
    }
}

fn state_of(byte: u8) -> Option<DurableState> {
    match byte {
        0 => Some(DurableState::Good),
        1 => Some(DurableState::Outdated),
        2 => Some(DurableState::Inconsistent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(sequence: u64) -> Label {
        let mut label = Label::new(VolumeId(7), Side::B, 1 << 30, true, UnixMs(5));
        for epoch in 1..20 {
            label.begin(Generation { epoch, side: Side::A, began: UnixMs(epoch * 1000) });
        }
        label.gives_up_for = Some(Generation { epoch: 77, side: Side::B, began: UnixMs(9) });
        label.paused = true;
        label.entered = 1_700_000_000_000;
        label.epoch = Epoch { counter: 20, side: Side::B };
        label.sequence = sequence;
        label
    }

    fn disk(labels: &[Label]) -> Vec<u8> {
        let mut bytes = vec![0; LABEL_BYTES];
        for label in labels {
            let block = label.encode();
            let at = usize::try_from(block.offset).unwrap();
            bytes[at..at + block.bytes.len()].copy_from_slice(&block.bytes);
        }
        bytes
    }

    #[test]
    fn the_newer_slot_counts_and_comes_back_whole() {
        assert_eq!(Label::decode(&disk(&[label(4), label(5)])), Ok(label(5)));
        assert_eq!(Label::decode(&disk(&[label(6), label(5)])), Ok(label(6)));
        assert_eq!(label(1).history.len(), HISTORY_MAX);
    }

    #[test]
    fn a_torn_slot_gives_the_one_before() {
        let whole = disk(&[label(4), label(5)]);
        let mut newer = label(6);
        newer.state = DurableState::Outdated;
        newer.generation = Generation::BLANK;
        let after = disk(&[newer.clone(), label(5)]);
        // Each of the two sectors that hold something is on disk, or not.
        for sectors in 0..4usize {
            let mut torn = whole.clone();
            for sector in 0..2 {
                if sectors & (1 << sector) != 0 {
                    torn[sector * 512..(sector + 1) * 512].copy_from_slice(&after[sector * 512..(sector + 1) * 512]);
                }
            }
            let read = Label::decode(&torn);
            assert!(read == Ok(label(5)) || (sectors == 3 && read == Ok(newer.clone())), "{sectors}: {read:?}");
        }
    }

    #[test]
    fn no_flipped_bit_and_no_cut_is_believed() {
        let one = disk(&[label(4)]);
        for at in 0..CHECKSUM + 8 {
            let mut bytes = one.clone();
            bytes[at] ^= 1 << (at % 8);
            let wanted = if at < MAGIC.len() { LabelError::None } else { LabelError::Damaged };
            assert_eq!(Label::decode(&bytes), Err(wanted), "at {at}");
        }
        for length in 0..SLOT_BYTES {
            assert_eq!(Label::decode(&one[..length]), Err(LabelError::None));
        }
        assert_eq!(Label::decode(&vec![0; LABEL_BYTES]), Err(LabelError::None));
    }
}
