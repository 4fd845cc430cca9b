//! Configs with mistakes: everything that is wrong is told at once, with its place and what to do; nothing is started,
//! written or half applied.
//!
//! Each file in `cases/config` is a comment, a config, `----`, and what `mainstay config check` says of it. `{dir}` stands
//! for the folder in which it is checked. With `MAINSTAY_BLESS=1` what is said now is written there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mainstay_test_e2e::node::{put_file, put_kit};
use mainstay_test_e2e::{Said, mainstay};
use mainstay_test_support::{Authority, TempDir, binary};

/// A folder with everything that a case may name.
fn place() -> TempDir {
    let dir = TempDir::new();
    // No more than a case is about: a check compiles every kit there is.
    for (folder, kits) in
        [("kits", &["genapp", "null"][..]), ("all-kits", &["dns", "genapp", "null"]), ("one-kit", &["null"])]
    {
        let folder = dir.folder(folder);
        kits.iter().for_each(|kit| put_kit(&folder, kit));
    }
    let broken = dir.folder("broken-kits");
    put_kit(&broken, "null");
    put_file(&broken, "text.wasm", b"not yet built");
    put_file(&broken, "module.wasm", b"\0asm\x01\0\0\0");
    dir.folder("programs");
    dir.folder("open-folder");
    for program in ["programs/start", "programs/stop", "programs/open", "open-folder/start"] {
        dir.script(program, "true");
    }
    dir.write("programs/plain", "");
    Authority::new(&binary("mainstay"), "shop").node("a", &dir.join("tls"));
    dir.folder("secrets");
    for secret in ["key", "open"] {
        dir.write(format!("secrets/{secret}"), "c2VjcmV0\n");
    }
    let modes = [
        ("programs/open", 0o777),
        ("programs/plain", 0o644),
        ("open-folder", 0o777),
        ("secrets/key", 0o600),
        ("secrets/open", 0o644),
    ];
    for (path, mode) in modes {
        fs::set_permissions(dir.join(path), fs::Permissions::from_mode(mode)).expect("it was just made");
    }
    dir
}

fn check(config: &Path, more: &[&str]) -> Said {
    mainstay([Path::new("config"), "check".as_ref(), config].into_iter().chain(more.iter().map(Path::new)))
}

