//! Who depends on whom: the members from `cargo metadata`, everything beyond them from `Cargo.lock`.
//!
//! The lock file rather than metadata's resolve, because resolving needs every crate of every platform
//! downloaded, and a test fetches nothing. What that costs: beyond the members an edge is one that *some*
//! member's choice of features makes, on *some* platform. That errs on the side of a complaint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A member of the workspace.
#[derive(Debug, Clone, Default)]
pub struct Member {
    /// Its folder, relative to the root, with `/` between the parts.
    pub folder: String,
    /// What it declares as normal or build dependency, for any platform, optional ones too. Package names.
    /// Dev-dependencies are not in it: a test may see whom it likes.
    pub declared: BTreeSet<String>,
}

/// The members, and who depends on whom beyond them.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// By package name.
    pub members: BTreeMap<String, Member>,
    /// What the lock file lists for a package, by name; versions of one name are taken together.
    pub locked: BTreeMap<String, BTreeSet<String>>,
}

/// Why the graph could not be had.
#[derive(Debug)]
pub enum GraphError {
    /// `cargo metadata` failed.
    Metadata(cargo_metadata::Error),
    /// `Cargo.lock` could not be read.
    Lock(std::io::Error),
    /// `Cargo.lock` is not what cargo writes.
    LockSyntax(toml::de::Error),
}

impl std::fmt::Display for GraphError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Metadata(error) => write!(f, "cargo metadata: {error}"),
            Self::Lock(error) => write!(f, "Cargo.lock: {error}; `cargo metadata` writes one"),
            Self::LockSyntax(error) => write!(f, "Cargo.lock: {error}"),
        }
    }
}

impl std::error::Error for GraphError {}

impl Graph {
    /// Reads the workspace at `root`.
    pub fn read(root: &std::path::Path) -> Result<Self, GraphError> {
        let metadata = cargo_metadata::MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .other_options(["--offline".to_owned()])
            .exec()
            .map_err(GraphError::Metadata)?;
        let mut graph = Self::default();
        for package in metadata.workspace_packages() {
            let folder = package
                .manifest_path
                .parent()
                .and_then(|folder| folder.strip_prefix(&metadata.workspace_root).ok())
                .map(|folder| folder.as_str().replace('\\', "/"))
                .unwrap_or_default();
            let declared = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != cargo_metadata::DependencyKind::Development)
                .map(|dependency| dependency.name.clone())
                .collect();
            graph.members.insert(package.name.to_string(), Member { folder, declared });
        }
        let lock = std::fs::read_to_string(root.join("Cargo.lock")).map_err(GraphError::Lock)?;
        graph.locked = parse_lock(&lock).map_err(GraphError::LockSyntax)?;
        Ok(graph)
    }

    /// Everything `from` reaches by normal and build dependencies, each with the way there
    /// (`from -> a -> b`), shortest first.
    pub fn reach(&self, from: &str) -> BTreeMap<String, String> {
        let mut ways = BTreeMap::from([(from.to_owned(), from.to_owned())]);
        let mut queue = VecDeque::from([from.to_owned()]);
        while let Some(at) = queue.pop_front() {
            let way = ways[&at].clone();
            // A member's own list leaves out its dev-dependencies; the lock file's does not.
            let next = self.members.get(&at).map(|member| &member.declared).or_else(|| self.locked.get(&at));
            for name in next.into_iter().flatten() {
                if !ways.contains_key(name) {
                    ways.insert(name.clone(), format!("{way} -> {name}"));
                    queue.push_back(name.clone());
                }
            }
        }
        ways.remove(from);
        ways
    }
}

/// The dependency lists of a lock file, by package name.
fn parse_lock(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, toml::de::Error> {
    let lock: toml::Table = text.parse()?;
    let mut locked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock.get("package").and_then(toml::Value::as_array).into_iter().flatten() {
        let Some(name) = package.get("name").and_then(toml::Value::as_str) else {
            continue;
        };
        let entry = locked.entry(name.to_owned()).or_default();
        for dependency in package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten() {
            // "name", "name 1.2.3" or "name 1.2.3 (source)"
            if let Some(name) = dependency.as_str().and_then(|line| line.split(' ').next()) {
                entry.insert(name.to_owned());
            }
        }
    }
    Ok(locked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_gives_names_whatever_the_form() {
        let lock = r#"
            version = 4
            [[package]]
            name = "a"
            version = "1.0.0"
            dependencies = ["b", "c 2.0.0", "d 3.0.0 (registry+https://example.org/index)"]
            [[package]]
            name = "a"
            version = "2.0.0"
            dependencies = ["e"]
        "#;
        let locked = parse_lock(lock).unwrap();
        assert_eq!(locked["a"].iter().map(String::as_str).collect::<Vec<_>>(), ["b", "c", "d", "e"]);
    }

    #[test]
    fn reach_follows_declared_then_locked_and_tells_the_way() {
        let graph = Graph {
            members: BTreeMap::from([(
                "mine".to_owned(),
                Member { folder: "host/mine".to_owned(), declared: BTreeSet::from(["near".to_owned()]) },
            )]),
            locked: BTreeMap::from([
                // The lock file also lists what only mine's tests use; that is not followed.
                ("mine".to_owned(), BTreeSet::from(["near".to_owned(), "only-in-tests".to_owned()])),
                ("near".to_owned(), BTreeSet::from(["far".to_owned()])),
                ("far".to_owned(), BTreeSet::from(["near".to_owned()])),
            ]),
        };
        let reach = graph.reach("mine");
        assert_eq!(reach["far"], "mine -> near -> far");
        assert!(!reach.contains_key("only-in-tests"));
    }
}
