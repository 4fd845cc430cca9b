//! Runs seeds and case files, prints what fails in them, and writes it down as a case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use mainstay_sim::coverage::{Coverage, REQUIRED};
use mainstay_sim::run::{Outcome, run};
use mainstay_sim::scenario::Scenario;
use mainstay_sim::shrink::shrink;
use mainstay_sim::{joined, volume::run::Case};

/// The cluster, simulated from a seed.
#[derive(Debug, Parser)]
#[command(name = "mainstay-sim")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One seed, with its timeline.
    Seed {
        /// Which.
        seed: u64,
        /// Print the case, and do not run it.
        #[arg(long)]
        case: bool,
    },
    /// A case file, with its timeline.
    Case {
        /// Where it is.
        file: PathBuf,
    },
    /// A cluster with a volume: one seed with its timeline, or many.
    Volume {
        /// The first.
        seed: u64,
        /// So many.
        #[arg(long, default_value_t = 1)]
        count: u64,
        /// The two copies alone, with a stand-in for the cluster.
        #[arg(long)]
        alone: bool,
    },
    /// Plants each bug in the core and in the volume, and shows that it is found.
    Bugs {
        /// Only those whose names have this in them.
        #[arg(default_value = "")]
        only: String,
    },
    /// Many seeds, on all cores.
    Seeds {
        /// The first; else the clock chooses.
        #[arg(long)]
        from: Option<u64>,
        /// So many.
        #[arg(long)]
        count: Option<u64>,
        /// For so long.
        #[arg(long)]
        minutes: Option<f64>,
        /// On so many cores; else on all.
        #[arg(long)]
        jobs: Option<usize>,
        /// Go on after a failure, up to so many.
        #[arg(long, default_value_t = 1)]
        failures: usize,
        /// Where cases of what fails are written.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Print what has occurred, and fail if something never has.
        #[arg(long)]
        coverage: bool,
        /// Do not shrink what fails, and print one line.
        #[arg(long)]
        brief: bool,
    },
}

fn main() -> ExitCode {
    // A panic in the core is caught and told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    match Args::parse().command {
        Command::Seed { seed, case: true } => {
            print!("{}", Scenario::from_seed(seed).to_case());
            ExitCode::SUCCESS
        }
        Command::Seed { seed, case: false } => show(&Scenario::from_seed(seed)),
        Command::Case { file } => {
            let read = std::fs::read_to_string(&file).map_err(|error| error.to_string());
            match read.and_then(|text| Scenario::from_case(&text)) {
                Ok(scenario) => show(&scenario),
                Err(why) => {
                    eprintln!("{}: {why}", file.display());
                    ExitCode::from(2)
                }
            }
        }
        Command::Volume { seed, count, alone: true } => volumes_alone(seed, count),
        Command::Volume { seed, count, alone: false } => volumes(seed, count),
        Command::Bugs { only } => bugs(&only),
        Command::Seeds { from, count, minutes, jobs, failures, out, coverage, brief } => {
            let from = from.unwrap_or_else(|| {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64 * 1000)
            });
            let limit = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
            let count = count.unwrap_or(if limit.is_some() { u64::MAX } else { 100 });
            let jobs = jobs.unwrap_or_else(self::jobs);
            Corpus { from, count, limit, failures, out, coverage, brief }.run(jobs)
        }
    }
}

#[cfg(not(feature = "planted-bugs"))]
fn bugs(_: &str) -> ExitCode {
    eprintln!(
        "no bug can be planted in this build: cargo run --release -p mainstay-sim --features planted-bugs -- bugs"
    );
    ExitCode::from(2)
}

