//! Faults: what goes wrong, in words, and what that does to a world when it begins and when it is over.
//!
//! | words | what |
//! |---|---|
//! | `cut A B PATH`, `split A B PATH`, `apart A B`, `isolate A` | one way of a path, both, all paths, all paths to all |
//! | `flap A B PATH EVERY` | cut and mended, again and again |
//! | `lossy A B PATH PERMILLE`, `lossy-all A B PERMILLE`, `slow A B PATH LENGTH` | loss and doubling, delay and jitter |
//! | `block A heartbeats`, `block A messages` | a firewall |
//! | `kill A`, `stop A`, `pause A`, `suspend A` | the daemon killed, stopped in order, stopped by a signal; the machine |
//! | `power-off A RECORDS` | so many records that were not synced have reached the disk |
//! | `lose-disk A`, `damage A`, `disk-stuck A`, `disk-slow A LENGTH` | the disk with the journal |
//! | `clock A MINUTES`, `drift A PPM` | the wall clock jumps, the monotonic one runs otherwise |
//! | `app A TAG breaks`, `app A TAG dies`, `by-hand A TAG` | an application, past mainstay |
//! | `kit A TAG OPERATION ANSWER`, `kit-slow A TAG LENGTH`, `unusable A TAG` | a kit |
//! | `ask A in-service H`, `... out-of-service H` or `TAG`, `... switchover H B`, `... force H`, `... confirm` | an operator |
//! | `maintenance A H`, `drain A B` | asked for on A: of the hierarchy, of the node B; ended at the end |
//! | `true-word A force`, `true-word A confirm` | all other machines are off, and an operator says so at the end, of every hierarchy |
//! | `older-config A`, `older-kit A` | its daemon starts anew with it, or with the others' again; a kit comes without |
//! | `late-word A` | an operator reads the alarm there, and answers it at the end |
//! | `arbiter-cut A`, `arbiter-away`, `arbiter-slow A LENGTH`, `arbiter-lossy A PERMILLE`, `arbiter-late LENGTH` | the arbiter |
//! | `arbiter-wipe`, `arbiter-restore`, `arbiter-leader` | lost; put back to what it was when the fault began; led by another |
//! | `guardian A` | it is dead, and comes back at the end |
//! | `fence A MANNER` | how the fence of a machine behaves |

use std::collections::BTreeMap;

use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::node::{Node, Request};
use mainstay_core::status::Alarm;
use mainstay_core::time::Millis;

use crate::etcd::Snapshot;
use crate::kits::{Answer, App};
use crate::network::{Quality, Way};
use crate::scenario::{NODES, PATHS};
use crate::world::{FenceManner, Kind, World};

/// Between an operator's last look and the word, what is on disk by then counts.
const WORD: Millis = Millis(100);

/// What faults that go on have put aside.
#[derive(Debug, Default)]
pub struct Aside {
    snapshots: BTreeMap<u64, Snapshot>,
    answers: BTreeMap<u64, Vec<Request>>,
}

/// Which nodes a fault is about, and whether the arbiter is.
#[must_use]
pub fn about(what: &str) -> (Vec<NodeName>, bool) {
    let mut words = what.split(' ');
    let word = words.next().unwrap_or_default();
    let everybody = matches!(word, "isolate" | "ask" | "true-word" | "late-word" | "maintenance" | "drain");
    let named: Vec<&str> = words.filter(|word| NODES.contains(word)).collect();
    let nodes = if everybody { NODES.to_vec() } else { named };
    (nodes.into_iter().map(NodeName::from).collect(), word.starts_with("arbiter") || word == "guardian")
}

/// A fault begins, or is over. `number` names it.
///
/// # Errors
/// Words that are no fault.
pub fn turn(world: &mut World, aside: &mut Aside, number: u64, what: &str, begins: bool) -> Result<(), String> {
    let words: Vec<&str> = what.split(' ').collect();
    let known = match words[0] {
        "cut" | "split" | "apart" | "isolate" | "flap" | "lossy" | "lossy-all" | "slow" | "block" => {
            network(world, number, &words, begins)
        }
        "kill" | "stop" | "pause" | "suspend" | "power-off" | "clock" | "drift" => machine(world, &words, begins),
        "lose-disk" | "damage" | "disk-stuck" | "disk-slow" => disk(world, &words, begins),
        "app" | "by-hand" | "kit" | "kit-slow" | "unusable" => kit(world, &words, begins),
        "ask" | "true-word" => operator(world, &words, begins),
        "late-word" => late_word(world, aside, number, &words, begins),
        "maintenance" | "drain" => upkeep(world, &words, begins),
        "older-config" | "older-kit" => older(world, &words, begins),
        _ => outside(world, aside, number, &words, begins),
    };
    known.ok_or_else(|| format!("`{what}` is no fault"))
}

