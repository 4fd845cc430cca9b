//! `[hierarchy.H.volume.NAME]`: a mirrored volume, of which every daemon serves its own copy (VOLUME). It belongs to the
//! hierarchy because who may write to it is who owns that.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use serde::Serialize;

use super::read::{Index, choice, name_problem, text_of};
use super::table::{Lengths, Range, Table};
use super::{FailoverMode, Spec, Switchback};
use crate::diagnostic::{Diagnostics, Offset, did_you_mean};
use crate::names::{HierarchyName, NodeName, VolumeName};
use crate::time::Millis;

const STALLS: Lengths = Lengths {
    least: Millis::from_secs(2),
    most: Millis::from_mins(10),
    why: "less, and every hiccup of the line ends in errors; more, and applications and unmounts hang",
};
const LAGS: Lengths = Lengths {
    least: Millis(100),
    most: Millis::from_mins(60),
    why: "it is how old the newest thing may be that is lost with the source",
};

/// A mirrored volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeSpec {
    /// The block device or file with the data on each node; its last 8 KiB are the label's.
    pub backing: BTreeMap<NodeName, String>,
    /// The intent log's file on each node; none: in the daemon's state directory.
    pub log: BTreeMap<NodeName, String>,
    /// Where the node whose name sorts last listens for the other one, `ip:port`.
    pub address: BTreeMap<NodeName, String>,
    /// When writes are answered (V7).
    pub mode: MirrorMode,
    /// No request is held for longer (V1).
    pub stall_time: Millis,
    /// What a resync may use of the line, in KiB a second; none: all of it.
    pub resync_kib_per_s: Option<u32>,
}

/// See [`VolumeSpec`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorMode {
    /// When both copies have them.
    #[default]
    Sync,
    /// When the source has them; the other copy may be behind by so much.
    Async {
        /// In KiB.
        lag_kib_max: u32,
        /// In time.
        lag_max: Millis,
    },
}

/// Where the parts of a volume stand.
pub(super) struct Place {
    hierarchy: HierarchyName,
    name: VolumeName,
    at: Offset,
    /// The nodes that `backing`, `log` and `address` name.
    nodes: Vec<(&'static str, NodeName, Offset)>,
    /// Of each address, as it is written.
    addresses: Vec<(String, Offset)>,
    /// Of each backing and log: which node's, and as it is written.
    files: Vec<(NodeName, String, Offset)>,
}

pub(super) fn volumes(
    table: &Table<'_, '_>,
    hierarchy: &HierarchyName,
    index: &mut Index,
) -> BTreeMap<VolumeName, VolumeSpec> {
    let Some(outer) = table.table("volume", format!("[hierarchy.{hierarchy}.volume]")) else { return BTreeMap::new() };
    let mut out = BTreeMap::new();
    for (name, at, entry) in outer.entries() {
        name_problem(&outer, name, at, format_args!("the volume `{name}`"));
        if let Some(inner) = outer.as_table(name, entry, format!("[hierarchy.{hierarchy}.volume.{name}]")) {
            let name = VolumeName::new(name);
            let mut place = Place {
                hierarchy: hierarchy.clone(),
                name: name.clone(),
                at,
                nodes: Vec::new(),
                addresses: Vec::new(),
                files: Vec::new(),
            };
            out.insert(name, volume(inner, &mut place));
            index.volumes.push(place);
        }
    }
    out
}

fn volume(table: Table<'_, '_>, place: &mut Place) -> VolumeSpec {
    let mut by_node = |key: &'static str, wanted: &str| {
        let Some(inner) = table.table(key, format!("`{key}` of {}", table.name)) else { return BTreeMap::new() };
        let mut out = BTreeMap::new();
        for (node, node_at, entry) in inner.entries() {
            let Some((text, at)) = text_of(&inner, node, entry, wanted) else { continue };
            if key == "address" {
                place.addresses.push((text.to_owned(), at));
            } else if !text.starts_with('/') {
                inner.error(
                    at,
                    format!("{key}.{node} = \"{text}\" is no absolute path"),
                    format!("as in \"{wanted}\""),
                );
            }
            if key != "address" {
                place.files.push((NodeName::new(node), text.to_owned(), at));
            }
            place.nodes.push((key, NodeName::new(node), node_at));
            out.insert(NodeName::new(node), text.to_owned());
        }
        out
    };
    let backing = by_node("backing", "/dev/vg0/mail");
    let log = by_node("log", "/var/lib/mainstay/mail.log");
    let address = by_node("address", "192.0.2.11:7500");
    #[derive(Clone, Copy, Default, PartialEq)]
    enum Word {
        #[default]
        Sync,
        Async,
    }
    let (word, _) = choice(&table, "mode", &[("sync", Word::Sync), ("async", Word::Async)]);
    let lag_kib_max = table.number("lag-kib-max", 64 * 1024, &Range { least: 64, most: 16 << 20 });
    let lag_max = table.length("lag-max", Millis::from_secs(10), &LAGS);
    for key in ["lag-kib-max", "lag-max"].into_iter().filter(|_| word == Word::Sync) {
        if let Some(entry) = table.get(key) {
            let message = format!("`{key}` in {} goes with mode = \"async\" alone", table.name);
            table.error(
                entry.span().start,
                message,
                "in sync mode the other copy is never behind: take it out".to_owned(),
            );
        }
    }
    let stall_time = table.length("stall-time", Millis::from_secs(20), &STALLS);
    let limit = table.number("resync-kib-per-s", 0, &Range { least: 64, most: u32::MAX });
    table.finish();
    VolumeSpec {
        backing,
        log,
        address,
        mode: match word {
            Word::Sync => MirrorMode::Sync,
            Word::Async => MirrorMode::Async { lag_kib_max, lag_max },
        },
        stall_time,
        resync_kib_per_s: (limit > 0).then_some(limit),
    }
}

