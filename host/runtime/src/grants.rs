//! Grants: what the operator allows a resource to reach, and the one place where that is decided.
//!
//! Every capability asks [`Grants`] before it does anything; every answer, yes or no, is written to the
//! tracing target [`AUDIT`], or counted there when one resource asks too often. Grants belong to a resource, not to a kit, and are narrow: this program, this
//! host and port, this secret, this volume, this mount point, this service. log, clock, random and store need none.
//! Whether a kit's needs are granted at all is asked in `check.rs`, at config check and again on apply.

pub(crate) mod check;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::bucket::Bucket;

pub use check::{GrantProblem, Severity};

/// The tracing target of audit lines: one for every use of a granted capability, allowed or denied.
pub const AUDIT: &str = "mainstay::audit";

/// Audit lines of one resource, in a row: far more than a call that does its work has.
const AUDIT_LINES_BURST_MAX: u32 = 200;
/// Audit lines of one resource, per second, after that.
const AUDIT_LINES_PER_S_MAX: u32 = 20;
/// The longest name of a secret, in bytes: it is a file name.
pub const SECRET_NAME_BYTES_MAX: usize = 64;
/// How much of a name that a kit sends is repeated in the audit and in an answer, in bytes: more than a path has.
const REPEATED_BYTES_MAX: usize = 500;
/// The longest path that the kernel takes, in bytes, without the slash that it begins with.
const PATH_BYTES_MAX: usize = 4094;
/// The longest host name there is in DNS, in bytes.
const HOST_BYTES_MAX: usize = 253;

/// What one resource may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Programs it may run.
    pub command: Vec<CommandGrant>,
    /// Where it may connect to.
    pub net: Vec<NetGrant>,
    /// Secrets it may read, by name.
    pub secret: Vec<String>,
    /// Mirrored volumes it may use, by name.
    pub volume: Vec<String>,
    /// Where it may mount file systems.
    pub mount: Vec<MountGrant>,
    /// Services of the system it may use, by name.
    pub service: Vec<String>,
}

/// One program, run as one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "CommandGrantText", into = "CommandGrantText")]
pub struct CommandGrant {
    /// The absolute path, exactly as the kit has to ask for it.
    pub program: PathBuf,
    /// The user it runs as; none: the one the daemon runs as.
    pub user: Option<String>,
}

/// How it is written: a path, or a table when it runs as somebody else.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CommandGrantText {
    Path(PathBuf),
    Table { program: PathBuf, user: String },
}

impl From<CommandGrantText> for CommandGrant {
    fn from(text: CommandGrantText) -> Self {
        match text {
            CommandGrantText::Path(program) => Self { program, user: None },
            CommandGrantText::Table { program, user } => Self { program, user: Some(user) },
        }
    }
}

impl From<CommandGrant> for CommandGrantText {
    fn from(grant: CommandGrant) -> Self {
        match grant.user {
            None => Self::Path(grant.program),
            Some(user) => Self::Table { program: grant.program, user },
        }
    }
}

impl fmt::Display for CommandGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        match &self.user {
            Some(user) => write!(f, " as {user}"),
            None => Ok(()),
        }
    }
}

/// One mount point, and what may be mounted there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "MountGrantText", into = "MountGrantText")]
pub struct MountGrant {
    /// The absolute path, exactly as the kit has to ask for it.
    pub point: String,
    /// A block device, exactly as the kit has to ask for it; none: the volumes that are granted.
    pub device: Option<String>,
}

/// How it is written: a path, or a table when it is for a device.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum MountGrantText {
    Point(String),
    Table { point: String, device: String },
}

impl From<MountGrantText> for MountGrant {
    fn from(text: MountGrantText) -> Self {
        match text {
            MountGrantText::Point(point) => Self { point, device: None },
            MountGrantText::Table { point, device } => Self { point, device: Some(device) },
        }
    }
}

impl From<MountGrant> for MountGrantText {
    fn from(grant: MountGrant) -> Self {
        match grant.device {
            None => Self::Point(grant.point),
            Some(device) => Self::Table { point: grant.point, device },
        }
    }
}

impl fmt::Display for MountGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.point)?;
        match &self.device {
            Some(device) => write!(f, " of {device}"),
            None => Ok(()),
        }
    }
}

