//! How the two copies get together, and what each message means when. See `message` for the order.
//!
//! ```text
//! Down ──LinkUp──> Greeting ──both Hello──> Idle ──Begin──> Beginning ──Ready──> Turning ──Behind──> Mirroring
//!                     │                      │ (target) ──> Following                         (source)
//!                     └──> Paused, SplitBrain, Refused         └─ End ──> Idle
//! ```
//! One claim for one session: when roles change without an `End`, the link is closed and greeted anew.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mainstay_core::time::{Monotonic, UnixMs};

use super::durable::{After, Then};
use super::{Gate, Op, Volume};
use crate::bitmap::Runs;
use crate::io::{Data, DiskDone, DiskError, DiskOp, LinkEnd, LinkId, Output, ReceivedId, Refusal, RequestError};
use crate::label::DurableState;
use crate::message::{Identity, Message, RUNS_MAX, VERSION};
use crate::planted::{self, Bug};
use crate::relation::{self, Relation};
use crate::status::{CopyState, Event, Progress, Role, SplitBrain};
use crate::types::{Extent, Generation, Region};

/// How far a session is.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// No link.
    Down,
    /// There is a link, and not both have greeted.
    Greeting,
    /// Nobody is the source.
    Idle,
    /// Source: waits for the target's log.
    Beginning(Runs),
    /// Source: the union is on its way into the log, then the target has to become inconsistent.
    Turning,
    /// Source: mirrors.
    Mirroring,
    /// Target: it has said what its log has, or is about to.
    Following {
        /// How far the source's resync is, as far as it is known here.
        copied: Option<Progress>,
    },
    /// By an operator.
    Paused,
    /// V11.
    SplitBrain,
    /// The other copy does not fit, or has failed.
    Refused(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) link: Option<LinkId>,
    pub(super) stage: Stage,
    pub(super) greeted: bool,
    pub(super) peer: Option<Identity>,
    pub(super) relation: Option<Relation>,
    /// When the stage began, the peer was last heard, and this copy last said something.
    pub(super) since: Monotonic,
    pub(super) heard: Monotonic,
    pub(super) spoke: Monotonic,
    /// This process has run without a gap since then.
    pub(super) listens: Monotonic,
    /// Both have everything.
    pub(super) whole: bool,
}

impl Session {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            link: None,
            stage: Stage::Down,
            greeted: false,
            peer: None,
            relation: None,
            since: now,
            heard: now,
            spoke: now,
            listens: now,
            whole: false,
        }
    }

    /// Whether it is on its way to be mirrored, so that waiting makes sense.
    pub(super) fn is_hopeful(&self) -> bool {
        match self.stage {
            Stage::Greeting | Stage::Idle | Stage::Beginning(_) | Stage::Turning => true,
            Stage::Down
            | Stage::Mirroring
            | Stage::Following { .. }
            | Stage::Paused
            | Stage::SplitBrain
            | Stage::Refused(_) => false,
        }
    }

    /// Target: a region of the resync is written.
    pub(super) fn count_copied(&mut self) {
        if let Stage::Following { copied: Some(progress) } = &mut self.stage {
            progress.done += 1;
        }
    }

    /// How the copies stand to each other, if they are in contact.
    pub(super) fn contact(&self) -> Option<Relation> {
        self.relation.filter(|_| self.greeted && self.link.is_some())
    }
}

impl Volume {
    pub(super) fn on_link_up(&mut self, link: LinkId) {
        self.end_session();
        self.session = Session::new(self.now.monotonic);
        self.session.link = Some(link);
        self.session.stage = Stage::Greeting;
        self.stir();
    }

    pub(super) fn on_link_down(&mut self, link: LinkId) {
        if self.session.link == Some(link) {
            self.report(Event::LinkLost);
            self.end_session();
        }
    }

    /// Ends the link from here.
    pub(super) fn close_link(&mut self, why: LinkEnd) {
        if let Some(link) = self.session.link {
            self.outputs.push_back(Output::CloseLink { link, why: why.clone() });
            self.report(Event::LinkEnded(why));
            self.end_session();
        }
    }

    /// Roles, or what this copy is, have changed without an agreement: let both say what they are once more.
    pub(super) fn greet_anew(&mut self) {
        self.close_link(LinkEnd::Anew);
    }

