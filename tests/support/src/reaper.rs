//! What a test started is gone even if the test could not clean up: it aborted, or was killed.
//!
//! A shell is started with the first guard or folder, in a session of its own, and told by its standard
//! input what belongs to the test. The kernel closes that when the process ends in whatever way; the shell
//! then ends what is still there, removes the folders, and ends itself. It touches nothing that it was not told of.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

/// How the name of a guard's environment variable begins.
pub(crate) const MARKER_PREFIX: &str = "MAINSTAY_TEST_GUARD_";
/// How the name of a test's folder begins.
pub(crate) const TEMP_PREFIX: &str = "ms-";

const SCRIPT: &str = include_str!("reaper.sh");

/// From now on processes with this variable in their environment are to be ended.
pub(crate) fn arm(marker: &str) {
    tell('+', marker);
}

/// They have ended, or are to live on.
pub(crate) fn disarm(marker: &str) {
    tell('-', marker);
}

/// From now on processes that name this folder in their command line are to be ended, and the folder removed.
pub(crate) fn claim(folder: &Path) {
    tell('+', &folder.to_string_lossy());
}

/// The folder is gone, or is to stay.
pub(crate) fn disclaim(folder: &Path) {
    tell('-', &folder.to_string_lossy());
}

fn tell(sign: char, what: &str) {
    // Never waited for: it outlives this process.
    static REAPER: LazyLock<Mutex<Child>> = LazyLock::new(|| Mutex::new(start()));
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    let stdin = reaper.stdin.as_mut().expect("it was asked to be a pipe, and nobody takes it");
    if let Err(error) = writeln!(stdin, "{sign} {what}") {
        eprintln!("the shell that cleans up after a killed test has gone ({error}); {what} may be left behind");
    }
}

fn start() -> Child {
    let mut shell = Command::new("/bin/sh");
    // Its own process group: an interrupt from the terminal ends the test, and must not end this too.
    shell.args(["-c", SCRIPT, "mainstay-test-reaper"]).stdin(Stdio::piped()).process_group(0);
    // A pipe of the test's output would stay open as long as it lives.
    shell.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if std::env::var_os("MAINSTAY_KEEP_TEMP").is_some_and(|value| value == "1") {
        shell.env("KEEP_FOLDERS", "1");
    }
    shell.spawn().unwrap_or_else(|error| panic!("/bin/sh could not be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Guard, TempDir, WAIT_LIMIT, processes, wait_for, wait_until};

    /// Set: this test binary was started to play the test that dies.
    const ROLE: &str = "MAINSTAY_TEST_REAPER_PIDS";

    /// Plays the test that dies, and does nothing otherwise.
    #[test]
    fn role_of_the_test_that_dies() {
        let Some(file) = std::env::var_os(ROLE) else { return };
        let folder = TempDir::new();
        // One that is marked; one in a session of its own that has thrown its environment away, and whose
        // parent lives; one that is known only by the folder it was started from.
        let script = folder.script("by-folder", "echo $$ >> \"$1\"; while :; do sleep 1; done");
        let body = "echo $$ >> \"$1\"; setsid env -i /bin/sh -c 'echo $$ >> \"$0\"; while :; do sleep 1; done' \"$1\" & \
                    env -i setsid \"$2\" \"$1\" & while :; do sleep 1; done";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", body, "sh"]).arg(&file).arg(&script);
        let _guard = Guard::start("victim", &mut command).unwrap();
        wait_until(WAIT_LIMIT, "three processes", || pids(Path::new(&file)).len() == 3);
        std::fs::write(Path::new(&file).with_extension("folder"), folder.path().to_str().unwrap()).unwrap();
        std::process::abort();
    }

    fn pids(file: &Path) -> Vec<i32> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    #[test]
    fn a_test_that_aborts_leaves_no_process_and_no_folder() {
        let folder = TempDir::new();
        let file = folder.join("pids");
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "reaper::tests::role_of_the_test_that_dies"])
            .env(ROLE, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "it was to abort");
        let pids = pids(&file);
        assert_eq!(pids.len(), 3);
        let left_folder = std::fs::read_to_string(folder.join("pids.folder")).unwrap();
        for pid in pids {
            wait_until(WAIT_LIMIT, &format!("process {pid} to be gone"), || processes::process(pid).is_none());
        }
        wait_for(WAIT_LIMIT, &format!("{left_folder} to be gone"), || {
            (!Path::new(&left_folder).exists()).then_some(())
        });
    }
}
