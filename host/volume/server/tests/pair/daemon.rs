//! The daemons of both nodes and their arbiter, as far as a volume needs them: who has the newest claim, whose copy is
//! marked outdated, and answers to the questions of the volumes' processes.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};

use super::{A, B, Half, Pair, try_ask};

/// What is noted in the arbiter, and what was told.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The newest claim.
    pub(crate) claim: u64,
    /// Whose it is: 0 or 1.
    holder: usize,
    /// Whose copies are outdated.
    pub(crate) marked: [bool; 2],
    /// Events of each.
    pub(crate) events: [Vec<String>; 2],
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arbiter(Arc<Mutex<Notes>>);

impl Arbiter {
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new claim of this copy's node: its number, and whether this copy is marked.
    pub(crate) fn claim(&self, copy: Half) -> (u64, bool) {
        let mut notes = self.notes();
        notes.claim += 1;
        notes.holder = copy as usize;
        (notes.claim, notes.marked[copy as usize])
    }

    /// Claims for this copy and promotes it, unless that takes force: then it says why.
    pub(crate) fn promote(&self, pair: &Pair, copy: Half) -> Result<(), String> {
        let (claim, marked) = self.claim(copy);
        let right = json!({ "right": { "epoch": { "counter": claim, "side": copy.name() }, "until-boot-ms": null } });
        assert_eq!(pair.ask(copy, &right), json!("done"));
        let reply = pair.ask(copy, &json!({ "promote": { "arbiter": { "marked": marked } } }));
        match reply["error"].as_str() {
            None => {
                assert_eq!(reply, json!("done"));
                Ok(())
            }
            Some(why) if why.contains("only force") => Err(why.to_owned()),
            Some(why) => panic!("{copy:?} cannot be promoted: {why}"),
        }
    }

    /// Of a pair whose processes are started now: `A` is the source, and both copies have everything.
    pub(crate) fn of_served(pair: &mut Pair) -> Self {
        let arbiter = Self::default();
        for copy in [B, A] {
            pair.serve(copy);
            arbiter.follow(pair, copy);
        }
        arbiter.promote(pair, A).unwrap();
        pair.wait_connected(A);
        arbiter
    }

    /// Answers what the process of this copy asks, for as long as it lives.
    pub(crate) fn follow(&self, pair: &Pair, copy: Half) {
        let mut stream = UnixStream::connect(pair.control(copy)).unwrap();
        stream.write_all(b"{\"id\":1,\"ask\":\"follow\"}\n").unwrap();
        let (notes, peer) = (self.clone(), pair.control(copy.other()));
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        // Followed from here on, not from some time on.
        lines.next().unwrap().unwrap();
        thread::spawn(move || {
            // It ends with the process at the other end, and that with its guard.
            for line in lines.map_while(Result::ok) {
                if let Some(answer) = notes.answer(copy, &peer, &line)
                    && writeln!(stream, "{answer}").is_err()
                {
                    return;
                }
            }
        });
    }

    fn answer(&self, copy: Half, peer: &Path, line: &str) -> Option<Value> {
        let said: Value = serde_json::from_str(line).unwrap();
        if let Some(event) = said["event"].as_str() {
            self.notes().events[copy as usize].push(event.to_owned());
            return None;
        }
        let (question, outcome) = if said["mark-peer"].is_object() {
            let asked = &said["mark-peer"];
            let ask = json!({ "mark-outdated": { "epoch": asked["epoch"], "generation": asked["generation"] } });
            let reply = try_ask(peer, &ask).unwrap_or_default();
            let outcome = if reply["marked"].is_null() { json!("unreachable") } else { reply["marked"].clone() };
            (asked["question"].clone(), outcome)
        } else if said["mark-arbiter"].is_object() {
            let asked = &said["mark-arbiter"];
            let mut notes = self.notes();
            let outcome = if (asked["epoch"]["counter"].as_u64(), copy as usize) == (Some(notes.claim), notes.holder) {
                notes.marked[copy.other() as usize] = asked["outdated"].as_bool().unwrap();
                json!("done")
            } else {
                let side = if notes.holder == A as usize { "A" } else { "B" };
                json!({ "superseded": { "counter": notes.claim, "side": side } })
            };
            (asked["question"].clone(), outcome)
        } else {
            return None;
        };
        Some(json!({ "id": 2, "ask": { "marked": { "question": question, "outcome": outcome } } }))
    }
}
