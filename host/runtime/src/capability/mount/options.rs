//! Which mount options a kit may use: those on a list, and no others. The list is in `wit/README.md` too.
//!
//! What is not on it gives away what the file system holds (`dev`, `suid`), does something other than mounting (`bind`,
//! `remount`), or breaks the promise of a mirror (`nobarrier`, `norecovery`, `errors=continue`).

/// The file systems there are: what `mount`, `check` and `make-file-system` take.
pub(super) const FILE_SYSTEMS: [&str; 2] = ["ext4", "xfs"];

/// Added to every mount, behind everything else, so that they count.
const ALWAYS: &str = "nosuid,nodev";

/// The longest value of an option, in bytes: a number with a unit.
const VALUE_BYTES_MAX: usize = 16;

/// What the value of an option may be.
enum Value {
    /// It has none.
    None,
    /// A number, perhaps with a unit.
    Number,
    /// It may have one or not.
    Maybe,
    /// One of these.
    Of(&'static [&'static str]),
}

use Value::{Maybe, None as No, Number, Of};

const ANY: &[(&str, Value)] = &[
    ("rw", No),
    ("ro", No),
    ("noatime", No),
    ("relatime", No),
    ("strictatime", No),
    ("nodiratime", No),
    ("lazytime", No),
    ("nolazytime", No),
    ("exec", No),
    ("noexec", No),
    ("nosuid", No),
    ("nodev", No),
    ("sync", No),
    ("dirsync", No),
    ("discard", No),
    ("nodiscard", No),
    ("usrquota", No),
    ("grpquota", No),
    ("prjquota", No),
    ("noquota", No),
];

const EXT4: &[(&str, Value)] = &[
    ("errors", Of(&["remount-ro", "panic"])),
    ("data", Of(&["ordered", "journal", "writeback"])),
    ("commit", Number),
    ("barrier", Of(&["1"])),
    ("acl", No),
    ("noacl", No),
    ("user_xattr", No),
    ("nouser_xattr", No),
    ("delalloc", No),
    ("nodelalloc", No),
    ("auto_da_alloc", No),
    ("noauto_da_alloc", No),
    ("journal_checksum", No),
    ("quota", No),
    ("init_itable", Maybe),
    ("noinit_itable", No),
    ("stripe", Number),
    ("inode_readahead_blks", Number),
    ("max_batch_time", Number),
    ("min_batch_time", Number),
];

const XFS: &[(&str, Value)] = &[
    ("inode64", No),
    ("inode32", No),
    ("largeio", No),
    ("nolargeio", No),
    ("swalloc", No),
    ("wsync", No),
    ("allocsize", Number),
    ("logbufs", Number),
    ("logbsize", Number),
    ("uquota", No),
    ("gquota", No),
    ("pquota", No),
];

/// Whether this is a file system that is known here; the message for the kit if not.
pub(super) fn file_system(name: &str) -> Result<&'static str, String> {
    FILE_SYSTEMS.iter().find(|known| **known == name).copied().ok_or_else(|| {
        let name = crate::text::one_line(name, 40);
        format!("{name:?} is no file system that can be used here; there are: {}", FILE_SYSTEMS.join(", "))
    })
}

/// What mount(8) gets behind `-o`; the message for the kit if an option is not allowed.
pub(super) fn joined(file_system: &str, options: &[String]) -> Result<String, String> {
    let own = if file_system == "xfs" { XFS } else { EXT4 };
    let mut joined = String::new();
    for option in options {
        if !is_allowed(option, own) {
            let option = crate::text::one_line(option, 80);
            let known: Vec<_> = ANY.iter().chain(own).map(|(name, _)| *name).collect();
            return Err(format!(
                "the mount option {option:?} is not allowed for {file_system}; allowed are: {}",
                known.join(", ")
            ));
        }
        joined.push_str(option);
        joined.push(',');
    }
    joined.push_str(ALWAYS);
    Ok(joined)
}

fn is_allowed(option: &str, own: &[(&str, Value)]) -> bool {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let number = |value: &str| {
        let digits = value.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G']);
        !digits.is_empty() && value.len() <= VALUE_BYTES_MAX && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    ANY.iter().chain(own).any(|(known, takes)| {
        *known == name
            && match (takes, value) {
                (No | Maybe, None) => true,
                (Number | Maybe, Some(value)) => number(value),
                (Of(values), Some(value)) => values.contains(&value),
                (No, Some(_)) | (Number | Of(_), None) => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined_of(file_system: &str, options: &[&str]) -> Result<String, String> {
        joined(file_system, &options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn no_mount_gives_away_devices_or_other_users() {
        assert_eq!(joined_of("ext4", &[]).unwrap(), "nosuid,nodev");
        assert_eq!(
            joined_of("ext4", &["noatime", "errors=remount-ro", "commit=5"]).unwrap(),
            "noatime,errors=remount-ro,commit=5,nosuid,nodev"
        );
        assert_eq!(joined_of("xfs", &["inode64", "allocsize=64m"]).unwrap(), "inode64,allocsize=64m,nosuid,nodev");
    }

    #[test]
    fn what_is_not_on_the_list_is_refused_by_name() {
        for option in [
            "dev",
            "suid",
            "defaults",
            "bind",
            "rbind",
            "remount",
            "move",
            "loop",
            "user",
            "users",
            "owner",
            "group",
            "noatime,suid",
            "noatime=1",
            "commit",
            "commit=5,suid",
            "commit=x",
            "commit=",
            "errors=continue",
            "errors",
            "nobarrier",
            "barrier=0",
            "noload",
            "norecovery",
            "nouuid",
            "x-mount.mkdir",
            "context=x",
            "offset=0",
            "",
            " noatime",
            "NOATIME",
            "inode64",
            "make-shared",
            "subdir=/etc",
            "X-mount.owner=0",
        ] {
            let refused = joined_of("ext4", &["noatime", option]).unwrap_err();
            assert!(refused.contains(&format!("{option:?}")) && refused.contains("errors"), "{option}: {refused}");
        }
        assert!(joined_of("xfs", &["errors=remount-ro"]).is_err(), "each file system has its own");
    }

    #[test]
    fn the_list_is_in_the_contract_s_readme() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/README.md")).unwrap();
        for (name, _) in ANY.iter().chain(EXT4).chain(XFS) {
            assert!(readme.contains(&format!("`{name}")), "`{name}` is not in wit/README.md");
        }
        assert!(FILE_SYSTEMS.iter().all(|name| file_system(name).is_ok()));
        assert!(file_system("btrfs").unwrap_err().contains("ext4, xfs"));
    }
}
