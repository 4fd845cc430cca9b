//! Rules on one copy alone, with a peer that says what the test says. What follows from rules together is held by
//! `tests/sim`.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks for one thing among all that comes out")]

mod disk;

use std::string::ToString as _;
use std::vec;
use std::vec::Vec;

use mainstay_core::time::{Millis, Monotonic, Now, UnixMs};

use super::*;
use crate::io::{Basis, ConnectionId, Marked, Mode, OperatorRequest, ReceivedId, Refusal, RequestId, RequestKind};
use crate::label::LABEL_BYTES;
use crate::log::log_bytes;
use crate::message::{Identity, Sent, VERSION};
use crate::status::{CopyState, LinkState, Progress, Promotion, Unread};
use crate::types::{Epoch, Extent, Generation};

const SIZE: u64 = 8 * REGION_BYTES;

/// A copy, whose disks are done at once unless they are held, and what came out of it.
struct Rig {
    volume: Volume,
    now: u64,
    out: Vec<Output>,
    /// Writes of label and log, and disk operations, are not done.
    holds: bool,
    /// Its disk gives an error when this region is read.
    unreadable: Option<Region>,
}

fn config() -> Config {
    Config { hot_regions_max: 4, ..Config::new(VolumeId(1), Side::A, SIZE) }
}

fn put(bytes: &mut [u8], block: &Block) {
    let at = usize::try_from(block.offset).unwrap();
    bytes[at..at + block.bytes.len()].copy_from_slice(&block.bytes);
}

fn disks(first: bool) -> (Vec<u8>, Vec<u8>) {
    let (label, log) = create(VolumeId(1), Side::A, SIZE, first, UnixMs(5)).unwrap();
    let mut disks = (vec![0; LABEL_BYTES], vec![0; usize::try_from(log_bytes(SIZE)).unwrap()]);
    label.iter().for_each(|block| put(&mut disks.0, block));
    log.iter().for_each(|block| put(&mut disks.1, block));
    disks
}

impl Rig {
    fn new(config: Config, first: bool) -> Self {
        let (label, log) = disks(first);
        let now = Now { monotonic: Monotonic(0), unix: UnixMs(1_000) };
        let volume = Volume::open(config, &label, &log, now).unwrap();
        let mut rig = Self { volume, now: 0, out: Vec::new(), holds: false, unreadable: None };
        rig.run();
        rig
    }

    /// Is to be promoted on the operator's word; the answer may come later.
    fn confirm(&mut self) {
        let request = OperatorRequest::Promote(Basis::Confirmed);
        self.input(Input::Operator { id: crate::io::OperatorId(1), request });
    }

    /// A source that mirrors; all is copied, and both have flushed.
    fn mirroring(config: Config) -> Self {
        let mut rig = Self::new(config, true);
        rig.copy_all();
        rig.says(Message::UpToDate);
        assert_eq!(rig.volume.status().link, LinkState::Connected);
        rig
    }

    /// It becomes the source of an empty target, and copies what it can.
    fn copy_all(&mut self) {
        self.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
        self.link(1);
        self.hello(&peer(2, Generation::BLANK));
        self.operator(OperatorRequest::Promote(Basis::Free)).unwrap();
        let ready = Message::Ready(Box::new(Identity { epoch: epoch(3), ..peer(2, Generation::BLANK) }));
        self.says(ready);
        self.says(Message::Behind);
        self.answer_all();
    }

    /// The same, and the first region is hot.
    fn hot(config: Config) -> Self {
        let mut rig = Self::mirroring(config);
        rig.write(99, 0, false);
        rig.answer_all();
        rig.holds = true;
        rig.out.clear();
        rig
    }

    fn handle(&mut self, input: Input) {
        let now = Now { monotonic: Monotonic(self.now), unix: UnixMs(1_000 + self.now) };
        self.volume.handle(input, now);
    }

    fn input(&mut self, input: Input) {
        self.handle(input);
        self.run();
    }

    /// All disks are done with what they are at, unless they are held.
    fn run(&mut self) {
        while let Some(output) = self.volume.poll_output() {
            if !self.holds {
                self.done(&output);
            }
            self.out.push(output);
        }
    }

