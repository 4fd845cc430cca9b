//! Planning: from a hierarchy and what is known of its resources to the steps that bring it in or take it out of service.
//!
//! Three shapes, each extreme in its own way, and three sizes, from which the growth comes. What the daemon does with a
//! plan besides (a reason in words for every step, and the sequence that is carried out) is measured apart, and so is
//! reading the config.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mainstay_core::hierarchy::Hierarchy;
use mainstay_core::plan::{Goal as PlanGoal, Local, Plan, Presence};
use mainstay_core::sequence::Sequence;
use mainstay_core::spec::Spec;

use crate::effort::Effort;
use crate::sample::Samples;
use crate::summary::{Goal, Report, Row};
use crate::trouble::Trouble;

/// How long a plan may take, in ms.
const PLAN_MS: f64 = 20.0;
/// Time grows with the number of resources to this power, at the most: 1 is linear, 2 quadratic. A little more than 1,
/// because a hundred times as many resources do not fit into the processor's caches any more.
const POWER_MAX: f64 = 1.25;
/// On how many others a resource depends, in the shape that is mixed.
const MIXED_CHILDREN_MAX: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Each depends on the one before it.
    Deep,
    /// One depends on all others.
    Wide,
    /// Each depends on up to three others.
    Mixed,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Deep => "deep",
            Self::Wide => "wide",
            Self::Mixed => "mixed",
        }
    }

    /// What the resource of this number depends on: resources with lower numbers.
    fn children(self, number: u64, count: u64, random: &mut Random) -> Vec<u64> {
        match self {
            Self::Deep => number.checked_sub(1).into_iter().collect(),
            Self::Wide if number + 1 == count => (0..number).collect(),
            Self::Wide => Vec::new(),
            Self::Mixed if number == 0 => Vec::new(),
            Self::Mixed => {
                let wanted = random.below(MIXED_CHILDREN_MAX + 1);
                let mut children: Vec<u64> = (0..wanted).map(|_| random.below(number)).collect();
                children.sort_unstable();
                children.dedup();
                children
            }
        }
    }
}

/// The same numbers in every run (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// What was measured of one shape in one size, in ms.
struct Times {
    read: Samples,
    restores: Samples,
    removes: Samples,
    whole: Samples,
}

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let [small, middle, large] = effort.pick([10, 30, 100], [1_000, 10_000, 30_000], [1_000, 10_000, 100_000]);
    let mut report = Report::default();
    for shape in [Shape::Deep, Shape::Wide, Shape::Mixed] {
        let name = shape.name();
        let [small_times, times, large_times] = [small, middle, large].map(|count| measure(shape, count, effort));
        let (small_times, times, large_times) = (small_times?, times?, large_times?);
        let power =
            |of: fn(&Times) -> &Samples| power(of(&large_times).median() / of(&small_times).median(), large, small);
        report.rows.extend([
            Row::new(format!("plan-{name}-in-service"), times.restores.median(), "ms").goal(Goal::Below(PLAN_MS)),
            Row::new(format!("plan-{name}-out-of-service"), times.removes.median(), "ms").goal(Goal::Below(PLAN_MS)),
            Row::new(format!("plan-{name}-with-reasons"), times.whole.median(), "ms").goal(Goal::Below(PLAN_MS)),
            Row::new(format!("plan-{name}-growth"), power(|times| &times.restores), "power")
                .goal(Goal::AtMost(POWER_MAX)),
            Row::new(format!("plan-{name}-read-config"), times.read.median(), "ms"),
            Row::new(format!("plan-{name}-read-config-growth"), power(|times| &times.read), "power"),
        ]);
        for (count, times) in [(small, &small_times), (middle, &times), (large, &large_times)] {
            report.notes.push(format!("{name}, {count} resources, in service, ms: {}", times.restores));
        }
        report.notes.push(format!("{name}, {middle} resources, out of service, ms: {}", times.removes));
        report.notes.push(format!("{name}, {middle} resources, with reasons and sequence, ms: {}", times.whole));
        report.notes.push(format!("{name}, {middle} resources, reading the config, ms: {}", times.read));
    }
    Ok(report)
}

/// To which power of the size something grows that is `factor` times as much with `large` as with `small`.
fn power(factor: f64, large: u64, small: u64) -> f64 {
    factor.ln() / (large as f64 / small as f64).ln()
}

