//! Applications protected by programs: started, watched, repaired, given up, ended in time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mainstay_test_e2e::{App, Cluster, LIMIT};
use mainstay_test_support::wait_until;

/// Programs without one for recovery.
const NO_RECOVER: [&str; 3] = ["restore", "remove", "quick-check"];

/// One node with one application, whose resource has only these programs and these further lines. Not started.
fn one(programs: &[&str], more: &str) -> (Cluster, App) {
    let cluster = Cluster::new(&["a"]);
    let app = cluster.app("web");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource_with("shop", programs, more)));
    (cluster, app)
}

/// `-t TAG -i ID`, a daemon left in the background that holds the output open: the normal case of LifeKeeper's.
#[test]
fn programs_written_for_lifekeeper_work_unchanged() {
    let (cluster, app) = Cluster::of_one();
    let web = app.on("a");
    let restore = web.log().into_iter().find(|line| line.program == "restore" && line.what == "begin").unwrap();
    assert!(restore.rest.ends_with(" -t web -i web"), "{restore:?}");
    // In service as soon as restore has ended, although its output is still open, in the application's hands.
    let pid = web.pid().expect("it serves");
    assert_eq!(web.begun("restore"), 1);
    assert_eq!(web.begun("recover"), 0);

    // It dies, and is repaired here. Nobody had to do anything.
    web.dies();
    wait_until(LIMIT, "another process of it", || web.pid().is_some_and(|it| it != pid));
    cluster.wait_for("a", "web to be well again", |status| status.state("web", "a") == "ISP");
    assert_eq!((web.begun("restore"), web.begun("recover")), (1, 1));
    let events = cluster.node("a").mainstay(&["events"]).ok();
    for words in ["shop/web: check: ", "it does not run", "local recovery", "shop/web: recover succeeded"] {
        assert!(events.contains(words), "{words:?} is not in\n{events}");
    }

    // Taken out of service it is gone, and brought in service it is there again.
    let out = cluster.node("a").mainstay(&["out-of-service", "shop"]).ok();
    assert!(out.contains("taking shop out of service") && out.contains("done after"), "{out}");
    assert_eq!(app.running(), [""; 0]);
    cluster.node("a").mainstay(&["in-service", "shop"]).ok();
    assert_eq!(app.running(), ["a"]);
    app.was_never_doubled();
}

/// An id of its own, arguments of its own, a working directory, an environment.
#[test]
fn what_the_params_say_reaches_the_programs() {
    let (mut cluster, app) = one(
        &NO_RECOVER,
        "params = { id = \"7\", working-directory = \"/usr\", environment = { SHOP = \"of <all> $things\" } }",
    );
    app.on("a").knob("restore", "echo \"$PWD|$SHOP|$PATH\" > \"$dir/seen\"");
    cluster.start_all();
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    let restore = &app.on("a").log()[0];
    assert!(restore.rest.ends_with(" -t web -i 7"), "{restore:?}");
    let seen = std::fs::read_to_string(app.on("a").file("seen")).unwrap();
    assert_eq!(seen, "/usr|of <all> $things|/usr/sbin:/usr/bin:/sbin:/bin\n");
}

/// Without a quick-check program nobody knows how it is, and the operator has to know that nobody does.
#[test]
fn without_a_check_it_is_not_monitored_and_status_says_so() {
    let (mut cluster, app) = one(&["restore", "remove"], "");
    cluster.start_all();
    let status = cluster.wait_for("a", "web to be in service, unprotected", |status| {
        status.state("web", "a") == "ISU" && status.reason("web", "a").contains("not monitored")
    });
    assert_eq!(status.alarms(), [""; 0], "it is as the operator has ordered it");
    let shown = cluster.node("a").mainstay(&["status"]).ok();
    let line = shown.lines().find(|line| line.contains("web (genapp)")).unwrap();
    assert!(line.contains("ISU") && line.contains("not monitored"), "{line}");

    // That it dies nobody notices.
    app.on("a").dies();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(cluster.node("a").status().state("web", "a"), "ISU");
    assert_eq!(app.on("a").begun("restore"), 1);
    // And a restart of the daemon changes nothing about it: what the journal says is in service is left alone.
    cluster.kill("a");
    cluster.start("a");
    cluster.wait_for("a", "web to be as it was", |status| status.state("web", "a") == "ISU");
    assert_eq!(app.on("a").begun("restore"), 1);
}

