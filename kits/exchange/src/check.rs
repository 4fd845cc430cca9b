//! Whether the server serves: its services, then what clients find, and for a thorough check its databases.
//!
//! It changes nothing, and ends early only where the services alone say enough.

use std::time::Duration;

use mainstay_sdk::prelude::*;

use crate::databases;
use crate::plan::{Endpoint, Plan};
use crate::protocol::{self, Bad, Depth, Login};
use crate::recover::NOT_MOUNTED;
use crate::services::{Judged, View};

/// How long is waited between two looks at what does not greet yet.
const PAUSE: Duration = Duration::from_millis(500);

/// Looks at all of it. `id` is given for a thorough check, and names its question to the cmdlets.
pub(crate) fn check(plan: &Plan, depth: Depth, id: &str) -> Result<Report, Error> {
    let report = match View::of(plan)?.judge(plan) {
        Judged::Not(report) => return Ok(report),
        Judged::Run(report) => report,
    };
    let mut worst = report;
    let mut details = Vec::new();
    if depth == Depth::Transaction
        && let Some(portability) = &plan.portability
    {
        let unmounted = databases::unmounted(portability, &databases::look(portability, id)?);
        let said = if unmounted.is_empty() { "mounted".to_owned() } else { unmounted.join("; ") };
        if !unmounted.is_empty() {
            worst = worse(worst, Report::failed(NOT_MOUNTED, said.clone()));
        }
        details.push(("databases".to_owned(), said));
    }
    for (endpoint, seen) in look(plan, depth)? {
        let protocol = endpoint.protocol;
        match seen {
            Ok(took_ms) => details.push((protocol.name().to_owned(), format!("well, {took_ms} ms"))),
            Err(bad) => {
                worst = worse(worst, bad.report(protocol));
                details.push((protocol.name().to_owned(), bad.said));
            }
        }
    }
    worst.details.extend(details);
    Ok(worst)
}

/// How long a protocol took, in ms, or what is wrong with it.
type Seen = Result<u128, Bad>;

/// Looks at each protocol, none of which takes more than its share of what is left.
pub(crate) fn look(plan: &Plan, depth: Depth) -> Result<Vec<(&Endpoint, Seen)>, Error> {
    let login = match &plan.mailbox {
        Some(mailbox) if depth == Depth::Transaction => Some(Login::fetch(mailbox)?),
        Some(_) | None => None,
    };
    let mut seen = Vec::new();
    for (index, endpoint) in plan.endpoints.iter().enumerate() {
        let share = u32::try_from(plan.endpoints.len() - index).unwrap_or(u32::MAX);
        let time_max = crate::time_left() / share;
        seen.push((endpoint, protocol::look(endpoint, depth, login.as_ref(), time_max)?));
    }
    Ok(seen)
}

/// Waits until all of them greet.
pub(crate) fn wait_for_greetings(plan: &Plan) -> Result<(), Error> {
    let until = clock::monotonic() + plan.greet_within.min(crate::time_left());
    for endpoint in &plan.endpoints {
        loop {
            let left = until.saturating_sub(clock::monotonic());
            let bad = match protocol::look(endpoint, Depth::Greeting, None, left)? {
                Ok(_) => break,
                Err(bad) if bad.serves() => break,
                Err(bad) => bad,
            };
            if clock::monotonic() + PAUSE >= until {
                let report = bad.report(endpoint.protocol);
                let message = format!("its services run, and {}", report.summary);
                return Err(Error::timeout(report.code, message).elsewhere());
            }
            clock::sleep(PAUSE);
        }
    }
    Ok(())
}

/// The one that matters more.
fn worse(one: Report, other: Report) -> Report {
    if rank(&other) > rank(&one) { other } else { one }
}

fn rank(report: &Report) -> u8 {
    match report.health {
        Health::Healthy => 0,
        Health::Degraded => 1,
        Health::Unknown => 2,
        Health::Stopped => 3,
        Health::Failed => 4,
    }
}
