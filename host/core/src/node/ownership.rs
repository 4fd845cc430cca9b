//! Who may act (OWNERSHIP.md): claims, proof, offers, and what another node's claim means for this one.
//!
//! Decides from the durable state and from what peers have told. Every claim and every release is recorded before
//! anything follows from it (O2).

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Node;
use super::timers::HierarchyIndex;
use crate::claim::{Claim, Epoch, Relation};
use crate::message::{HierarchySummary, OwnershipSummary};
use crate::names::NodeName;
use crate::planted::{self, Bug};
use crate::state::{Cause, Intent, OperationKind, Record, Standing, StandingKind, Then};
use crate::status::{EventSeverity, What};

/// Whether a claim is made on the operator's word (O10, O12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// No.
    None,
    /// Yes.
    Said,
    /// Yes, and there is an arbiter that does not know of it.
    UntoldToArbiter,
}

impl Node {
    /// Lets what is known of a hierarchy lead to what it leads to. Called whenever something has happened to it.
    pub(super) fn act(&mut self, h: HierarchyIndex) {
        if !self.local(h).member {
            return;
        }
        if self.durable(h).unknown {
            // Nobody else may own what runs on one node only.
            if self.local(h).hierarchy.spec.nodes.len() == 1 {
                self.claim(h, Cause::Start, BTreeSet::new());
            }
            return;
        }
        self.prove(h);
        if self.by_arbiter(h) {
            self.act_by_arbiter(h);
        }
        let durable = self.durable(h);
        let ours = durable.claim.as_ref().is_some_and(|claim| claim.id.claimant == self.me);
        match (&durable.claim, &durable.standing.kind, ours) {
            (None, _, _) if matches!(durable.intent, Intent::Leave(..)) => self.pursue(h),
            (None, _, _) => self.claim_first(h),
            (Some(_), StandingKind::Held, true) => {
                self.pursue(h);
                self.consider_moving(h);
            }
            // It was given away, and runs here all the same: a journal that was lost had what came after.
            (Some(_), StandingKind::Offered(_) | StandingKind::Released, true)
                if matches!(durable.intent, Intent::Leave(..)) =>
            {
                self.pursue(h);
            }
            (Some(_), StandingKind::Offered(to), true) => {
                let to = to.clone();
                self.offer_pending(h, &to);
            }
            (Some(_), StandingKind::Released, true) => {}
            (Some(claim), StandingKind::Offered(to), false) if *to == self.me => {
                let offer = (claim.id.clone(), durable.standing.revision);
                if durable.declined.as_ref() != Some(&offer) && self.may_take_offer(h, claim) {
                    self.take_offer(h);
                }
            }
            (Some(_), StandingKind::Held | StandingKind::Released | StandingKind::Offered(_), false) => {
                self.pursue(h);
                self.consider_removing(h);
                self.consider_takeover(h);
            }
        }
    }

    /// O3: a daemon has proof of ownership once every other node has answered it, none knows better, and none has
    /// anything of it left. What it claims itself, it has proof of.
    fn prove(&mut self, h: HierarchyIndex) {
        if !self.durable(h).informed && self.all_have_answered(h) {
            self.record(Record::Informed { hierarchy: self.name(h).clone() });
        }
        if let Some(proven) = self.proven_by_arbiter(h) {
            if core::mem::replace(&mut self.local_mut(h).proven, proven) != proven {
                if proven {
                    self.look_at_what_waited(h);
                }
                self.mark_all(h);
            }
            return;
        }
        if self.local(h).proven {
            return;
        }
        if self.unproven_because(h).is_empty() || planted::is(Bug::NoProofAtStart) {
            self.local_mut(h).proven = true;
            self.look_at_what_waited(h);
            self.mark_all(h);
        } else if self.is_owner(h) {
            // What is missing is shown with every resource; a standby, which has no proof, shows nothing of it.
            self.mark_all(h);
        }
    }

