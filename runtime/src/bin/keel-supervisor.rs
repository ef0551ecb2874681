//! The supervisor as a program of its own, for tests and measurements.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::supervisor::main(std::env::args_os().skip(1))
}
