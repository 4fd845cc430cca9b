//! keepalived: VRRPv3 between two hosts, the application runs on both, and its address moves.

use std::process::Command;

use mainstay_test_support::{Guard, WAIT_LIMIT};

use super::{Missing, Peer};
use crate::host::Host;
use crate::net::{APP_PORT, Link, Net};
use crate::prober::Prober;

/// See the module.
#[derive(Debug)]
pub struct Keepalived {
    // In this order: who asks, what runs, where.
    prober: Prober,
    running: Vec<(String, Guard)>,
    hosts: Vec<Host>,
    advert: &'static str,
    net: Net,
}

impl Keepalived {
    /// Two hosts that tell each other this often that they are there, in s, as `advert_int` takes it.
    ///
    /// # Errors
    /// When it is not installed, or namespaces cannot be made here.
    pub fn new(advert: &'static str) -> Result<Self, Missing> {
        let missing = || Missing("keepalived: apt-get install keepalived".into());
        let found = Command::new("keepalived").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            return Err(missing());
        }
        let net = Net::new(&["a", "b"]).ok_or_else(missing)?;
        let hosts = ["a", "b"].map(|name| Host::new(name, &net, None)).into();
        let prober = Prober::of_address(&net, (net.moving_address(Link::Out), APP_PORT).into());
        let mut peer = Self { prober, running: Vec::new(), hosts, advert, net };
        peer.power_on("a");
        peer.prober.wait_until_served_by(WAIT_LIMIT, &["a"]);
        peer.power_on("b");
        Ok(peer)
    }

    fn config(&self, host: &str) -> String {
        // Whoever has the address keeps it: one that comes back does not take it again.
        format!(
            "global_defs {{\n  router_id {host}\n  vrrp_version 3\n}}\nvrrp_instance V1 {{\n  state BACKUP\n  \
             nopreempt\n  interface out\n  virtual_router_id 51\n  priority {}\n  advert_int {}\n  \
             virtual_ipaddress {{\n    {}/24\n  }}\n}}\n",
            if host == "a" { 150 } else { 100 },
            self.advert,
            self.net.moving_address(Link::Out)
        )
    }
}

impl Peer for Keepalived {
    fn prober(&self) -> &Prober {
        &self.prober
    }

    fn power_off(&mut self, host: &str) {
        let of_host = self.hosts.iter().find(|it| it.name() == host).unwrap_or_else(|| panic!("no host {host}"));
        of_host.power_off();
        self.running.retain(|(name, _)| name != host);
    }

    fn power_on(&mut self, host: &str) {
        let of_host = self.hosts.iter().find(|it| it.name() == host).unwrap_or_else(|| panic!("no host {host}"));
        of_host.power_on();
        let file = of_host.folder().write("keepalived.conf", self.config(host));
        let mut serve = of_host.command();
        serve.arg(mainstay_test_support::binary("mainstay-host")).args(["serve", host]);
        serve.arg(format!("0.0.0.0:{APP_PORT}"));
        let mut keepalived = of_host.command();
        keepalived.args(["keepalived", "--dont-fork", "--log-console", "--use-file"]).arg(file);
        for (option, name) in [("--pid", "keepalived.pid"), ("--vrrp_pid", "vrrp.pid")] {
            let file = of_host.folder().join(name);
            // In /run they would not outlive the power cut. That there is none the first time is as good.
            let _ = std::fs::remove_file(&file);
            keepalived.arg(option).arg(file);
        }
        for (what, mut command) in [("the application", serve), ("keepalived", keepalived)] {
            let guard = Guard::start(&format!("{what} of {host}"), &mut command);
            self.running.push((host.to_owned(), guard.unwrap_or_else(|error| panic!("{error}"))));
        }
        if let Some((_, keepalived)) = self.running.last_mut() {
            keepalived.wait_for_line(WAIT_LIMIT, "Entering BACKUP STATE");
        }
    }
}
