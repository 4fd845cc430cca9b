//! From outside of the crate, as other crates use it.
//!
//! [`mainstay_test_support::binary`] also builds this file along with a program, and names it: with a test among
//! what is built cargo chooses features as `cargo test` does, so that a program needs nothing built twice.

use std::process::Command;

use mainstay_test_support::{Guard, TempDir, WAIT_LIMIT, kits};

#[test]
fn the_kits_of_the_repository_are_seen() {
    let names = kits::names().expect("the repository can be read");
    assert!(names.contains(&"null".to_owned()), "{names:?}");
}

#[test]
fn what_a_test_needs_is_at_hand() {
    let folder = TempDir::new();
    let script = folder.script("talk", "echo started; exec sleep 100");
    let mut guard = Guard::start("talk", &mut Command::new(script)).expect("the script was just written");
    guard.wait_for_line(WAIT_LIMIT, "started");
    guard.end();
    assert_eq!(folder.running(), [] as [&str; 0]);
}
