//! One connection to one server: secured, bound, and then asked one thing after the other.
//!
//! Every answer has its time as a whole, however many pieces it comes in, and everything has an end besides
//! (`Deadlines`). What does not belong to what was asked is not taken: a server that sends it is not gone on with. Which
//! server, and what follows when it fails, is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_sdk::net::{Address, Tcp, Tls};
use mainstay_sdk::prelude::*;

use super::message::{self, Body, Change, Entry, Outcome, Reply, Search};
use super::params::Security;
use super::settings::Settings;
use super::trouble::{Trouble, code};

/// Bytes asked for in one read.
const READ_BYTES_MAX: u32 = 64 << 10;
/// How much that belongs to nothing asked is let by while an answer is waited for: a server may say something aside
/// (RFC 4511, 4.4), and has no reason to do that often.
const ASIDE_COUNT_MAX: usize = 16;
/// References in one answer: one for each domain below, and each partition that applications made.
const REFERENCES_MAX: usize = 100;

/// A connection that is bound.
pub(crate) struct Connection {
    tcp: Tcp,
    /// What came, and how much of it is read.
    inbox: Vec<u8>,
    read: usize,
    /// The number of the newest request.
    id: i64,
    /// For one answer.
    answer: Duration,
    /// The end of everything, on the monotonic clock.
    end: Duration,
}

/// A page of results.
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// Where else the search would have to be made.
    pub(crate) elsewhere: Vec<String>,
    /// What the next page is asked for with; empty after the last.
    pub(crate) cookie: Vec<u8>,
}

/// Changes to one entry.
#[derive(Clone, Debug)]
pub(crate) struct Modify {
    /// Which entry.
    pub(crate) dn: String,
    /// All or none.
    pub(crate) changes: Vec<Change>,
    /// It was sent before, on a connection that broke before the answer came.
    pub(crate) in_doubt: bool,
}

impl Connection {
    /// Connects, secures, and says who asks.
    pub(crate) fn open(
        server: &Address,
        settings: &Settings,
        password: &secret::Secret,
        end: Duration,
    ) -> Result<Self, Trouble> {
        let left = left(clock::monotonic() + settings.answer, end)?;
        let tcp = Tcp::connect(&server.host, server.port, left).map_err(|fault| Trouble::from_fault(fault, left))?;
        let mut it = Self { tcp, inbox: Vec::new(), read: 0, id: 0, answer: settings.answer, end };
        match settings.tls {
            Security::StartTls => {
                it.start_tls()?;
                it.secure(server, settings)?;
            }
            Security::Ldaps => it.secure(server, settings)?,
            Security::None => {}
        }
        it.bind(&settings.user, password)?;
        Ok(it)
    }

    fn start_tls(&mut self) -> Result<(), Trouble> {
        let id = self.next_id();
        self.send(&message::start_tls(id))?;
        match self.sole_answer(id)? {
            Body::Extended(outcome) if outcome.code == code::SUCCESS => {}
            Body::Extended(outcome) => return Err(Trouble::NoTls(outcome)),
            other @ (Body::Bound(_)
            | Body::Entry(_)
            | Body::Elsewhere(_)
            | Body::Searched(_)
            | Body::Modified(_)
            | Body::Disconnection(_)
            | Body::Aside) => return Err(mismatch(&other)),
        }
        // Whatever lies behind the answer came before TLS, and would be taken for the server's word.
        if self.unread().is_empty() { Ok(()) } else { Err(Trouble::Injected) }
    }

    fn secure(&self, server: &Address, settings: &Settings) -> Result<(), Trouble> {
        let mut tls = Tls::new(settings.server_name.as_ref().unwrap_or(&server.host));
        if let Some(secret) = &settings.trust {
            tls = tls.trust(secret);
        }
        let left = left(clock::monotonic() + self.answer, self.end)?;
        self.tcp.start_tls(&tls, left).map_err(|fault| Trouble::from_tls_fault(fault, left))
    }

