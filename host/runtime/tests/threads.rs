//! What a runtime leaves behind in the process: nothing. Alone in its binary, because it counts threads.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::time::Duration;

use common::House;
use mainstay_test_support::wait_until;

fn ticking() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end while it is looked at.
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.trim() == "kit-ticks").count()
}

#[test]
fn a_runtime_that_is_dropped_leaves_no_thread() {
    assert_eq!(ticking(), 0);
    let houses: Vec<_> = (0..3).map(|_| House::new()).collect();
    wait_until(Duration::from_secs(30), "each runtime to have a thread that ticks", || ticking() == 3);
    drop(houses);
    wait_until(Duration::from_secs(30), "the threads to end with their runtimes", || ticking() == 0);
}