    /// Whether every other node has told this daemon who owns it.
    fn all_have_answered(&self, h: HierarchyIndex) -> bool {
        let others = self.local(h).hierarchy.spec.nodes.iter().filter(|node| **node != self.me);
        others.map(|node| self.peer_index(node).map(|peer| &self.peers[peer])).all(|peer| {
            let answered = peer.filter(|peer| peer.answered).and_then(|peer| peer.summary(self.name(h)));
            answered.is_some_and(|summary| summary.ownership.is_some())
        })
    }

    /// What is missing for a proof, one sentence each; see [`Self::prove`].
    pub(super) fn unproven_because(&self, h: HierarchyIndex) -> Vec<String> {
        self.doubts(h).into_iter().map(|(_, why)| why).collect()
    }

    /// Whether something is missing for a proof that will not come by itself in a moment.
    pub(super) fn has_lasting_doubt(&self, h: HierarchyIndex) -> bool {
        self.doubts(h).iter().any(|(lasting, _)| *lasting)
    }

    /// What stands in the way of a proof, and whether it will by itself in a moment's time.
    fn doubts(&self, h: HierarchyIndex) -> Vec<(bool, String)> {
        match self.proven_by_arbiter(h) {
            Some(true) => return Vec::new(),
            Some(false) => return alloc::vec![(true, self.no_right_because(h))],
            None => {}
        }
        let name = self.name(h);
        let others = self.local(h).hierarchy.spec.nodes.iter().filter(|node| **node != self.me);
        others
            .filter_map(|node| {
                let Some(at) = self.peer_index(node) else {
                    return Some((true, alloc::format!("{node} is not in the config")));
                };
                let peer = &self.peers[at];
                if !peer.answered {
                    let why = alloc::format!("{node} has not answered since this daemon started");
                    return Some((!self.is_undecided(at), why));
                }
                let Some(summary) = peer.summary(name) else {
                    return Some((true, alloc::format!("{node} does not know the hierarchy: its config is another")));
                };
                if summary.ownership.is_none() {
                    Some((true, alloc::format!("{node} does not know who owns it")))
                } else if summary.occupied {
                    Some((true, alloc::format!("something of it is or may be in service on {node}")))
                } else {
                    (!summary.looked).then(|| {
                        (false, alloc::format!("{node} has not looked yet whether something of it runs there"))
                    })
                }
            })
            .collect()
    }

    /// Nobody has ever claimed it: the first of its nodes does, once all have said so.
    fn claim_first(&mut self, h: HierarchyIndex) {
        let first = self.local(h).hierarchy.spec.nodes.first() == Some(&self.me);
        // What is found running here is left alone: restoring what is in service is harmless.
        let fit = self.unusable_here(h).is_empty() && !self.state.drained && !self.durable(h).maintenance.on;
        if first && fit && self.local(h).proven {
            self.claim(h, Cause::Start, BTreeSet::new());
        }
    }

    /// The claim that this node makes next: above what it knows, and above what the labels of its volumes know, which take no
    /// lower one. They know more after a journal was lost.
    pub(super) fn next_claim(&self, h: HierarchyIndex) -> Claim {
        let mut claim = Claim::following(self.durable(h).claim.as_ref(), self.me.clone());
        if let Some(known) = self.local(h).labels.values().max().filter(|known| known.epoch >= claim.id.epoch) {
            claim.id.epoch = Epoch(known.epoch.0.saturating_add(1));
        }
        claim
    }

    /// Whether a label of its volumes knows of a newer claim than this node: one by this node's claim does not serve.
    pub(super) fn is_below_labels(&self, h: HierarchyIndex) -> bool {
        let known = self.durable(h).claim.as_ref().map(|claim| &claim.id);
        self.local(h).labels.values().max() > known
    }

    /// Claims (O1, O2) and sets out to serve; in arbiter mode once the arbiter has given its permit (O12).
    pub(super) fn claim(&mut self, h: HierarchyIndex, cause: Cause, tried: BTreeSet<NodeName>) {
        let claim = self.next_claim(h);
        if self.by_arbiter(h) {
            self.begin_take(h, claim, cause, tried);
        } else {
            self.claim_now(h, claim, cause, tried, Word::None);
        }
    }

