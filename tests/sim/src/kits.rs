//! Applications and what a kit says of them. The application is the truth; the kit may be slow, fail, hang or lie.

use mainstay_core::node::{CheckReport, FaultKind, Finding, Health, Operation, Outcome, RetryWhere, Verdict, Weight};
use mainstay_core::time::Millis;

/// What a kit does when it is asked something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What it is for.
    Well,
    /// Fails, leaving nothing behind.
    Fails,
    /// Fails, leaving a part behind.
    FailsHalf,
    /// Fails, and says that it may work if tried again here.
    FailsForNow,
    /// Traps after having done it.
    Traps,
    /// Does it, and never answers.
    Hangs,
    /// Recover: gives up.
    GivesUp,
    /// Recover: repairs it, and wants what depends on it restarted.
    RestartsDependents,
    /// Recover: says that it did it, and did not.
    Lies,
    /// Check: cannot tell.
    CannotTell,
    /// Deep-check: it does not serve, although it looks as if it did.
    FindsFault,
    /// Check: the kit knows nothing of its health.
    Unmonitored,
    /// Assess: something keeps restore from succeeding here.
    NotReady,
}

impl Answer {
    /// From a script's word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "well" => Self::Well,
            "fails" => Self::Fails,
            "fails-half" => Self::FailsHalf,
            "fails-for-now" => Self::FailsForNow,
            "traps" => Self::Traps,
            "hangs" => Self::Hangs,
            "gives-up" => Self::GivesUp,
            "restarts-dependents" => Self::RestartsDependents,
            "lies" => Self::Lies,
            "cannot-tell" => Self::CannotTell,
            "finds-fault" => Self::FindsFault,
            "unmonitored" => Self::Unmonitored,
            "not-ready" => Self::NotReady,
            _ => return None,
        })
    }
}

/// One application on one machine, and its kit's manners.
#[derive(Clone, Debug)]
pub struct App {
    /// It runs.
    pub running: bool,
    /// It runs and does not serve.
    pub broken: bool,
    /// It ended by itself, which no host can know before it looks.
    pub crashed: bool,
    /// Somebody started it by hand, past mainstay.
    pub by_hand: bool,
    /// How restore answers.
    pub restore: Answer,
    /// How remove answers.
    pub remove: Answer,
    /// How quick-check answers.
    pub check: Answer,
    /// How deep-check answers.
    pub deep_check: Answer,
    /// How recover answers.
    pub recover: Answer,
    /// How assess answers.
    pub assess: Answer,
    /// What restore and remove take.
    pub takes: Millis,
}

impl Default for App {
    fn default() -> Self {
        Self {
            running: false,
            broken: false,
            crashed: false,
            by_hand: false,
            restore: Answer::Well,
            remove: Answer::Well,
            check: Answer::Well,
            deep_check: Answer::Well,
            recover: Answer::Well,
            assess: Answer::Well,
            takes: Millis(10),
        }
    }
}

/// What comes of a call: what it does to the application, when it answers (never, if none), and what.
pub struct Reaction {
    /// What the application is afterwards: running, broken; none: nothing is done to it.
    pub becomes: Option<(bool, bool)>,
    /// How long it takes; none: it never answers.
    pub takes: Option<Millis>,
    /// What it says.
    pub outcome: Outcome,
}

impl App {
    /// It ends by itself.
    pub fn crash(&mut self) {
        self.crashed |= self.running;
        self.running = false;
    }

    /// What a call has made of it.
    pub fn become_(&mut self, becomes: Option<(bool, bool)>) {
        let Some((running, broken)) = becomes else { return };
        self.crashed &= self.running == running;
        // What was brought in service over it is no longer somebody's own.
        self.by_hand = false;
        (self.running, self.broken) = (running, broken);
    }

    /// What comes of this call.
    pub fn react(&self, operation: &Operation) -> Reaction {
        let (answer, takes, done) = match operation {
            Operation::Restore => (&self.restore, self.takes, Some((true, false))),
            Operation::Remove => (&self.remove, self.takes, Some((false, false))),
            Operation::QuickCheck => (&self.check, Millis(2), None),
            Operation::DeepCheck => (&self.deep_check, Millis(20), None),
            Operation::Assess => (&self.assess, Millis(2), None),
            Operation::Recover(_) => (&self.recover, self.takes, Some((true, false))),
        };
        let is = None;
        let half = match operation {
            Operation::Restore => Some((true, true)),
            Operation::Remove
            | Operation::QuickCheck
            | Operation::DeepCheck
            | Operation::Recover(_)
            | Operation::Assess => is,
        };
        let (becomes, outcome) = match answer {
            Answer::Well => (done, self.well(operation, Verdict::Recovered)),
            Answer::Lies => (is, self.well(operation, Verdict::Recovered)),
            Answer::RestartsDependents => (done, self.well(operation, Verdict::RestartDependents)),
            Answer::GivesUp => (is, self.well(operation, Verdict::GiveUp)),
            Answer::Fails => (is, error(RetryWhere::Elsewhere)),
            Answer::FailsHalf => (half, error(RetryWhere::Elsewhere)),
            Answer::FailsForNow => (is, error(RetryWhere::Here)),
            Answer::Traps => (done, fault(FaultKind::Trap, "the kit trapped")),
            Answer::Hangs => (done, fault(FaultKind::Timeout, "no answer within the budget")),
            Answer::CannotTell => (is, error(RetryWhere::Here)),
            Answer::FindsFault => (is, Outcome::Report(report(Health::Failed, "nothing comes back", false))),
            Answer::NotReady => (is, Outcome::Findings(vec![no_room()])),
            Answer::Unmonitored => (is, Outcome::Report(report(Health::Healthy, "not monitored", true))),
        };
        let takes = (*answer != Answer::Hangs).then_some(takes);
        Reaction { becomes, takes, outcome }
    }

    fn well(&self, operation: &Operation, verdict: Verdict) -> Outcome {
        match operation {
            Operation::Restore => Outcome::Done { summary: "started".into() },
            Operation::Remove => Outcome::Done { summary: "stopped".into() },
            Operation::Recover(_) => Outcome::Recovery { verdict, summary: "did what it could".into() },
            Operation::Assess => Outcome::Findings(Vec::new()),
            Operation::QuickCheck | Operation::DeepCheck => Outcome::Report(match (self.running, self.broken) {
                (true, false) => report(Health::Healthy, "serves", false),
                (true, true) => report(Health::Failed, "does not answer", false),
                (false, _) => report(Health::Stopped, "does not run", false),
            }),
        }
    }
}

fn report(health: Health, summary: &str, unmonitored: bool) -> CheckReport {
    CheckReport {
        health,
        code: "sim".into(),
        summary: summary.into(),
        unmonitored,
        concurrent: false,
        timed_out: false,
    }
}

fn no_room() -> Finding {
    Finding {
        weight: Weight::Blocking,
        code: "sim".into(),
        summary: "there is no room for it".into(),
        advice: "Make room".into(),
    }
}

fn error(retry: RetryWhere) -> Outcome {
    Outcome::Error { code: "sim".into(), message: "it did not work".into(), retry, retry_after: None }
}

/// No answer of the kit.
pub fn fault(kind: FaultKind, message: &str) -> Outcome {
    Outcome::Fault { kind, message: message.into() }
}
