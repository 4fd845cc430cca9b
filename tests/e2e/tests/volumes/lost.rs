//! When a copy does not have everything: what the operator is shown, what it takes, and what it comes to.

use mainstay_test_e2e::Status;
use mainstay_test_support::guard::Signal;
use mainstay_test_support::{Etcd, WAIT_LIMIT, wait_until};
use serde_json::Value;

use crate::pair::Pair;

/// The other copy is taken for gone after 2 s, and a source goes on alone after 0.8 s.
const SOON: &str = "stall-time = \"8s\"";
/// Where the arbiter has a mark.
const MARK: &str = "/mainstay/e2e/mail/outdated/store";

/// In service on `a`, with `both` written, and both copies have it.
#[track_caller]
fn begin(pair: &mut Pair) {
    pair.start();
    pair.wait_until_served_by("a");
    pair.wait_until_mirrored("a");
    pair.wait_until_ready("b", "a");
    pair.put("a", "both", b"on both copies");
}

/// A node that has the hierarchy by the operator's word or the arbiter's permit, and whose copy is not promoted.
#[track_caller]
fn refused(pair: &Pair, node: &str, why: &str) -> Status {
    pair.cluster.wait_for(node, &format!("store to be refused there: {why}"), |status| {
        let said = status.reason("store", node).contains(why) || status.alarm(why).is_some();
        said && status.owner("mail") == Some(node) && !status.serves("store", node)
    })
}

fn split_brain(volume: &Value) -> Option<&str> {
    volume["status"]["link"]["split-brain"].as_str()
}

/// The copy of `b` was told that it is outdated; then `a` is lost for good.
#[test]
fn an_outdated_copy_takes_force_and_what_may_be_lost_is_said_first() {
    let Some(mut pair) = Pair::new(SOON, true) else { return };
    begin(&mut pair);
    pair.ask("a", &["pause", "store"]);
    pair.wait_for_volume("b", "outdated", |volume| volume["status"]["copy"] == "outdated");
    pair.put("a", "lost", b"acknowledged by a alone");
    pair.power_off("a");
    // It is the operator's word that a is off. It is no word for an old copy.
    let node = pair.cluster.node("b");
    node.wait_for("the question", |status| status.alarm("silent").is_some());
    node.mainstay(&["confirm", "mail", "--yes"]);
    refused(&pair, "b", "only force promotes it");
    let promote = |more: &[&str]| node.mainstay(&[&["volume", "promote", "store"], more].concat());
    let lost = "everything that the other copy has acknowledged since";
    promote(&[]).fails_with(1, &["only --force promotes this copy", lost]);
    promote(&["--yes"]).fails_with(1, &["only --force promotes this copy", lost]);
    // With force it is said first; and nobody has read it yet.
    let asked = promote(&["--force"]);
    assert!(asked.code == Some(1) && asked.out.contains("may be lost: ") && asked.out.contains(lost), "{asked:#?}");
    assert!(asked.err.contains("--yes states that what may be lost was read"), "{asked:#?}");
    assert!(!pair.cluster.node("b").status().serves("store", "b"));
    let said = promote(&["--force", "--yes", "--timeout", "1m"]).ok();
    assert!(said.contains("may be lost: ") && said.contains("the next restore may promote"), "{said}");
    pair.wait_until_served_by("b");
    assert_eq!(pair.get("b", "both").as_deref(), Some(&b"on both copies"[..]));
    assert_eq!(pair.get("b", "lost"), None);
    node.wait_for_log("this copy was promoted by force: everything that the other copy has acknowledged since");
    pair.put("b", "new", b"since");
    // The other one comes back after all: nothing of it is overwritten unasked.
    pair.cluster.power_on("a");
    pair.ask("a", &["resume", "store"]);
    pair.wait_for_volume("a", "in split brain", |volume| split_brain(volume).is_some());
    pair.wait_for_volume("b", "in split brain", |volume| split_brain(volume).is_some());
    assert_eq!(pair.get("b", "new").as_deref(), Some(&b"since"[..]), "it serves on");
}

