//! What the machine is and does: read from `/proc`, told beside the figures so that a reader can judge them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::trouble::Trouble;

/// Runnable processes, averaged over a minute; NaN where the kernel does not tell.
#[must_use]
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// Cores and their model, in words.
#[must_use]
pub fn processor() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("of an unknown model", |(_, model)| model.trim());
    format!("{cores} cores, {model}")
}

/// The file system that a path is on, in words: its type and device.
#[must_use]
pub fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of = mounts.lines().filter_map(|line| {
        let [device, mounted_at, kind, ..] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        path.starts_with(mounted_at).then_some((mounted_at.len(), format!("{kind} on {device}")))
    });
    // The last of those mounted at one place covers the others.
    of.max_by_key(|(length, _)| *length).map_or_else(|| "an unknown file system".to_owned(), |(_, text)| text)
}

/// The processor time that a process has used, all its threads together, those that have ended included.
///
/// # Errors
/// When there is no such process.
pub fn cpu_time(pid: u32) -> Result<Duration, Trouble> {
    let asked = clock_getcpuclockid(as_pid(pid)).and_then(clock_gettime);
    let time = asked.map_err(|errno| Trouble::system("read the processor time of a process")(errno.into()))?;
    Ok(Duration::from(time))
}

/// The processor time that all cores together have spent on anything but idling, since the machine started.
///
/// # Errors
/// When the kernel does not tell.
pub fn busy_time() -> Result<Duration, Trouble> {
    const TICKS_PER_S: f64 = 100.0; // USER_HZ, which the kernel promises to stay.
    let path = PathBuf::from("/proc/stat");
    let text = fs::read_to_string(&path).map_err(Trouble::file("read", &path))?;
    // user nice system idle iowait irq softirq steal
    let ticks = text.lines().next().and_then(|line| {
        let fields: Vec<f64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = fields[..] else { return None };
        Some(user + nice + system + irq + softirq + steal)
    });
    let ticks = ticks.ok_or(Trouble::Unreadable { what: "the processors' time", path })?;
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_S))
}

/// What a process has in memory, now and at its greatest, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub resident_bytes: u64,
    /// At its greatest.
    pub peak_bytes: u64,
}

/// What a process has in memory.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<Memory, Trouble> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let text = fs::read_to_string(&path).map_err(Trouble::file("read", &path))?;
    let bytes = |key: &str, what| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| Trouble::Unreadable { what, path: path.clone() })
    };
    Ok(Memory {
        resident_bytes: bytes("VmRSS:", "the memory of a process")?,
        peak_bytes: bytes("VmHWM:", "the greatest memory of a process")?,
    })
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid is an i32 in Linux"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::Instant;

    #[test]
    fn processor_time_is_what_was_computed() {
        let own = std::process::id();
        let (before, busy_before) = (cpu_time(own).unwrap(), busy_time().unwrap());
        let began = Instant::now();
        let enough = Duration::from_millis(200);
        while cpu_time(own).unwrap() - before < enough && began.elapsed() < Duration::from_secs(60) {
            black_box((0..black_box(100_000_u64)).sum::<u64>());
        }
        assert!(cpu_time(own).unwrap() - before >= enough);
        assert!(busy_time().unwrap() > busy_before);
        assert!(cpu_time(u32::from(u16::MAX) * 100).is_err(), "there is no such process");
    }

    #[test]
    fn the_machine_is_described() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident_bytes > 1 << 20 && memory.peak_bytes >= memory.resident_bytes, "{memory:?}");
        assert!(load_average() >= 0.0);
        assert!(processor().contains(" cores, "));
        assert!(
            file_system(Path::new("/proc/self")).starts_with("proc on "),
            "{}",
            file_system(Path::new("/proc/self"))
        );
    }
}
