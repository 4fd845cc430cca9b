//! Three hosts: two that do not hear each other, and one that hears both.

use mainstay_test_hosts::net::PATHS;
use mainstay_test_hosts::{Lab, Mode, Wishes};

/// The owner and the next one are cut off from each other: the operator is asked, and nothing else happens. Mended, all is
/// as before.
#[test]
fn two_of_three_parted_the_operator_is_asked() {
    let Some(lab) = Lab::with(Mode::Confirm, &["a", "b", "c"], Wishes::default(), |host| host.start()) else { return };
    lab.net.part("a", "b", &PATHS);
    lab.wait_for_alarm("b", "is silent");
    lab.nothing_happens(&["a"]);
    lab.net.heal();
    lab.wait_until_settled("a");
    lab.prober.never_two();
}

/// The owner is cut off from both others: confirmed on one of them, that one serves, and the old owner gives up once it
/// hears of it.
#[test]
fn the_owner_parted_from_two_and_confirmed_one_remains() {
    let Some(lab) = Lab::with(Mode::Confirm, &["a", "b", "c"], Wishes::default(), |host| host.start()) else { return };
    lab.net.isolate("a", &PATHS);
    crate::confirm(&lab, "b");
    lab.wait_until_served_by(&["a", "b"]);
    lab.net.heal();
    lab.wait_until_settled("b");
    lab.nothing_happens(&["b"]);
}
