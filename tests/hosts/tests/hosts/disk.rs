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

/// The standby's disk is full when the owner dies. The journal has its room beforehand, so it may claim; the kit that runs
/// programs needs room to note what it runs, so nothing is brought in service, and the operator is told why. With room
/// again it is brought in service by one word.
#[test]
fn full_at_the_standby_the_operator_is_told() {
    let wishes = Wishes { small_disks: Some(SIZE_MIB), ..Wishes::default() };
    let Some(lab) = Lab::with(Mode::Automatic, &["a", "b"], wishes, |host| host.start()) else { return };
    lab.host("b").fill_disk();
    lab.host("a").power_off();
    lab.wait_for_alarm("b", "No space left on device");
    lab.nothing_happens(&[]);
    lab.host("b").free_disk();
    lab.host("b").mainstay(&["in-service", "shop"]).ok();
    lab.wait_until_served_by(&["b"]);
    lab.prober.never_two();
}
