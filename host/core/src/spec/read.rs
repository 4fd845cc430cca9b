//! From the text to a [`Spec`]: shapes, names, numbers. What has to fit together is [`super::check`]'s.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Display;

use toml::de::{DeTable, DeValue};

use super::table::{Entry, Lengths, Range, Table, object};
use super::{
    CommandGrant, FailoverMode, Grants, HierarchySpec, MountGrant, NetGrant, NodeSpec, PathSpec, Places, Recovery,
    ResourceSpec, Spec, Switchback, Timeouts, check, silence, volume,
};
use crate::diagnostic::{Diagnostics, Offset};
use crate::names::{self, HierarchyName, KitName, NodeName, PathName, Tag};
use crate::time::Millis;

const HEARTBEATS: Lengths = Lengths {
    least: Millis(20),
    most: Millis::from_mins(1),
    why: "more often a busy machine cannot keep up, less often nobody notices a failure",
};
const CHECKS: Lengths = Lengths {
    least: Millis(100),
    most: Millis::from_mins(24 * 60),
    why: "more often a check is a load of its own, less often it is none",
};
pub(super) const OPERATIONS: Lengths = Lengths {
    least: Millis(100),
    most: Millis::from_mins(24 * 60),
    why: "an operation needs some time, and one that takes more than a day hangs",
};
pub(super) const WINDOWS: Lengths = Lengths {
    least: Millis::from_secs(1),
    most: Millis::from_mins(7 * 24 * 60),
    why: "it is the time in which events are counted together",
};
const HOLDS: Lengths = Lengths {
    least: Millis::from_secs(1),
    most: Millis::from_mins(24 * 60),
    why: "it is how long a node may be away on purpose",
};

/// Where the names stand that other parts refer to.
#[derive(Default)]
pub(super) struct Index {
    pub(super) nodes: BTreeMap<NodeName, Offset>,
    pub(super) paths: BTreeMap<PathName, Offset>,
    pub(super) addresses: Vec<Address>,
    pub(super) hierarchy_nodes: BTreeMap<HierarchyName, Vec<(NodeName, Offset)>>,
    pub(super) depends_on: BTreeMap<(HierarchyName, Tag), Vec<(Tag, Offset)>>,
    pub(super) tags: BTreeMap<Tag, Vec<(HierarchyName, Offset)>>,
    pub(super) secrets_wanted: Vec<(String, Offset)>,
    pub(super) params_on: Vec<(HierarchyName, NodeName, Offset)>,
    /// Where `failover` is said, or the hierarchy begins.
    pub(super) failover: BTreeMap<HierarchyName, Offset>,
    pub(super) arbiter: Offset,
    /// Where `switchback` is said.
    pub(super) switchback: BTreeMap<HierarchyName, Offset>,
    pub(super) volumes: Vec<volume::Place>,
    pub(super) fences: BTreeMap<NodeName, Offset>,
}

/// An address as written.
pub(super) struct Address {
    pub(super) node: NodeName,
    pub(super) path: PathName,
    pub(super) text: String,
    pub(super) at: Offset,
    /// Written under `listen` rather than `address`.
    pub(super) listen: bool,
}

pub(super) fn spec(text: &str, diagnostics: &mut Diagnostics) -> Option<Spec> {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        diagnostics.error(at, format!("this is not TOML: {}", error.message()), None);
    }
    if !errors.is_empty() {
        // What could be saved of the text would only bring up follow-on errors.
        return None;
    }
    let shared = RefCell::new(core::mem::replace(diagnostics, Diagnostics::new("", "")));
    let table = Table::new("the config", 0, root.get_ref(), &shared);
    let mut index = Index::default();
    let spec = top(table, &mut index);
    *diagnostics = shared.into_inner();
    check::together(&spec, &index, diagnostics);
    Some(spec)
}

