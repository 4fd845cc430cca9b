//! What a config may say, and what is said of one that is wrong: everything at once, with place and hint.

use mainstay_core::diagnostic::Severity;
use mainstay_core::names::NodeName;
use mainstay_core::spec::{MirrorMode, Spec};
use mainstay_core::time::Millis;
use serde_json::json;

const GOOD: &str = r#"
cluster = "mail"
kits = "/var/lib/mainstay/kits"
secrets = "/etc/mainstay/secrets"
certificates = "/etc/mainstay/tls"

[path.wan]
priority = 1
heartbeat-interval = "1s"
dead-after-misses = 5

[node.ex01]
address.wan = "192.0.2.10:7400"
[node.ex02]
address.wan = "198.51.100.10:7400"
listen.wan = "0.0.0.0:7400"

[hierarchy.mail]
nodes = ["ex01", "ex02"]
failover = "confirm"
switchback = "intelligent"

[hierarchy.mail.resource.name]
kit = "dns"
params = { zone = "example.org", servers = ["192.0.2.53"], key = { name = "ms-key", secret = "dns-key" } }
params-on.ex02 = { key = { name = "other" }, values = ["198.51.100.10"] }
grants.net = ["192.0.2.53:53", "[2001:db8::1]:53"]
grants.secret = ["dns-key"]

[hierarchy.mail.resource.app]
kit = "genapp"
depends-on = ["name"]
check-interval = "500ms"
recovery = { tolerate = 1, attempts = 3, window = "10m" }
timeouts = { restore = "1m" }
grants.command = ["/opt/app/start", { program = "/opt/app/stop", user = "app" }]
"#;

#[test]
fn a_good_config_says_what_it_says() {
    let (spec, diagnostics) = Spec::read("mail.toml", GOOD);
    assert_eq!(diagnostics.into_sorted(), []);
    let spec = spec.unwrap();
    assert_eq!(spec.paths["wan"].dead_time(), Millis::from_secs(5));
    let mail = &spec.hierarchies["mail"];
    let app = &mail.resources["app"];
    assert_eq!(app.recovery.attempts, 3);
    assert_eq!(app.recovery.tolerate_timeouts, 2, "what is not said keeps its default");
    assert_eq!(app.timeouts.restore, Millis::from_mins(1));
    assert_eq!(app.grants.command[1].user.as_deref(), Some("app"));
    let name = &mail.resources["name"];
    assert_eq!(
        name.params_for(&NodeName::from("ex02")),
        json!({"zone": "example.org", "servers": ["192.0.2.53"], "values": ["198.51.100.10"],
               "key": {"name": "other", "secret": "dns-key"}})
    );
    assert_eq!(name.params_for(&NodeName::from("ex01"))["key"]["name"], "ms-key");
}

