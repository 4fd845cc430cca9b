//! What came back: whether it is the answer to what was asked, and what it says about a record set.
//!
//! Whatever does not answer the request, or does not prove where it comes from although the request was
//! signed, is ignored with a reason. Any bytes may come; none of them makes this panic.

use domain::base::Message;
use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::name::ToName;

use crate::message::Request;
use crate::plan::Set;
use crate::trouble::Trouble;
use crate::tsig::{self, Key, Seal};
use crate::value;

/// What a reply is to the request.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Its answer.
    Answer(Message<Vec<u8>>),
    /// An authentic answer, but the two clocks are too far apart.
    Clocks(Trouble),
    /// The server says that it does not know the key, or that the request's signature is wrong. It cannot
    /// prove that, and anybody can say so.
    KeyRefused(Trouble),
    /// Nothing to go by.
    Ignored(Ignored),
}

/// Why a reply is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Ignored {
    /// Not a DNS message.
    #[error("what is no DNS message")]
    Garbage,
    /// A DNS message that answers something else.
    #[error("a message that answers something else ({0})")]
    Other(&'static str),
    /// It says this, and should have been signed.
    #[error("an unsigned reply that says {0}, to a signed request")]
    Unsigned(Rcode),
    /// It is signed, and that proves nothing.
    #[error("a reply that is not authentic: {0}")]
    Forged(&'static str),
}

impl Ignored {
    /// Stable, for programs.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Garbage => "garbage-reply",
            Self::Other(_) => "other-reply",
            Self::Unsigned(_) => "unsigned-reply",
            Self::Forged(_) => "forged-reply",
        }
    }
}

/// Compares `bytes` with the request, which was signed by `key` if there is one, at `now_s`.
pub(crate) fn judge(request: &Request, key: Option<&Key>, bytes: Vec<u8>, now_s: u64) -> Judged {
    let Ok(reply) = Message::from_octets(bytes) else { return Judged::Ignored(Ignored::Garbage) };
    let header = reply.header();
    if header.id() != request.id {
        return Judged::Ignored(Ignored::Other("another id"));
    }
    if !header.qr() || header.opcode() != request.opcode {
        return Judged::Ignored(Ignored::Other("no reply to such a request"));
    }
    if !same_question(request, reply.for_slice()) {
        return Judged::Ignored(Ignored::Other("another question"));
    }
    if !is_readable(reply.for_slice()) {
        return Judged::Ignored(Ignored::Garbage);
    }
    let (Some(signed), Some(key)) = (&request.signed, key) else { return Judged::Answer(reply) };
    match tsig::check(key, signed, reply.for_slice(), now_s) {
        Seal::Good => Judged::Answer(reply),
        Seal::Clocks(server_s) => Judged::Clocks(Trouble::BadTime { own_s: now_s, server_s }),
        Seal::KeyRefused(error) => Judged::KeyRefused(Trouble::from_tsig(error, key)),
        Seal::None => Judged::Ignored(Ignored::Unsigned(header.rcode())),
        Seal::Bad(why) => Judged::Ignored(Ignored::Forged(why)),
    }
}

/// A reply repeats the question; one to an update, or one that says an error, may leave it out (RFC 2136, 3.8).
fn same_question(request: &Request, reply: &Message<[u8]>) -> bool {
    let mut questions = reply.question();
    match (questions.next(), questions.next()) {
        (None, _) => request.rtype == Rtype::SOA || reply.header().rcode() != Rcode::NOERROR,
        (Some(Ok(question)), None) => {
            question.qname().name_eq(&request.name)
                && question.qtype() == request.rtype
                && question.qclass() == Class::IN
        }
        (Some(_), _) => false,
    }
}

/// Whether all records can be read. What a truncated reply has lost is missing from its counts, too.
fn is_readable(reply: &Message<[u8]>) -> bool {
    let Ok(mut section) = reply.answer() else { return false };
    loop {
        if section.by_ref().any(|record| record.is_err()) {
            return false;
        }
        match section.next_section() {
            Ok(Some(next)) => section = next,
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// What a name server says about a record set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Exactly this node's values, to be remembered as long as it should be.
    Ours,
    /// Exactly this node's values, with another TTL, in s.
    OurValues(u32),
    /// Some of this node's values, not all, or not only; this is there.
    Partly(String),
    /// Values of somebody else.
    Others(String),
    /// No such records. There may be others at the name if it exists.
    Nothing {
        /// Whether the name does.
        name_exists: bool,
    },
    /// Something that keeps such records from being there.
    InTheWay(String),
}

impl std::fmt::Display for Seen {
    /// Goes on from the record set's name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ours => f.write_str("is as it should be"),
            Self::OurValues(ttl_s) => write!(f, "has a TTL of {ttl_s} s"),
            Self::Partly(there) => write!(f, "is partly this node's: {there}"),
            Self::Others(there) => write!(f, "points elsewhere: {there}"),
            Self::Nothing { .. } => f.write_str("is not there"),
            Self::InTheWay(what) => write!(f, "cannot be there beside {what}"),
        }
    }
}

/// What an authoritative answer says about `set`.
pub(crate) fn seen(set: &Set, reply: &Message<[u8]>) -> Seen {
    let mut values = Vec::new();
    let mut ttl_s = u32::MAX;
    let records = reply.answer().ok().into_iter().flatten().filter_map(Result::ok);
    for record in records.filter(|record| record.class() == Class::IN && record.owner().name_eq(&set.owner)) {
        if record.rtype() == set.record_type.rtype() {
            // What cannot be read is not this node's; an empty value stands for it.
            values.push(value::from_wire(set.record_type, &record).unwrap_or_default());
            ttl_s = ttl_s.min(record.ttl().as_secs());
        } else if record.rtype() == Rtype::CNAME {
            return Seen::InTheWay("a CNAME".to_owned());
        }
    }
    values.sort_unstable();
    values.dedup();
    if values.is_empty() {
        return Seen::Nothing { name_exists: reply.header().rcode() == Rcode::NOERROR };
    }
    if values == set.values {
        return if ttl_s == set.ttl_s { Seen::Ours } else { Seen::OurValues(ttl_s) };
    }
    let there = value::list(set.record_type, &values);
    if values.iter().any(|value| set.values.contains(value)) { Seen::Partly(there) } else { Seen::Others(there) }
}

/// The types of the records at the set's name that keep a CNAME from being there: all but DNSSEC's
/// own, and HINFO, which some servers make up rather than list everything (RFC 8482, 4.2).
pub(crate) fn types_there(set: &Set, reply: &Message<[u8]>) -> Vec<String> {
    let beside = [Rtype::CNAME, Rtype::RRSIG, Rtype::NSEC, Rtype::HINFO];
    let mut types = Vec::new();
    for record in reply.answer().ok().into_iter().flatten().filter_map(Result::ok) {
        let rtype = record.rtype().to_string();
        if record.owner().name_eq(&set.owner) && !beside.contains(&record.rtype()) && !types.contains(&rtype) {
            types.push(rtype);
        }
    }
    types
}
