//! The process of a volume and the daemon: who starts it, who outlives whom, what an operator may have done.

use std::time::Duration;

use mainstay_test_support::wait_for;

use crate::pair::{BACKING_BYTES, Pair};

fn pid(volume: &serde_json::Value) -> i64 {
    volume["process"]["pid"].as_i64().unwrap_or(0)
}

#[test]
fn a_volume_is_created_mirrored_paused_and_verified() {
    let Some(mut pair) = Pair::new("", false) else { return };
    pair.cluster.start_all();
    pair.wait_for_volume("b", "not created", |volume| volume["process"]["state"] == "not-created");
    let said = pair.ask("a", &["status"]);
    assert!(said.contains("no copy yet: mainstay volume create store"), "{said}");
    std::fs::write(pair.backing("b"), [&[7][..], &vec![0; BACKING_BYTES as usize - 1]].concat())
        .expect("there is room");
    pair.ask("a", &["create", "store", "--first"]);
    let node_b = pair.cluster.node("b");
    node_b.mainstay(&["volume", "create", "store"]).fails_with(1, &["is not empty", "--overwrite"]);
    pair.ask("b", &["create", "store", "--overwrite"]);
    node_b.mainstay(&["volume", "create", "store"]).fails_with(1, &["there is a copy"]);
    node_b.mainstay(&["volume", "pause", "stroe"]).fails_with(1, &["there is no volume `stroe`"]);
    // Nobody has it in service, so nobody is the source: the two meet, and wait.
    pair.wait_for_volume("a", "idle", |volume| volume["status"]["link"] == "idle");
    pair.ask("b", &["pause", "store"]);
    pair.wait_for_volume("b", "paused", |volume| volume["status"]["link"] == "paused");
    pair.ask("b", &["resume", "store"]);
    pair.wait_for_volume("b", "idle", |volume| volume["status"]["link"] == "idle");
    node_b.mainstay(&["volume", "resolve", "store", "--survivor", "a"]).fails_with(1, &["not in split brain"]);
}

#[test]
fn the_process_outlives_the_daemon_and_is_started_again_when_it_dies() {
    let Some(mut pair) = Pair::new("", false) else { return };
    pair.start();
    let serves = |volume: &serde_json::Value| volume["process"]["state"] == "serves";
    let first = pid(&pair.wait_for_volume("a", "serves", serves));
    pair.cluster.kill("a");
    pair.cluster.start("a");
    let found = pid(&pair.wait_for_volume("a", "serves", serves));
    assert_eq!(found, first, "a daemon that starts takes over the process of the one before");
    pair.cluster.stop("a");
    pair.cluster.start("a");
    assert_eq!(pid(&pair.wait_for_volume("a", "serves", serves)), first, "and so it does after an orderly stop");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first as i32), nix::sys::signal::Signal::SIGKILL)
        .expect("it lives");
    let again = wait_for(Duration::from_secs(30), "another process", || {
        let now = pair.volume("a");
        (serves(&now) && pid(&now) != first).then(|| pid(&now))
    });
    assert_ne!(again, first);
}
