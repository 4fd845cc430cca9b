//! Runs a scenario: calm, trouble, time to settle, calm again. What is judged meanwhile is the checkers'.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mainstay_core::claim::ClaimId;
use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_core::node::{Node, Request};
use mainstay_core::time::{Millis, Monotonic};

use crate::checks::{Trouble, rest};
use crate::coverage::Coverage;
use crate::faults::{self, Aside};
use crate::kits::App;
use crate::random::Random;
use crate::scenario::{HIERARCHIES, Scenario};
use crate::world::{Line, Manners, World};

/// After the last fault everything has to settle within this: longer than dead times, leases, retries and timeouts together.
const SETTLE: Millis = Millis::from_mins(4);
/// Then nothing may move for so long: longer than every interval in which something is done again.
const CALM: Millis = Millis::from_mins(6);
/// An operator who looks after the cluster looks this often.
const ROUND: Millis = Millis::from_secs(25);
/// A machine that was fenced comes back after this.
const RETURNS: Millis = Millis::from_secs(20);
/// A health check may take so long.
const HEALTH: Millis = Millis::from_secs(8);
/// A fault that flaps does not do so more often than this.
const FLAPS_MAX: u64 = 200;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Which rules were broken, and how.
    pub broken: Vec<String>,
    /// What has occurred.
    pub coverage: Coverage,
    /// How much time has passed in the world.
    pub simulated: Millis,
    /// What happened, unless the run was quiet.
    pub timeline: Vec<Line>,
}

impl Outcome {
    /// The first rule that was broken, by its name: what two failures have to have in common to be one.
    #[must_use]
    pub fn rule(&self) -> Option<&str> {
        self.broken.first().and_then(|text| text.split(':').next())
    }

    /// For people: when, on which node, what.
    #[must_use]
    pub fn told(&self) -> String {
        let mut out = String::new();
        for line in &self.timeline {
            let text = line.text.replace('\n', "\n               ");
            let _ = writeln!(out, "{:>6}.{:03} {} {text}", line.at.0 / 1000, line.at.0 % 1000, line.node);
        }
        out
    }
}

/// Runs it. A panic of the core is a rule that was broken.
#[must_use]
pub fn run(scenario: &Scenario, quiet: bool) -> Outcome {
    run_examined(scenario, quiet, None)
}

/// The same, while somebody asks every node so often whether the nodes are fit.
#[must_use]
pub fn run_examined(scenario: &Scenario, quiet: bool, every: Option<Millis>) -> Outcome {
    let (config, quality) = (scenario.config(), scenario.lan.quality());
    let world = catch_unwind(|| World::with(&config, scenario.seed, Manners::Real, quality, scenario.granted_longer));
    let mut world = match world {
        Ok(world) => world,
        Err(panic) => return Outcome { broken: vec![words_of(panic.as_ref())], ..Outcome::default() },
    };
    world.quiet = quiet;
    world.examined_every = every;
    world.coverage.count_named(format!("hierarchies: {}", scenario.hierarchies.len()));
    let ran = catch_unwind(AssertUnwindSafe(|| live(&mut world, scenario)));
    let mut broken = core::mem::take(&mut world.checks.broken);
    match ran {
        Ok(Ok(())) => {}
        Ok(Err(why)) => broken.push(why),
        Err(panic) => broken.push(words_of(panic.as_ref())),
    }
    Outcome { broken, coverage: world.coverage, simulated: Millis(world_time(scenario)), timeline: world.timeline }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", said.unwrap_or_default())
}

fn world_time(scenario: &Scenario) -> u64 {
    scenario.trouble_ends().0 + SETTLE.0 + CALM.0
}

/// What is to be done, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    Ends(usize),
    Begins(usize),
    Round,
}

