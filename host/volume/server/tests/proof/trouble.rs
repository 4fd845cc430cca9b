//! Disks and files that fail, lie, fill up or change under a volume: a clear word in the status, no panic, and no copy
//! that is silently another one.

use std::fs;
use std::os::unix::fs::FileExt as _;

use mainstay_test_support::{TempDir, WAIT_LIMIT, wait_until};
use mainstay_volume_core::bitmap::Bitmap;
use mainstay_volume_core::label::Label;
use mainstay_volume_core::log;
use mainstay_volume_core::types::VolumeId;
use serde_json::json;

use crate::disk::{self, Loop, Mount, run};
use crate::pair::client::{Client, Command, read_all};
use crate::pair::under::{self, Under};
use crate::pair::{A, B, LABEL, Pair, SIZE};

#[test]
fn zeroes_are_zeroes_on_a_disk_that_takes_a_hole_for_advice() {
    if !under::is_possible() {
        return;
    }
    // nbdfuse makes a trim of a punched hole, and nbdkit's cache goes on giving what it has.
    let disk = Under::new("cache", &["cache=writeback"], SIZE + LABEL);
    let mut pair = Pair::on([Some(disk.disk()), None], &json!({}));
    pair.start();
    let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
    assert_eq!(client.once(Command::Write, false, (0, 65536), &[7; 65536]).unwrap(), 0);
    assert_eq!(client.once(Command::Trim, true, (4096, 8192), &[]).unwrap(), 0);
    let read = client.read(65536).unwrap();
    assert!(read[..4096] == [7; 4096] && read[4096..12288] == [0; 8192] && read[12288..] == [7; 53248]);
    drop(client);
    pair.stop(A);
    pair.stop(B);
    let [a, b] = [read_all(&disk.socket(), "").unwrap(), std::fs::read(pair.backing(B)).unwrap()];
    assert!(a[..65536] == read && b[..65536] == read, "both copies have what was read");
}

fn write(pair: &Pair, offset: u64, byte: u8) -> u32 {
    let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
    client.once(Command::Write, true, (offset, 65536), &[byte; 65536]).unwrap()
}

/// A pair with one disk on a file system that has room for little.
fn short_of_room(which: usize) -> Option<(Pair, Mount)> {
    if !disk::is_possible() {
        return None;
    }
    let mount = Mount::new("none", &["-t", "tmpfs", "-o", "size=4m"]);
    let image = mount.at().join("image");
    fs::File::create(&image).unwrap().set_len(SIZE + LABEL).unwrap();
    let mut disks = [None, None];
    disks[which] = Some(image);
    let mut pair = Pair::on(disks, &json!({ "alone-after-ms": 200, "peer-timeout-ms": 2000 }));
    pair.start();
    Some((pair, mount))
}

#[test]
fn a_target_without_room_drops_out_and_says_so() {
    let Some((mut pair, _mount)) = short_of_room(1) else { return };
    for at in 0..128 {
        assert_eq!(write(&pair, at << 16, 5), 0);
    }
    wait_until(WAIT_LIMIT, "it has failed", || pair.status(B)["copy"] == json!("failed"));
    pair.process(B).wait_for_line(WAIT_LIMIT, "No space left on device");
    assert!(pair.status(B)["promotion"]["never"].is_string());
    assert_eq!(pair.status(A)["alone"], json!(true));
    // With room, it is brought up to date.
    pair.kill(B);
    run("mount", &["-o", "remount,size=100m", &_mount.at().display().to_string()]);
    pair.serve(B);
    pair.wait_connected(A);
    pair.stop_the_same();
}

