//! What goes into a [`crate::volume::Volume`] and what comes out.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use mainstay_core::time::{Millis, Monotonic};

use crate::message::Message;
use crate::status::Event;
use crate::types::{Epoch, Extent, Generation, Side, VolumeId};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])* #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)] pub struct $name(pub u64);)*
    };
}

numbers! {
    /// A client's request. The driver numbers them; a number is free again after its [`Output::Reply`].
    RequestId,
    /// A client's connection. Shown to nobody; requests of all of them are one stream (V8).
    ConnectionId,
    /// A message from the peer that came with data. The driver numbers them and never uses one again.
    ReceivedId,
    /// A [`Output::Disk`]. Never used again.
    DiskId,
    /// A write of the label or the log.
    WriteId,
    /// One connection to the peer. The driver numbers them upwards.
    LinkId,
    /// A question to the host, or from it.
    Token,
    /// An operator's request.
    OperatorId,
}

/// What a client asks for. Offsets and lengths are multiples of [`crate::types::SECTOR_BYTES`] or are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Fill the request's buffer from here.
    Read(Extent),
    /// Write the request's buffer here.
    Write {
        /// Where.
        extent: Extent,
        /// Answer only when it is durable (V7).
        fua: bool,
    },
    /// TRIM and WRITE_ZEROES are the same to us: afterwards it reads as zeroes on both copies (V9).
    Zero {
        /// Where.
        extent: Extent,
        /// Answer only when it is durable.
        fua: bool,
        /// Whether the room may be given back (TRIM, or WRITE_ZEROES without NO_HOLE).
        unmap: bool,
    },
    /// What was answered before, on any connection, is durable before this is answered (V8).
    Flush,
}

/// Why a request was answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// EPERM.
    #[error("this copy is not the source, or its right to write has ended")]
    NoRight,
    /// EIO. V1: nothing is held for longer.
    #[error("it could not be done within the stall time")]
    Stalled,
    /// EIO.
    #[error("the backing of this copy has failed")]
    Backing,
    /// EINVAL.
    #[error("the offset or length is no multiple of 512, or beyond the end of the volume")]
    Invalid,
    /// EIO: the driver took more than [`crate::volume::REQUESTS_MAX`].
    #[error("too many requests at once")]
    TooMany,
}

/// Where bytes are that the core never sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// In the buffer of a client's request. It lives until the [`Output::Reply`], and as long as a disk operation or a
    /// message that names it is still under way in the driver.
    Request(RequestId),
    /// What came with a message of the peer. It lives until the [`Output::Disk`] that names it is done, or
    /// [`Output::Forget`].
    Received(ReceivedId),
    /// What a [`DiskOp::Read`] has read for a resync. It lives until the [`Output::Send`] that names it is sent, or
    /// [`Output::Forget`].
    Read(DiskId),
}

/// What is done with the backing. Operations that are out at the same time may be done in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOp {
    /// For a client: into the buffer of its request ([`Data::Request`]).
    ReadFor(RequestId, Extent),
    /// For a resync: into a buffer that is [`Data::Read`] from now on. Answered by [`DiskDone::Read`].
    Read(Extent),
    /// Both for verify: read, and tell the checksum. Answered by [`DiskDone::Checksum`].
    Checksum(Extent),
    /// Write.
    Write {
        /// Where.
        extent: Extent,
        /// Done only when durable.
        fua: bool,
        /// What: its length is the extent's.
        data: Data,
    },
    /// Make it read as zeroes. What gives no zeroes for certain (a discard) does not do.
    Zero {
        /// Where.
        extent: Extent,
        /// Done only when durable.
        fua: bool,
        /// Whether the room may be given back.
        unmap: bool,
    },
    /// Everything that was done before it is durable when it is done.
    Flush,
}

/// How a disk operation went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// A client's read, a write, a zero, a flush.
    Done,
    /// [`DiskOp::Read`].
    Read {
        /// [`crate::types::checksum`] of what was read.
        checksum: u64,
        /// All of it is zero: then it is not sent.
        zero: bool,
    },
    /// [`DiskOp::Checksum`].
    Checksum(u64),
}

/// How it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// The error number that the system gave, e.g. 5 (EIO) or 28 (ENOSPC).
    Errno(i32),
}

/// A piece of the label or the log to be written, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// From the beginning of the label or the log.
    pub offset: u64,
    /// A multiple of 4096 of them.
    pub bytes: Vec<u8>,
}

/// On what a promotion rests (V4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Nothing: only an up to date copy is promoted.
    Free,
    /// The operator's word, with the time of last contact shown.
    Confirmed,
    /// Over comm paths alone.
    Automatic {
        /// The mirror link and all comm paths fell silent within one dead time.
        together: bool,
    },
    /// The claim is in the arbiter.
    Arbiter {
        /// Whether the arbiter says that this copy is outdated.
        marked: bool,
    },
    /// The operator's, who was shown what may be lost ([`crate::status::Promotion`]). Audited.
    Force,
}

