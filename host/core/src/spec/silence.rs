//! What is done when a node falls silent: arbiter and fences, how they read, and what has to fit together (O11, O13, O15).

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::read::{Index, OPERATIONS};
use super::table::{Lengths, Range, Table};
use super::{ArbiterSpec, FailoverMode, FenceSpec, HierarchySpec, SelfFence, SelfFenceSpec, Spec};
use crate::diagnostic::Diagnostics;
use crate::names::NodeName;
use crate::time::Millis;

const LEASES: Lengths = Lengths {
    // etcd grants no less than a few of its elections take, and counts in seconds.
    least: Millis::from_secs(2),
    most: Millis::from_mins(10),
    why: "etcd grants no shorter lease, and for a longer one nobody waits",
};
const REQUESTS: Lengths = Lengths {
    least: Millis(100),
    most: Millis::from_mins(1),
    why: "quicker than that etcd does not answer, and slower than that it is away",
};
const DELAYS: Lengths =
    Lengths { least: Millis(0), most: Millis::from_mins(5), why: "it is how long the service is away because of it" };
/// Below this dead time a busy machine is taken for a dead one: a scheduler's pause alone may take so long.
const DEAD_TIME_MIN: Millis = Millis(100);
/// Fence delays differ by this much at least: by then the first has shot.
const FENCE_DELAYS_APART: Millis = Millis::from_secs(1);

/// Watchdog devices count in seconds (linux/watchdog.h, WDIOC_SETTIMEOUT).
const WATCHDOG_TAKES_MIN: Millis = Millis::from_secs(1);

/// Whether it is a host, with a port or not, and nothing behind it.
fn is_place(text: &str) -> bool {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'_');
    port && !host.is_empty() && host.bytes().all(fine)
}

pub(super) fn arbiter(table: &Table<'_, '_>, index: &mut Index) -> Option<ArbiterSpec> {
    let inner = table.table("arbiter", "[arbiter]")?;
    index.arbiter = inner.at;
    let endpoints: Vec<_> = inner.texts("etcd");
    if endpoints.is_empty() {
        inner.error(
            inner.at,
            "[arbiter] names no etcd",
            "list its members: etcd = [\"https://192.0.2.1:2379\"]".to_owned(),
        );
    }
    let certificates = inner.text("certificates", inner.get("certificates"));
    for (endpoint, at) in &endpoints {
        let encrypted = endpoint.starts_with("https://");
        let place = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if !place.is_some_and(is_place) {
            inner.error(
                *at,
                format!("`{endpoint}` in [arbiter] is no address of etcd"),
                "write http://host:port or https://host:port".to_owned(),
            );
        } else if encrypted && certificates.is_none() {
            inner.error(
                *at,
                format!("`{endpoint}` in [arbiter] is encrypted, and there are no certificates"),
                "name the directory with ca.pem, client.pem and client.key: certificates = \"/etc/mainstay/etcd\""
                    .to_owned(),
            );
        }
    }
    let spec = ArbiterSpec {
        endpoints: endpoints.into_iter().map(|(endpoint, _)| endpoint.to_owned()).collect(),
        certificates: certificates.map(|(directory, _)| directory.to_owned()),
        lease: inner.length("lease", Millis::from_secs(10), &LEASES),
        renew_interval: inner.length("renew-interval", Millis::from_secs(2), &REQUESTS),
        request_timeout: inner.length("request-timeout", Millis::from_secs(1), &REQUESTS),
        tries: inner.number("tries", 3, &Range { least: 1, most: 20 }),
    };
    inner.finish();
    Some(spec)
}

pub(super) fn self_fence(table: &Table<'_, '_>) -> Option<SelfFenceSpec> {
    let inner = table.table("self-fence", "[self-fence]")?;
    let by = inner.text("by", inner.need("by", "write by = \"reboot\", \"watchdog\" or \"command\""));
    let device = inner.text("device", inner.get("device")).map_or("/dev/watchdog", |(device, _)| device);
    let command: Vec<String> = inner.texts("command").into_iter().map(|(word, _)| word.to_owned()).collect();
    let takes = inner.length("takes", Millis(500), &REQUESTS);
    if let Some(("watchdog", at)) = by.filter(|_| takes < WATCHDOG_TAKES_MIN) {
        inner.error(
            at,
            format!("`takes = {takes}` in [self-fence] is shorter than any watchdog's timeout"),
            format!("write the device's timeout, {WATCHDOG_TAKES_MIN} or more: takes = \"5s\""),
        );
    }
    let by = by.and_then(|(by, at)| match by {
        "reboot" => Some(SelfFence::Reboot),
        "watchdog" => Some(SelfFence::Watchdog(device.to_owned())),
        "command" if !command.is_empty() => Some(SelfFence::Command(command.clone())),
        "command" => {
            inner.error(at, "[self-fence] names no command", "write command = [\"/usr/local/sbin/off\"]".to_owned());
            None
        }
        _ => {
            inner.error(
                at,
                format!("`by = \"{by}\"` in [self-fence] is not known"),
                "write by = \"reboot\", \"watchdog\" or \"command\"".to_owned(),
            );
            None
        }
    });
    absolute(&inner, command.first(), inner.at);
    inner.finish();
    by.map(|by| SelfFenceSpec { by, takes })
}

