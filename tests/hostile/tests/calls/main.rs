//! A kit that misbehaves when it is called.
//!
//! Each call ends, in time, with the right kind of fault, or with an answer that is within the limits. The
//! words name the kit, the operation and the resource, what happened and what to do. Afterwards the runtime is
//! as before: the same kit answers, nothing it started runs, no memory and no file is held.

mod case;
mod cases;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use case::{Case, run, run_all, text};
use cases::{computing, outside, peers, programs, reaching, waiting, words};
use mainstay_runtime::{FaultKind, Limits, Operation, Outcome, contract};
use mainstay_test_hostile::forge::{MANIFEST, manifest, with_manifest};
use mainstay_test_hostile::house::{House, open_files, operations, resident_bytes};
use mainstay_test_hostile::surgery::{append_instances, without_custom};
use mainstay_test_support::kit;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_it_computes_says_waits_for_and_reaches_for() {
    let house = Arc::new(House::new());
    let hostile = house.hostile().await;
    let cases: Vec<Case> =
        [computing(), words(), waiting(), reaching(), outside(false), peers()].into_iter().flatten().collect();
    let before = (resident_bytes(), open_files());
    run_all(&house, &hostile, cases).await;
    nothing_is_held(before);
    house.nothing_runs();
    let stores = house.store("").read_dir().expect("some case has stored something").count();
    let beside: Vec<_> =
        house.folder().path().read_dir().expect("it is there").flatten().map(|entry| entry.file_name()).collect();
    assert!(stores > 0 && !beside.iter().any(|name| name == "outside"), "{beside:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_runs() {
    let house = Arc::new(House::new());
    let hostile = house.hostile().await;
    let before = (resident_bytes(), open_files());
    for case in programs() {
        let name = case.name;
        let wrong = run(&house, &hostile, case).await;
        // What it started is gone when the call returns; only a supervisor may still be on its way out.
        let left: Vec<_> = house.folder().running().into_iter().filter(|it| !it.contains("mainstay-super")).collect();
        assert!(wrong.is_ok() && left.is_empty(), "{name}: {wrong:?}, left behind: {left:?}");
    }
    house.nothing_runs();
    nothing_is_held(before);
}

/// Built for WASI, it finds a world that is empty: the same faults, and nothing of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_through_wasi() {
    let house = Arc::new(House::new());
    let hostile = house.hostile_wasi().await;
    assert!(hostile.imports().iter().any(|import| import.starts_with("wasi:filesystem/")), "{:?}", hostile.imports());
    let cases = [computing(), outside(true)].into_iter().flatten();
    run_all(&house, &hostile, cases.collect()).await;
}

/// A start function runs before any operation, under the same limits.
#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_before_it_is_called() {
    let house = Arc::new(House::new());
    let null = without_custom(&std::fs::read(kit("null")).expect("it was just built"), MANIFEST);
    let cases: [(&str, &str, FaultKind, &str); 5] = [
        ("spins", "(func (loop (br 0)))", FaultKind::CpuTimeout, "300 ms"),
        ("breaks", "(func unreachable)", FaultKind::Trap, "unreachable"),
        ("recurses", "(func (call 0))", FaultKind::Trap, "stack is exhausted"),
        (
            "takes memory",
            "(memory 1) (func (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable)",
            FaultKind::OutOfMemory,
            "bytes of memory",
        ),
        (
            "takes table elements",
            "(table 1 funcref) (func (loop \
             (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)",
            FaultKind::OutOfMemory,
            "table elements",
        ),
    ];
    for (name, body, kind, words) in cases {
        let start =
            wat::parse_str(format!("(module {body} (start 0))")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let bytes = with_manifest(&append_instances(&null, &start, 1), &manifest());
        let kit = house.load_bytes("starts", &bytes).await;
        let outcome = house.call(&kit, Operation::Restore, &json!({})).await;
        let Outcome::Fault(fault) = outcome else { panic!("{name}: {outcome:?}") };
        assert!(fault.kind == kind && fault.message.contains(words), "{name}: {fault:?}");
        assert!(fault.message.contains("kit forged 0.1.0: restore"), "{name}: {fault}");
    }
    let empty = wat::parse_str("(module)").expect("it is a module");
    let many = house.load_bytes("many", &with_manifest(&append_instances(&null, &empty, 500), &manifest())).await;
    let outcome = house.call(&many, Operation::Restore, &json!({})).await;
    let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
    assert!(fault.kind == FaultKind::Trap && fault.message.contains("instance count too high at 17"), "{fault:?}");
    house.null_still_works().await;
}

