//! What ends a call, what is said of it, and what is left of it: nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{House, call, fault, granted, nothing, outcome, report, steps};
use mainstay_runtime::{Call, FaultKind, Health, Kit, Limits, Operation, Outcome, Placement, ResourceServices, Weight};
use mainstay_test_support::kits::{Target, test_kit};
use serde_json::{Value, json};

async fn probe(house: &House) -> Arc<Kit> {
    house.load(&test_kit("mainstay-test-probe-kit", Target::Unknown)).await
}

/// A check that takes one step.
fn check(step: &Value, resource: &Arc<ResourceServices>, budget: Duration) -> Call {
    Call { budget, ..call(Operation::QuickCheck, "probe", &steps(&json!([step])), resource) }
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that writes down its process id, says something, and sleeps; a resource that may run it.
fn sleeper(house: &House) -> (Value, Arc<ResourceServices>) {
    let (program, pid) = (house.path("sleeper"), house.path("pid"));
    script(&program, &format!("echo $$ > {}; echo going to sleep; sleep 600 & wait", pid.display()));
    let mut grants = granted();
    grants["command"] = json!([program]);
    (json!({"do": "run", "command": {"program": program, "args": ["now"]}}), house.resource("probe", grants))
}

/// Waits until it runs.
async fn sleeper_pid(house: &House) -> u32 {
    let file = house.path("pid");
    let wait = async {
        loop {
            if let Ok(pid) = std::fs::read_to_string(&file).unwrap_or_default().trim().parse() {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(common::BUDGET, wait).await.unwrap()
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_kit_that_computes_is_stopped_by_its_processor_time() {
    let house = House::with(Limits { cpu_ms_max: 200, calls_max: 8, ..Limits::default() });
    let (kit, resource) = (probe(&house).await, house.resource("probe", granted()));
    let fault =
        fault(&outcome(&kit, check(&json!({"do": "spin"}), &resource, common::BUDGET)).await, FaultKind::CpuTimeout);
    assert!(fault.message.contains("kit probe-kit 0.1.0") || fault.message.contains("probe"), "{}", fault.message);
    assert!(
        fault.message.contains("quick-check of probe") && fault.message.contains("200 ms are allowed"),
        "{}",
        fault.message
    );
    assert!(fault.evidence.cpu_ms >= 200 && fault.kit_started() && nothing(&fault.evidence), "{:?}", fault.evidence);
    assert!(!fault.evidence.backtrace.is_empty(), "where it computed is told");
}

#[tokio::test]
async fn a_kit_that_waits_is_stopped_by_its_budget_and_it_is_told_where_it_was() {
    let house = House::new();
    let (kit, resource) = (probe(&house).await, house.resource("probe", granted()));
    let began = Instant::now();
    let call = check(&json!({"do": "sleep", "ms": 600_000}), &resource, Duration::from_millis(300));
    let fault = fault(&outcome(&kit, call).await, FaultKind::WallTimeout);
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(30));
    let inside = fault.evidence.inside.as_ref().unwrap();
    assert_eq!((inside.function, inside.doing.as_str()), ("clock.sleep", "600000 ms"));
    assert!(inside.for_ms <= 300 + 30_000 && fault.message.contains("clock.sleep (600000 ms)"), "{}", fault.message);
    assert!(fault.message.contains("300 ms"), "{}", fault.message);
}

#[tokio::test]
async fn memory_stack_and_panic_are_told_apart() {
    let house = House::new();
    let (kit, resource) = (probe(&house).await, house.resource("probe", granted()));
    for (step, kind, words) in [
        (json!({"do": "grow"}), FaultKind::OutOfMemory, "67108864 are allowed"),
        (json!({"do": "recurse"}), FaultKind::Trap, "a recursion without end"),
        (json!({"do": "panic", "text": "on purpose"}), FaultKind::Trap, "panicked or aborted"),
    ] {
        let fault = fault(&outcome(&kit, check(&step, &resource, common::BUDGET)).await, kind);
        assert!(fault.message.contains(words), "{}", fault.message);
        assert!(fault.message.contains("tell "), "what to do is said: {}", fault.message);
    }
    // And it can be called again.
    report(&outcome(&kit, check(&json!({"do": "clock"}), &resource, common::BUDGET)).await);
}

#[tokio::test]
async fn a_call_that_is_taken_back_leaves_no_process_and_tells_what_it_ran() {
    let house = House::new();
    let kit = probe(&house).await;
    let (step, resource) = sleeper(&house);
    let mut pid = 0;
    let call = check(&step, &resource, common::BUDGET);
    let outcome = kit.call(call, async { pid = sleeper_pid(&house).await }).await;
    assert!(!runs(pid), "gone before the call returned");
    let fault = fault(&outcome, FaultKind::Cancelled);
    let inside = fault.evidence.inside.as_ref().unwrap();
    assert!(inside.function == "command.run" && inside.doing.ends_with("sleeper now"), "{inside:?}");
    let command = fault.evidence.command.as_ref().unwrap();
    assert!(command.command_line.ends_with("sleeper now"), "{command:?}");
    assert_eq!(command.stdout, "going to sleep");
    assert!(command.ending.contains("ended with its call"), "{command:?}");
    assert!(command.processes.len() >= 2, "the shell and its sleep: {command:?}");
    assert!(command.processes.iter().any(|process| process.contains("sleep")), "{command:?}");
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_command_in_the_background() {
    let house = House::new();
    let kit = probe(&house).await;
    let (step, resource) = sleeper(&house);
    let call = check(&step, &resource, common::BUDGET);
    let task = tokio::spawn(async move { kit.call(call, std::future::pending()).await });
    let pid = sleeper_pid(&house).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    let wait = async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(common::BUDGET, wait).await.expect("its command is ended");
}

#[tokio::test]
async fn a_command_leaves_the_kit_time_to_answer() {
    let house = House::new();
    let kit = probe(&house).await;
    let (step, resource) = sleeper(&house);
    let answer = report(&outcome(&kit, check(&step, &resource, Duration::from_secs(3))).await);
    assert!(answer.details[0].1.starts_with("timed out out=going to sleep"), "{answer:?}");
}

#[tokio::test]
async fn what_is_not_granted_is_told_before_anything_is_started() {
    let house = House::new();
    let kit = probe(&house).await;
    let resource = house.resource("probe", json!({"command": ["/nonexistent"]}));
    let fault =
        fault(&outcome(&kit, check(&json!({"do": "clock"}), &resource, common::BUDGET)).await, FaultKind::Denied);
    assert!(!fault.kit_started());
    for words in ["needs `net`", "needs `secret`", "connects where it is told to", "grants.net = "] {
        assert!(fault.message.contains(words), "{words}: {}", fault.message);
    }
    assert!(!fault.message.contains("needs `command`"), "{}", fault.message);
}

#[tokio::test]
async fn params_that_are_too_large_are_told_before_anything_is_started() {
    let house = House::new();
    let (kit, resource) = (probe(&house).await, house.resource("probe", granted()));
    let step = json!({"do": "store-get", "key": "x".repeat(300 << 10)});
    let fault = fault(&outcome(&kit, check(&step, &resource, common::BUDGET)).await, FaultKind::Unavailable);
    assert!(!fault.kit_started() && fault.message.contains("262144 are allowed"), "{}", fault.message);
}

#[tokio::test]
async fn a_kit_that_does_not_fit_the_pool_runs_beside_it() {
    let house = House::with(Limits { calls_max: 4, memory_bytes_max: 1 << 20, ..Limits::default() });
    let (kit, resource) = (probe(&house).await, house.resource("probe", granted()));
    assert!(matches!(kit.placement(), Placement::OnDemand { .. }), "{:?}", kit.placement());
    report(&outcome(&kit, check(&json!({"do": "clock"}), &resource, common::BUDGET)).await);
    let grown =
        fault(&outcome(&kit, check(&json!({"do": "grow"}), &resource, common::BUDGET)).await, FaultKind::OutOfMemory);
    assert!(grown.message.contains("268435456 are allowed"), "{}", grown.message);
}

#[tokio::test]
async fn a_kit_that_fits_nowhere_is_refused_when_it_is_loaded() {
    let limits = Limits { calls_max: 4, memory_bytes_max: 1 << 16, big_memory_bytes_max: 1 << 20, ..Limits::default() };
    let house = House::with(limits);
    let file = test_kit("mainstay-test-probe-kit", Target::Unknown);
    let error = house.runtime.load(&file).await.unwrap_err();
    assert!(error.code() == "does-not-fit" && error.to_string().contains("1048576 are allowed"), "{error}");
}

/// Operations that hang leave room for checks of the same kit, and a kit all of whose calls hang leaves room for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_calls_leave_room_for_others() {
    let limits = Limits { calls_max: 40, calls_per_kit_max: 30, operations_per_kit_max: 20, ..Limits::default() };
    let house = House::with(limits);
    let (kit, null) = (probe(&house).await, house.kit("null").await);
    let resource = house.resource("probe", granted());
    let hang = |operation: Operation| {
        let (kit, step) = (Arc::clone(&kit), steps(&json!([{"do": "sleep", "ms": 600_000}])));
        let call = Call { budget: Duration::from_secs(600), ..call(operation, "hangs", &step, &resource) };
        tokio::spawn(async move { kit.call(call, std::future::pending()).await })
    };
    let mut hanging: Vec<_> = (0..60).map(|_| hang(Operation::Restore)).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    report(&outcome(&kit, check(&json!({"do": "clock"}), &resource, common::BUDGET)).await);

    hanging.extend((0..60).map(|_| hang(Operation::QuickCheck)));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = outcome(&kit, check(&json!({"do": "clock"}), &resource, Duration::from_millis(300))).await;
    let late = fault(&late, FaultKind::WallTimeout);
    assert!(!late.kit_started() && late.message.contains("other calls held every slot"), "{}", late.message);
    report(&outcome(&null, call(Operation::QuickCheck, "null", &json!({}), &resource)).await);

    for task in &hanging {
        task.abort();
    }
    for task in hanging {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    report(&outcome(&kit, check(&json!({"do": "clock"}), &resource, common::BUDGET)).await);
}

/// With the limits that ship, a thousand calls may hang and nobody waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hanging_calls_delay_no_check() {
    let house = House::with(Limits::default());
    let (kit, null) = (probe(&house).await, house.kit("null").await);
    let resource = house.resource("probe", granted());
    let hanging: Vec<_> = (0..1000)
        .map(|_| {
            let (kit, call) =
                (Arc::clone(&kit), check(&json!({"do": "sleep", "ms": 600_000}), &resource, Duration::from_secs(600)));
            tokio::spawn(async move { kit.call(call, std::future::pending()).await })
        })
        .collect();
    for _ in 0..100 {
        let began = Instant::now();
        report(&outcome(&null, call(Operation::QuickCheck, "null", &json!({}), &resource)).await);
        report(&outcome(&kit, check(&json!({"do": "clock"}), &resource, common::BUDGET)).await);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    assert!(hanging.iter().all(|task| !task.is_finished()));
    for task in &hanging {
        task.abort();
    }
}

/// Kits that compute take turns, and short calls get in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn computing_calls_delay_no_check_for_long() {
    let house = House::with(Limits { cpu_ms_max: 600_000, calls_max: 64, ..Limits::default() });
    let (kit, null) = (probe(&house).await, house.kit("null").await);
    let resource = house.resource("probe", granted());
    let spinning: Vec<_> = (0..20)
        .map(|_| {
            let (kit, call) = (Arc::clone(&kit), check(&json!({"do": "spin"}), &resource, Duration::from_secs(600)));
            tokio::spawn(async move { kit.call(call, std::future::pending()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for _ in 0..50 {
        let began = Instant::now();
        report(&outcome(&null, call(Operation::QuickCheck, "null", &json!({}), &resource)).await);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    assert!(spinning.iter().all(|task| !task.is_finished()));
    for task in &spinning {
        task.abort();
    }
    for task in spinning {
        assert!(task.await.unwrap_err().is_cancelled(), "also what waits for its turn can be dropped");
    }
}

/// What matters most comes first, an answer is an answer, and a kit without the ability is not asked.
#[tokio::test]
async fn a_kit_says_whether_the_node_is_ready() {
    let house = House::new();
    let (kit, resource) = (probe(&house).await, house.resource("probe", granted()));
    assert!(kit.has_readiness());
    let asked = steps(&json!([{"do": "store-keys"}, {"do": "secret", "name": "not-granted"}]));
    let said = outcome(&kit, call(Operation::Assess, "probe", &asked, &resource)).await;
    let Outcome::Findings(found) = said else { panic!("{said:?}") };
    let found: Vec<_> = found.iter().map(|it| (it.weight, it.code.as_str(), it.advice.as_str())).collect();
    assert_eq!(found, [(Weight::Blocking, "fault", "take another step"), (Weight::Note, "ok", "")]);

    assert!(kit.has_deep_check());
    let steps_of = [
        (json!([{"do": "store-keys"}]), Health::Healthy),
        (json!([{"do": "secret", "name": "not-granted"}]), Health::Failed),
    ];
    for (asked, health) in steps_of {
        let asked = steps(&asked);
        let said = outcome(&kit, call(Operation::DeepCheck, "probe", &asked, &resource)).await;
        let Outcome::Report(report) = said else { panic!("{said:?}") };
        assert_eq!((report.health, report.summary.as_str()), (health, "thorough"));
    }

    let null = house.kit("null").await;
    assert!(!null.has_readiness() && !null.has_deep_check());
    let said = outcome(&null, call(Operation::Assess, "null", &json!({}), &resource)).await;
    let fault = fault(&said, FaultKind::Trap);
    assert!(fault.message.contains("no ability `readiness`"), "{}", fault.message);
    let said = outcome(&null, call(Operation::DeepCheck, "null", &json!({}), &resource)).await;
    let fault = self::fault(&said, FaultKind::Trap);
    assert!(fault.message.contains("no ability `deep-check`"), "{}", fault.message);
}
