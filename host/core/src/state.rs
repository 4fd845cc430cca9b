//! What a node has to know again after a crash, and the records that change it.
//!
//! [`State`] changes in [`State::apply`] and nowhere else, so that replaying the journal gives the same state.
//! Nothing here decides; nothing here fails: a record about something the state does not know makes it known.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::claim::{Claim, ClaimId};
use crate::names::{HierarchyName, NodeName, Tag};
use crate::plan::Presence;
use crate::time::{Millis, UnixMs};

/// Why something is done; the kit is told as the hint `cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The daemon has started.
    Start,
    /// The operator asked for it.
    Operator,
    /// A planned move.
    Switchover,
    /// A move after a failure.
    Failover,
    /// A check has failed.
    FailedCheck,
    /// Another node owns it by now.
    StaleOwner,
    /// Bringing it in service failed, and what was done is undone.
    Undo,
    /// Something it depends on came back as another.
    RestartDependents,
    /// The arbiter's permit was lost (O12).
    PermitLost,
    /// A node of higher priority is there again.
    Switchback,
    /// The operator wants nothing in service on this node.
    Drain,
}

impl Cause {
    /// As the kit is told.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Operator => "operator",
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::FailedCheck => "failed-check",
            Self::StaleOwner => "stale-owner",
            Self::Undo => "undo",
            Self::RestartDependents => "restart-dependents",
            Self::PermitLost => "permit-lost",
            Self::Switchback => "switchback",
            Self::Drain => "drain",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the claimant says of its claim. Only the claimant changes it; a higher revision replaces a lower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Grows with every change under one claim.
    pub revision: u32,
    /// What it is.
    pub kind: StandingKind,
    /// Where the hierarchy has been tried in this round of moves, so that it does not go in circles (O20).
    pub tried: BTreeSet<NodeName>,
    /// Why it is given away.
    pub cause: Option<Cause>,
}

/// See [`Standing`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StandingKind {
    /// The claimant may have it in service.
    #[default]
    Held,
    /// Removed, and offered to nobody: only the claimant may claim again (O2, O18).
    Released,
    /// Removed, and offered: only this node may claim (O18).
    Offered(NodeName),
}

/// What this node is about, with one hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Nothing.
    #[default]
    Rest,
    /// Have it in service, as its owner.
    Serve(Cause),
    /// Have nothing of it here, and then...
    Leave(Cause, Then),
    /// Do nothing until the operator says what, as its owner (O19, O20).
    Halt(String),
}

/// What follows when nothing of a hierarchy is here any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Nothing: it is not this node's.
    Nothing,
    /// A durable release, offered to nobody.
    Release,
    /// A durable release, offered to this node.
    Offer(NodeName),
    /// A durable release, offered to the next node in order of priority that has not been tried.
    PassOn,
}

/// An operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Bring in service.
    Restore,
    /// Take out of service.
    Remove,
    /// Repair on this node.
    Recover,
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restore => "restore",
            Self::Remove => "remove",
            Self::Recover => "recover",
        })
    }
}

/// An operation that has begun, and whose outcome is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationState {
    /// The same for every attempt.
    pub id: String,
    /// What it does.
    pub kind: OperationKind,
    /// From 1.
    pub attempt: u32,
    /// Why.
    pub cause: Cause,
    /// Whether the attempt may still be going on. False: it ended, and nobody knows how.
    pub running: bool,
    /// How many of the attempts outlived the daemon that made them, so that nobody heard how they ended. It says nothing
    /// against the kit.
    #[serde(default)]
    pub unheard: u32,
}

/// An operation that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Which.
    pub operation: OperationKind,
    /// Why.
    pub why: String,
}

/// What is known of a resource here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceState {
    /// Is it here?
    pub presence: Presence,
    /// What is being done, or was when the daemon was killed.
    pub operation: Option<OperationState>,
    /// How the last operation failed, if it did.
    pub failure: Option<Failed>,
    /// When local recovery was tried, as far back as the ladder's window reaches.
    pub recoveries: Vec<UnixMs>,
}

/// Whether a hierarchy is in maintenance: checks go on, and nothing is done. What every node says of it is the same, the
/// highest revision counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Maintenance {
    /// Grows with every change.
    pub revision: u64,
    /// It is.
    pub on: bool,
}

