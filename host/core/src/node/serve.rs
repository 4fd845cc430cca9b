//! Carrying out plans: what is in service here becomes what it should be.
//!
//! Decides which plan is carried out, what a step that fails leads to, and whether a failure here leads to a
//! failover (O19, O20). Whether this node may act at all is `ownership`'s.

use alloc::string::String;
use alloc::vec::Vec;

use super::Node;
use super::local::Running;
use super::timers::{HierarchyIndex, Timer};
use crate::hierarchy::ResourceIndex;
use crate::ladder::Stage;
use crate::plan::{Goal, Local, Plan, Presence, StepKind};
use crate::sequence::Sequence;
use crate::state::{Cause, Intent, OperationKind, Record, Then};
use crate::status::{EventSeverity, What};

impl Node {
    /// Starts the plan for what this node is about, unless one is running or was carried out as far as it goes.
    pub(super) fn pursue(&mut self, h: HierarchyIndex) {
        if self.local(h).running.is_some() {
            self.advance(h);
            return;
        }
        if self.local(h).attempted {
            match self.durable(h).intent.clone() {
                Intent::Leave(cause, then) if !self.durable(h).is_occupied() => self.has_left(h, cause, then),
                Intent::Leave(..) | Intent::Serve(_) | Intent::Rest | Intent::Halt(_) => self.reconsider_failover(h),
            }
            return;
        }
        match self.durable(h).intent.clone() {
            // Nothing is done in maintenance; what takes something away because another owns it goes on.
            Intent::Serve(_) if self.durable(h).maintenance.on => {}
            Intent::Serve(cause) if self.local(h).proven => {
                let unwanted = self.unwanted_here(h);
                let goal = if unwanted.is_empty() { Goal::InService } else { Goal::Without(unwanted) };
                self.run_plan(h, goal, cause);
            }
            Intent::Leave(cause, _) => self.run_plan(h, Goal::OutOfService, cause),
            Intent::Serve(_) | Intent::Rest | Intent::Halt(_) => {}
        }
    }

    /// What the operator has taken out of service, and is or may be here all the same: a daemon was killed meanwhile.
    /// What could not be removed is not tried again by itself, and nothing below it can be.
    fn unwanted_here(&self, h: HierarchyIndex) -> Vec<ResourceIndex> {
        let hierarchy = &self.local(h).hierarchy;
        let view = self.planning_view(h);
        let stuck =
            |r: ResourceIndex| hierarchy.with_ancestors(r).into_iter().any(|above| self.is_not_removed(h, above));
        hierarchy.resources().filter(|r| !view(*r).wanted && view(*r).presence != Presence::Out && !stuck(*r)).collect()
    }

    fn is_not_removed(&self, h: HierarchyIndex, r: ResourceIndex) -> bool {
        let failure = &self.durable_resource(h, r).failure;
        failure.as_ref().is_some_and(|failed| failed.operation == OperationKind::Remove)
    }

