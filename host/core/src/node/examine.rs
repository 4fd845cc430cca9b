//! The health check: whether the nodes are fit for what they are to protect.
//!
//! The node that is asked examines itself and has every other node do the same; what they say is laid side by side. A
//! node examines itself by what it knows already, by what its driver measures, and by asking the kits of what is not in
//! service on it whether it could be brought in service here. What is in service is not asked that: its checks tell, all
//! the time. A kit is asked in its turn, like for everything else; nothing is done about what is found. A node that cannot
//! be asked, and what is not known in time, is a finding like any other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::alarms::Kind;
use super::io::{FaultKind, Outcome, Output, RecordNumber, RequestId, SurveyId, Weight};
use super::timers::{HierarchyIndex, Timer};
use super::{Node, io};
use crate::health::{
    ClockSeen, Finding, HealthReport, NodeFacts, NodeReport, Survey, WITHIN_MAX, WITHIN_MIN, compare, compare_kits,
    left_off, order,
};
use crate::hierarchy::ResourceIndex;
use crate::message::PeerMessage;
use crate::names::{HierarchyName, NodeName};
use crate::plan::Presence;
use crate::status::{PathState, ResourceStatus};
use crate::time::{Millis, Monotonic, Now};

/// Health checks that go on at once, at the most: a person's, and those that a job begins in the same minute on every node
/// of a large cluster. More are refused.
const AT_ONCE_MAX: usize = 32;
/// A peer has this part of the time less to answer in, so that its answer is not late by its way.
const FOR_THE_WAY: u64 = 5;

/// Those that go on.
#[derive(Debug, Default)]
pub(super) struct Examinations {
    going_on: BTreeMap<u64, Examination>,
    /// Those that have come to their end, and are told once everything shown is as it is now.
    over: BTreeSet<u64>,
    count: u64,
}

#[derive(Debug)]
struct Examination {
    asker: Asker,
    /// None: of everything.
    of: Option<HierarchyIndex>,
    began: Now,
    until: Monotonic,
    survey: Option<Survey>,
    /// Whose kits have not answered yet.
    waits: BTreeSet<(HierarchyIndex, ResourceIndex)>,
    /// What the others have said.
    found: Vec<Finding>,
    peers: BTreeMap<usize, Asked>,
}

#[derive(Clone, Copy, Debug)]
enum Asker {
    Operator(RequestId),
    Peer { peer: usize, id: u64, asker: u64 },
}

/// What has become of asking a peer.
#[derive(Debug)]
enum Asked {
    Waits { at: Now },
    Answered { clock: ClockSeen, report: NodeReport },
    Unable(Finding),
}

impl Examination {
    fn knows_itself(&self) -> bool {
        self.survey.is_some() && self.waits.is_empty()
    }

    fn knows_all(&self) -> bool {
        self.knows_itself() && !self.peers.values().any(|asked| matches!(asked, Asked::Waits { .. }))
    }
}

impl Node {
    /// Somebody wants to know.
    pub(super) fn examine(&mut self, id: RequestId, hierarchy: Option<HierarchyName>, within: Millis) {
        let of = match hierarchy.map(|name| self.to_examine(&name)).transpose() {
            Ok(of) => of,
            Err(why) => return self.outputs.push_back(Output::Examined(id, Err(why))),
        };
        let within = within.clamp(WITHIN_MIN, WITHIN_MAX);
        let Some(number) = self.begin_examination(Asker::Operator(id), of, within) else {
            let why = alloc::format!("{AT_ONCE_MAX} health checks go on already: wait until one has ended");
            return self.outputs.push_back(Output::Examined(id, Err(why)));
        };
        let for_peers = Millis(within.0 - within.0 / FOR_THE_WAY);
        let peers: Vec<usize> = self.nodes_examined(of).iter().filter_map(|node| self.peer_index(node)).collect();
        for peer in peers {
            let asked = self.ask_to_examine(peer, number, of, for_peers);
            if let Some(examination) = self.examinations.going_on.get_mut(&number) {
                examination.peers.insert(peer, asked);
            }
        }
        self.examination_goes_on(number);
    }

