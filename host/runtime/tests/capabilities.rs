//! Each capability through a real kit, against real files, programs and sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{House, call, outcome, report};
use mainstay_runtime::{Details, Failure, Kit, Operation, Outcome, ResourceServices};
use mainstay_test_support::kits::{Target, test_kit};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// A kit that takes the steps of its params, and a resource for it.
struct Probe {
    house: House,
    kit: Arc<Kit>,
    resource: Arc<ResourceServices>,
}

impl Probe {
    /// With these grants; what is not granted of command, net and secret is granted for something that is not there,
    /// because a kit that needs a capability of which nothing is granted is not started at all.
    async fn new(mut grants: Value) -> Self {
        let house = House::new();
        for (capability, nothing) in
            [("command", json!(["/nonexistent"])), ("net", json!(["192.0.2.1:9"])), ("secret", json!(["none"]))]
        {
            if grants.get(capability).is_none() {
                grants[capability] = nothing;
            }
        }
        let kit = house.load(&test_kit("mainstay-test-probe-kit", Target::Unknown)).await;
        let resource = house.resource("probe", grants);
        Self { house, kit, resource }
    }

    async fn take(&self, steps: Value) -> Details {
        let params = json!({ "steps": steps });
        assert_eq!(self.kit.check_params(&params), []);
        report(&outcome(&self.kit, call(Operation::QuickCheck, "probe", &params, &self.resource)).await).details
    }

    /// One step that succeeds.
    async fn ok(&self, step: Value) -> String {
        let details = self.take(json!([step])).await;
        let [(how, text)] = details.as_slice() else { panic!("one answer to one step: {details:?}") };
        assert_eq!(how, "ok", "{text}");
        text.clone()
    }

    /// One step that ends in a fault.
    async fn fault(&self, step: Value) -> String {
        let details = self.take(json!([step])).await;
        let [(how, text)] = details.as_slice() else { panic!("one answer to one step: {details:?}") };
        assert_eq!(how, "fault", "{text}");
        text.clone()
    }
}

