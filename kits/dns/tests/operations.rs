//! What the four operations do to names, against a small server that keeps to the rules.

mod server;

use domain::base::iana::{Rcode, Rtype};
use mainstay_kit_dns::{Dns, DnsParams};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Call, FakeHost, Operation};
use serde_json::{Value, json};
use server::{KEY, SECRET, Server};

const AT: &str = "192.0.2.53";
const MAIL: &str = "mail.example.org";
const OURS: &[u8] = &[192, 0, 2, 10];
const OTHERS: &[u8] = &[198, 51, 100, 10];

fn world() -> (FakeHost, Server) {
    let host = FakeHost::install();
    let server = Server::new();
    server.listen(&host, AT);
    host.secret("dns-key", SECRET);
    (host, server)
}

/// The params of a node, with more or other ones in their place; null takes one away.
fn params(more: Value) -> Value {
    let mut params = json!({
        "zone": "example.org", "servers": [AT], "key": { "name": KEY, "secret": "dns-key" },
        "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } },
    });
    for (key, value) in more.as_object().expect("a table") {
        if value.is_null() {
            params.as_object_mut().expect("a table").remove(key);
        } else {
            params[key] = value.clone();
        }
    }
    params
}

fn context(host: &FakeHost, more: Value) -> Context<DnsParams> {
    host.context(params(more))
}

fn failure() -> Failure {
    Failure { found_by: "quick-check".into(), report: None, bad_checks: 1, details: Vec::new() }
}

fn detail<'a>(details: &'a [(String, String)], key: &str) -> Option<&'a str> {
    details.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

fn check(ctx: &Context<DnsParams>) -> (Health, String, String) {
    let report = Dns::quick_check(ctx).expect("a report");
    (report.health, report.code, report.summary)
}

fn health(ctx: &Context<DnsParams>) -> (Health, String) {
    let (health, code, _) = check(ctx);
    (health, code)
}

#[test]
fn a_name_goes_in_and_out_of_service() {
    let (host, server) = world();
    let ctx = context(&host, json!({ "on-remove": "delete" }));
    assert_eq!(check(&ctx), (Health::Stopped, "stopped".into(), "mail.example.org A is not there".into()));

    let done = Dns::restore(&ctx).unwrap();
    assert!(done.changed);
    assert_eq!(done.summary, "mail.example.org A 192.0.2.10");
    assert_eq!(detail(&done.details, "updated"), Some("example.org at 192.0.2.53:53"));
    assert_eq!(server.values(MAIL, Rtype::A).unwrap(), [OURS]);
    assert_eq!(check(&ctx), (Health::Healthy, "ok".into(), "mail.example.org A 192.0.2.10".into()));

    let done = Dns::remove(&ctx).unwrap();
    assert_eq!((done.changed, done.summary.as_str()), (true, "deleted mail.example.org A"));
    assert_eq!(server.values(MAIL, Rtype::A), None);
    assert_eq!(health(&ctx), (Health::Stopped, "stopped".into()));
    host.assert_declared::<Dns>();
}

#[test]
fn what_is_in_service_is_not_written_again() {
    let (host, server) = world();
    let ctx = context(&host, json!({}));
    Dns::restore(&ctx).unwrap();
    let done = Dns::restore(&ctx).unwrap();
    assert_eq!((done.changed, done.summary.as_str()), (false, "already there: mail.example.org A 192.0.2.10"));
    assert_eq!(server.set(|state| state.update_count), 1);
}

#[test]
fn a_check_sends_no_update_and_needs_no_secret() {
    let (host, server) = world();
    let ctx = context(&host, json!({ "key": { "name": KEY, "secret": "not there" } }));
    Dns::quick_check(&ctx).unwrap();
    assert_eq!(server.set(|state| (state.question_count, state.update_count)), (1, 0));
    assert!(!host.calls().iter().any(|call| call.operation() == Operation::SecretGet));
}

