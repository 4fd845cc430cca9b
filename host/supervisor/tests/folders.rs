//! Folders that are not as a daemon and a supervisor leave them when nobody kills either.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::Room;
use mainstay_supervisor::{Ending, LeftoverEnd, LeftoverState, Request};
use mainstay_test_support::{WAIT_LIMIT, require_or_skip, skip, wait_for, wait_until};
use serde_json::{Value, json};

const LONG: &str = "sleep 300";

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap()
}

/// A command's folder as a daemon makes it, or nearly. Like a daemon's, its id is nobody else's: the processes of a
/// command are found by it.
fn folder(room: &Path, name: &str, files: &[(&str, &Value)]) -> PathBuf {
    let unique = room.file_name().unwrap().to_str().unwrap();
    let folder = room.join("commands").join(format!("{unique}-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, content) in files {
        std::fs::write(folder.join(name), content.to_string()).unwrap();
    }
    folder
}

fn request(boot_id: &str, request: &Request) -> Value {
    json!({ "format": 1, "boot_id": boot_id, "request": request })
}

fn processes(boot_id: &str, pid: u32, start_ticks: u64) -> Value {
    let identity = json!({ "pid": pid, "start_ticks": start_ticks });
    json!({ "format": 1, "boot_id": boot_id, "supervisor": identity, "program": identity, "cgroup": null })
}

/// A process that has nothing to do with any command; gone with its room.
fn bystander(room: &Room) -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec {LONG}")]).env(common::ROOM, room.folder.path());
    command.stdin(Stdio::null()).spawn().unwrap()
}

