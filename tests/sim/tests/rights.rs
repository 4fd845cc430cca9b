//! What the core says to the processes of volumes (VOLUME V1, V3, V4): who may write and on what a promotion may rest, and
//! what becomes of marks. What the processes make of it is judged in `joined.rs`.

use mainstay_core::arbiter::ArbiterRequest;
use mainstay_core::claim::{ClaimId, Epoch};
use mainstay_core::names::{HierarchyName, NodeName, VolumeName};
use mainstay_core::node::{Input, Node, Request};
use mainstay_core::time::{Millis, Monotonic};
use mainstay_core::volume::{Basis, FromVolume, Marked, Question, ToVolume};
use mainstay_sim::scenario::{Hierarchy, Lan, Mode, Scenario};
use mainstay_sim::world::World;

fn node(name: &str) -> NodeName {
    NodeName::from(name)
}

fn h() -> HierarchyName {
    HierarchyName::from("h")
}

fn claim(epoch: u64, claimant: &str) -> ClaimId {
    ClaimId { epoch: Epoch(epoch), claimant: node(claimant) }
}

/// Two machines that are off, and a hierarchy with a volume.
fn off(mode: Mode) -> World {
    let scenario = Scenario {
        seed: 1,
        nodes: 2,
        paths: 2,
        lan: Lan::Good,
        heartbeat: Millis(500),
        misses: 4,
        remove_violations: false,
        granted_longer: Millis(0),
        hierarchies: vec![Hierarchy { mode, first: 0, switches_back: false, tree: vec![0] }],
        faults: Vec::new(),
    };
    World::new(&mainstay_sim::joined::world::config(&scenario), 1)
}

/// Both on, and `a` has it in service.
fn on(mode: Mode) -> World {
    let mut world = off(mode);
    ["a", "b"].iter().for_each(|name| world.start(&node(name)));
    world.run(Millis::from_secs(5));
    world
}

/// What was told since the last time. When a claim was entered in the journal is the clock's.
fn told(world: &mut World) -> Vec<(String, ToVolume)> {
    let all = world.told_to_volumes.drain(..).map(|(node, told)| (node.to_string(), told));
    all.map(|(node, mut told)| {
        if let ToVolume::Right { entered, .. } = &mut told {
            *entered = 0;
        }
        (node, told)
    })
    .collect()
}

/// By which daemon's entry in the journal the process on a node has its right.
fn entered(world: &mut World, on: &str) -> u64 {
    let all = world.told_to_volumes.drain(..).filter(|(node, _)| node.as_str() == on);
    let entered =
        all.rev().find_map(|(_, told)| if let ToVolume::Right { entered, .. } = told { Some(entered) } else { None });
    entered.expect("it is told of a right")
}

/// The last word of its right that the process on a node was told.
fn last(all: &[(String, ToVolume)], on: &str) -> Option<ToVolume> {
    let right = |told: &ToVolume| matches!(told, ToVolume::Right { .. } | ToVolume::RightEnded);
    all.iter().rev().find(|(node, told)| node == on && right(told)).map(|(_, told)| told.clone())
}

/// The answer to a question of a process.
fn answer(all: &[(String, ToVolume)], on: &str, question: u64) -> Option<Marked> {
    all.iter().find_map(|(node, told)| match told {
        ToVolume::Marked { number, outcome } if node == on && *number == question => Some(outcome.clone()),
        ToVolume::Marked { .. } | ToVolume::Right { .. } | ToVolume::RightEnded | ToVolume::MarkOutdated { .. } => None,
    })
}

fn says(world: &mut World, on: &str, said: FromVolume) {
    world.tell(&node(on), Millis(1), Input::Volume(VolumeName::from("v"), said));
    world.run(Millis(200));
}

fn mark_peer(number: u64, claim: ClaimId) -> FromVolume {
    FromVolume::MarkPeer { number, claim, generation: "{}".into() }
}

fn apart(world: &mut World, cut: bool) {
    for (from, to) in [("a", "b"), ("b", "a")] {
        if cut { world.cut(&node(from), &node(to)) } else { world.heal(&node(from), &node(to)) }
    }
}