    /// What is known of a resource, for a plan.
    pub(super) fn planning_view(&self, h: HierarchyIndex) -> impl Fn(ResourceIndex) -> Local + '_ {
        let durable = self.durable(h);
        move |r| {
            let tag = self.tag(h, r);
            Local { presence: durable.resources[tag].presence, wanted: !durable.unwanted.contains(tag) }
        }
    }

    /// Carries out a plan in place of the one that is running.
    pub(super) fn run_plan(&mut self, h: HierarchyIndex, goal: Goal, cause: Cause) {
        let plan = Plan::new(&self.local(h).hierarchy, self.planning_view(h), &goal);
        if !plan.is_empty() {
            let steps = plan
                .steps
                .iter()
                .map(|step| alloc::format!("{}", plan.explain(&self.local(h).hierarchy, step)))
                .collect();
            self.event_of(EventSeverity::Info, h, None, What::Plan { cause, steps });
        }
        let local = self.local_mut(h);
        local.attempted = true;
        local.stranded = None;
        for resource in &mut local.resources {
            resource.step = None;
        }
        let leaving = goal == Goal::OutOfService;
        self.mark_all(h);
        let local = self.local_mut(h);
        local.running = Some(Running { goal, cause, sequence: Sequence::new(plan) });
        if leaving {
            // What would bring something in service has no place here any more.
            self.cancel_all_but(h, OperationKind::Remove);
        }
        self.tell.ownership();
        self.advance(h);
    }

    /// Whatever plan is being carried out is not any more. Calls that go on are not ended by this.
    pub(super) fn drop_plan(&mut self, h: HierarchyIndex) {
        let local = self.local_mut(h);
        local.running = None;
        for resource in &mut local.resources {
            resource.step = None;
        }
        for r in self.local(h).hierarchy.resources() {
            self.timers.clear(Timer::Retry { hierarchy: h, resource: r });
        }
    }

    /// Starts the steps that may start; sees whether the plan is at its end.
    pub(super) fn advance(&mut self, h: HierarchyIndex) {
        while let Some((number, step)) =
            self.local_mut(h).running.as_mut().and_then(|running| running.sequence.start_next())
        {
            self.resource_mut(h, step.resource).step = Some(number);
            self.pursue_step(h, step.resource);
        }
        if self.local(h).running.as_ref().is_some_and(|running| running.sequence.is_settled()) {
            self.plan_ended(h);
        }
    }

    /// The step that a resource is at: what kind, and why the plan is carried out.
    pub(super) fn step_of(&self, h: HierarchyIndex, r: ResourceIndex) -> Option<(usize, StepKind, Cause)> {
        let number = self.resource(h, r).step?;
        let running = self.local(h).running.as_ref()?;
        Some((number, running.sequence.plan().steps[number].kind, running.cause))
    }

    /// The step of a resource has succeeded or failed.
    pub(super) fn step_ended(&mut self, h: HierarchyIndex, r: ResourceIndex, failed: Option<&str>) {
        let Some((number, kind, _)) = self.step_of(h, r) else { return };
        self.resource_mut(h, r).step = None;
        self.mark(h, r);
        let Some(running) = self.local_mut(h).running.as_mut() else { return };
        match failed {
            None => running.sequence.succeeded(number),
            Some(why) => {
                running.sequence.failed(number);
                let serving = running.goal != Goal::OutOfService;
                if kind == StepKind::Restore && serving {
                    let why = alloc::format!("{} could not be brought in service: {why}", self.tag(h, r));
                    self.consider_failover(h, &why);
                }
            }
        }
        self.touch(h);
    }

    fn plan_ended(&mut self, h: HierarchyIndex) {
        let Some(Running { goal, sequence, .. }) = self.local_mut(h).running.take() else { return };
        let complete = sequence.is_complete();
        self.touch(h);
        self.tell.ownership();
        match (goal, self.durable(h).intent.clone()) {
            (Goal::OutOfService, Intent::Leave(cause, then)) if complete => self.has_left(h, cause, then),
            // O19: who could not remove is still the owner; nobody else may claim.
            (Goal::OutOfService, Intent::Leave(_, then)) if then != Then::Nothing => {
                let failed = self.not_removed(h);
                let reason = alloc::format!(
                    "{failed} could not be taken out of service, so it counts as still in service here (O19)"
                );
                self.intend(h, Intent::Halt(reason), None);
            }
            (Goal::InService, Intent::Serve(_)) if complete => {
                if !self.durable(h).settled {
                    self.record(Record::Settled { hierarchy: self.name(h).clone() });
                }
                if !sequence.plan().is_empty() {
                    self.event_of(EventSeverity::Info, h, None, What::InService);
                }
            }
            (Goal::InService, Intent::Serve(_)) => self.try_again_later(h),
            // Whatever else was wanted and is not in service yet comes next.
            (Goal::Without(_), Intent::Serve(_)) => self.local_mut(h).attempted = false,
            (Goal::DependentsRestarted(_), Intent::Serve(_)) if complete => self.local_mut(h).attempted = false,
            (Goal::InService | Goal::OutOfService | Goal::Without(_) | Goal::DependentsRestarted(_), _) => {}
        }
    }

    /// What is in the way may go by itself (a server that is down): while nobody does anything about it, it is tried again
    /// once in a window of local recovery.
    fn try_again_later(&mut self, h: HierarchyIndex) {
        let hierarchy = &self.local(h).hierarchy;
        let windows =
            hierarchy.resources().filter(|r| self.is_hopeless(h, *r)).map(|r| hierarchy.resource(r).recovery.window);
        if let Some(window) = windows.min() {
            self.timers.set(Timer::Again { hierarchy: h }, self.now.monotonic + window);
        }
    }

    pub(super) fn again_due(&mut self, h: HierarchyIndex) {
        let serves = self.is_owner(h) && matches!(self.durable(h).intent, Intent::Serve(_));
        let failed = self.local(h).hierarchy.resources().any(|r| self.is_not_restored(h, r));
        if serves && failed && self.local(h).running.is_none() {
            self.local_mut(h).attempted = false;
            self.touch(h);
        }
    }

    fn not_removed(&self, h: HierarchyIndex) -> String {
        let hierarchy = &self.local(h).hierarchy;
        let failed = hierarchy.resources().filter(|r| self.is_not_removed(h, *r)).map(|r| hierarchy.tag(r).as_str());
        failed.collect::<Vec<_>>().join(", ")
    }

    /// Something here cannot be kept in service: the hierarchy moves, if it may; else what stands in the way is
    /// remembered, for people and for when that changes.
    pub(super) fn consider_failover(&mut self, h: HierarchyIndex, why: &str) {
        if !self.is_owner(h) {
            return;
        }
        let (Intent::Serve(cause), true) = (self.durable(h).intent.clone(), self.local(h).proven) else { return };
        // A move that did not work out goes on to the next node or back, whatever failovers may do (O20).
        let moving = !self.durable(h).settled && matches!(cause, Cause::Switchover | Cause::Failover | Cause::Undo);
        let mut tried = self.durable(h).tried.clone();
        tried.insert(self.me.clone());
        let allowed = if moving { Ok(()) } else { self.failover_allowed(h) };
        if !moving {
            // What is not the same there is withheld; by an operator's word it may be moved all the same.
            let spec = &self.local(h).hierarchy.spec;
            let others = spec.nodes.iter().filter_map(|node| Some((node, self.peer_index(node)?)));
            let differ = others.filter(|(_, peer)| self.kits_differ(*peer, h).is_some());
            let differ: Vec<_> = differ.map(|(node, _)| node.clone()).collect();
            tried.extend(differ);
        }
        match allowed.and_then(|()| self.next_candidate(h, &tried)) {
            Ok(to) => {
                let cause = if moving { Cause::Undo } else { Cause::Failover };
                let text = alloc::format!("{why}: it moves to {to}");
                self.event_of(EventSeverity::Warning, h, None, What::Learned { text });
                self.intend(h, Intent::Leave(cause, Then::PassOn), Some(tried));
                self.run_plan(h, Goal::OutOfService, cause);
            }
            Err(stands_in_the_way) => {
                let local = self.local_mut(h);
                if local.stranded.as_ref() != Some(&stands_in_the_way) {
                    local.stranded = Some(stands_in_the_way);
                    self.mark_all(h);
                }
            }
        }
    }

    fn failover_allowed(&self, h: HierarchyIndex) -> Result<(), String> {
        let spec = &self.local(h).hierarchy.spec;
        if spec.block_failover {
            return Err("failover is blocked for this hierarchy (block-failover)".into());
        }
        if self.durable(h).maintenance.on {
            return Err("it is in maintenance".into());
        }
        self.failovers_exhausted(h).map_or(Ok(()), Err)
    }

    /// Why it does not fail over once more (O20).
    pub(super) fn failovers_exhausted(&self, h: HierarchyIndex) -> Option<String> {
        let spec = &self.local(h).hierarchy.spec;
        let failovers = self.durable(h).failovers.iter();
        let recent = failovers.filter(|at| self.now.unix.distance(**at) < spec.failovers_window).count();
        (recent >= spec.failovers_max as usize).then(|| {
            alloc::format!(
                "it has failed over {recent} times, and the limit is {} (failover-limit)",
                spec.failover_limit()
            )
        })
    }

    /// Something failed and could not move: it does as soon as it can.
    fn reconsider_failover(&mut self, h: HierarchyIndex) {
        if self.local(h).stranded.is_none() {
            return;
        }
        match self.first_hopeless(h) {
            Some(r) => {
                let why = alloc::format!("{} is failed", self.tag(h, r));
                self.consider_failover(h, &why);
            }
            None => self.local_mut(h).stranded = None,
        }
    }

    /// A resource that is wanted, should be in service here, and is past all local help.
    pub(super) fn first_hopeless(&self, h: HierarchyIndex) -> Option<ResourceIndex> {
        if !self.is_owner(h) || !matches!(self.durable(h).intent, Intent::Serve(_)) {
            return None;
        }
        self.local(h).hierarchy.resources().find(|r| self.is_hopeless(h, *r))
    }

    fn is_not_restored(&self, h: HierarchyIndex, r: ResourceIndex) -> bool {
        let durable = self.durable_resource(h, r);
        durable.presence != Presence::In && durable.failure.is_some()
    }

    /// Past all local help: not brought in service after all attempts, or not repaired.
    pub(super) fn is_hopeless(&self, h: HierarchyIndex, r: ResourceIndex) -> bool {
        let not_restored = self.is_not_restored(h, r) && self.resource(h, r).step.is_none();
        let not_repaired = matches!(self.resource(h, r).ladder.stage(), Stage::Exhausted(_));
        not_restored || not_repaired
    }
}
