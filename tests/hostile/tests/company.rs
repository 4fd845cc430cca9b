//! While kits misbehave, other resources are checked as if nothing was.
//!
//! What is asserted is generous, because the machine may be busy with other things too: that each check of the
//! null kit is done within its budget of when it was due, and that checks went on all the time. What was seen is
//! printed. One of these tests runs at a time: each is heavy enough alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_runtime::{CommandGrant, FaultKind, Kit, Operation, Outcome};
use mainstay_test_hostile::house::{CPU_MS_MAX, House};
use mainstay_test_support::WAIT_LIMIT;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

/// The budget of a check, shorter than most; each check of the null kit has to be done so soon after it was due.
/// A tenth of it is seen on two cores that have nothing else to do.
const CHECK_BUDGET: Duration = Duration::from_secs(3);
/// How long the hostile calls go on.
const SIEGE: Duration = Duration::from_secs(10);
/// Between two calls of a resource that misbehaves: far less than any interval at which something is checked.
const PAUSE: Duration = Duration::from_millis(100);
/// Checks that have to be made meanwhile, of each of the resources that are checked.
const CHECKS_MIN: usize = 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Checks of the null kit, until told to stop: how many there were, and how long after it was due the latest was done.
async fn check_until(house: Arc<House>, null: Arc<Kit>, stop: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    let mut due = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let mut asked = house.asked(Operation::QuickCheck, &json!({}));
        asked.budget = CHECK_BUDGET;
        let outcome = house.call_as(&null, asked).await;
        slowest = slowest.max(due.elapsed());
        assert!(matches!(outcome, Outcome::Report(_)), "check {count}: {outcome:?}");
        count += 1;
        due = Instant::now() + Duration::from_millis(20);
        tokio::time::sleep_until(due.into()).await;
    }
    (count, slowest)
}

/// Misbehaves again and again, as a resource does that is checked and recovered for ever.
async fn misbehave_until(
    house: Arc<House>,
    kit: Arc<Kit>,
    params: Value,
    program: Option<&str>,
    stop: Arc<AtomicBool>,
) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut asked = house.asked(Operation::Restore, &params);
        asked.budget = Duration::from_secs(2);
        if let Some(body) = program {
            let script = house.folder().script(&asked.tag, &format!("export PLACE=\"$0\"\n{body}"));
            asked.params["program"] = json!(script);
            asked.grants.command.push(CommandGrant { program: script, user: None });
        }
        // A task of its own, as every call of the daemon is.
        let (house, kit) = (Arc::clone(&house), Arc::clone(&kit));
        tokio::spawn(async move { house.call_as(&kit, asked).await }).await.expect("the host does not panic");
        count += 1;
        tokio::time::sleep(PAUSE).await;
    }
    count
}

