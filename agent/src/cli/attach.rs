//! `keel attach`: the streams of a container that runs.

use super::connection::{Connection, Scope};
use super::exec::{copy_input, end, exit_code, pipe};
use super::inside::Inside;
use super::pump::Pump;
use super::terminal::{self, RawMode};
use super::{CommandError, choice, output};
use clap::Args;
use runtime::pods::Attached;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// Look at what a container writes from now on, and write to it.
///
///   keel attach web-7c5d              until the container ends, or Ctrl-C
///   keel attach -it shell -c main     a container with `stdin: true` and `tty: true`
///
/// What is written goes to the container's own standard input; with `stdinOnce: true` that is
/// closed when the first who attached leaves.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct AttachArgs {
    /// POD, or KIND/NAME of what makes pods
    #[arg(value_name = "OBJECT")]
    object: String,
    #[command(flatten)]
    scope: Scope,
    /// This container
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    connection: Connection,
}

/// How the streams of a container are looked at.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct How {
    /// Pass standard input on
    #[arg(long, short = 'i')]
    pub(super) stdin: bool,
    /// By the container's terminal
    #[arg(long, short = 't')]
    pub(super) tty: bool,
    /// Say nothing but what the container says
    #[arg(long, short)]
    pub(super) quiet: bool,
}

pub(super) fn run(args: &AttachArgs) -> Result<ExitCode, CommandError> {
    let inside = super::wait_for(async {
        let client = args.connection.client()?;
        let object = std::slice::from_ref(&args.object);
        let pod = choice::pod(&client, object, &args.scope.namespace).await?;
        let container = choice::container(&pod, args.container.as_deref())?;
        Inside::of(&client, &pod, container).await
    })?;
    attach(&inside, args.how)
}

/// Carries the container's streams until it ends; its exit code is ours.
///
/// # Errors
/// If the container does not run.
pub(super) fn attach(inside: &Inside, how: How) -> Result<ExitCode, CommandError> {
    let watch = how.tty.then(terminal::Watch::before_threads);
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    let outputs = [stdout.as_fd(), stderr.as_fd()];
    let attached = runtime::pods::attach(&inside.socket, &inside.container, how.stdin, outputs)?;
    drop((stdout, stderr));
    let Attached { tty, input, execution } = attached;
    if how.tty && !tty && !how.quiet {
        output::note(&format!("container {} has no terminal", inside.container));
    }
    warn_of_missing_input(inside, how, input.as_ref());
    let raw = match (&input, watch) {
        (Some(terminal), Some(watch)) if tty && terminal::shown() => {
            if !how.quiet {
                output::note("If you don't see a command prompt, try pressing enter.");
            }
            let raw = how.stdin.then(RawMode::enter).transpose().map_err(CommandError::Runtime)?;
            watch.follow(copy(terminal)?, raw.as_ref().map(RawMode::saved));
            raw
        }
        (_, _) => None,
    };
    if let Some(input) = input.filter(|_| how.stdin) {
        copy_input(File::from(input));
    }
    let ended = end(execution, [Pump::start(out, io::stdout())?, Pump::start(err, io::stderr())?]);
    drop(raw);
    Ok(exit_code(ended?))
}

/// Whoever wants to write should know that nobody reads.
pub(super) fn warn_of_missing_input(inside: &Inside, how: How, input: Option<&OwnedFd>) {
    if how.stdin && input.is_none() {
        output::note(&format!("container {} has no open standard input", inside.container));
    }
}

fn copy(terminal: &OwnedFd) -> Result<OwnedFd, CommandError> {
    terminal.try_clone().map_err(CommandError::Runtime)
}
