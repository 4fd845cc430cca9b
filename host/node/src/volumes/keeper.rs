//! Who looks after one volume: finds or starts its process, tells it what the core says, and asks it what people and kits
//! want.
//!
//! A process of an earlier daemon is taken over as it is. One that was told something else than the config says now goes on
//! with that while it is the source, because to stop it would take the application out of service; a target is started
//! again. What the core said last of the right to write is said again to every process that is met.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use mainstay_core::names::NodeName;
use mainstay_core::time::UnixMs;
use mainstay_core::volume::{FromVolume, Marked, Question, ToVolume};
use mainstay_runtime::{VolumeAttachment, VolumeCopy, VolumeMirror, VolumeRole, VolumeStatus, VolumeTrouble};
use mainstay_volume::control::wire::{Ask, Basis, Line, Reply, Said};
use mainstay_volume::files;
use mainstay_volume::view::{CopyView, LinkView, PromotionView, RoleView, StatusView};
use mainstay_volume_core::types::{Epoch, Generation, REGION_BYTES};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::place::Place;
use super::view::{AttachedView, ProcessView, ProgressView, VolumeView, time};
use super::{Order, VolumeExe, VolumeRequest, words};
use crate::clock::Clock;
use crate::happening::Happening;

/// A process that was started serves within this, also on a busy machine.
const START: Duration = Duration::from_secs(10);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(20);
/// After a failure it is tried again this often, for ever.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a process is asked how it is.
const STATUS: Duration = Duration::from_secs(1);
/// A process that has not said how it is for so long hangs.
const SILENT: Duration = Duration::from_secs(10);
/// Of what the process says a log of this size is kept, in bytes, and the one before.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// The rate of a resync is taken over so long.
const RATE_OVER: Duration = Duration::from_secs(15);
/// How long a promotion waits for contact with the other copy, where that is what is missing: two machines that start
/// together meet within it.
const CONTACT: Duration = Duration::from_secs(15);
/// Between two looks whether there is contact.
const CONTACT_LOOK: Duration = Duration::from_millis(200);
/// An operator's word for a promotion counts so long: until the restore that it was said for.
const ALLOWED_FOR: Duration = Duration::from_secs(600);

/// What is known of a volume, shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<Mutex<Option<Known>>>);

#[derive(Clone, Debug)]
struct Known {
    place: Place,
    process: ProcessView,
    status: Option<(Instant, StatusView)>,
    /// How much of a resync was done, when.
    done: VecDeque<(Instant, u32)>,
    note: Option<String>,
}

impl Shown {
    fn change(&self, change: impl FnOnce(&mut Known)) {
        if let Some(known) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            change(known);
        }
    }

    fn known(&self) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For people.
    pub(super) fn view(&self, attached: Option<AttachedView>) -> Option<VolumeView> {
        let known = self.known()?;
        let progress = known.progress();
        Some(VolumeView {
            name: known.place.name,
            hierarchy: known.place.hierarchy,
            node: known.place.me,
            peer: known.place.peer,
            backing: known.place.backing.display().to_string(),
            process: known.process,
            status: known.status.map(|(_, status)| status),
            attached,
            progress,
            notes: known.note.into_iter().collect(),
        })
    }

    /// For kits.
    pub(super) fn for_kits(&self, attachment: Option<VolumeAttachment>) -> Result<VolumeStatus, VolumeTrouble> {
        let unavailable = |what: &str| Err(VolumeTrouble::Unavailable(what.to_owned()));
        let Some(known) = self.known() else { return unavailable("the daemon has just started") };
        let status = match (&known.process, &known.status) {
            (ProcessView::Serves { .. }, Some((at, status))) if at.elapsed() < SILENT => status,
            (ProcessView::Serves { .. }, Some(_)) => return unavailable("the process of the volume does not answer"),
            (ProcessView::Serves { .. } | ProcessView::Starting, _) => {
                return unavailable("the process of the volume is just being started");
            }
            (ProcessView::NotCreated, _) => return unavailable(&not_created(&known.place)),
            (ProcessView::Fails { why }, _) => return unavailable(why),
        };
        Ok(VolumeStatus {
            role: match status.role {
                RoleView::Source => VolumeRole::Source,
                RoleView::Target => VolumeRole::Target,
            },
            copy: copy(status.copy),
            mirror: mirror(&status.link),
            alone: status.alone,
            attachment,
            size_bytes: status.size_bytes,
            dirty_bytes: status.differing_bytes(),
            resync_percent: if let LinkView::Resync { percent, .. } = status.link { Some(percent) } else { None },
            summary: summary(status, &known.place),
            details: Vec::new(),
        })
    }
}

