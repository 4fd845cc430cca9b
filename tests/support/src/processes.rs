//! Which processes belong to a test, and how all of them are ended.
//!
//! A process belongs if it carries the marker in its environment, or was started from a folder of the test
//! (its command line names it), or descends from one that does. Neither a session of its own nor a double
//! fork gets it out of that. It never looks at names, and touches nothing that does not belong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::poll_until;

/// How long killed processes may take to vanish, in s: a big one has much memory to give back, and the
/// machine may be swapping.
const VANISH_S_MAX: u64 = 30;
/// How often new processes are looked for before they are killed. Each round stops what it finds, so a
/// second one finds only what was started meanwhile; a tree that outruns this many is reported.
const ROUNDS_MAX: usize = 100;

/// By what a test's processes are known.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// The name of an environment variable.
    pub(crate) variable: Option<String>,
    /// Folders that are the test's alone.
    pub(crate) folders: Vec<PathBuf>,
}

/// One process, as `/proc/PID/stat` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    parent: i32,
    name: String,
    state: char,
    /// In clock ticks since boot; with the pid it names one process for ever.
    start: u64,
}

impl Process {
    /// Dead already, and only waiting for its parent to look.
    fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.pid, self.name, self.state)
    }
}

/// The process `pid`, if there is one.
pub(crate) fn process(pid: i32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in brackets and may hold spaces and brackets itself, so the last bracket counts.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

fn all() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that ended between the two reads is not there any more.
    pids.filter_map(process).map(|process| (process.pid, process)).collect()
}

impl Mark {
    /// What belongs and lives.
    pub(crate) fn living(&self) -> Vec<Process> {
        self.members(&BTreeMap::new()).into_values().filter(|process| !process.is_zombie()).collect()
    }

    /// What belongs, dead or alive; `known` does in any case, and what descends from it.
    fn members(&self, known: &BTreeMap<i32, Process>) -> BTreeMap<i32, Process> {
        let all = all();
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        let mut members: BTreeMap<i32, Process> = all
            .values()
            .filter(|process| process.pid != me && process.pid != 1)
            .filter(|process| {
                known.get(&process.pid).is_some_and(|it| it.start == process.start) || self.is_on(process)
            })
            .map(|process| (process.pid, process.clone()))
            .collect();
        loop {
            let further: Vec<Process> = all
                .values()
                .filter(|process| process.pid != me && !members.contains_key(&process.pid))
                .filter(|process| members.contains_key(&process.parent))
                .cloned()
                .collect();
            if further.is_empty() {
                return members;
            }
            members.extend(further.into_iter().map(|process| (process.pid, process)));
        }
    }

    fn is_on(&self, process: &Process) -> bool {
        if let Some(variable) = &self.variable {
            // Another user's process cannot be read, and is not ours.
            let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            let variable = format!("{variable}=");
            if environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(variable.as_bytes())) {
                return true;
            }
        }
        self.folders.iter().any(|folder| names(process, "cmdline", folder))
    }

    /// Ends all that belongs. What is left after all is given back.
    ///
    /// Everything is stopped before anything is killed: what is stopped starts no further process, and no
    /// process loses the parent by which it is known.
    pub(crate) fn end(&self) -> Vec<Process> {
        let mut stopped = BTreeMap::new();
        for _ in 0..ROUNDS_MAX {
            let members = self.members(&stopped);
            let new: Vec<_> = members
                .into_iter()
                .filter(|(pid, process)| !stopped.contains_key(pid) && !process.is_zombie())
                .collect();
            if new.is_empty() {
                break;
            }
            for (_, process) in &new {
                send(process, Signal::SIGSTOP);
            }
            stopped.extend(new);
        }
        for process in stopped.values() {
            send(process, Signal::SIGKILL);
        }
        let alive = |old: &Process| process(old.pid).filter(|now| now.start == old.start && !now.is_zombie());
        let gone = poll_until(Duration::from_secs(VANISH_S_MAX), || stopped.values().all(|old| alive(old).is_none()));
        if gone { self.living() } else { stopped.values().filter_map(alive).collect() }
    }
}

/// What lives and names a path below `folder` in its command line or its environment.
pub(crate) fn naming(folder: &Path) -> Vec<Process> {
    living_with(folder, &["cmdline", "environ"])
}

/// What lives and names a path below `folder` in its command line.
pub(crate) fn started_from(folder: &Path) -> Vec<Process> {
    living_with(folder, &["cmdline"])
}

/// Ends that, and what descends from it. What is left after all is given back.
pub(crate) fn end_by_folder(folder: &Path) -> Vec<Process> {
    Mark { variable: None, folders: vec![folder.to_owned()] }.end()
}

fn living_with(folder: &Path, files: &[&str]) -> Vec<Process> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let names_it = |process: &Process| files.iter().any(|file| names(process, file, folder));
    all().into_values().filter(|process| process.pid != me && !process.is_zombie() && names_it(process)).collect()
}

/// Does this file of its `/proc` entry name a path below `folder`?
fn names(process: &Process, file: &str, folder: &Path) -> bool {
    let bytes = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).contains(&format!("{}/", folder.display()))
}

fn send(to: &Process, signal: Signal) {
    if process(to.pid).is_some_and(|now| now.start == to.start) {
        // It may have ended by itself since, or belong to another user: what is left is looked for afterwards.
        let _ = kill(Pid::from_raw(to.pid), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_confuse() {
        let stat = "12 (a) b (c) S 7 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        let process = parse(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.state, process.start), (12, 7, 'S', 4711));
        assert_eq!(process.to_string(), "12 (a) b (c, S)");
    }

    #[test]
    fn this_process_is_seen_and_never_belongs() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(!process(me).unwrap().is_zombie());
        let path = std::env::current_exe().unwrap();
        let mark = Mark { variable: Some("PATH".to_owned()), folders: vec![path.parent().unwrap().to_owned()] };
        assert!(!mark.living().iter().any(|process| process.pid == me));
    }
}
