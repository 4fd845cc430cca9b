//! A wall clock that is set by an hour: what is waited for is counted by another one, so nothing happens.

use std::path::{Path, PathBuf};

use mainstay_test_hosts::{Lab, Mode, Wishes};
use mainstay_test_support::{require_or_skip, wait_until};

/// Steps of the wall clock, as libfaketime takes them.
const STEPS: [&str; 3] = ["+3600s", "-3600s", "+0s"];

/// The library that stands between a process and its clock, beside the program that comes with it.
fn library() -> Option<PathBuf> {
    require_or_skip("faketime", "apt-get install faketime")?;
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found =
        folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    Some(found.next().expect("the package faketime brings its library"))
}

fn set(host: &Path, step: &str) {
    let (new, file) = (host.join("clock.new"), host.join("clock"));
    std::fs::write(&new, format!("{step}\n")).and_then(|()| std::fs::rename(&new, &file)).unwrap();
}

/// The clock of the owner is set forth, back and right again, then that of the standby. Then the power is cut, which is
/// seen as ever.
#[test]
fn set_by_an_hour_is_nothing() {
    let Some(library) = library() else { return };
    let lab = Lab::with(Mode::Automatic, &["a", "b"], Wishes::default(), |host| {
        set(host.folder().path(), "+0s");
        let (library, clock) = (library.display().to_string(), host.folder().join("clock").display().to_string());
        host.start_with(&[
            ("LD_PRELOAD", &library),
            ("FAKETIME_TIMESTAMP_FILE", &clock),
            ("FAKETIME_NO_CACHE", "1"),
            // What is waited for is counted by clocks that nobody can set.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
    });
    let Some(lab) = lab else { return };
    for host in ["a", "b"] {
        for step in STEPS {
            let before = now_of(&lab, host);
            set(lab.host(host).folder().path(), step);
            wait_until(std::time::Duration::from_secs(10), "the clock to be set", || {
                now_of(&lab, host).abs_diff(before) > 1_800_000
            });
            lab.nothing_happens(&["a"]);
        }
    }
    lab.wait_until_settled("a");
    lab.host("a").power_off();
    lab.wait_until_served_by(&["b"]);
    lab.prober.never_two();
}

/// What a daemon's wall clock says, in ms since 1970.
fn now_of(lab: &Lab, host: &str) -> u64 {
    lab.host(host).try_status().and_then(|status| status.0["at"].as_u64()).expect("it answers")
}
