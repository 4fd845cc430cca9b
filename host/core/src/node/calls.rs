//! Kit calls: at most one for a resource at a time; what an outcome means for the operation it belongs to.
//!
//! An operation is recorded before its first call (O23) and ends with a record. One whose outcome nobody knows is
//! looked at first, then tried again under the same id. A check is recorded never: it changes nothing.

use alloc::string::{String, ToString};

use super::Node;
use super::checks::see;
use super::io::{
    Call, CallId, Failure, FaultKind, Health, Operation, Outcome, Output, RecordNumber, RetryWhere, Verdict,
};
use super::local::{ActiveCall, Deep, Purpose};
use super::timers::{HierarchyIndex, Timer};
use crate::hierarchy::ResourceIndex;
use crate::plan::{Presence, StepKind};
use crate::planted::{self, Bug};
use crate::state::{Cause, Ended, OperationKind, OperationState, Record};
use crate::status::{EventSeverity, What};
use crate::time::{Millis, Monotonic};

/// Attempts of an operation whose outcome is not known: the second finds out what the first has done. A kit that
/// hangs twice hangs a third time.
const UNKNOWN_ATTEMPTS_MAX: u32 = 2;
/// Attempts of an operation that the kit says may succeed if tried again here.
const FAILED_ATTEMPTS_MAX: u32 = 3;
/// Attempts of an operation whatever ended them. Those whose daemon went away do not count against the kit; but when so
/// many daemons have, it may be what ends them.
const ATTEMPTS_MAX: u32 = 10;
/// Between such attempts, unless the kit says how long.
const RETRY_AFTER: Millis = Millis::from_secs(1);
/// And at the most, whatever it says: a standby may do better than a long wait.
const RETRY_AFTER_MAX: Millis = Millis::from_secs(30);

/// What an outcome means for an operation.
enum Verdicts {
    Well(String),
    Badly { presence: Presence, why: String },
    Again { after: Millis, why: String },
    Unknown { why: String },
}

impl Node {
    /// Goes on with the step a resource is at, as soon as nothing else goes on with that resource.
    pub(super) fn pursue_step(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        let Some((_, kind, cause)) = self.step_of(h, r) else { return };
        if self.resource(h, r).leftover {
            return;
        }
        if let Some(call) = self.resource(h, r).call {
            let same = self.operation_running(h, r) == Some(operation_of(kind));
            if !same {
                self.cancel(call);
            }
            return;
        }
        self.timers.clear(Timer::Retry { hierarchy: h, resource: r });
        match &self.durable_resource(h, r).operation {
            // Nothing is issued again without a look.
            Some(operation) if operation.kind == operation_of(kind) => self.look(h, r),
            Some(_) | None => self.begin_operation(h, r, operation_of(kind), cause, None),
        }
    }

    /// The operation whose call is going on.
    fn operation_running(&self, h: HierarchyIndex, r: ResourceIndex) -> Option<OperationKind> {
        let call = self.resource(h, r).call?;
        let purpose = self.calls.get(&call)?.purpose;
        let operation = self.durable_resource(h, r).operation.as_ref()?;
        (purpose == Purpose::Operation).then_some(operation.kind)
    }

