//! A volume with a file system on it, moved and lost and brought back.

use mainstay_test_e2e::cli;

use crate::pair::Pair;

#[test]
fn the_story_of_a_volume() {
    let Some(mut pair) = Pair::new("", true) else { return };
    pair.start();
    // The first copy, and a file system on it.
    pair.wait_until_served_by("a");
    pair.wait_until_mirrored("a");
    let said = pair.ask("a", &["wait", "store", "--timeout", "60s"]);
    assert!(said.contains("both copies of store have everything"), "{said}");
    pair.put("a", "one", b"written on a");
    // Switchover: everything is there.
    pair.wait_until_ready("b", "a");
    pair.cluster.node("a").mainstay(&["switchover", "mail", "b", "--timeout", "2m"]).ok();
    assert_eq!(pair.get("b", "one").as_deref(), Some(&b"written on a"[..]));
    assert!(!pair.point("a").join("one").exists(), "it is not mounted on a any more");
    pair.wait_until_ready("a", "b");
    pair.cluster.node("b").mainstay(&["switchover", "mail", "a", "--timeout", "2m"]).ok();
    pair.wait_until_mirrored("a");
    pair.put("a", "two", b"acknowledged before the power went");
    // The power cord: b waits for the operator's word, which shows when a was last heard.
    pair.power_off("a");
    pair.cluster.node("b").wait_for("the question", |status| status.alarm("silent").is_some());
    cli::mainstay(["--state", &*pair.cluster.node("b").state().to_string_lossy(), "confirm", "mail", "--yes"]).ok();
    pair.wait_until_served_by("b");
    assert_eq!(pair.get("b", "two").as_deref(), Some(&b"acknowledged before the power went"[..]));
    pair.put("b", "three", &vec![3; 1 << 20]);
    // a comes back as the target, and only what changed is copied.
    pair.cluster.power_on("a");
    pair.wait_until_mirrored("b");
    let sent = pair.volume("b")["status"]["resync-bytes"].as_u64().expect("it is counted");
    assert!(sent <= 24 << 20, "{sent} bytes for a megabyte of changes, of a volume of 96 MiB");
    // Failback.
    pair.wait_until_ready("a", "b");
    pair.cluster.node("b").mainstay(&["switchover", "mail", "a", "--timeout", "2m"]).ok();
    pair.wait_until_mirrored("a");
    assert_eq!(pair.get("a", "three").as_deref(), Some(&vec![3; 1 << 20][..]));
    pair.cluster.node("a").mainstay(&["out-of-service", "mail", "--timeout", "2m"]).ok();
    pair.copies_are_the_same();
}

#[test]
fn a_daemon_that_is_killed_leaves_it_mounted() {
    let Some(mut pair) = Pair::new("", true) else { return };
    pair.start();
    pair.wait_until_served_by("a");
    pair.put("a", "one", b"before");
    pair.cluster.kill("a");
    pair.put("a", "two", b"while there is no daemon");
    pair.cluster.start("a");
    pair.wait_until_served_by("a");
    pair.put("a", "three", b"after");
    assert_eq!(pair.get("a", "two").as_deref(), Some(&b"while there is no daemon"[..]));
}

#[test]
fn a_volume_whose_process_dies_is_repaired_here() {
    let Some(mut pair) = Pair::new("", true) else { return };
    pair.start();
    pair.wait_until_served_by("a");
    pair.put("a", "one", b"before");
    let pid = pair.volume("a")["process"]["pid"].as_i64().expect("it serves");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)
        .expect("it lives");
    pair.wait_for_volume("a", "another process", |volume| {
        volume["process"]["pid"].as_i64().is_some_and(|now| now != pid) && volume["status"]["role"] == "source"
    });
    pair.wait_until_served_by("a");
    assert_eq!(pair.get("a", "one").as_deref(), Some(&b"before"[..]));
    pair.put("a", "two", b"after");
}
