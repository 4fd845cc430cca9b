//! What an earlier daemon's kit calls have left running (OWNERSHIP O23): found before anything else is called.
//!
//! A command of a check changes nothing and is ended. Everything else is awaited, to its own deadline at the latest, which
//! its supervisor sees to: it is most likely bringing something in service, and would only have to be done again. A fence
//! command is ended too ([`crate::fence`] says why); nothing waits for it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use mainstay_core::names::Tag;
use mainstay_supervisor::{Commands, Leftover};
use tokio::sync::mpsc;

use crate::happening::Happening;

/// The operation whose commands change nothing.
const CHECK: &str = "quick-check";

/// Finds what is left: the tags of resources for which something still runs, and what it is.
pub(crate) async fn find(commands: &Commands) -> anyhow::Result<(BTreeSet<Tag>, Vec<Leftover>)> {
    let found = commands.leftovers().await.context("what an earlier daemon has left running cannot be found out")?;
    let (fences, found): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|leftover| leftover.owner().operation == crate::fence::OPERATION);
    for fence in fences {
        let node = Tag::new(&*fence.owner().tag);
        tokio::spawn(async move { see_to_one(&node, &fence).await });
    }
    let busy = found
        .iter()
        .filter(|leftover| leftover.state().is_running())
        .map(|leftover| Tag::new(&*leftover.owner().tag))
        .collect();
    Ok((busy, found))
}

/// Awaits or ends what is left, and tells of each resource for which nothing runs any more.
pub(crate) fn see_to(leftovers: Vec<Leftover>, happenings: &mpsc::Sender<Happening>) {
    let mut by_tag: BTreeMap<Tag, Vec<Leftover>> = BTreeMap::new();
    for leftover in leftovers {
        by_tag.entry(Tag::new(&*leftover.owner().tag)).or_default().push(leftover);
    }
    for (tag, leftovers) in by_tag {
        let happenings = happenings.clone();
        tokio::spawn(async move {
            for leftover in leftovers {
                see_to_one(&tag, &leftover).await;
            }
            // Without a driver there is nobody to tell: the daemon stops.
            let _ = happenings.send(Happening::LeftoverGone(tag)).await;
        });
    }
}

async fn see_to_one(tag: &Tag, leftover: &Leftover) {
    let running = leftover.state().is_running();
    let what = format!(
        "{} of {tag} by an earlier daemon ({})",
        leftover.owner().operation,
        leftover.request().program.display()
    );
    let is_ended = [CHECK, crate::fence::OPERATION].contains(&&*leftover.owner().operation);
    let ended = if running && is_ended {
        tracing::info!("{what} still runs: it is ended");
        leftover.end().await
    } else {
        if running {
            tracing::info!("{what} still runs: it is awaited");
        }
        leftover.await_end().await
    };
    match ended {
        Ok(end) if running => tracing::info!("{what} has ended: {end:?}"),
        Ok(_) => {}
        // Nothing more can be found out about it; the resource is looked at before anything is done.
        Err(error) => tracing::error!("{what}: how it ended cannot be found out: {error}"),
    }
}
