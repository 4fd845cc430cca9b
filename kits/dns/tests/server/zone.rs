//! The records of one zone, and what an update does to them (RFC 2136, 3).

use std::collections::BTreeMap;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message_builder::AnswerBuilder;
use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, Record, Ttl};

use super::name;

/// A zone.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    name: String,
    sets: BTreeMap<(String, u16), Set>,
}

/// All records of a type at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// How long others may remember them, in s.
    pub(crate) ttl_s: u32,
    /// Their data, sorted.
    pub(crate) values: Vec<Vec<u8>>,
}

/// Appends a record.
pub(crate) fn push(answer: &mut AnswerBuilder<Vec<u8>>, owner: &str, rtype: Rtype, ttl_s: u32, value: &[u8]) {
    let data = UnknownRecordData::from_octets(rtype, value).expect("short data");
    answer.push(Record::new(name(owner), Class::IN, Ttl::from_secs(ttl_s), data)).expect("room");
}

impl Zone {
    /// An empty one.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), sets: BTreeMap::new() }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name.to_ascii_lowercase()
    }

    /// Whether a name is in it.
    pub(crate) fn holds(&self, owner: &str) -> bool {
        self.is(owner) || owner.to_ascii_lowercase().ends_with(&format!(".{}", self.name))
    }

    pub(crate) fn get(&self, owner: &str, rtype: Rtype) -> Option<&Set> {
        self.sets.get(&(owner.to_ascii_lowercase(), rtype.to_int()))
    }

    pub(crate) fn exists(&self, owner: &str) -> bool {
        self.is(owner) || self.sets.keys().any(|(name, _)| *name == owner.to_ascii_lowercase())
    }

    /// What is answered: the set, everything for ANY, or the CNAME that is there instead.
    pub(crate) fn lookup(&self, owner: &str, rtype: Rtype) -> Vec<(Rtype, Set)> {
        let all = self.sets.iter().filter(|((name, _), _)| *name == owner.to_ascii_lowercase());
        let all = all.map(|((_, rtype), set)| (Rtype::from_int(*rtype), set.clone()));
        all.filter(|(there, _)| *there == rtype || rtype == Rtype::ANY || *there == Rtype::CNAME).collect()
    }

    pub(crate) fn replace(&mut self, owner: &str, rtype: Rtype, ttl_s: u32, mut values: Vec<Vec<u8>>) {
        values.sort();
        let key = (owner.to_ascii_lowercase(), rtype.to_int());
        if values.is_empty() {
            self.sets.remove(&key);
        } else {
            self.sets.insert(key, Set { ttl_s, values });
        }
    }

    /// Checks the prerequisites and makes the changes, all or none.
    pub(crate) fn update(&mut self, message: &Message<Vec<u8>>, lax: bool, forced_ttl_s: Option<u32>) -> Rcode {
        let mut expected: BTreeMap<(String, u16), Vec<Vec<u8>>> = BTreeMap::new();
        for record in message.answer().expect("prerequisites").map(|record| record.expect("a record")) {
            // 3.2.3: a set with exactly these values. The kit sends no other kind.
            assert_eq!((record.class(), record.ttl()), (Class::IN, Ttl::ZERO), "only sets by value are expected");
            let owner = record.owner().to_string();
            if !self.holds(&owner) {
                return Rcode::NOTZONE;
            }
            expected.entry((owner, record.rtype().to_int())).or_default().push(data(&record));
        }
        for ((owner, rtype), mut values) in expected {
            values.sort();
            let there = self.get(&owner, Rtype::from_int(rtype)).map_or(&[][..], |set| &set.values);
            let fulfilled = if lax { values.iter().all(|value| there.contains(value)) } else { values == there };
            if !fulfilled {
                return Rcode::NXRRSET;
            }
        }
        let mut changed = self.clone();
        for record in message.authority().expect("updates").map(|record| record.expect("a record")) {
            let owner = record.owner().to_string();
            if !self.holds(&owner) {
                return Rcode::NOTZONE;
            }
            changed.change(&owner, &record, forced_ttl_s);
        }
        *self = changed;
        Rcode::NOERROR
    }

    fn change(&mut self, owner: &str, record: &domain::base::ParsedRecord<'_, Vec<u8>>, forced_ttl_s: Option<u32>) {
        let rtype = record.rtype();
        if record.class() == Class::ANY {
            assert_eq!((record.rdlen(), record.ttl()), (0, Ttl::ZERO), "the whole set is deleted");
            self.replace(owner, rtype, 0, Vec::new());
            return;
        }
        assert_eq!(record.class(), Class::IN, "the kit deletes no single records");
        // 3.4.2.2: what may not stand beside a CNAME is left out without a word.
        let others =
            self.lookup(owner, Rtype::ANY).iter().any(|(there, _)| (*there == Rtype::CNAME) != (rtype == Rtype::CNAME));
        if others {
            return;
        }
        let mut values = self.get(owner, rtype).map(|set| set.values.clone()).unwrap_or_default();
        values.push(data(record));
        self.replace(owner, rtype, forced_ttl_s.unwrap_or(record.ttl().as_secs()), values);
    }
}

fn data(record: &domain::base::ParsedRecord<'_, Vec<u8>>) -> Vec<u8> {
    let record = record.to_record::<UnknownRecordData<&[u8]>>().expect("data").expect("of any type");
    record.data().data().to_vec()
}
