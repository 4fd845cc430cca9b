//! The newest events, for whoever follows them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mainstay_core::status::{Event, EventSeverity};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// How many events are kept: a failover of a large hierarchy, with what led to it.
const EVENTS_MAX: usize = 20_000;
/// How many are given at once.
pub const PAGE_MAX: usize = 1_000;

/// An event with its number and the moment it was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbered {
    /// From 1, without gaps, within one daemon.
    pub number: u64,
    /// Since the daemon started, in µs: for measuring. Wall-clock time is in the event.
    pub since_start_us: u64,
    /// What has happened, in one text as people read it.
    pub text: String,
    /// What has happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Events from a number on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Which daemon tells: with another one, numbers begin anew.
    pub incarnation: u64,
    /// Events that were asked for and are not kept any more.
    pub missed: u64,
    /// The events.
    pub events: Vec<Numbered>,
}

/// The newest events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    incarnation: u64,
    kept: Mutex<Kept>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    told: u64,
    events: VecDeque<Numbered>,
}

impl Events {
    /// None yet.
    #[must_use]
    pub fn new(incarnation: u64, started: Instant) -> Self {
        Self(Arc::new(Inner { started, incarnation, kept: Mutex::default(), more: Notify::new() }))
    }

    /// Tells an event to the log and to whoever follows.
    pub fn tell(&self, event: Event) {
        let text = event.to_string();
        match event.severity {
            EventSeverity::Info => tracing::info!(target: "mainstay::event", "{text}"),
            EventSeverity::Warning => tracing::warn!(target: "mainstay::event", "{text}"),
            EventSeverity::Alarm => tracing::error!(target: "mainstay::event", "{text}"),
        }
        let since_start_us = u64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.told += 1;
        let number = kept.told;
        if kept.events.len() == EVENTS_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(Numbered { number, since_start_us, text, event });
        drop(kept);
        self.0.more.notify_waiters();
    }

    /// What came after the event of this number; waits up to `wait` for one.
    pub async fn after(&self, number: u64, wait: Duration) -> Page {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let more = self.0.more.notified();
            tokio::pin!(more);
            // Enabled before looking, so that nothing told in between is missed.
            more.as_mut().enable();
            let page = self.page(number);
            if !page.events.is_empty() || tokio::time::timeout_at(deadline, more).await.is_err() {
                return page;
            }
        }
    }

    fn page(&self, after: u64) -> Page {
        let kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let first = kept.told - kept.events.len() as u64;
        // A number from a daemon before this one says nothing here.
        let after = if after > kept.told { 0 } else { after };
        let skip = usize::try_from(after.saturating_sub(first)).unwrap_or(usize::MAX);
        let events = kept.events.iter().skip(skip).take(PAGE_MAX).cloned().collect();
        Page { incarnation: self.0.incarnation, missed: first.saturating_sub(after), events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::status::What;
    use mainstay_core::time::UnixMs;

    fn event() -> Event {
        Event { at: UnixMs(1), severity: EventSeverity::Info, hierarchy: None, tag: None, what: What::InService }
    }

    #[tokio::test]
    async fn events_are_given_from_a_number_on_and_waited_for() {
        let events = Events::new(1, Instant::now());
        assert!(events.after(0, Duration::ZERO).await.events.is_empty());
        events.tell(event());
        events.tell(event());
        assert_eq!(events.after(1, Duration::ZERO).await.events[0].number, 2);
        let waiting = {
            let events = events.clone();
            tokio::spawn(async move { events.after(2, Duration::from_secs(20)).await })
        };
        tokio::task::yield_now().await;
        events.tell(event());
        assert_eq!(waiting.await.unwrap().events[0].number, 3);
    }

    #[tokio::test]
    async fn a_number_of_an_earlier_daemon_gives_everything() {
        let events = Events::new(2, Instant::now());
        events.tell(event());
        let page = events.after(700, Duration::ZERO).await;
        assert_eq!((page.incarnation, page.missed, page.events[0].number), (2, 0, 1));
    }

    #[tokio::test]
    async fn what_is_not_kept_any_more_is_counted() {
        let events = Events::new(1, Instant::now());
        (0..EVENTS_MAX + 5).for_each(|_| events.tell(event()));
        let page = events.after(2, Duration::ZERO).await;
        assert_eq!((page.missed, page.events[0].number), (3, 6));
    }
}
