//! Stories: commands and what came of them, as text that reads from top to bottom.
//!
//! A story is a list of blocks. Each begins with comments that say why it is there, then one command a line, then
//! `----`, then what came of them. `just bless` writes what comes of them now into the file; the diff is read before
//! it is committed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mainstay_core::health::{Finding, NodeFacts};
use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::node::{Node, Reply, Request, RequestId, Weight};
use mainstay_core::time::{Millis, Monotonic};

use crate::kits::Answer;
use crate::world::{Kind, World};

/// Put before what a story says under `config`, so that it need not say it.
const PROLOGUE: &str = "cluster = \"sim\"\nkits = \"/kits\"\n";
/// The seed of every story.
const SEED: u64 = 1;
/// How long an answer to an operator is waited for.
const ANSWER: Millis = Millis(11_000);
/// How long a health check may take in a story.
const HEALTH: Millis = Millis(10_000);

/// A story being told.
#[derive(Debug, Default)]
pub struct Story {
    world: Option<World>,
    told: usize,
}

/// What a story file says, and what it should say.
///
/// # Panics
/// When it is not a story: the writer's mistake, with its line.
pub fn tell(text: &str) -> String {
    let mut story = Story::default();
    let mut out = String::new();
    let mut commands: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in text.lines() {
        if skipping {
            if !line.is_empty() {
                continue;
            }
            skipping = false;
        }
        let _ = writeln!(out, "{line}");
        if line == "----" {
            out.push_str(&story.block(&commands));
            commands.clear();
            skipping = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            commands.push(line);
        }
    }
    assert!(commands.is_empty(), "the last block has no `----`");
    out
}

impl Story {
    /// What comes of a block of commands.
    fn block(&mut self, commands: &[&str]) -> String {
        if let Some((first, rest)) = commands.split_first()
            && let Some(nodes) = first.strip_prefix("config ")
        {
            return self.config(nodes, rest);
        }
        let mut out = String::new();
        for command in commands {
            let said = self.command(command);
            self.timeline(&mut out);
            if !said.is_empty() {
                let _ = writeln!(out, "{}", said.trim_end());
            }
        }
        for broken in self.world().checks.broken.drain(..) {
            let _ = writeln!(out, "BROKEN: {broken}");
        }
        if out.is_empty() { "(nothing)\n".into() } else { out }
    }

    /// `config a b`, and under it TOML: two nodes with one path between them, unless the TOML has its own.
    fn config(&mut self, nodes: &str, toml: &[&str]) -> String {
        // What stands before the first table belongs to the top of the file.
        let top = toml.iter().take_while(|line| !line.starts_with('[')).count();
        let (top, toml) = toml.split_at(top);
        let toml = toml.join("\n");
        let mut config = format!("{}\n{PROLOGUE}", top.join("\n"));
        if !toml.contains("[path.") {
            config.push_str("[path.lan]\n");
        }
        let paths: Vec<&str> = config
            .lines()
            .chain(toml.lines())
            .filter_map(|line| line.strip_prefix("[path.")?.strip_suffix(']'))
            .collect();
        let mut port = 7400;
        let mut described = String::new();
        for node in nodes.split_whitespace() {
            let _ = writeln!(described, "[node.{node}]");
            for path in &paths {
                port += 1;
                let _ = writeln!(described, "address.{path} = \"127.0.0.1:{port}\"");
            }
        }
        config.push_str(&described);
        config.push_str(&toml);
        self.world = Some(World::new(&config, SEED));
        self.told = 0;
        "ok\n".into()
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("a story begins with `config NODE ...`")
    }

    /// What has happened since the last time.
    fn timeline(&mut self, out: &mut String) {
        let told = self.told;
        let world = self.world();
        for line in &world.timeline[told..] {
            let _ = writeln!(
                out,
                "{:>9} {:<4} {}",
                seconds(line.at),
                line.node,
                line.text.replace('\n', "\n               ")
            );
        }
        self.told = self.world().timeline.len();
    }

