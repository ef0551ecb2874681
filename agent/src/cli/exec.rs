//! `keel exec`: a process more in a container.

use super::connection::{Connection, Scope};
use super::inside::Inside;
use super::pump::Pump;
use super::terminal::{self, RawMode};
use super::{CommandError, choice, output};
use clap::Args;
use runtime::pods::{ExecSpec, Execution, InsideError};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// Run a command in a container.
///
///   keel exec web-7c5d -- ls /              what the command says, and its exit code
///   keel exec -it deployment/web -- sh      a shell on a terminal
///   keel exec -i db-0 -c db -- psql < dump.sql
///
/// The command gets the container's namespaces, limits, environment, user and privileges.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ExecArgs {
    /// POD, or KIND/NAME of what makes pods
    #[arg(value_name = "OBJECT")]
    object: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// This container
    #[arg(long, short, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on
    #[arg(long, short = 'i')]
    stdin: bool,
    /// On a terminal of the container's own
    #[arg(long, short = 't')]
    tty: bool,
    /// As this user, `USER[:GROUP]` by name or number, instead of the container's
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// In this folder, instead of the container's
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<String>,
    /// Set a variable beside the container's
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// Say nothing but what the command says
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(args: &ExecArgs) -> Result<ExitCode, CommandError> {
    let inside = super::wait_for(async {
        let client = args.connection.client()?;
        let object = std::slice::from_ref(&args.object);
        let pod = choice::pod(&client, object, &args.scope.namespace).await?;
        let container = choice::container(&pod, args.container.as_deref())?;
        Inside::of(&client, &pod, container).await
    })?;
    let mut env = args.env.clone();
    if args.tty {
        // As an interactive program expects; what is said by hand goes before.
        env.insert(0, format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned())));
    }
    let spec = ExecSpec {
        container: inside.container.clone(),
        args: args.command.clone(),
        env,
        cwd: args.workdir.clone(),
        user: args.user.clone(),
    };
    let ended = if args.tty { on_terminal(&inside, &spec, args) } else { on_pipes(&inside, &spec, args) };
    match ended {
        Ok(0) => Ok(ExitCode::SUCCESS),
        Ok(code) => {
            if !args.quiet {
                output::note(&format!("command terminated with exit code {code}"));
            }
            Ok(exit_code(code))
        }
        Err(CommandError::Inside(InsideError::NotStarted { exit_code: code, message })) => {
            output::report(&InsideError::NotStarted { exit_code: code, message });
            Ok(exit_code(code))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Descriptors of ours would let the process reach what they lead to: it gets pipes.
fn on_pipes(inside: &Inside, spec: &ExecSpec, args: &ExecArgs) -> Result<i32, CommandError> {
    let (stdin, feed) = if args.stdin {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        (File::open("/dev/null").map_err(CommandError::Runtime)?.into(), None)
    };
    let (out, stdout) = pipe()?;
    let (err, stderr) = pipe()?;
    let execution =
        runtime::pods::exec(&inside.socket, spec, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    drop((stdin, stdout, stderr));
    if let Some(feed) = feed {
        copy_input(File::from(feed));
    }
    let pumps = [Pump::start(out, io::stdout())?, Pump::start(err, io::stderr())?];
    end(execution, pumps)
}

fn on_terminal(inside: &Inside, spec: &ExecSpec, args: &ExecArgs) -> Result<i32, CommandError> {
    let shown = terminal::shown();
    if args.stdin && !shown {
        output::note("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    let watch = terminal::Watch::before_threads();
    let (theirs, execution) = runtime::pods::exec_in_terminal(&inside.socket, spec)?;
    let raw = if shown && args.stdin { Some(RawMode::enter().map_err(CommandError::Runtime)?) } else { None };
    let copy = || theirs.try_clone().map_err(CommandError::Runtime);
    if shown {
        watch.follow(copy()?, raw.as_ref().map(RawMode::saved));
    }
    if args.stdin {
        copy_input(File::from(copy()?));
    }
    let ended = end(execution, [Pump::start(theirs, io::stdout())?]);
    drop(raw);
    ended
}

/// Our input goes to `feed` from now on. The thread ends with the program: nothing can
/// interrupt the wait for a key.
pub(super) fn copy_input(mut feed: File) {
    std::thread::spawn(move || {
        // Whoever reads may have ended.
        let _ = io::copy(&mut io::stdin().lock(), &mut feed);
    });
}

/// Waits for the process, then for what it has said so far.
pub(super) fn end<const N: usize>(execution: Execution, pumps: [Pump; N]) -> Result<i32, CommandError> {
    let ended = execution.wait();
    for pump in pumps {
        pump.finish();
    }
    Ok(ended?)
}

pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), CommandError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| CommandError::Runtime(error.into()))
}

pub(super) fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err(format!("{text:?} is no NAME=VALUE")),
    }
}
