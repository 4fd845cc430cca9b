//! What the volume kit does with a volume of the host, and what it says of it: every step failing, and called again after
//! each. No real volume, no real file system.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use mainstay_kit_volume::{Volume, VolumeParams};
use mainstay_sdk::mount::User;
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Call, Disk, FakeHost, FakeMounted, FakePlace, FakeVolume, Operation};
use mainstay_sdk::volume::{Attachment, CopyState, MirrorState, Role};
use serde_json::{Value, json};

const POINT: &str = "/srv/mail";

/// A standby that could be brought in service.
fn standby() -> FakeHost {
    let host = FakeHost::install();
    host.volume("store", FakeVolume::standby());
    host.place(POINT, FakePlace { folder: true, ..FakePlace::default() });
    host
}

fn context(host: &FakeHost, more: Value) -> Context<VolumeParams> {
    let mut params = json!({ "volume": "store", "mount-point": POINT });
    for (key, value) in more.as_object().expect("an object of params") {
        params[key] = value.clone();
    }
    host.context(params)
}

fn plain(host: &FakeHost) -> Context<VolumeParams> {
    context(host, json!({}))
}

fn change(host: &FakeHost, change: impl FnOnce(&mut FakeVolume)) {
    let mut volume = host.volume_now("store");
    change(&mut volume);
    host.volume("store", volume);
}

fn change_place(host: &FakeHost, change: impl FnOnce(&mut FakePlace)) {
    let mut place = host.place_now(POINT);
    change(&mut place);
    host.place(POINT, place);
}

fn in_service() -> FakeHost {
    let host = standby();
    Volume::restore(&plain(&host)).unwrap();
    assert_eq!(health(&host), (Health::Healthy, "ok".to_owned()));
    host.forget_calls();
    host
}

fn health(host: &FakeHost) -> (Health, String) {
    let report = Volume::quick_check(&plain(host)).unwrap();
    (report.health, report.code)
}

fn failure() -> Failure {
    Failure { found_by: "quick-check".into(), report: None, bad_checks: 1, details: Vec::new() }
}

fn detail<'a>(details: &'a [(String, String)], key: &str) -> Option<&'a str> {
    details.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// What was asked of the host that changes something, in this order.
fn steps(host: &FakeHost) -> Vec<Operation> {
    use Operation as O;
    let changes = [
        O::VolumePromote,
        O::VolumeDemote,
        O::VolumeAttach,
        O::VolumeDetach,
        O::MountCheck,
        O::MountMakeFileSystem,
        O::MountMount,
        O::MountUnmount,
        O::MountEndUsers,
        O::MountWriteMarker,
    ];
    host.calls().iter().map(Call::operation).filter(|operation| changes.contains(operation)).collect()
}

fn db() -> User {
    User { pid: 4711, command: "/usr/sbin/dovecot -F".into(), user: "dovecot".into(), by: "cwd".into() }
}

#[test]
fn in_service_is_promoted_attached_checked_and_mounted_in_this_order() {
    let host = standby();
    assert_eq!(health(&host), (Health::Stopped, "stopped".to_owned()));
    host.forget_calls();
    let done = Volume::restore(&plain(&host)).unwrap();
    assert!(done.changed && done.summary == "the volume store is mounted at /srv/mail", "{}", done.summary);
    assert_eq!(
        steps(&host),
        [Operation::VolumePromote, Operation::VolumeAttach, Operation::MountCheck, Operation::MountMount]
    );
    let options = host.place_now(POINT).mounted[0].options.clone();
    assert_eq!(options, ["errors=remount-ro"], "a damaged ext4 writes no more");
    assert_eq!(health(&host), (Health::Healthy, "ok".to_owned()));
    host.forget_calls();
    assert!(!Volume::restore(&plain(&host)).unwrap().changed);
    assert_eq!(steps(&host), [], "in service already: nothing is touched");
    host.assert_declared::<Volume>();
}

