//! What checks say of what clients find, against scripted servers.

mod world;

use std::time::Duration;

use mainstay_kit_exchange::{Exchange, ExchangeParams};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Answer, Call, FakeHost, FakeService, Operation};
use proptest::prelude::*;
use serde_json::{Value, json};
use world::{context, detail};

const PROTOCOLS: [(&str, u16, &str); 4] = [
    ("smtp", 25, "220 mail ready\r\n"),
    ("pop3", 110, "+OK ready\r\n"),
    ("imap", 143, "* OK ready\r\n"),
    ("http", 80, ""),
];

/// A server with one service that runs.
fn serving(protocols: Value) -> (FakeHost, Context<ExchangeParams>) {
    serving_with(json!({ "protocols": protocols }))
}

fn serving_with(mut params: Value) -> (FakeHost, Context<ExchangeParams>) {
    let host = FakeHost::install();
    host.service("mail", FakeService::running());
    params["services"] = json!(["mail"]);
    let ctx = context(&host, "2019", params);
    (host, ctx)
}

#[track_caller]
fn quick(ctx: &Context<ExchangeParams>, health: Health, code: &str) -> Report {
    let report = Exchange::quick_check(ctx).expect("a report");
    assert_eq!((report.health, report.code.as_str()), (health, code), "{report:?}");
    report
}

#[track_caller]
fn deep(ctx: &Context<ExchangeParams>, health: Health, code: &str) -> Report {
    let report = Exchange::deep_check(ctx).expect("a report");
    assert_eq!((report.health, report.code.as_str()), (health, code), "{report:?}");
    report
}

/// The web server's answer to every request.
fn web(host: &FakeHost, port: u16, answer: &'static str) {
    host.tcp("127.0.0.1", port, move |said: &mut Vec<u8>| {
        assert!(said.ends_with(b"\r\n\r\n"), "a whole request at once");
        Answer::bytes(answer).then_close()
    });
}

