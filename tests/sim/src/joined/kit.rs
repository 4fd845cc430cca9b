//! What the volume's kit does: restore promotes the copy on the basis that the host gave, remove demotes it, quick-check
//! tells whether it serves, assess whether it could be promoted here.

use mainstay_core::node::{CheckReport, Finding, Health, Operation, Outcome, RetryWhere, Verdict, Weight};
use mainstay_core::volume::ToVolume;
use mainstay_volume_core::io::{Basis, OperatorId, OperatorRequest, Refusal};
use mainstay_volume_core::status::{LinkState, Promotion, Role, Status};

use super::world::Joined;
use crate::world::KitCall;

/// A restore that is refused while the copies may still be getting together tries again this long, in ms.
const PATIENCE: u64 = 1_500;
/// And so often.
const AGAIN: u64 = 200;

/// A call that has asked the process for something, or is about to once more.
#[derive(Clone, Debug)]
pub struct Asking {
    call: KitCall,
    began: u64,
    /// On what it wants a promotion to rest.
    basis: Option<Basis>,
}

impl Joined {
    fn status(&self, m: usize) -> Option<Status> {
        self.volume.machines[m].volume.as_ref().map(mainstay_volume_core::volume::Volume::status)
    }

    /// The kit is called.
    pub(super) fn kit_is_called(&mut self, m: usize, call: KitCall) {
        let asking = Asking { call, began: self.now(), basis: None };
        self.kit_does(m, asking);
    }

    fn kit_does(&mut self, m: usize, asking: Asking) {
        let Some(status) = self.status(m) else { return self.without_process(&asking.call) };
        let (role, link) = (status.role, status.link);
        match (&asking.call.operation, self.daemons[m].right.clone()) {
            (Operation::QuickCheck | Operation::DeepCheck, _) => {
                let (health, what) = match role {
                    Role::Source => (Health::Healthy, "it serves"),
                    Role::Target => (Health::Stopped, "this copy is the target"),
                };
                self.cluster.answer_call(&asking.call, report(health, what));
            }
            (Operation::Assess, _) => {
                let findings = match status.promotion {
                    Promotion::Free | Promotion::Confirm { .. } => Vec::new(),
                    Promotion::Force(why) | Promotion::Never(why) => vec![blocking(&why)],
                };
                if !findings.is_empty() {
                    self.volume.count("kit: not ready");
                }
                self.cluster.answer_call(&asking.call, Outcome::Findings(findings));
            }
            (Operation::Remove, _) => self.ask_process(m, OperatorRequest::Demote, asking),
            (Operation::Restore | Operation::Recover(_), _) if role == Role::Source => {
                self.cluster.answer_call(&asking.call, done(&asking.call.operation, "this copy serves"));
            }
            (Operation::Restore | Operation::Recover(_), Some(ToVolume::Right { basis, .. })) => {
                let basis = self.basis(m, &basis);
                self.volume.may_lose[m] = self.may_lose(m, basis);
                self.ask_process(m, OperatorRequest::Promote(basis), Asking { basis: Some(basis), ..asking });
            }
            (Operation::Restore | Operation::Recover(_), _) => {
                let why = format!("the host has given no right to write; the mirror is {link:?}");
                self.cluster.answer_call(&asking.call, error(why, RetryWhere::Here));
            }
        }
    }

    fn ask_process(&mut self, m: usize, request: OperatorRequest, asking: Asking) {
        let before = self.volume.next_operator();
        self.askings.insert((m, before), asking);
        let id = self.volume.operate(m, request);
        debug_assert_eq!(id, before, "the number that was to come next");
    }

    /// The process has answered.
    pub(super) fn kit_hears(&mut self, m: usize, id: OperatorId, result: Result<(), Refusal>) {
        let Some(asking) = self.askings.remove(&(m, id)) else { return };
        let (call, link) = (asking.call.clone(), self.status(m).map(|status| status.link));
        let restores = !matches!(call.operation, Operation::Remove);
        let marked = asking.basis == Some(Basis::Arbiter { marked: true });
        if marked && matches!(result, Err(Refusal::Copy { .. })) {
            self.volume.count("not promoted: marked");
        }
        let outcome = match result {
            Ok(()) if restores => {
                if let Some(basis) = asking.basis {
                    self.judge_together(m, basis);
                    self.volume.count(&format!("promoted: {basis:?}"));
                }
                done(&call.operation, "this copy serves")
            }
            Ok(()) => done(&call.operation, "this copy is the target"),
            // They may find out about each other in a moment.
            Err(Refusal::Copy { .. } | Refusal::NoRight)
                if restores
                    && matches!(link, Some(LinkState::Broken | LinkState::Greeting))
                    && self.now() < asking.began + PATIENCE =>
            {
                self.later.push((self.now() + AGAIN, m, asking));
                return;
            }
            Err(Refusal::Copy { state, what }) => {
                self.volume.count(&format!("not promoted: {state}"));
                // What is only last known good waits for the other copy, here.
                let here = state == "last known good";
                let retry = if here { RetryWhere::Here } else { RetryWhere::Elsewhere };
                error(format!("a copy that is {state} is not promoted: {what}"), retry)
            }
            Err(why @ Refusal::Backing(_)) => error(why.to_string(), RetryWhere::Elsewhere),
            Err(why) => error(why.to_string(), RetryWhere::Here),
        };
        self.cluster.answer_call(&call, outcome);
    }

    /// What was to be tried again by now is.
    pub(super) fn kits_try_again(&mut self) {
        let now = self.now();
        let due: Vec<(u64, usize, Asking)> = self.later.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, m, asking) in due {
            self.kit_does(m, asking);
        }
    }

    /// The process of a machine has ended: nothing that it was asked comes to anything.
    pub(super) fn kits_lose(&mut self, m: usize) {
        let lost: Vec<(usize, OperatorId)> = self.askings.keys().filter(|(at, _)| *at == m).copied().collect();
        for key in lost {
            if let Some(asking) = self.askings.remove(&key) {
                self.without_process(&asking.call);
            }
        }
        self.later.retain(|(_, at, _)| *at != m);
    }

    fn without_process(&mut self, call: &KitCall) {
        let outcome = match call.operation {
            Operation::QuickCheck | Operation::DeepCheck => report(Health::Stopped, "its process does not run"),
            Operation::Assess => Outcome::Findings(vec![blocking("its process does not run")]),
            Operation::Remove => done(&call.operation, "its process does not run"),
            Operation::Restore | Operation::Recover(_) => error("its process does not run".into(), RetryWhere::Here),
        };
        self.cluster.answer_call(call, outcome);
    }
}

fn done(operation: &Operation, summary: &str) -> Outcome {
    let summary = summary.to_owned();
    match operation {
        Operation::Recover(_) => Outcome::Recovery { verdict: Verdict::Recovered, summary },
        Operation::Restore | Operation::Remove | Operation::QuickCheck | Operation::DeepCheck | Operation::Assess => {
            Outcome::Done { summary }
        }
    }
}

fn report(health: Health, summary: &str) -> Outcome {
    Outcome::Report(CheckReport {
        health,
        code: "volume".into(),
        summary: summary.into(),
        unmonitored: false,
        concurrent: false,
        timed_out: false,
    })
}

fn blocking(why: &str) -> Finding {
    Finding {
        weight: Weight::Blocking,
        code: "volume".into(),
        summary: why.into(),
        advice: "Let the two copies get together".into(),
    }
}

fn error(message: String, retry: RetryWhere) -> Outcome {
    Outcome::Error { code: "volume".into(), message, retry, retry_after: None }
}
