//! The mirrored volume: what a synchronous mirror writes beside qemu-storage-daemon's two, what a volume without another
//! copy writes beside qemu-nbd, and how long a resync takes.
//!
//! All sides are on one machine, over loopback: what is compared is what each spends on a write, not a network. fio writes
//! to each in turn, for as long; what is told is the median of the rounds. The peer is the better of the two mirrors. Two
//! sides at a time encrypt, or none does.
//!
//! A resync is measured in the source's events, from its beginning to its end, without the time until the other copy is
//! noticed to be back. 1 % of a volume is written while its other copy is gone, and for comparison as much as that in a
//! volume sixteen times as large. Both are sparse.

use std::path::Path;

use super::disk_folder;
use crate::effort::Effort;
use crate::machine;
use crate::sample::Samples;
use crate::summary::{Goal, Report, Row};
use crate::trouble::Trouble;
use crate::volume::fio::{self, Fio, Job, Until};
use crate::volume::keys::Keys;
use crate::volume::pair::{Copies, Pair, Resync};
use crate::volume::qemu::{self, Qemu, Way};
use crate::volume::{Line, Served};

/// How much more a mirror has to write than the better of the peers.
const MIRROR_TIMES_MIN: f64 = 1.3;
/// How much a volume without another copy has to write of what qemu-nbd does.
const ALONE_TIMES_MIN: f64 = 0.9;
/// How much more a resync may send than the regions that are dirty.
const SENT_TIMES_MAX: f64 = 1.05;
/// How much longer as many dirty regions may take in a volume sixteen times as large.
const LARGE_TIMES_MAX: f64 = 1.5;
/// How much larger.
const LARGE: u64 = 16;
const REGION_BYTES: u64 = 64 << 10;
const MIB: u64 = 1 << 20;

/// What is written: its name, how, and the unit of what is told.
const LOADS: [(&str, &str, u64, u32); 3] =
    [("4k-qd16", "randwrite", 4096, 16), ("4k-qd1", "randwrite", 4096, 1), ("1m", "write", MIB, 4)];

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let folder = disk_folder("bench-volume-")?;
    let folder = folder.path();
    let Some(fio) = Fio::find(folder) else {
        return Ok(Report { missing: vec![fio::INSTALL.into()], ..Report::default() });
    };
    let mut report = Report::default();
    report.notes.push(format!("on {}; all past the page cache, all over Unix sockets", machine::file_system(folder)));
    let missing = qemu::missing();
    // Whether they work is looked at with whatever version there is; measured beside the others they are only as they should be.
    let with_peers = missing.is_none() || (effort == Effort::Tiny && qemu::is_installed());
    report.missing.extend(missing.filter(|_| !with_peers));
    let keys = Keys::new(folder.join("keys"))?;
    let bench = Bench { fio, folder, effort, size: effort.pick(64, 1024, 1024) * MIB, with_peers };
    bench.mirrors("volume-mirror", Line::Tls(&keys), &mut report)?;
    bench.mirrors("volume-mirror-plain", Line::Plain, &mut report)?;
    bench.alone(&mut report)?;
    bench.resyncs(Line::Tls(&keys), &mut report)?;
    Ok(report)
}

struct Bench<'a> {
    fio: Fio,
    folder: &'a Path,
    effort: Effort,
    size: u64,
    with_peers: bool,
}

/// One who serves, and what came of each load.
struct Side {
    name: String,
    served: Box<dyn Served>,
    written: [Samples; LOADS.len()],
}

impl Side {
    fn new(name: &str, served: impl Served + 'static) -> Self {
        Self { name: name.to_owned(), served: Box::new(served), written: Default::default() }
    }
}

