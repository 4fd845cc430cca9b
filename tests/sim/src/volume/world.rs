//! The world: two machines, the link between them, an application, and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};
use mainstay_volume_core::io::{
    Basis, Block, Config, ConnectionId, Data, DiskId, DiskOp, Input, LinkId, Marked, Mode, OperatorId, OperatorRequest,
    Output, Refusal, RequestError, RequestId, RequestKind, Token, WriteId,
};
use mainstay_volume_core::message::Message;
use mainstay_volume_core::status::{Event, LinkState, Role};
use mainstay_volume_core::types::{Extent, Generation, REGION_BYTES, Region, SECTOR_BYTES, Side, VolumeId};
use mainstay_volume_core::volume::Volume;

use super::disk::{Stamp, sectors};
use super::history::History;
use super::host::Host;
use super::machine::Machine;
use crate::random::Random;

/// Bytes of the volume: a few regions, and one that is not whole.
pub const SIZE: u64 = 9 * REGION_BYTES + 3 * SECTOR_BYTES;

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
}

/// Something that happens later.
#[derive(Clone, Debug)]
enum Later {
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

#[derive(Clone, Debug)]
struct Asked {
    kind: RequestKind,
    stamp: Stamp,
    flush: u64,
}

/// A message under way: on which link, its bytes, and what goes with it.
type OnWire = (LinkId, Vec<u8>, Option<Vec<Stamp>>);

/// The application.
#[derive(Debug, Default)]
struct Client {
    at: Option<(usize, u64)>,
    asked: BTreeMap<RequestId, Asked>,
    next: u64,
    left: u64,
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
    forks: Vec<History>,
    dice: Random,
    later: BTreeMap<(u64, u64, u64), Later>,
    scheduled: u64,
    link: u64,
    /// Links up to this one have lost something: nothing comes through them any more.
    dead_link: u64,
    wires: [VecDeque<OnWire>; 2],
    client: Client,
    sent_bytes: u64,
    /// Bytes that the resync under way may send, and how many had been sent when it began.
    may_send: Option<(u64, u64)>,
    /// This machine's copy went on alone, and the other one is not marked.
    unmarked: [bool; 2],
    /// This machine's copy was promoted by force, whether it got so far as to serve or not.
    forced: [bool; 2],
    operators: BTreeMap<OperatorId, (usize, OperatorRequest)>,
    next_operator: u64,
    asked_marks: BTreeMap<(usize, Token), (usize, u64, Token)>,
    next_token: u64,
    dirtied: BTreeSet<u32>,
}

impl World {
    /// Two new copies, both machines on.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let now = Now { monotonic: Monotonic(0), unix: UnixMs(1_000_000) };
        let config = |side: Side| {
            let mut config = Config::new(VolumeId(0xabc), side, SIZE);
            config.arbiter = setting.arbiter;
            if setting.is_async {
                config.mode = Mode::Async { lag_bytes_max: 64 * 1024, lag_max: Millis(300) };
            }
            config.stall_time = Millis(2_000);
            config.peer_timeout = Millis(400);
            config.alone_after = Millis(100);
            config.mark_timeout = Millis(100);
            config.cool_after = Millis(150);
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
            dice: Random::of(setting.seed, 7),
            later: BTreeMap::new(),
            scheduled: 0,
            link: 0,
            dead_link: 0,
            wires: [VecDeque::new(), VecDeque::new()],
            client: Client { left: setting.requests, ..Client::default() },
            sent_bytes: 0,
            may_send: None,
            unmarked: [false; 2],
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
    pub fn clock(&self) -> Now {
        Now { monotonic: Monotonic(self.now), unix: UnixMs(1_000_000 + self.now) }
    }

    fn at(&mut self, ms: u64, what: Later) {
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
            let now = self.clock();
            self.machines[m].open(now);
            self.carry_out(m);
        }
    }

    /// The power of a machine is cut, or its process killed.
    pub fn end(&mut self, m: usize, power: bool) {
        self.tell(|| format!("{m} {}", if power { "loses power" } else { "is killed" }));
        self.host.forget(m);
        if self.client.at.is_some_and(|(at, _)| at == m) {
            self.disconnect();
        }
        // What it has put on the wire is under way, or not.
        let keep = self.dice.below(self.wires[m].len() as u64 + 1) as usize;
        self.wires[m].truncate(keep);
        if let (Some(link), true) = (self.machines[m].link, self.dice.chance(700)) {
            let late = self.dice.below(10);
            self.at(late, Later::Cut(1 - m, link));
        }
        self.machines[m].end(power, &mut self.dice);
    }

