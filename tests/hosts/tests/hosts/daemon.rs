//! A daemon that is killed or stopped in its tracks for longer than the dead time: the application goes on, and the other
//! host knows that a kernel that answers is no machine without power (O7, O22).

use mainstay_test_hosts::{Host, Lab, Mode};

#[track_caller]
fn gone_for_a_while(mode: Mode, go: impl FnOnce(&Host), come_back: impl FnOnce(&Host)) {
    let Some(lab) = Lab::new(mode) else { return };
    go(lab.host("a"));
    lab.wait_for_alarm("b", "silent");
    lab.nothing_happens(&["a"]);
    assert_eq!((lab.strip.times(), lab.host("a").is_on()), (0, true));
    come_back(lab.host("a"));
    lab.wait_until_settled("a");
    lab.nothing_happens(&["a"]);
    lab.host("b").wait_for("no alarm to be left", |status| status.alarms().is_empty());
    let runs = lab.prober.timeline().runs();
    assert_eq!(runs.len(), 1, "it was never started anew: {}", lab.prober.timeline());
}

#[test]
fn killed_at_the_owner_the_operator_is_told() {
    gone_for_a_while(Mode::Confirm, Host::kill, Host::start);
}

#[test]
fn paused_at_the_owner_the_operator_is_told() {
    gone_for_a_while(Mode::Confirm, Host::pause, Host::resume);
}

#[test]
fn killed_at_the_owner_nothing_is_taken_over() {
    gone_for_a_while(Mode::Automatic, Host::kill, Host::start);
}

#[test]
fn paused_at_the_owner_nothing_is_taken_over() {
    gone_for_a_while(Mode::Automatic, Host::pause, Host::resume);
}

#[test]
fn killed_at_the_owner_it_is_not_fenced() {
    gone_for_a_while(Mode::Fenced, Host::kill, Host::start);
}

#[test]
fn paused_at_the_owner_it_is_not_fenced() {
    gone_for_a_while(Mode::Fenced, Host::pause, Host::resume);
}

/// The daemon is killed, and then the power goes: its kernel does not answer any more, so that is seen as what it is.
#[test]
fn killed_at_the_owner_and_then_its_power_cut_the_standby_takes_over() {
    let Some(lab) = Lab::new(Mode::Fenced) else { return };
    lab.host("a").kill();
    lab.wait_for_alarm("b", "(O7)");
    lab.host("a").power_off();
    lab.wait_until_served_by(&["b"]);
    assert_eq!(lab.strip.times(), 1);
    lab.prober.never_two();
}
