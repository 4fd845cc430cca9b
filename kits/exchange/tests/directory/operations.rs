//! The directory in the kit's operations: recipients come after the services, and a standby is compared with the owner.

use mainstay_kit_exchange::{Exchange, ExchangeParams};
use mainstay_sdk::prelude::*;
use mainstay_sdk::service::State;
use mainstay_sdk::testing::{Call, FakeHost, FakeService, Operation};
use serde_json::{Value, json};

use crate::server::{Directory, USER};
use crate::{DC1, world};

const STORE: &str = "Mailbox Store";

/// The standby, with one service that does not run, and its params for this version.
fn standby(count: usize, version: &str) -> (FakeHost, Directory, Context<ExchangeParams>) {
    let (host, directory) = world(count);
    host.service("MSExchangeIS", FakeService::stopped());
    let ctx = host.context(params(version));
    (host, directory, ctx)
}

fn params(version: &str) -> Value {
    json!({
        "version": version, "services": ["MSExchangeIS"],
        "servers": { "node1": "EX02", "node2": "EX01" },
        "directory": { "servers": [DC1], "bind": { "user": USER, "secret": "directory" } },
    })
}

#[test]
fn recipients_are_rehomed_once_the_services_run() {
    let (host, directory, ctx) = standby(12, "2003");
    assert_eq!(Exchange::assess(&ctx).unwrap(), []);
    host.forget_calls();
    let done = Exchange::restore(&ctx).unwrap();
    assert_eq!(done.summary, "1 services started, 12 recipients rehomed");
    assert_eq!((directory.stored_at("EX01", STORE), directory.stored_at("EX02", STORE)), (0, 12));
    let at = |wanted: fn(&Call) -> bool| host.calls().iter().position(wanted).expect("a call");
    let started = at(|call| matches!(call, Call::ServiceStart { .. }));
    assert!(started < at(|call| matches!(call, Call::TcpConnect { .. })));
    assert!(!Exchange::restore(&ctx).unwrap().changed);
    host.assert_declared::<Exchange>();
    // Whoever takes it next rehomes them: nothing is done about them when it goes.
    host.forget_calls();
    Exchange::remove(&ctx).unwrap();
    assert!(!host.calls().iter().any(|call| matches!(call, Call::TcpConnect { .. })));
    assert_eq!(directory.stored_at("EX02", STORE), 12);
}

#[test]
fn a_directory_that_does_not_answer_is_an_error_with_the_services_left_running() {
    let (host, _, ctx) = standby(3, "2003");
    for _ in 0..200 {
        host.fail(Operation::TcpConnect, Fault::new(FaultKind::Unavailable, "unreachable", "connection refused"));
    }
    let error = Exchange::restore(&ctx).unwrap_err();
    assert_eq!((error.code.as_str(), error.effect), ("unreachable", Effect::Partial), "{error}");
    assert_eq!(host.service_now("MSExchangeIS").state, State::Running);
    host.set_budget(crate::BUDGET);
    let found = Exchange::assess(&ctx).unwrap();
    assert_eq!(
        (found.len(), found[0].weight, found[0].code.as_str()),
        (1, Weight::Blocking, "unreachable"),
        "{found:?}"
    );
}

#[test]
fn servers_that_differ_are_found_on_the_standby() {
    let (_host, directory, ctx) = standby(1, "2003");
    directory.set(|state| {
        for object in &mut state.objects {
            if let Some(version) =
                object.attributes.get_mut("serialnumber").filter(|_| object.dn.starts_with("CN=EX02"))
            {
                *version = vec!["Version 6.5 (Build 7226.6: Service Pack 1)".into()];
            }
        }
    });
    let found = Exchange::assess(&ctx).unwrap();
    assert_eq!(
        (found.len(), found[0].weight, found[0].code.as_str()),
        (1, Weight::Blocking, "version-differs"),
        "{found:?}"
    );
}

#[test]
fn later_versions_are_compared_and_nobody_is_rehomed() {
    let (host, directory, ctx) = standby(5, "2019");
    let done = Exchange::restore(&ctx).unwrap();
    assert_eq!(done.summary, "1 services started");
    assert_eq!(directory.stored_at("EX01", STORE), 5);
    assert_eq!(directory.count("search"), 0);
    assert_eq!(Exchange::assess(&ctx).unwrap(), []);
    assert!(directory.count("search") > 0);

    let mut stores = params("2019");
    stores["stores"] = json!([{ "from": "a", "to": "b" }]);
    stores["servers"] = json!({ "node1": "EX02" });
    let error = Exchange::restore(&host.context::<ExchangeParams>(stores)).unwrap_err();
    assert!(error.message.contains("recipients are not rehomed") && error.message.contains("there is none"), "{error}");
}

#[test]
fn params_of_the_directory_that_make_no_sense_are_told_before_anything_is_done() {
    let (host, _directory, mut ctx) = standby(1, "2003");
    ctx.params.directory.as_mut().unwrap().servers.push("ldap://dc3".into());
    let error = Exchange::restore(&ctx).unwrap_err();
    assert_eq!((error.kind, error.effect), (ErrorKind::InvalidParams, Effect::None));
    assert!(error.message.contains("directory.servers: \"ldap://dc3\" is neither host nor host:port"), "{error}");
    assert_eq!(host.service_now("MSExchangeIS").state, State::Stopped);
}
