//! The process of a volume with the programs that use it: nbdinfo, nbdcopy, nbdsh, qemu-io, fio.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

#[allow(dead_code, reason = "shared by two test programs, each of which uses a part of it")]
mod pair;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mainstay_test_support::{WAIT_LIMIT, require_or_skip, wait_until};
use pair::under::{self, Under};
use pair::{A, B, LABEL, Pair, SIZE, attempt, authority, limited, run};
use serde_json::json;

fn libnbd(program: &str) -> Option<PathBuf> {
    require_or_skip(program, "apt-get install libnbd-bin python3-libnbd")
}

fn qemu_io() -> Option<PathBuf> {
    require_or_skip("qemu-io", "apt-get install qemu-utils")
}

fn fio() -> Option<PathBuf> {
    require_or_skip("fio", "apt-get install fio")
}

#[test]
fn a_volume_says_what_it_can() {
    let Some(nbdinfo) = libnbd("nbdinfo") else { return };
    let mut pair = Pair::new();
    pair.start();
    let info = run(&nbdinfo, &[&pair.uri(A)]);
    for line in [
        &format!("export-size: {SIZE}"),
        "can_flush: true",
        "can_fua: true",
        "can_multi_conn: true",
        "can_trim: true",
        "can_zero: true",
        "is_read_only: false",
        "block_size_minimum: 512",
        "block_size_maximum: 33554432",
    ] {
        assert!(info.contains(line), "{line}: {info}");
    }
    let socket = pair.nbd(A).display().to_string();
    let list = run(&nbdinfo, &["--list", &format!("nbd+unix:///?socket={socket}")]);
    assert!(list.contains("export=\"mail\""), "{list}");
    // Another export there is not, and the target serves nothing.
    let other = attempt(&nbdinfo, &[&format!("nbd+unix:///other?socket={socket}")]);
    assert!(!other.status.success(), "{other:?}");
    let target = attempt(&nbdinfo, &[&pair.uri(B)]);
    assert!(!target.status.success(), "{target:?}");
}

#[test]
fn what_is_written_is_read_from_both_copies() {
    let (Some(nbdcopy), Some(qemu_io)) = (libnbd("nbdcopy"), qemu_io()) else { return };
    let mut pair = Pair::new();
    pair.start();
    let uri = pair.uri(A);
    let image: Vec<u8> = (0..SIZE).map(|at| ((at * 7) ^ (at >> 9)) as u8).collect();
    let [from, to] = ["image", "back"].map(|name| pair.folder().join(name).display().to_string());
    fs::write(&from, &image).unwrap();
    run(&nbdcopy, &["--flush", &from, &uri]);
    run(&nbdcopy, &[&uri, &to]);
    assert!(fs::read(&to).unwrap() == image, "what nbdcopy reads is what it wrote");
    // Patterns, overlaps, zeroes by both commands, unaligned ones that qemu makes whole by itself.
    let commands = "write -P 1 0 1M; write -P 2 512k 64k; write -f -P 3 600k 512; discard 0 128k; write -z 256k 64k; \
                    write -z -u 320k 64k; write -P 9 1000k 100; flush; read -P 0 0 128k; read -P 0 256k 128k; \
                    read -P 2 512k 64k; read -P 3 600k 512; read -P 1 700k 64k; read -P 9 1000k 100";
    qemu_io_does(&qemu_io, &uri, &commands.split("; ").map(str::trim).collect::<Vec<_>>());
    pair.stop(A);
    pair.stop(B);
    pair.assert_same();
}

#[test]
fn threads_do_the_same_where_io_uring_is_not_permitted() {
    let Some(qemu_io) = qemu_io() else { return };
    let mut pair = Pair::with(&json!({ "disk": "threads" }));
    pair.start();
    assert_eq!(pair.status(A)["server"]["disk"], json!("16 threads"));
    let uri = pair.uri(A);
    let commands =
        ["write -P 1 0 4M", "discard 1M 1M", "write -f -P 5 2M 64k", "flush", "read -P 0 1M 1M", "read -P 5 2M 64k"];
    qemu_io_does(&qemu_io, &uri, &commands);
    pair.stop(A);
    pair.stop(B);
    pair.assert_same();
}

/// Carries out these commands of qemu-io's, all of which succeed.
fn qemu_io_does(qemu_io: &std::path::Path, uri: &str, commands: &[&str]) {
    let mut args = vec!["-f", "raw"];
    args.extend(commands.iter().flat_map(|command| ["-c", command]));
    args.push(uri);
    let output = run(qemu_io, &args);
    assert!(!output.contains("failed"), "{output}");
}

/// Writes with verification, over several connections at once.
fn verify(fio: &std::path::Path, uri: &str, how: &[&str]) {
    let uri = format!("--uri={uri}");
    let size = format!("--size={SIZE}");
    let args = [
        "--name=v",
        "--ioengine=nbd",
        &uri,
        &size,
        "--verify=crc32c",
        "--verify_fatal=1",
        // Else it leaves a file here.
        "--verify_state_save=0",
        "--rw=randwrite",
        "--bsrange=512-64k",
        "--bs_unaligned=0",
        "--blockalign=512",
        "--iodepth=16",
        "--randseed=7",
    ];
    let output = run(fio, &[&args[..], how].concat());
    assert!(output.contains("err= 0"), "{output}");
}