    fn command(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let node = |at: usize| NodeName::from(*words.get(at).unwrap_or_else(|| panic!("`{line}`: a word is missing")));
        match words[0] {
            "start" => (1..words.len()).for_each(|at| self.world().start(&node(at))),
            "stop" => self.world().stop(&node(1)),
            "kill" => self.world().kill(&node(1)),
            "power-off" => self.world().power_off(&node(1)),
            "pause" => self.world().pause(&node(1), true),
            "resume" => self.world().pause(&node(1), false),
            "run" => {
                let length = Millis::parse(words[1]).unwrap_or_else(|| panic!("`{line}`: no length of time"));
                self.world().run(length);
            }
            "cut" | "heal" if words.len() == 4 => {
                let (a, b, cut) = (node(1), node(2), words[0] == "cut");
                self.world().set_path_cut(&a, &b, words[3], cut);
            }
            "cut" => self.both_ways(&node(1), &node(2), World::cut),
            "heal" => self.both_ways(&node(1), &node(2), World::heal),
            "cut-from" => self.world().cut(&node(1), &node(2)),
            "heal-from" => self.world().heal(&node(1), &node(2)),
            "app" => self.app(&node(1), words[2], words[3]),
            "kit" => self.kit(&node(1), words[2], &words[3..]),
            "disk" => match words[2] {
                "stuck" => self.world().machine(&node(1)).disk_stuck = true,
                "fine" => self.world().unstick_disk(&node(1)),
                word => panic!("`{line}`: {word}?"),
            },
            "block" | "let-through" => {
                let kind = match words[2] {
                    "heartbeats" => Kind::Heartbeats,
                    "messages" => Kind::Messages,
                    word => panic!("`{line}`: {word}?"),
                };
                if words[0] == "block" {
                    self.world().block(&node(1), kind);
                } else {
                    self.world().blocked.remove(&(node(1), kind));
                }
            }
            "wipe" => self.world().machine(&node(1)).wipe(),
            "damage" => self.world().machine(&node(1)).damaged = true,
            "other-config" => self.world().machine(&node(1)).other_config = true,
            "same-config" => self.world().machine(&node(1)).other_config = false,
            "unusable" => {
                let unusable =
                    words[2..].iter().map(|tag| (Tag::from(*tag), "its kit is not there".to_owned())).collect();
                self.world().set_unusable(&node(1), unusable);
            }
            "software" => self.world().machine(&node(1)).software = words[2].into(),
            "before-health" => self.world().machine(&node(1)).before_health = true,
            "older-kit" => self.world().set_older_kit(&node(1), true),
            "clock" => {
                let off = Millis::parse(words[2]).unwrap_or_else(|| panic!("`{line}`: no length of time")).0 as i64;
                self.world().machine(&node(1)).clock_off = match words[3] {
                    "ahead" => off,
                    "behind" => -off,
                    word => panic!("a clock is ahead or behind: {word}"),
                };
            }
            "survey" => self.survey(&node(1), &words[2..]),
            "health" => return self.health(&node(1), words.get(2).copied()),
            "ask" => return self.ask(&node(1), &words[2..]),
            "status" => return self.status(&node(1)),
            "explain" => return self.explain(&node(1), words[2]),
            "apps" => return self.apps(),
            word => panic!("`{line}`: `{word}` is no command"),
        }
        String::new()
    }

    fn both_ways(&mut self, a: &NodeName, b: &NodeName, what: fn(&mut World, &NodeName, &NodeName)) {
        what(self.world(), a, b);
        what(self.world(), b, a);
    }

    fn app(&mut self, node: &NodeName, tag: &str, becomes: &str) {
        let app = self.world().machine(node).apps.get_mut(tag).unwrap_or_else(|| panic!("there is no app {tag}"));
        match becomes {
            "breaks" => app.broken = true,
            "heals" => app.broken = false,
            "dies" => app.crash(),
            "runs" => app.running = true,
            word => panic!("an app breaks, heals, dies or runs: {word}"),
        }
    }