    /// Which hierarchy that is, if this node can speak of it.
    fn to_examine(&self, name: &HierarchyName) -> Result<HierarchyIndex, String> {
        let Some(h) = self.by_name.get(name).copied() else {
            return Err(alloc::format!("there is no hierarchy `{name}` in the config of {}", self.me));
        };
        if self.local(h).member {
            return Ok(h);
        }
        let nodes = crate::message::list(&self.local(h).hierarchy.spec.nodes);
        Err(alloc::format!("{} is none of the nodes of {name}: ask on one of them: {nodes}", self.me))
    }

    fn nodes_examined(&self, of: Option<HierarchyIndex>) -> Vec<NodeName> {
        of.map_or_else(|| self.node_names.clone(), |h| self.local(h).hierarchy.spec.nodes.clone())
    }

    fn hierarchies_examined(&self, of: Option<HierarchyIndex>) -> Vec<HierarchyIndex> {
        self.members().into_iter().filter(|h| of.is_none_or(|of| of == *h)).collect()
    }

    fn begin_examination(&mut self, asker: Asker, of: Option<HierarchyIndex>, within: Millis) -> Option<u64> {
        if self.examinations.going_on.len() >= AT_ONCE_MAX {
            return None;
        }
        self.examinations.count += 1;
        let number = self.examinations.count;
        let until = self.now.monotonic + within;
        let mut waits = BTreeSet::new();
        let mut found = Vec::new();
        for h in self.hierarchies_examined(of) {
            for r in self.local(h).hierarchy.resources() {
                let resource = self.resource(h, r);
                if self.durable_resource(h, r).presence != Presence::Out || resource.violation.is_some() {
                    continue;
                }
                if resource.able.readiness {
                    waits.insert((h, r));
                } else if resource.unusable.is_none() {
                    let kit = &self.local(h).hierarchy.resource(r).kit;
                    let summary = alloc::format!("kit {kit} cannot say whether it could be brought in service here");
                    let advice = "Try it by a switchover, while somebody watches";
                    found.push(self.finding_of(h, r, Weight::Note, "readiness-not-told", summary, advice));
                }
            }
        }
        let ask: Vec<_> = waits.iter().copied().collect();
        let examination =
            Examination { asker, of, began: self.now, until, survey: None, waits, found, peers: BTreeMap::new() };
        self.examinations.going_on.insert(number, examination);
        self.timers.set(Timer::Examination { id: number }, until);
        let name = of.map(|h| self.name(h).clone());
        self.outputs.push_back(Output::Survey(SurveyId(number), name, within));
        for (h, r) in ask {
            self.ask_readiness(h, r);
        }
        Some(number)
    }

    // What this node says of itself.

    /// Asks a kit whether it could be brought in service here, if somebody waits for that and nothing else goes on.
    pub(super) fn ask_readiness(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        let awaited = self.examinations.going_on.values().any(|it| it.waits.contains(&(h, r)));
        let resource = self.resource(h, r);
        if !awaited || resource.call.is_some() || resource.leftover || resource.step.is_some() || self.stopped {
            return;
        }
        if self.durable_resource(h, r).presence == Presence::Out && resource.violation.is_none() {
            self.assess(h, r);
        } else {
            // It was brought in service meanwhile, or found to run: that is what is said of it.
            self.no_longer_awaited(h, r, None);
        }
    }

    /// A kit has answered, or has not.
    pub(super) fn readiness_told(&mut self, h: HierarchyIndex, r: ResourceIndex, outcome: &Outcome) {
        let findings: Vec<Finding> = match outcome {
            Outcome::Findings(findings) => {
                let found = |it: &io::Finding| {
                    self.finding_of(h, r, it.weight, &it.code, it.summary.as_str(), it.advice.as_str())
                };
                findings.iter().map(found).collect()
            }
            // It is asked again when what took its place has ended.
            Outcome::Fault { kind: FaultKind::Cancelled, .. } => return,
            Outcome::Error { code, message, .. } => {
                alloc::vec![self.readiness_unknown(h, r, &alloc::format!("{message} ({code})"))]
            }
            Outcome::Fault { message, .. } => alloc::vec![self.readiness_unknown(h, r, message)],
            Outcome::Done { .. } | Outcome::Report(_) | Outcome::Recovery { .. } => {
                alloc::vec![self.readiness_unknown(h, r, "the answer was to another question")]
            }
        };
        self.no_longer_awaited(h, r, Some(&findings));
    }