    fn bind(&mut self, user: &str, password: &secret::Secret) -> Result<(), Trouble> {
        let id = self.next_id();
        self.send(&message::bind(id, user, password.expose()))?;
        match self.sole_answer(id)? {
            Body::Bound(outcome) => match outcome.code {
                code::SUCCESS => Ok(()),
                code::INVALID_CREDENTIALS => Err(Trouble::Credentials { user: user.to_owned(), outcome }),
                _ => Err(Trouble::from_outcome(outcome)),
            },
            other @ (Body::Entry(_)
            | Body::Elsewhere(_)
            | Body::Searched(_)
            | Body::Modified(_)
            | Body::Extended(_)
            | Body::Disconnection(_)
            | Body::Aside) => Err(mismatch(&other)),
        }
    }

    /// Says goodbye; whether it is heard does not matter.
    pub(crate) fn close(mut self) {
        let id = self.next_id();
        if let Err(trouble) = self.send(&message::unbind(id)) {
            mainstay_sdk::debug!("a server that was said goodbye to {trouble}");
        }
    }

    /// Asks for a page of results, or, without a size, for all of the few there are.
    pub(crate) fn search(
        &mut self,
        search: &Search,
        page: Option<(u16, &[u8])>,
        entries_max: usize,
    ) -> Result<Page, Trouble> {
        let id = self.next_id();
        self.send(&message::search(id, search, page))?;
        let by = clock::monotonic() + self.answer;
        let (mut entries, mut elsewhere, mut references) = (Vec::new(), Vec::new(), 0);
        loop {
            let reply = self.answer_to(|of| of == id, by)?;
            match reply.body {
                Body::Entry(_) if entries.len() >= entries_max => {
                    return Err(Trouble::Endless("more results than asked for"));
                }
                Body::Entry(entry) => entries.push(entry),
                Body::Elsewhere(_) if references >= REFERENCES_MAX => return Err(Trouble::Endless("references")),
                Body::Elsewhere(urls) => {
                    references += 1;
                    elsewhere.extend(urls.into_iter().take(1));
                }
                Body::Searched(outcome) if outcome.code == code::SUCCESS => {
                    return Ok(Page { entries, elsewhere, cookie: reply.cookie.unwrap_or_default() });
                }
                Body::Searched(outcome) => return Err(Trouble::from_outcome(outcome)),
                other @ (Body::Bound(_)
                | Body::Modified(_)
                | Body::Extended(_)
                | Body::Disconnection(_)
                | Body::Aside) => return Err(mismatch(&other)),
            }
        }
    }

    /// Makes changes, `batch` of them under way at once. `done` is told what became of each and takes it out of `left`;
    /// after a trouble, those in `left` may have been made, and are marked if they were sent.
    pub(crate) fn modify(
        &mut self,
        left: &mut Vec<Modify>,
        batch: usize,
        mut done: impl FnMut(Modify, Outcome),
    ) -> Result<(), Trouble> {
        // What waits, the next one last; and what is under way, by its number.
        let mut waiting: Vec<Modify> = std::mem::take(left).into_iter().rev().collect();
        let mut under_way: BTreeMap<i64, Modify> = BTreeMap::new();
        let result = self.modify_all(&mut waiting, &mut under_way, batch, &mut done);
        left.extend(under_way.into_values().map(|modify| Modify { in_doubt: true, ..modify }));
        left.extend(waiting.into_iter().rev());
        result
    }

