//! What is told of a file that is no kit, or not one for this host. Made from a real kit by adding to it or
//! cutting from it, so that each is refused for one reason.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod common;

use std::path::Path;

use common::House;
use mainstay_runtime::{Limits, LoadError, MANIFEST_SECTION, inspect};
use serde_json::{Value, json};

/// The header of a component, which is an empty component.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

/// `component` with a manifest at its outermost level.
fn with_section(component: &[u8], content: &[u8]) -> Vec<u8> {
    let mut body = leb128(MANIFEST_SECTION.len());
    body.extend_from_slice(MANIFEST_SECTION.as_bytes());
    body.extend_from_slice(content);
    let mut bytes = component.to_vec();
    bytes.push(0);
    bytes.extend_from_slice(&leb128(body.len()));
    bytes.extend_from_slice(&body);
    bytes
}

fn with_manifest(component: &[u8], manifest: &Value) -> Vec<u8> {
    with_section(component, manifest.to_string().as_bytes())
}

fn manifest() -> Value {
    json!({"manifest": 1, "name": "forged", "version": "0.1.0", "description": "d", "licence": "MIT",
        "contract": "^0.1.0", "needs": [], "params": {"type": "object"}})
}

fn null() -> Vec<u8> {
    std::fs::read(mainstay_test_support::kit("null")).unwrap()
}

fn genapp() -> Vec<u8> {
    std::fs::read(mainstay_test_support::kit("genapp")).unwrap()
}

/// The error of a file with these bytes, the same from loading and from inspecting it.
async fn refused(house: &House, bytes: &[u8]) -> LoadError {
    let file = house.path("forged.wasm");
    std::fs::write(&file, bytes).unwrap();
    refused_file(house, &file).await
}

async fn refused_file(house: &House, file: &Path) -> LoadError {
    let error = house.runtime.load(file).await.unwrap_err();
    let inspected = match inspect(file, house.runtime.limits()) {
        Ok(inspection) => inspection.problems.into_iter().next().expect("what is not loaded has a problem"),
        Err(error) => error,
    };
    assert_eq!(inspected.to_string(), error.to_string(), "inspecting and loading agree");
    assert!(error.to_string().contains(file.to_str().unwrap()), "the file is named: {error}");
    error
}

