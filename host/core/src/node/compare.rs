//! What nodes have to have in common: their configs and the versions of their kits. Decides what differs, in words;
//! automatic failover is withheld where it does, and nothing is taken out of service for it.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Node;
use super::timers::HierarchyIndex;
use crate::names::KitName;

/// Differences that are named, at the most; the rest is counted.
const NAMED_MAX: usize = 10;

impl Node {
    /// The kits of this node are others by now.
    pub(super) fn kits_changed(&mut self, kits: BTreeMap<KitName, String>) {
        if self.kits != kits {
            self.kits = kits;
            self.tell.ownership();
            self.touch_all();
        }
    }

    /// How the kits that a hierarchy needs differ between this node and a peer; none: they do not, as far as the peer has
    /// told.
    pub(super) fn kits_differ(&self, peer: usize, h: HierarchyIndex) -> Option<String> {
        let theirs = &self.peers[peer].state.as_ref()?.kits;
        let name = &self.peers[peer].name;
        let spec = &self.local(h).hierarchy.spec;
        let needed: alloc::collections::BTreeSet<&KitName> = spec.resources.values().map(|it| &it.kit).collect();
        let differ: Vec<String> = needed
            .into_iter()
            .filter_map(|kit| {
                let (here, there) = (self.kits.get(kit), theirs.get(kit));
                let version = |version: Option<&String>| version.map_or_else(|| "not there".to_string(), Clone::clone);
                (here != there).then(|| {
                    alloc::format!("kit {kit}: {} on {}, {} on {name}", version(here), self.me, version(there))
                })
            })
            .collect();
        (!differ.is_empty()).then(|| differ.join("; "))
    }

    /// What is different in the config of a peer, part by part; none: it has not told.
    pub(super) fn config_differences(&self, peer: usize) -> Option<String> {
        let theirs = self.peers[peer].state.as_ref()?.config_parts.as_ref()?;
        let name = &self.peers[peer].name;
        let mut differences = Vec::new();
        for (part, hash) in &self.config_parts {
            match theirs.get(part) {
                Some(other) if other == hash => {}
                Some(_) => differences.push(alloc::format!("{part} is another")),
                None => differences.push(alloc::format!("{part} is only on {}", self.me)),
            }
        }
        let only_there = theirs.keys().filter(|part| !self.config_parts.contains_key(*part));
        differences.extend(only_there.map(|part| alloc::format!("{part} is only on {name}")));
        if differences.len() > NAMED_MAX {
            let more = differences.len() - NAMED_MAX;
            differences.truncate(NAMED_MAX);
            differences.push(alloc::format!("and {more} more"));
        }
        (!differences.is_empty()).then(|| differences.join(", "))
    }
}
