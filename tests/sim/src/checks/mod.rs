//! What must hold in the simulated world, whatever the nodes believe.
//!
//! The checkers judge what runs, what is on disk and what leaves a machine; they share no code with what makes trouble.
//! One file for each concern: `alike` what moves by itself, `order` what depends on what, `owner` one owner, `proof` what a start needs, `disk` what may
//! leave a node, `words` what operators state, `explained` why something moved, `rest` what a world comes to rest as.

mod alike;
mod disk;
mod explained;
mod order;
mod owner;
mod proof;
pub mod rest;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_core::node::{Call, Operation};
use mainstay_core::spec::{FailoverMode, SelfFence, Spec, Switchback};
use mainstay_core::status::Event;
use mainstay_core::time::{Millis, Monotonic};

use crate::world::Machine;

pub use explained::Trouble;

/// What a hierarchy's mode of failover promises (O16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// One owner, as long as operators say what is so.
    Word,
    /// One owner, as long as comm paths do not all fail together.
    Paths,
    /// One owner: who takes over has fenced the other.
    Fence,
    /// One owner: who takes over has a permit. A machine that was suspended may overlap until it has woken.
    Permit,
    /// One owner, and a watchdog sees to it that a machine that was suspended does not wake.
    PermitAndWatchdog,
}

impl Promise {
    fn of(spec: &Spec, hierarchy: &HierarchyName) -> Self {
        let known = &spec.hierarchies[hierarchy];
        match known.failover {
            FailoverMode::Confirm if known.confirm_timeout.is_none() => Self::Word,
            FailoverMode::Confirm | FailoverMode::Automatic if known.accept_split_brain => Self::Paths,
            FailoverMode::Confirm | FailoverMode::Automatic => Self::Fence,
            FailoverMode::Arbiter => match spec.self_fence.as_ref().map(|fence| &fence.by) {
                Some(SelfFence::Watchdog(_)) => Self::PermitAndWatchdog,
                Some(SelfFence::Reboot | SelfFence::Command(_)) | None => Self::Permit,
            },
        }
    }
}

/// Whether all comm paths between two nodes were bad together, at some moment since then.
pub type Apart<'a> = dyn Fn(&NodeName, &NodeName, Monotonic) -> bool + 'a;

/// Keeps what the rules need, and says when one is broken.
#[derive(Debug, Default)]
pub struct Checks {
    promises: BTreeMap<HierarchyName, Promise>,
    members: BTreeMap<HierarchyName, Vec<NodeName>>,
    owner: owner::Owner,
    proof: proof::Proof,
    disks: disk::Disks,
    alike: alike::Alike,
    explained: explained::Explained,
    words: words::Words,
    /// Operators who said what is not so; from then on two may own it.
    pub lied: BTreeSet<HierarchyName>,
    /// What was broken: the rule, a colon, and what happened.
    pub broken: Vec<String>,
}

impl Checks {
    /// For a cluster with this config.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        let takes = spec.self_fence.as_ref().map_or(Millis(0), |fence| fence.takes);
        let back = spec.hierarchies.iter().filter(|(_, known)| known.switchback == Switchback::Automatic);
        let switches_back = back.map(|(name, _)| name.clone()).collect();
        Self {
            alike: alike::Alike::new(switches_back),
            promises: spec.hierarchies.keys().map(|name| (name.clone(), Promise::of(spec, name))).collect(),
            members: spec.hierarchies.iter().map(|(name, known)| (name.clone(), known.nodes.clone())).collect(),
            owner: owner::Owner::new(takes),
            ..Self::default()
        }
    }

    /// What the mode of a hierarchy promises.
    #[must_use]
    pub fn promise(&self, hierarchy: &HierarchyName) -> Promise {
        self.promises.get(hierarchy).copied().unwrap_or(Promise::Word)
    }

    fn fail(&mut self, what: String) {
        self.broken.push(what);
    }

    /// A call begins.
    #[expect(clippy::too_many_arguments, reason = "a call is judged by all that is known of the world at that moment")]
    pub fn call(
        &mut self,
        now: Monotonic,
        node: &NodeName,
        hierarchy: &Hierarchy,
        call: &Call,
        machines: &BTreeMap<NodeName, Machine>,
        alone: bool,
        apart: &Apart<'_>,
    ) {
        if !alone {
            let tag = hierarchy.tag(call.resource);
            self.fail(format!("O23: {node} calls {tag} while another call for it goes on"));
        }
        self.in_order(node, hierarchy, call, &machines[node].apps);
        let tag = hierarchy.tag(call.resource);
        match call.operation {
            Operation::Restore => {
                self.nowhere_else(now, node, &hierarchy.name, tag, machines, apart);
                self.proven(node, &hierarchy.name, tag, machines);
                self.owner.occupies(&hierarchy.name, node, tag);
            }
            Operation::Recover(_) => {
                self.nowhere_else(now, node, &hierarchy.name, tag, machines, apart);
                self.proven(node, &hierarchy.name, tag, machines);
            }
            Operation::Remove | Operation::QuickCheck | Operation::DeepCheck | Operation::Assess => {}
        }
    }

    /// A node has told something.
    pub fn reported(&mut self, now: Monotonic, node: &NodeName, event: &Event, machines: &BTreeMap<NodeName, Machine>) {
        self.moves_between_alike(now, node, event, machines);
        self.failover_explained(now, node, event);
    }
}
