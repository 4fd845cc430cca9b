//! Whether this node could bring the server in service: its services, the cmdlets, what Exchange says of its databases, and what the
//! directory says of the servers.
//!
//! The cmdlets take seconds of a processor each time, so what they said holds for a while.

use std::time::Duration;

use mainstay_sdk::prelude::*;
use mainstay_sdk::service::StartType;
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Portability, Service};
use crate::protocol::Login;
use crate::versions::Need;
use crate::{ExchangeParams, databases, home, question_id};

/// Where the last look at the databases is kept.
const LOOK: &str = "look";
/// How long a look holds that found nothing in the way: databases and servers change rarely, and by hand.
const LOOK_HOLDS: Duration = Duration::from_secs(600);
/// How long one holds that did: what is mended is to be noticed soon.
const BAD_LOOK_HOLDS: Duration = Duration::from_secs(60);

pub(crate) fn assess(ctx: &Context<ExchangeParams>, plan: &Plan) -> Result<Vec<Finding>, Error> {
    let mut found = Vec::new();
    for service in plan.services.iter().filter(|service| service.wanted) {
        found.extend(of_service(service)?);
    }
    if let Some(mailbox) = &plan.mailbox
        && let Err(error) = Login::fetch(mailbox)
    {
        let advice = "Without it no thorough check could be made here";
        found.push(Finding::warning(error.code, error.message, advice));
    }
    if let Some(portability) = &plan.portability {
        found.extend(of_databases(ctx, portability)?);
    }
    if let Some(home) = &plan.home {
        found.extend(home::findings(home));
    }
    Ok(found)
}

fn of_service(service: &Service) -> Result<Option<Finding>, Error> {
    let Service { name, need, .. } = service;
    let optional = *need == Need::Optional;
    let standing = match service::query(name) {
        Ok(standing) => standing,
        Err(fault) if fault.code == "no-such-service" || fault.kind == FaultKind::Denied => {
            return Ok((!optional).then(|| {
                let advice = "Install it, or grant it; if this server goes without it, list its services in the params";
                Finding::blocking(fault.code, fault.message, advice)
            }));
        }
        Err(fault) => return Err(Error::from(fault).doing(format_args!("ask for the service {name}"))),
    };
    Ok(match standing.start_type {
        StartType::Disabled if !optional => {
            let advice = "Set it to be started by hand";
            Some(Finding::blocking("service-disabled", format!("the service {name} is disabled"), advice))
        }
        StartType::Automatic if *need != Need::System => Some(Finding::warning(
            "starts-by-itself",
            format!("the service {name} starts with this node, whoever owns the server then"),
            "Set it to be started by hand on every node: mainstay starts it where it is in service",
        )),
        StartType::Disabled | StartType::Automatic | StartType::Manual | StartType::Other => None,
    })
}

/// A look that was taken.
#[derive(Deserialize, Serialize)]
struct Kept {
    at_unix_ms: u64,
    /// Of which server and databases, by which program.
    of: String,
    found: Vec<KeptFinding>,
}

#[derive(Deserialize, Serialize)]
struct KeptFinding {
    blocking: bool,
    code: String,
    summary: String,
    advice: String,
}

fn of_databases(ctx: &Context<ExchangeParams>, portability: &Portability) -> Result<Vec<Finding>, Error> {
    let of = format!("{portability:?}");
    // What cannot be read is of no use, and replaced.
    let kept: Option<Kept> = store::get(LOOK)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(kept) = kept.filter(|kept| kept.of == of && kept.holds(clock::unix_ms())) {
        return Ok(kept.found.into_iter().map(KeptFinding::finding).collect());
    }
    let found = match databases::look(portability, &question_id(ctx, "assess")) {
        Ok(answer) => databases::findings(portability, &answer),
        Err(error) => vec![of_error(error)],
    };
    let kept = Kept { at_unix_ms: clock::unix_ms(), of, found: found.iter().map(KeptFinding::of).collect() };
    let json = serde_json::to_vec(&kept).map_err(|error| Error::failed("look", error.to_string()).no_effect())?;
    // Without it the look is only taken again sooner.
    if let Err(fault) = store::put(LOOK, &json) {
        mainstay_sdk::warn!("the look at the databases is not kept: {fault}");
    }
    Ok(found)
}

/// The cmdlets did not answer.
fn of_error(error: Error) -> Finding {
    match error.code.as_str() {
        // They are there and could not do it, such as for want of a service of Exchange that does not run on a standby.
        "cmdlet" | "powershell-timeout" | "no-time" => Finding::warning(
            error.code,
            format!("Exchange could not be asked for its databases: {}", error.message),
            "Look what its cmdlets say on this node; where they want Exchange's services, that is seen only in service",
        ),
        _ => Finding::blocking(
            error.code,
            format!("Exchange could not be asked for its databases: {}", error.message),
            "The param powershell has to name a real Windows PowerShell, granted, on a node with the Exchange cmdlets",
        ),
    }
}

impl Kept {
    fn holds(&self, now_unix_ms: u64) -> bool {
        let time = if self.found.is_empty() { LOOK_HOLDS } else { BAD_LOOK_HOLDS };
        // A clock that was set back makes it worthless.
        now_unix_ms.checked_sub(self.at_unix_ms).is_some_and(|age_ms| u128::from(age_ms) < time.as_millis())
    }
}

impl KeptFinding {
    fn of(finding: &Finding) -> Self {
        Self {
            blocking: finding.weight == Weight::Blocking,
            code: finding.code.clone(),
            summary: finding.summary.clone(),
            advice: finding.advice.clone(),
        }
    }

    fn finding(self) -> Finding {
        let Self { blocking, code, summary, advice } = self;
        if blocking { Finding::blocking(code, summary, advice) } else { Finding::warning(code, summary, advice) }
    }
}
