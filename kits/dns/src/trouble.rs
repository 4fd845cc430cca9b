//! Why a name server did not do what it was asked, in words, and what that means for the operation.
//!
//! Each has a code that stays, says what to do about it, and knows whether the server may have done it all
//! the same. How many servers there are, and in which order they are tried, is not known here.

use domain::base::iana::{Rcode, TsigRcode};
use mainstay_sdk::net::Address;
use mainstay_sdk::prelude::*;

use crate::reply::Ignored;
use crate::tsig::{FUDGE_S, Key};

/// What was asked of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A question.
    Question,
    /// An update without a signature.
    UnsignedUpdate,
    /// An update signed by this key.
    SignedUpdate(String),
}

impl Asked {
    /// An update, signed by `key` if there is one.
    pub(crate) fn update(key: Option<&Key>) -> Self {
        key.map_or(Self::UnsignedUpdate, |key| Self::SignedUpdate(key.to_string()))
    }
}

/// Why a server did not do it. The words go on from the server's name.
#[derive(Debug, thiserror::Error)]
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
    /// Nothing came.
    #[error("did not answer within {waited_ms} ms ({tries} tries)")]
    Silent {
        /// How often it was asked.
        tries: usize,
        /// How long altogether.
        waited_ms: u128,
    },
    /// The connection broke.
    #[error("broke the connection: {0}")]
    Broken(String),
    /// The host could not.
    #[error("could not be asked: {0}")]
    Socket(Fault),
    /// The call has no time left to ask it.
    #[error("was not asked, because no time was left")]
    NoTime,
    /// What came is no answer. Over UDP anybody may have sent it, and then `tcp` says why that did not help.
    #[error("answered with {heard}{}", tcp.as_ref().map_or_else(String::new, |tcp| format!("; over TCP it {tcp}")))]
    Useless {
        /// What came.
        heard: Ignored,
        /// What came of asking over TCP, where it is the server's own for sure.
        tcp: Option<Box<Trouble>>,
    },
    /// Asked over TCP because the answer fits no datagram.
    #[error("gave an answer too long for a datagram, and over TCP it {0}")]
    OverTcp(Box<Trouble>),
    /// The answer is cut even over TCP.
    #[error("cut its answer short, even over TCP")]
    Truncated,
    /// It does not know the key, or not with this algorithm, or (so Knot) not for this zone.
    #[error(
        "does not accept the key {0} (BADKEY): it knows none of this name and algorithm, or it may not change the zone"
    )]
    BadKey(String),
    /// The signature is wrong.
    #[error("finds the signature by the key {0} wrong (BADSIG): this node's secret is not the one it has")]
    BadSignature(String),
    /// The clocks are too far apart.
    #[error("{}", clocks(*own_s, *server_s))]
    BadTime {
        /// This node's clock, in s since 1970.
        own_s: u64,
        /// The server's, if it said.
        server_s: Option<u64>,
    },
    /// It answers, but not for itself.
    #[error(
        "does not answer for the zone itself (no AA): it is no authoritative server of it, or the name is delegated"
    )]
    NoAuthority,
    /// It says no.
    #[error("{}{}", refusal(*rcode, asked), if *proven { "" } else { ", in a reply that is not signed" })]
    Refusal {
        /// In its own words.
        rcode: Rcode,
        /// To what.
        asked: Asked,
        /// Whether the reply carries the signature that the request's one asks for.
        proven: bool,
    },
}

fn clocks(own_s: u64, server_s: Option<u64>) -> String {
    let own = utc(own_s);
    match server_s {
        Some(server_s) => format!(
            "has another time (BADTIME): its clock says {}, this node's {own}, {} s apart; {FUDGE_S} s are allowed",
            utc(server_s),
            own_s.abs_diff(server_s)
        ),
        None => format!(
            "has another time (BADTIME) and does not say which; this node's clock says {own}, {FUDGE_S} s apart are allowed"
        ),
    }
}

