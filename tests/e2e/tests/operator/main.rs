//! The `mainstay` binary as operators use it: real daemons on loopback, real programs, nothing pretended.
//!
//! Each test is a story. One binary for all, so that their waiting overlaps.

mod cli;
mod config;
mod genapp;
mod killed;
mod kits;
mod moving;
