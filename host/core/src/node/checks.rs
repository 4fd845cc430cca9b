//! Checks: when they are due, and what they mean for a resource that is in service here, or that should not be.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Node;
use super::io::{CheckReport, Failure, FaultKind, Finding, Health, Outcome, Weight};
use super::local::{Deep, LocalResource, Purpose};
use super::timers::{HierarchyIndex, Timer};
use crate::hierarchy::ResourceIndex;
use crate::ladder::{Policy, Seen, Stage, Step};
use crate::plan::{Goal, Presence};
use crate::state::{Cause, Ended, Intent, OperationKind};
use crate::status::{EventSeverity, What};
use crate::time::{Millis, Monotonic};

/// After a start, first checks are spread over this long at the most, so that thousands do not come at once.
const FIRST_CHECKS_SPREAD_MAX: Millis = Millis::from_secs(2);
/// And over so much for each resource there is: a few are looked at at once.
const FIRST_CHECKS_SPREAD_EACH: Millis = Millis(1);

/// What is said of a repair that has to wait.
const WAITS: &str = "local recovery waits: ";

impl Node {
    pub(super) fn schedule_first_checks(&mut self) {
        let count = self.by_tag.len() as u64;
        let spread = Millis(count * FIRST_CHECKS_SPREAD_EACH.0).min(FIRST_CHECKS_SPREAD_MAX);
        for h in self.members() {
            for r in self.local(h).hierarchy.resources() {
                let (now, scattered) = (self.now.monotonic, scatter(self.seed, h, r));
                let within = |spread: Millis| now + Millis(scattered % spread.0.max(1));
                self.schedule_check(h, r, within(spread));
                let interval = self.local(h).hierarchy.resource(r).deep_check_interval;
                self.resource_mut(h, r).deep_check_at = within(interval);
            }
        }
    }

    pub(super) fn schedule_check(&mut self, h: HierarchyIndex, r: ResourceIndex, at: Monotonic) {
        self.timers.set(Timer::Check { hierarchy: h, resource: r }, at);
    }

    /// Who owns it has changed, and with it how often it is looked at.
    pub(super) fn reschedule_checks(&mut self, h: HierarchyIndex) {
        for r in self.local(h).hierarchy.resources() {
            let soon = self.now.monotonic + self.check_interval(h, r);
            let timer = Timer::Check { hierarchy: h, resource: r };
            if self.timers.get(timer).is_none_or(|at| at > soon) {
                self.timers.set(timer, soon);
            }
        }
    }

    fn check_interval(&self, h: HierarchyIndex, r: ResourceIndex) -> Millis {
        let spec = self.local(h).hierarchy.resource(r);
        // A standby that is not ready may be needed any moment: it should not be long before it is seen to be ready again.
        let often = self.is_owner(h) || self.blocking(h, r).next().is_some();
        if often { spec.check_interval } else { spec.standby_check_interval }
    }

    pub(super) fn check_due(&mut self, h: HierarchyIndex, r: ResourceIndex, due: Monotonic) {
        // From when it was due, so that a late check does not move those after it; but never in the past.
        let interval = self.check_interval(h, r);
        let next = (due + interval).max(self.now.monotonic);
        self.schedule_check(h, r, next);
        let resource = self.resource(h, r);
        let durable = self.durable_resource(h, r);
        if resource.call.is_some() || resource.leftover || resource.step.is_some() || self.stopped {
            return;
        }
        match durable.presence {
            Presence::In if self.is_deep_check_due(h, r) => self.deep_check(h, r),
            Presence::In => self.check(h, r, Purpose::Check, due),
            // A repair that was cut short leaves the resource in service; anything else is for a plan to sort out.
            Presence::Unknown => {}
            Presence::Out if !self.is_owner(h) => self.check(h, r, Purpose::StandbyCheck, due),
            Presence::Out => {}
        }
    }

    fn is_deep_check_due(&self, h: HierarchyIndex, r: ResourceIndex) -> bool {
        let resource = self.resource(h, r);
        resource.able.deep_check && (resource.deep == Deep::Doubt || resource.deep_check_at <= self.now.monotonic)
    }