/// A spec whatever is wrong, so that one mistake does not hide others.
fn top(table: Table<'_, '_>, index: &mut Index) -> Spec {
    let cluster = table.text("cluster", table.need("cluster", "name the cluster: cluster = \"mail\""));
    if let Some((cluster, at)) = cluster {
        name_problem(&table, cluster, at, "the cluster's name");
    }
    let kits = table.text(
        "kits",
        table.need("kits", "name the directory with the kits' .wasm files: kits = \"/var/lib/mainstay/kits\""),
    );
    if let Some(("", at)) = kits {
        table.error(at, "`kits` is empty", "name the directory with the kits' .wasm files".to_owned());
    }
    let secrets = table.text("secrets", table.get("secrets"));
    let certificates = table.text("certificates", table.get("certificates"));
    if let Some(("", at)) = certificates {
        table.error(at, "`certificates` is empty", "name the directory with ca.pem, node.pem and node.key".to_owned());
    }
    let hold_time = table.length("hold-time", Millis::from_mins(10), &HOLDS);
    let arbiter = silence::arbiter(&table, index);
    let self_fence = silence::self_fence(&table);
    let paths = named(&table, "path", "comm path", |name, at, table| {
        index.paths.insert(PathName::new(name), at);
        (PathName::new(name), path(table))
    });
    let nodes = named(&table, "node", "node", |name, at, table| {
        index.nodes.insert(NodeName::new(name), at);
        (NodeName::new(name), node(table, &NodeName::new(name), index))
    });
    let hierarchies = named(&table, "hierarchy", "hierarchy", |name, at, table| {
        let name = HierarchyName::new(name);
        (name.clone(), hierarchy(table, &name, at, index))
    });
    if nodes.is_empty() {
        table.error(
            0,
            "there is no node",
            "describe each machine: [node.NAME], with address.PATH = \"host:port\"".to_owned(),
        );
    }
    if hierarchies.is_empty() {
        table.warning(
            0,
            "there is no hierarchy: nothing is protected",
            "describe one: [hierarchy.NAME], with [hierarchy.NAME.resource.TAG]".to_owned(),
        );
    }
    table.finish();
    Spec {
        cluster: cluster.map_or("", |(name, _)| name).to_owned(),
        kits: kits.map_or("", |(directory, _)| directory).to_owned(),
        secrets: secrets.map(|(secrets, _)| secrets.to_owned()),
        certificates: certificates.map(|(certificates, _)| certificates.to_owned()),
        certificates_at: certificates.map_or(0, |(_, at)| at),
        hold_time,
        arbiter,
        self_fence,
        paths,
        nodes,
        hierarchies,
    }
}

/// A table of tables, `[KEY.NAME]`, each read by `read`.
pub(super) fn named<'a, 'd, K: Ord, V>(
    table: &Table<'a, 'd>,
    key: &'static str,
    what: &str,
    mut read: impl FnMut(&'a str, Offset, Table<'a, 'd>) -> (K, V),
) -> BTreeMap<K, V> {
    let Some(outer) = table.table(key, format!("[{key}]")) else { return BTreeMap::new() };
    let mut out = BTreeMap::new();
    for (name, at, entry) in outer.entries() {
        name_problem(&outer, name, at, format_args!("the {what} `{name}`"));
        if let Some(mut inner) = outer.as_table(name, entry, format!("[{key}.{name}]")) {
            inner.at = at;
            let (key, value) = read(name, at, inner);
            out.insert(key, value);
        }
    }
    out
}

pub(super) fn name_problem(table: &Table<'_, '_>, name: &str, at: Offset, what: impl Display) {
    if let Some(problem) = names::problem(name) {
        table.error(at, format!("{what}: this is no name"), problem.to_owned());
    }
}

fn path(table: Table<'_, '_>) -> PathSpec {
    let path = PathSpec {
        priority: table.number("priority", 1, &Range { least: 1, most: 1000 }),
        heartbeat_interval: table.length("heartbeat-interval", Millis::from_secs(1), &HEARTBEATS),
        dead_after_misses: table.number("dead-after-misses", 5, &Range { least: 2, most: 100 }),
        hysteresis: table.length("hysteresis", Millis::from_secs(10), &WINDOWS),
    };
    table.finish();
    path
}

fn node(table: Table<'_, '_>, name: &NodeName, index: &mut Index) -> NodeSpec {
    let mut addresses = |key: &'static str, listen: bool| {
        let Some(inner) = table.table(key, format!("[node.{name}.{key}]")) else { return BTreeMap::new() };
        let mut out = BTreeMap::new();
        for (path, _, entry) in inner.entries() {
            let Some((text, at)) = text_of(&inner, path, entry, "host:port") else { continue };
            let path = PathName::new(path);
            out.insert(path.clone(), text.to_owned());
            index.addresses.push(Address { node: name.clone(), path, text: text.to_owned(), at, listen });
        }
        out
    };
    let (address, listen) = (addresses("address", false), addresses("listen", true));
    let node = NodeSpec { address, listen, fence: silence::fence(&table, name, index) };
    table.finish();
    node
}

