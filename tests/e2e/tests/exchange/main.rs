//! The Exchange kit against a real mail stack, Postfix and Dovecot as services of a real systemd, and against small servers that
//! do what a broken one does.
//!
//! The shipped component runs in the real runtime. What it says is held against what was done to the servers.

mod node;
mod servers;
mod stack;

use std::time::Duration;

use mainstay_runtime::{Health, Operation, Report, Verdict};
use mainstay_test_support::guard::Signal;
use node::node_of;
use serde_json::{Value, json};
use servers::{Server, Speaks};
use stack::{DOVECOT, POSTFIX, Passwords, Stack, USER};

/// How much later than its deadline an answer may come on a busy machine: far less than a server that never answers takes.
const LATE_MAX: Duration = Duration::from_secs(4);

/// The stack's services, and what else a test wants.
fn params(more: Value) -> Value {
    let mut params = json!({
        "version": "other",
        "services": [
            { "name": POSTFIX, "serves": ["smtp"] },
            { "name": DOVECOT, "serves": ["imap", "pop3"] },
        ],
    });
    for (key, value) in more.as_object().expect("a table") {
        params[key] = value.clone();
    }
    params
}

fn detail<'a>(report: &'a Report, key: &str) -> &'a str {
    let found = report.details.iter().find(|(name, _)| name == key);
    found.map_or_else(|| panic!("no detail {key} in {report:?}"), |(_, value)| value.as_str())
}

#[track_caller]
fn is(report: &Report, health: Health, code: &str) {
    assert_eq!((report.health, report.code.as_str()), (health, code), "{report:?}");
}

#[test]
fn it_comes_in_service_serves_and_goes_out_of_service() {
    let Some(stack) = Stack::new(Passwords::InTheClear) else { return };
    let node = node_of(&stack, &[]);
    let params = params(json!({ "protocols": stack.plain(), "test-mailbox": { "user": USER, "secret": "probe" } }));
    is(&node.check(&params), Health::Stopped, "stopped");
    let done = node.restore(&params);
    assert!(done.changed && done.summary.contains("2 services started"), "{done:?}");
    let report = node.check(&params);
    is(&report, Health::Healthy, "ok");
    for protocol in ["smtp", "pop3", "imap"] {
        assert!(detail(&report, protocol).starts_with("well"), "{report:?}");
    }
    is(&node.deep_check(&params), Health::Healthy, "ok");
    assert!(!node.restore(&params).changed);

    // A password that is another by now is for a person, and moves nobody.
    let mut wrong = params.clone();
    wrong["test-mailbox"]["secret"] = json!("wrong");
    let report = node.deep_check(&wrong);
    assert_eq!(report.health, Health::Degraded, "{report:?}");
    assert!(detail(&report, "imap").contains("AUTHENTICATIONFAILED"), "{report:?}");

    assert!(node.remove(&params).changed);
    is(&node.check(&params), Health::Stopped, "stopped");
    assert!(!node.remove(&params).changed);
    for unit in [POSTFIX, DOVECOT] {
        stack.wait_until_not_active(unit);
    }
}

#[test]
fn a_service_stopped_or_killed_is_back_and_the_other_is_not_touched() {
    let Some(stack) = Stack::new(Passwords::InTheClear) else { return };
    let node = node_of(&stack, &[]);
    let params = params(json!({ "protocols": stack.plain() }));
    node.restore(&params);
    let postfix = stack.systemd.main_pid(POSTFIX);
    for kill in [false, true] {
        let before = stack.systemd.main_pid(DOVECOT);
        if kill {
            stack.signal(DOVECOT, Signal::SIGKILL);
        } else {
            stack.systemd.systemctl(&["stop", DOVECOT]);
        }
        stack.wait_until_not_active(DOVECOT);
        let report = node.check(&params);
        is(&report, Health::Failed, "service");
        assert!(report.summary.contains("dovecot"), "{report:?}");
        let result = node.recover(&params);
        assert_eq!(result.verdict, Verdict::Recovered, "{result:?}");
        assert_eq!(result.summary, format!("restarted {DOVECOT}"));
        is(&node.check(&params), Health::Healthy, "ok");
        assert_ne!(stack.systemd.main_pid(DOVECOT), before);
    }
    assert_eq!(stack.systemd.main_pid(POSTFIX), postfix);
}

#[test]
fn what_hangs_after_it_accepted_is_told_in_time_and_restarted() {
    let Some(stack) = Stack::new(Passwords::InTheClear) else { return };
    let node = node_of(&stack, &[]);
    let mut protocols = stack.plain();
    for protocol in ["smtp", "pop3", "imap"] {
        protocols[protocol]["timeout"] = json!("1s");
    }
    let params = params(json!({ "protocols": protocols }));
    node.restore(&params);
    // The kernel goes on accepting connections for it.
    stack.signal(DOVECOT, Signal::SIGSTOP);
    let (report, took) = node.timed_check(&params);
    is(&report, Health::Unknown, "pop3-no-answer");
    assert_eq!(detail(&report, "timed-out"), "true");
    assert!(
        detail(&report, "imap").contains("accepted the connection and did not answer within 1000 ms"),
        "{report:?}"
    );
    assert!(detail(&report, "smtp").starts_with("well"), "{report:?}");
    assert!(took < Duration::from_secs(2) + LATE_MAX, "{took:?}");

    let postfix = stack.systemd.main_pid(POSTFIX);
    let result = node.recover(&params);
    assert_eq!(result.verdict, Verdict::Recovered, "{result:?}");
    assert_eq!(result.summary, format!("restarted {DOVECOT}"));
    is(&node.check(&params), Health::Healthy, "ok");
    assert_eq!(stack.systemd.main_pid(POSTFIX), postfix);

    stack.signal(POSTFIX, Signal::SIGSTOP);
    is(&node.check(&params), Health::Unknown, "smtp-no-answer");
    stack.signal(POSTFIX, Signal::SIGCONT);
    is(&node.check(&params), Health::Healthy, "ok");
}