    /// Begins an operation, or its next attempt if it was begun before.
    pub(super) fn begin_operation(
        &mut self,
        h: HierarchyIndex,
        r: ResourceIndex,
        kind: OperationKind,
        cause: Cause,
        failure: Option<Failure>,
    ) {
        debug_assert!(
            kind == OperationKind::Remove || (self.is_owner(h) && self.local(h).proven),
            "only a proven owner brings something in service (O3)"
        );
        let before = self.durable_resource(h, r).operation.as_ref().filter(|operation| operation.kind == kind);
        let (id, attempt, unheard) = match before {
            Some(operation) => (operation.id.clone(), operation.attempt + 1, operation.unheard),
            None => (self.new_operation_id(), 1, 0),
        };
        let operation = OperationState { id: id.clone(), kind, attempt, cause, running: true, unheard };
        let (hierarchy, tag) = (self.name(h).clone(), self.tag(h, r).clone());
        self.record(Record::Began { hierarchy, tag, operation, at: self.now.unix });
        self.event_of(EventSeverity::Info, h, Some(r), What::OperationBegan { operation: kind, attempt, cause });
        let timeouts = self.local(h).hierarchy.resource(r).timeouts;
        let (operation, budget) = match kind {
            OperationKind::Restore => (Operation::Restore, timeouts.restore),
            OperationKind::Remove => (Operation::Remove, timeouts.remove),
            OperationKind::Recover => {
                let failure = failure.unwrap_or(Failure { found_by: "quick-check", report: None, bad_checks: 0 });
                (Operation::Recover(failure), timeouts.recover)
            }
        };
        let due = self.now.monotonic;
        self.call(h, r, Purpose::Operation, CallParts { operation, id, attempt, budget, cause: Some(cause), due });
        self.mark(h, r);
    }

    fn new_operation_id(&mut self) -> String {
        self.next_operation += 1;
        alloc::format!("{}-{}-{}", self.me, self.state.incarnation, self.next_operation)
    }

    /// Looks at what an operation has left.
    fn look(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        self.check(h, r, Purpose::Look, self.now.monotonic);
    }

    /// Calls quick-check.
    pub(super) fn check(&mut self, h: HierarchyIndex, r: ResourceIndex, purpose: Purpose, due: Monotonic) {
        let budget = self.local(h).hierarchy.resource(r).timeouts.quick_check;
        let id = alloc::format!("{}-{}-check-{}", self.me, self.state.incarnation, self.next_call);
        self.call(
            h,
            r,
            purpose,
            CallParts { operation: Operation::QuickCheck, id, attempt: 1, budget, cause: None, due },
        );
    }

    /// Calls deep-check.
    pub(super) fn deep_check(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        let spec = self.local(h).hierarchy.resource(r);
        let (budget, interval) = (spec.timeouts.deep_check, spec.deep_check_interval);
        let id = alloc::format!("{}-{}-deep-check-{}", self.me, self.state.incarnation, self.next_call);
        let due = self.now.monotonic;
        self.resource_mut(h, r).deep_check_at = due + interval;
        let parts = CallParts { operation: Operation::DeepCheck, id, attempt: 1, budget, cause: None, due };
        self.call(h, r, Purpose::DeepCheck, parts);
    }

    /// Asks the kit whether this node is ready.
    pub(super) fn assess(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        let budget = self.local(h).hierarchy.resource(r).timeouts.readiness;
        let id = alloc::format!("{}-{}-assess-{}", self.me, self.state.incarnation, self.next_call);
        let due = self.now.monotonic;
        let parts = CallParts { operation: Operation::Assess, id, attempt: 1, budget, cause: None, due };
        self.call(h, r, Purpose::Assess, parts);
    }

    fn call(&mut self, h: HierarchyIndex, r: ResourceIndex, purpose: Purpose, parts: CallParts) {
        debug_assert!(self.resource(h, r).call.is_none(), "at most one call for a resource at a time");
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.resource_mut(h, r).call = Some(id);
        let began = self.now.monotonic;
        self.calls.insert(id, ActiveCall { hierarchy: h, resource: r, purpose, cancelled: false, began });
        let epoch = self.durable(h).claim.as_ref().map(|claim| claim.id.epoch).unwrap_or_default();
        let CallParts { operation, id: operation_id, attempt, budget, cause, due } = parts;
        let call = Call { id, hierarchy: h, resource: r, operation, operation_id, attempt, epoch, budget, cause, due };
        let after = if planted::is(Bug::CallsBeforeRecords) { RecordNumber(0) } else { self.recorded };
        self.outputs.push_back(Output::CallKit(after, call));
    }

