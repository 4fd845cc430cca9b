//! What an operator may ask for, and what becomes of it. A request to the wrong node is passed on to the right one.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};

use super::io::{Output, Reply, Request, RequestId};
use super::timers::{HierarchyIndex, Timer};
use super::{ASK, Node};
use crate::claim::ClaimId;
use crate::hierarchy::ResourceIndex;
use crate::message::{PeerMessage, PeerRequest};
use crate::names::{HierarchyName, NodeName, Tag};
use crate::plan::{Goal, Presence};
use crate::planted::{self, Bug};
use crate::state::{Cause, Intent, Record, StandingKind, Then};
use crate::status::{Event, EventSeverity, What};

/// Accepted, and what happens now; refused, and why; or asked of another node.
enum Answer {
    Accepted(String),
    Refused(String),
    PassOn(NodeName, PeerRequest),
}

use Answer::{Accepted, PassOn, Refused};

impl Node {
    pub(super) fn request(&mut self, id: RequestId, request: Request) {
        let text = request.to_string();
        let hierarchy = match &request {
            Request::InService { target, .. } | Request::OutOfService { target } => {
                self.find(target).ok().map(|(h, _)| h)
            }
            Request::Switchover { hierarchy, .. } | Request::Maintenance { hierarchy, .. } => {
                self.by_name.get(hierarchy).copied()
            }
            Request::Drain { .. } => None,
            Request::Confirm { alarm, .. } => self.alarms.silent_owner(alarm).map(|(h, _)| h),
        };
        let (position, recorded) = (self.outputs.len(), self.recorded);
        let answer = self.decide(request);
        if let PassOn(node, request) = answer {
            return self.ask(id, node, request);
        }
        let (reply, said) = match answer {
            Accepted(text) => (Reply::Accepted(text.clone()), text),
            Refused(why) => (Reply::Refused(why.clone()), alloc::format!("refused: {why}")),
            PassOn(..) => return,
        };
        let hierarchy = hierarchy.map(|h| self.name(h).clone());
        let event = Event {
            at: self.now.unix,
            severity: EventSeverity::Info,
            hierarchy,
            tag: None,
            what: What::Request { request: text, answer: said },
        };
        // Told before what follows from it.
        self.outputs.insert(position, Output::Report(recorded, event));
        // The answer waits for what was decided to be durable.
        self.outputs.push_back(Output::Reply(self.recorded, id, reply));
    }

    fn decide(&mut self, request: Request) -> Answer {
        match request {
            Request::InService { target, force } => match self.find(&target) {
                Ok((h, r)) if force => self.force(h, r),
                Ok((h, r)) => self.in_service(h, r),
                Err(why) => Refused(why),
            },
            Request::OutOfService { target } => match self.find(&target) {
                Ok((h, r)) => self.out_of_service(h, r),
                Err(why) => Refused(why),
            },
            Request::Switchover { hierarchy, to } => match self.find_hierarchy(&hierarchy) {
                Ok(h) => self.switchover(h, to),
                Err(why) => Refused(why),
            },
            Request::Maintenance { hierarchy, on } => match self.find_hierarchy(&hierarchy) {
                Ok(h) => answer(self.maintain(h, on)),
                Err(why) => Refused(why),
            },
            Request::Drain { node, on } if node == self.me => answer(self.drain(on)),
            Request::Drain { node, .. } if !self.node_names.contains(&node) => {
                Refused(alloc::format!("there is no node `{node}`"))
            }
            Request::Drain { node, on } => PassOn(node, PeerRequest::Drain { on }),
            Request::Confirm { alarm, answers } => self.confirm(&alarm, &answers),
        }
    }

    /// Nothing is done in maintenance, not even on a word that may come from somebody who does not know of it.
    fn in_maintenance(&self, h: HierarchyIndex) -> Option<Answer> {
        let name = self.name(h);
        self.durable(h).maintenance.on.then(|| {
            Refused(alloc::format!(
                "{name} is in maintenance, so nothing is done; when that is over: mainstay maintenance {name} off"
            ))
        })
    }

