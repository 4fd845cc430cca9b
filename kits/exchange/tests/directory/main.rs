//! The kit and a directory: what is changed there, and what becomes of every wrong answer.

mod changes;
mod comparing;
mod mutations;
mod operations;
mod server;
mod wrong;

use std::time::Duration;

use mainstay_kit_exchange::directory::{DirectoryParams, Mode, Rehome, Rehomed, StoreName, rehome};
use mainstay_sdk::prelude::*;
use mainstay_sdk::testing::FakeHost;
use serde_json::{Value, json};
use server::{Directory, USER};

const DC1: &str = "dc1.corp.test";
const DC2: &str = "dc2.corp.test";
/// What a call may take: as the host gives.
const BUDGET: Duration = Duration::from_secs(60);

/// A host and a directory with so many recipients, at DC1.
fn world(count: usize) -> (FakeHost, Directory) {
    let host = FakeHost::install();
    let directory = Directory::new(count);
    directory.listen(&host, DC1, 389);
    (host, directory)
}

/// The params of the directory, with more or other ones in their place.
fn params(more: Value) -> DirectoryParams {
    let mut params = json!({ "servers": [DC1], "bind": { "user": USER, "secret": "directory" } });
    for (key, value) in more.as_object().expect("a table") {
        params[key] = value.clone();
    }
    DirectoryParams::read(&params.to_string()).expect("params")
}

/// Away from EX01, to EX02.
fn away() -> Rehome {
    Rehome { from_server: "EX01".into(), to_server: "EX02".into(), stores: Vec::new() }
}

fn back() -> Rehome {
    Rehome { from_server: "EX02".into(), to_server: "EX01".into(), stores: Vec::new() }
}

fn stores(names: &[(&str, &str)]) -> Vec<StoreName> {
    names.iter().map(|(from, to)| StoreName { from: (*from).into(), to: (*to).into() }).collect()
}

#[track_caller]
fn apply(more: Value) -> Rehomed {
    rehome(&params(more), &away(), Mode::Apply).unwrap_or_else(|error| panic!("{error}"))
}

/// What it fails with, within the call's time.
#[track_caller]
fn error(more: Value) -> Error {
    let began = clock::monotonic();
    let error = rehome(&params(more), &away(), Mode::Apply).expect_err("an error");
    assert!(clock::monotonic() - began < BUDGET, "it took longer than the call has: {error}");
    error
}

#[track_caller]
fn is(error: &Error, kind: ErrorKind, code: &str, retry: Retry, effect: Effect) {
    assert_eq!((error.kind, error.code.as_str(), error.retry, error.effect), (kind, code, retry, effect), "{error}");
}

#[track_caller]
fn says(error: &Error, words: &str) {
    assert!(error.message.contains(words), "expected {words:?} in {:?}", error.message);
}
