//! From a hierarchy, what is in service here, and what is wanted, to the steps that lead there.
//!
//! Decides order (O17: children are restored first, parents removed first, independent branches in parallel)
//! and nothing else: whether this node may act is decided before a plan is made, and what becomes of a step
//! that fails is decided by who runs it. The same inputs give the same plan; what-if questions are answered by
//! the same code.

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::hierarchy::{Hierarchy, ResourceIndex};

/// What this node knows of a resource's presence here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// Not here, nothing left of it.
    #[default]
    Out,
    /// In service here.
    In,
    /// Not known, or half: an operation ended badly, or the machine was started anew. It has to be assumed
    /// that something of it is here.
    Unknown,
}

/// What a plan leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Everything that is wanted is in service here.
    InService,
    /// Nothing is here.
    OutOfService,
    /// These are not here: some resources, with all that depends on them.
    Without(Vec<ResourceIndex>),
    /// What depends on this resource was removed and restored: it came back as another.
    DependentsRestarted(ResourceIndex),
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// Bring in service.
    Restore,
    /// Take out of service.
    Remove,
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restore => "restore",
            Self::Remove => "remove",
        })
    }
}

/// Why a step is in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is wanted, and not here.
    NotInService,
    /// It is wanted, and whether it is here is not known; restoring what is in service is harmless.
    PresenceUnknown,
    /// It is not to be here, and is.
    InService,
    /// It is not to be here, and may be.
    MayBeInService,
    /// It depends on what came back as another.
    DependsOnRestarted(ResourceIndex),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of which resource.
    pub resource: ResourceIndex,
    /// What to do.
    pub kind: StepKind,
    /// Why it is there.
    pub why: Why,
    /// The steps that have to succeed before it, by their place in the plan.
    pub after: Vec<usize>,
}

/// Steps in an order in which they could be done one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// What is known of a resource when a plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Is it here?
    pub presence: Presence,
    /// Does the operator want it in service?
    pub wanted: bool,
}

impl Plan {
    /// The steps from what is to `goal`.
    #[must_use]
    pub fn new(hierarchy: &Hierarchy, local: impl Fn(ResourceIndex) -> Local, goal: &Goal) -> Self {
        let mut builder = Builder { hierarchy, plan: Self::default(), step_of: alloc::vec![None; hierarchy.len()] };
        match goal {
            Goal::InService => builder.restore_all(&local, |resource| match local(resource) {
                Local { wanted: false, .. } | Local { presence: Presence::In, .. } => None,
                Local { presence: Presence::Out, .. } => Some(Why::NotInService),
                Local { presence: Presence::Unknown, .. } => Some(Why::PresenceUnknown),
            }),
            Goal::OutOfService => builder.remove_all(|resource| is_here(local(resource).presence)),
            Goal::Without(resources) => {
                let mut within = alloc::vec![false; hierarchy.len()];
                for resource in resources.iter().flat_map(|resource| hierarchy.with_ancestors(*resource)) {
                    within[resource.at()] = true;
                }
                builder.remove_all(|resource| is_here(local(resource).presence).filter(|_| within[resource.at()]));
            }
            Goal::DependentsRestarted(restarted) => {
                let mut dependents = alloc::vec![false; hierarchy.len()];
                for resource in hierarchy.with_ancestors(*restarted) {
                    dependents[resource.at()] = resource != *restarted;
                }
                let why = Why::DependsOnRestarted(*restarted);
                builder.remove_all(|resource| {
                    let here = local(resource).presence != Presence::Out;
                    (dependents[resource.at()] && here).then_some(why)
                });
                builder.restore_all(&local, |resource| {
                    (dependents[resource.at()] && local(resource).wanted).then_some(why)
                });
            }
        }
        builder.plan
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// A step in words: what, and why, and why then.
    #[must_use]
    pub fn explain<'a>(&'a self, hierarchy: &'a Hierarchy, step: &'a Step) -> impl fmt::Display + 'a {
        Explained { plan: self, hierarchy, step }
    }
}

fn is_here(presence: Presence) -> Option<Why> {
    match presence {
        Presence::Out => None,
        Presence::In => Some(Why::InService),
        Presence::Unknown => Some(Why::MayBeInService),
    }
}

struct Builder<'a> {
    hierarchy: &'a Hierarchy,
    plan: Plan,
    /// The last step of each resource so far.
    step_of: Vec<Option<usize>>,
}

impl Builder<'_> {
    /// Nothing is restored over a child that is neither in service nor will be (O17).
    fn restore_all(&mut self, local: impl Fn(ResourceIndex) -> Local, why: impl Fn(ResourceIndex) -> Option<Why>) {
        for resource in self.hierarchy.children_first().iter().copied() {
            let serves = |child: &ResourceIndex| match self.step_of[child.at()] {
                Some(step) => self.plan.steps[step].kind == StepKind::Restore,
                None => local(*child).presence == Presence::In,
            };
            if !self.hierarchy.children(resource).iter().all(serves) {
                continue;
            }
            if let Some(why) = why(resource) {
                self.push(resource, StepKind::Restore, why, self.hierarchy.children(resource));
            }
        }
    }

    fn remove_all(&mut self, why: impl Fn(ResourceIndex) -> Option<Why>) {
        for resource in self.hierarchy.children_first().iter().rev().copied() {
            if let Some(why) = why(resource) {
                self.push(resource, StepKind::Remove, why, self.hierarchy.parents(resource));
            }
        }
    }

    /// After its own earlier step, and after those of the resources that come before it.
    fn push(&mut self, resource: ResourceIndex, kind: StepKind, why: Why, before: &[ResourceIndex]) {
        let own = self.step_of[resource.at()];
        let after = own.into_iter().chain(before.iter().filter_map(|other| self.step_of[other.at()])).collect();
        self.step_of[resource.at()] = Some(self.plan.steps.len());
        self.plan.steps.push(Step { resource, kind, why, after });
    }
}

