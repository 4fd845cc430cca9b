//! What an operator's word is worth that the arbiter was not told (O3, O12).

use std::collections::{BTreeMap, BTreeSet};

use mainstay_core::arbiter::{ArbiterAnswer, ArbiterEntry, ArbiterRequest, ArbiterView, Permit};
use mainstay_core::claim::{Claim, Epoch};
use mainstay_core::message::OwnershipSummary;
use mainstay_core::names::HierarchyName;
use mainstay_core::node::{Config, Input, Node, Operation, Output, Request, RequestId};
use mainstay_core::spec::Spec;
use mainstay_core::state::{Cause, Record, Standing, State};
use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};

const CONFIG: &str = "cluster = \"c\"
kits = \"/k\"
[arbiter]
etcd = [\"http://127.0.0.1:2379\"]
[self-fence]
by = \"reboot\"
[path.one]
[node.a]
address.one = \"127.0.0.1:7000\"
[node.b]
address.one = \"127.0.0.1:7001\"
[hierarchy.h]
nodes = [\"a\", \"b\"]
failover = \"arbiter\"
[hierarchy.h.resource.app]
kit = \"null\"
";

fn now(ms: u64) -> Now {
    Now { monotonic: Monotonic(ms), unix: UnixMs(1_700_000_000_000 + ms) }
}

fn first() -> Claim {
    Claim::following(None, "b".into())
}

fn second() -> Claim {
    Claim::following(Some(&first()), "a".into())
}

/// A daemon of `a` with these records, whose guardian is there.
fn daemon(records: &[Record]) -> Node {
    let (spec, diagnostics) = Spec::read("config", CONFIG);
    let config = Config {
        me: "a".into(),
        spec: spec.unwrap_or_else(|| panic!("{:#?}", diagnostics.into_sorted())),
        config_hash: "same".into(),
        config_parts: BTreeMap::new(),
        kits: BTreeMap::new(),
        software: "test".into(),
        boot: "boot".into(),
        damaged: false,
        leftovers: BTreeSet::new(),
        unusable: BTreeMap::new(),
        seed: 1,
    };
    let mut node = Node::new(config, State::replay(records), now(0));
    node.handle(Input::Guardian { there: true }, now(0));
    node
}

/// It made its claim on a word, and the arbiter was not told.
fn claimed() -> Record {
    Record::Claimed {
        hierarchy: "h".into(),
        claim: second(),
        cause: Cause::Operator,
        tried: BTreeSet::new(),
        failover: None,
        forced: true,
        word: true,
    }
}

fn outputs(node: &mut Node) -> Vec<Output> {
    std::iter::from_fn(|| node.poll_output()).collect()
}

fn restores(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::CallKit(_, call) if call.operation == Operation::Restore))
}

/// Whether the arbiter was asked for the permit, and whether by force.
fn takes(outputs: &[Output]) -> Option<bool> {
    outputs.iter().find_map(|output| {
        let Output::Arbiter(_, _, ArbiterRequest::Take { force, .. }) = output else { return None };
        Some(*force)
    })
}

/// What the arbiter has: the claim of `b` before, and its permit or not.
fn view(permit: bool) -> ArbiterView {
    let record = OwnershipSummary { claim: Some(first()), standing: Standing::default(), failovers: Vec::new() };
    let permit = permit.then(|| Permit { node: "b".into(), epoch: Epoch(1), ours: false });
    let entry = ArbiterEntry { record: Some(record), version: 7, permit, outdated: BTreeMap::new() };
    ArbiterView { hierarchies: BTreeMap::from([(HierarchyName::from("h"), entry)]) }
}

/// The arbiter answers each renewal like this for so long; what came of it.
fn run(node: &mut Node, from: u64, until: u64, view: &ArbiterView) -> Vec<Output> {
    let mut all = Vec::new();
    for at in (from..until).step_by(100) {
        node.handle(Input::Tick, now(at));
        for output in outputs(node) {
            if let Output::Arbiter(_, id, ArbiterRequest::Renew) = &output {
                let answer = ArbiterAnswer::Renewed { lease: Millis(10_000), view: view.clone() };
                node.handle(Input::Arbiter(*id, answer), now(at));
            }
            all.push(output);
        }
    }
    all
}

#[test]
fn it_is_no_proof_to_a_later_daemon_and_takes_no_permit_away() {
    let mut node = daemon(&[claimed()]);
    let all = run(&mut node, 0, 30_000, &view(true));
    assert_eq!((restores(&all), takes(&all)), (false, None));
    let all = run(&mut node, 30_000, 60_000, &view(false));
    assert_eq!((restores(&all), takes(&all)), (false, Some(false)), "the permit of b has run out");
}

#[test]
fn it_is_proof_to_the_daemon_that_hears_it() {
    let mut node = daemon(&[claimed()]);
    outputs(&mut node);
    node.handle(Input::Request(RequestId(1), Request::InService { target: "h".into(), force: true }), now(100));
    assert!(node.state().hierarchies["h"].forced && restores(&outputs(&mut node)));
    let all = run(&mut node, 200, 10_000, &view(true));
    assert_eq!(takes(&all), Some(true), "whoever has a permit was said to be off");
}
