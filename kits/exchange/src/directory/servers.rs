//! Exchange servers as the configuration partition has them: version, stores, and what recipients name them by.
//!
//! The names of classes and attributes are those of the Exchange schema (Exchange Server 2003 SDK, "Active Directory
//! Schema"; "How to Re-Home Exchange Mailbox Accounts", Exchange 2000/2003). Nothing is changed here.

use mainstay_sdk::prelude::*;

use super::dn;
use super::message::{Entry, Filter, Scope, Search};
use super::params::StoreName;
use super::session::Session;

/// Where Exchange keeps its configuration, below the configuration partition.
const EXCHANGE: &str = "CN=Microsoft Exchange,CN=Services";
/// How many names a message lists. The rest is counted.
const NAMED_COUNT_MAX: usize = 10;

/// An Exchange server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeServer {
    /// Its name, as the directory writes it.
    pub(crate) name: String,
    /// Its object.
    pub(crate) dn: String,
    /// By what recipients name it in `msExchHomeServerName`.
    pub(crate) legacy_dn: Option<String>,
    /// `Version 6.5 (Build 7638.2: Service Pack 2)`.
    pub(crate) version: Option<String>,
    /// The database availability group that it is a member of.
    pub(crate) availability_group: Option<String>,
}

/// A mailbox store, or database, of a server of 2007 or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    /// The storage group's name.
    pub(crate) group: String,
    /// Its own name.
    pub(crate) name: String,
    /// Its object.
    pub(crate) dn: String,
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\\{}", self.group, self.name)
    }
}

impl Store {
    /// Whether `name`, which is `STORE` or `GROUP\STORE`, means it.
    fn is_called(&self, name: &str) -> bool {
        let same = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
        match name.split_once('\\') {
            Some((group, store)) => same(&self.group, group) && same(&self.name, store),
            None => same(&self.name, name),
        }
    }
}

impl ExchangeServer {
    /// The first number of its version: 6 is Exchange 2003, 8 is 2007, 14 is 2010.
    pub(crate) fn major(&self) -> Option<u32> {
        let version = self.version.as_ref()?;
        version.strip_prefix("Version ")?.split(['.', ' ']).next()?.parse().ok()
    }
}

/// Where things are in the directory.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The domain.
    pub(crate) base: String,
    /// The configuration partition.
    pub(crate) configuration: String,
}

