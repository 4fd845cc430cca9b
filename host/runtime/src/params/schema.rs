//! Bounds a kit's schema before anything is compiled from it.
//!
//! It is walked with every reference followed: the walk ends in an error when it meets a reference inside what
//! that reference stands for, when it has come too deep, or when it has seen too much. What passes can be
//! compiled and checked by recursion in bounded time and stack.

use serde_json::Value;

use crate::limits::Limits;

/// Patterns in one schema: each is compiled and kept.
const PATTERNS_MAX: usize = 200;
/// Keywords that change what a reference means, and so would lead this walk astray.
const UNSUPPORTED: [&str; 6] = ["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];

/// Is it a schema that may be compiled? The error says what is wrong.
pub(super) fn check(schema: &Value, limits: &Limits) -> Result<(), String> {
    if !schema.is_object() {
        return Err("it must be an object, such as {\"type\": \"object\"}".to_owned());
    }
    let mut walk = Walk { root: schema, limits, seen: 0, patterns: 0, inside: Vec::new() };
    walk.value(schema, 0)
}

struct Walk<'a> {
    root: &'a Value,
    limits: &'a Limits,
    seen: usize,
    patterns: usize,
    /// The references that are being followed.
    inside: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, value: &'a Value, depth: usize) -> Result<(), String> {
        self.seen += 1;
        if self.seen > self.limits.schema_nodes_max {
            return Err(format!(
                "with every reference followed it has more than {} parts",
                self.limits.schema_nodes_max
            ));
        }
        // Each level of a schema is two of JSON: the keyword and what is under it.
        if depth > 2 * self.limits.schema_depth_max {
            return Err(format!("it nests deeper than {} levels", self.limits.schema_depth_max));
        }
        match value {
            Value::Object(map) => {
                for (key, under) in map {
                    // Under these names there is a schema; as text they are keywords.
                    if let Value::String(text) = under {
                        self.keyword(key, text, depth)?;
                    }
                    self.value(under, depth + 1)?;
                }
                Ok(())
            }
            Value::Array(values) => values.iter().try_for_each(|value| self.value(value, depth + 1)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn keyword(&mut self, key: &str, text: &'a str, depth: usize) -> Result<(), String> {
        if key == "$ref" {
            return self.reference(text, depth);
        }
        if UNSUPPORTED.contains(&key) && !(key == "$id" && depth == 0) {
            return Err(format!("`{key}` is not supported"));
        }
        if key == "pattern" {
            self.patterns += 1;
            if self.patterns > PATTERNS_MAX {
                return Err(format!("it has more than {PATTERNS_MAX} patterns"));
            }
        }
        Ok(())
    }

    fn reference(&mut self, text: &'a str, depth: usize) -> Result<(), String> {
        let shown = crate::text::one_line(text, 100);
        let Some(pointer) = text.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Err(format!(
                "`$ref` is `{shown}`; only references within the schema, such as `#/$defs/name`, are followed"
            ));
        };
        if pointer.contains('%') {
            return Err(format!("`$ref` is `{shown}`; name what it refers to without characters that need `%`"));
        }
        if self.inside.contains(&text) {
            return Err(format!("`{shown}` is recursive; params are of bounded depth"));
        }
        let Some(target) = self.root.pointer(pointer) else {
            return Err(format!("`$ref` is `{shown}`, which leads nowhere"));
        };
        self.inside.push(text);
        self.value(target, depth + 1)?;
        self.inside.pop();
        Ok(())
    }
}
