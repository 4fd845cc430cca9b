//! Round after round: a source under load, its target or both are killed at a random moment, by half of the times with
//! the loss of everything that was not flushed. Then the promise of a volume is held against what is left: whatever was
//! acknowledged as durable is on every copy that can be put in service without force. Clients of our own know it to the
//! sector; beside them, in its own part of the volume, fio knows and verifies it (see `fio.rs`).
//!
//! Decisions come from a seed. Moments do not: the same seed gives the same rounds, not the same interleavings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mainstay_test_support::{Direction, WAIT_LIMIT, poll_until, wait_until};
use mainstay_volume_core::label::{DurableState, Label};
use mainstay_volume_core::log;
use serde_json::json;

use crate::fio::{self, Claim, Ending, Session};
use crate::pair::client::{Client, read_all};
use crate::pair::daemon::Arbiter;
use crate::pair::model::{End, Random, Shared, Writers};
use crate::pair::under::{self, Under};
use crate::pair::{A, B, Half, LABEL, Pair};

/// What our own clients write to, in bytes: 256 regions.
const OURS: u64 = 16 << 20;
/// Data of a copy: theirs, and what fio writes to.
const SIZE: u64 = OURS + fio::BYTES;
const REGION: u64 = 64 << 10;
const STALL: Duration = Duration::from_secs(10);
/// Rounds that are part of every test run, and pairs that have their rounds side by side.
const ROUNDS: u64 = 12;
const PAIRS: u64 = 3;
/// And where there are many rounds: they wait more than they work.
const PAIRS_OF_MANY: u64 = 6;
const MANY: u64 = 100;

/// What all rounds came to.
#[derive(Debug, Default)]
struct Counts {
    rounds: AtomicU64,
    kills: AtomicU64,
    losses: AtomicU64,
    looked_at: AtomicU64,
    resyncs: AtomicU64,
    regions: AtomicU64,
    union_regions: AtomicU64,
    durable: AtomicU64,
    /// Sessions of fio that lost their server while they wrote.
    fio_kills: AtomicU64,
    /// How often fio verified what it may claim, and how many blocks these were.
    fio_checks: AtomicU64,
    fio_blocks: AtomicU64,
}

fn add(to: &AtomicU64, count: u64) {
    to.fetch_add(count, Ordering::Relaxed);
}

#[test]
fn nothing_acknowledged_is_missing_whoever_is_killed() {
    let Some(fio) = fio::program().filter(|_| under::is_possible()) else { return };
    let number =
        |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
    let rounds = number("MAINSTAY_SOAK_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("MAINSTAY_SOAK_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64 % 1_000_000_000
    });
    let pairs = if rounds < MANY { PAIRS } else { PAIRS_OF_MANY };
    println!("seed {seed}, {rounds} rounds, {pairs} pairs");
    let (counts, began) = (Counts::default(), Instant::now());
    thread::scope(|scope| {
        let (counts, fio) = (&counts, &fio);
        let threads: Vec<_> = (0..pairs)
            .map(|pair| {
                let many = rounds / pairs + u64::from(pair < rounds % pairs);
                thread::Builder::new()
                    .name("kills".into())
                    .spawn_scoped(scope, move || World::new(Random(seed * pairs + pair), pair, counts, fio).live(many))
                    .unwrap()
            })
            .collect();
        for thread in threads {
            assert!(thread.join().is_ok(), "a pair broke the promise: seed {seed}");
        }
    });
    println!("seed {seed}: {counts:?} in {:.1} s", began.elapsed().as_secs_f64());
    let count = |what: &AtomicU64| what.load(Ordering::Relaxed);
    assert_eq!(count(&counts.rounds), rounds);
    assert!(count(&counts.kills) >= rounds && count(&counts.losses) > 0, "{counts:?}");
    assert!(count(&counts.looked_at) >= rounds && count(&counts.durable) > 10 * rounds, "{counts:?}");
    assert!(count(&counts.fio_kills) > rounds / 4 && count(&counts.fio_checks) > rounds / 4, "{counts:?}");
}

