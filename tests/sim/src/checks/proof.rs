//! No restore without proof (O3): a daemon that goes on with the claim that it found on its disk has been answered by every
//! other node of the hierarchy, or by the arbiter, or has the operator's word; and a first claim has been answered by all.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::claim::ClaimId;
use mainstay_core::message::PeerMessage;
use mainstay_core::names::{HierarchyName, NodeName, Tag};

use mainstay_core::time::Monotonic;

use super::{Checks, Promise};
use crate::world::Machine;

#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Who has answered which daemon of whom.
    answered: BTreeMap<NodeName, (u64, BTreeSet<NodeName>)>,
    /// Which daemon had an operator's word, on what.
    word: BTreeMap<(NodeName, HierarchyName), u64>,
    /// The claim that each daemon found on its disk.
    found: BTreeMap<(NodeName, HierarchyName), (u64, Option<ClaimId>)>,
}

impl Proof {
    pub(super) fn word(&mut self, node: &NodeName, hierarchy: &HierarchyName, life: u64) {
        self.word.insert((node.clone(), hierarchy.clone()), life);
    }
}

impl Checks {
    /// Whether this daemon of a node had an operator's word on a hierarchy.
    #[must_use]
    pub fn has_a_word(&self, hierarchy: &HierarchyName, node: &NodeName, life: u64) -> bool {
        self.proof.word.get(&(node.clone(), hierarchy.clone())) == Some(&life)
    }

    /// A message comes to a node whose daemon is this one.
    pub fn answered(
        &mut self,
        now: Monotonic,
        node: &NodeName,
        life: u64,
        from: &NodeName,
        message: &PeerMessage,
        incarnation: u64,
    ) {
        let PeerMessage::State(state) = message else { return };
        self.told(now, node, life, state);
        if state.heard == incarnation {
            let (known, by) = self.proof.answered.entry(node.clone()).or_default();
            if *known != incarnation {
                // A daemon that had to count from higher up is the same; who answered it will again.
                (*known, *by) = (incarnation, BTreeSet::new());
            }
            by.insert(from.clone());
        }
    }

    /// A daemon starts, with this on its disk.
    pub fn started(&mut self, node: &NodeName, life: u64, found: BTreeMap<HierarchyName, Option<ClaimId>>) {
        self.disks.forget(node);
        self.starts_too_early(node);
        for (hierarchy, claim) in found {
            if let Some(claim) = &claim {
                self.disks.found(node, hierarchy.clone(), claim.clone());
            }
            self.proof.found.insert((node.clone(), hierarchy), (life, claim));
        }
    }

    pub(super) fn proven(
        &mut self,
        node: &NodeName,
        hierarchy: &HierarchyName,
        tag: &Tag,
        machines: &BTreeMap<NodeName, Machine>,
    ) {
        if matches!(self.promises.get(hierarchy), Some(Promise::Permit | Promise::PermitAndWatchdog)) {
            return;
        }
        let Some(daemon) = machines[node].node.as_ref() else { return };
        let key = (node.clone(), hierarchy.clone());
        let now = daemon.state().hierarchies.get(hierarchy).and_then(|known| known.claim.as_ref());
        let now = now.map(|claim| claim.id.clone());
        let life = machines[node].life();
        let as_found = self.proof.found.get(&key).is_some_and(|(at, claim)| *at == life && *claim == now);
        let first = now.as_ref().is_some_and(|claim| claim.epoch.0 == 1);
        let word = self.proof.word.get(&key) == Some(&life);
        if word || !(as_found || first) {
            return;
        }
        let answered = self.proof.answered.get(node).filter(|(at, _)| *at == daemon.state().incarnation);
        let others = self.members.get(hierarchy).into_iter().flatten().filter(|other| *other != node);
        let missing: Vec<&NodeName> =
            others.filter(|other| answered.is_none_or(|(_, by)| !by.contains(*other))).collect();
        if !missing.is_empty() {
            let text = format!("O3: {node} brings {tag} in service, and {missing:?} has not answered its daemon");
            self.fail(text);
        }
    }
}
