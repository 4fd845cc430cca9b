//! Why a kit is not loaded, or the runtime not made. Each variant is one reason; its text names the file, the
//! kit if it could be known, what is wrong and what to do.

use std::fmt;
use std::path::PathBuf;

/// Why a [`crate::Runtime`] could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The engine did not accept its settings, or there was too little address space for its pool.
    #[error(
        "the WebAssembly engine cannot be set up for {calls_max} calls of {memory_bytes_max} bytes at once: {problem}; \
         is the address space limited (ulimit -v)? Lower the limits on calls or memory"
    )]
    Engine {
        /// As configured.
        calls_max: usize,
        /// As configured.
        memory_bytes_max: usize,
        /// What the engine says.
        problem: String,
    },
    /// The folder for compiled kits cannot be used.
    #[error("compiled kits cannot be kept in {dir}: {problem}")]
    CacheDir {
        /// The folder.
        dir: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The thread that counts time could not be started.
    #[error("the thread that limits the processor time of kits cannot be started: {0}")]
    Ticker(#[source] std::io::Error),
}

/// A file, and the kit in it as far as it is known: how every [`LoadError`] begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The file.
    pub file: PathBuf,
    /// Name and version, once the manifest could be read.
    pub kit: Option<String>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match &self.kit {
            Some(kit) => write!(f, " (kit {kit})"),
            None => Ok(()),
        }
    }
}

