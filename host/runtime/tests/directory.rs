//! The kit directory while files come, change and go.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{House, call, outcome, report};
use mainstay_runtime::{KitChange, KitDirectory, LoadError, Operation};
use serde_json::json;

/// Longer than any change takes to be noticed on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

struct Watched {
    house: House,
    dir: PathBuf,
    directory: KitDirectory,
}

impl Watched {
    async fn with(kits: &[(&str, &str)]) -> Self {
        let house = House::new();
        let dir = house.path("kits");
        std::fs::create_dir(&dir).unwrap();
        for (kit, file) in kits {
            put(kit, &dir.join(file));
        }
        let directory = KitDirectory::open(house.runtime.clone(), &dir).await.unwrap();
        Self { house, dir, directory }
    }

    /// The next change; several at once are a mistake of the test.
    async fn changed(&mut self) -> KitChange {
        let mut changes = tokio::time::timeout(LIMIT, self.directory.changed()).await.expect("a change is noticed");
        assert_eq!(changes.len(), 1, "{changes:?}");
        changes.pop().unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.directory.kits().into_keys().collect()
    }
}

/// As an operator should do it: written beside its place and moved there.
fn put(kit: &str, file: &Path) {
    replace(&std::fs::read(mainstay_test_support::kit(kit)).unwrap(), file);
}

fn replace(bytes: &[u8], file: &Path) {
    let new = file.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn what_is_there_is_loaded_and_what_is_no_kit_is_refused() {
    let watched = Watched::with(&[("null", "null.wasm"), ("genapp", "genapp.wasm"), ("null", "null.wasm.bak")]).await;
    assert_eq!(watched.names(), ["genapp", "null"]);
    assert!(watched.directory.refused().is_empty());
    assert_eq!(watched.directory.kit("null").unwrap().path(), watched.dir.join("null.wasm"));
    assert!(watched.directory.kit("dns").is_none());
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error() {
    let house = House::new();
    let error = KitDirectory::open(house.runtime.clone(), &house.path("none")).await.unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("has to be a folder"), "{error}");
}

#[tokio::test]
async fn kits_come_change_and_go_while_it_runs() {
    let mut watched = Watched::with(&[("null", "null.wasm")]).await;

    put("genapp", &watched.dir.join("app.wasm"));
    let added = watched.changed().await;
    assert!(matches!(&added, KitChange::Added(kit) if kit.name() == "genapp"), "{added:?}");
    assert_eq!(watched.names(), ["genapp", "null"]);

    // Another version: the same kit with a byte more in a section that nobody reads.
    let mut bytes = std::fs::read(mainstay_test_support::kit("null")).unwrap();
    bytes.extend_from_slice(&[0, 3, 1, b'x', b'y']);
    replace(&bytes, &watched.dir.join("null.wasm"));
    let replaced = watched.changed().await;
    let KitChange::Replaced { old, new } = replaced else { panic!("{replaced:?}") };
    assert_ne!(old.sha256(), new.sha256());

    std::fs::remove_file(watched.dir.join("null.wasm")).unwrap();
    let removed = watched.changed().await;
    let KitChange::Removed(kit) = removed else { panic!("{removed:?}") };
    assert_eq!(watched.names(), ["genapp"]);

    // Whoever holds it may go on, with the old version too.
    for kit in [kit, old] {
        let resource = watched.house.resource("nothing", json!({}));
        report(&outcome(&kit, call(Operation::QuickCheck, "nothing", &json!({}), &resource)).await);
    }
}

#[tokio::test]
async fn a_broken_version_leaves_the_old_one_serving_and_says_so() {
    let mut watched = Watched::with(&[("null", "null.wasm")]).await;
    let file = watched.dir.join("null.wasm");
    replace(b"\0asm broken", &file);
    let refused = watched.changed().await;
    let KitChange::Refused(refused) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.file, file);
    assert_eq!(refused.serving.as_ref().unwrap().name(), "null");
    assert_eq!(watched.names(), ["null"]);
    assert_eq!(watched.directory.refused().len(), 1);

    put("null", &file);
    let mended = watched.changed().await;
    assert!(matches!(mended, KitChange::Replaced { .. }), "{mended:?}");
    assert!(watched.directory.refused().is_empty());

    replace(b"broken again", &file);
    assert!(matches!(watched.changed().await, KitChange::Refused(_)));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(watched.changed().await, KitChange::Removed(_)));
    assert!(watched.directory.refused().is_empty() && watched.names().is_empty());

    // One that never was a kit is told of too when it goes: somebody shows what is refused.
    replace(b"no kit", &file);
    assert!(matches!(watched.changed().await, KitChange::Refused(_)));
    std::fs::remove_file(&file).unwrap();
    let withdrawn = watched.changed().await;
    assert!(matches!(&withdrawn, KitChange::Withdrawn { file: gone } if *gone == file), "{withdrawn:?}");
}

