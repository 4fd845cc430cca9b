//! What is found of two servers, before one has to take the other's place.

use mainstay_kit_exchange::directory::compare;

use super::*;
use crate::server::{BASE, VERSION, server_dn, store_dn};

#[track_caller]
fn found(more: Value) -> Vec<(Weight, String, String)> {
    let findings = compare(&params(more), "EX02", "EX01", &[]).unwrap_or_else(|error| panic!("{error}"));
    findings.into_iter().map(|finding| (finding.weight, finding.code, finding.summary)).collect()
}

#[test]
fn two_that_fit_are_ready() {
    let (_host, directory) = world(3);
    assert_eq!(found(json!({})), []);
    assert_eq!(directory.count("modify"), 0);
}

#[test]
fn what_does_not_fit_is_blocking() {
    let (_host, directory) = world(3);
    directory.remove(&store_dn("EX02", "Mailbox Store"));
    directory.remove(&server_dn("EX02"));
    directory.add(
        &server_dn("EX02"),
        &[
            ("objectClass", &["msExchExchangeServer"]),
            ("cn", &["EX02"]),
            ("serialNumber", &["Version 6.5 (Build 7226.6: Service Pack 1)"]),
            ("msExchMDBAvailabilityGroupLink", &["CN=DAG1"]),
        ],
    );
    let found = found(json!({}));
    let all: Vec<_> = found.iter().map(|(weight, code, summary)| (*weight, code.as_str(), summary.as_str())).collect();
    assert_eq!(
        all,
        [
            (Weight::Blocking, "dag-member", "EX02 is a member of the database availability group CN=DAG1"),
            (
                Weight::Blocking,
                "version-differs",
                &*format!("EX02 is Version 6.5 (Build 7226.6: Service Pack 1), and EX01 is {VERSION}")
            ),
            (
                Weight::Blocking,
                "store-names",
                r"the mailbox stores of EX02 do not fit those of EX01: this node's server has no mailbox store First Storage Group\Mailbox Store"
            ),
        ]
    );
}

#[test]
fn an_account_without_the_rights_is_found() {
    let (_host, directory) = world(0);
    let dn = format!("CN=Chief,{BASE}");
    directory.add_recipient(&dn, "EX01", "Board (closed)*");
    directory.set(|state| {
        let object = state.objects.iter_mut().find(|object| object.dn == dn).unwrap();
        object.attributes.insert("allowedattributeseffective".into(), vec!["description".into(), "HOMEMDB".into()]);
    });
    let found = found(json!({}));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].1.as_str()), (Weight::Blocking, "no-rights"));
    assert_eq!(
        found[0].2,
        format!(
            r"the account mainstay@corp.test may not change homeMTA, msExchHomeServerName of {dn}, a recipient of First Storage Group\Board (closed)*"
        )
    );
}

#[test]
fn a_server_that_is_not_there_is_found() {
    let (_host, directory) = world(1);
    directory.remove(&server_dn("EX01"));
    assert_eq!(
        found(json!({})),
        [(Weight::Blocking, "no-such-server".into(), "dc1.corp.test:389 knows no Exchange server EX01".into())]
    );
}

#[test]
fn later_versions_have_no_stores_to_compare() {
    let (_host, directory) = world(1);
    for name in ["EX01", "EX02"] {
        directory.remove(&server_dn(name));
        directory.remove(&server::agent_dn(name));
        directory.add_server(name, "Version 15.2 (Build 31118.7)");
    }
    directory.remove(&store_dn("EX02", "Mailbox Store"));
    assert_eq!(found(json!({})), []);
}

#[test]
fn a_connection_without_tls_is_warned_of() {
    let (_host, _directory) = world(1);
    let found = found(json!({ "tls": "none" }));
    assert_eq!((found[0].0, found[0].1.as_str(), found.len()), (Weight::Warning, "directory-not-secured", 1));
}

#[test]
fn a_directory_that_does_not_answer_is_an_error() {
    let host = FakeHost::install();
    host.secret("directory", "x");
    host.tcp(DC1, 389, |_: &mut Vec<u8>| ());
    let error = compare(&params(json!({})), "EX02", "EX01", &[]).unwrap_err();
    is(&error, ErrorKind::Unavailable, "no-answer", Retry::Here, Effect::None);
}