    fn end_session(&mut self) {
        if self.session.link.is_none() {
            return;
        }
        let was_met = self.session.greeted && self.session.peer.is_some();
        let heard = self.session.heard;
        self.session = Session::new(self.now.monotonic);
        self.stop_mirroring();
        if was_met {
            self.note_contact(heard);
            self.write_label(Then::Nothing);
        }
        self.stir();
    }

    /// The peer was heard then.
    pub(super) fn note_contact(&mut self, heard: Monotonic) {
        self.label.contact = self.now.wall(heard);
        self.met = Some(heard);
    }

    /// When it was last heard, by the wall clock as it is set now, if this process has heard it; else as it was set then.
    pub(super) fn last_contact(&self) -> UnixMs {
        self.met.map_or(self.label.contact, |met| self.now.wall(met))
    }

    /// Nothing goes to the peer any more, whether there is a link or not.
    pub(super) fn stop_mirroring(&mut self) {
        self.stop_sweeping();
        if self.gate == Gate::Mirror {
            self.gate = Gate::Closed;
            self.intent.peer_lost();
        }
        self.peer_lost_requests();
        self.stir();
    }

    fn stage(&mut self, stage: Stage) {
        self.session.stage = stage;
        self.session.since = self.now.monotonic;
        self.stir();
    }

    fn identity(&self) -> Box<Identity> {
        Box::new(Identity {
            version: VERSION,
            volume: self.label.volume,
            side: self.label.side,
            size: self.label.size,
            epoch: self.label.epoch,
            source: self.is_source(),
            state: self.label.state,
            generation: self.label.generation,
            history: self.label.history.clone(),
            gives_up_for: self.label.gives_up_for,
            dirty_regions: self.intent.dirty().count(),
            paused: self.label.paused,
        })
    }

    /// Says hello when what came before is over: what the last session told is written, no generation is on its way.
    pub(super) fn go_on_greeting(&mut self) {
        let ready = self.opened && self.apply.is_idle() && !self.durable.stamping && self.promoting.is_none();
        if !matches!(self.session.stage, Stage::Greeting) || !ready {
            return;
        }
        if !self.session.greeted {
            self.session.greeted = true;
            self.alone.stop_asking();
            let hello = Message::Hello(self.identity());
            self.send(hello, None);
        }
        if self.session.peer.is_some() {
            self.met();
        }
    }

    pub(super) fn on_message(&mut self, link: LinkId, message: Message, data: Option<ReceivedId>) {
        if self.session.link != Some(link) {
            if let Some(data) = data {
                self.outputs.push_back(Output::Forget(Data::Received(data)));
            }
            return;
        }
        self.session.heard = self.now.monotonic;
        let used = match (&message, &self.session.stage) {
            // What comes most, first.
            (Message::Done { id }, _) => {
                self.request_on_peer(*id);
                true
            }
            (
                Message::Write { .. }
                | Message::Zero { .. }
                | Message::Flush { .. }
                | Message::Copy { .. }
                | Message::CopyZero { .. },
                Stage::Following { .. },
            ) if self.failed.is_none() => self.apply(link, &message, data),
            (Message::Ping, _) => true,
            _ => return self.on_rare_message(link, message, data),
        };
        if !used {
            self.nonsense(&message, data);
        }
    }

    fn nonsense(&mut self, message: &Message, data: Option<ReceivedId>) {
        if let Some(data) = data {
            self.outputs.push_back(Output::Forget(Data::Received(data)));
        }
        // A copy that has failed is told things for a while; it said so.
        if self.failed.is_none() {
            self.close_link(LinkEnd::Protocol(name(message)));
        }
    }

