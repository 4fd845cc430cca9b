//! A disk that fails, or forgets what was not flushed when its power goes: nbdkit's filters, made a file by nbdfuse.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, require_or_skip, skip, wait_until};

/// See the module's documentation.
pub(crate) struct Under {
    folder: TempDir,
    args: Vec<String>,
    nbdkit: Option<Guard>,
    nbdfuse: Option<Guard>,
}

/// Whether there can be such a disk here; if not, that was made known.
pub(crate) fn is_possible() -> bool {
    let programs = [("nbdkit", "nbdkit"), ("nbdfuse", "libnbd-bin"), ("fusermount3", "fuse3")];
    for (program, package) in programs {
        if require_or_skip(program, &format!("apt-get install {package}")).is_none() {
            return false;
        }
    }
    let has_fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
    if !has_fuse {
        skip("needs /dev/fuse", "load the kernel's fuse, and run as root");
    }
    has_fuse
}

impl Under {
    /// With this filter, and its parameters; `{}` in them is a folder of its own.
    pub(crate) fn new(filter: &str, parameters: &[&str], bytes: u64) -> Self {
        let folder = TempDir::new();
        let here = folder.path().display().to_string();
        let image = folder.join("image").display().to_string();
        fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        let mut args = vec![format!("--filter={filter}"), "file".into(), image];
        args.extend(parameters.iter().map(|parameter| parameter.replace("{}", &here)));
        let mut under = Self { folder, args, nbdkit: None, nbdfuse: None };
        under.power_on();
        under
    }

    /// The disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.mount().join("disk")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the disk itself can be asked what it has, past everything that is above it.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    fn mount(&self) -> PathBuf {
        self.folder.join("mount")
    }

    pub(crate) fn power_on(&mut self) {
        let socket = self.socket();
        // One that is there from before would let nbdfuse begin too early.
        let _ = fs::remove_file(&socket);
        fs::create_dir_all(self.mount()).unwrap();
        let mut nbdkit = Command::new("nbdkit");
        nbdkit.args(["-f", "-U"]).arg(&socket).args(&self.args);
        self.nbdkit = Some(Guard::start("nbdkit", &mut nbdkit).unwrap());
        wait_until(WAIT_LIMIT, "nbdkit listens", || socket.exists());
        let mut nbdfuse = Command::new("nbdfuse");
        nbdfuse.arg(self.disk()).arg(format!("nbd+unix:///?socket={}", socket.display()));
        self.nbdfuse = Some(Guard::start("nbdfuse", &mut nbdfuse).unwrap());
        wait_until(WAIT_LIMIT, "the disk is there", || self.disk().exists());
    }

    /// What was not flushed is gone.
    pub(crate) fn power_off(&mut self) {
        self.nbdkit = None;
        self.unmount();
        self.nbdfuse = None;
    }

    fn unmount(&self) {
        // It may be gone already.
        let _ = Command::new("fusermount3").arg("-uz").arg(self.mount()).output();
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.power_off();
    }
}
