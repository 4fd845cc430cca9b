//! What is changed, when the directory does what it is asked.

use mainstay_sdk::testing::{Answer, Call};

use super::*;
use crate::server::{BASE, agent_dn, legacy_dn, store_dn};

fn user(n: usize) -> String {
    format!("CN=User {n},OU=People,{BASE}")
}

#[test]
fn all_recipients_go_there_and_back() {
    let (host, directory) = world(1_000);
    directory.add_recipient(&format!("CN=Board,{BASE}"), "EX01", "Board (closed)*");
    let done = apply(json!({}));
    assert_eq!((done.changed, done.already, done.planned, done.refused.len()), (1_001, 0, 0, 0));
    assert_eq!(directory.homed_at("EX02", "Mailbox Store"), 1_000);
    assert_eq!(directory.homed_at("EX02", "Board (closed)*"), 1);
    assert_eq!(directory.home(&user(7)), [store_dn("EX02", "Mailbox Store"), agent_dn("EX02"), legacy_dn("EX02")]);
    assert!(host.calls().iter().any(|call| matches!(call, Call::TcpStartTls { tls, .. } if tls.server_name == DC1)));
    host.assert_declared::<mainstay_kit_exchange::Exchange>();

    let again = apply(json!({}));
    assert_eq!((again.changed, again.already), (0, 1_001));

    let done = rehome(&params(json!({})), &back(), Mode::Apply).unwrap();
    assert_eq!((done.changed, done.already), (1_001, 0));
    assert_eq!(directory.homed_at("EX01", "Mailbox Store"), 1_000);
}

#[test]
fn a_dry_run_changes_nothing() {
    let (_host, directory) = world(700);
    let done = rehome(&params(json!({ "page-size": 100 })), &away(), Mode::DryRun).unwrap();
    assert_eq!((done.planned, done.changed, directory.count("modify")), (700, 0, 0));
}

#[test]
fn stores_of_other_names_are_mapped() {
    let (_host, directory) = world(3);
    directory.remove(&store_dn("EX02", "Mailbox Store"));
    directory.add_store("EX02", "First Storage Group", "Standby Store");
    let mut asked = away();
    let error = rehome(&params(json!({})), &asked, Mode::Apply).unwrap_err();
    is(&error, ErrorKind::Conflict, "store-names", Retry::Nowhere, Effect::None);
    says(&error, r"this node's server has no mailbox store First Storage Group\Mailbox Store");
    says(&error, r"EX02 has: First Storage Group\Board (closed)*; First Storage Group\Standby Store");

    asked.stores = stores(&[(r"first storage group\mailbox store", "Standby Store")]);
    assert_eq!(rehome(&params(json!({})), &asked, Mode::Apply).unwrap().changed, 3);
    assert_eq!(directory.homed_at("EX02", "Standby Store"), 3);
}

#[test]
fn what_a_script_left_half_done_is_finished() {
    let (_host, directory) = world(2);
    // Its store is right already, the rest is not.
    directory.set(|state| {
        let object = state.objects.iter_mut().find(|object| object.dn == user(0)).unwrap();
        object.attributes.insert("homemdb".into(), vec![store_dn("EX02", "Mailbox Store")]);
    });
    let done = apply(json!({}));
    assert_eq!((done.changed, done.already), (2, 0));
    assert_eq!(directory.homed_at("EX02", "Mailbox Store"), 2);
}

#[test]
fn a_mailbox_of_the_store_itself_stays() {
    let (_host, directory) = world(1);
    let dn = format!("CN=SystemMailbox{{x}},CN=Microsoft Exchange System Objects,{BASE}");
    directory.add_recipient(&dn, "EX01", "Mailbox Store");
    directory.set(|state| {
        let object = state.objects.iter_mut().find(|object| object.dn == dn).unwrap();
        object.attributes.insert("objectclass".into(), vec!["top".into(), "msExchSystemMailbox".into()]);
    });
    assert_eq!(apply(json!({})).changed, 1);
    assert_eq!(directory.home(&dn)[0], store_dn("EX01", "Mailbox Store"));
}

