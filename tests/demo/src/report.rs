//! What the demo leaves: the summary, the figures for programs, and, when it failed, what is needed to find out why.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::client::INTERVAL_MS;
use crate::stage::Stage;
use crate::story::Figure;
use crate::trouble::Trouble;

/// How long a row's title is at the most, in characters: so that the table fits a terminal.
const TITLE_CHARS: usize = 64;

/// What the columns mean.
const EXPLAINED: &str = "
outage          what a client missed that looks the name up and fetches the page every {INTERVAL_MS} ms:
                from its last good answer before to the first one after
mainstay's own  the part in which neither a kit nor a program of the shop was at work: up to being in
                service from the claim (1), the failed recover (3), the operator's word (4, 5); up to
                recover from the end of the failing check (2). The rest of an outage is the shop's, or
                the time until a check was due (2, 3) or heartbeats had been missing long enough (4)
";

/// The table of all steps.
pub(crate) fn summary(figures: &[Figure]) -> String {
    let mut out = format!("  {:<TITLE_CHARS$} {:>10} {:>14}\n", "", "outage", "mainstay's own");
    for (number, figure) in (1..).zip(figures) {
        let outage = figure.outage.map_or_else(|| "-".to_owned(), seconds);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{number} {:<TITLE_CHARS$} {outage:>10} {:>14}",
            figure.title,
            milliseconds(figure.own_share)
        );
    }
    out.push_str(&EXPLAINED.replace("{INTERVAL_MS}", &INTERVAL_MS.to_string()));
    out
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
}

/// One step's figures, for programs.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    /// None: there was nothing to be missed yet.
    outage_ms: Option<f64>,
    own_share_ms: f64,
}

/// Writes the figures: a list of objects with `name`, `outage_ms` (null for the first) and `own_share_ms`.
pub(crate) fn write_json(path: &Path, figures: &[Figure]) -> Result<(), Trouble> {
    // In whole µs: what is measured is not more exact.
    let ms = |duration: Duration| (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0;
    let rows: Vec<Row> = figures
        .iter()
        .map(|figure| Row { name: figure.name, outage_ms: figure.outage.map(ms), own_share_ms: ms(figure.own_share) })
        .collect();
    let file = Trouble::file("write the figures to", path);
    let text = serde_json::to_string_pretty(&rows).map_err(std::io::Error::from);
    text.and_then(|text| std::fs::write(path, text + "\n")).map_err(file)
}

/// What each node says now, and what it said at the end: for whoever has to find out why the demo failed.
pub(crate) fn state_of_affairs(stage: &Stage) -> String {
    let mut out = String::new();
    for node in stage.nodes().iter().filter(|node| node.is_on()) {
        let status = match stage.operator.on(node, &["status"]) {
            Ok(status) => status,
            Err(trouble) => trouble.to_string(),
        };
        let _ = writeln!(out, "--- mainstay status, on {}:\n{}", node.name(), status.trim_end());
        let _ = writeln!(out, "--- the daemon of {} said, at the end:\n{}", node.name(), node.said());
    }
    out
}

/// Copies the logs and the config to a folder that stays; the paths there.
pub(crate) fn keep_logs(stage: &Stage) -> Result<Vec<PathBuf>, Trouble> {
    let below = std::env::temp_dir();
    let made = tempfile::Builder::new().prefix("mainstay-demo-").tempdir_in(&below);
    let folder = made.map_err(Trouble::file("make a folder in", below))?.keep();
    let mut kept = Vec::new();
    let mut keep = |from: &Path, name: String| {
        if from.exists() {
            let to = folder.join(name);
            std::fs::copy(from, &to).map_err(Trouble::file("copy", from))?;
            kept.push(to);
        }
        Ok::<(), Trouble>(())
    };
    keep(&stage.config(), "mainstay.toml".to_owned())?;
    for node in stage.nodes() {
        for log in node.logs() {
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            keep(&log, format!("{}-{name}", node.name()))?;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Vec<Figure> {
        let outage = Duration::from_millis(1_234);
        vec![
            Figure { name: "in-service", title: "In service", outage: None, own_share: Duration::from_micros(2_340) },
            Figure { name: "failover", title: "Failover", outage: Some(outage), own_share: Duration::from_millis(9) },
        ]
    }

    #[test]
    fn the_table_has_every_step_and_its_figures() {
        let table = summary(&figures());
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("1 In service") && lines[1].ends_with("         -         2.3 ms"), "{table}");
        assert!(lines[2].starts_with("2 Failover") && lines[2].ends_with("   1.234 s         9.0 ms"), "{table}");
    }

    #[test]
    fn programs_read_the_same_figures() {
        let folder = mainstay_test_support::TempDir::new();
        let path = folder.join("figures.json");
        write_json(&path, &figures()).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(
            read,
            serde_json::json!([
                { "name": "in-service", "outage_ms": null, "own_share_ms": 2.34 },
                { "name": "failover", "outage_ms": 1234.0, "own_share_ms": 9.0 },
            ])
        );
        let error = write_json(&folder.join("no/such/folder"), &figures()).unwrap_err().to_string();
        assert!(error.contains("cannot write the figures to"), "{error}");
    }
}