#[test]
fn a_server_that_greets_is_healthy() {
    for bytes in [1, 4_096] {
        let (host, ctx) = serving(json!({ "smtp": {}, "pop3": {}, "imap": {}, "http": {} }));
        for (_, port, greeting) in PROTOCOLS {
            world::greets(&host, port, greeting);
        }
        web(&host, 80, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK");
        host.tcp_read_max(bytes);
        let report = quick(&ctx, Health::Healthy, "ok");
        for (name, ..) in PROTOCOLS {
            assert!(detail(&report.details, name).unwrap().starts_with("well"), "{report:?}");
        }
        host.assert_declared::<Exchange>();
    }
}

#[test]
fn every_wrong_greeting_is_told() {
    let cases = [
        ("smtp", 25, "220-first\r\n220 second\r\n", None),
        ("smtp", 25, "421 too busy\r\n", Some("greeting")),
        ("smtp", 25, "554 go away\r\n", Some("greeting")),
        ("smtp", 25, "220-first\r\n554 second\r\n", Some("greeting")),
        ("smtp", 25, "2200 ready\r\n", Some("greeting")),
        ("smtp", 25, "* OK IMAP here\r\n", Some("greeting")),
        ("smtp", 25, "\r\n", Some("greeting")),
        ("smtp", 25, "SSH-2.0-OpenSSH_9\r\n", Some("greeting")),
        ("smtp", 25, "\u{e9}\u{e9}\u{e9}\u{e9}\r\n", Some("greeting")),
        ("pop3", 110, "+OK\r\n", None),
        ("pop3", 110, "+OKAY\r\n", Some("greeting")),
        ("pop3", 110, "-ERR not now\r\n", Some("greeting")),
        ("imap", 143, "* PREAUTH hello\r\n", None),
        ("imap", 143, "* BYE not now\r\n", Some("greeting")),
        ("imap", 143, "220 smtp here\r\n", Some("greeting")),
    ];
    for (name, port, greeting, wrong) in cases {
        let (host, ctx) = serving(json!({ name: {} }));
        world::greets(&host, port, greeting);
        match wrong {
            None => drop(quick(&ctx, Health::Healthy, "ok")),
            Some(what) => {
                let report = quick(&ctx, Health::Failed, &format!("{name}-{what}"));
                assert!(report.summary.contains(&format!("127.0.0.1:{port} greets with")), "{report:?}");
            }
        }
    }
}

#[test]
fn a_server_that_is_not_there_hangs_or_closes_is_told_apart() {
    for (name, port, greeting) in PROTOCOLS {
        let (host, ctx) = serving(json!({ name: {} }));
        host.fail(Operation::TcpConnect, Fault::new(FaultKind::Unavailable, "unreachable", "connection refused"));
        quick(&ctx, Health::Failed, &format!("{name}-down"));

        host.fail(Operation::TcpConnect, Fault::new(FaultKind::Timeout, "timeout", "nothing within 5000 ms"));
        quick(&ctx, Health::Unknown, &format!("{name}-no-answer"));

        host.tcp("127.0.0.1", port, |_: &mut Vec<u8>| ());
        let report = quick(&ctx, Health::Unknown, &format!("{name}-no-answer"));
        assert_eq!(detail(&report.details, "timed-out"), Some("true"));
        assert!(report.summary.contains("did not answer within 5000 ms"), "{report:?}");

        let begun = if greeting.is_empty() { "HTTP/1.1 20" } else { &greeting[..3] };
        host.tcp_greeting("127.0.0.1", port, Answer::bytes(begun), |_: &mut Vec<u8>| ());
        let report = quick(&ctx, Health::Unknown, &format!("{name}-no-answer"));
        assert!(report.summary.contains(begun.trim()), "{report:?}");

        host.tcp_greeting("127.0.0.1", port, Answer::nothing().then_close(), |_: &mut Vec<u8>| {
            Answer::nothing().then_close()
        });
        // Writing to a connection that was closed says so too.
        quick(&ctx, Health::Failed, &format!("{name}-closed"));

        let broken = Answer::nothing().then_fault(Fault::new(FaultKind::Closed, "broken", "reset by peer"));
        host.tcp_greeting("127.0.0.1", port, broken, |_: &mut Vec<u8>| ());
        quick(&ctx, Health::Failed, &format!("{name}-closed"));
    }
}

#[test]
fn what_is_not_granted_or_not_resolved_says_nothing_of_the_server() {
    let (host, ctx) = serving(json!({ "smtp": {} }));
    assert_eq!(Exchange::quick_check(&ctx).unwrap_err().code, "not-granted");
    host.fail(Operation::TcpConnect, Fault::new(FaultKind::NotFound, "no-such-host", "mail has no address"));
    assert_eq!(Exchange::quick_check(&ctx).unwrap_err().code, "no-such-host");
}

#[test]
fn the_worst_counts_and_all_are_told() {
    let (host, ctx) = serving(json!({ "smtp": {}, "pop3": {}, "imap": {} }));
    world::greets(&host, 25, "220 mail ready\r\n");
    host.tcp("127.0.0.1", 110, |_: &mut Vec<u8>| ());
    world::greets(&host, 143, "* BYE\r\n");
    let report = quick(&ctx, Health::Failed, "imap-greeting");
    assert!(detail(&report.details, "pop3").unwrap().contains("did not answer"));
    assert_eq!(detail(&report.details, "timed-out"), None, "the failure counts, not the silence");
}

#[test]
fn all_that_hang_share_the_time_there_is() {
    let (host, ctx) = serving(json!({ "smtp": {}, "pop3": {}, "imap": {}, "http": {} }));
    for (_, port, _) in PROTOCOLS {
        host.tcp("127.0.0.1", port, |_: &mut Vec<u8>| ());
    }
    host.set_budget(Duration::from_secs(10));
    quick(&ctx, Health::Unknown, "smtp-no-answer");
    host.set_budget(Duration::from_secs(1));
    quick(&ctx, Health::Unknown, "smtp-no-answer");
}

#[test]
fn answers_without_end_end() {
    let (host, ctx) = serving(json!({ "smtp": {} }));
    world::greets(&host, 25, &"x".repeat(100_000));
    quick(&ctx, Health::Failed, "smtp-greeting");
    world::greets(&host, 25, &"220-x\r\n".repeat(10_000));
    quick(&ctx, Health::Failed, "smtp-transaction");
    drop(host);
    let (host, ctx) = serving(json!({ "http": {} }));
    host.tcp("127.0.0.1", 80, |_: &mut Vec<u8>| {
        format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(50_000)).into_bytes()
    });
    quick(&ctx, Health::Failed, "http-greeting");
    host.tcp("127.0.0.1", 80, |_: &mut Vec<u8>| format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(50_000)).into_bytes());
    quick(&ctx, Health::Failed, "http-greeting");
}

