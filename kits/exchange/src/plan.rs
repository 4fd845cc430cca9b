//! Params that make sense: the services in order with what depends on what, what is greeted and how, and what is done about
//! databases. Every problem is told at once.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::time::Duration;

use mainstay_sdk::net;
use mainstay_sdk::prelude::*;

use crate::directory;
use crate::home::Home;
use crate::params::{EndpointParams, NeedParam, ServiceParam, Tls, WebParams};
use crate::versions::{Known, Need, Protocol, Repointing, TIME_S};
use crate::{ExchangeParams, TestMailbox};

/// Windows PowerShell, in every Windows: the Exchange cmdlets are not for its successor.
const POWERSHELL: &str = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe";
/// How long a protocol may take to greet: far more than a loaded server needs, and a client has not given up yet.
const GREETING: Duration = Duration::from_secs(5);
/// How long protocols may take to greet after their services run: transport loads its agents, the web server its applications.
const GREET_WITHIN: Duration = Duration::from_secs(120);
/// How many services a server has at the most; the largest known set has 32.
const SERVICES_MAX: usize = 64;
/// How many databases a resource has at the most: each takes its time in one run of the cmdlets.
const DATABASES_MAX: usize = 64;
/// Ports on which everybody expects TLS from the first byte.
const TLS_PORTS: [u16; 4] = [443, 465, 993, 995];
/// The longest name of a service that Windows allows, in characters.
const SERVICE_NAME_MAX: usize = 256;
/// The longest name of a database, in characters.
const DATABASE_NAME_MAX: usize = 64;
/// The longest name of a computer in the DNS, in characters.
const SERVER_NAME_MAX: usize = 63;

/// What is done, and with what.
pub(crate) struct Plan {
    /// In the order they are started.
    pub(crate) services: Vec<Service>,
    /// What is greeted.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) mailbox: Option<TestMailbox>,
    pub(crate) end_processes: bool,
    pub(crate) greet_within: Duration,
    /// The databases to be mounted here, if there are any.
    pub(crate) portability: Option<Portability>,
    /// What is asked of the directory, if it may be asked.
    pub(crate) home: Option<Home>,
}

/// A service of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// How long it may take to start or to stop.
    pub(crate) time: Duration,
    /// Which of those before it it depends on, by their place.
    pub(crate) depends_on: Vec<usize>,
    pub(crate) serves: Vec<Protocol>,
    pub(crate) need: Need,
    /// False: not started, but stopped if it runs.
    pub(crate) wanted: bool,
}

/// Where a protocol is spoken.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) protocol: Protocol,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// TLS from the first byte.
    pub(crate) implicit: Option<net::Tls>,
    /// TLS after the greeting.
    pub(crate) starttls: Option<net::Tls>,
    pub(crate) time: Duration,
    /// For HTTP.
    pub(crate) page: Page,
}

/// What is asked of a web server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) site: String,
    pub(crate) path: String,
    pub(crate) statuses: Vec<u16>,
}

/// Databases that are mounted on the files of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Portability {
    /// The program that runs the cmdlets.
    pub(crate) program: String,
    /// The Exchange server of this node.
    pub(crate) server: String,
    pub(crate) databases: Vec<Database>,
}

/// A database of this server, and those of others on the same files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) here: String,
    pub(crate) others: Vec<String>,
}