pub(super) fn fence(table: &Table<'_, '_>, name: &NodeName, index: &mut Index) -> Option<FenceSpec> {
    let inner = table.table("fence", format!("[node.{name}.fence]"))?;
    index.fences.insert(name.clone(), inner.at);
    let command: Vec<String> = inner.texts("command").into_iter().map(|(word, _)| word.to_owned()).collect();
    if command.is_empty() {
        inner.error(
            inner.at,
            format!("{} names no command", inner.name),
            format!("write the program that makes sure that {name} is off, and its arguments: command = [\"/usr/sbin/fence_ipmilan\", \"...\"]"),
        );
    }
    absolute(&inner, command.first(), inner.at);
    let spec = FenceSpec {
        command,
        timeout: inner.length("timeout", Millis::from_secs(20), &OPERATIONS),
        delay: inner.length("delay", Millis(0), &DELAYS),
    };
    inner.finish();
    Some(spec)
}

fn absolute(table: &Table<'_, '_>, program: Option<&String>, at: usize) {
    if let Some(program) = program.filter(|program| !program.starts_with('/')) {
        table.error(
            at,
            format!("`{program}` in {} is no absolute path", table.name),
            "nothing is looked up in PATH: write the whole path".to_owned(),
        );
    }
}

pub(super) fn together(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    dead_times(spec, index, diagnostics);
    fence_delays(spec, index, diagnostics);
    for (name, hierarchy) in &spec.hierarchies {
        let at = index.failover.get(name).copied().unwrap_or(0);
        match hierarchy.failover {
            FailoverMode::Confirm if hierarchy.confirm_timeout.is_none() => {}
            FailoverMode::Confirm => over_paths(spec, hierarchy, "confirm-timeout", at, diagnostics),
            FailoverMode::Automatic => over_paths(spec, hierarchy, "failover = \"automatic\"", at, diagnostics),
            FailoverMode::Arbiter => by_arbiter(spec, at, diagnostics),
        }
    }
    let by_arbiter: Vec<&HierarchySpec> =
        spec.hierarchies.values().filter(|hierarchy| hierarchy.failover == FailoverMode::Arbiter).collect();
    if let Some(arbiter) = &spec.arbiter {
        if by_arbiter.is_empty() {
            diagnostics.warning(
                index.arbiter,
                "[arbiter] is not used",
                "no hierarchy says failover = \"arbiter\"".to_owned(),
            );
        } else {
            lease_sum(spec, arbiter, &by_arbiter, index, diagnostics);
        }
    }
}

fn dead_times(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    for (name, path) in &spec.paths {
        let at = index.paths.get(name).copied().unwrap_or(0);
        let dead = path.dead_time();
        let sum = format!("{} x {} = {dead}", path.heartbeat_interval, path.dead_after_misses);
        if dead < DEAD_TIME_MIN {
            diagnostics.error(
                at,
                format!("the comm path `{name}` would be dead after heartbeat-interval x dead-after-misses = {sum}"),
                format!("less than {DEAD_TIME_MIN} takes a busy machine for a dead one: raise one of them"),
            );
        }
        if dead > spec.hold_time {
            diagnostics.error(
                at,
                format!("the comm path `{name}` is dead after {sum}, later than hold-time = {}", spec.hold_time),
                "a node that left would be missed before one that died: lower the one or raise the other".to_owned(),
            );
        }
        if path.hysteresis < dead {
            diagnostics.error(
                at,
                format!(
                    "hysteresis = {} of the comm path `{name}` is shorter than its dead time, {sum}",
                    path.hysteresis
                ),
                "a path would be called good again before it could be called dead: raise hysteresis".to_owned(),
            );
        }
    }
}

fn fence_delays(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    let fences: Vec<_> = spec.nodes.iter().filter_map(|(name, node)| Some((name, node.fence.as_ref()?))).collect();
    for (at, (name, fence)) in fences.iter().enumerate() {
        let near = fences[..at].iter().find(|(_, other)| {
            let apart = other.delay.0.abs_diff(fence.delay.0);
            apart < FENCE_DELAYS_APART.0
        });
        if let Some((other, _)) = near {
            diagnostics.error(
                index.fences.get(*name).copied().unwrap_or(0),
                format!("`{other}` and `{name}` are fenced after the same delay, {}: cut off from each other, each would shoot the other", fence.delay),
                format!("give one of them a delay that is {FENCE_DELAYS_APART} longer, and long enough for the other's command to have done its work"),
            );
        }
    }
}

