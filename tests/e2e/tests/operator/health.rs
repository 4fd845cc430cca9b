//! The health check before anything relies on it: what every node lacks is found, where it is, with what to do.

use std::fs;
use std::path::PathBuf;

use mainstay_node::certificates::make::{self, Validity};
use mainstay_test_e2e::app::PROGRAMS;
use mainstay_test_e2e::{App, Cluster, api};
use mainstay_test_support::relay::Direction;
use mainstay_test_support::require_or_skip;
use serde_json::Value;

use crate::disk::SmallDisk;

/// What `mainstay health` says.
struct Health {
    code: Option<i32>,
    report: Value,
}

impl Health {
    /// Of a node's daemon.
    #[track_caller]
    fn of(cluster: &Cluster, node: &str, args: &[&str]) -> Self {
        let said = cluster.node(node).mainstay(&[&["health", "--json"], args].concat());
        Self { code: said.code, report: said.json() }
    }

    fn findings(&self) -> &[Value] {
        self.report["findings"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The finding of this sort on that node, if its summary has these words.
    #[track_caller]
    fn finding(&self, node: &str, code: &str, words: &[&str]) -> &Value {
        let has = |finding: &&Value| {
            let summary = finding["summary"].as_str().unwrap_or("");
            finding["node"] == node && finding["code"] == code && words.iter().all(|words| summary.contains(words))
        };
        let found = self.findings().iter().find(has);
        let found = found.unwrap_or_else(|| panic!("no {code} of {node} with {words:?}:\n{:#}", self.report));
        assert!(found["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "what to do: {found:#}");
        found
    }

    /// It ended with this code, and found nothing but things of these sorts.
    #[track_caller]
    fn has_only(&self, exit: i32, codes: &[&str]) {
        let others = self.findings().iter().filter(|it| codes.iter().all(|code| it["code"] != *code));
        let others: Vec<_> = others.filter(|it| it["weight"] != "note").collect();
        assert!(self.code == Some(exit) && others.is_empty(), "exit {exit} and {codes:?}:\n{:#}", self.report);
    }
}

/// Two nodes that talk to each other, with what stands below their own part of the config, and an application that knows
/// whether a node is ready. Standbys are not looked at by themselves: who is asked has to look.
fn two(configure: impl FnOnce(&mut Cluster, &App)) -> (Cluster, App) {
    let mut cluster = Cluster::new(&["a", "b"]);
    let app = cluster.app("web");
    configure(&mut cluster, &app);
    cluster.start_all();
    cluster.wait_until_served_by("a");
    cluster.wait_until_they_talk();
    (cluster, app)
}

fn hierarchy(cluster: &Cluster, app: &App, more: &str) -> String {
    let programs = [&PROGRAMS[..], &["readiness"]].concat();
    let more = format!("standby-check-interval = \"1h\"\n{more}");
    format!("{}{}", cluster.hierarchy("shop"), app.resource_with("shop", &programs, &more))
}

fn plain(cluster: &mut Cluster, app: &App) {
    cluster.configure(&hierarchy(cluster, app, ""));
}

#[test]
fn two_nodes_that_are_fit() {
    let (cluster, app) = two(plain);
    let pid = app.on("a").pid();
    // Before it was claimed, both nodes may have been looked at.
    let asked = |node| app.on(node).begun("readiness");
    let before = [asked("a"), asked("b")];
    for node in ["a", "b"] {
        let health = Health::of(&cluster, node, &["--hierarchy", "shop"]);
        health.has_only(0, &[]);
        for facts in health.report["nodes"].as_array().expect("both are in it") {
            assert!(facts["answered"] == true && facts["software"] == env!("CARGO_PKG_VERSION"), "{facts:#}");
            assert!(facts["kits"]["genapp"].as_str().is_some_and(|kit| kit.contains('(')), "{facts:#}");
            let ahead = facts["clock_ahead_ms"].as_i64().expect("it is a number");
            assert!(ahead.abs() < 1000, "two daemons on one machine: {facts:#}");
        }
        assert_eq!(health.report["nodes"].as_array().map(Vec::len), Some(2));
    }
    let out = cluster.node("b").mainstay(&["health"]).ok();
    assert!(out.contains("health for every hierarchy, as asked on b") && out.contains("  node a  mainstay "), "{out}");
    assert_eq!(app.on("a").pid(), pid, "nothing is done about anything");
    assert_eq!(asked("a"), before[0], "what is in service is not asked");
    assert!(asked("b") >= before[1] + 3, "the standby is, each time: {}", app.on("b").log_text());
    app.was_never_doubled();
    // What was asked wrongly.
    let said = cluster.node("a").mainstay(&["health", "--hierarchy", "shops"]);
    said.fails_with(1, &["there is no hierarchy `shops` in the config of a"]);
    cluster.node("a").mainstay(&["health", "--timeout", "11m"]).fails_with(2, &["it is from 1s to 10m"]);
    let answer = api::get(&cluster.node("a").socket(), "/v1/health?within=3").expect("it answers");
    assert!(answer.code == 400 && answer.error().contains("within"), "{answer:#?}");
}

/// The story: both servers are examined before anything is protected, and the standby lacks a service pack.
#[test]
fn a_standby_that_lacks_a_service_pack_is_found_before_it_matters() {
    let (cluster, app) = two(|cluster, app| {
        app.on("b").knob("readiness", "echo 'service pack 2 is missing'; exit 1");
        plain(cluster, app);
    });
    for node in ["a", "b"] {
        let health = Health::of(&cluster, node, &["--hierarchy", "shop"]);
        let found = health.finding("b", "exit-code", &["service pack 2 is missing"]);
        assert_eq!(
            (&found["weight"], &found["hierarchy"], &found["tag"]),
            (&"blocking".into(), &"shop".into(), &"web".into())
        );
        health.has_only(1, &["exit-code"]);
    }
    let said = cluster.node("a").mainstay(&["health"]);
    assert_eq!(said.code, Some(1));
    let line = said.out.lines().find(|line| line.starts_with("blocking")).unwrap_or_else(|| panic!("{said:#?}"));
    assert!(line.contains("b/shop/web") && said.out.contains("-> See to what it says"), "{}", said.out);
    // It is installed: no need to wait until somebody looks.
    app.on("b").unknob("readiness");
    Health::of(&cluster, "a", &[]).has_only(0, &[]);
    // One that takes too long says nothing, and that is told.
    app.on("b").knob("readiness", "sleep 30");
    let health = Health::of(&cluster, "a", &["--timeout", "2s"]);
    health.finding("b", "readiness-unknown", &["no answer within"]);
    health.has_only(3, &["readiness-unknown"]);
}

#[test]
fn programs_secrets_and_names_that_are_not_there() {
    let (cluster, app) = two(|cluster, app| {
        let more = "grants.secret = [\"password\"]\ngrants.net = [\"mail.no-such-host.invalid:25\"]\n";
        let text = format!("{}{}", cluster.preamble(), hierarchy(cluster, app, more));
        let text = text.replacen("kits =", "secrets = \"secrets\"\nkits =", 1);
        for node in ["a", "b"] {
            let secrets = cluster.node(node).folder().folder("secrets");
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&secrets, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(secrets.join("password"), "x").unwrap();
            fs::set_permissions(secrets.join("password"), fs::Permissions::from_mode(0o600)).unwrap();
            cluster.node(node).configure(&text);
        }
    });
    // They were there when the daemons started.
    let remove = app.on("b").program("remove");
    fs::remove_file(&remove).unwrap();
    fs::remove_file(cluster.node("b").folder().join("secrets/password")).unwrap();
    let health = Health::of(&cluster, "a", &[]);
    assert_eq!(health.code, Some(1));
    let found = health.finding("b", "unusable", &["grants.command", &remove.display().to_string()]);
    assert_eq!((&found["weight"], &found["tag"]), (&"blocking".into(), &"web".into()));
    health.finding("b", "unusable", &["grants.secret", "password"]);
    for node in ["a", "b"] {
        let found = health.finding(node, "name-not-found", &["mail.no-such-host.invalid", "which grants.net has"]);
        assert_eq!((&found["weight"], &found["tag"]), (&"warning".into(), &"web".into()));
    }
    let missing = |it: &&Value| {
        let of_secrets = it["summary"].as_str().is_some_and(|summary| summary.contains("grants.secret"));
        it["node"] == "a" && it["weight"] == "blocking" && of_secrets
    };
    assert_eq!(health.findings().iter().find(missing), None, "the secret is there on a");
}

/// What goes from a to b is lost, and nothing else: each side says what does not reach it, or whom it does not reach.
#[test]
fn a_comm_path_that_goes_one_way() {
    let (cluster, _app) = two(plain);
    cluster.link("b").cut_one_way(Direction::ToTarget);
    // The relay, as the other machine's kernel, takes connections.
    cluster.wait_for("b", "a to be silent", |status| matches!(status.reach("a"), "silent" | "hangs"));
    let health = Health::of(&cluster, "b", &["--timeout", "3s"]);
    let found = health.finding("b", "no-heartbeats", &["heartbeats of a", "lan"]);
    assert_eq!((found["weight"].as_str(), health.code), (Some("blocking"), Some(1)));
    assert_eq!(health.report["nodes"][0]["answered"], false, "a hears the question, and its answer is lost");
    let health = Health::of(&cluster, "a", &["--timeout", "6s"]);
    let found = health.finding("a", "no-session", &["with b", "lan"]);
    assert_eq!((found["weight"].as_str(), health.code), (Some("blocking"), Some(1)));
    health.finding("b", "not-answered", &["it has not answered"]);
    cluster.mend();
    cluster.wait_until_they_talk();
    let what = "nothing to be found any more, but that heartbeats were missed";
    mainstay_test_support::wait_until(mainstay_test_e2e::LIMIT, what, || {
        Health::of(&cluster, "a", &[]).code == Some(0)
    });
}

/// A second comm path has a wrong port on b. The first one works, so nothing is lost but what the second one is for.
#[test]
fn a_comm_path_with_a_wrong_port() {
    let (cluster, _app) = two(|cluster, app| {
        let path = "[path.wan]\npriority = 2\nheartbeat-interval = \"200ms\"\ndead-after-misses = 10\n\n[node.a]";
        let wan = |port| format!("address.wan = \"127.0.0.1:{port}\"\nlisten.wan = \"127.0.0.1:0\"\n");
        let preamble = cluster.preamble().replacen("[node.a]", path, 1);
        let preamble = preamble.replacen("[node.b]", &format!("{}[node.b]", wan(9)), 1);
        let text = format!("{preamble}{}{}", wan(10), hierarchy(cluster, app, ""));
        ["a", "b"].iter().for_each(|node| cluster.node(node).configure(&text));
    });
    for node in ["a", "b"] {
        cluster.wait_for(node, "wan to be dead", |status| {
            let other = if node == "a" { "b" } else { "a" };
            status.node(other).is_some_and(|it| {
                it["paths"].as_array().is_some_and(|it| it.iter().any(|it| it["name"] == "wan" && it["state"] == "red"))
            })
        });
    }
    let health = Health::of(&cluster, "a", &[]);
    health.finding("a", "no-session", &["with b", "wan", "127.0.0.1:10", "refused"]);
    health.finding("b", "no-session", &["with a", "wan"]);
    health.finding("a", "no-heartbeats", &["of b", "wan"]);
    health.finding("b", "no-heartbeats", &["of a", "wan"]);
    health.has_only(3, &["no-session", "no-heartbeats"]);
}

#[test]
fn a_certificate_that_is_about_to_expire_and_one_of_another_node() {
    let (mut cluster, _app) = two(plain);
    let dir = cluster.node("b").certificates();
    fs::remove_dir_all(&dir).unwrap();
    make::node(cluster.authority().folder(), &dir, "b", Validity::days(5)).expect("it can be made");
    let health = Health::of(&cluster, "a", &[]);
    let found = health.finding("b", "certificate", &["node.pem expires on"]);
    assert!(found["advice"].as_str().is_some_and(|advice| advice.contains("mainstay node add b")), "{found:#}");
    health.has_only(3, &["certificate"]);
    // Of another node: nobody believes it once its session ends. That is found out before.
    fs::remove_dir_all(&dir).unwrap();
    cluster.authority().node("c", &dir);
    let health = Health::of(&cluster, "a", &[]);
    health.finding("b", "certificate", &["it speaks for mainstay://e2e/c"]);
    assert_eq!(health.code, Some(1));
    // It cannot be asked at all.
    cluster.kill("b");
    cluster.wait_for("a", "b to be missed", |status| status.reach("b") != "alive");
    let health = Health::of(&cluster, "a", &["--timeout", "5s"]);
    health.finding("b", "not-asked", &["it cannot be asked: silent"]);
    assert_eq!(health.code, Some(1));
}

/// The library that stands between a process and its clock, beside the program that comes with it.
fn faketime() -> Option<PathBuf> {
    require_or_skip("faketime", "apt-get install faketime")?;
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found =
        folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    Some(found.next().expect("the package faketime brings its library"))
}

#[test]
fn a_clock_that_is_wrong() {
    let Some(library) = faketime() else { return };
    for (ahead, exit, weight) in [("+60s", 3, "warning"), ("+400s", 1, "blocking")] {
        let mut cluster = Cluster::new(&["a", "b"]);
        let app = cluster.app("web");
        cluster.configure(&hierarchy(&cluster, &app, ""));
        cluster.start("a");
        let mut command = cluster.node("b").run_command();
        command.env("LD_PRELOAD", &library).env("FAKETIME", ahead).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        cluster.start_with("b", &mut command);
        cluster.wait_until_served_by("a");
        cluster.wait_until_they_talk();
        let health = Health::of(&cluster, "a", &[]);
        let found = health.finding("b", "clock-differs", &["s ahead of that of a"]);
        assert_eq!(found["weight"], weight);
        health.has_only(exit, &["clock-differs"]);
        Health::of(&cluster, "b", &[]).finding("a", "clock-differs", &["s behind that of b"]);
    }
}

#[test]
fn a_disk_with_little_room_and_with_none() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let state = cluster.node("b").state();
    let Some(disk) = SmallDisk::mount(&state) else { return };
    let app = cluster.app("web");
    cluster.configure(&hierarchy(&cluster, &app, ""));
    cluster.start_all();
    cluster.wait_until_served_by("a");
    cluster.wait_until_they_talk();
    let health = Health::of(&cluster, "a", &[]);
    health.finding("b", "little-room", &["less than 64 MiB are free"]);
    health.has_only(3, &["little-room"]);
    disk.fill();
    let health = Health::of(&cluster, "a", &[]);
    health.finding("b", "no-room", &["has no room"]);
    assert_eq!(health.code, Some(1));
}

/// Whatever differs between the files of two nodes.
#[test]
fn configs_and_kits_that_differ() {
    let (mut cluster, _app) = two(plain);
    cluster.stop("b");
    let node = cluster.node("b");
    let text = fs::read_to_string(node.config()).unwrap();
    node.configure(&text.replace("[hierarchy.shop]\n", "[hierarchy.shop]\nblock-failover = true\n"));
    fs::write(node.kits().join("broken.wasm"), "no kit").unwrap();
    cluster.start("b");
    cluster.wait_for("a", "b to have another config", |status| {
        status.node("b").is_some_and(|it| it["same_config"] == false) && status.reach("b") == "alive"
    });
    let health = Health::of(&cluster, "a", &[]);
    health.finding("b", "config-differs", &["[hierarchy.shop] is another"]);
    health.finding("b", "kit-refused", &["broken.wasm"]);
    assert_eq!(health.code, Some(1));
}