pub(crate) fn turns(scenario: &Scenario) -> BTreeSet<(Millis, Turn)> {
    let mut turns = BTreeSet::new();
    for (number, fault) in scenario.faults.iter().enumerate() {
        turns.insert((fault.at, Turn::Begins(number)));
        if fault.lasts.0 > 0 {
            turns.insert((Millis(fault.at.0 + fault.lasts.0), Turn::Ends(number)));
        }
        let every = fault.what.strip_prefix("flap ").and_then(|rest| Millis::parse(rest.rsplit(' ').next()?));
        if let Some(every) = every.filter(|every| every.0 > 0) {
            for count in (1..FLAPS_MAX).take_while(|count| (count + 1) * every.0 < fault.lasts.0) {
                let turn = if count % 2 == 1 { Turn::Ends(number) } else { Turn::Begins(number) };
                turns.insert((Millis(fault.at.0 + count * every.0), turn));
            }
        }
    }
    let end = scenario.trouble_ends();
    let mut round = ROUND;
    while round.0 <= end.0 + SETTLE.0 {
        turns.insert((round, Turn::Round));
        round.0 += ROUND.0;
    }
    turns
}

fn live(world: &mut World, scenario: &Scenario) -> Result<(), String> {
    world.checks.nothing_is_wrong_yet();
    let mut random = Random::of(scenario.seed, 4);
    for name in scenario.node_names() {
        world.machine(&name).returns_after = Some(RETURNS);
        let pause = random.between(Millis(0), Millis(1500));
        world.start(&name);
        world.run(pause);
    }
    let mut aside = Aside::default();
    let mut begun = BTreeSet::new();
    let mut answered = BTreeSet::new();
    let end = Monotonic(scenario.trouble_ends().0);
    let mut rested = scenario.faults.is_empty();
    for (at, turn) in turns(scenario) {
        let at = Monotonic(at.0);
        if at > end && !rested {
            run_until(world, end);
            all_is_mended(world);
            rested = true;
        }
        run_until(world, at);
        if !world.checks.broken.is_empty() {
            return Ok(());
        }
        match turn {
            Turn::Begins(number) | Turn::Ends(number) => {
                let begins = matches!(turn, Turn::Begins(_));
                // A flap ends what has begun, and no more.
                if begins != begun.insert(number) {
                    continue;
                }
                if !begins {
                    begun.remove(&number);
                }
                fault(world, &mut aside, scenario, number, begins)?;
                if scenario.faults[number].lasts.0 == 0 {
                    world.checks.trouble_over(number as u64, world.now());
                }
            }
            Turn::Round => {
                look_after(world, scenario, &mut answered);
                if rested {
                    upkeep_is_over(world, scenario);
                }
            }
        }
    }
    if !rested {
        all_is_mended(world);
    }
    run_until(world, end + SETTLE);
    if !world.checks.broken.is_empty() {
        return Ok(());
    }
    rest::at_rest(world)?;
    stays_calm(world)
}

fn run_until(world: &mut World, at: Monotonic) {
    while let Some(every) = world.examined_every.filter(|every| world.now() + *every < at) {
        world.run(every);
        for name in world.machines.keys().cloned().collect::<Vec<_>>() {
            world.examine(&name, None, HEALTH);
        }
    }
    if at > world.now() {
        world.run(at.since(world.now()));
    }
}

fn fault(world: &mut World, aside: &mut Aside, scenario: &Scenario, number: usize, begins: bool) -> Result<(), String> {
    let what = &scenario.faults[number].what;
    let (nodes, arbiter) = faults::about(what);
    if begins {
        let word = what.split(' ').next().unwrap_or_default();
        let detail = if matches!(word, "ask" | "kit" | "app" | "fence") {
            what.split(' ').skip(2).take(2).collect()
        } else {
            Vec::new()
        };
        let detail: Vec<&str> = detail.into_iter().filter(|word| !is_tag(word)).collect();
        let detail = detail.first().map_or(String::new(), |detail| format!(" {detail}"));
        world.coverage.count_named(format!("fault: {word}{detail}"));
        let trouble = Trouble { from: world.now(), until: None, nodes: nodes.clone(), arbiter };
        world.checks.trouble(number as u64, trouble);
    } else {
        world.checks.trouble_over(number as u64, world.now());
    }
    let shown = nodes.first().cloned().unwrap_or_else(|| NodeName::from("-"));
    world.note(&shown, &format!("** {what}{}", if begins { "" } else { " (over)" }));
    faults::turn(world, aside, number as u64, what, begins)
}