#[cfg(feature = "planted-bugs")]
fn bugs(only: &str) -> ExitCode {
    use mainstay_core::planted::{Bug, plant};
    use mainstay_sim::bugs::Within;
    let mut code = ExitCode::SUCCESS;
    println!("{:<24} {:>7} {:>7} {:>7}  found as", "planted", "within", "seeds", "s");
    for (bug, name) in Bug::ALL.iter().filter(|(_, name)| name.contains(only)) {
        plant(Some(*bug));
        let began = Instant::now();
        let (count, seeds, rule) = match mainstay_sim::bugs::within(*bug) {
            Within::Clusters(count) => {
                let corpus =
                    Corpus { from: 0, count, limit: None, failures: 1, out: None, coverage: false, brief: true };
                let sum = corpus.gather(jobs());
                (count, sum.seeds, sum.failed.first().and_then(|(_, outcome)| outcome.broken.first().cloned()))
            }
            Within::Volumes(count) => {
                let (seeds, rule) = mainstay_sim::joined::bugs::find(count, jobs());
                (count, seeds, rule)
            }
        };
        let took = began.elapsed().as_secs_f64();
        if rule.is_none() {
            code = ExitCode::FAILURE;
        }
        let rule: String = rule.as_deref().unwrap_or("NOT FOUND").chars().take(110).collect();
        println!("{name:<24} {count:>7} {seeds:>7} {took:>7.1}  {rule}");
    }
    plant(None);
    if volume_bugs(only) { code } else { ExitCode::FAILURE }
}

/// The same for the volume's bugs; whether all were found.
#[cfg(feature = "planted-bugs")]
fn volume_bugs(only: &str) -> bool {
    use mainstay_volume_core::planted::{Bug, plant};
    let mut all = true;
    for (bug, name) in Bug::ALL.iter().filter(|(_, name)| name.contains(only)) {
        plant(Some(*bug));
        let count = mainstay_sim::volume::bugs::seeds(*bug);
        let began = Instant::now();
        let cases = (0..count).map(Case::from_seed).chain(mainstay_sim::volume::bugs::points());
        let found = (0u64..).zip(cases).find_map(|(number, case)| Some((number, case.run(false).broken?)));
        let took = began.elapsed().as_secs_f64();
        let (seeds, rule) = found.clone().map_or((count, "NOT FOUND".into()), |(seed, rule)| (seed + 1, rule));
        let rule: String = rule.chars().take(110).collect();
        println!("{name:<24} {count:>7} {seeds:>7} {took:>7.1}  {rule}");
        all &= found.is_some();
    }
    plant(None);
    all
}

