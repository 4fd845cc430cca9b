//! The right to act, where an arbiter gives it (O12, O13).
//!
//! Decides from what the arbiter has shown, and when it was asked: whether this node may act, until when, when it has to
//! give up, and when it may take over. The lease is one for all hierarchies of this node; it counts from when its
//! renewal was sent, less what clocks may differ by. A renewal alone is no proof: the node's own permit has to be seen,
//! too, under its own lease. What the arbiter says of claims is merged as what a peer says (`ownership`).
//!
//! While the arbiter is away an owner goes on for as long as every other node of the hierarchy promises, durably, not to
//! claim (`promises`). Otherwise it removes in time; and the guardian, which outlives this daemon, fences the node if
//! that does not work out.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};

use super::Node;
use super::io::Output;
use super::ownership::Word;
use super::timers::{HierarchyIndex, Timer};
use crate::arbiter::{ArbiterAnswer, ArbiterEntry, ArbiterId, ArbiterRequest, ArbiterView, Permit};
use crate::claim::{Claim, Relation};
use crate::message::OwnershipSummary;
use crate::names::NodeName;
use crate::planted::{self, Bug};
use crate::spec::{ArbiterSpec, FailoverMode, remove_budget};
use crate::state::{Cause, Intent, Record, Standing, StandingKind, Then};
use crate::status::{EventSeverity, What};
use crate::time::{Millis, Monotonic};

/// Of several nodes that could take over, each lets those of higher priority go first by this much.
const TURN: Millis = Millis::from_secs(2);
/// After a change was told, it is looked at once more no sooner than this: many come at once.
const LOOK_AGAIN: Millis = Millis(50);
/// Whoever asks the arbiter answers within one request timeout: an answer that takes so many will not come.
const OVERDUE_TIMEOUTS: u64 = 3;

/// What this node knows of the arbiter.
#[derive(Debug)]
pub(super) struct Arbiter {
    pub(super) spec: ArbiterSpec,
    /// How long it takes to fence this node.
    fence_takes: Millis,
    /// The permits that are seen to be this node's are good until then.
    lease_until: Option<Monotonic>,
    /// When the request was sent that [`Self::view`] answers.
    seen_at: Option<Monotonic>,
    /// When the last renewal was sent that was answered; when this daemon started, before the first.
    renewed_at: Monotonic,
    /// The newest request whose answer was looked at: an older one, answered later, says nothing new.
    newest: ArbiterId,
    view: ArbiterView,
    asked: BTreeMap<ArbiterId, (Monotonic, About)>,
    /// Why the last request had no answer, and since when none has.
    pub(super) trouble: Option<(Monotonic, String)>,
    /// What the guardian was told last.
    guarded: Option<Option<Monotonic>>,
    /// Since when the guardian is not there.
    guardian_gone: Option<Monotonic>,
    next: u64,
}

/// What a request was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Renew,
    Take(HierarchyIndex),
    Give,
    Mark,
}

/// A claim that is being made at the arbiter. It is kept until its outcome is known.
#[derive(Clone, Debug)]
pub(super) struct Taking {
    claim: Claim,
    cause: Cause,
    tried: BTreeSet<NodeName>,
    /// The record's version that it rests on; none: it was not sent yet.
    expected: Option<u64>,
    /// On the operator's word: whoever has a permit loses it.
    force: bool,
    /// The request that is out. None: it was not sent yet, or nobody knows what became of it.
    id: Option<ArbiterId>,
}

impl Arbiter {
    pub(super) fn new(spec: ArbiterSpec, fence_takes: Millis, now: Monotonic) -> Self {
        Self {
            spec,
            fence_takes,
            lease_until: None,
            seen_at: None,
            renewed_at: now,
            newest: ArbiterId::default(),
            view: ArbiterView::default(),
            asked: BTreeMap::new(),
            trouble: None,
            guarded: None,
            // Until it is said to be there, it is not.
            guardian_gone: Some(now),
            next: 0,
        }
    }

    /// What is seen is not older than it may be while all is well.
    fn is_fresh(&self, now: Monotonic) -> bool {
        self.seen_at.is_some_and(|at| now.since(at) <= self.spec.gives_up_after())
    }
}

