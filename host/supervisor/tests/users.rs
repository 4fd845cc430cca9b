//! Commands as another user, and what happens without the right to that.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod common;

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use common::{Room, owner, run, sh_in, text};
use mainstay_supervisor::{Commands, Ending, Request, Stage, StartError, SupervisorExe, check_user};
use mainstay_test_support::{Guard, WAIT_LIMIT, skip, wait_until};
use nix::unistd::{Gid, Uid, User};

/// A user that every Linux has, without rights.
const NOBODY: &str = "nobody";

fn is_root_or_skip() -> bool {
    let is_root = Uid::effective().is_root();
    if !is_root {
        skip("needs root", "run the tests as root");
    }
    is_root
}

async fn refused(commands: &Commands, request: Request) -> (Stage, String) {
    match commands.start(request).await {
        Err(StartError::Program(failure)) => (failure.stage, failure.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_is_not_there_is_an_error_of_the_start() {
    let room = Room::new();
    let mut request = room.sh("exit 0");
    request.user = Some("no-such-user".to_owned());
    let (stage, text) = refused(&room.commands(), request).await;
    assert_eq!(stage, Stage::User);
    assert_eq!(text, "/bin/sh was not started: there is no user no-such-user on this node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_user_needs_no_privilege() {
    let room = Room::new();
    let own = User::from_uid(Uid::effective()).unwrap().unwrap();
    assert!(check_user(&own.name).is_ok());
    let mut request = room.sh("echo $USER $LOGNAME $HOME");
    request.user = Some(own.name.clone());
    let outcome = run(&room.commands(), request).await;
    assert_eq!(text(&outcome.stdout), format!("{0} {0} {1}\n", own.name, own.dir.display()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_has_his_own_rights_and_groups_and_can_open_his_output_anew() {
    if !is_root_or_skip() {
        return;
    }
    // The daemon is in a group that is nobody's business.
    nix::unistd::setgroups(&[Gid::from_raw(54_321)]).unwrap();
    let room = Room::new();
    let commands = room.commands();
    let mut request = room.sh("id -u; id -G; cat /dev/stdin; echo anew > /dev/stderr; cat /etc/shadow; (sleep 300 &)");
    request.user = Some(NOBODY.to_owned());
    request.stdin = b"input\n".to_vec();
    let outcome = run(&commands, request).await;
    let nobody = User::from_name(NOBODY).unwrap().unwrap();
    assert_eq!(text(&outcome.stdout), format!("{}\n{}\ninput\n", nobody.uid, nobody.gid));
    let stderr = text(&outcome.stderr);
    assert!(stderr.starts_with("anew\n") && stderr.contains("Permission denied"), "{stderr}");
    assert_eq!(outcome.ending, Ending::Exited(0));
    assert!(room.programs("sleep").is_empty(), "another user's processes are ended too");
    // The working directory is entered with the user's rights.
    let mut request = room.sh("exit 0");
    request.user = Some(NOBODY.to_owned());
    request.cwd = Some(room.folder.path().to_owned());
    let (stage, text) = refused(&commands, request).await;
    assert_eq!(stage, Stage::Cwd);
    assert!(text.contains("nobody cannot enter its working directory") && text.contains("Permission denied"), "{text}");
}

/// Not a test: what `without_the_privilege_another_user_is_an_error` runs as an ordinary user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_ordinary_user() {
    let Some(folder) = std::env::var_os("MAINSTAY_TEST_ORDINARY").map(PathBuf::from) else {
        return;
    };
    let exe = SupervisorExe::alone(folder.join("mainstay-supervise"));
    let commands = Commands::open(&folder.join("commands"), exe).unwrap();
    let error = check_user("root").unwrap_err().to_string();
    assert!(error.contains("nothing can be run as user root: mainstay runs as nobody"), "{error}");
    let mut request = Request::new(owner("op-1"), "/bin/true");
    request.user = Some("root".to_owned());
    let (stage, text) = refused(&commands, request).await;
    assert_eq!(stage, Stage::Identity);
    assert!(text.contains("it could not become user root: Operation not permitted"), "{text}");
    // All else works without privilege: its tree is ended whole.
    let outcome = run(&commands, sh_in(&folder, "(setsid sleep 300 &); id -u")).await;
    assert_eq!(String::from_utf8(outcome.stdout).unwrap(), format!("{}\n", Uid::effective()));
    wait_until(WAIT_LIMIT, "the folders to be removed", || {
        std::fs::read_dir(folder.join("commands")).unwrap().count() == 0
    });
}

/// By a process of its own: were the copy open for writing here, another thread's child could have it open for a moment
/// too, and executing it would fail.
fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn without_the_privilege_another_user_is_an_error() {
    if !is_root_or_skip() {
        return;
    }
    let room = Room::new();
    let nobody = User::from_name(NOBODY).unwrap().unwrap();
    // Below a folder that he may enter: where this is built, he may not.
    let folder = room.folder.folder("ordinary");
    std::fs::set_permissions(room.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(&folder, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    let role = folder.join("role");
    copy(&std::env::current_exe().unwrap(), &role);
    copy(Path::new(env!("CARGO_BIN_EXE_mainstay-supervise")), &folder.join("mainstay-supervise"));
    let mut command = std::process::Command::new(&role);
    command.args(["--exact", "role_ordinary_user", "--nocapture"]).env("MAINSTAY_TEST_ORDINARY", &folder);
    command.current_dir("/").uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    let mut guard = Guard::start("ordinary user", &mut command).unwrap().claim(&room.folder);
    let status = guard.wait(WAIT_LIMIT).expect("it takes far less");
    let output = guard.output();
    assert!(status.success() && output.contains("1 passed"), "{output}");
}
