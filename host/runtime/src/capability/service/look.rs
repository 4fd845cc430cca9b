//! What was seen of a service, in the words of no system, and what follows from it: how it is, whether it is to be asked for
//! something, whether a wait is over.
//!
//! Pure: `unit.rs` and `scm.rs` say what their system's words come to, `drive.rs` waits.

use std::fmt::Write as _;

use crate::bindings::mainstay::kit::service::{Standing, StartType, State};
use crate::capability::fault;
use crate::capability::{Fault, FaultKind};
use crate::outcome::Details;

/// A service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) state: State,
    /// Its main process, if it is there.
    pub(super) pid: Option<u32>,
    pub(super) start_type: StartType,
    /// What the system is about to do with it, beyond what `state` says.
    pub(super) coming: Coming,
    /// How it is, in the system's own words: `activating/start-pre`.
    pub(super) words: String,
    /// Why it does not run, if that is known.
    pub(super) why: Option<String>,
    pub(super) details: Details,
}

/// What the system is about to do with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    Nothing,
    /// Somebody has asked for it.
    Start,
    /// It starts it again by itself, after a failure and a pause.
    Again,
    /// Nothing, because it has not noticed that the service is gone.
    Unaware,
    Stop,
}

/// What to do now, on the way to a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It is reached.
    Done,
    /// The system is to be asked for it.
    Ask,
    /// It was asked, or is on its way.
    Wait,
    /// It was asked, and it will not come.
    Broken,
}

impl Look {
    /// On the way to running; `asked` is whether this call has asked for it.
    pub(super) fn starting(&self, asked: bool) -> Step {
        let unless_asked = if asked { Step::Wait } else { Step::Ask };
        match (self.state, self.coming) {
            // Somebody has asked for the opposite, and it has not begun.
            (State::Running, Coming::Stop) => unless_asked,
            (State::Running, Coming::Nothing | Coming::Start | Coming::Again | Coming::Unaware) => Step::Done,
            (State::StartPending | State::StopPending, _) => Step::Wait,
            (State::Paused, _) => unless_asked,
            // It waits for its turn.
            (State::Stopped | State::Failed, Coming::Start) => Step::Wait,
            // It has had its turn; another that the system gives it by itself is not this call's any more.
            (State::Stopped | State::Failed, _) if asked => Step::Broken,
            (State::Stopped | State::Failed, _) => Step::Ask,
        }
    }

    /// On the way to not running.
    pub(super) fn stopping(&self, asked: bool) -> Step {
        let unless_asked = if asked { Step::Wait } else { Step::Ask };
        match (self.state, self.coming) {
            // It would be up again in a moment.
            (State::Stopped | State::Failed | State::StopPending, Coming::Start | Coming::Again) => unless_asked,
            // What the system goes on to call running it does not start when it is to run again.
            (State::Stopped | State::Failed | State::StopPending, Coming::Unaware) => unless_asked,
            (State::Stopped | State::Failed, Coming::Nothing | Coming::Stop) => Step::Done,
            (State::StopPending, Coming::Nothing | Coming::Stop) => Step::Wait,
            (State::Running | State::StartPending | State::Paused, _) => unless_asked,
        }
    }

