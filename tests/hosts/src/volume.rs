//! A mirrored volume with a file system on it, on which the application stands: its place in the config, what is on it
//! before the first copy, and what the kernel of a host that loses its power has of it.
//!
//! It is mirrored over [`MIRROR`], which is a comm path as well, as where there is one line to the other site. The data is
//! incompressible and nowhere zero, so that a first copy is all of it. Loop devices are the only thing here that belongs to
//! no namespace: a host takes away its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_test_e2e::node::put_kit;

use crate::config::HIERARCHY;
use crate::host::Host;
use crate::net::{Link, Net};

/// Its name, and the tag of its resource.
pub const VOLUME: &str = "store";
/// What each copy is on, in bytes, the label included.
pub const BACKING_BYTES: u64 = 64 << 20;
/// The label, at its end.
const LABEL_BYTES: u64 = 8 << 10;
/// What is copied at once, in bytes.
pub const REGION_BYTES: u64 = 64 << 10;
/// The link that the mirror has.
pub const MIRROR: Link = Link::One;
const MIRROR_PORT: u16 = 7500;
/// No writer waits for longer, in s; the other copy is taken for gone after a quarter of it.
pub const STALL_S: u64 = 8;

/// `None` when what a volume needs is not installed, which is told.
#[track_caller]
pub(crate) fn require_or_skip() -> Option<()> {
    for (program, package) in [("nbdfuse", "libnbd-bin"), ("mkfs.ext4", "e2fsprogs"), ("tc", "iproute2")] {
        mainstay_test_support::require_or_skip(program, &format!("apt-get install {package}"))?;
    }
    Some(())
}

/// Where a host has its copy.
#[must_use]
pub fn backing(host: &Host) -> PathBuf {
    host.folder().join("backing")
}

/// Where a host that has it in service has it mounted.
#[must_use]
pub fn mount_point(host: &Host) -> PathBuf {
    host.folder().join("mail")
}

/// The kit, and an empty disk.
pub(crate) fn prepare(host: &Host) {
    put_kit(&host.folder().join("kits"), "volume");
    host.folder().folder("mail");
    let made = File::create(backing(host)).and_then(|disk| disk.set_len(BACKING_BYTES));
    made.unwrap_or_else(|error| panic!("{}: {error}", backing(host).display()));
}

/// Puts a file system on a host's disk. Every other block of it was written before.
///
/// # Panics
/// When that fails.
pub fn fill(host: &Host) {
    let mut noise = Vec::new();
    let read = File::open("/dev/urandom").and_then(|source| source.take(BACKING_BYTES).read_to_end(&mut noise));
    // What lies in the label's place would be taken for one that is damaged.
    noise.truncate((BACKING_BYTES - LABEL_BYTES) as usize);
    noise.resize(BACKING_BYTES as usize, 0);
    read.and_then(|_| fs::write(backing(host), noise)).unwrap_or_else(|error| panic!("no data: {error}"));
    let mut mkfs = Command::new("mkfs.ext4");
    mkfs.args(["-q", "-F", "-b", "4096", "-N", "1024", "-E", "nodiscard,lazy_journal_init=1"]);
    mkfs.arg(backing(host)).arg(((BACKING_BYTES - LABEL_BYTES) / 4096).to_string());
    let done = mkfs.output();
    assert!(done.as_ref().is_ok_and(|output| output.status.success()), "{mkfs:?}: {done:?}");
}

/// The volume and its resource, as the config has them.
pub(crate) fn config(net: &Net, hosts: &[Host]) -> String {
    let mut text = format!("\n[hierarchy.{HIERARCHY}.volume.{VOLUME}]\nstall-time = \"{STALL_S}s\"\n");
    let last = hosts.iter().map(Host::name).max().unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "address.{last} = \"{}:{MIRROR_PORT}\"", net.address(last, MIRROR));
    for host in hosts {
        let _ = writeln!(text, "backing.{} = \"{}\"", host.name(), backing(host).display());
    }
    let _ = write!(
        text,
        "\n[hierarchy.{HIERARCHY}.resource.{VOLUME}]\nkit = \"volume\"\ncheck-interval = \"500ms\"\n\
         standby-check-interval = \"1s\"\ngrants.volume = [\"{VOLUME}\"]\n"
    );
    for host in hosts {
        let _ = writeln!(text, "params-on.{} = {{ mount-point = {:?} }}", host.name(), mount_point(host));
    }
    let points: Vec<String> = hosts.iter().map(|host| format!("{:?}", mount_point(host))).collect();
    let _ = writeln!(text, "grants.mount = [{}]", points.join(", "));
    text
}

/// What is different between the copies of two hosts, the labels left out: the first region, if there is one.
///
/// # Panics
/// When one cannot be read.
#[must_use]
#[track_caller]
pub fn first_difference(one: &Host, other: &Host) -> Option<u64> {
    let [one, other] = [one, other].map(|host| fs::read(backing(host)).expect("a copy can be read"));
    let data = (BACKING_BYTES - LABEL_BYTES) as usize;
    let mut regions = one[..data].chunks(REGION_BYTES as usize).zip(other[..data].chunks(REGION_BYTES as usize));
    regions.position(|(one, other)| one != other).map(|region| region as u64)
}

/// The loop devices of a host.
///
/// They are looked for while it is on: the kernel names what they show by its path, and afterwards there is none.
#[derive(Debug)]
pub(crate) struct Loops(Vec<PathBuf>);

impl Loops {
    pub(crate) fn of(folder: &Path) -> Self {
        let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let own = devices.filter(|device| {
            let shown = fs::read_to_string(device.path().join("loop/backing_file"));
            shown.is_ok_and(|shown| Path::new(&shown).starts_with(folder))
        });
        Self(own.map(|device| Path::new("/dev").join(device.file_name())).collect())
    }

    /// As when the kernel that has them ends.
    pub(crate) fn take_away(self) {
        for device in self.0 {
            let done = Command::new("losetup").arg("--detach").arg(&device).output();
            if !done.as_ref().is_ok_and(|output| output.status.success()) {
                eprintln!("{} could not be taken away: {done:?}", device.display());
            }
        }
    }
}