#[test]
fn out_of_service_is_unmounted_detached_and_demoted_in_this_order() {
    let host = in_service();
    host.forget_calls();
    let done = Volume::remove(&plain(&host)).unwrap();
    assert_eq!(done.summary, "the volume store is unmounted, detached, demoted");
    assert_eq!(steps(&host), [Operation::MountUnmount, Operation::VolumeDetach, Operation::VolumeDemote]);
    let volume = host.volume_now("store");
    assert_eq!((volume.role, volume.attachment, volume.disk), (Role::Target, None, Disk::Clean("ext4".into())));
    assert_eq!(health(&host).0, Health::Stopped);
    assert!(!Volume::remove(&plain(&host)).unwrap().changed, "nothing is there");
    host.assert_declared::<Volume>();
}

#[test]
fn whatever_step_of_restore_fails_it_is_told_and_goes_on_when_called_again() {
    use Operation as O;
    for (step, effect) in [
        (O::MountLook, Effect::None),
        (O::VolumeStatus, Effect::None),
        (O::VolumePromote, Effect::Unknown),
        (O::VolumeAttach, Effect::Partial),
        (O::MountProbe, Effect::Partial),
        (O::MountCheck, Effect::Partial),
        (O::MountMount, Effect::Partial),
    ] {
        for (kind, code) in
            [(FaultKind::Unavailable, "away"), (FaultKind::Timeout, "timeout"), (FaultKind::Failed, "broken")]
        {
            let host = standby();
            host.fail(step, Fault::new(kind, code, "the words of the host"));
            let error = Volume::restore(&plain(&host)).unwrap_err();
            assert_eq!((error.code.as_str(), error.effect), (code, effect), "{step:?}");
            assert!(error.message.contains("the words of the host"), "{step:?}: {error}");
            assert!(Volume::restore(&plain(&host)).unwrap().changed, "{step:?}");
            assert_eq!(health(&host).0, Health::Healthy, "{step:?}");
            // And after a failed one it can be taken out as well.
            let host = {
                drop(host);
                standby()
            };
            host.fail(step, Fault::new(kind, code, "again"));
            Volume::restore(&plain(&host)).unwrap_err();
            Volume::remove(&plain(&host)).unwrap();
            assert_eq!(health(&host).0, Health::Stopped, "{step:?}");
        }
    }
}

#[test]
fn whatever_step_of_remove_fails_it_is_told_and_goes_on_when_called_again() {
    use Operation as O;
    for step in [O::MountUnmount, O::VolumeDetach, O::VolumeDemote] {
        for (kind, code) in
            [(FaultKind::Unavailable, "away"), (FaultKind::Timeout, "timeout"), (FaultKind::Failed, "broken")]
        {
            let host = in_service();
            host.fail(step, Fault::new(kind, code, "the words of the host"));
            let error = Volume::remove(&plain(&host)).unwrap_err();
            assert_eq!((error.code.as_str(), error.retry), (code, Retry::Here), "{step:?}");
            Volume::remove(&plain(&host)).unwrap();
            assert_eq!(health(&host).0, Health::Stopped, "{step:?}");
            assert_eq!(host.volume_now("store").role, Role::Target, "{step:?}");
        }
    }
}

#[test]
fn a_volume_that_cannot_be_asked_is_taken_out_all_the_same() {
    let host = in_service();
    host.fail(Operation::VolumeStatus, Fault::new(FaultKind::Unavailable, "volume-unavailable", "no answer"));
    assert!(Volume::remove(&plain(&host)).unwrap().changed);
    assert_eq!(host.volume_now("store").attachment, None);
    let absent = || Fault::new(FaultKind::NotFound, "no-such-volume", "none of that name");
    for operation in [Operation::VolumeStatus, Operation::VolumeDetach, Operation::VolumeDemote] {
        host.fail(operation, absent());
    }
    assert!(!Volume::remove(&plain(&host)).unwrap().changed, "what this node does not have is not in service here");
}

