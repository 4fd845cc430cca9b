//! The fake host says what the real one says: a kit that goes by a fault's code passes its tests for the reasons
//! for which it works in service.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use mainstay_sdk::command::Request;
use mainstay_sdk::mount::Source;
use mainstay_sdk::net::{Tcp, Tls, Udp};
use mainstay_sdk::prelude::*;
use mainstay_sdk::service::{StartType, State};
use mainstay_sdk::testing::{Answer, Disk, FakeHost, FakePlace, FakeService, FakeVolume, Operation, exited};

const WAIT: Duration = Duration::from_secs(5);

/// Everything is granted: a peer that echoes, one that says bye, a program, a secret.
fn world() -> FakeHost {
    let host = FakeHost::install();
    host.tcp("echo", 7, |written: &mut Vec<u8>| written.split_off(0));
    host.tcp("bye", 7, |_: &mut Vec<u8>| Answer::bytes("bye").then_close());
    host.tcp("silent", 7, |_: &mut Vec<u8>| ());
    host.udp("echo", 7, |sent: &[u8]| sent.to_vec());
    host.udp("silent", 7, |_: &[u8]| ());
    host.program("/bin/app", |_| exited(0));
    host.secret("key", "text");
    host.secret("large", vec![0; 64 * 1024 + 1]);
    host.volume("store", FakeVolume::standby());
    host.place("/srv/mail", FakePlace { folder: true, ..FakePlace::default() });
    host.place("/srv/nowhere", FakePlace::default());
    host.place("/srv/disk", FakePlace { folder: true, device: Some("/dev/fake".into()), ..FakePlace::default() });
    host.device("/dev/fake", Disk::Clean("ext4".into()));
    host.service("store", FakeService::stopped());
    host.service("gone", FakeService::missing());
    host.service("disabled", FakeService { start_type: StartType::Disabled, ..FakeService::stopped() });
    host.service("breaks", FakeService { starts_that_fail: u32::MAX, ..FakeService::stopped() });
    host.service("hangs", FakeService { start_takes: Duration::MAX, ..FakeService::stopped() });
    host.service("ignores", FakeService { stop_takes: Duration::MAX, ..FakeService::running() });
    host.service("shared", FakeService { shares_process: true, ..FakeService::running() });
    host
}

fn tcp(host: &str) -> Tcp {
    Tcp::connect(host, 7, WAIT).unwrap()
}

fn udp(host: &str) -> Udp {
    Udp::connect(host, 7).unwrap()
}

/// A connection to `echo` that a fault has ended.
fn dead() -> Tcp {
    let tcp = tcp("echo");
    tcp.write(&vec![0; (1 << 20) + 1], WAIT).unwrap_err();
    tcp
}

#[track_caller]
fn check<T: std::fmt::Debug>(attempt: impl FnOnce() -> Result<T, Fault>, expected: &str) {
    let _host = world();
    let fault = attempt().unwrap_err();
    assert_eq!(format!("{:?} {}", fault.kind, fault.code), expected, "{fault}");
}

