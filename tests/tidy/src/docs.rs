//! Rules about what the documents claim: a test they name exists, a rule that code cites is written down,
//! a link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::house::File;

/// Where the invariants are.
pub const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// Where the rules of ownership are.
pub const RULES: &str = "docs/concepts/ownership-rules.md";

/// Every numbered item under "## Invariants" names at least one test that exists, as `` `file::function` ``;
/// `` `file` `` alone is right where the file is the test (a case file).
pub fn invariants(files: &[File]) -> Vec<String> {
    let Some(architecture) = files.iter().find(|file| file.path == ARCHITECTURE) else {
        return vec![format!("{ARCHITECTURE} is not there")];
    };
    let mut problems = Vec::new();
    let mut items: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in architecture.text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            inside = title.trim() == "Invariants";
        } else if inside && is_numbered(line) {
            items.push((number + 1, line.to_owned()));
        } else if inside && let Some((_, item)) = items.last_mut() {
            item.push(' ');
            item.push_str(line.trim());
        }
    }
    if items.is_empty() {
        problems.push(format!("{ARCHITECTURE} has no numbered list under \"## Invariants\""));
    }
    for (number, item) in &items {
        let at = format!("{ARCHITECTURE}:{number}");
        if !item.contains("**") {
            problems.push(format!("{at}: an invariant is printed in bold"));
        }
        let named = tests_named(item);
        if named.is_empty() {
            problems.push(format!("{at}: no test is named; write held by `path/to/file.rs::function`"));
        }
        problems.extend(named.iter().filter_map(|name| missing(name, files)).map(|what| format!("{at}: {what}")));
    }
    problems
}

/// A rule's row in the table of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `O1`.
    pub number: String,
    /// `now`, `part` or `later`.
    pub status: String,
    /// The tests that hold it.
    pub held_by: Vec<String>,
    /// The line of the row.
    pub line: usize,
}

/// The rows of the table: `| O1 | text | status | held by |`.
pub fn rules(file: &File) -> Vec<Rule> {
    file.text
        .lines()
        .enumerate()
        .filter_map(|(number, line)| {
            let cells: Vec<&str> =
                line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
            let [rule, _, status, held_by] = cells[..] else {
                return None;
            };
            let rule = rule.trim_matches('*');
            (citations(rule) == [rule]).then(|| Rule {
                number: rule.to_owned(),
                status: status.to_owned(),
                held_by: tests_named(held_by),
                line: number + 1,
            })
        })
        .collect()
}

/// The table of rules is whole: no number twice, each with a status, and what is said to hold it exists.
pub fn rules_table(files: &[File]) -> Vec<String> {
    let Some(file) = files.iter().find(|file| file.path == RULES) else {
        return vec![format!("{RULES} is not there")];
    };
    let rules = rules(file);
    let mut problems = Vec::new();
    if rules.is_empty() {
        problems.push(format!("{RULES} has no row `| O1 | rule | status | held by |`"));
    }
    let mut seen = BTreeSet::new();
    for rule in &rules {
        let at = format!("{RULES}:{}: {}", rule.line, rule.number);
        if !seen.insert(&rule.number) {
            problems.push(format!("{at} is there twice"));
        }
        match (rule.status.as_str(), rule.held_by.is_empty()) {
            ("now" | "part", true) => problems.push(format!("{at} is said to hold, but no test is named")),
            ("later", false) => problems.push(format!("{at} is for later, but a test is named")),
            ("now" | "part" | "later", _) => {}
            (other, _) => problems.push(format!("{at} has status {other:?}; write now, part or later")),
        }
        problems
            .extend(rule.held_by.iter().filter_map(|name| missing(name, files)).map(|what| format!("{at}: {what}")));
    }
    problems
}

/// Every rule that any file cites is in the table.
pub fn rules_cited(files: &[File]) -> Vec<String> {
    let known: BTreeSet<String> =
        files.iter().filter(|file| file.path == RULES).flat_map(rules).map(|rule| rule.number).collect();
    let mut unknown: BTreeMap<String, String> = BTreeMap::new();
    for file in files.iter().filter(|file| ["rs", "txt", "md", "wit", "toml"].iter().any(|it| file.has_extension(it))) {
        // This crate's own tests cite made-up ones.
        if file.path.starts_with("tests/tidy/") {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            for rule in citations(line) {
                if !known.contains(rule) {
                    unknown.entry(rule.to_owned()).or_insert_with(|| format!("{}:{}", file.path, number + 1));
                }
            }
        }
    }
    unknown.into_iter().map(|(rule, at)| format!("{at} cites {rule}, which is not in {RULES}")).collect()
}

/// Relative links in Markdown files that lead nowhere.
pub fn dead_links(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (number, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                    continue;
                }
                if !joined(folder, path).is_some_and(|path| exists(&path)) {
                    problems.push(format!("{}:{}: the link to {path} leads nowhere", file.path, number + 1));
                }
            }
        }
    }
    problems
}

/// `folder/path` without `.` and `..`; none if it leaves the repository.
fn joined(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop()?;
        } else {
            parts.push(part);
        }
    }
    Some(parts.join("/"))
}

