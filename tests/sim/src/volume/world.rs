//! The world: two machines, the link between them, an application, and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};
use mainstay_volume_core::io::{
    Block, Config, Data, DiskId, DiskOp, Input, LinkId, Marked, Mode, OperatorId, OperatorRequest, Output, Refusal,
    Token, WriteId,
};
use mainstay_volume_core::message::Message;
use mainstay_volume_core::status::{LinkState, Role};
use mainstay_volume_core::types::{Epoch, Generation, REGION_BYTES, Region, SECTOR_BYTES, Side, VolumeId};
use mainstay_volume_core::volume::Volume;

use super::client::Client;
use super::disk::Stamp;
use super::history::History;
use super::host::Host;
use super::machine::Machine;
use super::people::Fork;
use crate::random::Random;

/// Bytes of the volume: a few regions, and one that is not whole.
pub const SIZE: u64 = 9 * REGION_BYTES + 3 * SECTOR_BYTES;

/// When it begins, in ms since 1970.
pub const UNIX: u64 = 1_000_000;

/// What is the same for a whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Of all dice.
    pub seed: u64,
    /// Sync or async.
    pub is_async: bool,
    /// Whether there is an arbiter; else an operator who knows what is off.
    pub arbiter: bool,
    /// Requests of the application at one time.
    pub depth: u64,
    /// Requests of the application in all.
    pub requests: u64,
    /// It begins at this time, in ms.
    pub begins: u64,
    /// A resync is this slow, in bytes a second; 0: as fast as it goes.
    pub rate: u64,
    /// How long a disk takes at the most, in ms.
    pub disk_ms: u64,
    /// How many regions may be hot.
    pub hot: u32,
    /// How fast everything goes.
    pub pace: Pace,
}

/// Times of a volume and of who uses it, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    stall: u64,
    peer_timeout: u64,
    alone_after: u64,
    mark_timeout: u64,
    cool_after: u64,
    /// The application thinks for less than this.
    pub(super) think: u64,
    /// It is tried to connect this often at the least, and again after up to six times as long.
    connect: u64,
}

impl Pace {
    /// Much happens at once.
    pub const QUICK: Self = Self {
        stall: 2_000,
        peer_timeout: 400,
        alone_after: 100,
        mark_timeout: 100,
        cool_after: 150,
        think: 6,
        connect: 5,
    };
    /// As a cluster goes: dead times and leases are in seconds.
    pub const CLUSTER: Self = Self {
        stall: 1_800,
        peer_timeout: 800,
        alone_after: 300,
        mark_timeout: 250,
        cool_after: 600,
        think: 120,
        connect: 60,
    };
}

/// Something that happens later.
#[derive(Clone, Debug)]
pub(super) enum Later {
    Disk(usize, u64, DiskId),
    Written(usize, u64, WriteId),
    Deliver(usize, LinkId),
    Cut(usize, LinkId),
    Connect,
    Tick(usize, u64),
    Client,
    Host,
    Input(usize, u64, Input),
    Answer { asker: usize, start: u64, token: Token, outcome: Marked },
}

impl Later {
    /// On which machine.
    fn whose(&self) -> Option<usize> {
        match self {
            Self::Disk(m, ..)
            | Self::Written(m, ..)
            | Self::Cut(m, _)
            | Self::Tick(m, _)
            | Self::Input(m, ..)
            | Self::Answer { asker: m, .. } => Some(*m),
            // What machine `m` has sent comes to the other one.
            Self::Deliver(m, _) => Some(1 - *m),
            Self::Connect | Self::Client | Self::Host => None,
        }
    }
}

/// A message under way: on which link, its bytes, and what goes with it.
type OnWire = (LinkId, Vec<u8>, Option<Vec<Stamp>>);

