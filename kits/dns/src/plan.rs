//! From params to what is to be done: zones with their servers, their key and this node's record sets.
//!
//! Everything wrong with the params is found here, all of it at once, before anything is asked or sent.
//! Nothing here reaches the host: a key is named, its secret is fetched when something is to be signed.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_sdk::Span;
use mainstay_sdk::net::Address;
use mainstay_sdk::prelude::*;

use crate::message;
use crate::params::{Algorithm, DnsParams, KeyParams, OnRemove, RecordSet, RecordType};
use crate::value::{self, DnsName};

/// How many record sets a resource may have: each of them costs a question at every check.
const RECORD_SET_COUNT_MAX: usize = 64;
/// How many values a record set may have: more than anybody answers with, and few enough for a message's count.
const VALUE_COUNT_MAX: usize = 256;
/// How long others may remember a record unless the params say so, in s. It is also how long clients may go
/// on asking the old node after a switchover, against how often resolvers ask again.
const TTL_S: u32 = 30;
/// The highest TTL there is, in s (RFC 2181, 8).
const TTL_S_MAX: u128 = 0x7fff_ffff;
/// Where a name server listens.
const PORT: u16 = 53;

/// What the params come to.
#[derive(Debug)]
pub(crate) struct Plan {
    /// At least one, each with at least one record set.
    pub(crate) zones: Vec<Zone>,
    /// What remove does.
    pub(crate) on_remove: OnRemove,
}

/// A zone, and what this node's part of it is.
#[derive(Debug)]
pub(crate) struct Zone {
    /// Its name.
    pub(crate) name: DnsName,
    /// Who takes updates for it: at least one.
    pub(crate) servers: Vec<Address>,
    /// What signs them.
    pub(crate) key: Option<KeyName>,
    /// What it holds while this node is in service.
    pub(crate) sets: Vec<Set>,
}

/// A key by its name.
#[derive(Clone, Debug)]
pub(crate) struct KeyName {
    /// What the server knows it by.
    pub(crate) name: DnsName,
    /// How it signs.
    pub(crate) algorithm: Algorithm,
    /// The secret that holds it.
    pub(crate) secret: String,
}

/// All records of one type at one name.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    /// The name.
    pub(crate) owner: DnsName,
    /// The type.
    pub(crate) record_type: RecordType,
    /// How long others may remember them, in s.
    pub(crate) ttl_s: u32,
    /// This node's values as record data, sorted; at least one.
    pub(crate) values: Vec<Vec<u8>>,
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.owner, self.record_type)
    }
}

impl Set {
    /// This node's values, for people.
    pub(crate) fn values_text(&self) -> String {
        value::list(self.record_type, &self.values)
    }
}

impl Plan {
    /// Reads the params, or says all that is wrong with them.
    pub(crate) fn new(params: &DnsParams) -> Result<Self, Error> {
        let mut problems = Problems::default();
        let mut zones = Vec::new();
        match &params.zone {
            Some(zone) => zones.push((zone, &params.records, None, None, None)),
            None if !params.records.0.is_empty() => {
                problems.add("records", "there are records, and no `zone` they belong to")
            }
            None if params.zones.is_empty() => {
                problems.add("zone", "give one `zone` with `records`, or several in `zones`")
            }
            None => {}
        }
        for (zone, own) in &params.zones {
            zones.push((zone, &own.records, own.servers.as_ref(), own.key.as_ref(), own.ttl));
        }
        let set_count: usize = zones.iter().map(|(_, records, ..)| records.0.len()).sum();
        let zones: Vec<Zone> = zones
            .into_iter()
            .filter_map(|(zone, records, servers, key, ttl)| {
                Reading { problems: &mut problems, zone }.zone(
                    &records.0,
                    servers.unwrap_or(&params.servers),
                    key.or(params.key.as_ref()),
                    ttl.or(params.ttl),
                )
            })
            .collect();
        let mut names = BTreeSet::new();
        for zone in &zones {
            if !names.insert(zone.name.to_string()) {
                problems.add(&zone.name, "the zone is there twice");
            }
        }
        if set_count > RECORD_SET_COUNT_MAX {
            problems.add(
                "records",
                format!("{set_count} record sets are too many, at most {RECORD_SET_COUNT_MAX} go into one resource"),
            );
        }
        problems.none_or_error()?;
        Ok(Self { zones, on_remove: params.on_remove })
    }
}

