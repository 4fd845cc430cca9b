//! The demo from outside: what it says, what it exits with, and that nothing of it is left, however it ends.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_test_support::guard::Signal;
use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, binary, kit, wait_until};

/// How long a demo may take: a quarter of a minute on an idle machine, and each of its waits has a shorter limit.
const DEMO_LIMIT: Duration = Duration::from_secs(300);

/// The directory of kits in a place.
const KITS: &str = "it's \"kits\"";

/// A place of its own to run the demo in, in which everything has an awkward name.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new();
        folder.folder("t mp");
        Self { folder }
    }

    /// A directory with these kits, which nobody can write.
    fn kits(&self, names: &[&str]) -> PathBuf {
        let kits = self.folder.folder(KITS);
        for name in names {
            std::fs::copy(kit(name), kits.join(format!("{name}.wasm"))).unwrap();
        }
        std::fs::set_permissions(&kits, std::fs::Permissions::from_mode(0o555)).unwrap();
        kits
    }

    /// A copy of a program, made by a process of its own, so that executing it cannot fail for being written.
    fn copied(&self, program: &Path) -> PathBuf {
        let to = self.folder.folder("check out/bin").join(program.file_name().unwrap());
        assert!(Command::new("cp").arg(program).arg(&to).status().unwrap().success());
        to
    }

    fn start(&self, demo: &Path, arguments: &[&str]) -> Guard {
        let mut command = Command::new(demo);
        command.args(arguments).env("TMPDIR", self.folder.join("t mp")).env_remove("MAINSTAY_KEEP_TEMP");
        // Set by whoever works with a daemon of their own; it is not the demo's.
        command.env("MAINSTAY_STATE", "/nowhere").env("MAINSTAY_LOG", "error");
        Guard::start("demo", &mut command).unwrap().claim(&self.folder)
    }

    /// The demo that cargo has built for this test, with the programs and kits it is to use.
    fn start_here(&self, arguments: &[&str]) -> Guard {
        let (mainstay, kits) = (binary("mainstay"), self.kits(&["dns", "genapp"]));
        let tools = ["--mainstay", mainstay.to_str().unwrap(), "--kits", kits.to_str().unwrap()];
        self.start(Path::new(env!("CARGO_BIN_EXE_mainstay-demo")), &[&tools, arguments].concat())
    }

    /// Everything that ran is gone, and so are the files, but for what was kept on purpose.
    #[track_caller]
    fn is_left_clean(&self) {
        // What cleans up after a killed demo may still be at it.
        wait_until(WAIT_LIMIT, "nothing to run any more", || self.folder.running().is_empty());
        wait_until(WAIT_LIMIT, "no file to be left", || self.left().is_empty());
    }

    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join("t mp")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // Locks of port numbers, for all processes of a user; and what a failed demo keeps.
        names.filter(|name| !name.starts_with("mainstay-ports-") && !name.starts_with("mainstay-demo-")).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Else only root could remove what is in it. It is not there in every test.
        let _ = std::fs::set_permissions(self.folder.join(KITS), std::fs::Permissions::from_mode(0o755));
    }
}

#[track_caller]
fn exit_code(demo: &mut Guard) -> i32 {
    match demo.wait(DEMO_LIMIT) {
        Some(status) => status.code().unwrap_or(-1),
        None => panic!("the demo has not ended within {} s:\n{}", DEMO_LIMIT.as_secs(), demo.output()),
    }
}

