//! `mainstay volume`: the mirrored volumes of this node.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use mainstay_core::names::{HierarchyName, NodeName};
use mainstay_node::volumes::VolumeRequest;
use mainstay_node::volumes::view::{ProcessView, ProgressView, VolumeView, time};
use mainstay_volume::view::{LinkView, PromotionView, StatusView};
use tracing_subscriber::EnvFilter;

use crate::args::{VolumeCommand, VolumeCreate, VolumePromote, VolumeResolve, VolumeStatus, VolumeWait};
use crate::client::{Answer, Client, in_path};
use crate::operate::agreed;
use crate::say::say;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes a second and the time left are shown in these columns.
const BAR: &str = "{bar:32} {percent:>3} %  {bytes} of {total_bytes}  {msg}";

/// The process of a volume. It outlives the daemon, and holds no more than it needs.
pub(crate) fn serve(config: &Path) -> ExitCode {
    let filter = EnvFilter::try_from_env("MAINSTAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let served = mainstay_volume::config::Config::load(config)
        .map_err(anyhow::Error::from)
        .and_then(|config| mainstay_volume::serve(&config).map_err(anyhow::Error::from));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay volume serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) async fn run(state: &Path, command: VolumeCommand) -> anyhow::Result<i32> {
    let client = Client::new(state);
    match command {
        VolumeCommand::Status(asked) => status(&client, &asked).await,
        VolumeCommand::Wait(asked) => wait(&client, &asked).await,
        VolumeCommand::Create(VolumeCreate { name, first, overwrite, size }) => {
            ask(&client, &name, &VolumeRequest::Create { first, overwrite, size_bytes: size }).await
        }
        VolumeCommand::Pause(asked) => ask(&client, &asked.name, &VolumeRequest::Pause).await,
        VolumeCommand::Resume(asked) => ask(&client, &asked.name, &VolumeRequest::Resume).await,
        VolumeCommand::Verify(asked) => ask(&client, &asked.name, &VolumeRequest::Verify).await,
        VolumeCommand::Invalidate(asked) => ask(&client, &asked.name, &VolumeRequest::Invalidate).await,
        VolumeCommand::Resolve(asked) => resolve(&client, &asked).await,
        VolumeCommand::Promote(asked) => promote(state, &client, &asked).await,
        VolumeCommand::Serve { .. } => bail!("mainstay volume serve takes one config file, written by the daemon"),
    }
}

async fn ask(client: &Client, name: &str, request: &VolumeRequest) -> anyhow::Result<i32> {
    match client.volume_request(&in_path(name), request).await? {
        Answer::Ok(done) => {
            say!("{done}")?;
            Ok(0)
        }
        Answer::Refused(why) => {
            eprintln!("refused: {why}");
            Ok(1)
        }
    }
}

async fn find(client: &Client, name: &str) -> anyhow::Result<VolumeView> {
    let all: Vec<VolumeView> = client.get("/v1/volumes").await?;
    let known: Vec<&str> = all.iter().map(|volume| volume.name.as_str()).collect();
    let known = if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
    match all.into_iter().find(|volume| volume.name.as_str() == name) {
        Some(found) => Ok(found),
        None => bail!("this node has no volume `{name}`; {known}"),
    }
}

async fn status(client: &Client, asked: &VolumeStatus) -> anyhow::Result<i32> {
    let volumes: Vec<VolumeView> = match &asked.name {
        Some(name) => vec![find(client, name).await?],
        None => client.get("/v1/volumes").await?,
    };
    if asked.json {
        say!("{}", serde_json::to_string_pretty(&volumes)?)?;
        return Ok(0);
    }
    if volumes.is_empty() {
        say!("this node has no volumes: describe one in the config, [hierarchy.NAME.volume.NAME]")?;
    }
    for volume in &volumes {
        say!("{}", render(volume).trim_end())?;
    }
    Ok(0)
}

fn render(volume: &VolumeView) -> String {
    let mut out = String::new();
    let VolumeView { name, hierarchy, node, peer, backing, .. } = volume;
    let _ = writeln!(out, "{name} (of {hierarchy}): {node} at {backing}, mirrored with {peer}");
    match (&volume.process, &volume.status) {
        (ProcessView::NotCreated, _) => {
            let _ = writeln!(
                out,
                "  no copy yet: mainstay volume create {name}, with --first on the node that has the data"
            );
        }
        (ProcessView::Fails { why }, _) => {
            let _ = writeln!(out, "  {why}");
        }
        (ProcessView::Starting | ProcessView::Serves { .. }, None) => {
            let _ = writeln!(out, "  its process is being started");
        }
        (ProcessView::Starting | ProcessView::Serves { .. }, Some(status)) => render_status(&mut out, volume, status),
    }
    for note in &volume.notes {
        let _ = writeln!(out, "  {note}");
    }
    out
}

fn render_status(out: &mut String, volume: &VolumeView, status: &StatusView) {
    let since = status.copy_since_ms.map_or(String::new(), |since| format!(" since {}", time(since)));
    let size = HumanBytes(status.size_bytes);
    let _ = writeln!(out, "  {}, {}{since}; {size}", status.role, status.copy);
    let link = match &status.link {
        LinkView::Broken if status.alone => "no contact; goes on alone".to_owned(),
        LinkView::Broken => "no contact".to_owned(),
        LinkView::Greeting => "getting together".to_owned(),
        LinkView::Idle => "in contact; neither copy is the source".to_owned(),
        LinkView::Connected => "connected: every write goes to both copies".to_owned(),
        LinkView::Resync { percent, .. } => match &volume.progress {
            Some(progress) => format!("resync {percent} %, {}", rate(progress)),
            None => format!("resync {percent} %"),
        },
        LinkView::Paused => "paused by an operator: mainstay volume resume".to_owned(),
        LinkView::SplitBrain(what) => {
            format!("split brain: {what}. Name the survivor: mainstay volume resolve {} --survivor NODE", volume.name)
        }
        LinkView::Refused(why) => format!("refused: {why}"),
    };
    let _ = writeln!(out, "  mirror: {link}");
    if let Some(waits) = &status.waits {
        let _ = writeln!(out, "  waits: {waits}");
    }
    if let Some(unread) = &status.unread {
        let _ = writeln!(out, "  disk: {unread}");
    }
    if let Some(failure) = &status.server.backing_failure {
        let _ = writeln!(out, "  backing: {failure}");
    }
    if let Some(verify) = &status.verify {
        let (done, of, different) = (verify.done_regions, verify.of_regions, verify.different_regions);
        let _ = writeln!(out, "  verify: {done} of {of} regions compared, {different} differ");
    }
    if let Some(attached) = &volume.attached {
        let works = if attached.works { "" } else { ", which does not work any more" };
        let _ = writeln!(out, "  attached as {} by {}{works}", attached.device, attached.by);
    }
    let differ = status.differing_bytes();
    if differ > 0 {
        let _ = writeln!(out, "  {} may be otherwise on {}", HumanBytes(differ), volume.peer);
    }
}

fn rate(progress: &ProgressView) -> String {
    match (progress.bytes_per_s, progress.left_s) {
        (Some(rate), Some(left)) => {
            format!("{}/s, {} left", HumanBytes(rate), HumanDuration(Duration::from_secs(left)))
        }
        (_, _) => "just begun".to_owned(),
    }
}

/// Until both copies have everything, with a bar.
async fn wait(client: &Client, asked: &VolumeWait) -> anyhow::Result<i32> {
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(BAR)?);
    let began = tokio::time::Instant::now();
    loop {
        let volume = find(client, &asked.name).await?;
        let link = volume.status.as_ref().map(|status| &status.link);
        match (link, &volume.progress) {
            (Some(LinkView::Connected), _) => {
                bar.finish_and_clear();
                say!("both copies of {} have everything", asked.name)?;
                return Ok(0);
            }
            (Some(LinkView::Resync { .. }), Some(progress)) => {
                bar.set_length(progress.of_bytes);
                bar.set_position(progress.done_bytes);
                bar.set_message(rate(progress));
            }
            (Some(LinkView::SplitBrain(_) | LinkView::Refused(_) | LinkView::Paused), _) => {
                bar.finish_and_clear();
                eprintln!("{}", render(&volume).trim_end());
                return Ok(1);
            }
            (_, _) => {}
        }
        if began.elapsed() > asked.timeout {
            bar.finish_and_clear();
            eprintln!("not within {}:\n{}", humantime::format_duration(asked.timeout), render(&volume).trim_end());
            return Ok(1);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn resolve(client: &Client, asked: &VolumeResolve) -> anyhow::Result<i32> {
    let volume = find(client, &asked.name).await?;
    let Some(LinkView::SplitBrain(what)) = volume.status.as_ref().map(|status| &status.link) else {
        bail!("{} is not in split brain: there is nothing to resolve", asked.name)
    };
    let survivor = NodeName::new(asked.survivor.as_str());
    let given_up = if survivor == volume.node { &volume.peer } else { &volume.node };
    say!("{}, as {} sees it: {what}", volume.name, volume.node)?;
    say!("what only {given_up} has is given up")?;
    if !asked.yes && !agreed(&format!("Type yes to give up what only {given_up} has: "), "what is given up was read")? {
        say!("not resolved; nothing is done")?;
        return Ok(1);
    }
    ask(client, &asked.name, &VolumeRequest::Resolve(survivor)).await
}

async fn promote(state: &Path, client: &Client, asked: &VolumePromote) -> anyhow::Result<i32> {
    let volume = find(client, &asked.name).await?;
    let Some(status) = &volume.status else { bail!("{}", render(&volume).trim_end()) };
    match &status.promotion {
        PromotionView::Free => say!("this node's copy of {} is up to date; nothing is lost", volume.name)?,
        PromotionView::Confirm { since_ms } => say!(
            "the other copy of {} was last heard at {}: what it acknowledged after that may be lost",
            volume.name,
            time(*since_ms)
        )?,
        PromotionView::Force(lost) if asked.force => say!("may be lost: {lost}")?,
        PromotionView::Force(lost) => bail!("only --force promotes this copy. May be lost: {lost}"),
        PromotionView::Never(why) => bail!("this copy cannot be promoted: {why}"),
    }
    if !asked.yes && !agreed("Type yes to bring it in service with this copy: ", "what may be lost was read")? {
        say!("not promoted; nothing is done")?;
        return Ok(1);
    }
    let code = ask(client, &asked.name, &VolumeRequest::Allow { force: asked.force }).await?;
    if code != 0 || asked.no_restore {
        return Ok(code);
    }
    let hierarchy: &HierarchyName = &volume.hierarchy;
    crate::operate::in_service(state, crate::args::InService::of(hierarchy.as_str(), asked.waiting)).await
}
