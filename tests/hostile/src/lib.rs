//! Kits that misbehave, and what the runtime says and does about each.
//!
//! This library makes what the tests need: [`forge`] builds components that the SDK would not, [`surgery`] cuts
//! and appends sections.

pub mod forge;
pub mod house;
pub mod surgery;