#[tokio::test]
async fn of_two_with_one_name_the_second_waits_for_the_first_to_go() {
    let mut watched = Watched::with(&[("null", "a.wasm"), ("null", "b.wasm")]).await;
    let refused = watched.directory.refused();
    assert_eq!(refused.len(), 1);
    let (a, b) = (watched.dir.join("a.wasm"), watched.dir.join("b.wasm"));
    assert!(
        matches!(&*refused[0].error, LoadError::DuplicateName { subject, other } if subject.file == b && *other == a)
    );
    let text = refused[0].error.to_string();
    assert!(text.contains("a.wasm") && text.contains("b.wasm"), "both are named: {text}");

    std::fs::remove_file(&a).unwrap();
    let mut changes = Vec::new();
    while changes.len() < 2 {
        changes.extend(tokio::time::timeout(LIMIT, watched.directory.changed()).await.unwrap());
    }
    assert!(matches!(&changes[0], KitChange::Removed(kit) if kit.path() == a), "{changes:?}");
    assert!(matches!(&changes[1], KitChange::Added(kit) if kit.path() == b), "{changes:?}");
    assert_eq!(watched.directory.kit("null").unwrap().path(), b);
}

#[tokio::test]
async fn a_file_is_loaded_when_it_has_settled_not_while_it_is_written() {
    let mut watched = Watched::with(&[]).await;
    let bytes = std::fs::read(mainstay_test_support::kit("null")).unwrap();
    let file = watched.dir.join("slow.wasm");
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut out = std::fs::File::create(file).unwrap();
        let mut longest = Duration::ZERO;
        // Longer than three looks, and never still for two, unless the machine is too busy for that.
        for piece in bytes.chunks(bytes.len() / 20) {
            let began = Instant::now();
            out.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            longest = longest.max(began.elapsed());
        }
        longest
    });
    let mut changes = vec![watched.changed().await];
    while !matches!(changes.last(), Some(KitChange::Added(_))) {
        changes.push(watched.changed().await);
    }
    let stood_still = writer.join().unwrap() > Duration::from_millis(400);
    assert!(changes.len() == 1 || stood_still, "{changes:?}");
}

#[tokio::test]
async fn a_directory_that_goes_away_keeps_what_is_loaded_and_tells_once() {
    let mut watched = Watched::with(&[("null", "null.wasm")]).await;
    let elsewhere = watched.house.path("elsewhere");
    std::fs::rename(&watched.dir, &elsewhere).unwrap();
    let change = watched.changed().await;
    let KitChange::Unreadable { dir, problem } = change else { panic!("{change:?}") };
    assert!(dir == watched.dir && problem.contains("has to be a folder"), "{problem}");
    assert_eq!(watched.names(), ["null"]);
    std::fs::rename(&elsewhere, &watched.dir).unwrap();
    let change = watched.changed().await;
    assert!(matches!(change, KitChange::Readable { .. }), "told once, and then that it is back: {change:?}");
    assert_eq!(watched.names(), ["null"]);
}

#[tokio::test]
async fn a_reader_that_is_interrupted_loses_nothing() {
    let mut watched = Watched::with(&[]).await;
    put("null", &watched.dir.join("null.wasm"));
    let wait = async {
        loop {
            // Dropped again and again, as by a loop that waits for other things too.
            if let Ok(changes) = tokio::time::timeout(Duration::from_millis(20), watched.directory.changed()).await {
                return changes;
            }
        }
    };
    let changes = tokio::time::timeout(LIMIT, wait).await.unwrap();
    assert!(matches!(&changes[..], [KitChange::Added(_)]), "{changes:?}");
}

#[tokio::test]
async fn watching_ends_with_the_directory() {
    let watched = Watched::with(&[("null", "null.wasm")]).await;
    let kit = watched.directory.kit("null").unwrap();
    let Watched { house, directory, .. } = watched;
    drop(directory);
    drop(house.runtime);
    // The watcher held the last other hold on it.
    let wait = async {
        while Arc::strong_count(&kit) > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_everybody_may_change_is_not_loaded() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let mut watched = Watched::with(&[]).await;
    let file = watched.dir.join("null.wasm");
    let aside = watched.house.path("null.wasm");
    put("null", &aside);
    mode(&aside, 0o666);
    std::fs::rename(&aside, &file).unwrap();
    let KitChange::Refused(refused) = watched.changed().await else { panic!("it is refused") };
    let error = refused.error.to_string();
    assert!(error.contains("null.wasm may be written by everybody") && error.contains("chmod o-w"), "{error}");
    mode(&file, 0o644);
    assert!(matches!(watched.changed().await, KitChange::Added(_)));
    // What is loaded from a directory that everybody may write is looked at when it comes.
    mode(&watched.dir, 0o777);
    put("genapp", &watched.dir.join("genapp.wasm"));
    let KitChange::Refused(refused) = watched.changed().await else { panic!("it is refused") };
    assert!(refused.error.to_string().contains("kits may be written by everybody"), "{}", refused.error);
    mode(&watched.dir, 0o755);
}
