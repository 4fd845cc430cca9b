//! Trouble that a story cannot tell: power that goes in the middle of a write, clocks that are wrong, journals that were
//! written under another config, peers that say what no peer says.

use std::collections::BTreeSet;

use mainstay_core::claim::{Claim, ClaimId, Epoch};
use mainstay_core::message::{HierarchySummary, OwnershipSummary, PeerMessage, PeerRequest, PeerState};
use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::node::{Config, Input, Node, Operation, Output, Reply, Request};
use mainstay_core::spec::Spec;
use mainstay_core::state::{Cause, Record, Standing, StandingKind, State};
use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};
use mainstay_sim::kits::Answer;
use mainstay_sim::world::World;

const DAY: i64 = 86_400_000;

fn config(nodes: &[&str], more: &str) -> String {
    let mut text = String::from("cluster = \"c\"\nkits = \"/k\"\n[path.lan]\n");
    for (number, node) in nodes.iter().enumerate() {
        text += &format!("[node.{node}]\naddress.lan = \"127.0.0.1:{}\"\n", 7000 + number);
    }
    text + &format!("[hierarchy.h]\nnodes = {nodes:?}\n[hierarchy.h.resource.app]\nkit = \"null\"\n{more}")
}

fn node(name: &str) -> NodeName {
    NodeName::from(name)
}

fn h() -> HierarchyName {
    HierarchyName::from("h")
}

fn app() -> Tag {
    Tag::from("app")
}

/// All of them on, and a while later.
fn world(nodes: &[&str], more: &str) -> World {
    let mut world = World::new(&config(nodes, more), 1);
    nodes.iter().for_each(|name| world.start(&node(name)));
    world.run(Millis::from_secs(1));
    world
}

fn ask(world: &mut World, on: &str, request: Request) -> Result<String, String> {
    let id = world.ask(&node(on), request);
    world.run(Millis(20));
    match world.replies.get(&id) {
        Some(Reply::Accepted(text)) => Ok(text.clone()),
        Some(Reply::Refused(why)) => Err(why.clone()),
        None => panic!("no answer"),
    }
}

fn in_service(force: bool) -> Request {
    Request::InService { target: "h".into(), force }
}

fn switchover(to: &str) -> Request {
    Request::Switchover { hierarchy: h(), to: node(to) }
}

fn running(world: &World) -> Vec<&str> {
    let runs = |name: &&NodeName| world.machines[*name].apps[&app()].running;
    world.machines.keys().filter(runs).map(NodeName::as_str).collect()
}

fn both_ways(world: &mut World, a: &str, b: &str, cut: bool) {
    for (from, to) in [(a, b), (b, a)] {
        if cut {
            world.cut(&node(from), &node(to));
        } else {
            world.heal(&node(from), &node(to));
        }
    }
}

fn alarms(world: &World, on: &str) -> String {
    let status = world.machines[&node(on)].node.as_ref().map(Node::status).expect("it is on");
    status.alarms.into_iter().map(|alarm| alarm.text + "\n").collect()
}

fn told(world: &World) -> String {
    world.timeline.iter().map(|line| format!("{:>9} {} {}\n", line.at.0, line.node, line.text)).collect()
}

#[track_caller]
fn nothing_is_broken(world: &World) {
    assert!(world.checks.broken.is_empty(), "{:#?}\n{}", world.checks.broken, told(world));
    assert!(world.checks.lied.is_empty(), "these operators say only what is so");
}

/// Up to the moment at which `a` has just told that it offers it to `b`.
fn until_offered(world: &mut World) {
    world.ask(&node("a"), switchover("b"));
    while !world.timeline.iter().any(|line| line.text.contains("released, and offered to b")) {
        world.run(Millis(1));
    }
    world.run(Millis(1));
}

/// O3, O4: damage is found, and the power goes before anything is written: the next daemon knows of it.
#[test]
fn damage_is_not_forgotten() {
    for written in 0..3 {
        let mut world = world(&["a", "b"], "");
        ask(&mut world, "a", switchover("b")).expect("b can take it");
        world.run(Millis::from_secs(1));
        ask(&mut world, "b", switchover("a")).expect("a can take it");
        world.run(Millis::from_secs(1));
        world.power_off(&node("b"));
        both_ways(&mut world, "a", "b", true);
        // b can read its journal up to where a offers it to b.
        let offered = |record: &Record| matches!(record, Record::Learned { standing, .. } if standing.kind == StandingKind::Offered(node("b")));
        let b = world.machine(&node("b"));
        b.readable = b.journal.iter().position(offered).map(|at| at + 1);
        b.damaged = true;
        world.start(&node("b"));
        world.power_off_keeping(&node("b"), written);
        world.start(&node("b"));
        world.run(Millis::from_secs(10));
        assert_eq!(running(&world), ["a"], "{}", told(&world));
        assert!(alarms(&world, "b").contains("the journal of this node was damaged"));
        nothing_is_broken(&world);
    }
}

