//! `mainstay events`.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use mainstay_node::events::{Numbered, Page};

use crate::args::Events;
use crate::client::Client;
use crate::say::say;

/// How long one question waits for an event, in ms; then it is asked again.
const WAIT_MS: u64 = 20_000;

/// Between two tries while the daemon does not answer.
const AGAIN: Duration = Duration::from_millis(500);

pub(crate) async fn events(state: &Path, asked: &Events) -> anyhow::Result<i32> {
    let client = Client::new(state);
    let mut after = asked.after;
    let mut incarnation = None;
    let mut waiting = false;
    loop {
        let wait = if asked.follow { WAIT_MS } else { 0 };
        let page: Page = match client.get(&format!("/v1/events?after={after}&wait-ms={wait}")).await {
            Ok(page) => page,
            // A daemon that is being started anew is waited for.
            Err(error) if asked.follow && incarnation.is_some() => {
                if !std::mem::replace(&mut waiting, true) {
                    eprintln!("({error:#}; waiting for it)");
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        waiting = false;
        if incarnation.is_some_and(|before| before != page.incarnation) {
            // The daemon was started anew, and its events count from 1.
            (incarnation, after) = (None, 0);
            continue;
        }
        incarnation = Some(page.incarnation);
        if page.missed > 0 && after > 0 {
            eprintln!("({} events in between are not kept any more)", page.missed);
        }
        for event in &page.events {
            after = event.number;
            if asked.json {
                say!("{}", serde_json::to_string(event)?)?;
            } else {
                say!("{}", line(event))?;
            }
        }
        if page.events.is_empty() && !asked.follow {
            return Ok(0);
        }
    }
}

fn line(event: &Numbered) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(event.event.at.0);
    format!("{} {}", humantime::format_rfc3339_millis(at), event.text)
}
