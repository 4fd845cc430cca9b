//! What is done with databases on replicated files, against an Exchange organisation that answers the kit's script.

mod world;

use std::time::Duration;

use mainstay_kit_exchange::{Exchange, ExchangeParams, Version};
use mainstay_sdk::command::{Completed, Ending};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Call, FakeHost, FakeService, ended, exited};
use serde_json::{Value, json};
use world::{Db, Org, POWERSHELL, Shared, actions, context, failure, install, powershell, question, said};

fn standby(mailboxes: usize) -> (FakeHost, Shared, Context<ExchangeParams>) {
    let host = FakeHost::install();
    install(&host, Version::V2019, |_| FakeService::stopped());
    let org = Org::two(mailboxes);
    powershell(&host, &org);
    let ctx = context(&host, "2019", Org::params());
    (host, org, ctx)
}

#[track_caller]
fn fails(ctx: &Context<ExchangeParams>, code: &str, retry: Retry) -> Error {
    let error = Exchange::restore(ctx).expect_err("an error");
    assert_eq!((error.code.as_str(), error.retry), (code, retry), "{error}");
    error
}

#[test]
fn databases_are_mounted_and_mailboxes_pointed_at_them() {
    let (host, org, ctx) = standby(30);
    let done = Exchange::restore(&ctx).unwrap();
    assert!(done.changed && done.summary.contains("1 databases mounted, 30 mailboxes pointed here"), "{done:?}");
    assert_eq!(org.borrow().databases["Mail EX01"].mounted, Some(true));
    assert_eq!(org.borrow().count("Mail EX01"), 30);
    assert!(!Exchange::restore(&ctx).unwrap().changed);
    host.assert_declared::<Exchange>();
}

#[test]
fn databases_come_after_the_services_and_go_before_them() {
    let (host, _, ctx) = standby(1);
    let at = |host: &FakeHost, wanted: fn(&Call) -> bool| host.calls().iter().rposition(wanted).expect("a call");
    Exchange::restore(&ctx).unwrap();
    let store = |call: &Call| matches!(call, Call::ServiceStart { name, .. } if name == "MSExchangeIS");
    assert!(at(&host, store) < at(&host, |call| matches!(call, Call::CommandRun(_))));
    host.forget_calls();
    let done = Exchange::remove(&ctx).unwrap();
    assert!(done.summary.starts_with("1 databases dismounted"), "{done:?}");
    assert_eq!(actions(&host), ["dismount"]);
    let stop = host.calls().iter().position(|call| matches!(call, Call::ServiceStop { .. })).unwrap();
    assert!(at(&host, |call| matches!(call, Call::CommandRun(_))) < stop);
    // Nothing is asked of a server that does not run.
    host.forget_calls();
    assert!(!Exchange::remove(&ctx).unwrap().changed);
    assert_eq!(actions(&host), [""; 0]);
}

#[test]
fn cmdlets_that_fail_keep_no_server_from_being_taken_out_of_service() {
    let (host, org, ctx) = standby(1);
    Exchange::restore(&ctx).unwrap();
    org.borrow_mut().broken = Some("the domain controller is not available".into());
    assert!(Exchange::remove(&ctx).unwrap().changed);
    assert!(host.logged().iter().any(|line| line.message.contains("the domain controller is not available")));
    assert_eq!(world::check(&ctx).0, Health::Stopped);
}

#[test]
fn killed_half_way_it_goes_on_where_it_was() {
    let (_host, org, ctx) = standby(30);
    org.borrow_mut().dies_after = Some(12);
    let error = fails(&ctx, "powershell-timeout", Retry::Here);
    assert_eq!(error.effect, Effect::Partial);
    assert_eq!(org.borrow().count("Mail EX01"), 12);
    org.borrow_mut().dies_after = None;
    let done = Exchange::restore(&ctx).unwrap();
    assert!(done.summary.contains("18 mailboxes"), "{done:?}");
    assert_eq!(org.borrow().count("Mail EX01"), 30);
}

#[test]
fn mailboxes_that_refuse_are_named_and_the_others_moved() {
    let (_host, org, ctx) = standby(5);
    org.borrow_mut().refusing.insert("user3".into());
    let error = fails(&ctx, "mailboxes-left", Retry::Here);
    assert!(error.message.contains("1 mailboxes") && error.message.contains("user3: Access is denied."), "{error}");
    assert_eq!(org.borrow().count("Mail EX01"), 4);
}

#[test]
fn what_must_not_be_mounted_is_refused_with_a_word() {
    let (_host, org, ctx) = standby(1);
    org.borrow_mut().dag = "DAG1".into();
    let error = fails(&ctx, "dag-member", Retry::Nowhere);
    assert!(error.message.contains("EX01 is a member of the database availability group DAG1"), "{error}");
    org.borrow_mut().dag.clear();
    // The volume is not there: an empty database would be made in its place.
    org.borrow_mut().databases.get_mut("Mail EX01").unwrap().file = false;
    fails(&ctx, "no-edb-file", Retry::Elsewhere);
    assert_eq!(org.borrow().count("Mail EX02"), 1, "nobody is pointed at what is not mounted");
}

