//! What operators state by a confirmation or by force (O10): that no other node has the hierarchy. Whether it is so is seen
//! in the world. Whoever says what is not so is hasty: from then on two may own it, and it rests on the word (O16).

use std::collections::BTreeMap;

use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_core::state::StandingKind;

use super::Checks;
use crate::world::Machine;

#[derive(Debug, Default)]
pub(super) struct Words {
    /// On which node each hierarchy was last given to somebody by a word.
    given: BTreeMap<HierarchyName, NodeName>,
    /// A word that no claim on the disk of its node shows yet.
    pending: BTreeMap<HierarchyName, NodeName>,
}

impl Words {
    /// The words that were said on a node come to nothing more: they were refused, or its daemon is another.
    pub(super) fn end(&mut self, node: &NodeName) {
        self.pending.retain(|_, speaker| speaker != node);
    }

    /// A node has a claim on its disk.
    pub(super) fn claimed(&mut self, node: &NodeName, hierarchy: &HierarchyName) {
        if self.pending.get(hierarchy) == Some(node) {
            self.pending.remove(hierarchy);
        }
    }
}

impl Checks {
    /// A daemon starts before the word on another node has come to anything: before it is on a slow disk, or an arbiter that
    /// does not answer was given up. It was to be off until then, so the word was hasty.
    pub(super) fn starts_too_early(&mut self, node: &NodeName) {
        self.words.end(node);
        let early = self.words.pending.keys();
        self.lied.extend(early.cloned());
    }

    pub(super) fn had_a_word(&self, hierarchy: &HierarchyName, node: &NodeName) -> bool {
        self.words.given.get(hierarchy) == Some(node)
    }

    /// An operator says on this node that no other has the hierarchy. `permit` is who has one for it, at the arbiter. Says
    /// whether that is so.
    pub fn word(
        &mut self,
        hierarchy: &HierarchyName,
        node: &NodeName,
        machines: &mut BTreeMap<NodeName, Machine>,
        permit: Option<&NodeName>,
    ) -> bool {
        let life = machines[node].life();
        self.proof.word(node, hierarchy, life);
        let before = self.words.given.insert(hierarchy.clone(), node.clone());
        // Who owns it already need not claim it.
        if !self.disks.owns(node, hierarchy) {
            self.words.pending.insert(hierarchy.clone(), node.clone());
        }
        // Who has a permit may act as soon as it has power, without asking anybody but the arbiter.
        let mut is_so = permit.is_none_or(|holder| holder == node);
        for (other, machine) in machines.iter_mut().filter(|(other, _)| *other != node) {
            if machine.off {
                continue;
            }
            let occupied = self.owner.is_occupied(hierarchy, other);
            // A word that was said there may still be on its way to disk.
            let promised = before.as_ref() == Some(other);
            let owns = may_act(other, hierarchy, machine);
            is_so &= !occupied && !promised && !owns;
        }
        if !is_so {
            self.lied.insert(hierarchy.clone());
        }
        is_so
    }
}

/// Whether a machine that is on may bring it in service without another word: by its disk, or by what its daemon knows.
fn may_act(node: &NodeName, hierarchy: &HierarchyName, machine: &mut Machine) -> bool {
    let may = |state: &mainstay_core::state::State| {
        state.hierarchies.get(hierarchy).is_some_and(|known| {
            let offered = matches!(&known.standing.kind, StandingKind::Offered(to) if to == node);
            let ours = known.claim.as_ref().is_some_and(|claim| claim.id.claimant == *node);
            // Its own claim, whatever its standing: it may take it back.
            offered || ours && !known.unknown
        })
    };
    may(machine.durable_state()) || machine.node.as_ref().is_some_and(|node| may(node.state()))
}
