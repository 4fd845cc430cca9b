//! What a person may ask for, besides promotion and demotion: pause, resume, verify, invalidate, resolve.

use super::Volume;
use super::durable::Then;
use super::session::Stage;
use crate::io::{LinkId, OperatorId, OperatorRequest, Output, Refusal};
use crate::label::DurableState;
use crate::message::Message;
use crate::status::{Event, Role};
use crate::types::Side;

impl Volume {
    pub(super) fn on_operator(&mut self, id: OperatorId, request: OperatorRequest) {
        self.stir();
        match request {
            OperatorRequest::Promote(basis) => self.promote(id, basis),
            OperatorRequest::Demote => self.demote(id),
            OperatorRequest::Pause => self.pause(id),
            OperatorRequest::Resume => self.resume(id),
            OperatorRequest::Verify => self.verify(id),
            OperatorRequest::Invalidate => self.invalidate(id),
            OperatorRequest::Resolve(survivor) => self.resolve(id, survivor),
        }
    }

    fn answer_with(&mut self, id: OperatorId, result: Result<(), Refusal>) {
        self.outputs.push_back(Output::Answer { id, result });
    }

    /// The source first has the target marked, over the link that there is (V3).
    fn pause(&mut self, id: OperatorId) {
        match self.session.stage {
            Stage::Following { .. } => {
                self.send(Message::Pause, None);
                self.answer_with(id, Ok(()));
            }
            Stage::Mirroring => {
                self.label.paused = true;
                self.send(Message::Pause, None);
                self.write_label(Then::Answer(id));
            }
            Stage::Down
            | Stage::Greeting
            | Stage::Idle
            | Stage::Beginning(_)
            | Stage::Turning
            | Stage::Paused
            | Stage::SplitBrain
            | Stage::Refused(_) => {
                self.label.paused = true;
                self.write_label(Then::Answer(id));
                self.write_label(Then::Anew);
                self.report(Event::Paused);
            }
        }
    }

    pub(super) fn on_pause_message(&mut self, link: LinkId, message: &Message, stage: &Stage) {
        match (message, stage) {
            // The target's operator wants it.
            (Message::Pause, Stage::Mirroring) => {
                self.label.paused = true;
                self.write_label(Then::Nothing);
                self.send(Message::Pause, None);
            }
            (Message::Pause, Stage::Following { .. }) => {
                if self.label.state == DurableState::Good {
                    self.label.state = DurableState::Outdated;
                }
                self.session.stage = Stage::Paused;
                self.report(Event::Paused);
                self.write_label(Then::Outdated(link));
            }
            (Message::Outdated, Stage::Mirroring) => {
                self.alone.peer_marked = true;
                self.session.stage = Stage::Paused;
                self.report(Event::Paused);
                self.stop_mirroring();
            }
            _ => {}
        }
    }

    fn resume(&mut self, id: OperatorId) {
        if !self.label.paused {
            let here = Refusal::Not("the mirror is not paused on this side");
            return self.answer_with(id, Err(here));
        }
        self.label.paused = false;
        self.report(Event::Resumed);
        self.write_label(Then::Answer(id));
        self.write_label(Then::Anew);
    }

    fn invalidate(&mut self, id: OperatorId) {
        if self.role == Role::Source || self.promoting.is_some() {
            return self.answer_with(id, Err(Refusal::Not("a source is not invalidated: demote it first")));
        }
        if let Some((what, error)) = self.failed {
            return self.answer_with(id, Err(Refusal::Backing(alloc::format!("{what}: {error:?}"))));
        }
        self.greet_anew();
        self.intent.all_differ();
        self.label.state = DurableState::Inconsistent;
        self.report(Event::Invalidated);
        self.write_label(Then::Nothing);
        self.after_log(Then::Answer(id));
    }

    /// V11: the operator names the survivor of a split brain; the other copy gives up its own data.
    fn resolve(&mut self, id: OperatorId, survivor: Side) {
        let result = match (&self.session.stage, survivor == self.label.side) {
            (Stage::SplitBrain, true) => {
                self.send(Message::Resolve(survivor), None);
                Ok(())
            }
            (Stage::SplitBrain, false) if self.role == Role::Target && self.promoting.is_none() => {
                self.give_up(Then::Answer(id));
                return;
            }
            (Stage::SplitBrain, false) => {
                Err(Refusal::Not("this copy serves its data: take it out of service before it is given up"))
            }
            _ => Err(Refusal::Not("there is no split brain, or the peer is not in contact")),
        };
        self.answer_with(id, result);
    }

    pub(super) fn on_resolve_message(&mut self, survivor: Side) {
        if survivor == self.label.side {
            return;
        }
        if self.role == Role::Source || self.promoting.is_some() {
            return self.send(Message::ResolveRefused, None);
        }
        self.give_up(Then::Nothing);
    }

    fn give_up(&mut self, then: Then) {
        let Some(peer) = &self.session.peer else { return };
        self.label.gives_up_for = Some(peer.generation);
        self.report(Event::Resolved(peer.side));
        self.label.state = DurableState::Outdated;
        self.write_label(then);
        self.write_label(Then::Anew);
    }
}
