//! The real house against each of the rules.

use std::sync::LazyLock;

use mainstay_test_tidy::{arrows, docs, graph::Graph, house, house::File, sources};

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| house::files(&house::root()).expect("the repository can be read"));
static GRAPH: LazyLock<Graph> = LazyLock::new(|| Graph::read(&house::root()).unwrap_or_else(|error| panic!("{error}")));

#[track_caller]
fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n  {}\n", problems.join("\n  "));
}

#[test]
fn the_house_is_seen_at_all() {
    assert!(GRAPH.members.contains_key("mainstay-core"), "{:?}", GRAPH.members.keys());
    assert!(GRAPH.reach("mainstay-runtime").contains_key("wasmtime-environ"), "the lock file is followed");
    assert!(FILES.iter().any(|file| file.path == "ARCHITECTURE.md"));
}

#[test]
fn arrows_go_one_way() {
    none(arrows::forbidden(&GRAPH, arrows::ROOMS));
    none(arrows::unused(&GRAPH, arrows::ROOMS));
}

#[test]
fn core_has_no_std() {
    for room in sources::PURE {
        none(sources::core_without_std(&FILES, room));
    }
}

#[test]
fn no_source_file_is_too_long() {
    none(sources::too_long(&FILES));
}

#[test]
fn every_member_takes_the_lints() {
    none(sources::without_lints(&GRAPH, &FILES));
}

#[test]
fn every_kit_has_a_readme() {
    none(sources::kits_without_readme(&GRAPH, &FILES));
}

#[test]
fn nothing_unfinished_is_left_about() {
    none(sources::leftovers(&FILES));
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    none(docs::invariants(&FILES));
}

#[test]
fn every_rule_of_ownership_says_what_holds_it() {
    none(docs::rules_table(&FILES));
}

#[test]
fn every_rule_that_is_cited_is_written_down() {
    none(docs::rules_cited(&FILES));
}

#[test]
fn links_lead_somewhere() {
    let root = house::root();
    none(docs::dead_links(&FILES, |path| root.join(path).exists()));
}