/// The first alarm on a node that can be confirmed is.
fn confirm(world: &mut World, on: &str) {
    let alarms = world.machines[&node(on)].node.as_ref().map(Node::status).map(|status| status.alarms);
    let alarm = alarms.into_iter().flatten().find(|alarm| alarm.confirms.is_some()).expect("an alarm asks");
    let answers = alarm.confirms.expect("it is that one");
    world.ask(&node(on), Request::Confirm { alarm: alarm.id, answers });
    world.run(Millis::from_secs(1));
}

#[test]
fn v1_nothing_is_said_without_proof_and_a_right_with_it() {
    let mut world = off(Mode::Confirm);
    world.start(&node("a"));
    world.run(Millis::from_secs(30));
    assert_eq!(told(&mut world), [], "nobody has answered it, and a journal that was lost knows of no claim either");
    world.start(&node("b"));
    world.run(Millis::from_secs(5));
    let all = told(&mut world);
    assert_eq!(
        last(&all, "a"),
        Some(ToVolume::Right { claim: claim(1, "a"), entered: 0, until: None, basis: Basis::Free })
    );
    assert_eq!(last(&all, "b"), Some(ToVolume::RightEnded));

    // A daemon that starts without a proof takes nothing away from the process that it finds.
    apart(&mut world, true);
    world.kill(&node("a"));
    world.start(&node("a"));
    world.run(Millis::from_secs(30));
    assert_eq!(last(&told(&mut world), "a"), None);
    apart(&mut world, false);
    world.run(Millis::from_secs(5));
    let again = last(&told(&mut world), "a");
    assert_eq!(again, Some(ToVolume::Right { claim: claim(1, "a"), entered: 0, until: None, basis: Basis::Free }));
}

#[test]
fn v4_a_claim_is_another_one_after_the_journal_was_lost() {
    let mut world = on(Mode::Confirm);
    let first = entered(&mut world, "a");
    world.kill(&node("a"));
    world.start(&node("a"));
    world.run(Millis::from_secs(5));
    assert_eq!(entered(&mut world, "a"), first, "a daemon that reads it in its journal has not entered it");
    world.power_off(&node("a"));
    world.machine(&node("a")).wipe();
    world.start(&node("a"));
    world.run(Millis::from_secs(10));
    assert!(entered(&mut world, "a") > first, "it was heard of, or made, anew");
}

#[test]
fn v2_a_claim_is_above_what_the_labels_know() {
    let mut world = off(Mode::Confirm);
    world.start(&node("a"));
    // Both have lost their journals: nobody knows of a claim but the copies.
    says(&mut world, "a", FromVolume::Knows(claim(7, "b")));
    world.start(&node("b"));
    world.run(Millis::from_secs(5));
    assert!(matches!(last(&told(&mut world), "a"), Some(ToVolume::Right { claim: by, .. }) if by == claim(8, "a")));
    // It is told too late, of what is newer than the claim: the operator's word helps.
    says(&mut world, "a", FromVolume::Knows(claim(11, "b")));
    world.ask(&node("a"), Request::InService { target: "h".into(), force: true });
    world.run(Millis::from_secs(5));
    let right = last(&told(&mut world), "a");
    assert!(matches!(&right, Some(ToVolume::Right { claim: by, .. }) if *by == claim(12, "a")), "{right:?}");
}

#[test]
fn v1_a_right_ends_with_a_release_and_with_a_newer_claim() {
    let mut world = on(Mode::Confirm);
    told(&mut world);
    world.ask(&node("a"), Request::Switchover { hierarchy: h(), to: node("b") });
    world.run(Millis::from_secs(3));
    let all = told(&mut world);
    let ended = all.iter().position(|it| *it == ("a".to_owned(), ToVolume::RightEnded));
    let right = ToVolume::Right { claim: claim(2, "b"), entered: 0, until: None, basis: Basis::Free };
    let given = all.iter().position(|it| *it == ("b".to_owned(), right.clone()));
    assert!(ended.is_some() && given.is_some() && ended < given, "{all:?}");

    // An operator says that b is off, which it is not; when they hear each other, b learns of the newer claim.
    apart(&mut world, true);
    world.run(Millis::from_secs(10));
    confirm(&mut world, "a");
    let all = told(&mut world);
    assert_eq!(
        last(&all, "a"),
        Some(ToVolume::Right { claim: claim(3, "a"), entered: 0, until: None, basis: Basis::Word })
    );
    assert_eq!(last(&all, "b"), None, "O14: it keeps its right until it learns of a newer claim");
    apart(&mut world, false);
    world.run(Millis::from_secs(5));
    assert_eq!(last(&told(&mut world), "b"), Some(ToVolume::RightEnded));
}

