//! Why a resource is in its state, and what comes next. Decides nothing.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Node;
use super::timers::{HierarchyIndex, Timer};
use crate::hierarchy::ResourceIndex;
use crate::names::Tag;
use crate::plan::{Plan, Presence};
use crate::state::Intent;
use crate::status::Explanation;

impl Node {
    /// Explains a resource's state on this node; none when there is no such resource here.
    #[must_use]
    pub fn explain(&self, tag: &Tag) -> Option<Explanation> {
        let (h, r) = self.by_tag.get(tag).copied().filter(|(h, _)| self.local(*h).member)?;
        Some(Explanation {
            tag: tag.clone(),
            hierarchy: self.name(h).clone(),
            node: self.me.clone(),
            view: self.resource(h, r).view.clone(),
            because: self.because(h, r),
            next: self.comes_next(h, r),
        })
    }

    fn because(&self, h: HierarchyIndex, r: ResourceIndex) -> Vec<String> {
        let mut because = Vec::new();
        let local = self.local(h);
        let durable = self.durable_resource(h, r);
        because.push(alloc::format!("{} is {}", self.name(h), self.ownership_in_words(h)));
        match &self.durable(h).intent {
            Intent::Serve(cause) => {
                because.push(alloc::format!("this node has it in service, or sets out to ({cause})"))
            }
            Intent::Leave(cause, _) => because.push(alloc::format!("this node takes it out of service ({cause})")),
            Intent::Halt(reason) => because.push(alloc::format!("this node waits for the operator: {reason}")),
            Intent::Rest => {}
        }
        if self.is_owner(h) && !local.proven {
            because.extend(
                self.unproven_because(h).into_iter().map(|why| alloc::format!("no proof of ownership (O3): {why}")),
            );
        }
        because.push(
            match durable.presence {
                Presence::In => "the journal says it is in service here",
                Presence::Out => "the journal says nothing of it is here",
                Presence::Unknown => "the journal says that something of it may be here",
            }
            .to_string(),
        );
        if let Some(operation) = &durable.operation {
            because.push(alloc::format!(
                "{} {}, attempt {} ({}), {}",
                operation.kind,
                operation.id,
                operation.attempt,
                operation.cause,
                if operation.running { "is going on" } else { "ended, and nobody knows how" }
            ));
        }
        if let Some(failure) = &durable.failure {
            because.push(alloc::format!("the last {} failed: {}", failure.operation, failure.why));
        }
        if let Some(report) = &self.resource(h, r).report {
            let which = if self.resource(h, r).ladder.blind().is_some() { "check that could tell" } else { "check" };
            because.push(alloc::format!("the last {which} said: {} ({})", report.summary, report.code));
        }
        let spec = local.hierarchy.resource(r);
        let recent = self.recent_recoveries(h, r);
        if recent > 0 {
            because.push(alloc::format!(
                "local recoveries in the last {}: {recent} of {}",
                spec.recovery.window,
                spec.recovery.attempts
            ));
        }
        if let Some(stranded) = &local.stranded {
            because.push(alloc::format!("it does not fail over: {stranded}"));
        }
        for child in local.hierarchy.children(r) {
            because.push(alloc::format!(
                "it depends on {}: {}",
                local.hierarchy.tag(*child),
                self.resource(h, *child).view
            ));
        }
        because
    }

    fn comes_next(&self, h: HierarchyIndex, r: ResourceIndex) -> Vec<String> {
        let mut next = Vec::new();
        let local = self.local(h);
        let resource = self.resource(h, r);
        if let Some(running) = &local.running {
            let plan: &Plan = running.sequence.plan();
            next.extend(
                plan.steps
                    .iter()
                    .filter(|step| step.resource == r)
                    .map(|step| alloc::format!("step: {}", plan.explain(&local.hierarchy, step))),
            );
        }
        if let Some(call) = resource.call.and_then(|call| self.calls.get(&call)) {
            next.push(alloc::format!("a call is going on since {} ms", self.now.monotonic.since(call.began).0));
        }
        if let Some(at) = self.timers.get(Timer::Retry { hierarchy: h, resource: r }) {
            next.push(alloc::format!("the operation is tried again in {} ms", at.since(self.now.monotonic).0));
        }
        if let Some(at) = self.timers.get(Timer::Check { hierarchy: h, resource: r })
            && self.durable_resource(h, r).presence != Presence::Unknown
        {
            next.push(alloc::format!("the next check is in {} ms", at.since(self.now.monotonic).0));
        }
        let spec = local.hierarchy.resource(r);
        if let Some(problem) = &resource.unusable {
            next.push(alloc::format!("nothing can be done with it here until this is corrected: {problem}"));
        }
        if !self.is_owner(h) || !matches!(self.durable(h).intent, Intent::Serve(_)) {
            return next;
        }
        if let Some(at) = self.timers.get(Timer::Again { hierarchy: h }).filter(|_| self.is_hopeless(h, r)) {
            next.push(alloc::format!("it is tried again in {}", at.since(self.now.monotonic)));
        }
        if self.is_hopeless(h, r) {
            next.push(alloc::format!(
                "failover, as soon as it is allowed and a node is ready; or correct what is wrong, then: mainstay in-service {}",
                self.name(h)
            ));
        } else {
            next.push(alloc::format!(
                "if checks are bad: {} tolerated, then local recovery at most {} times in {}, then {}",
                spec.recovery.tolerate,
                spec.recovery.attempts,
                spec.recovery.window,
                if local.hierarchy.spec.block_failover {
                    "an alarm (block-failover)"
                } else {
                    "failover to the next node that is ready"
                }
            ));
        }
        next
    }
}
