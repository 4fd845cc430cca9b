//! One quick-check of the null kit: the whole path of a check, beside wasmtime alone and beside an OCF agent's monitor.
//!
//! The whole path goes from the moment a check is due to the moment everything that follows from its outcome is
//! carried out: the core decides, a task is started, the kit is called in a fresh store, the outcome is told to the core,
//! its outputs are drained. All sides take turns of many calls, on the same thread of the same process.
//!
//! The goal is set against wasmtime with a pool that is set up for many short calls. mainstay sets its own pool up so that
//! a bare call is twice as quick; that side has no goal, and shows what the rest of the path costs: metering, the core,
//! and handing the call to another thread and back.

use std::path::PathBuf;
use std::time::Instant;

use mainstay_runtime::{Limits, Runtime, RuntimeConfig};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::{TempDir, kit};
use tokio::runtime::Runtime as Tokio;

use super::on_worker;
use crate::bare::{BareKit, on_demand_engine, tuned_engine};
use crate::dummy::Dummy;
use crate::effort::Effort;
use crate::sample::Samples;
use crate::summary::{Goal, Report, Row};
use crate::trouble::Trouble;
use crate::whole_path::WholePath;

/// How much more than bare wasmtime a check may take.
const TIMES_BARE_MAX: f64 = 1.3;
/// How much less than an agent's monitor.
const CHEAPER_MIN: f64 = 80.0;
/// Calls of one side before it is the next one's turn: long enough to be warm, short enough for the same weather.
const TURN: usize = 50;
/// Monitors in a turn: each takes as long as a hundred checks.
const MONITORS: usize = 2;

const CONFIG: &str = r#"
cluster = "bench"
kits = "kits"
[node.n]
[hierarchy.h]
nodes = ["n"]
[hierarchy.h.resource.r0]
kit = "null"
"#;

/// Everything that takes turns.
struct Sides {
    whole: WholePath,
    tuned: BareKit,
    same: BareKit,
    on_demand: BareKit,
    dummy: Option<Dummy>,
    // What runs uses it to the end.
    _folder: TempDir,
}

#[derive(Default)]
struct Times {
    whole: Samples,
    tuned: Samples,
    same: Samples,
    on_demand: Samples,
    dummy: Samples,
    /// How the whole path compares with tuned wasmtime, turn by turn.
    ratios: Samples,
}

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let tokio = super::tokio()?;
    let sides = set_up(&tokio)?;
    let has_dummy = sides.dummy.is_some();
    // The first tenth warms caches and the processor up, and is not counted.
    let turns: usize = effort.pick(1, 60, 500);
    let times = on_worker(&tokio, measure(sides, turns))?;
    Ok(report(&times, has_dummy))
}

fn set_up(tokio: &Tokio) -> Result<Sides, Trouble> {
    let folder = TempDir::new();
    let file: PathBuf = kit("null");
    let wasm = std::fs::read(&file).map_err(Trouble::file("read", &file))?;
    let runtime = Runtime::new(RuntimeConfig { cache_dir: folder.join("compiled"), limits: Limits::default() })?;
    let null = tokio.block_on(runtime.load(&file))?;
    // The null kit runs no programs, so that nothing is ever executed to supervise one.
    let commands = Commands::open(&folder.join("commands"), SupervisorExe::alone("/nonexistent"))?;
    let kits = [("null".to_owned(), null)].into();
    Ok(Sides {
        whole: tokio.block_on(WholePath::new(CONFIG, kits, folder.path(), commands))?,
        tuned: BareKit::new(&tuned_engine()?, &wasm)?,
        same: BareKit::new(runtime.pooled_engine(), &wasm)?,
        on_demand: BareKit::new(&on_demand_engine()?, &wasm)?,
        dummy: Dummy::start()?,
        _folder: folder,
    })
}

async fn measure(mut sides: Sides, turns: usize) -> Result<Times, Trouble> {
    let mut times = Times::default();
    let warm_up = turns / 10;
    for turn in 0..turns + warm_up {
        let mut of_turn = Times::default();
        for _ in 0..TURN {
            of_turn.whole.push_us(sides.whole.check().await?);
        }
        for (bare, samples) in [
            (&sides.tuned, &mut of_turn.tuned),
            (&sides.same, &mut of_turn.same),
            (&sides.on_demand, &mut of_turn.on_demand),
        ] {
            for _ in 0..TURN {
                let began = Instant::now();
                bare.quick_check().await?;
                samples.push_us(began.elapsed());
            }
        }
        for _ in 0..MONITORS {
            if let Some(dummy) = &sides.dummy {
                of_turn.dummy.push_us(dummy.monitor()?);
            }
        }
        if turn >= warm_up {
            times.add(&of_turn);
        }
    }
    Ok(times)
}

impl Times {
    fn add(&mut self, turn: &Self) {
        self.ratios.push(turn.whole.median() / turn.tuned.median());
        self.whole.extend(&turn.whole);
        self.tuned.extend(&turn.tuned);
        self.same.extend(&turn.same);
        self.on_demand.extend(&turn.on_demand);
        self.dummy.extend(&turn.dummy);
    }
}

fn report(times: &Times, has_dummy: bool) -> Report {
    const UNIT: &str = "us";
    let whole = times.whole.median();
    let monitor = has_dummy.then(|| times.dummy.median());
    let rows = vec![
        Row::new("check-median", whole, UNIT)
            .against("wasmtime, pooled, tuned", Some(times.tuned.median()))
            .goal(Goal::TimesPeerAtMost(TIMES_BARE_MAX)),
        Row::new("check-median-same-settings", whole, UNIT)
            .against("wasmtime, pooled, mainstay's settings", Some(times.same.median())),
        Row::new("check-median-on-demand", whole, UNIT).against("wasmtime, on demand", Some(times.on_demand.median())),
        Row::new("check-p99", times.whole.p99(), UNIT).against("wasmtime, pooled, tuned", Some(times.tuned.p99())),
        Row::new("check-agent", whole, UNIT).against(Dummy::NAME, monitor).goal(Goal::CheaperAtLeast(CHEAPER_MIN)),
    ];
    let notes = vec![
        format!("whole path, us: {}", times.whole),
        format!("wasmtime, pooled, tuned, us: {}", times.tuned),
        format!("wasmtime, pooled, mainstay's settings, us: {}", times.same),
        format!("wasmtime, on demand, us: {}", times.on_demand),
        format!("whole path by wasmtime, pooled, tuned, turn by turn: {}", times.ratios),
    ];
    let mut report = Report { rows, notes, missing: Vec::new() };
    Dummy::tell(has_dummy.then_some(&times.dummy), &mut report);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_measures_every_side() {
        let report = run(Effort::Tiny).unwrap();
        let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(
            names,
            ["check-median", "check-median-same-settings", "check-median-on-demand", "check-p99", "check-agent"]
        );
        for row in &report.rows[..4] {
            assert!(row.value.unwrap() > 0.0 && row.ratio.unwrap() > 0.0, "{row:?}");
        }
        let agent = &report.rows[4];
        assert_eq!(agent.peer_value.is_some(), agent.met.is_some());
        assert_eq!(agent.peer_value.is_none(), report.missing == [Dummy::missing()], "a missing peer is named");
    }
}
