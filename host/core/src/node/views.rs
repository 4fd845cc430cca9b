//! What is shown: the state of each resource with its reason, and everything at once. Decides nothing.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Node;
use super::io::{Health, Weight};
use super::timers::HierarchyIndex;
use crate::hierarchy::ResourceIndex;
use crate::ladder::Stage;
use crate::names::NodeName;
use crate::plan::Presence;
use crate::rehearsal::{NodeSnapshot, SNAPSHOT_VERSION, Snapshot};
use crate::state::{Failed, Intent, OperationKind, OperationState, StandingKind, State};
use crate::status::{
    EventSeverity, HierarchyOnNode, HierarchyStatus, NodeStatus, PathStatus, Reach, ResourceRow, ResourceStatus,
    ResourceView, Status, What,
};

impl Node {
    /// Shows a resource anew.
    pub(super) fn refresh_view(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        let view = self.view(h, r);
        let before = core::mem::replace(&mut self.resource_mut(h, r).view, view.clone());
        if before == view {
            return;
        }
        self.tell.resources();
        if before.status != view.status {
            let severity = match view.status {
                ResourceStatus::Isp | ResourceStatus::Osu => EventSeverity::Info,
                ResourceStatus::Isu | ResourceStatus::Osf | ResourceStatus::IllState => EventSeverity::Warning,
            };
            self.event_of(severity, h, Some(r), What::State { from: before.status, to: view });
        }
    }

    fn view(&self, h: HierarchyIndex, r: ResourceIndex) -> ResourceView {
        use ResourceStatus::{IllState, Isu, Osf};
        let durable = self.durable_resource(h, r);
        let resource = self.resource(h, r);
        if resource.leftover {
            return ResourceView::new(
                IllState,
                "what an earlier daemon started for it still runs, and is waited for (O23)",
            );
        }
        if let Some(operation) = &durable.operation {
            return self.view_of_operation(h, r, operation);
        }
        match durable.presence {
            Presence::Out => {
                if let Some(found) = &resource.violation {
                    return ResourceView::new(
                        IllState,
                        alloc::format!("running here although it should not be: {found}"),
                    );
                }
                match &durable.failure {
                    Some(failed) => {
                        ResourceView::new(Osf, alloc::format!("{} failed: {}", failed.operation, failed.why))
                    }
                    None => self.view_of_out(h, r),
                }
            }
            Presence::Unknown => match &durable.failure {
                // An error of remove counts as still in service here.
                Some(Failed { operation: OperationKind::Remove, why }) => ResourceView::new(
                    Isu,
                    alloc::format!("remove failed, so it counts as still in service here: {why}"),
                ),
                Some(Failed { operation, why }) => ResourceView::new(
                    Osf,
                    alloc::format!("{operation} failed, and something of it may be left here: {why}"),
                ),
                None if self.is_owner(h) && !self.local(h).proven => ResourceView::new(
                    IllState,
                    alloc::format!(
                        "whether something of it is here is not known; there is no proof of ownership (O3): {}",
                        self.unproven_because(h).join("; ")
                    ),
                ),
                None => ResourceView::new(IllState, "whether something of it is here is not known"),
            },
            Presence::In => {
                if !resource.looked {
                    return ResourceView::new(
                        IllState,
                        "it was in service when the daemon stopped; nobody has looked since",
                    );
                }
                match resource.ladder.stage() {
                    Stage::Good => self.view_of_good(h, r),
                    Stage::SecondLook(why) if resource.ladder.is_anew() => {
                        ResourceView::new(Isu, alloc::format!("{why}; the operator wants it tried again, looking"))
                    }
                    Stage::SecondLook(why) => {
                        ResourceView { reason: alloc::format!("{why}; looking again"), ..self.view_of_good(h, r) }
                    }
                    Stage::Bad(why) => {
                        let why = match self.recovery_waits_for(h, r) {
                            Some(what) if resource.held => alloc::format!("{why}; repair waits: {what}"),
                            Some(_) | None => {
                                alloc::format!("{why}; tolerated, {} in a row", resource.ladder.bad_checks())
                            }
                        };
                        ResourceView::new(Isu, why)
                    }
                    Stage::Recovering(why) => ResourceView::new(Isu, alloc::format!("{why}; local recovery")),
                    Stage::Verifying(why) => ResourceView::new(
                        Isu,
                        alloc::format!("{why}; local recovery is done, looking whether it helped"),
                    ),
                    Stage::Exhausted(why) => ResourceView::new(Osf, why.clone()),
                }
            }
        }
    }

