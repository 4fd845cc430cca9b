//! What the service control manager of Windows says of a service, and what that comes to. Pure; `windows.rs` asks.
//!
//! It goes by numbers and never by texts: those are in the language of the system.

use super::drive::Asked;
use super::look::{Coming, Look, Trouble};
use crate::bindings::mainstay::kit::service::{StartType, State};
use crate::outcome::Details;

/// The longest name of a service, in characters.
const NAME_CHARS_MAX: usize = 256;

// Error codes of Windows (winerror.h) that mean something of their own here.
const FILE_NOT_FOUND: u32 = 2;
const PATH_NOT_FOUND: u32 = 3;
const ACCESS_DENIED: u32 = 5;
const DEPENDENT_SERVICES_RUNNING: u32 = 1051;
const INVALID_SERVICE_CONTROL: u32 = 1052;
const SERVICE_REQUEST_TIMEOUT: u32 = 1053;
const SERVICE_DATABASE_LOCKED: u32 = 1055;
const SERVICE_ALREADY_RUNNING: u32 = 1056;
const SERVICE_DISABLED: u32 = 1058;
const SERVICE_DOES_NOT_EXIST: u32 = 1060;
const SERVICE_CANNOT_ACCEPT_CTRL: u32 = 1061;
const SERVICE_NOT_ACTIVE: u32 = 1062;
/// The exit code is the service's own.
const SERVICE_SPECIFIC_ERROR: u32 = 1066;
const PROCESS_ABORTED: u32 = 1067;
const SERVICE_DEPENDENCY_FAIL: u32 = 1068;
const SERVICE_LOGON_FAILED: u32 = 1069;
const SERVICE_MARKED_FOR_DELETE: u32 = 1072;
const SERVICE_NEVER_STARTED: u32 = 1077;
const SHUTDOWN_IN_PROGRESS: u32 = 1115;
const RPC_SERVER_UNAVAILABLE: u32 = 1722;
const RPC_SERVER_TOO_BUSY: u32 = 1723;
const RPC_CALL_FAILED: u32 = 1726;
const RPC_NO_ENDPOINT: u32 = 1753;

/// How a service is, as the manager has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Stopped,
    StartPending,
    StopPending,
    Running,
    ContinuePending,
    PausePending,
    Paused,
}

impl Phase {
    /// `dwCurrentState`.
    pub(super) fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Stopped,
            2 => Self::StartPending,
            3 => Self::StopPending,
            4 => Self::Running,
            5 => Self::ContinuePending,
            6 => Self::PausePending,
            7 => Self::Paused,
            _ => return None,
        })
    }
}

/// How it comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Boot,
    System,
    Automatic,
    OnDemand,
    Disabled,
}

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) display_name: String,
    pub(super) phase: Phase,
    pub(super) start: Start,
    /// 0: it has none.
    pub(super) pid: u32,
    /// Whether there is no such process, whatever the manager says.
    pub(super) process_gone: bool,
    /// `dwWin32ExitCode`.
    pub(super) exit_code: u32,
    /// `dwServiceSpecificExitCode`, of meaning when the other says so.
    pub(super) service_exit_code: u32,
    pub(super) checkpoint: u32,
    pub(super) wait_hint_ms: u64,
}

/// What is wrong with the name of a service.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Some("the name of a service has 1 to 256 characters");
    }
    if name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        return Some("the name of a service has no slash, no backslash and no control character");
    }
    None
}

impl Row {
    /// What it comes to.
    pub(super) fn look(self) -> Look {
        let gone = self.process_gone && self.pid != 0;
        let state = match self.phase {
            Phase::Stopped if self.exit_code == 0 || self.exit_code == SERVICE_NEVER_STARTED => State::Stopped,
            Phase::Stopped => State::Failed,
            Phase::StartPending
            | Phase::StopPending
            | Phase::Running
            | Phase::ContinuePending
            | Phase::PausePending
            | Phase::Paused
                if gone =>
            {
                State::Failed
            }
            Phase::StartPending | Phase::ContinuePending => State::StartPending,
            Phase::StopPending => State::StopPending,
            Phase::Running => State::Running,
            Phase::PausePending | Phase::Paused => State::Paused,
        };
        Look {
            state,
            pid: (self.pid != 0 && !gone).then_some(self.pid),
            start_type: match self.start {
                Start::Boot | Start::System | Start::Automatic => StartType::Automatic,
                Start::OnDemand => StartType::Manual,
                Start::Disabled => StartType::Disabled,
            },
            // There is no queue; a service that is gone is started as one that is stopped.
            coming: Coming::Nothing,
            words: self.phase.word().to_owned(),
            why: self.why(gone),
            details: self.details(gone),
        }
    }

