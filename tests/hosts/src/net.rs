//! Hosts as network namespaces, links between them as bridges, and everything that can happen to a link.
//!
//! Three links: the comm paths `one` and `two`, and `out`, on which the application is used. All bridges, and the ends
//! of all cables at them, are in a namespace of their own (the switch room), so that nothing is seen outside, and all of
//! it is gone with the namespaces. The prober lives in yet another one, with a cable to `out`, and so
//! does each member of an arbiter.
//!
//! Two ways to lose a link: its carrier is lost, which the host sees, or packets are dropped in the switch room, which
//! nobody sees. It decides nothing about hosts; it never touches a namespace that it did not make.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use mainstay_test_support::{needs, require_or_skip};

use crate::names;

/// The port of a daemon on each comm path.
pub const DAEMON_PORT: u16 = 7400;
/// The port of the application.
pub const APP_PORT: u16 = 8080;
/// More would be more than any scenario wants, and addresses are made of it.
const HOSTS_MAX: usize = 8;
/// What stands on the link `out` and is no host: who asks, and the members of an arbiter.
pub(crate) const STATIONS: [&str; 4] = ["prober", "etcd0", "etcd1", "etcd2"];
/// The number of the first of them.
const FIRST_STATION: u8 = 200;

/// A link that all hosts are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// The first comm path.
    One,
    /// The second.
    Two,
    /// Where the application is used, and an arbiter is reached.
    Out,
}

/// Both comm paths.
pub const PATHS: [Link; 2] = [Link::One, Link::Two];
/// All links.
pub const LINKS: [Link; 3] = [Link::One, Link::Two, Link::Out];

impl Link {
    /// The name of the path, of the bridge, and of the interface in each host.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Out => "out",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Out => 3,
        }
    }
}

/// What is dropped in the switch room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Drop {
    from: Option<String>,
    to: Option<String>,
    link: Link,
    percent: u8,
}

/// See the module. Gone when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Net(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    prefix: String,
    hosts: Vec<String>,
    drops: Mutex<Vec<Drop>>,
    nft: PathBuf,
}

