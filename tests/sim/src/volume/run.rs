//! A run: trouble at its times, then everything is mended and has to settle; then both copies are the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mainstay_volume_core::io::OperatorRequest;
use mainstay_volume_core::label::DurableState;
use mainstay_volume_core::log::Header;
use mainstay_volume_core::status::LinkState;

use super::world::{Pace, Setting, World};
use crate::random::Random;

/// Everything has to have settled so long after the last trouble, in ms.
const SETTLE: u64 = 60_000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A machine loses power.
    Power(usize),
    /// It has power again.
    PowerBack(usize),
    /// A process is killed.
    Kill(usize),
    /// It is started again.
    Start(usize),
    /// The link is cut; whether both sides notice.
    Cut(bool),
    /// It is whole.
    Mend,
    /// The comm paths are cut, or whole.
    Paths(bool),
    /// A machine does not reach the arbiter, or does.
    Away(usize, bool),
    /// A disk is this slow, in ms.
    Slow(usize, u64),
    /// A switchover.
    Move,
    /// An operator's request to whoever is the source.
    Operate(OperatorRequest),
    /// A machine's backing fails; it is replaced when the machine is mended.
    Break(usize),
    /// A target is not believed any more.
    Invalidate,
    /// The log of a machine that is off is lost, and comes back as it was in the beginning.
    OldLog(usize),
}

/// When what goes wrong: after so many steps of the world, or at a time in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Steps.
    Step(u64),
    /// Time.
    Ms(u64),
    /// So long after the trouble before.
    After(u64),
}

/// A world and its trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The world.
    pub setting: Setting,
    /// Its trouble, in order.
    pub trouble: Vec<(When, Trouble)>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was wrong, if anything.
    pub broken: Option<String>,
    /// What occurred.
    pub counts: std::collections::BTreeMap<String, u64>,
    /// Steps until it had settled.
    pub steps: u64,
    /// What happened.
    pub told: Vec<String>,
}

