//! JSON text put together at compile time.
//!
//! Decides nothing: it is a buffer with a length that `const` code can append to. It is used for the
//! schema of a kit's params and for the kit's manifest, both of which have to be known before the kit
//! ever runs. The buffer itself never reaches a binary: what is stored is the exact text.

/// The longest text a [`Json`] holds, in bytes. A manifest is read by the host before anything is
/// trusted, so it is meant to be small; beyond this the build stops with a message.
pub const JSON_BYTES_MAX: usize = 32 * 1024;

/// A piece of JSON, made at compile time. Appending beyond [`JSON_BYTES_MAX`] is a compile error.
#[derive(Clone, Copy)]
pub struct Json {
    bytes: [u8; JSON_BYTES_MAX],
    length: usize,
}

impl Json {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; JSON_BYTES_MAX], length: 0 }
    }

    /// Starts with `text`, which must be JSON already.
    #[must_use]
    pub const fn raw(text: &str) -> Self {
        Self::new().push(text)
    }

    /// Appends `text` as it stands.
    #[must_use]
    pub const fn push(mut self, text: &str) -> Self {
        self.append(text.as_bytes());
        self
    }

    /// Appends another piece.
    #[must_use]
    pub const fn json(mut self, other: &Self) -> Self {
        self.append(other.as_bytes());
        self
    }

    /// Appends `text` as a JSON string, quoted and escaped.
    #[must_use]
    pub const fn string(mut self, text: &str) -> Self {
        const HEX: [u8; 16] = *b"0123456789abcdef";
        let bytes = text.as_bytes();
        self.append(b"\"");
        let mut index = 0;
        while index < bytes.len() {
            let byte = bytes[index];
            match byte {
                b'"' => self.append(b"\\\""),
                b'\\' => self.append(b"\\\\"),
                b'\n' => self.append(b"\\n"),
                0..=0x1f => {
                    self.append(b"\\u00");
                    self.append(&[HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
                }
                _ => self.append(&[byte]),
            }
            index += 1;
        }
        self.append(b"\"");
        self
    }

    /// Appends a whole number.
    #[must_use]
    pub const fn integer(mut self, value: i128) -> Self {
        let mut digits = [0u8; 40];
        let mut start = digits.len();
        let mut rest = value.unsigned_abs();
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            start -= 1;
            digits[start] = b'-';
        }
        let (_, digits) = digits.split_at(start);
        self.append(digits);
        self
    }

    /// This schema with `"description"` added to it; unchanged when `text` is empty.
    ///
    /// # Panics
    /// At compile time, when this is not a JSON object.
    #[must_use]
    pub const fn described(mut self, text: &str) -> Self {
        if text.is_empty() {
            return self;
        }
        assert!(
            self.length >= 2 && self.bytes[self.length - 1] == b'}',
            "only a schema that is an object can be described"
        );
        self.length -= 1;
        if self.length > 1 {
            self.append(b",");
        }
        self.push("\"description\":").string(text).push("}")
    }

    /// Appends `,"required":[...]` with the names that are marked; nothing when none is.
    #[must_use]
    pub const fn required(mut self, names: &[(&str, bool)]) -> Self {
        let mut any = false;
        let mut index = 0;
        while index < names.len() {
            let (name, required) = names[index];
            if required {
                self = self.push(if any { "," } else { ",\"required\":[" }).string(name);
                any = true;
            }
            index += 1;
        }
        if any { self.push("]") } else { self }
    }

    /// This schema, with JSON's `null` allowed besides. Keeps a plain type plain (`["string","null"]`),
    /// because what `anyOf` says when it refuses a value helps nobody.
    #[must_use]
    pub const fn nullable(&self) -> Self {
        const TYPE: &[u8] = b"{\"type\":";
        const ENUM: &[u8] = b"{\"enum\":[";
        if self.starts_with(TYPE) && self.bytes[TYPE.len()] == b'"' {
            let end = self.position(b'"', TYPE.len() + 1) + 1;
            let mut out = Self::raw("{\"type\":[");
            out.append(self.slice(TYPE.len(), end));
            out.append(b",\"null\"]");
            out.append(self.slice(end, self.length));
            out
        } else if self.starts_with(ENUM) {
            let mut out = Self::raw("{\"enum\":[null,");
            out.append(self.slice(ENUM.len(), self.length));
            out
        } else {
            Self::raw("{\"anyOf\":[").json(self).push(",{\"type\":\"null\"}]}")
        }
    }

    /// How many bytes it has.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "it is asked for an array's length; an empty manifest does not exist"
    )]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.as_bytes()) {
            Ok(text) => text,
            Err(_) => panic!("only whole strings are appended"),
        }
    }

    /// The text as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.slice(0, self.length)
    }

    /// The text in an array of exactly its length, to be stored in a section.
    ///
    /// # Panics
    /// At compile time, when `N` is not [`Json::len`].
    #[must_use]
    pub const fn exact<const N: usize>(&self) -> [u8; N] {
        assert!(N == self.length, "the array has to be as long as the text");
        let mut out = [0; N];
        out.copy_from_slice(self.as_bytes());
        out
    }

    const fn append(&mut self, more: &[u8]) {
        assert!(
            self.length + more.len() <= JSON_BYTES_MAX,
            "the kit's manifest with the schema of its params is longer than 32 KiB: shorten the doc comments on the params"
        );
        let (_, free) = self.bytes.split_at_mut(self.length);
        let (place, _) = free.split_at_mut(more.len());
        place.copy_from_slice(more);
        self.length += more.len();
    }

    const fn slice(&self, start: usize, end: usize) -> &[u8] {
        let (head, _) = self.bytes.split_at(end);
        let (_, slice) = head.split_at(start);
        slice
    }

    const fn starts_with(&self, prefix: &[u8]) -> bool {
        if self.length < prefix.len() {
            return false;
        }
        let mut index = 0;
        while index < prefix.len() {
            if self.bytes[index] != prefix[index] {
                return false;
            }
            index += 1;
        }
        true
    }

    const fn position(&self, byte: u8, from: usize) -> usize {
        let mut index = from;
        while self.bytes[index] != byte {
            index += 1;
        }
        index
    }
}