#[test]
fn who_keeps_it_busy_is_named_and_ended_only_if_the_params_say_so() {
    let host = in_service();
    change_place(&host, |place| place.users = vec![db()]);
    let error = Volume::remove(&plain(&host)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("busy", Retry::Here));
    for words in ["/usr/sbin/dovecot -F", "4711", "user dovecot", "end-users = true"] {
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(health(&host).0, Health::Healthy, "it serves still");
    assert_eq!(host.place_now(POINT).users.len(), 1, "nobody was ended");

    let ctx = context(&host, json!({ "end-users": true, "end-grace": "3s" }));
    let done = Volume::remove(&ctx).unwrap();
    assert_eq!(detail(&done.details, "ended"), Some("/usr/sbin/dovecot -F (pid 4711)"));
    let grace = host
        .calls()
        .into_iter()
        .find_map(|call| if let Call::MountEndUsers { grace_ms, .. } = call { Some(grace_ms) } else { None });
    assert_eq!(grace, Some(3000));
    assert_eq!(host.volume_now("store").role, Role::Target);
}

#[test]
fn who_cannot_be_ended_keeps_it_in_service() {
    let host = in_service();
    change_place(&host, |place| (place.users, place.stubborn) = (vec![db()], true));
    let error = Volume::remove(&context(&host, json!({ "end-users": true }))).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("busy", Retry::Here));
    assert_eq!(host.volume_now("store").role, Role::Source);
}

#[test]
fn a_file_system_that_was_not_unmounted_is_repaired_first() {
    let host = standby();
    change(&host, |volume| volume.disk = Disk::Unclean("ext4".into()));
    let done = Volume::restore(&plain(&host)).unwrap();
    assert!(done.summary.ends_with("after a check had repaired its file system"), "{}", done.summary);
    assert_eq!(detail(&done.details, "check"), Some("recovering journal"));
}

#[test]
fn a_damaged_file_system_is_not_mounted_and_may_be_whole_elsewhere() {
    let host = standby();
    change(&host, |volume| volume.disk = Disk::Damaged("ext4".into()));
    let error = Volume::restore(&plain(&host)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry, error.effect), ("damaged", Retry::Elsewhere, Effect::Partial));
    assert!(error.message.contains("RUN fsck MANUALLY") && error.message.contains("fsck.ext4"), "{error}");
    assert_eq!(host.place_now(POINT).mounted, []);
    Volume::remove(&plain(&host)).unwrap();
    assert_eq!(host.volume_now("store").disk, Disk::Damaged("ext4".into()), "nothing was done to it");
}

#[test]
fn an_empty_volume_gets_a_file_system_only_when_told_to() {
    let host = standby();
    change(&host, |volume| volume.disk = Disk::Empty);
    let error = Volume::restore(&plain(&host)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("no-file-system", Retry::Nowhere));
    assert!(error.message.contains("make-file-system = true") && error.message.contains("mkfs.ext4"), "{error}");
    assert_eq!(host.volume_now("store").disk, Disk::Empty);
    let done = Volume::restore(&context(&host, json!({ "make-file-system": true }))).unwrap();
    assert!(done.summary.ends_with("with a file system that was made for it"), "{}", done.summary);
}

#[test]
fn what_lies_on_a_volume_is_never_overwritten() {
    for (disk, code) in [
        (Disk::Unknown, "not-empty"),
        (Disk::Other("LVM2_member".into()), "other-content"),
        (Disk::Clean("xfs".into()), "other-content"),
        (Disk::Unclean("btrfs".into()), "other-content"),
    ] {
        let host = standby();
        change(&host, |volume| volume.disk = disk.clone());
        let error = Volume::restore(&context(&host, json!({ "make-file-system": true }))).unwrap_err();
        assert_eq!((error.code.as_str(), error.retry), (code, Retry::Nowhere), "{disk:?}");
        assert_eq!(host.volume_now("store").disk, disk);
    }
}