fn supervise(folder: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay-supervise"));
    std::os::unix::process::CommandExt::arg0(&mut command, "mainstay");
    command.arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_anothers_now_is_not_touched() {
    let room = Room::new();
    let commands = room.commands();
    let mut bystander = bystander(&room);
    let pid = bystander.id();
    let sh = room.sh(LONG);
    let files: [(&str, &Value); 2] = [
        ("request.json", &request(&boot_id(), &sh)),
        ("processes.json", &processes(&boot_id(), pid, start_ticks(pid) - 1)),
    ];
    for end in [false, true] {
        folder(room.folder.path(), "one", &files);
        let leftover = commands.leftovers().await.unwrap().remove(0);
        assert_eq!(leftover.state(), LeftoverState::Lost);
        let ended = if end { leftover.end().await } else { leftover.await_end().await };
        assert!(matches!(ended.unwrap(), LeftoverEnd::Unknown(None)));
        assert!(room.folders().is_empty());
    }
    assert_eq!(bystander.try_wait().unwrap(), None, "it lives");
    // The same with the right start time: the check above has not passed for another reason.
    let right = processes(&boot_id(), pid, start_ticks(pid));
    folder(room.folder.path(), "one", &[files[0], ("processes.json", &right)]);
    let leftover = commands.leftovers().await.unwrap().remove(0);
    assert_eq!(leftover.state(), LeftoverState::Orphaned);
    assert!(matches!(leftover.end().await.unwrap(), LeftoverEnd::Unknown(Some(_))));
    assert!(bystander.wait().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_of_another_boot_is_not_touched() {
    let room = Room::new();
    let commands = room.commands();
    let mut bystander = bystander(&room);
    let processes = processes("another", bystander.id(), start_ticks(bystander.id()));
    let sh = room.sh(LONG);
    let files: [(&str, &Value); 2] = [("request.json", &request("another", &sh)), ("processes.json", &processes)];
    for end in [false, true] {
        folder(room.folder.path(), "one", &files);
        let leftover = commands.leftovers().await.unwrap().remove(0);
        assert_eq!(leftover.state(), LeftoverState::Lost);
        let ended = if end { leftover.end().await } else { leftover.await_end().await };
        assert!(matches!(ended.unwrap(), LeftoverEnd::Unknown(None)));
    }
    // An application whose outcome was taken before the power went.
    let collected = json!("");
    folder(room.folder.path(), "two", &[files[0], files[1], ("collected", &collected)]);
    assert!(commands.leftovers().await.unwrap().is_empty());
    wait_until(WAIT_LIMIT, "the folder to be removed", || room.folders().is_empty());
    assert_eq!(bystander.try_wait().unwrap(), None, "it lives");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_written_folders_are_cleaned_up() {
    let room = Room::new();
    let commands = room.commands();
    folder(room.folder.path(), "empty", &[]);
    let torn = folder(room.folder.path(), "torn", &[]);
    std::fs::write(torn.join("request.json"), r#"{"format":1,"boot_id":"#).unwrap();
    let hollow = folder(room.folder.path(), "hollow", &[]);
    std::fs::write(hollow.join("request.json"), "").unwrap();
    folder(room.folder.path(), "unstarted", &[("request.json", &request(&boot_id(), &room.sh(LONG)))]);
    let stray = room.folder.write("commands/stray", "not a folder");
    assert!(commands.leftovers().await.unwrap().is_empty());
    assert_eq!(room.folders(), [stray]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_torn_by_a_power_cut_is_no_outcome() {
    let room = Room::new();
    let files: [(&str, &Value); 2] =
        [("request.json", &request("another", &room.sh(LONG))), ("processes.json", &processes("another", 1, 1))];
    let commands = room.commands();
    let folder = folder(room.folder.path(), "one", &files);
    std::fs::write(folder.join("outcome.json"), "").unwrap();
    let leftover = commands.leftovers().await.unwrap().remove(0);
    assert_eq!(leftover.state(), LeftoverState::Lost);
    assert!(matches!(leftover.await_end().await.unwrap(), LeftoverEnd::Unknown(None)));
    assert!(room.folders().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_comes_late_starts_nothing() {
    let room = Room::new();
    let request = request(&boot_id(), &room.sh(&format!("touch {}", room.folder.join("started").display())));
    let one = folder(room.folder.path(), "one", &[("request.json", &request)]);
    // Somebody looks at the folder just now.
    let file = std::fs::File::options().read(true).write(true).open(one.join("request.json")).unwrap();
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    assert!(supervise(&one).wait().unwrap().success());
    drop(lock);
    // Or has removed it.
    std::fs::remove_dir_all(&one).unwrap();
    assert!(supervise(&one).wait().unwrap().success());
    assert!(!room.folder.join("started").exists());
    // Else it does start it, so that the above means something; but not a second time.
    folder(room.folder.path(), "one", &[("request.json", &request)]);
    assert!(supervise(&one).wait().unwrap().success());
    assert!(room.folder.join("started").exists());
    std::fs::remove_file(room.folder.join("started")).unwrap();
    assert!(supervise(&one).wait().unwrap().success());
    assert!(!room.folder.join("started").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_reaches_the_daemon_though_the_folder_is_gone() {
    let room = Room::new();
    let mut running =
        room.commands().start(room.sh(&format!("rm -r {}/*; exit 4", room.dir().display()))).await.unwrap();
    assert_eq!(running.outcome().await.unwrap().ending, Ending::Exited(4));
    wait_until(WAIT_LIMIT, "the supervisor to end", || room.processes().is_empty());
}

/// Not a test: what `a_full_disk_loses_no_outcome` runs with a small file system of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_on_a_full_disk() {
    let Some(folder_) = std::env::var_os("MAINSTAY_TEST_SMALL_DISK").map(PathBuf::from) else {
        return;
    };
    let fill = folder_.join("fill");
    let fill_it = format!("head -c 2000000 /dev/zero > {}; ", fill.display());
    let commands = mainstay_supervisor::Commands::open(&folder_.join("commands"), common::exe()).unwrap();
    // It fills up while a program runs.
    let sh = |body: String| common::sh_in(&folder_, &body);
    let mut running = commands.start(sh(format!("{fill_it} exit 3"))).await.unwrap();
    assert_eq!(running.outcome().await.unwrap().ending, Ending::Exited(3));
    let names = || std::fs::read_dir(folder_.join("commands")).unwrap().count();
    wait_until(WAIT_LIMIT, "the folder to be removed", || names() == 0);
    // It is full: nothing is started, and nothing left.
    let mut filler = std::fs::File::create(&fill).unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    drop(filler);
    let error = commands.start(sh("exit 0".to_owned())).await.unwrap_err().to_string();
    assert!(error.contains("No space left") && error.contains("was not started"), "{error}");
    wait_until(WAIT_LIMIT, "the folder to be removed", || names() == 0);
    // It fills up and there is no daemon: the outcome is written when there is room.
    std::fs::remove_file(&fill).unwrap();
    let one = folder(&folder_, "one", &[("request.json", &request(&boot_id(), &sh(format!("{fill_it} exit 3"))))]);
    let mut supervisor = supervise(&one);
    let program = wait_for(WAIT_LIMIT, "the program to be started", || {
        let text = std::fs::read_to_string(one.join("processes.json")).ok()?;
        serde_json::from_str::<Value>(&text).unwrap()["program"]["pid"].as_i64()
    });
    wait_until(WAIT_LIMIT, "the program to have ended", || !Path::new(&format!("/proc/{program}")).exists());
    std::thread::sleep(std::time::Duration::from_millis(300));
    let outcome = || std::fs::read_to_string(one.join("outcome.json"));
    assert!(outcome().is_err(), "there was no room for {:?}", outcome());
    std::fs::remove_file(&fill).unwrap();
    wait_until(WAIT_LIMIT, "the outcome", || outcome().is_ok_and(|text| text.contains(r#""exited":3"#)));
    supervisor.wait().unwrap();
}

#[test]
fn a_full_disk_loses_no_outcome() {
    let Some(unshare) = require_or_skip("unshare", "apt-get install util-linux") else { return };
    let room = Room::new();
    let disk = room.folder.folder("disk");
    // Mounted in a namespace of its own: it goes with the processes in it, however they end.
    let namespace = |body: &str| {
        let mut command = Command::new(&unshare);
        command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o size=400k none {} && {body}", disk.display()));
        command
    };
    if !namespace("true").output().unwrap().status.success() {
        skip("needs a mount namespace", "run the tests as root, or allow user namespaces (user.max_user_namespaces)");
        return;
    }
    let role = std::env::current_exe().unwrap();
    let mut command = namespace(&format!("exec {} --exact role_on_a_full_disk --nocapture", role.display()));
    command.env("MAINSTAY_TEST_SMALL_DISK", &disk);
    let mut guard = mainstay_test_support::Guard::start("small disk", &mut command).unwrap().claim(&room.folder);
    let status = guard.wait(2 * WAIT_LIMIT).expect("it takes far less");
    let output = guard.output();
    assert!(status.success() && output.contains("1 passed"), "{output}");
}

#[test]
fn nobody_else_reads_what_a_request_holds() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut request = room.sh(LONG);
        request.stdin = b"secret".to_vec();
        let running = room.commands().start(request).await.unwrap();
        let folder = room.dir().join(running.id());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        let mut seen = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("stdin") {
                // Being removed just now.
                continue;
            }
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            seen += 1;
        }
        assert!(seen >= 4, "{seen}");
        wait_until(WAIT_LIMIT, "the input to be removed", || !folder.join("stdin").exists());
        running.cancel().await.unwrap();
    });
}
