//! The journal's file: its bytes, and what is read back from them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use mainstay_core::state::{Record, State};

use super::{JournalError, PAYLOAD_BYTES_MAX};

const MAGIC: &[u8] = b"mainstay journal 1\n";
const SLOTS: [u64; 2] = [1024, 2048];
const SLOT_BYTES: usize = 20;
const FRAMES: u64 = 4096;
const FRAME_HEADER_BYTES: usize = 8;

/// An open journal file.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    /// How far it was acknowledged, from the start of the file.
    acknowledged: u64,
    sequence: u64,
}

/// What was found when a journal was opened.
#[derive(Debug)]
pub struct Opened {
    /// The file, ready to be appended to.
    pub file: JournalFile,
    /// The state that the readable records give; after damage, with what is not known any more.
    pub state: State,
    /// What could not be read, if there was anything that had been acknowledged. The old file was put aside.
    pub damage: Option<String>,
    /// Bytes at the end that were never acknowledged, and dropped.
    pub unacknowledged_bytes: u64,
}

impl JournalFile {
    /// Opens the journal in `dir`, or makes an empty one.
    ///
    /// # Errors
    /// When the file system refuses. What cannot be understood is no error, but damage.
    pub fn open(dir: &Path) -> Result<Opened, JournalError> {
        let path = dir.join("journal");
        let error = |doing| move |source| JournalError { path: dir.join("journal"), doing, source };
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                let file = Self::create(dir, None).map_err(error("make it"))?;
                return Ok(Opened { file, state: State::default(), damage: None, unacknowledged_bytes: 0 });
            }
            Err(source) => return Err(error("open it")(source)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(error("read it"))?;
        match read(&bytes) {
            Ok(Reading { state, acknowledged, sequence }) => {
                let unacknowledged_bytes = bytes.len() as u64 - acknowledged;
                file.set_len(acknowledged).map_err(error("drop its unacknowledged tail"))?;
                file.seek(SeekFrom::Start(acknowledged)).map_err(error("go to its end"))?;
                let file = Self { path, file, acknowledged, sequence };
                Ok(Opened { file, state, damage: None, unacknowledged_bytes })
            }
            Err(Damage { mut state, what }) => {
                let aside = dir.join(format!("journal.damaged-{}", unix_ms()));
                std::fs::hard_link(&path, &aside).map_err(error("put the damaged one aside"))?;
                // The new one begins with what is known and what is not, and takes the place of the damaged one at once:
                // whenever this daemon ends, the next one finds the damage or knows of it.
                state.apply(&Record::Damaged);
                let snapshot = serde_json::to_vec(&Record::Snapshot(Box::new(state.clone())))
                    .map_err(|source| error("say what is known")(source.into()))?;
                let file = Self::create(dir, Some(&snapshot)).map_err(error("make a new one"))?;
                let what = format!("{what}; the damaged file is kept as {}", aside.display());
                Ok(Opened { file, state, damage: Some(what), unacknowledged_bytes: 0 })
            }
        }
    }

    /// A new journal in place of whatever is there, with one record or none, durable.
    pub(super) fn create(dir: &Path, first: Option<&[u8]>) -> io::Result<Self> {
        let (path, temporary) = (dir.join("journal"), dir.join("journal.new"));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all_at(MAGIC, 0)?;
        let mut journal = Self { path, file, acknowledged: FRAMES, sequence: 0 };
        journal.file.set_len(FRAMES)?;
        let frame = first.map(frame).unwrap_or_default();
        journal.append(&frame)?;
        std::fs::rename(&temporary, &journal.path)?;
        File::open(dir)?.sync_all()?;
        Ok(journal)
    }

