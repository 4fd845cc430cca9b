//! The values of records: from an operator's text, from the wire, and to text for people.
//!
//! Between them a value is its canonical record data (RFC 4034, 6.2: names uncompressed and in lower
//! case), so that two values are the same exactly when their bytes are. Nothing here knows of zones,
//! servers or nodes.

use std::net::{Ipv4Addr, Ipv6Addr};

use domain::base::iana::Rtype;
use domain::base::name::ParsedName;
use domain::base::rdata::{ComposeRecordData, ParseRecordData, UnknownRecordData};
use domain::base::{Name, ParsedRecord};
use domain::rdata::{Cname, Mx, Ptr, Srv};

use crate::params::RecordType;

/// A domain name of its own.
pub(crate) type DnsName = Name<Vec<u8>>;
/// A name inside a message.
type Inside<'a> = ParsedName<&'a [u8]>;

/// The longest string inside a TXT record, in bytes (RFC 1035, 3.3): its length is one byte.
const TEXT_PIECE_BYTES_MAX: usize = 255;
/// How many values a message to people names. The rest is counted.
const NAMED_COUNT_MAX: usize = 4;
/// How much of a value it shows, in characters: all of an address or an ordinary name.
const NAMED_CHARS_MAX: usize = 64;
/// The longest record data, in bytes: its length is two bytes (RFC 1035, 3.2.1).
const DATA_BYTES_MAX: usize = 65_535;

impl RecordType {
    /// Its number in messages.
    pub(crate) fn rtype(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Cname => Rtype::CNAME,
            Self::Mx => Rtype::MX,
            Self::Ptr => Rtype::PTR,
            Self::Srv => Rtype::SRV,
            Self::Txt => Rtype::TXT,
        }
    }
}

impl std::fmt::Display for RecordType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ptr => "PTR",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
        })
    }
}

/// Record data from what an operator wrote, or what is wrong with it.
pub(crate) fn from_text(record_type: RecordType, text: &str) -> Result<Vec<u8>, String> {
    match record_type {
        RecordType::A => text
            .parse::<Ipv4Addr>()
            .map(|address| address.octets().to_vec())
            .map_err(|_| format!("{text:?} is no IPv4 address")),
        RecordType::Aaaa => text
            .parse::<Ipv6Addr>()
            .map(|address| address.octets().to_vec())
            .map_err(|_| format!("{text:?} is no IPv6 address")),
        RecordType::Cname | RecordType::Ptr => target(text).map(|name| name.as_slice().to_vec()),
        RecordType::Mx => numbers_and_name::<1>(text, "10 mail.example.org"),
        RecordType::Srv => numbers_and_name::<3>(text, "0 5 5060 sip.example.org"),
        RecordType::Txt => text_pieces(text),
    }
}

/// Record data from a message: none when it is not what its type says.
pub(crate) fn from_wire(record_type: RecordType, record: &ParsedRecord<'_, [u8]>) -> Option<Vec<u8>> {
    match record_type {
        RecordType::A | RecordType::Aaaa | RecordType::Txt => {
            let record = record.to_record::<UnknownRecordData<&[u8]>>().ok().flatten()?;
            Some((*record.data().data()).to_vec())
        }
        RecordType::Cname => canonical::<Cname<Inside<'_>>>(record),
        RecordType::Mx => canonical::<Mx<Inside<'_>>>(record),
        RecordType::Ptr => canonical::<Ptr<Inside<'_>>>(record),
        RecordType::Srv => canonical::<Srv<Inside<'_>>>(record),
    }
}

fn canonical<'a, D: ParseRecordData<'a, [u8]> + ComposeRecordData>(record: &ParsedRecord<'a, [u8]>) -> Option<Vec<u8>> {
    let record = record.to_record::<D>().ok().flatten()?;
    let mut out = Vec::new();
    // Appending to a vector cannot fail: its error type has no values.
    let Ok(()) = record.data().compose_canonical_rdata(&mut out);
    Some(out)
}

