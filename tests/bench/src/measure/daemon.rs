//! A real daemon with 10,000 null resources, each checked every 5 s: its processor time, how late checks begin, its
//! memory. Once as a hundred hierarchies of a hundred, once as one of all.
//!
//! The daemon is the release binary with its journal on disk. It is measured after everything is in service and checks
//! have gone round, over whole rounds. How late a check began the daemon counts itself, in buckets; what is told is the
//! upper end of the one that 99 of 100 checks are in.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mainstay_node::measures::Counts;

use crate::daemon::Daemon;
use crate::effort::Effort;
use crate::machine;
use crate::summary::{Goal, Report, Row, in_digits};
use crate::trouble::Trouble;

/// Percent of one core.
const CPU_PERCENT: f64 = 20.0;
/// How late a check may begin, in ms.
const LATE_MS: f64 = 50.0;
/// Resident memory, in MB.
const MEMORY_MB: f64 = 300.0;
/// How long until all is in service, in s: every restore is two records, each of them durable before it goes on.
const IN_SERVICE_S_MAX: u64 = 300;
/// The share of the checks that are due in the time that must have begun: fewer, and it measured something else.
const BEGUN_SHARE_MIN: f64 = 0.9;

/// What is measured, and for how long.
#[derive(Clone, Copy, Debug)]
struct Load {
    hierarchies: u64,
    resources_each: u64,
    check_interval: Duration,
    settle: Duration,
    window: Duration,
}

/// What a daemon did in the window.
#[derive(Debug)]
struct Seen {
    cpu: Duration,
    window: Duration,
    checks: u64,
    late_p99_ms: f64,
    late_max_ms: u64,
    memory: machine::Memory,
    busy_cores: f64,
}

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let (many, few) = effort.pick((3, 10), (100, 100), (100, 100));
    let check_interval = effort.pick(Duration::from_millis(200), Duration::from_secs(5), Duration::from_secs(5));
    // Whole rounds, because first checks are spread over less than the interval.
    let (settle, window) = (check_interval * effort.pick(1, 2, 3), check_interval * effort.pick(2, 2, 8));
    let mut report = Report::default();
    for (name, hierarchies, resources_each) in [("many", many, few), ("one", 1, many * few)] {
        let load = Load { hierarchies, resources_each, check_interval, settle, window };
        let seen = measure(&load)?;
        report.rows.extend(rows(name, &seen));
        report.notes.push(format!(
            "{hierarchies} x {resources_each}: {} checks in {:.1} s; latest {} ms late; memory at its greatest {} MB; the machine's other processes took {} cores meanwhile",
            seen.checks,
            seen.window.as_secs_f64(),
            seen.late_max_ms,
            in_digits(megabytes(seen.memory.peak_bytes)),
            in_digits(seen.busy_cores),
        ));
    }
    Ok(report)
}

