//! What a measurement gives: rows, and what is written of them.
//!
//! Decides when a goal is met. `summary.json` is a list of objects with exactly the keys of [`Row`]; programs may rely
//! on that, and on a row's name.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::trouble::Trouble;

/// Digits that are told of a figure. More would be noise.
const DIGITS: usize = 4;

/// One figure, with its peer and its goal if it has them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured; docs/reference/benchmarks.md says how.
    pub name: String,
    /// The figure; null when it could not be measured.
    pub value: Option<f64>,
    /// Of the figure and the peer's.
    pub unit: &'static str,
    /// What it is compared with.
    pub peer: Option<String>,
    /// The peer's figure, of the same run; null when the peer is not installed.
    pub peer_value: Option<f64>,
    /// The figure by the peer's.
    pub ratio: Option<f64>,
    /// What it should be.
    pub goal: Option<String>,
    /// Whether it is; null when there is no goal, or no peer to judge by.
    pub met: Option<bool>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Less than this.
    Below(f64),
    /// This or less.
    AtMost(f64),
    /// At most so many times the peer's.
    TimesPeerAtMost(f64),
    /// At least so many times the peer's: of what is the better the more it is.
    TimesPeerAtLeast(f64),
    /// The peer's is at least so many times it.
    CheaperAtLeast(f64),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(limit) => write!(f, "< {limit}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
            Self::TimesPeerAtMost(limit) => write!(f, "ratio <= {limit}"),
            Self::TimesPeerAtLeast(limit) => write!(f, "ratio >= {limit}"),
            Self::CheaperAtLeast(times) => write!(f, "ratio <= 1/{times}"),
        }
    }
}

impl Row {
    /// A figure alone.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let (name, value) = (name.into(), known(value));
        Self { name, value, unit, peer: None, peer_value: None, ratio: None, goal: None, met: None }
    }

    /// What stands in place of the figures of a measurement that failed.
    #[must_use]
    pub fn failed(measurement: &str) -> Self {
        let goal = Some("to be measured".to_owned());
        Self { goal, met: Some(false), ..Self::new(measurement, f64::NAN, "") }
    }

    /// Compared with a peer's; `None`: it is not installed.
    #[must_use]
    pub fn against(mut self, peer: impl Into<String>, value: Option<f64>) -> Self {
        self.peer = Some(peer.into());
        self.peer_value = value.and_then(known);
        self.ratio = self.value.zip(self.peer_value).and_then(|(own, peer)| known(own / peer));
        self
    }

    /// Judged. After [`Row::against`] if the goal has to do with the peer.
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal.to_string());
        self.met = match goal {
            Goal::Below(limit) => self.value.map(|value| value < limit),
            Goal::AtMost(limit) => self.value.map(|value| value <= limit),
            Goal::TimesPeerAtMost(limit) => self.ratio.map(|ratio| ratio <= limit),
            Goal::TimesPeerAtLeast(limit) => self.ratio.map(|ratio| ratio >= limit),
            Goal::CheaperAtLeast(times) => self.ratio.map(|ratio| ratio * times <= 1.0),
        };
        self
    }
}

/// JSON has no NaN, and a figure that is none is not known.
fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// What one measurement gives.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The figures.
    pub rows: Vec<Row>,
    /// What else is worth saying, a line each.
    pub notes: Vec<String>,
    /// Peers that are not installed, each with the command that installs it.
    pub missing: Vec<String>,
}

/// Writes the figures as JSON, rounded to what they are good for.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, rows: &[Row]) -> Result<(), Trouble> {
    let rounded: Vec<Row> = rows.iter().map(rounded).collect();
    let text = serde_json::to_string_pretty(&rounded).map_err(std::io::Error::from);
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = text.and_then(|text| {
        std::fs::create_dir_all(folder)?;
        std::fs::write(path, text + "\n")
    });
    written.map_err(Trouble::file("write the figures to", path))
}

fn rounded(row: &Row) -> Row {
    let round = |value: Option<f64>| value.and_then(|value| in_digits(value).parse().ok());
    Row { value: round(row.value), peer_value: round(row.peer_value), ratio: round(row.ratio), ..row.clone() }
}

