//! One copy of a volume: everything its process decides.
//!
//! # Driving it
//!
//! ```text
//! let mut volume = Volume::open(config, label bytes, log bytes, now)?;
//! loop {
//!     while let Some(output) = volume.poll_output() { begin it }
//!     let (when, why) = volume.poll_timeout();
//!     wait for an input, until `when` at the most (then Input::Tick)
//!     volume.handle(input, now);
//! }
//! ```
//!
//! `handle` is synchronous and never fails; time comes only from its argument, which never goes back. Outputs come in
//! order, and each is begun at once: nothing has to be held until something else is durable, because what rests on
//! something durable comes out only when [`Input::Written`] or [`Input::Disk`] has said so. Many disk operations may be
//! under way; none overlaps one that writes.
//!
//! A driver takes no more requests from clients than [`REQUESTS_MAX`] at a time. When the process ends, nothing has to be
//! done: every moment is one at which it may be killed. In order, it is demoted first ([`OperatorRequest::Demote`]).
//!
//! Each file decides one thing: `requests` when a client's request is begun and answered, `apply` in which order the
//! target writes, `session` how the two copies get together, `alone` when the source goes on without its target, `right`
//! who may serve, `sweep` what a resync and a verify do, `durable` what waits for the label and the log, `operator` what
//! a person may ask for, `timers` what becomes of time, `view` what is shown.

mod alone;
mod apply;
mod durable;
mod intent;
mod operator;
mod order;
mod requests;
mod right;
mod session;
mod slab;
mod sweep;
#[cfg(test)]
mod tests;
mod timers;
mod view;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use mainstay_core::time::{Monotonic, Now, UnixMs};

use crate::bitmap::Bitmap;
use crate::io::{
    Block, Config, Data, DiskDone, DiskError, DiskId, DiskOp, Input, LinkId, OperatorId, Output, Refusal, RequestError,
};
use crate::label::{DurableState, Label, LabelError};
use crate::log;
use crate::message::Message;
use crate::planted::{self, Bug};
use crate::status::{Event, Role};
use crate::types::{REGION_BYTES, Region, SECTOR_BYTES, Side, VOLUME_BYTES_MAX, VolumeId};

pub use timers::Timer;

use alone::Alone;
use apply::Apply;
use durable::{Durable, Then};
use intent::Intent;
use order::Order;
use requests::Requests;
use right::{Demoting, Promoting, Right};
use session::Session;
use slab::Slab;
use sweep::Sweep;

/// Requests of clients at one time: 16 connections with 64 each, and the kernel's 128 twice over. Beyond, they are
/// answered with an error, because a driver that lets them in has no limit of its own.
pub const REQUESTS_MAX: usize = 1280;

/// Why a copy cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// See there.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// It is another volume's.
    #[error("this backing is a copy of volume {found}, not of {wanted}")]
    Volume {
        /// By the label.
        found: VolumeId,
        /// By the config.
        wanted: VolumeId,
    },
    /// It is the other copy.
    #[error("this backing is the copy of side {found}, not of side {wanted}")]
    Side {
        /// By the label.
        found: Side,
        /// By the config.
        wanted: Side,
    },
    /// V13.
    #[error("the backing has {backing} bytes left for data, the volume has {size}")]
    Small {
        /// Without the label.
        backing: u64,
        /// By the label.
        size: u64,
    },
}

/// Why a volume cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The size does not do.
    #[error(
        "a volume of {0} bytes: it has to be a multiple of {SECTOR_BYTES}, at least {REGION_BYTES} and at most {VOLUME_BYTES_MAX}"
    )]
    Size(u64),
}

/// What has to be written for a new copy: the blocks of the label, and those of the log, in order, the header last.
///
/// `first` is the copy that holds the data, if any is there already; the other one is created empty. The log says that
/// everything differs: the first resync copies all but zeroes.
///
/// # Errors
/// If a volume cannot have this size.
pub fn create(
    volume: VolumeId,
    side: Side,
    size: u64,
    first: bool,
    now: UnixMs,
) -> Result<(Vec<Block>, Vec<Block>), CreateError> {
    if !(REGION_BYTES..=VOLUME_BYTES_MAX).contains(&size) || !size.is_multiple_of(SECTOR_BYTES) {
        return Err(CreateError::Size(size));
    }
    let label = Label::new(volume, side, size, first, now);
    let dirty = Bitmap::full(Region::count(size));
    // Both slots, so that nothing of an older label is left that a torn write would bring back.
    let older = Label { sequence: 1, ..label.clone() };
    let newer = Label { sequence: 2, ..label };
    let log = log::encode(&dirty, &newer, 1);
    Ok((alloc::vec![older.encode(), newer.encode()], log))
}

