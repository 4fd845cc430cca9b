//! Fencing, with real processes. The guardian: whatever becomes of the daemon, the node is fenced in time, and only then.

mod fence;
mod stage;

use std::time::{Duration, Instant, SystemTime};

use mainstay_core::spec::SelfFence;
use mainstay_test_support::guard::Signal;
use mainstay_test_support::{WAIT_LIMIT, wait_until};

use stage::{BE_DAEMON, Daemon, Stage};

/// Long enough that nothing else of a test comes between.
const LONG_MS: u64 = 60_000;

/// No test: what [`Stage::daemon_process`] runs.
#[test]
fn be_a_daemon() {
    let Ok(told) = std::env::var(BE_DAEMON) else { return };
    let (ms, folder) = told.split_once(' ').unwrap();
    let mut daemon = Daemon::new(folder.as_ref());
    assert!(daemon.hears());
    daemon.until(ms.parse().unwrap());
    println!("ARMED");
    loop {
        std::thread::park();
    }
}

/// How much later than `due` it was, in ms. What is due at a time in ms may be one earlier than what was counted to it.
fn late_ms(fenced: SystemTime, due: SystemTime) -> i128 {
    let ns = |time: SystemTime| {
        i128::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(i128::MAX)
    };
    (ns(fenced) - ns(due)) / 1_000_000
}

#[test]
fn a_daemon_that_is_killed_or_stopped_is_fenced_in_time() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let stage = Stage::new();
        let began = SystemTime::now();
        let mut daemon = stage.daemon_process(1_500);
        daemon.signal(signal);
        let fenced = stage.wait_until_fenced();
        assert!(late_ms(fenced, began) >= 1_499, "{signal:?}: not before it is due\n{}", stage.log());
        assert_eq!(stage.fenced(), ["fenced a of lab"]);
        if signal == Signal::SIGSTOP {
            // Its daemon is there, so it stays; and waits without using up a processor that it has before all others.
            let before = stage.guardian_cpu_ticks();
            std::thread::sleep(Duration::from_millis(500));
            assert!(stage.guardian_cpu_ticks() <= before + 5, "it does not rest");
        }
        if signal == Signal::SIGKILL {
            stage.wait_until_no_guardian();
            assert_eq!(stage.fenced().len(), 1, "once");
        }
    }
}

#[test]
fn it_is_there_as_soon_as_a_daemon_is_told_and_goes_when_it_is_not_needed() {
    let stage = Stage::new();
    let mut daemon = stage.daemon();
    assert!(daemon.hears());
    stage.guardian();
    let began = Instant::now();
    for _ in 0..200 {
        daemon.until(500);
    }
    println!("an order takes {} us", began.elapsed().as_micros() / 200);
    std::thread::sleep(Duration::from_millis(300));
    daemon.until(LONG_MS);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(stage.fenced(), [] as [&str; 0], "a later time takes the place of an earlier one");
    daemon.until(300);
    daemon.disarm();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(stage.fenced(), [] as [&str; 0], "disarmed");
    drop(daemon);
    stage.wait_until_no_guardian();
    assert!(!stage.state().join("guardian.sock").exists());
}

#[test]
fn it_acts_within_milliseconds_also_on_a_busy_machine() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..4 * std::thread::available_parallelism().unwrap().get() {
            threads.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        let mut late = Vec::new();
        let mut may_go_first = true;
        for _ in 0..10 {
            let stage = Stage::new();
            let mut daemon = stage.daemon();
            assert!(daemon.hears());
            let due = daemon.until(200);
            late.push(late_ms(stage.wait_until_fenced(), due));
            let log = stage.log();
            let line = log.lines().find(|line| line.contains("after it was due")).unwrap();
            println!("{}", line.rsplit_once(": ").unwrap().1);
            may_go_first &= !log.contains("no realtime priority");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        println!("the command has run, in ms after it was due: {late:?}");
        assert!(late.iter().all(|late| *late >= -1), "{late:?}");
        if may_go_first {
            assert!(late.iter().all(|late| *late <= 50), "{late:?}");
        }
    });
}

