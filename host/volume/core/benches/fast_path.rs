//! What a 4k write to a hot region costs the core, on the source and on the target: `cargo bench -p mainstay-volume-core`.
//! Two copies are driven in memory; disks and link are done at once, so all that is measured is deciding.
#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else comes out costs nothing here")]

use std::collections::VecDeque;
use std::time::Instant;

use mainstay_core::time::{Monotonic, Now, UnixMs};
use mainstay_volume_core::io::{
    Basis, Config, ConnectionId, DiskDone, DiskOp, Input, LinkId, OperatorId, OperatorRequest, Output, ReceivedId,
    RequestId, RequestKind,
};
use mainstay_volume_core::log::log_bytes;
use mainstay_volume_core::status::LinkState;
use mainstay_volume_core::types::{Epoch, Extent, Side, VolumeId};
use mainstay_volume_core::volume::{Volume, create};

const SIZE: u64 = 1 << 30;
const DEPTH: u64 = 16;
const WRITES: u64 = 2_000_000;

struct Pair {
    sides: [Volume; 2],
    now: Now,
    received: u64,
    answered: u64,
}

impl Pair {
    fn new() -> Self {
        let now = Now { monotonic: Monotonic(0), unix: UnixMs(1) };
        let open = |side: Side| {
            let (label, log) = create(VolumeId(1), side, SIZE, side == Side::A, now.unix).expect("a size that does");
            let mut bytes = (vec![0; 8192], vec![0; log_bytes(SIZE) as usize]);
            for (disk, blocks) in [(&mut bytes.0, label), (&mut bytes.1, log)] {
                for block in blocks {
                    let at = block.offset as usize;
                    disk[at..at + block.bytes.len()].copy_from_slice(&block.bytes);
                }
            }
            Volume::open(Config::new(VolumeId(1), side, SIZE), &bytes.0, &bytes.1, now).expect("a new copy")
        };
        Self { sides: [open(Side::A), open(Side::B)], now, received: 0, answered: 0 }
    }

    fn input(&mut self, side: usize, input: Input) {
        let mut inputs = VecDeque::from([(side, input)]);
        while let Some((side, input)) = inputs.pop_front() {
            self.sides[side].handle(input, self.now);
            self.run(side, &mut inputs);
        }
    }

    fn run(&mut self, side: usize, inputs: &mut VecDeque<(usize, Input)>) {
        while let Some(output) = self.sides[side].poll_output() {
            match output {
                Output::Disk { id, op } => {
                    let done = match op {
                        DiskOp::Read(_) => DiskDone::Read { checksum: 1, zero: true },
                        _ => DiskDone::Done,
                    };
                    inputs.push_back((side, Input::Disk { id, result: Ok(done) }));
                }
                Output::WriteLog { id, .. } | Output::WriteLabel { id, .. } => {
                    inputs.push_back((side, Input::Written { id, result: Ok(()) }));
                }
                Output::Send { link, message, data } => {
                    self.received += 1;
                    let data = data.map(|_| ReceivedId(self.received));
                    inputs.push_back((1 - side, Input::Received { link, message, data }));
                }
                Output::Reply { .. } => self.answered += 1,
                _ => {}
            }
        }
    }
}

fn main() {
    let mut pair = Pair::new();
    for side in 0..2 {
        let mut inputs = VecDeque::new();
        pair.run(side, &mut inputs);
        while let Some((side, input)) = inputs.pop_front() {
            pair.input(side, input);
        }
    }
    pair.input(0, Input::Right { epoch: Epoch { counter: 1, side: Side::A }, entered: 1, until: None });
    let promote = OperatorRequest::Promote(Basis::Confirmed);
    pair.input(0, Input::Operator { id: OperatorId(1), request: promote });
    pair.sides[0].handle(Input::LinkUp(LinkId(1)), pair.now);
    pair.input(1, Input::LinkUp(LinkId(1)));
    pair.input(0, Input::Tick);
    assert_eq!(pair.sides[0].status().link, LinkState::Connected);
    let mut place = 1u64;
    let mut ask = |pair: &mut Pair, number: u64| {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let extent = Extent { offset: (place >> 33) % (SIZE / 8 / 4096) * 4096, length: 4096 };
        let kind = RequestKind::Write { extent, fua: false };
        pair.sides[0].handle(Input::Request { id: RequestId(number), connection: ConnectionId(1), kind }, pair.now);
    };
    let mut number = 0;
    let mut round = |pair: &mut Pair, writes: u64| {
        let end = pair.answered + writes;
        while pair.answered < end {
            for _ in 0..DEPTH {
                number += 1;
                ask(pair, number);
            }
            pair.now.monotonic.0 += u64::from(number % 1024 == 0);
            pair.input(0, Input::Tick);
        }
    };
    // Until the regions are hot.
    round(&mut pair, WRITES / 10);
    let began = Instant::now();
    round(&mut pair, WRITES);
    let each = began.elapsed().as_nanos() as u64 / WRITES;
    println!("a 4k write to a hot region, {DEPTH} at a time: {each} ns on both copies together");
}