    fn why(&self, gone: bool) -> Option<String> {
        if gone {
            let (pid, phase) = (self.pid, self.phase.word());
            return Some(format!("its process (pid {pid}) is gone, although the system calls it {phase}"));
        }
        match self.exit_code {
            0 => None,
            SERVICE_NEVER_STARTED => Some("it was not started since the node came up".to_owned()),
            PROCESS_ABORTED => Some("its process ended unexpectedly (error 1067)".to_owned()),
            SERVICE_SPECIFIC_ERROR => Some(format!("it ended with its own error {}", self.service_exit_code)),
            code => Some(format!("it ended with error {code}")),
        }
    }

    fn details(&self, gone: bool) -> Details {
        let unless_zero = |number: u64| (number != 0).then(|| number.to_string());
        let specific = self.exit_code == SERVICE_SPECIFIC_ERROR;
        let display_name = crate::text::one_line(&self.display_name, super::WORDS_BYTES_MAX);
        let all = [
            ("display-name", (!display_name.is_empty()).then_some(display_name)),
            ("service-state", Some(self.phase.word().to_owned())),
            ("start-type", Some(self.start.word().to_owned())),
            ("exit-code", unless_zero(self.exit_code.into())),
            ("service-exit-code", specific.then(|| self.service_exit_code.to_string())),
            ("checkpoint", unless_zero(self.checkpoint.into())),
            ("wait-hint-ms", unless_zero(self.wait_hint_ms)),
            ("process-gone", gone.then(|| "true".to_owned())),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::StartPending => "start-pending",
            Self::StopPending => "stop-pending",
            Self::Running => "running",
            Self::ContinuePending => "continue-pending",
            Self::PausePending => "pause-pending",
            Self::Paused => "paused",
        }
    }
}

impl Start {
    fn word(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::System => "system",
            Self::Automatic => "automatic",
            Self::OnDemand => "on-demand",
            Self::Disabled => "disabled",
        }
    }
}