    /// The hierarchy or the resource that an operator means.
    fn find(&self, target: &str) -> Result<(HierarchyIndex, Option<ResourceIndex>), String> {
        let hierarchy = self.by_name.get(target).map(|h| (*h, None));
        let found = hierarchy.or_else(|| self.by_tag.get(target).map(|(h, r)| (*h, Some(*r))));
        let (h, r) = found.ok_or_else(|| alloc::format!("there is no hierarchy and no resource `{target}`"))?;
        self.member(h).map(|()| (h, r))
    }

    fn find_hierarchy(&self, name: &HierarchyName) -> Result<HierarchyIndex, String> {
        let h = self.by_name.get(name).copied().ok_or_else(|| alloc::format!("there is no hierarchy `{name}`"))?;
        self.member(h).map(|()| h)
    }

    fn member(&self, h: HierarchyIndex) -> Result<(), String> {
        if self.local(h).member {
            return Ok(());
        }
        let nodes = crate::message::list(&self.local(h).hierarchy.spec.nodes);
        Err(alloc::format!("{} does not run on this node; ask one of {nodes}", self.name(h)))
    }

    fn in_service(&mut self, h: HierarchyIndex, r: Option<ResourceIndex>) -> Answer {
        if let Some(refused) = self.in_maintenance(h) {
            return refused;
        }
        let name = self.name(h).clone();
        let durable = self.durable(h);
        if durable.unknown {
            return Refused(alloc::format!(
                "who owns {name} is not known, because this node's journal was damaged; if no other node has it in service: --force"
            ));
        }
        let tag = r.map(|r| self.tag(h, r).clone());
        let Some(claim) = &durable.claim else { return self.in_service_first(h, tag) };
        let claimant = claim.id.claimant.clone();
        if claimant != self.me {
            return self.in_service_elsewhere(h, claimant, tag);
        }
        match self.durable(h).standing.kind.clone() {
            StandingKind::Held => self.in_service_here(h, r),
            StandingKind::Released if !self.local(h).proven => self.without_proof(h),
            StandingKind::Released => {
                self.claim(h, Cause::Operator, BTreeSet::new());
                Accepted(alloc::format!("claimed {name} again; bringing it in service here"))
            }
            StandingKind::Offered(to) => {
                let (claim, revision) = (claim_of(self, h), self.durable(h).standing.revision);
                let Some(claim) = claim else { return Refused("nobody has claimed it".into()) };
                PassOn(to, PeerRequest::TakeBack { hierarchy: name, claim, revision })
            }
        }
    }

    /// O3: a newer claim may be known to who has not answered yet.
    fn without_proof(&self, h: HierarchyIndex) -> Answer {
        Refused(alloc::format!(
            "this node has no proof yet that {name} is still its own (O3): {}. If you know that no other node has it in service: mainstay in-service {name} --force",
            self.unproven_because(h).join("; "),
            name = self.name(h)
        ))
    }

    /// Nobody has ever claimed it. Only the first of its nodes makes the first claim, so that two never do.
    fn in_service_first(&mut self, h: HierarchyIndex, tag: Option<Tag>) -> Answer {
        let name = self.name(h).clone();
        let first = self.local(h).hierarchy.spec.nodes.first().filter(|node| **node != self.me).cloned();
        if let Some(first) = first {
            return PassOn(first, PeerRequest::InService { hierarchy: name, tag });
        }
        let reasons = self.unproven_because(h);
        if !reasons.is_empty() {
            return Refused(alloc::format!(
                "nobody has claimed {name} yet, and this node may not until all have answered (O3): {}; if they are off: --force",
                reasons.join("; ")
            ));
        }
        if let Some(why) = self.unusable_here(h).first() {
            return Refused(alloc::format!("this node is not ready: {why}"));
        }
        self.claim(h, Cause::Operator, BTreeSet::new());
        Accepted(alloc::format!("claimed {name}; bringing it in service here"))
    }

    fn in_service_elsewhere(&mut self, h: HierarchyIndex, claimant: NodeName, tag: Option<Tag>) -> Answer {
        let hierarchy = self.name(h).clone();
        match self.durable(h).standing.kind.clone() {
            StandingKind::Held => PassOn(claimant, PeerRequest::InService { hierarchy, tag }),
            StandingKind::Released => PassOn(claimant, PeerRequest::Switchover { hierarchy, to: self.me.clone() }),
            StandingKind::Offered(to) if to == self.me => Refused(alloc::format!(
                "{hierarchy} was offered to this node, which has declined it: {}",
                self.unusable_here(h).first().map_or("it was not ready", String::as_str)
            )),
            StandingKind::Offered(to) => {
                Refused(alloc::format!("{hierarchy} is on its way to {to}: only {to} may bring it in service (O18)"))
            }
        }
    }

