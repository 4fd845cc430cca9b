//! Searches: all there is, page by page, from one server.
//!
//! A page that is too large for the server is asked for smaller. A search that breaks off is made anew, because the
//! place in it belongs to the connection. Every search ends: at a number of entries, of pages, and of time.

use mainstay_sdk::prelude::*;

use super::connection::Connection;
use super::message::{Entry, Search};
use super::session::Session;
use super::trouble::Trouble;

/// Results of a search that is not made in pages: an object, or the few of one kind that a server has.
const FEW_MAX: usize = 1_000;
/// Pages of a search, empty ones too, which Active Directory may send.
const PAGES_MAX: usize = 10_000;

/// What a search found.
pub(crate) struct Found<T> {
    /// What was kept of each.
    pub(crate) kept: Vec<T>,
    /// There are more than were wanted.
    pub(crate) more: bool,
    /// Where else the search would have to be made.
    pub(crate) elsewhere: Vec<String>,
}

impl Session<'_> {
    /// The few entries that there are.
    pub(crate) fn few(&mut self, doing: &str, search: &Search) -> Result<Vec<Entry>, Error> {
        let page_size = self.settings.page_size;
        let found = self.run(doing, |connection| pages(connection, search, page_size, FEW_MAX, &Some))?;
        if found.more {
            let message = format!("{doing}: {} knows more than {FEW_MAX} of them", self.server());
            return Err(Error::failed("too-many", message).nowhere().no_effect());
        }
        Ok(found.kept)
    }

    /// One entry by its name, or none without one.
    pub(crate) fn one(&mut self, doing: &str, search: &Search) -> Result<Option<Entry>, Error> {
        let found = self.run(doing, |connection| connection.search(search, None, 1))?;
        Ok(found.entries.into_iter().next())
    }

    /// What `keep` makes of all entries, up to about `kept_max`.
    pub(crate) fn many<T>(
        &mut self,
        doing: &str,
        search: &Search,
        kept_max: usize,
        keep: impl Fn(Entry) -> Option<T>,
    ) -> Result<Found<T>, Error> {
        let page_size = self.settings.page_size;
        self.run(doing, |connection| pages(connection, search, page_size, kept_max, &keep))
    }
}

fn pages<T>(
    connection: &mut Connection,
    search: &Search,
    mut page_size: u16,
    kept_max: usize,
    keep: &impl Fn(Entry) -> Option<T>,
) -> Result<Found<T>, Trouble> {
    loop {
        match pages_of(connection, search, page_size, kept_max, keep) {
            Err(Trouble::Limit(_)) if page_size > 1 => page_size /= 2,
            result => return result,
        }
    }
}

fn pages_of<T>(
    connection: &mut Connection,
    search: &Search,
    page_size: u16,
    kept_max: usize,
    keep: &impl Fn(Entry) -> Option<T>,
) -> Result<Found<T>, Trouble> {
    let mut found = Found { kept: Vec::new(), more: false, elsewhere: Vec::new() };
    let mut cookie = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = connection.search(search, Some((page_size, &cookie)), usize::from(page_size))?;
        found.kept.extend(page.entries.into_iter().filter_map(keep));
        if found.elsewhere.is_empty() {
            found.elsewhere = page.elsewhere;
        }
        if page.cookie.is_empty() {
            return Ok(found);
        }
        if found.kept.len() >= kept_max {
            found.more = true;
            return Ok(found);
        }
        cookie = page.cookie;
    }
    Err(Trouble::Endless("pages"))
}