    fn view_of_operation(&self, h: HierarchyIndex, r: ResourceIndex, operation: &OperationState) -> ResourceView {
        use ResourceStatus::{IllState, Isu, Osu};
        let nth = if operation.attempt > 1 { alloc::format!(", attempt {}", operation.attempt) } else { String::new() };
        let cause = operation.cause;
        if !operation.running {
            return ResourceView::new(
                IllState,
                alloc::format!("how {} ({cause}) ended is not known; it is looked at first", operation.kind),
            );
        }
        match operation.kind {
            OperationKind::Restore => ResourceView::new(Osu, alloc::format!("being brought in service ({cause}){nth}")),
            OperationKind::Remove => {
                ResourceView::new(Isu, alloc::format!("being taken out of service ({cause}){nth}"))
            }
            OperationKind::Recover => {
                let why = match self.resource(h, r).ladder.stage() {
                    Stage::Recovering(why) => why.as_str(),
                    Stage::Good | Stage::SecondLook(_) | Stage::Bad(_) | Stage::Verifying(_) | Stage::Exhausted(_) => {
                        "a check was bad"
                    }
                };
                ResourceView::new(Isu, alloc::format!("{why}; local recovery under way{nth}"))
            }
        }
    }

    fn view_of_good(&self, h: HierarchyIndex, r: ResourceIndex) -> ResourceView {
        use ResourceStatus::{Isp, Isu};
        let resource = self.resource(h, r);
        if let Some(why) = resource.ladder.blind() {
            return ResourceView::new(Isu, alloc::format!("its health is not known: {why}"));
        }
        let Some(report) = &resource.report else {
            return ResourceView::new(Isp, "brought in service; not checked yet");
        };
        let status =
            if report.unmonitored || self.local(h).hierarchy.resource(r).recovery.attempts == 0 { Isu } else { Isp };
        let degraded = report.health == Health::Degraded;
        ResourceView { status, degraded, reason: report.summary.clone() }
    }

    fn view_of_out(&self, h: HierarchyIndex, r: ResourceIndex) -> ResourceView {
        let mut reason = self.why_out(h, r);
        let worst = self.resource(h, r).findings.iter().find(|finding| finding.weight > Weight::Note);
        let worst = worst.filter(|_| !self.is_owner(h));
        if let Some(finding) = worst {
            reason = alloc::format!("{reason}; {}", finding.summary);
        }
        ResourceView { status: ResourceStatus::Osu, degraded: worst.is_some(), reason }
    }

    fn why_out(&self, h: HierarchyIndex, r: ResourceIndex) -> String {
        let durable = self.durable(h);
        if durable.unknown {
            return "who owns it is not known: the journal was damaged".to_string();
        }
        if !self.is_owner(h) {
            return match (durable.owner(), &durable.standing.kind) {
                (Some(owner), _) => alloc::format!("standby: {owner} owns it"),
                (None, StandingKind::Offered(to)) => alloc::format!("released, and offered to {to}"),
                (None, StandingKind::Held | StandingKind::Released) if durable.claim.is_none() => {
                    "nobody has claimed it yet".to_string()
                }
                (None, StandingKind::Held | StandingKind::Released) => "released, and offered to nobody".to_string(),
            };
        }
        if durable.unwanted.contains(self.tag(h, r)) {
            return "taken out of service by the operator".to_string();
        }
        match &durable.intent {
            Intent::Halt(reason) => alloc::format!("waiting for the operator: {reason}"),
            Intent::Leave(cause, _) => alloc::format!("taken out of service ({cause})"),
            Intent::Serve(_) if !self.local(h).proven => {
                alloc::format!("waiting for proof of ownership (O3): {}", self.unproven_because(h).join("; "))
            }
            Intent::Serve(_) | Intent::Rest => "waiting for what it depends on".to_string(),
        }
    }