/// What is known of a hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HierarchyState {
    /// The journal was damaged: who owns it is not known until somebody answers (O4).
    pub unknown: bool,
    /// Every other node has answered a daemon of this node since the journal began, so it knows of every claim that this
    /// node ever made; a new journal does not.
    #[serde(default)]
    pub informed: bool,
    /// The newest claim known.
    pub claim: Option<Claim>,
    /// Which daemon of this node has entered that claim in the journal. After a journal was lost, one of the same name is
    /// entered by another: it may be another claim.
    #[serde(default)]
    pub entered: u64,
    /// What its claimant says of it.
    pub standing: Standing,
    /// The offer this node has declined, with the revision that made it.
    pub declined: Option<(ClaimId, u32)>,
    /// Two claims that follow the same one, until a newer claim is made (O1).
    pub conflict: Option<(ClaimId, ClaimId)>,
    /// What this node is about.
    pub intent: Intent,
    /// What the operator has taken out of service, while the rest stays.
    pub unwanted: BTreeSet<Tag>,
    /// Everything wanted has been in service here since this node set out to serve.
    pub settled: bool,
    /// Where it has been tried in this round of moves.
    pub tried: BTreeSet<NodeName>,
    /// When it failed over, as far back as the limit's window reaches (O20).
    pub failovers: Vec<UnixMs>,
    /// Why the claim was made, if this node made it.
    #[serde(default)]
    pub claimed_for: Option<Cause>,
    /// The arbiter has had a record of it: one that has none any more was wiped (O12).
    #[serde(default)]
    pub arbitrated: bool,
    /// This node's claim was made on the operator's word, and the arbiter has not been told yet (O12).
    #[serde(default)]
    pub forced: bool,
    /// This node's claim was made on the operator's word: a copy of a volume may be promoted on it, too (VOLUME V4).
    #[serde(default)]
    pub word: bool,
    /// This node has promised the holder of this claim not to claim for so long (O12).
    #[serde(default)]
    pub promised: Option<(ClaimId, Millis)>,
    /// Whether anything is to be done with it.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// Its resources.
    pub resources: BTreeMap<Tag, ResourceState>,
}

impl HierarchyState {
    /// Whether `node` owns it: it made the newest claim known, and has not released it.
    #[must_use]
    pub fn is_owned_by(&self, node: &NodeName) -> bool {
        self.owner() == Some(node)
    }

    /// Who may have it in service, as far as this node knows.
    #[must_use]
    pub fn owner(&self) -> Option<&NodeName> {
        self.claim
            .as_ref()
            .filter(|_| !self.unknown && self.standing.kind == StandingKind::Held)
            .map(|claim| &claim.id.claimant)
    }

    /// Whether something of it is or may be here.
    #[must_use]
    pub fn is_occupied(&self) -> bool {
        self.resources.values().any(|resource| resource.presence != Presence::Out)
    }

    fn set_claim(&mut self, claim: Option<Claim>, standing: Standing, incarnation: u64) {
        let id = |claim: &Option<Claim>| claim.as_ref().map(|claim| claim.id.clone());
        if id(&claim) != id(&self.claim) {
            self.entered = incarnation;
            self.promised = None;
            self.claimed_for = None;
            self.forced = false;
            self.word = false;
        }
        self.unknown = false;
        self.claim = claim;
        self.standing = standing;
    }
}

/// How an operation ended, for the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It did what it is for.
    Well,
    /// It did not: what is here now, and why it failed.
    Badly(Presence, String),
    /// Nobody knows: it has to be looked at.
    Unknown,
    /// Nobody knows, because the daemon that made the attempt is gone.
    Unheard,
}