/// O11: what a takeover over comm paths alone needs.
fn over_paths(spec: &Spec, hierarchy: &HierarchySpec, what: &str, at: usize, diagnostics: &mut Diagnostics) {
    if hierarchy.nodes.len() > 2 {
        diagnostics.error(
            at,
            format!("{what} is for two nodes, and this hierarchy has {} (O11)", hierarchy.nodes.len()),
            "two of three that see each other would still not know about the third: failover = \"arbiter\"".to_owned(),
        );
    }
    if hierarchy.nodes.len() > 1 && spec.paths.len() < 2 {
        diagnostics.error(
            at,
            format!("{what} needs two independent comm paths, and there {} (O11)", if spec.paths.is_empty() { "is none" } else { "is one" }),
            "if the only one broke, each node would take the other for dead: add a [path.NAME] over other cables and switches, or let the operator decide: failover = \"confirm\"".to_owned(),
        );
    }
    let without = hierarchy.nodes.iter().filter(|node| spec.nodes.get(*node).is_some_and(|node| node.fence.is_none()));
    let unfenced = without.map(NodeName::as_str).collect::<BTreeSet<_>>();
    let are = if unfenced.len() == 1 { "is" } else { "are" };
    if !unfenced.is_empty() && !hierarchy.accept_split_brain {
        diagnostics.error(
            at,
            format!("{what} cannot promise one owner: whatever cuts all comm paths at once (a switch, a power strip) makes both nodes owners (O11)"),
            format!(
                "describe how {} {are} fenced ([node.NAME.fence]), or use an arbiter, or write accept-split-brain = true if two owners do no harm",
                unfenced.into_iter().collect::<Vec<_>>().join(" and ")
            ),
        );
    }
}

/// O13: arbiter mode needs an arbiter, and something that fences this node in time.
fn by_arbiter(spec: &Spec, at: usize, diagnostics: &mut Diagnostics) {
    if spec.arbiter.is_none() {
        diagnostics.error(
            at,
            "failover = \"arbiter\" needs an arbiter",
            "describe it: [arbiter], with etcd = [\"https://192.0.2.1:2379\"]".to_owned(),
        );
    }
    if spec.self_fence.is_none() {
        diagnostics.error(
            at,
            "failover = \"arbiter\" needs something that fences a node whose permit ends while its daemon hangs (O13)",
            "write [self-fence] with by = \"reboot\", \"watchdog\" or \"command\"".to_owned(),
        );
    }
}

/// O13: what has to fit into a lease.
fn lease_sum(
    spec: &Spec,
    arbiter: &ArbiterSpec,
    hierarchies: &[&HierarchySpec],
    index: &Index,
    diagnostics: &mut Diagnostics,
) {
    let Some(fence) = &spec.self_fence else { return };
    let drift = ArbiterSpec::drift(arbiter.lease);
    let without_remove = Millis(arbiter.gives_up_after().0 + fence.takes.0 + drift.0);
    let sum = format!(
        "renew-interval {} + request-timeout {} x tries {} + self-fence takes {} + drift {drift} = {without_remove}",
        arbiter.renew_interval, arbiter.request_timeout, arbiter.tries, fence.takes
    );
    if without_remove > arbiter.lease {
        diagnostics.error(
            index.arbiter,
            format!("a lease of {} is too short (O13): {sum}", arbiter.lease),
            "a node would be fenced before it knows that it has lost its permit: raise lease, or lower one of these"
                .to_owned(),
        );
        return;
    }
    let remove = hierarchies.iter().map(|hierarchy| remove_budget(hierarchy)).max().unwrap_or_default();
    let whole = Millis(without_remove.0 + remove.0);
    if whole > arbiter.lease {
        diagnostics.warning(
            index.arbiter,
            format!("a node that loses its permit will be fenced, not stopped (O13): {sum}, + remove {remove} = {whole}, and the lease is {}", arbiter.lease),
            "if removing may take that long: raise lease, or lower timeouts.remove of the resources".to_owned(),
        );
    }
}

/// How long taking it out of service may take: the longest chain of removes, each with its timeout.
pub(crate) fn remove_budget(hierarchy: &HierarchySpec) -> Millis {
    // Kahn's algorithm from the leaves up; a circle, which is told elsewhere, is left out.
    let mut waits: BTreeMap<_, usize> = BTreeMap::new();
    let mut parents: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (tag, resource) in &hierarchy.resources {
        let children: BTreeSet<_> =
            resource.depends_on.iter().filter(|child| hierarchy.resources.contains_key(*child)).collect();
        waits.insert(tag, children.len());
        for child in children {
            parents.entry(child).or_default().push(tag);
        }
    }
    let mut ready: Vec<_> = waits.iter().filter(|(_, waits)| **waits == 0).map(|(tag, _)| *tag).collect();
    let mut below: BTreeMap<_, u64> = BTreeMap::new();
    let mut longest = 0;
    while let Some(tag) = ready.pop() {
        let own = hierarchy.resources.get(tag).map_or(0, |resource| resource.timeouts.remove.0);
        let through = below.get(tag).copied().unwrap_or(0) + own;
        longest = longest.max(through);
        for parent in parents.get(tag).into_iter().flatten() {
            let under = below.entry(*parent).or_default();
            *under = (*under).max(through);
            if let Some(waits) = waits.get_mut(*parent) {
                *waits -= 1;
                if *waits == 0 {
                    ready.push(*parent);
                }
            }
        }
    }
    Millis(longest)
}