    fn no_longer_awaited(&mut self, h: HierarchyIndex, r: ResourceIndex, findings: Option<&[Finding]>) {
        let mut told = Vec::new();
        for (number, examination) in &mut self.examinations.going_on {
            if examination.waits.remove(&(h, r)) {
                examination.found.extend(findings.into_iter().flatten().cloned());
                told.push(*number);
            }
        }
        told.into_iter().for_each(|number| self.examination_goes_on(number));
    }

    fn readiness_unknown(&self, h: HierarchyIndex, r: ResourceIndex, why: &str) -> Finding {
        let summary = alloc::format!("whether it could be brought in service here is not known: {why}");
        let advice = "See to it that its kit can tell, and ask again";
        self.finding_of(h, r, Weight::Warning, "readiness-unknown", summary, advice)
    }

    pub(super) fn surveyed(&mut self, id: SurveyId, survey: Survey) {
        if let Some(examination) = self.examinations.going_on.get_mut(&id.0) {
            examination.survey = Some(survey);
            self.examination_goes_on(id.0);
        }
    }

    fn finding(&self, weight: Weight, code: &str, summary: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding::new(weight, code, &self.me, summary, advice)
    }

    fn finding_of(
        &self,
        h: HierarchyIndex,
        r: ResourceIndex,
        weight: Weight,
        code: &str,
        summary: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        self.finding(weight, code, summary, advice).of(self.name(h), self.tag(h, r))
    }

    /// What this node says of itself, as far as it knows by now.
    fn own_report(&self, examination: &Examination) -> NodeReport {
        let within = examination.until.since(examination.began.monotonic);
        let mut findings = examination.found.clone();
        for (h, r) in &examination.waits {
            let why = alloc::format!("no answer within {within}; {}", self.resource(*h, *r).view.reason);
            findings.push(self.readiness_unknown(*h, *r, &why));
        }
        let survey = examination.survey.clone().unwrap_or_else(|| {
            let summary = alloc::format!("what can only be measured was not measured within {within}");
            let advice = "Its disk may hang, or the machine be too busy: see its log, or give the health check more time (--timeout)";
            let unmeasured = self.finding(Weight::Blocking, "not-measured", summary, advice);
            Survey { findings: alloc::vec![unmeasured], ..Survey::default() }
        });
        findings.extend(survey.findings);
        self.node_findings(examination.of, &mut findings);
        for h in self.hierarchies_examined(examination.of) {
            self.hierarchy_findings(h, &mut findings);
        }
        let report = NodeReport {
            node: self.me.clone(),
            software: self.software.clone(),
            contract: survey.contract,
            system: survey.system,
            kits: self.kits.clone(),
            clock: examination.began.unix,
            held: self.now.monotonic.since(examination.began.monotonic),
            findings,
            left_off: 0,
        };
        report.bounded(&self.me)
    }

    fn node_findings(&self, of: Option<HierarchyIndex>, findings: &mut Vec<Finding>) {
        for why in &self.hindered {
            // The driver may have measured the same just now.
            if !findings.iter().any(|known| known.summary == *why) {
                let advice = "Nothing is brought in service here until it is mended, which is noticed within seconds";
                findings.push(self.finding(Weight::Blocking, "hindered", why.as_str(), advice));
            }
        }
        if self.state.drained {
            let advice =
                alloc::format!("When it may have hierarchies in service again: mainstay drain {} --end", self.me);
            findings.push(self.finding(Weight::Blocking, "drained", "the node is drained", advice));
        }
        if let Some(why) = self.arbiter_trouble() {
            let advice = "See to it that a majority of its members runs and is reached from here";
            let summary = alloc::format!("the arbiter does not answer: {why}");
            findings.push(self.finding(Weight::Blocking, "arbiter-away", summary, advice));
        }
        for peer in self.nodes_examined(of).iter().filter_map(|node| self.peer_index(node)) {
            self.path_findings(peer, findings);
        }
    }

