//! The services of the server: how they are, and how they are started and stopped in order.
//!
//! It decides from what the system says of each, and from the order and the dependencies of the plan. A service that is optional
//! and not there, not granted or disabled is left alone. A service of the system is started if it does not run, and never stopped
//! to take the server out of service.

use std::time::Duration;

use mainstay_sdk::prelude::*;
use mainstay_sdk::service::{Standing, StartType, State};

use crate::plan::{Plan, Service};
use crate::versions::Need;

/// How many services a summary names. The rest is counted.
const NAMED_COUNT_MAX: usize = 3;

/// Where a service is in the plan.
pub(crate) type Place = usize;

/// How the services of the plan are, in its order. None: it is not there, or not to be used.
pub(crate) struct View(pub(crate) Vec<Option<Standing>>);

/// What the services come to, together.
pub(crate) enum Judged {
    /// All that have to run do; the report says it, or what a person should know.
    Run(Report),
    /// They do not; the report says how.
    Not(Report),
}

impl View {
    /// Asks for each of them.
    pub(crate) fn of(plan: &Plan) -> Result<Self, Error> {
        plan.services.iter().map(standing).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn runs(&self, place: Place) -> bool {
        self.0.get(place).and_then(Option::as_ref).is_some_and(Standing::runs)
    }

    /// Whether something of it runs, or is about to.
    pub(crate) fn is_up(&self, place: Place) -> bool {
        !self.is_down(place)
    }

    /// Those that ought to run and do not.
    pub(crate) fn bad(&self, plan: &Plan) -> Vec<Place> {
        let ought = |place: &Place| {
            let service = &plan.services[*place];
            service.wanted && !self.runs(*place) && (service.need != Need::Optional || self.0[*place].is_some())
        };
        (0..plan.services.len()).filter(ought).collect()
    }

    /// What is seen, as one.
    pub(crate) fn judge(&self, plan: &Plan) -> Judged {
        let bad = self.bad(plan);
        let is = |need: Need| move |place: &Place| plan.services[*place].need == need;
        // Of the system's own nothing follows: they run for others too.
        let ours = || (0..plan.services.len()).filter(|place| plan.services[*place].need != Need::System);
        if ours().all(|place| self.is_down(place)) {
            // One that has failed does not run either, and not every system forgets that it did.
            let failed: Vec<Place> = ours().filter(|place| self.state(*place) == Some(State::Failed)).collect();
            let said = if failed.is_empty() { String::new() } else { format!(": {}", self.said(plan, &failed)) };
            return Judged::Not(Report::stopped(format!("none of its services runs here{said}")));
        }
        let needed: Vec<Place> = bad.iter().copied().filter(|place| !is(Need::Optional)(place)).collect();
        if needed.is_empty() {
            let optional = self.said(plan, &bad);
            return Judged::Run(if bad.is_empty() {
                Report::healthy(format!(
                    "all {} services run",
                    (0..plan.services.len()).filter(|at| self.runs(*at)).count()
                ))
            } else {
                Report::degraded("service-optional", format!("a service that is not needed does not run: {optional}"))
            });
        }
        let said = self.said(plan, &needed);
        // On its way: a check that comes too early is one that timed out, and does not count for more than that.
        let coming = needed.iter().all(|place| self.state(*place) == Some(State::StartPending));
        Judged::Not(if coming {
            Report::unknown("service-starting", format!("not all services run yet: {said}")).detail("timed-out", "true")
        } else {
            Report::failed("service", format!("not all services run: {said}"))
        })
    }

    fn state(&self, place: Place) -> Option<State> {
        self.0.get(place).and_then(Option::as_ref).map(|standing| standing.state)
    }

    /// Whether nothing of it runs.
    fn is_down(&self, place: Place) -> bool {
        self.0.get(place).and_then(Option::as_ref).is_none_or(Standing::is_down)
    }

    /// How these are, in words.
    pub(crate) fn said(&self, plan: &Plan, places: &[Place]) -> String {
        let said = places.iter().take(NAMED_COUNT_MAX).map(|place| match &self.0[*place] {
            Some(standing) => standing.summary.clone(),
            None => format!("{} is not installed", plan.services[*place].name),
        });
        let said: Vec<String> = said.collect();
        match places.len().saturating_sub(NAMED_COUNT_MAX) {
            0 => said.join("; "),
            more => format!("{}; and {more} more", said.join("; ")),
        }
    }
}

/// How one is. None: it is not installed; or it is optional and not to be used.
fn standing(service: &Service) -> Result<Option<Standing>, Error> {
    let optional = service.need == Need::Optional;
    match service::query(&service.name) {
        Ok(standing) if optional && standing.start_type == StartType::Disabled && standing.is_down() => Ok(None),
        Ok(standing) => Ok(Some(standing)),
        Err(fault) if fault.code == "no-such-service" => Ok(None),
        Err(fault) if optional && fault.kind == FaultKind::Denied => Ok(None),
        // What is stopped only in case it runs need not be granted to be left alone.
        Err(fault) if !service.wanted && fault.kind == FaultKind::Denied => Ok(None),
        Err(fault) => Err(Error::from(fault).doing(format_args!("ask for the service {}", service.name))),
    }
}

/// Starts those of `places` that do not run, in order: the names of those it started.
///
/// A start that fails ends it: what comes after depends on it, or is of no use without.
pub(crate) fn start(plan: &Plan, places: impl IntoIterator<Item = Place>) -> Result<Vec<String>, Error> {
    let mut started = Vec::new();
    for place in places {
        let service = &plan.services[place];
        if !service.wanted {
            continue;
        }
        let Some(before) = standing(service)? else {
            if service.need == Need::Optional {
                continue;
            }
            let message = format!("the service {} is not installed on this node", service.name);
            return Err(after(&started, Error::unsupported("no-such-service", message)));
        };
        if before.runs() {
            continue;
        }
        let time = time_for(service, &started)?;
        match service::start(&service.name, Some(time)) {
            Ok(true) => started.push(service.name.clone()),
            Ok(false) => {}
            Err(fault) if service.need == Need::Optional && fault.kind != FaultKind::Timeout => {
                mainstay_sdk::warn!("{} does not start, and the server goes without it: {fault}", service.name);
            }
            Err(fault) => return Err(after(&started, not_started(service, fault))),
        }
    }
    Ok(started)
}

fn not_started(service: &Service, fault: Fault) -> Error {
    let doing = format!("start the service {}", service.name);
    match fault.kind {
        // It may be there a moment later, and then the next attempt finds it running.
        FaultKind::Timeout => Error::timeout("service-start", fault.message).doing(doing).here(),
        FaultKind::Failed => Error::from(fault).doing(doing).elsewhere(),
        FaultKind::Denied
        | FaultKind::Invalid
        | FaultKind::NotFound
        | FaultKind::Unavailable
        | FaultKind::Closed
        | FaultKind::Limit => Error::from(fault).doing(doing),
    }
}

/// An error after others were started.
fn after(started: &[String], error: Error) -> Error {
    if started.is_empty() { error } else { error.partial() }
}

/// What stopping came to.
#[derive(Default)]
pub(crate) struct Stopped {
    /// Those that stopped.
    pub(crate) stopped: Vec<String>,
    /// Those whose processes had to be ended.
    pub(crate) ended: Vec<String>,
}

/// Stops those of `places` that run, in reverse order.
pub(crate) fn stop(plan: &Plan, places: &[Place]) -> Result<Stopped, Error> {
    let mut done = Stopped::default();
    for place in places.iter().rev() {
        let service = &plan.services[*place];
        // What failed is stopped too: the system forgets that it failed, and it is not started again.
        let Some(_) = standing(service)? else { continue };
        let time = time_for(service, &done.stopped)?;
        match service::stop(&service.name, Some(time)) {
            Ok(true) => done.stopped.push(service.name.clone()),
            Ok(false) => {}
            Err(fault) if fault.kind == FaultKind::Timeout => end(plan, service, fault, &mut done)?,
            Err(fault) => {
                let error = Error::from(fault).doing(format_args!("stop the service {}", service.name)).here();
                return Err(after(&done.stopped, error));
            }
        }
    }
    Ok(done)
}

/// A service that ignores that it is to stop.
fn end(plan: &Plan, service: &Service, fault: Fault, done: &mut Stopped) -> Result<(), Error> {
    if !plan.end_processes {
        let message =
            format!("{}: end its processes by hand, or set end-processes = true to have that done", fault.message);
        let error = Error::timeout("service-stop", message).doing(format_args!("stop the service {}", service.name));
        return Err(after(&done.stopped, error.here()));
    }
    mainstay_sdk::warn!("{} does not stop, so its processes are ended: {fault}", service.name);
    let time = time_for(service, &done.stopped)?;
    let any = service::end_processes(&service.name, Some(time)).map_err(|fault| {
        let doing = format!("end the processes of {}, which does not stop", service.name);
        after(&done.stopped, Error::from(fault).doing(doing).here())
    })?;
    if any {
        done.ended.push(service.name.clone());
    }
    Ok(())
}

/// What a service may take: its own time, or what the call has left.
fn time_for(service: &Service, done: &[String]) -> Result<Duration, Error> {
    let left = crate::time_left();
    if left.is_zero() {
        let message =
            format!("the call's time is over before the turn of {}: give the operation more time", service.name);
        return Err(after(done, Error::timeout("no-time", message).here()));
    }
    Ok(service.time.min(left))
}

/// `places` with all that depends on them, in order. What is not wanted does not come in by that.
pub(crate) fn with_dependents(plan: &Plan, places: &[Place]) -> Vec<Place> {
    let mut all: Vec<Place> = Vec::new();
    for (place, service) in plan.services.iter().enumerate() {
        if places.contains(&place) || service.depends_on.iter().any(|on| all.contains(on)) {
            all.push(place);
        }
    }
    all
}