impl Net {
    /// Hosts of these names on all links; `None` when this user may not, or a program is missing, which is told.
    ///
    /// # Panics
    /// When it cannot be made although it may.
    #[must_use]
    pub fn new(hosts: &[&str]) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            needs::skip("needs to make network namespaces", "run it as root");
            return None;
        }
        require_or_skip("ip", "apt-get install iproute2")?;
        require_or_skip("unshare", "apt-get install util-linux")?;
        let nft = require_or_skip("nft", "apt-get install nftables")?;
        assert!(hosts.len() <= HOSTS_MAX, "at most {HOSTS_MAX} hosts");
        names::sweep();
        let hosts = hosts.iter().map(|name| (*name).to_owned()).collect();
        let net = Self(Arc::new(Inner { prefix: names::unique(), hosts, drops: Mutex::default(), nft }));
        net.build();
        Some(net)
    }

    fn build(&self) {
        let all: Vec<String> = self.0.names().map(|it| self.namespace(it)).collect();
        ip(None, &all.iter().fold(String::new(), |text, name| text + "netns add " + name + "\n"));
        let mut room = "link set lo up\n".to_owned();
        for link in LINKS {
            let name = link.name();
            // Writing to a String cannot fail.
            let _ = writeln!(room, "link add {name} type bridge\nlink set {name} up");
        }
        for (host, link) in self.cables() {
            let (port, name, end) = (port(host, link), link.name(), self.namespace(host));
            let _ = writeln!(room, "link add {port} type veth peer name {name} netns {end}");
            let _ = writeln!(room, "link set {port} master {name} up");
        }
        ip(Some(&self.namespace("switch")), &room);
        for host in self.0.hosts.iter().map(String::as_str).chain(STATIONS) {
            self.address_anew(host);
        }
    }

    /// Every cable: which host, on which link.
    fn cables(&self) -> impl Iterator<Item = (&str, Link)> {
        let hosts = self.0.hosts.iter().flat_map(|host| LINKS.map(|link| (host.as_str(), link)));
        hosts.chain(STATIONS.map(|station| (station, Link::Out)))
    }

    /// Gives a host its own addresses and no other, as when it boots.
    ///
    /// # Panics
    /// When that fails.
    pub fn address_anew(&self, host: &str) {
        let mut text = "link set lo up\n".to_owned();
        for (_, link) in self.cables().filter(|(it, _)| *it == host) {
            let (name, address) = (link.name(), self.address(host, link));
            let _ = writeln!(text, "addr flush dev {name}\naddr add {address}/24 dev {name}\nlink set {name} up");
        }
        ip(Some(&self.namespace(host)), &text);
    }

    /// The hosts' names.
    #[must_use]
    pub fn hosts(&self) -> &[String] {
        &self.0.hosts
    }

    /// The address of a host or a station on a link.
    ///
    /// # Panics
    /// When there is no such host.
    #[must_use]
    #[track_caller]
    pub fn address(&self, host: &str, link: Link) -> Ipv4Addr {
        let host_at = self.0.hosts.iter().position(|it| it == host).map(|at| (at, 1));
        let at = host_at.or_else(|| Some((STATIONS.iter().position(|it| *it == host)?, FIRST_STATION)));
        let number = at.and_then(|(at, first)| u8::try_from(at).ok()?.checked_add(first));
        Ipv4Addr::new(10, 77, link.number(), number.unwrap_or_else(|| panic!("no host {host}")))
    }

    /// Where the application of a host is asked.
    #[must_use]
    #[track_caller]
    pub fn app(&self, host: &str) -> SocketAddr {
        (self.address(host, Link::Out), APP_PORT).into()
    }

    /// An address on a link that is no host's: one that moves from host to host.
    #[must_use]
    pub fn moving_address(&self, link: Link) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, link.number(), 100)
    }

    /// The name of a host's namespace.
    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.0.prefix)
    }

    /// The file by which a host's namespace is entered.
    #[must_use]
    pub fn file(&self, host: &str) -> PathBuf {
        Path::new("/run/netns").join(self.namespace(host))
    }

    /// Makes this thread one of a host's, or of the prober's, for as long as it lives.
    ///
    /// # Errors
    /// When that is not allowed.
    pub fn enter(&self, host: &str) -> std::io::Result<()> {
        let file = File::open(self.file(host))?;
        Ok(nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)?)
    }

    /// A command that runs in a host's network, and is otherwise as any other.
    #[must_use]
    pub fn command(&self, host: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.file(host).display())).arg("--");
        command
    }

    // Carrier: the host sees it.

    /// The cables of a host to these links are pulled, or put in again, all at once.
    ///
    /// # Panics
    /// When that fails.
    pub fn carrier(&self, host: &str, links: &[Link], on: bool) {
        let state = if on { "up" } else { "down" };
        let lines = links.iter().map(|link| format!("link set {} {state}\n", port(host, *link)));
        ip(Some(&self.namespace("switch")), &lines.collect::<String>());
    }

    // The line: how much it carries, and how much it has carried.

    /// What goes over a link to any host is at most so much, in Mbit a second each; a queue of 50 ms stands before it, and
    /// what does not fit into that is lost, as on a line that is bought by its rate.
    ///
    /// # Panics
    /// When that fails.
    pub fn limit(&self, link: Link, mbit_per_s: u32) {
        for (host, _) in self.cables().filter(|(_, it)| *it == link) {
            let mut tc = self.command("switch");
            tc.args(["tc", "qdisc", "replace", "dev", &port(host, link), "root", "tbf"]);
            tc.args(["rate", &format!("{mbit_per_s}mbit"), "burst", "64kb", "latency", "50ms"]);
            feed(&mut tc, "");
        }
    }

    /// Bytes that have gone over a link to a host, with all that the protocols put around them.
    ///
    /// # Panics
    /// When there is no such cable.
    #[must_use]
    #[track_caller]
    pub fn carried_bytes_to(&self, host: &str, link: Link) -> u64 {
        let mut ip = Command::new("ip");
        ip.args(["-json", "-stats", "-n", &self.namespace("switch"), "link", "show", "dev", &port(host, link)]);
        let output = ip.output().unwrap_or_else(|error| panic!("{ip:?}: {error}"));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let bytes = said[0]["stats64"]["tx"]["bytes"].as_u64();
        bytes.unwrap_or_else(|| panic!("{ip:?}: {output:?}"))
    }

    // Silence: nobody sees it.

    /// Packets on these links vanish, whoever sends them to whomever, until [`Net::heal`].
    pub fn cut(&self, links: &[Link]) {
        self.lose(links, 100);
    }

    /// So many packets of a hundred vanish on these links.
    pub fn lose(&self, links: &[Link], percent: u8) {
        self.drop_all(links.iter().map(|link| Drop { from: None, to: None, link: *link, percent }));
    }

    /// What `from` sends to `to` on these links vanishes; what `to` sends does not.
    pub fn cut_one_way(&self, from: &str, to: &str, links: &[Link]) {
        let (from, to) = (Some(from.to_owned()), Some(to.to_owned()));
        self.drop_all(links.iter().map(|link| Drop { from: from.clone(), to: to.clone(), link: *link, percent: 100 }));
    }

    /// Two hosts hear nothing of each other on these links; all others hear both.
    pub fn part(&self, one: &str, other: &str, links: &[Link]) {
        self.cut_one_way(one, other, links);
        self.cut_one_way(other, one, links);
    }

    /// One host hears nobody on these links, and nobody hears it; its carrier stays.
    pub fn isolate(&self, host: &str, links: &[Link]) {
        let lost = |from: Option<&str>, to: Option<&str>, link| Drop {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            link,
            percent: 100,
        };
        self.drop_all(links.iter().flat_map(|link| [lost(Some(host), None, *link), lost(None, Some(host), *link)]));
    }

    /// Nothing is lost any more. Carriers are not touched.
    pub fn heal(&self) {
        self.0.drops.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.filter();
    }

    fn drop_all(&self, drops: impl Iterator<Item = Drop>) {
        self.0.drops.lock().unwrap_or_else(PoisonError::into_inner).extend(drops);
        self.filter();
    }

    /// Brings the switch room's filter in line with what is to be dropped, in one step.
    fn filter(&self) {
        let drops = self.0.drops.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nft = self.command("switch");
        nft.arg(&self.0.nft).args(["-f", "-"]);
        feed(&mut nft, &rules(&drops));
    }
}