impl Endpoint {
    /// Where it is.
    pub(crate) fn at(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Plan {
    pub(crate) fn new(ctx: &Context<ExchangeParams>) -> Result<Self, Error> {
        let params = &ctx.params;
        let mut problems = Vec::new();
        let endpoints = endpoints(params, &mut problems);
        let services = services(params, &endpoints, &mut problems);
        check_servers(params, &mut problems);
        let portability = portability(ctx, &mut problems);
        let home = home(ctx, &mut problems);
        if let Some(mailbox) = &params.test_mailbox {
            check_mailbox(mailbox, &endpoints, &mut problems);
        }
        if !problems.is_empty() {
            return Err(Error::invalid_params("params", problems.join("; ")));
        }
        Ok(Self {
            services,
            endpoints,
            mailbox: params.test_mailbox.clone(),
            end_processes: params.end_processes,
            greet_within: params.greet_within.map_or(GREET_WITHIN, Span::duration),
            portability,
            home,
        })
    }
}

fn services(params: &ExchangeParams, endpoints: &[Endpoint], problems: &mut Vec<String>) -> Vec<Service> {
    let mut services = match (&params.services, params.version.services()) {
        (Some(listed), _) => listed_services(listed, problems),
        (None, Some(known)) => known_services(&known, endpoints),
        (None, None) => {
            problems.push(format!(
                "which services Exchange {} has, and in which order, is not known to the kit: list them, services = [\"...\"]",
                params.version.name()
            ));
            Vec::new()
        }
    };
    for (name, time) in &params.timeouts {
        match services.iter_mut().find(|service| service.name == *name) {
            Some(service) => service.time = time.duration(),
            None => problems.push(format!("timeouts.{name} is for a service that is not one of this server's")),
        }
    }
    services
}

fn known_services(known: &[Known], endpoints: &[Endpoint]) -> Vec<Service> {
    let place = |name: &&str| known.iter().position(|known| known.name == *name);
    let spoken = |protocol: Protocol| endpoints.iter().any(|endpoint| endpoint.protocol == protocol);
    let service = |of: &Known| Service {
        name: of.name.to_owned(),
        time: Duration::from_secs(u64::from(of.time_s)),
        depends_on: of.depends_on.iter().filter_map(place).collect(),
        serves: of.serves.into_iter().collect(),
        need: of.need,
        wanted: of.only_with.is_none_or(spoken),
    };
    known.iter().map(service).collect()
}

fn listed_services(listed: &[ServiceParam], problems: &mut Vec<String>) -> Vec<Service> {
    if listed.is_empty() || listed.len() > SERVICES_MAX {
        problems.push(format!("services has {} entries: 1 to {SERVICES_MAX} are possible", listed.len()));
    }
    let mut services: Vec<Service> = Vec::new();
    for entry in listed {
        let mut service = Service {
            name: entry.name().to_owned(),
            time: Duration::from_secs(u64::from(TIME_S)),
            depends_on: Vec::new(),
            serves: Vec::new(),
            need: Need::Required,
            wanted: true,
        };
        if let ServiceParam::Full(full) = entry {
            service.time = full.timeout.map_or(service.time, Span::duration);
            service.serves.clone_from(&full.serves);
            service.need = match full.need {
                NeedParam::Required => Need::Required,
                NeedParam::Optional => Need::Optional,
                NeedParam::System => Need::System,
            };
            for name in &full.depends_on {
                match services.iter().position(|before| before.name == *name) {
                    Some(place) => service.depends_on.push(place),
                    None => problems.push(format!(
                        "services: {} depends on {name}, which does not come before it in the list",
                        service.name
                    )),
                }
            }
        }
        let name = &service.name;
        if name.is_empty() || name.chars().count() > SERVICE_NAME_MAX || name.contains(['/', '\\']) || has_control(name)
        {
            problems.push(format!("services: {name:?} is no name of a service"));
        }
        if services.iter().any(|before| before.name == *name) {
            problems.push(format!("services: {name} is there twice"));
        }
        services.push(service);
    }
    if !services.iter().any(|service| service.need == Need::Required) && !services.is_empty() {
        problems.push("services: none is required, so nothing would say whether the server is in service".to_owned());
    }
    services
}

impl ServiceParam {
    fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Full(full) => &full.name,
        }
    }
}

fn endpoints(params: &ExchangeParams, problems: &mut Vec<String>) -> Vec<Endpoint> {
    let spoken = &params.protocols;
    let of = |protocol, params: &Option<EndpointParams>| params.clone().map(|params| (protocol, params));
    let mut all: Vec<Endpoint> =
        [of(Protocol::Smtp, &spoken.smtp), of(Protocol::Pop3, &spoken.pop3), of(Protocol::Imap, &spoken.imap)]
            .into_iter()
            .flatten()
            .map(|(protocol, params)| endpoint(protocol, &params, problems))
            .collect();
    if let Some(web) = &spoken.http {
        all.push(web_endpoint(params, web, problems));
    }
    all
}