impl Node {
    /// Whether the right to act on it is the arbiter's to give. Nobody else may own what runs on one node only.
    pub(super) fn by_arbiter(&self, h: HierarchyIndex) -> bool {
        let spec = &self.local(h).hierarchy.spec;
        self.arbiter.is_some() && spec.failover == FailoverMode::Arbiter && spec.nodes.len() > 1
    }

    /// What the arbiter has shown of it.
    pub(super) fn seen(&self, h: HierarchyIndex) -> Option<&ArbiterEntry> {
        self.arbiter.as_ref()?.view.hierarchies.get(self.name(h))
    }

    /// Who may act on it, as the arbiter has shown it.
    fn permit(&self, h: HierarchyIndex) -> Option<&Permit> {
        self.seen(h)?.permit.as_ref()
    }

    /// The same to keep, while what was shown is worked on.
    fn entry(&self, h: HierarchyIndex) -> ArbiterEntry {
        self.seen(h).cloned().unwrap_or_default()
    }

    // Asking.

    pub(super) fn ask_arbiter(&mut self, about: About, request: ArbiterRequest) -> Option<ArbiterId> {
        let now = self.now.monotonic;
        let arbiter = self.arbiter.as_mut()?;
        arbiter.next += 1;
        let id = ArbiterId(arbiter.next);
        arbiter.asked.insert(id, (now, about));
        self.outputs.push_back(Output::Arbiter(self.recorded, id, request));
        Some(id)
    }

    /// Renews, and looks. Again when the interval has passed.
    pub(super) fn renew(&mut self) {
        let Some(interval) = self.arbiter.as_ref().map(|arbiter| arbiter.spec.renew_interval) else { return };
        let now = self.now.monotonic;
        if self.is_renewing() {
            // One at a time: the answer that is waited for is as good, or is followed by another question.
            self.timers.set(Timer::Renew, now + LOOK_AGAIN);
            return;
        }
        self.timers.set(Timer::Renew, now + interval);
        if !self.stopped {
            self.ask_arbiter(About::Renew, ArbiterRequest::Renew);
        }
    }

    /// A renewal is out. One whose answer is long overdue is not waited for any more.
    fn is_renewing(&mut self) -> bool {
        let now = self.now.monotonic;
        let Some(arbiter) = self.arbiter.as_mut() else { return false };
        let overdue = Millis(arbiter.spec.request_timeout.0 * OVERDUE_TIMEOUTS);
        arbiter.asked.retain(|_, (at, about)| *about != About::Renew || now.since(*at) <= overdue);
        arbiter.asked.values().any(|(_, about)| *about == About::Renew)
    }

    /// Something has changed at the arbiter: it is looked at properly.
    pub(super) fn arbiter_changed(&mut self, view: &ArbiterView) {
        let Some(arbiter) = &self.arbiter else { return };
        if arbiter.view == *view {
            return;
        }
        if self.is_renewing() {
            let soon = self.now.monotonic + LOOK_AGAIN;
            if self.timers.get(Timer::Renew).is_none_or(|at| at > soon) {
                self.timers.set(Timer::Renew, soon);
            }
        } else {
            self.renew();
        }
    }

    pub(super) fn arbiter_answered(&mut self, id: ArbiterId, answer: ArbiterAnswer) {
        let now = self.now.monotonic;
        let Some(arbiter) = self.arbiter.as_mut() else { return };
        let Some((sent, about)) = arbiter.asked.remove(&id) else { return };
        let mut marked = false;
        let view = match answer {
            ArbiterAnswer::Failed(why) => {
                self.mark_failed(id);
                return self.arbiter_failed(sent, about, why);
            }
            ArbiterAnswer::Renewed { lease, view } => {
                // O13: it may count from when the arbiter had it, which was not before it was sent.
                let sent = if planted::is(Bug::PermitFromAnswer) { self.now.monotonic } else { sent };
                let until = sent + Millis(lease.0.saturating_sub(ArbiterSpec::drift(lease).0));
                arbiter.lease_until = arbiter.lease_until.max(Some(until));
                arbiter.renewed_at = arbiter.renewed_at.max(sent);
                view
            }
            ArbiterAnswer::Done { done, view } => {
                marked = done;
                if let About::Take(h) = about {
                    if done {
                        self.took(h);
                    } else if self.local(h).taking.as_ref().is_some_and(|taking| taking.id == Some(id)) {
                        self.local_mut(h).taking = None;
                    }
                }
                view
            }
        };
        let Some(arbiter) = self.arbiter.as_mut() else { return };
        if let Some((since, _)) = arbiter.trouble.take() {
            let text = alloc::format!("the arbiter answers again, after {} s", now.since(since).0 / 1000);
            self.event(EventSeverity::Info, None, None, What::Learned { text });
        }
        let Some(arbiter) = self.arbiter.as_mut() else { return };
        if id > arbiter.newest {
            arbiter.newest = id;
            arbiter.view = view;
            arbiter.seen_at = Some(sent);
            for h in self.members() {
                if self.by_arbiter(h) {
                    self.merge_arbiter(h, sent);
                }
            }
        }
        self.mark_answered(id, marked);
        self.touch_all();
    }

