//! What takes long: an hour of loss, a week without the peer.

use mainstay_core::names::NodeName;
use mainstay_core::time::Millis;
use mainstay_sim::network::{Quality, Way};
use mainstay_sim::world::World;

const NODES: [&str; 2] = ["a", "b"];
const HOUR: Millis = Millis::from_mins(60);

fn world(paths: &[&str], settings: &str, seed: u64) -> World {
    let mut text = String::from("cluster = \"c\"\nkits = \"/k\"\n");
    for (at, path) in paths.iter().enumerate() {
        text += &format!("[path.{path}]\npriority = {}\n", at + 1);
    }
    for (number, node) in NODES.iter().enumerate() {
        text += &format!("[node.{node}]\n");
        for (at, path) in paths.iter().enumerate() {
            text += &format!("address.{path} = \"127.0.0.1:{}\"\n", 7000 + 10 * at + number);
        }
    }
    text += &format!("[hierarchy.h]\nnodes = {NODES:?}\n{settings}\n[hierarchy.h.resource.app]\nkit = \"null\"\n");
    let mut world = World::new(&text, seed);
    NODES.iter().for_each(|name| world.start(&NodeName::from(*name)));
    world.run(Millis::from_secs(5));
    world
}

fn lines(world: &World, words: &str) -> usize {
    world.timeline.iter().filter(|line| line.text.contains(words)).count()
}

/// Default timers (1 s x 5), two comm paths, `automatic`: three of ten datagrams are lost, each way, for an hour.
#[test]
fn an_hour_of_loss_makes_paths_yellow_and_moves_nothing() {
    for seed in 1..=5 {
        let mut world = world(&["one", "two"], "failover = \"automatic\"\naccept-split-brain = true", seed);
        for path in 0..2 {
            for (from, to) in [(0, 1), (1, 0)] {
                let lossy = Quality { loss: 300, ..Quality::PERFECT };
                let now = world.now();
                world.network.worsen(Way { from, to, path }, 1, lossy, now);
            }
        }
        world.run(HOUR);
        assert_eq!(lines(&world, "claimed (failover)"), 0, "seed {seed}");
        assert_eq!(lines(&world, "silent"), 0, "seed {seed}: no node was taken for silent");
        assert!(lines(&world, "is yellow") >= 4, "seed {seed}: the loss was seen");
        let (running, broken) = (world.machine(&NodeName::from("a")).apps["app"].running, &world.checks.broken);
        assert!(running && broken.is_empty(), "seed {seed}: {broken:?}");
    }
}

/// The peer is off for a week: what this node keeps, writes and says does not grow with the time.
#[test]
fn a_week_without_the_peer_costs_nothing_more_than_an_hour() {
    let mut world = world(&["one"], "", 1);
    let (a, b) = (NodeName::from("a"), NodeName::from("b"));
    world.power_off(&b);
    world.run(HOUR);
    let said = world.timeline.len();
    let (written, kept) = (world.machine(&a).journal.len(), kept(&mut world, &a));
    world.run(Millis(7 * 24 * HOUR.0));
    assert_eq!(world.timeline.len(), said, "{:?}", world.timeline.last());
    assert_eq!(world.machine(&a).journal.len(), written);
    assert_eq!(self::kept(&mut world, &a), kept);
    assert!(world.machine(&a).apps["app"].running && world.checks.broken.is_empty());
}

/// How much the node holds, as its debug text is long: every map and queue in it is in there. Numbers that grow have more
/// digits, so it is counted without them.
fn kept(world: &mut World, name: &NodeName) -> usize {
    let node = world.machine(name).node.as_ref();
    let text = format!("{node:?}");
    text.chars().filter(|char| !char.is_ascii_digit()).count()
}
