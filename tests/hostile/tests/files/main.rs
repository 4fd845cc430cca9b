//! Files that are no kit, or not the kit they claim to be.
//!
//! None of them is loaded. Each refusal has its own kind, names the file (and the kit, once it is known), and
//! says what is wrong and what to do. Whatever was tried, the runtime goes on to load a good kit.

mod cases;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use cases::{Case, Content, MUTE, NULL, cases, module, next, several};
use mainstay_runtime::{KitDirectory, Limits, LoadError, Operation, Outcome, inspect};
use mainstay_test_hostile::forge::{Contract, MANIFEST, manifest, manifest_with, with_manifest};
use mainstay_test_hostile::house::{House, resident_bytes};
use mainstay_test_hostile::surgery::{Section, append, append_inside, nested_section};
use mainstay_test_support::kit;
use serde_json::json;

/// The file of a case, by a name that shows up in messages.
fn place(house: &House, index: usize, content: &Content) -> std::path::PathBuf {
    let path = house.kits().join(format!("case-{index}.wasm"));
    match content {
        Content::Bytes(bytes) => fs::write(&path, bytes()).expect("a file can be written"),
        Content::Placed(place) => place(&path),
    }
    path
}

fn check(case: &Case, way: &str, path: &Path, error: &LoadError) -> Result<(), String> {
    let text = error.to_string();
    let file = path.to_str().expect("the test made it");
    let missing: Vec<_> = case.words.iter().chain([&file]).filter(|word| !text.contains(**word)).collect();
    if error.code() == case.code && missing.is_empty() && is_for_a_person(&text) {
        return Ok(());
    }
    Err(format!(
        "{} ({way}):\n  expected {} with {:?}\n  got      {}: {text}\n  missing  {missing:?}",
        case.name,
        case.code,
        case.words,
        error.code()
    ))
}

