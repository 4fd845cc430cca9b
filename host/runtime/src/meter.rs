//! Processor time of one call: how much it used, when it has used too much, and whose turn it is.
//!
//! A call is measured whenever it is polled, by the clock of the thread that polls it, so a busy machine and a
//! long wait cost it nothing. A kit that computes is interrupted every tick; after two it counts as *computing*,
//! and only a limited number of those go on at a time, so that threads stay free for calls that are short.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::UpdateDeadline;

use crate::limits::contract;

const NS_PER_MS: u64 = 1_000_000;

/// The call computed for longer than it may.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the call's processor time of {budget_ms} ms is spent")]
pub(crate) struct CpuSpent {
    pub(crate) budget_ms: u64,
}

/// The meter of one call.
pub(crate) struct Meter {
    budget_ns: u64,
    /// In polls that have ended.
    used_ns: AtomicU64,
    /// The thread's clock when the present poll began.
    poll_began_ns: AtomicU64,
    /// The right to go on computing, held for a tick.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
    turns: Arc<Semaphore>,
}

impl Meter {
    pub(crate) fn new(budget_ms: u64, turns: Arc<Semaphore>) -> Self {
        Self {
            budget_ns: budget_ms.saturating_mul(NS_PER_MS),
            used_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            turn: Mutex::new(None),
            turns,
        }
    }

    /// Processor time used so far, in ms; not counting a poll that is going on.
    pub(crate) fn used_ms(&self) -> u64 {
        self.used_ns.load(Ordering::Relaxed) / NS_PER_MS
    }

    /// What happens at a tick, called from inside a poll.
    pub(crate) fn tick(self: &Arc<Self>) -> Result<UpdateDeadline, CpuSpent> {
        let in_this_poll = thread_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed));
        let used_ns = self.used_ns.load(Ordering::Relaxed).saturating_add(in_this_poll);
        if used_ns > self.budget_ns {
            return Err(CpuSpent { budget_ms: self.budget_ns / NS_PER_MS });
        }
        if used_ns < contract::COMPUTING_AFTER_MS * NS_PER_MS {
            return Ok(UpdateDeadline::Yield(1));
        }
        let meter = Arc::clone(self);
        let wait = async move {
            // The end of this poll gives the turn back.
            tokio::task::yield_now().await;
            // Never closed; if it were, going on without a turn would be right.
            let turn = Arc::clone(&meter.turns).acquire_owned().await.ok();
            *meter.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
        };
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(wait)))
    }

    fn begin_poll(&self) {
        self.poll_began_ns.store(thread_ns(), Ordering::Relaxed);
    }

    fn end_poll(&self) {
        let used = thread_ns().saturating_sub(self.poll_began_ns.load(Ordering::Relaxed));
        let total = self.used_ns.load(Ordering::Relaxed).saturating_add(used);
        self.used_ns.store(total, Ordering::Relaxed);
        if total >= contract::COMPUTING_AFTER_MS * NS_PER_MS {
            self.turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

/// Processor time of this thread.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has had this clock since 2.6.12");
    let (seconds, ns) = (time.tv_sec(), time.tv_nsec());
    u64::try_from(seconds).unwrap_or(0) * 1_000_000_000 + u64::try_from(ns).unwrap_or(0)
}

/// A future whose polls are measured, and whose panics end with it.
pub(crate) struct Metered<'a, F> {
    pub(crate) future: Pin<&'a mut F>,
    pub(crate) meter: &'a Meter,
}

/// The last words of a panic.
#[derive(Debug)]
pub(crate) struct Panicked(pub(crate) String);

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.meter.begin_poll();
        // The future is not polled again after a panic, and what it shares with others it shares through locks
        // that do not mind.
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx)));
        self.meter.end_poll();
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(Panicked(last_words(panic.as_ref())))),
        }
    }
}

/// What a panic had to say.
pub(crate) fn last_words(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => crate::text::one_line(text, 500),
        (None, None) => "it left no message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn compute(ms: u64) {
        let began = thread_ns();
        while thread_ns() - began < ms * NS_PER_MS {
            std::hint::spin_loop();
        }
    }

    /// What the engine does with it.
    async fn pass(deadline: UpdateDeadline) {
        if let UpdateDeadline::YieldCustom(_, wait) = deadline {
            wait.await;
        } else {
            assert!(matches!(deadline, UpdateDeadline::Yield(1)), "a tick always yields");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn computing_is_counted_and_waiting_is_not() {
        let meter = Meter::new(1000, Arc::new(Semaphore::new(1)));
        let work = async {
            compute(5);
            tokio::time::sleep(Duration::from_millis(50)).await;
            compute(5);
        };
        assert!(Metered { future: std::pin::pin!(work), meter: &meter }.await.is_ok());
        assert!((10..40).contains(&meter.used_ms()), "{} ms", meter.used_ms());
    }

    #[tokio::test]
    async fn a_panic_ends_with_the_call() {
        let meter = Meter::new(1000, Arc::new(Semaphore::new(1)));
        let work = async {
            tokio::task::yield_now().await;
            panic!("meant to");
        };
        let ended: Result<(), Panicked> = Metered { future: std::pin::pin!(work), meter: &meter }.await;
        assert_eq!(ended.unwrap_err().0, "meant to");
    }

    #[tokio::test]
    async fn the_budget_ends_it() {
        let meter = Arc::new(Meter::new(30, Arc::new(Semaphore::new(1))));
        let work = async {
            let mut ticks = 0;
            loop {
                compute(10);
                match meter.tick() {
                    Ok(deadline) => pass(deadline).await,
                    Err(spent) => return (ticks, spent.budget_ms),
                }
                ticks += 1;
            }
        };
        let Ok((ticks, budget_ms)) = Metered { future: std::pin::pin!(work), meter: &meter }.await else {
            panic!("nothing in it panics")
        };
        assert_eq!(budget_ms, 30);
        assert!((2..=3).contains(&ticks), "{ticks}");
    }

    /// With one turn, no more than one of three calls computes at a time, and all get on.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn computing_calls_take_turns() {
        let turns = Arc::new(Semaphore::new(1));
        let computing = Arc::new(AtomicU64::new(0));
        let together = Arc::new(AtomicU64::new(0));
        let call = || {
            let meter = Arc::new(Meter::new(10_000, Arc::clone(&turns)));
            let (computing, together) = (Arc::clone(&computing), Arc::clone(&together));
            async move {
                let work = async {
                    // Until it counts as computing.
                    for _ in 0..3 {
                        compute(10);
                        pass(meter.tick().unwrap()).await;
                    }
                    for _ in 0..8 {
                        if computing.fetch_add(1, Ordering::SeqCst) > 0 {
                            together.fetch_add(1, Ordering::SeqCst);
                        }
                        compute(10);
                        computing.fetch_sub(1, Ordering::SeqCst);
                        pass(meter.tick().unwrap()).await;
                    }
                };
                assert!(Metered { future: std::pin::pin!(work), meter: &meter }.await.is_ok());
            }
        };
        let calls: Vec<_> = (0..3).map(|_| tokio::spawn(call())).collect();
        for call in calls {
            call.await.unwrap();
        }
        assert_eq!(together.load(Ordering::SeqCst), 0);
        assert_eq!(turns.available_permits(), 1, "the turn was given back");
    }
}
