//! Messages of LDAP (RFC 4511) as bytes: those that the kit sends, and those that it may be answered with.
//!
//! The BER below them is `ldap3_lber`'s. What comes is taken apart part by part, and whatever is not as the protocol
//! says is an error with its place; attributes and controls that nobody asked for are let be. Nothing here waits or
//! decides.

use ldap3_lber::common::TagClass;
use ldap3_lber::parse::Parser;
use ldap3_lber::structure::{PL, StructureTag};

/// StartTLS (RFC 4511, 4.14).
const START_TLS: &str = "1.3.6.1.4.1.1466.20037";
/// The server is about to close the connection (RFC 4511, 4.4.1).
const DISCONNECTION: &str = "1.3.6.1.4.1.1466.20036";
/// Results in pages (RFC 2696).
const PAGED: &str = "1.2.840.113556.1.4.319";
/// How deep a message may be nested: an entry's values are five deep, and each level costs stack.
const DEPTH_MAX: usize = 16;
/// The longest message that is read, in bytes. An entry has a name and a few of its attributes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// The most that is repeated of what a server says, in characters.
const WORDS_CHARS_MAX: usize = 240;
/// The most referrals that are kept of one answer: they are for people.
const REFERRALS_MAX: usize = 8;

const INTEGER: u64 = 2;
const OCTETS: u64 = 4;
const BOOLEAN: u64 = 1;
const ENUMERATED: u64 = 10;
const SEQUENCE: u64 = 16;
const SET: u64 = 17;

/// What a server sent instead of a message: words that go on from "sent".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Garbage {
    /// The bytes are no BER, or not of a message.
    #[error("what is no LDAP message ({0})")]
    Malformed(&'static str),
    /// It would be too long.
    #[error("a message of {0} bytes, of which {MESSAGE_BYTES_MAX} are read")]
    TooLong(usize),
    /// It is a message, and not what was asked for.
    #[error("{0}")]
    Other(&'static str),
}

/// An answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Which request it answers; 0 for none.
    pub(crate) id: i64,
    /// What it says.
    pub(crate) body: Body,
    /// Of a page of results: what to ask for the next one with. Empty: it was the last.
    pub(crate) cookie: Option<Vec<u8>>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// To a bind.
    Bound(Outcome),
    /// A result of a search.
    Entry(Entry),
    /// Where else a search would have to be made.
    Elsewhere(Vec<String>),
    /// The end of a search.
    Searched(Outcome),
    /// To a change.
    Modified(Outcome),
    /// To StartTLS.
    Extended(Outcome),
    /// To nothing: the server is about to close the connection.
    Disconnection(Outcome),
    /// Anything else that the protocol allows to come at any time.
    Aside,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The result code.
    pub(crate) code: i64,
    /// The server's words, on one line and not too long.
    pub(crate) words: String,
    /// Who should be asked instead.
    pub(crate) referrals: Vec<String>,
}

/// A result of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) dn: String,
    /// Its attributes, by names in lower case, with their values.
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// Every value of an attribute that is text.
    pub(crate) fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        let of_it = self.attributes.iter().filter(move |(attribute, _)| attribute.eq_ignore_ascii_case(name));
        of_it.flat_map(|(_, values)| values).filter_map(|value| std::str::from_utf8(value).ok())
    }

    /// The first value of an attribute.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }
}

/// Which entries a search finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// All of these.
    And(Vec<Filter>),
    /// One of them is this value. It goes as it is: the escapes of RFC 4515 are for filters written as text.
    Equal(&'static str, String),
    /// Has any value.
    Present(&'static str),
}

/// How far below its base a search looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only there.
    Base,
    /// There and everywhere below.
    Subtree,
}

/// A search.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// Where.
    pub(crate) base: String,
    /// How far.
    pub(crate) scope: Scope,
    /// What for.
    pub(crate) filter: Filter,
    /// What is wanted of it.
    pub(crate) attributes: &'static [&'static str],
}

