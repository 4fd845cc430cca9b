//! When a request of a client is begun, and when it is answered (V1, V5, V7, V8).
//!
//! ```text
//! held ──right, gate, log, no overlap, no resync of it──> under way here and there ──both──> answered
//! ```
//! Our own flushes of both copies go the same way ([`Purpose`]).

use alloc::collections::VecDeque;

use mainstay_core::time::{Millis, Monotonic};

use super::slab::Slab;
use super::{Gate, Op, REQUESTS_MAX, Volume};
use crate::io::{Data, DiskDone, DiskError, DiskOp, Mode, Output, RequestError, RequestId, RequestKind};
use crate::message::{Message, Sent};
use crate::planted::{self, Bug};
use crate::status::Event;
use crate::types::{Extent, SECTOR_BYTES};

/// Who wants something done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A client.
    Client(RequestId),
    /// This copy: a flush of both.
    Own(Purpose),
}

/// What a flush of both copies is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To clear the log.
    Cool,
    /// To end a resync.
    Whole,
    /// To demote.
    Demote,
}

/// How far one copy is with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It has no part in it, or has done it.
    Done,
    /// It is at it.
    Out,
    /// The peer was lost while it was at it: nobody knows.
    Lost,
}

#[derive(Debug)]
struct Active {
    who: Who,
    kind: RequestKind,
    begun: bool,
    here: Part,
    there: Part,
    answered: bool,
    /// For a flush: what it covers on both copies.
    covers: Option<u64>,
}

/// All that are under way.
#[derive(Debug, Default)]
pub(super) struct Requests {
    active: Slab<Active>,
    clients: usize,
    held: VecDeque<u64>,
    /// When each came, oldest first.
    deadlines: VecDeque<(Monotonic, u64)>,
    /// When each was sent, oldest first.
    sent: VecDeque<(Monotonic, u64)>,
    /// Bytes sent and not yet applied.
    lag_bytes: u64,
    own: u32,
}

impl Requests {
    pub(super) fn count(&self) -> usize {
        self.clients
    }

    pub(super) fn lag_bytes(&self) -> u64 {
        self.lag_bytes
    }

    /// Whether any waits for a gate that is closed (V3: only then does a source go on alone).
    pub(super) fn any_waits(&self) -> bool {
        let waits = |key: &u64| {
            self.active.get(*key).is_some_and(|active| {
                !active.answered
                    && matches!(active.who, Who::Client(_))
                    && (!active.begun || active.there == Part::Lost)
            })
        };
        self.held.iter().any(waits) || self.active.keys().iter().any(waits)
    }

    /// Whether nothing is under way, and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.active.len() == 0
    }

    /// When the oldest request has to be answered.
    pub(super) fn next_deadline(&mut self, stall: Millis) -> Option<Monotonic> {
        while let Some((_, key)) = self.deadlines.front() {
            if self.active.get(*key).is_some_and(|active| !active.answered) {
                break;
            }
            self.deadlines.pop_front();
        }
        self.deadlines.front().map(|(came, _)| *came + stall)
    }

    /// When the oldest was sent that the peer has not answered.
    pub(super) fn oldest_sent(&mut self) -> Option<Monotonic> {
        while let Some((_, key)) = self.sent.front() {
            if self.active.get(*key).is_some_and(|active| active.there == Part::Out) {
                break;
            }
            self.sent.pop_front();
        }
        self.sent.front().map(|(when, _)| *when)
    }
}

/// What is written, if anything is.
fn written(kind: RequestKind) -> Option<Extent> {
    match kind {
        RequestKind::Write { extent, .. } | RequestKind::Zero { extent, .. } => Some(extent),
        RequestKind::Read(_) | RequestKind::Flush => None,
    }
}