impl Known {
    fn took(&mut self, status: StatusView) {
        let now = Instant::now();
        if let LinkView::Resync { done_regions, .. } = status.link {
            if self.done.back().is_some_and(|(_, done)| *done > done_regions) {
                self.done.clear();
            }
            self.done.push_back((now, done_regions));
            while self.done.len() > 2 && self.done.front().is_some_and(|(at, _)| now - *at > RATE_OVER) {
                self.done.pop_front();
            }
        } else {
            self.done.clear();
        }
        self.status = Some((now, status));
    }

    fn progress(&self) -> Option<ProgressView> {
        let (_, status) = self.status.as_ref()?;
        let LinkView::Resync { done_regions, of_regions, percent } = status.link else { return None };
        if of_regions == 0 {
            // Everything is copied, and both copies are just making that durable.
            return None;
        }
        let bytes = |regions: u32| u64::from(regions) * REGION_BYTES;
        let (first, last) = (self.done.front()?, self.done.back()?);
        let ms = u64::try_from((last.0 - first.0).as_millis()).unwrap_or(u64::MAX);
        let rate = (ms > 0).then(|| bytes(last.1 - first.1).saturating_mul(1000) / ms);
        let left = bytes(of_regions.saturating_sub(done_regions));
        Some(ProgressView {
            percent,
            done_bytes: bytes(done_regions),
            of_bytes: bytes(of_regions),
            bytes_per_s: rate,
            left_s: rate.and_then(|rate| left.checked_div(rate)),
        })
    }
}

fn copy(copy: CopyView) -> VolumeCopy {
    match copy {
        CopyView::UpToDate => VolumeCopy::UpToDate,
        CopyView::LastKnownGood => VolumeCopy::LastKnownGood,
        CopyView::Outdated => VolumeCopy::Outdated,
        CopyView::Inconsistent => VolumeCopy::Inconsistent,
        CopyView::Failed => VolumeCopy::Failed,
    }
}

fn mirror(link: &LinkView) -> VolumeMirror {
    match link {
        LinkView::Broken => VolumeMirror::Broken,
        LinkView::Greeting => VolumeMirror::Greeting,
        LinkView::Idle => VolumeMirror::Idle,
        LinkView::Connected => VolumeMirror::Connected,
        LinkView::Resync { .. } => VolumeMirror::Resync,
        LinkView::Paused => VolumeMirror::Paused,
        LinkView::SplitBrain(_) => VolumeMirror::SplitBrain,
        LinkView::Refused(_) => VolumeMirror::Refused,
    }
}

/// A sentence for people.
fn summary(status: &StatusView, place: &Place) -> String {
    let peer = &place.peer;
    let link = match &status.link {
        LinkView::Connected => format!("mirrored to {peer}"),
        LinkView::Resync { percent, .. } if status.role == RoleView::Source => {
            format!("{peer} is brought up to date, {percent} %")
        }
        LinkView::Resync { percent, .. } => format!("brought up to date from {peer}, {percent} %"),
        LinkView::Idle => format!("in contact with {peer}, and neither is the source"),
        LinkView::Greeting => format!("getting together with {peer}"),
        LinkView::Broken if status.alone => format!("goes on alone: no contact with {peer}"),
        LinkView::Broken => format!("no contact with {peer}"),
        LinkView::Paused => "the mirror is paused by an operator".to_owned(),
        LinkView::SplitBrain(what) => format!("split brain with {peer}: {what}"),
        LinkView::Refused(why) => format!("{peer} is refused: {why}"),
    };
    let backing = status.server.backing_failure.as_ref().map_or(String::new(), |why| format!("; {why}"));
    format!("{}, {}; {link}{backing}", status.role, status.copy)
}

