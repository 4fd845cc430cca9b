//! What an operator wrote, as plain values.
//!
//! [`read`](Spec::read) turns the text of a config into a [`Spec`] and finds every mistake that can be found in the
//! text alone, all of them at once, each with its place and what to do. What a kit makes of its params is
//! found later by who has the kits: [`Places`] says where in the file a param stands.

mod check;
mod read;
mod silence;
mod table;
mod volume;

pub(crate) use silence::remove_budget;
pub use volume::{MirrorMode, VolumeSpec};

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostics, Offset};
use crate::names::{HierarchyName, KitName, NodeName, PathName, Tag, VolumeName};
use crate::time::Millis;

/// A whole config. The same on every node: its hash is compared when nodes meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spec {
    /// The cluster's name. Nodes of another cluster are not listened to.
    pub cluster: String,
    /// The directory whose `.wasm` files are the kits.
    pub kits: String,
    /// The directory whose files are the secrets, each by its name.
    pub secrets: Option<String>,
    /// The directory with what a node shows the others to be believed: needed as soon as there are several.
    pub certificates: Option<String>,
    /// Where in the file that stands.
    #[serde(skip)]
    pub certificates_at: Offset,
    /// How long the others wait for a node that left with its resources in service (O9).
    pub hold_time: Millis,
    /// What decides between nodes that cannot see each other (O12).
    pub arbiter: Option<ArbiterSpec>,
    /// What fences this node when its permit ends (O13).
    pub self_fence: Option<SelfFenceSpec>,
    /// The comm paths.
    pub paths: BTreeMap<PathName, PathSpec>,
    /// The nodes.
    pub nodes: BTreeMap<NodeName, NodeSpec>,
    /// What is kept in service.
    pub hierarchies: BTreeMap<HierarchyName, HierarchySpec>,
}

/// A comm path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathSpec {
    /// The lowest that is alive carries the messages.
    pub priority: u32,
    /// A heartbeat this often.
    pub heartbeat_interval: Millis,
    /// After so many intervals without one, the path is dead.
    pub dead_after_misses: u32,
    /// A path that missed a heartbeat is yellow until it has missed none for so long (O8).
    pub hysteresis: Millis,
}

/// An etcd cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArbiterSpec {
    /// `http://host:port` or `https://host:port` of each member.
    pub endpoints: Vec<String>,
    /// The directory with `ca.pem`, `client.pem` and `client.key`, for `https`.
    pub certificates: Option<String>,
    /// How long a permit is asked for.
    pub lease: Millis,
    /// It is renewed this often.
    pub renew_interval: Millis,
    /// A request that was not answered for so long has failed.
    pub request_timeout: Millis,
    /// So many renewals in a row may fail before the node gives up its permit.
    pub tries: u32,
}

/// How much faster or slower than the arbiter's a node's clock may run, in parts of a thousand: quartz is a hundred
/// times better, and a virtual machine's clock is disciplined by its host.
pub const CLOCK_DRIFT_PERMILLE: u64 = 10;

impl ArbiterSpec {
    /// What is taken off a lease for clocks that do not run alike.
    #[must_use]
    pub fn drift(lease: Millis) -> Millis {
        Millis(lease.0 * CLOCK_DRIFT_PERMILLE / 1000)
    }

    /// From when a renewal was sent that was the last to succeed: when a node without an answer gives up.
    #[must_use]
    pub fn gives_up_after(&self) -> Millis {
        Millis(self.renew_interval.0 + self.request_timeout.0 * u64::from(self.tries))
    }
}

/// What makes sure that this node cannot act any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SelfFenceSpec {
    /// By what.
    pub by: SelfFence,
    /// How long that takes, from when it is begun to when nothing runs any more.
    pub takes: Millis,
}

/// See [`SelfFenceSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelfFence {
    /// The kernel restarts at once, without syncing.
    Reboot,
    /// A watchdog device is not kept quiet any more.
    Watchdog(String),
    /// A program with its arguments.
    Command(Vec<String>),
}

/// How other nodes make sure that this one cannot act (O15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FenceSpec {
    /// A program with its arguments; success says that the node is off.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Millis,
    /// How long others wait before they fence this node: differs by node, so that two do not shoot each other.
    pub delay: Millis,
}

impl PathSpec {
    /// How long a path is silent before it is dead.
    #[must_use]
    pub fn dead_time(&self) -> Millis {
        Millis(self.heartbeat_interval.0 * u64::from(self.dead_after_misses))
    }
}

/// A machine with a host daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSpec {
    /// Where the others find it, `host:port`, on each path.
    pub address: BTreeMap<PathName, String>,
    /// Where it listens, when that is another place: behind a relay, or on a port the system chooses.
    pub listen: BTreeMap<PathName, String>,
    /// How the others fence it.
    pub fence: Option<FenceSpec>,
}

