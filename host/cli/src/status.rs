//! `mainstay status` and `mainstay explain`.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use mainstay_core::status::{Explanation, HierarchyStatus, NodeStatus, Reach, ResourceStatus};
use mainstay_core::time::UnixMs;
use mainstay_node::api::FullStatus;

use crate::args::{Explain, Status};
use crate::client::{Client, in_path};
use crate::say::{say, styled};
use crate::tree;

/// Between two looks with --watch.
const WATCH: Duration = Duration::from_secs(1);

pub(crate) async fn status(state: &Path, asked: &Status) -> anyhow::Result<i32> {
    let client = Client::new(state);
    if !asked.watch {
        let status = client.status().await?;
        if asked.json {
            say!("{}", serde_json::to_string_pretty(&status)?)?;
        } else {
            styled(&render(&status))?;
        }
        return Ok(0);
    }
    loop {
        // A daemon that is being started anew is waited for.
        let shown = match client.status().await {
            Ok(status) if asked.json => serde_json::to_string(&status)? + "\n",
            Ok(status) => render(&status),
            Err(error) => format!("{error:#}\n"),
        };
        if !asked.json && std::io::stdout().is_terminal() {
            styled(&format!("\x1b[H\x1b[2J{shown}"))?;
        } else {
            styled(&shown)?;
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn style(status: ResourceStatus) -> Style {
    let color = match status {
        ResourceStatus::Isp => AnsiColor::Green,
        ResourceStatus::Isu => AnsiColor::Yellow,
        ResourceStatus::Osu => return Style::new().dimmed(),
        ResourceStatus::Osf => AnsiColor::Red,
        ResourceStatus::IllState => AnsiColor::Magenta,
    };
    Style::new().fg_color(Some(color.into()))
}

fn render(status: &FullStatus) -> String {
    let mut out = String::new();
    let core = &status.status;
    let bold = Style::new().bold();
    let _ =
        writeln!(out, "{bold}cluster {}{bold:#}, as {} sees it (mainstay {})", core.cluster, core.node, core.software);
    let width = core.nodes.iter().map(|node| node.name.as_str().len()).max().unwrap_or(0);
    for node in &core.nodes {
        let _ = writeln!(out, "  node {:width$}  {}", node.name, node_line(node, core.at));
    }
    for hierarchy in &core.hierarchies {
        render_hierarchy(&mut out, hierarchy);
    }
    for trouble in &status.host.troubles {
        let _ = writeln!(out, "\n{}", alarm(&format!("this node: {trouble}")));
    }
    for refused in &status.host.refused {
        let serving = refused.serving.as_ref().map_or(String::new(), |kit| format!(" ({kit} goes on serving)"));
        let _ = writeln!(out, "\n{}", alarm(&format!("kit not loaded: {}{serving}", refused.error)));
    }
    for raised in &core.alarms {
        let since = ago(core.at, raised.since);
        let _ = writeln!(out, "\n{}", alarm(&format!("alarm {} ({since} ago): {}", raised.id, raised.text)));
    }
    for node in &core.nodes {
        // Some troubles are seen by both.
        for raised in node.alarms.iter().filter(|theirs| core.alarms.iter().all(|ours| ours.text != theirs.text)) {
            let _ = writeln!(out, "\n{}", alarm(&format!("alarm {} on {}: {}", raised.id, node.name, raised.text)));
        }
    }
    out
}

fn alarm(text: &str) -> String {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    format!("{red}!{red:#} {text}")
}

fn node_line(node: &NodeStatus, now: UnixMs) -> String {
    let mut line = node.reach.to_string();
    if let Some(heard) = node.last_heard.filter(|_| node.reach != Reach::Alive) {
        let _ = write!(line, ", last heard {} ago", ago(now, heard));
    }
    if node.same_config == Some(false) {
        line.push_str(", its config is another");
    }
    for path in &node.paths {
        let _ = write!(line, "; {} {}", path.name, path.state);
    }
    line
}

fn render_hierarchy(out: &mut String, hierarchy: &HierarchyStatus) {
    let bold = Style::new().bold();
    let _ = writeln!(out, "\n{bold}{}{bold:#}: {}", hierarchy.name, hierarchy.ownership);
    for on in &hierarchy.nodes {
        if let Some(activity) = &on.activity {
            let _ = writeln!(out, "  {}: {activity}", on.node);
        }
        for reason in on.not_ready.iter().flatten() {
            let _ = writeln!(out, "  {} is not ready to take it: {reason}", on.node);
        }
    }
    let lines = tree::draw(&hierarchy.resources);
    let names: Vec<String> =
        lines.iter().map(|line| format!("{}{} ({})", line.indent, line.row.tag, line.row.kit)).collect();
    let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let node_width = hierarchy.nodes.iter().map(|on| on.node.as_str().len()).max().unwrap_or(0);
    for (line, name) in lines.iter().zip(&names) {
        if line.again {
            let _ = writeln!(out, "  {name}  see above");
            continue;
        }
        let mut name = name.as_str();
        for on in &hierarchy.nodes {
            let Some(view) = line.row.on.get(&on.node) else { continue };
            let style = style(view.status);
            let degraded = if view.degraded { " degraded:" } else { "" };
            let pad = name_width - name.chars().count();
            let _ = writeln!(
                out,
                "  {name}{:pad$}  {:node_width$}  {style}{:8}{style:#}{degraded} {}",
                "", on.node, view.status, view.reason
            );
            name = "";
        }
    }
}

fn ago(now: UnixMs, then: UnixMs) -> String {
    let length = Duration::from_secs((now - then).0 / 1000);
    if length.is_zero() { "less than 1s".into() } else { humantime::format_duration(length).to_string() }
}

pub(crate) async fn explain(state: &Path, asked: &Explain) -> anyhow::Result<i32> {
    let explained: Explanation = Client::new(state).get(&format!("/v1/explain/{}", in_path(&asked.tag))).await?;
    if asked.json {
        say!("{}", serde_json::to_string_pretty(&explained)?)?;
        return Ok(0);
    }
    say!("{} (of {}) on {} is {}", explained.tag, explained.hierarchy, explained.node, explained.view)?;
    say!("because")?;
    for line in explained.because.iter() {
        say!("  {line}")?;
    }
    say!("next")?;
    if explained.next.is_empty() {
        say!("  nothing, until something happens")?;
    }
    for line in explained.next.iter() {
        say!("  {line}")?;
    }
    Ok(0)
}
