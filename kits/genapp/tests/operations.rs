//! What the GenApp kit does with the programs it is given, and what it says of them. No real program runs.

use mainstay_kit_genapp::{GenApp, GenAppParams};
use mainstay_sdk::command::{Ending, Request};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{FakeHost, ended, exited, exited_saying};
use serde_json::{Value, json};

fn context(host: &FakeHost, more: Value) -> Context<GenAppParams> {
    let mut params = json!({ "restore": "/app/restore", "remove": "/app/remove" });
    for (key, value) in more.as_object().expect("an object of params") {
        params[key] = value.clone();
    }
    host.context(params)
}

fn failure() -> Failure {
    Failure { found_by: "quick-check".into(), report: None, bad_checks: 1, details: Vec::new() }
}

fn detail<'a>(details: &'a [(String, String)], key: &str) -> Option<&'a str> {
    details.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn only(host: &FakeHost) -> Request {
    let mut commands = host.commands();
    assert_eq!(commands.len(), 1, "{commands:?}");
    commands.remove(0)
}

#[test]
fn every_program_is_called_as_lifekeeper_calls_it() {
    let host = FakeHost::install();
    for path in ["/app/restore", "/app/remove", "/app/check", "/app/recover"] {
        host.program_with_args(path, &["-t", "app", "-i", "instance7"], exited(0));
    }
    let ctx = context(&host, json!({ "quick-check": "/app/check", "recover": "/app/recover", "id": "instance7" }));
    assert!(GenApp::restore(&ctx).unwrap().changed);
    assert_eq!(GenApp::quick_check(&ctx).unwrap().health, Health::Healthy);
    assert_eq!(GenApp::recover(&ctx, &failure()).unwrap().verdict, Verdict::Recovered);
    assert!(GenApp::remove(&ctx).unwrap().changed);
    let kept: Vec<_> = host.commands().iter().map(|request| (request.program.clone(), request.keep_children)).collect();
    let expected = [("/app/restore", true), ("/app/check", false), ("/app/recover", true), ("/app/remove", false)];
    assert_eq!(kept, expected.map(|(path, keep)| (path.to_owned(), keep)));
    host.assert_declared::<GenApp>();
}

#[test]
fn without_an_id_the_tag_is_the_id() {
    let host = FakeHost::install();
    host.program_with_args("/app/restore", &["-t", "app", "-i", "app"], exited(0));
    GenApp::restore(&context(&host, json!({}))).unwrap();
}

#[test]
fn everything_an_operator_says_reaches_the_program() {
    let host = FakeHost::install();
    host.program("/usr/bin/systemctl", |_| exited(3));
    let ctx = context(
        &host,
        json!({
            "restore": {"program": "/usr/bin/systemctl", "args": ["start", "{tag}@{id}.{node}", "{x}"], "timeout": "90s", "exit-codes": [0, 3]},
            "id": "{tag}", "user": "www", "working-directory": "/srv", "environment": {"LANG": "C", "A": "b"},
        }),
    );
    GenApp::restore(&ctx).unwrap();
    let request = only(&host);
    assert_eq!(request.args, ["start", "app@{tag}.node1", "{x}"]);
    assert_eq!(request.timeout_ms, Some(90_000));
    assert_eq!(request.user.as_deref(), Some("www"));
    assert_eq!(request.cwd.as_deref(), Some("/srv"));
    assert_eq!(request.env, [("A".to_owned(), "b".to_owned()), ("LANG".to_owned(), "C".to_owned())]);
}

#[test]
fn without_a_quick_check_program_it_says_that_it_is_not_monitored() {
    let host = FakeHost::install();
    let report = GenApp::quick_check(&context(&host, json!({}))).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Healthy, "not-monitored"));
    assert_eq!(detail(&report.details, "monitored"), Some("false"));
    assert!(host.calls().is_empty());
}

#[test]
fn a_quick_check_that_exits_otherwise_means_failed() {
    let host = FakeHost::install();
    host.program("/app/check", |_| exited_saying(1, "no answer on port 80\n"));
    let report = GenApp::quick_check(&context(&host, json!({ "quick-check": "/app/check" }))).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Failed, "exit-code"));
    assert_eq!(report.summary, "the quick-check program /app/check exited with 1: no answer on port 80");
    assert_eq!(detail(&report.details, "exit-code"), Some("1"));
    assert_eq!(detail(&report.details, "stderr"), Some("no answer on port 80"));
}

#[test]
fn a_quick_check_that_does_not_end_counts_as_one_that_timed_out() {
    let host = FakeHost::install();
    host.program("/app/check", |_| ended(Ending::TimedOut));
    let report = GenApp::quick_check(&context(&host, json!({ "quick-check": "/app/check" }))).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Unknown, "timeout"));
    assert_eq!(detail(&report.details, "timed-out"), Some("true"));
}

#[test]
fn a_quick_check_that_is_killed_says_nothing_about_the_application() {
    let host = FakeHost::install();
    host.program("/app/check", |_| ended(Ending::Signalled(9)));
    let error = GenApp::quick_check(&context(&host, json!({ "quick-check": "/app/check" }))).unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Failed, Effect::None));
}