fn node(world: &World, word: Option<&&str>) -> Option<NodeName> {
    world.machines.keys().find(|name| word.is_some_and(|word| name.as_str() == *word)).cloned()
}

fn network(world: &mut World, number: u64, words: &[&str], begins: bool) -> Option<()> {
    let now = world.now();
    let a = node(world, words.get(1))?;
    if words[0] == "block" {
        let kind = match *words.get(2)? {
            "heartbeats" => Kind::Heartbeats,
            "messages" => Kind::Messages,
            _ => return None,
        };
        if begins {
            world.block(&a, kind);
        } else {
            world.blocked.remove(&(a, kind));
        }
        return Some(());
    }
    let others: Vec<NodeName> = match words[0] {
        "isolate" => world.machines.keys().filter(|name| **name != a).cloned().collect(),
        _ => vec![node(world, words.get(2))?],
    };
    let all: Vec<usize> = (0..world.network.paths()).collect();
    let one = |word: &str| PATHS.iter().position(|path| *path == word).filter(|path| all.contains(path));
    let paths = match words[0] {
        "apart" | "isolate" | "lossy-all" => all.clone(),
        _ => vec![one(words.get(3)?)?],
    };
    let worse = match words[0] {
        "lossy" => Some(lossy(words.get(4)?.parse().ok()?)),
        "lossy-all" => Some(lossy(words.get(3)?.parse().ok()?)),
        "slow" => {
            let delay = Millis::parse(words.get(4)?)?;
            Some(Quality { delay, jitter: Millis(delay.0 / 2), loss: 10, doubled: 10, spikes: 0 })
        }
        _ => None,
    };
    for other in &others {
        for path in &paths {
            let there = world.way(&a, other, *path);
            let back = Way { from: there.to, to: there.from, ..there };
            let ways = if words[0] == "cut" { vec![there] } else { vec![there, back] };
            for way in ways {
                match worse {
                    Some(quality) if begins => world.network.worsen(way, number, quality, now),
                    Some(_) => world.network.recover(way, number, now),
                    None => world.network.count_cut(way, begins, now),
                }
            }
        }
        if !begins {
            world.opened(&a, other);
        }
    }
    Some(())
}

fn lossy(loss: u64) -> Quality {
    Quality { delay: Millis(2), jitter: Millis(30), loss, doubled: 50, spikes: 20 }
}

fn starts_again(world: &mut World, name: &NodeName) {
    if world.machines[name].node.is_none() && !world.machines[name].suspended {
        world.start(name);
    }
}

fn machine(world: &mut World, words: &[&str], begins: bool) -> Option<()> {
    let a = node(world, words.get(1))?;
    let now = world.now();
    // Nothing can be done to what runs on a machine that stands still, but to take its power.
    let lives = world.machines[&a].node.is_some() && !world.machines[&a].suspended;
    match (words[0], begins) {
        ("kill", true) if lives => world.kill(&a),
        ("stop", true) if lives && !world.machines[&a].paused => world.stop(&a),
        ("power-off", true) => {
            let keep = words.get(2)?.parse().ok()?;
            world.power_off_keeping(&a, keep);
        }
        ("kill" | "stop", true) => {}
        ("kill" | "stop" | "power-off", false) => starts_again(world, &a),
        ("pause", _) => world.pause(&a, begins),
        ("suspend", _) => world.suspend(&a, begins),
        ("clock", true) => world.machine(&a).clock_off = words.get(2)?.parse::<i64>().ok()? * 60_000,
        ("clock", false) => {}
        ("drift", true) => world.machine(&a).clock.set_ppm(now, words.get(2)?.parse().ok()?),
        ("drift", false) => world.machine(&a).clock.set_ppm(now, 0),
        _ => return None,
    }
    Some(())
}