    /// Claims on the operator's word, whatever an arbiter says (O10, O12).
    pub(super) fn claim_by_word(&mut self, h: HierarchyIndex, cause: Cause) {
        let claim = self.next_claim(h);
        if self.by_arbiter(h) {
            self.take_by_word(h, claim, cause);
        } else {
            self.claim_now(h, claim, cause, BTreeSet::new(), Word::Said);
        }
    }

    pub(super) fn claim_now(
        &mut self,
        h: HierarchyIndex,
        claim: Claim,
        cause: Cause,
        tried: BTreeSet<NodeName>,
        word: Word,
    ) {
        let id = claim.id.clone();
        let failover = (cause == Cause::Failover).then_some(self.now.unix);
        let (forced, word) = (word == Word::UntoldToArbiter, word != Word::None);
        let hierarchy = self.name(h).clone();
        self.record(Record::Claimed { hierarchy, claim, cause, tried, failover, forced, word });
        self.event_of(EventSeverity::Info, h, None, What::Claimed { claim: id, cause });
        let now = self.now.monotonic;
        let local = self.local_mut(h);
        // What was promised was promised to the holder of the claim before.
        local.promised_by.clear();
        local.claim_known_at = now;
        local.proven = true;
        local.spoken |= forced;
        local.attempted = false;
        // What was found running here is where it belongs now.
        local.resources.iter_mut().for_each(|resource| resource.violation = None);
        self.look_at_what_waited(h);
        self.tell.ownership();
        self.reschedule_checks(h);
        self.mark_all(h);
        self.touch(h);
    }

    /// This node gives away its claim, with nothing of it left here (O2).
    fn release(&mut self, h: HierarchyIndex, kind: StandingKind, tried: BTreeSet<NodeName>, cause: Cause) {
        let to = match &kind {
            StandingKind::Offered(to) => Some(to.clone()),
            StandingKind::Held | StandingKind::Released => None,
        };
        let revision = self.durable(h).standing.revision.saturating_add(1);
        let standing = Standing { revision, kind, tried, cause: Some(cause) };
        self.record(Record::Released { hierarchy: self.name(h).clone(), standing });
        self.event_of(EventSeverity::Info, h, None, What::Released { to });
        self.tell.ownership();
        self.reschedule_checks(h);
        self.mark_all(h);
        self.touch(h);
    }

    /// Everything is removed: what was to follow does, unless a peer that it depends on has not been met yet.
    pub(super) fn has_left(&mut self, h: HierarchyIndex, cause: Cause, then: Then) {
        match then {
            Then::Nothing => self.intend(h, Intent::Rest, None),
            Then::Release => self.release(h, StandingKind::Released, BTreeSet::new(), cause),
            // What is given away has to be this node's own, for certain (O3).
            // Who has lost its permit is bound by the arbiter, not by a proof: nobody takes without a permit.
            Then::Offer(_) | Then::PassOn if !self.local(h).proven && self.proven_by_arbiter(h).is_none() => {}
            Then::Offer(to) => {
                let peer = self.peer_index(&to);
                if peer.is_some_and(|peer| self.is_undecided(peer)) {
                    return;
                }
                match peer.map_or_else(|| Some("not in the config".to_string()), |peer| self.peer_not_ready(peer, h)) {
                    None => self.release(h, StandingKind::Offered(to), BTreeSet::new(), cause),
                    // Nothing was offered yet, so nothing has to be taken back.
                    Some(why) => self.back_again(h, &alloc::format!("{to} cannot take it any more ({why})")),
                }
            }
            Then::PassOn => {
                let tried = self.durable(h).tried.clone();
                match self.next_candidate(h, &tried) {
                    Ok(to) if to == self.me => self.intend(h, Intent::Serve(Cause::Undo), None),
                    Ok(to) => self.release(h, StandingKind::Offered(to), tried, cause),
                    Err(_) if self.some_candidate_is_undecided(h, &tried) => {}
                    // Better a part of it here than nothing anywhere; what is failed stays an alarm.
                    Err(why) => self.back_again(h, &alloc::format!("no other node can take it any more ({why})")),
                }
            }
        }
    }

