//! The `keel` program: agent, supervisor of each pod, and command line.

mod cli;
mod client;
mod demo;
mod metrics;
mod node;
mod print;
mod run;
mod serve;
mod sync_metrics;
mod systemd;
mod telemetry;
mod usage;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else is set up: a supervisor must stay very small.
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|word| word == runtime::supervisor::COMMAND) {
        return runtime::supervisor::main(arguments);
    }
    cli::main()
}