/// Everything that costs something, twice over.
fn siege() -> Vec<(Value, Option<&'static str>)> {
    let does = |what: &str| (json!({ "does": what }), None);
    let half = [
        does("spin"),
        does("spin"),
        does("tiny-calls"),
        does("random-forever"),
        does("log-forever"),
        does("store-forever"),
        does("recurse"),
        does("grow"),
        does("print-forever"),
        does("sleep-forever"),
        (json!({ "does": "sleep", "ms": u32::MAX }), None),
        (json!({ "does": "say", "summary-bytes": 20_000_000, "details": 0, "detail-bytes": 0 }), None),
        (json!({ "does": "run" }), Some("exec sleep 1000")),
        (json!({ "does": "run", "output-bytes-max": u32::MAX }), Some("exec yes")),
        (json!({ "does": "run" }), Some("f() { while :; do sleep 0.05 & sleep 0.05; done; }; f & f & wait")),
    ];
    [half.clone(), half].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_go_on_while_thirty_calls_misbehave() {
    let _one = ONE_AT_A_TIME.lock().await;
    let house = Arc::new(House::new());
    let (null, hostile) = (house.null().await, house.hostile().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut bad = JoinSet::new();
    for (params, program) in siege() {
        bad.spawn(misbehave_until(Arc::clone(&house), Arc::clone(&hostile), params, program, Arc::clone(&stop)));
    }
    let mut good = JoinSet::new();
    for _ in 0..8 {
        good.spawn(check_until(Arc::clone(&house), Arc::clone(&null), Arc::clone(&stop)));
    }
    tokio::time::sleep(SIEGE).await;
    stop.store(true, Ordering::Relaxed);
    let checks = good.join_all().await;
    let bad = bad.join_all().await;
    let slowest = checks.iter().map(|(_, slowest)| *slowest).max().expect("there are eight");
    let fewest = checks.iter().map(|(count, _)| *count).min().expect("there are eight");
    eprintln!(
        "eight resources, at least {fewest} checks each, the latest was done {slowest:?} after it was due; bad calls: {bad:?}"
    );
    assert!(slowest < CHECK_BUDGET, "{slowest:?}");
    assert!(fewest >= CHECKS_MIN, "{checks:?}");
    assert!(bad.iter().all(|count| *count > 0), "each misbehaved at least once: {bad:?}");
    house.nothing_runs();
}

/// As many operations hang as a kit may have. A further one waits, at the cost of its own budget, and says so;
/// checks of the same kit, and of others, find their place.
#[tokio::test(flavor = "multi_thread")]
async fn checks_go_on_while_all_operations_of_a_kit_hang() {
    let _one = ONE_AT_A_TIME.lock().await;
    let house = Arc::new(House::new());
    let (null, hostile) = (house.null().await, house.hostile().await);
    let count = house.runtime().limits().operations_per_kit_max;
    let (end, ended) = watch::channel(false);
    let mut hanging = JoinSet::new();
    for _ in 0..count {
        let (house, hostile, mut ended) = (Arc::clone(&house), Arc::clone(&hostile), ended.clone());
        hanging.spawn(async move {
            let mut asked = house.asked(Operation::Restore, &json!({ "does": "sleep", "ms": u32::MAX }));
            asked.budget = Duration::from_secs(600);
            let cancelled = async {
                // The sender lives until all are told.
                let _ = ended.wait_for(|end| *end).await;
            };
            house.call_until(&hostile, asked, cancelled).await
        });
    }
    let refused = no_place_is_left(&house, &hostile).await;
    assert!(refused.contains("did not begin") && refused.contains("other calls held every slot"), "{refused}");

    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        for (kit, params) in [(&null, json!({})), (&hostile, json!({ "does": "nothing" }))] {
            let began = Instant::now();
            let outcome = house.call(kit, Operation::QuickCheck, &params).await;
            slowest = slowest.max(began.elapsed());
            assert!(matches!(outcome, Outcome::Report(_)), "{outcome:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!("{count} operations hang; of 200 checks the slowest took {slowest:?}");
    assert!(slowest < CHECK_BUDGET, "{slowest:?}");
    end.send(true).expect("they listen");
    for outcome in hanging.join_all().await {
        let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
        assert!(fault.kind == FaultKind::Cancelled && fault.kit_started(), "{fault}");
    }
}

/// Waits until an operation of the kit does not begin within its budget; what is said of it.
async fn no_place_is_left(house: &House, kit: &Arc<Kit>) -> String {
    let began = Instant::now();
    while began.elapsed() < WAIT_LIMIT {
        let mut asked = house.asked(Operation::Restore, &json!({ "does": "nothing" }));
        asked.budget = Duration::from_millis(500);
        if let Outcome::Fault(fault) = house.call_as(kit, asked).await
            && !fault.kit_started()
        {
            assert_eq!(fault.kind, FaultKind::WallTimeout, "{fault}");
            return fault.message;
        }
    }
    panic!("after {WAIT_LIMIT:?} there is still a place for one more operation");
}

/// What a kit may compute is bounded, so ten that spin end one after the other, none is forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn those_that_compute_take_turns_and_all_end() {
    const COUNT: u32 = 10;
    let _one = ONE_AT_A_TIME.lock().await;
    let house = Arc::new(House::new());
    let hostile = house.hostile().await;
    let mut spinning = JoinSet::new();
    let began = Instant::now();
    for _ in 0..COUNT {
        let (house, hostile) = (Arc::clone(&house), Arc::clone(&hostile));
        spinning.spawn(async move { house.call(&hostile, Operation::QuickCheck, &json!({ "does": "spin" })).await });
    }
    for outcome in spinning.join_all().await {
        let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
        // Measured by the processor, not by the clock: whoever had to wait was not charged for it.
        assert!((CPU_MS_MAX..CPU_MS_MAX * 3).contains(&fault.evidence.cpu_ms), "{fault:?}");
    }
    eprintln!("{COUNT} spinning calls ended after {:?}", began.elapsed());
}