#[test]
fn all_five_things_happen_wherever_it_is_and_nothing_is_left() {
    let place = Place::new();
    // As in a checkout: the binary beside the demo, and the kits above.
    let demo = place.copied(Path::new(env!("CARGO_BIN_EXE_mainstay-demo")));
    place.copied(&binary("mainstay"));
    std::os::unix::fs::symlink(place.kits(&["dns", "genapp"]), place.folder.join("check out/kits")).unwrap();
    let figures = place.folder.join("figures.json");
    let mut demo = place.start(&demo, &["--json", figures.to_str().unwrap()]);
    let code = exit_code(&mut demo);
    let said = demo.output();
    assert_eq!(code, 0, "{said}");
    place.is_left_clean();

    let (_, summary) = said.split_once("\nSummary\n").unwrap_or_else(|| panic!("no summary:\n{said}"));
    assert!(summary.contains("Nothing is left running."), "{summary}");
    assert!(!said.contains('\u{1b}'), "no colours where there is no terminal:\n{said}");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["in-service", "local-recovery", "failover", "power-cord", "failback"]);
    for (number, row) in (1..).zip(&rows) {
        let line = summary.lines().find(|line| line.starts_with(&format!("{number} ")));
        let line = line.unwrap_or_else(|| panic!("no step {number}:\n{summary}"));
        // Both are rounded, the one to a tenth and the other to a hundredth of what was measured.
        let own = line.strip_suffix(" ms").and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        let differ = own.map(|own| (own - row["own_share_ms"].as_f64().unwrap()).abs());
        assert!(differ.is_some_and(|differ| differ < 0.06), "{line}: {row}");
        match row["outage_ms"].as_f64() {
            None => assert_eq!(number, 1, "{row}"),
            Some(outage) => {
                assert!(line.contains(&format!("{:.3} s", outage / 1_000.0)), "{line}: {row}");
                // A repair may be over before a client that gets no time to ask notices anything; no move is.
                assert!(outage > 0.0 || number == 2, "{line}");
            }
        }
    }
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    for (signal, when, code) in [
        (Signal::SIGTERM, "the daemon listens", 128 + 15),
        (Signal::SIGINT, "3  The disk", 128 + 2),
        (Signal::SIGKILL, "2  The shop's process", -1),
    ] {
        let place = Place::new();
        let mut demo = place.start_here(&[]);
        demo.wait_for_line(DEMO_LIMIT, when);
        assert!(place.folder.running().len() > 2, "what runs is seen: {:?}", place.folder.running());
        assert!(demo.signal(signal));
        assert_eq!(exit_code(&mut demo), code, "{}", demo.output());
        if signal != Signal::SIGKILL {
            let said = demo.output();
            assert!(said.contains("Nothing is left running."), "{said}");
        }
        place.is_left_clean();
    }
}

#[test]
fn it_can_be_kept_to_play_with() {
    let place = Place::new();
    let mut demo = place.start_here(&["--keep"]);
    demo.wait_for_line(DEMO_LIMIT, "It is yours now.");
    let ends = demo.wait_for_line(WAIT_LIMIT, "Ctrl-C ends all of it.");
    assert!(!ends.is_empty());
    // What it says can be tried does what it says.
    let said = demo.output();
    let exported = said.lines().find_map(|line| line.trim().strip_prefix("export "));
    let ask = said.lines().find(|line| line.contains(" ask "));
    let (Some(exported), Some(ask)) = (exported, ask) else { panic!("no commands:\n{said}") };
    let tried = Command::new("/bin/sh")
        .args(["-c", &format!("export {exported}; \"$0\" status && {ask}"), binary("mainstay").to_str().unwrap()])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&tried.stdout);
    assert!(tried.status.success(), "{tried:?}");
    assert!(shown.contains("web: owned by ex02") && shown.contains("You are served by ex02."), "{shown}");

    assert!(demo.signal(Signal::SIGINT));
    assert_eq!(exit_code(&mut demo), 0, "{}", demo.output());
    place.is_left_clean();
}

#[test]
fn when_something_is_missing_it_says_what_and_keeps_what_is_needed_to_see_why() {
    let place = Place::new();
    let (mainstay, kits) = (binary("mainstay"), place.kits(&["genapp"]));
    let mut demo = place.start(
        Path::new(env!("CARGO_BIN_EXE_mainstay-demo")),
        &["--mainstay", mainstay.to_str().unwrap(), "--kits", kits.to_str().unwrap()],
    );
    assert_eq!(exit_code(&mut demo), 1, "{}", demo.output());
    let said = demo.output();
    assert!(said.contains("The demo failed. Step 1, In service: `mainstay config check"), "{said}");
    assert!(said.contains("`dns`"), "the kit is named:\n{said}");
    let kept = said.lines().find_map(|line| line.strip_prefix("kept for you: ")).unwrap_or_default();
    assert!(kept.ends_with("mainstay.toml") && Path::new(kept).is_file(), "{said}");
    place.is_left_clean();

    for (mainstay, kits, what) in [
        ("/nowhere/mainstay", kits.to_str().unwrap(), "the mainstay binary is not at /nowhere/mainstay: build it"),
        (mainstay.to_str().unwrap(), "/nowhere", "the directory of kits is not at /nowhere: build them (just kits)"),
    ] {
        let arguments = ["--mainstay", mainstay, "--kits", kits];
        let mut demo = place.start(Path::new(env!("CARGO_BIN_EXE_mainstay-demo")), &arguments);
        assert_eq!(exit_code(&mut demo), 1);
        assert!(demo.output().contains(what), "{}", demo.output());
    }
}
