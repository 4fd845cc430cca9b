//! `just bench [NAME...] [--quick] [--strict]`: runs measurements, prints a table, writes `bench/summary.json` in cargo's
//! target folder.
//!
//! Exit code 0 also when goals are missed (1 with `--strict`, also for one that could not be judged); 1 when a
//! measurement failed; 2 when it is used wrongly.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mainstay_bench::effort::Effort;
use mainstay_bench::machine;
use mainstay_bench::measure::{ALL, Measurement};
use mainstay_bench::summary::{Report, Row, table, write_json};

/// Measures mainstay and its peers in one run.
#[derive(Debug, Parser)]
#[command(name = "just bench", after_help = names())]
struct Cli {
    /// Only these measurements [default: all].
    #[arg(value_parser = measurement)]
    name: Vec<Measurement>,
    /// Short runs: a look at the order of magnitude.
    #[arg(long)]
    quick: bool,
    /// A goal that is missed, or cannot be judged, makes the exit code 1.
    #[arg(long)]
    strict: bool,
    /// What cargo calls every benchmark with.
    #[arg(long, hide = true)]
    bench: bool,
}

fn names() -> String {
    let lines: Vec<String> = ALL.iter().map(|it| format!("  {:<10} {}", it.name, it.title)).collect();
    format!("Measurements:\n{}", lines.join("\n"))
}

fn measurement(name: &str) -> Result<Measurement, String> {
    let known = || ALL.map(|measurement| measurement.name).join(", ");
    ALL.into_iter().find(|it| it.name == name).ok_or_else(|| format!("there are: {}", known()))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let effort = if cli.quick { Effort::Quick } else { Effort::Full };
    let chosen = if cli.name.is_empty() { ALL.to_vec() } else { cli.name };
    println!("{}; load average {:.2}", machine::processor(), machine::load_average());
    let mut all = Report::default();
    let mut failed = Vec::new();
    for measurement in chosen {
        println!("\n{}: {}", measurement.name, measurement.title);
        let (began, load) = (Instant::now(), machine::load_average());
        match measurement.run(effort) {
            Ok(report) => {
                report.notes.iter().for_each(|note| println!("  {note}"));
                all.rows.extend(report.rows);
                all.missing.extend(report.missing);
            }
            Err(trouble) => {
                println!("  FAILED: {trouble}");
                all.rows.push(Row::failed(measurement.name));
                failed.push(measurement.name);
            }
        }
        println!("  {:.0} s; load average {load:.2} to {:.2}", began.elapsed().as_secs_f64(), machine::load_average());
    }
    println!("\n{}", table(&all.rows));
    finish(all, &failed, cli.strict)
}

fn finish(mut all: Report, failed: &[&str], strict: bool) -> ExitCode {
    all.missing.sort();
    all.missing.dedup();
    for missing in &all.missing {
        println!("missing peer: {missing}");
    }
    let missed: Vec<&str> = all.rows.iter().filter(|row| row.met == Some(false)).map(|row| &*row.name).collect();
    if !missed.is_empty() {
        println!("missed: {}", missed.join(", "));
    }
    let path = summary();
    let mut code = ExitCode::SUCCESS;
    match write_json(&path, &all.rows) {
        Ok(()) => println!("{}", path.display()),
        Err(trouble) => {
            eprintln!("{trouble}");
            code = ExitCode::FAILURE;
        }
    }
    if !failed.is_empty() {
        eprintln!("could not be measured: {}", failed.join(", "));
        code = ExitCode::FAILURE;
    }
    let judged = all.rows.iter().filter(|row| row.goal.is_some());
    if strict && judged.filter(|row| row.met != Some(true)).count() > 0 {
        code = ExitCode::FAILURE;
    }
    code
}

/// In cargo's target folder, which is above that for temporary files of benchmarks.
fn summary() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).join("bench/summary.json")
}