    fn done(&mut self, output: &Output) {
        match output {
            Output::WriteLabel { id, .. } | Output::WriteLog { id, .. } => {
                self.handle(Input::Written { id: *id, result: Ok(()) });
            }
            Output::Disk { id, op } => {
                let unreadable = self.unreadable.map(Region::offset);
                let result = match op {
                    DiskOp::Read(extent) | DiskOp::Checksum(extent) if Some(extent.offset) == unreadable => {
                        Err(DiskError::Errno(5))
                    }
                    DiskOp::Read(_) => Ok(DiskDone::Read { checksum: 7, zero: false }),
                    DiskOp::Checksum(_) => Ok(DiskDone::Checksum(7)),
                    _ => Ok(DiskDone::Done),
                };
                self.handle(Input::Disk { id: *id, result });
            }
            _ => {}
        }
    }

    fn at(&mut self, ms: u64) {
        self.now = ms;
        self.input(Input::Tick);
    }

    fn link(&mut self, link: u64) {
        self.input(Input::LinkUp(LinkId(link)));
    }

    fn says(&mut self, message: Message) {
        let link = self.volume.session.link.unwrap();
        self.input(Input::Received { link, message, data: None });
    }

    fn hello(&mut self, peer: &Identity) {
        self.says(Message::Hello(Box::new(peer.clone())));
    }

    fn operator(&mut self, request: OperatorRequest) -> Result<(), Refusal> {
        self.out.clear();
        let id = crate::io::OperatorId(9);
        self.input(Input::Operator { id, request });
        let answers = self.out.iter().find_map(|output| match output {
            Output::Answer { result, .. } => Some(result.clone()),
            _ => None,
        });
        answers.unwrap()
    }

    fn request(&mut self, id: u64, kind: RequestKind) {
        self.input(Input::Request { id: RequestId(id), connection: ConnectionId(1), kind });
    }

    fn write(&mut self, id: u64, offset: u64, fua: bool) {
        self.request(id, RequestKind::Write { extent: at(offset), fua });
    }

    fn replies(&self) -> Vec<(u64, Result<(), RequestError>)> {
        self.out
            .iter()
            .filter_map(|output| match output {
                Output::Reply { id, result } => Some((id.0, *result)),
                _ => None,
            })
            .collect()
    }

    fn sent(&self) -> Vec<&Message> {
        self.out
            .iter()
            .filter_map(|output| match output {
                Output::Send { message, .. } => Some(message),
                _ => None,
            })
            .collect()
    }

    /// The peer answers everything it was sent.
    fn answer_all(&mut self) {
        loop {
            let sent: Vec<Message> = self.sent().into_iter().cloned().collect();
            self.out.clear();
            for message in &sent {
                match message {
                    Message::Write { id, .. } | Message::Zero { id, .. } | Message::Flush { id, .. } => {
                        self.says(Message::Done { id: *id });
                    }
                    Message::Copy { region, .. } | Message::CopyZero { region } => {
                        self.says(Message::CopyDone { region: *region });
                    }
                    _ => {}
                }
            }
            if self.sent().is_empty() {
                return;
            }
        }
    }

    fn events(&self) -> Vec<&Event> {
        let events = self.out.iter().filter_map(|output| match output {
            Output::Report(event) => Some(&**event),
            _ => None,
        });
        events.collect()
    }

    /// What the disk was asked for and has not done.
    fn disk(&self) -> Vec<(DiskId, DiskOp)> {
        let ops = self.out.iter().filter_map(|output| match output {
            Output::Disk { id, op } => Some((*id, *op)),
            _ => None,
        });
        ops.collect()
    }
}

fn at(offset: u64) -> Extent {
    Extent { offset, length: 4096 }
}

fn epoch(counter: u64) -> Epoch {
    Epoch { counter, side: Side::A }
}

