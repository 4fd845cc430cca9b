//! `service` through a real kit, against a real systemd: its user instance on a bus of its own, with the units of each test.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{House, call, granted, outcome, report};
use mainstay_runtime::{Details, Kit, Operation, ResourceServices, Severity};
use mainstay_test_support::kits::{Target, test_kit};
use mainstay_test_support::{Systemd, WAIT_LIMIT};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// One that works.
const WORKS: &str = "[Service]\nExecStart=/bin/sleep 100000\n";
/// It says that it is ready, never.
const NEVER_READY: &str = "[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 100000\n";
/// It ignores that it is asked to end.
const IGNORES: &str =
    "[Service]\nTimeoutStopSec=infinity\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n";
/// What a short time is in these tests, in ms: in it everything happens that happens at once.
const SHORT_MS: u64 = 2_000;

/// A systemd, and a resource that may use these services of it.
struct World {
    systemd: Systemd,
    house: House,
    kit: Arc<Kit>,
    resource: Arc<ResourceServices>,
}

impl World {
    async fn new(units: &[(&str, &str)]) -> Option<Self> {
        Self::on(Systemd::start()?, units).await
    }

    async fn on(systemd: Systemd, units: &[(&str, &str)]) -> Option<Self> {
        for (name, text) in units {
            systemd.unit(name, text);
        }
        let house = House::new();
        house.runtime.use_system_bus(systemd.address());
        let mut grants = granted();
        grants["service"] = units.iter().map(|(name, _)| *name).chain(["missing.service"]).collect();
        let kit = house.load(&test_kit("mainstay-test-probe-kit", Target::Unknown)).await;
        let resource = house.resource("probe", grants);
        Some(Self { systemd, house, kit, resource })
    }

    async fn take(&self, step: Value, budget: Duration) -> (String, String) {
        let params = json!({ "steps": [step] });
        assert_eq!(self.kit.check_params(&params), []);
        let call =
            mainstay_runtime::Call { budget, ..call(Operation::Recover(failure()), "probe", &params, &self.resource) };
        let mainstay_runtime::Outcome::Recovery(result) = outcome(&self.kit, call).await else { panic!("no answer") };
        let details: Details = result.details;
        let [(how, text), _] = details.as_slice() else { panic!("one answer to one step: {details:?}") };
        (how.clone(), text.clone())
    }

    async fn ask(&self, ask: &str, name: &str) -> (String, String) {
        self.take(json!({"do": "service", "ask": ask, "name": name}), common::BUDGET).await
    }

    /// The same, in so many ms.
    async fn ask_in(&self, ask: &str, name: &str, ms: u64) -> (String, String) {
        self.take(json!({"do": "service", "ask": ask, "name": name, "ms": ms}), common::BUDGET).await
    }

    async fn state(&self, name: &str) -> String {
        let said = ok(self.ask("query", name).await);
        let state = said.strip_prefix("Standing { state: ").unwrap_or_else(|| panic!("{said}"));
        state.split(',').next().unwrap().to_owned()
    }
}

fn failure() -> mainstay_runtime::Failure {
    mainstay_runtime::Failure { found_by: "quick-check".to_owned(), report: None, bad_checks: 1, details: Vec::new() }
}

#[track_caller]
fn ok((how, text): (String, String)) -> String {
    assert_eq!(how, "ok", "{text}");
    text
}

