//! O17: children are restored first, parents removed first.

use std::collections::BTreeMap;

use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::names::{NodeName, Tag};
use mainstay_core::node::{Call, Operation};

use super::Checks;
use crate::kits::App;

impl Checks {
    pub(super) fn in_order(&mut self, node: &NodeName, hierarchy: &Hierarchy, call: &Call, apps: &BTreeMap<Tag, App>) {
        let tag = hierarchy.tag(call.resource);
        match call.operation {
            Operation::Restore => {
                for child in hierarchy.children(call.resource) {
                    let child = hierarchy.tag(*child);
                    // One that has ended by itself a moment ago was in service as far as anybody can know.
                    if !apps.get(child).is_some_and(|app| app.running || app.crashed) {
                        self.fail(format!(
                            "O17: {node} restores {tag} while {child}, which it depends on, does not run there"
                        ));
                    }
                }
            }
            Operation::Remove => {
                for parent in hierarchy.parents(call.resource) {
                    let parent = hierarchy.tag(*parent);
                    if apps.get(parent).is_some_and(|app| app.running && !app.by_hand) {
                        self.fail(format!("O17: {node} removes {tag} while {parent}, which depends on it, runs there"));
                    }
                }
            }
            Operation::Recover(_) | Operation::QuickCheck | Operation::DeepCheck | Operation::Assess => {}
        }
    }
}
