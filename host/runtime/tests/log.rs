//! What reaches the host's log: kits' lines, their panics, a WASI kit's output, and the audit of what they used.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};

use common::{House, call, fault, granted, outcome, report, steps};
use mainstay_runtime::{AUDIT, FaultKind, KIT_LOG, Operation};
use mainstay_test_support::kits::{Target, test_kit};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

/// What was logged on this thread, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn of(&self, target: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(target)).map(str::to_owned).collect()
    }
}

/// What is logged while these steps are taken by the probe kit, built for `target`.
async fn logged(target: Target, script: Value, kind: Option<FaultKind>) -> Lines {
    let lines = Lines::default();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG).with_writer(lines.clone());
    let house = House::new();
    let kit = house.load(&test_kit("mainstay-test-probe-kit", target)).await;
    let mut grants = granted();
    grants["secret"] = json!(["key"]);
    house.secret("key", b"hunter2");
    let resource = house.resource("probe", grants);
    // For this thread, on which the call is made too.
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let outcome = outcome(&kit, call(Operation::QuickCheck, "probe", &steps(&script), &resource)).await;
    match kind {
        Some(kind) => drop(fault(&outcome, kind)),
        None => drop(report(&outcome)),
    }
    lines
}

#[tokio::test]
async fn a_line_says_whose_it_is_and_cannot_forge_another() {
    let line = json!([{"do": "log", "level": "warn", "message": "disk\u{1b}[2J\nfull", "field": "a\nERROR forged"}]);
    let lines = logged(Target::Unknown, line, None).await.of(KIT_LOG);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for words in ["WARN", "disk[2J full", "field=a ERROR forged", r#"tag="probe""#, "quick-check", "0.1.0"] {
        assert!(lines[0].contains(words), "{words}: {}", lines[0]);
    }
}

#[tokio::test]
async fn a_flood_is_dropped_and_counted() {
    let lines = logged(Target::Unknown, json!([{"do": "log-lines", "count": 10_000}]), None).await.of(KIT_LOG);
    assert!((200..2_000).contains(&lines.len()), "{}", lines.len());
    assert!(lines.last().unwrap().contains("lines of this kit were dropped"), "{:?}", lines.last());
}

#[tokio::test]
async fn a_panic_reaches_the_log_with_its_text() {
    let panic = json!([{"do": "panic", "text": "no such mailbox"}]);
    let lines = logged(Target::Unknown, panic, Some(FaultKind::Trap)).await.of(KIT_LOG);
    assert!(lines.iter().any(|line| line.contains("the kit panicked: no such mailbox")), "{lines:?}");
}

#[tokio::test]
async fn every_use_is_audited_and_no_secret_is_written() {
    let script = json!([
        {"do": "secret", "name": "key"}, {"do": "secret", "name": "other"},
        {"do": "run", "command": {"program": "/bin/true"}},
        {"do": "tcp", "talk": {"host": "192.0.2.9", "port": 25, "timeout-ms": 1}},
    ]);
    let lines = logged(Target::Unknown, script, None).await;
    let audit = lines.of(AUDIT);
    let expected = [
        ("secret", "key (itself)", true),
        ("secret", "other (itself)", false),
        ("command", "/bin/true", false),
        ("net", "tcp 192.0.2.9:25", false),
    ];
    assert_eq!(audit.len(), expected.len(), "{audit:?}");
    for (line, (capability, what, allowed)) in audit.iter().zip(expected) {
        let words = [
            format!(r#"capability="{capability}""#),
            what.to_owned(),
            format!("allowed={allowed}"),
            r"tag=probe".to_owned(),
        ];
        assert!(words.iter().all(|words| line.contains(words)), "{words:?}: {line}");
    }
    assert!(!lines.of("").iter().any(|line| line.contains("hunter2")), "the secret itself is nowhere in the log");
}

#[tokio::test]
async fn a_wasi_kit_works_sees_nothing_and_prints_to_the_log() {
    let script = json!([{"do": "print", "text": "one\ntwo"}, {"do": "look-around"}, {"do": "print", "text": "three"}]);
    let lines = logged(Target::Wasip2, script, None).await.of(KIT_LOG);
    let printed: Vec<_> = lines
        .iter()
        .filter(|line| ["one", "two", "three"].iter().any(|text| line.contains(&format!(": {text} "))))
        .collect();
    assert_eq!(printed.len(), 3, "{lines:?}");
}

#[tokio::test]
async fn the_outside_is_closed_to_a_wasi_kit() {
    let house = House::new();
    let kit = house.load(&test_kit("mainstay-test-probe-kit", Target::Wasip2)).await;
    assert!(kit.imports().iter().any(|name| name.starts_with("wasi:filesystem/")), "{:?}", kit.imports());
    let resource = house.resource("probe", granted());
    let call = |step: Value| call(Operation::QuickCheck, "probe", &steps(&json!([step])), &resource);
    let seen = report(&outcome(&kit, call(json!({"do": "look-around"}))).await).details;
    let seen = &seen[0].1;
    assert!(seen.starts_with("0 variables, 0 arguments"), "{seen}");
    assert!(seen.contains("files: Some(") && seen.contains("sockets: Some("), "both failed: {seen}");

    let exit = fault(&outcome(&kit, call(json!({"do": "exit", "code": 3}))).await, FaultKind::Trap);
    // What the interface can say is success or failure.
    assert!(exit.message.contains("ended its program with exit code 1"), "{}", exit.message);
}
