//! What the operations do to services, and in which order.

mod world;

use std::time::Duration;

use mainstay_kit_exchange::{Exchange, Need, Version};
use mainstay_sdk::prelude::*;
use mainstay_sdk::service::{StartType, State};
use mainstay_sdk::testing::{Call, FakeHost, FakeService, Operation};
use serde_json::{Value, json};
use world::{check, context, detail, failure, greets, install, started, stopped};

/// The services of 2003 without protocols, in the order they are started.
const OF_2003: [&str; 6] = ["MSExchangeSA", "MSExchangeIS", "RESvc", "SMTPSVC", "MSExchangeMTA", "MSExchangeMGMT"];

fn standby_2003() -> (FakeHost, Context<mainstay_kit_exchange::ExchangeParams>) {
    let host = FakeHost::install();
    install(&host, Version::V2003, |_| FakeService::stopped());
    let ctx = context(&host, "2003", json!({}));
    (host, ctx)
}

fn owner_2003() -> (FakeHost, Context<mainstay_kit_exchange::ExchangeParams>) {
    let (host, ctx) = standby_2003();
    Exchange::restore(&ctx).expect("it comes in service");
    host.forget_calls();
    (host, ctx)
}

#[test]
fn services_start_in_order_and_stop_in_reverse() {
    let (host, ctx) = standby_2003();
    assert_eq!(check(&ctx), (Health::Stopped, "stopped".into()));
    let done = Exchange::restore(&ctx).unwrap();
    assert!(done.changed);
    assert_eq!(started(&host), OF_2003, "IISADMIN runs already");
    assert_eq!(check(&ctx), (Health::Healthy, "ok".into()));
    assert!(!Exchange::restore(&ctx).unwrap().changed);

    host.forget_calls();
    assert!(Exchange::remove(&ctx).unwrap().changed);
    let mut reverse: Vec<&str> = vec!["IMAP4Svc", "POP3Svc"];
    reverse.extend(["MSExchangeMGMT", "MSExchangeMTA", "SMTPSVC", "RESvc", "MSExchangeIS", "MSExchangeSA"]);
    assert_eq!(stopped(&host), reverse, "what is not used is stopped in case it runs, what is the system's is not");
    assert_eq!(host.service_now("IISADMIN").state, State::Running);
    assert_eq!(check(&ctx), (Health::Stopped, "stopped".into()));
    assert!(!Exchange::remove(&ctx).unwrap().changed);
    host.assert_declared::<Exchange>();
}

#[test]
fn every_known_version_comes_up_and_goes_down() {
    for (name, version) in
        [("2003", Version::V2003), ("2016", Version::V2016), ("2019", Version::V2019), ("se", Version::Se)]
    {
        let host = FakeHost::install();
        install(&host, version, |_| FakeService::stopped());
        greets(&host, 143, "* OK here\r\n");
        let ctx = context(&host, name, json!({ "protocols": { "imap": {} } }));
        Exchange::restore(&ctx).unwrap();
        let imap = |name: &String| name.to_lowercase().contains("imap");
        assert!(started(&host).iter().any(imap), "{name}: it is in the params");
        assert!(!started(&host).iter().any(|name| name.to_lowercase().contains("pop3")), "{name}: it is not");
        assert_eq!(check(&ctx).0, Health::Healthy, "{name}");
        Exchange::remove(&ctx).unwrap();
        for known in version.services().unwrap() {
            let down = host.service_now(known.name).state == State::Stopped;
            assert_eq!(down, known.need != Need::System, "{name}: {}", known.name);
        }
    }
}

#[test]
fn a_service_stopped_by_hand_is_back_and_nothing_else_is_touched() {
    for kill in [false, true] {
        let (host, ctx) = owner_2003();
        if kill {
            host.kill_service("MSExchangeIS");
        } else {
            host.service("MSExchangeIS", FakeService::stopped());
        }
        let report = Exchange::quick_check(&ctx).unwrap();
        assert_eq!((report.health, report.code.as_str()), (Health::Failed, "service"), "{report:?}");
        assert!(report.summary.contains("MSExchangeIS"), "{report:?}");
        host.forget_calls();
        let result = Exchange::recover(&ctx, &failure(Some(report))).unwrap();
        assert_eq!((result.verdict, result.summary.as_str()), (Verdict::Recovered, "restarted MSExchangeIS"));
        assert_eq!(started(&host), ["MSExchangeIS"]);
        assert_eq!(check(&ctx).0, Health::Healthy);
    }
}

