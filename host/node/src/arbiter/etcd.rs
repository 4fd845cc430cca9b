//! What the arbiter is asked, as questions to etcd.
//!
//! Every change is one transaction that holds only while nothing has written record or permit since they were looked at.
//! So a question that reaches two members, or one of them late, changes something once at the most, and one that was lost
//! on the way back is recognised by what it has written.

use std::sync::{Mutex, PoisonError};

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterRequest, ArbiterView, Permit};
use mainstay_core::message::OwnershipSummary;
use mainstay_core::names::{HierarchyName, NodeName, VolumeName};
use mainstay_core::time::Millis;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::members::{AskError, Members};
use super::view::{Keys, Look};
use super::wire::{
    self, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, StatusRequest,
    TxnRequest,
};

/// How often a renewal is begun anew because the leader changed meanwhile or the lease was gone: each time takes an
/// election, or a lease's whole length.
const RENEWALS_MAX: usize = 4;

/// etcd, as one node of one cluster uses it.
#[derive(Debug)]
pub(super) struct Etcd {
    pub(super) members: Members,
    pub(super) keys: Keys,
    me: NodeName,
    /// In s: etcd counts in nothing smaller.
    ttl: i64,
    /// The lease of this node's permits. Locked while one is looked for or granted, so that there is only one.
    lease: tokio::sync::Mutex<Option<i64>>,
    /// The keys that could not be read the last time, which was told.
    unreadable: Mutex<Vec<String>>,
}

/// What is to be told, and at which revision of etcd it was so: answers of the same etcd are ordered by it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) revision: i64,
    pub(super) answer: ArbiterAnswer,
}

impl Etcd {
    pub(super) fn new(members: Members, cluster: &str, me: NodeName, lease: Millis) -> Self {
        Self {
            members,
            keys: Keys::new(cluster),
            me,
            ttl: i64::try_from(lease.0.div_ceil(1000)).unwrap_or(i64::MAX),
            lease: tokio::sync::Mutex::new(None),
            unreadable: Mutex::default(),
        }
    }

    /// Answers, by then at the latest.
    pub(super) async fn answer(&self, request: ArbiterRequest, until: Instant) -> Answer {
        let answered = match request {
            ArbiterRequest::Renew => self.renew(until).await,
            ArbiterRequest::Take { hierarchy, expected, record, force } => {
                self.take(&hierarchy, expected, &record, force, until).await
            }
            ArbiterRequest::Give { hierarchy, record } => self.give(&hierarchy, &record, until).await,
            ArbiterRequest::Mark { hierarchy, expected, volume, outdated } => {
                self.mark(&hierarchy, expected, &volume, outdated.as_ref(), until).await
            }
        };
        answered.unwrap_or_else(|error| Answer { revision: 0, answer: ArbiterAnswer::Failed(error.to_string()) })
    }

    /// What there is, at a moment after this was asked.
    pub(super) async fn look(&self, until: Instant) -> Result<(i64, ArbiterView), AskError> {
        let look = self.look_at(self.keys.all(), until).await?;
        let lease = *self.lease.lock().await;
        Ok((look.revision, self.view(&look, lease)))
    }

    /// etcd's version, of the member that answers.
    pub(super) async fn version(&self, until: Instant) -> Result<String, AskError> {
        let answer = self.members.ask(until, |channel| wire::unary(channel, StatusRequest {})).await?;
        Ok(answer.version)
    }

    async fn renew(&self, until: Instant) -> Result<Answer, AskError> {
        for _ in 0..RENEWALS_MAX {
            let lease = self.lease(until).await?;
            let all = self.keys.all();
            let renewed = self
                .members
                .ask(until, move |channel| {
                    let all = all.clone();
                    async move { renew_once(channel, lease, all).await }
                })
                .await?;
            match renewed {
                Renewed::Alive { ttl, look } => {
                    let lease_ms = u64::try_from(ttl).unwrap_or_default().saturating_mul(1000);
                    let view = self.view(&look, Some(lease));
                    let answer = ArbiterAnswer::Renewed { lease: Millis(lease_ms), view };
                    return Ok(Answer { revision: look.revision, answer });
                }
                Renewed::LeaderChanged => {
                    tracing::info!("etcd has chosen a leader while the lease was renewed: once more")
                }
                Renewed::Gone => {
                    tracing::warn!("the lease {lease:x} of this node has run out at etcd: a new one is asked for");
                    self.is_gone(lease).await;
                }
            }
        }
        Err(AskError::Nobody(format!("{RENEWALS_MAX} renewals in a row met a new leader, or a lease that was gone")))
    }

