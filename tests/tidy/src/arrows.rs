//! Which room may see which, held over normal and build dependencies, transitively.
//!
//! Among the members the table is an allow list: a room that is not in it, or an arrow that is not in it,
//! is a problem. Towards the outside it is a list of what a room must never reach.

use crate::graph::Graph;

/// What a room may see. The first whose `folder` matches a member's is the one that counts.
pub struct Room {
    /// The folder relative to the root. With `*` as its last part: every folder in there.
    pub folder: &'static str,
    /// The members it may reach. `None`: any.
    pub sees: Option<&'static [&'static str]>,
    /// Outside crates it must never reach.
    pub never: &'static [&'static str],
    /// Why, for the person who runs into it.
    pub why: &'static str,
}

/// Runtimes and doors to the operating system: what would let a decision wait, look at a clock, or roll dice.
const IMPURE: &[&str] = &[
    "async-io",
    "async-std",
    "chrono",
    "futures-executor",
    "getrandom",
    "hyper",
    "jiff",
    "libc",
    "mio",
    "nix",
    "polling",
    "rand",
    "rustix",
    "smol",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tracing-subscriber",
    "wasmtime",
    "wasmtime-wasi",
];
/// What only a host has.
const HOST_ONLY: &[&str] =
    &["axum", "cranelift-codegen", "hyper", "nix", "rustls", "tokio", "wasmtime", "wasmtime-wasi"];

/// The house.
pub const ROOMS: &[Room] = &[
    Room {
        folder: "host/core",
        sees: Some(&[]),
        never: IMPURE,
        why: "core only decides: the same inputs give the same outputs, always",
    },
    Room {
        folder: "host/volume/core",
        sees: Some(&["mainstay-core"]),
        never: IMPURE,
        why: "the pure part of the volume only decides; of core it has the time",
    },
    Room {
        folder: "host/volume/server",
        sees: Some(&["mainstay-core", "mainstay-volume-core"]),
        never: &["wasmtime", "wasmtime-wasi", "cranelift-codegen", "tokio"],
        why: "the volume's server outlives the daemon and knows nothing of it; one thread, and no runtime beside it",
    },
    Room {
        folder: "host/supervisor",
        sees: Some(&[]),
        never: &["wasmtime", "wasmtime-wasi", "cranelift-codegen"],
        why: "the supervisor outlives the daemon and has to stay small (docs/decisions/0001-supervisor-room.md)",
    },
    Room {
        folder: "host/runtime",
        sees: Some(&["mainstay-supervisor"]),
        never: &[],
        why: "the runtime runs kits; it knows no tree, no peer and no policy",
    },
    Room {
        folder: "host/node",
        sees: Some(&[
            "mainstay-core",
            "mainstay-runtime",
            "mainstay-supervisor",
            "mainstay-volume",
            "mainstay-volume-core",
        ]),
        never: &[],
        why: "node is the one meeting place of the host's rooms",
    },
    Room {
        folder: "host/cli",
        sees: Some(&[
            "mainstay-node",
            "mainstay-core",
            "mainstay-runtime",
            "mainstay-supervisor",
            "mainstay-volume",
            "mainstay-volume-core",
        ]),
        never: &[],
        why: "the binary is thin and stands on the host's rooms only",
    },
    Room { folder: "sdk/macros", sees: Some(&[]), never: HOST_ONLY, why: "the SDK never sees the host" },
    Room { folder: "sdk", sees: Some(&["mainstay-sdk-macros"]), never: HOST_ONLY, why: "the SDK never sees the host" },
    Room {
        folder: "kits/*",
        sees: Some(&["mainstay-sdk", "mainstay-sdk-macros"]),
        never: HOST_ONLY,
        why: "a kit knows one resource: it sees the SDK, never the host and never another kit",
    },
    Room {
        folder: "tests/demo",
        sees: Some(&["mainstay-test-support"]),
        never: &["wasmtime", "wasmtime-wasi"],
        why: "the demo drives the `mainstay` binary from outside, as an operator does",
    },
    Room {
        folder: "tests/hostile/kit",
        sees: Some(&["mainstay-sdk", "mainstay-sdk-macros"]),
        never: HOST_ONLY,
        why: "the hostile kit is a kit like any other: what it can do, anyone can who has the SDK",
    },
    Room { folder: "tests/*", sees: None, never: &[], why: "tests may see whom they like" },
];

/// Every arrow that the rooms forbid, with the way along which it was found.
pub fn forbidden(graph: &Graph, rooms: &[Room]) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, member) in &graph.members {
        let Some(room) = rooms.iter().find(|room| is_in(&member.folder, room.folder)) else {
            problems.push(format!(
                "{name} ({}) is in no room of the house: say in tests/tidy/src/arrows.rs and in ARCHITECTURE.md what it may see",
                member.folder
            ));
            continue;
        };
        for (reached, way) in graph.reach(name) {
            let allowed = match graph.members.get(&reached) {
                // A test helper's place is among the dev-dependencies, whatever the room.
                Some(other) if other.folder.starts_with("tests/") && !member.folder.starts_with("tests/") => false,
                Some(_) => room.sees.is_none_or(|sees| sees.contains(&reached.as_str())),
                None => !room.never.contains(&reached.as_str()),
            };
            if !allowed {
                problems.push(format!("{name} must not reach {reached}, and does: {way}. {}", room.why));
            }
        }
    }
    problems
}

/// Rooms of the table that no member lives in: a rule that holds nothing.
pub fn unused(graph: &Graph, rooms: &[Room]) -> Vec<String> {
    rooms
        .iter()
        .filter(|room| !graph.members.values().any(|member| is_in(&member.folder, room.folder)))
        .map(|room| format!("tests/tidy/src/arrows.rs has a rule for {}, where no member is", room.folder))
        .collect()
}

