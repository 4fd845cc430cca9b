//! `mainstay cluster init` and `mainstay node add`: certificates, made where the authority is kept. Needs no daemon.

use mainstay_node::certificates::make::{self, Made, Validity};
use mainstay_node::certificates::{AUTHORITY_FILE, AUTHORITY_KEY_FILE, NODE_FILE, NODE_KEY_FILE, date};

use crate::args::{ClusterInit, NodeAdd};
use crate::say::{Unwritten, say};

pub(crate) fn cluster_init(asked: &ClusterInit) -> anyhow::Result<i32> {
    let made = make::authority(&asked.dir, &asked.cluster, Validity::days(asked.days))?;
    tell(&made)?;
    let dir = asked.dir.display();
    say!("Whoever has {AUTHORITY_KEY_FILE} can make nodes of this cluster: keep {dir} safe, and off the nodes.")?;
    say!("Next, for each node of the config: mainstay node add NAME --dir {dir}")?;
    Ok(0)
}

pub(crate) fn node_add(asked: &NodeAdd) -> anyhow::Result<i32> {
    let out = asked.out.clone().unwrap_or_else(|| asked.dir.join(&asked.name));
    let made = make::node(&asked.dir, &out, &asked.name, Validity::days(asked.days))?;
    tell(&made)?;
    say!(
        "Copy {AUTHORITY_FILE}, {NODE_FILE} and {NODE_KEY_FILE} to {}, into the directory that `certificates` in the \
         config names; {NODE_KEY_FILE} stays readable by the daemon's user only (mode 600). A daemon that runs needs no \
         restart.",
        asked.name
    )?;
    say!("Then remove {} here: nobody but the node needs it.", out.join(NODE_KEY_FILE).display())?;
    Ok(0)
}

fn tell(made: &Made) -> Result<(), Unwritten> {
    for file in &made.files {
        say!("made {}", file.display())?;
    }
    say!("{}, until {}", made.identity, date(made.expires_at))
}
