//! The journal: how long until one record is durable, and how many a second when many wait, beside one fdatasync of
//! as many bytes in the same file system.
//!
//! A record costs two syncs, one after the other (`host/node/src/journal/mod.rs` says why), and a thread's turn. Records
//! that wait for the disk at the same time share them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_core::node::RecordNumber;
use mainstay_core::state::{Ended, Record};
use mainstay_node::journal::{Journal, JournalFile, Told};
use tokio::runtime::Runtime as Tokio;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::effort::Effort;
use crate::machine;
use crate::sample::Samples;
use crate::summary::{Report, Row};
use crate::trouble::Trouble;

/// How long the disk may take, in s.
const DISK_S_MAX: u64 = 60;

pub(super) fn run(effort: Effort) -> Result<Report, Trouble> {
    let tokio = super::tokio()?;
    let folder = super::disk_folder("bench-journal-")?;
    let mut side = Side::new(folder.path())?;
    let mut plain = Plain::new(folder.path())?;
    let (mut durable, mut synced, mut rates) = (Samples::new(), Samples::new(), Samples::new());
    for _ in 0..effort.pick(3, 100, 500) {
        durable.push_us(side.append_and_wait(&tokio, 1)?);
        synced.push_us(plain.sync()?);
    }
    let at_once: u64 = effort.pick(10, 20_000, 50_000);
    for _ in 0..effort.pick(1, 3, 10) {
        rates.push(at_once as f64 / side.append_and_wait(&tokio, at_once)?.as_secs_f64());
    }
    let rows = vec![
        Row::new("journal-record", durable.median(), "us").against("one fdatasync", Some(synced.median())),
        Row::new("journal-records-at-once", rates.median(), "records/s")
            .against("one fdatasync each", Some(1e6 / synced.median())),
    ];
    let notes = vec![
        format!("on {}", machine::file_system(folder.path())),
        format!("one record durable, us: {durable}"),
        format!("one fdatasync, us: {synced}"),
        format!("{at_once} records at once, records/s: {rates}"),
    ];
    Ok(Report { rows, notes, missing: Vec::new() })
}

/// The journal, with what it tells.
struct Side {
    journal: Journal,
    told: UnboundedReceiver<Told>,
    number: u64,
}

impl Side {
    fn new(folder: &Path) -> Result<Self, Trouble> {
        let (sender, told) = unbounded_channel();
        let file = JournalFile::open(folder)?.file;
        let journal = Journal::start(file, sender).map_err(Trouble::system("start a thread for the journal"))?;
        Ok(Self { journal, told, number: 0 })
    }

    /// The time until so many records, given to the journal at once, are durable.
    fn append_and_wait(&mut self, tokio: &Tokio, count: u64) -> Result<Duration, Trouble> {
        let record = Record::Ended { hierarchy: "mail".into(), tag: "exchange".into(), ended: Ended::Well };
        let began = Instant::now();
        for _ in 0..count {
            self.number += 1;
            let appended = self.journal.append(RecordNumber(self.number), &record);
            appended.map_err(|error| Trouble::Disk(error.to_string()))?;
        }
        let limit = Duration::from_secs(DISK_S_MAX);
        let durable = tokio.block_on(async { tokio::time::timeout(limit, self.durable()).await });
        durable.map_err(|_| Trouble::InVain { what: "records to be durable".into(), seconds: DISK_S_MAX })??;
        Ok(began.elapsed())
    }

    async fn durable(&mut self) -> Result<(), Trouble> {
        loop {
            match self.told.recv().await {
                Some(Told::Durable(number)) if number.0 >= self.number => return Ok(()),
                Some(Told::Durable(_)) => {}
                Some(Told::Trouble(what)) => return Err(Trouble::Disk(what)),
                None => return Err(Trouble::Disk("its thread has ended".into())),
            }
        }
    }
}

/// A file that grows by as much as a record is, and is synced.
struct Plain {
    file: File,
    bytes: Vec<u8>,
}

impl Plain {
    /// About what a record of the journal has.
    const RECORD_BYTES: usize = 80;

    fn new(folder: &Path) -> Result<Self, Trouble> {
        let path = folder.join("plain");
        let file = File::create(&path).map_err(Trouble::file("make", &path))?;
        Ok(Self { file, bytes: vec![b'x'; Self::RECORD_BYTES] })
    }

    fn sync(&mut self) -> Result<Duration, Trouble> {
        let began = Instant::now();
        let synced = self.file.write_all(&self.bytes).and_then(|()| self.file.sync_data());
        synced.map_err(Trouble::system("write and sync a file"))?;
        Ok(began.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_durable() {
        let report = run(Effort::Tiny).unwrap();
        assert!(report.rows.iter().all(|row| row.ratio.is_some_and(|ratio| ratio > 0.0)), "{:#?}", report.rows);
    }
}