/// O3, O18: the receiver of an offer loses its power before its claim is durable. The giver takes it back by force, as its
/// alarm says, on a true word. The receiver starts, cut off: what its journal says of the offer is old.
#[test]
fn an_old_offer_is_not_taken_at_a_start() {
    let mut world = world(&["a", "b"], "");
    until_offered(&mut world);
    world.power_off_keeping(&node("b"), 1);
    world.run(Millis::from_secs(8));
    assert!(alarms(&world, "a").contains("If b is off: mainstay in-service h --force"));
    ask(&mut world, "a", in_service(true)).expect("the operator says so");
    world.run(Millis::from_secs(1));
    both_ways(&mut world, "a", "b", true);
    world.start(&node("b"));
    world.run(Millis::from_secs(3));
    assert_eq!(running(&world), ["a"], "{}", told(&world));
    nothing_is_broken(&world);
}

/// The same offer, and the giver waits: once both talk again it is taken.
#[test]
fn an_offer_that_stands_is_taken_after_a_start() {
    let mut world = world(&["a", "b"], "");
    until_offered(&mut world);
    world.power_off_keeping(&node("b"), 1);
    world.run(Millis::from_secs(8));
    world.start(&node("b"));
    world.run(Millis::from_secs(3));
    assert_eq!(running(&world), ["b"], "{}", told(&world));
    nothing_is_broken(&world);
}

/// Three nodes. b has lost its journal; a, cut off since, still offers to b what c has by now.
#[test]
fn an_old_offer_is_not_taken_by_who_has_lost_its_journal() {
    let mut world = world(&["a", "b", "c"], "");
    until_offered(&mut world);
    both_ways(&mut world, "a", "b", true);
    both_ways(&mut world, "a", "c", true);
    world.run(Millis::from_secs(2));
    ask(&mut world, "b", switchover("c")).expect("c can take it");
    world.run(Millis::from_secs(2));
    world.kill(&node("b"));
    world.machine(&node("b")).wipe();
    both_ways(&mut world, "b", "c", true);
    both_ways(&mut world, "a", "b", false);
    world.start(&node("b"));
    world.run(Millis::from_secs(3));
    assert_eq!(running(&world), ["c"], "{}", told(&world));
    nothing_is_broken(&world);
}

/// Three nodes. The giver loses its disk right after it has offered: b, cut off, has not heard of the offer, and c has.
#[test]
fn who_has_lost_its_journal_hears_what_it_had_said() {
    let mut world = world(&["a", "b", "c"], "");
    both_ways(&mut world, "a", "b", true);
    both_ways(&mut world, "c", "b", true);
    until_offered(&mut world);
    world.power_off(&node("a"));
    world.machine(&node("a")).wipe();
    both_ways(&mut world, "a", "b", false);
    both_ways(&mut world, "c", "b", false);
    world.start(&node("a"));
    world.run(Millis::from_secs(10));
    assert_eq!(running(&world), ["b"], "{}", told(&world));
    nothing_is_broken(&world);
}

/// Three nodes. The giver starts anew, and the receiver declines; c has it by now, on a true word.
#[test]
fn what_was_declined_is_not_taken_back_without_proof() {
    let mut world = world(&["a", "b", "c"], "");
    until_offered(&mut world);
    world.power_off(&node("b"));
    world.run(Millis(500));
    world.power_off(&node("a"));
    world.run(Millis::from_secs(8));
    ask(&mut world, "c", in_service(true)).expect("the operator says so");
    world.run(Millis::from_secs(1));
    both_ways(&mut world, "c", "b", true);
    both_ways(&mut world, "a", "c", true);
    world.machine(&node("b")).unusable.insert(app(), "its kit is not there".into());
    world.start(&node("a"));
    world.start(&node("b"));
    world.run(Millis::from_secs(9));
    assert_eq!(running(&world), ["c"], "{}", told(&world));
    nothing_is_broken(&world);
}

