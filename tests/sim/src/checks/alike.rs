//! Nothing moves by itself between nodes whose configs or kits differ (O11), as far as they have told each other; and what
//! goes back by itself goes to a node of higher priority, where the config says so. What an operator says moves all the same.
//!
//! A difference that was told a moment ago may come too late for what has begun.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::message::PeerState;
use mainstay_core::names::{HierarchyName, KitName, NodeName};
use mainstay_core::state::Cause;
use mainstay_core::status::{Event, What};
use mainstay_core::time::{Millis, Monotonic};

use super::Checks;
use crate::world::Machine;

/// What has begun before a difference was told is done by then: a plan with its retries.
const BEGUN: Millis = Millis::from_secs(30);

/// What a node has told another of itself.
#[derive(Debug)]
struct Told {
    /// Since when it says so, to this daemon.
    since: Monotonic,
    life: u64,
    config: String,
    kits: BTreeMap<KitName, String>,
}

#[derive(Debug, Default)]
pub(super) struct Alike {
    told: BTreeMap<(NodeName, NodeName), Told>,
    /// To whom the newest claim was given away.
    offered: BTreeMap<HierarchyName, NodeName>,
    /// By itself it goes back to a node of higher priority.
    switches_back: BTreeSet<HierarchyName>,
}

impl Alike {
    pub(super) fn new(switches_back: BTreeSet<HierarchyName>) -> Self {
        Self { switches_back, ..Self::default() }
    }
}

impl Checks {
    pub(super) fn told(&mut self, now: Monotonic, node: &NodeName, life: u64, state: &PeerState) {
        let key = (node.clone(), state.from.clone());
        let known = self.alike.told.get(&key);
        let same = |known: &Told| known.life == life && known.config == state.config_hash && known.kits == state.kits;
        if !known.is_some_and(same) {
            let (config, kits) = (state.config_hash.clone(), state.kits.clone());
            self.alike.told.insert(key, Told { since: now, life, config, kits });
        }
    }

    /// Whether this node has known for long enough that the other one differs; and whether in its config.
    fn differs(&self, now: Monotonic, node: &NodeName, other: &NodeName, machine: &Machine) -> Option<bool> {
        let told = self.alike.told.get(&(node.clone(), other.clone())).filter(|told| told.life == machine.life())?;
        let since = told.since.max(machine.kit_since());
        if now.since(since) < BEGUN {
            return None;
        }
        let config = told.config != machine.config_hash();
        (config || told.kits != machine.kits()).then_some(config)
    }

    pub(super) fn moves_between_alike(
        &mut self,
        now: Monotonic,
        node: &NodeName,
        event: &Event,
        machines: &BTreeMap<NodeName, Machine>,
    ) {
        let Some(hierarchy) = &event.hierarchy else { return };
        if let What::Released { to: Some(to) } = &event.what {
            self.alike.offered.insert(hierarchy.clone(), to.clone());
            self.gives(now, node, hierarchy, to, &machines[node]);
        } else if let What::Claimed { claim, cause } = &event.what {
            let offered = self.alike.offered.remove(hierarchy).is_some_and(|to| to == *node);
            let before = self.newest_claim(hierarchy).filter(|before| *before < claim).map(|it| it.claimant.clone());
            if let Some(before) = before {
                self.takes(now, node, hierarchy, &before, (*cause, offered), &machines[node]);
            }
        }
    }

    fn gives(&mut self, now: Monotonic, node: &NodeName, hierarchy: &HierarchyName, to: &NodeName, machine: &Machine) {
        let known = machine.node.as_ref().and_then(|node| node.state().hierarchies.get(hierarchy));
        let cause = known.and_then(|known| known.standing.cause);
        let by_itself = matches!(cause, Some(Cause::Failover | Cause::Switchback));
        // Between configs that differ nothing is moved by a word either.
        if let Some(config) = self.differs(now, node, to, machine).filter(|config| *config || by_itself) {
            let what = if config { "config" } else { "kits" };
            self.fail(format!("alike (O11): {node} gives {hierarchy} to {to}, whose {what} differ ({cause:?})"));
        }
    }

    fn takes(
        &mut self,
        now: Monotonic,
        node: &NodeName,
        hierarchy: &HierarchyName,
        before: &NodeName,
        (cause, offered): (Cause, bool),
        machine: &Machine,
    ) {
        let nodes = self.members.get(hierarchy);
        let place = |node: &NodeName| nodes.and_then(|nodes| nodes.iter().position(|known| known == node));
        let back = self.alike.switches_back.contains(hierarchy) && place(node) < place(before);
        if cause == Cause::Switchback && !back {
            self.fail(format!("switchback: {hierarchy} went from {before} to {node} by itself"));
        }
        let by_itself = cause == Cause::Failover && !offered && !self.had_a_word(hierarchy, node);
        if by_itself && self.differs(now, node, before, machine).is_some() {
            self.fail(format!("alike (O11): {node} takes {hierarchy} over from {before}, which differs from it"));
        }
    }
}
