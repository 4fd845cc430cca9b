//! What is known of the services of an Exchange server, by version, from Microsoft's own documentation.
//!
//! It decides which services belong to a server, in which order they are started, which depend on which, and which serve which
//! protocol. Only versions for which there is such a source are here; of any other the operator lists the services.
//!
//! Sources:
//! * Exchange 2003: "Services That Are Used by Exchange" (bb124644), "Core Exchange Server 2003 Services" (bb123640) and "Exchange
//!   Server 2003 Services Dependencies" (aa995723), in the archive of technet.microsoft.com, now learn.microsoft.com/previous-versions.
//! * Exchange 2016, 2019 and Subscription Edition, mailbox servers: "Overview of Exchange services on Exchange servers",
//!   learn.microsoft.com/exchange/plan-and-deploy/deployment-ref/services-overview.

use mainstay_sdk::Params;
use serde::Deserialize;

/// Which Exchange it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Params)]
pub enum Version {
    /// its services are known; clients are pointed here in the directory
    #[serde(rename = "2003")]
    V2003,
    /// its services are listed by the operator; clients are pointed here in the directory
    #[serde(rename = "2007")]
    V2007,
    /// its services are listed by the operator; databases by portability
    #[serde(rename = "2010")]
    V2010,
    /// its services are listed by the operator; databases by portability
    #[serde(rename = "2013")]
    V2013,
    /// its services are known; databases by portability
    #[serde(rename = "2016")]
    V2016,
    /// its services are known; databases by portability
    #[serde(rename = "2019")]
    V2019,
    /// Subscription Edition: its services are known; databases by portability
    #[serde(rename = "se")]
    Se,
    /// nothing is known of it: services and protocols are what the operator lists
    #[serde(rename = "other")]
    Other,
}

/// What clients talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it, and the schema would repeat it")]
pub enum Protocol {
    Smtp,
    Pop3,
    Imap,
    Http,
}

/// What a service is to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it the server is not in service.
    Required,
    /// Used where it is installed, granted and not disabled.
    Optional,
    /// The system's own: started if it does not run, and never taken out of service, because others use it.
    System,
}

/// A service of a known version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its short name.
    pub name: &'static str,
    /// The services before it in the table that it depends on.
    pub depends_on: &'static [&'static str],
    /// What it serves to clients.
    pub serves: Option<Protocol>,
    /// What it is to the server.
    pub need: Need,
    /// Only where this protocol is in the params: by default it does not run.
    pub only_with: Option<Protocol>,
    /// How long it may take to start or to stop, in s, unless the params say otherwise.
    pub time_s: u32,
}

/// What a service usually needs, in s: seconds, and room for a busy machine.
pub(crate) const TIME_S: u32 = 60;
/// The information store: after a crash it replays the logs of its databases before it runs.
const STORE_TIME_S: u32 = 600;
/// What asks domain controllers before it runs, in s.
const DIRECTORY_TIME_S: u32 = 180;
/// Transport: after a crash it replays the log of its queue.
const QUEUE_TIME_S: u32 = 180;

/// The service that manages mailbox databases, in every version.
pub(crate) const STORE: &str = "MSExchangeIS";