#[test]
fn volumes_mount_points_and_services_are_granted_in_their_forms() {
    let text = |grants: &str| {
        let good = GOOD
            .replace("grants.command = [\"/opt/app/start\", { program = \"/opt/app/stop\", user = \"app\" }]", grants);
        good + "[hierarchy.mail.volume.store]\nbacking = { ex01 = \"/dev/a\", ex02 = \"/dev/b\" }\naddress.ex02 = \"192.0.2.11:7500\"\n"
    };
    let grants = "grants.volume = [\"store\"]\ngrants.mount = [\"/srv/mail\", { point = \"/srv/db\", device = \"/dev/drbd0\" }]\n\
         grants.service = [\"postfix.service\", \"MSSQL$MAIL\"]";
    let (spec, diagnostics) = Spec::read("mail.toml", &text(grants));
    assert_eq!(diagnostics.into_sorted(), []);
    let granted = &spec.unwrap().hierarchies["mail"].resources["app"].grants;
    assert_eq!(granted.volume, ["store"]);
    let mounts: Vec<_> = granted.mount.iter().map(|grant| (grant.point.as_str(), grant.device.as_deref())).collect();
    assert_eq!(mounts, [("/srv/mail", None), ("/srv/db", Some("/dev/drbd0"))]);
    assert_eq!(granted.service, ["postfix.service", "MSSQL$MAIL"]);
    let shown = serde_json::to_value(granted).unwrap();
    assert_eq!(shown["mount"][1], json!({"point": "/srv/db", "device": "/dev/drbd0"}));

    for (grants, words) in [
        ("grants.volume = [\"stoer\"]", "is granted the volume `stoer`, and `mail` has none of that name"),
        ("grants.volume = [\"a b\"]", "the volume's name: this is no name"),
        ("grants.volume = \"store\"", "`volume` in `grants` of [hierarchy.mail.resource.app]"),
        ("grants.mount = [\"srv/mail\"]", "`srv/mail` in `grants` of [hierarchy.mail.resource.app] is no mount point"),
        ("grants.mount = [\"/\"]", "`/` in `grants` of [hierarchy.mail.resource.app] is no mount point"),
        ("grants.mount = [\"/srv/../etc\"]", "is no mount point"),
        ("grants.mount = [\"/srv/\"]", "is no mount point"),
        ("grants.mount = [{ point = \"/srv\" }]", "has no `device`"),
        ("grants.mount = [{ device = \"/dev/sda\" }]", "has no `point`"),
        (
            "grants.mount = [{ point = \"/srv\", device = \"sda\" }]",
            "`sda` in `grants` of [hierarchy.mail.resource.app] is no block device",
        ),
        ("grants.mount = [{ point = \"/srv\", device = \"/dev/../etc/passwd\" }]", "is no block device"),
        ("grants.mount = [{ point = \"/srv\", device = \"/dev/a\", options = [] }]", "has no setting `options`"),
        ("grants.volumes = [\"store\"]", "did you mean `volume`?"),
        ("grants.service = [\"\"]", "is no service: a name has 1 to 256 bytes"),
        ("grants.service = [\"a/b\"]", "`a/b` in `grants` of [hierarchy.mail.resource.app] is no service"),
        ("grants.service = [\" a\"]", "is no service"),
        ("grants.service = \"postfix\"", "`service` in `grants` of [hierarchy.mail.resource.app]"),
    ] {
        let (spec, diagnostics) = Spec::read("mail.toml", &text(grants));
        let told: Vec<String> = diagnostics.into_sorted().iter().map(ToString::to_string).collect();
        assert!(spec.is_none() && told.len() == 1 && told[0].contains(words), "{grants}: {told:?}");
        assert!(told[0].starts_with("mail.toml:36:"), "{grants}: {told:?}");
    }
}

#[test]
fn a_params_place_is_found_for_each_node() {
    let (spec, diagnostics) = Spec::read("mail.toml", GOOD);
    let places = &spec.unwrap().hierarchies["mail"].resources["name"].places.clone();
    let line = |node: &str, pointer: &str| diagnostics.line_of(places.param(&NodeName::from(node), pointer));
    assert_eq!(line("ex01", "/key/name"), 25);
    assert_eq!(line("ex02", "/key/name"), 26);
    assert_eq!(line("ex02", "/key/secret"), 25);
    assert_eq!(line("ex01", "/missing/deeply"), 25, "the nearest that is there");
}

#[track_caller]
fn found(text: &str, expected: &[&str]) {
    let (spec, diagnostics) = Spec::read("x.toml", text);
    let all = diagnostics.into_sorted();
    let shown: Vec<String> =
        all.iter().map(|diagnostic| diagnostic.to_string().replace("\n    hint: ", " | ")).collect();
    assert_eq!(shown, expected);
    assert_eq!(spec.is_none(), all.iter().any(|diagnostic| diagnostic.severity == Severity::Error));
}

