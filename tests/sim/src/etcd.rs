//! A model of etcd, as the arbiter uses it (O12, O13): linearisable, with leases in true time.
//!
//! Decides what a request does and what is seen after it. That requests are late, lost, or done although nobody heard of
//! it, is the world's; so is when a lease that has run out is noticed.

use std::collections::BTreeMap;

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterEntry, ArbiterRequest, ArbiterView, Permit};
use mainstay_core::claim::Epoch;
use mainstay_core::message::OwnershipSummary;
use mainstay_core::names::{HierarchyName, NodeName, VolumeName};
use mainstay_core::time::{Millis, Monotonic};

/// Names a lease; 0 is none.
type LeaseId = u64;

#[derive(Clone, Debug)]
struct Lease {
    length: Millis,
    ends: Monotonic,
}

#[derive(Clone, Debug)]
struct Held {
    node: NodeName,
    epoch: Epoch,
    lease: LeaseId,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    record: Option<OwnershipSummary>,
    version: u64,
    permit: Option<Held>,
    outdated: BTreeMap<VolumeName, NodeName>,
}

/// What is in the store: what a snapshot has.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    entries: BTreeMap<HierarchyName, Entry>,
    leases: BTreeMap<LeaseId, Lease>,
    revision: u64,
}

/// The store, and which lease each node renews.
#[derive(Clone, Debug)]
pub struct Etcd {
    store: Snapshot,
    renewed_by: BTreeMap<NodeName, LeaseId>,
    next_lease: LeaseId,
    /// How long a lease is granted.
    granted: Millis,
    /// A lease that has run out is noticed so much later.
    pub late: Millis,
}

impl Etcd {
    /// Empty; leases are granted this long.
    #[must_use]
    pub fn new(granted: Millis) -> Self {
        Self { store: Snapshot::default(), renewed_by: BTreeMap::new(), next_lease: 1, granted, late: Millis(0) }
    }

