//! The files, one list: what is the matter with each, how it is made, how it is refused.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::LazyLock;

use mainstay_test_hostile::forge::{Contract, MANIFEST, manifest, manifest_with, with_manifest};
use mainstay_test_hostile::surgery::{
    Section, append, append_inside, append_instances, leb128, nested, put_together, take_apart, without_custom,
};
use mainstay_test_support::kit;
use serde_json::json;

/// The smallest kit, as it is shipped.
pub(crate) static NULL: LazyLock<Vec<u8>> = LazyLock::new(|| fs::read(kit("null")).expect("it was just built"));
/// The same, saying nothing about itself.
pub(crate) static MUTE: LazyLock<Vec<u8>> = LazyLock::new(|| without_custom(&NULL, MANIFEST));

/// A file that is refused.
pub(crate) struct Case {
    /// What is the matter with it.
    pub(crate) name: &'static str,
    /// What is in it.
    pub(crate) content: Content,
    /// The kind of refusal.
    pub(crate) code: &'static str,
    /// What it has to say, beside the file's name.
    pub(crate) words: &'static [&'static str],
}

pub(crate) enum Content {
    /// These bytes.
    Bytes(Box<dyn Fn() -> Vec<u8>>),
    /// Makes what is to stand at that path.
    Placed(fn(&Path)),
}

fn case(
    name: &'static str,
    bytes: impl Fn() -> Vec<u8> + 'static,
    code: &'static str,
    words: &'static [&'static str],
) -> Case {
    Case { name, content: Content::Bytes(Box::new(bytes)), code, words }
}

fn placed(name: &'static str, place: fn(&Path), code: &'static str, words: &'static [&'static str]) -> Case {
    Case { name, content: Content::Placed(place), code, words }
}

fn claims(field: &'static str, value: serde_json::Value) -> impl Fn() -> Vec<u8> {
    move || with_manifest(&MUTE, &manifest_with(field, value.clone()))
}

fn world(world: &'static str) -> impl Fn() -> Vec<u8> {
    move || with_manifest(&Contract::real().component(world), &manifest())
}

/// A core module from its text.
pub(crate) fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [no_wasm(), no_component(), manifests(), contradictions(), contracts(), too_much()].into_iter().flatten().collect()
}

/// Nothing that could be a kit.
fn no_wasm() -> Vec<Case> {
    vec![
        case(
            "an empty file",
            Vec::new,
            "not-wasm",
            &["is not WebAssembly", "empty", "a kit is a WebAssembly component"],
        ),
        case("one byte", || vec![0], "not-wasm", &["is not WebAssembly"]),
        case("a script", || b"#!/bin/sh\nrm -rf /\n".to_vec(), "not-wasm", &["is not WebAssembly", "#!/bin/sh"]),
        case(
            "a native program",
            || fs::read("/bin/sh").expect("there is a shell"),
            "not-wasm",
            &["is not WebAssembly"],
        ),
        case("an escape sequence", || b"\x1b[2J\x1b]0;title\x07".to_vec(), "not-wasm", &["is not WebAssembly"]),
        case("random bytes", || noise(1, 100_000), "not-wasm", &["is not WebAssembly"]),
        placed(
            "a folder",
            |path| fs::create_dir(path).expect("it can be made"),
            "not-a-file",
            &["a folder", "regular file"],
        ),
        placed("a pipe", make_pipe, "not-a-file", &["pipe", "regular file"]),
        placed("a device", |path| symlink("/dev/zero", path).expect("it can be made"), "not-a-file", &["device"]),
        placed(
            "a link to nowhere",
            |path| symlink("/nowhere/kit.wasm", path).expect("it can be made"),
            "unreadable",
            &["cannot be read", "No such file"],
        ),
        placed("200 MB", make_large, "too-large", &["209715200 bytes", "67108864", "strip"]),
    ]
}

