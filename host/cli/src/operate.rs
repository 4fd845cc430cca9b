//! Requests of an operator: asked, and then watched until they are done.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use mainstay_core::names::{HierarchyName, NodeName, Tag};
use mainstay_core::node::Request;
use mainstay_core::status::{Alarm, HierarchyStatus, ResourceStatus, WAITING_FOR_OPERATOR};
use mainstay_node::api::FullStatus;

use crate::args::{Confirm, Drain, InService, Maintenance, OutOfService, Switch, Switchover, Waiting};
use crate::client::{Answer, Client};
use crate::say::{say, styled};

/// Between two looks at whether it is done.
const LOOK: Duration = Duration::from_millis(200);
/// A request that is accepted may take a moment to show; only then is what shows taken for its outcome.
const SETTLE: Duration = Duration::from_millis(600);

type Views = BTreeMap<(NodeName, Tag), String>;

/// When for so long nothing is being done, nothing more will be: longer than nodes take to hear of each other.
const QUIET: Duration = Duration::from_secs(8);

/// What is waited for.
enum Until {
    /// All of it is in service, on this node if one is named.
    InService(Option<NodeName>),
    /// Nothing of it is in service: the hierarchy, or the resource.
    OutOfService(Option<Tag>),
}

pub(crate) async fn in_service(state: &Path, asked: InService) -> anyhow::Result<i32> {
    let client = Client::new(state);
    let request = Request::InService { target: asked.target.clone(), force: asked.force };
    let before = client.status().await?;
    let (hierarchy, _) = find(&before, &asked.target)?;
    ask(&client, &before, &request, &hierarchy, Until::InService(None), asked.waiting).await
}

pub(crate) async fn out_of_service(state: &Path, asked: OutOfService) -> anyhow::Result<i32> {
    let client = Client::new(state);
    let request = Request::OutOfService { target: asked.target.clone() };
    let before = client.status().await?;
    let (hierarchy, tag) = find(&before, &asked.target)?;
    ask(&client, &before, &request, &hierarchy, Until::OutOfService(tag), asked.waiting).await
}

pub(crate) async fn switchover(state: &Path, asked: Switchover) -> anyhow::Result<i32> {
    let client = Client::new(state);
    let (hierarchy, to) = (HierarchyName::new(asked.hierarchy), NodeName::new(asked.to));
    let request = Request::Switchover { hierarchy: hierarchy.clone(), to: to.clone() };
    ask(&client, &client.status().await?, &request, &hierarchy, Until::InService(Some(to)), asked.waiting).await
}

pub(crate) async fn maintenance(state: &Path, asked: Maintenance) -> anyhow::Result<i32> {
    let on = asked.switch == Switch::On;
    just_ask(state, &Request::Maintenance { hierarchy: HierarchyName::new(asked.hierarchy), on }).await
}

pub(crate) async fn drain(state: &Path, asked: Drain) -> anyhow::Result<i32> {
    just_ask(state, &Request::Drain { node: NodeName::new(asked.node), on: !asked.end }).await
}

/// Nothing is waited for: what follows shows `mainstay status`.
async fn just_ask(state: &Path, request: &Request) -> anyhow::Result<i32> {
    match Client::new(state).request(request).await? {
        Answer::Ok(accepted) => {
            say!("{accepted}")?;
            Ok(0)
        }
        Answer::Refused(why) => {
            eprintln!("refused: {why}");
            Ok(1)
        }
    }
}

pub(crate) async fn confirm(state: &Path, asked: Confirm) -> anyhow::Result<i32> {
    let client = Client::new(state);
    let status = client.status().await?;
    let alarms: Vec<&Alarm> = status
        .status
        .alarms
        .iter()
        .filter(|alarm| alarm.confirms.is_some())
        .filter(|alarm| {
            alarm.id == asked.target || alarm.hierarchy.as_ref().is_some_and(|name| name.as_str() == asked.target)
        })
        .collect();
    let [alarm] = alarms[..] else {
        bail!("there is no alarm about `{}` that asks for a confirmation: see `mainstay status`", asked.target)
    };
    let (Some(hierarchy), Some(answers)) = (alarm.hierarchy.clone(), alarm.confirms.clone()) else {
        bail!("the alarm {} asks for no confirmation", alarm.id)
    };
    say!("alarm {}: {}", alarm.id, alarm.text)?;
    if !asked.yes
        && !agreed(
            &format!("Is {} off? Type yes to state that it is: ", answers.claimant),
            "the alarm was read and its owner is off",
        )?
    {
        say!("not confirmed; nothing is done")?;
        return Ok(1);
    }
    let request = Request::Confirm { alarm: alarm.id.clone(), answers };
    let here = status.status.node.clone();
    ask(&client, &status, &request, &hierarchy, Until::InService(Some(here)), asked.waiting).await
}

pub(crate) fn agreed(question: &str, states: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("there is nobody to ask: --yes states that {states}");
    }
    styled(question)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