impl Case {
    /// The case that a seed makes.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut dice = Random::of(seed, 1);
        let arbiter = dice.chance(600);
        let is_async = dice.chance(200);
        let setting = Setting {
            seed,
            is_async,
            arbiter,
            depth: 1 + dice.below(6),
            requests: 4_000,
            begins: 0,
            rate: if dice.chance(250) { 2_000_000 } else { 0 },
            disk_ms: 1 + dice.below(6),
            hot: if dice.chance(500) { 5 } else { 64 },
            pace: Pace::QUICK,
        };
        let mut trouble = Vec::new();
        let mut at = dice.below(300);
        for _ in 0..2 + dice.below(10) {
            at += if dice.chance(400) { dice.below(30) } else { dice.below(900) };
            let m = dice.below(2) as usize;
            let lasts = if dice.chance(500) { dice.below(150) } else { dice.below(2_500) };
            let mut add = |from: u64, what: Trouble| trouble.push((When::Ms(from), what));
            match dice.below(20) {
                0..=3 => {
                    add(at, Trouble::Power(m));
                    add(at + lasts, Trouble::PowerBack(m));
                }
                4 => {
                    add(at, Trouble::Power(0));
                    add(at, Trouble::Power(1));
                    add(at + lasts, Trouble::PowerBack(m));
                    add(at + lasts + dice.below(1_000), Trouble::PowerBack(1 - m));
                }
                5..=6 => {
                    add(at, Trouble::Kill(m));
                    add(at + lasts, Trouble::Start(m));
                }
                7..=10 => {
                    add(at, Trouble::Cut(dice.chance(600)));
                    add(at + lasts, Trouble::Mend);
                }
                11..=12 => {
                    add(at, Trouble::Paths(false));
                    add(at + lasts * 2, Trouble::Paths(true));
                }
                13 => {
                    add(at, Trouble::Away(m, true));
                    add(at + lasts, Trouble::Away(m, false));
                }
                14 => {
                    add(at, Trouble::Slow(m, dice.below(600)));
                    add(at + lasts, Trouble::Slow(m, 0));
                }
                15..=16 => add(at, Trouble::Move),
                17 => {
                    add(at, Trouble::Operate(OperatorRequest::Pause));
                    add(at + lasts, Trouble::Operate(OperatorRequest::Resume));
                }
                18 if dice.chance(400) => {
                    add(at, Trouble::Power(m));
                    add(at + 1, Trouble::OldLog(m));
                    add(at + lasts, Trouble::PowerBack(m));
                }
                18 => add(at, Trouble::Operate(OperatorRequest::Verify)),
                _ => {
                    add(at, Trouble::Break(m));
                    add(at + 300 + lasts, Trouble::Kill(m));
                    add(at + 400 + lasts, Trouble::Start(m));
                }
            }
        }
        trouble.sort_by_key(|(when, _)| match when {
            When::Ms(ms) | When::Step(ms) | When::After(ms) => *ms,
        });
        Self { setting, trouble }
    }

    /// A small workload, and every point at which each of a few things may happen to it: from when both copies have all
    /// until the application has all its answers.
    #[must_use]
    pub fn every_point(seed: u64, arbiter: bool, is_async: bool) -> Vec<Self> {
        let (soon, later) = (When::After(60), When::After(1_300));
        let here = When::After(0);
        let ends: [&[(When, Trouble)]; 8] = [
            &[(here, Trouble::Power(0)), (later, Trouble::PowerBack(0))],
            &[(here, Trouble::Power(0)), (soon, Trouble::PowerBack(0))],
            &[(here, Trouble::Power(1)), (soon, Trouble::PowerBack(1))],
            &[
                (here, Trouble::Power(0)),
                (here, Trouble::Power(1)),
                (soon, Trouble::PowerBack(1)),
                (later, Trouble::PowerBack(0)),
            ],
            &[(here, Trouble::Kill(0)), (soon, Trouble::Start(0))],
            &[(here, Trouble::Cut(true)), (later, Trouble::Mend)],
            &[
                (here, Trouble::Cut(false)),
                (later, Trouble::Power(0)),
                (soon, Trouble::Mend),
                (later, Trouble::PowerBack(0)),
            ],
            &[(here, Trouble::Move)],
        ];
        let setting = Setting {
            seed,
            is_async,
            arbiter,
            depth: 3,
            requests: 14,
            begins: 150,
            rate: 0,
            disk_ms: 2,
            hot: 5,
            pace: Pace::QUICK,
        };
        every_end(&setting, &[], 20, &ends)
    }

    /// The same while the source goes on alone, with no path to its target, and while the target is brought up to date
    /// after that.
    #[must_use]
    pub fn every_point_alone(seed: u64, arbiter: bool) -> Vec<Self> {
        let (soon, later) = (When::After(60), When::After(1_300));
        let here = When::After(0);
        let before = [
            (When::Ms(130), Trouble::Paths(false)),
            (When::Ms(130), Trouble::Cut(true)),
            (When::After(220), Trouble::Mend),
        ];
        let ends: [&[(When, Trouble)]; 3] = [
            &[(here, Trouble::Power(0)), (later, Trouble::PowerBack(0))],
            &[
                (here, Trouble::Power(0)),
                (here, Trouble::Power(1)),
                (soon, Trouble::PowerBack(1)),
                (later, Trouble::PowerBack(0)),
            ],
            &[
                (here, Trouble::Power(1)),
                (here, Trouble::Cut(true)),
                (soon, Trouble::PowerBack(1)),
                (soon, Trouble::Power(0)),
                (soon, Trouble::Mend),
                (later, Trouble::PowerBack(0)),
            ],
        ];
        let setting = Setting {
            seed,
            is_async: false,
            arbiter,
            depth: 5,
            requests: 160,
            begins: 0,
            rate: 0,
            disk_ms: 2,
            hot: 64,
            pace: Pace::QUICK,
        };
        every_end(&setting, &before, 60, &ends)
    }

    /// Runs it; with `tell`, what happens is told.
    #[must_use]
    pub fn run(&self, tell: bool) -> Outcome {
        let caught = catch_unwind(AssertUnwindSafe(|| self.run_unguarded(tell)));
        caught.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Outcome { broken: Some(format!("panic: {}", text.unwrap_or_default())), ..Outcome::default() }
        })
    }

    fn run_unguarded(&self, tell: bool) -> Outcome {
        let mut world = World::new(self.setting.clone());
        world.told = tell.then(Vec::new);
        self.make_trouble(&mut world);
        settle(&mut world);
        Outcome { broken: world.broken, counts: world.counts, steps: world.steps, told: world.told.unwrap_or_default() }
    }

    /// Lets it happen; at which steps each was.
    fn make_trouble(&self, world: &mut World) -> Vec<u64> {
        let mut first_logs: [Option<Vec<u8>>; 2] = [None, None];
        let (mut last, mut made) = (0, Vec::new());
        for (when, trouble) in &self.trouble {
            let due = |world: &World| match when {
                When::Ms(ms) => world.now >= *ms,
                When::Step(step) => world.steps >= *step,
                When::After(ms) => world.now >= last + ms,
            };
            while world.broken.is_none() && !due(world) && world.step() {
                for (log, machine) in first_logs.iter_mut().zip(&world.machines) {
                    // A log from early on: what somebody restores from a backup.
                    if log.is_none() && world.now > 150 {
                        *log = Some(machine.log.bytes.clone());
                    }
                }
            }
            last = world.now;
            made.push(world.steps);
            make(world, *trouble, &first_logs);
        }
        made
    }

    /// The smallest case that fails in the same way, found by leaving out.
    #[must_use]
    pub fn shrink(&self, rule: &str) -> Self {
        let mut best = self.clone();
        let fails = |case: &Self| case.run(false).broken.is_some_and(|why| why.split(':').next() == Some(rule));
        let mut at = 0;
        while at < best.trouble.len() {
            let mut candidate = best.clone();
            candidate.trouble.remove(at);
            if fails(&candidate) { best = candidate } else { at += 1 }
        }
        best
    }
}