impl Session<'_> {
    /// Where things are: as the params say, and else as the server says of itself.
    pub(crate) fn places(&mut self) -> Result<Places, Error> {
        let (base, configuration) = (self.settings.base.clone(), self.settings.configuration.clone());
        if let (Some(base), Some(configuration)) = (&base, &configuration) {
            return Ok(Places { base: base.clone(), configuration: configuration.clone() });
        }
        let search = Search {
            base: String::new(),
            scope: Scope::Base,
            filter: Filter::Present("objectClass"),
            attributes: &["defaultNamingContext", "configurationNamingContext"],
        };
        let root = self.one("ask the directory what it holds", &search)?;
        let said = |given: Option<String>, name: &str, param: &str| {
            given.or_else(|| root.as_ref()?.text(name).map(str::to_owned)).ok_or_else(|| {
                let message = format!(
                    "{} does not say its {name}: it is no domain controller of Active Directory, or `directory.{param}` has to be given",
                    self.server()
                );
                Error::failed("no-partition", message).nowhere().no_effect()
            })
        };
        Ok(Places {
            base: said(base, "defaultNamingContext", "base")?,
            configuration: said(configuration, "configurationNamingContext", "configuration")?,
        })
    }

    /// The Exchange server of this name; none when there is none.
    pub(crate) fn exchange_server(&mut self, places: &Places, name: &str) -> Result<Option<ExchangeServer>, Error> {
        let search = Search {
            base: format!("{EXCHANGE},{}", places.configuration),
            scope: Scope::Subtree,
            filter: Filter::And(vec![
                Filter::Equal("objectClass", "msExchExchangeServer".to_owned()),
                Filter::Equal("cn", name.to_owned()),
            ]),
            attributes: &["cn", "legacyExchangeDN", "serialNumber", "msExchMDBAvailabilityGroupLink"],
        };
        let mut found = self.few(&format!("look for the Exchange server {name}"), &search)?;
        let Some(entry) = found.pop() else { return Ok(None) };
        if let Some(other) = found.pop() {
            let message = format!("two Exchange servers are called {name}: {} and {}", entry.dn, other.dn);
            return Err(Error::conflict("two-servers", message).no_effect());
        }
        let text = |name: &str| entry.text(name).map(str::to_owned);
        Ok(Some(ExchangeServer {
            name: text("cn").unwrap_or_else(|| name.to_owned()),
            legacy_dn: text("legacyExchangeDN"),
            version: text("serialNumber"),
            availability_group: text("msExchMDBAvailabilityGroupLink"),
            dn: entry.dn,
        }))
    }

    /// The Exchange server of this name, which has to be there.
    pub(crate) fn known_server(&mut self, places: &Places, name: &str) -> Result<ExchangeServer, Error> {
        self.exchange_server(places, name)?.ok_or_else(|| {
            let message = format!(
                "{} knows no Exchange server {name} below {EXCHANGE},{}: is the name right, and may the account read there?",
                self.server(),
                places.configuration
            );
            Error::failed("no-such-server", message).nowhere().no_effect()
        })
    }

    /// The mailbox stores of a server of 2007 or before, by name. Those of a recovery storage group are no one's home.
    pub(crate) fn stores(&mut self, server: &ExchangeServer) -> Result<Vec<Store>, Error> {
        let search = Search {
            base: server.dn.clone(),
            scope: Scope::Subtree,
            filter: Filter::Equal("objectClass", "msExchPrivateMDB".to_owned()),
            attributes: &["cn", "msExchRestore"],
        };
        let found = self.few(&format!("look for the mailbox stores of {}", server.name), &search)?;
        let mut stores: Vec<Store> = found
            .iter()
            .filter(|entry| !entry.text("msExchRestore").is_some_and(|value| value.eq_ignore_ascii_case("TRUE")))
            .map(store)
            .collect::<Result<_, _>>()?;
        stores.sort_by_key(Store::to_string);
        Ok(stores)
    }

    /// The message transfer agent of a server.
    pub(crate) fn transfer_agent(&mut self, server: &ExchangeServer) -> Result<String, Error> {
        let search = Search {
            base: server.dn.clone(),
            scope: Scope::Subtree,
            filter: Filter::Equal("objectClass", "mTA".to_owned()),
            attributes: &["cn"],
        };
        let doing = format!("look for the message transfer agent of {}", server.name);
        match &self.few(&doing, &search)?[..] {
            [agent] => Ok(agent.dn.clone()),
            found => {
                let message = format!(
                    "{} has {} objects of class mTA below {}, and has to have one: recipients name it in homeMTA",
                    server.name,
                    found.len(),
                    server.dn
                );
                Err(Error::failed("no-transfer-agent", message).nowhere().no_effect())
            }
        }
    }
}

fn store(entry: &Entry) -> Result<Store, Error> {
    let parts = dn::parse(&entry.dn).unwrap_or_default();
    let [store, group, ..] = &parts[..] else {
        let message = format!("the directory names a mailbox store {:?}, which is no distinguished name", entry.dn);
        return Err(Error::failed("garbage-answer", message).nowhere().no_effect());
    };
    Ok(Store { group: group.value.clone(), name: store.value.clone(), dn: entry.dn.clone() })
}