impl MountGrant {
    /// What is wrong with it, if anything. Whether folder and device are there is another question.
    fn problem(&self) -> Option<&'static str> {
        mount_point_problem(&self.point).or_else(|| self.device.as_deref().and_then(device_problem))
    }
}

/// What is wrong with a mount point as text.
fn mount_point_problem(point: &str) -> Option<&'static str> {
    let Some(inner) = point.strip_prefix('/') else { return Some("a mount point is an absolute path") };
    if inner.is_empty() {
        return Some("nothing is mounted over the root of all files");
    }
    plain_path_problem(inner)
}

/// What is wrong with the path of a device as text.
fn device_problem(device: &str) -> Option<&'static str> {
    match device.strip_prefix("/dev/") {
        Some(inner) if !inner.is_empty() => plain_path_problem(inner),
        Some(_) | None => Some("a block device is named by its path in /dev"),
    }
}

fn plain_path_problem(inner: &str) -> Option<&'static str> {
    if inner.len() > PATH_BYTES_MAX {
        return Some("no path is that long");
    }
    if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some("it is written without `.`, `..` and needless slashes");
    }
    inner.chars().any(char::is_control).then_some("there is a control character in it")
}

/// What a kit wants to mount, or has mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountSource {
    /// A volume, by name.
    Volume(String),
    /// A device, by path.
    Device(String),
}

impl fmt::Display for MountSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => write!(f, "the volume {}", clip(name)),
            Self::Device(path) => f.write_str(&clip(path)),
        }
    }
}

/// One host and port. Written `host:port`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetGrant {
    /// A name or an address, exactly as the kit has to ask for it. Never a pattern.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is no [`NetGrant`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address to grant: {problem}; write host:port, such as 192.0.2.53:53 or [2001:db8::53]:53")]
pub struct NetGrantError {
    text: String,
    problem: &'static str,
}

impl NetGrant {
    /// What is wrong with it, if it was not made from text.
    fn problem(&self) -> Option<&'static str> {
        if self.port == 0 {
            return Some("port 0 is no port");
        }
        host_problem(&self.host)
    }
}

fn host_problem(host: &str) -> Option<&'static str> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    if host.is_empty() {
        return Some("the host is missing");
    }
    if host.contains("://") || host.contains('/') {
        return Some("it is a host and a port, not a URL");
    }
    if host.contains('*') {
        return Some("there are no patterns: each host is granted by itself");
    }
    if host.contains(':') {
        return Some("an IPv6 address stands in brackets, and there is one port");
    }
    if host.len() > HOST_BYTES_MAX {
        return Some("a host name has at most 253 characters");
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if host.strip_suffix('.').unwrap_or(host).split('.').all(label) {
        return None;
    }
    Some("a host name is made of letters, digits and - between dots")
}

impl FromStr for NetGrant {
    type Err = NetGrantError;

    fn from_str(text: &str) -> Result<Self, NetGrantError> {
        let error = |problem| NetGrantError { text: text.to_owned(), problem };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| error("the port is missing"))?;
        if host.contains("://") || port.contains('/') {
            return Err(error("it is a host and a port, not a URL"));
        }
        if port == "*" {
            return Err(error("there are no patterns: each port is granted by itself"));
        }
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(error("only an IPv6 address stands in brackets")),
            None if host.contains(':') => {
                return Err(error("an IPv6 address stands in brackets, and there is one port"));
            }
            None => host,
        };
        let port = port.parse().map_err(|_| error("the port is a number from 1 to 65535"))?;
        let grant = Self { host: host.to_owned(), port };
        match grant.problem() {
            Some(problem) => Err(error(problem)),
            None => Ok(grant),
        }
    }
}

impl TryFrom<String> for NetGrant {
    type Error = NetGrantError;

    fn try_from(text: String) -> Result<Self, NetGrantError> {
        text.parse()
    }
}

impl From<NetGrant> for String {
    fn from(grant: NetGrant) -> Self {
        grant.to_string()
    }
}

