//! Power cords.

use mainstay_test_hosts::lab::LONG_ENOUGH;
use mainstay_test_hosts::{Lab, Mode};
use mainstay_test_support::wait_until;

use crate::{confirm, took_over};

/// A host that was off comes back: it finds out who owns it, and stays a standby.
#[track_caller]
fn comes_back_as_a_standby(lab: &Lab, host: &str, owner: &str) {
    let before = lab.prober.now();
    lab.host(host).power_on();
    lab.host(host).start();
    lab.wait_until_settled(owner);
    lab.nothing_happens(&[owner]);
    let served = lab.prober.timeline();
    assert_eq!(served.served_since(before), [owner], "{served}");
}

/// The owner's power is cut: an alarm, and nobody serves until the operator says so.
#[test]
fn cut_at_the_owner_the_operator_is_asked() {
    let Some(lab) = Lab::new(Mode::Confirm) else { return };
    lab.host("a").power_off();
    lab.wait_for_alarm("b", "is silent");
    lab.nothing_happens(&[]);
    confirm(&lab, "b");
    lab.wait_until_served_by(&["b"]);
    comes_back_as_a_standby(&lab, "a", "b");
    lab.prober.never_two();
}

/// The same where paths decide: the standby takes over by itself.
#[test]
fn cut_at_the_owner_the_standby_takes_over() {
    let Some(lab) = Lab::new(Mode::Automatic) else { return };
    let cut = lab.prober.now();
    lab.host("a").power_off();
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    comes_back_as_a_standby(&lab, "a", "b");
    lab.prober.never_two();
}

/// The same where a fence has to confirm it.
#[test]
fn cut_at_the_owner_the_standby_fences_it_and_takes_over() {
    let Some(lab) = Lab::new(Mode::Fenced) else { return };
    let cut = lab.prober.now();
    lab.host("a").power_off();
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    assert_eq!(lab.strip.times(), 1);
    comes_back_as_a_standby(&lab, "a", "b");
    assert_eq!(lab.strip.times(), 1, "nobody is fenced for having been off");
    lab.prober.never_two();
}

/// The fence does not work: nothing is known of the silent owner, so nothing is taken over, and the operator is told.
#[test]
fn a_fence_that_fails_is_no_proof() {
    let Some(lab) = Lab::new(Mode::Fenced) else { return };
    lab.strip.set_broken(true);
    lab.host("a").power_off();
    lab.wait_for_alarm("b", "fencing a failed");
    lab.nothing_happens(&[]);
    confirm(&lab, "b");
    lab.wait_until_served_by(&["b"]);
    lab.prober.never_two();
}

/// The standby's power is cut: the owner serves on, and the standby comes back as one.
#[test]
fn cut_at_the_standby_the_owner_serves_on() {
    for mode in [Mode::Automatic, Mode::Fenced] {
        let Some(lab) = Lab::new(mode) else { return };
        lab.host("b").power_off();
        lab.nothing_happens(&["a"]);
        comes_back_as_a_standby(&lab, "b", "a");
        assert_eq!(lab.strip.times(), 0, "who owns it has no reason to fence");
        lab.prober.never_two();
    }
}

/// Both were off, and one is back: it knows what it knew, not what the other did since, and starts nothing (O3). When the
/// other is back too, exactly one serves.
#[track_caller]
fn both_off_and_one_back(mode: Mode, back: &str, other: &str) {
    let Some(lab) = Lab::new(mode) else { return };
    lab.host("a").power_off();
    lab.host("b").power_off();
    lab.host(back).power_on();
    lab.host(back).start();
    lab.wait_for_alarm(back, if back == "a" { "(O3)" } else { "is silent" });
    lab.nothing_happens(&[]);
    lab.host(other).power_on();
    lab.host(other).start();
    lab.wait_until_settled("a");
    lab.prober.watch(LONG_ENOUGH, &["a"]);
    lab.prober.never_two();
}

#[test]
fn both_off_and_the_owner_back_nothing_starts() {
    both_off_and_one_back(Mode::Automatic, "a", "b");
}

#[test]
fn both_off_and_the_standby_back_nothing_starts() {
    both_off_and_one_back(Mode::Automatic, "b", "a");
}

#[test]
fn both_off_and_the_standby_back_nobody_is_fenced() {
    // It has not met the other since it started (O15).
    both_off_and_one_back(Mode::Fenced, "b", "a");
}

/// The operator knows better than a node that is alone, and says so.
#[test]
fn both_off_and_one_back_it_can_be_forced() {
    let Some(lab) = Lab::new(Mode::Automatic) else { return };
    lab.host("a").power_off();
    lab.host("b").power_off();
    lab.host("b").power_on();
    lab.host("b").start();
    lab.wait_for_alarm("b", "is silent");
    confirm(&lab, "b");
    lab.wait_until_served_by(&["b"]);
    comes_back_as_a_standby(&lab, "a", "b");
    wait_until(LONG_ENOUGH, "all to be one cluster", || lab.hosts().all(|host| host.try_status().is_some()));
    lab.prober.never_two();
}
