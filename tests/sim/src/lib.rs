//! A simulated world for the core.
//!
//! Machines with clocks and disks, comm paths that lose, delay and cut, applications that run or break, operators, an
//! arbiter, guardians and fences. Everything comes from the script, the case or the seed: the same run gives the same
//! timeline. The checkers ([`checks`]) judge the simulated world (what runs, daemon alive or not), never a node's belief.
//!
//! What is told in it: stories ([`script`]), and scenarios ([`scenario`], [`case`]) that a seed makes ([`generate`]) and
//! [`run`] runs.

pub mod bugs;
pub mod case;
pub mod checks;
pub mod coverage;
pub mod etcd;
pub mod faults;
pub mod generate;
pub mod joined;
pub mod kits;
pub mod network;
pub mod random;
pub mod run;
pub mod scenario;
pub mod script;
pub mod shrink;
pub mod volume;
pub mod world;
