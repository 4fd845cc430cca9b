//! An application, and the four programs by which the GenApp kit protects it.
//!
//! They are shell scripts as they are written for LifeKeeper's generic application: called with `-t TAG -i ID`, and
//! `restore` leaves the application in the background with the output it was given still open. They append to a log
//! when they begin and end, and say `OVERLAP` there if another one of the same application is still going on. A knob
//! is a piece of shell that a script runs after it has begun: `sleep 3`, `exit 1`, or something that never ends.
//!
//! The application writes to its output for as long as it lives, which ends it if that is a pipe that nobody reads any
//! more; and it says `TWICE` in its log if it starts while it runs on another node.

use std::fs;
use std::path::{Path, PathBuf};

use mainstay_test_support::{TempDir, wait_for, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::LIMIT;

/// The programs, each named as the kit's param is.
pub const PROGRAMS: [&str; 4] = ["restore", "remove", "quick-check", "recover"];
/// They, and those that few applications have.
pub const ALL_PROGRAMS: [&str; 5] = ["restore", "remove", "quick-check", "recover", "readiness"];

const COMMON: &str = include_str!("app/common.sh");
const RESTORE: &str = include_str!("app/restore.sh");
const REMOVE: &str = include_str!("app/remove.sh");
const QUICK_CHECK: &str = include_str!("app/quick-check.sh");
const RECOVER: &str = include_str!("app/recover.sh");
const READINESS: &str = include_str!("app/readiness.sh");
const DAEMON: &str = include_str!("app/daemon.sh");

/// An application that is installed on some nodes.
#[derive(Clone, Debug)]
pub struct App {
    tag: String,
    on: Vec<AppOn>,
}

/// An application on one node.
#[derive(Clone, Debug)]
pub struct AppOn {
    tag: String,
    node: String,
    dir: PathBuf,
}

/// A line of an application's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Wall-clock time, in ms.
    pub at_ms: u64,
    /// `begin`, `end`, `start`, `OVERLAP`, `TWICE`.
    pub what: String,
    /// Which program, or the node for what is no program's.
    pub program: String,
    /// The rest: for `begin` pid and arguments, for `end` pid and exit code.
    pub rest: String,
}

impl App {
    /// Installs `tag` in each node's folder. `world` is where it finds out whether it runs elsewhere.
    pub(crate) fn install<'a>(tag: &str, nodes: impl Iterator<Item = (&'a str, &'a TempDir)>, world: &TempDir) -> Self {
        world.folder("serving");
        let on = nodes.map(|(node, folder)| AppOn::install(tag, node, folder, world)).collect();
        Self { tag: tag.to_owned(), on }
    }

    /// It on one node.
    ///
    /// # Panics
    /// When it is not installed there.
    #[must_use]
    #[track_caller]
    pub fn on(&self, node: &str) -> &AppOn {
        self.on.iter().find(|it| it.node == node).unwrap_or_else(|| panic!("{} is not on {node}", self.tag))
    }

    /// The nodes on which it runs.
    #[must_use]
    pub fn running(&self) -> Vec<&str> {
        self.on.iter().filter(|it| it.pid().is_some()).map(|it| it.node.as_str()).collect()
    }

    /// The resource as the config has it, protected by all four programs.
    #[must_use]
    pub fn resource(&self, hierarchy: &str) -> String {
        self.resource_with(hierarchy, &PROGRAMS, "")
    }

    /// The same with only some of the programs, and more lines of TOML in the resource's table, which count more than
    /// what would stand there otherwise.
    #[must_use]
    pub fn resource_with(&self, hierarchy: &str, programs: &[&str], more: &str) -> String {
        let tag = &self.tag;
        let grants: Vec<String> =
            self.on.iter().flat_map(|it| programs.iter().map(|name| format!("{:?}", it.program(name)))).collect();
        let params = self.on.iter().map(|it| {
            let params: Vec<String> = programs.iter().map(|name| format!("{name} = {:?}", it.program(name))).collect();
            format!("params-on.{} = {{ {} }}\n", it.node, params.join(", "))
        });
        let defaults = [
            ("check-interval", "check-interval = \"300ms\"\n"),
            (
                "timeouts",
                "timeouts = { restore = \"30s\", remove = \"30s\", quick-check = \"10s\", recover = \"30s\" }\n",
            ),
            ("standby-check-interval", "standby-check-interval = \"1s\"\n"),
        ];
        let said = |name: &str| more.lines().any(|line| line.starts_with(name));
        let defaults: String = defaults.iter().filter(|(name, _)| !said(name)).map(|(_, line)| *line).collect();
        format!(
            "\n[hierarchy.{hierarchy}.resource.{tag}]\nkit = \"genapp\"\n{defaults}grants.command = [{}]\n{}{more}\n",
            grants.join(", "),
            params.collect::<String>(),
        )
    }

    /// No two programs ever ran at once on one node, and it never ran on two nodes at once.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn was_never_doubled(&self) {
        for it in &self.on {
            let log = it.log();
            let wrong: Vec<_> = log.iter().filter(|line| line.what == "OVERLAP" || line.what == "TWICE").collect();
            assert!(wrong.is_empty(), "{} on {}: {wrong:#?}\nits log:\n{}", self.tag, it.node, it.log_text());
        }
    }
}

