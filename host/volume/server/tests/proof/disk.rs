//! A file system on a volume, as an application has it: nbdfuse makes a file of the volume, a loop device a disk of the
//! file. All of it is gone when it is dropped, also when a test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, require_or_skip, skip, wait_until};

use crate::pair::under;

/// A loop device.
#[derive(Debug)]
pub(crate) struct Loop {
    device: PathBuf,
}

/// A program that succeeds; what it says.
#[track_caller]
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new("timeout").arg("60").arg(program).args(args).env("PATH", PATHS).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const PATHS: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

impl Loop {
    /// On a file. No direct I/O: above FUSE it has been seen to read what was not written.
    pub(crate) fn on(file: &Path, more: &[&str]) -> Self {
        let file = file.display().to_string();
        let device = run("losetup", &[&["-f", "--show"], more, &[&file]].concat());
        Self { device: device.into() }
    }

    pub(crate) fn text(&self) -> String {
        self.device.display().to_string()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Where something still has it, it goes when that is gone.
        let _ = Command::new("losetup").arg("-d").arg(&self.device).env("PATH", PATHS).output();
    }
}

/// Something that is mounted.
#[derive(Debug)]
pub(crate) struct Mount {
    folder: TempDir,
}

impl Mount {
    pub(crate) fn new(source: &str, args: &[&str]) -> Self {
        let folder = TempDir::new();
        let at = folder.join("at");
        fs::create_dir(&at).unwrap();
        let mount = Self { folder };
        run("mount", &[args, &[source, &at.display().to_string()]].concat());
        mount
    }

    pub(crate) fn at(&self) -> PathBuf {
        self.folder.join("at")
    }

    /// In order, within a minute.
    pub(crate) fn unmount(&self) {
        run("umount", &[&self.at().display().to_string()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It may be unmounted already.
        let _ = Command::new("umount").arg("-l").arg(self.at()).env("PATH", PATHS).output();
    }
}

/// A volume as a disk.
#[derive(Debug)]
pub(crate) struct VolumeDisk {
    // In this order: what is above ends first.
    device: Loop,
    nbdfuse: Fuse,
}

#[derive(Debug)]
struct Fuse {
    folder: TempDir,
    guard: Option<Guard>,
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = Command::new("fusermount3").arg("-uz").arg(self.folder.join("mount")).env("PATH", PATHS).output();
        self.guard = None;
    }
}

impl VolumeDisk {
    pub(crate) fn new(uri: &str) -> Self {
        let mut nbdfuse = Fuse { folder: TempDir::new(), guard: None };
        let file = nbdfuse.folder.join("mount").join("disk");
        fs::create_dir(nbdfuse.folder.join("mount")).unwrap();
        nbdfuse.guard = Some(Guard::start("nbdfuse above", Command::new("nbdfuse").arg(&file).arg(uri)).unwrap());
        wait_until(WAIT_LIMIT, "the volume is a file", || file.exists());
        Self { device: Loop::on(&file, &[]), nbdfuse }
    }

    pub(crate) fn text(&self) -> String {
        self.device.text()
    }

    pub(crate) fn end(self) {
        drop(self.device);
        drop(self.nbdfuse);
    }
}

/// Whether there can be mounts and loop devices here; if not, that was made known.
pub(crate) fn is_possible() -> bool {
    let programs = [("losetup", "mount"), ("mkfs.ext4", "e2fsprogs"), ("/usr/bin/python3", "python3")];
    for (program, package) in programs {
        if require_or_skip(program, &format!("apt-get install {package}")).is_none() {
            return false;
        }
    }
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        skip("needs root and loop devices", "run it as root, with the kernel's loop");
        return false;
    }
    under::is_possible()
}
