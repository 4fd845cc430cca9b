//! Who uses a file system: its processes, and what else keeps it from being unmounted.
//!
//! Everything is read from /proc and /sys. A process counts when its working directory, its root, its program, an open
//! file or a mapped one lies on the device; that holds across mount namespaces too. What a process that hangs would make
//! hang as well is not asked of it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::table::{Device, Entry, Table};
use crate::text;

/// How many are named in a message; the rest is counted.
const NAMED_MAX: usize = 10;
/// How much of a command line or path is told, in bytes.
const WORDS_BYTES_MAX: usize = 200;
/// The system's first process, which is never ended.
const INIT: u32 = 1;

/// A process that uses a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) pid: u32,
    pub(super) command: String,
    pub(super) user: String,
    pub(super) by: String,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {}, user {}; {})", self.command, self.pid, self.user, self.by)
    }
}

impl User {
    /// Whether it may be ended at all.
    pub(super) fn may_be_ended(&self) -> bool {
        self.pid != INIT && self.pid != std::process::id()
    }
}

/// Every process that uses the file system of `device`.
pub(super) fn all(device: Device) -> io::Result<Vec<User>> {
    let names = names();
    let mut users = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // A process that goes away meanwhile uses nothing.
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(by) = by(pid, device) {
            users.push(User { pid, command: command(pid), user: user(pid, &names), by });
        }
    }
    users.sort_by_key(|user| user.pid);
    Ok(users)
}

/// By what `pid` uses the file system of `device`.
pub(super) fn by(pid: u32, device: Device) -> Option<String> {
    let process = format!("/proc/{pid}");
    for what in ["cwd", "root", "exe"] {
        if lies_on(&format!("{process}/{what}"), device) {
            return Some(what.to_owned());
        }
    }
    let files = fs::read_dir(format!("{process}/fd")).into_iter().flatten().flatten();
    for file in files {
        if lies_on(&file.path().to_string_lossy(), device) {
            let path = fs::read_link(file.path()).unwrap_or_default();
            return Some(text::one_line(&path.to_string_lossy(), WORDS_BYTES_MAX));
        }
    }
    // The kernel looks at a process's memory for these, and waits for one that hangs in it.
    if hangs(pid) {
        return None;
    }
    let maps = fs::read_to_string(format!("{process}/maps")).unwrap_or_default();
    maps.lines().any(|line| mapped_on(line, device)).then(|| "map".to_owned())
}

/// Without asking the file system: one that hangs does not hold this up.
fn lies_on(path: &str, device: Device) -> bool {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    statx(CWD, path, flags, StatxFlags::TYPE)
        .is_ok_and(|found| (found.stx_dev_major, found.stx_dev_minor) == (device.major, device.minor))
}

/// `7f1c...-7f1c... r--p 00000000 07:03 131 /srv/mail/lib.so`
fn mapped_on(line: &str, device: Device) -> bool {
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let numbers = line.split_whitespace().nth(3).and_then(|numbers| numbers.split_once(':'));
    numbers.is_some_and(|(major, minor)| (number(major), number(minor)) == (Some(device.major), Some(device.minor)))
}

/// Whether it waits in the kernel, and cannot be woken.
fn hangs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('D'))
}

/// Program and arguments; the short name of one that hangs.
fn command(pid: u32) -> String {
    let line = if hangs(pid) { Vec::new() } else { fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default() };
    let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    if !line.is_empty() {
        return text::one_line(&line, WORDS_BYTES_MAX);
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text::one_line(name.trim_end(), WORDS_BYTES_MAX)
}

/// The name of whom it runs as, or the number.
fn user(pid: u32, names: &BTreeMap<u32, String>) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    // Real, effective, saved, for files.
    let Some(id) = ids.split_whitespace().nth(1).and_then(|id| id.parse().ok()) else { return "?".to_owned() };
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// The users of this node's own file: a directory service may lie on the very file system that is looked at.
fn names() -> BTreeMap<u32, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, text::one_line(name, WORDS_BYTES_MAX)))
    };
    text.lines().filter_map(name).collect()
}

/// What other than processes keeps it from being unmounted: what is mounted beneath it, what has a file of it for its disk.
pub(super) fn other_holders(table: &Table, entry: &Entry) -> Vec<String> {
    let mut holders: Vec<String> = table
        .beneath(entry)
        .map(|beneath| format!("{} is mounted at {} beneath it", beneath.source, beneath.point))
        .collect();
    let inside = |path: &str| Path::new(path).starts_with(&entry.point);
    for block in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(block.path().join("loop/backing_file")).unwrap_or_default();
        if inside(file.trim_end()) {
            holders.push(format!("{} is the disk /dev/{}", file.trim_end(), block.file_name().to_string_lossy()));
        }
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    holders.extend(
        swaps
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .filter(|path| inside(path))
            .map(|path| format!("{path} is swap space")),
    );
    holders
}

/// Names them, the first of them each by itself.
pub(super) fn listed(users: &[User], others: &[String]) -> String {
    let all: Vec<String> = users.iter().map(ToString::to_string).chain(others.iter().cloned()).collect();
    let mut listed = all.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED_MAX {
        listed.push_str(&format!(", and {} more", all.len() - NAMED_MAX));
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn device_of(path: &Path) -> Device {
        let number = path.metadata().unwrap().dev();
        Device { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
    }

    #[test]
    fn this_process_is_found_by_what_it_has_open() {
        let own = std::process::id();
        let exe = std::env::current_exe().unwrap();
        let found = all(device_of(&exe)).unwrap();
        let user = found.iter().find(|user| user.pid == own).unwrap_or_else(|| panic!("{found:?}"));
        assert!(!user.may_be_ended() && !user.command.is_empty() && user.user != "?", "{user}");
        assert_eq!(by(own, Device { major: 7, minor: 4242 }), None);
    }

    #[test]
    fn a_mapping_is_told_by_its_device() {
        let line = "7f1c0000-7f1c1000 r--p 00000000 07:1f 131 /srv/mail/lib.so";
        assert!(mapped_on(line, Device { major: 7, minor: 31 }));
        assert!(!mapped_on(line, Device { major: 7, minor: 3 }));
        assert!(!mapped_on("7f1c0000-7f1c1000 rw-p", Device { major: 0, minor: 0 }));
    }

    #[test]
    fn a_message_names_some_and_counts_the_rest() {
        let user = |pid| User { pid, command: "/usr/bin/db -x".into(), user: "app".into(), by: "cwd".into() };
        assert_eq!(
            listed(&[user(7)], &["x is swap space".into()]),
            "/usr/bin/db -x (pid 7, user app; cwd), x is swap space"
        );
        let many: Vec<User> = (10..25).map(user).collect();
        assert!(listed(&many, &[]).ends_with("(pid 19, user app; cwd), and 5 more"));
        assert!(!user(1).may_be_ended() && user(2).may_be_ended());
    }
}