/// A change of one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// This value goes away; it has to be there.
    Delete(&'static str, String),
    /// This value comes.
    Add(&'static str, String),
    /// This value, and no other.
    Replace(&'static str, String),
}

// What is sent.

fn tag(class: TagClass, id: u64, payload: PL) -> StructureTag {
    StructureTag { class, id, payload }
}

fn octets(bytes: impl Into<Vec<u8>>) -> StructureTag {
    tag(TagClass::Universal, OCTETS, PL::P(bytes.into()))
}

fn number(id: u64, value: i64) -> StructureTag {
    let bytes = value.to_be_bytes();
    // Bytes that only repeat the sign are left out (X.690, 8.3.2).
    let repeats = |index: &usize| {
        (bytes[*index] == 0 && bytes[*index + 1] < 0x80) || (bytes[*index] == 0xff && bytes[*index + 1] >= 0x80)
    };
    let start = (0..bytes.len() - 1).take_while(repeats).count();
    tag(TagClass::Universal, id, PL::P(bytes[start..].to_vec()))
}

fn boolean(value: bool) -> StructureTag {
    tag(TagClass::Universal, BOOLEAN, PL::P(vec![if value { 0xff } else { 0 }]))
}

fn sequence(parts: Vec<StructureTag>) -> StructureTag {
    tag(TagClass::Universal, SEQUENCE, PL::C(parts))
}

fn bytes(message: StructureTag) -> Vec<u8> {
    let mut out = Default::default();
    match ldap3_lber::write::encode_into(&mut out, message) {
        Ok(()) => out.to_vec(),
        // It writes to memory.
        Err(error) => unreachable!("a message cannot be written to memory: {error}"),
    }
}

fn request(id: i64, operation: u64, payload: PL, controls: Vec<StructureTag>) -> Vec<u8> {
    let mut parts = vec![number(INTEGER, id), tag(TagClass::Application, operation, payload)];
    if !controls.is_empty() {
        parts.push(tag(TagClass::Context, 0, PL::C(controls)));
    }
    bytes(sequence(parts))
}

/// Says who asks, by name and password.
pub(crate) fn bind(id: i64, user: &str, password: &[u8]) -> Vec<u8> {
    let simple = tag(TagClass::Context, 0, PL::P(password.to_vec()));
    request(id, 0, PL::C(vec![number(INTEGER, 3), octets(user), simple]), Vec::new())
}

/// Says goodbye.
pub(crate) fn unbind(id: i64) -> Vec<u8> {
    request(id, 2, PL::P(Vec::new()), Vec::new())
}

/// Asks for TLS.
pub(crate) fn start_tls(id: i64) -> Vec<u8> {
    request(id, 23, PL::C(vec![tag(TagClass::Context, 0, PL::P(START_TLS.into()))]), Vec::new())
}

/// Asks for a page of so many results, the first or the one after `cookie`.
pub(crate) fn search(id: i64, search: &Search, page: Option<(u16, &[u8])>) -> Vec<u8> {
    let scope = match search.scope {
        Scope::Base => 0,
        Scope::Subtree => 2,
    };
    let payload = vec![
        octets(search.base.as_str()),
        number(ENUMERATED, scope),
        // Aliases are never followed, and the server's own limits hold.
        number(ENUMERATED, 0),
        number(INTEGER, 0),
        number(INTEGER, 0),
        boolean(false),
        filter(&search.filter),
        sequence(search.attributes.iter().map(|name| octets(*name)).collect()),
    ];
    let control = page.map(|(size, cookie)| {
        let value = bytes(sequence(vec![number(INTEGER, size.into()), octets(cookie)]));
        sequence(vec![octets(PAGED), boolean(true), octets(value)])
    });
    request(id, 3, PL::C(payload), control.into_iter().collect())
}

fn filter(it: &Filter) -> StructureTag {
    match it {
        Filter::And(all) => tag(TagClass::Context, 0, PL::C(all.iter().map(filter).collect())),
        Filter::Equal(name, value) => tag(TagClass::Context, 3, PL::C(vec![octets(*name), octets(value.as_str())])),
        Filter::Present(name) => tag(TagClass::Context, 7, PL::P((*name).into())),
    }
}

/// Makes all these changes to an entry, or none.
pub(crate) fn modify(id: i64, dn: &str, changes: &[Change]) -> Vec<u8> {
    let change = |change: &Change| {
        let (operation, name, value) = match change {
            Change::Add(name, value) => (0, name, value),
            Change::Delete(name, value) => (1, name, value),
            Change::Replace(name, value) => (2, name, value),
        };
        let values = tag(TagClass::Universal, SET, PL::C(vec![octets(value.as_str())]));
        sequence(vec![number(ENUMERATED, operation), sequence(vec![octets(*name), values])])
    };
    request(id, 6, PL::C(vec![octets(dn), sequence(changes.iter().map(change).collect())]), Vec::new())
}

// What comes.

/// How long the message is that begins here; none while that cannot be told yet.
pub(crate) fn length(start: &[u8]) -> Result<Option<usize>, Garbage> {
    let Some((first, rest)) = start.split_first() else { return Ok(None) };
    if *first != 0x30 {
        return Err(Garbage::Malformed("it does not begin as one"));
    }
    let Some((form, rest)) = rest.split_first() else { return Ok(None) };
    let count = match form {
        0..=0x7f => return Ok(Some(2 + usize::from(*form))),
        0x80 => return Err(Garbage::Malformed("its length is left open")),
        _ => usize::from(form & 0x7f),
    };
    let Some(length) = rest.get(..count) else {
        return if count > 8 { Err(Garbage::Malformed("its length is too long")) } else { Ok(None) };
    };
    // Active Directory writes lengths with four bytes always; more than a message may have is refused below.
    let length =
        length.iter().fold(0_usize, |length, byte| length.saturating_mul(256).saturating_add(usize::from(*byte)));
    let whole = length.saturating_add(2 + count);
    if whole > MESSAGE_BYTES_MAX { Err(Garbage::TooLong(whole)) } else { Ok(Some(whole)) }
}

/// A whole message.
pub(crate) fn read(message: &[u8]) -> Result<Reply, Garbage> {
    let mut parts = Parts::of(parse(message)?, TagClass::Universal, SEQUENCE, "it is no sequence")?;
    let id = parts.number(INTEGER, "its number is missing")?;
    let operation = parts.next("its operation is missing")?;
    let body = body(operation)?;
    let mut cookie = None;
    if let Some(controls) = parts.0.next() {
        let controls = Parts::of(controls, TagClass::Context, 0, "something other than controls follows it")?;
        for control in controls.0 {
            let mut control = Parts::of(control, TagClass::Universal, SEQUENCE, "a control is no sequence")?;
            if control.text("a control has no name")? == PAGED {
                cookie = Some(paged(control)?);
            }
        }
    }
    Ok(Reply { id, body, cookie })
}

fn parse(bytes: &[u8]) -> Result<StructureTag, Garbage> {
    match Parser::new(DEPTH_MAX).parse(bytes) {
        Ok(([], tag)) => Ok(tag),
        Ok(_) => Err(Garbage::Malformed("it is longer than it says")),
        Err(_) => Err(Garbage::Malformed("it is no BER, or too deep")),
    }
}

fn body(operation: StructureTag) -> Result<Body, Garbage> {
    if operation.class != TagClass::Application {
        return Err(Garbage::Malformed("its operation is none"));
    }
    let id = operation.id;
    let PL::C(parts) = operation.payload else { return Err(Garbage::Malformed("its operation has no parts")) };
    let mut parts = Parts(parts.into_iter());
    Ok(match id {
        1 => Body::Bound(outcome(&mut parts)?),
        4 => Body::Entry(entry(parts)?),
        5 => Body::Searched(outcome(&mut parts)?),
        7 => Body::Modified(outcome(&mut parts)?),
        19 => Body::Elsewhere(parts.texts("a reference is no text")?),
        24 => {
            let outcome = outcome(&mut parts)?;
            let name = parts.0.find(|part| part.class == TagClass::Context && part.id == 10);
            match name.map(|name| name.payload) {
                Some(PL::P(name)) if name == DISCONNECTION.as_bytes() => Body::Disconnection(outcome),
                Some(_) | None => Body::Extended(outcome),
            }
        }
        25 => Body::Aside,
        _ => return Err(Garbage::Other("an operation that is no answer to anything asked")),
    })
}

fn outcome(parts: &mut Parts) -> Result<Outcome, Garbage> {
    let code = parts.number(ENUMERATED, "a result has no code")?;
    parts.octets("a result names no entry")?;
    let words = words(&parts.octets("a result has no words")?);
    let mut referrals = Vec::new();
    // What else a result has differs by operation, and is of no use here.
    if parts.0.as_slice().first().is_some_and(|part| part.class == TagClass::Context && part.id == 3)
        && let Some(StructureTag { payload: PL::C(urls), .. }) = parts.0.next()
    {
        referrals = Parts(urls.into_iter()).texts("a referral is no text")?;
    }
    Ok(Outcome { code, words, referrals })
}

fn entry(mut parts: Parts) -> Result<Entry, Garbage> {
    let dn = parts.text("an entry has no name")?;
    let listed = parts.next("an entry has no list of attributes")?;
    let listed = Parts::of(listed, TagClass::Universal, SEQUENCE, "an entry's attributes are no list")?;
    let mut attributes = Vec::new();
    for attribute in listed.0 {
        let mut attribute = Parts::of(attribute, TagClass::Universal, SEQUENCE, "an attribute is no sequence")?;
        let name = attribute.text("an attribute has no name")?.to_lowercase();
        let values = attribute.next("an attribute has no values")?;
        let values = Parts::of(values, TagClass::Universal, SET, "an attribute's values are no set")?;
        let values =
            values.0.map(|value| primitive(value, "a value is no string of bytes")).collect::<Result<_, _>>()?;
        attributes.push((name, values));
    }
    Ok(Entry { dn, attributes })
}

fn paged(mut control: Parts) -> Result<Vec<u8>, Garbage> {
    let mut value = control.next("the control of a page has no value")?;
    if value.class == TagClass::Universal && value.id == BOOLEAN {
        value = control.next("the control of a page has no value")?;
    }
    let value = primitive(value, "the control of a page has no value")?;
    let mut value = Parts::of(parse(&value)?, TagClass::Universal, SEQUENCE, "the control of a page is no sequence")?;
    value.number(INTEGER, "a page has no size")?;
    value.octets("a page has no cookie")
}

/// The parts of something that has some, one after the other.
struct Parts(std::vec::IntoIter<StructureTag>);

impl Parts {
    fn of(it: StructureTag, class: TagClass, id: u64, else_wrong: &'static str) -> Result<Self, Garbage> {
        match it.payload {
            PL::C(parts) if it.class == class && it.id == id => Ok(Self(parts.into_iter())),
            PL::C(_) | PL::P(_) => Err(Garbage::Malformed(else_wrong)),
        }
    }

    fn next(&mut self, else_wrong: &'static str) -> Result<StructureTag, Garbage> {
        self.0.next().ok_or(Garbage::Malformed(else_wrong))
    }

    fn octets(&mut self, else_wrong: &'static str) -> Result<Vec<u8>, Garbage> {
        primitive(self.next(else_wrong)?, else_wrong)
    }

    fn text(&mut self, else_wrong: &'static str) -> Result<String, Garbage> {
        String::from_utf8(self.octets(else_wrong)?).map_err(|_| Garbage::Malformed(else_wrong))
    }

    /// What is left, as text; the first few.
    fn texts(self, else_wrong: &'static str) -> Result<Vec<String>, Garbage> {
        let text = |part| Ok(words(&primitive(part, else_wrong)?));
        self.0.take(REFERRALS_MAX).map(text).collect()
    }

    fn number(&mut self, id: u64, else_wrong: &'static str) -> Result<i64, Garbage> {
        let it = self.next(else_wrong)?;
        match it.payload {
            PL::P(bytes) if it.class == TagClass::Universal && it.id == id && (1..=8).contains(&bytes.len()) => {
                let start = if bytes[0] < 0x80 { 0 } else { -1 };
                Ok(bytes.iter().fold(start, |number, byte| number << 8 | i64::from(*byte)))
            }
            PL::P(_) | PL::C(_) => Err(Garbage::Malformed(else_wrong)),
        }
    }
}

fn primitive(it: StructureTag, else_wrong: &'static str) -> Result<Vec<u8>, Garbage> {
    match it.payload {
        PL::P(bytes) if it.class == TagClass::Universal && it.id == OCTETS => Ok(bytes),
        PL::P(_) | PL::C(_) => Err(Garbage::Malformed(else_wrong)),
    }
}

/// What a server says, for people: on one line, and not too long. Active Directory ends it with a zero byte.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.split(|c: char| c.is_control() || c == ' ').filter(|word| !word.is_empty());
    let mut out = String::new();
    let mut chars = 0;
    for word in line {
        chars += word.chars().count() + 1;
        if chars > WORDS_CHARS_MAX {
            out.extend(" ...".chars().skip(usize::from(out.is_empty())));
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_bytes_of_the_standard() {
        assert_eq!(
            bind(1, "cn=root,dc=plabs", b"asdf"),
            [b"\x30\x20\x02\x01\x01\x60\x1b\x02\x01\x03\x04\x10".as_slice(), b"cn=root,dc=plabs\x80\x04asdf",].concat()
        );
        assert_eq!(unbind(2), b"\x30\x05\x02\x01\x02\x42\x00");
        assert_eq!(
            start_tls(128),
            [b"\x30\x1e\x02\x02\x00\x80\x77\x18\x80\x16".as_slice(), START_TLS.as_bytes()].concat()
        );
        let it = Search {
            base: "DC=x".into(),
            scope: Scope::Subtree,
            filter: Filter::And(vec![Filter::Present("cn"), Filter::Equal("homeMDB", "CN=a(b)*\\".into())]),
            attributes: &["1.1"],
        };
        let filter = b"\xa0\x1a\x87\x02cn\xa3\x14\x04\x07homeMDB\x04\x09CN=a(b)*\\".as_slice();
        let start =
            b"\x30\x3d\x02\x01\x03\x63\x38\x04\x04DC=x\x0a\x01\x02\x0a\x01\x00\x02\x01\x00\x02\x01\x00\x01\x01\x00";
        assert_eq!(search(3, &it, None), [start.as_slice(), filter, b"\x30\x05\x04\x031.1"].concat());
        let control = b"\xa0\x26\x30\x24\x04\x161.2.840.113556.1.4.319\x01\x01\xff\x04\x07\x30\x05\x02\x01\x64\x04\x00";
        assert!(search(3, &it, Some((100, &[]))).ends_with(control));
        let changes = [Change::Delete("a", "1".into()), Change::Add("a", "2".into()), Change::Replace("b", "3".into())];
        let change = |operation: u8, name: &str, value: &str| {
            [
                b"\x30\x0d\x0a\x01".as_slice(),
                &[operation],
                b"\x30\x08\x04\x01",
                name.as_bytes(),
                b"\x31\x03\x04\x01",
                value.as_bytes(),
            ]
            .concat()
        };
        let expected = [
            b"\x30\x38\x02\x01\x04\x66\x33\x04\x02CN\x30\x2d".to_vec(),
            change(1, "a", "1"),
            change(0, "a", "2"),
            change(2, "b", "3"),
        ];
        assert_eq!(modify(4, "CN", &changes), expected.concat());
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for (value, expected) in [
            (0, b"\x02\x01\x00".as_slice()),
            (127, b"\x02\x01\x7f"),
            (128, b"\x02\x02\x00\x80"),
            (-1, b"\x02\x01\xff"),
            (65_536, b"\x02\x03\x01\x00\x00"),
            (i64::MIN, b"\x02\x08\x80\x00\x00\x00\x00\x00\x00\x00"),
        ] {
            assert_eq!(bytes(number(INTEGER, value)), expected);
            let mut parts = Parts(vec![number(INTEGER, value)].into_iter());
            assert_eq!(parts.number(INTEGER, "x"), Ok(value));
        }
    }

    #[test]
    fn the_length_of_a_message_is_told_from_its_start() {
        for (start, expected) in [
            (b"".as_slice(), Ok(None)),
            (b"\x30", Ok(None)),
            (b"\x30\x05", Ok(Some(7))),
            (b"\x30\x82\x01", Ok(None)),
            (b"\x30\x82\x01\x00", Ok(Some(260))),
            // As Active Directory writes it.
            (b"\x30\x84\x00\x00\x00\x10", Ok(Some(22))),
            (b"\x31\x05", Err(Garbage::Malformed("it does not begin as one"))),
            (b"\x30\x80", Err(Garbage::Malformed("its length is left open"))),
            (b"\x30\x84\xff\xff\xff\xff", Err(Garbage::TooLong(0xffff_ffff + 6))),
            (b"\x30\xff\x00", Err(Garbage::Malformed("its length is too long"))),
        ] {
            assert_eq!(length(start), expected, "{start:02x?}");
        }
    }

    #[test]
    fn answers_are_read() {
        let reply = |bytes: &[u8]| read(bytes).unwrap();
        // Lengths with four bytes, and words that end in a zero, as Active Directory has them.
        let bound =
            b"\x30\x84\x00\x00\x00\x15\x02\x01\x01\x61\x84\x00\x00\x00\x0c\x0a\x01\x31\x04\x00\x04\x05a\n b\x00";
        let outcome = Outcome { code: 49, words: "a b".into(), referrals: vec![] };
        assert_eq!(reply(bound), Reply { id: 1, body: Body::Bound(outcome), cookie: None });

        let entry = b"\x30\x27\x02\x01\x02\x64\x22\x04\x04CN=a\x30\x1a\x30\x0a\x04\x02CN\x31\x04\x04\x02\xff\xfe\x30\x0c\x04\x04mail\x31\x04\x04\x02ab";
        let Body::Entry(entry) = reply(entry).body else { panic!("an entry") };
        assert_eq!((entry.dn.as_str(), entry.text("Mail"), entry.text("cn")), ("CN=a", Some("ab"), None));

        let done = b"\x30\x3a\x02\x01\x03\x65\x07\x0a\x01\x00\x04\x00\x04\x00\xa0\x2c\x30\x2a\x04\x161.2.840.113556.1.4.319\x01\x01\x00\x04\x0d\x30\x0b\x02\x01\x00\x04\x06cookie";
        assert_eq!(reply(done).cookie, Some(b"cookie".to_vec()));
        let without_criticality = b"\x30\x31\x02\x01\x03\x65\x07\x0a\x01\x00\x04\x00\x04\x00\xa0\x23\x30\x21\x04\x161.2.840.113556.1.4.319\x04\x07\x30\x05\x02\x01\x00\x04\x00";
        assert_eq!(reply(without_criticality).cookie, Some(Vec::new()));

        let referral = b"\x30\x19\x02\x01\x04\x67\x14\x0a\x01\x0a\x04\x00\x04\x00\xa3\x0b\x04\x09ldap://b/";
        let Body::Modified(outcome) = reply(referral).body else { panic!("a change") };
        assert_eq!((outcome.code, outcome.referrals), (10, vec!["ldap://b/".to_owned()]));

        let notice = b"\x30\x24\x02\x01\x00\x78\x1f\x0a\x01\x34\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20036";
        let Reply { id: 0, body: Body::Disconnection(outcome), .. } = reply(notice) else { panic!("a notice") };
        assert_eq!(outcome.code, 52);
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let mut deep = b"\x04\x00".to_vec();
        for _ in 0..20 {
            deep = [vec![0x30, deep.len() as u8], deep].concat();
        }
        for (bytes, expected) in [
            (b"\x30\x03\x02\x01\x01".to_vec(), Garbage::Malformed("its operation is missing")),
            (b"\x30\x05\x02\x01\x01\x42\x00".to_vec(), Garbage::Malformed("its operation has no parts")),
            (
                b"\x30\x05\x02\x01\x01\x63\x00".to_vec(),
                Garbage::Other("an operation that is no answer to anything asked"),
            ),
            (b"\x30\x05\x02\x01\x01\x65\x00".to_vec(), Garbage::Malformed("a result has no code")),
            (b"\x30\x05\x02\x01\x01\x05\x00\x00".to_vec(), Garbage::Malformed("it is longer than it says")),
            (b"\x30\x05\x02\x05\x01".to_vec(), Garbage::Malformed("it is no BER, or too deep")),
            (deep, Garbage::Malformed("it is no BER, or too deep")),
        ] {
            assert_eq!(read(&bytes), Err(expected), "{bytes:02x?}");
        }
    }

    #[test]
    fn words_are_cut_and_on_one_line() {
        assert_eq!(words(b" a\tb\0"), "a b");
        let long = words("abcdefghi ".repeat(100).as_bytes());
        assert!(long.len() <= WORDS_CHARS_MAX + 4 && long.ends_with("abcdefghi ..."), "{long}");
        assert_eq!(words("x".repeat(1_000).as_bytes()), "...");
        assert_eq!(words(b"\xff"), "\u{fffd}");
    }
}
