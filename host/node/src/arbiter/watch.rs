//! Hears that something has changed at etcd, so that nobody waits for the next renewal to see it.
//!
//! Only ever makes things quicker: what is there is looked at by whoever is told, and a change that is missed here is seen
//! with the next renewal.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::etcd::Etcd;
use super::members::words;
use super::wire::{self, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};

/// A watch that has said nothing for so long is asked to say something.
const QUIET: Duration = Duration::from_secs(1);
/// One that says nothing then either, or does not open, is given up.
const SILENT: Duration = Duration::from_secs(1);
/// Between tries: doubled with each that fails ...
const AGAIN: Duration = Duration::from_millis(100);
/// ... up to this, which is as often as is looked anyhow.
const AGAIN_MAX: Duration = Duration::from_secs(2);
/// Questions that wait to be sent: there is never more than one.
const QUESTIONS_MAX: usize = 4;

/// Watches for ever; `changed` is told when something has.
pub(super) async fn watch(etcd: Arc<Etcd>, changed: Arc<Notify>) {
    let mut pause = AGAIN;
    let mut told = false;
    loop {
        for (_, member) in etcd.members.in_turn() {
            let mut opened = false;
            let why = follow(&etcd, member.channel, &changed, &mut opened).await;
            if opened {
                pause = AGAIN;
                if std::mem::take(&mut told) {
                    tracing::info!("changes at etcd are heard of at once again");
                }
            }
            tracing::debug!("{}: the watch has ended: {}", member.endpoint, words(&why));
            if opened {
                // Whoever answers requests by now is asked first.
                break;
            }
        }
        if pause > AGAIN && !std::mem::replace(&mut told, true) {
            tracing::warn!("no member of etcd lets changes be watched: they are seen with the renewals until one does");
        }
        tokio::time::sleep(pause).await;
        pause = AGAIN_MAX.min(pause * 2);
    }
}

/// Watches at one member until that ends.
async fn follow(etcd: &Etcd, channel: tonic::transport::Channel, changed: &Notify, opened: &mut bool) -> Status {
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    let create = WatchCreateRequest { key: etcd.keys.from(), range_end: etcd.keys.to() };
    // There is room, and the other end lives in this function.
    let _ = questions.try_send(WatchRequest { create: Some(create), ..WatchRequest::default() });
    let open = wire::watch(channel, ReceiverStream::new(asked));
    let mut answers = match tokio::time::timeout(SILENT, open).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(status)) => return status,
        Err(_) => return Status::deadline_exceeded("it did not open in time"),
    };
    let mut asked_at: Option<Instant> = None;
    loop {
        let wait = if asked_at.is_some() { SILENT } else { QUIET };
        let WatchResponse { created, canceled, cancel_reason, events } =
            match tokio::time::timeout(wait, answers.message()).await {
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None)) => return Status::unavailable("the member has ended it"),
                Ok(Err(status)) => return status,
                Err(_) if asked_at.is_some() => return Status::deadline_exceeded("the member says nothing"),
                Err(_) => {
                    asked_at = Some(Instant::now());
                    let question = WatchRequest { progress: Some(WatchProgressRequest {}), ..WatchRequest::default() };
                    if questions.try_send(question).is_err() {
                        return Status::unavailable("the member takes no questions");
                    }
                    continue;
                }
            };
        asked_at = None;
        if canceled {
            return Status::cancelled(cancel_reason);
        }
        *opened |= created;
        // What changed before the watch was there is not told by it.
        if created || !events.is_empty() {
            changed.notify_one();
        }
    }
}