#[test]
fn a_source_without_room_answers_errors_and_its_target_is_promoted() {
    let Some((mut pair, _mount)) = short_of_room(0) else { return };
    let done = (0..128).take_while(|at| write(&pair, *at << 16, 5) == 0).count();
    assert!((16..80).contains(&done), "{done}");
    pair.process(A).wait_for_line(WAIT_LIMIT, "No space left on device");
    assert_eq!(pair.status(A)["copy"], json!("failed"));
    pair.promote(B, 2, "confirmed");
    let read = Client::connect(&pair.nbd(B), "mail").unwrap().read(done << 16).unwrap();
    assert!(read.iter().all(|byte| *byte == 5), "all that was acknowledged is there");
}

/// A log, or a disk, whose writes fail from now on.
fn failing(bytes: u64) -> Under {
    Under::new("error", &["error-pwrite=EIO", "error-pwrite-rate=100%", "error-pwrite-file={}/failing"], bytes)
}

/// A disk whose reads fail while there is a file of this name in its folder.
fn unreadable() -> Under {
    Under::new("error", &["error-pread=EIO", "error-pread-rate=100%", "error-pread-file={}/failing"], SIZE + LABEL)
}

/// Times in which a busy machine does not lose a link: a verify would end with it.
fn patient() -> serde_json::Value {
    json!({ "peer-timeout-ms": 20_000, "stall-ms": 40_000 })
}

#[test]
fn a_read_that_fails_is_an_error_and_the_copy_goes_on() {
    if !under::is_possible() {
        return;
    }
    let disk = unreadable();
    let mut pair = Pair::on([Some(disk.disk()), None], &json!({}));
    pair.start();
    assert_eq!(write(&pair, 0, 5), 0);
    let failing = disk.folder().join("failing");
    fs::write(&failing, "").unwrap();
    let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
    assert!(client.read(65536).unwrap_err().to_string().contains("error 5"), "EIO");
    let status = pair.status(A);
    assert_eq!((&status["role"], &status["link"]), (&json!("source"), &json!("connected")), "{status}");
    pair.process(A).wait_for_line(WAIT_LIMIT, "Input/output error");
    assert_eq!(write(&pair, 65536, 6), 0, "writes go to both as before");
    fs::remove_file(&failing).unwrap();
    assert_eq!(client.read(65536).unwrap(), [5; 65536]);
    drop(client);
    pair.stop_the_same();
}

#[test]
fn what_a_resync_cannot_read_is_copied_as_soon_as_it_can_be_read() {
    if !under::is_possible() {
        return;
    }
    let disk = unreadable();
    let failing = disk.folder().join("failing");
    let times = json!({ "alone-after-ms": 200, "peer-timeout-ms": 2000 });
    let mut pair = Pair::on([Some(disk.disk()), None], &times);
    pair.start();
    // The disk works again in time, or after the source was started anew.
    for (offset, claim, anew) in [(0, 2, true), (9 << 16, 4, false)] {
        pair.kill(B);
        assert_eq!(write(&pair, offset, 5), 0);
        assert_eq!(pair.status(A)["alone"], json!(true));
        fs::write(&failing, "").unwrap();
        pair.serve(B);
        wait_until(WAIT_LIMIT, "it is said", || pair.status(A)["unread"].is_string());
        pair.process(A).wait_for_line(WAIT_LIMIT, "the target stays inconsistent");
        let status = pair.status(A);
        assert_eq!((&status["role"], &status["copy"]), (&json!("source"), &json!("up to date")), "{status}");
        assert!(status["link"]["resync"].is_object(), "{status}");
        assert_eq!(write(&pair, offset + (1 << 20), 6), 0, "writes go to both");
        // What it acknowledged alone is only there: the other one is not taken for whole.
        let right = json!({ "right": { "epoch": { "counter": claim, "side": "B" }, "until-boot-ms": null } });
        assert_eq!(pair.ask(B, &right), json!("done"));
        let refused = pair.ask(B, &json!({ "promote": "confirmed" }));
        assert!(refused["error"].as_str().is_some_and(|why| why.contains("only force")), "{refused}");
        if anew {
            pair.kill(A);
        }
        fs::remove_file(&failing).unwrap();
        if anew {
            pair.serve(A);
            pair.promote(A, claim + 1, "confirmed");
        }
        pair.wait_connected(A);
        assert_eq!(pair.status(A)["unread"], json!(null));
    }
    pair.stop_the_same();
}

