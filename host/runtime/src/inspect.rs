//! From a file to what is in it: manifest, imports, exports, and everything that is wrong with them.
//!
//! Decides whether a file may be compiled at all, from its bytes alone. Never compiles, never runs, and never
//! reads a file that is too large. The order is from cheap and certain to detailed: a file that is no
//! component is told as that, not as a list of missing exports.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::wasmparser::{Parser, Payload, Validator};

use crate::engine;
use crate::error::{LoadError, Subject};
use crate::interfaces::{self, Import};
use crate::limits::{Limits, contract};
use crate::manifest::{self, Manifest};
use crate::params::ParamsSchema;

/// What a component's header looks like: `\0asm`, then the version and the layer.
const WASM_MAGIC: &[u8] = b"\0asm";
/// Interfaces listed in a message; the rest is counted.
const LISTED_MAX: usize = 8;

/// What is in a file that is a component.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The kit's manifest, if it could be read.
    pub manifest: Option<Manifest>,
    /// Of the whole file, in hexadecimal: what an operator pins.
    pub sha256: String,
    /// The file's size.
    pub bytes: u64,
    /// Every import, as it stands in the component.
    pub imports: Vec<String>,
    /// The capabilities among them, by short name.
    pub capabilities: Vec<String>,
    /// Needs that are declared and not imported: to be granted all the same, for the next version may use them.
    pub unused_needs: Vec<String>,
    /// Every export.
    pub exports: Vec<String>,
    /// Exported interfaces beside `recovery`.
    pub abilities: Vec<String>,
    /// Everything that keeps it from being loaded. Empty: it may be compiled.
    #[serde(serialize_with = "as_text")]
    pub problems: Vec<LoadError>,
}

fn as_text<S: serde::Serializer>(problems: &[LoadError], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(problems.iter().map(ToString::to_string))
}

/// A component that may be compiled, with all that is known about it.
pub(crate) struct Examined {
    pub(crate) subject: Subject,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sha256: [u8; 32],
    pub(crate) manifest: Manifest,
    pub(crate) schema: ParamsSchema,
    pub(crate) imports: Vec<String>,
    pub(crate) capabilities: Vec<&'static str>,
    pub(crate) wasi: bool,
    pub(crate) abilities: Vec<String>,
}

/// Manifest and real imports of a file, and every problem, without compiling or running anything.
///
/// # Errors
/// When the file is no component at all: then there is nothing to look into.
pub fn inspect(file: &Path, limits: &Limits) -> Result<Inspection, LoadError> {
    let found = look(file, limits)?;
    let contents = found.contents;
    Ok(Inspection {
        unused_needs: found.manifest.as_ref().map_or_else(Vec::new, |manifest| {
            let unused = manifest.needs.iter().map(|need| need.interface.clone());
            unused.filter(|need| !contents.capabilities.contains(&need.as_str())).collect()
        }),
        manifest: found.manifest,
        sha256: hex(&found.sha256),
        bytes: found.bytes.len() as u64,
        imports: contents.imports,
        capabilities: contents.capabilities.iter().map(|name| (*name).to_owned()).collect(),
        exports: contents.exports,
        abilities: contents.abilities,
        problems: found.problems,
    })
}

/// The same, for a file that is to be compiled: the first problem is the end of it.
pub(crate) fn examine(file: &Path, limits: &Limits) -> Result<Examined, LoadError> {
    let found = look(file, limits)?;
    if let Some(problem) = found.problems.into_iter().next() {
        return Err(problem);
    }
    let manifest = found.manifest.expect("a file without a readable manifest has a problem that says so");
    let schema = found.schema.expect("a manifest whose schema cannot be used has a problem that says so");
    Ok(Examined {
        subject: found.subject,
        bytes: found.bytes,
        sha256: found.sha256,
        manifest,
        schema,
        imports: found.contents.imports,
        capabilities: found.contents.capabilities,
        wasi: found.contents.wasi,
        abilities: found.contents.abilities,
    })
}

/// 64 digits.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    use std::fmt::Write;
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

struct Found {
    subject: Subject,
    bytes: Vec<u8>,
    sha256: [u8; 32],
    manifest: Option<Manifest>,
    schema: Option<ParamsSchema>,
    contents: Contents,
    problems: Vec<LoadError>,
}

fn look(file: &Path, limits: &Limits) -> Result<Found, LoadError> {
    let mut subject = Subject { file: file.to_owned(), kit: None };
    let bytes = read(&subject, limits)?;
    let sha256: [u8; 32] = Sha256::digest(&bytes).into();
    check_kind(&bytes, &subject)?;
    let invalid = |error: wasmtime::wasmparser::BinaryReaderError| LoadError::Invalid {
        subject: subject.clone(),
        problem: error.to_string(),
    };
    // Before validation, whose own time grows with the square of the depth.
    if let Some((what, count_max)) = too_complex(&bytes, limits) {
        return Err(LoadError::TooComplex { subject, what, count_max });
    }
    Validator::new_with_features(engine::features()).validate_all(&bytes).map_err(invalid)?;
    let contents = Contents::of(&bytes).map_err(invalid)?;
    let mut problems = Vec::new();
    let mut schema = None;
    let read = contents.manifest(&subject, limits).and_then(|section| Manifest::read(&section, &mut subject));
    let manifest = read.map_err(|problem| problems.push(problem)).ok();
    if let Some(manifest) = &manifest {
        problems.extend(contract_problem(manifest, &subject));
        problems.extend(manifest.need_problems(&subject));
        match ParamsSchema::new(&manifest.params, limits) {
            Ok(usable) => schema = Some(usable),
            Err(problem) => problems.push(LoadError::Schema { subject: subject.clone(), problem }),
        }
    }
    problems.extend(contents.export_problem(&subject));
    problems.extend(contents.import_problems(manifest.as_ref(), &subject));
    Ok(Found { subject, bytes, sha256, manifest, schema, contents, problems })
}

