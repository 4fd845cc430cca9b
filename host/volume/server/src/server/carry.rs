//! Carries out what the core says, in the order in which it says it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_volume_core::io::{
    Block, Data, DiskDone, DiskError, DiskId, DiskOp, Input, LinkEnd, Output, RequestError, RequestId, WriteId,
};
use mainstay_volume_core::types::{Extent, checksum};
use nix::errno::Errno;

use super::Server;
use crate::buffers::Buffer;
use crate::control::wire::{self, Reply, Said};
use crate::disk::{self, Done, Op, Which};
use crate::nbd::transmit::Failure;

/// A failure of the disk is written to the log that often at the most.
const FAILURE_EVERY: Duration = Duration::from_secs(1);

/// A disk operation that is under way, and what it is for.
#[derive(Debug)]
pub(super) enum Operation {
    /// For a client's read.
    ReadFor(DiskId, RequestId),
    /// For a resync.
    Read(DiskId),
    /// For a verify.
    Checksum(DiskId),
    /// Nothing comes back but that it is done.
    Plain(DiskId),
    /// Zeroes that have to be durable: they are made so afterwards.
    ZeroFirst(DiskId),
    /// A block of the label or the log: of which [`Writing`].
    Block(u64),
}

/// A write of the label or the log.
#[derive(Debug)]
pub(super) struct Writing {
    id: WriteId,
    which: Which,
    /// Blocks that are not written yet, and the sync after them.
    left: usize,
    /// Whether they are made durable together, afterwards.
    syncs: bool,
    result: Result<(), DiskError>,
}

/// A question that only the daemon can answer.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) said: Said,
    /// After that nobody has answered.
    pub(super) until: Instant,
}

impl Server {
    pub(super) fn carry_out(&mut self) {
        while let Some(output) = self.core.poll_output() {
            self.carry(output);
        }
    }

    fn carry(&mut self, output: Output) {
        match output {
            Output::Disk { id, op } => self.begin(id, op),
            Output::WriteLog { id, blocks } => self.write(id, Which::Metadata, 0, &blocks),
            Output::WriteLabel { id, block } => self.write(id, Which::Backing, self.label_offset, &[block]),
            Output::Send { link, message, data } => {
                let data = data.and_then(|data| self.bytes(data));
                debug_assert_eq!(data.as_ref().map_or(0, |data| data.len()), message.data_bytes() as usize);
                if let Some(to) = &mut self.link {
                    to.say(link, &message, data);
                }
            }
            Output::CloseLink { link, why } => {
                if let Some(to) = &mut self.link {
                    to.close(link, matches!(why, LinkEnd::Anew));
                }
            }
            Output::Reply { id, result } => self.reply(id, result),
            // Taking it out is forgetting it. A client's data goes with its request.
            Output::Forget(data) => drop(self.bytes(data)),
            Output::MarkPeer { token, epoch, generation } => {
                let question =
                    wire::Question { question: token.0, epoch, generation: Some(generation), outdated: None };
                self.ask(token.0, Said::MarkPeer { mark_peer: question });
            }
            Output::MarkArbiter { token, epoch, outdated } => {
                let question = wire::Question { question: token.0, epoch, generation: None, outdated: Some(outdated) };
                self.ask(token.0, Said::MarkArbiter { mark_arbiter: question });
            }
            Output::AnswerMark { token, outcome } => {
                if let Some(asker) = self.markings.remove(&token.0) {
                    self.control.reply(asker, Reply::Marked(outcome.into()));
                }
            }
            Output::Answer { id, result } => match self.operators.remove(&id.0).flatten() {
                Some(asker) => {
                    let reply = result.map_or_else(|refusal| Reply::Error(refusal.to_string()), |()| Reply::Done);
                    self.control.reply(asker, reply);
                }
                // The process itself has asked, in order to end.
                None => {
                    if let Err(refusal) = result {
                        tracing::warn!("this copy did not become a target: {refusal}; the process ends all the same");
                    }
                    self.stopped = true;
                }
            },
            Output::Report(event) => {
                tracing::info!("{event}");
                self.look_at_role = true;
                self.say(&Said::Event { event: event.to_string() });
            }
        }
    }

    fn ask(&mut self, token: u64, said: Said) {
        self.say(&said);
        self.questions.insert(token, Question { said, until: Instant::now() + self.mark_timeout });
    }

    fn begin(&mut self, id: DiskId, op: DiskOp) {
        if self.backing_failure.is_some() {
            return self.tell_done(id, Err(DiskError::Errno(Errno::EIO as i32)));
        }
        let which = Which::Backing;
        let read =
            |extent: Extent| Op::Read { which, offset: extent.offset, buffer: self.pool.take(extent.length as usize) };
        let (operation, op) = match op {
            DiskOp::ReadFor(request, extent) => (Operation::ReadFor(id, request), read(extent)),
            DiskOp::Read(extent) => (Operation::Read(id), read(extent)),
            DiskOp::Checksum(extent) => (Operation::Checksum(id), read(extent)),
            DiskOp::Write { extent, fua, data } => {
                let Some(data) = self.data(data, extent) else {
                    return self.tell_done(id, Err(DiskError::Errno(Errno::EINVAL as i32)));
                };
                (Operation::Plain(id), Op::Write { which, offset: extent.offset, data, durable: fua })
            }
            DiskOp::Zero { extent, fua, unmap } => {
                let zeroes = Arc::clone(&self.zeroes);
                let op = Op::Zero { offset: extent.offset, length: extent.length.into(), may_free: unmap, zeroes };
                (if fua { Operation::ZeroFirst(id) } else { Operation::Plain(id) }, op)
            }
            DiskOp::Flush => (Operation::Plain(id), Op::Sync { which }),
        };
        let token = self.operations.insert(operation);
        self.disk.submit(token, op);
    }

