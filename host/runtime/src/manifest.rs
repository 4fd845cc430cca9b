//! What a kit says about itself: the custom section `mainstay:kit-manifest`, read without running the kit.
//!
//! A claim, never a grant: `inspect.rs` compares it with what the component really imports and exports.
//! Fields that are not known here are passed over, so that a newer SDK may say more.

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{LoadError, Subject};
use crate::interfaces;

/// The name of the section.
pub const SECTION: &str = "mainstay:kit-manifest";
/// The form of manifest that this host reads; it stands first, so that a later form can differ in everything else.
const FORM: u64 = 1;
/// The longest name of a kit, in bytes: configs and messages repeat it.
const NAME_BYTES_MAX: usize = 64;
/// The longest description, reason or licence shown, in bytes: a paragraph.
const TEXT_BYTES_MAX: usize = 2 << 10;

/// A kit's manifest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// The kit's name, as a config says it.
    pub name: String,
    /// The kit's version.
    pub version: Version,
    /// What it is for, for people.
    pub description: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
    /// The versions of the contract it was made for.
    pub contract: VersionReq,
    /// The interfaces it needs, with the reasons.
    pub needs: Vec<Need>,
    /// The JSON schema of its params.
    pub params: Value,
}

/// An interface that a kit needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Its short name, such as `net`.
    pub interface: String,
    /// Why, for the operator who grants it.
    #[serde(default)]
    pub reason: String,
    /// True: the kit can do without, depending on its params; then the operator need not grant it.
    #[serde(default)]
    pub optional: bool,
}

#[derive(Deserialize)]
struct Raw {
    name: String,
    version: String,
    description: String,
    licence: String,
    contract: String,
    needs: Vec<Need>,
    params: Value,
}

impl Manifest {
    /// Name and version, as messages say it.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Whether it declares this interface.
    #[must_use]
    pub fn needs(&self, interface: &str) -> bool {
        self.needs.iter().any(|need| need.interface == interface)
    }

    /// Reads it. `subject` learns the kit's name as soon as it is known.
    pub(crate) fn read(bytes: &[u8], subject: &mut Subject) -> Result<Self, LoadError> {
        let not_json =
            |problem: String, subject: &Subject| LoadError::ManifestNotJson { subject: subject.clone(), problem };
        let text = std::str::from_utf8(bytes).map_err(|error| not_json(error.to_string(), subject))?;
        let value: Value = serde_json::from_str(text).map_err(|error| not_json(error.to_string(), subject))?;
        check_form(&value, subject)?;
        let invalid =
            |problem: String, subject: &Subject| LoadError::ManifestInvalid { subject: subject.clone(), problem };
        let raw = Raw::deserialize(&value).map_err(|error| invalid(error.to_string(), subject))?;
        check_name(&raw.name).map_err(|problem| invalid(problem, subject))?;
        let version = Version::parse(&raw.version)
            .map_err(|error| invalid(format!("`version` is `{}`: {error}", clip(&raw.version)), subject))?;
        subject.kit = Some(format!("{} {version}", raw.name));
        for (field, text) in [("description", &raw.description), ("licence", &raw.licence)] {
            check_text(field, text).map_err(|problem| invalid(problem, subject))?;
        }
        let contract = VersionReq::parse(&raw.contract)
            .map_err(|error| invalid(format!("`contract` is `{}`: {error}", clip(&raw.contract)), subject))?;
        let manifest = Self {
            name: raw.name,
            version,
            description: raw.description,
            licence: raw.licence,
            contract,
            needs: raw.needs,
            params: raw.params,
        };
        Ok(manifest)
    }

    /// What is wrong with its needs. Every one is told, not the first.
    pub(crate) fn need_problems(&self, subject: &Subject) -> Vec<LoadError> {
        let mut problems = Vec::new();
        for (index, need) in self.needs.iter().enumerate() {
            let interface = clip(&need.interface);
            if !interfaces::CAPABILITIES.contains(&need.interface.as_str()) {
                let hint = crate::text::nearest(&need.interface, interfaces::CAPABILITIES)
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                let offered = interfaces::CAPABILITIES.join(", ");
                problems.push(LoadError::NeedUnknown { subject: subject.clone(), interface, hint, offered });
                continue;
            }
            if need.reason.trim().is_empty() {
                let interface = interface.clone();
                problems.push(LoadError::NeedWithoutReason { subject: subject.clone(), interface });
            } else if need.reason.len() > TEXT_BYTES_MAX {
                problems.push(LoadError::ManifestInvalid {
                    subject: subject.clone(),
                    problem: format!("the reason for `{interface}` has more than {TEXT_BYTES_MAX} bytes"),
                });
            }
            if self.needs[..index].iter().any(|other| other.interface == need.interface) {
                problems.push(LoadError::ManifestInvalid {
                    subject: subject.clone(),
                    problem: format!("the need `{interface}` stands in it twice"),
                });
            }
        }
        problems
    }
}