    /// `kit NODE TAG restore=fails takes=5s`
    fn kit(&mut self, node: &NodeName, tag: &str, settings: &[&str]) {
        let app = self.world().machine(node).apps.get_mut(tag).unwrap_or_else(|| panic!("there is no app {tag}"));
        for setting in settings {
            let (key, value) = setting.split_once('=').unwrap_or_else(|| panic!("`{setting}`: key=value"));
            if key == "takes" {
                app.takes = Millis::parse(value).unwrap_or_else(|| panic!("`{value}`: no length of time"));
                continue;
            }
            let answer = Answer::parse(value).unwrap_or_else(|| panic!("`{value}`: no answer of a kit"));
            match key {
                "restore" => app.restore = answer,
                "remove" => app.remove = answer,
                "check" => app.check = answer,
                "deep-check" => app.deep_check = answer,
                "recover" => app.recover = answer,
                "assess" => app.assess = answer,
                _ => panic!("`{key}`: no operation"),
            }
        }
    }

    fn ask(&mut self, node: &NodeName, words: &[&str]) -> String {
        let request = match words {
            ["in-service", target] => Request::InService { target: (*target).into(), force: false },
            ["in-service", target, "--force"] => Request::InService { target: (*target).into(), force: true },
            ["out-of-service", target] => Request::OutOfService { target: (*target).into() },
            ["switchover", hierarchy, to] => {
                Request::Switchover { hierarchy: HierarchyName::from(*hierarchy), to: NodeName::from(*to) }
            }
            ["maintenance", hierarchy, on] => {
                Request::Maintenance { hierarchy: HierarchyName::from(*hierarchy), on: *on == "on" }
            }
            ["drain", node] => Request::Drain { node: NodeName::from(*node), on: true },
            ["drain", node, "--end"] => Request::Drain { node: NodeName::from(*node), on: false },
            ["confirm", hierarchy] => match self.confirmation(node, hierarchy) {
                Some(request) => request,
                None => return format!("there is no alarm of {hierarchy} to confirm"),
            },
            _ => panic!("no such request: {words:?}"),
        };
        let id = self.world().ask(node, request);
        let until = self.world().now() + ANSWER;
        while self.world().now() < until && !self.world().replies.contains_key(&id) {
            self.world().run(Millis(1));
        }
        self.answer(id)
    }

    /// The alarm about the hierarchy's silent owner, as a person would read and confirm it.
    fn confirmation(&mut self, node: &NodeName, hierarchy: &str) -> Option<Request> {
        let status = self.world().machine(node).node.as_ref().map(Node::status)?;
        let of_it = status
            .alarms
            .into_iter()
            .filter(|alarm| alarm.hierarchy.as_ref().is_some_and(|name| name.as_str() == hierarchy));
        let (id, answers) = of_it.into_iter().find_map(|alarm| alarm.confirms.map(|answers| (alarm.id, answers)))?;
        Some(Request::Confirm { alarm: id, answers })
    }

    /// `survey NODE stuck`, `survey NODE finds WEIGHT WHAT`
    fn survey(&mut self, node: &NodeName, words: &[&str]) {
        let found = match words {
            ["stuck"] => None,
            ["finds", weight, what] => {
                let weight = match *weight {
                    "note" => Weight::Note,
                    "warning" => Weight::Warning,
                    "blocking" => Weight::Blocking,
                    word => panic!("`{word}` is no weight"),
                };
                Some(Finding::new(weight, what, node, *what, "Mend it"))
            }
            _ => panic!("a survey is stuck, or finds something: {words:?}"),
        };
        let machine = self.world().machine(node);
        match (found, &mut machine.survey) {
            (Some(found), Some(survey)) => survey.findings.push(found),
            (_, survey) => *survey = None,
        }
    }