    fn on_rare_message(&mut self, link: LinkId, message: Message, data: Option<ReceivedId>) {
        self.stir();
        match (message, self.session.stage.clone()) {
            (Message::Hello(peer), Stage::Greeting) if self.session.peer.is_none() => self.session.peer = Some(*peer),
            (Message::Begin(peer), Stage::Idle | Stage::Following { .. }) => self.begun_by(link, *peer),
            (Message::Bits(part), Stage::Beginning(mut runs)) => {
                if runs.add(&part) {
                    self.session.stage = Stage::Beginning(runs);
                } else {
                    self.close_link(LinkEnd::Protocol("bits beyond the volume"));
                }
            }
            (Message::Ready(peer), Stage::Beginning(runs)) => self.ready(link, *peer, runs),
            (Message::Resync { regions }, Stage::Following { .. }) => {
                self.session.stage = Stage::Following { copied: Some(Progress { done: 0, of: regions }) };
                self.session.whole = false;
                self.report(Event::ResyncBegan { regions });
                if !planted::is(Bug::GoodInResync) {
                    self.label.state = DurableState::Inconsistent;
                }
                self.write_label(Then::Behind(link));
            }
            // While it mirrors already: verify has found something.
            (Message::Behind, stage @ (Stage::Turning | Stage::Mirroring)) => {
                self.alone.peer_marked = true;
                self.session.whole = false;
                if matches!(stage, Stage::Turning) {
                    self.mirror();
                }
                self.begin_copying();
            }
            (Message::CopyDone { region }, Stage::Mirroring) => self.copied(region),
            (Message::Check { region, checksum }, Stage::Following { .. }) => self.check_here(link, region, checksum),
            (Message::Checked { region, same }, Stage::Mirroring) => self.checked(region, same),
            (Message::Whole { generation, history }, Stage::Following { .. }) => {
                self.become_whole(link, generation, history);
            }
            (Message::UpToDate, Stage::Mirroring) => self.up_to_date(),
            (Message::End, Stage::Following { .. }) => {
                if let Some(peer) = &mut self.session.peer {
                    peer.source = false;
                }
                self.stage(Stage::Idle);
            }
            (Message::End, Stage::Idle) => {}
            (Message::Failed { marked }, _) => self.peer_failed(marked),
            (Message::Superseded(epoch), _) => {
                self.learn(epoch);
                self.greet_anew();
            }
            (message @ (Message::Pause | Message::Outdated), stage) => self.on_pause_message(link, &message, &stage),
            (Message::Resolve(survivor), Stage::SplitBrain) => self.on_resolve_message(survivor),
            (Message::ResolveRefused, Stage::SplitBrain) => self.report(Event::ResolveRefused),
            // What was on its way when a session was ended in order.
            (
                Message::CopyDone { .. } | Message::Checked { .. } | Message::Behind | Message::UpToDate,
                Stage::Idle | Stage::Paused,
            ) => {}
            (message, _) => self.nonsense(&message, data),
        }
    }

    /// Both have greeted: what are they to each other?
    fn met(&mut self) {
        let Some(peer) = self.session.peer.clone() else { return };
        self.report(Event::Greeted);
        let mine = self.identity();
        if let Err(why) = relation::fits(&mine, &peer) {
            let text = why.to_string();
            self.close_link(LinkEnd::Refused(why));
            // Shown until the next link.
            self.session.stage = Stage::Refused(text);
            return;
        }
        self.learn(peer.epoch);
        if self.session.link.is_none() {
            return;
        }
        self.stand(&peer);
        if mine.paused || peer.paused {
            return self.stage(Stage::Paused);
        }
        match self.session.relation {
            Some(Relation::Diverged) if !planted::is(Bug::DivergedIgnored) => {
                self.report(Event::SplitBrain(self.split(&peer)));
                return self.stage(Stage::SplitBrain);
            }
            Some(Relation::Behind) => self.found_behind(),
            Some(Relation::Same | Relation::Ahead | Relation::Diverged) | None => {}
        }
        if self.session.link.is_none() {
            return;
        }
        self.stage(Stage::Idle);
        self.tell_failure();
        self.begin_session();
    }

    fn stand(&mut self, peer: &Identity) {
        self.session.relation = Some(relation::compare(&self.identity(), peer));
        self.session.peer = Some(peer.clone());
    }

    /// What either side would lose (V11).
    pub(super) fn split(&self, peer: &Identity) -> SplitBrain {
        SplitBrain {
            my_regions: self.intent.dirty().count(),
            mine: self.label.generation,
            their_regions: peer.dirty_regions,
            theirs: peer.generation,
        }
    }

    /// V4: the other copy has more than this one. The right is the host's to take: with it, this copy may be promoted once it
    /// has everything, or by force.
    fn found_behind(&mut self) {
        if self.role == Role::Source || self.promoting.is_some() {
            self.report(Event::FoundBehind);
            if let Some(id) = self.end_promoting() {
                let (state, what) = (CopyState::Outdated.to_string(), "the other copy has more".to_string());
                self.outputs.push_back(Output::Answer { id, result: Err(Refusal::Copy { state, what }) });
            }
            self.end_service(RequestError::NoRight);
            self.stir();
        }
        if self.label.state == DurableState::Good {
            self.label.state = DurableState::Outdated;
            self.write_label(Then::Nothing);
        }
    }

