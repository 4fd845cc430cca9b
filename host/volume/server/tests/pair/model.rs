//! What a volume may hold, sector by sector, by what was asked of it and what it acknowledged; and clients that ask.
//!
//! Every sector that is written says which write it belongs to. What may be read of it: the write that is known to be
//! durable (by FUA, or by a flush that was asked for after the write was acknowledged, over any connection), or any later
//! one. An older one is lost data, two in one sector is a torn one.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{Client, Command};

const SECTOR: usize = 512;
const REGION_SECTORS: usize = 128;
/// Requests of one client at a time.
const DEPTH: usize = 16;
/// Each client writes to so many sectors: about four regions.
const WINDOW: usize = 512;
/// Not as fast as it can: it is to be killed while it writes, not to find out how fast it is.
const PAUSE: Duration = Duration::from_micros(200);
/// A new source may need a moment to take clients.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// Random numbers from a seed: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A write, by its number; `zero` says that it wrote zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    number: u64,
    zero: bool,
}

/// Sectors that follow one another.
type Sectors = std::ops::Range<usize>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Model {
    /// What each may be, oldest first; the first is what it was when all was last looked at.
    versions: Vec<Vec<Version>>,
    /// At least this one.
    floor: Vec<u64>,
    next: u64,
    /// Acknowledged, and not known to be durable.
    acknowledged: Vec<(u64, Sectors)>,
    /// Asked for, and not acknowledged.
    asked: BTreeMap<u64, Sectors>,
    /// How many were taken out of `acknowledged` since the beginning.
    taken: usize,
    touched: BTreeSet<u32>,
    written_bytes: u64,
    /// How many writes and flushes were acknowledged as durable.
    pub(crate) durable: u64,
}

impl Model {
    /// A volume of zeroes.
    pub(crate) fn new(bytes: u64) -> Self {
        let sectors = bytes as usize / SECTOR;
        Self {
            versions: vec![vec![Version { number: 0, zero: true }]; sectors],
            floor: vec![0; sectors],
            next: 0,
            acknowledged: Vec::new(),
            asked: BTreeMap::new(),
            taken: 0,
            touched: BTreeSet::new(),
            written_bytes: 0,
            durable: 0,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.versions.len() * SECTOR
    }

    fn write(&mut self, sectors: Sectors, zero: bool) -> u64 {
        self.next += 1;
        let version = Version { number: self.next, zero };
        for sector in sectors.clone() {
            self.versions[sector].push(version);
        }
        self.touched.extend(regions(&sectors));
        self.asked.insert(self.next, sectors.clone());
        self.written_bytes += (sectors.len() * SECTOR) as u64;
        self.next
    }

    /// Begins to note anew which regions are written, and how many bytes.
    pub(crate) fn note_anew(&mut self) {
        self.touched = self.asked.values().flat_map(regions).collect();
        // What waits for an answer may not have been sent to the other copy yet.
        self.written_bytes = self.asked.values().map(|sectors| (sectors.len() * SECTOR) as u64).sum();
    }

    /// Regions that were written since it was noted anew, or were being written then; and how many bytes.
    pub(crate) fn noted(&self) -> (&BTreeSet<u32>, u64) {
        (&self.touched, self.written_bytes)
    }

    fn written(&mut self, number: u64, sectors: Sectors, fua: bool) {
        self.asked.remove(&number);
        if fua {
            self.durable += 1;
            self.keep(number, sectors);
        } else {
            self.acknowledged.push((number, sectors));
        }
    }

    fn keep(&mut self, number: u64, sectors: Sectors) {
        for floor in &mut self.floor[sectors] {
            *floor = (*floor).max(number);
        }
    }

    /// What a flush that is asked for now covers.
    fn flush(&self) -> usize {
        self.taken + self.acknowledged.len()
    }

    fn flushed(&mut self, covers: usize) {
        self.durable += 1;
        let count = covers.saturating_sub(self.taken);
        self.taken += count;
        for (number, sectors) in self.acknowledged.drain(..count).collect::<Vec<_>>() {
            self.keep(number, sectors);
        }
    }

    /// The first thing in `data` that may not be so.
    pub(crate) fn check(&self, data: &[u8]) -> Result<(), String> {
        for (sector, bytes) in data[..self.bytes()].chunks(SECTOR).enumerate() {
            let found = parse(bytes, sector).map_err(|what| format!("sector {sector}: {what}"))?;
            let fits = |version: &Version| match found {
                None => version.zero,
                Some(number) => version.number == number && !version.zero,
            };
            let floor = self.floor[sector];
            if !self.versions[sector].iter().filter(|version| version.number >= floor).any(fits) {
                let mut last = self.versions[sector].clone();
                last.drain(..last.len().saturating_sub(8));
                return Err(format!(
                    "sector {sector} has {found:?} (none is zeroes), and number {floor} was acknowledged as durable; \
                     the last that were asked for: {last:?}"
                ));
            }
        }
        Ok(())
    }

    /// This is read from a new source. What was acknowledged before and never flushed may be gone; what is there counts
    /// as acknowledged: the next flush makes it durable.
    pub(crate) fn promoted(&mut self, data: &[u8]) -> Result<(), String> {
        self.check(data)?;
        self.taken += self.acknowledged.len();
        self.acknowledged.clear();
        for (sector, bytes) in data[..self.bytes()].chunks(SECTOR).enumerate() {
            let (found, floor) = (parse(bytes, sector)?, self.floor[sector]);
            let zeroes = |version: &&Version| version.zero && version.number >= floor;
            let zeroed = || self.versions[sector].iter().find(zeroes).map_or(floor, |version| version.number);
            let number = found.unwrap_or_else(zeroed);
            if number > floor {
                self.acknowledged.push((number, sector..sector + 1));
            }
        }
        Ok(())
    }

    /// From now on what is there is what counts: both copies have it, durably.
    pub(crate) fn settle(&mut self, data: &[u8]) {
        self.check(data).unwrap();
        for (sector, bytes) in data[..self.bytes()].chunks(SECTOR).enumerate() {
            let found = parse(bytes, sector).unwrap();
            let version = Version { number: found.unwrap_or(0), zero: found.is_none() };
            self.versions[sector] = vec![version];
            self.floor[sector] = version.number;
        }
        self.taken += self.acknowledged.len();
        self.acknowledged.clear();
        self.asked.clear();
    }
}

fn regions(sectors: &Sectors) -> std::ops::RangeInclusive<u32> {
    (sectors.start / REGION_SECTORS) as u32..=((sectors.end - 1) / REGION_SECTORS) as u32
}

fn content(number: u64, sectors: Sectors) -> Vec<u8> {
    let sector = |sector: usize| [number.to_le_bytes(), (sector as u64).to_le_bytes()].concat().repeat(SECTOR / 16);
    sectors.flat_map(sector).collect()
}

/// Which write a sector is of; none: zeroes.
fn parse(bytes: &[u8], sector: usize) -> Result<Option<u64>, String> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    if bytes != content(number, sector..sector + 1) {
        return Err(format!("it is torn, or was never written: {:x?}...", &bytes[..32]));
    }
    Ok(Some(number))
}

