//! What the README shows an operator is what the kit takes.

use mainstay_kit_dns::{Dns, DnsParams};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::FakeHost;
use serde_json::{Map, Value};

/// Puts the tables of `other` into those of `base`, as the host does; anything else is replaced.
fn merge(base: &mut Map<String, Value>, other: &Map<String, Value>) {
    for (key, value) in other {
        match (base.get_mut(key), value) {
            (Some(Value::Object(base)), Value::Object(other)) => merge(base, other),
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

/// The params of every node of every resource in the README's examples.
fn examples() -> Vec<Value> {
    let mut out = Vec::new();
    for block in include_str!("../README.md").split("```toml\n").skip(1) {
        let text = block.split("```").next().expect("a block ends");
        let config: Value = toml::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        let hierarchies = config["hierarchy"].as_object().expect("hierarchies");
        for resource in
            hierarchies.values().flat_map(|hierarchy| hierarchy["resource"].as_object().expect("resources").values())
        {
            assert_eq!(resource["kit"], "dns");
            for node in resource["params-on"].as_object().expect("nodes").values() {
                let mut params = resource["params"].as_object().expect("params").clone();
                merge(&mut params, node.as_object().expect("params of a node"));
                out.push(Value::Object(params));
            }
        }
    }
    out
}

#[test]
fn every_example_fits_the_schema_and_makes_sense() {
    let manifest: Value = serde_json::from_str(<Dns as mainstay_sdk::Described>::MANIFEST.as_str()).unwrap();
    let validator = jsonschema::draft202012::options().build(&manifest["params"]).unwrap();
    let examples = examples();
    assert_eq!(examples.len(), 4);
    for params in examples {
        let errors: Vec<_> = validator.iter_errors(&params).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{params}: {errors:?}");
        let host = FakeHost::install();
        for server in ["192.0.2.53", "192.0.2.54"] {
            host.udp(server, 53, |_| ());
        }
        // No server answers, but params that make no sense would be told first.
        let error = Dns::quick_check(&host.context::<DnsParams>(params)).unwrap_err();
        assert_eq!(error.code, "no-answer", "{error}");
    }
}
