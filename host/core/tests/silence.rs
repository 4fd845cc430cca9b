//! What a config has to say before nodes may take over by themselves (O11, O13, O15): the sums, and what is missing.

use mainstay_core::spec::Spec;

/// What is said of a config of two nodes; `top` stands before the tables, `more` after the nodes, `mode` in the hierarchy.
fn said(paths: usize, more: &str, mode: &str) -> Vec<String> {
    let names = &["one", "two"][..paths];
    let mut text = String::from("cluster = \"c\"\nkits = \"/k\"\n");
    for (at, name) in names.iter().enumerate() {
        text += &format!("[path.{name}]\npriority = {}\n", at + 1);
    }
    for (at, node) in ["a", "b"].iter().enumerate() {
        text += &format!("[node.{node}]\n");
        for (path, name) in names.iter().enumerate() {
            text += &format!("address.{name} = \"127.0.0.1:{}\"\n", 7000 + 10 * at + path);
        }
    }
    text += more;
    text += &format!("\n[hierarchy.h]\nnodes = [\"a\", \"b\"]\n{mode}\n");
    text += "[hierarchy.h.resource.app]\nkit = \"null\"\ndepends-on = [\"disk\"]\ntimeouts.remove = \"3s\"\n";
    text += "[hierarchy.h.resource.disk]\nkit = \"null\"\ntimeouts.remove = \"4s\"\n";
    let (_, diagnostics) = Spec::read("x.toml", &text);
    diagnostics.into_sorted().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn one(said: &[String], words: &[&str]) {
    assert!(said.len() == 1 && words.iter().all(|word| said[0].contains(word)), "{words:?} in {said:#?}");
}

const AUTOMATIC: &str = "failover = \"automatic\"";
const ACCEPTED: &str = "failover = \"automatic\"\naccept-split-brain = true";

#[test]
fn what_automatic_needs_is_asked_for() {
    assert_eq!(said(2, "", ACCEPTED), [] as [&str; 0]);
    one(&said(2, "", AUTOMATIC), &["cannot promise one owner", "a and b are fenced", "accept-split-brain = true"]);
    one(&said(1, "", ACCEPTED), &["needs two independent comm paths, and there is one"]);
    let fences =
        "[node.a.fence]\ncommand = [\"/f\", \"a\"]\n[node.b.fence]\ncommand = [\"/f\", \"b\"]\ndelay = \"2s\"\n";
    assert_eq!(said(2, fences, AUTOMATIC), [] as [&str; 0]);
    let timeout = "confirm-timeout = \"10m\"";
    one(&said(2, "", timeout), &["confirm-timeout cannot promise one owner"]);
    assert_eq!(said(2, fences, timeout), [] as [&str; 0]);
    one(&said(2, fences, &format!("{AUTOMATIC}\n{timeout}")), &["goes with failover = \"confirm\" alone"]);
}

#[test]
fn two_nodes_are_not_fenced_after_the_same_delay() {
    let fences = "[node.a.fence]\ncommand = [\"/f\"]\n[node.b.fence]\ncommand = [\"/f\"]\ndelay = \"500ms\"\n";
    one(&said(2, fences, AUTOMATIC), &["each would shoot the other", "1s longer"]);
    let relative = "[node.a.fence]\ncommand = [\"f\"]\n[node.b.fence]\ncommand = [\"/f\"]\ndelay = \"5s\"\n";
    one(&said(2, relative, AUTOMATIC), &["`f`", "no absolute path"]);
}

#[test]
fn what_has_to_fit_into_a_lease_is_added_up() {
    const MODE: &str = "failover = \"arbiter\"";
    let arbiter = |settings: &str| {
        format!("[arbiter]\netcd = [\"http://127.0.0.1:2379\"]\n{settings}\n[self-fence]\nby = \"reboot\"\n")
    };
    one(&said(1, "", MODE)[..1], &["needs an arbiter"]);
    assert!(said(1, "", MODE)[1].contains("needs something that fences a node"), "{:#?}", said(1, "", MODE));
    assert_eq!(said(1, &arbiter("lease = \"20s\""), MODE), [] as [&str; 0]);
    // 2s + 1s x 3 + 500ms + 1 % of 10s fit; with 3s + 4s of removing they do not.
    one(
        &said(1, &arbiter(""), MODE),
        &[
            "warning",
            "fenced, not stopped",
            "2s + request-timeout 1s x tries 3",
            "drift 100ms = 5600ms",
            "remove 7s = 12600ms",
        ],
    );
    one(&said(1, &arbiter("lease = \"4s\""), MODE), &["error", "a lease of 4s is too short", "drift 40ms = 5540ms"]);
    one(&said(1, &arbiter("lease = \"20s\""), ""), &["warning", "[arbiter] is not used"]);
    let encrypted = arbiter("lease = \"20s\"").replace("http:", "https:");
    one(&said(1, &encrypted, MODE), &["is encrypted, and there are no certificates"]);
    let nowhere = arbiter("lease = \"20s\"").replace(":2379", ":etcd");
    one(&said(1, &nowhere, MODE), &["is no address of etcd"]);
    let watchdog = arbiter("lease = \"20s\"").replace("reboot", "watchdog");
    one(&said(1, &watchdog, MODE), &["shorter than any watchdog's timeout"]);
}

#[test]
fn a_dead_time_that_cannot_work_is_refused_with_its_sum() {
    let with = |settings: &str| {
        let text = format!(
            "cluster = \"c\"\nkits = \"/k\"\nhold-time = \"30s\"\n[path.one]\n{settings}\n[node.a]\naddress.one = \"127.0.0.1:1\"\n\
             [hierarchy.h]\nnodes = [\"a\"]\n[hierarchy.h.resource.app]\nkit = \"null\"\n"
        );
        Spec::read("x.toml", &text).1.into_sorted().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    one(&with("heartbeat-interval = \"20ms\"\ndead-after-misses = 2"), &["20ms x 2 = 40ms", "raise one of them"]);
    one(&with("heartbeat-interval = \"10s\"\nhysteresis = \"1m\""), &["10s x 5 = 50s, later than hold-time = 30s"]);
    one(&with("heartbeat-interval = \"5s\""), &["hysteresis = 10s", "5s x 5 = 25s"]);
}
