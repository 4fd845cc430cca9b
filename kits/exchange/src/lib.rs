//! The Exchange kit.

pub mod directory;

use std::collections::BTreeMap;

use mainstay_sdk::prelude::*;
use serde::Deserialize;

use directory::{DirectoryParams, Mode, Rehome, Rehomed, StoreName};

/// An Exchange server, in service on one node at a time.
#[derive(Clone, Debug, Deserialize, mainstay_sdk::Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExchangeParams {
    /// The name of the Exchange server on each node, by node.
    pub servers: BTreeMap<String, String>,
    /// The directory, where recipients have to be rehomed: Exchange 2003 and 2007.
    pub directory: DirectoryParams,
    /// Mailbox stores that are not called alike, from those of the other nodes to this one's.
    #[serde(default)]
    pub stores: Vec<StoreName>,
}

/// The kit.
#[derive(Debug)]
pub struct Exchange;

fn rehome(ctx: &Context<ExchangeParams>, mode: Mode) -> Result<Rehomed, Error> {
    let here = here(ctx)?;
    let mut all = Rehomed::default();
    for (_, from_server) in ctx.params.servers.iter().filter(|(node, _)| **node != ctx.node) {
        let asked =
            Rehome { from_server: from_server.clone(), to_server: here.clone(), stores: ctx.params.stores.clone() };
        let done = directory::rehome(&ctx.params.directory, &asked, mode)?;
        all.changed += done.changed;
        all.already += done.already;
        all.planned += done.planned;
        all.refused.extend(done.refused);
    }
    match all.refusal() {
        Some(error) => Err(error),
        None => Ok(all),
    }
}

fn here(ctx: &Context<ExchangeParams>) -> Result<String, Error> {
    let message = || format!("servers: there is none for this node, {}", ctx.node);
    ctx.params.servers.get(&ctx.node).cloned().ok_or_else(|| Error::invalid_params("params", message()))
}

impl Kit for Exchange {
    type Params = ExchangeParams;

    fn restore(ctx: &Context<ExchangeParams>) -> Result<Done, Error> {
        let done = rehome(ctx, Mode::Apply)?;
        let summary = format!("{} recipients rehomed, {} were here already", done.changed, done.already);
        Ok(if done.changed > 0 { Done::changed(summary) } else { Done::unchanged(summary) })
    }

    fn remove(_: &Context<ExchangeParams>) -> Result<Done, Error> {
        Ok(Done::unchanged("recipients keep their home until another node takes them"))
    }

    fn quick_check(ctx: &Context<ExchangeParams>) -> Result<Report, Error> {
        let done = rehome(ctx, Mode::DryRun)?;
        Ok(match (done.planned, done.already) {
            (0, 0) => Report::stopped("no recipient has its home here"),
            (0, already) => Report::healthy(format!("{already} recipients have their home here")),
            (planned, _) => Report::stopped(format!("{planned} recipients have their home elsewhere")),
        })
    }

    fn recover(ctx: &Context<ExchangeParams>, _: &Failure) -> Result<RecoveryResult, Error> {
        Ok(RecoveryResult::recovered(Self::restore(ctx)?.summary))
    }
}

impl Readiness for Exchange {
    fn assess(ctx: &Context<ExchangeParams>) -> Result<Vec<Finding>, Error> {
        let here = here(ctx)?;
        let mut findings = Vec::new();
        for (_, owner) in ctx.params.servers.iter().filter(|(node, _)| **node != ctx.node) {
            findings.extend(directory::compare(&ctx.params.directory, &here, owner, &ctx.params.stores)?);
        }
        Ok(findings)
    }
}

mainstay_sdk::export_kit!(Exchange, abilities: [readiness], needs: [
    net: "asks the directory",
    clock: "waits no longer than it may",
    secret: "reads the password of the directory's account",
]);