    /// The owner wants it, or a part of it, in service.
    fn in_service_here(&mut self, h: HierarchyIndex, r: Option<ResourceIndex>) -> Answer {
        let name = self.name(h).clone();
        if let Some(why) = self.is_leaving(h) {
            return Refused(why);
        }
        let wanted: BTreeSet<Tag> = match r {
            Some(r) => {
                self.local(h).hierarchy.with_descendants(r).into_iter().map(|r| self.tag(h, r).clone()).collect()
            }
            None => self.durable(h).unwanted.clone(),
        };
        if !wanted.is_empty() {
            self.record(Record::Wanted { hierarchy: name.clone(), tags: wanted, wanted: true });
        }
        self.intend(h, Intent::Serve(Cause::Operator), Some(BTreeSet::new()));
        // Whoever asks has looked: the ladder starts anew, and what is in service is looked at.
        for r in self.local(h).hierarchy.resources() {
            if self.durable_resource(h, r).presence == Presence::In && self.resource(h, r).ladder.is_suspect() {
                self.record(Record::Renewed { hierarchy: name.clone(), tag: self.tag(h, r).clone() });
                self.resource_mut(h, r).ladder.anew();
                self.schedule_check(h, r, self.now.monotonic);
                self.mark(h, r);
            }
        }
        if self.local(h).proven {
            return Accepted(alloc::format!("bringing {} in service", self.target(h, r)));
        }
        self.prove_or_wait(h)
    }

    /// Why nothing else can be done now: it is being taken out of service. Once it is out, and what was to follow waits
    /// for another node, the operator may change their mind.
    fn is_leaving(&self, h: HierarchyIndex) -> Option<String> {
        let Intent::Leave(cause, _) = &self.durable(h).intent else { return None };
        let out = self.local(h).running.is_none() && self.local(h).attempted && !self.is_occupied(h);
        (!out).then(|| {
            alloc::format!("{} is just being taken out of service ({cause}); wait until that is done", self.name(h))
        })
    }

    fn prove_or_wait(&self, h: HierarchyIndex) -> Answer {
        let reasons = self.unproven_because(h);
        if reasons.is_empty() {
            return Accepted(alloc::format!("bringing {} in service", self.name(h)));
        }
        Accepted(alloc::format!(
            "{} is brought in service as soon as there is proof of ownership (O3): {}",
            self.name(h),
            reasons.join("; ")
        ))
    }

    fn target(&self, h: HierarchyIndex, r: Option<ResourceIndex>) -> String {
        r.map_or_else(|| self.name(h).to_string(), |r| alloc::format!("{} (of {})", self.tag(h, r), self.name(h)))
    }

    /// The operator states that no other node has it in service.
    fn force(&mut self, h: HierarchyIndex, r: Option<ResourceIndex>) -> Answer {
        if let Some(r) = r {
            return Refused(alloc::format!(
                "a hierarchy has one owner as a whole: mainstay in-service {} --force, not {}",
                self.name(h),
                self.tag(h, r)
            ));
        }
        if self.is_owner(h) && self.local(h).proven && !self.is_below_labels(h) {
            return self.in_service_here(h, None);
        }
        self.claim_by_word(h, Cause::Operator);
        Accepted(alloc::format!("claimed {} on the operator's word; bringing it in service here", self.name(h)))
    }

