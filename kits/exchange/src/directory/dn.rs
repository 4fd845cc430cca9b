//! Distinguished names: taken apart (RFC 4514), and compared as Active Directory does, without regard to case.
//!
//! Names that the directory gave go back to it as they came; this is only for telling which are the same, which
//! one lies in which, and what to show people.

/// One part of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The attribute, in lower case; behind a `+` when it belongs to the part before it.
    pub(crate) attribute: String,
    /// Its value, without escapes.
    pub(crate) value: String,
}

/// The parts of a name, the innermost first; none when it is no name.
pub(crate) fn parse(dn: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = dn;
    let mut joined = false;
    loop {
        let (attribute, after) = rest.split_once('=')?;
        let attribute = attribute.trim().to_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if attribute.is_empty() || !attribute.chars().all(plain) {
            return None;
        }
        let (value, end) = value(after)?;
        let attribute = if joined { format!("+{attribute}") } else { attribute };
        parts.push(Part { attribute, value });
        match end {
            None => return Some(parts),
            Some((separator, next)) => (rest, joined) = (next, separator == '+'),
        }
    }
}

/// A value without its escapes, and what follows it: the separator, and the text behind that.
fn value(text: &str) -> Option<(String, Option<(char, &str)>)> {
    let mut out = Vec::new();
    // Up to here it is not to be trimmed: an escaped space counts.
    let mut kept = 0;
    let mut chars = text.char_indices();
    let mut end = None;
    while let Some((at, c)) = chars.next() {
        match c {
            ',' | ';' | '+' => {
                end = Some((if c == '+' { '+' } else { ',' }, &text[at + 1..]));
                break;
            }
            '\\' => {
                let (_, escaped) = chars.next()?;
                match escaped.to_digit(16) {
                    Some(high) => {
                        let low = chars.next()?.1.to_digit(16)?;
                        // Two digits of four bits.
                        out.push((high << 4 | low) as u8);
                    }
                    None => out.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes()),
                }
                kept = out.len();
            }
            ' ' if out.is_empty() => {}
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    while out.len() > kept && out.last() == Some(&b' ') {
        out.pop();
    }
    Some((String::from_utf8(out).ok()?, end))
}

/// What two names have in common that mean the same object. What is no name is only equal to itself, in any case.
pub(crate) fn key(dn: &str) -> String {
    match parse(dn) {
        // The mark behind each part is in none of them: `?` writes it with an escape.
        Some(parts) => {
            parts.iter().map(|part| format!("{}={:?}\u{1}", part.attribute, part.value.to_lowercase())).collect()
        }
        None => dn.to_lowercase(),
    }
}

/// Whether both name the same object.
pub(crate) fn same(one: &str, other: &str) -> bool {
    key(one) == key(other)
}

/// Whether `dn` lies in `base`, or is it.
pub(crate) fn within(dn: &str, base: &str) -> bool {
    match (parse(dn), parse(base)) {
        (Some(_), Some(_)) => {
            let (dn, base) = (key(dn), key(base));
            // Each part ends in a mark, so that no name is taken for the end of a longer part.
            dn == base || dn.ends_with(&format!("\u{1}{base}"))
        }
        (Some(_) | None, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(dn: &str) -> Vec<String> {
        parse(dn)
            .unwrap_or_else(|| panic!("{dn}"))
            .into_iter()
            .map(|part| format!("{}={}", part.attribute, part.value))
            .collect()
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(
            values("CN=Mailbox Store (EX01),CN=First Storage Group"),
            ["cn=Mailbox Store (EX01)", "cn=First Storage Group"]
        );
        assert_eq!(values(r"CN=Smith\, John\+1 , OU = a=b\5C\20"), ["cn=Smith, John+1", r"ou=a=b\ "]);
        assert_eq!(values(r"CN=\C3\84rger;O=x"), ["cn=Ärger", "o=x"]);
        assert_eq!(values(r"CN=a\0ADEL:b,DC=x"), ["cn=a\nDEL:b", "dc=x"]);
        assert_eq!(values("CN=a+SN=b,DC=x"), ["cn=a", "+sn=b", "dc=x"]);
        assert_eq!(values("CN=,DC=x"), ["cn=", "dc=x"]);
        for wrong in [
            "",
            "example.org",
            "CN",
            "CN=a,",
            "CN=a,b",
            "=x",
            r"CN=a\",
            r"CN=\C",
            r"CN=\C3",
            "C N=x",
            "ldap://dc1/CN=x",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_the_same_whatever_their_case_and_escapes() {
        for (one, other, equal) in [
            ("CN=A,DC=x", "cn=a, dc=X", true),
            (r"CN=A\2CB,DC=x", r"CN=a\,b,DC=x", true),
            ("CN=ÄRGER,DC=x", "CN=ärger,DC=x", true),
            ("CN=A,DC=x", "CN=A,DC=y", false),
            (r"CN=A\,DC\=x", "CN=A,DC=x", false),
            ("CN=A+SN=b,DC=x", "CN=A,SN=b,DC=x", false),
            ("nonsense", "NONSENSE", true),
        ] {
            assert_eq!(same(one, other), equal, "{one} and {other}");
        }
    }

    #[test]
    fn a_name_lies_in_what_it_ends_with() {
        for (dn, base, lies) in [
            ("CN=a,OU=b,DC=x", "ou=B,dc=X", true),
            ("OU=b,DC=x", "OU=b,DC=x", true),
            ("CN=a,OU=bb,DC=x", "OU=b,DC=x", false),
            ("DC=x", "OU=b,DC=x", false),
            (r"CN=a\,OU\=b,DC=x", "OU=b,DC=x", false),
            ("nonsense", "nonsense", false),
        ] {
            assert_eq!(within(dn, base), lies, "{dn} in {base}");
        }
    }
}
