//! What systemd says of a unit, and what that comes to. Pure; `systemd.rs` asks.
//!
//! Names and words are those of systemd: `systemctl show`, org.freedesktop.systemd1(5).

use super::look::{Coming, Look, Trouble};
use crate::bindings::mainstay::kit::service::{StartType, State};
use crate::outcome::Details;

/// The suffix of the one type of units that are services.
const SUFFIX: &str = ".service";
/// The longest name of a unit, in bytes: UNIT_NAME_MAX of systemd, without the zero at its end.
const NAME_BYTES_MAX: usize = 255;
/// The suffixes of units that are something else than services.
const OTHER_SUFFIXES: [&str; 10] =
    [".socket", ".target", ".device", ".mount", ".automount", ".swap", ".timer", ".path", ".slice", ".scope"];
/// How a process ended, as waitid(2) says it.
const CLD_EXITED: i64 = 1;
const CLD_KILLED: i64 = 2;
const CLD_DUMPED: i64 = 3;

/// The properties of a unit that matter here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) description: String,
    pub(super) load_state: String,
    pub(super) load_error: String,
    pub(super) active_state: String,
    pub(super) sub_state: String,
    pub(super) unit_file_state: String,
    /// What a job does that is queued or goes on: `start`, `stop`, `restart`, ...; empty: there is none.
    pub(super) job: String,
    /// Whether its conditions were looked at, and not met.
    pub(super) condition_failed: bool,
    pub(super) kind: String,
    pub(super) remain_after_exit: bool,
    pub(super) main_pid: u32,
    /// Whether there is no such process, although this host would see it.
    pub(super) main_process_gone: bool,
    pub(super) control_pid: u32,
    pub(super) result: String,
    pub(super) exec_main_code: i64,
    pub(super) exec_main_status: i64,
    pub(super) status_text: String,
    pub(super) restarts: u64,
}

/// What is wrong with the name of a service.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    if OTHER_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        return Some("it is a unit of another type; only services can be started and stopped by a kit");
    }
    let stem = name.strip_suffix(SUFFIX).unwrap_or(name);
    if stem.is_empty() || stem.len() + SUFFIX.len() > NAME_BYTES_MAX {
        return Some("the name of a unit has at most 255 characters, with its suffix");
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b':' | b'-' | b'_' | b'.' | b'\\' | b'@');
    if !stem.bytes().all(allowed) {
        return Some("the name of a unit is made of letters, digits and : - _ . \\ @");
    }
    if stem.starts_with('@') {
        return Some("the name of a unit does not begin with @");
    }
    if stem.ends_with('@') {
        return Some("it is a template; name the instance, as in getty@tty1.service");
    }
    None
}

/// The unit that is meant by a name.
pub(super) fn unit_name(name: &str) -> Result<String, Trouble> {
    if let Some(problem) = name_problem(name) {
        return Err(Trouble::Name(name.to_owned(), problem));
    }
    Ok(if name.ends_with(SUFFIX) { name.to_owned() } else { format!("{name}{SUFFIX}") })
}