#[test]
fn what_a_source_cannot_read_is_not_compared() {
    if !under::is_possible() {
        return;
    }
    let disk = unreadable();
    let failing = disk.folder().join("failing");
    let mut pair = Pair::on([Some(disk.disk()), None], &patient());
    pair.start();
    assert_eq!(write(&pair, 0, 5), 0);
    fs::write(&failing, "").unwrap();
    assert_eq!(pair.ask(A, &json!("verify")), json!("done"));
    pair.process(A).wait_for_line(WAIT_LIMIT, "1024 of 1024 regions could not be read here");
    let status = pair.status(A);
    assert_eq!((&status["role"], &status["link"]), (&json!("source"), &json!("connected")), "{status}");
    assert_eq!(write(&pair, 65536, 6), 0);
    fs::remove_file(&failing).unwrap();
    assert_eq!(pair.ask(A, &json!("verify")), json!("done"));
    pair.process(A).wait_for_line(WAIT_LIMIT, "all 1024 regions are the same");
    pair.stop_the_same();
}

#[test]
fn a_target_that_cannot_be_read_is_copied_to() {
    if !under::is_possible() {
        return;
    }
    let disk = unreadable();
    let failing = disk.folder().join("failing");
    let mut pair = Pair::on([None, Some(disk.disk())], &patient());
    pair.start();
    assert_eq!(write(&pair, 0, 5), 0);
    fs::write(&failing, "").unwrap();
    // A resync reads nothing there.
    pair.kill(A);
    pair.serve(A);
    wait_until(WAIT_LIMIT, "they are in contact", || pair.status(A)["link"] == json!("idle"));
    pair.promote(A, 2, "confirmed");
    pair.wait_connected(A);
    // What verify cannot read there is not taken for the same: all of it is written anew.
    assert_eq!(pair.ask(A, &json!("verify")), json!("done"));
    pair.process(B).wait_for_line(WAIT_LIMIT, "cannot be read here (error 5), and is copied anew");
    pair.process(A).wait_for_line(WAIT_LIMIT, "resync of 1024 regions begins");
    pair.wait_connected(A);
    assert_eq!(pair.status(B)["copy"], json!("up to date"));
    fs::remove_file(&failing).unwrap();
    pair.stop_the_same();
}

#[test]
fn a_source_whose_log_cannot_be_written_acknowledges_nothing_more() {
    if !under::is_possible() {
        return;
    }
    let log = failing(LOG_BYTES);
    let mut pair = Pair::new();
    let there = fs::OpenOptions::new().write(true).open(log.disk()).unwrap();
    there.write_all_at(&fs::read(pair.log(A)).unwrap(), 0).unwrap();
    drop(there);
    pair.set(A, "log", json!(log.disk()));
    pair.start();
    assert_eq!(write(&pair, 0, 5), 0);
    pair.ask(A, &json!("demote"));
    wait_until(WAIT_LIMIT, "both are targets", || pair.status(A)["link"] == json!("idle"));
    pair.promote(A, 2, "free");
    pair.wait_connected(A);
    fs::write(log.folder().join("failing"), "").unwrap();
    // The demotion has cleared the log: this region's bit has to be made durable first.
    assert_eq!(write(&pair, 9 << 16, 6), 5, "EIO");
    pair.process(A).wait_for_line(WAIT_LIMIT, "when writing the intent log");
    assert_eq!(pair.status(A)["copy"], json!("failed"));
    pair.promote(B, 3, "confirmed");
    assert_eq!(Client::connect(&pair.nbd(B), "mail").unwrap().read(65536).unwrap(), [5; 65536]);
}

