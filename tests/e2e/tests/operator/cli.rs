//! The command line: what it shows, what it says to mistakes, and how it gets along with pipes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use mainstay_test_e2e::{Cluster, LIMIT, cli, mainstay};
use mainstay_test_support::{Guard, TempDir, binary, skip, wait_for, wait_until};
use serde_json::Value;

/// A terminal that is 100 columns wide is not there: what is said is the same in a pipe, in a file and in a test.
#[test]
fn status_as_people_read_it() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let (web, db) = (cluster.app("web"), cluster.app("db"));
    cluster.configure(&format!(
        "{}{}depends-on = [\"db\"]\n{}",
        cluster.hierarchy("shop"),
        web.resource("shop"),
        db.resource("shop")
    ));
    cluster.start_all();
    cluster.wait_until_they_talk();
    cluster.wait_until_served_by("a");
    cluster.wait_for("a", "b to have told", |status| {
        let standby = |tag| status.reason(tag, "b") == "standby: a owns it";
        standby("web") && standby("db") && status.state("db", "a") == "ISP"
    });
    let shown = cluster.node("a").mainstay(&["status"]).ok();
    let dir = cluster.node("a").folder().path().display().to_string();
    let version = mainstay(["--version"]).ok().trim().replace("mainstay ", "");
    let expected = format!(
        "cluster e2e, as a sees it (mainstay {version})
  node a  this node
  node b  alive; lan green

shop: owned by a (epoch 1)
  web (genapp)    a  ISP      {dir}/app/web/quick-check says it serves
                  b  OSU      standby: a owns it
  └─ db (genapp)  a  ISP      {dir}/app/db/quick-check says it serves
                  b  OSU      standby: a owns it
"
    );
    assert_eq!(shown, expected);
    assert!(!shown.contains('\u{1b}'), "no colours where nobody sees them");
}

/// What `--json` promises in docs/reference/api.md.
#[test]
fn status_as_programs_read_it() {
    let (cluster, _app) = Cluster::of_two();
    cluster.wait_until_they_talk();
    let status = cluster.node("a").mainstay(&["status", "--json"]).json();
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys.join(" ")
    };
    let top = "alarms at cluster hierarchies host node nodes software";
    assert_eq!(sorted(keys(&status)), top);
    let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "b").unwrap();
    assert_eq!(sorted(keys(node)), "alarms last_heard name paths reach same_config");
    assert_eq!((&node["reach"], &node["same_config"]), (&"alive".into(), &true.into()));
    assert_eq!(sorted(keys(&node["paths"][0])), "last_heard name state");
    let hierarchy = &status["hierarchies"][0];
    assert_eq!(sorted(keys(hierarchy)), "epoch name nodes owner ownership resources");
    assert_eq!(sorted(keys(&hierarchy["nodes"][0])), "activity node not_ready");
    let row = &hierarchy["resources"][0];
    assert_eq!(sorted(keys(row)), "depends_on kit on tag");
    let view = &row["on"]["a"];
    assert_eq!(sorted(keys(view)), "degraded reason status");
    assert_eq!((&view["status"], &view["degraded"]), (&"ISP".into(), &false.into()));
    assert_eq!(sorted(keys(&status["host"])), "kits listening refused troubles");
    assert_eq!(sorted(keys(&status["host"]["kits"][0])), "file name sha256 version");
    // All of it is in the reference, under the same name.
    let reference = fs::read_to_string(mainstay_test_support::root().join("docs/reference/api.md")).unwrap();
    for key in [&status, node, hierarchy, row, view, &status["host"]].into_iter().flat_map(keys) {
        assert!(reference.contains(&format!("\"{key}\"")), "`{key}` is not in docs/reference/api.md");
    }
}

#[test]
fn watch_shows_it_again_and_outlives_the_daemon() {
    let (mut cluster, _app) = Cluster::of_one();
    let mut watch =
        Guard::start("watch", cli::command(["--state"]).arg(cluster.node("a").state()).args(["status", "--watch"]))
            .unwrap();
    let frames = |watch: &Guard| watch.output().matches("cluster e2e, as a sees it").count();
    wait_until(LIMIT, "three frames", || frames(&watch) >= 3);
    cluster.kill("a");
    watch.wait_for_line(LIMIT, "no daemon answers at ");
    let before = frames(&watch);
    cluster.start("a");
    wait_until(LIMIT, "frames of the new daemon", || frames(&watch) > before + 1);
    assert!(watch.status().is_none());
}

