//! One zone at its servers: looking at this node's record sets, writing them, deleting them.
//!
//! The servers are tried in order until one does what is asked; the next question begins at the one that
//! answered last, so that a dead server is waited for once in a call. What is seen after writing comes from
//! the server that took the update. When to do which is for the operations to decide.

use std::time::Duration;

use domain::base::Message;
use domain::base::iana::{Rcode, Rtype};
use mainstay_sdk::net::{Address, Udp};
use mainstay_sdk::prelude::*;

use crate::message::{self, Request};
use crate::params::RecordType;
use crate::plan::{Set, Zone};
use crate::reply::{self, Seen};
use crate::transport::Exchange;
use crate::trouble::{Asked, Failure, Trouble};
use crate::tsig::Key;

/// Kept back at the end of a call, in ms: so that its answer still goes out before the host drops it.
const RESERVE_MS: u64 = 500;
/// How long a server that has taken an update may go on telling the old values, in ms: some answer from a
/// cache of their own, or a secondary answers in their name.
const READ_BACK_MS_MAX: u64 = 5_000;
/// The first wait between two looks at it, in ms; it doubles.
const READ_BACK_WAIT_MS: u64 = 50;
/// The longest wait between two looks, in ms.
const READ_BACK_WAIT_MS_MAX: u64 = 800;

/// A zone, and who of its servers answers.
pub(crate) struct Session<'a> {
    zone: &'a Zone,
    /// Where to begin.
    first: usize,
}

/// An answer, and whose.
struct Answer {
    server: usize,
    message: Message<Vec<u8>>,
}

/// What became of deleting a record set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It held this node's values, and is gone.
    Gone,
    /// It is somebody else's, or there is none.
    NotOurs,
}

impl<'a> Session<'a> {
    pub(crate) fn new(zone: &'a Zone) -> Self {
        Self { zone, first: 0 }
    }

