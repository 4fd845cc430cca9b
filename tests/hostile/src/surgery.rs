//! A component's sections, cut out and put in without understanding what is in them.
//!
//! A binary is a header of eight bytes and then sections: one byte of kind, a length in LEB128, the content.
//! That holds for a component and for a core module alike, and a component's section may hold one of either
//! whole. Nothing here checks that what comes out makes sense; often it is meant not to.

/// Kind 0, in both.
const CUSTOM: u8 = 0;
/// A component's section that holds a core module.
const CORE_MODULE: u8 = 1;
/// A component's section that instantiates core modules.
const CORE_INSTANCE: u8 = 2;
/// A component's section that holds a component.
const COMPONENT: u8 = 4;
/// The length of the header, in bytes.
const HEADER_BYTES: usize = 8;

/// A section as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it is.
    pub kind: u8,
    /// What is in it.
    pub content: Vec<u8>,
}

impl Section {
    /// A custom section.
    #[must_use]
    pub fn custom(name: &str, data: &[u8]) -> Self {
        let mut content = leb128(name.len());
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(data);
        Self { kind: CUSTOM, content }
    }

    /// Its name, if it is a custom section.
    fn name(&self) -> Option<&[u8]> {
        if self.kind != CUSTOM {
            return None;
        }
        let (length, start) = read_leb128(&self.content, 0);
        Some(&self.content[start..start + length])
    }

    fn is_custom(&self, name: &str) -> bool {
        self.name() == Some(name.as_bytes())
    }
}

/// Header and sections of a component or a core module that is well formed.
///
/// # Panics
/// When it is not.
#[must_use]
pub fn take_apart(bytes: &[u8]) -> (Vec<u8>, Vec<Section>) {
    let (header, _) = bytes.split_at(HEADER_BYTES);
    let mut sections = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let kind = bytes[at];
        let (length, start) = read_leb128(bytes, at + 1);
        sections.push(Section { kind, content: bytes[start..start + length].to_vec() });
        at = start + length;
    }
    (header.to_vec(), sections)
}

/// The reverse of [`take_apart`].
#[must_use]
pub fn put_together(header: &[u8], sections: &[Section]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    for section in sections {
        bytes.push(section.kind);
        bytes.extend(leb128(section.content.len()));
        bytes.extend_from_slice(&section.content);
    }
    bytes
}

/// With one more section at its end.
#[must_use]
pub fn append(bytes: &[u8], section: Section) -> Vec<u8> {
    let (header, mut sections) = take_apart(bytes);
    sections.push(section);
    put_together(&header, &sections)
}

/// Without the custom sections called `name`, at whatever depth.
#[must_use]
pub fn without_custom(bytes: &[u8], name: &str) -> Vec<u8> {
    let is_component = bytes[6] == 1;
    let (header, mut sections) = take_apart(bytes);
    sections.retain(|section| !section.is_custom(name));
    if is_component {
        for section in sections.iter_mut().filter(|section| matches!(section.kind, CORE_MODULE | COMPONENT)) {
            section.content = without_custom(&section.content, name);
        }
    }
    put_together(&header, &sections)
}

/// With one more custom section in its first core module, beside the SDK's.
///
/// # Panics
/// When it has no core module.
#[must_use]
pub fn append_inside(component: &[u8], section: Section) -> Vec<u8> {
    let (header, mut sections) = take_apart(component);
    let module = sections.iter_mut().find(|section| section.kind == CORE_MODULE).expect("a kit has a core module");
    module.content = append(&module.content, section);
    put_together(&header, &sections)
}

/// With `module` instantiated `times` more, before the kit is called: its start function runs first. It may import nothing.
#[must_use]
pub fn append_instances(component: &[u8], module: &[u8], times: usize) -> Vec<u8> {
    let (header, mut sections) = take_apart(component);
    let index = sections.iter().filter(|section| section.kind == CORE_MODULE).count();
    sections.push(Section { kind: CORE_MODULE, content: module.to_vec() });
    let mut instances = leb128(times);
    for _ in 0..times {
        // Instantiate; which module; no arguments.
        instances.push(0);
        instances.extend(leb128(index));
        instances.push(0);
    }
    sections.push(Section { kind: CORE_INSTANCE, content: instances });
    put_together(&header, &sections)
}

/// A component in a component in a component ... `depth` times, and nothing else.
#[must_use]
pub fn nested(depth: usize) -> Vec<u8> {
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    // From the inside to the outside each is as long as the one before, its header and its section's head.
    let mut lengths = vec![HEADER.len()];
    for level in 0..depth {
        let inner = lengths[level];
        lengths.push(HEADER.len() + 1 + leb128(inner).len() + inner);
    }
    let mut bytes = HEADER.to_vec();
    for inner in lengths[..depth].iter().rev() {
        bytes.push(COMPONENT);
        bytes.extend(leb128(*inner));
        bytes.extend_from_slice(HEADER);
    }
    bytes
}

/// The section that holds such a one.
#[must_use]
pub fn nested_section(depth: usize) -> Section {
    Section { kind: COMPONENT, content: nested(depth) }
}

/// A number as the format writes it.
#[must_use]
pub fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// The number at `at`, and where it ends.
fn read_leb128(bytes: &[u8], mut at: usize) -> (usize, usize) {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let byte = bytes[at];
        number |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        at += 1;
        if byte & 0x80 == 0 {
            return (number, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::MANIFEST;
    use wasmtime::wasmparser::{Parser, Payload, Validator};

    fn null() -> Vec<u8> {
        std::fs::read(mainstay_test_support::kit("null")).unwrap()
    }

    /// The content of every custom section of that name, at whatever depth.
    fn custom(bytes: &[u8], name: &str) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            if let Payload::CustomSection(section) = payload.unwrap()
                && section.name() == name
            {
                found.push(section.data().to_vec());
            }
        }
        found
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 1, 127, 128, 300, 65_535, 1 << 28] {
            let bytes = leb128(number);
            assert_eq!(read_leb128(&bytes, 0), (number, bytes.len()));
        }
    }

    #[test]
    fn taken_apart_and_put_together_it_is_the_same() {
        let bytes = null();
        let (header, sections) = take_apart(&bytes);
        assert!(sections.len() > 3);
        assert!(put_together(&header, &sections) == bytes);
    }

    #[test]
    fn sections_are_found_where_they_were_put() {
        let bytes = null();
        assert_eq!(custom(&bytes, MANIFEST).len(), 1);
        assert_eq!(custom(&without_custom(&bytes, MANIFEST), MANIFEST).len(), 0);
        let more = append(&append_inside(&bytes, Section::custom("x", b"in")), Section::custom("x", b"out"));
        assert_eq!(custom(&more, "x"), [b"in".to_vec(), b"out".to_vec()]);
    }

    #[test]
    fn what_is_nested_is_well_formed() {
        assert_eq!(nested(0).len(), HEADER_BYTES);
        let (header, sections) = take_apart(&nested(300));
        assert_eq!((sections.len(), sections[0].kind), (1, COMPONENT));
        assert_eq!(put_together(&header, &[nested_section(299)]), nested(300));
    }

    #[test]
    fn what_was_changed_is_still_valid() {
        let module = wat::parse_str("(module (func) (start 0))").unwrap();
        let bytes = append_instances(&without_custom(&null(), MANIFEST), &module, 3);
        Validator::new().validate_all(&bytes).unwrap();
    }
}
