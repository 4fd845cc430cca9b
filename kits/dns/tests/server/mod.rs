//! A small authoritative name server for the kit's tests: questions, updates, and signatures.
//!
//! It knows RFC 2136 and RFC 8945 as far as a server has to for the kit, by code of its own that shares
//! nothing with the kit's. What it does wrong, it does because a test says so. Real servers are asked in
//! `tests/e2e`.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod seal;
mod zone;

use std::cell::RefCell;
use std::rc::Rc;

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use mainstay_sdk::testing::{Answer, FakeHost};

use seal::Request;
pub(crate) use seal::{KEY, SECRET, Seal, TellsTime};
pub(crate) use zone::Zone;

/// Where the fake host's wall clock starts, in s since 1970.
pub(crate) const NOW_S: u64 = 1_700_000_000;
/// The longest answer by datagram, in bytes: what the kit asks for.
const UDP_BYTES_MAX: usize = 1_232;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// As a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// What goes out for one message that came in.
pub(crate) enum Sent {
    /// These messages, in this order; over TCP each behind its length.
    Messages(Vec<Vec<u8>>),
    /// Exactly this.
    Raw(Answer),
}

impl From<Vec<u8>> for Sent {
    fn from(message: Vec<u8>) -> Self {
        Self::Messages(vec![message])
    }
}

/// What the server is like, and what came to it.
#[derive(Default)]
pub(crate) struct State {
    /// What it serves.
    pub(crate) zones: Vec<Zone>,
    /// Takes updates without a signature.
    pub(crate) open: bool,
    /// Answers every question with this.
    pub(crate) question_rcode: Option<Rcode>,
    /// Answers every update with this.
    pub(crate) update_rcode: Option<Rcode>,
    /// Says that it is not authoritative.
    pub(crate) no_authority: bool,
    /// How far its clock is from the kit's, in s.
    pub(crate) clock_off_s: i64,
    /// How it says so.
    pub(crate) tells_time: TellsTime,
    /// How it signs.
    pub(crate) seal: Seal,
    /// How often it still tells the old records after an update.
    pub(crate) stale_answer_count: usize,
    /// Finds a prerequisite fulfilled when the values are there among others.
    pub(crate) lax: bool,
    /// Gives records this TTL, whatever it is told.
    pub(crate) ttl_s: Option<u32>,
    /// The updates it got, whatever came of them.
    pub(crate) update_count: usize,
    /// The questions it got.
    pub(crate) question_count: usize,
    stale: Option<Vec<Zone>>,
}

type Behaviour = dyn FnMut(Over, Vec<u8>) -> Sent;

/// The server.
#[derive(Clone)]
pub(crate) struct Server {
    state: Rc<RefCell<State>>,
    behaviour: Rc<RefCell<Box<Behaviour>>>,
}

impl Server {
    /// One with the zones `example.org` and `2.0.192.in-addr.arpa`, both empty, that takes signed updates.
    pub(crate) fn new() -> Self {
        let zones = vec![Zone::new("example.org"), Zone::new("2.0.192.in-addr.arpa")];
        let state = State { zones, ..State::default() };
        Self {
            state: Rc::new(RefCell::new(state)),
            behaviour: Rc::new(RefCell::new(Box::new(|_, reply| reply.into()))),
        }
    }

    /// Puts it at a host, port 53.
    pub(crate) fn listen(&self, host: &FakeHost, at: &str) {
        let udp = self.clone();
        host.udp(at, 53, move |datagram| udp.answer(Over::Udp, datagram));
        let tcp = self.clone();
        host.tcp(at, 53, move |written| {
            let Some(length) = written.first_chunk::<2>().map(|length| usize::from(u16::from_be_bytes(*length))) else {
                return Answer::nothing();
            };
            if written.len() < 2 + length {
                return Answer::nothing();
            }
            let message: Vec<u8> = written.drain(..2 + length).skip(2).collect();
            tcp.answer(Over::Tcp, &message)
        });
    }