    fn arbiter_failed(&mut self, sent: Monotonic, about: About, why: String) {
        let now = self.now.monotonic;
        let Some(arbiter) = self.arbiter.as_mut() else { return };
        let timeout = arbiter.spec.request_timeout;
        if arbiter.trouble.is_none() {
            let text = alloc::format!("the arbiter does not answer: {why}");
            self.event(EventSeverity::Warning, None, None, What::Learned { text });
        }
        let Some(arbiter) = self.arbiter.as_mut() else { return };
        arbiter.trouble = Some((arbiter.trouble.as_ref().map_or(now, |(since, _)| *since), why));
        match about {
            About::Renew => {
                let again = now.max(sent + timeout);
                if self.timers.get(Timer::Renew).is_none_or(|at| at > again) {
                    self.timers.set(Timer::Renew, again);
                }
                self.ask_for_promises();
            }
            // Nobody knows whether it was done: it is sent again, resting on the same version, once the arbiter answers.
            About::Take(h) => {
                if let Some(Taking { claim, cause, force: true, .. }) = self.local(h).taking.clone() {
                    // The operator's word needs no arbiter.
                    self.local_mut(h).taking = None;
                    let known = self.durable(h).claim.as_ref().map(|claim| &claim.id);
                    if known == claim.lineage.first() {
                        self.claim_now(h, claim, cause, BTreeSet::new(), Word::UntoldToArbiter);
                    }
                } else if let Some(taking) = &mut self.local_mut(h).taking {
                    taking.id = None;
                }
            }
            // The next look shows whether it was done.
            About::Give | About::Mark => {}
        }
        self.touch_all();
    }

    // What it says.

    /// Takes over what the arbiter knows of claims (O12).
    fn merge_arbiter(&mut self, h: HierarchyIndex, sent: Monotonic) {
        let entry = self.entry(h);
        let now = self.now.monotonic;
        let local = self.local_mut(h);
        local.free_since = if entry.permit.is_some() { None } else { local.free_since.or(Some(now)) };
        if let Some(taking) = &local.taking
            && let (None, Some(expected)) = (taking.id, taking.expected)
        {
            let ours = entry.record.as_ref().and_then(|record| record.claim.as_ref());
            if ours.is_some_and(|claim| claim.id == taking.claim.id) && entry.permit.as_ref().is_some_and(|it| it.ours)
            {
                self.took(h);
            } else if entry.version != expected {
                // It rests on what is no more: it was not done, and never will be.
                self.local_mut(h).taking = None;
            }
        }
        // What was asked before the newest claim was made or heard of says nothing about it.
        if self.local(h).claim_known_at > sent {
            return;
        }
        let durable = self.durable(h);
        let Some(record) = &entry.record else {
            let gone_back = self.durable(h).arbitrated;
            self.set_gone_back(h, gone_back);
            return;
        };
        if !durable.arbitrated {
            self.record(Record::Arbitrated { hierarchy: self.name(h).clone() });
        }
        let durable = self.durable(h);
        let relation = match (&durable.claim, &record.claim) {
            (_, None) => return,
            _ if durable.unknown => None,
            (None, Some(_)) => None,
            (Some(known), Some(heard)) => Some(heard.relation(known)),
        };
        let mut gone_back = false;
        match relation {
            None | Some(Relation::Follows) => self.learn("the arbiter", h, record),
            Some(Relation::Precedes) if planted::is(Bug::GoneBackBelieved) => self.learn("the arbiter", h, record),
            Some(Relation::Same) => {
                let ours = durable.claim.as_ref().is_some_and(|claim| claim.id.claimant == self.me);
                if !ours && record.standing.revision > durable.standing.revision {
                    self.learn("the arbiter", h, record);
                }
            }
            // A claim made by force, which the arbiter has not been told yet, is newer rightly.
            Some(Relation::Precedes) => gone_back = !durable.forced,
            Some(Relation::Conflict { first_wins }) => {
                self.conflict(h, record);
                if first_wins {
                    self.learn("the arbiter", h, record);
                }
            }
        }
        self.set_gone_back(h, gone_back);
    }