#[test]
fn a_service_that_does_not_stop_is_told_and_ended_only_if_it_may_be() {
    let Some(stack) = Stack::new(Passwords::InTheClear) else { return };
    let node = node_of(&stack, &[]);
    stack.make_dovecot_stubborn();
    let mut params = params(json!({ "protocols": stack.plain(), "timeouts": { DOVECOT: "2s" } }));
    node.restore(&params);
    let pid = stack.systemd.main_pid(DOVECOT);
    let error = node.error(Operation::Remove, &params);
    assert_eq!(error.code, "service-stop", "{error}");
    assert!(error.message.contains("end-processes") && error.message.contains(&pid.to_string()), "{error}");
    assert_eq!(stack.systemd.main_pid(DOVECOT), pid, "it was not touched");

    params["end-processes"] = json!(true);
    let done = node.remove(&params);
    assert!(done.details.contains(&("ended".to_owned(), DOVECOT.to_owned())), "{done:?}");
    is(&node.check(&params), Health::Stopped, "stopped");
}

#[test]
fn tls_is_spoken_where_it_is_wanted_and_certificates_are_looked_at() {
    let Some(stack) = Stack::new(Passwords::ThroughTls) else { return };
    let node = node_of(&stack, &[]);
    let mailbox = json!({ "user": USER, "secret": "probe" });
    let with = |protocols: Value| params(json!({ "protocols": protocols, "test-mailbox": mailbox }));
    node.restore(&with(stack.plain()));
    for tls in ["implicit", "start-tls"] {
        let params = with(stack.secured(tls, "ca"));
        is(&node.check(&params), Health::Healthy, "ok");
        is(&node.deep_check(&params), Health::Healthy, "ok");
    }
    // A certificate that nobody vouches for: clients are warned, and somewhere else they would be too.
    let stranger = with(stack.secured("implicit", "stranger"));
    is(&node.check(&stranger), Health::Degraded, "smtp-certificate");
    let mut other = stack.secured("implicit", "ca");
    other["imap"]["server-name"] = json!("other.example.org");
    is(&node.check(&with(other)), Health::Degraded, "imap-certificate");

    // No password goes over the wire in the clear to a server that does not want it so.
    let report = node.deep_check(&with(stack.plain()));
    is(&report, Health::Degraded, "pop3-tls-required");
    assert!(detail(&report, "imap").contains("takes no password in the clear"), "{report:?}");
    is(&node.check(&with(stack.plain())), Health::Healthy, "ok");

    // TLS where there is none, and none where there is TLS.
    let imap = |over_tls: bool, tls: &str| {
        let mut imap = stack.imap_at(over_tls);
        imap["tls"] = json!(tls);
        with(json!({ "imap": imap }))
    };
    is(&node.check(&imap(false, "implicit")), Health::Failed, "imap-tls");
    is(&node.check(&imap(true, "none")), Health::Unknown, "imap-no-answer");
}

#[test]
fn a_server_that_misbehaves_is_told_apart_within_the_deadline() {
    let Some(stack) = Stack::new(Passwords::InTheClear) else { return };
    let servers = [Speaks::Slowly, Speaks::Nothing, Speaks::Wrongly, Speaks::Goodbye, Speaks::Endlessly]
        .map(|how| (how, Server::start(how)));
    let addresses: Vec<String> = servers.iter().map(|(_, server)| server.address()).collect();
    let node = node_of(&stack, &addresses);
    node.restore(&params(json!({})));
    for protocol in ["smtp", "pop3", "imap", "http"] {
        for (how, server) in &servers {
            let mut endpoint = json!({ "port": server.port(), "timeout": "1s" });
            if protocol == "http" {
                endpoint["path"] = json!("/");
            }
            let (report, took) = node.timed_check(&params(json!({ "protocols": { protocol: endpoint } })));
            let (health, what) = match how {
                Speaks::Slowly | Speaks::Nothing => (Health::Unknown, "no-answer"),
                Speaks::Wrongly | Speaks::Endlessly => (Health::Failed, "greeting"),
                Speaks::Goodbye => (Health::Failed, "closed"),
                Speaks::Http => unreachable!("it is not among them"),
            };
            is(&report, health, &format!("{protocol}-{what}"));
            assert!(took < Duration::from_secs(1) + LATE_MAX, "{protocol}, {how:?}: {took:?}");
        }
    }
}

#[test]
fn a_web_server_is_asked_for_its_page() {
    let Some(stack) = Stack::new(Passwords::InTheClear) else { return };
    let server = Server::start(Speaks::Http);
    let node = node_of(&stack, &[server.address()]);
    node.restore(&params(json!({})));
    let with = |page: &str| {
        let mut params = params(json!({ "protocols": { "http": { "port": server.port(), "path": page } } }));
        params["version"] = json!("2019");
        params
    };
    is(&node.check(&with("/owa/healthcheck.htm")), Health::Healthy, "ok");
    is(&node.check(&with("/elsewhere")), Health::Failed, "http-transaction");
    stack.signal_main(POSTFIX, Signal::SIGKILL);
    stack.wait_until_not_active(POSTFIX);
    is(&node.check(&with("/owa/healthcheck.htm")), Health::Failed, "service");
}