/// Without a recover program it is restarted: remove, then restore.
#[test]
fn without_a_recover_program_it_is_restarted() {
    let (mut cluster, app) = one(&NO_RECOVER, "");
    cluster.start_all();
    let web = app.on("a");
    let pid = web.wait_until_it_runs();
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    web.dies();
    wait_until(LIMIT, "another process of it", || web.pid().is_some_and(|it| it != pid));
    cluster.wait_for("a", "web to be well again", |status| status.state("web", "a") == "ISP");
    assert_eq!((web.begun("restore"), web.begun("remove")), (2, 1));
    app.was_never_doubled();
}

/// Or given up, if the operator wants that. With no other node there is an alarm, until the operator has seen to it.
#[test]
fn without_a_recover_program_it_is_given_up_if_the_params_say_so() {
    let (mut cluster, app) = one(&NO_RECOVER, "params.without-recover = \"give-up\"");
    cluster.start_all();
    let web = app.on("a");
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    web.dies();
    let status = cluster.wait_for("a", "an alarm", |status| status.alarm("web is failed").is_some());
    assert_eq!(status.state("web", "a"), "OSF");
    let alarm = status.alarms().join("\n");
    assert!(alarm.contains("no recover program") && alarm.contains("It does not fail over"), "{alarm}");
    assert_eq!((web.begun("restore"), web.begun("remove")), (1, 0), "nobody touches what was given up");
    let explained = cluster.node("a").mainstay(&["explain", "web"]).ok();
    assert!(explained.contains("it does not fail over"), "{explained}");

    // The operator starts it by hand: the next check sees it, and the alarm is over.
    let mut by_hand = Command::new(web.program("restore"));
    assert!(by_hand.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    let status = cluster.wait_for("a", "web to be well again", |status| status.state("web", "a") == "ISP");
    assert_eq!(status.alarms(), [""; 0]);
}

/// Given up, it is tried again when the operator says so; and the command returns when it serves, or cannot.
#[test]
fn what_was_given_up_is_tried_again_when_asked() {
    let (cluster, app) = Cluster::of_one();
    let web = app.on("a");
    web.knob("recover", "sleep 1; echo 'no space left' >&2; exit 1");
    web.dies();
    cluster.wait_for("a", "web to be given up", |status| status.alarm("web is failed").is_some());
    let begun = web.begun("recover");
    let said = cluster.node("a").mainstay(&["in-service", "shop"]);
    said.fails_with(1, &["not done: web is failed", "no space left"]);
    assert_eq!(web.begun("recover"), begun + 1);
    web.knob("recover", "sleep 1");
    cluster.node("a").mainstay(&["in-service", "shop"]).ok();
    assert_eq!(app.running(), ["a"]);
    assert_eq!(cluster.node("a").status().state("web", "a"), "ISP");
    app.was_never_doubled();
}

/// A restore that fails is told with what the program said, in status, explain and the alarm.
#[test]
fn what_a_failed_program_said_is_told() {
    let (mut cluster, app) = one(&["restore", "remove", "quick-check", "recover"], "");
    app.on("a").knob("restore", "echo one; echo 'the licence has expired' >&2; exit 7");
    cluster.start_all();
    let status = cluster.wait_for("a", "an alarm", |status| !status.alarms().is_empty());
    assert_eq!(status.state("web", "a"), "OSF");
    let explained = cluster.node("a").mainstay(&["explain", "web"]).ok();
    for text in [status.reason("web", "a"), &status.alarms().join("\n"), &explained] {
        assert!(text.contains("exited with 7") && text.contains("the licence has expired"), "{text}");
    }
    // The operator mends it and says so.
    app.on("a").unknob("restore");
    cluster.node("a").mainstay(&["in-service", "shop"]).ok();
    assert_eq!(cluster.node("a").status().alarms(), [""; 0]);
    assert_eq!(app.running(), ["a"]);
    app.was_never_doubled();
}

/// Exit codes that mean success are for the operator to say.
#[test]
fn exit_codes_mean_what_the_params_say() {
    let cluster = &mut Cluster::new(&["a"]);
    let app = cluster.app("web");
    let web = app.on("a");
    let more = format!(
        "params.quick-check = {{ program = {:?}, args = [\"--node\", \"{{node}}\"], exit-codes = [3] }}",
        web.program("quick-check")
    );
    let resource = app.resource_with("shop", &["restore", "remove"], &more);
    let resource =
        resource.replace("grants.command = [", &format!("grants.command = [{:?}, ", web.program("quick-check")));
    cluster.configure(&format!("{}{resource}", cluster.hierarchy("shop")));
    web.knob("quick-check", "runs && exit 3; exit 0");
    cluster.start_all();
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    // In service it is before it was ever checked.
    web.wait_for_begin("quick-check", 0);
    let check = web.log().into_iter().find(|line| line.what == "begin" && line.program == "quick-check").unwrap();
    assert!(check.rest.ends_with(" --node a"), "{check:?}");
    // Zero is not among them: it is a failure, and repaired.
    web.dies();
    web.wait_for_begin("restore", 1);
    cluster.wait_for("a", "web to be well again", |status| status.state("web", "a") == "ISP");
}

/// A server that hangs lets its check hang: one or two are tolerated, then it is repaired.
#[test]
fn a_server_that_hangs_is_repaired() {
    let programs = ["restore", "remove", "quick-check", "recover"];
    let (mut cluster, app) = one(&programs, "timeouts = { quick-check = \"1s\" }");
    cluster.start_all();
    let web = app.on("a");
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    web.knob("quick-check", "sleep 60");
    web.wait_for_begin("recover", 0);
    let said = cluster.node("a").mainstay(&["events"]).ok();
    assert!(said.contains("did not end within"), "{said}");
    assert!(web.begun("quick-check") >= 3, "two are tolerated");
    web.unknob("quick-check");
    cluster.wait_for("a", "web to be well again", |status| status.state("web", "a") == "ISP");
}

/// A check that hangs is ended, and says nothing about the application: it is not repaired, let alone given up.
#[test]
fn a_check_that_hangs_does_not_count_as_failed() {
    let (mut cluster, app) = one(
        &["restore", "remove", "quick-check", "recover"],
        "timeouts = { restore = \"30s\", remove = \"30s\", quick-check = \"1s\", recover = \"30s\" }\n\
         recovery = { tolerate-timeouts = 1000 }",
    );
    cluster.start_all();
    let web = app.on("a");
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    let pid = web.pid();
    web.knob("quick-check", "sleep 1000 & while :; do sleep 1; done");
    let before = web.begun("quick-check");
    let status = cluster.wait_for("a", "its health not to be known", |status| {
        status.state("web", "a") == "ISU" && status.reason("web", "a").contains("its health is not known")
    });
    assert!(status.reason("web", "a").contains("did not end within"), "{}", status.reason("web", "a"));
    web.wait_for_begin("quick-check", before + 3);
    assert_eq!(web.begun("recover"), 0);
    assert_eq!(web.pid(), pid, "the application was left alone");
    web.unknob("quick-check");
    cluster.wait_for("a", "web to be well", |status| status.state("web", "a") == "ISP");
    assert_eq!((web.begun("recover"), web.pid()), (0, pid));
    wait_until(LIMIT, "the hanging programs to be gone", || web.programs_running().is_empty());
    app.was_never_doubled();
}

/// A restore that hangs is ended in time, with everything it has started, and is not taken for one that did its work.
#[test]
fn a_restore_that_hangs_is_ended_tree_and_all() {
    let (mut cluster, app) = one(
        &["restore", "remove", "quick-check", "recover"],
        "timeouts = { restore = \"2s\", remove = \"30s\", quick-check = \"10s\", recover = \"30s\" }",
    );
    let web = app.on("a");
    // Children in sessions of their own, and one that has lost its parent.
    web.knob(
        "restore",
        "start; setsid /bin/sh -c \"while :; do sleep 1; done # $dir/one\" & \
         (setsid /bin/sh -c \"while :; do sleep 1; done # $dir/two\" &) ; while :; do sleep 1; done",
    );
    let began = Instant::now();
    cluster.start_all();
    let status = cluster.wait_for("a", "web to be given up", |status| status.alarm("web is failed").is_some());
    assert!(began.elapsed() >= Duration::from_secs(1), "it had 2 s, less a second for the kit to answer");
    assert!(status.alarms()[0].contains("was ended, with everything it had started"), "{:?}", status.alarms());
    assert_eq!(web.begun("restore"), 1);
    wait_until(LIMIT, "all of it to be gone", || web.programs_running().is_empty() && web.pid().is_none());
    let left: Vec<_> = cluster.node("a").daemon().living().into_iter().map(command_of).collect();
    assert!(!left.iter().any(|command| command.contains("/app/web/")), "left behind: {left:#?}");
    app.was_never_doubled();
}

fn command_of(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