fn is_tag(word: &str) -> bool {
    word.strip_prefix(HIERARCHIES.map(|(_, letter)| letter)).is_some_and(|number| number.parse::<u8>().is_ok())
}

/// An operator who looks after the cluster: says that an owner is off when every other machine is, and only once.
pub(crate) fn look_after(
    world: &mut World,
    scenario: &Scenario,
    answered: &mut BTreeSet<(Option<HierarchyName>, ClaimId)>,
) {
    for name in scenario.node_names() {
        let alone = world.machines.iter().all(|(other, machine)| *other == name || machine.off);
        if !alone {
            continue;
        }
        let Some(status) = world.machines[&name].node.as_ref().map(Node::status) else { continue };
        for alarm in status.alarms {
            let first = |claim: &ClaimId| answered.insert((alarm.hierarchy.clone(), claim.clone()));
            if let Some(answers) = alarm.confirms.filter(first) {
                world.ask(&name, Request::Confirm { alarm: alarm.id, answers });
            }
        }
    }
}

/// Nobody works on the cluster any more, and says so until everybody has heard.
fn upkeep_is_over(world: &mut World, scenario: &Scenario) {
    let had = |word: &str| scenario.faults.iter().any(|fault| fault.what.starts_with(word));
    let Some(on) = world.machines.keys().next().cloned() else { return };
    if had("maintenance") {
        for hierarchy in world.spec().hierarchies.keys().cloned().collect::<Vec<_>>() {
            world.ask(&on, Request::Maintenance { hierarchy, on: false });
        }
    }
    if had("drain") {
        for node in scenario.node_names() {
            world.ask(&on, Request::Drain { node, on: false });
        }
    }
}

/// Everything that can be put right from outside is.
pub(crate) fn all_is_mended(world: &mut World) {
    let names: Vec<NodeName> = world.machines.keys().cloned().collect();
    world.blocked.clear();
    for name in &names {
        world.suspend(name, false);
        world.pause(name, false);
        world.unstick_disk(name);
        let machine = world.machine(name);
        machine.disk_takes = Millis(1);
        for app in machine.apps.values_mut() {
            if app.by_hand {
                (app.running, app.by_hand) = (false, false);
            }
            *app = App { running: app.running, crashed: app.crashed, ..App::default() };
        }
        world.set_unusable(name, std::collections::BTreeMap::new());
        world.set_guardian(name, true);
        world.set_older_kit(name, false);
        world.set_older_config(name, false);
        if world.machines[name].node.is_none() {
            world.start(name);
        }
    }
}

/// What serves goes on to, and nothing is done that nobody asked for.
fn stays_calm(world: &mut World) -> Result<(), String> {
    let well = rest::all_is_well(world);
    let done = |world: &World| {
        [
            "claim: failover",
            "claim: switchover",
            "claim: switchback",
            "claim: start",
            "claim: undo",
            "restore: succeeded",
            "remove: succeeded",
            "recover: succeeded",
        ]
        .into_iter()
        .map(|what| (what, world.coverage.times(what)))
        .collect::<Vec<_>>()
    };
    let before = done(world);
    world.run(CALM);
    if well && done(world) != before {
        return Err(format!("calm: all was well, and then: {before:?} became {:?}", done(world)));
    }
    rest::at_rest(world).map_err(|why| why.replacen("rest", "calm", 1))
}
