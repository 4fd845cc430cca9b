//! A mirror link that falls silent, and a target that is slow: writers wait for as long as they may, and no longer.

use std::time::{Duration, Instant};

use mainstay_test_support::guard::Signal;
use mainstay_test_support::{WAIT_LIMIT, poll_until, wait_until};
use serde_json::json;

use crate::pair::client::{Client, Command};
use crate::pair::daemon::Arbiter;
use crate::pair::model::{End, Random, Shared, Writers};
use crate::pair::{A, B, Pair, SIZE};

#[test]
fn a_link_that_falls_silent_stalls_writers_for_no_longer_than_the_stall_time() {
    let times = json!({ "arbiter": true, "alone-after-ms": 200, "peer-timeout-ms": 1000, "stall-ms": 8000 });
    let mut pair = Pair::relayed([None, None], &times);
    let arbiter = Arbiter::of_served(&mut pair);
    let model = Shared::new(SIZE);
    let writers = Writers::start(&model, &pair.nbd(A), &mut Random(5));
    wait_until(WAIT_LIMIT, "something is durable", || model.lock().durable > 20);
    pair.relay().cut();
    wait_until(WAIT_LIMIT, "it goes on alone", || pair.status(A)["alone"] == json!(true));
    // The target could still be told, by the comm path: it knows itself that it is not to be promoted.
    assert_eq!(pair.status(B)["copy"], json!("outdated"));
    let durable = model.lock().durable;
    wait_until(WAIT_LIMIT, "more is durable", || model.lock().durable > durable + 20);
    pair.relay().resume();
    pair.wait_connected(A);
    let (ends, longest) = writers.stop();
    assert_eq!(ends, [End::Told; 2]);
    // At least for the time after which the peer is taken for gone; a busy machine may add to it.
    assert!((1..8).contains(&longest.as_secs()), "{longest:?}");
    assert!(arbiter.promote(&pair, A).is_ok(), "who is in service stays there");
    pair.stop_the_same();
    model.lock().settle(&std::fs::read(pair.backing(B)).unwrap());
}

#[test]
fn without_a_mark_writers_get_an_error_after_the_stall_time() {
    let times = json!({ "arbiter": true, "alone-after-ms": 200, "peer-timeout-ms": 500, "stall-ms": 3000 });
    let mut pair = Pair::relayed([None, None], &times);
    pair.start();
    let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
    assert_eq!(client.once(Command::Write, true, (0, 512), &[1; 512]).unwrap(), 0);
    pair.relay().cut();
    let began = Instant::now();
    assert_eq!(client.once(Command::Write, true, (0, 512), &[2; 512]).unwrap(), 5, "EIO");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(2500) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(pair.status(A)["alone"], json!(false));
    // The other copy may be promoted, and has all that was acknowledged.
    assert_eq!(pair.status(B)["promotion"]["force"], json!(null));
}

/// A target that has stopped to do anything, for a while: how many bytes and for how long the source went on.
fn lag(mode: &serde_json::Value) -> (u64, Duration) {
    let mut pair = Pair::with(&json!({ "mode": mode, "peer-timeout-ms": 9000, "stall-ms": 30_000 }));
    pair.start();
    let model = Shared::new(SIZE);
    let writers = Writers::start(&model, &pair.nbd(A), &mut Random(6));
    wait_until(WAIT_LIMIT, "something is durable", || model.lock().durable > 20);
    assert!(pair.process(B).signal(Signal::SIGSTOP));
    let began = Instant::now();
    let (mut most, mut last, mut asked) = (0, Duration::ZERO, 0);
    let _ = poll_until(Duration::from_secs(4), || {
        let durable = model.lock().durable;
        if durable > asked {
            (asked, last) = (durable, began.elapsed());
        }
        most = most.max(pair.status(A)["lag-bytes"].as_u64().unwrap());
        false
    });
    assert!(pair.process(B).signal(Signal::SIGCONT));
    wait_until(WAIT_LIMIT, "it goes on", || model.lock().durable > asked + 20);
    let (ends, _) = writers.stop();
    assert_eq!(ends, [End::Told; 2]);
    wait_until(WAIT_LIMIT, "the target has caught up", || pair.status(A)["lag-bytes"] == json!(0));
    pair.stop_the_same();
    (most, last)
}

#[test]
fn a_slow_target_is_behind_by_no_more_than_so_many_bytes() {
    let (most, _) = lag(&json!({ "async": { "lag-bytes-max": 200_000, "lag-ms-max": 60_000 } }));
    // One request may go beyond it.
    assert!((150_000..200_000 + 160 * 512).contains(&most), "{most}");
}

#[test]
fn a_slow_target_is_behind_by_no_more_than_so_long() {
    let (most, last) = lag(&json!({ "async": { "lag-bytes-max": 1 << 30, "lag-ms-max": 1000 } }));
    assert!(most > 0 && last > Duration::from_millis(500) && last < Duration::from_millis(2500), "{most}, {last:?}");
}
