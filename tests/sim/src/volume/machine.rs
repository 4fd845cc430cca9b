//! A machine: a process with a copy of the volume, its disks, and what the driver of a volume does.

use std::collections::BTreeMap;

use mainstay_core::time::Now;
use mainstay_volume_core::bitmap::Bitmap;
use mainstay_volume_core::io::{
    Block, Config, Data, DiskDone, DiskError, DiskId, DiskOp, LinkId, ReceivedId, RequestId, WriteId,
};
use mainstay_volume_core::label::Label;
use mainstay_volume_core::log;
use mainstay_volume_core::types::{Extent, checksum};
use mainstay_volume_core::volume::{Volume, create};

use super::disk::{ByteDisk, DataDisk, Stamp, sectors};
use crate::random::Random;
use crate::world::Clock;

/// A disk operation under way.
#[derive(Clone, Debug)]
pub struct UnderWay {
    /// Which.
    pub op: DiskOp,
    /// What is written.
    stamps: Vec<Stamp>,
    covers: Vec<(usize, Stamp)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Machine {
    /// The process, if it runs.
    pub volume: Option<Volume>,
    /// Counts its starts: what an earlier one asked for is not told to a later one.
    pub start: u64,
    /// Whether the machine has power.
    pub power: bool,
    /// What its process counts time by.
    pub clock: Clock,
    /// How far its wall clock is from the true time, in ms.
    pub clock_off: i64,
    /// Its disk.
    pub data: DataDisk,
    /// Its label.
    pub label: ByteDisk,
    /// Its log.
    pub log: ByteDisk,
    /// What it was told once.
    pub config: Config,
    /// The connection to the peer that it knows of.
    pub link: Option<LinkId>,
    /// Disk operations fail from now on.
    pub broken: bool,
    /// What its clients write.
    pub requests: BTreeMap<RequestId, Vec<Stamp>>,
    received: BTreeMap<ReceivedId, Vec<Stamp>>,
    read: BTreeMap<DiskId, Vec<Stamp>>,
    ops: BTreeMap<DiskId, UnderWay>,
    writes: BTreeMap<WriteId, (bool, Vec<Block>)>,
    next_received: u64,
}

/// What a client has read: for which request, where, and what was there.
pub type Read = (RequestId, Extent, Vec<Stamp>);

impl Machine {
    /// With a new copy.
    #[must_use]
    pub fn new(config: Config, size: u64, first: bool, now: Now) -> Self {
        let (label_blocks, log_blocks) =
            create(config.volume, config.side, size, first, now.unix).expect("the size is one a volume can have");
        let (mut label, mut log) = (ByteDisk::default(), ByteDisk::default());
        label_blocks.iter().for_each(|block| label.write(block.offset, &block.bytes));
        log_blocks.iter().for_each(|block| log.write(block.offset, &block.bytes));
        Self {
            volume: None,
            start: 0,
            power: true,
            clock: Clock::default(),
            clock_off: 0,
            data: DataDisk::new(size),
            label,
            log,
            config,
            link: None,
            broken: false,
            requests: BTreeMap::new(),
            received: BTreeMap::new(),
            read: BTreeMap::new(),
            ops: BTreeMap::new(),
            writes: BTreeMap::new(),
            next_received: 0,
        }
    }

    /// Its disk is lost, and replaced by one on which an operator has created an empty copy; its process does not run.
    pub fn replace(&mut self, now: Now) {
        let size = self.label_on_disk().size;
        let new = Self::new(self.config.clone(), size, false, now);
        (self.data, self.label, self.log) = (new.data, new.label, new.log);
    }

    /// The process starts.
    pub fn open(&mut self, now: Now) {
        self.start += 1;
        let opened = Volume::open(self.config.clone(), &self.label.bytes, &self.log.bytes, now);
        self.volume = Some(opened.expect("its label is whole"));
    }

    /// The process ends, and with `power` the machine as well: then what is not synced may be lost.
    pub fn end(&mut self, power: bool, dice: &mut Random) {
        self.volume = None;
        self.link = None;
        for (is_label, blocks) in std::mem::take(&mut self.writes).into_values() {
            let disk = if is_label { &mut self.label } else { &mut self.log };
            blocks.iter().for_each(|block| disk.tear(block.offset, &block.bytes, dice));
        }
        let ops: Vec<UnderWay> = std::mem::take(&mut self.ops).into_values().collect();
        let writes: Vec<(Extent, Vec<Stamp>)> =
            ops.into_iter().filter_map(|op| Some((written(&op.op)?, op.stamps))).collect();
        if power {
            self.power = false;
            self.data.crash(&writes, dice);
        } else {
            for (extent, stamps) in writes {
                if dice.chance(500) {
                    self.data.write(extent, &stamps, false);
                }
            }
        }
        self.requests.clear();
        self.received.clear();
        self.read.clear();
    }

