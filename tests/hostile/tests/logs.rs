//! What a kit can do to the host's log: a bounded number of lines of a bounded length, each of them one line.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use mainstay_runtime::{AUDIT, KIT_LOG, Limits, Operation, Outcome};
use mainstay_test_hostile::house::House;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// One line as it was given to the log.
#[derive(Clone, Debug, Default)]
struct Line {
    target: &'static str,
    fields: BTreeMap<String, String>,
}

impl Line {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

/// Every line of the process so far.
static LINES: LazyLock<Arc<Mutex<Vec<Line>>>> = LazyLock::new(|| {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let subscriber = tracing_subscriber::registry().with(Keep(Arc::clone(&lines)));
    tracing::subscriber::set_global_default(subscriber).expect("nobody else sets one in this process");
    lines
});

struct Keep(Arc<Mutex<Vec<Line>>>);

impl<S: tracing::Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = Line { target: event.metadata().target(), ..Line::default() };
        event.record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// Makes one call and gives back what it came to, and its lines.
async fn lines_of(params: &Value) -> (Outcome, Vec<Line>) {
    LazyLock::force(&LINES);
    let house = House::new();
    let hostile = house.hostile().await;
    let asked = house.asked(Operation::QuickCheck, params);
    let tag = asked.tag.clone();
    let outcome = house.call_as(&hostile, asked).await;
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let own = lines.iter().filter(|line| line.field("tag") == tag).cloned().collect();
    (outcome, own)
}

/// Those that the kit itself wrote, and those that tell how many were dropped.
fn split(lines: &[Line]) -> (Vec<&Line>, u64) {
    let dropped = lines.iter().filter_map(|line| line.field("dropped").parse::<u64>().ok()).sum();
    (lines.iter().filter(|line| line.target == KIT_LOG && line.field("dropped").is_empty()).collect(), dropped)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_dropped_and_counted() {
    const LINES: u32 = 10_000;
    let (outcome, lines) = lines_of(&json!({ "does": "log-lines", "count": LINES })).await;
    assert!(matches!(outcome, Outcome::Report(_)), "{outcome:?}");
    let (written, dropped) = split(&lines);
    let limits = Limits::default();
    assert!(written.len() >= limits.log_lines_burst_max as usize, "{}", written.len());
    // Some more get through on a machine that is slow.
    assert!(written.len() < 2_000, "{}", written.len());
    assert_eq!(written.len() as u64 + dropped, u64::from(LINES), "each line is written or counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_without_end_is_told_with_the_end_of_the_call() {
    let (outcome, lines) = lines_of(&json!({ "does": "log-forever" })).await;
    assert!(matches!(outcome, Outcome::Fault(_)), "{outcome:?}");
    let (written, dropped) = split(&lines);
    assert!(written.len() < 2_000 && dropped > 1_000, "{} written, {dropped} dropped", written.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_is_a_log_like_any_other() {
    LazyLock::force(&LINES);
    let house = House::new();
    let hostile = house.hostile_wasi().await;
    let asked = house.asked(Operation::QuickCheck, &json!({ "does": "print-forever" }));
    let tag = asked.tag.clone();
    let outcome = house.call_as(&hostile, asked).await;
    assert!(matches!(outcome, Outcome::Fault(_)), "{outcome:?}");
    let lines: Vec<Line> = LINES.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let own: Vec<Line> = lines.into_iter().filter(|line| line.field("tag") == tag).collect();
    let (written, dropped) = split(&own);
    assert!(written.iter().any(|line| line.field("message") == "a line to standard output"), "{written:?}");
    assert!(written.len() < 2_000 && dropped > 1_000, "{} written, {dropped} dropped", written.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_megabyte_is_cut() {
    for params in
        [json!({ "does": "log-line", "bytes": 1_000_000 }), json!({ "does": "panic", "text-bytes": 1_000_000 })]
    {
        let (_, lines) = lines_of(&params).await;
        let (written, _) = split(&lines);
        assert_eq!(written.len(), 1, "{params}: {written:?}");
        // The message and the fields are cut, each to the limit at most.
        let limit = Limits::default().log_line_bytes_max;
        assert!((1_000..2 * limit + 500).contains(&written[0].bytes()), "{params}: {}", written[0].bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_one_line_and_moves_no_cursor() {
    let (_, lines) = lines_of(&json!({ "does": "log-control" })).await;
    let (written, _) = split(&lines);
    assert_eq!(written.len(), 1);
    for (name, value) in &written[0].fields {
        let bad: Vec<char> = value.chars().filter(|c| is_dangerous(*c)).collect();
        assert!(bad.is_empty(), "{name} has {bad:?}: {value:?}");
    }
    assert!(written[0].field("message").contains("harmless"), "{written:?}");
}

/// Ends a line, moves a cursor, or turns the direction of writing: in a log it can pass for somebody else's line.
fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_audited() {
    for (params, capability, what) in [
        (json!({ "does": "connect", "host": "192.0.2.1", "port": 80 }), "net", "192.0.2.1:80"),
        (json!({ "does": "run", "program": "/bin/sh" }), "command", "/bin/sh"),
        (json!({ "does": "secret", "name": "dns-key" }), "secret", "dns-key"),
    ] {
        let (_, lines) = lines_of(&params).await;
        let audited: Vec<_> = lines.iter().filter(|line| line.target == AUDIT).collect();
        assert_eq!(audited.len(), 1, "{lines:?}");
        let line = audited[0];
        assert!(line.field("kit").contains("hostile 0.1.0") && line.field("allowed") == "false", "{line:?}");
        assert!(line.field("capability").contains(capability) && line.field("what").contains(what), "{line:?}");
    }
}

/// Also the audit is a log: who asks for ever for what he may not have must not fill it.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_does_not_flood_the_audit() {
    let (outcome, lines) = lines_of(&json!({ "does": "connect-forever", "host": "192.0.2.1", "port": 80 })).await;
    assert!(matches!(outcome, Outcome::Fault(_)), "{outcome:?}");
    let audited: Vec<_> = lines.iter().filter(|line| line.target == AUDIT).collect();
    assert!((1..2_000).contains(&audited.len()), "{} lines", audited.len());
    let dropped: u64 = audited.iter().filter_map(|line| line.field("dropped").parse::<u64>().ok()).sum();
    assert!(dropped > 0, "what was left out is counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_name_is_audited_short() {
    for params in [
        json!({ "does": "connect", "host": "x".repeat(200_000), "port": 80 }),
        json!({ "does": "run", "program": format!("/{}", "x".repeat(200_000)) }),
        json!({ "does": "secret", "name": "x".repeat(200_000) }),
        json!({ "does": "run", "program": "/bin/sh", "user": "x".repeat(200_000) }),
    ] {
        let (_, lines) = lines_of(&params).await;
        let longest = lines.iter().map(Line::bytes).max().expect("it is audited");
        assert!(longest < 2_000, "{} has a line of {longest} bytes", params["does"]);
    }
}
