//! That those which mainstay is compared with take over at all: one power cut each. The figures are `just bench failover`'s.

use mainstay_test_hosts::peers::{ByLease, ByPaths, Keepalived, Missing, Pacemaker, Peer};
use mainstay_test_support::needs;

#[track_caller]
fn takes_over<P: Peer>(peer: Result<P, Missing>) -> Option<P> {
    let mut peer = match peer {
        Ok(peer) => peer,
        Err(Missing(how)) => {
            needs::skip("needs a peer", &how);
            return None;
        }
    };
    // Both ways: the second time the one serves that has come back.
    let outages = [peer.outage(), peer.outage()];
    println!("outages: {outages:?}");
    Some(peer)
}

#[test]
fn mainstay_by_paths() {
    let Some(peer) = takes_over(ByPaths::new()) else { return };
    let took = peer.took().expect("its events tell it");
    println!("{took:?}");
    assert!(took.own <= took.whole);
}

#[test]
#[ignore = "arbiter::power_cut_at_the_owner_the_standby_takes_over sees the same: just hosts --long"]
fn mainstay_by_lease() {
    let _ = takes_over(ByLease::new(true));
}

#[test]
#[ignore = "needs keepalived: just hosts --long"]
fn keepalived_with_quick_adverts() {
    let _ = takes_over(Keepalived::new("0.1"));
}

#[test]
#[ignore = "needs keepalived: just hosts --long"]
fn keepalived_with_adverts_each_second() {
    let _ = takes_over(Keepalived::new("1"));
}

#[test]
#[ignore = "needs just bench-peers, and takes a minute or two: just hosts --long"]
fn pacemaker() {
    let _ = takes_over(Pacemaker::new());
}
