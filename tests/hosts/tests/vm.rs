//! Volumes on kernels that have nbd and DRBD: two small machines, emulated ([`mainstay_test_hosts::vm`]).
//!
//! Run by `just volume-vm` and by nothing else: they need QEMU and a kernel, and minutes.

use std::path::{Path, PathBuf};

use mainstay_test_hosts::vm::{Image, Vm, Wire};
use mainstay_test_support::{Authority, TempDir, binary, kit};
use serde_json::Value;

/// What both tests need in a machine, and what installs it.
const PROGRAMS: &[(&str, &str)] = &[
    ("mount", "apt-get install mount"),
    ("umount", "apt-get install mount"),
    ("losetup", "apt-get install mount"),
    ("blkid", "apt-get install util-linux"),
    ("mkfs.ext4", "apt-get install e2fsprogs"),
    ("fsck.ext4", "apt-get install e2fsprogs"),
];
const MAINSTAY: &str = "mainstay --state /var/lib/mainstay";
const CONFIG: &str = r#"
cluster = "vm"
kits = "kits"
certificates = "tls"
[path.lan]
heartbeat-interval = "500ms"
dead-after-misses = 20
[node.a]
address.lan = "10.0.0.1:7400"
[node.b]
address.lan = "10.0.0.2:7400"
[hierarchy.mail]
nodes = ["a", "b"]
failover = "confirm"
[hierarchy.mail.volume.store]
backing.a = "/dev/vda"
backing.b = "/dev/vda"
address.b = "10.0.0.2:7500"
[hierarchy.mail.resource.store]
kit = "volume"
check-interval = "2s"
grants.volume = ["store"]
grants.mount = ["/srv/mail"]
params = { mount-point = "/srv/mail", make-file-system = true }
"#;

/// Both machines, `a` and `b`.
fn boot(image: &Image) -> [Vm; 2] {
    let wire = Wire::new();
    [Vm::boot(image, "a", 1, &wire), Vm::boot(image, "b", 2, &wire)]
}

fn start_daemon(vm: &mut Vm, node: &str) {
    let run =
        format!("{MAINSTAY} run --node {node} --config /srv/{node}/mainstay.toml --log info,mainstay::audit=warn");
    vm.ok(&format!("{run} > /dev/console 2>&1 & echo $! > /run/daemon"));
}

#[track_caller]
fn wait_for_daemon(vm: &mut Vm) {
    vm.wait(&format!("{MAINSTAY} status || {{ ! kill -0 $(cat /run/daemon); }}"));
    vm.ok(&format!("{MAINSTAY} status"));
}

/// Waits until the file system is mounted, in service and on both copies; from which device it is mounted.
#[track_caller]
fn mounted(vm: &mut Vm) -> String {
    vm.wait(&format!("grep -q ' /srv/mail ' /proc/mounts && {MAINSTAY} status | grep -q ISP"));
    vm.wait(&format!("{MAINSTAY} volume status store | grep 'mirror: connected'"));
    vm.ok("grep ' /srv/mail ' /proc/mounts | cut -d ' ' -f 1")
}