#[test]
fn each_fault_has_the_kind_and_the_code_of_the_real_host() {
    let run = |request: Request| move || request.run();
    let app = || Request::new("/bin/app");
    check(run(Request::new("/bin/other")), "Denied not-granted");
    check(run(app().arg("a\0")), "Invalid command");
    check(run(app().arg("a".repeat(128 << 10))), "Invalid command");
    check(run(app().cwd("tmp")), "Invalid command");
    check(run(app().env("A=", "b")), "Invalid command");
    check(run(app().env("A", "b").env("A", "c")), "Invalid command");
    check(run(app().args(vec!["a".repeat(100 << 10); 6])), "Limit command-too-large");
    check(run(app().stdin(vec![0; (1 << 20) + 1])), "Limit command-too-large");

    check(|| Tcp::connect("echo", 8, WAIT), "Denied not-granted");
    check(|| (0..17).map(|_| Tcp::connect("echo", 7, WAIT)).collect::<Result<Vec<_>, _>>(), "Limit too-many-sockets");
    check(|| tcp("silent").read(10, WAIT), "Timeout timeout");
    check(|| tcp("silent").read(0, WAIT), "Invalid read-nothing");
    check(|| tcp("echo").write(&vec![0; (1 << 20) + 1], WAIT), "Limit write-too-large");
    check(|| dead().write(b"a", WAIT), "Closed dead");
    check(|| dead().read(10, WAIT), "Closed dead");
    check(|| dead().finish(), "Closed dead");
    check(|| dead().start_tls(&Tls::new("echo"), WAIT), "Closed dead");
    check(
        || {
            let tcp = tcp("bye");
            tcp.write(b"a", WAIT).unwrap();
            tcp.write(b"b", WAIT)
        },
        "Closed broken",
    );
    check(
        || {
            let tcp = tcp("echo");
            tcp.finish().unwrap();
            tcp.write(b"b", WAIT)
        },
        "Closed broken",
    );
    check(
        || {
            let tcp = tcp("echo");
            tcp.start_tls(&Tls::new("echo.example.org"), WAIT).unwrap();
            tcp.start_tls(&Tls::new("echo.example.org"), WAIT)
        },
        "Invalid tls-already",
    );
    check(|| tcp("echo").start_tls(&Tls::new("not a name"), WAIT), "Invalid server-name");
    check(|| tcp("echo").start_tls(&Tls::new("echo").trust("other"), WAIT), "Denied not-granted");
    check(|| tcp("echo").read_exact(3, WAIT), "Timeout timeout");

    check(|| Udp::connect("echo", 8), "Denied not-granted");
    check(|| udp("silent").receive(10, WAIT), "Timeout timeout");
    check(|| udp("echo").send(&[0; 65_508]), "Limit datagram-too-large");
    check(
        || {
            let udp = udp("echo");
            udp.send(b"abc").unwrap();
            udp.receive(2, WAIT)
        },
        "Limit datagram-too-long",
    );

    check(|| secret::get("other"), "Denied not-granted");
    check(|| secret::get("large"), "Limit secret-too-large");
    check(|| store::get("KEY"), "Invalid key");
    check(|| store::put("", b""), "Invalid key");
    check(|| store::delete(&"a".repeat(65)), "Invalid key");
    check(|| store::put("a", &vec![0; 64 << 10]), "Limit store-full");

    let (store, disk) = (|| Source::Volume("store".into()), || Source::Device("/dev/fake".into()));
    let attach = || volume::promote("store").and_then(|()| volume::attach("store"));
    check(|| volume::status("other"), "Denied not-granted");
    check(|| volume::attach("store"), "Failed volume");
    check(|| attach().and_then(|_| volume::demote("store")), "Unavailable busy");
    check(|| mount::look("/srv"), "Denied not-granted");
    check(|| mount::mount(&store(), "/srv/disk", "ext4", &[]), "Denied not-granted");
    check(|| mount::mount(&disk(), "/srv/mail", "ext4", &[]), "Denied not-granted");
    check(|| mount::probe(&store()), "Unavailable not-attached");
    check(|| attach().and_then(|_| mount::mount(&store(), "/srv/nowhere", "ext4", &[])), "NotFound no-mount-point");
    check(|| attach().and_then(|_| mount::mount(&store(), "/srv/mail", "xfs", &[])), "Failed mount");
    check(|| mount::mount(&disk(), "/srv/disk", "ext4", &["suid".into()]), "Invalid mount-option");
    check(|| mount::missing_programs("btrfs"), "Invalid file-system");
    check(|| mount::make_file_system(&disk(), "ext4"), "Failed not-empty");
    let mounted = || mount::mount(&disk(), "/srv/disk", "ext4", &[]);
    check(|| mounted().and_then(|_| mount::check(&disk(), "ext4")), "Unavailable mounted");
    check(|| mounted().and_then(|_| mount::make_file_system(&disk(), "ext4")), "Unavailable mounted");
    let mounted = || attach().and_then(|_| mount::mount(&store(), "/srv/mail", "ext4", &[]));
    check(|| mounted().and_then(|_| volume::detach("store")), "Unavailable busy");
    check(|| mount::write_marker(&disk(), "/srv/disk", WAIT), "NotFound not-mounted");

    check(|| service::query("other"), "Denied not-granted");
    check(|| service::query("gone"), "NotFound no-such-service");
    check(|| service::start("gone", None), "NotFound no-such-service");
    check(|| service::start("disabled", None), "Failed service-disabled");
    check(|| service::start("breaks", None), "Failed service-failed");
    check(|| service::start("hangs", Some(WAIT)), "Timeout timeout");
    check(|| service::stop("ignores", Some(WAIT)), "Timeout timeout");
    check(|| service::wait("store", State::Running, Some(WAIT)), "Timeout timeout");
    check(|| service::end_processes("shared", None), "Failed shared-process");
}

