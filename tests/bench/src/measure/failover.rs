//! A power cut at the owner, and how long nobody serves: mainstay, keepalived, Pacemaker with Corosync.
//!
//! `mainstay-test-hosts` has the hosts, the prober and the peers (`tests/hosts/src/peers`): the same links, the same
//! application at an address that moves, asked from outside. They take turns. mainstay's own share is from its events:
//! from when the owner is silent to being in service, without the kit operations in between.

use mainstay_test_hosts::arbiter::LEASE_S;
use mainstay_test_hosts::peers::{ByLease, ByPaths, Keepalived, Missing, Pacemaker, Peer};

use crate::effort::Effort;
use crate::sample::Samples;
use crate::summary::{Goal, Report, Row};
use crate::trouble::Trouble;

const UNIT: &str = "ms";
/// From the power cut to the service of the other node, with a dead time of 1 s, in ms.
const BY_PATHS_MS: f64 = 1_500.0;
/// mainstay's own share of it, in ms.
const OWN_SHARE_MS: f64 = 50.0;
/// With an arbiter: the lease and a second, in ms.
const BY_LEASE_MS: f64 = (LEASE_S * 1000 + 1000) as f64;
/// The same with the arbiter's leader killed in the same second: two leases and three seconds, in ms.
const BY_LEASE_LEADERLESS_MS: f64 = (2 * LEASE_S * 1000 + 3000) as f64;

/// One that takes over, and how long it took.
struct Side {
    name: &'static str,
    peer: Result<Box<dyn Peer>, Missing>,
    outages: Samples,
}

impl Side {
    fn new<P: Peer + 'static>(name: &'static str, peer: Result<P, Missing>) -> Self {
        let peer = peer.map(|peer| Box::new(peer) as Box<dyn Peer>);
        Self { name, peer, outages: Samples::new() }
    }

    fn measure(&mut self) {
        if let Ok(peer) = &mut self.peer {
            self.outages.push_ms(peer.outage());
        }
    }

    /// None when it is not installed.
    fn median(&self) -> Option<f64> {
        self.peer.as_ref().ok().map(|_| self.outages.median())
    }

    fn tell(&self, report: &mut Report) {
        match &self.peer {
            Ok(_) => report.notes.push(format!("{}, ms: {}", self.name, self.outages)),
            Err(Missing(how)) => report.missing.push(how.clone()),
        }
    }
}

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let mut paths = match ByPaths::new() {
        Ok(paths) => paths,
        Err(Missing(how)) => return Ok(Report { missing: vec![how], ..Report::default() }),
    };
    let mut others = [
        Side::new("keepalived, advert 0.1 s", Keepalived::new("0.1")),
        Side::new("keepalived, advert 1 s", Keepalived::new("1")),
        Side::new("Pacemaker and Corosync, token 1 s", Pacemaker::new()),
    ];
    let (mut outages, mut own, mut verdicts) = (Samples::new(), Samples::new(), Samples::new());
    for _ in 0..effort.pick(1, 3, 9) {
        outages.push_ms(paths.outage());
        if let Some(took) = paths.took() {
            own.push_ms(took.own);
            verdicts.push_ms(took.whole);
        }
        others.iter_mut().for_each(Side::measure);
    }
    let mut report = Report::default();
    let median = outages.median();
    let rows = ["failover-power-keepalived-quick", "failover-power-keepalived", "failover-power-pacemaker"];
    report.rows.push(Row::new("failover-power", median, UNIT).goal(Goal::AtMost(BY_PATHS_MS)));
    report.rows.push(Row::new("failover-power-own-share", own.median(), UNIT).goal(Goal::Below(OWN_SHARE_MS)));
    for (row, side) in rows.into_iter().zip(&others) {
        report.rows.push(Row::new(row, median, UNIT).against(side.name, side.median()));
    }
    report.notes.push(format!("mainstay, dead time 1 s, ms: {outages}"));
    report.notes.push(format!("from silent to in service, ms: {verdicts}"));
    report.notes.push(format!("of that its own, ms: {own}"));
    others.iter().for_each(|side| side.tell(&mut report));
    // What loads the machine between its turns is not needed any more.
    drop((paths, others));
    by_lease(effort, &mut report);
    Ok(report)
}

fn by_lease(effort: Effort, report: &mut Report) {
    let sides = [
        ("failover-arbiter", "mainstay, arbiter, lease 5 s", false, BY_LEASE_MS),
        ("failover-arbiter-leader-killed", "the same, its leader killed too", true, BY_LEASE_LEADERLESS_MS),
    ];
    for (row, name, with_leader, limit) in sides {
        let mut side = Side::new(name, ByLease::new(with_leader));
        (0..effort.pick(1, 2, 5)).for_each(|_| side.measure());
        if let Some(median) = side.median() {
            report.rows.push(Row::new(row, median, UNIT).goal(Goal::AtMost(limit)));
        }
        side.tell(report);
    }
}