#[test]
fn values_of_another_node_are_replaced_in_one_step() {
    let (host, server) = world();
    server.put(MAIL, Rtype::A, 30, &[OTHERS, &[203, 0, 113, 1]]);
    let ctx = context(&host, json!({}));
    let (health, _, summary) = check(&ctx);
    assert_eq!(health, Health::Stopped);
    assert_eq!(summary, "mail.example.org A points elsewhere: 198.51.100.10, 203.0.113.1");
    assert!(Dns::restore(&ctx).unwrap().changed);
    assert_eq!(server.values(MAIL, Rtype::A).unwrap(), [OURS]);
    assert_eq!(server.set(|state| state.update_count), 1, "deleted and written by one message");
}

#[test]
fn half_of_it_is_a_failure_and_restore_completes_it() {
    let (host, server) = world();
    let two = json!({ "records": {
        "mail": { "type": "A", "values": ["192.0.2.10"] },
        "mail-text": { "name": "mail", "type": "TXT", "values": ["ex01"] },
    } });
    let ctx = context(&host, two);
    server.put(MAIL, Rtype::A, 30, &[OURS]);
    let (health, code, summary) = check(&ctx);
    assert_eq!((health, code.as_str()), (Health::Failed, "mixed"));
    assert_eq!(summary, "only a part points at this node: mail.example.org TXT is not there");
    assert!(Dns::restore(&ctx).unwrap().changed);
    assert_eq!(check(&ctx).0, Health::Healthy);

    server.put(MAIL, Rtype::A, 30, &[OURS, OTHERS]);
    let report = Dns::quick_check(&ctx).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Failed, "mixed"));
    assert_eq!(detail(&report.details, "mail.example.org A"), Some("is partly this node's: 192.0.2.10, 198.51.100.10"));
}

#[test]
fn another_ttl_is_degraded_and_restore_mends_it() {
    let (host, server) = world();
    server.put(MAIL, Rtype::A, 86_400, &[OURS]);
    let ctx = context(&host, json!({}));
    let (health, code, summary) = check(&ctx);
    assert_eq!(
        (health, code.as_str(), summary.as_str()),
        (Health::Degraded, "ttl", "mail.example.org A has a TTL of 86400 s")
    );
    assert!(Dns::restore(&ctx).unwrap().changed);
    assert_eq!(check(&ctx).0, Health::Healthy);
}

#[test]
fn a_server_with_a_mind_of_its_own_about_ttls_is_in_service_with_a_warning() {
    let (host, server) = world();
    server.set(|state| state.ttl_s = Some(60));
    let ctx = context(&host, json!({}));
    assert!(Dns::restore(&ctx).unwrap().changed);
    assert_eq!(host.logged()[0].message, "192.0.2.53:53 gave mail.example.org A a TTL of 60 s instead of 30 s");
    assert_eq!(health(&ctx), (Health::Degraded, "ttl".into()));
}

#[test]
fn a_cname_in_the_way_is_said_and_left_alone() {
    let (host, server) = world();
    server.put(MAIL, Rtype::CNAME, 30, &[b"\x03old\x07example\x03org\0"]);
    let ctx = context(&host, json!({}));
    assert_eq!(
        check(&ctx),
        (Health::Failed, "in-the-way".into(), "mail.example.org A cannot be there beside a CNAME".into())
    );
    let error = Dns::restore(&ctx).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Conflict, "in-the-way"));
    assert_eq!((error.retry, error.effect), (Retry::Nowhere, Effect::None));
    assert_eq!(server.set(|state| state.update_count), 0);
}

#[test]
fn other_records_in_the_way_of_a_cname_are_said() {
    let (host, server) = world();
    server.put(MAIL, Rtype::A, 30, &[OTHERS]);
    let cname = json!({ "records": { "mail": { "type": "CNAME", "values": ["ex01.example.org"] } } });
    let ctx = context(&host, cname);
    assert_eq!(
        check(&ctx),
        (Health::Failed, "in-the-way".into(), "mail.example.org CNAME cannot be there beside A".into())
    );
    assert_eq!(Dns::restore(&ctx).unwrap_err().code, "in-the-way");
    server.set(|state| state.zones[0].replace(MAIL, Rtype::A, 0, Vec::new()));
    assert!(Dns::restore(&ctx).unwrap().changed);
    assert_eq!(check(&ctx).0, Health::Healthy);
}

