//! What the fuzzers of `tests/fuzz` begin from goes through the same functions here, and changed variants of it.
//!
//! The files are made of real values, written by this test with `MAINSTAY_BLESS=1`; others may lie beside them, such as
//! what a fuzzer once found.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use mainstay_core::message::Heartbeat;
use mainstay_core::state::{Record, State};
use mainstay_node::fuzz;
use mainstay_node::journal;
use mainstay_test_support::corpus::hold;
use serde_json::json;

/// Changed variants of each file: enough to turn every byte of most of them over.
const VARIANTS: u64 = 500;

fn heartbeat(from: &str, path: &str) -> Heartbeat {
    let beat = json!({ "cluster": "mail", "from": from, "to": "b", "path": path, "incarnation": 7, "asks": false });
    serde_json::from_value(beat).unwrap()
}

#[test]
fn datagrams() {
    let keys = fuzz::keys_of("a");
    let good = keys.seal(&heartbeat("a", fuzz::PATH)).unwrap();
    let other_path = keys.seal(&heartbeat("a", "wan")).unwrap();
    let other_node = keys.seal(&heartbeat("c", fuzz::PATH)).unwrap();
    let payload = serde_json::to_vec(&heartbeat("a", fuzz::PATH)).unwrap();
    let mut number = good.clone();
    number[31] = 9;
    let seeds = vec![
        ("good", good.clone(), true),
        ("other-path", other_path, false),
        ("other-node", other_node, false),
        ("number-changed", number, false),
        ("cut", good[..good.len() - 1].to_vec(), false),
        ("header-alone", good[..32].to_vec(), false),
        ("payload-alone", payload, false),
        ("long", [good, vec![0; 1200]].concat(), false),
        ("empty", Vec::new(), false),
    ];
    hold("datagram", VARIANTS, seeds, fuzz::datagram);
}

#[test]
fn frames() {
    let frame = |value: serde_json::Value| {
        let payload = serde_json::to_vec(&value).unwrap();
        [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], &payload].concat()
    };
    let hello = frame(json!({
        "hello": { "protocol": 1, "cluster": "mail", "from": "a", "to": "b", "path": "lan" }
    }));
    let leave = frame(json!({ "message": { "leave": { "incarnation": 7, "hold": 600_000 } } }));
    let ask = frame(json!({
        "message": { "ask": { "id": 1, "asker": 7, "request": { "switchover": { "hierarchy": "shop", "to": "b" } } } }
    }));
    let answer = frame(json!({ "message": { "answer": { "id": 1, "asker": 7, "result": { "Ok": "moving" } } } }));
    let state = frame(json!({ "message": { "state": {
        "cluster": "mail", "from": "a", "incarnation": 7, "version": 3, "heard": 5, "config_hash": "c0ffee",
        "software": "0.1.0", "alarms": [], "hierarchies": [{
            "name": "shop", "ownership": null, "declined": null, "occupied": true, "offers": false, "looked": true,
            "not_ready": ["no kit"], "activity": "restoring", "resources": null
        }]
    } } }));
    let agreed = frame(json!("agreed"));
    let bye = frame(json!({ "bye": "it looks for c" }));
    let session = [&hello[..], &agreed, &state, &ask, &answer, &leave, &bye].concat();
    let seeds = vec![
        ("hello", hello.clone(), true),
        ("agreed", agreed, true),
        ("leave", leave, true),
        ("ask", ask, true),
        ("answer", answer, true),
        ("state", state, true),
        ("bye", bye, true),
        ("session", session.clone(), true),
        ("cut", session[..session.len() / 2].to_vec(), true),
        ("claims-4-gib", [&[0xff; 4][..], b"{}"].concat(), false),
        ("claims-32-mib", [&(32u32 << 20).to_be_bytes()[..], b"{"].concat(), false),
        ("nothing", vec![0; 4], false),
        ("other", frame(json!({ "helo": {} })), false),
    ];
    assert_eq!(fuzz::frames(&session), 7);
    hold("frames", VARIANTS, seeds, |bytes| fuzz::frames(bytes) > 0);
}

#[test]
fn journals() {
    let started = serde_json::to_vec(&Record::Started { incarnation: 7, boot: "boot-7".into() }).unwrap();
    let damaged = serde_json::to_vec(&Record::Damaged).unwrap();
    let configured = Record::Configured { hierarchy: "shop".into(), tags: ["web".into(), "name".into()].into() };
    let mut state = State::default();
    for record in [&Record::Damaged, &configured] {
        state.apply(record);
    }
    let snapshot = serde_json::to_vec(&Record::Snapshot(Box::new(state))).unwrap();
    let file = journal::file_of(&snapshot);
    let slots_empty = [&file[..2048], &vec![0; 2048], &file[4096..]].concat();
    let seeds = vec![
        ("started", started, true),
        ("damaged", damaged, true),
        ("configured", serde_json::to_vec(&configured).unwrap(), true),
        ("snapshot", snapshot, true),
        ("file", file.clone(), true),
        ("file-cut", file[..file.len() - 1].to_vec(), false),
        ("file-tail", [&file[..], b"torn"].concat(), true),
        ("file-slots-empty", slots_empty, false),
        ("other", b"{\"started\":{}}".to_vec(), false),
        ("empty", Vec::new(), false),
    ];
    hold("journal", VARIANTS, seeds, fuzz::journal);
}
