//! `volume` and `mount` through real kits: volumes of a host that is made up, and real file systems on loop devices, mounted
//! in a namespace that only the test's thread is in.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{House, call, granted, outcome, report};
use mainstay_runtime::{
    Details, Failure, Health, Kit, Operation, Outcome, ResourceServices, Verdict, VolumeAnswer, VolumeAttachment,
    VolumeCopy, VolumeMirror, VolumeRole, VolumeStatus, VolumeTrouble, Volumes, Weight,
};
use mainstay_test_support::kits::{Target, test_kit};
use mainstay_test_support::{Guard, WAIT_LIMIT, skip, wait_until};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// The size of a disk, in bytes: ext4 with a journal fits.
const DISK_BYTES: u64 = 64 << 20;

/// Volumes of a host that is made up: one, whose block device is there from the beginning.
#[derive(Debug)]
struct OneVolume {
    device: PathBuf,
    state: Mutex<VolumeStatus>,
    /// What the next function says instead.
    trouble: Mutex<Option<VolumeTrouble>>,
    /// Whether nothing is answered at all.
    silent: bool,
    asked: Mutex<Vec<String>>,
}

impl OneVolume {
    fn new(device: &Path) -> Self {
        let state = VolumeStatus {
            role: VolumeRole::Target,
            copy: VolumeCopy::UpToDate,
            mirror: VolumeMirror::Connected,
            alone: false,
            attachment: None,
            size_bytes: DISK_BYTES,
            dirty_bytes: 0,
            resync_percent: None,
            summary: "as good as new".to_owned(),
            details: Vec::new(),
        };
        let (device, state, trouble) = (device.to_owned(), Mutex::new(state), Mutex::default());
        Self { device, state, trouble, silent: false, asked: Mutex::default() }
    }

    fn answer<'a, T: Send + 'a>(
        &'a self,
        what: &str,
        name: &str,
        change: impl FnOnce(&mut VolumeStatus) -> T,
    ) -> VolumeAnswer<'a, T> {
        if self.silent {
            return Box::pin(std::future::pending());
        }
        self.asked.lock().unwrap().push(format!("{what} {name}"));
        let answer = match self.trouble.lock().unwrap().take() {
            Some(trouble) => Err(trouble),
            None => Ok(change(&mut self.state.lock().unwrap())),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Volumes for OneVolume {
    fn status<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, VolumeStatus> {
        self.answer("status", name, |state| state.clone())
    }

    fn promote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        self.answer("promote", name, |state| state.role = VolumeRole::Source)
    }

    fn demote<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        self.answer("demote", name, |state| state.role = VolumeRole::Target)
    }

    fn attach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, PathBuf> {
        let device = self.device.clone();
        self.answer("attach", name, move |state| {
            state.attachment = Some(VolumeAttachment { device: device.clone(), works: true });
            device
        })
    }

    fn detach<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, ()> {
        self.answer("detach", name, |state| state.attachment = None)
    }

    fn device_of<'a>(&'a self, name: &'a str) -> VolumeAnswer<'a, Option<PathBuf>> {
        self.answer("device-of", name, |state| state.attachment.as_ref().map(|attachment| attachment.device.clone()))
    }
}

/// A kit that takes the steps of its params, and a resource for it.
struct Probe {
    kit: Arc<Kit>,
    resource: Arc<ResourceServices>,
}

impl Probe {
    /// With these grants and these volumes.
    async fn new(house: &House, more: Value, volumes: Option<Arc<dyn Volumes>>) -> Self {
        let mut grants = granted();
        for (key, value) in more.as_object().unwrap() {
            grants[key] = value.clone();
        }
        let kit = house.load(&test_kit("mainstay-test-probe-kit", Target::Unknown)).await;
        let services = house.services("probe", grants);
        let services = match volumes {
            Some(volumes) => services.with_volumes(volumes),
            None => services,
        };
        Self { kit, resource: Arc::new(services) }
    }