#[test]
fn every_type_is_written_and_read_back() {
    let (host, _server) = world();
    let ctx = context(
        &host,
        json!({ "records": {
            "@": { "type": "MX", "values": ["10 Mail.Example.ORG", "20 mail2.example.org."] },
            "mail": { "type": "A", "values": ["192.0.2.10", "192.0.2.11"] },
            "mail-v6": { "name": "mail", "type": "AAAA", "values": ["2001:db8::10"] },
            "www": { "type": "CNAME", "values": ["mail.example.org"] },
            "10": { "type": "PTR", "values": ["mail.example.org"] },
            "_sip._tcp": { "type": "SRV", "values": ["0 5 5060 mail.example.org"] },
            "text": { "type": "TXT", "values": ["v=spf1 -all", "x".repeat(400)], "ttl": "1h" },
        } }),
    );
    assert!(Dns::restore(&ctx).unwrap().changed);
    assert_eq!(check(&ctx).0, Health::Healthy);
    assert!(!Dns::restore(&ctx).unwrap().changed);
}

#[test]
fn several_zones_are_one_resource() {
    let (host, server) = world();
    let zones = json!({ "zone": null, "records": null, "on-remove": "delete", "zones": {
        "example.org": { "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } } },
        "2.0.192.in-addr.arpa": { "records": { "10": { "type": "PTR", "values": ["mail.example.org"] } } },
    } });
    let ctx = context(&host, zones.clone());
    assert!(Dns::restore(&ctx).unwrap().changed);
    assert_eq!(server.set(|state| state.update_count), 2, "one message for each zone");
    assert_eq!(check(&ctx).0, Health::Healthy);
    assert!(server.values("10.2.0.192.in-addr.arpa", Rtype::PTR).is_some());

    let done = Dns::remove(&ctx).unwrap();
    assert_eq!(done.summary, "deleted 10.2.0.192.in-addr.arpa PTR, mail.example.org A");
    assert_eq!(health(&ctx), (Health::Stopped, "stopped".into()));
}

#[test]
fn an_error_in_the_second_zone_leaves_a_part() {
    let (host, server) = world();
    server.set(|state| state.zones.remove(0));
    let ctx = context(
        &host,
        json!({ "zone": null, "records": null, "zones": {
            "2.0.192.in-addr.arpa": { "records": { "10": { "type": "PTR", "values": ["mail.example.org"] } } },
            "example.org": { "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } } },
        } }),
    );
    let error = Dns::restore(&ctx).unwrap_err();
    assert_eq!((error.code.as_str(), error.effect), ("refused", Effect::Partial), "{error}");
}

#[test]
fn remove_leaves_what_is_somebody_elses() {
    let (host, server) = world();
    let ctx = context(&host, json!({ "on-remove": "delete" }));
    for (theirs, why) in
        [(vec![OTHERS], "another value"), (vec![OURS, OTHERS], "not only this node's value"), (vec![], "none")]
    {
        server.put(MAIL, Rtype::A, 30, &theirs);
        let done = Dns::remove(&ctx).unwrap();
        assert!(!done.changed, "{why}");
        assert_eq!(done.summary, "not this node's any more: mail.example.org A");
        assert_eq!(server.values(MAIL, Rtype::A).unwrap_or_default(), theirs, "{why}");
    }
}

#[test]
fn remove_does_not_rely_on_a_server_to_take_exactly_for_exactly() {
    let (host, server) = world();
    server.set(|state| state.lax = true);
    server.put(MAIL, Rtype::A, 30, &[OURS, OTHERS]);
    let ctx = context(&host, json!({ "on-remove": "delete" }));
    assert!(!Dns::remove(&ctx).unwrap().changed);
    assert_eq!(server.values(MAIL, Rtype::A).unwrap(), [OURS, OTHERS]);
}

#[test]
fn remove_needs_no_answer_to_a_question() {
    let (host, server) = world();
    let ctx = context(&host, json!({ "on-remove": "delete" }));
    Dns::restore(&ctx).unwrap();
    server.set(|state| state.question_rcode = Some(Rcode::REFUSED));
    assert!(Dns::remove(&ctx).unwrap().changed);
    assert_eq!(server.values(MAIL, Rtype::A), None);
}

#[test]
fn remove_deletes_its_own_and_leaves_the_rest() {
    let (host, server) = world();
    let ctx = context(
        &host,
        json!({ "on-remove": "delete", "records": {
            "mail": { "type": "A", "values": ["192.0.2.10"] },
            "web": { "type": "A", "values": ["192.0.2.10"] },
        } }),
    );
    Dns::restore(&ctx).unwrap();
    server.put("web.example.org", Rtype::A, 30, &[OTHERS]);
    let done = Dns::remove(&ctx).unwrap();
    assert_eq!((done.changed, done.summary.as_str()), (true, "deleted mail.example.org A"));
    assert_eq!(detail(&done.details, "not-ours"), Some("web.example.org A"));
    assert_eq!(server.values("web.example.org", Rtype::A).unwrap(), [OTHERS]);
    assert!(!Dns::remove(&ctx).unwrap().changed, "a second time there is nothing to do");
}

#[test]
fn remove_goes_on_in_the_next_zone_and_says_that_a_part_is_left() {
    let (host, server) = world();
    let ctx = context(
        &host,
        json!({ "zone": null, "records": null, "on-remove": "delete", "zones": {
            "2.0.192.in-addr.arpa": { "records": { "10": { "type": "PTR", "values": ["mail.example.org"] } } },
            "example.org": { "records": { "mail": { "type": "A", "values": ["192.0.2.10"] } } },
        } }),
    );
    Dns::restore(&ctx).unwrap();
    server.set(|state| state.zones.remove(1));
    let error = Dns::remove(&ctx).unwrap_err();
    assert_eq!((error.code.as_str(), error.effect), ("not-auth", Effect::Partial), "{error}");
    assert_eq!(server.values(MAIL, Rtype::A), None);
}

#[test]
fn a_remove_that_reaches_no_server_is_an_error() {
    let (host, _server) = world();
    let ctx = context(&host, json!({ "on-remove": "delete" }));
    Dns::restore(&ctx).unwrap();
    host.udp(AT, 53, |_| ());
    let error = Dns::remove(&ctx).unwrap_err();
    assert_eq!((error.kind, error.code.as_str(), error.effect), (ErrorKind::Unavailable, "no-answer", Effect::None));
    assert_eq!(
        error.message,
        "delete mail.example.org A from the zone example.org: ask for mail.example.org A: \
         192.0.2.53:53 did not answer within 6000 ms (3 tries)"
    );
}

#[test]
fn keep_leaves_the_name_without_asking_anybody_and_remembers_it() {
    let (host, server) = world();
    let ctx = context(&host, json!({}));
    Dns::restore(&ctx).unwrap();
    host.udp(AT, 53, |_| ());
    host.forget_calls();
    assert!(Dns::remove(&ctx).unwrap().changed);
    assert!(!Dns::remove(&ctx).unwrap().changed);
    assert!(!host.calls().iter().any(|call| matches!(call, Call::UdpConnect { .. } | Call::TcpConnect { .. })));

    server.listen(&host, AT);
    assert_eq!(server.values(MAIL, Rtype::A).unwrap(), [OURS]);
    let (health, code, summary) = check(&ctx);
    assert_eq!((health, code.as_str()), (Health::Stopped, "kept"));
    assert!(summary.starts_with("out of service here since 2023-11-14 22:13:20 UTC"), "{summary}");

    let done = Dns::restore(&ctx).unwrap();
    assert!(done.changed, "it was out of service");
    assert_eq!(server.set(|state| state.update_count), 1, "and the name was right already");
    assert_eq!(check(&ctx).0, Health::Healthy);
}

#[test]
fn a_failed_restore_does_not_forget_that_it_is_out_of_service() {
    let (host, server) = world();
    let ctx = context(&host, json!({}));
    Dns::remove(&ctx).unwrap();
    server.set(|state| state.update_rcode = Some(Rcode::SERVFAIL));
    Dns::restore(&ctx).unwrap_err();
    assert_eq!(health(&ctx), (Health::Stopped, "kept".into()));
}

#[test]
fn a_switchover_of_the_default_kind_never_leaves_the_name_without_an_answer() {
    let (host, server) = world();
    let here = context(&host, json!({}));
    Dns::restore(&here).unwrap();
    Dns::remove(&here).unwrap();
    assert!(server.values(MAIL, Rtype::A).is_some());
    let store = host.stored("kept").unwrap();
    drop(host);

    let host = FakeHost::install();
    server.listen(&host, AT);
    host.secret("dns-key", SECRET);
    let there = context(&host, json!({ "records": { "mail": { "type": "A", "values": ["198.51.100.10"] } } }));
    assert!(Dns::restore(&there).unwrap().changed);
    assert_eq!(server.values(MAIL, Rtype::A).unwrap(), [OTHERS]);
    assert_eq!(check(&there).0, Health::Healthy);
    host.store("kept", store);
    assert_eq!(
        health(&context(&host, json!({}))),
        (Health::Stopped, "kept".into()),
        "and the old node knows that it is out"
    );
}

#[test]
fn recover_writes_again() {
    let (host, server) = world();
    let ctx = context(&host, json!({}));
    Dns::restore(&ctx).unwrap();
    server.put(MAIL, Rtype::A, 30, &[OTHERS]);
    let result = Dns::recover(&ctx, &failure()).unwrap();
    assert_eq!((result.verdict, result.summary.as_str()), (Verdict::Recovered, "mail.example.org A 192.0.2.10"));
    assert_eq!(server.values(MAIL, Rtype::A).unwrap(), [OURS]);
    assert_eq!(Dns::recover(&ctx, &failure()).unwrap().verdict, Verdict::Recovered, "what has healed is recovered");

    server.set(|state| state.update_rcode = Some(Rcode::SERVFAIL));
    server.put(MAIL, Rtype::A, 30, &[OTHERS]);
    let error = Dns::recover(&ctx, &failure()).unwrap_err();
    assert!(
        error.message.starts_with("write the names again: update the zone example.org: 192.0.2.53:53 failed"),
        "{error}"
    );
}

#[test]
fn restore_waits_until_the_server_tells_what_it_took() {
    let (host, server) = world();
    server.set(|state| state.stale_answer_count = 3);
    assert!(Dns::restore(&context(&host, json!({}))).unwrap().changed);
    let waits: Vec<_> = host.calls().into_iter().filter(|call| matches!(call, Call::ClockSleep { .. })).collect();
    assert_eq!(waits, [Call::ClockSleep { ms: 50 }, Call::ClockSleep { ms: 100 }, Call::ClockSleep { ms: 200 }]);
}

#[test]
fn restore_does_not_wait_for_ever_for_it() {
    let (host, server) = world();
    server.set(|state| state.stale_answer_count = usize::MAX);
    let error = Dns::restore(&context(&host, json!({}))).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry, error.effect), ("not-read-back", Retry::Here, Effect::Partial));
    assert_eq!(
        error.message,
        "update the zone example.org: 192.0.2.53:53 took the update, and reading it back does not show it: \
         192.0.2.53:53 says that mail.example.org A is not there"
    );
}

