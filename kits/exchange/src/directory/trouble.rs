//! Why a server did not do what it was asked, in words, and what follows: ask again, ask the next one, or give up.
//!
//! Each has a code that stays and says what to do about it. How many servers there are, and how long there is, is not
//! known here.

use mainstay_sdk::net::Address;
use mainstay_sdk::prelude::*;

use super::message::{Garbage, Outcome};

/// Result codes of RFC 4511, appendix A, that mean something of their own here.
pub(crate) mod code {
    pub(crate) const SUCCESS: i64 = 0;
    pub(crate) const TIME_LIMIT_EXCEEDED: i64 = 3;
    pub(crate) const SIZE_LIMIT_EXCEEDED: i64 = 4;
    pub(crate) const STRONGER_AUTH_REQUIRED: i64 = 8;
    pub(crate) const REFERRAL: i64 = 10;
    pub(crate) const ADMIN_LIMIT_EXCEEDED: i64 = 11;
    pub(crate) const CONFIDENTIALITY_REQUIRED: i64 = 13;
    pub(crate) const NO_SUCH_ATTRIBUTE: i64 = 16;
    pub(crate) const NO_SUCH_OBJECT: i64 = 32;
    pub(crate) const INVALID_CREDENTIALS: i64 = 49;
    pub(crate) const BUSY: i64 = 51;
    pub(crate) const UNAVAILABLE: i64 = 52;
    pub(crate) const UNWILLING: i64 = 53;
}

/// What the protocol's result codes are called (RFC 4511, appendix A).
fn name(code: i64) -> &'static str {
    match code {
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        16 => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        19 => "constraintViolation",
        20 => "attributeOrValueExists",
        21 => "invalidAttributeSyntax",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        64 => "namingViolation",
        65 => "objectClassViolation",
        80 => "other",
        _ => "result",
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", name(self.code), self.code)?;
        if !self.words.is_empty() {
            write!(f, ": {}", self.words)?;
        }
        Ok(())
    }
}

/// Why a server did not do it. The words go on from the server's name.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The operator has not granted it.
    #[error("is not granted: {0}")]
    NotGranted(String),
    /// Its name does not resolve.
    #[error("cannot be found: {0}")]
    NotFound(String),
    /// Nobody listens there, or there is no way to it.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing came, or not all of it.
    #[error("did not answer within {0} ms")]
    Silent(u128),
    /// The connection broke.
    #[error("broke the connection: {0}")]
    Broken(String),
    /// It said that it closes the connection.
    #[error("ended the connection, saying {0}")]
    Disconnected(Outcome),
    /// The host could not.
    #[error("could not be asked: {0}")]
    Socket(Fault),
    /// The call has no time left to ask it.
    #[error("was not asked, because no time was left")]
    NoTime,
    /// It does not prove who it is, or cannot be spoken to over TLS.
    #[error("cannot be trusted: {0}")]
    Tls(Fault),
    /// It does not do StartTLS.
    #[error("refuses StartTLS with {0}: it may have no certificate; `tls = \"ldaps\"` needs one too")]
    NoTls(Outcome),
    /// Something was sent after it agreed to StartTLS, and before TLS: by somebody in between.
    #[error("sent something readable after it agreed to TLS: somebody may be in between")]
    Injected,
    /// What came is no answer.
    #[error("sent {0}")]
    Garbage(#[from] Garbage),
    /// More came than was asked for.
    #[error("goes on answering without end ({0})")]
    Endless(&'static str),
    /// It does not know the account, or not with this password.
    #[error("does not accept the account {user}: {}", credentials(outcome))]
    Credentials {
        /// Who.
        user: String,
        /// In the server's words.
        outcome: Outcome,
    },
    /// It wants the connection secured.
    #[error("wants the connection secured ({0}): set `tls`")]
    Insecure(Outcome),
    /// It cannot just now.
    #[error("cannot just now, saying {0}")]
    Busy(Outcome),
    /// It gives no more than that, even one by one.
    #[error("gives no results, not even one at a time: {0}")]
    Limit(Outcome),
    /// Another one has it.
    #[error("says that another server has it{}: name that one in `directory.servers`, and grant it", elsewhere(&.0.referrals))]
    Referral(Outcome),
    /// It says no.
    #[error("refuses with {0}")]
    Refused(Outcome),
}

fn elsewhere(urls: &[String]) -> String {
    if urls.is_empty() { String::new() } else { format!(" ({})", urls.join(", ")) }
}

/// What Active Directory's data behind an `invalidCredentials` means
/// (the system error codes of ERROR_LOGON_FAILURE and its neighbours, in hexadecimal).
fn credentials(outcome: &Outcome) -> String {
    let meanings = [
        ("525", "there is no such account"),
        ("52e", "the password is wrong"),
        ("530", "it may not log on at this time"),
        ("531", "it may not log on from this node"),
        ("532", "its password has expired"),
        ("533", "it is disabled"),
        ("701", "it has expired"),
        ("773", "its password has to be changed first"),
        ("775", "it is locked"),
    ];
    let data = outcome.words.split(", ").find_map(|part| part.strip_prefix("data "));
    match data.and_then(|data| meanings.iter().find(|(code, _)| *code == data)) {
        Some((_, meaning)) => format!("{meaning} ({outcome})"),
        None => outcome.to_string(),
    }
}

/// What to do about a trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Ask the same server again after a while, then the next.
    Wait,
    /// Ask the same server again on a new connection, if the old one had worked, then the next.
    Reconnect,
    /// Ask the next server; this one will not say anything else.
    Next,
    /// Ask nobody else.
    GiveUp,
}

