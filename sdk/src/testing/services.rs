//! The fake host's services, and what each function of `service` does to them.
//!
//! It keeps to the contract where a kit could lean on a difference: when a start or a stop returns, what a time that is over
//! leaves behind, and with which code what is refused (`docs/reference/kit-faults.md`). Time passes only as far as the kit
//! waits.

use std::collections::BTreeMap;
use std::time::Duration;

use super::refusals::denied;
use crate::service::{Standing, StartType, State};
use crate::{Fault, FaultKind};

/// The first fake process, and each further one has the next number.
const PID_FIRST: u32 = 1000;

/// A fake service, granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeService {
    /// Whether there is such a service.
    pub installed: bool,
    /// How it is.
    pub state: State,
    /// How it comes up by itself.
    pub start_type: StartType,
    /// Its process; each start gives it another.
    pub pid: Option<u32>,
    /// How long it takes to come up. [`Duration::MAX`]: it hangs while it starts.
    pub start_takes: Duration,
    /// So many starts end in failure before one goes well. [`u32::MAX`]: all.
    pub starts_that_fail: u32,
    /// How long it takes to stop. [`Duration::MAX`]: it ignores that it is asked to.
    pub stop_takes: Duration,
    /// Whether others live in its process, so that it is not ended.
    pub shares_process: bool,
    /// Why it does not run, if it ought to.
    pub trouble: String,
}

impl FakeService {
    /// One that is installed, does not run, is started by hand, and comes up and stops at once.
    #[must_use]
    pub fn stopped() -> Self {
        Self {
            installed: true,
            state: State::Stopped,
            start_type: StartType::Manual,
            pid: None,
            start_takes: Duration::ZERO,
            starts_that_fail: 0,
            stop_takes: Duration::ZERO,
            shares_process: false,
            trouble: "its process ended with exit code 1".into(),
        }
    }

    /// The same, and it runs.
    #[must_use]
    pub fn running() -> Self {
        Self { state: State::Running, pid: Some(PID_FIRST - 1), ..Self::stopped() }
    }

    /// One that is granted and not installed.
    #[must_use]
    pub fn missing() -> Self {
        Self { installed: false, ..Self::stopped() }
    }
}

/// What time it is, and how much of it a call to the host may take.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(super) now_ms: u64,
    pub(super) limit_ms: u64,
}

/// How long it took, in ms, and what came of it.
pub(crate) type Took<T> = (u64, Result<T, Fault>);

struct Entry {
    service: FakeService,
    /// What it is on its way to, and when it gets there.
    coming: Option<(State, u64)>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Services {
    entries: BTreeMap<String, Entry>,
    started: u32,
}

impl Services {
    pub(super) fn define(&mut self, name: &str, service: FakeService) {
        self.entries.insert(name.to_owned(), Entry { service, coming: None });
    }

    pub(super) fn now(&mut self, name: &str, now_ms: u64) -> Option<FakeService> {
        let entry = self.entries.get_mut(name)?;
        entry.arrive(now_ms);
        Some(entry.service.clone())
    }

    /// Its process is gone.
    pub(super) fn kill(&mut self, name: &str) -> bool {
        let Some(entry) = self.entries.get_mut(name) else { return false };
        entry.coming = None;
        entry.service.pid = None;
        entry.service.state = State::Failed;
        "its process was killed by signal 9".clone_into(&mut entry.service.trouble);
        true
    }

    fn entry(&mut self, name: &str, clock: Clock) -> Result<&mut Entry, Fault> {
        let entry = self.entries.get_mut(name).ok_or_else(|| denied(format_args!("the service {name}")))?;
        if !entry.service.installed {
            let message = format!("there is no service {name} on this node");
            return Err(Fault::new(FaultKind::NotFound, "no-such-service", message));
        }
        entry.arrive(clock.now_ms);
        Ok(entry)
    }

    pub(crate) fn query(&mut self, name: &str, clock: Clock) -> Took<Standing> {
        (0, self.entry(name, clock).map(|entry| entry.standing(name)))
    }

