//! Rules about single files: how long, what a manifest says, what must not be left in them.

use crate::graph::Graph;
use crate::house::File;

/// Lines in a source file. Above, it holds more than one thing and wants to be two; a screen of code is 50.
pub const SOURCE_LINES_MAX: usize = 800;

/// Rooms that are pure because they cannot be otherwise: without std there is no file, no clock, no thread.
pub const PURE: &[&str] = &["host/core", "host/volume/core"];

/// What of std a pure room reaches for.
pub fn core_without_std(files: &[File], room: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let folder = format!("{room}/src/");
    let lib = format!("{folder}lib.rs");
    let Some(lib) = files.iter().find(|file| file.path == lib) else {
        return vec![format!("{lib} is not there")];
    };
    if !lib.text.lines().any(|line| line.trim() == "#![no_std]") {
        problems.push(format!("{} must say #![no_std] on a line of its own, for tests too", lib.path));
    }
    for file in files.iter().filter(|file| file.path.starts_with(&folder) && file.has_extension("rs")) {
        let mut before = "";
        for (number, line) in file.text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with("extern crate std") && before != "#[cfg(test)]" {
                problems.push(format!(
                    "{}:{}: std may be linked under #[cfg(test)] only, on the line before",
                    file.path,
                    number + 1
                ));
            }
            before = line;
        }
    }
    problems
}

/// Source files that are too long.
pub fn too_long(files: &[File]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.has_extension("rs"))
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > SOURCE_LINES_MAX)
                .then(|| format!("{} has {lines} lines, more than {SOURCE_LINES_MAX}: make two of it", file.path))
        })
        .collect()
}

/// Members whose manifest does not take the workspace's lints.
pub fn without_lints(graph: &Graph, files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, member) in &graph.members {
        let path = format!("{}/Cargo.toml", member.folder);
        // A manifest that git does not track yet is somebody's unfinished work.
        let Some(file) = files.iter().find(|file| file.path == path) else {
            continue;
        };
        let takes = file
            .text
            .parse::<toml::Table>()
            .ok()
            .and_then(|manifest| manifest.get("lints")?.get("workspace")?.as_bool());
        if takes != Some(true) {
            problems.push(format!("{path} ({name}) must have [lints] workspace = true"));
        }
    }
    problems
}

/// Kits without a README.
pub fn kits_without_readme(graph: &Graph, files: &[File]) -> Vec<String> {
    graph
        .members
        .values()
        .filter(|member| member.folder.starts_with("kits/"))
        .map(|member| format!("{}/README.md", member.folder))
        .filter(|path| !files.iter().any(|file| file.path == *path))
        .map(|path| format!("{path} is missing: what the kit protects, its params, its grants, an example"))
        .collect()
}

/// Words that mark unfinished work, paths of somebody's own machine, tests switched off.
pub fn leftovers(files: &[File]) -> Vec<String> {
    // Put together here, so that this file does not hold them itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let ignored = ["#[ig", "nore"].concat();
    let homes = [["/ho", "me/"].concat(), ["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/Use", "rs/"].concat()];
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.path != "Cargo.lock") {
        for (number, line) in file.text.lines().enumerate() {
            let at = || format!("{}:{}", file.path, number + 1);
            for mark in &marks {
                if has_word(line, mark) {
                    problems.push(format!("{}: {mark}: finish it, or say what is left in an issue", at()));
                }
            }
            if file.has_extension("rs") && line.contains(&ignored) {
                problems.push(format!("{}: a test is switched off: use require_or_skip, which is seen", at()));
            }
            for home in &homes {
                if has_path(line, home) {
                    problems.push(format!("{}: a path below {home} belongs to one machine", at()));
                }
            }
        }
    }
    problems
}

/// Is `word` in `line` with no letter, digit or underscore beside it?
fn has_word(line: &str, word: &str) -> bool {
    let beside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .any(|(at, _)| !beside(line[..at].chars().next_back()) && !beside(line[at + word.len()..].chars().next()))
}

/// Does an absolute path that starts with `folder` stand in `line`? `a/home/b` and `$X/home/` are none.
fn has_path(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-}/)$*".contains(c))
            && line[at + folder.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Member;

    fn member(folder: &str) -> Graph {
        let mut graph = Graph::default();
        graph.members.insert("it".to_owned(), Member { folder: folder.to_owned(), ..Member::default() });
        graph
    }

    #[test]
    fn a_core_with_std_is_found() {
        let fine = "//! Doc.\n#![no_std]\nextern crate alloc;\n#[cfg(test)]\nextern crate std;\n";
        assert!(core_without_std(&[File::new("host/core/src/lib.rs", fine)], "host/core").is_empty());
        for bad in ["//! Doc.\n", "#![cfg_attr(not(test), no_std)]\n", "#![no_std]\nextern crate std;\n"] {
            assert_eq!(core_without_std(&[File::new("host/core/src/lib.rs", bad)], "host/core").len(), 1, "{bad}");
        }
        assert_eq!(core_without_std(&[], "host/core").len(), 1);
    }

    #[test]
    fn a_long_file_is_found_and_one_line_less_is_not() {
        let lines = |count: usize| "x\n".repeat(count);
        assert!(too_long(&[File::new("a.rs", &lines(SOURCE_LINES_MAX))]).is_empty());
        assert_eq!(too_long(&[File::new("a.rs", &lines(SOURCE_LINES_MAX + 1))]).len(), 1);
    }

    #[test]
    fn a_member_without_lints_is_found() {
        let graph = member("host/x");
        assert!(without_lints(&graph, &[File::new("host/x/Cargo.toml", "[lints]\nworkspace = true\n")]).is_empty());
        for bad in ["[package]\n", "[lints]\nworkspace = false\n", "[lints.rust]\nx = \"warn\"\n", "not toml"] {
            assert_eq!(without_lints(&graph, &[File::new("host/x/Cargo.toml", bad)]).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_kit_without_a_readme_is_found() {
        assert_eq!(kits_without_readme(&member("kits/x"), &[]).len(), 1);
        assert!(kits_without_readme(&member("kits/x"), &[File::new("kits/x/README.md", "")]).is_empty());
        assert!(kits_without_readme(&member("host/x"), &[]).is_empty());
    }

    #[test]
    fn leftovers_are_found_where_they_are() {
        let bad = [
            format!("// {}{}: later", "TO", "DO"),
            format!("// {}{}", "FIX", "ME"),
            format!("{}{}]", "#[ig", "nore"),
            format!("let dir = \"{}alice/src\";", "/home/"),
            format!("cd {}main", "/work/"),
        ];
        for line in &bad {
            let problems = leftovers(&[File::new("src/a.rs", &format!("fine\n{line}\n"))]);
            assert!(problems.len() == 1 && problems[0].starts_with("src/a.rs:2: "), "{line}: {problems:?}");
        }
    }

    #[test]
    fn what_only_looks_like_a_leftover_is_not_one() {
        let fine = [
            "a MASTODONTIC thing".to_owned(),
            format!("{}{}_LIST", "TO", "DO"),
            "https://example.org/home/page".to_owned(),
            "${XDG_CACHE_HOME:-$HOME/.cache}/work/x".to_owned(),
            "ProtectHome=true # hides /home/ and others".to_owned(),
        ];
        for line in &fine {
            assert_eq!(leftovers(&[File::new("a.md", line)]), [] as [&str; 0], "{line}");
        }
    }
}