pub(super) fn text_of<'a>(
    table: &Table<'a, '_>,
    key: &str,
    entry: &'a Entry<'a>,
    wanted: &str,
) -> Option<(&'a str, Offset)> {
    let text = entry.get_ref().as_str();
    if text.is_none() {
        let message = format!("`{key}` in {} is of type {}", table.name, entry.get_ref().type_str());
        table.error(entry.span().start, message, format!("write a text: {key} = \"{wanted}\""));
    }
    text.map(|text| (text, entry.span().start))
}

fn hierarchy(table: Table<'_, '_>, name: &HierarchyName, at: Offset, index: &mut Index) -> HierarchySpec {
    let listed = table.texts("nodes");
    if listed.is_empty() {
        table.error(
            at,
            format!("{} names no node", table.name),
            "list the nodes it may run on, in order of priority: nodes = [\"a\", \"b\"]".to_owned(),
        );
    }
    let nodes: Vec<(NodeName, Offset)> = listed.into_iter().map(|(node, at)| (NodeName::new(node), at)).collect();
    index.hierarchy_nodes.insert(name.clone(), nodes.clone());
    let (failover, failover_at) = choice(
        &table,
        "failover",
        &[
            ("confirm", FailoverMode::Confirm),
            ("automatic", FailoverMode::Automatic),
            ("arbiter", FailoverMode::Arbiter),
        ],
    );
    let (switchback, switchback_at) =
        choice(&table, "switchback", &[("intelligent", Switchback::Intelligent), ("automatic", Switchback::Automatic)]);
    let switchback_delay = table.length("switchback-delay", Millis::from_mins(1), &WINDOWS);
    let accept_split_brain = table.flag("accept-split-brain");
    let remove_violations = table.flag("remove-violations");
    let confirm_timeout = table.optional_length("confirm-timeout", &WINDOWS);
    if let Some((_, at)) = confirm_timeout.filter(|_| failover != FailoverMode::Confirm) {
        table.error(
            at,
            format!("`confirm-timeout` in {} goes with failover = \"confirm\" alone", table.name),
            "nobody is asked for a confirmation in the other modes: take it out".to_owned(),
        );
    }
    index.failover.insert(name.clone(), failover_at.unwrap_or(at));
    index.switchback.insert(name.clone(), switchback_at.unwrap_or(at));
    let block_failover = table.flag("block-failover");
    let (failovers_max, failovers_window) =
        match table.table("failover-limit", format!("[hierarchy.{name}.failover-limit]")) {
            Some(limit) => {
                let max = limit.number("max", FAILOVERS_MAX, &Range { least: 1, most: 1000 });
                let window = limit.length("window", FAILOVERS_WINDOW, &WINDOWS);
                limit.finish();
                (max, window)
            }
            None => (FAILOVERS_MAX, FAILOVERS_WINDOW),
        };
    let volumes = volume::volumes(&table, name, index);
    let mut resources = BTreeMap::new();
    if let Some(outer) = table.table("resource", format!("[hierarchy.{name}.resource]")) {
        for (tag, at, entry) in outer.entries() {
            name_problem(&outer, tag, at, format_args!("the resource `{tag}`"));
            if let Some(mut inner) = outer.as_table(tag, entry, format!("[hierarchy.{name}.resource.{tag}]")) {
                inner.at = at;
                let tag = Tag::new(tag);
                index.tags.entry(tag.clone()).or_default().push((name.clone(), at));
                let resource = resource(inner, name, &tag, at, index);
                resources.insert(tag, resource);
            }
        }
    }
    if resources.is_empty() {
        table.error(
            at,
            format!("{} has no resource", table.name),
            format!("describe one: [hierarchy.{name}.resource.TAG], with kit = \"...\""),
        );
    }
    table.finish();
    HierarchySpec {
        nodes: nodes.into_iter().map(|(node, _)| node).collect(),
        failover,
        accept_split_brain,
        confirm_timeout: confirm_timeout.map(|(timeout, _)| timeout),
        switchback,
        switchback_delay,
        remove_violations,
        block_failover,
        failovers_max,
        failovers_window,
        volumes,
        resources,
    }
}

