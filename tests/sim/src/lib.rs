//! A simulated world for the core.
//!
//! Machines with disks that sync late, links that can be cut, applications that run or break, operators that ask.
//! Everything comes from the script or the seed: the same run gives the same timeline. The checkers
//! ([`checks`]) judge the simulated world (what runs, daemon alive or not), never a node's belief.

pub mod checks;
pub mod coverage;
pub mod etcd;
pub mod kits;
pub mod network;
pub mod random;
pub mod script;
pub mod world;