#[test]
fn the_next_server_is_asked_when_one_does_not_answer_and_the_dead_one_only_once() {
    let (host, server) = world();
    host.udp("192.0.2.54", 53, |_| ());
    let ctx = context(
        &host,
        json!({ "servers": ["192.0.2.54", AT], "records": {
            "mail": { "type": "A", "values": ["192.0.2.10"] },
            "web": { "type": "A", "values": ["192.0.2.10"] },
        } }),
    );
    let done = Dns::restore(&ctx).unwrap();
    assert_eq!(detail(&done.details, "updated"), Some("example.org at 192.0.2.53:53"));
    let to_the_dead =
        host.calls().into_iter().filter(|call| *call == Call::UdpConnect { host: "192.0.2.54".into(), port: 53 });
    assert_eq!(to_the_dead.count(), 1);
    assert_eq!(detail(&Dns::quick_check(&ctx).unwrap().details, "server"), Some(AT).map(|_| "192.0.2.53:53"));
    assert_eq!(server.set(|state| state.update_count), 1);
}

#[test]
fn a_second_server_that_refuses_updates_does_not_keep_the_first_from_taking_them() {
    let (host, primary) = world();
    let secondary = Server::new();
    secondary.set(|state| state.update_rcode = Some(Rcode::NOTIMP));
    secondary.listen(&host, "192.0.2.54");
    let ctx = context(&host, json!({ "servers": ["192.0.2.54", AT] }));
    let done = Dns::restore(&ctx).unwrap();
    assert_eq!(detail(&done.details, "updated"), Some("example.org at 192.0.2.53:53"));
    assert_eq!(primary.values(MAIL, Rtype::A).unwrap(), [OURS]);
}