    fn policy(&self, h: HierarchyIndex, r: ResourceIndex) -> Policy {
        let recovery = self.local(h).hierarchy.resource(r).recovery;
        Policy { recovery, recent_recoveries: self.recent_recoveries(h, r) }
    }

    /// The local recoveries that count: those in the window.
    pub(super) fn recent_recoveries(&self, h: HierarchyIndex, r: ResourceIndex) -> u32 {
        let window = self.local(h).hierarchy.resource(r).recovery.window;
        let recoveries = self.durable_resource(h, r).recoveries.iter();
        recoveries.filter(|at| self.now.unix.distance(**at) < window).count() as u32
    }

    /// A thorough check of a resource in service here has come to something. Where it cannot tell, quick-check is asked.
    pub(super) fn deep_checked(&mut self, h: HierarchyIndex, r: ResourceIndex, look: Look) {
        let resource = self.resource_mut(h, r);
        let confirms = matches!(resource.ladder.stage(), Stage::SecondLook(_) | Stage::Verifying(_));
        let (deep, tells) = match &look.0 {
            Seen::Good => (Deep::Well, true),
            Seen::Bad(_) => (Deep::Doubt, true),
            Seen::TimedOut(_) => (Deep::Doubt, !confirms),
            Seen::CannotTell(_) => (Deep::Blind, false),
        };
        let before = core::mem::replace(&mut resource.deep, deep);
        if tells {
            return self.checked(h, r, "deep-check", look);
        }
        if let (Seen::CannotTell(why) | Seen::TimedOut(why), _) = look
            && before == Deep::Well
        {
            let what = What::BadCheck { text: why, then: "what quick-check says counts".to_string() };
            self.event_of(EventSeverity::Warning, h, Some(r), what);
        }
        self.check(h, r, Purpose::Check, self.now.monotonic);
    }

    /// A check of a resource in service here has come to something.
    pub(super) fn checked(&mut self, h: HierarchyIndex, r: ResourceIndex, by: &'static str, look: Look) {
        let (seen, report) = look;
        let policy = self.policy(h, r);
        let resource = self.resource_mut(h, r);
        if report.is_some() {
            resource.report = report;
        }
        resource.looked = true;
        resource.held = false;
        let good = seen == Seen::Good;
        let said = match &seen {
            Seen::Good => None,
            Seen::Bad(why) | Seen::TimedOut(why) | Seen::CannotTell(why) => Some(why.clone()),
        };
        let step = resource.ladder.checked(seen, by, policy);
        self.mark(h, r);
        if good {
            self.is_well(h, r);
        }
        self.climb(h, r, step, said);
    }

    /// A resource was seen to be well: what was not known of it is known now, and what waited for it need not wait.
    fn is_well(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        let unfinished = self.durable_resource(h, r).operation.as_ref().is_some_and(|operation| !operation.running);
        if unfinished || self.durable_resource(h, r).failure.is_some() {
            self.end_operation(h, r, Ended::Well);
        }
        if self.local(h).stranded.is_some() && self.first_hopeless(h).is_none() {
            self.local_mut(h).stranded = None;
            self.mark_all(h);
        }
        for ancestor in self.local(h).hierarchy.with_ancestors(r) {
            if core::mem::take(&mut self.resource_mut(h, ancestor).held) {
                self.schedule_check(h, ancestor, self.now.monotonic);
            }
        }
    }

    /// Repairs that had to wait for a proof of ownership need not any more.
    pub(super) fn look_at_what_waited(&mut self, h: HierarchyIndex) {
        for r in self.local(h).hierarchy.resources() {
            if core::mem::take(&mut self.resource_mut(h, r).held) {
                self.schedule_check(h, r, self.now.monotonic);
            }
        }
    }

