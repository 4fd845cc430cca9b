//! `mainstay plan`: what would happen, played through with what a daemon knows or a file has kept.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use mainstay_core::message::list;
use mainstay_core::rehearsal::{Snapshot, WhatIf, matters, rehearse};

use crate::args::Plan;
use crate::client::Client;
use crate::say::say;

pub(crate) async fn plan(state: &Path, asked: Plan) -> anyhow::Result<i32> {
    let snapshot: Snapshot = match &asked.state_file {
        Some(file) => {
            let text = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            serde_json::from_slice(&text)
                .with_context(|| format!("{} is not what `mainstay plan --save` writes", file.display()))?
        }
        None => Client::new(state).get("/v1/snapshot").await?,
    };
    if let Some(file) = &asked.save {
        let text = serde_json::to_vec_pretty(&snapshot)?;
        std::fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))?;
        say!("what {} knows is in {}", snapshot.node, file.display())?;
        return Ok(0);
    }
    // clap has seen to it that there is one.
    let text = asked.what_if.unwrap_or_default();
    let what = WhatIf::parse(&text).map_err(|why| anyhow!(why))?;
    let rehearsed = rehearse(&snapshot, &what).map_err(|why| anyhow!(why))?;
    if asked.json {
        say!("{}", serde_json::to_string_pretty(&rehearsed)?)?;
        return Ok(0);
    }
    say!("If {what}, as {} knows the cluster, with applications that start at once:", snapshot.node)?;
    for said in rehearsed.said.iter().filter(|said| matters(&said.event)) {
        let after = std::time::Duration::from_millis(said.after_ms);
        say!("{:>9.3} s  {:8} {}", after.as_secs_f64(), said.node.as_str(), said.event)?;
    }
    if rehearsed.said.is_empty() {
        say!("nothing happens")?;
    }
    for (hierarchy, nodes) in &rehearsed.serving {
        let place = if nodes.is_empty() { "nowhere as a whole".to_owned() } else { format!("on {}", list(nodes)) };
        say!("{hierarchy} is then in service {place}")?;
    }
    Ok(0)
}
