//! The mirrored volume's server.

pub mod buffers;
pub mod client;
pub mod disk;
pub mod nbd;
pub mod outbox;
pub mod poll;
