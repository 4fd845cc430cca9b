//! `mainstay health`: what every node would lack for protecting what it is to protect.

use std::fmt::Write as _;
use std::path::Path;

use anstyle::{AnsiColor, Style};
use mainstay_core::health::{Finding, HealthReport};
use mainstay_core::names::{HierarchyName, Tag};
use mainstay_core::node::Weight;

use crate::args::Health;
use crate::client::{ANSWER, Client, in_path};
use crate::say::{say, styled};

/// The exit code when there are warnings and nothing worse. 2 is that of a command that is used wrongly.
const WARNINGS: i32 = 3;

pub(crate) async fn health(state: &Path, asked: &Health) -> anyhow::Result<i32> {
    let mut path = format!("/v1/health?within-ms={}", asked.timeout.as_millis());
    if let Some(hierarchy) = &asked.hierarchy {
        let _ = write!(path, "&hierarchy={}", in_path(hierarchy));
    }
    let report: HealthReport = Client::new(state).get_within(asked.timeout + ANSWER, &path).await?;
    if asked.json {
        say!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        styled(&render(&report))?;
    }
    Ok(match report.worst() {
        Some(Weight::Blocking) => 1,
        Some(Weight::Warning) => WARNINGS,
        Some(Weight::Note) | None => 0,
    })
}

fn word(weight: Weight) -> (&'static str, Style) {
    let colour = |colour: AnsiColor| Style::new().bold().fg_color(Some(colour.into()));
    match weight {
        Weight::Blocking => ("blocking", colour(AnsiColor::Red)),
        Weight::Warning => ("warning", colour(AnsiColor::Yellow)),
        Weight::Note => ("note", Style::new().dimmed()),
    }
}

fn place(finding: &Finding) -> String {
    let of = [finding.hierarchy.as_ref().map(HierarchyName::as_str), finding.tag.as_ref().map(Tag::as_str)];
    std::iter::once(finding.node.as_str()).chain(of.into_iter().flatten()).collect::<Vec<_>>().join("/")
}

/// One entry for each finding: how bad, where, what; and below it what to do.
fn render(report: &HealthReport) -> String {
    let mut out = String::new();
    let bold = Style::new().bold();
    let whose = report.hierarchy.as_ref().map_or("every hierarchy".to_owned(), ToString::to_string);
    let _ = writeln!(out, "{bold}cluster {}{bold:#}, health for {whose}, as asked on {}", report.cluster, report.node);
    let width = report.nodes.iter().map(|facts| facts.node.as_str().len()).max().unwrap_or(0);
    for facts in &report.nodes {
        let told = match facts.answered {
            true if facts.contract.is_empty() => format!("mainstay {}", facts.software),
            true => format!("mainstay {}, contract {}, {}", facts.software, facts.contract, facts.system),
            false => "no answer".to_owned(),
        };
        let _ = writeln!(out, "  node {:width$}  {told}", facts.node);
    }
    let places: Vec<String> = report.findings.iter().map(place).collect();
    let width = places.iter().map(String::len).max().unwrap_or(0);
    if !places.is_empty() {
        let _ = writeln!(out, "\n{:8}  {:width$}  what was found, and what to do", "how bad", "where");
    }
    for (finding, place) in report.findings.iter().zip(&places) {
        let (word, style) = word(finding.weight);
        let _ = writeln!(out, "{style}{word:8}{style:#}  {place:width$}  {}", indented(&finding.summary, width));
        if !finding.advice.is_empty() {
            let _ = writeln!(out, "{:8}  {:width$}  -> {}", "", "", indented(&finding.advice, width));
        }
    }
    let count = |weight: Weight| report.findings.iter().filter(|finding| finding.weight == weight).count();
    let (blocking, warnings, notes) = (count(Weight::Blocking), count(Weight::Warning), count(Weight::Note));
    let _ = match report.findings.len() {
        0 => writeln!(out, "\nnothing was found"),
        _ => writeln!(out, "\n{blocking} blocking, {}, {}", counted(warnings, "warning"), counted(notes, "note")),
    };
    out
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// A text of several lines stays in its column.
fn indented(text: &str, width: usize) -> String {
    let gap = format!("\n{:8}  {:width$}  ", "", "");
    text.trim_end().lines().collect::<Vec<_>>().join(&gap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::health::NodeFacts;
    use mainstay_core::time::UnixMs;

    #[test]
    fn a_table_says_how_bad_where_what_and_what_to_do() {
        let node = "ex02".into();
        let missing =
            Finding::new(Weight::Blocking, "x", &node, "the service pack is missing\n(build 1)", "Install it");
        let mut report = HealthReport {
            cluster: "shop".into(),
            node: "ex01".into(),
            at: UnixMs(0),
            hierarchy: Some("mail".into()),
            nodes: vec![NodeFacts::unanswered(&node)],
            findings: vec![
                missing.of(&"mail".into(), &"exchange".into()),
                Finding::new(Weight::Note, "y", &node, "a note", ""),
            ],
        };
        let told = anstream::adapter::strip_str(&render(&report)).to_string();
        assert_eq!(
            told,
            "cluster shop, health for mail, as asked on ex01\n\
             \x20 node ex02  no answer\n\n\
             how bad   where               what was found, and what to do\n\
             blocking  ex02/mail/exchange  the service pack is missing\n\
             \x20                             (build 1)\n\
             \x20                             -> Install it\n\
             note      ex02                a note\n\n\
             1 blocking, 0 warnings, 1 note\n"
        );
        report.findings.clear();
        assert!(render(&report).ends_with("\nnothing was found\n"));
    }
}