fn disk(world: &mut World, words: &[&str], begins: bool) -> Option<()> {
    let a = node(world, words.get(1))?;
    match (words[0], begins) {
        ("lose-disk", true) => {
            world.power_off(&a);
            world.machine(&a).wipe();
        }
        ("damage", true) if world.machines[&a].suspended => {}
        ("damage", true) => {
            if world.machines[&a].node.is_some() {
                world.kill(&a);
            }
            world.machine(&a).damaged = true;
        }
        ("lose-disk" | "damage", false) => starts_again(world, &a),
        ("disk-stuck", true) => world.machine(&a).disk_stuck = true,
        ("disk-stuck", false) => world.unstick_disk(&a),
        ("disk-slow", true) => world.machine(&a).disk_takes = Millis::parse(words.get(2)?)?,
        ("disk-slow", false) => world.machine(&a).disk_takes = Millis(1),
        _ => return None,
    }
    Some(())
}

fn kit(world: &mut World, words: &[&str], begins: bool) -> Option<()> {
    let a = node(world, words.get(1))?;
    let tag = Tag::from(*words.get(2)?);
    let machine = world.machine(&a);
    let off = machine.off;
    let app = machine.apps.get_mut(&tag)?;
    match words[0] {
        "app" if !begins => {}
        "app" => match *words.get(3)? {
            "breaks" => app.broken = app.running,
            "dies" => app.crash(),
            _ => return None,
        },
        "by-hand" if begins => {
            if !app.running && !off {
                (app.running, app.by_hand) = (true, true);
            }
        }
        "by-hand" => {
            if app.by_hand {
                (app.running, app.by_hand) = (false, false);
            }
        }
        "kit" => {
            let answer = if begins { Answer::parse(words.get(4)?)? } else { Answer::Well };
            match *words.get(3)? {
                "restore" => app.restore = answer,
                "remove" => app.remove = answer,
                "check" => app.check = answer,
                "deep-check" => app.deep_check = answer,
                "recover" => app.recover = answer,
                "assess" => app.assess = answer,
                _ => return None,
            }
        }
        "kit-slow" => app.takes = if begins { Millis::parse(words.get(3)?)? } else { App::default().takes },
        "unusable" => {
            let problem = begins.then(|| (tag, "its kit is not there".to_owned()));
            world.set_unusable(&a, problem.into_iter().collect());
        }
        _ => return None,
    }
    Some(())
}

fn operator(world: &mut World, words: &[&str], begins: bool) -> Option<()> {
    let a = node(world, words.get(1))?;
    let force = |hierarchy: &str| Request::InService { target: hierarchy.into(), force: true };
    if words[0] == "true-word" {
        let others: Vec<NodeName> = world.machines.keys().filter(|other| **other != a).cloned().collect();
        if begins {
            others.iter().for_each(|other| world.power_off(other));
            if !world.machines[&a].suspended {
                starts_again(world, &a);
            }
            return Some(());
        }
        match *words.get(2)? {
            "force" => {
                let all: Vec<HierarchyName> = world.spec().hierarchies.keys().cloned().collect();
                let lives = world.machines[&a].node.is_some();
                all.iter().filter(|_| lives).for_each(|hierarchy| {
                    world.ask(&a, force(hierarchy.as_str()));
                });
            }
            "confirm" => confirm(world, &a),
            _ => return None,
        }
        world.run(WORD);
        others.iter().for_each(|other| starts_again(world, other));
        return Some(());
    }
    if !begins || world.machines[&a].node.is_none() {
        return Some(());
    }
    let request = match words.get(2..)? {
        ["in-service", hierarchy] => Request::InService { target: (*hierarchy).into(), force: false },
        ["force", hierarchy] => force(hierarchy),
        ["out-of-service", target] => Request::OutOfService { target: (*target).into() },
        ["switchover", hierarchy, to] => {
            Request::Switchover { hierarchy: HierarchyName::from(*hierarchy), to: NodeName::from(*to) }
        }
        ["confirm"] => {
            confirm(world, &a);
            return Some(());
        }
        _ => return None,
    };
    world.ask(&a, request);
    Some(())
}