fn peer(counter: u64, generation: Generation) -> Identity {
    Identity {
        version: VERSION,
        volume: VolumeId(1),
        side: Side::B,
        size: SIZE,
        epoch: Epoch { counter, side: Side::B },
        source: false,
        state: if generation == Generation::BLANK { DurableState::Inconsistent } else { DurableState::Good },
        generation,
        history: Vec::new(),
        gives_up_for: None,
        dirty_regions: 0,
        paused: false,
    }
}

#[test]
fn v1_held_and_new_requests_get_an_error_when_the_permit_ends() {
    let mut rig = Rig::mirroring(config());
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: Some(Monotonic(500)) });
    rig.write(1, 0, false);
    assert_eq!(rig.replies(), [], "the peer has not answered");
    rig.at(500);
    rig.write(2, 0, false);
    assert_eq!(rig.replies(), [(1, Err(RequestError::NoRight)), (2, Err(RequestError::NoRight))]);
}

#[test]
fn v1_nothing_is_held_for_longer_than_the_stall_time() {
    let mut rig = Rig::mirroring(Config { arbiter: true, ..config() });
    rig.input(Input::LinkDown(LinkId(1)));
    rig.write(1, 0, false);
    for second in 1..20 {
        rig.at(second * 1_000);
    }
    assert_eq!(rig.replies(), [], "V3: with an arbiter that is not reached there is no third way");
    rig.at(20_000);
    assert_eq!(rig.replies(), [(1, Err(RequestError::Stalled))]);
}

#[test]
fn v2_a_target_refuses_who_does_not_have_the_newest_claim_it_knows() {
    let mut rig = Rig::new(config(), false);
    rig.link(1);
    let first = Generation { epoch: 0, side: Side::B, began: UnixMs(1) };
    rig.hello(&peer(7, first));
    rig.out.clear();
    rig.says(Message::Begin(Box::new(Identity { source: true, ..peer(6, first) })));
    assert_eq!(rig.sent(), [&Message::Superseded(Epoch { counter: 7, side: Side::B })]);
    rig.out.clear();
    rig.says(Message::Begin(Box::new(Identity { source: true, ..peer(7, first) })));
    assert!(matches!(rig.sent()[..], [Message::Bits(_), Message::Ready(_)]), "{:?}", rig.out);
}

#[test]
fn v2_a_promotion_is_durable_before_the_first_request_is_served() {
    let mut rig = Rig::new(config(), true);
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    rig.holds = true;
    rig.out.clear();
    rig.confirm();
    rig.request(1, RequestKind::Read(at(0)));
    assert_eq!(rig.replies(), [(1, Err(RequestError::NoRight))]);
    let label = |rig: &Rig| {
        rig.out.iter().find_map(|output| match output {
            Output::WriteLabel { id, .. } => Some(*id),
            _ => None,
        })
    };
    let [(flush, DiskOp::Flush)] = rig.disk()[..] else { panic!("what was told before is flushed: {:?}", rig.out) };
    assert_eq!(label(&rig), None);
    rig.input(Input::Disk { id: flush, result: Ok(DiskDone::Done) });
    let label = label(&rig).unwrap();
    rig.out.clear();
    rig.input(Input::Written { id: label, result: Ok(()) });
    rig.request(2, RequestKind::Read(at(0)));
    assert_eq!(rig.disk().len(), 1);
}

#[test]
fn v3_a_source_goes_on_alone_once_the_target_is_marked_and_the_generation_durable() {
    let mut rig = Rig::mirroring(Config { arbiter: true, ..config() });
    let before = rig.volume.status().generation;
    rig.input(Input::LinkDown(LinkId(1)));
    rig.write(1, 0, false);
    rig.out.clear();
    rig.at(2_000);
    let Some(Output::MarkPeer { token, .. }) = rig.out.first().cloned() else { panic!("{:?}", rig.out) };
    rig.out.clear();
    rig.input(Input::Marked { token, outcome: Marked::Unreachable });
    let Some(Output::MarkArbiter { token, outdated: true, .. }) = rig.out.first().cloned() else {
        panic!("{:?}", rig.out)
    };
    rig.holds = true;
    rig.input(Input::Marked { token, outcome: Marked::Done });
    assert_eq!(rig.replies(), [], "the generation is not durable");
    rig.holds = false;
    for output in core::mem::take(&mut rig.out) {
        rig.done(&output);
    }
    rig.run();
    assert_eq!(rig.replies(), [(1, Ok(()))]);
    assert!(rig.volume.status().alone && rig.volume.status().generation != before);
}

