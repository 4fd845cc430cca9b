//! A kit's params in words, from their JSON schema: what `mainstay kit inspect` shows of them.

use serde_json::Value;

/// Deeper nested params are left to the schema itself (`--json`).
const DEPTH_MAX: usize = 6;

/// A line for every param, those within others too: its path, its type, whether it has to be there, what it is.
pub(crate) fn lines(schema: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    within(schema, "", 0, &mut lines);
    lines
}

fn within(schema: &Value, path: &str, depth: usize, lines: &mut Vec<String>) {
    if depth == DEPTH_MAX {
        return;
    }
    for form in forms(schema) {
        let required: Vec<&str> = form["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, param) in form["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            push(lines, line(&path, param, required.contains(&name.as_str())));
            within(param, &path, depth + 1, lines);
        }
        for (inner, path) in
            [(&form["items"], format!("{path}[]")), (&form["additionalProperties"], format!("{path}.NAME"))]
        {
            if inner.is_object() {
                within(inner, &path, depth + 1, lines);
            }
        }
    }
}

/// The schema itself, and what it may be instead.
fn forms(schema: &Value) -> impl Iterator<Item = &Value> {
    let others = ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    std::iter::once(schema).chain(others)
}

/// Forms that share a param say it once.
fn push(lines: &mut Vec<String>, line: String) {
    if !lines.contains(&line) {
        lines.push(line);
    }
}

fn line(path: &str, param: &Value, required: bool) -> String {
    let kind = kind(param);
    let kind = if kind.is_empty() { String::new() } else { format!(" {kind}") };
    let must = match (&param["default"], required) {
        (_, true) => ", required".to_owned(),
        (Value::Null, false) => String::new(),
        (default, false) => format!(", default {default}"),
    };
    let description = param["description"].as_str().unwrap_or("").replace('\n', " ");
    format!("{path}{kind}{must}: {description}").trim_end_matches([' ', ':']).to_owned()
}

fn kind(param: &Value) -> String {
    if let Some(options) = param["enum"].as_array() {
        return options.iter().filter(|option| !option.is_null()).map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if !param["const"].is_null() {
        return param["const"].to_string();
    }
    let names: Vec<&str> = match &param["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    };
    if names.is_empty() {
        let mut kinds: Vec<String> = forms(param).skip(1).map(kind).filter(|kind| !kind.is_empty()).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    let words = names.into_iter().map(|name| match name {
        "array" => {
            format!("list of {}", Some(kind(&param["items"])).filter(|it| !it.is_empty()).unwrap_or("values".into()))
        }
        "object" => "table".to_owned(),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    });
    words.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_param_has_a_line_with_its_path_and_type() {
        let schema = json!({
            "type": "object",
            "required": ["endpoints"],
            "properties": {
                "endpoints": {
                    "type": "array",
                    "description": "Where it\nlistens.",
                    "items": {
                        "type": "object",
                        "required": ["port"],
                        "properties": { "port": { "type": "integer" }, "tls": { "type": ["boolean", "null"], "default": false } }
                    }
                },
                "records": { "type": "object", "additionalProperties": { "properties": { "ttl": { "type": "integer" } } } },
                "login": {
                    "description": "How.",
                    "oneOf": [
                        { "type": "object", "required": ["kind"], "properties": { "kind": { "const": "none" } } },
                        { "type": "object", "required": ["kind"], "properties": { "kind": { "const": "token" }, "secret": { "type": "string" } } }
                    ]
                },
                "slow": { "enum": ["ok", "degraded"] },
                "names": { "type": ["array", "null"], "items": { "type": "string" } }
            }
        });
        let expected = [
            "endpoints list of table, required: Where it listens.",
            "endpoints[].port integer, required",
            "endpoints[].tls true or false, default false",
            "login table: How.",
            "login.kind \"none\", required",
            "login.kind \"token\", required",
            "login.secret text",
            "names list of text",
            "records table",
            "records.NAME.ttl integer",
            "slow \"ok\" | \"degraded\"",
        ];
        let mut lines = lines(&schema);
        lines.sort();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_schema_without_params_or_without_an_end_is_no_trouble() {
        assert_eq!(lines(&json!({ "type": "object" })), [""; 0]);
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({ "properties": { "x": deep } });
        }
        assert_eq!(lines(&deep).len(), DEPTH_MAX);
    }
}