#[test]
fn when_no_server_does_it_each_is_named_with_what_it_said() {
    let (host, server) = world();
    host.udp("192.0.2.54", 53, |_| Fault::new(FaultKind::Unavailable, "refused", "connection refused"));
    server.set(|state| state.question_rcode = Some(Rcode::REFUSED));
    let ctx = context(&host, json!({ "servers": ["192.0.2.54", AT] }));
    let error = Dns::quick_check(&ctx).unwrap_err();
    assert_eq!(
        error.message,
        "ask for mail.example.org A: 192.0.2.54:53 cannot be reached: connection refused; \
         192.0.2.53:53 refuses to answer (REFUSED): it does not serve the zone, or not to this node"
    );
    assert_eq!(detail(&error.details, "server 192.0.2.54:53"), Some("unreachable"));
    assert_eq!(detail(&error.details, "server 192.0.2.53:53"), Some("refused"));
    assert_eq!(error.effect, Effect::None);
}

#[test]
fn a_second_server_that_is_not_granted_is_known_at_the_first_check() {
    let (host, _server) = world();
    let ctx = context(&host, json!({ "servers": [AT, "192.0.2.55"] }));
    for error in [Dns::quick_check(&ctx).unwrap_err(), Dns::restore(&ctx).unwrap_err()] {
        assert_eq!((error.kind, error.code.as_str(), error.effect), (ErrorKind::Denied, "not-granted", Effect::None));
        assert!(error.message.contains("192.0.2.55:53 is not granted"), "{error}");
    }
}

