//! What a kit is asked and what comes of it, in plain types.
//!
//! They mirror the contract's (`wit/types.wit`), so that nothing outside this crate sees a generated type.
//! [`Outcome`] keeps apart what the *kit* answered and what the *host* says when there is no answer.

use std::fmt;

use serde::Serialize;

/// Named extras. A reader ignores keys it does not know; keys are listed in `wit/README.md`.
pub type Details = Vec<(String, String)>;

/// What a kit is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Bring in service.
    Restore,
    /// Take out of service.
    Remove,
    /// Look, change nothing.
    QuickCheck,
    /// Look thoroughly, change nothing; of kits that have the ability.
    DeepCheck,
    /// Repair on this node what this says is broken.
    Recover(Failure),
    /// Say whether this node is ready to bring it in service; of kits that have the ability.
    Assess,
}

impl Operation {
    /// Its name, as the contract writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Remove => "remove",
            Self::QuickCheck => "quick-check",
            Self::DeepCheck => "deep-check",
            Self::Recover(_) => "recover",
            Self::Assess => "assess",
        }
    }
}

/// What a check saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Serves as it should.
    Healthy,
    /// Serves, but a person should look.
    Degraded,
    /// Does not run: out of service, nothing left behind.
    Stopped,
    /// Ought to serve and does not, or is half there.
    Failed,
    /// The check could not tell. Never taken as failed.
    Unknown,
}

/// The answer of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What it saw.
    pub health: Health,
    /// Stable, for programs.
    pub code: String,
    /// A sentence a person can act on.
    pub summary: String,
    /// Named extras.
    pub details: Details,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// A restore would succeed, but a person should look.
    Warning,
    /// A restore would fail here, or harm.
    Blocking,
}

/// One thing that was found about whether this node is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// Stable, for programs.
    pub code: String,
    /// What was found.
    pub summary: String,
    /// What to do about it.
    pub advice: String,
    /// Named extras.
    pub details: Details,
}

/// The answer of restore and remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// False when there was nothing to do.
    pub changed: bool,
    /// A sentence a person can read.
    pub summary: String,
    /// Named extras.
    pub details: Details,
}

/// What recover is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Who found it: `quick-check`, `timeout`, ...
    pub found_by: String,
    /// What it said, if it said anything.
    pub report: Option<Report>,
    /// How many bad checks in a row.
    pub bad_checks: u32,
    /// Named extras.
    pub details: Details,
}

/// What a recovery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// In service again; what depends on it may stay as it is.
    Recovered,
    /// In service again; what depends on it has to be restarted.
    RestartDependents,
    /// Not to be repaired here.
    GiveUp,
}

/// The answer of recover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryResult {
    /// What it came to.
    pub verdict: Verdict,
    /// A sentence a person can read.
    pub summary: String,
    /// Named extras.
    pub details: Details,
}

/// The closed set of what a kit may say went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The params cannot be right.
    InvalidParams,
    /// Somebody refused.
    Denied,
    /// Somebody is not there.
    Unavailable,
    /// Somebody else holds it.
    Conflict,
    /// It took too long.
    Timeout,
    /// This cannot be done with what is there.
    Unsupported,
    /// It did not work.
    Failed,
}

/// Where trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// On this node.
    Here,
    /// On another node.
    Elsewhere,
    /// Nowhere, until somebody changes something.
    Nowhere,
}

/// What a failed operation left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Nothing.
    None,
    /// A part of it.
    Partial,
    /// Not known.
    Unknown,
}

/// A kit's own error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KitError {
    /// Which sort.
    pub kind: ErrorKind,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// Where trying again may help.
    pub retry: Retry,
    /// When, in ms from now, if the kit knows.
    pub retry_after_ms: Option<u32>,
    /// What it left behind.
    pub effect: Effect,
    /// Named extras.
    pub details: Details,
}

impl fmt::Display for KitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// restore or remove succeeded.
    Done(Done),
    /// quick-check answered.
    Report(Report),
    /// recover answered.
    Recovery(RecoveryResult),
    /// assess answered: what matters most comes first.
    Findings(Vec<Finding>),
    /// The kit says that it could not.
    Error(KitError),
    /// There is no answer of the kit: the host says why.
    Fault(Fault),
}

/// Why there is no answer of the kit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The kit broke a rule of WebAssembly or of the contract: its bug. (Or the host broke down over it, and says so.)
    Trap,
    /// The call's budget was spent.
    WallTimeout,
    /// The kit computed for longer than a call may.
    CpuTimeout,
    /// The kit wanted more memory than a call may have, and stopped because it did not get it.
    OutOfMemory,
    /// The resource does not grant what the kit needs. The kit was not started.
    Denied,
    /// The host could not make the call. The kit was not started.
    Unavailable,
    /// The caller took the call back.
    Cancelled,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::WallTimeout => "wall timeout",
            Self::CpuTimeout => "cpu timeout",
            Self::OutOfMemory => "out of memory",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What the host says when there is no answer of the kit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Which sort.
    pub kind: FaultKind,
    /// Which kit and version, which operation, what happened, what to do.
    pub message: String,
    /// What was going on.
    pub evidence: Evidence,
}

impl Fault {
    /// Whether the kit was started at all: if not, nothing was changed by this call.
    #[must_use]
    pub fn kit_started(&self) -> bool {
        self.evidence.started
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What was going on when a call ended without an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Whether the kit's code was entered.
    pub started: bool,
    /// From the beginning of the call to its end, waiting for a slot included.
    pub wall_ms: u64,
    /// Processor time the call used.
    pub cpu_ms: u64,
    /// The host function it was in.
    pub inside: Option<Inside>,
    /// The command that was running and had to be ended.
    pub command: Option<CommandEvidence>,
    /// Where in the kit it was, innermost first; cut after a page.
    pub backtrace: Vec<String>,
}

/// The host function a call was in when it was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// Such as `command.run`.
    pub function: &'static str,
    /// What it was doing, such as the command line or the address.
    pub doing: String,
    /// For how long it had been, in ms.
    pub for_ms: u64,
}

/// A command that was ended because its call was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandEvidence {
    /// Program and arguments.
    pub command_line: String,
    /// How it ended, or that it has not.
    pub ending: String,
    /// The newest of what it wrote.
    pub stdout: String,
    /// The newest of what it complained.
    pub stderr: String,
    /// The process tree as it was before it was ended: one line per process.
    pub processes: Vec<String>,
}