fn measure(shape: Shape, count: u64, effort: Effort) -> Result<Times, Trouble> {
    // So many that each size takes about as long.
    let resources_max: u64 = effort.pick(1, 200_000, 2_000_000);
    let plans = (resources_max / count).clamp(effort.pick(1, 5, 15), 300);
    let text = config(shape, count);
    let mut times =
        Times { read: Samples::new(), restores: Samples::new(), removes: Samples::new(), whole: Samples::new() };
    let hierarchy = read(&text, &mut times.read)?;
    for _ in 0..plans / 10 {
        read(&text, &mut times.read)?;
    }
    for _ in 0..plans {
        times.restores.push_ms(plan(&hierarchy, Presence::Out, &PlanGoal::InService, count)?);
        times.removes.push_ms(plan(&hierarchy, Presence::In, &PlanGoal::OutOfService, count)?);
        times.whole.push_ms(plan_with_reasons(&hierarchy));
    }
    Ok(times)
}

fn config(shape: Shape, count: u64) -> String {
    let mut random = Random(1);
    let mut out = "cluster = \"bench\"\nkits = \"kits\"\n[node.n]\n[hierarchy.h]\nnodes = [\"n\"]\n".to_owned();
    for number in 0..count {
        let children: Vec<String> =
            shape.children(number, count, &mut random).iter().map(|child| format!("\"r{child}\"")).collect();
        // Writing to a String cannot fail.
        let _ =
            writeln!(out, "[hierarchy.h.resource.r{number}]\nkit = \"null\"\ndepends-on = [{}]", children.join(", "));
    }
    out
}

fn read(text: &str, times: &mut Samples) -> Result<Hierarchy, Trouble> {
    let began = Instant::now();
    let (spec, diagnostics) = Spec::read("bench", text);
    let Some(mut spec) = spec else { return Err(Trouble::Config(diagnostics.into_sorted())) };
    let hierarchy = spec.hierarchies.pop_first().map(|(name, spec)| Hierarchy::new(name, spec));
    times.push_ms(began.elapsed());
    hierarchy.ok_or_else(|| Trouble::Unexpected("reading a config", "it has no hierarchy".into()))
}

fn plan(hierarchy: &Hierarchy, presence: Presence, goal: &PlanGoal, steps: u64) -> Result<Duration, Trouble> {
    let began = Instant::now();
    let plan = Plan::new(hierarchy, |_| Local { presence, wanted: true }, goal);
    let took = began.elapsed();
    if plan.steps.len() as u64 == steps {
        return Ok(took);
    }
    Err(Trouble::Unexpected("planning", format!("it gives {} steps for {steps} resources", plan.steps.len())))
}

/// As `run_plan` of the core has it.
fn plan_with_reasons(hierarchy: &Hierarchy) -> Duration {
    let began = Instant::now();
    let plan = Plan::new(hierarchy, |_| Local { presence: Presence::Out, wanted: true }, &PlanGoal::InService);
    let reasons: Vec<String> = plan.steps.iter().map(|step| plan.explain(hierarchy, step).to_string()).collect();
    let sequence = Sequence::new(plan);
    black_box((reasons, sequence));
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_planned() {
        let report = run(Effort::Tiny).unwrap();
        assert_eq!(report.rows.len(), 18);
        assert!(report.rows.iter().all(|row| row.value.is_some()), "{:#?}", report.rows);
    }

    #[test]
    fn shapes_are_what_they_are_called() {
        let read = |shape| {
            let hierarchy = read(&config(shape, 100), &mut Samples::new()).unwrap();
            let children: Vec<usize> =
                hierarchy.resources().map(|resource| hierarchy.children(resource).len()).collect();
            (children.iter().sum::<usize>(), children.into_iter().max().unwrap())
        };
        assert_eq!(read(Shape::Deep), (99, 1));
        assert_eq!(read(Shape::Wide), (99, 99));
        let (edges, most) = read(Shape::Mixed);
        assert!(most == 3 && (100..200).contains(&edges), "{edges} {most}");
    }

    #[test]
    fn linear_is_a_power_of_one() {
        assert!((power(100.0, 100_000, 1_000) - 1.0).abs() < 1e-9);
        assert!((power(10_000.0, 100_000, 1_000) - 2.0).abs() < 1e-9);
    }
}
