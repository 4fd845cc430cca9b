//! Everything that has to be there before the story begins, and what it needs to go on.
//!
//! When a stage is dropped, all that runs on it is ended, in whatever state it is.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hickory_server::proto::rr::Name;
use mainstay_test_support::{Authority, Port, TempDir};

use crate::client::{Client, Target};
use crate::config::{self, CLUSTER, LABEL, Parts, SECRET};
use crate::events::EventLog;
use crate::name_server::{NameServer, ZONE};
use crate::node::Node;
use crate::operator::Operator;
use crate::programs::Programs;
use crate::stop;
use crate::timeline::Timeline;
use crate::trouble::Trouble;

/// The nodes in order of priority, and where the shop listens on each: two addresses of this machine, one port.
pub(crate) const NODES: [(&str, Ipv4Addr); 2] =
    [("ex01", Ipv4Addr::new(127, 0, 0, 1)), ("ex02", Ipv4Addr::new(127, 0, 0, 2))];
/// How long anything may take that takes well under a second on an idle machine, or a few with the heartbeats, in s.
pub(crate) const WAIT_S_MAX: u64 = 60;
/// Between two looks, in ms: short against what is measured by them, which is nothing.
const LOOK_MS: u64 = 10;
/// Between two looks at what `mainstay status` tells, in ms.
const STATUS_MS: u64 = 150;
/// Ports tried until one is free on both addresses.
const PORT_TRIES_MAX: usize = 50;

/// See the module. The order of the fields is the order in which they end.
pub(crate) struct Stage {
    client: Option<Client>,
    nodes: Vec<Node>,
    _name_server: NameServer,
    /// The program, for those who want to call it by hand.
    pub(crate) operator: Operator,
    /// What the nodes tell.
    pub(crate) log: EventLog,
    /// What is shown.
    pub(crate) timeline: Timeline,
    target: Target,
    folder: TempDir,
    _port: Port,
}

/// What the demo is run with.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// The `mainstay` binary.
    pub(crate) mainstay: PathBuf,
    /// The directory of kits.
    pub(crate) kits: PathBuf,
    /// This program.
    pub(crate) demo: PathBuf,
}

