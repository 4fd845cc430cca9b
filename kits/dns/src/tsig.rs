//! TSIG (RFC 8945): signing a request, and telling whether a reply was signed by whom it was sent to.
//!
//! The messages are taken as the bytes they are: a reply's signature record is cut off where it stands, and
//! nothing is encoded again. Shortened MACs are not accepted, and not sent. What a verified reply says is
//! for others to judge, except for its time.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use domain::base::iana::{Class, Rtype, TsigRcode};
use domain::base::name::{ParsedName, ToName};
use domain::base::{Message, Name, Record, Ttl};
use domain::rdata::tsig::{Time48, Tsig};
use hmac::{Hmac, KeyInit, Mac};
use mainstay_sdk::prelude::*;
use sha2::{Sha256, Sha384, Sha512};

use crate::params::Algorithm;
use crate::plan::KeyName;
use crate::value::DnsName;

/// How far two clocks may be apart, in s: what the RFC recommends (10).
pub(crate) const FUDGE_S: u16 = 300;
/// Where in a message its id is, and where the number of additional records.
const ID_AT: usize = 0;
const ADDITIONAL_COUNT_AT: usize = 10;
/// How long a message's header is, in bytes.
const HEADER_BYTES: usize = 12;
/// The longest MAC, in bytes: that of HMAC-SHA-512.
const MAC_BYTES_MAX: usize = 64;
/// The longest name of an algorithm, in bytes.
const ALGORITHM_BYTES_MAX: usize = 13;

/// A key, ready to sign.
pub(crate) struct Key {
    name: DnsName,
    algorithm: Algorithm,
    secret: Vec<u8>,
}

/// What a request's signature was.
pub(crate) struct Signed {
    mac: Vec<u8>,
    /// When, in s since 1970.
    pub(crate) time_s: u64,
}

/// What the signature of a reply comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// The holder of the key sent it, now.
    Good,
    /// The holder of the key sent it, and the clocks are too far apart; the server's, in s since 1970, if it said.
    Clocks(Option<u64>),
    /// There is none.
    None,
    /// There is none, and there could not be one: the server does not know the key, or finds the request's
    /// signature wrong. Anybody could have sent that.
    KeyRefused(TsigRcode),
    /// There is one that proves nothing.
    Bad(&'static str),
}

impl Algorithm {
    /// Its name in messages (RFC 8945, 6).
    fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    fn name(self) -> &'static Name<[u8]> {
        let wire: &[u8] = match self {
            Self::HmacSha256 => b"\x0bhmac-sha256\0",
            Self::HmacSha384 => b"\x0bhmac-sha384\0",
            Self::HmacSha512 => b"\x0bhmac-sha512\0",
        };
        Name::from_slice(wire).expect("a label of 11 bytes and the root are a name")
    }
}

impl Key {
    /// Fetches the key's secret from the host.
    pub(crate) fn fetch(key: &KeyName) -> Result<Self, Error> {
        let doing = format!("read the secret {:?} of the key {}", key.secret, key.name);
        let secret = secret::get(&key.secret).map_err(|fault| Error::from(fault).doing(&doing).no_effect())?;
        let text: Vec<u8> = secret.expose().iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoded = GeneralPurpose::new(&base64::alphabet::STANDARD, config).decode(text).unwrap_or_default();
        if decoded.is_empty() {
            // Not what is wrong with it where: that would say something about a secret.
            let what = "it is no key in base64; the file holds only what stands between the quotes behind `secret` in the server's configuration";
            return Err(Error::invalid_params("key-secret", format!("{doing}: {what}")).elsewhere());
        }
        Ok(Self { name: key.name.clone(), algorithm: key.algorithm, secret: decoded })
    }

    fn mac(&self, parts: &[&[u8]]) -> Mac3 {
        match self.algorithm {
            Algorithm::HmacSha256 => Mac3::Sha256(fed(&self.secret, parts)),
            Algorithm::HmacSha384 => Mac3::Sha384(fed(&self.secret, parts)),
            Algorithm::HmacSha512 => Mac3::Sha512(fed(&self.secret, parts)),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.algorithm.as_str())
    }
}

/// A MAC that has seen everything.
enum Mac3 {
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

fn fed<M: Mac + KeyInit>(secret: &[u8], parts: &[&[u8]]) -> M {
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

impl Mac3 {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Sha256(mac) => mac.finalize().into_bytes().to_vec(),
            Self::Sha384(mac) => mac.finalize().into_bytes().to_vec(),
            Self::Sha512(mac) => mac.finalize().into_bytes().to_vec(),
        }
    }

    /// Compares in constant time; a shortened MAC is another one.
    fn is(self, mac: &[u8]) -> bool {
        match self {
            Self::Sha256(own) => own.verify_slice(mac).is_ok(),
            Self::Sha384(own) => own.verify_slice(mac).is_ok(),
            Self::Sha512(own) => own.verify_slice(mac).is_ok(),
        }
    }
}

/// How long a signature's record is at most, in bytes.
pub(crate) fn record_bytes_max(key: &DnsName) -> usize {
    // Owner, type, class, TTL, length; algorithm; time, fudge, MAC length; MAC; original id, error, other length.
    key.len() + 10 + ALGORITHM_BYTES_MAX + 10 + MAC_BYTES_MAX + 6
}