#[test]
fn a_switchover_takes_everything_along() {
    let Some(fio) = fio() else { return };
    let mut pair = Pair::new();
    pair.start();
    verify(&fio, &pair.uri(A), &["--io_size=64m", "--verify_backlog=512"]);
    assert_eq!(pair.ask(A, &json!("demote")), json!("done"));
    wait_until(WAIT_LIMIT, "both are targets in contact", || pair.status(B)["link"] == json!("idle"));
    pair.promote(B, 2, "free");
    pair.wait_connected(B);
    verify(&fio, &pair.uri(B), &["--io_size=64m", "--verify_only"]);
    verify(&fio, &pair.uri(B), &["--io_size=16m"]);
    pair.stop(B);
    pair.stop(A);
    pair.assert_same();
}

/// Writes blocks with FUA, one after the other, and says each number once it is acknowledged.
const WRITER: &str = r#"
h.connect_uri(URI)
i = 0
while True:
    h.pwrite(i.to_bytes(8, "little") * 64, (i * 4096) % (48 << 20), nbd.CMD_FLAG_FUA)
    print(i, flush=True)
    i += 1
"#;

/// A client that writes until its server is gone.
struct Writer {
    process: Child,
    said: JoinHandle<String>,
}

impl Writer {
    fn start(nbdsh: &Path, uri: &str) -> Self {
        let script = WRITER.replace("URI", &format!("{uri:?}"));
        let mut process =
            limited(nbdsh, &["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = process.stdout.take().unwrap();
        let said = thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            text
        });
        Self { process, said }
    }

    /// The last number that was acknowledged.
    fn last(mut self) -> u64 {
        self.process.wait().unwrap();
        let text = self.said.join().unwrap();
        let last = text.lines().rev().find_map(|line| line.parse().ok()).expect("some were written");
        assert!(last < (48 << 20) / 4096, "no block was written twice");
        last
    }
}

/// All that was acknowledged can be read.
fn assert_there(nbdsh: &Path, uri: &str, last: u64) {
    let check = format!(
        "h.connect_uri({uri:?})\nfor i in range({last} + 1):\n  assert h.pread(512, (i * 4096) % (48 << 20)) == \
         i.to_bytes(8, 'little') * 64, i\nprint('all there')"
    );
    assert!(run(nbdsh, &["-c", &check]).contains("all there"));
}

#[test]
fn what_was_acknowledged_is_there_after_both_have_lost_their_power() {
    let Some(nbdsh) = libnbd("nbdsh") else { return };
    if !under::is_possible() {
        return;
    }
    // Both forget what was not flushed.
    let mut disks = [0; 2].map(|_| Under::new("cache", &["cache=writeback"], SIZE + LABEL));
    let places = disks.each_ref().map(|disk| Some(disk.disk()));
    let mut pair = Pair::on(places, &json!({}));
    pair.start();
    let writer = Writer::start(&nbdsh, &pair.uri(A));
    thread::sleep(Duration::from_secs(2));
    for (copy, disk) in [A, B].into_iter().zip(&mut disks) {
        pair.kill(copy);
        disk.power_off();
    }
    let last = writer.last();
    disks.iter_mut().for_each(Under::power_on);
    pair.start_again(2);
    assert_there(&nbdsh, &pair.uri(A), last);
    assert_eq!(pair.ask(A, &json!("demote")), json!("done"));
    wait_until(WAIT_LIMIT, "both are targets in contact", || pair.status(B)["link"] == json!("idle"));
    pair.promote(B, 3, "free");
    pair.wait_connected(B);
    assert_there(&nbdsh, &pair.uri(B), last);
    pair.stop(B);
    pair.stop(A);
    pair.assert_same();
}

#[test]
fn a_target_whose_disk_fails_drops_out_and_the_source_goes_on() {
    let Some(qemu_io) = qemu_io() else { return };
    if !under::is_possible() {
        return;
    }
    let parameters = ["error-pwrite=EIO", "error-pwrite-rate=100%", "error-pwrite-file={}/failing"];
    let disk = Under::new("error", &parameters, SIZE + LABEL);
    let mut pair = Pair::on([None, Some(disk.disk())], &json!({ "alone-after-ms": 200 }));
    pair.start();
    fs::write(disk.folder().join("failing"), "").unwrap();
    let uri = pair.uri(A);
    let output = run(&qemu_io, &["-f", "raw", "-c", "write -P 4 0 64k", "-c", "flush", "-c", "read -P 4 0 64k", &uri]);
    assert!(!output.contains("failed"), "{output}");
    wait_until(WAIT_LIMIT, "the target has failed", || pair.status(B)["copy"] == json!("failed"));
    assert_eq!(pair.status(A)["alone"], json!(true));
    pair.process(B).wait_for_line(WAIT_LIMIT, "cannot write 65536 bytes at 0: Input/output error");
}