impl fmt::Display for NetGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What is wrong with the name of a secret.
pub(crate) fn secret_name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > SECRET_NAME_BYTES_MAX {
        return Some("a secret's name has 1 to 64 characters");
    }
    if name.starts_with('.') {
        return Some("a secret's name does not begin with a dot");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Some("a secret's name is made of letters, digits, - _ and .");
    }
    None
}

/// Whether two names mean the same service on this system.
fn is_same_service(one: &str, other: &str) -> bool {
    if cfg!(windows) {
        return one.eq_ignore_ascii_case(other);
    }
    let unit = |name: &str| name.strip_suffix(".service").unwrap_or(name).to_owned();
    unit(one) == unit(other)
}

/// Who asks: what an audit line says beside the capability.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) tag: Arc<str>,
    pub(crate) kit: Arc<str>,
    /// In which operation.
    pub(crate) operation: &'static str,
    /// How many lines of the audit the resource may still have.
    pub(crate) audit: Arc<Mutex<Bucket>>,
}

impl Asker {
    /// One use. Who asks for ever does not fill the audit: what is too much is counted.
    fn audit(&self, capability: &'static str, what: &dyn fmt::Display, allowed: bool) {
        let taken = self.bucket().take(Instant::now(), AUDIT_LINES_BURST_MAX, AUDIT_LINES_PER_S_MAX);
        let Some(dropped) = taken else { return };
        self.tell_dropped(dropped);
        let Self { tag, kit, operation, .. } = self;
        match (allowed, *operation) {
            (false, _) => tracing::warn!(target: AUDIT, %tag, %kit, operation, capability, %what, allowed),
            // It changes nothing, and comes every few seconds for ever.
            (true, "quick-check") => tracing::debug!(target: AUDIT, %tag, %kit, operation, capability, %what, allowed),
            (true, _) => tracing::info!(target: AUDIT, %tag, %kit, operation, capability, %what, allowed),
        }
    }

    /// Tells what was left out of the audit since it was last told.
    pub(crate) fn end(&self) {
        let dropped = self.bucket().take_dropped();
        self.tell_dropped(dropped);
    }

