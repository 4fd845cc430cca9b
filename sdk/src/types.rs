//! What a kit is told and what it answers: the contract's types (`wit/types.wit`) as Rust types.
//!
//! Plain data with constructors that read well. They are the same natively and in a component, so
//! that kit logic and its tests never see generated bindings. Natively the constructors panic for a
//! code that is not as the contract wants it.

use std::fmt;

/// Named extras, in order. A reader ignores keys it does not know; known keys are listed in
/// `wit/README.md`.
pub type Details = Vec<(String, String)>;

/// What a kit is told with every call. It knows one resource: never the tree, the peers, the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context<P> {
    /// The resource's tag, unique in the cluster.
    pub tag: String,
    /// The node this call runs on.
    pub node: String,
    /// The kit's params, with this node's `params-on` merged in.
    pub params: P,
    /// The same for every attempt of one operation; unique otherwise.
    pub operation_id: String,
    /// 1 for the first. Above 1: an earlier attempt ended, and its effect may be there.
    pub attempt: u32,
    /// The hierarchy's ownership epoch: grows with every change of owner.
    pub epoch: u64,
    /// From the start of this call until the host drops it, in ms; see also [`crate::clock::remaining`].
    pub budget_ms: u32,
    /// `cause`, `force` and others: see `wit/README.md`.
    pub hints: Details,
}

impl<P> Context<P> {
    /// The hint named `key`, if the host gave it.
    #[must_use]
    pub fn hint(&self, key: &str) -> Option<&str> {
        find(&self.hints, key)
    }

    /// Why the host makes this call (`start`, `operator`, `switchover`, ...), if it says so.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        self.hint("cause")
    }

    /// Whether an operator insists.
    #[must_use]
    pub fn forced(&self) -> bool {
        self.hint("force") == Some("true")
    }
}

/// A code as the contract wants it, checked where tests run. A component tells what it has: an odd code is better
/// than a trap in service.
fn code(code: impl Into<String>) -> String {
    let code = code.into();
    #[cfg(not(target_arch = "wasm32"))]
    {
        let of = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        assert!(
            code.starts_with(|c: char| c.is_ascii_lowercase()) && !code.ends_with('-') && code.bytes().all(of),
            "{code:?} is no code: programs go by it, so it is in lower case, with hyphens, such as \"not-active\""
        );
    }
    code
}

fn find<'a>(details: &'a Details, key: &str) -> Option<&'a str> {
    details.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// What a check saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was seen.
    pub health: Health,
    /// Stable, for programs.
    pub code: String,
    /// A sentence a person can act on.
    pub summary: String,
    /// More, by name.
    pub details: Details,
}

impl Report {
    fn new(health: Health, code: impl Into<String>, summary: impl Into<String>) -> Self {
        Self { health, code: self::code(code), summary: summary.into(), details: Details::new() }
    }

    /// Serves as it should; code `ok`.
    pub fn healthy(summary: impl Into<String>) -> Self {
        Self::new(Health::Healthy, "ok", summary)
    }

    /// Serves, but a person should look.
    pub fn degraded(code: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(Health::Degraded, code, summary)
    }

    /// Out of service, nothing left behind; code `stopped`.
    pub fn stopped(summary: impl Into<String>) -> Self {
        Self::new(Health::Stopped, "stopped", summary)
    }

    /// Ought to serve and does not, or is half there.
    pub fn failed(code: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(Health::Failed, code, summary)
    }

    /// The check could not tell.
    pub fn unknown(code: impl Into<String>, summary: impl Into<String>) -> Self {
        Self::new(Health::Unknown, code, summary)
    }

    /// Another code than the constructor's.
    #[must_use]
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = self::code(code);
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.details.push((key.into(), value.to_string()));
        self
    }
}

/// What restore and remove say when they succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// False when there was nothing to do.
    pub changed: bool,
    /// One sentence.
    pub summary: String,
    /// More, by name.
    pub details: Details,
}

impl Done {
    /// Something was done.
    pub fn changed(summary: impl Into<String>) -> Self {
        Self { changed: true, summary: summary.into(), details: Details::new() }
    }