#[test]
fn a_volume_is_attached_by_the_kernels_nbd() {
    let folder = TempDir::new();
    let authority = Authority::new(&binary("mainstay"), "vm");
    let config = folder.write("mainstay.toml", CONFIG);
    let mut files: Vec<(PathBuf, String)> = vec![(binary("mainstay"), "/usr/bin/mainstay".into())];
    for node in ["a", "b"] {
        authority.node(node, &folder.join(node));
        for file in ["ca.pem", "node.pem", "node.key"] {
            files.push((folder.join(node).join(file), format!("/srv/{node}/tls/{file}")));
        }
        files.push((config.clone(), format!("/srv/{node}/mainstay.toml")));
        files.push((kit("volume"), format!("/srv/{node}/kits/volume.wasm")));
    }
    let files: Vec<(&Path, &str)> = files.iter().map(|(from, to)| (from.as_path(), to.as_str())).collect();
    let programs = [PROGRAMS, &[("nbd-client", "apt-get install nbd-client")]].concat();
    let Some(image) = Image::make(&programs, &["nbd nbds_max=4"], &files) else { return };
    let [mut a, mut b] = boot(&image);
    for (vm, node) in [(&mut a, "a"), (&mut b, "b")] {
        vm.ok("mkdir /srv/mail");
        start_daemon(vm, node);
    }
    wait_for_daemon(&mut a);
    wait_for_daemon(&mut b);

    a.ok(&format!("{MAINSTAY} volume create store --first"));
    b.ok(&format!("{MAINSTAY} volume create store"));
    // It may have been tried before there was a copy, and given up.
    a.wait(&format!("{MAINSTAY} status | grep -q ISP || {{ {MAINSTAY} in-service mail; false; }}"));
    assert_eq!(mounted(&mut a), "/dev/nbd3");
    let status = a.ok(&format!("{MAINSTAY} volume status store"));
    assert!(status.contains("attached as /dev/nbd3 by the kernel's nbd"), "{status}");
    a.ok("head -c 3000000 /dev/urandom > /srv/mail/letters && sync && sha256sum /srv/mail/letters > /srv/mail/sum && sync");
    let letters = a.ok("cat /srv/mail/sum");

    // A daemon that is killed: the next one finds it attached.
    let client = a.ok("pidof nbd-client");
    a.ok("kill -9 $(cat /run/daemon)");
    start_daemon(&mut a, "a");
    wait_for_daemon(&mut a);
    assert_eq!(mounted(&mut a), "/dev/nbd3");
    assert_eq!(a.ok("pidof nbd-client"), client, "it is the one that was there");

    // It moves, and nothing is left behind.
    a.wait(&format!("{MAINSTAY} switchover mail b"));
    assert_eq!(mounted(&mut b), "/dev/nbd3");
    assert_eq!(b.ok("cd /srv/mail && sha256sum -c sum > /dev/null && cat sum"), letters);
    a.wait("! pidof nbd-client");
    a.ok("! grep /srv/mail /proc/mounts && ! cat /sys/block/nbd3/pid && [ $(cat /sys/block/nbd3/size) = 0 ]");

    let server = |vm: &mut Vm| {
        vm.ok(&format!("{MAINSTAY} volume status store --json | grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*'"))
    };
    // The process dies under a writer: the writer gets an error, and it is repaired here.
    b.ok("(while dd if=/dev/zero of=/srv/mail/zeroes bs=65536 count=64 conv=fsync; do :; done) > /run/writer 2>&1 & echo $! > /run/writer.pid");
    let process = server(&mut b);
    b.ok(&format!("sleep 3; kill -9 {process}"));
    b.wait("! kill -0 $(cat /run/writer.pid)");
    let writer = b.ok("tail -n 2 /run/writer");
    assert!(writer.contains("error") || writer.contains("Read-only"), "{writer}");
    b.wait(&format!("{MAINSTAY} status | grep -q ISP && grep ' /srv/mail ' /proc/mounts && touch /srv/mail/writable"));
    mounted(&mut b);
    assert_eq!(b.ok("cd /srv/mail && sha256sum -c sum > /dev/null && cat sum"), letters);

    // It dies, and nobody repairs it: nothing hangs.
    let process = server(&mut b);
    b.ok("kill -9 $(cat /run/daemon)");
    b.ok("(dd if=/dev/zero of=/srv/mail/zeroes bs=65536 count=640 conv=fsync; echo over) > /run/writer 2>&1 &");
    b.ok(&format!("sleep 1; kill -9 {process}"));
    b.wait("grep over /run/writer");
    let unmounted = b.run("timeout 20 umount /srv/mail");
    assert_eq!(unmounted.code, 0, "{}", unmounted.text);
    b.wait("! pidof nbd-client");
}

const RESOURCE: &str = "
resource mail {
    net { protocol C; }
    device /dev/drbd0;
    disk /dev/vdb;
    meta-disk internal;
    on a { address 10.0.0.1:7789; }
    on b { address 10.0.0.2:7789; }
}
";

/// An operation of the volume kit over DRBD, by hand: `done`, `report` or `error`.
#[track_caller]
fn by_hand(vm: &mut Vm, operation: &str, result: &str) -> Value {
    let params = r#"{"backend":"drbd","drbd-resource":"mail","device":"/dev/drbd0","mount-point":"/srv/mail","make-file-system":true}"#;
    let grants = "--grant-command /usr/sbin/drbdadm --grant-mount /srv/mail:/dev/drbd0";
    let said = vm
        .run(&format!("{MAINSTAY} kit run /srv/volume.wasm {operation} --params '{params}' {grants} --json --log off"));
    let mut value: Value = serde_json::from_str(&said.text).unwrap_or_else(|error| panic!("{error}: {}", said.text));
    let result = value[result].take();
    assert!(!result.is_null(), "{operation}: {}", said.text);
    result
}

