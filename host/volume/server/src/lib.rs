//! The mirrored volume's server: NBD on one side, disk and peer on the other, the core's decisions in between.
//!
//! ```text
//! clients ──NBD──> clients, client, nbd ──┐                 ┌──> disk ──> backing, intent log
//!                                      server ──Input──> core
//! daemon ──JSON──> control ───────────────┘    <──Output──  └──> link ──TLS──> the other copy
//! ```
//!
//! [`serve`] is the process of one copy. Nothing here decides what is written where, who may write, or what a copy is
//! worth: that is `mainstay_volume_core`'s. Bytes of the application stay here, in [`buffers`].

pub mod buffers;
pub mod client;
pub mod clients;
pub mod config;
pub mod control;
pub mod disk;
pub mod files;
pub mod fuzz;
pub mod inbox;
pub mod link;
pub mod nbd;
pub mod outbox;
pub mod poll;
mod server;
mod slab;
pub mod view;

pub use server::{ServeError, serve};
