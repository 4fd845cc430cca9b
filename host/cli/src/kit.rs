//! `mainstay kit`: kits without a daemon.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use mainstay_node::host_status::{KitStatus, RefusedStatus};
use mainstay_node::kits::param;
use mainstay_runtime::{
    Call, CommandGrant, Failure, Grants, Health, Inspection, Limits, MountGrant, NetGrant, Operation, Outcome,
    ResourceServices, Runtime, RuntimeConfig, Verdict, Weight, inspect,
};
use mainstay_supervisor::{Commands, SupervisorExe};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing_subscriber::EnvFilter;

use crate::args::{KitCommand, KitInspect, KitList, KitOperation, KitRun};
use crate::client::Client;
use crate::params;
use crate::say::{Unwritten, say};

pub(crate) async fn kit(state: &Path, command: KitCommand) -> anyhow::Result<i32> {
    match command {
        KitCommand::List(asked) => list(state, &asked).await,
        KitCommand::Inspect(asked) => inspect_one(&asked),
        KitCommand::Run(asked) => run(*asked).await,
    }
}

async fn list(state: &Path, asked: &KitList) -> anyhow::Result<i32> {
    let (kits, refused) = match &asked.directory {
        Some(directory) => list_directory(directory)?,
        None => {
            let host = Client::new(state).status().await?.host;
            (host.kits, host.refused)
        }
    };
    if asked.json {
        say!("{}", serde_json::json!({ "kits": kits, "refused": refused }))?;
    } else {
        for KitStatus { name, version, file, .. } in &kits {
            say!("{name:16} {version:10} {file}")?;
        }
        for refused in &refused {
            say!("refused: {}", refused.error)?;
        }
    }
    Ok(i32::from(!refused.is_empty()))
}

/// What a daemon would find there: it loads what ends in .wasm, and of two kits with one name only one.
fn list_directory(directory: &Path) -> anyhow::Result<(Vec<KitStatus>, Vec<RefusedStatus>)> {
    let unreadable = || format!("the directory {} cannot be read", directory.display());
    let mut files = std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>())
        .with_context(unreadable)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    files.sort();
    let (mut kits, mut refused) = (Vec::<KitStatus>::new(), Vec::new());
    for path in files {
        let file = path.display().to_string();
        let error = match inspect(&path, &Limits::default()) {
            Ok(Inspection { manifest: Some(manifest), problems, sha256, .. }) if problems.is_empty() => {
                let kit = KitStatus { name: manifest.name, version: manifest.version.to_string(), file, sha256 };
                match kits.iter().find(|other| other.name == kit.name) {
                    None => {
                        kits.push(kit);
                        continue;
                    }
                    Some(other) => format!(
                        "{}, kit `{}`: a kit of the same name is in {}; which of the two is meant? Remove one",
                        kit.file, kit.name, other.file
                    ),
                }
            }
            Ok(inspection) => {
                let problems: Vec<String> = inspection.problems.iter().map(ToString::to_string).collect();
                problems.join("\n")
            }
            Err(error) => error.to_string(),
        };
        refused.push(RefusedStatus { file: path.display().to_string(), error, serving: None });
    }
    Ok((kits, refused))
}

fn inspect_one(asked: &KitInspect) -> anyhow::Result<i32> {
    let inspection = match inspect(&asked.file, &Limits::default()) {
        Ok(inspection) => inspection,
        Err(error) if asked.json => {
            say!("{}", serde_json::json!({ "problems": [error.to_string()] }))?;
            return Ok(1);
        }
        Err(error) => bail!("{error}"),
    };
    if asked.json {
        say!("{}", as_json(&inspection)?)?;
    } else {
        print_inspection(&inspection)?;
    }
    Ok(i32::from(!inspection.problems.is_empty()))
}

fn as_json(inspection: &Inspection) -> anyhow::Result<String> {
    let problems: Vec<String> = inspection.problems.iter().map(ToString::to_string).collect();
    Ok(serde_json::to_string_pretty(&serde_json::json!({
        "manifest": inspection.manifest,
        "sha256": inspection.sha256,
        "bytes": inspection.bytes,
        "imports": inspection.imports,
        "exports": inspection.exports,
        "abilities": inspection.abilities,
        "unused-needs": inspection.unused_needs,
        "problems": problems,
    }))?)
}

