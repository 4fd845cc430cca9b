//! Nodes that are told of each other, links between them that can be cut, applications that are installed on them.
//!
//! Everything is on loopback, and no port is fixed: each node listens where the system lets it, and a relay leads
//! there. The relay's port is what the config has as the node's address, so that nodes find each other again after a
//! restart, and so that the cable can be pulled.

use std::fmt::Write as _;

use mainstay_test_support::{Authority, Relay, TempDir, binary, wait_until};

use crate::app::App;
use crate::node::Node;
use crate::{LIMIT, Status};

/// The name of every cluster here.
pub const CLUSTER: &str = "e2e";

/// A few nodes.
#[derive(Debug)]
pub struct Cluster {
    // Dropped first: what runs on the nodes ends before their links do.
    nodes: Vec<Node>,
    links: Vec<Relay>,
    authority: Authority,
    world: TempDir,
}

impl Cluster {
    /// Machines with kits and certificates and without a config, none of them on.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        let links = names.iter().map(|_| Relay::new().unwrap_or_else(|error| panic!("no relay: {error}"))).collect();
        let authority = Authority::new(&binary("mainstay"), CLUSTER);
        let nodes: Vec<Node> = names.iter().map(|name| Node::new(name)).collect();
        nodes.iter().for_each(|node| authority.node(node.name(), &node.certificates()));
        Self { nodes, links, authority, world: TempDir::new() }
    }

    /// One node `a` that is on, with one application `web` in the hierarchy `shop`, which is in service.
    #[must_use]
    #[track_caller]
    pub fn of_one() -> (Self, App) {
        let mut cluster = Self::new(&["a"]);
        let app = cluster.app("web");
        cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
        cluster.start_all();
        cluster.wait_for("a", "web to serve on a", |status| status.state("web", "a") == "ISP");
        (cluster, app)
    }

    /// The same with two nodes `a` and `b`, each of which sees the other.
    #[must_use]
    #[track_caller]
    pub fn of_two() -> (Self, App) {
        let mut cluster = Self::new(&["a", "b"]);
        let app = cluster.app("web");
        cluster.configure(&format!("{}{}", cluster.hierarchy("shop"), app.resource("shop")));
        cluster.start_all();
        cluster.wait_until_served_by("a");
        (cluster, app)
    }

    /// What has signed the certificates of its nodes.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Installs an application on every node.
    #[must_use]
    pub fn app(&self, tag: &str) -> App {
        App::install(tag, self.nodes.iter().map(|node| (node.name(), node.folder())), &self.world)
    }

    /// A hierarchy over all nodes, as the config has it.
    #[must_use]
    pub fn hierarchy(&self, name: &str) -> String {
        let names: Vec<&str> = self.nodes.iter().map(Node::name).collect();
        format!("\n[hierarchy.{name}]\nnodes = {names:?}\n")
    }

    /// What stands at the top of every node's config: the cluster, one comm path, the nodes.
    #[must_use]
    pub fn preamble(&self) -> String {
        // Dead after 2 s: a busy machine keeps that up, and a test that waits for it is not slow.
        let mut text = format!(
            "cluster = \"{CLUSTER}\"\nkits = \"kits\"\ncertificates = \"tls\"\n\n[path.lan]\n\
             heartbeat-interval = \"200ms\"\ndead-after-misses = 10\n\n"
        );
        for (node, link) in self.nodes.iter().zip(&self.links) {
            let (name, address) = (node.name(), link.address());
            let _ = writeln!(text, "[node.{name}]\naddress.lan = \"{address}\"\nlisten.lan = \"127.0.0.1:0\"");
        }
        text
    }

    /// Gives every node this config, below [`Cluster::preamble`].
    pub fn configure(&self, hierarchies: &str) {
        let text = format!("{}{hierarchies}", self.preamble());
        self.nodes.iter().for_each(|node| node.configure(&text));
    }

    /// The node of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name() == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    #[track_caller]
    fn index(&self, name: &str) -> usize {
        self.nodes.iter().position(|node| node.name() == name).unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Switches every node on.
    #[track_caller]
    pub fn start_all(&mut self) {
        let names: Vec<String> = self.nodes.iter().map(|node| node.name().to_owned()).collect();
        names.iter().for_each(|name| self.start(name));
    }

    /// Starts a node's daemon and leads its link there.
    #[track_caller]
    pub fn start(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].start();
        self.lead(name);
    }

    /// The same with a command of the caller's.
    #[track_caller]
    pub fn start_with(&mut self, name: &str, command: &mut std::process::Command) {
        let index = self.index(name);
        self.nodes[index].start_with(command);
        self.lead(name);
    }

    /// Leads a node's link to where its daemon listens now.
    #[track_caller]
    pub fn lead(&self, name: &str) {
        let index = self.index(name);
        if let Some(address) = self.nodes[index].listens() {
            self.links[index].set_target(address);
        }
    }

    /// Kills a node's daemon with SIGKILL, and nothing else of it.
    #[track_caller]
    pub fn kill(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].kill();
    }

    /// Kills a node's daemon and its supervisors, and nothing else of it.
    #[track_caller]
    pub fn kill_all_of_mainstay(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].kill_all_of_mainstay();
    }

    /// Asks a node's daemon to stop, as its service manager does, and waits until it has.
    #[track_caller]
    pub fn stop(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].stop();
    }

    /// Pulls a node's power cord: its links fall silent, then everything that runs on it is gone.
    #[track_caller]
    pub fn power_off(&mut self, name: &str) {
        self.cut();
        let index = self.index(name);
        self.nodes[index].power_off();
    }

    /// Ends everything of a node, whatever state it is in.
    pub fn end(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].end();
    }

    /// Mends the links and switches a node on again.
    #[track_caller]
    pub fn power_on(&mut self, name: &str) {
        self.mend();
        self.start(name);
    }

    /// Pulls the cable: no node hears another.
    pub fn cut(&self) {
        self.links.iter().for_each(Relay::cut);
    }

    /// Puts it in again.
    pub fn mend(&self) {
        self.links.iter().for_each(Relay::resume);
    }

    /// The link that leads to a node.
    #[must_use]
    #[track_caller]
    pub fn link(&self, name: &str) -> &Relay {
        &self.links[self.index(name)]
    }

    /// Waits until a node says what `is` looks for.
    #[track_caller]
    pub fn wait_for(&self, node: &str, what: &str, is: impl FnMut(&Status) -> bool) -> Status {
        self.node(node).wait_for(what, is)
    }

    /// Waits until `web` serves on this node, and every node that is on knows it.
    #[track_caller]
    pub fn wait_until_served_by(&self, owner: &str) {
        for node in self.nodes.iter().filter(|node| node.is_on()) {
            node.wait_for(&format!("web to be in service on {owner}"), |status| {
                status.owner("shop") == Some(owner) && status.state("web", owner) == "ISP"
            });
        }
    }

    /// Waits until two nodes talk to each other: each is heard, and has answered.
    #[track_caller]
    pub fn wait_until_they_talk(&self) {
        for node in &self.nodes {
            node.wait_for("the others to answer", |status| {
                let others = self.nodes.iter().filter(|other| other.name() != node.name());
                let mut others = others.map(|other| other.name());
                others.all(|name| {
                    let same = status.node(name).is_some_and(|it| it["same_config"] == true);
                    status.reach(name) == "alive" && same
                })
            });
        }
    }

    /// Waits until this many programs of the application have begun on a node.
    #[track_caller]
    pub fn wait_until_begun(&self, app: &App, node: &str, program: &str, times: usize) {
        wait_until(LIMIT, &format!("{program} to begin for the {times}. time on {node}"), || {
            app.on(node).begun(program) >= times
        });
    }
}
