//! The daemon is killed or stopped in the middle of anything, and started again (O22, O23).
//!
//! Whatever it was about: the application goes on, the tree is as it was, no program of it runs beside another one, and
//! in the end everything is where it should be.

use std::time::Duration;

use mainstay_test_e2e::{App, Cluster, LIMIT, Status};
use mainstay_test_support::{poll_until, wait_until};

/// One node with `web`, which depends on `db`, in service.
fn tree() -> (Cluster, App, App) {
    let mut cluster = Cluster::new(&["a"]);
    let (web, db) = (cluster.app("web"), cluster.app("db"));
    let many = "recovery = { attempts = 100 }";
    cluster.configure(&format!(
        "{}{}depends-on = [\"db\"]\n{}",
        cluster.hierarchy("shop"),
        web.resource_with("shop", &mainstay_test_e2e::app::PROGRAMS, many),
        db.resource_with("shop", &mainstay_test_e2e::app::PROGRAMS, many),
    ));
    cluster.start_all();
    cluster.wait_for("a", "all to serve", both_serve);
    (cluster, web, db)
}

fn both_serve(status: &Status) -> bool {
    status.state("web", "a") == "ISP" && status.state("db", "a") == "ISP"
}

#[test]
fn in_service_nothing_is_touched() {
    let (mut cluster, web, db) = tree();
    let pids = (web.on("a").pid(), db.on("a").pid());
    let begun = |app: &App| ["restore", "remove", "recover"].map(|program| app.on("a").begun(program));
    for round in 0..3 {
        match round {
            0 => cluster.kill("a"),
            1 => cluster.kill_all_of_mainstay("a"),
            _ => cluster.stop("a"),
        }
        // Long enough for it to write to its output, which nobody reads.
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!((web.on("a").pid(), db.on("a").pid()), pids, "round {round}: they run without the daemon");
        cluster.start("a");
        let status = cluster.wait_for("a", "all to be as it was", both_serve);
        assert_eq!((status.owner("shop"), status.epoch("shop")), (Some("a"), 1));
        assert_eq!(status.alarms(), [""; 0]);
    }
    assert_eq!((web.on("a").pid(), db.on("a").pid()), pids);
    assert_eq!((begun(&web), begun(&db)), ([1, 0, 0], [1, 0, 0]));
    web.was_never_doubled();
    db.was_never_doubled();
}

/// What dies while the daemon is away is found by the next one, and repaired.
#[test]
fn what_dies_meanwhile_is_repaired_afterwards() {
    let (mut cluster, web, db) = tree();
    cluster.kill("a");
    db.on("a").dies();
    cluster.start("a");
    wait_until(LIMIT, "db to run again", || db.on("a").pid().is_some());
    cluster.wait_for("a", "all to serve", both_serve);
    assert_eq!((db.on("a").begun("recover"), web.on("a").begun("recover")), (1, 0));
    db.was_never_doubled();
}

/// In the middle of a restore, which then goes on without the daemon; the next one waits for it.
fn killed_in_restore(end: fn(&mut Cluster, &str)) {
    let mut cluster = Cluster::new(&["a"]);
    let app = cluster.app("web");
    let web = app.on("a");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
    // It takes as long as the test wants.
    web.knob("restore", "until [ -e \"$dir/go-on\" ]; do sleep 0.05; done");
    cluster.start_all();
    web.wait_for_begin("restore", 0);
    end(&mut cluster, "a");
    cluster.start("a");
    cluster.wait_for("a", "the restore of the earlier daemon to be waited for", |status| {
        status.state("web", "a") == "ILLSTATE" && status.reason("web", "a").contains("(O23)")
    });
    // And once more, while it waits.
    end(&mut cluster, "a");
    cluster.start("a");
    // An operator who asks for the same again does not get it twice, and one who wants the contrary has to wait.
    cluster.node("a").mainstay(&["in-service", "shop", "--no-wait"]);
    std::thread::sleep(Duration::from_millis(1000));
    assert_eq!(web.programs_running().len(), 1, "{:?}", web.programs_running());
    assert_eq!((web.begun("restore"), web.ended("restore")), (1, 0));
    web.touch("go-on");
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    assert_eq!((web.begun("restore"), web.ended("restore"), web.begun("recover")), (1, 1, 0));
    app.was_never_doubled();
}

#[test]
fn killed_in_a_restore_it_is_waited_for() {
    killed_in_restore(Cluster::kill);
}

#[test]
fn stopped_in_a_restore_it_is_waited_for() {
    killed_in_restore(Cluster::stop);
}

