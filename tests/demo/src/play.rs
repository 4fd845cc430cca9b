//! To play with it: after the story everything stays as it is until a signal comes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::config::{HIERARCHY, SHOP};
use crate::programs::shell_word;
use crate::stage::{NODES, Stage};
use crate::stop;
use crate::timeline::{Look, Who};
use crate::trouble::Trouble;

/// Between two looks at whether a daemon was started anew, or somebody wants an end, in ms.
const LOOK_MS: u64 = 100;

/// Says what can be tried, and goes on showing what happens until a signal comes.
pub(crate) fn play(stage: &mut Stage, demo: &Path) -> Result<(), Trouble> {
    stage.timeline.heading("It is yours now. In another terminal:");
    stage.timeline.text(&commands(stage, demo)?);
    let mut told = [false; NODES.len()];
    while stop::asked().is_none() {
        for (index, (name, _)) in NODES.iter().enumerate() {
            let node = stage.node_mut(name);
            // One that was started anew by hand listens elsewhere.
            node.connect_any();
            if node.trouble().is_some() && !std::mem::replace(&mut told[index], true) {
                let text = format!("the daemon of {name} has ended");
                stage.timeline.line(Who::Demo, Look::Bad, &text);
            }
        }
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
    Ok(())
}

fn commands(stage: &Stage, demo: &Path) -> Result<String, Trouble> {
    let word = |path: &Path| shell_word(path);
    let folder = stage.folder();
    let target = stage.target();
    let mut out = String::new();
    let mut line = |command: String, what: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {command}\n      {what}");
    };
    line(format!("alias mainstay={}", word(stage.operator.mainstay())?), "the binary, if it is not in your PATH");
    line(
        format!("export MAINSTAY_STATE={}", word(&folder.join(NODES[0].0).join("state"))?),
        "you are on ex01; /ex02/ in it, and you are on ex02",
    );
    line("mainstay status --watch".into(), "the tree, on both nodes, with reasons");
    line(format!("mainstay explain {SHOP}"), "why it is in its state, and what comes next");
    line("mainstay events --follow".into(), "everything that happens, not only what is shown here");
    line(format!("mainstay switchover {HIERARCHY} {}", NODES[0].0), "move it; and back");
    for (name, _) in NODES {
        let node = stage.node(name);
        let (data, broken) = (word(&node.shop().data())?, word(&node.broken())?);
        line(format!("mv {data} {broken}"), &format!("the disk of {name} breaks; the other way round, it is mended"));
    }
    line(format!("kill -9 $(cat {}/*/shop.pid)", word(folder)?), "the shop dies, wherever it runs");
    line(
        format!("cat {} {}/bin/*", word(&stage.config())?, word(folder)?),
        "the config, and the programs that start and stop the shop",
    );
    line(
        format!("{} ask {} {} {}", word(demo)?, target.name_server, target.name, target.port),
        "looks the name up and fetches the page, once",
    );
    let _ = write!(out, "\nCtrl-C ends all of it.\n\n");
    Ok(out)
}
