//! What an operator writes for an Exchange server.
//!
//! The schema refuses what cannot be right by its shape; what only makes sense together is checked by `plan`. What differs by
//! node is a table with the node's name as its key, or goes into `params-on`.

use std::collections::BTreeMap;
use std::num::NonZero;

use mainstay_sdk::{Params, Span};
use serde::Deserialize;

use crate::directory::{DirectoryParams, StoreName};
use crate::versions::{Protocol, Version};

/// An Exchange server, in service on one node at a time.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExchangeParams {
    /// Which Exchange it is.
    pub version: Version,
    /// The services in the order they are started, in place of those known of the version; required where none are known.
    pub services: Option<Vec<ServiceParam>>,
    /// How long a service may take to start or to stop, by its name (default: by the service, a minute or more).
    #[serde(default)]
    pub timeouts: BTreeMap<String, Span>,
    /// End the processes of a service that does not stop in time (default: false, and say that it does not).
    #[serde(default)]
    pub end_processes: bool,
    /// What clients talk to; each is greeted by every check. What is not here is not looked at.
    #[serde(default)]
    pub protocols: Protocols,
    /// How long the protocols may take to greet after their services have started (default: 2m).
    pub greet_within: Option<Span>,
    /// The mailbox that deep-check logs in to, by IMAP, POP3 or both, as they are in `protocols`.
    pub test_mailbox: Option<TestMailbox>,
    /// The name of the Exchange server on each node, by node.
    #[serde(default)]
    pub servers: BTreeMap<String, String>,
    /// The directory, in which the servers are compared, and recipients of 2003 and 2007 given their home on this node's.
    pub directory: Option<DirectoryParams>,
    /// 2003 and 2007: mailbox stores that are not called alike, from those of the other nodes to this one's.
    #[serde(default)]
    pub stores: Vec<StoreName>,
    /// Databases on replicated files, by any label: for each node the name of its database on them. For 2010 and later.
    #[serde(default)]
    pub databases: BTreeMap<String, BTreeMap<String, String>>,
    /// The program that runs the Exchange cmdlets, granted; needed for `databases` (default: Windows PowerShell, where Windows has it).
    pub powershell: Option<String>,
}

/// A service: its name, or a table that says more.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(untagged)]
pub enum ServiceParam {
    /// The name by which the system knows it, granted.
    Name(String),
    /// A service with a time limit, dependencies, or what it serves.
    Full(FullService),
}

/// A service and what is to be known of it.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FullService {
    /// The name by which the system knows it, granted.
    pub name: String,
    /// How long it may take to start or to stop (default: 1m).
    pub timeout: Option<Span>,
    /// Services before it in the list that it depends on: it is restarted when one of them is repaired.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// What it serves to clients: it is restarted when that does not answer.
    #[serde(default)]
    pub serves: Vec<Protocol>,
    /// What it is to the server (default: required).
    #[serde(default)]
    pub need: NeedParam,
}

/// What a service is to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
pub enum NeedParam {
    /// without it the server is not in service
    #[default]
    Required,
    /// used where it is installed, granted and not disabled
    Optional,
    /// the system's own: started if it does not run, and left running
    System,
}

/// What clients talk to.
#[derive(Clone, Debug, Default, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Protocols {
    /// Port 25, with implicit TLS 465.
    pub smtp: Option<EndpointParams>,
    /// Port 110, with implicit TLS 995.
    pub pop3: Option<EndpointParams>,
    /// Port 143, with implicit TLS 993.
    pub imap: Option<EndpointParams>,
    /// Port 80, with implicit TLS 443.
    pub http: Option<WebParams>,
}

/// Where a protocol is spoken.
#[derive(Clone, Debug, Default, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EndpointParams {
    /// The host, granted with its port (default: 127.0.0.1).
    pub host: Option<String>,
    /// The port (default: the protocol's).
    pub port: Option<NonZero<u16>>,
    /// How the connection is secured (default: none).
    #[serde(default)]
    pub tls: Tls,
    /// The name in the server's certificate (default: the host).
    pub server_name: Option<String>,
    /// The name of the granted secret that holds the CA in PEM (default: the authorities this node's system trusts).
    pub trust: Option<String>,
    /// How long the greeting may take, from the connection to its last byte; in deep-check each further answer too (default: 5s).
    pub timeout: Option<Span>,
}

/// Where the web server is, and which page says that it serves.
#[derive(Clone, Debug, Default, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebParams {
    /// The host, granted with its port (default: 127.0.0.1).
    pub host: Option<String>,
    /// The port (default: 80, with TLS 443).
    pub port: Option<NonZero<u16>>,
    /// How the connection is secured: implicit or none (default: none).
    #[serde(default)]
    pub tls: Tls,
    /// The name in the server's certificate, and of the site that is asked for (default: the host).
    pub server_name: Option<String>,
    /// The name of the granted secret that holds the CA in PEM (default: the authorities this node's system trusts).
    pub trust: Option<String>,
    /// How long the answer may take (default: 5s).
    pub timeout: Option<Span>,
    /// The page that is asked for (default: by version).
    pub path: Option<String>,
    /// The statuses that mean that it serves (default: by version, else 200).
    pub statuses: Option<Vec<u16>>,
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// not at all
    #[default]
    None,
    /// from the first byte, on a port of its own
    Implicit,
    /// after the greeting on the usual port, by STARTTLS or STLS; deep-check does it
    StartTls,
}

/// A mailbox to log in to.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TestMailbox {
    /// The name that is logged in with.
    pub user: String,
    /// The name of the granted secret that holds its password.
    pub secret: String,
}
