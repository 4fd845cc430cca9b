//! A node whose disk is full: what is in service stays, what needs a record waits, and nothing is taken for dead.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_test_e2e::{Cluster, cli};
use mainstay_test_support::needs;

/// Enough for what a daemon keeps, in MiB; small, so that it is soon full.
const SIZE_MIB: u32 = 48;

/// A file system of its own for a folder, gone with this value.
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// None when this user may mount nothing; that is told.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={SIZE_MIB}m,mode=0700");
        let mut mount = Command::new("mount");
        let done = mount.args(["-t", "tmpfs", "-o", &size, "mainstay-test"]).arg(at).output().unwrap();
        if !done.status.success() {
            needs::skip(
                &format!("needs to mount a tmpfs: {}", String::from_utf8_lossy(&done.stderr).trim()),
                "run it as root",
            );
            return None;
        }
        fs::set_permissions(at, fs::Permissions::from_mode(0o700)).unwrap();
        Some(Self { at: at.to_owned() })
    }

    /// Leaves not one byte.
    pub(crate) fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.at.join("fill")).unwrap();
        for block in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![b'x'; block]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.at.join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what was started there may still have a file open.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// The owner's disk is full. It goes on serving, it is heard, and no one takes over. Its application fails: repair
/// needs a record, so it waits; it is done once there is room again.
#[test]
fn a_full_disk_takes_nothing_out_of_service() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let state = cluster.node("a").state();
    let Some(disk) = SmallDisk::mount(&state) else { return };
    let app = cluster.app("web");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
    cluster.start_all();
    cluster.wait_until_served_by("a");
    cluster.wait_until_they_talk();
    let pid = app.on("a").wait_until_it_runs();

    disk.fill();
    // Longer than it takes to be given up as dead, and than several checks.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((app.on("a").pid(), app.running()), (Some(pid), vec!["a"]), "nothing is taken out of service");
    let seen = cluster.node("b").status();
    assert_eq!((seen.reach("a"), seen.owner("shop")), ("alive", Some("a")), "a full disk is not death");

    app.on("a").dies();
    let status = cluster.wait_for("a", "the trouble to be told", |status| {
        status.troubles().iter().any(|trouble| trouble.contains("cannot be written"))
            || status.reason("web", "a").contains("No space left")
    });
    assert_eq!(status.owner("shop"), Some("a"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(cluster.node("b").status().owner("shop"), Some("a"));

    disk.free();
    cluster.wait_until_served_by("a");
    assert_eq!(app.running(), ["a"]);
    cluster.wait_for("a", "no trouble any more", |status| status.troubles().is_empty() && status.alarms().is_empty());
    // What was not durable while it was full is durable now.
    cluster.node("a").mainstay(&["switchover", "shop", "b"]).ok();
    cluster.wait_until_served_by("b");
    cluster.kill("a");
    cluster.start("a");
    cluster.wait_until_served_by("b");
    app.was_never_doubled();
}

/// A daemon that starts on a full disk says so, and touches nothing.
#[test]
fn started_on_a_full_disk() {
    let mut cluster = Cluster::new(&["a"]);
    let state = cluster.node("a").state();
    let Some(disk) = SmallDisk::mount(&state) else { return };
    let app = cluster.app("web");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
    cluster.start_all();
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    let pid = app.on("a").pid();
    cluster.kill("a");
    disk.fill();
    let run = cluster.node("a").run_command();
    let said = cli::run(Command::new("timeout").arg("5").arg(run.get_program()).args(run.get_args()));
    assert!(said.code == Some(124) || said.err.contains("No space left"), "{said:#?}");
    assert_eq!(app.on("a").pid(), pid);
    disk.free();
    cluster.start("a");
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    assert_eq!((app.on("a").pid(), app.on("a").begun("restore")), (pid, 1));
}
