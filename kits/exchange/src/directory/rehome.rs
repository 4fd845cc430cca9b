//! Rehoming: the recipients of the failed server's mailbox stores get their home on this node's server.
//!
//! As "How to Re-Home Exchange Mailbox Accounts" (Exchange 2000/2003) has it: `homeMDB`, `homeMTA` and
//! `msExchHomeServerName` change together, in one modify each, which a directory makes whole or not at all. What is left to
//! do is what a search finds at the failed server's stores, so it does not matter where an earlier attempt ended; the search
//! is made again until it finds nothing more, so it does not matter either what changes while it goes on. A recipient that
//! somebody else has moved meanwhile is left there: the store it goes away from is named in the change.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_sdk::prelude::*;
use percent_encoding::percent_decode_str;

use super::connection::Modify;
use super::dn;
use super::message::{Change, Entry, Filter, Outcome, Scope, Search};
use super::params::{DirectoryParams, StoreName};
use super::servers::{ExchangeServer, Places, Store, pair, some};
use super::session::{Patience, Session};
use super::settings::Settings;
use super::trouble::code;

/// Recipients that are looked up at a time: what their names take is far below a kit's memory. The next search finds
/// the others.
const RECIPIENTS_MAX: usize = 20_000;
/// How often it is searched again. Each search but the last found something that the one before had not seen.
const PASSES_MAX: usize = 20;
/// How often a server that cannot just now is asked again for the same recipient, before the next server is.
const TRIES_MAX: u32 = 4;
/// How often a recipient may be found at a store, and not be there any more when it is changed.
const MISSED_MAX: u32 = 3;
/// Recipients that may refuse: of more, something other than those recipients is the matter.
const REFUSED_MAX: usize = 1_000;
/// The last version whose stores lie below a server, and whose recipients name that server: Exchange 2007.
pub(crate) const MAJOR_MAX: u32 = 8;
/// Mailboxes that are a store's own, one for each: those of the other store are there already.
const SYSTEM_MAILBOX: &str = "msExchSystemMailbox";

/// Whether it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only said.
    DryRun,
    /// Done.
    Apply,
}

