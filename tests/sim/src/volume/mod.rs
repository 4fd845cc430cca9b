//! Two copies of a volume in a simulated world: disks that lose or tear what is not synced, a link that cuts anywhere,
//! machines that lose power and processes that are killed, an arbiter or an operator, and an application that checks what
//! it reads. All of it follows from a seed and a list of faults.
//!
//! Who may act is decided by [`host`], a stand-in for a node's daemon: it speaks to the volume only by the inputs that
//! the daemon has, so the core's own world can take its place.

pub mod bugs;
mod client;
pub mod disk;
pub mod history;
pub mod host;
pub mod machine;
mod people;
pub mod run;
pub mod world;
