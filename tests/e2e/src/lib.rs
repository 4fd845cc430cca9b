//! What the tests of the `mainstay` binary share: a small cluster on loopback that is used as an operator uses one.
//!
//! * [`cluster`]: nodes with their state, kits and config, and links between them that can be cut.
//! * [`node`]: one node: its daemon started, killed, stopped; its power cord pulled; what it says of itself.
//! * [`app`]: an application with the four programs that the GenApp kit runs, as they are written for LifeKeeper.
//!   They write down when they begin and end, and can be made slow, to fail and to hang while they are used.
//! * [`cli`]: the binary, run and waited for. [`api`]: its daemon's socket, spoken to byte by byte.
//! * [`caller`]: no binary at all, but one kit in the real runtime, for what a kit does to others.
//!
//! But for that, nothing here knows the insides of the host: what it knows of a node it asks the binary or the socket, and
//! what it knows of an application it reads from the application's own log.

pub mod api;
pub mod app;
pub mod caller;
pub mod cli;
pub mod cluster;
pub mod node;
pub mod status;

pub use app::{App, AppOn};
pub use cli::{Said, mainstay};
pub use cluster::Cluster;
pub use node::Node;
pub use status::Status;

use std::time::Duration;

/// How long a test waits for something that takes well under a second on an idle machine: see
/// [`mainstay_test_support::WAIT_LIMIT`].
pub const LIMIT: Duration = mainstay_test_support::WAIT_LIMIT;
