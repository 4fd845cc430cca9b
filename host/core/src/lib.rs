//! Every decision mainstay makes.
//!
//! Pure: no I/O, no clock, no randomness beyond a seed. Text becomes a [`spec::Spec`], a spec becomes a
//! [`hierarchy::Hierarchy`], a hierarchy with what is in service becomes a [`plan::Plan`], a plan is carried out as a
//! [`sequence::Sequence`] of kit calls; [`node::Node`] drives all of it, and its documentation says how to drive it.
//! What has to outlive the daemon is a [`state::State`], which changes only by [`state::Record`]s.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod arbiter;
pub mod claim;
pub mod diagnostic;
pub mod health;
pub mod hierarchy;
pub mod ladder;
pub mod message;
pub mod names;
pub mod node;
pub mod plan;
pub mod planted;
pub mod rehearsal;
pub mod sequence;
pub mod spec;
pub mod state;
pub mod status;
pub mod time;
pub mod volume;