/// One paragraph of a length that somebody reads, without anything that a terminal would obey.
fn is_for_a_person(text: &str) -> bool {
    text.len() < 2_000 && !text.chars().any(char::is_control)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_with_its_own_kind_and_words() {
    let house = House::new();
    let mut wrong = Vec::new();
    for (index, case) in cases().iter().enumerate() {
        let path = place(&house, index, &case.content);
        match house.runtime().load(&path).await {
            Err(error) => wrong.extend(check(case, "load", &path, &error).err()),
            Ok(_) => wrong.push(format!("{}: was loaded", case.name)),
        }
        // What inspection cannot know is what only the linker and the engine see.
        if matches!(case.code, "mismatch" | "does-not-fit") {
            continue;
        }
        match inspect(&path, &Limits::default()) {
            Err(error) => wrong.extend(check(case, "inspect", &path, &error).err()),
            Ok(inspection) => match inspection.problems.iter().find(|problem| problem.code() == case.code) {
                Some(problem) => wrong.extend(check(case, "inspect", &path, problem).err()),
                None => wrong.push(format!("{} (inspect): {:?}", case.name, inspection.problems)),
            },
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    house.null_still_works().await;
}

/// All of them in one directory, and a good kit among them: the good one is loaded, each other one is told.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_directory_they_do_not_keep_a_good_kit_from_its_work() {
    let house = House::new();
    let cases = cases();
    for (index, case) in cases.iter().enumerate() {
        place(&house, index, &case.content);
    }
    fs::copy(kit("null"), house.kits().join("null.wasm")).expect("a file can be copied");
    let directory = KitDirectory::open(house.runtime().clone(), &house.kits()).await.expect("it can be read");
    let kits = directory.kits();
    assert_eq!(kits.keys().collect::<Vec<_>>(), ["null"]);
    let refused = directory.refused();
    for (index, case) in cases.iter().enumerate() {
        let found = refused.iter().find(|refused| refused.file.ends_with(format!("case-{index}.wasm")));
        let code = found.map(|refused| refused.error.code());
        assert_eq!(code, Some(case.code), "{}", case.name);
    }
    let outcome = house.call(&kits["null"], Operation::QuickCheck, &json!({})).await;
    assert!(matches!(outcome, Outcome::Report(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unusual_but_right_is_loaded() {
    let house = House::new();
    let needs = json!([{ "interface": "net", "reason": "perhaps one day" }]);
    let cases: [(&str, Vec<u8>); 5] = [
        ("declares more than it imports", with_manifest(&MUTE, &manifest_with("needs", needs))),
        ("says the same twice", append_inside(&NULL, manifest_section_of_null())),
        ("says it at the top level", with_manifest(&NULL, &manifest())),
        ("was built for a later patch of the contract", {
            let component = Contract::real().replace("@0.1.0", "@0.1.7").component("export recovery;");
            with_manifest(&component, &manifest())
        }),
        ("has a section that nobody knows", append(&NULL, Section::custom("acme:notes", b"\xff\x00"))),
    ];
    for (name, bytes) in cases {
        let path = house.kits().join("unusual.wasm");
        fs::write(&path, bytes).expect("a file can be written");
        let loaded = house.runtime().load(&path).await;
        assert!(loaded.is_ok(), "{name}: {}", loaded.err().map_or_else(String::new, |error| error.to_string()));
    }
}

fn manifest_section_of_null() -> Section {
    let found = wasmtime::wasmparser::Parser::new(0).parse_all(&NULL).find_map(|payload| match payload {
        Ok(wasmtime::wasmparser::Payload::CustomSection(section)) if section.name() == MANIFEST => {
            Some(section.data().to_vec())
        }
        _ => None,
    });
    Section::custom(MANIFEST, &found.expect("the null kit has a manifest"))
}

#[tokio::test(flavor = "multi_thread")]
async fn inspection_tells_all_problems_at_once() {
    let house = House::new();
    let needs = json!([{ "interface": "telepathy", "reason": "x" }, { "interface": "log", "reason": "" }]);
    let mut claim = manifest_with("needs", needs);
    claim["contract"] = json!("^0.2.0");
    claim["params"] = json!({ "type": "tpyo" });
    let bytes = with_manifest(&Contract::real().component("import net; import secret;"), &claim);
    let path = house.kits().join("all.wasm");
    fs::write(&path, bytes).expect("a file can be written");
    let inspection = inspect(&path, &Limits::default()).expect("it is a component");
    let codes: Vec<_> = inspection.problems.iter().map(LoadError::code).collect();
    for code in ["contract", "need-unknown", "need-without-reason", "schema", "recovery-missing", "undeclared"] {
        assert!(codes.contains(&code), "{code} is not among {codes:?}");
    }
    assert_eq!(codes.iter().filter(|code| **code == "undeclared").count(), 2, "net and secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_file_is_refused_by_its_size_without_being_read() {
    let house = House::new();
    let path = house.kits().join("huge.wasm");
    // Half a TB: reading it would take minutes, and more memory than there is.
    let file = File::create(&path).expect("it can be made");
    file.set_len(1 << 39).expect("it can be made long");
    let before = resident_bytes();
    let began = Instant::now();
    let error = house.runtime().load(&path).await.expect_err("it is too large");
    assert_eq!(error.code(), "too-large");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(resident_bytes() < before + (64 << 20));
}

/// No cut and no flipped byte brings the host down: it is refused, or it is another kit, and then every
/// call of it comes to an end.
#[tokio::test(flavor = "multi_thread")]
async fn no_cut_and_no_flipped_byte_breaks_the_host() {
    const CUTS: usize = 200;
    const FLIPS: usize = 400;
    /// Compiling takes a tenth of a second; enough are tried to meet some that compile.
    const LOADS_MAX: usize = 40;
    let house = House::new();
    let limits = Limits::default();
    let path = house.kits().join("damaged.wasm");
    let mut state = 7;
    let (mut refused, mut loaded) = (0, 0);
    let cuts = (1..CUTS).map(|n| NULL[..NULL.len() * n / CUTS].to_vec());
    let flips = (0..FLIPS).map(|_| {
        let mut bytes = NULL.clone();
        let at = usize::try_from(next(&mut state) >> 33).expect("31 bits") % bytes.len();
        bytes[at] ^= 1 << (next(&mut state) >> 61);
        bytes
    });
    for bytes in cuts.chain(flips) {
        fs::write(&path, &bytes).expect("a file can be written");
        let fine = inspect(&path, &limits).is_ok_and(|inspection| inspection.problems.is_empty());
        if !fine {
            refused += 1;
        } else if loaded < LOADS_MAX {
            let Ok(kit) = house.runtime().load(&path).await else { continue };
            loaded += 1;
            let params = json!({});
            let call = house.call(&kit, Operation::QuickCheck, &params);
            let outcome = tokio::time::timeout(Duration::from_secs(60), call).await;
            assert!(outcome.is_ok(), "a call of a damaged kit did not end: {} bytes", bytes.len());
        }
    }
    assert!(refused > CUTS && loaded > 0, "refused {refused}, loaded {loaded}");
    house.null_still_works().await;
}

/// A kit that holds a component in a component, and so on: what a compiler takes for it grows with the square of
/// the depth, and the deepest of these would take all the memory there is.
#[tokio::test(flavor = "multi_thread")]
async fn depth_costs_neither_memory_nor_time() {
    let house = House::new();
    let before = resident_bytes();
    for (depth, is_loaded) in [(1, true), (20, true), (100, false), (10_000, false), (1_000_000, false)] {
        let path = house.kits().join("deep.wasm");
        fs::write(&path, append(&NULL, nested_section(depth))).expect("a file can be written");
        let began = Instant::now();
        match house.runtime().load(&path).await {
            Ok(kit) => {
                assert!(is_loaded, "{depth} was loaded");
                let outcome = house.call(&kit, Operation::QuickCheck, &json!({})).await;
                assert!(matches!(outcome, Outcome::Report(_)), "{depth}: {outcome:?}");
            }
            Err(error) => {
                assert!(!is_loaded && error.code() == "too-complex", "{depth}: {error}");
                assert!(error.to_string().contains("build the kit from fewer parts"), "{error}");
            }
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{depth}: {:?}", began.elapsed());
    }
    assert!(resident_bytes() < before + (256 << 20), "{} bytes more", resident_bytes() - before);
    house.null_still_works().await;
}

/// The compiler is kept busy by a kit of 7 MB; a check of another kit does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_huge_kit_is_compiled_others_are_checked() {
    let house = House::new();
    let null = house.null().await;
    let mut text = String::from("(module");
    for _ in 0..20_000 {
        text.push_str("(func (param i32) (result i32) local.get 0");
        for _ in 0..40 {
            text.push_str(" i32.const 77777777 i32.mul local.get 0 i32.xor");
        }
        text.push(')');
    }
    text.push(')');
    let path = house.kits().join("heavy.wasm");
    let bytes = several(&module(&text), 1);
    assert!(bytes.len() > 5_000_000 && bytes.len() < 64 << 20, "{} bytes", bytes.len());
    fs::write(&path, bytes).expect("a file can be written");

    let runtime = house.runtime().clone();
    let load = tokio::spawn(async move { runtime.load(&path).await.map(|_| ()) });
    let (mut checks, mut slowest) = (0, Duration::ZERO);
    while !load.is_finished() {
        let began = Instant::now();
        let outcome = house.call(&null, Operation::QuickCheck, &json!({})).await;
        slowest = slowest.max(began.elapsed());
        assert!(matches!(outcome, Outcome::Report(_)), "{outcome:?}");
        checks += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    load.await.expect("the runtime does not panic").expect("it is heavy, not wrong");
    eprintln!("{checks} checks while it compiled, the slowest took {slowest:?}");
    assert!(checks >= 10, "{checks} checks");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}
