//! Every decision of a mirrored volume.
//!
//! A volume has two **copies**, one on each of two nodes. One is the **source**: it serves the application, and mirrors
//! what is written to the **target**. [`volume::Volume`] is one copy, and its documentation says how to drive it. The
//! rules it follows are cited as V1 to V13; `docs/concepts/volume.md` has them.
//!
//! Pure: no I/O, no clock. It never sees a byte that the application writes: requests and messages are known by their
//! numbers, and the driver holds what they carry ([`io::Data`]). It does see its own two structures on disk, as bytes:
//! the [`label`], kept with the backing, and the intent [`log`].
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bitmap;
pub mod io;
pub mod label;
pub mod log;
pub mod message;
pub mod planted;
pub mod relation;
pub mod status;
pub mod types;
pub mod volume;