    /// The source says what it is by now.
    pub(super) fn begin_session(&mut self) {
        let is_source = self.is_source() && matches!(self.session.stage, Stage::Idle);
        let peer_is_none = self.session.peer.as_ref().is_some_and(|peer| !peer.source);
        if is_source && peer_is_none {
            self.stage(Stage::Beginning(Runs::new(Region::count(self.label.size))));
            let begin = Message::Begin(self.identity());
            self.send(begin, None);
        }
    }

    /// The target is told who is the source.
    fn begun_by(&mut self, link: LinkId, peer: Identity) {
        let newest = self.right.as_ref().map_or(self.label.epoch, |right| right.epoch.max(self.label.epoch));
        if peer.epoch < newest {
            return self.send(Message::Superseded(newest), None);
        }
        if self.failed.is_some() {
            return self.tell_failure();
        }
        self.stand(&peer);
        if matches!(self.session.relation, Some(Relation::Ahead | Relation::Diverged))
            && !planted::is(Bug::DivergedIgnored)
        {
            return self.close_link(LinkEnd::Protocol("that it is the source, of data that this copy has more of"));
        }
        self.learn(peer.epoch);
        if self.session.link.is_none() {
            return;
        }
        self.session.whole = false;
        self.stage(Stage::Following { copied: None });
        self.write_label(Then::Accepted(link));
    }

    /// The source's claim is durable here (V2): this is what this copy's log has (V11).
    pub(super) fn accepted(&mut self, link: LinkId) {
        if self.session.link != Some(link) || !matches!(self.session.stage, Stage::Following { .. }) {
            return;
        }
        let dirty = self.intent.dirty().count();
        if self.label.served && dirty > 0 && self.label.state != DurableState::Inconsistent {
            self.report(Event::GivesUp { regions: dirty, since: self.label.generation });
        }
        let runs = self.intent.dirty().runs();
        for part in runs.chunks(RUNS_MAX) {
            self.send(Message::Bits(part.to_vec()), None);
        }
        let ready = Message::Ready(self.identity());
        self.send(ready, None);
    }

    fn ready(&mut self, link: LinkId, peer: Identity, runs: Runs) {
        self.learn(peer.epoch);
        if self.session.link.is_none() {
            return;
        }
        self.stand(&peer);
        self.intent.merge(&runs.finish());
        if self.intent.away().count() == 0 {
            self.mirror();
            return self.share();
        }
        self.stage(Stage::Turning);
        self.after_log(Then::Merged(link));
    }

    /// The source's log has the union (V11).
    pub(super) fn merged(&mut self, link: LinkId) {
        if self.session.link == Some(link) && matches!(self.session.stage, Stage::Turning | Stage::Mirroring) {
            let regions = self.intent.away().count();
            self.send(Message::Resync { regions }, None);
        }
    }

    /// The target is inconsistent (V12): whatever its own log had, the source's has.
    pub(super) fn behind(&mut self, link: LinkId) {
        if self.session.link == Some(link) && matches!(self.session.stage, Stage::Following { .. }) {
            self.intent.hand_over();
            self.send(Message::Behind, None);
        }
    }

    /// From now on writes go to both copies.
    fn mirror(&mut self) {
        self.stage(Stage::Mirroring);
        self.gate = Gate::Mirror;
        self.alone.stop_asking();
        self.resume_lost();
    }

    /// Both have everything, and have flushed. Before the target is told, this copy stops counting itself as the only one
    /// that has it: else it would go on alone later without asking (V3).
    pub(super) fn share(&mut self) {
        let Some(link) = self.session.link else { return };
        if !planted::is(Bug::StillExclusive) {
            self.label.exclusive = false;
        }
        self.alone.peer_marked = false;
        self.write_label(Then::Shared(link));
    }

    pub(super) fn shared(&mut self, link: LinkId) {
        if self.session.link == Some(link) && matches!(self.session.stage, Stage::Mirroring) {
            let (generation, history) = (self.label.generation, self.label.history.clone());
            self.send(Message::Whole { generation, history }, None);
        }
    }

