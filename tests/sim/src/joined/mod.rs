//! One world for the core, the arbiter and a mirrored volume: a cluster of two nodes ([`crate::world`]) whose hierarchy has
//! a volume, and the volume's two copies with their disks and link ([`crate::volume`]), under one clock.
//!
//! What stands between them is here: [`daemon`] is what a node's daemon does for the process of a volume, [`kit`] what the
//! volume's kit does, [`operator`] what people do; [`world`] lets time pass and judges what both show together. [`case`]
//! makes a case from a seed, and from every step of a small workload; [`run`] runs it.

pub mod bugs;
pub mod case;
pub mod daemon;
pub mod kit;
pub mod operator;
pub mod run;
pub mod world;
