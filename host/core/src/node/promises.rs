//! Promises between nodes while the arbiter is away (O12): an owner goes on if every other node of the hierarchy promises,
//! durably, not to claim for a while. A promise counts from when it was asked for; who gave it counts from when it gave it,
//! and from its daemon's start again.

use alloc::string::String;

use super::Node;
use super::io::Output;
use super::timers::HierarchyIndex;
use crate::claim::ClaimId;
use crate::message::{PeerMessage, PeerRequest};
use crate::names::{HierarchyName, NodeName};
use crate::spec::ArbiterSpec;
use crate::state::{Record, StandingKind};
use crate::time::{Millis, Monotonic};

/// The longest promise that is given: no longer than a lease may be.
const PROMISE_MAX: Millis = Millis::from_mins(10);

/// A promise that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    h: HierarchyIndex,
    node: NodeName,
    claim: ClaimId,
    at: Monotonic,
}

impl Node {
    /// As long as the shortest of the promises of all others lasts, and since when they are good; none: one is missing.
    pub(super) fn right_by_promises(&self, h: HierarchyIndex) -> Option<(Monotonic, Monotonic)> {
        let local = self.local(h);
        let others = local.hierarchy.spec.nodes.iter().filter(|node| **node != self.me);
        let promises: Option<alloc::vec::Vec<_>> = others.map(|node| local.promised_by.get(node).copied()).collect();
        promises?.into_iter().min()
    }

    /// The arbiter does not answer: the others are asked to keep still.
    pub(super) fn ask_for_promises(&mut self) {
        let Some(lasts) = self.arbiter.as_ref().map(|arbiter| arbiter.spec.lease) else { return };
        for h in self.members() {
            if !self.by_arbiter(h) || !self.is_owner(h) || !self.local(h).proven {
                continue;
            }
            let Some(claim) = self.durable(h).claim.as_ref().map(|claim| claim.id.clone()) else { continue };
            let others: alloc::vec::Vec<_> =
                self.local(h).hierarchy.spec.nodes.iter().filter_map(|node| self.peer_index(node)).collect();
            // One that cannot be asked promises nothing, and without it the others' promises are worth nothing.
            if !others.iter().all(|peer| self.peers[*peer].is_talking()) {
                continue;
            }
            for peer in others {
                self.next_ask += 1;
                let asked =
                    Asked { h, node: self.peers[peer].name.clone(), claim: claim.clone(), at: self.now.monotonic };
                self.promises_asked.insert(self.next_ask, asked);
                let request = PeerRequest::Promise { hierarchy: self.name(h).clone(), claim: claim.clone(), lasts };
                let ask = PeerMessage::Ask { id: self.next_ask, asker: self.state.incarnation, request };
                self.outputs.push_back(Output::Send(self.recorded, self.peers[peer].name.clone(), ask));
            }
        }
        // An answer that takes longer than a promise lasts is worth nothing.
        let now = self.now.monotonic;
        self.promises_asked.retain(|_, asked| now.since(asked.at) < lasts);
    }

    /// An answer to such a question; whether it was one.
    pub(super) fn promise_answered(&mut self, peer: usize, ask: u64, result: &Result<String, String>) -> bool {
        let asked = self.promises_asked.get(&ask).filter(|asked| asked.node == self.peers[peer].name);
        let Some(Asked { h, node, claim, at }) = asked.cloned() else { return false };
        self.promises_asked.remove(&ask);
        // It was for that claim: another one, even of this node, is not covered by it.
        if self.durable(h).claim.as_ref().map(|claim| &claim.id) != Some(&claim) {
            return true;
        }
        if let (Ok(_), Some(lasts)) = (result, self.arbiter.as_ref().map(|arbiter| arbiter.spec.lease)) {
            let until = at + Millis(lasts.0.saturating_sub(ArbiterSpec::drift(lasts).0));
            self.local_mut(h).promised_by.insert(node, (until, at));
            self.touch(h);
        }
        true
    }

    /// Another node asks this one not to claim what it owns.
    pub(super) fn promise(
        &mut self,
        peer: usize,
        hierarchy: &HierarchyName,
        claim: &ClaimId,
        lasts: Millis,
    ) -> Result<String, String> {
        let Some(h) = self.by_name.get(hierarchy).copied().filter(|h| self.local(*h).member && self.by_arbiter(*h))
        else {
            return Err(alloc::format!("{} knows no arbiter for {hierarchy}: its config is another", self.me));
        };
        let durable = self.durable(h);
        let known = durable.claim.as_ref().map(|claim| &claim.id);
        if durable.unknown || known != Some(claim) || durable.standing.kind != StandingKind::Held {
            return Err(alloc::format!("{} knows another claim", self.me));
        }
        if claim.claimant != self.peers[peer].name {
            return Err("a promise is for the owner alone".into());
        }
        if self.local(h).taking.is_some() {
            return Err(alloc::format!("{} has asked the arbiter for it, and does not know the answer", self.me));
        }
        if lasts > PROMISE_MAX {
            return Err(alloc::format!("nobody promises anything for longer than {PROMISE_MAX}"));
        }
        if durable.promised.as_ref() != Some(&(claim.clone(), lasts)) {
            self.record(Record::Promised { hierarchy: hierarchy.clone(), claim: claim.clone(), lasts });
        }
        let until = self.now.monotonic + lasts;
        let local = self.local_mut(h);
        local.promised_until = local.promised_until.max(Some(until));
        Ok(alloc::format!("{} does not claim it for {lasts}", self.me))
    }

    /// A promise that an earlier daemon gave is kept from its beginning again: nobody knows how long ago that was. The
    /// journal may have lost one, too, so every daemon begins as if it had given one.
    pub(super) fn keep_promises(&mut self) {
        let Some(lease) = self.arbiter.as_ref().map(|arbiter| arbiter.spec.lease) else { return };
        for h in self.members() {
            let lasts = self.durable(h).promised.as_ref().map_or(lease, |(_, lasts)| lease.max(*lasts));
            let until = self.now.monotonic + lasts;
            self.local_mut(h).promised_until = Some(until);
        }
    }
}
