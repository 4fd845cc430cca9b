//! Params: what an operator writes for a resource, its type in the kit, and its JSON schema.
//!
//! The type is the one truth: serde reads the JSON, and `#[derive(Params)]` makes the schema from the same
//! definition at compile time, so that the host can check a config without running the kit. Whatever the
//! schema accepts, serde accepts; a test holds the two together.

use std::collections::BTreeMap;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};

use crate::{Error, Json};

/// A type with a JSON schema, made at compile time. Derive it beside serde's `Deserialize`.
///
/// By hand it is for a type that checks more than its shape, as [`Span`] does. The schema is an object
/// without a `description` of its own; that goes into [`Params::DESCRIPTION`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something that can be read as params",
    label = "has no JSON schema",
    note = "a struct or enum of the kit's own: #[derive(serde::Deserialize, mainstay_sdk::Params)] on it",
    note = "a length of time: mainstay_sdk::Span instead of std::time::Duration",
    note = "a number: an integer of 8 to 64 bits or f64; a map: BTreeMap<String, _>; a path or an address: String"
)]
pub trait Params {
    /// The schema, without a description at its top.
    const SCHEMA: Json;
    /// What it is, for people.
    const DESCRIPTION: &'static str = "";
    /// Whether it may be missing.
    const OPTIONAL: bool = false;

    /// Reads params from the JSON the host hands over, which it has checked against the schema.
    ///
    /// # Errors
    /// `invalid-params`, code `params`, when they do not fit after all.
    fn read(text: &str) -> Result<Self, Error>
    where
        Self: Sized + DeserializeOwned,
    {
        read(text).map_err(|error| Error::invalid_params("params", format!("the params do not fit the kit: {error}")))
    }
}

/// The params of a kit that has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

impl Params for NoParams {
    const SCHEMA: Json = Json::raw(r#"{"type":"object","properties":{},"additionalProperties":false}"#);

    /// Without a JSON parser, which would be most of the smallest kit.
    fn read(text: &str) -> Result<Self, Error> {
        let inside = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).map(str::trim);
        if inside == Some("") { Ok(Self {}) } else { Err(Error::invalid_params("params", "the kit takes no params")) }
    }
}

impl Params for String {
    const SCHEMA: Json = Json::raw(r#"{"type":"string"}"#);
}

impl Params for bool {
    const SCHEMA: Json = Json::raw(r#"{"type":"boolean"}"#);
}

impl Params for f64 {
    const SCHEMA: Json = Json::raw(r#"{"type":"number"}"#);
}

macro_rules! integers {
    ($($t:ty),*) => { $(
        impl Params for $t {
            const SCHEMA: Json = Json::raw(r#"{"type":"integer","minimum":"#)
                .integer(<$t>::MIN as i128).push(r#","maximum":"#).integer(<$t>::MAX as i128).push("}");
        }
    )* };
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

macro_rules! positive_integers {
    ($($t:ty),*) => { $(
        impl Params for core::num::NonZero<$t> {
            const SCHEMA: Json = Json::raw(r#"{"type":"integer","minimum":1,"maximum":"#).integer(<$t>::MAX as i128).push("}");
        }
    )* };
}
positive_integers!(u8, u16, u32, u64);

impl<T: Params> Params for Option<T> {
    const SCHEMA: Json = T::SCHEMA.nullable();
    const DESCRIPTION: &'static str = T::DESCRIPTION;
    const OPTIONAL: bool = true;
}

impl<T: Params> Params for Box<T> {
    const SCHEMA: Json = T::SCHEMA;
    const DESCRIPTION: &'static str = T::DESCRIPTION;
    const OPTIONAL: bool = T::OPTIONAL;
}

impl<T: Params> Params for Vec<T> {
    const SCHEMA: Json = Json::raw(r#"{"type":"array","items":"#).json(&T::SCHEMA.described(T::DESCRIPTION)).push("}");
}

impl<T: Params> Params for BTreeMap<String, T> {
    const SCHEMA: Json =
        Json::raw(r#"{"type":"object","additionalProperties":"#).json(&T::SCHEMA.described(T::DESCRIPTION)).push("}");
}

/// A length of time as operators write it: a whole number and a unit, `250ms`, `5s`, `10m`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub std::time::Duration);

/// The most digits a [`Span`] has: a number that cannot overflow in ms, whatever the unit.
const SPAN_DIGITS_MAX: usize = 9;

impl Span {
    /// So many ms.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(std::time::Duration::from_millis(ms))
    }

    /// As a [`std::time::Duration`].
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 || digits > SPAN_DIGITS_MAX {
            return None;
        }
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        number.parse::<u64>().ok().map(|number| Self::from_millis(number * factor))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => f.write_str("0s"),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format_args!("{text:?} is no length of time: write 250ms, 5s, 10m or 2h")))
    }
}

impl Params for Span {
    const SCHEMA: Json = Json::raw(r#"{"type":"string","pattern":"^[0-9]{1,9}(ms|s|m|h)$"}"#);
    const DESCRIPTION: &'static str = "A length of time: 250ms, 5s, 10m, 2h.";
}

/// Reads JSON. JSON schema calls 2.0 an integer and serde does not, so whole numbers lose their point first.
/// That it goes by way of a `Value` for all keeps a kit's binary small: the derived code is there once.
fn read<P: DeserializeOwned>(text: &str) -> Result<P, serde_json::Error> {
    let mut value: serde_json::Value = serde_json::from_str(text)?;
    whole_numbers(&mut value);
    P::deserialize(value)
}

/// Writes whole numbers without a point.
fn whole_numbers(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Number(number) => {
            let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) else { return };
            // The casts saturate; the bounds keep out what they would change.
            if float >= 0.0 && float < u64::MAX as f64 {
                *number = (float as u64).into();
            } else if float < 0.0 && float >= i64::MIN as f64 {
                *number = (float as i64).into();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_params_means_none() {
        for none in ["{}", " { \n} "] {
            assert!(NoParams::read(none).is_ok(), "{none}");
        }
        for some in ["", "{", "}", "[]", "null", r#"{"a":1}"#] {
            assert_eq!(NoParams::read(some).unwrap_err().code, "params", "{some}");
        }
    }

    #[test]
    fn spans_read_and_show() {
        let check = |text: &str, ms: Option<u64>| assert_eq!(Span::parse(text), ms.map(Span::from_millis), "{text}");
        check("250ms", Some(250));
        check("5s", Some(5_000));
        check("10m", Some(600_000));
        check("999999999h", Some(999_999_999 * 3_600_000));
        for wrong in ["", "s", "5", "5 s", "-5s", "1000000000h", "5d", "٣s"] {
            check(wrong, None);
        }
        for text in ["0s", "250ms", "5s", "10m", "2h", "90s"] {
            assert_eq!(Span::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn whole_numbers_with_a_point_are_integers() {
        assert_eq!(read::<u8>("2.0").unwrap(), 2);
        assert_eq!(read::<Vec<i32>>("[1, -2.0]").unwrap(), [1, -2]);
        assert!(read::<u8>("2.5").is_err());
        assert!(read::<u8>("256.0").is_err());
        assert!(read::<u8>("1e300").is_err());
        assert!(read::<String>("2.0").is_err());
    }
}
