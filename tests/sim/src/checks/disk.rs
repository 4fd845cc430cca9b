//! Nothing leaves a node that rests on a record which is not on its disk (O2, O23), and only who owns a hierarchy by its
//! own disk brings anything of it in service. What a disk knows of claims never goes back (O1, O12).

use std::collections::BTreeMap;

use mainstay_core::arbiter::ArbiterRequest;
use mainstay_core::claim::ClaimId;
use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::message::{OwnershipSummary, PeerMessage};
use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_core::node::{Operation, Output, Reply};
use mainstay_core::state::{Record, State};
use mainstay_core::volume::ToVolume;

use super::Checks;

/// The newest claim on each disk.
#[derive(Debug, Default)]
pub(super) struct Disks {
    newest: BTreeMap<(NodeName, HierarchyName), ClaimId>,
}

impl Disks {
    pub(super) fn found(&mut self, node: &NodeName, hierarchy: HierarchyName, claim: ClaimId) {
        self.newest.insert((node.clone(), hierarchy), claim);
    }

    /// Whether the newest claim there is its own.
    pub(super) fn owns(&self, node: &NodeName, hierarchy: &HierarchyName) -> bool {
        self.newest.get(&(node.clone(), hierarchy.clone())).is_some_and(|claim| claim.claimant == *node)
    }

    /// Its disk is read anew, or is another.
    pub(super) fn forget(&mut self, node: &NodeName) {
        self.newest.retain(|(other, _), _| other != node);
    }
}

impl Checks {
    /// A record is on the disk of a node.
    pub fn written(&mut self, node: &NodeName, record: &Record) {
        if let Record::Forgotten { hierarchy, tag: None } = record {
            self.disks.newest.remove(&(node.clone(), hierarchy.clone()));
        }
        let (Record::Claimed { hierarchy, claim, .. } | Record::Learned { hierarchy, claim: Some(claim), .. }) = record
        else {
            return;
        };
        let claim = &claim.id;
        self.words.claimed(node, hierarchy);
        let before = self.disks.newest.insert((node.clone(), hierarchy.clone()), claim.clone());
        if let Some(before) = before.filter(|before| before > claim) {
            self.fail(format!("O12: {node} had {before} of {hierarchy} on its disk, and believes in {claim} now"));
        }
    }

    /// Something leaves a node.
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
                    self.is_on_disk(node, durable, &summary.name, said, "says");
                    let declined = durable.hierarchies.get(&summary.name).and_then(|known| known.declined.as_ref());
                    if summary.declined.is_some() && summary.declined.as_ref() != declined {
                        self.fail(format!("O18: {node} declines {:?}, and its disk {declined:?}", summary.declined));
                    }
                }
            }
            Output::Arbiter(_, _, ArbiterRequest::Give { hierarchy, record }) => {
                self.is_on_disk(node, durable, hierarchy, record, "gives to the arbiter");
            }
            Output::CallKit(_, call)
                if !matches!(call.operation, Operation::QuickCheck | Operation::DeepCheck | Operation::Assess) =>
            {
                let Some(hierarchy) = hierarchies.values().nth(call.hierarchy.at()) else { return };
                let tag = hierarchy.tag(call.resource);
                let known = durable.hierarchies.get(&hierarchy.name);
                let owner = known.and_then(|it| it.owner());
                if !matches!(call.operation, Operation::Remove) && owner != Some(node) {
                    self.fail(format!("O2: {node} brings {tag} in service, and the owner on its disk is {owner:?}"));
                }
                let begun = known.and_then(|it| it.resources.get(tag)?.operation.as_ref());
                if begun.is_none_or(|it| it.id != call.operation_id || it.attempt != call.attempt) {
                    self.fail(format!("O23: {node} calls {} for {tag}, and its disk has {begun:?}", call.operation_id));
                }
            }
            Output::Reply(_, _, Reply::Refused(_)) => self.words.end(node),
            Output::Volume(_, _, ToVolume::Right { claim, .. }) => {
                // By the time that it leaves the disk may know a newer one: then the next word takes it back.
                let held =
                    durable.hierarchies.values().filter_map(|known| known.claim.as_ref()).any(|it| it.id >= *claim);
                if !held || claim.claimant != *node {
                    self.fail(format!(
                        "V1, O2: the process of a volume on {node} is told of {claim}, and the disk knows nothing of it"
                    ));
                }
            }
            Output::Volume(..)
            | Output::Send(..)
            | Output::CallKit(..)
            | Output::Report(..)
            | Output::Reply(..)
            | Output::Persist(..)
            | Output::Heartbeat(_)
            | Output::Arbiter(..)
            | Output::Fence(..)
            | Output::Knock(..)
            | Output::Guard(_)
            | Output::Survey(..)
            | Output::Examined(..)
            | Output::CancelKit(_) => {}
        }
    }

    fn is_on_disk(
        &mut self,
        node: &NodeName,
        durable: &State,
        hierarchy: &HierarchyName,
        said: &OwnershipSummary,
        does: &str,
    ) {
        let known = durable.hierarchies.get(hierarchy);
        let known = known.map(|it| (it.claim.as_ref().map(|claim| &claim.id), it.standing.revision));
        let said = (said.claim.as_ref().map(|claim| &claim.id), said.standing.revision);
        if known.is_none_or(|known| said > known) {
            self.fail(format!("O2: {node} {does} {said:?} of {hierarchy}, and its disk {known:?}"));
        }
    }
}