#[test]
fn a_copy_that_is_not_good_enough_is_not_put_in_service() {
    for copy in [CopyState::Outdated, CopyState::Inconsistent, CopyState::Failed] {
        let host = standby();
        change(&host, |volume| volume.copy = copy);
        let error = Volume::restore(&plain(&host)).unwrap_err();
        assert_eq!((error.code.as_str(), error.retry), ("not-promotable", Retry::Elsewhere), "{copy:?}");
        assert_eq!(host.volume_now("store").role, Role::Target);
    }
    let host = standby();
    change(&host, |volume| volume.right = false);
    let error = Volume::restore(&plain(&host)).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("no-right", Retry::Here));
}

#[test]
fn what_somebody_else_has_mounted_is_left_alone() {
    let other =
        FakeMounted { device: "/dev/sdb1".into(), options: Vec::new(), read_only: false, trouble: None, room: None };
    let host = standby();
    change_place(&host, |place| place.mounted = vec![other.clone()]);
    let error = Volume::restore(&plain(&host)).unwrap_err();
    assert_eq!((error.kind, error.code.as_str(), error.effect), (ErrorKind::Conflict, "foreign-mount", Effect::None));
    assert!(!Volume::remove(&plain(&host)).unwrap().changed);
    assert_eq!(host.place_now(POINT).mounted, std::slice::from_ref(&other));
    let report = Volume::quick_check(&plain(&host)).unwrap();
    assert!(report.health == Health::Stopped && report.summary.contains("/dev/sdb1"), "{}", report.summary);

    drop(host);
    let host = in_service();
    change_place(&host, |place| place.mounted.push(other.clone()));
    assert_eq!(Volume::remove(&plain(&host)).unwrap_err().code, "covered");
    assert_eq!(host.place_now(POINT).mounted.len(), 2);
    assert_eq!(health(&host), (Health::Failed, "half".to_owned()));
}

#[test]
fn a_check_says_what_is_wrong() {
    type Change = fn(&mut FakeVolume, &mut FakeMounted);
    let cases: &[(Change, Health, &str)] = &[
        (|volume, _| volume.mirror = MirrorState::Broken, Health::Degraded, "mirror-broken"),
        (|volume, _| volume.mirror = MirrorState::Resync, Health::Degraded, "mirror-resync"),
        (|volume, _| volume.mirror = MirrorState::Paused, Health::Degraded, "mirror-paused"),
        (|volume, _| volume.mirror = MirrorState::SplitBrain, Health::Degraded, "split-brain"),
        (|volume, _| volume.mirror = MirrorState::Refused, Health::Degraded, "mirror-refused"),
        (|volume, _| volume.mirror = MirrorState::Greeting, Health::Degraded, "mirror-greeting"),
        (|volume, _| volume.mirror = MirrorState::None, Health::Degraded, "no-mirror"),
        (|volume, _| volume.alone = true, Health::Degraded, "alone"),
        (|volume, _| volume.copy = CopyState::Failed, Health::Degraded, "copy-failed"),
        (|volume, _| volume.role = Role::Target, Health::Failed, "not-source"),
        (
            |volume, _| volume.attachment.iter_mut().for_each(|attachment| attachment.works = false),
            Health::Failed,
            "dead",
        ),
        (|_, mounted| mounted.read_only = true, Health::Failed, "read-only"),
        (|_, mounted| mounted.room = None, Health::Unknown, "no-answer"),
        (|_, mounted| mounted.trouble = Some("3 errors".into()), Health::Degraded, "errors-noted"),
        (|_, mounted| mounted.device = "/dev/other".into(), Health::Failed, "half"),
    ];
    for (change, expected, code) in cases {
        let host = in_service();
        let (mut volume, mut place) = (host.volume_now("store"), host.place_now(POINT));
        change(&mut volume, &mut place.mounted[0]);
        host.volume("store", volume);
        host.place(POINT, place);
        assert_eq!(health(&host), (*expected, (*code).to_owned()), "{code}");
        assert_eq!(steps(&host), [], "a check changes nothing");
    }
}