    fn health(&mut self, node: &NodeName, hierarchy: Option<&str>) -> String {
        let id = self.world().examine(node, hierarchy.map(HierarchyName::from), HEALTH);
        let until = self.world().now() + ANSWER;
        while self.world().now() < until && !self.world().health_reports.contains_key(&id) {
            self.world().run(Millis(1));
        }
        let report = match self.world().health_reports.remove(&id) {
            Some(Ok(report)) => report,
            Some(Err(why)) => return format!("refused: {why}"),
            None => return "no answer".into(),
        };
        let mut out = String::new();
        for facts in &report.nodes {
            let NodeFacts { node, software, contract, system, clock_ahead_ms, .. } = facts;
            let _ = match facts.answered {
                true => writeln!(
                    out,
                    "{node}: mainstay {software}, contract {contract}, {system}, clock {clock_ahead_ms} ms ahead"
                ),
                false => writeln!(out, "{node}: no answer"),
            };
        }
        for finding in &report.findings {
            let place = [finding.hierarchy.as_ref().map(HierarchyName::as_str), finding.tag.as_ref().map(Tag::as_str)];
            let place = place.into_iter().flatten().collect::<Vec<_>>().join("/");
            let Finding { weight, node, code, summary, advice, .. } = finding;
            let _ = writeln!(out, "{weight:?} {node} {place} ({code}): {summary}. {advice}");
        }
        if report.findings.is_empty() { out + "nothing was found" } else { out }
    }

    fn answer(&mut self, id: RequestId) -> String {
        match self.world().replies.remove(&id) {
            Some(Reply::Accepted(text)) => format!("accepted: {text}"),
            Some(Reply::Refused(why)) => format!("refused: {why}"),
            None => "no answer".into(),
        }
    }

    fn status(&mut self, node: &NodeName) -> String {
        let Some(status) = self.world().machine(node).node.as_ref().map(Node::status) else {
            return format!("{node} does not answer");
        };
        let mut out = String::new();
        for hierarchy in &status.hierarchies {
            let _ = writeln!(out, "{}: {}", hierarchy.name, hierarchy.ownership);
            for on in &hierarchy.nodes {
                if let Some(activity) = &on.activity {
                    let _ = writeln!(out, "  {}: {activity}", on.node);
                }
                for reason in on.not_ready.iter().flatten() {
                    let _ = writeln!(out, "  {} is not ready: {reason}", on.node);
                }
            }
            for row in &hierarchy.resources {
                let on: Vec<String> = row.on.iter().map(|(node, view)| format!("{node} {view}")).collect();
                let _ = writeln!(out, "  {}: {}", row.tag, on.join(" | "));
            }
        }
        for alarm in &status.alarms {
            let _ = writeln!(out, "ALARM {}: {}", alarm.id, alarm.text);
        }
        out
    }

    fn explain(&mut self, node: &NodeName, tag: &str) -> String {
        let explained = self.world().machine(node).node.as_ref().and_then(|node| node.explain(&Tag::from(tag)));
        let Some(explained) = explained else { return format!("{node} does not know {tag}") };
        let mut out = format!("{} on {}: {}\n", explained.tag, explained.node, explained.view);
        for line in &explained.because {
            let _ = writeln!(out, "  because {line}");
        }
        for line in &explained.next {
            let _ = writeln!(out, "  next {line}");
        }
        out
    }

    /// What really runs, whatever the nodes believe.
    fn apps(&mut self) -> String {
        let mut out = String::new();
        for (name, machine) in &self.world().machines {
            let runs = |(tag, app): (&Tag, &crate::kits::App)| {
                app.running.then(|| format!("{tag}{}", if app.broken { " (broken)" } else { "" }))
            };
            let apps: Vec<String> = machine.apps.iter().filter_map(runs).collect();
            let _ = writeln!(out, "{name} runs: {}", if apps.is_empty() { "nothing".into() } else { apps.join(", ") });
        }
        out
    }
}

fn seconds(at: Monotonic) -> String {
    format!("{}.{:03}", at.0 / 1000, at.0 % 1000)
}

/// Every story below `folder`, by its path within it.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn stories(folder: &std::path::Path) -> std::io::Result<BTreeMap<std::path::PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "txt") {
                found.insert(path.clone(), std::fs::read_to_string(&path)?);
            }
        }
    }
    Ok(found)
}