impl Volume {
    pub(super) fn on_request(&mut self, id: RequestId, kind: RequestKind) {
        let extent = match kind {
            RequestKind::Read(extent) => Some(extent),
            RequestKind::Write { .. } | RequestKind::Zero { .. } | RequestKind::Flush => written(kind),
        };
        let fits = |extent: Extent| {
            extent.offset.is_multiple_of(SECTOR_BYTES)
                && u64::from(extent.length).is_multiple_of(SECTOR_BYTES)
                && extent.offset.checked_add(u64::from(extent.length)).is_some_and(|end| end <= self.label.size)
        };
        let refused = if !self.is_source() || self.demoting.is_some() {
            Some(if self.failed.is_some() { RequestError::Backing } else { RequestError::NoRight })
        } else if self.requests.clients >= REQUESTS_MAX {
            Some(RequestError::TooMany)
        } else if !extent.is_none_or(fits) {
            Some(RequestError::Invalid)
        } else {
            None
        };
        if let Some(error) = refused {
            return self.outputs.push_back(Output::Reply { id, result: Err(error) });
        }
        if extent.is_some_and(|extent| extent.length == 0) {
            return self.outputs.push_back(Output::Reply { id, result: Ok(()) });
        }
        self.take(Who::Client(id), kind);
    }

    /// A flush of both copies, for ourselves.
    pub(super) fn flush_both(&mut self, purpose: Purpose) {
        self.requests.own += 1;
        self.take(Who::Own(purpose), RequestKind::Flush);
    }

    fn take(&mut self, who: Who, kind: RequestKind) {
        let (here, there) = (Part::Done, Part::Done);
        let active = Active { who, kind, begun: false, here, there, answered: false, covers: None };
        let key = self.requests.active.insert(active);
        if matches!(who, Who::Client(_)) {
            self.requests.clients += 1;
            self.requests.deadlines.push_back((self.now.monotonic, key));
        }
        if !self.may_begin(kind, self.requests.held.len()) {
            self.requests.held.push_back(key);
            self.stir();
        } else {
            self.begin(key, kind);
        }
    }

    /// Whether it may begin now, with so many held before it.
    fn may_begin(&mut self, kind: RequestKind, before: usize) -> bool {
        let RequestKind::Read(_) = kind else {
            return match (self.gate, written(kind)) {
                (Gate::Closed, _) => false,
                (Gate::Mirror | Gate::Alone, None) => true,
                (Gate::Mirror | Gate::Alone, Some(extent)) => {
                    !self.lags() && self.is_free(extent, before) && self.is_intended(extent)
                }
            };
        };
        true
    }

    /// V7: at its bound, writers slow down.
    fn lags(&mut self) -> bool {
        let Mode::Async { lag_bytes_max, lag_max } = self.config.mode else { return false };
        let late = self.requests.oldest_sent().is_some_and(|sent| self.now.monotonic.since(sent) >= lag_max);
        late || self.requests.lag_bytes >= lag_bytes_max
    }

    /// V8: nothing that overlaps is under way or waits before it, and no region of it is being copied.
    fn is_free(&self, extent: Extent, before: usize) -> bool {
        let waits = |key: &u64| {
            let kind = self.requests.active.get(*key).map(|active| active.kind);
            kind.and_then(written).is_some_and(|other| other.overlaps(extent))
        };
        self.order.is_free(extent)
            && !self.requests.held.iter().take(before).any(waits)
            && (planted::is(Bug::NoExclusion) || !self.is_swept(extent))
    }

    /// V5: its regions' bits are durable. If not, they are asked for.
    fn is_intended(&mut self, extent: Extent) -> bool {
        let mirrored = self.gate == Gate::Mirror;
        let mut all = true;
        for region in extent.regions() {
            all &= self.intent.want(crate::types::Region(region), mirrored, self.now.monotonic);
        }
        all
    }

    /// Begins what was held and may begin by now, in order.
    pub(super) fn begin_held(&mut self) {
        let mut at = 0;
        while let Some(key) = self.requests.held.get(at).copied() {
            match self.requests.active.get(key).map(|active| (active.kind, active.answered)) {
                None => drop(self.requests.held.remove(at)),
                Some((_, true)) => {
                    self.requests.held.remove(at);
                    self.end(key);
                }
                Some((kind, false)) if self.may_begin(kind, at) => {
                    self.requests.held.remove(at);
                    self.begin(key, kind);
                }
                Some(_) => at += 1,
            }
        }
    }

