//! Measurements of mainstay and of its peers, in one run and turn by turn, so that whatever else the machine does
//! troubles both alike.
//!
//! * [`measure`]: the measurements; each gives a [`summary::Report`] or says why it could not.
//! * [`summary`]: rows, goals, the table and `summary.json`.
//! * [`volume`]: mirrored volumes, mainstay's and qemu's.
//! * [`bare`]: wasmtime alone. [`whole_path`]: core and runtime driven as the daemon drives them.
//!
//! It judges by goals and never changes what is measured to meet one. How to read the figures is in
//! `docs/reference/benchmarks.md`.

pub mod bare;
pub mod daemon;
pub mod dummy;
pub mod effort;
pub mod machine;
pub mod measure;
pub mod sample;
pub mod summary;
pub mod trouble;
pub mod volume;
pub mod whole_path;