/// The clock was a day ahead when a's daemon started. It is right again, and a's journal is lost: its next daemon counts
/// from below what b has heard.
#[test]
fn a_daemon_that_counts_from_below_catches_up() {
    let mut world = World::new(&config(&["a", "b"], ""), 1);
    world.machine(&node("a")).clock_off = DAY;
    world.start(&node("a"));
    world.start(&node("b"));
    world.run(Millis::from_secs(2));
    world.power_off(&node("a"));
    world.machine(&node("a")).wipe();
    world.machine(&node("a")).clock_off = 0;
    world.start(&node("a"));
    world.run(Millis::from_secs(30));
    assert_eq!((alarms(&world, "a"), alarms(&world, "b")), (String::new(), String::new()), "{}", told(&world));
    assert_eq!(running(&world), ["a"]);
    nothing_is_broken(&world);
}

/// Failovers and local recoveries that were counted by a clock a month ahead count no more when it is right.
#[test]
fn what_a_wrong_clock_counted_does_not_count_for_ever() {
    let mut world = World::new(&config(&["a", "b"], ""), 1);
    for name in ["a", "b"] {
        let machine = world.machine(&node(name));
        machine.clock_off = 30 * DAY;
        if let Some(app) = machine.apps.get_mut(&app()) {
            app.recover = Answer::GivesUp;
        }
    }
    world.start(&node("a"));
    world.start(&node("b"));
    world.run(Millis::from_secs(2));
    let breaks = |world: &mut World, on: &str| {
        world.machine(&node(on)).apps.get_mut(&app()).expect("it is there").broken = true;
        world.run(Millis::from_secs(20));
    };
    breaks(&mut world, "a");
    breaks(&mut world, "b");
    assert_eq!(running(&world), ["a"], "it has failed over twice");
    for name in ["a", "b"] {
        world.machine(&node(name)).clock_off = 0;
    }
    world.run(Millis::from_mins(1));
    breaks(&mut world, "a");
    assert_eq!(running(&world), ["b"], "{}", told(&world));
    nothing_is_broken(&world);
}

/// An answer to what an earlier daemon had asked is none to this one's question.
#[test]
fn an_answer_belongs_to_who_asked() {
    let mut world = world(&["b", "a"], "");
    world.machine(&node("b")).disk_stuck = true;
    world.ask(&node("a"), Request::OutOfService { target: "h".into() });
    world.run(Millis(100));
    world.kill(&node("a"));
    world.start(&node("a"));
    world.run(Millis::from_secs(1));
    let id = world.ask(&node("a"), switchover("a"));
    world.run(Millis(100));
    world.unstick_disk(&node("b"));
    world.run(Millis(100));
    let said = format!("{:?}", world.replies.get(&id));
    assert!(said.contains("being taken out of service") && said.contains("Refused"), "{said}\n{}", told(&world));
}

/// O9: the last words of a daemon come after its successor was heard: it is the successor that counts.
#[test]
fn a_late_leave_is_no_leave() {
    let mut world = world(&["a", "b"], "");
    let incarnation = world.machines[&node("a")].node.as_ref().map(|node| node.state().incarnation).expect("it is on");
    world.kill(&node("a"));
    world.start(&node("a"));
    world.run(Millis(50));
    let now = Now { monotonic: world.now(), unix: UnixMs(1_700_000_000_000 + world.now().0) };
    let leave = PeerMessage::Leave { incarnation, hold: Millis::from_mins(10), released: false };
    world.machine(&node("b")).node.as_mut().expect("it is on").handle(Input::Message(node("a"), leave), now);
    world.run(Millis::from_secs(3));
    assert!(!told(&world).contains("left"), "{}", told(&world));
    ask(&mut world, "a", switchover("b")).expect("b sees a, and a sees b");
}

