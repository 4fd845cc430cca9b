//! The `mainstay` binary, run and waited for, never longer than a limit.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use mainstay_test_support::binary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long a command may take: an operator's request that waits for a whole failover, on a busy machine.
const COMMAND_S_MAX: u64 = 120;
/// Variables that would change what the binary does. What the tests' caller has set is none of the tests' business.
const VARIABLES: [&str; 4] = ["MAINSTAY_STATE", "MAINSTAY_LOG", "RUST_LOG", "RUST_BACKTRACE"];

/// What a command said, and its exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The binary with these arguments, its environment clean and its input empty.
#[must_use]
pub fn command<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(binary("mainstay"));
    command.args(args).stdin(Stdio::null());
    for name in VARIABLES {
        command.env_remove(name);
    }
    command
}

/// Runs the binary with these arguments.
///
/// # Panics
/// When it does not end in time.
#[track_caller]
pub fn mainstay<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Said {
    run(&mut command(args))
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn run(command: &mut Command) -> Said {
    run_within(Duration::from_secs(COMMAND_S_MAX), command)
}

/// Runs a command to its end, for at most `limit`.
///
/// # Panics
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn run_within(limit: Duration, command: &mut Command) -> Said {
    let what = format!("{command:?}");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{what}: {error}"));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is an i32 in Linux"));
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match ended.recv_timeout(limit) {
        Ok(Ok(output)) => Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(_) => {
            // Not waited for yet, so the id is still its own.
            let _ = kill(pid, Signal::SIGKILL);
            panic!("{what} did not end within {:.0} s", limit.as_secs_f64());
        }
    }
}

impl Said {
    /// Its output, if it exited with 0.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == Some(0), "it was to succeed: {self:#?}");
        self.out
    }

    /// Its standard error, if it exited with `code`.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert!(self.code == Some(code), "it was to exit with {code}: {self:#?}");
        self.err
    }

    /// It exited with `code`, and its standard error contains all of `words`.
    ///
    /// # Panics
    /// When not.
    #[track_caller]
    pub fn fails_with(self, code: i32, words: &[&str]) {
        let err = self.failed(code);
        for words in words {
            assert!(err.contains(words), "{words:?} is not in:\n{err}");
        }
    }

    /// Its output as JSON, whatever its exit code.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("this is not JSON ({error}): {self:#?}"))
    }
}