impl AppOn {
    fn install(tag: &str, node: &str, folder: &TempDir, world: &TempDir) -> Self {
        let name = format!("app/{tag}");
        let dir = folder.folder(&name);
        folder.folder(format!("{name}/running"));
        for part in ["app", &name, &format!("{name}/running")] {
            // An application may run as another user.
            open_to_all(&folder.join(part));
        }
        let common = COMMON
            .replace("@DIR@", &dir.display().to_string())
            .replace("@WORLD@", &world.path().display().to_string())
            .replace("@TAG@", tag)
            .replace("@NODE@", node);
        let scripts = [
            ("restore", RESTORE),
            ("remove", REMOVE),
            ("quick-check", QUICK_CHECK),
            ("recover", RECOVER),
            ("readiness", READINESS),
            ("daemon", DAEMON),
        ];
        for (program, body) in scripts {
            folder.script(format!("{name}/{program}"), &format!("program={program}\n{common}\n{body}"));
        }
        Self { tag: tag.to_owned(), node: node.to_owned(), dir }
    }

    /// The path of one of its programs.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The path of a file of its own.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// From now on `program` does this after it has begun.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn knob(&self, program: &str, shell: &str) {
        // In one step, so that no script reads half of it.
        let (new, knob) = (self.dir.join("knob.new"), self.knob_file(program));
        fs::write(&new, format!("{shell}\n"))
            .and_then(|()| fs::rename(&new, &knob))
            .unwrap_or_else(|error| panic!("{}: {error}", knob.display()));
    }

    /// From now on `program` does what it is for, and nothing else.
    ///
    /// # Panics
    /// When the knob cannot be removed.
    pub fn unknob(&self, program: &str) {
        let knob = self.knob_file(program);
        fs::remove_file(&knob).unwrap_or_else(|error| panic!("{}: {error}", knob.display()));
    }

    fn knob_file(&self, program: &str) -> PathBuf {
        assert!(ALL_PROGRAMS.contains(&program), "no such program: {program}");
        self.dir.join(format!("knob-{program}"))
    }

    /// The application's process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        let pid = fs::read_to_string(self.dir.join("pid")).ok()?.trim().parse().ok()?;
        self.is_its(pid).then_some(pid)
    }

    /// Whether this process is one of the application's, and lives.
    fn is_its(&self, pid: i32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        !zombie && String::from_utf8_lossy(&command).contains(&*self.dir.to_string_lossy())
    }

    /// The programs that run at this moment, as `PROGRAM.PID`.
    ///
    /// # Panics
    /// When the folder cannot be listed.
    #[must_use]
    pub fn programs_running(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.join("running")).expect("the folder was made");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter(|name| name.rsplit('.').next().and_then(|pid| pid.parse().ok()).is_some_and(|pid| self.is_its(pid)))
            .collect()
    }

    /// The application dies, and nobody has asked it to.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn dies(&self) {
        let pid = self.pid().unwrap_or_else(|| panic!("{} does not run on {}", self.tag, self.node));
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_else(|error| panic!("{pid}: {error}"));
        wait_until(LIMIT, "a killed application to be gone", || self.pid() != Some(pid));
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> Vec<Line> {
        self.log_text().lines().filter_map(Line::parse).collect()
    }

    /// Its log as it stands in the file.
    #[must_use]
    pub fn log_text(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// How often `program` has begun so far.
    #[must_use]
    pub fn begun(&self, program: &str) -> usize {
        self.log().iter().filter(|line| line.what == "begin" && line.program == program).count()
    }

    /// How often `program` has come to its end by itself so far.
    #[must_use]
    pub fn ended(&self, program: &str) -> usize {
        self.log().iter().filter(|line| line.what == "end" && line.program == program).count()
    }

    /// Makes an empty file of its own, which a knob may wait for.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn touch(&self, name: &str) {
        let file = self.file(name);
        fs::write(&file, "").unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Waits until `program` begins once more.
    #[track_caller]
    pub fn wait_for_begin(&self, program: &str, more_than: usize) {
        wait_until(LIMIT, &format!("{program} of {} to begin on {}", self.tag, self.node), || {
            self.begun(program) > more_than
        });
    }

    /// Waits until the application runs, and gives its process.
    #[track_caller]
    pub fn wait_until_it_runs(&self) -> i32 {
        wait_for(LIMIT, &format!("{} to run on {}", self.tag, self.node), || self.pid())
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let at_ns: u64 = words.next()?.parse().ok()?;
        let (what, program) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { at_ms: at_ns / 1_000_000, what, program, rest: words.next().unwrap_or("").to_owned() })
    }
}

