//! One comm path of two: nothing is taken over, because the other still carries (O8).

use mainstay_test_hosts::config::HYSTERESIS;
use mainstay_test_hosts::net::PATHS;
use mainstay_test_hosts::{Lab, Link, Mode};

/// Loses one path by `lose`: the standby knows the path to be dead, and nothing happens. Then it is mended.
#[track_caller]
fn one_path_lost(mode: Mode, lose: impl FnOnce(&Lab), mend: impl FnOnce(&Lab)) {
    let Some(lab) = Lab::new(mode) else { return };
    lose(&lab);
    lab.host("b").wait_for("the path to be dead", |status| {
        let node = status.node("a");
        let paths = node.and_then(|node| node["paths"].as_array());
        paths.is_some_and(|paths| paths.iter().any(|path| path["name"] == "one" && path["state"] == "red"))
    });
    lab.nothing_happens(&["a"]);
    let status = lab.host("b").try_status().expect("it answers");
    assert_eq!(status.reach("a"), "alive");
    mend(&lab);
    lab.wait_until_settled("a");
    assert_eq!(lab.strip.times(), 0);
    lab.prober.never_two();
}

#[test]
fn a_carrier_lost_at_the_owner_is_nothing() {
    let lose = |lab: &Lab| lab.net.carrier("a", &[Link::One], false);
    one_path_lost(Mode::Automatic, lose, |lab| lab.net.carrier("a", &[Link::One], true));
}

#[test]
fn a_carrier_lost_at_the_standby_is_nothing() {
    let lose = |lab: &Lab| lab.net.carrier("b", &[Link::One], false);
    one_path_lost(Mode::Fenced, lose, |lab| lab.net.carrier("b", &[Link::One], true));
}

#[test]
fn a_silent_path_is_nothing() {
    one_path_lost(Mode::Automatic, |lab| lab.net.cut(&[Link::One]), |lab| lab.net.heal());
}

#[test]
fn a_path_that_carries_one_way_is_nothing() {
    one_path_lost(Mode::Automatic, |lab| lab.net.cut_one_way("a", "b", &[Link::One]), |lab| lab.net.heal());
}

/// One path dies, and later the other: that is no power cut. Nobody takes over by itself, and the operator is asked.
#[track_caller]
fn one_after_the_other(mode: Mode) {
    let Some(lab) = Lab::new(mode) else { return };
    lab.net.cut(&[Link::One]);
    lab.host("b").wait_for("jeopardy", |status| {
        let paths = status.node("a").and_then(|node| node["paths"].as_array());
        paths.is_some_and(|paths| paths.iter().any(|path| path["state"] == "red"))
    });
    lab.nothing_happens(&["a"]);
    lab.net.cut(&PATHS);
    lab.wait_for_alarm("b", "jeopardy");
    lab.nothing_happens(&["a"]);
    assert_eq!(lab.strip.times(), 0);
    lab.net.heal();
    // That the paths are green again takes the hysteresis, after which jeopardy is over.
    lab.wait_until_settled("a");
    lab.prober.watch(HYSTERESIS, &["a"]);
    lab.prober.never_two();
}

#[test]
fn one_after_the_other_is_no_power_cut() {
    one_after_the_other(Mode::Automatic);
}

#[test]
fn one_after_the_other_gets_nobody_fenced() {
    one_after_the_other(Mode::Fenced);
}

/// The application's own network is none of the comm paths: that clients do not reach it moves nothing.
#[test]
fn the_network_of_the_clients_is_no_comm_path() {
    let Some(lab) = Lab::new(Mode::Automatic) else { return };
    lab.net.isolate("a", &[Link::Out]);
    lab.wait_until_served_by(&[]);
    lab.nothing_happens(&[]);
    lab.net.heal();
    lab.wait_until_settled("a");
    lab.prober.never_two();
}
