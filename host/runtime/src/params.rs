//! Params against a kit's schema: is the schema usable, and what is wrong with these params?
//!
//! The schema comes from a kit, so it is bounded before it is used: no recursion, nothing fetched, patterns in
//! an engine whose time grows with the text only. Everything wrong with params is told at once, each with a
//! pointer to the place, words for the person who wrote them, and a hint where one can be given.

mod explain;
mod schema;

use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde::Serialize;
use serde_json::Value;

use crate::limits::Limits;

/// Problems told of one set of params: more would not be read.
const PROBLEMS_MAX: usize = 50;
/// A compiled pattern, in bytes. Patterns are for short things such as names and lengths of time.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// One thing that is wrong with params.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParamsProblem {
    /// Where: a JSON pointer, such as `/restore/timeout`. Empty: the params as a whole.
    pub pointer: String,
    /// What, in a sentence.
    pub message: String,
    /// What may have been meant, or what to write.
    pub hint: Option<String>,
}

impl fmt::Display for ParamsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.pointer.is_empty() { "params" } else { &self.pointer };
        write!(f, "{at}: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A schema that is ready to check params.
pub(crate) struct ParamsSchema {
    schema: Value,
    validator: Validator,
}

impl fmt::Debug for ParamsSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParamsSchema").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl ParamsSchema {
    /// Checks and compiles it; the error says what is wrong with it.
    pub(crate) fn new(schema: &Value, limits: &Limits) -> Result<Self, String> {
        schema::check(schema, limits)?;
        let validator = jsonschema::options()
            .with_draft(jsonschema::Draft::Draft202012)
            .with_pattern_options(
                PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX),
            )
            .build(schema)
            .map_err(|error| {
                let problem = crate::text::one_line(&error.to_string(), 300);
                match error.instance_path().to_string().as_str() {
                    "" => problem,
                    at => format!("at {at}: {problem}"),
                }
            })?;
        Ok(Self { schema: schema.clone(), validator })
    }

    /// Everything that is wrong with `params`.
    pub(crate) fn check(&self, params: &Value) -> Vec<ParamsProblem> {
        let mut problems = Vec::new();
        for error in self.validator.iter_errors(params) {
            explain::explain(&self.schema, &error, &mut problems);
            if problems.len() >= PROBLEMS_MAX {
                break;
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema(schema: &Value) -> Result<ParamsSchema, String> {
        ParamsSchema::new(schema, &Limits::default())
    }

    /// A schema of the shape that the SDK makes.
    fn application() -> ParamsSchema {
        let program = json!({"anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {
                "program": {"type": "string"},
                "timeout": {"type": ["string", "null"], "pattern": "^[0-9]{1,9}(ms|s|m|h)$", "description": "A length of time: 250ms, 5s."},
                "exit-codes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
            }, "required": ["program"], "additionalProperties": false},
        ]});
        schema(&json!({"type": "object", "properties": {
            "restore": program, "remove": program,
            "without-recover": {"enum": ["restart", "give-up"]},
            "records": {"type": "object", "additionalProperties": {"oneOf": [
                {"type": "object", "properties": {"type": {"const": "A"}, "ttl": {"type": "integer"}}, "required": ["type"], "additionalProperties": false},
                {"type": "object", "properties": {"type": {"const": "MX"}, "host": {"type": "string"}}, "required": ["type", "host"], "additionalProperties": false},
            ]}},
        }, "required": ["restore", "remove"], "additionalProperties": false}))
        .unwrap()
    }

    fn said(params: &Value) -> Vec<String> {
        application().check(params).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_params_have_no_problem() {
        let params = json!({"restore": "/opt/a", "remove": {"program": "/opt/b", "timeout": "5s"}});
        assert_eq!(said(&params), [] as [&str; 0]);
    }

    #[test]
    fn all_problems_are_told_at_once_with_place_and_hint() {
        let params =
            json!({"restor": "/opt/a", "remove": {"program": "/opt/b", "timeout": "5 s"}, "without-recover": "giveup"});
        let mut said = said(&params);
        said.sort();
        assert_eq!(
            said,
            [
                "/remove/timeout: is \"5 s\", which does not fit ^[0-9]{1,9}(ms|s|m|h)$; A length of time: 250ms, 5s.",
                "/restor: there is no such param; did you mean `restore`?",
                "/restore: is missing",
                "/without-recover: is \"giveup\", but must be one of \"restart\", \"give-up\"; did you mean \"give-up\"?",
            ]
        );
    }

    #[test]
    fn of_several_forms_the_one_that_was_meant_is_explained() {
        let said = said(&json!({
            "restore": {"programm": "/opt/a"}, "remove": 7,
            "records": {"mail": {"type": "MX", "hots": "a"}, "web": {"type": "mx"}},
        }));
        for expected in [
            "/restore/programm: there is no such param; did you mean `program`?",
            "/restore/program: is missing",
            "/remove: is a whole number, but must be text or a table",
            "/records/mail/hots: there is no such param; did you mean `host`?",
            "/records/mail/host: is missing",
            "/records/web/type: is \"mx\", but must be one of \"A\", \"MX\"; did you mean \"MX\"?",
        ] {
            assert!(said.iter().any(|line| line == expected), "{expected}\nin {said:#?}");
        }
    }

    #[test]
    fn numbers_and_lists_are_explained() {
        let said = said(&json!({"restore": {"program": "/a", "exit-codes": [0, 256, "x", 1.5]}, "remove": "/b"}));
        assert_eq!(
            said,
            [
                "/restore/exit-codes/1: is 256, but may be at most 255",
                "/restore/exit-codes/2: is text, but must be a whole number",
                "/restore/exit-codes/3: is a number, but must be a whole number",
            ]
        );
    }

    #[test]
    fn a_schema_that_costs_too_much_is_refused() {
        let doubling = |levels: usize| {
            let mut defs = serde_json::Map::new();
            for level in 0..levels {
                let next = json!({"$ref": format!("#/$defs/l{}", level + 1)});
                defs.insert(format!("l{level}"), json!({"allOf": [next, next]}));
            }
            defs.insert(format!("l{levels}"), json!({"type": "object"}));
            json!({"$ref": "#/$defs/l0", "$defs": defs})
        };
        let mut deep = json!({"type": "object"});
        for _ in 0..70 {
            deep = json!({"type": "object", "properties": {"a": deep}});
        }
        for (bad, words) in [
            (json!({"$ref": "#"}), "recursive"),
            (json!({"$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"}), "recursive"),
            (doubling(40), "more than 10000"),
            (deep, "nests deeper than 64"),
            (json!({"$ref": "https://example.org/schema.json"}), "only references within"),
            (json!({"$ref": "#/$defs/none"}), "leads nowhere"),
            (json!({"properties": {"a": {"$id": "x"}}}), "`$id`"),
            (json!({"$dynamicRef": "#a"}), "`$dynamicRef`"),
            (json!({"type": "objekt"}), "/type"),
            (json!({"properties": {"a": {"pattern": "(?=x)"}}}), "(?=x)"),
            (json!({"properties": {"a": {"pattern": "((a{200}){200}){200}"}}}), "a{200}"),
            (json!([]), "an object"),
        ] {
            let error = schema(&bad).expect_err(words);
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(schema(&doubling(5)).is_ok());
        let shared = json!({"type": "object", "$defs": {"a": {"type": "string"}}, "properties": {"$ref": {"type": "string"}, "b": {"$ref": "#/$defs/a"}}});
        assert_eq!(schema(&shared).unwrap().check(&json!({"b": 1})).len(), 1, "a param may be called $ref");
    }

    #[test]
    fn a_flood_of_problems_is_cut() {
        let params: serde_json::Map<_, _> = (0..1000).map(|index| (format!("x{index}"), json!(1))).collect();
        assert_eq!(application().check(&Value::Object(params)).len(), PROBLEMS_MAX);
    }
}