fn script(dir: &std::path::Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_kit_is_told_what_it_is_called_for() {
    let probe = Probe::new(json!({})).await;
    let context = probe.ok(json!({"do": "context"})).await;
    assert!(context.starts_with("probe ex01 op-1 attempt 1 epoch 7 budget 5"), "{context}");
    assert!(context.contains(r#"("cause", "test")"#), "{context}");

    let why = Failure {
        found_by: "quick-check".to_owned(),
        report: None,
        bad_checks: 3,
        details: vec![("a".to_owned(), "b".to_owned())],
    };
    let recovered = outcome(&probe.kit, call(Operation::Recover(why), "probe", &json!({}), &probe.resource)).await;
    let Outcome::Recovery(result) = recovered else { panic!("{recovered:?}") };
    assert_eq!(result.details, [("why".to_owned(), r#"quick-check 3 [("a", "b")]"#.to_owned())]);
}

#[tokio::test]
async fn clocks_tell_the_time_and_what_is_left() {
    let probe = Probe::new(json!({})).await;
    let details = probe.take(json!([{"do": "clock"}, {"do": "sleep", "ms": 50}, {"do": "clock"}])).await;
    let numbers = |text: &str| -> Vec<u64> { text.split(' ').map(|number| number.parse().unwrap()).collect() };
    let (before, after) = (numbers(&details[0].1), numbers(&details[2].1));
    assert!(before[0] > 1_700_000_000_000, "milliseconds since 1970");
    assert!(after[1] >= before[1] + 50, "{before:?} {after:?}");
    assert!(after[2] <= before[2] - 50 && before[2] <= 60_000, "{before:?} {after:?}");
}

#[tokio::test]
async fn a_store_keeps_values_between_calls_and_apart_from_others() {
    let probe = Probe::new(json!({})).await;
    probe.ok(json!({"do": "store-put", "key": "serial", "value": "7"})).await;
    assert_eq!(probe.ok(json!({"do": "store-get", "key": "serial"})).await, "7");
    assert_eq!(probe.ok(json!({"do": "store-keys"})).await, "serial");
    let other = Probe {
        resource: probe.house.resource("other", json!({"command": ["/x"], "net": ["a:1"], "secret": ["x"]})),
        ..probe
    };
    assert_eq!(other.ok(json!({"do": "store-get", "key": "serial"})).await, "(none)");
    other.ok(json!({"do": "store-delete", "key": "serial"})).await;
    assert!(other.fault(json!({"do": "store-get", "key": "../probe/serial"})).await.starts_with("Invalid key"));
}

#[tokio::test]
async fn a_secret_is_read_by_name_and_grant() {
    let probe = Probe::new(json!({"secret": ["key", "missing"]})).await;
    probe.house.secret("key", b"s3cret\n");
    probe.house.secret("other", b"not yours");
    assert_eq!(probe.ok(json!({"do": "secret", "name": "key"})).await, "s3cret");
    assert!(probe.fault(json!({"do": "secret", "name": "missing"})).await.starts_with("NotFound no-such-secret"));
    let denied = probe.fault(json!({"do": "secret", "name": "other"})).await;
    assert!(denied.starts_with("Denied not-granted") && denied.contains("granted: key, missing"), "{denied}");
}

#[tokio::test]
async fn a_program_runs_with_what_it_was_given_and_nothing_else() {
    let probe = Probe::new(json!({})).await;
    let echo = script(
        probe.house.dir.path(),
        "echo",
        r#"cat; printf '%s|' "$@"; env | sort | cut -d= -f1 | tr '\n' ' ' >&2; pwd; exit 3"#,
    );
    let house = Probe {
        resource: probe.house.resource("probe", json!({"command": [echo], "net": ["a:1"], "secret": ["x"]})),
        ..probe
    };
    let answer = house
        .ok(json!({"do": "run", "command": {"program": echo, "args": ["a b", "$HOME", ""], "stdin": "in|"}}))
        .await;
    assert!(answer.starts_with("exited 3 out=in|a b|$HOME||/\n err="), "{answer}");
    assert!(answer.contains("err=LANG MAINSTAY_COMMAND PATH PWD"), "{answer}");
}

#[tokio::test]
async fn what_may_not_be_run_is_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let probe = Probe::new(json!({})).await;
    let path = |name: &str| probe.house.path(name).to_str().unwrap().to_owned();
    let good = script(probe.house.dir.path(), "good", "exit 0");
    let open = script(probe.house.dir.path(), "open", "exit 0");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let grants = json!({"command": [good, open, path("missing")], "net": ["a:1"], "secret": ["x"]});
    let (missing, other) = (path("missing"), path("other"));
    let probe = Probe { resource: probe.house.resource("probe", grants), ..probe };
    let run = |program: &str| json!({"do": "run", "command": {"program": program}});
    assert!(probe.ok(run(&good)).await.starts_with("exited 0"));
    let writable = probe.fault(run(&open)).await;
    assert!(writable.starts_with("Denied program-writable") && writable.contains("chmod"), "{writable}");
    assert!(probe.fault(run(&missing)).await.starts_with("NotFound no-such-program"));
    assert!(probe.fault(run(&other)).await.starts_with("Denied not-granted"));
    let as_root = json!({"do": "run", "command": {"program": good, "user": "root"}});
    assert!(probe.fault(as_root).await.starts_with("Denied not-granted"), "the grant names no user");
}

#[tokio::test]
async fn a_program_is_ended_with_all_it_started_when_its_time_is_up() {
    let probe = Probe::new(json!({})).await;
    let marker = probe.house.path("still-running");
    let text = format!("(while :; do touch {}; sleep 0.05; done) &\nsleep 600", marker.display());
    let slow = script(probe.house.dir.path(), "slow", &text);
    let grants = json!({"command": [slow], "net": ["a:1"], "secret": ["x"]});
    let probe = Probe { resource: probe.house.resource("probe", grants), ..probe };
    let answer = probe.ok(json!({"do": "run", "command": {"program": slow, "timeout-ms": 300}})).await;
    assert!(answer.starts_with("timed out"), "{answer}");
    std::fs::remove_file(&marker).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!marker.exists(), "its background process lives on");
}

#[tokio::test]
async fn tcp_reaches_what_is_granted_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        stream.write_all(b"you said ").await.unwrap();
        stream.write_all(&heard).await.unwrap();
    });
    let probe = Probe::new(json!({"net": [format!("127.0.0.1:{port}"), format!("localhost:{port}")]})).await;
    let talk = |host: &str, port: u16| json!({"do": "tcp", "talk": {"host": host, "port": port, "write": "hello", "finish": true, "timeout-ms": 30_000}});
    assert_eq!(probe.ok(talk("127.0.0.1", port)).await, "you said hello");
    server.await.unwrap();

    let refused = probe.fault(talk("127.0.0.1", port)).await;
    assert!(refused.starts_with("Unavailable unreachable") && refused.contains(&port.to_string()), "{refused}");
    let named = probe.fault(talk("localhost", port)).await;
    assert!(named.starts_with("Unavailable unreachable") && named.contains("127.0.0.1"), "a name is resolved: {named}");
    for (host, port) in [("127.0.0.1", port ^ 1), ("127.0.0.2", port), ("localhost.", port), ("::1", port)] {
        assert!(probe.fault(talk(host, port)).await.starts_with("Denied not-granted"), "{host}:{port}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_the_time_asked_for_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = Probe::new(json!({"net": [format!("127.0.0.1:{port}")]})).await;
    let talk = json!({"do": "tcp", "talk": {"host": "127.0.0.1", "port": port, "timeout-ms": 200}});
    let began = Instant::now();
    let late = probe.fault(talk).await;
    assert!(late.starts_with("Timeout timeout: reading"), "{late}");
    assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_peer_that_breaks_off_is_told_from_one_that_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        // With unread data a close is a reset.
        stream.readable().await.unwrap();
        stream.set_zero_linger().unwrap();
    });
    let probe = Probe::new(json!({"net": [format!("127.0.0.1:{port}")]})).await;
    let talk = json!({"do": "tcp", "talk": {"host": "127.0.0.1", "port": port, "write": "x", "timeout-ms": 30_000}});
    let broken = probe.fault(talk).await;
    assert!(broken.starts_with("Closed broken"), "{broken}");
    server.await.unwrap();
}

#[tokio::test]
async fn datagrams_go_and_come_and_too_long_ones_are_told() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let answer = tokio::spawn(async move {
        for _ in 0..2 {
            let mut buffer = [0; 100];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(&buffer[..length], from).await.unwrap();
        }
    });
    let probe = Probe::new(json!({"net": [format!("127.0.0.1:{port}")]})).await;
    let udp = |max: u32, timeout_ms: u32| json!({"do": "udp", "host": "127.0.0.1", "port": port, "send": "ping", "max": max, "timeout-ms": timeout_ms});
    assert_eq!(probe.ok(udp(4, 30_000)).await, "ping", "as long as allowed");
    let long = probe.fault(udp(3, 30_000)).await;
    assert!(long.starts_with("Limit datagram-too-long"), "{long}");
    answer.await.unwrap();
    // Nobody listens any more: the kernel tells.
    let gone = probe.fault(udp(4, 30_000)).await;
    assert!(gone.starts_with("Unavailable unreachable"), "{gone}");
}

#[tokio::test]
async fn a_silent_datagram_peer_times_out() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let probe = Probe::new(json!({"net": [format!("127.0.0.1:{port}")]})).await;
    let late = probe
        .fault(json!({"do": "udp", "host": "127.0.0.1", "port": port, "send": "", "max": 10, "timeout-ms": 100}))
        .await;
    assert!(late.starts_with("Timeout timeout"), "{late}");
}

#[tokio::test]
async fn random_bytes_come_and_a_name_that_does_not_exist_says_so() {
    let probe = Probe::new(json!({"net": ["does-not-exist.invalid:1"]})).await;
    assert_eq!(probe.ok(json!({"do": "random", "bytes": 70_000})).await, "70000");
    let talk = json!({"do": "tcp", "talk": {"host": "does-not-exist.invalid", "port": 1, "timeout-ms": 40_000}});
    let unknown = probe.fault(talk).await;
    // A machine without name servers cannot know.
    assert!(unknown.starts_with("NotFound no-such-host") || unknown.starts_with("Unavailable resolver"), "{unknown}");
}
