//! Who may serve (V1, V2, V4): the host's right, promotion, demotion.

use alloc::string::ToString;

use mainstay_core::time::Monotonic;

use super::durable::{After, Then};
use super::requests::Purpose;
use super::session::Stage as Session;
use super::{Gate, Op, Volume};
use crate::io::{Basis, DiskDone, DiskError, OperatorId, Output, Refusal, RequestError};
use crate::label::DurableState;
use crate::message::Message;
use crate::planted::{self, Bug};
use crate::relation::{self, Relation};
use crate::status::{CopyState, Event, Promotion, Role};
use crate::types::{Epoch, Generation};

/// What the host has given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Right {
    pub(super) epoch: Epoch,
    /// Which daemon has entered that claim in its journal.
    pub(super) entered: u64,
    /// When it ends, with an arbiter.
    pub(super) until: Option<Monotonic>,
}

/// A promotion that waits for what came before, or for the label.
#[derive(Clone, Debug)]
pub(super) struct Promoting {
    id: OperatorId,
    since: Monotonic,
    /// What is given up by it; none: nothing.
    forced: Option<alloc::string::String>,
    stage: Stage,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What came before is being written.
    Waits,
    /// This copy's disk is being flushed.
    Flushing,
    /// It is flushed.
    Flushed,
    /// The label is being written.
    Writing,
}

/// A demotion that waits for what is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demoting {
    id: OperatorId,
    since: Monotonic,
    /// All is flushed; what is left is the log.
    flushed: bool,
}

impl Volume {
    pub(super) fn on_right(&mut self, right: Right) {
        let Right { epoch, entered, .. } = right;
        // V2: one that is not the newest, or another side's, is none.
        if epoch < self.label.epoch || epoch.side != self.label.side {
            return;
        }
        let before = self.right.map(|right| (right.epoch, right.entered));
        let serves = self.role == Role::Source || self.promoting.is_some();
        // Each claim follows the one before by one: if there was one in between, it was the other side's, and what this
        // copy serves may be old.
        if serves && before.is_some_and(|(before, _)| epoch.counter > before.counter.saturating_add(1)) {
            self.lose_right(Event::RightLost(epoch));
        }
        self.right = Some(right);
        if before.is_some_and(|before| before != (epoch, entered)) && self.role == Role::Source {
            let then = if self.label.epoch == epoch { Then::Nothing } else { Then::Anew };
            self.label.epoch = epoch;
            self.label.entered = entered;
            self.write_label(then);
        }
        self.stir();
    }

    /// V1: when the permit has ended, so has the right.
    pub(super) fn check_permit(&mut self) {
        let ended = |right: &Right| right.until.is_some_and(|until| until <= self.now.monotonic);
        if self.right.as_ref().is_some_and(ended) && !planted::is(Bug::PermitIgnored) {
            self.lose_right(Event::PermitEnded);
        }
    }

    /// A claim is heard of. A newer one than this copy's ends its right (V1).
    pub(super) fn learn(&mut self, epoch: Epoch) {
        if epoch <= self.label.epoch {
            return;
        }
        self.label.epoch = epoch;
        // Whoever has it has said so: even if it is this side's, this copy was not promoted by it.
        self.label.own = false;
        self.write_label(Then::Nothing);
        if self.right.as_ref().is_some_and(|right| right.epoch < epoch) {
            self.lose_right(Event::RightLost(epoch));
        }
    }

    /// Everything held and new gets an error, at once (V1).
    pub(super) fn lose_right(&mut self, why: Event) {
        if self.right.take().is_some() || self.role == Role::Source {
            self.report(why);
        }
        if let Some(id) = self.end_promoting() {
            self.outputs.push_back(Output::Answer { id, result: Err(Refusal::NoRight) });
        }
        self.end_service(RequestError::NoRight);
        self.stir();
    }

    /// A promotion that was under way is none any more: who has asked for it.
    pub(super) fn end_promoting(&mut self) -> Option<OperatorId> {
        self.promoting.take().map(|promoting| promoting.id)
    }

    /// This copy is not the source any more. What is under way on its disk ends by itself.
    pub(super) fn end_service(&mut self, error: RequestError) {
        self.refuse_all(error);
        let was_source = self.role == Role::Source;
        self.role = Role::Target;
        if let Some(Demoting { id, .. }) = self.demoting.take() {
            self.outputs.push_back(Output::Answer { id, result: Err(Refusal::NoRight) });
        }
        if !was_source {
            return;
        }
        self.alone.stop_asking();
        match self.session.stage {
            Session::Beginning(_) | Session::Turning | Session::Mirroring => self.end_mirroring(),
            // The peer was told that this copy is the source.
            Session::Greeting | Session::Idle | Session::Paused | Session::SplitBrain | Session::Refused(_) => {
                self.greet_anew()
            }
            Session::Following { .. } | Session::Down => {}
        }
        self.stop_mirroring();
        self.gate = Gate::Closed;
    }