    /// Whether each of the servers is granted, found out without sending anything: a second server that is
    /// not should be known before the day the first one fails. The first is asked in any case.
    pub(crate) fn check_grants(&self) -> Result<(), Error> {
        for server in self.zone.servers.iter().skip(1) {
            match Udp::connect(&server.host, server.port) {
                Err(fault) if fault.kind == FaultKind::Denied => {
                    let troubles = vec![(server.clone(), Trouble::from_fault(fault))];
                    return Err(Failure {
                        doing: format!("reach the servers of the zone {}", self.zone.name),
                        troubles,
                    }
                    .into_error());
                }
                // Whether it answers shows when it is asked.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// What an authoritative server says about each of the zone's record sets.
    pub(crate) fn look(&mut self) -> Result<Vec<Seen>, Error> {
        let servers = 0..self.zone.servers.len();
        self.zone.sets.iter().map(|set| self.look_at(set, servers.clone()).map_err(Failure::into_error)).collect()
    }

    /// The server that answered last, or the first one.
    pub(crate) fn server(&self) -> &Address {
        &self.zone.servers[self.first]
    }

    fn look_at(&mut self, set: &Set, servers: std::ops::Range<usize>) -> Result<Seen, Failure> {
        let answer = self.question(set, set.record_type.rtype(), servers)?;
        let seen = reply::seen(set, answer.message.for_slice());
        // A CNAME stands alone, and a server ignores one that would not: only the name's other records tell.
        // A server may refuse to list them (RFC 8482); then reading back shows that it did not work.
        if set.record_type == RecordType::Cname
            && seen == (Seen::Nothing { name_exists: true })
            && let Ok(all) = self.question(set, Rtype::ANY, answer.server..answer.server + 1)
        {
            let types = reply::types_there(set, all.message.for_slice());
            if !types.is_empty() {
                return Ok(Seen::InTheWay(types.join(", ")));
            }
        }
        Ok(seen)
    }

    fn question(&mut self, set: &Set, rtype: Rtype, servers: std::ops::Range<usize>) -> Result<Answer, Failure> {
        let doing = format!("ask for {} {rtype}", set.owner);
        let asked = Asked::Question;
        self.first_of(
            servers,
            &doing,
            None,
            &asked,
            || message::question(&set.owner, rtype),
            |message| match message.header().rcode() {
                Rcode::NOERROR | Rcode::NXDOMAIN if message.header().aa() => Ok(()),
                Rcode::NOERROR | Rcode::NXDOMAIN => Err(Trouble::NoAuthority),
                rcode => Err(Trouble::Refusal { rcode, asked: asked.clone(), proven: true }),
            },
        )
    }

    /// Replaces all record sets by this node's in one step, and looks until the server that took the update
    /// says so. What it says in the end is as this node wants it, apart from TTLs a server may have a mind
    /// of its own about.
    pub(crate) fn replace(&mut self, key: Option<&Key>) -> Result<Vec<Seen>, Error> {
        let doing = format!("update the zone {}", self.zone.name);
        let asked = Asked::update(key);
        let servers = 0..self.zone.servers.len();
        let zone = self.zone;
        let answer = self
            .first_of(
                servers,
                &doing,
                key,
                &asked,
                || message::replace(zone, key),
                |message| match message.header().rcode() {
                    Rcode::NOERROR => Ok(()),
                    rcode => Err(Trouble::Refusal { rcode, asked: asked.clone(), proven: true }),
                },
            )
            .map_err(Failure::into_error)?;
        self.read_back(answer.server)
    }

    fn read_back(&mut self, server: usize) -> Result<Vec<Seen>, Error> {
        let until = (clock::monotonic() + Duration::from_millis(READ_BACK_MS_MAX)).min(end());
        let mut wait_ms = READ_BACK_WAIT_MS;
        loop {
            let zone = self.zone;
            let looks = zone.sets.iter().map(|set| self.look_at(set, server..server + 1).map(|seen| (set, seen)));
            let last = match looks.collect::<Result<Vec<_>, _>>() {
                Ok(looks) => match looks.iter().find(|(_, seen)| !matches!(seen, Seen::Ours | Seen::OurValues(_))) {
                    None => return Ok(looks.into_iter().map(|(_, seen)| seen).collect()),
                    Some((set, Seen::InTheWay(what))) => return Err(in_the_way(set, what).partial()),
                    Some((set, seen)) => format!("{} says that {set} {seen}", zone.servers[server]),
                },
                Err(failure) => failure.into_error().message,
            };
            if clock::monotonic() + Duration::from_millis(wait_ms) >= until {
                let message = format!(
                    "update the zone {}: {} took the update, and reading it back does not show it: {last}",
                    zone.name, zone.servers[server]
                );
                return Err(Error::unavailable("not-read-back", message).partial());
            }
            clock::sleep(Duration::from_millis(wait_ms));
            wait_ms = (wait_ms * 2).min(READ_BACK_WAIT_MS_MAX);
        }
    }

    /// Deletes a record set if, at that moment, it holds exactly this node's values.
    ///
    /// The update's prerequisite says so, and decides. It is looked at before all the same, because some
    /// servers find it fulfilled when the values are there among others (hickory-server 0.26).
    pub(crate) fn delete_if_ours(&mut self, set: &Set, key: Option<&Key>) -> Result<Deleted, Error> {
        let doing = format!("delete {set} from the zone {}", self.zone.name);
        let asked = Asked::update(key);
        let servers = 0..self.zone.servers.len();
        match self.look_at(set, servers.clone()) {
            Ok(Seen::Partly(_)) => return Ok(Deleted::NotOurs),
            // Who is silent now would be silent again.
            Err(failure) if !failure.is_answer() => return Err(failure.into_error().no_effect().doing(doing)),
            Ok(_) | Err(_) => {}
        }
        let zone = self.zone;
        let answer = self
            .first_of(
                servers,
                &doing,
                key,
                &asked,
                || message::delete_if_ours(zone, set, key),
                |message| {
                    match message.header().rcode() {
                        // The prerequisite failed: other records, or none, or no such name.
                        Rcode::NOERROR | Rcode::NXRRSET | Rcode::NXDOMAIN => Ok(()),
                        rcode => Err(Trouble::Refusal { rcode, asked: asked.clone(), proven: true }),
                    }
                },
            )
            .map_err(Failure::into_error)?;
        let gone = answer.message.header().rcode() == Rcode::NOERROR;
        Ok(if gone { Deleted::Gone } else { Deleted::NotOurs })
    }

    /// Tries `servers`, beginning with the one that answered last, until `accept` finds an answer that will do.
    fn first_of(
        &mut self,
        servers: std::ops::Range<usize>,
        doing: &str,
        key: Option<&Key>,
        asked: &Asked,
        request: impl Fn() -> Request,
        accept: impl Fn(&Message<[u8]>) -> Result<(), Trouble>,
    ) -> Result<Answer, Failure> {
        let others = servers.clone().filter(|index| *index != self.first);
        let order: Vec<usize> = servers.contains(&self.first).then_some(self.first).into_iter().chain(others).collect();
        let mut troubles = Vec::new();
        for (tried, index) in order.iter().copied().enumerate() {
            let server = &self.zone.servers[index];
            // Each of those left may take its share of the time left.
            let now = clock::monotonic();
            let until = now + end().saturating_sub(now) / u32::try_from(order.len() - tried).unwrap_or(u32::MAX);
            let exchange = Exchange { server, request: &request(), key, asked, until };
            match exchange.run().and_then(|message| accept(message.for_slice()).map(|()| message)) {
                Ok(message) => {
                    self.first = index;
                    return Ok(Answer { server: index, message });
                }
                Err(trouble) => troubles.push((server.clone(), trouble)),
            }
        }
        Err(Failure { doing: doing.to_owned(), troubles })
    }
}

/// What keeps a record set from being written belongs to somebody: a person has to decide.
pub(crate) fn in_the_way(set: &Set, what: &str) -> Error {
    let message = format!(
        "write {set}: at that name there is {what}, and the two cannot stand beside each other; delete it, or take another name"
    );
    Error::conflict("in-the-way", message).no_effect()
}

/// When the last answer has to be there, on the monotonic clock.
fn end() -> Duration {
    (clock::monotonic() + clock::remaining()).saturating_sub(Duration::from_millis(RESERVE_MS))
}