/// The trouble before, and then each of the ends at each step: from when both copies have all until the application has
/// all its answers, and some more.
fn every_end(setting: &Setting, before: &[(When, Trouble)], more: u64, ends: &[&[(When, Trouble)]]) -> Vec<Case> {
    let connected = |world: &World| (0..2).all(|m| world.link_state(m) == Some(LinkState::Connected));
    let mut world = World::new(setting.clone());
    while !(connected(&world) && world.now + 2 >= setting.begins) && world.step() {}
    let connected_at = world.steps;
    let plain = Case { setting: setting.clone(), trouble: before.to_vec() };
    let mut world = World::new(setting.clone());
    let made = plain.make_trouble(&mut world);
    while !world.is_quiet() && world.step() {}
    let from = made.first().copied().unwrap_or(connected_at);
    let mut cases = Vec::new();
    for step in from..world.steps + more {
        let earlier = made.iter().take_while(|made| **made <= step).count();
        let known = |range: std::ops::Range<usize>| {
            range.map(|number| (When::Step(made[number]), before[number].1)).collect::<Vec<_>>()
        };
        for end in ends {
            let at_once = end.iter().take_while(|(when, _)| *when == When::After(0)).count();
            let mut trouble = known(0..earlier);
            trouble.extend(end[..at_once].iter().map(|(_, what)| (When::Step(step), *what)));
            trouble.extend(known(earlier..before.len()));
            trouble.extend(&end[at_once..]);
            cases.push(Case { setting: setting.clone(), trouble });
        }
    }
    cases
}