#[test]
fn a_store_that_is_only_for_recovery_is_let_be() {
    let (_host, directory) = world(1);
    directory.add_store("EX01", "Recovery Storage Group", "Mailbox Store");
    directory.set(|state| {
        let store = state.objects.last_mut().unwrap();
        store.attributes.insert("msexchrestore".into(), vec!["TRUE".into()]);
    });
    assert_eq!(apply(json!({})).changed, 1);
}

#[test]
fn recipients_that_come_while_it_goes_on_are_found() {
    let (_host, directory) = world(10);
    let it = directory.clone();
    let mut came = 0;
    directory.behave(move |asked, _, messages| {
        if asked == server::Asked::Modify && came < 5 {
            came += 1;
            it.add_recipient(&format!("CN=Late {came},{BASE}"), "EX01", "Mailbox Store");
        }
        messages
    });
    assert_eq!(apply(json!({})).changed, 15);
    assert_eq!(directory.homed_at("EX02", "Mailbox Store"), 15);
}

#[test]
fn recipients_that_never_stop_coming_are_told() {
    let (_host, directory) = world(1);
    let it = directory.clone();
    let mut came = 0;
    directory.behave(move |asked, _, messages| {
        if asked == server::Asked::Modify {
            came += 1;
            it.add_recipient(&format!("CN=Late {came},{BASE}"), "EX01", "Mailbox Store");
        }
        messages
    });
    let error = error(json!({}));
    is(&error, ErrorKind::Conflict, "still-moving", Retry::Here, Effect::Partial);
    says(&error, "after 20 searches there are still recipients that get a home at EX01");
}

#[test]
fn a_recipient_that_somebody_moves_or_deletes_meanwhile_is_let_be() {
    let (_host, directory) = world(3);
    directory.add_server("EX03", server::VERSION);
    directory.add_store("EX03", "First Storage Group", "Elsewhere");
    let it = directory.clone();
    directory.behave(move |asked, _, messages| {
        // Between the search and the change.
        let found = messages.iter().any(|message| message.windows(6).any(|it| it == b"User 1"));
        if asked == server::Asked::Search && found {
            it.set(|state| {
                let object = state.objects.iter_mut().find(|object| object.dn == user(1)).unwrap();
                object.attributes.insert("homemdb".into(), vec![store_dn("EX03", "Elsewhere")]);
            });
            it.remove(&user(2));
        }
        messages
    });
    let done = apply(json!({}));
    assert_eq!((done.changed, done.refused.len()), (1, 0));
    assert_eq!(directory.home(&user(1))[0], store_dn("EX03", "Elsewhere"));
}

#[test]
fn those_that_are_refused_are_told_and_the_others_go_on() {
    let (_host, directory) = world(20);
    directory.set(|state| {
        state
            .refuses
            .insert(user(3), (50, "00002098: SecErr: DSID-031514A0, problem 4003 (INSUFF_ACCESS_RIGHTS)\0".into()));
        state.refuses.insert(user(4), (19, "no such store".into()));
    });
    let done = apply(json!({ "batch": 1 }));
    assert_eq!((done.changed, directory.homed_at("EX02", "Mailbox Store")), (18, 18));
    let why = "insufficientAccessRights (50): 00002098: SecErr: DSID-031514A0, problem 4003 (INSUFF_ACCESS_RIGHTS)";
    assert_eq!(
        done.refused,
        [(user(3), why.to_owned()), (user(4), "constraintViolation (19): no such store".to_owned())]
    );
    let error = done.refusal().unwrap();
    is(&error, ErrorKind::Failed, "recipients-refused", Retry::Nowhere, Effect::Partial);
    says(
        &error,
        &format!(
            "2 of 20 recipients keep their home on the failed server, because the directory refuses to change them: {}: {why}",
            user(3)
        ),
    );
}

#[test]
fn when_far_too_many_are_refused_it_ends() {
    let (_host, directory) = world(1_200);
    directory.set(|state| {
        for n in 0..1_200 {
            state.refuses.insert(user(n), (50, String::new()));
        }
    });
    let error = error(json!({}));
    is(&error, ErrorKind::Denied, "too-many-refused", Retry::Nowhere, Effect::None);
    says(
        &error,
        "1000 recipients were refused, the last one with insufficientAccessRights (50): what may the account mainstay@corp.test do?",
    );
}