    /// What is to be written. The core asks for what it was told of; anything else must not reach the disk.
    fn data(&mut self, data: Data, extent: Extent) -> Option<Arc<Buffer>> {
        let bytes = self.bytes(data).filter(|bytes| bytes.len() == extent.length as usize);
        debug_assert!(bytes.is_some(), "{data:?} is not there, or not {extent:?}");
        bytes
    }

    fn write(&mut self, id: WriteId, which: Which, base: u64, blocks: &[Block]) {
        let syncs = blocks.len() > 1;
        let writing = self.writings.insert(Writing { id, which, left: blocks.len(), syncs, result: Ok(()) });
        for block in blocks {
            let mut bytes = self.pool.take(block.bytes.len());
            bytes.copy_from_slice(&block.bytes);
            let token = self.operations.insert(Operation::Block(writing));
            let (offset, data) = (base + block.offset, Arc::new(bytes));
            self.disk.submit(token, Op::Write { which, offset, data, durable: !syncs });
        }
        if blocks.is_empty() {
            self.written(writing, Ok(()));
        }
    }

    fn written(&mut self, number: u64, result: Result<(), DiskError>) {
        let Some(writing) = self.writings.get_mut(number) else { return };
        writing.left = writing.left.saturating_sub(1);
        if result.is_err() {
            writing.result = result;
        }
        if writing.left > 0 {
            return;
        }
        if writing.syncs && writing.result.is_ok() {
            (writing.syncs, writing.left) = (false, 1);
            let which = writing.which;
            let token = self.operations.insert(Operation::Block(number));
            return self.disk.submit(token, Op::Sync { which });
        }
        if let Some(Writing { id, result, .. }) = self.writings.remove(number) {
            self.tell(Input::Written { id, result });
        }
    }

    /// A disk operation is over.
    pub(super) fn disk_done(&mut self, Done { token, buffer, result }: Done) {
        let Some(operation) = self.operations.remove(token) else { return };
        let result = result.map_err(|error| self.failed(&error));
        match (operation, result) {
            (Operation::Block(writing), result) => self.written(writing, result),
            (
                Operation::ReadFor(id, _)
                | Operation::Read(id)
                | Operation::Checksum(id)
                | Operation::Plain(id)
                | Operation::ZeroFirst(id),
                Err(error),
            ) => self.tell_done(id, Err(error)),
            (Operation::ReadFor(id, request), Ok(())) => {
                if let Some(request) = self.requests.get_mut(request.0) {
                    request.read = buffer;
                }
                self.tell_done(id, Ok(DiskDone::Done));
            }
            (Operation::Read(id), Ok(())) => {
                let data = buffer.unwrap_or_else(|| self.pool.take(0));
                let zero = is_zero(&data);
                // Zeroes are not sent, and nobody compares their checksum.
                let checksum = if zero { 0 } else { checksum(&data) };
                let done = DiskDone::Read { checksum, zero };
                self.read.insert(id.0, Arc::new(data));
                self.tell_done(id, Ok(done));
            }
            (Operation::Checksum(id), Ok(())) => {
                let sum = checksum(buffer.as_deref().unwrap_or_default());
                self.tell_done(id, Ok(DiskDone::Checksum(sum)));
            }
            (Operation::Plain(id), Ok(())) => self.tell_done(id, Ok(DiskDone::Done)),
            (Operation::ZeroFirst(id), Ok(())) => {
                let token = self.operations.insert(Operation::Plain(id));
                self.disk.submit(token, Op::Sync { which: Which::Backing });
            }
        }
    }

    fn tell_done(&mut self, id: DiskId, result: Result<DiskDone, DiskError>) {
        self.tell(Input::Disk { id, result });
    }

    fn failed(&mut self, error: &disk::DiskError) -> DiskError {
        let now = Instant::now();
        if self.last_disk_failure.is_none_or(|last| now >= last + FAILURE_EVERY) {
            self.last_disk_failure = Some(now);
            tracing::error!("{error}");
        }
        DiskError::Errno(error.errno())
    }

    fn reply(&mut self, id: RequestId, result: Result<(), RequestError>) {
        let Some(request) = self.requests.remove(id.0) else { return };
        let result = match result {
            Ok(()) => Ok(request.read),
            Err(RequestError::NoRight) => Err(Failure::Permission),
            Err(RequestError::Invalid) => Err(Failure::Invalid),
            Err(RequestError::Stalled | RequestError::Backing | RequestError::TooMany) => Err(Failure::Io),
        };
        self.clients.answer(request.client, request.cookie, request.read_bytes, result);
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    // Without a branch inside a chunk, so that it is done by whole registers; data is most often seen in the first.
    bytes.chunks(1024).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}
