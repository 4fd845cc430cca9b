//! Applications on a file system on a volume, whose source loses its power without a word: its target goes on with all
//! that they were told was durable.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use mainstay_test_support::{Direction, WAIT_LIMIT};
use serde_json::json;

use crate::disk::{self, Mount, VolumeDisk, run};
use crate::pair::daemon::Arbiter;
use crate::pair::under::Under;
use crate::pair::{A, B, LABEL, Pair, SIZE};

/// Says each number once its transaction is committed.
const SQLITE_WRITES: &str = r#"
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1] + "/db", isolation_level=None, timeout=30)
assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
db.execute("pragma synchronous=full")
db.execute("create table accounts (id integer primary key, money integer)")
db.execute("create table moves (number integer primary key, text text)")
db.executemany("insert into accounts values (?, 1000)", [(i,) for i in range(20)])
until = time.time() + 60
number = 0
while time.time() < until:
    number += 1
    db.execute("begin immediate")
    db.execute("update accounts set money = money - 7 where id = ?", (number % 20,))
    db.execute("update accounts set money = money + 7 where id = ?", (number * 3 % 20,))
    db.execute("insert into moves values (?, ?)", (number, "x" * (number % 3000)))
    db.execute("commit")
    print(number, flush=True)
"#;
const SQLITE_READS: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + "/db")
assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
assert db.execute("select sum(money) from accounts").fetchone() == (20000,)
last = db.execute("select max(number), count(*) from moves").fetchone()
assert last[0] == last[1], last
assert last[0] >= int(sys.argv[2]), (last, sys.argv[2])
print("all there")
"#;
/// Says each message's number once it is in the maildir for good.
const MAIL_WRITES: &str = r#"
import os, sys, time
root = sys.argv[1] + "/maildir"
for folder in ("", "/tmp", "/new"):
    os.mkdir(root + folder)
def sync(path):
    fd = os.open(path, os.O_RDONLY); os.fsync(fd); os.close(fd)
sync(sys.argv[1]); sync(root)
until = time.time() + 60
number = 0
while time.time() < until:
    number += 1
    with open(f"{root}/tmp/{number}", "w") as message:
        message.write(f"message {number}\n" * (1 + number % 500))
        message.flush(); os.fsync(message.fileno())
    os.rename(f"{root}/tmp/{number}", f"{root}/new/{number}")
    sync(root + "/new")
    print(number, flush=True)
"#;
const MAIL_READS: &str = r#"
import sys
for number in range(1, int(sys.argv[2]) + 1):
    text = open(f"{sys.argv[1]}/maildir/new/{number}").read()
    assert text == f"message {number}\n" * (1 + number % 500), number
print("all there")
"#;

#[test]
fn applications_go_on_at_the_target_when_the_source_loses_its_power() {
    if !disk::is_possible() {
        return;
    }
    let mut under = Under::new("cache", &["cache=writeback"], SIZE + LABEL);
    let times = json!({ "arbiter": true, "alone-after-ms": 200, "peer-timeout-ms": 2000, "stall-ms": 15_000 });
    let mut pair = Pair::relayed([Some(under.disk()), None], &times);
    let arbiter = Arbiter::of_served(&mut pair);
    let volume = VolumeDisk::new(&pair.uri(A));
    run("mkfs.ext4", &["-q", "-F", &volume.text()]);
    let mount = Mount::new(&volume.text(), &[]);
    let at = mount.at().display().to_string();
    let python = |script: &str| {
        let mut command = Command::new("timeout");
        command.args(["90", "/usr/bin/python3", "-c", script, &at]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut output = process.stdout.take().unwrap();
        thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            process.wait().unwrap();
            text.lines().rev().find_map(|line| line.parse::<u64>().ok()).unwrap_or(0)
        })
    };
    let (sqlite, mail) = (python(SQLITE_WRITES), python(MAIL_WRITES));
    thread::sleep(Duration::from_secs(4));
    // The power goes, and nothing says so.
    pair.relay().cut();
    assert!(pair.relay().carried_bytes(Direction::ToTarget) > 0);
    pair.kill(A);
    under.power_off();
    let [transactions, messages] = [sqlite, mail].map(|last| last.join().unwrap());
    assert!(transactions > 10 && messages > 10, "{transactions} transactions, {messages} messages");
    drop(mount);
    volume.end();

    arbiter.promote(&pair, B).unwrap();
    take_over(&pair.uri(B), transactions, messages);
    // Who lost its power comes back as a target, and is the same in the end.
    under.power_on();
    pair.relay().drop_connections();
    pair.relay().resume();
    pair.serve(A);
    arbiter.follow(&pair, A);
    pair.wait_connected(B);
    pair.stop(B);
    pair.stop(A);
    pair.assert_same();
}

fn take_over(uri: &str, transactions: u64, messages: u64) {
    let volume = VolumeDisk::new(uri);
    // The journal is replayed, and then there is nothing to complain of.
    Mount::new(&volume.text(), &[]).unmount();
    run("e2fsck", &["-fn", &volume.text()]);
    let mount = Mount::new(&volume.text(), &[]);
    read(&mount.at(), SQLITE_READS, transactions);
    read(&mount.at(), MAIL_READS, messages);
    fs::write(mount.at().join("after"), "it goes on").unwrap();
    mount.unmount();
    run("e2fsck", &["-fn", &volume.text()]);
    volume.end();
}

#[track_caller]
fn read(at: &Path, script: &str, last: u64) {
    assert_eq!(run("/usr/bin/python3", &["-c", script, &at.display().to_string(), &last.to_string()]), "all there");
}

#[test]
fn an_unmount_ends_when_nobody_may_write_any_more() {
    if !disk::is_possible() {
        return;
    }
    // An arbiter that cannot be reached: nothing goes on alone, and nothing is held for longer than 4 s.
    let times = json!({ "arbiter": true, "alone-after-ms": 200, "peer-timeout-ms": 1000, "stall-ms": 4000 });
    let mut pair = Pair::relayed([None, None], &times);
    pair.start();
    let volume = VolumeDisk::new(&pair.uri(A));
    run("mkfs.ext4", &["-q", "-F", &volume.text()]);
    let mount = Mount::new(&volume.text(), &[]);
    fs::write(mount.at().join("file"), vec![7; 1 << 20]).unwrap();
    pair.relay().cut();
    let began = std::time::Instant::now();
    // Whether it can be written is not the question: only that it ends.
    let _ = Command::new("timeout").args(["50", "umount"]).arg(mount.at()).output().unwrap();
    assert!(began.elapsed() < WAIT_LIMIT / 2, "{:?}", began.elapsed());
    assert!(pair.status(A)["waits"].as_str().is_some_and(|why| why.contains("the peer is gone")), "{}", pair.status(A));
    drop(mount);
    volume.end();
}
