//! What happens to real hosts when power, links, daemons, disks and clocks fail, in every mode.
//!
//! `docs/reference/scenarios.md` is the table: what is done, what is expected, which of these tests holds it. Each test
//! has hosts and links of its own. One binary for all, so that their waiting overlaps.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod arbiter;
mod clock;
mod compare;
mod daemon;
mod disk;
mod links;
mod loss;
mod paths;
mod power;
mod three;
mod volume;

use std::time::Duration;

use mainstay_test_hosts::Lab;

/// How long a takeover without an operator may take here, on a machine that does much else: what it takes on an idle one
/// is measured by `just bench failover`.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);

/// The operator answers the alarm about a silent owner on this host.
#[track_caller]
fn confirm(lab: &Lab, host: &str) {
    lab.wait_for_alarm(host, "mainstay confirm shop");
    lab.host(host).mainstay(&["confirm", "shop", "--yes"]).ok();
}

/// A takeover without an operator was quick enough, and says how quick. Zero is one that was too short to be seen: an owner
/// that is cut off serves until it is switched off.
#[track_caller]
fn took_over(lab: &Lab, since: Duration) {
    let outage = lab.prober.timeline().outage_since(since);
    println!("outage: {:.3} s", outage.as_secs_f64());
    assert!(outage <= TAKEOVER_MAX, "{outage:?}\n{}", lab.prober.timeline());
}
