//! What a client would find: whether each protocol greets as it should, and whether it does what it is there for.
//!
//! It decides from what comes over the wire, within one deadline for all of it, however slowly it comes. It never asks the
//! system about a service, and leaves nothing behind in a mailbox.

mod http;
mod imap;
mod pop3;
mod smtp;
mod talk;

use std::time::Duration;

use mainstay_sdk::prelude::*;
use mainstay_sdk::secret::Secret;

use crate::TestMailbox;
use crate::plan::Endpoint;
use crate::versions::Protocol;
use talk::Talk;

/// How far a look goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// The greeting.
    Greeting,
    /// A transaction from beginning to end.
    Transaction,
}

/// Who is logged in.
pub(crate) struct Login {
    user: String,
    password: Secret,
}

impl Login {
    pub(crate) fn fetch(mailbox: &TestMailbox) -> Result<Self, Error> {
        let password = secret::get(&mailbox.secret)
            .map_err(|fault| Error::from(fault).doing("read the password of the test mailbox").nowhere())?;
        if password.expose().is_empty() || password.expose().iter().any(u8::is_ascii_control) {
            let message = format!(
                "the secret {} is empty or holds more than one line: it has to be the password of the test mailbox, alone",
                mailbox.secret
            );
            return Err(Error::invalid_params("mailbox-secret", message));
        }
        Ok(Self { user: mailbox.user.clone(), password })
    }
}

/// What is wrong with a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) what: What,
    /// For people, beginning with where it is.
    pub(crate) said: String,
}

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Nobody listens.
    Down,
    /// Nothing, or not all of it, came in time.
    NoAnswer,
    /// It was broken off.
    Closed,
    /// What came is no greeting, or one that says no.
    Greeting,
    /// TLS is not spoken there.
    Tls,
    /// It serves, and its certificate is not believed.
    Certificate,
    /// It greets, and what comes after that does not work.
    Transaction,
    /// It serves, and does not let the test mailbox in.
    Login,
    /// It serves, and wants TLS before a log-in.
    TlsRequired,
}

impl What {
    /// How it ends the code of a report.
    fn code(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::NoAnswer => "no-answer",
            Self::Closed => "closed",
            Self::Greeting => "greeting",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::Transaction => "transaction",
            Self::Login => "login",
            Self::TlsRequired => "tls-required",
        }
    }
}

impl Bad {
    fn new(what: What, said: impl Into<String>) -> Self {
        Self { what, said: said.into() }
    }

    /// As the report of a check. What did not answer in time counts as a check that timed out; a certificate or a password
    /// that does not fit is for a person, and no reason to move everybody elsewhere.
    pub(crate) fn report(&self, protocol: Protocol) -> Report {
        let code = format!("{}-{}", protocol.name(), self.what.code());
        let said = self.said.as_str();
        match self.what {
            What::NoAnswer => Report::unknown(code, said).detail("timed-out", "true"),
            What::Certificate | What::Login | What::TlsRequired => Report::degraded(code, said),
            What::Down | What::Closed | What::Greeting | What::Tls | What::Transaction => Report::failed(code, said),
        }
    }

    /// Whether clients get in all the same.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.what, What::Certificate | What::Login | What::TlsRequired)
    }
}

/// Why a look ended early: something is wrong, or it cannot be told.
#[derive(Debug)]
pub(crate) enum Stop {
    Bad(Bad),
    CannotTell(Error),
}

/// Looks at one protocol. Well: how long it took, in ms. The error is only for what says nothing about the protocol.
pub(crate) fn look(
    endpoint: &Endpoint,
    depth: Depth,
    login: Option<&Login>,
    time_max: Duration,
) -> Result<Result<u128, Bad>, Error> {
    let began = clock::monotonic();
    let looked = Talk::begin(endpoint, endpoint.time.min(time_max)).and_then(|mut talk| match endpoint.protocol {
        Protocol::Smtp => smtp::look(&mut talk, endpoint, depth),
        Protocol::Pop3 => pop3::look(&mut talk, endpoint, depth, login),
        Protocol::Imap => imap::look(&mut talk, endpoint, depth, login),
        // What the page says is the whole of it.
        Protocol::Http => http::look(&mut talk, endpoint),
    });
    match looked {
        Ok(()) => Ok(Ok(clock::monotonic().saturating_sub(began).as_millis())),
        Err(Stop::Bad(bad)) => Ok(Err(bad)),
        Err(Stop::CannotTell(error)) => Err(error),
    }
}
