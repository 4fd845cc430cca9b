//! Names of network namespaces that no other test has, and the end of those that a killed test has left behind.
//!
//! A name holds the process that made it, by its id and its start: whoever comes next sees whether that one still lives,
//! and touches nothing of one that does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// What every name of ours begins with.
const PREFIX: &str = "mst-";
/// Where `ip netns` keeps them.
const FOLDER: &str = "/run/netns";
/// The source of every file system that a host's small disk is mounted from begins with this; its maker follows.
const DISK: &str = "mainstay-hosts-";

/// What the names of one test have in common.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}", maker(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What a small disk is mounted from.
pub(crate) fn disk_source() -> String {
    format!("{DISK}{}", maker())
}

fn maker() -> String {
    let me = std::process::id();
    format!("{me}-{}", started(me).unwrap_or_default())
}

/// When a process started, in ticks since boot: with its id, one process for ever.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets, and may hold any character.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// Whether the process that made something of this name, which begins behind the prefix, is gone.
fn is_left_behind(behind_prefix: &str) -> bool {
    let mut parts = behind_prefix.split('-');
    let (Some(Ok(pid)), Some(Ok(start))) = (parts.next().map(str::parse), parts.next().map(str::parse)) else {
        return false; // Not one of ours.
    };
    started(pid) != Some(start)
}

/// Removes what killed tests have left: namespaces, and with them their links, control groups, and small disks. Once in a process.
pub(crate) fn sweep() {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| {
        for name in left_behind(Path::new(FOLDER)) {
            // Another test process may sweep it at the same time: then it is gone, which is what was wanted.
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
        for root in ["systemd", "unified", ""] {
            let root = Path::new("/sys/fs/cgroup").join(root);
            for name in left_behind(&root) {
                remove_groups(&root.join(name), 0);
            }
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (Some(source), Some(at)) = (fields.next(), fields.next()) else { continue };
            if source.strip_prefix(DISK).is_some_and(is_left_behind) {
                // As above.
                let _ = Command::new("umount").arg("-l").arg(at).output();
                let _ = fs::remove_dir(at);
            }
        }
    });
}

/// Removes a control group and those in it, which are empty by now; one that is not is left, and does no harm.
pub(crate) fn remove_groups(group: &Path, depth: usize) {
    /// systemd makes a few levels: slice, service, and what a service makes.
    const DEPTH_MAX: usize = 10;
    if depth < DEPTH_MAX {
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                remove_groups(&entry.path(), depth + 1);
            }
        }
    }
    let _ = fs::remove_dir(group);
}

fn left_behind(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.strip_prefix(PREFIX).is_some_and(is_left_behind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_test_support::TempDir;

    #[test]
    fn what_a_dead_process_made_is_left_behind_and_nothing_else() {
        let folder = TempDir::new();
        let mine = format!("{}-a", unique());
        // No process started at tick 0 but the kernel's own, and none has this id.
        for name in [mine.as_str(), "mst-4194305-0-0-a", "mst-somebody-else", "other-4194305-0-0"] {
            folder.write(name, "");
        }
        assert_eq!(left_behind(folder.path()), ["mst-4194305-0-0-a"]);
    }

    #[test]
    fn no_two_names_are_the_same() {
        assert_ne!(unique(), unique());
    }
}
