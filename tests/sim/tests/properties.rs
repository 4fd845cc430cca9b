//! Whole clusters from seeds: whatever happens, what must hold holds.
//!
//! A fixed corpus, so that every build sees the same worlds; some fresh seeds, which are printed; and the cases that were
//! once found. The checkers are `mainstay_sim::checks`; a seed that fails is looked at with `just sim SEED`.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_core::time::Millis;
use mainstay_sim::coverage::Coverage;
use mainstay_sim::run::{run, run_examined};
use mainstay_sim::scenario::{Mode, Scenario};
use mainstay_sim::script::stories;

/// Seeds of the fixed corpus: what a debug build runs in about twenty seconds on two cores.
const CORPUS: u64 = 60;
/// Seeds that are run under health checks.
const EXAMINED: u64 = 12;
/// Fresh seeds are run for so long.
const FRESH: Duration = Duration::from_secs(10);

/// Runs seeds on all cores; what failed, and what occurred.
fn run_all(seeds: impl Fn(u64) -> Option<u64> + Sync) -> (Vec<String>, Coverage, u64) {
    let next = AtomicU64::new(0);
    let sum = Mutex::new((Vec::new(), Coverage::default(), 0));
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(seed) = seeds(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(&Scenario::from_seed(seed), true);
                    let mut sum = sum.lock().expect("nothing panics while it is held");
                    sum.0.extend(outcome.broken.first().map(|broken| format!("just sim {seed}: {broken}")));
                    sum.1.add(&outcome.coverage);
                    sum.2 += 1;
                }
            });
        }
    });
    sum.into_inner().expect("nothing panics while it is held")
}

#[test]
fn whatever_happens_the_rules_hold() {
    let (failed, coverage, _) = run_all(|number| (number < CORPUS).then_some(number));
    assert!(failed.is_empty(), "{failed:#?}");
    // If these do not occur, the corpus tests nothing. What is rarer is asked of `just sim --minutes N`.
    let wanted = [
        "claim: failover",
        "claim: switchover",
        "plan: stale-owner",
        "plan: permit-lost",
        "release: offered",
        "event: Fenced true",
        "guardian: fenced",
        "arbiter: taken",
        "session: stalled",
        "word: true",
        "recover: succeeded",
    ];
    assert_eq!(coverage.missing(&wanted), [""; 0], "\n{}", coverage.table());
}

#[test]
fn fresh_seeds_hold_too() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let (from, began) = (since.as_millis() as u64 * 1000, Instant::now());
    let (failed, _, count) = run_all(|number| (began.elapsed() < FRESH).then_some(from + number));
    println!("{count} fresh seeds from {from}");
    assert!(failed.is_empty(), "{failed:#?}");
}

/// Health checks go on all the time, of all nodes at once: whatever else happens, they stand in nobody's way.
#[test]
fn whoever_asks_for_health_the_rules_hold() {
    let mut coverage = Coverage::default();
    for seed in 0..EXAMINED {
        let outcome = run_examined(&Scenario::from_seed(seed), true, Some(Millis(700)));
        assert_eq!(outcome.broken, [""; 0], "seed {seed}");
        coverage.add(&outcome.coverage);
    }
    assert_eq!(coverage.missing(&["health: told", "claim: failover"]), [""; 0], "\n{}", coverage.table());
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let mut modes = Vec::new();
    for seed in 0..12 {
        let scenario = Scenario::from_seed(seed);
        let told = run(&scenario, false).told();
        assert!(told.contains("the daemon of this node has started"));
        assert_eq!(told, run(&scenario, false).told(), "seed {seed}");
        modes.extend(scenario.hierarchies.iter().map(|it| it.mode));
    }
    assert!(Mode::ALL.iter().filter(|mode| modes.contains(mode)).count() >= 4, "{modes:?}");
}

#[test]
fn what_was_found_once_stays_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/seeds");
    let cases = stories(&folder).expect("the cases can be read");
    assert!(!cases.is_empty(), "the cases are found");
    for (path, text) in cases {
        let case = Scenario::from_case(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let outcome = run(&case, false);
        assert!(outcome.broken.is_empty(), "{}\n{}{:#?}", path.display(), outcome.told(), outcome.broken);
    }
}