    /// It was so already.
    pub fn unchanged(summary: impl Into<String>) -> Self {
        Self { changed: false, summary: summary.into(), details: Details::new() }
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.details.push((key.into(), value.to_string()));
        self
    }
}

/// What recover is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who found it: `quick-check`, `timeout`, ...
    pub found_by: String,
    /// What the check said, if it said anything.
    pub report: Option<Report>,
    /// How many bad checks in a row.
    pub bad_checks: u32,
    /// More, by name.
    pub details: Details,
}

/// What a recovery came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In service again; what depends on it may stay as it is.
    Recovered,
    /// In service again; what depends on it has to be restarted.
    RestartDependents,
    /// Not to be repaired here.
    GiveUp,
}

/// The answer of recover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryResult {
    /// What it came to.
    pub verdict: Verdict,
    /// One sentence.
    pub summary: String,
    /// More, by name.
    pub details: Details,
}

impl RecoveryResult {
    fn new(verdict: Verdict, summary: impl Into<String>) -> Self {
        Self { verdict, summary: summary.into(), details: Details::new() }
    }

    /// In service again; what depends on it may stay as it is.
    pub fn recovered(summary: impl Into<String>) -> Self {
        Self::new(Verdict::Recovered, summary)
    }

    /// In service again; what depends on it has to be restarted.
    pub fn restart_dependents(summary: impl Into<String>) -> Self {
        Self::new(Verdict::RestartDependents, summary)
    }

    /// Not to be repaired here.
    pub fn give_up(summary: impl Into<String>) -> Self {
        Self::new(Verdict::GiveUp, summary)
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.details.push((key.into(), value.to_string()));
        self
    }
}

/// The closed set of what can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The params make no sense together.
    InvalidParams,
    /// Not allowed.
    Denied,
    /// What is needed does not answer.
    Unavailable,
    /// Something else holds it.
    Conflict,
    /// It took too long.
    Timeout,
    /// Not possible on this node.
    Unsupported,
    /// Anything else.
    Failed,
}

/// Where trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// On this node.
    Here,
    /// On another node.
    Elsewhere,
    /// Nowhere: a person has to change something.
    Nowhere,
}

/// What a failed operation left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A part of what it does.
    Partial,
    /// Not known.
    Unknown,
}

/// A failed operation.
///
/// Constructors choose what is safe to assume: where a retry may help by kind, and that what was left
/// behind is unknown (nothing, for [`Error::invalid_params`]). Say more where more is known:
///
/// ```
/// use mainstay_sdk::Error;
/// let error = Error::failed("exit", "/etc/app/start exited with 3").elsewhere().partial().detail("exit-code", 3);
/// assert_eq!(error.code, "exit");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Its kind.
    pub kind: ErrorKind,
    /// Stable, for programs.
    pub code: String,
    /// For people: what was tried, on what, what happened.
    pub message: String,
    /// Where trying again may help.
    pub retry: Retry,
    /// Not before this, in ms.
    pub retry_after_ms: Option<u32>,
    /// What was left behind.
    pub effect: Effect,
    /// More, by name.
    pub details: Details,
}

impl Error {
    /// An error of `kind`, with the kind's usual retry and effect.
    pub fn new(kind: ErrorKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        let retry = match kind {
            ErrorKind::InvalidParams | ErrorKind::Denied | ErrorKind::Conflict => Retry::Nowhere,
            ErrorKind::Unavailable | ErrorKind::Timeout => Retry::Here,
            ErrorKind::Unsupported | ErrorKind::Failed => Retry::Elsewhere,
        };
        let effect = if kind == ErrorKind::InvalidParams { Effect::None } else { Effect::Unknown };
        Self {
            kind,
            code: self::code(code),
            message: message.into(),
            retry,
            retry_after_ms: None,
            effect,
            details: Details::new(),
        }
    }

