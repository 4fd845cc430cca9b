//! The manifest: what a kit says about itself, readable without running it.
//!
//! Made at compile time from the kit's `Cargo.toml`, from what `export_kit!` is told, and from the schema
//! of its params. The host cross-checks it against the component's imports: it is a claim, not a grant.

use crate::Json;

/// Which versions of the contract this SDK speaks (`wit/`, package `mainstay:kit`).
pub const CONTRACT: &str = "^0.1.0";

/// The name of the custom section that holds the manifest.
pub const SECTION: &str = "mainstay:kit-manifest";

/// The contract's interfaces a kit may need.
const INTERFACES: [&str; 10] =
    ["log", "clock", "random", "command", "net", "store", "secret", "volume", "mount", "service"];

/// What is added to the needs of a kit whose panics are logged.
#[doc(hidden)]
pub const LOG_NEED: (&str, &str) = ("log", "says what the kit does, and what went wrong when it panics");

/// What a kit is; `export_kit!` writes it.
pub trait Described {
    /// Its name, as a config says it.
    const NAME: &'static str;
    /// The interfaces it imports, each with the reason an operator reads.
    const NEEDS: &'static [(&'static str, &'static str)];
    /// The interfaces it imports and that not every resource uses.
    const OPTIONAL_NEEDS: &'static [(&'static str, &'static str)];
    /// Whether a panic is logged before it becomes a trap.
    const PANICS_LOGGED: bool;
    /// The manifest's JSON.
    const MANIFEST: Json;
}

/// The kit's name: `given`, or the package's without `mainstay-kit-` in front.
#[doc(hidden)]
#[must_use]
pub const fn kit_name(given: &'static str, package: &'static str) -> &'static str {
    if !given.is_empty() {
        return given;
    }
    let prefix = b"mainstay-kit-";
    let bytes = package.as_bytes();
    if bytes.len() <= prefix.len() {
        return package;
    }
    let mut index = 0;
    while index < prefix.len() {
        if bytes[index] != prefix[index] {
            return package;
        }
        index += 1;
    }
    let (_, name) = package.split_at(prefix.len());
    name
}

/// What the manifest is made of.
#[doc(hidden)]
pub struct Parts<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub description: &'a str,
    pub licence: &'a str,
    pub needs: &'a [(&'a str, &'a str)],
    pub optional: &'a [(&'a str, &'a str)],
    pub params: &'a Json,
}

/// The manifest.
///
/// # Panics
/// At compile time, for a manifest no host would load.
#[doc(hidden)]
#[must_use]
pub const fn manifest(parts: &Parts<'_>) -> Json {
    check_name(parts.name);
    assert!(!parts.description.is_empty(), "the kit's Cargo.toml needs a `description`: operators read it");
    assert!(!parts.licence.is_empty(), "the kit's Cargo.toml needs a `license`");
    let mut json = Json::raw("{\"manifest\":1,\"name\":")
        .string(parts.name)
        .push(",\"version\":")
        .string(parts.version)
        .push(",\"description\":")
        .string(parts.description)
        .push(",\"licence\":")
        .string(parts.licence)
        .push(",\"contract\":")
        .string(CONTRACT)
        .push(",\"needs\":[");
    let count = parts.needs.len() + parts.optional.len();
    let mut index = 0;
    while index < count {
        let (interface, reason) = need(parts, index);
        assert!(
            known(interface),
            "a need is an interface of the contract: log, clock, random, command, net, store, secret, volume, mount"
        );
        assert!(!reason.is_empty(), "every need has a reason: an operator decides by it");
        assert!(first(parts, index), "an interface is needed once, or optional");
        if index > 0 {
            json = json.push(",");
        }
        json = json.push("{\"interface\":").string(interface).push(",\"reason\":").string(reason);
        json = json.push(if index < parts.needs.len() { "}" } else { ",\"optional\":true}" });
        index += 1;
    }
    json.push("],\"params\":").json(parts.params).push("}")
}

const fn check_name(name: &str) {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= 64, "a kit's name has 1 to 64 characters");
    let mut index = 0;
    while index < bytes.len() {
        assert!(
            bytes[index].is_ascii_lowercase() || bytes[index].is_ascii_digit() || bytes[index] == b'-',
            "a kit's name is of a-z, 0-9 and -"
        );
        index += 1;
    }
}

const fn known(interface: &str) -> bool {
    let mut index = 0;
    while index < INTERFACES.len() {
        if same(INTERFACES[index], interface) {
            return true;
        }
        index += 1;
    }
    false
}

/// Whether `interface` is among `needs`.
#[doc(hidden)]
#[must_use]
pub const fn names(needs: &[(&str, &str)], interface: &str) -> bool {
    let mut index = 0;
    while index < needs.len() {
        if same(needs[index].0, interface) {
            return true;
        }
        index += 1;
    }
    false
}

/// One of the needs, those that are optional after the others.
const fn need<'a>(parts: &Parts<'a>, index: usize) -> (&'a str, &'a str) {
    if index < parts.needs.len() { parts.needs[index] } else { parts.optional[index - parts.needs.len()] }
}

const fn first(parts: &Parts<'_>, at: usize) -> bool {
    let mut index = 0;
    while index < at {
        if same(need(parts, index).0, need(parts, at).0) {
            return false;
        }
        index += 1;
    }
    true
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_comes_from_the_package_unless_given() {
        assert_eq!(kit_name("", "mainstay-kit-dns"), "dns");
        assert_eq!(kit_name("", "my-kit"), "my-kit");
        assert_eq!(kit_name("other", "mainstay-kit-dns"), "other");
        assert_eq!(kit_name("", "mainstay-kit-"), "mainstay-kit-");
    }

    #[test]
    fn manifest_comes_first_and_the_text_is_json() {
        const MANIFEST: Json = manifest(&Parts {
            name: "dns",
            version: "0.1.0",
            description: "says \"who\" and\nwhere",
            licence: "MIT OR Apache-2.0",
            needs: &[("net", "to ask")],
            optional: &[("secret", "to sign")],
            params: &Json::raw("{}"),
        });
        assert!(MANIFEST.as_str().starts_with("{\"manifest\":1,"));
        let value: serde_json::Value = serde_json::from_str(MANIFEST.as_str()).unwrap();
        assert_eq!(value["description"], "says \"who\" and\nwhere");
        assert_eq!(value["needs"][1]["interface"], "secret");
        assert_eq!(value["needs"][1]["reason"], "to sign");
        assert_eq!(value["needs"][1]["optional"], true);
        assert_eq!(value["needs"][0].get("optional"), None);
    }

    #[test]
    fn contract_and_interfaces_are_those_of_the_wit() {
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit/");
        let types = std::fs::read_to_string(format!("{wit}types.wit")).unwrap();
        assert!(types.contains(&format!("package mainstay:kit@{};", &CONTRACT[1..])), "CONTRACT is {CONTRACT}");
        let world = std::fs::read_to_string(format!("{wit}world.wit")).unwrap();
        let imports: Vec<_> =
            world.lines().filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';')).collect();
        assert_eq!(imports, INTERFACES);
    }
}
