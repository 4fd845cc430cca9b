//! Processes as `/proc` shows them: who a process is, who descends from whom, who carries a command's marker.
//!
//! A process id alone identifies nothing, since it is used again; with the time its process started, in clock ticks
//! since boot, it does. No signal goes to a process that is not this one's own child but through
//! [`Identity::signal`], which holds a process by a handle before it compares the two.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::sys;
use crate::types::{MARKER, ProcessInfo};

/// Most bytes read of one process's environment: the kernel's own limit for arguments and environment is of this order.
const ENVIRON_BYTES_MAX: u64 = 4 << 20;
/// Most processes listed as evidence: a tree that is larger is not read by anybody.
const LISTED_MAX: usize = 64;

/// A process, and no other that gets its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`.
    pub(crate) start_ticks: u64,
}

impl Identity {
    /// The process that has this number now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: i32) -> io::Result<Self> {
        Stat::read(pid).map(|stat| stat.identity())
    }

    /// Does it still run? A zombie does not.
    #[must_use]
    pub fn runs(self) -> bool {
        Stat::read(self.pid).is_ok_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_dead())
    }

    /// A handle on it, or `None` when it is gone or its number is another's.
    pub(crate) fn pidfd(self) -> io::Result<Option<OwnedFd>> {
        let pidfd = match sys::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // In this order: if the number means the right process now, it did so when the handle was made.
        match Stat::read(self.pid) {
            Ok(stat) if stat.start_ticks == self.start_ticks => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends it a signal. Ok(false) when it is gone.
    ///
    /// # Errors
    /// When this process may not.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        let Some(pidfd) = self.pidfd()? else {
            return Ok(false);
        };
        match sys::pidfd_send_signal(&pidfd, signal) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What `/proc/PID/stat` says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) ppid: i32,
    pub(crate) session: i32,
    pub(crate) start_ticks: u64,
    pub(crate) state: char,
    pub(crate) comm: String,
}

impl Stat {
    pub(crate) fn read(pid: i32) -> io::Result<Self> {
        let mut buffer = [0; 1024];
        let mut file = std::fs::File::open(format!("/proc/{pid}/stat"))?;
        // One read gives the line as it is at one moment, and it is never longer.
        let length = file.read(&mut buffer)?;
        Self::parse(&String::from_utf8_lossy(&buffer[..length])).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not as proc(5) says"))
        })
    }

    /// The name may hold anything, also blanks and parentheses; nothing after it may.
    fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `fields[0]` is what proc(5) numbers as field 3.
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            state: fields.first()?.chars().next()?,
            ppid: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { pid: self.pid, start_ticks: self.start_ticks }
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// The processes of the machine at about one moment. Some may have gone, or come, while it was read.
pub(crate) struct Table(Vec<Stat>);

impl Table {
    pub(crate) fn read() -> io::Result<Self> {
        let mut stats = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match Stat::read(pid) {
                Ok(stat) => stats.push(stat),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(stats))
    }

    /// All that descend from one of `roots`, roots left out, parents before children. Zombies are among them.
    pub(crate) fn descendants(&self, roots: &HashSet<i32>) -> Vec<&Stat> {
        let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
        for stat in &self.0 {
            children.entry(stat.ppid).or_default().push(stat);
        }
        let mut seen = roots.clone();
        let mut found: Vec<&Stat> = Vec::new();
        let mut queue: Vec<i32> = roots.iter().copied().collect();
        while let Some(pid) = queue.pop() {
            for child in children.get(&pid).into_iter().flatten() {
                if seen.insert(child.pid) {
                    found.push(child);
                    queue.push(child.pid);
                }
            }
        }
        found
    }

    /// The living processes of a command whose supervisor is dead: those that carry its marker, the program, all in
    /// its session while it lives, all in `pids` (its control group), and whoever descends from one of these.
    /// A program that wipes its environment and leaves its session after its parents died is found only by its
    /// control group.
    pub(crate) fn of_command(&self, id: &str, program: Option<Identity>, pids: &HashSet<i32>) -> Vec<&Stat> {
        let marker = format!("{MARKER}={id}");
        let program = program.filter(|program| self.0.iter().any(|stat| stat.identity() == *program));
        let is_own = |stat: &Stat| {
            pids.contains(&stat.pid)
                || program.is_some_and(|program| stat.pid == program.pid || stat.session == program.pid)
                || has_in_environ(stat.pid, &marker)
        };
        let own: Vec<&Stat> = self.0.iter().filter(|stat| is_own(stat)).collect();
        let roots = own.iter().map(|stat| stat.pid).collect();
        let below = self.descendants(&roots);
        own.into_iter().chain(below).filter(|stat| !stat.is_dead()).collect()
    }
}