#[test]
fn a_failed_restore_leaves_a_part_and_may_work_elsewhere() {
    let host = FakeHost::install();
    for ending in [Ending::Exited(2), Ending::Signalled(15), Ending::TimedOut] {
        host.program("/app/restore", move |_| ended(ending));
        let error = GenApp::restore(&context(&host, json!({}))).unwrap_err();
        assert_eq!((error.retry, error.effect), (Retry::Elsewhere, Effect::Partial), "{error}");
        assert!(error.message.ends_with("and said nothing"), "{error}");
    }
}

#[test]
fn a_failed_remove_leaves_what_is_not_known() {
    let host = FakeHost::install();
    host.program("/app/remove", |_| exited(1));
    let error = GenApp::remove(&context(&host, json!({}))).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Failed, "exit-code"));
    assert_eq!((error.retry, error.effect), (Retry::Here, Effect::Unknown));
}

#[test]
fn a_program_that_is_not_granted_is_denied_and_nothing_was_done() {
    let host = FakeHost::install();
    let error = GenApp::restore(&context(&host, json!({}))).unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Denied, Effect::None));
    assert!(error.message.starts_with("run /app/restore: "), "{error}");
}

#[test]
fn without_a_recover_program_the_params_choose() {
    let host = FakeHost::install();
    host.program("/app/restore", |_| exited(0));
    host.program("/app/remove", |_| exited(0));
    let given_up = GenApp::recover(&context(&host, json!({ "without-recover": "give-up" })), &failure()).unwrap();
    assert_eq!(given_up.verdict, Verdict::GiveUp);
    assert!(host.commands().is_empty());

    assert_eq!(GenApp::recover(&context(&host, json!({})), &failure()).unwrap().verdict, Verdict::Recovered);
    let order: Vec<_> = host.commands().into_iter().map(|request| request.program).collect();
    assert_eq!(order, ["/app/remove", "/app/restore"]);

    host.forget_calls();
    host.program("/app/remove", |_| exited(1));
    let error = GenApp::recover(&context(&host, json!({})), &failure()).unwrap_err();
    assert_eq!(host.commands().len(), 1, "what could not be removed is not restored over");
    assert!(error.message.starts_with("restart it: the remove program"), "{error}");
}

#[test]
fn a_recover_program_decides_between_repaired_and_given_up() {
    let host = FakeHost::install();
    let ctx = context(&host, json!({ "recover": "/app/recover" }));
    host.program("/app/recover", |_| exited(1));
    assert_eq!(GenApp::recover(&ctx, &failure()).unwrap().verdict, Verdict::GiveUp);
    host.program("/app/recover", |_| ended(Ending::TimedOut));
    assert_eq!(GenApp::recover(&ctx, &failure()).unwrap_err().kind, ErrorKind::Timeout);
}

#[test]
fn a_flood_of_output_is_bounded() {
    let host = FakeHost::install();
    let mut flood = vec![0xff; 100_000];
    flood.extend_from_slice("é the reason\u{1b}[0m".as_bytes());
    host.program("/app/restore", move |_| exited_saying(1, flood.clone()));
    let error = GenApp::restore(&context(&host, json!({}))).unwrap_err();
    assert!(error.message.len() < 400, "{}", error.message.len());
    assert!(error.message.ends_with("the reason[0m"), "{}", error.message);
    assert!(error.details.iter().all(|(_, value)| value.len() <= 2048));
}

#[test]
fn what_an_operator_may_write() {
    let schema: Value = serde_json::from_str(<GenApp as mainstay_sdk::Described>::MANIFEST.as_str()).unwrap();
    assert_eq!(schema["name"], "genapp");
    assert_eq!(schema["params"]["required"], json!(["restore", "remove"]));
    assert_eq!(schema["needs"][0]["interface"], "command");
    assert_eq!(schema["needs"][1]["interface"], "log");
}

#[test]
fn a_standby_is_ready_when_the_program_says_so() {
    let host = FakeHost::install();
    assert_eq!(GenApp::assess(&context(&host, json!({}))).unwrap(), [], "there is nobody to ask");
    host.program_with_args("/app/ready", &["-t", "app", "-i", "app"], exited(0));
    let ctx = context(&host, json!({ "readiness": "/app/ready" }));
    assert_eq!(GenApp::assess(&ctx).unwrap(), []);
    assert!(!only(&host).keep_children);
    host.program("/app/ready", |_| exited_saying(4, "no licence"));
    let found = GenApp::assess(&ctx).unwrap();
    assert_eq!((found.len(), found[0].weight, found[0].code.as_str()), (1, Weight::Blocking, "exit-code"));
    assert!(found[0].summary.contains("no licence"), "{found:?}");
    assert_eq!(detail(&found[0].details, "exit-code"), Some("4"));
    // A program that is ended says nothing about the node.
    host.program("/app/ready", |_| ended(Ending::TimedOut));
    assert_eq!(GenApp::assess(&ctx).unwrap_err().code, "timeout");
    host.assert_declared::<GenApp>();
}