/// What is written to the journal. Each changes the state by itself; the order is the order of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// The whole state: what stands before it is not needed any more.
    Snapshot(Box<State>),
    /// A daemon has started.
    Started {
        /// Above that of every earlier daemon.
        incarnation: u64,
        /// Names the machine's start: with another one, nothing runs that ran before.
        boot: String,
    },
    /// What stood before it in the journal could not be read (O4).
    Damaged,
    /// The config has these.
    Configured {
        /// What.
        hierarchy: HierarchyName,
        /// Its resources.
        tags: BTreeSet<Tag>,
    },
    /// Every other node has answered: what is known is all there is to know.
    Informed {
        /// Of what.
        hierarchy: HierarchyName,
    },
    /// This node claims (O1, O2).
    Claimed {
        /// What.
        hierarchy: HierarchyName,
        /// The claim.
        claim: Claim,
        /// Why.
        cause: Cause,
        /// Where it has been tried already.
        tried: BTreeSet<NodeName>,
        /// When, if this counts as a failover.
        failover: Option<UnixMs>,
        /// On the operator's word, and not known to the arbiter (O12).
        #[serde(default)]
        forced: bool,
        /// On the operator's word.
        #[serde(default)]
        word: bool,
    },
    /// The arbiter has a record of it (O12).
    Arbitrated {
        /// Of what.
        hierarchy: HierarchyName,
    },
    /// The arbiter has given its permit for a claim that was made on the operator's word (O12).
    Permitted {
        /// For what.
        hierarchy: HierarchyName,
    },
    /// This node has promised the owner not to claim for so long (O12).
    Promised {
        /// What.
        hierarchy: HierarchyName,
        /// The owner's claim.
        claim: ClaimId,
        /// From any time after this record, and from every start of a daemon.
        lasts: Millis,
    },
    /// Maintenance begins or ends.
    Maintained {
        /// Of what.
        hierarchy: HierarchyName,
        /// How it is now.
        maintenance: Maintenance,
    },
    /// The operator wants nothing in service on this node, or lets it again.
    Drained {
        /// Whether it does.
        drained: bool,
    },
    /// Another node knows a newer claim, or a newer standing of the same.
    Learned {
        /// Of what.
        hierarchy: HierarchyName,
        /// The newest claim.
        claim: Option<Claim>,
        /// What its claimant says of it.
        standing: Standing,
        /// Its failovers.
        failovers: Vec<UnixMs>,
        /// What this node is about from now on.
        intent: Intent,
    },
    /// This node has removed everything, and gives its claim away (O2).
    Released {
        /// What.
        hierarchy: HierarchyName,
        /// The new standing of this node's claim.
        standing: Standing,
    },
    /// This node will not take what it was offered.
    Declined {
        /// What.
        hierarchy: HierarchyName,
        /// The claim under which it was offered.
        claim: ClaimId,
        /// The revision of the offer.
        revision: u32,
    },
    /// Two claims follow the same one (O1).
    Conflict {
        /// On what.
        hierarchy: HierarchyName,
        /// Ours, or the one we knew.
        known: ClaimId,
        /// The one we heard of.
        heard: ClaimId,
    },
    /// What this node is about from now on.
    Intends {
        /// With what.
        hierarchy: HierarchyName,
        /// What it is.
        intent: Intent,
        /// Where it has been tried already, when that changes.
        tried: Option<BTreeSet<NodeName>>,
    },
    /// Everything wanted is in service: a round of moves is over.
    Settled {
        /// What.
        hierarchy: HierarchyName,
    },
    /// The operator wants these in service, or not.
    Wanted {
        /// Of what.
        hierarchy: HierarchyName,
        /// Which.
        tags: BTreeSet<Tag>,
        /// In service?
        wanted: bool,
    },
    /// Somebody who has looked wants local recovery tried again: what was tried before counts no more.
    Renewed {
        /// Of what.
        hierarchy: HierarchyName,
        /// Which resource.
        tag: Tag,
    },
    /// An operation begins, or its next attempt.
    Began {
        /// Of what.
        hierarchy: HierarchyName,
        /// Which resource.
        tag: Tag,
        /// What.
        operation: OperationState,
        /// When.
        at: UnixMs,
    },
    /// An attempt has ended.
    Ended {
        /// Of what.
        hierarchy: HierarchyName,
        /// Which resource.
        tag: Tag,
        /// How.
        ended: Ended,
    },
    /// It was found here although it should not be, and is going to be removed (O21).
    Found {
        /// Of what.
        hierarchy: HierarchyName,
        /// Which resource.
        tag: Tag,
    },
    /// The config does not have it any more.
    Forgotten {
        /// What.
        hierarchy: HierarchyName,
        /// Which resource; none: all of it.
        tag: Option<Tag>,
    },
}

