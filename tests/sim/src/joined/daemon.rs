//! What a node's daemon does for the process of a volume: it starts it, passes on what the core says in the process's own
//! words, and what the process says in the core's.
//!
//! It decides nothing. It remembers what the core has said last of the right to write, for a process that starts; and
//! which question is whose, by numbers that are never used twice, whatever process has asked.

use std::collections::BTreeMap;

use mainstay_core::claim::{ClaimId, Epoch as Counter};
use mainstay_core::names::{NodeName, VolumeName};
use mainstay_core::node;
use mainstay_core::time::Millis;
use mainstay_core::volume::{Basis, FromVolume, Marked, Question, ToVolume};
use mainstay_volume_core::io;
use mainstay_volume_core::status::CopyState;
use mainstay_volume_core::types::{Epoch, Side};

use super::world::{Joined, VOLUME};
use crate::volume::world::Said;

/// From the process to the daemon.
const SOCKET: Millis = Millis(1);

/// What the daemon of a machine remembers of its process.
#[derive(Debug, Default)]
pub struct Daemon {
    /// Which daemon.
    pub(super) life: u64,
    /// What the core has said last of the right to write.
    pub(super) right: Option<ToVolume>,
    /// Since when it has said so of this claim.
    pub(super) right_since: u64,
    /// The newest claim that the label of its copy knows, as the core was told.
    knows: Option<Epoch>,
    /// Whose question this is: of which start of the process, by its own number.
    numbers: BTreeMap<u64, (u64, io::Token)>,
    /// What the process was asked for the peer, by the number that it was given.
    asked: BTreeMap<u64, (NodeName, Question)>,
}

impl Joined {
    fn epoch(&self, claim: &ClaimId) -> Epoch {
        let side = if claim.claimant == self.names[0] { Side::A } else { Side::B };
        Epoch { counter: claim.epoch.0, side }
    }

    fn claim(&self, epoch: Epoch) -> ClaimId {
        let claimant = self.names[usize::from(epoch.side == Side::B)].clone();
        ClaimId { epoch: Counter(epoch.counter), claimant }
    }

    /// On what a promotion may rest, in the process's words.
    pub(super) fn basis(&self, m: usize, basis: &Basis) -> io::Basis {
        match basis {
            Basis::Free => io::Basis::Free,
            Basis::Word => io::Basis::Confirmed,
            Basis::Arbiter { marked } => io::Basis::Arbiter { marked: *marked },
            Basis::Silence(silence) => {
                let copy = self.volume.machines[m].volume.as_ref().map(|volume| volume.status().copy);
                let together = matches!(copy, Some(CopyState::LastKnownGood { since }) if silence.together(since));
                io::Basis::Automatic { together }
            }
        }
    }

    /// The core says something to the process of a volume.
    pub(super) fn core_says(&mut self, m: usize, told: ToVolume) {
        match told {
            ToVolume::Right { .. } | ToVolume::RightEnded => {
                let claim = |told: &ToVolume| match told {
                    ToVolume::Right { claim, .. } => Some(claim.clone()),
                    ToVolume::RightEnded | ToVolume::MarkOutdated { .. } | ToVolume::Marked { .. } => None,
                };
                if self.daemons[m].right.as_ref().and_then(claim) != claim(&told) {
                    self.daemons[m].right_since = self.now();
                }
                self.daemons[m].right = Some(told);
                self.tell_right(m);
            }
            ToVolume::MarkOutdated { peer, question, claim, generation } => {
                self.numbers += 1;
                self.daemons[m].asked.insert(self.numbers, (peer, question));
                let (token, epoch) = (io::Token(self.numbers), self.epoch(&claim));
                let Some(generation) = read(&generation) else { return };
                self.tell_process(m, io::Input::AskedOutdated { token, epoch, generation });
            }
            ToVolume::Marked { number, outcome } => {
                let Some((start, token)) = self.daemons[m].numbers.remove(&number) else { return };
                let outcome = match outcome {
                    Marked::Done => io::Marked::Done,
                    Marked::Unreachable => io::Marked::Unreachable,
                    Marked::InContact => io::Marked::InContact,
                    Marked::Superseded(claim) => io::Marked::Superseded(self.epoch(&claim)),
                };
                if self.volume.machines[m].start == start {
                    self.tell_process(m, io::Input::Marked { token, outcome });
                }
            }
        }
    }

    fn tell_process(&mut self, m: usize, input: io::Input) {
        if self.volume.machines[m].volume.is_some() {
            self.volume.tell_process(m, input);
        }
    }