/// The object of a unit on the bus: each byte that is no letter or digit, and a digit at the beginning, as `_` and two hex
/// digits.
pub(super) fn object_path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (index, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

impl Unit {
    /// What it comes to. `name` is for what is said of it.
    pub(super) fn look(self, name: &str) -> Result<Look, Trouble> {
        let up_or_moving = !matches!(self.active_state.as_str(), "inactive" | "failed");
        match self.load_state.as_str() {
            "not-found" if !up_or_moving => return Err(Trouble::NoSuchService(name.to_owned())),
            "error" | "bad-setting" if !up_or_moving => {
                return Err(Trouble::Refused(format!("systemd cannot load {name}: {}", self.load_error)));
            }
            _ => {}
        }
        let again = self.starts_again_by_itself();
        let state = match self.active_state.as_str() {
            "active" | "reloading" | "refreshing" if self.main_process_gone => State::Failed,
            "active" | "reloading" | "refreshing" => State::Running,
            "activating" if again => State::Failed,
            "activating" => State::StartPending,
            "deactivating" => State::StopPending,
            "inactive" | "maintenance" => State::Stopped,
            "failed" => State::Failed,
            other => {
                let message = format!("systemd says that {name} is `{other}`, which this host does not know");
                return Err(Trouble::Refused(message));
            }
        };
        Ok(Look {
            state,
            pid: (self.main_pid != 0 && !self.main_process_gone).then_some(self.main_pid),
            start_type: self.start_type(),
            coming: self.coming(state, again),
            words: self.words(),
            why: self.why(),
            details: self.details(),
        })
    }

    /// Whether it waits to be started again after a failure, with no job in the queue yet.
    fn starts_again_by_itself(&self) -> bool {
        self.sub_state.starts_with("auto-restart") || self.sub_state.ends_with("before-auto-restart")
    }

    fn coming(&self, state: State, again: bool) -> Coming {
        match self.job.as_str() {
            "start" | "verify-active" | "reload-or-start" => Coming::Start,
            "stop" => Coming::Stop,
            "restart" | "try-restart" => match state {
                State::Running | State::StartPending | State::Paused => Coming::Stop,
                State::Stopped | State::StopPending | State::Failed => Coming::Start,
            },
            _ if again => Coming::Again,
            _ if self.main_process_gone => Coming::Unaware,
            _ => Coming::Nothing,
        }
    }

    fn start_type(&self) -> StartType {
        if self.load_state == "masked" {
            return StartType::Disabled;
        }
        match self.unit_file_state.as_str() {
            "enabled" | "enabled-runtime" => StartType::Automatic,
            "disabled" | "static" | "indirect" | "linked" | "linked-runtime" | "alias" => StartType::Manual,
            "masked" | "masked-runtime" => StartType::Disabled,
            _ => StartType::Other,
        }
    }

    fn words(&self) -> String {
        let words = format!("{}/{}", self.active_state, self.sub_state);
        if self.control_pid == 0 { words } else { format!("{words}, control process {}", self.control_pid) }
    }

    /// Why it does not run, if it does not.
    fn why(&self) -> Option<String> {
        if self.main_process_gone {
            return Some(format!("its main process (pid {}) is gone, although systemd calls it active", self.main_pid));
        }
        let main = match self.exec_main_code {
            CLD_EXITED => Some(format!("its main process ended with exit code {}", self.exec_main_status)),
            CLD_KILLED => Some(format!("its main process was killed by signal {}", self.exec_main_status)),
            CLD_DUMPED => {
                Some(format!("its main process was killed by signal {} and dumped core", self.exec_main_status))
            }
            _ => None,
        };
        match self.result.as_str() {
            // Whether it was ever started is not said by the result.
            "" | "success" if self.condition_failed => Some("its conditions are not met".to_owned()),
            "" | "success" if self.kind == "oneshot" && !self.remain_after_exit => {
                let runs_to_its_end = "it does its work and does not stay (Type=oneshot without RemainAfterExit)";
                main.map(|_| runs_to_its_end.to_owned())
            }
            "" | "success" => main,
            "exit-code" if self.exec_main_code == CLD_EXITED && self.exec_main_status != 0 => main,
            "signal" | "core-dump" if matches!(self.exec_main_code, CLD_KILLED | CLD_DUMPED) => main,
            "exit-code" | "signal" | "core-dump" => {
                Some(format!("a command beside its main process failed ({})", self.result))
            }
            "timeout" => Some("a start or a stop took longer than its unit allows".to_owned()),
            "watchdog" => Some("it did not tell its watchdog in time that it works".to_owned()),
            "oom-kill" => Some("the kernel ended it because memory ran out".to_owned()),
            "start-limit-hit" => Some("it was started too often in a short time (StartLimitBurst=)".to_owned()),
            "protocol" => Some("it did not come up in the way that its Type= says".to_owned()),
            "resources" => Some("the system could not give it what its unit asks for".to_owned()),
            "exec-condition" => Some("its ExecCondition= says no".to_owned()),
            other => Some(format!("systemd says `{other}`")),
        }
    }

    fn details(&self) -> Details {
        let code = (self.exec_main_code == CLD_EXITED).then(|| self.exec_main_status.to_string());
        let signal = matches!(self.exec_main_code, CLD_KILLED | CLD_DUMPED).then(|| self.exec_main_status.to_string());
        let some = |text: &str| (!text.is_empty()).then(|| crate::text::one_line(text, super::WORDS_BYTES_MAX));
        let all = [
            ("display-name", some(&self.description)),
            ("active-state", some(&self.active_state)),
            ("sub-state", some(&self.sub_state)),
            ("load-state", some(&self.load_state)),
            ("unit-file-state", some(&self.unit_file_state)),
            ("result", some(&self.result)),
            ("exit-code", code),
            ("signal", signal),
            ("status-text", some(&self.status_text)),
            ("restarts", (self.restarts > 0).then(|| self.restarts.to_string())),
            ("job", some(&self.job)),
            ("process-gone", self.main_process_gone.then(|| "true".to_owned())),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_suffix_is_a_service_and_nothing_else_is_one() {
        for (name, unit) in [
            ("postfix", "postfix.service"),
            ("postfix.service", "postfix.service"),
            ("user@1000", "user@1000.service"),
            ("a\\x2db.c", "a\\x2db.c.service"),
        ] {
            assert_eq!(unit_name(name).as_deref(), Ok(unit));
        }
        for (name, words) in [
            ("", "at most 255"),
            (".service", "at most 255"),
            ("a.socket", "another type"),
            ("multi-user.target", "another type"),
            ("getty@.service", "template"),
            ("getty@", "template"),
            ("@a", "begin with @"),
            ("a b", "letters, digits"),
            ("a/b", "letters, digits"),
            ("a\n", "letters, digits"),
            ("größe", "letters, digits"),
            ("*", "letters, digits"),
        ] {
            let problem = name_problem(name).unwrap_or_else(|| panic!("{name:?} is a name"));
            assert!(problem.contains(words), "{name:?}: {problem}");
        }
        assert_eq!(name_problem(&"a".repeat(247)), None);
        assert!(name_problem(&"a".repeat(248)).is_some());
    }

    #[test]
    fn objects_are_named_as_systemd_names_them() {
        for (unit, object) in [
            ("dbus.service", "dbus_2eservice"),
            ("getty@tty1.service", "getty_40tty1_2eservice"),
            ("3proxy.service", "_33proxy_2eservice"),
            ("a_b.service", "a_5fb_2eservice"),
        ] {
            assert_eq!(object_path(unit), format!("/org/freedesktop/systemd1/unit/{object}"));
        }
    }

    fn unit(active: &str, sub: &str) -> Unit {
        Unit {
            load_state: "loaded".to_owned(),
            active_state: active.to_owned(),
            sub_state: sub.to_owned(),
            unit_file_state: "enabled".to_owned(),
            result: "success".to_owned(),
            ..Unit::default()
        }
    }

    fn with_job(job: &str, unit: Unit) -> Unit {
        Unit { job: job.to_owned(), ..unit }
    }

    #[test]
    fn each_state_of_a_unit_is_one_of_the_contract() {
        for (unit, state, coming) in [
            (unit("active", "running"), State::Running, Coming::Nothing),
            (unit("active", "exited"), State::Running, Coming::Nothing),
            (unit("reloading", "reload"), State::Running, Coming::Nothing),
            (with_job("reload", unit("active", "running")), State::Running, Coming::Nothing),
            (with_job("stop", unit("active", "running")), State::Running, Coming::Stop),
            (with_job("restart", unit("active", "running")), State::Running, Coming::Stop),
            (with_job("restart", unit("deactivating", "stop-sigterm")), State::StopPending, Coming::Start),
            (with_job("start", unit("activating", "start")), State::StartPending, Coming::Start),
            (unit("activating", "auto-restart"), State::Failed, Coming::Again),
            (with_job("restart", unit("activating", "auto-restart")), State::Failed, Coming::Start),
            (unit("deactivating", "stop-sigterm"), State::StopPending, Coming::Nothing),
            (unit("inactive", "dead"), State::Stopped, Coming::Nothing),
            (with_job("start", unit("inactive", "dead")), State::Stopped, Coming::Start),
            (unit("maintenance", "cleaning"), State::Stopped, Coming::Nothing),
            (unit("failed", "failed"), State::Failed, Coming::Nothing),
            (
                Unit { main_pid: 5, main_process_gone: true, ..unit("active", "running") },
                State::Failed,
                Coming::Unaware,
            ),
        ] {
            let look = unit.clone().look("a").unwrap();
            assert_eq!((look.state, look.coming), (state, coming), "{unit:?}");
        }
        let unknown = unit("dreaming", "deeply").look("a").unwrap_err();
        assert!(matches!(&unknown, Trouble::Refused(said) if said.contains("dreaming")), "{unknown:?}");
    }

    #[test]
    fn what_is_not_installed_or_not_to_be_loaded_is_told() {
        let load = |state: &str, unit: Unit| Unit { load_state: state.to_owned(), ..unit }.look("a");
        assert_eq!(load("not-found", unit("inactive", "dead")), Err(Trouble::NoSuchService("a".to_owned())));
        assert_eq!(load("not-found", unit("failed", "failed")), Err(Trouble::NoSuchService("a".to_owned())));
        assert_eq!(load("not-found", unit("active", "running")).unwrap().state, State::Running, "its file was removed");
        let broken = Unit { load_error: "no ExecStart".to_owned(), ..unit("inactive", "dead") };
        assert!(load("bad-setting", broken).unwrap_err().to_string().contains("no ExecStart"));
        let masked = load("masked", unit("inactive", "dead")).unwrap();
        assert_eq!((masked.state, masked.start_type), (State::Stopped, StartType::Disabled));
        for (file, start_type) in [
            ("enabled", StartType::Automatic),
            ("disabled", StartType::Manual),
            ("static", StartType::Manual),
            ("masked", StartType::Disabled),
            ("generated", StartType::Other),
            ("", StartType::Other),
        ] {
            let unit = Unit { unit_file_state: file.to_owned(), ..unit("inactive", "dead") };
            assert_eq!(unit.look("a").unwrap().start_type, start_type, "{file}");
        }
    }

    #[test]
    fn why_a_unit_does_not_run_is_said_in_words() {
        let why = |result: &str, code, status| {
            let unit = Unit {
                result: result.to_owned(),
                exec_main_code: code,
                exec_main_status: status,
                ..unit("failed", "failed")
            };
            unit.look("a").unwrap().why.unwrap_or_default()
        };
        assert_eq!(why("exit-code", CLD_EXITED, 3), "its main process ended with exit code 3");
        assert_eq!(why("exit-code", 0, 0), "a command beside its main process failed (exit-code)");
        assert_eq!(why("exit-code", CLD_EXITED, 0), "a command beside its main process failed (exit-code)");
        assert_eq!(why("signal", CLD_KILLED, 9), "its main process was killed by signal 9");
        assert_eq!(why("core-dump", CLD_DUMPED, 11), "its main process was killed by signal 11 and dumped core");
        assert_eq!(why("success", CLD_EXITED, 0), "its main process ended with exit code 0");
        assert_eq!(why("success", 0, 0), "", "it never ran");
        assert!(why("timeout", CLD_KILLED, 9).contains("took longer"));
        assert!(why("start-limit-hit", CLD_EXITED, 1).contains("StartLimitBurst"));
        assert!(why("new-in-systemd", 0, 0).contains("`new-in-systemd`"));
        let oneshot = Unit { kind: "oneshot".to_owned(), exec_main_code: CLD_EXITED, ..unit("inactive", "dead") };
        assert!(oneshot.look("a").unwrap().why.unwrap().contains("does not stay"));
        let unmet = Unit { condition_failed: true, ..unit("inactive", "dead") };
        assert!(unmet.look("a").unwrap().why.unwrap().contains("conditions"));
    }

    #[test]
    fn details_are_those_that_say_something() {
        let unit = Unit {
            main_pid: 12,
            control_pid: 13,
            status_text: "waiting\nfor the lock".to_owned(),
            ..unit("activating", "start")
        };
        let look = unit.look("a").unwrap();
        assert_eq!((look.pid, look.words.as_str()), (Some(12), "activating/start, control process 13"));
        let keys: Vec<&str> = look.details.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["active-state", "sub-state", "load-state", "unit-file-state", "result", "status-text"]);
        assert_eq!(look.details[5].1, "waiting for the lock");
    }
}