/// What is wrong with the params.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, at: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.0.push(format!("{at}: {what}"));
    }

    fn none_or_error(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid_params("params", self.0.join("; "))) }
    }
}

/// Reading one zone. What is wrong is noted, and the rest is still read, to find all that is wrong.
struct Reading<'a> {
    problems: &'a mut Problems,
    zone: &'a str,
}

impl Reading<'_> {
    fn wrong(&mut self, at: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.problems.add(format_args!("zone {}: {at}", self.zone), what);
    }

    fn zone(
        mut self,
        records: &BTreeMap<String, RecordSet>,
        servers: &[String],
        key: Option<&KeyParams>,
        ttl: Option<Span>,
    ) -> Option<Zone> {
        let name = match value::name(self.zone) {
            Ok(name) => name,
            Err(problem) => {
                self.wrong("name", problem);
                return None;
            }
        };
        if records.is_empty() {
            self.wrong("records", "there are none, so there is nothing to do in this zone");
        }
        if servers.is_empty() {
            self.wrong("servers", "there are none; name the servers that take updates for the zone");
        }
        let servers = servers.iter().filter_map(|text| self.server(text)).collect();
        let key = key.and_then(|key| self.key(key));
        let sets = records
            .iter()
            .take(RECORD_SET_COUNT_MAX)
            .filter_map(|(label, set)| self.set(&name, label, set, ttl))
            .collect();
        let zone = Zone { name, servers, key, sets };
        self.together(&zone);
        Some(zone)
    }

    fn server(&mut self, text: &str) -> Option<Address> {
        let server = Address::read(text, PORT);
        if server.is_none() {
            self.wrong("servers", format_args!("{text:?} is neither host nor host:port"));
        }
        server
    }

    fn key(&mut self, key: &KeyParams) -> Option<KeyName> {
        match value::name(&key.name) {
            Ok(name) => Some(KeyName { name, algorithm: key.algorithm, secret: key.secret.clone() }),
            Err(problem) => {
                self.wrong("key", problem);
                None
            }
        }
    }

    fn set(&mut self, zone: &DnsName, label: &str, set: &RecordSet, ttl: Option<Span>) -> Option<Set> {
        let at = format!("records.{label}");
        let owner = match owner(zone, set.name.as_deref().unwrap_or(label)) {
            Ok(owner) => owner,
            Err(problem) => {
                self.wrong(at, problem);
                return None;
            }
        };
        let ttl_s = ttl_s(set.ttl.or(ttl)).unwrap_or_else(|problem| {
            self.wrong(&at, problem);
            TTL_S
        });
        if set.values.len() > VALUE_COUNT_MAX {
            self.wrong(
                &at,
                format_args!("{} values are too many, at most {VALUE_COUNT_MAX} are possible", set.values.len()),
            );
        }
        let mut values = Vec::new();
        for text in set.values.iter().take(VALUE_COUNT_MAX) {
            match value::from_text(set.r#type, text) {
                Ok(value) if values.contains(&value) => {
                    self.wrong(&at, format_args!("the value {text:?} is there twice"))
                }
                Ok(value) => values.push(value),
                Err(problem) => self.wrong(&at, problem),
            }
        }
        if set.values.is_empty() {
            self.wrong(&at, "there are no values");
        }
        if set.r#type == RecordType::Cname && set.values.len() > 1 {
            self.wrong(&at, "a CNAME has one value");
        }
        values.sort_unstable();
        Some(Set { owner, record_type: set.r#type, ttl_s, values })
    }

    /// What no record set shows by itself.
    fn together(&mut self, zone: &Zone) {
        for (index, set) in zone.sets.iter().enumerate() {
            for other in &zone.sets[..index] {
                if other.owner != set.owner {
                    continue;
                }
                if other.record_type == set.record_type {
                    self.wrong("records", format_args!("{set} is there twice: put all its values into one"));
                } else if [other.record_type, set.record_type].contains(&RecordType::Cname) {
                    self.wrong("records", format_args!("{} has a CNAME, so it can have nothing else", set.owner));
                }
            }
        }
        let bytes = message::replace_bytes(zone);
        if bytes > message::MESSAGE_BYTES_MAX {
            self.wrong(
                "records",
                format_args!(
                    "they make an update of {bytes} bytes, at most {} are possible: divide them between resources",
                    message::MESSAGE_BYTES_MAX
                ),
            );
        }
    }
}

