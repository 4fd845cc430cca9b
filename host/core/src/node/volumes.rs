//! The right to write to mirrored volumes, and the marks between their copies (VOLUME V1, V3, V4).
//!
//! Decides from ownership alone: the process of a volume has the right while this node is the owner with proof, until the
//! permit ends if there is an arbiter. While an owner has no proof nothing is said: what a process was told before holds, so
//! that a daemon that starts takes nothing away, and a permit ends by itself. Questions are passed on and not remembered: a
//! process that hears no answer takes that for one.

use alloc::string::String;
use alloc::vec::Vec;

use super::Node;
use super::arbiter::About;
use super::io::{Output, RecordNumber};
use super::timers::HierarchyIndex;
use crate::arbiter::{ArbiterId, ArbiterRequest};
use crate::claim::ClaimId;
use crate::message::PeerMessage;
use crate::names::{NodeName, VolumeName};
use crate::planted::{self, Bug};
use crate::state::{Cause, StandingKind};
use crate::time::{Millis, Now};
use crate::volume::{Basis, FromVolume, Marked, Question, ToVolume};

/// A wall clock that goes on otherwise than the monotonic one by so much from one input to the next was set.
const STEP: Millis = Millis(500);
/// How often a mark is asked of the arbiter again because the record has changed under the same claim.
const MARK_TRIES: u32 = 3;

/// A mark that was asked of the arbiter.
#[derive(Clone, Debug)]
pub(super) struct Marking {
    h: HierarchyIndex,
    volume: VolumeName,
    number: u64,
    claim: ClaimId,
    outdated: bool,
    tries: u32,
}

impl Node {
    /// Tells the processes of volumes what has changed of their right to write.
    pub(super) fn tell_rights(&mut self) {
        for h in self.with_volumes.clone() {
            let volumes: Vec<VolumeName> = self.local(h).hierarchy.spec.volumes.keys().cloned().collect();
            for volume in volumes {
                let Some(right) = self.right_to_write(h, &volume) else { continue };
                if self.local(h).rights.get(&volume) != Some(&right) {
                    self.local_mut(h).rights.insert(volume.clone(), right.clone());
                    let early = planted::is(Bug::RightBeforeRecord);
                    let after = if early { RecordNumber::default() } else { self.recorded };
                    self.outputs.push_back(Output::Volume(after, volume, right));
                }
            }
        }
    }

    /// What is to be said of it now; none: nothing is known for certain.
    fn right_to_write(&self, h: HierarchyIndex, volume: &VolumeName) -> Option<ToVolume> {
        let durable = self.durable(h);
        // A journal that was lost knows of no claim; what the process was told may be by one.
        let known = durable.claim.as_ref().filter(|_| !durable.unknown)?;
        let held = durable.standing.kind == StandingKind::Held;
        let Some(claim) = Some(known).filter(|claim| held && claim.id.claimant == self.me) else {
            return if planted::is(Bug::RightStays) { None } else { Some(ToVolume::RightEnded) };
        };
        if !self.local(h).proven {
            return None;
        }
        let ends = self.by_arbiter(h) && !durable.forced;
        let until = if ends { Some(self.right(h)?.0).filter(|_| !planted::is(Bug::PermitEndNotTold)) } else { None };
        let (claim, entered) = (claim.id.clone(), durable.entered);
        Some(ToVolume::Right { claim, entered, until, basis: self.basis(h, volume) })
    }

    /// The wall clock was set: when comm paths fell silent is told by it, and compared with what a volume tells by it.
    pub(super) fn notice_step(&mut self, now: Now) {
        let step = now.stepped(&self.now);
        if step.unsigned_abs() < STEP.0 {
            return;
        }
        for h in self.with_volumes.clone() {
            if let Some(silence) = &mut self.local_mut(h).silence {
                silence.first.0 = silence.first.0.saturating_add_signed(step);
                silence.last.0 = silence.last.0.saturating_add_signed(step);
            }
        }
    }

    fn basis(&self, h: HierarchyIndex, volume: &VolumeName) -> Basis {
        let durable = self.durable(h);
        if planted::is(Bug::BasisAlwaysWord) {
            return Basis::Word;
        }
        if self.by_arbiter(h) {
            return self.basis_by_arbiter(h, volume);
        }
        match self.local(h).silence {
            _ if durable.word => Basis::Word,
            Some(silence) if durable.claimed_for == Some(Cause::Failover) => Basis::Silence(silence),
            _ => Basis::Free,
        }
    }

    /// The arbiter's word counts if it has shown this very claim: a mark against this copy was made by a claim before it. Who
    /// has its right by promises alone, or an operator's, has not seen whether there is one. The operator's word for a claim
    /// that the arbiter knows is no word for what it would say of the copy.
    fn basis_by_arbiter(&self, h: HierarchyIndex, volume: &VolumeName) -> Basis {
        let durable = self.durable(h);
        let entry = self.seen(h);
        let marked = entry.and_then(|entry| entry.outdated.get(volume)) == Some(&self.me);
        let recorded = entry.and_then(|entry| entry.record.as_ref()?.claim.as_ref());
        let shown =
            recorded.is_some_and(|recorded| Some(&recorded.id) == durable.claim.as_ref().map(|claim| &claim.id));
        if marked || shown {
            Basis::Arbiter { marked }
        } else if durable.forced {
            Basis::Word
        } else {
            Basis::Free
        }
    }