impl Stage {
    /// Sets everything up; nothing of mainstay runs yet.
    pub(crate) fn set(tools: &Tools, timeline: Timeline, tokio: &tokio::runtime::Runtime) -> Result<Self, Trouble> {
        let folder = TempDir::new();
        let name_server = tokio.block_on(NameServer::start(&folder.folder("names")))?;
        let port = shop_port()?;
        let nodes = NODES.map(|(name, address)| Node::new(name, address, port.number(), &folder));
        let nodes = nodes.into_iter().collect::<Result<Vec<_>, _>>()?;
        let secrets = folder.folder("secrets");
        write_private(&secrets.join(SECRET), name_server.secret())?;
        let programs = Programs::write(&folder, &tools.demo)?;
        let text = config::text(Parts {
            kits: &tools.kits,
            secrets: &secrets,
            nodes: &nodes,
            name_server: name_server.address(),
            programs: &programs,
        })?;
        let authority = Authority::new(&tools.mainstay, CLUSTER);
        for node in &nodes {
            std::fs::write(node.config(), &text).map_err(Trouble::file("write", &node.config()))?;
            authority.node(node.name(), &node.certificates());
        }
        let target = Target {
            name_server: name_server.address(),
            name: Name::from_ascii(format!("{LABEL}.{ZONE}.")).map_err(|error| Trouble::NameServer(error.into()))?,
            port: port.number(),
            nodes: NODES.iter().map(|(name, address)| (*address, *name)).collect::<BTreeMap<_, _>>(),
        };
        Ok(Self {
            client: None,
            nodes,
            _name_server: name_server,
            operator: Operator::new(tools.mainstay.clone()),
            log: EventLog::new(timeline.clone()),
            timeline,
            target,
            folder,
            _port: port,
        })
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The config, as the first node has it.
    pub(crate) fn config(&self) -> PathBuf {
        self.node(NODES[0].0).config()
    }

    /// What a client knows.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// A node by its name.
    pub(crate) fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name() == name).expect("only names of NODES are used")
    }

    /// The same, to change it.
    pub(crate) fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name() == name).expect("only names of NODES are used")
    }

    /// All nodes.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Gives a node its power.
    pub(crate) fn power_on(&mut self, name: &str) -> Result<(), Trouble> {
        let (mainstay, log) = (self.operator.mainstay().to_owned(), self.log.clone());
        self.node_mut(name).power_on(&mainstay, &log)
    }

    /// Leads a node's cable to where its daemon listens, as soon as it does.
    pub(crate) fn connect(&mut self, name: &str) -> Result<(), Trouble> {
        self.wait(&format!("the daemon of {name} to listen"), |stage| stage.node(name).connect().then_some(()))
    }

    /// The client begins to ask.
    pub(crate) fn start_client(&mut self) {
        self.client = Some(Client::start(self.target.clone(), self.timeline.clone()));
    }

    /// The client, which has been started.
    pub(crate) fn client(&self) -> &Client {
        self.client.as_ref().expect("the first step starts it, before anybody asks for it")
    }

    /// Waits until `look` finds something. Ends at once when something has gone wrong that it cannot come after.
    pub(crate) fn wait<T>(&mut self, what: &str, look: impl FnMut(&Self) -> Option<T>) -> Result<T, Trouble> {
        self.wait_and_look_every(LOOK_MS, what, look)
    }

    /// The same for what `mainstay status` tells: one look is a process or two. One that fails is one that does not
    /// find it, as a daemon that has just been started does not answer yet.
    pub(crate) fn wait_for_status(&mut self, what: &str, look: impl Fn(&Self) -> bool) -> Result<(), Trouble> {
        self.wait_and_look_every(STATUS_MS, what, |stage| look(stage).then_some(()))
    }

    fn wait_and_look_every<T>(
        &mut self,
        interval_ms: u64,
        what: &str,
        mut look: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, Trouble> {
        let deadline = Instant::now() + Duration::from_secs(WAIT_S_MAX);
        loop {
            self.go_on()?;
            // In this order: a last look comes after the limit, so that a paused machine is not taken for a failure.
            let late = Instant::now() > deadline;
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if late {
                return Err(Trouble::InVain { what: what.to_owned(), seconds: WAIT_S_MAX });
            }
            std::thread::sleep(Duration::from_millis(interval_ms));
        }
    }

    /// Is there a reason to stop?
    pub(crate) fn go_on(&mut self) -> Result<(), Trouble> {
        if let Some(signal) = stop::asked() {
            return Err(Trouble::Stopped(signal));
        }
        if self.client.as_ref().is_some_and(Client::has_ended) {
            return Err(Trouble::ClientEnded);
        }
        self.nodes.iter_mut().find_map(Node::trouble).map_or(Ok(()), Err)
    }
}

/// A port on which nobody listens on any node's address.
fn shop_port() -> Result<Port, Trouble> {
    let mut tries = 0;
    loop {
        let port = Port::reserve();
        let bound = NODES.iter().try_for_each(|(_, address)| TcpListener::bind((*address, port.number())).map(drop));
        match bound {
            Ok(()) => return Ok(port),
            Err(source) if tries == PORT_TRIES_MAX => {
                return Err(Trouble::System { doing: "find a port for the shop on 127.0.0.1 and 127.0.0.2", source });
            }
            Err(_) => tries += 1,
        }
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), Trouble> {
    let permissions = std::fs::Permissions::from_mode(0o600);
    let written = std::fs::write(path, text).and_then(|()| std::fs::set_permissions(path, permissions));
    written.map_err(Trouble::file("write", path))
}
