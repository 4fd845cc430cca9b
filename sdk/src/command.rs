//! Programs on this node: those granted, and only those. Never through a shell.
//!
//! ```no_run
//! # fn main() -> Result<(), mainstay_sdk::Fault> {
//! use mainstay_sdk::command::Request;
//! let completed = Request::new("/usr/bin/systemctl").args(["is-active", "nginx"]).run()?;
//! assert!(completed.success());
//! # Ok(()) }
//! ```

use std::time::Duration;

use crate::{Fault, seam};

/// How much of each output stream is kept unless the request says otherwise, in bytes: enough for the
/// tail that explains a failure, little enough that many calls at once cost nothing.
pub const OUTPUT_BYTES_DEFAULT: u32 = 64 * 1024;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// An absolute path, granted.
    pub program: String,
    /// The arguments.
    pub args: Vec<String>,
    /// The whole environment, apart from the documented minimum (PATH, LANG).
    pub env: Vec<(String, String)>,
    /// Default: `/`.
    pub cwd: Option<String>,
    /// Default: the user the daemon runs as, or the one the grant names.
    pub user: Option<String>,
    /// What the program reads.
    pub stdin: Vec<u8>,
    /// None: what is left of the call, less a second to answer.
    pub timeout_ms: Option<u32>,
    /// Per stream; the newest bytes are kept.
    pub output_bytes_max: u32,
    /// True: what the program leaves in the background lives on when the program exits by itself.
    pub keep_children: bool,
}

impl Request {
    /// Runs `program`, an absolute path, with nothing else said yet.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            user: None,
            stdin: Vec::new(),
            timeout_ms: None,
            output_bytes_max: OUTPUT_BYTES_DEFAULT,
            keep_children: false,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The working directory.
    #[must_use]
    pub fn cwd(mut self, directory: impl Into<String>) -> Self {
        self.cwd = Some(directory.into());
        self
    }

    /// The user to run as; the grant must name the same.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// What the program reads.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// When the whole process tree is ended.
    #[must_use]
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout_ms = Some(crate::ms(time));
        self
    }

    /// How much of each stream is kept, in bytes; the newest are.
    #[must_use]
    pub fn output_bytes_max(mut self, bytes: u32) -> Self {
        self.output_bytes_max = bytes;
        self
    }

    /// What the program leaves in the background is the application: it lives on.
    #[must_use]
    pub fn keep_children(mut self) -> Self {
        self.keep_children = true;
        self
    }

    /// Runs it and waits until the program itself has ended.
    ///
    /// # Errors
    /// `denied` when it is not granted or others may write the program, `not-found` when there is none, `failed`
    /// when it cannot be started. A program that fails or runs out of time is no error: see [`Completed::ending`].
    pub fn run(&self) -> Result<Completed, Fault> {
        seam::command_run(self)
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// The deadline passed; the whole tree is dead.
    TimedOut,
}

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// How it ended.
    pub ending: Ending,
    /// The newest bytes it wrote.
    pub stdout: Vec<u8>,
    /// The newest bytes it complained.
    pub stderr: Vec<u8>,
    /// True when older output was dropped.
    pub truncated: bool,
    /// From start to end, in ms.
    pub duration_ms: u32,
}

impl Completed {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.ending == Ending::Exited(0)
    }

    /// Its exit code, if it exited by itself.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.ending {
            Ending::Exited(code) => Some(code),
            Ending::Signalled(_) | Ending::TimedOut => None,
        }
    }

    /// The end of what it complained, or of what it wrote if it complained nothing: at most `bytes_max` bytes,
    /// as text, without white space around it.
    #[must_use]
    pub fn tail(&self, bytes_max: usize) -> String {
        let complaint = text_tail(&self.stderr, bytes_max);
        if complaint.is_empty() { text_tail(&self.stdout, bytes_max) } else { complaint }
    }
}

/// The last `bytes_max` bytes of `bytes` as text: never more, cut at a character, whatever is no text marked,
/// control characters other than line breaks and tabs left out.
#[must_use]
pub fn text_tail(bytes: &[u8], bytes_max: usize) -> String {
    let tail = &bytes[bytes.len().saturating_sub(bytes_max)..];
    let text: String =
        String::from_utf8_lossy(tail).chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    // A byte that is no text becomes three: the limit is on what comes out.
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim_matches(|c: char| c.is_whitespace() || c == '\u{fffd}').to_owned()
}
