//! What is said on the control socket, as JSON.

use mainstay_volume_core::io as core;
use mainstay_volume_core::types::{Epoch, Generation, Side};
use serde::{Deserialize, Serialize};

use crate::view::StatusView;

/// A line of somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The answer has it too.
    #[serde(default)]
    pub id: u64,
    /// What.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Everything at once.
    Status,
    /// To be told what happens from now on, and questions that are open.
    Follow,
    /// The right to write, or more of it (V1).
    #[serde(rename_all = "kebab-case")]
    Right {
        /// The claim.
        epoch: Epoch,
        /// Which daemon has entered it in its journal; 0: there is no telling.
        #[serde(default)]
        entered: u64,
        /// When it ends: ms since the machine was started (CLOCK_BOOTTIME), so that no time is lost on the way here.
        until_boot_ms: Option<u64>,
    },
    /// It is taken back.
    RightEnded,
    /// The answer to [`Said::MarkPeer`] or [`Said::MarkArbiter`].
    #[serde(rename_all = "kebab-case")]
    Marked {
        /// Which question.
        question: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The peer's source asks, over a comm path, that this copy is marked outdated (V3). Answered by
    /// [`Reply::Marked`].
    #[serde(rename_all = "kebab-case")]
    MarkOutdated {
        /// Its claim.
        epoch: Epoch,
        /// Where it goes on from.
        generation: Generation,
    },
    /// Become the source.
    Promote(Basis),
    /// Become a target.
    Demote,
    /// Go on without the peer.
    Pause,
    /// Meet it again.
    Resume,
    /// Compare both copies.
    Verify,
    /// Do not believe this copy any more.
    Invalidate,
    /// After a split brain: this side's data survives.
    Resolve(Side),
    /// Become a target if this is the source, then end the process. As SIGTERM does.
    Stop,
}

/// See [`core::Basis`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Basis {
    /// Nothing.
    Free,
    /// The operator's word.
    Confirmed,
    /// Over comm paths.
    #[allow(missing_docs, reason = "the core's has it")]
    Automatic { together: bool },
    /// The arbiter has the claim.
    #[allow(missing_docs, reason = "the core's has it")]
    Arbiter { marked: bool },
    /// The operator's, who was shown what may be lost.
    Force,
}

/// See [`core::Marked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// It is durable.
    Done,
    /// Nobody answered.
    Unreachable,
    /// There is a newer claim.
    Superseded(Epoch),
    /// The target is in contact.
    InContact,
}

/// A line of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", untagged)]
pub enum Said {
    /// An answer.
    Reply {
        /// To which ask.
        id: u64,
        /// What.
        reply: Reply,
    },
    /// Something people want to know.
    #[allow(missing_docs, reason = "the text says it")]
    Event { event: String },
    /// V3: have the peer's copy marked, over any comm path, and answer with [`Ask::Marked`].
    #[allow(missing_docs, reason = "see Question")]
    #[serde(rename_all = "kebab-case")]
    MarkPeer { mark_peer: Question },
    /// V3: say in the arbiter whether the peer's copy is outdated, and answer with [`Ask::Marked`].
    #[allow(missing_docs, reason = "see Question")]
    #[serde(rename_all = "kebab-case")]
    MarkArbiter { mark_arbiter: Question },
}

/// A question for the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Question {
    /// Its number.
    pub question: u64,
    /// This copy's claim.
    pub epoch: Epoch,
    /// For the peer: the generation this copy goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// For the arbiter: whether the peer's copy is outdated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outdated: Option<bool>,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is done, or known.
    Done,
    /// It is not.
    Error(String),
    /// To [`Ask::Status`].
    Status(Box<StatusView>),
    /// To [`Ask::MarkOutdated`].
    Marked(Outcome),
}

/// Reads a line.
///
/// # Errors
/// When it is no ask.
pub fn parse(line: &[u8]) -> Result<Line, serde_json::Error> {
    serde_json::from_slice(line)
}

/// The number of a line that is no ask, if it has one: so that whoever waits for the answer learns why.
#[must_use]
pub fn id_of(line: &[u8]) -> u64 {
    let value = serde_json::from_slice::<serde_json::Value>(line);
    value.ok().and_then(|value| value.get("id")?.as_u64()).unwrap_or(0)
}

impl From<Basis> for core::Basis {
    fn from(basis: Basis) -> Self {
        match basis {
            Basis::Free => Self::Free,
            Basis::Confirmed => Self::Confirmed,
            Basis::Automatic { together } => Self::Automatic { together },
            Basis::Arbiter { marked } => Self::Arbiter { marked },
            Basis::Force => Self::Force,
        }
    }
}

impl From<Outcome> for core::Marked {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Unreachable => Self::Unreachable,
            Outcome::Superseded(epoch) => Self::Superseded(epoch),
            Outcome::InContact => Self::InContact,
        }
    }
}

impl From<core::Marked> for Outcome {
    fn from(outcome: core::Marked) -> Self {
        match outcome {
            core::Marked::Done => Self::Done,
            core::Marked::Unreachable => Self::Unreachable,
            core::Marked::Superseded(epoch) => Self::Superseded(epoch),
            core::Marked::InContact => Self::InContact,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_read_as_they_are_written() {
        let epoch = Epoch { counter: 7, side: Side::A };
        let cases = [
            (r#"{"id":1,"ask":"status"}"#, Ask::Status),
            (r#"{"id":1,"ask":{"promote":"free"}}"#, Ask::Promote(Basis::Free)),
            (
                r#"{"id":1,"ask":{"promote":{"automatic":{"together":true}}}}"#,
                Ask::Promote(Basis::Automatic { together: true }),
            ),
            (
                r#"{"id":1,"ask":{"right":{"epoch":{"counter":7,"side":"A"},"entered":5,"until-boot-ms":null}}}"#,
                Ask::Right { epoch, entered: 5, until_boot_ms: None },
            ),
            (
                r#"{"id":1,"ask":{"marked":{"question":3,"outcome":"done"}}}"#,
                Ask::Marked { question: 3, outcome: Outcome::Done },
            ),
            (r#"{"id":1,"ask":{"resolve":"B"}}"#, Ask::Resolve(Side::B)),
        ];
        for (line, ask) in cases {
            assert_eq!(parse(line.as_bytes()).unwrap(), Line { id: 1, ask: ask.clone() });
            assert_eq!(serde_json::to_string(&Line { id: 1, ask }).unwrap(), line);
        }
        assert!(parse(br#"{"id":5,"ask":"stattus"}"#).unwrap_err().to_string().contains("unknown variant"));
        assert_eq!(id_of(br#"{"id":5,"ask":"stattus"}"#), 5);
    }
}