#[test]
fn half_in_service_is_failed_and_not_stopped() {
    let host = standby();
    change(&host, |volume| volume.role = Role::Source);
    assert_eq!(health(&host), (Health::Failed, "half".to_owned()));
    change(&host, |volume| {
        volume.role = Role::Target;
        volume.attachment = Some(Attachment { device: "/dev/x".into(), works: true });
    });
    assert_eq!(health(&host), (Health::Failed, "half".to_owned()));
    Volume::remove(&plain(&host)).unwrap();
    assert_eq!(health(&host).0, Health::Stopped);
}

#[test]
fn a_check_that_cannot_tell_is_an_error_and_not_a_failure() {
    for operation in [Operation::MountLook, Operation::VolumeStatus] {
        let host = in_service();
        host.fail(operation, Fault::new(FaultKind::Unavailable, "away", "no answer"));
        assert_eq!(Volume::quick_check(&plain(&host)).unwrap_err().code, "away");
    }
}

#[test]
fn what_has_healed_is_recovered_once_it_can_be_written() {
    let host = in_service();
    let result = Volume::recover(&plain(&host), &failure()).unwrap();
    assert_eq!((result.verdict, steps(&host)), (Verdict::Recovered, vec![Operation::MountWriteMarker]));
    assert_eq!(detail(&result.details, "marker-ms"), Some("1"));
}

#[test]
fn a_dead_device_a_read_only_or_a_missing_mount_is_mounted_again_and_dependents_restart() {
    type Break = fn(&mut FakeVolume, &mut FakePlace);
    let breaks: &[(&str, Break)] = &[
        ("dead", |volume, _| volume.attachment.iter_mut().for_each(|attachment| attachment.works = false)),
        ("read-only", |_, place| place.mounted[0].read_only = true),
        ("unmounted by hand", |_, place| place.mounted.clear()),
        ("demoted", |volume, _| volume.role = Role::Target),
    ];
    for (name, breaks) in breaks {
        let host = in_service();
        let (mut volume, mut place) = (host.volume_now("store"), host.place_now(POINT));
        breaks(&mut volume, &mut place);
        host.volume("store", volume);
        host.place(POINT, place);
        let result = Volume::recover(&plain(&host), &failure()).unwrap();
        assert_eq!(result.verdict, Verdict::RestartDependents, "{name}: {}", result.summary);
        assert_eq!(health(&host), (Health::Healthy, "ok".to_owned()), "{name}");
        assert_eq!(host.place_now(POINT).mounted.len(), 1, "{name}");
    }
}

#[test]
fn restore_replaces_what_an_earlier_time_left() {
    let host = in_service();
    change(&host, |volume| volume.attachment.iter_mut().for_each(|attachment| attachment.works = false));
    assert!(Volume::restore(&plain(&host)).unwrap().changed, "its device is dead");
    assert_eq!(health(&host), (Health::Healthy, "ok".to_owned()));
    assert_eq!(host.volume_now("store").attached_times, 2);
    change_place(&host, |place| place.mounted[0].read_only = true);
    assert!(Volume::restore(&plain(&host)).unwrap().changed, "the kernel writes no more");
    assert_eq!(health(&host), (Health::Healthy, "ok".to_owned()));
}

#[test]
fn a_marker_that_does_not_come_back_leads_to_mounting_again() {
    let host = in_service();
    host.fail(Operation::MountWriteMarker, Fault::new(FaultKind::Failed, "marker", "input/output error"));
    let result = Volume::recover(&plain(&host), &failure()).unwrap();
    assert_eq!(result.verdict, Verdict::RestartDependents, "{}", result.summary);
    let markers = steps(&host).iter().filter(|step| **step == Operation::MountWriteMarker).count();
    assert_eq!(markers, 2, "{:?}", steps(&host));
}