#[test]
fn the_next_daemon_finds_it_and_goes_on() {
    let stage = Stage::new();
    let mut daemon = stage.daemon_process(4_000);
    let guardian = stage.guardian();
    daemon.kill_alone();
    let mut next = stage.daemon();
    assert!(next.hears());
    assert_eq!(stage.guardian(), guardian);
    // What was ordered stays until this daemon orders something.
    next.until(LONG_MS);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(stage.fenced(), [] as [&str; 0]);
    next.until(0);
    stage.wait_until_fenced();
}

#[test]
fn one_that_is_killed_is_replaced_and_the_new_one_knows() {
    let stage = Stage::new();
    let mut daemon = stage.daemon();
    assert!(daemon.hears());
    let due = daemon.until(3_000);
    let first = stage.guardian();
    stage.signal_guardian(Signal::SIGKILL);
    let began = Instant::now();
    assert!(!daemon.hears(), "told at once");
    let gone = began.elapsed();
    assert!(daemon.hears());
    println!(
        "told after {} ms that it is gone, after {} ms that there is another",
        gone.as_millis(),
        began.elapsed().as_millis()
    );
    assert_ne!(stage.guardian(), first);
    drop(daemon);
    assert!(late_ms(stage.wait_until_fenced(), due) >= -1);
    assert_eq!(stage.fenced().len(), 1);
}

#[test]
fn one_that_is_stopped_is_replaced() {
    let stage = Stage::new();
    let mut daemon = stage.daemon();
    assert!(daemon.hears());
    daemon.until(LONG_MS);
    let first = stage.guardian();
    stage.signal_guardian(Signal::SIGSTOP);
    let began = Instant::now();
    daemon.until(LONG_MS);
    assert!(began.elapsed() < Duration::from_secs(2), "the driver does not wait for it");
    assert!(!daemon.hears());
    assert!(daemon.hears());
    assert_ne!(stage.guardian(), first);
}

#[test]
fn nobody_ends_it_by_asking() {
    let stage = Stage::new();
    let mut daemon = stage.daemon();
    assert!(daemon.hears());
    daemon.until(LONG_MS);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        stage.signal_guardian(signal);
    }
    daemon.hears_nothing_for(Duration::from_secs(2));
    daemon.until(0);
    stage.wait_until_fenced();
}

#[test]
fn two_daemons_at_once_have_one_guardian() {
    let stage = Stage::new();
    let mut daemons: Vec<Daemon> = (0..4).map(|_| stage.daemon()).collect();
    for daemon in &mut daemons {
        assert!(daemon.hears());
    }
    // Those that found another one there are about to end.
    wait_until(WAIT_LIMIT, "one guardian", || stage.guardians().len() == 1);
    daemons[0].until(LONG_MS);
    daemons[1].until(0);
    stage.wait_until_fenced();
    stage.guardian();
}

#[test]
fn a_fence_that_cannot_work_is_told_and_there_is_no_guardian() {
    let stage = Stage::new();
    for (by, words) in [
        (SelfFence::Command(vec!["/no/such/program".to_owned()]), "/no/such/program"),
        (SelfFence::Watchdog("/dev/no-such-watchdog".to_owned()), "/dev/no-such-watchdog"),
    ] {
        let mut daemon = Daemon::fenced_by(stage.folder.path(), by);
        assert!(!daemon.hears(), "{words}");
        daemon.until(0);
        daemon.hears_nothing_for(Duration::from_millis(1_500));
    }
    // A wrong one does not take the place of one that works.
    let mut right = stage.daemon();
    assert!(right.hears());
    right.until(3_000);
    let mut wrong = Daemon::fenced_by(stage.folder.path(), SelfFence::Command(vec!["/no/such/program".to_owned()]));
    assert!(!wrong.hears());
    drop((right, wrong));
    stage.wait_until_fenced();
}

#[test]
fn a_fence_that_fails_is_tried_again_until_it_succeeds() {
    let stage = Stage::with("#!/bin/sh\necho try >> \"${0%/*}/fenced\"\n[ $(wc -l < \"${0%/*}/fenced\") -ge 3 ]\n");
    let mut daemon = stage.daemon();
    assert!(daemon.hears());
    daemon.until(0);
    drop(daemon);
    wait_until(WAIT_LIMIT, "three tries", || stage.fenced().len() == 3);
    stage.wait_until_no_guardian();
    assert_eq!(stage.fenced().len(), 3);
    assert!(stage.log().contains("exit code 1"), "{}", stage.log());
}
