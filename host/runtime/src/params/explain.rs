//! From a validation error to words for the person who wrote the params.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::{PROBLEMS_MAX, ParamsProblem};
use crate::text;

/// How much of a value is repeated, in bytes.
const VALUE_BYTES_MAX: usize = 60;
/// Values listed as allowed; the rest is left out.
const OPTIONS_MAX: usize = 20;

/// Adds what `error` means to `problems`.
pub(super) fn explain(schema: &Value, error: &ValidationError<'_>, problems: &mut Vec<ParamsProblem>) {
    if problems.len() >= PROBLEMS_MAX {
        return;
    }
    let pointer = error.instance_path().to_string();
    let mut say = |pointer: String, message: String, hint: Option<String>| {
        let problem = ParamsProblem { pointer, message, hint };
        if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = properties(schema, error);
            for key in unexpected {
                let hint = text::nearest(key, known.iter().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?"))
                    .or_else(|| if known.is_empty() { None } else { Some(format!("there are: {}", known.join(", "))) });
                say(under(&pointer, key), "there is no such param".to_owned(), hint);
            }
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let hint = beside(schema, error, "properties").and_then(|all| all.get(name)).and_then(description);
            say(under(&pointer, name), "is missing".to_owned(), hint);
        }
        ValidationErrorKind::Type { kind } => {
            let hint = parent(schema, &error.schema_path().to_string()).and_then(description);
            say(pointer, format!("is {}, but must be {}", type_of(error.instance()), types(kind)), hint);
        }
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().map_or(&[][..], Vec::as_slice);
            say(pointer, one_of(error.instance(), options), near(error.instance(), options));
        }
        ValidationErrorKind::Constant { expected_value } => {
            say(pointer, format!("is {}, but must be {expected_value}", value(error.instance())), None);
        }
        ValidationErrorKind::Maximum { limit } => {
            say(pointer, format!("is {}, but may be at most {limit}", value(error.instance())), None);
        }
        ValidationErrorKind::Minimum { limit } => {
            say(pointer, format!("is {}, but must be at least {limit}", value(error.instance())), None);
        }
        ValidationErrorKind::Pattern { pattern } => {
            let here = parent(schema, &error.schema_path().to_string());
            let hint = here.and_then(description);
            say(pointer, format!("is {}, which does not fit {pattern}", value(error.instance())), hint);
        }
        ValidationErrorKind::MinItems { limit } => {
            say(pointer, format!("has too few entries: at least {limit}"), None);
        }
        ValidationErrorKind::MaxItems { limit } => say(pointer, format!("has too many entries: at most {limit}"), None),
        ValidationErrorKind::MinLength { limit } => {
            say(pointer, format!("is too short: at least {limit} characters"), None)
        }
        ValidationErrorKind::MaxLength { limit } => {
            say(pointer, format!("is too long: at most {limit} characters"), None)
        }
        ValidationErrorKind::UniqueItems => say(pointer, "holds the same entry twice".to_owned(), None),
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            explain_forms(schema, error, context, problems);
        }
        ValidationErrorKind::AdditionalItems { .. }
        | ValidationErrorKind::BacktrackLimitExceeded { .. }
        | ValidationErrorKind::RegexEngineFailure { .. }
        | ValidationErrorKind::Contains
        | ValidationErrorKind::ContentEncoding { .. }
        | ValidationErrorKind::ContentMediaType { .. }
        | ValidationErrorKind::Custom { .. }
        | ValidationErrorKind::ExclusiveMaximum { .. }
        | ValidationErrorKind::ExclusiveMinimum { .. }
        | ValidationErrorKind::FalseSchema
        | ValidationErrorKind::Format { .. }
        | ValidationErrorKind::FromUtf8 { .. }
        | ValidationErrorKind::MaxProperties { .. }
        | ValidationErrorKind::MinProperties { .. }
        | ValidationErrorKind::MultipleOf { .. }
        | ValidationErrorKind::Not { .. }
        | ValidationErrorKind::OneOfMultipleValid { .. }
        | ValidationErrorKind::PropertyNames { .. }
        | ValidationErrorKind::UnevaluatedItems { .. }
        | ValidationErrorKind::Referencing(_) => say(pointer, text::one_line(&error.masked().to_string(), 200), None),
    }
}