/// Why a file is not loaded as a kit.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{subject}: cannot be read: {source}; the daemon's user needs to read it")]
    Unreadable {
        /// Which file.
        subject: Subject,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is a folder, a device, a pipe.
    #[error("{subject}: is not a regular file but {what}; a kit is one file that ends in .wasm")]
    NotAFile {
        /// Which file.
        subject: Subject,
        /// What it is.
        what: &'static str,
    },
    /// Larger than a kit may be. It was not read.
    #[error(
        "{subject}: has {bytes} bytes, a kit may have {bytes_max}; strip debug information, or is this the right file?"
    )]
    TooLarge {
        /// Which file.
        subject: Subject,
        /// Its size.
        bytes: u64,
        /// [`crate::Limits::kit_file_bytes_max`].
        bytes_max: u64,
    },
    /// Machine code that wasmtime made. It is never loaded from outside the host's own cache: it would run unchecked.
    #[error(
        "{subject}: is precompiled machine code, which would run unchecked and is never loaded; give the host the .wasm \
         file that it was made from"
    )]
    Precompiled {
        /// Which file.
        subject: Subject,
    },
    /// Not WebAssembly.
    #[error("{subject}: is not WebAssembly ({found}); a kit is a WebAssembly component")]
    NotWasm {
        /// Which file.
        subject: Subject,
        /// How it begins.
        found: String,
    },
    /// WebAssembly, but a core module.
    #[error(
        "{subject}: is a core module, not a component; build it for wasm32-unknown-unknown with the linker \
         wasm-component-ld, or make a component of it with `wasm-tools component new`"
    )]
    CoreModule {
        /// Which file.
        subject: Subject,
    },
    /// Damaged, or made of parts that this host does not know.
    #[error("{subject}: is not a valid component: {problem}; is the file complete? Copy or build it again")]
    Invalid {
        /// Which file.
        subject: Subject,
        /// What the validator says.
        problem: String,
    },
    /// Small, and yet more than a compiler can be asked for.
    #[error(
        "{subject}: has more than {count_max} {what}, which would cost a compiler more memory and time than a host can \
         spare; build the kit from fewer parts, or tell its author"
    )]
    TooComplex {
        /// Which file.
        subject: Subject,
        /// Of what it has too many.
        what: &'static str,
        /// How many it may have.
        count_max: u64,
    },
    /// It says nothing about itself.
    #[error(
        "{subject}: has no section `mainstay:kit-manifest`, so it says neither its name nor its needs; build it with the \
         SDK's export_kit!, or append the section"
    )]
    ManifestMissing {
        /// Which file.
        subject: Subject,
    },
    /// It says too much.
    #[error("{subject}: its manifest has {bytes} bytes, {bytes_max} are allowed; shorten its descriptions")]
    ManifestTooLarge {
        /// Which file.
        subject: Subject,
        /// Its size.
        bytes: usize,
        /// [`crate::Limits::manifest_bytes_max`].
        bytes_max: usize,
    },
    /// It says different things.
    #[error(
        "{subject}: holds {count} manifests at the same depth that differ, so it is not known what it is; keep one, or \
         append one at the top level, which then counts"
    )]
    ManifestsDiffer {
        /// Which file.
        subject: Subject,
        /// How many different ones.
        count: usize,
    },
    /// The manifest is no JSON.
    #[error("{subject}: its manifest is not JSON: {problem}; build it again")]
    ManifestNotJson {
        /// Which file.
        subject: Subject,
        /// What the parser says.
        problem: String,
    },
    /// The manifest is of a form that this host does not know.
    #[error("{subject}: its manifest is of form {found}, this host reads form 1; {advice}")]
    ManifestForm {
        /// Which file.
        subject: Subject,
        /// What stands under `"manifest"`.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The manifest lacks something, or says something that cannot be.
    #[error("{subject}: its manifest is wrong: {problem}; correct the kit and build it again")]
    ManifestInvalid {
        /// Which file.
        subject: Subject,
        /// What is wrong.
        problem: String,
    },
    /// A need says no reason: an operator could not decide about it.
    #[error(
        "{subject}: its manifest gives no reason for the need `{interface}`; the operator who grants it decides by the reason"
    )]
    NeedWithoutReason {
        /// Which file.
        subject: Subject,
        /// The interface.
        interface: String,
    },
    /// A need of something that this host does not have.
    #[error("{subject}: declares a need of `{interface}`, which this host does not offer{hint}; it offers {offered}")]
    NeedUnknown {
        /// Which file.
        subject: Subject,
        /// The interface.
        interface: String,
        /// `; did you mean ...`, or empty.
        hint: String,
        /// What there is.
        offered: String,
    },
    /// The schema of its params cannot be used.
    #[error("{subject}: the schema of its params is wrong: {problem}; correct the kit and build it again")]
    Schema {
        /// Which file.
        subject: Subject,
        /// What is wrong.
        problem: String,
    },
    /// Made for other versions of the contract.
    #[error(
        "{subject}: was made for version {wants} of the contract `mainstay:kit`, this host serves {serves}; {advice}"
    )]
    Contract {
        /// Which file.
        subject: Subject,
        /// The range in its manifest.
        wants: String,
        /// What this host serves.
        serves: String,
        /// Which of the two to renew.
        advice: &'static str,
    },
    /// It does not export what every kit exports.
    #[error(
        "{subject}: does not export `mainstay:kit/recovery` (it exports {exports}), so it is no kit; implement the four \
         operations, with the SDK: export_kit!"
    )]
    RecoveryMissing {
        /// Which file.
        subject: Subject,
        /// What it exports.
        exports: String,
    },
    /// It exports or imports an interface in a version that this host does not serve.
    #[error("{subject}: uses `{interface}`, this host serves `{serves}`; {advice}")]
    InterfaceVersion {
        /// Which file.
        subject: Subject,
        /// As it stands in the kit.
        interface: String,
        /// As this host has it.
        serves: String,
        /// Which of the two to renew.
        advice: &'static str,
    },
    /// It imports what this host does not have.
    #[error("{subject}: imports `{import}`, which this host does not offer; it offers {offered}; {advice}")]
    UnknownImport {
        /// Which file.
        subject: Subject,
        /// As it stands in the kit.
        import: String,
        /// What there is.
        offered: String,
        /// What to do.
        advice: &'static str,
    },
    /// It imports what it does not declare.
    #[error(
        "{subject}: imports `{import}` but does not declare the need `{interface}`, so an operator would not know of it; \
         declare it in the kit's manifest with a reason"
    )]
    Undeclared {
        /// Which file.
        subject: Subject,
        /// As it stands in the kit.
        import: String,
        /// The interface's short name.
        interface: String,
    },
    /// A function in it does not have the contract's types.
    #[error("{subject}: does not fit the contract {contract}: {difference}; build it against this version of `wit/`")]
    Mismatch {
        /// Which file.
        subject: Subject,
        /// The contract's version.
        contract: String,
        /// The first difference.
        difference: String,
    },
    /// The compiler refused it.
    #[error("{subject}: cannot be compiled: {problem}; tell the kit's author")]
    Compile {
        /// Which file.
        subject: Subject,
        /// What the compiler says.
        problem: String,
    },
    /// It wants more memories, tables or instances than a call may have.
    #[error("{subject}: needs more than a call may have: {problem}; tell the kit's author, or raise the limit")]
    DoesNotFit {
        /// Which file.
        subject: Subject,
        /// What it wants.
        problem: String,
    },
    /// The compiler broke down.
    #[error("{subject}: the compiler broke down over it: {problem}; tell the kit's author and mainstay's")]
    CompilerPanic {
        /// Which file.
        subject: Subject,
        /// Its last words.
        problem: String,
    },
    /// Everybody may change it.
    #[error("{subject}: {} may be written by everybody, who could put another kit in its place: chmod o-w {}", .at.display(), .at.display())]
    Changeable {
        /// Which file.
        subject: Subject,
        /// What may be written: the file, or its directory.
        at: PathBuf,
    },
    /// Another file has a kit of this name already.
    #[error("{subject}: a kit of the same name is loaded from {other}; which of the two is meant? Remove one")]
    DuplicateName {
        /// Which file.
        subject: Subject,
        /// The other file.
        other: PathBuf,
    },
}

