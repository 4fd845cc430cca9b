//! What is reached from this node: names, the other nodes on each comm path, the members of the arbiter.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use mainstay_core::health::Finding;
use mainstay_core::names::{HierarchyName, NodeName, PathName, Tag};
use mainstay_core::node::Weight;
use tokio::task::JoinSet;

use super::{Ground, Scope};
use crate::arbiter::unreached;
use crate::links::probe::probe;

/// What a look-up may take: the usual resolver asks a name server twice, 5 s each (resolv.conf(5)), and by then whoever
/// needs the name has given up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Names that are looked up, at the most; the rest is told.
const NAMES_MAX: usize = 200;
/// What a connection to a member of the arbiter may take.
const ARBITER: Duration = Duration::from_secs(3);

/// Who needs a name.
type Users = Vec<(Option<(HierarchyName, Tag)>, String)>;

impl Ground {
    /// Whether the names are found that the config has for peers, for the arbiter, and for what kits may connect to.
    pub(super) async fn names(self: Arc<Self>, scope: &Scope) -> Option<Vec<Finding>> {
        let mut names = self.names_in_use(scope);
        let mut found = Vec::new();
        if let Some(first) = names.keys().nth(NAMES_MAX).cloned() {
            let more = names.split_off(&first);
            let summary = format!("{} names are not looked up, from {first} on: {NAMES_MAX} were", more.len());
            found.push(self.finding(Weight::Note, "names-left-off", summary, "Look for one hierarchy at a time"));
        }
        let mut looking = JoinSet::new();
        for (name, users) in names {
            let ground = self.clone();
            let asked = name.clone();
            looking.spawn(async move {
                let look_up = ground.on_thread(move |_| {
                    // The port makes no difference.
                    (asked.as_str(), 0).to_socket_addrs().map(|mut addresses| addresses.next())
                });
                let why = match tokio::time::timeout(LOOK_UP, look_up).await {
                    Ok(Some(Ok(Some(_)))) => return None,
                    Ok(Some(Ok(None))) => "it has no address".to_owned(),
                    Ok(Some(Err(error))) => error.to_string(),
                    Ok(None) => "looking has failed, see the log".to_owned(),
                    Err(_) => format!("no answer within {} s", LOOK_UP.as_secs()),
                };
                Some((name, users, why))
            });
        }
        for (name, users, why) in looking.join_all().await.into_iter().flatten() {
            for (of, whose) in users {
                let summary = format!("the name {name}, {whose}, is not found: {why}");
                let advice =
                    "Mend what this node looks names up with (/etc/resolv.conf, /etc/hosts), or the name in the config";
                let finding = self.finding(Weight::Warning, "name-not-found", summary, advice);
                found.push(match of {
                    Some((hierarchy, tag)) => finding.of(&hierarchy, &tag),
                    None => finding,
                });
            }
        }
        Some(found)
    }

    fn names_in_use(&self, scope: &Scope) -> BTreeMap<String, Users> {
        let mut names: BTreeMap<String, Users> = BTreeMap::new();
        let mut uses = |host: &str, of: Option<(HierarchyName, Tag)>, whose: String| {
            if host.parse::<IpAddr>().is_err() {
                names.entry(host.to_owned()).or_default().push((of, whose));
            }
        };
        for (peer, path, address) in self.ways(scope) {
            uses(host_of(&address), None, format!("address.{path} of {peer}"));
        }
        for (_, name, spec) in self.hierarchies(scope) {
            for (tag, resource) in &spec.resources {
                for grant in &resource.grants.net {
                    uses(&grant.host, Some((name.clone(), tag.clone())), "which grants.net has".to_owned());
                }
            }
        }
        for endpoint in self.spec.arbiter.iter().filter(|_| self.is_arbitrated()).flat_map(|it| &it.endpoints) {
            let place = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, place)| place);
            uses(host_of(place.trim_end_matches('/')), None, "a member of the arbiter".to_owned());
        }
        names
    }

    /// Where each peer is, path by path.
    fn ways(&self, scope: &Scope) -> Vec<(NodeName, PathName, String)> {
        let mut ways = Vec::new();
        for peer in self.peers(scope) {
            let addresses = self.spec.nodes.get(peer).into_iter().flat_map(|node| &node.address);
            ways.extend(addresses.map(|(path, address)| (peer.clone(), path.clone(), address.clone())));
        }
        ways
    }

    /// Whether a session with each peer could be made from here, on each comm path.
    pub(super) async fn paths(&self, scope: &Scope) -> Option<Vec<Finding>> {
        let Some(certificates) = &self.certificates else { return Some(Vec::new()) };
        let mut trying = JoinSet::new();
        for (peer, path, address) in self.ways(scope) {
            let certificates = certificates.clone();
            trying.spawn(async move {
                let tried = probe(&certificates, &peer, &address).await;
                (peer, path, address, tried)
            });
        }
        let mut tried = trying.join_all().await;
        tried.sort();
        let mut found = Vec::new();
        for (peer, path, address, outcome) in &tried {
            let Err(why) = outcome else { continue };
            // Of two nodes the one whose name comes first connects; the other one has to do so nowhere, yet.
            let none = tried.iter().filter(|(other, ..)| other == peer).all(|(.., outcome)| outcome.is_err());
            let weight = if none && self.me < *peer { Weight::Blocking } else { Weight::Warning };
            let summary = format!("no session with {peer} can be made on comm path {path}, at {address}: {why}");
            let advice = format!(
                "Let TCP through from {} to address.{path} of {peer}, and see that this address and port are its own",
                self.me
            );
            found.push(self.finding(weight, "no-session", summary, advice));
        }
        Some(found)
    }

    /// Whether each member of the arbiter is reached, where it decides anything. That it does not answer at all, the core
    /// knows.
    pub(super) async fn arbiter(&self) -> Option<Vec<Finding>> {
        let Some(arbiter) = self.spec.arbiter.as_ref().filter(|_| self.is_arbitrated()) else {
            return Some(Vec::new());
        };
        let unreached = unreached(arbiter, ARBITER).await;
        let finding = |(endpoint, why): &(String, String)| {
            let summary = format!("the arbiter's member {endpoint} is not reached: {why}");
            let advice = "It needs a majority: see to it that this one runs and is reached, before another one fails";
            self.finding(Weight::Warning, "arbiter-member-away", summary, advice)
        };
        Some(unreached.iter().map(finding).collect())
    }
}

/// `host:port`, `[v6]:port` or `host`, without the port.
fn host_of(place: &str) -> &str {
    match place.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
        Some((inside, _)) => inside,
        None => place.rsplit_once(':').map_or(place, |(host, _)| host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_what_stands_before_the_port() {
        for (place, host) in [("a.example:7400", "a.example"), ("[::1]:7400", "::1"), ("192.0.2.1", "192.0.2.1")] {
            assert_eq!(host_of(place), host);
        }
    }
}
