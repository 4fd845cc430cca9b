//! The config file: read, and checked against the kits that are loaded.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use mainstay_core::diagnostic::{Diagnostic, Diagnostics, Offset, Severity, did_you_mean};
use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::spec::{ResourceSpec, Spec};
use mainstay_runtime::{self as runtime, Kit};
use sha2::{Digest as _, Sha256};

use crate::certificates::{self, Store};
use crate::kits::{Loaded, grants, param};

/// The longest config, in bytes: ten thousand resources have about 2 MB.
const CONFIG_BYTES_MAX: u64 = 64 << 20;

/// A config that could be read.
#[derive(Debug)]
pub struct Config {
    /// What it says; paths in it are as seen from where the file is.
    pub spec: Spec,
    /// Of what it says: nodes compare it when they meet. White space and comments make no difference.
    pub hash: String,
    /// Of each part of what it says, so that nodes can say what differs.
    pub parts: BTreeMap<String, String>,
    /// As it was read.
    pub text: String,
    /// What was found so far.
    diagnostics: Diagnostics,
}

/// Why a config cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable(PathBuf, std::io::Error),
    /// It has errors: everything that was found, in the order of the file.
    Wrong(Vec<Diagnostic>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "the config {} cannot be read: {error}", path.display()),
            Self::Wrong(diagnostics) => {
                for diagnostic in diagnostics {
                    writeln!(f, "{diagnostic}")?;
                }
                let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
                write!(f, "{errors} error{} in the config", if errors == 1 { "" } else { "s" })
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads a config file.
    ///
    /// # Errors
    /// With everything that is wrong with its text, at once.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let config = Self::read_with_errors(path)?;
        if config.diagnostics.any_error() {
            return Err(ConfigError::Wrong(config.diagnostics.into_sorted()));
        }
        Ok(config)
    }

    /// Reads a config file even if there are errors in it: to find more of them with [`Config::check`], and for nothing
    /// else.
    ///
    /// # Errors
    /// When it cannot be read, or is not TOML.
    pub fn read_with_errors(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable(path.to_owned(), error);
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > CONFIG_BYTES_MAX {
            let why = format!("it has {length} bytes, and at most {CONFIG_BYTES_MAX} are read");
            return Err(unreadable(std::io::Error::other(why)));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let (spec, mut diagnostics) = Spec::read_with_errors(&path.display().to_string(), &text);
        let Some(mut spec) = spec else { return Err(ConfigError::Wrong(diagnostics.into_sorted())) };
        if spec.nodes.len() > 1 && spec.certificates.is_none() {
            diagnostics.error(
                0,
                "there are several nodes, and no certificates by which they know each other",
                "name their directory at the top of the file: certificates = \"/etc/mainstay/tls\"; `mainstay cluster \
                 init` and `mainstay node add` make what is in it"
                    .to_owned(),
            );
        }
        let (hash, parts) = (hash(&spec), spec.parts());
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        spec.kits = folder.join(&spec.kits).display().to_string();
        let there = |path: String| folder.join(path).display().to_string();
        spec.secrets = spec.secrets.map(there);
        spec.certificates = spec.certificates.map(there);
        if let Some(arbiter) = &mut spec.arbiter {
            arbiter.certificates = arbiter.certificates.take().map(there);
        }
        Ok(Self { spec, hash, parts, text, diagnostics })
    }

    /// What was found so far, in the order of the file.
    #[must_use]
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics.into_sorted()
    }

    /// Where the kits are.
    #[must_use]
    pub fn kits(&self) -> &Path {
        Path::new(&self.spec.kits)
    }

    /// Where the secrets are.
    #[must_use]
    pub fn secrets(&self) -> Option<&Path> {
        self.spec.secrets.as_deref().map(Path::new)
    }

    /// Where the certificates are.
    #[must_use]
    pub fn certificates(&self) -> Option<&Path> {
        self.spec.certificates.as_deref().map(Path::new)
    }

    /// Looks for what is wrong with the certificates of this machine, which is one of `nodes`.
    pub fn check_certificates(&mut self, nodes: &[NodeName]) {
        let Some(dir) = self.certificates().map(Path::to_owned).filter(|_| self.spec.nodes.len() > 1) else { return };
        // Of several it is the one whose certificate is here; if it is none of them, that is what is wrong.
        let shown = certificates::store::whose(&dir);
        let Some(node) = nodes.iter().find(|node| Some(*node) == shown.as_ref()).or(nodes.first()) else { return };
        let at = self.spec.certificates_at;
        match Store::new(dir, self.spec.cluster.clone(), node.clone()).load() {
            Ok(loaded) => {
                for warning in loaded.warnings(std::time::SystemTime::now()) {
                    self.diagnostics.warning(at, warning, None);
                }
            }
            Err(error) => self.diagnostics.error(at, error.to_string(), None),
        }
    }

    /// What is wrong with kits, params and grants, besides what the text alone shows: params of `nodes` against the
    /// schemas of the kits, grants against what they need and against this machine. In the order of the file.
    #[must_use]
    pub fn check(mut self, nodes: &[NodeName], loaded: &Loaded) -> Vec<Diagnostic> {
        let secrets = self.spec.secrets.as_deref().map(Path::new);
        for (name, hierarchy) in &self.spec.hierarchies {
            let nodes: Vec<&NodeName> = nodes.iter().filter(|node| hierarchy.nodes.contains(node)).collect();
            if nodes.is_empty() {
                continue;
            }
            for (tag, resource) in &hierarchy.resources {
                let place = Place { name, tag, resource };
                match loaded.get(resource.kit.as_str()) {
                    Some(kit) => {
                        place.check_params(kit, &nodes, &mut self.diagnostics);
                        place.check_grants(kit, secrets, &mut self.diagnostics);
                    }
                    None => place.unknown_kit(loaded, &mut self.diagnostics),
                }
            }
        }
        self.diagnostics.into_sorted()
    }
}