#[test]
fn the_page_says_whether_the_web_server_serves() {
    let cases = [
        ("2019", "HTTP/1.1 200 OK\r\n\r\n", None, "GET /owa/healthcheck.htm HTTP/1.1\r\nHost: localhost\r\n"),
        ("2019", "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", Some("http-transaction"), "GET "),
        ("2019", "HTTP/1.1 503 Service Unavailable\r\n\r\n", Some("http-transaction"), "GET "),
        ("2003", "HTTP/1.1 401 Unauthorized\r\n\r\n", None, "GET /exchange/ HTTP/1.1\r\n"),
        ("2003", "HTTP/1.1 403 Forbidden\r\n\r\n", Some("http-transaction"), "GET "),
        ("2010", "HTTP/1.1 302 Found\r\n\r\n", None, "GET /owa/ HTTP/1.1\r\n"),
        ("2019", "SSH-2.0-OpenSSH_9\r\n", Some("http-greeting"), "GET "),
    ];
    for (version, answer, code, begin) in cases {
        let host = FakeHost::install();
        host.service("mail", FakeService::running());
        let ctx = context(&host, version, json!({ "services": ["mail"], "protocols": { "http": {} } }));
        web(&host, 80, answer);
        match code {
            None => drop(quick(&ctx, Health::Healthy, "ok")),
            Some(code) => drop(quick(&ctx, Health::Failed, code)),
        }
        let write = host
            .calls()
            .into_iter()
            .find_map(|call| if let Call::TcpWrite { data, .. } = call { Some(data) } else { None });
        let request = String::from_utf8(write.unwrap()).unwrap();
        assert!(request.starts_with(begin), "{request}");
    }
    let (host, ctx) =
        serving(json!({ "http": { "path": "/ready", "statuses": [204], "server-name": "mail.example.org" } }));
    web(&host, 80, "HTTP/1.1 204 No Content\r\n\r\n");
    quick(&ctx, Health::Healthy, "ok");
}

#[test]
fn tls_comes_first_where_it_is_implicit() {
    for (name, secure) in [("smtp", 465), ("pop3", 995), ("imap", 993), ("http", 443)] {
        let greeting = PROTOCOLS.iter().find(|(of, ..)| *of == name).unwrap().2;
        let (host, ctx) =
            serving(json!({ name: { "tls": "implicit", "server-name": "mail.example.org", "trust": "ca" } }));
        host.secret("ca", "pem");
        if name == "http" {
            web(&host, 443, "HTTP/1.1 200 OK\r\n\r\n");
        } else {
            world::greets(&host, secure, greeting);
        }
        quick(&ctx, Health::Healthy, "ok");
        let secured = host
            .calls()
            .into_iter()
            .find_map(|call| if let Call::TcpStartTls { tls, .. } = call { Some(tls) } else { None });
        let tls = secured.unwrap();
        assert_eq!((tls.server_name.as_str(), tls.trust.as_deref()), ("mail.example.org", Some("ca")));

        for (kind, code, health, what) in [
            (FaultKind::Failed, "tls-certificate", Health::Degraded, "certificate"),
            (FaultKind::Closed, "tls-closed", Health::Failed, "tls"),
            (FaultKind::Failed, "tls", Health::Failed, "tls"),
            (FaultKind::Timeout, "timeout", Health::Unknown, "no-answer"),
        ] {
            host.fail(Operation::TcpStartTls, Fault::new(kind, code, "so it is"));
            quick(&ctx, health, &format!("{name}-{what}"));
        }
        host.fail(Operation::TcpStartTls, Fault::new(FaultKind::Failed, "tls-trust", "no PEM"));
        assert_eq!(Exchange::quick_check(&ctx).unwrap_err().code, "tls-trust", "the secret is wrong, not the server");
    }
}