/// What is known when two copies are about to meet.
struct Meeting {
    bits: BTreeSet<u32>,
    resync_bytes: [u64; 2],
    wire_bytes: [u64; 2],
    events: [usize; 2],
}

struct World<'a> {
    // In this order: processes end before their disks.
    pair: Pair,
    disks: [Under; 2],
    arbiter: Arbiter,
    model: Shared,
    writers: Option<Writers>,
    fio: PathBuf,
    session: Option<Session>,
    /// What fio may claim since it ended; none while it writes.
    claim: Option<Claim>,
    /// Whether fio has written since two copies are about to meet, and what that may have taken on the way.
    fio_wrote: bool,
    fio_wire_bytes: u64,
    random: Random,
    source: Half,
    meeting: Option<Meeting>,
    number: u64,
    /// What was done in this round.
    story: Vec<String>,
    counts: &'a Counts,
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("pair {}, its last round: {}", self.number, self.story.join("; "));
        }
        for copy in [A, B] {
            if self.pair.is_served(copy) {
                self.pair.process(copy).kill_alone();
            }
        }
        self.pair.relay().drop_connections();
        if let Some(writers) = self.writers.take() {
            writers.stop();
        }
        // fio ends with its guard.
        self.session = None;
    }
}

impl<'a> World<'a> {
    fn new(random: Random, number: u64, counts: &'a Counts, fio: &Path) -> Self {
        let disks = [0; 2].map(|_| Under::new("cache", &["cache=writeback"], SIZE + LABEL));
        let times = json!({
            "arbiter": true, "alone-after-ms": 50, "peer-timeout-ms": 1500, "stall-ms": STALL.as_millis() as u64
        });
        let places = disks.each_ref().map(|disk| Some(disk.disk()));
        let pair = Pair::relayed(places, &times);
        let (arbiter, model) = (Arbiter::default(), Shared::new(OURS));
        let (story, meeting) = (Vec::new(), None);
        let mut world = Self {
            pair,
            disks,
            arbiter,
            model,
            writers: None,
            fio: fio.to_owned(),
            session: None,
            claim: None,
            fio_wrote: false,
            fio_wire_bytes: 0,
            random,
            source: A,
            meeting,
            number,
            story,
            counts,
        };
        world.serve(B);
        world.serve(A);
        world.recover();
        world
    }

    fn live(mut self, rounds: u64) {
        self.settle();
        self.switch_over();
        for round in 0..rounds {
            self.story = vec![format!("round {round}, {:?} is the source", self.source)];
            let began = Instant::now();
            self.round();
            add(&self.counts.rounds, 1);
            if std::env::var_os("MAINSTAY_SOAK_ROUNDS").is_some() {
                println!("{:4} ms: {}", began.elapsed().as_millis(), self.story.join("; "));
            }
        }
        self.stop_writing();
        self.verify(&self.pair.uri(self.source), "at last");
        add(&self.counts.durable, self.model.lock().durable);
    }

    /// Roles change in order: then nothing is left in the logs.
    fn switch_over(&mut self) {
        self.stop_writing();
        self.wait_up_to_date();
        let (source, target) = (self.source, self.source.other());
        assert_eq!(self.pair.ask(source, &json!("demote")), json!("done"));
        assert_eq!(self.bits(source), [] as [u32; 0], "after a switchover in order both are the same");
        wait_until(WAIT_LIMIT, "both are targets", || self.pair.status(target)["link"] == json!("idle"));
        self.arbiter.promote(&self.pair, target).unwrap();
        self.source = target;
        self.settle();
    }