#[test]
fn v4_a_takeover_over_paths_says_when_they_fell_silent() {
    let mut world = on(Mode::Automatic);
    told(&mut world);
    let cut = world.now();
    world.power_off(&node("a"));
    world.run(Millis::from_secs(10));
    let Some(ToVolume::Right { claim: by, entered: _, until: None, basis: Basis::Silence(silence) }) =
        last(&told(&mut world), "b")
    else {
        panic!("no right by silence")
    };
    assert_eq!((by, silence.within), (claim(2, "b"), Millis::from_secs(2)));
    let cut = mainstay_sim::world::UNIX + cut.0;
    assert!(
        silence.first.0 + 600 >= cut && silence.first <= silence.last && silence.last.0 <= cut + 5,
        "{silence:?} {cut}"
    );
}

#[test]
fn v3_a_mark_goes_to_the_peer_and_its_answer_back() {
    let mut world = on(Mode::Confirm);
    told(&mut world);
    says(&mut world, "a", mark_peer(7, claim(1, "a")));
    let all = told(&mut world);
    let [(on, ToVolume::MarkOutdated { peer, question, claim: by, generation })] = &all[..] else { panic!("{all:?}") };
    assert_eq!((on.as_str(), peer.as_str(), by, generation.as_str()), ("b", "a", &claim(1, "a"), "{}"));
    let outcome = Marked::InContact;
    says(&mut world, "b", FromVolume::Marked { peer: peer.clone(), question: *question, outcome: outcome.clone() });
    assert_eq!(answer(&told(&mut world), "a", 7), Some(outcome));

    // An answer to a question of an earlier daemon says nothing to a later one, whose numbers may be the same.
    let stale = Question { asker: question.asker - 1, ..*question };
    says(&mut world, "b", FromVolume::Marked { peer: peer.clone(), question: stale, outcome: Marked::Done });
    assert_eq!(told(&mut world), []);

    apart(&mut world, true);
    world.run(Millis::from_secs(10));
    says(&mut world, "a", mark_peer(8, claim(1, "a")));
    assert_eq!(answer(&told(&mut world), "a", 8), Some(Marked::Unreachable));
}

#[test]
fn v3_a_mark_by_an_older_claim_or_by_one_of_somebody_else_is_refused() {
    let mut world = on(Mode::Confirm);
    world.ask(&node("a"), Request::Switchover { hierarchy: h(), to: node("b") });
    world.run(Millis::from_secs(3));
    told(&mut world);
    says(&mut world, "a", mark_peer(1, claim(1, "a")));
    says(&mut world, "a", mark_peer(2, claim(9, "b")));
    let all = told(&mut world);
    assert_eq!(answer(&all, "a", 1), Some(Marked::Superseded(claim(2, "b"))));
    assert_eq!(answer(&all, "a", 2), Some(Marked::Unreachable));
    assert_eq!(last(&all, "b"), None);
    assert!(!all.iter().any(|(_, told)| matches!(told, ToVolume::MarkOutdated { .. })), "{all:?}");
}

fn mark_arbiter(number: u64, claim: ClaimId, outdated: bool) -> FromVolume {
    FromVolume::MarkArbiter { number, claim, outdated }
}

fn outdated(world: &World) -> Option<NodeName> {
    world.etcd.view(&node("a")).hierarchies[&h()].outdated.get(&VolumeName::from("v")).cloned()
}

/// Somebody else writes the record again as it is.
fn touch_record(world: &mut World) {
    let view = world.etcd.view(&node("a"));
    let entry = view.hierarchies[&h()].clone();
    let outdated = outdated(world);
    let request =
        ArbiterRequest::Mark { hierarchy: h(), expected: entry.version, volume: VolumeName::from("v"), outdated };
    world.etcd.handle(world.now(), &node("a"), &request);
}

