//! What a command is and what became of it: the words that the daemon and the supervisor share.
//!
//! Plain data. Nothing here reads a file, a clock or `/proc`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest time a command may be given: 30 days, in ms. Longer is a slip of the pen, and times are added to it.
pub const TIMEOUT_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// Most that may be kept of one output stream, in bytes: twice this is read into memory when a command ends.
pub const OUTPUT_BYTES_MAX: u32 = 16 << 20;
/// Most that may be handed to a program on its standard input, in bytes: it lies in the state directory meanwhile.
pub const STDIN_BYTES_MAX: usize = 16 << 20;
/// Most bytes of arguments and environment together. The kernel refuses more than a quarter of the stack limit,
/// which is 2 MiB by default; half of that leaves room for the pointers.
pub const ARGUMENTS_BYTES_MAX: usize = 1 << 20;
/// Environment variable that every process of a command inherits, with the command's id as its value.
pub const MARKER: &str = "MAINSTAY_COMMAND";

/// Whose command it is. The supervisor makes nothing of it; a restarted daemon finds its operation by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Tag of the resource.
    pub tag: String,
    /// The operation, in the contract's word: `restore`, `remove`, `quick-check`, `recover`.
    pub operation: String,
    /// Same for all attempts of the operation.
    pub operation_id: String,
}

/// A program to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Whose it is.
    pub owner: Owner,
    /// An absolute path. Never looked up, never handed to a shell.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<String>,
    /// The environment, apart from the minimum: `PATH=/usr/sbin:/usr/bin:/sbin:/bin`, `LANG=C.UTF-8` (either may be
    /// given anew here), [`MARKER`], and with `user` HOME, USER and LOGNAME.
    pub env: Vec<(String, String)>,
    /// An absolute path, entered as the user. Default: `/`.
    pub cwd: Option<PathBuf>,
    /// Name of the user to run as. Default: the daemon's own.
    pub user: Option<String>,
    /// What the program reads. It is a file, so nobody waits if the program does not read. Kept beside the request.
    #[serde(skip)]
    pub stdin: Vec<u8>,
    /// From the program's start until its whole tree is ended. At most [`TIMEOUT_MS_MAX`].
    pub timeout_ms: u64,
    /// Per stream; the newest bytes are kept. At most [`OUTPUT_BYTES_MAX`].
    pub output_bytes_max: u32,
    /// True: what the program leaves in the background lives on when the program exits by itself, with whatever
    /// code. When it is ended by a signal, its deadline or a cancel, everything is ended in either case.
    pub keep_children: bool,
    /// True: the request is on disk before the program starts, and the outcome soon after it ended, so that both
    /// are there after a power cut. Each costs the disk two or three flushes. False is right for what changes
    /// nothing (a check). A killed daemon finds the command in either case.
    pub durable: bool,
}

impl Request {
    /// Runs `program`, an absolute path, for `owner`; the fields say the rest. Defaults: no arguments, a minute's time, 64 KiB
    /// of each stream, children ended, durable.
    pub fn new(owner: Owner, program: impl Into<PathBuf>) -> Self {
        Self {
            owner,
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            user: None,
            stdin: Vec::new(),
            timeout_ms: 60_000,
            output_bytes_max: 64 << 10,
            keep_children: false,
            durable: true,
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal, which did not come from the supervisor.
    Signalled(i32),
    /// Its time was up. The whole tree is gone.
    TimedOut,
    /// It was cancelled. The whole tree is gone.
    Cancelled,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The newest bytes of standard output, as they were when the program ended.
    pub stdout: Vec<u8>,
    /// The newest bytes of standard error, likewise.
    pub stderr: Vec<u8>,
    /// Older bytes of either stream were dropped.
    pub truncated: bool,
    /// From the program's start to its end; ending the rest of the tree is not in it.
    pub duration_ms: u64,
    /// What was seen before the tree was ended. Only after a deadline or a cancel.
    pub evidence: Option<Evidence>,
}

/// What a command looked like just before it was ended from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Program and arguments.
    pub command_line: Vec<String>,
    /// The newest bytes of standard output, made readable.
    pub stdout: String,
    /// The newest bytes of standard error, made readable.
    pub stderr: String,
    /// The process tree, parents first, and where each process waited.
    pub processes: Vec<ProcessInfo>,
    /// More processes than are listed.
    pub processes_left_out: u32,
}

/// One process of a command's tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: i32,
    /// The parent's.
    pub ppid: i32,
    /// State as `/proc` has it: R runs, S sleeps, D waits for a device, T is stopped, Z is dead and not yet collected.
    pub state: char,
    /// Name.
    pub comm: String,
    /// The kernel function it waits in, where that may be read and it waits.
    pub wchan: Option<String>,
}

