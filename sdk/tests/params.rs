//! Holds `#[derive(Params)]` and serde together: one type, one meaning.
//!
//! For each type and many JSON values, near misses above all: what the schema accepts, the kit reads; and
//! what the kit reads, the schema accepts. The second has two exceptions, where serde is laxer than anyone
//! writes: it also takes an object's fields by position from an array, and a plain enum's name as an object
//! with a null in it.

#![allow(dead_code, reason = "the types are read, their fields are not looked at")]

use std::collections::BTreeMap;

use mainstay_sdk::{NoParams, Params, Span};
use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A server to ask.
#[derive(Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Server {
    /// Where it listens.
    host_name: String,
    port: u16,
    #[serde(default)]
    weight: i8,
}

#[derive(Debug, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
enum Without {
    /// Remove, then restore.
    Restart,
    GiveUp,
    #[serde(rename = "ASK")]
    AskSomeone,
}

#[derive(Debug, Deserialize, Params)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "snake_case", rename_all_fields = "camelCase")]
enum Record {
    /// An address.
    PlainAddress {
        ip_address: String,
        ttl: Option<u32>,
    },
    #[serde(rename = "MX", rename_all = "SCREAMING-KEBAB-CASE")]
    Mail {
        mail_host: String,
        #[serde(default)]
        priority: u16,
    },
    Nothing {},
}

#[derive(Debug, Deserialize, Params)]
#[serde(untagged, deny_unknown_fields)]
enum Program {
    Path(String),
    Full(Full),
    #[serde(rename_all = "UPPERCASE")]
    Inline {
        path: String,
        r#type: bool,
    },
}

#[derive(Debug, Deserialize, Params)]
#[serde(deny_unknown_fields)]
struct Full {
    program: String,
    args: Option<Vec<String>>,
}

/// A number that is never zero.
#[derive(Debug, Deserialize, Params)]
struct Count(core::num::NonZero<u8>);

#[derive(Debug, Deserialize, Params)]
struct MaybeCount(Option<Count>);

/// Everything at once.
#[derive(Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Everything {
    some_text: String,
    #[serde(rename = "Yes")]
    flag: bool,
    big: u64,
    small: i64,
    ratio: f64,
    servers: Vec<Server>,
    by_name: BTreeMap<String, Server>,
    maybe: Option<Without>,
    span: Option<Span>,
    count: Count,
    maybe_count: Option<Count>,
    boxed: Box<Record>,
    #[serde(default = "fifty")]
    fifty: u8,
    nested: Vec<Option<Vec<u8>>>,
    maybe_program: Option<Program>,
}

fn fifty() -> u8 {
    50
}

/// All of it may be missing.
#[derive(Debug, Default, Deserialize, Params)]
#[serde(deny_unknown_fields, default, rename_all = "SCREAMING_SNAKE_CASE")]
struct Defaults {
    first_one: String,
    second: u8,
}

#[derive(Debug, Deserialize, Params)]
#[serde(deny_unknown_fields)]
struct Cases {
    pascal: PascalCase,
    lower: LowerCase,
}

#[derive(Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PascalCase {
    two_words_1: bool,
}

#[derive(Debug, Deserialize, Params)]
#[serde(rename_all = "lowercase")]
enum LowerCase {
    TwoWords,
    #[allow(clippy::upper_case_acronyms, reason = "it is what is tested")]
    ABC,
}

fn schema<P: Params>() -> Value {
    serde_json::from_str(P::SCHEMA.described(P::DESCRIPTION).as_str()).expect("a schema is JSON")
}

fn validator<P: Params>() -> jsonschema::Validator {
    jsonschema::draft202012::options().build(&schema::<P>()).expect("a schema is one")
}

/// Checks one value; says whether it was accepted.
fn agree<P: Params + DeserializeOwned>(validator: &jsonschema::Validator, value: &Value, lax: bool) -> bool {
    let by_schema = validator.is_valid(value);
    let by_serde = P::read(&value.to_string());
    match (by_schema, &by_serde) {
        (true, Err(error)) => panic!("the schema accepts, serde refuses ({error}): {value}"),
        (false, Ok(_)) if !lax => panic!("serde accepts, the schema refuses: {value}"),
        _ => {}
    }
    by_schema
}