    fn disconnect(&mut self) {
        self.client.at = None;
        self.client.asked.clear();
        self.history.disconnected();
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
                let due = self.machines[m].volume.as_ref().is_some_and(|it| it.poll_timeout().0.0 <= self.now);
                if due {
                    self.input(m, Input::Tick);
                }
            }
            Later::Client => self.client_asks(),
            Later::Host => {
                self.run_host();
                self.at(20, Later::Host);
            }
            Later::Input(m, start, input) if self.runs(m, start) => self.input(m, input),
            Later::Answer { asker, start, token, outcome } if self.runs(asker, start) => {
                self.input(asker, Input::Marked { token, outcome });
            }
            Later::Disk(..)
            | Later::Written(..)
            | Later::Cut(..)
            | Later::Tick(..)
            | Later::Input(..)
            | Later::Answer { .. } => {}
        }
        true
    }

    fn runs(&self, m: usize, start: u64) -> bool {
        self.machines[m].volume.is_some() && self.machines[m].start == start
    }

    /// Tells a volume something.
    pub fn input(&mut self, m: usize, input: Input) {
        let now = self.clock();
        if let Some(volume) = &mut self.machines[m].volume {
            volume.handle(input, now);
            self.carry_out(m);
        }
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
            let (start, when) = (self.machines[m].start, volume.poll_timeout().0.0);
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

    fn begin_write(&mut self, m: usize, id: WriteId, is_label: bool, blocks: Vec<Block>) {
        let takes = self.dice.below(self.setting.disk_ms + 1) + self.slow[m];
        let start = self.machines[m].start;
        self.at(takes, Later::Written(m, start, id));
        self.machines[m].begin_write(id, is_label, blocks);
    }

    fn disk_done(&mut self, m: usize, id: DiskId) {
        let Some((result, read)) = self.machines[m].done(id) else { return };
        if let Some((request, extent, stamps)) = read
            && self.client.at.is_some_and(|(at, _)| at == m)
            && self.client.asked.contains_key(&request)
            && let Err(why) = self.history.judge_read(sectors(extent), &stamps)
        {
            self.fail(|| format!("{why} (on {m})"));
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
                let data = payload.map(|stamps| self.machines[peer].receive(stamps));
                self.input(peer, Input::Received { link, message, data });
            }
            Err(why) => self.fail(|| format!("wire: {why}")),
        }
    }

    fn connect(&mut self) {
        let late = 5 + self.dice.below(30);
        self.at(late, Later::Connect);
        let both = self.machines.iter().all(|machine| machine.volume.is_some());
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

    // The application.

    fn client_asks(&mut self) {
        let think = self.dice.below(6);
        self.at(think, Later::Client);
        let Some((m, start)) = self.client.at else { return };
        let busy = self.client.asked.len() as u64 >= self.setting.depth;
        if !self.runs(m, start) || busy || self.client.left == 0 || self.now < self.setting.begins {
            return;
        }
        self.client.left -= 1;
        self.client.next += 1;
        let (id, stamp) = (RequestId(self.client.next), self.client.next);
        let length = 1 + self.dice.below(6);
        // Half of them where there was something lately, so that they meet.
        let far = if self.dice.chance(500) { SIZE / SECTOR_BYTES } else { 160 };
        let from = self.dice.below(far - length);
        let extent = Extent { offset: from * SECTOR_BYTES, length: (length * SECTOR_BYTES) as u32 };
        let fua = self.dice.chance(150);
        let kind = match self.dice.below(10) {
            0 | 1 => RequestKind::Read(extent),
            2 => RequestKind::Zero { extent, fua, unmap: true },
            3 => RequestKind::Flush,
            _ => RequestKind::Write { extent, fua },
        };
        let flush = self.history.flush_begins();
        match kind {
            RequestKind::Write { extent, fua } => {
                self.history.begin(sectors(extent), stamp, false, fua);
                self.machines[m].requests.insert(id, vec![stamp; sectors(extent).len()]);
            }
            RequestKind::Zero { extent, fua, .. } => self.history.begin(sectors(extent), stamp, true, fua),
            RequestKind::Read(_) | RequestKind::Flush => {}
        }
        self.client.asked.insert(id, Asked { kind, stamp, flush });
        self.tell(|| format!("{m} request {} {kind:?}", id.0));
        let connection = ConnectionId(id.0 % 3);
        self.input(m, Input::Request { id, connection, kind });
    }

    fn replied(&mut self, m: usize, id: RequestId, result: Result<(), RequestError>) {
        if self.client.at != Some((m, self.machines[m].start)) {
            return;
        }
        let Some(asked) = self.client.asked.remove(&id) else {
            return self.fail(|| format!("reply: {id:?} is answered twice"));
        };
        self.tell(|| format!("{m} answers {} {result:?}", id.0));
        let ok = result.is_ok();
        if ok && !self.host.may_act(m, self.now) {
            self.fail(|| format!("right: {m} answers {:?} after its permit has ended (V1)", asked.kind));
        }
        if ok && self.setting.arbiter && !matches!(asked.kind, RequestKind::Read(_)) {
            // From now on the other copy is marked, or has it too.
            self.forks.clear();
        }
        match asked.kind {
            RequestKind::Write { extent, .. } => self.history.end(sectors(extent), asked.stamp, false, ok),
            RequestKind::Zero { extent, .. } => self.history.end(sectors(extent), asked.stamp, true, ok),
            RequestKind::Flush if ok => self.history.flushed(asked.flush),
            RequestKind::Flush | RequestKind::Read(_) => {}
        }
        self.count(if ok { "answered" } else { "refused" });
    }

    // What people and daemons hear.

    fn answered(&mut self, m: usize, id: OperatorId, result: Result<(), Refusal>) {
        self.tell(|| format!("{m} answers the operator: {result:?}"));
        let Some((_, request)) = self.operators.remove(&id) else { return };
        if let (OperatorRequest::Promote(basis), Ok(())) = (request, &result) {
            self.promoted(m, basis);
        }
        self.host.answered(m, request, &result);
    }

    /// A copy is put in service: the promise is judged on it.
    fn promoted(&mut self, m: usize, basis: Basis) {
        if self.client.at.is_some() {
            self.disconnect();
        }
        self.history.disconnected();
        self.client.at = Some((m, self.machines[m].start));
        let content = self.machines[m].data.now.clone();
        if basis == Basis::Force || std::mem::take(&mut self.forced[m]) {
            self.count("forced");
            self.forks.clear();
            return self.history.reset(&self.machines[m].data);
        }
        let before = self.history.clone();
        match self.history.judge_copy(&content) {
            Ok(()) => self.history.expose(&content),
            Err(why) => self.excuse(m, &content, why),
        }
        // This one may go before anything is written here: then the other copy is put in service as it was.
        self.forks.push(before);
    }

    /// Without an arbiter a source that reaches nobody goes on unmarked: the other copy, promoted by the operator's word,
    /// lacks what it has acknowledged since (V3, V4). When the first one comes back, that is there again.
    fn excuse(&mut self, m: usize, content: &[Stamp], why: String) {
        let fork = self.forks.iter().position(|fork| fork.judge_copy(content).is_ok());
        if let Some(fork) = fork {
            self.history = self.forks.swap_remove(fork);
            self.history.disconnected();
            self.history.expose(content);
        } else if self.unmarked[1 - m] {
            self.count("lost by a word");
            self.history.reset(&self.machines[m].data);
        } else {
            self.fail(|| format!("{why} (on {m})"));
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "only what a checker has to know; all of it is counted")]
    fn reported(&mut self, m: usize, event: Event) {
        self.tell(|| format!("{m}: {event}"));
        let name = format!("{event:?}");
        let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
        self.count(&format!("event {name}"));
        match event {
            Event::GoingAlone { marked, .. } => {
                self.unmarked[m] |= !marked;
                self.count(if marked { "alone marked" } else { "alone unmarked" });
            }
            Event::Forced(_) => self.forced[m] = true,
            Event::UpToDate => {
                self.may_send = None;
                let whole = self.machines.iter().all(|machine| {
                    machine.volume.as_ref().is_some_and(|volume| volume.status().link == LinkState::Connected)
                });
                if whole {
                    self.unmarked = [false; 2];
                    self.forks.clear();
                }
            }
            Event::ResyncBegan { .. } if !self.is_source(m) => self.check_split(m),
            Event::ResyncBegan { .. } => {
                let bits = u64::from(self.machines[m].bits_on_disk().count());
                self.may_send = Some((bits * REGION_BYTES, self.sent_bytes));
            }
            Event::PermitEnded
            | Event::RightLost(_)
            | Event::RightEnded
            | Event::FoundBehind
            | Event::BackingFailed { .. } => {
                self.may_send = None;
            }
            _ => {}
        }
    }

    /// V11: a copy that has acknowledged alone is not overwritten by one that does not follow it, but by an operator's word.
    fn check_split(&mut self, m: usize) {
        let (mine, theirs) = (self.machines[m].label_on_disk(), self.machines[1 - m].label_on_disk());
        let follows = |generation| theirs.generation == generation || theirs.history.contains(&generation);
        let word = mine.gives_up_for.is_some_and(follows);
        if mine.generation != Generation::BLANK && !follows(mine.generation) && !word {
            self.fail(|| {
                format!("split: {m} has {} and is overwritten by {} (V11)", mine.generation, theirs.generation)
            });
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
        self.client.left = count;
    }

    /// Whether the application has all answers.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.client.left == 0 && self.client.asked.is_empty()
    }

    /// Dice for who makes trouble.
    pub fn dice(&mut self) -> &mut Random {
        &mut self.dice
    }
}
