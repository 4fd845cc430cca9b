//! Mirrored volumes as operators have them: two real nodes, the volume kit, a file system on nbdfuse and a loop device.
//!
//! Needs root, `nbdfuse` and `mkfs.ext4`. What is mounted is taken away by whoever mounted it, or by [`Pair`].

mod life;
mod lost;
mod pair;
mod process;
