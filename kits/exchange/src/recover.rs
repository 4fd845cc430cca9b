//! Repair on this node: what failed is restarted, with what depends on it, and nothing else.

use mainstay_sdk::prelude::*;

use crate::plan::Plan;
use crate::protocol::Depth;
use crate::services::{self, Place, View};
use crate::versions::{Need, STORE};
use crate::{ExchangeParams, check, databases, question_id};

/// The code of a report that databases are not mounted.
pub(crate) const NOT_MOUNTED: &str = "not-mounted";

pub(crate) fn recover(ctx: &Context<ExchangeParams>, plan: &Plan, why: &Failure) -> Result<RecoveryResult, Error> {
    let mut failed = View::of(plan)?.bad(plan);
    let unmounted = why.report.as_ref().is_some_and(|report| report.code == NOT_MOUNTED);
    if failed.is_empty() && !unmounted {
        failed = behind_what_does_not_answer(plan)?;
        if failed.is_empty() {
            return Ok(RecoveryResult::recovered("all its services run, and clients find what they should"));
        }
    }
    let affected = services::with_dependents(plan, &failed);
    let stopped = services::stop(plan, &affected)?;
    let started = services::start(plan, affected.iter().copied()).map_err(once_more)?;
    let mut said = match started.as_slice() {
        [] => Vec::new(),
        names => vec![format!("restarted {}", names.join(", "))],
    };
    if let Some(portability) = &plan.portability
        && (unmounted || affected.iter().any(|place| plan.services[*place].name == STORE))
    {
        let mounted = databases::mount(portability, &question_id(ctx, "recover"))?;
        if mounted > 0 {
            said.push(format!("mounted {mounted} databases"));
        }
    }
    check::wait_for_greetings(plan).map_err(|error| error.here().partial())?;
    if said.is_empty() {
        said.push("nothing had to be done".to_owned());
    }
    let result = RecoveryResult::recovered(said.join("; "));
    Ok(if stopped.ended.is_empty() { result } else { result.detail("ended", stopped.ended.join(", ")) })
}

/// The services that serve what does not answer as it should, although all of them run. Where it is not known which one serves
/// it, all that are not the system's own.
fn behind_what_does_not_answer(plan: &Plan) -> Result<Vec<Place>, Error> {
    let mut behind: Vec<Place> = Vec::new();
    for (endpoint, seen) in check::look(plan, Depth::Transaction)? {
        let Err(bad) = seen else { continue };
        if bad.serves() {
            continue;
        }
        let places = || (0..plan.services.len()).filter(|place| plan.services[*place].wanted);
        let serving: Vec<Place> =
            places().filter(|place| plan.services[*place].serves.contains(&endpoint.protocol)).collect();
        if serving.is_empty() {
            behind.extend(places().filter(|place| plan.services[*place].need != Need::System));
        } else {
            behind.extend(serving);
        }
    }
    behind.sort_unstable();
    behind.dedup();
    Ok(behind)
}

/// How often it is tried here is for the operator's `attempts` to say.
fn once_more(error: Error) -> Error {
    if error.code == "service-failed" { error.here() } else { error }
}