/// O20: by default two failovers in an hour.
const FAILOVERS_MAX: u32 = 2;
const FAILOVERS_WINDOW: Millis = Millis::from_mins(60);

/// One of a few words, and where it stands; the default if there is none.
pub(super) fn choice<T: Copy + Default>(
    table: &Table<'_, '_>,
    key: &'static str,
    words: &[(&str, T)],
) -> (T, Option<Offset>) {
    let Some((text, at)) = table.text(key, table.get(key)) else { return (T::default(), None) };
    let Some((_, chosen)) = words.iter().find(|(word, _)| *word == text) else {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = format!("write {key} = \"{}\"", known.join("\" or \""));
        table.error(at, format!("`{key} = \"{text}\"` in {} is not known", table.name), hint);
        return (T::default(), Some(at));
    };
    (*chosen, Some(at))
}

fn resource(table: Table<'_, '_>, hierarchy: &HierarchyName, tag: &Tag, at: Offset, index: &mut Index) -> ResourceSpec {
    let mut places = Places { tag: at, kit: at, grants: at, ..Places::default() };
    let kit = table.text("kit", table.need("kit", "name the kit that knows this resource: kit = \"genapp\""));
    if let Some((kit, at)) = kit {
        places.kit = at;
        name_problem(&table, kit, at, "the kit's name");
    }
    let depends_on: Vec<_> = table.texts("depends-on").into_iter().map(|(tag, at)| (Tag::new(tag), at)).collect();
    index.depends_on.insert((hierarchy.clone(), tag.clone()), depends_on.clone());
    let params = match table.get("params") {
        Some(entry) => params_table(&table, "params", entry, &mut places.params),
        None => serde_json::Map::new(),
    };
    let mut params_on = BTreeMap::new();
    if let Some(outer) = table.table("params-on", format!("[hierarchy.{hierarchy}.resource.{tag}.params-on]")) {
        for (node, at, entry) in outer.entries() {
            let node = NodeName::new(node);
            index.params_on.push((hierarchy.clone(), node.clone(), at));
            let mut own = BTreeMap::new();
            params_on.insert(node.clone(), params_table(&outer, node.as_str(), entry, &mut own));
            places.params_on.insert(node, own);
        }
    }
    let grants = grants(&table, &mut places, index);
    let check_interval = table.length("check-interval", Millis::from_secs(5), &CHECKS);
    let standby_check_interval = table.length("standby-check-interval", Millis::from_mins(1), &CHECKS);
    let deep_check_interval = table.length("deep-check-interval", Millis::from_mins(10), &CHECKS);
    let recovery = recovery(&table);
    let timeouts = timeouts(&table);
    table.finish();
    ResourceSpec {
        kit: KitName::new(kit.map_or("", |(kit, _)| kit)),
        depends_on: depends_on.into_iter().map(|(tag, _)| tag).collect(),
        params,
        params_on,
        grants,
        check_interval,
        standby_check_interval,
        deep_check_interval,
        recovery,
        timeouts,
        places,
    }
}