    /// The params make no sense: nothing was done.
    pub fn invalid_params(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParams, code, message)
    }

    /// Not allowed.
    pub fn denied(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Denied, code, message)
    }

    /// What is needed does not answer; trying again here may help.
    pub fn unavailable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, code, message)
    }

    /// Something else holds it.
    pub fn conflict(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, code, message)
    }

    /// It took too long; trying again here may help.
    pub fn timeout(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Timeout, code, message)
    }

    /// Not possible on this node.
    pub fn unsupported(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, code, message)
    }

    /// Anything else; trying elsewhere may help.
    pub fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, code, message)
    }

    /// Trying again on this node may help.
    #[must_use]
    pub fn here(mut self) -> Self {
        self.retry = Retry::Here;
        self
    }

    /// Trying on another node may help.
    #[must_use]
    pub fn elsewhere(mut self) -> Self {
        self.retry = Retry::Elsewhere;
        self
    }

    /// Trying again helps nowhere until a person has changed something.
    #[must_use]
    pub fn nowhere(mut self) -> Self {
        self.retry = Retry::Nowhere;
        self
    }

    /// Not before `ms` milliseconds from now.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u32) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Nothing was left behind.
    #[must_use]
    pub fn no_effect(mut self) -> Self {
        self.effect = Effect::None;
        self
    }

    /// A part was done and is still there.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.effect = Effect::Partial;
        self
    }

    /// What was left behind is not known.
    #[must_use]
    pub fn effect_unknown(mut self) -> Self {
        self.effect = Effect::Unknown;
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.details.push((key.into(), value.to_string()));
        self
    }

    /// Says in front of the message what was being done.
    #[must_use]
    pub fn doing(mut self, doing: impl fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Error {}

/// How much a finding of [`crate::Readiness`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// A restore would succeed, but a person should look.
    Warning,
    /// A restore would fail here, or harm: the node is not chosen by itself.
    Blocking,
}

/// One thing that was found about whether a node is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// Stable, for programs.
    pub code: String,
    /// What was found: a sentence.
    pub summary: String,
    /// What to do about it: a sentence.
    pub advice: String,
    /// Named extras.
    pub details: Details,
}

impl Finding {
    fn new(weight: Weight, code: impl Into<String>, summary: impl Into<String>, advice: impl Into<String>) -> Self {
        let (summary, advice) = (summary.into(), advice.into());
        Self { weight, code: self::code(code), summary, advice, details: Vec::new() }
    }

    /// Worth knowing.
    pub fn note(code: impl Into<String>, summary: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Weight::Note, code, summary, advice)
    }

    /// A restore would succeed, but a person should look.
    pub fn warning(code: impl Into<String>, summary: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Weight::Warning, code, summary, advice)
    }

    /// A restore would fail here, or harm.
    pub fn blocking(code: impl Into<String>, summary: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Weight::Blocking, code, summary, advice)
    }

    /// Adds a detail.
    #[must_use]
    pub fn detail(mut self, key: impl Into<String>, value: impl fmt::Display) -> Self {
        self.details.push((key.into(), value.to_string()));
        self
    }
}

/// Why a capability could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Not granted.
    Denied,
    /// The request makes no sense.
    Invalid,
    /// Does not exist.
    NotFound,
    /// Does not answer.
    Unavailable,
    /// It took too long; it may have happened: read back.
    Timeout,
    /// The other side is gone; it may have happened: read back.
    Closed,
    /// Beyond a limit.
    Limit,
    /// Anything else.
    Failed,
}

/// What the host says when a capability cannot do it. `?` turns it into an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub kind: FaultKind,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Fault {
    /// A fault, as a host makes them; kits need it in tests only.
    pub fn new(kind: FaultKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: self::code(code), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Fault {}

/// Keeps code and message; what earlier steps left behind only the kit knows, so the effect is unknown.
impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault.kind {
            FaultKind::Denied => ErrorKind::Denied,
            FaultKind::NotFound | FaultKind::Unavailable | FaultKind::Closed => ErrorKind::Unavailable,
            FaultKind::Timeout => ErrorKind::Timeout,
            FaultKind::Invalid | FaultKind::Limit | FaultKind::Failed => ErrorKind::Failed,
        };
        Self::new(kind, fault.code, fault.message)
    }
}