/// Everything durable. See [`State::apply`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Names the newest daemon: above every earlier one's.
    pub incarnation: u64,
    /// Names the machine's start.
    pub boot: String,
    /// The journal was damaged, and not everything is known again: of what it does not mention, nothing is.
    pub damaged: bool,
    /// The operator wants nothing in service on this node.
    #[serde(default)]
    pub drained: bool,
    /// By name.
    pub hierarchies: BTreeMap<HierarchyName, HierarchyState>,
}

impl State {
    /// The state after these records.
    pub fn replay<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.apply(record);
        }
        state
    }

    /// The one place where the state changes.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Snapshot(state) => *self = (**state).clone(),
            Record::Started { incarnation, boot } => self.started(*incarnation, boot),
            Record::Damaged => self.damage(),
            Record::Configured { hierarchy, tags } => {
                for tag in tags {
                    self.resource(hierarchy, tag);
                }
            }
            Record::Informed { hierarchy } => self.hierarchy(hierarchy).informed = true,
            Record::Arbitrated { hierarchy } => self.hierarchy(hierarchy).arbitrated = true,
            Record::Permitted { hierarchy } => self.hierarchy(hierarchy).forced = false,
            Record::Promised { hierarchy, claim, lasts } => {
                self.hierarchy(hierarchy).promised = Some((claim.clone(), *lasts));
            }
            Record::Maintained { hierarchy, maintenance } => {
                self.hierarchy(hierarchy).maintenance = maintenance.clone();
            }
            Record::Drained { drained } => self.drained = *drained,
            Record::Claimed { hierarchy, claim, cause, tried, failover, forced, word } => {
                let incarnation = self.incarnation;
                let state = self.hierarchy(hierarchy);
                state.set_claim(Some(claim.clone()), Standing::default(), incarnation);
                state.claimed_for = Some(*cause);
                state.forced = *forced;
                state.word = *word;
                state.conflict = None;
                state.intent = Intent::Serve(*cause);
                state.settled = false;
                state.tried.clone_from(tried);
                state.unwanted.clear();
                state.failovers.extend(failover);
                let extra = state.failovers.len().saturating_sub(FAILOVERS_KEPT);
                state.failovers.drain(..extra);
                self.damaged &= self.hierarchies.values().any(|hierarchy| hierarchy.unknown);
            }
            Record::Learned { hierarchy, claim, standing, failovers, intent } => {
                let incarnation = self.incarnation;
                let state = self.hierarchy(hierarchy);
                state.set_claim(claim.clone(), standing.clone(), incarnation);
                state.failovers.clone_from(failovers);
                state.tried.clone_from(&standing.tried);
                state.intent = intent.clone();
                // Whatever was in conflict, the owner has changed since.
                let newest = state.claim.as_ref().map(|claim| &claim.id);
                state.conflict.take_if(|(known, heard)| newest > Some(known) && newest > Some(heard));
                self.damaged &= self.hierarchies.values().any(|hierarchy| hierarchy.unknown);
            }
            Record::Released { hierarchy, standing } => {
                let state = self.hierarchy(hierarchy);
                state.standing = standing.clone();
                state.intent = Intent::Rest;
            }
            Record::Declined { hierarchy, claim, revision } => {
                self.hierarchy(hierarchy).declined = Some((claim.clone(), *revision));
            }
            Record::Conflict { hierarchy, known, heard } => {
                self.hierarchy(hierarchy).conflict = Some((known.clone(), heard.clone()));
            }
            Record::Intends { hierarchy, intent, tried } => {
                let state = self.hierarchy(hierarchy);
                state.intent = intent.clone();
                state.settled = false;
                if let Some(tried) = tried {
                    state.tried.clone_from(tried);
                }
            }
            Record::Settled { hierarchy } => {
                let state = self.hierarchy(hierarchy);
                state.settled = true;
                state.tried.clear();
            }
            Record::Wanted { hierarchy, tags, wanted } => {
                let unwanted = &mut self.hierarchy(hierarchy).unwanted;
                for tag in tags {
                    if *wanted {
                        unwanted.remove(tag);
                    } else {
                        unwanted.insert(tag.clone());
                    }
                }
            }
            Record::Renewed { hierarchy, tag } => self.resource(hierarchy, tag).recoveries.clear(),
            Record::Began { hierarchy, tag, operation, at } => self.resource(hierarchy, tag).began(operation, *at),
            Record::Ended { hierarchy, tag, ended } => self.resource(hierarchy, tag).ended(ended),
            Record::Found { hierarchy, tag } => self.resource(hierarchy, tag).presence = Presence::Unknown,
            Record::Forgotten { hierarchy, tag: None } => {
                self.hierarchies.remove(hierarchy);
            }
            Record::Forgotten { hierarchy, tag: Some(tag) } => {
                let state = self.hierarchy(hierarchy);
                state.resources.remove(tag);
                state.unwanted.remove(tag);
            }
        }
    }

    fn hierarchy(&mut self, name: &HierarchyName) -> &mut HierarchyState {
        let unknown = self.damaged;
        self.hierarchies.entry(name.clone()).or_insert_with(|| HierarchyState { unknown, ..HierarchyState::default() })
    }

    fn resource(&mut self, hierarchy: &HierarchyName, tag: &Tag) -> &mut ResourceState {
        let presence = if self.damaged { Presence::Unknown } else { Presence::Out };
        let state = self.hierarchy(hierarchy);
        state.resources.entry(tag.clone()).or_insert_with(|| ResourceState { presence, ..ResourceState::default() })
    }

    fn started(&mut self, incarnation: u64, boot: &str) {
        self.incarnation = incarnation;
        if self.boot == boot {
            return;
        }
        self.boot = boot.into();
        let resources = self.hierarchies.values_mut().flat_map(|hierarchy| hierarchy.resources.values_mut());
        for resource in resources.filter(|resource| resource.presence != Presence::Out) {
            // The machine was off. Something may have been started by itself; nobody has looked yet.
            resource.presence = Presence::Unknown;
            resource.operation = None;
        }
    }

    fn damage(&mut self) {
        self.damaged = true;
        for hierarchy in self.hierarchies.values_mut() {
            *hierarchy = HierarchyState {
                unknown: true,
                resources: core::mem::take(&mut hierarchy.resources),
                ..HierarchyState::default()
            };
            for resource in hierarchy.resources.values_mut() {
                *resource = ResourceState { presence: Presence::Unknown, ..ResourceState::default() };
            }
        }
    }
}

