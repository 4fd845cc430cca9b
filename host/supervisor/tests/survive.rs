//! Commands whose daemon, whose supervisor, or both are killed.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Room, act_as_daemon, daemon, lives, owner, text};
use mainstay_supervisor::{Ending, Leftover, LeftoverEnd, LeftoverState, Outcome, OutcomeError, Request};
use mainstay_test_support::{Guard, WAIT_LIMIT, wait_for, wait_until};
use nix::sys::signal::Signal;

const LONG: &str = "sleep 300";

/// Not a test: the daemon that the tests below start and kill.
#[tokio::test]
async fn role_daemon() {
    act_as_daemon().await;
}

/// A daemon that has started the request.
fn daemon_with(room: &Room, request: &Request) -> Guard {
    let mut guard = daemon(room, "role_daemon", std::slice::from_ref(request));
    guard.wait_for_line(WAIT_LIMIT, "started ");
    guard
}

/// A daemon that has started the request, and was killed. What it started is gone when this is dropped.
fn killed_daemon_with(room: &Room, request: &Request) -> Guard {
    let mut guard = daemon_with(room, request);
    guard.kill_alone();
    guard
}

async fn only_leftover(room: &Room) -> Leftover {
    let mut leftovers = room.commands().leftovers().await.unwrap();
    assert_eq!(leftovers.len(), 1, "{leftovers:?}");
    leftovers.remove(0)
}

fn outcome(end: LeftoverEnd) -> Outcome {
    let LeftoverEnd::Outcome(outcome) = end else {
        panic!("{end:?}");
    };
    outcome
}

/// Waits with a limit, as everything in a test does.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_LIMIT, future).await.expect("it takes far less")
}

fn until_exists(path: &Path) -> String {
    format!("until [ -e {} ]; do sleep 0.05; done", path.display())
}

fn kill_supervisor(room: &Room) {
    let supervisors = room.supervisors();
    assert_eq!(supervisors.len(), 1, "{supervisors:?}");
    supervisors[0].signal(Signal::SIGKILL).unwrap();
    wait_until(WAIT_LIMIT, "the supervisor to be dead", || !lives(supervisors[0].pid));
}

