//! What an operator writes for an application: which programs, and how they are called.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_sdk::{Params, Span};
use serde::Deserialize;

/// An application with a program that brings it in service and one that takes it out.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GenAppParams {
    /// Brings the application in service, and may leave it running in the background. Called when it runs already, it leaves it alone.
    pub restore: Program,
    /// Takes the application out of service. Called when it does not run, it succeeds.
    pub remove: Program,
    /// Looks whether the application serves. Without it the application is not monitored.
    pub quick_check: Option<Program>,
    /// Repairs the application on this node, and may leave it running in the background.
    pub recover: Option<Program>,
    /// Asked on a standby: could restore succeed there, now? Exits with another code, and says why, if not.
    pub readiness: Option<Program>,
    /// What local recovery does without a recover program (default: restart).
    #[serde(default)]
    pub without_recover: WithoutRecover,
    /// What the programs get as their id, after `-i` (default: the tag).
    pub id: Option<String>,
    /// The user the programs run as; the grants have to name it too (default: the one the grant names, or the daemon's).
    pub user: Option<String>,
    /// Where the programs run (default: /).
    pub working_directory: Option<String>,
    /// What the programs find in their environment, beside PATH and LANG.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// A program: its absolute path, or a table that says more.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(untagged)]
pub enum Program {
    /// An absolute path, called as LifeKeeper calls it: `-t TAG -i ID`.
    Path(String),
    /// A program with its own arguments, time limit or exit codes.
    Full(FullProgram),
}

/// A program and how it is called.
#[derive(Clone, Debug, Deserialize, Params)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FullProgram {
    /// An absolute path.
    pub program: String,
    /// Its arguments, each passed as it is, with {tag}, {id} and {node} filled in (default: -t {tag} -i {id}).
    pub args: Option<Vec<String>>,
    /// When it is ended with everything it started (default: what the operation may take).
    pub timeout: Option<Span>,
    /// The exit codes that mean success (default: 0).
    pub exit_codes: Option<Vec<i32>>,
}

/// What local recovery does when there is no program for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Params)]
#[serde(rename_all = "kebab-case")]
pub enum WithoutRecover {
    /// remove, then restore
    #[default]
    Restart,
    /// leave it, so that the hierarchy fails over
    GiveUp,
}

impl Program {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Path(path) => path,
            Self::Full(full) => &full.program,
        }
    }

    /// Its arguments, before anything is filled in; none when it is called as LifeKeeper does.
    #[must_use]
    pub fn args(&self) -> Option<&[String]> {
        match self {
            Self::Path(_) => None,
            Self::Full(full) => full.args.as_deref(),
        }
    }

    /// Its own time limit.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Path(_) => None,
            Self::Full(full) => full.timeout.map(Span::duration),
        }
    }

    /// Whether this exit code means success.
    #[must_use]
    pub fn expects(&self, code: i32) -> bool {
        match self {
            Self::Full(FullProgram { exit_codes: Some(codes), .. }) => codes.contains(&code),
            Self::Path(_) | Self::Full(_) => code == 0,
        }
    }
}