const fn service(name: &'static str, depends_on: &'static [&'static str]) -> Known {
    Known { name, depends_on, serves: None, need: Need::Required, only_with: None, time_s: TIME_S }
}

impl Known {
    const fn serves(self, protocol: Protocol) -> Self {
        Self { serves: Some(protocol), ..self }
    }

    const fn optional(self) -> Self {
        Self { need: Need::Optional, ..self }
    }

    const fn system(self) -> Self {
        Self { need: Need::System, ..self }
    }

    const fn only_with(self, protocol: Protocol) -> Self {
        Self { serves: Some(protocol), only_with: Some(protocol), ..self }
    }

    const fn time_s(self, time_s: u32) -> Self {
        Self { time_s, ..self }
    }
}

const IIS: &[&str] = &["IISADMIN"];
const ATTENDANT: &[&str] = &["MSExchangeSA"];
const TOPOLOGY: &[&str] = &["MSExchangeADTopology"];

/// Exchange 2003. Since this version the protocols depend on IIS, and no longer on the information store.
const OF_2003: &[Known] = &[
    service("IISADMIN", &[]).system(),
    service("MSExchangeSA", &[]).time_s(DIRECTORY_TIME_S),
    service("MSExchangeIS", ATTENDANT).time_s(STORE_TIME_S),
    service("RESvc", IIS),
    service("SMTPSVC", IIS).serves(Protocol::Smtp),
    service("MSExchangeMTA", ATTENDANT).optional(),
    service("MSExchangeMGMT", &[]).optional(),
    service("POP3Svc", IIS).only_with(Protocol::Pop3),
    service("IMAP4Svc", IIS).only_with(Protocol::Imap),
    service("W3SVC", IIS).only_with(Protocol::Http).system(),
];

/// A mailbox server of 2016 and after, less what only 2016 has: first what others depend on, then what is proxied to before what
/// proxies. Health Manager is the last: it restarts what it finds stopped, so it has to be stopped before anything else is.
/// The source calls Emergency Mitigation and the compliance services required; builds before they came do not have them.
const OF_2019: &[Known] = &[
    service("MSExchangeADTopology", &[]).time_s(DIRECTORY_TIME_S),
    service("HostControllerService", &[]),
    service("MSExchangeIS", TOPOLOGY).time_s(STORE_TIME_S),
    service("MSExchangeRepl", TOPOLOGY),
    service("MSExchangeDagMgmt", TOPOLOGY),
    service("MSExchangeRPC", TOPOLOGY),
    service("MSExchangeServiceHost", TOPOLOGY),
    service("MSExchangeThrottling", TOPOLOGY),
    service("MSExchangeFastSearch", TOPOLOGY),
    service("MSExchangeMailboxAssistants", TOPOLOGY),
    service("MSExchangeMailboxReplication", TOPOLOGY),
    service("MSExchangeDelivery", TOPOLOGY),
    service("MSExchangeSubmission", TOPOLOGY),
    service("MSExchangeTransport", TOPOLOGY).serves(Protocol::Smtp).time_s(QUEUE_TIME_S),
    service("MSExchangeFrontEndTransport", TOPOLOGY).serves(Protocol::Smtp),
    service("MSExchangePOP3BE", TOPOLOGY).only_with(Protocol::Pop3),
    service("MSExchangePOP3", TOPOLOGY).only_with(Protocol::Pop3),
    service("MSExchangeIMAP4BE", TOPOLOGY).only_with(Protocol::Imap),
    service("MSExchangeIMAP4", TOPOLOGY).only_with(Protocol::Imap),
    service("W3SVC", &[]).only_with(Protocol::Http).system(),
    service("MSExchangeCompliance", TOPOLOGY).optional(),
    service("MSComplianceAudit", TOPOLOGY).optional(),
    service("MSExchange Mitigation", &[]).optional(),
    service("MSExchangeTransportLogSearch", TOPOLOGY).optional(),
    service("MSExchangeEdgeSync", TOPOLOGY).optional(),
    service("MSExchangeAntispamUpdate", TOPOLOGY).optional(),
    service("MSExchangeDiagnostics", &[]),
    service("MSExchangeHM", &[]),
    service("MSExchangeHMRecovery", &[]),
];

/// What only 2016 has beside [`OF_2019`], unified messaging and the notifications broker; later builds lack the broker.
const ONLY_2016: &[Known] = &[
    service("MSExchangeNotificationsBroker", TOPOLOGY).optional(),
    service("MSExchangeUM", TOPOLOGY).optional(),
    service("MSExchangeUMCR", TOPOLOGY).optional(),
];

/// How clients come to find their mailboxes on another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repointing {
    /// The recipients' server and store are changed in the directory.
    Rehome,
    /// Another database of the organisation is mounted on the same files, and mailboxes are pointed at it.
    Portability,
    /// Nothing is known.
    Unknown,
}

