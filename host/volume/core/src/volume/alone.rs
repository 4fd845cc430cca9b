//! When the source goes on without its target (V3).
//!
//! ```text
//! contact lost, somebody waits ──alone_after──> the target marks itself, over any path
//!       ^                                          │ not reached
//!       │                                          ├── arbiter ──> compare-and-swap there ── not reached: wait, ask again
//!       │ link is back                             └── none ─────> unmarked
//!       └───────────────────────────────────────── marked: a generation, durable ──> alone
//! ```

use mainstay_core::time::{Millis, Monotonic};

use super::durable::{After, Then};
use super::session::Stage;
use super::{Gate, Volume};
use crate::io::{Marked, Output, Token};
use crate::label::DurableState;
use crate::planted::{self, Bug};
use crate::status::{Event, Role};
use crate::types::{Epoch, Generation};

/// The mark is asked for again after so long.
const AGAIN: Millis = Millis::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Peer,
    Arbiter,
}

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Alone {
    asking: Option<(Token, Asked, Monotonic)>,
    again: Monotonic,
    told: bool,
    /// The peer's copy cannot be promoted without force: it was marked, or is inconsistent, durably.
    pub(super) peer_marked: bool,
    /// This copy has failed, and whether it could say so durably.
    pub(super) failed_marked: Option<bool>,
}

impl Alone {
    /// Contact is back: no mark is wanted any more. An answer that comes late means nothing.
    pub(super) fn stop_asking(&mut self) {
        self.asking = None;
        self.told = false;
    }

    /// When to look again.
    pub(super) fn next_timer(&self, mark_timeout: Millis, now: Monotonic) -> Option<Monotonic> {
        match self.asking {
            Some((_, _, since)) => Some(since + mark_timeout + mark_timeout),
            None => Some(self.again).filter(|again| *again > now),
        }
    }
}

impl Volume {
    /// The source, without a peer, with somebody who waits.
    pub(super) fn go_on_alone(&mut self) {
        if !self.is_source() || self.gate != Gate::Closed || self.durable.stamping {
            return;
        }
        if self.label.exclusive {
            // V3 was done for this generation, and the peer's copy was never told that it is whole since.
            self.gate = Gate::Alone;
            return self.resume_lost();
        }
        let waited = self.now.monotonic.since(self.session.since);
        let hopeful = self.session.link.is_some() && self.session.is_hopeful();
        let early = self.session.link.is_none() && waited < self.config.alone_after;
        let overdue =
            self.alone.asking.filter(|(_, _, since)| self.now.monotonic.since(*since) >= self.asked_too_long());
        if hopeful || early || !self.requests.any_waits() {
            if overdue.is_some() {
                // Nobody waits for the answer any more: who comes next asks anew.
                self.alone.asking = None;
            }
            return;
        }
        if self.alone.peer_marked || planted::is(Bug::NoMark) {
            return self.begin_generation(true);
        }
        match (self.alone.asking, overdue) {
            (_, Some((token, _, _))) => self.on_marked(token, Marked::Unreachable),
            (None, None) if self.now.monotonic >= self.alone.again => {
                let token = self.ask(Asked::Peer);
                let (epoch, generation) = (self.label.epoch, self.label.generation);
                self.outputs.push_back(Output::MarkPeer { token, epoch, generation });
            }
            (None | Some(_), None) => {}
        }
    }

    /// The host answers in time, or is taken for one that does not.
    fn asked_too_long(&self) -> Millis {
        Millis(2 * self.config.mark_timeout.0)
    }

    fn ask(&mut self, asked: Asked) -> Token {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.alone.asking = Some((token, asked, self.now.monotonic));
        token
    }

    pub(super) fn on_marked(&mut self, token: Token, outcome: Marked) {
        let Some((_, asked, _)) = self.alone.asking.filter(|(asked, _, _)| *asked == token) else { return };
        self.alone.asking = None;
        self.stir();
        if !self.is_source() || self.gate != Gate::Closed {
            return;
        }
        match (outcome, asked) {
            (Marked::Done, _) => {
                self.alone.peer_marked = true;
                self.begin_generation(true);
            }
            (Marked::Unreachable, Asked::Peer) if self.config.arbiter => {
                let token = self.ask(Asked::Arbiter);
                let epoch = self.label.epoch;
                self.outputs.push_back(Output::MarkArbiter { token, epoch, outdated: true });
            }
            (Marked::Unreachable, Asked::Peer) => self.begin_generation(false),
            (Marked::Superseded(epoch), _) => {
                self.report(Event::NotMarked(outcome));
                self.learn(epoch);
                // Whatever it is, this copy's claim is not the newest.
                self.lose_right(Event::RightLost(epoch));
            }
            (Marked::Unreachable, Asked::Arbiter) | (Marked::InContact, _) => {
                if !self.alone.told {
                    self.alone.told = true;
                    self.report(Event::NotMarked(outcome));
                }
                self.alone.again = self.now.monotonic + AGAIN;
            }
        }
    }

    fn begin_generation(&mut self, marked: bool) {
        self.label.begin(Generation { epoch: self.label.epoch.counter, side: self.label.side, began: self.now.unix });
        self.label.exclusive = true;
        self.restamp(After::Alone { marked });
        if planted::is(Bug::GenerationLate) {
            self.gate = Gate::Alone;
            self.resume_lost();
        }
    }

    /// The generation is durable.
    pub(super) fn gone_alone(&mut self, marked: bool) {
        self.alone.stop_asking();
        self.report(Event::GoingAlone { generation: self.label.generation, marked });
        if self.is_source() && self.gate == Gate::Closed {
            self.gate = Gate::Alone;
            self.resume_lost();
        }
    }

    /// The arbiter's mark, if there may be one, is not so any more. Not waited for: a mark that stays too long only keeps
    /// the target from being promoted.
    pub(super) fn unmark_in_arbiter(&mut self) {
        if self.config.arbiter {
            self.tokens += 1;
            let (token, epoch) = (Token(self.tokens), self.label.epoch);
            self.outputs.push_back(Output::MarkArbiter { token, epoch, outdated: false });
        }
    }

    /// The source asks over a comm path that this copy is marked.
    pub(super) fn on_asked_outdated(&mut self, token: Token, epoch: Epoch, generation: Generation) {
        let newest = self.right.as_ref().map_or(self.label.epoch, |right| right.epoch.max(self.label.epoch));
        let outcome = if self.role == Role::Source || self.promoting.is_some() || epoch < newest {
            Some(Marked::Superseded(newest))
        } else if self.is_followed() || self.label.history.contains(&generation) {
            // One that went on from there has more than the source that asks, which is about to find out.
            Some(Marked::InContact)
        } else {
            None
        };
        if let Some(outcome) = outcome {
            return self.outputs.push_back(Output::AnswerMark { token, outcome });
        }
        self.learn(epoch);
        if self.label.state == DurableState::Good {
            self.label.state = DurableState::Outdated;
        }
        self.write_label(Then::Marked(token));
    }

    /// Whether this copy is the target of a source that it hears.
    fn is_followed(&self) -> bool {
        matches!(self.session.stage, Stage::Following { .. })
            && self.now.monotonic.since(self.session.heard) < self.config.peer_timeout
    }
}