fn print_inspection(inspection: &Inspection) -> Result<(), Unwritten> {
    if let Some(manifest) = &inspection.manifest {
        say!("{} {}: {}", manifest.name, manifest.version, manifest.description)?;
        say!("licence   {}", manifest.licence)?;
        say!("contract  mainstay:kit {}", manifest.contract)?;
    }
    say!("file      {} bytes, sha256 {}", inspection.bytes, inspection.sha256)?;
    if let Some(manifest) = &inspection.manifest {
        for need in &manifest.needs {
            let optional = if need.optional { " (optional)" } else { "" };
            let unused =
                if inspection.unused_needs.contains(&need.interface) { " (declared, not imported)" } else { "" };
            say!("needs     {}{optional}: {}{unused}", need.interface, need.reason)?;
        }
    }
    for import in inspection.imports.iter() {
        say!("imports   {import}")?;
    }
    for export in inspection.exports.iter() {
        say!("exports   {export}")?;
    }
    if let Some(manifest) = &inspection.manifest {
        for param in params::lines(&manifest.params) {
            say!("param     {param}")?;
        }
    }
    for problem in inspection.problems.iter() {
        say!("problem   {problem}")?;
    }
    if inspection.problems.is_empty() {
        say!("no problem")?;
    }
    Ok(())
}

async fn run(asked: KitRun) -> anyhow::Result<i32> {
    // What the kit logs, its last words when it panics among it, and what it used and was refused.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&asked.log).with_context(|| format!("--log {}", asked.log))?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let params = given_params(&asked)?;
    let grants = grants(&asked)?;
    // Its own folder below the system's temporary one, closed to others; gone afterwards.
    let scratch = tempfile::Builder::new().prefix("mainstay-kit-").tempdir()?;
    let runtime =
        Runtime::new(RuntimeConfig { cache_dir: scratch.path().join("compiled"), limits: Limits::default() })?;
    let kit = runtime.load(&asked.file).await?;
    let mut wrong: Vec<String> = kit
        .check_params(&params)
        .iter()
        .map(|problem| format!("{}: {}{}", param(&problem.pointer), problem.message, hint(problem.hint.as_deref())))
        .collect();
    for problem in kit.check_grants(&grants, asked.secrets.as_deref()) {
        if problem.severity == mainstay_runtime::Severity::Error {
            wrong.push(format!("{}{}", problem.message, hint(Some(&problem.hint))));
        }
    }
    if !wrong.is_empty() {
        bail!("{} cannot be called:\n{}", kit.name(), wrong.join("\n"));
    }
    let commands = Commands::open(&scratch.path().join("commands"), SupervisorExe::own())?;
    let store = asked.store.clone().unwrap_or_else(|| scratch.path().join("store"));
    let services = ResourceServices::new(grants, store, asked.secrets.clone(), commands);
    let operation = match asked.operation {
        KitOperation::Restore => Operation::Restore,
        KitOperation::Remove => Operation::Remove,
        KitOperation::QuickCheck => Operation::QuickCheck,
        KitOperation::DeepCheck => {
            if !kit.has_deep_check() {
                bail!("{} cannot check more than quick-check does: it does not export `deep-check`", kit.name());
            }
            Operation::DeepCheck
        }
        KitOperation::Assess => {
            if !kit.has_readiness() {
                bail!("{} cannot say whether a node is ready: it does not export `readiness`", kit.name());
            }
            Operation::Assess
        }
        KitOperation::Recover => Operation::Recover(Failure {
            found_by: "operator".into(),
            report: None,
            bad_checks: 0,
            details: Vec::new(),
        }),
    };
    let call = Call {
        operation,
        tag: asked.tag.as_str().into(),
        node: asked.node.as_str().into(),
        params: params.to_string().into(),
        operation_id: format!("by-hand-{}", std::process::id()).into(),
        attempt: 1,
        epoch: 1,
        budget: asked.budget,
        hints: vec![("cause".into(), "operator".into())],
        resource: Arc::new(services),
    };
    let interrupted = async {
        // Without it Ctrl-C would leave what the kit has started.
        let _ = tokio::signal::ctrl_c().await;
    };
    let outcome = kit.call(call, interrupted).await;
    tell(&asked, &outcome)
}