impl LoadError {
    /// The file and, as far as known, the kit.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Unreadable { subject, .. }
            | Self::NotAFile { subject, .. }
            | Self::TooLarge { subject, .. }
            | Self::Precompiled { subject }
            | Self::NotWasm { subject, .. }
            | Self::CoreModule { subject }
            | Self::Invalid { subject, .. }
            | Self::TooComplex { subject, .. }
            | Self::ManifestMissing { subject }
            | Self::ManifestTooLarge { subject, .. }
            | Self::ManifestsDiffer { subject, .. }
            | Self::ManifestNotJson { subject, .. }
            | Self::ManifestForm { subject, .. }
            | Self::ManifestInvalid { subject, .. }
            | Self::NeedWithoutReason { subject, .. }
            | Self::NeedUnknown { subject, .. }
            | Self::Schema { subject, .. }
            | Self::Contract { subject, .. }
            | Self::RecoveryMissing { subject, .. }
            | Self::InterfaceVersion { subject, .. }
            | Self::UnknownImport { subject, .. }
            | Self::Undeclared { subject, .. }
            | Self::Mismatch { subject, .. }
            | Self::Compile { subject, .. }
            | Self::DoesNotFit { subject, .. }
            | Self::CompilerPanic { subject, .. }
            | Self::Changeable { subject, .. }
            | Self::DuplicateName { subject, .. } => subject,
        }
    }

    /// A stable word for programs, such as `undeclared`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NotAFile { .. } => "not-a-file",
            Self::TooLarge { .. } => "too-large",
            Self::Precompiled { .. } => "precompiled",
            Self::NotWasm { .. } => "not-wasm",
            Self::CoreModule { .. } => "core-module",
            Self::Invalid { .. } => "invalid",
            Self::TooComplex { .. } => "too-complex",
            Self::ManifestMissing { .. } => "manifest-missing",
            Self::ManifestTooLarge { .. } => "manifest-too-large",
            Self::ManifestsDiffer { .. } => "manifests-differ",
            Self::ManifestNotJson { .. } => "manifest-not-json",
            Self::ManifestForm { .. } => "manifest-form",
            Self::ManifestInvalid { .. } => "manifest-invalid",
            Self::NeedWithoutReason { .. } => "need-without-reason",
            Self::NeedUnknown { .. } => "need-unknown",
            Self::Schema { .. } => "schema",
            Self::Contract { .. } => "contract",
            Self::RecoveryMissing { .. } => "recovery-missing",
            Self::InterfaceVersion { .. } => "interface-version",
            Self::UnknownImport { .. } => "unknown-import",
            Self::Undeclared { .. } => "undeclared",
            Self::Mismatch { .. } => "mismatch",
            Self::Compile { .. } => "compile",
            Self::DoesNotFit { .. } => "does-not-fit",
            Self::CompilerPanic { .. } => "compiler-panic",
            Self::Changeable { .. } => "changeable",
            Self::DuplicateName { .. } => "duplicate-name",
        }
    }
}
