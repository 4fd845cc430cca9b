//! One member: what each question does, what a lease does, and what the watch tells.

use std::time::{Duration, Instant};

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterRequest};
use mainstay_core::state::StandingKind;
use mainstay_core::time::Millis;
use mainstay_test_support::Etcd;

use crate::client::{BUSY, Client, REQUEST_TIMEOUT, permit, permit_in, record, record_in, spec};

/// The shortest that etcd grants, with its usual election timeout of 1 s.
const SHORT: Millis = Millis(2_000);
/// Long enough to outlive a test's steps.
const LONG: Millis = Millis(20_000);

#[tokio::test]
async fn a_permit_is_taken_seen_and_given() {
    let Some(etcd) = Etcd::start(1) else { return };
    let spec = spec(etcd.endpoints(), LONG);
    let (mut a, mut b) = (Client::new("a", &spec), Client::new("b", &spec));

    let (lease, view) = a.renew().await;
    assert_eq!(lease, LONG);
    assert!(view.hierarchies.is_empty());
    let (done, view) = a.take(0, 1).await;
    assert!(done);
    assert_eq!(permit_in(&view), Some(permit("a", 1, true)));
    let (seen, version) = record_in(&view);
    assert_eq!(seen, Some(record("a", 1, StandingKind::Held)));
    assert!(version > 0);

    let (_, view) = b.renew().await;
    assert_eq!(permit_in(&view), Some(permit("a", 1, false)));
    assert_eq!(record_in(&view), (seen, version));
    assert!(!b.take(version, 2).await.0, "somebody has the permit");
    assert!(!b.give(1).await.0, "it is not b's");

    // Its own permit does not stand in the way of a new claim, and a version that is not the newest does.
    assert!(!a.take(version - 1, 2).await.0);
    let (done, view) = a.take(version, 2).await;
    assert!(done);
    assert_eq!(permit_in(&view), Some(permit("a", 2, true)));
    let newer = record_in(&view).1;
    assert!(newer > version);

    let (done, view) = a.give(2).await;
    assert!(done);
    assert_eq!(permit_in(&view), None);
    assert_eq!(record_in(&view).0, Some(record("a", 2, StandingKind::Released)));
    let version = record_in(&view).1;
    assert!(!b.take(newer, 3).await.0, "the record has changed");
    assert!(b.take(version, 3).await.0);
    assert!(!a.give(2).await.0, "it is b's");
}

/// Asked once more, because the answer was lost: it was done, and is not done twice.
#[tokio::test]
async fn what_was_done_already_is_recognised() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut a = Client::new("a", &spec(etcd.endpoints(), LONG));
    let (_, first) = a.take(0, 1).await;
    let (done, again) = a.take(0, 1).await;
    assert!(done);
    assert_eq!(first, again);
    let (_, first) = a.give(1).await;
    let (done, again) = a.give(1).await;
    assert!(done);
    assert_eq!(first, again);
}

#[tokio::test]
async fn of_two_that_take_one_wins() {
    let Some(etcd) = Etcd::start(1) else { return };
    let spec = spec(etcd.endpoints(), LONG);
    let (mut a, mut b) = (Client::new("a", &spec), Client::new("b", &spec));
    a.renew().await;
    b.renew().await;
    let mut version = 0;
    let (mut won_by_a, mut won_by_b) = (0, 0);
    for epoch in 1..=50 {
        // The other one is asked first every time.
        let (of_a, of_b) = if epoch % 2 == 0 {
            tokio::join!(a.take(version, epoch), b.take(version, epoch))
        } else {
            let (of_b, of_a) = tokio::join!(b.take(version, epoch), a.take(version, epoch));
            (of_a, of_b)
        };
        assert!(of_a.0 != of_b.0, "round {epoch}: {of_a:?}, {of_b:?}");
        let winner = if of_a.0 { &mut a } else { &mut b };
        *(if of_a.0 { &mut won_by_a } else { &mut won_by_b }) += 1;
        let (done, view) = winner.give(epoch).await;
        assert!(done);
        version = record_in(&view).1;
    }
    println!("a has won {won_by_a} times, b {won_by_b} times");
}

/// After a failover of a whole node: all at once, each done, and no answer shows less than the one before it.
#[tokio::test]
async fn many_at_once_are_all_done_and_told_in_order() {
    const HIERARCHIES: usize = 50;
    let Some(etcd) = Etcd::start(1) else { return };
    let mut a = Client::new("a", &spec(etcd.endpoints(), LONG));
    a.renew().await;
    let take = |number| ArbiterRequest::Take {
        hierarchy: format!("h{number}").as_str().into(),
        expected: 0,
        record: record("a", 1, StandingKind::Held),
        force: false,
    };
    let began = Instant::now();
    let answers = a.ask_all((0..HIERARCHIES).map(take).collect()).await;
    println!("{HIERARCHIES} permits taken in {} ms", began.elapsed().as_millis());
    let mut seen = 0;
    for (id, answer) in answers {
        let ArbiterAnswer::Done { done: true, view } = answer else { panic!("{id:?}: {answer:?}") };
        assert!(view.hierarchies.len() >= seen, "{id:?}: {} after {seen}", view.hierarchies.len());
        seen = view.hierarchies.len();
    }
    assert_eq!(seen, HIERARCHIES);
}

