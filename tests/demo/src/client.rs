//! A client that uses the shop all the while, as a person's browser does: looks the name up, fetches the page from the
//! address it says, and again.
//!
//! Whatever goes wrong on the way counts as a failure: no answer, no address, nobody there, an error page, a page of
//! another node than the name points to. An interruption lasts from the last good answer before the failures to the
//! first good one after them, so it holds what a client really misses, and up to one interval on top.

mod interruptions;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hickory_server::proto::rr::Name;

use interruptions::{Interruptions, Turn};

use crate::http::{self, HttpError};
use crate::lookup::{self, LookupError};
use crate::stage::NODES;
use crate::timeline::{Look, Timeline, Who};

/// From one question to the next, in ms.
pub(crate) const INTERVAL_MS: u64 = 20;
/// How long each step of a question may take, in ms: on loopback it takes a few, unless the machine is very busy.
const STEP_MS_MAX: u64 = 2_000;

/// What a client knows: where names are looked up, the name, and the port.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The name server.
    pub(crate) name_server: SocketAddr,
    /// The name.
    pub(crate) name: Name,
    /// The port behind it.
    pub(crate) port: u16,
    /// Which node has which address: for telling a wrong page.
    pub(crate) nodes: BTreeMap<Ipv4Addr, &'static str>,
}

/// One question, by hand.
#[derive(Debug, clap::Args)]
pub(crate) struct Once {
    /// The name server.
    #[arg(value_name = "HOST:PORT")]
    server: SocketAddr,
    /// The name.
    name: Name,
    /// The port behind it.
    port: u16,
}

impl Once {
    /// Asks, and prints the page.
    pub(crate) fn ask(self) -> ExitCode {
        let nodes = NODES.iter().map(|(name, address)| (*address, *name)).collect();
        let target = Target { name_server: self.server, name: self.name, port: self.port, nodes };
        match ask(&target, 1) {
            Ok(node) => {
                println!("{}", page_of(node));
                ExitCode::SUCCESS
            }
            Err(failure) => {
                eprintln!("no good answer: {failure}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Why a question had no good answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Lookup(#[from] LookupError),
    #[error("{address} ({node}): {source}")]
    Page { address: Ipv4Addr, node: &'static str, source: HttpError },
    #[error("the name points to {0}, which is no node's address")]
    Stranger(Ipv4Addr),
    #[error("the name points to {node}, and the page says: {page}")]
    Wrong { node: &'static str, page: String },
}

/// The client, until it is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ends: AtomicBool,
    seen: Mutex<Interruptions>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Interruptions> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Begins to ask, and tells the timeline when it begins to fail and when all is well again.
    pub(crate) fn start(target: Target, timeline: Timeline) -> Self {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || ask_all_the_while(&target, &timeline, &for_thread));
        Self { shared, thread: Some(thread) }
    }

    /// The node that gave the newest answer, if the newest answer was good and came after `moment`.
    pub(crate) fn served_by(&self, moment: Instant) -> Option<&'static str> {
        self.shared.lock().serving_since(moment)
    }

    /// What was missed since `moment`; nothing while it still lasts.
    pub(crate) fn outage(&self, moment: Instant) -> Option<Duration> {
        self.shared.lock().outage(moment)
    }

    /// Has its thread ended, though nobody told it to?
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the client's thread panicked");
        }
    }
}

fn ask_all_the_while(target: &Target, timeline: &Timeline, shared: &Shared) {
    let interval = Duration::from_millis(INTERVAL_MS);
    let mut id: u16 = 0;
    while !shared.ends.load(Ordering::Relaxed) {
        let began = Instant::now();
        id = id.wrapping_add(1);
        let answer = ask(target, id).map_err(|failure| failure.to_string());
        let turn = shared.lock().asked(Instant::now(), answer);
        match turn {
            Some(Turn::Failing(why)) => timeline.line(Who::Client, Look::Bad, &format!("no good answer: {why}")),
            Some(Turn::Good { node, missed: None }) => {
                timeline.line(Who::Client, Look::Good, &format!("the first page, served by {node}"));
            }
            Some(Turn::Good { node, missed: Some(missed) }) => {
                let text = format!("good again after {:.3} s, served by {node}", missed.as_secs_f64());
                timeline.line(Who::Client, Look::Good, &text);
            }
            None => {}
        }
        thread::sleep(interval.saturating_sub(began.elapsed()));
    }
}

/// The node that serves.
fn ask(target: &Target, id: u16) -> Result<&'static str, Failure> {
    let limit = Duration::from_millis(STEP_MS_MAX);
    let address = lookup::address(target.name_server, &target.name, id, limit)?;
    let node = *target.nodes.get(&address).ok_or(Failure::Stranger(address))?;
    let place = SocketAddr::new(IpAddr::V4(address), target.port);
    let page =
        http::get(place, &target.name.to_utf8(), limit).map_err(|source| Failure::Page { address, node, source })?;
    if page == page_of(node) { Ok(node) } else { Err(Failure::Wrong { node, page }) }
}

/// What the page of the shop says on this node.
pub(crate) fn page_of(node: &str) -> String {
    format!("Welcome to the shop. You are served by {node}.")
}