/// The name of a record set: `@`, relative to the zone, or in full. A name that ends in the zone's is taken
/// for a full one, with or without a dot at its end.
fn owner(zone: &DnsName, text: &str) -> Result<DnsName, String> {
    if text == "@" {
        return Ok(zone.clone());
    }
    let full = value::name(text)?;
    if full.ends_with(zone) {
        return Ok(full);
    }
    if text.ends_with('.') {
        return Err(format!("{text:?} is not in the zone {zone}"));
    }
    value::name(&format!("{text}.{}", zone.fmt_with_dot()))
}

fn ttl_s(ttl: Option<Span>) -> Result<u32, String> {
    let Some(ttl) = ttl else { return Ok(TTL_S) };
    let ms = ttl.duration().as_millis();
    if ms % 1_000 != 0 || ms / 1_000 > TTL_S_MAX {
        return Err(format!("a TTL of {ttl} cannot be: write whole seconds, at most {TTL_S_MAX}"));
    }
    u32::try_from(ms / 1_000).map_err(|_| format!("a TTL of {ttl} cannot be"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_sdk::Params;
    use serde_json::{Value, json};

    fn plan(params: Value) -> Result<Plan, Error> {
        Plan::new(&DnsParams::read(&params.to_string()).unwrap())
    }

    fn one(records: Value) -> Result<Plan, Error> {
        plan(json!({ "zone": "example.org", "servers": ["192.0.2.53"], "records": records }))
    }

    #[track_caller]
    fn refused(result: Result<Plan, Error>, words: &[&str]) {
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.effect), (ErrorKind::InvalidParams, Effect::None));
        for word in words {
            assert!(error.message.contains(word), "expected {word:?} in {}", error.message);
        }
    }

    #[test]
    fn names_are_relative_or_full() {
        let names = [
            ("mail", "mail.example.org"),
            ("@", "example.org"),
            ("a.b", "a.b.example.org"),
            ("Mail.Example.Org", "mail.example.org"),
            ("mail.example.org.", "mail.example.org"),
            ("example.org", "example.org"),
            ("example.org.uk", "example.org.uk.example.org"),
            ("*", "*.example.org"),
        ];
        for (text, full) in names {
            let plan = one(json!({ text: { "type": "A", "values": ["192.0.2.1"] } })).unwrap();
            assert_eq!(plan.zones[0].sets[0].owner.to_string(), full);
        }
        refused(
            one(json!({ "mail.example.com.": { "type": "A", "values": ["192.0.2.1"] } })),
            &["is not in the zone example.org"],
        );
    }

    #[test]
    fn one_name_may_have_two_types() {
        let plan = one(json!({
            "mail": { "type": "A", "values": ["192.0.2.1"] },
            "mail-v6": { "name": "mail", "type": "AAAA", "values": ["2001:db8::1"], "ttl": "1m" },
        }))
        .unwrap();
        let sets: Vec<_> = plan.zones[0].sets.iter().map(|set| (set.to_string(), set.ttl_s)).collect();
        assert_eq!(sets, [("mail.example.org A".to_owned(), 30), ("mail.example.org AAAA".to_owned(), 60)]);
    }

    #[test]
    fn a_zone_takes_what_it_has_none_of_its_own() {
        let plan = plan(json!({
            "servers": ["192.0.2.53", "ns.example.org:5353"], "ttl": "5m", "key": { "name": "k", "secret": "s" },
            "zones": {
                "example.org": { "records": { "@": { "type": "MX", "values": ["10 mail.example.org"] } } },
                "2.0.192.in-addr.arpa": {
                    "servers": ["[2001:db8::53]:53"], "ttl": "10s",
                    "key": { "name": "k2", "algorithm": "hmac-sha512", "secret": "s2" },
                    "records": { "10": { "type": "PTR", "values": ["mail.example.org"] } },
                },
            },
        }))
        .unwrap();
        let [reverse, forward] = &plan.zones[..] else { panic!("two zones") };
        assert_eq!(forward.servers[1], Address { host: "ns.example.org".into(), port: 5353 });
        assert_eq!(forward.key.as_ref().unwrap().secret, "s");
        assert_eq!(forward.sets[0].ttl_s, 300);
        assert_eq!(reverse.servers[0].to_string(), "[2001:db8::53]:53");
        assert_eq!(reverse.key.as_ref().unwrap().algorithm, Algorithm::HmacSha512);
        assert_eq!(
            (reverse.sets[0].ttl_s, reverse.sets[0].to_string()),
            (10, "10.2.0.192.in-addr.arpa PTR".to_owned())
        );
    }

    #[test]
    fn servers_read_as_they_are_granted() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            assert_eq!(
                Address::read(text, PORT),
                expected.map(|(host, port)| Address { host: host.into(), port }),
                "{text}"
            );
        };
        check("192.0.2.53", Some(("192.0.2.53", 53)));
        check("192.0.2.53:5353", Some(("192.0.2.53", 5353)));
        check("ns1.example.org", Some(("ns1.example.org", 53)));
        check("2001:db8::53", Some(("2001:db8::53", 53)));
        check("[2001:db8::53]", Some(("2001:db8::53", 53)));
        check("[2001:db8::53]:5353", Some(("2001:db8::53", 5353)));
        for wrong in ["", ":53", "a:", "a:0", "a:70000", "a:x", "[::1", "[::1]53", "a b", "udp://a"] {
            check(wrong, None);
        }
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let a = |value: &str| json!({ "type": "A", "values": [value] });
        refused(plan(json!({})), &["give one `zone`"]);
        refused(plan(json!({ "records": { "a": a("192.0.2.1") } })), &["no `zone` they belong to"]);
        refused(plan(json!({ "zone": "example.org" })), &["records: there are none", "servers: there are none"]);
        refused(
            plan(json!({
                "zone": "a..b", "servers": ["x y"], "key": { "name": "", "secret": "s" },
                "zones": { "example.org": { "records": {
                    "a": a("192.0.2.1"), "b": a("nonsense"), "A": a("192.0.2.2"), "c": { "type": "A", "values": [], "ttl": "1500ms" },
                    "a.": a("192.0.2.1"),
                    "n": { "name": "d", "type": "CNAME", "values": ["x.example.org", "y.example.org"] }, "d": a("192.0.2.1"),
                    "e": { "type": "TXT", "values": ["x", "x"] },
                } } },
            })),
            &[
                "\"a..b\" is no domain name",
                "\"x y\" is neither host nor host:port",
                "key: \"\" is no domain name",
                "\"nonsense\" is no IPv4 address",
                "a.example.org A is there twice",
                "records.c: there are no values",
                "records.c: a TTL of 1500ms cannot be",
                "\"a.\" is not in the zone",
                "a CNAME has one value",
                "d.example.org has a CNAME",
                "the value \"x\" is there twice",
            ],
        );
        refused(
            plan(json!({
                "zone": "example.org", "servers": ["x"], "records": { "a": a("192.0.2.1") },
                "zones": { "Example.ORG.": { "records": { "b": a("192.0.2.1") } } },
            })),
            &["example.org: the zone is there twice"],
        );
    }

    #[test]
    fn limits_hold() {
        let mut records = json!({});
        for index in 0..65 {
            records[format!("a{index}")] = json!({ "type": "A", "values": ["192.0.2.1"] });
        }
        refused(one(records), &["65 record sets are too many, at most 64"]);
        let values: Vec<_> = (0..20).map(|index| format!("{index}{}", "x".repeat(4_000))).collect();
        refused(
            one(json!({ "a": { "type": "TXT", "values": values } })),
            &["they make an update of", "65535 are possible"],
        );
    }
}