    /// Does what the ladder says.
    fn climb(&mut self, h: HierarchyIndex, r: ResourceIndex, step: Step, said: Option<String>) {
        let then = match &step {
            Step::Wait => "nothing is done yet".to_string(),
            Step::LookAgain => "looking again at once".to_string(),
            Step::Recover { .. } => match self.recovery_waits_for(h, r) {
                None => "local recovery".to_string(),
                Some(what) => alloc::format!("{WAITS}{what}"),
            },
            Step::GiveUp(_) => "no more can be done here".to_string(),
        };
        if let Some(text) = said {
            let resource = self.resource(h, r);
            // The same words again and again would hide everything else.
            let goes_on = matches!(step, Step::Wait | Step::GiveUp(_)) || then.starts_with(WAITS);
            let worth_saying = !goes_on || resource.ladder.bad_checks() <= 1;
            if worth_saying {
                self.event_of(EventSeverity::Warning, h, Some(r), What::BadCheck { text, then });
            }
        }
        match step {
            Step::Wait => {}
            Step::LookAgain => {
                if self.resource(h, r).able.deep_check {
                    self.deep_check(h, r);
                } else {
                    self.check(h, r, Purpose::Check, self.now.monotonic);
                }
                self.look_below(h, r);
            }
            Step::Recover { found_by, .. } => {
                if self.recovery_waits_for(h, r).is_some() {
                    let resource = self.resource_mut(h, r);
                    resource.ladder.hold();
                    resource.held = true;
                } else {
                    self.recover(h, r, found_by);
                }
            }
            Step::GiveUp(why) => {
                let why = alloc::format!("{} is failed: {why}", self.tag(h, r));
                self.consider_failover(h, &why);
            }
        }
    }

    /// Something is bad: it may be because of what it depends on, which is looked at before anything is done.
    fn look_below(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        for child in self.local(h).hierarchy.with_descendants(r).into_iter().skip(1) {
            let resource = self.resource(h, child);
            let free = resource.call.is_none()
                && !resource.leftover
                && resource.step.is_none()
                && !resource.ladder.is_suspect();
            if free && self.durable_resource(h, child).presence == Presence::In {
                self.check(h, child, Purpose::Check, self.now.monotonic);
            }
        }
    }

    fn recover(&mut self, h: HierarchyIndex, r: ResourceIndex, found_by: &'static str) {
        let resource = self.resource(h, r);
        let failure = Failure { found_by, report: resource.report.clone(), bad_checks: resource.ladder.bad_checks() };
        self.begin_operation(h, r, OperationKind::Recover, Cause::FailedCheck, Some(failure));
    }

    /// Why a bad resource is not repaired now.
    pub(super) fn recovery_waits_for(&self, h: HierarchyIndex, r: ResourceIndex) -> Option<String> {
        if !self.is_owner(h) {
            return Some("this node is not the owner".into());
        }
        if self.durable(h).maintenance.on {
            return Some("it is in maintenance".into());
        }
        if !self.local(h).proven {
            return Some("this daemon has no proof of ownership yet (O3)".into());
        }
        match &self.durable(h).intent {
            Intent::Serve(_) => {}
            Intent::Halt(_) => return Some("nothing is done until the operator says what".into()),
            Intent::Rest | Intent::Leave(..) => return Some("it is being taken out of service".into()),
        }
        let local = self.local(h);
        let below = local.hierarchy.with_descendants(r);
        let first =
            |is: &dyn Fn(&LocalResource) -> bool| below.iter().skip(1).find(|child| is(&local.resources[child.at()]));
        if let Some(child) = first(&|resource| resource.ladder.is_suspect()) {
            return Some(alloc::format!("{}, which it depends on, is not well", local.hierarchy.tag(*child)));
        }
        first(&|resource| resource.call.is_some())
            .map(|child| alloc::format!("{}, which it depends on, is being looked at", local.hierarchy.tag(*child)))
    }

    /// Local recovery says it did it, or nobody knows: a look tells.
    pub(super) fn repaired(&mut self, h: HierarchyIndex, r: ResourceIndex, restart_dependents: bool) {
        let step = self.resource_mut(h, r).ladder.recovered();
        if self.resource(h, r).step.is_none() {
            self.climb(h, r, step, None);
        }
        if restart_dependents
            && matches!(self.durable(h).intent, Intent::Serve(_))
            && !self.local(h).hierarchy.parents(r).is_empty()
        {
            self.run_plan(h, Goal::DependentsRestarted(r), Cause::RestartDependents);
        }
    }