    fn begin(&mut self, key: u64, kind: RequestKind) {
        let mirrored = self.gate == Gate::Mirror;
        if let Some(extent) = written(kind) {
            self.order.begin(extent);
            for region in extent.regions() {
                self.intent.begin(crate::types::Region(region), mirrored);
            }
        }
        let covers = self.intent.flush_begins();
        let Some(active) = self.requests.active.get_mut(key) else { return };
        let goes_there = mirrored && !matches!(kind, RequestKind::Read(_));
        (active.begun, active.here) = (true, Part::Out);
        if goes_there {
            active.there = Part::Out;
            active.covers = (kind == RequestKind::Flush).then_some(covers);
        }
        let Who::Client(id) = active.who else {
            self.flush_disk(Op::Request(key));
            if goes_there {
                self.send_request(key, kind, None);
            }
            return;
        };
        let data = Data::Request(id);
        self.disk(Op::Request(key), |_| match kind {
            RequestKind::Read(extent) => DiskOp::ReadFor(id, extent),
            RequestKind::Write { extent, fua } => DiskOp::Write { extent, fua, data },
            RequestKind::Zero { extent, fua, unmap } => DiskOp::Zero { extent, fua, unmap },
            RequestKind::Flush => DiskOp::Flush,
        });
        if goes_there {
            self.send_request(key, kind, Some(data));
        }
    }

    fn send_request(&mut self, key: u64, kind: RequestKind, data: Option<Data>) {
        let id = Sent(key);
        let ordered = self.config.mode != Mode::Sync;
        match kind {
            RequestKind::Read(_) => return,
            RequestKind::Write { extent, fua } => {
                self.send(Message::Write { id, extent, fua, barrier: ordered && fua }, data);
            }
            RequestKind::Zero { extent, fua, unmap } => {
                self.send(Message::Zero { id, extent, fua, unmap, barrier: ordered && fua }, None);
            }
            RequestKind::Flush => self.send(Message::Flush { id, barrier: ordered }, None),
        }
        self.requests.lag_bytes += written(kind).map_or(0, |extent| u64::from(extent.length));
        self.requests.sent.push_back((self.now.monotonic, key));
    }

    /// This copy is done with it.
    pub(super) fn request_on_disk(&mut self, key: u64, result: Result<DiskDone, DiskError>) {
        let Some(active) = self.requests.active.get_mut(key) else { return };
        active.here = Part::Done;
        let kind = active.kind;
        if let Some(extent) = written(kind) {
            self.order.end(extent);
        }
        match (result, kind) {
            (Ok(_), _) => {}
            (Err(error), RequestKind::Read(_)) => {
                self.report(Event::ReadFailed(error));
                self.answer(key, Err(RequestError::Backing));
            }
            (Err(error), RequestKind::Write { .. }) => self.fail("writing", error),
            (Err(error), RequestKind::Zero { .. }) => self.fail("writing zeroes", error),
            (Err(error), RequestKind::Flush) => self.fail("flushing", error),
        }
        self.go_on(key);
        if !self.requests.held.is_empty() {
            self.stir();
        }
    }

    /// The peer is done with it.
    pub(super) fn request_on_peer(&mut self, Sent(key): Sent) {
        let Some(active) = self.requests.active.get_mut(key).filter(|active| active.there == Part::Out) else { return };
        active.there = Part::Done;
        self.requests.lag_bytes -= written(active.kind).map_or(0, |extent| u64::from(extent.length));
        self.go_on(key);
        if !self.requests.held.is_empty() {
            self.stir();
        }
    }

    /// Answers it if it may be answered, and forgets it if it is over.
    fn go_on(&mut self, key: u64) {
        let Some(active) = self.requests.active.get(key) else { return };
        let in_sync = self.config.mode == Mode::Sync;
        // V7. A flush for ourselves is one of both copies in either mode.
        let waits_for_peer = in_sync || matches!(active.who, Who::Own(_));
        let there = active.there == Part::Done
            || !waits_for_peer && active.there == Part::Out
            || planted::is(Bug::FlushHere) && active.kind == RequestKind::Flush && active.there == Part::Out
            || planted::is(Bug::ClearedEarly) && active.who == Who::Own(Purpose::Cool);
        if active.begun && active.here == Part::Done && there && !active.answered {
            self.answer(key, Ok(()));
        }
        self.end(key);
    }

