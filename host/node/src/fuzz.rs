//! The doors through which bytes come in that nobody vouches for, each as one function of bytes alone.
//!
//! A fuzzer calls them (`tests/fuzz`), and so does a test with what the fuzzer began from (`host/node/tests/corpus.rs`).
//! Whatever the bytes are: nothing panics, nothing that does not count comes through, and what is understood is
//! understood in one way only.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mainstay_core::state::{Record, State};
use tokio::sync::mpsc;

use crate::journal;
use crate::links::Me;
use crate::links::beats::Inbox;
use crate::links::dropped::{Dropped, Reason};
use crate::links::keys::{self, Keys, SECRET_BYTES, SessionKeys, Side};
use crate::links::wire::{self, FRAME_BYTES_MAX, Frame};

/// The comm path on which [`datagram`] listens.
pub const PATH: &str = "lan";

/// One end of a session between the nodes `a`, which has connected, and `b`, whose keys everybody knows.
///
/// # Panics
/// With another name.
#[must_use]
pub fn keys_of(name: &str) -> Keys {
    let (peer, side) = match name {
        "a" => ("b", Side::Connected),
        "b" => ("a", Side::Accepted),
        other => panic!("there is no node {other}"),
    };
    let keys = Keys::new(Me { cluster: "mail".into(), name: name.into(), peers: [peer.into()].into() });
    let made = SessionKeys::new(&[7; SECRET_BYTES], side);
    let id = made.id();
    keys.expect(&peer.into(), made);
    keys.settle(&peer.into(), id);
    keys
}

/// A datagram that comes to `b`. Says whether it was a heartbeat that counts.
///
/// # Panics
/// When it is neither taken nor counted as dropped, or both.
pub fn datagram(bytes: &[u8]) -> bool {
    let (sender, mut happenings) = mpsc::channel(2);
    let dropped = Dropped::default();
    let inbox = Inbox::new(PATH.into(), Arc::new(keys_of("b")), dropped.clone(), sender);
    let from = SocketAddr::from(([127, 0, 0, 1], 1));
    inbox.take(bytes, from);
    let all = || Reason::ALL.iter().map(|reason| dropped.count(*reason)).sum::<u64>();
    let taken = happenings.try_recv().is_ok();
    assert_eq!(u64::from(!taken), all(), "it is either taken or dropped");
    // A second time it counts never.
    inbox.take(bytes, from);
    assert!(happenings.try_recv().is_err(), "a heartbeat counts once");
    // What is behind the tag, too: a fuzzer does not find one that fits.
    if let Some(beat) = keys::payload(bytes) {
        let again = serde_json::to_vec(&beat).expect("a heartbeat can be written");
        assert_eq!(keys::payload(&again), Some(beat));
    }
    taken
}

/// Frames as they come in a session. Says how many there are until one is none.
///
/// # Panics
/// When a frame is not the same after it was written and read again.
pub fn frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(frame) = now(wire::read::<Frame>(&mut bytes, FRAME_BYTES_MAX)) {
        let mut written = Vec::new();
        if now(wire::write(&mut written, &frame)).is_ok() {
            let again = now(wire::read::<Frame>(&mut written.as_slice(), FRAME_BYTES_MAX));
            assert_eq!(again.ok().as_ref(), Some(&frame));
        }
        count += 1;
    }
    count
}

/// A journal's file, or the payload of one of its frames. Says whether it is one of the two.
///
/// # Panics
/// When a record is not the same after it was written and read again.
pub fn journal(bytes: &[u8]) -> bool {
    let whole = journal::examine(bytes).is_ok();
    let framed = journal::examine(&journal::file_of(bytes));
    match serde_json::from_slice::<Record>(bytes) {
        Ok(record) => {
            let mut state = State::default();
            state.apply(&record);
            assert!(framed == Ok(state), "a record in a journal does what it does by itself");
            let again = serde_json::to_vec(&record).expect("a record can be written");
            assert_eq!(serde_json::from_slice::<Record>(&again).ok(), Some(record));
            true
        }
        Err(_) => {
            assert!(framed.is_err(), "what is no record is damage");
            whole
        }
    }
}

/// What never has to wait: its bytes are all there.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("bytes in memory are not waited for"),
    }
}