#[test]
fn v3_a_claim_that_is_superseded_never_goes_on_alone() {
    let mut rig = Rig::mirroring(config());
    rig.input(Input::LinkDown(LinkId(1)));
    rig.write(1, 0, false);
    rig.out.clear();
    rig.at(2_000);
    let Some(Output::MarkPeer { token, .. }) = rig.out.first().cloned() else { panic!("{:?}", rig.out) };
    let newer = Epoch { counter: 4, side: Side::B };
    rig.input(Input::Marked { token, outcome: Marked::Superseded(newer) });
    assert_eq!(rig.replies(), [(1, Err(RequestError::NoRight))]);
    assert_eq!(rig.volume.status().epoch, newer);
}

#[test]
fn v3_a_target_marks_itself_for_a_claim_that_is_not_older() {
    let mut rig = Rig::new(config(), true);
    let ask = |rig: &mut Rig, counter: u64| {
        rig.out.clear();
        let epoch = Epoch { counter, side: Side::B };
        rig.input(Input::AskedOutdated { token: crate::io::Token(5), epoch, generation: Generation::BLANK });
        let answer = rig.out.iter().find_map(|output| match output {
            Output::AnswerMark { outcome, .. } => Some(*outcome),
            _ => None,
        });
        answer.unwrap()
    };
    assert_eq!(ask(&mut rig, 6), Marked::Done);
    assert_eq!(rig.volume.status().copy, CopyState::Outdated);
    assert_eq!(ask(&mut rig, 5), Marked::Superseded(Epoch { counter: 6, side: Side::B }));
}

#[test]
fn v4_what_a_promotion_rests_on() {
    use crate::relation::may_promote;
    let since = CopyState::LastKnownGood { since: UnixMs(1) };
    let bases = [
        Basis::Free,
        Basis::Confirmed,
        Basis::Automatic { together: true },
        Basis::Automatic { together: false },
        Basis::Arbiter { marked: false },
        Basis::Arbiter { marked: true },
        Basis::Force,
    ];
    for (copy, wanted) in [
        (CopyState::UpToDate, [true; 7]),
        (since, [false, true, true, false, true, false, true]),
        (CopyState::Outdated, [false, false, false, false, false, false, true]),
        (CopyState::Inconsistent, [false, false, false, false, false, false, true]),
        (CopyState::Failed, [false; 7]),
    ] {
        assert_eq!(bases.map(|basis| may_promote(copy, basis).is_ok()), wanted, "V4: {copy}");
    }
}

/// The wall clock is set between the loss of the mirror link and the silence of the comm paths.
#[test]
fn v4_a_clock_that_is_set_makes_nothing_fall_silent_at_once() {
    let mut rig = Rig::new(config(), true);
    rig.link(1);
    rig.hello(&Identity { epoch: Epoch { counter: 2, side: Side::B }, ..peer(2, rig.volume.status().generation) });
    rig.input(Input::LinkDown(LinkId(1)));
    let now = Now { monotonic: Monotonic(60_000), unix: UnixMs(1_000) };
    rig.volume.handle(Input::Tick, now);
    let CopyState::LastKnownGood { since } = rig.volume.status().copy else { panic!("{:?}", rig.volume.status()) };
    assert_eq!(since, now.wall(Monotonic(0)), "a minute ago, whatever the clock showed then");
}

/// When an earlier process last heard the peer is known by the wall clock alone.
#[test]
fn v4_what_an_earlier_process_has_heard_is_not_compared_with() {
    let mut rig = Rig::new(config(), true);
    rig.volume.label.epoch = Epoch { counter: 2, side: Side::B };
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    let together = OperatorRequest::Promote(Basis::Automatic { together: true });
    assert!(matches!(rig.operator(together), Err(Refusal::Copy { .. })));
    rig.link(1);
    rig.hello(&Identity { epoch: Epoch { counter: 2, side: Side::B }, ..peer(2, rig.volume.status().generation) });
    rig.input(Input::LinkDown(LinkId(1)));
    assert_eq!(rig.operator(together), Ok(()));
}

