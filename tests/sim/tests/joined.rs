//! The core, the arbiter and a mirrored volume in one world: whatever happens, the promise at the end of the rules of
//! volumes holds, nobody acknowledges where another one may, and both copies are the same in the end. What is judged is
//! `mainstay_sim::joined`; a seed that fails is looked at with `just sim volume SEED`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_sim::joined::case::Case;
use mainstay_sim::scenario::Mode;

/// Seeds of the fixed corpus: what a debug build runs in some twenty seconds on two cores.
const CORPUS: u64 = 1_000;
/// Fresh seeds are run for so long.
const FRESH: Duration = Duration::from_secs(5);
/// Late marks that are tried, old words, and journals that are both lost.
const LATE_MARKS: u64 = 150;
/// Of the steps of the small workload every so many-th is tried, from another one in each mode.
const STRIDE: u64 = 8;

/// Runs cases on all cores until there are none; how often what occurred.
#[track_caller]
fn all_hold(case: impl Fn(usize) -> Option<Case> + Sync) -> BTreeMap<String, u64> {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new((Vec::new(), BTreeMap::new(), 0u64)));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = case(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = case.run(false);
                    let shrunk = outcome.rule().map(|rule| case.shrink(rule));
                    let mut sum = sum.lock().expect("nothing panics while it is held");
                    if let (Some(why), Some(shrunk)) = (outcome.broken, shrunk) {
                        sum.0.push(format!("{why}\n{shrunk:#?}"));
                    }
                    for (what, count) in outcome.counts {
                        *sum.1.entry(what).or_default() += count;
                    }
                    sum.2 += outcome.simulated.0;
                }
            });
        }
    });
    let (failed, counts, simulated) = sum.into_inner().expect("nothing panics while it is held");
    println!("{:.1} h simulated in {:.1} s", simulated as f64 / 3_600_000.0, began.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{} failed: {}", failed.len(), failed[0]);
    counts
}

#[test]
fn whatever_happens_to_a_cluster_with_a_volume_the_promise_holds() {
    let counts = all_hold(|number| (number < CORPUS as usize).then(|| Case::from_seed(number as u64)));
    // If these do not occur, the corpus tests nothing.
    for wanted in [
        "alone marked",
        "alone unmarked",
        "cluster arbiter: marked",
        "cluster claim: failover",
        "cluster claim: permit-lost",
        "cluster claim: switchover",
        "cluster claim: undo",
        "cluster event: Fenced true",
        "cluster guardian: fenced",
        "cluster guardian: watchdog fired",
        "cluster plan: stale-owner",
        "cluster word: hasty",
        "cluster word: true",
        "daemon: adopts",
        "data lost",
        "event GivesUp",
        "event MarkedOutdated",
        "event NotMarked",
        "event PermitEnded",
        "event RightEnded",
        "event RightLost",
        "forced",
        "kit: not ready",
        "lost by a word",
        "mark: done by the peer",
        "mark: the peer is in contact",
        "not promoted: inconsistent",
        "not promoted: last known good",
        "not promoted: marked",
        "not promoted: outdated",
        "process started",
        "promoted: Arbiter { marked: false }",
        "promoted: Automatic { together: true }",
        "promoted: Confirmed",
        "promoted: Free",
        "right: by arbiter",
        "right: by arbiter, marked",
        "right: by silence",
        "right: by word",
        "right: free",
        "split brain: resolved",
        "two in service",
    ] {
        assert!(counts.contains_key(wanted), "{wanted} never occurred: {counts:#?}");
    }
}

#[test]
fn fresh_seeds_hold_too() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let (from, began) = (since.as_millis() as u64 * 1000, Instant::now());
    println!("fresh seeds from {from}");
    all_hold(|number| (began.elapsed() < FRESH).then(|| Case::from_seed(from + number as u64)));
}

#[test]
fn every_point_of_a_small_workload_in_each_mode() {
    let modes = [Mode::Confirm, Mode::Automatic, Mode::Arbiter, Mode::Fence];
    let cases: Vec<Case> = (0u64..)
        .zip(modes)
        .flat_map(|(number, mode)| Case::every_point(number + 1, mode, number * (STRIDE / 4), STRIDE))
        .collect();
    println!("{} cases", cases.len());
    let counts = all_hold(|number| cases.get(number).cloned());
    for wanted in ["alone marked", "cluster claim: failover", "cluster claim: switchover", "event GivesUp"] {
        assert!(counts.contains_key(wanted), "{wanted} never occurred: {counts:#?}");
    }
}

#[test]
fn a_mark_that_meets_the_end_of_the_one_before_at_the_arbiter() {
    let counts = all_hold(|number| (number < LATE_MARKS as usize).then(|| Case::late_mark(number as u64)));
    for wanted in ["alone marked", "cluster arbiter: mark refused", "cluster claim: failover", "not promoted: marked"] {
        assert!(counts.contains_key(wanted), "{wanted} never occurred: {counts:#?}");
    }
}

#[test]
fn a_word_that_the_arbiter_is_not_told_and_a_later_daemon() {
    let counts = all_hold(|number| (number < LATE_MARKS as usize).then(|| Case::old_word(number as u64)));
    for wanted in ["cluster word: true", "right: by word", "right: by arbiter"] {
        assert!(counts.contains_key(wanted), "{wanted} never occurred: {counts:#?}");
    }
}

#[test]
fn both_journals_are_lost_and_claims_go_on_above_the_labels() {
    let counts = all_hold(|number| (number < LATE_MARKS as usize).then(|| Case::lost_journals(number as u64)));
    for wanted in ["fault lose-disk", "cluster claim: switchover", "promoted: Free"] {
        assert!(counts.contains_key(wanted), "{wanted} never occurred: {counts:#?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..5 {
        assert_eq!(Case::from_seed(seed).run(true).told, Case::from_seed(seed).run(true).told, "seed {seed}");
    }
}
