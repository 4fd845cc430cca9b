//! Who may act: a stand-in for the two daemons, with an arbiter or with an operator who knows what is off.
//!
//! It gives rights, promotes and demotes, and answers for the arbiter's record. The core's own cluster can take its place:
//! it speaks to a volume by the same inputs.

use mainstay_core::time::Monotonic;
use mainstay_volume_core::io::{Basis, Input, Marked, OperatorRequest, Refusal};
use mainstay_volume_core::status::{LinkState, Promotion};
use mainstay_volume_core::types::{Epoch, Side};

use super::world::World;

/// A permit is this long, in ms.
const LEASE: u64 = 600;
/// A holder counts on this much less, for a clock that drifts.
const MARGIN: u64 = 20;

/// The machine's side.
#[must_use]
pub fn side(m: usize) -> Side {
    if m == 0 { Side::A } else { Side::B }
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Host {
    arbiter: bool,
    /// The newest claim, and who made it.
    pub epoch: Epoch,
    /// Who may act, if anyone.
    pub holder: Option<usize>,
    /// Until when, in true time, with an arbiter.
    lease_until: u64,
    /// What the holder was told.
    told_until: [u64; 2],
    /// The arbiter's marks: this machine's copy is outdated.
    pub marked: [bool; 2],
    /// A machine does not reach the arbiter.
    pub away: [bool; 2],
    /// The daemons reach each other.
    pub path_up: bool,
    /// A promotion or demotion is on its way.
    busy: Option<usize>,
    /// Nobody is promoted before this.
    pub not_before: u64,
    /// The holder is to give it to the other one, in order.
    pub move_over: bool,
    /// How often in a row the holder's copy was not promoted, and how many holders in a row gave up so.
    refused: u32,
    rounds: u32,
}

impl Host {
    /// At the beginning machine 0 is the owner.
    #[must_use]
    pub fn new(arbiter: bool) -> Self {
        Self {
            arbiter,
            epoch: Epoch { counter: 1, side: Side::A },
            holder: Some(0),
            lease_until: 0,
            told_until: [0; 2],
            marked: [false; 2],
            away: [false; 2],
            path_up: true,
            busy: None,
            not_before: 0,
            move_over: false,
            refused: 0,
            rounds: 0,
        }
    }

    /// The arbiter's record: compare-and-swap on the asker's claim (V3).
    pub fn mark(&mut self, m: usize, epoch: Epoch, outdated: bool) -> Marked {
        if !self.arbiter || self.away[m] {
            return Marked::Unreachable;
        }
        if self.epoch != epoch {
            return Marked::Superseded(self.epoch);
        }
        self.marked[1 - m] = outdated;
        Marked::Done
    }

    /// Whether an answer of this machine's volume may be a good one now (V1).
    #[must_use]
    pub fn may_act(&self, m: usize, now: u64) -> bool {
        !self.arbiter || now < self.told_until[m]
    }

    /// The process of this machine has ended.
    pub fn forget(&mut self, m: usize) {
        if self.busy == Some(m) {
            self.busy = None;
        }
    }

    /// A volume has answered.
    pub fn answered(&mut self, m: usize, request: OperatorRequest, result: &Result<(), Refusal>) {
        self.busy = None;
        match (request, result) {
            (OperatorRequest::Promote(_), Err(_)) => self.refused += 1,
            (OperatorRequest::Promote(_), Ok(())) => (self.refused, self.rounds) = (0, 0),
            (OperatorRequest::Demote, Ok(())) if self.holder == Some(m) => {
                self.holder = None;
                self.lease_until = 0;
                self.not_before = 0;
            }
            _ => {}
        }
    }
}

impl World {
    /// The daemons look after their volumes.
    pub fn run_host(&mut self) {
        let now = self.now;
        for m in 0..2 {
            let powered = self.machines[m].power && self.machines[m].volume.is_some();
            if powered && self.setting.arbiter {
                self.run_with_arbiter(m, now);
            } else if powered {
                self.run_with_operator(m, now);
            }
        }
        self.resolve_split_brain();
    }

    /// Whether neither copy is worth a promotion: then the operator, who sees both, decides for force.
    fn only_force_helps(&self) -> bool {
        let needs = |m: usize| {
            let volume = self.machines[m].volume.as_ref();
            volume.is_some_and(|volume| matches!(volume.status().promotion, Promotion::Force(_)))
        };
        needs(0) && needs(1) && self.host.rounds > 2
    }

    fn run_with_arbiter(&mut self, m: usize, now: u64) {
        if self.host.away[m] {
            return;
        }
        let expired = now >= self.host.lease_until;
        if self.host.holder == Some(m) && !expired {
            self.renew(m, now);
            let marked = self.host.marked[m];
            self.serve(m, if self.only_force_helps() { Basis::Force } else { Basis::Arbiter { marked } });
            // A copy that is refused, or has failed, is given up for the other one.
            let peer = 1 - m;
            let peer_runs = self.machines[peer].volume.is_some() && !self.host.away[peer];
            if self.host.refused > 3 && peer_runs && !self.only_force_helps() {
                self.host.rounds += 1;
                self.claim(peer, now);
            }
        } else if expired && self.host.busy.is_none() && now >= self.host.not_before {
            self.claim(m, now);
        }
    }

    fn renew(&mut self, m: usize, now: u64) {
        self.host.lease_until = now + LEASE;
        self.host.told_until[m] = now + LEASE - MARGIN;
        let epoch = self.host.epoch;
        let until = Some(Monotonic(self.host.told_until[m]));
        self.input(m, Input::Right { epoch, entered: 1, until });
    }

    fn claim(&mut self, m: usize, now: u64) {
        self.host.epoch = Epoch { counter: self.host.epoch.counter + 1, side: side(m) };
        self.host.holder = Some(m);
        self.host.refused = 0;
        self.host.move_over = false;
        self.host.busy = None;
        let epoch = self.host.epoch;
        self.tell(|| format!("{m} claims {epoch}"));
        self.count("claim");
        // The old owner's permit has ended by itself, or its daemon has given it back.
        if self.machines[1 - m].volume.is_some() {
            self.input(1 - m, Input::RightEnded);
        }
        if self.setting.arbiter {
            self.host.told_until[1 - m] = self.host.told_until[1 - m].min(now);
            self.renew(m, now);
        } else {
            self.input(m, Input::Right { epoch, entered: 1, until: None });
        }
    }

    /// The holder's copy is promoted, or demoted if it is to move.
    fn serve(&mut self, m: usize, basis: Basis) {
        if self.host.busy.is_some() {
            return;
        }
        if self.host.move_over && self.is_source(m) {
            self.host.busy = Some(m);
            self.host.move_over = false;
            self.host.not_before = self.now + 500;
            self.operate(m, OperatorRequest::Demote);
        } else if !self.is_source(m) {
            self.host.busy = Some(m);
            self.operate(m, OperatorRequest::Promote(basis));
        }
    }

    /// The operator knows which machine is off, and never takes over from one that may still serve.
    fn run_with_operator(&mut self, m: usize, now: u64) {
        let peer = 1 - m;
        match self.host.holder {
            Some(holder) if holder == m => {
                let epoch = self.host.epoch;
                self.input(m, Input::Right { epoch, entered: 1, until: None });
                self.serve(m, if self.only_force_helps() { Basis::Force } else { Basis::Confirmed });
                // It cannot be promoted: the other one, if it is there.
                let peer_runs = self.machines[peer].volume.is_some() && !self.is_source(m);
                if self.host.refused > 3 && peer_runs && !self.only_force_helps() {
                    self.host.rounds += 1;
                    self.claim(peer, now);
                }
            }
            Some(holder) => {
                let off = self.machines[holder].volume.is_none();
                if off && now >= self.host.not_before {
                    self.claim(m, now);
                }
            }
            None => self.claim(m, now),
        }
    }

    /// The operator names the owner's data, once the other one serves nothing.
    fn resolve_split_brain(&mut self) {
        let Some(holder) = self.host.holder else { return };
        let split = |state: Option<LinkState>| matches!(state, Some(LinkState::SplitBrain(_)));
        if split(self.link_state(0)) && split(self.link_state(1)) {
            // Neither may be in service yet: then it is the holder's all the same.
            self.count("split brain");
            self.operate(holder, OperatorRequest::Resolve(side(holder)));
        }
    }
}
