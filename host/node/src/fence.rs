//! Runs the commands that fence peers (O15), each under a supervisor, with its time, one at a time for each peer.
//!
//! Success is told as proof, and anything else as none: whether the peer is off then, nobody knows. A command that an
//! earlier daemon has left running is ended, whole: it was decided on what is not known any more, and the peer may have
//! come back since.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::names::NodeName;
use mainstay_core::node::FenceId;
use mainstay_core::spec::{FenceSpec, Spec};
use mainstay_supervisor::{Commands, Ending, Outcome, Owner, Request};
use tokio::sync::mpsc;

use crate::happening::Happening;

/// How many lines of a failed command's output are told: its last words.
const LINES_MAX: usize = 5;
/// And how many characters of them, so that an alarm can be read.
const CHARACTERS_MAX: usize = 1000;
/// The operation by which a fence command is known among those an earlier daemon has left.
pub(crate) const OPERATION: &str = "fence";

/// How each peer is fenced.
#[derive(Clone, Debug)]
pub struct Fences {
    peers: BTreeMap<NodeName, Arc<Peer>>,
    cluster: String,
    commands: Commands,
    happenings: mpsc::Sender<Happening>,
}

#[derive(Debug)]
struct Peer {
    spec: FenceSpec,
    /// Held while its command runs.
    turn: tokio::sync::Mutex<()>,
}

impl Fences {
    /// As the config has it.
    #[must_use]
    pub fn new(spec: &Spec, commands: Commands, happenings: mpsc::Sender<Happening>) -> Self {
        let peers = spec.nodes.iter().filter_map(|(name, node)| {
            Some((name.clone(), Arc::new(Peer { spec: node.fence.clone()?, turn: tokio::sync::Mutex::new(()) })))
        });
        Self { peers: peers.collect(), cluster: spec.cluster.clone(), commands, happenings }
    }

    /// Runs the command for that peer; how it ended comes as a happening.
    pub fn start(&self, id: FenceId, node: NodeName) {
        let this = self.clone();
        tokio::spawn(async move {
            let ended = this.fence(id, &node).await;
            match &ended {
                Ok(said) => tracing::warn!("{node} is fenced: {said}"),
                Err(why) => tracing::error!("{node} could not be fenced: {why}"),
            }
            // Without a driver there is nobody to tell: the daemon stops.
            let _ = this.happenings.send(Happening::FenceEnded(id, ended)).await;
        });
    }

    async fn fence(&self, id: FenceId, node: &NodeName) -> Result<String, String> {
        let peer = self.peers.get(node).ok_or_else(|| format!("the config has no [node.{node}.fence]"))?;
        let _turn = peer.turn.lock().await;
        let (program, args) =
            peer.spec.command.split_first().ok_or_else(|| format!("[node.{node}.fence] names no command"))?;
        tracing::warn!("{node} is being fenced: {}", peer.spec.command.join(" "));
        let owner = Owner {
            tag: node.to_string(),
            operation: OPERATION.to_owned(),
            operation_id: format!("{}-{}", std::process::id(), id.0),
        };
        let request = Request {
            args: args.to_vec(),
            env: vec![
                ("MAINSTAY_NODE".to_owned(), node.to_string()),
                ("MAINSTAY_CLUSTER".to_owned(), self.cluster.clone()),
            ],
            timeout_ms: peer.spec.timeout.0,
            ..Request::new(owner, program)
        };
        let mut running = self.commands.start(request).await.map_err(|error| error.to_string())?;
        let outcome = running.outcome().await.map_err(|error| error.to_string())?;
        let said = last_words(&outcome);
        let with = |what: String| if said.is_empty() { what } else { format!("{what}; it said: {said}") };
        match outcome.ending {
            Ending::Exited(0) if said.is_empty() => Ok("its fence command has succeeded".to_owned()),
            Ending::Exited(0) => Ok(said),
            Ending::Exited(code) => Err(with(format!("{program} has ended with exit code {code}"))),
            Ending::Signalled(signal) => Err(with(format!("{program} was ended by signal {signal}"))),
            Ending::TimedOut => Err(with(format!("{program} was ended after {}", peer.spec.timeout))),
            Ending::Cancelled => Err(with(format!("{program} was ended"))),
        }
    }
}

/// The last lines of what it wrote, standard error before standard output.
fn last_words(outcome: &Outcome) -> String {
    let of = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LINES_MAX)..].iter().map(|line| (*line).to_owned()).collect()
    };
    let mut lines = of(&outcome.stderr);
    if lines.is_empty() {
        lines = of(&outcome.stdout);
    }
    let text = lines.join(" / ");
    let from = text.char_indices().rev().nth(CHARACTERS_MAX - 1).map_or(0, |(at, _)| at);
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_short() {
        let said = |stdout: &str, stderr: &str| {
            last_words(&Outcome {
                ending: Ending::Exited(1),
                stdout: stdout.into(),
                stderr: stderr.into(),
                truncated: false,
                duration_ms: 0,
                evidence: None,
            })
        };
        assert_eq!(said("", ""), "");
        assert_eq!(said("on\n", ""), "on");
        assert_eq!(said("on\n", "no answer\n\n"), "no answer");
        assert_eq!(said("1\n2\n3\n4\n5\n6\n7\n", ""), "3 / 4 / 5 / 6 / 7");
        assert_eq!(said(&"ä".repeat(5000), "").chars().count(), CHARACTERS_MAX);
    }
}