impl ResourceState {
    fn began(&mut self, operation: &OperationState, at: UnixMs) {
        match operation.kind {
            // From here on, half of it may be here.
            OperationKind::Restore | OperationKind::Remove => self.presence = Presence::Unknown,
            OperationKind::Recover => {
                self.recoveries.push(at);
                // The ladder never looks back further than its number of attempts.
                let extra = self.recoveries.len().saturating_sub(RECOVERIES_KEPT);
                self.recoveries.drain(..extra);
            }
        }
        self.failure = None;
        self.operation = Some(operation.clone());
    }

    fn ended(&mut self, ended: &Ended) {
        match ended {
            Ended::Well => {
                if let Some(operation) = self.operation.take() {
                    self.presence = match operation.kind {
                        OperationKind::Restore | OperationKind::Recover => Presence::In,
                        OperationKind::Remove => Presence::Out,
                    };
                }
                self.failure = None;
            }
            Ended::Badly(presence, why) => {
                self.presence = *presence;
                self.failure =
                    self.operation.take().map(|operation| Failed { operation: operation.kind, why: why.clone() });
            }
            Ended::Unknown | Ended::Unheard => {
                if let Some(operation) = &mut self.operation {
                    operation.running = false;
                    operation.unheard += u32::from(*ended == Ended::Unheard);
                }
            }
        }
    }
}

/// How many failovers of a hierarchy are remembered: as many as a config may allow in a window.
pub const FAILOVERS_KEPT: usize = 1000;