/// That it is noticed later makes it no later: it is compared with when the comm paths were last heard, and shown.
#[test]
fn v4_contact_was_lost_when_the_peer_was_last_heard() {
    let mut rig = Rig::new(config(), true);
    rig.link(1);
    rig.hello(&peer(2, Generation::BLANK));
    rig.at(700);
    rig.says(Message::Ping);
    for ms in (1_000..=7_000).step_by(500) {
        rig.at(ms);
    }
    let status = rig.volume.status();
    assert_eq!(status.link, LinkState::Broken);
    assert_eq!(status.copy, CopyState::LastKnownGood { since: UnixMs(1_700) });
}

#[test]
fn v4_force_begins_a_generation_and_says_what_may_be_lost() {
    let mut rig = Rig::new(config(), false);
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    let Promotion::Force(lost) = rig.volume.status().promotion else { panic!() };
    assert!(lost.contains("created empty"), "{lost}");
    assert!(rig.operator(OperatorRequest::Promote(Basis::Confirmed)).is_err());
    rig.operator(OperatorRequest::Promote(Basis::Force)).unwrap();
    assert_eq!(rig.volume.status().generation.epoch, 3);
    assert!(
        rig.out.iter().any(|output| matches!(output, Output::Report(event) if matches!(**event, Event::Forced(_))))
    );
}

#[test]
fn v5_a_write_starts_when_its_bit_is_durable_and_a_hot_region_needs_no_log() {
    let mut rig = Rig::mirroring(config());
    rig.at(60_000);
    rig.answer_all();
    rig.at(61_000);
    assert_eq!(rig.volume.status().dirty_regions, 0, "what is cold is cleared");
    rig.holds = true;
    rig.out.clear();
    rig.write(1, 0, false);
    let [Output::WriteLog { id, .. }] = rig.out[..] else { panic!("{:?}", rig.out) };
    rig.input(Input::Written { id, result: Ok(()) });
    assert!(rig.disk().len() == 1 && matches!(rig.sent()[..], [Message::Write { .. }]));
    rig.out.clear();
    rig.write(2, 8192, false);
    assert!(matches!(rig.out[..], [Output::Disk { .. }, Output::Send { .. }]), "hot: {:?}", rig.out);
}

#[test]
fn v7_when_writes_are_answered() {
    let lag = Mode::Async { lag_bytes_max: 8192, lag_max: Millis(1_000) };
    for (mode, answered) in [(Mode::Sync, false), (lag, true)] {
        let mut rig = Rig::mirroring(Config { mode, ..config() });
        rig.out.clear();
        rig.write(1, 0, false);
        assert_eq!(!rig.replies().is_empty(), answered, "{mode:?}");
        rig.write(2, 4096, true);
        rig.write(3, 16384, true);
        assert_eq!(rig.replies().len(), if answered { 2 } else { 0 }, "V7: bounded: {mode:?}");
        rig.answer_all();
        rig.answer_all();
        assert_eq!(rig.volume.status().requests, 0, "{mode:?}");
    }
}

#[test]
fn v7_a_flush_waits_for_both() {
    let mut rig = Rig::mirroring(config());
    rig.out.clear();
    rig.holds = true;
    rig.request(1, RequestKind::Flush);
    let (id, _) = rig.disk()[0];
    let [Message::Flush { id: Sent(sent), .. }] = rig.sent()[..] else { panic!("{:?}", rig.out) };
    let sent = Sent(*sent);
    rig.says(Message::Done { id: sent });
    assert_eq!(rig.replies(), []);
    rig.input(Input::Disk { id, result: Ok(DiskDone::Done) });
    assert_eq!(rig.replies(), [(1, Ok(()))]);
}

