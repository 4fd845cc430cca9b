//! The kit directory while the daemon runs: files come, change, break and go.

use std::fs;
use std::path::Path;

use mainstay_test_e2e::app::PROGRAMS;
use mainstay_test_e2e::node::{put_file, put_kit};
use mainstay_test_e2e::{App, Cluster};
use mainstay_test_hostile::forge;
use mainstay_test_support::kit;
use serde_json::Value;

/// The genapp kit that says it is of this version; else the same, byte for byte.
fn genapp(version: &str) -> Vec<u8> {
    let file = kit("genapp");
    let inspected = mainstay_test_e2e::mainstay([Path::new("kit"), "inspect".as_ref(), "--json".as_ref(), &file]);
    let mut manifest = inspected.json()["manifest"].clone();
    manifest["manifest"] = 1.into();
    manifest["version"] = version.into();
    forge::with_manifest(&fs::read(file).unwrap(), &manifest)
}

/// One node whose kit directory has not got genapp, although a resource wants it.
fn without_its_kit() -> (Cluster, App) {
    let mut cluster = Cluster::new(&["a"]);
    let app = cluster.app("web");
    cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
    fs::remove_file(cluster.node("a").kits().join("genapp.wasm")).unwrap();
    cluster.start_all();
    (cluster, app)
}

fn refused(status: &mainstay_test_e2e::Status) -> Vec<String> {
    status.refused().iter().filter_map(|it| it["error"].as_str().map(str::to_owned)).collect()
}

