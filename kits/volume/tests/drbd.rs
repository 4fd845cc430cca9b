//! The volume kit over DRBD, with a drbdadm that behaves as the real one does. No real DRBD.

use std::cell::RefCell;
use std::rc::Rc;

use mainstay_kit_volume::{Volume, VolumeParams};
use mainstay_sdk::command::Request;
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Disk, FakeHost, FakePlace, exited, exited_saying};
use serde_json::json;

const POINT: &str = "/srv/mail";
const DUMP: &str =
    "# resource mail on node1: not ignored, not stacked\nresource mail {\n    net {\n        protocol C;\n    }\n}\n";

/// What the resource is.
struct Drbd {
    up: bool,
    /// What is not up is not known to the kernel.
    unknown: bool,
    role: &'static str,
    peer_role: &'static str,
    connection: &'static str,
    disk: &'static str,
    dump: String,
    held_open: bool,
    changes: Vec<String>,
}

impl Drbd {
    fn answer(&mut self, request: &Request) -> mainstay_sdk::command::Completed {
        let said = |text: String| mainstay_sdk::command::Completed { stdout: text.into_bytes(), ..exited(0) };
        assert_eq!(request.args[1..], ["mail"], "no further argument: nothing is forced");
        match request.args[0].as_str() {
            "dump" => said(self.dump.clone()),
            // As 8.4.11 says it with drbd-utils 9.22; a device that has no disk yet is "Unconfigured".
            "role" | "cstate" | "dstate" if !self.up && self.unknown => exited_saying(
                10,
                "0: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor\n\
                 Command 'drbdsetup-84 role 0' terminated with exit code 10\n",
            ),
            "role" | "cstate" | "dstate" if !self.up => said("Unconfigured\n".into()),
            "role" => said(format!("{}/{}\n", self.role, self.peer_role)),
            "cstate" => said(format!("{}\n", self.connection)),
            "dstate" => said(format!("{}\n", self.disk)),
            "primary" => {
                self.changes.push("primary".into());
                if self.peer_role == "Primary" {
                    return exited_saying(
                        11,
                        "0: State change failed: (-1) Multiple primaries not allowed by config\n",
                    );
                }
                self.role = "Primary";
                exited(0)
            }
            "secondary" => {
                self.changes.push("secondary".into());
                if self.held_open {
                    return exited_saying(11, "0: State change failed: (-12) Device is held open by someone\n");
                }
                self.role = "Secondary";
                exited(0)
            }
            other => panic!("drbdadm {other} is not for the kit"),
        }
    }
}

fn host(change: impl FnOnce(&mut Drbd)) -> (FakeHost, Rc<RefCell<Drbd>>) {
    let mut drbd = Drbd {
        up: true,
        unknown: false,
        role: "Secondary",
        peer_role: "Secondary",
        connection: "Connected",
        disk: "UpToDate/UpToDate",
        dump: DUMP.into(),
        held_open: false,
        changes: Vec::new(),
    };
    change(&mut drbd);
    let drbd = Rc::new(RefCell::new(drbd));
    let host = FakeHost::install();
    let behind = Rc::clone(&drbd);
    host.program("/usr/sbin/drbdadm", move |request| behind.borrow_mut().answer(request));
    host.device("/dev/drbd0", Disk::Unclean("ext4".into()));
    host.place(POINT, FakePlace { folder: true, device: Some("/dev/drbd0".into()), ..FakePlace::default() });
    (host, drbd)
}

fn context(host: &FakeHost) -> Context<VolumeParams> {
    host.context(json!({
        "backend": "drbd", "drbd-resource": "mail", "device": "/dev/drbd0", "mount-point": POINT,
    }))
}

#[test]
fn it_is_primary_and_mounted_in_service_and_secondary_out_of_it() {
    let (host, drbd) = host(|_| {});
    let ctx = context(&host);
    assert_eq!(Volume::quick_check(&ctx).unwrap().health, Health::Stopped);
    assert_eq!(Volume::assess(&ctx).unwrap(), []);
    assert!(Volume::restore(&ctx).unwrap().changed);
    let report = Volume::quick_check(&ctx).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Healthy, "ok"), "{}", report.summary);
    assert!(!Volume::restore(&ctx).unwrap().changed);
    assert!(Volume::remove(&ctx).unwrap().changed);
    assert!(!Volume::remove(&ctx).unwrap().changed);
    assert_eq!(drbd.borrow().changes, ["primary", "secondary"]);
    host.assert_declared::<Volume>();
}