#[test]
fn what_depends_on_what_failed_is_restarted_with_it() {
    let (host, ctx) = owner_2003();
    host.kill_service("MSExchangeSA");
    host.forget_calls();
    Exchange::recover(&ctx, &failure(None)).unwrap();
    assert_eq!(stopped(&host), ["MSExchangeMTA", "MSExchangeIS", "MSExchangeSA"]);
    assert_eq!(started(&host), ["MSExchangeSA", "MSExchangeIS", "MSExchangeMTA"]);
}

#[test]
fn what_has_healed_is_left_alone() {
    let (host, ctx) = owner_2003();
    let result = Exchange::recover(&ctx, &failure(None)).unwrap();
    assert_eq!(result.verdict, Verdict::Recovered);
    assert_eq!((started(&host), stopped(&host)), (vec![], vec![]));
}

#[test]
fn what_hangs_behind_its_protocol_is_restarted() {
    let host = FakeHost::install();
    install(&host, Version::V2003, |_| FakeService::running());
    greets(&host, 25, "220 mail ready\r\n");
    greets(&host, 143, "* OK here\r\n");
    let ctx = context(&host, "2003", json!({ "protocols": { "smtp": {}, "imap": {} } }));
    // The first look in recover finds nobody; the next ones are well.
    let refused = || Fault::new(FaultKind::Unavailable, "unreachable", "connection refused");
    host.fail(Operation::TcpConnect, refused());
    let report = Exchange::quick_check(&ctx).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Failed, "smtp-down"), "{report:?}");
    host.fail(Operation::TcpConnect, refused());
    host.forget_calls();
    host.tcp_greeting("127.0.0.1", 143, "* OK here\r\n".to_owned().into_bytes(), |said: &mut Vec<u8>| {
        let line = String::from_utf8(std::mem::take(said)).unwrap();
        format!("{} OK done\r\n", line.split(' ').next().unwrap()).into_bytes()
    });
    let result = Exchange::recover(&ctx, &failure(Some(report))).unwrap();
    assert_eq!(result.summary, "restarted SMTPSVC");
    assert_eq!((stopped(&host), started(&host)), (vec!["SMTPSVC".to_owned()], vec!["SMTPSVC".to_owned()]));
}

#[test]
fn a_start_that_hangs_says_where() {
    let (host, ctx) = standby_2003();
    host.service("MSExchangeIS", FakeService { start_takes: Duration::MAX, ..FakeService::stopped() });
    host.set_budget(Duration::from_secs(3_600));
    let error = Exchange::restore(&ctx).unwrap_err();
    assert_eq!((error.kind, error.code.as_str(), error.retry), (ErrorKind::Timeout, "service-start", Retry::Here));
    assert_eq!(error.effect, Effect::Partial, "the system attendant runs");
    assert!(
        error.message.contains("start the service MSExchangeIS") && error.message.contains("start-pending"),
        "{error}"
    );
    assert_eq!(started(&host), ["MSExchangeSA", "MSExchangeIS"], "nothing after it is started");
    let waited =
        |call: &Call| matches!(call, Call::ServiceStart { name, timeout_ms: Some(600_000) } if name == "MSExchangeIS");
    assert!(host.calls().iter().any(waited), "its own time limit");
    let report = Exchange::quick_check(&ctx).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Failed, "service"), "others do not run at all");
}

#[test]
fn a_server_that_is_coming_up_is_not_taken_for_failed() {
    let (host, ctx) = owner_2003();
    host.service("MSExchangeIS", FakeService { state: State::StartPending, ..FakeService::running() });
    let report = Exchange::quick_check(&ctx).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Unknown, "service-starting"));
    assert_eq!(detail(&report.details, "timed-out"), Some("true"));
}

#[test]
fn a_start_that_fails_leads_elsewhere_and_a_repair_is_tried_again_here() {
    let (host, ctx) = standby_2003();
    host.service("MSExchangeIS", FakeService { starts_that_fail: u32::MAX, ..FakeService::stopped() });
    let error = Exchange::restore(&ctx).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry, error.effect), ("service-failed", Retry::Elsewhere, Effect::Partial));
    let error = Exchange::recover(&ctx, &failure(None)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("service-failed", Retry::Here));
    host.service("MSExchangeIS", FakeService { start_type: StartType::Disabled, ..FakeService::stopped() });
    let error = Exchange::recover(&ctx, &failure(None)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("service-disabled", Retry::Elsewhere));
}

