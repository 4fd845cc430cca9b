//! What an operator writes for the directory: where it is, how it is spoken to, as whom, and in which portions.

use mainstay_sdk::{Params, Span};
use serde::Deserialize;

/// Active Directory, as this node asks it over LDAP.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DirectoryParams {
    /// The domain controllers, tried in order until one does it: host or host:port (default: port 389, with ldaps 636).
    pub servers: Vec<String>,
    /// How the connection is secured (default: start-tls).
    #[serde(default)]
    pub tls: Security,
    /// The name in the certificate of every server (default: the host that the server is listed with).
    pub server_name: Option<String>,
    /// The name of the granted secret that holds the CA in PEM (default: the authorities this node's system trusts).
    pub trust: Option<String>,
    /// Who asks: an account that may read the configuration, and change the recipients' homes.
    pub bind: Bind,
    /// Where recipients are looked for (default: the domain of the server).
    pub base: Option<String>,
    /// The configuration partition (default: the one the server names).
    pub configuration: Option<String>,
    /// How long a server has for one answer, or for one page of answers (default: 10s).
    pub timeout: Option<Span>,
    /// How many recipients a server is asked for at once, up to 1000 (default: 500).
    pub page_size: Option<u16>,
    /// How many changes are under way at once, up to 100 (default: 16).
    pub batch: Option<u16>,
}

/// Who asks.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bind {
    /// The account: name@domain, DOMAIN\name, or its distinguished name.
    pub user: String,
    /// The name of the granted secret that holds its password.
    pub secret: String,
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// TLS on the usual port, before anything else is said
    #[default]
    StartTls,
    /// TLS from the first byte, on a port of its own
    Ldaps,
    /// Not at all: the account's password crosses the network readable, and nobody proves who answers. For tests
    None,
}

/// A mailbox store that has another name on this node's server than on the failed one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreName {
    /// Its name on the failed server: STORE, or GROUP\STORE where two groups have a store of that name.
    pub from: String,
    /// Its name on this node's server, likewise.
    pub to: String,
}
