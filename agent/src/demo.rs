//! demo
use clap::Args;
use std::process::ExitCode;
/// See it
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Remove every trace at the end
    #[arg(long)]
    once: bool,
}
pub(crate) fn run(args: &DemoArgs) -> ExitCode { if args.once { ExitCode::SUCCESS } else { ExitCode::FAILURE } }
