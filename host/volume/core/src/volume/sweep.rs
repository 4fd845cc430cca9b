//! What goes over many regions, one after the other: a resync copies those that have to be copied, a verify compares
//! all. While a region is at it, no write to it is begun; it begins when none is under way (V8).

use alloc::collections::BTreeMap;

use mainstay_core::time::{Millis, Monotonic};

use super::durable::Then;
use super::requests::Purpose;
use super::session::Stage;
use super::{Gate, Op, Volume};
use crate::io::{Data, DiskDone, DiskError, DiskId, DiskOp, OperatorId, Output, Refusal};
use crate::message::Message;
use crate::planted::{self, Bug};
use crate::status::{Event, Progress, Unread};
use crate::types::{Extent, Region};

/// Regions of a resync that could not be read are tried again after so long.
const AGAIN: Millis = Millis::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Resync,
    Verify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A write to it is under way; none is begun.
    Locked,
    /// It is read here.
    Read,
    /// The peer is at it.
    Sent,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Sweep {
    number: u64,
    kind: Kind,
    next: Region,
    regions: BTreeMap<Region, At>,
    progress: Progress,
    different: u32,
    /// What could not be read here, and the same of a resync's pass before this one.
    unread: Option<Unread>,
    unread_before: Option<Unread>,
    /// When a resync begins its next pass, if not at once.
    again: Option<Monotonic>,
    /// The last flush of both is asked for, or done.
    ending: bool,
    /// What may be used by now, in bytes; below zero after a region that was more than that.
    budget: i64,
    budget_at: Monotonic,
}

impl Sweep {
    /// How far a resync is.
    pub(super) fn resync(&self) -> Option<Progress> {
        (self.kind == Kind::Resync).then_some(self.progress)
    }

    /// How far a verify is, and what it found.
    pub(super) fn verify(&self) -> Option<(Progress, u32)> {
        (self.kind == Kind::Verify).then_some((self.progress, self.different))
    }

    /// What could not be read here of late.
    pub(super) fn unread(&self) -> Option<Unread> {
        Unread::max(self.unread, self.unread_before)
    }

    /// When the rate limit lets the next region through, or the next pass is due.
    pub(super) fn next_timer(&self, rate: Option<u64>) -> Option<Monotonic> {
        let rate = rate.filter(|_| self.budget < 0).map(|rate| {
            let ms = self.budget.unsigned_abs().saturating_mul(1000).div_ceil(rate.max(1));
            self.budget_at + Millis(ms)
        });
        rate.max(self.again)
    }
}

impl Volume {
    /// The target is inconsistent: copy what has to be copied.
    pub(super) fn begin_copying(&mut self) {
        let regions = self.intent.away().count();
        self.report(Event::ResyncBegan { regions });
        self.begin_sweep(Kind::Resync, regions);
    }

    fn begin_sweep(&mut self, kind: Kind, of: u32) {
        self.stop_sweeping();
        self.sweeps += 1;
        self.sweep = Some(Sweep {
            number: self.sweeps,
            kind,
            next: Region(0),
            regions: BTreeMap::new(),
            progress: Progress { done: 0, of },
            different: 0,
            unread: None,
            unread_before: None,
            again: None,
            ending: false,
            budget: 0,
            budget_at: self.now.monotonic,
        });
        self.stir();
    }

    /// Compare all regions (verify).
    pub(super) fn verify(&mut self, id: OperatorId) {
        let ready = matches!(self.session.stage, Stage::Mirroring) && self.session.whole && self.sweep.is_none();
        let result = if ready {
            self.begin_sweep(Kind::Verify, Region::count(self.label.size));
            Ok(())
        } else {
            Err(Refusal::Not("verify compares two copies that are up to date, and is asked of the source"))
        };
        self.outputs.push_back(Output::Answer { id, result });
    }

    /// It is given up, with the link or with the role. What is not copied stays in the log (V12).
    pub(super) fn stop_sweeping(&mut self) {
        if let Some(sweep) = self.sweep.take()
            && sweep.kind == Kind::Verify
        {
            self.report(Event::VerifyEnded);
        }
    }

    /// Whether a region of it is at it just now.
    pub(super) fn is_swept(&self, extent: Extent) -> bool {
        self.sweep.as_ref().is_some_and(|sweep| {
            let regions = extent.regions();
            sweep.regions.range(Region(*regions.start())..=Region(*regions.end())).next().is_some()
        })
    }

    pub(super) fn go_on_sweeping(&mut self) {
        self.lock_regions();
        let Some(sweep) = &mut self.sweep else { return };
        let intent = &self.intent;
        let ready = |at: At, region: Region| {
            at == At::Locked && (planted::is(Bug::NoExclusion) || !intent.is_under_way(region))
        };
        let free: alloc::vec::Vec<Region> =
            sweep.regions.iter().filter(|(region, at)| ready(**at, **region)).map(|(region, _)| *region).collect();
        let (number, kind) = (sweep.number, sweep.kind);
        for region in free {
            if let Some(at) = self.sweep.as_mut().and_then(|sweep| sweep.regions.get_mut(&region)) {
                *at = At::Read;
            }
            let extent = self.extent(region);
            self.disk(Op::Sweep(number, region), |_| match kind {
                Kind::Resync => DiskOp::Read(extent),
                Kind::Verify => DiskOp::Checksum(extent),
            });
        }
        self.end_sweep_if_done();
    }

    fn extent(&self, region: Region) -> Extent {
        Extent { offset: region.offset(), length: region.bytes(self.label.size) as u32 }
    }

