//! File systems at the mount points that are granted: of a granted volume, or of the device that the grant names.
//!
//! Everything has the call's deadline. What does not come back from the kernel in time is the fault `timeout`; what hangs
//! still when it is asked for again is `stuck`.
//!
//! ```no_run
//! # fn main() -> Result<(), mainstay_sdk::Fault> {
//! use mainstay_sdk::mount::{self, Source};
//! let source = Source::Volume("store".into());
//! mount::check(&source, "ext4")?;
//! mount::mount(&source, "/srv/mail", "ext4", &["noatime".into()])?;
//! # Ok(()) }
//! ```

use std::fmt;
use std::time::Duration;

use crate::{Details, Fault, seam};

/// What a file system lies on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A granted volume, attached as a block device.
    Volume(String),
    /// A block device, by the path that the grant of the mount point names.
    Device(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(name) => write!(f, "the volume {name}"),
            Self::Device(path) => f.write_str(path),
        }
    }
}

/// Free and all, for an ordinary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All of it.
    pub size_bytes: u64,
    /// What is free.
    pub free_bytes: u64,
    /// Files there can be.
    pub inodes: u64,
    /// Files there can be besides those there are.
    pub free_inodes: u64,
}

/// A file system that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// What it lies on, if that is granted with this mount point. None: it is somebody else's.
    pub source: Option<Source>,
    /// What it lies on, as the kernel tells it.
    pub device: String,
    /// Of what sort it is.
    pub file_system: String,
    /// Those of the mount and those of the file system.
    pub options: Vec<String>,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// Why the kernel writes no more, or what went wrong, if it has noted errors.
    pub trouble: Option<String>,
    /// None: the file system did not say in time.
    pub room: Option<Room>,
    /// How many file systems lie at this point over each other, this one on top.
    pub layers: u32,
    /// Named extras.
    pub details: Details,
}

/// What is at a mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whether the folder is there.
    pub folder: bool,
    /// What is mounted there.
    pub mounted: Option<Mounted>,
}

/// What a block device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// `ext4`, `xfs`, `swap`, `LVM2_member`, ...
    pub kind: String,
    /// Whether that is a file system.
    pub file_system: bool,
    /// Its label.
    pub label: Option<String>,
    /// Its UUID.
    pub uuid: Option<String>,
}

/// What a check of a file system came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was wrong.
    Clean,
    /// What was wrong is right now, and nothing was lost that a crash does not lose.
    Repaired,
    /// Not without a person.
    Damaged,
    /// This sort of file system repairs itself when it is mounted: nothing was looked at.
    AtMount,
}

/// See [`check`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it came to.
    pub outcome: Outcome,
    /// The last words of the program.
    pub said: String,
}

/// A process that uses a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub pid: u32,
    /// Program and arguments.
    pub command: String,
    /// The name of its user, or the number of one without a name.
    pub user: String,
    /// By what: `cwd`, `root`, `exe`, `map`, or a file that it has open.
    pub by: String,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}, user {}; {})", self.command, self.pid, self.user, self.by)
    }
}

/// What is at `point`. Changes nothing.
///
/// # Errors
/// `denied` when the mount point is not granted; `unavailable` when it is not known whether what is mounted there is what is
/// granted.
pub fn look(point: &str) -> Result<Place, Fault> {
    seam::mount_look(point)
}

/// What a device holds; none: nothing that is known. Changes nothing.
///
/// # Errors
/// Code `not-attached` when there is no such device now, `ambiguous` when it holds traces of several things.
pub fn probe(source: &Source) -> Result<Option<Content>, Fault> {
    seam::mount_probe(source)
}

/// Makes a file system, only where [`probe`] finds nothing and the first and the last MiB are zeroes.
///
/// # Errors
/// Code `not-empty` where that is not so, `mounted` when it is mounted.
pub fn make_file_system(source: &Source, file_system: &str) -> Result<(), Fault> {
    seam::mount_make_file_system(source, file_system)
}

/// Checks a file system that is not mounted, and repairs what can be repaired without asking anybody.
///
/// # Errors
/// Code `mounted` when it is mounted, `check` when the program could not look.
pub fn check(source: &Source, file_system: &str) -> Result<Checked, Fault> {
    seam::mount_check(source, file_system)
}

/// Mounts, always with `nosuid` and `nodev`; which other options may be used is listed in `wit/README.md`. False: it is
/// mounted there already.
///
/// # Errors
/// Codes `mount-option`, `foreign-mount`, `mounted`, `no-mount-point`, `damaged`, `mount`.
pub fn mount(source: &Source, point: &str, file_system: &str, options: &[String]) -> Result<bool, Fault> {
    seam::mount_mount(source, point, file_system, options)
}

/// Unmounts what lies on `source`, and nothing else. False: it is not mounted there.
///
/// # Errors
/// Code `busy` when it is used, and the message names who does; `covered` when something else lies over it.
pub fn unmount(source: &Source, point: &str) -> Result<bool, Fault> {
    seam::mount_unmount(source, point)
}

/// Who uses the file system that lies on `source` and is mounted at `point`. Changes nothing.
///
/// # Errors
/// `denied` when that is not granted.
pub fn users(source: &Source, point: &str) -> Result<Vec<User>, Fault> {
    seam::mount_users(source, point)
}

/// Ends them, and nobody else: SIGTERM, after `grace` SIGKILL. Returns those that were asked to end, when they are gone.
///
/// # Errors
/// Code `busy` for those that are not gone, and for those that are never ended.
pub fn end_users(source: &Source, point: &str, grace: Duration) -> Result<Vec<User>, Fault> {
    seam::mount_end_users(source, point, crate::ms(grace))
}

/// Writes a small hidden file to the file system, to the disk, and reads it from there. How long that took.
///
/// # Errors
/// Code `marker` when it cannot be written or read, `timeout` when that takes longer than `time`, `stuck` when an earlier one
/// has not come back yet.
pub fn write_marker(source: &Source, point: &str, time: Duration) -> Result<Duration, Fault> {
    seam::mount_write_marker(source, point, crate::ms(time)).map(|ms| Duration::from_millis(ms.into()))
}

/// Which of the programs are not there that it takes to mount, check and make such a file system on this node.
///
/// # Errors
/// Code `file-system` when the host knows none of that name.
pub fn missing_programs(file_system: &str) -> Result<Vec<String>, Fault> {
    seam::mount_missing_programs(file_system)
}