#[test]
fn what_was_acknowledged_is_there_after_the_source_was_killed() {
    let Some(nbdsh) = libnbd("nbdsh") else { return };
    let mut pair = Pair::new();
    pair.start();
    let writer = Writer::start(&nbdsh, &pair.uri(A));
    thread::sleep(Duration::from_secs(2));
    pair.kill(A);
    let last = writer.last();
    // The other copy is taken in service by the operator's word.
    wait_until(WAIT_LIMIT, "the target has noticed", || pair.status(B)["link"] == json!("broken"));
    pair.promote(B, 2, "confirmed");
    assert_there(&nbdsh, &pair.uri(B), last);
    // The one that was killed comes back as a target, and is made like the other.
    pair.serve(A);
    pair.wait_connected(B);
    assert_eq!(pair.status(A)["role"], json!("target"));
    pair.stop(B);
    pair.stop(A);
    pair.assert_same();
}

#[test]
fn a_target_that_was_killed_is_made_whole_by_its_dirty_regions_alone() {
    let Some(fio) = fio() else { return };
    let mut pair = Pair::with(&json!({ "alone-after-ms": 200, "peer-timeout-ms": 1000, "stall-ms": 15_000 }));
    pair.start();
    let before = pair.status(A)["resync-bytes"].as_u64().unwrap();
    pair.kill(B);
    // Nobody can be asked to mark the other copy, and there is no arbiter: it goes on alone (V3).
    verify(&fio, &pair.uri(A), &["--io_size=4m"]);
    assert_eq!(pair.status(A)["alone"], json!(true));
    pair.serve(B);
    pair.wait_connected(A);
    let copied = pair.status(A)["resync-bytes"].as_u64().unwrap() - before;
    assert!(copied > 0 && copied <= SIZE, "{copied}");
    verify(&fio, &pair.uri(A), &["--io_size=4m", "--verify_only"]);
    pair.stop(A);
    pair.stop(B);
    pair.assert_same();
}

#[test]
fn garbage_harms_nobody() {
    let Some(qemu_io) = qemu_io() else { return };
    let mut pair = Pair::new();
    pair.start();
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        (0..10_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
        [&3u32.to_be_bytes()[..], b"IHAVEOPT", &7u32.to_be_bytes(), &u32::MAX.to_be_bytes()].concat(),
        Vec::new(),
    ];
    for bytes in &garbage {
        for socket in [pair.nbd(A), pair.nbd(B), pair.control(A), pair.control(B)] {
            let mut stream = UnixStream::connect(socket).unwrap();
            // It may be closed half-way: that is an answer, too.
            let _ = stream.write_all(bytes);
        }
        let mut stream = TcpStream::connect(pair.link()).unwrap();
        let _ = stream.write_all(bytes);
        stream.set_read_timeout(Some(WAIT_LIMIT)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 64, "a stranger is told nothing but that TLS has failed: {answer:?}");
    }
    assert_eq!(pair.status(A)["link"], json!("connected"));
    let output = run(&qemu_io, &["-f", "raw", "-c", "write -P 4 0 64k", "-c", "read -P 4 0 64k", &pair.uri(A)]);
    assert!(!output.contains("failed"), "{output}");
}

#[test]
fn a_stranger_gets_no_link() {
    // By the same authority, but another node; and by another authority.
    for (name, ours, words) in
        [("ex03", true, "it shows the certificate of mainstay://mail/ex03"), ("ex01", false, "no mirror link")]
    {
        let mut pair = Pair::new();
        let (issuer, pem) = authority();
        if ours {
            fs::write(pair.folder().join("ca.pem"), pem).unwrap();
            pair.certify(&issuer, "ex02", "ex02");
        }
        pair.certify(&issuer, "ex01", name);
        pair.serve(B);
        pair.serve(A);
        pair.process(B).wait_for_line(WAIT_LIMIT, words);
        assert_eq!((&pair.status(A)["link"], &pair.status(B)["link"]), (&json!("broken"), &json!("broken")));
    }
}

#[test]
fn a_backing_that_is_cut_is_an_error_and_not_a_panic() {
    let Some(qemu_io) = qemu_io() else { return };
    let mut pair = Pair::new();
    pair.start();
    let uri = pair.uri(A);
    fs::OpenOptions::new().write(true).open(pair.backing(A)).unwrap().set_len(1 << 20).unwrap();
    let output = attempt(&qemu_io, &["-f", "raw", "-c", "read 32M 64k", &uri]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Input/output error"), "{said}");
    pair.process(A).wait_for_line(WAIT_LIMIT, "it was cut, or its device has shrunk");
    pair.process(A).wait_for_line(WAIT_LIMIT, "nothing is read or written any more");
    assert!(pair.status(A)["server"]["backing-failure"].is_string());
}