    /// How it is, for people.
    pub(super) fn summary(&self, name: &str) -> String {
        let mut said = match self.state {
            State::Stopped => format!("{name} does not run"),
            State::StartPending => format!("{name} is starting"),
            State::Running if self.pid.is_none() => format!("{name} counts as running, without a process"),
            State::Running => format!("{name} runs"),
            State::StopPending => format!("{name} is stopping"),
            State::Paused => format!("{name} is paused"),
            State::Failed => format!("{name} has failed"),
        };
        let pid = self.pid.map(|pid| format!("pid {pid}"));
        let words = (!self.words.is_empty()).then(|| self.words.clone());
        let inside: Vec<String> = pid.into_iter().chain(words).collect();
        if !inside.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(said, " ({})", inside.join(", "));
        }
        if let (State::Stopped | State::Failed, Some(why)) = (self.state, &self.why) {
            let _ = write!(said, ": {why}");
        }
        said.push_str(match (self.state, self.coming) {
            (State::Stopped | State::Failed | State::StopPending, Coming::Start) => "; it is about to be started",
            (State::Stopped | State::Failed | State::StopPending, Coming::Again) => {
                "; the system starts it again by itself"
            }
            (State::Running | State::StartPending | State::Paused, Coming::Stop) => "; it is about to be stopped",
            (_, Coming::Nothing | Coming::Start | Coming::Again | Coming::Unaware | Coming::Stop) => "",
        });
        said
    }

    /// How it came not to run, after it was started.
    pub(super) fn ended(&self, name: &str) -> String {
        let why = match (self.why.as_deref(), self.state) {
            (Some(why), _) => why,
            // The system may have forgotten by now which of the two it is.
            (None, State::Stopped) => {
                "without an error: it does its work and does not stay, or its conditions are not met"
            }
            (None, State::Failed | State::StartPending | State::Running | State::StopPending | State::Paused) => {
                "nothing is known of why"
            }
        };
        let words = if self.words.is_empty() { String::new() } else { format!(" ({})", self.words) };
        let again = match self.coming {
            Coming::Again => "; the system starts it again by itself",
            Coming::Nothing | Coming::Start | Coming::Unaware | Coming::Stop => "",
        };
        format!("{name} was started and ended again{words}: {why}{again}")
    }

    pub(super) fn standing(self, name: &str) -> Standing {
        let summary = self.summary(name);
        Standing { state: self.state, pid: self.pid, start_type: self.start_type, summary, details: self.details }
    }
}

/// Why a service cannot be asked, or does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It can have no such name here.
    #[error("`{0}` is no service: {1}")]
    Name(String, &'static str),
    /// It is not installed.
    #[error("there is no service {0} on this node; is it installed, and is that its name? A display name is none")]
    NoSuchService(String),
    /// Nobody can start it.
    #[error("{0}")]
    Disabled(String),
    /// It was started and ended again.
    #[error("{0}")]
    Ended(String),
    /// The daemon may not.
    #[error("{0}; let the daemon run as a user who may")]
    Denied(String),
    /// Others would be ended with it.
    #[error("{0} shares its process with other services, which would be ended with it")]
    #[cfg_attr(unix, expect(dead_code, reason = "a unit of systemd has processes of its own"))]
    SharedProcess(String),
    /// Nobody is there to be asked. Nothing happened.
    #[error("{0}")]
    NoManager(String),
    /// Whoever was asked is gone; what came of it is not known.
    #[error("{0}; what came of it is not known")]
    Lost(String),
    /// The time is over.
    #[error("{0}")]
    Late(String),
    /// The system says no.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    /// The same, after something was asked that may have happened.
    pub(super) fn after_asking(self) -> Self {
        match self {
            Self::NoManager(said) => Self::Lost(said),
            Self::Name(..)
            | Self::NoSuchService(_)
            | Self::Disabled(_)
            | Self::Ended(_)
            | Self::Denied(_)
            | Self::SharedProcess(_)
            | Self::Lost(_)
            | Self::Late(_)
            | Self::Refused(_) => self,
        }
    }
}

