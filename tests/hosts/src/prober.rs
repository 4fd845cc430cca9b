//! Asks the application itself who runs it, on every host, all the while, from a network of its own.
//!
//! Each question is a TCP connection of its own, as a client's: nothing that was open before tells anything. What it
//! learns is a [`Timeline`]; it asks no daemon, and judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mainstay_test_support::{poll_until, wait_until};

use crate::net::Net;
use crate::timeline::{Answer, Timeline};

/// From one question to the next, in ms.
const INTERVAL_MS: u64 = 15;
/// How long a question waits for its answer, in ms: on an idle machine it takes less than one.
pub(crate) const ASK_MS_MAX: u64 = 100;
/// An answer is a line of this many bytes at most.
const ANSWER_BYTES_MAX: u64 = 200;
/// How old a host's last word may be to count as what it says now, in ms.
const NOW_MS: u64 = 400;
/// Who serves has to have served for so long: on a busy machine a single question may go without its answer.
const STEADY: Duration = Duration::from_millis(400);

/// See the module. It ends when this is dropped.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    timeline: Timeline,
    /// Of each address: when its last question was asked, and which host has answered.
    last: BTreeMap<SocketAddr, (Duration, Option<String>)>,
    /// What came that was no answer of that host's application.
    wrong: Vec<String>,
}

impl Prober {
    /// Begins to ask each host's application at its own address.
    #[must_use]
    pub fn of_hosts(net: &Net) -> Self {
        let targets = net.hosts().iter().map(|host| (host.clone(), net.app(host)));
        Self::start(net, &targets.collect::<Vec<_>>())
    }

    /// Begins to ask at one address that moves from host to host; an answer counts for the host that it names.
    #[must_use]
    pub fn of_address(net: &Net, address: SocketAddr) -> Self {
        Self::start(net, &[(String::new(), address)])
    }

    fn start(net: &Net, targets: &[(String, SocketAddr)]) -> Self {
        let shared = Arc::new(Shared { began: Instant::now(), stop: false.into(), seen: Mutex::default() });
        let threads = targets.iter().map(|(host, address)| {
            let (net, shared, host, address) = (net.clone(), Arc::clone(&shared), host.clone(), *address);
            thread::spawn(move || match net.enter("prober") {
                Ok(()) => shared.ask_all_the_while(&host, address),
                Err(error) => shared.seen().wrong.push(format!("the prober's network could not be entered: {error}")),
            })
        });
        Self { threads: threads.collect(), shared }
    }

    /// The moment, as the timeline counts.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// All that was answered until now.
    ///
    /// # Panics
    /// When something answered that is no application of ours.
    #[must_use]
    #[track_caller]
    pub fn timeline(&self) -> Timeline {
        let seen = self.shared.seen();
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        seen.timeline.clone()
    }

    /// The hosts that answer now; `None` while one of them was not asked lately.
    #[must_use]
    pub fn serving(&self) -> Option<Vec<String>> {
        let (now, seen) = (self.now(), self.shared.seen());
        let lately = seen.last.values().all(|(asked, _)| now.saturating_sub(*asked) < Duration::from_millis(NOW_MS));
        let serving: BTreeSet<String> = seen.last.values().filter_map(|(_, answered)| answered.clone()).collect();
        (lately && !seen.last.is_empty()).then(|| serving.into_iter().collect())
    }

    /// Waits until exactly these hosts serve.
    ///
    /// # Panics
    /// When that does not come true within `limit`.
    #[track_caller]
    pub fn wait_until_served_by(&self, limit: Duration, hosts: &[&str]) {
        let mut since = None;
        let served = poll_until(limit, || {
            since = self.serving().filter(|serving| serving == hosts).map(|_| since.unwrap_or(self.now()));
            since.is_some_and(|since| self.now() >= since + STEADY)
        });
        assert!(
            served,
            "waited {:.1} s for {hosts:?} to serve and nobody else, in vain. Who answered:\n{}",
            limit.as_secs_f64(),
            self.timeline()
        );
    }

    /// Watches for a time, through which exactly these hosts serve, without an outage and without being started anew.
    ///
    /// # Panics
    /// When something else was answered.
    #[track_caller]
    pub fn watch(&self, time: Duration, hosts: &[&str]) {
        let from = self.now();
        wait_until(time * 2 + Duration::from_secs(5), "the time of watching to pass", || self.now() >= from + time);
        let timeline = self.timeline();
        assert_eq!(timeline.served_since(from), hosts, "from {:.3} s on, who served:\n{timeline}", from.as_secs_f64());
        for host in hosts {
            let of_host =
                Timeline(timeline.0.iter().filter(|it| it.host == *host && it.asked >= from).cloned().collect());
            let outages = of_host.outages();
            assert!(
                of_host.runs().len() == 1 && outages.is_empty(),
                "{host} was to serve all the while from {:.3} s on: {outages:?}\n{timeline}",
                from.as_secs_f64()
            );
        }
    }

    /// At no time did it run twice.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn never_two(&self) {
        let timeline = self.timeline();
        assert_eq!(timeline.overlaps(), [], "who served:\n{timeline}");
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask_all_the_while(&self, host: &str, address: SocketAddr) {
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let asked = self.began.elapsed();
            // Who does not answer is not there: why not makes no difference to a client.
            let answer = ask(address).ok();
            let answered = self.began.elapsed();
            let mut seen = self.seen();
            match answer.as_deref().map(|answer| answer.trim_end().split_once(' ')) {
                None => {
                    seen.last.insert(address, (asked, None));
                }
                Some(Some((name, run))) if host.is_empty() || host == name => {
                    seen.last.insert(address, (asked, Some(name.to_owned())));
                    let (host, run) = (name.to_owned(), run.to_owned());
                    seen.timeline.0.push(Answer { host, run, asked, answered });
                }
                Some(_) => seen.wrong.push(format!("{host} at {address} answered {answer:?}")),
            }
            drop(seen);
            next += Duration::from_millis(INTERVAL_MS);
            // One that took long is followed by the next at once, and by no more than that.
            next = next.max(Instant::now());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let limit = Duration::from_millis(ASK_MS_MAX);
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    if answer.ends_with('\n') { Ok(answer) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has panicked only if a lock was poisoned by a panic that was told already.
            let _ = thread.join();
        }
    }
}