#[test]
fn a_stop_that_is_ignored_is_an_error_with_the_process_unless_it_may_be_ended() {
    let (host, ctx) = owner_2003();
    host.service("MSExchangeIS", FakeService { stop_takes: Duration::MAX, ..FakeService::running() });
    host.set_budget(Duration::from_secs(3_600));
    let error = Exchange::remove(&ctx).unwrap_err();
    assert_eq!((error.kind, error.code.as_str(), error.retry), (ErrorKind::Timeout, "service-stop", Retry::Here));
    assert!(error.message.contains("pid 999") && error.message.contains("end-processes"), "{error}");
    assert_eq!(host.service_now("MSExchangeSA").state, State::Running, "what it depends on is not stopped under it");

    let ctx = context(&host, "2003", json!({ "end-processes": true }));
    host.set_budget(Duration::from_secs(3_600));
    let done = Exchange::remove(&ctx).unwrap();
    assert_eq!(detail(&done.details, "ended"), Some("MSExchangeIS"));
    assert_eq!(check(&ctx).0, Health::Stopped);
}

#[test]
fn processes_that_others_live_in_are_not_ended() {
    let (host, _) = owner_2003();
    let shared = FakeService { stop_takes: Duration::MAX, shares_process: true, ..FakeService::running() };
    host.service("SMTPSVC", shared);
    let ctx = context(&host, "2003", json!({ "end-processes": true, "timeouts": { "SMTPSVC": "10s" } }));
    let error = Exchange::remove(&ctx).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("shared-process", Retry::Here), "{error}");
}

#[test]
fn optional_services_are_used_where_they_can_be() {
    let (host, ctx) = standby_2003();
    host.service("MSExchangeMTA", FakeService { start_type: StartType::Disabled, ..FakeService::stopped() });
    host.service("MSExchangeMGMT", FakeService::missing());
    Exchange::restore(&ctx).unwrap();
    assert_eq!(started(&host), OF_2003[..4]);
    assert_eq!(check(&ctx).0, Health::Healthy);
    Exchange::remove(&ctx).unwrap();

    host.service("MSExchangeMTA", FakeService { starts_that_fail: u32::MAX, ..FakeService::stopped() });
    Exchange::restore(&ctx).unwrap();
    assert_eq!(check(&ctx), (Health::Degraded, "service-optional".into()));
}

#[test]
fn a_required_service_that_is_not_there_is_said() {
    let (host, ctx) = standby_2003();
    host.service("RESvc", FakeService::missing());
    let error = Exchange::restore(&ctx).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.retry, error.effect),
        ("no-such-service", Retry::Elsewhere, Effect::Partial)
    );
    assert!(Exchange::remove(&ctx).is_ok(), "what is not installed does not run");
}

#[test]
fn a_part_that_runs_is_half_there() {
    let (host, ctx) = standby_2003();
    host.service("SMTPSVC", FakeService::running());
    assert_eq!(check(&ctx), (Health::Failed, "service".into()));
    // Of the system's own nothing follows.
    host.service("SMTPSVC", FakeService::stopped());
    assert_eq!(check(&ctx), (Health::Stopped, "stopped".into()));
}

#[test]
fn a_server_killed_as_a_whole_does_not_run_and_says_why() {
    let (host, ctx) = owner_2003();
    for name in OF_2003 {
        host.kill_service(name);
    }
    let report = Exchange::quick_check(&ctx).unwrap();
    assert_eq!(report.health, Health::Stopped);
    assert!(report.summary.contains("MSExchangeSA is failed: its process was killed"), "{report:?}");
    assert_eq!(Exchange::recover(&ctx, &failure(Some(report))).unwrap().verdict, Verdict::Recovered);
    assert_eq!(check(&ctx).0, Health::Healthy);
    for name in OF_2003 {
        host.kill_service(name);
    }
    Exchange::remove(&ctx).unwrap();
    assert_eq!(check(&ctx), (Health::Stopped, "stopped".into()));
}

#[test]
fn of_other_versions_the_operator_lists_the_services() {
    let host = FakeHost::install();
    for version in ["2007", "2010", "2013", "other"] {
        let error = Exchange::restore(&context(&host, version, json!({}))).unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::InvalidParams, "params"), "{version}");
        assert!(
            error.message.contains(&format!("Exchange {version}")) && error.message.contains("services = ["),
            "{error}"
        );
    }
    for name in ["a", "b", "c", "d"] {
        host.service(name, FakeService::stopped());
    }
    let listed = json!({ "services": [
        "a",
        { "name": "b", "depends-on": ["a"], "timeout": "7s" },
        { "name": "c", "need": "optional" },
        { "name": "d", "depends-on": ["b"] },
    ] });
    let ctx = context(&host, "2010", listed);
    Exchange::restore(&ctx).unwrap();
    assert_eq!(started(&host), ["a", "b", "c", "d"]);
    let own_time = |call: &Call| matches!(call, Call::ServiceStart { name, timeout_ms: Some(7_000) } if name == "b");
    assert!(host.calls().iter().any(own_time));
    host.kill_service("b");
    host.forget_calls();
    Exchange::recover(&ctx, &failure(None)).unwrap();
    assert_eq!((stopped(&host), started(&host)), (vec!["d".into(), "b".into()], vec!["b".to_owned(), "d".into()]));
}