#[test]
fn a_secret_that_is_no_key_is_refused_before_anything_is_done() {
    let (host, server) = world();
    for secret in ["", "\n", "key \"ms-key\" { secret \"x\"; };", "ä"] {
        host.secret("dns-key", secret);
        let error = Dns::restore(&context(&host, json!({}))).unwrap_err();
        assert_eq!(
            (error.kind, error.code.as_str(), error.effect),
            (ErrorKind::InvalidParams, "key-secret", Effect::None)
        );
        assert!(
            error.message.starts_with("read the secret \"dns-key\" of the key ms-key: it is no key in base64"),
            "{error}"
        );
    }
    let error = Dns::restore(&context(&host, json!({ "key": { "name": KEY, "secret": "other" } }))).unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::Denied, Effect::None));
    assert_eq!(server.set(|state| state.question_count + state.update_count), 0);

    // As files have it: with a newline, or without padding.
    for secret in [format!("{SECRET}\n"), SECRET.trim_end_matches('=').to_owned()] {
        host.secret("dns-key", secret);
        Dns::restore(&context(&host, json!({}))).unwrap();
        server.put(MAIL, Rtype::A, 30, &[]);
    }
}

#[test]
fn without_a_key_updates_are_unsigned() {
    let (host, server) = world();
    let ctx = context(&host, json!({ "key": null }));
    let error = Dns::restore(&ctx).unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Denied, "refused"));
    assert!(error.message.contains("it wants a key"), "{error}");
    server.set(|state| state.open = true);
    assert!(Dns::restore(&ctx).unwrap().changed);
}

#[test]
fn params_that_make_no_sense_are_refused_by_every_operation() {
    let (host, _server) = world();
    let ctx = context(&host, json!({ "records": { "mail": { "type": "A", "values": ["nonsense"] } } }));
    let errors = [
        Dns::restore(&ctx).unwrap_err(),
        Dns::remove(&ctx).unwrap_err(),
        Dns::quick_check(&ctx).unwrap_err(),
        Dns::recover(&ctx, &failure()).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind == ErrorKind::InvalidParams), "{errors:?}");
    assert!(host.calls().is_empty());
}

