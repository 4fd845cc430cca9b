//! The programs of this repository, as the tests that run them from outside need them.
//!
//! They are built with the features that `cargo test --workspace` chooses: of the whole workspace, and with a test
//! among what is built, so that those of dev-dependencies count. Any other choice would build most of what a program
//! stands on a second time; with the engine in it that is minutes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::cargo::{self, BuildError};

/// The programs there are.
const PROGRAMS: &[&str] = &["mainstay", "mainstay-supervise", "mainstay-demo", "mainstay-host", "mainstay-volume"];
/// A test that is built along (`tests/as_under_test.rs`).
const TEST_ALONG: &str = "as_under_test";

/// The path of a program of this repository, built in the profile of the running test; cargo looks whether
/// it is up to date once in a process.
///
/// # Panics
/// When it cannot be built; the text is cargo's. When there is no program of that name here.
#[must_use]
#[track_caller]
pub fn binary(name: &str) -> PathBuf {
    assert!(PROGRAMS.contains(&name), "there is no program `{name}` here; add it to PROGRAMS in {}", file!());
    build(name).unwrap_or_else(|error| panic!("{error}"))
}

fn build(name: &str) -> Result<PathBuf, BuildError> {
    static BUILT: LazyLock<Mutex<BTreeMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let running = std::env::current_exe().unwrap_or_default();
    let profile = profile_of(&running);
    let build = cargo::build(&["--workspace", "--bin", name, "--test", TEST_ALONG, "--profile", &profile])?;
    let program = build
        .artifacts
        .iter()
        .filter(|artifact| artifact.target == name)
        .find_map(|artifact| artifact.executable.clone())
        .ok_or_else(|| build.missing(format!("program `{name}`")))?;
    built.insert(name.to_owned(), program.clone());
    Ok(program)
}

/// The profile by which a program was built, from where it lies: `TARGET/debug/deps/x`, `TARGET/release/x`.
fn profile_of(program: &Path) -> String {
    let folders: Vec<_> = program.ancestors().skip(1).filter_map(Path::file_name).collect();
    let profile = match folders.as_slice() {
        [first, second, ..] if *first == "deps" || *first == "examples" => second.to_string_lossy(),
        [first, ..] => first.to_string_lossy(),
        [] => "debug".into(),
    };
    if profile == "debug" { "dev".to_owned() } else { profile.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_read_from_the_path() {
        for (path, profile) in [
            ("/t/debug/deps/x-0123456789abcdef", "dev"),
            ("/t/debug/x", "dev"),
            ("/t/release/deps/x", "release"),
            ("/t/x86_64-unknown-linux-gnu/release/x", "release"),
            ("/t/thin/examples/x", "thin"),
        ] {
            assert_eq!(profile_of(Path::new(path)), profile, "{path}");
        }
    }

    #[test]
    fn a_program_is_built_and_runs() {
        let program = build("kits").unwrap();
        let output = std::process::Command::new(program).arg("--help").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("kits [NAME...]"), "{output:?}");
    }

    #[test]
    #[should_panic(expected = "there is no program `mainstray` here")]
    fn a_program_that_is_not_ours_is_refused() {
        let _ = binary("mainstray");
    }
}