    pub(super) fn cancel(&mut self, call: CallId) {
        let Some(active) = self.calls.get_mut(&call) else { return };
        if !core::mem::replace(&mut active.cancelled, true) {
            self.outputs.push_back(Output::CancelKit(call));
        }
    }

    /// Ends every call of a hierarchy but operations of this kind.
    pub(super) fn cancel_all_but(&mut self, h: HierarchyIndex, kind: OperationKind) {
        for r in self.local(h).hierarchy.resources() {
            if let Some(call) = self.resource(h, r).call
                && self.operation_running(h, r) != Some(kind)
            {
                self.cancel(call);
            }
        }
    }

    /// A call has ended.
    pub(super) fn outcome(&mut self, id: CallId, outcome: Outcome) {
        let Some(call) = self.calls.remove(&id) else { return };
        let (h, r) = (call.hierarchy, call.resource);
        self.resource_mut(h, r).call = None;
        match call.purpose {
            Purpose::Check => {
                if !call.cancelled {
                    self.checked(h, r, "quick-check", see(outcome));
                }
            }
            Purpose::DeepCheck => {
                if !call.cancelled {
                    self.deep_checked(h, r, see(outcome));
                }
            }
            Purpose::StandbyCheck => {
                if !call.cancelled {
                    self.standby_checked(h, r, outcome);
                }
            }
            Purpose::Assess => {
                self.readiness_told(h, r, &outcome);
                if !call.cancelled {
                    self.assessed(h, r, outcome);
                }
            }
            Purpose::Look => {
                if !call.cancelled {
                    self.looked(h, r, &outcome);
                }
            }
            Purpose::Operation => self.operation_ended(h, r, &call, outcome),
        }
        // A step may have waited for the call to end.
        if self.resource(h, r).call.is_none() && self.timers.get(Timer::Retry { hierarchy: h, resource: r }).is_none() {
            self.pursue_step(h, r);
        }
        self.ask_readiness(h, r);
    }

    /// An operation of unknown outcome was looked at: either it did what it is for, or it is tried again.
    fn looked(&mut self, h: HierarchyIndex, r: ResourceIndex, outcome: &Outcome) {
        let Some((_, kind, cause)) = self.step_of(h, r) else { return };
        let Some(operation) =
            self.durable_resource(h, r).operation.clone().filter(|operation| operation.kind == operation_of(kind))
        else {
            return;
        };
        let serves = matches!(outcome, Outcome::Report(report)
            if matches!(report.health, Health::Healthy | Health::Degraded) && !report.unmonitored);
        if operation.kind == OperationKind::Restore && serves {
            self.end_operation(h, r, Ended::Well);
            self.resource_mut(h, r).looked = true;
            self.step_ended(h, r, None);
        } else if !may_try_again(&operation, UNKNOWN_ATTEMPTS_MAX) {
            let last = self
                .resource(h, r)
                .last_fault
                .as_ref()
                .map_or(String::new(), |why| alloc::format!("; the last: {why}"));
            let why = alloc::format!(
                "{} attempts of {} ended without a known outcome{last}",
                operation.attempt,
                operation.kind
            );
            self.end_operation(h, r, Ended::Badly(Presence::Unknown, why.clone()));
            self.step_ended(h, r, Some(&why));
        } else {
            self.begin_operation(h, r, operation.kind, cause, None);
        }
    }