#[test]
fn a_timeout_leaves_a_connection_alive_and_other_faults_do_not() {
    let host = world();
    let check = |operation, attempt: fn(&Tcp) -> Result<(), Fault>, kind, alive| {
        let tcp = tcp("echo");
        host.fail(operation, Fault::new(kind, "injected", "by the test"));
        assert_eq!(attempt(&tcp).unwrap_err().code, "injected");
        assert_eq!(tcp.write(b"a", WAIT).is_ok(), alive, "{operation:?} {kind:?}");
    };
    check(Operation::TcpRead, |tcp| tcp.read(1, WAIT).map(drop), FaultKind::Timeout, true);
    check(Operation::TcpRead, |tcp| tcp.read(1, WAIT).map(drop), FaultKind::Closed, false);
    check(Operation::TcpWrite, |tcp| tcp.write(b"a", WAIT), FaultKind::Timeout, false);
    check(Operation::TcpStartTls, |tcp| tcp.start_tls(&Tls::new("echo"), WAIT), FaultKind::Failed, false);
    check(Operation::TcpFinish, Tcp::finish, FaultKind::Closed, false);
}

#[test]
fn a_socket_that_is_dropped_makes_room() {
    let _host = world();
    for _ in 0..100 {
        drop((tcp("echo"), udp("echo")));
    }
    let open: Vec<Tcp> = (0..16).map(|_| tcp("echo")).collect();
    assert_eq!(Udp::connect("echo", 7).unwrap_err().code, "too-many-sockets");
    drop(open);
}

#[test]
fn a_service_takes_the_time_that_it_takes() {
    let host = world();
    let slow = FakeService {
        start_takes: Duration::from_secs(3),
        stop_takes: Duration::from_secs(2),
        ..FakeService::stopped()
    };
    host.service("slow", slow);
    let late = service::start("slow", Some(Duration::from_secs(1))).unwrap_err();
    assert!(late.message.contains("start-pending (pid 1000)") && late.message.contains("1000 ms"), "{late}");
    assert_eq!(host.service_now("slow").state, State::StartPending);
    assert_eq!(service::start("slow", None), Ok(true), "it goes on where it was");
    assert_eq!(clock::monotonic(), Duration::from_secs(3));
    assert_eq!(service::start("slow", None), Ok(false));
    assert!(service::query("slow").unwrap().runs());

    let late = service::stop("slow", Some(Duration::from_secs(1))).unwrap_err();
    assert!(late.message.contains("stop-pending (pid 1000)"), "{late}");
    let stopped = service::wait("slow", State::Stopped, None).unwrap();
    assert!(stopped.is_down() && stopped.pid.is_none(), "{stopped:?}");
    assert_eq!(clock::monotonic(), Duration::from_secs(5));
    assert_eq!(service::stop("slow", None), Ok(false));
}

#[test]
fn a_service_fails_is_killed_and_ignores_as_the_test_says() {
    let host = world();
    host.service("twice", FakeService { starts_that_fail: 2, ..FakeService::stopped() });
    for _ in 0..2 {
        let failed = service::start("twice", None).unwrap_err();
        assert!(failed.code == "service-failed" && failed.message.contains("exit code 1"), "{failed}");
        assert_eq!(service::query("twice").unwrap().state, State::Failed);
    }
    assert_eq!(service::start("twice", None), Ok(true));
    host.kill_service("twice");
    let killed = service::query("twice").unwrap();
    assert!(killed.state == State::Failed && killed.summary.contains("signal 9"), "{killed:?}");
    assert_eq!(service::stop("twice", None), Ok(false));
    assert_eq!(service::query("twice").unwrap().state, State::Stopped, "stopped in order, it has not failed");

    let ignored = service::stop("ignores", Some(WAIT)).unwrap_err();
    assert!(ignored.message.contains("pid 999"), "{ignored}");
    assert_eq!(service::end_processes("ignores", None), Ok(true));
    assert_eq!(service::end_processes("ignores", None), Ok(false));
    assert_eq!(host.service_now("ignores").state, State::Stopped);
    assert_eq!(Operation::ServiceEndProcesses.interface(), "service");
}