struct Explained<'a> {
    plan: &'a Plan,
    hierarchy: &'a Hierarchy,
    step: &'a Step,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, hierarchy, step } = self;
        write!(f, "{} {}: ", step.kind, hierarchy.tag(step.resource))?;
        match step.why {
            Why::NotInService => f.write_str("it is wanted and not in service here")?,
            Why::PresenceUnknown => f.write_str("it is wanted, and whether it is in service here is not known")?,
            Why::InService => f.write_str("it is in service here and is not to be")?,
            Why::MayBeInService => f.write_str("something of it may be here, and nothing is to be")?,
            Why::DependsOnRestarted(on) => write!(f, "it depends on {}, which was restarted", hierarchy.tag(on))?,
        }
        let mut others =
            step.after.iter().map(|at| &plan.steps[*at]).filter(|other| other.resource != step.resource).peekable();
        if others.peek().is_some() {
            f.write_str("; after ")?;
            for (number, other) in others.enumerate() {
                if number > 0 {
                    f.write_str(", ")?;
                }
                f.write_str(hierarchy.tag(other.resource).as_str())?;
            }
            f.write_str(match step.kind {
                StepKind::Restore => ", which it depends on",
                StepKind::Remove => ", which depends on it",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hierarchy::tests::hierarchy;
    use std::string::{String, ToString};

    const LINES: [&str; 4] = ["app: name store", "name:", "store: disk", "disk:"];

    /// The steps of a plan from `here` (`"disk=in app=unknown -name"`; the rest is out) to `goal`, in words.
    fn check(here: &str, goal: &Goal, expected: &[&str]) {
        let hierarchy = hierarchy(&LINES);
        let mut local = alloc::vec![Local { presence: Presence::Out, wanted: true }; hierarchy.len()];
        for word in here.split_whitespace() {
            let find = |tag: &str| hierarchy.find(&tag.into()).unwrap().at();
            match word.split_once('=') {
                Some((tag, "in")) => local[find(tag)].presence = Presence::In,
                Some((tag, _)) => local[find(tag)].presence = Presence::Unknown,
                None => local[find(&word[1..])].wanted = false,
            }
        }
        let plan = Plan::new(&hierarchy, |resource| local[resource.at()], goal);
        let steps: Vec<String> = plan.steps.iter().map(|step| plan.explain(&hierarchy, step).to_string()).collect();
        assert_eq!(steps, expected);
    }

    fn index(tag: &str) -> ResourceIndex {
        hierarchy(&LINES).find(&tag.into()).unwrap()
    }

    #[test]
    fn children_are_restored_first() {
        check(
            "",
            &Goal::InService,
            &[
                "restore disk: it is wanted and not in service here",
                "restore name: it is wanted and not in service here",
                "restore store: it is wanted and not in service here; after disk, which it depends on",
                "restore app: it is wanted and not in service here; after name, store, which it depends on",
            ],
        );
    }

    #[test]
    fn what_is_in_service_or_not_wanted_is_left_alone() {
        check("disk=in name=in store=in -app", &Goal::InService, &[]);
        check(
            "disk=in name=unknown store=in app=in",
            &Goal::InService,
            &["restore name: it is wanted, and whether it is in service here is not known"],
        );
    }

    #[test]
    fn parents_are_removed_first() {
        check(
            "disk=in store=unknown app=in",
            &Goal::OutOfService,
            &[
                "remove app: it is in service here and is not to be",
                "remove store: something of it may be here, and nothing is to be; after app, which depends on it",
                "remove disk: it is in service here and is not to be; after store, which depends on it",
            ],
        );
    }

    #[test]
    fn what_depends_on_it_goes_with_it() {
        check(
            "disk=in store=in name=in app=in",
            &Goal::Without(alloc::vec![index("store")]),
            &[
                "remove app: it is in service here and is not to be",
                "remove store: it is in service here and is not to be; after app, which depends on it",
            ],
        );
    }

    #[test]
    fn dependents_of_a_restarted_resource_are_removed_and_restored() {
        check(
            "disk=in store=in name=in app=in",
            &Goal::DependentsRestarted(index("disk")),
            &[
                "remove app: it depends on disk, which was restarted",
                "remove store: it depends on disk, which was restarted; after app, which depends on it",
                "restore store: it depends on disk, which was restarted",
                "restore app: it depends on disk, which was restarted; after store, which it depends on",
            ],
        );
    }
}