#[test]
fn a_copy_whose_label_cannot_be_written_is_not_promoted() {
    if !under::is_possible() {
        return;
    }
    let disk = failing(SIZE + LABEL);
    let mut pair = Pair::on([None, Some(disk.disk())], &json!({}));
    pair.start();
    assert_eq!(write(&pair, 0, 5), 0);
    pair.kill(A);
    fs::write(disk.folder().join("failing"), "").unwrap();
    let right = json!({ "right": { "epoch": { "counter": 2, "side": "B" }, "until-boot-ms": null } });
    assert_eq!(pair.ask(B, &right), json!("done"));
    let refused = pair.ask(B, &json!({ "promote": "confirmed" }));
    assert!(refused["error"].is_string(), "{refused}");
    pair.process(B).wait_for_line(WAIT_LIMIT, "writing the label");
    let status = pair.status(B);
    assert_eq!((&status["role"], &status["copy"]), (&json!("target"), &json!("failed")));
}

/// Bytes of the log of a volume of [`SIZE`].
const LOG_BYTES: u64 = 12288;

#[test]
fn a_log_that_is_not_believed_has_all_copied() {
    let mut pair = Pair::new();
    pair.start();
    assert_eq!(write(&pair, 0, 5), 0);
    let older = fs::read(pair.log(B)).unwrap();
    let label = Label::decode(&fs::read(pair.backing(B)).unwrap()[SIZE as usize..]).unwrap();
    let foreign = Label { volume: VolumeId(7), ..label };
    let regions = Bitmap::empty((SIZE >> 16) as u32);
    let foreign: Vec<u8> = log::encode(&regions, &foreign, 99).into_iter().fold(vec![0; 12288], |mut bytes, block| {
        bytes[block.offset as usize..][..block.bytes.len()].copy_from_slice(&block.bytes);
        bytes
    });
    let flipped = |mut log: Vec<u8>| {
        log[8192 + 100] ^= 4;
        log
    };
    type Damage<'a> = Box<dyn Fn(Vec<u8>) -> Vec<u8> + 'a>;
    let cases: [(&str, Damage<'_>); 5] = [
        ("cannot be read", Box::new(|_| Vec::new())),
        ("sectors of the intent log cannot be read", Box::new(|log| log[..8192].to_vec())),
        ("1 sectors of the intent log cannot be read", Box::new(flipped)),
        ("belongs to volume", Box::new(|_| foreign.clone())),
        ("the label of the backing asks for", Box::new(|_| older.clone())),
    ];
    for (claim, (words, damage)) in cases.into_iter().enumerate() {
        pair.stop(A);
        pair.stop(B);
        fs::write(pair.log(B), damage(fs::read(pair.log(B)).unwrap())).unwrap();
        pair.start_again(claim as u64 + 2);
        pair.process(B).wait_for_line(WAIT_LIMIT, words);
        pair.process(A).wait_for_line(WAIT_LIMIT, "resync of 1024 regions begins");
        assert_eq!(write(&pair, (claim as u64) << 16, 6), 0);
    }
    pair.stop_the_same();
}

#[test]
fn a_backing_that_grew_or_vanished_is_said() {
    let mut pair = Pair::new();
    pair.start();
    fs::rename(pair.backing(B), pair.folder().join("away")).unwrap();
    wait_until(WAIT_LIMIT, "it is noticed", || {
        pair.status(B)["server"]["backing-failure"].as_str().is_some_and(|why| why.contains("removed or replaced"))
    });
    // It drops out with the first thing that it is told.
    assert_eq!(write(&pair, 0, 5), 0);
    wait_until(WAIT_LIMIT, "it has failed", || pair.status(B)["copy"] == json!("failed"));
    assert_eq!(pair.status(A)["alone"], json!(true));
    pair.kill(B);
    assert!(pair.serve_in_vain(B).contains("cannot be opened: No such file"), "it is not made anew");
    fs::rename(pair.folder().join("away"), pair.backing(B)).unwrap();
    // The label is at the end: where the end is now, there is none.
    let disk = fs::OpenOptions::new().write(true).open(pair.backing(B)).unwrap();
    disk.set_len(SIZE + LABEL + (1 << 20)).unwrap();
    let said = pair.serve_in_vain(B);
    assert!(said.contains("no label"), "{said}");
    disk.set_len(SIZE + LABEL).unwrap();
    pair.serve(B);
    pair.wait_connected(A);
    pair.stop_the_same();
}

#[test]
fn block_devices_and_disks_with_blocks_of_4096_bytes_do() {
    if !disk::is_possible() {
        return;
    }
    let folder = TempDir::new();
    let devices = [&["-b", "4096"][..], &[]].map(|more| {
        let image = folder.join(format!("image{}", more.len()));
        fs::File::create(&image).unwrap().set_len(SIZE + LABEL).unwrap();
        Loop::on(&image, more)
    });
    let disks = devices.each_ref().map(|device| Some(device.text().into()));
    let mut pair = Pair::on(disks, &json!({}));
    pair.start();
    assert_eq!(pair.status(A)["server"]["block-bytes"], json!(4096));
    assert_eq!(write(&pair, 4096, 5), 0);
    let mut client = Client::connect(&pair.nbd(A), "mail").unwrap();
    assert_eq!(client.once(Command::Write, true, (512, 512), &[1; 512]).unwrap(), 22, "EINVAL");
    assert_eq!(client.once(Command::Zero, true, (8192, 4096), &[]).unwrap(), 0);
    drop(client);
    pair.stop(A);
    pair.stop(B);
    let [a, b] = [A, B].map(|copy| {
        let mut data = vec![0; 1 << 20];
        std::io::Read::read_exact(&mut fs::File::open(pair.backing(copy)).unwrap(), &mut data).unwrap();
        data
    });
    assert!(a == b && a[4096] == 5 && a[8192..12288] == [0; 4096] && a[12288] == 5);
    // What is mounted is nobody's backing.
    run("mkfs.ext4", &["-q", "-F", &devices[1].text()]);
    let _mount = Mount::new(&devices[1].text(), &[]);
    let said = pair.serve_in_vain(B);
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn threads_do_it_where_the_kernel_refuses_io_uring() {
    let mut pair = Pair::new();
    pair.serve(B);
    pair.serve_with(A, |command| {
        // SAFETY: between fork and exec only prctl and seccomp are called, which are async-signal-safe.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(command, refuse_io_uring);
        }
    });
    wait_until(WAIT_LIMIT, "they are in contact", || pair.status(A)["link"] == json!("idle"));
    pair.promote(A, 1, "free");
    pair.wait_connected(A);
    assert_eq!(pair.status(B)["server"]["disk"], json!("io_uring"), "it is permitted elsewhere");
    let engine = pair.status(A)["server"]["disk"].as_str().unwrap().to_owned();
    assert!(engine.starts_with("16 threads, as io_uring is not permitted here"), "{engine}");
    assert_eq!(write(&pair, 0, 5), 0);
    pair.stop_the_same();
    // Who wants nothing else is told what to permit.
    pair.set(A, "disk", json!("uring"));
    let config = pair.config(A).display().to_string();
    let mut command = crate::pair::limited(crate::pair::PROGRAM.as_ref(), &["serve", &config]);
    // SAFETY: as above.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, refuse_io_uring);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("permit io_uring_setup"), "{said}");
}

/// As a container's seccomp profile does: io_uring_setup(2) is not permitted (seccomp(2)).
fn refuse_io_uring() -> std::io::Result<()> {
    use nix::libc;
    let statement = |code: u32, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        // The number of the call is what `struct seccomp_data` begins with.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_io_uring_setup as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter lives until the calls have returned; the kernel copies it.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