    fn out_of_service(&mut self, h: HierarchyIndex, r: Option<ResourceIndex>) -> Answer {
        if let Some(refused) = self.in_maintenance(h) {
            return refused;
        }
        let name = self.name(h).clone();
        if !self.is_owner(h) {
            return self.out_of_service_elsewhere(h, r);
        }
        match (r, self.durable(h).intent.clone()) {
            (_, Intent::Leave(cause, _)) if self.is_leaving(h).is_some() => {
                Refused(alloc::format!("{name} is already being taken out of service ({cause})"))
            }
            (Some(_), Intent::Leave(..)) => Refused(alloc::format!("nothing of {name} is in service here")),
            (None, Intent::Serve(_) | Intent::Halt(_) | Intent::Rest | Intent::Leave(..)) => {
                self.intend(h, Intent::Leave(Cause::Operator, Then::Release), Some(BTreeSet::new()));
                self.run_plan(h, Goal::OutOfService, Cause::Operator);
                Accepted(alloc::format!("taking {name} out of service"))
            }
            (Some(r), Intent::Serve(_)) => {
                let tags: BTreeSet<Tag> =
                    self.local(h).hierarchy.with_ancestors(r).into_iter().map(|r| self.tag(h, r).clone()).collect();
                self.record(Record::Wanted { hierarchy: name, tags, wanted: false });
                self.run_plan(h, Goal::Without(alloc::vec![r]), Cause::Operator);
                Accepted(alloc::format!(
                    "taking {} out of service, with all that depends on it",
                    self.target(h, Some(r))
                ))
            }
            (Some(_), Intent::Halt(_) | Intent::Rest) => Refused(alloc::format!(
                "{name} is not in service here as a whole: say what is to be done with all of it"
            )),
        }
    }

    fn out_of_service_elsewhere(&mut self, h: HierarchyIndex, r: Option<ResourceIndex>) -> Answer {
        let hierarchy = self.name(h).clone();
        let durable = self.durable(h);
        match durable.owner() {
            // Something stale could not be removed here: once more.
            Some(_) if durable.is_occupied() => {
                self.intend(h, Intent::Leave(Cause::StaleOwner, Then::Nothing), None);
                Accepted(alloc::format!("taking what is left of {hierarchy} out of service here"))
            }
            Some(owner) => {
                let owner = owner.clone();
                let tag = r.map(|r| self.tag(h, r).clone());
                PassOn(owner, PeerRequest::OutOfService { hierarchy, tag })
            }
            None => Refused(alloc::format!("{hierarchy} is out of service: {}", self.ownership_in_words(h))),
        }
    }

    fn switchover(&mut self, h: HierarchyIndex, to: NodeName) -> Answer {
        if let Some(refused) = self.in_maintenance(h) {
            return refused;
        }
        let name = self.name(h).clone();
        if !self.local(h).hierarchy.may_run_on(&to) {
            let nodes = crate::message::list(&self.local(h).hierarchy.spec.nodes);
            return Refused(alloc::format!("{name} does not run on {to}; its nodes are {nodes}"));
        }
        let durable = self.durable(h);
        if durable.unknown {
            return Refused(alloc::format!("who owns {name} is not known, because this node's journal was damaged"));
        }
        let Some(claim) = &durable.claim else {
            return Refused(alloc::format!("nobody has claimed {name} yet; on {to}: mainstay in-service {name}"));
        };
        let claimant = claim.id.claimant.clone();
        if claimant != self.me {
            return PassOn(claimant, PeerRequest::Switchover { hierarchy: name, to });
        }
        self.switch_over_from_here(h, to)
    }

    fn switch_over_from_here(&mut self, h: HierarchyIndex, to: NodeName) -> Answer {
        let name = self.name(h).clone();
        let standing = self.durable(h).standing.kind.clone();
        if to == self.me {
            return match standing {
                StandingKind::Held => Refused(alloc::format!("{to} owns {name} already")),
                StandingKind::Released | StandingKind::Offered(_) => self.in_service(h, None),
            };
        }
        if let StandingKind::Offered(other) = standing {
            return Refused(alloc::format!("{name} is on its way to {other}"));
        }
        if let Some(why) = self.is_leaving(h) {
            return Refused(why);
        }
        if !self.local(h).proven {
            return self.without_proof(h);
        }
        if standing == StandingKind::Released && self.is_occupied(h) {
            return Refused(alloc::format!(
                "something of {name} is or may be in service here, although it was released: take it out by hand first"
            ));
        }
        if let Some(why) =
            self.peer_index(&to).map_or(Some("it is not in the config".into()), |peer| self.peer_not_ready(peer, h))
        {
            return Refused(alloc::format!("{to} cannot take {name}: {why}"));
        }
        if standing == StandingKind::Released {
            self.has_left(h, Cause::Switchover, Then::Offer(to.clone()));
            return Accepted(alloc::format!("{name} is out of service and offered to {to}"));
        }
        self.intend(h, Intent::Leave(Cause::Switchover, Then::Offer(to.clone())), Some(BTreeSet::new()));
        self.run_plan(h, Goal::OutOfService, Cause::Switchover);
        Accepted(alloc::format!("switching {name} over from {} to {to}", self.me))
    }