fn not_created(place: &Place) -> String {
    format!(
        "there is no copy of volume {name} at {} yet: mainstay volume create {name} (--first on the node that has its data)",
        place.backing.display(),
        name = place.name
    )
}

/// What an answer of the process is for.
#[derive(Debug)]
enum Pending {
    Status,
    Ignored(&'static str),
    /// How the copy is, on which a promotion may rest.
    BeforePromote(Promotion),
    Promote(oneshot::Sender<Result<(), VolumeTrouble>>),
    /// It was not promoted, for this reason; answered when it is known how it is after it.
    Refused(oneshot::Sender<Result<(), VolumeTrouble>>, String),
    Demote(oneshot::Sender<Result<(), VolumeTrouble>>),
    /// It is answered when it is known how it is after it.
    After(oneshot::Sender<Result<(), VolumeTrouble>>),
    Request(oneshot::Sender<Result<String, String>>, &'static str),
    Mark(NodeName, Question),
}

/// A promotion that may have to wait for contact.
#[derive(Debug)]
struct Promotion {
    reply: oneshot::Sender<Result<(), VolumeTrouble>>,
    until: Instant,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Keeper {
    place: Place,
    exe: VolumeExe,
    clock: Clock,
    shown: Shown,
    happenings: mpsc::Sender<Happening>,
    /// What the core said last of the right to write.
    right: Option<ToVolume>,
    /// An operator lets the next promotion rest on this.
    allowed: Option<(Instant, Basis)>,
    /// Numbers processes: an answer to a question of an earlier one is none.
    session: u32,
}

/// What comes in while there is no process.
type Orders = mpsc::Receiver<Order>;
type Tells = mpsc::UnboundedReceiver<ToVolume>;

impl Keeper {
    pub(super) fn new(
        place: Place,
        exe: VolumeExe,
        clock: Clock,
        shown: Shown,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        let known = Known {
            place: place.clone(),
            process: ProcessView::Starting,
            status: None,
            done: VecDeque::new(),
            note: None,
        };
        *shown.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Self { place, exe, clock, shown, happenings, right: None, allowed: None, session: 0 }
    }

    /// Until the daemon ends.
    pub(super) async fn run(mut self, mut orders: Orders, mut tells: Tells) {
        let mut told = String::new();
        loop {
            let stream = match self.process().await {
                Ok(Some(stream)) => stream,
                Ok(None) => {
                    self.show(ProcessView::NotCreated);
                    if !self.without_process(&mut orders, &mut tells, &not_created(&self.place.clone())).await {
                        return;
                    }
                    continue;
                }
                Err(error) => {
                    let why = format!("the process of volume {} does not serve: {error:#}", self.place.name);
                    if told != why {
                        tracing::error!("{why}");
                        told.clone_from(&why);
                    }
                    self.show(ProcessView::Fails { why: why.clone() });
                    if !self.without_process(&mut orders, &mut tells, &why).await {
                        return;
                    }
                    continue;
                }
            };
            told.clear();
            self.session = self.session.wrapping_add(1);
            let mut session = Session::new(stream);
            match session.run(&mut self, &mut orders, &mut tells).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!("the process of volume {} is gone: {error}; it is started again", self.place.name);
                    self.show(ProcessView::Starting);
                }
            }
        }
    }

    fn show(&self, process: ProcessView) {
        self.shown.change(|known| {
            if !matches!(process, ProcessView::Serves { .. }) {
                known.status = None;
                known.done.clear();
            }
            known.process = process;
        });
    }

    /// Answers for a while; false: the daemon ends.
    async fn without_process(&mut self, orders: &mut Orders, tells: &mut Tells, why: &str) -> bool {
        let until = Instant::now() + AGAIN;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                told = tells.recv() => match told {
                    None => return false,
                    Some(right @ (ToVolume::Right { .. } | ToVolume::RightEnded)) => self.right = Some(right),
                    Some(ToVolume::MarkOutdated { peer, question, .. }) => {
                        self.say(FromVolume::Marked { peer, question, outcome: Marked::Unreachable }).await;
                    }
                    Some(ToVolume::Marked { .. }) => {}
                },
                order = orders.recv() => match order {
                    None => return false,
                    Some(Order::Promote(reply)) => {
                        let _ = reply.send(Err(VolumeTrouble::Unavailable(why.to_owned())));
                    }
                    // What does not run is no source, and one that is started begins as a target.
                    Some(Order::Demote(reply)) => drop(reply.send(Ok(()))),
                    Some(Order::Request(request @ VolumeRequest::Create { .. }, reply)) => {
                        let _ = reply.send(self.create(request).await);
                        return true;
                    }
                    Some(Order::Request(VolumeRequest::Allow { force }, reply)) => {
                        let _ = reply.send(Ok(self.allow(force)));
                    }
                    Some(Order::Request(_, reply)) => {
                        let _ = reply.send(Err(why.to_owned()));
                    }
                },
            }
        }
    }

    async fn say(&self, said: FromVolume) {
        // Without a driver the daemon ends.
        let _ = self.happenings.send(Happening::Volume(self.place.name.clone(), said)).await;
    }

    fn allow(&mut self, force: bool) -> String {
        let basis = if force { Basis::Force } else { Basis::Confirmed };
        self.allowed = Some((Instant::now(), basis));
        tracing::warn!(
            target: "mainstay::audit",
            "an operator lets this node's copy of volume {} be promoted {}",
            self.place.name,
            if force { "by force" } else { "on his word" }
        );
        format!("the next restore may promote this node's copy of {}", self.place.name)
    }

    async fn create(&self, request: VolumeRequest) -> Result<String, String> {
        let VolumeRequest::Create { first, overwrite, size_bytes } = request else {
            return Err("this is no request to create a copy".to_owned());
        };
        let place = self.place.clone();
        let now = self.clock.now().unix;
        let made = tokio::task::spawn_blocking(move || {
            if !first && !overwrite && !files::is_empty(&place.backing)? {
                return Err(files::FilesError::NotEmpty { path: place.backing });
            }
            files::create(&place.backing, &place.log, (place.id, place.side), first, size_bytes, now)
        });
        match made.await {
            Ok(Ok(bytes)) => Ok(format!(
                "{} has a copy of volume {} now: {bytes} bytes at {}{}",
                self.place.me,
                self.place.name,
                self.place.backing.display(),
                if first { ", the data of the volume" } else { "; it is filled from the other copy" }
            )),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    // The process.

    /// The process, found or started; none: there is no copy to serve.
    async fn process(&self) -> anyhow::Result<Option<UnixStream>> {
        let control = self.place.control();
        if let Ok(stream) = UnixStream::connect(&control).await {
            if fs::read_to_string(self.place.config_file()).is_ok_and(|config| config == self.place.config) {
                self.shown.change(|known| known.note = None);
                return Ok(Some(stream));
            }
            let Some(stream) = self.replace(stream).await? else { return self.start().await };
            return Ok(Some(stream));
        }
        self.start().await
    }

    /// A process that was told something else; none: it has ended.
    async fn replace(&self, stream: UnixStream) -> anyhow::Result<Option<UnixStream>> {
        let status = ask_once(&self.place.control(), Ask::Status).await?;
        let Reply::Status(status) = status else { bail!("it does not say how it is") };
        if status.role == RoleView::Source {
            let note = "its config was changed, and takes effect when this node's copy is not the source any more";
            tracing::warn!("volume {}: {note}", self.place.name);
            self.shown.change(|known| known.note = Some(note.to_owned()));
            return Ok(Some(stream));
        }
        drop(stream);
        tracing::info!("volume {}: its config was changed, so its process is started again", self.place.name);
        ask_once(&self.place.control(), Ask::Stop).await?;
        let until = Instant::now() + START;
        while UnixStream::connect(self.place.control()).await.is_ok() {
            if Instant::now() >= until {
                bail!("it was to end, and does not");
            }
            sleep(LOOK).await;
        }
        Ok(None)
    }

    async fn start(&self) -> anyhow::Result<Option<UnixStream>> {
        let backing = self.place.backing.clone();
        if !tokio::task::spawn_blocking(move || files::is_made(&backing)).await?? {
            return Ok(None);
        }
        let config = self.place.config_file();
        let new = config.with_extension("new");
        fs::write(&new, &self.place.config)
            .and_then(|()| fs::rename(&new, &config))
            .with_context(|| format!("{} cannot be written", config.display()))?;
        let log = self.place.dir.join("process.log");
        let mut child = spawn(&self.exe, &config, &log).with_context(|| format!("{:?}", self.exe))?;
        tracing::info!("volume {}: its process {} is started", self.place.name, child.id());
        let until = Instant::now() + START;
        let met = loop {
            if let Ok(stream) = UnixStream::connect(self.place.control()).await {
                break Ok(Some(stream));
            }
            if let Some(status) = child.try_wait()? {
                break Err(anyhow::anyhow!("{}; see {}", last_words(&log, status), log.display()));
            }
            if Instant::now() >= until {
                break Err(anyhow::anyhow!("it does not serve within {} s; see {}", START.as_secs(), log.display()));
            }
            sleep(LOOK).await;
        };
        // It is this process's child for as long as this daemon lives.
        std::thread::Builder::new().name("volume".into()).spawn(move || child.wait())?;
        met
    }
}

fn spawn(exe: &VolumeExe, config: &Path, log: &Path) -> io::Result<std::process::Child> {
    if fs::metadata(log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        fs::rename(log, log.with_extension("log.1"))?;
    }
    let out = OpenOptions::new().create(true).append(true).open(log)?;
    let mut command = std::process::Command::new(&exe.0);
    command.args(["volume", "serve"]).arg(config).current_dir("/").stdin(Stdio::null());
    // Signals to the group of the daemon do not reach it.
    command.stdout(out.try_clone()?).stderr(out).process_group(0);
    command.spawn()
}

/// What a process that has ended said last.
fn last_words(log: &Path, status: std::process::ExitStatus) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    match text.lines().last() {
        Some(line) => format!("{line} ({status})"),
        None => status.to_string(),
    }
}