    fn modify_all(
        &mut self,
        waiting: &mut Vec<Modify>,
        under_way: &mut BTreeMap<i64, Modify>,
        batch: usize,
        done: &mut impl FnMut(Modify, Outcome),
    ) -> Result<(), Trouble> {
        loop {
            let mut out = Vec::new();
            while under_way.len() < batch
                && let Some(modify) = waiting.pop()
            {
                let id = self.next_id();
                out.extend(message::modify(id, &modify.dn, &modify.changes));
                under_way.insert(id, modify);
            }
            if under_way.is_empty() {
                return Ok(());
            }
            if !out.is_empty() {
                self.send(&out)?;
            }
            let by = clock::monotonic() + self.answer;
            let reply = self.answer_to(|id| under_way.contains_key(&id), by)?;
            match reply.body {
                Body::Modified(outcome) => {
                    let Some(modify) = under_way.remove(&reply.id) else { continue };
                    // Not of this entry but of all that this server is asked.
                    if matches!(outcome.code, code::REFERRAL | code::STRONGER_AUTH_REQUIRED) {
                        waiting.push(modify);
                        return Err(Trouble::from_outcome(outcome));
                    }
                    done(modify, outcome);
                }
                other @ (Body::Bound(_)
                | Body::Entry(_)
                | Body::Elsewhere(_)
                | Body::Searched(_)
                | Body::Extended(_)
                | Body::Disconnection(_)
                | Body::Aside) => return Err(mismatch(&other)),
            }
        }
    }

    fn next_id(&mut self) -> i64 {
        // A message's number is at most 2^31-1 (RFC 4511, 4.1.1.1); one call sends far fewer.
        self.id += 1;
        self.id
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let left = left(clock::monotonic() + self.answer, self.end)?;
        self.tcp.write(bytes, left).map_err(|fault| Trouble::from_fault(fault, left))
    }

    fn sole_answer(&mut self, id: i64) -> Result<Body, Trouble> {
        let by = clock::monotonic() + self.answer;
        self.answer_to(|of| of == id, by).map(|reply| reply.body)
    }

    /// The next message that answers what was asked.
    fn answer_to(&mut self, asked: impl Fn(i64) -> bool, by: Duration) -> Result<Reply, Trouble> {
        for _ in 0..=ASIDE_COUNT_MAX {
            let reply = self.receive(by)?;
            match reply.body {
                Body::Disconnection(outcome) if reply.id == 0 => return Err(Trouble::Disconnected(outcome)),
                Body::Aside => {}
                Body::Bound(_)
                | Body::Entry(_)
                | Body::Elsewhere(_)
                | Body::Searched(_)
                | Body::Modified(_)
                | Body::Extended(_)
                | Body::Disconnection(_) => {
                    if asked(reply.id) {
                        return Ok(reply);
                    }
                    if reply.id != 0 {
                        return Err(message::Garbage::Other("an answer to something that was not asked").into());
                    }
                }
            }
        }
        Err(Trouble::Endless("things aside"))
    }

    fn unread(&self) -> &[u8] {
        self.inbox.get(self.read..).unwrap_or_default()
    }

    /// One whole message.
    fn receive(&mut self, by: Duration) -> Result<Reply, Trouble> {
        loop {
            let unread = self.unread();
            if let Some(length) = message::length(unread)?
                && let Some(message) = unread.get(..length)
            {
                let reply = message::read(message)?;
                self.read += length;
                return Ok(reply);
            }
            self.inbox.drain(..self.read);
            self.read = 0;
            let left = left(by, self.end).map_err(|_| Trouble::Silent(self.answer.as_millis()))?;
            let piece = self.tcp.read(READ_BYTES_MAX, left).map_err(|fault| Trouble::from_fault(fault, self.answer))?;
            if piece.is_empty() {
                return Err(Trouble::Broken("it was closed while an answer was waited for".to_owned()));
            }
            self.inbox.extend_from_slice(&piece);
        }
    }
}

/// Until `by`, or the end of everything.
fn left(by: Duration, end: Duration) -> Result<Duration, Trouble> {
    let now = clock::monotonic();
    let by = by.min(end);
    if now < by { Ok(by - now) } else { Err(Trouble::NoTime) }
}

/// An answer of another kind than was asked for.
fn mismatch(body: &Body) -> Trouble {
    let what = match body {
        Body::Bound(_) => "an answer to a bind that was not made",
        Body::Entry(_) | Body::Elsewhere(_) | Body::Searched(_) => "an answer to a search that was not made",
        Body::Modified(_) => "an answer to a change that was not made",
        Body::Extended(_) | Body::Disconnection(_) => "an answer to an extension that was not asked for",
        Body::Aside => "something aside in place of an answer",
    };
    message::Garbage::Other(what).into()
}