    /// Whether heartbeats come from a peer, path by path. Of one that is not there at all, whoever asks it tells.
    fn path_findings(&self, peer: usize, findings: &mut Vec<Finding>) {
        let known = &self.peers[peer];
        if !known.is_alive() && !known.session {
            return;
        }
        let dead = |state: PathState| matches!(state, PathState::Red | PathState::NotHeard);
        let all = known.links.iter().all(|link| dead(link.state));
        for ((path, _), link) in self.paths.iter().zip(&known.links) {
            let name = &known.name;
            if dead(link.state) {
                let weight = if all { Weight::Blocking } else { Weight::Warning };
                let summary = alloc::format!("no heartbeats of {name} come on comm path {path}");
                let advice = alloc::format!(
                    "Let UDP through from {name} to address.{path} of {}, and see that this address and port are its own",
                    self.me
                );
                findings.push(self.finding(weight, "no-heartbeats", summary, advice));
            } else if link.state == PathState::Yellow {
                let summary = alloc::format!("heartbeats of {name} were missed on comm path {path} a short while ago");
                let advice = "If it is often so, look after the network";
                findings.push(self.finding(Weight::Note, "heartbeats-missed", summary, advice));
            }
        }
    }

    fn hierarchy_findings(&self, h: HierarchyIndex, findings: &mut Vec<Finding>) {
        let mut alarms = Vec::new();
        self.ownership_alarms(h, &mut alarms);
        for (kind, text) in alarms {
            // That of a node which is not there is what whoever asks it tells.
            if !matches!(kind, Kind::SilentOwner(_)) {
                let (summary, advice) = of_alarm(&text);
                let finding = self.finding(Weight::Blocking, "alarm", summary, advice);
                findings.push(finding.in_hierarchy(self.name(h)));
            }
        }
        if !self.is_owner(h) && self.durable(h).is_occupied() {
            let advice = alloc::format!(
                "mainstay explain TAG says what; take it out of service here by hand, then: mainstay out-of-service {}",
                self.name(h)
            );
            let finding = self.finding(Weight::Blocking, "left-here", "something of it is left here", advice);
            findings.push(finding.in_hierarchy(self.name(h)));
        }
        if self.durable(h).maintenance.on {
            let advice = alloc::format!("When the work is done: mainstay maintenance {} off", self.name(h));
            let summary = "it is in maintenance: nothing is done about what fails";
            let finding = self.finding(Weight::Warning, "in-maintenance", summary, advice);
            findings.push(finding.in_hierarchy(self.name(h)));
        }
        for r in self.local(h).hierarchy.resources() {
            self.resource_findings(h, r, findings);
        }
    }

    /// What is known of a resource without asking its kit. What its kit, params and grants lack is measured anew.
    fn resource_findings(&self, h: HierarchyIndex, r: ResourceIndex, findings: &mut Vec<Finding>) {
        let mut alarms = Vec::new();
        self.resource_alarms(h, r, &mut alarms);
        alarms.retain(|(kind, _)| !matches!(kind, Kind::Unusable | Kind::NotReady));
        for (_, text) in &alarms {
            let (summary, advice) = of_alarm(text);
            findings.push(self.finding_of(h, r, Weight::Blocking, "alarm", summary, advice));
        }
        let view = &self.resource(h, r).view;
        let advice = alloc::format!("mainstay explain {} says more", self.tag(h, r));
        let here = self.durable_resource(h, r).presence != Presence::Out;
        if !alarms.is_empty() {
            return;
        }
        if self.durable_resource(h, r).operation.is_some() {
            // Neither a check nor its kit says now whether it is well here, or could be.
            let advice = "Wait until that is done, and ask again";
            findings.push(self.finding_of(h, r, Weight::Warning, "under-way", view.reason.as_str(), advice));
            return;
        }
        let (weight, code) = match view.status {
            ResourceStatus::Isu if self.is_unprotected_only(h, r) => (Weight::Note, "not-protected"),
            ResourceStatus::Isu => (Weight::Warning, "not-well"),
            ResourceStatus::Isp if view.degraded => (Weight::Warning, "degraded"),
            ResourceStatus::Osf => (Weight::Blocking, "failed"),
            ResourceStatus::IllState if here => (Weight::Warning, "not-known"),
            ResourceStatus::Isp | ResourceStatus::Osu | ResourceStatus::IllState => return,
        };
        let summary = alloc::format!("{}: {}", view.status, view.reason);
        findings.push(self.finding_of(h, r, weight, code, summary, advice));
    }