/// Record data as a zone file has it, for people.
pub(crate) fn to_text(record_type: RecordType, data: &[u8]) -> String {
    let shown = match record_type {
        RecordType::A => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).to_string()),
        RecordType::Aaaa => <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
        RecordType::Cname | RecordType::Ptr => numbers_and_name_to_text::<0>(data),
        RecordType::Mx => numbers_and_name_to_text::<1>(data),
        RecordType::Srv => numbers_and_name_to_text::<3>(data),
        RecordType::Txt => text_pieces_to_text(data),
    };
    // RFC 3597's way to show what cannot be shown otherwise.
    shown.unwrap_or_else(|| {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\\# {} {hex}", data.len())
    })
}

/// Values for people: as many, and as much of them, as a sentence holds.
pub(crate) fn list(record_type: RecordType, values: &[Vec<u8>]) -> String {
    let mut out = String::new();
    for (index, data) in values.iter().take(NAMED_COUNT_MAX).enumerate() {
        let text = to_text(record_type, data);
        out.push_str(if index == 0 { "" } else { ", " });
        match text.char_indices().nth(NAMED_CHARS_MAX) {
            Some((end, _)) => {
                out.push_str(&text[..end]);
                out.push_str("...");
            }
            None => out.push_str(&text),
        }
    }
    if values.len() > NAMED_COUNT_MAX {
        out.push_str(&format!(" and {} more", values.len() - NAMED_COUNT_MAX));
    }
    out
}

/// A domain name from text, whole as it stands; in lower case.
pub(crate) fn name(text: &str) -> Result<DnsName, String> {
    let mut name = DnsName::vec_from_str(text).map_err(|error| format!("{text:?} is no domain name: {error}"))?;
    name.make_canonical();
    Ok(name)
}

/// A name in a value. Whether relative names there belong to the zone or to the world is what zone files
/// are famous for getting wrong, so there are none: a single label is taken for a mistake.
fn target(text: &str) -> Result<DnsName, String> {
    let name = name(text)?;
    // The root label counts, too.
    if name.label_count() == 2 && !text.ends_with('.') {
        return Err(format!(
            "{text:?} is a single label: write the name in full, or with a dot at its end if that is all of it"
        ));
    }
    Ok(name)
}

/// `N` numbers and a name: MX has one, SRV three.
fn numbers_and_name<const N: usize>(text: &str, example: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text:?} is not like {example:?}");
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    if words.len() != N + 1 {
        return Err(wrong());
    }
    let mut out = Vec::new();
    for word in &words[..N] {
        out.extend_from_slice(&word.parse::<u16>().map_err(|_| wrong())?.to_be_bytes());
    }
    out.extend_from_slice(target(words[N])?.as_slice());
    Ok(out)
}

fn numbers_and_name_to_text<const N: usize>(data: &[u8]) -> Option<String> {
    let (numbers, rest) = data.split_at_checked(2 * N)?;
    let name = Name::from_slice(rest).ok()?;
    let mut out = String::new();
    for pair in numbers.chunks_exact(2) {
        out.push_str(&format!("{} ", u16::from_be_bytes([pair[0], pair[1]])));
    }
    out.push_str(&name.fmt_with_dot().to_string());
    Some(out)
}

/// Long text becomes several strings of one record; whoever reads it puts them together again.
fn text_pieces(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let pieces = text.as_bytes().chunks(TEXT_PIECE_BYTES_MAX);
    for piece in pieces.chain(text.is_empty().then_some(&[] as &[u8])) {
        // A piece has at most 255 bytes.
        out.push(piece.len() as u8);
        out.extend_from_slice(piece);
    }
    if out.len() > DATA_BYTES_MAX {
        return Err(format!("a text of {} bytes is too long for a record", text.len()));
    }
    Ok(out)
}