/// The file's bytes. Opened without waiting, so that a pipe of that name does not hold anybody up.
fn read(subject: &Subject, limits: &Limits) -> Result<Vec<u8>, LoadError> {
    let unreadable = |source| LoadError::Unreadable { subject: subject.clone(), source };
    let mut options = File::options();
    options.read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let file = options.open(&subject.file).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "a device, pipe or socket" };
        return Err(LoadError::NotAFile { subject: subject.clone(), what });
    }
    let too_large =
        |bytes| LoadError::TooLarge { subject: subject.clone(), bytes, bytes_max: limits.kit_file_bytes_max };
    if metadata.len() > limits.kit_file_bytes_max {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // It may grow while it is read: never more than the limit and one byte, which tells.
    file.take(limits.kit_file_bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limits.kit_file_bytes_max {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Is it WebAssembly, and a component?
fn check_kind(bytes: &[u8], subject: &Subject) -> Result<(), LoadError> {
    let subject = || subject.clone();
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(LoadError::Precompiled { subject: subject() });
    }
    if !bytes.starts_with(WASM_MAGIC) {
        let begin = &bytes[..bytes.len().min(16)];
        let found = if bytes.is_empty() {
            "it is empty".to_owned()
        } else if bytes.len() < WASM_MAGIC.len() {
            "it is too short".to_owned()
        } else if begin.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            format!("it begins with the text {:?}", String::from_utf8_lossy(begin))
        } else {
            format!("it begins with the bytes {begin:02x?}")
        };
        return Err(LoadError::NotWasm { subject: subject(), found });
    }
    // After the magic: two bytes of version, two of layer; layer 0 is a core module, 1 a component.
    match bytes.get(6..8) {
        Some([0, 0]) => Err(LoadError::CoreModule { subject: subject() }),
        Some(_) => Ok(()),
        None => Err(LoadError::Invalid { subject: subject(), problem: "it ends within its header".to_owned() }),
    }
}

/// What costs a compiler far more than its size in the file tells, and how much of it may be there. What cannot be
/// parsed is the validator's to tell.
fn too_complex(bytes: &[u8], limits: &Limits) -> Option<(&'static str, u64)> {
    let (mut depth, mut functions, mut locals) = (0_u64, 0_u64, 0_u64);
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.ok()?;
        if let Payload::Version { .. } = &payload {
            depth += 1;
        } else if let Payload::End(_) = &payload {
            depth = depth.saturating_sub(1);
        } else if let Payload::CodeSectionEntry(body) = &payload {
            functions += 1;
            for group in body.get_locals_reader().ok()? {
                locals = locals.saturating_add(group.ok()?.0.into());
            }
        }
        // A core module lies one level below the component that holds it.
        for (what, count, count_max) in [
            ("levels of components in components", depth.saturating_sub(1), limits.component_depth_max as u64),
            ("functions", functions, limits.functions_max),
            ("local variables in its functions", locals, limits.locals_max),
        ] {
            if count > count_max {
                return Some((what, count_max));
            }
        }
    }
    None
}

fn contract_problem(manifest: &Manifest, subject: &Subject) -> Option<LoadError> {
    if manifest.contract.matches(&contract::VERSION) {
        return None;
    }
    let advice = "build the kit with the SDK of this host's version, or run a host that serves what it wants";
    Some(LoadError::Contract {
        subject: subject.clone(),
        wants: manifest.contract.to_string(),
        serves: contract::VERSION.to_string(),
        advice,
    })
}

/// What stands in the component itself.
#[derive(Default)]
struct Contents {
    imports: Vec<String>,
    exports: Vec<String>,
    capabilities: Vec<&'static str>,
    wasi: bool,
    abilities: Vec<String>,
    /// Manifest sections, with how deep they lie.
    sections: Vec<(usize, Vec<u8>)>,
}

