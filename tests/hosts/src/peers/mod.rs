//! The same power cut for mainstay and for those it is compared with, seen by the same prober at an address that moves.
//!
//! Of each the same is measured: from the last good answer of the owner, whose links fall silent and whose processes are
//! then killed, to the first good answer of the other host. They take turns, so that a busy machine troubles all alike.
//! What is not installed is named, with how it is had; nothing is guessed. The benchmark `failover` tells the figures.

mod keepalived;
mod mainstay;
mod pacemaker;

use std::time::Duration;

use mainstay_test_support::WAIT_LIMIT;

pub use keepalived::Keepalived;
pub use mainstay::{ByLease, ByPaths, Took};
pub use pacemaker::Pacemaker;

use crate::prober::Prober;

/// It is not there: what, and how it is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub String);

/// Two hosts with an application at a moving address, that `a` serves now.
pub trait Peer {
    /// Who asks at the address.
    fn prober(&self) -> &Prober;
    /// Pulls a host's power cord.
    fn power_off(&mut self, host: &str);
    /// Switches it on again, and waits until it is as ready to take over as it can be.
    fn power_on(&mut self, host: &str);

    /// Cuts the power of the host that serves, and waits until the other one does; how long nobody served. Then all is
    /// made ready for the next.
    ///
    /// # Panics
    /// When nobody takes over.
    fn outage(&mut self) -> Duration {
        let serving = self.prober().serving().unwrap_or_default();
        let [owner] = serving.as_slice() else { panic!("one was to serve, not {serving:?}") };
        let other = if owner == "a" { "b" } else { "a" };
        let cut = self.prober().now();
        self.power_off(owner);
        self.prober().wait_until_served_by(WAIT_LIMIT, &[other]);
        let outage = self.prober().timeline().outage_since(cut);
        assert!(outage > Duration::ZERO, "no outage was seen:\n{}", self.prober().timeline());
        self.power_on(owner);
        outage
    }
}