    /// It serves well, and nothing would be done about it if it did not: as the config and the kit have it.
    fn is_unprotected_only(&self, h: HierarchyIndex, r: ResourceIndex) -> bool {
        let resource = self.resource(h, r);
        let well = matches!(resource.ladder.stage(), crate::ladder::Stage::Good) && resource.ladder.blind().is_none();
        well && self.durable_resource(h, r).presence == Presence::In && resource.report.is_some()
    }

    // What the others say.

    fn ask_to_examine(&mut self, peer: usize, number: u64, of: Option<HierarchyIndex>, within: Millis) -> Asked {
        let known = &self.peers[peer];
        let unable = |code: &str, summary: String, advice: &str| {
            Asked::Unable(Finding::new(Weight::Blocking, code, &known.name, summary, advice))
        };
        let (me, reach) = (&self.me, known.reach());
        if !(known.session && known.answered) {
            return if known.is_alive() {
                let summary =
                    alloc::format!("it cannot be asked: it beats, but no messages go through between it and {me}");
                unable(
                    "not-asked",
                    summary,
                    "Let TCP through to the addresses of the comm paths, both ways; see the logs of both",
                )
            } else {
                let summary = alloc::format!("it cannot be asked: {reach}, as {me} sees it");
                unable(
                    "not-asked",
                    summary,
                    "Start its daemon, and see that the nodes reach each other on the comm paths",
                )
            };
        }
        let (examines, software) =
            known.state.as_ref().map_or((false, ""), |state| (state.examines, state.software.as_str()));
        if !examines {
            let summary = alloc::format!("it cannot be asked: its mainstay, {software}, knows no health check");
            return unable("not-asked", summary, "Upgrade mainstay there");
        }
        let (name, asker) = (known.name.clone(), self.state.incarnation);
        let hierarchy = of.map(|h| self.name(h).clone());
        let message = PeerMessage::Examine { id: number, asker, hierarchy, within };
        // It says nothing that a record would have to back.
        self.outputs.push_back(Output::Send(RecordNumber(0), name, message));
        Asked::Waits { at: self.now }
    }

    /// A peer wants to know what this node says of itself.
    pub(super) fn examine_for_peer(
        &mut self,
        peer: usize,
        id: u64,
        asker: u64,
        hierarchy: Option<&HierarchyName>,
        within: Millis,
    ) {
        let unable = match hierarchy.map(|name| self.to_examine(name)).transpose() {
            Ok(of) => {
                let within = within.clamp(Millis(1), WITHIN_MAX);
                match self.begin_examination(Asker::Peer { peer, id, asker }, of, within) {
                    Some(number) => return self.examination_goes_on(number),
                    None => alloc::format!("{AT_ONCE_MAX} health checks go on there already"),
                }
            }
            Err(why) => why,
        };
        let summary = alloc::format!("it was not examined: {unable}");
        let finding = self.finding(Weight::Blocking, "not-asked", summary, "Mend that, and ask again");
        let report = NodeReport {
            node: self.me.clone(),
            software: self.software.clone(),
            contract: String::new(),
            system: String::new(),
            kits: self.kits.clone(),
            clock: self.now.unix,
            held: Millis(0),
            findings: alloc::vec![finding],
            left_off: 0,
        };
        self.tell_examined(peer, id, asker, report);
    }

    fn tell_examined(&mut self, peer: usize, id: u64, asker: u64, report: NodeReport) {
        let message = PeerMessage::Examined { id, asker, report };
        let to = self.peers[peer].name.clone();
        self.outputs.push_back(Output::Send(RecordNumber(0), to, message));
    }

    pub(super) fn peer_examined(&mut self, peer: usize, id: u64, asker: u64, report: NodeReport) {
        let (heard, name) = (self.now, self.peers[peer].name.clone());
        let examination = self.examinations.going_on.get_mut(&id).filter(|_| asker == self.state.incarnation);
        let Some(asked) = examination.and_then(|it| it.peers.get_mut(&peer)) else { return };
        if let Asked::Waits { at } = *asked {
            let clock = ClockSeen::from(at, heard, &report);
            *asked = Asked::Answered { clock, report: report.bounded(&name) };
            self.examination_goes_on(id);
        }
    }

