//! Runs seeds and case files, prints what fails in them, and writes it down as a case.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use mainstay_sim::bugs::{Bug, PLANTED};
use mainstay_sim::coverage::{Coverage, REQUIRED};
use mainstay_sim::run::{Outcome, run};
use mainstay_sim::scenario::Scenario;
use mainstay_sim::shrink::shrink;

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
    /// Plants each bug in the core, and shows that it is found. Run it in the repository: it builds with cargo.
    Bugs {
        /// Only those whose names have this in them.
        #[arg(long, default_value = "")]
        only: String,
        /// Where they are built.
        #[arg(long)]
        target: PathBuf,
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
        Command::Bugs { only, target } => bugs(&only, &target),
        Command::Seeds { from, count, minutes, jobs, failures, out, coverage, brief } => {
            let from = from.unwrap_or_else(|| {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64 * 1000)
            });
            let limit = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
            let count = count.unwrap_or(if limit.is_some() { u64::MAX } else { 100 });
            let jobs = jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
            Corpus { from, count, limit, failures, out, coverage, brief }.run(jobs)
        }
    }
}

fn bugs(only: &str, target: &Path) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    println!("{:<28} {:>7} {:>7}  found as", "planted", "seeds", "after s");
    for bug in PLANTED.iter().filter(|bug| bug.feature.contains(only)) {
        match find(bug, target) {
            Ok(Some((seeds, took, rule))) => {
                println!("{:<28} {seeds:>7} {:>7.1}  {rule}", bug.feature, took.as_secs_f64());
            }
            Ok(None) => {
                println!("{:<28} {:>7} {:>7}  NOT FOUND", bug.feature, bug.seeds, "");
                code = ExitCode::FAILURE;
            }
            Err(why) => {
                println!("{:<28} {why}", bug.feature);
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// After how many seeds, how long, and as what it was found.
fn find(bug: &Bug, target: &Path) -> Result<Option<(u64, Duration, String)>, String> {
    let feature = format!("mainstay-core/{}", bug.feature);
    let build = std::process::Command::new("cargo")
        .args(["build", "--quiet", "--release", "--package", "mainstay-sim", "--features", &feature, "--target-dir"])
        .arg(target)
        // The sooner it is built the better: it runs for seconds.
        .envs([("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"), ("CARGO_PROFILE_RELEASE_DEBUG", "0")])
        .status();
    match build {
        Ok(status) if status.success() => {}
        Ok(_) => return Err("could not be built".into()),
        Err(error) => return Err(format!("cargo could not be run: {error}")),
    }
    let began = Instant::now();
    let count = bug.seeds.to_string();
    let run = std::process::Command::new(target.join("release/mainstay-sim"))
        .args(["seeds", "--from", "0", "--brief", "--count", &count])
        .output()
        .map_err(|error| format!("could not be run: {error}"))?;
    let said = String::from_utf8_lossy(&run.stdout);
    let found = said.lines().find_map(|line| line.strip_prefix("seed ")?.split_once(": "));
    let seeds = said.lines().find_map(|line| line.split_once(" seeds from ")?.0.parse().ok()).unwrap_or_default();
    Ok(found.map(|(_, rule)| (seeds, began.elapsed(), rule.chars().take(100).collect())))
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
                            println!("seed {seed}: {}", outcome.broken[0]);
                            sum.failed.push((seed, outcome));
                            if sum.failed.len() >= self.failures {
                                enough.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        let sum = sum.into_inner().unwrap_or_default();
        self.tell(&sum, began.elapsed())
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