/// With its supervisor gone nobody looks after a restore any more: it is ended before another one begins.
#[test]
fn killed_in_a_restore_with_its_supervisor_it_is_ended_and_done_again() {
    let mut cluster = Cluster::new(&["a"]);
    let app = cluster.app("web");
    let web = app.on("a");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
    web.knob("restore", "until [ -e \"$dir/go-on\" ]; do sleep 0.05; done");
    cluster.start_all();
    web.wait_for_begin("restore", 0);
    cluster.kill_all_of_mainstay("a");
    assert_eq!(web.programs_running().len(), 1, "the program itself runs on");
    web.knob("restore", "true");
    cluster.start("a");
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    assert_eq!((web.begun("restore"), web.ended("restore")), (2, 1), "the first was ended");
    app.was_never_doubled();
}

/// In the middle of a recovery: it goes on, and what it did counts.
#[test]
fn killed_in_a_recovery_it_is_waited_for() {
    let (mut cluster, app) = Cluster::of_one();
    let web = app.on("a");
    web.knob("recover", "until [ -e \"$dir/go-on\" ]; do sleep 0.05; done");
    web.dies();
    web.wait_for_begin("recover", 0);
    cluster.kill("a");
    cluster.start("a");
    cluster.wait_for("a", "the recovery of the earlier daemon to be waited for", |status| {
        status.reason("web", "a").contains("(O23)")
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(web.programs_running().len(), 1, "{:?}", web.programs_running());
    web.touch("go-on");
    cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    assert_eq!((web.begun("recover"), web.ended("recover"), web.begun("restore")), (1, 1, 1));
    app.was_never_doubled();
}

/// In the middle of the remove of a switchover: the hierarchy is on its way, and arrives.
#[test]
fn killed_in_the_remove_of_a_switchover_it_still_arrives() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    let web = app.on("a");
    web.knob("remove", "until [ -e \"$dir/go-on\" ]; do sleep 0.05; done");
    cluster.node("a").mainstay(&["switchover", "shop", "b", "--no-wait"]).ok();
    web.wait_for_begin("remove", 0);
    cluster.kill("a");
    cluster.start("a");
    cluster.wait_for("a", "the remove of the earlier daemon to be waited for", |status| {
        status.reason("web", "a").contains("(O23)")
    });
    cluster.wait_until_they_talk();
    assert_eq!(app.running(), ["a"], "nothing is restored elsewhere before it is removed here");
    assert_eq!(app.on("b").begun("restore"), 0);
    web.touch("go-on");
    cluster.wait_until_served_by("b");
    assert_eq!(app.running(), ["b"]);
    assert_eq!(app.on("b").begun("restore"), 1);
    app.was_never_doubled();
}

/// Each time another daemon comes up it knows nothing of how the remove of the one before ended, and does it again. That
/// says nothing against the application, however often it happens.
#[test]
fn killed_in_every_attempt_of_a_remove_it_is_removed_in_the_end() {
    let (mut cluster, app) = Cluster::of_one();
    let web = app.on("a");
    web.knob("remove", "until [ -e \"$dir/go-on\" ]; do sleep 0.05; done; rm \"$dir/go-on\"");
    cluster.node("a").mainstay(&["out-of-service", "shop", "--no-wait"]).ok();
    for attempt in 1..=4 {
        cluster.wait_until_begun(&app, "a", "remove", attempt);
        cluster.kill("a");
        web.touch("go-on");
        cluster.start("a");
    }
    web.knob("remove", "true");
    web.touch("go-on");
    let status = cluster.wait_for("a", "web to be out of service", |status| status.state("web", "a") == "OSU");
    assert_eq!((status.owner("shop"), status.alarms()), (None, vec![]));
    assert_eq!(app.running(), [""; 0]);
    app.was_never_doubled();
}

/// The receiver of a switchover is killed in its restore.
#[test]
fn the_receiver_killed_in_its_restore_goes_on_with_it() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    app.on("b").knob("restore", "until [ -e \"$dir/go-on\" ]; do sleep 0.05; done");
    cluster.node("b").mainstay(&["switchover", "shop", "b", "--no-wait"]).ok();
    app.on("b").wait_for_begin("restore", 0);
    cluster.kill("b");
    cluster.start("b");
    cluster.wait_for("b", "the restore of the earlier daemon to be waited for", |status| {
        status.reason("web", "b").contains("(O23)")
    });
    app.on("b").touch("go-on");
    cluster.wait_until_served_by("b");
    assert_eq!((app.on("b").begun("restore"), app.on("a").begun("restore")), (1, 1));
    app.was_never_doubled();
}

