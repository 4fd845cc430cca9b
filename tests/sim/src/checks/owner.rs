//! One owner, where it is promised (O16, O19): nothing is brought in service or repaired on a node while something of the
//! same hierarchy is or may be on another.
//!
//! Where something may be is known from the kits' calls and the machines' power: a restore was begun there, and since
//! then no remove has succeeded and the power did not go. A machine that stands still does nothing; where only a permit
//! is promised it may overlap until it was fenced after waking, within a bound.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::time::{Millis, Monotonic};

use super::{Apart, Checks, Promise};
use crate::world::Machine;

/// After waking, a machine whose permit has ended is fenced within what its guardian takes and so much more.
const WAKING: Millis = Millis::from_secs(1);
/// What nodes know of each other is so old at the most when they act on it: a dead time, and what a takeover takes.
const KNOWN_SINCE: Millis = Millis::from_mins(2);

/// Of two that an arbiter has shown a permit, one after the other and each still good, the one that knows of the newer
/// claim learns of it within a renewal, a request and a removal.
const PERMIT_CAME_BACK: Millis = Millis::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Owner {
    /// Where something of a hierarchy may be.
    occupied: BTreeMap<(HierarchyName, NodeName), BTreeSet<Tag>>,
    /// When each machine went on after it had stood still.
    woke: BTreeMap<NodeName, Monotonic>,
    /// By then nothing may be there any more: it has another owner, who may overlap no longer.
    overlaps_until: BTreeMap<(HierarchyName, NodeName), Option<Monotonic>>,
    takes: Millis,
    /// When the arbiter was put back to what it was when another node had the permit.
    permit_came_back: BTreeMap<HierarchyName, Monotonic>,
}

impl Owner {
    pub(super) fn new(takes: Millis) -> Self {
        Self { takes, ..Self::default() }
    }

    pub(super) fn occupies(&mut self, hierarchy: &HierarchyName, node: &NodeName, tag: &Tag) {
        self.occupied.entry((hierarchy.clone(), node.clone())).or_default().insert(tag.clone());
    }

    pub(super) fn is_occupied(&self, hierarchy: &HierarchyName, node: &NodeName) -> bool {
        self.occupied.get(&(hierarchy.clone(), node.clone())).is_some_and(|tags| !tags.is_empty())
    }

    fn stood_still(&self, node: &NodeName, machine: &Machine, now: Monotonic, within: Millis) -> bool {
        machine.suspended || self.woke.get(node).is_some_and(|at| now.since(*at) <= within)
    }
}

impl Checks {
    pub(super) fn nowhere_else(
        &mut self,
        now: Monotonic,
        node: &NodeName,
        hierarchy: &HierarchyName,
        tag: &Tag,
        machines: &BTreeMap<NodeName, Machine>,
        apart: &Apart<'_>,
    ) {
        let promise = self.promise(hierarchy);
        if self.lied.contains(hierarchy) {
            return;
        }
        let two_permits =
            self.owner.permit_came_back.get(hierarchy).is_some_and(|at| now.since(*at) <= PERMIT_CAME_BACK);
        let waking = Millis(self.owner.takes.0 + WAKING.0);
        let others: Vec<NodeName> = machines
            .keys()
            .filter(|other| *other != node && self.owner.is_occupied(hierarchy, other))
            .cloned()
            .collect();
        for other in others {
            let excused = match promise {
                // A store that gives one permit twice promises nothing; what follows has a bound.
                Promise::Permit | Promise::PermitAndWatchdog if two_permits => true,
                Promise::Word | Promise::Fence | Promise::PermitAndWatchdog => false,
                Promise::Paths => {
                    let since = Monotonic(now.0.saturating_sub(KNOWN_SINCE.0));
                    let still = |name: &NodeName| self.owner.stood_still(name, &machines[name], now, KNOWN_SINCE);
                    apart(node, &other, since) || still(node) || still(&other)
                }
                Promise::Permit if machines[&other].suspended => {
                    self.owner.overlaps_until.insert((hierarchy.clone(), other.clone()), None);
                    true
                }
                // The guardian died, and then the daemon, before it could do anything about that.
                Promise::Permit if machines[&other].is_unguarded() => true,
                Promise::Permit => {
                    let still = |name: &NodeName| self.owner.stood_still(name, &machines[name], now, waking);
                    still(node) || still(&other)
                }
            };
            if !excused {
                let tags = &self.owner.occupied[&(hierarchy.clone(), other.clone())];
                self.fail(format!(
                    "one owner (O16, O19): {node} brings {tag} in service while {tags:?} may be on {other} ({promise:?})"
                ));
            }
        }
    }

    /// The arbiter was restored from a backup in which another node has the permit than the one that has it now.
    pub fn permit_came_back(&mut self, hierarchy: HierarchyName, now: Monotonic) {
        self.owner.permit_came_back.insert(hierarchy, now);
    }

    /// Whether something of it may be there.
    #[must_use]
    pub fn may_be_on(&self, hierarchy: &HierarchyName, node: &NodeName) -> bool {
        self.owner.is_occupied(hierarchy, node)
    }

    /// A remove has succeeded.
    pub fn removed(&mut self, node: &NodeName, hierarchy: &HierarchyName, tag: &Tag) {
        let key = (hierarchy.clone(), node.clone());
        if let Some(tags) = self.owner.occupied.get_mut(&key) {
            tags.remove(tag);
            if tags.is_empty() {
                self.owner.overlaps_until.remove(&key);
            }
        }
    }

    /// A machine is off: nothing runs there.
    pub fn power_off(&mut self, node: &NodeName) {
        self.owner.occupied.retain(|(_, other), _| other != node);
        self.owner.overlaps_until.retain(|(_, other), _| other != node);
    }

    /// A machine that stood still goes on: what it has and another owns has to go, soon.
    pub fn woke(&mut self, node: &NodeName, now: Monotonic) {
        self.owner.woke.insert(node.clone(), now);
        let until = now + Millis(self.owner.takes.0 + WAKING.0);
        for ((_, other), overlaps) in &mut self.owner.overlaps_until {
            if other == node {
                *overlaps = Some(until);
            }
        }
    }

    /// Time has passed.
    pub fn look(&mut self, now: Monotonic, machines: &BTreeMap<NodeName, Machine>) {
        let late: Vec<_> = self
            .owner
            .overlaps_until
            .iter()
            .filter(|((_, node), until)| until.is_some_and(|until| now > until) && !machines[node].suspended)
            .map(|(key, _)| key.clone())
            .collect();
        for (hierarchy, node) in late {
            self.owner.overlaps_until.remove(&(hierarchy.clone(), node.clone()));
            if !self.lied.contains(&hierarchy) && !machines[&node].is_unguarded() {
                self.fail(format!("one owner (O13, O16): {node} woke, and still has {hierarchy}, which another owns"));
            }
        }
    }
}
