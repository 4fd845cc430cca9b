//! How this node is fenced, prepared as far as it can be before it is needed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::time::Duration;

use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};

use super::By;
use super::command::{Prepared, Program};
use super::watchdog::Watchdog;

/// See proc_sysrq-trigger(5) and the kernel's `Documentation/admin-guide/sysrq.rst`.
const SYSRQ: &str = "/proc/sysrq-trigger";

/// A fence that is ready.
#[derive(Debug)]
pub(super) enum Plan {
    Reboot(Reboot),
    Watchdog(Watchdog),
    Command { program: Program, prepared: Option<Prepared> },
}

/// The kernel restarts at once. First by `b` at sysrq, which restarts without asking any driver; reboot(2) lets all
/// drivers shut down their devices first, while programs go on on the other processors, and one that hangs keeps the
/// machine alive.
#[derive(Debug)]
pub(super) struct Reboot {
    sysrq: Option<File>,
}

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fenced {
    /// It goes on: ask [`Plan::ended`].
    Begun,
    /// It takes its course; nothing more is to be done.
    LeftAlone,
    /// Why not.
    Failed(String),
}

impl Plan {
    /// Keeps the code of [`Self::fence`] in memory: when it is needed the disk may not answer.
    fn keep_in_memory() {
        const PAGE: usize = 4096;
        let code = [Self::fence as *const u8, Reboot::reboot as *const u8, Prepared::go as *const u8];
        let code = code.into_iter().chain([libc::reboot as *const u8, libc::write as *const u8]);
        for function in code {
            let page = function.map_addr(|address| address & !(PAGE - 1));
            // SAFETY: mlock(2) reads the pages in and changes none. Where the second one is not mapped it says so, and the
            // first one is there; where it is not permitted, the guardian has said so when it began.
            unsafe { libc::mlock(page.cast(), 2 * PAGE) };
        }
    }

    /// Prepares it, or says why it would not work. `log` is where a command writes to.
    pub(super) fn new(by: &By, takes: Duration, node: &str, cluster: &str, log: &File) -> Result<Self, String> {
        let told = |what: &str, error: io::Error| format!("[self-fence] by {what}: {error}");
        Self::keep_in_memory();
        match by {
            By::Reboot => Reboot::prepare().map(Self::Reboot).map_err(|error| told("reboot", error)),
            By::Watchdog(device) => Watchdog::new(device, takes)
                .map(Self::Watchdog)
                .map_err(|error| told(&format!("watchdog {}", device.display()), error)),
            By::Command(command) => {
                let wrong = |error| told(&format!("command {}", command.join(" ")), error);
                let program = Program::new(command, node, cluster).map_err(wrong)?;
                let prepared = program.prepare(log).map_err(wrong)?;
                Ok(Self::Command { program, prepared: Some(prepared) })
            }
        }
    }

    /// It will be needed unless it is disarmed. Whatever was lost since is prepared anew.
    pub(super) fn arm(&mut self, log: &File) -> Result<(), String> {
        match self {
            Self::Reboot(_) => Ok(()),
            Self::Watchdog(watchdog) => watchdog.start().map_err(|error| format!("[self-fence] by watchdog: {error}")),
            Self::Command { program, prepared } => {
                if prepared.as_ref().is_none_or(|prepared| prepared.ended().is_some()) {
                    let made = program.prepare(log);
                    *prepared = Some(made.map_err(|error| format!("[self-fence] by command: no process: {error}"))?);
                }
                Ok(())
            }
        }
    }

    /// It is not needed.
    pub(super) fn disarm(&mut self) {
        if let Self::Watchdog(watchdog) = self {
            watchdog.stop();
        }
    }

    /// Does it. Allocates nothing before it has begun.
    pub(super) fn fence(&mut self) -> Fenced {
        match self {
            Self::Reboot(at_once) => Fenced::Failed(at_once.reboot()),
            Self::Watchdog(_) => Fenced::LeftAlone,
            Self::Command { prepared, .. } => match prepared.as_ref().map(Prepared::go) {
                Some(Ok(())) => Fenced::Begun,
                Some(Err(error)) => {
                    *prepared = None;
                    Fenced::Failed(format!("the process that was ready is gone: {error}"))
                }
                None => Fenced::Failed("there is no process for the command".to_owned()),
            },
        }
    }

    /// How a command has ended that was begun.
    pub(super) fn ended(&mut self) -> Option<Result<(), String>> {
        let Self::Command { prepared, .. } = self else { return None };
        let ended = prepared.as_ref()?.ended()?;
        *prepared = None;
        Some(ended)
    }

    /// The watchdog that is open, if there is one.
    pub(super) fn watchdog(&mut self) -> Option<&mut Watchdog> {
        match self {
            Self::Watchdog(watchdog) if watchdog.interval().is_some() => Some(watchdog),
            Self::Watchdog(_) | Self::Reboot(_) | Self::Command { .. } => None,
        }
    }
}

impl Reboot {
    fn prepare() -> io::Result<Self> {
        const CAP_SYS_BOOT: u64 = 1 << 22;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let effective = status
            .lines()
            .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
            .unwrap_or_default();
        // Where it cannot be opened (a container, most likely) there is reboot(2).
        let sysrq = OpenOptions::new().write(true).open(SYSRQ).ok();
        if sysrq.is_none() && effective & CAP_SYS_BOOT == 0 {
            return Err(io::Error::other(
                "this process may neither write to /proc/sysrq-trigger nor restart the machine (CAP_SYS_BOOT): run mainstay as root, or fence by watchdog or command",
            ));
        }
        Ok(Self { sysrq })
    }

    /// Returns only why it did not happen.
    fn reboot(&mut self) -> String {
        let sysrq = self.sysrq.as_mut().map(|sysrq| sysrq.write_all(b"b"));
        let Err(errno) = reboot(RebootMode::RB_AUTOBOOT);
        match sysrq {
            Some(Err(error)) => format!("{SYSRQ}: {error}; reboot(2): {}", errno.desc()),
            Some(Ok(())) => format!("{SYSRQ} has taken it and nothing happened; reboot(2): {}", errno.desc()),
            None => format!("reboot(2): {}", errno.desc()),
        }
    }
}
