//! One quick-check that runs a program, `/bin/true`: the GenApp kit by way of the supervisor, beside the program alone
//! and beside an OCF agent's monitor, turn by turn.
//!
//! What mainstay adds is a process that outlives the daemon and owns output, deadline and process tree. The supervisor
//! is the `mainstay` binary itself, as in a real daemon; the path is the whole one, as for the null kit.

use std::process::Command;

use mainstay_runtime::{Limits, Runtime, RuntimeConfig};
use mainstay_supervisor::{Commands, SupervisorExe};
use mainstay_test_support::{TempDir, binary, kit};

use super::on_worker;
use crate::dummy::{Dummy, run as run_program};
use crate::effort::Effort;
use crate::sample::Samples;
use crate::summary::{Report, Row};
use crate::trouble::Trouble;
use crate::whole_path::WholePath;

/// What is run.
const PROGRAM: &str = "/bin/true";
/// Runs of one side before it is the next one's turn.
const TURN: usize = 5;

const CONFIG: &str = r#"
cluster = "bench"
kits = "kits"
[node.n]
[hierarchy.h]
nodes = ["n"]
[hierarchy.h.resource.r0]
kit = "genapp"
grants.command = ["/bin/true"]
params = { restore = "/bin/true", remove = "/bin/true", quick-check = "/bin/true" }
"#;

#[derive(Default)]
struct Times {
    whole: Samples,
    alone: Samples,
    dummy: Samples,
}

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let tokio = super::tokio()?;
    let folder = TempDir::new();
    let runtime = Runtime::new(RuntimeConfig { cache_dir: folder.join("compiled"), limits: Limits::default() })?;
    let genapp = tokio.block_on(runtime.load(&kit("genapp")))?;
    let commands = Commands::open(&folder.join("commands"), SupervisorExe::binary(binary("mainstay")))?;
    let kits = [("genapp".to_owned(), genapp)].into();
    let whole = tokio.block_on(WholePath::new(CONFIG, kits, folder.path(), commands))?;
    let dummy = Dummy::start()?;
    let has_dummy = dummy.is_some();
    let turns = effort.pick(1, 20, 100);
    let times = on_worker(&tokio, measure(whole, dummy, turns))?;
    drop(folder);
    Ok(report(&times, has_dummy))
}

async fn measure(mut whole: WholePath, dummy: Option<Dummy>, turns: usize) -> Result<Times, Trouble> {
    let mut times = Times::default();
    // The first turn warms up, and is not counted.
    for turn in 0..=turns {
        for _ in 0..TURN {
            let checked = whole.check().await?;
            let alone = run_program(&mut Command::new(PROGRAM))?;
            let monitored = dummy.as_ref().map(Dummy::monitor).transpose()?;
            if turn > 0 {
                times.whole.push_us(checked);
                times.alone.push_us(alone);
                monitored.into_iter().for_each(|took| times.dummy.push_us(took));
            }
        }
    }
    Ok(times)
}

fn report(times: &Times, has_dummy: bool) -> Report {
    const UNIT: &str = "us";
    let whole = times.whole.median();
    let monitor = has_dummy.then(|| times.dummy.median());
    let rows = vec![
        Row::new("program-check", whole, UNIT).against("/bin/true alone", Some(times.alone.median())),
        Row::new("program-check-agent", whole, UNIT).against(Dummy::NAME, monitor),
    ];
    let notes = vec![
        format!("a check that runs {PROGRAM}, us: {}", times.whole),
        format!("{PROGRAM} alone, us: {}", times.alone),
    ];
    let mut report = Report { rows, notes, missing: Vec::new() };
    Dummy::tell(has_dummy.then_some(&times.dummy), &mut report);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_measures_both_sides() {
        let report = run(Effort::Tiny).unwrap();
        let check = &report.rows[0];
        assert!(check.ratio.unwrap() > 1.0, "more than the program alone: {check:?}");
        assert_eq!(report.rows[1].value, check.value);
    }
}
