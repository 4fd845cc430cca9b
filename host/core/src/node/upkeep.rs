//! Moves and standstills that are no answer to a failure: maintenance, draining a node, going back to a node of higher
//! priority, and removing what runs where it is not owned.

use alloc::collections::BTreeSet;
use alloc::string::String;

use super::Node;
use super::timers::HierarchyIndex;
use crate::hierarchy::ResourceIndex;
use crate::message::list;
use crate::names::NodeName;
use crate::plan::Goal;
use crate::spec::Switchback;
use crate::state::{Cause, Intent, Maintenance, Record, StandingKind, Then};
use crate::status::{EventSeverity, What};

impl Node {
    /// The operator wants nothing to be done with it, or things to be done again.
    pub(super) fn maintain(&mut self, h: HierarchyIndex, on: bool) -> Result<String, String> {
        let name = self.name(h).clone();
        if self.durable(h).maintenance.on == on {
            return Err(alloc::format!("{name} is {} maintenance already", if on { "in" } else { "not in" }));
        }
        let maintenance = Maintenance { revision: self.durable(h).maintenance.revision.saturating_add(1), on };
        self.set_maintenance(h, maintenance);
        Ok(if on {
            alloc::format!(
                "{name} is in maintenance: checks go on, nothing is repaired, moved or taken over. What has begun is finished"
            )
        } else {
            alloc::format!("{name} is not in maintenance any more")
        })
    }

    /// What another node says of it: the highest revision counts.
    pub(super) fn merge_maintenance(&mut self, h: HierarchyIndex, theirs: &Maintenance) {
        if self.local(h).member && *theirs > self.durable(h).maintenance {
            self.set_maintenance(h, theirs.clone());
        }
    }

    fn set_maintenance(&mut self, h: HierarchyIndex, maintenance: Maintenance) {
        let on = maintenance.on;
        self.record(Record::Maintained { hierarchy: self.name(h).clone(), maintenance });
        self.event_of(EventSeverity::Info, h, None, What::Maintenance { on });
        if !on {
            // What waited need not any more.
            self.local_mut(h).attempted = false;
            self.look_at_what_waited(h);
        }
        self.tell.ownership();
        self.mark_all(h);
        self.touch(h);
    }

    /// The operator wants nothing in service on this node, or lets it again.
    pub(super) fn drain(&mut self, on: bool) -> Result<String, String> {
        if self.state.drained == on {
            return Err(alloc::format!("{} is {} already", self.me, if on { "drained" } else { "not drained" }));
        }
        self.record(Record::Drained { drained: on });
        self.tell.ownership();
        self.touch_all();
        if !on {
            return Ok(alloc::format!("{} may have hierarchies in service again", self.me));
        }
        let owned: BTreeSet<String> = self
            .members()
            .into_iter()
            .filter(|h| self.is_owner(*h) && matches!(self.durable(*h).intent, Intent::Serve(_)))
            .map(|h| alloc::format!("{}", self.name(h)))
            .collect();
        Ok(if owned.is_empty() {
            alloc::format!("nothing is in service on {}, and nothing is brought there", self.me)
        } else {
            let owned: alloc::vec::Vec<String> = owned.into_iter().collect();
            alloc::format!(
                "nothing is brought to {} any more; these move away as soon as another node can take them: {}",
                self.me,
                owned.join(", ")
            )
        })
    }

    /// What is in service here and in order may have a better place.
    pub(super) fn consider_moving(&mut self, h: HierarchyIndex) {
        let durable = self.durable(h);
        let at_rest = durable.settled
            && matches!(durable.intent, Intent::Serve(_))
            && self.local(h).proven
            && self.local(h).running.is_none()
            && !durable.maintenance.on;
        if !at_rest || !self.is_owner(h) || self.stopped {
            return;
        }
        if self.state.drained {
            let tried = BTreeSet::from([self.me.clone()]);
            if self.next_candidate(h, &tried).is_ok() {
                self.leave_for(h, Cause::Drain, Then::PassOn, tried);
            }
            return;
        }
        if let Some(to) = self.switches_back_to(h) {
            self.leave_for(h, Cause::Switchback, Then::Offer(to), BTreeSet::new());
        }
    }

    fn leave_for(&mut self, h: HierarchyIndex, cause: Cause, then: Then, tried: BTreeSet<NodeName>) {
        self.intend(h, Intent::Leave(cause, then), Some(tried));
        self.run_plan(h, Goal::OutOfService, cause);
    }

    /// The node of higher priority that has been ready for long enough, if it came here by a failover and is to go back by
    /// itself.
    fn switches_back_to(&mut self, h: HierarchyIndex) -> Option<NodeName> {
        let spec = &self.local(h).hierarchy.spec;
        let delay = spec.switchback_delay;
        let wanted = spec.switchback == Switchback::Automatic && self.durable(h).claimed_for == Some(Cause::Failover);
        let better = wanted.then(|| {
            let before = spec.nodes.iter().take_while(|node| **node != self.me);
            before
                .into_iter()
                .find(|node| {
                    self.peer_index(node).is_some_and(|peer| {
                        self.peer_not_ready(peer, h).is_none() && self.kits_differ(peer, h).is_none()
                    })
                })
                .cloned()
        });
        let now = self.now.monotonic;
        let known = self.local(h).better.clone();
        match (better.flatten(), known) {
            (Some(node), Some((known, since))) if node == known => (now.since(since) >= delay).then_some(node),
            (better, _) => {
                self.local_mut(h).better = better.map(|node| (node, now));
                None
            }
        }
    }

    /// O21: what a check found running here is removed, if the config says so and another node owns it for certain.
    pub(super) fn consider_removing(&mut self, h: HierarchyIndex) {
        let durable = self.durable(h);
        let elsewhere = durable.standing.kind == StandingKind::Held && durable.owner().is_some_and(|it| *it != self.me);
        let spec = &self.local(h).hierarchy.spec;
        if !spec.remove_violations || !elsewhere || durable.unknown || durable.maintenance.on {
            return;
        }
        let idle = durable.intent == Intent::Rest && self.local(h).running.is_none();
        let found: alloc::vec::Vec<ResourceIndex> =
            self.local(h).hierarchy.resources().filter(|r| self.resource(h, *r).violation.is_some()).collect();
        if !idle || found.is_empty() {
            return;
        }
        for r in &found {
            self.record(Record::Found { hierarchy: self.name(h).clone(), tag: self.tag(h, *r).clone() });
            self.resource_mut(h, *r).violation = None;
        }
        let tags: BTreeSet<&str> = found.iter().map(|r| self.tag(h, *r).as_str()).collect();
        let owner = self.durable(h).owner().cloned();
        let text = alloc::format!(
            "{} running here, and {} owns it: it is removed (remove-violations, O21)",
            tags.into_iter().collect::<alloc::vec::Vec<_>>().join(", "),
            list(&owner)
        );
        self.event_of(EventSeverity::Warning, h, None, What::Learned { text });
        self.intend(h, Intent::Leave(Cause::StaleOwner, Then::Nothing), None);
    }
}