fn params_table(
    table: &Table<'_, '_>,
    key: &str,
    entry: &Entry<'_>,
    places: &mut BTreeMap<String, Offset>,
) -> serde_json::Map<String, serde_json::Value> {
    places.insert(String::new(), entry.span().start);
    match entry.get_ref() {
        DeValue::Table(inner) => table.json_object(inner, places),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => {
            let message = format!("`{key}` in {} is of type {}", table.name, entry.get_ref().type_str());
            table.error(entry.span().start, message, "write a table: { ... }".to_owned());
            serde_json::Map::new()
        }
    }
}

impl Table<'_, '_> {
    fn json_object(
        &self,
        table: &DeTable<'_>,
        places: &mut BTreeMap<String, Offset>,
    ) -> serde_json::Map<String, serde_json::Value> {
        object(table, "", places, self.shared())
    }
}

fn recovery(table: &Table<'_, '_>) -> Recovery {
    let default = Recovery { tolerate: 0, tolerate_timeouts: 2, attempts: 2, window: Millis::from_mins(10) };
    let Some(inner) = table.table("recovery", format!("`recovery` of {}", table.name)) else { return default };
    let recovery = Recovery {
        tolerate: inner.number("tolerate", default.tolerate, &Range { least: 0, most: 1000 }),
        tolerate_timeouts: inner.number(
            "tolerate-timeouts",
            default.tolerate_timeouts,
            &Range { least: 0, most: 1000 },
        ),
        attempts: inner.number("attempts", default.attempts, &Range { least: 0, most: 100 }),
        window: inner.length("window", default.window, &WINDOWS),
    };
    inner.finish();
    recovery
}

fn timeouts(table: &Table<'_, '_>) -> Timeouts {
    let default = Timeouts {
        restore: Millis::from_mins(5),
        remove: Millis::from_mins(5),
        quick_check: Millis::from_secs(30),
        deep_check: Millis::from_mins(2),
        recover: Millis::from_mins(5),
        readiness: Millis::from_secs(30),
    };
    let Some(inner) = table.table("timeouts", format!("`timeouts` of {}", table.name)) else { return default };
    let timeouts = Timeouts {
        restore: inner.length("restore", default.restore, &OPERATIONS),
        remove: inner.length("remove", default.remove, &OPERATIONS),
        quick_check: inner.length("quick-check", default.quick_check, &OPERATIONS),
        deep_check: inner.length("deep-check", default.deep_check, &OPERATIONS),
        recover: inner.length("recover", default.recover, &OPERATIONS),
        readiness: inner.length("readiness", default.readiness, &OPERATIONS),
    };
    inner.finish();
    timeouts
}

fn grants(table: &Table<'_, '_>, places: &mut Places, index: &mut Index) -> Grants {
    let Some(inner) = table.table("grants", format!("`grants` of {}", table.name)) else { return Grants::default() };
    places.grants = inner.at;
    let mut out = Grants::default();
    for entry in inner.list("command") {
        if let Some(grant) = command_grant(&inner, entry) {
            out.command.push(grant);
        }
    }
    for (text, at) in inner.texts("net") {
        match NetGrant::parse(text) {
            Some(grant) => out.net.push(grant),
            None => inner.error(
                at,
                format!("`{text}` in {} is no place in the network", inner.name),
                "write host:port, as in \"192.0.2.53:53\" or \"[2001:db8::1]:53\"".to_owned(),
            ),
        }
    }
    for (text, at) in inner.texts("secret") {
        name_problem(&inner, text, at, "the secret's name");
        index.secrets_wanted.push((text.to_owned(), at));
        out.secret.push(text.to_owned());
    }
    for (text, at) in inner.texts("volume") {
        name_problem(&inner, text, at, "the volume's name");
        out.volume.push(text.to_owned());
    }
    for entry in inner.list("mount") {
        if let Some(grant) = mount_grant(&inner, entry) {
            out.mount.push(grant);
        }
    }
    for (text, at) in inner.texts("service") {
        if let Some(problem) = service_name_problem(text) {
            inner.error(
                at,
                format!("`{text}` in {} is no service: {problem}", inner.name),
                "write its name as the system has it, as in \"postfix.service\" or \"MSExchangeIS\"; a display name is none"
                    .to_owned(),
            );
        }
        out.service.push(text.to_owned());
    }
    inner.finish();
    out
}

