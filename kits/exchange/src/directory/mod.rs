//! Active Directory: where Exchange keeps what its servers are, and where each recipient's home is.
//!
//! * [`rehome`]: the recipients of a failed server get their home on this node's (Exchange 2003 and 2007).
//! * [`compare`]: what the directory knows that would keep this node's server from taking the other's place.
//!
//! Below them, each on the one after it: `servers` (Exchange's objects), `search` (all there is, in pages), `session` (which
//! domain controller, and what follows when it fails), `connection` (one of them, asked one thing after the other),
//! `message` (LDAP as bytes); `trouble` says what a server did wrong, `dn` compares names, `settings` looks through the params.

mod compare;
mod connection;
mod dn;
mod message;
mod params;
mod rehome;
mod search;
mod servers;
mod session;
mod settings;
mod trouble;

pub use compare::compare;
pub use params::{Bind, DirectoryParams, DirectoryParams as Params, Security, StoreName};
pub use rehome::{Mode, Rehome, Rehomed, rehome};
pub use settings::check;
