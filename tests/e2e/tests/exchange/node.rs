//! A node that runs the Exchange kit, with the services of a test's systemd.

use std::path::Path;
use std::time::Duration;

use mainstay_runtime::Grants;
use mainstay_test_e2e::caller::{Called, Caller};
use mainstay_test_support::kit;

use crate::stack::{DOVECOT, PASSWORD, POSTFIX, Stack};

/// One on which this stack's services are, and which may reach it and these addresses besides.
pub(crate) fn node_of(stack: &Stack, more: &[String]) -> Caller {
    let secrets = [
        ("probe", PASSWORD.to_owned()),
        ("wrong", "not it".to_owned()),
        ("ca", stack.authority.clone()),
        ("stranger", stack.stranger.clone()),
    ];
    let grants = Grants {
        net: stack.addresses().iter().chain(more).map(|address| address.parse().expect("host:port")).collect(),
        service: vec![POSTFIX.to_owned(), DOVECOT.to_owned()],
        ..Grants::default()
    };
    Caller::new(Called {
        kit: &kit("exchange"),
        tag: "exchange",
        grants,
        secrets: &secrets,
        bus: Some(&stack.systemd.address()),
        scratch: Path::new(env!("CARGO_TARGET_TMPDIR")),
        budget: Duration::from_secs(120),
    })
}
