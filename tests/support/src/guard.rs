//! A process that a test starts, and that is gone with all it started when its guard is dropped.
//!
//! It runs in a session of its own, its output goes to a file, and is printed when the test fails. What it
//! started is found by a variable in its environment ([`crate::guard`] never goes by names), by descent, and
//! by the folders given to [`Guard::claim`]. When the test dies without dropping anything, a shell that was
//! started beside it does the same.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::processes::{Mark, process};
use crate::temp::TempDir;
use crate::{reaper, wait};

/// How much of the output is looked at, in bytes: its end. More is not of use in a test's report.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;
/// How much of it is printed when the test fails, in bytes.
const PRINTED_BYTES_MAX: usize = 16 << 10;

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{name}: `{program}` could not be started: {source}")]
pub struct StartError {
    name: String,
    program: String,
    source: std::io::Error,
}

/// A process, and all that descends from it.
#[derive(Debug)]
pub struct Guard {
    name: String,
    child: Child,
    variable: String,
    status: Option<ExitStatus>,
    mark: Mark,
    output: PathBuf,
    /// Where the output is; `None` once the process was let go.
    folder: Option<TempDir>,
}

impl Guard {
    /// Starts `command`; `name` is what messages call it. It reads nothing, and what it writes goes to a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, StartError> {
        let folder = TempDir::new();
        let output = folder.join("output");
        let variable = marker();
        let failed = |source: std::io::Error, command: &Command| StartError {
            name: name.to_owned(),
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        };
        let streams = OpenOptions::new().create(true).append(true).open(&output).and_then(|file| {
            let second = file.try_clone()?;
            Ok((file, second))
        });
        let (stdout, stderr) = streams.map_err(|error| failed(error, command))?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).env(&variable, "1");
        // SAFETY: between fork and exec only setsid, getsid and getpid are called, which are async-signal-safe.
        unsafe {
            command.pre_exec(own_session);
        }
        reaper::arm(&variable);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                reaper::disarm(&variable);
                return Err(failed(error, command));
            }
        };
        let mark = Mark { variable: Some(variable.clone()), folders: Vec::new() };
        Ok(Self { name: name.to_owned(), child, variable, status: None, mark, output, folder: Some(folder) })
    }

    /// Whatever names a path below `folder` in its command line belongs to this process too: for programs that
    /// are started with another environment by a parent that is killed.
    #[must_use]
    pub fn claim(mut self, folder: impl AsRef<Path>) -> Self {
        self.mark.folders.push(folder.as_ref().to_owned());
        self
    }

    /// The process's id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            // An error means that it was waited for already, which only this function does.
            self.status = self.child.try_wait().unwrap_or_default();
        }
        self.status
    }

    /// Waits until the process itself has ended; `None` when it has not within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        if wait::poll_until(limit, || self.status().is_some()) { self.status } else { None }
    }

    /// Sends a signal to the process itself, and to nothing it started. False when it had ended.
    pub fn signal(&mut self, signal: Signal) -> bool {
        // Not waited for yet, so its id is still its own.
        self.status().is_none() && kill(self.os_pid(), signal).is_ok()
    }

    /// Kills the process itself with SIGKILL and waits until it is dead. What it started lives on, until the
    /// guard is dropped.
    pub fn kill_alone(&mut self) {
        self.signal(Signal::SIGKILL);
        if self.status.is_none() {
            self.status = self.child.wait().ok();
        }
    }

    /// The ids of what lives of it: the process and what it started.
    #[must_use]
    pub fn living(&self) -> Vec<i32> {
        self.mark.living().iter().map(|process| process.pid).collect()
    }

    /// What it has written so far, standard output and error as they came; the last MiB.
    #[must_use]
    pub fn output(&self) -> String {
        let read = File::open(&self.output).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(OUTPUT_BYTES_MAX)))?;
            let mut bytes = Vec::new();
            file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        match read {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("({} could not be read: {error})", self.output.display()),
        }
    }

    /// The first whole line written so far that contains `words`.
    #[must_use]
    pub fn line(&self, words: &str) -> Option<String> {
        let output = self.output();
        let whole = &output[..output.rfind('\n')?];
        whole.lines().find(|line| line.contains(words)).map(str::to_owned)
    }

    /// Waits for a line that contains `words`.
    ///
    /// # Panics
    /// When it does not come within `limit`, or the process ends without it.
    #[track_caller]
    pub fn wait_for_line(&mut self, limit: Duration, words: &str) -> String {
        let mut ended = false;
        let seen = wait::poll_until(limit, || {
            // In this order: what was written before the end is seen.
            ended = self.status().is_some();
            self.line(words).is_some() || ended
        });
        match self.line(words) {
            Some(line) => line,
            None if ended => panic!("{} ended ({:?}) and never wrote {words:?}", self.name, self.status),
            None => panic!("{} did not write {words:?} within {:.1} s ({seen})", self.name, limit.as_secs_f64()),
        }
    }

    /// Ends it and all it started.
    ///
    /// # Panics
    /// When something of it cannot be ended.
    pub fn end(self) {
        drop(self);
    }

    /// Lets it live on, after the test too, and gives back the file its output goes to.
    #[must_use]
    pub fn keep_running(mut self) -> PathBuf {
        reaper::disarm(&self.variable);
        let path = self.output.clone();
        if let Some(folder) = self.folder.take() {
            reaper::disclaim(folder.path());
            std::mem::forget(folder);
        }
        path
    }

    fn os_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid is an i32 in Linux"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.folder.is_none() {
            return;
        }
        let left = self.mark.end();
        if self.status().is_none() && left.is_empty() {
            self.status = self.child.wait().ok();
        }
        if std::thread::panicking() {
            let output = self.output();
            let tail = crate::guard::tail(&output, PRINTED_BYTES_MAX);
            eprintln!("--- {} (pid {}, {:?}) wrote, at the end:\n{tail}\n---", self.name, self.pid(), self.status);
        }
        if left.is_empty() {
            reaper::disarm(&self.variable);
            return;
        }
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        let message = format!("{}: could not be ended: {}", self.name, left.join(", "));
        if std::thread::panicking() {
            eprintln!("{message}");
        } else {
            panic!("{message}");
        }
    }
}

