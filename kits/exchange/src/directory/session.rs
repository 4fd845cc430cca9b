//! The servers of the directory, as one that is asked: which one is spoken to, and what follows when it fails.
//!
//! It decides when to wait and ask again, when to connect anew, when to go on to the next server, and when to say that
//! none of them does it. What is asked, and what to do with answers, is not known here.

use std::time::Duration;

use mainstay_sdk::net::Address;
use mainstay_sdk::prelude::*;

use super::connection::Connection;
use super::settings::Settings;
use super::trouble::{Failure, Then, Trouble};

/// What is kept of the call's time for saying how it ended, in ms.
const RESERVE_MS: u64 = 500;
/// How often one server is asked the same again when it cannot just now. With the waits below: three and three quarter seconds.
const WAITS_MAX: u32 = 4;
/// The first of those waits, in ms; each is twice the one before, up to the longest.
const WAIT_MS: u64 = 250;
const WAIT_MS_MAX: u64 = 4_000;
/// How long all servers are gone through again and again, while one of them may yet do it, in ms: a directory's service is
/// restarted in that time. What has been done until then is not lost to whoever calls again.
const PATIENCE_MS: u64 = 60_000;

/// Whether it is worth waiting for a directory that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Something is half done, or about to be.
    Some,
    /// It is only a question, which is asked again by itself.
    None,
}

/// The servers, and the one that is spoken to.
pub(crate) struct Session<'a> {
    /// How they are asked.
    pub(crate) settings: &'a Settings,
    password: secret::Secret,
    patience: Patience,
    /// The end of everything, on the monotonic clock.
    end: Duration,
    /// Which server, by index.
    at: usize,
    connection: Option<Connection>,
}

impl<'a> Session<'a> {
    /// Fetches the password; nobody is asked yet.
    pub(crate) fn new(settings: &'a Settings, patience: Patience) -> Result<Self, Error> {
        let end = clock::monotonic() + clock::remaining().saturating_sub(Duration::from_millis(RESERVE_MS));
        let password = secret::get(&settings.secret)
            .map_err(|fault| Error::from(fault).doing("fetch the password of the directory's account").no_effect())?;
        // A bind with a name and no password succeeds, as nobody (RFC 4513, 5.1.2).
        if password.expose().is_empty() {
            let message = format!("the secret {} is empty: it has to hold the account's password", settings.secret);
            return Err(Error::invalid_params("bind-secret", message));
        }
        Ok(Self { settings, password, patience, end, at: 0, connection: None })
    }

    /// The server that was asked last.
    pub(crate) fn server(&self) -> &Address {
        &self.settings.servers[self.at]
    }

    /// Has a server do `ask`. It is called again, on another connection, after a trouble that may pass: whatever it had
    /// begun to collect it begins anew.
    pub(crate) fn run<T>(
        &mut self,
        doing: &str,
        mut ask: impl FnMut(&mut Connection) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let mut newest: Vec<Option<Trouble>> = vec![None; self.settings.servers.len()];
        let patient_until = match self.patience {
            Patience::Some => clock::monotonic() + Duration::from_millis(PATIENCE_MS),
            Patience::None => Duration::ZERO,
        };
        // Each round but the last takes at least a wait, so there is an end to them.
        for round in 1.. {
            let mut may_pass = false;
            for _ in 0..self.settings.servers.len() {
                match self.ask_one(&mut ask) {
                    Ok(answer) => return Ok(answer),
                    Err(trouble) => {
                        let then = trouble.then();
                        may_pass |= matches!(then, Then::Wait | Then::Reconnect);
                        mainstay_sdk::debug!("{doing}: {} {trouble}", self.server());
                        // What a server said before is not forgotten because there was no time to ask it once more.
                        if !matches!((&trouble, &newest[self.at]), (Trouble::NoTime, Some(_))) {
                            newest[self.at] = Some(trouble);
                        }
                        if then == Then::GiveUp {
                            return Err(self.failure(doing, newest));
                        }
                        self.next_server();
                    }
                }
            }
            if !may_pass || clock::monotonic() >= patient_until || !self.wait(round) {
                break;
            }
        }
        Err(self.failure(doing, newest))
    }

    /// Goes on to the next server, and begins with the first after the last.
    pub(crate) fn next_server(&mut self) {
        self.hang_up();
        self.at = (self.at + 1) % self.settings.servers.len();
    }

    /// Waits before the same is asked again, longer each time; false when there is no time for that.
    pub(crate) fn wait(&self, tries: u32) -> bool {
        let wait_ms = WAIT_MS.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(WAIT_MS_MAX);
        let wait = Duration::from_millis(wait_ms);
        let there_is_time = clock::monotonic() + wait < self.end;
        if there_is_time {
            clock::sleep(wait);
        }
        there_is_time
    }

    /// Closes the connection in order.
    pub(crate) fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
    }

    /// Has the server that it is at do it, as long as that makes sense.
    fn ask_one<T>(&mut self, ask: &mut impl FnMut(&mut Connection) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut waits = 0;
        loop {
            let worked_before = self.connection.is_some();
            let answer = self.connection().and_then(&mut *ask);
            let trouble = match answer {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            match trouble.then() {
                Then::Wait if waits < WAITS_MAX => {
                    waits += 1;
                    if !self.wait(waits) {
                        return Err(trouble);
                    }
                }
                // A connection that has worked breaks for many reasons, and the server may be there all the same.
                Then::Reconnect if worked_before => self.hang_up(),
                Then::Wait | Then::Reconnect | Then::Next | Then::GiveUp => {
                    self.hang_up();
                    return Err(trouble);
                }
            }
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, Trouble> {
        if self.connection.is_none() {
            let server = &self.settings.servers[self.at];
            self.connection = Some(Connection::open(server, self.settings, &self.password, self.end)?);
        }
        // It was just put there.
        self.connection.as_mut().ok_or(Trouble::NoTime)
    }

    fn hang_up(&mut self) {
        self.connection = None;
    }

    fn failure(&self, doing: &str, newest: Vec<Option<Trouble>>) -> Error {
        let troubles = self.settings.servers.iter().cloned().zip(newest);
        let troubles = troubles.filter_map(|(server, trouble)| Some((server, trouble?))).collect();
        Failure { doing: doing.to_owned(), troubles }.into_error().no_effect()
    }
}
