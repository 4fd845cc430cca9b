//! The DNS kit: names that point at the node in service.
//!
//! It decides from what an authoritative name server says now about the record sets in the params, and
//! changes them by dynamic updates (RFC 2136), signed with TSIG (RFC 8945) if there is a key. In service
//! means: every record set holds exactly this node's values. It knows no other node's values, never
//! deletes what may be somebody else's, and keeps nothing but one mark: that this node was taken out of
//! service while the names were left pointing at it (`on-remove = "keep"`).

mod message;
mod params;
mod plan;
mod reply;
mod transport;
mod trouble;
mod tsig;
mod value;
mod zone;

pub use params::{Algorithm, DnsParams, KeyParams, OnRemove, RecordSet, RecordType, Records, ZoneParams};

use mainstay_sdk::prelude::*;
use plan::{Plan, Set, Zone};
use reply::Seen;
use tsig::Key;
use zone::{Deleted, Session};

/// The mark in the store that says: out of service here, whatever the names say. Its value is since when,
/// in s since 1970.
const KEPT: &str = "kept";
/// How many record sets a summary names. The rest is counted.
const NAMED_COUNT_MAX: usize = 3;

/// The kit.
#[derive(Debug)]
pub struct Dns;

impl Kit for Dns {
    type Params = DnsParams;

    fn restore(ctx: &Context<DnsParams>) -> Result<Done, Error> {
        let plan = Plan::new(&ctx.params)?;
        let mut written = Vec::new();
        for zone in &plan.zones {
            match put_in_place(zone) {
                Ok(Written::Nothing) => {}
                Ok(Written::All(server)) => written.push(format!("{} at {server}", zone.name)),
                Err(error) if written.is_empty() => return Err(error),
                Err(error) => return Err(after_others(error)),
            }
        }
        let was_out = store::get(KEPT)?.is_some();
        if was_out {
            store::delete(KEPT)
                .map_err(|fault| Error::from(fault).doing("note that it is in service").here().partial())?;
        }
        let names = all(&plan, |set| format!("{set} {}", set.values_text()));
        if written.is_empty() && !was_out {
            return Ok(Done::unchanged(format!("already there: {names}")));
        }
        let done = Done::changed(names);
        Ok(if written.is_empty() { done } else { done.detail("updated", written.join(", ")) })
    }

    fn remove(ctx: &Context<DnsParams>) -> Result<Done, Error> {
        let plan = Plan::new(&ctx.params)?;
        match plan.on_remove {
            OnRemove::Keep => keep(),
            OnRemove::Delete => delete(&plan),
        }
    }

    fn quick_check(ctx: &Context<DnsParams>) -> Result<Report, Error> {
        let plan = Plan::new(&ctx.params)?;
        let mut looks = Vec::new();
        let mut servers = Vec::new();
        for zone in &plan.zones {
            let mut session = Session::new(zone);
            session.check_grants()?;
            looks.extend(zone.sets.iter().zip(session.look()?));
            servers.push(session.server().to_string());
        }
        servers.dedup();
        let report = match store::get(KEPT)? {
            Some(since) => out_of_service(&since),
            None => judge(&looks),
        };
        Ok(looks
            .iter()
            .filter(|(_, seen)| *seen != Seen::Ours)
            .fold(report.detail("server", servers.join(", ")), |report, (set, seen)| {
                report.detail(set.to_string(), seen)
            }))
    }

    fn recover(ctx: &Context<DnsParams>, _: &Failure) -> Result<RecoveryResult, Error> {
        let done = Self::restore(ctx).map_err(|error| error.doing("write the names again"))?;
        Ok(RecoveryResult::recovered(done.summary))
    }
}

impl Readiness for Dns {
    /// Whether the name servers answer here with authority, nothing stands in the way of the names, and the key is there.
    /// Whether they would take an update is not tried: there is no way to ask that changes nothing.
    fn assess(ctx: &Context<DnsParams>) -> Result<Vec<Finding>, Error> {
        let plan = Plan::new(&ctx.params)?;
        Ok(plan.zones.iter().filter_map(|zone| could_put_in_place(zone).err()).map(blocking).collect())
    }
}

/// What restore finds out before it changes anything.
fn could_put_in_place(zone: &Zone) -> Result<(), Error> {
    let mut session = Session::new(zone);
    session.check_grants()?;
    zone.key.as_ref().map(Key::fetch).transpose()?;
    let looks = session.look()?;
    for (set, seen) in zone.sets.iter().zip(&looks) {
        if let Seen::InTheWay(what) = seen {
            return Err(zone::in_the_way(set, what));
        }
    }
    Ok(())
}

fn blocking(error: Error) -> Finding {
    let advice = "Restore would fail for the same reason; it is asked again by itself";
    let finding = Finding::blocking(error.code, error.message, advice);
    Finding { details: error.details, ..finding }
}

/// What putting a zone in place took.
enum Written {
    /// It was so already.
    Nothing,
    /// An update, at this server.
    All(String),
}

