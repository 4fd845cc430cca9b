//! The `mainstay` binary as operators use it: real daemons on loopback, real programs, nothing pretended.
//!
//! Each test is a story. One binary for all, so that their waiting overlaps.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod certificates;
mod cli;
mod config;
mod disk;
mod garbage;
mod genapp;
mod health;
mod killed;
mod kit_files;
mod kits;
mod moving;