#[test]
fn it_goes_on_where_a_call_before_it_ended() {
    let (_host, directory) = world(300);
    let it = directory.clone();
    directory.behave(move |asked, _, messages| {
        // The connection is gone, and so is every later one: as if the kit had been killed.
        if asked == server::Asked::Modify && it.count("modify") > 100 {
            return server::Sent::Raw(Answer::nothing().then_close());
        }
        if it.count("modify") > 100 { server::Sent::Raw(Answer::nothing().then_close()) } else { messages.into() }
    });
    let first = error(json!({}));
    is(&first, ErrorKind::Unavailable, "connection-broken", Retry::Here, Effect::Partial);
    assert!(first.details.iter().any(|(key, value)| key == "changed" && value != "0"), "{first:?}");
    let moved = directory.homed_at("EX02", "Mailbox Store");
    assert!((85..=116).contains(&moved), "{moved}");

    directory.behave(|_, _, messages| messages);
    let done = apply(json!({}));
    assert_eq!((done.changed, done.already), (300 - moved, moved));
    assert_eq!(directory.homed_at("EX02", "Mailbox Store"), 300);
}

#[test]
fn few_bytes_at_a_time_are_enough() {
    let (host, directory) = world(20);
    host.tcp_read_max(1);
    assert_eq!(apply(json!({ "page-size": 3 })).changed, 20);
    assert_eq!(directory.homed_at("EX02", "Mailbox Store"), 20);
}

#[test]
fn other_domains_are_told_and_the_partitions_of_every_domain_are_not() {
    let (host, directory) = world(1);
    let child = "ldap://child.corp.test/DC=child,DC=corp,DC=test";
    directory.set(|state| {
        state.references = vec![
            "ldap://DomainDnsZones.corp.test/DC=DomainDnsZones,DC=corp,DC=test".into(),
            "ldap://corp.test/CN=Configuration,DC=corp,DC=test".into(),
            child.into(),
        ];
    });
    assert_eq!(apply(json!({})).elsewhere, [child]);
    assert!(
        host.logged()
            .iter()
            .any(|line| line.message.contains("are not looked for: only those below DC=corp,DC=test are"))
    );
}

#[test]
fn names_may_be_given_in_place_of_what_the_server_says() {
    let (_host, directory) = world(1);
    directory.set(|state| state.mute_root = true);
    let error = error(json!({}));
    is(&error, ErrorKind::Failed, "no-partition", Retry::Nowhere, Effect::None);
    says(&error, "dc1.corp.test:389 does not say its defaultNamingContext: it is no domain controller");
    let done = apply(json!({ "base": "OU=People,DC=corp,DC=test", "configuration": server::CONFIGURATION }));
    assert_eq!(done.changed, 1);
}

#[test]
fn what_cannot_be_rehomed_is_said_before_anything_is_changed() {
    let (_host, directory) = world(2);
    let check = |from: &str, to: &str, kind, code: &str, words: &str| {
        let asked = Rehome { from_server: from.into(), to_server: to.into(), stores: Vec::new() };
        let error = rehome(&params(json!({})), &asked, Mode::Apply).unwrap_err();
        assert_eq!((error.kind, error.code.as_str(), error.effect), (kind, code, Effect::None), "{error}");
        says(&error, words);
    };
    check("EX09", "EX02", ErrorKind::Failed, "no-such-server", "dc1.corp.test:389 knows no Exchange server EX09");
    check("ex01", "EX01", ErrorKind::InvalidParams, "params", "recipients cannot be rehomed from EX01 to itself");
    directory.add_server("EX10", "Version 15.1 (Build 32507.6)");
    check(
        "EX01",
        "EX10",
        ErrorKind::Unsupported,
        "rehome-version",
        "EX10 is Version 15.1 (Build 32507.6): recipients are rehomed on",
    );
    directory.add_server("EX04", server::VERSION);
    check("EX04", "EX01", ErrorKind::Failed, "no-stores", "EX04 has no mailbox store below CN=EX04");
    directory.remove(&agent_dn("EX02"));
    check("EX01", "EX02", ErrorKind::Failed, "no-transfer-agent", "EX02 has 0 objects of class mTA");
    assert_eq!(directory.count("modify"), 0);
}
