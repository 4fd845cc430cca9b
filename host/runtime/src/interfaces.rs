//! Which interfaces a kit may import: those of the contract, each with the version served, and a fixed list of
//! WASI 0.2, which is closed down (`wasi.rs`) and needs no declaration because it reaches nothing.
//!
//! Names only; types are compared when a kit is linked. Versions are matched as wasmtime matches them: below
//! 1.0 by the minor number, so a kit built for 0.1.3 finds 0.1.0 if it calls nothing that came later.

use semver::Version;

use crate::limits::contract;

/// The package of the contract.
pub(crate) const PACKAGE: &str = "mainstay:kit";
/// What every kit exports.
pub(crate) const RECOVERY: &str = "recovery";
/// What a kit exports that can say whether a node is ready.
pub(crate) const READINESS: &str = "readiness";
/// What a kit exports that can check thoroughly.
pub(crate) const DEEP_CHECK: &str = "deep-check";
/// Words that the other interfaces use. Imported by nearly every kit, and no capability.
pub(crate) const TYPES: &str = "types";
/// The capabilities of the contract, in the order in which they are shown.
pub(crate) const CAPABILITIES: [&str; 10] =
    ["log", "clock", "random", "command", "net", "store", "secret", "volume", "mount", "service"];
/// Those that a resource has to be granted.
pub(crate) const GRANTED: [&str; 6] = ["command", "net", "secret", "volume", "mount", "service"];

/// WASI 0.2 as a component finds it here. No files: there is nothing to open. No sockets: each attempt is denied.
const WASI: [&str; 27] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// What an import asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Import {
    /// The contract's words.
    Types,
    /// One of [`CAPABILITIES`].
    Capability(&'static str),
    /// One of the WASI interfaces.
    Wasi,
    /// An interface that is served in another version; the one that is.
    OtherVersion(String),
    /// Nothing that this host has.
    Unknown,
}

/// `name@version`, or a name alone.
pub(crate) fn split(name: &str) -> (&str, Option<Version>) {
    match name.split_once('@') {
        Some((name, version)) => (name, Version::parse(version).ok()),
        None => (name, None),
    }
}

/// Does a host that serves `served` serve who asks for `asked`?
pub(crate) fn compatible(asked: &Version, served: &Version) -> bool {
    if !asked.pre.is_empty() || !served.pre.is_empty() {
        return asked == served;
    }
    match (asked.major, asked.minor) {
        (0, 0) => asked == served,
        (0, minor) => served.major == 0 && served.minor == minor,
        (major, _) => served.major == major,
    }
}

/// Whether `name`, as it stands in a component's export section, is this interface in a version that is served.
pub(crate) fn exports(name: &str, interface: &str) -> bool {
    let (path, version) = split(name);
    path.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) == Some(interface)
        && version.is_some_and(|version| compatible(&version, &contract::VERSION))
}

/// The full name of an interface of the contract.
pub(crate) fn full_name(interface: &str) -> String {
    format!("{PACKAGE}/{interface}@{}", contract::VERSION)
}

/// What `name`, as it stands in a component's import section, asks for.
pub(crate) fn import(name: &str) -> Import {
    let (path, version) = split(name);
    if let Some(interface) = path.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('/')) {
        let known = match CAPABILITIES.iter().find(|known| **known == interface) {
            Some(known) => Import::Capability(known),
            None if interface == TYPES => Import::Types,
            None => return Import::Unknown,
        };
        return match version {
            Some(version) if compatible(&version, &contract::VERSION) => known,
            _ => Import::OtherVersion(full_name(interface)),
        };
    }
    if WASI.contains(&path) {
        return match version {
            Some(version) if version.major == 0 && version.minor == 2 && version.pre.is_empty() => Import::Wasi,
            _ => Import::OtherVersion(format!("{path}@0.2")),
        };
    }
    Import::Unknown
}

/// What is offered, for an error message.
pub(crate) fn offered() -> String {
    format!("{} (of {PACKAGE}@{}) and a closed-down WASI 0.2", CAPABILITIES.join(", "), contract::VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_recognised_by_name_and_version() {
        for (name, expected) in [
            ("mainstay:kit/types@0.1.0", Import::Types),
            ("mainstay:kit/net@0.1.0", Import::Capability("net")),
            ("mainstay:kit/net@0.1.7", Import::Capability("net")),
            ("mainstay:kit/net@0.2.0", Import::OtherVersion("mainstay:kit/net@0.1.0".to_owned())),
            ("mainstay:kit/net@1.0.0", Import::OtherVersion("mainstay:kit/net@0.1.0".to_owned())),
            ("mainstay:kit/net@0.1.0-rc.1", Import::OtherVersion("mainstay:kit/net@0.1.0".to_owned())),
            ("mainstay:kit/net", Import::OtherVersion("mainstay:kit/net@0.1.0".to_owned())),
            ("mainstay:kit/mount@0.1.0", Import::Capability("mount")),
            ("mainstay:kit/service@0.1.0", Import::Capability("service")),
            ("mainstay:kit/telepathy@0.1.0", Import::Unknown),
            ("mainstay:kit/recovery@0.1.0", Import::Unknown),
            ("mainstay:kitten/net@0.1.0", Import::Unknown),
            ("wasi:cli/exit@0.2.6", Import::Wasi),
            ("wasi:cli/exit@0.3.0", Import::OtherVersion("wasi:cli/exit@0.2".to_owned())),
            ("wasi:http/outgoing-handler@0.2.0", Import::Unknown),
            ("env", Import::Unknown),
        ] {
            assert_eq!(import(name), expected, "{name}");
        }
    }

    #[test]
    fn versions_match_as_in_wasmtime() {
        let compatible = |asked: &str, served: &str| {
            super::compatible(&Version::parse(asked).unwrap(), &Version::parse(served).unwrap())
        };
        assert!(compatible("0.1.0", "0.1.9") && compatible("0.1.9", "0.1.0") && compatible("1.4.0", "1.0.0"));
        assert!(!compatible("0.1.0", "0.2.0") && !compatible("1.0.0", "2.0.0") && !compatible("0.0.1", "0.0.2"));
    }

    #[test]
    fn capabilities_are_those_of_the_contract() {
        let world = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/world.wit")).unwrap();
        let imports: Vec<_> =
            world.lines().filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';')).collect();
        assert_eq!(imports, CAPABILITIES);
        let types = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/types.wit")).unwrap();
        assert!(types.contains(&format!("package {PACKAGE}@{};", contract::VERSION)));
    }
}
