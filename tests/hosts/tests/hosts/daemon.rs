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
