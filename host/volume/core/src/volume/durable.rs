//! What waits for the label and the log to be durable, and what follows then. One write of each is under way at a time;
//! what changes meanwhile is in the next one.

use alloc::vec::Vec;

use super::{Op, Volume};
use crate::io::{DiskError, DiskOp, LinkId, Marked, OperatorId, Output, Token, WriteId};
use crate::log::Header;
use crate::message::Message;
use crate::status::Event;

/// What follows when the label, or the log, is durable.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// The new stamp is announced: write it to the log.
    Announced(After),
    /// The log has it.
    Stamped(After),
    /// The label says that it has.
    Settled(After),
    /// V2: the claim is known; serve, if this is still the promotion that waits.
    Promoted(OperatorId),
    /// The copy's own log has all of the peer's bits: tell it to be inconsistent.
    Merged(LinkId),
    /// V2: the source's claim is known: tell it what this log has.
    Accepted(LinkId),
    /// V12: it is inconsistent.
    Behind(LinkId),
    /// The source does not count itself as the only one any more: tell the target that it is whole.
    Shared(LinkId),
    /// It is whole.
    Whole(LinkId),
    /// V3: outdated, at a source's request over a comm path.
    Marked(Token),
    /// Outdated, because the mirror is paused.
    Outdated(LinkId),
    /// V10: inconsistent.
    Failed,
    /// The log is clear of what both have.
    Demoted,
    /// Tell the operator.
    Answer(OperatorId),
    /// Greet the peer anew.
    Anew,
    /// Nothing.
    Nothing,
}

/// Why the stamp changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// The volume is opened.
    Opened,
    /// V3: a generation begins; whether the peer's copy is marked.
    Alone {
        /// Whether.
        marked: bool,
    },
    /// V4: a generation begins by force.
    Forced(OperatorId),
    /// The target is whole, of the source's generation.
    Whole(LinkId),
}

/// Writes of the label and the log.
#[derive(Debug)]
pub(super) struct Durable {
    next: u64,
    label_writing: Option<(WriteId, Vec<Then>)>,
    label_waiting: Vec<Then>,
    log_writing: Option<WriteId>,
    /// What waits for the log, and for how many of its changes.
    log_waiting: Vec<(u64, Then)>,
    header: Option<Then>,
    header_writing: Option<Then>,
    sequence: u64,
    /// A change of the stamp is under way.
    pub(super) stamping: bool,
}

impl Durable {
    pub(super) fn new(sequence: u64) -> Self {
        Self {
            next: 0,
            label_writing: None,
            label_waiting: Vec::new(),
            log_writing: None,
            log_waiting: Vec::new(),
            header: None,
            header_writing: None,
            sequence,
            stamping: false,
        }
    }

    fn id(&mut self) -> WriteId {
        self.next += 1;
        WriteId(self.next)
    }
}

impl Volume {
    /// Writes the label as it is now; what follows when it is durable.
    pub(super) fn write_label(&mut self, then: Then) {
        self.durable.label_waiting.push(then);
        self.write_label_if_free();
    }

    fn write_label_if_free(&mut self) {
        if self.durable.label_writing.is_some() || self.durable.label_waiting.is_empty() {
            return;
        }
        self.label.sequence += 1;
        let block = self.label.encode();
        let id = self.durable.id();
        self.durable.label_writing = Some((id, core::mem::take(&mut self.durable.label_waiting)));
        self.outputs.push_back(Output::WriteLabel { id, block });
    }

    /// What follows when everything that the log is to say by now is durable.
    pub(super) fn after_log(&mut self, then: Then) {
        let changes = self.intent.changes();
        self.durable.log_waiting.push((changes, then));
        self.stir();
    }

    /// Begins a write of the log if there is something to write.
    pub(super) fn write_log(&mut self) {
        if self.failed.is_some() || self.durable.log_writing.is_some() {
            return;
        }
        self.follow_log();
        if let Some(blocks) = self.intent.take_write() {
            let id = self.durable.id();
            self.durable.log_writing = Some(id);
            self.outputs.push_back(Output::WriteLog { id, blocks });
        } else if let Some(then) = self.durable.header.take() {
            // Last: a header that is durable before the bits would make them believed (V6).
            self.durable.sequence += 1;
            let block = Header::of(&self.label, self.durable.sequence).encode();
            let id = self.durable.id();
            self.durable.log_writing = Some(id);
            self.durable.header_writing = Some(then);
            self.outputs.push_back(Output::WriteLog { id, blocks: alloc::vec![block] });
        }
    }

