//! A cluster of hosts, ready for a scenario: the application is in service on the first, all hear each other on both
//! comm paths, and the prober asks all of them.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_test_support::{Authority, TempDir, WAIT_LIMIT, binary};

use crate::arbiter::Arbiter;
use crate::config::{self, DEAD_TIME, HIERARCHY, Mode, Parts};
use crate::host::{self, Host};
use crate::net::{Link, Net, PATHS};
use crate::prober::Prober;
use crate::strip::{Hosts, Strip};
use crate::volume;

/// How long the prober asks until it is certain that something does not happen: longer than it would take to happen.
pub const LONG_ENOUGH: Duration = Duration::from_millis(3 * DEAD_TIME.as_millis() as u64);

/// With `just hosts --long` this many minutes; else so many seconds that it shows.
#[must_use]
pub fn long(minutes: u64, else_seconds: Duration) -> Duration {
    let long = std::env::var_os("MAINSTAY_LONG").is_some_and(|value| value == "1");
    if long { Duration::from_secs(60 * minutes) } else { else_seconds }
}

/// See the module.
#[derive(Debug)]
pub struct Lab {
    // In this order: who asks, who may switch off, what runs, what it runs on.
    /// Who asks from outside.
    pub prober: Prober,
    /// What a fence command talks to.
    pub strip: Strip,
    hosts: Hosts,
    arbiter: Option<Mutex<Arbiter>>,
    /// The links.
    pub net: Net,
    _world: TempDir,
}

/// What may be different from host to host, or from lab to lab, before it begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// The application's address moves with it, and the prober asks there.
    pub moving_address: bool,
    /// The state directories are small file systems, of so many MiB.
    pub small_disks: Option<u32>,
    /// The application stands on a mirrored volume. Its copies are not made yet when the lab begins, and nothing is in
    /// service: [`volume`] has what goes on from there.
    pub volume: bool,
}

impl Lab {
    /// Two hosts, `a` and `b`; `None` when namespaces cannot be made here, which is told.
    #[must_use]
    #[track_caller]
    pub fn new(mode: Mode) -> Option<Self> {
        Self::with(mode, &["a", "b"], Wishes::default(), |host| host.start())
    }

    /// Hosts of these names, started by `start`; with a volume, not waited for.
    ///
    /// # Panics
    /// When it does not come to be ready.
    #[must_use]
    #[track_caller]
    pub fn with(mode: Mode, names: &[&str], wishes: Wishes, start: impl Fn(&Host)) -> Option<Self> {
        let net = Net::new(names)?;
        if wishes.volume {
            volume::require_or_skip()?;
        }
        let world = TempDir::new();
        let arbiter = if mode == Mode::Arbiter { Some(Mutex::new(Arbiter::start(&net)?)) } else { None };
        let hosts: Hosts = Arc::new(names.iter().map(|name| Host::new(name, &net, wishes.small_disks)).collect());
        let socket = world.join("strip");
        let strip = Strip::new(&socket, &hosts);
        let program = binary("mainstay-host");
        let moving = wishes.moving_address;
        let Wishes { volume, .. } = wishes;
        let parts = Parts { mode, net: &net, hosts: &hosts, strip: &socket, program: &program, moving, volume };
        let text = config::text(&parts);
        let authority = Authority::new(&binary("mainstay"), config::CLUSTER);
        for host in hosts.iter() {
            authority.node(host.name(), &host.folder().join(config::CERTIFICATES));
            host.configure(&text);
            if volume {
                volume::prepare(host);
            }
            host.power_on();
            start(host);
        }
        let prober = if moving {
            Prober::of_address(&net, (net.moving_address(Link::Out), crate::net::APP_PORT).into())
        } else {
            Prober::of_hosts(&net)
        };
        let lab = Self { prober, strip, hosts, arbiter, net, _world: world };
        if !volume {
            lab.wait_until_settled(names[0]);
        }
        Some(lab)
    }

    /// The host of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name() == name).unwrap_or_else(|| panic!("no host {name}"))
    }

    /// The arbiter of [`Mode::Arbiter`].
    ///
    /// # Panics
    /// In another mode.
    #[track_caller]
    pub fn arbiter(&self) -> MutexGuard<'_, Arbiter> {
        let arbiter = self.arbiter.as_ref().expect("this mode has no arbiter");
        arbiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.deref().iter()
    }

    /// Waits until `owner` serves, and nobody else; all that are on know it, hear all others that are on on both paths
    /// without jeopardy, and each is ready.
    ///
    /// # Panics
    /// When that does not come true in time.
    #[track_caller]
    pub fn wait_until_settled(&self, owner: &str) {
        self.prober.wait_until_served_by(WAIT_LIMIT, &[owner]);
        let on: Vec<&Host> = self.hosts().filter(|host| host.is_on()).collect();
        for host in &on {
            host::wait_until_owned(host, owner);
            host.wait_for("all others to answer, on green paths, ready", |status| {
                on.iter().filter(|other| other.name() != host.name()).all(|other| {
                    let Some(node) = status.node(other.name()) else { return false };
                    let paths = node["paths"].as_array().into_iter().flatten();
                    let green = paths.filter(|path| path["state"] == "green").count();
                    status.reach(other.name()) == "alive" && node["same_config"] == true && green == PATHS.len()
                }) && is_ready_everywhere(status, on.len())
            });
        }
    }

    /// Waits until a host has raised an alarm with these words, and gives its id.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for_alarm(&self, host: &str, words: &str) -> String {
        let mut id = String::new();
        self.host(host).wait_for(&format!("an alarm with {words:?}"), |status| {
            let alarm = status.alarm(words);
            id = alarm.and_then(|alarm| alarm["id"].as_str()).unwrap_or_default().to_owned();
            alarm.is_some()
        });
        id
    }

    /// Waits until exactly these hosts serve.
    #[track_caller]
    pub fn wait_until_served_by(&self, hosts: &[&str]) {
        self.prober.wait_until_served_by(WAIT_LIMIT, hosts);
    }

    /// Watches long enough to see that nothing happens: exactly these hosts serve on, without interruption.
    #[track_caller]
    pub fn nothing_happens(&self, hosts: &[&str]) {
        self.prober.watch(LONG_ENOUGH, hosts);
    }

    /// The same for a minute, with `just hosts --long`.
    #[track_caller]
    pub fn nothing_happens_for_a_minute(&self, hosts: &[&str]) {
        self.prober.watch(long(1, LONG_ENOUGH), hosts);
    }
}

/// Whether every node of the hierarchy could take it, as far as this one knows.
fn is_ready_everywhere(status: &mainstay_test_e2e::Status, nodes: usize) -> bool {
    let Some(hierarchy) = status.hierarchy(HIERARCHY) else { return false };
    let rows = hierarchy["nodes"].as_array().into_iter().flatten();
    let ready = rows.filter(|row| row["not_ready"].as_array().is_some_and(Vec::is_empty)).count();
    ready >= nodes
}