struct Place<'a> {
    name: &'a HierarchyName,
    tag: &'a Tag,
    resource: &'a ResourceSpec,
}

impl Place<'_> {
    fn unknown_kit(&self, loaded: &Loaded, diagnostics: &mut Diagnostics) {
        let known: Vec<&str> = loaded.keys().map(String::as_str).collect();
        let hint = did_you_mean(self.resource.kit.as_str(), known.iter().copied());
        let hint = hint.unwrap_or_else(|| {
            format!("loaded are: {}", if known.is_empty() { "none".into() } else { known.join(", ") })
        });
        let message = format!(
            "the resource `{}` (hierarchy `{}`) wants the kit `{}`, which is not loaded",
            self.tag, self.name, self.resource.kit
        );
        diagnostics.error(self.resource.places.kit, message, hint);
    }

    /// What is wrong in one place for several nodes is told once; for all of them, without their names.
    fn check_params(&self, kit: &Kit, nodes: &[&NodeName], diagnostics: &mut Diagnostics) {
        let mut found: Vec<(Offset, String, Option<String>, Vec<&str>)> = Vec::new();
        for node in nodes {
            for problem in kit.check_params(&self.resource.params_for(node)) {
                let at = self.resource.places.param(node, &problem.pointer);
                let message = format!("{}: {}", param(&problem.pointer), problem.message);
                match found.iter_mut().find(|it| it.0 == at && it.1 == message) {
                    Some((.., on)) => on.push(node.as_str()),
                    None => found.push((at, message, problem.hint, vec![node.as_str()])),
                }
            }
        }
        for (at, message, hint, on) in found {
            let everywhere = self.resource.params_on.is_empty() || (on.len() > 1 && on.len() == nodes.len());
            let on = if everywhere { String::new() } else { format!(" on {}", on.join(", ")) };
            diagnostics.error(at, format!("`{}`{on}: {message}", self.tag), hint);
        }
    }

    fn check_grants(&self, kit: &Kit, secrets: Option<&Path>, diagnostics: &mut Diagnostics) {
        for problem in kit.check_grants(&grants(&self.resource.grants), secrets) {
            let message = format!("`{}`: {}", self.tag, problem.message);
            match problem.severity {
                runtime::Severity::Error => diagnostics.error(self.resource.places.grants, message, problem.hint),
                runtime::Severity::Warning => diagnostics.warning(self.resource.places.grants, message, problem.hint),
            }
        }
    }
}

fn hash(spec: &Spec) -> String {
    // A spec is plain data with names for keys: it can always be written as JSON.
    let json = serde_json::to_vec(spec).unwrap_or_default();
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}
