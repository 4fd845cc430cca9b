//! mainstay with two hosts, a null resource and an application with a moving address, in two modes.

use std::time::Duration;

use serde_json::Value;

use super::{Missing, Peer};
use crate::config::Mode;
use crate::lab::{Lab, Wishes};
use crate::prober::Prober;

/// A takeover as mainstay's events tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Took {
    /// From when the owner was taken for silent to being in service.
    pub whole: Duration,
    /// Of that, the time in which no kit operation ran.
    pub own: Duration,
}

/// Comm paths decide: dead after 5 heartbeats of 200 ms that did not come.
#[derive(Debug)]
pub struct ByPaths {
    lab: Lab,
    /// Of the last takeover.
    took: Option<Took>,
}

impl ByPaths {
    /// Makes the hosts.
    ///
    /// # Errors
    /// When namespaces cannot be made here.
    pub fn new() -> Result<Self, Missing> {
        Ok(Self { lab: lab(Mode::Automatic)?, took: None })
    }

    /// How the last takeover went, from its events.
    #[must_use]
    pub fn took(&self) -> Option<Took> {
        self.took
    }
}

impl Peer for ByPaths {
    fn prober(&self) -> &Prober {
        &self.lab.prober
    }

    fn power_off(&mut self, host: &str) {
        self.lab.host(host).power_off();
    }

    fn power_on(&mut self, host: &str) {
        let other = if host == "a" { "b" } else { "a" };
        self.lab.host(other).wait_for("it to be in service", |status| status.state(crate::config::APP, other) == "ISP");
        self.took = took(&self.lab.host(other).events());
        back(&self.lab, host, other);
    }
}

/// An arbiter decides, with a lease of 5 s.
#[derive(Debug)]
pub struct ByLease {
    lab: Lab,
    /// The member of etcd that leads is killed with the owner.
    with_leader: bool,
}

impl ByLease {
    /// Makes the hosts and the arbiter.
    ///
    /// # Errors
    /// When namespaces cannot be made here, or etcd is not installed.
    pub fn new(with_leader: bool) -> Result<Self, Missing> {
        Ok(Self { lab: lab(Mode::Arbiter)?, with_leader })
    }
}

impl Peer for ByLease {
    fn prober(&self) -> &Prober {
        &self.lab.prober
    }

    fn power_off(&mut self, host: &str) {
        if self.with_leader {
            self.lab.arbiter().kill_leader();
        }
        self.lab.host(host).power_off();
    }

    fn power_on(&mut self, host: &str) {
        self.lab.arbiter().run_all();
        back(&self.lab, host, if host == "a" { "b" } else { "a" });
    }
}

fn lab(mode: Mode) -> Result<Lab, Missing> {
    let wishes = Wishes { moving_address: true, ..Wishes::default() };
    let lab = Lab::with(mode, &["a", "b"], wishes, |host| host.start());
    lab.ok_or_else(|| {
        Missing("hosts for mainstay: root, apt-get install iproute2 nftables etcd-server etcd-client".into())
    })
}

fn back(lab: &Lab, host: &str, owner: &str) {
    lab.host(host).power_on();
    lab.host(host).start();
    lab.wait_until_settled(owner);
}

/// From the last time a node was found silent to being in service after it.
fn took(events: &[Value]) -> Option<Took> {
    let kind = |event: &Value| event["what"]["kind"].as_str().unwrap_or_default().to_owned();
    let at = |event: &Value| event["since_start_us"].as_u64().map(Duration::from_micros);
    let silent = events.iter().rposition(|event| kind(event) == "node" && event["what"]["reach"] == "silent")?;
    let served = silent + events[silent..].iter().position(|event| kind(event) == "in-service")?;
    let (mut running, mut since, mut own) = (0_u32, at(&events[silent])?, Duration::ZERO);
    for event in &events[silent..=served] {
        let now = at(event)?;
        if running == 0 {
            own += now.saturating_sub(since);
        }
        since = now;
        match kind(event).as_str() {
            "operation-began" => running += 1,
            "operation-ended" => running = running.saturating_sub(1),
            _ => {}
        }
    }
    Some(Took { whole: at(&events[served])?.saturating_sub(at(&events[silent])?), own })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kits_take_is_not_its_own() {
        let event = |us: u64, what: Value| json!({ "since_start_us": us, "what": what });
        let events = [
            event(500, json!({ "kind": "operation-began" })),
            event(1_000, json!({ "kind": "node", "reach": "silent" })),
            event(3_000, json!({ "kind": "operation-began" })),
            event(10_000, json!({ "kind": "operation-ended" })),
            event(11_000, json!({ "kind": "operation-began" })),
            event(31_000, json!({ "kind": "operation-ended" })),
            event(32_500, json!({ "kind": "in-service" })),
        ];
        let took = took(&events).unwrap();
        assert_eq!((took.whole, took.own), (Duration::from_micros(31_500), Duration::from_micros(4_500)));
    }
}
