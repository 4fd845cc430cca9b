//! The plain values that everything else is said in.

use core::fmt;

use mainstay_core::time::UnixMs;
use serde::{Deserialize, Serialize};

/// What a crash never tears: the smallest piece that a disk writes, in bytes (VOLUME, the promise).
pub const SECTOR_BYTES: u64 = 512;
/// What one bit of the intent log stands for, in bytes. Small enough that a resync over a slow line copies little that
/// did not change, large enough that a 160 GB volume needs no more than 320 KiB of bits.
pub const REGION_BYTES: u64 = 64 * 1024;
/// The largest volume, in bytes: a region's number has 32 bits.
pub const VOLUME_BYTES_MAX: u64 = (u32::MAX as u64) * REGION_BYTES;

/// The checksum of labels, logs, resync data and regions: XXH3 with 64 bits. It finds damage, not malice.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

/// Names a volume for ever, chosen at random when it is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeId(pub u128);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Which of the two copies: `A` is on the node whose name sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// A claim, as the volume needs it: ordered by counter, then claimant (OWNERSHIP O1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// Grows with every change of owner.
    pub counter: u64,
    /// Whose node made the claim.
    pub side: Side,
}

impl Epoch {
    /// Before any claim.
    pub const NONE: Self = Self { counter: 0, side: Side::A };
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {} of side {}", self.counter, self.side)
    }
}

/// A generation of the data: it changes when a source goes on without its target, and when a copy is promoted by force
/// (V3). Two copies of one generation differ at most in regions that a log has. What names it makes it unique: who
/// began it, by which claim, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The claim by which it was begun.
    pub epoch: u64,
    /// Who began it.
    pub side: Side,
    /// When, on that node's wall clock: what people are told, and what keeps apart two that a copy of an old label
    /// would else give one name.
    pub began: UnixMs,
}

impl Generation {
    /// Of a copy that was created empty: everything is newer.
    pub const BLANK: Self = Self { epoch: 0, side: Side::A, began: UnixMs(0) };
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}/{}/{}", self.epoch, self.side, self.began.0)
    }
}

/// A region's number: its first byte is at number × [`REGION_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Region(pub u32);

impl Region {
    /// The region in which this byte is. None of a volume lies beyond 32 bits: sizes are checked when it is opened.
    #[must_use]
    pub fn of(offset: u64) -> Self {
        Self(u32::try_from(offset / REGION_BYTES).unwrap_or(u32::MAX))
    }

    /// Its first byte.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.0) * REGION_BYTES
    }

    /// How much of a volume of `size` bytes is in it.
    #[must_use]
    pub fn bytes(self, size: u64) -> u64 {
        size.saturating_sub(self.offset()).min(REGION_BYTES)
    }

    /// How many a volume of `size` bytes has.
    #[must_use]
    pub fn count(size: u64) -> u32 {
        u32::try_from(size.div_ceil(REGION_BYTES)).unwrap_or(u32::MAX)
    }
}

/// A piece of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
}

impl Extent {
    /// The byte after its last.
    #[must_use]
    pub fn end(self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// The regions that it touches: from, to (inclusive). One that has no length touches where it lies.
    #[must_use]
    pub fn regions(self) -> core::ops::RangeInclusive<u32> {
        Region::of(self.offset).0..=Region::of(self.end().saturating_sub(1).max(self.offset)).0
    }

    /// Whether they have a byte in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}
