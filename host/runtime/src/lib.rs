//! The kit runtime: loads recovery kits, checks them, links what they import, limits them and calls them.
//!
//! It decides whether a file is a kit that this host can run ([`LoadError`] says why not), whether params and
//! grants fit a kit, and what came of a call ([`Outcome`]). It knows no tree, no peer and no policy, keeps no
//! state between calls but compiled code, and never trusts a file in the kit directory to be machine code.
//!
//! ```no_run
//! # async fn f(services: std::sync::Arc<mainstay_runtime::ResourceServices>) -> Result<(), Box<dyn std::error::Error>> {
//! use mainstay_runtime::{Call, Limits, Operation, Runtime, RuntimeConfig};
//!
//! let config = RuntimeConfig { cache_dir: "/var/lib/mainstay/compiled".into(), limits: Limits::default() };
//! let runtime = Runtime::new(config)?;
//! let kit = runtime.load("/var/lib/mainstay/kits/dns.wasm".as_ref()).await?;
//! let call = Call {
//!     operation: Operation::QuickCheck,
//!     tag: "mail-name".into(),
//!     node: "ex01".into(),
//!     params: r#"{"zone": "example.org"}"#.into(),
//!     operation_id: "1".into(),
//!     attempt: 1,
//!     epoch: 1,
//!     budget: std::time::Duration::from_secs(5),
//!     hints: Vec::new(),
//!     resource: services,
//! };
//! let outcome = kit.call(call, std::future::pending()).await;
//! # Ok(()) }
//! ```

mod bindings;
mod bucket;
mod cache;
mod call;
mod capability;
mod convert;
mod directory;
mod engine;
mod error;
mod fault;
mod fit;
mod grants;
mod host;
mod inspect;
mod interfaces;
mod kit;
mod limiter;
mod limits;
mod manifest;
mod meter;
mod outcome;
mod params;
mod runtime;
mod services;
mod slots;
mod text;
mod volumes;
mod wasi;

pub use call::Call;
pub use capability::log::KIT_LOG;
pub use capability::mount::{is_mount_point, mounted_at};
pub use directory::{DirectoryError, KitChange, KitDirectory, Refused};
pub use error::{LoadError, RuntimeError, Subject};
pub use grants::{
    AUDIT, CommandGrant, GrantProblem, Grants, MountGrant, NetGrant, NetGrantError, SECRET_NAME_BYTES_MAX, Severity,
};
pub use inspect::{Inspection, inspect};
pub use kit::{Kit, Placement};
pub use limits::{Limits, RuntimeConfig, contract};
pub use manifest::{Manifest, Need, SECTION as MANIFEST_SECTION};
pub use outcome::{
    CommandEvidence, Details, Done, Effect, ErrorKind, Evidence, Failure, Fault, FaultKind, Finding, Health, Inside,
    KitError, Operation, Outcome, RecoveryResult, Report, Retry, Verdict, Weight,
};
pub use params::ParamsProblem;
pub use runtime::Runtime;
pub use services::ResourceServices;
pub use volumes::{
    NoVolumes, VolumeAnswer, VolumeAttachment, VolumeCopy, VolumeMirror, VolumeRole, VolumeStatus, VolumeTrouble,
    Volumes,
};