#[test]
fn what_an_operator_may_write() {
    let manifest: Value = serde_json::from_str(<Dns as mainstay_sdk::Described>::MANIFEST.as_str()).unwrap();
    assert_eq!(manifest["name"], "dns");
    let needs: Vec<_> =
        manifest["needs"].as_array().unwrap().iter().map(|need| need["interface"].as_str().unwrap()).collect();
    assert_eq!(needs, ["net", "clock", "random", "store", "log", "secret"]);
    let validator = jsonschema::draft202012::options().build(&manifest["params"]).unwrap();
    let accepted = [
        params(json!({})),
        params(
            json!({ "on-remove": "delete", "ttl": "5m", "key": { "name": "k", "algorithm": "hmac-sha512", "secret": "s" } }),
        ),
        params(
            json!({ "records": { "mail": { "name": "@", "type": "SRV", "ttl": "1h", "values": ["0 5 5060 a.b"] } } }),
        ),
        json!({ "servers": ["a"], "zones": { "example.org": { "records": { "a": { "type": "TXT", "values": ["any text"] } } } } }),
    ];
    for value in accepted {
        let errors: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{value}: {errors:?}");
        <DnsParams as mainstay_sdk::Params>::read(&value.to_string()).unwrap();
    }
    let record = |record: Value| params(json!({ "records": { "mail": record } }));
    let refused = [
        (params(json!({ "on-remove": "maybe" })), "/on-remove"),
        (params(json!({ "key": { "name": "k", "algorithm": "hmac-md5", "secret": "s" } })), "/key/algorithm"),
        (record(json!({ "type": "A" })), "/records/mail"),
        (record(json!({ "type": "A", "values": [] })), "/records/mail/values"),
        (record(json!({ "type": "NS", "values": ["a.b"] })), "/records/mail/type"),
        (record(json!({ "type": "A", "values": ["mail.example.org"] })), "/records/mail/values/0"),
        (record(json!({ "type": "AAAA", "values": ["192.0.2.1"] })), "/records/mail/values/0"),
        (record(json!({ "type": "MX", "values": ["mail.example.org"] })), "/records/mail/values/0"),
        (record(json!({ "type": "SRV", "values": ["10 mail.example.org"] })), "/records/mail/values/0"),
        (record(json!({ "type": "CNAME", "values": ["two words"] })), "/records/mail/values/0"),
        (record(json!({ "type": "A", "values": ["192.0.2.1"], "tll": "30s" })), "/records/mail"),
        (record(json!({ "type": "A", "values": ["192.0.2.1"], "ttl": 30 })), "/records/mail/ttl"),
    ];
    for (value, at) in refused {
        let places: Vec<_> = validator.iter_errors(&value).map(|error| error.instance_path().to_string()).collect();
        assert_eq!(places, [at], "{value}");
    }
}

#[test]
fn a_standby_is_ready_when_restore_would_get_as_far_as_writing() {
    let (host, server) = world();
    let ctx = context(&host, json!({}));
    assert_eq!(Dns::assess(&ctx).unwrap(), []);
    server.put(MAIL, Rtype::A, 300, &[OTHERS]);
    assert_eq!(Dns::assess(&ctx).unwrap(), [], "that another node has the name is what a standby sees");
    assert_eq!(host.stored("kept"), None);

    let found = Dns::assess(&context(&host, json!({ "key": { "name": KEY, "secret": "no-such" } }))).unwrap();
    assert_eq!((found.len(), found[0].weight), (1, Weight::Blocking), "{found:?}");
    assert!(found[0].summary.contains("no-such"), "{found:?}");
    let found = Dns::assess(&context(&host, json!({ "servers": ["192.0.2.99"] }))).unwrap();
    assert_eq!((found.len(), found[0].weight), (1, Weight::Blocking), "{found:?}");
    assert!(found[0].summary.contains("192.0.2.99"), "{found:?}");
    host.assert_declared::<Dns>();
}
