//! Paths that lose packets: nobody is taken for dead.

use std::time::Duration;

use mainstay_test_hosts::net::PATHS;
use mainstay_test_hosts::{Lab, Mode, long};

/// So many packets of a hundred vanish, each way, on both paths.
const PERCENT: u8 = 30;

#[track_caller]
fn nobody_is_taken_for_dead(mode: Mode, time: Duration) {
    let Some(lab) = Lab::new(mode) else { return };
    lab.net.lose(&PATHS, PERCENT);
    lab.prober.watch(time, &["a"]);
    lab.net.heal();
    lab.wait_until_settled("a");
    assert_eq!(lab.strip.times(), 0);
    lab.prober.never_two();
}

fn time() -> Duration {
    long(3, Duration::from_secs(12))
}

#[test]
fn a_third_of_all_packets_lost_is_nothing() {
    nobody_is_taken_for_dead(Mode::Automatic, time());
}

#[test]
fn a_third_of_all_packets_lost_gets_nobody_fenced() {
    nobody_is_taken_for_dead(Mode::Fenced, time());
}