/// What decides when an owner falls silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailoverMode {
    /// The operator's word (O10).
    #[default]
    Confirm,
    /// The comm paths alone (O11).
    Automatic,
    /// A permit of the arbiter (O12).
    Arbiter,
}

/// When a hierarchy that failed over goes back to a node of higher priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switchback {
    /// By hand.
    #[default]
    Intelligent,
    /// By itself, once that node has been ready for [`HierarchySpec::switchback_delay`].
    Automatic,
}

/// A named set of resources with one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HierarchySpec {
    /// The nodes it may run on, in order of priority.
    pub nodes: Vec<NodeName>,
    /// What decides when its owner falls silent.
    pub failover: FailoverMode,
    /// The operator knows that `automatic` without a fence cannot promise one owner (O11).
    pub accept_split_brain: bool,
    /// In `confirm`, when nobody has confirmed for so long, it is taken over as in `automatic`; none: wait for ever (O10).
    pub confirm_timeout: Option<Millis>,
    /// Whether it goes back by itself.
    pub switchback: Switchback,
    /// How long a node of higher priority has to be ready before it does.
    pub switchback_delay: Millis,
    /// What is found running where it is not owned is removed there (O21).
    pub remove_violations: bool,
    /// Whether a failed resource may move the hierarchy to another node.
    pub block_failover: bool,
    /// How many failovers in [`Self::failovers_window`] are too many (O20).
    pub failovers_max: u32,
    /// See [`Self::failovers_max`].
    pub failovers_window: Millis,
    /// Mirrored volumes that move with it (VOLUME).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<VolumeName, VolumeSpec>,
    /// By tag.
    pub resources: BTreeMap<Tag, ResourceSpec>,
}

/// One thing a kit protects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceSpec {
    /// The kit that knows it.
    pub kit: KitName,
    /// What has to be in service before it.
    pub depends_on: Vec<Tag>,
    /// For every node.
    pub params: Map<String, Value>,
    /// Merged over `params` on one node: tables key by key, everything else replaced.
    pub params_on: BTreeMap<NodeName, Map<String, Value>>,
    /// What the kit may reach.
    pub grants: Grants,
    /// A quick-check this often while in service here.
    pub check_interval: Millis,
    /// A quick-check this often on a standby (O21).
    pub standby_check_interval: Millis,
    /// Time between two deep-checks where it is in service, of kits that have the ability.
    pub deep_check_interval: Millis,
    /// The ladder's numbers.
    pub recovery: Recovery,
    /// How long each operation may take.
    pub timeouts: Timeouts,
    /// Where in the file things stand.
    #[serde(skip)]
    pub places: Places,
}

/// The ladder's numbers: how often what is tolerated, before what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Confirmed bad checks in a row that nothing is done about.
    pub tolerate: u32,
    /// Timed-out checks in a row that nothing is done about.
    pub tolerate_timeouts: u32,
    /// Local recoveries in [`Self::window`]; with none a failure leads to failover at once.
    pub attempts: u32,
    /// See [`Self::attempts`].
    pub window: Millis,
}

/// How long each operation may take before it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// Of restore.
    pub restore: Millis,
    /// Of remove.
    pub remove: Millis,
    /// Of quick-check.
    pub quick_check: Millis,
    /// Of deep-check.
    pub deep_check: Millis,
    /// Of recover.
    pub recover: Millis,
    /// Of asking whether a standby is ready.
    pub readiness: Millis,
}

/// What the operator allows a kit to reach, for one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// Programs it may run.
    pub command: Vec<CommandGrant>,
    /// `host:port` it may connect to.
    pub net: Vec<NetGrant>,
    /// Secrets it may read.
    pub secret: Vec<String>,
    /// Mirrored volumes it may use, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume: Vec<String>,
    /// Where it may mount file systems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mount: Vec<MountGrant>,
    /// Services of the system it may use, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service: Vec<String>,
}

/// A program, and the user it runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommandGrant {
    /// An absolute path.
    pub program: String,
    /// None: the daemon's own.
    pub user: Option<String>,
}

/// A mount point, and what may be mounted there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MountGrant {
    /// An absolute path.
    pub point: String,
    /// A block device, by path; none: the volumes that are granted.
    pub device: Option<String>,
}

/// A place in the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetGrant {
    /// A name or an address, as the kit says it.
    pub host: String,
    /// A port.
    pub port: u16,
}

impl NetGrant {
    /// Reads `host:port`, `[v6]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let fine = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'%'));
        fine.then(|| Self { host: host.into(), port })
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

/// Where in the file the parts of a resource stand, in bytes from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The resource's own name.
    pub tag: Offset,
    /// What `kit` says.
    pub kit: Offset,
    /// The grants, or the resource when there are none.
    pub grants: Offset,
    /// Of each param, by JSON pointer; `params-on` of a node over `params`.
    params: BTreeMap<String, Offset>,
    params_on: BTreeMap<NodeName, BTreeMap<String, Offset>>,
}