/// What is asked of the web server to see whether it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HealthPage {
    pub(crate) path: &'static str,
    /// The statuses that mean that it serves.
    pub(crate) statuses: &'static [u16],
}

impl Version {
    /// As the operator writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V2003 => "2003",
            Self::V2007 => "2007",
            Self::V2010 => "2010",
            Self::V2013 => "2013",
            Self::V2016 => "2016",
            Self::V2019 => "2019",
            Self::Se => "se",
            Self::Other => "other",
        }
    }

    /// Its services in the order they are started; none if there is no source for them.
    #[must_use]
    pub fn services(self) -> Option<Vec<Known>> {
        match self {
            Self::V2003 => Some(OF_2003.to_vec()),
            Self::V2019 | Self::Se => Some(OF_2019.to_vec()),
            Self::V2016 => {
                // Before Health Manager and its like, which are the last three.
                let mut all = OF_2019.to_vec();
                let monitors = all.len() - 3;
                all.splice(monitors..monitors, ONLY_2016.iter().copied());
                Some(all)
            }
            Self::V2007 | Self::V2010 | Self::V2013 | Self::Other => None,
        }
    }

    pub(crate) fn repointing(self) -> Repointing {
        match self {
            Self::V2003 | Self::V2007 => Repointing::Rehome,
            Self::V2010 | Self::V2013 | Self::V2016 | Self::V2019 | Self::Se => Repointing::Portability,
            Self::Other => Repointing::Unknown,
        }
    }

    /// Outlook on the web answers the health page with 200 as long as managed availability takes it for healthy, since 2013.
    /// Before there was none: a page that asks for a log-in, or leads to it, shows that it serves.
    pub(crate) fn health_page(self) -> Option<HealthPage> {
        const LOG_IN: &[u16] = &[200, 301, 302, 401];
        match self {
            Self::V2003 => Some(HealthPage { path: "/exchange/", statuses: LOG_IN }),
            Self::V2007 | Self::V2010 => Some(HealthPage { path: "/owa/", statuses: LOG_IN }),
            Self::V2013 | Self::V2016 | Self::V2019 | Self::Se => {
                Some(HealthPage { path: "/owa/healthcheck.htm", statuses: &[200] })
            }
            Self::Other => None,
        }
    }
}

impl Protocol {
    /// As codes and params have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Pop3 => "pop3",
            Self::Imap => "imap",
            Self::Http => "http",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Smtp => "SMTP",
            Self::Pop3 => "POP3",
            Self::Imap => "IMAP",
            Self::Http => "HTTP",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Version; 8] = [
        Version::V2003,
        Version::V2007,
        Version::V2010,
        Version::V2013,
        Version::V2016,
        Version::V2019,
        Version::Se,
        Version::Other,
    ];

    #[test]
    fn what_a_service_depends_on_comes_before_it_and_nothing_is_there_twice() {
        for version in ALL {
            let mut before: Vec<&str> = Vec::new();
            for known in version.services().unwrap_or_default() {
                for name in known.depends_on {
                    assert!(before.contains(name), "{}: {} depends on {name}", version.name(), known.name);
                }
                assert!(!before.contains(&known.name), "{}: {} twice", version.name(), known.name);
                before.push(known.name);
            }
        }
    }

    #[test]
    fn every_known_server_has_a_store_and_ends_with_its_monitors() {
        for version in ALL {
            let Some(services) = version.services() else { continue };
            assert!(services.iter().any(|known| known.name == STORE && known.need == Need::Required));
            if version != Version::V2003 {
                let last: Vec<&str> = services.iter().rev().take(2).map(|known| known.name).collect();
                assert_eq!(last, ["MSExchangeHMRecovery", "MSExchangeHM"], "{}", version.name());
            }
        }
    }

    #[test]
    fn unified_messaging_is_of_2016_alone() {
        let has = |version: Version| version.services().unwrap().iter().any(|known| known.name == "MSExchangeUM");
        assert!(has(Version::V2016) && !has(Version::V2019) && !has(Version::Se) && !has(Version::V2003));
    }
}
