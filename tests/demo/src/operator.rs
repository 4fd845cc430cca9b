//! What an operator does: calls `mainstay`, and reads what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mainstay_test_support::{Guard, poll_until};
use serde::Deserialize;

use crate::config::HIERARCHY;
use crate::node::Node;
use crate::programs::shell_word;
use crate::stop;
use crate::trouble::Trouble;

/// How long one command may take, in s: it takes well under one, unless the machine is very busy.
const COMMAND_S_MAX: u64 = 60;

/// Somebody who may run `mainstay` on every node.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    mainstay: PathBuf,
}

/// What is needed of `mainstay status --json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    nodes: Vec<NodeStatus>,
    hierarchies: Vec<HierarchyStatus>,
    alarms: Vec<Alarm>,
}

#[derive(Debug, Deserialize)]
struct NodeStatus {
    name: String,
    reach: String,
    same_config: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct HierarchyStatus {
    name: String,
    owner: Option<String>,
    nodes: Vec<HierarchyOnNode>,
    resources: Vec<Resource>,
}

#[derive(Debug, Deserialize)]
struct HierarchyOnNode {
    node: String,
    not_ready: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Resource {
    on: BTreeMap<String, View>,
}

#[derive(Debug, Deserialize)]
struct View {
    status: String,
}

#[derive(Debug, Deserialize)]
struct Alarm {}

impl Status {
    fn hierarchy(&self) -> Option<&HierarchyStatus> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.name == HIERARCHY)
    }

    /// It serves on this node and nowhere else, both nodes are there, and nothing is wrong.
    pub(crate) fn all_well_on(&self, owner: &str) -> bool {
        let out_elsewhere = |it: &Resource| {
            let others = it.on.iter().filter(|(node, _)| *node != owner).map(|(_, view)| view);
            it.on.len() == self.nodes.len() && others.into_iter().all(|view| view.status == "OSU")
        };
        self.serves(owner)
            && self.alarms.is_empty()
            && self.hierarchy().is_some_and(|hierarchy| hierarchy.resources.iter().all(out_elsewhere))
    }

    /// This node owns it, and every resource is in service there and protected.
    pub(crate) fn serves(&self, owner: &str) -> bool {
        self.hierarchy().is_some_and(|hierarchy| {
            hierarchy.owner.as_deref() == Some(owner)
                && hierarchy.resources.iter().all(|it| it.on.get(owner).is_some_and(|view| view.status == "ISP"))
        })
    }

    /// This node is there, has the same config, and could take over now.
    pub(crate) fn is_ready(&self, node: &str) -> bool {
        let there = self.nodes.iter().any(|it| it.name == node && it.reach == "alive" && it.same_config == Some(true));
        let ready = self.hierarchy().is_some_and(|hierarchy| {
            hierarchy.nodes.iter().any(|on| on.node == node && on.not_ready.as_ref().is_some_and(Vec::is_empty))
        });
        there && ready
    }
}

impl Operator {
    /// One with this binary.
    pub(crate) fn new(mainstay: PathBuf) -> Self {
        Self { mainstay }
    }

    /// The binary.
    pub(crate) fn mainstay(&self) -> &Path {
        &self.mainstay
    }

    /// Everything at once, as this node knows it.
    pub(crate) fn status(&self, node: &Node) -> Result<Status, Trouble> {
        let said = self.on(node, &["status", "--json"])?;
        let command = "mainstay status --json".to_owned();
        serde_json::from_str(&said).map_err(|source| Trouble::Answer { command, source })
    }

    /// Calls `mainstay` on a node.
    pub(crate) fn on(&self, node: &Node, arguments: &[&str]) -> Result<String, Trouble> {
        let mut command = Command::new(&self.mainstay);
        command.arg("--state").arg(node.state()).args(arguments);
        run(&format!("mainstay {}", arguments.join(" ")), &mut command)
    }

    /// Is nothing wrong with a config?
    pub(crate) fn check_config(&self, config: &Path) -> Result<(), Trouble> {
        let mut command = Command::new(&self.mainstay);
        command.args(["config", "check"]).arg(config);
        run(&format!("mainstay config check {}", shell_word(config)?), &mut command).map(drop)
    }
}

/// Runs it to its end; what it said if it succeeded.
fn run(name: &str, command: &mut Command) -> Result<String, Trouble> {
    let failed = |status: String, guard: &Guard| Trouble::Command {
        command: name.to_owned(),
        status,
        said: guard.output().trim_end().to_owned(),
    };
    let mut guard = Guard::start(name, command)?;
    let mut status = None;
    let over = poll_until(Duration::from_secs(COMMAND_S_MAX), || {
        status = guard.status();
        status.is_some() || stop::asked().is_some()
    });
    match (status, stop::asked()) {
        (Some(status), _) if status.success() => Ok(guard.output()),
        (Some(status), _) => Err(failed(status.to_string(), &guard)),
        (None, Some(signal)) if over => Err(Trouble::Stopped(signal)),
        (None, _) => Err(failed(format!("not done after {COMMAND_S_MAX} s, and ended"), &guard)),
    }
}