    /// Local recovery did not do it.
    pub(super) fn not_repaired(&mut self, h: HierarchyIndex, r: ResourceIndex, why: String, again: bool) {
        let policy = self.policy(h, r);
        let step = self.resource_mut(h, r).ladder.recovery_failed(why, again, policy);
        self.climb(h, r, step, None);
        self.mark(h, r);
    }

    /// A check of a resource that should not be in service here (O21).
    pub(super) fn standby_checked(&mut self, h: HierarchyIndex, r: ResourceIndex, outcome: Outcome) {
        let (_, report) = see(outcome);
        let found = report.as_ref().filter(|report| {
            let serves = matches!(report.health, Health::Healthy | Health::Degraded);
            serves && !report.unmonitored && !report.concurrent
        });
        let found = found.map(|report| report.summary.clone());
        // A check that cannot tell does not say that what was found is gone.
        let tells = report.as_ref().is_some_and(|report| report.health != Health::Unknown);
        let resource = self.resource_mut(h, r);
        let violation = found.or_else(|| resource.violation.clone().filter(|_| !tells));
        let first = !core::mem::replace(&mut resource.looked, true);
        resource.report = report;
        if resource.violation != violation || first {
            resource.violation = violation;
            self.mark(h, r);
            self.tell.ownership();
            self.touch(h);
        }
        let resource = self.resource(h, r);
        if resource.able.readiness && resource.violation.is_none() {
            self.assess(h, r);
        }
    }

    /// A kit has said whether this node is ready. What it could not tell does not say that what was found is gone.
    pub(super) fn assessed(&mut self, h: HierarchyIndex, r: ResourceIndex, outcome: Outcome) {
        if let Outcome::Findings(findings) = outcome {
            // An owner is asked only when it is examined, and is not kept from anything by what is found.
            if !self.is_owner(h) {
                self.found(h, r, findings);
            }
        }
    }

    pub(super) fn found(&mut self, h: HierarchyIndex, r: ResourceIndex, findings: Vec<Finding>) {
        let resource = self.resource_mut(h, r);
        if resource.findings != findings {
            resource.findings = findings;
            let again = self.now.monotonic + self.check_interval(h, r);
            self.schedule_check(h, r, again);
            self.mark(h, r);
            self.tell.ownership();
            self.touch(h);
        }
    }

    /// What a kit found that keeps this node from bringing the resource in service.
    pub(super) fn blocking(&self, h: HierarchyIndex, r: ResourceIndex) -> impl Iterator<Item = &Finding> {
        let counts = !self.is_owner(h);
        self.resource(h, r).findings.iter().filter(move |finding| counts && finding.weight == Weight::Blocking)
    }
}

/// What a check means for the ladder, and what it said if it said anything.
pub(super) type Look = (Seen, Option<CheckReport>);

/// What its outcome comes to.
pub(super) fn see(outcome: Outcome) -> Look {
    match outcome {
        Outcome::Report(report) => {
            let seen = match report.health {
                Health::Healthy | Health::Degraded => Seen::Good,
                Health::Stopped | Health::Failed => Seen::Bad(report.summary.clone()),
                Health::Unknown if report.timed_out => Seen::TimedOut(report.summary.clone()),
                Health::Unknown => Seen::CannotTell(report.summary.clone()),
            };
            (seen, Some(report))
        }
        Outcome::Error { code, message, .. } => (Seen::CannotTell(alloc::format!("{message} ({code})")), None),
        Outcome::Fault { kind: FaultKind::Timeout, message } => (Seen::TimedOut(message), None),
        Outcome::Fault { message, .. } => (Seen::CannotTell(message), None),
        Outcome::Done { .. } | Outcome::Recovery { .. } | Outcome::Findings(_) => {
            (Seen::CannotTell("the answer was not one to quick-check".to_string()), None)
        }
    }
}

/// A number that is the same for the same seed and resource, and looks like any other (splitmix64).
fn scatter(seed: u64, h: HierarchyIndex, r: ResourceIndex) -> u64 {
    let mut z =
        seed.wrapping_add((u64::from(h.0) << 32 | u64::from(r.0)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
