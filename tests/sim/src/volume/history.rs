//! The promise (VOLUME, at its end), judged on what is on a disk or was read: which versions of a sector may be there.
//!
//! It knows what the application asked for and what it was answered, and nothing of how a volume works.

use super::disk::{DataDisk, Stamp};

/// One write of a sector.
#[derive(Clone, Copy, Debug)]
struct Version {
    stamp: Stamp,
    /// When it was asked for, and answered (with an error as well), by a counter of all that happens.
    begun: u64,
    ended: Option<u64>,
    /// How many writes had been acknowledged before it was, if it was.
    acknowledged: Option<u64>,
    /// It is durable by itself (FUA).
    fua: bool,
    /// How many acknowledged writes were durable when it was asked for.
    after: u64,
}

impl Version {
    fn is_before(&self, other: &Self) -> bool {
        self.ended.is_some_and(|ended| ended < other.begun)
    }
}

/// Everything the application did.
#[derive(Clone, Debug)]
pub struct History {
    sectors: Vec<Vec<Version>>,
    clock: u64,
    acknowledged: u64,
    durable: u64,
    /// In async mode something older than what is durable may be right.
    is_async: bool,
}

impl History {
    /// Of a volume of zeroes with so many sectors.
    #[must_use]
    pub fn new(sectors: usize, is_async: bool) -> Self {
        let zero = Version { stamp: 0, begun: 0, ended: Some(0), acknowledged: None, fua: true, after: 0 };
        Self { sectors: vec![vec![zero]; sectors], clock: 1, acknowledged: 0, durable: 0, is_async }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// A write is asked for.
    pub fn begin(&mut self, sectors: std::ops::Range<usize>, stamp: Stamp, zero: bool, fua: bool) {
        let (begun, after) = (self.tick(), self.durable);
        // Zeroes all look the same: what is remembered is that they may be there.
        let stamp = if zero { 0 } else { stamp };
        for sector in sectors {
            self.sectors[sector].push(Version { stamp, begun, ended: None, acknowledged: None, fua, after });
        }
    }

    /// It is answered.
    pub fn end(&mut self, sectors: std::ops::Range<usize>, stamp: Stamp, zero: bool, ok: bool) {
        let ended = self.tick();
        let number = self.acknowledged;
        self.acknowledged += u64::from(ok);
        let stamp = if zero { 0 } else { stamp };
        for sector in sectors {
            let mine = self.sectors[sector].iter_mut().find(|it| it.stamp == stamp && it.ended.is_none());
            if let Some(version) = mine {
                (version.ended, version.acknowledged) = (Some(ended), ok.then_some(number));
            }
        }
    }

    /// What a flush that is asked for now makes durable.
    #[must_use]
    pub fn flush_begins(&self) -> u64 {
        self.acknowledged
    }

    /// It is acknowledged.
    pub fn flushed(&mut self, begun: u64) {
        self.durable = self.durable.max(begun);
        if self.is_async {
            return;
        }
        for versions in &mut self.sectors {
            // What is certainly overwritten for ever.
            let durable = self.durable;
            let floor = versions.iter().filter(|it| is_durable(it, durable)).map(|it| it.begun).max();
            if let Some(floor) = floor {
                versions.retain(|it| it.ended.is_none_or(|ended| ended >= floor));
            }
        }
    }

    /// The application lost its connection: whatever it asked for may be done or not.
    pub fn disconnected(&mut self) {
        let now = self.tick();
        for version in self.sectors.iter_mut().flatten().filter(|version| version.ended.is_none()) {
            version.ended = Some(now);
        }
    }

    /// What was read while nothing failed: nothing older than what was acknowledged before.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge_read(&self, sectors: std::ops::Range<usize>, stamps: &[Stamp]) -> Result<(), String> {
        for (sector, stamp) in sectors.zip(stamps) {
            self.judge(sector, *stamp, |it| it.acknowledged.is_some()).map_err(|why| format!("read: {why}"))?;
        }
        Ok(())
    }