/// Whoever may enter the folder above may use this one, too.
pub(crate) fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_test_support::Guard;
    use std::process::Command;

    fn installed(nodes: &[(&str, &TempDir)], world: &TempDir) -> App {
        App::install("web", nodes.iter().copied(), world)
    }

    fn run(app: &App, node: &str, program: &str, folder: &TempDir) -> Guard {
        Guard::start(program, &mut Command::new(app.on(node).program(program))).unwrap().claim(folder)
    }

    #[test]
    fn what_it_does_is_seen_in_its_log() {
        let (folder, world) = (TempDir::new(), TempDir::new());
        let app = installed(&[("a", &folder)], &world);
        let web = app.on("a");
        // A guard that is dropped ends whatever runs from the folder.
        let mut guards = Vec::new();
        let mut code_of = |program: &str| {
            let mut guard = run(&app, "a", program, &folder);
            let code = guard.wait(LIMIT).unwrap().code();
            guards.push(guard);
            code
        };
        assert_eq!(code_of("restore"), Some(0));
        let pid = web.pid().unwrap();
        assert_eq!((web.begun("restore"), web.ended("restore"), app.running()), (1, 1, vec!["a"]));
        assert_eq!(code_of("quick-check"), Some(0));
        web.dies();
        assert_eq!(code_of("quick-check"), Some(1));
        web.knob("recover", "exit 7");
        assert_eq!(code_of("recover"), Some(7));
        web.unknob("recover");
        assert_eq!(code_of("recover"), Some(0));
        assert!(web.pid().is_some_and(|it| it != pid));
        assert_eq!(code_of("remove"), Some(0));
        assert_eq!(app.running(), [""; 0]);
        app.was_never_doubled();
    }

    #[test]
    #[should_panic(expected = "OVERLAP")]
    fn two_programs_at_once_are_seen() {
        let (folder, world) = (TempDir::new(), TempDir::new());
        let app = installed(&[("a", &folder)], &world);
        app.on("a").knob("restore", "while :; do sleep 1; done");
        let _restore = run(&app, "a", "restore", &folder);
        app.on("a").wait_for_begin("restore", 0);
        assert_eq!(app.on("a").programs_running().len(), 1);
        let mut check = run(&app, "a", "quick-check", &folder);
        check.wait(LIMIT).unwrap();
        app.was_never_doubled();
    }

    #[test]
    fn one_that_was_killed_is_not_running_any_more() {
        let (folder, world) = (TempDir::new(), TempDir::new());
        let app = installed(&[("a", &folder)], &world);
        app.on("a").knob("restore", "while :; do sleep 1; done");
        let mut restore = run(&app, "a", "restore", &folder);
        app.on("a").wait_for_begin("restore", 0);
        restore.kill_alone();
        run(&app, "a", "quick-check", &folder).wait(LIMIT).unwrap();
        assert_eq!(app.on("a").programs_running(), [""; 0]);
        app.was_never_doubled();
    }

    #[test]
    #[should_panic(expected = "TWICE")]
    fn two_nodes_at_once_are_seen() {
        let (one, two, world) = (TempDir::new(), TempDir::new(), TempDir::new());
        let app = installed(&[("a", &one), ("b", &two)], &world);
        let mut first = run(&app, "a", "restore", &one);
        first.wait(LIMIT).unwrap();
        let mut second = run(&app, "b", "restore", &two);
        second.wait(LIMIT).unwrap();
        assert_eq!(app.running(), ["a", "b"]);
        app.was_never_doubled();
    }
}
