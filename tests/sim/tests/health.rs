//! Health checks that are in the way of nothing: a kit is asked in its turn, and makes way for what has to be done.

use mainstay_core::health::{Finding, HealthReport};
use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::node::{Request, RequestId};
use mainstay_core::time::Millis;
use mainstay_sim::kits::Answer;
use mainstay_sim::world::World;

const CONFIG: &str = "cluster = \"sim\"
kits = \"/kits\"
[path.lan]
[node.a]
address.lan = \"127.0.0.1:7401\"
[node.b]
address.lan = \"127.0.0.1:7402\"
[hierarchy.mail]
nodes = [\"a\", \"b\"]
[hierarchy.mail.resource.app]
kit = \"null\"
";
/// How long each may take.
const WITHIN: Millis = Millis::from_secs(10);

/// Two nodes, the first of which serves.
fn two() -> World {
    let mut world = World::new(CONFIG, 1);
    for name in ["a", "b"] {
        world.start(&NodeName::from(name));
    }
    world.run(Millis::from_secs(2));
    world
}

fn examine(world: &mut World, node: &str) -> RequestId {
    world.examine(&NodeName::from(node), Some(HierarchyName::from("mail")), WITHIN)
}

fn set_assess(world: &mut World, node: &str, answer: Answer) {
    world.machine(&NodeName::from(node)).apps.get_mut(&Tag::from("app")).expect("it is there").assess = answer;
}

fn codes(report: &HealthReport) -> Vec<&str> {
    report.findings.iter().map(|finding: &Finding| finding.code.as_str()).collect()
}

#[track_caller]
fn told(world: &World, id: RequestId) -> &HealthReport {
    world.health_reports[&id].as_ref().expect("it is not refused")
}

#[test]
fn a_kit_that_is_being_asked_makes_way_for_a_switchover() {
    let mut world = two();
    set_assess(&mut world, "b", Answer::Hangs);
    let id = examine(&mut world, "a");
    world.run(Millis::from_secs(1));
    assert!(!world.health_reports.contains_key(&id), "the kit has not answered yet");
    let (hierarchy, to) = (HierarchyName::from("mail"), NodeName::from("b"));
    world.ask(&NodeName::from("a"), Request::Switchover { hierarchy, to });
    world.run(Millis::from_secs(1));
    assert!(world.machine(&NodeName::from("b")).apps[&Tag::from("app")].running, "nothing has waited for the answer");
    // In service there it is not asked any more. Out of service on a it was not when that was examined.
    assert_eq!(codes(told(&world, id)), [""; 0]);
    assert_eq!(world.checks.broken, [""; 0]);
}

#[test]
fn those_that_ask_at_once_have_one_answer_of_a_kit_and_those_too_many_are_told() {
    let mut world = two();
    set_assess(&mut world, "b", Answer::Hangs);
    let asked: Vec<RequestId> = (0..34).map(|_| examine(&mut world, "b")).collect();
    world.run(Millis(1));
    let refused = |world: &World| {
        let said = asked.iter().filter_map(|id| world.health_reports.get(id));
        said.filter(|said| said.as_ref().is_err_and(|why| why.contains("32 health checks go on already"))).count()
    };
    assert_eq!(refused(&world), 2);
    world.run(WITHIN);
    for id in &asked[..32] {
        assert_eq!(codes(told(&world, *id)), ["readiness-unknown"]);
    }
    assert_eq!(world.checks.broken, [""; 0], "one call at a time");
    // They are over: another one may ask.
    set_assess(&mut world, "b", Answer::Well);
    world.run(Millis::from_secs(60));
    let id = examine(&mut world, "b");
    world.run(Millis::from_secs(1));
    assert_eq!(codes(told(&world, id)), [""; 0]);
}

/// The journal's disk hangs: nothing that needs a record gets done, and that is what is told.
#[test]
fn a_node_whose_disk_hangs_can_be_asked_all_the_same() {
    let mut world = two();
    world.machine(&NodeName::from("b")).disk_stuck = true;
    let id = examine(&mut world, "b");
    world.run(WITHIN);
    assert!(told(&world, id).nodes.iter().all(|facts| facts.answered), "{:?}", told(&world, id));
}