    async fn take(&self, step: Value, budget: Duration) -> (String, String) {
        let params = json!({ "steps": [step] });
        assert_eq!(self.kit.check_params(&params), []);
        let call = mainstay_runtime::Call { budget, ..call(Operation::QuickCheck, "probe", &params, &self.resource) };
        let details: Details = report(&outcome(&self.kit, call).await).details;
        let [(how, text)] = details.as_slice() else { panic!("one answer to one step: {details:?}") };
        (how.clone(), text.clone())
    }

    #[track_caller]
    fn ok((how, text): (String, String)) -> String {
        assert_eq!(how, "ok", "{text}");
        text
    }

    #[track_caller]
    fn fault((how, text): (String, String), begins: &str) -> String {
        assert_eq!(how, "fault", "{text}");
        assert!(text.starts_with(begins), "{begins}: {text}");
        text
    }

    async fn volume(&self, ask: &str, name: &str) -> (String, String) {
        self.take(json!({"do": "volume", "ask": ask, "name": name}), common::BUDGET).await
    }

    async fn mount(&self, function: &str, more: Value) -> (String, String) {
        let mut ask = json!({"function": function});
        for (key, value) in more.as_object().unwrap() {
            ask[key] = value.clone();
        }
        self.take(json!({"do": "mount", "ask": ask}), common::BUDGET).await
    }
}

/// A loop device that goes away with the test, however it ends: the kernel frees it when nobody has it open any more.
struct Loop {
    device: PathBuf,
    _open: File,
}

impl Loop {
    fn over(image: &Path) -> Self {
        let said = run("losetup", &["-f", "--show", image.to_str().unwrap()]);
        let device = PathBuf::from(said.trim());
        let open = File::open(&device).unwrap();
        run("losetup", &["-d", device.to_str().unwrap()]);
        Self { device, _open: open }
    }

    fn path(&self) -> &str {
        self.device.to_str().unwrap()
    }
}

/// Runs a program of the system that has to succeed; what it says.
#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A house, an empty disk and a folder to mount it at, in a mount namespace that only this thread and what it starts is in.
struct World {
    house: House,
    image: PathBuf,
    disk: Loop,
    point: String,
}