    /// O10: the operator states that the owner is off. It is void once the owner was heard again or another claim seen.
    fn confirm(&mut self, alarm: &str, answers: &ClaimId) -> Answer {
        let answered = if planted::is(Bug::LateConfirmation) {
            let had = |h: &HierarchyIndex| claim_of(self, *h).is_some_and(|known| known.epoch >= answers.epoch);
            self.members().into_iter().find(had).map(|h| (h, answers.clone()))
        } else {
            self.alarms.silent_owner(alarm)
        };
        let Some((h, claim)) = answered else {
            return Refused(alloc::format!(
                "there is no alarm {alarm} that asks for a confirmation: its owner was heard again, another node has claimed, or it never was"
            ));
        };
        if claim != *answers {
            return Refused(alloc::format!("alarm {alarm} is about {claim}, not about {answers}"));
        }
        if claim_of(self, h).as_ref() != Some(&claim) && !planted::is(Bug::LateConfirmation) {
            return Refused(alloc::format!("another claim was seen since: {}", self.ownership_in_words(h)));
        }
        if let Some(refused) = self.in_maintenance(h) {
            return refused;
        }
        if let Some(why) = self.unusable_here(h).first() {
            return Refused(alloc::format!("this node cannot take it over: {why}"));
        }
        self.claim_by_word(h, Cause::Failover);
        Accepted(alloc::format!(
            "the operator states that {} is off; bringing {} in service here",
            claim.claimant,
            self.name(h)
        ))
    }

    // Requests that other nodes pass on.

    fn ask(&mut self, id: RequestId, node: NodeName, request: PeerRequest) {
        let refuse = |why: String| Output::Reply(self.recorded, id, Reply::Refused(why));
        let talking =
            self.peer_index(&node).is_some_and(|peer| self.peers[peer].is_alive() && self.peers[peer].session);
        if !talking {
            let why = match self.peer_index(&node).map(|peer| &self.peers[peer]) {
                None => "is not in the config. If it is off: mainstay in-service --force".to_string(),
                Some(peer) if peer.is_alive() => "beats, but no messages go through: is TCP let through?".to_string(),
                Some(peer) => {
                    alloc::format!("is {}. If it is off: mainstay confirm, or in-service --force", peer.reach())
                }
            };
            let output = refuse(alloc::format!("only {node} can do that, and it {why}"));
            self.outputs.push_back(output);
            return;
        }
        self.next_ask += 1;
        self.asks.insert(self.next_ask, (id, node.clone()));
        self.timers.set(Timer::Ask { id: self.next_ask }, self.now.monotonic + ASK);
        let ask = PeerMessage::Ask { id: self.next_ask, asker: self.state.incarnation, request };
        self.outputs.push_back(Output::Send(self.recorded, node, ask));
    }

    /// An answer. One that another daemon of this node was meant to get, or that another node gives, is none.
    pub(super) fn answered(&mut self, peer: usize, ask: u64, asker: u64, result: Result<String, String>) {
        if asker == self.state.incarnation && self.promise_answered(peer, ask, &result) {
            return;
        }
        let asked = self.asks.get(&ask).filter(|(_, node)| *node == self.peers[peer].name);
        let Some((id, _)) = asked.filter(|_| asker == self.state.incarnation).cloned() else { return };
        self.asks.remove(&ask);
        self.timers.clear(Timer::Ask { id: ask });
        let reply = match result {
            Ok(text) => Reply::Accepted(text),
            Err(why) => Reply::Refused(why),
        };
        self.outputs.push_back(Output::Reply(self.recorded, id, reply));
    }