    /// Who has it, in words.
    pub(super) fn ownership_in_words(&self, h: HierarchyIndex) -> String {
        let durable = self.durable(h);
        let Some(claim) = durable.claim.as_ref().filter(|_| !durable.unknown) else {
            return if durable.unknown {
                "not known: the journal of this node was damaged".into()
            } else {
                "nobody has claimed it yet".into()
            };
        };
        let claimant = &claim.id.claimant;
        match &durable.standing.kind {
            StandingKind::Held => alloc::format!("owned by {claimant} (epoch {})", claim.id.epoch),
            StandingKind::Released => {
                alloc::format!("released by {claimant} (epoch {}), offered to nobody", claim.id.epoch)
            }
            StandingKind::Offered(to) => {
                alloc::format!("released by {claimant} (epoch {}), offered to {to}", claim.id.epoch)
            }
        }
    }

    /// Everything at once.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            cluster: self.cluster.clone(),
            node: self.me.clone(),
            software: self.software.clone(),
            at: self.now.unix,
            nodes: self.node_names.iter().map(|name| self.node_status(name)).collect(),
            hierarchies: self.members().into_iter().map(|h| self.hierarchy_status(h)).collect(),
            alarms: self.alarms(),
        }
    }

    /// What this node knows of the cluster, for playing through what would happen. `config` is the text it was made with.
    #[must_use]
    pub fn snapshot(&self, config: &str) -> Snapshot {
        let mine = NodeSnapshot {
            alive: true,
            state: self.state.clone(),
            unusable: self
                .by_tag
                .iter()
                .filter_map(|(tag, (h, r))| Some((tag.clone(), self.not_restorable(*h, *r)?)))
                .collect(),
            kits: self.kits.clone(),
        };
        let peers = self.peers.iter().map(|peer| (peer.name.clone(), self.peer_snapshot(peer)));
        Snapshot {
            version: SNAPSHOT_VERSION,
            node: self.me.clone(),
            at: self.now.unix,
            config: config.into(),
            nodes: peers.chain([(self.me.clone(), mine)]).collect(),
        }
    }

    /// Why this resource could not be restored here now, if not.
    fn not_restorable(&self, h: HierarchyIndex, r: ResourceIndex) -> Option<String> {
        let unusable = self.resource(h, r).unusable.clone();
        let blocking = || self.blocking(h, r).next().map(|finding| finding.summary.clone());
        unusable.or_else(blocking).or_else(|| self.hindered.first().cloned().filter(|_| !self.is_owner(h)))
    }

    /// What a peer has told, as if it were its journal.
    fn peer_snapshot(&self, peer: &super::peers::Peer) -> NodeSnapshot {
        let Some(told) = &peer.state else { return NodeSnapshot::default() };
        let mut state = State { incarnation: told.incarnation, ..State::default() };
        let mut unusable = BTreeMap::new();
        for summary in &told.hierarchies {
            let rows = summary.resources.iter().flatten();
            let resource = |view: &ResourceView| {
                let presence = match view.status {
                    ResourceStatus::Isp | ResourceStatus::Isu => Presence::In,
                    ResourceStatus::Osu => Presence::Out,
                    ResourceStatus::Osf | ResourceStatus::IllState if summary.occupied => Presence::In,
                    ResourceStatus::Osf | ResourceStatus::IllState => Presence::Out,
                };
                crate::state::ResourceState { presence, ..Default::default() }
            };
            let resources: BTreeMap<_, _> = rows.map(|(tag, view)| (tag.clone(), resource(view))).collect();
            if let (Some(why), Some(tag)) = (summary.not_ready.first(), resources.keys().next()) {
                unusable.insert(tag.clone(), why.clone());
            }
            let ownership = summary.ownership.clone();
            let owns = ownership.as_ref().is_some_and(|ownership| {
                let claimant = ownership.claim.as_ref().map(|claim| &claim.id.claimant);
                claimant == Some(&peer.name) && ownership.standing.kind == StandingKind::Held
            });
            let (claim, standing, failovers) =
                ownership.map(|it| (it.claim, it.standing, it.failovers)).unwrap_or_default();
            let hierarchy = crate::state::HierarchyState {
                unknown: summary.ownership.is_none(),
                informed: true,
                claim,
                standing,
                failovers,
                intent: if owns { Intent::Serve(crate::state::Cause::Start) } else { Intent::Rest },
                settled: owns,
                arbitrated: self.state.hierarchies.get(&summary.name).is_some_and(|ours| ours.arbitrated),
                maintenance: summary.maintenance.clone(),
                resources,
                ..Default::default()
            };
            state.hierarchies.insert(summary.name.clone(), hierarchy);
        }
        NodeSnapshot { alive: peer.is_alive(), state, unusable, kits: told.kits.clone() }
    }

    fn node_status(&self, name: &NodeName) -> NodeStatus {
        let Some(peer) = self.peer_index(name) else {
            return NodeStatus {
                name: name.clone(),
                reach: Reach::Itself,
                last_heard: None,
                same_config: None,
                paths: Vec::new(),
                alarms: Vec::new(),
            };
        };
        let known = &self.peers[peer];
        let path = |((path, _), link): (&(crate::names::PathName, _), &super::peers::Link)| PathStatus {
            name: path.clone(),
            state: link.state,
            last_heard: link.last_heard,
        };
        NodeStatus {
            name: name.clone(),
            reach: known.reach(),
            last_heard: known.last_heard(),
            same_config: self.same_config(peer),
            paths: self.paths.iter().zip(&known.links).map(path).collect(),
            // What one that is not heard any more has told may not be so any more.
            alarms: known
                .state
                .as_ref()
                .filter(|_| known.is_alive())
                .map_or_else(Vec::new, |state| state.alarms.clone()),
        }
    }

    fn hierarchy_status(&self, h: HierarchyIndex) -> HierarchyStatus {
        let local = self.local(h);
        let hierarchy = &local.hierarchy;
        let durable = self.durable(h);
        let mut rows: Vec<ResourceRow> = Vec::with_capacity(hierarchy.len());
        let mut row_of = BTreeMap::new();
        for r in hierarchy.children_first().iter().rev() {
            let spec = hierarchy.resource(*r);
            row_of.insert(hierarchy.tag(*r), rows.len());
            rows.push(ResourceRow {
                tag: hierarchy.tag(*r).clone(),
                kit: spec.kit.clone(),
                depends_on: spec.depends_on.clone(),
                on: BTreeMap::from([(self.me.clone(), self.resource(h, *r).view.clone())]),
            });
        }
        for node in hierarchy.spec.nodes.iter().filter(|node| **node != self.me) {
            let summary = self.peer_index(node).and_then(|peer| self.peers[peer].summary(&hierarchy.name));
            for (tag, view) in summary.and_then(|summary| summary.resources.as_ref()).into_iter().flatten() {
                if let Some(row) = row_of.get(tag) {
                    rows[*row].on.insert(node.clone(), self.as_told(node, view));
                }
            }
        }
        HierarchyStatus {
            name: hierarchy.name.clone(),
            owner: durable.owner().cloned(),
            epoch: durable.claim.as_ref().map(|claim| claim.id.epoch),
            ownership: self.ownership_in_words(h),
            nodes: hierarchy.spec.nodes.iter().map(|node| self.on_node(h, node)).collect(),
            resources: rows,
        }
    }

    /// What a node told of a resource counts only as long as it is heard.
    fn as_told(&self, node: &NodeName, view: &ResourceView) -> ResourceView {
        match self.peer_index(node).map(|peer| self.peers[peer].reach()) {
            Some(Reach::Alive | Reach::Itself) => view.clone(),
            Some(reach @ (Reach::Silent | Reach::Hangs | Reach::Left | Reach::Released | Reach::NotMet)) => {
                ResourceView::new(ResourceStatus::IllState, alloc::format!("{node} is {reach}; it last said {view}"))
            }
            None => view.clone(),
        }
    }

    fn on_node(&self, h: HierarchyIndex, node: &NodeName) -> HierarchyOnNode {
        let (activity, not_ready) = if *node == self.me {
            (self.activity(h), Some(self.not_ready(h)))
        } else {
            let peer = self.peer_index(node);
            let activity = peer
                .and_then(|peer| self.peers[peer].summary(self.name(h)))
                .and_then(|summary| summary.activity.clone());
            (
                activity,
                peer.map(|peer| {
                    self.peer_not_ready(peer, h).into_iter().filter(|_| !self.durable(h).is_owned_by(node)).collect()
                }),
            )
        };
        HierarchyOnNode { node: node.clone(), activity, not_ready }
    }
}
