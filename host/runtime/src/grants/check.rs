//! Whether a resource's grants fit its kit: asked at config check, and again on apply.
//!
//! Every problem is told at once. What can only be known later (does the server answer, does the program work)
//! is not asked here.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use mainstay_supervisor::{check_program, check_user};
use serde::Serialize;

use super::{CommandGrant, Grants, MountGrant, secret_name_problem};
use crate::capability::{read_secret, service_name_problem};
use crate::interfaces::GRANTED;
use crate::limits::Limits;
use crate::manifest::{Manifest, Need};

/// Does it keep the resource from being used?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It works, but somebody should look.
    Warning,
    /// It cannot work.
    Error,
}

/// One thing that is wrong with grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantProblem {
    /// How bad.
    pub severity: Severity,
    /// Which: `command`, `net`, `secret`, `volume`, `mount` or `service`.
    pub capability: String,
    /// The grant in question, as it is written; none when one is missing.
    pub grant: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for GrantProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grants.{}: {}; {}", self.capability, self.message, self.hint)
    }
}

/// Everything that is wrong.
pub(crate) fn check(
    manifest: &Manifest,
    grants: &Grants,
    secrets_dir: Option<&Path>,
    limits: &Limits,
) -> Vec<GrantProblem> {
    let mut problems: Vec<_> = manifest
        .needs
        .iter()
        .filter(|need| !need.optional && !grants.any_for(&need.interface))
        .map(not_granted)
        .collect();
    for capability in GRANTED {
        if grants.any_for(capability) && !manifest.needs(capability) {
            problems.push(GrantProblem {
                severity: Severity::Warning,
                capability: capability.to_owned(),
                grant: None,
                message: format!(
                    "the kit {} does not use `{capability}`, so what is granted of it is for nobody",
                    manifest.name
                ),
                hint: "remove the grant, or is another kit meant?".to_owned(),
            });
        }
    }
    grants.command.iter().for_each(|grant| command(grant, &mut problems));
    for grant in &grants.net {
        if let Some(problem) = grant.problem() {
            problems.push(error("net", grant, problem.to_owned(), "write host:port"));
        }
    }
    for name in &grants.secret {
        secret(name, secrets_dir, limits, &mut problems);
    }
    for name in &grants.volume {
        // By the same rule as a secret's: it is a part of paths.
        if secret_name_problem(name).is_some() {
            let message = "a volume's name is made of 1 to 64 letters, digits, - _ and .".to_owned();
            problems.push(error(
                "volume",
                &crate::text::one_line(name, 80),
                message,
                "write it as the volume is called",
            ));
        }
    }
    grants.mount.iter().for_each(|grant| mount(grant, grants, &mut problems));
    for name in &grants.service {
        if let Some(problem) = service_name_problem(name) {
            let name = crate::text::one_line(name, 80);
            problems.push(error("service", &name, problem.to_owned(), "write it as the system calls the service"));
        }
    }
    repeated(grants, &mut problems);
    problems
}

/// A need of which nothing is granted.
pub(crate) fn not_granted(need: &Need) -> GrantProblem {
    let example = match need.interface.as_str() {
        "command" => "grants.command = [\"/path/of/the/program\"]",
        "net" => "grants.net = [\"host:port\"]",
        "volume" => "grants.volume = [\"name\"]",
        "mount" => "grants.mount = [\"/mount/point\"]",
        "service" => "grants.service = [\"name\"]",
        _ => "grants.secret = [\"name\"]",
    };
    GrantProblem {
        severity: Severity::Error,
        capability: need.interface.clone(),
        grant: None,
        message: format!(
            "the kit needs `{}` and nothing of it is granted. Its reason: {}",
            need.interface, need.reason
        ),
        hint: format!("grant what it is to reach, such as {example}"),
    }
}

fn error(capability: &str, grant: &dyn fmt::Display, message: String, hint: &str) -> GrantProblem {
    GrantProblem {
        severity: Severity::Error,
        capability: capability.to_owned(),
        grant: Some(grant.to_string()),
        message: format!("{grant}: {message}"),
        hint: hint.to_owned(),
    }
}

fn command(grant: &CommandGrant, problems: &mut Vec<GrantProblem>) {
    // The messages name the program and say what to do.
    if let Err(problem) = check_program(&grant.program) {
        problems.push(error("command", grant, problem.to_string(), "it is checked again each time it is run"));
    }
    if let Some(user) = &grant.user
        && let Err(problem) = check_user(user)
    {
        problems.push(error("command", grant, problem.to_string(), "or grant it without a user"));
    }
}

fn secret(name: &str, secrets_dir: Option<&Path>, limits: &Limits, problems: &mut Vec<GrantProblem>) {
    if let Some(problem) = secret_name_problem(name) {
        let name = crate::text::one_line(name, 80);
        problems.push(error("secret", &name, problem.to_owned(), "it is the name of a file in the folder of secrets"));
        return;
    }
    if let Err(problem) = read_secret(secrets_dir, name, limits.secret_bytes_max) {
        let hint = match secrets_dir {
            Some(dir) => format!("put it into {}, readable by the daemon's user only (mode 0600)", dir.display()),
            None => "say where the secrets of this node are".to_owned(),
        };
        problems.push(error("secret", &name, problem.to_string(), &hint));
    }
}

fn mount(grant: &MountGrant, grants: &Grants, problems: &mut Vec<GrantProblem>) {
    if let Some(problem) = grant.problem() {
        problems.push(error("mount", grant, problem.to_owned(), "write the whole path, as it is"));
        return;
    }
    if grant.device.is_none() && grants.volume.is_empty() {
        let message = "there is nothing that could be mounted there: no volume is granted, and no device".to_owned();
        let hint = format!(
            "grant a volume, such as grants.volume = [\"name\"], or name the device: {{ point = {:?}, device = \"/dev/...\" }}",
            grant.point
        );
        problems.push(error("mount", grant, message, &hint));
    }
    let twice = grants.mount.iter().filter(|other| other.point == grant.point && *other != grant).count();
    if twice > 0 {
        let hint = "one device, or the volumes that are granted";
        problems.push(error("mount", grant, "the same mount point is granted for something else too".to_owned(), hint));
    }
}

/// The same grant twice is a slip: perhaps another was meant.
fn repeated(grants: &Grants, problems: &mut Vec<GrantProblem>) {
    let commands = grants.command.iter().map(|grant| ("command", grant.to_string()));
    let net = grants.net.iter().map(|grant| ("net", grant.to_string()));
    let secrets = grants.secret.iter().map(|name| ("secret", name.clone()));
    let volumes = grants.volume.iter().map(|name| ("volume", name.clone()));
    let mounts = grants.mount.iter().map(|grant| ("mount", grant.to_string()));
    let services = grants.service.iter().map(|name| ("service", name.clone()));
    let mut seen = HashSet::new();
    for (capability, grant) in commands.chain(net).chain(secrets).chain(volumes).chain(mounts).chain(services) {
        if !seen.insert((capability, grant.clone())) {
            problems.push(GrantProblem {
                severity: Severity::Warning,
                capability: capability.to_owned(),
                message: format!("{grant} is granted twice"),
                hint: "remove one, or is another meant?".to_owned(),
                grant: Some(grant),
            });
        }
    }
}
