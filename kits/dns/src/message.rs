//! The messages the kit sends: questions, and updates of RFC 2136.
//!
//! A message is made anew for each server it goes to, with a random id and, if there is a key, a signature
//! of that moment. Questions are not signed. A signature would not make the answer truer where it matters:
//! clients ask without one, and may be shown another view than a key is; a check that needs a key would
//! call a name unknown that every client can see, because of a wrong clock or a missing secret file; and
//! there are servers that sign updates only. What a forged answer can do is small: the host looks twice
//! before it acts on a bad check, and what restore and remove do is decided by signed updates.

use domain::base::iana::{Class, Opcode, Rtype};
use domain::base::message_builder::PushError;
use domain::base::rdata::UnknownRecordData;
use domain::base::{MessageBuilder, Record, Ttl};
use mainstay_sdk::prelude::*;

use crate::plan::{Set, Zone};
use crate::tsig::{self, Key, Signed};
use crate::value::DnsName;

/// The longest message, in bytes: over TCP its length is two bytes (RFC 1035, 4.2.2).
pub(crate) const MESSAGE_BYTES_MAX: usize = 65_535;
/// The longest datagram a server is asked to answer with, in bytes: what passes every link unfragmented.
const EDNS_BYTES_MAX: u16 = 1_232;

/// A message to send, and what is needed to know its answer.
pub(crate) struct Request {
    /// Its id.
    pub(crate) id: u16,
    /// Its kind.
    pub(crate) opcode: Opcode,
    /// The name in its first section: what is asked for, or the zone to update.
    pub(crate) name: DnsName,
    /// The type in its first section.
    pub(crate) rtype: Rtype,
    /// All of it, signature included.
    pub(crate) bytes: Vec<u8>,
    /// How it was signed.
    pub(crate) signed: Option<Signed>,
}

/// Asks for all records of `rtype` at `name`.
pub(crate) fn question(name: &DnsName, rtype: Rtype) -> Request {
    let id = random_id();
    let builder = begin(id, Opcode::QUERY);
    let mut builder = fits(builder_with(builder, name, rtype)).additional();
    fits(builder.opt(|opt| {
        opt.set_udp_payload_size(EDNS_BYTES_MAX);
        Ok(())
    }));
    Request { id, opcode: Opcode::QUERY, name: name.clone(), rtype, bytes: builder.finish(), signed: None }
}

/// Replaces every record set of the zone by this node's, all of them or none (RFC 2136, 3.4.2: the updates
/// of one message are applied in order and become visible together).
pub(crate) fn replace(zone: &Zone, key: Option<&Key>) -> Request {
    let id = random_id();
    sign(id, &zone.name, replace_unsigned(id, zone), key)
}

/// How long that message is, in bytes, with the longest signature.
pub(crate) fn replace_bytes(zone: &Zone) -> usize {
    let signature = zone.key.as_ref().map_or(0, |key| tsig::record_bytes_max(&key.name));
    replace_unsigned(0, zone).len() + signature
}

fn replace_unsigned(id: u16, zone: &Zone) -> Vec<u8> {
    let builder = begin(id, Opcode::UPDATE);
    let mut builder = fits(builder_with(builder, &zone.name, Rtype::SOA)).authority();
    for set in &zone.sets {
        fits(builder.push(delete(set)));
        for value in &set.values {
            fits(builder.push(record(set, Class::IN, set.ttl_s, value)));
        }
    }
    builder.finish()
}

/// Deletes a record set if it holds exactly this node's values (RFC 2136, 2.4.2).
pub(crate) fn delete_if_ours(zone: &Zone, set: &Set, key: Option<&Key>) -> Request {
    let id = random_id();
    let builder = begin(id, Opcode::UPDATE);
    let mut builder = fits(builder_with(builder, &zone.name, Rtype::SOA)).answer();
    for value in &set.values {
        fits(builder.push(record(set, Class::IN, 0, value)));
    }
    let mut builder = builder.authority();
    fits(builder.push(delete(set)));
    sign(id, &zone.name, builder.finish(), key)
}

fn sign(id: u16, zone: &DnsName, mut bytes: Vec<u8>, key: Option<&Key>) -> Request {
    let signed = key.map(|key| tsig::sign(key, &mut bytes, clock::unix_ms() / 1_000));
    Request { id, opcode: Opcode::UPDATE, name: zone.clone(), rtype: Rtype::SOA, bytes, signed }
}

fn random_id() -> u16 {
    u16::from_be_bytes(random::array())
}

fn begin(id: u16, opcode: Opcode) -> MessageBuilder<Vec<u8>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_opcode(opcode);
    builder
}

fn builder_with(
    builder: MessageBuilder<Vec<u8>>,
    name: &DnsName,
    rtype: Rtype,
) -> Result<domain::base::message_builder::QuestionBuilder<Vec<u8>>, PushError> {
    let mut builder = builder.question();
    builder.push((name, rtype, Class::IN))?;
    Ok(builder)
}

/// A vector grows as needed and there are far fewer than 65,536 records: `plan` holds the number of sets,
/// and their size is looked at before anything is sent.
fn fits<T>(result: Result<T, PushError>) -> T {
    result.expect("a message in a vector has room for what plan lets through")
}

type Raw<'a> = Record<&'a DnsName, UnknownRecordData<&'a [u8]>>;

fn record<'a>(set: &'a Set, class: Class, ttl_s: u32, value: &'a [u8]) -> Raw<'a> {
    let data = UnknownRecordData::from_octets(set.record_type.rtype(), value)
        .expect("a value is at most 65,535 bytes, which value::from_text holds");
    Record::new(&set.owner, class, Ttl::from_secs(ttl_s), data)
}

/// Deletes all records of the set's type at its name (RFC 2136, 2.5.2).
fn delete(set: &Set) -> Raw<'_> {
    record(set, Class::ANY, 0, &[])
}
