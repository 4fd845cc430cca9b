//! What is mounted, as the kernel tells this process (`/proc/thread-self/mountinfo`, proc(5)). Nothing here touches what is
//! mounted, so nothing here hangs when that does.

use std::fs;
use std::io;
use std::path::Path;

/// A block device by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    id: u64,
    parent: u64,
    pub(super) device: Device,
    /// What of the file system is mounted: `/` unless it is a part.
    pub(super) root: String,
    pub(super) point: String,
    pub(super) options: String,
    pub(super) file_system: String,
    /// What it lies on, in the words of whoever mounted it.
    pub(super) source: String,
    pub(super) super_options: String,
}

/// All mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table(Vec<Entry>);

impl Table {
    /// As it is now.
    pub(super) fn read() -> io::Result<Self> {
        let text = fs::read("/proc/thread-self/mountinfo")?;
        let text = String::from_utf8_lossy(&text);
        let entry = |line: &str| {
            entry(line).ok_or_else(|| {
                io::Error::other(format!("a line of /proc/thread-self/mountinfo is not understood: {line}"))
            })
        };
        text.lines().map(entry).collect::<io::Result<_>>().map(Self)
    }

    /// What is mounted at `point`, the lowest first: what is on top is what is seen there.
    pub(super) fn at(&self, point: &str) -> Vec<&Entry> {
        let mut here: Vec<&Entry> = self.0.iter().filter(|entry| entry.point == point).collect();
        let mut ordered = Vec::with_capacity(here.len());
        // The lowest is mounted on something that is not mounted here; each other one on the one below it.
        while let Some(next) = here.iter().position(|entry| !here.iter().any(|other| other.id == entry.parent)) {
            ordered.push(here.remove(next));
        }
        ordered.extend(here);
        ordered
    }

    /// Where a device is mounted, in whole or in part.
    pub(super) fn of(&self, device: Device) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| entry.device == device)
    }

    /// What is mounted beneath `entry`.
    pub(super) fn beneath(&self, entry: &Entry) -> impl Iterator<Item = &Entry> {
        let id = entry.id;
        self.0.iter().filter(move |other| other.parent == id && other.id != id)
    }
}

impl Entry {
    /// Whether the whole file system of `device` is mounted by this.
    pub(super) fn is_of(&self, device: Device) -> bool {
        self.device == device && self.root == "/"
    }

    /// The options of the mount and those of the file system, each once.
    pub(super) fn all_options(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for option in self.options.split(',').chain(self.super_options.split(',')) {
            if !option.is_empty() && !all.iter().any(|known| known == option) {
                all.push(option.to_owned());
            }
        }
        all
    }

    /// Whether nothing can be written by this mount, or to this file system at all.
    pub(super) fn is_read_only(&self) -> bool {
        let stops = |option: &str| matches!(option, "ro" | "emergency_ro" | "shutdown");
        self.options.split(',').any(stops) || self.super_options.split(',').any(stops)
    }

    /// Whether the file system, not the mount alone, takes nothing more.
    pub(super) fn stopped_by_kernel(&self) -> bool {
        self.super_options.split(',').any(|option| matches!(option, "emergency_ro" | "shutdown"))
    }

    /// Whether the file system itself is read-only.
    pub(super) fn is_super_read_only(&self) -> bool {
        self.super_options.split(',').any(|option| option == "ro")
    }
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda1 rw,errors=continue`
fn entry(line: &str) -> Option<Entry> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let (id, parent) = (mount.next()?.parse().ok()?, mount.next()?.parse().ok()?);
    let (major, minor) = mount.next()?.split_once(':')?;
    let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
    let (root, point, options) = (mount.next()?, mount.next()?, mount.next()?);
    let mut system = system.split(' ');
    let (file_system, source) = (system.next()?, system.next()?);
    Some(Entry {
        id,
        parent,
        device,
        root: plain(root),
        point: plain(point),
        options: options.to_owned(),
        file_system: file_system.to_owned(),
        source: plain(source),
        super_options: system.next().unwrap_or_default().to_owned(),
    })
}

/// White space and backslashes are written as a backslash and three octal digits.
fn plain(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The path by which the kernel knows a mount point: what leads there may hold symbolic links, the last part is the mount
/// point itself. Looks only at what lies above it.
pub(super) fn canonical(point: &str) -> io::Result<String> {
    let path = Path::new(point);
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    Ok(fs::canonicalize(above)?.join(name).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table(text.lines().map(|line| entry(line).unwrap_or_else(|| panic!("{line}"))).collect())
    }

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let table = table(
            "22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
             30 22 7:3 / /srv/my\\040mail rw,nosuid,nodev,noatime shared:5 master:1 - ext4 /dev/loop3 rw,errors=remount-ro\n\
             31 30 0:40 /sub /srv/my\\040mail/in\\134side ro - tmpfs none rw\n\
             40 22 0:41 / /proc rw - proc none",
        );
        let [entry] = table.at("/srv/my mail")[..] else { panic!("{table:?}") };
        assert_eq!(entry.device, Device { major: 7, minor: 3 });
        assert_eq!(entry.all_options(), ["rw", "nosuid", "nodev", "noatime", "errors=remount-ro"]);
        assert!(!entry.is_read_only() && entry.is_of(Device { major: 7, minor: 3 }));
        let beneath: Vec<_> = table.beneath(entry).collect();
        assert_eq!(beneath.len(), 1);
        assert_eq!(beneath[0].point, "/srv/my mail/in\\side");
        assert!(beneath[0].is_read_only() && !beneath[0].is_super_read_only());
        assert!(!beneath[0].is_of(beneath[0].device), "a part of a file system is not the file system");
        assert_eq!(table.of(Device { major: 7, minor: 3 }).count(), 1);
        for line in ["", "1 2 3:4 / /x rw", "a 1 3:4 / /x rw - ext4 y rw", "1 2 34 / /x rw - ext4 y rw"] {
            assert_eq!(super::entry(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_lies_over_each_other_is_told_from_below() {
        let table = table(
            "50 30 8:2 / /srv rw - ext4 /dev/top rw\n\
             30 29 8:1 / /srv rw - ext4 /dev/middle rw\n\
             29 22 8:0 / /srv rw - ext4 /dev/low rw",
        );
        let sources: Vec<_> = table.at("/srv").iter().map(|entry| entry.source.clone()).collect();
        assert_eq!(sources, ["/dev/low", "/dev/middle", "/dev/top"]);
    }

    #[test]
    fn a_kernel_that_writes_no_more_is_seen() {
        for (options, read_only, stopped) in [
            ("rw", false, false),
            ("ro", true, false),
            ("rw,emergency_ro,errors=remount-ro", true, true),
            ("rw,shutdown", true, true),
            ("rw,errors=remount-ro", false, false),
        ] {
            let table = table(&format!("30 22 7:0 / /srv rw - ext4 /dev/loop0 {options}"));
            let entry = table.at("/srv")[0];
            assert_eq!((entry.is_read_only(), entry.stopped_by_kernel()), (read_only, stopped), "{options}");
        }
    }

    #[test]
    fn the_real_table_is_read() {
        assert!(!Table::read().unwrap().at("/").is_empty());
    }

    #[test]
    fn what_leads_to_a_mount_point_may_be_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink(base.join("real"), base.join("link")).unwrap();
        let asked = base.join("link/point");
        assert_eq!(canonical(asked.to_str().unwrap()).unwrap(), base.join("real/point").to_string_lossy());
        assert!(canonical("/nowhere/at/all").is_err() && canonical("/").is_err());
    }
}