    fn set_gone_back(&mut self, h: HierarchyIndex, gone_back: bool) {
        let now = self.now.monotonic;
        let local = self.local_mut(h);
        local.gone_back = if gone_back { local.gone_back.or(Some(now)) } else { None };
    }

    /// The arbiter knows less than this node, and has for so long that nobody is about to tell it.
    pub(super) fn has_gone_back(&self, h: HierarchyIndex) -> bool {
        let Some(arbiter) = &self.arbiter else { return false };
        self.local(h).gone_back.is_some_and(|since| self.now.monotonic.since(since) >= arbiter.spec.gives_up_after())
    }

    /// Whether the arbiter shows, now, what this node knows of the claim.
    fn arbiter_agrees(&self, h: HierarchyIndex) -> bool {
        let fresh = self.arbiter.as_ref().is_some_and(|arbiter| arbiter.is_fresh(self.now.monotonic));
        let record = self.seen(h).and_then(|entry| entry.record.as_ref());
        let told = record.and_then(|record| record.claim.as_ref()).map(|claim| &claim.id);
        fresh && told.is_some() && told == self.durable(h).claim.as_ref().map(|claim| &claim.id)
    }

    // The right to act.

    /// Until when this node may act, and since when that was good; none: it may not.
    pub(super) fn right(&self, h: HierarchyIndex) -> Option<(Monotonic, Monotonic)> {
        let arbiter = self.arbiter.as_ref()?;
        let claim = self.durable(h).claim.as_ref().filter(|claim| claim.id.claimant == self.me)?;
        let permit = self.permit(h).filter(|permit| permit.ours && permit.epoch == claim.id.epoch);
        let by_permit = permit.and_then(|_| Some((arbiter.lease_until?, arbiter.renewed_at)));
        by_permit.max(self.right_by_promises(h))
    }

    /// When this node has to begin to remove unless its right is renewed by then (O13): in time, if the remove budget fits
    /// into the lease; else as soon as it counts as lost.
    fn gives_up_at(&self, h: HierarchyIndex) -> Option<Monotonic> {
        let arbiter = self.arbiter.as_ref()?;
        let (until, since) = self.right(h)?;
        let needs = arbiter.fence_takes.0 + remove_budget(&self.local(h).hierarchy.spec).0;
        Some((since + arbiter.spec.gives_up_after()).max(Monotonic(until.0.saturating_sub(needs))))
    }

    /// Whether what this daemon may do with it is the arbiter's to say: it has been asked once, or the operator has spoken.
    /// Before, it is the other nodes' (O3).
    fn arbiter_decides(&self, h: HierarchyIndex) -> bool {
        let durable = self.durable(h);
        durable.arbitrated || durable.forced
    }

    /// Whether this node acts on the operator's word alone: it was said to this daemon, and the arbiter was not told yet. Until
    /// it is, all others are to stay off. A later daemon does not know whether they have: it tells the arbiter first, and waits
    /// for its permit as anybody does.
    pub(super) fn by_word(&self, h: HierarchyIndex) -> bool {
        self.durable(h).forced && (self.local(h).spoken || planted::is(Bug::OldWordIsProof))
    }

