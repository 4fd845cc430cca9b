//! mainstay's own share of a local recovery and of moves, from what the demo measures: two daemons, a real application,
//! a real name server, and a relay that falls silent as a cable does.
//!
//! What counts as its own is said in `tests/demo/src/events/share.rs`: the time in which no kit operation runs. The
//! demo is run several times as it is, by its own program, and asked for its figures.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mainstay_test_support::{Guard, TempDir, binary, kits};
use serde::Deserialize;

use crate::effort::Effort;
use crate::sample::Samples;
use crate::summary::{Goal, Report, Row};
use crate::trouble::Trouble;

/// How long the demo may take, in s: it takes about twenty on an idle machine.
const DEMO_S_MAX: u64 = 300;
/// How much of what it said is shown when it failed, in lines.
const SHOWN_LINES_MAX: usize = 30;

/// A step of the demo whose own share has a goal.
struct Step {
    /// As the demo calls it.
    step: &'static str,
    row: &'static str,
    own_share_ms: f64,
}

const STEPS: [Step; 4] = [
    Step { step: "local-recovery", row: "own-share-local-recovery", own_share_ms: 20.0 },
    // From one live node to another, after a repair that failed: what happens is a switchover.
    Step { step: "failover", row: "own-share-failover-agreed", own_share_ms: 50.0 },
    Step { step: "failback", row: "own-share-switchover", own_share_ms: 50.0 },
    Step { step: "power-cord", row: "own-share-failover-confirmed", own_share_ms: 50.0 },
];

/// What the demo writes of a step.
#[derive(Debug, Deserialize)]
struct Figure {
    name: String,
    outage_ms: Option<f64>,
    own_share_ms: f64,
}

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let rounds = (0..effort.pick(1, 1, 5)).map(|_| play()).collect::<Result<Vec<_>, _>>()?;
    report(&rounds)
}

/// Plays the demo once.
fn play() -> Result<Vec<Figure>, Trouble> {
    let (demo, mainstay) = (binary("mainstay-demo"), binary("mainstay"));
    let folder = TempDir::new();
    let kit_dir = folder.folder("kits");
    for name in ["genapp", "dns"] {
        let to = kit_dir.join(format!("{name}.wasm"));
        std::fs::copy(kits::kit(name), &to).map_err(Trouble::file("put a kit to", &to))?;
    }
    let figures = folder.join("figures.json");
    let mut command = Command::new(demo);
    command.arg("--json").arg(&figures).arg("--mainstay").arg(mainstay).arg("--kits").arg(&kit_dir);
    let mut guard = Guard::start("the demo", &mut command)?;
    match guard.wait(Duration::from_secs(DEMO_S_MAX)) {
        Some(status) if status.success() => read(&figures),
        Some(status) => {
            let output = guard.output();
            let lines: Vec<&str> = output.lines().collect();
            let said = lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..].join("\n");
            Err(Trouble::Program { program: "the demo".into(), ending: status.to_string(), said })
        }
        None => Err(Trouble::InVain { what: "the demo to end".into(), seconds: DEMO_S_MAX }),
    }
}

fn read(path: &Path) -> Result<Vec<Figure>, Trouble> {
    let text = std::fs::read_to_string(path).map_err(Trouble::file("read", path))?;
    serde_json::from_str(&text).map_err(|error| Trouble::Unexpected("reading the demo's figures", error.to_string()))
}

fn report(rounds: &[Vec<Figure>]) -> Result<Report, Trouble> {
    let mut report = Report::default();
    for Step { step, row, own_share_ms } in STEPS {
        let (mut own, mut outage) = (Samples::new(), Samples::new());
        for round in rounds {
            let figure = round.iter().find(|figure| figure.name == step);
            let figure = figure
                .ok_or_else(|| Trouble::Unexpected("reading the demo's figures", format!("they have no {step}")))?;
            own.push(figure.own_share_ms);
            figure.outage_ms.into_iter().for_each(|ms| outage.push(ms));
        }
        report.rows.push(Row::new(row, own.median(), "ms").goal(Goal::Below(own_share_ms)));
        report.notes.push(format!("{step}, own share, ms: {own}"));
        report.notes.push(format!("{step}, what a client missed, ms: {outage}"));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(own_share_ms: f64) -> Vec<Figure> {
        let figure = |name: &str| Figure { name: name.to_owned(), outage_ms: Some(400.0), own_share_ms };
        ["in-service", "local-recovery", "failover", "power-cord", "failback"].map(figure).into()
    }

    #[test]
    fn the_median_of_all_rounds_is_judged() {
        let report = report(&[round(1.0), round(21.0), round(30.0)]).unwrap();
        let judged: Vec<_> = report.rows.iter().map(|row| (row.value, row.met)).collect();
        assert_eq!(
            judged,
            [(Some(21.0), Some(false)), (Some(21.0), Some(true)), (Some(21.0), Some(true)), (Some(21.0), Some(true))]
        );
        assert!(report.notes[1].contains("median 400"), "{:?}", report.notes);
    }

    #[test]
    fn a_step_that_is_not_there_is_no_figure() {
        let mut figures = round(1.0);
        figures.retain(|figure| figure.name != "failback");
        assert!(super::report(&[figures]).unwrap_err().to_string().contains("they have no failback"));
    }
}