    fn tell_dropped(&self, dropped: u64) {
        if dropped > 0 {
            tracing::warn!(
                target: AUDIT, tag = %self.tag, kit = %self.kit, dropped,
                "{dropped} uses were not written down: more than {AUDIT_LINES_BURST_MAX} in a row and {AUDIT_LINES_PER_S_MAX} per second"
            );
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not granted; the message a kit gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotGranted(pub(crate) String);

impl Grants {
    /// Whether there is any grant for this interface; true for those that need none.
    pub(crate) fn any_for(&self, interface: &str) -> bool {
        match interface {
            "command" => !self.command.is_empty(),
            "net" => !self.net.is_empty(),
            "secret" => !self.secret.is_empty(),
            "volume" => !self.volume.is_empty(),
            "mount" => !self.mount.is_empty(),
            "service" => !self.service.is_empty(),
            _ => true,
        }
    }

    /// May it run `program`, and as whom? `user` is what the kit asks for; none leaves it to the grant.
    pub(crate) fn command(
        &self,
        asker: &Asker,
        program: &str,
        user: Option<&str>,
    ) -> Result<&CommandGrant, NotGranted> {
        let mut of_program = self.command.iter().filter(|grant| grant.program.as_os_str() == program);
        let found = match user {
            Some(_) => of_program.find(|grant| grant.user.as_deref() == user),
            None => {
                let as_daemon = of_program.clone().find(|grant| grant.user.is_none());
                as_daemon.or_else(|| of_program.next())
            }
        };
        let what = match user {
            Some(user) => format!("{program} as {user}"),
            None => program.to_owned(),
        };
        let what = clip(&what);
        asker.audit("command", &what, found.is_some());
        found.ok_or_else(|| {
            NotGranted(format!("running {what} is not granted to {}; granted: {}", asker.tag, list(&self.command)))
        })
    }

    /// May it connect to `host` and `port`?
    pub(crate) fn net(&self, asker: &Asker, protocol: &str, host: &str, port: u16) -> Result<(), NotGranted> {
        let granted = self.net.iter().any(|grant| grant.host == host && grant.port == port);
        let what = NetGrant { host: clip(host), port };
        asker.audit("net", &format_args!("{protocol} {what}"), granted);
        if granted {
            return Ok(());
        }
        Err(NotGranted(format!("connecting to {what} is not granted to {}; granted: {}", asker.tag, list(&self.net))))
    }

    /// May it read the secret called `name`? `why` says for what: for itself, or for TLS.
    pub(crate) fn secret(&self, asker: &Asker, why: &str, name: &str) -> Result<(), NotGranted> {
        let granted = self.secret.iter().any(|grant| grant == name);
        let name = clip(name);
        asker.audit("secret", &format_args!("{name} ({why})"), granted);
        if granted {
            return Ok(());
        }
        Err(NotGranted(format!("the secret {name} is not granted to {}; granted: {}", asker.tag, list(&self.secret))))
    }

    /// May it use the volume called `name`? `doing` says what for.
    pub(crate) fn volume(&self, asker: &Asker, doing: &str, name: &str) -> Result<(), NotGranted> {
        let granted = self.volume.iter().any(|grant| grant == name);
        let name = clip(name);
        asker.audit("volume", &format_args!("{doing} {name}"), granted);
        if granted {
            return Ok(());
        }
        Err(NotGranted(format!("the volume {name} is not granted to {}; granted: {}", asker.tag, list(&self.volume))))
    }

    /// May it look at this mount point? What may be mounted there.
    pub(crate) fn mount_point(&self, asker: &Asker, doing: &str, point: &str) -> Result<Vec<MountSource>, NotGranted> {
        let of_point = self.mount.iter().filter(|grant| grant.point == point);
        let sources = of_point.clone().flat_map(|grant| self.sources(grant)).collect();
        let granted = of_point.count() > 0;
        asker.audit("mount", &format_args!("{doing} {}", clip(point)), granted);
        if granted { Ok(sources) } else { Err(self.no_mount(asker, &clip(point))) }
    }

    /// May it do that with what lies on `source`, at `point` if it is about one?
    pub(crate) fn mount_source(
        &self,
        asker: &Asker,
        doing: &str,
        source: &MountSource,
        point: Option<&str>,
    ) -> Result<(), NotGranted> {
        let at_point = |grant: &&MountGrant| point.is_none_or(|point| grant.point == point);
        let granted = self.mount.iter().filter(at_point).any(|grant| self.sources(grant).contains(source));
        let what = match point {
            Some(point) => format!("{source} at {}", clip(point)),
            None => source.to_string(),
        };
        asker.audit("mount", &format_args!("{doing} {what}"), granted);
        if granted { Ok(()) } else { Err(self.no_mount(asker, &what)) }
    }

    /// May it mount anything at all? `doing` says what for.
    pub(crate) fn any_mount(&self, asker: &Asker, doing: &str) -> Result<(), NotGranted> {
        let granted = !self.mount.is_empty();
        asker.audit("mount", &doing, granted);
        if granted { Ok(()) } else { Err(self.no_mount(asker, "anything")) }
    }

    /// May it use the service called `name`? `doing` says what for.
    pub(crate) fn service(&self, asker: &Asker, doing: &str, name: &str) -> Result<(), NotGranted> {
        let granted = self.service.iter().any(|grant| is_same_service(grant, name));
        let name = clip(name);
        asker.audit("service", &format_args!("{doing} {name}"), granted);
        if granted {
            return Ok(());
        }
        Err(NotGranted(format!("the service {name} is not granted to {}; granted: {}", asker.tag, list(&self.service))))
    }

    /// What may be mounted where this grant is for.
    fn sources(&self, grant: &MountGrant) -> Vec<MountSource> {
        match &grant.device {
            Some(device) => vec![MountSource::Device(device.clone())],
            None => self.volume.iter().cloned().map(MountSource::Volume).collect(),
        }
    }

    fn no_mount(&self, asker: &Asker, what: &str) -> NotGranted {
        let volumes = if self.volume.is_empty() { String::new() } else { format!(", volumes: {}", list(&self.volume)) };
        NotGranted(format!("mounting {what} is not granted to {}; granted: {}{volumes}", asker.tag, list(&self.mount)))
    }
}

/// What a kit sends may be of any length; what is repeated of it is not.
fn clip(text: &str) -> String {
    crate::text::one_line(text, REPEATED_BYTES_MAX)
}

fn list<T: fmt::Display>(grants: &[T]) -> String {
    if grants.is_empty() {
        return "nothing of that sort".to_owned();
    }
    grants.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker { tag: "mail".into(), kit: "dns 0.1.0".into(), operation: "restore", audit: Arc::default() }
    }

    #[test]
    fn an_address_is_read_and_written_alike() {
        for text in ["192.0.2.53:53", "[2001:db8::53]:53", "ns1.example.org:853", "localhost:1"] {
            let grant: NetGrant = text.parse().unwrap();
            assert_eq!(grant.to_string(), text);
            assert_eq!(serde_json::to_value(&grant).unwrap(), text);
        }
        assert_eq!("[2001:db8::53]:53".parse::<NetGrant>().unwrap().host, "2001:db8::53");
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, words) in [
            ("192.0.2.53", "the port is missing"),
            ("192.0.2.53:0", "port 0"),
            ("192.0.2.53:99999", "1 to 65535"),
            ("https://example.org:443", "not a URL"),
            ("example.org:443/path", "not a URL"),
            ("*.example.org:443", "no patterns"),
            ("example.org:*", "no patterns"),
            ("2001:db8::53:53", "in brackets"),
            ("[example.org]:53", "only an IPv6 address"),
            (":53", "the host is missing"),
            ("exa mple.org:53", "letters, digits"),
            ("-a.org:53", "letters, digits"),
        ] {
            let error = text.parse::<NetGrant>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn grants_are_written_as_an_operator_writes_them() {
        let grants: Grants = serde_json::from_value(serde_json::json!({
            "command": ["/opt/a/start", { "program": "/opt/a/stop", "user": "app" }],
            "net": ["192.0.2.53:53"],
            "secret": ["dns-key"],
        }))
        .unwrap();
        assert_eq!(grants.command[0].to_string(), "/opt/a/start");
        assert_eq!(grants.command[1].to_string(), "/opt/a/stop as app");
        assert!(serde_json::from_value::<Grants>(serde_json::json!({ "network": [] })).is_err());
    }

    #[test]
    fn a_program_runs_only_as_whom_it_is_granted() {
        let program = |user: Option<&str>| CommandGrant { program: "/opt/a".into(), user: user.map(str::to_owned) };
        let as_app = Grants { command: vec![program(Some("app"))], ..Grants::default() };
        let as_daemon = Grants { command: vec![program(None)], ..Grants::default() };
        let both = Grants { command: vec![program(Some("app")), program(None)], ..Grants::default() };
        let user = |grants: &Grants, user| grants.command(&asker(), "/opt/a", user).map(|grant| grant.user.clone());

        assert_eq!(user(&as_app, Some("app")), Ok(Some("app".to_owned())));
        assert_eq!(user(&as_app, None), Ok(Some("app".to_owned())), "none leaves it to the grant");
        assert!(user(&as_app, Some("root")).is_err());
        assert_eq!(user(&as_daemon, None), Ok(None));
        assert!(user(&as_daemon, Some("app")).is_err(), "another user has to be granted");
        assert_eq!(user(&both, None), Ok(None));
        assert_eq!(user(&both, Some("app")), Ok(Some("app".to_owned())));
    }

    #[test]
    fn only_exactly_what_is_granted_is_allowed() {
        let grants = Grants {
            command: vec![CommandGrant { program: "/opt/a".into(), user: None }],
            net: vec!["192.0.2.53:53".parse().unwrap()],
            secret: vec!["dns-key".to_owned()],
            ..Grants::default()
        };
        assert!(grants.net(&asker(), "tcp", "192.0.2.53", 53).is_ok());
        for (host, port) in [("192.0.2.53", 54), ("192.0.2.5", 53), ("192.0.2.53.", 53), ("", 53)] {
            let refused = grants.net(&asker(), "tcp", host, port).unwrap_err();
            assert!(refused.0.contains("granted: 192.0.2.53:53"), "{}", refused.0);
        }
        for program in ["/opt/a/", "/opt/./a", "opt/a", "/opt/b", ""] {
            assert!(grants.command(&asker(), program, None).is_err(), "{program}");
        }
        assert!(grants.secret(&asker(), "itself", "dns-key").is_ok());
        assert!(grants.secret(&asker(), "itself", "../dns-key").is_err());
    }

    #[test]
    fn a_mount_point_takes_what_its_grant_says() {
        let grants: Grants = serde_json::from_value(serde_json::json!({
            "volume": ["store"],
            "mount": ["/srv/mail", { "point": "/srv/db", "device": "/dev/drbd0" }],
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(&grants.mount).unwrap(),
            serde_json::json!(["/srv/mail", { "point": "/srv/db", "device": "/dev/drbd0" }])
        );
        let (store, drbd) = (MountSource::Volume("store".into()), MountSource::Device("/dev/drbd0".into()));
        assert_eq!(grants.mount_point(&asker(), "look", "/srv/mail").unwrap(), std::slice::from_ref(&store));
        assert_eq!(grants.mount_point(&asker(), "look", "/srv/db").unwrap(), std::slice::from_ref(&drbd));
        assert!(grants.mount_point(&asker(), "look", "/srv/mail/").is_err());
        let source = |source: &MountSource, point| grants.mount_source(&asker(), "mount", source, point).is_ok();
        assert!(source(&store, None) && source(&store, Some("/srv/mail")) && source(&drbd, Some("/srv/db")));
        assert!(!source(&store, Some("/srv/db")) && !source(&drbd, Some("/srv/mail")), "each at its own point");
        for other in [MountSource::Volume("other".into()), MountSource::Device("/dev/sda".into())] {
            let refused = grants.mount_source(&asker(), "mount", &other, None).unwrap_err().0;
            assert!(refused.contains("granted: /srv/mail, /srv/db of /dev/drbd0, volumes: store"), "{refused}");
        }
        assert!(grants.volume(&asker(), "status", "store").is_ok());
        assert!(grants.volume(&asker(), "status", "stor").unwrap_err().0.contains("granted: store"));
    }

    #[cfg(unix)]
    #[test]
    fn a_service_is_granted_with_or_without_its_suffix() {
        let grants = Grants { service: vec!["postfix.service".into(), "MSExchangeIS".into()], ..Grants::default() };
        let granted = |name: &str| grants.service(&asker(), "query", name);
        for name in ["postfix", "postfix.service", "MSExchangeIS", "MSExchangeIS.service"] {
            assert_eq!(granted(name), Ok(()), "{name}");
        }
        for name in ["postfix.socket", "postfix.service.service", "Postfix", "msexchangeis", "postfi", ""] {
            let refused = granted(name).unwrap_err().0;
            assert!(refused.contains("granted: postfix.service, MSExchangeIS"), "{refused}");
        }
    }

    #[test]
    fn paths_of_mount_points_and_devices_are_plain() {
        let grant = |point: &str, device: Option<&str>| MountGrant {
            point: point.to_owned(),
            device: device.map(str::to_owned),
        };
        assert_eq!(grant("/srv/mail", None).problem(), None);
        assert_eq!(grant("/a b", Some("/dev/drbd/by-res/mail/0")).problem(), None);
        for point in ["", "/", "srv", "/srv/", "/srv//mail", "/srv/../etc", "/./srv", "/srv\n"] {
            assert!(grant(point, None).problem().is_some(), "{point:?}");
        }
        for device in ["", "/dev/", "drbd0", "/etc/passwd", "/dev/../etc/passwd", "/dev//sda"] {
            assert!(grant("/srv", Some(device)).problem().is_some(), "{device:?}");
        }
    }

    #[test]
    fn without_a_grant_the_refusal_says_so_and_repeats_little() {
        let refused = Grants::default().net(&asker(), "tcp", &"x".repeat(1 << 20), 1).unwrap_err().0;
        assert!(refused.contains("nothing of that sort") && refused.len() < 1000, "{}", refused.len());
    }

    #[test]
    fn names_of_secrets_are_file_names_and_stay_in_their_folder() {
        for name in ["dns-key", "tls_ca.pem", "A1"] {
            assert_eq!(secret_name_problem(name), None, "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a b", "ü", &"a".repeat(65)] {
            assert!(secret_name_problem(name).is_some(), "{name}");
        }
    }
}