/// How many local recoveries of a resource are remembered; a config may not ask for more attempts.
pub const RECOVERIES_KEPT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(kind: OperationKind) -> OperationState {
        OperationState { id: "1".into(), kind, attempt: 1, cause: Cause::Operator, running: true, unheard: 0 }
    }

    fn began(kind: OperationKind) -> Record {
        Record::Began { hierarchy: "h".into(), tag: "r".into(), operation: operation(kind), at: UnixMs(1) }
    }

    fn ended(ended: Ended) -> Record {
        Record::Ended { hierarchy: "h".into(), tag: "r".into(), ended }
    }

    fn resource(records: &[Record]) -> ResourceState {
        State::replay(records).hierarchies["h"].resources["r"].clone()
    }

    #[test]
    fn an_operation_that_began_leaves_what_is_not_known() {
        assert_eq!(resource(&[began(OperationKind::Restore)]).presence, Presence::Unknown);
        let well = resource(&[began(OperationKind::Restore), ended(Ended::Well)]);
        assert_eq!((well.presence, well.operation), (Presence::In, None));
        let unknown = resource(&[began(OperationKind::Restore), ended(Ended::Unknown)]);
        assert_eq!(unknown.presence, Presence::Unknown);
        let operation = unknown.operation.unwrap();
        assert_eq!((operation.running, operation.unheard), (false, 0));
        let unheard = resource(&[began(OperationKind::Restore), ended(Ended::Unheard)]).operation.unwrap();
        assert_eq!((unheard.running, unheard.unheard), (false, 1));
        let recovering = resource(&[began(OperationKind::Restore), ended(Ended::Well), began(OperationKind::Recover)]);
        assert_eq!(recovering.presence, Presence::In, "parents stay in service meanwhile");
    }

    #[test]
    fn after_the_machine_was_off_nothing_is_known_to_run() {
        let started = |boot: &str| Record::Started { incarnation: 1, boot: boot.into() };
        let service = [started("one"), began(OperationKind::Restore), ended(Ended::Well)];
        let same = resource(&[service.as_slice(), &[started("one")]].concat());
        assert_eq!(same.presence, Presence::In);
        let other = resource(&[service.as_slice(), &[started("two")]].concat());
        assert_eq!(other.presence, Presence::Unknown);
    }

    #[test]
    fn another_nodes_claim_takes_the_place_of_ours() {
        let ours = Claim::following(None, "me".into());
        let claimed = Record::Claimed {
            hierarchy: "h".into(),
            claim: ours.clone(),
            cause: Cause::Start,
            tried: BTreeSet::new(),
            failover: None,
            forced: false,
            word: false,
        };
        let intent = Intent::Leave(Cause::StaleOwner, Then::Nothing);
        let learned = Record::Learned {
            hierarchy: "h".into(),
            claim: Some(Claim::following(Some(&ours), "other".into())),
            standing: Standing::default(),
            failovers: Vec::new(),
            intent: intent.clone(),
        };
        let state = State::replay([&claimed]);
        assert!(state.hierarchies["h"].is_owned_by(&"me".into()));
        let state = State::replay(&[claimed, learned]);
        assert!(state.hierarchies["h"].is_owned_by(&"other".into()));
        assert_eq!(state.hierarchies["h"].intent, intent);
    }

    #[test]
    fn after_damage_nothing_is_known_of_what_the_journal_does_not_mention() {
        let configured = Record::Configured { hierarchy: "h".into(), tags: BTreeSet::from(["r".into()]) };
        let state = State::replay(&[Record::Damaged, configured.clone()]);
        assert!(state.hierarchies["h"].unknown && state.hierarchies["h"].is_occupied());
        let state = State::replay(&[configured]);
        assert!(!state.hierarchies["h"].unknown && !state.hierarchies["h"].is_occupied());
    }

    #[test]
    fn damage_makes_ownership_unknown_and_forgets_nothing_that_may_run() {
        let state = State::replay(&[began(OperationKind::Restore), ended(Ended::Well), Record::Damaged]);
        let hierarchy = &state.hierarchies["h"];
        assert!(hierarchy.unknown && hierarchy.is_occupied());
        assert_eq!(hierarchy.owner(), None);
    }

    #[test]
    fn a_snapshot_is_the_whole_state() {
        let records = [began(OperationKind::Restore), ended(Ended::Well)];
        let state = State::replay(&records);
        let snapshot = Record::Snapshot(Box::new(state.clone()));
        assert_eq!(State::replay(&[snapshot]), state);
    }
}
