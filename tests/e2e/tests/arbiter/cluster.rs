//! Three members, of which one is killed, stopped, or silent.

use std::time::{Duration, Instant};

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterRequest};
use mainstay_core::time::Millis;
use mainstay_test_support::Etcd;
use mainstay_test_support::guard::Signal;

use crate::client::{BUSY, Client, permit, permit_in, record_in, spec};

const LEASE: Millis = Millis(10_000);
/// An election: the election timeout is 1 s, and with jitter up to 2 s; then the first answers.
const ELECTION: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_member_that_hangs_costs_no_request() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let hangs = (etcd.leader() + 1) % 3;
    let mut endpoints = etcd.endpoints();
    // The one that hangs is asked first.
    endpoints.swap(0, hangs);
    let (mut a, mut b) = (Client::new("a", &spec(endpoints.clone(), LEASE)), Client::new("b", &spec(endpoints, LEASE)));
    assert!(a.take(0, 1).await.0);
    b.hears("that a has the permit", BUSY, |view| permit_in(view).is_some()).await;
    etcd.signal(hangs, Signal::SIGSTOP);
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        assert_eq!(permit_in(&a.renew().await.1), Some(permit("a", 1, true)));
        took.push(began.elapsed().as_millis());
    }
    println!("renewals beside a member that hangs: {took:?} ms");
    // The watch was there too: it is made anew elsewhere, and what happened meanwhile is told.
    let (done, view) = a.give(1).await;
    assert!(done);
    let version = record_in(&view).1;
    let began = Instant::now();
    b.hears("that the permit was given", Duration::from_secs(4) + BUSY, |view| record_in(view).1 == version).await;
    println!("the watch at a member that hangs is replaced, {} ms after a change", began.elapsed().as_millis());
    // A daemon that starts now.
    let mut c = Client::new("c", &spec(etcd.endpoints(), LEASE));
    assert!(c.take(version, 2).await.0);
    etcd.signal(hangs, Signal::SIGCONT);
    // What the member had not read yet, it carries out now: it changes nothing.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_, view) = c.renew().await;
    assert_eq!(permit_in(&view), Some(permit("c", 2, true)));
}

#[tokio::test]
async fn a_member_that_is_killed_costs_no_request() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let killed = (etcd.leader() + 1) % 3;
    let mut endpoints = etcd.endpoints();
    endpoints.swap(0, killed);
    let mut a = Client::new("a", &spec(endpoints, LEASE));
    assert!(a.take(0, 1).await.0);
    etcd.kill(killed);
    for _ in 0..5 {
        assert_eq!(permit_in(&a.renew().await.1), Some(permit("a", 1, true)));
    }
}

#[tokio::test]
async fn after_an_election_answers_come_again_and_the_permit_is_there() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let spec = spec(etcd.endpoints(), LEASE);
    let (mut a, mut b) = (Client::new("a", &spec), Client::new("b", &spec));
    assert!(a.take(0, 1).await.0);
    b.renew().await;
    for signal in [None, Some(Signal::SIGSTOP)] {
        let leader = etcd.leader();
        match signal {
            None => etcd.kill(leader),
            Some(signal) => etcd.signal(leader, signal),
        }
        let (took, _, view) = a.renew_until_done(ELECTION + BUSY).await;
        println!("leader {signal:?}: renewed again after {} ms", took.as_millis());
        assert_eq!(permit_in(&view), Some(permit("a", 1, true)));
        let (_, view) = b.renew().await;
        assert_eq!(permit_in(&view), Some(permit("a", 1, false)));
        if signal.is_some() {
            etcd.signal(leader, Signal::SIGCONT);
        } else {
            etcd.run(leader);
        }
    }
}

#[tokio::test]
async fn without_a_majority_nothing_is_granted_and_nothing_is_seen() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let mut a = Client::new("a", &spec(etcd.endpoints(), LEASE));
    assert!(a.take(0, 1).await.0);
    etcd.kill(0);
    etcd.kill(1);
    // The last one may think for a moment that it still leads.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..3 {
        let answer = a.ask(ArbiterRequest::Renew).await;
        assert!(matches!(answer, ArbiterAnswer::Failed(_)), "{answer:?}");
    }
    etcd.run_all();
    let (_, _, view) = a.renew_until_done(ELECTION + BUSY).await;
    assert_eq!(permit_in(&view), Some(permit("a", 1, true)));
}