/// What is to be rehomed.
#[derive(Clone, Debug)]
pub struct Rehome {
    /// The name of the Exchange server that failed.
    pub from_server: String,
    /// The name of this node's.
    pub to_server: String,
    /// Stores that are not called alike on both.
    pub stores: Vec<StoreName>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehomed {
    /// Recipients that were changed.
    pub changed: usize,
    /// Recipients of this node's stores that were right before anything was done.
    pub already: usize,
    /// In a dry run: recipients that would be changed.
    pub planned: usize,
    /// Recipients that the directory would not change, by distinguished name, and why.
    pub refused: Vec<(String, String)>,
    /// Other domains that the directory names, as URLs. Recipients there were not looked for.
    pub elsewhere: Vec<String>,
}

impl Rehomed {
    /// The error that those that were refused are; none when there are none.
    #[must_use]
    pub fn refusal(&self) -> Option<Error> {
        let count = self.refused.len();
        if count == 0 {
            return None;
        }
        let told: Vec<String> = self.refused.iter().map(|(dn, why)| format!("{dn}: {why}")).collect();
        let message = format!(
            "{} of {} recipients keep their home on the failed server, because the directory refuses to change them: {}",
            count,
            count + self.changed,
            some(&told)
        );
        Some(
            Error::failed("recipients-refused", message)
                .nowhere()
                .partial()
                .detail("changed", self.changed)
                .detail("refused", count),
        )
    }
}

/// Gives the recipients of the one server's mailbox stores a home on the other.
///
/// Whatever the directory does, it ends before the call's time does. An error says with its effect whether recipients were
/// changed; doing it again goes on where it ended.
///
/// # Errors
/// `params`, `bind-secret`; `no-such-server`, `no-stores`, `store-names`, `rehome-version`, `no-transfer-agent`: nothing was
/// changed. `still-moving`, `too-many-refused`, and what the servers of the directory say (`docs` of the kit): a part may
/// have been. That single recipients were refused is no error yet: see [`Rehomed::refusal`].
pub fn rehome(params: &DirectoryParams, asked: &Rehome, mode: Mode) -> Result<Rehomed, Error> {
    let settings = Settings::new(params)?;
    let patience = match mode {
        Mode::Apply => Patience::Some,
        Mode::DryRun => Patience::None,
    };
    let mut session = Session::new(&settings, patience)?;
    let places = session.places()?;
    let plan = Plan::new(&mut session, &places, asked)?;
    let mut work = Work {
        session,
        places,
        plan,
        mode,
        done: Rehomed::default(),
        missed: BTreeMap::new(),
        refused: BTreeSet::new(),
    };
    match work.run() {
        Ok(()) => {
            let Work { session, done, .. } = work;
            session.close();
            Ok(done)
        }
        Err(error) => {
            let error = if work.done.changed > 0 { error.partial() } else { error };
            Err(error.detail("changed", work.done.changed))
        }
    }
}

/// From where, to where.
struct Plan {
    from: ExchangeServer,
    from_agent: Option<String>,
    pairs: Vec<(Store, Store)>,
    /// What `msExchHomeServerName` and `homeMTA` are to be.
    server_name: String,
    agent: String,
}

impl Plan {
    fn new(session: &mut Session<'_>, places: &Places, asked: &Rehome) -> Result<Self, Error> {
        let from = session.known_server(places, &asked.from_server)?;
        let to = session.known_server(places, &asked.to_server)?;
        if dn::same(&from.dn, &to.dn) {
            let message = format!("recipients cannot be rehomed from {} to itself", to.name);
            return Err(Error::invalid_params("params", message));
        }
        for server in [&from, &to] {
            if server.major().is_some_and(|major| major > MAJOR_MAX) {
                let message = format!(
                    "{} is {}: recipients are rehomed on Exchange 2003 and 2007 alone, later ones move databases",
                    server.name,
                    server.version.as_deref().unwrap_or("of a later version")
                );
                return Err(Error::unsupported("rehome-version", message).nowhere().no_effect());
            }
        }
        let Some(server_name) = to.legacy_dn.clone() else {
            let message = format!("{} has no legacyExchangeDN, by which recipients name their server", to.dn);
            return Err(Error::failed("no-legacy-name", message).nowhere().no_effect());
        };
        let agent = session.transfer_agent(&to)?;
        // Only to recognise it: where the failed server has none, nobody names it.
        let from_agent = session.transfer_agent(&from).ok();
        let (ours, theirs) = (session.stores(&to)?, session.stores(&from)?);
        if theirs.is_empty() {
            let message = format!("{} has no mailbox store below {}: may the account read there?", from.name, from.dn);
            return Err(Error::failed("no-stores", message).nowhere().no_effect());
        }
        let pairs = pair(&theirs, &ours, &asked.stores).map_err(|problems| {
            let message = format!(
                "the mailbox stores of {} and {} do not fit together: {}; {} has: {}; {} has: {}",
                from.name,
                to.name,
                problems.join(", "),
                from.name,
                some(&theirs),
                to.name,
                some(&ours)
            );
            Error::conflict("store-names", message).no_effect()
        })?;
        Ok(Self { from, from_agent, pairs, server_name, agent })
    }

    /// The changes for a recipient of `store`, which goes to `new`.
    fn away(&self, recipient: String, store: &Store, new: &Store) -> Modify {
        let mut changes = vec![Change::Delete("homeMDB", store.dn.clone()), Change::Add("homeMDB", new.dn.clone())];
        changes.extend(self.to_server());
        Modify { dn: recipient, changes, in_doubt: false }
    }

    fn to_server(&self) -> [Change; 2] {
        [
            Change::Replace("homeMTA", self.agent.clone()),
            Change::Replace("msExchHomeServerName", self.server_name.clone()),
        ]
    }

    /// Whether a recipient of this node's stores still names the failed server.
    fn names_the_failed(&self, recipient: &Entry) -> bool {
        let same = |one: Option<&str>, other: Option<&String>| match (one, other) {
            (Some(one), Some(other)) => dn::same(one, other),
            (None, _) | (_, None) => false,
        };
        same(recipient.text("homeMTA"), self.from_agent.as_ref())
            || same(recipient.text("msExchHomeServerName"), self.from.legacy_dn.as_ref())
    }
}

/// It, going on.
struct Work<'a> {
    session: Session<'a>,
    places: Places,
    plan: Plan,
    mode: Mode,
    done: Rehomed,
    /// Recipients that were not where a search had found them, and how often.
    missed: BTreeMap<String, u32>,
    /// Those that were refused.
    refused: BTreeSet<String>,
}