    /// What a copy has that is put in service without force. Everything that was acknowledged as durable has to be there;
    /// in async mode, everything that was durable before something that is there was asked for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge_copy(&self, content: &[Stamp]) -> Result<(), String> {
        let visible = |(versions, stamp): (&Vec<Version>, &Stamp)| {
            versions.iter().filter(|it| it.stamp == *stamp && it.stamp != 0).map(|it| it.after).min()
        };
        let seen = self.sectors.iter().zip(content).filter_map(visible).max().unwrap_or(0);
        let durable = if self.is_async { seen } else { self.durable };
        let counts =
            |it: &Version| it.acknowledged.is_some_and(|number| number < durable || (!self.is_async && it.fua));
        for (sector, stamp) in content.iter().enumerate() {
            self.judge(sector, *stamp, counts).map_err(|why| format!("promise: {why}"))?;
        }
        Ok(())
    }

    fn judge(&self, sector: usize, stamp: Stamp, counts: impl Fn(&Version) -> bool) -> Result<(), String> {
        let versions = &self.sectors[sector];
        let allowed =
            |it: &&Version| it.stamp == stamp && !versions.iter().any(|other| counts(other) && it.is_before(other));
        if versions.iter().any(|it| allowed(&it)) {
            return Ok(());
        }
        let known: Vec<String> = versions
            .iter()
            .map(|it| {
                format!(
                    "{}{}{}",
                    it.stamp,
                    if it.acknowledged.is_some() { "a" } else { "" },
                    if counts(it) { "!" } else { "" }
                )
            })
            .collect();
        Err(format!("sector {sector} has {stamp}, of {}", known.join(" ")))
    }

    /// From now on this copy is what there is: what is newer is lost, and must not come back.
    pub fn expose(&mut self, content: &[Stamp]) {
        for (versions, stamp) in self.sectors.iter_mut().zip(content) {
            let shown: Vec<Version> = versions.iter().filter(|it| it.stamp == *stamp).copied().collect();
            versions.retain(|it| it.stamp == *stamp || !shown.iter().all(|shown| shown.is_before(it)));
        }
    }

    /// By force, or by a word that is known to lose something: only what this disk has, or may have after a crash, counts
    /// from now on.
    pub fn reset(&mut self, disk: &DataDisk) {
        let now = self.tick();
        for (sector, versions) in self.sectors.iter_mut().enumerate() {
            let may = |stamp| Version { stamp, begun: 0, ended: Some(now), acknowledged: None, fua: false, after: 0 };
            *versions = disk.possible(sector).into_iter().map(may).collect();
        }
    }
}

fn is_durable(version: &Version, durable: u64) -> bool {
    version.acknowledged.is_some_and(|number| version.fua || number < durable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_has_to_be_there_and_what_was_not_may() {
        let mut history = History::new(2, false);
        history.begin(0..1, 5, false, false);
        history.end(0..1, 5, false, true);
        assert!(history.judge_copy(&[0, 0]).is_ok(), "not flushed yet");
        assert!(history.judge_read(0..1, &[0]).is_err(), "acknowledged");
        let flush = history.flush_begins();
        history.begin(0..1, 6, false, false);
        history.flushed(flush);
        assert!(history.judge_copy(&[0, 0]).is_err());
        assert!(history.judge_copy(&[5, 0]).is_ok());
        assert!(history.judge_copy(&[6, 0]).is_ok(), "under way");
        history.expose(&[5, 0]);
        history.end(0..1, 6, false, true);
        history.begin(1..2, 7, false, true);
        history.end(1..2, 7, false, true);
        assert!(history.judge_copy(&[5, 0]).is_err(), "FUA");
        assert!(history.judge_copy(&[5, 7]).is_ok());
    }

    #[test]
    fn in_async_mode_nothing_overtakes_a_flush() {
        let mut history = History::new(2, true);
        history.begin(0..1, 5, false, false);
        history.end(0..1, 5, false, true);
        let flush = history.flush_begins();
        history.flushed(flush);
        history.begin(1..2, 6, false, false);
        history.end(1..2, 6, false, true);
        assert!(history.judge_copy(&[0, 0]).is_ok(), "lag");
        assert!(history.judge_copy(&[5, 0]).is_ok(), "lag");
        assert!(history.judge_copy(&[0, 6]).is_err(), "6 was written after 5 was durable");
    }
}