    /// Its label, as it is on disk.
    #[must_use]
    pub fn label_on_disk(&self) -> Label {
        Label::decode(&self.label.bytes).expect("its label is whole")
    }

    /// The regions that its log on disk has.
    #[must_use]
    pub fn bits_on_disk(&self) -> Bitmap {
        log::replay(&self.log.bytes, &self.label_on_disk()).dirty
    }

    /// What came with a message.
    pub fn receive(&mut self, stamps: Vec<Stamp>) -> ReceivedId {
        self.next_received += 1;
        self.received.insert(ReceivedId(self.next_received), stamps);
        ReceivedId(self.next_received)
    }

    /// What goes with a message.
    ///
    /// # Panics
    /// If the volume names something that is not there.
    #[must_use]
    pub fn payload(&self, data: Data) -> Vec<Stamp> {
        let found = match data {
            Data::Request(id) => self.requests.get(&id),
            Data::Received(id) => self.received.get(&id),
            Data::Read(id) => self.read.get(&id),
        };
        found.cloned().unwrap_or_else(|| panic!("buffers: {data:?} is not there"))
    }

    /// Lets a buffer go.
    pub fn forget(&mut self, data: Data) {
        match data {
            Data::Request(_) => {}
            Data::Received(id) => drop(self.received.remove(&id)),
            Data::Read(id) => drop(self.read.remove(&id)),
        }
    }

    /// How many buffers are held: none is to be left when nothing is under way.
    #[must_use]
    pub fn buffers(&self) -> usize {
        self.received.len() + self.read.len()
    }

    /// A disk operation begins.
    ///
    /// # Errors
    /// If one that overlaps is under way.
    pub fn begin(&mut self, id: DiskId, op: DiskOp) -> Result<(), String> {
        let stamps = match op {
            DiskOp::Write { data, .. } => self.payload(data),
            DiskOp::Zero { extent, .. } => vec![0; sectors(extent).len()],
            DiskOp::ReadFor(..) | DiskOp::Read(_) | DiskOp::Checksum(_) | DiskOp::Flush => Vec::new(),
        };
        if let Some(extent) = written(&op)
            && let Some(other) = self.ops.values().filter_map(|it| written(&it.op)).find(|it| it.overlaps(extent))
        {
            return Err(format!("order: {op:?} is begun while a write at {other:?} is under way (V8)"));
        }
        let covers = if op == DiskOp::Flush { self.data.flush_begins() } else { Vec::new() };
        self.ops.insert(id, UnderWay { op, stamps, covers });
        Ok(())
    }

    /// It is done. What a client has read, if it was that.
    pub fn done(&mut self, id: DiskId) -> Option<(Result<DiskDone, DiskError>, Option<Read>)> {
        let UnderWay { op, stamps, covers } = self.ops.remove(&id)?;
        if self.broken {
            return Some((Err(DiskError::Errno(5)), None));
        }
        let look = |extent: Extent| self.data.now[sectors(extent)].to_vec();
        let sum = |stamps: &[Stamp]| checksum(&stamps.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>());
        let mut read = None;
        let done = match op {
            DiskOp::ReadFor(request, extent) => {
                read = Some((request, extent, look(extent)));
                DiskDone::Done
            }
            DiskOp::Read(extent) => {
                let found = look(extent);
                let (checksum, zero) = (sum(&found), found.iter().all(|stamp| *stamp == 0));
                self.read.insert(id, found);
                DiskDone::Read { checksum, zero }
            }
            DiskOp::Checksum(extent) => DiskDone::Checksum(sum(&look(extent))),
            DiskOp::Write { extent, fua, data } => {
                self.data.write(extent, &stamps, fua);
                if matches!(data, Data::Received(_)) {
                    self.forget(data);
                }
                DiskDone::Done
            }
            DiskOp::Zero { extent, fua, .. } => {
                self.data.write(extent, &stamps, fua);
                DiskDone::Done
            }
            DiskOp::Flush => {
                self.data.flush(&covers);
                DiskDone::Done
            }
        };
        Some((Ok(done), read))
    }

    /// A write of the label or the log begins.
    pub fn begin_write(&mut self, id: WriteId, is_label: bool, blocks: Vec<Block>) {
        self.writes.insert(id, (is_label, blocks));
    }

    /// It is durable.
    pub fn wrote(&mut self, id: WriteId) {
        if let Some((is_label, blocks)) = self.writes.remove(&id) {
            let disk = if is_label { &mut self.label } else { &mut self.log };
            blocks.iter().for_each(|block| disk.write(block.offset, &block.bytes));
        }
    }
}

fn written(op: &DiskOp) -> Option<Extent> {
    match op {
        DiskOp::Write { extent, .. } | DiskOp::Zero { extent, .. } => Some(*extent),
        DiskOp::ReadFor(..) | DiskOp::Read(_) | DiskOp::Checksum(_) | DiskOp::Flush => None,
    }
}