/// Clusters with volumes from seeds: what happens in one, or which of many fail.
fn volumes(from: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    let (next, sum) = (AtomicU64::new(0), Mutex::new((Vec::new(), BTreeMap::<String, u64>::new(), 0u64)));
    std::thread::scope(|scope| {
        for _ in 0..jobs().min(usize::try_from(count).unwrap_or(usize::MAX)) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = from.wrapping_add(number);
                    let outcome = joined::case::Case::from_seed(seed).run(count == 1);
                    let Ok(mut sum) = sum.lock() else { return };
                    outcome.told.iter().for_each(|line| println!("{line}"));
                    sum.0.extend(outcome.broken.map(|why| (seed, why)));
                    outcome.counts.into_iter().for_each(|(what, times)| *sum.1.entry(what).or_default() += times);
                    sum.2 += outcome.simulated.0;
                }
            });
        }
    });
    let (mut failed, counts, simulated) = sum.into_inner().unwrap_or_default();
    counts.iter().for_each(|(what, times)| println!("{times:>9}  {what}"));
    failed.sort();
    for (seed, why) in &failed {
        println!("{seed}: {why}");
    }
    if let Some((seed, why)) = failed.first() {
        let case = joined::case::Case::from_seed(*seed);
        let small = case.shrink(why.split(':').next().unwrap_or_default());
        println!("{seed}, shrunk: {:?} {:#?}", small.scenario.hierarchies[0].mode, small.scenario.faults);
    }
    let (hours, took) = (simulated as f64 / 3_600_000.0, began.elapsed().as_secs_f64());
    println!("{count} seeds from {from}, {hours:.1} h simulated in {took:.1} s; {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Two copies with a stand-in for the cluster: what happens in one, or which of many fail.
fn volumes_alone(from: u64, count: u64) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for seed in from..from.saturating_add(count) {
        let outcome = Case::from_seed(seed).run(count == 1);
        outcome.told.iter().for_each(|line| println!("{line}"));
        if let Some(why) = outcome.broken {
            let rule = why.split(':').next().unwrap_or_default();
            println!("{seed}: {why}\n{:?}", Case::from_seed(seed).shrink(rule).trouble);
            code = ExitCode::FAILURE;
        }
    }
    code
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn show(scenario: &Scenario) -> ExitCode {
    let outcome = run(scenario, false);
    print!("{}", outcome.told());
    if outcome.broken.is_empty() {
        println!("nothing is broken in {} of simulated time", outcome.simulated);
        return ExitCode::SUCCESS;
    }
    outcome.broken.iter().for_each(|broken| println!("BROKEN {broken}"));
    ExitCode::FAILURE
}

struct Corpus {
    from: u64,
    count: u64,
    limit: Option<Duration>,
    failures: usize,
    out: Option<PathBuf>,
    coverage: bool,
    brief: bool,
}

#[derive(Default)]
struct Sum {
    coverage: Coverage,
    seeds: u64,
    simulated_ms: u64,
    failed: Vec<(u64, Outcome)>,
}

impl Corpus {
    fn run(&self, jobs: usize) -> ExitCode {
        let began = Instant::now();
        let sum = self.gather(jobs);
        self.tell(&sum, began.elapsed())
    }

    fn gather(&self, jobs: usize) -> Sum {
        let began = Instant::now();
        let next = AtomicU64::new(0);
        let enough = AtomicBool::new(false);
        let sum = Mutex::new(Sum::default());
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let late = self.limit.is_some_and(|limit| began.elapsed() >= limit);
                        if number >= self.count || late || enough.load(Ordering::Relaxed) {
                            return;
                        }
                        let seed = self.from.wrapping_add(number);
                        let outcome = run(&Scenario::from_seed(seed), true);
                        let Ok(mut sum) = sum.lock() else { return };
                        sum.seeds += 1;
                        sum.simulated_ms += outcome.simulated.0;
                        sum.coverage.add(&outcome.coverage);
                        if !outcome.broken.is_empty() {
                            sum.failed.push((seed, outcome));
                            if sum.failed.len() >= self.failures {
                                enough.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_default()
    }

    fn tell(&self, sum: &Sum, took: Duration) -> ExitCode {
        let hours = sum.simulated_ms as f64 / 3_600_000.0;
        println!(
            "{} seeds from {}, {hours:.1} h simulated in {:.1} s: {:.2} h/s; {} failed",
            sum.seeds,
            self.from,
            took.as_secs_f64(),
            hours / took.as_secs_f64(),
            sum.failed.len()
        );
        let mut code = ExitCode::SUCCESS;
        if self.coverage {
            print!("{}", sum.coverage.table());
            let missing = sum.coverage.missing(REQUIRED);
            if !missing.is_empty() {
                println!("never occurred: {}", missing.join(", "));
                code = ExitCode::FAILURE;
            }
        }
        for (seed, outcome) in &sum.failed {
            println!("seed {seed}: {}", outcome.broken[0]);
        }
        if let Some((seed, outcome)) = sum.failed.first() {
            if !self.brief {
                self.write_down(*seed, outcome);
            }
            code = ExitCode::FAILURE;
        }
        code
    }

    /// Shrinks what failed, prints its timeline, and writes its case.
    fn write_down(&self, seed: u64, outcome: &Outcome) {
        let Some(rule) = outcome.rule() else { return };
        let small = shrink(&Scenario::from_seed(seed), rule, Duration::from_secs(30));
        let again = run(&small, false);
        print!("{}", again.told());
        let mut text = format!("# Found by seed {seed}, and shrunk.\n");
        for broken in &again.broken {
            println!("BROKEN {broken}");
            text += &format!("# {broken}\n");
        }
        text += &small.to_case();
        let folder = self.out.clone().unwrap_or_else(|| {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
            target.join("sim")
        });
        match write(&folder, seed, &text) {
            Ok(file) => println!("the case is in {}:\n{text}", file.display()),
            Err(error) => println!("the case could not be written to {}: {error}\n{text}", folder.display()),
        }
    }
}

fn write(folder: &Path, seed: u64, text: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join(format!("{seed}.txt"));
    std::fs::write(&file, text)?;
    Ok(file)
}