/// Brings the zone's record sets to this node's values and TTLs, unless they have them.
fn put_in_place(zone: &Zone) -> Result<Written, Error> {
    let mut session = Session::new(zone);
    session.check_grants()?;
    // Before any question, so that a secret that is not there is not found out half way.
    let key = zone.key.as_ref().map(Key::fetch).transpose()?;
    let looks = session.look().map_err(Error::no_effect)?;
    if looks.iter().all(|seen| *seen == Seen::Ours) {
        return Ok(Written::Nothing);
    }
    for (set, seen) in zone.sets.iter().zip(&looks) {
        if let Seen::InTheWay(what) = seen {
            return Err(zone::in_the_way(set, what));
        }
    }
    for (set, seen) in zone.sets.iter().zip(session.replace(key.as_ref())?) {
        if let Seen::OurValues(ttl_s) = seen {
            mainstay_sdk::warn!("{} gave {set} a TTL of {ttl_s} s instead of {} s", session.server(), set.ttl_s);
        }
    }
    Ok(Written::All(session.server().to_string()))
}

/// An error in one zone after others were done: even if it left nothing behind itself, they did.
fn after_others(error: Error) -> Error {
    if error.effect == Effect::None { error.partial() } else { error }
}

/// Leaves the names as they are, and remembers that they do not mean that this node is in service.
///
/// It takes no name server to do that, so a name server that is gone keeps no hierarchy from moving.
fn keep() -> Result<Done, Error> {
    let summary = "the names stay as they are until the next restore (on-remove is keep)";
    if store::get(KEPT)?.is_some() {
        return Ok(Done::unchanged(summary));
    }
    let since = (clock::unix_ms() / 1_000).to_string();
    store::put(KEPT, since.as_bytes())
        .map_err(|fault| Error::from(fault).doing("note that it is out of service").here())?;
    Ok(Done::changed(summary))
}

/// Deletes what still holds exactly this node's values; goes on after an error, to delete all it can.
fn delete(plan: &Plan) -> Result<Done, Error> {
    let mut deleted = Vec::new();
    let mut left = Vec::new();
    let mut failed = None;
    for zone in &plan.zones {
        let key = match zone.key.as_ref().map(Key::fetch).transpose() {
            Ok(key) => key,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        let mut session = Session::new(zone);
        for set in &zone.sets {
            match session.delete_if_ours(set, key.as_ref()) {
                Ok(Deleted::Gone) => deleted.push(set.to_string()),
                Ok(Deleted::NotOurs) => left.push(set.to_string()),
                Err(error) => {
                    failed.get_or_insert(error);
                    // The zone's other sets would be told the same, and each would take its time.
                    break;
                }
            }
        }
    }
    if let Some(error) = failed {
        return Err(if deleted.is_empty() { error } else { after_others(error) });
    }
    store::delete(KEPT).map_err(|fault| Error::from(fault).doing("note that it is out of service").here())?;
    let done = if deleted.is_empty() {
        Done::unchanged(format!("not this node's any more: {}", left.join(", ")))
    } else {
        Done::changed(format!("deleted {}", deleted.join(", ")))
    };
    Ok(if left.is_empty() { done } else { done.detail("not-ours", left.join(", ")) })
}

/// Taken out of service with the names left as they are: they say nothing about this node.
fn out_of_service(since: &[u8]) -> Report {
    let since = std::str::from_utf8(since).ok().and_then(|text| text.parse().ok()).map(trouble::utc);
    let since = since.map_or_else(String::new, |since| format!(" since {since}"));
    Report::stopped(format!("out of service here{since}; the names were left as they are (on-remove is keep)"))
        .code("kept")
}

/// What is seen of the record sets, as one.
fn judge(looks: &[(&Set, Seen)]) -> Report {
    let with = |wanted: fn(&Seen) -> bool| {
        some(looks.iter().filter(|(_, seen)| wanted(seen)).map(|(set, seen)| format!("{set} {seen}")))
    };
    let count = |wanted: fn(&Seen) -> bool| looks.iter().filter(|(_, seen)| wanted(seen)).count();
    if count(|seen| matches!(seen, Seen::InTheWay(_))) > 0 {
        return Report::failed("in-the-way", with(|seen| matches!(seen, Seen::InTheWay(_))));
    }
    let ours = count(|seen| matches!(seen, Seen::Ours | Seen::OurValues(_)));
    let none = count(|seen| matches!(seen, Seen::Others(_) | Seen::Nothing { .. }));
    if none == looks.len() {
        return Report::stopped(with(|_| true));
    }
    if ours < looks.len() {
        let wrong = with(|seen| !matches!(seen, Seen::Ours | Seen::OurValues(_)));
        return Report::failed("mixed", format!("only a part points at this node: {wrong}"));
    }
    if count(|seen| matches!(seen, Seen::OurValues(_))) > 0 {
        return Report::degraded("ttl", with(|seen| matches!(seen, Seen::OurValues(_))));
    }
    Report::healthy(some(looks.iter().map(|(set, _)| format!("{set} {}", set.values_text()))))
}

fn all(plan: &Plan, text: impl Fn(&Set) -> String) -> String {
    some(plan.zones.iter().flat_map(|zone| &zone.sets).map(text))
}

/// The first few, and how many more.
fn some(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    match texts.len().saturating_sub(NAMED_COUNT_MAX) {
        0 => texts.join("; "),
        more => format!("{}; and {more} more", texts[..NAMED_COUNT_MAX].join("; ")),
    }
}

mainstay_sdk::export_kit!(Dns, abilities: [readiness], needs: [
    net: "asks the name servers, and sends them updates",
    clock: "puts the time into signatures, and waits no longer than it may",
    random: "gives messages ids that nobody can guess",
    store: "remembers that it was taken out of service while the names were left as they are",
], optional: [
    secret: "signs updates with the key, if it has one",
]);
