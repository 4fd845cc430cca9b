//! Kits as WebAssembly, each built by its own cargo invocation.
//!
//! One invocation each, because cargo unifies features over what is built together: built beside the host,
//! a kit would change with the host's needs. What comes out is checked to be a component: with the linker
//! not found cargo makes a core module, and does not complain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::cargo::{self, BuildError};
use crate::root;

/// The first eight bytes of a component: magic, version 13, layer 1.
pub const COMPONENT_HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// Those of a core module.
const CORE_MODULE_HEADER: [u8; 8] = *b"\0asm\x01\0\0\0";

/// Why there is no kit.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// No folder of that name.
    #[error("there is no kit `{name}`: kits/{name}/Cargo.toml does not exist; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Cargo failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The linker was not the one of `.cargo/config.toml`.
    #[error(
        "{} is a core module, not a component: cargo did not find the linker wasm-component-ld that \
         .cargo/config.toml names (it is found from the current folder, and comes with rustup's toolchain)",
        path.display()
    )]
    CoreModule {
        /// What was built.
        path: PathBuf,
    },
    /// It starts with something else.
    #[error("{} is no WebAssembly component: it starts with {start:02x?}", path.display())]
    NoComponent {
        /// What was built.
        path: PathBuf,
        /// Its first bytes.
        start: Vec<u8>,
    },
    /// A file could not be read, written or listed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a kit is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A component without WASI: what `mainstay-sdk` is made for.
    Unknown,
    /// A component that imports WASI 0.2.
    Wasip2,
}

impl Target {
    fn triple(self) -> &'static str {
        match self {
            Self::Unknown => "wasm32-unknown-unknown",
            Self::Wasip2 => "wasm32-wasip2",
        }
    }
}

/// The kit `name` of `kits/`, built and copied to `kits/NAME.wasm` in cargo's target folder. Cargo looks
/// whether it is up to date once in a process.
///
/// # Panics
/// When it cannot be built; the text is cargo's.
#[must_use]
#[track_caller]
pub fn kit(name: &str) -> PathBuf {
    build(name).unwrap_or_else(|error| panic!("{error}"))
}

/// A kit that only tests use: from a package anywhere in the workspace, or a shipped one for another target.
/// It is copied to `test-kits/TARGET/PACKAGE.wasm` in cargo's target folder, where nobody takes it for one that
/// is shipped.
///
/// # Panics
/// When it cannot be built; the text is cargo's.
#[must_use]
#[track_caller]
pub fn test_kit(package: &str, target: Target) -> PathBuf {
    build_package(package, target, &format!("test-kits/{}/{package}.wasm", target.triple()))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// As [`kit`], for whoever wants to go on without it.
///
/// # Errors
/// When there is no such kit, or it cannot be built, or no component came out.
pub fn build(name: &str) -> Result<PathBuf, KitError> {
    let known = names()?;
    if !known.iter().any(|it| it == name) {
        return Err(KitError::Unknown { name: name.to_owned(), known: known.join(", ") });
    }
    build_package(&format!("mainstay-kit-{name}"), Target::Unknown, &format!("kits/{name}.wasm"))
}

/// The kits of the repository: the folders of `kits/` that hold a package, sorted.
///
/// # Errors
/// When the folder cannot be listed.
pub fn names() -> Result<Vec<String>, KitError> {
    let folder = root().join("kits");
    let listed = fs::read_dir(&folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = listed.map_err(|source| KitError::File { path: folder, source })?;
    let mut names: Vec<String> = entries
        .iter()
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Builds once in a process; at most one build at a time, as cargo would have it anyway.
fn build_package(package: &str, target: Target, place: &str) -> Result<PathBuf, KitError> {
    static BUILT: LazyLock<Mutex<BTreeMap<(String, Target), PathBuf>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (package.to_owned(), target);
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let path = build_now(package, target, place)?;
    built.insert(key, path.clone());
    Ok(path)
}

fn build_now(package: &str, target: Target, place: &str) -> Result<PathBuf, KitError> {
    let build = cargo::build(&["-p", package, "--target", target.triple(), "--profile", "kit"])?;
    let ends_in_wasm = |path: &&PathBuf| path.extension().is_some_and(|it| it == "wasm");
    let library = package.replace('-', "_");
    let wasm = build
        .artifacts
        .iter()
        .filter(|artifact| artifact.target.replace('-', "_") == library)
        .flat_map(|artifact| &artifact.files)
        .find(ends_in_wasm)
        .ok_or_else(|| build.missing(format!(".wasm for {package}; its [lib] needs crate-type = [\"cdylib\", ...]")))?;
    let bytes = fs::read(wasm).map_err(|source| KitError::File { path: wasm.clone(), source })?;
    check(wasm, &bytes)?;
    // TARGET/wasm32-.../kit/NAME.wasm: where cargo's target folder is, cargo has just told.
    let folder = wasm.ancestors().nth(3).ok_or_else(|| build.missing("folder for it"))?;
    let path = folder.join(place);
    put(&path, &bytes).map_err(|source| KitError::File { path: path.clone(), source })?;
    Ok(path)
}

fn check(path: &Path, bytes: &[u8]) -> Result<(), KitError> {
    if bytes.starts_with(&COMPONENT_HEADER) {
        Ok(())
    } else if bytes.starts_with(&CORE_MODULE_HEADER) {
        Err(KitError::CoreModule { path: path.to_owned() })
    } else {
        Err(KitError::NoComponent { path: path.to_owned(), start: bytes.iter().copied().take(8).collect() })
    }
}

/// Other processes may read it, or write the same, at this moment: it is replaced whole, and only if it differs.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().ok_or_else(|| std::io::Error::other("it has no folder"))?;
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut new, bytes)?;
    let readable_by_all = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(new.path(), readable_by_all)?;
    new.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TempDir;

    #[test]
    fn the_null_kit_comes_out_as_a_component_and_is_built_once() {
        let path = kit("null");
        assert!(path.ends_with("kits/null.wasm"));
        assert!(fs::read(&path).unwrap().starts_with(&COMPONENT_HEADER));
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(kit("null"), path);
        build_now("mainstay-kit-null", Target::Unknown, "kits/null.wasm").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified, "written anew without need");
    }

    #[test]
    fn a_kit_can_be_built_with_wasi_too_and_is_kept_apart() {
        let path = test_kit("mainstay-kit-null", Target::Wasip2);
        assert!(path.ends_with("test-kits/wasm32-wasip2/mainstay-kit-null.wasm"));
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(text.contains("wasi:cli/"));
    }

    #[test]
    fn a_kit_that_is_not_there_is_named_with_those_that_are() {
        let error = build("nul").unwrap_err().to_string();
        assert!(error.contains("no kit `nul`") && error.contains("genapp, null"), "{error}");
    }

    #[test]
    fn a_core_module_is_refused_with_the_likely_reason() {
        let error = check(Path::new("x.wasm"), b"\0asm\x01\0\0\0rest").unwrap_err().to_string();
        assert!(error.contains("x.wasm is a core module") && error.contains(".cargo/config.toml"), "{error}");
    }

    #[test]
    fn anything_else_is_refused_with_its_first_bytes() {
        let error = check(Path::new("x.wasm"), b"\x7fELF").unwrap_err().to_string();
        assert!(error.contains("[7f, 45, 4c, 46]"), "{error}");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = TempDir::new();
        let path = folder.join("kits/a.wasm");
        put(&path, b"old").unwrap();
        put(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