/// Both copies were written without the other, because the operator was wrong or had no choice. The data of `survivor`
/// stays; it is in service on `b` when the two meet.
#[track_caller]
fn both_went_on_alone(survivor: &str) {
    let Some(mut pair) = Pair::new(SOON, true) else { return };
    begin(&mut pair);
    pair.power_off("b");
    pair.put("a", "of-a", b"acknowledged by a alone");
    pair.power_off("a");
    pair.cluster.power_on("b");
    pair.cluster.node("b").wait_for("the question", |status| status.alarm("silent").is_some());
    pair.cluster.node("b").mainstay(&["confirm", "mail", "--yes"]).ok();
    pair.wait_until_served_by("b");
    pair.put("b", "of-b", b"acknowledged by b alone");
    pair.cluster.power_on("a");
    let shown = pair.wait_for_volume("b", "in split brain", |volume| split_brain(volume).is_some());
    let shown = split_brain(&shown).unwrap_or_default().to_owned();
    pair.wait_for_volume("a", "in split brain", |volume| split_brain(volume).is_some());
    assert!(shown.contains("this copy has up to ") && shown.contains("; the peer's has up to "), "{shown}");
    for node in ["a", "b"] {
        let said = pair.ask(node, &["status"]);
        assert!(said.contains("Name the survivor: mainstay volume resolve store --survivor NODE"), "{said}");
    }
    // Nothing is overwritten, and it serves on.
    assert_eq!(pair.get("b", "of-b").as_deref(), Some(&b"acknowledged by b alone"[..]));
    assert_eq!(pair.get("b", "of-a"), None);
    let (loser, lost) = if survivor == "a" { ("b", "of-b") } else { ("a", "of-a") };
    let resolve = |pair: &Pair, node: &str, survivor: &str, more: &[&str]| {
        let args = [&["volume", "resolve", "store", "--survivor", survivor], more].concat();
        pair.cluster.node(node).mainstay(&args)
    };
    resolve(&pair, "b", "c", &["--yes"]).fails_with(1, &["c"]);
    // What is given up is shown first, and nobody has read it.
    let asked = resolve(&pair, "b", survivor, &[]);
    assert!(asked.code == Some(1) && asked.out.contains(&shown), "{asked:#?}");
    assert!(asked.out.contains(&format!("what only {loser} has is given up")), "{asked:#?}");
    assert!(asked.err.contains("--yes states that what is given up was read"), "{asked:#?}");
    pair.wait_for_volume("b", "in split brain still", |volume| split_brain(volume).is_some());
    if survivor == "a" {
        // What serves is not given up.
        resolve(&pair, "b", "a", &["--yes"]).fails_with(1, &["take it out of service before it is given up"]);
        assert_eq!(pair.get("b", "of-b").as_deref(), Some(&b"acknowledged by b alone"[..]));
        pair.cluster.node("b").mainstay(&["out-of-service", "mail", "--timeout", "1m"]).ok();
        pair.wait_for_volume("b", "in split brain as a target", |volume| {
            split_brain(volume).is_some() && volume["status"]["role"] == "target"
        });
    }
    let said = resolve(&pair, "b", survivor, &["--yes"]).ok();
    assert!(said.contains("the survivor is named"), "{said}");
    if survivor == "a" {
        pair.wait_for_volume("a", "idle", |volume| volume["status"]["link"] == "idle");
        pair.cluster.node("a").mainstay(&["in-service", "mail", "--timeout", "1m"]).ok();
    }
    pair.wait_until_served_by(survivor);
    pair.wait_until_mirrored(survivor);
    assert_eq!(pair.get(survivor, lost), None);
    let (name, text) =
        if survivor == "a" { ("of-a", "acknowledged by a alone") } else { ("of-b", "acknowledged by b alone") };
    assert_eq!(pair.get(survivor, name).as_deref(), Some(text.as_bytes()));
    assert_eq!(pair.get(survivor, "both").as_deref(), Some(&b"on both copies"[..]));
    // The other copy is like it, and as good.
    pair.wait_until_ready(loser, survivor);
    pair.cluster.node(survivor).mainstay(&["switchover", "mail", loser, "--timeout", "1m"]).ok();
    assert_eq!(pair.get(loser, name).as_deref(), Some(text.as_bytes()));
    assert_eq!(pair.get(loser, lost), None);
    pair.wait_until_mirrored(loser);
    pair.cluster.node(loser).mainstay(&["out-of-service", "mail", "--timeout", "1m"]).ok();
    pair.copies_are_the_same();
}