impl From<Trouble> for Fault {
    fn from(trouble: Trouble) -> Self {
        let (kind, code) = match &trouble {
            Trouble::Name(..) => (FaultKind::Invalid, "service-name"),
            Trouble::NoSuchService(_) => (FaultKind::NotFound, "no-such-service"),
            Trouble::Disabled(_) => (FaultKind::Failed, "service-disabled"),
            Trouble::Ended(_) => (FaultKind::Failed, "service-failed"),
            Trouble::Denied(_) => (FaultKind::Denied, "service-denied"),
            Trouble::SharedProcess(_) => (FaultKind::Failed, "shared-process"),
            Trouble::NoManager(_) => (FaultKind::Unavailable, "service-manager"),
            Trouble::Lost(_) => (FaultKind::Closed, "service-lost"),
            Trouble::Late(_) => (FaultKind::Timeout, "timeout"),
            Trouble::Refused(_) => (FaultKind::Failed, "service"),
        };
        fault(kind, code, trouble.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(state: State, coming: Coming) -> Look {
        let (pid, words, why) = (None, String::new(), None);
        Look { state, pid, start_type: StartType::Manual, coming, words, why, details: Vec::new() }
    }

    /// `?` ask, `.` wait, `!` done, `x` broken; first before it was asked, then after.
    fn steps(step: impl Fn(&Look, bool) -> Step, state: State, coming: Coming) -> String {
        let letter = |step| match step {
            Step::Ask => '?',
            Step::Wait => '.',
            Step::Done => '!',
            Step::Broken => 'x',
        };
        [false, true].map(|asked| letter(step(&look(state, coming), asked))).iter().collect()
    }

    #[test]
    fn what_is_done_follows_from_the_state_and_from_what_is_coming() {
        use Coming::{Again, Nothing, Start, Stop, Unaware};
        for (state, coming, starting, stopping) in [
            (State::Stopped, Nothing, "?x", "!!"),
            (State::Stopped, Start, "..", "?."),
            (State::Stopped, Stop, "?x", "!!"),
            (State::Failed, Nothing, "?x", "!!"),
            (State::Failed, Start, "..", "?."),
            (State::Failed, Again, "?x", "?."),
            (State::Failed, Unaware, "?x", "?."),
            (State::Failed, Stop, "?x", "!!"),
            (State::StartPending, Nothing, "..", "?."),
            (State::StartPending, Start, "..", "?."),
            (State::StartPending, Stop, "..", "?."),
            (State::Running, Nothing, "!!", "?."),
            (State::Running, Start, "!!", "?."),
            (State::Running, Stop, "?.", "?."),
            (State::StopPending, Nothing, "..", ".."),
            (State::StopPending, Start, "..", "?."),
            (State::StopPending, Stop, "..", ".."),
            (State::Paused, Nothing, "?.", "?."),
        ] {
            assert_eq!(steps(Look::starting, state, coming), starting, "start: {state:?} {coming:?}");
            assert_eq!(steps(Look::stopping, state, coming), stopping, "stop: {state:?} {coming:?}");
        }
    }

    #[test]
    fn a_summary_says_how_it_is_and_why() {
        let failed = Look {
            why: Some("its main process was killed by signal 9".to_owned()),
            words: "failed/failed".to_owned(),
            ..look(State::Failed, Coming::Nothing)
        };
        assert_eq!(failed.summary("is"), "is has failed (failed/failed): its main process was killed by signal 9");
        let again = Look { coming: Coming::Again, ..failed };
        assert!(again.summary("is").ends_with("; the system starts it again by itself"));
        assert!(again.ended("is").starts_with("is was started and ended again (failed/failed): its main process was"));
        let runs = Look { pid: Some(7), ..look(State::Running, Coming::Nothing) };
        assert_eq!(runs.summary("is"), "is runs (pid 7)");
        assert_eq!(look(State::Running, Coming::Nothing).summary("is"), "is counts as running, without a process");
        let hangs = Look { pid: Some(7), words: "stop-sigterm".to_owned(), ..look(State::StopPending, Coming::Stop) };
        assert_eq!(hangs.summary("is"), "is is stopping (pid 7, stop-sigterm)");
    }

    #[test]
    fn after_something_was_asked_a_loss_is_not_nothing() {
        let gone = || Trouble::NoManager("the system bus is gone".to_owned());
        assert_eq!(Fault::from(gone()).code, "service-manager");
        let lost = Fault::from(gone().after_asking());
        assert!(lost.code == "service-lost" && lost.kind == FaultKind::Closed, "{lost:?}");
        assert!(lost.message.ends_with("what came of it is not known"), "{lost:?}");
    }
}