    /// Looks at what it is like, or changes it.
    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.borrow_mut())
    }

    /// Lets the test do something else with each reply.
    pub(crate) fn behave<S: Into<Sent>>(&self, mut behaviour: impl FnMut(Over, Vec<u8>) -> S + 'static) {
        *self.behaviour.borrow_mut() = Box::new(move |over, reply| behaviour(over, reply).into());
    }

    /// The record data at a name; none when there is none.
    pub(crate) fn values(&self, owner: &str, rtype: Rtype) -> Option<Vec<Vec<u8>>> {
        let state = self.state.borrow();
        state.zones.iter().find_map(|zone| zone.get(owner, rtype)).map(|set| set.values.clone())
    }

    /// Puts records at a name, as somebody else may have.
    pub(crate) fn put(&self, owner: &str, rtype: Rtype, ttl_s: u32, values: &[&[u8]]) {
        let mut state = self.state.borrow_mut();
        let zone = state.zones.iter_mut().find(|zone| zone.holds(owner)).expect("a zone that holds it");
        zone.replace(owner, rtype, ttl_s, values.iter().map(|value| value.to_vec()).collect());
    }

    fn answer(&self, over: Over, message: &[u8]) -> Answer {
        let reply = self.state.borrow_mut().reply(over, message);
        match (self.behaviour.borrow_mut())(over, reply) {
            Sent::Raw(answer) => answer,
            Sent::Messages(messages) => messages.into_iter().fold(Answer::nothing(), |answer, message| {
                if over == Over::Tcp { answer.and(framed(&message)) } else { answer.and(message) }
            }),
        }
    }
}

/// A message behind its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = (message.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(message);
    out
}

/// A name of its own from text.
pub(crate) fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().expect("a name")
}

impl State {
    fn reply(&mut self, over: Over, message: &[u8]) -> Vec<u8> {
        let message = Message::from_octets(message.to_vec()).expect("the kit sends messages");
        match message.header().opcode() {
            Opcode::QUERY => self.question(over, &message),
            Opcode::UPDATE => self.update(&message),
            other => panic!("the kit sent {other}"),
        }
    }

    fn question(&mut self, over: Over, message: &Message<Vec<u8>>) -> Vec<u8> {
        self.question_count += 1;
        let question = message.sole_question().expect("one question");
        let owner = question.qname().to_string();
        let zones = match &self.stale {
            Some(stale) if self.stale_answer_count > 0 => {
                self.stale_answer_count -= 1;
                stale
            }
            Some(_) | None => &self.zones,
        };
        let zone = zones.iter().find(|zone| zone.holds(&owner));
        let rcode = match zone {
            None => Rcode::REFUSED,
            Some(zone) if zone.exists(&owner) => Rcode::NOERROR,
            Some(_) => Rcode::NXDOMAIN,
        };
        let rcode = self.question_rcode.unwrap_or(rcode);
        let records = zone.map(|zone| zone.lookup(&owner, question.qtype())).unwrap_or_default();
        let full = build(message, rcode, !self.no_authority, |answer| {
            for (rtype, set) in &records {
                for value in &set.values {
                    zone::push(answer, &owner, *rtype, set.ttl_s, value);
                }
            }
        });
        if over == Over::Tcp || full.len() <= UDP_BYTES_MAX {
            return full;
        }
        let mut cut = build(message, rcode, !self.no_authority, |_| {});
        cut[2] |= 2;
        cut
    }

    fn update(&mut self, message: &Message<Vec<u8>>) -> Vec<u8> {
        self.update_count += 1;
        let now_s = NOW_S.saturating_add_signed(self.clock_off_s);
        let request = match seal::open(message, now_s) {
            Ok(request) => request,
            Err(refusal) => {
                let reply = build(message, Rcode::NOTAUTH, false, |_| {});
                return refusal.seal(reply, now_s, self.tells_time);
            }
        };
        let rcode = self.update_rcode.unwrap_or_else(|| self.apply(message, request.as_ref()));
        let reply = build(message, rcode, false, |_| {});
        match request {
            Some(request) => request.seal(reply, now_s, self.seal),
            None => reply,
        }
    }

    fn apply(&mut self, message: &Message<Vec<u8>>, request: Option<&Request>) -> Rcode {
        if request.is_none() && !self.open {
            return Rcode::REFUSED;
        }
        let before = self.zones.clone();
        let zone_name = message.sole_question().expect("one zone").qname().to_string();
        let Some(zone) = self.zones.iter_mut().find(|zone| zone.is(&zone_name)) else { return Rcode::NOTAUTH };
        let rcode = zone.update(message, self.lax, self.ttl_s);
        if rcode == Rcode::NOERROR {
            self.stale = Some(before);
        }
        rcode
    }
}

fn build(
    to: &Message<Vec<u8>>,
    rcode: Rcode,
    aa: bool,
    fill: impl FnOnce(&mut domain::base::message_builder::AnswerBuilder<Vec<u8>>),
) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(to.header().id());
    builder.header_mut().set_opcode(to.header().opcode());
    builder.header_mut().set_qr(true);
    builder.header_mut().set_aa(aa);
    builder.header_mut().set_rcode(rcode);
    let mut question = builder.question();
    let asked = to.sole_question().expect("one question");
    question.push((asked.qname(), asked.qtype(), Class::IN)).expect("room");
    let mut answer = question.answer();
    fill(&mut answer);
    answer.finish()
}