impl Inner {
    /// All namespaces, without what they have in common.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().map(String::as_str).chain(["switch"]).chain(STATIONS)
    }
}

impl std::ops::Drop for Inner {
    fn drop(&mut self) {
        for name in self.names() {
            let name = format!("{}-{name}", self.prefix);
            let done = Command::new("ip").args(["netns", "delete", &name]).output();
            if !done.as_ref().is_ok_and(|output| output.status.success()) {
                eprintln!("the namespace {name} could not be removed: {done:?}");
            }
        }
    }
}

/// The end of a host's cable in the switch room, or with `*` those of all. At most 15 bytes, as Linux has it.
fn port(host: &str, link: Link) -> String {
    format!("{}-{host}", link.name())
}

/// The filter, as nft reads it. The table is there before it is emptied: nft has no "delete if it is there".
fn rules(drops: &[Drop]) -> String {
    let mut text = "table bridge loss\ndelete table bridge loss\ntable bridge loss {\nchain forward {\n\
                    type filter hook forward priority 0; policy accept;\n"
        .to_owned();
    for Drop { from, to, link, percent } in drops {
        let side = |host: &Option<String>| port(host.as_deref().unwrap_or("*"), *link);
        let (from, to) = (side(from), side(to));
        let some = if *percent < 100 { format!("numgen random mod 100 < {percent} ") } else { String::new() };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "iifname \"{from}\" oifname \"{to}\" {some}drop");
    }
    text + "}\n}\n"
}

/// Several commands of `ip` in one process.
#[track_caller]
fn ip(namespace: Option<&str>, batch: &str) {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    feed(command.args(["-batch", "-"]), batch);
}

#[track_caller]
fn feed(command: &mut Command, input: &str) {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && matches!(written, Some(Ok(()))),
        "{command:?}: {:?}, {written:?}, {said}, given:\n{input}",
        output.status
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_told_to_nft() {
        let drops = [
            Drop { from: Some("a".into()), to: Some("b".into()), link: Link::One, percent: 100 },
            Drop { from: None, to: None, link: Link::Two, percent: 30 },
        ];
        let text = rules(&drops);
        assert!(text.contains("\niifname \"one-a\" oifname \"one-b\" drop\n"), "{text}");
        let some = "\niifname \"two-*\" oifname \"two-*\" numgen random mod 100 < 30 drop\n";
        assert!(text.contains(some), "{text}");
    }
}