    /// Forgets it if neither copy is at it any more.
    fn end(&mut self, key: u64) {
        let Some(active) = self.requests.active.get(key) else { return };
        if !active.answered || active.here == Part::Out || active.there == Part::Out {
            return;
        }
        let (kind, begun, covers, mirrored) = (active.kind, active.begun, active.covers, active.there == Part::Done);
        self.requests.active.remove(key);
        if begun && let Some(extent) = written(kind) {
            self.intent.count();
            for region in extent.regions() {
                self.intent.end(crate::types::Region(region), self.now.monotonic);
            }
            if self.sweep.is_some() {
                self.stir();
            }
        }
        // Only one that both completed, on one link, lets anything be cleared.
        if let Some(begun) = covers.filter(|_| mirrored && self.failed.is_none()) {
            self.intent.flushed(begun);
        }
        if self.demoting.is_some() || self.promoting.is_some() {
            self.stir();
        }
    }

    fn answer(&mut self, key: u64, result: Result<(), RequestError>) {
        let Some(active) = self.requests.active.get_mut(key).filter(|active| !active.answered) else { return };
        active.answered = true;
        match active.who {
            Who::Client(id) => {
                self.requests.clients -= 1;
                self.outputs.push_back(Output::Reply { id, result });
            }
            Who::Own(purpose) => {
                self.requests.own -= 1;
                let covers = active.covers;
                if result.is_ok() {
                    if let Some(begun) = covers {
                        self.intent.flushed(begun);
                    }
                    self.flushed_both(purpose);
                }
                self.stir();
            }
        }
    }

    fn flushed_both(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Cool => self.cool(),
            Purpose::Whole => self.flushed_whole(),
            Purpose::Demote => self.flushed_to_demote(),
        }
    }

    /// Whether a flush of our own is under way.
    pub(super) fn is_flushing(&self) -> bool {
        self.requests.own > 0
    }

    /// Everything that the peer was at: nobody knows whether it has it. Flushes for ourselves are given up.
    pub(super) fn peer_lost_requests(&mut self) {
        for key in self.requests.active.keys() {
            let Some(active) = self.requests.active.get_mut(key) else { continue };
            if active.there == Part::Out {
                active.there = Part::Lost;
                active.covers = None;
            }
            if matches!(active.who, Who::Own(_)) {
                self.answer(key, Err(RequestError::Stalled));
            }
            self.go_on(key);
        }
        self.requests.lag_bytes = 0;
        self.requests.sent.clear();
    }

    /// The gate is open again: what the peer was lost with is answered by this copy alone if that is right (V3), or if
    /// the target is inconsistent, durably, because it is copied what it lacks (V12); a flush is sent once more.
    pub(super) fn resume_lost(&mut self) {
        let mirrored = self.gate == Gate::Mirror;
        for key in self.requests.active.keys() {
            let Some(active) = self.requests.active.get_mut(key).filter(|active| active.there == Part::Lost) else {
                continue;
            };
            let again = mirrored && active.kind == RequestKind::Flush && !active.answered;
            active.there = if again { Part::Out } else { Part::Done };
            active.covers = None;
            if again {
                self.send_request(key, RequestKind::Flush, None);
            }
            self.go_on(key);
        }
        self.stir();
    }

    /// Answers all of them with an error (V1): at once, whatever they wait for.
    pub(super) fn refuse_all(&mut self, error: RequestError) {
        for key in self.requests.active.keys() {
            self.refuse(key, error);
        }
        self.requests.held.clear();
    }

    fn refuse(&mut self, key: u64, error: RequestError) {
        self.answer(key, Err(error));
        if let Some(active) = self.requests.active.get_mut(key).filter(|active| active.there == Part::Lost) {
            active.there = Part::Done;
            active.covers = None;
        }
        self.end(key);
    }

    /// V1: nothing is held for longer than the stall time.
    pub(super) fn refuse_stalled(&mut self) {
        while self.requests.next_deadline(self.config.stall_time).is_some_and(|when| when <= self.now.monotonic) {
            let Some((_, key)) = self.requests.deadlines.pop_front() else { return };
            self.requests.held.retain(|held| *held != key);
            self.refuse(key, RequestError::Stalled);
            self.stir();
        }
    }
}
