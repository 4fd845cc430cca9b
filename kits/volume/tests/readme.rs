//! What the README shows an operator is what the kit takes, and what it says of codes is what the kit says.

use mainstay_kit_volume::{Backend, Volume, VolumeParams};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::{Disk, FakeHost, FakePlace, FakeVolume, exited};
use serde_json::Value;

const README: &str = include_str!("../README.md");

/// The resources of the README's examples.
fn examples() -> Vec<Value> {
    let blocks = README.split("```toml\n").skip(1);
    let config = |block: &str| -> Value {
        let text = block.split("```").next().expect("a block ends");
        toml::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    };
    blocks.map(|block| config(block)["hierarchy"]["mail"]["resource"]["mail-store"].clone()).collect()
}

#[test]
fn every_example_fits_the_schema_and_makes_sense_with_its_grants() {
    let manifest: Value = serde_json::from_str(<Volume as mainstay_sdk::Described>::MANIFEST.as_str()).unwrap();
    let validator = jsonschema::draft202012::options().build(&manifest["params"]).unwrap();
    let examples = examples();
    assert_eq!(examples.len(), 2);
    for resource in examples {
        assert_eq!(resource["kit"], "volume");
        let params = &resource["params"];
        let errors: Vec<_> = validator.iter_errors(params).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{params}: {errors:?}");

        // A world of just what is granted.
        let host = FakeHost::install();
        for name in resource["grants"].get("volume").and_then(Value::as_array).into_iter().flatten() {
            host.volume(name.as_str().unwrap(), FakeVolume::standby());
        }
        for program in resource["grants"].get("command").and_then(Value::as_array).into_iter().flatten() {
            host.program(program.as_str().unwrap(), |request| {
                let said = match request.args[0].as_str() {
                    "role" => "Secondary/Secondary\n",
                    "cstate" => "Connected\n",
                    "dstate" => "UpToDate/UpToDate\n",
                    _ => "",
                };
                mainstay_sdk::command::Completed { stdout: said.into(), ..exited(0) }
            });
        }
        for grant in resource["grants"]["mount"].as_array().unwrap() {
            let (point, device) = match grant.as_str() {
                Some(point) => (point, None),
                None => (grant["point"].as_str().unwrap(), grant["device"].as_str().map(str::to_owned)),
            };
            if let Some(device) = &device {
                host.device(device, Disk::Clean("xfs".into()));
            }
            host.place(point, FakePlace { folder: true, device, ..FakePlace::default() });
        }
        let ctx = host.context::<VolumeParams>(params.clone());
        assert_eq!(Volume::assess(&ctx).unwrap(), [], "{params}");
        if ctx.params.backend == Backend::Mainstay {
            assert!(Volume::restore(&ctx).unwrap().changed);
            assert_eq!(Volume::quick_check(&ctx).unwrap().code, "ok");
        }
    }
}

#[test]
fn every_param_and_every_code_is_in_it() {
    let manifest: Value = serde_json::from_str(<Volume as mainstay_sdk::Described>::MANIFEST.as_str()).unwrap();
    for name in manifest["params"]["properties"].as_object().unwrap().keys() {
        assert!(README.contains(&format!("| `{name}` |")), "the param {name} is not in the README");
    }
    let sources = [include_str!("../src/lib.rs"), include_str!("../src/drbd.rs"), include_str!("../src/engine.rs")];
    let mut codes = 0;
    for begin in [
        "Error::failed(\"",
        "Error::unavailable(\"",
        "Error::conflict(\"",
        "Report::failed(\"",
        "Report::degraded(\"",
        "trouble(\"",
    ] {
        for text in sources.iter().flat_map(|source| source.split("#[cfg(test)]").next().unwrap().split(begin).skip(1))
        {
            let code = text.split('"').next().unwrap();
            codes += 1;
            assert!(README.contains(&format!("`{code}`")), "the code {code} is not in the README");
        }
    }
    assert!(codes > 20, "{codes}");
}