/// How the peer was marked outdated, or why not (V3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It is durable.
    Done,
    /// Nobody could be asked, or nobody answered.
    Unreachable,
    /// There is a newer claim: this copy may not go on.
    Superseded(Epoch),
    /// The target says that it is in contact with this copy, or that it has more than this one: it is not marked.
    InContact,
}

/// What an operator asks for. Each is answered by [`Output::Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorRequest {
    /// Become the source. Needs a right ([`Input::Right`]).
    Promote(Basis),
    /// Become a target: answered when everything is durable on both copies, and no request is served any more.
    Demote,
    /// Go on without the peer until [`Self::Resume`], across restarts.
    Pause,
    /// Meet the peer again.
    Resume,
    /// Compare all regions of both copies. Answered when it has begun; [`Event::Verified`] tells how it ended.
    Verify,
    /// This copy is not to be believed: copy all of it again.
    Invalidate,
    /// After a split brain: this side's data survives, the other's is given up (V11).
    Resolve(Side),
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A client asks.
    Request {
        /// The driver's number for it.
        id: RequestId,
        /// Over which connection.
        connection: ConnectionId,
        /// What.
        kind: RequestKind,
    },
    /// A disk operation is done.
    Disk {
        /// Which.
        id: DiskId,
        /// How.
        result: Result<DiskDone, DiskError>,
    },
    /// [`Output::WriteLog`] or [`Output::WriteLabel`] is durable, or never will be.
    Written {
        /// Which.
        id: WriteId,
        /// How.
        result: Result<(), DiskError>,
    },
    /// A connection to the peer is there: both certificates are good. The one before is gone.
    LinkUp(LinkId),
    /// It is gone. Nothing of it comes any more.
    LinkDown(LinkId),
    /// The peer says something.
    Received {
        /// Over which connection.
        link: LinkId,
        /// What.
        message: Message,
        /// What came with it: there if and only if [`Message::data_bytes`] is not 0.
        data: Option<ReceivedId>,
    },
    /// The host gives the right to write, or makes it longer (V1).
    Right {
        /// The claim it comes from.
        epoch: Epoch,
        /// Which of the host's daemons has entered that claim in its journal: of another one it is another claim, if only by
        /// this. 0 if there is no telling.
        entered: u64,
        /// When it ends, if there is an arbiter (OWNERSHIP O13).
        until: Option<Monotonic>,
    },
    /// The host takes it back, or has seen a newer claim.
    RightEnded,
    /// The answer to [`Output::MarkPeer`] or [`Output::MarkArbiter`].
    Marked {
        /// Which question.
        token: Token,
        /// What came of it.
        outcome: Marked,
    },
    /// The peer's source asks over a comm path that this copy is marked outdated (V3).
    AskedOutdated {
        /// For [`Output::AnswerMark`].
        token: Token,
        /// The claim of the one who asks.
        epoch: Epoch,
        /// The generation from which it goes on alone.
        generation: Generation,
    },
    /// An operator, or a kit for one, asks.
    Operator {
        /// For [`Output::Answer`].
        id: OperatorId,
        /// What.
        request: OperatorRequest,
    },
    /// Nothing has happened until the time that [`crate::volume::Volume::poll_timeout`] said.
    Tick,
}

/// What is to be done. All of it at once and in this order: none waits for another one. What rests on something durable
/// comes out only when that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Do it, and say so with [`Input::Disk`].
    Disk {
        /// Its number.
        id: DiskId,
        /// What.
        op: DiskOp,
    },
    /// Write all of these to the intent log, make them durable, then say so with [`Input::Written`]. Blocks may be torn
    /// or written in any order.
    WriteLog {
        /// Its number.
        id: WriteId,
        /// What.
        blocks: Vec<Block>,
    },
    /// The same, to the label.
    WriteLabel {
        /// Its number.
        id: WriteId,
        /// What.
        block: Block,
    },
    /// Tell the peer. What is told on one link arrives in this order, or not at all from somewhere on.
    Send {
        /// On which connection. If it is gone, nothing is to be done.
        link: LinkId,
        /// What.
        message: Message,
        /// What goes with it.
        data: Option<Data>,
    },
    /// End this connection, and make a new one when that is possible. [`Input::LinkDown`] is not waited for.
    CloseLink {
        /// Which.
        link: LinkId,
        /// Why.
        why: LinkEnd,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        id: RequestId,
        /// How.
        result: Result<(), RequestError>,
    },
    /// These bytes are not needed any more.
    Forget(Data),
    /// Ask the peer's copy, over any path that works, to mark itself outdated (its [`Input::AskedOutdated`]). Answered
    /// by [`Input::Marked`], at the latest after [`Config::mark_timeout`].
    MarkPeer {
        /// For the answer.
        token: Token,
        /// This copy's claim.
        epoch: Epoch,
        /// The generation it goes on from.
        generation: Generation,
    },
    /// Say in the arbiter that the peer's copy is outdated or not any more, by compare-and-swap on this copy's own
    /// claim. In order; answered by [`Input::Marked`].
    MarkArbiter {
        /// For the answer.
        token: Token,
        /// The claim that must be the newest there.
        epoch: Epoch,
        /// Whether it is.
        outdated: bool,
    },
    /// The answer to [`Input::AskedOutdated`].
    AnswerMark {
        /// Which question.
        token: Token,
        /// What came of it.
        outcome: Marked,
    },
    /// The answer to an operator.
    Answer {
        /// Which request.
        id: OperatorId,
        /// Done, or why not.
        result: Result<(), Refusal>,
    },
    /// Something people want to know.
    Report(Box<Event>),
}

