//! What people and daemons hear of the processes, and what is judged then: whatever a copy has when it is put in service.

use mainstay_volume_core::io::{Basis, OperatorId, OperatorRequest, Refusal};
use mainstay_volume_core::status::{Event, LinkState};
use mainstay_volume_core::types::{Generation, REGION_BYTES};

use super::client::{NEWEST, STALE};
use super::disk::Stamp;
use super::history::History;
use super::world::{Said, World};

/// What an application knew before another copy was put in service.
#[derive(Clone, Debug)]
pub(super) struct Fork {
    pub(super) history: History,
    /// It was this machine's copy while the other one was put in service.
    pub(super) stale: Option<usize>,
    /// Something was acknowledged on another copy since: it counts only if an operator has named this one to survive.
    pub(super) beaten: bool,
}

impl World {
    pub(super) fn answered(&mut self, m: usize, id: OperatorId, result: Result<(), Refusal>) {
        self.tell(|| format!("{m} answers the operator: {result:?}"));
        let Some((_, request)) = self.operators.remove(&id) else { return };
        if let (OperatorRequest::Promote(basis), Ok(())) = (request, &result) {
            self.promoted(m, basis);
        }
        if self.said.is_some() {
            self.say(m, Said::Answer(id, result));
        } else {
            self.host.answered(m, request, &result);
        }
    }

    /// A copy is put in service: the promise is judged on it.
    fn promoted(&mut self, m: usize, basis: Basis) {
        if self.clients[STALE].at.is_some_and(|(at, _)| at == m) {
            self.stale_ends();
        }
        let other = self.clients[NEWEST].at.filter(|(at, start)| *at != m && self.runs(*at, *start));
        if self.said.is_some() && other.is_some_and(|(at, _)| self.is_source(at)) {
            self.becomes_stale();
        } else if self.clients[NEWEST].at.is_some() {
            self.disconnect();
        }
        self.history.disconnected();
        self.clients[NEWEST].at = Some((m, self.machines[m].start));
        let content = self.machines[m].data.now.clone();
        if basis == Basis::Force || std::mem::take(&mut self.forced[m]) {
            self.count("forced");
            self.forks.clear();
            return self.history.reset(&self.machines[m].data);
        }
        let before = self.history.clone();
        match self.history.judge_copy(&content) {
            Ok(()) => self.history.expose(&content),
            Err(why) => self.excuse(m, &content, basis, why),
        }
        // This one may go before anything is written here: then the other copy is put in service as it was.
        self.forks.push(Fork { history: before, stale: None, beaten: false });
    }

    /// Without an arbiter a source that reaches nobody goes on unmarked: the other copy, promoted by the operator's word,
    /// lacks what it has acknowledged since (V3, V4). When the first one comes back, that is there again.
    fn excuse(&mut self, m: usize, content: &[Stamp], basis: Basis, why: String) {
        let named = self.survivor == Some(m);
        let counts = |fork: &Fork| fork.stale.is_none_or(|stale| stale == m && (named || !fork.beaten));
        let fork = self.forks.iter().position(|fork| counts(fork) && fork.history.judge_copy(content).is_ok());
        // The arbiter was not reached, and the operator was shown when the other copy was last heard.
        let by_word = self.setting.arbiter && basis == Basis::Confirmed;
        let may_lose = self.said.is_none() || self.may_lose[m];
        if let Some(fork) = fork {
            self.history = self.forks.swap_remove(fork).history;
            self.history.disconnected();
            self.history.expose(content);
        } else if may_lose && (self.unmarked[1 - m] || by_word) {
            self.count("lost by a word");
            self.history.reset(&self.machines[m].data);
        } else {
            self.fail(|| format!("{why} (on {m})"));
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "only what a checker has to know; all of it is counted")]
    pub(super) fn reported(&mut self, m: usize, event: Event) {
        self.tell(|| format!("{m}: {event}"));
        let name = format!("{event:?}");
        let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
        self.count(&format!("event {name}"));
        match event {
            Event::GoingAlone { marked, .. } => {
                self.unmarked[m] |= !marked;
                self.count(if marked { "alone marked" } else { "alone unmarked" });
            }
            Event::Forced(_) => self.forced[m] = true,
            Event::UpToDate => {
                self.may_send = None;
                let whole = self.machines.iter().all(|machine| {
                    machine.volume.as_ref().is_some_and(|volume| volume.status().link == LinkState::Connected)
                });
                if whole {
                    self.unmarked = [false; 2];
                    self.forks.clear();
                }
            }
            Event::ResyncBegan { .. } if !self.is_source(m) => self.check_split(m),
            Event::ResyncBegan { .. } => {
                let bits = u64::from(self.machines[m].bits_on_disk().count());
                self.may_send = Some((bits * REGION_BYTES, self.sent_bytes));
            }
            Event::PermitEnded
            | Event::RightLost(_)
            | Event::RightEnded
            | Event::FoundBehind
            | Event::BackingFailed { .. } => {
                self.may_send = None;
            }
            _ => {}
        }
    }

    /// V11: a copy that has acknowledged alone is not overwritten by one that does not follow it, but by an operator's word.
    fn check_split(&mut self, m: usize) {
        let (mine, theirs) = (self.machines[m].label_on_disk(), self.machines[1 - m].label_on_disk());
        let follows = |generation| theirs.generation == generation || theirs.history.contains(&generation);
        let word = mine.gives_up_for.is_some_and(follows);
        if mine.generation != Generation::BLANK && !follows(mine.generation) && !word {
            self.fail(|| {
                format!("split: {m} has {} and is overwritten by {} (V11)", mine.generation, theirs.generation)
            });
        }
    }
}