/// Whichever operation it is, the fault is the same and names it.
#[tokio::test(flavor = "multi_thread")]
async fn in_every_operation() {
    let house = Arc::new(House::new());
    let hostile = house.hostile().await;
    for operation in operations() {
        let name = operation.name();
        for (does, kind) in [
            ("abort", FaultKind::Trap),
            ("recurse", FaultKind::Trap),
            ("spin", FaultKind::CpuTimeout),
            ("grow", FaultKind::OutOfMemory),
            ("say-no-text", FaultKind::Trap),
        ] {
            let outcome = house.call(&hostile, operation.clone(), &json!({ "does": does })).await;
            let Outcome::Fault(fault) = outcome else { panic!("{name}, {does}: {outcome:?}") };
            assert!(fault.kind == kind && fault.message.contains(&format!(": {name} of ")), "{does}: {fault:?}");
            assert!(fault.kit_started());
        }
        let answer = house.call(&hostile, operation, &json!({ "does": "nothing" })).await;
        assert!(text(&answer).contains("behaved"), "{name}: {answer:?}");
    }
}

/// A need that the resource does not grant: the kit is not started.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_grant_it_is_not_started() {
    let house = House::new();
    let hostile = house.hostile().await;
    for interface in ["command", "net", "secret", "volume", "mount", "service"] {
        let mut asked = house.asked(Operation::Restore, &json!({ "does": "nothing" }));
        match interface {
            "command" => asked.grants.command.clear(),
            "net" => asked.grants.net.clear(),
            "volume" => asked.grants.volume.clear(),
            "mount" => asked.grants.mount.clear(),
            "service" => asked.grants.service.clear(),
            _ => asked.grants.secret.clear(),
        }
        let problems = hostile.check_grants(&asked.grants, None);
        assert!(problems.iter().any(|problem| problem.to_string().contains(interface)), "{problems:?}");
        let outcome = house.call_as(&hostile, asked).await;
        let Outcome::Fault(fault) = outcome else { panic!("{interface}: {outcome:?}") };
        assert!(fault.kind == FaultKind::Denied && !fault.kit_started(), "{fault:?}");
        assert!(fault.message.contains("hostile 0.1.0") && fault.message.contains(interface), "{fault}");
    }
}

/// What was going on is kept: where it was, for how long, what it ran, and what that had said.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_stopped_leaves_evidence() {
    let house = House::new();
    let hostile = house.hostile().await;
    let script = house.folder().script("talks", "export PLACE=\"$0\"; echo one; echo two >&2; sleep 1000 & wait");
    let mut asked =
        house.asked(Operation::Restore, &json!({ "does": "run", "program": script, "timeout-ms": u32::MAX }));
    asked.grants.command[0].program.clone_from(&script);
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let folder = house.folder();
    let canceller = async {
        let sleeps = || folder.running().iter().any(|process| process.contains("(sleep"));
        while !sleeps() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        cancel.send(()).expect("the call goes on");
    };
    let call = house.call_until(&hostile, asked, async {
        // A dropped sender would be a mistake of the test, and shows as one: the call is cancelled too early.
        let _ = cancelled.await;
    });
    let both = tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(call, canceller) });
    let (outcome, ()) = both.await.expect("the script starts, and the call is stopped");
    let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
    assert_eq!(fault.kind, FaultKind::Cancelled, "{fault}");
    let inside = fault.evidence.inside.as_ref().expect("it was in a host function");
    assert!(inside.function == "command.run" && inside.doing.contains("talks"), "{inside:?}");
    let command = fault.evidence.command.as_ref().expect("it ran a command");
    assert!(
        command.command_line.contains("talks") && command.stdout == "one" && command.stderr == "two",
        "{command:?}"
    );
    assert!(command.processes.iter().any(|line| line.contains("sleep")), "{command:?}");
    house.nothing_runs();
}