    async fn take(
        &self,
        hierarchy: &HierarchyName,
        expected: u64,
        record: &OwnershipSummary,
        force: bool,
        until: Instant,
    ) -> Result<Answer, AskError> {
        let (record_key, permit_key) = (self.keys.record(hierarchy), self.keys.permit(hierarchy));
        let epoch = record.claim.as_ref().map(|claim| claim.id.epoch).unwrap_or_default();
        let permit = Permit { node: self.me.clone(), epoch, ours: true };
        let (record, permit) = (json(record)?, json(&permit)?);
        let mut lease = self.lease(until).await?;
        let mut again = true;
        loop {
            let look = self.look_at(self.keys.of(hierarchy), until).await?;
            let is_free = force || look.get(&permit_key).is_none() || look.is_ours(&permit_key, &self.me, lease);
            let is_expected = u64::try_from(look.mod_revision(&record_key)) == Ok(expected);
            let (look, done) = if is_free && is_expected {
                let changes = vec![put(&record_key, &record, 0), put(&permit_key, &permit, lease)];
                match self.change(&look, &record_key, &permit_key, changes, until).await {
                    Err(AskError::Refused(status)) if status.code() == Code::NotFound && again => {
                        // "requested lease not found". Once: a lease that was granted just now is there.
                        again = false;
                        self.is_gone(lease).await;
                        lease = self.lease(until).await?;
                        continue;
                    }
                    changed => changed?,
                }
            } else {
                (self.look_at(self.keys.all(), until).await?, false)
            };
            // Of two copies of this question the other one may have been first.
            let done = done
                || (look.get(&record_key).is_some_and(|kv| kv.value == record)
                    && look.get(&permit_key).is_some_and(|kv| kv.value == permit && kv.lease == lease));
            let view = self.view(&look, Some(lease));
            return Ok(Answer { revision: look.revision, answer: ArbiterAnswer::Done { done, view } });
        }
    }

    async fn give(
        &self,
        hierarchy: &HierarchyName,
        record: &OwnershipSummary,
        until: Instant,
    ) -> Result<Answer, AskError> {
        let (record_key, permit_key) = (self.keys.record(hierarchy), self.keys.permit(hierarchy));
        let record = json(record)?;
        let lease = self.lease(until).await?;
        let look = self.look_at(self.keys.of(hierarchy), until).await?;
        let (look, done) = if look.is_ours(&permit_key, &self.me, lease) {
            let take_away = DeleteRangeRequest { key: permit_key.clone() };
            let changes =
                vec![put(&record_key, &record, 0), RequestOp { delete: Some(take_away), ..RequestOp::default() }];
            self.change(&look, &record_key, &permit_key, changes, until).await?
        } else {
            (self.look_at(self.keys.all(), until).await?, false)
        };
        let done =
            done || (look.get(&record_key).is_some_and(|kv| kv.value == record) && look.get(&permit_key).is_none());
        let view = self.view(&look, Some(lease));
        Ok(Answer { revision: look.revision, answer: ArbiterAnswer::Done { done, view } })
    }

    async fn mark(
        &self,
        hierarchy: &HierarchyName,
        expected: u64,
        volume: &VolumeName,
        outdated: Option<&NodeName>,
        until: Instant,
    ) -> Result<Answer, AskError> {
        let (record_key, permit_key) = (self.keys.record(hierarchy), self.keys.permit(hierarchy));
        let key = self.keys.outdated(hierarchy, volume);
        let look = self.look_at(self.keys.of(hierarchy), until).await?;
        let record = look.get(&record_key).map(|kv| kv.value.clone()).unwrap_or_default();
        let (look, done) = if u64::try_from(look.mod_revision(&record_key)) == Ok(expected) {
            let change = match outdated {
                Some(node) => put(&key, node.as_str().as_bytes(), 0),
                None => RequestOp { delete: Some(DeleteRangeRequest { key: key.clone() }), ..RequestOp::default() },
            };
            // The record's new version: what was asked before this and comes later rests on one that is no more.
            let changes = vec![put(&record_key, &record, 0), change];
            self.change(&look, &record_key, &permit_key, changes, until).await?
        } else {
            (self.look_at(self.keys.all(), until).await?, false)
        };
        // Of two copies of this question the other one may have been first.
        let wanted = outdated.map(|node| node.as_str().as_bytes());
        let is_so = look.get(&key).map(|kv| kv.value.as_slice()) == wanted;
        let done = done || (is_so && look.get(&record_key).is_some_and(|kv| kv.value == record));
        let lease = *self.lease.lock().await;
        let view = self.view(&look, lease);
        Ok(Answer { revision: look.revision, answer: ArbiterAnswer::Done { done, view } })
    }