/// WebAssembly, or nearly, but no component.
fn no_component() -> Vec<Case> {
    vec![
        case("only the magic number", || b"\0asm".to_vec(), "invalid", &["not a valid component", "complete"]),
        case("half of a kit", || NULL[..NULL.len() / 2].to_vec(), "invalid", &["not a valid component", "complete"]),
        case("a kit without its last byte", || NULL[..NULL.len() - 1].to_vec(), "invalid", &["not a valid component"]),
        case("a kit with something after it", || [&NULL[..], b"more"].concat(), "invalid", &["not a valid component"]),
        case(
            "a kit whose sections are noise",
            || [&NULL[..8], &noise(2, 50_000)].concat(),
            "invalid",
            &["not a valid component"],
        ),
        case("a core module", || module("(module)"), "core-module", &["is a core module", "wasm-component-ld"]),
        case(
            "a kit's core module",
            || Contract::real().core_module("export recovery;"),
            "core-module",
            &["is a core module"],
        ),
        case("a component of a later version", || [b"\0asm\x0e\0\x01\0", &NULL[8..]].concat(), "invalid", &["version"]),
        case(
            "precompiled, a component",
            || precompiled(&NULL, true),
            "precompiled",
            &["machine code", "unchecked", ".wasm"],
        ),
        case("precompiled, a module", || precompiled(&module("(module)"), false), "precompiled", &["machine code"]),
        case(
            "10,000 components in each other",
            || nested(10_000),
            "too-complex",
            &["more than 32 levels", "fewer parts"],
        ),
        case(
            "64-bit memory",
            || append_instances(&MUTE, &module("(module (memory i64 1))"), 1),
            "invalid",
            &["memory64"],
        ),
        case(
            "threads",
            || append_instances(&MUTE, &module("(module (memory 1 1 shared))"), 1),
            "invalid",
            &["threads"],
        ),
    ]
}

/// What a kit says about itself is missing or cannot be read.
fn manifests() -> Vec<Case> {
    vec![
        case("no manifest", || MUTE.clone(), "manifest-missing", &[MANIFEST, "export_kit!"]),
        case("two manifests that differ", two_manifests, "manifests-differ", &["2 manifests", "differ", "keep one"]),
        case("a manifest that is no JSON", || manifest_text(b"{\"manifest\": 1"), "manifest-not-json", &["not JSON"]),
        case("a manifest that is no text", || manifest_text(b"\xff\xfe"), "manifest-not-json", &["not JSON"]),
        case("an empty manifest", || manifest_text(b""), "manifest-not-json", &["not JSON"]),
        case("100,000 brackets", || manifest_text("[".repeat(50_000).as_bytes()), "manifest-not-json", &["recursion"]),
        case(
            "a manifest of 100 KB",
            claims("description", json!("x".repeat(100_000))),
            "manifest-too-large",
            &["65536 are allowed", "shorten"],
        ),
        case(
            "a manifest of the next form",
            claims("manifest", json!(2)),
            "manifest-form",
            &["form 2", "upgrade mainstay"],
        ),
        case("a manifest without a name", claims("name", json!(null)), "manifest-invalid", &["correct the kit"]),
        case("a name that is a path", claims("name", json!("../../etc/kit")), "manifest-invalid", &["a-z, 0-9 and -"]),
        case(
            "a name of 1,000 letters",
            claims("name", json!("x".repeat(1000))),
            "manifest-invalid",
            &["64 characters"],
        ),
        case("a name with a line break", claims("name", json!("a\nb")), "manifest-invalid", &["a-z, 0-9 and -"]),
        case(
            "a version that is none",
            claims("version", json!("newest")),
            "manifest-invalid",
            &["`version`", "newest"],
        ),
        case(
            "a need without a reason",
            claims("needs", json!([{ "interface": "net", "reason": "" }])),
            "need-without-reason",
            &["no reason", "`net`", "forged 0.1.0"],
        ),
        case(
            "a need of telepathy",
            claims("needs", json!([{ "interface": "telepathy", "reason": "to know" }])),
            "need-unknown",
            &["`telepathy`", "log, clock, random, command, net, store, secret"],
        ),
        case(
            "a schema that is none",
            claims("params", json!({ "type": "tpyo" })),
            "schema",
            &["schema of its params", "tpyo"],
        ),
        case("a schema that refers to itself", claims("params", endless_schema()), "schema", &["schema of its params"]),
        case(
            "a schema that unfolds to a million",
            claims("params", wide_schema()),
            "schema",
            &["schema of its params"],
        ),
        case("a schema 200 deep", claims("params", deep_schema(200)), "schema", &["schema of its params"]),
        case(
            "a schema elsewhere",
            claims("params", json!({ "$ref": "file:///etc/passwd" })),
            "schema",
            &["schema of its params"],
        ),
    ]
}

