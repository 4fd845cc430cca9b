//! The daemon's way to the arbiter, against real etcd clusters that are killed, stopped, cut off and wiped.

mod client;
mod cluster;
mod one;
mod tls;
