//! No failover without a fault that explains it: on the owner's machine, on a comm path of it, on a kit or application
//! there, at the arbiter, or an operator's word, within the time in which faults are detected.

use std::collections::BTreeMap;

use mainstay_core::claim::ClaimId;
use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_core::state::Cause;
use mainstay_core::status::{Event, What};
use mainstay_core::time::{Millis, Monotonic};

use super::{Checks, Promise};

/// From a fault's end to the last move that it explains: dead times, a ladder with its repairs, failed attempts, and an
/// operator who thinks before a word is said.
const WITHIN: Millis = Millis::from_mins(4);

/// What is in trouble, from when until when.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Since when.
    pub from: Monotonic,
    /// Until when; none: it goes on.
    pub until: Option<Monotonic>,
    /// These nodes, their paths or kits.
    pub nodes: Vec<NodeName>,
    /// The arbiter.
    pub arbiter: bool,
}

#[derive(Debug, Default)]
pub(super) struct Explained {
    /// None: nobody tells what is wrong, and so nothing is judged: a story.
    trouble: Option<BTreeMap<u64, Trouble>>,
    /// The newest claim that was made.
    newest: BTreeMap<HierarchyName, ClaimId>,
}

impl Checks {
    /// Somebody makes trouble, and it is known under this number.
    pub fn trouble(&mut self, number: u64, trouble: Trouble) {
        self.explained.trouble.get_or_insert_default().insert(number, trouble);
    }

    /// It is over.
    pub fn trouble_over(&mut self, number: u64, now: Monotonic) {
        if let Some(trouble) = self.explained.trouble.as_mut().and_then(|all| all.get_mut(&number)) {
            trouble.until = Some(now);
        }
    }

    /// From now on every failover needs an explanation.
    pub fn nothing_is_wrong_yet(&mut self) {
        self.explained.trouble.get_or_insert_default();
    }

    pub(super) fn newest_claim(&self, hierarchy: &HierarchyName) -> Option<&ClaimId> {
        self.explained.newest.get(hierarchy)
    }

    pub(super) fn failover_explained(&mut self, now: Monotonic, node: &NodeName, event: &Event) {
        let (What::Claimed { claim, cause }, Some(hierarchy)) = (&event.what, &event.hierarchy) else { return };
        let before = self.explained.newest.get(hierarchy).cloned();
        if before.as_ref().is_none_or(|before| before < claim) {
            self.explained.newest.insert(hierarchy.clone(), claim.clone());
        }
        let (Cause::Failover, Some(trouble), Some(before)) = (cause, &self.explained.trouble, before) else { return };
        // A node that has lost a permit for one hierarchy is fenced with all the others that it has.
        let arbiter = self.promises.values().any(|it| matches!(it, Promise::Permit | Promise::PermitAndWatchdog));
        let explains = |it: &Trouble| {
            it.from <= now
                && it.until.is_none_or(|until| now.since(until) <= WITHIN)
                && (it.nodes.contains(&before.claimant) || it.nodes.contains(node) || arbiter && it.arbiter)
        };
        if !trouble.values().any(explains) {
            self.fail(format!(
                "unexplained: {node} takes {hierarchy} over ({claim}) from {}, and nothing was wrong there",
                before.claimant
            ));
        }
    }
}