/// Was the process started with this variable? False too if that may not be looked at.
fn has_in_environ(pid: i32, variable: &str) -> bool {
    let mut environ = Vec::new();
    let Ok(file) = std::fs::File::open(format!("/proc/{pid}/environ")) else {
        return false;
    };
    if file.take(ENVIRON_BYTES_MAX).read_to_end(&mut environ).is_err() {
        return false;
    }
    environ.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}

/// For evidence: where each of these waits, and how many more there were.
pub(crate) fn describe(stats: &[&Stat]) -> (Vec<ProcessInfo>, u32) {
    let listed = stats
        .iter()
        .take(LISTED_MAX)
        .map(|stat| ProcessInfo {
            pid: stat.pid,
            ppid: stat.ppid,
            state: stat.state,
            comm: stat.comm.clone(),
            wchan: std::fs::read_to_string(Path::new("/proc").join(stat.pid.to_string()).join("wchan"))
                .ok()
                .map(|text| text.trim().to_owned())
                .filter(|text| !text.is_empty() && text != "0"),
        })
        .collect();
    (listed, u32::try_from(stats.len().saturating_sub(LISTED_MAX)).unwrap_or(u32::MAX))
}

/// How long ago a process started, in ms; 0 if the machine's clock cannot be read.
pub(crate) fn age_ms(start_ticks: u64) -> u64 {
    let up_ms = std::fs::read_to_string("/proc/uptime").ok().and_then(|text| {
        let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
        Some((seconds * 1000.0) as u64)
    });
    let ticks_per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    match (up_ms, ticks_per_second.and_then(|ticks| u64::try_from(ticks).ok())) {
        (Some(up_ms), Some(ticks)) if ticks > 0 => up_ms.saturating_sub(start_ticks.saturating_mul(1000) / ticks),
        _ => 0,
    }
}

/// The process went while it was looked at.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "4242 (a) R (b) S 17 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 11 12";

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        let stat = Stat::parse(LINE).unwrap();
        assert_eq!((stat.comm.as_str(), stat.state, stat.ppid), ("a) R (b", 'S', 17));
        assert_eq!((stat.session, stat.start_ticks), (4242, 987_654));
    }

    #[test]
    fn a_line_cut_short_is_refused() {
        assert_eq!(Stat::parse("4242 (a) S 17 4242"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn we_run_and_a_stranger_with_our_number_does_not() {
        let own = Identity::of(std::process::id().cast_signed()).unwrap();
        assert!(own.runs());
        assert!(own.pidfd().unwrap().is_some());
        let other = Identity { start_ticks: own.start_ticks + 1, ..own };
        assert!(!other.runs());
        assert!(other.pidfd().unwrap().is_none());
        // SIGKILL at ourselves, had the start time not told the difference.
        assert!(!other.signal(Signal::SIGKILL).unwrap());
    }

    #[test]
    fn descendants_come_parents_first_and_a_circle_ends() {
        let stat = |pid, ppid| Stat { pid, ppid, session: 1, start_ticks: 1, state: 'S', comm: String::new() };
        let table = Table(vec![stat(5, 4), stat(4, 3), stat(3, 2), stat(2, 5), stat(9, 1)]);
        let pids: Vec<i32> = table.descendants(&HashSet::from([3])).iter().map(|stat| stat.pid).collect();
        assert_eq!(pids, [4, 5, 2]);
    }

    #[test]
    fn a_command_is_found_by_session_only_while_its_program_lives() {
        let stat = |pid, session| Stat { pid, ppid: 1, session, start_ticks: 7, state: 'S', comm: String::new() };
        // Numbers above any pid_max, so that no real environment is found for them.
        let (program, child) = (i32::MAX - 1, i32::MAX);
        let identity = Identity { pid: program, start_ticks: 7 };
        let found = |table: &Table, identity| table.of_command("none", Some(identity), &HashSet::new()).len();
        let both = Table(vec![stat(program, program), stat(child, program)]);
        assert_eq!(found(&both, identity), 2);
        assert_eq!(found(&both, Identity { start_ticks: 8, ..identity }), 0, "another process has the number");
        assert_eq!(found(&Table(vec![stat(child, program)]), identity), 0);
        assert_eq!(found(&Table(vec![stat(program, 1)]), identity), 1, "before it has a session of its own");
    }

    #[test]
    fn our_own_age_is_less_than_the_machines() {
        let own = Identity::of(std::process::id().cast_signed()).unwrap();
        assert!(age_ms(own.start_ticks) <= age_ms(0));
        assert!(age_ms(0) > 0);
    }
}
