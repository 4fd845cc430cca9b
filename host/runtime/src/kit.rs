//! A loaded kit: what it says about itself, whether params and grants fit it, and how many of its calls may run.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use wasmtime::component::InstancePre;

use crate::bindings::KitIndices;
use crate::bindings::deep::DeepKitIndices;
use crate::bindings::ready::ReadyKitIndices;
use crate::capability::CallState;
use crate::grants::{GrantProblem, Grants, check};
use crate::inspect::Examined;
use crate::manifest::Manifest;
use crate::params::{ParamsProblem, ParamsSchema};
use crate::runtime::{Origin, Shared};
use crate::slots::KitSlots;

/// A kit that is ready to be called. What is loaded stays as it is, whatever becomes of the file.
pub struct Kit {
    pub(crate) runtime: Arc<Shared>,
    pub(crate) linked: Linked,
    pub(crate) slots: KitSlots,
    pub(crate) title: Arc<str>,
    manifest: Manifest,
    schema: ParamsSchema,
    origin: Origin,
    imports: Vec<String>,
    capabilities: Vec<&'static str>,
    wasi: bool,
    abilities: Vec<String>,
    placement: Placement,
    from_cache: bool,
}

/// Where a kit's calls take their memory from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// From the pool.
    Pooled,
    /// Made for each call: the kit does not fit the pool.
    OnDemand {
        /// What does not fit.
        why: String,
    },
}

/// A component with its imports, and where in it the functions are that are called.
pub(crate) struct Linked {
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) recovery: KitIndices,
    /// In a kit that has this ability.
    pub(crate) readiness: Option<ReadyKitIndices>,
    /// And this one.
    pub(crate) deep_check: Option<DeepKitIndices>,
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kit").field("title", &self.title).field("path", &self.origin.path).finish_non_exhaustive()
    }
}

impl Kit {
    pub(crate) fn new(
        runtime: Arc<Shared>,
        examined: Examined,
        linked: Linked,
        placement: Placement,
        from_cache: bool,
    ) -> Self {
        Self {
            slots: KitSlots::new(&runtime.host.limits, &placement),
            title: examined.manifest.title().into(),
            origin: Origin::of(&examined),
            manifest: examined.manifest,
            schema: examined.schema,
            imports: examined.imports,
            capabilities: examined.capabilities,
            wasi: examined.wasi,
            abilities: examined.abilities,
            runtime,
            linked,
            placement,
            from_cache,
        }
    }

    /// Its name, as a config says it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &semver::Version {
        &self.manifest.version
    }

    /// Everything it says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file it was loaded from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.origin.path
    }

    /// Of the file, in hexadecimal: what an operator pins.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.origin.sha256
    }

    /// The file's size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.origin.bytes
    }

    /// Every import, as it stands in the component.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The capabilities it really imports, by short name.
    #[must_use]
    pub fn capabilities(&self) -> &[&'static str] {
        &self.capabilities
    }

    /// Exported interfaces beside `recovery`.
    #[must_use]
    pub fn abilities(&self) -> &[String] {
        &self.abilities
    }

    /// Whether it can say if a node is ready: [`crate::Operation::Assess`].
    #[must_use]
    pub fn has_readiness(&self) -> bool {
        self.linked.readiness.is_some()
    }

    /// Whether it can check thoroughly: [`crate::Operation::DeepCheck`].
    #[must_use]
    pub fn has_deep_check(&self) -> bool {
        self.linked.deep_check.is_some()
    }

    /// Where its calls take their memory from.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Whether it was found compiled.
    #[must_use]
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    /// Everything that is wrong with these params, against the kit's schema.
    #[must_use]
    pub fn check_params(&self, params: &Value) -> Vec<ParamsProblem> {
        self.schema.check(params)
    }

    /// Everything that is wrong with these grants: needs that are not granted, programs, users, secrets and addresses
    /// that cannot be used, and grants that nobody needs (a warning). Looks at files; may block.
    #[must_use]
    pub fn check_grants(&self, grants: &Grants, secrets_dir: Option<&Path>) -> Vec<GrantProblem> {
        check::check(&self.manifest, grants, secrets_dir, &self.runtime.host.limits)
    }

    /// Whether it imports WASI.
    pub(crate) fn uses_wasi(&self) -> bool {
        self.wasi
    }

    /// Whether it can write to the log.
    pub(crate) fn logs(&self) -> bool {
        self.wasi || self.capabilities.contains(&"log")
    }

    /// The needs that keep a call from being made at all, because nothing of their sort is granted.
    pub(crate) fn ungranted(&self, grants: &Grants) -> Option<String> {
        let missing: Vec<_> = self
            .manifest
            .needs
            .iter()
            .filter(|need| !need.optional && !grants.any_for(&need.interface))
            .map(|need| check::not_granted(need).to_string())
            .collect();
        if missing.is_empty() { None } else { Some(missing.join("; ")) }
    }
}
