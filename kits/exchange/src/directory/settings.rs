//! The params of the directory, looked through: everything that cannot be right is said before anybody is asked.

use std::time::Duration;

use mainstay_sdk::net::Address;
use mainstay_sdk::prelude::*;

use super::params::{DirectoryParams, Security};

/// The port of LDAP, with and without StartTLS (RFC 4511, 5.2).
const PORT: u16 = 389;
/// The port of LDAP that begins with TLS.
const PORT_TLS: u16 = 636;
/// Most servers of one directory: each costs time when it is dead, and nobody has more worth asking.
const SERVERS_MAX: usize = 16;
/// For one answer, in ms, unless the params say otherwise. A page of 500 recipients takes a busy server one second.
const ANSWER_MS: u64 = 10_000;
/// The longest and the shortest time that may be given for an answer, in ms.
const ANSWER_MS_RANGE: std::ops::RangeInclusive<u128> = 100..=120_000;
/// Recipients in a page, unless the params say otherwise, and at most: as many as Active Directory gives
/// (`MaxPageSize`, 1,000).
const PAGE_SIZE: u16 = 500;
const PAGE_SIZE_MAX: u16 = 1_000;
/// Changes under way at once, unless the params say otherwise, and at most: enough to hide the network's delay, and
/// too few to fill a socket's buffers on both sides.
const BATCH: u16 = 16;
const BATCH_MAX: u16 = 100;
/// The longest name of an account, or distinguished name, in bytes: Active Directory's own are shorter.
const NAME_BYTES_MAX: usize = 2_048;

/// What is asked for, and how.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Whom to ask, in this order; at least one.
    pub(crate) servers: Vec<Address>,
    /// How connections are secured.
    pub(crate) tls: Security,
    /// The name in every server's certificate; none: the host.
    pub(crate) server_name: Option<String>,
    /// The secret with the CA.
    pub(crate) trust: Option<String>,
    /// The account.
    pub(crate) user: String,
    /// The secret with its password.
    pub(crate) secret: String,
    /// Where recipients are looked for.
    pub(crate) base: Option<String>,
    /// The configuration partition.
    pub(crate) configuration: Option<String>,
    /// For an answer, or a page of them.
    pub(crate) answer: Duration,
    /// Entries in a page.
    pub(crate) page_size: u16,
    /// Changes under way.
    pub(crate) batch: usize,
}

/// Whether the params make sense, before anything is done by them.
///
/// # Errors
/// `params`, with all that is wrong.
pub fn check(params: &DirectoryParams) -> Result<(), Error> {
    Settings::new(params).map(drop)
}

impl Settings {
    /// Reads the params, or says all that is wrong with them.
    pub(crate) fn new(params: &DirectoryParams) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let default_port = if params.tls == Security::Ldaps { PORT_TLS } else { PORT };
        let mut servers = Vec::new();
        for text in &params.servers {
            match Address::read(text, default_port) {
                Some(server) => servers.push(server),
                None => problems.push(format!("directory.servers: {text:?} is neither host nor host:port")),
            }
        }
        if params.servers.is_empty() || params.servers.len() > SERVERS_MAX {
            problems.push(format!("directory.servers: there have to be 1 to {SERVERS_MAX}"));
        }
        let names = [
            ("directory.bind.user", Some(&params.bind.user)),
            ("directory.bind.secret", Some(&params.bind.secret)),
            ("directory.base", params.base.as_ref()),
            ("directory.configuration", params.configuration.as_ref()),
            ("directory.server-name", params.server_name.as_ref()),
            ("directory.trust", params.trust.as_ref()),
        ];
        for (at, name) in names.into_iter().filter_map(|(at, name)| Some((at, name?))) {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
                problems.push(format!("{at}: give 1 to {NAME_BYTES_MAX} bytes without control characters"));
            }
        }
        for (at, dn) in [("directory.base", &params.base), ("directory.configuration", &params.configuration)] {
            if dn.as_ref().is_some_and(|dn| super::dn::parse(dn).is_none()) {
                problems.push(format!("{at}: it is no distinguished name, such as DC=example,DC=org"));
            }
        }
        let answer = params.timeout.map_or(Duration::from_millis(ANSWER_MS), Span::duration);
        if !ANSWER_MS_RANGE.contains(&answer.as_millis()) {
            problems.push("directory.timeout: give 100ms to 2m".to_owned());
        }
        let mut within = |at: &str, given: Option<u16>, usual: u16, max: u16| {
            let number = given.unwrap_or(usual);
            if !(1..=max).contains(&number) {
                problems.push(format!("{at}: give 1 to {max}"));
            }
            number
        };
        let page_size = within("directory.page-size", params.page_size, PAGE_SIZE, PAGE_SIZE_MAX);
        let batch = within("directory.batch", params.batch, BATCH, BATCH_MAX);
        if !problems.is_empty() {
            return Err(Error::invalid_params("params", problems.join("; ")));
        }
        Ok(Self {
            servers,
            tls: params.tls,
            server_name: params.server_name.clone(),
            trust: params.trust.clone(),
            user: params.bind.user.clone(),
            secret: params.bind.secret.clone(),
            base: params.base.clone(),
            configuration: params.configuration.clone(),
            answer,
            page_size,
            batch: usize::from(batch),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_sdk::Params;
    use serde_json::{Value, json};

    fn settings(more: Value) -> Result<Settings, Error> {
        let mut params = json!({ "servers": ["dc1"], "bind": { "user": "u@example.org", "secret": "s" } });
        for (key, value) in more.as_object().unwrap() {
            params[key] = value.clone();
        }
        Settings::new(&DirectoryParams::read(&params.to_string()).unwrap())
    }

    #[test]
    fn servers_read_as_they_are_granted() {
        let check = |tls: &str, text: &str, expected: &str| {
            let settings = settings(json!({ "servers": [text], "tls": tls })).unwrap();
            assert_eq!(settings.servers[0].to_string(), expected);
        };
        check("start-tls", "dc1.example.org", "dc1.example.org:389");
        check("none", "192.0.2.1:3890", "192.0.2.1:3890");
        check("ldaps", "dc1", "dc1:636");
        check("ldaps", "[2001:db8::1]:1636", "[2001:db8::1]:1636");
        check("start-tls", "2001:db8::1", "[2001:db8::1]:389");
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let error = settings(json!({
            "servers": ["a b", "ldap://dc1"], "bind": { "user": "", "secret": "s\n" }, "base": "example.org",
            "timeout": "5m", "page-size": 1001, "batch": 0, "trust": "",
        }))
        .unwrap_err();
        assert_eq!((error.kind, error.code.as_str(), error.effect), (ErrorKind::InvalidParams, "params", Effect::None));
        for words in [
            "directory.servers: \"a b\" is neither host nor host:port",
            "\"ldap://dc1\" is neither",
            "directory.bind.user: give 1 to",
            "directory.bind.secret: give 1 to",
            "directory.base: it is no distinguished name",
            "directory.trust: give",
            "directory.timeout: give 100ms to 2m",
            "directory.page-size: give 1 to 1000",
            "directory.batch: give 1 to 100",
        ] {
            assert!(error.message.contains(words), "expected {words:?} in {error}");
        }
        assert!(settings(json!({ "servers": [] })).unwrap_err().message.contains("there have to be 1 to 16"));
    }
}
