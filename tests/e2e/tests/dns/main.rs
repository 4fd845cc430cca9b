//! The DNS kit against real name servers: what it does is seen by `dig` and `kdig`, what it is refused it tells.
//!
//! The shipped component runs in the real runtime. Each test starts servers of its own on loopback. Every
//! story is told to BIND and to Knot, which word their refusals differently.

mod node;
mod servers;

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_runtime::{Effect, ErrorKind, Health, KitError, Operation, Retry, Verdict};
use mainstay_test_e2e::caller::Caller;
use mainstay_test_support::{Guard, Port, WAIT_LIMIT, kit, require_or_skip};
use node::{KIT_VARIABLE, WRONG_SECRET, for_server, granted, params, params_at};
use serde_json::{Value, json};
use servers::{KEYS, Kind, NameServer, POWERLESS_KEY, REVERSE, Takes, ZONE};

const MAIL: &str = "mail.example.org";
/// How far a wrong clock is off, in s.
const CLOCK_OFF_S: u64 = 4_000;
/// Names the server, for a node in a process of its own.
const SERVER_VARIABLE: &str = "MAINSTAY_TEST_DNS_SERVER";

/// Each story for each server.
macro_rules! told_to_each {
    ($($story:ident),* $(,)?) => {
        mod bind { $( #[test] fn $story() { super::$story(super::Kind::Bind); } )* }
        mod knot { $( #[test] fn $story() { super::$story(super::Kind::Knot); } )* }
    };
}

told_to_each![
    an_update_is_seen_by_others,
    every_type_is_written,
    every_algorithm_signs,
    another_nodes_values_are_replaced_and_never_deleted,
    a_name_that_is_kept_is_never_missing,
    forward_and_reverse_zone_move_together,
    what_somebody_changed_is_seen_and_mended,
    a_wrong_key_is_told,
    a_clock_that_is_wrong_is_told_with_both_times,
    without_a_key_it_depends_on_the_server,
    a_wrong_zone_is_told,
    an_answer_too_long_for_a_datagram_comes_by_tcp,
    what_is_in_the_way_is_told_and_left,
    a_server_killed_in_between_is_told_and_what_it_took_is_there_again,
    the_next_server_does_it_when_the_first_is_dead,
];

#[track_caller]
fn is(error: &KitError, kind: ErrorKind, code: &str, retry: Retry, effect: Effect) {
    assert_eq!((error.kind, error.code.as_str(), error.retry, error.effect), (kind, code, retry, effect), "{error}");
}

#[track_caller]
fn says(error: &KitError, words: &str) {
    assert!(error.message.contains(words), "expected {words:?} in {:?}", error.message);
}

#[track_caller]
fn healthy(node: &Caller, params: &Value) {
    let report = node.check(params);
    assert_eq!((report.health, report.code.as_str()), (Health::Healthy, "ok"), "{report:?}");
}

fn an_update_is_seen_by_others(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let params = params(&server, json!({}));
    assert_eq!(server.ask(MAIL, "A"), [""; 0]);
    assert_eq!(node.check(&params).health, Health::Stopped);

    let done = node.restore(&params);
    assert!(done.changed, "{done:?}");
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"]);
    assert_eq!(server.ttl_s(MAIL, "A"), Some(30));
    healthy(&node, &params);
    assert!(!node.restore(&params).changed, "what is in service is not written again");

    assert!(node.remove(&params).changed);
    assert_eq!(server.ask(MAIL, "A"), [""; 0]);
    assert_eq!(node.check(&params).health, Health::Stopped);
    assert!(!node.remove(&params).changed);
}

fn every_type_is_written(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let params = params(
        &server,
        json!({ "ttl": "2m", "records": {
            "@": { "type": "MX", "values": ["10 mail.example.org", "20 old.example.org"] },
            "mail": { "type": "A", "values": ["192.0.2.10", "192.0.2.11"] },
            "mail-v6": { "name": "mail", "type": "AAAA", "values": ["2001:db8::10"] },
            "www": { "type": "CNAME", "values": ["mail.example.org"] },
            "_sip._tcp": { "type": "SRV", "values": ["0 5 5060 mail.example.org"] },
            "text": { "type": "TXT", "values": ["v=spf1 -all", "x".repeat(300)], "ttl": "1h" },
        } }),
    );
    node.restore(&params);
    assert_eq!(server.ask(ZONE, "MX"), ["10 mail.example.org.", "20 old.example.org."]);
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10", "192.0.2.11"]);
    assert_eq!(server.ask(MAIL, "AAAA"), ["2001:db8::10"]);
    assert_eq!(server.ask("www.example.org", "CNAME"), ["mail.example.org."]);
    assert_eq!(server.ask("_sip._tcp.example.org", "SRV"), ["0 5 5060 mail.example.org."]);
    let long = format!("\"{}\" \"{}\"", "x".repeat(255), "x".repeat(45));
    assert_eq!(server.ask("text.example.org", "TXT"), ["\"v=spf1 -all\"".to_owned(), long]);
    assert_eq!((server.ttl_s(MAIL, "A"), server.ttl_s("text.example.org", "TXT")), (Some(120), Some(3_600)));
    healthy(&node, &params);
    assert!(!node.restore(&params).changed);
    node.remove(&params);
    assert_eq!(node.check(&params).health, Health::Stopped);
}

fn every_algorithm_signs(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    for (index, (name, algorithm, _)) in KEYS.into_iter().enumerate() {
        let address = format!("192.0.2.{index}");
        let params = params(
            &server,
            json!({
                "key": { "name": name, "algorithm": algorithm, "secret": name },
                "records": { "mail": { "type": "A", "values": [address] } },
            }),
        );
        assert!(node.restore(&params).changed, "{algorithm}");
        assert_eq!(server.ask(MAIL, "A"), [address]);
    }
}

fn another_nodes_values_are_replaced_and_never_deleted(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let (one, two) = (for_server(&server), for_server(&server));
    let ones = params(&server, json!({}));
    let twos = params(&server, json!({ "records": { "mail": { "type": "A", "values": ["198.51.100.10"] } } }));
    one.restore(&ones);
    two.restore(&twos);
    assert_eq!(server.ask(MAIL, "A"), ["198.51.100.10"]);
    let report = one.check(&ones);
    assert_eq!(
        (report.health, report.summary.as_str()),
        (Health::Stopped, "mail.example.org A points elsewhere: 198.51.100.10")
    );
    healthy(&two, &twos);

    let done = one.remove(&ones);
    assert_eq!((done.changed, done.summary.as_str()), (false, "not this node's any more: mail.example.org A"));
    assert_eq!(server.ask(MAIL, "A"), ["198.51.100.10"], "it is somebody else's");

    // Its own value beside another is not exactly its own, either.
    let both =
        params(&server, json!({ "records": { "mail": { "type": "A", "values": ["192.0.2.10", "198.51.100.10"] } } }));
    two.restore(&both);
    assert!(!one.remove(&ones).changed);
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10", "198.51.100.10"]);
    let report = one.check(&ones);
    assert_eq!((report.health, report.code.as_str()), (Health::Failed, "mixed"), "{report:?}");
}

fn a_name_that_is_kept_is_never_missing(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let (one, two) = (for_server(&server), for_server(&server));
    let ones = params(&server, json!({ "on-remove": "keep" }));
    let twos = params(
        &server,
        json!({ "on-remove": "keep", "records": { "mail": { "type": "A", "values": ["198.51.100.10"] } } }),
    );
    one.restore(&ones);
    assert!(one.remove(&ones).changed);
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"]);
    let report = one.check(&ones);
    assert_eq!((report.health, report.code.as_str()), (Health::Stopped, "kept"), "{report:?}");
    two.restore(&twos);
    assert_eq!(server.ask(MAIL, "A"), ["198.51.100.10"]);
    two.remove(&twos);
    one.restore(&ones);
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"]);
    healthy(&one, &ones);
    assert_eq!(two.check(&twos).code, "kept");
}

fn forward_and_reverse_zone_move_together(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let params = params(
        &server,
        json!({ "zone": null, "records": null, "zones": {
            ZONE: { "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } } },
            REVERSE: { "records": { "10": { "type": "PTR", "values": ["mail.example.org"] } } },
        } }),
    );
    node.restore(&params);
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"]);
    assert_eq!(server.ask("10.2.0.192.in-addr.arpa", "PTR"), ["mail.example.org."]);
    healthy(&node, &params);
    node.remove(&params);
    assert_eq!((server.ask(MAIL, "A"), server.ask("10.2.0.192.in-addr.arpa", "PTR")), (vec![], vec![]));
}

fn what_somebody_changed_is_seen_and_mended(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let (node, somebody) = (for_server(&server), for_server(&server));
    let ours = params(&server, json!({}));
    node.restore(&ours);
    somebody.restore(&params(&server, json!({ "ttl": "1h" })));
    let report = node.check(&ours);
    assert_eq!((report.health, report.code.as_str()), (Health::Degraded, "ttl"), "{report:?}");
    assert_eq!(node.recover(&ours).verdict, Verdict::Recovered);
    assert_eq!(server.ttl_s(MAIL, "A"), Some(30));

    somebody.restore(&params(&server, json!({ "records": { "mail": { "type": "A", "values": ["203.0.113.1"] } } })));
    assert_eq!(node.check(&ours).health, Health::Stopped);
    assert_eq!(node.recover(&ours).verdict, Verdict::Recovered);
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"]);
    assert_eq!(node.recover(&ours).verdict, Verdict::Recovered, "what has healed is recovered");
}

fn a_wrong_key_is_told(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let (good, ..) = KEYS[0];
    let with = |name: &str, algorithm: &str, secret: &str| {
        params(&server, json!({ "key": { "name": name, "algorithm": algorithm, "secret": secret } }))
    };
    let error = node.error(Operation::Restore, &with("other-key", "hmac-sha256", good));
    is(&error, ErrorKind::Denied, "bad-key", Retry::Nowhere, Effect::None);
    says(&error, "does not accept the key other-key (hmac-sha256) (BADKEY)");

    let error = node.error(Operation::Restore, &with(good, "hmac-sha512", good));
    is(&error, ErrorKind::Denied, "bad-key", Retry::Nowhere, Effect::None);
    says(&error, "ms-key (hmac-sha512)");

    let error = node.error(Operation::Restore, &with(good, "hmac-sha256", WRONG_SECRET));
    is(&error, ErrorKind::Denied, "bad-signature", Retry::Elsewhere, Effect::None);
    says(&error, "finds the signature by the key ms-key (hmac-sha256) wrong (BADSIG)");

    let (powerless, ..) = POWERLESS_KEY;
    let error = node.error(Operation::Restore, &with(powerless, "hmac-sha256", powerless));
    match kind {
        Kind::Bind => is(&error, ErrorKind::Denied, "refused", Retry::Elsewhere, Effect::None),
        // Knot says of a key that may not what others say of one they do not know.
        Kind::Knot => is(&error, ErrorKind::Denied, "bad-key", Retry::Nowhere, Effect::None),
    }

    assert_eq!(server.ask(MAIL, "A"), [""; 0]);
    let error = node.error(Operation::Remove, &with(good, "hmac-sha256", WRONG_SECRET));
    assert_eq!(error.code, "bad-signature", "a remove that was refused is no remove: {error}");
}

/// It is the node whose clock is wrong, in a process of its own under faketime: BIND does not start there
/// (jemalloc, which Debian links it to, asks for the time before libfaketime can tell it).
fn a_clock_that_is_wrong_is_told_with_both_times(kind: Kind) {
    if let Ok(address) = std::env::var(SERVER_VARIABLE) {
        return with_a_wrong_clock(&address);
    }
    let Some(faketime) = require_or_skip("faketime", "apt-get install faketime") else { return };
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let test = format!("{}::a_clock_that_is_wrong_is_told_with_both_times", kind.to_string().to_lowercase());
    for offset in [format!("-{CLOCK_OFF_S}s"), format!("+{CLOCK_OFF_S}s")] {
        let mut node = Command::new(&faketime);
        node.args(["-f", &offset]).arg(std::env::current_exe().expect("this test's file"));
        node.args(["--exact", &test, "--nocapture"]);
        node.env(SERVER_VARIABLE, server.address()).env(KIT_VARIABLE, kit("dns"));
        // Waits are measured by the monotonic clock, and have to end.
        node.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let mut node = Guard::start("a node whose clock is wrong", &mut node).unwrap_or_else(|error| panic!("{error}"));
        let status = node.wait(WAIT_LIMIT);
        let output = node.output();
        assert!(status.is_some_and(|status| status.success()), "{offset}: {status:?}: {output}");
        assert!(output.contains("1 passed"), "{offset}: {output}");
        assert_eq!(server.ask(MAIL, "A"), [""; 0]);
    }
}

fn with_a_wrong_clock(address: &str) {
    let node = granted(&[address.to_owned()]);
    let params = params_at(address, json!({}));
    assert_eq!(node.check(&params).health, Health::Stopped, "a question has no clock");
    let error = node.error(Operation::Restore, &params);
    is(&error, ErrorKind::Failed, "bad-time", Retry::Elsewhere, Effect::None);
    says(&error, "has another time (BADTIME): its clock says ");
    says(&error, " UTC, this node's ");
    // A second may pass between one clock and the other.
    let apart = |by: u64| error.message.contains(&format!("{by} s apart"));
    assert!(apart(CLOCK_OFF_S) || apart(CLOCK_OFF_S - 1) || apart(CLOCK_OFF_S + 1), "{error}");
}

fn without_a_key_it_depends_on_the_server(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let unsigned = params(&server, json!({ "key": null }));
    let error = for_server(&server).error(Operation::Restore, &unsigned);
    match kind {
        Kind::Bind => is(&error, ErrorKind::Denied, "refused", Retry::Elsewhere, Effect::None),
        Kind::Knot => is(&error, ErrorKind::Failed, "not-auth", Retry::Nowhere, Effect::None),
    }
    says(&error, "it wants a key");
    assert_eq!(server.ask(MAIL, "A"), [""; 0]);

    let Some(server) = NameServer::start(kind, Takes::Local) else { return };
    let node = for_server(&server);
    let unsigned = params(&server, json!({ "key": null }));
    node.restore(&unsigned);
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"]);
    healthy(&node, &unsigned);
    node.remove(&unsigned);
    assert_eq!(server.ask(MAIL, "A"), [""; 0]);
}

fn a_wrong_zone_is_told(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let elsewhere = params(&server, json!({ "zone": "example.com" }));
    for operation in [Operation::QuickCheck, Operation::Restore] {
        let error = node.error(operation, &elsewhere);
        is(&error, ErrorKind::Denied, "refused", Retry::Elsewhere, Effect::None);
        says(&error, "ask for mail.example.com A: ");
        says(&error, "refuses to answer (REFUSED): it does not serve the zone");
    }
    // It answers for the name, and still it is not the zone.
    let below = params(&server, json!({ "zone": "sub.example.org" }));
    let error = node.error(Operation::Restore, &below);
    is(&error, ErrorKind::Failed, "not-auth", Retry::Nowhere, Effect::None);
    says(&error, "update the zone sub.example.org: ");
    says(&error, "(NOTAUTH): the zone's name is wrong");
    let error = node.error(Operation::Remove, &below);
    assert_eq!(error.code, "not-auth", "{error}");
}

fn an_answer_too_long_for_a_datagram_comes_by_tcp(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let texts: Vec<_> = (0..60).map(|index| format!("{index} {}", "x".repeat(200))).collect();
    let params = params(&server, json!({ "records": { "text": { "type": "TXT", "values": texts } } }));
    node.restore(&params);
    assert_eq!(server.ask("text.example.org", "TXT").len(), 60);
    healthy(&node, &params);
    node.remove(&params);
    assert_eq!(server.ask("text.example.org", "TXT"), [""; 0]);
}

fn what_is_in_the_way_is_told_and_left(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let over_a_cname = params(&server, json!({ "records": { "alias": { "type": "A", "values": ["192.0.2.10"] } } }));
    let over_an_address =
        params(&server, json!({ "records": { "old": { "type": "CNAME", "values": ["mail.example.org"] } } }));
    for (params, what) in [(over_a_cname, "a CNAME"), (over_an_address, "A")] {
        let report = node.check(&params);
        assert_eq!((report.health, report.code.as_str()), (Health::Failed, "in-the-way"), "{report:?}");
        let error = node.error(Operation::Restore, &params);
        is(&error, ErrorKind::Conflict, "in-the-way", Retry::Nowhere, Effect::None);
        says(&error, &format!("at that name there is {what}, and"));
    }
    assert_eq!(server.ask("alias.example.org", "CNAME"), ["old.example.org."]);
    assert_eq!(server.ask("old.example.org", "A"), ["198.51.100.99"]);
}

fn a_server_killed_in_between_is_told_and_what_it_took_is_there_again(kind: Kind) {
    let Some(mut server) = NameServer::start(kind, Takes::Signed) else { return };
    let node = for_server(&server);
    let params = params(&server, json!({}));
    node.restore(&params);
    server.kill();
    for operation in [Operation::QuickCheck, Operation::Restore, Operation::Remove] {
        let name = operation.name();
        let error = node.error(operation, &params);
        is(&error, ErrorKind::Unavailable, "unreachable", Retry::Here, Effect::None);
        says(&error, &format!("{} cannot be reached: ", server.address()));
        assert!(error.message.contains("refused"), "{name}: {error}");
    }
    server.run();
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"], "an update that was acknowledged is durable");
    healthy(&node, &params);
    assert!(node.remove(&params).changed);
    assert_eq!(server.ask(MAIL, "A"), [""; 0]);
}

fn the_next_server_does_it_when_the_first_is_dead(kind: Kind) {
    let Some(server) = NameServer::start(kind, Takes::Signed) else { return };
    let nobody = Port::reserve().address().to_string();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let silent = (silent.local_addr().expect("it is bound").to_string(), silent);
    let node = granted(&[nobody.clone(), silent.0.clone(), server.address()]);
    let params = params(&server, json!({ "servers": [nobody, silent.0, server.address()] }));
    let done = node.restore(&params);
    assert!(done.details.contains(&("updated".into(), format!("{ZONE} at {}", server.address()))), "{done:?}");
    assert_eq!(server.ask(MAIL, "A"), ["192.0.2.10"]);
    healthy(&node, &params);
}

#[test]
fn no_server_at_all_is_told_within_the_budget() {
    let nobody = Port::reserve().address().to_string();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let at = silent.local_addr().expect("it is bound").to_string();
    let node = granted(&[nobody.clone(), at.clone()]);
    let params = json!({
        "zone": ZONE, "servers": [nobody, at], "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } },
    });
    let began = Instant::now();
    let outcome = node.call(Operation::QuickCheck, &params, Duration::from_secs(4));
    let mainstay_runtime::Outcome::Error(error) = outcome else {
        panic!("the kit itself has to answer in time: {outcome:?}")
    };
    assert!(began.elapsed() < WAIT_LIMIT, "{:?}", began.elapsed());
    is(&error, ErrorKind::Unavailable, "unreachable", Retry::Here, Effect::Unknown);
    says(&error, &format!("{nobody} cannot be reached: "));
    says(&error, &format!("{at} did not answer within "));
}

#[test]
fn a_server_that_is_not_granted_is_told() {
    let granted = Port::reserve().address().to_string();
    let node = node::granted(std::slice::from_ref(&granted));
    let params = json!({
        "zone": ZONE, "servers": [granted, "192.0.2.53"], "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } },
    });
    let error = node.error(Operation::QuickCheck, &params);
    is(&error, ErrorKind::Denied, "not-granted", Retry::Nowhere, Effect::None);
    says(&error, "192.0.2.53:53 is not granted");
}

#[test]
fn params_that_cannot_be_right_are_told_by_the_schema_with_what_would_be() {
    let node = granted(&[]);
    let problems = node.kit.check_params(&json!({
        "zone": ZONE, "servers": ["192.0.2.53"], "key": { "name": "ms-key", "algorithm": "hmac-md5", "secret": "s" },
        "records": {
            "mail": { "type": "A", "values": ["mail.example.org"], "tll": "30s" },
            "web": { "type": "AAA", "values": [] },
        },
    }));
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for words in [
        "/key/algorithm",
        "/records/mail/values/0",
        "an IPv4 address, such as 192.0.2.10",
        "did you mean `ttl`?",
        "/records/web/type",
        "/records/web/values",
    ] {
        assert!(told.iter().any(|line| line.contains(words)), "{words:?} is not in {told:#?}");
    }
}