/// What `drbdadm` says of role, connection and disks.
#[track_caller]
fn words(vm: &mut Vm) -> String {
    vm.ok("echo $(drbdadm role mail) $(drbdadm cstate mail) $(drbdadm dstate mail)")
}

#[test]
fn a_volume_is_a_resource_of_drbd() {
    let folder = TempDir::new();
    let resource = folder.write("mail.res", RESOURCE);
    let config = folder.write("drbd.conf", "global { usage-count no; }\ninclude \"drbd.d/*.res\";\n");
    let (mainstay, kit) = (binary("mainstay"), kit("volume"));
    let mut files: Vec<(&Path, &str)> = vec![
        (&mainstay, "/usr/bin/mainstay"),
        (&kit, "/srv/volume.wasm"),
        (&resource, "/etc/drbd.d/mail.res"),
        (&config, "/etc/drbd.conf"),
    ];
    // drbdadm is for DRBD 9, and calls these where the kernel has 8.4.
    for program in ["/lib/drbd/drbdadm-84", "/lib/drbd/drbdsetup-84"] {
        if Path::new(program).exists() {
            files.push((Path::new(program), program));
        }
    }
    let install = "apt-get install drbd-utils";
    let programs = [PROGRAMS, &[("drbdadm", install), ("drbdsetup", install), ("drbdmeta", install)]].concat();
    let Some(image) = Image::make(&programs, &["drbd"], &files) else { return };
    let [mut a, mut b] = boot(&image);
    for vm in [&mut a, &mut b] {
        vm.ok("mkdir -p /srv/mail /var/lib/drbd && drbdadm create-md --force mail && drbdadm up mail");
    }

    // Nothing is forced; the operator does that.
    a.wait("[ $(drbdadm cstate mail) = Connected ]");
    assert_eq!(words(&mut a), "Secondary/Secondary Connected Inconsistent/Inconsistent");
    assert_eq!(by_hand(&mut a, "restore", "error")["code"], "not-promotable");
    a.ok("drbdadm primary --force mail && drbdadm secondary mail");
    a.wait("[ $(drbdadm dstate mail) = UpToDate/UpToDate ]");

    assert_eq!(by_hand(&mut a, "restore", "done")["changed"], true);
    assert_eq!(words(&mut a), "Primary/Secondary Connected UpToDate/UpToDate");
    assert_eq!(by_hand(&mut a, "quick-check", "report")["code"], "ok");
    a.ok("grep '/dev/drbd0 /srv/mail ext4 rw' /proc/mounts && echo a letter > /srv/mail/letter");

    assert_eq!(words(&mut b), "Secondary/Primary Connected UpToDate/UpToDate");
    assert_eq!(by_hand(&mut b, "restore", "error")["code"], "peer-primary");

    // Somebody has the device open: it stays primary.
    a.ok("sleep 3600 < /dev/drbd0 > /dev/null 2>&1 & echo $! > /run/holder");
    assert_eq!(by_hand(&mut a, "remove", "error")["code"], "busy");
    assert_eq!(words(&mut a), "Primary/Secondary Connected UpToDate/UpToDate");
    a.ok("kill $(cat /run/holder)");
    assert_eq!(by_hand(&mut a, "remove", "done")["changed"], true);
    assert_eq!(words(&mut a), "Secondary/Secondary Connected UpToDate/UpToDate");

    assert_eq!(by_hand(&mut b, "restore", "done")["changed"], true);
    assert_eq!(b.ok("cat /srv/mail/letter"), "a letter");

    // Without the other one it serves, degraded.
    a.ok("drbdadm disconnect mail");
    let alone = words(&mut a);
    assert!(alone.starts_with("Secondary/Unknown StandAlone "), "{alone}");
    b.wait("[ $(drbdadm cstate mail) = WFConnection ]");
    assert_eq!(by_hand(&mut b, "quick-check", "report")["code"], "mirror-broken");
    assert_eq!(by_hand(&mut b, "remove", "done")["changed"], true);

    // Down, there is nothing of it; and two primaries are refused.
    b.ok("drbdadm down mail");
    assert_eq!(by_hand(&mut b, "remove", "done")["changed"], false);
    assert_eq!(by_hand(&mut b, "restore", "error")["code"], "drbd-down");
    a.ok("sed -i 's/protocol C;/protocol C; allow-two-primaries yes;/' /etc/drbd.d/mail.res");
    assert_eq!(by_hand(&mut a, "restore", "error")["code"], "dual-primary");
}