/// One question over a connection of its own.
async fn ask_once(control: &Path, ask: Ask) -> anyhow::Result<Reply> {
    let asked = async {
        let (read, mut write) = UnixStream::connect(control).await?.into_split();
        write.write_all(&line(1, ask)?).await?;
        let mut lines = BufReader::new(read).lines();
        while let Some(line) = lines.next_line().await? {
            if let Said::Reply { id: 1, reply } = serde_json::from_str(&line)? {
                return Ok(reply);
            }
        }
        bail!("it has ended")
    };
    timeout(START, asked).await.context("it does not answer")?
}

fn line(id: u64, ask: Ask) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line { id, ask })?;
    line.push(b'\n');
    Ok(line)
}

/// A connection to the process.
struct Session {
    pid: i32,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    pending: BTreeMap<u64, Pending>,
    next: u64,
    /// The newest claim that the label knows, as the core was told.
    known: Option<Epoch>,
    heard: Instant,
    /// What waits for contact with the other copy.
    waiting: Vec<Promotion>,
}

impl Session {
    fn new(stream: UnixStream) -> Self {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or_default();
        let (read, write) = stream.into_split();
        let lines = BufReader::new(read).lines();
        Self {
            pid,
            lines,
            write,
            pending: BTreeMap::new(),
            next: 0,
            known: None,
            heard: Instant::now(),
            waiting: Vec::new(),
        }
    }

