//! The folder of one command: the one place that says which files are in it, what they hold and who writes them.
//!
//! `COMMANDS_DIR/ID/` (0700, like everything above it in the state directory), with ID a random UUID:
//!
//! | file | written by | when | holds |
//! |---|---|---|---|
//! | `request.json` | daemon | before the supervisor starts | [`RequestRecord`]. The supervisor holds an exclusive `flock` on it as long as it lives |
//! | `stdin` | daemon | likewise, if there is any | the bytes for standard input. Gone once the program has it open |
//! | `processes.json` | supervisor | before the program is executed | [`ProcessesRecord`]: who supervises, who runs |
//! | `stdout`, `stderr` | the program and its children | while they run | what they print. The supervisor cuts the front off |
//! | `stdout.older`, `stderr.older` | supervisor | where the file system cannot cut the front off | what came before `stdout`, `stderr` |
//! | `stdout.final`, `stderr.final` | supervisor | at the program's end, if children live on | the newest bytes as they were then |
//! | `outcome.json` | supervisor | once, when it is over | [`OutcomeRecord`] |
//! | `collected` | daemon | when it has taken the outcome and children live on | nothing: the supervisor removes the folder when the last child is gone |
//! | `supervisor.log` | supervisor | when something went wrong in it | text, at most [`LOG_BYTES_MAX`] bytes |
//!
//! What says what:
//! * `request.json` unreadable or missing: a daemon died before the supervisor was started, or the power went. Nothing ran.
//! * no `processes.json`, lock free: the program was never executed, and never will be by whoever holds the lock.
//! * `processes.json` there: the request was carried out, and is not a second time. A supervisor started for such a
//!   folder only keeps the output of what lives on short.
//! * `outcome.json` there: it is over. It appears whole (written beside it and renamed) and never changes.
//! * lock held: the supervisor lives; after `outcome.json` it only tends the output of children that live on.
//! * lock free, no outcome: the supervisor was killed, or the machine went down (another boot id).
//!
//! Records are JSON with a `format` number. A daemon must understand the records of the version before it: commands
//! outlive an upgrade.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::process::Identity;
use crate::types::{Ending, Evidence, LaunchFailure, ProcessInfo, Request};

/// The format of the records written by this version.
pub(crate) const FORMAT: u32 = 1;
/// Most bytes read of one record. The largest is a request (arguments and environment of a MiB, escaped).
const RECORD_BYTES_MAX: u64 = 8 << 20;
/// Most bytes the supervisor may log: it lives for months and must not fill the disk with one complaint.
pub(crate) const LOG_BYTES_MAX: u64 = 16 << 10;

pub(crate) const REQUEST: &str = "request.json";
pub(crate) const STDIN: &str = "stdin";
pub(crate) const PROCESSES: &str = "processes.json";
pub(crate) const OUTCOME: &str = "outcome.json";
pub(crate) const COLLECTED: &str = "collected";
pub(crate) const LOG: &str = "supervisor.log";

/// `request.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RequestRecord {
    pub(crate) format: u32,
    /// The boot in which it was written: of another boot nothing runs any more.
    pub(crate) boot_id: String,
    pub(crate) request: Request,
}

/// `processes.json`. Not flushed to the disk: after a power cut it identifies nothing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProcessesRecord {
    pub(crate) format: u32,
    /// Process ids of another boot mean nothing.
    pub(crate) boot_id: String,
    pub(crate) supervisor: Identity,
    pub(crate) program: Identity,
    /// The control group of the program's tree, where one could be made.
    pub(crate) cgroup: Option<PathBuf>,
}

/// `outcome.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutcomeRecord {
    pub(crate) format: u32,
    pub(crate) end: End,
}

/// What became of the command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// The program could not be executed.
    NotStarted(LaunchFailure),
    /// It ran.
    Ran {
        ending: Ending,
        truncated: bool,
        duration_ms: u64,
        evidence: Option<Evidence>,
        /// Children live on: the supervisor goes on tending their output, and the streams are in the `.final` files.
        lingers: bool,
    },
}

/// What the supervisor tells the daemon that started it, one JSON value a line, over a pipe whose loss hurts nobody.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    /// The program runs.
    Started,
    /// Its tree was killed long ago and is still there: for the daemon's log.
    Stuck(Vec<ProcessInfo>),
    /// It is over.
    Over(OutcomeRecord),
}