/// A server that answers line by line: the line, and what it says to it.
fn dialogue(host: &FakeHost, port: u16, greeting: &str, lines: &'static [(&str, &str)]) {
    let mut at = 0;
    host.tcp_greeting("127.0.0.1", port, Answer::bytes(greeting), move |said: &mut Vec<u8>| {
        let mut answer = String::new();
        while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = said.drain(..=end).collect();
            let line = String::from_utf8(line).expect("the kit writes text");
            let (expected, reply) = lines[at];
            assert_eq!(line, format!("{expected}\r\n"));
            at = (at + 1) % lines.len();
            answer.push_str(reply);
        }
        answer.into_bytes()
    });
}

#[test]
fn smtp_goes_through_a_whole_session() {
    let (host, ctx) = serving(json!({ "smtp": {} }));
    dialogue(&host, 25, "220 hi\r\n", &[("EHLO localhost", "250-hi\r\n250 SIZE\r\n"), ("QUIT", "221 bye\r\n")]);
    deep(&ctx, Health::Healthy, "ok");
    dialogue(&host, 25, "220 hi\r\n", &[("EHLO localhost", "502 no\r\n")]);
    deep(&ctx, Health::Failed, "smtp-transaction");
    dialogue(&host, 25, "220 hi\r\n", &[("EHLO localhost", "250-hi\r\n")]);
    deep(&ctx, Health::Unknown, "smtp-no-answer");

    drop(host);
    let (host, ctx) = serving(json!({ "smtp": { "tls": "start-tls" } }));
    dialogue(
        &host,
        25,
        "220 hi\r\n",
        &[
            ("EHLO localhost", "250-hi\r\n250 STARTTLS\r\n"),
            ("STARTTLS", "220 go on\r\n"),
            ("EHLO localhost", "250 hi\r\n"),
            ("QUIT", "221 bye\r\n"),
        ],
    );
    deep(&ctx, Health::Healthy, "ok");
    dialogue(&host, 25, "220 hi\r\n", &[("QUIT", "221 bye\r\n")]);
    quick(&ctx, Health::Healthy, "ok");
    dialogue(&host, 25, "220 hi\r\n", &[("EHLO localhost", "250 hi\r\n")]);
    deep(&ctx, Health::Failed, "smtp-tls");
    // What is said before TLS would be taken for what comes through it.
    dialogue(
        &host,
        25,
        "220 hi\r\n",
        &[("EHLO localhost", "250 STARTTLS\r\n"), ("STARTTLS", "220 go on\r\n250 injected\r\n")],
    );
    deep(&ctx, Health::Failed, "smtp-tls");
}

fn with_mailbox(protocol: &str, tls: &str) -> (FakeHost, Context<ExchangeParams>) {
    let (host, ctx) = serving_with(json!({
        "protocols": { protocol: { "tls": tls } },
        "test-mailbox": { "user": "probe@example.org", "secret": "probe" },
    }));
    host.secret("probe", "s e\"c\\ret");
    (host, ctx)
}

