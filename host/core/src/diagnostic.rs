//! What is wrong with a config: where, what, and what to do.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

/// Whether a config with it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but a person should look.
    Warning,
}

/// One problem in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1. Problems of the file as a whole are at line 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Whether the config can be used.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: {severity}: {}", self.file, self.line, self.column, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n    hint: {hint}")?;
        }
        Ok(())
    }
}

/// A place in a file, in bytes from its start.
pub type Offset = usize;

/// Collects the problems of one file, in whatever order they are found.
#[derive(Debug)]
pub struct Diagnostics {
    file: String,
    line_starts: Vec<Offset>,
    text: String,
    found: Vec<(Offset, Diagnostic)>,
}

impl Diagnostics {
    /// None yet.
    #[must_use]
    pub fn new(file: &str, text: &str) -> Self {
        let mut line_starts = alloc::vec![0];
        line_starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
        Self { file: file.into(), line_starts, text: text.into(), found: Vec::new() }
    }

    /// One more error.
    pub fn error(&mut self, at: Offset, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.push(at, Severity::Error, message.into(), hint.into());
    }

    /// One more warning.
    pub fn warning(&mut self, at: Offset, message: impl Into<String>, hint: impl Into<Option<String>>) {
        self.push(at, Severity::Warning, message.into(), hint.into());
    }

    fn push(&mut self, at: Offset, severity: Severity, message: String, hint: Option<String>) {
        let line = self.line_of(at);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count()) + 1;
        let diagnostic = Diagnostic { file: self.file.clone(), line, column, severity, message, hint };
        if !self.found.iter().any(|(_, found)| *found == diagnostic) {
            self.found.push((at, diagnostic));
        }
    }

    /// The line, from 1, of a place.
    #[must_use]
    pub fn line_of(&self, at: Offset) -> usize {
        self.line_starts.partition_point(|start| *start <= at).max(1)
    }

    /// Whether the config cannot be used.
    #[must_use]
    pub fn any_error(&self) -> bool {
        self.found.iter().any(|(_, diagnostic)| diagnostic.severity == Severity::Error)
    }

    /// All of them, in the order of the file.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|(a, x), (b, y)| a.cmp(b).then(x.severity.cmp(&y.severity)));
        self.found.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }
}

/// The word among `known` that `word` is most likely a misspelling of, as a hint.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let (distance, best) = known.map(|other| (edits(word, other), other)).min()?;
    (distance <= (word.len() / 3).max(1)).then(|| alloc::format!("did you mean `{best}`?"))
}

/// How many letters have to be changed, added, dropped or swapped with their neighbour (optimal string
/// alignment, a restricted Damerau-Levenshtein distance).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        rows[2] = alloc::vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (rows[1][j] + 1).min(rows[2][j - 1] + 1).min(rows[1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = least;
        }
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let mut diagnostics = Diagnostics::new("a.toml", "é = 1\nb = 2\n");
        diagnostics.error(3, "x", None);
        diagnostics.error(7, "y", alloc::string::String::from("do z"));
        let found = diagnostics.into_sorted();
        assert_eq!((found[0].line, found[0].column), (1, 3));
        assert_eq!((found[1].line, found[1].column), (2, 1));
        assert_eq!(alloc::format!("{}", found[1]), "a.toml:2:1: error: y\n    hint: do z");
    }

    #[test]
    fn misspelt_words_are_recognised() {
        let known = ["depends-on", "params", "grants"];
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(did_you_mean(word, known.into_iter()).as_deref(), expected, "{word}");
        };
        check("depend-on", Some("did you mean `depends-on`?"));
        check("parmas", Some("did you mean `params`?"));
        check("zzz", None);
    }

    #[test]
    fn a_problem_is_told_once() {
        let mut diagnostics = Diagnostics::new("a", "");
        diagnostics.warning(0, "x", None);
        diagnostics.warning(0, "x", None);
        assert!(!diagnostics.any_error());
        assert_eq!(diagnostics.into_sorted().len(), 1);
    }
}