/// A value that may have several forms and has none of them: the errors of the form that was meant.
fn explain_forms(
    schema: &Value,
    error: &ValidationError<'_>,
    forms: &[Vec<ValidationError<'static>>],
    problems: &mut Vec<ParamsProblem>,
) {
    let here = error.instance_path().to_string();
    // A form was not meant when the value is of another type, or when a constant in it (its tag) differs.
    let meant = |errors: &&Vec<ValidationError<'static>>| {
        errors.iter().all(|error| {
            let other_type = matches!(error.kind(), ValidationErrorKind::Type { .. });
            let other_tag = matches!(error.kind(), ValidationErrorKind::Constant { .. });
            let at = error.instance_path().to_string();
            !(other_type && at == here || other_tag && depth(&at) <= 1 + depth(&here))
        })
    };
    let mut candidates = forms.iter().filter(meant);
    if let (Some(errors), None) = (candidates.next(), candidates.next()) {
        errors.iter().for_each(|error| explain(schema, error, problems));
        return;
    }
    let (pointer, message, hint) = tags(&here, error.instance(), forms).unwrap_or_else(|| {
        let mut kinds: Vec<String> = Vec::new();
        for error in forms.iter().flatten() {
            if let ValidationErrorKind::Type { kind } = error.kind()
                && error.instance_path().to_string() == here
                && !kinds.contains(&types(kind))
            {
                kinds.push(types(kind));
            }
        }
        let message = if kinds.is_empty() {
            format!("is {}, which fits none of the forms it may have", value(error.instance()))
        } else {
            format!("is {}, but must be {}", type_of(error.instance()), kinds.join(" or "))
        };
        (here.clone(), message, None)
    });
    let problem = ParamsProblem { pointer, message, hint };
    if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// When every form is told apart by a constant at one place: what may stand there.
fn tags(
    here: &str,
    instance: &Value,
    forms: &[Vec<ValidationError<'static>>],
) -> Option<(String, String, Option<String>)> {
    let mut place = None;
    let mut options = Vec::new();
    for errors in forms {
        let (at, expected) = errors.iter().find_map(|error| {
            let ValidationErrorKind::Constant { expected_value } = error.kind() else { return None };
            Some((error.instance_path().to_string(), expected_value.clone()))
        })?;
        if place.get_or_insert_with(|| at.clone()) != &at {
            return None;
        }
        options.push(expected);
    }
    let place = place?;
    let found = instance.pointer(place.strip_prefix(here)?)?;
    Some((place, one_of(found, &options), near(found, &options)))
}

fn depth(pointer: &str) -> usize {
    pointer.matches('/').count()
}

fn one_of(found: &Value, options: &[Value]) -> String {
    let listed: Vec<_> = options.iter().take(OPTIONS_MAX).map(ToString::to_string).collect();
    format!("is {}, but must be one of {}", value(found), text::one_line(&listed.join(", "), 500))
}

fn near(found: &Value, options: &[Value]) -> Option<String> {
    let near = text::nearest(found.as_str()?, options.iter().filter_map(Value::as_str))?;
    Some(format!("did you mean \"{near}\"?"))
}

/// The names of the properties beside the keyword that failed.
fn properties(schema: &Value, error: &ValidationError<'_>) -> Vec<String> {
    beside(schema, error, "properties")
        .and_then(Value::as_object)
        .map_or_else(Vec::new, |all| all.keys().cloned().collect())
}

/// The keyword `name` in the same subschema as the keyword that failed.
fn beside<'a>(schema: &'a Value, error: &ValidationError<'_>, name: &str) -> Option<&'a Value> {
    parent(schema, &error.schema_path().to_string())?.get(name)
}

/// The subschema in which the keyword at `path` stands.
fn parent<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    schema.pointer(path.rsplit_once('/')?.0)
}

fn description(schema: &Value) -> Option<String> {
    schema.get("description")?.as_str().map(|text| text::one_line(text, 300))
}

fn under(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", text::one_line(key, VALUE_BYTES_MAX).replace('~', "~0").replace('/', "~1"))
}

fn value(value: &Value) -> String {
    text::one_line(&value.to_string(), VALUE_BYTES_MAX)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn types(kind: &TypeKind) -> String {
    let one = |kind: JsonType| match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a table",
        JsonType::String => "text",
    };
    match kind {
        TypeKind::Single(kind) => one(*kind).to_owned(),
        // That a value may also be missing need not be said of one that is there.
        TypeKind::Multiple(kinds) => {
            let kinds: Vec<_> = kinds.iter().filter(|kind| *kind != JsonType::Null).map(one).collect();
            kinds.join(" or ")
        }
    }
}
