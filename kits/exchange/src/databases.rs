//! Databases on replicated files: mounted on this server under a name of their own, with the mailboxes of the other server's
//! databases pointed at them (database portability, of 2010 and later).
//!
//! What the cmdlets say they did is held against what they say of the databases afterwards. Nothing here makes a database or
//! deletes one, and a server in a database availability group is left alone.

use std::time::Duration;

use mainstay_sdk::prelude::*;

use crate::plan::Portability;
use crate::shell::{self, Action, Answer};

/// How long a look may take: PowerShell loads the cmdlets, and asks a domain controller.
const LOOK: Duration = Duration::from_secs(60);

/// What mounting and pointing mailboxes here came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Brought {
    pub(crate) mounted: u32,
    pub(crate) repointed: u32,
}

/// Mounts the databases, and points mailboxes at them.
pub(crate) fn restore(of: &Portability, id: &str) -> Result<Brought, Error> {
    let answer = shell::ask(of, id, Action::Restore, Duration::MAX).map_err(Error::partial)?;
    all_mounted(of, &answer)?;
    if answer.left > 0 {
        let why = if answer.refused.is_empty() { "nothing is said why".to_owned() } else { answer.refused.join("; ") };
        let message = format!("{} mailboxes are not pointed at the databases here: {why}", answer.left);
        return Err(Error::failed("mailboxes-left", message).here().partial());
    }
    Ok(Brought { mounted: answer.mounted, repointed: answer.repointed })
}

/// Mounts the databases, and leaves the mailboxes where they are. How many were not mounted before.
pub(crate) fn mount(of: &Portability, id: &str) -> Result<u32, Error> {
    let answer = shell::ask(of, id, Action::Mount, Duration::MAX).map_err(Error::partial)?;
    all_mounted(of, &answer)?;
    Ok(answer.mounted)
}

/// Dismounts them. How many were mounted.
pub(crate) fn dismount(of: &Portability, id: &str) -> Result<u32, Error> {
    let answer = shell::ask(of, id, Action::Dismount, Duration::MAX)?;
    let still: Vec<&str> = of
        .databases
        .iter()
        .filter(|database| answer.database(&database.here).is_none_or(|found| found.mounted != Some(false)))
        .map(|database| database.here.as_str())
        .collect();
    if still.is_empty() {
        return Ok(answer.dismounted);
    }
    Err(Error::failed("not-dismounted", format!("still mounted, or not known to be dismounted: {}", still.join(", "))))
}

/// How they are.
pub(crate) fn look(of: &Portability, id: &str) -> Result<Answer, Error> {
    shell::ask(of, id, Action::Look, LOOK)
}

/// Those of this server that are not mounted, with what is said of them.
pub(crate) fn unmounted(of: &Portability, answer: &Answer) -> Vec<String> {
    let said = |name: &String| match answer.database(name) {
        Some(found) if found.mounted == Some(true) => None,
        Some(found) if found.mounted.is_none() => Some(format!("whether {name} is mounted is not known")),
        Some(_) => Some(format!("{name} is not mounted")),
        None => Some(format!("{name} is not known to Exchange")),
    };
    of.databases.iter().filter_map(|database| said(&database.here)).collect()
}

fn all_mounted(of: &Portability, answer: &Answer) -> Result<(), Error> {
    let unmounted = unmounted(of, answer);
    if unmounted.is_empty() {
        return Ok(());
    }
    let message = format!("the cmdlets report no error, and yet {}", unmounted.join("; "));
    Err(Error::failed("not-mounted", message).elsewhere().partial())
}

/// What stands in the way of a restore on this node, or would harm.
pub(crate) fn findings(of: &Portability, answer: &Answer) -> Vec<Finding> {
    let mut found = Vec::new();
    let server = &answer.server;
    if !server.dag.is_empty() {
        found.push(Finding::blocking(
            "dag-member",
            format!("{} is a member of the database availability group {}", server.name, server.dag),
            "Its databases move by the group itself: protect them by it, or take the server out of it",
        ));
    }
    for database in &of.databases {
        let Some(here) = answer.database(&database.here) else {
            found.push(Finding::blocking(
                "no-database",
                format!("Exchange knows no database {}", database.here),
                "Make it by New-MailboxDatabase, with the paths and the log prefix of the other server's, and do not mount it",
            ));
            continue;
        };
        if here.replication != "None" {
            let summary = format!("the database {} has copies ({})", here.name, here.replication);
            found.push(Finding::blocking("replicated", summary, "Name a database without copies"));
        }
        if !is_same_server(&here.server, &of.server) {
            let summary = format!("the database {} is of {}, and not of {}", here.name, here.server, of.server);
            found.push(Finding::blocking("other-server", summary, "Correct the param databases or servers"));
        }
        for other in database.others.iter().filter_map(|other| answer.database(other)) {
            if !here.log_prefix.eq_ignore_ascii_case(&other.log_prefix) {
                let (one, two) = (&here.log_prefix, &other.log_prefix);
                found.push(Finding::blocking(
                    "log-prefix",
                    format!("the logs of {} begin with {one}, those of {} with {two}", here.name, other.name),
                    "Make the database here anew with the same prefix: after a crash its logs could not be replayed",
                ));
            }
            if file_name(&here.edb).to_lowercase() != file_name(&other.edb).to_lowercase() {
                found.push(Finding::blocking(
                    "edb-file",
                    format!("the file of {} is {}, that of {} is {}", here.name, here.edb, other.name, other.edb),
                    "Give both databases the same file name: they are the same file, on this node and on that",
                ));
            }
        }
    }
    found
}

/// A server by its name, or by its name in the DNS.
fn is_same_server(one: &str, other: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_lowercase();
    short(one) == short(other)
}

fn file_name(path: &str) -> &str {
    path.rsplit(['\\', '/']).next().unwrap_or(path)
}