/// `"/path"`, or `{ program = "/path", user = "name" }`.
fn command_grant<'a>(table: &Table<'a, '_>, entry: &'a Entry<'a>) -> Option<CommandGrant> {
    let (program, at, user) = if let Some(text) = entry.get_ref().as_str() {
        (text, entry.span().start, None)
    } else {
        let inner = table.as_table("command", entry, format!("`command` in {}", table.name))?;
        let program = inner.text("program", inner.need("program", "write { program = \"/path\", user = \"name\" }"));
        let user = inner.text("user", inner.get("user"));
        inner.finish();
        let (program, at) = program?;
        (program, at, user.map(|(user, _)| user.to_owned()))
    };
    if !program.starts_with('/') || program.split('/').any(|part| part == "..") {
        table.error(
            at,
            format!("`{program}` in {} is no absolute path", table.name),
            "nothing is looked up in PATH: write the whole path, without `..`".to_owned(),
        );
        return None;
    }
    Some(CommandGrant { program: program.to_owned(), user })
}

/// `"/mount/point"`, or `{ point = "/mount/point", device = "/dev/name" }`.
fn mount_grant<'a>(table: &Table<'a, '_>, entry: &'a Entry<'a>) -> Option<MountGrant> {
    const WHOLE: &str = "write { point = \"/mount/point\", device = \"/dev/name\" }";
    let (point, at, device) = if let Some(text) = entry.get_ref().as_str() {
        (text, entry.span().start, None)
    } else {
        let inner = table.as_table("mount", entry, format!("`mount` in {}", table.name))?;
        let point = inner.text("point", inner.need("point", WHOLE));
        let device = inner.text("device", inner.need("device", WHOLE));
        inner.finish();
        let ((point, at), device) = (point?, device?);
        (point, at, Some(device))
    };
    if !is_plain_path(point) {
        table.error(
            at,
            format!("`{point}` in {} is no mount point", table.name),
            "write the whole path of the folder, beginning with a slash, without `.`, `..` and a slash at its end"
                .to_owned(),
        );
        return None;
    }
    if let Some((device, at)) = device
        && !(device.starts_with("/dev/") && is_plain_path(device))
    {
        table.error(
            at,
            format!("`{device}` in {} is no block device", table.name),
            "write its path in /dev, without `.` and `..`".to_owned(),
        );
        return None;
    }
    Some(MountGrant { point: point.to_owned(), device: device.map(|(device, _)| device.to_owned()) })
}

/// The longest name of a service, in bytes: that of Windows, which takes 256 characters; systemd takes 255.
const SERVICE_NAME_BYTES_MAX: usize = 256;

/// What is wrong with the name of a service, on whatever system: the runtime knows better what its own allows.
fn service_name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > SERVICE_NAME_BYTES_MAX {
        return Some("a name has 1 to 256 bytes");
    }
    if name.trim() != name || name.contains('/') || name.chars().any(char::is_control) {
        return Some("a name has no slash, no control character, and no space at its ends");
    }
    None
}

/// Absolute, of parts that say where they lead, and not the root of all files.
fn is_plain_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|inner| inner.split('/').all(|part| !matches!(part, "" | "." | "..")))
        && !path.chars().any(char::is_control)
}
