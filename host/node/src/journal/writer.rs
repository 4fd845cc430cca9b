//! The thread that writes the journal, so that a slow disk stops nothing but what has to wait for it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use mainstay_core::node::RecordNumber;
use mainstay_core::state::Record;
use tokio::sync::mpsc::UnboundedSender;

use super::JournalFile;
use super::file::frame;

/// Records that wait for the disk, at the most. Each is the outcome or the start of an operation or a decision; when so
/// many wait, the disk has not answered for a long time, and the daemon says so and ends rather than run out of memory.
const WAITING_MAX: usize = 100_000;
/// One batch, in bytes, at the most: larger ones would make everybody wait longer than two syncs.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// After a failed write it is tried again this often.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread tells.
#[derive(Debug)]
pub enum Told {
    /// Everything up to this record is durable.
    Durable(RecordNumber),
    /// It cannot be written: why. It is tried again; nothing that depends on it leaves meanwhile.
    Trouble(String),
}

enum Job {
    Append(RecordNumber, Vec<u8>),
    /// The whole state up to what was appended so far: a new file begins with it.
    Snapshot(Vec<u8>),
}

/// Appends to the journal.
#[derive(Debug)]
pub struct Journal {
    jobs: SyncSender<Job>,
    path: PathBuf,
    /// Bytes since the last snapshot.
    grown: usize,
    snapshot_bytes: usize,
}

/// Why nothing can be appended any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "the journal {path} has not taken a record for so long that {WAITING_MAX} of them wait: the disk does not answer"
)]
pub struct Stuck {
    path: PathBuf,
}

impl Journal {
    /// A snapshot is not worth it before the journal has grown by so much since the last, in bytes.
    const GROWTH_BYTES_MIN: usize = 1 << 20;

    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(file: JournalFile, told: UnboundedSender<Told>) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(WAITING_MAX);
        let path = file.path().to_owned();
        let grown = usize::try_from(file.bytes()).unwrap_or(usize::MAX);
        std::thread::Builder::new().name("journal".into()).spawn(move || write(file, &queue, &told))?;
        Ok(Self { jobs, path, grown, snapshot_bytes: 0 })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// When the disk has not answered for too long.
    ///
    /// # Panics
    /// Never: a record is plain data and can always be written as JSON.
    pub fn append(&mut self, number: RecordNumber, record: &Record) -> Result<(), Stuck> {
        let payload = serde_json::to_vec(record).expect("a record is plain data");
        self.grown += payload.len();
        self.send(Job::Append(number, payload))
    }

    /// Whether a snapshot is worth it: it keeps reading the journal quick.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        self.grown > Self::GROWTH_BYTES_MIN.max(4 * self.snapshot_bytes)
    }

    /// Begins a new file with the whole state, as all that was appended so far makes it.
    ///
    /// # Errors
    /// When the disk has not answered for too long.
    ///
    /// # Panics
    /// Never: a record is plain data and can always be written as JSON.
    pub fn snapshot(&mut self, record: &Record) -> Result<(), Stuck> {
        let payload = serde_json::to_vec(record).expect("a record is plain data");
        self.grown = 0;
        self.snapshot_bytes = payload.len();
        self.send(Job::Snapshot(payload))
    }

    fn send(&self, job: Job) -> Result<(), Stuck> {
        self.jobs.try_send(job).map_err(|_| Stuck { path: self.path.clone() })
    }
}

fn write(mut file: JournalFile, queue: &Receiver<Job>, told: &UnboundedSender<Told>) {
    let mut waiting: VecDeque<Job> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match queue.recv() {
                Ok(job) => waiting.push_back(job),
                // The daemon is at its end, and has taken care of what it wanted durable.
                Err(_) => return,
            }
        }
        waiting.extend(queue.try_iter().take(WAITING_MAX - waiting.len().min(WAITING_MAX)));
        match write_some(&mut file, &waiting) {
            Ok((jobs, newest)) => {
                waiting.drain(..jobs);
                if newest > RecordNumber(0) && told.send(Told::Durable(newest)).is_err() {
                    return;
                }
            }
            Err(error) => {
                let what = format!("the journal {} cannot be written: {error}; trying again", file.path().display());
                tracing::error!("{what}");
                if told.send(Told::Trouble(what)).is_err() || !pause(queue, &mut waiting) {
                    return;
                }
            }
        }
    }
}