fn check_form(value: &Value, subject: &Subject) -> Result<(), LoadError> {
    let found = value.get("manifest");
    let form = found.and_then(Value::as_u64);
    if form == Some(FORM) {
        return Ok(());
    }
    let (found, advice) = match (found, form) {
        (None, _) => ("none (`\"manifest\": 1` is missing)".to_owned(), "build the kit again with the SDK"),
        (Some(_), Some(form)) if form > FORM => (form.to_string(), "the kit is newer than this host: upgrade mainstay"),
        (Some(found), _) => (clip(&found.to_string()), "build the kit again with the SDK"),
    };
    Err(LoadError::ManifestForm { subject: subject.clone(), found, advice })
}

fn check_name(name: &str) -> Result<(), String> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fine) {
        return Err(format!(
            "`name` is `{}`; a kit's name has 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and -",
            clip(name)
        ));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(format!("`{field}` is empty; operators read it"));
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("`{field}` has more than {TEXT_BYTES_MAX} bytes"));
    }
    Ok(())
}

fn clip(text: &str) -> String {
    crate::text::one_line(text, 80)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Result<Manifest, LoadError> {
        Manifest::read(value.to_string().as_bytes(), &mut Subject { file: PathBuf::from("a.wasm"), kit: None })
    }

    fn good() -> Value {
        json!({
            "manifest": 1, "name": "dns", "version": "1.2.3", "description": "names", "licence": "MIT",
            "contract": "^0.1.0", "needs": [{"interface": "net", "reason": "to ask"}], "params": {"type": "object"},
        })
    }

    fn with(field: &str, to: Value) -> Value {
        let mut value = good();
        value[field] = to;
        value
    }

    #[test]
    fn a_good_one_is_read_and_unknown_fields_are_passed_over() {
        let manifest = read(&with("min-host", json!("9"))).unwrap();
        assert_eq!(manifest.title(), "dns 1.2.3");
        assert!(manifest.needs("net") && !manifest.needs("command") && !manifest.needs[0].optional);
    }

    #[test]
    fn each_mistake_has_its_own_words() {
        for (value, code, words) in [
            (with("manifest", json!(2)), "manifest-form", "upgrade mainstay"),
            (with("manifest", json!("1")), "manifest-form", "build the kit again"),
            (with("manifest", Value::Null), "manifest-form", "null"),
            (json!([]), "manifest-form", "is missing"),
            (with("name", json!("DNS")), "manifest-invalid", "a-z, 0-9"),
            (with("name", json!("")), "manifest-invalid", "1 to 64"),
            (with("name", json!("a".repeat(65))), "manifest-invalid", "1 to 64"),
            (with("version", json!("1")), "manifest-invalid", "`version` is `1`"),
            (with("description", json!(" ")), "manifest-invalid", "`description` is empty"),
            (with("description", json!("x".repeat(3000))), "manifest-invalid", "more than 2048"),
            (with("licence", json!(7)), "manifest-invalid", "string"),
            (with("contract", json!("new")), "manifest-invalid", "`contract` is `new`"),
            (with("needs", json!({})), "manifest-invalid", "sequence"),
        ] {
            let error = read(&value).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(words) && error.to_string().contains("a.wasm"), "{error}");
        }
        let mut missing = good();
        missing.as_object_mut().unwrap().remove("licence");
        assert!(read(&missing).unwrap_err().to_string().contains("`licence`"));
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_a_wrong_manifest() {
        let mut subject = Subject { file: PathBuf::from("a.wasm"), kit: None };
        for bytes in [&b"{\"manifest\": 1"[..], b"\xff", b"", &b"[".repeat(100_000)] {
            assert_eq!(Manifest::read(bytes, &mut subject).unwrap_err().code(), "manifest-not-json");
        }
    }

    #[test]
    fn the_kit_is_named_as_soon_as_it_is_known() {
        let error = read(&with("contract", json!("new"))).unwrap_err();
        assert!(error.to_string().contains("(kit dns 1.2.3)"), "{error}");
    }

    #[test]
    fn all_problems_of_needs_are_told_at_once() {
        let needs = json!([
            {"interface": "network", "reason": "x"}, {"interface": "log"}, {"interface": "net", "reason": "x"},
            {"interface": "net", "reason": "y"}, {"interface": "secret", "reason": " "},
        ]);
        let subject = Subject { file: PathBuf::from("a.wasm"), kit: None };
        let problems = read(&with("needs", needs)).unwrap().need_problems(&subject);
        let codes: Vec<_> = problems.iter().map(LoadError::code).collect();
        assert_eq!(codes, ["need-unknown", "need-without-reason", "manifest-invalid", "need-without-reason"]);
        assert!(problems[0].to_string().contains("command, net"), "{}", problems[0]);
    }
}
