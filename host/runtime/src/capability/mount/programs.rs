//! The programs of the system by which file systems are mounted, looked at, checked and made: where they are, how they are
//! run, and what their exit codes mean. They run under a supervisor, so a kernel that does not come back holds up nobody.

use std::path::{Path, PathBuf};

use mainstay_supervisor::{Ending, Outcome, check_program};

use super::options::FILE_SYSTEMS;
use crate::capability::{CallState, Fault, FaultKind, blocked, fault};
use crate::text;

/// Where a system has them, in this order. Nothing is looked up in PATH.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How much is told of what a program said, in bytes: its last lines.
pub(super) const SAID_BYTES_MAX: usize = 1000;

/// A program that has ended by itself.
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Ended {
    /// The end of what it said, on one line.
    pub(super) fn said(&self) -> String {
        let mut said = text::tail(&self.stdout, SAID_BYTES_MAX);
        let complaint = text::tail(&self.stderr, SAID_BYTES_MAX);
        if !said.is_empty() && !complaint.is_empty() {
            said.push('\n');
        }
        said.push_str(&complaint);
        text::one_line(&said, SAID_BYTES_MAX)
    }

    /// The fault that it is, unless it was wanted.
    pub(super) fn fault(&self, kind: FaultKind, code: &str, doing: &str) -> Fault {
        let said = self.said();
        let said = if said.is_empty() { "it said nothing".to_owned() } else { said };
        fault(kind, code, format!("{doing}: exit code {}: {said}", self.code))
    }
}

/// The programs for a file system of this sort: to mount it, to look at it, to check it, to make it.
pub(super) fn needed(file_system: &str) -> Vec<String> {
    let mut needed: Vec<String> = ["mount", "umount", "blkid"].map(str::to_owned).to_vec();
    if FILE_SYSTEMS.contains(&file_system) {
        // xfs is not checked, and repaired by hand.
        needed.extend((file_system == "ext4").then(|| check(file_system)));
        needed.push(make(file_system));
    }
    needed
}

/// The name of the program that checks.
pub(super) fn check(file_system: &str) -> String {
    format!("fsck.{file_system}")
}

/// The name of the program that makes.
pub(super) fn make(file_system: &str) -> String {
    format!("mkfs.{file_system}")
}

/// Where it is, if it is there and may be run.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| check_program(path).is_ok())
}

impl CallState {
    /// Runs one of them to its end.
    pub(super) async fn run_program(&mut self, name: &str, args: &[&str]) -> Result<Ended, Fault> {
        let wanted = name.to_owned();
        let found = self.host.file_operation(self.limit(None), move || find(&wanted)).await;
        let Some(program) = found.map_err(|error| blocked("looking for a program", error))? else {
            let message = format!(
                "there is no program {name} that may be run in {}; install it on this node",
                FOLDERS.join(", ")
            );
            return Err(fault(FaultKind::NotFound, "no-such-program", message));
        };
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let Outcome { ending, stdout, stderr, duration_ms, .. } = self.run_own(program, args).await?;
        match ending {
            Ending::Exited(code) => Ok(Ended { code, stdout, stderr }),
            Ending::TimedOut => {
                let message = format!("{name} did not end within {duration_ms} ms and was ended");
                Err(fault(FaultKind::Timeout, "timeout", message))
            }
            Ending::Signalled(signal) => {
                let said = text::one_line(&text::tail(&stderr, SAID_BYTES_MAX), SAID_BYTES_MAX);
                let message = format!("{name} was ended by signal {signal}: {said}");
                Err(fault(FaultKind::Closed, "command-lost", message))
            }
            Ending::Cancelled => {
                let message = format!("{name} was ended from outside of this call");
                Err(fault(FaultKind::Closed, "command-cancelled", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_system_has_its_programs() {
        assert_eq!(needed("ext4"), ["mount", "umount", "blkid", "fsck.ext4", "mkfs.ext4"]);
        assert_eq!(needed("xfs"), ["mount", "umount", "blkid", "mkfs.xfs"]);
        assert!(find("mainstay-no-such-program").is_none() && find("mount").is_some());
    }

    #[test]
    fn what_a_program_said_is_told_on_one_line() {
        let ended = Ended { code: 4, stdout: b"a: UNEXPECTED\n".to_vec(), stderr: b"run fsck\x1b[0m\n".to_vec() };
        assert_eq!(ended.said(), "a: UNEXPECTED run fsck[0m");
        let fault =
            Ended { code: 1, stdout: vec![], stderr: vec![] }.fault(FaultKind::Failed, "check", "checking /dev/x");
        assert_eq!(fault.message, "checking /dev/x: exit code 1: it said nothing");
    }
}