fn hint(hint: Option<&str>) -> String {
    hint.map_or(String::new(), |hint| format!("\n    hint: {hint}"))
}

fn tell(asked: &KitRun, outcome: &Outcome) -> anyhow::Result<i32> {
    if asked.json {
        say!("{}", serde_json::to_string_pretty(outcome)?)?;
    }
    let (said, details, good) = match outcome {
        Outcome::Done(done) => (
            format!("ok, {}: {}", if done.changed { "changed" } else { "unchanged" }, done.summary),
            &done.details,
            true,
        ),
        Outcome::Report(report) => {
            let good = matches!(report.health, Health::Healthy | Health::Degraded);
            (format!("{} ({}): {}", word(report.health), report.code, report.summary), &report.details, good)
        }
        Outcome::Recovery(result) => (
            format!("{}: {}", word(result.verdict), result.summary),
            &result.details,
            result.verdict != Verdict::GiveUp,
        ),
        Outcome::Findings(found) => {
            let ready = found.iter().all(|finding| finding.weight < Weight::Blocking);
            if !asked.json {
                say!("{}", if ready { "ready" } else { "not ready" })?;
                for finding in found {
                    say!("{} ({}): {}", word(finding.weight), finding.code, finding.summary)?;
                    say!("  {}", finding.advice)?;
                    for (key, value) in &finding.details {
                        say!("  {key} = {value}")?;
                    }
                }
            }
            return Ok(i32::from(!ready));
        }
        Outcome::Error(error) => (
            format!(
                "error {} ({}): {}; retry {}, left behind: {}",
                word(error.kind),
                error.code,
                error.message,
                word(error.retry),
                word(error.effect)
            ),
            &error.details,
            false,
        ),
        Outcome::Fault(fault) => {
            if !asked.json {
                say!("{fault}")?;
                say!("{}", serde_json::to_string_pretty(&fault.evidence)?)?;
            }
            return Ok(1);
        }
    };
    if !asked.json {
        say!("{said}")?;
        for (key, value) in details.iter() {
            say!("  {key} = {value}")?;
        }
    }
    Ok(i32::from(!good))
}

/// The contract's word for a case of one of its enums.
fn word(case: impl Serialize) -> String {
    serde_json::to_value(case).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn given_params(asked: &KitRun) -> anyhow::Result<Value> {
    let mut params: Value =
        serde_json::from_str(&asked.params).with_context(|| format!("--params {}", asked.params))?;
    for param in &asked.param {
        let (path, value) = param.split_once('=').with_context(|| format!("--param {param}: write KEY=VALUE"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        let mut at = &mut params;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[key];
            if keys.peek().is_none() {
                *at = value;
                break;
            }
        }
    }
    if !params.is_object() {
        bail!("--params has to be a JSON object");
    }
    Ok(params)
}

fn grants(asked: &KitRun) -> anyhow::Result<Grants> {
    let command = |text: &String| match text.split_once(':') {
        Some((program, user)) => CommandGrant { program: program.into(), user: Some(user.into()) },
        None => CommandGrant { program: text.into(), user: None },
    };
    let mount = |text: &String| match text.split_once(':') {
        Some((point, device)) => MountGrant { point: point.into(), device: Some(device.into()) },
        None => MountGrant { point: text.into(), device: None },
    };
    let net =
        asked.grant_net.iter().map(|text| text.parse::<NetGrant>().with_context(|| format!("--grant-net {text}")));
    Ok(Grants {
        command: asked.grant_command.iter().map(command).collect(),
        net: net.collect::<anyhow::Result<_>>()?,
        secret: asked.grant_secret.clone(),
        volume: asked.grant_volume.clone(),
        mount: asked.grant_mount.iter().map(mount).collect(),
        service: asked.grant_service.clone(),
    })
}