/// The hierarchy that is meant, and the resource if one is.
fn find(status: &FullStatus, target: &str) -> anyhow::Result<(HierarchyName, Option<Tag>)> {
    for hierarchy in &status.status.hierarchies {
        if hierarchy.name.as_str() == target {
            return Ok((hierarchy.name.clone(), None));
        }
    }
    for hierarchy in &status.status.hierarchies {
        if let Some(row) = hierarchy.resources.iter().find(|row| row.tag.as_str() == target) {
            return Ok((hierarchy.name.clone(), Some(row.tag.clone())));
        }
    }
    bail!("there is no hierarchy and no resource `{target}` on this node: see `mainstay status`")
}

async fn ask(
    client: &Client,
    before: &FullStatus,
    request: &Request,
    hierarchy: &HierarchyName,
    until: Until,
    waiting: Waiting,
) -> anyhow::Result<i32> {
    match client.request(request).await? {
        Answer::Ok(accepted) => say!("{accepted}")?,
        Answer::Refused(why) => {
            eprintln!("refused: {why}");
            return Ok(1);
        }
    }
    if waiting.no_wait {
        return Ok(0);
    }
    watch(client, hierarchy, views(before, hierarchy), &until, waiting.timeout).await
}

/// What each resource of a hierarchy is on each node, as it is told.
fn views(status: &FullStatus, name: &HierarchyName) -> Views {
    let rows = status.status.hierarchies.iter().filter(|hierarchy| hierarchy.name == *name);
    rows.flat_map(|hierarchy| &hierarchy.resources)
        .flat_map(|row| row.on.iter().map(|(node, view)| ((node.clone(), row.tag.clone()), view.to_string())))
        .collect()
}

/// Tells what changes, from what it was before it was asked, until it is done or nothing more happens.
async fn watch(
    client: &Client,
    name: &HierarchyName,
    mut shown: Views,
    until: &Until,
    timeout: Duration,
) -> anyhow::Result<i32> {
    let began = Instant::now();
    let mut quiet_since = began;
    loop {
        let status = client.status().await?;
        let Some(hierarchy) = status.status.hierarchies.iter().find(|hierarchy| hierarchy.name == *name) else {
            bail!("there is no hierarchy `{name}` on this node");
        };
        let now = views(&status, name);
        for (of, view) in now.iter().filter(|(of, view)| shown.get(of) != Some(view)) {
            say!("{:>7.1}s  {}  {}  {view}", began.elapsed().as_secs_f64(), of.0, of.1)?;
        }
        shown = now;
        if is_done(hierarchy, until) {
            say!("done after {:.1} s: {name} is {}", began.elapsed().as_secs_f64(), hierarchy.ownership)?;
            return Ok(0);
        }
        if is_busy(hierarchy) {
            quiet_since = Instant::now();
        } else if began.elapsed() > SETTLE
            && let Some(alarm) = alarm_of(&status, name)
        {
            eprintln!("not done: {}", alarm.text);
            return Ok(1);
        } else if quiet_since.elapsed() > QUIET {
            eprintln!("not done: {name} is {}, and nothing more happens: see `mainstay events`", hierarchy.ownership);
            return Ok(1);
        }
        if began.elapsed() > timeout {
            eprintln!("not done within {}; it goes on: see `mainstay status`", humantime::format_duration(timeout));
            return Ok(1);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn is_done(hierarchy: &HierarchyStatus, until: &Until) -> bool {
    let Until::InService(wanted) = until else { return is_out(hierarchy, until) };
    let Some(owner) = &hierarchy.owner else { return false };
    let serves = |status| matches!(status, ResourceStatus::Isp | ResourceStatus::Isu);
    let all_serve = hierarchy.resources.iter().all(|row| {
        row.on
            .get(owner)
            .is_some_and(|view| serves(view.status) || view.reason == "taken out of service by the operator")
    });
    wanted.as_ref().is_none_or(|wanted| wanted == owner) && all_serve && !is_busy(hierarchy)
}

fn is_out(hierarchy: &HierarchyStatus, until: &Until) -> bool {
    let out = |tag: &Tag| {
        let row = hierarchy.resources.iter().find(|row| row.tag == *tag);
        row.is_some_and(|row| row.on.values().all(|view| view.status == ResourceStatus::Osu))
    };
    match until {
        Until::OutOfService(Some(tag)) => out(tag) && !is_busy(hierarchy),
        Until::OutOfService(None) => hierarchy.owner.is_none() && hierarchy.resources.iter().all(|row| out(&row.tag)),
        Until::InService(_) => false,
    }
}

fn is_busy(hierarchy: &HierarchyStatus) -> bool {
    hierarchy.nodes.iter().any(|on| on.activity.as_ref().is_some_and(|activity| activity != WAITING_FOR_OPERATOR))
}

fn alarm_of<'a>(status: &'a FullStatus, name: &HierarchyName) -> Option<&'a Alarm> {
    let elsewhere = status.status.nodes.iter().flat_map(|node| &node.alarms);
    status.status.alarms.iter().chain(elsewhere).find(|alarm| alarm.hierarchy.as_ref() == Some(name))
}