impl Work<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let half_done = self.look_at_our_stores()?;
        let mut found = self.change(half_done)?;
        for _ in 0..PASSES_MAX {
            let pairs = self.plan.pairs.clone();
            let mut more = false;
            for (store, new) in &pairs {
                let (moves, cut) = self.recipients_of(store, new)?;
                more |= cut;
                found += moves.len();
                more |= self.change(moves)? > 0;
            }
            if self.mode == Mode::DryRun {
                self.done.planned = found;
                return Ok(());
            }
            if !more {
                return Ok(());
            }
        }
        let message = format!(
            "after {PASSES_MAX} searches there are still recipients that get a home at {}: does something else move them there?",
            self.plan.from.name
        );
        Err(Error::conflict("still-moving", message).here().no_effect())
    }

    /// Counts the recipients that this node's stores have, and gives the changes for those among them that still name the
    /// failed server, as a script that was interrupted leaves them.
    fn look_at_our_stores(&mut self) -> Result<Vec<Modify>, Error> {
        let stores: BTreeMap<String, Store> =
            self.plan.pairs.iter().map(|(_, ours)| (dn::key(&ours.dn), ours.clone())).collect();
        let mut half_done = Vec::new();
        for store in stores.values() {
            let search = self.homed_at(store, &["objectClass", "homeMTA", "msExchHomeServerName"]);
            let plan = &self.plan;
            let found = self.session.many(
                &format!("look for the recipients of {store}"),
                &search,
                RECIPIENTS_MAX,
                |entry| (!is_system_mailbox(&entry)).then(|| (plan.names_the_failed(&entry), entry.dn)),
            )?;
            for (names_the_failed, dn) in found.kept {
                if names_the_failed {
                    half_done.push(Modify { dn, changes: self.plan.to_server().to_vec(), in_doubt: false });
                } else {
                    self.done.already += 1;
                }
            }
        }
        Ok(half_done)
    }

    /// The changes for the recipients that a store has now; and whether there are more than that.
    fn recipients_of(&mut self, store: &Store, new: &Store) -> Result<(Vec<Modify>, bool), Error> {
        let search = self.homed_at(store, &["objectClass"]);
        let doing = format!("look for the recipients of {store} at {}", self.plan.from.name);
        // A dry run does not search again, and has to see them all at once.
        let max = if self.mode == Mode::DryRun { usize::MAX } else { RECIPIENTS_MAX };
        let found =
            self.session.many(&doing, &search, max, |entry| (!is_system_mailbox(&entry)).then_some(entry.dn))?;
        for url in found.elsewhere.iter().filter(|url| holds_recipients(url, &self.places)) {
            if !self.done.elsewhere.contains(url) {
                mainstay_sdk::warn!(
                    "recipients in {url} are not looked for: only those below {} are",
                    self.places.base
                );
                self.done.elsewhere.push(url.clone());
            }
        }
        let mut moves: Vec<Modify> = Vec::new();
        let mut seen = BTreeSet::new();
        for dn in found.kept {
            let key = dn::key(&dn);
            if !self.refused.contains(&key) && seen.insert(key) {
                moves.push(self.plan.away(dn, store, new));
            }
        }
        Ok((moves, found.more))
    }

    fn homed_at(&self, store: &Store, attributes: &'static [&'static str]) -> Search {
        Search {
            base: self.places.base.clone(),
            scope: Scope::Subtree,
            filter: Filter::Equal("homeMDB", store.dn.clone()),
            attributes,
        }
    }

    /// Makes changes, until each is made or refused; how many there were.
    fn change(&mut self, mut left: Vec<Modify>) -> Result<usize, Error> {
        let count = left.len();
        if self.mode == Mode::DryRun {
            return Ok(count);
        }
        let (mut tries, mut servers_left) = (0, self.session.settings.servers.len());
        while !left.is_empty() {
            let mut later = self.change_once(&mut left)?;
            if later.is_empty() {
                break;
            }
            tries += 1;
            if tries > TRIES_MAX && servers_left == 1 {
                for (modify, outcome) in later.drain(..) {
                    self.refuse(modify.dn, &outcome)?;
                }
            } else if tries > TRIES_MAX {
                (tries, servers_left) = (0, servers_left - 1);
                self.session.next_server();
            } else if !self.session.wait(tries) {
                let message = format!(
                    "{} cannot change {} recipients just now, and no time is left to ask again",
                    self.session.server(),
                    later.len()
                );
                return Err(Error::timeout("no-time", message).no_effect());
            }
            left = later.into_iter().map(|(modify, _)| modify).collect();
        }
        Ok(count)
    }

    /// Sends all of `left` once; gives back those that the server cannot do just now.
    fn change_once(&mut self, left: &mut Vec<Modify>) -> Result<Vec<(Modify, Outcome)>, Error> {
        let batch = self.session.settings.batch;
        let mut later = Vec::new();
        let mut over = Vec::new();
        let (done, missed) = (&mut self.done, &mut self.missed);
        let doing = format!("rehome {} recipients of {}", left.len(), self.plan.from.name);
        let result = self.session.run(&doing, |connection| {
            connection.modify(left, batch, |modify, outcome| match outcome.code {
                code::SUCCESS => done.changed += 1,
                // The answer to it was lost with a connection, and now it is not there any more.
                code::NO_SUCH_ATTRIBUTE if modify.in_doubt => done.changed += 1,
                code::NO_SUCH_ATTRIBUTE | code::NO_SUCH_OBJECT => {
                    let count = missed.entry(dn::key(&modify.dn)).or_insert(0);
                    *count += 1;
                    if *count >= MISSED_MAX {
                        over.push((modify, outcome));
                    }
                }
                code::TIME_LIMIT_EXCEEDED | code::BUSY | code::UNAVAILABLE | code::UNWILLING => {
                    later.push((modify, outcome))
                }
                _ => over.push((modify, outcome)),
            })
        });
        for (modify, outcome) in over {
            self.refuse(modify.dn, &outcome)?;
        }
        match result {
            Ok(()) => Ok(later),
            Err(error) if left.iter().any(|modify| modify.in_doubt) => Err(error.effect_unknown()),
            Err(error) => Err(error),
        }
    }

    fn refuse(&mut self, recipient: String, outcome: &Outcome) -> Result<(), Error> {
        mainstay_sdk::warn!("{recipient} keeps its home: the directory refuses with {outcome}");
        self.refused.insert(dn::key(&recipient));
        self.done.refused.push((recipient, outcome.to_string()));
        if self.done.refused.len() < REFUSED_MAX {
            return Ok(());
        }
        let message = format!(
            "{REFUSED_MAX} recipients were refused, the last one with {outcome}: what may the account {} do?",
            self.session.settings.user
        );
        Err(Error::denied("too-many-refused", message).no_effect())
    }
}

