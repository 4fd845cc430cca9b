//! A node that runs the DNS kit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_runtime::Grants;
use mainstay_test_e2e::caller::{Called, Caller};
use mainstay_test_support::kit;
use serde_json::{Value, json};

use crate::servers::{KEYS, NameServer, POWERLESS_KEY, ZONE};

/// Names the kit's file, for a node in a process of its own: what is built is not asked of cargo there.
pub(crate) const KIT_VARIABLE: &str = "MAINSTAY_TEST_DNS_KIT";
/// The secret that is no server's.
pub(crate) const WRONG_SECRET: &str = "wrong";

/// One that may reach these servers, and has every key's secret under the key's name.
pub(crate) fn granted(addresses: &[String]) -> Caller {
    let keys = KEYS.into_iter().chain([POWERLESS_KEY]).map(|(name, _, secret)| (name, secret));
    let keys = keys.chain([(WRONG_SECRET, "b25lIHRoYXQgbm8gc2VydmVyIGtub3dz")]);
    let secrets: Vec<_> = keys.map(|(name, secret)| (name, format!("{secret}\n"))).collect();
    let net = addresses.iter().map(|address| address.parse().expect("host:port")).collect();
    Caller::new(Called {
        kit: &std::env::var_os(KIT_VARIABLE).map_or_else(|| kit("dns"), PathBuf::from),
        tag: "name",
        grants: Grants { net, ..Grants::default() },
        secrets: &secrets,
        bus: None,
        scratch: Path::new(env!("CARGO_TARGET_TMPDIR")),
        budget: Duration::from_secs(60),
    })
}

/// One that may reach this server.
pub(crate) fn for_server(server: &NameServer) -> Caller {
    granted(&[server.address()])
}

/// Params for the server at this address: the first key, one address, and others in their place or besides; null takes one away.
pub(crate) fn params_at(address: &str, more: Value) -> Value {
    let (key, ..) = KEYS[0];
    let mut params = json!({
        "zone": ZONE, "servers": [address], "key": { "name": key, "secret": key }, "on-remove": "delete",
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

/// Params for this server, likewise.
pub(crate) fn params(server: &NameServer, more: Value) -> Value {
    params_at(&server.address(), more)
}
