//! A control group for a command's tree, where one may be had.
//!
//! Where this process's own cgroup v2 may be written and the kernel can kill a group at once (`cgroup.kill`,
//! Linux 5.14), the tree gets a group below it: no process can leave it by forking, and all are killed in one step.
//! Where not (cgroup v1, an ordinary user, the root group), nothing is lost but speed: the supervisor finds the tree
//! through `/proc` in either case. So nothing here fails; there is a group or there is none.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, eaccess};

/// Where cgroup v2 is mounted: alone, or beside v1. Others are so rare that the mount table is not read for them.
const ROOTS: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The group of one command.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes the group for command `id`.
    pub(crate) fn make(id: &str) -> Option<Self> {
        let own = own_group()?;
        let may = |path: &Path| eaccess(path, AccessFlags::W_OK).is_ok();
        if !may(&own) || !may(&own.join("cgroup.kill")) {
            return None;
        }
        let path = own.join(format!("mainstay-{id}"));
        std::fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    /// The group that another process made.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The file by which a process enters, by writing `0`.
    pub(crate) fn door(&self) -> Option<File> {
        File::options().write(true).open(self.0.join("cgroup.procs")).ok()
    }

    /// Who is in it.
    pub(crate) fn pids(&self) -> HashSet<i32> {
        let procs = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        procs.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Sends SIGKILL to all in it at once.
    pub(crate) fn kill(&self) {
        // The tree is killed process by process too, so a failure costs nothing but speed.
        drop(std::fs::write(self.0.join("cgroup.kill"), "1"));
    }

    /// Removes the empty group.
    pub(crate) fn remove(&self) {
        /// A process that was just collected may be counted for a moment longer.
        const TRIES_MAX: u32 = 5;
        for _ in 0..TRIES_MAX {
            match std::fs::remove_dir(&self.0) {
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // Removed, or never to be removed by us: an empty group does no harm.
                Ok(()) | Err(_) => return,
            }
        }
    }
}

/// The folder of this process's own group, if it is a v2 group.
fn own_group() -> Option<PathBuf> {
    let listed = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = v2_group(&listed)?.to_owned();
    ROOTS
        .iter()
        .map(|root| Path::new(root).join(group.trim_start_matches('/')))
        .find(|path| path.join("cgroup.kill").exists())
}

/// `0::/a/b` is the line of v2. A process moved out of our namespace's reach shows a path with `..`.
fn v2_group(listed: &str) -> Option<&str> {
    listed.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| !path.contains(".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_read_from_the_line_of_version_two() {
        assert_eq!(v2_group("9:pids:/x\n0::/system.slice/mainstay.service\n"), Some("/system.slice/mainstay.service"));
        assert_eq!(v2_group("9:pids:/x\n"), None);
        assert_eq!(v2_group("0::/../..\n"), None);
    }
}