#[test]
fn params_that_make_no_sense_are_told_all_at_once() {
    let host = FakeHost::install();
    let check = |more: Value, words: &[&str]| {
        let error = Exchange::quick_check(&context(&host, "2019", more)).unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::InvalidParams, "params"), "{error}");
        for word in words {
            assert!(error.message.contains(word), "expected {word:?} in {error}");
        }
    };
    check(json!({ "timeouts": { "MSExchangeNo": "1s" } }), &["timeouts.MSExchangeNo"]);
    check(json!({ "services": [] }), &["0 entries"]);
    check(
        json!({ "services": ["a", "a", "b/c", { "name": "d", "depends-on": ["e"] }] }),
        &["a is there twice", "b/c", "depends on e"],
    );
    check(json!({ "services": [{ "name": "a", "need": "optional" }] }), &["none is required"]);
    check(json!({ "protocols": { "imap": { "port": 993 } } }), &["protocols.imap", "tls = \"implicit\""]);
    check(
        json!({ "protocols": { "http": { "tls": "start-tls", "path": "x y", "statuses": [] } } }),
        &["no STARTTLS", "no path", "statuses"],
    );
    check(json!({ "protocols": { "http": { "server-name": "a\r\nX: y" } } }), &["server-name"]);
    check(json!({ "protocols": { "smtp": { "host": "" } } }), &["is no host"]);
    check(json!({ "test-mailbox": { "user": "u", "secret": "s" } }), &["neither protocols.imap"]);
    check(
        json!({ "test-mailbox": { "user": "u\r\nX", "secret": "s" }, "protocols": { "imap": {} } }),
        &["no name to log in with"],
    );
    check(
        json!({ "databases": { "mail": { "node1": "a\"; Remove-Mailbox *", "node2": "a" } }, "servers": { "node1": "EX 1", "node2": "EX02" } }),
        &["no name of a database", "no name of a computer"],
    );
    check(json!({ "databases": { "mail": { "node2": "a" } } }), &["servers.node1", "databases.mail.node1"]);
    check(
        json!({ "databases": { "mail": { "node1": "A", "node2": "a" } }, "servers": { "node1": "EX01" } }),
        &["there twice"],
    );
    let error = Exchange::restore(&context(
        &host,
        "2003",
        json!({ "databases": { "mail": { "node1": "a" } }, "servers": { "node1": "EX01" } }),
    ))
    .unwrap_err();
    assert!(error.message.contains("not for Exchange 2003"), "{error}");
}

#[test]
fn a_call_without_time_does_nothing_more() {
    let (host, ctx) = standby_2003();
    host.service("MSExchangeSA", FakeService { start_takes: Duration::from_secs(9), ..FakeService::stopped() });
    host.set_budget(Duration::from_secs(11));
    let error = Exchange::restore(&ctx).unwrap_err();
    assert_eq!((error.code.as_str(), error.effect), ("no-time", Effect::Partial), "{error}");
    assert_eq!(started(&host), ["MSExchangeSA"]);
}

#[test]
fn a_check_of_what_is_not_granted_cannot_tell() {
    let host = FakeHost::install();
    let error = Exchange::quick_check(&context(&host, "2003", json!({}))).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Denied, "not-granted"));
}

#[test]
fn a_standby_says_what_would_keep_it_from_taking_over() {
    let (host, ctx) = standby_2003();
    assert_eq!(Exchange::assess(&ctx).unwrap(), []);
    host.service("RESvc", FakeService::missing());
    host.service("SMTPSVC", FakeService { start_type: StartType::Disabled, ..FakeService::stopped() });
    host.service("MSExchangeIS", FakeService { start_type: StartType::Automatic, ..FakeService::stopped() });
    host.service("MSExchangeMTA", FakeService::missing());
    let found = Exchange::assess(&ctx).unwrap();
    let found: Vec<(Weight, &str)> = found.iter().map(|finding| (finding.weight, finding.code.as_str())).collect();
    let expected = [
        (Weight::Warning, "starts-by-itself"),
        (Weight::Blocking, "no-such-service"),
        (Weight::Blocking, "service-disabled"),
    ];
    assert_eq!(found, expected);
}