    /// Grows with every change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.store.revision
    }

    /// Carries out a request, at this moment.
    pub fn handle(&mut self, now: Monotonic, node: &NodeName, request: &ArbiterRequest) -> ArbiterAnswer {
        self.expire(now);
        match request {
            ArbiterRequest::Renew => {
                let lease = self.lease_of(now, node);
                let length = self.store.leases.get(&lease).map_or(self.granted, |lease| lease.length);
                ArbiterAnswer::Renewed { lease: length, view: self.view(node) }
            }
            ArbiterRequest::Take { hierarchy, expected, record, force } => {
                let entry = self.store.entries.entry(hierarchy.clone()).or_default();
                let free = *force || entry.permit.as_ref().is_none_or(|permit| permit.node == *node);
                let done = entry.version == *expected && free;
                if done {
                    let lease = self.live_lease(now, node);
                    let epoch = record.claim.as_ref().map(|claim| claim.id.epoch).unwrap_or_default();
                    self.write(hierarchy, record, Some(Held { node: node.clone(), epoch, lease }));
                }
                ArbiterAnswer::Done { done, view: self.view(node) }
            }
            ArbiterRequest::Mark { hierarchy, expected, volume, outdated } => {
                let revision = self.store.revision + 1;
                let entry = self.store.entries.entry(hierarchy.clone()).or_default();
                let done = entry.version == *expected;
                if done {
                    (entry.version, self.store.revision) = (revision, revision);
                }
                match outdated {
                    Some(whose) if done => drop(entry.outdated.insert(volume.clone(), whose.clone())),
                    None if done => drop(entry.outdated.remove(volume)),
                    Some(_) | None => {}
                }
                ArbiterAnswer::Done { done, view: self.view(node) }
            }
            ArbiterRequest::Give { hierarchy, record } => {
                let entry = self.store.entries.entry(hierarchy.clone()).or_default();
                let done = entry.permit.as_ref().is_some_and(|permit| permit.node == *node);
                if done {
                    self.write(hierarchy, record, None);
                }
                ArbiterAnswer::Done { done, view: self.view(node) }
            }
        }
    }

    fn write(&mut self, hierarchy: &HierarchyName, record: &OwnershipSummary, permit: Option<Held>) {
        self.store.revision += 1;
        let entry = self.store.entries.entry(hierarchy.clone()).or_default();
        entry.record = Some(record.clone());
        // As the revision in which a key of etcd was changed last: grows, and not by one.
        entry.version = self.store.revision;
        entry.permit = permit;
    }

    /// The lease that the node renews, renewed; a new one if it has run out.
    fn lease_of(&mut self, now: Monotonic, node: &NodeName) -> LeaseId {
        let id = self.live_lease(now, node);
        if let Some(lease) = self.store.leases.get_mut(&id) {
            lease.ends = now + lease.length;
        }
        id
    }

    fn live_lease(&mut self, now: Monotonic, node: &NodeName) -> LeaseId {
        let known = self.renewed_by.get(node).copied();
        if let Some(id) = known.filter(|id| self.store.leases.contains_key(id)) {
            return id;
        }
        let id = self.next_lease;
        self.next_lease += 1;
        self.store.leases.insert(id, Lease { length: self.granted, ends: now + self.granted });
        self.renewed_by.insert(node.clone(), id);
        id
    }

    /// Everything there is, as it is shown to this node.
    #[must_use]
    pub fn view(&self, node: &NodeName) -> ArbiterView {
        let renewed = self.renewed_by.get(node).copied();
        let entry = |entry: &Entry| ArbiterEntry {
            record: entry.record.clone(),
            version: entry.version,
            outdated: entry.outdated.clone(),
            permit: entry.permit.as_ref().map(|held| Permit {
                node: held.node.clone(),
                epoch: held.epoch,
                ours: Some(held.lease) == renewed,
            }),
        };
        let known = self.store.entries.iter().filter(|(_, entry)| entry.version > 0);
        ArbiterView { hierarchies: known.map(|(name, it)| (name.clone(), entry(it))).collect() }
    }

    /// Who has a permit that has not run out.
    #[must_use]
    pub fn permit(&self, now: Monotonic, hierarchy: &HierarchyName) -> Option<NodeName> {
        let held = self.store.entries.get(hierarchy)?.permit.as_ref()?;
        let lease = self.store.leases.get(&held.lease)?;
        (lease.ends + self.late > now).then(|| held.node.clone())
    }

    /// Leases that have run out go, and the permits under them. Says whether any did.
    pub fn expire(&mut self, now: Monotonic) -> bool {
        let late = self.late;
        let before = self.store.leases.len();
        self.store.leases.retain(|_, lease| lease.ends + late > now);
        let gone = self.store.leases.len() != before;
        if gone {
            self.drop_permits();
        }
        gone
    }

    fn drop_permits(&mut self) {
        for entry in self.store.entries.values_mut() {
            if entry.permit.as_ref().is_some_and(|held| !self.store.leases.contains_key(&held.lease)) {
                entry.permit = None;
                self.store.revision += 1;
            }
        }
    }

    /// When the next lease runs out, unless it is renewed.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Monotonic> {
        self.store.leases.values().map(|lease| lease.ends + self.late).min()
    }

    /// Another member leads: it counts every lease from now, as a leader that knows nothing of the renewals before it.
    pub fn leader_changed(&mut self, now: Monotonic) {
        for lease in self.store.leases.values_mut() {
            lease.ends = now + lease.length;
        }
    }

    /// Everything is lost.
    pub fn wipe(&mut self) {
        self.store = Snapshot::default();
    }

    /// What a backup would have.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.store.clone()
    }

    /// An older state is put in its place: its counters have gone back. Leases count from now.
    pub fn restore(&mut self, snapshot: Snapshot, now: Monotonic) {
        self.store = snapshot;
        self.leader_changed(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::claim::Claim;
    use mainstay_core::state::Standing;

    const LEASE: Millis = Millis(10_000);

    fn h() -> HierarchyName {
        "h".into()
    }

    fn claim(before: Option<&Claim>, node: &str) -> OwnershipSummary {
        let claim = Some(Claim::following(before, node.into()));
        OwnershipSummary { claim, standing: Standing::default(), failovers: Vec::new() }
    }

    fn take(etcd: &mut Etcd, at: u64, node: &str, expected: u64) -> bool {
        let request = ArbiterRequest::Take { hierarchy: h(), expected, record: claim(None, node), force: false };
        matches!(etcd.handle(Monotonic(at), &node.into(), &request), ArbiterAnswer::Done { done: true, .. })
    }

    fn renew(etcd: &mut Etcd, at: u64, node: &str) {
        etcd.handle(Monotonic(at), &node.into(), &ArbiterRequest::Renew);
    }

    fn holder(etcd: &Etcd, seen_by: &str) -> Option<(String, bool)> {
        let view = etcd.view(&seen_by.into());
        let permit = view.hierarchies.get(&h())?.permit.clone()?;
        Some((permit.node.to_string(), permit.ours))
    }

    #[test]
    fn one_has_the_permit_until_its_lease_has_run_out() {
        let mut etcd = Etcd::new(LEASE);
        renew(&mut etcd, 0, "a");
        assert!(take(&mut etcd, 100, "a", 0));
        assert_eq!(holder(&etcd, "a"), Some(("a".into(), true)));
        assert_eq!(holder(&etcd, "b"), Some(("a".into(), false)));
        let version = etcd.view(&"b".into()).hierarchies[&h()].version;
        assert!(!take(&mut etcd, 9_999, "b", version), "a's lease counts from its last renewal, at 0");
        assert!(take(&mut etcd, 10_000, "b", version));
        assert_eq!(holder(&etcd, "b"), Some(("b".into(), true)));
    }

    #[test]
    fn a_record_that_has_changed_since_is_not_replaced() {
        let mut etcd = Etcd::new(LEASE);
        assert!(!take(&mut etcd, 0, "a", 5), "there is no version 5");
        assert!(take(&mut etcd, 0, "a", 0));
        assert!(!take(&mut etcd, 0, "a", 0), "it is there by now");
        let version = etcd.view(&"a".into()).hierarchies[&h()].version;
        assert!(take(&mut etcd, 0, "a", version), "its own permit does not keep it off");
    }

    #[test]
    fn who_gives_has_the_permit() {
        let mut etcd = Etcd::new(LEASE);
        assert!(take(&mut etcd, 0, "a", 0));
        let give = ArbiterRequest::Give { hierarchy: h(), record: claim(None, "a") };
        assert!(matches!(etcd.handle(Monotonic(1), &"b".into(), &give), ArbiterAnswer::Done { done: false, .. }));
        assert!(matches!(etcd.handle(Monotonic(1), &"a".into(), &give), ArbiterAnswer::Done { done: true, .. }));
        assert_eq!(holder(&etcd, "a"), None);
    }

    #[test]
    fn a_leader_that_is_new_counts_from_the_start_and_one_that_is_late_ends_late() {
        let mut etcd = Etcd::new(LEASE);
        assert!(take(&mut etcd, 0, "a", 0));
        etcd.leader_changed(Monotonic(9_000));
        assert!(!etcd.expire(Monotonic(18_999)));
        etcd.late = Millis(3_000);
        assert!(!etcd.expire(Monotonic(21_999)));
        assert_eq!(etcd.next_expiry(), Some(Monotonic(22_000)));
        assert!(etcd.expire(Monotonic(22_000)));
        assert_eq!(holder(&etcd, "a"), None);
    }

    #[test]
    fn a_permit_on_another_lease_is_not_ours() {
        let mut etcd = Etcd::new(LEASE);
        assert!(take(&mut etcd, 0, "a", 0));
        let before = etcd.snapshot();
        etcd.wipe();
        assert_eq!(holder(&etcd, "a"), None);
        renew(&mut etcd, 100, "a");
        etcd.restore(before, Monotonic(200));
        // The lease that a had made meanwhile is gone with the store that it was in; it makes another.
        renew(&mut etcd, 300, "a");
        assert_eq!(holder(&etcd, "a"), Some(("a".into(), false)));
    }
}