#[test]
fn events_are_shown_followed_and_numbered() {
    let (mut cluster, app) = Cluster::of_one();
    let node = cluster.node("a");
    let shown = node.mainstay(&["events"]).ok();
    let first = shown.lines().next().unwrap();
    assert!(first.ends_with(" the daemon of this node has started"), "{first}");
    assert!(first[..24].ends_with('Z') && first.starts_with("20"), "a time in front: {first}");
    let lines = node.mainstay(&["events", "--json"]).ok();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let numbers: Vec<u64> = events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let last = numbers.last().unwrap().to_string();
    assert_eq!(node.mainstay(&["events", "--after", &last]).ok(), "");
    // A number that this daemon has not reached comes from an earlier one: all it has told since is new.
    assert!(node.mainstay(&["events", "--after", "99999999"]).ok().starts_with(first));

    // Somebody who follows sees what happens, and goes on with the next daemon.
    let mut follow = cli::command(["--state"]);
    follow.arg(node.state()).args(["events", "--follow", "--after", &last]);
    let mut follow = Guard::start("follow", &mut follow).unwrap();
    app.on("a").dies();
    follow.wait_for_line(LIMIT, "shop/web: recover succeeded");
    assert!(!follow.output().contains("the daemon of this node has started"), "that was before");
    cluster.stop("a");
    cluster.start("a");
    // The daemon it followed is gone: it ends and says so, or goes on with the new one; either way nothing is made up.
    wait_until(LIMIT, "it to notice", || {
        follow.status().is_some() || follow.line("the daemon of this node has started").is_some()
    });
}

#[test]
fn explain_says_why_and_what_comes_next() {
    let (cluster, app) = Cluster::of_one();
    let node = cluster.node("a");
    let explained = node.mainstay(&["explain", "web"]).ok();
    for words in [
        "web (of shop) on a is ISP: ",
        "\nbecause\n",
        "  shop is owned by a (epoch 1)\n",
        "  the journal says it is in service here\n",
        "\nnext\n",
        "  the next check is in ",
        "then local recovery at most 2 times in 10m",
    ] {
        assert!(explained.contains(words), "{words:?} is not in\n{explained}");
    }
    let json = node.mainstay(&["explain", "web", "--json"]).json();
    assert_eq!((&json["tag"], &json["view"]["status"]), (&"web".into(), &"ISP".into()));
    app.on("a").knob("recover", "exit 1");
    app.on("a").dies();
    cluster.wait_for("a", "web to be given up", |status| status.alarm("web is failed").is_some());
    let explained = node.mainstay(&["explain", "web"]).ok();
    for words in
        ["is OSF", "the last recover failed", "local recoveries in the last 10m: 1 of 2", "failover, as soon as"]
    {
        assert!(explained.contains(words), "{words:?} is not in\n{explained}");
    }
}

/// Names that are not there, whatever is in them.
#[test]
fn names_that_are_not_there() {
    let (cluster, _app) = Cluster::of_one();
    let node = cluster.node("a");
    for name in ["nothing", "a b", "a/b", "..", "%", "ü", "-", "shop/web", "\n", "?after=1"] {
        node.mainstay(&["explain", name]).fails_with(1, &["there is no resource `", "on this node"]);
    }
    for verb in ["in-service", "out-of-service"] {
        node.mainstay(&[verb, "shopp"]).fails_with(1, &["there is no hierarchy and no resource `shopp`"]);
        node.mainstay(&[verb, ""]).fails_with(1, &["there is no hierarchy and no resource ``"]);
    }
    node.mainstay(&["switchover", "shopp", "a"]).fails_with(1, &["there is no hierarchy `shopp`"]);
    node.mainstay(&["switchover", "web", "a"]).fails_with(1, &["there is no hierarchy `web`"]);
    node.mainstay(&["switchover", "shop", "c"]).fails_with(1, &["shop does not run on c; its nodes are a"]);
    node.mainstay(&["switchover", "shop", "a"]).fails_with(1, &["a owns shop already"]);
    node.mainstay(&["confirm", "shop", "--yes"]).fails_with(1, &["no alarm about `shop`"]);
    // A name that begins with a dash is no option behind `--`.
    node.mainstay(&["explain", "--", "--json"]).fails_with(1, &["there is no resource `--json`"]);
}