    /// Makes `frames` durable and acknowledges them. After an error nothing of them counts, and it may be tried again:
    /// the bytes are written anew from where the last acknowledged ones end, since a failed sync may have dropped them.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frames, self.acknowledged)?;
        self.file.sync_data()?;
        let acknowledged = self.acknowledged + frames.len() as u64;
        let sequence = self.sequence + 1;
        self.file.write_all_at(&slot(sequence, acknowledged), SLOTS[(sequence % 2) as usize])?;
        self.file.sync_data()?;
        (self.acknowledged, self.sequence) = (acknowledged, sequence);
        Ok(())
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.acknowledged
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A record's bytes in the file.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

fn slot(sequence: u64, acknowledged: u64) -> [u8; SLOT_BYTES] {
    let mut out = [0; SLOT_BYTES];
    out[..8].copy_from_slice(&sequence.to_le_bytes());
    out[8..16].copy_from_slice(&acknowledged.to_le_bytes());
    let crc = crc32fast::hash(&out[..16]);
    out[16..].copy_from_slice(&crc.to_le_bytes());
    out
}

pub(super) struct Reading {
    pub(super) state: State,
    acknowledged: u64,
    sequence: u64,
}

pub(super) struct Damage {
    /// What the records before the damage give.
    state: State,
    pub(super) what: String,
}

/// The bytes of a journal with one acknowledged record.
pub(super) fn bytes_of(payload: &[u8]) -> Vec<u8> {
    let frame = frame(payload);
    let mut bytes = vec![0; FRAMES as usize];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    let at = SLOTS[1] as usize;
    bytes[at..at + SLOT_BYTES].copy_from_slice(&slot(1, FRAMES + frame.len() as u64));
    bytes.extend(frame);
    bytes
}

/// What the bytes of a journal say.
pub(super) fn read(bytes: &[u8]) -> Result<Reading, Damage> {
    let nothing = |what: &str| Damage { state: State::default(), what: what.to_owned() };
    if !bytes.starts_with(MAGIC) {
        return Err(nothing("it does not begin as a journal of this version does"));
    }
    let mut newest = None;
    for at in SLOTS {
        match read_slot(bytes, at) {
            Slot::Empty => {}
            Slot::Says(sequence, acknowledged) => newest = newest.max(Some((sequence, acknowledged))),
            // A sector is written whole or not at all. Were it torn all the same, its batch was not acknowledged; but
            // that cannot be told from a slot that went bad later, which covers what was.
            Slot::Bad => return Err(nothing("one of its slots is bad, so how much of it counts is not known")),
        }
    }
    let Some((sequence, acknowledged)) = newest else {
        return Err(nothing("both of its slots are empty, so how much of it counts is not known"));
    };
    let mut state = State::default();
    let mut at = FRAMES;
    while at < acknowledged {
        match read_frame(bytes, at, acknowledged) {
            Ok((record, next)) => {
                state.apply(&record);
                at = next;
            }
            Err(why) => return Err(Damage { state, what: format!("byte {at} of {acknowledged} acknowledged: {why}") }),
        }
    }
    Ok(Reading { state, acknowledged, sequence })
}

enum Slot {
    /// Never written.
    Empty,
    /// Sequence, and how far it was acknowledged.
    Says(u64, u64),
    Bad,
}

fn read_slot(bytes: &[u8], at: u64) -> Slot {
    let Some(slot) = bytes.get(at as usize..at as usize + SLOT_BYTES) else { return Slot::Bad };
    if slot.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    let number = |from: usize| slot[from..from + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let (sequence, acknowledged) = (number(0), number(8));
    let whole = slot[16..] == crc32fast::hash(&slot[..16]).to_le_bytes() && acknowledged >= FRAMES;
    if whole { Slot::Says(sequence, acknowledged) } else { Slot::Bad }
}

fn read_frame(bytes: &[u8], at: u64, acknowledged: u64) -> Result<(Record, u64), String> {
    let start = usize::try_from(at).map_err(|_| "beyond any file".to_owned())?;
    let end = usize::try_from(acknowledged).map_err(|_| "beyond any file".to_owned())?;
    let within = bytes.get(start..end).ok_or("the file is shorter than what was acknowledged")?;
    let (header, rest) = within.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or("a frame is cut off")?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(format!("a frame claims {length} bytes"));
    }
    let payload = rest.get(..length).ok_or("a frame is cut off")?;
    if header[4..] != crc32fast::hash(payload).to_le_bytes() {
        return Err("a frame's checksum is wrong".into());
    }
    let record =
        serde_json::from_slice(payload).map_err(|error| format!("a record is not one of this version: {error}"))?;
    Ok((record, at + (FRAME_HEADER_BYTES + length) as u64))
}

fn unix_ms() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::state::Record;
    use proptest::prelude::*;

    fn record(number: u64) -> Record {
        Record::Started { incarnation: number, boot: format!("boot-{number}") }
    }