/// Stopped in order, it says so: nobody worries, and nothing is taken out of service.
#[test]
fn a_node_that_was_stopped_has_left() {
    let (mut cluster, app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    let pid = app.on("a").pid();
    cluster.stop("a");
    cluster.wait_for("b", "a to have left", |status| status.reach("a") == "left");
    // Longer than silence would take to be noticed.
    std::thread::sleep(Duration::from_millis(2500));
    let status = cluster.node("b").status();
    assert_eq!((status.reach("a"), status.alarms()), ("left", vec![]));
    assert!(cluster.node("b").mainstay(&["status"]).ok().contains("left, its resources stay"));
    assert_eq!(app.on("a").pid(), pid);
    // What only a could do is refused, with its reason.
    let refused = cluster.node("b").mainstay(&["switchover", "shop", "b"]);
    refused.fails_with(1, &["only a can do that", "left, its resources stay"]);
    cluster.start("a");
    cluster.wait_until_they_talk();
    cluster.wait_until_served_by("a");
    assert_eq!((app.on("a").pid(), app.on("a").begun("restore")), (pid, 1));
    app.was_never_doubled();
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    /// From 0 to `below` - 1.
    fn throw(&mut self, below: u64) -> u64 {
        // xorshift64*, by Marsaglia and Vigna.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }
}

/// Brings `shop` in service by asking until nothing stands in the way: an operator after a bad night.
fn asked_until_in_service(cluster: &Cluster, node: &str) {
    let mut last = None;
    let done = poll_until(LIMIT, || {
        let said = cluster.node(node).mainstay(&["in-service", "shop", "--timeout", "30s"]);
        let done = said.code == Some(0);
        last = Some(said);
        done
    });
    assert!(done, "{last:#?}\n{:#?}", cluster.node(node).status());
}

/// At any moment, again and again, while operators ask for this and that and applications die.
#[test]
fn killed_again_and_again_while_operations_go_on() {
    const ROUNDS: u64 = 25;
    let (mut cluster, web, db) = tree();
    for app in [&web, &db] {
        for program in ["restore", "remove", "recover"] {
            app.on("a").knob(program, "sleep 0.2");
        }
    }
    let mut dice = Dice(0x6d61_696e_7374_6179);
    let mut hit = 0;
    for round in 0..ROUNDS {
        let node = cluster.node("a");
        let asked = match dice.throw(6) {
            0 => vec!["out-of-service", "shop", "--no-wait"],
            1 => vec!["out-of-service", "web", "--no-wait"],
            2 | 3 => vec!["in-service", "shop", "--no-wait"],
            _ => {
                if let (app, Some(_)) = (&web, web.on("a").pid()) {
                    // It may be taken out of service at this moment, and is as dead then.
                    let _ = std::panic::catch_unwind(|| app.on("a").dies());
                }
                vec!["status"]
            }
        };
        // Refused or not: what cannot be done now is not.
        let said = node.mainstay(&asked);
        assert!(matches!(said.code, Some(0 | 1)), "round {round}, {asked:?}: {said:#?}");
        std::thread::sleep(Duration::from_millis(dice.throw(700)));
        hit += usize::from([&web, &db].iter().any(|app| !app.on("a").programs_running().is_empty()));
        if dice.throw(5) == 0 {
            cluster.kill_all_of_mainstay("a");
        } else {
            cluster.kill("a");
        }
        std::thread::sleep(Duration::from_millis(dice.throw(300)));
        cluster.start("a");
        assert!(cluster.node("a").daemon().line("damaged").is_none(), "the journal was damaged by a kill");
    }
    assert!(hit > 3, "only {hit} of {ROUNDS} kills came while a program was running: that proves little");
    asked_until_in_service(&cluster, "a");
    let status = cluster.wait_for("a", "all to serve", both_serve);
    assert_eq!((status.owner("shop"), status.alarms()), (Some("a"), vec![]));
    assert_eq!((web.running(), db.running()), (vec!["a"], vec!["a"]));
    web.was_never_doubled();
    db.was_never_doubled();
}

/// The same with two nodes, while the hierarchy is moved to and fro. At every moment at most one of them has it.
#[test]
fn either_node_killed_again_and_again_while_it_moves() {
    const ROUNDS: u64 = 12;
    let (mut cluster, app) = Cluster::of_two();
    for node in ["a", "b"] {
        for program in ["restore", "remove"] {
            app.on(node).knob(program, "sleep 0.2");
        }
    }
    let mut dice = Dice(0x7374_616e_6462_7921);
    for round in 0..ROUNDS {
        cluster.wait_until_they_talk();
        let to = ["a", "b"][dice.throw(2) as usize];
        let said = cluster.node(to).mainstay(&["switchover", "shop", to, "--no-wait"]);
        assert!(matches!(said.code, Some(0 | 1)), "round {round}, to {to}: {said:#?}");
        std::thread::sleep(Duration::from_millis(dice.throw(1200)));
        let victim = ["a", "b"][dice.throw(2) as usize];
        cluster.kill(victim);
        std::thread::sleep(Duration::from_millis(dice.throw(300)));
        cluster.start(victim);
    }
    cluster.wait_until_they_talk();
    asked_until_in_service(&cluster, "b");
    let status = cluster.wait_for("b", "one owner", |status| status.owner("shop").is_some());
    let owner = status.owner("shop").unwrap().to_owned();
    cluster.wait_until_served_by(&owner);
    assert_eq!(app.running(), [&*owner]);
    app.was_never_doubled();
}