#[tokio::test]
async fn what_is_no_component_is_told_as_what_it_is() {
    let house = House::new();
    let engine = house.runtime.pooled_engine();
    let precompiled = engine.precompile_component(EMPTY).unwrap();
    for (bytes, code, words) in [
        (&b""[..], "not-wasm", "it is empty"),
        (b"\0as", "not-wasm", "too short"),
        (b"#!/bin/sh\nexit 0\n", "not-wasm", "the text"),
        (b"\x7fELF\x02\x01\x01 and so on", "not-wasm", "the bytes"),
        (b"\0asm\x01\0\0\0", "core-module", "wasm-component-ld"),
        (b"\0asm\x0d\0", "invalid", "ends within its header"),
        (b"\0asm\xff\0\x01\0", "invalid", "complete?"),
        (&null()[..null().len() - 100], "invalid", "complete?"),
        (&precompiled, "precompiled", "machine code"),
        (EMPTY, "manifest-missing", "export_kit!"),
    ] {
        let error = refused(&house, bytes).await;
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_without_being_read() {
    let house = House::new();
    let file = house.path("large.wasm");
    std::fs::File::create(&file).unwrap().set_len(200 << 20).unwrap();
    let error = refused_file(&house, &file).await;
    assert!(matches!(error, LoadError::TooLarge { bytes, .. } if bytes == 200 << 20), "{error}");
}

#[tokio::test]
async fn what_is_no_file_is_refused_without_waiting() {
    let house = House::new();
    let fifo = house.path("pipe.wasm");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(refused_file(&house, &fifo).await.code(), "not-a-file");
    let folder = house.path("folder.wasm");
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(refused_file(&house, &folder).await.code(), "not-a-file");
    assert_eq!(refused_file(&house, &house.path("missing.wasm")).await.code(), "unreadable");
}

#[tokio::test]
async fn manifests_that_lie_or_contradict_each_other_are_refused() {
    let house = House::new();
    let with = |field: &str, to: Value| {
        let mut manifest = manifest();
        manifest[field] = to;
        with_manifest(&null(), &manifest)
    };
    let two = with_manifest(&with_manifest(&null(), &manifest()), &json!({"manifest": 1}));
    for (bytes, code, words) in [
        (two, "manifests-differ", "2 manifests"),
        (with_section(&null(), b"{"), "manifest-not-json", "not JSON"),
        (with_section(&null(), &vec![b' '; 70_000]), "manifest-too-large", "70000 bytes"),
        (with("manifest", json!(2)), "manifest-form", "upgrade mainstay"),
        (with("name", json!("../x")), "manifest-invalid", "a-z"),
        (with("contract", json!("^0.2")), "contract", "^0.2"),
        (with("needs", json!([{"interface": "net"}])), "need-without-reason", "`net`"),
        (with("needs", json!([{"interface": "disk", "reason": "x"}])), "need-unknown", "command, net"),
        (with("params", json!({"$ref": "#"})), "schema", "recursive"),
        (with_manifest(EMPTY, &manifest()), "recovery-missing", "it exports nothing"),
        (with_manifest(&genapp(), &manifest()), "undeclared", "mainstay:kit/"),
    ] {
        let error = refused(&house, &bytes).await;
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[tokio::test]
async fn the_outermost_manifest_wins_and_two_that_agree_are_one() {
    let house = House::new();
    let file = house.path("renamed.wasm");
    std::fs::write(&file, with_manifest(&with_manifest(&null(), &manifest()), &manifest())).unwrap();
    assert_eq!(house.load(&file).await.name(), "forged");
}

#[tokio::test]
async fn all_problems_are_told_at_once_by_inspection() {
    let house = House::new();
    let mut manifest = manifest();
    manifest["contract"] = json!("^0.2");
    manifest["needs"] = json!([{"interface": "log"}, {"interface": "disk", "reason": "x"}]);
    let file = house.path("forged.wasm");
    std::fs::write(&file, with_manifest(&genapp(), &manifest)).unwrap();
    let inspection = inspect(&file, &Limits::default()).unwrap();
    let codes: Vec<_> = inspection.problems.iter().map(LoadError::code).collect();
    assert_eq!(codes, ["contract", "need-without-reason", "need-unknown", "undeclared"]);
    assert!(inspection.problems.iter().all(|problem| problem.subject().kit.as_deref() == Some("forged 0.1.0")));
}

#[tokio::test]
async fn inspection_tells_what_is_in_a_kit_without_running_it() {
    let inspection = inspect(&mainstay_test_support::kit("genapp"), &Limits::default()).unwrap();
    assert_eq!(inspection.problems.len(), 0, "{:?}", inspection.problems);
    assert!(inspection.capabilities.contains(&"command".to_owned()));
    assert!(
        inspection.exports.iter().any(|name| name.starts_with("mainstay:kit/recovery@")),
        "{:?}",
        inspection.exports
    );
    assert_eq!(inspection.sha256.len(), 64);
    let manifest = inspection.manifest.as_ref().unwrap();
    assert_eq!((manifest.name.as_str(), manifest.needs("command")), ("genapp", true));
    let json = serde_json::to_value(&inspection).unwrap();
    assert_eq!(json["problems"], json!([]));
}

#[tokio::test]
async fn needs_beyond_the_imports_are_shown_and_do_no_harm() {
    let house = House::new();
    let mut manifest = manifest();
    manifest["needs"] = json!([{"interface": "net", "reason": "one day"}]);
    let file = house.path("forged.wasm");
    std::fs::write(&file, with_manifest(&null(), &manifest)).unwrap();
    assert_eq!(inspect(&file, &Limits::default()).unwrap().unused_needs, ["net"]);
    house.load(&file).await;
}
