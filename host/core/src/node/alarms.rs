//! Alarms: what a person has to know, for as long as it is so.
//!
//! They follow from what is known and are worked out anew whenever something has changed; none is ever set by hand,
//! so none can be forgotten.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::peers::Peer;
use super::timers::HierarchyIndex;
use super::{Node, WITHOUT_SESSION_LONG};
use crate::claim::ClaimId;
use crate::hierarchy::ResourceIndex;
use crate::ladder::Stage;
use crate::spec::FailoverMode;
use crate::state::{Cause, Intent, StandingKind, Then};
use crate::status::{Alarm, EventSeverity, Reach, What};
use crate::time::UnixMs;

/// Whose trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Peer(usize),
    Arbiter,
    Node,
    Hierarchy(HierarchyIndex),
    Resource(HierarchyIndex, ResourceIndex),
}

/// What the trouble is. The same trouble has the same kind; two at once have two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    ConfigDiffers,
    KitsDiffer,
    ArbiterAway,
    ArbiterWentBack,
    OnlyAnswers,
    OnlyBeats,
    SilentOwner(ClaimId),
    NoProof,
    OwnershipUnknown,
    NobodyClaims,
    Halted,
    OfferPending,
    NobodyTook,
    Conflict,
    StaleHere,
    Failed,
    NotRemoved,
    Blind,
    Violation,
    Unusable,
    NotReady,
    Hindered,
}

pub(super) type Found = Vec<(Kind, String)>;

/// The alarms there are.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    raised: BTreeMap<Scope, BTreeMap<Kind, Alarm>>,
    count: u64,
}

impl Alarms {
    /// The silent owner that the alarm of this name is about.
    pub(super) fn silent_owner(&self, id: &str) -> Option<(HierarchyIndex, ClaimId)> {
        self.raised.iter().find_map(|(scope, kinds)| {
            let (kind, _) = kinds.iter().find(|(_, alarm)| alarm.id == id)?;
            if let (Scope::Hierarchy(h), Kind::SilentOwner(claim)) = (scope, kind) {
                Some((*h, claim.clone()))
            } else {
                None
            }
        })
    }
}