/// A case's file, its config, and what it says that is said of it.
fn cases() -> Vec<(PathBuf, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/config");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("the cases can be listed").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (config, said) =
            text.split_once("----\n").unwrap_or_else(|| panic!("{} has no line `----`", file.display()));
        let (config, said) = (config.to_owned(), said.to_owned());
        (file, config, said)
    };
    files.into_iter().map(read).collect()
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_to_do() {
    let dir = place();
    let here = dir.path().display().to_string();
    let bless = std::env::var_os("MAINSTAY_BLESS").is_some_and(|value| value == "1");
    let cases = cases();
    assert!(cases.len() > 10, "the cases are found: {}", cases.len());
    let mut wrong = Vec::new();
    for (file, config, expected) in cases {
        let name = file.file_stem().expect("it is a file").to_string_lossy().into_owned();
        let config_file = dir.write(format!("{name}.toml"), config.replace("{dir}", &here));
        let before = listing(dir.path());
        let said = check(&config_file, &[]);
        assert_eq!(listing(dir.path()), before, "{name}: a check leaves nothing behind");
        assert_eq!(said.err, "", "{name}: {said:#?}");
        let told =
            format!("exit code {}\n{}", said.code.expect("no signal ended it"), said.out.replace(&here, "{dir}"));
        if ["everything", "good", "not-toml", "broken-kits"].contains(&&*name) {
            as_json_too(&name, &config_file, &said);
        }
        if told != expected && bless {
            fs::write(&file, format!("{config}----\n{told}")).expect("a case can be written");
        } else if told != expected {
            wrong.push(format!("{name}: expected\n{expected}\nand it says\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "MAINSTAY_BLESS=1 writes what is said now.\n{}", wrong.join("\n"));
}

/// What `--json` says is the same: as many, at the same lines.
fn as_json_too(name: &str, config: &Path, said: &Said) {
    let json = check(config, &["--json"]);
    assert_eq!(json.code, said.code, "{name}: {json:#?}");
    let json = json.json();
    let diagnostics = json["diagnostics"].as_array().expect("a list");
    let lines: Vec<String> = diagnostics
        .iter()
        .map(|it| {
            format!(
                "{}:{}:{}: {}: ",
                config.display(),
                it["line"],
                it["column"],
                it["severity"].as_str().unwrap_or("?")
            )
        })
        .collect();
    let told: Vec<&str> = said.out.lines().filter(|line| line.starts_with(&format!("{}:", config.display()))).collect();
    // The last line counts them.
    let (_, told) = told.split_last().expect("it always says how many");
    assert_eq!(told.len(), lines.len(), "{name}: {told:#?} {lines:#?}");
    for (told, line) in told.iter().zip(&lines) {
        assert!(told.starts_with(line.as_str()), "{name}: {told} and {line}");
    }
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("it can be listed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The daemon does not start with a config whose text is wrong: it says the same, and has not even made its folder.
#[test]
fn the_daemon_does_not_start_and_says_the_same() {
    let dir = place();
    let here = dir.path().display().to_string();
    for (file, config, expected) in cases() {
        let name = file.file_stem().expect("it is a file").to_string_lossy().into_owned();
        // Those whose text is right but for kits, params and grants start: see docs/decisions/0004.
        if !["everything", "not-toml", "empty", "timers", "circle", "paths", "names", "modes"].contains(&&*name) {
            continue;
        }
        let config = dir.write(format!("{name}.toml"), config.replace("{dir}", &here));
        let state = dir.join("state");
        let said = mainstay([
            "--state".as_ref(),
            state.as_path(),
            "run".as_ref(),
            "--node".as_ref(),
            "a".as_ref(),
            "--config".as_ref(),
            &config,
        ]);
        assert_eq!(said.code, Some(2), "{name}: {said:#?}");
        assert!(!state.exists(), "{name}: nothing is written");
        let err = said.err.replace(&here, "{dir}");
        // The daemon looks at one node's params, so it may say less than the check of all nodes; never anything else.
        let errors = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.contains(": error: ")).map(str::to_owned).collect()
        };
        let (told, checked) = (errors(&err), errors(&expected));
        assert!(
            !told.is_empty() && told.iter().all(|line| checked.contains(line)),
            "{name}: {err}\nand the check says\n{expected}"
        );
    }
}

/// Files that are no config at all.
#[test]
fn what_cannot_be_read_is_told() {
    let dir = place();
    let missing = dir.join("missing.toml");
    check(&missing, &[]).fails_with(1, &["missing.toml", "No such file"]);
    check(&dir.join("kits"), &[]).fails_with(1, &["/kits cannot be read"]);
    let binary = dir.write("binary.toml", [0xff, 0xfe, 0x00]);
    check(&binary, &[]).fails_with(1, &["binary.toml", "UTF-8"]);
    let run = |config: &Path| {
        mainstay([
            "--state".as_ref(),
            dir.join("state").as_path(),
            "run".as_ref(),
            "--node".as_ref(),
            "a".as_ref(),
            "--config".as_ref(),
            config,
        ])
    };
    run(&missing).fails_with(2, &["missing.toml", "No such file"]);
    run(&binary).fails_with(2, &["binary.toml", "UTF-8"]);
    assert!(!dir.join("state").exists());
    // Nobody who uses an editor of another system is told anything else.
    let good = "cluster = \"c\"\r\nkits = \"one-kit\"\r\n[node.a]\r\n[hierarchy.h]\r\nnodes = [\"a\"]\r\n[hierarchy.h.resource.r]\r\nkit = \"null\"\r\n";
    check(&dir.write("crlf.toml", good), &[]).ok();
    check(&dir.write("bom.toml", format!("\u{feff}{good}")), &[]).ok();
    let out = check(&dir.write("crlf-wrong.toml", good.replace("null", "nul")), &[]);
    assert!(out.out.contains("crlf-wrong.toml:7:"), "{out:#?}");
}

/// A check of one node looks at that node's params only; a node that is not there is told.
#[test]
fn the_check_of_one_node() {
    let dir = place();
    let config = "cluster = \"shop\"\nkits = \"one-kit\"\ncertificates = \"tls\"\n[path.lan]\n[node.a]\naddress.lan = \"127.0.0.1:1\"\n[node.b]\naddress.lan = \"127.0.0.1:2\"\n\
                  [hierarchy.h]\nnodes = [\"a\", \"b\"]\n[hierarchy.h.resource.r]\nkit = \"null\"\nparams-on.b = { colour = \"red\" }\n";
    let config = dir.write("c.toml", config);
    check(&config, &["--node", "a"]).ok();
    for args in [&["--node", "b"][..], &[]] {
        let said = check(&config, args);
        assert!(said.code == Some(1) && said.out.contains("c.toml:13:") && said.out.contains("`r` on b"), "{said:#?}");
    }
    let said = check(&config, &["--node", "c"]);
    assert!(said.code == Some(1) && said.out.contains("error: the config has no node `c`"), "{said:#?}");
}

/// The daemon has to know which node it is.
#[test]
fn which_node_it_is() {
    let dir = place();
    let config = dir.write(
        "c.toml",
        "cluster = \"c\"\nkits = \"one-kit\"\ncertificates = \"tls\"\n[node.a]\n[node.b]\n[path.lan]\n"
            .replace("[node.b]\n", "address.lan = \"127.0.0.1:1\"\n[node.b]\naddress.lan = \"127.0.0.1:2\"\n"),
    );
    let run = |more: &[&str]| {
        let args =
            ["--state".as_ref(), dir.join("state").as_path(), "run".as_ref(), "--config".as_ref(), config.as_path()]
                .map(Path::to_owned);
        mainstay(args.into_iter().chain(more.iter().map(PathBuf::from)))
    };
    run(&["--node", "c"]).fails_with(2, &["the config has no node `c`; its nodes are a, b"]);
    run(&[]).fails_with(2, &["the config has no node with this machine's name", "its nodes are a, b", "--node NAME"]);
    assert!(!dir.join("state").exists());
}