    fn back_again(&mut self, h: HierarchyIndex, why: &str) {
        let text = alloc::format!("{why}: it is brought in service here again");
        self.event_of(EventSeverity::Warning, h, None, What::Learned { text });
        self.intend(h, Intent::Serve(Cause::Undo), None);
    }

    pub(super) fn some_candidate_is_undecided(&self, h: HierarchyIndex, tried: &BTreeSet<NodeName>) -> bool {
        let nodes = self.local(h).hierarchy.spec.nodes.iter().filter(|node| !tried.contains(*node));
        nodes.filter_map(|node| self.peer_index(node)).any(|peer| self.is_undecided(peer))
    }

    /// What this node is about from now on.
    pub(super) fn intend(&mut self, h: HierarchyIndex, intent: Intent, tried: Option<BTreeSet<NodeName>>) {
        self.record(Record::Intends { hierarchy: self.name(h).clone(), intent, tried });
        self.local_mut(h).attempted = false;
        self.tell.ownership();
        self.reschedule_checks(h);
        self.mark_all(h);
        self.touch(h);
    }

    /// The next node in order of priority that has not been tried and is ready (O20); why there is none.
    pub(super) fn next_candidate(&self, h: HierarchyIndex, tried: &BTreeSet<NodeName>) -> Result<NodeName, String> {
        let mut reasons = Vec::new();
        for node in &self.local(h).hierarchy.spec.nodes {
            let why = if tried.contains(node) {
                "tried already".into()
            } else if *node == self.me {
                match self.not_ready(h).first() {
                    None => return Ok(node.clone()),
                    Some(why) => why.clone(),
                }
            } else {
                match self.peer_index(node).map(|peer| self.peer_not_ready(peer, h)) {
                    Some(None) => return Ok(node.clone()),
                    Some(Some(why)) => why,
                    None => "not in the config".into(),
                }
            };
            reasons.push(alloc::format!("{node}: {why}"));
        }
        Err(reasons.join(", "))
    }

    /// Whether an offer may be taken (O18): the living giver itself says that it stands, and has proof; or this daemon has
    /// proof of its own (O3). What a journal or a third node says of an offer may be old: the giver may have it back. And
    /// what the giver says may be, if this node has had it since and lost the journal that knew.
    fn may_take_offer(&self, h: HierarchyIndex, claim: &Claim) -> bool {
        let said = self.peer_index(&claim.id.claimant).and_then(|giver| self.peers[giver].summary(self.name(h)));
        let stands = said.is_some_and(|summary| {
            let same = |ownership: &OwnershipSummary| {
                ownership.claim.as_ref().is_some_and(|theirs| theirs.id == claim.id)
                    && ownership.standing == self.durable(h).standing
            };
            summary.offers && summary.ownership.as_ref().is_some_and(same)
        });
        // The arbiter gives no permit for what rests on an old record (O12).
        planted::is(Bug::TakesAnyOffer)
            || (stands && self.durable(h).informed)
            || self.local(h).proven
            || self.proven_by_arbiter(h).is_some()
    }

    /// It is offered to this node, which alone may claim it (O18); it needs no further contact. Where something of it is
    /// here already it is claimed in any case: a journal that was lost may have had this node's claim in it, and a
    /// decline would say that there never was one.
    fn take_offer(&mut self, h: HierarchyIndex) {
        let Some(claim) = self.durable(h).claim.clone() else { return };
        let standing = self.durable(h).standing.clone();
        let why = self.unusable_here(h);
        if why.is_empty() || self.is_occupied(h) {
            self.claim(h, standing.cause.unwrap_or(Cause::Switchover), standing.tried);
        } else {
            self.decline(h, claim.id, standing.revision, why.join("; "));
        }
    }