/// What a volume's process says to who stands above it, where that is not [`Host`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// See [`Output::MarkPeer`].
    MarkPeer(Token, Epoch, Generation),
    /// See [`Output::MarkArbiter`].
    MarkArbiter(Token, Epoch, bool),
    /// See [`Output::AnswerMark`].
    AnswerMark(Token, Marked),
    /// See [`Output::Answer`].
    Answer(OperatorId, Result<(), Refusal>),
    /// An application was answered that a request is done: one that writes, or another one; it may be one that has not
    /// noticed that the other copy is in service.
    Done {
        /// It writes, or flushes.
        writes: bool,
        /// The other copy was put in service since.
        stale: bool,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub struct World {
    /// What is the same for the whole run.
    pub setting: Setting,
    /// The time since the beginning, in ms.
    pub now: u64,
    /// Both machines.
    pub machines: [Machine; 2],
    /// What stands for the daemons and the arbiter or operator.
    pub host: Host,
    /// Nothing gets through on the mirror link.
    pub link_cut: bool,
    /// A disk takes so much longer, by machine.
    pub slow: [u64; 2],
    /// What was found wrong.
    pub broken: Option<String>,
    /// How often what occurred.
    pub counts: BTreeMap<String, u64>,
    /// How many events have happened.
    pub steps: u64,
    /// What has happened, for people; if wanted.
    pub told: Option<Vec<String>>,
    /// What the application knows.
    pub history: History,
    /// What it knew before a word that lost something.
    pub(super) forks: Vec<Fork>,
    /// What one knows that has not noticed that the other copy is in service.
    pub(super) stale_history: History,
    /// Whether what this machine's copy was last promoted on may lose something: a word, or silence. If there is no
    /// [`Host`], who stands above says so.
    pub may_lose: [bool; 2],
    /// Whose data an operator has last named to survive a split brain.
    pub(super) survivor: Option<usize>,
    /// What the processes say, if there is no [`Host`] to hear it.
    pub said: Option<VecDeque<(usize, Said)>>,
    /// This machine stands still, and what happens to it waits.
    still: [bool; 2],
    held: [Vec<Later>; 2],
    pub(super) dice: Random,
    later: BTreeMap<(u64, u64, u64), Later>,
    scheduled: u64,
    link: u64,
    /// Links up to this one have lost something: nothing comes through them any more.
    dead_link: u64,
    wires: [VecDeque<OnWire>; 2],
    pub(super) clients: [Client; 2],
    pub(super) next_request: u64,
    pub(super) sent_bytes: u64,
    /// Bytes that the resync under way may send, and how many had been sent when it began.
    pub(super) may_send: Option<(u64, u64)>,
    /// This machine's copy went on alone, and the other one is not marked.
    pub(super) unmarked: [bool; 2],
    /// When each copy last heard the other one.
    pub(crate) heard: [u64; 2],
    /// This machine's copy was promoted by force, whether it got so far as to serve or not.
    pub(super) forced: [bool; 2],
    pub(super) operators: BTreeMap<OperatorId, (usize, OperatorRequest)>,
    next_operator: u64,
    asked_marks: BTreeMap<(usize, Token), (usize, u64, Token)>,
    next_token: u64,
    dirtied: BTreeSet<u32>,
}

impl World {
    /// Two new copies, both machines on.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let now = Now { monotonic: Monotonic(0), unix: UnixMs(UNIX) };
        let config = |side: Side| {
            let mut config = Config::new(VolumeId(0xabc), side, SIZE);
            config.arbiter = setting.arbiter;
            if setting.is_async {
                config.mode = Mode::Async { lag_bytes_max: 64 * 1024, lag_max: Millis(300) };
            }
            config.stall_time = Millis(setting.pace.stall);
            config.peer_timeout = Millis(setting.pace.peer_timeout);
            config.alone_after = Millis(setting.pace.alone_after);
            config.mark_timeout = Millis(setting.pace.mark_timeout);
            config.cool_after = Millis(setting.pace.cool_after);
            config.hot_regions_max = setting.hot;
            config.resync_regions_max = 3;
            config.resync_bytes_per_s = (setting.rate > 0).then_some(setting.rate);
            config
        };
        let machines =
            [Machine::new(config(Side::A), SIZE, true, now), Machine::new(config(Side::B), SIZE, false, now)];
        let mut world = Self {
            now: 0,
            machines,
            host: Host::new(setting.arbiter),
            link_cut: false,
            slow: [0; 2],
            broken: None,
            counts: BTreeMap::new(),
            steps: 0,
            told: None,
            history: History::new((SIZE / SECTOR_BYTES) as usize, setting.is_async),
            forks: Vec::new(),
            stale_history: History::new((SIZE / SECTOR_BYTES) as usize, setting.is_async),
            may_lose: [false; 2],
            survivor: None,
            said: None,
            still: [false; 2],
            held: [Vec::new(), Vec::new()],
            dice: Random::of(setting.seed, 7),
            later: BTreeMap::new(),
            scheduled: 0,
            link: 0,
            dead_link: 0,
            wires: [VecDeque::new(), VecDeque::new()],
            clients: [Client { left: setting.requests, ..Client::default() }, Client::default()],
            next_request: 0,
            sent_bytes: 0,
            may_send: None,
            unmarked: [false; 2],
            heard: [0; 2],
            forced: [false; 2],
            operators: BTreeMap::new(),
            next_operator: 0,
            asked_marks: BTreeMap::new(),
            next_token: 0,
            dirtied: BTreeSet::new(),
            setting,
        };
        for machine in 0..2 {
            world.start(machine);
        }
        world.at(5, Later::Connect);
        world.at(1, Later::Host);
        world.at(2, Later::Client);
        world
    }

    /// Both clocks of a machine.
    #[must_use]
    pub fn clock(&self, m: usize) -> Now {
        let machine = &self.machines[m];
        let unix = (UNIX + self.now).saturating_add_signed(machine.clock_off);
        Now { monotonic: machine.clock.at(Monotonic(self.now)), unix: UnixMs(unix) }
    }

    pub(super) fn at(&mut self, ms: u64, what: Later) {
        self.scheduled += 1;
        let key = (self.now + ms, self.dice.throw(), self.scheduled);
        self.later.insert(key, what);
    }

    /// Something is wrong.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        if self.broken.is_none() {
            let why = why();
            self.tell(|| format!("BROKEN {why}"));
            self.broken = Some(why);
        }
    }

    /// Something has occurred.
    pub fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// For people.
    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(format!("{:>6} #{:<6} {}", self.now, self.steps, what()));
        }
    }

    /// The process of a machine that has power starts.
    pub fn start(&mut self, m: usize) {
        if self.machines[m].power && self.machines[m].volume.is_none() {
            self.tell(|| format!("{m} starts"));
            let now = self.clock(m);
            self.machines[m].open(now);
            self.carry_out(m);
        }
    }

    /// The power of a machine is cut, or its process killed.
    pub fn end(&mut self, m: usize, power: bool) {
        self.tell(|| format!("{m} {}", if power { "loses power" } else { "is killed" }));
        self.host.forget(m);
        self.held[m].clear();
        self.still[m] = false;
        self.applications_lose(m);
        // What it has put on the wire is under way, or not.
        let keep = self.dice.below(self.wires[m].len() as u64 + 1) as usize;
        self.wires[m].truncate(keep);
        if let (Some(link), true) = (self.machines[m].link, self.dice.chance(700)) {
            let late = self.dice.below(10);
            self.at(late, Later::Cut(1 - m, link));
        }
        self.machines[m].end(power, &mut self.dice);
    }

    /// The link is cut; whether either side notices at once.
    pub fn cut_link(&mut self, noticed: bool) {
        (self.link_cut, self.dead_link) = (true, self.link);
        self.tell(|| format!("the link is cut, noticed: {noticed}"));
        for m in 0..2 {
            let keep = self.dice.below(self.wires[m].len() as u64 + 1) as usize;
            self.wires[m].truncate(keep);
            if let (true, Some(link)) = (noticed, self.machines[m].link) {
                let late = self.dice.below(10);
                self.at(late, Later::Cut(m, link));
            }
        }
    }

    /// The next thing happens; whether there was one.
    pub fn step(&mut self) -> bool {
        let Some(((when, _, _), what)) = self.later.pop_first() else { return false };
        self.now = self.now.max(when);
        self.steps += 1;
        if let Some(m) = what.whose().filter(|m| self.still[*m]) {
            self.held[m].push(what);
            return true;
        }
        match what {
            Later::Disk(m, start, id) if self.runs(m, start) => self.disk_done(m, id),
            Later::Written(m, start, id) if self.runs(m, start) => {
                self.machines[m].wrote(id);
                self.input(m, Input::Written { id, result: Ok(()) });
            }
            Later::Deliver(m, link) => self.deliver(m, link),
            Later::Cut(m, link) if self.machines[m].link == Some(link) => {
                self.machines[m].link = None;
                self.input(m, Input::LinkDown(link));
            }
            Later::Connect => self.connect(),
            Later::Tick(m, start) if self.runs(m, start) => {
                let now = self.clock(m).monotonic;
                let due = self.machines[m].volume.as_ref().is_some_and(|it| it.poll_timeout().0 <= now);
                if due {
                    self.input(m, Input::Tick);
                }
            }
            Later::Client => self.clients_ask(),
            Later::Host if self.said.is_none() => {
                self.run_host();
                self.at(20, Later::Host);
            }
            Later::Input(m, start, input) if self.runs(m, start) => self.input(m, input),
            Later::Answer { asker, start, token, outcome } if self.runs(asker, start) => {
                self.input(asker, Input::Marked { token, outcome });
            }
            Later::Disk(..)
            | Later::Host
            | Later::Written(..)
            | Later::Cut(..)
            | Later::Tick(..)
            | Later::Input(..)
            | Later::Answer { .. } => {}
        }
        true
    }

    /// When the next thing happens.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.later.first_key_value().map(|((when, _, _), _)| (*when).max(self.now))
    }

    /// A machine stands still, or goes on: then what has waited happens, in order.
    pub fn stand_still(&mut self, m: usize, still: bool) {
        if std::mem::replace(&mut self.still[m], still) && !still {
            for what in std::mem::take(&mut self.held[m]) {
                self.in_order(0, what);
            }
        }
    }

    /// As [`Self::at`]; of what is said to one process nothing overtakes the other.
    fn in_order(&mut self, ms: u64, what: Later) {
        self.scheduled += 1;
        self.later.insert((self.now + ms, 0, self.scheduled), what);
    }

    /// The daemon of a machine tells the process something.
    pub fn tell_process(&mut self, m: usize, input: Input) {
        let start = self.machines[m].start;
        self.in_order(1, Later::Input(m, start, input));
    }

    pub(super) fn runs(&self, m: usize, start: u64) -> bool {
        self.machines[m].volume.is_some() && self.machines[m].start == start
    }

    /// Tells a volume something.
    pub fn input(&mut self, m: usize, input: Input) {
        let now = self.clock(m);
        if let Some(volume) = &mut self.machines[m].volume {
            volume.handle(input, now);
            self.carry_out(m);
        }
    }

    /// The number that the next question of an operator gets.
    #[must_use]
    pub fn next_operator(&self) -> OperatorId {
        OperatorId(self.next_operator + 1)
    }

    /// An operator asks; what is answered is in [`World::host`].
    pub fn operate(&mut self, m: usize, request: OperatorRequest) -> OperatorId {
        self.next_operator += 1;
        let id = OperatorId(self.next_operator);
        self.operators.insert(id, (m, request));
        self.tell(|| format!("{m} is asked: {request:?}"));
        self.input(m, Input::Operator { id, request });
        id
    }

    /// Does what a volume wants.
    fn carry_out(&mut self, m: usize) {
        while let Some(output) = self.machines[m].volume.as_mut().and_then(Volume::poll_output) {
            self.carry_out_one(m, output);
        }
        if let Some(volume) = &self.machines[m].volume {
            let start = self.machines[m].start;
            let when = self.machines[m].clock.when(volume.poll_timeout().0).0;
            self.at(when.saturating_sub(self.now), Later::Tick(m, start));
        }
    }

    fn carry_out_one(&mut self, m: usize, output: Output) {
        let start = self.machines[m].start;
        match output {
            Output::Disk { id, op } => {
                self.check_intent(m, op);
                if let Err(why) = self.machines[m].begin(id, op) {
                    self.fail(|| why);
                }
                let takes = self.dice.below(self.setting.disk_ms + 1) + self.slow[m];
                self.at(takes, Later::Disk(m, start, id));
            }
            Output::WriteLog { id, blocks } => self.begin_write(m, id, false, blocks),
            Output::WriteLabel { id, block } => self.begin_write(m, id, true, vec![block]),
            Output::Send { link, message, data } => self.put_on_wire(m, link, &message, data),
            Output::CloseLink { link, why } => {
                self.tell(|| format!("{m} ends the link: {why}"));
                if self.machines[m].link == Some(link) {
                    self.machines[m].link = None;
                    let late = self.dice.below(10);
                    if !self.link_cut {
                        self.at(late, Later::Cut(1 - m, link));
                    }
                }
            }
            Output::Reply { id, result } => self.replied(m, id, result),
            Output::Forget(data) => self.machines[m].forget(data),
            Output::MarkPeer { token, epoch, generation } if self.said.is_some() => {
                self.say(m, Said::MarkPeer(token, epoch, generation));
            }
            Output::MarkArbiter { token, epoch, outdated } if self.said.is_some() => {
                self.say(m, Said::MarkArbiter(token, epoch, outdated));
            }
            Output::AnswerMark { token, outcome } if self.said.is_some() => {
                self.say(m, Said::AnswerMark(token, outcome));
            }
            Output::MarkPeer { token, epoch, generation } => {
                let peer = 1 - m;
                let late = 1 + self.dice.below(10);
                if self.host.path_up && self.machines[peer].volume.is_some() {
                    self.next_token += 1;
                    let asked = Token(self.next_token);
                    self.asked_marks.insert((peer, asked), (m, start, token));
                    let peer_start = self.machines[peer].start;
                    self.at(
                        late,
                        Later::Input(peer, peer_start, Input::AskedOutdated { token: asked, epoch, generation }),
                    );
                } else {
                    let outcome = Marked::Unreachable;
                    self.at(late, Later::Answer { asker: m, start, token, outcome });
                }
            }
            Output::MarkArbiter { token, epoch, outdated } => {
                let outcome = self.host.mark(m, epoch, outdated);
                let late = 1 + self.dice.below(20);
                self.at(late, Later::Answer { asker: m, start, token, outcome });
            }
            Output::AnswerMark { token, outcome } => {
                if let Some((asker, start, token)) = self.asked_marks.remove(&(m, token)) {
                    let late = 1 + self.dice.below(10);
                    self.at(late, Later::Answer { asker, start, token, outcome });
                }
            }
            Output::Answer { id, result } => self.answered(m, id, result),
            Output::Report(event) => self.reported(m, *event),
        }
    }

    /// For who stands above the processes.
    pub(super) fn say(&mut self, m: usize, said: Said) {
        if let Some(all) = &mut self.said {
            all.push_back((m, said));
        }
    }

    fn begin_write(&mut self, m: usize, id: WriteId, is_label: bool, blocks: Vec<Block>) {
        let takes = self.dice.below(self.setting.disk_ms + 1) + self.slow[m];
        let start = self.machines[m].start;
        self.at(takes, Later::Written(m, start, id));
        self.machines[m].begin_write(id, is_label, blocks);
    }

    fn disk_done(&mut self, m: usize, id: DiskId) {
        let Some((result, read)) = self.machines[m].done(id) else { return };
        if let Some((request, extent, stamps)) = read {
            self.judge_read(m, request, extent, &stamps);
        }
        self.input(m, Input::Disk { id, result });
    }

    /// V5, on disk: a client's write is begun only when the log has its regions.
    fn check_intent(&mut self, m: usize, op: DiskOp) {
        let (DiskOp::Write { extent, data: Data::Request(_), .. } | DiskOp::Zero { extent, .. }) = op else {
            return;
        };
        let source = self.machines[m].volume.as_ref().is_some_and(|volume| volume.status().role == Role::Source);
        let bits = source.then(|| self.machines[m].bits_on_disk());
        if bits.is_some_and(|bits| !extent.regions().all(|region| bits.has(Region(region)))) {
            self.fail(|| format!("intent: {m} begins {op:?} and its log does not have it (V5)"));
        }
        self.dirtied.extend(extent.regions());
    }

    fn put_on_wire(&mut self, m: usize, link: LinkId, message: &Message, data: Option<Data>) {
        let payload = data.map(|data| self.machines[m].payload(data));
        if let Some(data @ Data::Read(_)) = data {
            self.machines[m].forget(data);
        }
        let bytes = payload.as_ref().map_or(0, |payload| payload.len() as u64 * SECTOR_BYTES);
        if bytes != u64::from(message.data_bytes()) {
            self.fail(|| format!("wire: {message:?} comes with {bytes} bytes"));
        }
        if let Message::Copy { .. } = message {
            self.sent_bytes += bytes;
            if let Some((may, from)) = self.may_send
                && self.sent_bytes - from > may
            {
                let sent = self.sent_bytes - from;
                self.fail(|| format!("resync: {sent} bytes sent, {may} would do"));
            }
        }
        if self.machines[m].link != Some(link) || link.0 <= self.dead_link {
            return;
        }
        self.wires[m].push_back((link, message.encode(Vec::new()), payload));
        let late = 1 + self.dice.below(4);
        self.at(late, Later::Deliver(m, link));
    }

    /// The next message that machine `m` has sent arrives.
    fn deliver(&mut self, m: usize, link: LinkId) {
        let peer = 1 - m;
        // One event for each message: they arrive in order, whoever's event it is.
        if self.wires[m].front().is_none_or(|(on, ..)| *on != link) {
            return;
        }
        let Some((_, bytes, payload)) = self.wires[m].pop_front() else { return };
        if self.machines[peer].link != Some(link) || self.machines[peer].volume.is_none() {
            return;
        }
        match Message::decode(&bytes) {
            Ok(message) => {
                self.heard[peer] = self.now;
                let data = payload.map(|stamps| self.machines[peer].receive(stamps));
                self.input(peer, Input::Received { link, message, data });
            }
            Err(why) => self.fail(|| format!("wire: {why}")),
        }
    }

    fn connect(&mut self) {
        let least = self.setting.pace.connect;
        let late = least + self.dice.below(6 * least);
        self.at(late, Later::Connect);
        let both = self.machines.iter().all(|machine| machine.volume.is_some()) && self.still == [false; 2];
        // A side that still believes in an old link is met anew all the same, now and then.
        let free = self.machines.iter().filter(|machine| machine.link.is_none()).count();
        if self.link_cut || !both || free == 0 || (free == 1 && self.dice.chance(500)) {
            return;
        }
        self.link += 1;
        let link = LinkId(self.link);
        self.wires = [VecDeque::new(), VecDeque::new()];
        for m in 0..2 {
            self.machines[m].link = Some(link);
        }
        for m in 0..2 {
            self.input(m, Input::LinkUp(link));
        }
    }

    /// Whether this copy serves.
    #[must_use]
    pub fn is_source(&self, m: usize) -> bool {
        self.machines[m].volume.as_ref().is_some_and(|volume| volume.status().role == Role::Source)
    }

    /// How it stands with the link, seen from here.
    #[must_use]
    pub fn link_state(&self, m: usize) -> Option<LinkState> {
        self.machines[m].volume.as_ref().map(|volume| volume.status().link)
    }

    /// The application wants this many more requests.
    pub fn want_requests(&mut self, count: u64) {
        self.clients[0].left = count;
    }

    /// Whether the application has all answers.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.clients[0].left == 0 && self.clients[0].asked.is_empty()
    }

    /// Dice for who makes trouble.
    pub fn dice(&mut self) -> &mut Random {
        &mut self.dice
    }
}