fn rows(name: &str, seen: &Seen) -> [Row; 4] {
    let cpu_s = seen.cpu.as_secs_f64();
    [
        Row::new(format!("daemon-{name}-cpu"), cpu_s / seen.window.as_secs_f64() * 100.0, "% of a core")
            .goal(Goal::Below(CPU_PERCENT)),
        Row::new(format!("daemon-{name}-cpu-per-check"), cpu_s * 1e6 / seen.checks as f64, "us"),
        Row::new(format!("daemon-{name}-late-p99"), seen.late_p99_ms, "ms").goal(Goal::AtMost(LATE_MS)),
        Row::new(format!("daemon-{name}-memory"), megabytes(seen.memory.resident_bytes), "MB")
            .goal(Goal::Below(MEMORY_MB)),
    ]
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn measure(load: &Load) -> Result<Seen, Trouble> {
    let mut daemon = Daemon::start(&config(load), &["null"])?;
    daemon.wait_until_in_service(IN_SERVICE_S_MAX)?;
    std::thread::sleep(load.settle);
    let (counts, cpu, busy, began) = (daemon.counts()?, daemon.cpu_time()?, machine::busy_time()?, Instant::now());
    std::thread::sleep(load.window);
    let (then, cpu_then, busy_then, window) =
        (daemon.counts()?, daemon.cpu_time()?, machine::busy_time()?, began.elapsed());
    let counts = between(&counts, &then)?;
    let due =
        (load.hierarchies * load.resources_each) as f64 * window.as_secs_f64() / load.check_interval.as_secs_f64();
    if (counts.checks_begun as f64) < due * BEGUN_SHARE_MIN {
        let problem = format!("{} checks began where {due:.0} were due", counts.checks_begun);
        return Err(Trouble::Unexpected("checking", problem));
    }
    let cpu = cpu_then.saturating_sub(cpu);
    let others = busy_then.saturating_sub(busy).saturating_sub(cpu);
    Ok(Seen {
        cpu,
        window,
        checks: counts.checks_begun,
        late_p99_ms: late_p99_ms(&counts),
        late_max_ms: then.check_lateness_ms_max,
        memory: daemon.memory()?,
        busy_cores: others.as_secs_f64() / window.as_secs_f64(),
    })
}

fn config(load: &Load) -> String {
    let mut out = "cluster = \"bench\"\nkits = \"kits\"\n[node.n]\n".to_owned();
    for hierarchy in 0..load.hierarchies {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "[hierarchy.h{hierarchy}]\nnodes = [\"n\"]");
        for resource in 0..load.resources_each {
            let _ = writeln!(
                out,
                "[hierarchy.h{hierarchy}.resource.r{hierarchy}-{resource}]\nkit = \"null\"\ncheck-interval = \"{}ms\"",
                load.check_interval.as_millis()
            );
        }
    }
    out
}

/// What was counted between two moments; the greatest lateness is that of all time, and is kept.
fn between(before: &Counts, then: &Counts) -> Result<Counts, Trouble> {
    let known = |most: u64| before.check_lateness_ms.iter().find(|(at, _)| *at == most).map_or(0, |(_, count)| *count);
    let counts = Counts {
        checks_begun: then.checks_begun.saturating_sub(before.checks_begun),
        calls_ended: then.calls_ended.saturating_sub(before.calls_ended),
        check_lateness_ms: then.check_lateness_ms.iter().map(|(most, count)| (*most, count - known(*most))).collect(),
        ..then.clone()
    };
    let counted: u64 = counts.check_lateness_ms.iter().map(|(_, count)| count).sum();
    if counted == counts.checks_begun {
        return Ok(counts);
    }
    let problem = format!("{counted} are in buckets, {} have begun", counts.checks_begun);
    Err(Trouble::Unexpected("counting late checks", problem))
}

/// The upper end of the bucket that holds the check which 99 of 100 are not later than.
fn late_p99_ms(counts: &Counts) -> f64 {
    let rank = (counts.checks_begun as f64 * 0.99).ceil() as u64;
    let mut so_far = 0;
    for (most, count) in &counts.check_lateness_ms {
        so_far += count;
        if so_far >= rank {
            return (*most).min(counts.check_lateness_ms_max.max(1)) as f64;
        }
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_daemon_is_measured() {
        let report = run(Effort::Tiny).unwrap();
        assert_eq!(report.rows.len(), 8);
        assert!(report.rows.iter().all(|row| row.value.is_some_and(|value| value > 0.0)), "{:#?}", report.rows);
    }

    #[test]
    fn lateness_is_that_of_the_window() {
        let counts = |begun, buckets: [u64; 3]| Counts {
            checks_begun: begun,
            calls_ended: begun,
            check_lateness_ms: [5, 50, u64::MAX].into_iter().zip(buckets).collect(),
            check_lateness_ms_max: 700,
            ..Counts::default()
        };
        let late = |before, then| between(&before, &then).map(|counts| late_p99_ms(&counts));
        assert_eq!(late(counts(10, [0, 0, 10]), counts(110, [99, 1, 10])).unwrap(), 5.0);
        assert_eq!(late(counts(10, [0, 0, 10]), counts(110, [98, 2, 10])).unwrap(), 50.0);
        assert_eq!(late(counts(0, [0; 3]), counts(100, [0, 0, 100])).unwrap(), 700.0);
        assert!(late(counts(0, [0; 3]), counts(100, [0, 0, 99])).is_err());
        let none = Counts::default();
        assert_eq!(late(none, counts(100, [99, 1, 0])).unwrap(), 5.0, "there are no buckets before the first check");
    }
}
