//! The way by which `just bench failover` measures, with mainstay alone: its peers are installed where it is run.

use mainstay_test_hosts::peers::{ByPaths, Peer};
use mainstay_test_support::needs;

/// Both ways: the second time that one serves which has come back.
#[test]
fn what_the_benchmark_measures_is_seen() {
    let mut peer = match ByPaths::new() {
        Ok(peer) => peer,
        Err(missing) => return needs::skip("needs hosts", &missing.0),
    };
    let outages = [peer.outage(), peer.outage()];
    let took = peer.took().expect("its events tell it");
    println!("outages: {outages:?}, of the second: {took:?}");
    assert!(took.own <= took.whole && took.whole <= outages[1]);
}
