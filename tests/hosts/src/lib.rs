//! Real hosts: the `mainstay` daemon and a real application in namespaces of their own, real links that are cut in every
//! way, power cords that are pulled.
//!
//! * [`net`]: the links, and what happens to them. [`host`]: power, disk and daemon of one host.
//! * [`prober`], [`timeline`]: who serves, asked of the application itself, from a network that is no host's.
//! * [`strip`]: the power strip that a fence command talks to. [`arbiter`]: an etcd cluster. [`config`]: the modes.
//! * [`volume`]: a mirrored volume with a file system, under the application.
//! * [`vm`]: machines with a kernel of their own, for what the kernel of the others may lack.
//! * [`peers`]: the same power cut for those that mainstay is compared with.
//! * [`lab`]: all of it, ready for a scenario. The scenarios are in `tests/hosts`, and their table in
//!   `docs/reference/scenarios.md`.
//!
//! Who serves is never taken from what a daemon says: daemons are asked only whether a scenario may go on.

pub mod arbiter;
pub mod config;
pub mod host;
pub mod lab;
mod names;
pub mod net;
pub mod peers;
pub mod prober;
pub mod strip;
pub mod timeline;
pub mod vm;
pub mod volume;

pub use config::{DEAD_TIME, Mode};
pub use host::Host;
pub use lab::{Lab, Wishes, long};
pub use net::{Link, Net};