impl Trouble {
    /// What a fault of a socket says about the server. `waited` is how long it had.
    pub(crate) fn from_fault(fault: Fault, waited: std::time::Duration) -> Self {
        match fault.kind {
            FaultKind::Denied => Self::NotGranted(fault.message),
            FaultKind::NotFound => Self::NotFound(fault.message),
            FaultKind::Unavailable => Self::Unreachable(fault.message),
            FaultKind::Closed => Self::Broken(fault.message),
            FaultKind::Timeout => Self::Silent(waited.as_millis()),
            FaultKind::Invalid | FaultKind::Limit | FaultKind::Failed => Self::Socket(fault),
        }
    }

    /// What a fault in setting up TLS says about the server.
    pub(crate) fn from_tls_fault(fault: Fault, waited: std::time::Duration) -> Self {
        match fault.kind {
            FaultKind::Timeout => Self::Silent(waited.as_millis()),
            // The secrets; the server was granted before.
            FaultKind::Denied => Self::NotGranted(fault.message),
            FaultKind::NotFound
            | FaultKind::Unavailable
            | FaultKind::Closed
            | FaultKind::Invalid
            | FaultKind::Limit
            | FaultKind::Failed => Self::Tls(fault),
        }
    }

    /// A result code that is no success, of anything but a bind.
    pub(crate) fn from_outcome(outcome: Outcome) -> Self {
        match outcome.code {
            code::TIME_LIMIT_EXCEEDED | code::BUSY | code::UNAVAILABLE | code::UNWILLING => Self::Busy(outcome),
            code::SIZE_LIMIT_EXCEEDED | code::ADMIN_LIMIT_EXCEEDED => Self::Limit(outcome),
            code::STRONGER_AUTH_REQUIRED | code::CONFIDENTIALITY_REQUIRED => Self::Insecure(outcome),
            code::REFERRAL => Self::Referral(outcome),
            _ => Self::Refused(outcome),
        }
    }