#[test]
fn a_thorough_check_writes_a_marker() {
    let host = in_service();
    let report = Volume::deep_check(&plain(&host)).unwrap();
    assert_eq!((report.health, steps(&host)), (Health::Healthy, vec![Operation::MountWriteMarker]));
    assert_eq!(detail(&report.details, "marker-ms"), Some("1"));
    host.assert_declared::<Volume>();
}

#[test]
fn a_thorough_check_sees_a_disk_that_answers_nothing() {
    let host = in_service();
    host.fail(Operation::MountWriteMarker, Fault::new(FaultKind::Timeout, "marker", "nothing came back"));
    let report = Volume::deep_check(&plain(&host)).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Failed, "marker"), "{}", report.summary);
    assert_eq!(health(&host), (Health::Healthy, "ok".to_owned()), "a look from outside does not");
}

#[test]
fn a_thorough_check_writes_nothing_where_nothing_can_be_written() {
    let host = in_service();
    change_place(&host, |place| place.mounted[0].read_only = true);
    let report = Volume::deep_check(&plain(&host)).unwrap();
    assert_eq!((report.health, report.code.as_str()), (Health::Failed, "read-only"));
    assert_eq!(steps(&host), []);
}

#[test]
fn what_cannot_be_mounted_again_is_given_up_with_the_reason() {
    let dead = |host: &FakeHost| {
        change(host, |volume| {
            volume.attachment.iter_mut().for_each(|attachment| attachment.works = false);
        })
    };
    let host = in_service();
    dead(&host);
    change_place(&host, |place| place.users = vec![db()]);
    let result = Volume::recover(&plain(&host), &failure()).unwrap();
    assert_eq!(result.verdict, Verdict::GiveUp);
    assert!(result.summary.contains("dovecot"), "{}", result.summary);
    let result = Volume::recover(&context(&host, json!({ "end-users": true })), &failure()).unwrap();
    assert_eq!(result.verdict, Verdict::RestartDependents, "{}", result.summary);

    dead(&host);
    change(&host, |volume| volume.disk = Disk::Damaged("ext4".into()));
    let result = Volume::recover(&plain(&host), &failure()).unwrap();
    assert!(result.verdict == Verdict::GiveUp && result.summary.contains("damaged"), "{}", result.summary);
}

#[test]
fn a_recovery_that_runs_out_of_time_is_an_error_and_no_verdict() {
    for step in [Operation::MountUnmount, Operation::VolumeAttach, Operation::MountCheck, Operation::MountMount] {
        let host = in_service();
        change_place(&host, |place| place.mounted[0].read_only = true);
        if step == Operation::VolumeAttach {
            change(&host, |volume| volume.attachment.iter_mut().for_each(|attachment| attachment.works = false));
        }
        host.fail(step, Fault::new(FaultKind::Timeout, "timeout", "it hangs"));
        assert_eq!(Volume::recover(&plain(&host), &failure()).unwrap_err().code, "timeout", "{step:?}");
        let result = Volume::recover(&plain(&host), &failure()).unwrap();
        assert_eq!(result.verdict, Verdict::RestartDependents, "{step:?}: {}", result.summary);
    }
}