    fn end_mirroring(&mut self) {
        self.send(Message::End, None);
        self.session.stage = Session::Idle;
        self.session.since = self.now.monotonic;
    }

    /// What the copy is worth (V4).
    pub(super) fn worth(&self) -> CopyState {
        if self.failed.is_some() {
            return CopyState::Failed;
        }
        let contact = self.session.contact();
        if self.role == Role::Source {
            // It is the measure of the other one.
            return CopyState::UpToDate;
        }
        if contact.is_none() && self.label.epoch == Epoch::NONE && self.label.state == DurableState::Good {
            // Made of the data that is there, and no claim was ever heard of: the other copy is empty, and takes force.
            return CopyState::UpToDate;
        }
        relation::worth(self.label.state, contact, self.last_contact())
    }

    /// What a promotion by force gives up.
    fn given_up(&self) -> alloc::string::String {
        match self.label.state {
            DurableState::Inconsistent => alloc::format!(
                "this copy is in the middle of a resync, was created empty, or its disk failed: up to {} regions of it may be of different times; a file system on it may be damaged. Last contact {}",
                self.intent.dirty().regions(),
                self.last_contact()
            ),
            DurableState::Outdated | DurableState::Good => {
                alloc::format!("everything that the other copy has acknowledged since {}", self.last_contact())
            }
        }
    }

    /// Whether it was the source by the very claim that it has now: to promote the other one since would have taken a newer
    /// claim. A journal that was lost does not know of it, and a claim made after it may have the same name. Nothing has more than this copy, whatever the link says. But not if the arbiter has a mark against it: a claim
    /// made on the operator's word may be newer than any that the arbiter, and who marks there, had heard of.
    fn is_newest_by_claim(&self) -> bool {
        let same =
            self.right.is_some_and(|right| (right.epoch, right.entered) == (self.label.epoch, self.label.entered));
        same && self.label.own && self.label.state == DurableState::Good && self.failed.is_none()
    }

    /// What it takes to promote this copy.
    pub(super) fn promotion(&self) -> Promotion {
        if self.is_newest_by_claim() {
            return Promotion::Free;
        }
        match self.worth() {
            CopyState::UpToDate => Promotion::Free,
            CopyState::LastKnownGood { since } => Promotion::Confirm { since },
            CopyState::Outdated | CopyState::Inconsistent => Promotion::Force(self.given_up()),
            CopyState::Failed => Promotion::Never("its backing has failed".into()),
        }
    }

    pub(super) fn promote(&mut self, id: OperatorId, basis: Basis) {
        // An earlier process wrote down when it last heard the peer by a wall clock that may have been set since: that
        // deceives nobody whom it is shown, but it is nothing to compare with.
        let together = basis == Basis::Automatic { together: true } && self.met.is_some();
        let basis = if let Basis::Automatic { .. } = basis { Basis::Automatic { together } } else { basis };
        let newest = self.is_newest_by_claim() && basis != Basis::Arbiter { marked: true };
        let worth = if newest { CopyState::UpToDate } else { self.worth() };
        let refusal = match (self.right.as_ref(), self.failed, relation::may_promote(worth, basis)) {
            (_, Some((what, error)), _) => Some(Refusal::Backing(alloc::format!("{what}: {error:?}"))),
            (None, ..) => Some(Refusal::NoRight),
            (Some(right), ..) if right.epoch < self.label.epoch => Some(Refusal::NoRight),
            (Some(_), None, Err(what)) if !planted::is(Bug::OutdatedPromoted) => {
                Some(Refusal::Copy { state: worth.to_string(), what: what.into() })
            }
            (Some(_), None, _) => None,
        };
        if matches!(basis, Basis::Arbiter { marked: true })
            && self.label.state == DurableState::Good
            && !(newest || self.in_contact())
        {
            // The arbiter knows better than the label.
            self.label.state = DurableState::Outdated;
            self.write_label(Then::Nothing);
        }
        let result = match refusal {
            Some(refusal) => Err(refusal),
            None if self.role == Role::Source => Ok(()),
            None if self.promoting.is_some() || self.demoting.is_some() => {
                Err(Refusal::Not("it is being promoted or demoted already"))
            }
            None => {
                let free = relation::may_promote(worth, Basis::Confirmed).is_ok();
                let forced = (basis == Basis::Force && !free).then(|| self.given_up());
                self.promoting = Some(Promoting { id, since: self.now.monotonic, forced, stage: Stage::Waits });
                return self.stir();
            }
        };
        self.outputs.push_back(Output::Answer { id, result });
    }

    fn in_contact(&self) -> bool {
        matches!(self.session.contact(), Some(Relation::Same | Relation::Ahead))
    }