    fn frames(numbers: std::ops::Range<u64>) -> Vec<u8> {
        numbers.flat_map(|number| frame(&serde_json::to_vec(&record(number)).unwrap())).collect()
    }

    /// A journal with two acknowledged batches, of records 1 to 3 and 4.
    fn journal(dir: &Path) -> JournalFile {
        let mut file = JournalFile::open(dir).unwrap().file;
        file.append(&frames(1..4)).unwrap();
        file.append(&frames(4..5)).unwrap();
        file
    }

    #[test]
    fn what_was_acknowledged_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        drop(journal(dir.path()));
        let opened = JournalFile::open(dir.path()).unwrap();
        assert_eq!(opened.state.incarnation, 4);
        assert!(opened.damage.is_none());
        let mut file = opened.file;
        file.append(&frames(5..6)).unwrap();
        assert_eq!(JournalFile::open(dir.path()).unwrap().state.incarnation, 5);
    }

    #[test]
    fn a_tail_that_was_never_acknowledged_is_dropped_quietly() {
        let dir = tempfile::tempdir().unwrap();
        let file = journal(dir.path());
        let torn = frames(5..7);
        for cut in [1, 7, 9, torn.len() / 2 + 3, torn.len()] {
            file.file.set_len(file.acknowledged).unwrap();
            file.file.write_all_at(&torn[..cut], file.acknowledged).unwrap();
            let opened = JournalFile::open(dir.path()).unwrap();
            assert_eq!((opened.state.incarnation, opened.unacknowledged_bytes), (4, cut as u64));
            assert!(opened.damage.is_none());
        }
    }

    #[test]
    fn an_acknowledged_record_that_is_lost_is_damage_even_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let file = journal(dir.path());
        file.file.set_len(file.acknowledged - 1).unwrap();
        let opened = JournalFile::open(dir.path()).unwrap();
        assert!(opened.damage.unwrap().contains("shorter than what was acknowledged"));
        assert_eq!(opened.state.incarnation, 0);
        let kept: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().filter_map(Result::ok).map(|entry| entry.file_name()).collect();
        assert!(kept.iter().any(|name| name.to_string_lossy().starts_with("journal.damaged-")), "{kept:?}");
        // The new one is whole, and knows of the damage even if nothing was ever written to it.
        assert!(opened.state.damaged);
        let again = JournalFile::open(dir.path()).unwrap();
        assert!(again.damage.is_none() && again.state == opened.state);
    }

    #[test]
    fn a_bad_slot_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let file = journal(dir.path());
        file.file.write_all_at(&[0xff; 9], SLOTS[(file.sequence % 2) as usize]).unwrap();
        assert!(JournalFile::open(dir.path()).unwrap().damage.unwrap().contains("slots is bad"));
    }

    #[test]
    fn a_new_file_takes_the_place_of_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let old = journal(dir.path());
        let snapshot = serde_json::to_vec(&record(9)).unwrap();
        let new = JournalFile::create(dir.path(), Some(&snapshot)).unwrap();
        assert!(new.bytes() < old.bytes());
        assert_eq!(JournalFile::open(dir.path()).unwrap().state.incarnation, 9);
    }

    proptest! {
        /// Whatever happens to the bytes: opening does not panic, and nothing acknowledged is missed without a word.
        #[test]
        fn changed_bytes_are_damage_or_unacknowledged(at in 0..6000usize, to in any::<u8>(), cut in proptest::option::of(0..6000u64)) {
            let dir = tempfile::tempdir().unwrap();
            let file = journal(dir.path());
            let mut byte = [0];
            let there = file.file.read_at(&mut byte, at as u64).unwrap() == 1;
            if there {
                file.file.write_all_at(&[to], at as u64).unwrap();
            }
            if let Some(cut) = cut {
                file.file.set_len(cut.min(file.acknowledged)).unwrap();
            }
            let opened = JournalFile::open(dir.path()).unwrap();
            let whole = (!there || byte[0] == to) && cut.is_none_or(|cut| cut >= file.acknowledged);
            prop_assert!(!whole || (opened.damage.is_none() && opened.state.incarnation == 4));
            prop_assert!(opened.damage.is_some() || opened.state.incarnation == 4, "{:?}", opened.state);
        }
    }
}