/// A number with [`DIGITS`] significant digits, and no more than are needed.
#[must_use]
pub fn in_digits(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = usize::try_from(DIGITS as i32 - 1 - magnitude).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The table of all rows, for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    const HEAD: [&str; 8] = ["name", "value", "unit", "peer", "peer value", "ratio", "goal", "met"];
    let mut lines: Vec<[String; 8]> = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
        .collect();
    let mut out = String::new();
    for line in &lines {
        let padded: Vec<String> = (0..HEAD.len())
            .map(|column| {
                let (cell, width) = (&line[column], widths[column]);
                let is_number = matches!(column, 1 | 4 | 5);
                if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            })
            .collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn cells(row: &Row) -> [String; 8] {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), in_digits);
    let peer_value = match (&row.peer, row.peer_value) {
        (Some(_), None) => "missing".to_owned(),
        (_, value) => number(value),
    };
    let ratio = match row.ratio {
        // Told as it is thought of: so many times cheaper.
        Some(ratio) if ratio > 0.0 && ratio < 0.1 => format!("1/{}", in_digits((1.0 / ratio).round())),
        ratio => number(ratio),
    };
    let met = row.met.map_or(if row.goal.is_some() { "not judged" } else { "" }, |met| if met { "yes" } else { "NO" });
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    [
        row.name.clone(),
        number(row.value),
        row.unit.to_owned(),
        text(&row.peer),
        peer_value,
        ratio,
        text(&row.goal),
        met.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row::new("load-null-cached", 1.0 / 3.0, "ms").goal(Goal::Below(5.0)),
            Row::new("check", 40.0, "us").against("bare", Some(32.0)).goal(Goal::TimesPeerAtMost(1.3)),
            Row::new("check-dummy", 40.0, "us").against("ocf", None).goal(Goal::CheaperAtLeast(80.0)),
            Row::new("journal", 7.0, "us").against("fdatasync", Some(3.5)),
            Row::failed("moves"),
        ]
    }

    #[test]
    fn the_format_of_the_summary_is_kept() {
        let folder = mainstay_test_support::TempDir::new();
        let path = folder.join("bench/summary.json");
        write_json(&path, &rows()).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let row = |name: &str, value: f64, unit: &str| {
            serde_json::json!({
                "name": name, "value": value, "unit": unit, "peer": null, "peer_value": null, "ratio": null,
                "goal": null, "met": null
            })
        };
        let with = |mut row: serde_json::Value, more: serde_json::Value| {
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            row
        };
        let expected = serde_json::json!([
            with(row("load-null-cached", 0.3333, "ms"), serde_json::json!({ "goal": "< 5", "met": true })),
            with(
                row("check", 40.0, "us"),
                serde_json::json!({
                    "peer": "bare", "peer_value": 32.0, "ratio": 1.25, "goal": "ratio <= 1.3", "met": true
                })
            ),
            with(row("check-dummy", 40.0, "us"), serde_json::json!({ "peer": "ocf", "goal": "ratio <= 1/80" })),
            with(
                row("journal", 7.0, "us"),
                serde_json::json!({ "peer": "fdatasync", "peer_value": 3.5, "ratio": 2.0 })
            ),
            {
                "name": "moves", "value": null, "unit": "", "peer": null, "peer_value": null, "ratio": null,
                "goal": "to be measured", "met": false
            },
        ]);
        assert_eq!(read, expected);
    }

    #[test]
    fn a_summary_that_cannot_be_written_is_told() {
        let folder = mainstay_test_support::TempDir::new();
        let error = write_json(&folder.write("file", "").join("summary.json"), &rows()).unwrap_err().to_string();
        assert!(error.contains("cannot write the figures to"), "{error}");
    }

    #[test]
    fn a_goal_is_met_or_missed_at_its_limit() {
        let judge = |value: f64, goal: Goal| Row::new("x", value, "").against("y", Some(100.0)).goal(goal).met;
        for (goal, met, missed) in [
            (Goal::Below(5.0), 4.9, 5.0),
            (Goal::AtMost(50.0), 50.0, 50.1),
            (Goal::TimesPeerAtMost(1.3), 130.0, 130.1),
            (Goal::TimesPeerAtLeast(1.3), 130.0, 129.9),
            (Goal::CheaperAtLeast(80.0), 1.25, 1.26),
        ] {
            assert_eq!((judge(met, goal), judge(missed, goal)), (Some(true), Some(false)), "{goal}");
        }
        assert_eq!(judge(f64::NAN, Goal::Below(5.0)), None, "what is not known is not judged");
    }

    #[test]
    fn the_table_shows_what_is_missing_and_what_is_missed() {
        let mut rows = rows();
        rows.push(Row::new("slow", 2_000.0, "us").against("quick", Some(100_000.0)).goal(Goal::Below(5.0)));
        let table = table(&rows);
        let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[2], ["check", "40", "us", "bare", "32", "1.25", "ratio", "<=", "1.3", "yes"]);
        assert_eq!(
            words[3],
            ["check-dummy", "40", "us", "ocf", "missing", "-", "ratio", "<=", "1/80", "not", "judged"]
        );
        assert_eq!(words[6], ["slow", "2000", "us", "quick", "100000", "1/50", "<", "5", "NO"]);
    }

    #[test]
    fn figures_have_four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_345, "0.01235"),
            (1.0 / 3.0, "0.3333"),
            (38.0, "38"),
            (123.45, "123.5"),
            (98_765.4, "98765"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(in_digits(value), text);
        }
    }
}
