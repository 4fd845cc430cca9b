//! From a [`crate::Kit`] to the interfaces a kit exports, `recovery` and its abilities. Only in a component.
//!
//! It reads the params, calls the kit, turns its answer into the contract's types. Nothing here decides
//! anything about a resource.

use std::marker::PhantomData;

use crate::bindings::deep::exports::mainstay::kit::deep_check as wit_deep_check;
use crate::bindings::exports::mainstay::kit::recovery::Guest;
use crate::bindings::mainstay::kit::types as wit;
use crate::bindings::ready::exports::mainstay::kit::readiness as wit_readiness;
use crate::{
    Context, DeepCheck, Described, Done, Effect, Error, ErrorKind, Failure, Finding, Health, Kit, Params, Readiness,
    RecoveryResult, Report, Retry, Verdict, Weight,
};

/// What is exported for a kit.
#[derive(Debug)]
pub struct Exported<K>(PhantomData<K>);

impl<K: Kit + Described> Guest for Exported<K> {
    fn restore(ctx: wit::Context) -> Result<wit::Done, wit::Error> {
        begin::<K>();
        context::<K>(ctx).and_then(|ctx| K::restore(&ctx)).map(done).map_err(error)
    }

    fn remove(ctx: wit::Context) -> Result<wit::Done, wit::Error> {
        begin::<K>();
        context::<K>(ctx).and_then(|ctx| K::remove(&ctx)).map(done).map_err(error)
    }

    fn quick_check(ctx: wit::Context) -> Result<wit::Report, wit::Error> {
        begin::<K>();
        context::<K>(ctx).and_then(|ctx| K::quick_check(&ctx)).map(report).map_err(error)
    }

    fn recover(ctx: wit::Context, why: wit::Failure) -> Result<wit::RecoveryResult, wit::Error> {
        begin::<K>();
        let why = Failure {
            found_by: why.found_by,
            report: why.report.map(report_seen),
            bad_checks: why.bad_checks,
            details: why.details,
        };
        context::<K>(ctx).and_then(|ctx| K::recover(&ctx, &why)).map(recovery_result).map_err(error)
    }
}

impl<K: Readiness + Described> wit_readiness::Guest for Exported<K> {
    fn assess(ctx: wit::Context) -> Result<Vec<wit_readiness::Finding>, wit::Error> {
        begin::<K>();
        let found = context::<K>(ctx).and_then(|ctx| K::assess(&ctx)).map_err(error)?;
        Ok(found.into_iter().map(finding).collect())
    }
}

impl<K: DeepCheck + Described> wit_deep_check::Guest for Exported<K> {
    fn deep_check(ctx: wit::Context) -> Result<wit::Report, wit::Error> {
        begin::<K>();
        context::<K>(ctx).and_then(|ctx| K::deep_check(&ctx)).map(report).map_err(error)
    }
}

/// Every call has a fresh instance, so this is always its first step. The test is constant: a kit that
/// does without the hook does not import the log for it.
fn begin<K: Described>() {
    if K::PANICS_LOGGED {
        std::panic::set_hook(Box::new(|info| {
            let message = info.payload_as_str().unwrap_or("the panic carries no text");
            let location = info.location().map_or_else(String::new, |at| format!("{}:{}", at.file(), at.line()));
            let fields = vec![("location".to_owned(), location)];
            crate::log::emit(crate::log::Level::Error, &format!("the kit panicked: {message}"), &fields);
        }));
    }
}

fn context<K: Kit>(ctx: wit::Context) -> Result<Context<K::Params>, Error> {
    let params = <K::Params as Params>::read(&ctx.params)?;
    Ok(Context {
        tag: ctx.tag,
        node: ctx.node,
        params,
        operation_id: ctx.operation_id,
        attempt: ctx.attempt,
        epoch: ctx.epoch,
        budget_ms: ctx.budget_ms,
        hints: ctx.hints,
    })
}

fn done(done: Done) -> wit::Done {
    wit::Done { changed: done.changed, summary: done.summary, details: done.details }
}

fn report(report: Report) -> wit::Report {
    let health = match report.health {
        Health::Healthy => wit::Health::Healthy,
        Health::Degraded => wit::Health::Degraded,
        Health::Stopped => wit::Health::Stopped,
        Health::Failed => wit::Health::Failed,
        Health::Unknown => wit::Health::Unknown,
    };
    wit::Report { health, code: report.code, summary: report.summary, details: report.details }
}

fn report_seen(report: wit::Report) -> Report {
    let health = match report.health {
        wit::Health::Healthy => Health::Healthy,
        wit::Health::Degraded => Health::Degraded,
        wit::Health::Stopped => Health::Stopped,
        wit::Health::Failed => Health::Failed,
        wit::Health::Unknown => Health::Unknown,
    };
    Report { health, code: report.code, summary: report.summary, details: report.details }
}

fn finding(finding: Finding) -> wit_readiness::Finding {
    let weight = match finding.weight {
        Weight::Note => wit_readiness::Weight::Note,
        Weight::Warning => wit_readiness::Weight::Warning,
        Weight::Blocking => wit_readiness::Weight::Blocking,
    };
    let Finding { code, summary, advice, details, .. } = finding;
    wit_readiness::Finding { weight, code, summary, advice, details }
}

fn recovery_result(result: RecoveryResult) -> wit::RecoveryResult {
    let verdict = match result.verdict {
        Verdict::Recovered => wit::Verdict::Recovered,
        Verdict::RestartDependents => wit::Verdict::RestartDependents,
        Verdict::GiveUp => wit::Verdict::GiveUp,
    };
    wit::RecoveryResult { verdict, summary: result.summary, details: result.details }
}

fn error(error: Error) -> wit::Error {
    let kind = match error.kind {
        ErrorKind::InvalidParams => wit::ErrorKind::InvalidParams,
        ErrorKind::Denied => wit::ErrorKind::Denied,
        ErrorKind::Unavailable => wit::ErrorKind::Unavailable,
        ErrorKind::Conflict => wit::ErrorKind::Conflict,
        ErrorKind::Timeout => wit::ErrorKind::Timeout,
        ErrorKind::Unsupported => wit::ErrorKind::Unsupported,
        ErrorKind::Failed => wit::ErrorKind::Failed,
    };
    let retry = match error.retry {
        Retry::Here => wit::Retry::Here,
        Retry::Elsewhere => wit::Retry::Elsewhere,
        Retry::Nowhere => wit::Retry::Nowhere,
    };
    let effect = match error.effect {
        Effect::None => wit::Effect::None,
        Effect::Partial => wit::Effect::Partial,
        Effect::Unknown => wit::Effect::Unknown,
    };
    wit::Error {
        kind,
        code: error.code,
        message: error.message,
        retry,
        retry_after_ms: error.retry_after_ms,
        effect,
        details: error.details,
    }
}