fn is_numbered(line: &str) -> bool {
    line.split_once(". ").is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// What stands between backticks and is a test: `file.rs::function` or `path/to/case.txt`.
fn tests_named(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains(".rs::") || (name.contains('/') && name.ends_with(".txt")))
        .map(str::to_owned)
        .collect()
}

/// What is wrong with a test's name, if anything.
fn missing(name: &str, files: &[File]) -> Option<String> {
    let (path, function) = name.split_once("::").map_or((name, None), |(path, function)| (path, Some(function)));
    let Some(file) = files.iter().find(|file| file.path == path) else {
        return Some(format!("{path} is not there"));
    };
    // The last part: `file.rs::tests::it_holds` is as good as `file.rs::it_holds`.
    let function = function?.rsplit("::").next()?;
    let declared = file
        .text
        .match_indices(function)
        .any(|(at, _)| file.text[..at].ends_with("fn ") && file.text[at + function.len()..].starts_with(['(', '<']));
    (!declared).then(|| format!("{path} has no fn {function}"))
}

/// The rules of ownership that a text cites: `O` and one or two digits, with nothing of a word beside it.
fn citations(text: &str) -> Vec<&str> {
    text.match_indices('O')
        .filter_map(|(at, _)| {
            let digits = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
            let end = at + 1 + digits;
            let beside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
            let first = text.as_bytes().get(at + 1).copied();
            ((1..=2).contains(&digits)
                && first != Some(b'0')
                && !beside(text[..at].chars().next_back())
                && !text[end..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_'))
            .then(|| &text[at..end])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn architecture(items: &str) -> Vec<File> {
        vec![
            File::new(ARCHITECTURE, &format!("# A\n\n## Invariants\n\n{items}\n\n## Else\n\n1. not an invariant\n")),
            File::new("host/core/tests/it.rs", "#[test]\nfn it_holds() {}\n"),
            File::new("host/core/tests/cases/a.txt", "a story"),
        ]
    }

    #[test]
    fn an_invariant_with_its_tests_is_fine() {
        let items = "1. **It holds.** Held by\n   `host/core/tests/it.rs::it_holds`.\n2. **So does this.** `host/core/tests/cases/a.txt`";
        assert_eq!(invariants(&architecture(items)), [] as [&str; 0]);
    }

    #[test]
    fn an_invariant_without_a_test_is_found() {
        for (items, words) in [
            ("1. **It holds.** Believe me.", "no test is named"),
            ("1. **It holds.** `host/core/tests/it.rs::it_hol`", "has no fn it_hol"),
            ("1. **It holds.** `host/core/tests/gone.rs::it_holds`", "gone.rs is not there"),
            ("1. It holds. `host/core/tests/it.rs::it_holds`", "in bold"),
            ("nothing", "no numbered list"),
        ] {
            let problems = invariants(&architecture(items));
            assert!(problems.len() == 1 && problems[0].contains(words), "{items}: {problems:?}");
        }
        assert_eq!(invariants(&[]).len(), 1);
    }

    fn table(rows: &str) -> Vec<File> {
        vec![
            File::new(RULES, &format!("| rule | text | status | held by |\n|---|---|---|---|\n{rows}\n")),
            File::new("a.rs", "fn it_holds() {}"),
        ]
    }

    #[test]
    fn a_whole_table_of_rules_is_fine() {
        let files = table("| **O1** | as O2 says | now | `a.rs::it_holds` |\n| O2 | x | later | |");
        assert_eq!(rules_table(&files), [] as [&str; 0]);
        assert_eq!(rules_cited(&files), [] as [&str; 0]);
    }

    #[test]
    fn a_fault_in_the_table_of_rules_is_found() {
        for (rows, words) in [
            ("| O1 | x | now | |", "no test is named"),
            ("| O1 | x | later | `a.rs::it_holds` |", "for later"),
            ("| O1 | x | now | `a.rs::gone` |", "has no fn gone"),
            ("| O1 | x | soon | `a.rs::it_holds` |", "status \"soon\""),
            ("| O1 | x | later | |\n| O1 | y | later | |", "there twice"),
            ("", "has no row"),
        ] {
            let problems = rules_table(&table(rows));
            assert!(problems.len() == 1 && problems[0].contains(words), "{rows}: {problems:?}");
        }
    }

    #[test]
    fn a_rule_cited_and_not_written_down_is_found() {
        let mut files = table("| O1 | x | later | |");
        files.push(File::new("b.rs", "// O1 says so, and (O24)."));
        assert_eq!(rules_cited(&files), [format!("b.rs:1 cites O24, which is not in {RULES}")]);
    }

    #[test]
    fn only_a_rule_is_taken_for_a_citation() {
        assert_eq!(citations("O1, O22; (O3): O4. O5-O6"), ["O1", "O22", "O3", "O4", "O5"]);
        assert_eq!(citations("-O2 NO1 O123 O07 O1a _O1 I/O"), [] as [&str; 0]);
    }

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](b.md) [up](../README.md#x) [out](https://example.org) [gone](c.md)\n```\n[not](a-link)\n```\n[off](../../x)";
        let files = [File::new("docs/a.md", text)];
        let problems = dead_links(&files, |path| ["docs/b.md", "README.md"].contains(&path));
        assert_eq!(
            problems,
            ["docs/a.md:1: the link to c.md leads nowhere", "docs/a.md:5: the link to ../../x leads nowhere"]
        );
    }
}