    /// Stable, for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotGranted(_) => "not-granted",
            Self::NotFound(_) => "server-not-found",
            Self::Unreachable(_) => "unreachable",
            Self::Silent(_) => "no-answer",
            Self::Broken(_) => "connection-broken",
            Self::Disconnected(_) => "disconnected",
            Self::Socket(_) => "socket",
            Self::NoTime => "no-time",
            Self::Tls(_) => "tls",
            Self::NoTls(_) => "no-start-tls",
            Self::Injected => "start-tls-injected",
            Self::Garbage(_) => "garbage-answer",
            Self::Endless(_) => "endless-answer",
            Self::Credentials { .. } => "bad-credentials",
            Self::Insecure(_) => "insecure",
            Self::Busy(_) => "busy",
            Self::Limit(_) => "size-limit",
            Self::Referral(_) => "referral",
            Self::Refused(_) => "refused",
        }
    }

    /// What to do about it.
    pub(crate) fn then(&self) -> Then {
        match self {
            Self::Busy(_) => Then::Wait,
            Self::Silent(_) | Self::Broken(_) | Self::Disconnected(_) | Self::Unreachable(_) | Self::Socket(_) => {
                Then::Reconnect
            }
            Self::NotGranted(_)
            | Self::NotFound(_)
            | Self::Tls(_)
            | Self::NoTls(_)
            | Self::Injected
            | Self::Garbage(_)
            | Self::Endless(_)
            | Self::Insecure(_)
            | Self::Limit(_)
            | Self::Referral(_)
            | Self::Refused(_) => Then::Next,
            // Another server knows the same accounts, and each wrong password counts towards locking this one.
            Self::Credentials { .. } | Self::NoTime => Then::GiveUp,
        }
    }

    /// The error that it is: its kind, and where trying again may help.
    fn error(&self, message: String) -> Error {
        let code = self.code();
        match self {
            Self::NotGranted(_) | Self::Credentials { .. } | Self::Insecure(_) => Error::denied(code, message),
            // Another node may have other roots, another address.
            Self::Tls(_) | Self::Injected => Error::denied(code, message).elsewhere(),
            Self::NotFound(_)
            | Self::Unreachable(_)
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Disconnected(_)
            | Self::Socket(_)
            | Self::Busy(_)
            | Self::Garbage(_)
            | Self::Endless(_) => Error::unavailable(code, message),
            Self::NoTime => Error::timeout(code, message),
            Self::NoTls(_) | Self::Limit(_) | Self::Referral(_) | Self::Refused(_) => {
                Error::failed(code, message).nowhere()
            }
        }
    }

    /// How much it explains: what a server said is worth more than its silence, which is worth nothing.
    fn weight(&self) -> u8 {
        match self {
            Self::NotGranted(_) | Self::Credentials { .. } => 4,
            Self::Tls(_) | Self::NoTls(_) | Self::Injected | Self::Insecure(_) => 3,
            Self::Refused(_) | Self::Referral(_) | Self::Limit(_) => 2,
            Self::Busy(_) | Self::Garbage(_) | Self::Endless(_) => 1,
            Self::NotFound(_)
            | Self::Unreachable(_)
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Disconnected(_)
            | Self::Socket(_)
            | Self::NoTime => 0,
        }
    }
}

/// No server did it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What was tried, on what.
    pub(crate) doing: String,
    /// What became of it at each server, the newest of each, in the order of the params; at least one.
    pub(crate) troubles: Vec<(Address, Trouble)>,
}

impl Failure {
    /// The error: it names every server, and takes its code from the one that explains most. That nothing was left
    /// behind is for the caller to know.
    pub(crate) fn into_error(self) -> Error {
        let told: Vec<String> = self.troubles.iter().map(|(server, trouble)| format!("{server} {trouble}")).collect();
        let message = format!("{}: {}", self.doing, told.join("; "));
        let weight = self.troubles.iter().map(|(_, trouble)| trouble.weight()).max().unwrap_or(0);
        let error = match self.troubles.iter().find(|(_, trouble)| trouble.weight() == weight) {
            Some((_, trouble)) => trouble.error(message),
            None => Error::failed("no-server", message),
        };
        self.troubles
            .iter()
            .fold(error, |error, (server, trouble)| error.detail(format!("server {server}"), trouble.code()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(code: i64, words: &str) -> Outcome {
        Outcome { code, words: words.into(), referrals: Vec::new() }
    }

    #[test]
    fn what_active_directory_says_of_an_account_is_told_in_words() {
        let words = "80090308: LdapErr: DSID-0C09041C, comment: AcceptSecurityContext error, data 775, v4563";
        let trouble = Trouble::Credentials { user: "u@example.org".into(), outcome: outcome(49, words) };
        let text = trouble.to_string();
        assert!(
            text.starts_with("does not accept the account u@example.org: it is locked (invalidCredentials (49): 8009"),
            "{text}"
        );
        assert_eq!(credentials(&outcome(49, "")), "invalidCredentials (49)");
    }

    #[test]
    fn what_a_server_said_is_worth_more_than_silence() {
        let server = |host: &str| Address { host: host.into(), port: 389 };
        let failure = Failure {
            doing: "look for EX01".into(),
            troubles: vec![
                (server("a"), Trouble::Silent(10_000)),
                (server("b"), Trouble::Refused(outcome(50, "no"))),
                (server("c"), Trouble::Busy(outcome(51, ""))),
            ],
        };
        let error = failure.into_error();
        assert_eq!((error.kind, error.code.as_str(), error.retry), (ErrorKind::Failed, "refused", Retry::Nowhere));
        assert_eq!(
            error.message,
            "look for EX01: a:389 did not answer within 10000 ms; b:389 refuses with insufficientAccessRights (50): no; \
             c:389 cannot just now, saying busy (51)"
        );
        assert_eq!(error.details[2], ("server c:389".to_owned(), "busy".to_owned()));
    }
}
