//! `keel completion`: the completions of a shell.

use super::output::Output;
use super::{Cli, CommandError};
use clap::{Args, CommandFactory, ValueEnum};
use std::process::ExitCode;

/// Print the completions of a shell.
///
///   source <(keel completion bash)                        for this shell
///   keel completion bash > /etc/bash_completion.d/keel    for every one
///   keel completion zsh  > "${fpath[1]}/_keel"
///   keel completion fish > ~/.config/fish/completions/keel.fish
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(args: &CompletionArgs, output: &mut Output<'_>) -> Result<ExitCode, CommandError> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keel", &mut script);
    output.write(script)?;
    Ok(ExitCode::SUCCESS)
}