#[test]
fn v3_the_arbiter_notes_a_mark_under_the_claims_own_record() {
    let mut world = on(Mode::Arbiter);
    let Some(ToVolume::Right { claim: by, entered: _, until: Some(until), basis: Basis::Arbiter { marked: false } }) =
        last(&told(&mut world), "a")
    else {
        panic!("no right by the arbiter")
    };
    assert!(by == claim(1, "a") && until > world.now() && until <= world.now() + Millis::from_secs(10), "{until:?}");

    says(&mut world, "a", mark_arbiter(1, claim(1, "a"), true));
    assert_eq!((answer(&told(&mut world), "a", 1), outdated(&world)), (Some(Marked::Done), Some(node("b"))));
    says(&mut world, "a", mark_arbiter(2, claim(9, "a"), false));
    assert_eq!(answer(&told(&mut world), "a", 2), Some(Marked::Unreachable), "that is not the claim in the record");
    assert_eq!(outdated(&world), Some(node("b")));

    // The record changes under the same claim: it is tried again.
    touch_record(&mut world);
    says(&mut world, "a", mark_arbiter(3, claim(1, "a"), false));
    assert_eq!((answer(&told(&mut world), "a", 3), outdated(&world)), (Some(Marked::Done), None));
    assert!(world.coverage.times("arbiter: mark refused") > 0);

    // What was asked before is not tried again when something newer was.
    touch_record(&mut world);
    world.tell(&node("a"), Millis(1), Input::Volume("v".into(), mark_arbiter(4, claim(1, "a"), false)));
    says(&mut world, "a", mark_arbiter(5, claim(1, "a"), true));
    let all = told(&mut world);
    assert_eq!(answer(&all, "a", 4), Some(Marked::Unreachable), "{all:?}");
    assert_eq!((answer(&all, "a", 5), outdated(&world)), (Some(Marked::Done), Some(node("b"))));

    // Who takes over knows that its copy is marked; the one before is refused by then.
    world.power_off(&node("a"));
    world.run(Millis::from_secs(20));
    let right = last(&told(&mut world), "b");
    assert!(matches!(right, Some(ToVolume::Right { basis: Basis::Arbiter { marked: true }, .. })), "{right:?}");
    says(&mut world, "b", mark_arbiter(6, claim(1, "b"), true));
    assert_eq!(answer(&told(&mut world), "b", 6), Some(Marked::Superseded(claim(2, "b"))));
}

#[test]
fn v3_an_unmark_that_comes_late_does_not_undo_a_mark_made_since() {
    let mut world = on(Mode::Arbiter);
    let (b, version) = (node("b"), world.etcd.view(&node("a")).hierarchies[&h()].version);
    let mark = |whose: Option<NodeName>, expected| ArbiterRequest::Mark {
        hierarchy: h(),
        expected,
        volume: VolumeName::from("v"),
        outdated: whose,
    };
    world.etcd.handle(world.now(), &node("a"), &mark(Some(b.clone()), version));
    world.etcd.handle(world.now(), &node("a"), &mark(None, version));
    assert_eq!(outdated(&world), Some(b));
}

#[test]
fn v4_the_operators_word_counts_where_the_arbiter_does_not_answer_and_the_arbiters_when_it_does() {
    let mut world = on(Mode::Arbiter);
    world.power_off(&node("a"));
    world.arbiter_away = 1;
    world.run(Millis::from_secs(30));
    told(&mut world);
    world.ask(&node("b"), Request::InService { target: "h".into(), force: true });
    world.run(Millis::from_secs(3));
    let right = last(&told(&mut world), "b");
    assert_eq!(right, Some(ToVolume::Right { claim: claim(2, "b"), entered: 0, until: None, basis: Basis::Word }));
    world.arbiter_away = 0;
    world.run(Millis::from_secs(10));
    let Some(ToVolume::Right { claim: by, entered: _, until: Some(Monotonic(_)), basis }) =
        last(&told(&mut world), "b")
    else {
        panic!("no permit")
    };
    assert_eq!((by, basis), (claim(2, "b"), Basis::Arbiter { marked: false }));
}
