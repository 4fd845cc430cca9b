//! What has to fit together: names that refer to others, trees without cycles, addresses that others can find.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;

use super::Spec;
use super::read::{Address, Index};
use crate::diagnostic::{Diagnostics, Offset, did_you_mean};
use crate::names::{HierarchyName, NodeName, Tag};

pub(super) fn together(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    paths(spec, index, diagnostics);
    addresses(spec, index, diagnostics);
    hierarchy_nodes(spec, index, diagnostics);
    tags(index, diagnostics);
    depends_on(spec, index, diagnostics);
    params_on(spec, index, diagnostics);
    super::silence::together(spec, index, diagnostics);
    super::volume::together(spec, index, diagnostics);
    if spec.secrets.is_none() {
        for (secret, at) in &index.secrets_wanted {
            diagnostics.error(
                *at,
                format!("the secret `{secret}` is granted, but there is no directory of secrets"),
                "name it at the top of the file: secrets = \"/etc/mainstay/secrets\"".to_owned(),
            );
        }
    }
}

fn paths(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    if spec.nodes.len() > 1 && spec.paths.is_empty() {
        diagnostics.error(
            0,
            "there are several nodes, and no comm path between them",
            "describe one: [path.NAME], and address.NAME = \"host:port\" on each node".to_owned(),
        );
    }
    let mut priorities = BTreeMap::new();
    for (name, path) in &spec.paths {
        let at = index.paths.get(name).copied().unwrap_or(0);
        if let Some(other) = priorities.insert(path.priority, name) {
            diagnostics.error(
                at,
                format!("the comm paths `{other}` and `{name}` have the same priority, {}", path.priority),
                "give each its own: the lowest that is alive carries the messages".to_owned(),
            );
        }
    }
    for (name, node) in &spec.nodes {
        let at = index.nodes.get(name).copied().unwrap_or(0);
        for path in spec.paths.keys().filter(|_| spec.nodes.len() > 1) {
            if !node.address.contains_key(path) {
                diagnostics.error(
                    at,
                    format!("the node `{name}` has no address on the comm path `{path}`"),
                    format!("add address.{path} = \"host:port\" to [node.{name}]"),
                );
            }
        }
    }
}

fn addresses(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    let mut taken: BTreeMap<&str, &Address> = BTreeMap::new();
    for address in &index.addresses {
        let Address { node, path, text, at, listen } = address;
        let key = if *listen { "listen" } else { "address" };
        if !spec.paths.contains_key(path) {
            let hint = did_you_mean(path.as_str(), spec.paths.keys().map(super::PathName::as_str))
                .unwrap_or_else(|| format!("describe it: [path.{path}]"));
            diagnostics.error(
                *at,
                format!("the node `{node}` has {key}.{path}, and there is no comm path `{path}`"),
                hint,
            );
        }
        let Some(port) = port_of(text) else {
            diagnostics.error(
                *at,
                format!("{key}.{path} = \"{text}\" of the node `{node}` is no address"),
                "write host:port, as in \"192.0.2.10:7400\" or \"[2001:db8::1]:7400\"".to_owned(),
            );
            continue;
        };
        if port == 0 && !listen {
            diagnostics.error(
                *at,
                format!("address.{path} = \"{text}\" of the node `{node}` has port 0, where nobody can find it"),
                format!("write the port that leads there; listen.{path} may have port 0"),
            );
        }
        if !listen && let Some(other) = taken.insert(text, address) {
            let line = diagnostics.line_of(other.at);
            diagnostics.error(
                *at,
                format!(
                    "the address \"{text}\" is taken: the node `{}` has it as address.{} on line {line}",
                    other.node, other.path
                ),
                "every node has a place of its own on every comm path".to_owned(),
            );
        }
    }
}

/// The port of `host:port` or `[v6]:port`.
pub(super) fn port_of(text: &str) -> Option<u16> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.port());
    }
    let (host, port) = text.rsplit_once(':')?;
    let fine = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    port.parse().ok().filter(|_| fine)
}

fn hierarchy_nodes(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    for (hierarchy, nodes) in &index.hierarchy_nodes {
        let mut seen = BTreeSet::new();
        for (node, at) in nodes {
            if !spec.nodes.contains_key(node) {
                let hint = did_you_mean(node.as_str(), spec.nodes.keys().map(NodeName::as_str))
                    .unwrap_or_else(|| format!("describe it: [node.{node}]"));
                diagnostics.error(
                    *at,
                    format!("the hierarchy `{hierarchy}` names the node `{node}`, and there is none"),
                    hint,
                );
            }
            if !seen.insert(node) {
                diagnostics.error(
                    *at,
                    format!("the hierarchy `{hierarchy}` names the node `{node}` twice"),
                    "the list is the order of priority: each node once".to_owned(),
                );
            }
        }
    }
}

