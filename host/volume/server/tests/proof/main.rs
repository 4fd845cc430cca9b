//! What a mirrored volume promises, held against real processes, disks, file systems and links that are killed, lose
//! what was not flushed, fail, fill up, or fall silent.

#![allow(clippy::unwrap_used, reason = "the lint knows tests only by their attribute, and this is for tests only")]

mod attacks;
mod disk;
mod fio;
mod kills;
mod links;
mod operator;
#[allow(dead_code, reason = "shared by two test programs, each of which uses a part of it")]
#[path = "../pair/mod.rs"]
mod pair;
mod power;
mod trouble;
