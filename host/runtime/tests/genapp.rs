//! The GenApp kit with real programs, from bringing an application in service to taking it out: what restore
//! leaves in the background is the application, and outlives the call.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::{House, call, outcome, report};
use mainstay_runtime::{Failure, Health, Kit, Operation, Outcome, ResourceServices, Severity, Verdict};
use mainstay_test_support::wait_until;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// An application that counts, and the programs around it, written as for LifeKeeper: `-t TAG -i ID`.
struct App {
    house: House,
    kit: Arc<Kit>,
    resource: Arc<ResourceServices>,
    params: Value,
}

impl App {
    async fn new() -> Self {
        let house = House::new();
        let dir = house.dir.path().to_owned();
        let at = dir.display();
        let programs = [
            (
                "restore",
                // The application holds the program's own output open, as daemons do that somebody forgot to detach.
                format!(
                    "[ \"$1 $3\" = '-t -i' ] || exit 9\nprintf '%s %s' \"$2\" \"$4\" > {at}/called\n\
                     [ -f {at}/app.pid ] && kill -0 $(cat {at}/app.pid) 2>/dev/null && exit 0\n\
                     (while :; do echo alive; echo x >> {at}/beats; sleep 0.05; done) &\necho $! > {at}/app.pid"
                ),
            ),
            (
                "remove",
                format!("[ -f {at}/app.pid ] || exit 0\nkill $(cat {at}/app.pid) 2>/dev/null\nrm -f {at}/app.pid"),
            ),
            (
                "check",
                format!("kill -0 $(cat {at}/app.pid) 2>/dev/null || {{ echo the application is gone >&2; exit 1; }}"),
            ),
        ];
        for (name, text) in &programs {
            script(&dir.join(name), text);
        }
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let grants = json!({"command": [path("restore"), path("remove"), path("check")]});
        let params =
            json!({"restore": path("restore"), "remove": path("remove"), "quick-check": path("check"), "id": "id-1"});
        let kit = house.kit("genapp").await;
        assert_eq!(kit.check_params(&params), []);
        let resource = house.resource("app", grants);
        assert_eq!(kit.check_grants(resource.grants(), None), []);
        Self { house, kit, resource, params }
    }

    async fn call(&self, operation: Operation) -> Outcome {
        outcome(&self.kit, call(operation, "app", &self.params, &self.resource)).await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.house.path(name)
    }

    fn beats(&self) -> usize {
        std::fs::read(self.file("beats")).map_or(0, |beats| beats.len())
    }

    fn counts_on(&self) {
        let before = self.beats();
        wait_until(LIMIT, "the application to go on", || self.beats() > before + 2);
    }
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

impl Drop for App {
    /// What the test did not take out of service must not outlive it.
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.file("app.pid")).unwrap_or_default().trim().parse() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[tokio::test]
async fn an_application_comes_in_service_is_watched_repaired_and_taken_out() {
    let app = App::new().await;
    assert!(matches!(app.call(Operation::Restore).await, Outcome::Done(done) if done.changed));
    assert_eq!(std::fs::read_to_string(app.file("called")).unwrap(), "app id-1");
    app.counts_on();
    assert_eq!(report(&app.call(Operation::QuickCheck).await).health, Health::Healthy);
    app.counts_on();

    // It dies.
    let pid: i32 = std::fs::read_to_string(app.file("app.pid")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let mut bad = report(&app.call(Operation::QuickCheck).await);
    // A killed process answers signals until it is collected.
    for _ in 0..200 {
        if bad.health == Health::Failed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        bad = report(&app.call(Operation::QuickCheck).await);
    }
    assert_eq!(bad.health, Health::Failed);
    assert!(bad.summary.contains("the application is gone"), "{bad:?}");

    let why = Failure { found_by: "quick-check".to_owned(), report: Some(bad), bad_checks: 1, details: Vec::new() };
    let recovered = app.call(Operation::Recover(why)).await;
    assert!(matches!(&recovered, Outcome::Recovery(result) if result.verdict == Verdict::Recovered), "{recovered:?}");
    app.counts_on();

    assert!(matches!(app.call(Operation::Remove).await, Outcome::Done(_)));
    wait_until(LIMIT, "the application to be gone", || {
        let before = app.beats();
        std::thread::sleep(Duration::from_millis(300));
        app.beats() == before
    });
    assert!(matches!(app.call(Operation::Remove).await, Outcome::Done(_)), "twice is once");
}

#[tokio::test]
async fn what_does_not_fit_is_told_at_config_check() {
    let app = App::new().await;
    let grants = serde_json::from_value(json!({
        "command": ["/nonexistent/program", "relative", {"program": "/bin/true", "user": "nobody-of-that-name"}, "/bin/true", "/bin/true"],
        "net": ["192.0.2.1:1"],
        "secret": ["none", "../x"],
    }))
    .unwrap();
    let problems = app.kit.check_grants(&grants, Some(&app.house.path("secrets")));
    let told = |severity: Severity, words: &[&str]| {
        let fits = |text: &str| words.iter().all(|word| text.contains(word));
        assert!(
            problems.iter().any(|problem| problem.severity == severity && fits(&problem.to_string())),
            "{words:?} in {problems:#?}"
        );
    };
    told(Severity::Error, &["grants.command", "/nonexistent/program"]);
    told(Severity::Error, &["grants.command", "relative", "absolute"]);
    told(Severity::Error, &["grants.command", "nobody-of-that-name"]);
    told(Severity::Error, &["grants.secret", "none", "does not exist", "0600"]);
    told(Severity::Error, &["grants.secret", "../x", "name"]);
    told(Severity::Warning, &["grants.net", "genapp does not use `net`"]);
    told(Severity::Warning, &["grants.secret", "genapp does not use `secret`"]);
    told(Severity::Warning, &["grants.command", "/bin/true is granted twice"]);
    assert_eq!(problems.len(), 8, "{problems:#?}");

    let nothing = app.kit.check_grants(&serde_json::from_value(json!({})).unwrap(), None);
    assert_eq!(nothing.len(), 1);
    assert!(
        nothing[0].to_string().contains("runs the programs that bring the application in service"),
        "{}",
        nothing[0]
    );
}