/// Used wrongly: 2, and what would be right.
#[test]
fn wrong_usage() {
    for (args, words) in [
        (&[][..], "Usage: mainstay"),
        (&["stauts"], "unrecognized subcommand 'stauts'"),
        (&["status", "--jsn"], "unexpected argument '--jsn'"),
        (&["status", "shop"], "unexpected argument 'shop'"),
        (&["switchover", "shop"], "<TO>"),
        (&["in-service"], "<TARGET>"),
        (&["in-service", "shop", "--timeout", "soon"], "invalid value 'soon' for '--timeout <TIME>'"),
        (&["events", "--after", "-1"], "-1"),
        (&["kit", "run", "x.wasm", "restart"], "invalid value 'restart'"),
        (&["kit"], "Usage: mainstay kit"),
        (&["config"], "Usage: mainstay config"),
    ] {
        let said = mainstay(args);
        assert!(said.code == Some(2) && said.err.contains(words), "{args:?}: {said:#?}");
        assert_eq!(said.out, "", "{args:?}");
    }
    for args in [&["--help"][..], &["run", "--help"], &["kit", "run", "--help"], &["help", "confirm"]] {
        assert!(mainstay(args).ok().contains("Usage: mainstay"), "{args:?}");
    }
    assert!(mainstay(["--version"]).ok().starts_with("mainstay 0."));
    let filter = mainstay(["run", "--log", "loud=very"]);
    filter.fails_with(2, &["--log loud=very"]);
}

/// No daemon: an error that says where it was looked for.
#[test]
fn without_a_daemon() {
    let dir = TempDir::new();
    let state = dir.join("state");
    let at = format!("no daemon answers at {}", state.join("api.sock").display());
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["events"],
        &["explain", "web"],
        &["kit", "list"],
        &["in-service", "shop"],
        &["switchover", "shop", "b"],
        &["confirm", "shop", "--yes"],
    ] {
        let said = mainstay(["--state", state.to_str().unwrap()].iter().chain(args));
        assert_eq!(said.out, "", "{args:?}");
        said.fails_with(1, &[&at, "--state", "No such file"]);
    }
    assert!(!state.exists(), "asking makes nothing");
    // A socket that nobody listens on any more, as a killed daemon leaves it.
    let (mut cluster, _app) = Cluster::of_one();
    cluster.kill("a");
    cluster.node("a").mainstay(&["status"]).fails_with(1, &["no daemon answers at ", "Connection refused"]);
    // The variable says it, too; the option counts more.
    let said = cli::run(cli::command(["status"]).env("MAINSTAY_STATE", &state));
    said.fails_with(1, &[&at]);
}

/// The state directory: in use, open to others, not a directory, too long a path.
#[test]
fn state_directories_that_cannot_be_used() {
    let (cluster, app) = Cluster::of_one();
    let node = cluster.node("a");
    cli::run(&mut node.run_command()).fails_with(1, &["is in use by another mainstay daemon", "--state"]);
    assert_eq!(node.status().state("web", "a"), "ISP", "the one that is there goes on");
    node.mainstay(&["status"]).ok();
    assert_eq!(app.running(), ["a"]);

    let dir = TempDir::new();
    let run = |state: &std::path::Path| {
        mainstay([
            "--state".as_ref(),
            state,
            "run".as_ref(),
            "--node".as_ref(),
            "a".as_ref(),
            "--config".as_ref(),
            node.config().as_path(),
        ])
    };
    let open = dir.folder("open");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o750)).unwrap();
    run(&open).fails_with(1, &["has mode 750", "chmod 700"]);
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0, "nothing is written into it");
    run(&dir.write("file", "")).fails_with(1, &["/file: cannot make it"]);
    run(&dir.join("x".repeat(100))).fails_with(1, &["has too long a path", "107 bytes"]);
    std::os::unix::fs::symlink(dir.join("nowhere"), dir.join("dangling")).unwrap();
    run(&dir.join("dangling")).fails_with(1, &["/dangling: cannot"]);
}

