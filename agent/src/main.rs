//! The `keel` program: agent, supervisor of each pod, and command line.

mod announce;
mod cadvisor;
mod catalog;
mod chain;
mod cli;
mod client;
mod cluster;
mod cri;
mod demo;
mod dns;
mod hollow;
mod ingress;
mod metrics;
mod net;
mod netdev;
mod node;
mod overlay;
mod peers;
mod policies;
mod print;
mod probe;
mod rest;
mod run;
mod serve;
mod services;
mod stall;
mod streaming;
mod sync_metrics;
mod systemd;
mod telemetry;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else is set up: a supervisor must stay very small.
    let mut arguments = std::env::args_os();
    // As another runtime calls its plugins.
    if arguments.len() <= 1 && std::env::var_os(netstack::cni::plugin::VARIABLE).is_some() {
        return netstack::cni::plugin::main();
    }
    match arguments.nth(1) {
        Some(word) if word == runtime::supervisor::COMMAND => runtime::supervisor::main(arguments),
        Some(word) if word == runtime::supervisor::PROBE_COMMAND => probe::main(arguments),
        Some(word) if word == netstack::holder::COMMAND => netstack::holder::main(arguments),
        Some(_) | None => cli::main(),
    }
}
