//! A block device: its numbers, what it holds, whether it is empty.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::table::Device;

/// What has to be zeroes at either end for a device to count as empty, in bytes: boot sectors, labels and superblocks of
/// file systems, partition tables, RAID and volume managers lie there.
const EMPTY_BYTES: u64 = 1 << 20;

/// What the device at `path` is, following links such as those in /dev/disk; none: nothing is there.
pub(super) fn numbers(path: &str) -> io::Result<Option<Device>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::other("it is no block device"));
    }
    let number = metadata.rdev();
    Ok(Some(Device { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }))
}

/// What the kernel has noted of errors of an ext4 file system.
pub(super) fn errors(device: Device) -> Option<String> {
    let Device { major, minor } = device;
    let block = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let folder = Path::new("/sys/fs/ext4").join(block.file_name()?);
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok().map(|text| text.trim().to_owned());
    let count: u64 = read("errors_count")?.parse().ok()?;
    if count == 0 {
        return None;
    }
    let last = read("last_error_func").filter(|text| !text.is_empty());
    let last = last.map_or_else(String::new, |last| format!(", the last one in {last}"));
    Some(format!("the kernel has noted {count} errors of the file system{last}"))
}

/// Where the first byte is that is no zero, if there is one in the first or the last MiB.
pub(super) fn first_content(path: &Path) -> io::Result<Option<u64>> {
    let mut device = File::open(path)?;
    let size = device.seek(SeekFrom::End(0))?;
    for (from, to) in [(0, size.min(EMPTY_BYTES)), (size.saturating_sub(EMPTY_BYTES), size)] {
        device.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&mut device).take(to - from).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != to - from {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        if let Some(at) = bytes.iter().position(|byte| *byte != 0) {
            return Ok(Some(from + at as u64));
        }
    }
    Ok(None)
}

/// What blkid has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: String,
    pub(super) file_system: bool,
    pub(super) label: Option<String>,
    pub(super) uuid: Option<String>,
}

/// Reads what `blkid -p -o export` says of a device; none: it names nothing.
pub(super) fn found(said: &[u8]) -> Option<Found> {
    let said = String::from_utf8_lossy(said);
    let values: BTreeMap<&str, String> = said
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key, crate::text::one_line(&value.replace('\\', ""), 200)))
        .collect();
    let value = |key: &str| values.get(key).filter(|value| !value.is_empty()).cloned();
    let kind = value("TYPE").or_else(|| value("PTTYPE").map(|table| format!("partition table ({table})")))?;
    Some(Found {
        kind,
        file_system: value("USAGE").is_some_and(|usage| usage == "filesystem"),
        label: value("LABEL"),
        uuid: value("UUID"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blkid_says_is_understood() {
        // Of util-linux 2.38.
        let ext4 = b"DEVNAME=/dev/loop0\nLABEL=my\\ mail\nUUID=3f1c7d1e-0d1a-4c57-8a9e-cf3f2f0e0f11\nVERSION=1.0\n\
            BLOCK_SIZE=4096\nTYPE=ext4\nUSAGE=filesystem\n";
        let expected = Found {
            kind: "ext4".into(),
            file_system: true,
            label: Some("my mail".into()),
            uuid: Some("3f1c7d1e-0d1a-4c57-8a9e-cf3f2f0e0f11".into()),
        };
        assert_eq!(found(ext4), Some(expected));
        let table = found(b"DEVNAME=/dev/sda\nPTUUID=1234\nPTTYPE=dos\n").unwrap();
        assert_eq!((table.kind.as_str(), table.file_system), ("partition table (dos)", false));
        let lvm = found(b"DEVNAME=/dev/sda\nUUID=x\nTYPE=LVM2_member\nUSAGE=raid\n").unwrap();
        assert_eq!((lvm.kind.as_str(), lvm.file_system), ("LVM2_member", false));
        assert_eq!(found(b"DEVNAME=/dev/sda\n"), None);
        assert_eq!(found(b""), None);
    }

    #[test]
    fn a_device_is_empty_when_both_ends_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let size = 4 * EMPTY_BYTES;
        let with = |at: Option<u64>| {
            let file = File::create(&path).unwrap();
            file.set_len(size).unwrap();
            if let Some(at) = at {
                std::os::unix::fs::FileExt::write_all_at(&file, &[7], at).unwrap();
            }
            first_content(&path).unwrap()
        };
        assert_eq!(with(None), None);
        for at in [0, 511, EMPTY_BYTES - 1, size - EMPTY_BYTES, size - 1] {
            assert_eq!(with(Some(at)), Some(at));
        }
        assert_eq!(with(Some(EMPTY_BYTES)), None, "the middle is not looked at");
        fs::write(&path, b"").unwrap();
        assert_eq!(first_content(&path).unwrap(), None);
    }

    #[test]
    fn only_a_block_device_is_one() {
        assert_eq!(numbers("/dev/mainstay-no-such-device").unwrap(), None);
        assert!(numbers("/dev/null").is_err() && numbers("/etc").is_err());
    }
}