    /// Until the process is gone, which is an error, or the daemon ends.
    async fn run(&mut self, keeper: &mut Keeper, orders: &mut Orders, tells: &mut Tells) -> anyhow::Result<()> {
        keeper.show(ProcessView::Serves { pid: self.pid });
        self.ask(Ask::Follow, Pending::Ignored("follow")).await?;
        if let Some(right) = keeper.right.clone() {
            self.tell(keeper, right).await?;
        }
        let mut look = tokio::time::interval(STATUS);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                told = tells.recv() => match told {
                    None => return Ok(()),
                    Some(told) => self.tell(keeper, told).await?,
                },
                line = self.lines.next_line() => match line? {
                    None => bail!("it has ended"),
                    Some(line) => self.said(keeper, &line).await?,
                },
                order = orders.recv() => match order {
                    None => return Ok(()),
                    Some(order) => self.order(keeper, order).await?,
                },
                () = sleep(CONTACT_LOOK), if !self.waiting.is_empty() => {
                    for promotion in std::mem::take(&mut self.waiting) {
                        self.ask(Ask::Status, Pending::BeforePromote(promotion)).await?;
                    }
                }
                _ = look.tick() => {
                    if self.heard.elapsed() > SILENT {
                        bail!("it has not answered for {} s", SILENT.as_secs());
                    }
                    if !self.pending.values().any(|pending| matches!(pending, Pending::Status)) {
                        self.ask(Ask::Status, Pending::Status).await?;
                    }
                }
            }
        }
    }

    async fn ask(&mut self, ask: Ask, pending: Pending) -> anyhow::Result<()> {
        self.next += 1;
        self.pending.insert(self.next, pending);
        timeout(SILENT, self.write.write_all(&line(self.next, ask)?)).await.context("it takes nothing")??;
        Ok(())
    }

    /// The core says something.
    async fn tell(&mut self, keeper: &mut Keeper, told: ToVolume) -> anyhow::Result<()> {
        match told {
            ToVolume::Right { ref claim, entered, until, .. } => {
                let epoch = words::epoch(&keeper.place, claim);
                let until_boot_ms =
                    until.map(|until| u64::try_from(keeper.clock.since_boot(until).as_millis()).unwrap_or(u64::MAX));
                keeper.right = Some(told);
                if let Some(epoch) = epoch {
                    self.ask(Ask::Right { epoch, entered, until_boot_ms }, Pending::Ignored("right")).await?;
                }
            }
            ToVolume::RightEnded => {
                keeper.right = Some(told);
                self.ask(Ask::RightEnded, Pending::Ignored("right-ended")).await?;
            }
            ToVolume::MarkOutdated { peer, question, claim, generation } => {
                let epoch = words::epoch(&keeper.place, &claim);
                match (epoch, serde_json::from_str::<Generation>(&generation)) {
                    (Some(epoch), Ok(generation)) => {
                        self.ask(Ask::MarkOutdated { epoch, generation }, Pending::Mark(peer, question)).await?;
                    }
                    (None, _) | (_, Err(_)) => {
                        tracing::warn!("volume {}: {peer} asks for a mark that makes no sense", keeper.place.name);
                        keeper.say(FromVolume::Marked { peer, question, outcome: Marked::Unreachable }).await;
                    }
                }
            }
            ToVolume::Marked { number, outcome } => {
                let ours = number >> 32 == u64::from(keeper.session);
                if let Some(outcome) = words::outcome(&keeper.place, &outcome).filter(|_| ours) {
                    let question = number & u64::from(u32::MAX);
                    self.ask(Ask::Marked { question, outcome }, Pending::Ignored("marked")).await?;
                }
            }
        }
        Ok(())
    }

    /// The process says something.
    async fn said(&mut self, keeper: &mut Keeper, text: &str) -> anyhow::Result<()> {
        self.heard = Instant::now();
        let said: Said = serde_json::from_str(text).with_context(|| format!("it says what makes no sense: {text}"))?;
        let number = |question: u64| u64::from(keeper.session) << 32 | (question & u64::from(u32::MAX));
        match said {
            Said::Reply { id, reply } => {
                if let Some(pending) = self.pending.remove(&id) {
                    self.answered(keeper, pending, reply).await?;
                }
            }
            Said::Event { event } => tracing::info!("volume {}: {event}", keeper.place.name),
            Said::MarkPeer { mark_peer: asked } => {
                let claim = words::claim(&keeper.place, asked.epoch);
                let generation = serde_json::to_string(&asked.generation)?;
                keeper.say(FromVolume::MarkPeer { number: number(asked.question), claim, generation }).await;
            }
            Said::MarkArbiter { mark_arbiter: asked } => {
                let claim = words::claim(&keeper.place, asked.epoch);
                let outdated = asked.outdated.unwrap_or(true);
                keeper.say(FromVolume::MarkArbiter { number: number(asked.question), claim, outdated }).await;
            }
        }
        Ok(())
    }

    async fn answered(&mut self, keeper: &mut Keeper, pending: Pending, reply: Reply) -> anyhow::Result<()> {
        if let Reply::Status(status) = &reply {
            keeper.shown.change(|known| known.took((**status).clone()));
            if self.known != Some(status.epoch) {
                self.known = Some(status.epoch);
                keeper.say(FromVolume::Knows(words::claim(&keeper.place, status.epoch))).await;
            }
        }
        match (pending, reply) {
            (Pending::Status, _) | (Pending::Ignored(_), Reply::Done | Reply::Status(_) | Reply::Marked(_)) => {}
            (Pending::Ignored(what), Reply::Error(error)) => {
                tracing::warn!("volume {}: {what}: {error}", keeper.place.name);
            }
            (Pending::BeforePromote(promotion), Reply::Status(status)) => {
                let Some(ToVolume::Right { basis, .. }) = &keeper.right else {
                    let _ = promotion.reply.send(Err(no_right(keeper)));
                    return Ok(());
                };
                let allowed = keeper.allowed.filter(|(at, _)| at.elapsed() < ALLOWED_FOR).map(|(_, allowed)| allowed);
                let basis = words::allowed(words::basis(basis, status.copy_since_ms.map(UnixMs)), allowed);
                let lacks_contact = matches!(status.promotion, PromotionView::Confirm { .. })
                    && matches!(basis, Basis::Free | Basis::Automatic { together: false })
                    && matches!(status.link, LinkView::Broken | LinkView::Greeting);
                if lacks_contact && Instant::now() < promotion.until {
                    self.waiting.push(promotion);
                } else {
                    self.ask(Ask::Promote(basis), Pending::Promote(promotion.reply)).await?;
                }
            }
            (Pending::Promote(reply), Reply::Error(error)) => {
                // What it would take may be otherwise than before: it has learnt of the arbiter's mark.
                self.ask(Ask::Status, Pending::Refused(reply, error)).await?;
            }
            (Pending::Refused(reply, error), _) => {
                let status = keeper.shown.known().and_then(|known| known.status).map(|(_, status)| status);
                let _ = reply.send(Err(not_promotable(keeper, status.as_ref(), &error)));
            }
            (Pending::Promote(reply), _) => {
                keeper.allowed = None;
                self.ask(Ask::Status, Pending::After(reply)).await?;
            }
            (Pending::Demote(reply), Reply::Error(error)) => drop(reply.send(Err(VolumeTrouble::Failed(error)))),
            (Pending::Demote(reply), _) => self.ask(Ask::Status, Pending::After(reply)).await?,
            (Pending::After(reply), _) => drop(reply.send(Ok(()))),
            (Pending::BeforePromote(promotion), _) => {
                drop(promotion.reply.send(Err(VolumeTrouble::Failed("it does not say how it is".to_owned()))));
            }
            (Pending::Request(reply, _), Reply::Error(error)) => drop(reply.send(Err(error))),
            (Pending::Request(reply, done), _) => drop(reply.send(Ok(done.to_owned()))),
            (Pending::Mark(peer, question), answer) => {
                let outcome = match answer {
                    Reply::Marked(outcome) => words::marked(&keeper.place, outcome),
                    Reply::Done | Reply::Error(_) | Reply::Status(_) => Marked::Unreachable,
                };
                keeper.say(FromVolume::Marked { peer, question, outcome }).await;
            }
        }
        Ok(())
    }

    async fn order(&mut self, keeper: &mut Keeper, order: Order) -> anyhow::Result<()> {
        let (request, reply) = match order {
            Order::Promote(reply) if !matches!(keeper.right, Some(ToVolume::Right { .. })) => {
                drop(reply.send(Err(no_right(keeper))));
                return Ok(());
            }
            Order::Promote(reply) => {
                let promotion = Promotion { reply, until: Instant::now() + CONTACT };
                return self.ask(Ask::Status, Pending::BeforePromote(promotion)).await;
            }
            Order::Demote(reply) => return self.ask(Ask::Demote, Pending::Demote(reply)).await,
            Order::Request(request, reply) => (request, reply),
        };
        let (ask, done) = match request {
            VolumeRequest::Create { .. } => {
                drop(reply.send(Err(format!("there is a copy at {} already", keeper.place.backing.display()))));
                return Ok(());
            }
            VolumeRequest::Allow { force } => {
                drop(reply.send(Ok(keeper.allow(force))));
                return Ok(());
            }
            VolumeRequest::Pause => (Ask::Pause, "the mirror is paused; it stays so until: mainstay volume resume"),
            VolumeRequest::Resume => (Ask::Resume, "the mirror is taken up again"),
            VolumeRequest::Verify => (Ask::Verify, "both copies are being compared: see mainstay volume status"),
            VolumeRequest::Invalidate => {
                (Ask::Invalidate, "this node's copy is not believed any more, and is copied again as a whole")
            }
            VolumeRequest::Resolve(node) => match keeper.place.side_of(&node) {
                Some(side) => (Ask::Resolve(side), "the survivor is named; the other copy is made like it"),
                None => {
                    let (me, peer) = (&keeper.place.me, &keeper.place.peer);
                    drop(reply.send(Err(format!("the copies are on {me} and {peer}, not on {node}"))));
                    return Ok(());
                }
            },
        };
        self.ask(ask, Pending::Request(reply, done)).await
    }
}

fn no_right(keeper: &Keeper) -> VolumeTrouble {
    VolumeTrouble::NoRight(format!(
        "{} has no right to write to volume {}: {} is not its own, or that is not certain",
        keeper.place.me, keeper.place.name, keeper.place.hierarchy
    ))
}

fn not_promotable(keeper: &Keeper, status: Option<&StatusView>, error: &str) -> VolumeTrouble {
    let name = &keeper.place.name;
    match status.map(|status| &status.promotion) {
        Some(PromotionView::Confirm { since_ms }) => VolumeTrouble::NotPromotable(format!(
            "{error}. The other copy was last heard at {}; if what it may have acknowledged since may be lost: mainstay volume promote {name}",
            time(*since_ms)
        )),
        Some(PromotionView::Force(lost)) => VolumeTrouble::NotPromotable(format!(
            "{error}. May be lost: {lost}. If it may: mainstay volume promote {name} --force"
        )),
        Some(PromotionView::Never(why)) => VolumeTrouble::Failed(format!("{error}: {why}")),
        Some(PromotionView::Free) | None => VolumeTrouble::Failed(error.to_owned()),
    }
}