/// What a program writes without end goes to a file; that is kept short while it runs, not afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn output_without_end_does_not_fill_the_disk() {
    /// `yes` writes gigabytes in the time it has.
    const DISK_BYTES_MAX: u64 = 512 << 20;
    let house = Arc::new(House::new());
    let hostile = house.hostile().await;
    let script = house.folder().script("floods", "exec yes");
    let mut asked = house.asked(Operation::QuickCheck, &json!({ "does": "run", "program": script }));
    asked.grants.command[0].program.clone_from(&script);
    asked.budget = Duration::from_secs(5);
    let mut call = std::pin::pin!(house.call_as(&hostile, asked));
    let commands = house.folder().join("commands");
    let mut most = 0;
    let outcome = loop {
        tokio::select! {
            outcome = &mut call => break outcome,
            () = tokio::time::sleep(Duration::from_millis(10)) => most = most.max(used_bytes(&commands)),
        }
    };
    eprintln!("at most {most} bytes on disk");
    assert!(text(&outcome).contains("ran out of time"), "{outcome:?}");
    assert!((1..DISK_BYTES_MAX).contains(&most), "{most} bytes");
    house.nothing_runs();
}

/// What a folder takes on disk.
fn used_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // A file may go between being listed and being looked at.
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// A caller that drops a call does not leave its program running.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_ends_what_it_ran() {
    let house = House::new();
    let hostile = house.hostile().await;
    let script = house.folder().script("sleeps", "export PLACE=\"$0\"; exec sleep 1000");
    let mut asked = house.asked(Operation::Restore, &json!({ "does": "run", "program": script }));
    asked.grants.command[0].program.clone_from(&script);
    let sleeps = || house.folder().running().iter().any(|process| process.contains("(sleep"));
    {
        let call = std::pin::pin!(house.call_as(&hostile, asked));
        let started = async {
            while !sleeps() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let limited = tokio::time::timeout(Duration::from_secs(120), async {
            tokio::select! {
                outcome = call => panic!("it was to run for long: {outcome:?}"),
                () = started => {}
            }
        });
        limited.await.expect("the script starts");
    }
    house.nothing_runs();
}

/// Again and again, and no memory, file, thread or slot is lost with a call.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_bad_calls_leave_nothing_behind() {
    const ROUNDS: usize = 200;
    let house = Arc::new(House::new());
    let hostile = house.hostile().await;
    let bad: [Value; 5] = [
        json!({ "does": "abort" }),
        json!({ "does": "grow" }),
        json!({ "does": "recurse" }),
        json!({ "does": "say-no-text" }),
        json!({ "does": "hold-sockets", "host": "127.0.0.1", "port": 9, "count": 100 }),
    ];
    // The first round fills pools and caches that stay.
    for params in &bad {
        house.call(&hostile, Operation::QuickCheck, params).await;
    }
    let before = (resident_bytes(), open_files());
    for _ in 0..ROUNDS {
        for params in &bad {
            let outcome = house.call(&hostile, Operation::QuickCheck, params).await;
            assert!(matches!(outcome, Outcome::Fault(_) | Outcome::Report(_)), "{outcome:?}");
        }
    }
    nothing_is_held(before);
    // Far more than the slots of one kit, had any been lost.
    assert!(ROUNDS * bad.len() > Limits::default().operations_per_kit_max / 2);
    house.null_still_works().await;
}

/// The contract's word on random bytes is what the host holds.
#[test]
fn the_contract_is_the_same_on_both_sides() {
    let text = std::fs::read_to_string(mainstay_test_support::root().join("wit/random.wit")).expect("wit/ is there");
    assert!(text.contains("64 KiB") && contract::RANDOM_BYTES_MAX == 64 << 10);
}

/// A wide margin, far below what one leaking call of each sort would cost: a memory bomb alone has 64 MB.
#[track_caller]
fn nothing_is_held((bytes, files): (u64, usize)) {
    const BYTES_MAX: u64 = 256 << 20;
    const FILES_MAX: usize = 64;
    let began = Instant::now();
    // Sockets and threads are closed in the background; tests beside this one have some open too.
    let held = || (resident_bytes().saturating_sub(bytes), open_files().saturating_sub(files));
    while (held().0 > BYTES_MAX || held().1 > FILES_MAX) && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (bytes, files) = held();
    assert!(bytes <= BYTES_MAX && files <= FILES_MAX, "{bytes} bytes and {files} files more than before");
}