    // The end.

    /// Something is known that was not: perhaps it is all.
    fn examination_goes_on(&mut self, number: u64) {
        let Some(examination) = self.examinations.going_on.get(&number) else { return };
        let done = match examination.asker {
            Asker::Operator(_) => examination.knows_all(),
            Asker::Peer { .. } => examination.knows_itself(),
        };
        if done {
            self.examination_over(number);
        }
    }

    /// What is known by now is told.
    pub(super) fn examination_over(&mut self, number: u64) {
        self.examinations.over.insert(number);
    }

    /// Tells those that are over.
    pub(super) fn tell_examinations(&mut self) {
        while let Some(number) = self.examinations.over.pop_first() {
            self.tell_examination(number);
        }
    }

    fn tell_examination(&mut self, number: u64) {
        let Some(examination) = self.examinations.going_on.remove(&number) else { return };
        self.timers.clear(Timer::Examination { id: number });
        let own = self.own_report(&examination);
        match examination.asker {
            Asker::Peer { peer, id, asker } => self.tell_examined(peer, id, asker, own),
            Asker::Operator(id) => {
                let report = self.health_report(examination, own);
                self.outputs.push_back(Output::Examined(id, Ok(report)));
            }
        }
    }

    fn health_report(&self, examination: Examination, own: NodeReport) -> HealthReport {
        let (of, began) = (examination.of, examination.began);
        let mut nodes = alloc::vec![NodeFacts::of(&own, None)];
        let mut findings = Vec::new();
        let mut reports = alloc::vec![own];
        let within = examination.until.since(began.monotonic);
        for (peer, asked) in examination.peers {
            let name = &self.peers[peer].name;
            match asked {
                Asked::Answered { clock, report } => {
                    nodes.push(NodeFacts::of(&report, Some(clock)));
                    findings.extend(compare(&reports[0], &report, clock));
                    reports.push(report);
                }
                Asked::Waits { .. } => {
                    let summary = alloc::format!("it has not answered within {within}");
                    let advice = "Its disk may not take what it has to record, or the machine be too busy: see its log, or give the health check more time (--timeout)";
                    findings.push(Finding::new(Weight::Blocking, "not-answered", name, summary, advice));
                    nodes.push(NodeFacts::unanswered(name));
                }
                Asked::Unable(finding) => {
                    findings.push(finding);
                    nodes.push(NodeFacts::unanswered(name));
                }
            }
            findings.extend(self.other_config(peer));
        }
        for h in self.indices().filter(|h| of.is_none_or(|of| of == *h)) {
            let spec = &self.local(h).hierarchy.spec;
            let kits = spec.resources.values().map(|resource| &resource.kit).collect();
            let on = |node: &NodeName| reports.iter().find(|report| report.node == *node);
            let having: Vec<&NodeReport> = spec.nodes.iter().filter_map(on).collect();
            findings.extend(compare_kits(self.name(h), &kits, &having));
        }
        for report in reports {
            findings.extend(left_off(&report.node, report.left_off));
            findings.extend(report.findings);
        }
        findings.sort_by(order);
        nodes.sort_by(|one, other| one.node.cmp(&other.node));
        HealthReport {
            cluster: self.cluster.clone(),
            node: self.me.clone(),
            at: began.unix,
            hierarchy: of.map(|h| self.name(h).clone()),
            nodes,
            findings,
        }
    }

    fn other_config(&self, peer: usize) -> Option<Finding> {
        if self.same_config(peer) != Some(false) {
            return None;
        }
        let what = self.config_differences(peer).map_or(String::new(), |what| alloc::format!(": {what}"));
        let summary = alloc::format!("its config is another than that of {}{what}", self.me);
        let advice = "Put the same file on both nodes and restart their daemons: until then nothing moves between them";
        Some(Finding::new(Weight::Blocking, "config-differs", &self.peers[peer].name, summary, advice))
    }
}

/// An alarm as a finding: its first sentence says what is so, the rest what to do.
fn of_alarm(text: &str) -> (String, String) {
    let (summary, advice) = text.split_once(". ").unwrap_or((text, "mainstay status shows it, too"));
    (summary.to_string(), advice.to_string())
}