    /// Whether this daemon has proof of what it knows, in arbiter mode; none: it is proven as without one.
    pub(super) fn proven_by_arbiter(&self, h: HierarchyIndex) -> Option<bool> {
        if !self.by_arbiter(h) || !self.arbiter_decides(h) {
            return None;
        }
        let arbiter = self.arbiter.as_ref()?;
        if !self.is_owner(h) {
            return Some(self.arbiter_agrees(h));
        }
        let right = self.by_word(h) || self.gives_up_at(h).is_some_and(|at| self.now.monotonic < at);
        Some(right && arbiter.guardian_gone.is_none())
    }

    /// What is missing for the right to act, in one sentence.
    pub(super) fn no_right_because(&self, h: HierarchyIndex) -> String {
        let Some(arbiter) = &self.arbiter else { return String::new() };
        if arbiter.guardian_gone.is_some() {
            return "the guardian, which would fence this node in time, is not there (O13)".into();
        }
        if let Some((_, why)) = &arbiter.trouble {
            return alloc::format!(
                "the arbiter does not answer ({why}), and not every other node promises not to claim (O12)"
            );
        }
        if arbiter.seen_at.is_none() {
            return "the arbiter has not answered yet".into();
        }
        if self.local(h).gone_back.is_some() {
            return "the arbiter knows less than this node: it was wiped or restored (O12)".into();
        }
        match self.permit(h) {
            Some(permit) if self.durable(h).forced => alloc::format!(
                "it was brought in service here on an operator's word that the arbiter was not told, and {} has the arbiter's permit since, for epoch {} (O12)",
                permit.node,
                permit.epoch
            ),
            Some(permit) => alloc::format!("the arbiter's permit is {}'s, for epoch {}", permit.node, permit.epoch),
            None => "the arbiter has given no permit yet".into(),
        }
    }

    /// Before anything else is done with it: asks for what is missing, gives back what is not needed, and gives up what
    /// cannot be kept.
    pub(super) fn act_by_arbiter(&mut self, h: HierarchyIndex) {
        self.give_back(h);
        self.send_take(h);
        let ends = self.gives_up_at(h).filter(|at| self.is_owner(h) && *at > self.now.monotonic);
        if let Some(at) = ends {
            self.timers.set(Timer::Right { hierarchy: h }, at);
        }
        self.guard();
        let durable = self.durable(h);
        if self.is_owner(h) {
            let has_permit = self.permit(h).is_some_and(|permit| permit.ours);
            let leaving = matches!(durable.intent, Intent::Leave(..));
            if !has_permit && !leaving {
                self.retake(h);
            }
            // Before the first answer nobody knows; the guardian has the deadline of the daemon before.
            let asked = self.arbiter.as_ref().is_some_and(|arbiter| {
                self.now.monotonic >= arbiter.renewed_at + arbiter.spec.gives_up_after() || arbiter.seen_at.is_some()
            });
            if self.arbiter_decides(h) && asked && !self.local(h).proven && !leaving && self.has_lost_right(h) {
                self.give_up(h);
            }
        } else if durable.owner().is_some() {
            self.consider_take(h);
        }
    }

    fn has_lost_right(&self, h: HierarchyIndex) -> bool {
        let over = self.gives_up_at(h).is_none_or(|at| self.now.monotonic >= at);
        // Nothing would fence this node if it were stopped now.
        let unguarded = self.arbiter.as_ref().is_some_and(|arbiter| {
            let gone = arbiter.guardian_gone.map(|since| self.now.monotonic.since(since));
            gone.is_some_and(|gone| gone >= arbiter.spec.gives_up_after())
        });
        // What is found here on a word is left alone (O3), unless another node may act by now.
        let elsewhere = self.permit(h).is_some_and(|permit| permit.node != self.me);
        let by_word = self.by_word(h) || (self.durable(h).forced && !elsewhere);
        (over || unguarded) && !by_word && self.is_occupied(h)
    }

    /// Removes in time, and hands it to a node that may have a permit, if there is one.
    fn give_up(&mut self, h: HierarchyIndex) {
        let text =
            alloc::format!("the right to act is lost ({}): it is taken out of service here", self.no_right_because(h));
        self.event_of(EventSeverity::Warning, h, None, What::Learned { text });
        let tried = BTreeSet::from([self.me.clone()]);
        self.intend(h, Intent::Leave(Cause::PermitLost, Then::PassOn), Some(tried));
        self.drop_plan(h);
        self.run_plan(h, crate::plan::Goal::OutOfService, Cause::PermitLost);
    }

