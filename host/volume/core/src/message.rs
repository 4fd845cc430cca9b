//! What the two copies say to each other, and its bytes.
//!
//! # On the wire
//!
//! A message is encoded with postcard (a varint for the variant, then its fields in order). It has no length of its own:
//! the driver frames it, and sends [`Message::data_bytes`] bytes of payload behind it. Variants are only ever added, at
//! the end; [`VERSION`] is in the greeting.
//!
//! # In which order
//!
//! ```text
//! both       Hello
//! source     Begin                  raises the epoch on the target, durably (V2)
//! target     Bits, Bits, .. , Ready what its own log has (V11)
//! source     Resync                 the union is durable in its log: the target is inconsistent, durably (V12)
//! target     Behind                 it is, and its own log is empty
//! source     Write, Zero, Flush, Copy, CopyZero, Check ..      target   Done, FlushDone, CopyDone, Checked ..
//! source     Whole                  all is copied, and both have flushed
//! target     UpToDate               it says so, durably
//! source     Write, Zero, Flush ..
//! source     End                    it is the source no longer
//! ```
//! With nothing to copy, `Whole` follows on `Ready` at once. Either side sends `Ping` when it has nothing else to say.

use alloc::boxed::Box;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::types::{Epoch, Extent, Generation, Region, Side, VolumeId};

/// Of the protocol.
pub const VERSION: u32 = 1;
/// The longest encoded message, in bytes, without its payload: what a driver refuses to take in.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Runs in one [`Message::Bits`]: five bytes each at the most, so that it fits.
pub const RUNS_MAX: usize = 8 * 1024;

/// What a copy says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`VERSION`].
    pub version: u32,
    /// Which volume.
    pub volume: VolumeId,
    /// Which copy of it.
    pub side: Side,
    /// Bytes.
    pub size: u64,
    /// The newest claim it knows.
    pub epoch: Epoch,
    /// Whether it is the source, by that claim.
    pub source: bool,
    /// What it durably is.
    pub state: crate::label::DurableState,
    /// Its generation.
    pub generation: Generation,
    /// The generations before it, newest first.
    pub history: Vec<Generation>,
    /// An operator has named this generation the survivor of a split brain; this copy gives up its own (V11).
    pub gives_up_for: Option<Generation>,
    /// Regions that its log has.
    pub dirty_regions: u32,
    /// Whether the mirror is paused on its side.
    pub paused: bool,
}

/// Names a write or a flush on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sent(pub u64);

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// First of all, from both.
    Hello(Box<Identity>),
    /// I am the source, and this is what I am by now.
    Begin(Box<Identity>),
    /// Part of my log: lengths of runs of clear and set bits in turn, clear ones first, from where the part before
    /// ended.
    Bits(Vec<u32>),
    /// That was all of my log, and I know your claim durably.
    Ready(Box<Identity>),
    /// Be inconsistent, durably, then empty your log: mine has it all.
    Resync {
        /// How many regions will be copied.
        regions: u32,
    },
    /// I am.
    Behind,
    /// Write what comes with it.
    Write {
        /// For the answer.
        id: Sent,
        /// Where.
        extent: Extent,
        /// Answer when it is durable.
        fua: bool,
        /// In async mode: nothing that comes later is begun before it is done (V7: order kept).
        barrier: bool,
    },
    /// Make it read as zeroes (V9).
    Zero {
        /// For the answer.
        id: Sent,
        /// Where.
        extent: Extent,
        /// Answer when it is durable.
        fua: bool,
        /// Whether the room may be given back.
        unmap: bool,
        /// As with a write.
        barrier: bool,
    },
    /// Everything that came before it is durable before it is answered.
    Flush {
        /// For the answer.
        id: Sent,
        /// As with a write.
        barrier: bool,
    },
    /// A write, zero or flush is done.
    Done {
        /// Which.
        id: Sent,
    },
    /// It is not, and this copy drops out (V10).
    Failed {
        /// Whether this copy has marked itself, durably: it needs a resync before it is promoted without force.
        marked: bool,
    },
    /// A region of a resync, with its bytes.
    Copy {
        /// Which.
        region: Region,
        /// How many bytes of it the volume has.
        length: u32,
        /// Of those bytes. The driver checks it before it hands the message in.
        checksum: u64,
    },
    /// A region of a resync that is all zero.
    CopyZero {
        /// Which.
        region: Region,
    },
    /// It is written, not flushed.
    CopyDone {
        /// Which.
        region: Region,
    },
    /// Does this region of yours have the same bytes (verify)?
    Check {
        /// Which.
        region: Region,
        /// Of mine.
        checksum: u64,
    },
    /// It has, or not.
    Checked {
        /// Which.
        region: Region,
        /// Whether.
        same: bool,
    },
    /// You have everything: be up to date, durably, and of this generation.
    Whole {
        /// Mine.
        generation: Generation,
        /// The ones before it.
        history: Vec<Generation>,
    },
    /// I am.
    UpToDate,
    /// I am no longer the source. Nothing is mirrored until one of us says [`Self::Begin`].
    End,
    /// Please pause the mirror (to the source), or: it is paused, be outdated, durably (to the target).
    Pause,
    /// I am outdated, durably.
    Outdated,
    /// There is a claim newer than yours.
    Superseded(Epoch),
    /// An operator has named the survivor of a split brain.
    Resolve(Side),
    /// I cannot give up my data: I serve it.
    ResolveRefused,
    /// I am still there.
    Ping,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not to be decoded.
    #[error("these bytes are no message of the mirror")]
    Undecodable,
    /// More behind it.
    #[error("{0} bytes are left over after a message of the mirror")]
    Leftover(usize),
    /// It is longer than it may be.
    #[error("a message of the mirror has {0} bytes, more than {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
}

impl Message {
    /// How many bytes of payload go with it.
    #[must_use]
    pub fn data_bytes(&self) -> u32 {
        match self {
            Self::Write { extent, .. } => extent.length,
            Self::Copy { length, .. } => *length,
            Self::Hello(_)
            | Self::Begin(_)
            | Self::Bits(_)
            | Self::Ready(_)
            | Self::Resync { .. }
            | Self::Behind
            | Self::Zero { .. }
            | Self::Flush { .. }
            | Self::Done { .. }
            | Self::Failed { .. }
            | Self::CopyZero { .. }
            | Self::CopyDone { .. }
            | Self::Check { .. }
            | Self::Checked { .. }
            | Self::Whole { .. }
            | Self::UpToDate
            | Self::End
            | Self::Pause
            | Self::Outdated
            | Self::Superseded(_)
            | Self::Resolve(_)
            | Self::ResolveRefused
            | Self::Ping => 0,
        }
    }

    /// Appends its bytes.
    #[must_use]
    pub fn encode(&self, out: Vec<u8>) -> Vec<u8> {
        postcard::to_extend(self, out).expect("plain values into memory: nothing that can fail")
    }

    /// Reads one from exactly these bytes.
    ///
    /// # Errors
    /// If they are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Malformed::TooLong(bytes.len()));
        }
        let (message, rest) = postcard::take_from_bytes(bytes).map_err(|_| Malformed::Undecodable)?;
        if rest.is_empty() { Ok(message) } else { Err(Malformed::Leftover(rest.len())) }
    }
}