    pub(crate) fn start(&mut self, name: &str, clock: Clock) -> Took<bool> {
        self.started += 1;
        let pid = PID_FIRST + self.started - 1;
        let entry = match self.entry(name, clock) {
            Ok(entry) => entry,
            Err(fault) => return (0, Err(fault)),
        };
        if entry.service.state == State::Running {
            return (0, Ok(false));
        }
        if entry.service.start_type == StartType::Disabled {
            let message = format!("{name} is disabled, so nobody can start it");
            return (0, Err(Fault::new(FaultKind::Failed, "service-disabled", message)));
        }
        let mut began_ms = clock.now_ms;
        if entry.service.state == State::StopPending {
            let stopped_ms = entry.coming.map_or(u64::MAX, |(_, at_ms)| at_ms);
            if stopped_ms - clock.now_ms > clock.limit_ms {
                return entry.late(name, "start", clock);
            }
            began_ms = stopped_ms;
            entry.arrive(stopped_ms);
        }
        if entry.service.state != State::StartPending {
            let ready_ms = began_ms.saturating_add(crate::ms(entry.service.start_takes).into());
            let fails = entry.service.starts_that_fail > 0;
            if fails && entry.service.starts_that_fail < u32::MAX {
                entry.service.starts_that_fail -= 1;
            }
            entry.service.state = State::StartPending;
            entry.service.pid = Some(pid);
            entry.coming = Some((if fails { State::Failed } else { State::Running }, ready_ms));
        }
        let ready_ms = entry.coming.map_or(u64::MAX, |(_, at_ms)| at_ms);
        let took_ms = ready_ms.saturating_sub(clock.now_ms);
        if took_ms > clock.limit_ms {
            return entry.late(name, "start", clock);
        }
        entry.arrive(ready_ms);
        if entry.service.state == State::Running {
            return (took_ms, Ok(true));
        }
        let message = format!("{name} was started and ended again: {}", entry.service.trouble);
        (took_ms, Err(Fault::new(FaultKind::Failed, "service-failed", message)))
    }

    pub(crate) fn stop(&mut self, name: &str, clock: Clock) -> Took<bool> {
        let entry = match self.entry(name, clock) {
            Ok(entry) => entry,
            Err(fault) => return (0, Err(fault)),
        };
        match entry.service.state {
            State::Stopped | State::Failed => {
                entry.service.state = State::Stopped;
                return (0, Ok(false));
            }
            State::StopPending => {}
            State::StartPending | State::Running | State::Paused => {
                let stopped_ms = clock.now_ms.saturating_add(crate::ms(entry.service.stop_takes).into());
                entry.service.state = State::StopPending;
                entry.coming = Some((State::Stopped, stopped_ms));
            }
        }
        let stopped_ms = entry.coming.map_or(u64::MAX, |(_, at_ms)| at_ms);
        let took_ms = stopped_ms.saturating_sub(clock.now_ms);
        if took_ms > clock.limit_ms {
            return entry.late(name, "stop", clock);
        }
        entry.arrive(stopped_ms);
        (took_ms, Ok(true))
    }

    pub(crate) fn wait(&mut self, name: &str, state: State, clock: Clock) -> Took<Standing> {
        let entry = match self.entry(name, clock) {
            Ok(entry) => entry,
            Err(fault) => return (0, Err(fault)),
        };
        if entry.service.state == state {
            return (0, Ok(entry.standing(name)));
        }
        match entry.coming {
            Some((coming, at_ms)) if coming == state && at_ms - clock.now_ms <= clock.limit_ms => {
                entry.arrive(at_ms);
                (at_ms - clock.now_ms, Ok(entry.standing(name)))
            }
            Some(_) | None => entry.late(name, &format!("wait until it is {state}"), clock),
        }
    }

    pub(crate) fn end_processes(&mut self, name: &str, clock: Clock) -> Took<bool> {
        let entry = match self.entry(name, clock) {
            Ok(entry) => entry,
            Err(fault) => return (0, Err(fault)),
        };
        let had_some = entry.service.pid.is_some();
        if had_some && entry.service.shares_process {
            let message = format!("{name} shares its process with other services, which would be ended with it");
            return (0, Err(Fault::new(FaultKind::Failed, "shared-process", message)));
        }
        entry.coming = None;
        entry.service.pid = None;
        entry.service.state = State::Stopped;
        (0, Ok(had_some))
    }
}

impl Entry {
    /// What it was on its way to is there, if it is time.
    fn arrive(&mut self, now_ms: u64) {
        match self.coming {
            Some((state, at_ms)) if at_ms <= now_ms => {
                self.coming = None;
                self.service.state = state;
                if matches!(state, State::Stopped | State::Failed) {
                    self.service.pid = None;
                }
            }
            Some(_) | None => {}
        }
    }

    /// The time is over.
    fn late<T>(&self, name: &str, doing: &str, clock: Clock) -> Took<T> {
        let standing = self.standing(name);
        let message = format!("{doing} {name}: not within {} ms; {}", clock.limit_ms, standing.summary);
        (clock.limit_ms, Err(Fault::new(FaultKind::Timeout, "timeout", message)))
    }

    fn standing(&self, name: &str) -> Standing {
        let FakeService { state, start_type, pid, ref trouble, .. } = self.service;
        let process = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        let why = if state == State::Failed { format!(": {trouble}") } else { String::new() };
        let summary = format!("{name} is {state}{process}{why}");
        Standing { state, pid, start_type, summary, details: Vec::new() }
    }
}