    /// Tells the guardian when to fence this node (O13): before the first of the rights ends that something here rests on.
    /// What rests on none is not guarded longer than it was.
    pub(super) fn guard(&mut self) {
        let Some(arbiter) = &self.arbiter else { return };
        let mut until: Option<Monotonic> = None;
        for h in self.members().into_iter().filter(|h| self.by_arbiter(*h)) {
            let serves = self.is_owner(h) && self.local(h).proven;
            if self.durable(h).forced || !(serves || self.is_occupied(h)) {
                continue;
            }
            let Some((end, _)) = self.right(h).filter(|(end, _)| *end > self.now.monotonic) else { return };
            until = Some(until.map_or(end, |until| until.min(end)));
        }
        let deadline = until.map(|until| Monotonic(until.0.saturating_sub(arbiter.fence_takes.0)));
        if arbiter.guarded != Some(deadline) {
            self.outputs.push_back(Output::Guard(deadline.filter(|_| !planted::is(Bug::GuardianNotTold))));
            if let Some(arbiter) = &mut self.arbiter {
                arbiter.guarded = Some(deadline);
            }
        }
    }

    pub(super) fn guardian(&mut self, there: bool) {
        let Some(arbiter) = &mut self.arbiter else { return };
        if arbiter.guardian_gone.is_none() != there {
            arbiter.guardian_gone = (!there).then_some(self.now.monotonic);
            arbiter.guarded = None;
            let (severity, text) = if there {
                (EventSeverity::Info, "the guardian is there again")
            } else {
                (EventSeverity::Warning, "the guardian is not there: nothing is brought in service until it is (O13)")
            };
            self.event(severity, None, None, What::Learned { text: text.into() });
        }
        self.touch_all();
    }

    // Taking and giving.

    /// Makes a claim at the arbiter. What follows from it comes with the answer.
    pub(super) fn begin_take(&mut self, h: HierarchyIndex, claim: Claim, cause: Cause, tried: BTreeSet<NodeName>) {
        if self.local(h).taking.is_some() {
            return;
        }
        self.local_mut(h).taking = Some(Taking { claim, cause, tried, expected: None, force: false, id: None });
        self.send_take(h);
    }

    /// Makes a claim on the operator's word: at the arbiter if it answers, so that a node that comes back finds its permit
    /// taken away; without it if not (O12).
    pub(super) fn take_by_word(&mut self, h: HierarchyIndex, claim: Claim, cause: Cause) {
        let now = self.now.monotonic;
        let answers = self.arbiter.as_ref().is_some_and(|arbiter| arbiter.trouble.is_none() && arbiter.is_fresh(now));
        if !answers {
            return self.claim_now(h, claim, cause, BTreeSet::new(), Word::UntoldToArbiter);
        }
        // Whatever was being asked for: this is newer.
        let tried = BTreeSet::new();
        self.local_mut(h).taking = Some(Taking { claim, cause, tried, expected: None, force: true, id: None });
        self.send_take(h);
    }

    /// Sends a take that was not sent yet, or whose fate nobody knows: resting on the same version, it is done once at most.
    fn send_take(&mut self, h: HierarchyIndex) {
        let Some(arbiter) = &self.arbiter else { return };
        if arbiter.trouble.is_some() || arbiter.seen_at.is_none() {
            return;
        }
        let entry = self.entry(h);
        let Some(taking) = self.local(h).taking.clone() else { return };
        let held = entry.permit.as_ref().is_some_and(|permit| permit.node != self.me);
        if taking.id.is_some() || (!taking.force && (held || self.local(h).gone_back.is_some())) {
            return;
        }
        let durable = self.durable(h);
        let follows = taking.claim.lineage.first() == durable.claim.as_ref().map(|claim| &claim.id);
        let again = durable.claim.as_ref().is_some_and(|claim| claim.id == taking.claim.id);
        if taking.expected.is_none() && !follows && !again {
            // Another claim was heard of since.
            self.local_mut(h).taking = None;
            return;
        }
        let expected = taking.expected.unwrap_or(entry.version);
        let (standing, failovers) = if again {
            (durable.standing.clone(), durable.failovers.clone())
        } else {
            let mut failovers = durable.failovers.clone();
            failovers.extend((taking.cause == Cause::Failover).then_some(self.now.unix));
            (Standing::default(), failovers)
        };
        let record = OwnershipSummary { claim: Some(taking.claim), standing, failovers };
        let request = ArbiterRequest::Take { hierarchy: self.name(h).clone(), expected, record, force: taking.force };
        let id = self.ask_arbiter(About::Take(h), request);
        if let Some(taking) = &mut self.local_mut(h).taking {
            taking.id = id;
            taking.expected = Some(expected);
        }
    }