/// What has to fit together (V13).
pub(super) fn together(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    grants(spec, index, diagnostics);
    let mut names: BTreeMap<&VolumeName, &Place> = BTreeMap::new();
    let mut addresses: BTreeMap<&str, Offset> = BTreeMap::new();
    let mut files: BTreeMap<(&NodeName, &str), Offset> = BTreeMap::new();
    for place in &index.volumes {
        if let Some(other) = names.insert(&place.name, place) {
            let line = diagnostics.line_of(other.at);
            diagnostics.error(
                place.at,
                format!("the volume `{}` is taken: line {line} has it in `{}`", place.name, other.hierarchy),
                "a volume's name is its own in the whole cluster".to_owned(),
            );
        }
        for (text, at) in &place.addresses {
            if text.parse::<SocketAddr>().map_or(0, |address| address.port()) == 0 {
                let message = format!("\"{text}\" is no address for a mirror link");
                diagnostics.error(*at, message, "write an IP address and a port: \"192.0.2.11:7500\"".to_owned());
            } else if let Some(other) = addresses.insert(text, *at) {
                let message = format!("\"{text}\" is taken: line {} has it", diagnostics.line_of(other));
                diagnostics.error(*at, message, "every volume has a place of its own".to_owned());
            }
        }
        for (node, text, at) in &place.files {
            if let Some(other) = files.insert((node, text), *at) {
                let line = diagnostics.line_of(other);
                let message = format!("\"{text}\" on `{node}` is taken: line {line} has it");
                diagnostics.error(*at, message, "two volumes, or data and log, would overwrite each other".to_owned());
            }
        }
        let Some(hierarchy) = spec.hierarchies.get(&place.hierarchy) else { continue };
        one(place, hierarchy, index, diagnostics);
    }
}

/// What a kit is granted is a volume of its own hierarchy: the right to write is its owner's.
fn grants(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    for (name, hierarchy) in &spec.hierarchies {
        for (tag, resource) in &hierarchy.resources {
            let named = resource.grants.volume.iter().filter(|it| crate::names::problem(it).is_none());
            for volume in named.filter(|it| !hierarchy.volumes.contains_key(it.as_str())) {
                let elsewhere = index.volumes.iter().find(|place| place.name.as_str() == volume);
                let hint = match elsewhere {
                    Some(place) => format!("`{volume}` is of the hierarchy `{}`, and moves with that", place.hierarchy),
                    None => did_you_mean(volume, hierarchy.volumes.keys().map(VolumeName::as_str))
                        .unwrap_or_else(|| format!("describe it: [hierarchy.{name}.volume.{volume}]")),
                };
                let message = format!("`{tag}` is granted the volume `{volume}`, and `{name}` has none of that name");
                diagnostics.error(resource.places.grants, message, hint);
            }
        }
    }
}

fn one(place: &Place, hierarchy: &super::HierarchySpec, index: &Index, diagnostics: &mut Diagnostics) {
    let Place { name, at, .. } = place;
    let Some(volume) = hierarchy.volumes.get(name) else { return };
    if hierarchy.nodes.len() != 2 {
        diagnostics.error(
            *at,
            format!(
                "the volume `{name}` is mirrored between two nodes, and its hierarchy has {}",
                hierarchy.nodes.len()
            ),
            format!("give [hierarchy.{}] two nodes", place.hierarchy),
        );
        return;
    }
    if hierarchy.switchback == Switchback::Automatic {
        diagnostics.error(
            index.switchback.get(&place.hierarchy).copied().unwrap_or(*at),
            format!("`{}` has the mirrored volume `{name}`, and would go back by itself (VOLUME V13)", place.hierarchy),
            "a node that comes back has an old copy first: take `switchback = \"automatic\"` out".to_owned(),
        );
    }
    for (key, node, at) in &place.nodes {
        if !hierarchy.nodes.contains(node) {
            let message = format!("`{key}` of the volume `{name}` names `{node}`, which is not one of its nodes");
            let nodes = crate::message::list(&hierarchy.nodes);
            diagnostics.error(*at, message, format!("the nodes are {nodes}"));
        }
    }
    for node in hierarchy.nodes.iter().filter(|node| !volume.backing.contains_key(*node)) {
        diagnostics.error(
            *at,
            format!("the volume `{name}` has no backing on `{node}`"),
            format!("name the device or file with its data there: backing.{node} = \"/dev/vg0/{name}\""),
        );
    }
    let Some(listens) = hierarchy.nodes.iter().max() else { return };
    if !volume.address.contains_key(listens) {
        diagnostics.error(
            *at,
            format!("the volume `{name}` has no address on `{listens}`, where the other node connects"),
            format!("add address.{listens} = \"ip:port\", for this volume alone"),
        );
    }
    for (key, node, at) in &place.nodes {
        if *key == "address" && node != listens && hierarchy.nodes.contains(node) {
            let message = format!("the volume `{name}` has an address on `{node}`, where nobody connects");
            let hint = format!("take it out: `{node}` connects to `{listens}`, whose name sorts last");
            diagnostics.error(*at, message, hint);
        }
    }
    if hierarchy.failover == FailoverMode::Automatic && matches!(volume.mode, MirrorMode::Async { .. }) {
        diagnostics.warning(
            *at,
            format!("the volume `{name}` is asynchronous, and its hierarchy fails over by itself: what was not copied yet is given up without a question"),
            "take mode = \"sync\", or failover = \"confirm\"".to_owned(),
        );
    }
}