/// The owner is taken off the hierarchy's nodes: what it leaves running is told, and the operator can move it.
#[test]
fn an_owner_that_the_config_drops() {
    let mut world = world(&["a", "b"], "");
    world.kill(&node("a"));
    world.kill(&node("b"));
    let journals = ["a", "b"].map(|name| world.machines[&node(name)].journal.clone());
    let text = config(&["a", "b"], "").replace("nodes = [\"a\", \"b\"]", "nodes = [\"b\"]");
    let mut world = World::new(&text, 1);
    for (name, journal) in ["a", "b"].into_iter().zip(journals) {
        world.machine(&node(name)).journal = journal;
    }
    world.machine(&node("a")).apps.get_mut(&app()).expect("it is there").running = true;
    world.start(&node("a"));
    world.start(&node("b"));
    world.run(Millis::from_mins(1));
    assert_eq!(running(&world), ["a"], "nothing is done without a word");
    assert!(told(&world).contains("nobody looks after it"), "{}", told(&world));
    assert!(alarms(&world, "b").contains("is not among its nodes in the config any more"), "{}", alarms(&world, "b"));
    // Taken out by hand, as a says; then b may have it.
    world.machine(&node("a")).apps.get_mut(&app()).expect("it is there").running = false;
    let status = world.machines[&node("b")].node.as_ref().map(Node::status).expect("it is on");
    let alarm = status.alarms.into_iter().find(|alarm| alarm.confirms.is_some()).expect("it asks for a word");
    let answers = alarm.confirms.expect("it does");
    ask(&mut world, "b", Request::Confirm { alarm: alarm.id, answers }).expect("the operator says so");
    world.run(Millis::from_secs(1));
    assert_eq!(running(&world), ["b"]);
}

/// O10: a confirmation that names the alarm and another claim is none.
#[test]
fn a_confirmation_names_the_claim() {
    let mut world = world(&["a", "b"], "");
    world.power_off(&node("a"));
    world.run(Millis::from_secs(8));
    let status = world.machines[&node("b")].node.as_ref().map(Node::status).expect("it is on");
    let alarm = status.alarms.into_iter().find(|alarm| alarm.confirms.is_some()).expect("it asks for a word");
    for (epoch, claimant) in [(1, "b"), (2, "a")] {
        let answers = ClaimId { epoch: Epoch(epoch), claimant: node(claimant) };
        let said = ask(&mut world, "b", Request::Confirm { alarm: alarm.id.clone(), answers });
        assert!(said.expect_err("another claim").contains("is about epoch 1 of a"));
    }
    assert_eq!(running(&world), [""; 0]);
    let answers = alarm.confirms.expect("it does");
    ask(&mut world, "b", Request::Confirm { alarm: alarm.id, answers }).expect("this one");
    world.run(Millis::from_secs(1));
    assert_eq!(running(&world), ["b"]);
    nothing_is_broken(&world);
}

/// O19: only what could not be removed is named, not what was never tried.
#[test]
fn the_operator_is_told_what_could_not_be_removed() {
    let mut world = world(&["a", "b"], "[hierarchy.h.resource.top]\nkit = \"null\"\ndepends-on = [\"app\"]\n");
    let apps = &mut world.machine(&node("a")).apps;
    apps.get_mut(&app()).expect("it is there").recover = Answer::GivesUp;
    apps.get_mut(&app()).expect("it is there").broken = true;
    apps.get_mut("top").expect("it is there").remove = Answer::Fails;
    world.run(Millis::from_secs(20));
    let alarms = alarms(&world, "a");
    assert!(alarms.contains("h: top could not be taken out of service"), "{alarms}\n{}", told(&world));
}

// An operator's word that the arbiter was not told.

/// `b` has it by a true word, and is cut off from the arbiter.
fn by_an_untold_word() -> World {
    let arbiter = "[arbiter]\netcd = [\"http://127.0.0.1:2379\"]\nlease = \"10s\"\nrenew-interval = \"2s\"\nrequest-timeout = \"1s\"\ntries = 3\n[self-fence]\nby = \"reboot\"\ntakes = \"1s\"\n";
    let text = config(&["a", "b"], "")
        .replace("[hierarchy.h]\n", &format!("{arbiter}[hierarchy.h]\nfailover = \"arbiter\"\n"));
    let mut world = World::new(&text, 1);
    ["a", "b"].iter().for_each(|name| world.start(&node(name)));
    world.run(Millis::from_secs(5));
    world.power_off(&node("a"));
    world.arbiter_ways.entry(node("b")).or_default().cuts = 1;
    world.run(Millis::from_secs(20));
    ask(&mut world, "b", in_service(true)).expect("the operator says so");
    world.run(Millis::from_secs(5));
    assert_eq!(running(&world), ["b"]);
    world
}

fn reaches_the_arbiter(world: &mut World) {
    world.arbiter_ways.entry(node("b")).or_default().cuts = 0;
}