#[test]
fn pop3_logs_in_and_counts() {
    let (host, ctx) = with_mailbox("pop3", "none");
    const LOGIN: (&str, &str) = ("USER probe@example.org", "+OK\r\n");
    dialogue(
        &host,
        110,
        "+OK\r\n",
        &[
            ("CAPA", "+OK\r\nUSER\r\nSTLS\r\n.\r\n"),
            LOGIN,
            ("PASS s e\"c\\ret", "+OK\r\n"),
            ("STAT", "+OK 0 0\r\n"),
            ("QUIT", "+OK\r\n"),
        ],
    );
    deep(&ctx, Health::Healthy, "ok");
    dialogue(
        &host,
        110,
        "+OK\r\n",
        &[
            ("CAPA", "-ERR unknown\r\n"),
            LOGIN,
            ("PASS s e\"c\\ret", "-ERR Logon failure: unknown user name or bad password.\r\n"),
        ],
    );
    let report = deep(&ctx, Health::Degraded, "pop3-login");
    assert!(report.summary.contains("does not let probe@example.org in"), "{report:?}");
    dialogue(
        &host,
        110,
        "+OK\r\n",
        &[("CAPA", "-ERR unknown\r\n"), LOGIN, ("PASS s e\"c\\ret", "-ERR [SYS/TEMP] the store is not available\r\n")],
    );
    deep(&ctx, Health::Failed, "pop3-transaction");
    dialogue(&host, 110, "+OK\r\n", &[("CAPA", "+OK\r\nSTLS\r\n.\r\n")]);
    deep(&ctx, Health::Degraded, "pop3-tls-required");

    drop(host);
    let (host, ctx) = with_mailbox("pop3", "start-tls");
    dialogue(
        &host,
        110,
        "+OK\r\n",
        &[("STLS", "+OK\r\n"), LOGIN, ("PASS s e\"c\\ret", "+OK\r\n"), ("STAT", "+OK 0 0\r\n"), ("QUIT", "+OK\r\n")],
    );
    deep(&ctx, Health::Healthy, "ok");
}

#[test]
fn imap_logs_in_and_looks_without_a_trace() {
    const CAPABILITY: (&str, &str) = ("a2 CAPABILITY", "* CAPABILITY IMAP4rev1\r\na2 OK\r\n");
    const USER: (&str, &str) = ("a3 LOGIN {17}", "+ go on\r\n");
    const PASSWORD: (&str, &str) = ("probe@example.org {9}", "+ go on\r\n");
    let (host, ctx) = with_mailbox("imap", "none");
    dialogue(
        &host,
        143,
        "* OK hi\r\n",
        &[
            CAPABILITY,
            USER,
            PASSWORD,
            ("s e\"c\\ret", "* CAPABILITY IMAP4rev1\r\na3 OK in\r\n"),
            ("a4 EXAMINE INBOX", "* 3 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\na4 OK [READ-ONLY] done\r\n"),
            ("a5 LOGOUT", "* BYE\r\na5 OK\r\n"),
        ],
    );
    deep(&ctx, Health::Healthy, "ok");
    dialogue(&host, 143, "* OK hi\r\n", &[CAPABILITY, USER, PASSWORD, ("s e\"c\\ret", "a3 NO LOGIN failed.\r\n")]);
    deep(&ctx, Health::Degraded, "imap-login");
    dialogue(&host, 143, "* OK hi\r\n", &[CAPABILITY, ("a3 LOGIN {17}", "a3 BAD no literals\r\n")]);
    deep(&ctx, Health::Degraded, "imap-login");
    dialogue(
        &host,
        143,
        "* OK hi\r\n",
        &[CAPABILITY, USER, PASSWORD, ("s e\"c\\ret", "a3 NO [UNAVAILABLE] later\r\n")],
    );
    deep(&ctx, Health::Failed, "imap-transaction");
    dialogue(
        &host,
        143,
        "* OK hi\r\n",
        &[
            CAPABILITY,
            USER,
            PASSWORD,
            ("s e\"c\\ret", "a3 OK\r\n"),
            ("a4 EXAMINE INBOX", "a4 NO the mailbox store is not there\r\n"),
        ],
    );
    deep(&ctx, Health::Failed, "imap-transaction");
    dialogue(
        &host,
        143,
        "* OK hi\r\n",
        &[("a2 CAPABILITY", "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\na2 OK\r\n")],
    );
    let report = deep(&ctx, Health::Degraded, "imap-tls-required");
    assert!(report.summary.contains("tls = \"start-tls\""), "{report:?}");

    drop(host);
    let (host, ctx) = with_mailbox("imap", "start-tls");
    dialogue(&host, 143, "* OK hi\r\n", &[("a1 STARTTLS", "a1 NO not here\r\n")]);
    deep(&ctx, Health::Failed, "imap-tls");
}

