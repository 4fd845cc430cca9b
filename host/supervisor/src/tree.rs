//! Ends a process tree, whoever holds it: the supervisor the one below it, a restarted daemon the one whose
//! supervisor was killed.
//!
//! First SIGTERM to every process, so that it can leave things in order; after a grace time everything left is
//! stopped, so that it cannot fork away, and killed, again and again until nothing is left. There is no giving up:
//! a process that waits in the kernel for a lost disk dies when the disk answers, and until then the command is not
//! over, because what it does there may still happen. That is said, once.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cgroup::Cgroup;
use crate::process::Identity;

/// Time from SIGTERM to SIGKILL, in ms. Enough to remove a lock file, little enough to fit into any call's budget.
pub(crate) const GRACE_MS: u64 = 2_000;
/// Looks at the tree while it is stopped, before it is killed. Each stops what the one before has missed.
const STOP_PASSES_MAX: u32 = 4;
/// Wait after the first round of kills, in ms; doubled each round.
const KILL_WAIT_MS_MIN: u64 = 5;
/// And at most.
const KILL_WAIT_MS_MAX: u64 = 1_000;
/// When to say that the tree does not die, in ms after the first kill.
const STUCK_MS: u64 = 5_000;

/// A tree that can be ended.
pub(crate) trait Tree {
    /// Who is in it now. Empty also if it cannot be found out just now.
    fn members(&mut self) -> Vec<Identity>;
    /// Is nothing left?
    fn is_gone(&mut self) -> bool;
    /// Waits until `until`, or until it may be that nothing is left.
    fn wait(&mut self, until: Instant);
    /// It does not die.
    fn is_stuck(&mut self);
    /// Its control group, if it has one.
    fn cgroup(&self) -> Option<&Cgroup>;
}

/// Returns when nothing is left of the tree.
pub(crate) fn end(tree: &mut dyn Tree) {
    terminate(tree);
    let killing_since = Instant::now();
    let mut wait_ms = KILL_WAIT_MS_MIN;
    let mut said = false;
    while !tree.is_gone() {
        kill(tree);
        let until = Instant::now() + Duration::from_millis(wait_ms);
        wait_until_gone(tree, until);
        wait_ms = (wait_ms * 2).min(KILL_WAIT_MS_MAX);
        if !said && killing_since.elapsed() > Duration::from_millis(STUCK_MS) {
            said = true;
            tree.is_stuck();
        }
    }
}

fn terminate(tree: &mut dyn Tree) {
    for member in tree.members() {
        signal(member, Signal::SIGTERM);
        // A stopped process takes the SIGTERM only when it goes on.
        signal(member, Signal::SIGCONT);
    }
    wait_until_gone(tree, Instant::now() + Duration::from_millis(GRACE_MS));
}

fn kill(tree: &mut dyn Tree) {
    if let Some(cgroup) = tree.cgroup() {
        cgroup.kill();
    }
    let mut stopped: Vec<Identity> = Vec::new();
    for _ in 0..STOP_PASSES_MAX {
        let new: Vec<Identity> = tree.members().into_iter().filter(|member| !stopped.contains(member)).collect();
        if new.is_empty() {
            break;
        }
        for member in &new {
            signal(*member, Signal::SIGSTOP);
        }
        stopped.extend(new);
    }
    for member in stopped {
        signal(member, Signal::SIGKILL);
    }
}

fn wait_until_gone(tree: &mut dyn Tree, until: Instant) {
    while Instant::now() < until && !tree.is_gone() {
        tree.wait(until);
    }
}

/// A process that is gone needs no signal, and one that may not be signalled (set-user-id, under an ordinary user's
/// daemon) is still a member in the next round, and in the end said to be stuck.
fn signal(member: Identity, signal: Signal) {
    drop(member.signal(signal));
}
