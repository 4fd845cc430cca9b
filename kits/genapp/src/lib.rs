//! The GenApp kit: any application that has a program to start it and a program to stop it.
//!
//! It decides nothing about the application by itself: the operator's programs do, and what they exit with
//! is what counts. Programs written for LifeKeeper's generic application work unchanged: they are called
//! with `-t TAG -i ID`, and what restore and recover leave in the background is the application and lives
//! on. The kit keeps nothing: what is there is found out by the programs.

mod params;
mod program;

pub use params::{FullProgram, GenAppParams, Program, WithoutRecover};

use mainstay_sdk::command::Ending;
use mainstay_sdk::prelude::*;
use program::{Children, run};

/// The kit.
#[derive(Debug)]
pub struct GenApp;

impl Kit for GenApp {
    type Params = GenAppParams;

    fn restore(ctx: &Context<GenAppParams>) -> Result<Done, Error> {
        let program = &ctx.params.restore;
        match run(ctx, program, Children::Keep)? {
            Ok(took_ms) => Ok(Done::changed(format!("{} brought it in service", program.path()))
                .detail("program", program.path())
                .detail("took-ms", took_ms)),
            // Some of it may run by now; the host calls remove next.
            Err(bad) => Err(bad.error("restore").elsewhere().partial()),
        }
    }

    fn remove(ctx: &Context<GenAppParams>) -> Result<Done, Error> {
        let program = &ctx.params.remove;
        match run(ctx, program, Children::End)? {
            Ok(took_ms) => Ok(Done::changed(format!("{} took it out of service", program.path()))
                .detail("program", program.path())
                .detail("took-ms", took_ms)),
            Err(bad) => Err(bad.error("remove").here().effect_unknown()),
        }
    }

    fn quick_check(ctx: &Context<GenAppParams>) -> Result<Report, Error> {
        let Some(program) = &ctx.params.quick_check else {
            return Ok(Report::healthy("not monitored: there is no quick-check program, so its health is not known")
                .code("not-monitored")
                .detail("monitored", "false"));
        };
        match run(ctx, program, Children::End)? {
            Ok(took_ms) => Ok(Report::healthy(format!("{} says it serves", program.path())).detail("took-ms", took_ms)),
            Err(bad) => {
                let error = bad.error("quick-check").no_effect();
                match bad.ending {
                    Ending::Exited(_) => {
                        Ok(Report { details: error.details, ..Report::failed(error.code, error.message) })
                    }
                    // A server that hangs does not answer its check either; one slow check is tolerated.
                    Ending::TimedOut => {
                        let report = Report { details: error.details, ..Report::unknown(error.code, error.message) };
                        Ok(report.detail("timed-out", "true"))
                    }
                    // It says nothing about the application: an error is health unknown.
                    Ending::Signalled(_) => Err(error),
                }
            }
        }
    }

    fn recover(ctx: &Context<GenAppParams>, _: &Failure) -> Result<RecoveryResult, Error> {
        let Some(program) = &ctx.params.recover else {
            return match ctx.params.without_recover {
                WithoutRecover::GiveUp => {
                    Ok(RecoveryResult::give_up("there is no recover program, and the params say to give up then"))
                }
                WithoutRecover::Restart => {
                    Self::remove(ctx).map_err(|error| error.doing("restart it"))?;
                    Self::restore(ctx).map_err(|error| error.doing("restart it"))?;
                    Ok(RecoveryResult::recovered("restarted: remove, then restore"))
                }
            };
        };
        match run(ctx, program, Children::Keep)? {
            Ok(took_ms) => {
                Ok(RecoveryResult::recovered(format!("{} repaired it", program.path())).detail("took-ms", took_ms))
            }
            Err(bad) => {
                let error = bad.error("recover").elsewhere().partial();
                match bad.ending {
                    // The program's word: it cannot be repaired here.
                    Ending::Exited(_) => {
                        Ok(RecoveryResult { details: error.details, ..RecoveryResult::give_up(error.message) })
                    }
                    Ending::Signalled(_) | Ending::TimedOut => Err(error),
                }
            }
        }
    }
}

impl Readiness for GenApp {
    fn assess(ctx: &Context<GenAppParams>) -> Result<Vec<Finding>, Error> {
        let Some(program) = &ctx.params.readiness else { return Ok(Vec::new()) };
        let Err(bad) = run(ctx, program, Children::End)? else { return Ok(Vec::new()) };
        let error = bad.error("readiness").no_effect();
        match bad.ending {
            Ending::Exited(_) => {
                let advice = "See to what it says; it is asked again by itself";
                let finding = Finding::blocking(error.code, error.message, advice);
                Ok(vec![Finding { details: error.details, ..finding }])
            }
            // It says nothing about whether the node is ready.
            Ending::Signalled(_) | Ending::TimedOut => Err(error),
        }
    }
}

mainstay_sdk::export_kit!(GenApp, abilities: [readiness], needs: [
    command: "runs the programs that bring the application in service, take it out, check and repair it",
]);