    /// Of its right to write a process is told whenever the core says something of it, and when it starts.
    fn tell_right(&mut self, m: usize) {
        match self.daemons[m].right.clone() {
            Some(ToVolume::Right { claim, entered, until, basis }) => {
                let kind = match basis {
                    Basis::Free => "right: free",
                    Basis::Word => "right: by word",
                    Basis::Silence(_) => "right: by silence",
                    Basis::Arbiter { marked: false } => "right: by arbiter",
                    Basis::Arbiter { marked: true } => "right: by arbiter, marked",
                };
                self.volume.count(kind);
                let epoch = self.epoch(&claim);
                self.tell_process(m, io::Input::Right { epoch, entered, until });
            }
            Some(ToVolume::RightEnded) => self.tell_process(m, io::Input::RightEnded),
            Some(ToVolume::MarkOutdated { .. } | ToVolume::Marked { .. }) | None => {}
        }
    }

    /// The process of a volume says something.
    pub(super) fn process_says(&mut self, m: usize, said: Said) {
        let said = match said {
            Said::Answer(id, result) => return self.kit_hears(m, id, result),
            Said::Done { writes, stale } => return self.judge_done(m, writes, stale),
            Said::MarkPeer(token, epoch, generation) => {
                let text = format!("{} {} {}", generation.epoch, side(generation.side), generation.began.0);
                let number = self.number(m, token);
                FromVolume::MarkPeer { number, claim: self.claim(epoch), generation: text }
            }
            Said::MarkArbiter(token, epoch, outdated) => {
                let number = self.number(m, token);
                FromVolume::MarkArbiter { number, claim: self.claim(epoch), outdated }
            }
            Said::AnswerMark(token, outcome) => {
                let Some((peer, question)) = self.daemons[m].asked.remove(&token.0) else { return };
                let outcome = match outcome {
                    io::Marked::Done => Marked::Done,
                    io::Marked::Unreachable => Marked::Unreachable,
                    io::Marked::InContact => Marked::InContact,
                    io::Marked::Superseded(epoch) => Marked::Superseded(self.claim(epoch)),
                };
                self.volume.count(match outcome {
                    Marked::Done => "mark: done by the peer",
                    Marked::InContact => "mark: the peer is in contact",
                    Marked::Superseded(_) => "mark: superseded at the peer",
                    Marked::Unreachable => "mark: unreachable at the peer",
                });
                FromVolume::Marked { peer, question, outcome }
            }
        };
        let name = self.names[m].clone();
        if self.cluster.machines[&name].node.is_some() {
            self.cluster.tell(&name, SOCKET, node::Input::Volume(VolumeName::from(VOLUME), said));
        }
    }

    fn number(&mut self, m: usize, token: io::Token) -> u64 {
        self.numbers += 1;
        let start = self.volume.machines[m].start;
        self.daemons[m].numbers.insert(self.numbers, (start, token));
        self.numbers
    }

    /// A daemon looks after its process: one that is not there is started.
    pub(super) fn look_after_process(&mut self, m: usize) {
        let name = &self.names[m];
        let machine = &self.cluster.machines[name];
        let works = machine.node.is_some() && !machine.paused && !machine.suspended;
        if works && self.volume.machines[m].power && self.volume.machines[m].volume.is_none() {
            self.volume.start(m);
            self.volume.count("process started");
            self.tell_right(m);
        }
        let knows = self.volume.machines[m].volume.as_ref().filter(|_| works).map(|volume| volume.status().epoch);
        if let Some(epoch) = knows.filter(|epoch| self.daemons[m].knows != Some(*epoch)) {
            self.daemons[m].knows = Some(epoch);
            let (name, claim) = (self.names[m].clone(), self.claim(epoch));
            let said = FromVolume::Knows(claim);
            self.cluster.tell(&name, SOCKET, node::Input::Volume(VolumeName::from(VOLUME), said));
        }
    }

    /// A daemon starts that has heard nothing of its core yet. The process, if it runs, is adopted as it is.
    pub(super) fn follow_daemon(&mut self, m: usize) {
        let machine = &self.cluster.machines[&self.names[m]];
        if machine.life() != self.daemons[m].life {
            self.daemons[m] = Daemon { life: machine.life(), ..Daemon::default() };
            let adopted = self.volume.machines[m].volume.is_some();
            self.volume.count(if adopted { "daemon: adopts" } else { "daemon: starts" });
        }
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::A => "A",
        Side::B => "B",
    }
}

fn read(text: &str) -> Option<mainstay_volume_core::types::Generation> {
    let mut words = text.split(' ');
    let epoch = words.next()?.parse().ok()?;
    let side = if words.next()? == "A" { Side::A } else { Side::B };
    let began = mainstay_core::time::UnixMs(words.next()?.parse().ok()?);
    Some(mainstay_volume_core::types::Generation { epoch, side, began })
}
