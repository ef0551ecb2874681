//! Streams into pods, for clients of Kubernetes' API and of the CRI: commands, attached
//! terminals, forwarded ports, over WebSocket and over SPDY/3.1.
//!
//! Source: Kubernetes API concepts, "Streaming"; KEP-4006.

mod client;
mod fd;
mod forward;
mod remote;
mod spdy;
mod status;
mod upgrade;
mod websocket;

pub(crate) use remote::{Target, Wanted, What, on_thread};
pub(crate) use upgrade::{port_forward, remote_command};
