//! Kits without a daemon, as a pipeline checks them: `mainstay kit list DIRECTORY`, `inspect`, `run`.

use std::fs;

use mainstay_test_e2e::{Said, mainstay};
use mainstay_test_support::{TempDir, kit};
use serde_json::{Value, json};

/// Runs one of GenApp's operations by hand, with programs in a folder.
fn by_hand(folder: &TempDir, operation: &str, more: &[&str]) -> Said {
    let file = kit("genapp");
    let path = |name: &str| folder.join(name).display().to_string();
    let mut args: Vec<String> = ["kit", "run"].map(str::to_owned).to_vec();
    args.extend([file.display().to_string(), operation.to_owned()]);
    for name in ["restore", "remove", "quick-check"] {
        args.extend(["--param".to_owned(), format!("{name}={}", path(name))]);
        args.extend(["--grant-command".to_owned(), path(name)]);
    }
    args.extend(more.iter().map(|&it| it.to_owned()));
    mainstay(args)
}

/// An application that is a file.
fn application() -> TempDir {
    let folder = TempDir::new();
    let up = folder.join("up").display().to_string();
    folder.script("restore", &format!("echo \"$@\" > {up}"));
    folder.script("remove", &format!("rm -f {up}"));
    folder.script("quick-check", &format!("test -f {up} || {{ echo 'it is not there' >&2; exit 1; }}"));
    folder
}

#[test]
fn every_shipped_kit_is_inspected_without_a_problem() {
    for name in ["null", "genapp", "dns", "volume"] {
        let file = kit(name).display().to_string();
        let said = mainstay(["kit", "inspect", &file]).ok();
        for words in [&format!("{name} 0.1.0: "), "licence   MIT OR Apache-2.0", "contract  mainstay:kit", "no problem"]
        {
            assert!(said.contains(words), "{words:?} is not in\n{said}");
        }
        let json: Value = mainstay(["kit", "inspect", "--json", &file]).json();
        assert_eq!((&json["manifest"]["name"], &json["problems"]), (&json!(name), &json!([])));
        assert!(json["exports"].as_array().is_some_and(|all| !all.is_empty()), "{json}");
    }
    let dns: Value = mainstay(["kit", "inspect", "--json", &kit("dns").display().to_string()]).json();
    let interfaces: Vec<&str> =
        dns["manifest"]["needs"].as_array().unwrap().iter().filter_map(|need| need["interface"].as_str()).collect();
    assert!(interfaces.contains(&"net"), "{interfaces:?}");
}

#[test]
fn what_is_no_kit_fails_the_pipeline() {
    let folder = TempDir::new();
    let good = fs::read(kit("null")).unwrap();
    for (name, bytes, words) in [
        ("text.wasm", &b"not a kit"[..], "not WebAssembly"),
        ("empty.wasm", b"", "empty"),
        ("cut.wasm", &good[..good.len() / 2], "cut.wasm"),
        ("core.wasm", b"\0asm\x01\0\0\0", "core module"),
    ] {
        let file = folder.write(name, bytes).display().to_string();
        let said = mainstay(["kit", "inspect", &file]);
        assert_eq!(said.code, Some(1), "{name}: {said:#?}");
        let told = format!("{}{}", said.out, said.err);
        assert!(told.contains(words) && told.contains(name), "{name}: {words:?} is not in\n{told}");
        let json = mainstay(["kit", "inspect", "--json", &file]);
        assert_eq!(json.code, Some(1));
        assert!(json.json()["problems"].as_array().is_some_and(|all| !all.is_empty()), "{json:#?}");
        mainstay(["kit", "run", &file, "quick-check"]).fails_with(1, &[name]);
    }
    mainstay(["kit", "inspect", "/nowhere/x.wasm"]).fails_with(1, &["/nowhere/x.wasm", "No such file"]);
}

