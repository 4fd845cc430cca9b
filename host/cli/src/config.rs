//! `mainstay config check`.

use std::path::Path;

use mainstay_core::diagnostic::{Diagnostic, Severity};
use mainstay_core::names::NodeName;
use mainstay_node::config::{Config, ConfigError};
use mainstay_runtime::{KitDirectory, Limits, Runtime, RuntimeConfig};

use crate::args::ConfigCheck;
use crate::say::say;

pub(crate) async fn check(asked: &ConfigCheck) -> anyhow::Result<i32> {
    match everything_wrong(&asked.file, asked.node.as_deref()).await {
        Ok((diagnostics, refused)) => tell(asked, &diagnostics, &refused),
        Err(error) => match error.downcast::<ConfigError>() {
            Ok(ConfigError::Wrong(diagnostics)) => tell(asked, &diagnostics, &[]),
            Ok(error @ ConfigError::Unreadable(..)) => Err(error.into()),
            Err(error) => Err(error),
        },
    }
}

/// All that is wrong with a config, in one go: its text, params and grants against the kits that can be loaded, and the
/// kit files that cannot.
pub(crate) async fn everything_wrong(
    file: &Path,
    node: Option<&str>,
) -> anyhow::Result<(Vec<Diagnostic>, Vec<String>)> {
    let mut config = Config::read_with_errors(file)?;
    let nodes: Vec<NodeName> = match node {
        Some(name) => match config.spec.nodes.keys().find(|node| node.as_str() == name) {
            Some(node) => vec![node.clone()],
            // What is wrong with the text may be why.
            None => return Ok((config.into_diagnostics(), vec![format!("the config has no node `{name}`")])),
        },
        None => config.spec.nodes.keys().cloned().collect(),
    };
    config.check_certificates(&nodes);
    // Compiled kits are not kept: a check leaves nothing behind.
    let cache = tempfile::tempdir()?;
    let runtime = Runtime::new(RuntimeConfig { cache_dir: cache.path().join("compiled"), limits: Limits::default() })?;
    match KitDirectory::open(runtime, config.kits()).await {
        Ok(kits) => {
            let refused = kits.refused().iter().map(|refused| refused.error.to_string()).collect();
            Ok((config.check(&nodes, &kits.kits()), refused))
        }
        // What is wrong with the text is told all the same.
        Err(error) => Ok((config.into_diagnostics(), vec![error.to_string()])),
    }
}

fn tell(asked: &ConfigCheck, diagnostics: &[Diagnostic], refused: &[String]) -> anyhow::Result<i32> {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count() + refused.len();
    if asked.json {
        say!("{}", serde_json::json!({ "diagnostics": diagnostics, "refused-kits": refused }))?;
    } else {
        for diagnostic in diagnostics.iter() {
            say!("{diagnostic}")?;
        }
        for refused in refused.iter() {
            say!("error: {refused}")?;
        }
        match errors {
            0 => say!("{}: no error", asked.file.display())?,
            1 => say!("{}: 1 error", asked.file.display())?,
            _ => say!("{}: {errors} errors", asked.file.display())?,
        }
    }
    Ok(i32::from(errors > 0))
}
