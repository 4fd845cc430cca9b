//! A real component that may be missing. Its test is skipped, and seen to be.
//!
//! libtest hides what a passing test prints, so a skip is also written to the file that
//! `MAINSTAY_SKIP_LOG` names, which `just test` prints at its end. With `MAINSTAY_REQUIRE_REAL=1`, as
//! `.ci/run` sets it, a skip is a failure.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where daemons are that an ordinary user's `PATH` does not name.
const FURTHER_FOLDERS: &[&str] = &["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The path of `program`, or `None` after the skip was made known: the test then returns.
///
/// `program` is a name to look for in `PATH` and the folders for daemons, or an absolute path; `install`
/// is the command that installs it.
///
/// ```no_run
/// # use mainstay_test_support::require_or_skip;
/// let Some(named) = require_or_skip("named", "apt-get install bind9") else { return };
/// ```
///
/// # Panics
/// When it is missing and `MAINSTAY_REQUIRE_REAL=1`.
#[must_use]
#[track_caller]
pub fn require_or_skip(program: &str, install: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        skip(&format!("needs {program}"), install);
    }
    found
}

/// Makes known that the running test is skipped: `reason` as in "needs root", `how` it can be had.
///
/// # Panics
/// With `MAINSTAY_REQUIRE_REAL=1`.
#[track_caller]
pub fn skip(reason: &str, how: &str) {
    let required = std::env::var_os("MAINSTAY_REQUIRE_REAL").is_some_and(|value| value == "1");
    let log = std::env::var_os("MAINSTAY_SKIP_LOG").map(PathBuf::from);
    skip_as(&test_name(), reason, how, required, log.as_deref());
}

#[track_caller]
fn skip_as(test: &str, reason: &str, how: &str, required: bool, log: Option<&Path>) {
    let line = format!("{test}: {reason}: {how}");
    assert!(!required, "{line} (MAINSTAY_REQUIRE_REAL=1 allows no skip)");
    eprintln!("SKIPPED {line}");
    if let Some(path) = log {
        // One write, so that lines of tests that run at once do not mix.
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            panic!("the skip could not be written to {}, so it would not be seen: {error}", path.display());
        }
    }
}

/// The test binary and the running test: libtest names a test's thread after it.
fn test_name() -> String {
    let binary = std::env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    let binary = binary.unwrap_or_default();
    // cargo appends a hash of 16 digits, which changes from build to build.
    let name = match binary.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => &binary,
    };
    let thread = std::thread::current();
    format!("{name}::{}", thread.name().unwrap_or("main"))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.is_absolute() {
        return is_executable(path).then(|| path.to_owned());
    }
    let listed = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&listed)
        .chain(FURTHER_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TempDir;

    #[test]
    fn what_is_there_is_found_by_name_and_by_path() {
        let sh = require_or_skip("sh", "it is always there").unwrap();
        assert!(sh.is_absolute());
        assert_eq!(find(sh.to_str().unwrap()), Some(sh));
    }

    #[test]
    fn what_is_missing_or_no_program_is_not_found() {
        let folder = TempDir::new();
        let plain = folder.write("plain", "");
        assert_eq!(find(plain.to_str().unwrap()), None);
        assert_eq!(find(folder.path().to_str().unwrap()), None);
        assert_eq!(find("mainstay-no-such-program"), None);
    }

    #[test]
    fn a_skip_is_written_down_and_a_second_one_too() {
        let folder = TempDir::new();
        let log = folder.join("skipped.txt");
        skip_as("a::b", "needs named", "apt-get install bind9", false, Some(&log));
        skip_as("a::c", "needs root", "run it as root", false, Some(&log));
        let text = std::fs::read_to_string(log).unwrap();
        assert_eq!(text, "a::b: needs named: apt-get install bind9\na::c: needs root: run it as root\n");
    }

    #[test]
    #[should_panic(expected = "a::b: needs named: apt-get install bind9 (MAINSTAY_REQUIRE_REAL=1")]
    fn where_the_real_thing_is_required_a_skip_is_a_failure() {
        skip_as("a::b", "needs named", "apt-get install bind9", true, None);
    }

    #[test]
    #[should_panic(expected = "would not be seen")]
    fn a_skip_that_cannot_be_written_down_is_a_failure() {
        skip_as("a::b", "needs named", "apt-get install bind9", false, Some(Path::new("/nowhere/skipped.txt")));
    }

    #[test]
    fn the_test_is_named_without_the_hash_of_the_build() {
        assert_eq!(test_name(), "mainstay_test_support::needs::tests::the_test_is_named_without_the_hash_of_the_build");
    }
}
