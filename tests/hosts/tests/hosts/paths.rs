//! All comm paths at once, while the hosts and the application's own network are well.

use std::time::Duration;

use mainstay_test_hosts::net::PATHS;
use mainstay_test_hosts::{DEAD_TIME, Lab, Mode};
use mainstay_test_support::wait_until;

use crate::took_over;

/// The shortest cut: some heartbeats are missed, and no path dies.
const SHORT: Duration = Duration::from_millis(DEAD_TIME.as_millis() as u64 / 2);

/// Cuts all paths for a time that is too short for anybody to be taken for dead.
#[track_caller]
fn a_short_cut(mode: Mode) {
    let Some(lab) = Lab::new(mode) else { return };
    let cut = lab.prober.now();
    lab.net.cut(&PATHS);
    wait_until(DEAD_TIME, "half a dead time to pass", || lab.prober.now() >= cut + SHORT);
    lab.net.heal();
    lab.nothing_happens(&["a"]);
    lab.wait_until_settled("a");
    lab.prober.never_two();
}

#[test]
fn a_short_cut_is_nothing() {
    a_short_cut(Mode::Automatic);
}

#[test]
fn a_short_cut_gets_nobody_fenced() {
    a_short_cut(Mode::Fenced);
}

/// Where the operator decides: the owner serves on, the standby asks; when they hear each other again, nothing is left to
/// ask.
#[test]
fn all_cut_the_operator_is_asked() {
    let Some(lab) = Lab::new(Mode::Confirm) else { return };
    lab.net.cut(&PATHS);
    lab.wait_for_alarm("b", "is silent");
    lab.nothing_happens_for_a_minute(&["a"]);
    lab.net.heal();
    lab.wait_until_settled("a");
    lab.host("b").wait_for("no alarm to be left", |status| status.alarms().is_empty());
    lab.nothing_happens(&["a"]);
    lab.prober.never_two();
}

/// Where paths decide, and two owners were accepted: both serve, and once they hear each other exactly one does.
#[test]
fn all_cut_both_serve_and_then_one() {
    let Some(lab) = Lab::new(Mode::Automatic) else { return };
    lab.net.cut(&PATHS);
    lab.wait_until_served_by(&["a", "b"]);
    lab.nothing_happens_for_a_minute(&["a", "b"]);
    lab.net.heal();
    // The one that claimed last: its claim is the newer one (O1).
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
    let overlaps = lab.prober.timeline().overlaps();
    assert_eq!(overlaps.len(), 1, "{}", lab.prober.timeline());
    println!("both served: {:.3} s", overlaps[0].length().as_secs_f64());
}

/// The same by carrier loss at the owner, which the owner sees.
#[test]
fn all_carriers_lost_both_serve_and_then_one() {
    let Some(lab) = Lab::new(Mode::Automatic) else { return };
    lab.net.carrier("a", &PATHS, false);
    lab.wait_until_served_by(&["a", "b"]);
    lab.net.carrier("a", &PATHS, true);
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
}

/// With a fence: the standby has the owner switched off, and only then serves.
#[test]
fn all_cut_one_is_switched_off() {
    let Some(lab) = Lab::new(Mode::Fenced) else { return };
    let cut = lab.prober.now();
    lab.net.cut(&PATHS);
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    assert_eq!((lab.host("a").is_on(), lab.host("b").is_on(), lab.strip.times()), (false, true, 1));
    lab.nothing_happens_for_a_minute(&["b"]);
    lab.net.heal();
    lab.host("a").power_on();
    lab.host("a").start();
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
    assert_eq!(lab.strip.times(), 1);
    lab.prober.never_two();
}

/// The owner is not heard, and hears: its paths carry one way only. The standby takes over as if all were cut; the owner
/// hears of its claim and gives way, also before the paths are mended.
#[test]
fn all_one_way_the_owner_hears_of_it_and_gives_way() {
    let Some(lab) = Lab::new(Mode::Automatic) else { return };
    lab.net.cut_one_way("a", "b", &PATHS);
    lab.wait_until_served_by(&["b"]);
    lab.nothing_happens(&["b"]);
    lab.net.heal();
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
}

/// The same with a fence: it is switched off before anybody takes over.
#[test]
fn all_one_way_the_owner_is_switched_off() {
    let Some(lab) = Lab::new(Mode::Fenced) else { return };
    lab.net.cut_one_way("a", "b", &PATHS);
    lab.wait_until_served_by(&["b"]);
    lab.nothing_happens(&["b"]);
    assert_eq!((lab.host("a").is_on(), lab.strip.times()), (false, 1));
    lab.prober.never_two();
}

/// The standby is not heard, and hears: it has no reason to do anything.
#[test]
fn all_one_way_from_the_standby_is_nothing() {
    for mode in [Mode::Automatic, Mode::Fenced] {
        let Some(lab) = Lab::new(mode) else { return };
        lab.net.cut_one_way("b", "a", &PATHS);
        lab.nothing_happens(&["a"]);
        lab.net.heal();
        lab.wait_until_settled("a");
        assert_eq!(lab.strip.times(), 0);
        lab.prober.never_two();
    }
}
