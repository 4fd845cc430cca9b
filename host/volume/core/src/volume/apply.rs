//! In which order a target writes what the source tells it (V8).
//!
//! In the order in which it came: nothing overtakes what it overlaps, nothing that came later is begun before a flush has
//! begun, or, where the source says so (async mode), before it is done. What has come is written even if the link breaks:
//! a new link, or a promotion, waits until all of it is.

use alloc::collections::VecDeque;

use super::slab::Slab;
use super::{Op, Volume};
use crate::io::{Data, DiskDone, DiskError, DiskOp, LinkId, Output, ReceivedId};
use crate::message::{Message, Sent};
use crate::planted::{self, Bug};
use crate::types::{Extent, Region};

/// Something to be written, and what is said when it is.
#[derive(Clone, Copy, Debug)]
struct Item {
    link: LinkId,
    what: What,
    /// Nothing that came later is begun before it is done.
    barrier: bool,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Write { extent: Extent, fua: bool, data: ReceivedId },
    Zero { extent: Extent, fua: bool, unmap: bool },
    Flush,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Done(Sent),
    Copied(Region),
}

/// What has come and is not done.
#[derive(Debug, Default)]
pub(super) struct Apply {
    waiting: VecDeque<Item>,
    begun: Slab<Item>,
    barriers: u32,
}

impl Apply {
    /// Whether all that came is done.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.begun.len() == 0
    }
}

impl What {
    fn extent(self) -> Option<Extent> {
        match self {
            Self::Write { extent, .. } | Self::Zero { extent, .. } => Some(extent),
            Self::Flush => None,
        }
    }
}

impl Volume {
    /// Takes in what the source told on this link; whether it made sense.
    pub(super) fn apply(&mut self, link: LinkId, message: &Message, data: Option<ReceivedId>) -> bool {
        let copy = |region: Region| Extent { offset: region.offset(), length: region.bytes(self.label.size) as u32 };
        let item = |what: What, barrier: bool, answer: Answer| Some(Item { link, what, barrier, answer });
        let item = match (message, data) {
            (Message::Write { id, extent, fua, barrier }, Some(data)) => {
                item(What::Write { extent: *extent, fua: *fua, data }, *barrier, Answer::Done(*id))
            }
            (Message::Zero { id, extent, fua, unmap, barrier }, None) => {
                item(What::Zero { extent: *extent, fua: *fua, unmap: *unmap }, *barrier, Answer::Done(*id))
            }
            (Message::Flush { id, barrier }, None) => item(What::Flush, *barrier, Answer::Done(*id)),
            (Message::Copy { region, length, checksum: _ }, Some(data)) => {
                let whole = copy(*region).length == *length;
                let what = What::Write { extent: copy(*region), fua: false, data };
                item(what, false, Answer::Copied(*region)).filter(|_| whole)
            }
            (Message::CopyZero { region }, None) => {
                item(What::Zero { extent: copy(*region), fua: false, unmap: true }, false, Answer::Copied(*region))
            }
            _ => None,
        };
        let fits = |extent: Extent| {
            extent.length > 0
                && extent.offset.checked_add(extent.length.into()).is_some_and(|end| end <= self.label.size)
        };
        let Some(item) = item.filter(|item| item.what.extent().is_none_or(fits)) else { return false };
        self.apply.waiting.push_back(item);
        self.begin_applying();
        true
    }

    fn begin_applying(&mut self) {
        let mut at = 0;
        while self.apply.barriers == 0
            && let Some(item) = self.apply.waiting.get(at).copied()
        {
            let free = match item.what.extent() {
                Some(extent) => {
                    let overlaps = |other: &Item| other.what.extent().is_some_and(|other| other.overlaps(extent));
                    planted::is(Bug::NoOrder)
                        || self.order.is_free(extent) && !self.apply.waiting.iter().take(at).any(overlaps)
                }
                // Everything that came before it is done: it is the first that waits, and nothing is under way.
                None => at == 0 && self.apply.begun.len() == 0,
            };
            if free {
                self.apply.waiting.remove(at);
                self.begin_item(item);
            } else if item.what.extent().is_none() || item.barrier {
                return;
            } else {
                at += 1;
            }
        }
    }

    fn begin_item(&mut self, item: Item) {
        if let Some(extent) = item.what.extent() {
            self.order.begin(extent);
        }
        self.apply.barriers += u32::from(item.barrier);
        let key = self.apply.begun.insert(item);
        self.disk(Op::Apply(key), |_| match item.what {
            What::Write { extent, fua, data } => DiskOp::Write { extent, fua, data: Data::Received(data) },
            What::Zero { extent, fua, unmap } => DiskOp::Zero { extent, fua, unmap },
            What::Flush => DiskOp::Flush,
        });
    }

    /// One of them is done.
    pub(super) fn applied(&mut self, key: u64, result: Result<DiskDone, DiskError>) {
        let Some(item) = self.apply.begun.remove(key) else { return };
        if let Some(extent) = item.what.extent() {
            self.order.end(extent);
        }
        self.apply.barriers -= u32::from(item.barrier);
        match result {
            Ok(_) if self.failed.is_none() && self.session.link == Some(item.link) => {
                let message = match item.answer {
                    Answer::Done(id) => Message::Done { id },
                    Answer::Copied(region) => {
                        self.session.count_copied();
                        Message::CopyDone { region }
                    }
                };
                self.send(message, None);
            }
            Ok(_) => {}
            Err(error) => self.fail("writing what the source told", error),
        }
        self.begin_applying();
        if self.apply.is_idle() {
            self.stir();
        }
    }

    /// V10: nothing more is written to a copy that has failed.
    pub(super) fn drop_applying(&mut self) {
        for item in core::mem::take(&mut self.apply.waiting) {
            if let What::Write { data, .. } = item.what {
                self.outputs.push_back(Output::Forget(Data::Received(data)));
            }
        }
    }
}