    pub(super) fn decline(&mut self, h: HierarchyIndex, claim: crate::claim::ClaimId, revision: u32, why: String) {
        self.record(Record::Declined { hierarchy: self.name(h).clone(), claim, revision });
        self.event_of(EventSeverity::Warning, h, None, What::Declined { why });
        self.tell.ownership();
    }

    /// This node has offered it: it takes it back, or passes it on, only once the receiver has durably declined (O18).
    fn offer_pending(&mut self, h: HierarchyIndex, to: &NodeName) {
        let durable = self.durable(h);
        let Some(claim) = durable.claim.as_ref() else { return };
        let offer = (claim.id.clone(), durable.standing.revision);
        let declined = self
            .peer_index(to)
            .and_then(|peer| self.peers[peer].summary(self.name(h)))
            .is_some_and(|summary| summary.declined.as_ref() == Some(&offer));
        let silent =
            planted::is(Bug::TakesBackFromSilent) && self.peer_index(to).is_some_and(|to| !self.peers[to].is_alive());
        if !(declined || silent) || !(self.local(h).proven || self.proven_by_arbiter(h).is_some()) {
            return;
        }
        let cause = durable.standing.cause.unwrap_or(Cause::Switchover);
        let mut tried = durable.standing.tried.clone();
        tried.insert(to.clone());
        let text = alloc::format!("{to} has declined it");
        self.event_of(EventSeverity::Warning, h, None, What::Learned { text });
        match self.next_candidate(h, &tried) {
            Ok(node) if node == self.me => self.claim(h, Cause::Undo, tried),
            Ok(node) => self.release(h, StandingKind::Offered(node), tried, cause),
            // Nobody is left: the giver is as good as any, and an alarm says so.
            Err(_) => self.release(h, StandingKind::Released, tried, cause),
        }
    }

    /// A peer has told what it knows of a hierarchy: the newer knowledge is everybody's (O1).
    pub(super) fn merge(&mut self, peer: usize, h: HierarchyIndex, summary: &HierarchySummary) {
        if !self.local(h).member {
            return;
        }
        let Some(theirs) = &summary.ownership else { return };
        let durable = self.durable(h);
        let relation = match (&durable.claim, &theirs.claim) {
            _ if durable.unknown => return self.learn_what_was_lost(h),
            (_, None) => return,
            (None, Some(_)) => return self.learn_from(peer, h, theirs),
            (Some(ours), Some(theirs)) => theirs.relation(ours),
        };
        let ours_is_ours = durable.claim.as_ref().is_some_and(|claim| claim.id.claimant == self.me);
        match relation {
            // Only its claimant says how a claim stands, and it knows that itself, unless it has lost its journal.
            Relation::Same => {
                let knows = ours_is_ours && durable.informed;
                if !knows && theirs.standing.revision > durable.standing.revision {
                    self.learn_from(peer, h, theirs);
                }
            }
            Relation::Follows => self.learn_from(peer, h, theirs),
            Relation::Precedes => {}
            Relation::Conflict { first_wins } => {
                self.conflict(h, theirs);
                if first_wins {
                    self.learn_from(peer, h, theirs);
                }
            }
        }
    }

    /// The journal was damaged (O4). That another node owns it is believed of anybody. What would let this node act is
    /// believed only once every other node has answered: one alone may not have heard the last of it.
    fn learn_what_was_lost(&mut self, h: HierarchyIndex) {
        let name = self.name(h);
        let others = self.local(h).hierarchy.spec.nodes.iter().filter_map(|node| self.peer_index(node));
        let told: Vec<(usize, Option<&OwnershipSummary>)> = others
            .map(|peer| {
                let summary = self.peers[peer].summary(name).filter(|_| self.peers[peer].answered);
                (peer, summary.and_then(|summary| summary.ownership.as_ref()))
            })
            .collect();
        let rank = |ownership: &OwnershipSummary| {
            (ownership.claim.as_ref().map(|claim| claim.id.clone()), ownership.standing.revision)
        };
        let newest =
            told.iter().filter_map(|(peer, told)| told.map(|told| (*peer, told))).max_by_key(|(_, told)| rank(told));
        let Some((peer, ownership)) = newest else { return };
        let elsewhere = ownership.standing.kind == StandingKind::Held
            && ownership.claim.as_ref().is_some_and(|claim| claim.id.claimant != self.me);
        if elsewhere || told.iter().all(|(_, told)| told.is_some()) {
            let ownership = ownership.clone();
            self.learn_from(peer, h, &ownership);
        }
    }

