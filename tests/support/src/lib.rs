//! What the tests that cross crates share, and the demo with them.
//!
//! * [`kits`]: a kit's WebAssembly, built when it is asked for.
//! * [`binaries`]: the programs of this repository, built when they are asked for.
//! * [`certificates`]: what the nodes of a cluster show each other.
//! * [`corpus`]: what fuzzers begin from, given to what they attack.
//! * [`needs`]: a real component that may be missing; its test is then skipped, and seen to be.
//! * [`guard`]: a process that is gone, with all it started, when its guard is dropped or the test dies.
//! * [`etcd`]: a real etcd cluster.
//! * [`systemd`]: a real systemd with units of the test.
//! * [`wait`], [`ports`], [`temp`]: waits with a limit, ports and folders that nobody else uses.
//! * [`relay`]: a link between two loopback ports that can fall silent as if its cable was cut.
//!
//! It sees no other member of the workspace: what it knows of them it asks cargo.

pub mod binaries;
mod cargo;
pub mod certificates;
pub mod corpus;
pub mod etcd;
pub mod guard;
pub mod kits;
pub mod needs;
pub mod ports;
mod processes;
mod reaper;
pub mod relay;
pub mod systemd;
pub mod temp;
pub mod wait;

pub use binaries::binary;
pub use cargo::BuildError;
pub use certificates::Authority;
pub use etcd::Etcd;
pub use guard::Guard;
pub use kits::kit;
pub use needs::{require_or_skip, skip};
pub use ports::Port;
pub use relay::{Direction, Relay};
pub use systemd::Systemd;
pub use temp::TempDir;
pub use wait::{WAIT_LIMIT, poll_until, wait_for, wait_until};

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The root of the workspace this crate was built in.
#[must_use]
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).map_or_else(|| here.to_owned(), Path::to_owned)
    });
    &ROOT
}