    fn round(&mut self) {
        if self.random.one_in(4) {
            self.story.push("switch over".into());
            self.switch_over();
        }
        self.rest(20, 150);
        self.crash();
        self.rest(0, 50);
        self.recover();
        self.rest(0, 100);
        if self.random.one_in(6) {
            self.crash();
            self.recover();
        }
        self.serve_other();
        if self.random.one_in(4) {
            self.rest(0, 60);
            self.crash();
            self.recover();
            self.serve_other();
        }
        self.settle();
    }

    fn rest(&mut self, from: u64, to: u64) {
        let ms = from + self.random.below(to - from);
        self.story.push(format!("{ms} ms"));
        thread::sleep(Duration::from_millis(ms));
    }

    /// Kills the source, its target, or both; each may lose what it has not flushed.
    fn crash(&mut self) {
        let source = self.source;
        let victims: &[Half] = match self.random.below(4) {
            0 => &[source],
            1 => &[source.other()],
            2 => &[source, source.other()],
            _ => &[source.other(), source],
        };
        if self.random.one_in(6) {
            self.story.push("silently".into());
            self.pair.relay().cut();
        }
        let mut lose = Vec::new();
        for copy in victims {
            if self.pair.is_served(*copy) {
                self.pair.kill(*copy);
                add(&self.counts.kills, 1);
            }
            let loses = self.random.one_in(2);
            self.story.push(format!("kill {copy:?}{}", if loses { " and lose what it has not flushed" } else { "" }));
            if loses {
                lose.push(*copy);
            }
        }
        for copy in lose {
            self.disks[copy as usize].power_off();
            self.disks[copy as usize].power_on();
            add(&self.counts.losses, 1);
        }
        self.meeting = None;
        if !self.pair.is_served(source) {
            self.stop_writing();
        }
    }

    fn start_writing(&mut self) {
        self.writers = Some(Writers::start(&self.model, &self.pair.nbd(self.source), &mut self.random));
        let seed = self.random.below(1 << 48);
        let mut session = Session::start(&self.fio, &self.pair.uri(self.source), OURS, seed);
        (self.claim, self.fio_wrote) = (None, true);
        if !self.random.one_in(6) {
            // Most are killed while it writes, some while it connects.
            let mut client = Client::connect(&self.pair.nbd(self.source), "mail").unwrap();
            wait_until(WAIT_LIMIT, "fio has begun", || {
                session.has_written(&client.read_at(OURS, fio::BYTES as usize).unwrap()) || session.has_ended()
            });
        }
        self.session = Some(session);
    }

    /// The promise, as fio sees it.
    fn verify(&self, uri: &str, who: &str) {
        let Some(claim) = self.claim.as_ref().filter(|claim| claim.blocks() > 0) else { return };
        claim.check(uri).unwrap_or_else(|what| panic!("{who}: {what}"));
        add(&self.counts.fio_checks, 1);
        add(&self.counts.fio_blocks, claim.blocks());
    }

    fn stop_writing(&mut self) {
        if let Some(session) = self.session.take() {
            let is_served = self.pair.is_served(self.source);
            let claim = session.end(if is_served { Ending::Told } else { Ending::Gone });
            self.story.push(format!("fio claims {} blocks", claim.blocks()));
            add(&self.counts.fio_kills, u64::from(!is_served && claim.blocks() > 0));
            self.fio_wire_bytes += claim.wire_bytes;
            self.claim = Some(claim);
        }
        let Some(writers) = self.writers.take() else { return };
        let (ends, longest) = writers.stop();
        let is_served = self.pair.is_served(self.source);
        let expected = if is_served { End::Told } else { End::Gone };
        // Whoever was told before its server was killed has ended well all the same.
        assert!(ends.iter().all(|end| *end == expected || *end == End::Told), "{ends:?}, wanted {expected:?}");
        assert!(longest < STALL + Duration::from_secs(5), "V1: something was held for {longest:?}");
    }