impl Places {
    /// Where the param at `pointer` stands for `node`; where its nearest parent does when it is not there.
    #[must_use]
    pub fn param(&self, node: &NodeName, pointer: &str) -> Offset {
        let mut pointer = pointer;
        loop {
            let own = self.params_on.get(node).and_then(|places| places.get(pointer));
            if let Some(at) = own.or_else(|| self.params.get(pointer)) {
                return *at;
            }
            match pointer.rsplit_once('/') {
                Some((parent, _)) => pointer = parent,
                None => return self.tag,
            }
        }
    }
}

impl Spec {
    /// Of each part of the config a number that is another when the part is, so that nodes can say what differs between
    /// them. Not a secret, and no proof against anybody who wants two parts to look alike.
    #[must_use]
    pub fn parts(&self) -> BTreeMap<String, String> {
        let mut parts = BTreeMap::new();
        let mut top = self.clone();
        for (name, path) in core::mem::take(&mut top.paths) {
            parts.insert(alloc::format!("[path.{name}]"), fingerprint(&path));
        }
        for (name, node) in core::mem::take(&mut top.nodes) {
            parts.insert(alloc::format!("[node.{name}]"), fingerprint(&node));
        }
        for (name, mut hierarchy) in core::mem::take(&mut top.hierarchies) {
            for (tag, resource) in core::mem::take(&mut hierarchy.resources) {
                parts.insert(alloc::format!("[hierarchy.{name}.resource.{tag}]"), fingerprint(&resource));
            }
            for (volume, spec) in core::mem::take(&mut hierarchy.volumes) {
                parts.insert(alloc::format!("[hierarchy.{name}.volume.{volume}]"), fingerprint(&spec));
            }
            parts.insert(alloc::format!("[hierarchy.{name}]"), fingerprint(&hierarchy));
        }
        parts.insert("[arbiter]".into(), fingerprint(&top.arbiter.take()));
        parts.insert("[self-fence]".into(), fingerprint(&top.self_fence.take()));
        parts.insert("the top of the file".into(), fingerprint(&top));
        parts
    }

    /// Reads the text of a config. Without a spec there is at least one error among the diagnostics.
    #[must_use]
    pub fn read(file: &str, text: &str) -> (Option<Self>, Diagnostics) {
        let (spec, diagnostics) = Self::read_with_errors(file, text);
        (spec.filter(|_| !diagnostics.any_error()), diagnostics)
    }

    /// As [`read`](Spec::read), but gives what could be read even if there are errors: only to find more of them. Without
    /// a spec the text is not TOML.
    #[must_use]
    pub fn read_with_errors(file: &str, text: &str) -> (Option<Self>, Diagnostics) {
        let mut diagnostics = Diagnostics::new(file, text);
        let spec = read::spec(text, &mut diagnostics);
        (spec, diagnostics)
    }
}

impl HierarchySpec {
    /// The failovers this many within this long are too many, in words.
    #[must_use]
    pub fn failover_limit(&self) -> String {
        alloc::format!("{} in {}", self.failovers_max, self.failovers_window)
    }
}

impl ResourceSpec {
    /// The params on `node`, as the kit gets them.
    #[must_use]
    pub fn params_for(&self, node: &NodeName) -> Value {
        let mut params = self.params.clone();
        if let Some(own) = self.params_on.get(node) {
            merge(&mut params, own);
        }
        Value::Object(params)
    }
}

/// FNV-1a, 64 bits, of what it is as JSON.
fn fingerprint(part: &impl Serialize) -> String {
    // Plain values with text keys: they can always be written.
    let text = serde_json::to_string(part).unwrap_or_default();
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    alloc::format!("{hash:016x}")
}

/// `over` laid over `params`: tables key by key, everything else replaced.
fn merge(params: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (params.get_mut(key), value) {
            (Some(Value::Object(under)), Value::Object(value)) => merge(under, value),
            (_, value) => {
                params.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use serde_json::json;

    #[test]
    fn net_grants_read_and_show() {
        for fine in ["127.0.0.1:53", "ns.example.org:5353", "[::1]:53"] {
            assert_eq!(NetGrant::parse(fine).unwrap().to_string(), fine);
        }
        for wrong in ["", "host", "host:", ":53", "host:0", "host:65536", "::1:53", "[::1]", "a b:1"] {
            assert_eq!(NetGrant::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_nodes_own_params_go_over_the_common_ones() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let mut params = object(json!({"a": 1, "t": {"x": 1, "y": [1]}}));
        merge(&mut params, &object(json!({"b": 2, "t": {"y": [2], "z": 3}})));
        assert_eq!(Value::Object(params), json!({"a": 1, "b": 2, "t": {"x": 1, "y": [2], "z": 3}}));
    }
}