fn endpoint(protocol: Protocol, params: &EndpointParams, problems: &mut Vec<String>) -> Endpoint {
    let (plain, secure) = match protocol {
        Protocol::Smtp => (25, 465),
        Protocol::Pop3 => (110, 995),
        Protocol::Imap => (143, 993),
        Protocol::Http => (80, 443),
    };
    let host = params.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
    let port = params.port.map_or(if params.tls == Tls::Implicit { secure } else { plain }, NonZero::get);
    let name = protocol.name();
    if params.tls == Tls::None && TLS_PORTS.contains(&port) {
        problems.push(format!(
            "protocols.{name}: on port {port} TLS is spoken from the first byte: say tls = \"implicit\""
        ));
    }
    if host.is_empty() || host.contains(char::is_whitespace) || has_control(&host) {
        problems.push(format!("protocols.{name}.host = {host:?} is no host"));
    }
    let tls = net::Tls::new(params.server_name.clone().unwrap_or_else(|| host.clone()));
    let tls = match &params.trust {
        Some(secret) => tls.trust(secret.clone()),
        None => tls,
    };
    Endpoint {
        protocol,
        implicit: (params.tls == Tls::Implicit).then(|| tls.clone()),
        starttls: (params.tls == Tls::StartTls).then_some(tls),
        host,
        port,
        time: params.timeout.map_or(GREETING, Span::duration),
        page: Page::default(),
    }
}

fn web_endpoint(params: &ExchangeParams, web: &WebParams, problems: &mut Vec<String>) -> Endpoint {
    let WebParams { host, port, tls, server_name, trust, timeout, path, statuses } = web.clone();
    if tls == Tls::StartTls {
        problems.push("protocols.http.tls: HTTP has no STARTTLS: say implicit or none".to_owned());
    }
    // Which site is asked for, without TLS too.
    let site = server_name.clone().or_else(|| host.clone()).unwrap_or_else(|| "localhost".to_owned());
    if site.contains(char::is_whitespace) || has_control(&site) {
        problems.push(format!("protocols.http.server-name = {site:?} is no name of a site"));
    }
    let known = params.version.health_page();
    let path = path.or_else(|| known.map(|page| page.path.to_owned())).unwrap_or_else(|| {
        problems.push(format!(
            "protocols.http.path: no page is known of Exchange {} that says whether it serves: give one",
            params.version.name()
        ));
        String::new()
    });
    // It becomes a line of a request.
    if !path.is_empty() && (!path.starts_with('/') || !path.bytes().all(|byte| (0x21..0x7f).contains(&byte))) {
        problems.push(format!("protocols.http.path = {path:?} is no path: it begins with / and has neither blanks nor letters beyond ASCII"));
    }
    let statuses = statuses.unwrap_or_else(|| known.map_or_else(|| vec![200], |page| page.statuses.to_vec()));
    if statuses.is_empty() || statuses.iter().any(|status| !(100..600).contains(status)) {
        problems.push(format!("protocols.http.statuses = {statuses:?}: at least one, each from 100 to 599"));
    }
    let endpoint = endpoint(Protocol::Http, &EndpointParams { host, port, tls, server_name, trust, timeout }, problems);
    Endpoint { page: Page { site, path, statuses }, ..endpoint }
}

fn check_mailbox(mailbox: &TestMailbox, endpoints: &[Endpoint], problems: &mut Vec<String>) {
    if mailbox.user.is_empty() || has_control(&mailbox.user) {
        problems.push(format!("test-mailbox.user = {:?} is no name to log in with", mailbox.user));
    }
    if !endpoints.iter().any(|endpoint| matches!(endpoint.protocol, Protocol::Pop3 | Protocol::Imap)) {
        problems.push("test-mailbox: there is neither protocols.imap nor protocols.pop3 to log in by".to_owned());
    }
}

