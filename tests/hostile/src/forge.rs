//! Components that the SDK would not make: with other imports, other exports, another contract.
//!
//! Each is made from the real `wit/`, with as little changed as the case needs, so that it is refused for what
//! the case is about and for nothing else. Its functions do nothing but trap.

use std::collections::BTreeMap;

use mainstay_test_support::{TempDir, root};
use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

use crate::surgery::{Section, append};

/// The section that holds a manifest.
pub const MANIFEST: &str = "mainstay:kit-manifest";

/// A manifest in which nothing is wrong, of a kit called `forged`, that needs nothing.
#[must_use]
pub fn manifest() -> Value {
    json!({
        "manifest": 1,
        "name": "forged",
        "version": "0.1.0",
        "description": "Made for a test.",
        "licence": "MIT",
        "contract": "^0.1.0",
        "needs": [],
        "params": { "type": "object" },
    })
}

/// [`manifest`] with one field changed.
#[must_use]
pub fn manifest_with(field: &str, value: Value) -> Value {
    let mut manifest = manifest();
    manifest[field] = value;
    manifest
}

/// The component with this manifest at its top level, where it counts before any other.
#[must_use]
pub fn with_manifest(component: &[u8], manifest: &Value) -> Vec<u8> {
    append(component, Section::custom(MANIFEST, manifest.to_string().as_bytes()))
}

/// A contract, real or changed, from which components are made.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The text of each file, by its path.
    files: BTreeMap<String, String>,
}

impl Contract {
    /// The real one.
    ///
    /// # Panics
    /// When `wit/` cannot be read.
    #[must_use]
    pub fn real() -> Self {
        let folder = root().join("wit");
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).expect("the repository has wit/") {
            let path = entry.expect("wit/ can be listed").path();
            if path.extension().is_some_and(|extension| extension == "wit") {
                let name = path.file_name().expect("a listed file has a name").to_string_lossy().into_owned();
                files.insert(name, std::fs::read_to_string(&path).expect("wit/ can be read"));
            }
        }
        Self { files }
    }

    /// With one text in place of another, wherever it stands.
    ///
    /// # Panics
    /// When it stands nowhere: the case would test nothing.
    #[must_use]
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.files.values().any(|text| text.contains(from)), "wit/ does not contain {from:?}");
        for text in self.files.values_mut() {
            *text = text.replace(from, to);
        }
        self
    }

    /// With one more file; below `deps/` for another package.
    #[must_use]
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// A component whose world is this, such as `import log; export recovery;`. It has no manifest.
    ///
    /// # Panics
    /// When it cannot be made, which is a mistake in the case.
    #[must_use]
    pub fn component(&self, world: &str) -> Vec<u8> {
        ComponentEncoder::default()
            .validate(true)
            .module(&self.core_module(world))
            .and_then(|mut encoder| encoder.encode())
            .unwrap_or_else(|error| panic!("no component with `{world}` can be made: {error:#}"))
    }

    /// The core module of which [`Contract::component`] makes a component.
    ///
    /// # Panics
    /// As [`Contract::component`].
    #[must_use]
    pub fn core_module(&self, world: &str) -> Vec<u8> {
        let folder = TempDir::new();
        for (path, text) in self.files.iter().filter(|(path, _)| path.as_str() != "world.wit") {
            if let Some((parent, _)) = path.rsplit_once('/') {
                folder.folder(parent);
            }
            folder.write(path, text);
        }
        folder.write("world.wit", format!("world forged {{ {world} }}"));
        let mut resolve = Resolve::default();
        let (package, _) = resolve
            .push_dir(folder.path())
            .unwrap_or_else(|error| panic!("the contract with `{world}` does not parse: {error:#}"));
        let id = resolve.select_world(&[package], Some("forged")).expect("it was just written");
        let mut module = dummy_module(&resolve, id, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
        embed_component_metadata(&mut module, &resolve, id, StringEncoding::UTF8)
            .unwrap_or_else(|error| panic!("the world `{world}` cannot be embedded: {error:#}"));
        module
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_of_the_real_contract_can_be_made() {
        let bytes = Contract::real().component("import log; import net; export recovery;");
        assert!(bytes.starts_with(b"\0asm\x0d\0\x01\0"));
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("mainstay:kit/net@0.1.0") && !text.contains("mainstay:kit/command"));
    }

    #[test]
    fn one_of_a_changed_contract_too() {
        let contract = Contract::real()
            .replace("@0.1.0", "@0.9.0")
            .file("deps/acme/query.wit", "package acme:db@1.0.0; interface query { ask: func(q: string) -> string; }");
        let bytes = contract.component("import acme:db/query@1.0.0; export recovery;");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("acme:db/query@1.0.0") && text.contains("mainstay:kit/recovery@0.9.0"));
    }

    #[test]
    #[should_panic(expected = "wit/ does not contain \"no such words\"")]
    fn a_change_that_changes_nothing_is_a_mistake() {
        let _ = Contract::real().replace("no such words", "");
    }
}