    /// The arbiter has done what was asked: the claim is made.
    fn took(&mut self, h: HierarchyIndex) {
        let Some(Taking { claim, cause, tried, force, .. }) = self.local_mut(h).taking.take() else { return };
        if !self.durable(h).arbitrated {
            self.record(Record::Arbitrated { hierarchy: self.name(h).clone() });
        }
        let known = self.durable(h).claim.as_ref().map(|claim| &claim.id);
        if known == Some(&claim.id) {
            if self.durable(h).forced {
                self.record(Record::Permitted { hierarchy: self.name(h).clone() });
            }
            self.touch(h);
        } else if known == claim.lineage.first() {
            self.claim_now(h, claim, cause, tried, if force { Word::Said } else { Word::None });
        }
        // Otherwise a newer claim was heard of since, which was made by force: it is given back.
    }

    /// The permit for the claim that this node has: it was lost, or never asked for.
    fn retake(&mut self, h: HierarchyIndex) {
        let Some(claim) = self.durable(h).claim.clone() else { return };
        let by_word = self.by_word(h);
        let may = if by_word {
            true
        } else if self.arbiter_decides(h) {
            // Who can be heard may have it by a word that the arbiter was never told; or it is this node that has to tell it.
            (self.arbiter_agrees(h) || self.durable(h).forced) && !self.some_candidate_is_undecided(h, &BTreeSet::new())
        } else {
            // The arbiter is new, and the others have said that nobody knows better (O3).
            self.local(h).proven && self.seen(h).is_none_or(|entry| entry.record.is_none())
        };
        if may && (self.is_occupied(h) || self.unusable_here(h).is_empty()) {
            self.begin_take(h, claim, Cause::Start, BTreeSet::new());
            if let Some(taking) = self.local_mut(h).taking.as_mut().filter(|_| by_word) {
                // What the arbiter has is older, whatever it is and whoever has a permit for it.
                taking.force = true;
                self.send_take(h);
            }
        }
    }

    /// A permit that this node has and has no use for goes back, with the news of how its claim stands.
    fn give_back(&mut self, h: HierarchyIndex) {
        let entry = self.entry(h);
        let durable = self.durable(h);
        let ours = durable.claim.as_ref().filter(|claim| claim.id.claimant == self.me);
        let owned = self.is_owner(h);
        let out =
            |about| self.arbiter.as_ref().is_some_and(|arbiter| arbiter.asked.values().any(|(_, it)| *it == about));
        let Some(permit) = entry.permit.filter(|permit| permit.ours) else {
            // It ran out before the news was told: somebody might take what was released to nobody.
            let stale = entry.record.as_ref().is_some_and(|record| {
                record.claim.as_ref().map(|claim| &claim.id) == ours.map(|claim| &claim.id)
                    && ours.is_some()
                    && record.standing.revision < durable.standing.revision
            });
            if stale
                && !owned
                && self.local(h).taking.is_none()
                && let Some(claim) = ours.cloned()
            {
                self.begin_take(h, claim, Cause::Operator, BTreeSet::new());
            }
            return;
        };
        let needed = owned && ours.is_some_and(|claim| claim.id.epoch == permit.epoch);
        if needed || self.local(h).taking.is_some() || out(About::Give) || self.is_occupied(h) {
            return;
        }
        let record = match (ours, entry.record) {
            (Some(claim), _) => OwnershipSummary {
                claim: Some(claim.clone()),
                standing: durable.standing.clone(),
                failovers: durable.failovers.clone(),
            },
            // Taken, and outrun by a claim made by force.
            (None, Some(record)) => OwnershipSummary {
                standing: Standing {
                    revision: record.standing.revision.saturating_add(1),
                    kind: StandingKind::Released,
                    ..record.standing
                },
                ..record
            },
            (None, None) => return,
        };
        let request = ArbiterRequest::Give { hierarchy: self.name(h).clone(), record };
        self.ask_arbiter(About::Give, request);
    }

