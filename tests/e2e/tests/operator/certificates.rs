//! Who a node is, it shows by its certificate: who cannot is nobody, and a person is told why.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mainstay_node::certificates::make::{self, Validity};
use mainstay_test_e2e::api::get;
use mainstay_test_e2e::{Cluster, mainstay};
use mainstay_test_support::{Authority, TempDir, binary};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Two nodes with a hierarchy, and not on yet.
fn two() -> Cluster {
    let cluster = Cluster::new(&["a", "b"]);
    let hierarchy = cluster.hierarchy("shop");
    cluster.configure(&format!("{hierarchy}\n[hierarchy.shop.resource.web]\nkit = \"null\"\n"));
    cluster
}

/// Other files take the place of a node's own.
fn replace(cluster: &Cluster, node: &str, make: impl FnOnce(&Path)) {
    let dir = cluster.node(node).certificates();
    fs::remove_dir_all(&dir).expect("it was made with the node");
    make(&dir);
}

#[test]
fn a_node_of_another_cluster_gets_nothing_until_it_has_the_right_certificate() {
    let mut cluster = two();
    let other = Authority::new(&binary("mainstay"), "e2e");
    replace(&cluster, "b", |dir| other.node("b", dir));
    cluster.start_all();
    for (node, peer) in [("a", "b"), ("b", "a")] {
        cluster.node(node).wait_for_log("of another cluster or node");
        let counts = get(&cluster.node(node).socket(), "/v1/measures").expect("it answers").json();
        assert!(counts["dropped"]["foreign"].as_u64() > Some(0), "{counts:#?}");
        let status = cluster.node(node).status();
        assert!(status.reach(peer) != "alive" && status.owner("shop").is_none(), "{status:#?}");
    }
    // Nobody has to restart anything.
    replace(&cluster, "b", |dir| cluster.authority().node("b", dir));
    cluster.wait_until_they_talk();
}

#[test]
fn a_node_that_has_the_certificate_of_another_says_so_and_talks_to_nobody() {
    let mut cluster = two();
    replace(&cluster, "b", |dir| cluster.authority().node("c", dir));
    cluster.start_all();
    let line = cluster.node("b").wait_for_log("no session with another node can be made");
    assert!(line.contains("it speaks for mainstay://e2e/c, and this is mainstay://e2e/b"), "{line}");
    assert!(line.contains("mainstay node add b"), "{line}");
    assert_ne!(cluster.node("a").status().reach("b"), "alive");
}

#[test]
fn an_expired_certificate_is_told_with_the_day_and_what_to_do() {
    let mut cluster = two();
    let now = SystemTime::now();
    let validity = Validity { from: now - 20 * DAY, until: now - DAY };
    replace(&cluster, "b", |dir| {
        make::node(cluster.authority().folder(), dir, "b", validity).expect("it can be made, and is of no use");
    });
    cluster.start_all();
    let line = cluster.node("b").wait_for_log("has expired on");
    assert!(line.contains("node.pem") && line.contains("mainstay node add b"), "{line}");
    cluster.wait_for("b", "it to be shown", |status| status.troubles().concat().contains("has expired on"));
    assert_ne!(cluster.node("a").status().reach("b"), "alive");
}

#[test]
fn what_is_missing_or_open_or_about_to_expire_is_told() {
    let mut cluster = two();
    fs::remove_file(cluster.node("a").certificates().join("ca.pem")).expect("it was there");
    replace(&cluster, "b", |dir| {
        make::node(cluster.authority().folder(), dir, "b", Validity::days(5)).expect("it can be made");
        fs::set_permissions(dir.join("node.key"), fs::Permissions::from_mode(0o644)).expect("it is there");
    });
    cluster.start_all();
    cluster.node("a").wait_for_log("tls/ca.pem cannot be read");
    cluster.node("b").wait_for_log("tls/node.key has mode 644");
    cluster.node("b").wait_for_log("tls/node.pem expires on");
    cluster.wait_for("a", "it to be shown", |status| status.troubles().concat().contains("ca.pem"));
    // The check finds the same, without a daemon.
    let config = cluster.node("a").config();
    let said = mainstay(["config".as_ref(), "check".as_ref(), config.as_path()]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.out.contains("mainstay.toml:3:16: error: ") && said.out.contains("tls/ca.pem cannot be read"),
        "{said:#?}"
    );
}

#[test]
fn certificates_are_made_and_never_written_over() {
    let place = TempDir::new();
    let dir = place.join("ca");
    let made = |args: &[&str]| mainstay(args.iter().map(AsRef::as_ref).chain([Path::new("--dir"), dir.as_path()]));
    let out = made(&["cluster", "init", "--cluster", "shop"]).ok();
    for words in ["ca/ca.key", "ca/ca.pem", "mainstay://shop, until 20", "mainstay node add NAME --dir"] {
        assert!(out.contains(words), "{words:?} is not in:\n{out}");
    }
    let out = made(&["node", "add", "ex01", "--days", "30"]).ok();
    for words in ["ca/ex01/node.key", "mainstay://shop/ex01, until 20", "Copy ca.pem, node.pem and node.key to ex01"] {
        assert!(out.contains(words), "{words:?} is not in:\n{out}");
    }
    made(&["cluster", "init", "--cluster", "shop"]).fails_with(1, &["ca/ca.key is there already"]);
    made(&["node", "add", "ex01"]).fails_with(1, &["ca/ex01/node.key is there already"]);
    made(&["node", "add", "ex/01"]).fails_with(1, &["`ex/01` is no name for a node"]);
    made(&["node", "add", "ex02", "--days", "0"]).fails_with(2, &["0 is not in 1..=36500"]);
    let elsewhere = mainstay(["node", "add", "ex02", "--dir", "/nowhere"].map(Path::new));
    elsewhere.fails_with(1, &["/nowhere/ca.pem: it cannot be read", "mainstay cluster init"]);
}