fn portability(ctx: &Context<ExchangeParams>, problems: &mut Vec<String>) -> Option<Portability> {
    let params = &ctx.params;
    if params.databases.is_empty() {
        return None;
    }
    match params.version.repointing() {
        Repointing::Portability => {}
        Repointing::Rehome | Repointing::Unknown => problems.push(format!(
            "databases: database portability, by which they would be mounted, is not for Exchange {}",
            params.version.name()
        )),
    }
    if params.databases.len() > DATABASES_MAX {
        problems.push(format!("databases has {} entries, {DATABASES_MAX} are possible", params.databases.len()));
    }
    let server = server_here(ctx, "databases", problems);
    let mut seen = BTreeSet::new();
    let mut databases = Vec::new();
    for (label, by_node) in &params.databases {
        for (node, name) in by_node {
            if !is_database(name) {
                problems.push(format!("databases.{label}.{node} = {name:?} is no name of a database"));
            }
            if !seen.insert(name.to_lowercase()) {
                problems.push(format!(
                    "databases.{label}.{node}: {name} is there twice; each node has a database of its own on the same files"
                ));
            }
        }
        match by_node.get(&ctx.node) {
            Some(here) => {
                let others = by_node.iter().filter(|(node, _)| **node != ctx.node).map(|(_, name)| name.clone());
                databases.push(Database { here: here.clone(), others: others.collect() });
            }
            None => problems
                .push(format!("databases.{label}.{0}: which database {0} has on these files is not said", ctx.node)),
        }
    }
    let program = params.powershell.clone().unwrap_or_else(|| POWERSHELL.to_owned());
    Some(Portability { program, server, databases })
}

fn home(ctx: &Context<ExchangeParams>, problems: &mut Vec<String>) -> Option<Home> {
    let params = &ctx.params;
    let rehomes = match params.version.repointing() {
        Repointing::Rehome => true,
        Repointing::Portability | Repointing::Unknown => false,
    };
    if !rehomes && !params.stores.is_empty() {
        problems.push(format!("stores: recipients are not rehomed in Exchange {}", params.version.name()));
    }
    let directory = params.directory.clone()?;
    if let Err(error) = directory::check(&directory) {
        problems.push(error.message);
    }
    let here = server_here(ctx, "directory", problems);
    let others = params.servers.iter().filter(|(node, _)| **node != ctx.node).map(|(_, name)| name.clone());
    let others: Vec<String> = others.collect();
    if others.is_empty() {
        problems
            .push("servers: the directory is asked for the servers of the other nodes, and there is none".to_owned());
    }
    Some(Home { directory, here, others, stores: params.stores.clone(), rehomes })
}

fn check_servers(params: &ExchangeParams, problems: &mut Vec<String>) {
    for (node, server) in &params.servers {
        if !is_server(server) {
            problems.push(format!("servers.{node} = {server:?} is no name of a computer"));
        }
    }
}

/// The Exchange server of this node.
fn server_here(ctx: &Context<ExchangeParams>, what: &str, problems: &mut Vec<String>) -> String {
    ctx.params.servers.get(&ctx.node).cloned().unwrap_or_else(|| {
        problems.push(format!("servers.{0}: {what} needs the name of the Exchange server on {0}", ctx.node));
        String::new()
    })
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn is_server(name: &str) -> bool {
    let of = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=SERVER_NAME_MAX).contains(&name.len()) && name.bytes().all(of) && !name.starts_with('-')
}

/// Names reach the cmdlets as data and never as text of a script; this keeps out what an identity would take for a pattern or
/// for a path.
fn is_database(name: &str) -> bool {
    let of = |c: char| c.is_alphanumeric() || " .-_()'&#!+".contains(c);
    (1..=DATABASE_NAME_MAX).contains(&name.chars().count()) && name.chars().all(of) && name.trim() == name
}