#[test]
fn a_split_brain_ends_with_the_data_of_the_one_that_serves() {
    both_went_on_alone("b");
}

#[test]
fn a_split_brain_ends_with_the_data_of_the_other_one() {
    both_went_on_alone("a");
}

/// The other node was off when the source went on alone, so the mark is in the arbiter; then the source is lost too, and
/// `b` is back, which was never told.
#[track_caller]
fn marked_in_the_arbiter(etcd: &Etcd) -> Option<Pair> {
    let mut pair = Pair::by_arbiter(etcd, SOON)?;
    begin(&mut pair);
    assert_eq!(mark(etcd), "");
    pair.power_off("b");
    pair.put("a", "of-a", b"acknowledged by a alone");
    assert_eq!(mark(etcd), "b", "it is there before anything is acknowledged without b");
    pair.wait_for_volume("a", "alone", |volume| volume["status"]["alone"] == true);
    pair.power_off("a");
    Some(pair)
}

fn mark(etcd: &Etcd) -> String {
    etcd.ctl(&["get", MARK, "--print-value-only"]).trim().to_owned()
}

/// It has the permit, and its copy is not promoted for that.
#[track_caller]
fn refused_for_the_mark(pair: &Pair) {
    let status = refused(pair, "b", "the arbiter says that it is outdated: only force promotes it");
    let said = [status.alarms(), vec![status.reason("store", "b")]].concat();
    let said: Vec<&&str> = said.iter().filter(|said| said.contains("only force promotes it")).collect();
    for said in said {
        assert!(said.contains("May be lost: everything that the other copy has acknowledged since"), "{said}");
        assert!(said.contains("mainstay volume promote store --force"), "{said}");
    }
    assert_eq!(pair.get("b", "both"), None, "it is not mounted");
}

#[test]
fn a_copy_that_the_arbiter_has_a_mark_against_is_not_promoted() {
    let Some(etcd) = Etcd::start(1) else { return };
    let Some(mut pair) = marked_in_the_arbiter(&etcd) else { return };
    pair.cluster.power_on("b");
    refused_for_the_mark(&pair);
    let promote = pair.cluster.node("b").mainstay(&["volume", "promote", "store", "--yes"]);
    promote.fails_with(1, &["only --force promotes this copy", "May be lost: "]);
    assert_eq!(mark(&etcd), "b");
    // The other one is back: it serves, and the mark is gone when both have everything.
    pair.cluster.power_on("a");
    pair.wait_until_served_by("a");
    assert_eq!(pair.get("a", "of-a").as_deref(), Some(&b"acknowledged by a alone"[..]));
    pair.wait_until_mirrored("a");
    wait_until(WAIT_LIMIT, "the mark to be taken away", || mark(&etcd).is_empty());
    pair.wait_until_ready("b", "a");
    pair.cluster.node("a").mainstay(&["switchover", "mail", "b", "--timeout", "1m"]).ok();
    assert_eq!(pair.get("b", "of-a").as_deref(), Some(&b"acknowledged by a alone"[..]));
    pair.wait_until_mirrored("b");
    pair.cluster.node("b").mainstay(&["out-of-service", "mail", "--timeout", "1m"]).ok();
    pair.copies_are_the_same();
}

/// The operator's word for the copy, given when nobody could ask the arbiter, is no word against its mark.
#[test]
fn a_word_for_a_copy_does_not_count_against_the_arbiters_mark() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let Some(mut pair) = marked_in_the_arbiter(&etcd) else { return };
    etcd.signal(0, Signal::SIGSTOP);
    pair.cluster.power_on("b");
    pair.wait_for_volume("b", "last known good", |volume| volume["status"]["copy"] == "last known good");
    let said = pair.ask("b", &["promote", "store", "--yes", "--no-restore"]);
    assert!(said.contains("was last heard at 20") && said.contains("the next restore may promote"), "{said}");
    etcd.signal(0, Signal::SIGCONT);
    refused_for_the_mark(&pair);
}