#[test]
fn v8_what_overlaps_waits_and_zeroes_are_writes() {
    let mut rig = Rig::hot(config());
    rig.write(1, 0, false);
    rig.request(2, RequestKind::Zero { extent: at(2048), fua: false, unmap: true });
    rig.write(3, 8192, false);
    assert_eq!(rig.disk().len(), 2);
    let (id, _) = rig.disk()[0];
    rig.input(Input::Disk { id, result: Ok(DiskDone::Done) });
    assert!(matches!(rig.disk()[2], (_, DiskOp::Zero { .. })), "V9");
    assert!(matches!(rig.sent()[2], Message::Zero { .. }), "V9");
}

#[test]
fn v11_two_that_went_on_alone_are_not_overwritten_until_somebody_says_who_survives() {
    let mut rig = Rig::new(config(), true);
    rig.link(1);
    let theirs = Generation { epoch: 9, side: Side::B, began: UnixMs(77) };
    rig.hello(&Identity { dirty_regions: 3, ..peer(9, theirs) });
    let LinkState::SplitBrain(split) = rig.volume.status().link else { panic!("{:?}", rig.out) };
    assert_eq!((split.my_regions, split.their_regions, split.theirs), (8, 3, theirs));
    rig.operator(OperatorRequest::Resolve(Side::B)).unwrap();
    rig.link(2);
    rig.hello(&Identity { source: true, ..peer(9, theirs) });
    assert_eq!((rig.volume.status().link, rig.volume.status().copy), (LinkState::Idle, CopyState::Outdated));
}

#[test]
fn v13_sizes_are_named_when_they_do_not_fit() {
    let (label, log) = disks(true);
    let small = Config::new(VolumeId(1), Side::A, SIZE - 512);
    let error = Volume::open(small, &label, &log, Now::default()).unwrap_err();
    assert_eq!(error, OpenError::Small { backing: SIZE - 512, size: SIZE });
    let mut rig = Rig::new(config(), true);
    rig.link(1);
    rig.hello(&Identity { size: SIZE / 2, ..peer(1, Generation::BLANK) });
    let LinkState::Refused(why) = rig.volume.status().link else { panic!() };
    assert!(why.contains("262144") && why.contains("524288"), "{why}");
}

#[test]
fn what_makes_no_sense_ends_the_link_and_nothing_else() {
    let mut rig = Rig::mirroring(config());
    rig.out.clear();
    let message = Message::Write { id: Sent(1), extent: at(0), fua: false, barrier: false };
    rig.input(Input::Received { link: LinkId(1), message, data: Some(ReceivedId(4)) });
    let forgets = rig.out.contains(&Output::Forget(Data::Received(ReceivedId(4))));
    assert!(forgets && rig.out.iter().any(|output| matches!(output, Output::CloseLink { .. })), "{:?}", rig.out);
    assert_eq!(rig.volume.status().role, Role::Source);
}

impl Rig {
    /// The process ends, with what is on its disks, and the next one opens them. Every label that was written is there.
    fn again(self, disks: &(Vec<u8>, Vec<u8>)) -> Self {
        let now = Now { monotonic: Monotonic(self.now), unix: UnixMs(1_000 + self.now) };
        let volume = Volume::open(config(), &disks.0, &disks.1, now).unwrap();
        let mut rig = Self { volume, now: self.now, out: Vec::new(), holds: false, unreadable: None };
        rig.run();
        rig
    }

    /// What its disks have by now, from what it has written since it was created.
    fn written(&self, disks: &mut (Vec<u8>, Vec<u8>)) {
        for output in &self.out {
            match output {
                Output::WriteLabel { block, .. } => put(&mut disks.0, block),
                Output::WriteLog { blocks, .. } => blocks.iter().for_each(|block| put(&mut disks.1, block)),
                _ => {}
            }
        }
    }
}