fn refusal(rcode: Rcode, asked: &Asked) -> String {
    match (rcode, asked) {
        (Rcode::REFUSED, Asked::Question) => {
            "refuses to answer (REFUSED): it does not serve the zone, or not to this node".to_owned()
        }
        (Rcode::REFUSED, Asked::UnsignedUpdate) => {
            "refuses the update (REFUSED): it wants a key, does not take updates from this node, or a record is not to its liking; its own log says which".to_owned()
        }
        (Rcode::REFUSED, Asked::SignedUpdate(key)) => {
            format!("refuses the update (REFUSED): the key {key} or this node may not make it, or a record is not to its liking; its own log says which")
        }
        (Rcode::NOTAUTH, Asked::UnsignedUpdate) => {
            "says that it is not for it to do (NOTAUTH): the zone's name is wrong, another server is its primary, or it wants a key".to_owned()
        }
        (Rcode::NOTAUTH, Asked::Question | Asked::SignedUpdate(_)) => {
            "says that it is not for it to do (NOTAUTH): the zone's name is wrong, another server is its primary, or the key may not".to_owned()
        }
        (Rcode::NOTZONE, _) => "says that a name is not in the zone (NOTZONE)".to_owned(),
        (Rcode::NOTIMP, _) => "does not know how (NOTIMP): dynamic updates are not switched on there".to_owned(),
        (Rcode::SERVFAIL, _) => "failed (SERVFAIL): its own log says why".to_owned(),
        (Rcode::FORMERR, _) => "does not understand the message (FORMERR)".to_owned(),
        (other, _) => format!("answered {other}"),
    }
}

impl Trouble {
    /// What a fault of a socket says about the server.
    pub(crate) fn from_fault(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Denied => Self::NotGranted(fault.message),
            FaultKind::NotFound => Self::NotFound(fault.message),
            FaultKind::Unavailable => Self::Unreachable(fault.message),
            FaultKind::Closed => Self::Broken(fault.message),
            FaultKind::Timeout | FaultKind::Invalid | FaultKind::Limit | FaultKind::Failed => Self::Socket(fault),
        }
    }

    /// A reply that says that the key, or what it signed, is wrong.
    pub(crate) fn from_tsig(error: TsigRcode, key: &Key) -> Self {
        let key = key.to_string();
        if error == TsigRcode::BADSIG { Self::BadSignature(key) } else { Self::BadKey(key) }
    }

    /// Stable, for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotGranted(_) => "not-granted",
            Self::NotFound(_) => "server-not-found",
            Self::Unreachable(_) => "unreachable",
            Self::Silent { .. } => "no-answer",
            Self::Broken(_) => "connection-broken",
            Self::Socket(_) => "socket",
            Self::NoTime => "no-time",
            Self::Useless { heard, .. } => heard.code(),
            Self::OverTcp(trouble) => trouble.code(),
            Self::Truncated => "truncated-reply",
            Self::BadKey(_) => "bad-key",
            Self::BadSignature(_) => "bad-signature",
            Self::BadTime { .. } => "bad-time",
            Self::NoAuthority => "no-authority",
            Self::Refusal { rcode, .. } => match *rcode {
                Rcode::REFUSED => "refused",
                Rcode::NOTAUTH => "not-auth",
                Rcode::NOTZONE => "not-zone",
                Rcode::NOTIMP => "not-implemented",
                Rcode::SERVFAIL => "server-failure",
                Rcode::FORMERR => "format-error",
                _ => "rcode",
            },
        }
    }

    /// The error that it is: its kind, and where trying again may help.
    fn error(&self, message: String) -> Error {
        let code = self.code();
        match self {
            Self::NotGranted(_) => Error::denied(code, message),
            // Another node may have another address, another file, another clock.
            Self::BadSignature(_) => Error::denied(code, message).elsewhere(),
            Self::BadTime { .. } => Error::failed(code, message).elsewhere(),
            Self::BadKey(_) => Error::denied(code, message),
            Self::NotFound(_) | Self::Unreachable(_) | Self::Silent { .. } | Self::Broken(_) | Self::Socket(_) => {
                Error::unavailable(code, message)
            }
            Self::NoTime => Error::timeout(code, message),
            Self::Useless { .. } | Self::Truncated => Error::unavailable(code, message),
            Self::OverTcp(trouble) => trouble.error(message),
            Self::NoAuthority => Error::failed(code, message).nowhere(),
            Self::Refusal { rcode, .. } => match *rcode {
                Rcode::REFUSED => Error::denied(code, message).elsewhere(),
                Rcode::NOTIMP => Error::unsupported(code, message).nowhere(),
                Rcode::SERVFAIL => Error::unavailable(code, message),
                _ => Error::failed(code, message).nowhere(),
            },
        }
    }

    /// Whether the server may have done what it was asked.
    fn may_have_happened(&self) -> bool {
        match self {
            Self::Silent { .. }
            | Self::Broken(_)
            | Self::Socket(_)
            | Self::Useless { .. }
            | Self::OverTcp(_)
            | Self::Truncated => true,
            Self::NotGranted(_)
            | Self::NotFound(_)
            | Self::Unreachable(_)
            | Self::NoTime
            | Self::BadKey(_)
            | Self::BadSignature(_)
            | Self::BadTime { .. }
            | Self::NoAuthority
            | Self::Refusal { .. } => false,
        }
    }

    /// How much it explains: what a server said is worth more than its silence, which is worth nothing.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Self::NotGranted(_) => 3,
            Self::BadKey(_)
            | Self::BadSignature(_)
            | Self::BadTime { .. }
            | Self::Refusal { .. }
            | Self::NoAuthority => 2,
            Self::Useless { .. } | Self::Truncated => 1,
            Self::OverTcp(trouble) => trouble.weight(),
            Self::NotFound(_)
            | Self::Unreachable(_)
            | Self::Silent { .. }
            | Self::Broken(_)
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
    /// What became of it at each server, in the order they were tried; at least one.
    pub(crate) troubles: Vec<(Address, Trouble)>,
}