    /// One transaction, if record and permit are as they were looked at; and what there is after it.
    async fn change(
        &self,
        look: &Look,
        record: &[u8],
        permit: &[u8],
        mut changes: Vec<RequestOp>,
        until: Instant,
    ) -> Result<(Look, bool), AskError> {
        let see = RequestOp { range: Some(self.keys.all()), ..RequestOp::default() };
        changes.push(see.clone());
        let compare = [record, permit].map(|key| Compare::unchanged(key.to_vec(), look.mod_revision(key)));
        let transaction = TxnRequest { compare: compare.into(), success: changes, failure: vec![see] };
        let answer = self.members.ask(until, move |channel| wire::unary(channel, transaction.clone())).await?;
        // The header of an answer inside a transaction is not filled in by every version.
        let seen = answer.responses.into_iter().rev().find_map(|response| response.range).unwrap_or_default();
        Ok((Look::from(wire::RangeResponse { header: answer.header, kvs: seen.kvs }), answer.succeeded))
    }

    /// The lease of this node's permits: of an earlier daemon's, if they are under one; else a new one.
    async fn lease(&self, until: Instant) -> Result<i64, AskError> {
        let mut lease = self.lease.lock().await;
        if let Some(lease) = *lease {
            return Ok(lease);
        }
        let adopted = self.look_at(self.keys.all(), until).await?.lease_of(&self.me);
        let id = match adopted {
            Some(id) => {
                tracing::info!(
                    "the permits of this node at etcd are under the lease {id:x}: it is renewed from now on"
                );
                id
            }
            None => {
                let ttl = self.ttl;
                let granted =
                    self.members.ask(until, move |channel| wire::unary(channel, LeaseGrantRequest { ttl })).await?;
                if !granted.error.is_empty() {
                    return Err(AskError::Refused(Status::failed_precondition(granted.error)));
                }
                tracing::info!("etcd has granted the lease {:x} for {} s", granted.id, granted.ttl);
                granted.id
            }
        };
        *lease = Some(id);
        Ok(id)
    }

    async fn is_gone(&self, id: i64) {
        let mut lease = self.lease.lock().await;
        if *lease == Some(id) {
            *lease = None;
        }
    }

    async fn look_at(&self, what: RangeRequest, until: Instant) -> Result<Look, AskError> {
        Ok(self.members.ask(until, move |channel| wire::unary(channel, what.clone())).await?.into())
    }

    fn view(&self, look: &Look, lease: Option<i64>) -> ArbiterView {
        let (view, unreadable) = look.view(&self.keys, &self.me, lease);
        let mut told = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if *told != unreadable {
            for key in unreadable.iter().filter(|key| !told.contains(key)) {
                tracing::error!(
                    "{key} at etcd cannot be read: written by somebody else, or by a newer mainstay; as long as it is there this node has no permit for its hierarchy"
                );
            }
            *told = unreadable;
        }
        view
    }
}

/// What became of one renewal.
enum Renewed {
    Alive {
        /// In s, as granted.
        ttl: i64,
        look: Look,
    },
    Gone,
    /// It may have been renewed by a leader that had been replaced already, whose successor counts from before.
    LeaderChanged,
}

/// Renews, and then looks, both at one member.
///
/// A lease is renewed by the leader alone, without the others, and one that was cut off does not know at once that there
/// is a new leader, which counts every lease anew from when it was chosen. The look is answered only by a leader that a
/// majority confirms then. A member tells its term as it was before the renewal, and in the look as it is after it: if
/// they are the same, the leader that has renewed was the leader, and whoever follows it counts from later.
async fn renew_once(channel: Channel, lease: i64, all: wire::RangeRequest) -> Result<Renewed, Status> {
    let kept = wire::keep_alive(channel.clone(), lease).await?;
    if kept.ttl <= 0 {
        return Ok(Renewed::Gone);
    }
    let look = Look::from(wire::unary(channel, all).await?);
    if kept.header.is_some_and(|header| header.raft_term == look.raft_term) {
        Ok(Renewed::Alive { ttl: kept.ttl, look })
    } else {
        Ok(Renewed::LeaderChanged)
    }
}

fn put(key: &[u8], value: &[u8], lease: i64) -> RequestOp {
    RequestOp { put: Some(PutRequest { key: key.to_vec(), value: value.to_vec(), lease }), ..RequestOp::default() }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, AskError> {
    serde_json::to_vec(value).map_err(|error| AskError::Refused(Status::internal(error.to_string())))
}