/// O3, O12: it was said to a daemon before. The arbiter has given its permit to another since, rightly.
#[test]
fn an_old_word_is_no_proof_where_another_has_the_permit() {
    let mut world = by_an_untold_word();
    world.power_off(&node("b"));
    reaches_the_arbiter(&mut world);
    world.start(&node("a"));
    world.run(Millis::from_secs(30));
    assert_eq!(running(&world), ["a"]);
    both_ways(&mut world, "a", "b", true);
    world.start(&node("b"));
    world.run(Millis::from_secs(30));
    assert_eq!(running(&world), ["a"]);
    assert!(alarms(&world, "b").contains("a has the arbiter's permit since"), "{}", alarms(&world, "b"));
    nothing_is_broken(&world);
    // They hear each other: the newer claim counts (O1), and goes through the arbiter.
    both_ways(&mut world, "a", "b", false);
    world.run(Millis::from_secs(30));
    assert_eq!(running(&world), ["b"]);
    assert_eq!(world.etcd.permit(world.now(), &h()), Some(node("b")));
    nothing_is_broken(&world);
}

/// O3, O12: where nobody has, the arbiter is told first, and then it is proof.
#[test]
fn an_old_word_is_told_to_the_arbiter_before_it_counts() {
    let mut world = by_an_untold_word();
    world.power_off(&node("b"));
    world.run(Millis::from_secs(1));
    world.start(&node("b"));
    world.run(Millis::from_secs(60));
    assert_eq!(running(&world), [""; 0], "nobody knows who has had it since");
    reaches_the_arbiter(&mut world);
    world.run(Millis::from_secs(10));
    assert_eq!(running(&world), ["b"]);
    assert_eq!(world.etcd.permit(world.now(), &h()), Some(node("b")));
    nothing_is_broken(&world);
}

/// O3, O22: what runs is left alone; what does not is not brought in service, but by another word.
#[test]
fn what_an_old_word_has_brought_in_service_is_left_alone() {
    let mut world = by_an_untold_word();
    world.kill(&node("b"));
    world.start(&node("b"));
    world.run(Millis::from_secs(60));
    assert_eq!(running(&world), ["b"]);
    world.machine(&node("b")).apps.get_mut(&app()).expect("it is there").crash();
    world.run(Millis::from_secs(60));
    assert_eq!(running(&world), [""; 0]);
    ask(&mut world, "b", in_service(true)).expect("the operator says so again");
    world.run(Millis::from_secs(5));
    assert_eq!(running(&world), ["b"]);
    nothing_is_broken(&world);
}

// One node alone, and what it is told.

const START: Now = Now { monotonic: Monotonic(0), unix: UnixMs(1_700_000_000_000) };

fn lone(text: &str, records: &[Record]) -> Node {
    let (spec, diagnostics) = Spec::read("config", text);
    let spec = spec.unwrap_or_else(|| panic!("{:#?}", diagnostics.into_sorted()));
    let config = Config {
        me: node("a"),
        spec,
        config_hash: "same".into(),
        config_parts: std::collections::BTreeMap::new(),
        kits: std::collections::BTreeMap::new(),
        software: "sim".into(),
        boot: "boot".into(),
        damaged: false,
        leftovers: BTreeSet::new(),
        unusable: std::collections::BTreeMap::new(),
        seed: 1,
    };
    Node::new(config, State::replay(records), START)
}

fn outputs(node: &mut Node) -> Vec<Output> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

fn claimed() -> Record {
    let claim = Claim::following(None, node("a"));
    Record::Claimed {
        hierarchy: h(),
        claim,
        cause: Cause::Start,
        tried: BTreeSet::new(),
        failover: None,
        forced: false,
        word: false,
    }
}

/// A tag that only the asking node's config has is not the whole hierarchy.
#[test]
fn a_peer_that_asks_for_what_is_not_there_is_refused() {
    let mut a = lone(&config(&["a", "b"], ""), &[claimed()]);
    outputs(&mut a);
    a.handle(Input::SessionUp(node("b")), START);
    let requests = [
        PeerRequest::OutOfService { hierarchy: h(), tag: Some(Tag::from("new")) },
        PeerRequest::InService { hierarchy: h(), tag: Some(Tag::from("new")) },
    ];
    for request in requests {
        outputs(&mut a);
        a.handle(Input::Message(node("b"), PeerMessage::Ask { id: 1, asker: 1, request }), START);
        let outputs = outputs(&mut a);
        assert!(!outputs.iter().any(|output| matches!(output, Output::Persist(..))), "{outputs:#?}");
        let refused = |output: &Output| matches!(output, Output::Send(_, _, PeerMessage::Answer { result: Err(why), .. }) if why.contains("no resource `new` on a"));
        assert!(outputs.iter().any(refused), "{outputs:#?}");
    }
}