fn tags(index: &Index, diagnostics: &mut Diagnostics) {
    for (tag, places) in &index.tags {
        let Some((first, rest)) = places.split_first() else { continue };
        for (hierarchy, at) in rest {
            let line = diagnostics.line_of(first.1);
            diagnostics.error(
                *at,
                format!("the tag `{tag}` in the hierarchy `{hierarchy}` is taken: line {line} has it in `{}`", first.0),
                "a tag names one resource in the whole cluster".to_owned(),
            );
        }
    }
}

fn depends_on(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    for (name, hierarchy) in &spec.hierarchies {
        for tag in hierarchy.resources.keys() {
            let mut seen = BTreeSet::new();
            for (other, at) in index.depends_on.get(&(name.clone(), tag.clone())).into_iter().flatten() {
                if other == tag {
                    diagnostics.error(*at, format!("the resource `{tag}` depends on itself"), None);
                } else if !hierarchy.resources.contains_key(other) {
                    unknown_child(name, tag, other, *at, hierarchy.resources.keys(), index, diagnostics);
                } else if !seen.insert(other) {
                    diagnostics.error(*at, format!("the resource `{tag}` depends on `{other}` twice"), None);
                }
            }
        }
        if let Some(cycle) = cycle(hierarchy.resources.keys(), |tag| {
            hierarchy.resources.get(tag).map_or(&[], |resource| &resource.depends_on)
        }) {
            let first = &cycle[0];
            let at = hierarchy.resources.get(first).map_or(0, |resource| resource.places.tag);
            let mut way: Vec<String> = Vec::new();
            for tag in cycle.iter().chain([first]) {
                let line = hierarchy.resources.get(tag).map_or(0, |resource| diagnostics.line_of(resource.places.tag));
                way.push(format!("`{tag}` (line {line})"));
            }
            diagnostics.error(
                at,
                format!("the dependencies in the hierarchy `{name}` go in a circle: {}", way.join(" -> ")),
                "what depends on what has to end somewhere: take one of these out of a depends-on".to_owned(),
            );
        }
    }
}

fn unknown_child<'a>(
    hierarchy: &HierarchyName,
    tag: &Tag,
    other: &Tag,
    at: Offset,
    known: impl Iterator<Item = &'a Tag>,
    index: &Index,
    diagnostics: &mut Diagnostics,
) {
    let elsewhere = index.tags.get(other).and_then(|places| places.first());
    let hint = match elsewhere {
        Some((there, _)) => {
            format!("`{other}` is in the hierarchy `{there}`; a hierarchy moves as a whole, so put both in one")
        }
        None => did_you_mean(other.as_str(), known.map(Tag::as_str))
            .unwrap_or_else(|| format!("describe it: [hierarchy.{hierarchy}.resource.{other}]")),
    };
    diagnostics.error(
        at,
        format!("the resource `{tag}` depends on `{other}`, which is not in the hierarchy `{hierarchy}`"),
        hint,
    );
}

/// A circle, if there is one, from its alphabetically first member on. Without recursion: a chain may be
/// ten thousand long.
fn cycle<'a>(tags: impl Iterator<Item = &'a Tag>, children: impl Fn(&Tag) -> &'a [Tag]) -> Option<Vec<Tag>> {
    let mut done: BTreeSet<&Tag> = BTreeSet::new();
    for start in tags {
        // The way from `start`, and at each place how many of its children were followed.
        let mut way: Vec<(&Tag, usize)> = alloc::vec![(start, 0)];
        let mut on_way: BTreeSet<&Tag> = BTreeSet::from([start]);
        while let Some((tag, next)) = way.last_mut() {
            let Some(child) = children(tag).get(*next) else {
                done.insert(tag);
                on_way.remove(*tag);
                way.pop();
                continue;
            };
            *next += 1;
            if *tag == child {
                continue; // Told on its own.
            }
            if on_way.contains(child) {
                let from = way.iter().position(|(tag, _)| *tag == child).unwrap_or(0);
                let mut circle: Vec<Tag> = way[from..].iter().map(|(tag, _)| (*tag).clone()).collect();
                let least = circle.iter().enumerate().min_by_key(|(_, tag)| *tag).map_or(0, |(index, _)| index);
                circle.rotate_left(least);
                return Some(circle);
            }
            if !done.contains(child) {
                on_way.insert(child);
                way.push((child, 0));
            }
        }
    }
    None
}

fn params_on(spec: &Spec, index: &Index, diagnostics: &mut Diagnostics) {
    for (hierarchy, node, at) in &index.params_on {
        let Some(nodes) = spec.hierarchies.get(hierarchy).map(|hierarchy| &hierarchy.nodes) else { continue };
        if !nodes.contains(node) {
            let hint = did_you_mean(node.as_str(), nodes.iter().map(NodeName::as_str))
                .unwrap_or_else(|| format!("add it to the nodes of [hierarchy.{hierarchy}], or take it out here"));
            diagnostics.error(
                *at,
                format!("params-on names the node `{node}`, which is not one of the hierarchy `{hierarchy}`"),
                hint,
            );
        }
    }
}
