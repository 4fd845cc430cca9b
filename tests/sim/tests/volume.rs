//! Volumes in the simulated world: whatever happens, the promise at the end of the rules holds, and both copies are the
//! same in the end. What is judged is `mainstay_sim::volume`; a seed that fails is looked at with `just sim volume SEED`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mainstay_sim::volume::run::Case;

/// Seeds of the fixed corpus: what a debug build runs in about half a minute on two cores.
const CORPUS: u64 = 300;
/// Fresh seeds in each build.
const FRESH: u64 = 60;

/// Runs all cases on all cores; how often what occurred.
#[track_caller]
fn all_hold(cases: &[Case]) -> BTreeMap<String, u64> {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new((Vec::new(), BTreeMap::new())));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = case.run(false);
                    let mut sum = sum.lock().expect("nothing panics while it is held");
                    if let Some(why) = outcome.broken {
                        let rule = why.split(':').next().unwrap_or_default();
                        sum.0.push(format!("{why}\n{:#?}", case.shrink(rule)));
                    }
                    for (what, count) in outcome.counts {
                        *sum.1.entry(what).or_default() += count;
                    }
                }
            });
        }
    });
    let (failed, counts) = sum.into_inner().expect("nothing panics while it is held");
    assert!(failed.is_empty(), "{} of {}: {}", failed.len(), cases.len(), failed[0]);
    counts
}

#[test]
fn whatever_happens_to_a_volume_the_promise_holds() {
    let counts = all_hold(&(0..CORPUS).map(Case::from_seed).collect::<Vec<_>>());
    // If these do not occur, the corpus tests nothing.
    for wanted in [
        "alone marked",
        "alone unmarked",
        "claim",
        "event BackingFailed",
        "event Demoted",
        "event GivesUp",
        "event LogNotBelieved",
        "event MarkedOutdated",
        "event NotMarked",
        "event Paused",
        "event PermitEnded",
        "event PeerFailed",
        "event Verified",
        "forced",
        "lost by a word",
        "split brain",
        "trouble OldLog",
    ] {
        assert!(counts.contains_key(wanted), "{wanted} never occurred: {counts:#?}");
    }
}

#[test]
fn fresh_seeds_hold_for_a_volume_too() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let from = since.as_millis() as u64 * 1000;
    println!("{FRESH} fresh seeds from {from}");
    all_hold(&(from..from + FRESH).map(Case::from_seed).collect::<Vec<_>>());
}

#[test]
fn every_point_of_a_small_workload_with_an_arbiter() {
    let cases: Vec<Case> = (1..3).flat_map(|seed| Case::every_point(seed, true, false)).collect();
    println!("{} cases", cases.len());
    all_hold(&cases);
}

#[test]
fn every_point_of_a_small_workload_with_an_operator() {
    let cases: Vec<Case> = (3..5).flat_map(|seed| Case::every_point(seed, false, false)).collect();
    println!("{} cases", cases.len());
    all_hold(&cases);
}

#[test]
fn every_point_of_a_small_workload_in_async_mode() {
    let cases: Vec<Case> = Case::every_point(5, true, true);
    println!("{} cases", cases.len());
    all_hold(&cases);
}

#[test]
fn every_point_of_going_alone_and_coming_back() {
    let cases: Vec<Case> = mainstay_sim::volume::bugs::points().collect();
    println!("{} cases", cases.len());
    all_hold(&cases);
}

#[test]
fn the_same_seed_gives_the_same_volume() {
    for seed in 0..5 {
        assert_eq!(Case::from_seed(seed).run(true).told, Case::from_seed(seed).run(true).told, "seed {seed}");
    }
}