#[test]
fn nothing_is_forced() {
    for (disk, code) in [
        ("Inconsistent/UpToDate", "not-promotable"),
        ("Outdated/DUnknown", "not-promotable"),
        ("Diskless/UpToDate", "not-promotable"),
        ("DUnknown/DUnknown", "not-promotable"),
    ] {
        let (host, drbd) = host(|drbd| drbd.disk = disk);
        let error = Volume::restore(&context(&host)).unwrap_err();
        assert_eq!((error.code.as_str(), error.retry, error.effect), (code, Retry::Elsewhere, Effect::None), "{disk}");
        assert_eq!(drbd.borrow().changes, [] as [&str; 0], "{disk}");
        let found = Volume::assess(&context(&host)).unwrap();
        assert!(found.iter().any(|finding| finding.weight == Weight::Blocking), "{disk}: {found:?}");
    }
}

#[test]
fn two_primaries_are_refused() {
    let dump = DUMP.replace("protocol C;", "protocol C;\n        allow-two-primaries yes;");
    let (host, drbd) = host(|drbd| drbd.dump = dump);
    let error = Volume::restore(&context(&host)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("dual-primary", Retry::Nowhere));
    assert_eq!(drbd.borrow().changes, [] as [&str; 0]);
    let found = Volume::assess(&context(&host)).unwrap();
    assert_eq!((found[0].weight, found[0].code.as_str()), (Weight::Blocking, "dual-primary"));
}

#[test]
fn a_primary_on_the_other_node_is_waited_for() {
    let (host, drbd) = host(|drbd| drbd.peer_role = "Primary");
    let error = Volume::restore(&context(&host)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("peer-primary", Retry::Here));
    assert_eq!(drbd.borrow().changes, [] as [&str; 0]);
}

#[test]
fn a_lost_connection_is_degraded_in_service() {
    for (connection, disk, code) in [
        ("WFConnection", "UpToDate/Outdated", "mirror-broken"),
        ("StandAlone", "UpToDate/DUnknown", "mirror-refused"),
        ("SyncSource", "UpToDate/Inconsistent", "mirror-resync"),
        ("Connected", "UpToDate/Inconsistent", "mirror-broken"),
    ] {
        let (host, drbd) = host(|_| {});
        Volume::restore(&context(&host)).unwrap();
        (drbd.borrow_mut().connection, drbd.borrow_mut().disk) = (connection, disk);
        let report = Volume::quick_check(&context(&host)).unwrap();
        assert_eq!((report.health, report.code.as_str()), (Health::Degraded, code), "{connection}");
    }
}

#[test]
fn a_resource_that_is_down_holds_nothing_and_says_how_to_bring_it_up() {
    for unknown in [false, true] {
        let (host, drbd) = host(|drbd| (drbd.up, drbd.unknown) = (false, unknown));
        assert!(!Volume::remove(&context(&host)).unwrap().changed);
        let error = Volume::restore(&context(&host)).unwrap_err();
        assert_eq!((error.code.as_str(), error.retry), ("drbd-down", Retry::Elsewhere));
        assert!(error.message.contains("drbdadm up mail"), "{error}");
        let found = Volume::assess(&context(&host)).unwrap();
        assert_eq!((found[0].weight, found[0].code.as_str()), (Weight::Blocking, "drbd-down"));
        assert_eq!(drbd.borrow().changes, [] as [&str; 0]);
    }
}

#[test]
fn a_device_that_is_held_open_stays_primary() {
    let (host, drbd) = host(|_| {});
    Volume::restore(&context(&host)).unwrap();
    drbd.borrow_mut().held_open = true;
    let error = Volume::remove(&context(&host)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry, error.effect), ("busy", Retry::Here, Effect::Partial));
    drbd.borrow_mut().held_open = false;
    Volume::remove(&context(&host)).unwrap();
    assert_eq!(drbd.borrow().role, "Secondary");
}

#[test]
fn without_a_grant_for_drbdadm_a_standby_says_so() {
    let host = FakeHost::install();
    host.device("/dev/drbd0", Disk::Clean("ext4".into()));
    host.place(POINT, FakePlace { folder: true, device: Some("/dev/drbd0".into()), ..FakePlace::default() });
    let found = Volume::assess(&context(&host)).unwrap();
    assert_eq!((found[0].weight, found[0].code.as_str()), (Weight::Blocking, "not-granted"));
}