/// Waits before the next try; says whether the daemon is still there.
fn pause(queue: &Receiver<Job>, waiting: &mut VecDeque<Job>) -> bool {
    match queue.recv_timeout(RETRY) {
        Ok(job) => {
            waiting.push_back(job);
            std::thread::sleep(RETRY);
            true
        }
        Err(RecvTimeoutError::Timeout) => true,
        Err(RecvTimeoutError::Disconnected) => false,
    }
}

/// Writes as many jobs as make one batch, or one snapshot: how many, and the newest record among them.
fn write_some(file: &mut JournalFile, waiting: &VecDeque<Job>) -> std::io::Result<(usize, RecordNumber)> {
    if let Some(Job::Snapshot(payload)) = waiting.front() {
        let dir = file.path().parent().map(std::path::Path::to_owned).unwrap_or_default();
        *file = JournalFile::create(&dir, Some(payload))?;
        return Ok((1, RecordNumber(0)));
    }
    let mut frames = Vec::new();
    let (mut jobs, mut newest) = (0, RecordNumber(0));
    for job in waiting {
        let Job::Append(number, payload) = job else { break };
        if jobs > 0 && frames.len() + payload.len() > BATCH_BYTES_MAX {
            break;
        }
        frames.extend_from_slice(&frame(payload));
        (jobs, newest) = (jobs + 1, *number);
    }
    file.append(&frames)?;
    Ok((jobs, newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Record {
        Record::Started { incarnation: number, boot: "b".into() }
    }

    async fn durable(told: &mut tokio::sync::mpsc::UnboundedReceiver<Told>, number: u64) {
        loop {
            match tokio::time::timeout(Duration::from_secs(20), told.recv()).await.expect("in time") {
                Some(Told::Durable(at)) if at >= RecordNumber(number) => return,
                Some(Told::Durable(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn records_become_durable_in_order_and_a_snapshot_takes_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut journal = Journal::start(JournalFile::open(dir.path()).unwrap().file, sender).unwrap();
        for number in 1..=50 {
            journal.append(RecordNumber(number), &record(number)).unwrap();
        }
        durable(&mut told, 50).await;
        assert_eq!(JournalFile::open(dir.path()).unwrap().state.incarnation, 50);
        let state = JournalFile::open(dir.path()).unwrap().state;
        journal.snapshot(&Record::Snapshot(Box::new(state))).unwrap();
        journal.append(RecordNumber(51), &record(51)).unwrap();
        durable(&mut told, 51).await;
        assert_eq!(JournalFile::open(dir.path()).unwrap().state.incarnation, 51);
        assert!(std::fs::metadata(dir.path().join("journal")).unwrap().len() < 4500);
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_told_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut journal = Journal::start(JournalFile::open(dir.path()).unwrap().file, sender).unwrap();
        // A snapshot needs the directory, and cannot have it while a folder stands where its file should be.
        std::fs::create_dir(dir.path().join("journal.new")).unwrap();
        journal.snapshot(&Record::Snapshot(Box::default())).unwrap();
        journal.append(RecordNumber(1), &record(1)).unwrap();
        let first = tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap();
        assert!(matches!(first, Some(Told::Trouble(_))), "{first:?}");
        std::fs::remove_dir(dir.path().join("journal.new")).unwrap();
        loop {
            match tokio::time::timeout(Duration::from_secs(20), told.recv()).await.unwrap() {
                Some(Told::Durable(number)) => break assert_eq!(number, RecordNumber(1)),
                Some(Told::Trouble(_)) => {}
                None => panic!("the thread is gone"),
            }
        }
        assert_eq!(JournalFile::open(dir.path()).unwrap().state.incarnation, 1);
    }
}