#[track_caller]
fn fault((how, text): (String, String), begins: &str, words: &[&str]) -> String {
    assert_eq!(how, "fault", "{text}");
    assert!(text.starts_with(begins), "{begins}: {text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_started_and_stopped_and_found_in_each_state() {
    let Some(world) = World::new(&[("mail.service", &format!("[Unit]\nDescription=The mail\n{WORKS}"))]).await else {
        return;
    };
    let stopped = ok(world.ask("query", "mail").await);
    for words in ["state: Stopped", "pid: None", "Manual", "mail does not run", "(\"display-name\", \"The mail\")"] {
        assert!(stopped.contains(words), "{words}: {stopped}");
    }
    assert_eq!(ok(world.ask("start", "mail").await), "true");
    let pid = world.systemd.main_pid("mail.service");
    let runs = ok(world.ask("query", "mail.service").await);
    for words in ["state: Running", &format!("pid: Some({pid})"), "mail.service runs", "(\"sub-state\", \"running\")"] {
        assert!(runs.contains(words), "{words}: {runs}");
    }
    assert_eq!(ok(world.ask("start", "mail").await), "false", "it runs already");
    assert_eq!(world.systemd.main_pid("mail.service"), pid, "and was let run");
    assert_eq!(ok(world.ask("stop", "mail").await), "true");
    assert_eq!(world.state("mail").await, "Stopped");
    assert_eq!(ok(world.ask("stop", "mail").await), "false");
    assert_eq!(ok(world.ask("end-processes", "mail").await), "false");

    // Stopped by somebody else, and back.
    ok(world.ask("start", "mail").await);
    world.systemd.systemctl(&["stop", "mail.service"]);
    assert_eq!(world.state("mail").await, "Stopped");
    assert_eq!(ok(world.ask("start", "mail").await), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_killed_has_failed_and_is_started_again() {
    let again = format!("{WORKS}Restart=always\nRestartSec=1h\n");
    let Some(world) = World::new(&[("mail.service", WORKS), ("again.service", &again)]).await else { return };
    for (name, words) in [("mail", "killed by signal 9"), ("again", "the system starts it again by itself")] {
        ok(world.ask("start", name).await);
        let pid = world.systemd.main_pid(&format!("{name}.service"));
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let wait = json!({"do": "service", "ask": "wait", "name": name, "state": "failed"});
        let failed = ok(world.take(wait, common::BUDGET).await);
        assert!(failed.contains("pid: None") && failed.contains(words), "{failed}");
        assert_eq!(ok(world.ask("start", name).await), "true", "at once, and not when its unit says");
        assert_ne!(world.systemd.main_pid(&format!("{name}.service")), pid);
        // Stopped in order it has not failed any more, and is left alone.
        kill(Pid::from_raw(world.systemd.main_pid(&format!("{name}.service"))), Signal::SIGKILL).unwrap();
        let wait = json!({"do": "service", "ask": "wait", "name": name, "state": "failed"});
        ok(world.take(wait, common::BUDGET).await);
        ok(world.ask("stop", name).await);
        assert_eq!(world.state(name).await, "Stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_hangs_is_told_in_time_and_can_be_taken_back() {
    let waits = format!("[Unit]\nRequires=hangs.service\nAfter=hangs.service\n{WORKS}");
    let Some(world) = World::new(&[("hangs.service", NEVER_READY), ("waits.service", &waits)]).await else { return };
    let began = Instant::now();
    let late = world.ask_in("start", "hangs", SHORT_MS).await;
    let pid = world.systemd.main_pid("hangs.service");
    fault(late, "Timeout timeout: starting hangs: not within 2000 ms; hangs is starting", &[&format!("pid {pid}")]);
    assert!((Duration::from_millis(SHORT_MS)..WAIT_LIMIT).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(world.state("hangs").await, "StartPending");
    fault(world.ask_in("start", "hangs", SHORT_MS).await, "Timeout timeout", &["activating/start"]);
    let queued = world.ask_in("start", "waits", SHORT_MS).await;
    fault(queued, "Timeout timeout", &["waits does not run", "it is about to be started"]);
    let wait = json!({"do": "service", "ask": "wait", "name": "hangs", "state": "running", "ms": 300});
    fault(world.take(wait, common::BUDGET).await, "Timeout timeout: waiting for `running` of hangs", &[]);
    // What is left of the call, less a second to answer, is all that there is.
    let began = Instant::now();
    let step = json!({"do": "service", "ask": "start", "name": "hangs"});
    fault(world.take(step, Duration::from_secs(3)).await, "Timeout timeout", &["not within"]);
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(ok(world.ask("stop", "waits").await), "true", "it is taken from the queue");
    assert_eq!(ok(world.ask("stop", "hangs").await), "true");
    assert_eq!(world.state("hangs").await, "Stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_is_ignored_names_the_process_which_may_then_be_ended() {
    let again = format!("{IGNORES}Restart=always\nRestartSec=0\n");
    let Some(world) = World::new(&[("ignores.service", IGNORES), ("again.service", &again)]).await else { return };
    for name in ["ignores", "again"] {
        ok(world.ask("start", name).await);
        let pid = world.systemd.main_pid(&format!("{name}.service"));
        let late = world.ask_in("stop", name, SHORT_MS).await;
        fault(late, "Timeout timeout: stopping", &[&format!("pid {pid}"), "is stopping", "stop-sigterm"]);
        assert_eq!(world.state(name).await, "StopPending");
        fault(world.ask_in("start", name, 500).await, "Timeout timeout: starting", &["is stopping"]);
        assert_eq!(ok(world.ask("end-processes", name).await), "true");
        assert!(kill(Pid::from_raw(pid), None).is_err(), "{pid} is gone");
        assert_eq!(world.state(name).await, "Stopped");
    }
    // Also without having been asked before: what systemd would start again is not.
    ok(world.ask("start", "again").await);
    assert_eq!(ok(world.ask("end-processes", "again").await), "true");
    assert_eq!(world.state("again").await, "Stopped");
    assert_eq!(ok(world.ask("end-processes", "again").await), "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_ends_while_it_starts_says_how() {
    let script = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
    let stays = format!("{script}RemainAfterExit=yes\n");
    let units = [
        ("ends.service", "[Service]\nExecStart=/bin/sh -c 'exit 3'\n"),
        ("nothing.service", "[Service]\nExecStart=/nonexistent/program\n"),
        ("before.service", "[Service]\nExecStartPre=/bin/false\nExecStart=/bin/sleep 100000\n"),
        ("unmet.service", "[Unit]\nConditionPathExists=/nonexistent/flag\n[Service]\nExecStart=/bin/sleep 100000\n"),
        ("slow.service", "[Service]\nType=notify\nTimeoutStartSec=300ms\nExecStart=/bin/sleep 100000\n"),
        ("once.service", script),
        ("stays.service", stays.as_str()),
        ("broken.service", "[Service]\nType=simple\n"),
        ("masked.service", WORKS),
    ];
    let Some(world) = World::new(&units).await else { return };
    for (name, words) in [
        ("ends", "its main process ended with exit code 3"),
        ("nothing", "its main process ended with exit code 203"),
        ("before", "a command beside its main process failed (exit-code)"),
        ("unmet", "its conditions are not met"),
        ("slow", "a start or a stop took longer than its unit allows"),
        ("once", "it does its work and does not stay"),
    ] {
        let begins = format!("Failed service-failed: {name} was started and ended again");
        fault(world.ask("start", name).await, &begins, &[words]);
    }
    assert_eq!(world.state("ends").await, "Failed");
    assert_eq!(ok(world.ask("start", "stays").await), "true");
    let stays = ok(world.ask("query", "stays").await);
    assert!(
        stays.contains("Running") && stays.contains("without a process") && stays.contains("active/exited"),
        "{stays}"
    );
    assert_eq!(ok(world.ask("end-processes", "stays").await), "false", "it has none");
    assert_eq!(world.state("stays").await, "Stopped", "and does not run any more");

    // Started too often in a short time it would be refused.
    for _ in 0..8 {
        fault(world.ask("start", "ends").await, "Failed service-failed", &["exit code 3"]);
    }

    for ask in ["query", "start", "stop", "end-processes"] {
        fault(world.ask(ask, "missing").await, "NotFound no-such-service: there is no service missing", &[]);
        fault(world.ask(ask, "broken").await, "Failed service: systemd cannot load broken", &[]);
        fault(
            world.ask(ask, "sshd").await,
            "Denied not-granted: the service sshd is not granted",
            &["granted: ends.service"],
        );
    }
    world.systemd.mask("masked.service");
    let masked = ok(world.ask("query", "masked").await);
    assert!(masked.contains("Stopped") && masked.contains("Disabled"), "{masked}");
    fault(world.ask("start", "masked").await, "Failed service-disabled: masked is masked", &["systemctl unmask"]);
    assert_eq!(ok(world.ask("stop", "masked").await), "false");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_gone_or_hangs_costs_nobody_else_anything() {
    let Some(world) = World::new(&[("mail.service", WORKS), ("hangs.service", NEVER_READY)]).await else { return };
    ok(world.ask("start", "mail").await);
    world.systemd.freeze_bus();
    // Meanwhile another resource does what it does.
    let other = world.house.resource("other", granted());
    let query = async || {
        let began = Instant::now();
        let step = json!({"do": "service", "ask": "query", "name": "mail"});
        (world.take(step, Duration::from_secs(5)).await, began.elapsed())
    };
    let steps = async {
        let params = json!({ "steps": [{"do": "clock"}, {"do": "store-put", "key": "a", "value": "b"}] });
        let began = Instant::now();
        let said = report(&outcome(&world.kit, call(Operation::QuickCheck, "other", &params, &other)).await);
        (said, began.elapsed())
    };
    let (first, second, (said, took)) = tokio::join!(query(), query(), steps);
    assert!(said.details.iter().all(|(how, _)| how == "ok"), "{said:?}");
    for (hung, waited) in [first, second] {
        fault(hung, "Timeout timeout: look at mail: systemd did not answer", &[]);
        assert!(took < waited && waited < Duration::from_secs(5), "{took:?} {waited:?}");
    }
    // A further one gets no connection at all.
    fault(query().await.0, "Unavailable service-manager", &["the system bus does not answer"]);
    world.systemd.thaw_bus();
    assert_eq!(world.state("mail").await, "Running", "as soon as it goes on");

    // In the middle of a start.
    let kill_bus = async {
        let began = Instant::now();
        while !world.systemd.systemctl(&["show", "--property=ActiveState", "hangs.service"]).contains("activating") {
            assert!(began.elapsed() < WAIT_LIMIT, "the start has not begun");
            // The start goes on in the same task.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.systemd.kill_bus();
    };
    let (started, ()) = tokio::join!(world.ask("start", "hangs"), kill_bus);
    fault(started, "Closed service-lost", &["what came of it is not known"]);
    fault(world.ask("query", "mail").await, "Unavailable service-manager", &["the system bus cannot be reached"]);
    fault(world.ask("start", "mail").await, "Unavailable service-manager", &[]);
    world.systemd.start_bus();
    assert_eq!(world.state("mail").await, "Running");
    assert_eq!(ok(world.ask("stop", "hangs").await), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_daemon_may_not_is_denied() {
    let deny = "<deny send_interface=\"org.freedesktop.systemd1.Manager\" send_member=\"StopUnit\"/>";
    let Some(systemd) = Systemd::with_policy(deny) else { return };
    let Some(world) = World::on(systemd, &[("mail.service", WORKS)]).await else { return };
    ok(world.ask("start", "mail").await);
    fault(
        world.ask("stop", "mail").await,
        "Denied service-denied: this node's daemon may not stop mail",
        &["AccessDenied"],
    );
    assert_eq!(world.state("mail").await, "Running");
}

#[tokio::test]
async fn grants_are_names_of_services() {
    let house = House::new();
    let kit = house.load(&test_kit("mainstay-test-probe-kit", Target::Unknown)).await;
    for (names, severity, words) in [
        (json!(["a.socket"]), Severity::Error, "grants.service: a.socket: it is a unit of another type"),
        (json!(["getty@.service"]), Severity::Error, "it is a template"),
        (json!(["a b"]), Severity::Error, "letters, digits"),
        (json!(["a.service", "a.service"]), Severity::Warning, "a.service is granted twice"),
    ] {
        let mut grants = granted();
        grants["service"] = names;
        let grants = serde_json::from_value(grants).unwrap();
        let problems = kit.check_grants(&grants, None);
        let told = problems.iter().any(|problem| problem.severity == severity && problem.to_string().contains(words));
        assert!(told, "{words}: {problems:?}");
    }
}
