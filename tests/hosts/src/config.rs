//! The config of a test's cluster, in the mode that is asked for; and what of it the scenarios count on.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::arbiter::{Arbiter, LEASE_S};
use crate::host::Host;
use crate::net::{APP_PORT, DAEMON_PORT, Link, Net, PATHS};
use crate::volume;

/// The hierarchy that is protected.
pub const HIERARCHY: &str = "shop";
/// The application's resource in it.
pub const APP: &str = "web";
/// A heartbeat this often, in ms.
pub const HEARTBEAT_MS: u64 = 200;
/// A path is dead after so many that did not come.
pub const MISSES: u64 = 5;
/// A path is dead, and a node with all its paths dead silent, after this.
pub const DEAD_TIME: Duration = Duration::from_millis(HEARTBEAT_MS * MISSES);
/// A path that was not well counts as green again after this.
pub const HYSTERESIS: Duration = Duration::from_secs(2);

/// The name of every cluster here.
pub(crate) const CLUSTER: &str = "hosts";
/// Where each host's certificates are, on its disk.
pub(crate) const CERTIFICATES: &str = "tls";

/// What decides when an owner falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The operator (O10).
    Confirm,
    /// The comm paths alone; two owners are accepted (O11).
    Automatic,
    /// The comm paths, once the power strip has switched the silent node off (O11, O15).
    Fenced,
    /// An etcd cluster on the link `out`, and a guardian that restarts the host in time (O12, O13).
    Arbiter,
}

/// What the config is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) mode: Mode,
    pub(crate) net: &'a Net,
    pub(crate) hosts: &'a [Host],
    /// The socket of the power strip.
    pub(crate) strip: &'a Path,
    /// The program of [`crate`].
    pub(crate) program: &'a Path,
    /// The application has an address that moves with it.
    pub(crate) moving: bool,
    /// It stands on a mirrored volume.
    pub(crate) volume: bool,
}

/// The text, the same for every host; the application's programs are put on their disks.
pub(crate) fn text(parts: &Parts<'_>) -> String {
    let Parts { mode, net, hosts, .. } = parts;
    // Writing to a String cannot fail.
    let mut text = format!("cluster = \"{CLUSTER}\"\nkits = \"kits\"\ncertificates = \"{CERTIFICATES}\"\n");
    for (path, priority) in PATHS.iter().zip(1..) {
        let _ = write!(
            text,
            "\n[path.{}]\npriority = {priority}\nheartbeat-interval = \"{HEARTBEAT_MS}ms\"\n\
             dead-after-misses = {MISSES}\nhysteresis = \"{}ms\"\n",
            path.name(),
            HYSTERESIS.as_millis()
        );
    }
    for (host, number) in hosts.iter().zip(0_u32..) {
        let name = host.name();
        let _ = writeln!(text, "\n[node.{name}]");
        for path in PATHS {
            let _ = writeln!(text, "address.{} = \"{}:{DAEMON_PORT}\"", path.name(), net.address(name, path));
        }
        if *mode == Mode::Fenced {
            let command = [&*parts.program.to_string_lossy(), "strip", &*parts.strip.to_string_lossy(), "off", name];
            // They differ, so that two that are cut off from each other do not both shoot (O15).
            let delay = number * 1500;
            let _ = writeln!(text, "fence = {{ command = {command:?}, timeout = \"10s\", delay = \"{delay}ms\" }}");
        }
    }
    let names: Vec<&str> = hosts.iter().map(|host| host.name()).collect();
    let _ = writeln!(text, "\n[hierarchy.{HIERARCHY}]\nnodes = {names:?}");
    // A scenario may have several; what limits them is held elsewhere.
    let _ = writeln!(text, "failover-limit = {{ max = 100, window = \"1h\" }}");
    text.push_str(match mode {
        Mode::Confirm => "failover = \"confirm\"\n",
        Mode::Automatic => "failover = \"automatic\"\naccept-split-brain = true\n",
        Mode::Fenced => "failover = \"automatic\"\n",
        Mode::Arbiter => "failover = \"arbiter\"\n",
    });
    if *mode == Mode::Arbiter {
        // In a process namespace of its own reboot(2) ends that namespace, and nothing else.
        let _ = write!(
            text,
            "\n[arbiter]\netcd = {:?}\nlease = \"{LEASE_S}s\"\nrenew-interval = \"1s\"\n\
             request-timeout = \"500ms\"\ntries = 2\n\n[self-fence]\nby = \"reboot\"\n",
            Arbiter::endpoints(net)
        );
    }
    text + &resources(parts)
}

/// The application on top of a volume, or of a resource that is nothing.
fn resources(parts: &Parts<'_>) -> String {
    const PROGRAMS: [(&str, &str); 4] =
        [("restore", "start"), ("remove", "stop"), ("quick-check", "check"), ("recover", "start")];
    let (base, tag) = if parts.volume {
        (volume::config(parts.net, parts.hosts), volume::VOLUME)
    } else {
        (format!("\n[hierarchy.{HIERARCHY}.resource.base]\nkit = \"null\"\n"), "base")
    };
    let mut text = format!(
        "{base}\n[hierarchy.{HIERARCHY}.resource.{APP}]\n\
         kit = \"genapp\"\ndepends-on = [\"{tag}\"]\ncheck-interval = \"300ms\"\nstandby-check-interval = \"1s\"\n\
         timeouts = {{ restore = \"20s\", remove = \"20s\", quick-check = \"5s\", recover = \"20s\" }}\n"
    );
    let (mut grants, mut params) = (Vec::new(), String::new());
    for host in parts.hosts {
        let name = host.name();
        let moving = format!(" {}/24@out", parts.net.moving_address(Link::Out));
        let mut of_host = Vec::new();
        for (param, verb) in PROGRAMS {
            let moving = if parts.moving && verb != "check" { moving.as_str() } else { "" };
            let body = format!("exec {} {verb} {name} 0.0.0.0:{APP_PORT}{moving}", parts.program.display());
            let script = host.script(&format!("app-{param}"), &body);
            of_host.push(format!("{param} = {script:?}"));
            grants.push(format!("{script:?}"));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(params, "params-on.{name} = {{ {} }}", of_host.join(", "));
    }
    let _ = writeln!(text, "grants.command = [{}]\n{params}", grants.join(", "));
    text
}
