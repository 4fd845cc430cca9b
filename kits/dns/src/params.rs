//! What an operator writes for names in the DNS: zones, servers, a key, and the records of this node.
//!
//! Everything an operator may set per node sits in tables, because the host merges `params-on.NODE` into
//! `params` table by table and replaces lists as a whole: `records.mail.values` alone is enough there.
//! The schema refuses what cannot be right by its shape; what only makes sense together is checked by
//! `plan`.

use std::collections::BTreeMap;

use mainstay_sdk::{Json, Params, Span};
use serde::Deserialize;

/// Names in the DNS that point at the node in service.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DnsParams {
    /// The zone that `records` belong to. Several zones go into `zones`.
    pub zone: Option<String>,
    /// The record sets of `zone`.
    #[serde(default)]
    pub records: Records,
    /// Zones by name, each with its own records; `servers`, `key` and `ttl` hold for them too unless they have their own.
    #[serde(default)]
    pub zones: BTreeMap<String, ZoneParams>,
    /// The name servers that take updates, tried in order until one does it: host or host:port (default: port 53).
    #[serde(default)]
    pub servers: Vec<String>,
    /// The TSIG key that signs updates. Without one they are sent unsigned.
    pub key: Option<KeyParams>,
    /// How long others may remember a record (default: 30s).
    pub ttl: Option<Span>,
    /// What remove does with the record sets (default: keep).
    #[serde(default)]
    pub on_remove: OnRemove,
}

/// A zone of its own, with servers or a key of its own.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ZoneParams {
    /// The record sets of this zone.
    #[serde(default)]
    pub records: Records,
    /// The name servers of this zone.
    pub servers: Option<Vec<String>>,
    /// The key for this zone.
    pub key: Option<KeyParams>,
    /// How long others may remember a record of this zone.
    pub ttl: Option<Span>,
}

/// A TSIG key.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KeyParams {
    /// The key's name, as the server knows it.
    pub name: String,
    /// Its algorithm (default: hmac-sha256).
    #[serde(default)]
    pub algorithm: Algorithm,
    /// The name of the granted secret that holds the key in base64, as the server's configuration has it.
    pub secret: String,
}

/// How a key signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
pub enum Algorithm {
    #[default]
    #[serde(rename = "hmac-sha256")]
    #[allow(missing_docs, reason = "the name says it, and the schema would repeat it")]
    HmacSha256,
    #[serde(rename = "hmac-sha384")]
    #[allow(missing_docs, reason = "the name says it, and the schema would repeat it")]
    HmacSha384,
    #[serde(rename = "hmac-sha512")]
    #[allow(missing_docs, reason = "the name says it, and the schema would repeat it")]
    HmacSha512,
}

/// What remove does with record sets that point at this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
pub enum OnRemove {
    /// leave them until the next restore replaces them, so that the name never vanishes
    #[default]
    Keep,
    /// delete those that still hold exactly this node's values
    Delete,
}

/// Record sets, by their names relative to the zone (`@` for the zone itself), or by any label if they have a `name`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Records(pub BTreeMap<String, RecordSet>);

/// All records of one type at one name, as this node has them.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RecordSet {
    /// The name, relative to the zone or in full (default: the label of this table). For a second type at a name.
    pub name: Option<String>,
    /// The type of the records.
    pub r#type: RecordType,
    /// How long others may remember them.
    pub ttl: Option<Span>,
    /// The values of this node, as a zone file has them; names in them are full names, text is not quoted.
    pub values: Vec<String>,
}

/// The types of records the kit writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Params)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "they are named as everybody names them")]
pub enum RecordType {
    A,
    Aaaa,
    Cname,
    Mx,
    Ptr,
    Srv,
    Txt,
}

impl Params for Records {
    /// The record set's own schema, and for each type what its values look like. Coarse on purpose:
    /// `plan` reads the value.
    const SCHEMA: Json = {
        let set = RecordSet::SCHEMA.described(RecordSet::DESCRIPTION);
        let (open, _) = set.as_str().split_at(set.len() - 1);
        Json::raw(r#"{"type":"object","additionalProperties":"#)
            .push(open)
            .push(r#","allOf":[{"properties":{"values":{"minItems":1}}}"#)
            .push(values("A", r"^[0-9]{1,3}(\\.[0-9]{1,3}){3}$", "an IPv4 address, such as 192.0.2.10").as_str())
            .push(values("AAAA", "^[0-9A-Fa-f]*:[0-9A-Fa-f:.]+$", "an IPv6 address, such as 2001:db8::10").as_str())
            .push(values("CNAME", "^[^ ]+$", "a name in full, such as mail.example.org").as_str())
            .push(values("MX", "^[0-9]{1,5} +[^ ]+$", "priority and name, such as 10 mail.example.org").as_str())
            .push(values("PTR", "^[^ ]+$", "a name in full, such as mail.example.org").as_str())
            .push(
                values(
                    "SRV",
                    "^([0-9]{1,5} +){3}[^ ]+$",
                    "priority, weight, port and name, such as 0 5 5060 sip.example.org",
                )
                .as_str(),
            )
            .push("]}}")
    };
    const DESCRIPTION: &'static str = "Record sets, by their names relative to the zone (`@` for the zone itself), or by any label if they have a `name`.";
}

/// What the values of one type look like, as a part of a schema's `allOf`.
const fn values(record_type: &str, pattern: &str, description: &str) -> Json {
    Json::raw(r#",{"if":{"properties":{"type":{"const":""#)
        .push(record_type)
        .push(r#""}}},"then":{"properties":{"values":{"items":{"pattern":""#)
        .push(pattern)
        .push(r#"","description":""#)
        .push(description)
        .push(r#""}}}}}"#)
}
