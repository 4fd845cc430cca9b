//! What must hold in the simulated world, whatever the nodes believe.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::message::PeerMessage;
use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::node::{Call, Operation, Output};
use mainstay_core::state::State;

use crate::kits::App;

/// Keeps what the rules need, and says when one is broken.
#[derive(Debug, Default)]
pub struct Checks {
    /// Where something of a hierarchy may be: a restore was begun there, and no remove has succeeded since.
    occupied: BTreeMap<(HierarchyName, NodeName), BTreeSet<Tag>>,
    /// Operators who said what is not so; from then on two may own it.
    pub lied: BTreeSet<HierarchyName>,
    /// What was broken.
    pub broken: Vec<String>,
}

impl Checks {
    fn fail(&mut self, what: String) {
        self.broken.push(what);
    }

    /// A call begins.
    pub fn call(
        &mut self,
        node: &NodeName,
        hierarchy: &Hierarchy,
        call: &Call,
        apps: &BTreeMap<Tag, App>,
        alone: bool,
    ) {
        let tag = hierarchy.tag(call.resource);
        if !alone {
            self.fail(format!("{node} calls {tag} while another call for it goes on"));
        }
        match call.operation {
            Operation::Restore => {
                for child in hierarchy.children(call.resource) {
                    let child = hierarchy.tag(*child);
                    if !apps.get(child).is_some_and(|app| app.running || app.crashed) {
                        self.fail(format!(
                            "O17: {node} restores {tag} while {child}, which it depends on, does not run there"
                        ));
                    }
                }
                self.nowhere_else(node, &hierarchy.name, tag);
                self.occupied.entry((hierarchy.name.clone(), node.clone())).or_default().insert(tag.clone());
            }
            Operation::Remove => {
                for parent in hierarchy.parents(call.resource) {
                    let parent = hierarchy.tag(*parent);
                    if apps.get(parent).is_some_and(|app| app.running) {
                        self.fail(format!("O17: {node} removes {tag} while {parent}, which depends on it, runs there"));
                    }
                }
            }
            Operation::Recover(_) => self.nowhere_else(node, &hierarchy.name, tag),
            Operation::QuickCheck => {}
        }
    }

    fn nowhere_else(&mut self, node: &NodeName, hierarchy: &HierarchyName, tag: &Tag) {
        if self.lied.contains(hierarchy) {
            return;
        }
        let others: Vec<String> = self
            .occupied
            .iter()
            .filter(|((name, other), tags)| name == hierarchy && other != node && !tags.is_empty())
            .map(|((_, other), tags)| format!("{tags:?} may be on {other}"))
            .collect();
        if !others.is_empty() {
            self.fail(format!("one owner (O19): {node} brings {tag} in service while {}", others.join(", ")));
        }
    }

    /// Something leaves a node: what it depends on is on its disk (O2, O23), and only who owns a hierarchy by its own disk
    /// brings anything of it in service.
    pub fn leaves(
        &mut self,
        node: &NodeName,
        durable: &State,
        hierarchies: &BTreeMap<HierarchyName, Hierarchy>,
        output: &Output,
    ) {
        match output {
            Output::Send(_, _, PeerMessage::State(told)) => {
                for (summary, said) in told.hierarchies.iter().filter_map(|it| Some((it, it.ownership.as_ref()?))) {
                    let known = durable.hierarchies.get(&summary.name);
                    let known = known.map(|it| (it.claim.as_ref().map(|claim| &claim.id), it.standing.revision));
                    let said = (said.claim.as_ref().map(|claim| &claim.id), said.standing.revision);
                    if known.is_none_or(|known| said > known) {
                        self.fail(format!("O2: {node} says {said:?} of {}, and its disk {known:?}", summary.name));
                    }
                }
            }
            Output::CallKit(_, call) if !matches!(call.operation, Operation::QuickCheck) => {
                let Some(hierarchy) = hierarchies.values().nth(call.hierarchy.at()) else { return };
                let tag = hierarchy.tag(call.resource);
                let known = durable.hierarchies.get(&hierarchy.name);
                let owner = known.and_then(|it| it.owner());
                if !matches!(call.operation, Operation::Remove) && owner != Some(node) {
                    self.fail(format!("{node} brings {tag} in service, and the owner on its disk is {owner:?}"));
                }
                let begun = known.and_then(|it| it.resources.get(tag)?.operation.as_ref());
                if begun.is_none_or(|it| it.id != call.operation_id || it.attempt != call.attempt) {
                    self.fail(format!("O23: {node} calls {} for {tag}, and its disk has {begun:?}", call.operation_id));
                }
            }
            Output::Send(..)
            | Output::CallKit(..)
            | Output::Report(..)
            | Output::Reply(..)
            | Output::Persist(..)
            | Output::Heartbeat(_)
            | Output::Arbiter(..)
            | Output::Fence(..)
            | Output::Knock(..)
            | Output::Guard(_)
            | Output::CancelKit(_) => {}
        }
    }

    /// A remove has succeeded.
    pub fn removed(&mut self, node: &NodeName, hierarchy: &HierarchyName, tag: &Tag) {
        if let Some(tags) = self.occupied.get_mut(&(hierarchy.clone(), node.clone())) {
            tags.remove(tag);
        }
    }

    /// A machine is off: nothing runs there.
    pub fn power_off(&mut self, node: &NodeName) {
        self.occupied.retain(|(_, other), _| other != node);
    }

    /// An operator states that no other node has the hierarchy. Whoever says so while another machine is on is hasty:
    /// from then on two may own it, and it rests on the operator's word (O16).
    pub fn stated_off(&mut self, hierarchy: &HierarchyName, all_others_off: bool) {
        if !all_others_off {
            self.lied.insert(hierarchy.clone());
        }
    }
}