    /// What waited for changes of the log that are durable by now.
    fn follow_log(&mut self) {
        let waiting = core::mem::take(&mut self.durable.log_waiting);
        for (changes, then) in waiting {
            if self.intent.is_durable(changes) {
                self.follow(then);
            } else {
                self.durable.log_waiting.push((changes, then));
            }
        }
    }

    pub(super) fn on_written(&mut self, id: WriteId, result: Result<(), DiskError>) {
        if self.durable.label_writing.as_ref().is_some_and(|(writing, _)| *writing == id) {
            let thens = self.durable.label_writing.take().map(|(_, thens)| thens).unwrap_or_default();
            match result {
                Ok(()) => thens.into_iter().for_each(|then| self.follow(then)),
                Err(error) => {
                    if self.failed.is_none() {
                        self.fail("writing the label", error);
                    } else {
                        // A copy that has failed cannot say so durably either.
                        self.follow_failed(false);
                    }
                    thens.into_iter().for_each(|then| self.give_up_on(then));
                }
            }
            self.write_label_if_free();
        } else if self.durable.log_writing == Some(id) {
            self.durable.log_writing = None;
            match (result, self.durable.header_writing.take()) {
                (Ok(()), Some(then)) => self.follow(then),
                (Ok(()), None) => self.intent.written(),
                (Err(error), _) => self.fail("writing the intent log", error),
            }
        }
        self.stir();
    }

    /// V6: a new stamp in the label, then in the log, then settled. See `label`.
    pub(super) fn restamp(&mut self, after: After) {
        self.durable.stamping = true;
        // One that was never settled may be in the log already: it is taken up again, not raised.
        if self.label.settled {
            self.label.stamp += 1;
            self.label.settled = false;
        }
        self.write_label(Then::Announced(after));
    }

    fn follow(&mut self, then: Then) {
        match then {
            Then::Announced(after) => self.durable.header = Some(Then::Stamped(after)),
            Then::Stamped(after) => {
                self.label.settled = true;
                self.write_label(Then::Settled(after));
            }
            Then::Settled(after) => {
                self.durable.stamping = false;
                match after {
                    After::Opened => self.opened = true,
                    After::Alone { marked } => self.gone_alone(marked),
                    After::Forced(id) => self.promoted(id),
                    After::Whole(link) => self.whole(link),
                }
            }
            Then::Promoted(id) => self.promoted(id),
            Then::Merged(link) => self.merged(link),
            Then::Accepted(link) => self.accepted(link),
            Then::Behind(link) => self.behind(link),
            Then::Shared(link) => self.shared(link),
            Then::Whole(link) => self.whole(link),
            Then::Marked(token) => {
                self.outputs.push_back(Output::AnswerMark { token, outcome: Marked::Done });
                self.report(Event::MarkedOutdated);
            }
            Then::Outdated(link) if self.session.link == Some(link) => self.send(Message::Outdated, None),
            Then::Failed => self.follow_failed(true),
            Then::Demoted => self.demoted(),
            Then::Answer(id) => self.outputs.push_back(Output::Answer { id, result: Ok(()) }),
            Then::Anew => self.greet_anew(),
            Then::Outdated(_) | Then::Nothing => {}
        }
        self.stir();
    }

    /// What waited for the log never follows: nothing is written to it any more.
    pub(super) fn give_up_on_log(&mut self) {
        for (_, then) in core::mem::take(&mut self.durable.log_waiting) {
            self.give_up_on(then);
        }
    }

    /// It will not be durable: whoever waits for it is told.
    fn give_up_on(&mut self, then: Then) {
        match then {
            Then::Answer(id) => {
                let result = Err(self.why_failed());
                self.outputs.push_back(Output::Answer { id, result });
            }
            Then::Marked(token) => {
                self.outputs.push_back(Output::AnswerMark { token, outcome: Marked::Unreachable });
            }
            // Promotions and demotions are ended with the service; what is said to the peer is that this copy has failed.
            Then::Announced(_)
            | Then::Stamped(_)
            | Then::Settled(_)
            | Then::Promoted(_)
            | Then::Merged(_)
            | Then::Accepted(_)
            | Then::Behind(_)
            | Then::Shared(_)
            | Then::Whole(_)
            | Then::Outdated(_)
            | Then::Failed
            | Then::Demoted
            | Then::Anew
            | Then::Nothing => {}
        }
    }

    fn follow_failed(&mut self, marked: bool) {
        self.alone.failed_marked = Some(marked);
        self.tell_failure();
    }

    /// A flush of this copy's disk alone.
    pub(super) fn flush_disk(&mut self, op: Op) {
        self.disk(op, |_| DiskOp::Flush);
    }
}
