//! What the README shows an operator is what the kit takes, and what it says of services and codes is what the kit has.

mod world;

use mainstay_kit_exchange::{Exchange, ExchangeParams, Version};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Answer, FakeHost, FakeService};
use serde_json::Value;

const README: &str = include_str!("../README.md");

/// The resources of the README's examples.
fn examples() -> Vec<Value> {
    let blocks = README.split("```toml\n").skip(1).filter(|block| block.starts_with("[hierarchy"));
    let config = |block: &str| -> Value {
        let text = block.split("```").next().expect("a block ends");
        toml::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    };
    blocks.map(|block| config(block)["hierarchy"]["mail"]["resource"]["exchange"].clone()).collect()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().expect("a text"))
}

#[test]
fn every_example_fits_the_schema_and_works_with_its_grants() {
    let manifest: Value = serde_json::from_str(<Exchange as mainstay_sdk::Described>::MANIFEST.as_str()).unwrap();
    let validator = jsonschema::draft202012::options().build(&manifest["params"]).unwrap();
    let examples = examples();
    assert_eq!(examples.len(), 3);
    for resource in examples {
        assert_eq!(resource["kit"], "exchange");
        let params = &resource["params"];
        let errors: Vec<_> = validator.iter_errors(params).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{params}: {errors:?}");

        // A world of just what is granted.
        let host = FakeHost::install();
        for name in texts(&resource["grants"]["service"]) {
            host.service(name, FakeService::stopped());
        }
        for secret in texts(&resource["grants"]["secret"]) {
            host.secret(secret, "secret");
        }
        for address in texts(&resource["grants"]["net"]) {
            let (address, port) = address.rsplit_once(':').unwrap();
            let greeting = match port {
                "25" => "220 here\r\n",
                "110" => "+OK here\r\n",
                "143" | "993" => "* OK here\r\n",
                _ => "",
            };
            let is_web = ["80", "443"].contains(&port);
            let answer = move |_: &mut Vec<u8>| {
                if is_web { Answer::bytes("HTTP/1.1 200 OK\r\n\r\n") } else { Answer::nothing() }
            };
            host.tcp_greeting(address, port.parse().unwrap(), Answer::bytes(greeting), answer);
        }
        let org = world::Org::two(0);
        for program in texts(&resource["grants"]["command"]) {
            assert_eq!(program, world::POWERSHELL);
            world::powershell(&host, &org);
        }
        // What is said to a directory is held in tests/directory; here nobody answers, and that is said.
        let mut params = params.clone();
        if params.get("directory").is_some() {
            let ctx = Context { node: "ex01".into(), ..host.context::<ExchangeParams>(params.clone()) };
            let found = Exchange::assess(&ctx).unwrap();
            assert_eq!((found.len(), found[0].code.as_str()), (1, "no-answer"), "{found:?}");
            params["directory"] = Value::Null;
            host.set_budget(std::time::Duration::from_secs(60));
        }
        let ctx = Context { node: "ex01".into(), ..host.context::<ExchangeParams>(params.clone()) };
        assert_eq!(Exchange::assess(&ctx).unwrap(), [], "{params}");
        assert!(Exchange::restore(&ctx).unwrap().changed, "{params}");
        assert_eq!(Exchange::quick_check(&ctx).unwrap().health, Health::Healthy, "{params}");
        Exchange::remove(&ctx).unwrap();
        for name in texts(&resource["grants"]["service"]) {
            let asked = host
                .calls()
                .into_iter()
                .any(|call| matches!(call, mainstay_sdk::testing::Call::ServiceQuery { name: asked } if asked == name));
            assert!(asked, "{name} is granted in an example, and never used");
        }
    }
}

#[test]
fn every_known_service_is_in_the_table_and_no_other() {
    let table = README.split("## Services").nth(1).and_then(|text| text.split("## Databases").next()).unwrap();
    let named: Vec<&str> =
        table.split('`').skip(1).step_by(2).filter(|name| *name != "protocols" && !name.is_empty()).collect();
    let mut known: Vec<&str> = Vec::new();
    for version in [Version::V2003, Version::V2016, Version::V2019, Version::Se] {
        known.extend(version.services().unwrap().iter().map(|known| known.name));
    }
    for name in &known {
        assert!(named.contains(name), "{name} is not in the README");
    }
    for name in named {
        assert!(known.contains(&name), "{name} is in the README and in no version");
    }
}