    fn operation_ended(&mut self, h: HierarchyIndex, r: ResourceIndex, call: &ActiveCall, outcome: Outcome) {
        let Some(operation) = self.durable_resource(h, r).operation.clone() else { return };
        let took_ms = self.now.monotonic.since(call.began).0;
        if operation.kind == OperationKind::Recover {
            return self.recover_ended(h, r, &operation, took_ms, outcome);
        }
        let verdict = match judge(&operation, outcome) {
            Verdicts::Badly { why, .. }
                if planted::is(Bug::RemoveMayFail) && operation.kind == OperationKind::Remove =>
            {
                Verdicts::Well(why)
            }
            verdict @ (Verdicts::Well(_)
            | Verdicts::Badly { .. }
            | Verdicts::Again { .. }
            | Verdicts::Unknown { .. }) => verdict,
        };
        let (ok, text) = match &verdict {
            Verdicts::Well(text) => (true, text.clone()),
            Verdicts::Badly { why, .. } | Verdicts::Unknown { why } => (false, why.clone()),
            Verdicts::Again { after, why } => (false, alloc::format!("{why}; again in {after}")),
        };
        let severity = if ok { EventSeverity::Info } else { EventSeverity::Warning };
        self.event_of(severity, h, Some(r), What::OperationEnded { operation: operation.kind, ok, text, took_ms });
        let step = self.step_of(h, r).filter(|(_, kind, _)| operation_of(*kind) == operation.kind);
        match verdict {
            Verdicts::Well(_) => {
                self.end_operation(h, r, Ended::Well);
                let deep_check_at = self.now.monotonic + self.local(h).hierarchy.resource(r).deep_check_interval;
                let resource = self.resource_mut(h, r);
                resource.ladder = crate::ladder::Ladder::default();
                resource.report = None;
                resource.violation = None;
                resource.findings.clear();
                resource.looked = true;
                resource.deep = Deep::Well;
                resource.deep_check_at = deep_check_at;
                self.schedule_check(h, r, self.now.monotonic);
                if step.is_some() {
                    self.step_ended(h, r, None);
                }
            }
            Verdicts::Badly { presence, why } => {
                self.end_operation(h, r, Ended::Badly(presence, why.clone()));
                if step.is_some() {
                    self.step_ended(h, r, Some(&why));
                }
            }
            Verdicts::Again { after, .. } if step.is_some() => {
                let at = self.now.monotonic + after;
                self.timers.set(Timer::Retry { hierarchy: h, resource: r }, at);
            }
            Verdicts::Again { why, .. } | Verdicts::Unknown { why } => {
                self.resource_mut(h, r).last_fault = Some(why);
                self.end_operation(h, r, Ended::Unknown);
            }
        }
        self.touch(h);
    }

    pub(super) fn end_operation(&mut self, h: HierarchyIndex, r: ResourceIndex, ended: Ended) {
        self.record(Record::Ended { hierarchy: self.name(h).clone(), tag: self.tag(h, r).clone(), ended });
        self.mark(h, r);
        self.touch(h);
    }

    /// A failed operation is tried again, if its step is still wanted.
    pub(super) fn retry_due(&mut self, h: HierarchyIndex, r: ResourceIndex) {
        let Some((_, kind, cause)) = self.step_of(h, r) else { return };
        if self.resource(h, r).call.is_none() {
            self.begin_operation(h, r, operation_of(kind), cause, None);
        }
    }