/// Runs in the child. A command that is started a second time has this in it twice.
fn own_session() -> std::io::Result<()> {
    match nix::unistd::setsid() {
        Err(error) if nix::unistd::getsid(None) != Ok(nix::unistd::getpid()) => Err(error.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The last `bytes_max` bytes of a text, from the start of a character on.
fn tail(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// The name of a variable that no other guard of any process has: the pid alone comes back some day.
fn marker() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let me = std::process::id();
    let start = i32::try_from(me).ok().and_then(process).map_or(0, |process| process.start());
    // Ends in a letter, so that no name is the beginning of another.
    format!("{}{me}_{start}_{}_E", reaper::MARKER_PREFIX, COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{WAIT_LIMIT, wait_for, wait_until};

    fn sh(body: &str) -> Guard {
        Guard::start("sh", Command::new("/bin/sh").args(["-c", body])).unwrap()
    }

    fn pid_in(guard: &Guard, words: &str) -> i32 {
        // Not `wait_for_line`: what writes it may outlive the process itself.
        let line = wait_for(WAIT_LIMIT, words, || guard.line(words));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn lives(pid: i32) -> bool {
        process(pid).is_some_and(|process| !process.to_string().ends_with("Z)"))
    }

    #[test]
    fn output_and_exit_code_are_seen() {
        let mut guard = sh("echo out; echo err >&2; exit 3");
        assert_eq!(guard.wait(WAIT_LIMIT).unwrap().code(), Some(3));
        assert_eq!(guard.output(), "out\nerr\n");
        assert_eq!(guard.line("er").as_deref(), Some("err"));
    }

    #[test]
    fn a_daemon_that_left_its_session_and_its_environment_is_gone_with_the_guard() {
        let guard = sh("setsid env -i /bin/sh -c 'echo child $$; while :; do sleep 1; done' & sleep 100");
        let child = pid_in(&guard, "child");
        assert!(lives(child));
        let parent = i32::try_from(guard.pid()).unwrap();
        guard.end();
        assert!(!lives(child) && !lives(parent));
    }

    #[test]
    fn a_daemon_whose_parent_has_gone_is_known_by_the_marker() {
        let mut guard = sh("setsid /bin/sh -c 'echo child $$; while :; do sleep 1; done' & exit 0");
        let child = pid_in(&guard, "child");
        assert!(guard.wait(WAIT_LIMIT).unwrap().success());
        assert!(guard.living().contains(&child));
        drop(guard);
        assert!(!lives(child));
    }

    #[test]
    fn a_daemon_with_neither_is_known_by_the_folder_it_runs_from() {
        let folder = TempDir::new();
        let script = folder.script("app", "echo child $$; while :; do sleep 1; done");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "env -i setsid \"$1\" & exit 0", "sh"]).arg(script);
        let mut guard = Guard::start("sh", &mut command).unwrap().claim(&folder);
        let child = pid_in(&guard, "child");
        guard.wait(WAIT_LIMIT).unwrap();
        drop(guard);
        assert!(!lives(child));
    }

    #[test]
    fn a_tree_that_forks_all_the_time_is_ended() {
        let guard = sh("f() { while :; do sleep 0.01 & sleep 0.01; done; }; f & f & f & f");
        wait_until(WAIT_LIMIT, "a few processes", || guard.living().len() > 5);
        guard.end();
    }

    #[test]
    fn killed_alone_it_leaves_what_it_started() {
        let mut guard = sh("/bin/sh -c 'echo child $$; while :; do sleep 1; done' & wait");
        let child = pid_in(&guard, "child");
        guard.kill_alone();
        assert!(guard.status().is_some() && lives(child));
        assert!(!guard.signal(Signal::SIGTERM), "nothing is sent to a pid that is no longer its own");
        drop(guard);
        assert!(!lives(child));
    }

    #[test]
    fn a_panic_ends_it_too() {
        let pid = std::panic::catch_unwind(|| {
            let guard = sh("echo child $$; while :; do sleep 1; done");
            let pid = pid_in(&guard, "child");
            std::panic::panic_any(pid);
        });
        let pid = *pid.unwrap_err().downcast::<i32>().unwrap();
        assert!(!lives(pid));
    }

    #[test]
    fn what_is_kept_lives_on() {
        let guard = sh("echo child $$; while :; do sleep 1; done");
        let pid = pid_in(&guard, "child");
        let output = guard.keep_running();
        assert!(lives(pid) && output.is_file());
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        nix::sys::wait::waitpid(Pid::from_raw(pid), None).unwrap();
        std::fs::remove_dir_all(output.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_command_can_be_started_again() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo started; exec sleep 100"]);
        for _ in 0..2 {
            let mut guard = Guard::start("sh", &mut command).unwrap();
            guard.wait_for_line(WAIT_LIMIT, "started");
            assert_eq!(guard.living().len(), 1);
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Guard::start("the app", &mut Command::new("/nowhere/app")).unwrap_err().to_string();
        assert!(error.contains("the app: `/nowhere/app` could not be started"), "{error}");
    }

    #[test]
    fn a_line_that_never_comes_is_a_panic_that_says_so() {
        let panic = std::panic::catch_unwind(|| sh("echo hello").wait_for_line(WAIT_LIMIT, "goodbye"));
        let text = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("sh ended") && text.contains("\"goodbye\""), "{text}");
    }

    #[test]
    fn half_a_line_is_not_taken_for_one() {
        let guard = sh("printf 'port 12'; sleep 0.2; echo 34; sleep 100");
        let line = wait_for(WAIT_LIMIT, "the line", || guard.line("port"));
        assert_eq!(line, "port 1234");
    }

    #[test]
    fn a_tail_starts_with_a_whole_character() {
        assert_eq!(tail("aä", 1), "");
        assert_eq!(tail("aä", 2), "ä");
        assert_eq!(tail("ab", 9), "ab");
    }
}