    /// As many as may be under way, within the rate.
    fn lock_regions(&mut self) {
        let Some(sweep) = &mut self.sweep else { return };
        if let Some(rate) = self.config.resync_bytes_per_s {
            let passed = self.now.monotonic.since(sweep.budget_at).0;
            let earned = rate.saturating_mul(passed) / 1000;
            if earned > 0 {
                // No more than a tenth of a second is saved up.
                sweep.budget = sweep.budget.saturating_add_unsigned(earned).min((rate / 10) as i64);
                sweep.budget_at = self.now.monotonic;
            }
        }
        if sweep.again.is_some_and(|again| self.now.monotonic < again) {
            return;
        }
        sweep.again = None;
        let away = self.intent.away();
        while sweep.regions.len() < self.config.resync_regions_max as usize && sweep.budget >= 0 {
            let next = match sweep.kind {
                Kind::Resync => away.next(sweep.next),
                Kind::Verify => Some(sweep.next).filter(|region| region.0 < away.regions()),
            };
            let Some(region) = next else { break };
            sweep.next = Region(region.0 + 1);
            if sweep.regions.contains_key(&region) {
                continue;
            }
            sweep.regions.insert(region, At::Locked);
            if self.config.resync_bytes_per_s.is_some() {
                sweep.budget -= region.bytes(self.label.size) as i64;
            }
        }
    }

    /// A region was read here.
    pub(super) fn swept(&mut self, number: u64, region: Region, id: DiskId, result: Result<DiskDone, DiskError>) {
        let length = region.bytes(self.label.size) as u32;
        let mine = self.sweep.as_mut().filter(|sweep| sweep.number == number);
        let at = mine.and_then(|sweep| sweep.regions.get_mut(&region));
        match (result, at) {
            (Ok(DiskDone::Read { checksum, zero }), Some(at)) => {
                *at = At::Sent;
                if zero {
                    self.send(Message::CopyZero { region }, None);
                    self.outputs.push_back(Output::Forget(Data::Read(id)));
                } else {
                    self.resync_bytes += u64::from(length);
                    self.send(Message::Copy { region, length, checksum }, Some(Data::Read(id)));
                }
            }
            (Ok(DiskDone::Checksum(checksum)), Some(at)) => {
                *at = At::Sent;
                self.send(Message::Check { region, checksum }, None);
            }
            (Ok(DiskDone::Read { .. }), None) => self.outputs.push_back(Output::Forget(Data::Read(id))),
            (Ok(_), _) => {}
            (Err(error), Some(_)) => self.not_read(region, error),
            // Nobody waits for it any more.
            (Err(_), None) => {}
        }
    }

    /// V10: like a client's read that fails, it is no more than that region's matter. It stays in the log, so that the
    /// target of a resync stays inconsistent (V12), and writes to it go to both copies meanwhile.
    fn not_read(&mut self, region: Region, error: DiskError) {
        let Some(sweep) = &mut self.sweep else { return };
        sweep.regions.remove(&region);
        if sweep.kind == Kind::Verify {
            sweep.progress.done += 1;
        }
        let unread = sweep.unread.get_or_insert(Unread { regions: 0, first: region, error });
        unread.regions += 1;
        let unread = *unread;
        // Once in a pass, and not again if it is as it was.
        let known = sweep.unread_before.is_some_and(|it| (it.first, it.error) == (unread.first, unread.error));
        let event = match sweep.kind {
            Kind::Resync => Event::CopyUnread(unread),
            Kind::Verify => Event::VerifyUnread(unread),
        };
        if unread.regions == 1 && !known {
            self.report(event);
        }
        self.stir();
    }

    /// The target has written a region.
    pub(super) fn copied(&mut self, region: Region) {
        let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.kind == Kind::Resync) else { return };
        if sweep.regions.get(&region) == Some(&At::Sent) {
            sweep.regions.remove(&region);
            sweep.progress.done += 1;
            self.intent.copied(region, self.now.monotonic);
            self.stir();
        }
    }

    /// The target has compared a region.
    pub(super) fn checked(&mut self, region: Region, same: bool) {
        let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.kind == Kind::Verify) else { return };
        if sweep.regions.get(&region) != Some(&At::Sent) {
            return;
        }
        sweep.regions.remove(&region);
        sweep.progress.done += 1;
        sweep.different += u32::from(!same);
        if !same {
            self.intent.differs(region);
            self.report(Event::Different(region));
        }
        self.stir();
    }

    fn end_sweep_if_done(&mut self) {
        let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.regions.is_empty() && !sweep.ending) else { return };
        match sweep.kind {
            Kind::Verify if sweep.next.0 >= self.intent.away().regions() => {
                let (regions, different) = (sweep.progress.of, sweep.different);
                let unread = sweep.unread.map_or(0, |unread| unread.regions);
                self.sweep = None;
                self.report(Event::Verified { regions, different, unread });
                if let Some(link) = self.session.link.filter(|_| different > 0) {
                    self.after_log(Then::Merged(link));
                }
            }
            Kind::Resync if self.intent.away().count() == 0 && self.gate == Gate::Mirror => {
                sweep.ending = true;
                if planted::is(Bug::WholeUnflushed) { self.flushed_whole() } else { self.flush_both(Purpose::Whole) }
            }
            // What could not be read, or became away behind the sweep, if anything.
            Kind::Resync if self.intent.away().count() > 0 && self.intent.away().next(sweep.next).is_none() => {
                sweep.next = Region(0);
                sweep.again = sweep.unread.map(|_| self.now.monotonic + AGAIN);
                sweep.unread_before = sweep.unread.take();
                self.stir();
            }
            Kind::Verify | Kind::Resync => {}
        }
    }

    /// All is copied and both have flushed since.
    pub(super) fn flushed_whole(&mut self) {
        if let Some(sweep) = self.sweep.take_if(|sweep| sweep.ending) {
            self.report(Event::ResyncDone { regions: sweep.progress.done });
            self.share();
        }
    }
}