    fn recover_ended(
        &mut self,
        h: HierarchyIndex,
        r: ResourceIndex,
        operation: &OperationState,
        took_ms: u64,
        outcome: Outcome,
    ) {
        let (ended, ok, text) = match &outcome {
            Outcome::Recovery { verdict: Verdict::Recovered | Verdict::RestartDependents, summary } => {
                (Ended::Well, true, summary.clone())
            }
            Outcome::Recovery { verdict: Verdict::GiveUp, summary } => {
                let why = alloc::format!("local recovery gave up: {summary}");
                (Ended::Badly(Presence::In, why.clone()), false, why)
            }
            Outcome::Error { code, message, .. } => {
                let why = alloc::format!("local recovery failed: {message} ({code})");
                (Ended::Badly(Presence::In, why.clone()), false, why)
            }
            Outcome::Fault { kind: FaultKind::Cancelled, message } => (Ended::Unknown, false, message.clone()),
            Outcome::Fault { message, .. } => (Ended::Unknown, false, alloc::format!("local recovery: {message}")),
            Outcome::Done { .. } | Outcome::Report(_) | Outcome::Findings(_) => {
                (Ended::Unknown, false, "the answer was not one to recover".to_string())
            }
        };
        let severity = if ok { EventSeverity::Info } else { EventSeverity::Warning };
        let what = What::OperationEnded { operation: operation.kind, ok, text: text.clone(), took_ms };
        self.event_of(severity, h, Some(r), what);
        self.end_operation(h, r, ended);
        match outcome {
            Outcome::Recovery { verdict: Verdict::Recovered, .. } => self.repaired(h, r, false),
            Outcome::Recovery { verdict: Verdict::RestartDependents, .. } => self.repaired(h, r, true),
            Outcome::Recovery { verdict: Verdict::GiveUp, .. } => self.not_repaired(h, r, text, false),
            Outcome::Error { retry, .. } => self.not_repaired(h, r, text, retry == RetryWhere::Here),
            Outcome::Fault { kind: FaultKind::Cancelled, .. } => {}
            // Nobody knows what it did: a look tells.
            Outcome::Fault { .. } | Outcome::Done { .. } | Outcome::Report(_) | Outcome::Findings(_) => {
                self.repaired(h, r, false)
            }
        }
    }

    /// What an earlier daemon had started for a resource is gone (O23).
    pub(super) fn leftover_gone(&mut self, tag: &crate::names::Tag) {
        let Some((h, r)) = self.by_tag.get(tag).copied() else { return };
        if !core::mem::take(&mut self.resource_mut(h, r).leftover) {
            return;
        }
        self.mark(h, r);
        if self.durable_resource(h, r).operation.as_ref().is_some_and(|operation| operation.running) {
            self.end_operation(h, r, Ended::Unheard);
        }
        self.pursue_step(h, r);
        self.schedule_check(h, r, self.now.monotonic);
        self.touch(h);
    }
}

struct CallParts {
    operation: Operation,
    id: String,
    attempt: u32,
    budget: Millis,
    cause: Option<Cause>,
    due: Monotonic,
}

/// Whether an operation that may have so many attempts may have another one.
fn may_try_again(operation: &OperationState, attempts_max: u32) -> bool {
    operation.attempt < ATTEMPTS_MAX && operation.attempt.saturating_sub(operation.unheard) < attempts_max
}

fn operation_of(kind: StepKind) -> OperationKind {
    match kind {
        StepKind::Restore => OperationKind::Restore,
        StepKind::Remove => OperationKind::Remove,
    }
}

/// What an outcome means for a restore or a remove.
fn judge(operation: &OperationState, outcome: Outcome) -> Verdicts {
    match outcome {
        Outcome::Done { summary } => Verdicts::Well(summary),
        Outcome::Error { code, message, retry, retry_after } => {
            let why = alloc::format!("{message} ({code})");
            if retry == RetryWhere::Here && may_try_again(operation, FAILED_ATTEMPTS_MAX) {
                let after = retry_after.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX);
                return Verdicts::Again { after, why };
            }
            // Whatever the kit says was left behind: remove is called before another node may own it.
            Verdicts::Badly { presence: Presence::Unknown, why }
        }
        // Not made this time; an earlier attempt may have been.
        Outcome::Fault { kind: FaultKind::NotMade, message } => {
            Verdicts::Badly { presence: Presence::Unknown, why: message }
        }
        Outcome::Fault {
            kind: FaultKind::Trap | FaultKind::Timeout | FaultKind::OutOfMemory | FaultKind::Cancelled,
            message,
        } => Verdicts::Unknown { why: message },
        Outcome::Report(_) | Outcome::Recovery { .. } | Outcome::Findings(_) => {
            Verdicts::Unknown { why: "the answer was to another question".to_string() }
        }
    }
}