fn check<P: Params + DeserializeOwned>(accepted: &[Value], refused: &[Value]) {
    let validator = validator::<P>();
    for value in accepted {
        assert!(agree::<P>(&validator, value, false), "should be accepted: {value}");
    }
    for value in refused {
        assert!(!agree::<P>(&validator, value, false), "should be refused: {value}");
    }
}

fn everything() -> Value {
    json!({
        "someText": "text", "Yes": true, "big": u64::MAX, "small": i64::MIN, "ratio": 0.5,
        "servers": [{"host-name": "a", "port": 53}, {"host-name": "b", "port": 65535, "weight": -128}],
        "byName": {"one": {"host-name": "c", "port": 0}}, "maybe": "give-up", "span": "5s",
        "count": 1, "maybeCount": 2, "boxed": {"kind": "MX", "MAIL-HOST": "m", "PRIORITY": 10}, "fifty": 51, "nested": [null, [1, 2]],
        "maybeProgram": {"program": "/bin/true", "args": ["x"]},
    })
}

#[test]
fn structs() {
    check::<Server>(
        &[json!({"host-name": "a", "port": 53}), json!({"host-name": "a", "port": 53.0, "weight": -3})],
        &[
            json!({"host-name": "a"}),
            json!({"host-name": "a", "port": 65536}),
            json!({"host-name": "a", "port": -1}),
            json!({"host-name": "a", "port": "53"}),
            json!({"host-name": "a", "port": 5.5}),
            json!({"host_name": "a", "port": 53}),
            json!({"host-name": "a", "port": 53, "more": 1}),
            json!({"host-name": null, "port": 53}),
            json!("a"),
            json!(null),
        ],
    );
    check::<NoParams>(&[json!({})], &[json!({"a": 1}), json!([]), json!(null)]);
    check::<Defaults>(
        &[json!({}), json!({"FIRST_ONE": "", "SECOND": 3})],
        &[json!({"first_one": ""}), json!({"SECOND": null})],
    );
    check::<Cases>(
        &[
            json!({"pascal": {"TwoWords1": true}, "lower": "twowords"}),
            json!({"pascal": {"TwoWords1": true}, "lower": "abc"}),
        ],
        &[
            json!({"pascal": {"two_words_1": true}, "lower": "twowords"}),
            json!({"pascal": {"TwoWords1": true}, "lower": "a-b-c"}),
        ],
    );
}

#[test]
fn enums() {
    check::<Without>(
        &[json!("restart"), json!("give-up"), json!("ASK")],
        &[json!("GiveUp"), json!("ask-someone"), json!(0), json!(null)],
    );
    check::<Option<Without>>(&[json!("restart"), json!(null)], &[json!("x")]);
    check::<Record>(
        &[
            json!({"kind": "plain_address", "ipAddress": "a"}),
            json!({"kind": "plain_address", "ipAddress": "a", "ttl": null}),
            json!({"kind": "MX", "MAIL-HOST": "m"}),
            json!({"kind": "nothing"}),
        ],
        &[
            json!({"kind": "plain_address"}),
            json!({"kind": "plain_address", "ipAddress": "a", "more": 1}),
            json!({"kind": "MX", "mailHost": "m"}),
            json!({"kind": "nothing", "more": 1}),
            json!({"kind": "other"}),
            json!({"ipAddress": "a"}),
            json!("nothing"),
        ],
    );
    check::<Program>(
        &[
            json!("/bin/true"),
            json!({"program": "p"}),
            json!({"program": "p", "args": []}),
            json!({"PATH": "p", "TYPE": true}),
        ],
        &[json!({"program": "p", "more": 1}), json!({"PATH": "p"}), json!(1), json!({})],
    );
}