fn text_pieces_to_text(mut data: &[u8]) -> Option<String> {
    let mut whole = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (piece, rest) = rest.split_at_checked(usize::from(*length))?;
        whole.extend_from_slice(piece);
        data = rest;
    }
    Some(format!("{:?}", String::from_utf8_lossy(&whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(record_type: RecordType, text: &str, shown: &str) {
        assert_eq!(to_text(record_type, &from_text(record_type, text).unwrap()), shown);
    }

    #[test]
    fn values_read_and_show() {
        same(RecordType::A, "192.0.2.10", "192.0.2.10");
        same(RecordType::Aaaa, "2001:DB8::0:1", "2001:db8::1");
        same(RecordType::Cname, "Mail.Example.org", "mail.example.org.");
        same(RecordType::Ptr, "mail.example.org.", "mail.example.org.");
        same(RecordType::Ptr, "localhost.", "localhost.");
        same(RecordType::Mx, "20  mail.example.org", "20 mail.example.org.");
        same(RecordType::Mx, "0 .", "0 .");
        same(RecordType::Srv, "0 5 5060 sip.example.org.", "0 5 5060 sip.example.org.");
        same(RecordType::Txt, "v=spf1 -all", "\"v=spf1 -all\"");
        same(RecordType::Txt, "", "\"\"");
        same(RecordType::Txt, &"é".repeat(200), &format!("{:?}", "é".repeat(200)));
    }

    #[test]
    fn long_text_is_cut_into_strings_of_255_bytes() {
        let data = from_text(RecordType::Txt, &"x".repeat(300)).unwrap();
        assert_eq!((data[0], data[256], data.len()), (255, 45, 302));
        assert!(from_text(RecordType::Txt, &"x".repeat(65_400)).is_err());
    }

    #[test]
    fn what_is_no_value_is_refused_with_words() {
        let refused = [
            (RecordType::A, "192.0.2", "no IPv4 address"),
            (RecordType::A, "2001:db8::1", "no IPv4 address"),
            (RecordType::A, "192.0.2.010", "no IPv4 address"),
            (RecordType::Aaaa, "192.0.2.1", "no IPv6 address"),
            (RecordType::Cname, "mail", "single label"),
            (RecordType::Cname, "", "no domain name"),
            (RecordType::Cname, "a..b", "no domain name"),
            (RecordType::Mx, "mail.example.org", "is not like"),
            (RecordType::Mx, "65536 mail.example.org", "is not like"),
            (RecordType::Mx, "10 mail", "single label"),
            (RecordType::Srv, "0 5 sip.example.org", "is not like"),
        ];
        for (record_type, text, words) in refused {
            let said = from_text(record_type, text).unwrap_err();
            assert!(said.contains(words), "{record_type} {text:?}: {said}");
        }
    }

    #[test]
    fn many_and_long_values_still_make_a_sentence() {
        let values: Vec<_> =
            (0..6).map(|index| from_text(RecordType::Txt, &format!("{index}{}", "é".repeat(100))).unwrap()).collect();
        let text = list(RecordType::Txt, &values);
        assert!(text.starts_with("\"0éé") && text.ends_with("éé... and 2 more"), "{text}");
        assert_eq!(text.chars().filter(|c| *c == 'é').count(), 4 * 62);
        assert_eq!(list(RecordType::A, &[vec![192, 0, 2, 1], vec![192, 0, 2, 2]]), "192.0.2.1, 192.0.2.2");
    }

    #[test]
    fn data_that_is_not_what_its_type_says_is_shown_raw() {
        for record_type in [RecordType::A, RecordType::Aaaa, RecordType::Cname, RecordType::Mx, RecordType::Srv] {
            assert_eq!(to_text(record_type, &[1, 255]), "\\# 2 01ff");
        }
        assert_eq!(to_text(RecordType::Txt, &[5, 65]), "\\# 2 0541");
        assert_eq!(to_text(RecordType::Cname, &[]), "\\# 0 ");
    }
}