#[test]
fn a_standby_says_what_would_make_a_failover_fail() {
    let host = standby();
    assert_eq!(Volume::assess(&plain(&host)).unwrap(), [], "it is ready");
    type Change = fn(&FakeHost);
    let cases: &[(Change, Weight, &str, &str)] = &[
        (
            |host| change(host, |it| it.copy = CopyState::Outdated),
            Weight::Blocking,
            "copy-outdated",
            "brought up to date",
        ),
        (
            |host| change(host, |it| it.copy = CopyState::Inconsistent),
            Weight::Blocking,
            "copy-inconsistent",
            "brought up",
        ),
        (|host| change(host, |it| it.copy = CopyState::Failed), Weight::Blocking, "copy-failed", "disk"),
        (
            |host| change(host, |it| it.copy = CopyState::LastKnownGood),
            Weight::Warning,
            "copy-last-known-good",
            "mirror",
        ),
        (|host| change(host, |it| it.mirror = MirrorState::Broken), Weight::Warning, "mirror-broken", "mirror"),
        (|host| change(host, |it| it.mirror = MirrorState::SplitBrain), Weight::Warning, "split-brain", "mirror"),
        (|host| change_place(host, |it| it.folder = false), Weight::Blocking, "no-mount-point", "mkdir -p /srv/mail"),
        (
            |host| {
                change_place(host, |it| {
                    let other = FakeMounted {
                        device: "/dev/sdb1".into(),
                        options: Vec::new(),
                        read_only: false,
                        trouble: None,
                        room: None,
                    };
                    it.mounted = vec![other];
                });
            },
            Weight::Blocking,
            "foreign-mount",
            "umount /srv/mail",
        ),
        (|host| host.missing_program("fsck.ext4"), Weight::Blocking, "missing-programs", "e2fsprogs"),
        (
            |host| {
                let fault = Fault::new(FaultKind::Unavailable, "volume-unavailable", "its process does not run");
                host.fail(Operation::VolumeStatus, fault);
            },
            Weight::Blocking,
            "volume-unavailable",
            "Restore would fail",
        ),
    ];
    drop(host);
    for (change, weight, code, advice) in cases {
        let host = standby();
        change(&host);
        let found = Volume::assess(&plain(&host)).unwrap();
        let [finding] = found.as_slice() else { panic!("{code}: {found:?}") };
        assert_eq!((finding.weight, finding.code.as_str()), (*weight, *code));
        assert!(finding.advice.contains(advice), "{code}: {}", finding.advice);
        assert_eq!(steps(&host), [], "it changes nothing");
        host.assert_declared::<Volume>();
    }
    let host = standby();
    host.fail(Operation::VolumeStatus, Fault::new(FaultKind::Timeout, "timeout", "slow"));
    assert_eq!(Volume::assess(&plain(&host)).unwrap_err().code, "timeout", "it could not tell");
}

#[test]
fn params_that_make_no_sense_are_told_before_anything_is_touched() {
    for (params, code) in [
        (json!({ "mount-point": "srv" }), "mount-point"),
        (json!({ "options": ["ro"] }), "options"),
        (json!({ "device": "/dev/drbd0" }), "backend"),
        (json!({ "drbdadm": "/usr/sbin/drbdadm" }), "backend"),
        (json!({ "backend": "drbd" }), "device"),
        (json!({ "backend": "drbd", "device": "/dev/drbd0", "drbd-resource": "--force" }), "drbd-resource"),
    ] {
        let host = standby();
        let error = Volume::restore(&context(&host, params)).unwrap_err();
        assert_eq!((error.kind, error.code.as_str(), error.effect), (ErrorKind::InvalidParams, code, Effect::None));
        assert!(host.calls().is_empty());
    }
    let host = standby();
    let error = Volume::restore(&context(&host, json!({ "options": ["suid"] }))).unwrap_err();
    assert_eq!((error.code.as_str(), error.retry), ("mount-option", Retry::Nowhere));
}

#[test]
fn what_an_operator_may_write() {
    let manifest: Value = serde_json::from_str(<Volume as mainstay_sdk::Described>::MANIFEST.as_str()).unwrap();
    assert_eq!((&manifest["name"], &manifest["params"]["required"]), (&json!("volume"), &json!(["mount-point"])));
    let needs: Vec<_> =
        manifest["needs"].as_array().unwrap().iter().map(|need| (&need["interface"], &need["optional"])).collect();
    let yes = json!(true);
    let expected = ["mount", "log", "volume", "command"].map(|name| json!(name));
    let optional = [&Value::Null, &Value::Null, &yes, &yes];
    assert_eq!(needs, expected.iter().zip(optional).collect::<Vec<_>>());
}