/// The account of the web server, say: it may neither look nor ask. Needs root, to become somebody else.
#[test]
fn another_users_socket_is_closed() {
    if !nix::unistd::geteuid().is_root() {
        return skip("needs root, to become another user", "run the tests as root");
    }
    use std::os::unix::process::CommandExt as _;
    let (cluster, _app) = Cluster::of_one();
    // Even if the folders above let everybody through.
    let node = cluster.node("a");
    fs::set_permissions(node.folder().path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = TempDir::new();
    fs::set_permissions(program.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(binary("mainstay"), program.join("mainstay")).unwrap();
    let mut command = Command::new(program.join("mainstay"));
    command.arg("--state").arg(node.state()).arg("status").uid(65_534).gid(65_534).env_clear();
    cli::run(&mut command)
        .fails_with(1, &["no daemon answers at ", "May this user open the socket?", "Permission denied"]);
    // Nor may it run one there.
    let mut command = Command::new(program.join("mainstay"));
    command.arg("--state").arg(node.state()).args(["run", "--node", "a", "--config"]).arg(node.config());
    let said = cli::run(command.uid(65_534).gid(65_534).env_clear());
    assert!(said.code == Some(1) && !said.err.contains("panicked"), "{said:#?}");
    assert_eq!(node.status().state("web", "a"), "ISP");
}

/// `| head`: whoever reads has seen enough. That is no panic, and no word either.
#[test]
fn a_reader_that_goes_away() {
    let (cluster, _app) = Cluster::of_one();
    let node = cluster.node("a");
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["events"],
        &["explain", "web"],
        &["kit", "list"],
        &["status", "--watch"],
    ] {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        let mut command = cli::command(["--state"]);
        command.arg(node.state()).args(args).stdout(Stdio::from(writer)).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(command);
        let status = wait_for(LIMIT, "the command to end", || child.try_wait().unwrap());
        let mut err = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
        assert_eq!((status.code(), err.as_str()), (Some(141), ""), "{args:?}");
    }
    // A full disk is another thing: a file that is half there is no success.
    if let Ok(full) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let mut command = cli::command(["--state"]);
        command.arg(node.state()).args(["status", "--json"]).stdout(full).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("standard output cannot be written"), "{output:?}");
    }
}

/// Whoever collects the daemon's log is gone, or has stopped reading. The daemon is none of it.
#[test]
fn a_log_that_nobody_reads_harms_nobody() {
    for gone in [true, false] {
        let mut cluster = Cluster::new(&["a"]);
        let app = cluster.app("web");
        cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
        let (reader, writer) = nix::unistd::pipe().unwrap();
        // `Guard` sees to the daemon's output itself; a shell between them gives it another one.
        let run = cluster.node("a").run_command();
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "exec \"$@\" 2>&9", "sh"])
            .arg(run.get_program())
            .args(run.get_args())
            .env("MAINSTAY_LOG", "trace");
        give_as(&mut shell, 9, writer);
        let kept = if gone {
            drop(reader);
            None
        } else {
            Some(reader)
        };
        cluster.start_with("a", &mut shell);
        cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
        // Much more than a pipe holds.
        for _ in 0..3 {
            cluster.node("a").mainstay(&["out-of-service", "shop"]).ok();
            cluster.node("a").mainstay(&["in-service", "shop"]).ok();
        }
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(cluster.node("a").status().state("web", "a"), "ISP", "gone: {gone}");
        let began = std::time::Instant::now();
        cluster.stop("a");
        assert!(began.elapsed() < LIMIT / 2, "it stops although nobody reads its last words");
        assert_eq!(app.running(), ["a"]);
        drop(kept);
    }
}

/// The command will find `fd` open under this number.
fn give_as(command: &mut Command, number: i32, fd: std::os::fd::OwnedFd) {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec only dup2 is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || match nix::libc::dup2(fd.as_raw_fd(), number) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}