/// What a kit says is not what it is.
fn contradictions() -> Vec<Case> {
    vec![
        case(
            "an import that is not declared",
            world("import net; export recovery;"),
            "undeclared",
            &["forged 0.1.0", "imports `mainstay:kit/net@0.1.0`", "does not declare the need `net`", "with a reason"],
        ),
        case(
            "an unknown import of ours",
            telepathy,
            "unknown-import",
            &["`mainstay:kit/telepathy@0.1.0`", "newer mainstay"],
        ),
        case("an unknown import of others", database, "unknown-import", &["`acme:db/query@1.0.0`", "it offers"]),
        case(
            "an import of WASI that is not offered",
            nn,
            "unknown-import",
            &["`wasi:nn/tensor@0.2.0`", "without this part of WASI"],
        ),
        case(
            "no operation exported",
            world("import log;"),
            "recovery-missing",
            &["mainstay:kit/recovery", "exports nothing", "no kit"],
        ),
        case(
            "other things exported",
            || {
                let contract = Contract::real().file("other.wit", "interface other { run: func(); }");
                with_manifest(&contract.component("export other;"), &manifest())
            },
            "recovery-missing",
            &["it exports mainstay:kit/other@0.1.0", "four operations"],
        ),
        case(
            "one operation missing",
            || {
                let contract = Contract::real().replace("  remove: func(ctx: context) -> result<done, error>;\n", "");
                with_manifest(&contract.component("export recovery;"), &manifest())
            },
            "mismatch",
            &["forged 0.1.0", "does not fit the contract 0.1.0", "remove"],
        ),
        case(
            "an operation with other params",
            || {
                let contract = Contract::real().replace("attempt: u32,", "attempt: u64,");
                with_manifest(&contract.component("export recovery;"), &manifest())
            },
            "mismatch",
            &["does not fit the contract 0.1.0", "wit/"],
        ),
        case(
            "a capability with other types",
            || {
                let contract = Contract::real().replace("sleep: func(ms: u32);", "sleep: func(ms: u32) -> u32;");
                let needs = json!([{ "interface": "clock", "reason": "to sleep" }]);
                with_manifest(&contract.component("import clock; export recovery;"), &manifest_with("needs", needs))
            },
            "mismatch",
            &["does not fit the contract 0.1.0", "clock"],
        ),
    ]
}

/// Another version of the contract, in the manifest or in the component.
fn contracts() -> Vec<Case> {
    vec![
        case(
            "made for the next contract",
            newer_contract,
            "contract",
            &["forged 0.1.0", "^0.2.0", "this host serves 0.1.0", "run a host that serves what it wants"],
        ),
        case("claims the next contract", claims("contract", json!("^0.2.0")), "contract", &["^0.2.0", "serves 0.1.0"]),
        case(
            "claims this contract, was made for the next",
            || {
                let component = Contract::real().replace("@0.1.0", "@0.2.0").component("export recovery;");
                with_manifest(&component, &manifest())
            },
            "interface-version",
            &["mainstay:kit/recovery@0.2.0", "serves `mainstay:kit/recovery@0.1.0`", "upgrade mainstay"],
        ),
        case(
            "claims a contract that is none",
            claims("contract", json!("yesterday's")),
            "manifest-invalid",
            &["`contract`"],
        ),
    ]
}

/// More than a call may have, which is seen without a call.
fn too_much() -> Vec<Case> {
    vec![
        case(
            "100 memories",
            || several(&module("(module (memory 1))"), 100),
            "does-not-fit",
            &["forged 0.1.0", "memories", "limit"],
        ),
        case("100 tables", || several(&module("(module (table 1 funcref))"), 100), "does-not-fit", &["tables"]),
        case(
            "1 million functions",
            || several(&many_functions(1_000_000), 1),
            "too-complex",
            &["more than 200000 functions"],
        ),
        // Some 60 kB: how many there are of one type is written as a number.
        case(
            "200 million local variables",
            || several(&many_locals(5_000, 40_000), 1),
            "too-complex",
            &["more than 4000000 local variables"],
        ),
        case("1,000 instances", || several(&module("(module)"), 1_000), "invalid", &["instances", "limit"]),
        case(
            "a memory of 3 GB from the start",
            || several(&module("(module (memory 49152))"), 1),
            "does-not-fit",
            &["memory"],
        ),
        case(
            "a table of 5 million from the start",
            || several(&module("(module (table 5000000 funcref))"), 1),
            "does-not-fit",
            &["table"],
        ),
    ]
}

