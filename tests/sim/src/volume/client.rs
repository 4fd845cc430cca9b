//! The application: it writes, zeroes, flushes and reads wherever a copy was put in service last, and knows what it was
//! answered. Where two daemons may both believe that they own a volume, one that has not noticed that the other copy was
//! put in service goes on as well.

use std::collections::BTreeMap;

use mainstay_volume_core::io::{ConnectionId, Input, RequestError, RequestId, RequestKind};
use mainstay_volume_core::status::LinkState;
use mainstay_volume_core::types::{Extent, SECTOR_BYTES};

use super::disk::{Stamp, sectors};
use super::history::History;
use super::people::Fork;
use super::world::{Later, SIZE, Said, World};

/// A request under way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    kind: RequestKind,
    stamp: Stamp,
    flush: u64,
}

/// An application, on which machine and with which process.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) at: Option<(usize, u64)>,
    pub(super) asked: BTreeMap<RequestId, Asked>,
    pub(super) left: u64,
    /// Something was acknowledged elsewhere since another copy was put in service.
    pub(super) beaten: bool,
}

/// The place in [`World::clients`] of who uses the copy that was put in service last.
pub(super) const NEWEST: usize = 0;
/// Of who has not noticed that there is another.
pub(super) const STALE: usize = 1;

impl World {
    fn history_of(&mut self, who: usize) -> &mut History {
        if who == STALE { &mut self.stale_history } else { &mut self.history }
    }

    /// Who has asked for this.
    fn asker(&self, m: usize, id: RequestId) -> Option<usize> {
        let here = |who: &usize| {
            let client = &self.clients[*who];
            client.at == Some((m, self.machines[m].start)) && client.asked.contains_key(&id)
        };
        [NEWEST, STALE].into_iter().find(here)
    }

    /// The process of a machine has ended, or is about to.
    pub(super) fn applications_lose(&mut self, m: usize) {
        if self.clients[NEWEST].at.is_some_and(|(at, _)| at == m) {
            self.disconnect();
        }
        if self.clients[STALE].at.is_some_and(|(at, _)| at == m) {
            self.stale_ends();
        }
    }

    pub(super) fn disconnect(&mut self) {
        self.clients[NEWEST].at = None;
        self.clients[NEWEST].asked.clear();
        self.history.disconnected();
    }

    /// A copy is put in service while the other one is: who uses that one does not know.
    pub(super) fn becomes_stale(&mut self) {
        self.stale_ends();
        self.stale_history = self.history.clone();
        let left = self.clients[NEWEST].left;
        self.clients[STALE] = std::mem::take(&mut self.clients[NEWEST]);
        self.clients[STALE].beaten = false;
        self.clients[NEWEST].left = left;
        self.count("two in service");
    }

    /// What it knows counts again if that copy is put in service again: of what it wrote last, answered or not, all may be
    /// there.
    pub(super) fn stale_ends(&mut self) {
        let client = std::mem::take(&mut self.clients[STALE]);
        if let Some((m, _)) = client.at {
            self.stale_history.disconnected();
            let history = self.stale_history.clone();
            self.forks.push(Fork { history, stale: Some(m), beaten: client.beaten });
        }
    }

    fn is_connected(&self, m: usize) -> bool {
        self.link_state(m) == Some(LinkState::Connected)
    }

    /// The other copy, which was put in service later, has become its target: it is the only one from now on, and the other
    /// one had nothing to lose, unless an operator has said so.
    fn stale_wins(&mut self, m: usize) {
        if self.clients[STALE].beaten && self.survivor != Some(m) {
            self.fail(|| format!("split: what was acknowledged on {} since is overwritten from {m} (V11)", 1 - m));
        }
        self.disconnect();
        self.survives(m);
        self.survivor = None;
    }

    /// An operator has named a copy to survive that is in service already: whoever uses it is the only one from now on.
    pub fn survives(&mut self, m: usize) {
        self.survivor = Some(m);
        if self.clients[STALE].at.is_some_and(|(at, _)| at == m) {
            let left = self.clients[NEWEST].left;
            self.clients[NEWEST] = std::mem::take(&mut self.clients[STALE]);
            self.clients[NEWEST].left = left;
            self.history = self.stale_history.clone();
        }
    }

