//! Loading a kit: read, examined, compiled or taken from the cache, linked; from the file to a kit that can be called.
//!
//! Cold means that nothing of it is in the cache; the file itself is in the system's page cache either way.

use std::path::Path;
use std::time::Instant;

use mainstay_runtime::{Limits, Runtime, RuntimeConfig};
use mainstay_test_support::{TempDir, kits};

use crate::effort::Effort;
use crate::sample::Samples;
use crate::summary::{Goal, Report, Row};
use crate::trouble::Trouble;

/// How long loading from the cache may take, in ms.
const CACHED_MS: f64 = 5.0;

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let tokio = super::tokio()?;
    let folder = TempDir::new();
    let cache = folder.join("compiled");
    let began = Instant::now();
    let runtime = Runtime::new(RuntimeConfig { cache_dir: cache.clone(), limits: Limits::default() })?;
    let mut report = Report::default();
    report.notes.push(format!("setting the runtime up once, ms: {:.1}", began.elapsed().as_secs_f64() * 1e3));
    let (cold_loads, cached_loads) = (effort.pick(1, 2, 5), effort.pick(2, 30, 200));
    let names = kits::names().map_err(|error| Trouble::Panicked(error.to_string()))?;
    for name in &names {
        let file = kits::kit(name);
        let (mut cold, mut cached) = (Samples::new(), Samples::new());
        for _ in 0..cold_loads {
            empty(&cache)?;
            cold.push_ms(load(&tokio, &runtime, &file, false)?);
            for _ in 0..cached_loads / cold_loads {
                cached.push_ms(load(&tokio, &runtime, &file, true)?);
            }
        }
        report.rows.push(Row::new(format!("load-{name}-cold"), cold.median(), "ms"));
        report.rows.push(Row::new(format!("load-{name}-cached"), cached.median(), "ms").goal(Goal::Below(CACHED_MS)));
        report.notes.push(format!("{name}, cold, ms: {cold}"));
        report.notes.push(format!("{name}, cached, ms: {cached}"));
    }
    Ok(report)
}

fn load(
    tokio: &tokio::runtime::Runtime,
    runtime: &Runtime,
    file: &Path,
    cached: bool,
) -> Result<std::time::Duration, Trouble> {
    let began = Instant::now();
    let kit = tokio.block_on(runtime.load(file))?;
    let took = began.elapsed();
    if kit.from_cache() == cached {
        return Ok(took);
    }
    let where_from = if cached { "the cache did not have it" } else { "it came from the cache" };
    Err(Trouble::Unexpected("loading a kit", where_from.into()))
}

fn empty(cache: &Path) -> Result<(), Trouble> {
    let entries = std::fs::read_dir(cache).map_err(Trouble::file("list", cache))?;
    for entry in entries {
        let path = entry.map_err(Trouble::file("list", cache))?.path();
        std::fs::remove_file(&path).map_err(Trouble::file("remove", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kit_is_loaded_both_ways() {
        let report = run(Effort::Tiny).unwrap();
        for name in kits::names().unwrap() {
            let of = |how: &str| {
                let row = report.rows.iter().find(|row| row.name == format!("load-{name}-{how}"));
                row.and_then(|row| row.value).unwrap()
            };
            assert!(of("cold") > of("cached"), "{name}");
        }
    }
}