/// What an error comes to, for somebody who wanted to do that with this service, when it was in this state. Some only say that
/// it is in another by now, or in one in which it takes nothing: that is looked at.
pub(super) fn refused(doing: &str, name: &str, state: State, code: u32, words: &str) -> Result<Asked, Trouble> {
    let pending = matches!(state, State::StartPending | State::StopPending);
    Err(match code {
        INVALID_SERVICE_CONTROL if pending => return Ok(Asked::NotNow),
        SERVICE_ALREADY_RUNNING | SERVICE_CANNOT_ACCEPT_CTRL | SERVICE_NOT_ACTIVE | SERVICE_DATABASE_LOCKED => {
            return Ok(Asked::NotNow);
        }
        SERVICE_DOES_NOT_EXIST => Trouble::NoSuchService(name.to_owned()),
        SERVICE_DISABLED => Trouble::Disabled(format!(
            "{name} is disabled, or has no device that it could serve, so that nobody can start it; to allow it: sc config {name} start= demand"
        )),
        ACCESS_DENIED => Trouble::Denied(format!("this node's daemon may not {doing} {name} (error 5)")),
        SERVICE_REQUEST_TIMEOUT => {
            Trouble::Ended(format!("{name} was started and did not report in time (error 1053)"))
        }
        SERVICE_LOGON_FAILED => {
            Trouble::Ended(format!("{name} was not started: its account could not log on (error 1069)"))
        }
        SERVICE_DEPENDENCY_FAIL => {
            Trouble::Ended(format!("{name} was not started: a service that it needs does not start (error 1068)"))
        }
        FILE_NOT_FOUND | PATH_NOT_FOUND => {
            Trouble::Ended(format!("{name} was not started: its program is not there (error {code})"))
        }
        DEPENDENT_SERVICES_RUNNING => Trouble::Refused(format!(
            "{name} is not stopped while services run that need it (error 1051); stop those first"
        )),
        INVALID_SERVICE_CONTROL => {
            Trouble::Refused(format!("{name} does not take it that somebody would {doing} it (error 1052)"))
        }
        SERVICE_MARKED_FOR_DELETE => Trouble::Refused(format!("{name} is being removed from this node (error 1072)")),
        SHUTDOWN_IN_PROGRESS => Trouble::NoManager("the node is being shut down (error 1115)".to_owned()),
        RPC_SERVER_UNAVAILABLE | RPC_SERVER_TOO_BUSY | RPC_CALL_FAILED | RPC_NO_ENDPOINT => {
            Trouble::NoManager(format!("the service control manager does not answer (error {code}: {words})"))
        }
        _ => Trouble::Refused(format!("Windows does not {doing} {name}: {words} (error {code})")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(phase: Phase, exit_code: u32) -> Row {
        let pid = match phase {
            Phase::Stopped => 0,
            Phase::StartPending
            | Phase::StopPending
            | Phase::Running
            | Phase::ContinuePending
            | Phase::PausePending
            | Phase::Paused => 44,
        };
        Row {
            display_name: "Microsoft Exchange Information Store".to_owned(),
            phase,
            start: Start::OnDemand,
            pid,
            process_gone: false,
            exit_code,
            service_exit_code: 17,
            checkpoint: 0,
            wait_hint_ms: 0,
        }
    }

    #[test]
    fn each_state_of_the_manager_is_one_of_the_contract() {
        for (row, state, pid) in [
            (row(Phase::Stopped, 0), State::Stopped, None),
            (row(Phase::Stopped, SERVICE_NEVER_STARTED), State::Stopped, None),
            (row(Phase::Stopped, PROCESS_ABORTED), State::Failed, None),
            (row(Phase::Stopped, SERVICE_SPECIFIC_ERROR), State::Failed, None),
            (row(Phase::StartPending, 0), State::StartPending, Some(44)),
            (row(Phase::ContinuePending, 0), State::StartPending, Some(44)),
            (row(Phase::Running, 0), State::Running, Some(44)),
            // What it left behind when it last ended.
            (row(Phase::Running, PROCESS_ABORTED), State::Running, Some(44)),
            (row(Phase::StopPending, 0), State::StopPending, Some(44)),
            (row(Phase::PausePending, 0), State::Paused, Some(44)),
            (row(Phase::Paused, 0), State::Paused, Some(44)),
        ] {
            let look = row.clone().look();
            assert_eq!((look.state, look.pid, look.coming), (state, pid, Coming::Nothing), "{row:?}");
        }
    }

    #[test]
    fn states_are_known_by_their_numbers() {
        let words: Vec<&str> = (0..9).map(|raw| Phase::from_raw(raw).map_or("", Phase::word)).collect();
        let known =
            ["stopped", "start-pending", "stop-pending", "running", "continue-pending", "pause-pending", "paused"];
        assert_eq!(words[1..8], known);
        assert_eq!((words[0], words[8]), ("", ""));
    }

    #[test]
    fn what_is_called_running_and_has_no_process_has_failed() {
        for phase in [Phase::Running, Phase::StartPending, Phase::StopPending, Phase::Paused] {
            let look = Row { process_gone: true, ..row(phase, 0) }.look();
            assert_eq!((look.state, look.pid), (State::Failed, None));
            let why = look.why.as_deref().unwrap();
            assert!(why.contains("pid 44") && why.contains(phase.word()), "{why}");
            assert!(look.details.contains(&("process-gone".to_owned(), "true".to_owned())));
        }
        let stopped = Row { process_gone: true, ..row(Phase::Stopped, 0) }.look();
        assert_eq!(stopped.state, State::Stopped);
    }

    #[test]
    fn why_a_service_does_not_run_is_said_in_words() {
        let why = |exit_code| row(Phase::Stopped, exit_code).look().why.unwrap_or_default();
        assert_eq!(why(0), "");
        assert_eq!(why(PROCESS_ABORTED), "its process ended unexpectedly (error 1067)");
        assert_eq!(why(SERVICE_SPECIFIC_ERROR), "it ended with its own error 17");
        assert_eq!(why(87), "it ended with error 87");
        let details = row(Phase::Stopped, SERVICE_SPECIFIC_ERROR).look().details;
        let keys: Vec<&str> = details.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["display-name", "service-state", "start-type", "exit-code", "service-exit-code"]);
    }

    #[test]
    fn an_error_is_told_by_its_number() {
        let code = |number| match refused("start", "is", State::Running, number, "words in some language") {
            Ok(asked) => format!("{asked:?}"),
            Err(trouble) => crate::capability::Fault::from(trouble).code,
        };
        for (number, expected) in [
            (SERVICE_ALREADY_RUNNING, "NotNow"),
            (SERVICE_CANNOT_ACCEPT_CTRL, "NotNow"),
            (SERVICE_NOT_ACTIVE, "NotNow"),
            (SERVICE_DOES_NOT_EXIST, "no-such-service"),
            (SERVICE_DISABLED, "service-disabled"),
            (ACCESS_DENIED, "service-denied"),
            (SERVICE_REQUEST_TIMEOUT, "service-failed"),
            (SERVICE_LOGON_FAILED, "service-failed"),
            (FILE_NOT_FOUND, "service-failed"),
            (DEPENDENT_SERVICES_RUNNING, "service"),
            (INVALID_SERVICE_CONTROL, "service"),
            (RPC_SERVER_UNAVAILABLE, "service-manager"),
            (4711, "service"),
        ] {
            assert_eq!(code(number), expected, "{number}");
        }
        let pending = refused("stop", "is", State::StartPending, INVALID_SERVICE_CONTROL, "");
        assert_eq!(pending, Ok(Asked::NotNow), "it takes that later");
    }

    #[test]
    fn names_are_those_that_windows_takes() {
        for name in ["MSExchangeIS", "MSSQL$MAIL", "My service (old)", &"a".repeat(256)] {
            assert_eq!(name_problem(name), None, "{name}");
        }
        for name in ["", "a/b", "a\\b", "a\n", &"a".repeat(257)] {
            assert!(name_problem(name).is_some(), "{name}");
        }
    }
}