fn upkeep(world: &mut World, words: &[&str], begins: bool) -> Option<()> {
    let a = node(world, words.get(1))?;
    let request = match words[0] {
        "maintenance" => Request::Maintenance { hierarchy: HierarchyName::from(*words.get(2)?), on: begins },
        _ => Request::Drain { node: node(world, words.get(2))?, on: begins },
    };
    if world.machines[&a].node.is_some() {
        world.ask(&a, request);
    }
    Some(())
}

/// The alarms that ask for a confirmation get one.
fn confirm(world: &mut World, name: &NodeName) {
    for request in confirmations(world, name) {
        world.ask(name, request);
    }
}

fn confirmations(world: &World, name: &NodeName) -> Vec<Request> {
    let alarms = world.machines[name].node.as_ref().map(Node::status).map(|status| status.alarms);
    let confirmation = |alarm: Alarm| Some(Request::Confirm { answers: alarm.confirms?, alarm: alarm.id });
    alarms.into_iter().flatten().filter_map(confirmation).collect()
}

fn late_word(world: &mut World, aside: &mut Aside, number: u64, words: &[&str], begins: bool) -> Option<()> {
    let a = node(world, words.get(1))?;
    if begins {
        aside.answers.insert(number, confirmations(world, &a));
        return Some(());
    }
    for request in aside.answers.remove(&number).unwrap_or_default() {
        if world.machines[&a].node.is_some() {
            world.ask(&a, request);
        }
    }
    Some(())
}

fn older(world: &mut World, words: &[&str], begins: bool) -> Option<()> {
    let a = node(world, words.get(1))?;
    if words[0] == "older-kit" {
        world.set_older_kit(&a, begins);
    } else {
        world.set_older_config(&a, begins);
    }
    Some(())
}

fn outside(world: &mut World, aside: &mut Aside, number: u64, words: &[&str], begins: bool) -> Option<()> {
    let now = world.now();
    let before = world.etcd.revision();
    match words[0] {
        "arbiter-cut" | "arbiter-slow" | "arbiter-lossy" => {
            let a = node(world, words.get(1))?;
            let way = world.arbiter_ways.entry(a).or_default();
            match words[0] {
                "arbiter-cut" => way.cuts = if begins { way.cuts + 1 } else { way.cuts.saturating_sub(1) },
                "arbiter-slow" => way.slow = if begins { Millis::parse(words.get(2)?)? } else { Millis(0) },
                _ => way.loss = if begins { words.get(2)?.parse().ok()? } else { 0 },
            }
        }
        "arbiter-away" if begins => world.arbiter_away += 1,
        "arbiter-away" => world.arbiter_away = world.arbiter_away.saturating_sub(1),
        "arbiter-late" => world.etcd.late = if begins { Millis::parse(words.get(1)?)? } else { Millis(0) },
        "arbiter-wipe" if begins => world.etcd.wipe(),
        "arbiter-leader" if begins => world.etcd.leader_changed(now),
        "arbiter-wipe" | "arbiter-leader" => {}
        "arbiter-restore" if begins => {
            aside.snapshots.insert(number, world.etcd.snapshot());
        }
        "arbiter-restore" => {
            if let Some(snapshot) = aside.snapshots.remove(&number) {
                let names: Vec<HierarchyName> = world.spec().hierarchies.keys().cloned().collect();
                let before: Vec<_> = names.iter().map(|name| world.etcd.permit(now, name)).collect();
                world.etcd.restore(snapshot, now);
                for (hierarchy, before) in names.into_iter().zip(before) {
                    let after = world.etcd.permit(now, &hierarchy);
                    if before.is_some() && after.is_some() && before != after {
                        world.coverage.count("arbiter: a permit came back");
                        world.checks.permit_came_back(hierarchy, now);
                    }
                }
            }
        }
        "guardian" => {
            let a = node(world, words.get(1))?;
            world.set_guardian(&a, !begins);
        }
        "fence" => {
            let a = node(world, words.get(1))?;
            let manner = FenceManner::ALL.into_iter().find(|manner| Some(&manner.as_str()) == words.get(2))?;
            world.machine(&a).fence = if begins { manner } else { FenceManner::Works };
        }
        _ => return None,
    }
    world.watch_leases();
    world.arbiter_may_have_changed(before);
    Some(())
}