/// Why a connection to the peer is ended from here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// Nothing was heard, or something was not answered in time.
    #[error("the peer has not answered for {0}")]
    Silent(Millis),
    /// It has no business here.
    #[error("the peer's copy does not fit: {0}")]
    Refused(Misfit),
    /// What it said makes no sense now.
    #[error("the peer said {0} when that makes no sense")]
    Protocol(&'static str),
    /// Roles have changed: greet anew.
    #[error("the roles of the two copies have changed")]
    Anew,
    /// An operator wants it so.
    #[error("the mirror is paused")]
    Paused,
    /// This copy's own backing does not do.
    #[error("the backing of this copy has failed")]
    Backing,
}

/// Why two copies do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Different versions of the protocol.
    #[error("it speaks version {theirs} of the mirror's protocol, this one {ours}")]
    Version {
        /// This one's.
        ours: u32,
        /// The peer's.
        theirs: u32,
    },
    /// Another volume.
    #[error("it is a copy of volume {theirs}, this one is of {ours}")]
    Volume {
        /// This one's.
        ours: VolumeId,
        /// The peer's.
        theirs: VolumeId,
    },
    /// The same side twice.
    #[error("both copies are side {0}")]
    Side(Side),
    /// V13.
    #[error("it has {theirs} bytes, this one has {ours}; the two sizes have to be equal")]
    Size {
        /// This one's.
        ours: u64,
        /// The peer's.
        theirs: u64,
    },
}

/// Why an operator's request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Promotion without a right.
    #[error("the host has given no right to write, or it has ended")]
    NoRight,
    /// V4.
    #[error("a copy that is {state} is not promoted on this basis: {what}")]
    Copy {
        /// What it is.
        state: String,
        /// What it would take.
        what: String,
    },
    /// V10.
    #[error("the backing of this copy has failed: {0}")]
    Backing(String),
    /// It is in the way.
    #[error("{0}")]
    Not(&'static str),
    /// It was not done in time.
    #[error("not done within the stall time")]
    Stalled,
    /// A newer request took its place.
    #[error("superseded by another request")]
    Superseded,
}

/// When writes are answered (V7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When both copies have them; flushes and FUA writes when both have them durable.
    Sync,
    /// When the source has them; the target may be so far behind.
    Async {
        /// Bytes that are sent and not yet applied.
        lag_bytes_max: u64,
        /// How long ago the oldest of them was sent.
        lag_max: Millis,
    },
}

/// What a copy is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The volume it is meant to be.
    pub volume: VolumeId,
    /// The side it is meant to be.
    pub side: Side,
    /// Bytes of the backing without the label.
    pub backing_bytes: u64,
    /// When writes are answered.
    pub mode: Mode,
    /// Whether there is an arbiter: then there is no going alone without a mark (V3).
    pub arbiter: bool,
    /// No request is held for longer (V1).
    pub stall_time: Millis,
    /// A peer from which nothing came for so long, or that has not answered something for so long, is gone. Less than
    /// half of the stall time, so that there is time to go on alone.
    pub peer_timeout: Millis,
    /// How long a peer has to come back before the source sets out to go on alone.
    pub alone_after: Millis,
    /// How long the host may take to have the peer marked over comm paths.
    pub mark_timeout: Millis,
    /// How many regions may be hot (V5): what a resync after a crash of the source copies at the most.
    pub hot_regions_max: u32,
    /// Regions that were not written for so long are cleared from the log.
    pub cool_after: Millis,
    /// What a resync and a verify may use of the line, in bytes a second; none: all of it.
    pub resync_bytes_per_s: Option<u64>,
    /// Regions under way in a resync.
    pub resync_regions_max: u32,
}

impl Config {
    /// With the defaults.
    #[must_use]
    pub fn new(volume: VolumeId, side: Side, backing_bytes: u64) -> Self {
        Self {
            volume,
            side,
            backing_bytes,
            mode: Mode::Sync,
            arbiter: false,
            stall_time: Millis::from_secs(20),
            peer_timeout: Millis::from_secs(5),
            alone_after: Millis::from_secs(2),
            mark_timeout: Millis::from_secs(3),
            // 2 GiB: twenty seconds of a gigabit line, six minutes of the 45 Mbit/s of the reference story.
            hot_regions_max: 32 * 1024,
            cool_after: Millis::from_secs(10),
            resync_bytes_per_s: None,
            resync_regions_max: 16,
        }
    }
}
