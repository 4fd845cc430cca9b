//! Signatures as a server makes and checks them (RFC 8945, 5.2 and 5.3).

use domain::base::iana::{Class, Rtype, TsigRcode};
use domain::base::name::{ParsedName, ToName};
use domain::base::{Message, Name, Record, Ttl};
use domain::rdata::Tsig;
use domain::rdata::tsig::Time48;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};

use super::name;

/// What the server's key is called.
pub(crate) const KEY: &str = "ms-key";
/// The key in base64, as a secret's file has it.
pub(crate) const SECRET: &str = "bWFpbnN0YXktdGVzdC1rZXktb2YtMzItYnl0ZXMtMDE=";
const SECRET_BYTES: &[u8] = b"mainstay-test-key-of-32-bytes-01";
const FUDGE_S: u16 = 300;

/// What the server does to the signature of its replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Seal {
    /// A good one.
    #[default]
    Good,
    /// None.
    Missing,
    /// One bit of it is wrong.
    Wrong,
    /// Only its first half.
    Short,
    /// Good, by a key of another name.
    OtherKey,
    /// Good, with another record after it.
    NotLast,
    /// Good, as of an hour from now.
    Late,
}

/// How the server tells its time when it finds the request's wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TellsTime {
    /// As RFC 8945 has it: the request's time signed, its own in the last field.
    #[default]
    InOther,
    /// By signing with its own time, and an empty last field.
    BySigning,
    /// Not at all.
    Not,
}

/// A request that was signed well.
pub(crate) struct Request {
    algorithm: String,
    mac: Vec<u8>,
    id: u16,
    time_s: u64,
}

/// One that was not.
pub(crate) enum Refusal {
    /// Nobody can sign this refusal.
    Unsigned(TsigRcode, String, u16),
    /// The time is wrong.
    Time(Request),
}

/// The signature of a request: none when it has none.
pub(crate) fn open(message: &Message<Vec<u8>>, now_s: u64) -> Result<Option<Request>, Refusal> {
    let bytes = message.as_slice();
    let mut section = message.additional().expect("additional records");
    let mut start = section.pos();
    let mut last = None;
    while let Some(record) = section.next() {
        assert!(last.is_none(), "the signature is not the last record");
        let record = record.expect("a record");
        if record.rtype() == Rtype::TSIG {
            last = Some((start, record));
        }
        start = section.pos();
    }
    let Some((start, record)) = last else { return Ok(None) };
    let record = record.to_record::<Tsig<&[u8], ParsedName<&[u8]>>>().expect("data").expect("TSIG");
    assert_eq!((record.class(), record.ttl()), (Class::ANY, Ttl::ZERO));
    let tsig = record.data();
    let algorithm = tsig.algorithm().to_string();
    let id = message.header().id();
    assert_eq!((tsig.original_id(), tsig.error(), tsig.fudge()), (id, TsigRcode::NOERROR, FUDGE_S));
    let known =
        record.owner().name_eq(&name(KEY)) && ["hmac-sha256", "hmac-sha384", "hmac-sha512"].contains(&&*algorithm);
    if !known {
        return Err(Refusal::Unsigned(TsigRcode::BADKEY, algorithm, id));
    }
    let mut signed = bytes[..start].to_vec();
    let count = message.header_counts().arcount() - 1;
    signed[10..12].copy_from_slice(&count.to_be_bytes());
    let time_s = u64::from(tsig.time_signed());
    signed.extend(variables(KEY, &algorithm, time_s, TsigRcode::NOERROR, tsig.other()));
    if mac(&algorithm, &signed) != *tsig.mac() {
        return Err(Refusal::Unsigned(TsigRcode::BADSIG, algorithm, id));
    }
    let request = Request { algorithm, mac: tsig.mac().to_vec(), id, time_s };
    if time_s.abs_diff(now_s) > u64::from(FUDGE_S) { Err(Refusal::Time(request)) } else { Ok(Some(request)) }
}

