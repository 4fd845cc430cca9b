//! An arbiter: exactly one serves, whatever is cut (O12, O13, O16).

use std::time::Duration;

use mainstay_test_hosts::arbiter::{Arbiter, LEASE_S};
use mainstay_test_hosts::lab::LONG_ENOUGH;
use mainstay_test_hosts::net::{LINKS, PATHS};
use mainstay_test_hosts::{Host, Lab, Link, Mode, Wishes};

use crate::took_over;

/// Longer than a lease, and than etcd takes to notice that it has run out.
const BEYOND_LEASE: Duration = Duration::from_secs(LEASE_S + 2);

/// A host is not reached by the arbiter, and does not reach it; its clients do.
fn cut_from_arbiter(lab: &Lab, host: &str) {
    Arbiter::stations().for_each(|station| lab.net.part(host, station, &[Link::Out]));
}

#[test]
fn power_cut_at_the_owner_the_standby_takes_over() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    let cut = lab.prober.now();
    lab.host("a").power_off();
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    lab.host("a").power_on();
    lab.host("a").start();
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
    lab.prober.never_two();
}

/// With the leader of the arbiter killed in the same second.
#[test]
fn power_cut_and_the_leader_killed_the_standby_takes_over() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    let cut = lab.prober.now();
    lab.arbiter().kill_leader();
    lab.host("a").power_off();
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    lab.prober.never_two();
}

/// The owner renews its permit: that nobody hears it makes no difference.
#[test]
fn all_paths_cut_the_owner_serves_on() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    lab.net.cut(&PATHS);
    lab.prober.watch(BEYOND_LEASE, &["a"]);
    lab.nothing_happens_for_a_minute(&["a"]);
    lab.net.heal();
    lab.wait_until_settled("a");
    lab.prober.never_two();
}

/// The owner hears neither the arbiter nor the other host: it stops in time, and then the other serves.
#[test]
fn the_owner_cut_off_gives_way_in_time() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    let cut = lab.prober.now();
    lab.net.cut(&PATHS);
    cut_from_arbiter(&lab, "a");
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    lab.nothing_happens_for_a_minute(&["b"]);
    lab.net.heal();
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
    lab.prober.never_two();
}

/// Nobody reaches the arbiter, and all hear each other: the owner serves on, because the other promises not to.
#[test]
fn the_arbiter_gone_the_owner_serves_on() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    lab.arbiter().kill_all();
    lab.prober.watch(BEYOND_LEASE, &["a"]);
    lab.arbiter().run_all();
    lab.wait_until_settled("a");
    lab.nothing_happens(&["a"]);
    lab.prober.never_two();
}

/// Nobody reaches the arbiter, and nobody hears anybody: nobody may serve, and once the arbiter is back exactly one does.
#[test]
fn the_arbiter_gone_and_all_paths_cut_nobody_serves() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    lab.arbiter().kill_all();
    lab.net.cut(&PATHS);
    lab.wait_until_served_by(&[]);
    lab.nothing_happens_for_a_minute(&[]);
    lab.arbiter().run_all();
    lab.net.heal();
    mainstay_test_hosts::host::until("one to serve", || lab.prober.serving().is_some_and(|serving| serving.len() == 1));
    let serving = lab.prober.serving().unwrap_or_default();
    lab.wait_until_settled(&serving[0]);
    lab.prober.never_two();
}

/// The owner's daemon does not renew its permit any more: the guardian restarts the host before the lease ends.
#[track_caller]
fn gone_for_too_long(go: impl FnOnce(&Host)) {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    let cut = lab.prober.now();
    go(lab.host("a"));
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    mainstay_test_hosts::host::until("a to be off: its guardian has restarted it", || !lab.host("a").is_on());
    lab.host("a").power_off();
    lab.host("a").power_on();
    lab.host("a").start();
    lab.wait_until_settled("b");
    lab.prober.never_two();
}

#[test]
fn the_daemon_paused_at_the_owner_the_host_is_restarted_in_time() {
    gone_for_too_long(Host::pause);
}

#[test]
fn the_daemon_killed_at_the_owner_the_host_is_restarted_in_time() {
    gone_for_too_long(Host::kill);
}

/// Back within the lease, nothing has happened (O22).
#[test]
fn the_daemon_killed_and_started_again_is_nothing() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    lab.host("a").kill();
    lab.host("a").start();
    lab.prober.watch(BEYOND_LEASE, &["a"]);
    lab.wait_until_settled("a");
    assert_eq!(lab.prober.timeline().runs().len(), 1, "{}", lab.prober.timeline());
}

/// Both were off, and the standby is back: the arbiter knows that nobody has a permit (O3).
#[test]
fn both_off_and_the_standby_back_it_serves() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    lab.host("a").power_off();
    lab.host("b").power_off();
    lab.host("b").power_on();
    lab.host("b").start();
    lab.wait_until_served_by(&["b"]);
    lab.host("a").power_on();
    lab.host("a").start();
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
    lab.prober.never_two();
}

/// The owner of three is cut off from everything but its clients: exactly one of the others serves.
#[test]
fn the_owner_of_three_cut_off_exactly_one_other_serves() {
    let lab = Lab::with(Mode::Arbiter, &["a", "b", "c"], Wishes::default(), |host| host.start());
    let Some(lab) = lab else { return };
    lab.net.isolate("a", &PATHS);
    cut_from_arbiter(&lab, "a");
    lab.wait_until_served_by(&["b"]);
    lab.nothing_happens(&["b"]);
    lab.net.heal();
    lab.wait_until_settled("b");
    lab.prober.watch(LONG_ENOUGH, &["b"]);
    lab.prober.never_two();
}

/// Two of three do not hear each other, and all reach the arbiter: nothing happens.
#[test]
fn two_of_three_parted_is_nothing() {
    let lab = Lab::with(Mode::Arbiter, &["a", "b", "c"], Wishes::default(), |host| host.start());
    let Some(lab) = lab else { return };
    lab.net.part("a", "b", &PATHS);
    lab.prober.watch(BEYOND_LEASE, &["a"]);
    lab.net.heal();
    lab.wait_until_settled("a");
    lab.prober.never_two();
}

/// All cables of the owner are pulled, as with a switch that dies: it cannot be asked then, so only the other is.
#[test]
fn all_carriers_lost_at_the_owner_the_standby_takes_over() {
    let Some(lab) = Lab::new(Mode::Arbiter) else { return };
    let cut = lab.prober.now();
    lab.net.carrier("a", &LINKS, false);
    lab.wait_until_served_by(&["b"]);
    took_over(&lab, cut);
    lab.net.carrier("a", &LINKS, true);
    lab.wait_until_settled("b");
    lab.prober.never_two();
}