fn is_in(folder: &str, room: &str) -> bool {
    match room.strip_suffix('*') {
        Some(parent) => folder.strip_prefix(parent).is_some_and(|rest| !rest.is_empty() && !rest.contains('/')),
        None => folder == room,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Member;
    use std::collections::BTreeSet;

    /// `"folder name: a b"` a line; a line without a folder is an outside crate.
    fn graph(lines: &[&str]) -> Graph {
        let mut graph = Graph::default();
        for line in lines {
            let (head, tail) = line.split_once(':').unwrap();
            let next: BTreeSet<String> = tail.split_whitespace().map(str::to_owned).collect();
            match head.split_once(' ') {
                Some((folder, name)) => {
                    let member = Member { folder: folder.to_owned(), declared: next };
                    graph.members.insert(name.to_owned(), member);
                }
                None => {
                    graph.locked.insert(head.to_owned(), next);
                }
            }
        }
        graph
    }

    /// One forbidden arrow each, direct or far, and the words the complaint must have.
    #[track_caller]
    fn found(lines: &[&str], words: &str) {
        let problems = forbidden(&graph(lines), ROOMS);
        assert!(
            problems.len() == 1 && problems[0].contains(words),
            "expected one problem with {words:?}, got {problems:#?}"
        );
    }

    #[test]
    fn a_house_in_order_has_no_problem() {
        let lines = [
            "host/core mainstay-core: serde",
            "host/volume/core mainstay-volume-core: mainstay-core serde",
            "host/volume/server mainstay-volume: mainstay-volume-core nix",
            "host/supervisor mainstay-supervisor: tokio nix",
            "host/runtime mainstay-runtime: mainstay-supervisor wasmtime",
            "host/node mainstay-node: mainstay-core mainstay-runtime mainstay-supervisor tokio",
            "host/cli mainstay-cli: mainstay-node clap",
            "sdk/macros mainstay-sdk-macros: syn",
            "sdk mainstay-sdk: mainstay-sdk-macros serde",
            "kits/null mainstay-kit-null: mainstay-sdk",
            "tests/demo mainstay-demo: mainstay-test-support tokio",
            "tests/support mainstay-test-support: nix",
            "tests/hostile mainstay-test-hostile: mainstay-runtime",
            "tests/hostile/kit mainstay-test-hostile-kit: mainstay-sdk",
            "tokio: mio",
            "mio: libc",
        ];
        assert_eq!(forbidden(&graph(&lines), ROOMS), [] as [&str; 0]);
        assert_eq!(unused(&graph(&lines), ROOMS), [] as [&str; 0]);
    }

    #[test]
    fn core_reaching_a_runtime_is_found() {
        found(&["host/core mainstay-core: tokio"], "must not reach tokio");
    }

    #[test]
    fn core_reaching_a_runtime_by_another_crate_is_found_with_the_way() {
        found(
            &["host/core mainstay-core: innocent", "innocent: helper", "helper: rand"],
            "mainstay-core -> innocent -> helper -> rand",
        );
    }

    #[test]
    fn core_reaching_another_room_is_found() {
        found(
            &["host/core mainstay-core: mainstay-sdk", "sdk mainstay-sdk:"],
            "mainstay-core must not reach mainstay-sdk",
        );
    }

    #[test]
    fn the_pure_part_of_the_volume_reaching_a_runtime_is_found() {
        found(&["host/volume/core mainstay-volume-core: tokio"], "must not reach tokio");
    }

    #[test]
    fn runtime_reaching_core_is_found() {
        found(
            &["host/runtime mainstay-runtime: mainstay-core", "host/core mainstay-core:"],
            "must not reach mainstay-core",
        );
    }

    #[test]
    fn supervisor_reaching_the_engine_is_found() {
        found(&["host/supervisor mainstay-supervisor: tokio helper", "helper: wasmtime"], "must not reach wasmtime");
    }

    #[test]
    fn node_reaching_the_sdk_is_found() {
        found(&["host/node mainstay-node: mainstay-sdk", "sdk mainstay-sdk:"], "must not reach mainstay-sdk");
    }

    #[test]
    fn a_kit_reaching_the_host_is_found() {
        found(
            &["kits/dns mainstay-kit-dns: mainstay-core", "host/core mainstay-core:"],
            "must not reach mainstay-core",
        );
    }

    #[test]
    fn a_kit_reaching_another_kit_is_found() {
        found(
            &["kits/dns mainstay-kit-dns: mainstay-kit-null", "kits/null mainstay-kit-null:"],
            "must not reach mainstay-kit-null",
        );
    }

    #[test]
    fn the_sdk_reaching_a_runtime_is_found() {
        found(&["sdk mainstay-sdk: tokio"], "must not reach tokio");
    }

    #[test]
    fn the_demo_reaching_the_host_is_found() {
        found(&["tests/demo mainstay-demo: mainstay-node", "host/node mainstay-node:"], "must not reach mainstay-node");
    }

    #[test]
    fn the_host_standing_on_a_test_helper_is_found() {
        found(
            &["host/node mainstay-node: mainstay-test-support", "tests/support mainstay-test-support:"],
            "must not reach mainstay-test-support",
        );
    }

    #[test]
    fn a_member_outside_the_house_is_found() {
        found(&["shed/spade mainstay-spade:"], "is in no room");
    }

    #[test]
    fn a_rule_for_an_empty_room_is_found() {
        assert!(
            unused(&graph(&["host/core mainstay-core:"]), ROOMS).iter().any(|problem| problem.contains("host/node"))
        );
    }
}