/// Where writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Nowhere yet.
    Closed,
    /// To both copies.
    Mirror,
    /// To this one (V3).
    Alone,
}

/// What a disk operation is for.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A client's request, or a flush of our own.
    Request(u64),
    /// Something the source told.
    Apply(u64),
    /// A region that is read for a resync or a verify, in this sweep.
    Sweep(u64, Region),
    /// A flush before a promotion.
    Promotion(OperatorId),
    /// The checksum the source asked for, on this link.
    Check { link: LinkId, region: Region, theirs: u64 },
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Volume {
    config: Config,
    now: Now,
    /// As it will be on disk when all that is asked for is written.
    label: Label,
    durable: Durable,
    intent: Intent,
    opened: bool,
    /// V10: what was tried, and what came of it.
    failed: Option<(&'static str, DiskError)>,

    role: Role,
    right: Option<Right>,
    promoting: Option<Promoting>,
    demoting: Option<Demoting>,
    gate: Gate,
    alone: Alone,

    session: Session,
    /// When the peer was last heard, by this process: when contact was lost it was not heard by an earlier one.
    met: Option<Monotonic>,
    requests: Requests,
    apply: Apply,
    order: Order,
    ops: Slab<Op>,
    sweep: Option<Sweep>,
    sweeps: u64,
    resync_bytes: u64,

    tokens: u64,
    /// When the log is next looked through for what is cold.
    cools_at: Monotonic,
    outputs: VecDeque<Output>,
    /// Something has happened that may let something else happen.
    stirred: bool,
    wake: (Monotonic, Timer),
}

impl Volume {
    /// A copy, by the bytes of its label and of its log (as many as there are).
    ///
    /// # Errors
    /// If the backing is not what it should be. A log that is not what it should be is no error: everything is copied
    /// then (V6).
    pub fn open(config: Config, label: &[u8], log: &[u8], now: Now) -> Result<Self, OpenError> {
        let mut label = Label::decode(label)?;
        if label.volume != config.volume {
            return Err(OpenError::Volume { found: label.volume, wanted: config.volume });
        }
        if label.side != config.side {
            return Err(OpenError::Side { found: label.side, wanted: config.side });
        }
        if config.backing_bytes < label.size {
            return Err(OpenError::Small { backing: config.backing_bytes, size: label.size });
        }
        let mut replay = log::replay(log, &label);
        if planted::is(Bug::LogBelieved) && replay.error.is_some() {
            replay.dirty.clear_all();
        }
        // A copy that had nothing to say for itself when it ended is of no use as a source by chance.
        label.gives_up_for = label.gives_up_for.filter(|_| label.state != DurableState::Good);
        let intent = Intent::new(label.volume, replay.dirty, &replay.blocks_damaged, config.hot_regions_max);
        let mut volume = Self {
            durable: Durable::new(replay.sequence),
            intent,
            opened: false,
            failed: None,
            role: Role::Target,
            right: None,
            promoting: None,
            demoting: None,
            gate: Gate::Closed,
            alone: Alone::default(),
            session: Session::new(now.monotonic),
            met: None,
            requests: Requests::default(),
            apply: Apply::default(),
            order: Order::default(),
            ops: Slab::default(),
            sweep: None,
            sweeps: 0,
            resync_bytes: 0,
            tokens: 0,
            cools_at: now.monotonic,
            outputs: VecDeque::new(),
            stirred: true,
            wake: (now.monotonic, Timer::Tick),
            label,
            config,
            now,
        };
        if let Some(why) = replay.error {
            volume.report(Event::LogNotBelieved(why));
        }
        if replay.sectors_damaged > 0 {
            volume.report(Event::LogSectorsDamaged(replay.sectors_damaged));
        }
        volume.restamp(durable::After::Opened);
        volume.settle();
        Ok(volume)
    }

    /// Something has happened.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.notice_gap(now);
        self.now = now;
        self.check_permit();
        match input {
            Input::Request { id, connection: _, kind } => self.on_request(id, kind),
            Input::Disk { id, result } => self.on_disk(id, result),
            Input::Received { link, message, data } => self.on_message(link, message, data),
            Input::Written { id, result } => self.on_written(id, result),
            Input::LinkUp(link) => self.on_link_up(link),
            Input::LinkDown(link) => self.on_link_down(link),
            Input::Right { epoch, entered, until } => self.on_right(Right { epoch, entered, until }),
            Input::RightEnded => self.lose_right(Event::RightEnded),
            Input::Marked { token, outcome } => self.on_marked(token, outcome),
            Input::AskedOutdated { token, epoch, generation } => self.on_asked_outdated(token, epoch, generation),
            Input::Operator { id, request } => self.on_operator(id, request),
            Input::Tick => {}
        }
        if self.stirred || now.monotonic >= self.wake.0 {
            self.settle();
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back with a [`Input::Tick`] at the latest, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> (Monotonic, Timer) {
        self.wake
    }

    /// How many more requests may be taken from clients.
    #[must_use]
    pub fn room(&self) -> usize {
        REQUESTS_MAX.saturating_sub(self.requests.count())
    }

    /// Does what can be done by now, until nothing more can.
    fn settle(&mut self) {
        self.check_timers();
        // Each round finishes something that the one before has made possible; there are few things to finish.
        for _ in 0..64 {
            self.stirred = false;
            self.go_on_greeting();
            self.go_on_alone();
            self.go_on_promoting();
            self.begin_held();
            self.go_on_demoting();
            self.go_on_sweeping();
            self.go_on_cooling();
            self.write_log();
            if !self.stirred {
                break;
            }
        }
        self.wake = self.next_timer();
    }

    fn on_disk(&mut self, id: DiskId, result: Result<DiskDone, DiskError>) {
        match self.ops.remove(id.0) {
            Some(Op::Request(key)) => self.request_on_disk(key, result),
            Some(Op::Apply(key)) => self.applied(key, result),
            Some(Op::Promotion(id)) => self.flushed_to_promote(id, result),
            Some(Op::Sweep(sweep, region)) => self.swept(sweep, region, id, result),
            Some(Op::Check { link, region, theirs }) => self.checked_here(link, region, theirs, result),
            None => {}
        }
    }

    fn disk(&mut self, op: Op, what: impl FnOnce(DiskId) -> DiskOp) {
        let id = DiskId(self.ops.insert(op));
        let op = what(id);
        self.outputs.push_back(Output::Disk { id, op });
    }

    fn send(&mut self, message: Message, data: Option<Data>) {
        if let Some(link) = self.session.link {
            self.session.spoke = self.now.monotonic;
            self.outputs.push_back(Output::Send { link, message, data });
        } else if let Some(data @ (Data::Read(_) | Data::Received(_))) = data {
            self.outputs.push_back(Output::Forget(data));
        }
    }

    fn report(&mut self, event: Event) {
        self.outputs.push_back(Output::Report(Box::new(event)));
    }

    fn stir(&mut self) {
        self.stirred = true;
    }

    fn is_source(&self) -> bool {
        self.role == Role::Source && self.failed.is_none()
    }

    /// To an operator, of a copy that has failed.
    fn why_failed(&self) -> Refusal {
        let text = self.failed.map(|(what, error)| alloc::format!("{what}: {error:?}"));
        Refusal::Backing(text.unwrap_or_default())
    }

    /// V10: this copy serves nothing any more, is never a resync source, and is not believed until it was copied anew.
    fn fail(&mut self, what: &'static str, error: DiskError) {
        if self.failed.is_some() {
            return;
        }
        self.failed = Some((what, error));
        self.report(Event::BackingFailed { what, error });
        if let Some(id) = self.end_promoting() {
            let result = Err(self.why_failed());
            self.outputs.push_back(Output::Answer { id, result });
        }
        self.end_service(RequestError::Backing);
        self.give_up_on_log();
        self.drop_applying();
        self.label.state = DurableState::Inconsistent;
        self.write_label(Then::Failed);
        self.stir();
    }
}