#[test]
fn what_the_cmdlets_claim_is_looked_at() {
    let (_host, org, ctx) = standby(1);
    org.borrow_mut().databases.get_mut("Mail EX01").unwrap().lies = true;
    let error = fails(&ctx, "not-mounted", Retry::Elsewhere);
    assert!(error.message.contains("report no error, and yet Mail EX01 is not mounted"), "{error}");
    assert_eq!(error.effect, Effect::Partial);
}

#[test]
fn an_exit_code_alone_is_never_believed() {
    let (host, _, ctx) = standby(1);
    type Says = fn() -> Completed;
    let answers: [(Says, &str, &str); 7] = [
        (|| exited(0), "powershell-no-answer", "said nothing"),
        (|| Completed { stdout: b"PS C:\\>".to_vec(), ..exited(0) }, "powershell-no-answer", "PS C:\\>"),
        (
            || Completed { stdout: b"mainstay-answer %%%\n".to_vec(), ..exited(0) },
            "powershell-answer",
            "makes no sense",
        ),
        (|| said(&json!({ "ok": true })), "powershell-answer", "makes no sense"),
        (|| exited(5), "powershell-no-answer", "exited with 5"),
        (|| ended(Ending::Signalled(9)), "powershell-no-answer", "signal 9"),
        (|| ended(Ending::TimedOut), "powershell-timeout", "did not end"),
    ];
    for (answer, code, words) in answers {
        host.program(POWERSHELL, move |_| answer());
        let error = Exchange::restore(&ctx).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    // An answer that was given to somebody else.
    host.program(POWERSHELL, |_| {
        said(&json!({
            "id": "old", "ok": true, "code": "", "message": "", "server": { "name": "EX01", "version": "", "dag": "" },
            "databases": [], "mounted": 1, "dismounted": 0, "repointed": 0, "left": 0, "refused": [],
        }))
    });
    assert!(Exchange::restore(&ctx).unwrap_err().message.contains("another question"));
    // And one that leaves out the database.
    host.program(POWERSHELL, |request| {
        said(&json!({
            "id": question(request)["id"], "ok": true, "code": "", "message": "",
            "server": { "name": "EX01", "version": "", "dag": "" },
            "databases": [], "mounted": 1, "dismounted": 0, "repointed": 0, "left": 0, "refused": [],
        }))
    });
    assert!(Exchange::restore(&ctx).unwrap_err().message.contains("Mail EX01 is not known to Exchange"));
}

#[test]
fn names_are_data_and_never_a_script() {
    let (host, org, _) = standby(0);
    let names = ["O'Brien & Söhne (alt)", "#1 $(calc) `x`".trim_end_matches(" $(calc) `x`")];
    for (name, server) in [(names[0], "EX01"), (names[1], "EX02")] {
        org.borrow_mut().databases.insert(name.into(), Db::of(server));
    }
    let ctx = context(
        &host,
        "2019",
        json!({
            "servers": { "node1": "EX01" },
            "databases": { "odd": { "node1": names[0], "node2": names[1] } },
        }),
    );
    Exchange::restore(&ctx).unwrap();
    // `question` holds that the script is the one there is.
    let asked = question(&host.commands()[0]);
    assert_eq!(asked["databases"], json!([{ "here": names[0], "others": [names[1]] }]));
    for bad in ["$(calc)", "a`b", "a;b", "a|b", "a*", "a\\b", "a\"b", " a", "a\nb", "", "a{b}", "a=b"] {
        let more = json!({ "servers": { "node1": "EX01" }, "databases": { "odd": { "node1": bad } } });
        let error = Exchange::restore(&context(&host, "2019", more)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParams, "{bad:?}");
    }
}

#[test]
fn a_thorough_check_sees_that_a_database_is_not_mounted_and_a_repair_mounts_it() {
    let (host, org, ctx) = standby(3);
    Exchange::restore(&ctx).unwrap();
    assert_eq!(Exchange::deep_check(&ctx).unwrap().health, Health::Healthy);
    for mounted in [Some(false), None] {
        org.borrow_mut().databases.get_mut("Mail EX01").unwrap().mounted = mounted;
        assert_eq!(world::check(&ctx).0, Health::Healthy, "a quick check runs no cmdlets");
        let report = Exchange::deep_check(&ctx).unwrap();
        assert_eq!((report.health, report.code.as_str()), (Health::Failed, "not-mounted"), "{report:?}");
        host.forget_calls();
        let result = Exchange::recover(&ctx, &failure(Some(report))).unwrap();
        assert_eq!(result.summary, "mounted 1 databases");
        assert_eq!((actions(&host), world::started(&host)), (vec!["mount".to_owned()], vec![]));
    }
    // With the store restarted they are looked at too.
    host.kill_service("MSExchangeIS");
    host.forget_calls();
    let result = Exchange::recover(&ctx, &failure(None)).unwrap();
    assert_eq!(result.summary, "restarted MSExchangeIS", "Exchange mounts them by itself, mostly");
    assert_eq!(actions(&host), ["mount"]);
}

#[test]
fn cmdlets_that_cannot_be_asked_say_nothing_of_the_databases() {
    let (_host, org, ctx) = standby(3);
    Exchange::restore(&ctx).unwrap();
    org.borrow_mut().broken = Some("the operation couldn't be performed".into());
    let error = Exchange::deep_check(&ctx).unwrap_err();
    assert_eq!(error.code, "cmdlet");
}

/// So many s later, in another call.
fn later(host: &FakeHost, s: u64) {
    host.advance(Duration::from_secs(s));
    host.set_budget(Duration::from_secs(60));
}

fn codes(found: &[Finding]) -> Vec<(Weight, &str)> {
    found.iter().map(|finding| (finding.weight, finding.code.as_str())).collect()
}

#[test]
fn a_standby_is_asked_what_exchange_says_of_its_databases() {
    let ready = |change: fn(&mut Org)| {
        let (_host, org, ctx) = standby(1);
        change(&mut org.borrow_mut());
        codes(&Exchange::assess(&ctx).unwrap())
            .into_iter()
            .map(|(weight, code)| (weight, code.to_owned()))
            .collect::<Vec<_>>()
    };
    let blocking = |code: &str| vec![(Weight::Blocking, code.to_owned())];
    fn here(org: &mut Org) -> &mut Db {
        org.databases.get_mut("Mail EX01").unwrap()
    }
    assert_eq!(ready(|_| ()), []);
    assert_eq!(ready(|org| org.dag = "DAG1".into()), blocking("dag-member"));
    assert_eq!(ready(|org| here(org).server = "EX02".into()), blocking("other-server"));
    assert_eq!(ready(|org| here(org).server = "ex01.corp.test".into()), []);
    assert_eq!(ready(|org| here(org).replication = "Remote".into()), blocking("replicated"));
    assert_eq!(ready(|org| here(org).prefix = "E02".into()), blocking("log-prefix"));
    assert_eq!(ready(|org| here(org).edb = r"F:\other\Mail.edb".into()), [], "another folder, the same file");
    assert_eq!(ready(|org| here(org).edb = r"E:\mail\other.edb".into()), blocking("edb-file"));
    assert_eq!(ready(|org| org.no_cmdlets = true), blocking("no-cmdlets"));
    let warned = ready(|org| drop(org.databases.remove("Mail EX01")));
    assert_eq!(warned, [(Weight::Warning, "cmdlet".to_owned())], "the cmdlets fail as a whole");
}

#[test]
fn a_powershell_that_is_none_is_found_on_the_standby() {
    let (host, _, ctx) = standby(1);
    host.program(POWERSHELL, |_| exited(0));
    assert_eq!(codes(&Exchange::assess(&ctx).unwrap()), [(Weight::Blocking, "powershell-no-answer")]);
    host.program(POWERSHELL, |_| Fault::new(FaultKind::NotFound, "no-such-program", "there is none"));
    later(&host, 61);
    assert_eq!(codes(&Exchange::assess(&ctx).unwrap()), [(Weight::Blocking, "no-such-program")]);
}

#[test]
fn a_look_holds_for_a_while() {
    let (host, org, ctx) = standby(1);
    let looks = |host: &FakeHost| {
        host.set_budget(Duration::from_secs(60));
        Exchange::assess(&ctx).unwrap();
        let count = host.commands().len();
        host.forget_calls();
        count
    };
    assert_eq!(looks(&host), 1);
    assert_eq!(looks(&host), 0);
    later(&host, 599);
    assert_eq!(looks(&host), 0);
    later(&host, 1);
    org.borrow_mut().dag = "DAG1".into();
    assert_eq!(looks(&host), 1);
    assert_eq!(
        (codes(&Exchange::assess(&ctx).unwrap()), host.commands().len()),
        (vec![(Weight::Blocking, "dag-member")], 0)
    );
    later(&host, 60);
    org.borrow_mut().dag.clear();
    assert_eq!(looks(&host), 1, "what stood in the way is looked at sooner");
    assert_eq!(Exchange::assess(&ctx).unwrap(), []);
    // Other params, a clock that was set back, a value that is none.
    let mut other: Value = Org::params();
    other["powershell"] = json!("/opt/other");
    assert_eq!(codes(&Exchange::assess(&context(&host, "2019", other)).unwrap()), [(Weight::Blocking, "not-granted")]);
    host.forget_calls();
    assert_eq!(looks(&host), 1);
    host.set_unix_ms(1_000);
    assert_eq!(looks(&host), 1);
    host.store("look", "{");
    assert_eq!(looks(&host), 1);
}