impl Request {
    /// Signs the reply to it.
    pub(crate) fn seal(&self, reply: Vec<u8>, now_s: u64, seal: Seal) -> Vec<u8> {
        match seal {
            Seal::Missing => reply,
            Seal::Good => self.append(reply, KEY, now_s, TsigRcode::NOERROR, &[], |_| {}),
            Seal::Wrong => self.append(reply, KEY, now_s, TsigRcode::NOERROR, &[], |mac| mac[0] ^= 1),
            Seal::Short => self.append(reply, KEY, now_s, TsigRcode::NOERROR, &[], |mac| mac.truncate(mac.len() / 2)),
            Seal::OtherKey => self.append(reply, "other-key", now_s, TsigRcode::NOERROR, &[], |_| {}),
            Seal::Late => self.append(reply, KEY, now_s + 3_600, TsigRcode::NOERROR, &[], |_| {}),
            Seal::NotLast => {
                let mut out = self.append(reply, KEY, now_s, TsigRcode::NOERROR, &[], |_| {});
                // The root's TXT record, empty.
                out.extend_from_slice(&[0, 0, 16, 0, 1, 0, 0, 0, 0, 0, 1, 0]);
                out[11] += 1;
                out
            }
        }
    }

    fn append(
        &self,
        reply: Vec<u8>,
        key: &str,
        time_s: u64,
        error: TsigRcode,
        other: &[u8],
        spoil: impl FnOnce(&mut Vec<u8>),
    ) -> Vec<u8> {
        let mut signed = (self.mac.len() as u16).to_be_bytes().to_vec();
        signed.extend_from_slice(&self.mac);
        signed.extend_from_slice(&reply);
        signed.extend(variables(key, &self.algorithm, time_s, error, other));
        let mut mac = mac(&self.algorithm, &signed);
        spoil(&mut mac);
        record(reply, key, &self.algorithm, time_s, &mac, self.id, error, other)
    }
}

impl Refusal {
    /// Signs it as far as that is possible.
    pub(crate) fn seal(self, reply: Vec<u8>, now_s: u64, tells_time: TellsTime) -> Vec<u8> {
        match self {
            Self::Unsigned(error, algorithm, id) => record(reply, KEY, &algorithm, now_s, &[], id, error, &[]),
            Self::Time(request) => {
                let own = &now_s.to_be_bytes()[2..];
                let (time_s, other): (u64, &[u8]) = match tells_time {
                    TellsTime::InOther => (request.time_s, own),
                    TellsTime::BySigning => (now_s, &[]),
                    TellsTime::Not => (request.time_s, &[]),
                };
                request.append(reply, KEY, time_s, TsigRcode::BADTIME, other, |_| {})
            }
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "they are the fields of the record")]
fn record(
    mut reply: Vec<u8>,
    key: &str,
    algorithm: &str,
    time_s: u64,
    mac: &[u8],
    id: u16,
    error: TsigRcode,
    other: &[u8],
) -> Vec<u8> {
    let tsig =
        Tsig::new(name(algorithm), Time48::from_u64(time_s), FUDGE_S, mac, id, error, other).expect("short data");
    let Ok(()) = Record::new(name(key), Class::ANY, Ttl::ZERO, tsig).compose(&mut reply);
    reply[11] += 1;
    reply
}

fn variables(key: &str, algorithm: &str, time_s: u64, error: TsigRcode, other: &[u8]) -> Vec<u8> {
    let mut out = wire(&name(key));
    out.extend_from_slice(&[0, 255, 0, 0, 0, 0]);
    out.extend(wire(&name(algorithm)));
    out.extend_from_slice(&time_s.to_be_bytes()[2..]);
    out.extend_from_slice(&FUDGE_S.to_be_bytes());
    out.extend_from_slice(&error.to_int().to_be_bytes());
    out.extend_from_slice(&(other.len() as u16).to_be_bytes());
    out.extend_from_slice(other);
    out
}

fn wire(name: &Name<Vec<u8>>) -> Vec<u8> {
    name.as_slice().to_ascii_lowercase()
}

fn mac(algorithm: &str, data: &[u8]) -> Vec<u8> {
    fn of<M: Mac + KeyInit>(data: &[u8]) -> Vec<u8> {
        let mut mac = <M as KeyInit>::new_from_slice(SECRET_BYTES).expect("any length");
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    }
    match algorithm {
        "hmac-sha256" => of::<Hmac<Sha256>>(data),
        "hmac-sha384" => of::<Hmac<Sha384>>(data),
        "hmac-sha512" => of::<Hmac<Sha512>>(data),
        other => panic!("{other} is no algorithm"),
    }
}