fn make(world: &mut World, trouble: Trouble, first_logs: &[Option<Vec<u8>>; 2]) {
    world.tell(|| format!("trouble: {trouble:?}"));
    let name = format!("{trouble:?}");
    let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
    world.count(&format!("trouble {name}"));
    match trouble {
        Trouble::Power(m) => {
            if world.machines[m].power {
                world.end(m, true);
            }
            // An operator waits a little before he takes over.
            world.host.not_before = world.now + 200;
        }
        Trouble::PowerBack(m) => {
            world.machines[m].power = true;
            world.machines[m].broken = false;
            world.start(m);
        }
        Trouble::Kill(m) => {
            if world.machines[m].volume.is_some() {
                world.end(m, false);
            }
            world.host.not_before = world.now + 200;
            world.machines[m].broken = false;
        }
        Trouble::Start(m) => world.start(m),
        Trouble::Cut(noticed) => world.cut_link(noticed),
        Trouble::Mend => world.link_cut = false,
        Trouble::Paths(up) => world.host.path_up = up,
        Trouble::Away(m, away) => world.host.away[m] = away,
        Trouble::Slow(m, ms) => world.slow[m] = ms,
        Trouble::Move => world.host.move_over = true,
        Trouble::Operate(request) => {
            for m in 0..2 {
                if world.is_source(m) || request == OperatorRequest::Resume {
                    world.operate(m, request);
                }
            }
        }
        Trouble::Break(m) => world.machines[m].broken = true,
        Trouble::Invalidate => {
            for m in 0..2 {
                if !world.is_source(m) && world.is_source(1 - m) {
                    world.operate(m, OperatorRequest::Invalidate);
                }
            }
        }
        Trouble::OldLog(m) => {
            let stamp = |log: &[u8]| log.chunks(4096).take(2).filter_map(Header::decode).map(|it| it.stamp).max();
            // One from the same opening and generation has the same stamp, and is not told from the newest.
            if let (false, Some(old)) = (world.machines[m].power, &first_logs[m])
                && stamp(old) < stamp(&world.machines[m].log.bytes)
            {
                world.machines[m].log.bytes.clone_from(old);
                world.count("old log");
            }
        }
    }
}

/// Everything is mended; then the application goes on for a while, and stops.
fn settle(world: &mut World) {
    world.tell(|| "all is mended".to_owned());
    world.link_cut = false;
    world.host.path_up = true;
    world.host.away = [false; 2];
    world.slow = [0; 2];
    world.host.move_over = false;
    for m in 0..2 {
        if world.machines[m].broken {
            world.end(m, false);
            world.machines[m].broken = false;
        }
        world.machines[m].power = true;
        world.start(m);
        if world.machines[m].label_on_disk().paused {
            world.operate(m, OperatorRequest::Resume);
        }
    }
    world.want_requests(60);
    let until = world.now + SETTLE;
    let mut resumed = 0;
    while world.broken.is_none() && !is_settled(world) {
        if world.now >= until {
            let states: Vec<String> = (0..2)
                .map(|m| {
                    format!("{:?}", world.machines[m].volume.as_ref().map(mainstay_volume_core::volume::Volume::status))
                })
                .collect();
            return world.fail(|| format!("rest: nothing settles: {}", states.join(" / ")));
        }
        if world.now > resumed + 1_000 {
            resumed = world.now;
            for m in 0..2 {
                if world.machines[m].label_on_disk().paused {
                    world.operate(m, OperatorRequest::Resume);
                }
            }
        }
        world.step();
    }
    if world.broken.is_none() {
        judge_rest(world);
    }
}

/// In the end both copies are the same, and nothing is left.
pub(crate) fn judge_rest(world: &mut World) {
    let (a, b) = (&world.machines[0], &world.machines[1]);
    let differ = a.data.now.iter().zip(&b.data.now).position(|(a, b)| a != b);
    let (a_state, b_state) = (a.label_on_disk(), b.label_on_disk());
    let buffers = a.buffers() + b.buffers();
    if let Some(sector) = differ {
        let (a, b) = (a.data.now[sector], b.data.now[sector]);
        world.fail(|| format!("identical: sector {sector} is {a} on one copy and {b} on the other"));
    } else if (a_state.state, b_state.state) != (DurableState::Good, DurableState::Good)
        || a_state.generation != b_state.generation
    {
        world.fail(|| format!("labels: {a_state:?} / {b_state:?}"));
    } else if buffers > 0 {
        world.fail(|| format!("buffers: {buffers} are left"));
    }
}

/// One copy serves, both are up to date, the application has its answers, and the log is clear.
pub(crate) fn is_settled(world: &World) -> bool {
    let connected = (0..2).all(|m| world.link_state(m) == Some(LinkState::Connected));
    let source = (0..2).find(|m| world.is_source(*m));
    let clear = |m: usize| world.machines[m].volume.as_ref().is_some_and(|volume| volume.status().dirty_regions == 0);
    connected && source.is_some() && world.is_quiet() && clear(0) && clear(1)
}