    pub(super) fn volume_says(&mut self, volume: VolumeName, said: FromVolume) {
        let Some(h) = self.hierarchy_of(&volume) else { return };
        match said {
            FromVolume::MarkPeer { number, claim, generation } => {
                let peer = self.other_node(h).filter(|peer| self.peers[*peer].is_talking());
                let Some(peer) = peer else { return self.marked(volume, number, Marked::Unreachable) };
                let question = Question { number, asker: self.state.incarnation };
                let mark = PeerMessage::MarkOutdated { volume, question, claim, generation };
                self.outputs.push_back(Output::Send(self.recorded, self.peers[peer].name.clone(), mark));
            }
            FromVolume::MarkArbiter { number, claim, outdated } => {
                // Only the newest is asked again if it was refused: one before it may say the opposite.
                let earlier = self.marks_asked.values_mut().filter(|marking| marking.volume == volume);
                earlier.for_each(|marking| marking.tries = MARK_TRIES);
                self.mark_in_arbiter(Marking { h, volume, number, claim, outdated, tries: 0 });
            }
            FromVolume::Knows(claim) => drop(self.local_mut(h).labels.insert(volume, claim)),
            FromVolume::Marked { peer, question, outcome } => {
                let answer = PeerMessage::Marked { volume, question, outcome };
                self.outputs.push_back(Output::Send(self.recorded, peer, answer));
            }
        }
    }

    fn marked(&mut self, volume: VolumeName, number: u64, outcome: Marked) {
        self.outputs.push_back(Output::Volume(self.recorded, volume, ToVolume::Marked { number, outcome }));
    }

    /// The peer's source goes on alone.
    pub(super) fn peer_marks(
        &mut self,
        peer: usize,
        volume: VolumeName,
        question: Question,
        claim: ClaimId,
        generation: String,
    ) {
        let peer = self.peers[peer].name.clone();
        let Some(h) = self.hierarchy_of(&volume).filter(|h| self.local(*h).hierarchy.spec.nodes.contains(&peer)) else {
            return;
        };
        let newer = self.durable(h).claim.as_ref().map(|known| &known.id).filter(|known| **known > claim);
        let outcome = match newer {
            Some(newer) => Some(Marked::Superseded(newer.clone())),
            // It is not its own.
            None if claim.claimant != peer => Some(Marked::Unreachable),
            None if planted::is(Bug::MarkNotAsked) => Some(Marked::Done),
            None => None,
        };
        let output = match outcome {
            Some(outcome) => Output::Send(self.recorded, peer, PeerMessage::Marked { volume, question, outcome }),
            None => Output::Volume(self.recorded, volume, ToVolume::MarkOutdated { peer, question, claim, generation }),
        };
        self.outputs.push_back(output);
    }

    /// What became of a question that this node has passed on.
    pub(super) fn peer_marked(&mut self, peer: usize, volume: VolumeName, question: Question, outcome: Marked) {
        let asked = self.hierarchy_of(&volume).filter(|h| self.other_node(*h) == Some(peer));
        if asked.is_some() && question.asker == self.state.incarnation {
            self.marked(volume, question.number, outcome);
        }
    }

    // In the arbiter.

    fn mark_in_arbiter(&mut self, marking: Marking) {
        let Marking { h, volume, number, claim, outdated, .. } = marking.clone();
        let answers = self.arbiter.as_ref().is_some_and(|arbiter| arbiter.trouble.is_none());
        let entry = self.seen(h).cloned().filter(|_| answers && self.by_arbiter(h)).unwrap_or_default();
        let recorded = entry.record.and_then(|record| record.claim).map(|recorded| recorded.id);
        let known = self.durable(h).claim.as_ref().map(|known| known.id.clone());
        match known.max(recorded.clone()) {
            _ if planted::is(Bug::MarkNotCompared) => {}
            Some(newest) if newest > claim => return self.marked(volume, number, Marked::Superseded(newest)),
            _ if recorded != Some(claim) => return self.marked(volume, number, Marked::Unreachable),
            _ => {}
        }
        let other = self.other_node(h).map(|peer| self.peers[peer].name.clone());
        let request = ArbiterRequest::Mark {
            hierarchy: self.name(h).clone(),
            expected: entry.version,
            volume: volume.clone(),
            outdated: other.filter(|_| outdated),
        };
        match self.ask_arbiter(About::Mark, request) {
            Some(id) => drop(self.marks_asked.insert(id, Marking { tries: marking.tries + 1, ..marking })),
            None => self.marked(volume, number, Marked::Unreachable),
        }
    }

    /// The arbiter has answered, and what it shows is known.
    pub(super) fn mark_answered(&mut self, id: ArbiterId, done: bool) {
        let Some(marking) = self.marks_asked.remove(&id) else { return };
        if done || planted::is(Bug::MarkNotCompared) {
            self.marked(marking.volume, marking.number, Marked::Done);
        } else if marking.tries < MARK_TRIES {
            self.mark_in_arbiter(marking);
        } else {
            self.marked(marking.volume, marking.number, Marked::Unreachable);
        }
    }

    /// Nobody knows whether it was done. A mark that is there and is not known of keeps a copy from being promoted that
    /// could be, which loses nothing.
    pub(super) fn mark_failed(&mut self, id: ArbiterId) {
        if let Some(marking) = self.marks_asked.remove(&id) {
            self.marked(marking.volume, marking.number, Marked::Unreachable);
        }
    }

    // Names.

    fn hierarchy_of(&self, volume: &VolumeName) -> Option<HierarchyIndex> {
        self.with_volumes.iter().copied().find(|h| self.local(*h).hierarchy.spec.volumes.contains_key(volume))
    }

    /// The peer with the other copy: a hierarchy with a mirrored volume has two nodes (V13).
    fn other_node(&self, h: HierarchyIndex) -> Option<usize> {
        let spec = &self.local(h).hierarchy.spec;
        let other: Option<&NodeName> = spec.nodes.iter().find(|node| **node != self.me);
        other.and_then(|node| self.peer_index(node))
    }
}