    pub(super) fn clients_ask(&mut self) {
        let think = self.dice.below(self.setting.pace.think);
        self.at(think, Later::Client);
        self.asks(NEWEST);
        if let Some((m, start)) = self.clients[STALE].at {
            if !(self.runs(m, start) && self.is_source(m)) {
                self.stale_ends();
            } else if !self.is_source(1 - m) && [m, 1 - m].iter().all(|at| self.is_connected(*at)) {
                self.stale_wins(m);
            } else {
                self.clients[STALE].left = 1;
                self.asks(STALE);
            }
        }
    }

    fn asks(&mut self, who: usize) {
        let Some((m, start)) = self.clients[who].at else { return };
        let busy = self.clients[who].asked.len() as u64 >= self.setting.depth;
        if !self.runs(m, start) || busy || self.clients[who].left == 0 || self.now < self.setting.begins {
            return;
        }
        self.clients[who].left -= 1;
        self.next_request += 1;
        let (id, stamp) = (RequestId(self.next_request), self.next_request);
        let length = 1 + self.dice.below(6);
        // Half of them where there was something lately, so that they meet.
        let far = if self.dice.chance(500) { SIZE / SECTOR_BYTES } else { 160 };
        let from = self.dice.below(far - length);
        let extent = Extent { offset: from * SECTOR_BYTES, length: (length * SECTOR_BYTES) as u32 };
        let fua = self.dice.chance(150);
        let kind = match self.dice.below(10) {
            0 | 1 => RequestKind::Read(extent),
            2 => RequestKind::Zero { extent, fua, unmap: true },
            3 => RequestKind::Flush,
            _ => RequestKind::Write { extent, fua },
        };
        let flush = self.history_of(who).flush_begins();
        match kind {
            RequestKind::Write { extent, fua } => {
                self.history_of(who).begin(sectors(extent), stamp, false, fua);
                self.machines[m].requests.insert(id, vec![stamp; sectors(extent).len()]);
            }
            RequestKind::Zero { extent, fua, .. } => {
                self.history_of(who).begin(sectors(extent), stamp, true, fua);
            }
            RequestKind::Read(_) | RequestKind::Flush => {}
        }
        self.clients[who].asked.insert(id, Asked { kind, stamp, flush });
        self.tell(|| format!("{m} request {} {kind:?}", id.0));
        let connection = ConnectionId(id.0 % 3);
        self.input(m, Input::Request { id, connection, kind });
    }

    /// What a disk has read for an application.
    pub(super) fn judge_read(&mut self, m: usize, id: RequestId, extent: Extent, stamps: &[Stamp]) {
        if let Some(who) = self.asker(m, id)
            && let Err(why) = self.history_of(who).judge_read(sectors(extent), stamps)
        {
            self.fail(|| format!("{why} (on {m})"));
        }
    }

    pub(super) fn replied(&mut self, m: usize, id: RequestId, result: Result<(), RequestError>) {
        let here = Some((m, self.machines[m].start));
        if self.clients.iter().all(|client| client.at != here) {
            return;
        }
        let Some(who) = self.asker(m, id) else {
            return self.fail(|| format!("reply: {id:?} is answered twice"));
        };
        let Some(asked) = self.clients[who].asked.remove(&id) else { return };
        self.tell(|| format!("{m} answers {} {result:?}", id.0));
        let ok = result.is_ok();
        let writes = !matches!(asked.kind, RequestKind::Read(_));
        if ok && self.said.is_some() {
            self.say(m, Said::Done { writes, stale: who == STALE });
        } else if ok && !self.host.may_act(m, self.now) {
            self.fail(|| format!("right: {m} answers {:?} after its permit has ended (V1)", asked.kind));
        }
        if ok && self.setting.arbiter && writes && who == NEWEST {
            // From now on the other copy is marked, or has it too.
            self.forks.clear();
        }
        if ok && writes && who == NEWEST {
            self.clients[STALE].beaten = true;
            self.forks.iter_mut().for_each(|fork| fork.beaten = true);
        }
        match asked.kind {
            RequestKind::Write { extent, .. } => {
                self.history_of(who).end(sectors(extent), asked.stamp, false, ok);
            }
            RequestKind::Zero { extent, .. } => self.history_of(who).end(sectors(extent), asked.stamp, true, ok),
            RequestKind::Flush if ok => self.history_of(who).flushed(asked.flush),
            RequestKind::Flush | RequestKind::Read(_) => {}
        }
        self.count(if ok { "answered" } else { "refused" });
    }
}