impl World {
    /// None, made known, where that is not possible.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("needs root, to mount file systems", "run the tests as root");
            return None;
        }
        for (program, package) in [("losetup", "mount"), ("mkfs.ext4", "e2fsprogs"), ("blkid", "util-linux")] {
            mainstay_test_support::require_or_skip(program, &format!("apt-get install {package}"))?;
        }
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            skip(&format!("needs a mount namespace of its own ({error})"), "run the tests as root, not in a container");
            return None;
        }
        // What is mounted here is seen nowhere else, and goes with the thread.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let house = House::new();
        let image = house.path("disk.img");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        let disk = Loop::over(&image);
        let point = house.path("mail");
        fs::create_dir(&point).unwrap();
        let point = point.to_str().unwrap().to_owned();
        Some(Self { house, image, disk, point })
    }

    fn grants(&self) -> Value {
        json!({"mount": [{"point": self.point, "device": self.disk.path()}]})
    }

    fn here(&self) -> Value {
        json!({"device": self.disk.path(), "point": self.point, "file-system": "ext4", "ms": 2000})
    }

    async fn probe(&self) -> Probe {
        Probe::new(&self.house, self.grants(), None).await
    }

    /// Made and mounted, by hand.
    fn mounted(&self) {
        run("mkfs.ext4", &["-q", self.disk.path()]);
        run("mount", &["-o", "errors=remount-ro", self.disk.path(), &self.point]);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Else the folder could not be removed; without the namespace nothing would be left in any case.
        let _ = Command::new("umount").args(["-l", &self.point]).stderr(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_volume_is_asked_by_name_and_grant() {
    let house = House::new();
    let volumes = Arc::new(OneVolume::new(Path::new("/dev/nowhere")));
    let probe = Probe::new(&house, json!({"volume": ["store"]}), Some(Arc::clone(&volumes) as _)).await;
    let standing = Probe::ok(probe.volume("status", "store").await);
    assert!(
        standing.starts_with("Standing { role: Target, copy: UpToDate, mirror: Connected, alone: false"),
        "{standing}"
    );
    for (ask, said) in
        [("promote", "promoted"), ("attach", "/dev/nowhere"), ("detach", "detached"), ("demote", "demoted")]
    {
        assert_eq!(Probe::ok(probe.volume(ask, "store").await), said);
    }
    let denied = Probe::fault(probe.volume("promote", "other").await, "Denied not-granted");
    assert!(denied.contains("granted: store"), "{denied}");
    assert_eq!(
        *volumes.asked.lock().unwrap(),
        ["status store", "promote store", "attach store", "detach store", "demote store"],
        "what is not granted reaches nobody"
    );
}

#[tokio::test]
async fn each_trouble_of_a_volume_has_its_kind_and_code() {
    let house = House::new();
    let volumes = Arc::new(OneVolume::new(Path::new("/dev/nowhere")));
    let probe = Probe::new(&house, json!({"volume": ["store"]}), Some(Arc::clone(&volumes) as _)).await;
    let words = || "its own words".to_owned();
    for (trouble, expected) in [
        (VolumeTrouble::NoSuchVolume(words()), "NotFound no-such-volume: its own words"),
        (VolumeTrouble::Unavailable(words()), "Unavailable volume-unavailable: its own words"),
        (VolumeTrouble::Lost(words()), "Closed volume-lost: its own words"),
        (VolumeTrouble::NoRight(words()), "Unavailable no-right: its own words"),
        (VolumeTrouble::NotPromotable(words()), "Failed not-promotable: its own words"),
        (VolumeTrouble::Busy(words()), "Unavailable busy: its own words"),
        (VolumeTrouble::Attachment(words()), "Failed attachment: its own words"),
        (VolumeTrouble::Failed(words()), "Failed volume: its own words"),
    ] {
        *volumes.trouble.lock().unwrap() = Some(trouble);
        Probe::fault(probe.volume("promote", "store").await, expected);
    }
}

#[tokio::test]
async fn a_host_without_volumes_says_so_and_one_that_hangs_holds_up_nobody() {
    let house = House::new();
    let probe = Probe::new(&house, json!({"volume": ["store"]}), None).await;
    Probe::fault(probe.volume("status", "store").await, "Unavailable volume-unavailable");
    let silent = OneVolume { silent: true, ..OneVolume::new(Path::new("/dev/nowhere")) };
    let probe = Probe::new(&house, json!({"volume": ["store"]}), Some(Arc::new(silent))).await;
    let began = Instant::now();
    let step = json!({"do": "volume", "ask": "status", "name": "store"});
    let told = Probe::fault(probe.take(step, Duration::from_secs(3)).await, "Timeout timeout");
    assert!(told.contains("status store") && began.elapsed() < WAIT_LIMIT, "{told}");
}

#[tokio::test]
async fn a_file_system_is_made_checked_mounted_marked_and_unmounted() {
    let Some(world) = World::new() else { return };
    let (probe, here) = (world.probe().await, world.here());
    let step = async |function: &str| Probe::ok(probe.mount(function, here.clone()).await);
    assert_eq!(step("look").await, "Place { folder: true, mounted: None }");
    assert_eq!(step("probe").await, "None");
    assert_eq!(step("missing-programs").await, "[]");
    assert_eq!(step("make-file-system").await, "()");
    let found = step("probe").await;
    assert!(
        found.starts_with(r#"Some(Content { kind: "ext4", file_system: true, label: None, uuid: Some("#),
        "{found}"
    );
    let checked = step("check").await;
    assert!(checked.starts_with("Checked { outcome: Clean"), "{checked}");

    assert_eq!(step("mount").await, "true");
    assert_eq!(step("mount").await, "false", "it is mounted already");
    let seen = step("look").await;
    for words in [
        &format!(r#"source: Some(Device("{}"))"#, world.disk.path()),
        r#"file_system: "ext4""#,
        r#""nosuid", "nodev""#,
        "read_only: false",
        "trouble: None",
        "room: Some(",
        "layers: 1",
    ] {
        assert!(seen.contains(words), "{words}: {seen}");
    }
    assert_eq!(step("users").await, "[]");
    step("write-marker").await;
    let marker = fs::metadata(Path::new(&world.point).join(".mainstay-marker")).unwrap();
    assert_eq!(marker.len(), 4096);
    Probe::fault(probe.mount("check", here.clone()).await, "Unavailable mounted");
    Probe::fault(probe.mount("make-file-system", here.clone()).await, "Unavailable mounted");

    assert_eq!(step("unmount").await, "true");
    assert_eq!(step("unmount").await, "false", "nothing is mounted");
    assert!(fs::read_dir(&world.point).unwrap().next().is_none());
    Probe::fault(probe.mount("write-marker", here.clone()).await, "NotFound not-mounted");
}

#[tokio::test]
async fn who_keeps_it_busy_is_named_and_ended_when_asked() {
    let Some(world) = World::new() else { return };
    world.mounted();
    let (probe, here) = (world.probe().await, world.here());
    // One ends when it is asked to; one does not listen; one is somewhere else and is left alone.
    let guard = |name: &str, command: &mut Command| Guard::start(name, command).unwrap();
    let mut polite = guard("polite", Command::new("sleep").arg("4713").current_dir(&world.point));
    let stubborn = format!(
        "trap '' TERM; exec 3> {}/open; echo ready > {}/ready; while :; do sleep 1; done",
        world.point, world.point
    );
    let mut stubborn = guard("stubborn", Command::new("sh").args(["-c", &stubborn]));
    let mut elsewhere = guard("elsewhere", Command::new("sleep").arg("4717"));
    let ready = Path::new(&world.point).join("ready");
    wait_until(WAIT_LIMIT, "the second process to open its file", || ready.exists());

    let users = Probe::ok(probe.mount("users", here.clone()).await);
    assert!(users.contains("sleep 4713") && users.contains(r#"by: "cwd""#), "{users}");
    assert!(users.contains("trap '' TERM") && users.contains("/mail/open") && !users.contains("4717"), "{users}");
    let busy = Probe::fault(probe.mount("unmount", here.clone()).await, "Unavailable busy");
    for words in ["sleep 4713 (pid ", "user root; cwd)", "/mail/open)"] {
        assert!(busy.contains(words), "{words}: {busy}");
    }

    let mut short = here.clone();
    short["ms"] = json!(500);
    let ended = Probe::ok(probe.mount("end-users", short).await);
    assert!(ended.contains("sleep 4713") && ended.contains("trap '' TERM"), "{ended}");
    assert!(polite.status().is_some() && stubborn.status().is_some() && elsewhere.status().is_none());
    assert_eq!(Probe::ok(probe.mount("unmount", here).await), "true");
}

#[tokio::test]
async fn what_is_mounted_beneath_is_named_too() {
    let Some(world) = World::new() else { return };
    world.mounted();
    let inner = Path::new(&world.point).join("inner");
    fs::create_dir(&inner).unwrap();
    run("mount", &["-t", "tmpfs", "scratch", inner.to_str().unwrap()]);
    let (probe, here) = (world.probe().await, world.here());
    let busy = Probe::fault(probe.mount("unmount", here.clone()).await, "Unavailable busy");
    assert!(busy.contains("scratch is mounted at") && busy.contains("/mail/inner beneath it"), "{busy}");
    run("umount", &[inner.to_str().unwrap()]);
    assert_eq!(Probe::ok(probe.mount("unmount", here).await), "true");
}

#[tokio::test]
async fn what_a_crash_leaves_is_repaired_and_what_is_damaged_is_left_to_a_person() {
    let Some(world) = World::new() else { return };
    world.mounted();
    for number in 0..50 {
        fs::write(Path::new(&world.point).join(format!("{number}")), vec![7; 10_000]).unwrap();
    }
    run("sync", &["-f", &world.point]);
    // The disk as a power cut leaves it.
    let crashed = world.house.path("crashed.img");
    fs::copy(&world.image, &crashed).unwrap();
    let disk = Loop::over(&crashed);
    let grants = json!({"mount": [{"point": world.point, "device": disk.path()}]});
    let probe = Probe::new(&world.house, grants, None).await;
    let here = json!({"device": disk.path(), "file-system": "ext4"});
    let checked = Probe::ok(probe.mount("check", here.clone()).await);
    assert!(checked.contains("outcome: Repaired") && checked.contains("recovering journal"), "{checked}");
    let checked = Probe::ok(probe.mount("check", here.clone()).await);
    assert!(checked.contains("outcome: Clean"), "{checked}");

    // An inode that is gone, a root folder at that.
    run("debugfs", &["-w", "-R", "clri <2>", disk.path()]);
    run("debugfs", &["-w", "-R", "set_super_value state 2", disk.path()]);
    let checked = Probe::ok(probe.mount("check", here).await);
    assert!(checked.contains("outcome: Damaged") && checked.contains("UNEXPECTED INCONSISTENCY"), "{checked}");
}

#[tokio::test]
async fn an_xfs_repairs_itself_when_it_is_mounted() {
    let Some(world) = World::new() else { return };
    if mainstay_test_support::require_or_skip("mkfs.xfs", "apt-get install xfsprogs").is_none() {
        return;
    }
    // The smallest that mkfs.xfs makes.
    let image = world.house.path("xfs.img");
    File::create(&image).unwrap().set_len(300 << 20).unwrap();
    let disk = Loop::over(&image);
    let grants = json!({"mount": [{"point": world.point, "device": disk.path()}]});
    let probe = Probe::new(&world.house, grants, None).await;
    let here = json!({
        "device": disk.path(), "point": world.point, "file-system": "xfs", "options": ["inode64"], "ms": 2000,
    });
    let step = async |function: &str| Probe::ok(probe.mount(function, here.clone()).await);
    assert_eq!(step("missing-programs").await, "[]");
    step("make-file-system").await;
    assert!(step("probe").await.contains(r#"kind: "xfs", file_system: true"#));
    assert!(step("check").await.contains("outcome: AtMount"));
    assert_eq!(step("mount").await, "true");
    step("write-marker").await;
    // As a power cut leaves it: the log is replayed by the mount.
    run("xfs_io", &["-x", "-c", "shutdown", &world.point]);
    Probe::fault(probe.mount("write-marker", here.clone()).await, "Failed marker");
    let seen = step("look").await;
    assert!(seen.contains("read_only: true") && seen.contains("does not work any more: Input/output error"), "{seen}");
    assert_eq!(step("unmount").await, "true");
    assert_eq!(step("mount").await, "true");
    step("write-marker").await;
    assert_eq!(step("unmount").await, "true");
}

#[tokio::test]
async fn what_is_on_a_disk_is_never_overwritten() {
    let Some(world) = World::new() else { return };
    let (probe, here) = (world.probe().await, world.here());
    for at in [0, DISK_BYTES - 1] {
        let image = File::options().write(true).open(&world.image).unwrap();
        image.write_all_at(&[7], at).unwrap();
        run("blockdev", &["--flushbufs", world.disk.path()]);
        assert_eq!(Probe::ok(probe.mount("probe", here.clone()).await), "None", "nobody knows what it is");
        let refused = Probe::fault(probe.mount("make-file-system", here.clone()).await, "Failed not-empty");
        assert!(refused.contains(&format!("at byte {at}")), "{refused}");
        image.write_all_at(&[0], at).unwrap();
        run("blockdev", &["--flushbufs", world.disk.path()]);
    }
    run("mkswap", &[world.disk.path()]);
    let found = Probe::ok(probe.mount("probe", here.clone()).await);
    assert!(found.contains(r#"kind: "swap", file_system: false"#), "{found}");
    let refused = Probe::fault(probe.mount("make-file-system", here.clone()).await, "Failed not-empty");
    assert!(refused.contains("it holds swap"), "{refused}");
    Probe::fault(probe.mount("mount", here).await, "Failed mount");
}

#[tokio::test]
async fn only_what_is_granted_is_mounted_and_only_that_is_unmounted() {
    let Some(world) = World::new() else { return };
    run("mkfs.ext4", &["-q", world.disk.path()]);
    let (probe, here) = (world.probe().await, world.here());
    let with = |key: &str, value: Value| {
        let mut ask = here.clone();
        ask[key] = value;
        ask
    };
    for function in ["mount", "unmount", "users", "end-users", "write-marker"] {
        Probe::fault(probe.mount(function, with("point", json!("/mnt"))).await, "Denied not-granted");
        Probe::fault(probe.mount(function, with("device", json!("/dev/loop-control"))).await, "Denied not-granted");
        let refused = Probe::fault(probe.mount(function, with("volume", json!("store"))).await, "Denied not-granted");
        assert!(refused.contains(&format!("granted: {} of {}", world.point, world.disk.path())), "{refused}");
    }
    for function in ["probe", "check", "make-file-system"] {
        Probe::fault(probe.mount(function, with("device", json!("/dev/vda"))).await, "Denied not-granted");
    }
    Probe::fault(probe.mount("look", with("point", json!("/"))).await, "Denied not-granted");
    Probe::fault(probe.mount("mount", with("options", json!(["suid"]))).await, "Invalid mount-option");
    Probe::fault(probe.mount("mount", with("file-system", json!("tmpfs"))).await, "Invalid file-system");

    // What somebody else has mounted stays.
    run("mount", &["-t", "tmpfs", "other", &world.point]);
    let seen = Probe::ok(probe.mount("look", here.clone()).await);
    assert!(seen.contains(r#"source: None, device: "other", file_system: "tmpfs""#), "{seen}");
    Probe::fault(probe.mount("mount", here.clone()).await, "Failed foreign-mount");
    assert_eq!(Probe::ok(probe.mount("unmount", here.clone()).await), "false");
    run("umount", &[&world.point]);
    // Nor is what lies beneath it taken away from under it.
    assert_eq!(Probe::ok(probe.mount("mount", here.clone()).await), "true");
    run("mount", &["-t", "tmpfs", "other", &world.point]);
    let covered = Probe::fault(probe.mount("unmount", here.clone()).await, "Unavailable covered");
    assert!(covered.contains("other (tmpfs)"), "{covered}");
    run("umount", &[&world.point]);
    // And a disk is mounted once.
    let second = world.house.path("second");
    fs::create_dir(&second).unwrap();
    let second = second.to_str().unwrap().to_owned();
    let grants = json!({"mount": [{"point": second, "device": world.disk.path()}]});
    let other = Probe::new(&world.house, grants, None).await;
    let refused = Probe::fault(other.mount("mount", with("point", json!(second))).await, "Unavailable mounted");
    assert!(refused.contains(&format!("at {}", world.point)), "{refused}");
    fs::remove_dir(&second).unwrap();
    assert_eq!(Probe::ok(probe.mount("unmount", here.clone()).await), "true");
    Probe::fault(other.mount("mount", with("point", json!(second))).await, "NotFound no-mount-point");
}

#[tokio::test]
async fn a_kernel_that_stopped_writing_is_seen() {
    let Some(world) = World::new() else { return };
    world.mounted();
    let (probe, here) = (world.probe().await, world.here());
    let name = world.disk.device.file_name().unwrap().to_str().unwrap();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "by the test").unwrap();
    let seen = Probe::ok(probe.mount("look", here.clone()).await);
    assert!(seen.contains("read_only: true") && seen.contains("the kernel writes nothing more"), "{seen}");
    Probe::fault(probe.mount("write-marker", here.clone()).await, "Failed marker");
    assert_eq!(Probe::ok(probe.mount("unmount", here.clone()).await), "true");
    let checked = Probe::ok(probe.mount("check", here).await);
    assert!(checked.contains("outcome: Repaired"), "{checked}");
}

#[tokio::test]
async fn a_file_system_that_hangs_holds_up_its_own_resource_only_as_long_as_it_was_asked_to() {
    let Some(world) = World::new() else { return };
    world.mounted();
    let (probe, here) = (world.probe().await, world.here());
    run("fsfreeze", &["-f", &world.point]);
    let began = Instant::now();
    Probe::fault(probe.mount("write-marker", here.clone()).await, "Timeout timeout");
    let stuck = Probe::fault(probe.mount("write-marker", here.clone()).await, "Unavailable stuck");
    assert!(stuck.contains("has not come back from the kernel"), "{stuck}");
    let seen = Probe::ok(probe.mount("look", here.clone()).await);
    assert!(seen.contains("room: None"), "the rest is told all the same: {seen}");
    assert!(began.elapsed() < WAIT_LIMIT);
    // The store of the same resource goes on.
    let step = json!({"do": "store-put", "key": "a", "value": "1"});
    Probe::ok(probe.take(step, common::BUDGET).await);
    run("fsfreeze", &["-u", &world.point]);
    let mut last = String::new();
    let limit = Instant::now() + WAIT_LIMIT;
    while Instant::now() < limit {
        let (how, text) = probe.mount("write-marker", here.clone()).await;
        if how == "ok" {
            return;
        }
        last = text;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it works again once the kernel goes on: {last}");
}

/// The volume kit over a volume that is made up and a real file system.
struct Mail {
    world: World,
    volumes: Arc<OneVolume>,
    kit: Arc<Kit>,
    resource: Arc<ResourceServices>,
}

impl Mail {
    async fn new() -> Option<Self> {
        let world = World::new()?;
        let volumes = Arc::new(OneVolume::new(&world.disk.device));
        let kit = world.house.kit("volume").await;
        let grants = json!({"volume": ["store"], "mount": [world.point]});
        let services = world.house.services("mail-store", grants).with_volumes(Arc::clone(&volumes) as _);
        Some(Self { world, volumes, kit, resource: Arc::new(services) })
    }

    async fn call(&self, operation: Operation, more: Value) -> Outcome {
        let mut params = json!({"volume": "store", "mount-point": self.world.point, "options": ["noatime"]});
        for (key, value) in more.as_object().unwrap() {
            params[key] = value.clone();
        }
        assert_eq!(self.kit.check_params(&params), []);
        outcome(&self.kit, call(operation, "mail-store", &params, &self.resource)).await
    }

    async fn health(&self) -> (Health, String) {
        let report = report(&self.call(Operation::QuickCheck, json!({})).await);
        (report.health, report.code)
    }
}

#[track_caller]
fn done(outcome: Outcome) -> mainstay_runtime::Done {
    let Outcome::Done(done) = outcome else { panic!("{outcome:?}") };
    done
}

#[track_caller]
fn error(outcome: Outcome) -> mainstay_runtime::KitError {
    let Outcome::Error(error) = outcome else { panic!("{outcome:?}") };
    error
}

#[tokio::test]
async fn the_volume_kit_goes_in_service_and_out_with_a_real_file_system() {
    let Some(mail) = Mail::new().await else { return };
    let Outcome::Findings(found) = mail.call(Operation::Assess, json!({})).await else { panic!("no findings") };
    assert_eq!(found, []);
    let refused = error(mail.call(Operation::Restore, json!({})).await);
    assert_eq!(refused.code, "no-file-system");
    done(mail.call(Operation::Remove, json!({})).await);
    let made = done(mail.call(Operation::Restore, json!({"make-file-system": true})).await);
    assert!(made.changed && made.summary.ends_with("made for it"), "{}", made.summary);
    assert_eq!(mail.health().await, (Health::Healthy, "ok".to_owned()));
    let options = run("findmnt", &["-n", "-o", "OPTIONS", &mail.world.point]);
    for option in ["noatime", "nosuid", "nodev", "errors=remount-ro"] {
        assert!(options.contains(option), "{options}");
    }
    assert!(!done(mail.call(Operation::Restore, json!({})).await).changed);
    fs::write(Path::new(&mail.world.point).join("letter"), "hello").unwrap();

    // Somebody is at work there.
    let mut busy = Guard::start("busy", Command::new("sleep").arg("4721").current_dir(&mail.world.point)).unwrap();
    let refused = error(mail.call(Operation::Remove, json!({})).await);
    assert!(refused.code == "busy" && refused.message.contains("sleep 4721 (pid "), "{refused:?}");
    assert_eq!(mail.health().await.0, Health::Healthy);
    let removed = done(mail.call(Operation::Remove, json!({"end-users": true, "end-grace": "1s"})).await);
    assert!(removed.details.iter().any(|(key, value)| key == "ended" && value.contains("sleep 4721")), "{removed:?}");
    assert!(busy.status().is_some());
    assert_eq!(mail.health().await.0, Health::Stopped);
    assert!(!done(mail.call(Operation::Remove, json!({})).await).changed);
    assert_eq!(mail.volumes.state.lock().unwrap().attachment, None);

    done(mail.call(Operation::Restore, json!({})).await);
    assert_eq!(fs::read_to_string(Path::new(&mail.world.point).join("letter")).unwrap(), "hello");
    done(mail.call(Operation::Remove, json!({})).await);
}

#[tokio::test]
async fn the_volume_kit_mounts_again_what_the_kernel_has_given_up() {
    let Some(mail) = Mail::new().await else { return };
    done(mail.call(Operation::Restore, json!({"make-file-system": true})).await);
    let name = mail.world.disk.device.file_name().unwrap().to_str().unwrap();
    fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "by the test").unwrap();
    assert_eq!(mail.health().await, (Health::Failed, "read-only".to_owned()));
    let why = Failure { found_by: "quick-check".into(), report: None, bad_checks: 1, details: Vec::new() };
    let Outcome::Recovery(result) = mail.call(Operation::Recover(why.clone()), json!({})).await else { panic!() };
    assert_eq!(result.verdict, Verdict::RestartDependents, "{}", result.summary);
    assert_eq!(mail.health().await, (Health::Healthy, "ok".to_owned()));
    let Outcome::Recovery(result) = mail.call(Operation::Recover(why), json!({})).await else { panic!() };
    assert_eq!(result.verdict, Verdict::Recovered, "{}", result.summary);

    mail.volumes.state.lock().unwrap().mirror = VolumeMirror::Broken;
    assert_eq!(mail.health().await, (Health::Degraded, "mirror-broken".to_owned()));
    done(mail.call(Operation::Remove, json!({})).await);
    mail.volumes.state.lock().unwrap().copy = VolumeCopy::Outdated;
    let Outcome::Findings(found) = mail.call(Operation::Assess, json!({})).await else { panic!("no findings") };
    let found: Vec<_> = found.iter().map(|it| (it.weight, it.code.as_str())).collect();
    assert_eq!(found, [(Weight::Blocking, "copy-outdated"), (Weight::Warning, "mirror-broken")]);
}

#[tokio::test]
async fn a_config_that_lacks_a_grant_is_told() {
    let house = House::new();
    let kit = house.kit("volume").await;
    let problems = |grants: Value| -> Vec<String> {
        let grants = serde_json::from_value(grants).unwrap();
        kit.check_grants(&grants, None).iter().map(ToString::to_string).collect()
    };
    assert_eq!(problems(json!({"volume": ["store"], "mount": ["/srv/mail"]})), [] as [&str; 0]);
    let drbd = json!({"command": ["/bin/true"], "mount": [{"point": "/srv/mail", "device": "/dev/drbd0"}]});
    assert_eq!(problems(drbd), [] as [&str; 0]);
    for (grants, words) in [
        (json!({}), "grants.mount = [\"/mount/point\"]"),
        (json!({"mount": ["/srv/mail"]}), "no volume is granted, and no device"),
        (json!({"volume": ["store"], "mount": ["srv"]}), "a mount point is an absolute path"),
        (json!({"mount": [{"point": "/srv", "device": "drbd0"}]}), "by its path in /dev"),
        (json!({"volume": ["a/b"], "mount": ["/srv"]}), "a volume's name"),
        (
            json!({"volume": ["a"], "mount": ["/srv", {"point": "/srv", "device": "/dev/drbd0"}]}),
            "granted for something else too",
        ),
        (json!({"volume": ["a", "a"], "mount": ["/srv"]}), "granted twice"),
    ] {
        let told = problems(grants.clone());
        assert!(told.iter().any(|told| told.contains(words)), "{grants}: {told:?}");
    }
}
