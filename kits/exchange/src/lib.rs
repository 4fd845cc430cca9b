//! The Exchange kit: a Microsoft Exchange server, in service on one node at a time.
//!
//! In service means: its services run, its databases are mounted, and clients are greeted. The kit orders the services by what is
//! known of the version or by what the operator lists, never by what it guesses; what a program says it did is held against what
//! is there afterwards. It keeps nothing but the last look at the databases.

mod check;
mod databases;
pub mod directory;
mod home;
mod params;
mod plan;
mod protocol;
mod readiness;
mod recover;
mod services;
mod shell;
mod versions;

pub use params::{
    EndpointParams, ExchangeParams, FullService, NeedParam, Protocols, ServiceParam, TestMailbox, Tls, WebParams,
};
pub use versions::{Known, Need, Protocol, Version};

use std::time::Duration;

use databases::Brought;
use mainstay_sdk::prelude::*;
use plan::Plan;
use protocol::Depth;
use services::{Place, View};

/// The kit.
#[derive(Debug)]
pub struct Exchange;

impl Kit for Exchange {
    type Params = ExchangeParams;

    fn restore(ctx: &Context<ExchangeParams>) -> Result<Done, Error> {
        let plan = Plan::new(ctx)?;
        let started = services::start(&plan, 0..plan.services.len())?;
        let Brought { mounted, repointed } = match &plan.portability {
            Some(portability) => databases::restore(portability, &question_id(ctx, "restore"))?,
            None => Brought::default(),
        };
        let rehomed = match &plan.home {
            Some(home) => home::rehome(home).map_err(Error::partial)?,
            None => 0,
        };
        check::wait_for_greetings(&plan).map_err(Error::partial)?;
        let mut did = Vec::new();
        if !started.is_empty() {
            did.push(format!("{} services started", started.len()));
        }
        if mounted > 0 {
            did.push(format!("{mounted} databases mounted"));
        }
        if repointed > 0 {
            did.push(format!("{repointed} mailboxes pointed here"));
        }
        if rehomed > 0 {
            did.push(format!("{rehomed} recipients rehomed"));
        }
        if did.is_empty() {
            return Ok(Done::unchanged("its services run already"));
        }
        let done = Done::changed(did.join(", "));
        Ok(if started.is_empty() { done } else { done.detail("started", started.join(", ")) })
    }

    fn remove(ctx: &Context<ExchangeParams>) -> Result<Done, Error> {
        let plan = Plan::new(ctx)?;
        let dismounted = dismount(ctx, &plan)?;
        let ours: Vec<Place> =
            (0..plan.services.len()).filter(|place| plan.services[*place].need != Need::System).collect();
        let done = services::stop(&plan, &ours)?;
        let view = View::of(&plan)?;
        let back: Vec<Place> = ours.into_iter().filter(|place| view.is_up(*place)).collect();
        if !back.is_empty() {
            let message = format!(
                "something starts again what was stopped: {}; look for a recovery action of the service, or who else starts it",
                view.said(&plan, &back)
            );
            return Err(Error::failed("service-back", message).here().partial());
        }
        if dismounted == 0 && done.stopped.is_empty() && done.ended.is_empty() {
            return Ok(Done::unchanged("none of its services ran"));
        }
        let mut said = Done::changed(format!("{} services stopped", done.stopped.len() + done.ended.len()));
        if dismounted > 0 {
            said.summary = format!("{dismounted} databases dismounted, {}", said.summary);
        }
        if !done.ended.is_empty() {
            said = said.detail("ended", done.ended.join(", "));
        }
        Ok(said)
    }

    fn quick_check(ctx: &Context<ExchangeParams>) -> Result<Report, Error> {
        check::check(&Plan::new(ctx)?, Depth::Greeting, &question_id(ctx, "quick-check"))
    }

    fn recover(ctx: &Context<ExchangeParams>, why: &Failure) -> Result<RecoveryResult, Error> {
        recover::recover(ctx, &Plan::new(ctx)?, why)
    }
}

impl DeepCheck for Exchange {
    fn deep_check(ctx: &Context<ExchangeParams>) -> Result<Report, Error> {
        check::check(&Plan::new(ctx)?, Depth::Transaction, &question_id(ctx, "deep-check"))
    }
}

impl Readiness for Exchange {
    fn assess(ctx: &Context<ExchangeParams>) -> Result<Vec<Finding>, Error> {
        readiness::assess(ctx, &Plan::new(ctx)?)
    }
}

/// Dismounts the databases, if the service that mounts them runs. The service does so too when it stops, so that a remove does
/// not hang on cmdlets that fail.
fn dismount(ctx: &Context<ExchangeParams>, plan: &Plan) -> Result<u32, Error> {
    let Some(portability) = &plan.portability else { return Ok(0) };
    let view = View::of(plan)?;
    let runs = |place: Place| plan.services[place].name == versions::STORE && view.runs(place);
    if !(0..plan.services.len()).any(runs) {
        return Ok(0);
    }
    match databases::dismount(portability, &question_id(ctx, "remove")) {
        Ok(count) => Ok(count),
        Err(error) => {
            mainstay_sdk::warn!("the databases are left to {} to dismount when it stops: {error}", versions::STORE);
            Ok(0)
        }
    }
}

/// What is kept of a call's time to say what came of it.
const ANSWER: Duration = Duration::from_secs(2);

/// What the call has left for what it does.
fn time_left() -> Duration {
    clock::remaining().saturating_sub(ANSWER)
}

/// Tells the answer to this question from any other.
fn question_id(ctx: &Context<ExchangeParams>, operation: &str) -> String {
    format!("{}.{}.{operation}", ctx.operation_id, ctx.attempt)
}

mainstay_sdk::export_kit!(Exchange, abilities: [readiness, deep_check], needs: [
    service: "starts and stops the server's services, and asks how they are",
    clock: "waits no longer than it may",
    store: "remembers for some minutes what the Exchange cmdlets said on a standby",
], optional: [
    net: "looks whether clients are greeted, and asks the directory",
    command: "runs the Exchange cmdlets that mount databases and point mailboxes at them",
    secret: "logs in to the test mailbox and the directory, and knows whose certificates to believe",
]);
