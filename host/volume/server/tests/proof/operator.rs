//! What an operator may ask for, of real processes: split brain and its end, pause, verify, invalidate, the rate limit.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use mainstay_test_support::{WAIT_LIMIT, wait_until};
use serde_json::json;

use crate::pair::client::{Client, Command};
use crate::pair::{A, B, Half, Pair, SIZE};

/// Writes a region durably.
fn write(pair: &Pair, copy: Half, region: u64, byte: u8) {
    let mut client = Client::connect(&pair.nbd(copy), "mail").unwrap();
    assert_eq!(client.once(Command::Write, true, (region << 16, 65536), &[byte; 65536]).unwrap(), 0);
}

fn end(mut pair: Pair, source: Half) {
    pair.stop(source);
    pair.stop(source.other());
    pair.assert_same();
}

const TIMES: &str = r#"{ "alone-after-ms": 100, "peer-timeout-ms": 1000 }"#;

#[test]
fn a_split_brain_is_shown_and_ends_when_the_survivor_is_named() {
    for survivor in [A, B] {
        let mut pair = Pair::relayed([None, None], &serde_json::from_str(TIMES).unwrap());
        pair.start();
        write(&pair, A, 0, 1);
        pair.relay().cut();
        wait_until(WAIT_LIMIT, "both have noticed", || {
            [A, B].iter().all(|copy| pair.status(*copy)["link"] == json!("broken"))
        });
        // Without an arbiter, and with no path left, both may be written by the operator's word.
        pair.promote(B, 2, "confirmed");
        write(&pair, A, 1, 2);
        write(&pair, B, 2, 3);
        write(&pair, B, 3, 3);
        pair.relay().drop_connections();
        pair.relay().resume();
        let shown = |copy: Half| pair.status(copy)["link"]["split-brain"].as_str().map(str::to_owned);
        wait_until(WAIT_LIMIT, "it is seen", || shown(A).is_some() && shown(B).is_some());
        let split = shown(B).unwrap();
        assert!(split.contains("regions of its own, since") && split.contains("the peer's has up to"), "{split}");
        // Who serves gives nothing up.
        let loser = survivor.other();
        assert_eq!(pair.status(A)["role"], json!("target"), "its claim was the older one");
        if loser == B {
            let refused = pair.ask(B, &json!({ "resolve": survivor.name() }));
            assert!(refused["error"].as_str().unwrap().contains("take it out of service"), "{refused}");
            assert_eq!(pair.ask(B, &json!("demote")), json!("done"));
            wait_until(WAIT_LIMIT, "they meet again", || shown(A).is_some() && shown(B).is_some());
        }
        assert_eq!(pair.ask(loser, &json!({ "resolve": survivor.name() })), json!("done"));
        if survivor == A {
            wait_until(WAIT_LIMIT, "they meet again", || pair.status(A)["link"] == json!("idle"));
            pair.promote(A, 3, "free");
        }
        pair.wait_connected(survivor);
        let data = fs::read(pair.backing(survivor)).unwrap();
        let [one, two] = if survivor == A { [2, 0] } else { [0, 3] };
        assert_eq!((data[0], data[1 << 16], data[2 << 16]), (1, one, two));
        end(pair, survivor);
    }
}

#[test]
fn a_pause_marks_the_other_copy_and_a_resume_copies_what_was_written() {
    let mut pair = Pair::with(&serde_json::from_str(TIMES).unwrap());
    pair.start();
    write(&pair, A, 0, 1);
    assert_eq!(pair.ask(A, &json!("pause")), json!("done"));
    wait_until(WAIT_LIMIT, "the target is outdated", || pair.status(B)["copy"] == json!("outdated"));
    write(&pair, A, 5, 9);
    let status = pair.status(A);
    assert_eq!((&status["link"], &status["alone"]), (&json!("paused"), &json!(true)));
    // Over restarts of the other side too.
    pair.kill(B);
    pair.serve(B);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(pair.status(A)["link"], json!("paused"));
    assert!(pair.status(B)["promotion"]["force"].is_string());
    assert_eq!(pair.ask(A, &json!("resume")), json!("done"));
    pair.wait_connected(A);
    assert_eq!(fs::read(pair.backing(B)).unwrap()[5 << 16], 9);
    end(pair, A);
}

#[test]
fn verify_finds_what_differs_and_has_it_copied() {
    let mut pair = Pair::new();
    pair.start();
    write(&pair, A, 7, 1);
    assert_eq!(pair.ask(A, &json!("verify")), json!("done"));
    pair.process(A).wait_for_line(WAIT_LIMIT, &format!("verify: all {} regions are the same", SIZE >> 16));
    // A disk that lies: nobody has written this.
    let disk = fs::OpenOptions::new().write(true).open(pair.backing(B)).unwrap();
    disk.write_all_at(b"rotten", (7 << 16) + 100).unwrap();
    disk.write_all_at(b"rotten", (900 << 16) + 100).unwrap();
    disk.sync_all().unwrap();
    assert_eq!(pair.ask(A, &json!("verify")), json!("done"));
    pair.process(A).wait_for_line(WAIT_LIMIT, "verify: 2 of 1024 regions differ, and are copied now");
    pair.process(A).wait_for_line(WAIT_LIMIT, &format!("the region at byte {} differs", 900 << 16));
    pair.process(A).wait_for_line(WAIT_LIMIT, "resync is done: 2 regions copied");
    pair.wait_connected(A);
    let refused = pair.ask(B, &json!("verify"));
    assert!(refused["error"].as_str().unwrap().contains("is asked of the source"), "{refused}");
    end(pair, A);
}

#[test]
fn a_copy_that_is_invalidated_is_copied_as_a_whole() {
    let mut pair = Pair::new();
    pair.start();
    write(&pair, A, 7, 1);
    assert!(pair.ask(A, &json!("invalidate"))["error"].as_str().unwrap().contains("demote it first"));
    assert_eq!(pair.ask(B, &json!("invalidate")), json!("done"));
    pair.process(A).wait_for_line(WAIT_LIMIT, "resync is done: 1024 regions copied");
    pair.wait_connected(A);
    end(pair, A);
}

#[test]
fn a_resync_keeps_to_its_rate() {
    let mut pair = Pair::with(&json!({ "resync-bytes-per-s": 4 << 20 }));
    fs::write(pair.backing(A), [vec![5; 12 << 20], fs::read(pair.backing(A)).unwrap()[12 << 20..].to_vec()].concat())
        .unwrap();
    pair.serve(B);
    pair.serve(A);
    wait_until(WAIT_LIMIT, "they are in contact", || pair.status(A)["link"] == json!("idle"));
    pair.promote(A, 1, "free");
    let began = Instant::now();
    let copied = || pair.status(A)["resync-bytes"].as_u64().unwrap();
    wait_until(WAIT_LIMIT, "it has begun", || pair.status(A)["link"]["resync"]["of-regions"] == json!(1024));
    wait_until(WAIT_LIMIT, "all data is copied", || copied() >= 12 << 20);
    let rate = (copied() as f64 / began.elapsed().as_secs_f64()) / f64::from(1 << 20);
    assert!((2.0..5.0).contains(&rate), "{rate} MiB/s");
    // Meanwhile it is shown, and writers are not kept.
    assert_eq!(pair.status(B)["copy"], json!("inconsistent"));
    write(&pair, A, 1, 3);
}
