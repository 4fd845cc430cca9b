//! Where a control group may be made, a command's tree has its own, and nobody leaves it.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use common::{ROOM, Room, lives};
use mainstay_supervisor::{Commands, LeftoverEnd, LeftoverState};
use mainstay_test_support::{Guard, WAIT_LIMIT, skip, wait_for, wait_until};
use nix::sys::signal::Signal;

/// A control group of the test's own, and all below it; gone when this is dropped.
struct Group(PathBuf);

impl Group {
    fn make() -> Option<Self> {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let root = roots.iter().map(Path::new).find(|root| root.join("cgroup.controllers").exists())?;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = root.join(format!("mainstay-test-{}-{count}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        let group = Self(group);
        group.0.join("cgroup.kill").exists().then_some(group)
    }

    fn children(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten();
        entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Emptied first by the room, whose processes are in it.
        let removed = mainstay_test_support::poll_until(WAIT_LIMIT, || {
            let _ = std::fs::write(self.0.join("cgroup.kill"), "1");
            for child in self.children() {
                let _ = std::fs::remove_dir(child);
            }
            std::fs::remove_dir(&self.0).is_ok()
        });
        if !removed {
            eprintln!("{} could not be removed", self.0.display());
        }
    }
}

/// Not a test: the daemon, which has moved into the group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_daemon() {
    if let Some(group) = std::env::var_os("MAINSTAY_TEST_CGROUP") {
        std::fs::write(Path::new(&group).join("cgroup.procs"), "0").unwrap();
    }
    common::act_as_daemon().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_wiped_every_trace_is_found_by_the_group_and_ended() {
    let Some(group) = Group::make() else {
        skip(
            "needs a control group of version 2 that may be written",
            "run the tests as root where cgroup2 is mounted",
        );
        return;
    };
    let room = Room::new();
    // Neither the marker nor the session nor a parent leads to it: only the group. This test finds it by its file.
    let script = room.folder.script("traceless", "echo $$ > \"$0.pid\"; exec sleep 300");
    let request = room.sh(&format!("env -i setsid {} & sleep 0.5; exec sleep 299", script.display()));
    let mut daemon = {
        let mut command = Command::new(std::env::current_exe().unwrap());
        common::as_daemon(&mut command, &room, "role_daemon", std::slice::from_ref(&request));
        command.env("MAINSTAY_TEST_CGROUP", &group.0);
        Guard::start("daemon", &mut command).unwrap().claim(&room.folder)
    };
    daemon.wait_for_line(WAIT_LIMIT, "started ");
    let traceless: i32 = wait_for(WAIT_LIMIT, "its process id", || {
        std::fs::read_to_string(room.folder.join("traceless.pid")).ok()?.trim().parse().ok()
    });
    wait_until(WAIT_LIMIT, "the program to be alone", || !room.programs("sleep 299").is_empty());
    assert_eq!(group.children().len(), 1);
    daemon.kill_alone();
    for process in room.supervisors().into_iter().chain(room.programs("sleep 299")) {
        process.signal(Signal::SIGKILL).unwrap();
        wait_until(WAIT_LIMIT, "it to be dead", || !lives(process.pid));
    }
    assert!(lives(traceless));
    assert!(!std::fs::read_to_string(format!("/proc/{traceless}/environ")).unwrap().contains(ROOM));
    let commands = Commands::open(&room.dir(), common::exe()).unwrap();
    let leftover = commands.leftovers().await.unwrap().remove(0);
    assert_eq!(leftover.state(), LeftoverState::Orphaned);
    assert!(matches!(leftover.await_end().await.unwrap(), LeftoverEnd::Unknown(Some(_))));
    assert!(!lives(traceless));
    assert!(group.children().is_empty(), "the command's group is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_goes_with_the_command() {
    let Some(group) = Group::make() else {
        skip(
            "needs a control group of version 2 that may be written",
            "run the tests as root where cgroup2 is mounted",
        );
        return;
    };
    let room = Room::new();
    let go = room.folder.join("go");
    let kept = {
        let mut request =
            room.sh(&format!("until [ -e {} ]; do sleep 0.05; done & cat /proc/self/cgroup", go.display()));
        request.keep_children = true;
        request
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    common::as_daemon(&mut command, &room, "role_daemon", &[room.sh("(setsid sleep 300 &)"), kept]);
    command.env("MAINSTAY_TEST_CGROUP", &group.0);
    let mut daemon = Guard::start("daemon", &mut command).unwrap().claim(&room.folder);
    wait_until(WAIT_LIMIT, "both outcomes", || daemon.output().matches("outcome ").count() == 2);
    assert!(room.programs("sleep 300").is_empty());
    wait_until(WAIT_LIMIT, "only the application's group", || group.children().len() == 1);
    std::fs::write(go, "").unwrap();
    wait_until(WAIT_LIMIT, "no group", || group.children().is_empty());
    assert!(daemon.status().is_none());
}