impl Contents {
    fn of(bytes: &[u8]) -> Result<Self, wasmtime::wasmparser::BinaryReaderError> {
        let mut contents = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            // A section of the outermost component only; what lies deeper is wiring inside the kit.
            let outermost = depth == 1;
            if let Payload::Version { .. } = &payload {
                depth += 1;
            } else if let Payload::End(_) = &payload {
                depth -= 1;
            } else if let Payload::ComponentImportSection(section) = payload {
                if outermost {
                    for import in section {
                        contents.imports.push(import?.name.name.to_owned());
                    }
                }
            } else if let Payload::ComponentExportSection(section) = payload {
                if outermost {
                    for export in section {
                        contents.exports.push(export?.name.name.to_owned());
                    }
                }
            } else if let Payload::CustomSection(section) = payload
                && section.name() == manifest::SECTION
            {
                contents.sections.push((depth, section.data().to_owned()));
            }
        }
        contents.classify();
        Ok(contents)
    }

    fn classify(&mut self) {
        let kinds: Vec<_> = self.imports.iter().map(|name| interfaces::import(name)).collect();
        self.wasi = kinds.contains(&Import::Wasi);
        self.capabilities = interfaces::CAPABILITIES
            .into_iter()
            .filter(|capability| kinds.contains(&Import::Capability(capability)))
            .collect();
        let recovery = format!("{}/{}", interfaces::PACKAGE, interfaces::RECOVERY);
        self.abilities = self.exports.iter().filter(|name| interfaces::split(name).0 != recovery).cloned().collect();
    }

    /// The section that counts: the outermost ones win; those at the same depth have to agree.
    fn manifest(&self, subject: &Subject, limits: &Limits) -> Result<Vec<u8>, LoadError> {
        let subject = || subject.clone();
        let Some(depth) = self.sections.iter().map(|(depth, _)| *depth).min() else {
            return Err(LoadError::ManifestMissing { subject: subject() });
        };
        // All that lie inside modules count as one depth: how a linker nests them says nothing.
        let counting = self.sections.iter().filter(|(at, _)| if depth == 1 { *at == 1 } else { true });
        let different: BTreeSet<&[u8]> = counting.map(|(_, data)| data.as_slice()).collect();
        let count = different.len();
        let Some(data) = different.into_iter().next().filter(|_| count == 1) else {
            return Err(LoadError::ManifestsDiffer { subject: subject(), count });
        };
        if data.len() > limits.manifest_bytes_max {
            let (bytes, bytes_max) = (data.len(), limits.manifest_bytes_max);
            return Err(LoadError::ManifestTooLarge { subject: subject(), bytes, bytes_max });
        }
        Ok(data.to_owned())
    }

    fn export_problem(&self, subject: &Subject) -> Option<LoadError> {
        let wanted = format!("{}/{}", interfaces::PACKAGE, interfaces::RECOVERY);
        let mut found = self.exports.iter().filter(|name| interfaces::split(name).0 == wanted).peekable();
        let Some(first) = found.peek() else {
            let exports = if self.exports.is_empty() { "nothing".to_owned() } else { list(&self.exports) };
            return Some(LoadError::RecoveryMissing { subject: subject.clone(), exports });
        };
        let first = (*first).clone();
        let served = |name: &String| {
            interfaces::split(name).1.is_some_and(|version| interfaces::compatible(&version, &contract::VERSION))
        };
        if found.any(served) {
            return None;
        }
        Some(LoadError::InterfaceVersion {
            subject: subject.clone(),
            serves: interfaces::full_name(interfaces::RECOVERY),
            advice: advice(&first),
            interface: first,
        })
    }

    fn import_problems(&self, manifest: Option<&Manifest>, subject: &Subject) -> Vec<LoadError> {
        let mut problems = Vec::new();
        for name in &self.imports {
            let subject = || subject.clone();
            let import = crate::text::one_line(name, 200);
            match interfaces::import(name) {
                Import::Types | Import::Wasi => {}
                Import::Capability(interface) => {
                    // Without a manifest there is another problem already.
                    if manifest.is_some_and(|manifest| !manifest.needs(interface)) {
                        let interface = interface.to_owned();
                        problems.push(LoadError::Undeclared { subject: subject(), import, interface });
                    }
                }
                Import::OtherVersion(serves) => problems.push(LoadError::InterfaceVersion {
                    subject: subject(),
                    serves,
                    advice: advice(name),
                    interface: import,
                }),
                Import::Unknown => problems.push(LoadError::UnknownImport {
                    subject: subject(),
                    import,
                    offered: interfaces::offered(),
                    advice: unknown_advice(name),
                }),
            }
        }
        problems
    }
}

/// Who has to move: the kit or the host?
fn advice(name: &str) -> &'static str {
    let (path, version) = interfaces::split(name);
    match version {
        None => "the version is missing: build the kit against this version of the contract",
        Some(version) if path.starts_with("mainstay:") && version > contract::VERSION => {
            "the kit is newer than this host: upgrade mainstay, or build the kit against the older contract"
        }
        Some(_) => "build the kit against the version that is served",
    }
}

fn unknown_advice(name: &str) -> &'static str {
    if name.starts_with("mainstay:kit/") {
        "a newer mainstay may have it; else build the kit without it"
    } else if name.starts_with("wasi:") {
        "a kit reaches the outside through the contract's interfaces only; build it without this part of WASI"
    } else {
        "link what it stands for into the kit, or use the contract's interfaces"
    }
}

fn list(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(LISTED_MAX).map(|name| crate::text::one_line(name, 100)).collect();
    let more = names.len() - shown.len();
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