#[test]
fn every_mistake_is_told_at_once_where_it_is() {
    found(
        r#"cluster = "mail cluster"
kitz = "/var/lib/mainstay/kits"
hold-time = "0s"
[path.lan]
heartbeat-interval = "0s"
dead-after-misses = 1
[path.wan]
priority = 1
[node.a]
address.lan = "127.0.0.1:0"
address.wam = "192.0.2.1:7400"
[node.b]
address.lan = "nonsense"
address.wan = "127.0.0.1:0"
[hierarchy.mail]
nodes = ["a", "c", "a"]
failover = "automatic"
switchback = "sometimes"
[hierarchy.mail.resource.app]
depends-on = ["stor", "app", "other"]
check-interval = "5 seconds"
recovery = { tolerat = 1, attempts = -1 }
params = ["x"]
params-on.z = { a = 1 }
grants.command = ["bin/app", { user = "x" }]
grants.net = ["192.0.2.1"]
grants.secret = ["key"]
[hierarchy.mail.resource.store]
kit = "null"
depends-on = ["disk", "disk"]
[hierarchy.mail.resource.disk]
kit = "null"
depends-on = ["store"]
[hierarchy.web]
nodes = ["b"]
[hierarchy.web.resource.other]
kit = 7
[hierarchy.web.resource.store]
kit = "null"
"#,
        &[
            "x.toml:1:1: error: the config has no `kits` | name the directory with the kits' .wasm files: kits = \"/var/lib/mainstay/kits\"",
            "x.toml:1:11: error: the cluster's name: this is no name | a name is of letters, digits, `.`, `_` and `-`",
            "x.toml:2:1: error: the config has no setting `kitz` | did you mean `kits`?",
            "x.toml:3:13: error: `hold-time = \"0s\"` in the config makes no sense: it is how long a node may be away on purpose | write 1s to 24h",
            "x.toml:5:22: error: `heartbeat-interval = \"0s\"` in [path.lan] makes no sense: more often a busy machine cannot keep up, less often nobody notices a failure | write 20ms to 1m",
            "x.toml:6:21: error: `dead-after-misses = 1` in [path.lan] is out of range | write 2 to 100",
            "x.toml:7:7: error: the comm paths `lan` and `wan` have the same priority, 1 | give each its own: the lowest that is alive carries the messages",
            "x.toml:9:7: error: the node `a` has no address on the comm path `wan` | add address.wan = \"host:port\" to [node.a]",
            "x.toml:10:15: error: address.lan = \"127.0.0.1:0\" of the node `a` has port 0, where nobody can find it | write the port that leads there; listen.lan may have port 0",
            "x.toml:11:15: error: the node `a` has address.wam, and there is no comm path `wam` | did you mean `wan`?",
            "x.toml:13:15: error: address.lan = \"nonsense\" of the node `b` is no address | write host:port, as in \"192.0.2.10:7400\" or \"[2001:db8::1]:7400\"",
            "x.toml:14:15: error: address.wan = \"127.0.0.1:0\" of the node `b` has port 0, where nobody can find it | write the port that leads there; listen.wan may have port 0",
            "x.toml:14:15: error: the address \"127.0.0.1:0\" is taken: the node `a` has it as address.lan on line 10 | every node has a place of its own on every comm path",
            "x.toml:16:15: error: the hierarchy `mail` names the node `c`, and there is none | did you mean `a`?",
            "x.toml:16:20: error: the hierarchy `mail` names the node `a` twice | the list is the order of priority: each node once",
            "x.toml:17:12: error: failover = \"automatic\" is for two nodes, and this hierarchy has 3 (O11) | two of three that see each other would still not know about the third: failover = \"arbiter\"",
            "x.toml:17:12: error: failover = \"automatic\" cannot promise one owner: whatever cuts all comm paths at once (a switch, a power strip) makes both nodes owners (O11) | describe how a is fenced ([node.NAME.fence]), or use an arbiter, or write accept-split-brain = true if two owners do no harm",
            "x.toml:18:14: error: `switchback = \"sometimes\"` in [hierarchy.mail] is not known | write switchback = \"intelligent\" or \"automatic\"",
            "x.toml:19:26: error: [hierarchy.mail.resource.app] has no `kit` | name the kit that knows this resource: kit = \"genapp\"",
            "x.toml:20:15: error: the resource `app` depends on `stor`, which is not in the hierarchy `mail` | did you mean `store`?",
            "x.toml:20:23: error: the resource `app` depends on itself",
            "x.toml:20:30: error: the resource `app` depends on `other`, which is not in the hierarchy `mail` | `other` is in the hierarchy `web`; a hierarchy moves as a whole, so put both in one",
            "x.toml:21:18: error: `check-interval = \"5 seconds\"` in [hierarchy.mail.resource.app] is no length of time | write a whole number and a unit: 250ms, 5s, 10m, 2h",
            "x.toml:22:14: error: `recovery` of [hierarchy.mail.resource.app] has no setting `tolerat` | did you mean `tolerate`?",
            "x.toml:22:38: error: `attempts = -1` in `recovery` of [hierarchy.mail.resource.app] is out of range | write 0 to 100",
            "x.toml:23:10: error: `params` in [hierarchy.mail.resource.app] is of type array | write a table: { ... }",
            "x.toml:24:11: error: params-on names the node `z`, which is not one of the hierarchy `mail` | did you mean `a`?",
            "x.toml:25:19: error: `bin/app` in `grants` of [hierarchy.mail.resource.app] is no absolute path | nothing is looked up in PATH: write the whole path, without `..`",
            "x.toml:25:30: error: `command` in `grants` of [hierarchy.mail.resource.app] has no `program` | write { program = \"/path\", user = \"name\" }",
            "x.toml:26:15: error: `192.0.2.1` in `grants` of [hierarchy.mail.resource.app] is no place in the network | write host:port, as in \"192.0.2.53:53\" or \"[2001:db8::1]:53\"",
            "x.toml:27:18: error: the secret `key` is granted, but there is no directory of secrets | name it at the top of the file: secrets = \"/etc/mainstay/secrets\"",
            "x.toml:30:23: error: the resource `store` depends on `disk` twice",
            "x.toml:31:26: error: the dependencies in the hierarchy `mail` go in a circle: `disk` (line 31) -> `store` (line 28) -> `disk` (line 31) | what depends on what has to end somewhere: take one of these out of a depends-on",
            "x.toml:37:7: error: `kit` in [hierarchy.web.resource.other] is of type integer | write a text: kit = \"...\"",
            "x.toml:38:25: error: the tag `store` in the hierarchy `web` is taken: line 28 has it in `mail` | a tag names one resource in the whole cluster",
        ],
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_place() {
    found(
        "cluster = \"a\"\nkits = \nx = = 1\n",
        &[
            "x.toml:2:8: error: this is not TOML: string values must be quoted, expected literal string",
            "x.toml:3:5: error: this is not TOML: extra `=`, expected nothing",
            "x.toml:3:7: error: this is not TOML: unexpected key or value, expected newline, `#`",
        ],
    );
    found("a = 1\na = 2\n", &["x.toml:2:1: error: this is not TOML: duplicate key"]);
}

#[test]
fn a_config_that_protects_nothing_is_only_warned_about() {
    found(
        "cluster = \"a\"\nkits = \"/k\"\n[node.one]\n",
        &[
            "x.toml:1:1: warning: there is no hierarchy: nothing is protected | describe one: [hierarchy.NAME], with [hierarchy.NAME.resource.TAG]",
        ],
    );
}

#[test]
fn an_empty_config_says_what_is_missing() {
    found(
        "",
        &[
            "x.toml:1:1: error: the config has no `cluster` | name the cluster: cluster = \"mail\"",
            "x.toml:1:1: error: the config has no `kits` | name the directory with the kits' .wasm files: kits = \"/var/lib/mainstay/kits\"",
            "x.toml:1:1: error: there is no node | describe each machine: [node.NAME], with address.PATH = \"host:port\"",
            "x.toml:1:1: warning: there is no hierarchy: nothing is protected | describe one: [hierarchy.NAME], with [hierarchy.NAME.resource.TAG]",
        ],
    );
}

#[test]
fn a_circle_in_a_long_chain_is_found_without_recursion() {
    let mut text = String::from("cluster = \"a\"\nkits = \"/k\"\n[node.one]\n[hierarchy.h]\nnodes = [\"one\"]\n");
    const LENGTH: usize = 20_000;
    for index in 0..LENGTH {
        let next = (index + 1) % LENGTH;
        text.push_str(&format!("[hierarchy.h.resource.r{index}]\nkit = \"null\"\ndepends-on = [\"r{next}\"]\n"));
    }
    let (spec, diagnostics) = Spec::read("x.toml", &text);
    assert!(spec.is_none());
    let found = diagnostics.into_sorted();
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("go in a circle"));
}

/// A config with these lines, without what is wrong with the rest of it.
fn with_volume(hierarchy: &str, volume: &str) -> String {
    format!(
        r#"cluster = "c"
kits = "/k"
[path.lan]
[node.a]
address.lan = "127.0.0.1:7400"
[node.b]
address.lan = "127.0.0.1:7401"
[node.c]
address.lan = "127.0.0.1:7402"
[hierarchy.h]
{hierarchy}
[hierarchy.h.resource.r]
kit = "null"
{volume}"#
    )
}

const TWO: &str = "nodes = [\"b\", \"a\"]";
const VOLUME: &str = r#"[hierarchy.h.volume.v]
backing = { a = "/dev/vg0/v", b = "/dev/sdb1" }
address = { b = "192.0.2.11:7500" }
"#;

#[test]
fn a_volume_says_what_it_says() {
    let text = with_volume(
        TWO,
        &(VOLUME.to_owned()
            + "log = { a = \"/var/log/v\" }\nmode = \"async\"\nlag-max = \"2s\"\nlag-kib-max = 128\nstall-time = \"5s\"\nresync-kib-per-s = 5000\n"),
    );
    let (spec, diagnostics) = Spec::read("x.toml", &text);
    assert_eq!(diagnostics.into_sorted(), []);
    let volume = spec.unwrap().hierarchies["h"].volumes["v"].clone();
    let on = |of: &std::collections::BTreeMap<NodeName, String>, node: &str| of.get(&NodeName::from(node)).cloned();
    assert_eq!(on(&volume.backing, "b").as_deref(), Some("/dev/sdb1"));
    assert_eq!((on(&volume.log, "a").as_deref(), on(&volume.log, "b")), (Some("/var/log/v"), None));
    assert_eq!(on(&volume.address, "b").as_deref(), Some("192.0.2.11:7500"));
    assert_eq!(volume.mode, MirrorMode::Async { lag_kib_max: 128, lag_max: Millis::from_secs(2) });
    assert_eq!((volume.stall_time, volume.resync_kib_per_s), (Millis::from_secs(5), Some(5000)));
    let (spec, _) = Spec::read("x.toml", &with_volume(TWO, VOLUME));
    let volume = spec.unwrap().hierarchies["h"].volumes["v"].clone();
    assert_eq!((volume.mode, volume.stall_time), (MirrorMode::Sync, Millis::from_secs(20)));
    assert_eq!(volume.resync_kib_per_s, None);
}

#[test]
fn every_mistake_of_a_volume_is_told_where_it_is() {
    let wrong = r#"[hierarchy.h.volume."v/1"]
backing = { a = "vg0/v", z = "/dev/v", b = 7 }
log = { c = "/var/log/v" }
address = { a = "192.0.2.10:7500", b = "here" }
mode = "sink"
stall-time = "1s"
resync-kib-per-s = 1
lag-max = "1s"
lag-kib-max = 100
bakcing = { a = "/dev/v" }
[hierarchy.h.volume.w]
[hierarchy.h.volume.x]
backing = { a = "/dev/x", b = "/dev/x" }
address = { b = "192.0.2.11:0" }
mode = "async"
lag-max = "2h"
lag-kib-max = 1
"#;
    found(&with_volume(TWO, wrong), WRONG);
}

#[test]
fn v13_what_does_not_fit_together_with_a_volume_is_told() {
    // Three nodes, or one.
    found(&with_volume("nodes = [\"a\", \"b\", \"c\"]", VOLUME), THREE);
    found(&with_volume("nodes = [\"a\"]", VOLUME), ONE);
    let back = format!("{TWO}\nswitchback = \"automatic\"");
    found(&with_volume(&back, VOLUME), BACK);
    // Names and addresses are their own in the whole cluster.
    let twice = format!(
        "{VOLUME}[hierarchy.i]\nnodes = [\"a\", \"b\"]\n[hierarchy.i.resource.s]\nkit = \"null\"\n{}",
        VOLUME.replace(".h.", ".i.")
    );
    found(&with_volume(TWO, &twice), TWICE);
    // It would be given up without a question.
    let text = with_volume(
        &format!("{TWO}\nfailover = \"automatic\"\naccept-split-brain = true"),
        &format!("{VOLUME}mode = \"async\"\n"),
    );
    let text = text.replace("[path.lan]", "[path.lan]\npriority = 1\n[path.wan]\npriority = 2");
    let text = text
        .replace("\n[node.b]", "\naddress.wan = \"127.0.0.1:7500\"\n[node.b]")
        .replace("\n[node.c]", "\naddress.wan = \"127.0.0.1:7501\"\n[node.c]\naddress.wan = \"127.0.0.1:7502\"");
    found(&text, LOST);
}

const WRONG: &[&str] = &[
    "x.toml:14:21: error: the volume `v/1`: this is no name | a name is of letters, digits, `.`, `_` and `-`",
    "x.toml:14:21: error: the volume `v/1` has no backing on `b` | name the device or file with its data there: backing.b = \"/dev/vg0/v/1\"",
    "x.toml:15:17: error: backing.a = \"vg0/v\" is no absolute path | as in \"/dev/vg0/mail\"",
    "x.toml:15:26: error: `backing` of the volume `v/1` names `z`, which is not one of its nodes | the nodes are a, b",
    "x.toml:15:44: error: `b` in `backing` of [hierarchy.h.volume.v/1] is of type integer | write a text: b = \"/dev/vg0/mail\"",
    "x.toml:16:9: error: `log` of the volume `v/1` names `c`, which is not one of its nodes | the nodes are a, b",
    "x.toml:17:13: error: the volume `v/1` has an address on `a`, where nobody connects | take it out: `a` connects to `b`, whose name sorts last",
    "x.toml:17:40: error: \"here\" is no address for a mirror link | write an IP address and a port: \"192.0.2.11:7500\"",
    "x.toml:18:8: error: `mode = \"sink\"` in [hierarchy.h.volume.v/1] is not known | write mode = \"sync\" or \"async\"",
    "x.toml:19:14: error: `stall-time = \"1s\"` in [hierarchy.h.volume.v/1] makes no sense: less, and every hiccup of the line ends in errors; more, and applications and unmounts hang | write 2s to 10m",
    "x.toml:20:20: error: `resync-kib-per-s = 1` in [hierarchy.h.volume.v/1] is out of range | write 64 to 4294967295",
    "x.toml:21:11: error: `lag-max` in [hierarchy.h.volume.v/1] goes with mode = \"async\" alone | in sync mode the other copy is never behind: take it out",
    "x.toml:22:15: error: `lag-kib-max` in [hierarchy.h.volume.v/1] goes with mode = \"async\" alone | in sync mode the other copy is never behind: take it out",
    "x.toml:23:1: error: [hierarchy.h.volume.v/1] has no setting `bakcing` | did you mean `backing`?",
    "x.toml:24:21: error: the volume `w` has no backing on `b` | name the device or file with its data there: backing.b = \"/dev/vg0/w\"",
    "x.toml:24:21: error: the volume `w` has no backing on `a` | name the device or file with its data there: backing.a = \"/dev/vg0/w\"",
    "x.toml:24:21: error: the volume `w` has no address on `b`, where the other node connects | add address.b = \"ip:port\", for this volume alone",
    "x.toml:27:17: error: \"192.0.2.11:0\" is no address for a mirror link | write an IP address and a port: \"192.0.2.11:7500\"",
    "x.toml:29:11: error: `lag-max = \"2h\"` in [hierarchy.h.volume.x] makes no sense: it is how old the newest thing may be that is lost with the source | write 100ms to 1h",
    "x.toml:30:15: error: `lag-kib-max = 1` in [hierarchy.h.volume.x] is out of range | write 64 to 16777216",
];
const THREE: &[&str] = &[
    "x.toml:14:21: error: the volume `v` is mirrored between two nodes, and its hierarchy has 3 | give [hierarchy.h] two nodes",
];
const ONE: &[&str] = &[
    "x.toml:14:21: error: the volume `v` is mirrored between two nodes, and its hierarchy has 1 | give [hierarchy.h] two nodes",
];
const BACK: &[&str] = &[
    "x.toml:12:14: error: `h` has the mirrored volume `v`, and would go back by itself (VOLUME V13) | a node that comes back has an old copy first: take `switchback = \"automatic\"` out",
];
const TWICE: &[&str] = &[
    "x.toml:21:21: error: the volume `v` is taken: line 14 has it in `h` | a volume's name is its own in the whole cluster",
    "x.toml:22:17: error: \"/dev/vg0/v\" on `a` is taken: line 15 has it | two volumes, or data and log, would overwrite each other",
    "x.toml:22:35: error: \"/dev/sdb1\" on `b` is taken: line 15 has it | two volumes, or data and log, would overwrite each other",
    "x.toml:23:17: error: \"192.0.2.11:7500\" is taken: line 16 has it | every volume has a place of its own",
];
const LOST: &[&str] = &[
    "x.toml:22:21: warning: the volume `v` is asynchronous, and its hierarchy fails over by itself: what was not copied yet is given up without a question | take mode = \"sync\", or failover = \"confirm\"",
];