#[test]
fn numbers_lists_and_maps() {
    check::<u8>(&[json!(0), json!(255), json!(7.0)], &[json!(256), json!(-1), json!(0.5), json!("1")]);
    check::<u64>(&[json!(u64::MAX)], &[json!(18_446_744_073_709_551_616.0), json!(-1), json!(1e300)]);
    check::<i64>(&[json!(i64::MIN), json!(i64::MAX)], &[json!(9_223_372_036_854_775_808_u64), json!(-1e300)]);
    check::<f64>(&[json!(1), json!(-0.5), json!(1e300), json!(u64::MAX)], &[json!("1"), json!(null)]);
    check::<Count>(&[json!(1)], &[json!(0), json!(256)]);
    check::<MaybeCount>(&[json!(1), json!(null)], &[json!(0)]);
    check::<Vec<Option<u8>>>(&[json!([]), json!([1, null])], &[json!([256]), json!({}), json!(null)]);
    check::<BTreeMap<String, bool>>(&[json!({}), json!({"any key": true})], &[json!({"a": 1}), json!([])]);
    check::<Span>(
        &[json!("0s"), json!("999999999h")],
        &[json!("5"), json!("5 s"), json!("1000000000s"), json!("5s\n"), json!("٣s"), json!(5)],
    );
}

#[test]
fn missing_options_and_defaults_are_fine_and_nothing_else_is() {
    let whole = everything();
    let validator = validator::<Everything>();
    assert!(agree::<Everything>(&validator, &whole, false));
    for key in whole.as_object().unwrap().keys() {
        let mut partial = whole.clone();
        partial.as_object_mut().unwrap().remove(key);
        let may_miss = ["maybe", "span", "maybeCount", "fifty", "maybeProgram"].contains(&key.as_str());
        assert_eq!(agree::<Everything>(&validator, &partial, false), may_miss, "without {key}");
    }
}

#[test]
fn descriptions_come_from_doc_comments() {
    let schema = schema::<Everything>();
    assert_eq!(schema["description"], "Everything at once.");
    let property = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("no {path} in {schema}")).clone();
    assert_eq!(property("/properties/servers/items/description"), "A server to ask.");
    assert_eq!(property("/properties/servers/items/properties/host-name/description"), "Where it listens.");
    assert_eq!(property("/properties/maybe/description"), "restart: Remove, then restore.");
    assert_eq!(property("/properties/count/description"), "A number that is never zero.");
    assert_eq!(property("/properties/boxed/oneOf/0/description"), "An address.");
    assert_eq!(
        property("/properties/maybe"),
        json!({"enum": [null, "restart", "give-up", "ASK"], "description": "restart: Remove, then restore."})
    );
}

/// Near misses: a valid value with one thing changed somewhere.
fn mutate(value: &mut Value, path: &mut dyn FnMut() -> usize) {
    let atoms = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(2.0),
        json!(0.5),
        json!(256),
        json!(65536),
        json!(1e300),
        json!(""),
        json!("restart"),
        json!("5s"),
        json!("nothing"),
        json!([]),
        json!({}),
        json!({"kind": "nothing"}),
        json!({"program": "p"}),
    ];
    let atom = atoms[path() % atoms.len()].clone();
    match value {
        Value::Object(map) if !map.is_empty() && !path().is_multiple_of(4) => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = &keys[path() % keys.len()];
            match path() % 5 {
                0 => {
                    map.remove(key);
                }
                1 => {
                    map.insert(["extra", "kind", "port", "ttl"][path() % 4].to_owned(), atom);
                }
                _ => {
                    if let Some(inner) = map.get_mut(key) {
                        mutate(inner, path);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() && !path().is_multiple_of(4) => {
            let index = path() % items.len();
            mutate(&mut items[index], path);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            *value = atom
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn near_misses_agree(choices in proptest::collection::vec(any::<u16>(), 40), changes in 1..4) {
        thread_local! { static VALIDATOR: jsonschema::Validator = validator::<Everything>(); }
        let mut choices = choices.into_iter().cycle();
        let mut value = everything();
        for _ in 0..changes {
            mutate(&mut value, &mut || usize::from(choices.next().unwrap_or(0)));
        }
        VALIDATOR.with(|validator| agree::<Everything>(validator, &value, false));
    }
}

#[test]
fn where_serde_is_laxer_than_the_schema() {
    check_lax::<Server>(&json!(["a", 53, 0]));
    check_lax::<Without>(&json!({"restart": null}));
}

fn check_lax<P: Params + DeserializeOwned>(value: &Value) {
    assert!(!agree::<P>(&validator::<P>(), value, true), "the schema is strict about {value}");
    assert!(P::read(&value.to_string()).is_ok(), "serde is not lax any more: drop this case ({value})");
}