    /// The target is whole: it has everything, flushed.
    fn become_whole(&mut self, link: LinkId, generation: Generation, history: Vec<Generation>) {
        let is_new = self.label.generation != generation;
        self.label.state = DurableState::Good;
        (self.label.generation, self.label.history) = (generation, history);
        self.label.exclusive = false;
        self.label.gives_up_for = None;
        self.label.served = false;
        self.note_contact(self.now.monotonic);
        if is_new {
            self.restamp(After::Whole(link));
        } else {
            self.write_label(Then::Whole(link));
        }
    }

    pub(super) fn whole(&mut self, link: LinkId) {
        if self.session.link == Some(link) && matches!(self.session.stage, Stage::Following { .. }) {
            self.session.relation = Some(Relation::Same);
            self.session.whole = true;
            self.session.stage = Stage::Following { copied: None };
            self.report(Event::UpToDate);
            self.send(Message::UpToDate, None);
        }
    }

    fn up_to_date(&mut self) {
        self.session.relation = Some(Relation::Same);
        self.session.whole = true;
        self.report(Event::UpToDate);
        self.unmark_in_arbiter();
    }

    /// V10: the other copy's backing has failed.
    fn peer_failed(&mut self, marked: bool) {
        self.report(Event::PeerFailed);
        self.alone.peer_marked |= marked && self.is_source();
        self.session.whole = false;
        self.stop_mirroring();
        if matches!(self.session.stage, Stage::Following { .. }) {
            // It was the source. This copy has everything that it has acknowledged, and may be promoted.
            self.stage(Stage::Idle);
        } else if !matches!(self.session.stage, Stage::Idle) || self.is_source() {
            self.stage(Stage::Refused("the backing of the peer's copy has failed".into()));
        }
    }

    /// Says that this copy has failed, when it has been tried to say so durably.
    pub(super) fn tell_failure(&mut self) {
        if let Some(marked) = self.alone.failed_marked
            && !matches!(self.session.stage, Stage::Greeting | Stage::Down)
        {
            self.send(Message::Failed { marked }, None);
        }
    }

    /// Verify: the target's checksum of a region.
    fn check_here(&mut self, link: LinkId, region: Region, theirs: u64) {
        if region.0 >= Region::count(self.label.size) {
            return self.close_link(LinkEnd::Protocol("a region beyond the volume"));
        }
        let extent = Extent { offset: region.offset(), length: region.bytes(self.label.size) as u32 };
        self.disk(Op::Check { link, region, theirs }, |_| DiskOp::Checksum(extent));
    }

    pub(super) fn checked_here(
        &mut self,
        link: LinkId,
        region: Region,
        theirs: u64,
        result: Result<DiskDone, DiskError>,
    ) {
        match result {
            Ok(DiskDone::Checksum(mine)) if self.session.link == Some(link) => {
                self.send(Message::Checked { region, same: mine == theirs }, None);
            }
            // What cannot be read is not the same: it is copied, which is what has a disk replace a bad sector. A disk that
            // cannot be written either has failed (V10).
            Err(error) if self.session.link == Some(link) => {
                self.report(Event::CheckUnread(region, error));
                self.send(Message::Checked { region, same: false }, None);
            }
            // Nobody waits for it any more.
            Ok(_) | Err(_) => {}
        }
    }
}

/// A message's name, for who looks after a protocol error.
fn name(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "hello",
        Message::Begin(_) => "that it is the source",
        Message::Bits(_) | Message::Ready(_) => "what its log has",
        Message::Resync { .. } => "to be inconsistent",
        Message::Behind => "that it is inconsistent",
        Message::Write { .. } | Message::Zero { .. } | Message::Flush { .. } => {
            "to write, outside the volume or its turn"
        }
        Message::Done { .. } => "that something is done",
        Message::Failed { .. } => "that it has failed",
        Message::Copy { .. } | Message::CopyZero { .. } | Message::CopyDone { .. } => "a region of a resync",
        Message::Check { .. } | Message::Checked { .. } => "a region to verify",
        Message::Whole { .. } => "that this copy is whole",
        Message::UpToDate => "that it is up to date",
        Message::End => "that it is not the source",
        Message::Pause | Message::Outdated => "to pause",
        Message::Superseded(_) => "that there is a newer claim",
        Message::Resolve(_) | Message::ResolveRefused => "who survives a split brain",
        Message::Ping => "that it is there",
    }
}
