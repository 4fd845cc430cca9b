//! Two servers compared, before one has to take the place of the other: what the directory knows of both.
//!
//! It finds what would make the mailboxes of the one unusable on the other: another build, stores of other names, a
//! database availability group, an account without the rights. It changes nothing.

use mainstay_sdk::prelude::*;

use super::message::{Filter, Scope, Search};
use super::params::{DirectoryParams, Security, StoreName};
use super::rehome::MAJOR_MAX;
use super::servers::{ExchangeServer, Places, Store, pair, some};
use super::session::{Patience, Session};
use super::settings::Settings;

/// What rehoming changes.
const HOME: [&str; 3] = ["homeMDB", "homeMTA", "msExchHomeServerName"];

/// What keeps the Exchange server `here` from taking the mailboxes of `owner`; best of all nothing. `stores` are those that
/// are not called alike, from the owner's to those here.
///
/// # Errors
/// When the directory does not tell.
pub fn compare(params: &DirectoryParams, here: &str, owner: &str, stores: &[StoreName]) -> Result<Vec<Finding>, Error> {
    let settings = Settings::new(params)?;
    let mut session = Session::new(&settings, Patience::None)?;
    let places = session.places()?;
    let mut findings = Vec::new();
    if settings.tls == Security::None {
        findings.push(Finding::warning(
            "directory-not-secured",
            "the directory is asked without TLS: the account's password crosses the network readable",
            "Set directory.tls to start-tls, and give the domain controllers certificates",
        ));
    }
    let mut known = Vec::new();
    for name in [here, owner] {
        match session.exchange_server(&places, name)? {
            Some(server) => known.push(server),
            None => findings.push(Finding::blocking(
                "no-such-server",
                format!("{} knows no Exchange server {name}", session.server()),
                "Correct the server's name, or look whether the account may read the configuration partition",
            )),
        }
    }
    if let [here, owner] = &known[..] {
        findings.extend(group_members(here, owner));
        findings.extend(versions(here, owner));
        if [here, owner].iter().all(|server| server.major().is_some_and(|major| major <= MAJOR_MAX)) {
            stores_fit(&mut session, &places, here, owner, stores, &mut findings)?;
        }
    }
    session.close();
    Ok(findings)
}

fn group_members(here: &ExchangeServer, owner: &ExchangeServer) -> Vec<Finding> {
    let member = |server: &ExchangeServer| {
        let group = server.availability_group.as_ref()?;
        Some(Finding::blocking(
            "dag-member",
            format!("{} is a member of the database availability group {group}", server.name),
            "Leave its databases to the group, which moves them by itself, or take the server out of it",
        ))
    };
    [here, owner].into_iter().filter_map(member).collect()
}

fn versions(here: &ExchangeServer, owner: &ExchangeServer) -> Option<Finding> {
    let text = |server: &ExchangeServer| {
        server.version.clone().unwrap_or_else(|| "of no version that the directory knows".into())
    };
    let finding = match (&here.version, &owner.version) {
        (Some(ours), Some(theirs)) if ours.eq_ignore_ascii_case(theirs) => return None,
        (Some(_), Some(_)) => Finding::blocking(
            "version-differs",
            format!("{} is {}, and {} is {}", here.name, text(here), owner.name, text(owner)),
            "Bring both servers to the same service pack and update",
        ),
        (None, _) | (_, None) => Finding::warning(
            "version-unknown",
            format!("{} is {}, and {} is {}", here.name, text(here), owner.name, text(owner)),
            "Look whether the account may read serialNumber of both, and compare the versions by hand",
        ),
    };
    Some(finding.detail("here", text(here)).detail("owner", text(owner)))
}