fn is_system_mailbox(entry: &Entry) -> bool {
    entry.texts("objectClass").any(|class| class.eq_ignore_ascii_case(SYSTEM_MAILBOX))
}

/// Whether a reference leads to another domain, rather than to one of the partitions that every domain has besides.
fn holds_recipients(url: &str, places: &Places) -> bool {
    let Some(dn) = url.split("://").nth(1).and_then(|rest| rest.split('/').nth(1)) else { return true };
    let dn = dn.split('?').next().unwrap_or_default();
    let dn = percent_decode_str(dn).decode_utf8_lossy();
    let zones = dn::parse(&dn).and_then(|parts| parts.into_iter().next());
    let zones = zones.is_some_and(|part| {
        ["domaindnszones", "forestdnszones"].contains(&part.value.to_lowercase().as_str()) && part.attribute == "dc"
    });
    !zones && !dn::within(&dn, &places.configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_to_other_domains_are_told_from_those_to_partitions() {
        let places =
            Places { base: "DC=corp,DC=test".into(), configuration: "CN=Configuration,DC=corp,DC=test".into() };
        for (url, expected) in [
            ("ldap://DomainDnsZones.corp.test/DC=DomainDnsZones,DC=corp,DC=test", false),
            ("ldap://ForestDnsZones.corp.test/DC=ForestDnsZones,DC=corp,DC=test??sub", false),
            ("ldap://corp.test/CN=Configuration,DC=corp,DC=test", false),
            ("ldap://corp.test/CN=Configuration%2CDC=corp,DC=test??base", false),
            ("ldap://child.corp.test/DC=child,DC=corp,DC=test", true),
            ("ldap://child.corp.test", true),
            ("nonsense", true),
        ] {
            assert_eq!(holds_recipients(url, &places), expected, "{url}");
        }
    }

    #[test]
    fn those_refused_are_named_in_an_error() {
        let refused = (0..12).map(|n| (format!("CN=u{n},DC=x"), "insufficientAccessRights (50)".to_owned())).collect();
        let done = Rehomed { changed: 988, refused, ..Rehomed::default() };
        let error = done.refusal().unwrap();
        assert_eq!(
            (error.kind, error.code.as_str(), error.effect),
            (ErrorKind::Failed, "recipients-refused", Effect::Partial)
        );
        assert!(error.message.starts_with("12 of 1000 recipients keep their home on the failed server"), "{error}");
        assert!(error.message.contains("CN=u9,DC=x: insufficientAccessRights (50); and 2 more"), "{error}");
        assert_eq!(Rehomed::default().refusal(), None);
    }
}
