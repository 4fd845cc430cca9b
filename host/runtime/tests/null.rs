//! The smallest kit, from its file to its answers.

mod common;

use common::{House, call, outcome, report};
use mainstay_runtime::{Failure, Health, Operation, Outcome, Placement, Verdict};
use serde_json::json;

#[tokio::test]
async fn the_null_kit_answers_every_operation() {
    let house = House::new();
    let kit = house.kit("null").await;
    assert_eq!(kit.name(), "null");
    assert_eq!(*kit.placement(), Placement::Pooled);
    assert_eq!(kit.capabilities(), [] as [&str; 0], "{:?}", kit.imports());
    assert_eq!(kit.check_params(&json!({})), []);
    assert_eq!(kit.check_params(&json!({"a": 1}))[0].pointer, "/a");
    let resource = house.resource("nothing", json!({}));
    assert_eq!(kit.check_grants(resource.grants(), None), []);

    let call = |operation| call(operation, "nothing", &json!({}), &resource);
    assert!(matches!(outcome(&kit, call(Operation::Restore)).await, Outcome::Done(done) if !done.changed));
    assert!(matches!(outcome(&kit, call(Operation::Remove)).await, Outcome::Done(done) if !done.changed));
    let report = report(&outcome(&kit, call(Operation::QuickCheck)).await);
    assert_eq!(report.health, Health::Healthy);
    let why = Failure {
        found_by: "quick-check".to_owned(),
        report: Some(report),
        bad_checks: 1,
        details: vec![("a".to_owned(), "b".to_owned())],
    };
    let recovered = outcome(&kit, call(Operation::Recover(why))).await;
    assert!(matches!(&recovered, Outcome::Recovery(result) if result.verdict == Verdict::Recovered), "{recovered:?}");
}

#[tokio::test]
async fn the_second_load_comes_from_the_cache_and_works() {
    let house = House::new();
    assert!(!house.kit("null").await.from_cache());
    let kit = house.kit("null").await;
    assert!(kit.from_cache());
    let resource = house.resource("nothing", json!({}));
    report(&outcome(&kit, call(Operation::QuickCheck, "nothing", &json!({}), &resource)).await);
}

#[tokio::test]
async fn a_cache_that_somebody_altered_is_not_trusted() {
    let house = House::new();
    house.kit("null").await;
    let entry = std::fs::read_dir(house.path("compiled")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&entry).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&entry, bytes).unwrap();
    let kit = house.kit("null").await;
    assert!(!kit.from_cache(), "it was compiled again");
    assert!(house.kit("null").await.from_cache(), "and kept again");
}