fn stores_fit(
    session: &mut Session<'_>,
    places: &Places,
    here: &ExchangeServer,
    owner: &ExchangeServer,
    names: &[StoreName],
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let (ours, theirs) = (session.stores(here)?, session.stores(owner)?);
    if let Err(problems) = pair(&theirs, &ours, names) {
        let summary =
            format!("the mailbox stores of {} do not fit those of {}: {}", here.name, owner.name, problems.join(", "));
        let advice = format!(
            "Give {} storage groups and mailbox stores of the same names, or name those that differ in stores",
            here.name
        );
        findings.push(
            Finding::blocking("store-names", summary, advice)
                .detail("here", some(&ours))
                .detail("owner", some(&theirs)),
        );
    }
    if theirs.is_empty() {
        findings.push(Finding::blocking(
            "no-stores",
            format!("{} has no mailbox store in the directory", owner.name),
            "Look whether the account may read the configuration partition",
        ));
    }
    match session.transfer_agent(here) {
        Ok(_) => {}
        Err(error) if error.code == "no-transfer-agent" => {
            findings.push(Finding::blocking(
                error.code,
                error.message,
                "Look at the server's object in the configuration partition",
            ));
        }
        Err(error) => return Err(error),
    }
    findings.extend(rights(session, places, &theirs)?);
    Ok(())
}

/// Whether the account may change recipients, asked of one of them: the directory tells what it would allow.
fn rights(session: &mut Session<'_>, places: &Places, stores: &[Store]) -> Result<Option<Finding>, Error> {
    for store in stores {
        let search = Search {
            base: places.base.clone(),
            scope: Scope::Subtree,
            filter: Filter::And(vec![
                Filter::Equal("objectClass", "user".to_owned()),
                Filter::Equal("homeMDB", store.dn.clone()),
            ]),
            attributes: &["1.1"],
        };
        let doing = format!("look for a recipient of {store}");
        let first = session.run(&doing, |connection| connection.search(&search, Some((1, &[])), 1))?;
        let Some(recipient) = first.entries.into_iter().next() else { continue };
        let search = Search {
            base: recipient.dn.clone(),
            scope: Scope::Base,
            filter: Filter::Present("objectClass"),
            attributes: &["allowedAttributesEffective"],
        };
        let told = session.one(&format!("ask what may be changed of {}", recipient.dn), &search)?;
        let missing: Vec<&str> = HOME
            .into_iter()
            .filter(|name| {
                let mut allowed = told.iter().flat_map(|entry| entry.texts("allowedAttributesEffective"));
                !allowed.any(|allowed| allowed.eq_ignore_ascii_case(name))
            })
            .collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let summary = format!(
            "the account {} may not change {} of {}, a recipient of {store}",
            session.settings.user,
            missing.join(", "),
            recipient.dn
        );
        return Ok(Some(Finding::blocking(
            "no-rights",
            summary,
            "Give the account the right to write these attributes of all recipients",
        )));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, version: Option<&str>, group: Option<&str>) -> ExchangeServer {
        ExchangeServer {
            name: name.into(),
            dn: format!("CN={name}"),
            legacy_dn: None,
            version: version.map(Into::into),
            availability_group: group.map(Into::into),
        }
    }

    #[test]
    fn builds_have_to_be_the_same() {
        let (sp2, sp1) = ("Version 6.5 (Build 7638.2: Service Pack 2)", "Version 6.5 (Build 7226.6: Service Pack 1)");
        let found = |here, owner| versions(&server("EX02", here, None), &server("EX01", owner, None));
        assert_eq!(found(Some(sp2), Some(sp2)), None);
        let finding = found(Some(sp1), Some(sp2)).unwrap();
        assert_eq!(finding.code, "version-differs");
        assert_eq!(finding.summary, format!("EX02 is {sp1}, and EX01 is {sp2}"));
        assert_eq!(found(None, Some(sp2)).unwrap().code, "version-unknown");
    }

    #[test]
    fn a_member_of_a_group_is_refused() {
        let found = group_members(&server("EX02", None, Some("CN=DAG1,CN=x")), &server("EX01", None, None));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].code.as_str(), found[0].weight), ("dag-member", Weight::Blocking));
    }
}