#[test]
fn a_password_never_shows() {
    let (host, ctx) = with_mailbox("imap", "none");
    // Whatever goes wrong, and even if the server says it back.
    dialogue(
        &host,
        143,
        "* OK hi\r\n",
        &[
            ("a2 CAPABILITY", "a2 OK\r\n"),
            ("a3 LOGIN {17}", "+\r\n"),
            ("probe@example.org {9}", "+\r\n"),
            ("s e\"c\\ret", "a3 NO LOGIN failed\r\n"),
        ],
    );
    let report = Exchange::deep_check(&ctx).unwrap();
    assert!(!format!("{report:?}{:?}", host.logged()).contains("c\\\\ret"));
    host.secret("probe", "two\nlines");
    assert_eq!(Exchange::deep_check(&ctx).unwrap_err().code, "mailbox-secret");
    let found = Exchange::assess(&ctx).unwrap();
    assert_eq!((found.len(), found[0].weight, found[0].code.as_str()), (1, Weight::Warning, "mailbox-secret"));
}

#[test]
fn a_restore_ends_when_all_of_it_greets() {
    let host = FakeHost::install();
    host.service("mail", FakeService::stopped());
    let params = json!({ "services": ["mail"], "protocols": { "smtp": {} }, "greet-within": "20s" });
    let ctx = context(&host, "2019", params);
    let refused = || Fault::new(FaultKind::Unavailable, "unreachable", "connection refused");
    world::greets(&host, 25, "220 mail ready\r\n");
    for _ in 0..3 {
        host.fail(Operation::TcpConnect, refused());
    }
    assert!(Exchange::restore(&ctx).unwrap().changed);
    let sleeps = host.calls().iter().filter(|call| matches!(call, Call::ClockSleep { .. })).count();
    assert_eq!(sleeps, 3);

    world::greets(&host, 25, "421 no\r\n");
    let error = Exchange::restore(&ctx).unwrap_err();
    assert_eq!((error.kind, error.code.as_str(), error.effect), (ErrorKind::Timeout, "smtp-greeting", Effect::Partial));
    assert!(error.message.contains("its services run, and SMTP at 127.0.0.1:25"), "{error}");
}

proptest! {
    #[test]
    fn no_greeting_and_no_answer_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), answers in proptest::collection::vec("[ -~]{0,12}\r\n", 0..6)) {
        for (name, port, greeting) in PROTOCOLS {
            let (host, ctx) = match name {
                "smtp" => serving(json!({ "smtp": {} })),
                "http" => continue,
                _ => with_mailbox(name, "none"),
            };
            host.tcp_greeting("127.0.0.1", port, Answer::bytes(bytes.clone()).then_close(), |_: &mut Vec<u8>| ());
            prop_assert!(Exchange::deep_check(&ctx).is_ok());
            let mut answers = answers.clone().into_iter();
            host.tcp_greeting("127.0.0.1", port, Answer::bytes(greeting), move |_: &mut Vec<u8>| {
                answers.next().map(String::into_bytes)
            });
            prop_assert!(Exchange::deep_check(&ctx).is_ok());
        }
        let (host, ctx) = serving(json!({ "http": {} }));
        host.tcp("127.0.0.1", 80, move |_: &mut Vec<u8>| Answer::bytes(bytes.clone()).then_close());
        prop_assert!(Exchange::quick_check(&ctx).is_ok());
    }
}