    /// Takes over when the owner is silent and its permit has run out.
    fn consider_take(&mut self, h: HierarchyIndex) {
        if self.why_arbiter_waits(h).is_none() && self.local(h).taking.is_none() {
            let claim = self.next_claim(h);
            self.begin_take(h, claim, Cause::Failover, BTreeSet::new());
        }
    }

    /// Why a hierarchy of another node is not taken now; none: nothing is in the way.
    pub(super) fn why_arbiter_waits(&self, h: HierarchyIndex) -> Option<String> {
        let arbiter = self.arbiter.as_ref()?;
        let owner = self.durable(h).owner()?;
        let peer = self.peer_index(owner).map(|peer| &self.peers[peer]);
        if peer.is_some_and(|peer| peer.is_alive() || self.answers(peer)) {
            return Some(alloc::format!("{owner} is alive"));
        }
        if peer.is_some_and(|peer| peer.reach() == crate::status::Reach::NotMet) {
            return Some(alloc::format!("{owner} was not listened for long enough"));
        }
        if let Some((_, why)) = &arbiter.trouble {
            return Some(alloc::format!("the arbiter does not answer: {why}"));
        }
        if !arbiter.is_fresh(self.now.monotonic) {
            return Some("the arbiter has not answered yet".into());
        }
        let entry = self.entry(h);
        if let Some(permit) = &entry.permit {
            return Some(alloc::format!("the permit of {} has not run out yet", permit.node));
        }
        if self.local(h).gone_back.is_some() || !self.arbiter_agrees(h) {
            return Some("the arbiter knows less than this node: it was wiped or restored (O12)".into());
        }
        if self.local(h).promised_until.is_some_and(|until| self.now.monotonic < until)
            && !planted::is(Bug::PromiseNotKept)
        {
            return Some(alloc::format!("this node has promised {owner} not to claim yet (O12)"));
        }
        if arbiter.guardian_gone.is_some() {
            return Some(self.no_right_because(h));
        }
        self.takeover_refused(h).or_else(|| self.not_its_turn(h))
    }

    /// Whether a silent owner's hierarchy waits for a person rather than for a lease to run out.
    pub(super) fn waits_for_operator(&self, h: HierarchyIndex) -> bool {
        let Some(arbiter) = &self.arbiter else { return true };
        let lease = arbiter.spec.lease;
        let owner = self.durable(h).owner().and_then(|owner| self.peer_index(owner));
        let long =
            owner.is_none_or(|peer| self.now.monotonic.since(self.peers[peer].reach_since) > Millis(2 * lease.0));
        long && self.why_arbiter_waits(h).is_some()
    }

    /// Nodes of higher priority that could take it, too, go first.
    fn not_its_turn(&self, h: HierarchyIndex) -> Option<String> {
        let owner = self.durable(h).owner();
        let before = self.local(h).hierarchy.spec.nodes.iter().take_while(|node| **node != self.me);
        let first: alloc::vec::Vec<&NodeName> = before
            .filter(|node| Some(*node) != owner)
            .filter(|node| self.peer_index(node).is_some_and(|peer| self.peer_not_ready(peer, h).is_none()))
            .collect();
        let wait = Millis(TURN.0 * first.len() as u64);
        let free = self.local(h).free_since.map_or(Millis(0), |since| self.now.monotonic.since(since));
        (free < wait).then(|| alloc::format!("{} goes first", crate::message::list(first)))
    }

    /// What people are told of the arbiter as a whole.
    pub(super) fn arbiter_trouble(&self) -> Option<String> {
        let arbiter = self.arbiter.as_ref()?;
        let (since, why) = arbiter.trouble.as_ref()?;
        (self.now.monotonic.since(*since) >= arbiter.spec.gives_up_after()).then(|| why.to_string())
    }
}