    /// Starts the process of a copy. If the other one has one, they are going to meet.
    fn serve(&mut self, copy: Half) {
        let relay = self.pair.relay();
        relay.drop_connections();
        relay.resume();
        self.meeting = self.pair.is_served(copy.other()).then(|| {
            self.model.lock().note_anew();
            (self.fio_wrote, self.fio_wire_bytes) = (self.session.is_some(), 0);
            let bits = [A, B].into_iter().flat_map(|copy| self.bits(copy)).collect();
            let bytes = |copy: Half| match self.pair.is_served(copy) {
                true => self.pair.status(copy)["resync-bytes"].as_u64().unwrap(),
                false => 0,
            };
            let events = [A, B].map(|copy| self.arbiter.notes().events[copy as usize].len());
            Meeting { bits, resync_bytes: [A, B].map(bytes), wire_bytes: self.wire_bytes(), events }
        });
        self.story.push(format!("serve {copy:?}"));
        self.pair.serve(copy);
        self.arbiter.follow(&self.pair, copy);
    }

    fn serve_other(&mut self) {
        if !self.pair.is_served(self.source.other()) {
            self.serve(self.source.other());
        }
    }

    /// What each has sent to the other.
    fn wire_bytes(&self) -> [u64; 2] {
        [Direction::ToTarget, Direction::ToClient].map(|direction| self.pair.relay().carried_bytes(direction))
    }

    fn raw(&self, copy: Half) -> Vec<u8> {
        read_all(&self.disks[copy as usize].socket(), "").unwrap()
    }

    /// Which regions are in a copy's log.
    fn bits(&self, copy: Half) -> Vec<u32> {
        let look = || {
            let label = Label::decode(&self.raw(copy)[SIZE as usize..]).unwrap();
            log::replay(&std::fs::read(self.pair.log(copy)).unwrap(), &label)
        };
        let mut replay = look();
        // A process may change both between a look at the one and at the other; who is dead may not.
        let is_whole = |replay: &log::Replay| (&replay.error, replay.sectors_damaged) == (&None, 0);
        let _ = self.pair.is_served(copy)
            && poll_until(WAIT_LIMIT, || {
                replay = look();
                is_whole(&replay)
            });
        assert!(is_whole(&replay), "the log of {copy:?} is not believed: {:?}", replay.error);
        replay.dirty.iter().map(|region| region.0).collect()
    }

    /// The promise, for every copy that has no process: if it can be put in service without force, it has everything.
    fn look_at_the_dead(&mut self) {
        for copy in [A, B].into_iter().filter(|copy| !self.pair.is_served(*copy)) {
            // As long as this is held nobody goes on without this copy.
            let notes = self.arbiter.notes();
            let raw = self.raw(copy);
            let label = Label::decode(&raw[SIZE as usize..]).unwrap();
            let takes_force = label.state != DurableState::Good || notes.marked[copy as usize];
            self.story.push(format!("{copy:?} is {:?}{}", label.state, if takes_force { "" } else { ", looked at" }));
            if !takes_force {
                self.model.lock().check(&raw).unwrap_or_else(|what| panic!("copy {copy:?}: {what}"));
                let uri = format!("nbd+unix:///?socket={}", self.disks[copy as usize].socket().display());
                self.verify(&uri, &format!("copy {copy:?}"));
                add(&self.counts.looked_at, 1);
            }
        }
    }