impl Default for Json {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Json {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_serde_json_reads_them() {
        const TEXT: &str = "a \"quoted\" \\ line\nwith \u{1} and é";
        const JSON: Json = Json::new().string(TEXT);
        assert_eq!(serde_json::from_str::<String>(JSON.as_str()).unwrap(), TEXT);
    }

    #[test]
    fn integers_of_every_size() {
        const JSON: Json =
            Json::raw("[").integer(0).push(",").integer(i64::MIN as i128).push(",").integer(u64::MAX as i128).push("]");
        assert_eq!(JSON.as_str(), "[0,-9223372036854775808,18446744073709551615]");
    }

    #[test]
    fn null_is_added_to_each_kind_of_schema() {
        let check = |schema: &str, expected: &str| assert_eq!(Json::raw(schema).nullable().as_str(), expected);
        check(r#"{"type":"string"}"#, r#"{"type":["string","null"]}"#);
        check(r#"{"type":"integer","minimum":0}"#, r#"{"type":["integer","null"],"minimum":0}"#);
        check(r#"{"enum":["a"]}"#, r#"{"enum":[null,"a"]}"#);
        check(r#"{"anyOf":[]}"#, r#"{"anyOf":[{"anyOf":[]},{"type":"null"}]}"#);
        check(r#"{"type":["string","null"]}"#, r#"{"anyOf":[{"type":["string","null"]},{"type":"null"}]}"#);
    }

    #[test]
    fn a_description_is_added_to_the_object() {
        assert_eq!(
            Json::raw(r#"{"type":"string"}"#).described("why").as_str(),
            r#"{"type":"string","description":"why"}"#
        );
        assert_eq!(Json::raw("{}").described("why").as_str(), r#"{"description":"why"}"#);
        assert_eq!(Json::raw("{}").described("").as_str(), "{}");
    }
}