impl Node {
    /// The alarms there are, oldest first, each as it stands now.
    pub(super) fn alarms(&self) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        for (scope, kinds) in &self.alarms.raised {
            let mut found = self.alarms_in(*scope);
            for (kind, alarm) in kinds {
                let mut alarm = alarm.clone();
                if let Some(at) = found.iter().position(|(found, _)| found == kind) {
                    alarm.text = found.swap_remove(at).1;
                }
                alarms.push(alarm);
            }
        }
        alarms.sort_by(|a, b| (a.since, a.id.len(), &a.id).cmp(&(b.since, b.id.len(), &b.id)));
        alarms
    }

    /// Works out which alarms there are in a scope in which something has changed, and tells of those that are new
    /// or over.
    pub(super) fn refresh_alarms(&mut self, scope: Scope) {
        let found = self.alarms_in(scope);
        let raised = self.alarms.raised.remove(&scope).unwrap_or_default();
        if found.is_empty() && raised.is_empty() {
            return;
        }
        let hierarchy = match scope {
            Scope::Peer(_) | Scope::Arbiter | Scope::Node => None,
            Scope::Hierarchy(h) | Scope::Resource(h, _) => Some(self.name(h).clone()),
        };
        let mut kept = BTreeMap::new();
        for (kind, mut alarm) in raised {
            match found.iter().find(|(found, _)| *found == kind) {
                Some((_, text)) => {
                    alarm.text.clone_from(text);
                    kept.insert(kind, alarm);
                }
                None => {
                    self.tell.resources();
                    let what = What::AlarmCleared { id: alarm.id, text: alarm.text };
                    self.event(EventSeverity::Info, hierarchy.clone(), None, what);
                }
            }
        }
        for (kind, text) in found {
            if kept.contains_key(&kind) {
                continue;
            }
            self.tell.resources();
            self.alarms.count += 1;
            let id = self.alarm_id();
            self.event(
                EventSeverity::Alarm,
                hierarchy.clone(),
                None,
                What::AlarmRaised { id: id.clone(), text: text.clone() },
            );
            let confirms = if let Kind::SilentOwner(claim) = &kind { Some(claim.clone()) } else { None };
            kept.insert(kind, Alarm { id, hierarchy: hierarchy.clone(), text, since: self.now.unix, confirms });
        }
        if !kept.is_empty() {
            self.alarms.raised.insert(scope, kept);
        }
    }

    /// Short enough to type, and never used again: what names the daemon, and a count.
    fn alarm_id(&self) -> String {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        let mut rest = self.state.incarnation;
        let mut digits = Vec::new();
        while rest > 0 {
            digits.push(char::from(DIGITS[(rest % 36) as usize]));
            rest /= 36;
        }
        let start: String = digits.iter().rev().collect();
        alloc::format!("{start}-{}", self.alarms.count)
    }

    fn alarms_in(&self, scope: Scope) -> Found {
        let mut found = Found::new();
        match scope {
            Scope::Peer(peer) => {
                if self.same_config(peer) == Some(false) {
                    let what = self.config_differences(peer).map_or(String::new(), |what| alloc::format!(" ({what})"));
                    let text = alloc::format!(
                        "the config of {} is another than this node's{what}: nothing is moved there until they are the same. Put the same file on both nodes and restart their daemons",
                        self.peers[peer].name
                    );
                    found.push((Kind::ConfigDiffers, text));
                }
                let known = &self.peers[peer];
                if known.reach().is_silence() && self.answers(known) {
                    let text = alloc::format!(
                        "no heartbeats come from {}, although it answers: is UDP let through to the addresses of the comm paths? Until they come, nothing is moved there, \
                         and its death would be noticed late",
                        known.name
                    );
                    found.push((Kind::OnlyAnswers, text));
                }
                let without = known.since_change(self.now.monotonic);
                if known.reach() == Reach::Alive && !known.session && without >= WITHOUT_SESSION_LONG {
                    let text = alloc::format!(
                        "heartbeats come from {}, but no messages for {} s: is TCP let through to the addresses of the comm paths? \
                         Until they come, nothing is known of its resources and nothing is moved there",
                        known.name,
                        without.0 / 1000
                    );
                    found.push((Kind::OnlyBeats, text));
                }
            }
            Scope::Arbiter => {
                if let Some(why) = self.arbiter_trouble() {
                    let text = alloc::format!(
                        "the arbiter does not answer: {why}. What is in service here stays so only as long as all other nodes of its hierarchy are heard (O12); nothing is taken over. See to it that a majority of its members runs and is reached"
                    );
                    found.push((Kind::ArbiterAway, text));
                }
            }
            Scope::Node => {
                if !self.hindered.is_empty() {
                    let text = alloc::format!(
                        "nothing is brought in service on this node by itself: {}",
                        self.hindered.join("; ")
                    );
                    found.push((Kind::Hindered, text));
                }
            }
            Scope::Hierarchy(h) => {
                self.ownership_alarms(h, &mut found);
                self.kit_alarms(h, &mut found);
            }
            Scope::Resource(h, r) => self.resource_alarms(h, r, &mut found),
        }
        found
    }

    pub(super) fn ownership_alarms(&self, h: HierarchyIndex, found: &mut Found) {
        let name = self.name(h);
        let durable = self.durable(h);
        if durable.unknown {
            let text = alloc::format!(
                "the journal of this node was damaged, so it does not know who owns {name}: nothing is brought in service here until another node answers (O4). \
                 If you know that no other node has it in service: mainstay in-service {name} --force"
            );
            found.push((Kind::OwnershipUnknown, text));
            return;
        }
        if let Some((known, heard)) = &durable.conflict {
            let (loser, winner) = (known.min(heard), known.max(heard));
            let text = alloc::format!(
                "two nodes have taken over {name} from the same owner: {known}, and {heard}. {} removes it. What {} wrote meanwhile is not on {} (O1)",
                loser.claimant,
                loser.claimant,
                winner.claimant
            );
            found.push((Kind::Conflict, text));
        }
        match (&durable.claim, &durable.standing.kind) {
            (None, _) => {
                let reasons = self.unproven_because(h);
                if self.has_lasting_doubt(h) {
                    let text = alloc::format!(
                        "nobody has claimed {name} yet, and nobody may until all have answered (O3): {}. If you know that it is in service nowhere: mainstay in-service {name} --force",
                        reasons.join("; ")
                    );
                    found.push((Kind::NobodyClaims, text));
                }
            }
            (Some(claim), StandingKind::Held) if claim.id.claimant != self.me => {
                self.silent_owner_alarm(h, &claim.id, found)
            }
            (Some(_), StandingKind::Held) => {
                if let Intent::Halt(reason) = &durable.intent {
                    let text = alloc::format!(
                        "{name}: {reason}. Look at it, then say what is to be done: mainstay in-service {name}, out-of-service {name}, or switchover {name} NODE"
                    );
                    found.push((Kind::Halted, text));
                }
                if matches!(durable.intent, Intent::Serve(_)) && !self.local(h).proven && self.has_lasting_doubt(h) {
                    let text = alloc::format!(
                        "this node owns {name}, and may not bring it in service until all have answered (O3): {}. If you know that no other node has it in service: mainstay in-service {name} --force",
                        self.unproven_because(h).join("; ")
                    );
                    found.push((Kind::NoProof, text));
                }
            }
            (Some(claim), StandingKind::Offered(to)) if claim.id.claimant == self.me => {
                let reach = self.peer_index(to).map_or(Reach::NotMet, |peer| self.peers[peer].reach());
                if reach != Reach::Alive {
                    let text = alloc::format!(
                        "{name} was released and offered to {to}, which is {reach}: only {to} may bring it in service (O18). If {to} is off: mainstay in-service {name} --force"
                    );
                    found.push((Kind::OfferPending, text));
                }
            }
            (Some(claim), StandingKind::Released)
                if claim.id.claimant == self.me && !durable.standing.tried.is_empty() =>
            {
                let text = alloc::format!(
                    "{name} could be brought in service on no node (tried: {}). Find out why, then: mainstay in-service {name}",
                    crate::message::list(&durable.standing.tried)
                );
                found.push((Kind::NobodyTook, text));
            }
            (Some(_), StandingKind::Released | StandingKind::Offered(_)) => {}
        }
        let stale = matches!(&durable.intent, Intent::Leave(Cause::StaleOwner, Then::Nothing))
            && self.local(h).attempted
            && self.local(h).running.is_none();
        if stale && durable.is_occupied() {
            let owner = durable.owner().map_or("another node".to_string(), ToString::to_string);
            let text = alloc::format!(
                "{name} is owned by {owner}, and could not be taken out of service here: both may have it in service. Take it out by hand, then: mainstay out-of-service {name}"
            );
            found.push((Kind::StaleHere, text));
        }
    }

    fn kit_alarms(&self, h: HierarchyIndex, found: &mut Found) {
        let others = self.local(h).hierarchy.spec.nodes.iter().filter_map(|node| self.peer_index(node));
        let differ: Vec<String> = others.filter_map(|peer| self.kits_differ(peer, h)).collect();
        if !differ.is_empty() {
            let text = alloc::format!(
                "{}: the nodes have different kits: {}. It does not fail over between them by itself until they have the same; by hand it can be moved",
                self.name(h),
                differ.join("; ")
            );
            found.push((Kind::KitsDiffer, text));
        }
        if self.has_gone_back(h) && !self.by_word(h) {
            let name = self.name(h);
            let text = alloc::format!(
                "the arbiter knows an older claim on {name} than this node, or none ({}): it was wiped, or restored from a backup. No node is given a permit (O12). If you know where {name} is in service, there; else where it is to be: mainstay in-service {name} --force",
                self.ownership_in_words(h)
            );
            found.push((Kind::ArbiterWentBack, text));
        }
    }

    /// O10: the owner is silent; what to do is for the operator to say, who has to know what is not known.
    fn silent_owner_alarm(&self, h: HierarchyIndex, claim: &ClaimId, found: &mut Found) {
        let owner = &claim.claimant;
        let peer = self.peer_index(owner).filter(|_| self.local(h).hierarchy.may_run_on(owner));
        let Some(peer) = peer.map(|peer| &self.peers[peer]) else {
            let name = self.name(h);
            let text = alloc::format!(
                "{owner}, the owner of {name} (epoch {}), is not among its nodes in the config any more. Whether it still has {name} in service is not known. \
                 Only if you know that it has not: mainstay confirm {name}. By that you state it, and {name} is brought in service here (O10)",
                claim.epoch
            );
            found.push((Kind::SilentOwner(claim.clone()), text));
            return;
        };
        // A node that answers is not silent, even if its heartbeats do not come through.
        if !peer.reach().is_silence() || self.answers(peer) {
            return;
        }
        let name = self.name(h);
        let at = self.peer_index(owner).unwrap_or(usize::MAX);
        let not_by_itself = self.why_not_taken_over(h, at);
        if self.local(h).hierarchy.spec.failover == FailoverMode::Arbiter && !self.waits_for_operator(h) {
            return;
        }
        let by_itself =
            not_by_itself.map_or(String::new(), |why| alloc::format!(" It is not taken over by itself: {why}."));
        let heard = match peer.last_heard() {
            Some(at) => alloc::format!("last heard {} ago", ago(self.now.unix, at)),
            None => "not heard since this daemon started".to_string(),
        };
        let text = alloc::format!(
            "{owner}, the owner of {name} (epoch {}), is silent on every comm path{}, {heard}.{by_itself} Whether it is off, or only cut off and still has {name} in service, is not known. \
             Only if you know that {owner} is off: mainstay confirm {name}. By that you state it, and {name} is brought in service here (O10)",
            claim.epoch,
            if peer.reach() == Reach::Hangs { ", although its machine answers" } else { "" }
        );
        found.push((Kind::SilentOwner(claim.clone()), text));
    }

    pub(super) fn answers(&self, peer: &Peer) -> bool {
        let interval = self.paths.iter().map(|(_, path)| path.heartbeat_interval).max().unwrap_or_default();
        peer.answers(interval, self.now.monotonic)
    }

    pub(super) fn resource_alarms(&self, h: HierarchyIndex, r: ResourceIndex, found: &mut Found) {
        let (tag, resource) = (self.tag(h, r), self.resource(h, r));
        let durable = self.durable_resource(h, r);
        let owner = self.is_owner(h);
        if let Some(problem) = &resource.unusable {
            found.push((Kind::Unusable, alloc::format!("{tag} cannot be brought in service on this node: {problem}")));
        }
        if let Some(finding) = self.blocking(h, r).next() {
            let text = alloc::format!(
                "{tag} could not be brought in service on this node: {}. {}",
                finding.summary.trim_end_matches('.'),
                finding.advice
            );
            found.push((Kind::NotReady, text.trim_end().to_string()));
        }
        if let Some(running) = &resource.violation {
            let text = match self.durable(h).owner() {
                Some(owner) => alloc::format!(
                    "{tag} is running here, and {owner} owns it (O21): {running}. Take it out of service here by hand; until then this node cannot take it over"
                ),
                None => alloc::format!(
                    "{tag} is running here, and nobody owns it (O21): {running}. Take it out of service by hand; or, if it is in service here and nowhere else: mainstay in-service {} --force",
                    self.name(h)
                ),
            };
            found.push((Kind::Violation, text));
        }
        if owner && matches!(self.durable(h).intent, Intent::Serve(_)) && self.is_hopeless(h, r) {
            let why = match resource.ladder.stage() {
                Stage::Exhausted(why) => why.as_str(),
                Stage::Good | Stage::SecondLook(_) | Stage::Bad(_) | Stage::Recovering(_) | Stage::Verifying(_) => {
                    durable.failure.as_ref().map_or("it failed", |failed| failed.why.as_str())
                }
            };
            let stranded = self
                .local(h)
                .stranded
                .as_deref()
                .map_or(String::new(), |reason| alloc::format!(". It does not fail over: {reason}"));
            if self.durable(h).unwanted.contains(tag) {
                found.push((Kind::NotRemoved, alloc::format!("{tag} could not be taken out of service: {why}")));
            } else {
                found.push((Kind::Failed, alloc::format!("{tag} is failed: {why}{stranded}")));
            }
        }
        if owner && resource.ladder.is_blind_for_long() {
            let why = resource.ladder.blind().unwrap_or("no reason given");
            let text = alloc::format!(
                "whether {tag} is well cannot be told: {why}. Nothing is done about it until a check can tell"
            );
            found.push((Kind::Blind, text));
        }
    }
}

/// How long ago, for people.
fn ago(now: UnixMs, then: UnixMs) -> String {
    let secs = (now - then).0 / 1000;
    match secs {
        0..=119 => alloc::format!("{secs} s"),
        120..=7199 => alloc::format!("{} min", secs / 60),
        _ => alloc::format!("{} h {} min", secs / 3600, secs / 60 % 60),
    }
}