/// The null kit, under another name, with so many instances of a module more.
pub(crate) fn several(module: &[u8], times: usize) -> Vec<u8> {
    with_manifest(&append_instances(&MUTE, module, times), &manifest())
}

fn many_functions(count: usize) -> Vec<u8> {
    module(&format!("(module {})", "(func)".repeat(count)))
}

/// Put together from one function: as text it would be a gigabyte.
fn many_locals(functions: usize, locals: usize) -> Vec<u8> {
    let one = module(&format!("(module (func (local {})))", "i64 ".repeat(locals)));
    let (header, mut sections) = take_apart(&one);
    for section in &mut sections {
        // Functions (3) and their bodies (10): how many there are, which is 1, and then each of them.
        if matches!(section.kind, 3 | 10) {
            section.content = [leb128(functions), section.content[1..].repeat(functions)].concat();
        }
    }
    put_together(&header, &sections)
}

fn two_manifests() -> Vec<u8> {
    append_inside(&NULL, Section::custom(MANIFEST, manifest().to_string().as_bytes()))
}

fn manifest_text(text: &[u8]) -> Vec<u8> {
    append(&MUTE, Section::custom(MANIFEST, text))
}

fn endless_schema() -> serde_json::Value {
    json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/a" } } })
}

/// Each definition uses the next ten times.
fn wide_schema() -> serde_json::Value {
    let mut definitions = serde_json::Map::new();
    for level in 0..6 {
        let next = json!({ "$ref": format!("#/$defs/level-{}", level + 1) });
        definitions.insert(format!("level-{level}"), json!({ "allOf": vec![next; 10] }));
    }
    definitions.insert("level-6".to_owned(), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/level-0", "$defs": definitions })
}

fn deep_schema(depth: usize) -> serde_json::Value {
    // serde_json reads 128 levels; a schema may nest deeper by references.
    let mut definitions = serde_json::Map::new();
    for level in 0..depth {
        let next = json!({ "$ref": format!("#/$defs/level-{}", level + 1) });
        definitions.insert(format!("level-{level}"), json!({ "type": "object", "properties": { "x": next } }));
    }
    definitions.insert(format!("level-{depth}"), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/level-0", "$defs": definitions })
}

fn telepathy() -> Vec<u8> {
    let contract = Contract::real().file("telepathy.wit", "interface telepathy { know: func() -> string; }");
    with_manifest(&contract.component("import telepathy; export recovery;"), &manifest())
}

fn database() -> Vec<u8> {
    let contract = Contract::real().file("deps/acme/db.wit", "package acme:db@1.0.0; interface query { ask: func(); }");
    with_manifest(&contract.component("import acme:db/query@1.0.0; export recovery;"), &manifest())
}

fn nn() -> Vec<u8> {
    let contract = Contract::real().file("deps/nn/nn.wit", "package wasi:nn@0.2.0; interface tensor { ask: func(); }");
    with_manifest(&contract.component("import wasi:nn/tensor@0.2.0; export recovery;"), &manifest())
}

fn newer_contract() -> Vec<u8> {
    let component = Contract::real().replace("@0.1.0", "@0.2.0").component("export recovery;");
    with_manifest(&component, &manifest_with("contract", json!("^0.2.0")))
}

fn precompiled(wasm: &[u8], component: bool) -> Vec<u8> {
    let engine = wasmtime::Engine::default();
    let compiled = if component { engine.precompile_component(wasm) } else { engine.precompile_module(wasm) };
    compiled.expect("the null kit compiles")
}

fn make_pipe(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe can be made");
}

/// Sparse: the disk is not filled, and reading it would show.
fn make_large(path: &Path) {
    let file = File::create(path).expect("it can be made");
    file.set_len(200 << 20).expect("it can be made long");
}

/// Bytes that look random and are always the same.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    (0..count).map(|_| next(&mut state).to_le_bytes()[7]).collect()
}

/// Knuth's MMIX generator.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state
}