fn is_empty(room: &Room) -> bool {
    room.processes().is_empty() && room.folders().is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_goes_on_when_the_daemon_is_killed_and_the_next_one_awaits_it() {
    let room = Room::new();
    let go = room.folder.join("go");
    let request = room.sh(&format!("echo before; {}; echo after; exit 5", until_exists(&go)));
    let _killed = killed_daemon_with(&room, &request);
    let leftover = only_leftover(&room).await;
    assert_eq!(leftover.owner(), &owner("op-1"));
    assert_eq!(leftover.request().args, request.args);
    assert_eq!(leftover.state(), LeftoverState::Running);
    // The wait may be given up and taken up again.
    assert!(tokio::time::timeout(Duration::from_millis(200), leftover.await_end()).await.is_err());
    std::fs::write(go, "").unwrap();
    let outcome = outcome(within(leftover.await_end()).await.unwrap());
    assert_eq!((outcome.ending, text(&outcome.stdout)), (Ending::Exited(5), "before\nafter\n"));
    wait_until(WAIT_LIMIT, "nothing to be left", || is_empty(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_ended_meanwhile_is_no_running_operation_and_its_outcome_is_there() {
    let room = Room::new();
    let go = room.folder.join("go");
    let noise = room.folder.join("noise");
    let body = format!(
        "{}; echo restored; ({}; yes | head -c 100000; {LONG}) & exit 0",
        until_exists(&go),
        until_exists(&noise)
    );
    let mut request = room.sh(&body);
    request.keep_children = true;
    let _killed = killed_daemon_with(&room, &request);
    std::fs::write(go, "").unwrap();
    wait_until(WAIT_LIMIT, "the outcome", || room.folders()[0].join("outcome.json").exists());
    // What the application prints later is not the command's output.
    std::fs::write(noise, "").unwrap();
    wait_until(WAIT_LIMIT, "the application to print", || {
        room.programs(LONG).iter().any(|it| it.command_line.starts_with(LONG))
    });
    let leftover = only_leftover(&room).await;
    assert_eq!(leftover.state(), LeftoverState::Ended);
    // To end what is over is to take its outcome: the application is not touched.
    let outcome = outcome(within(leftover.end()).await.unwrap());
    assert_eq!((outcome.ending, text(&outcome.stdout)), (Ending::Exited(0), "restored\n"));
    assert_eq!(room.programs(LONG).len(), 1);
    assert!(room.commands().leftovers().await.unwrap().is_empty());
    room.programs(LONG)[0].signal(Signal::SIGKILL).unwrap();
    wait_until(WAIT_LIMIT, "nothing to be left", || is_empty(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_prints_for_ever_outlives_the_daemon() {
    let room = Room::new();
    let mut request = room.sh("while :; do echo tick; sleep 0.01; done & exit 0");
    request.keep_children = true;
    let mut daemon = daemon_with(&room, &request);
    daemon.wait_for_line(WAIT_LIMIT, "outcome ");
    wait_until(WAIT_LIMIT, "the outcome to be marked", || room.folders()[0].join("collected").exists());
    daemon.kill_alone();
    let file = room.folders()[0].join("stdout");
    let size = || file.metadata().unwrap().len();
    let before = size();
    wait_until(WAIT_LIMIT, "a hundred lines more", || size() > before + 500);
    assert!(room.commands().leftovers().await.unwrap().is_empty(), "an application is no operation");
    for program in room.programs("while") {
        program.signal(Signal::SIGKILL).unwrap();
    }
    // By the supervisor alone.
    wait_until(WAIT_LIMIT, "nothing to be left", || is_empty(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leftover_can_be_ended_whole_tree() {
    let room = Room::new();
    let _killed = killed_daemon_with(&room, &room.sh(&format!("(setsid {LONG} &); trap '' TERM; {LONG}; {LONG}")));
    wait_until(WAIT_LIMIT, "its children", || {
        room.programs("").iter().filter(|it| it.command_line.starts_with(LONG)).count() == 2
    });
    let leftover = only_leftover(&room).await;
    let outcome = outcome(within(leftover.end()).await.unwrap());
    assert_eq!(outcome.ending, Ending::Cancelled);
    assert_eq!(outcome.evidence.unwrap().processes.len(), 3);
    wait_until(WAIT_LIMIT, "nothing to be left", || is_empty(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_holds_without_a_daemon() {
    let room = Room::new();
    let mut request = room.sh(LONG);
    request.timeout_ms = 3_000;
    let _killed = killed_daemon_with(&room, &request);
    wait_until(WAIT_LIMIT, "the program to be ended", || room.processes().is_empty());
    let leftover = only_leftover(&room).await;
    assert_eq!(leftover.state(), LeftoverState::Ended);
    assert_eq!(outcome(leftover.await_end().await.unwrap()).ending, Ending::TimedOut);
    assert!(is_empty(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_supervisor_is_killed_the_daemon_ends_the_tree() {
    let room = Room::new();
    let request = room.sh(&format!("echo so far; (setsid {LONG} &) ; {LONG}; {LONG}"));
    let mut running = room.commands().start(request).await.unwrap();
    wait_until(WAIT_LIMIT, "its children", || room.programs("").len() == 3);
    kill_supervisor(&room);
    match within(running.outcome()).await {
        Err(OutcomeError::SupervisorLost { evidence, .. }) => {
            assert_eq!(evidence.processes.len(), 3, "{evidence:?}");
            assert_eq!(evidence.stdout, "so far\n");
        }
        other => panic!("{other:?}"),
    }
    assert!(room.programs("").is_empty());
    wait_until(WAIT_LIMIT, "nothing to be left", || is_empty(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_both_are_killed_the_next_daemon_awaits_the_program_and_ends_the_rest() {
    let room = Room::new();
    let go = room.folder.join("go");
    let request = room.sh(&format!("(setsid {LONG} &); {}; exit 0", until_exists(&go)));
    let _killed = killed_daemon_with(&room, &request);
    kill_supervisor(&room);
    let leftover = only_leftover(&room).await;
    assert_eq!(leftover.state(), LeftoverState::Orphaned);
    assert!(tokio::time::timeout(Duration::from_millis(500), leftover.await_end()).await.is_err());
    std::fs::write(go, "").unwrap();
    let end = within(leftover.await_end()).await.unwrap();
    assert!(matches!(&end, LeftoverEnd::Unknown(Some(evidence)) if evidence.processes[0].comm == "sleep"), "{end:?}");
    assert!(is_empty(&room), "{:?}", room.processes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_both_are_killed_the_next_daemon_ends_it_if_asked() {
    let room = Room::new();
    let mut request = room.sh(&format!("{LONG} & trap '' TERM; while :; do sleep 0.1; done"));
    request.keep_children = true;
    let _killed = killed_daemon_with(&room, &request);
    kill_supervisor(&room);
    let leftover = only_leftover(&room).await;
    assert_eq!(leftover.state(), LeftoverState::Orphaned);
    assert!(matches!(within(leftover.end()).await.unwrap(), LeftoverEnd::Unknown(Some(_))));
    assert!(is_empty(&room), "{:?}", room.processes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_holds_without_a_supervisor() {
    let room = Room::new();
    let mut request = room.sh(LONG);
    request.timeout_ms = 10_000;
    let _killed = killed_daemon_with(&room, &request);
    kill_supervisor(&room);
    let leftover = only_leftover(&room).await;
    assert!(matches!(within(leftover.await_end()).await.unwrap(), LeftoverEnd::Unknown(Some(_))));
    assert!(is_empty(&room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_whose_supervisor_was_killed_gets_another() {
    let room = Room::new();
    let go = room.folder.join("go");
    let mut request = room.sh(&format!("({}; yes) & exit 0", until_exists(&go)));
    request.keep_children = true;
    let mut daemon = daemon_with(&room, &request);
    daemon.wait_for_line(WAIT_LIMIT, "outcome ");
    wait_until(WAIT_LIMIT, "the outcome to be marked", || room.folders()[0].join("collected").exists());
    let old = room.supervisors()[0].pid;
    kill_supervisor(&room);
    let new = wait_for(WAIT_LIMIT, "another supervisor", || room.supervisors().pop().filter(|it| it.pid != old));
    // The daemon is killed too, and the next one has to see to it by itself.
    daemon.kill_alone();
    new.signal(Signal::SIGKILL).unwrap();
    wait_until(WAIT_LIMIT, "the supervisor to be dead", || !lives(new.pid));
    let commands = room.commands();
    assert!(commands.leftovers().await.unwrap().is_empty());
    assert!(commands.leftovers().await.unwrap().is_empty());
    wait_until(WAIT_LIMIT, "another supervisor", || room.supervisors().len() == 1);
    // It keeps the output short.
    let file = room.folders()[0].join("stdout");
    std::fs::write(go, "").unwrap();
    let (mut before, mut cuts) = (0, 0);
    wait_until(WAIT_LIMIT, "the output to be cut three times", || {
        let size = file.metadata().unwrap().len();
        cuts += u32::from(size < before);
        before = size;
        cuts >= 3
    });
    assert_eq!(room.supervisors().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_left_when_all_were_killed_is_an_application_if_it_was_to_live_on() {
    let room = Room::new();
    let go = room.folder.join("go");
    let mut request = room.sh(&format!("{LONG} & {}; exit 0", until_exists(&go)));
    request.keep_children = true;
    let _killed = killed_daemon_with(&room, &request);
    kill_supervisor(&room);
    std::fs::write(&go, "").unwrap();
    wait_until(WAIT_LIMIT, "the program to end", || room.programs("exit 0").is_empty());
    let leftover = only_leftover(&room).await;
    assert_eq!(leftover.state(), LeftoverState::Lost);
    assert!(matches!(within(leftover.await_end()).await.unwrap(), LeftoverEnd::Unknown(None)));
    assert_eq!(room.programs(LONG).len(), 1, "it lives on");
    wait_until(WAIT_LIMIT, "a supervisor for it", || room.supervisors().len() == 1);
    // Which does not carry the request out a second time.
    std::fs::remove_file(&go).unwrap();
    assert_eq!(room.programs("").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_is_stopped_cancels_when_asked() {
    let room = Room::new();
    let running = room.commands().start(room.sh(LONG)).await.unwrap();
    room.supervisors()[0].signal(Signal::SIGSTOP).unwrap();
    let outcome = within(running.cancel()).await.unwrap();
    assert_eq!(outcome.ending, Ending::Cancelled);
}