    pub(super) fn ask_unanswered(&mut self, ask: u64) {
        if let Some((id, _)) = self.asks.remove(&ask) {
            let why = alloc::format!(
                "the other node has not answered within {ASK}; whether it does it shows `mainstay status`"
            );
            self.outputs.push_back(Output::Reply(self.recorded, id, Reply::Refused(why)));
        }
    }

    pub(super) fn peer_request(&mut self, peer: usize, request: PeerRequest) -> Result<String, String> {
        let from = self.peers[peer].name.clone();
        let (hierarchy, words) = match &request {
            PeerRequest::InService { hierarchy, .. } => (Some(hierarchy.clone()), "in-service"),
            PeerRequest::OutOfService { hierarchy, .. } => (Some(hierarchy.clone()), "out-of-service"),
            PeerRequest::Switchover { hierarchy, .. } => (Some(hierarchy.clone()), "switchover"),
            PeerRequest::TakeBack { hierarchy, .. } => (Some(hierarchy.clone()), "take back"),
            PeerRequest::Promise { hierarchy, .. } => (Some(hierarchy.clone()), "promise"),
            PeerRequest::Drain { on: true } => (None, "drain"),
            PeerRequest::Drain { on: false } => (None, "drain --end"),
        };
        let answer = self.decide_for_peer(request);
        let result = match answer {
            Accepted(text) => Ok(text),
            Refused(why) => Err(why),
            PassOn(node, _) => Err(alloc::format!("not {} but {node} can do that by now: ask again", self.me)),
        };
        let answer = match &result {
            Ok(text) => text.clone(),
            Err(why) => alloc::format!("refused: {why}"),
        };
        self.event(
            EventSeverity::Info,
            hierarchy,
            None,
            What::Request { request: alloc::format!("{words}, asked on {from}"), answer },
        );
        result
    }

    fn decide_for_peer(&mut self, request: PeerRequest) -> Answer {
        let name = match &request {
            PeerRequest::InService { hierarchy, .. }
            | PeerRequest::OutOfService { hierarchy, .. }
            | PeerRequest::Switchover { hierarchy, .. }
            | PeerRequest::TakeBack { hierarchy, .. }
            | PeerRequest::Promise { hierarchy, .. } => hierarchy.clone(),
            PeerRequest::Drain { on } => return answer(self.drain(*on)),
        };
        let h = match self.find_hierarchy(&name) {
            Ok(h) => h,
            Err(why) => return Refused(why),
        };
        let resource = |tag: Option<Tag>| match tag {
            None => Ok(None),
            Some(tag) => self.local(h).hierarchy.find(&tag).map(Some).ok_or_else(|| {
                Refused(alloc::format!("{name} has no resource `{tag}` on {}: its config is another", self.me))
            }),
        };
        match request {
            PeerRequest::InService { tag, .. } => match resource(tag) {
                Ok(r) => self.in_service(h, r),
                Err(refused) => refused,
            },
            PeerRequest::OutOfService { tag, .. } => match resource(tag) {
                Ok(r) => self.out_of_service(h, r),
                Err(refused) => refused,
            },
            PeerRequest::Switchover { to, .. } => self.switchover(h, to),
            // Asked by a daemon, not by an operator: see `promise`.
            PeerRequest::Promise { .. } | PeerRequest::Drain { .. } => {
                Refused("it is no request of an operator".into())
            }
            PeerRequest::TakeBack { claim, revision, .. } => {
                let durable = self.durable(h);
                if durable.unknown {
                    return Refused(alloc::format!(
                        "whether {} has taken {name} is not known: its journal was damaged",
                        self.me
                    ));
                }
                let newest = durable.claim.as_ref().map(|claim| &claim.id);
                if newest > Some(&claim) || (newest == Some(&claim) && durable.standing.revision > revision) {
                    return Refused(alloc::format!("too late: {}", self.ownership_in_words(h)));
                }
                self.decline(h, claim, revision, "the giver wants it back".into());
                Accepted(alloc::format!("{} is given back", name))
            }
        }
    }
}

fn answer(result: Result<String, String>) -> Answer {
    match result {
        Ok(text) => Accepted(text),
        Err(why) => Refused(why),
    }
}

fn claim_of(node: &Node, h: HierarchyIndex) -> Option<ClaimId> {
    node.durable(h).claim.as_ref().map(|claim| claim.id.clone())
}