    /// There is a source again, and it is written to.
    fn recover(&mut self) {
        self.look_at_the_dead();
        if self.writers.is_some() {
            return assert_eq!(self.pair.status(self.source)["role"], json!("source"), "it goes on");
        }
        if self.random.one_in(4) {
            for copy in [B, A].into_iter().filter(|copy| !self.pair.is_served(*copy)).collect::<Vec<_>>() {
                self.serve(copy);
            }
        }
        let order = if self.random.one_in(2) { [A, B] } else { [B, A] };
        let mut refusals = Vec::new();
        let promoted = order.into_iter().find(|copy| {
            if !self.pair.is_served(*copy) {
                self.serve(*copy);
            }
            let promoted = self.arbiter.promote(&self.pair, *copy);
            promoted.map_err(|why| refusals.push(why)).is_ok()
        });
        let Some(source) = promoted else { panic!("no copy can be put in service without force: {refusals:?}") };
        self.story.push(format!("promote {source:?}"));
        self.source = source;
        let data = Client::connect(&self.pair.nbd(source), "mail").unwrap().read(SIZE as usize).unwrap();
        self.model.lock().promoted(&data).unwrap_or_else(|what| panic!("{source:?} was promoted: {what}"));
        self.verify(&self.pair.uri(source), &format!("{source:?} was promoted"));
        add(&self.counts.looked_at, 1);
        self.start_writing();
    }

    /// On a busy machine they may lose each other, and be brought up to date once more.
    fn wait_up_to_date(&self) {
        let is_connected = || self.pair.status(self.source)["link"] == "connected";
        wait_until(WAIT_LIMIT * 2, "both copies are up to date", is_connected);
    }

    /// Both copies have everything, and are the same; no more was copied than may differ.
    fn settle(&mut self) {
        if self.random.one_in(2) {
            self.story.push("quiet".into());
            self.stop_writing();
        }
        let source = self.source;
        self.wait_up_to_date();
        self.stop_writing();
        self.wait_up_to_date();
        self.look_at_what_was_copied();
        let [a, b] = [A, B].map(|copy| self.raw(copy));
        let (a, b) = (&a[..SIZE as usize], &b[..SIZE as usize]);
        let region = REGION as usize;
        let different = a.chunks(region).zip(b.chunks(region)).position(|(a, b)| a != b);
        assert_eq!(different, None, "a region differs");
        self.model.lock().settle(a);
        if self.random.one_in(4) {
            self.verify(&self.pair.uri(source), "both have the same");
        }
        self.start_writing();
    }

    fn look_at_what_was_copied(&mut self) {
        let Some(meeting) = self.meeting.take() else { return };
        let source = self.source as usize;
        let model = self.model.lock();
        let (touched, written_bytes) = model.noted();
        let mut union = &meeting.bits | touched;
        if self.fio_wrote {
            union.extend((OURS / REGION) as u32..(SIZE / REGION) as u32);
        }
        let union = union.len() as u64;
        let regions = || {
            let said = |event: &String| event.strip_prefix("resync of ")?.split(' ').next()?.parse::<u64>().ok();
            let notes = self.arbiter.notes();
            notes.events[source][meeting.events[source]..].iter().filter_map(said).collect::<Vec<u64>>()
        };
        // If they have lost each other meanwhile, what was written since then was copied, too. The last event may be on
        // its way.
        let copied = self.pair.status(self.source)["resync-bytes"].as_u64().unwrap() - meeting.resync_bytes[source];
        let limit = || union * REGION * 105 / 100 * (regions().len() as u64).max(1);
        let holds = poll_until(WAIT_LIMIT, || copied <= limit());
        let (limit, regions) = (limit(), regions());
        assert!(holds, "{copied} bytes were copied in {regions:?}, and no more than {union} regions may differ");
        // What was written meanwhile is sent too, each request in a frame; and certificates, logs and labels.
        let sent = self.wire_bytes()[source] - meeting.wire_bytes[source];
        let more = written_bytes * 5 / 4 + self.fio_wire_bytes * 5 / 4 + (256 << 10);
        assert!(sent <= limit + more, "{sent} bytes were sent for {union} regions and {written_bytes} bytes of writes");
        assert!(regions.iter().all(|regions| *regions <= union), "{regions:?} of {union} regions");
        self.story.push(format!("copied {copied} bytes, {regions:?} regions of {union}, {sent} sent"));
        add(&self.counts.resyncs, regions.len() as u64);
        add(&self.counts.regions, regions.iter().sum());
        add(&self.counts.union_regions, union);
    }
}