#[test]
fn a_peer_may_speak_first() {
    let host = FakeHost::install();
    let heard = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&heard);
    host.tcp_greeting("mail", 25, b"220 ready\r\n".to_vec(), move |data: &mut Vec<u8>| {
        written.borrow_mut().append(data);
        b"250 ok\r\n".to_vec()
    });
    host.tcp_greeting("busy", 25, Answer::bytes("421 busy\r\n").then_close(), |_: &mut Vec<u8>| ());
    host.tcp_read_max(4);
    for _ in 0..2 {
        let tcp = Tcp::connect("mail", 25, WAIT).unwrap();
        assert_eq!(tcp.read_exact(11, WAIT).unwrap(), b"220 ready\r\n");
        tcp.write(b"NOOP\r\n", WAIT).unwrap();
        assert_eq!(tcp.read_exact(8, WAIT).unwrap(), b"250 ok\r\n");
    }
    assert_eq!(*heard.borrow(), b"NOOP\r\nNOOP\r\n");
    let tcp = Tcp::connect("busy", 25, WAIT).unwrap();
    assert_eq!(tcp.read_exact(11, WAIT).unwrap_err().code, "closed-early");
}

#[test]
fn a_peer_may_be_slow() {
    let host = FakeHost::install();
    host.tcp("slow", 25, |data: &mut Vec<u8>| std::mem::take(data));
    host.tcp_read_max(1);
    host.tcp_read_takes(WAIT / 2);
    let tcp = Tcp::connect("slow", 25, WAIT).unwrap();
    tcp.write(b"abc", WAIT).unwrap();
    let began = mainstay_sdk::clock::monotonic();
    assert_eq!(tcp.read_exact(2, WAIT).unwrap(), b"ab");
    assert_eq!(mainstay_sdk::clock::monotonic() - began, WAIT);
    assert_eq!(tcp.read(1, WAIT / 4).unwrap_err().kind, FaultKind::Timeout);
    assert_eq!(tcp.read(1, WAIT).unwrap(), b"c", "it is only late");
}

/// Every `FaultKind::KIND, "code"` in the source files of a folder and those in it, as `KIND code`.
fn said_in(folder: &Path) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            said.extend(said_in(&path));
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        for (at, _) in text.match_indices("FaultKind::") {
            let rest = &text[at + "FaultKind::".len()..];
            let (kind, rest) = rest.split_at(rest.find(|c: char| !c.is_alphanumeric()).unwrap());
            let Some(rest) = rest.strip_prefix(',') else { continue };
            let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
            let code = &rest[..rest.find('"').unwrap()];
            // The message of an assertion is no code.
            if code.bytes().all(|c| c.is_ascii_lowercase() || c == b'-') {
                said.insert(format!("{kind} {code}"));
            }
        }
    }
    said
}

/// The rows `| `code` | kind | ...` of the reference, as `KIND code`.
fn documented(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.flat_map(|(code, rest)| {
        let kinds = rest.split(" | ").next().unwrap().split(", ");
        kinds.map(move |kind| {
            let words = kind.split('-').map(|word| word[..1].to_uppercase() + &word[1..]);
            format!("{} {code}", words.collect::<String>())
        })
    })
    .collect()
}

#[test]
fn every_code_of_the_host_is_documented_and_the_fake_host_says_no_other() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut real = said_in(&root.join("host/runtime/src/capability"));
    assert!(real.contains("Denied not-granted") && real.contains("Limit too-many-sockets"), "{real:#?}");
    // Their kind is chosen apart from the code.
    real.extend(["Closed broken", "Failed broken"].map(str::to_owned));
    let fake: Vec<String> = said_in(&root.join("sdk/src/testing")).difference(&real).cloned().collect();
    assert_eq!(fake, [] as [&str; 0], "the real host does not say these");
    real.insert("Closed closed-early".to_owned());
    assert_eq!(documented(&root.join("docs/reference/kit-faults.md")), real);
}
