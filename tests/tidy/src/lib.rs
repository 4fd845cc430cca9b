//! The house rules that a machine can hold.
//!
//! Each check is a function from plain data (a graph, a list of files) to a list of problems, so that its
//! own tests can hand it a made-up house with a fault in it and see it found. `tests/house.rs` hands each
//! of them the real one. A problem says what is wrong, where, and what to do.
//!
//! Nothing here uses the network, writes a file or starts anything but `cargo metadata` and `git ls-files`.

pub mod arrows;
pub mod docs;
pub mod graph;
pub mod house;
pub mod sources;