/// Many hands at one model.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Model>>);

impl Shared {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Model::new(bytes))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to, and everything it asked for was acknowledged.
    Told,
    /// The server was gone.
    Gone,
    /// It got this error.
    Error(u32),
}

/// Clients that write at random, each in its own part of the volume, and flush for all.
#[derive(Debug)]
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(End, Duration)>>,
}

#[derive(Debug)]
enum Asked {
    Write(u64, Sectors, bool),
    Flush(usize),
}

impl Writers {
    /// Two of them, at this socket.
    pub(crate) fn start(model: &Shared, socket: &Path, random: &mut Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2).map(|part| {
            let (model, socket, stop) = (model.clone(), socket.to_owned(), Arc::clone(&stop));
            let random = Random(random.next());
            thread::spawn(move || write(&model, &socket, &stop, part, random))
        });
        Self { threads: threads.collect(), stop }
    }

    /// How they ended; and the longest that anything of theirs took.
    pub(crate) fn stop(self) -> (Vec<End>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let ends: Vec<_> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let longest = ends.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
        (ends.into_iter().map(|(end, _)| end).collect(), longest)
    }
}

fn write(model: &Shared, socket: &Path, stop: &AtomicBool, part: usize, mut random: Random) -> (End, Duration) {
    let until = Instant::now() + CONNECT_LIMIT;
    let mut longest = Duration::ZERO;
    let mut client = loop {
        match Client::connect(socket, "mail") {
            Ok(client) => break client,
            Err(_) if stop.load(Ordering::Relaxed) || Instant::now() >= until => return (End::Gone, longest),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    };
    let (mut asked, mut cookie) = (BTreeMap::new(), 0u64);
    let mut last_flush = false;
    let window = random.below(model.lock().versions.len() as u64 / 2) as usize;
    loop {
        let told = stop.load(Ordering::Relaxed);
        if told && asked.is_empty() && last_flush {
            return (End::Told, longest);
        }
        if if told { asked.is_empty() } else { asked.len() < DEPTH } {
            last_flush = told;
            cookie += 1;
            thread::sleep(PAUSE);
            let (what, sent) = ask(model, &mut client, cookie, (part, window), told, &mut random);
            asked.insert(cookie, (what, Instant::now()));
            if sent.is_err() {
                return (End::Gone, longest);
            }
            continue;
        }
        let Ok((error, cookie)) = client.answer() else { return (End::Gone, longest) };
        let (what, since) = asked.remove(&cookie).expect("it was asked for");
        longest = longest.max(since.elapsed());
        match what {
            _ if error != 0 => return (End::Error(error), longest),
            Asked::Write(number, sectors, fua) => model.lock().written(number, sectors, fua),
            Asked::Flush(covers) => model.lock().flushed(covers),
        }
    }
}

fn ask(
    model: &Shared,
    client: &mut Client,
    cookie: u64,
    (part, window): (usize, usize),
    flush: bool,
    random: &mut Random,
) -> (Asked, std::io::Result<()>) {
    if flush || random.one_in(24) {
        let covers = model.lock().flush();
        return (Asked::Flush(covers), client.ask(Command::Flush, false, cookie, (0, 0), &[]));
    }
    let mut model = model.lock();
    let half = model.versions.len() / 2;
    let length = if random.one_in(8) { 1 + random.below(160) } else { 1 + random.below(16) } as usize;
    // At few places, so that there are overlaps, and most regions are not written.
    let first = (window + random.below(WINDOW as u64) as usize) % half;
    let sectors = part * half + first..part * half + (first + length).min(half);
    let first = sectors.start;
    let (zero, fua) = (random.one_in(12), random.one_in(10));
    let number = model.write(sectors.clone(), zero);
    drop(model);
    let at = ((first * SECTOR) as u64, (sectors.len() * SECTOR) as u32);
    let sent = if zero {
        let command = if random.one_in(2) { Command::Trim } else { Command::Zero };
        client.ask(command, fua, cookie, at, &[])
    } else {
        client.ask(Command::Write, fua, cookie, at, &content(number, sectors.clone()))
    };
    (Asked::Write(number, sectors, fua), sent)
}