/// A kit that was forgotten is put there, and its resource is brought in service by itself.
#[test]
fn a_kit_that_comes_makes_its_resources_usable() {
    let (cluster, app) = without_its_kit();
    let status = cluster.wait_for("a", "an alarm", |status| !status.alarms().is_empty());
    let alarm = status.alarms().join("\n");
    assert!(alarm.contains("web cannot be brought in service on this node: its kit `genapp` is not loaded"), "{alarm}");
    let refused = cluster.node("a").mainstay(&["switchover", "shop", "a"]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert_eq!(app.on("a").begun("restore"), 0);

    put_kit(&cluster.node("a").kits(), "genapp");
    let status = cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    assert_eq!(status.alarms(), [""; 0]);
    let listed = cluster.node("a").mainstay(&["kit", "list"]).ok();
    assert!(listed.contains("genapp") && listed.contains("null"), "{listed}");
}

/// A file that is being copied is half there for a while: it is never taken for the whole.
#[test]
fn a_kit_that_is_copied_slowly_is_loaded_when_it_is_whole() {
    use std::io::Write as _;
    let (cluster, _app) = without_its_kit();
    let bytes = fs::read(kit("genapp")).unwrap();
    let mut file = fs::File::create(cluster.node("a").kits().join("genapp.wasm")).unwrap();
    for part in bytes.chunks(bytes.len() / 8) {
        file.write_all(part).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    drop(file);
    let status = cluster.wait_for("a", "web to serve", |status| status.state("web", "a") == "ISP");
    assert_eq!(refused(&status), [""; 0]);
}

/// A new version takes the place of the old one, and whatever is in service stays there.
#[test]
fn a_new_version_takes_over() {
    let (cluster, app) = Cluster::of_one();
    let pid = app.on("a").pid();
    put_file(&cluster.node("a").kits(), "genapp.wasm", &genapp("0.2.0"));
    cluster.wait_for("a", "version 0.2.0", |status| status.kits().contains(&("genapp", "0.2.0")));
    let before = app.on("a").begun("quick-check");
    app.on("a").wait_for_begin("quick-check", before + 2);
    let status = cluster.node("a").status();
    assert_eq!((status.state("web", "a"), status.alarms()), ("ISP", vec![]));
    assert_eq!((app.on("a").pid(), app.on("a").begun("restore")), (pid, 1));
    assert!(cluster.node("a").mainstay(&["kit", "list"]).ok().contains("0.2.0"));
}

/// A new version that is broken leaves the old one serving, and everybody who looks is told.
#[test]
fn a_broken_version_leaves_the_old_one_serving() {
    let (cluster, app) = Cluster::of_one();
    let node = cluster.node("a");
    let whole = fs::read(kit("genapp")).unwrap();
    for (what, bytes, words) in [
        ("cut off", &whole[..whole.len() / 2], "is not a valid component"),
        ("a text", b"not yet built".as_slice(), "is not WebAssembly"),
        ("empty", b"".as_slice(), "is not WebAssembly"),
    ] {
        put_file(&node.kits(), "genapp.wasm", bytes);
        let status = cluster.wait_for("a", what, |status| refused(status).iter().any(|error| error.contains(words)));
        assert_eq!(status.refused()[0]["serving"], "genapp 0.1.0", "{what}");
        assert!(status.kits().contains(&("genapp", "0.1.0")), "{what}");
        let shown = node.mainstay(&["status"]).ok();
        assert!(shown.contains("kit not loaded: ") && shown.contains("(genapp 0.1.0 goes on serving)"), "{shown}");
        let listed = node.mainstay(&["kit", "list"]);
        assert!(listed.code == Some(1) && listed.out.contains(words), "{what}: {listed:#?}");
        // It goes on serving: checks and repairs are made.
        let before = app.on("a").begun("quick-check");
        app.on("a").wait_for_begin("quick-check", before + 1);
    }
    app.on("a").dies();
    app.on("a").wait_for_begin("recover", 0);
    cluster.wait_for("a", "web to be well again", |status| status.state("web", "a") == "ISP");

    put_kit(&node.kits(), "genapp");
    let status = cluster.wait_for("a", "nothing to be refused", |status| refused(status).is_empty());
    assert_eq!(status.alarms(), [""; 0]);
    node.mainstay(&["kit", "list"]).ok();
    app.was_never_doubled();
}

/// Its file is gone: the application is left alone, and nobody looks after it, which is an alarm.
#[test]
fn a_kit_whose_file_is_gone_is_missed() {
    let (cluster, app) = Cluster::of_one();
    let pid = app.on("a").pid();
    fs::remove_file(cluster.node("a").kits().join("genapp.wasm")).unwrap();
    let status = cluster.wait_for("a", "web to be unprotected, and an alarm", |status| {
        status.state("web", "a") == "ISU" && status.alarm("its kit `genapp` is not loaded").is_some()
    });
    assert!(status.reason("web", "a").contains("its kit `genapp` is not loaded"), "{}", status.reason("web", "a"));
    assert_eq!(app.on("a").pid(), pid);
    put_kit(&cluster.node("a").kits(), "genapp");
    cluster.wait_for("a", "web to be protected again", |status| {
        status.state("web", "a") == "ISP" && status.alarms().is_empty()
    });
    assert_eq!((app.on("a").pid(), app.on("a").begun("restore"), app.on("a").begun("recover")), (pid, 1, 0));
}

/// Two files with kits of one name: which is meant is not for the host to guess. The first goes on serving.
#[test]
fn two_files_with_one_name() {
    let (cluster, app) = Cluster::of_one();
    let node = cluster.node("a");
    put_file(&node.kits(), "a-better-genapp.wasm", &genapp("0.3.0"));
    let status = cluster.wait_for("a", "the second to be refused", |status| !status.refused().is_empty());
    let error = refused(&status).join("\n");
    assert!(error.contains("a-better-genapp.wasm") && error.contains("genapp.wasm"), "{error}");
    assert!(status.kits().contains(&("genapp", "0.1.0")), "the one that was there first serves");
    // The other one takes over as soon as it is the only one.
    fs::remove_file(node.kits().join("genapp.wasm")).unwrap();
    let status = cluster.wait_for("a", "the other to serve", |status| status.kits().contains(&("genapp", "0.3.0")));
    assert_eq!(refused(&status), [""; 0]);
    cluster.wait_for("a", "no alarm", |status| status.alarms().is_empty() && status.state("web", "a") == "ISP");
    assert_eq!(app.on("a").begun("restore"), 1);
}

/// What is refused is told as long as it is there, and not any longer.
#[test]
fn a_refused_file_that_goes_is_told_no_more() {
    let (cluster, _app) = Cluster::of_one();
    let node = cluster.node("a");
    put_file(&node.kits(), "draft.wasm", b"not yet built");
    cluster.wait_for("a", "it to be refused", |status| refused(status).len() == 1);
    // Anything else in the directory is nobody's business.
    put_file(&node.kits(), "README", b"kits of the shop");
    put_file(&node.kits(), "genapp.wasm.bak", b"");
    fs::remove_file(node.kits().join("draft.wasm")).unwrap();
    cluster.wait_for("a", "nothing to be refused", |status| refused(status).is_empty());
    node.mainstay(&["kit", "list"]).ok();
}

/// The directory itself is gone, as when its file system is not mounted: what is loaded stays, and status says so.
#[test]
fn the_directory_is_gone_for_a_while() {
    let (cluster, app) = Cluster::of_one();
    let node = cluster.node("a");
    let aside = node.folder().join("aside");
    fs::rename(node.kits(), &aside).unwrap();
    let status = cluster.wait_for("a", "it to be missed", |status| !status.troubles().is_empty());
    assert!(status.troubles()[0].contains("kits"), "{:?}", status.troubles());
    assert!(node.mainstay(&["status"]).ok().contains("this node: "));
    let before = app.on("a").begun("quick-check");
    app.on("a").wait_for_begin("quick-check", before + 2);
    assert_eq!(node.status().state("web", "a"), "ISP");
    fs::rename(&aside, node.kits()).unwrap();
    cluster.wait_for("a", "no trouble", |status| status.troubles().is_empty());
    // A new file is noticed there as before.
    put_file(&node.kits(), "genapp.wasm", &genapp("0.4.0"));
    cluster.wait_for("a", "version 0.4.0", |status| status.kits().contains(&("genapp", "0.4.0")));
}

/// A new version with other params, which the config does not fit any more: the old one goes on serving, and which param
/// it is, is told. The daemon that starts next has only the new one, and leaves the application where it is.
#[test]
fn a_new_version_that_the_params_do_not_fit() {
    let (mut cluster, app) = Cluster::of_one();
    let pid = app.on("a").pid();
    let file = kit("genapp");
    let inspected = mainstay_test_e2e::mainstay([Path::new("kit"), "inspect".as_ref(), "--json".as_ref(), &file]);
    let mut manifest = inspected.json()["manifest"].clone();
    manifest["manifest"] = 1.into();
    manifest["version"] = "1.0.0".into();
    let Value::Array(required) = &mut manifest["params"]["required"] else { panic!("{manifest:#}") };
    required.push("licence-key".into());
    manifest["params"]["properties"]["licence-key"] = serde_json::json!({ "type": "string" });
    put_file(&cluster.node("a").kits(), "genapp.wasm", &forge::with_manifest(&fs::read(file).unwrap(), &manifest));
    let status = cluster.wait_for("a", "the trouble to be told", |status| {
        status.troubles().iter().any(|it| it.contains("licence-key") && it.contains("0.1.0 goes on serving it"))
    });
    assert!(status.kits().contains(&("genapp", "1.0.0")) && status.alarms().is_empty());
    // It is looked after as before.
    app.on("a").dies();
    app.on("a").wait_for_begin("recover", 0);
    cluster.wait_for("a", "web to be well", |status| status.state("web", "a") == "ISP");
    let pid = app.on("a").pid().filter(|now| Some(*now) != pid);
    assert!(pid.is_some());
    cluster.kill("a");
    cluster.start("a");
    cluster.wait_for("a", "an alarm", |status| status.alarm("licence-key").is_some());
    assert_eq!(app.on("a").pid(), pid);
    assert_eq!(PROGRAMS.map(|program| app.on("a").begun(program))[..2], [1, 0]);
    put_kit(&cluster.node("a").kits(), "genapp");
    cluster.wait_for("a", "no alarm", |status| status.alarms().is_empty() && status.state("web", "a") == "ISP");
    assert_eq!(app.on("a").pid(), pid);
}