/// The folder of one command.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The command's id: the folder's name.
    pub(crate) fn id(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Reads a record. `InvalidData` if it is torn, `Unsupported` if a newer version wrote it.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let mut text = Vec::new();
        File::open(self.file(name))?.take(RECORD_BYTES_MAX).read_to_end(&mut text)?;
        parse(&text)
    }

    /// Makes a file that is not there yet, for our own user only.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file(name))
    }

    /// Puts a whole record in place, or leaves what was there.
    pub(crate) fn put<T: Serialize>(&self, name: &str, record: &T, durable: bool) -> io::Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        let beside = self.file(&format!("{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&beside, self.file(name))?;
        if durable {
            File::open(&self.0)?.sync_all()?;
        }
        Ok(())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// The supervisor's lock, or `None` while somebody else holds it. It goes with its process, however that ends.
    pub(crate) fn lock(&self) -> io::Result<Option<Flock<File>>> {
        let file = OpenOptions::new().read(true).write(true).open(self.file(REQUEST))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    /// Removes the folder and all in it. Its absence is fine; so is a file that appears meanwhile.
    pub(crate) fn remove(&self) -> io::Result<()> {
        /// A supervisor that writes its last file while we remove does so once or twice.
        const TRIES_MAX: u32 = 5;
        let mut tries = 0;
        loop {
            match std::fs::remove_dir_all(&self.0) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.0.exists() => return Ok(()),
                Err(error) if tries == TRIES_MAX => return Err(error),
                Err(_) => tries += 1,
            }
        }
    }

    /// Writes a line to the supervisor's log. There is nobody to tell if that fails.
    pub(crate) fn complain(&self, line: &str) {
        let Ok(mut file) = OpenOptions::new().append(true).create(true).mode(0o600).open(self.file(LOG)) else {
            return;
        };
        let room = file.metadata().map_or(0, |metadata| LOG_BYTES_MAX.saturating_sub(metadata.len()));
        if room > line.len() as u64 {
            drop(writeln!(file, "{line}"));
        }
    }
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> io::Result<T> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let torn = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let Head { format } = serde_json::from_slice(text).map_err(torn)?;
    if format > FORMAT {
        let newer = format!("a newer mainstay wrote it (format {format}, this one knows {FORMAT})");
        return Err(io::Error::new(io::ErrorKind::Unsupported, newer));
    }
    serde_json::from_slice(text).map_err(torn)
}

/// This boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_newer_version_is_told_from_a_torn_one() {
        let kind = |text: &str| parse::<OutcomeRecord>(text.as_bytes()).map_err(|error| error.kind());
        assert_eq!(kind("").unwrap_err(), io::ErrorKind::InvalidData);
        assert_eq!(kind(r#"{"format":1,"end":{"ran":"#).unwrap_err(), io::ErrorKind::InvalidData);
        assert_eq!(kind(r#"{"format":2,"end":"any"}"#).unwrap_err(), io::ErrorKind::Unsupported);
    }

    /// What an upgrade finds: written by format 1, in these words.
    #[test]
    fn records_of_format_one_can_be_read() {
        let request = r#"{"format":1,"boot_id":"b","request":{"owner":{"tag":"t","operation":"restore",
            "operation_id":"o"},"program":"/p","args":["a"],"env":[["A","1"]],"cwd":null,"user":"u","timeout_ms":1,
            "output_bytes_max":2,"keep_children":true,"durable":true}}"#;
        let record: RequestRecord = parse(request.as_bytes()).unwrap();
        assert_eq!((record.request.timeout_ms, record.request.keep_children), (1, true));
        let processes = r#"{"format":1,"boot_id":"b","supervisor":{"pid":1,"start_ticks":2},
            "program":{"pid":3,"start_ticks":4},"cgroup":null}"#;
        let record: ProcessesRecord = parse(processes.as_bytes()).unwrap();
        assert_eq!(record.program, Identity { pid: 3, start_ticks: 4 });
        for (ending, expected) in [
            (r#"{"exited":3}"#, Ending::Exited(3)),
            (r#"{"signalled":9}"#, Ending::Signalled(9)),
            (r#""timed-out""#, Ending::TimedOut),
            (r#""cancelled""#, Ending::Cancelled),
        ] {
            let outcome = format!(
                r#"{{"format":1,"end":{{"ran":{{"ending":{ending},"truncated":false,"duration_ms":5,"evidence":null,"lingers":true}}}}}}"#
            );
            let record: OutcomeRecord = parse(outcome.as_bytes()).unwrap();
            assert!(matches!(record.end, End::Ran { ending, lingers: true, .. } if ending == expected));
        }
    }
}