/// Signs `message` as of `now_s`, in s since 1970: its record is appended.
pub(crate) fn sign(key: &Key, message: &mut Vec<u8>, now_s: u64) -> Signed {
    let time = time48(now_s);
    let variables = variables(key, time, FUDGE_S, TsigRcode::NOERROR, &[]);
    let mac = key.mac(&[message, &variables]).bytes();
    let id = u16::from_be_bytes([message[ID_AT], message[ID_AT + 1]]);
    let tsig: Tsig<&[u8], _> =
        Tsig::new(key.algorithm.name(), time, FUDGE_S, &mac[..], id, TsigRcode::NOERROR, &[][..])
            .expect("a MAC of at most 64 bytes makes no long record");
    // Appending to a vector cannot fail: its error type has no values.
    let Ok(()) = Record::new(&key.name, Class::ANY, Ttl::ZERO, tsig).compose(message);
    let count = u16::from_be_bytes([message[ADDITIONAL_COUNT_AT], message[ADDITIONAL_COUNT_AT + 1]]);
    message[ADDITIONAL_COUNT_AT..][..2].copy_from_slice(&(count + 1).to_be_bytes());
    Signed { mac, time_s: now_s }
}

/// Looks at the signature of `reply` to a request that was signed like this.
pub(crate) fn check(key: &Key, request: &Signed, reply: &Message<[u8]>, now_s: u64) -> Seal {
    let (start, record) = match find(reply) {
        Found::Nothing => return Seal::None,
        Found::Wrong(what) => return Seal::Bad(what),
        Found::Last { start, record } => (start, record),
    };
    let tsig = record.data();
    if tsig.mac().is_empty() {
        return match tsig.error() {
            error @ (TsigRcode::BADKEY | TsigRcode::BADSIG) => Seal::KeyRefused(error),
            _ => Seal::None,
        };
    }
    if !record.owner().name_eq(&key.name) || !tsig.algorithm().name_eq(key.algorithm.name()) {
        return Seal::Bad("it is signed by another key");
    }
    let mut header = [0; HEADER_BYTES];
    header.copy_from_slice(&reply.as_slice()[..HEADER_BYTES]);
    header[ID_AT..][..2].copy_from_slice(&tsig.original_id().to_be_bytes());
    let count = reply.header_counts().arcount().saturating_sub(1);
    header[ADDITIONAL_COUNT_AT..][..2].copy_from_slice(&count.to_be_bytes());
    // An own MAC is at most 64 bytes long.
    let request_length = (request.mac.len() as u16).to_be_bytes();
    let body = &reply.as_slice()[HEADER_BYTES..start];
    let variables = variables(key, tsig.time_signed(), tsig.fudge(), tsig.error(), tsig.other());
    if !key.mac(&[&request_length, &request.mac, &header, body, &variables]).is(tsig.mac()) {
        return Seal::Bad("its signature is wrong");
    }
    check_time(request, tsig, now_s)
}

/// A server that finds the request's time wrong says its own in the record's last field (RFC 8945, 5.2.3),
/// or only as the time it signed at, or not at all.
fn check_time(request: &Signed, tsig: &Inside<'_>, now_s: u64) -> Seal {
    let signed_s = u64::from(tsig.time_signed());
    if tsig.error() == TsigRcode::BADTIME {
        let own = tsig.other_time().map(u64::from);
        return Seal::Clocks(own.or((signed_s != request.time_s).then_some(signed_s)));
    }
    if now_s.abs_diff(signed_s) > u64::from(tsig.fudge()) {
        return Seal::Clocks(Some(signed_s));
    }
    Seal::Good
}

/// A signature's data, in the message it came in.
type Inside<'a> = Tsig<&'a [u8], ParsedName<&'a [u8]>>;

enum Found<'a> {
    Nothing,
    Wrong(&'static str),
    Last { start: usize, record: Record<ParsedName<&'a [u8]>, Inside<'a>> },
}

/// The signature's record: the only one, and the last of all (RFC 8945, 5.1).
fn find(reply: &Message<[u8]>) -> Found<'_> {
    const GARBLED: Found<'static> = Found::Wrong("its records cannot be read");
    let Ok(mut section) = reply.additional() else { return GARBLED };
    let mut found = Found::Nothing;
    loop {
        let start = section.pos();
        let Some(record) = section.next() else { return found };
        let Ok(record) = record else { return GARBLED };
        if !matches!(found, Found::Nothing) {
            return Found::Wrong("its signature is not at its end");
        }
        if record.rtype() == Rtype::TSIG {
            let Ok(Some(record)) = record.into_record() else { return GARBLED };
            found = Found::Last { start, record };
        }
    }
}

/// What is signed besides the message (RFC 8945, 4.3.3).
fn variables(key: &Key, time: Time48, fudge: u16, error: TsigRcode, other: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Appending to a vector cannot fail: its error type has no values.
    let Ok(()) = key.name.compose_canonical(&mut out);
    out.extend_from_slice(&Class::ANY.to_int().to_be_bytes());
    out.extend_from_slice(&Ttl::ZERO.as_secs().to_be_bytes());
    let Ok(()) = key.algorithm.name().compose_canonical(&mut out);
    out.extend_from_slice(&time.into_octets());
    out.extend_from_slice(&fudge.to_be_bytes());
    out.extend_from_slice(&error.to_int().to_be_bytes());
    // It came in a record, whose length is two bytes.
    out.extend_from_slice(&(other.len() as u16).to_be_bytes());
    out.extend_from_slice(other);
    out
}

/// 48 bits are enough until the year 8,921,556; a clock beyond it is wrong in any case.
fn time48(time_s: u64) -> Time48 {
    Time48::from_u64(time_s & 0xffff_ffff_ffff)
}
