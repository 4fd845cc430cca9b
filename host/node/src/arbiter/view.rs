//! What lies where at etcd, and what it means.
//!
//! ```text
//! /mainstay/CLUSTER/HIERARCHY/record    the newest claim and how it stands, JSON, without a lease
//! /mainstay/CLUSTER/HIERARCHY/permit    who may act, JSON, under the lease of that node
//! /mainstay/CLUSTER/HIERARCHY/outdated/VOLUME   whose copy of a volume is outdated, without a lease
//! ```

use mainstay_core::arbiter::{ArbiterEntry, ArbiterView, Permit};
use mainstay_core::message::OwnershipSummary;
use mainstay_core::names::{HierarchyName, NodeName, VolumeName, problem};

use super::wire::{KeyValue, RangeRequest, RangeResponse};

const RECORD: &str = "record";
const PERMIT: &str = "permit";
const OUTDATED: &str = "outdated/";

/// The keys of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(cluster: &str) -> Self {
        Self { prefix: format!("/mainstay/{cluster}/") }
    }

    pub(super) fn record(&self, hierarchy: &HierarchyName) -> Vec<u8> {
        format!("{}{hierarchy}/{RECORD}", self.prefix).into_bytes()
    }

    pub(super) fn permit(&self, hierarchy: &HierarchyName) -> Vec<u8> {
        format!("{}{hierarchy}/{PERMIT}", self.prefix).into_bytes()
    }

    pub(super) fn outdated(&self, hierarchy: &HierarchyName, volume: &VolumeName) -> Vec<u8> {
        format!("{}{hierarchy}/{OUTDATED}{volume}", self.prefix).into_bytes()
    }

    pub(super) fn from(&self) -> Vec<u8> {
        self.prefix.clone().into_bytes()
    }

    /// The first key after all that begin with the prefix: `/` counted up by one.
    pub(super) fn to(&self) -> Vec<u8> {
        let mut end = self.from();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end
    }

    /// Everything there is.
    pub(super) fn all(&self) -> RangeRequest {
        RangeRequest { key: self.from(), range_end: self.to() }
    }

    /// What there is of one hierarchy.
    pub(super) fn of(&self, hierarchy: &HierarchyName) -> RangeRequest {
        let of = Self { prefix: format!("{}{hierarchy}/", self.prefix) };
        of.all()
    }

    fn read<'a>(&self, key: &'a [u8]) -> Option<(HierarchyName, &'a str)> {
        let (hierarchy, what) = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.split_once('/')?;
        problem(hierarchy).is_none().then(|| (HierarchyName::new(hierarchy), what))
    }
}

/// What etcd has at one moment, as it has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// Grows with every change of anything in etcd.
    pub(super) revision: i64,
    /// Of the member that answered, after it had looked.
    pub(super) raft_term: u64,
    kvs: Vec<KeyValue>,
}

impl From<RangeResponse> for Look {
    fn from(answer: RangeResponse) -> Self {
        let header = answer.header.unwrap_or_default();
        Self { revision: header.revision, raft_term: header.raft_term, kvs: answer.kvs }
    }
}