#[test]
fn v4_who_was_the_source_by_the_claim_it_is_given_again_is_the_newest() {
    let promote = |rig: &mut Rig, counter, basis| {
        rig.input(Input::Right { epoch: epoch(counter), entered: 1, until: None });
        rig.operator(OperatorRequest::Promote(basis))
    };
    let bases = [Basis::Free, Basis::Automatic { together: false }];
    for basis in bases {
        let mut disks = disks(true);
        let mut rig = Rig::new(config(), true);
        rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
        rig.input(Input::Operator {
            id: crate::io::OperatorId(1),
            request: OperatorRequest::Promote(Basis::Confirmed),
        });
        rig.written(&mut disks);
        let mut rig = rig.again(&disks);
        rig.written(&mut disks);
        assert_eq!(promote(&mut rig, 3, basis), Ok(()), "{basis:?}");
        // By a newer claim it is not: somebody else may have had one in between.
        let mut rig = rig.again(&disks);
        rig.written(&mut disks);
        assert!(matches!(promote(&mut rig, 4, basis), Err(Refusal::Copy { .. })), "{basis:?}");
    }
}

#[test]
fn v4_a_claim_that_another_daemon_has_entered_makes_no_copy_the_newest() {
    let mut disks = disks(true);
    let mut rig = Rig::new(config(), true);
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    rig.confirm();
    rig.written(&mut disks);
    // The journal was lost, and its node has claimed again: by the same name, long after.
    let mut rig = rig.again(&disks);
    rig.written(&mut disks);
    rig.input(Input::Right { epoch: epoch(3), entered: 2, until: None });
    let refused = rig.operator(OperatorRequest::Promote(Basis::Automatic { together: false }));
    assert!(matches!(refused, Err(Refusal::Copy { .. })), "{refused:?}");
    // Once it serves by that claim, it is the newest by that one.
    rig.confirm();
    rig.written(&mut disks);
    let mut rig = rig.again(&disks);
    rig.input(Input::Right { epoch: epoch(3), entered: 2, until: None });
    assert_eq!(rig.operator(OperatorRequest::Promote(Basis::Free)), Ok(()));
}

#[test]
fn v4_a_mark_in_the_arbiter_counts_whatever_claim_a_copy_was_promoted_by() {
    let mut disks = disks(true);
    let mut rig = Rig::new(config(), true);
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    // On the operator's word, and the arbiter has not heard of it: who holds the claim before marks this copy there.
    rig.confirm();
    rig.written(&mut disks);
    let mut rig = rig.again(&disks);
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    let refused = rig.operator(OperatorRequest::Promote(Basis::Arbiter { marked: true }));
    assert!(matches!(refused, Err(Refusal::Copy { .. })), "{refused:?}");
    assert_eq!(rig.volume.status().copy, CopyState::Outdated);
}

#[test]
fn v4_a_claim_that_was_only_heard_of_does_not_make_a_copy_the_newest() {
    let mut rig = Rig::new(config(), true);
    // The peer says that this side has claim 3: it was told so by a process before this one, which was never the source.
    rig.link(1);
    let first = rig.volume.status().generation;
    rig.hello(&Identity { epoch: epoch(3), ..peer(2, first) });
    rig.input(Input::LinkDown(LinkId(1)));
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    let refused = rig.operator(OperatorRequest::Promote(Basis::Free));
    assert!(matches!(refused, Err(Refusal::Copy { .. })), "{refused:?}");
}

#[test]
fn v2_a_right_by_a_claim_that_does_not_follow_the_last_one_ends_service_first() {
    let mut rig = Rig::mirroring(config());
    rig.input(Input::Right { epoch: epoch(4), entered: 1, until: None });
    rig.write(1, 0, false);
    assert_eq!((rig.volume.status().role, rig.replies()), (Role::Source, vec![]), "its own claim, made anew");
    // Claim 5 was the other side's: what this copy has may be old.
    rig.input(Input::Right { epoch: epoch(6), entered: 1, until: None });
    assert_eq!((rig.volume.status().role, rig.replies()), (Role::Target, vec![(1, Err(RequestError::NoRight))]));
}