    pub(super) fn conflict(&mut self, h: HierarchyIndex, theirs: &OwnershipSummary) {
        let durable = self.durable(h);
        let (Some(known), Some(heard)) = (&durable.claim, &theirs.claim) else { return };
        // Told by either side and in either order, it is one conflict.
        let pair = (known.id.clone().min(heard.id.clone()), known.id.clone().max(heard.id.clone()));
        let noted = durable.conflict.as_ref().map(|(a, b)| (a.clone().min(b.clone()), a.clone().max(b.clone())));
        if noted.as_ref() == Some(&pair) {
            return;
        }
        let (known, heard) = (known.id.clone(), heard.id.clone());
        self.record(Record::Conflict { hierarchy: self.name(h).clone(), known, heard });
        self.touch(h);
    }

    fn learn_from(&mut self, peer: usize, h: HierarchyIndex, theirs: &OwnershipSummary) {
        let teller = self.peers[peer].name.clone();
        self.learn(teller.as_str(), h, theirs);
    }

    /// Takes over what another knows. Whoever held a lower claim removes.
    pub(super) fn learn(&mut self, teller: &str, h: HierarchyIndex, theirs: &OwnershipSummary) {
        let before = self.durable(h).owner().cloned();
        let owned = before.as_ref() == Some(&self.me);
        let ours = theirs.claim.as_ref().is_some_and(|claim| claim.id.claimant == self.me);
        let intent = if ours && theirs.standing.kind == StandingKind::Held {
            // Our own claim, which our journal has lost.
            Intent::Serve(Cause::Start)
        } else if self.durable(h).is_occupied() && !planted::is(Bug::StaleOwnerStays) {
            Intent::Leave(Cause::StaleOwner, Then::Nothing)
        } else {
            Intent::Rest
        };
        self.record(Record::Learned {
            hierarchy: self.name(h).clone(),
            claim: theirs.claim.clone(),
            standing: theirs.standing.clone(),
            failovers: theirs.failovers.clone(),
            intent,
        });
        let durable = self.durable(h);
        let text = match (&durable.claim, &durable.standing.kind) {
            (None, _) => alloc::format!("{teller} says that nobody has claimed it yet"),
            (Some(claim), StandingKind::Held) => alloc::format!("{} has claimed it, {}", claim.id.claimant, claim.id),
            (Some(claim), StandingKind::Released) => alloc::format!("{} has released it", claim.id.claimant),
            (Some(claim), StandingKind::Offered(to)) => {
                alloc::format!("{} has released it and offers it to {to}", claim.id.claimant)
            }
        };
        let severity = if owned { EventSeverity::Warning } else { EventSeverity::Info };
        self.event_of(severity, h, None, What::Learned { text });
        self.drop_plan(h);
        if !ours {
            // What would bring something in service has no place here any more.
            self.cancel_all_but(h, OperationKind::Remove);
        } else if self.is_owner(h) {
            // What was found running here is where it belongs.
            self.local_mut(h).resources.iter_mut().for_each(|resource| resource.violation = None);
        }
        let now = self.now.monotonic;
        let local = self.local_mut(h);
        // What was promised was promised to the holder of the claim before.
        local.promised_by.clear();
        local.claim_known_at = now;
        local.attempted = false;
        // A proof was for another claim; what is somebody else's needs none.
        local.proven &= ours;
        local.stranded = None;
        self.tell.ownership();
        self.reschedule_checks(h);
        self.mark_all(h);
        self.touch(h);
    }
}