impl Look {
    /// The key's value, and when it was written; none: it is not there.
    pub(super) fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.kvs.iter().find(|kv| kv.key == key)
    }

    /// When the key was written; 0: it is not there.
    pub(super) fn mod_revision(&self, key: &[u8]) -> i64 {
        self.get(key).map_or(0, |kv| kv.mod_revision)
    }

    /// The lease on which this node's newest permit hangs.
    pub(super) fn lease_of(&self, me: &NodeName) -> Option<i64> {
        let permits = self.kvs.iter().filter(|kv| kv.lease != 0);
        let ours = permits.filter(|kv| permit(kv).is_some_and(|permit| permit.node == *me));
        ours.max_by_key(|kv| kv.mod_revision).map(|kv| kv.lease)
    }

    /// Whether the permit is this node's and under its lease.
    pub(super) fn is_ours(&self, key: &[u8], me: &NodeName, lease: i64) -> bool {
        self.get(key).is_some_and(|kv| kv.lease == lease && permit(kv).is_some_and(|permit| permit.node == *me))
    }

    /// What it means, and the keys that cannot be read. A hierarchy of which one cannot is left out: nothing that is not
    /// understood is a proof, and it cannot be taken either, because it has a version.
    pub(super) fn view(&self, keys: &Keys, me: &NodeName, lease: Option<i64>) -> (ArbiterView, Vec<String>) {
        let mut view = ArbiterView::default();
        let mut unreadable = Vec::new();
        let mut left_out = Vec::new();
        for kv in &self.kvs {
            // Somebody else's key below our prefix: says nothing, and is in nobody's way.
            let Some((hierarchy, what)) = keys.read(&kv.key) else { continue };
            let entry: &mut ArbiterEntry = view.hierarchies.entry(hierarchy.clone()).or_default();
            let read = match what {
                RECORD => {
                    entry.version = u64::try_from(kv.mod_revision).unwrap_or_default();
                    entry.record = serde_json::from_slice::<OwnershipSummary>(&kv.value).ok();
                    entry.record.is_some()
                }
                PERMIT => {
                    let ours = lease == Some(kv.lease) && kv.lease != 0;
                    entry.permit = permit(kv).map(|permit| Permit { ours: ours && permit.node == *me, ..permit });
                    entry.permit.is_some()
                }
                _ => match what.strip_prefix(OUTDATED) {
                    Some(volume) => {
                        let node = std::str::from_utf8(&kv.value).ok().filter(|node| problem(node).is_none());
                        entry.outdated.extend(node.map(|node| (VolumeName::new(volume), NodeName::new(node))));
                        node.is_some()
                    }
                    None => true,
                },
            };
            if !read {
                unreadable.push(String::from_utf8_lossy(&kv.key).into_owned());
                left_out.push(hierarchy);
            }
        }
        for hierarchy in left_out {
            view.hierarchies.remove(&hierarchy);
        }
        (view, unreadable)
    }
}

fn permit(kv: &KeyValue) -> Option<Permit> {
    serde_json::from_slice(&kv.value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::claim::Epoch;

    fn kv(key: &str, value: &str, lease: i64, mod_revision: i64) -> KeyValue {
        KeyValue { key: key.into(), value: value.into(), lease, mod_revision }
    }

    #[test]
    fn keys_are_read_back_and_no_other() {
        let keys = Keys::new("lab");
        let name = HierarchyName::new("mail");
        assert_eq!(keys.read(&keys.record(&name)), Some((name.clone(), RECORD)));
        assert_eq!(keys.read(&keys.permit(&name)), Some((name, PERMIT)));
        for other in ["/mainstay/lab2/mail/record", "/mainstay/lab/mail", "/mainstay/lab//record", "x"] {
            assert_eq!(keys.read(other.as_bytes()), None, "{other}");
        }
        assert_eq!(keys.to(), b"/mainstay/lab0");
    }

    #[test]
    fn a_permit_is_ours_under_our_lease_only() {
        let keys = Keys::new("lab");
        let text = r#"{"node":"a","epoch":3}"#;
        let look = Look {
            kvs: vec![kv("/mainstay/lab/x/permit", text, 7, 5), kv("/mainstay/lab/y/permit", text, 8, 6)],
            ..Look::default()
        };
        let me = NodeName::new("a");
        let permits = |lease: Option<i64>, me: &NodeName| -> Vec<bool> {
            let (view, _) = look.view(&keys, me, lease);
            view.hierarchies.values().filter_map(|entry| entry.permit.as_ref()).map(|permit| permit.ours).collect()
        };
        assert_eq!(permits(Some(7), &me), [true, false]);
        assert_eq!(permits(None, &me), [false, false]);
        assert_eq!(permits(Some(7), &"b".into()), [false, false]);
        assert_eq!(look.lease_of(&me), Some(8), "the newest");
        assert_eq!(look.view(&keys, &me, None).0.hierarchies["x"].permit.as_ref().unwrap().epoch, Epoch(3));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_with_all_of_its_hierarchy() {
        let keys = Keys::new("lab");
        let look = Look {
            kvs: vec![
                kv("/mainstay/lab/x/permit", r#"{"node":"a","epoch":3}"#, 7, 5),
                kv("/mainstay/lab/x/record", "nonsense", 0, 5),
                kv("/mainstay/lab/y/permit", r#"{"node":"a","epoch":3}"#, 7, 5),
                kv("/mainstay/lab/note", "somebody's", 0, 5),
            ],
            ..Look::default()
        };
        let (view, unreadable) = look.view(&keys, &"a".into(), Some(7));
        assert_eq!(unreadable, ["/mainstay/lab/x/record"]);
        assert_eq!(view.hierarchies.keys().map(HierarchyName::as_str).collect::<Vec<_>>(), ["y"]);
    }
}