    /// V2: the claim is durable before the first request is served. What the old source told is written before that, and
    /// flushed: in async mode it may have acknowledged a flush that did not come here, and what is read from now on is not
    /// to be lost when what is written after it is there.
    pub(super) fn go_on_promoting(&mut self) {
        let Some(promoting) = self.promoting.clone().filter(|it| it.stage != Stage::Writing) else { return };
        if self.now.monotonic.since(promoting.since) >= self.config.stall_time {
            self.promoting = None;
            return self.outputs.push_back(Output::Answer { id: promoting.id, result: Err(Refusal::Stalled) });
        }
        let Some(right) = self.right else { return };
        if matches!(self.session.stage, Session::Following { .. }) {
            // The old source learns of it, and is met anew.
            self.send(Message::Superseded(right.epoch), None);
            self.greet_anew();
        }
        let greeting = matches!(self.session.stage, Session::Greeting) && self.session.greeted;
        if !self.opened || !self.apply.is_idle() || self.durable.stamping || !self.requests.is_idle() {
            return;
        }
        if greeting {
            // It has said that it is no source.
            self.greet_anew();
        }
        if promoting.stage != Stage::Flushed {
            if promoting.stage == Stage::Waits {
                self.promoting = Some(Promoting { stage: Stage::Flushing, ..promoting.clone() });
                self.flush_disk(Op::Promotion(promoting.id));
            }
            return;
        }
        self.promoting = Some(Promoting { stage: Stage::Writing, ..promoting.clone() });
        self.label.epoch = right.epoch;
        self.label.entered = right.entered;
        self.label.own = true;
        self.label.served = true;
        self.label.gives_up_for = None;
        if let Some(lost) = promoting.forced {
            // Data of its own: whatever the other copy has is never overwritten without the operator's word (V11).
            self.label.state = DurableState::Good;
            let (epoch, side) = (right.epoch.counter, self.label.side);
            self.label.begin(Generation { epoch, side, began: self.now.unix });
            self.label.exclusive = true;
            self.report(Event::Forced(lost));
            self.restamp(After::Forced(promoting.id));
        } else {
            self.write_label(Then::Promoted(promoting.id));
        }
    }

    pub(super) fn flushed_to_promote(&mut self, id: OperatorId, result: Result<DiskDone, DiskError>) {
        let Err(error) = result else {
            let waits = |promoting: &&mut Promoting| promoting.id == id && promoting.stage == Stage::Flushing;
            if let Some(promoting) = self.promoting.as_mut().filter(waits) {
                promoting.stage = Stage::Flushed;
            }
            return self.stir();
        };
        self.fail("flushing", error);
    }

    pub(super) fn promoted(&mut self, id: OperatorId) {
        let Some(promoting) = self.promoting.take_if(|promoting| promoting.id == id) else { return };
        self.role = Role::Source;
        self.gate = Gate::Closed;
        self.alone.peer_marked = false;
        self.alone.stop_asking();
        self.outputs.push_back(Output::Answer { id: promoting.id, result: Ok(()) });
        self.report(Event::Promoted(self.label.epoch));
        if let Some(right) = self.right.filter(|right| right.epoch > self.label.epoch) {
            // It was renewed meanwhile.
            self.label.epoch = right.epoch;
            self.label.entered = right.entered;
            self.write_label(Then::Anew);
        }
        self.begin_session();
        self.stir();
    }

    pub(super) fn demote(&mut self, id: OperatorId) {
        if self.role == Role::Target {
            return self.outputs.push_back(Output::Answer { id, result: Ok(()) });
        }
        let demoting = Demoting { id, since: self.now.monotonic, flushed: false };
        if let Some(before) = self.demoting.replace(demoting) {
            self.outputs.push_back(Output::Answer { id: before.id, result: Err(Refusal::Superseded) });
        }
        self.stir();
    }

    /// In order: all that is under way is done, then both copies flush, then the log is cleared of what is the same.
    pub(super) fn go_on_demoting(&mut self) {
        let Some(Demoting { id, since, flushed }) = self.demoting else { return };
        if self.now.monotonic.since(since) >= self.config.stall_time {
            // Nothing is held for longer. What was not flushed is in the log.
            self.demoting = None;
            self.end_service(RequestError::Stalled);
            return self.outputs.push_back(Output::Answer { id, result: Err(Refusal::Stalled) });
        }
        if flushed || !self.requests.is_idle() || self.durable.stamping {
            return;
        }
        match self.gate {
            // Whatever the peer may lack, or may have lost, is in the log.
            Gate::Closed => self.flushed_to_demote(),
            Gate::Mirror | Gate::Alone => self.flush_both(Purpose::Demote),
        }
    }

    pub(super) fn flushed_to_demote(&mut self) {
        let Some(demoting) = &mut self.demoting else { return };
        demoting.flushed = true;
        if self.gate == Gate::Mirror {
            self.intent.cool(mainstay_core::time::Millis(0), self.now.monotonic);
        }
        self.after_log(Then::Demoted);
    }

    pub(super) fn demoted(&mut self) {
        let Some(Demoting { id, .. }) = self.demoting.take() else { return };
        self.label.served = self.gate != Gate::Mirror;
        self.note_contact(self.now.monotonic);
        self.end_service(RequestError::NoRight);
        self.report(Event::Demoted);
        self.write_label(Then::Answer(id));
    }
}