/// Which store of the one server takes the place of which of the other: by the names given, and else by having the same
/// names. Of those that have none, all are told.
pub(crate) fn pair(from: &[Store], to: &[Store], names: &[StoreName]) -> Result<Vec<(Store, Store)>, Vec<String>> {
    let mut problems = Vec::new();
    let mut pairs: Vec<(Store, Store)> = Vec::new();
    for StoreName { from: one, to: other } in names {
        for (name, stores, whose) in [(one, from, "the failed server"), (other, to, "this node's server")] {
            match stores.iter().filter(|store| store.is_called(name)).count() {
                0 => problems.push(format!("{whose} has no mailbox store {name:?}")),
                1 => {}
                _ => problems.push(format!("{whose} has several mailbox stores {name:?}: write GROUP\\STORE")),
            }
        }
        if names.iter().filter(|it| it.from.to_lowercase() == one.to_lowercase()).count() > 1 {
            problems.push(format!("the store {one:?} is given more than once"));
        }
    }
    for store in from {
        let given = names.iter().find(|name| store.is_called(&name.from));
        let other = match given {
            Some(name) => to.iter().find(|other| other.is_called(&name.to)),
            None => to.iter().find(|other| other.is_called(&store.to_string())),
        };
        match other {
            Some(other) => pairs.push((store.clone(), other.clone())),
            None if given.is_some() => {}
            None => problems.push(format!("this node's server has no mailbox store {store}")),
        }
    }
    problems.dedup();
    if problems.is_empty() { Ok(pairs) } else { Err(problems) }
}

/// The first few names, and how many more.
pub(crate) fn some<T: std::fmt::Display>(all: &[T]) -> String {
    let named: Vec<String> = all.iter().take(NAMED_COUNT_MAX).map(ToString::to_string).collect();
    match all.len().saturating_sub(NAMED_COUNT_MAX) {
        0 if all.is_empty() => "none".to_owned(),
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stores(names: &[&str]) -> Vec<Store> {
        let store = |name: &&str| {
            let (group, name) = name.split_once('\\').expect("GROUP\\STORE");
            Store { group: group.into(), name: name.into(), dn: format!("CN={name},CN={group}") }
        };
        names.iter().map(store).collect()
    }

    fn names(names: &[(&str, &str)]) -> Vec<StoreName> {
        names.iter().map(|(from, to)| StoreName { from: (*from).into(), to: (*to).into() }).collect()
    }

    #[test]
    fn stores_are_paired_by_their_names_and_by_those_given() {
        let (from, to) =
            (stores(&["First\\A", "First\\B", "Second\\B"]), stores(&["first\\a", "First\\C", "Second\\b"]));
        let pairs = pair(&from, &to, &names(&[("First\\B", "c")])).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(one, other)| (one.to_string(), other.to_string())).collect();
        let expected = [("First\\A", "first\\a"), ("First\\B", "First\\C"), ("Second\\B", "Second\\b")];
        assert_eq!(pairs, expected.map(|(one, other)| (one.to_owned(), other.to_owned())));
    }

    #[test]
    fn stores_without_a_counterpart_are_all_told() {
        let (from, to) = (stores(&["First\\A", "First\\B", "Second\\B"]), stores(&["First\\X"]));
        assert_eq!(pair(&from, &to, &[]).unwrap_err().len(), 3);
        let problems = pair(&from, &to, &names(&[("B", "X"), ("A", "Y"), ("a", "X"), ("Z", "X")])).unwrap_err();
        assert_eq!(
            problems,
            [
                "the failed server has several mailbox stores \"B\": write GROUP\\STORE",
                "this node's server has no mailbox store \"Y\"",
                "the store \"A\" is given more than once",
                "the store \"a\" is given more than once",
                "the failed server has no mailbox store \"Z\"",
            ]
        );
    }

    #[test]
    fn versions_are_told_by_their_first_number() {
        for (version, expected) in [
            ("Version 6.5 (Build 7638.2: Service Pack 2)", Some(6)),
            ("Version 8.3 (Build 30083.6)", Some(8)),
            ("Version 15.1 (Build 32507.6)", Some(15)),
            ("15.1", None),
        ] {
            let server = ExchangeServer {
                name: "EX01".into(),
                dn: "CN=EX01".into(),
                legacy_dn: None,
                version: Some(version.into()),
                availability_group: None,
            };
            assert_eq!(server.major(), expected, "{version}");
        }
    }
}
