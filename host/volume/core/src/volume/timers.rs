//! What becomes of time: each thing that has a limit, and what follows when it is reached.

use mainstay_core::time::{Millis, Monotonic, Now};

use super::requests::Purpose;
use super::session::Stage;
use super::{Gate, Volume};
use crate::io::{LinkEnd, Mode};
use crate::message::Message;

/// Why a volume wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The permit ends (V1).
    Permit,
    /// A request has waited for the stall time (V1).
    Stall,
    /// The peer has said or answered nothing for too long.
    Silence,
    /// Going on alone is due, or asked again (V3).
    Alone,
    /// The rate limit of a resync lets the next region through.
    Rate,
    /// A sign of life, and whatever else is looked at about once a second: the log's cold regions, the last contact.
    Tick,
}

/// Looked at so often at the least.
const TICK: Millis = Millis::from_secs(1);
/// The time of last contact is written down so often, while there is contact.
const CONTACT: Millis = Millis::from_secs(60);

impl Volume {
    fn tick(&self) -> Millis {
        Millis(TICK.0.min(self.config.peer_timeout.0 / 4).max(1))
    }

    /// A process that was late itself blames nobody until it has listened again.
    pub(super) fn notice_gap(&mut self, now: Now) {
        if now.monotonic.since(self.now.monotonic).0 > self.config.peer_timeout.0 / 2 + self.tick().0 {
            self.session.heard = now.monotonic;
            self.session.listens = now.monotonic;
        }
    }

    pub(super) fn check_timers(&mut self) {
        self.check_permit();
        self.refuse_stalled();
        let now = self.now.monotonic;
        if self.session.link.is_some() {
            if let Some(silent) = self.silence().filter(|silent| *silent >= self.config.peer_timeout) {
                return self.close_link(LinkEnd::Silent(silent));
            }
            if self.session.greeted && now.since(self.session.spoke) >= self.tick() {
                self.send(Message::Ping, None);
            }
            let heard = self.session.heard;
            let met = self.session.peer.is_some() && self.met.is_none_or(|met| heard.since(met) >= CONTACT);
            if met && matches!(self.session.stage, Stage::Following { .. }) {
                self.note_contact(heard);
                self.write_label(super::Then::Nothing);
            }
        }
    }

    /// For how long the peer has owed us something.
    fn silence(&mut self) -> Option<Millis> {
        let (now, heard) = (self.now.monotonic, self.session.heard);
        if !self.session.greeted {
            return None;
        }
        // In async mode an answer takes as long as the lag.
        let allowed = match self.config.mode {
            Mode::Sync => Millis(0),
            Mode::Async { lag_max, .. } => lag_max,
        };
        let unanswered = self.requests.oldest_sent().filter(|_| self.gate == Gate::Mirror);
        let since = |when: Monotonic| now.since(when.max(self.session.listens));
        let unanswered = unanswered.map(|sent| Millis(since(sent).0.saturating_sub(allowed.0)));
        let waiting = match self.session.stage {
            Stage::Greeting | Stage::Beginning(_) | Stage::Turning => Some(since(self.session.since)),
            Stage::Down
            | Stage::Idle
            | Stage::Mirroring
            | Stage::Following { .. }
            | Stage::Paused
            | Stage::SplitBrain
            | Stage::Refused(_) => None,
        };
        [Some(now.since(heard)), unanswered, waiting].into_iter().flatten().max()
    }

    pub(super) fn next_timer(&mut self) -> (Monotonic, Timer) {
        let now = self.now.monotonic;
        let mut next = (now + self.tick(), Timer::Tick);
        let mut at = |when: Option<Monotonic>, why: Timer| {
            if let Some(when) = when.filter(|when| *when < next.0) {
                next = (when, why);
            }
        };
        at(self.right.as_ref().and_then(|right| right.until).filter(|until| *until > now), Timer::Permit);
        at(self.requests.next_deadline(self.config.stall_time), Timer::Stall);
        at(self.sweep.as_ref().and_then(|sweep| sweep.next_timer(self.config.resync_bytes_per_s)), Timer::Rate);
        if self.is_source() && self.gate == Gate::Closed {
            at(Some(self.session.since + self.config.alone_after).filter(|when| *when > now), Timer::Alone);
            at(self.alone.next_timer(self.config.mark_timeout, now), Timer::Alone);
        }
        if self.session.greeted {
            at(Some(self.session.heard + self.config.peer_timeout), Timer::Silence);
        }
        next
    }

    /// Clears the log of what is cold, behind a flush of both copies if it takes one (V5).
    pub(super) fn go_on_cooling(&mut self) {
        if self.gate != Gate::Mirror || !self.is_source() || self.demoting.is_some() {
            return;
        }
        // It looks at every hot region: not at each request, but about once a second, or when room is short.
        if self.is_flushing() || self.now.monotonic < self.cools_at && !self.intent.is_full() {
            return;
        }
        self.cools_at = self.now.monotonic + self.tick();
        self.cool();
        if self.intent.wants_flush(self.config.cool_after, self.now.monotonic) {
            self.flush_both(Purpose::Cool);
        }
    }

    pub(super) fn cool(&mut self) {
        let before = self.intent.changes();
        self.intent.cool(self.config.cool_after, self.now.monotonic);
        if self.intent.changes() != before {
            self.stir();
        }
    }
}
