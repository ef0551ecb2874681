//! Peers on real sockets of the loopback, at ports that the kernel gives.

mod cluster;
mod handshakes;
mod joining;
mod messages;
