//! Reading a TOML table key by key, so that whatever is not asked for is found to be unknown.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostics, Offset, did_you_mean};
use crate::time::Millis;

pub(super) type Entry<'a> = Spanned<DeValue<'a>>;

/// A table being read. What is left unread when it is finished is unknown to mainstay, and said to be.
pub(super) struct Table<'a, 'd> {
    /// As a person would name it: `[hierarchy.mail]`.
    pub(super) name: String,
    /// Where it begins.
    pub(super) at: Offset,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
    diagnostics: &'d RefCell<Diagnostics>,
}

/// A whole number's limits, and what it counts.
pub(super) struct Range {
    pub(super) least: u32,
    pub(super) most: u32,
}

/// A length of time's limits, and why they are what they are.
pub(super) struct Lengths {
    pub(super) least: Millis,
    pub(super) most: Millis,
    pub(super) why: &'static str,
}

impl<'a, 'd> Table<'a, 'd> {
    pub(super) fn new(
        name: impl Into<String>,
        at: Offset,
        table: &'a DeTable<'a>,
        diagnostics: &'d RefCell<Diagnostics>,
    ) -> Self {
        Self { name: name.into(), at, table, asked: RefCell::default(), diagnostics }
    }

    pub(super) fn error(&self, at: Offset, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.diagnostics.borrow_mut().error(at, message, hint);
    }

    pub(super) fn warning(&self, at: Offset, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.diagnostics.borrow_mut().warning(at, message, hint);
    }