/// Numbers at the end of their range, and more than any node says: no panic, and counting does not begin anew.
#[test]
fn a_peer_that_says_what_no_peer_says() {
    let tell = |claim: Claim, standing: Standing, failovers: Vec<UnixMs>| {
        let mut a = lone(&config(&["a", "b"], ""), &[]);
        let heard = a.state().incarnation;
        let summary = HierarchySummary {
            name: h(),
            ownership: Some(OwnershipSummary { claim: Some(claim), standing, failovers }),
            maintenance: mainstay_core::state::Maintenance::default(),
            declined: None,
            occupied: false,
            offers: true,
            looked: true,
            not_ready: Vec::new(),
            activity: None,
            resources: None,
        };
        let state = PeerState {
            cluster: "c".into(),
            from: node("b"),
            incarnation: u64::MAX,
            version: u64::MAX,
            heard,
            config_hash: "same".into(),
            config_parts: None,
            kits: std::collections::BTreeMap::new(),
            examines: true,
            software: "sim".into(),
            hierarchies: vec![summary],
            alarms: Vec::new(),
        };
        a.handle(Input::SessionUp(node("b")), START);
        a.handle(Input::Message(node("b"), PeerMessage::State(state)), START);
        a.state().hierarchies[&h()].claim.clone()
    };
    let id = |epoch| ClaimId { epoch: Epoch(epoch), claimant: node("b") };
    let offered = || Standing { revision: u32::MAX, kind: StandingKind::Offered(node("a")), ..Standing::default() };
    let claim = tell(Claim { id: id(u64::MAX), lineage: Vec::new() }, offered(), Vec::new());
    assert_eq!(claim.expect("there is one").id.epoch, Epoch(u64::MAX));
    let long = (0..1000).map(id).collect();
    assert_eq!(tell(Claim { id: id(1000), lineage: long }, offered(), Vec::new()), None);
    let failovers = vec![UnixMs(1); 1_000_000];
    assert_eq!(tell(Claim { id: id(1), lineage: Vec::new() }, offered(), failovers), None);
}

/// A peer knows of a newer daemon once: this journal was lost. Knows it of one again: a node name is used twice. It is told
/// once, and the two do not go on outdoing each other.
#[test]
fn a_node_name_used_twice_is_told() {
    let mut a = lone(&config(&["a", "b"], ""), &[]);
    outputs(&mut a);
    a.handle(Input::SessionUp(node("b")), START);
    let mut told = Vec::new();
    for version in 1..20 {
        let state = PeerState {
            cluster: "c".into(),
            from: node("b"),
            incarnation: 1,
            version,
            heard: a.state().incarnation + 1000,
            config_hash: "same".into(),
            config_parts: None,
            kits: std::collections::BTreeMap::new(),
            examines: true,
            software: "sim".into(),
            hierarchies: Vec::new(),
            alarms: Vec::new(),
        };
        a.handle(Input::Message(node("b"), PeerMessage::State(state)), START);
        told.extend(outputs(&mut a));
    }
    let records = told.iter().filter(|output| matches!(output, Output::Persist(..))).count();
    let said =
        |output: &&Output| matches!(output, Output::Report(_, event) if event.to_string().contains("another daemon"));
    assert_eq!((records, told.iter().filter(said).count()), (1, 1), "{told:#?}");
}

/// O17: a resource that the config lets depend on one that the operator has taken out stays out with it.
#[test]
fn a_new_parent_of_what_the_operator_took_out_stays_out() {
    let more = "[hierarchy.h.resource.top]\nkit = \"null\"\ndepends-on = [\"app\"]\n";
    let records = [
        Record::Started { incarnation: 5, boot: "boot".into() },
        Record::Configured { hierarchy: h(), tags: [app()].into() },
        claimed(),
        Record::Wanted { hierarchy: h(), tags: [app()].into(), wanted: false },
    ];
    let mut a = lone(&config(&["a"], more), &records);
    let restores = |output: &Output| matches!(output, Output::CallKit(_, call) if call.operation == Operation::Restore);
    assert!(!outputs(&mut a).iter().any(restores));
    let status = a.status();
    let top = status.hierarchies[0].resources.iter().find(|row| row.tag.as_str() == "top").expect("it is there");
    assert_eq!(top.on[&node("a")].reason, "taken out of service by the operator");
}
