//! Hierarchies that move: because the operator wants it, because nothing helps on one node, because a node is gone.

use std::time::{Duration, Instant};

use mainstay_test_e2e::app::ALL_PROGRAMS;
use mainstay_test_e2e::{Cluster, LIMIT, api};
use mainstay_test_support::wait_until;
use serde_json::json;

/// To the other node and back, asked on whichever node the operator is.
#[test]
fn switchover_and_back() {
    let (cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    app.on("a").knob("remove", "sleep 1");
    let said = cluster.node("a").mainstay(&["switchover", "shop", "b"]).ok();
    // What is done is told while it is done, and how long it took.
    for words in ["switching shop over from a to b", "web  ISU: being taken out of service", "done after", "owned by b"]
    {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    assert_eq!(app.running(), ["b"], "when the command returns it is done");
    cluster.wait_until_served_by("b");
    let again = cluster.node("a").mainstay(&["switchover", "shop", "b"]);
    again.fails_with(1, &["refused: b owns shop already"]);
    // Asked on the node that gets it, the one that has it does it.
    let said = cluster.node("a").mainstay(&["switchover", "shop", "a"]).ok();
    assert!(said.contains("switching shop over from b to a"), "{said}");
    assert_eq!(app.running(), ["a"]);
    // Asked of the node that does not have it.
    cluster.node("b").mainstay(&["out-of-service", "shop"]).ok();
    assert_eq!(app.running(), [""; 0]);
    cluster.node("b").mainstay(&["in-service", "shop"]).ok();
    assert_eq!(app.running(), ["b"], "whoever is asked to have it in service has it");
    app.was_never_doubled();
}

/// Local recovery gives up, both nodes are alive: it moves, and needs nobody's word.
#[test]
fn a_failure_that_cannot_be_repaired_here_moves_it() {
    let (cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    app.on("a").knob("recover", "echo 'the database is damaged' >&2; exit 1");
    app.on("a").dies();
    cluster.wait_until_served_by("b");
    assert_eq!(app.running(), ["b"]);
    let status = cluster.node("b").status();
    assert_eq!((status.epoch("shop"), status.alarms()), (2, vec![]));
    let events = cluster.node("a").mainstay(&["events"]).ok();
    for words in ["the database is damaged", "it moves to b", "shop: released, and offered to b"] {
        assert!(events.contains(words), "{words:?} is not in\n{events}");
    }
    // Repaired and moved back by hand.
    app.on("a").unknob("recover");
    cluster.node("a").mainstay(&["switchover", "shop", "a"]).ok();
    cluster.wait_until_served_by("a");
    app.was_never_doubled();
}

/// A remove that fails keeps it where it is (O19): better unavailable than on two nodes.
#[test]
fn what_cannot_be_removed_does_not_move() {
    let (cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    app.on("a").knob("remove", "echo 'it is busy' >&2; exit 1");
    let said = cluster.node("b").mainstay(&["switchover", "shop", "b", "--timeout", "40s"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    let status =
        cluster.wait_for("a", "an alarm", |status| status.alarm("could not be taken out of service").is_some());
    assert_eq!(status.owner("shop"), Some("a"));
    assert!(status.reason("web", "a").contains("it is busy"), "{}", status.reason("web", "a"));
    assert_eq!((app.running(), app.on("b").begun("restore")), (vec!["a"], 0));
    // The operator sees to it, and says what is to be done.
    app.on("a").unknob("remove");
    cluster.node("a").mainstay(&["switchover", "shop", "b"]).ok();
    cluster.wait_until_served_by("b");
    assert_eq!(app.running(), ["b"]);
    app.was_never_doubled();
}

/// A restore that fails on the receiver brings it back to where it was.
#[test]
fn what_cannot_be_restored_there_comes_back() {
    let (cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    app.on("b").knob("restore", "start; echo 'no licence for this machine' >&2; exit 1");
    let said = cluster.node("a").mainstay(&["switchover", "shop", "b", "--timeout", "40s"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    cluster.wait_until_served_by("a");
    assert_eq!(app.running(), ["a"], "what a failed restore had left on b is gone");
    assert!(app.on("b").begun("remove") >= 1);
    app.was_never_doubled();
}

/// A standby says beforehand that it could not restore: it is told, nothing moves there, by hand or by itself, and it is
/// taken again as soon as it could.
#[test]
fn a_standby_that_could_not_restore_is_not_chosen() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let app = cluster.app("web");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource_with("shop", &ALL_PROGRAMS, "")));
    cluster.start_all();
    cluster.wait_until_served_by("a");
    cluster.wait_until_they_talk();
    app.on("b").knob("readiness", "echo 'no licence for this machine' >&2; exit 1");
    let told = |status: &mainstay_test_e2e::Status| {
        status.alarm("web could not be brought in service on this node").is_some()
            && status.reason("web", "b").contains("no licence for this machine")
    };
    cluster.wait_for("b", "what it could not do", told);
    cluster.wait_for("a", "what b could not do", |status| {
        status.reason("web", "b").contains("no licence for this machine")
    });
    let said = cluster.node("a").mainstay(&["switchover", "shop", "b"]);
    said.fails_with(1, &["b cannot take shop", "no licence for this machine"]);
    app.on("a").knob("recover", "echo 'the database is damaged' >&2; exit 1");
    app.on("a").dies();
    cluster.wait_for("a", "an alarm", |status| status.alarm("web is failed").is_some());
    assert_eq!(app.on("b").begun("restore"), 0);
    // It is asked again and again; what waited for it goes there by itself.
    app.on("b").unknob("readiness");
    cluster.wait_until_served_by("b");
    assert_eq!(cluster.node("b").status().alarms(), [""; 0]);
    assert_eq!(app.running(), ["b"]);
    app.was_never_doubled();
}

/// The power cord of the owner is pulled; the other waits for the operator's word. Back again, the old owner leaves
/// everything alone; failback is by hand.
#[test]
fn power_cord_confirm_and_failback() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    cluster.power_off("a");
    let status = cluster.wait_for("b", "an alarm", |status| status.alarm("is silent on every comm path").is_some());
    // A relay that lets nothing through is no machine without power: the kernel of this one answers for it (O7).
    assert_eq!((status.reach("a"), status.owner("shop")), ("hangs", Some("a")));
    assert!(status.reason("web", "a").contains("it last said ISP"), "{}", status.reason("web", "a"));
    assert_eq!(app.running(), [""; 0], "nothing happens without a word");
    let shown = cluster.node("b").mainstay(&["status"]).ok();
    assert!(
        shown.contains("mainstay confirm shop") && shown.contains("silent, although its machine answers, last heard"),
        "{shown}"
    );

    // Nobody is there to answer, a wrong name, something else than a confirmation: nothing is done.
    let asked = cluster.node("b").mainstay(&["confirm", "shop"]);
    assert!(asked.out.contains("Whether it is off"), "the alarm is shown: {asked:#?}");
    asked.fails_with(1, &["there is nobody to ask", "--yes"]);
    cluster.node("b").mainstay(&["confirm", "shopp", "--yes"]).fails_with(1, &["no alarm about `shopp`"]);
    let other = cluster.node("b").mainstay(&["in-service", "shop", "--no-wait"]);
    other.fails_with(1, &["only a can do that, and it is silent", "mainstay confirm"]);
    assert_eq!(app.running(), [""; 0]);

    let said = cluster.node("b").mainstay(&["confirm", "shop", "--yes"]).ok();
    assert!(said.contains("the operator states that a is off") && said.contains("done after"), "{said}");
    assert_eq!(app.running(), ["b"]);
    let status = cluster.node("b").status();
    assert_eq!((status.owner("shop"), status.epoch("shop"), status.alarms()), (Some("b"), 2, vec![]));

    cluster.power_on("a");
    cluster.wait_until_they_talk();
    cluster.wait_for("a", "web to be nothing but a standby's", |status| {
        status.owner("shop") == Some("b") && status.state("web", "a") == "OSU"
    });
    assert_eq!((app.on("a").begun("restore"), app.on("a").begun("recover")), (1, 0));
    assert_eq!(app.running(), ["b"]);

    cluster.node("a").mainstay(&["switchover", "shop", "a"]).ok();
    cluster.wait_until_served_by("a");
    assert_eq!(app.running(), ["a"]);
    app.was_never_doubled();
}

/// Only the cable was pulled: the owner is heard again before the operator answers. The answer is void then, whoever
/// sends it (O10).
#[test]
fn a_confirmation_is_void_once_the_owner_was_heard_again() {
    let (cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    cluster.cut();
    let status = cluster.wait_for("b", "an alarm", |status| status.alarm("is silent").is_some());
    let alarm = status.alarm("is silent").expect("it was just seen").clone();
    cluster.mend();
    cluster.wait_until_they_talk();
    let status = cluster.wait_for("b", "the alarm to be over", |status| status.alarms().is_empty());
    assert_eq!(status.owner("shop"), Some("a"));
    cluster.node("b").mainstay(&["confirm", "shop", "--yes"]).fails_with(1, &["no alarm about `shop`"]);
    let request = json!({ "request": "confirm", "alarm": alarm["id"], "answers": alarm["confirms"] });
    let answer = api::post(&cluster.node("b").socket(), "/v1/requests", &request.to_string()).expect("it answers");
    assert_eq!(answer.code, 409);
    assert!(answer.error().contains("its owner was heard again"), "{}", answer.error());
    assert_eq!(app.running(), ["a"]);
    assert_eq!((app.on("a").begun("restore"), app.on("b").begun("restore")), (1, 0));
}

/// A confirmation about an epoch that is not the one of the alarm is refused.
#[test]
fn a_confirmation_has_to_name_what_the_alarm_is_about() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    cluster.power_off("a");
    let status = cluster.wait_for("b", "an alarm", |status| status.alarm("is silent").is_some());
    let alarm = status.alarm("is silent").expect("it was just seen").clone();
    let mut answers = alarm["confirms"].clone();
    answers["epoch"] = json!(7);
    let request = json!({ "request": "confirm", "alarm": alarm["id"], "answers": answers });
    let answer = api::post(&cluster.node("b").socket(), "/v1/requests", &request.to_string()).expect("it answers");
    assert_eq!(answer.code, 409);
    assert!(answer.error().contains("is about epoch 1 of a, not about epoch 7 of a"), "{}", answer.error());
    assert_eq!(app.running(), [""; 0]);
}

/// Both were off and one is back: whether the other has it is not known, so it waits (O3); the operator may force it.
#[test]
fn both_off_one_back_waits_and_is_forced() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    cluster.power_off("a");
    cluster.power_off("b");
    cluster.power_on("a");
    cluster.link("b").cut();
    let status = cluster.wait_for("a", "an alarm", |status| status.alarm("(O3)").is_some());
    assert!(status.alarms()[0].contains("b has not answered since this daemon started"), "{:?}", status.alarms());
    // Asked without force it is accepted, and waits all the same.
    let said = cluster.node("a").mainstay(&["in-service", "shop", "--no-wait"]).ok();
    assert!(said.contains("as soon as there is proof of ownership"), "{said}");
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(app.running(), [""; 0]);
    assert_eq!((app.on("a").begun("restore"), app.on("a").begun("recover")), (1, 0));

    // Of a part of it nobody can say so.
    let part = cluster.node("a").mainstay(&["in-service", "web", "--force"]);
    part.fails_with(1, &["a hierarchy has one owner as a whole"]);
    let said = cluster.node("a").mainstay(&["in-service", "shop", "--force"]).ok();
    assert!(said.contains("on the operator's word"), "{said}");
    assert_eq!(app.running(), ["a"]);
    cluster.power_on("b");
    cluster.wait_until_they_talk();
    cluster.wait_until_served_by("a");
    assert_eq!((app.running(), app.on("b").begun("restore")), (vec!["a"], 0));
    app.was_never_doubled();
}

/// Both were off, and both are back: nobody has to be asked.
#[test]
fn both_off_and_back_it_goes_on_by_itself() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    cluster.power_off("a");
    cluster.power_off("b");
    cluster.power_on("b");
    cluster.power_on("a");
    cluster.wait_until_they_talk();
    cluster.wait_until_served_by("a");
    assert_eq!((app.running(), app.on("b").begun("restore")), (vec!["a"], 0));
    app.was_never_doubled();
}

/// The config of one node was changed and the other's was not: both say so, nothing is moved, everything else goes on.
#[test]
fn another_config_on_the_peer_blocks_moves_and_nothing_else() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    let config = std::fs::read_to_string(cluster.node("b").config()).expect("it was written");
    cluster.stop("b");
    cluster.node("b").configure(&config.replace("check-interval = \"300ms\"", "check-interval = \"400ms\""));
    cluster.start("b");
    for (node, other) in [("a", "b"), ("b", "a")] {
        let words = format!("the config of {other} is another than this node's");
        let status = cluster.wait_for(node, "an alarm about the config", |status| status.alarm(&words).is_some());
        assert_eq!(status.node(other).map(|it| &it["same_config"]), Some(&json!(false)));
        assert!(cluster.node(node).mainstay(&["status"]).ok().contains("its config is another"));
    }
    let refused = cluster.node("a").mainstay(&["switchover", "shop", "b"]);
    refused.fails_with(1, &["b cannot take shop", "its config is another"]);

    // Checks and local recovery go on; but what they do not help is not moved there.
    let before = app.on("a").begun("quick-check");
    app.on("a").wait_for_begin("quick-check", before + 2);
    let pid = app.on("a").pid();
    app.on("a").dies();
    wait_until(LIMIT, "web to be repaired", || app.on("a").pid().is_some_and(|it| Some(it) != pid));
    cluster.wait_for("a", "web to be well", |status| status.state("web", "a") == "ISP");
    app.on("a").knob("recover", "exit 1");
    app.on("a").dies();
    let status = cluster.wait_for("a", "web to be given up", |status| status.alarm("web is failed").is_some());
    let alarm = status.alarms().join("\n");
    assert!(alarm.contains("It does not fail over") && alarm.contains("its config is another"), "{alarm}");
    assert_eq!(app.on("b").begun("restore"), 0);

    // The same text again, in other clothes: white space and comments make no difference.
    cluster.stop("b");
    cluster.node("b").configure(&format!("# as on a\n{}\n\n", config.replace(" = ", "  =  ")));
    cluster.start("b");
    // And what was in the way is not any more.
    cluster.wait_until_served_by("b");
    assert_eq!(app.running(), ["b"]);
    app.was_never_doubled();
}

/// A restore that hangs delays nothing but its own hierarchy: checks, repairs and the operator's wishes go on.
#[test]
fn a_restore_that_hangs_delays_no_other_hierarchy() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let (stuck, web) = (cluster.app("stuck"), cluster.app("web"));
    cluster.configure(&format!(
        "{}{}{}{}",
        cluster.hierarchy("broken"),
        stuck.resource_with(
            "broken",
            &mainstay_test_e2e::app::PROGRAMS,
            "timeouts = { restore = \"10m\", remove = \"30s\", quick-check = \"10s\", recover = \"30s\" }"
        ),
        cluster.hierarchy("shop"),
        web.resource("shop")
    ));
    stuck.on("a").knob("restore", "while :; do sleep 1; done");
    cluster.start_all();
    stuck.on("a").wait_for_begin("restore", 0);
    cluster.wait_until_served_by("a");
    let began = Instant::now();

    // Checks: their own log tells when they began. A second between two would be three intervals and more.
    let from = web.on("a").begun("quick-check");
    wait_until(LIMIT, "20 checks", || web.on("a").begun("quick-check") >= from + 20);
    let times: Vec<u64> = web.on("a").log().iter().filter(|line| line.what == "begin").map(|line| line.at_ms).collect();
    let mut gaps: Vec<u64> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    gaps.sort_unstable();
    let median = gaps[gaps.len() / 2];
    assert!(
        median < 1000,
        "a check is due every 300 ms, and half of them came more than {median} ms after the one before"
    );

    // A repair, a move and a move back.
    let pid = web.on("a").pid();
    web.on("a").dies();
    wait_until(LIMIT, "web to be repaired", || web.on("a").pid().is_some_and(|it| Some(it) != pid));
    cluster.wait_until_served_by("a");
    cluster.wait_until_they_talk();
    cluster.node("a").mainstay(&["switchover", "shop", "b"]).ok();
    cluster.node("a").mainstay(&["switchover", "shop", "a"]).ok();
    assert_eq!(web.running(), ["a"]);

    // All this time the other one hung, and says so; and it, too, does what the operator wants: it is given up.
    assert_eq!((stuck.on("a").begun("restore"), stuck.on("a").ended("restore")), (1, 0), "{:?}", began.elapsed());
    let explained = cluster.node("a").mainstay(&["explain", "stuck"]).ok();
    assert!(explained.contains("a call is going on since") && explained.contains("is going on"), "{explained}");
    cluster.node("a").mainstay(&["out-of-service", "broken"]).ok();
    assert_eq!((stuck.on("a").programs_running(), stuck.on("a").ended("restore")), (vec![], 0), "it was ended");
    web.was_never_doubled();
    stuck.was_never_doubled();
}

/// Three nodes: it goes where it is sent, and from there to the first that is ready when it fails.
#[test]
fn three_nodes() {
    let mut cluster = Cluster::new(&["a", "b", "c"]);
    let app = cluster.app("web");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
    cluster.start_all();
    cluster.wait_until_served_by("a");
    cluster.wait_until_they_talk();
    // Asked on a node that is neither the giver nor the receiver.
    cluster.node("b").mainstay(&["switchover", "shop", "c"]).ok();
    cluster.wait_until_served_by("c");
    assert_eq!(app.running(), ["c"]);
    app.on("c").knob("recover", "exit 1");
    app.on("a").knob("restore", "exit 1");
    app.on("c").dies();
    // First a, which cannot, then b.
    cluster.wait_until_served_by("b");
    assert_eq!(app.running(), ["b"]);
    assert_eq!((app.on("a").begun("restore"), app.on("b").begun("restore")), (2, 1));
    app.was_never_doubled();
}
