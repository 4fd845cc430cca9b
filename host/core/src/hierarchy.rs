//! A hierarchy as the core works with it: resources by index, and which depend on which, both ways.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::names::{HierarchyName, NodeName, Tag};
use crate::spec::{HierarchySpec, ResourceSpec};

/// A resource's place in its hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceIndex(pub u32);

impl ResourceIndex {
    /// As an index into a slice.
    #[must_use]
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// A hierarchy, made from a spec that was read without an error: no unknown name, no circle.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    /// Its name.
    pub name: HierarchyName,
    /// What the operator wrote.
    pub spec: HierarchySpec,
    tags: Vec<Tag>,
    by_tag: BTreeMap<Tag, ResourceIndex>,
    children: Vec<Vec<ResourceIndex>>,
    parents: Vec<Vec<ResourceIndex>>,
    children_first: Vec<ResourceIndex>,
}

impl Hierarchy {
    /// Sorts the resources, children first. Names that the spec does not have are left out: reading has
    /// refused them.
    #[must_use]
    pub fn new(name: HierarchyName, spec: HierarchySpec) -> Self {
        let tags: Vec<Tag> = spec.resources.keys().cloned().collect();
        let by_tag: BTreeMap<Tag, ResourceIndex> =
            (0..).map(ResourceIndex).zip(&tags).map(|(index, tag)| (tag.clone(), index)).collect();
        let children: Vec<Vec<ResourceIndex>> = spec
            .resources
            .values()
            .map(|resource| resource.depends_on.iter().filter_map(|tag| by_tag.get(tag).copied()).collect())
            .collect();
        let mut parents = alloc::vec![Vec::new(); tags.len()];
        for (index, children) in (0..).map(ResourceIndex).zip(&children) {
            for child in children {
                parents[child.at()].push(index);
            }
        }
        let children_first = sort(&children, &parents);
        Self { name, spec, tags, by_tag, children, parents, children_first }
    }

    /// How many resources it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether it has none; reading a config refuses that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Every resource.
    pub fn resources(&self) -> impl ExactSizeIterator<Item = ResourceIndex> + use<> {
        (0..self.tags.len() as u32).map(ResourceIndex)
    }

    /// Every resource, each after all it depends on.
    #[must_use]
    pub fn children_first(&self) -> &[ResourceIndex] {
        &self.children_first
    }

    /// A resource's tag.
    #[must_use]
    pub fn tag(&self, resource: ResourceIndex) -> &Tag {
        &self.tags[resource.at()]
    }

    /// What the operator wrote for a resource.
    #[must_use]
    pub fn resource(&self, resource: ResourceIndex) -> &ResourceSpec {
        &self.spec.resources[self.tag(resource)]
    }

    /// The resource with this tag.
    #[must_use]
    pub fn find(&self, tag: &Tag) -> Option<ResourceIndex> {
        self.by_tag.get(tag).copied()
    }

    /// What it depends on, directly.
    #[must_use]
    pub fn children(&self, resource: ResourceIndex) -> &[ResourceIndex] {
        &self.children[resource.at()]
    }

    /// What depends on it, directly.
    #[must_use]
    pub fn parents(&self, resource: ResourceIndex) -> &[ResourceIndex] {
        &self.parents[resource.at()]
    }

    /// It and all it depends on.
    #[must_use]
    pub fn with_descendants(&self, resource: ResourceIndex) -> Vec<ResourceIndex> {
        self.reach(resource, &self.children)
    }

    /// It and all that depends on it.
    #[must_use]
    pub fn with_ancestors(&self, resource: ResourceIndex) -> Vec<ResourceIndex> {
        self.reach(resource, &self.parents)
    }

    fn reach(&self, from: ResourceIndex, next: &[Vec<ResourceIndex>]) -> Vec<ResourceIndex> {
        let mut seen = alloc::vec![false; self.len()];
        seen[from.at()] = true;
        let mut reached = alloc::vec![from];
        let mut at = 0;
        while let Some(resource) = reached.get(at).copied() {
            at += 1;
            for other in &next[resource.at()] {
                if !core::mem::replace(&mut seen[other.at()], true) {
                    reached.push(*other);
                }
            }
        }
        reached
    }

    /// Whether `node` may own it.
    #[must_use]
    pub fn may_run_on(&self, node: &NodeName) -> bool {
        self.spec.nodes.contains(node)
    }
}

/// Children first (Kahn's algorithm), the rest in the order of the tags: the same for the same config.
fn sort(children: &[Vec<ResourceIndex>], parents: &[Vec<ResourceIndex>]) -> Vec<ResourceIndex> {
    let mut missing: Vec<usize> = children.iter().map(Vec::len).collect();
    let mut sorted: Vec<ResourceIndex> =
        (0..).map(ResourceIndex).zip(&missing).filter(|(_, missing)| **missing == 0).map(|(index, _)| index).collect();
    let mut at = 0;
    while let Some(resource) = sorted.get(at).copied() {
        at += 1;
        for parent in &parents[resource.at()] {
            missing[parent.at()] -= 1;
            if missing[parent.at()] == 0 {
                sorted.push(*parent);
            }
        }
    }
    sorted
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::spec::Spec;
    use std::string::String;

    /// `"app: name store"` a line: the resource and what it depends on.
    pub(crate) fn hierarchy(lines: &[&str]) -> Hierarchy {
        let mut text = String::from("cluster = \"c\"\nkits = \"/k\"\n[node.n]\n[hierarchy.h]\nnodes = [\"n\"]\n");
        for line in lines {
            let (tag, children) = line.split_once(':').unwrap();
            let children: Vec<&str> = children.split_whitespace().collect();
            text.push_str(&std::format!("[hierarchy.h.resource.{tag}]\nkit = \"null\"\ndepends-on = {children:?}\n"));
        }
        let (spec, diagnostics) = Spec::read("test", &text);
        let spec = spec.unwrap_or_else(|| panic!("{:?}", diagnostics.into_sorted()));
        Hierarchy::new("h".into(), spec.hierarchies["h"].clone())
    }

    fn tags(hierarchy: &Hierarchy, resources: &[ResourceIndex]) -> Vec<String> {
        let mut tags: Vec<String> = resources.iter().map(|resource| hierarchy.tag(*resource).as_str().into()).collect();
        tags.sort();
        tags
    }

    #[test]
    fn children_come_first() {
        let hierarchy = hierarchy(&["app: name store", "name:", "store: disk", "disk:", "top: app"]);
        let order: Vec<&str> =
            hierarchy.children_first().iter().map(|resource| hierarchy.tag(*resource).as_str()).collect();
        assert_eq!(order, ["disk", "name", "store", "app", "top"]);
    }

    #[test]
    fn ancestors_and_descendants_are_found_once() {
        let hierarchy = hierarchy(&["app: a b", "a: disk", "b: disk", "disk:", "other:"]);
        let find = |tag: &str| hierarchy.find(&tag.into()).unwrap();
        assert_eq!(tags(&hierarchy, &hierarchy.with_ancestors(find("disk"))), ["a", "app", "b", "disk"]);
        assert_eq!(tags(&hierarchy, &hierarchy.with_descendants(find("app"))), ["a", "app", "b", "disk"]);
        assert_eq!(tags(&hierarchy, &hierarchy.with_ancestors(find("other"))), ["other"]);
    }
}
