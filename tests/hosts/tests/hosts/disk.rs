//! A disk without room.

use mainstay_test_hosts::{Lab, Mode, Wishes};

/// Enough for what a daemon keeps, in MiB; small, so that it is soon full.
const SIZE_MIB: u32 = 48;

/// The owner's disk is full: it serves on and is heard, so nobody takes over; with room again, all is as before.
#[test]
fn full_at_the_owner_is_nothing() {
    let wishes = Wishes { small_disks: Some(SIZE_MIB), ..Wishes::default() };
    let Some(lab) = Lab::with(Mode::Automatic, &["a", "b"], wishes, |host| host.start()) else { return };
    lab.host("a").fill_disk();
    lab.nothing_happens(&["a"]);
    lab.host("a").free_disk();
    lab.wait_until_settled("a");
    lab.prober.never_two();
}

/// The standby's disk is full: it says that it is not ready, and does not take over when the owner dies; the operator is
/// told why. With room again it does.
#[test]
fn full_at_the_standby_the_operator_is_told() {
    let wishes = Wishes { small_disks: Some(SIZE_MIB), ..Wishes::default() };
    let Some(lab) = Lab::with(Mode::Automatic, &["a", "b"], wishes, |host| host.start()) else { return };
    lab.host("b").fill_disk();
    lab.wait_for_alarm("b", "nothing is brought in service on this node by itself");
    lab.host("a").power_off();
    lab.wait_for_alarm("b", "It is not taken over by itself: this node is not ready");
    lab.nothing_happens(&[]);
    lab.host("b").free_disk();
    lab.wait_until_served_by(&["b"]);
    lab.prober.never_two();
}
