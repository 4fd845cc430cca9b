//! A plan being carried out: which steps may start now, and what is left when some have failed.
//!
//! Decides only what the plan's order allows. It starts nothing and knows no time.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::plan::{Plan, Step};

/// Steps of one plan that run at the same time, at the most. A hierarchy of thousands must not take every
/// slot there is for kit calls, which other hierarchies need too.
pub const STEPS_AT_ONCE_MAX: usize = 64;

/// A plan with what has become of its steps.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    plan: Plan,
    /// How many steps have yet to succeed before each.
    missing: Vec<usize>,
    /// Which steps wait for each.
    waiting: Vec<Vec<usize>>,
    ready: VecDeque<usize>,
    running: usize,
    done: usize,
    failed: usize,
}

impl Sequence {
    /// Nothing has been done yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let missing: Vec<usize> = plan.steps.iter().map(|step| step.after.len()).collect();
        let mut waiting = alloc::vec![Vec::new(); plan.steps.len()];
        for (number, step) in plan.steps.iter().enumerate() {
            for before in &step.after {
                waiting[*before].push(number);
            }
        }
        let ready = (0..plan.steps.len()).filter(|number| missing[*number] == 0).collect();
        Self { plan, missing, waiting, ready, running: 0, done: 0, failed: 0 }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A step that may start now. From here on it counts as running.
    pub fn start_next(&mut self) -> Option<(usize, Step)> {
        if self.running >= STEPS_AT_ONCE_MAX {
            return None;
        }
        let number = self.ready.pop_front()?;
        self.running += 1;
        Some((number, self.plan.steps[number].clone()))
    }

    /// A running step has succeeded.
    pub fn succeeded(&mut self, number: usize) {
        self.running -= 1;
        self.done += 1;
        for waiting in core::mem::take(&mut self.waiting[number]) {
            self.missing[waiting] -= 1;
            if self.missing[waiting] == 0 {
                self.ready.push_back(waiting);
            }
        }
    }

    /// A running step has failed. What waits for it will not run; what does not goes on.
    pub fn failed(&mut self, _number: usize) {
        self.running -= 1;
        self.failed += 1;
    }

    /// Whether nothing runs and nothing more can.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.running == 0 && self.ready.is_empty()
    }

    /// Whether every step has succeeded.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done == self.plan.steps.len()
    }

    /// How many steps have succeeded, of how many.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        (self.done, self.plan.steps.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hierarchy::tests::hierarchy;
    use crate::plan::{Goal, Local, Presence};
    use std::string::String;

    fn started(sequence: &mut Sequence, lines: &[&str]) -> Vec<(usize, String)> {
        let hierarchy = hierarchy(lines);
        core::iter::from_fn(|| sequence.start_next())
            .map(|(number, step)| (number, hierarchy.tag(step.resource).as_str().into()))
            .collect()
    }

    fn restore(lines: &[&str]) -> Sequence {
        let local = |_| Local { presence: Presence::Out, wanted: true };
        Sequence::new(Plan::new(&hierarchy(lines), local, &Goal::InService))
    }

    #[test]
    fn independent_branches_run_together_and_a_failure_stops_only_what_waits_for_it() {
        let lines = ["app: a b", "a:", "b:", "other: b"];
        let mut sequence = restore(&lines);
        let first = started(&mut sequence, &lines);
        assert_eq!(first.iter().map(|(_, tag)| tag.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        sequence.failed(first[0].0);
        assert!(!sequence.is_settled());
        sequence.succeeded(first[1].0);
        let next = started(&mut sequence, &lines);
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].1, "other");
        sequence.succeeded(next[0].0);
        assert!(sequence.is_settled() && !sequence.is_complete());
        assert_eq!(sequence.progress(), (2, 4));
    }

    #[test]
    fn not_everything_starts_at_once() {
        let lines: Vec<String> = (0..STEPS_AT_ONCE_MAX + 1).map(|index| std::format!("r{index}:")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut sequence = restore(&lines);
        let first = started(&mut sequence, &lines);
        assert_eq!(first.len(), STEPS_AT_ONCE_MAX);
        sequence.succeeded(first[0].0);
        assert_eq!(started(&mut sequence, &lines).len(), 1);
    }

    #[test]
    fn an_empty_plan_is_complete() {
        let sequence = Sequence::new(Plan::default());
        assert!(sequence.is_settled() && sequence.is_complete());
    }
}