#[test]
fn v3_a_question_that_nobody_answers_and_nobody_waits_for_is_dropped() {
    let mut rig = Rig::mirroring(Config { arbiter: true, ..config() });
    rig.input(Input::LinkDown(LinkId(1)));
    rig.write(1, 0, false);
    // The host answers nothing: neither the peer nor the arbiter is reached, again and again, until the write has stalled.
    for second in 1..40 {
        rig.at(second * 1_000);
        let (wake, why) = rig.volume.poll_timeout();
        assert!(wake.0 > rig.now, "it comes back at once, for ever, at {second} s: {why:?}");
    }
    assert_eq!(rig.replies(), [(1, Err(RequestError::Stalled))]);
    rig.out.clear();
    rig.write(2, 0, false);
    assert!(matches!(rig.out.first(), Some(Output::MarkPeer { .. })), "it is asked anew: {:?}", rig.out);
}

#[test]
fn v3_a_copy_that_has_more_than_the_one_that_asks_is_not_marked() {
    let mut rig = Rig::mirroring(config());
    let before = rig.volume.status().generation;
    rig.input(Input::LinkDown(LinkId(1)));
    rig.write(1, 0, false);
    rig.at(2_000);
    let asks = |output: &Output| match output {
        Output::MarkPeer { token, .. } => Some(*token),
        _ => None,
    };
    let token = rig.out.iter().find_map(asks).unwrap();
    rig.input(Input::Marked { token, outcome: Marked::Unreachable });
    assert!(rig.volume.status().alone, "no arbiter, no path");
    // The other side is promoted by silence, and has nothing of what was acknowledged here.
    rig.input(Input::RightEnded);
    rig.out.clear();
    let asked = |generation| {
        let epoch = Epoch { counter: 4, side: Side::B };
        Input::AskedOutdated { token: crate::io::Token(5), epoch, generation }
    };
    rig.input(asked(before));
    assert!(matches!(rig.out[..], [Output::AnswerMark { outcome: Marked::InContact, .. }]), "{:?}", rig.out);
    let state = |rig: &Rig| rig.volume.status().copy;
    assert!(matches!(state(&rig), CopyState::LastKnownGood { .. }), "{:?}", state(&rig));
    rig.input(asked(rig.volume.status().generation));
    assert_eq!(state(&rig), CopyState::Outdated);
}

#[test]
fn v4_a_copy_that_was_promoted_and_meets_one_that_has_more_keeps_its_right() {
    let mut rig = Rig::new(config(), true);
    rig.input(Input::Right { epoch: epoch(3), entered: 1, until: None });
    rig.operator(OperatorRequest::Promote(Basis::Confirmed)).unwrap();
    let mine = rig.volume.status().generation;
    rig.link(1);
    let theirs = Generation { epoch: 2, side: Side::B, began: UnixMs(77) };
    rig.hello(&Identity { history: vec![mine], ..peer(2, theirs) });
    let status = rig.volume.status();
    assert_eq!((status.role, status.copy), (Role::Target, CopyState::Outdated));
    let refused = rig.operator(OperatorRequest::Promote(Basis::Confirmed));
    assert!(matches!(refused, Err(Refusal::Copy { .. })), "{refused:?}");
    // The other copy may not be one that is to be had: its disk has failed.
    assert_eq!(rig.operator(OperatorRequest::Promote(Basis::Force)), Ok(()));
}

#[test]
fn times_are_shown_in_utc() {
    let mut rig = Rig::hot(config());
    let generation = Generation { epoch: 3, side: Side::A, began: UnixMs(1_775_134_809_500) };
    rig.volume.label.generation = generation;
    let split = rig.volume.split(&peer(2, Generation { began: UnixMs(951_782_399_999), ..generation }));
    let said = Event::SplitBrain(split).to_string();
    assert!(said.contains("since 2026-04-02T13:00:09Z") && said.contains("since 2000-02-28T23:59:59Z"), "{said}");
    let said = Event::GivesUp { regions: 1, since: generation }.to_string();
    assert!(said.ends_with("since 2026-04-02T13:00:09Z"), "{said}");
    for state in [DurableState::Inconsistent, DurableState::Outdated] {
        let mut rig = Rig::new(config(), true);
        rig.volume.label.state = state;
        rig.volume.label.contact = UnixMs(1_775_134_809_500);
        let Promotion::Force(lost) = rig.volume.status().promotion else { panic!("{state:?}") };
        assert!(lost.ends_with("2026-04-02T13:00:09Z"), "{lost}");
    }
}