impl std::fmt::Display for ProcessInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (child of {}, state {}", self.pid, self.comm, self.ppid, self.state)?;
        if let Some(wchan) = &self.wchan {
            write!(f, ", waits in {wchan}")?;
        }
        f.write_str(")")
    }
}

impl Evidence {
    /// For a person: the command line, the processes, the last line of output.
    pub fn summary(&self) -> String {
        let mut text = format!("command: {}", self.command_line.join(" "));
        for process in &self.processes {
            text.push_str(&format!("; process {process}"));
        }
        if self.processes_left_out > 0 {
            text.push_str(&format!("; {} more processes", self.processes_left_out));
        }
        for (name, stream) in [("stderr", &self.stderr), ("stdout", &self.stdout)] {
            if let Some(line) = stream.lines().rev().find(|line| !line.trim().is_empty()) {
                text.push_str(&format!("; last line of {name}: {}", line.trim()));
            }
        }
        text
    }
}

/// At which step a program could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Finding the user by name.
    User,
    /// Writing down its process id, or making its output files or standard input.
    Files,
    /// Making a process.
    Fork,
    /// A session of its own.
    Session,
    /// Standard input and output.
    Streams,
    /// Becoming the user.
    Identity,
    /// Entering the working directory.
    Cwd,
    /// Executing the program.
    Exec,
}

/// Why a program was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchFailure {
    /// The step.
    pub stage: Stage,
    /// The program.
    pub program: PathBuf,
    /// The user it was to run as.
    pub user: Option<String>,
    /// The working directory it was to run in.
    pub cwd: PathBuf,
    /// The operating system's number; 0 where it gave none (no such user).
    pub errno: i32,
}

impl std::error::Error for LaunchFailure {}

impl std::fmt::Display for LaunchFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use nix::errno::Errno;
        let errno = Errno::from_raw(self.errno);
        let program = self.program.display();
        let user = self.user.as_deref().unwrap_or("the daemon's user");
        write!(f, "{program} was not started: ")?;
        match self.stage {
            Stage::User if self.errno == 0 => write!(f, "there is no user {user} on this node"),
            Stage::User => write!(f, "user {user} could not be looked up: {}", errno.desc()),
            Stage::Files => {
                write!(f, "its files in the state directory could not be made: {}; is the disk full?", errno.desc())
            }
            Stage::Fork => write!(f, "no process could be made for it: {}", errno.desc()),
            Stage::Session => write!(f, "it got no session of its own: {}", errno.desc()),
            Stage::Streams => write!(f, "its input and output could not be set up: {}", errno.desc()),
            Stage::Identity => {
                write!(f, "it could not become user {user}: {}; the daemon has to run as root for that", errno.desc())
            }
            Stage::Cwd => {
                write!(f, "{user} cannot enter its working directory {}: {}", self.cwd.display(), errno.desc())
            }
            Stage::Exec => write!(f, "it cannot be executed by {user}: {}{}", errno.desc(), exec_hint(errno)),
        }
    }
}

fn exec_hint(errno: nix::errno::Errno) -> &'static str {
    use nix::errno::Errno;
    if errno == Errno::ENOENT {
        "; it, or the interpreter in its first line, is not there"
    } else if errno == Errno::ENOEXEC {
        "; a script needs a first line that names its interpreter, such as #!/bin/sh: no shell is put in front of it"
    } else if errno == Errno::EACCES {
        "; it needs the execute permission, and the folders above it too, and a file system mounted without noexec"
    } else if errno == Errno::ETXTBSY {
        "; somebody has it open for writing"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_failure_says_what_to_do() {
        let failure = |stage, errno| {
            let user = Some("app".to_owned());
            LaunchFailure { stage, program: "/opt/a".into(), user, cwd: "/srv/a".into(), errno }.to_string()
        };
        assert_eq!(failure(Stage::User, 0), "/opt/a was not started: there is no user app on this node");
        assert_eq!(
            failure(Stage::Cwd, 2),
            "/opt/a was not started: app cannot enter its working directory /srv/a: No such file or directory"
        );
        assert!(failure(Stage::Exec, 8).contains("such as #!/bin/sh"));
    }

    #[test]
    fn evidence_reads_as_a_sentence() {
        let evidence = Evidence {
            command_line: vec!["/opt/a".to_owned(), "start".to_owned()],
            stderr: "waiting for the disk\n\n".to_owned(),
            processes: vec![ProcessInfo {
                pid: 7,
                ppid: 6,
                state: 'D',
                comm: "mount".to_owned(),
                wchan: Some("nfs_wait".to_owned()),
            }],
            ..Evidence::default()
        };
        assert_eq!(
            evidence.summary(),
            "command: /opt/a start; process 7 mount (child of 6, state D, waits in nfs_wait); last line of stderr: waiting for the disk"
        );
    }
}