#[test]
fn a_directory_is_listed_with_what_is_wrong_in_it() {
    let folder = TempDir::new();
    fs::copy(kit("null"), folder.join("null.wasm")).unwrap();
    fs::copy(kit("genapp"), folder.join("genapp.wasm")).unwrap();
    folder.write("README.txt", "no kit, and not meant to be one");
    let at = folder.path().display().to_string();
    let json = mainstay(["kit", "list", "--json", &at]);
    assert_eq!(json.code, Some(0), "{json:#?}");
    let names: Vec<Value> = json.json()["kits"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["genapp", "null"]);

    folder.write("bad.wasm", "no kit");
    fs::copy(kit("null"), folder.join("twice.wasm")).unwrap();
    let said = mainstay(["kit", "list", &at]);
    assert_eq!(said.code, Some(1));
    for words in ["genapp           0.1.0", "refused: ", "bad.wasm", "twice.wasm, kit `null`: a kit of the same name"] {
        assert!(said.out.contains(words), "{words:?} is not in\n{}", said.out);
    }
    let json = mainstay(["kit", "list", "--json", &at]).json();
    assert_eq!(json["refused"].as_array().map(Vec::len), Some(2), "{json}");
    mainstay(["kit", "list", "/nowhere"]).fails_with(1, &["the directory /nowhere cannot be read"]);
}

/// Each operation by hand; the exit code says whether it went well.
#[test]
fn operations_by_hand() {
    let app = application();
    let down = by_hand(&app, "quick-check", &[]);
    assert!(down.code == Some(1) && down.out.contains("it is not there"), "{down:#?}");
    let up = by_hand(&app, "restore", &["--tag", "web", "--param", "id=shop"]).ok();
    assert!(up.starts_with("ok, changed"), "{up}");
    assert_eq!(fs::read_to_string(app.join("up")).unwrap().trim(), "-t web -i shop");
    by_hand(&app, "quick-check", &[]).ok();
    let report = by_hand(&app, "quick-check", &["--json"]).json();
    assert!(report.to_string().contains("healthy"), "{report}");
    by_hand(&app, "remove", &[]).ok();
    assert!(!app.join("up").exists());
}

/// Whether a node is ready, by hand: of a kit that can say so.
#[test]
fn readiness_by_hand() {
    let app = application();
    assert_eq!(by_hand(&app, "assess", &[]).ok().trim(), "ready", "there is no program to ask");
    let program = app.script("readiness", "echo 'no room' >&2; exit 1").display().to_string();
    let param = format!("readiness={program}");
    let more = ["--param", &param, "--grant-command", &program];
    let said = by_hand(&app, "assess", &more);
    assert_eq!(said.code, Some(1), "{said:#?}");
    for words in ["not ready", "blocking (exit-code)", "no room", "exit-code = 1"] {
        assert!(said.out.contains(words), "{words:?} is not in\n{}", said.out);
    }
    let json = by_hand(&app, "assess", &[&more[..], &["--json"]].concat()).json();
    assert_eq!(json["findings"][0]["weight"], "blocking", "{json}");
    app.script("readiness", "exit 0");
    assert_eq!(by_hand(&app, "assess", &more).ok().trim(), "ready");
    let null = kit("null").display().to_string();
    mainstay(["kit", "run", &null, "assess"]).fails_with(1, &["null", "does not export `readiness`"]);
}

/// Called wrongly: everything that is wrong at once, and nothing is run.
#[test]
fn operations_by_hand_that_cannot_be() {
    let app = application();
    let file = kit("genapp").display().to_string();
    let restore = app.join("restore").display().to_string();
    let param = format!("restore={restore}");
    // A param is missing, one is unknown, and nothing is granted.
    let said = mainstay(["kit", "run", &file, "restore", "--param", &param, "--param", "colour=red"]);
    said.fails_with(1, &["genapp cannot be called", "remove", "colour", "command"]);
    let said = mainstay(["kit", "run", &file, "restore", "--params", "[1"]);
    said.fails_with(1, &["--params [1"]);
    let said = mainstay(["kit", "run", &file, "restore", "--param", "restore"]);
    said.fails_with(1, &["--param restore: write KEY=VALUE"]);
    by_hand(&app, "restore", &["--grant-command", "/nowhere/program"]).fails_with(1, &["/nowhere/program"]);
    assert!(!app.join("up").exists(), "nothing was run");
    // It takes too long: told as what it is, and what was started is gone.
    app.script("restore", "sleep 600");
    let said = by_hand(&app, "restore", &["--budget", "2s"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert_eq!(app.running(), [""; 0], "{said:#?}");
}