impl Bench<'_> {
    fn mirrors(&self, name: &str, line: Line<'_>, report: &mut Report) -> Result<(), Trouble> {
        let folder = self.folder.join(name);
        let (pair, _) = Pair::start(folder.join("mainstay"), self.size, false, Copies::Two(line))?;
        let mut sides = vec![Side::new("mainstay", pair)];
        if self.with_peers {
            for (peer, way) in [("qemu mirror, write-blocking", Way::Mirror), ("qemu quorum", Way::Quorum)] {
                let served = Qemu::start(&folder.join(format!("{way:?}")), self.size, way, line)?;
                sides.push(Side::new(peer, served));
            }
        }
        self.write(&mut sides)?;
        self.tell(name, "the better of qemu's mirrors", MIRROR_TIMES_MIN, &sides, report);
        drop(sides);
        gone(&folder)
    }

    fn alone(&self, report: &mut Report) -> Result<(), Trouble> {
        let name = "volume-alone";
        let folder = self.folder.join(name);
        let (pair, _) = Pair::start(folder.join("mainstay"), self.size, false, Copies::One)?;
        let mut sides = vec![Side::new("mainstay, no other copy", pair)];
        if self.with_peers {
            let served = Qemu::start(&folder.join("qemu"), self.size, Way::Alone, Line::Plain)?;
            sides.push(Side::new("qemu-nbd", served));
        }
        self.write(&mut sides)?;
        self.tell(name, "qemu-nbd", ALONE_TIMES_MIN, &sides, report);
        drop(sides);
        gone(&folder)
    }

    /// All sides in turn, once for all loads before it counts.
    fn write(&self, sides: &mut [Side]) -> Result<(), Trouble> {
        let seconds = self.effort.pick(1, 2, 5);
        for round in 0..=self.effort.pick(1, 3, 9) {
            for (load, (_, how, block, depth)) in LOADS.into_iter().enumerate() {
                for side in &mut *sides {
                    let job = Job { how, block, depth, until: Until::Seconds(seconds) };
                    let written = self.fio.write(&side.served.uri(), self.size, job)?;
                    if round > 0 {
                        side.written[load].push(if block == MIB { written.mib_per_s } else { written.per_s });
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&self, name: &str, peer: &str, times: f64, sides: &[Side], report: &mut Report) {
        let Some((own, peers)) = sides.split_first() else { return };
        for (load, (what, _, block, _)) in LOADS.into_iter().enumerate() {
            let unit = if block == MIB { "MiB/s" } else { "writes/s" };
            let best = peers.iter().map(|side| side.written[load].median()).reduce(f64::max);
            let row = Row::new(format!("{name}-{what}"), own.written[load].median(), unit);
            report.rows.push(row.against(peer, best).goal(Goal::TimesPeerAtLeast(times)));
            for side in sides {
                report.notes.push(format!("{name}-{what}, {}, {unit}: {}", side.name, side.written[load]));
            }
        }
    }

    fn resyncs(&self, line: Line<'_>, report: &mut Report) -> Result<(), Trouble> {
        let part = (self.size / 100).next_multiple_of(REGION_BYTES);
        let cases = [("1gib-1pct", 1, part), ("16gib-same", LARGE, part), ("16gib-1pct", LARGE, part * LARGE)];
        let (mut sent_times, mut small) = (0.0_f64, f64::NAN);
        for (name, times, dirty) in cases {
            let (size, rounds) = (self.size * times, self.effort.pick(1, 2, 3));
            let folder = self.folder.join(name);
            let (mut pair, full) = Pair::start(folder.clone(), size, true, Copies::Two(line))?;
            let mut took = Samples::new();
            for _ in 0..rounds {
                let resync = pair.break_and_mend(|pair| {
                    let until = Until::Bytes(dirty);
                    let job = Job { how: "randwrite", block: REGION_BYTES, depth: 4, until };
                    self.fio.write(&pair.uri(), size, job).map(drop)
                })?;
                took.push_ms(resync.took);
                sent_times = sent_times.max(sent(&resync));
                report.notes.push(format!(
                    "resync-{name}: {} regions, {} bytes written; sent {} bytes, {:.3} x 64 KiB x regions, in {:.1} ms",
                    resync.regions,
                    dirty,
                    resync.sent,
                    sent(&resync),
                    resync.took.as_secs_f64() * 1e3,
                ));
            }
            let median = took.median();
            let row = Row::new(format!("volume-resync-{name}"), median, "ms");
            report.rows.push(match (name, full) {
                ("16gib-same", _) => {
                    row.against("as many regions of 1 GiB", Some(small)).goal(Goal::TimesPeerAtMost(LARGE_TIMES_MAX))
                }
                (_, Some(full)) => row.against("all of it, sparse", Some(full.took.as_secs_f64() * 1e3)),
                (_, None) => row,
            });
            if times == 1 {
                small = median;
            }
            drop(pair);
            gone(&folder)?;
        }
        let row = Row::new("volume-resync-sent", sent_times, "of dirty regions");
        report.rows.push(row.goal(Goal::AtMost(SENT_TIMES_MAX)));
        Ok(())
    }
}

/// What was sent by what was dirty.
fn sent(resync: &Resync) -> f64 {
    resync.sent as f64 / (REGION_BYTES * resync.regions) as f64
}

/// Room for the next ones.
fn gone(folder: &Path) -> Result<(), Trouble> {
    std::fs::remove_dir_all(folder).map_err(Trouble::file("remove", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_writes_and_a_resync_copies_what_is_dirty() {
        let report = run(Effort::Tiny).unwrap();
        if !report.missing.is_empty() {
            return mainstay_test_support::skip("fio or qemu is missing", "apt-get install fio qemu-utils");
        }
        assert_eq!(report.rows.len(), 13, "{:#?}", report.rows);
        assert!(report.rows.iter().all(|row| row.value.is_some_and(|value| value > 0.0)), "{:#?}", report.rows);
        assert_eq!(report.rows[12].met, Some(true), "{:#?}", report.notes);
    }
}