impl Failure {
    /// Whether a server said why, rather than nothing.
    pub(crate) fn is_answer(&self) -> bool {
        self.troubles.iter().any(|(_, trouble)| trouble.weight() > 0)
    }

    /// The error: it names every server, and takes its code from the one that explains most.
    pub(crate) fn into_error(self) -> Error {
        let told: Vec<String> = self.troubles.iter().map(|(server, trouble)| format!("{server} {trouble}")).collect();
        let message = format!("{}: {}", self.doing, told.join("; "));
        let weight = self.troubles.iter().map(|(_, trouble)| trouble.weight()).max().unwrap_or(0);
        let mut error = match self.troubles.iter().find(|(_, trouble)| trouble.weight() == weight) {
            Some((_, trouble)) => trouble.error(message),
            None => Error::failed("no-server", message),
        };
        error = if self.troubles.iter().any(|(_, trouble)| trouble.may_have_happened()) {
            error.effect_unknown()
        } else {
            error.no_effect()
        };
        for (server, trouble) in &self.troubles {
            error = error.detail(format!("server {server}"), trouble.code());
        }
        error
    }
}

/// A time in s since 1970 as people write it.
pub(crate) fn utc(time_s: u64) -> String {
    let (days, second) = (time_s / 86_400, time_s % 86_400);
    // Days since 0000-03-01, in eras of 400 years, so that a leap day is the last of its year
    // (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_do() {
        let times = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_700_000_000, "2023-11-14 22:13:20 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ];
        for (time_s, text) in times {
            assert_eq!(utc(time_s), text);
        }
        // No clock makes it panic.
        utc(u64::MAX / 1_000);
    }

    #[test]
    fn what_a_server_said_is_worth_more_than_silence() {
        let server = |host: &str| Address { host: host.into(), port: 53 };
        let refusal = Trouble::Refusal { rcode: Rcode::REFUSED, asked: Asked::UnsignedUpdate, proven: true };
        let failure = Failure {
            doing: "update the zone example.org".into(),
            troubles: vec![(server("a"), Trouble::Silent { tries: 3, waited_ms: 6_000 }), (server("b"), refusal)],
        };
        let error = failure.into_error();
        assert_eq!((error.kind, error.code.as_str(), error.retry), (ErrorKind::Denied, "refused", Retry::Elsewhere));
        assert_eq!(error.effect, Effect::Unknown, "a may have done it");
        assert!(
            error.message.starts_with(
                "update the zone example.org: a:53 did not answer within 6000 ms (3 tries); b:53 refuses the update"
            ),
            "{error}"
        );
        assert_eq!(
            error.details,
            [("server a:53".to_owned(), "no-answer".to_owned()), ("server b:53".to_owned(), "refused".to_owned())]
        );
    }
}