/// How late etcd takes away a permit that nobody renews, and how soon after that the standby knows.
#[tokio::test]
async fn a_standby_hears_at_once_that_a_permit_is_gone() {
    let Some(etcd) = Etcd::start(1) else { return };
    let spec = spec(etcd.endpoints(), SHORT);
    let (mut a, mut b) = (Client::new("a", &spec), Client::new("b", &spec));
    b.renew().await;
    assert!(a.take(0, 1).await.0);
    b.hears("that a has the permit", BUSY, |view| permit_in(view).is_some()).await;
    let renewed = Instant::now();
    let (lease, _) = a.renew().await;
    assert_eq!(lease, SHORT);
    drop(a);
    let heard = b.hears_that_the_permit_is_gone(Duration::from_millis(lease.0) + BUSY).await;
    let late = heard.duration_since(renewed);
    println!("the lease is {lease}; the standby has heard {} ms after the renewal was sent", late.as_millis());
    assert!(late >= Duration::from_millis(lease.0), "never early");

    // The record has no lease.
    let (_, view) = b.renew().await;
    assert_eq!(record_in(&view).0, Some(record("a", 1, StandingKind::Held)));
}

#[tokio::test]
async fn a_change_is_heard_of_within_milliseconds() {
    let Some(etcd) = Etcd::start(1) else { return };
    let spec = spec(etcd.endpoints(), LONG);
    let (mut a, mut b) = (Client::new("a", &spec), Client::new("b", &spec));
    // The watch is there when its first look has come.
    b.hears("what there is", BUSY, |_| true).await;
    let mut took = Vec::new();
    let mut version = 0;
    for epoch in 1..=20 {
        let (done, view) = a.take(version, epoch).await;
        assert!(done);
        let began = Instant::now();
        version = record_in(&view).1;
        let heard = b.hears("that a has taken it", BUSY, |view| record_in(view).1 == version).await;
        took.push(heard.duration_since(began).as_micros());
    }
    took.sort_unstable();
    println!(
        "heard {} us after the taker knew (median), {} us at the most",
        took[took.len() / 2],
        took[took.len() - 1]
    );
}

#[tokio::test]
async fn a_lease_that_ran_out_is_replaced() {
    let Some(etcd) = Etcd::start(1) else { return };
    let spec = spec(etcd.endpoints(), SHORT);
    let (mut a, mut b) = (Client::new("a", &spec), Client::new("b", &spec));
    let (_, view) = a.take(0, 1).await;
    let version = record_in(&view).1;
    b.hears_that_the_permit_is_gone(Duration::from_millis(SHORT.0) + BUSY).await;
    // A change under a lease that is gone: etcd refuses it, and a new one is asked for.
    let (done, view) = a.take(version, 2).await;
    assert!(done);
    assert_eq!(permit_in(&view), Some(permit("a", 2, true)));
    b.hears_that_the_permit_is_gone(Duration::from_millis(SHORT.0) + BUSY).await;
    let (lease, view) = a.renew().await;
    assert_eq!(lease, SHORT);
    assert_eq!(permit_in(&view), None);
}

#[tokio::test]
async fn the_next_daemon_goes_on_with_the_lease() {
    let Some(etcd) = Etcd::start(1) else { return };
    let spec = spec(etcd.endpoints(), Millis(4_000));
    let mut a = Client::new("a", &spec);
    assert!(a.take(0, 1).await.0);
    drop(a);
    // With another lease in its config: the one there is goes on as it was granted.
    let mut next = Client::new("a", &crate::client::spec(etcd.endpoints(), LONG));
    for _ in 0..6 {
        let (lease, view) = next.renew().await;
        assert_eq!(lease, Millis(4_000));
        assert_eq!(permit_in(&view), Some(permit("a", 1, true)));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(etcd.ctl(&["lease", "list"]).lines().count(), 2, "one lease, and a line above it");
    assert!(next.give(1).await.0);
}

#[tokio::test]
async fn without_etcd_every_question_fails_in_time_and_with_it_they_succeed() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    etcd.kill(0);
    let mut a = Client::new("a", &spec(etcd.endpoints(), LONG));
    let began = Instant::now();
    let ArbiterAnswer::Failed(why) = a.ask(ArbiterRequest::Renew).await else { panic!() };
    assert!(began.elapsed() >= REQUEST_TIMEOUT, "it is tried as long as there is time");
    assert!(why.contains(&etcd.endpoint(0)) && why.contains("refused"), "{why}");
    etcd.run(0);
    let (took, _, _) = a.renew_until_done(Duration::from_secs(10)).await;
    println!("renewed {} ms after etcd was there again", took.as_millis());
    // And the watch, by itself.
    etcd.ctl(&["put", "/mainstay/lab/mail/note", "x"]);
    a.hears("that something has changed", Duration::from_secs(3) + BUSY, |_| true).await;
}

#[tokio::test]
async fn wiped_it_has_nothing_and_that_is_told() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut a = Client::new("a", &spec(etcd.endpoints(), LONG));
    assert!(a.take(0, 7).await.0);
    etcd.wipe();
    etcd.run_all();
    let (_, _, view) = a.renew_until_done(Duration::from_secs(10)).await;
    assert!(view.hierarchies.is_empty(), "{view:?}");
    let (done, view) = a.take(0, 8).await;
    assert!(done);
    assert_eq!(permit_in(&view), Some(permit("a", 8, true)));
}

#[tokio::test]
async fn what_cannot_be_read_is_no_permit_and_is_not_written_over() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut a = Client::new("a", &spec(etcd.endpoints(), LONG));
    etcd.ctl(&["put", "/mainstay/lab/mail/record", "nonsense"]);
    let (_, view) = a.renew().await;
    assert!(view.hierarchies.is_empty());
    assert!(!a.take(0, 1).await.0);
    assert_eq!(etcd.ctl(&["get", "--print-value-only", "/mainstay/lab/mail/record"]).trim(), "nonsense");
}