    /// The collected problems, for what is read without a table of its own.
    pub(super) fn shared(&self) -> &'d RefCell<Diagnostics> {
        self.diagnostics
    }

    /// What `key` holds.
    pub(super) fn get(&self, key: &'static str) -> Option<&'a Entry<'a>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    /// What `key` holds; an error when it is not there.
    pub(super) fn need(&self, key: &'static str, hint: &str) -> Option<&'a Entry<'a>> {
        let entry = self.get(key);
        if entry.is_none() {
            self.error(self.at, format!("{} has no `{key}`", self.name), hint.to_owned());
        }
        entry
    }

    fn wrong_type(&self, key: &str, entry: &Entry<'_>, wanted: &str) {
        let is = entry.get_ref().type_str();
        self.error(entry.span().start, format!("`{key}` in {} is of type {is}", self.name), format!("write {wanted}"));
    }

    pub(super) fn text(&self, key: &'static str, entry: Option<&'a Entry<'a>>) -> Option<(&'a str, Offset)> {
        let entry = entry?;
        let text = entry.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(key, entry, &format!("a text: {key} = \"...\""));
        }
        text.map(|text| (text, entry.span().start))
    }

    pub(super) fn flag(&self, key: &'static str) -> bool {
        let Some(entry) = self.get(key) else { return false };
        entry.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, entry, "true or false");
            false
        })
    }

    pub(super) fn number(&self, key: &'static str, default: u32, range: &Range) -> u32 {
        let Some(entry) = self.get(key) else { return default };
        let Some(number) = integer(entry.get_ref()) else {
            self.wrong_type(key, entry, "a whole number");
            return default;
        };
        match u32::try_from(number).ok().filter(|number| (range.least..=range.most).contains(number)) {
            Some(number) => number,
            None => {
                let message = format!("`{key} = {number}` in {} is out of range", self.name);
                self.error(entry.span().start, message, format!("write {} to {}", range.least, range.most));
                default
            }
        }
    }

    pub(super) fn length(&self, key: &'static str, default: Millis, lengths: &Lengths) -> Millis {
        let Some((text, at)) = self.text(key, self.get(key)) else { return default };
        let Some(length) = Millis::parse(text) else {
            let message = format!("`{key} = \"{text}\"` in {} is no length of time", self.name);
            self.error(at, message, "write a whole number and a unit: 250ms, 5s, 10m, 2h".to_owned());
            return default;
        };
        if length < lengths.least || length > lengths.most {
            let message = format!("`{key} = \"{text}\"` in {} makes no sense: {}", self.name, lengths.why);
            self.error(at, message, format!("write {} to {}", lengths.least, lengths.most));
            return default;
        }
        length
    }

    /// A length that need not be said, and where it stands.
    pub(super) fn optional_length(&self, key: &'static str, lengths: &Lengths) -> Option<(Millis, Offset)> {
        let at = self.table.get(key).map(|entry| entry.span().start);
        // Asked for in any case, so that it is known here.
        let length = self.length(key, lengths.least, lengths);
        at.map(|at| (length, at))
    }

    /// A list of texts, each with its place.
    pub(super) fn texts(&self, key: &'static str) -> Vec<(&'a str, Offset)> {
        self.list(key)
            .into_iter()
            .filter_map(|entry| {
                let text = entry.get_ref().as_str();
                if text.is_none() {
                    self.wrong_type(key, entry, &format!("a list of texts: {key} = [\"...\"]"));
                }
                text.map(|text| (text, entry.span().start))
            })
            .collect()
    }

    pub(super) fn list(&self, key: &'static str) -> Vec<&'a Entry<'a>> {
        let Some(entry) = self.get(key) else { return Vec::new() };
        match entry.get_ref().as_array() {
            Some(array) => array.iter().collect(),
            None => {
                self.wrong_type(key, entry, "a list: [ ... ]");
                Vec::new()
            }
        }
    }

    /// A table within it; an empty one when it is not there.
    pub(super) fn table(&self, key: &'static str, name: impl Into<String>) -> Option<Table<'a, 'd>> {
        let entry = self.get(key)?;
        self.as_table(key, entry, name)
    }

    pub(super) fn as_table(&self, key: &str, entry: &'a Entry<'a>, name: impl Into<String>) -> Option<Table<'a, 'd>> {
        match entry.get_ref().as_table() {
            Some(table) => Some(Table::new(name, entry.span().start, table, self.diagnostics)),
            None => {
                self.wrong_type(key, entry, "a table");
                None
            }
        }
    }

    /// Everything in it, whatever the keys: name, the name's place, value.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Offset, &'a Entry<'a>)> {
        self.table.iter().map(|(key, entry)| (key.get_ref().as_ref(), key.span().start, entry))
    }

    /// Says what was never asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for (key, at, _) in self.entries() {
            if !asked.contains(&key) {
                let hint = did_you_mean(key, asked.iter().copied())
                    .unwrap_or_else(|| format!("known here: {}", asked.join(", ")));
                self.error(at, format!("{} has no setting `{key}`", self.name), hint);
            }
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A TOML value as JSON, and where each part of it stands, by JSON pointer. A date is its text.
pub(super) fn json(
    entry: &Entry<'_>,
    pointer: &str,
    places: &mut BTreeMap<String, Offset>,
    diagnostics: &RefCell<Diagnostics>,
) -> Value {
    places.insert(pointer.to_owned(), entry.span().start);
    match entry.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Integer(number) => match integer(entry.get_ref()) {
            Some(number) => Value::Number(number.into()),
            None => {
                let message = format!("{} does not fit into 64 bits", number.as_str());
                diagnostics.borrow_mut().error(entry.span().start, message, "write it as a text".to_owned());
                Value::Null
            }
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => {
                let message = format!("{} cannot be handed to a kit: JSON has no such number", number.as_str());
                diagnostics.borrow_mut().error(entry.span().start, message, None);
                Value::Null
            }
        },
        DeValue::Array(array) => Value::Array(
            array
                .iter()
                .enumerate()
                .map(|(index, entry)| json(entry, &format!("{pointer}/{index}"), places, diagnostics))
                .collect(),
        ),
        DeValue::Table(table) => Value::Object(object(table, pointer, places, diagnostics)),
    }
}

/// A TOML table as a JSON object; see [`json`].
pub(super) fn object(
    table: &DeTable<'_>,
    pointer: &str,
    places: &mut BTreeMap<String, Offset>,
    diagnostics: &RefCell<Diagnostics>,
) -> Map<String, Value> {
    table
        .iter()
        .map(|(key, entry)| {
            // RFC 6901, section 3.
            let escaped = key.get_ref().replace('~', "~0").replace('/', "~1");
            let pointer = format!("{pointer}/{escaped}");
            let value = json(entry, &pointer, places, diagnostics);
            // The key is where a person looks, not the value.
            places.insert(pointer, key.span().start);
            (key.get_ref().to_string(), value)
        })
        .collect()
}
